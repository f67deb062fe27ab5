#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_fakes::Service;
use keyferry_fakes::ibm::{self as fake, Ibm as Fake};
use serde_json::{Value as Json, json};

use super::*;
use crate::api::external_secret::MetadataPolicy;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::outbound;
use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, FindQuery, Want};
use crate::render::Entries;
use crate::secret_bytes::SecretBytes;

struct ByKey;

impl Served for ByKey {
    type Fake = Fake;

    const PROVIDER: &'static str = "ibm";

    fn fake(&self, secrets: &[Stored]) -> Fake {
        let service = Fake::default();
        for secret in secrets {
            let payload = match &secret.value {
                Value::Plain(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Value::Properties(pairs) => json!(pairs).to_string(),
            };
            let labels: Vec<String> = secret.tags.iter().map(|(key, value)| format!("{key}:{value}")).collect();
            let fields = json!({"payload": payload, "labels": labels});
            service.put_version("default", "arbitrary", &secret.key, fields, secret.version);
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        let key = json!({"name": "login", "key": "key"});
        json!({"serviceUrl": url, "auth": {"secretRef": {"secretApiKeySecretRef": key, "iamEndpoint": url}}})
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("key", fake::API_KEY)]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        const READ_ONLY: &str = "ESO does not push to it";
        const ONE_TEXT: &str = "a key without a type is an arbitrary secret, which has no properties; for those of the others, tests of its own";
        let mut list: Vec<_> = Check::PUSHES.into_iter().map(|check| (check, READ_ONLY)).collect();
        for check in [Check::Property, Check::Extract, Check::MissingProperty, Check::NotAnObject] {
            list.push((check, ONE_TEXT));
        }
        list.push((Check::Binary, "payloads are text"));
        list
    }
}

impl Tested for Ibm {
    const TITLE: &'static str = "IBM Cloud Secrets Manager";
    const AUTH: &'static [&'static str] = &["secretRef", "containerAuth"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(ByKey))]
    }
}

/// A service with a secret of each type.
fn filled() -> Fake {
    let service = Fake::default();
    let put = |kind: &str, fields: Json| service.put("team", kind, "one", fields);
    put("arbitrary", json!({"payload": "text", "description": "d", "versions_total": 1}));
    put("username_password", json!({"username": "ann", "password": "p\"w"}));
    put("iam_credentials", json!({"api_key": "k"}));
    put("service_credentials", json!({"credentials": {"b": 1.5, "a": "<x>"}}));
    put("kv", json!({"data": {"user": "ann", "with.dot": "d", "in": {"side": 1, "<": [true]}, "nil": null}}));
    put("custom_credentials", json!({"credentials_content": {"id": 7}}));
    put("imported_cert", json!({"certificate": "C"}));
    put("public_cert", json!({"certificate": "C", "intermediate": "I", "private_key": "K"}));
    put("private_cert", json!({"certificate": "C", "private_key": "K"}));
    service
}

async fn session(fake: Fake) -> (Service<Fake>, Arc<dyn Session>) {
    let service = Service::start(fake).await;
    let session = connect(&ByKey, service.url()).await;
    (service, session)
}

fn want(key: &str) -> Want {
    Want { key: key.to_owned(), ..Want::default() }
}

async fn read(session: &dyn Session, key: &str, property: Option<&str>) -> Result<String, ProviderError> {
    let want = want(key);
    let fetched = session.get(std::slice::from_ref(&want), &CallCx::default()).await.remove(0)?;
    let part = match property {
        Some(property) => session.property(&want, &fetched.bytes, property),
        None => session.whole(&want, &fetched.bytes),
    }?;
    Ok(part.expose_str().unwrap().to_owned())
}

async fn extract(session: &dyn Session, want: Want, property: Option<&str>) -> Result<Vec<(String, String)>, ProviderError> {
    let fetched = session.get(std::slice::from_ref(&want), &CallCx::default()).await.remove(0)?;
    let entries: Entries = session.extract(&want, &fetched.bytes, property)?;
    Ok(entries.into_iter().map(|(key, value)| (key, value.expose_str().unwrap().to_owned())).collect())
}

#[tokio::test]
async fn every_type_is_read_as_eso_reads_it() {
    let (_service, session) = session(filled()).await;
    let kv = r#"{"in":{"\u003c":[true],"side":1},"nil":null,"user":"ann","with.dot":"d"}"#;
    for (key, property, expected) in [
        ("team/arbitrary/one", None, "text"),
        ("team/arbitrary/one", Some("ignored"), "text"),
        ("team/username_password/one", Some("password"), "p\"w"),
        ("team/iam_credentials/one", None, "k"),
        ("team/service_credentials/one", None, r#"{"a":"\u003cx\u003e","b":1.5}"#),
        ("team/kv/one", None, kv),
        ("team/kv/one", Some("with.dot"), "d"),
        ("team/kv/one", Some("in.side"), "1"),
        ("team/custom_credentials/one", Some("id"), "7"),
        ("team/imported_cert/one", Some("certificate"), "C"),
        ("team/imported_cert/one", Some("private_key"), ""),
        ("team/public_cert/one", Some("intermediate"), "I"),
        ("team/private_cert/one", Some("private_key"), "K"),
    ] {
        assert_eq!(read(session.as_ref(), key, property).await.unwrap(), expected, "{key} {property:?}");
    }
    for (key, property, kind, text) in [
        ("team/username_password/one", None, ErrorKind::Misconfigured, "remoteRef.property required for secret type"),
        ("team/username_password/one", Some("x"), ErrorKind::MissingProperty, "key x does not exist"),
        ("team/private_cert/one", Some("intermediate"), ErrorKind::MissingProperty, "key intermediate"),
        ("team/kv/one", Some("nope"), ErrorKind::MissingProperty, "key nope"),
        ("team/kv/two", None, ErrorKind::NotFound, "Secret does not exist"),
        ("other/kv/one", None, ErrorKind::NotFound, "Secret does not exist"),
        ("team/odd/one", None, ErrorKind::Misconfigured, "unknown secret type odd"),
    ] {
        let error = read(session.as_ref(), key, property).await.unwrap_err();
        assert!(error.kind == kind && error.detail.contains(text), "{key}: {error:?}");
        assert!(!error.detail.contains(CANARY));
    }
}

#[tokio::test]
async fn every_type_is_taken_apart_as_eso_does_it() {
    let (_service, session) = session(filled()).await;
    for (key, property, expected) in [
        ("team/arbitrary/one", None, vec![("arbitrary", "text")]),
        ("team/username_password/one", None, vec![("password", "p\"w"), ("username", "ann")]),
        ("team/iam_credentials/one", None, vec![("apikey", "k")]),
        ("team/service_credentials/one", None, vec![("credentials", "map[a:<x> b:1.5]")]),
        ("team/imported_cert/one", None, vec![("certificate", "C"), ("intermediate", ""), ("private_key", "")]),
        ("team/private_cert/one", None, vec![("certificate", "C"), ("private_key", "K")]),
        ("team/kv/one", Some("in"), vec![("<", "[true]"), ("side", "1")]),
        ("team/custom_credentials/one", None, vec![("id", "7")]),
    ] {
        let found = extract(session.as_ref(), want(key), property).await.unwrap();
        let found: Vec<(&str, &str)> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected, "{key}");
    }
    let error = extract(session.as_ref(), want("team/kv/one"), Some("user")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    let with_metadata = Want { metadata: MetadataPolicy::Fetch, ..want("team/arbitrary/one") };
    let found = extract(session.as_ref(), with_metadata, None).await.unwrap();
    for pair in [
        ("arbitrary", "text"),
        ("description", "d"),
        ("labels", "[]"),
        ("secret_type", "arbitrary"),
        ("versions_total", "1"),
    ] {
        assert!(found.contains(&(pair.0.to_owned(), pair.1.to_owned())), "{pair:?} in {found:?}");
    }
}

#[test]
fn a_type_that_is_not_known_is_not_repeated() {
    let value = SecretBytes::from(json!({"secret_type": CANARY, "payload": "v"}).to_string());
    let error = data::IbmTaker.whole(&want("one"), &value).unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("of a type that is not read"), "{error}");
    assert!(!error.detail.contains(CANARY));
}

#[tokio::test]
async fn ids_stand_for_names_and_say_the_type() {
    let fake = filled();
    let id = fake.put("team", "kv", "two", json!({"data": {"a": "old"}}));
    fake.put("team", "kv", "two", json!({"data": {"a": "new"}}));
    let (service, session) = session(fake).await;
    assert_eq!(read(session.as_ref(), &format!("kv/{id}"), Some("a")).await.unwrap(), "new");
    assert!(service.server.lines().last().unwrap().ends_with(&format!("/api/v2/secrets/{id}")));
    let error = read(session.as_ref(), &id, None).await.unwrap_err();
    assert!(error.detail.contains("is of type kv: write kv in place of arbitrary"), "{error}");
    let mut previous = want(&format!("kv/{id}"));
    previous.version = "previous".into();
    let fetched = session.get(&[previous.clone()], &CallCx::default()).await.remove(0).unwrap();
    assert_eq!(session.property(&previous, &fetched.bytes, "a").unwrap().expose_str(), Some("old"));
}

#[tokio::test]
async fn secrets_are_found_in_a_group_as_one_text_each() {
    let (_service, session) = session(filled()).await;
    let find = |path: &str, name: &str| FindQuery { path: path.into(), name: name.into(), ..FindQuery::default() };
    let error = session.find(&find("team", "one"), &CallCx::default()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("several of that name"), "{error}");
    let error = session.find(&find("nowhere", ""), &CallCx::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);

    let fake = Fake::default();
    fake.put("team", "username_password", "login", json!({"username": "ann", "password": "p"}));
    fake.put("team", "kv", "map", json!({"data": {"a": 1}}));
    fake.put("team", "odd", "unknown type", json!({}));
    fake.put("default", "arbitrary", "map", json!({"payload": "elsewhere"}));
    let (_service, session) = self::session(fake).await;
    let found = session.find(&find("team", ""), &CallCx::default()).await.unwrap();
    let found: Vec<(&str, &str)> = found.iter().map(|f| (f.name.as_str(), f.bytes.expose_str().unwrap())).collect();
    assert_eq!(found, [("login", r#"{"password":"p","username":"ann"}"#), ("map", r#"{"a":1}"#)]);
}

#[tokio::test]
async fn one_login_serves_all_calls_and_is_renewed() {
    let (service, session) = session(filled()).await;
    let logins = || service.server.lines().iter().filter(|line| line.ends_with("/identity/token")).count();
    for _ in 0..3 {
        read(session.as_ref(), "team/arbitrary/one", None).await.unwrap();
    }
    assert_eq!(logins(), 1);
    service.fake.end_tokens();
    read(session.as_ref(), "team/arbitrary/one", None).await.unwrap();
    assert_eq!(logins(), 2);
}

async fn open(url: &str, auth: Json, kind: StoreKind) -> Result<Arc<dyn Session>, ProviderError> {
    let cluster = Cluster::new().secret("login", "key", "wrong");
    let mut cx = cluster.cx(&outbound()).connect;
    cx.store_kind = kind;
    let config: Ibm = serde_json::from_value(json!({"serviceUrl": url, "auth": auth})).unwrap();
    config.validate(kind)?;
    config.connect(&cx).await
}

#[tokio::test]
async fn logins_that_fail_are_told_apart() {
    let service = Service::start(Fake::default()).await;
    let url = service.url();
    let by_key = |name: &str| {
        let key = json!({"name": name, "key": "key", "namespace": "team-a"});
        json!({"secretRef": {"secretApiKeySecretRef": key, "iamEndpoint": url}})
    };
    let own = |file: &str| json!({"containerAuth": {"profile": fake::PROFILE, "tokenLocation": file, "iamEndpoint": url}});
    let (secret, cluster) = (StoreKind::SecretStore, StoreKind::ClusterSecretStore);
    for (auth, store, kind, text) in [
        (by_key("login"), secret, ErrorKind::Denied, "does not accept the credentials"),
        (by_key("gone"), secret, ErrorKind::Misconfigured, "Secret team-a/gone does not exist"),
        (own("/var/run/secrets/tokens/x"), secret, ErrorKind::Misconfigured, "logs in as the operator itself"),
        (own("/etc/passwd"), cluster, ErrorKind::Misconfigured, "only a file below"),
        (own("/var/run/secrets/../../../etc/passwd"), cluster, ErrorKind::Misconfigured, "only a file below"),
        (own("/var/run/secrets/tokens/none-here"), cluster, ErrorKind::Misconfigured, "cannot be read"),
        (json!({}), secret, ErrorKind::Misconfigured, "missing auth method"),
        (
            json!({"secretRef": {}, "containerAuth": {"profile": "p"}}),
            secret,
            ErrorKind::Misconfigured,
            "too many auth methods",
        ),
        (json!({"containerAuth": {"profile": ""}}), secret, ErrorKind::Misconfigured, "profile cannot be empty"),
        (json!({"secretRef": {}}), secret, ErrorKind::Misconfigured, "secretAPIKey.name cannot be empty"),
    ] {
        let error = open(url, auth, store).await.err().unwrap();
        assert!(error.kind == kind && error.detail.contains(text), "{error:?}");
        assert!(!error.detail.contains(CANARY));
    }
    assert!(!service.server.received().iter().any(|asked| asked.body.contains("cr_token")), "no file was sent anywhere");
}
