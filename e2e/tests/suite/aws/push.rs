//! PushSecrets to Secrets Manager: written once, followed at once, deleted as the policy says, and never more than may be written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyferry_e2e::aws::ACCOUNT;
use keyferry_e2e::env::with_namespace;

use super::*;

pub(super) const PUSH_SECRET: (&str, &str) = ("external-secrets.io/v1alpha1", "PushSecret");
const STORE_FINALIZER: &str = "secretstore.externalsecrets.io/finalizer";

/// The store `aws`, which may write all secrets whose names start with the namespace's.
async fn store_of_writer(ns: &Sandbox<'_>) -> Result<()> {
    let own = format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{}/*", ns.name);
    let writes = json!([{"Effect": "Allow", "Action": "secretsmanager:*", "Resource": own}]);
    store_of_user(ns, writes, json!({"secretsManager": {"forceDeleteWithoutRecovery": true}})).await
}

pub(super) async fn source(ns: &Sandbox<'_>, data: Value) -> Result<()> {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "src"}, "stringData": data});
    ns.cluster().apply_object(secret, &ns.name).await
}

pub(super) fn to(remote_key: &str, secret_key: &str, property: &str) -> Value {
    let mut remote = json!({"remoteKey": remote_key});
    if !property.is_empty() {
        remote["property"] = property.into();
    }
    let mut found = json!({"remoteRef": remote});
    if !secret_key.is_empty() {
        found["secretKey"] = secret_key.into();
    }
    json!({"match": found})
}

pub(super) async fn push(ns: &Sandbox<'_>, name: &str, spec: Value) -> Result<()> {
    let mut whole = json!({
        "refreshInterval": "1h", "secretStoreRefs": [{"name": "aws"}], "selector": {"secret": {"name": "src"}},
    });
    extend(&mut whole, spec);
    apply(ns, PUSH_SECRET, name, whole).await
}

pub(super) async fn pushed(ns: &Sandbox<'_>, name: &str) -> Result<()> {
    ns.wait_ready(PUSH_SECRET, name, "True", "Synced").await.map(drop)
}

/// The current value of a secret, whichever form it has; `None` where there is none.
async fn value(ns: &Sandbox<'_>, key: &str) -> Option<String> {
    let answer = ns.aws().secrets_manager("GetSecretValue", json!({"SecretId": key})).await.ok()?;
    if let Some(text) = answer["SecretString"].as_str() {
        return Some(text.to_owned());
    }
    String::from_utf8(STANDARD.decode(answer["SecretBinary"].as_str()?).ok()?).ok()
}

async fn wait_value(ns: &Sandbox<'_>, key: &str, expected: Option<&str>) -> Duration {
    let begun = Instant::now();
    while value(ns, key).await.as_deref() != expected {
        assert!(begun.elapsed() < Duration::from_secs(30), "{key} is {:?} and not {expected:?}", value(ns, key).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    begun.elapsed()
}

fn writes(ns: &Sandbox<'_>) -> Vec<String> {
    let reads = ["GetSecretValue", "DescribeSecret", "BatchGetSecretValue", "ListSecrets"];
    let calls = ns.env.recorder.calls_for(&ns.name).into_iter().map(|call| call.action);
    calls.filter(|action| !reads.contains(&action.as_str())).collect()
}

#[test]
fn a_push_writes_what_differs_and_follows_its_source() -> Result<()> {
    with_namespace("aws-push", async |ns| {
        store_of_writer(ns).await?;
        source(ns, json!({"user": "ann", "pw": "one"})).await?;
        let (db, whole) = (own(ns, "db"), own(ns, "whole"));
        let data = [to(&db, "user", "login.user"), to(&db, "pw", "password"), to(&whole, "", "")];
        push(ns, "push", json!({"refreshInterval": "2s", "data": data})).await?;
        pushed(ns, "push").await?;
        assert_eq!(value(ns, &db).await.unwrap(), r#"{"login":{"user":"ann"},"password":"one"}"#);
        assert_eq!(value(ns, &whole).await.unwrap(), r#"{"pw":"one","user":"ann"}"#);

        let before = writes(ns);
        assert_eq!(before, ["CreateSecret", "PutSecretValue", "CreateSecret"]);
        let reads = || ns.env.recorder.calls_for(&ns.name).len();
        let (seen, begun) = (reads(), Instant::now());
        while reads() < seen + 12 {
            assert!(begun.elapsed() < Duration::from_secs(30), "an interval of two seconds brings no second look");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(writes(ns), before, "what is unchanged makes no new version");

        source(ns, json!({"user": "ann", "pw": "two"})).await?;
        let changed = Instant::now();
        wait_value(ns, &db, Some(r#"{"login":{"user":"ann"},"password":"two"}"#)).await;
        took("a push followed its source after", changed, REPAIRED_WITHIN);
        wait_value(ns, &whole, Some(r#"{"pw":"two","user":"ann"}"#)).await;

        // an ExternalSecret of the same store sees what was pushed, not what was kept
        apply_external_secret(ns, "back", "aws", data_of(&db, "password")).await?;
        wait_data(ns, "back", &[("pw", "two")]).await
    })
}

fn data_of(key: &str, property: &str) -> Value {
    json!({"data": [entry("pw", json!({"key": key, "property": property}))]})
}

#[test]
fn what_is_no_longer_wanted_is_deleted() -> Result<()> {
    with_namespace("aws-push-delete", async |ns| {
        store_of_writer(ns).await?;
        source(ns, json!({"a": "1", "b": "2"})).await?;
        let (one, two) = (own(ns, "one"), own(ns, "two"));
        let both = json!({"deletionPolicy": "Delete", "data": [to(&one, "a", ""), to(&two, "b", "")]});
        push(ns, "push", both.clone()).await?;
        pushed(ns, "push").await?;
        let held = |object: Option<&Value>| {
            object.is_some_and(|o| o["metadata"]["finalizers"].to_string().contains(STORE_FINALIZER))
        };
        ns.wait(STORE, "aws", held).await?;

        push(ns, "push", json!({"deletionPolicy": "Delete", "data": [to(&one, "a", "")]})).await?;
        wait_value(ns, &two, None).await;
        assert_eq!(value(ns, &one).await.as_deref(), Some("1"));

        // the source goes, and comes back
        ns.kubectl(&["delete", "secret", "src"]).await?;
        wait_value(ns, &one, None).await;
        let message = ns.wait_ready(PUSH_SECRET, "push", "False", "SourceDeleted").await?;
        assert_eq!(message, "source secret deleted; provider secrets cleaned up");
        source(ns, json!({"a": "3", "b": "4"})).await?;
        wait_value(ns, &one, Some("3")).await;

        // the store goes, but only once nothing of ours is left in it; then the object itself
        push(ns, "push", both).await?;
        wait_value(ns, &two, Some("4")).await;
        pushed(ns, "push").await?;
        ns.kubectl(&["delete", "pushsecret", "push"]).await?;
        assert_eq!((value(ns, &one).await, value(ns, &two).await), (None, None));
        ns.wait(STORE, "aws", |object| !held(object)).await?;
        ns.wait_event("PushSecret", "push", "Normal SourceDeleted").await
    })
}

/// As in ESO: what was pushed stays, and is no longer known of.
#[test]
fn labels_that_no_secret_has_any_more_delete_nothing() -> Result<()> {
    with_namespace("aws-push-labels", async |ns| {
        store_of_writer(ns).await?;
        source(ns, json!({"a": "1"})).await?;
        ns.kubectl(&["label", "secret", "src", "pick=me"]).await?;
        let one = own(ns, "one");
        let selector = json!({"secret": {"selector": {"matchLabels": {"pick": "me"}}}});
        push(ns, "push", json!({"deletionPolicy": "Delete", "selector": selector, "data": [to(&one, "a", "")]})).await?;
        let knows = |object: Option<&Value>| object.is_some_and(|o| o["status"]["syncedPushSecrets"].is_object());
        ns.wait(PUSH_SECRET, "push", knows).await?;
        ns.kubectl(&["label", "secret", "src", "pick-"]).await?;
        ns.wait(PUSH_SECRET, "push", |object| !knows(object)).await?;
        pushed(ns, "push").await?;
        assert_eq!(value(ns, &one).await.as_deref(), Some("1"));
        Ok(())
    })
}

#[test]
fn a_store_in_deletion_is_emptied_first() -> Result<()> {
    with_namespace("aws-push-store", async |ns| {
        store_of_writer(ns).await?;
        source(ns, json!({"a": "1"})).await?;
        let key = own(ns, "one");
        push(ns, "push", json!({"deletionPolicy": "Delete", "data": [to(&key, "a", "")]})).await?;
        pushed(ns, "push").await?;
        let held = |object: Option<&Value>| {
            object.is_some_and(|o| o["metadata"]["finalizers"].to_string().contains(STORE_FINALIZER))
        };
        ns.wait(STORE, "aws", held).await?;
        ns.kubectl(&["delete", "secretstore", "aws"]).await?;
        assert_eq!(value(ns, &key).await, None);
        ns.wait_ready(PUSH_SECRET, "push", "False", "Errored").await?;
        ns.kubectl(&["delete", "pushsecret", "push", "--timeout=20s"]).await.map(drop)
    })
}

#[test]
fn what_others_wrote_is_not_touched() -> Result<()> {
    with_namespace("aws-push-foreign", async |ns| {
        store_of_writer(ns).await?;
        source(ns, json!({"a": "mine"})).await?;
        let theirs = put(ns, "theirs", "theirs").await?;
        push(ns, "push", json!({"deletionPolicy": "Delete", "data": [to(&theirs, "a", "")]})).await?;
        let message = ns.wait_ready(PUSH_SECRET, "push", "False", "Errored").await?;
        let words = "set secret failed: could not write remote ref a to target secretstore aws: ";
        assert_eq!(message, format!("{words}secret not managed by external-secrets"));
        ns.kubectl(&["delete", "pushsecret", "push"]).await?;
        assert_eq!(value(ns, &theirs).await.as_deref(), Some("theirs"));
        // and what is there stays, where the policy says so
        push(ns, "once", json!({"updatePolicy": "IfNotExists", "data": [to(&theirs, "a", "")]})).await?;
        pushed(ns, "once").await?;
        assert_eq!(value(ns, &theirs).await.as_deref(), Some("theirs"));
        Ok(())
    })
}

/// A push never goes where the namespace may not: neither by a store's labels nor by a ClusterSecretStore's.
#[test]
fn a_push_needs_the_right_to_the_store() -> Result<()> {
    with_namespace("aws-push-denied", async |ns| {
        ns.env.operator().await?;
        source(ns, json!({"a": "1"})).await?;
        let name = format!("{}-closed", ns.name);
        let closed = json!({"conditions": [{"namespaces": ["nobody"]}], "provider": {"fake": {"data": [{"key": "k", "value": "v"}]}}});
        apply(ns, CLUSTER_STORE, &name, closed).await?;
        let refs = json!([{"name": name, "kind": "ClusterSecretStore"}]);
        push(ns, "push", json!({"secretStoreRefs": refs, "data": [to("x", "a", "")]})).await?;
        let message = ns.wait_ready(PUSH_SECRET, "push", "False", "Errored").await?;
        let denied =
            format!("using cluster store {name:?} is not allowed from namespace {:?}: denied by spec.condition", ns.name);
        assert_eq!(message, format!("set secret failed: could not get secrets client for store {name}: {denied}"));
        delete_cluster_store(ns, &name).await
    })
}

/// Tables of where values come from and go to, with the fake provider, which an ExternalSecret reads back.
#[test]
fn pushes_to_the_fake_provider_are_read_back() -> Result<()> {
    with_namespace("push-fake", async |ns| {
        ns.env.operator().await?;
        source(ns, json!({"app-a": "1", "app-b": "2", "other": "3"})).await?;
        apply(ns, STORE, "fake", json!({"provider": {"fake": {"data": [{"key": "own", "value": "o"}]}}})).await?;
        let refs = json!([{"name": "fake"}]);
        let store = json!({"name": "fake"});
        let many = json!([
            {"storeRef": store, "match": {"regexp": "^app-"}, "rewrite": [{"transform": {"template": "{{ .value | upper }}"}}]},
            {"storeRef": store, "remoteKey": "bundle", "match": {"regexp": "^app-"}},
        ]);
        push(ns, "many", json!({"secretStoreRefs": refs, "dataTo": many})).await?;
        pushed(ns, "many").await?;
        push(ns, "taken", json!({"secretStoreRefs": refs, "data": [to("own", "other", "")]})).await?;
        let message = ns.wait_ready(PUSH_SECRET, "taken", "False", "Errored").await?;
        assert!(message.ends_with("target secretstore fake: key already exists"), "{message}");
        let template = json!({"data": {"made": "{{ .other }}-{{ index . \"app-a\" }}"}});
        push(ns, "made", json!({"secretStoreRefs": refs, "template": template, "data": [to("made", "made", "")]})).await?;
        pushed(ns, "made").await?;
        let keys = ["APP-A", "APP-B", "bundle", "made"];
        let data: Vec<Value> = keys.iter().map(|key| entry(key, json!({"key": key}))).collect();
        apply_external_secret(ns, "back", "fake", json!({"data": data})).await?;
        let bundle = r#"{"app-a":"1","app-b":"2"}"#;
        wait_data(ns, "back", &[("APP-A", "1"), ("APP-B", "2"), ("bundle", bundle), ("made", "3-1")]).await
    })
}
