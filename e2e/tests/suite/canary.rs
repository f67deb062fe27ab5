//! No value of a secret leaves the operator other than in the Secret that it is for: not in a log line at the most talkative
//! level, an event, a status, a metric or a probe; not as it is, encoded, or hashed without a key.

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::operator::Operator;
use keyferry_e2e::progress;
use kube::api::{Api, DeleteParams, DynamicObject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use sha3::Sha3_224;

use crate::fan_out::{PUSH_PARENT, with_cluster};
use crate::lab::{
    EXTERNAL_SECRET, PUSH_SECRET, SECRET_STORE, all_synced, apply, aws_store, aws_store_object, eventually, external_secret,
    external_secrets, fake_store, objects, one, operator, patch, push_secret, ready, to_place, with_lab,
};

/// Begins every secret value of these tests.
pub const BEGINS: &str = "cAnArY";

/// A secret value that is found again wherever it shows up.
pub fn value(of: &str) -> String {
    format!("{BEGINS}-7f3e9b-{of}-pq8Zx2LmWv5Tn4Kd")
}

/// All that may not be seen of `value`, with its name.
fn forms(value: &str) -> Vec<(String, String)> {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let encoded = base64(value.as_bytes());
    let shown = |what: &str, form: String| (format!("{what} of {value}"), form);
    let (plain, entry) = (Sha256::digest(value), Sha256::digest(&encoded));
    // ESO's own annotation: a hash over keys and values.
    let data = format!(r#"{{"key":"{encoded}"}}"#);
    vec![
        shown("base64", encoded.trim_end_matches('=').to_owned()),
        shown("SHA-256", hex(&plain)),
        shown("SHA-256 in base64", base64(&plain)),
        shown("SHA-256 of the base64", hex(&entry)),
        shown("SHA3-224", hex(&Sha3_224::digest(value))),
        shown("ESO's hash", hex(&Sha3_224::digest(data))),
    ]
}

fn base64(bytes: &[u8]) -> String {
    let json = serde_json::to_value(ByteString(bytes.to_vec())).unwrap();
    json.as_str().unwrap().to_owned()
}

/// The secret values of the scenario.
const VALUES: [&str; 11] =
    ["plain", "frozen", "frozen-new", "json", "fake", "denied", "login-id", "login-key", "second", "pushed", "generated"];

/// ExternalSecrets that sync, and in the second place those that fail, each in a way of its own.
fn scenario(prefix: &str) -> [Vec<(&'static str, Value)>; 2] {
    let remote = |name: &str| format!("{prefix}/{name}");
    let data = |name: &str, more: Value| {
        let mut reference = json!({"key": remote(name)});
        for (field, value) in more.as_object().into_iter().flatten() {
            reference[field] = value.clone();
        }
        json!({"data": [{"secretKey": "key", "remoteRef": reference}]})
    };
    let fake = json!({"name": "fake", "kind": "SecretStore"});
    let good = vec![
        ("plain", data("plain", json!({}))),
        ("property", data("json", json!({"property": "password"}))),
        ("extract", json!({"dataFrom": [{"extract": {"key": remote("json")}}]})),
        ("find", json!({"dataFrom": [{"find": {"name": {"regexp": format!("^{prefix}/plain$")}}}]})),
        ("frozen", json!({"data": one("key", &remote("frozen")), "target": {"name": "frozen"}})),
        ("fake", json!({"secretStoreRef": fake.clone(), "data": one("key", "fake")})),
        ("denied-write", json!({"secretStoreRef": fake.clone(), "data": one("key", "denied")})),
    ];
    let bad = vec![
        ("no-json", data("plain", json!({"property": "a.b"}))),
        ("no-object", json!({"dataFrom": [{"extract": {"key": remote("plain")}}]})),
        ("inner-no-object", json!({"dataFrom": [{"extract": {"key": remote("json"), "property": "password"}}]})),
        ("no-base64", data("plain", json!({"decodingStrategy": "Base64"}))),
        ("no-base64-url", data("plain", json!({"decodingStrategy": "Base64URL"}))),
        ("no-version", data("plain", json!({"version": "uuid/00000000-0000-0000-0000-000000000000"}))),
        (
            "fake-no-json",
            json!({"secretStoreRef": fake.clone(), "data": [{"secretKey": "key", "remoteRef": {"key": "fake", "property": "x"}}]}),
        ),
        (
            "bad-key",
            json!({"dataFrom": [{"extract": {"key": remote("json"), "conversionStrategy": "None"}}], "secretStoreRef": {"name": "store"},
            "target": {"name": "Not_A_Name"}}),
        ),
        ("taken", json!({"data": one("key", &remote("plain")), "target": {"name": "taken"}})),
        (
            "no-login",
            json!({"secretStoreRef": {"name": "no-login", "kind": "SecretStore"}, "data": one("key", &remote("plain"))}),
        ),
    ];
    [good, bad]
}

/// PushSecrets that are pushed, and in the second place those that fail. What they push begins with a canary, and so do keys.
fn pushes(prefix: &str) -> [Vec<(&'static str, Value)>; 2] {
    let of_secret = || json!({"secret": {"name": "pushed"}});
    let generated =
        || json!({"generatorRef": {"apiVersion": "generators.external-secrets.io/v1alpha1", "kind": "Fake", "name": "g"}});
    let shaped = |template: &str| json!({"data": to_place("made", "made"), "template": {"data": {"made": template}}});
    let object = |name: &'static str, store: &str, selector, spec| (name, push_secret(name, store, selector, spec));
    let whole = json!({"data": [{"match": {"remoteRef": {"remoteKey": "whole"}}}]});
    let everything = json!({"dataTo": [{"storeRef": {"name": "target"}}], "refreshInterval": "2s"});
    let bad_rewrite =
        json!({"dataTo": [{"storeRef": {"name": "target"}, "rewrite": [{"transform": {"template": "{{ fail .value }}"}}]}]});
    let good = vec![
        object("push-key", "target", of_secret(), json!({"data": to_place("key", "key"), "refreshInterval": "2s"})),
        object("push-whole", "target", of_secret(), whole),
        object("push-shaped", "target", of_secret(), shaped("{{ .key | b64enc }}")),
        object("push-generated", "target", generated(), everything),
    ];
    let denied = json!({"data": to_place("key", &format!("{prefix}/may-not"))});
    let bad = vec![
        object("push-denied", "store", of_secret(), denied.clone()),
        object("push-denied-generated", "store", generated(), denied),
        object("push-no-number", "target", of_secret(), shaped("{{ .key | toDate \"2006\" | fail }}")),
        object("push-no-json", "target", generated(), shaped("{{ (.key | mustFromJson).x }}")),
        object("push-fails", "target", generated(), shaped("{{ fail .key }}")),
        object("push-no-key", "target", generated(), json!({"data": to_place("other", "other")})),
        object("push-bad-rewrite", "target", of_secret(), bad_rewrite),
    ];
    [good, bad]
}

/// Pushes all, and waits until each says what it should.
async fn push(ns: &Sandbox<'_>) -> Result<()> {
    let source = json!({"key": value("pushed"), "json": json!({"inner": value("pushed")}).to_string()});
    apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pushed"}, "stringData": source})).await?;
    apply(ns, fake_store("target", &[])).await?;
    let spec = json!({"data": {"key": value("generated")}});
    let generator = json!({"apiVersion": "generators.external-secrets.io/v1alpha1", "kind": "Fake", "metadata": {"name": "g"}, "spec": spec});
    apply(ns, generator).await?;
    let [good, bad] = pushes(&ns.name);
    for (_, object) in good.iter().chain(&bad) {
        apply(ns, object.clone()).await?;
    }
    let mut waiting = Vec::new();
    let said = eventually("every PushSecret says how it went", async || {
        let all = objects(ns, PUSH_SECRET).await?;
        let expected = |name: &str| if good.iter().any(|(good, _)| *good == name) { "True" } else { "False" };
        let told = |ps: &Value| ready(ps).0 == expected(ps["metadata"]["name"].as_str().unwrap_or_default());
        waiting =
            all.iter().filter(|ps| !told(ps)).map(|ps| format!("{} {:?}", ps["metadata"]["name"], ready(ps))).collect();
        anyhow::Ok(waiting.is_empty())
    })
    .await;
    said.map(drop).with_context(|| format!("{waiting:?}"))
}

async fn set_up(ns: &Sandbox<'_>) -> Result<()> {
    for name in ["plain", "frozen"] {
        ns.aws().put_secret(&format!("{}/{name}", ns.name), &value(name)).await?;
    }
    let object =
        json!({"password": value("json"), "list": [value("json"), {"deep": value("json")}], "number": 1.5e300}).to_string();
    ns.aws().put_secret(&format!("{}/json", ns.name), &object).await?;
    aws_store(ns, &format!("{}/*", ns.name)).await?;
    apply(ns, fake_store("fake", &[("fake", &value("fake")), ("denied", &value("denied"))])).await?;
    let login = json!({"id": value("login-id"), "key": value("login-key")});
    apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "bad-login"}, "stringData": login})).await?;
    apply(ns, aws_store_object("no-login", "bad-login")).await?;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}});
    apply(ns, owner).await?;
    let uid = ns.kubectl(&["get", "configmap", "owner", "-o", "jsonpath={.metadata.uid}"]).await?;
    let taken = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "taken", "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid, "controller": true}]}, "stringData": {"key": value("second")}});
    apply(ns, taken).await
}

/// All that the operator says: its log, what it serves, events and statuses; those of the namespace and of its ClusterPushSecret.
async fn said(ns: &Sandbox<'_>, operator: &Operator) -> Result<Vec<(&'static str, String)>> {
    let mut events = ns.kubectl(&["get", "events.events.k8s.io", "-o", "json"]).await?;
    let mut statuses = String::new();
    let parents: Api<DynamicObject> = ns.cluster().api(PUSH_PARENT.0, PUSH_PARENT.1, "").await?;
    if let Some(parent) = parents.get_opt(&ns.name).await? {
        statuses.push_str(&parent.data["status"].to_string());
        let about = format!("regarding.name={}", ns.name);
        let of_parent = ["get", "events.events.k8s.io", "--namespace=default", "--field-selector", &about, "-o", "json"];
        events.push_str(&ns.kubectl(&of_parent).await?);
    }
    for kind in [EXTERNAL_SECRET, SECRET_STORE, PUSH_SECRET] {
        for object in objects(ns, kind).await? {
            statuses.push_str(&object["status"].to_string());
        }
    }
    let readiness = operator.probe("/readyz").await?.1 + &operator.probe("/healthz").await?.1;
    Ok(vec![
        ("the log", operator.log()?),
        ("events", events),
        ("statuses", statuses),
        ("/metrics", operator.metrics().await?),
        ("the probes", readiness),
    ])
}

/// Secrets may be created by the operator, or not.
async fn may_create(ns: &Sandbox<'_>, may: bool) -> Result<()> {
    let verbs =
        if may { json!(["get", "list", "watch", "create", "patch", "delete"]) } else { json!(["get", "list", "watch"]) };
    let role = ns.kubectl(&["get", "role", "-o", "jsonpath={.items[0].metadata.name}"]).await?;
    let change = json!([{"op": "replace", "path": "/rules/0/verbs", "value": verbs}]).to_string();
    ns.kubectl(&["patch", "role", &role, "--type=json", "-p", &change]).await.map(drop)
}

/// Fails where one of `values` is seen in what the operator says. Returns how many bytes that is.
pub async fn unseen(ns: &Sandbox<'_>, operator: &Operator, values: &[String]) -> Result<usize> {
    let all = said(ns, operator).await?;
    for (place, text) in &all {
        ensure!(!text.is_empty(), "{place} is empty");
        for value in values {
            let around = text.find(value).map(|at| text.floor_char_boundary(at.saturating_sub(400)));
            let found = around.map(|start| text[start..].chars().take(600).collect::<String>());
            ensure!(found.is_none(), "a value is in {place}: {}", found.unwrap_or_default());
            for (what, form) in forms(value) {
                ensure!(!text.contains(&form), "{what} is in {place}");
            }
        }
    }
    Ok(all.iter().map(|(_, text)| text.len()).sum())
}

async fn run(ns: &Sandbox<'_>, format: &str) -> Result<()> {
    let operator = operator(ns, &["--loglevel=trace", &format!("--log-format={format}"), "--status-heartbeat=0s"]).await?;
    set_up(ns).await?;
    let [good, bad] = scenario(&ns.name);
    for (name, spec) in &good {
        let mut spec = spec.clone();
        spec["refreshInterval"] = json!("2s");
        apply(ns, external_secret(name, spec)).await?;
    }
    all_synced(ns).await.context("the good ones")?;
    push(ns).await?;
    // An immutable Secret whose source then changes.
    ns.kubectl(&["patch", "secret", "frozen", "-p", r#"{"immutable":true}"#]).await?;
    ns.aws().put_secret(&format!("{}/frozen", ns.name), &value("frozen-new")).await?;
    may_create(ns, false).await?;
    ns.kubectl(&["delete", "secret", "denied-write"]).await?;
    let mut refused = 0;
    for (name, spec) in &bad {
        // What the CRD refuses never reaches the operator.
        if apply(ns, external_secret(name, spec.clone())).await.is_err() {
            refused += 1;
        }
    }
    let mut waiting = Vec::new();
    let failing = eventually("every bad one says that it fails", async || {
        let all = external_secrets(ns).await?;
        let expected = |name: &str| bad.iter().any(|(bad, _)| *bad == name) || ["frozen", "denied-write"].contains(&name);
        let named = |es: &Value| es["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        waiting = all.iter().filter(|es| expected(&named(es)) && ready(es).0 != "False").map(named).collect();
        anyhow::Ok(waiting.is_empty())
    })
    .await;
    may_create(ns, true).await?;
    failing.with_context(|| format!("{waiting:?}"))?;
    patch(
        ns,
        SECRET_STORE,
        "fake",
        json!({"spec": {"provider": {"fake": {"data": [{"key": "fake", "value": value("second")}]}}}}),
    )
    .await?;
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;

    let values: Vec<String> = VALUES.map(value).into_iter().chain([BEGINS.to_owned()]).collect();
    let size = unseen(ns, &operator, &values).await?;
    // The search finds what is there.
    ensure!(secrets_hold_canaries(ns).await?, "the Secrets do not hold the values");
    progress::note(format!(
        "canary ({format}, trace): none in {size} bytes of log, events, statuses, metrics, probes; {refused} refused by the CRD"
    ));
    Ok(())
}

async fn secrets_hold_canaries(ns: &Sandbox<'_>) -> Result<bool> {
    let all = crate::lab::secrets(ns).await?;
    let values = all.values().flat_map(|secret| secret.data.iter().flatten());
    Ok(values.filter(|(_, value)| value.0.starts_with(BEGINS.as_bytes())).count() >= 4)
}

#[test]
fn values_are_nowhere_but_in_their_secrets_json() -> Result<()> {
    with_lab("canary-json", async |ns| run(ns, "json").await)
}

#[test]
fn values_are_nowhere_but_in_their_secrets_text() -> Result<()> {
    with_lab("canary-text", async |ns| run(ns, "text").await)
}

/// What a ClusterPushSecret hands on is pushed and fails in its children; neither they nor it tell a value, also not one that
/// stands in its spec as a template.
#[test]
fn values_of_cluster_push_secrets_are_nowhere_else() -> Result<()> {
    with_cluster("canary-push", async |ns| {
        let operator = ns.env.operator().await?;
        operator.lock().await.set_log_level("trace").await?;
        let source = json!({"key": value("pushed")});
        apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pushed"}, "stringData": source}))
            .await?;
        apply(ns, fake_store("target", &[])).await?;
        let parent = |template: &str| {
            json!({"apiVersion": PUSH_PARENT.0, "kind": PUSH_PARENT.1, "metadata": {"name": ns.name}, "spec": {
                "pushSecretName": "child",
                "namespaceSelectors": [{"matchLabels": {"kubernetes.io/metadata.name": ns.name}}],
                "pushSecretSpec": {
                    "refreshInterval": "1s", "secretStoreRefs": [{"name": "target"}], "selector": {"secret": {"name": "pushed"}},
                    "template": {"data": {"made": template}}, "data": to_place("made", "made"),
                },
            }})
        };
        for (template, says) in
            [("{{ .key | b64enc }}", "True"), ("{{ fail .key }}", "False"), ("{{ (.key | mustFromJson).x }}", "False")]
        {
            apply(ns, parent(template)).await?;
            eventually("the child says how it went", async || {
                let children = objects(ns, PUSH_SECRET).await?;
                let is_of = |child: &Value| child["spec"]["template"]["data"]["made"] == template && ready(child).0 == says;
                Ok(children.len() == 1 && children.iter().all(is_of))
            })
            .await
            .with_context(|| template.to_owned())?;
        }
        let seen = unseen(ns, &*operator.lock().await, &[value("pushed"), BEGINS.to_owned()]).await;
        operator.lock().await.set_log_level("info").await?;
        progress::note(format!("canary (ClusterPushSecret, trace): none in {} bytes", seen?));
        let parents: Api<DynamicObject> = ns.cluster().api(PUSH_PARENT.0, PUSH_PARENT.1, "").await?;
        drop(parents.delete(&ns.name, &DeleteParams::default()).await?);
        Ok(())
    })
}
