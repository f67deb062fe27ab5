//! A Vault that hangs, breaks off, talks nonsense, refuses, or has a quota that is used up: each is told apart, no Secret changes while
//! it lasts, all is well again afterwards, and nothing that the operator says holds a value.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::faults::{Fault, FaultProxy};
use keyferry_e2e::operator::Operator;
use keyferry_e2e::progress;
use keyferry_e2e::vault::Vault;
use serde_json::{Value, json};

use super::kv::{ALL, data, get, put, to_property};
use super::{LOCAL, app_role, block, engine, for_both, secret, vault_store};
use crate::canary::{unseen, value};
use crate::lab::{
    PUSH_SECRET, apply, eventually, external_secret, external_secrets, fingerprints, objects, one, operator, push_secret,
    ready, to_place, with_lab,
};

/// What can go wrong, and what the conditions must say of it.
const TROUBLES: [(Trouble, &str); 5] = [
    (Trouble::OnTheWay(Fault::Hang), "did not answer within 5 s"),
    (Trouble::OnTheWay(Fault::Malformed), "the answer is not the JSON that Vault sends"),
    (Trouble::OnTheWay(Fault::Truncated), "the answer is not the JSON that Vault sends"),
    // how much of the answer has arrived by then is told, too
    (Trouble::OnTheWay(Fault::Cut), "broke"),
    (Trouble::NoRights, "Vault does not allow it"),
];
/// Long enough for all that reads every second to have looked.
const LOOKS: Duration = Duration::from_secs(3);
/// How many seconds the one request that the quota allows is for.
const WINDOW: u64 = 20;
/// The ExternalSecrets that read.
const READS: [&str; 4] = ["data", "extract", "find", "plain"];
/// What a policy refuses with.
const NOTHING: &[&str] = &["deny"];

/// What goes wrong.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Something between the operator and Vault.
    OnTheWay(Fault),
    /// The policy of the login allows nothing.
    NoRights,
}

/// Both versions of the engine, behind a proxy; an operator; and what reads by every kind of read, and pushes, once a second.
struct Setting<'a> {
    ns: &'a Sandbox<'a>,
    vault: &'a Vault,
    proxy: FaultProxy,
    operator: Operator,
}

impl<'a> Setting<'a> {
    /// Arranges all, with `first` as the value of every secret.
    async fn start(ns: &'a Sandbox<'a>, first: &str) -> Result<Self> {
        let vault = ns.env.vault().await?;
        engine(ns, vault, "2").await?;
        let plain = plain(ns);
        vault.mount(&plain, "kv", json!({"version": "1"})).await?;
        let auth = app_role(ns, vault, &[(&below(ns), ALL)], "1h").await?;
        let proxy = FaultProxy::before_vault(vault.url(), &ns.name).await?;
        let operator = operator(ns, &[LOCAL, "--loglevel=trace", "--provider-timeout=5s"]).await?;
        let setting = Self { ns, vault, proxy, operator };
        setting.write(first).await?;
        setting.offer(first).await?;
        let url = setting.proxy.endpoint();
        vault_store(ns, "store", block(url, &ns.name, "v2", auth.clone())).await?;
        vault_store(ns, "plain", block(url, &plain, "v1", auth)).await?;
        let of_app = || data(&[("password", json!({"key": "app", "property": "password"}))]);
        let team = json!({"path": "team", "name": {"regexp": ".*"}});
        for (name, mut spec) in [
            ("data", json!({"data": of_app()})),
            ("extract", json!({"dataFrom": [{"extract": {"key": "app"}}]})),
            ("find", json!({"dataFrom": [{"find": team}]})),
            ("plain", json!({"data": of_app(), "secretStoreRef": {"name": "plain", "kind": "SecretStore"}})),
        ] {
            spec["refreshInterval"] = json!("1s");
            apply(ns, external_secret(name, spec)).await?;
        }
        let spec = json!({"data": [to_property("password", "pushed", "password")], "refreshInterval": "1s"});
        apply(ns, push_secret("push", "store", json!({"secret": {"name": "source"}}), spec)).await?;
        setting.arrives(first).await?;
        Ok(setting)
    }

    /// Gives all that is read a value, past the proxy.
    async fn write(&self, value: &str) -> Result<()> {
        let secret = json!({"password": value});
        for key in ["app", "team/app"] {
            put(self.ns, self.vault, "2", key, secret.clone()).await?;
        }
        self.vault.write(&format!("{}/app", plain(self.ns)), secret).await.map(drop)
    }

    /// Gives what is pushed a value.
    async fn offer(&self, value: &str) -> Result<()> {
        secret(self.ns, "source", json!({"password": value})).await
    }

    /// Waits until a value is where it belongs, and all conditions say so.
    async fn arrives(&self, value: &str) -> Result<()> {
        for name in READS {
            self.ns.wait_secret(name, |data| data.values().any(|held| held.contains(value))).await?;
            self.ns.wait_synced(name).await?;
        }
        let pushed = async || Ok(get(self.ns, self.vault, "2", "pushed").await["password"] == value);
        eventually("the value is pushed", pushed).await?;
        self.ns.wait_ready(PUSH_SECRET, "push", "True", "Synced").await.map(drop)
    }

    /// Lets something go wrong, or nothing.
    async fn set(&self, trouble: Option<Trouble>) -> Result<()> {
        let (fault, can) = match trouble {
            Some(Trouble::OnTheWay(fault)) => (fault, ALL),
            Some(Trouble::NoRights) => (Fault::None, NOTHING),
            None => (Fault::None, ALL),
        };
        self.proxy.set(fault);
        self.vault.policy(&self.ns.name, &[(&below(self.ns), can)]).await
    }
}

/// Where the engine without versions is mounted.
fn plain(ns: &Sandbox<'_>) -> String {
    format!("{}-plain", ns.name)
}

/// All that is in both engines, for a policy.
fn below(ns: &Sandbox<'_>) -> String {
    format!("{}*", ns.name)
}

/// What a login must never be seen with, in the Secret of [`app_role`].
async fn login(ns: &Sandbox<'_>) -> Result<String> {
    ns.secret("vault-login").await?.remove("secret-id").context("no login")
}

/// Waits until every ExternalSecret and PushSecret fails, each with the words that it has to.
async fn all_fail(ns: &Sandbox<'_>, words: impl Fn(&str) -> &'static str) -> Result<Duration> {
    let mut others = Vec::new();
    let told = eventually("all fail, and say why", async || {
        let mut all = external_secrets(ns).await?;
        all.extend(objects(ns, PUSH_SECRET).await?);
        others.clear();
        for object in &all {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let (status, _, message) = ready(object);
            if status != "False" || !message.contains(words(name)) {
                others.push(format!("{name}: {status} {message}"));
            }
        }
        anyhow::Ok(others.is_empty())
    })
    .await;
    told.with_context(|| format!("{others:?}"))
}

#[test]
fn no_trouble_changes_a_secret_or_shows_a_value() -> Result<()> {
    with_lab("vault-faults", async |ns| {
        let mut values = vec![value("first")];
        let setting = Setting::start(ns, &values[0]).await?;
        values.push(login(ns).await?);
        for (number, (trouble, words)) in TROUBLES.into_iter().enumerate() {
            let (before, next) = (fingerprints(ns).await?, value(&format!("after-{number}")));
            setting.set(Some(trouble)).await?;
            let told = all_fail(ns, |_| words).await.with_context(|| format!("{trouble:?}"))?;
            setting.write(&next).await?;
            tokio::time::sleep(LOOKS).await;
            ensure!(fingerprints(ns).await? == before, "{trouble:?}: a Secret changed");
            setting.offer(&next).await?;
            setting.set(None).await?;
            let ended = Instant::now();
            setting.arrives(&next).await.with_context(|| format!("after {trouble:?}"))?;
            progress::note(format!("vault: {trouble:?}: told after {told:.1?}, recovered after {:.1?}", ended.elapsed()));
            values.push(next);
        }
        unseen(ns, &setting.operator, &values).await.map(drop)
    })
}

/// Vault's own quotas: what they refuse is told, and Vault is left alone for as long as it says.
#[test]
fn a_quota_is_told_and_waited_for() -> Result<()> {
    with_lab("vault-quota", async |ns| {
        let (first, next) = (value("first"), value("next"));
        let setting = Setting::start(ns, &first).await?;
        let (vault, mounts) = (setting.vault, [ns.name.clone(), plain(ns)]);
        let before = fingerprints(ns).await?;
        // without it, Vault does not say how long
        vault.write("sys/quotas/config", json!({"enable_rate_limit_response_headers": true})).await?;
        for mount in &mounts {
            let quota = json!({"path": format!("{mount}/"), "rate": 1, "interval": WINDOW});
            vault.write(&format!("sys/quotas/rate-limit/{mount}"), quota).await?;
            // the one request that it allows is ours, or was the operator's
            drop(vault.read(&format!("{mount}/app")).await);
        }
        let told = all_fail(ns, |_| "a quota of Vault is used up (429)").await?;
        let start = Instant::now();
        tokio::time::sleep(LOOKS * 2).await;
        let calls = setting.proxy.calls_since(start);
        ensure!(calls.is_empty(), "Vault is not left alone: {calls:?}");
        ensure!(fingerprints(ns).await? == before, "a Secret changed");
        for mount in &mounts {
            vault.delete(&format!("sys/quotas/rate-limit/{mount}")).await?;
        }
        setting.write(&next).await?;
        setting.offer(&next).await?;
        setting.arrives(&next).await?;
        progress::note(format!("vault: a quota: told after {told:.1?}, recovered after {:.1?}", start.elapsed()));
        unseen(ns, &setting.operator, &[first, next, login(ns).await?]).await.map(drop)
    })
}

/// Sets the policy of the namespace: all but what is below `hidden`, and below `half` only so much.
async fn allow(ns: &Sandbox<'_>, vault: &Vault, half: &[&str]) -> Result<()> {
    let paths = |key: &str| ["", "data/", "metadata/"].map(|part| format!("{}/{part}{key}", ns.name));
    let (all, hidden, halves) = (format!("{}/*", ns.name), paths("hidden/*"), paths("half/*"));
    let mut rules = vec![(all.as_str(), ALL)];
    rules.extend(hidden.iter().map(|path| (path.as_str(), NOTHING)));
    rules.extend(halves.iter().map(|path| (path.as_str(), half)));
    vault.policy(&ns.name, &rules).await
}

/// The ExternalSecrets that fail, each with its `spec` and what its condition must say.
fn reads(version: &str) -> Vec<(&'static str, Value, &'static str)> {
    let part = |key: &str, more: Value| {
        let mut reference = json!({"key": key});
        for (field, value) in more.as_object().into_iter().flatten() {
            reference[field] = value.clone();
        }
        json!({"data": data(&[("k", reference)])})
    };
    let extract = json!({"key": "open/app", "property": "password"});
    let hidden = json!({"path": "hidden", "name": {"regexp": ".*"}});
    let mut all = vec![
        ("missing", json!({"data": one("k", "open/gone")}), "Secret does not exist"),
        ("no-property", part("open/app", json!({"property": "gone"})), "cannot find secret data for key"),
        ("no-object", json!({"dataFrom": [{"extract": extract}]}), "is not a JSON object"),
        ("denied", json!({"data": one("k", "hidden/app")}), "Vault does not allow it"),
        ("denied-find", json!({"dataFrom": [{"find": hidden}]}), "Vault does not allow it"),
    ];
    if version == "2" {
        all.push(("no-version", part("open/app", json!({"version": "9"})), "Secret does not exist"));
        all.push(("odd-version", part("open/app", json!({"version": "latest"})), "is not the number of a version"));
    }
    all
}

/// The PushSecrets that fail, in the same way.
fn pushes() -> Vec<(&'static str, Value, &'static str)> {
    let object = |name: &str, source: &str, data: Value| {
        push_secret(name, "store", json!({"secret": {"name": source}}), json!({"data": data}))
    };
    let of_text =
        |name: &str, remote: &str, property: &str| object(name, "source", json!([to_property("text", remote, property)]));
    let binary = json!([to_property("bytes", "open/binary", "k")]);
    vec![
        ("push-denied", of_text("push-denied", "hidden/new", "k"), "Vault does not allow it"),
        ("push-foreign", of_text("push-foreign", "open/app", "password"), "not managed by external-secrets"),
        ("push-no-object", object("push-no-object", "source", to_place("text", "open/text")), "Vault keeps objects"),
        ("push-binary", object("push-binary", "binary", binary), "not UTF-8 text"),
    ]
}

/// Whatever is missing, of another shape or not allowed is told in our own words, and changes nothing in Vault.
#[test]
fn refusals_are_told_apart_and_show_no_value() -> Result<()> {
    for_both("vault-refusals", async |ns, version| {
        let (vault, kept, pushed) = (ns.env.vault().await?, value("kept"), value("pushed"));
        engine(ns, vault, version).await?;
        let auth = app_role(ns, vault, &[(&below(ns), ALL)], "1h").await?;
        allow(ns, vault, &["create", "read", "update"]).await?;
        for key in ["open/app", "hidden/app"] {
            put(ns, vault, version, key, json!({"password": kept})).await?;
        }
        secret(ns, "source", json!({"text": pushed})).await?;
        let bytes = STANDARD.encode([&[0xff_u8][..], pushed.as_bytes()].concat());
        let metadata = json!({"name": "binary"});
        apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"bytes": bytes}})).await?;
        let operator = operator(ns, &[LOCAL, "--loglevel=trace"]).await?;
        vault_store(ns, "store", block(vault.url(), &ns.name, &format!("v{version}"), auth)).await?;
        let (reads, pushes) = (reads(version), pushes());
        for (name, spec, _) in &reads {
            apply(ns, external_secret(name, spec.clone())).await?;
        }
        for (_, object, _) in &pushes {
            apply(ns, object.clone()).await?;
        }
        let words =
            |name: &str| reads.iter().chain(&pushes).find(|(of, ..)| *of == name).map_or("?", |(_, _, words)| *words);
        all_fail(ns, words).await?;
        for (key, held) in [
            ("open/app", json!({"password": kept})),
            ("open/text", Value::Null),
            ("open/binary", Value::Null),
            ("hidden/new", Value::Null),
        ] {
            ensure!(get(ns, vault, version, key).await == held, "{key} was written to");
        }

        // what may be pushed and not be deleted stays, with its PushSecret, until it may
        let spec =
            json!({"data": [to_property("text", "half/app", "k")], "deletionPolicy": "Delete", "refreshInterval": "1s"});
        apply(ns, push_secret("half", "store", json!({"secret": {"name": "source"}}), spec)).await?;
        ns.wait_ready(PUSH_SECRET, "half", "True", "Synced").await?;
        ns.kubectl(&["delete", "pushsecret", "half", "--wait=false"]).await?;
        let message = ns.wait_ready(PUSH_SECRET, "half", "False", "Errored").await?;
        let told = ["Failed to Delete Secrets from Provider", "Vault does not allow it"];
        ensure!(told.iter().all(|words| message.contains(words)), "{message}");
        ensure!(get(ns, vault, version, "half/app").await["k"] == pushed, "it stays");
        allow(ns, vault, ALL).await?;
        ns.wait(PUSH_SECRET, "half", |object| object.is_none()).await?;
        ensure!(get(ns, vault, version, "half/app").await == Value::Null, "it is gone");
        unseen(ns, &operator, &[kept, pushed, login(ns).await?]).await.map(drop)
    })
}
