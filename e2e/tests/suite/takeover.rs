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

use crate::lab::{
    EXTERNAL_SECRET, apply, eventually, external_secret, external_secrets, fake_store, fingerprints, is_write, operator,
    patch, ready, requests, secrets, with_lab,
};
use crate::object_hash;

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
    let api: Api<DynamicObject> = ns.cluster().api(EXTERNAL_SECRET.0, EXTERNAL_SECRET.1, &ns.name).await?;
    let live = api.get(name).await?;
    let encoded: BTreeMap<&str, ByteString> = VALUES.iter().map(|(k, v)| (*k, ByteString(v.as_bytes().to_vec()))).collect();
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
        "refreshTime": "2026-01-01T00:00:00Z",
        "syncedResourceVersion": "1-0123456789abcdef0123456789abcdef0123456789abcdef01234567",
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
