//! What the tests of faults and behaviour have in common: one control plane with an audit log, on which each test has a
//! namespace and an operator of its own that serves nothing else, under the rights of the chart's list-of-namespaces mode.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use keyferry_e2e::aws::allow_reading;
use keyferry_e2e::cluster::{ready_condition, text};
use keyferry_e2e::controlplane::{Audited, Options as ControlPlaneOptions};
use keyferry_e2e::env::{Env, Sandbox, block_on};
use keyferry_e2e::operator::{Operator, Options};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

pub const EXTERNAL_SECRET: (&str, &str) = ("external-secrets.io/v1", "ExternalSecret");
pub const SECRET_STORE: (&str, &str) = ("external-secrets.io/v1", "SecretStore");
/// PushSecret, as the API names it.
pub const PUSH_SECRET: (&str, &str) = ("external-secrets.io/v1alpha1", "PushSecret");
/// How long convergence may take on a busy machine. What it took is printed.
pub const SOON: Duration = Duration::from_secs(45);

/// Runs `test` in a namespace of its own on the lab's servers.
pub fn with_lab(label: &str, test: impl AsyncFnOnce(&Sandbox<'_>) -> Result<()>) -> Result<()> {
    static LAB: OnceCell<Env> = OnceCell::const_new();
    block_on(async {
        let env = LAB.get_or_try_init(|| Env::start(ControlPlaneOptions { audit: true })).await?;
        env.with_namespace(label, test).await
    })
}

/// An operator that serves the namespace of `ns` only, with further arguments. Those of one namespace are replicas.
pub async fn operator(ns: &Sandbox<'_>, args: &[&str]) -> Result<Operator> {
    operator_with(ns, args, &[]).await
}

/// As [`operator`], with further variables.
pub async fn operator_with(ns: &Sandbox<'_>, args: &[&str], env: &[(&str, &str)]) -> Result<Operator> {
    ns.env.another_operator(&options(ns, &[&ns.name], args, env)).await
}

/// Options of an operator that serves `namespaces` and is installed beside `ns`.
pub fn options(ns: &Sandbox<'_>, namespaces: &[&str], args: &[&str], env: &[(&str, &str)]) -> Options {
    let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    let list = namespaces.join(",");
    Options {
        args: [owned(&["--namespaces", &list]), owned(args)].concat(),
        env: env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        chart_values: vec![format!("scopedNamespaces={{{list}}}"), "installCRDs=false".to_owned()],
        namespace: installed_in(ns),
        ..Options::default()
    }
}

/// The namespace in which the operator of `ns` is installed.
pub fn installed_in(ns: &Sandbox<'_>) -> String {
    format!("op-{}", ns.name)
}

/// What the operator of `ns` has asked the API server since `mark`.
pub fn requests(ns: &Sandbox<'_>, mark: u64) -> Result<Vec<Audited>> {
    let user = format!("system:serviceaccount:{}:", installed_in(ns));
    let mut all = ns.env.control_plane.audited_since(mark)?;
    all.retain(|audited| audited.request.user.starts_with(&user));
    Ok(all)
}

/// Whether a request changes something that is not the operator's own.
pub fn is_write(audited: &Audited) -> bool {
    let verb = audited.request.verb.as_str();
    let own = ["leases", "events"].contains(&audited.request.resource.as_str());
    !["get", "list", "watch"].contains(&verb) && !own && audited.request.resource != "serviceaccounts/token"
}

/// A SecretStore `store` on the AWS emulator, with a key of its own that may read what matches `pattern`.
pub async fn aws_store(ns: &Sandbox<'_>, pattern: &str) -> Result<()> {
    let key = ns.aws().create_user(&ns.name, allow_reading(pattern)).await?;
    apply(
        ns,
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "aws-login"}, "stringData": {"id": key.id, "key": key.secret}}),
    )
    .await?;
    apply(ns, aws_store_object("store", "aws-login")).await
}

/// A SecretStore that logs in to AWS with the Secret `login`.
pub fn aws_store_object(name: &str, login: &str) -> Value {
    let part = |key: &str| json!({"name": login, "key": key});
    store(
        name,
        json!({"aws": {"service": "SecretsManager", "region": keyferry_e2e::aws::REGION, "auth": {"secretRef": {
            "accessKeyIDSecretRef": part("id"), "secretAccessKeySecretRef": part("key"),
        }}}}),
    )
}

/// A SecretStore with this provider.
pub fn store(name: &str, provider: Value) -> Value {
    json!({"apiVersion": SECRET_STORE.0, "kind": SECRET_STORE.1, "metadata": {"name": name}, "spec": {"provider": provider}})
}

/// A SecretStore that holds these values itself.
pub fn fake_store(name: &str, values: &[(&str, &str)]) -> Value {
    let data: Vec<Value> = values.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    store(name, json!({"fake": {"data": data}}))
}

/// An ExternalSecret on the store `store`; `spec` adds to it or replaces.
pub fn external_secret(name: &str, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": EXTERNAL_SECRET.0, "kind": EXTERNAL_SECRET.1, "metadata": {"name": name},
        "spec": {"refreshInterval": "1h", "secretStoreRef": {"name": "store", "kind": "SecretStore"}},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

/// A PushSecret of `selector` to the store `store`, refreshed every hour; `spec` adds to it or replaces.
pub fn push_secret(name: &str, store: &str, selector: Value, spec: Value) -> Value {
    let mut object = json!({
        "apiVersion": PUSH_SECRET.0, "kind": PUSH_SECRET.1, "metadata": {"name": name},
        "spec": {"refreshInterval": "1h", "secretStoreRefs": [{"name": store}], "selector": selector},
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        object["spec"][field] = value.clone();
    }
    object
}

/// `data` of a PushSecret, of one entry.
pub fn to_place(key: &str, remote: &str) -> Value {
    json!([{"match": {"secretKey": key, "remoteRef": {"remoteKey": remote}}}])
}

/// `data` of one entry.
pub fn one(key: &str, remote: &str) -> Value {
    json!([{"secretKey": key, "remoteRef": {"key": remote}}])
}

/// Applies an object.
pub async fn apply(ns: &Sandbox<'_>, object: Value) -> Result<()> {
    ns.cluster().apply_object(object, &ns.name).await
}

/// Changes a field of an object, as a user's `kubectl patch` does.
pub async fn patch(ns: &Sandbox<'_>, kind: (&str, &str), name: &str, patch: Value) -> Result<()> {
    let api = ns.cluster().api(kind.0, kind.1, &ns.name).await?;
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// All ExternalSecrets.
pub async fn external_secrets(ns: &Sandbox<'_>) -> Result<Vec<Value>> {
    objects(ns, EXTERNAL_SECRET).await
}

/// All objects of a kind.
pub async fn objects(ns: &Sandbox<'_>, kind: (&str, &str)) -> Result<Vec<Value>> {
    let api: Api<DynamicObject> = ns.cluster().api(kind.0, kind.1, &ns.name).await?;
    let list = api.list(&ListParams::default()).await?;
    Ok(list.items.iter().map(serde_json::to_value).collect::<std::result::Result<_, _>>()?)
}

/// The Secrets, whole, by name.
pub async fn secrets(ns: &Sandbox<'_>) -> Result<BTreeMap<String, Secret>> {
    let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
    let list = api.list(&ListParams::default()).await?;
    Ok(list.items.into_iter().map(|secret| (secret.metadata.name.clone().unwrap_or_default(), secret)).collect())
}

/// What must not change of a Secret: its version and its data.
pub type Fingerprint = (Option<String>, Option<BTreeMap<String, ByteString>>);

/// The fingerprints of all Secrets, by name.
pub async fn fingerprints(ns: &Sandbox<'_>) -> Result<BTreeMap<String, Fingerprint>> {
    let all = secrets(ns).await?;
    Ok(all.into_iter().map(|(name, secret)| (name, (secret.metadata.resource_version, secret.data))).collect())
}

/// Status, reason and message of the condition `Ready`.
pub fn ready(object: &Value) -> (String, String, String) {
    let part = |name| ready_condition(Some(object)).map(|c| text(c, name)).unwrap_or_default();
    (part("status"), part("reason"), part("message"))
}

/// Waits until `done` says so, and returns how long that took. `what` is told when it does not within [`SOON`].
pub async fn eventually(what: &str, done: impl AsyncFnMut() -> Result<bool>) -> Result<Duration> {
    within(SOON, what, done).await
}

/// As [`eventually`], within `limit`.
pub async fn within(limit: Duration, what: &str, mut done: impl AsyncFnMut() -> Result<bool>) -> Result<Duration> {
    let started = Instant::now();
    loop {
        if done().await? {
            return Ok(started.elapsed());
        }
        if started.elapsed() > limit {
            bail!("not within {limit:?}: {what}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until every ExternalSecret of the namespace is synced.
pub async fn all_synced(ns: &Sandbox<'_>) -> Result<Duration> {
    let mut waiting = Vec::new();
    let done = async || {
        waiting = external_secrets(ns)
            .await?
            .iter()
            .filter(|es| ready(es).0 != "True")
            .map(|es| es["metadata"]["name"].to_string())
            .collect();
        anyhow::Ok(waiting.is_empty())
    };
    match eventually("all ExternalSecrets are synced", done).await {
        Ok(took) => Ok(took),
        Err(error) => bail!("{error}; not synced: {waiting:?}"),
    }
}
