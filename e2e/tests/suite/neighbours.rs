//! One bad object never stops the others, and each recovers by itself when its cause goes.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use keyferry_e2e::aws::allow_reading;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::progress;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::generators::generator;
use crate::lab::{
    EXTERNAL_SECRET, SECRET_STORE, all_synced, apply, aws_store_object, eventually, external_secret, external_secrets,
    fake_store, one, operator, patch, push_secret, ready, secrets, store, to_place, with_lab,
};

/// What a repaired login may take to have its effect.
const REPAIR: Duration = Duration::from_secs(2);

async fn fails(ns: &Sandbox<'_>, name: &str, parts: &[&str]) -> Result<()> {
    let message = ns.wait_ready(EXTERNAL_SECRET, name, "False", "SecretSyncedError").await?;
    ensure!(parts.iter().all(|part| message.contains(part)), "{name}: {message:?} lacks one of {parts:?}");
    Ok(())
}

async fn uid(ns: &Sandbox<'_>, kind: &str, name: &str) -> Result<String> {
    ns.kubectl(&["get", kind, name, "-o", "jsonpath={.metadata.uid}"]).await
}

async fn delete(ns: &Sandbox<'_>, kind: (&str, &str), name: &str) -> Result<()> {
    ns.cluster().api(kind.0, kind.1, &ns.name).await?.delete(name, &DeleteParams::default()).await?;
    Ok(())
}

/// A new ExternalSecret on the good store is served as quickly as ever.
async fn good_one_is_served(ns: &Sandbox<'_>, name: &str) -> Result<Duration> {
    let started = Instant::now();
    apply(ns, external_secret(name, json!({"data": one("key", "remote")}))).await?;
    ns.wait_synced(name).await?;
    Ok(started.elapsed())
}

#[test]
fn bad_specs_disturb_nobody() -> Result<()> {
    with_lab("bad-specs", async |ns| {
        // deeper than serde_json reads, so that it would fail the first list of its kind
        let deep = json!([{"match": {"remoteRef": {"remoteKey": "r"}}, "metadata": {"deep": "HERE"}}]);
        let deep = push_secret("deep", "store", json!({"secret": {"name": "good"}}), json!({"data": deep})).to_string();
        let deep = deep.replace("\"HERE\"", &format!("{}{}", "[".repeat(200), "]".repeat(200)));
        ns.cluster().kubectl_with_input(&["apply", "-n", &ns.name, "-f", "-"], &deep).await?;
        // who may write an object writes its managed fields, too
        let fields = json!([{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": "HERE"}]);
        let deep =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "deep", "managedFields": fields}}).to_string();
        let deep = deep.replace("\"HERE\"", &format!("{}{}", r#"{"f:a":"#.repeat(200), "{}".to_owned() + &"}".repeat(200)));
        ns.cluster().kubectl_with_input(&["create", "-n", &ns.name, "-f", "-"], &deep).await?;
        let kept = ns.kubectl(&["get", "secret", "deep", "-o", "json", "--show-managed-fields"]).await?;
        ensure!(kept.matches("f:a").count() == 200, "the API server left the managed fields out");
        let operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        apply(ns, store("unserved", json!({"device42": {"host": "d42.invalid"}}))).await?;
        apply(ns, external_secret("soon", json!({"refreshInterval": "soon", "data": one("key", "remote")}))).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "([a-z"}}}]});
        apply(ns, external_secret("regexp", find)).await?;
        let unserved = json!({"secretStoreRef": {"name": "unserved", "kind": "SecretStore"}, "data": one("key", "remote")});
        apply(ns, external_secret("unserved", unserved)).await?;
        apply(ns, external_secret("no-store", json!({"secretStoreRef": {"name": "missing"}, "data": one("key", "remote")})))
            .await?;
        let took = good_one_is_served(ns, "good").await?;

        fails(ns, "soon", &["refreshInterval", "soon"]).await?;
        fails(ns, "regexp", &["regexp"]).await?;
        fails(ns, "unserved", &["device42"]).await?;
        fails(ns, "no-store", &["missing", "not found"]).await?;
        let message = ns.wait_ready(SECRET_STORE, "unserved", "False", "UnsupportedProvider").await?;
        for provider in ["device42", "aws", "kubernetes", "fake"] {
            ensure!(message.contains(provider), "{message:?} does not name {provider}");
        }
        ns.wait_event("SecretStore", "unserved", "Warning UnsupportedProvider: ").await?;
        ns.wait_event("PushSecret", "deep", "Warning UpdateFailed: the object cannot be understood").await?;

        // Each recovers when it is mended.
        patch(ns, EXTERNAL_SECRET, "soon", json!({"spec": {"refreshInterval": "1h"}})).await?;
        patch(ns, EXTERNAL_SECRET, "regexp", json!({"spec": {"dataFrom": [{"find": {"name": {"regexp": "^remote$"}}}]}}))
            .await?;
        apply(ns, fake_store("missing", &[("remote", "value")])).await?;
        for name in ["soon", "regexp", "no-store"] {
            ns.wait_synced(name).await?;
        }
        ensure!(operator.probe("/healthz").await?.0, "not healthy");
        progress::note(format!("bad specs: a good object was served in {took:.2?} beside them"));
        Ok(())
    })
}

#[test]
fn a_repaired_login_takes_effect_at_once() -> Result<()> {
    with_lab("login", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        let remote = format!("{}/key", ns.name);
        ns.aws().put_secret(&remote, "value").await?;
        let key = ns.aws().create_user(&ns.name, allow_reading("*")).await?;
        apply(ns, aws_store_object("store", "aws-login")).await?;
        apply(ns, external_secret("app", json!({"data": one("key", &remote)}))).await?;
        fails(ns, "app", &["aws-login"]).await?;
        // Back-off must not grow into the way.
        tokio::time::sleep(Duration::from_secs(6)).await;
        let login = |secret: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws-login"}, "stringData": {"id": key.id, "key": secret}});
        let started = Instant::now();
        apply(ns, login(&key.secret)).await?;
        ns.wait_synced("app").await?;
        let missing = started.elapsed();
        ns.wait_ready(SECRET_STORE, "store", "True", "Valid").await?;
        progress::note(format!("a login Secret that was missing took effect {missing:.2?} after it was made"));
        ensure!(missing <= REPAIR, "took {missing:?}");
        Ok(())
    })
}

/// As where an admission policy leaves stores to those who deploy them.
#[test]
fn a_store_whose_finalizer_is_refused_is_checked_all_the_same() -> Result<()> {
    with_lab("kept-store", async |ns| {
        let name = format!("stores-of-{}", ns.name);
        let policy = json!({
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
                "resourceRules": [{
                    "apiGroups": ["external-secrets.io"], "apiVersions": ["*"], "operations": ["UPDATE"],
                    "resources": ["secretstores"],
                }],
            },
            "validations": [{"expression": "!has(object.metadata.finalizers)"}],
        });
        let binding = json!({"policyName": name, "validationActions": ["Deny"]});
        for (kind, spec) in [("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)] {
            let version = "admissionregistration.k8s.io/v1";
            apply(ns, json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})).await?;
        }
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        let stores = ns.cluster().api(SECRET_STORE.0, SECRET_STORE.1, &ns.name).await?;
        let (trial, held) = (
            PatchParams { dry_run: true, ..PatchParams::default() },
            Patch::Merge(json!({"metadata": {"finalizers": ["mirror.test/held"]}})),
        );
        eventually("the policy is in force", async || Ok(stores.patch("store", &trial, &held).await.is_err())).await?;

        let push = json!({"deletionPolicy": "Delete", "data": to_place("key", "pushed")});
        apply(ns, push_secret("push", "store", json!({"secret": {"name": "app"}}), push)).await?;
        apply(ns, external_secret("app", json!({"data": one("key", "remote")}))).await?;
        let _operator = operator(ns, &[]).await?;
        let took = all_synced(ns).await?;
        let finalizers = stores.get("store").await?.metadata.finalizers;
        ensure!(finalizers.is_none(), "the policy let {finalizers:?} pass");
        progress::note(format!("a store that may not be held is checked and used: {took:.2?}"));
        Ok(())
    })
}

#[test]
fn two_on_one_target() -> Result<()> {
    with_lab("two-owners", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("one", "1"), ("two", "2")])).await?;
        let on = |remote: &str| json!({"data": one("key", remote), "target": {"name": "shared"}});
        apply(ns, external_secret("first", on("one"))).await?;
        ns.wait_synced("first").await?;
        apply(ns, external_secret("second", on("two"))).await?;
        fails(ns, "second", &["shared", "owned by another ExternalSecret", "first"]).await?;
        ensure!(ns.secret("shared").await?["key"] == "1", "the second wrote");
        let started = Instant::now();
        delete(ns, EXTERNAL_SECRET, "first").await?;
        ns.wait_synced("second").await?;
        ns.wait_secret("shared", |data| data.get("key").is_some_and(|value| value == "2")).await?;
        progress::note(format!("two owners: the second took over {:.2?} after the first was deleted", started.elapsed()));
        Ok(())
    })
}

/// Both are planned before either has written.
#[test]
fn two_at_once_on_one_target() -> Result<()> {
    with_lab("two-at-once", async |ns| {
        apply(ns, fake_store("store", &[("one", "1"), ("two", "2")])).await?;
        for name in ["one", "two"] {
            apply(ns, external_secret(name, json!({"data": one("key", name), "target": {"name": "shared"}}))).await?;
        }
        let _operator = operator(ns, &["--log-format=text"]).await?;
        let mut synced = Vec::new();
        eventually("both were looked at", async || {
            let all = external_secrets(ns).await?;
            synced = all.iter().filter(|es| ready(es).0 == "True").map(|es| es["metadata"]["name"].clone()).collect();
            Ok(all.iter().all(|es| !ready(es).0.is_empty()))
        })
        .await?;
        ensure!(synced == ["one"] || synced == ["two"], "synced: {synced:?}");
        let (loser, value) = if synced == ["one"] { ("two", "1") } else { ("one", "2") };
        fails(ns, loser, &["shared", "owned by another ExternalSecret"]).await?;
        ensure!(ns.secret("shared").await?["key"] == value, "the other's value is there");
        Ok(())
    })
}

/// ESO lets several ExternalSecrets merge their keys into one Secret; each has its own there.
#[test]
fn those_that_merge_into_one_secret_leave_each_other_alone() -> Result<()> {
    with_lab("merging", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("one", "1"), ("two", "2")])).await?;
        let shared =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shared"}, "stringData": {"theirs": "x"}});
        apply(ns, shared).await?;
        let on = |remote: &str| {
            let target = json!({"name": "shared", "creationPolicy": "Merge"});
            json!({"data": one(remote, remote), "target": target, "refreshInterval": "1s"})
        };
        for name in ["one", "two"] {
            apply(ns, external_secret(name, on(name))).await?;
            ns.wait_synced(name).await?;
        }
        let all = |data: &std::collections::BTreeMap<String, String>| {
            ["theirs", "one", "two"].iter().all(|key| data.contains_key(*key))
        };
        ns.wait_secret("shared", all).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = secrets(ns).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        ensure!(secrets(ns).await? == before, "they write over each other");
        patch(ns, EXTERNAL_SECRET, "one", json!({"spec": {"data": one("other", "one")}})).await?;
        ns.wait_secret("shared", |data| data.contains_key("other") && !data.contains_key("one")).await?;
        let data = ns.secret("shared").await?;
        ensure!(data["two"] == "2" && data["theirs"] == "x", "a key of another went");
        Ok(())
    })
}

/// A key that both write is the last one's until the other's next refresh, and what is generated for one is nothing to the other.
#[test]
fn those_that_merge_do_not_wake_each_other() -> Result<()> {
    with_lab("merging-awake", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("one", "1"), ("two", "2")])).await?;
        generator(ns, "Password", "g", json!({})).await?;
        let target = |name: &str| json!({"name": name, "creationPolicy": "CreateOrMerge"});
        let mut first = None;
        for name in ["one", "two"] {
            apply(ns, external_secret(name, json!({"data": one("key", name), "target": target("same")}))).await?;
            ns.wait_synced(name).await?;
            let source = json!({"generatorRef": {"kind": "Password", "name": "g"}});
            let rewrite = json!([{"regexp": {"source": "password", "target": name}}]);
            let made = json!([{"sourceRef": source, "rewrite": rewrite}]);
            let generating = format!("made-{name}");
            apply(ns, external_secret(&generating, json!({"dataFrom": made, "target": target("made")}))).await?;
            ns.wait_synced(&generating).await?;
            let value = ns.secret("made").await?.get("one").cloned();
            ensure!(value.is_some(), "the first one's value is not there");
            first = first.or(value);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = secrets(ns).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        ensure!(secrets(ns).await? == before, "they write over each other");
        ensure!(ns.secret("made").await?.get("one").cloned() == first, "the first one's value was generated anew");
        ensure!(ns.secret("same").await?["key"] == "2", "the last one's value is not there");
        Ok(())
    })
}

fn owned_by(kind: &str, name: &str, uid: &str) -> Value {
    let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
    json!([{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}])
}

#[test]
fn a_secret_of_another_controller_is_left_alone_until_it_is_free() -> Result<()> {
    with_lab("foreign", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        apply(ns, json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}})).await?;
        let owners = owned_by("ConfigMap", "owner", &uid(ns, "configmap", "owner").await?);
        let foreign = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app", "ownerReferences": owners}, "stringData": {"theirs": "x"}});
        apply(ns, foreign).await?;
        let before = secrets(ns).await?;
        apply(ns, external_secret("app", json!({"data": one("key", "remote")}))).await?;
        fails(ns, "app", &["ConfigMap", "owner"]).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        ensure!(secrets(ns).await? == before, "the Secret of another was written");
        let started = Instant::now();
        patch(ns, ("v1", "Secret"), "app", json!({"metadata": {"ownerReferences": null}})).await?;
        ns.wait_synced("app").await?;
        let freed = started.elapsed();
        let data = ns.secret("app").await?;
        ensure!(data.get("key").is_some_and(|value| value == "value"), "{:?}", data.keys());
        progress::note(format!("foreign owner: synced {freed:.2?} after it let go"));
        Ok(())
    })
}

#[test]
fn an_immutable_secret_that_is_deleted_by_hand_is_made_anew() -> Result<()> {
    with_lab("frozen", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("remote", "first")])).await?;
        apply(ns, external_secret("app", json!({"refreshInterval": "1s", "data": one("key", "remote")}))).await?;
        ns.wait_synced("app").await?;
        patch(ns, ("v1", "Secret"), "app", json!({"immutable": true})).await?;
        apply(ns, fake_store("store", &[("remote", "second")])).await?;
        fails(ns, "app", &["immutable"]).await?;
        ensure!(ns.secret("app").await?["key"] == "first", "an immutable Secret changed");
        let started = Instant::now();
        delete(ns, ("v1", "Secret"), "app").await?;
        ns.wait_secret("app", |data| data.get("key").is_some_and(|value| value == "second")).await?;
        ns.wait_synced("app").await?;
        progress::note(format!("immutable: made anew {:.2?} after it was deleted", started.elapsed()));
        Ok(())
    })
}

#[test]
fn a_secret_in_deletion_is_awaited() -> Result<()> {
    with_lab("finalizer", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("remote", "value"), ("other", "other")])).await?;
        apply(ns, external_secret("app", json!({"refreshInterval": "1s", "data": one("key", "remote")}))).await?;
        ns.wait_synced("app").await?;
        patch(ns, ("v1", "Secret"), "app", json!({"metadata": {"finalizers": ["example.test/hold"]}})).await?;
        let old = uid(ns, "secret", "app").await?;
        delete(ns, ("v1", "Secret"), "app").await?;
        patch(ns, EXTERNAL_SECRET, "app", json!({"spec": {"data": one("key", "other")}})).await?;
        // while it is held it is kept as it should be
        ns.wait_secret("app", |data| data.get("key").is_some_and(|value| value == "other")).await?;
        let beside = good_one_is_served(ns, "good").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(uid(ns, "secret", "app").await? == old, "the Secret is another although it was held");
        let started = Instant::now();
        patch(ns, ("v1", "Secret"), "app", json!({"metadata": {"finalizers": null}})).await?;
        eventually("there is a new Secret", async || {
            let live = secrets(ns).await?;
            Ok(live.get("app").is_some_and(|secret| secret.metadata.uid.as_ref() != Some(&old)))
        })
        .await?;
        ensure!(ns.secret("app").await?["key"] == "other", "the new Secret is not as the spec says");
        progress::note(format!(
            "in deletion: made anew {:.2?} after it was let go; a neighbour was served in {beside:.2?}",
            started.elapsed()
        ));
        Ok(())
    })
}
