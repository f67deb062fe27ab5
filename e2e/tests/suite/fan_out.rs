//! One object, many namespaces: ClusterExternalSecret and ClusterPushSecret, with the rights that the chart gives for them.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::controlplane::{self, Audited};
use keyferry_e2e::env::{Env, Sandbox, block_on};
use keyferry_e2e::progress;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::lab::{EXTERNAL_SECRET, apply, eventually, is_write, one};

const PARENT: (&str, &str) = ("external-secrets.io/v1", "ClusterExternalSecret");
/// ClusterPushSecret, as the API names it.
pub const PUSH_PARENT: (&str, &str) = ("external-secrets.io/v1alpha1", "ClusterPushSecret");
const PUSH_SECRET: (&str, &str) = ("external-secrets.io/v1alpha1", "PushSecret");
const NAMESPACE: (&str, &str) = ("v1", "Namespace");

/// Runs `test` in a namespace of its own, on servers whose whole cluster one operator serves, under the chart's default rights.
pub fn with_cluster(label: &str, test: impl AsyncFnOnce(&Sandbox<'_>) -> Result<()>) -> Result<()> {
    static SERVERS: OnceCell<Env> = OnceCell::const_new();
    block_on(async {
        let env = SERVERS.get_or_try_init(|| Env::start(controlplane::Options { audit: true })).await?;
        env.with_namespace(label, test).await
    })
}

/// What the operator has asked the API server since `mark` of the namespaces whose names begin with that of `ns`.
fn requests(ns: &Sandbox<'_>, mark: u64) -> Result<Vec<Audited>> {
    let mut all = ns.env.control_plane.audited_since(mark)?;
    all.retain(|r| r.request.user.starts_with("system:serviceaccount:keyferry:") && r.namespace.starts_with(&ns.name));
    Ok(all)
}

async fn store(ns: &Sandbox<'_>) -> Result<()> {
    apply(
        ns,
        json!({
            "apiVersion": "external-secrets.io/v1", "kind": "ClusterSecretStore", "metadata": {"name": ns.name},
            "spec": {"provider": {"fake": {"data": [{"key": "remote", "value": "value"}]}}},
        }),
    )
    .await
}

fn parent(ns: &Sandbox<'_>) -> Value {
    json!({
        "apiVersion": PARENT.0, "kind": PARENT.1, "metadata": {"name": ns.name},
        "spec": {
            "namespaceSelectors": [{"matchLabels": {"fan-out": ns.name}}],
            "externalSecretName": "child",
            "externalSecretSpec": {
                "secretStoreRef": {"name": ns.name, "kind": "ClusterSecretStore"}, "data": one("key", "remote"),
            },
        },
    })
}

async fn namespace(ns: &Sandbox<'_>, suffix: &str, labelled: bool, finalizers: &[String]) -> Result<String> {
    let name = format!("{}-{suffix}", ns.name);
    let labels = if labelled { json!({"fan-out": ns.name}) } else { json!({}) };
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels, "finalizers": finalizers}});
    apply(ns, object).await?;
    Ok(name)
}

async fn get(ns: &Sandbox<'_>, kind: (&str, &str), namespace: &str, name: &str) -> Result<Option<Value>> {
    let api: Api<DynamicObject> = ns.cluster().api(kind.0, kind.1, namespace).await?;
    Ok(api.get_opt(name).await?.map(serde_json::to_value).transpose()?)
}

/// Waits until the parent's status names exactly these namespaces.
async fn provisioned(ns: &Sandbox<'_>, kind: (&str, &str), want: &[&str]) -> Result<Duration> {
    eventually(&format!("{want:?} are provided for"), async || {
        let status = get(ns, kind, "", &ns.name).await?.map(|o| o["status"]["provisionedNamespaces"].clone());
        Ok(status.is_some_and(|s| {
            s.as_array().map_or(want.is_empty(), |s| s.iter().map(|v| v.as_str().unwrap()).eq(want.iter().copied()))
        }))
    })
    .await
}

/// Changes a cluster-scoped object.
async fn patch(ns: &Sandbox<'_>, kind: (&str, &str), name: &str, patch: Value) -> Result<()> {
    patch_in(ns, kind, "", name, patch).await
}

async fn patch_in(ns: &Sandbox<'_>, kind: (&str, &str), namespace: &str, name: &str, patch: Value) -> Result<()> {
    let api: Api<DynamicObject> = ns.cluster().api(kind.0, kind.1, namespace).await?;
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

async fn delete(ns: &Sandbox<'_>, kind: (&str, &str), namespace: &str, name: &str) -> Result<()> {
    let api: Api<DynamicObject> = ns.cluster().api(kind.0, kind.1, namespace).await?;
    drop(api.delete(name, &DeleteParams::default()).await?);
    Ok(())
}

async fn gone(ns: &Sandbox<'_>, kind: (&str, &str), namespace: &str, name: &str) -> Result<Duration> {
    eventually(&format!("{} {namespace}/{name} is gone", kind.1), async || {
        Ok(get(ns, kind, namespace, name).await?.is_none())
    })
    .await
}

async fn restart(operator: &tokio::sync::Mutex<keyferry_e2e::operator::Operator>) -> Result<()> {
    let mut operator = operator.lock().await;
    operator.kill().await?;
    operator.start_again().await
}

#[test]
fn children_follow_namespaces_at_once_and_nothing_is_written_twice() -> Result<()> {
    with_cluster("fan-out", async |ns| {
        let mark = ns.env.control_plane.audit_mark()?;
        let operator = ns.env.operator().await?;
        store(ns).await?;
        // ESO's finalizers: of this object on a namespace that it means and on one that it does not, and of one that is gone
        let own = format!("externalsecrets.external-secrets.io/ces-{}", ns.name);
        let lost = format!("externalsecrets.external-secrets.io/ces-{}-gone", ns.name);
        let a = namespace(ns, "a", true, std::slice::from_ref(&own)).await?;
        let b = namespace(ns, "b", false, &[own.clone(), lost, "example.com/theirs".to_owned()]).await?;
        apply(ns, parent(ns)).await?;
        provisioned(ns, PARENT, &[&a]).await?;
        eventually("the first Secret", async || Ok(get(ns, ("v1", "Secret"), &a, "child").await?.is_some())).await?;
        eventually("ESO's finalizers are off", async || {
            let all = [get(ns, NAMESPACE, "", &a).await?, get(ns, NAMESPACE, "", &b).await?];
            Ok(all.iter().flatten().all(|n| !n["metadata"]["finalizers"].to_string().contains("ces-")))
        })
        .await?;
        patch(ns, NAMESPACE, &b, json!({"metadata": {"finalizers": null}})).await?;

        // a label comes, a hand edits, a foreign object stands in the way, a label goes
        patch(ns, NAMESPACE, &b, json!({"metadata": {"labels": {"fan-out": ns.name}}})).await?;
        let followed = provisioned(ns, PARENT, &[&a, &b]).await?;
        let edit =
            json!({"metadata": {"labels": {"by": "hand"}}, "spec": {"refreshInterval": "5m", "target": {"name": "x"}}});
        patch_in(ns, EXTERNAL_SECRET, &a, "child", edit).await?;
        eventually("the edit is undone", async || {
            let child = get(ns, EXTERNAL_SECRET, &a, "child").await?.unwrap_or_default();
            Ok(child["metadata"]["labels"].is_null()
                && child["spec"]["refreshInterval"].is_null()
                && child["spec"]["target"].is_null())
        })
        .await?;
        let c = namespace(ns, "c", false, &[]).await?;
        let foreign = json!({"apiVersion": EXTERNAL_SECRET.0, "kind": EXTERNAL_SECRET.1, "metadata": {"name": "child", "namespace": c},
            "spec": {"secretStoreRef": {"name": "theirs"}, "data": one("key", "remote")}});
        ns.cluster().apply_object(foreign, &c).await?;
        patch(ns, NAMESPACE, &c, json!({"metadata": {"labels": {"fan-out": ns.name}}})).await?;
        eventually("the foreign object is told of", async || {
            let status = get(ns, PARENT, "", &ns.name).await?.unwrap_or_default()["status"].clone();
            Ok(status["failedNamespaces"]
                == json!([{"namespace": c, "reason": "external secret already exists in namespace"}])
                && status["conditions"]
                    == json!([{"type": "Ready", "status": "False", "message": "one or more namespaces failed"}]))
        })
        .await?;
        ensure!(get(ns, EXTERNAL_SECRET, &c, "child").await?.unwrap()["spec"]["secretStoreRef"]["name"] == "theirs");
        delete(ns, EXTERNAL_SECRET, &c, "child").await?;
        let freed = provisioned(ns, PARENT, &[&a, &b, &c]).await?;
        patch(ns, NAMESPACE, &b, json!({"metadata": {"labels": {"fan-out": null}}})).await?;
        let left = gone(ns, EXTERNAL_SECRET, &b, "child").await?;
        gone(ns, ("v1", "Secret"), &b, "child").await?;

        // nothing is written while nothing changes, also not after a restart
        restart(operator).await?;
        provisioned(ns, PARENT, &[&a, &c]).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let still = ns.env.control_plane.audit_mark()?;
        restart(operator).await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let writes: Vec<_> = requests(ns, still)?
            .into_iter()
            .filter(is_write)
            .map(|r| format!("{} {} {}", r.request.verb, r.namespace, r.request.resource))
            .collect();
        ensure!(writes.is_empty(), "written without need: {writes:?}");

        // a new name, a namespace in deletion, and the end
        patch(ns, PARENT, &ns.name, json!({"spec": {"externalSecretName": "renamed"}})).await?;
        gone(ns, EXTERNAL_SECRET, &a, "child").await?;
        eventually("the new name", async || Ok(get(ns, ("v1", "Secret"), &a, "renamed").await?.is_some())).await?;
        delete(ns, NAMESPACE, "", &c).await?;
        gone(ns, NAMESPACE, "", &c).await?;
        provisioned(ns, PARENT, &[&a]).await?;
        patch(
            ns,
            PARENT,
            &ns.name,
            json!({"metadata": {"finalizers": ["externalsecrets.external-secrets.io/clusterexternalsecret-cleanup"]}}),
        )
        .await?;
        delete(ns, PARENT, "", &ns.name).await?;
        gone(ns, PARENT, "", &ns.name).await?;
        gone(ns, EXTERNAL_SECRET, &a, "renamed").await?;
        gone(ns, ("v1", "Secret"), &a, "renamed").await?;
        // what is made in a namespace in deletion is refused with the same code: the others tell
        let denied: Vec<_> = requests(ns, mark)?.into_iter().filter(|r| r.code == 403 && r.namespace != c).collect();
        ensure!(denied.is_empty(), "the chart lacks a right: {} {}", denied[0].request.verb, denied[0].request.resource);
        progress::note(format!(
            "fan-out: a labelled namespace followed after {followed:.2?}, one set free after {freed:.2?}, one that left after {left:.2?}"
        ));
        for name in [&a, &b] {
            delete(ns, NAMESPACE, "", name).await?;
        }
        Ok(())
    })
}

#[test]
fn push_secrets_are_spread_too() -> Result<()> {
    with_cluster("fan-push", async |ns| {
        ns.env.operator().await?;
        let (a, b) = (namespace(ns, "a", true, &[]).await?, namespace(ns, "b", true, &[]).await?);
        let spec = |key: &str| {
            json!({"secretStoreRefs": [{"name": "none-such", "kind": "ClusterSecretStore"}], "selector": {"secret": {"name": "src"}},
                "data": [{"match": {"secretKey": "k", "remoteRef": {"remoteKey": key}}}]})
        };
        let foreign = json!({"apiVersion": PUSH_SECRET.0, "kind": PUSH_SECRET.1, "metadata": {"name": ns.name, "namespace": a}, "spec": spec("theirs")});
        ns.cluster().apply_object(foreign, &a).await?;
        apply(
            ns,
            json!({"apiVersion": PUSH_PARENT.0, "kind": PUSH_PARENT.1, "metadata": {"name": ns.name}, "spec": {
                "namespaceSelectors": [{"matchLabels": {"fan-out": ns.name}}], "pushSecretSpec": spec("ours"),
                "pushSecretMetadata": {"labels": {"l": "1"}},
            }}),
        )
        .await?;
        provisioned(ns, PUSH_PARENT, &[&b]).await?;
        let status = get(ns, PUSH_PARENT, "", &ns.name).await?.unwrap()["status"].clone();
        ensure!(
            status["failedNamespaces"] == json!([{"namespace": a, "reason": "push secret already exists in namespace"}]),
            "{status}"
        );
        let child = get(ns, PUSH_SECRET, &b, &ns.name).await?.unwrap();
        ensure!(child["spec"] == spec("ours") && child["metadata"]["labels"] == json!({"l": "1"}), "{child}");
        ensure!(get(ns, PUSH_SECRET, &a, &ns.name).await?.unwrap()["spec"] == spec("theirs"));
        delete(ns, PUSH_SECRET, &a, &ns.name).await?;
        provisioned(ns, PUSH_PARENT, &[&a, &b]).await?;
        delete(ns, PUSH_PARENT, "", &ns.name).await?;
        gone(ns, PUSH_SECRET, &b, &ns.name).await?;
        for name in [&a, &b] {
            delete(ns, NAMESPACE, "", name).await?;
        }
        Ok(())
    })
}
