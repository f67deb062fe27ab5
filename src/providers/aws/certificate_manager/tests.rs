//! Exports and imports against a Certificate Manager on loopback, which boto3 proves (`e2e/tests/suite/aws/certificate_manager.rs`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use keyferry_fakes::acm::{Acm, Held, action};
use keyferry_fakes::{Refusal, Service as Running};
use serde_json::{Value, json};

use crate::api::external_secret::MetadataPolicy;
use crate::providers::aws::testing::{call_cx, cx_at, query, store, want};
use crate::providers::aws::{Aws, Service};
use crate::providers::conformance::{self, Check, Fixture, World};
use crate::providers::{ErrorKind, Place, Provider, ProviderError, Push, Pushed, Session, Source, Want};
use crate::secret_bytes::SecretBytes;

const EC: &str = include_str!("../../../../e2e/oracles/testdata/prime256v1-pkcs8.pem");
const RSA: &str = include_str!("../../../../e2e/oracles/testdata/rsa2048-pkcs8.pem");
const LEAF: &str = include_str!("../../../../e2e/oracles/testdata/leaf.crt.pem");
const MID: &str = include_str!("../../../../e2e/oracles/testdata/mid.crt.pem");
const ROOT: &str = include_str!("../../../../e2e/oracles/testdata/root.crt.pem");
const OTHER: &str = include_str!("../../../../e2e/oracles/testdata/other.crt.pem");

fn certificates() -> Aws {
    Aws { service: Service::CertificateManager, ..store() }
}

async fn acm() -> Running<Acm> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Running::start(Acm::default()).await
}

async fn session(acm: &Running<Acm>) -> Arc<dyn Session> {
    certificates().connect(&cx_at(acm.url())).await.unwrap()
}

fn actions(acm: &Running<Acm>) -> Vec<String> {
    acm.server.received().iter().map(|asked| action(asked).to_owned()).collect()
}

fn exportable(key: &str) -> Held {
    Held {
        certificate: LEAF.into(),
        chain: format!("{MID}{ROOT}"),
        key: key.into(),
        exportable: true,
        kind: "AMAZON_ISSUED",
        ..Held::default()
    }
}

async fn read(session: &Arc<dyn Session>, arn: &str) -> Result<String, ProviderError> {
    let got = session.get(&[want(arn)], &call_cx()).await.remove(0)?;
    Ok(got.bytes.expose_str().unwrap().to_owned())
}

/// PEM without blanks at its end.
fn bundle(parts: &[&str]) -> String {
    parts.iter().map(|part| format!("{}\n", part.trim_end())).collect()
}

#[tokio::test]
async fn a_certificate_comes_with_its_chain_and_its_key() {
    let acm = acm().await;
    let session = session(&acm).await;
    for (name, key) in [("ec", EC), ("rsa", RSA)] {
        let arn = acm.fake.hold(name, exportable(key));
        assert_eq!(read(&session, &arn).await.unwrap(), bundle(&[LEAF, MID, ROOT, key]), "{name}");
    }
    let private =
        acm.fake.hold("private", Held { exportable: false, kind: "PRIVATE", chain: String::new(), ..exportable(EC) });
    assert_eq!(read(&session, &private).await.unwrap(), bundle(&[LEAF, EC]));
    let received = acm.server.received();
    let exports: Vec<_> = received.iter().filter(|asked| action(asked) == "ExportCertificate").collect();
    let passphrases: Vec<_> = exports.iter().map(|asked| asked.json()["Passphrase"].clone()).collect();
    assert!(passphrases[0] != passphrases[1] && passphrases[1] != passphrases[2], "each is used once");
    assert!(received[0].header("user-agent").ends_with(" keyferry-cause/ExternalSecret/team-a/app keyferry-call/c0ffee"));
    assert_eq!(certificates().metric_name(), "AWS/CertificateManager");
}

#[tokio::test]
async fn an_export_is_made_once_for_a_certificate() {
    let acm = acm().await;
    let session = session(&acm).await;
    let arn = acm.fake.hold("a", exportable(EC));
    for _ in 0..3 {
        read(&session, &arn).await.unwrap();
    }
    assert_eq!(
        actions(&acm),
        ["GetCertificate", "DescribeCertificate", "ExportCertificate", "GetCertificate", "GetCertificate"]
    );
    acm.fake.change(&arn, |held| {
        held.certificate = OTHER.into();
        held.key = RSA.into();
    });
    assert_eq!(read(&session, &arn).await.unwrap(), bundle(&[OTHER, MID, ROOT, RSA]), "a renewal is exported anew");
    acm.fake.remove(&arn);
    assert_eq!(read(&session, &arn).await.unwrap_err().kind, ErrorKind::NotFound, "what is gone is not given from memory");
}

#[tokio::test]
async fn what_cannot_be_exported_is_told() {
    let acm = acm().await;
    let session = session(&acm).await;
    let arn = acm.fake.hold("a", Held { exportable: false, ..exportable(EC) });
    let error = read(&session, &arn).await.unwrap_err();
    let text = format!("certificate {arn} is not exportable (Options.Export is not ENABLED)");
    assert_eq!((error.kind, error.detail), (ErrorKind::Misconfigured, text));
    assert!(!actions(&acm).contains(&"ExportCertificate".to_owned()));
    let broken = acm.fake.hold("b", exportable("-----BEGIN PRIVATE KEY-----\nYzRuNHJ5\n-----END PRIVATE KEY-----\n"));
    let error = read(&session, &broken).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(!error.detail.contains("c4n4ry") && !error.detail.contains("YzRu"), "{error}");
}

#[tokio::test]
async fn tags_are_read_and_versions_searches_and_parts_are_not() {
    let acm = acm().await;
    let session = session(&acm).await;
    let tags = BTreeMap::from([("b".to_owned(), "2".to_owned()), ("a".to_owned(), "1".to_owned())]);
    let arn = acm.fake.hold("a", Held { tags, ..exportable(EC) });
    let wants = [Want { metadata: MetadataPolicy::Fetch, ..want(&arn) }, Want { version: "1".into(), ..want(&arn) }];
    let got = session.get(&wants, &call_cx()).await;
    assert_eq!(got[0].as_ref().unwrap().bytes.expose_str(), Some(r#"{"a":"1","b":"2"}"#));
    assert_eq!(got[1].as_ref().unwrap_err().kind, ErrorKind::Unsupported);
    let words = "operation not supported by AWS Certificate Manager provider";
    let error = session.find(&query("", "a", &[]), &call_cx()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Unsupported, words));
    let value = SecretBytes::from(r#"{"a": 1}"#);
    let error = session.extract(&want(&arn), &value, None).unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Unsupported, words));
    assert_eq!(certificates().taker().extract(&want(&arn), &value, None).unwrap_err().kind, ErrorKind::Unsupported);
}

fn place(spec: Option<Value>) -> Place {
    let block = |spec| json!({ "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata", "spec": spec });
    Place { key: "site".into(), property: None, metadata: spec.map(block), namespace: "team-a".into() }
}

fn push(certificate: &str, key: &str, spec: Option<Value>) -> Push {
    let data = [("tls.crt", certificate), ("tls.key", key)].map(|(k, v)| (k.to_owned(), SecretBytes::from(v)));
    let source = Arc::new(Source { data: data.into(), ..Source::default() });
    Push { source, secret_key: None, place: place(spec) }
}

/// The one certificate that there is.
fn only(acm: &Running<Acm>) -> (String, Held) {
    let all = acm.fake.all();
    assert_eq!(all.len(), 1);
    all.into_iter().next().unwrap()
}

#[tokio::test]
async fn a_certificate_is_imported_once_and_replaced_in_its_place() {
    let acm = acm().await;
    acm.fake.lag();
    let session = certificates();
    let session = Aws { prefix: Some("prod/".into()), ..session }.connect(&cx_at(acm.url())).await.unwrap();
    let first = push(&format!("a comment\n{LEAF}{MID}{ROOT}"), EC, Some(json!({"tags": {"team": "a", "managed-by": "me"}})));
    assert_eq!(session.push(&first, &call_cx()).await, Ok(Pushed::Written));
    let (arn, held) = only(&acm);
    assert_eq!((held.certificate.as_str(), held.key.as_str()), (LEAF, EC));
    assert_eq!(held.chain, format!("{MID}{ROOT}"));
    let tags = json!({"managed-by": "external-secrets", "external-secrets-remote-key": "prod/site", "team": "a"});
    assert_eq!(json!(held.tags), tags);

    assert_eq!(session.push(&first, &call_cx()).await, Ok(Pushed::Unchanged), "although the search does not know of it");
    let changed = push(OTHER, RSA, Some(json!({"tags": {"environment": "prod"}})));
    assert_eq!(session.push(&changed, &call_cx()).await, Ok(Pushed::Written));
    let (same, held) = only(&acm);
    assert_eq!((same, held.certificate.as_str(), held.chain.as_str()), (arn, OTHER, ""));
    assert_eq!(held.tags.get("environment").map(String::as_str), Some("prod"));
    assert!(!held.tags.contains_key("team") && held.tags.len() == 3, "{:?}", held.tags);
    assert_eq!(session.push(&changed, &call_cx()).await, Ok(Pushed::Unchanged), "AWS gives it as its own chain");
    let imports = actions(&acm).iter().filter(|action| *action == "ImportCertificate").count();
    assert_eq!(imports, 2);
}

#[tokio::test]
async fn what_was_imported_before_is_found_by_its_tags() {
    let acm = acm().await;
    let tags = |key: &str| {
        let pairs = [("managed-by", "external-secrets"), ("external-secrets-remote-key", key), ("kept", "x")];
        pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    };
    for (name, key) in [("2", "site"), ("1", "site"), ("0", "other")] {
        acm.fake.hold(name, Held { kind: "IMPORTED", tags: tags(key), ..exportable(EC) });
    }
    acm.fake.hold(
        "foreign",
        Held { tags: [("external-secrets-remote-key".to_owned(), "site".to_owned())].into(), ..exportable(EC) },
    );
    let session = session(&acm).await;
    let same = push(&format!("{LEAF}{MID}{ROOT}"), EC, None);
    assert_eq!(session.push(&same, &call_cx()).await, Ok(Pushed::Unchanged));
    assert_eq!(session.push(&push(OTHER, RSA, None), &call_cx()).await, Ok(Pushed::Written));
    let changed: Vec<_> = acm.fake.all().into_iter().filter(|(_, held)| held.certificate == OTHER).collect();
    assert!(changed.len() == 1 && changed[0].0.ends_with("/1"), "the first of several");
    assert_eq!(changed[0].1.tags.get("kept").map(String::as_str), Some("x"), "the block says nothing of tags");
}

#[tokio::test]
async fn what_is_ours_no_more_is_not_replaced() {
    let changes: [fn(&mut Held); 3] = [
        |held| held.tags.clear(),
        |held| drop(held.tags.remove("external-secrets-remote-key")),
        |held| drop(held.tags.insert("external-secrets-remote-key".into(), "other".into())),
    ];
    for change in changes {
        let acm = acm().await;
        let (session, cx) = (session(&acm).await, call_cx());
        session.push(&push(LEAF, EC, None), &cx).await.unwrap();
        let (arn, _) = only(&acm);
        acm.fake.change(&arn, change);
        assert_eq!(session.exists(&place(None), &cx).await, Ok(false));
        let other = push(OTHER, RSA, Some(json!({"tags": {"a": "b"}})));
        assert_eq!(session.push(&other, &cx).await, Ok(Pushed::Written));
        let held = acm.fake.at(&arn).unwrap();
        assert!(held.certificate == LEAF && !held.tags.contains_key("a"), "{:?}", held.tags);
        assert_eq!(session.push(&other, &cx).await, Ok(Pushed::Unchanged), "another one was made");
        assert_eq!(acm.fake.all().len(), 2);
        session.delete(&place(None), &cx).await.unwrap();
        assert!(acm.fake.all().into_keys().eq([arn]), "and that one is taken away");
    }
}

#[tokio::test]
async fn what_is_deleted_is_gone_and_is_made_anew() {
    let acm = acm().await;
    let session = session(&acm).await;
    let (cx, first) = (call_cx(), push(LEAF, EC, None));
    assert_eq!(session.exists(&place(None), &cx).await, Ok(false));
    session.push(&first, &cx).await.unwrap();
    assert_eq!(session.exists(&place(None), &cx).await, Ok(true));
    let (arn, _) = only(&acm);
    acm.fake.change(&arn, |held| held.in_use = true);
    let error = session.delete(&place(None), &cx).await.unwrap_err();
    assert!(error.kind == ErrorKind::Conflict && error.detail.contains("it is in use"), "{error}");
    acm.fake.change(&arn, |held| held.in_use = false);
    let part = Place { property: Some("p".into()), ..place(None) };
    assert_eq!(session.delete(&part, &cx).await, Ok(()));
    assert_eq!(acm.fake.all().len(), 1, "nothing was pushed to a property");
    for _ in 0..2 {
        assert_eq!(session.delete(&place(None), &cx).await, Ok(()));
        assert!(acm.fake.all().is_empty());
    }
    assert_eq!(session.exists(&place(None), &cx).await, Ok(false));
    session.push(&first, &cx).await.unwrap();
    acm.fake.remove(&only(&acm).0);
    assert_eq!(session.push(&first, &cx).await, Ok(Pushed::Written), "somebody else took it away");
    acm.fake.change(&only(&acm).0, |held| held.tags.clear());
    assert_eq!(session.delete(&place(None), &cx).await, Ok(()));
    assert_eq!(acm.fake.all().len(), 1, "it is no longer ours");
}

#[tokio::test]
async fn what_is_no_certificate_is_not_sent() {
    let acm = acm().await;
    let session = session(&acm).await;
    let without = |key: &str| {
        let mut push = push(LEAF, EC, None);
        Arc::get_mut(&mut push.source).unwrap().data.remove(key);
        push
    };
    let broken = "-----BEGIN CERTIFICATE-----\nYzRuNHJ5\n-----END CERTIFICATE-----\n";
    let with_key = Push { secret_key: Some("tls.crt".into()), ..push(LEAF, EC, None) };
    let with_property = Push { place: Place { property: Some("p".into()), ..place(None) }, ..push(LEAF, EC, None) };
    for (push, kind, text) in [
        (with_key, ErrorKind::Misconfigured, "secretKey must be empty for the AWS Certificate Manager provider"),
        (with_property, ErrorKind::Unsupported, "remoteRef.property \"p\" cannot be used"),
        (without("tls.crt"), ErrorKind::Misconfigured, "key \"tls.crt\" not found or empty"),
        (without("tls.key"), ErrorKind::Misconfigured, "key \"tls.key\" not found or empty"),
        (push("c4n4ry", EC, None), ErrorKind::Misconfigured, "failed to parse \"tls.crt\": no CERTIFICATE PEM blocks found"),
        (push(broken, EC, None), ErrorKind::Misconfigured, "the first certificate cannot be read"),
        (push(LEAF, EC, Some(json!({"nosuch": 1}))), ErrorKind::Misconfigured, "failed to parse push secret metadata"),
    ] {
        let error = session.push(&push, &call_cx()).await.unwrap_err();
        assert!(error.kind == kind && error.detail.contains(text), "{error}");
        assert!(!error.detail.contains("c4n4ry") && !error.detail.contains("YzRu"), "{error}");
    }
    assert!(acm.server.received().is_empty());
    // ACM quotes the key that it does not take
    let error = session.push(&push(LEAF, "c4n4ry", None), &call_cx()).await.unwrap_err();
    assert!(error.detail.contains("acm:ImportCertificate") && error.detail.contains("private key is not"), "{error}");
    assert!(!format!("{error:?}").contains("c4n4ry"), "{error:?}");
}

#[tokio::test]
async fn a_refused_push_is_denied() {
    let acm = acm().await;
    let session = session(&acm).await;
    acm.set_fault(Some(keyferry_fakes::Fault::Refuses(Refusal::Denied)));
    let cx = call_cx();
    assert_eq!(session.push(&push(LEAF, EC, None), &cx).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(session.delete(&place(None), &cx).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(session.exists(&place(None), &cx).await.unwrap_err().kind, ErrorKind::Denied);
}

pub(in crate::providers::aws) struct CertificateManagerFixture;

#[async_trait]
impl Fixture for CertificateManagerFixture {
    fn provider(&self) -> &'static str {
        "Certificate Manager"
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        let values = [
            Check::Get,
            Check::Order,
            Check::Property,
            Check::Extract,
            Check::MissingProperty,
            Check::NotAnObject,
            Check::Binary,
            Check::Large,
            Check::Unicode,
        ];
        let values = values.into_iter().chain(Check::PUSHES);
        let values = values.map(|check| (check, "it holds certificates, not values: tests of its own"));
        let searches = Check::FINDS.map(|check| (check, "as in ESO, it has no search"));
        let version = (Check::Version, "a certificate has one version");
        values.chain(searches).chain([version]).collect()
    }

    async fn connect(&self, world: World) -> Arc<dyn Session> {
        let acm = acm().await;
        let session = session(&acm).await;
        acm.set_fault(world.fault.map(|fault| match fault {
            conformance::Fault::Denied => keyferry_fakes::Fault::Refuses(Refusal::Denied),
            conformance::Fault::Throttled => {
                keyferry_fakes::Fault::Refuses(Refusal::Throttled(conformance::RETRY_AFTER.as_secs()))
            }
            conformance::Fault::Broken => keyferry_fakes::Fault::Refuses(Refusal::Broken),
            conformance::Fault::Hang(reached) => keyferry_fakes::Fault::Hangs(reached),
            conformance::Fault::Garbled => keyferry_fakes::Fault::Garbles,
        }));
        std::mem::forget(acm);
        session
    }
}
