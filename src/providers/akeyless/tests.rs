#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use keyferry_fakes::akeyless::{self as fake, Akeyless as Service};
use serde_json::{Value as Json, json};

use super::*;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::{FakeServer, Received, Reply, outbound};

use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, FindQuery, Place, Push, Pushed, Source, Want};
use crate::secret_bytes::SecretBytes;

struct ApiKey;

impl Served for ApiKey {
    type Fake = Service;

    const PROVIDER: &'static str = "akeyless";

    fn fake(&self, secrets: &[Stored]) -> Service {
        let service = Service::default();
        for secret in secrets {
            let value = match &secret.value {
                Value::Plain(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Value::Properties(pairs) => json!(pairs).to_string(),
            };
            let tags: Vec<&str> = secret.tags.values().map(String::as_str).collect();
            service.put(&secret.key, &value, &tags);
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        block(url, api_key())
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        LOGIN.to_vec()
    }

    /// All requests are of one method.
    fn writes(&self, asked: &Received) -> bool {
        ["/create-secret", "/update-secret-val", "/delete-item"].contains(&asked.path())
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        let slash = "names of Akeyless begin with a slash, which those of the suite have not: it has tests of its own";
        vec![(Check::Binary, "Akeyless keeps text only"), (Check::FindByName, slash), (Check::FindByTags, slash)]
    }
}

const LOGIN: &[(&str, &str)] = &[
    ("id", fake::ACCESS_ID),
    ("type", "api_key"),
    ("key", fake::ACCESS_KEY),
    ("k8s", "k8s"),
    ("aws", "aws_iam"),
    ("odd", CANARY),
    ("token", "a.kept.token"),
];

fn key(key: &str) -> Json {
    json!({"name": "login", "key": key})
}

fn api_key() -> Json {
    with_type("type", "key")
}

fn with_type(kind: &str, parameter: &str) -> Json {
    json!({"secretRef": {"accessID": key("id"), "accessType": key(kind), "accessTypeParam": key(parameter)}})
}

fn kubernetes(more: Json) -> Json {
    let mut auth = json!({"accessID": fake::ACCESS_ID, "k8sConfName": fake::K8S_CONFIG});
    auth.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"kubernetesAuth": auth})
}

fn block(url: &str, auth: Json) -> Json {
    json!({"akeylessGWApiURL": url, "authSecretRef": auth})
}

fn config(block: Json) -> Akeyless {
    serde_json::from_value(block).unwrap()
}

type Running = keyferry_fakes::Service<Service>;

async fn running() -> Running {
    Running::start(Service::default()).await
}

fn cluster() -> Cluster {
    Cluster::new().labelled_secret("login", &json!({}), LOGIN).service_account("app", &json!({}))
}

async fn refused(block: Json) -> ProviderError {
    let error = config(block).connect(&cluster().cx(&outbound()).connect).await.err().expect("an error");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    error
}

async fn get(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    let want = Want { key: key.into(), ..Want::default() };
    let fetched = session.get(&[want], &CallCx::default()).await.remove(0)?;
    Ok(fetched.bytes.expose_str().unwrap().to_owned())
}

impl Tested for Akeyless {
    const TITLE: &'static str = "Akeyless";
    const AUTH: &'static [&'static str] = &["secretRef", "kubernetesAuth"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(ApiKey))]
    }
}

#[tokio::test]
async fn each_way_to_log_in() {
    let service = running().await;
    service.fake.put("/a", "a", &[]);
    let cluster = cluster();
    let account = json!({"serviceAccountRef": {"name": "app", "audiences": ["https://gateway.example"]}});
    for auth in [api_key(), kubernetes(json!({"secretRef": {"name": "login"}})), kubernetes(account)] {
        let config = config(block(service.url(), auth.clone()));
        config.validate(StoreKind::SecretStore).unwrap();
        let session = config.connect(&cluster.cx(&outbound()).connect).await.unwrap();
        assert_eq!(get(session.as_ref(), "/a").await.unwrap(), "a", "{auth}");
    }
    assert_eq!(service.fake.jwts()[0], "a.kept.token", "the key left out is `token`");
    let asked = cluster.token_requests();
    assert_eq!(asked.len(), 1);
    assert_eq!((asked[0].0.as_str(), &asked[0].1["audiences"]), ("app", &json!(["https://gateway.example"])));

    for (auth, kind) in [
        (with_type("type", "odd"), ErrorKind::Denied),
        (with_type("aws", "key"), ErrorKind::Unsupported),
        (with_type("odd", "key"), ErrorKind::Misconfigured),
        (with_type("type", "nope"), ErrorKind::Misconfigured),
        (json!({"serviceAccountRef": {"name": "app"}}), ErrorKind::Unsupported),
        (json!({}), ErrorKind::Misconfigured),
    ] {
        let error = refused(block(service.url(), auth.clone())).await;
        assert_eq!(error.kind, kind, "{auth}: {error}");
    }
}

#[tokio::test]
async fn no_token_goes_out_that_is_good_for_more() {
    let service = running().await;
    let error = refused(block(service.url(), kubernetes(json!({"serviceAccountRef": {"name": "app"}})))).await;
    assert!(error.detail.contains("audiences must be set"), "{error}");
    for own in [kubernetes(json!({})), with_type("k8s", "key")] {
        let error = refused(block(service.url(), own)).await;
        assert!(error.detail.contains("ClusterSecretStore"), "{error}");
    }
    assert!(service.server.received().is_empty());
}

#[tokio::test]
async fn a_gateway_has_its_api_below() {
    let service = Running::start(Service::gateway()).await;
    service.fake.put("/a", "a", &[]);
    for url in [service.url().to_owned(), format!("{}/v2", service.url())] {
        let session = connect(&ApiKey, &url).await;
        assert_eq!(get(session.as_ref(), "/a").await.unwrap(), "a", "{url}");
    }
}

#[tokio::test]
async fn each_kind_of_secret() {
    let service = running().await;
    let fake = &service.fake;
    fake.put("/static", "s1", &[]);
    fake.put("/static", "s2", &[]);
    fake.put_item("DYNAMIC_SECRET", "/dynamic", &json!({"user": "u<", "id": 7}), &[]);
    fake.put_item("ROTATED_SECRET", "/payload", &json!({"value": {"payload": "p", "other": 1}}), &[]);
    fake.put_item("ROTATED_SECRET", "/target", &json!({"value": {"target_value": {"b": 2, "a": "1"}}}), &[]);
    fake.put_item("ROTATED_SECRET", "/plain", &json!({"value": {"username": "u", "password": "p"}}), &[]);
    fake.put_item("CERTIFICATE", "/cert", &json!({"private_key_pem": "k", "certificate_pem": "c"}), &[]);
    fake.put_item("SSH_CERT_ISSUER", "/issuer", &json!({}), &[]);
    let session = connect(&ApiKey, service.url()).await;
    let session = session.as_ref();
    for (key, value) in [
        ("/static", "s2"),
        ("/dynamic", r#"{"id":7,"user":"u\u003c"}"#),
        ("/payload", "p"),
        ("/target", r#"{"a":"1","b":2}"#),
        ("/plain", r#"{"password":"p","username":"u"}"#),
        ("/cert", r#"{"certificate_pem":"c","private_key_pem":"k"}"#),
    ] {
        assert_eq!(get(session, key).await.unwrap(), value, "{key}");
    }
    assert_eq!(get(session, "/issuer").await.unwrap_err().kind, ErrorKind::Unsupported);
    let error = session.push(&push("/dynamic", "x"), &CallCx::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unsupported);

    // The kind is asked for once, and again when the secret is another one now.
    let before = service.server.received().len();
    get(session, "/static").await.unwrap();
    assert_eq!(service.server.received().len(), before + 1);
    fake.remove("/static");
    assert_eq!(get(session, "/static").await.unwrap_err().kind, ErrorKind::NotFound);
    fake.put_item("ROTATED_SECRET", "/cert", &json!({"value": {"payload": "now"}}), &[]);
    assert_eq!(get(session, "/cert").await.unwrap(), "now");
}

#[tokio::test]
async fn static_secrets_are_read_together() {
    let service = running().await;
    for name in ["/a", "/b", "/c"] {
        service.fake.put(name, name, &[]);
    }
    service.fake.deny("/c");
    let session = connect(&ApiKey, service.url()).await;
    let get = async |keys: &[&str]| -> Vec<Result<String, ErrorKind>> {
        let wants: Vec<Want> = keys.iter().map(|key| Want { key: (*key).to_owned(), ..Want::default() }).collect();
        let read = session.get(&wants, &CallCx::default()).await;
        read.into_iter().map(|r| r.map(|f| f.bytes.expose_str().unwrap().to_owned()).map_err(|e| e.kind)).collect()
    };
    let of = |name: &str| Ok(name.to_owned());
    assert_eq!(get(&["b", "/a"]).await, [of("/b"), of("/a")]);
    let reads = || service.server.lines().iter().filter(|line| line.contains("get-secret-value")).count();
    assert_eq!(reads(), 1);
    assert_eq!(
        get(&["/c", "/a", "/gone", "/b"]).await,
        [Err(ErrorKind::Denied), of("/a"), Err(ErrorKind::NotFound), of("/b")]
    );
    // One of them fails, the others are read all the same.
    service.fake.remove("/a");
    assert_eq!(get(&["/a", "b"]).await, [Err(ErrorKind::NotFound), of("/b")]);
}

#[tokio::test]
async fn find_gives_full_names() {
    let service = running().await;
    for n in 0..120 {
        service.fake.put(&format!("/app/s-{n:03}"), &n.to_string(), &["prod"]);
    }
    service.fake.put("/app2/s", "x", &["prod", "team-a"]);
    service.fake.put("/top", "t", &["team-a"]);
    let session = connect(&ApiKey, service.url()).await;
    let names = async |path: &str, name: &str, tags: &[&str]| -> Vec<String> {
        let tags = tags.iter().map(|tag| ((*tag).to_owned(), (*tag).to_owned())).collect();
        let query = FindQuery { path: path.into(), name: name.into(), tags };
        session.find(&query, &CallCx::default()).await.unwrap().into_iter().map(|found| found.name).collect()
    };
    assert_eq!(names("app", "", &[]).await.len(), 120);
    assert_eq!(names("", "^/top$", &[]).await, ["/top"]);
    assert_eq!(names("", "", &["team-a"]).await, ["/app2/s", "/top"]);
    assert_eq!(names("", "", &["prod", "team-a"]).await, ["/app2/s"], "all of the tags");
    assert_eq!(names("/app2/", "s$", &["team-a"]).await, ["/app2/s"]);
}

#[tokio::test]
async fn one_login_for_all_and_a_new_one_when_the_token_ends() {
    let service = running().await;
    service.fake.put("/a", "a", &[]);
    let session = connect(&ApiKey, service.url()).await;
    let logins = || service.server.lines().iter().filter(|line| line.ends_with("/auth")).count();
    for _ in 0..3 {
        assert_eq!(get(session.as_ref(), "/a").await.unwrap(), "a");
    }
    assert_eq!(logins(), 1);
    service.fake.end_tokens();
    assert_eq!(get(session.as_ref(), "/a").await.unwrap(), "a");
    assert_eq!(logins(), 2);
}

fn push(key: &str, value: &str) -> Push {
    let source = Source { data: BTreeMap::from([("v".to_owned(), SecretBytes::from(value))]), ..Source::default() };
    let place = Place { key: key.into(), ..Place::default() };
    Push { source: Arc::new(source), secret_key: Some("v".into()), place }
}

#[tokio::test]
async fn what_is_pushed_carries_the_mark_of_eso() {
    let service = running().await;
    let session = connect(&ApiKey, service.url()).await;
    assert_eq!(session.push(&push("/new", "1"), &CallCx::default()).await.unwrap(), Pushed::Written);
    assert_eq!(service.fake.tags("/new"), ["k8s-external-secrets"]);
    assert_eq!(service.fake.value("/new").as_deref(), Some("1"));
}

#[tokio::test]
async fn a_cache_between_is_passed_by_where_the_store_says_so() {
    let service = running().await;
    service.fake.put("/a", "a", &[]);
    for (ignore, expected) in [(json!(null), json!(null)), (json!(true), json!("true"))] {
        let mut block = ApiKey.block(service.url());
        block["ignoreCache"] = ignore;
        let session = config(block).connect(&cluster().cx(&outbound()).connect).await.unwrap();
        get(session.as_ref(), "/a").await.unwrap();
        assert_eq!(service.server.received().last().unwrap().json()["ignore-cache"], expected);
    }
}

#[tokio::test]
async fn a_404_that_is_not_akeyless_own_is_no_missing_secret() {
    for (body, missing) in [
        (json!({"error": format!("failed to describe item: item /a not found {CANARY}")}).to_string(), true),
        (json!({"error": "unknown command"}).to_string(), false),
        (json!({"error": "Not Found", "status": 404, "path": "/describe-item"}).to_string(), false),
        (json!({"message": "item not found"}).to_string(), false),
        (format!("<html>404 item not found {CANARY}</html>"), false),
        (String::new(), false),
    ] {
        let said = body.clone();
        let server = FakeServer::start(move |asked: &Received| match asked.path() {
            "/auth" => Reply::json(200, &json!({"token": "t"})),
            _ => Reply::text(404, &said),
        })
        .await;
        let session = connect(&ApiKey, &server.url).await;
        let expected = if missing { ErrorKind::NotFound } else { ErrorKind::Misconfigured };
        let error = get(session.as_ref(), "/a").await.unwrap_err();
        assert_eq!(error.kind, expected, "{body}");
        assert!(!error.detail.contains(CANARY), "{error}");
        let place = push("/a", "").place;
        let exists = session.exists(&place, &CallCx::default()).await.map_err(|error| error.kind);
        assert_eq!(exists, if missing { Ok(false) } else { Err(ErrorKind::Misconfigured) }, "{body}");
        assert_eq!(session.delete(&place, &CallCx::default()).await.is_ok(), missing, "{body}");
    }
    let server = FakeServer::start(|asked: &Received| match asked.path() {
        "/auth" => Reply::json(200, &json!({"token": "t"})),
        _ => Reply::json(200, &json!({"status": "ok"})),
    })
    .await;
    let session = connect(&ApiKey, &server.url).await;
    assert_eq!(get(session.as_ref(), "/a").await.unwrap_err().kind, ErrorKind::Malformed, "nor is an answer of others");
}

#[tokio::test]
async fn a_batch_that_is_to_wait_is_not_read_singly() {
    let service = running().await;
    for name in ["/a", "/b", "/c"] {
        service.fake.put(name, name, &[]);
    }
    let session = connect(&ApiKey, service.url()).await;
    for name in ["/a", "/b", "/c"] {
        get(session.as_ref(), name).await.unwrap();
    }
    let wants: Vec<Want> = ["/a", "/b", "/c"].iter().map(|key| Want { key: (*key).to_owned(), ..Want::default() }).collect();
    let before = service.server.received().len();
    service.set_fault(Some(keyferry_fakes::Fault::Refuses(keyferry_fakes::Refusal::Throttled(7))));
    for result in session.get(&wants, &CallCx::default()).await {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Throttled);
        assert_eq!(error.retry_after, Some(std::time::Duration::from_secs(7)));
    }
    assert_eq!(service.server.received().len(), before + 1);
}

#[tokio::test]
async fn a_list_that_does_not_end_is_given_up() {
    let service = running().await;
    service.fake.list_without_end();
    let session = connect(&ApiKey, service.url()).await;
    let error = session.find(&FindQuery::default(), &CallCx::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert_eq!(service.server.lines().iter().filter(|line| line.contains("list-items")).count(), 1000);
}
