//! What is pushed to a Key Vault on loopback and taken out of it: what is sent, and what is not.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::KeyVault;
use super::client::Client;
use super::conformance::{cluster, connect, cx, refused, store, vault};
use super::session::AzureSession;
use super::session_tests::{lines, secret};
use crate::generators::testing::cluster::{CANARY, redacted};
use crate::jwt::tests::key;
use crate::outbound::testing::{FakeServer, Pki, Reply};
use crate::providers::{CallCx, ErrorKind, Place, Push, Pushed, Session as _, Source};
use crate::secret_bytes::SecretBytes;

fn push(key: &str, value: &[u8], property: Option<&str>, spec: Option<Value>) -> Push {
    let data = BTreeMap::from([("pw".to_owned(), SecretBytes::new(value.to_vec()))]);
    let block = |spec| json!({ "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata", "spec": spec });
    let place =
        Place { key: key.into(), property: property.map(Into::into), metadata: spec.map(block), namespace: "team-a".into() };
    Push { source: Arc::new(Source { data, ..Source::default() }), secret_key: Some("pw".into()), place }
}

fn sent(server: &FakeServer, start: &str) -> Value {
    let found = server.received().into_iter().find(|r| r.line.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start}: {:?}", server.lines())).json()
}

/// A vault that has this object, and takes whatever is written.
async fn holding(pki: &Pki, object: Value) -> FakeServer {
    vault(pki, move |asked| match asked.line.starts_with("GET ") {
        true if object.is_null() => refused(404, "SecretNotFound", ""),
        true => Reply::json(200, &object),
        false => Reply::json(200, &json!({})),
    })
    .await
}

fn ours(value: &str) -> Value {
    json!({
        "value": value, "id": "https://v/secrets/db/0f", "contentType": "text/plain", "attributes": {"enabled": true},
        "tags": {"managed-by": "external-secrets", "theirs": "x"},
    })
}

/// The same, with a date.
fn dated(value: &str) -> Value {
    let mut object = ours(value);
    object["attributes"]["exp"] = json!(1_798_761_599);
    object
}

/// What was written, without where to.
fn written(server: &FakeServer) -> Vec<Value> {
    let writes = server.received().into_iter().filter(|asked| ["PUT", "PATCH"].contains(&asked.method()));
    writes.map(|asked| asked.json()).collect()
}

#[tokio::test]
async fn a_secret_is_set_as_the_block_says() {
    let pki = Pki::new();
    let server = holding(&pki, Value::Null).await;
    let session = connect(&server, &pki).await;
    let spec = json!({"expirationDate": "2026-12-31T23:59:59Z", "contentType": "text/x", "tags": {"team": "a"}});
    assert_eq!(
        session.push(&push("db", CANARY.as_bytes(), None, Some(spec)), &CallCx::default()).await,
        Ok(Pushed::Written)
    );
    let body = json!({
        "value": CANARY, "contentType": "text/x", "tags": {"managed-by": "external-secrets", "team": "a"},
        "attributes": {"enabled": true, "exp": 1798761599},
    });
    assert_eq!(sent(&server, "PUT /secrets/db?"), body);

    let server = holding(&pki, ours("old")).await;
    let session = connect(&server, &pki).await;
    session.push(&push("secret/db", "a\"b\n".as_bytes(), None, None), &CallCx::default()).await.unwrap();
    let put = sent(&server, "PUT /secrets/db?");
    assert_eq!((&put["value"], &put["contentType"]), (&json!("a\"b\n"), &json!("text/plain")), "the content type stays");
}

#[tokio::test]
async fn what_is_there_makes_no_new_version() {
    let pki = Pki::new();
    for (spec, changes) in [
        (None, None),
        (Some(json!({"contentType": "text/plain"})), None),
        (Some(json!({"tags": {"theirs": "x"}})), None),
        (
            Some(json!({"tags": {"team": "a"}})),
            Some(json!({"tags": {"managed-by": "external-secrets", "team": "a", "theirs": "x"}})),
        ),
        (
            Some(json!({"expirationDate": "2026-12-31T23:59:59Z", "contentType": "y"})),
            Some(json!({
                "tags": {"managed-by": "external-secrets", "theirs": "x"}, "attributes": {"exp": 1798761599}, "contentType": "y",
            })),
        ),
    ] {
        let server = holding(&pki, ours(CANARY)).await;
        let session = connect(&server, &pki).await;
        let pushed = session.push(&push("db", CANARY.as_bytes(), None, spec), &CallCx::default()).await.unwrap();
        match changes {
            None => {
                assert_eq!((pushed, lines(&server)), (Pushed::Unchanged, vec!["GET /secrets/db?api-version=7.4".to_owned()]))
            }
            Some(changes) => {
                assert_eq!(pushed, Pushed::Written);
                assert_eq!(sent(&server, "PATCH /secrets/db/0f?"), changes);
            }
        }
    }
}

/// A date goes with a new version only, which the older of ESO's clients makes for it. An entry of a property may have a neighbour
/// with a date.
#[tokio::test]
async fn a_date_that_is_no_longer_pushed_goes_as_the_client_does_it() {
    let pki = Pki::new();
    let value = r#"{"p":"v"}"#;
    let undated = json!({
        "value": value, "contentType": "text/plain", "attributes": {"enabled": true}, "tags": {"managed-by": "external-secrets"},
    });
    for (use_azure_sdk, property, pushed, writes) in [
        (None, None, value, vec![undated.clone()]),
        (Some(false), None, value, vec![undated]),
        (Some(true), None, value, vec![]),
        (None, Some("p"), "v", vec![]),
        (Some(true), Some("p"), "v", vec![]),
    ] {
        let server = holding(&pki, dated(value)).await;
        // not by way of `connect`, as the cloud of the test asks for the newer client
        let store = KeyVault { use_azure_sdk, ..store(&server) };
        let session = AzureSession { client: Client::open(&store, &cx(&cluster(), &pki)).await.unwrap() };
        let answer = if writes.is_empty() { Pushed::Unchanged } else { Pushed::Written };
        let push = push("db", pushed.as_bytes(), property, None);
        assert_eq!(session.push(&push, &CallCx::default()).await, Ok(answer), "{use_azure_sdk:?} {property:?}");
        assert_eq!(written(&server), writes, "{use_azure_sdk:?} {property:?}");
    }
}

/// A new version has nothing of the one before it.
#[tokio::test]
async fn what_entries_of_other_properties_set_stays() {
    let pki = Pki::new();
    let block = json!({"expirationDate": "2027-01-01T00:00:00Z", "tags": {"theirs": "y", "team": "b"}});
    for (property, spec, value, exp, tags) in [
        (Some("pw"), None, r#"{"user":"u","pw":"new"}"#, Some(1_798_761_599), json!({"theirs": "x"})),
        (
            Some("pw"),
            Some(block.clone()),
            r#"{"user":"u","pw":"new"}"#,
            Some(1_798_761_600),
            json!({"theirs": "y", "team": "b"}),
        ),
        (None, None, "new", None, json!({})),
    ] {
        let server = holding(&pki, dated(r#"{"user":"u","pw":"old"}"#)).await;
        let push = push("db", b"new", property, spec);
        let pushed = connect(&server, &pki).await.push(&push, &CallCx::default()).await;
        assert_eq!(pushed, Ok(Pushed::Written), "{property:?}");
        let mut body = json!({"value": value, "contentType": "text/plain", "attributes": {"enabled": true}, "tags": tags});
        body["tags"]["managed-by"] = json!("external-secrets");
        if let Some(exp) = exp {
            body["attributes"]["exp"] = json!(exp);
        }
        assert_eq!(written(&server), [body], "{property:?}");
    }

    let server = holding(&pki, dated(r#"{"user":"u","pw":"old"}"#)).await;
    let place = push("db", b"old", Some("pw"), Some(block)).place;
    assert_eq!(connect(&server, &pki).await.delete(&place, &CallCx::default()).await, Ok(()));
    let mut left = dated(r#"{"user":"u"}"#);
    left.as_object_mut().unwrap().remove("id");
    assert_eq!(written(&server), [left]);
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let pki = Pki::new();
    let server = holding(&pki, json!({"value": "theirs", "tags": {"managed-by": "terraform"}})).await;
    let session = connect(&server, &pki).await;
    for key in ["db", "key/db", "cert/db"] {
        let error = session.push(&push(key, b"x", None, None), &CallCx::default()).await.unwrap_err();
        assert_eq!((error.kind, error.detail), (ErrorKind::Denied, format!("{key} not managed by external-secrets")));
        assert_eq!(session.delete(&push(key, b"x", None, None).place, &CallCx::default()).await, Ok(()));
    }
    assert!(lines(&server).iter().all(|line| line.starts_with("GET ")), "{:?}", lines(&server));
}

#[tokio::test]
async fn a_deleted_secret_of_ours_is_recovered_first() {
    let pki = Pki::new();
    let recovered = Arc::new(AtomicUsize::new(0));
    for (owner, expected) in [("external-secrets", Ok(Pushed::Written)), ("terraform", Err(ErrorKind::Denied))] {
        recovered.store(0, Ordering::SeqCst);
        let done = recovered.clone();
        let server = vault(&pki, move |asked| {
            let is_there = done.load(Ordering::SeqCst) > 0;
            match asked.line.split('?').next().unwrap() {
                "GET /secrets/db" if is_there => Reply::json(200, &ours("old")),
                "GET /secrets/db" => refused(404, "SecretNotFound", ""),
                "PUT /secrets/db" if is_there => secret(CANARY),
                "PUT /secrets/db" => refused(409, "Conflict", "ObjectIsDeletedButRecoverable"),
                "GET /deletedsecrets/db" => Reply::json(200, &json!({"tags": {"managed-by": owner}})),
                "POST /deletedsecrets/db/recover" => {
                    done.store(1, Ordering::SeqCst);
                    Reply::json(200, &json!({}))
                }
                other => panic!("{other}"),
            }
        })
        .await;
        let session = connect(&server, &pki).await;
        let pushed = session.push(&push("db", CANARY.as_bytes(), None, None), &CallCx::default()).await;
        assert_eq!(pushed.map_err(|e| e.kind), expected);
        assert_eq!(recovered.load(Ordering::SeqCst), usize::from(owner == "external-secrets"));
    }
}

/// Lets the pauses between looks at a secret pass, each once a look was taken.
async fn skip_pauses(server: &FakeServer) {
    let mut seen = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let looks = lines(server).iter().filter(|line| line.starts_with("GET /secrets/")).count();
        if looks > seen {
            seen = looks;
            tokio::time::pause();
            tokio::time::advance(Duration::from_millis(1500)).await;
            tokio::time::resume();
        }
    }
}

/// The vault is there: what it still recovers must not close the store for all its other secrets.
#[tokio::test]
async fn a_recovery_that_takes_long_fails_that_secret_alone() {
    let pki = Pki::new();
    let server = vault(&pki, |asked| match asked.line.split('?').next().unwrap() {
        "GET /secrets/db" => refused(404, "SecretNotFound", ""),
        "PUT /secrets/db" => refused(409, "Conflict", "ObjectIsDeletedButRecoverable"),
        "GET /deletedsecrets/db" => Reply::json(200, &json!({"tags": {"managed-by": "external-secrets"}})),
        "POST /deletedsecrets/db/recover" => Reply::json(200, &json!({})),
        other => panic!("{other}"),
    })
    .await;
    let session = connect(&server, &pki).await;
    let (push, call) = (push("db", CANARY.as_bytes(), None, None), CallCx::default());
    let error = tokio::select! {
        pushed = session.push(&push, &call) => redacted(pushed),
        () = skip_pauses(&server) => panic!("it looks for ever"),
    };
    assert_eq!((error.kind, error.retry_after), (ErrorKind::Conflict, Some(Duration::from_secs(9))), "{error}");
    let asked: Vec<String> = lines(&server).into_iter().map(|line| line.split('?').next().unwrap().to_owned()).collect();
    let start = ["GET /secrets/db", "PUT /secrets/db", "GET /deletedsecrets/db", "POST /deletedsecrets/db/recover"];
    assert_eq!(asked, [&start[..], &["GET /secrets/db"; 6]].concat());
}

#[tokio::test]
async fn a_private_key_is_imported_as_a_jwk() {
    let pki = Pki::new();
    let (pem, _) = key();
    let server = holding(&pki, Value::Null).await;
    let session = connect(&server, &pki).await;
    assert_eq!(session.push(&push("key/k", pem.as_bytes(), None, None), &CallCx::default()).await, Ok(Pushed::Written));
    let made = sent(&server, "PUT /keys/k?");
    assert_eq!(made["tags"], json!({"managed-by": "external-secrets"}));
    let names: Vec<&String> = made["key"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["d", "dp", "dq", "e", "kty", "n", "p", "q", "qi"]);
    assert_eq!((&made["key"]["kty"], &made["key"]["e"]), (&json!("RSA"), &json!("AQAB")));

    // The vault shows the public half; numbers may have zeroes in front.
    let n = URL_SAFE_NO_PAD.decode(made["key"]["n"].as_str().unwrap()).unwrap();
    let n = URL_SAFE_NO_PAD.encode([&[0], n.as_slice()].concat());
    for (held, expected) in [(n.as_str(), Pushed::Unchanged), ("AQ", Pushed::Written)] {
        let jwk = json!({"kid": "https://v/keys/k/1", "kty": "RSA-HSM", "n": held, "e": "AQAB", "key_ops": ["sign"]});
        let server = holding(&pki, json!({"key": jwk, "tags": {"managed-by": "external-secrets"}})).await;
        let pushed = connect(&server, &pki).await.push(&push("key/k", pem.as_bytes(), None, None), &CallCx::default()).await;
        assert_eq!(pushed, Ok(expected));
    }

    let (_, ec) = pki.issue("ec");
    let server = holding(&pki, Value::Null).await;
    let session = connect(&server, &pki).await;
    session.push(&push("key/k", ec.as_bytes(), None, None), &CallCx::default()).await.unwrap();
    let made = sent(&server, "PUT /keys/k?");
    assert_eq!((&made["key"]["kty"], &made["key"]["crv"]), (&json!("EC"), &json!("P-256")));
    for part in ["x", "y", "d"] {
        assert_eq!(URL_SAFE_NO_PAD.decode(made["key"][part].as_str().unwrap()).unwrap().len(), 32, "{part}");
    }
    let error = redacted(session.push(&push("key/k", CANARY.as_bytes(), None, None), &CallCx::default()).await);
    assert!(error.detail.starts_with("could not load private key key/k"), "{error}");
    let error = redacted(session.push(&push("key/k", pem.as_bytes(), Some("x"), None), &CallCx::default()).await);
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_certificate_is_imported_and_compared() {
    let pki = Pki::new();
    let (certificate, private) = pki.issue("app.test");
    let bundle = format!("{private}{certificate}");
    let server = holding(&pki, Value::Null).await;
    let session = connect(&server, &pki).await;
    let spec = json!({"tags": {"team": "a"}});
    session.push(&push("cert/c", bundle.as_bytes(), None, Some(spec)), &CallCx::default()).await.unwrap();
    let body = json!({
        "value": bundle, "tags": {"managed-by": "external-secrets", "team": "a"},
        "policy": {"secret_props": {"contentType": "application/x-pem-file"}},
    });
    assert_eq!(sent(&server, "POST /certificates/c/import?"), body);

    let der = crate::render::template::crypto::leaf_certificate(bundle.as_bytes()).unwrap();
    let held = json!({"cer": STANDARD.encode(&der), "tags": {"managed-by": "external-secrets"}});
    let server = holding(&pki, held).await;
    let session = connect(&server, &pki).await;
    assert_eq!(
        session.push(&push("cert/c", bundle.as_bytes(), None, None), &CallCx::default()).await,
        Ok(Pushed::Unchanged)
    );
    assert_eq!(session.push(&push("cert/c", &der, None, None), &CallCx::default()).await, Ok(Pushed::Unchanged));
    let error = redacted(session.push(&push("cert/c", CANARY.as_bytes(), None, None), &CallCx::default()).await);
    assert!(error.detail.starts_with("value from secret is not a valid certificate"), "{error}");
}

#[tokio::test]
async fn a_push_that_makes_no_sense_is_told_of() {
    let pki = Pki::new();
    let server = holding(&pki, Value::Null).await;
    let session = connect(&server, &pki).await;
    for (push, part) in [
        (push("db", b"x", None, Some(json!({"nosuch": 1}))), "failed to parse push secret metadata: "),
        (
            push("db", b"x", None, Some(json!({"tags": {"managed-by": "me"}}))),
            "error parsing tags in metadata: Cannot specify",
        ),
        (push("db", b"x", None, Some(json!({"expirationDate": "tomorrow"}))), "error parsing expiration date in metadata"),
        (push("db", b"\xff\xfe", None, None), "\"db\": a vault's secrets are UTF-8 text"),
        (push("other/db", b"x", None, None), "unknown Azure Keyvault object Type"),
    ] {
        let error = redacted(session.push(&push, &CallCx::default()).await);
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.starts_with(part), "{error}");
    }
    assert!(server.lines().iter().all(|line| !line.starts_with("PUT")));
}

#[tokio::test]
async fn deletions_and_looks_are_for_each_kind() {
    let pki = Pki::new();
    for (key, path) in [("db", "secrets/db"), ("key/db", "keys/db"), ("cert/db", "certificates/db")] {
        let server = holding(&pki, json!({"tags": {"managed-by": "external-secrets"}})).await;
        let session = connect(&server, &pki).await;
        let place = push(key, b"x", None, None).place;
        assert_eq!(session.exists(&place, &CallCx::default()).await, Ok(true));
        assert_eq!(session.delete(&place, &CallCx::default()).await, Ok(()));
        assert_eq!(lines(&server)[2], format!("DELETE /{path}?api-version=7.4"));
    }
}
