//! AWS Secrets Manager, Parameter Store and Certificate Manager, with IAM on: logins, reads, searches, pushes, and what is shared between them.

mod certificate_manager;
mod examples;
mod find;
mod identity;
mod login;
mod moto;
mod parameter_store;
mod push;
mod read;
mod sharing;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use keyferry_e2e::aws::{AccessKey, REGION, allow_reading};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::operator::{Operator, Options};
use keyferry_e2e::progress;
use serde_json::{Value, json};

const STORE: (&str, &str) = ("external-secrets.io/v1", "SecretStore");
const CLUSTER_STORE: (&str, &str) = ("external-secrets.io/v1", "ClusterSecretStore");
const EXTERNAL_SECRET: (&str, &str) = ("external-secrets.io/v1", "ExternalSecret");
/// How fast a repair must take effect: below every pause before a next try, so that only the change itself can be the cause.
const REPAIRED_WITHIN: Duration = Duration::from_secs(2);

/// Applies an object of the test's namespace.
async fn apply(ns: &Sandbox<'_>, (api_version, kind): (&str, &str), name: &str, spec: Value) -> Result<()> {
    let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec});
    ns.cluster().apply_object(object, &ns.name).await
}

/// An operator beside the shared one: for stores of a class, in the test's namespace only.
async fn operator_of_class(ns: &Sandbox<'_>, class: &str, args: &[&str], env: Vec<(String, String)>) -> Result<Operator> {
    let own = ["--controller-class", class, "--namespaces", &ns.name];
    let args = own.iter().chain(args).map(|&arg| arg.to_owned()).collect();
    ns.env.another_operator(&Options { args, env, ..Options::default() }).await
}

/// Applies a store: `aws` is what `spec.provider.aws` holds besides service and region.
async fn apply_store(ns: &Sandbox<'_>, kind: (&str, &str), name: &str, aws: Value) -> Result<()> {
    let mut provider = json!({"service": "SecretsManager", "region": REGION});
    extend(&mut provider, aws);
    apply(ns, kind, name, json!({"provider": {"aws": provider}})).await
}

/// Applies an ExternalSecret: of the SecretStore `store` unless `spec` says otherwise, refreshed every hour unless it says so.
async fn apply_external_secret(ns: &Sandbox<'_>, name: &str, store: &str, spec: Value) -> Result<()> {
    let mut whole = json!({"refreshInterval": "1h", "secretStoreRef": {"name": store, "kind": "SecretStore"}});
    extend(&mut whole, spec);
    apply(ns, EXTERNAL_SECRET, name, whole).await
}

fn extend(object: &mut Value, more: Value) {
    let (Value::Object(object), Value::Object(more)) = (object, more) else { panic!("two objects") };
    object.extend(more);
}

/// `spec.data` with one entry: `key` of the Secret from the secret `from`.
fn data(key: &str, from: &str) -> Value {
    json!({"data": [entry(key, json!({"key": from}))]})
}

fn entry(key: &str, remote_ref: Value) -> Value {
    json!({"secretKey": key, "remoteRef": remote_ref})
}

/// `auth` with the access key in the Secret `name`.
fn key_auth(name: &str) -> Value {
    json!({"secretRef": {
        "accessKeyIDSecretRef": {"name": name, "key": "id"},
        "secretAccessKeySecretRef": {"name": name, "key": "secret"},
    }})
}

/// `auth` with the token of a ServiceAccount of the store's namespace.
fn account_auth(name: &str) -> Value {
    json!({"jwt": {"serviceAccountRef": {"name": name}}})
}

/// Puts an access key into the Secret `name`.
async fn apply_key(ns: &Sandbox<'_>, name: &str, key: &AccessKey) -> Result<()> {
    let mut data = json!({"id": key.id, "secret": key.secret});
    if let Some(session) = &key.session {
        data["session"] = session.as_str().into();
    }
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    ns.cluster().apply_object(secret, &ns.name).await
}

/// An IAM user named as the namespace that may do what `statements` say, its key in the Secret `key`, and with it the store
/// `aws`; and the operator.
async fn store_of_user(ns: &Sandbox<'_>, statements: Value, aws: Value) -> Result<()> {
    ns.env.operator().await?;
    apply_key(ns, "key", &ns.aws().create_user(&ns.name, statements).await?).await?;
    let mut provider = json!({"auth": key_auth("key")});
    extend(&mut provider, aws);
    apply_store(ns, STORE, "aws", provider).await
}

/// The store `aws`, which may read all secrets whose names start with the namespace's.
async fn store_of_reader(ns: &Sandbox<'_>) -> Result<()> {
    store_of_user(ns, read_own(ns), json!({})).await
}

fn read_own(ns: &Sandbox<'_>) -> Value {
    allow_reading(&format!("{}/*", ns.name))
}

/// Puts a secret `<namespace>/<name>` and returns that name.
async fn put(ns: &Sandbox<'_>, name: &str, value: &str) -> Result<String> {
    let name = own(ns, name);
    ns.aws().put_secret(&name, value).await?;
    Ok(name)
}

fn own(ns: &Sandbox<'_>, name: &str) -> String {
    format!("{}/{name}", ns.name)
}

/// Waits until the ExternalSecret failed, and returns the message.
async fn wait_failed(ns: &Sandbox<'_>, name: &str) -> Result<String> {
    ns.wait_ready(EXTERNAL_SECRET, name, "False", "SecretSyncedError").await
}

/// Waits until a Secret holds exactly these keys and values.
async fn wait_data(ns: &Sandbox<'_>, name: &str, expected: &[(&str, &str)]) -> Result<()> {
    let expected: BTreeMap<String, String> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let waited = ns.wait_secret(name, |data| *data == expected).await;
    if waited.is_err() {
        assert_eq!(ns.secret(name).await?, expected, "Secret {name}");
    }
    Ok(())
}

/// Asks for a read now.
async fn force_sync(ns: &Sandbox<'_>, name: &str) -> Result<()> {
    let nonce = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
    let patch = json!({"metadata": {"annotations": {"force-sync": nonce.to_string()}}});
    let api = ns.cluster().api(EXTERNAL_SECRET.0, EXTERNAL_SECRET.1, &ns.name).await?;
    api.patch(name, &Default::default(), &kube::api::Patch::Merge(patch)).await?;
    Ok(())
}

/// Says how long ago `since` was, and that it was not too long.
fn took(what: &str, since: Instant, limit: Duration) {
    let elapsed = since.elapsed();
    progress::note(format!("{what}: {:.3} s", elapsed.as_secs_f64()));
    assert!(elapsed < limit, "{what} took {elapsed:?}, allowed are {limit:?}");
}

/// Removes objects that do not go with the namespace.
async fn delete_cluster_store(ns: &Sandbox<'_>, name: &str) -> Result<()> {
    ns.kubectl(&["delete", "clustersecretstore", name]).await.map(drop)
}
