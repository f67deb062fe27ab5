//! Takes over what External Secrets Operator left: Secrets, their field managers, finalizers.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::operator::Operator;
use keyferry_e2e::progress;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::fan_out::with_cluster;
use crate::generators::{API_VERSION, generator};
use crate::lab::{
    EXTERNAL_SECRET, apply, eventually, external_secret, external_secrets, fake_store, fingerprints, is_write, operator,
    patch, ready, requests, secrets, with_lab,
};
use crate::object_hash;

const PARENT: (&str, &str) = ("external-secrets.io/v1", "ClusterExternalSecret");
pub const FINALIZER: &str = "externalsecrets.external-secrets.io/externalsecret-cleanup";
pub const VALUES: [(&str, &str); 2] = [("user", "admin"), ("password", "first")];

/// Two keys of a remote secret each.
fn both() -> Value {
    json!([
        {"secretKey": "user", "remoteRef": {"key": "user"}},
        {"secretKey": "password", "remoteRef": {"key": "password"}},
    ])
}

/// What ESO leaves of an ExternalSecret: the object with its finalizer and status, and its Secret, written by an update with a
/// field manager of its own.
pub async fn left_by_eso(ns: &Sandbox<'_>, name: &str, policy: &str) -> Result<()> {
    let mut object = external_secret(name, json!({"data": both(), "target": {"name": name, "creationPolicy": policy}}));
    object["metadata"]["finalizers"] = json!([FINALIZER]);
    apply(ns, object).await?;
    let synced = "1-0123456789abcdef0123456789abcdef0123456789abcdef01234567";
    written_by_eso(ns, (name, policy), &VALUES, ("2026-01-01T00:00:00Z", synced)).await
}

/// The Secret and the status that ESO leaves of an ExternalSecret that is there: when it read the values, and what it was then.
async fn written_by_eso(
    ns: &Sandbox<'_>,
    (name, policy): (&str, &str),
    values: &[(&str, &str)],
    (refreshed, synced): (&str, &str),
) -> Result<()> {
    let api: Api<DynamicObject> = ns.cluster().api(EXTERNAL_SECRET.0, EXTERNAL_SECRET.1, &ns.name).await?;
    let live = api.get(name).await?;
    let encoded: BTreeMap<&str, ByteString> = values.iter().map(|(k, v)| (*k, ByteString(v.as_bytes().to_vec()))).collect();
    let mut labels = json!({"reconcile.external-secrets.io/managed": "true"});
    let mut owners = json!([]);
    if policy == "Owner" {
        labels["reconcile.external-secrets.io/created-by"] = json!(object_hash::created_by_label(&ns.name, name));
        owners = json!([{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": name,
            "uid": live.metadata.uid, "controller": true, "blockOwnerDeletion": true}]);
    }
    let secret: Secret = serde_json::from_value(json!({
        "metadata": {
            "name": name, "labels": labels, "ownerReferences": owners,
            "annotations": {"reconcile.external-secrets.io/data-hash": object_hash::data_hash(&encoded.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect())},
        },
        "data": encoded,
    }))?;
    let secrets: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
    let manager = PostParams { field_manager: Some(object_hash::field_manager(name)), ..PostParams::default() };
    secrets.create(&manager, &secret).await?;
    let status = json!({"status": {
        "binding": {"name": name},
        "refreshTime": refreshed,
        "syncedResourceVersion": synced,
        "conditions": [{"type": "Ready", "status": "True", "reason": "SecretSynced", "message": "secret synced", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }});
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// The state that ESO left, and then the operator.
async fn take_over(ns: &Sandbox<'_>) -> Result<Operator> {
    apply(ns, fake_store("store", &VALUES)).await?;
    for (name, policy) in [("owner", "Owner"), ("orphan", "Orphan")] {
        left_by_eso(ns, name, policy).await?;
    }
    operator(ns, &["--log-format=text"]).await
}

/// Waits until the operator has recorded all Secrets in its own way.
pub async fn recorded(ns: &Sandbox<'_>) -> Result<()> {
    eventually("every status records its Secret", async || {
        let all = external_secrets(ns).await?;
        Ok(all.iter().all(|es| es["status"]["target"]["digest"].is_string() && ready(es).0 == "True"))
    })
    .await
    .map(drop)
}

#[test]
fn unchanged_values_write_no_secret() -> Result<()> {
    with_lab("takeover-same", async |ns| {
        let mark = ns.env.control_plane.audit_mark()?;
        let mut operator = take_over(ns).await?;
        let before = fingerprints(ns).await?;
        recorded(ns).await?;
        operator.kill().await?;
        operator.start_again().await?;
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        ensure!(fingerprints(ns).await? == before, "a Secret was written");
        let all = requests(ns, mark)?;
        let count = |verb: &str| {
            all.iter()
                .filter(|a| a.request.resource == "secrets" && a.namespace == ns.name && a.request.verb == verb)
                .count()
        };
        let writes = all.iter().filter(|a| is_write(a) && a.request.resource == "secrets" && a.namespace == ns.name).count();
        progress::note(format!(
            "takeover: {} Secrets, {} read, {writes} written, over one restart",
            before.len(),
            count("get")
        ));
        ensure!(writes == 0 && count("get") <= before.len(), "{writes} writes, {} reads", count("get"));
        Ok(())
    })
}

/// A ClusterExternalSecret of the namespace on a generator, and the child that ESO made of it: in Go's words, with the CRDs' defaults.
async fn parent_left_by_eso(ns: &Sandbox<'_>) -> Result<()> {
    generator(ns, "Password", "g", json!({})).await?;
    let data = json!({"password": "{{ .password }}"});
    apply(
        ns,
        json!({"apiVersion": PARENT.0, "kind": PARENT.1, "metadata": {"name": ns.name}, "spec": {
            "namespaces": [ns.name], "externalSecretName": "child", "externalSecretSpec": {
                "refreshInterval": "24h",
                "target": {"template": {"data": data}},
                "dataFrom": [{"sourceRef": {"generatorRef": {"kind": "Password", "name": "g"}}}],
            },
        }}),
    )
    .await?;
    let uid = ns.cluster().api(PARENT.0, PARENT.1, "").await?.get(&ns.name).await?.metadata.uid;
    let owner = json!({"apiVersion": PARENT.0, "kind": PARENT.1, "name": ns.name, "uid": uid,
        "controller": true, "blockOwnerDeletion": true});
    apply(
        ns,
        json!({
            "apiVersion": EXTERNAL_SECRET.0, "kind": EXTERNAL_SECRET.1,
            "metadata": {"name": "child", "finalizers": [FINALIZER], "ownerReferences": [owner]},
            "spec": {
                "refreshInterval": "24h0m0s",
                "secretStoreRef": {"kind": "SecretStore"},
                "target": {"creationPolicy": "Owner", "deletionPolicy": "Retain", "template": {
                    "engineVersion": "v2", "mergePolicy": "Replace", "metadata": {}, "data": data,
                }},
                "dataFrom": [{"sourceRef": {"generatorRef": {"apiVersion": API_VERSION, "kind": "Password", "name": "g"}}}],
            },
        }),
    )
    .await?;
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let synced = object_hash::synced_resource_version(1, &BTreeMap::new(), &BTreeMap::new());
    written_by_eso(ns, ("child", "Owner"), &[("password", "first")], (&now, &synced)).await
}

/// A child that is written anew without need has another generation, and so another password.
#[test]
fn what_the_child_of_a_parent_generated_stays() -> Result<()> {
    with_cluster("takeover-parent", async |ns| {
        let mut operator = ns.env.operator().await?.lock().await;
        operator.kill().await?;
        let seeded = parent_left_by_eso(ns).await;
        let before = fingerprints(ns).await;
        // others' tests need it, too
        operator.start_again().await?;
        drop(operator);
        seeded?;
        let before = before?;
        recorded(ns).await?;
        let parents = ns.cluster().api(PARENT.0, PARENT.1, "").await?;
        eventually("the parent counts the child in", async || {
            let parent = serde_json::to_value(parents.get(&ns.name).await?)?;
            Ok(parent["status"]["provisionedNamespaces"] == json!([ns.name]))
        })
        .await?;
        let child = async || anyhow::Ok(external_secrets(ns).await?.remove(0));
        let generation = child().await?["metadata"]["generation"].clone();
        ensure!(generation == 1, "the child was written: generation {generation}");
        ensure!(before.len() == 1 && fingerprints(ns).await? == before, "the Secret was written");

        let edit = json!({"spec": {"externalSecretSpec": {"refreshInterval": "12h"}}});
        let parent = parents.patch(&ns.name, &PatchParams::default(), &Patch::Merge(edit)).await?;
        let wanted = serde_json::to_value(parent)?["spec"]["externalSecretSpec"].clone();
        eventually("a change of the parent reaches the child", async || Ok(child().await?["spec"] == wanted)).await?;
        parents.delete(&ns.name, &DeleteParams::default()).await?;
        Ok(())
    })
}

#[test]
fn keys_that_leave_the_spec_leave_the_secret() -> Result<()> {
    with_lab("takeover-drop", async |ns| {
        let _operator = take_over(ns).await?;
        recorded(ns).await?;
        for name in ["owner", "orphan"] {
            // Another hand's label stays.
            patch(ns, ("v1", "Secret"), name, json!({"metadata": {"labels": {"theirs": "x"}}})).await?;
            let data = json!([{"secretKey": "user", "remoteRef": {"key": "user"}}]);
            patch(ns, EXTERNAL_SECRET, name, json!({"spec": {"data": data}})).await?;
            ns.wait_secret(name, |data| data.keys().eq(["user"])).await?;
        }
        for (name, secret) in secrets(ns).await? {
            let managers: Vec<_> =
                secret.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.manager.clone()).collect();
            ensure!(managers.iter().all(|manager| !manager.starts_with("externalsecrets.")), "{name}: {managers:?}");
            let annotations = secret.metadata.annotations.unwrap_or_default();
            ensure!(!annotations.contains_key("reconcile.external-secrets.io/data-hash"), "{name} keeps ESO's unkeyed hash");
            ensure!(
                secret.metadata.labels.is_some_and(|labels| labels.contains_key("theirs")),
                "{name} lost a label of others"
            );
        }
        Ok(())
    })
}

#[test]
fn esos_finalizer_holds_nothing_up() -> Result<()> {
    with_lab("takeover-delete", async |ns| {
        let _operator = take_over(ns).await?;
        recorded(ns).await?;
        let api = ns.cluster().api(EXTERNAL_SECRET.0, EXTERNAL_SECRET.1, &ns.name).await?;
        let started = std::time::Instant::now();
        for name in ["owner", "orphan"] {
            api.delete(name, &DeleteParams::default()).await?;
        }
        for name in ["owner", "orphan"] {
            ns.wait(EXTERNAL_SECRET, name, |object| object.is_none()).await?;
        }
        let gone = started.elapsed();
        ns.wait(("v1", "Secret"), "owner", |object| object.is_none()).await?;
        ensure!(ns.secret("orphan").await.is_ok(), "a Secret without owner was deleted");
        progress::note(format!("takeover: ExternalSecrets with ESO's finalizer were gone after {gone:.2?}"));
        Ok(())
    })
}
