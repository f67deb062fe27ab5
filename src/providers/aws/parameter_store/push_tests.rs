//! Pushes to a Parameter Store on loopback: what is sent, and what is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::providers::aws::Service;
use crate::providers::aws::testing::{Answer, KEY_ID, Request, SECRET_KEY, Server, call_cx};
use crate::providers::{ErrorKind, Place, Push, Pushed, Session, Source};
use crate::secret_bytes::SecretBytes;

const CANARY: &str = "c4n";

fn place(property: Option<&str>, spec: Option<Value>) -> Place {
    let block = |spec| json!({ "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata", "spec": spec });
    Place { key: "/db".into(), property: property.map(Into::into), metadata: spec.map(block), namespace: "team-a".into() }
}

fn push(secret_key: Option<&str>, property: Option<&str>, spec: Option<Value>) -> Push {
    let data =
        BTreeMap::from([("pw".to_owned(), SecretBytes::from(CANARY)), ("bin".to_owned(), SecretBytes::new(vec![0xff]))]);
    let source = Arc::new(Source { data, ..Source::default() });
    Push { source, secret_key: secret_key.map(Into::into), place: place(property, spec) }
}

fn pw(property: Option<&str>, spec: Option<Value>) -> Push {
    push(Some("pw"), property, spec)
}

/// A parameter with a value and tags, and an empty answer to all else.
fn holding(value: &'static str, tags: Value) -> impl Fn(&Request) -> Answer + Clone + Send + Sync + 'static {
    move |request| match request.action().as_str() {
        "GetParameter" => Answer::json(&json!({"Parameter": {"Name": "/db", "Value": value, "Type": "SecureString"}})),
        "ListTagsForResource" => Answer::json(&json!({"TagList": tags})),
        _ => Answer::json(&json!({"Version": 2})),
    }
}

fn empty(request: &Request) -> Answer {
    match request.action().as_str() {
        "GetParameter" => Answer::error(400, "ParameterNotFound"),
        _ => Answer::json(&json!({"Version": 1})),
    }
}

fn ours() -> Value {
    json!([{"Key": "managed-by", "Value": "external-secrets"}, {"Key": "old", "Value": "x"}])
}

async fn session(server: &Server) -> Arc<dyn Session> {
    server.session_of(Service::ParameterStore).await
}

#[tokio::test]
async fn a_new_parameter_is_made_as_eso_makes_it() {
    let server = Server::start(empty).await;
    let session = session(&server).await;
    assert_eq!(session.push(&pw(None, None), &call_cx()).await, Ok(Pushed::Written));
    assert_eq!(
        server.sent("PutParameter"),
        json!({
            "Name": "/db", "Value": CANARY, "Type": "String", "Overwrite": false,
            "Description": "secret 'managed-by:external-secrets'",
            "Tags": [{"Key": "managed-by", "Value": "external-secrets"}],
        })
    );
    let spec = json!({
        "secretType": "SecureString", "kmsKeyID": "k", "description": "d", "tags": {"team": "a"},
        "tier": {"type": "Advanced", "policies": [{"Type": "Expiration", "Version": "1.0"}]},
    });
    session.push(&pw(Some("a.b"), Some(spec)), &call_cx()).await.unwrap();
    let made = server.seen().iter().rfind(|r| r.action() == "PutParameter").unwrap().json();
    assert_eq!(made["Value"], format!("{{\"a\":{{\"b\":\"{CANARY}\"}}}}"));
    assert_eq!((&made["Type"], &made["KeyId"], &made["Description"]), (&json!("SecureString"), &json!("k"), &json!("d")));
    assert_eq!(made["Tier"], "Advanced");
    assert_eq!(made["Policies"], r#"[{"Type":"Expiration","Version":"1.0"}]"#);
    assert_eq!(made["Tags"].as_array().unwrap().len(), 2);
    session.push(&pw(None, Some(json!({"secretType": "SecureString"}))), &call_cx()).await.unwrap();
    let made = server.seen().iter().rfind(|r| r.action() == "PutParameter").unwrap().json();
    assert_eq!(made["KeyId"], "alias/aws/ssm");
}

#[tokio::test]
async fn a_whole_secret_is_base64_unless_the_block_says_otherwise() {
    let server = Server::start(empty).await;
    let session = session(&server).await;
    session.push(&push(None, None, None), &call_cx()).await.unwrap();
    assert_eq!(server.sent("PutParameter")["Value"], r#"{"bin":"/w==","pw":"YzRu"}"#);
    let mut decoded = push(None, None, Some(json!({"encodeAsDecoded": true})));
    let data = BTreeMap::from([("pw".to_owned(), SecretBytes::from("a<b"))]);
    decoded.source = Arc::new(Source { data, ..Source::default() });
    session.push(&decoded, &call_cx()).await.unwrap();
    let sent = server.seen().iter().rfind(|r| r.action() == "PutParameter").unwrap().json();
    assert_eq!(sent["Value"], r#"{"pw":"a<b"}"#);
}

#[tokio::test]
async fn what_is_there_makes_no_new_version() {
    let server = Server::start(holding(CANARY, ours())).await;
    assert_eq!(session(&server).await.push(&pw(None, None), &call_cx()).await, Ok(Pushed::Unchanged));
    assert_eq!(server.actions(), ["GetParameter", "ListTagsForResource"]);
    assert_eq!(server.sent("GetParameter")["WithDecryption"], true);
}

#[tokio::test]
async fn a_property_is_set_beside_the_others_and_tags_follow() {
    let server = Server::start(holding("{\"keep\": 1.50, \"pw\": \"old\"}", ours())).await;
    let spec = json!({"tags": {"new": "n"}});
    assert_eq!(session(&server).await.push(&pw(Some("pw"), Some(spec)), &call_cx()).await, Ok(Pushed::Written));
    let put = server.sent("PutParameter");
    assert_eq!(put["Value"], format!("{{\"keep\": 1.50, \"pw\": \"{CANARY}\"}}"));
    assert_eq!((&put["Overwrite"], &put["Tags"]), (&json!(true), &Value::Null), "AWS does not take both");
    assert_eq!(server.sent("RemoveTagsFromResource")["TagKeys"], json!(["old"]));
    assert_eq!(server.sent("AddTagsToResource")["Tags"], json!([{"Key": "new", "Value": "n"}]));
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let server = Server::start(holding("theirs", json!([{"Key": "managed-by", "Value": "terraform"}]))).await;
    let session = session(&server).await;
    let error = session.push(&pw(None, None), &call_cx()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Denied, "secret not managed by external-secrets"));
    assert_eq!(session.delete(&place(None, None), &call_cx()).await, Ok(()));
    assert!(server.actions().iter().all(|a| a == "GetParameter" || a == "ListTagsForResource"), "{:?}", server.actions());
}

#[tokio::test]
async fn the_last_property_takes_the_parameter_along() {
    let server = Server::start(holding("{\"a\": 1, \"b\": 2}", ours())).await;
    session(&server).await.delete(&place(Some("a"), None), &call_cx()).await.unwrap();
    let put = server.sent("PutParameter");
    assert_eq!((put["Value"].as_str().map(|v| v.contains("\"b\"")), &put["Type"]), (Some(true), &json!("SecureString")));
    let server = Server::start(holding("{\"a\": 1}", ours())).await;
    session(&server).await.delete(&place(Some("a"), None), &call_cx()).await.unwrap();
    assert_eq!(server.sent("DeleteParameter"), json!({"Name": "/db"}));
    let server = Server::start(holding("{\"a\": 1}", ours())).await;
    session(&server).await.delete(&place(Some("b"), None), &call_cx()).await.unwrap();
    assert_eq!(server.actions(), ["GetParameter", "ListTagsForResource"]);
}

#[tokio::test]
async fn a_block_that_makes_no_sense_is_told_of() {
    let server = Server::start(holding("x", ours())).await;
    let session = session(&server).await;
    for (spec, text) in [
        (json!({"nosuch": 1}), "failed to parse metadata: failed to parse"),
        (json!({"tier": {"nosuch": 1}}), "failed to parse metadata: failed to parse"),
        (
            json!({"secretType": "Secret"}),
            "metadata.spec.secretType: \"Secret\" is none of String, StringList, SecureString",
        ),
        (json!({"tier": {"type": "Golden"}}), "metadata.spec.tier.type: \"Golden\" is none of"),
        (json!({"tags": {"managed-by": "me"}}), "error parsing tags in metadata: Cannot specify a 'managed-by' tag"),
    ] {
        let error = session.push(&pw(None, Some(spec)), &call_cx()).await.unwrap_err();
        assert!(error.detail.starts_with(text), "{error}");
        assert_eq!(error.kind, ErrorKind::Misconfigured);
    }
    assert!(server.actions().is_empty());
    let error = session.push(&push(Some("bin"), None, None), &call_cx()).await.unwrap_err();
    assert!(error.detail.contains("keeps text only"), "{error}");
}

/// AWS's validation may quote what it does not like: a short value too must not get into the error.
#[tokio::test]
async fn a_refusal_shows_neither_the_value_nor_the_login() {
    for (code, kind, text) in [
        ("AccessDeniedException", ErrorKind::Denied, "ssm:PutParameter on \"/db\": AccessDeniedException: told"),
        ("ValidationException", ErrorKind::Misconfigured, "values have 1 to 4096 characters"),
        ("ParameterAlreadyExists", ErrorKind::Conflict, "somebody else made it"),
        ("HierarchyTypeMismatchException", ErrorKind::Misconfigured, "the type of a parameter cannot be changed"),
    ] {
        let server = Server::start(move |request: &Request| match request.action().as_str() {
            "GetParameter" => Answer::error(400, "ParameterNotFound"),
            _ if code == "AccessDeniedException" => Answer::error(400, code),
            _ => Answer::raw(400, &json!({"__type": code, "message": format!("Value '{CANARY}' at 'value'")}).to_string()),
        })
        .await;
        let error = session(&server).await.push(&pw(None, None), &call_cx()).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert_eq!(error.kind, kind);
        assert!(shown.contains(text.split('"').next().unwrap()), "{shown}");
        assert!(![CANARY, KEY_ID, SECRET_KEY].iter().any(|s| shown.contains(s)), "{shown}");
    }
}
