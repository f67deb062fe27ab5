//! Doppler against a service on loopback.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;

use keyferry_fakes::doppler::{self, CONFIG, IDENTITY, PERSONAL_TOKEN, PROJECT, SERVICE_TOKEN};
use keyferry_fakes::{Pki, Service};
use serde_json::{Value, json};

use super::Doppler;
use crate::api::StoreKind;
use crate::generators::testing::cluster::{Cluster, redacted};
use crate::outbound::testing::outbound_with;
use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{Check, Fixture, Stored, Tested};
use crate::providers::{CallCx, ErrorKind, FindQuery, Place, Provider, ProviderError, Push, Pushed, Session, Source, Want};
use crate::secret_bytes::SecretBytes;

/// Logs in with a service token, or as said.
struct Store(Value);

impl Store {
    fn plain() -> Self {
        Self(json!({"auth": {"secretRef": {"dopplerToken": {"name": "login"}}}}))
    }

    fn with(mut self, field: &str, value: Value) -> Self {
        self.0[field] = value;
        self
    }

    fn oidc() -> Self {
        let auth = json!({"oidcConfig": {"identity": IDENTITY, "serviceAccountRef": {"name": "app"}}});
        Self::plain().with("auth", auth).with("project", json!(PROJECT)).with("config", json!(CONFIG))
    }
}

impl Served for Store {
    type Fake = doppler::Doppler;
    const PROVIDER: &'static str = "doppler";

    fn fake(&self, secrets: &[Stored]) -> doppler::Doppler {
        doppler::Doppler::new(secrets.iter().map(|stored| (stored.key.clone(), stored.text())))
    }

    fn block(&self, _: &str) -> Value {
        self.0.clone()
    }

    fn env(&self, url: &str) -> Vec<(&'static str, String)> {
        vec![("DOPPLER_BASE_URL", url.to_owned())]
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("dopplerToken", SERVICE_TOKEN), ("personal", PERSONAL_TOKEN), ("wrong", "dp.st.prd.c4n4ry-6b1d-wrong")]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![
            (Check::Version, "Doppler reads the current value only"),
            (Check::Binary, "Doppler keeps text"),
            (Check::FindByTags, "Doppler has no tags"),
            (Check::PushForeign, "Doppler has no place for a mark of whose a secret is: a note counts for all environments"),
        ]
    }
}

impl Tested for Doppler {
    const TITLE: &'static str = "Doppler";
    const AUTH: &'static [&'static str] = &["secretRef", "oidcConfig"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Store::plain())), Box::new(OverHttp::new(Store::oidc()))]
    }
}

async fn service(secrets: &[(&str, &str)]) -> Service<doppler::Doppler> {
    Service::start(doppler::Doppler::new(secrets.iter().copied())).await
}

fn cx() -> CallCx {
    CallCx { cause: "ExternalSecret/team-a/app".to_owned(), ..CallCx::default() }
}

async fn read(session: &dyn Session, keys: &[&str]) -> Vec<Result<String, ProviderError>> {
    let wants: Vec<Want> = keys.iter().map(|key| Want { key: (*key).to_owned(), ..Want::default() }).collect();
    let read = session.get(&wants, &cx()).await;
    read.into_iter().map(|one| one.map(|fetched| fetched.bytes.expose_str().unwrap().to_owned())).collect()
}

async fn found(session: &dyn Session, name: &str, path: &str) -> Vec<(String, String)> {
    let query = FindQuery { name: name.to_owned(), path: path.to_owned(), ..FindQuery::default() };
    let found = session.find(&query, &cx()).await.unwrap();
    let mut found: Vec<_> = found.into_iter().map(|f| (f.name, f.bytes.expose_str().unwrap().to_owned())).collect();
    found.sort();
    found
}

fn push(key: &str, value: &str) -> Push {
    let data = [("v".to_owned(), SecretBytes::from(value))].into();
    let place = Place { key: key.to_owned(), ..Place::default() };
    Push { source: Arc::new(Source { data, ..Source::default() }), secret_key: Some("v".to_owned()), place }
}

#[tokio::test]
async fn one_download_has_all_keys_and_comes_without_a_body_while_nothing_changes() {
    let service = service(&[("A", "1"), ("B", "2"), ("URL", "pg://${A}@db")]).await;
    let session = connect(&Store::plain(), service.url()).await;
    for _ in 0..2 {
        let [a, b, url, none] = &read(session.as_ref(), &["A", "B", "URL", "NONE"]).await[..] else { panic!("four") };
        assert_eq!([a, b, url].map(|r| r.as_ref().unwrap().as_str()), ["1", "2", "pg://1@db"]);
        assert_eq!(none.as_ref().unwrap_err().kind, ErrorKind::NotFound);
    }
    service.fake.set("A", "new");
    assert_eq!(read(session.as_ref(), &["A"]).await[0].as_ref().unwrap(), "new");
    assert_eq!(read(session.as_ref(), &["A"]).await[0].as_ref().unwrap(), "new");
    let received = service.server.received();
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|asked| asked.line == "GET /v3/configs/config/secrets/download?format=json"));
    let tags: Vec<&str> = received.iter().map(|asked| asked.header("if-none-match")).collect();
    assert!(tags[0].is_empty() && tags[1] == tags[2] && !tags[1].is_empty() && tags[3] != tags[2], "{tags:?}");
    assert!(received[0].header("user-agent").contains("ExternalSecret/team-a/app"));
}

#[tokio::test]
async fn names_and_files_are_made_by_doppler() {
    let service = service(&[("API_KEY", "k"), ("DB_HOST", "h")]).await;
    let with = async |field: &str, value: &str| connect(&Store::plain().with(field, json!(value)), service.url()).await;
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let plain = connect(&Store::plain(), service.url()).await;
    assert_eq!(found(plain.as_ref(), "_", "DB").await, pairs(&[("DB_HOST", "h")]));
    assert_eq!(found(plain.as_ref(), "", "DB").await, pairs(&[("DB_HOST", "h")]));
    assert_eq!(found(plain.as_ref(), "^(API|DB)", "").await, pairs(&[("API_KEY", "k"), ("DB_HOST", "h")]));
    for (by, name) in [
        ("upper-camel", "ApiKey"),
        ("camel", "apiKey"),
        ("lower-snake", "api_key"),
        ("tf-var", "TF_VAR_api_key"),
        ("dotnet-env", "ApiKey"),
        ("lower-kebab", "api-key"),
    ] {
        let session = with("nameTransformer", by).await;
        assert_eq!(found(session.as_ref(), "(?i)api.?key", "").await, pairs(&[(name, "k")]), "{by}");
        // A key is always read by its own name.
        assert_eq!(read(session.as_ref(), &["API_KEY"]).await[0].as_ref().unwrap(), "k");
    }
    for (format, part) in [
        ("json", "\"API_KEY\":\"k\""),
        ("dotnet-json", "\"ApiKey\":\"k\""),
        ("env", "API_KEY=\"k\"\n"),
        ("yaml", "API_KEY: \"k\"\n"),
        ("docker", "API_KEY=k\n"),
    ] {
        let session = with("format", format).await;
        let [(name, file)] = &found(session.as_ref(), "", "").await[..] else { panic!("one file") };
        assert_eq!(name, "DOPPLER_SECRETS_FILE");
        assert!(file.contains(part), "{format}: {file}");
        let asked = service.server.received().pop().unwrap();
        let accept = if format == "json" { "application/json" } else { "text/plain" };
        assert_eq!(asked.header("accept"), accept, "{format}: {}", asked.line);
        assert_eq!(read(session.as_ref(), &["API_KEY"]).await[0].as_ref().unwrap(), "k");
    }
    let tags = FindQuery { tags: [("a".to_owned(), "b".to_owned())].into(), ..FindQuery::default() };
    assert_eq!(plain.find(&tags, &cx()).await.unwrap_err().kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_push_compares_what_was_written_and_not_what_it_refers_to() {
    let service = service(&[("HOST", "db")]).await;
    let session = connect(&Store::plain(), service.url()).await;
    let value = "pg://${HOST}";
    assert_eq!(session.push(&push("URL", value), &cx()).await.unwrap(), Pushed::Written);
    assert_eq!(session.push(&push("URL", value), &cx()).await.unwrap(), Pushed::Unchanged);
    assert_eq!(service.fake.get("URL").as_deref(), Some(value));
    assert_eq!(read(session.as_ref(), &["URL"]).await[0].as_ref().unwrap(), "pg://db");
    let bytes = Push {
        source: Arc::new(Source { data: [("v".to_owned(), SecretBytes::new(vec![0xff]))].into(), ..Source::default() }),
        ..push("URL", "")
    };
    assert_eq!(session.push(&bytes, &cx()).await.unwrap_err().kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_login_by_oidc_is_made_once_and_again_when_it_ends() {
    let service = service(&[("A", "1")]).await;
    let (store, url) = (Store::oidc(), service.url());
    let cluster = Cluster::new().service_account("app", &json!({}));
    let doppler: Doppler = serde_json::from_value(store.block(url)).unwrap();
    let cx = cluster.cx(&outbound_with(&[("DOPPLER_BASE_URL", url)])).connect;
    let session = doppler.connect(&cx).await.unwrap();
    for _ in 0..3 {
        assert_eq!(read(session.as_ref(), &["A"]).await[0].as_ref().unwrap(), "1");
    }
    assert_eq!(service.fake.logins().len(), 1);
    let (account, spec) = &cluster.token_requests()[0];
    assert_eq!(account, "app");
    assert_eq!(spec["audiences"], json!([url, "secretStore:team-a:generator"]));
    assert_eq!(spec["expirationSeconds"], 600);
    service.fake.end_sessions();
    assert_eq!(read(session.as_ref(), &["A"]).await[0].as_ref().unwrap(), "1");
    assert_eq!(service.fake.logins().len(), 2);

    let mut other = store.block(url);
    other["auth"]["oidcConfig"]["serviceAccountRef"] = json!({"name": "app", "namespace": "team-a", "audiences": ["own"]});
    let doppler: Doppler = serde_json::from_value(other).unwrap();
    let cx = crate::providers::ConnectCx { store_kind: StoreKind::ClusterSecretStore, ..cx };
    doppler.connect(&cx).await.unwrap();
    assert_eq!(cluster.token_requests()[2].1["audiences"], json!(["own", "clusterSecretStore:generator"]));

    let wrong = Store::oidc().with("auth", json!({"oidcConfig": {"identity": "x", "serviceAccountRef": {"name": "app"}}}));
    let doppler: Doppler = serde_json::from_value(wrong.block(url)).unwrap();
    assert_eq!(redacted(doppler.connect(&cx).await).kind, ErrorKind::Denied);
}

#[tokio::test]
async fn who_may_not_is_told_so() {
    let service = service(&[("A", "1")]).await;
    let token = |key: &str| json!({"secretRef": {"dopplerToken": {"name": "login", "key": key}}});
    for (store, kind) in [
        (Store::plain().with("auth", token("wrong")), ErrorKind::Denied),
        (Store::plain().with("auth", token("personal")), ErrorKind::Misconfigured),
        (Store::plain().with("config", json!("dev")), ErrorKind::Misconfigured),
    ] {
        let session = connect(&store, service.url()).await;
        for error in
            [read(session.as_ref(), &["A"]).await.remove(0).unwrap_err(), session.validate(&cx()).await.unwrap_err()]
        {
            assert_eq!(error.kind, kind, "{error}");
            assert!(!error.detail.contains("c4n4ry"), "{error}");
        }
    }
    let store = Store::plain().with("auth", token("personal")).with("project", json!(PROJECT)).with("config", json!(CONFIG));
    let session = connect(&store, service.url()).await;
    assert_eq!(read(session.as_ref(), &["A"]).await[0].as_ref().unwrap(), "1");
}

#[tokio::test]
async fn a_place_that_is_not_there_is_no_missing_secret() {
    let service = service(&[("A", "1")]).await;
    let session = connect(&Store::plain(), service.url()).await;
    let gone = push("GONE", "").place;
    assert!(!session.exists(&gone, &cx()).await.unwrap());
    session.delete(&gone, &cx()).await.unwrap();
    let session = connect(&Store::plain().with("config", json!("dev")), service.url()).await;
    let errors = [
        session.exists(&push("A", "").place, &cx()).await.unwrap_err(),
        session.delete(&push("A", "").place, &cx()).await.unwrap_err(),
        session.push(&push("A", "2"), &cx()).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
        assert!(!error.detail.contains("c4n4ry"), "{error}");
    }
}

#[tokio::test]
async fn certificates_are_checked_unless_the_administrator_says_otherwise() {
    let service = Service::start_tls(&Pki::new(), doppler::Doppler::new([("A", "1")])).await;
    let cluster = Cluster::new().labelled_secret("login", &json!({}), &[("dopplerToken", SERVICE_TOKEN)]);
    let doppler: Doppler = serde_json::from_value(Store::plain().0).unwrap();
    for (verify, works) in [(None, false), (Some("true"), false), (Some("soon"), false), (Some("false"), true)] {
        let env: Vec<_> =
            [("DOPPLER_BASE_URL", service.url())].into_iter().chain(verify.map(|v| ("DOPPLER_VERIFY_TLS", v))).collect();
        let session = doppler.connect(&cluster.cx(&outbound_with(&env)).connect).await.unwrap();
        let read = read(session.as_ref(), &["A"]).await.remove(0);
        assert_eq!(read.is_ok(), works, "{verify:?}");
        assert!(works || read.unwrap_err().detail.contains("not trusted"));
    }
}

#[test]
fn a_store_says_what_it_lacks() {
    for (auth, text) in [
        (json!({}), "either auth.secretRef or auth.oidcConfig must be specified"),
        (json!({"secretRef": {"dopplerToken": {}}}), "dopplerToken.name cannot be empty"),
        (json!({"oidcConfig": {"identity": "", "serviceAccountRef": {"name": "x"}}}), "oidcConfig.identity cannot be empty"),
        (
            json!({"oidcConfig": {"identity": "x", "serviceAccountRef": {"name": ""}}}),
            "oidcConfig.serviceAccountRef.name cannot be empty",
        ),
    ] {
        let doppler: Doppler = serde_json::from_value(json!({"auth": auth})).unwrap();
        let error = doppler.validate(StoreKind::SecretStore).unwrap_err();
        assert_eq!(error.detail, format!("invalid store: {text}"));
    }
}
