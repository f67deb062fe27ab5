#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_fakes::Service;
use keyferry_fakes::pulumi::{self as fake, Pulumi as Fake};
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::outbound;
use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, FindQuery, Place, Push, Pushed, Source, Want};
use crate::secret_bytes::SecretBytes;

struct ByToken;

impl Served for ByToken {
    type Fake = Fake;

    const PROVIDER: &'static str = "pulumi";

    fn fake(&self, secrets: &[Stored]) -> Fake {
        let secret = |text: &str| json!({"fn::secret": text});
        let values = |version: Option<&str>| {
            let of_version = secrets.iter().filter(|secret| secret.version == version);
            let value = |stored: &Stored| match &stored.value {
                Value::Plain(bytes) => secret(&String::from_utf8_lossy(bytes)),
                Value::Properties(pairs) => Json::Object(pairs.iter().map(|(k, v)| (k.clone(), secret(v))).collect()),
            };
            Json::Object(of_version.map(|stored| (stored.key.clone(), value(stored))).collect::<Map<_, _>>())
        };
        let service = Fake::new(values(None));
        for version in secrets.iter().filter_map(|secret| secret.version) {
            service.tag_older(version, values(Some(version)));
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        let token = json!({"secretRef": {"name": "login", "key": "token"}});
        json!({
            "apiUrl": format!("{url}/api/esc"), "organization": fake::ORGANIZATION, "project": fake::PROJECT,
            "environment": fake::ENVIRONMENT, "auth": {"accessToken": token},
        })
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("token", fake::TOKEN)]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![
            (Check::Binary, "values are text"),
            (Check::FindByTags, "values have no tags"),
            (Check::PushForeign, "a definition has no place for a mark, so nothing tells ours from others'"),
        ]
    }
}

impl Tested for Pulumi {
    const TITLE: &'static str = "Pulumi ESC";
    const AUTH: &'static [&'static str] = &["accessToken", "oidcConfig"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(ByToken))]
    }
}

async fn session(values: Json) -> (Service<Fake>, Arc<dyn Session>) {
    let service = Service::start(Fake::new(values)).await;
    let session = connect(&ByToken, service.url()).await;
    (service, session)
}

fn want(key: &str) -> Want {
    Want { key: key.to_owned(), ..Want::default() }
}

async fn read(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    let fetched = session.get(&[want(key)], &CallCx::default()).await.remove(0)?;
    Ok(fetched.bytes.expose_str().unwrap().to_owned())
}

fn values() -> Json {
    json!({
        "db": {"user": "ann", "password": {"fn::secret": "p<w"}, "ports": [5432, 5433], "on": true},
        "with.dot": "d", "none": null, "big": 1e21,
    })
}

#[tokio::test]
async fn keys_are_property_paths() {
    let (service, session) = session(values()).await;
    for (key, expected) in [
        ("db.user", "ann"),
        ("db.password", "p<w"),
        ("db.ports[1]", "5433"),
        ("db.ports", "[5432,5433]"),
        ("db", r#"{"on":true,"password":"p\u003cw","ports":[5432,5433],"user":"ann"}"#),
        ("with.dot", "d"),
        ("[\"with.dot\"]", "d"),
        ("none", ""),
    ] {
        assert_eq!(read(session.as_ref(), key).await.unwrap(), expected, "{key}");
    }
    for key in ["nope", "db.nope", "db.ports[2]", "db..user", ""] {
        assert_eq!(read(session.as_ref(), key).await.unwrap_err().kind, ErrorKind::NotFound, "{key}");
    }
    let before = service.fake.opened();
    let wants = [want("db.user"), want("db"), want("none")];
    assert_eq!(session.get(&wants, &CallCx::default()).await.len(), 3);
    assert_eq!(service.fake.opened(), before + 1, "all of them are one opening");
}

#[tokio::test]
async fn values_are_found_at_the_top_or_in_a_map() {
    let (_service, session) = session(values()).await;
    for (path, name, names) in
        [("", "^(db|none)$", vec!["db", "none"]), ("db", "o", vec!["on", "password", "ports"]), ("none", "", vec![])]
    {
        let query = FindQuery { path: path.into(), name: name.into(), ..FindQuery::default() };
        let found = session.find(&query, &CallCx::default()).await.unwrap();
        assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), names, "{query:?}");
    }
}

#[tokio::test]
async fn an_environment_that_cannot_be_evaluated_is_told() {
    let (_service, session) = session(json!({"a": {"fn::nope": CANARY}})).await;
    let error = read(session.as_ref(), "a").await.unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("cannot evaluate it"), "{error}");
    assert!(!error.detail.contains(CANARY));
}

#[tokio::test]
async fn an_environment_that_is_not_there_is_no_missing_secret() {
    let service = Service::start(Fake::new(values())).await;
    let mut block = ByToken.block(service.url());
    for (environment, version, kind) in [
        ("nope", "", ErrorKind::Misconfigured),
        ("nope", "1", ErrorKind::Misconfigured),
        ("prod@nope", "", ErrorKind::Misconfigured),
        ("prod@nope", "nope", ErrorKind::Misconfigured),
        ("prod", "nope", ErrorKind::NotFound),
        ("prod@1", "nope", ErrorKind::NotFound),
    ] {
        block["environment"] = environment.into();
        let session = open(&block, StoreKind::SecretStore).await.unwrap();
        let asked = Want { version: version.into(), ..want("db") };
        let error = session.get(&[asked], &CallCx::default()).await.remove(0).unwrap_err();
        assert_eq!(error.kind, kind, "{environment} {version}: {error}");
        assert!(!error.detail.contains(CANARY));
    }
    service.fake.tag_older("stable", json!({"db": "old"}));
    block["environment"] = "prod@stable".into();
    let session = open(&block, StoreKind::SecretStore).await.unwrap();
    assert_eq!(read(session.as_ref(), "db").await.unwrap(), "old");
    let error = session.delete(&Place { key: "db".into(), ..Place::default() }, &CallCx::default()).await.unwrap_err();
    assert!(error.detail.contains("a version of an environment cannot be written to"), "{error}");
}

fn push(key: &str, value: &str, metadata: Option<Json>) -> Push {
    let block = metadata.map(
        |spec| json!({"apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata", "spec": spec}),
    );
    Push {
        source: Arc::new(Source { data: [("k".to_owned(), SecretBytes::from(value))].into(), ..Source::default() }),
        secret_key: Some("k".into()),
        place: Place { key: key.into(), metadata: block, ..Place::default() },
    }
}

#[tokio::test]
async fn a_push_leaves_the_rest_of_the_definition_alone() {
    let (service, session) = session(json!({})).await;
    let definition = json!({
        "imports": ["base"],
        "values": {"db": {"user": "ann", "old": {"fn::secret": "theirs"}}, "cloud": {"fn::open::aws-login": {"oidc": {}}}},
    });
    service.fake.define(definition.clone());
    let cx = CallCx::default();
    assert_eq!(session.push(&push("db.password", "pw", None), &cx).await.unwrap(), Pushed::Written);
    assert_eq!(session.push(&push("db.user", "bob", Some(json!({"secret": false}))), &cx).await.unwrap(), Pushed::Written);
    let mut expected = definition;
    expected["values"]["db"]["password"] = json!({"fn::secret": "pw"});
    expected["values"]["db"]["user"] = "bob".into();
    assert_eq!(service.fake.definition(), expected);
    let sent = service.server.received().into_iter().rfind(|asked| asked.method() == "PATCH").unwrap();
    assert!(sent.body.contains("ciphertext") && !sent.body.contains("theirs"), "secrets of others go back encrypted");
    assert_eq!(session.push(&push("db.password", "pw", None), &cx).await.unwrap(), Pushed::Unchanged);
    assert_eq!(
        session.push(&push("db.password", "pw", Some(json!({"secret": false}))), &cx).await.unwrap(),
        Pushed::Written
    );
    let error = session.push(&push("x", "v", Some(json!({"odd": 1}))), &cx).await.unwrap_err();
    assert!(error.detail.contains("unknown field \"odd\""), "{error}");
    session.delete(&push("db.password", "", None).place, &cx).await.unwrap();
    assert!(service.fake.definition()["values"]["db"].get("password").is_none());
}

async fn open(block: &Json, kind: StoreKind) -> Result<Arc<dyn Session>, ProviderError> {
    let cluster = Cluster::new().secret("login", "token", fake::TOKEN).service_account("app", &json!({}));
    open_in(&cluster, block, kind).await
}

async fn open_in(cluster: &Cluster, block: &Json, kind: StoreKind) -> Result<Arc<dyn Session>, ProviderError> {
    let config: Pulumi = serde_json::from_value(block.clone()).unwrap();
    config.validate(kind)?;
    config.connect(&cluster.cx(&outbound()).connect).await
}

#[tokio::test]
async fn a_service_accounts_token_is_exchanged_once() {
    let service = Service::start(Fake::new(values())).await;
    let mut block = ByToken.block(service.url());
    block["auth"] = json!({"oidcConfig": {"organization": fake::ORGANIZATION, "serviceAccountRef": {"name": "app"}}});
    let cluster = Cluster::new().service_account("app", &json!({}));
    let session = open_in(&cluster, &block, StoreKind::SecretStore).await.unwrap();
    for _ in 0..2 {
        assert_eq!(read(session.as_ref(), "db.user").await.unwrap(), "ann");
    }
    assert_eq!(service.fake.exchanged().len(), 1);
    let (account, asked) = cluster.token_requests().remove(0);
    assert_eq!(
        (account.as_str(), &asked["audiences"], &asked["expirationSeconds"]),
        ("app", &json!([service.url()]), &json!(600))
    );
    block["auth"]["oidcConfig"]["organization"] = "other".into();
    let error = open_in(&cluster, &block, StoreKind::SecretStore).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert!(!error.detail.contains("canary") && !error.detail.contains(CANARY));
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_told_in_esos_words() {
    let good = ByToken.block("http://127.0.0.1:1");
    let account = json!({"name": "app"});
    for (field, value, kind, text) in [
        ("organization", json!(""), StoreKind::SecretStore, "organization is required"),
        ("project", json!(""), StoreKind::SecretStore, "project is required"),
        ("environment", json!(""), StoreKind::SecretStore, "environment is required"),
        ("auth", json!({}), StoreKind::SecretStore, "no authentication method configured"),
        ("accessToken", json!({}), StoreKind::SecretStore, "only one authentication method may be configured"),
        ("auth", json!({"accessToken": {"secretRef": {"name": "n"}}}), StoreKind::SecretStore, "secretRef.key is required"),
        (
            "auth",
            json!({"oidcConfig": {"organization": "", "serviceAccountRef": account}}),
            StoreKind::SecretStore,
            "oidcConfig.organization is required",
        ),
        (
            "auth",
            json!({"oidcConfig": {"organization": "o", "serviceAccountRef": account}}),
            StoreKind::ClusterSecretStore,
            "serviceAccountRef.namespace is required for ClusterSecretStore",
        ),
    ] {
        let mut block = good.clone();
        block[field] = value;
        let error = open(&block, kind).await.err().unwrap();
        assert!(error.detail.contains(text), "{error}");
    }
}
