#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use keyferry_fakes::Fake as _;
use keyferry_fakes::conjur::{self as fake, Conjur as Service};
use serde_json::{Value as Json, json};

use super::*;
use crate::api::external_secret::MetadataPolicy;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::{FakeServer, Pki, Received, Reply, outbound};

use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, FindQuery, Want};

struct Host;

impl Served for Host {
    type Fake = Service;

    const PROVIDER: &'static str = "conjur";

    fn fake(&self, secrets: &[Stored]) -> Service {
        let service = Service::default();
        for secret in secrets {
            service.declare(&secret.key, &secret.tags);
            match &secret.value {
                Value::Plain(bytes) => service.put(&secret.key, bytes),
                Value::Properties(pairs) => service.put(&secret.key, json!(pairs).to_string()),
            }
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        block(url, json!({"apikey": {"account": fake::ACCOUNT, "userRef": key("user"), "apiKeyRef": key("key")}}))
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        LOGIN.to_vec()
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        let policy = "a variable is made by a policy, which is not a store's to write; ESO 2.9 says ReadOnly, too";
        let garbled =
            (Check::Garbled, "a value is given as it is, so whatever comes with success is one: see a_page_is_no_value");
        Check::PUSHES.into_iter().map(|check| (check, policy)).chain([garbled]).collect()
    }
}

const LOGIN: &[(&str, &str)] = &[("user", fake::HOST), ("key", fake::API_KEY), ("token", "a.kept.token"), ("wrong", CANARY)];

fn key(key: &str) -> Json {
    json!({"name": "login", "key": key})
}

fn block(url: &str, auth: Json) -> Json {
    json!({"url": url, "auth": auth})
}

fn config(block: Json) -> Conjur {
    serde_json::from_value(block).unwrap()
}

type Running = keyferry_fakes::Service<Service>;

async fn running() -> Running {
    Running::start(Service::default()).await
}

fn cluster() -> Cluster {
    Cluster::new().labelled_secret("login", &json!({}), LOGIN).service_account("app", &json!({}))
}

async fn get(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    let want = Want { key: key.into(), ..Want::default() };
    let fetched = session.get(&[want], &CallCx::default()).await.remove(0)?;
    Ok(fetched.bytes.expose_str().unwrap().to_owned())
}

impl Tested for Conjur {
    const TITLE: &'static str = "CyberArk Conjur";
    const AUTH: &'static [&'static str] = &["apikey", "jwt", "cert"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Host))]
    }
}

#[tokio::test]
async fn each_way_to_log_in() {
    let service = running().await;
    service.fake.put("apps/db", "v");
    let cluster = cluster();
    let jwt = |more: Json| {
        let mut auth = json!({"account": fake::ACCOUNT, "serviceID": fake::SERVICE});
        auth.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"jwt": auth})
    };
    let named = json!({"name": "app", "audiences": ["conjur"]});
    for auth in [
        jwt(json!({"secretRef": {"name": "login"}})),
        jwt(json!({"secretRef": key("token"), "hostId": fake::HOST})),
        jwt(json!({"serviceAccountRef": {"name": "app"}})),
        jwt(json!({"serviceAccountRef": named, "secretRef": key("wrong")})),
    ] {
        let config = config(block(service.url(), auth.clone()));
        config.validate(StoreKind::SecretStore).unwrap();
        let session = config.connect(&cluster.cx(&outbound()).connect).await.unwrap();
        assert_eq!(get(session.as_ref(), "apps/db").await.unwrap(), "v", "{auth}");
    }
    let asked: Vec<_> = cluster.token_requests().into_iter().map(|(_, spec)| spec["audiences"].clone()).collect();
    assert_eq!(asked, [json!([service.url()]), json!(["conjur"])], "never a token for nobody in particular");

    for (auth, kind) in [
        (
            json!({"apikey": {"account": fake::ACCOUNT, "userRef": key("user"), "apiKeyRef": key("wrong")}}),
            ErrorKind::Denied,
        ),
        (
            json!({"apikey": {"account": fake::ACCOUNT, "userRef": key("nope"), "apiKeyRef": key("key")}}),
            ErrorKind::Misconfigured,
        ),
        (jwt(json!({"secretRef": key("wrong")})), ErrorKind::Denied),
        (jwt(json!({})), ErrorKind::Misconfigured),
        (json!({}), ErrorKind::Misconfigured),
    ] {
        let config = config(block(service.url(), auth.clone()));
        let error = config.connect(&cluster.cx(&outbound()).connect).await.err().expect("an error");
        assert_eq!(error.kind, kind, "{auth}: {error}");
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    }
}

#[tokio::test]
async fn a_client_certificate_logs_in() {
    let pki = Pki::new();
    let service = Service::default();
    service.put("apps/db", "v");
    let server = FakeServer::start_tls(&pki, true, move |asked| service.answer(asked)).await;
    let (certificate, private) = pki.issue("client.example.test");
    let login = [("cert", certificate.as_str()), ("key", private.as_str())];
    let cluster = Cluster::new().labelled_secret("login", &json!({}), &login);
    for host in [json!(null), json!(fake::HOST)] {
        let cert = json!({
            "account": fake::ACCOUNT, "serviceID": fake::SERVICE, "hostId": host,
            "clientCertRef": key("cert"), "clientKeyRef": key("key"),
        });
        let mut block = block(&server.url, json!({"cert": cert}));
        block["caBundle"] = json!(String::from_utf8(pki.ca()).unwrap());
        let session = config(block).connect(&cluster.cx(&outbound()).connect).await.unwrap();
        assert_eq!(get(session.as_ref(), "apps/db").await.unwrap(), "v", "{host}");
    }
}

#[tokio::test]
async fn values_are_read_together_whatever_they_are() {
    let service = running().await;
    let bytes: Vec<u8> = (0..=255).collect();
    service.fake.put("apps/bytes", &bytes);
    service.fake.put("apps/text", "t");
    service.fake.put("odd,name", "o");
    service.fake.put("secret", "s");
    service.fake.deny("secret");
    service.fake.declare("empty", &BTreeMap::new());
    let session = connect(&Host, service.url()).await;
    let get = async |keys: &[&str]| -> Vec<Result<Vec<u8>, ErrorKind>> {
        let wants: Vec<Want> = keys.iter().map(|key| Want { key: (*key).to_owned(), ..Want::default() }).collect();
        let read = session.get(&wants, &CallCx::default()).await;
        read.into_iter().map(|read| read.map(|f| f.bytes.expose().to_vec()).map_err(|e| e.kind)).collect()
    };
    let of = |text: &str| Ok(text.as_bytes().to_vec());
    let before = service.server.received().len();
    assert_eq!(get(&["apps/text", "apps/bytes"]).await, [of("t"), Ok(bytes.clone())]);
    assert_eq!(service.server.received().len(), before + 1);
    assert_eq!(get(&["odd,name", "apps/text", "apps/bytes"]).await, [of("o"), of("t"), Ok(bytes)]);
    let missing = Err(ErrorKind::NotFound);
    let mixed = get(&["apps/text", "gone", "secret", "empty"]).await;
    assert_eq!(mixed, [of("t"), missing.clone(), Err(ErrorKind::Denied), missing]);
}

#[tokio::test]
async fn find_by_policy_and_annotations() {
    let service = running().await;
    let team = BTreeMap::from([("team".to_owned(), "a".to_owned())]);
    for n in 0..230 {
        service.fake.put(&format!("apps/s-{n:03}"), n.to_string());
    }
    service.fake.declare("apps/s-229", &team);
    service.fake.declare("apps/empty", &team);
    service.fake.put("apps2/s", "x");
    let session = connect(&Host, service.url()).await;
    let names = async |query: FindQuery| -> Vec<String> {
        session.find(&query, &CallCx::default()).await.unwrap().into_iter().map(|found| found.name).collect()
    };
    assert_eq!(names(FindQuery { path: "apps".into(), ..FindQuery::default() }).await.len(), 230);
    assert_eq!(names(FindQuery { name: "^apps2/".into(), ..FindQuery::default() }).await, ["apps2/s"]);
    assert_eq!(names(FindQuery { tags: team, ..FindQuery::default() }).await, ["apps/s-229"]);
    let want = Want { key: "apps/s-229".into(), metadata: MetadataPolicy::Fetch, ..Want::default() };
    let annotations = session.get(&[want], &CallCx::default()).await.remove(0).unwrap();
    assert_eq!(annotations.bytes.expose_str(), Some(r#"{"team":"a"}"#));
}

#[tokio::test]
async fn one_login_for_all_and_a_new_one_when_the_token_ends() {
    let service = running().await;
    service.fake.put("a", "v");
    let session = connect(&Host, service.url()).await;
    let logins = || service.server.lines().iter().filter(|line| line.ends_with("/authenticate")).count();
    for _ in 0..3 {
        assert_eq!(get(session.as_ref(), "a").await.unwrap(), "v");
    }
    assert_eq!(logins(), 1);
    service.fake.end_tokens();
    assert_eq!(get(session.as_ref(), "a").await.unwrap(), "v");
    assert_eq!(logins(), 2);
}

#[tokio::test]
async fn a_page_is_no_value() {
    let service = running().await;
    service.fake.put("a", "v");
    let session = connect(&Host, service.url()).await;
    service.set_fault(Some(keyferry_fakes::Fault::Garbles));
    for keys in [vec!["a"], vec!["a", "b"]] {
        let wants: Vec<Want> = keys.iter().map(|key| Want { key: (*key).to_owned(), ..Want::default() }).collect();
        for read in session.get(&wants, &CallCx::default()).await {
            assert_eq!(read.unwrap_err().kind, ErrorKind::Malformed);
        }
    }
    let found = session.find(&FindQuery::default(), &CallCx::default()).await;
    assert_eq!(found.unwrap_err().kind, ErrorKind::Malformed);
}

/// A server that logs in as Conjur does, and answers all else in one way.
async fn answering(reply: Reply) -> (FakeServer, Arc<dyn Session>) {
    let token = Reply::json(200, &json!({"protected": "", "payload": "", "signature": ""}));
    let answer = move |asked: &Received| if asked.method() == "POST" { token.clone() } else { reply.clone() };
    let server = FakeServer::start(answer).await;
    let session = config(Host.block(&server.url)).connect(&cluster().cx(&outbound()).connect).await.unwrap();
    (server, session)
}

#[tokio::test]
async fn a_404_that_is_not_conjurs_is_no_missing_secret() {
    for body in ["", "<html>not found</html>", r#"{"message": "no route"}"#, r#"{"error": "not_found"}"#] {
        let (_server, session) = answering(Reply::text(404, body)).await;
        let plain = |key: &str| Want { key: key.into(), ..Want::default() };
        let wants = [plain("a"), plain("b"), Want { metadata: MetadataPolicy::Fetch, ..plain("c") }];
        for read in session.get(&wants, &CallCx::default()).await {
            assert_eq!(read.unwrap_err().kind, ErrorKind::Misconfigured, "{body}");
        }
    }
}

#[tokio::test]
async fn a_list_without_end_is_left() {
    let page: Vec<Json> = (0..100).map(|number| json!({"id": format!("shop:variable:v{number}")})).collect();
    let (server, session) = answering(Reply::json(200, &json!(page))).await;
    let error = session.find(&FindQuery::default(), &CallCx::default()).await.err().unwrap();
    assert!(error.kind == ErrorKind::Malformed && error.detail.contains("no end"), "{error}");
    assert_eq!(server.lines().iter().filter(|line| line.contains("/resources/")).count(), 1000);
}

#[test]
fn what_a_store_depends_on() {
    let mut block = Host.block("https://conjur.example/");
    block["caProvider"] = json!({"type": "Secret", "name": "ca", "key": "ca.crt"});
    let conjur = config(block.clone());
    let names: Vec<String> = conjur.references().into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["login", "login", "ca"]);
    assert!(conjur.validate(StoreKind::SecretStore).is_ok());
    assert!(conjur.validate(StoreKind::ClusterSecretStore).is_err(), "the CA's namespace is missing");
    block["auth"]["jwt"] = json!({"account": "a", "serviceID": "b", "secretRef": {"name": "x"}});
    assert!(config(block.clone()).validate(StoreKind::SecretStore).is_err(), "two ways to log in");
    block["url"] = json!(" ");
    assert!(config(block).validate(StoreKind::SecretStore).is_err());
}
