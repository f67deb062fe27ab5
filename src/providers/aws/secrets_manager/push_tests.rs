//! Pushes to a Secrets Manager on loopback: what is sent, and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::providers::aws::testing::{Answer, KEY_ID, Request, SECRET_KEY, Server, call_cx, object, store};
use crate::providers::aws::{Aws, SecretsManagerOptions};
use crate::providers::{ErrorKind, Place, Push, Pushed, Source};
use crate::secret_bytes::SecretBytes;

const CANARY: &str = "canary-push-value";

fn place(property: Option<&str>, spec: Option<Value>) -> Place {
    let block = |spec| json!({ "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata", "spec": spec });
    Place { key: "db".into(), property: property.map(Into::into), metadata: spec.map(block), namespace: "team-a".into() }
}

fn push(property: Option<&str>, spec: Option<Value>) -> Push {
    let data = BTreeMap::from([("pw".to_owned(), SecretBytes::from(CANARY))]);
    let source = Arc::new(Source { data, ..Source::default() });
    Push { source, secret_key: Some("pw".into()), place: place(property, spec) }
}

/// A secret with a value and tags, and an empty answer to all else.
fn holding(value: &'static str, tags: Value) -> impl Fn(&Request) -> Answer + Clone + Send + Sync + 'static {
    move |request| match request.action().as_str() {
        "DescribeSecret" => Answer::json(&json!({
            "Name": "db", "Tags": tags, "VersionIdsToStages": {"1": ["AWSCURRENT"]}, "KmsKeyId": "k",
            "ReplicationStatus": [{"Region": "eu-west-2"}],
        })),
        "GetSecretValue" => Answer::json(&json!({"Name": "db", "SecretString": value})),
        "GetResourcePolicy" => Answer::json(&json!({"ResourcePolicy": "{\"a\": 1}"})),
        "/api/v1/namespaces/team-a/configmaps/policies" => {
            object("ConfigMap", &BTreeMap::new(), &json!({"data": {"p": "{\"a\":1}"}}))
        }
        _ => Answer::json(&json!({})),
    }
}

fn ours() -> Value {
    json!([{"Key": "managed-by", "Value": "external-secrets"}, {"Key": "old", "Value": "x"}])
}

#[tokio::test]
async fn a_new_secret_is_made_as_eso_makes_it() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "DescribeSecret" => Answer::error(400, "ResourceNotFoundException"),
        _ => Answer::json(&json!({})),
    })
    .await;
    let session = server.session().await;
    assert_eq!(session.push(&push(None, None), &call_cx()).await, Ok(Pushed::Written));
    let made = server.sent("CreateSecret");
    assert_eq!(made["SecretBinary"], STANDARD.encode(CANARY));
    assert_eq!(made["ClientRequestToken"], "00000000-0000-0000-0000-000000000001");
    assert_eq!(made["Description"], "secret 'managed-by:external-secrets'");
    assert_eq!(made["KmsKeyId"], "alias/aws/secretsmanager");
    assert_eq!(made["Tags"], json!([{"Key": "managed-by", "Value": "external-secrets"}]));
    let spec = json!({
        "tags": {"team": "a"}, "description": "d", "secretPushFormat": "string", "kmsKeyId": "k",
        "replicationLocations": ["eu-west-2"],
    });
    session.push(&push(Some("a.b"), Some(spec)), &call_cx()).await.unwrap();
    let made = server.seen().iter().rfind(|r| r.action() == "CreateSecret").unwrap().json();
    assert_eq!(made["SecretString"], format!("{{\"a\":{{\"b\":\"{CANARY}\"}}}}"));
    assert_eq!((&made["Description"], &made["KmsKeyId"]), (&json!("d"), &json!("k")));
    assert_eq!(made["AddReplicaRegions"], json!([{"Region": "eu-west-2", "KmsKeyId": "k"}]));
    assert_eq!(made["Tags"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_is_there_makes_no_new_version() {
    let server = Server::start(holding(CANARY, ours())).await;
    let session = server.session().await;
    assert_eq!(session.push(&push(None, None), &call_cx()).await, Ok(Pushed::Unchanged));
    assert_eq!(server.actions(), ["DescribeSecret", "GetSecretValue"]);
}

#[tokio::test]
async fn a_property_is_set_beside_the_others() {
    let server = Server::start(holding("{\"keep\": 1.50, \"pw\": \"old\"}", ours())).await;
    let session = server.session().await;
    assert_eq!(session.push(&push(Some("pw"), None), &call_cx()).await, Ok(Pushed::Written));
    let put = server.sent("PutSecretValue");
    let value = STANDARD.decode(put["SecretBinary"].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(value).unwrap(), format!("{{\"keep\": 1.50, \"pw\": \"{CANARY}\"}}"));
}

#[tokio::test]
async fn tags_policy_and_replicas_follow_the_block() {
    let server = Server::start(holding(CANARY, ours())).await;
    let session = server.session().await;
    let policy =
        |name: &str| json!({"policySourceRef": {"kind": "ConfigMap", "name": name, "key": "p"}, "blockPublicPolicy": true});
    let spec = json!({"tags": {"new": "n"}, "replicationLocations": ["eu-north-1"], "resourcePolicy": policy("policies")});
    assert_eq!(session.push(&push(None, Some(spec)), &call_cx()).await, Ok(Pushed::Written));
    assert_eq!(server.sent("UntagResource")["TagKeys"], json!(["old"]));
    assert_eq!(server.sent("TagResource")["Tags"], json!([{"Key": "new", "Value": "n"}]));
    assert_eq!(server.sent("RemoveRegionsFromReplication")["RemoveReplicaRegions"], json!(["eu-west-2"]));
    assert_eq!(
        server.sent("ReplicateSecretToRegions")["AddReplicaRegions"],
        json!([{"Region": "eu-north-1", "KmsKeyId": "k"}])
    );
    let actions = server.actions();
    assert!(!actions.contains(&"PutResourcePolicy".to_owned()), "the policy is the same JSON: {actions:?}");
    assert!(!actions.contains(&"PutSecretValue".to_owned()), "{actions:?}");
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let server = Server::start(holding("theirs", json!([{"Key": "managed-by", "Value": "terraform"}]))).await;
    let session = server.session().await;
    let error = session.push(&push(None, None), &call_cx()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Denied, "secret not managed by external-secrets"));
    assert_eq!(session.delete(&place(None, None), &call_cx()).await, Ok(()));
    assert!(server.actions().iter().all(|a| a == "DescribeSecret"), "{:?}", server.actions());
}

#[tokio::test]
async fn a_block_that_makes_no_sense_is_told_of() {
    let server = Server::start(holding("x", ours())).await;
    let session = server.session().await;
    for (spec, text) in [
        (json!({"nosuch": 1}), "failed to parse push secret metadata: failed to parse metadata: failed to parse"),
        (json!({"secretPushFormat": "xml"}), "failed to parse push secret metadata: invalid secret push format: xml"),
        (
            json!({"tags": {"managed-by": "me"}}),
            "failed to parse push secret metadata: error parsing tags in metadata: Cannot specify a 'managed-by' tag",
        ),
    ] {
        let error = session.push(&push(None, Some(spec)), &call_cx()).await.unwrap_err();
        assert!(error.detail.starts_with(text), "{error}");
    }
    assert!(server.actions().is_empty());
}

#[tokio::test]
async fn replicas_go_before_the_secret_and_the_store_says_how() {
    for (options, expected) in [
        (SecretsManagerOptions::default(), (Value::Null, Value::Null)),
        (
            SecretsManagerOptions { force_delete_without_recovery: Some(true), ..SecretsManagerOptions::default() },
            (json!(true), Value::Null),
        ),
        (
            SecretsManagerOptions { recovery_window_in_days: Some(7), ..SecretsManagerOptions::default() },
            (Value::Null, json!(7)),
        ),
    ] {
        let server = Server::start(holding(CANARY, ours())).await;
        let session = server.connect(Aws { secrets_manager: Some(options), ..store() }).await.unwrap();
        assert_eq!(session.delete(&place(None, None), &call_cx()).await, Ok(()));
        assert_eq!(server.actions(), ["DescribeSecret", "RemoveRegionsFromReplication", "DeleteSecret"]);
        let sent = server.sent("DeleteSecret");
        assert_eq!((sent["ForceDeleteWithoutRecovery"].clone(), sent["RecoveryWindowInDays"].clone()), expected);
    }
}

#[tokio::test]
async fn a_refusal_shows_neither_the_value_nor_the_login() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "DescribeSecret" => Answer::error(400, "ResourceNotFoundException"),
        _ => Answer::raw(
            400,
            &json!({"__type": "AccessDeniedException", "Message": format!("no {KEY_ID} {SECRET_KEY}")}).to_string(),
        ),
    })
    .await;
    let session = server.session().await;
    let error = session.push(&push(None, None), &call_cx()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    let text = format!("{error} {error:?}");
    assert!(text.contains("secretsmanager:CreateSecret") && text.contains("\"db\""), "{text}");
    assert!(![CANARY, KEY_ID, SECRET_KEY].iter().any(|s| text.contains(s)), "{text}");
}

/// A value that was generated must not be revoked because of what stands beside it: it is in the store.
#[tokio::test]
async fn what_fails_after_the_value_was_written_says_that_it_is_there() {
    let policy =
        |name: &str| json!({"resourcePolicy": {"policySourceRef": {"kind": "ConfigMap", "name": name, "key": "p"}}});
    let new = holding(CANARY, ours());
    let server = Server::start(move |request: &Request| match request.action().as_str() {
        "DescribeSecret" => Answer::error(400, "ResourceNotFoundException"),
        "PutResourcePolicy" => Answer::error(400, "AccessDeniedException"),
        _ => new(request),
    })
    .await;
    let session = server.session().await;
    let missing = session.push(&push(None, Some(policy("nosuch"))), &call_cx()).await.unwrap_err();
    assert!(!missing.written && !server.actions().contains(&"CreateSecret".to_owned()), "{:?}", server.actions());
    let refused = session.push(&push(None, Some(policy("policies"))), &call_cx()).await.unwrap_err();
    assert_eq!((refused.kind, refused.written), (ErrorKind::Denied, true));
    assert!(server.actions().contains(&"CreateSecret".to_owned()), "{:?}", server.actions());

    for (held, written) in [(CANARY, true), ("other", false)] {
        let old = holding(held, ours());
        let server = Server::start(move |request: &Request| match request.action().as_str() {
            "TagResource" => Answer::error(400, "AccessDeniedException"),
            _ => old(request),
        })
        .await;
        let push = push(None, Some(json!({"tags": {"new": "n"}})));
        let refused = server.session().await.push(&push, &call_cx()).await.unwrap_err();
        assert_eq!((refused.kind, refused.written), (ErrorKind::Denied, written));
    }
}
