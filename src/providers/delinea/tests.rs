#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use keyferry_fakes::delinea::{self as fake, Delinea as Service};
use serde_json::{Value as Json, json};

use super::*;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::{FakeServer, Received, Reply, outbound};

use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, Want};

struct Vault;

impl Served for Vault {
    type Fake = Service;

    const PROVIDER: &'static str = "delinea";

    fn fake(&self, secrets: &[Stored]) -> Service {
        let service = Service::default();
        for secret in secrets {
            match &secret.value {
                Value::Plain(bytes) => service.put(&secret.key, &json!({"value": String::from_utf8_lossy(bytes)})),
                Value::Properties(pairs) => service.put(&secret.key, &json!(pairs)),
            }
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        block(url, json!({"secretRef": {"name": "login", "key": "secret"}}))
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        LOGIN.to_vec()
    }

    fn plain_property(&self) -> Option<&'static str> {
        Some("value")
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        let search = "neither ESO nor Delinea's clients search the vault";
        let push = "ESO 2.9 says ReadOnly, and Delinea's clients only read";
        let searches = Check::FINDS.map(|check| (check, search));
        let pushes = Check::PUSHES.map(|check| (check, push));
        let others = [(Check::Binary, "values are JSON"), (Check::Version, "versions cannot be asked for, as in ESO")];
        searches.into_iter().chain(pushes).chain(others).collect()
    }
}

const LOGIN: &[(&str, &str)] = &[("secret", fake::CLIENT_SECRET), ("wrong", CANARY)];

fn block(url: &str, secret: Json) -> Json {
    let template = format!("{url}/%s/%s/v1/%s%s");
    json!({"tenant": "shop", "urlTemplate": template, "clientId": {"value": fake::CLIENT_ID}, "clientSecret": secret})
}

fn config(block: Json) -> Delinea {
    serde_json::from_value(block).unwrap()
}

async fn running() -> keyferry_fakes::Service<Service> {
    keyferry_fakes::Service::start(Service::default()).await
}

impl Tested for Delinea {
    const TITLE: &'static str = "Delinea DevOps Secrets Vault";
    const AUTH: &'static [&'static str] = &["clientId"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Vault))]
    }
}

#[tokio::test]
async fn a_secret_is_a_map() {
    let service = running().await;
    service.fake.put("app/db", &json!({"user": "ann", "port": 5432, "nested": {"b": "<", "a": 1}, "none": null}));
    service.fake.put("app/empty", &Json::Null);
    let session = connect(&Vault, service.url()).await;
    let fetch = async |key: &str| {
        let want = Want { key: key.into(), ..Want::default() };
        session.get(std::slice::from_ref(&want), &CallCx::default()).await.remove(0).map(|fetched| (want, fetched))
    };
    let (want, fetched) = fetch("/app/db").await.unwrap();
    let whole = r#"{"nested":{"a":1,"b":"\u003c"},"none":null,"port":5432,"user":"ann"}"#;
    assert_eq!(fetched.bytes.expose_str(), Some(whole));
    assert_eq!(fetched.version.as_deref(), Some("1"));
    let found = session.extract(&want, &fetched.bytes, None).unwrap();
    let found: BTreeMap<&str, &str> = found.iter().map(|(k, v)| (k.as_str(), v.expose_str().unwrap())).collect();
    let expected = [("user", "ann"), ("port", "5432"), ("nested", r#"{"a":1,"b":"\u003c"}"#), ("none", "")];
    assert_eq!(found, BTreeMap::from(expected));
    assert_eq!(session.property(&want, &fetched.bytes, "nested.b").unwrap().expose_str(), Some("<"));
    let error = session.property(&want, &fetched.bytes, "nope").unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound, "as in ESO");

    let (want, fetched) = fetch("app/empty").await.unwrap();
    assert!(fetched.bytes.is_empty() && session.extract(&want, &fetched.bytes, None).unwrap().is_empty());
    assert_eq!(fetch("app/none").await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(fetch("app/../db").await.unwrap_err().kind, ErrorKind::Misconfigured);
    let versioned = Want { key: "app/db".into(), version: "1".into(), ..Want::default() };
    let error = session.get(&[versioned], &CallCx::default()).await.remove(0).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_404_that_is_not_the_vaults_is_no_missing_secret() {
    for body in ["", "<html>not found</html>", r#"{"message": "Not Found"}"#, r#"{"code": "404", "message": "x"}"#] {
        let token = Reply::json(200, &json!({"accessToken": "t", "expiresIn": 3600}));
        let missing = Reply::text(404, body);
        let answer = move |asked: &Received| if asked.method() == "POST" { token.clone() } else { missing.clone() };
        let server = FakeServer::start(answer).await;
        let session = connect(&Vault, &server.url).await;
        let want = Want { key: "a".into(), ..Want::default() };
        let error = session.get(&[want], &CallCx::default()).await.remove(0).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{body}");
    }
}

#[tokio::test]
async fn each_store_logs_in_for_itself() {
    let service = running().await;
    service.fake.put("a", &json!({"v": "1"}));
    let session = connect(&Vault, service.url()).await;
    let get = async || session.get(&[Want { key: "a".into(), ..Want::default() }], &CallCx::default()).await.remove(0);
    let logins = || service.server.lines().iter().filter(|line| line.ends_with("/token")).count();
    assert!(get().await.is_ok() && get().await.is_ok());
    assert_eq!(logins(), 1);
    service.fake.end_tokens();
    assert!(get().await.is_ok());
    assert_eq!(logins(), 2);

    // ESO's client keeps the token of the first store for all others of the process.
    let cluster = Cluster::new().labelled_secret("login", &json!({}), LOGIN);
    let other = config(block(service.url(), json!({"secretRef": {"name": "login", "key": "wrong"}})));
    let error = other.connect(&cluster.cx(&outbound()).connect).await.err().expect("an error");
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
}

#[test]
fn addresses() {
    let of = |template: Option<&str>| {
        let config = Delinea { tenant: "shop".into(), url_template: template.map(str::to_owned), ..Delinea::default() };
        config.url("secrets", "/a").ok()
    };
    assert_eq!(of(None).as_deref(), Some("https://shop.secretsvaultcloud.com/v1/secrets/a"));
    assert_eq!(of(Some("https://%s.x.%s/100%%/%s%s")).as_deref(), Some("https://shop.x.com/100%/secrets/a"));
    assert_eq!(of(Some("https://vault.example/v1/%[3]s%[4]s")).as_deref(), Some("https://vault.example/v1/secrets/a"));
    for wrong in
        ["https://%s.example/%s", "https://%s%s%s%s%s", "https://%d%s%s%s%s", "https://%[0]s", "https://%[9]s", "https://%"]
    {
        assert_eq!(of(Some(wrong)), None, "{wrong}");
    }
}

#[test]
fn what_a_store_must_say() {
    let good = json!({"name": "login", "key": "secret"});
    for (secret, text) in [
        (json!({"value": "x", "secretRef": good}), "cannot specify both secret reference and value"),
        (json!({}), "must specify either secret reference or direct value"),
    ] {
        let error = config(block("https://x.example", secret)).validate(StoreKind::SecretStore).unwrap_err();
        assert!(error.detail.contains(text), "{error}");
    }
    let config = Delinea { tenant: String::new(), ..config(block("https://x.example", json!({"secretRef": good}))) };
    assert_eq!(config.validate(StoreKind::SecretStore).unwrap_err().detail, "tenant must not be empty");
    assert_eq!(config.references().len(), 1);
}
