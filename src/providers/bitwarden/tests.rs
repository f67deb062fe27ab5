#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use keyferry_fakes::bitwarden::{self as fake, Bitwarden as Service};
use serde_json::{Value as Json, json};

use super::*;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::{FakeServer, Pki, Reply, outbound};

use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, FindQuery, Place, Push, Pushed, Source, Want};
use crate::secret_bytes::SecretBytes;

struct Store;

impl Served for Store {
    type Fake = Service;

    const PROVIDER: &'static str = "bitwardensecretsmanager";

    fn fake(&self, secrets: &[Stored]) -> Service {
        let service = Service::default();
        // A project of which nothing is seen is no project in which something is missing.
        service.put(fake::PROJECT, "stays", "s", "made by hand");
        for secret in secrets {
            let value = match &secret.value {
                Value::Plain(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Value::Properties(pairs) => json!(pairs).to_string(),
            };
            service.put(fake::PROJECT, &secret.key, &value, "made by hand");
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        json!({
            "organizationID": fake::ORGANIZATION, "projectID": fake::PROJECT, "bitwardenServerSDKURL": url,
            "auth": {"secretRef": {"credentials": {"name": "login", "key": "token"}}},
        })
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("token", fake::ACCESS_TOKEN), ("wrong", CANARY)]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![
            (Check::Binary, "Bitwarden keeps text only"),
            (Check::Version, "Bitwarden keeps one version only"),
            (Check::FindByTags, "Bitwarden has no tags"),
            (Check::NotAnObject, "a value can be YAML, and so is what the suite breaks: see values_are_json_or_yaml"),
            (Check::RetryAfter, "the server between says that Bitwarden asks to wait, and not for how long"),
        ]
    }
}

type Running = keyferry_fakes::Service<Service>;

async fn running() -> Running {
    Running::start(Service::default()).await
}

async fn get(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    let want = Want { key: key.into(), ..Want::default() };
    let fetched = session.get(&[want], &CallCx::default()).await.remove(0)?;
    Ok(fetched.bytes.expose_str().unwrap().to_owned())
}

impl Tested for Bitwarden {
    const TITLE: &'static str = "Bitwarden Secrets Manager";
    const AUTH: &'static [&'static str] = &["secretRef"];
    const SERVER: &'static str =
        "a fake of the server between, proven by Bitwarden's own SDK, which that server hands through";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Store))]
    }
}

#[tokio::test]
async fn by_name_in_the_project_and_by_id_anywhere() {
    let service = running().await;
    let here = service.fake.put(fake::PROJECT, "A", "here", "");
    let there = service.fake.put(fake::OTHER_PROJECT, "A", "there", "");
    service.fake.put(fake::OTHER_PROJECT, "B", "elsewhere", "");
    let session = connect(&Store, service.url()).await;
    let session = session.as_ref();
    assert_eq!(get(session, "A").await.unwrap(), "here");
    assert_eq!(get(session, &here).await.unwrap(), "here");
    assert_eq!(get(session, &there).await.unwrap(), "there");
    assert_eq!(get(session, "B").await.unwrap_err().kind, ErrorKind::NotFound);
    let gone = "00000000-0000-4000-8000-00000000ffff";
    assert_eq!(get(session, gone).await.unwrap_err().kind, ErrorKind::NotFound);
    service.fake.put(fake::PROJECT, "A", "again", "");
    let error = get(session, "A").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(error.detail.contains("more than one secret found"), "{error}");

    // However many: one list and one read, as each request is a login.
    let before = service.server.received().len();
    let wants: Vec<Want> =
        ["B", &here, &there, "C"].iter().map(|key| Want { key: (*key).to_owned(), ..Want::default() }).collect();
    let results = session.get(&wants, &CallCx::default()).await;
    let kinds: Vec<_> = results.iter().map(|r| r.as_ref().map(|_| ()).map_err(|e| e.kind)).collect();
    assert_eq!(kinds, [Err(ErrorKind::NotFound), Ok(()), Ok(()), Err(ErrorKind::NotFound)]);
    assert_eq!(service.server.received().len(), before + 2);
}

#[tokio::test]
async fn find_gives_names_or_ids() {
    let service = running().await;
    let here = service.fake.put(fake::PROJECT, "A", "here", "");
    let there = service.fake.put(fake::OTHER_PROJECT, "AB", "there", "");
    let session = connect(&Store, service.url()).await;
    let names = async |name: &str| -> Vec<String> {
        let query = FindQuery { name: name.into(), ..FindQuery::default() };
        let mut names: Vec<_> =
            session.find(&query, &CallCx::default()).await.unwrap().into_iter().map(|f| f.name).collect();
        names.sort();
        names
    };
    assert_eq!(names("^A").await, ["A"]);
    assert_eq!(names("").await, [here, there]);
    let query = FindQuery { path: "x".into(), ..FindQuery::default() };
    assert_eq!(session.find(&query, &CallCx::default()).await.unwrap_err().kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn values_are_json_or_yaml() {
    let service = running().await;
    service.fake.put(fake::PROJECT, "Y", "user: ann\nport: 5432\nlist: [a, 1]\nnone: ~\nmap:\n  a: b\n", "");
    service.fake.put(fake::PROJECT, "N", CANARY, "");
    let session = connect(&Store, service.url()).await;
    let extract = async |key: &str| {
        let want = Want { key: key.into(), ..Want::default() };
        let fetched = session.get(std::slice::from_ref(&want), &CallCx::default()).await.remove(0).unwrap();
        session.extract(&want, &fetched.bytes, None)
    };
    let found = extract("Y").await.unwrap();
    let found: BTreeMap<&str, &str> = found.iter().map(|(k, v)| (k.as_str(), v.expose_str().unwrap())).collect();
    let expected = [("user", "ann"), ("port", "5432"), ("list", r#"["a",1]"#), ("none", ""), ("map", r#"{"a":"b"}"#)];
    assert_eq!(found, BTreeMap::from(expected));
    let error = extract("N").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(!error.detail.contains(CANARY), "{error}");
}

fn push(key: &str, value: &str, metadata: Option<Json>) -> Push {
    let source = Source { data: BTreeMap::from([("v".to_owned(), SecretBytes::from(value))]), ..Source::default() };
    let place = Place { key: key.into(), metadata, ..Place::default() };
    Push { source: Arc::new(source), secret_key: Some("v".into()), place }
}

#[tokio::test]
async fn the_note_says_whose_a_secret_is() {
    let service = running().await;
    let session = connect(&Store, service.url()).await;
    let cx = CallCx::default();
    let note = || Some(json!({"note": "by keyferry"}));
    assert_eq!(session.push(&push("A", "1", note()), &cx).await.unwrap(), Pushed::Written);
    assert_eq!(session.push(&push("A", "1", note()), &cx).await.unwrap(), Pushed::Unchanged);
    assert_eq!(session.push(&push("A", "2", note()), &cx).await.unwrap(), Pushed::Written);
    let kept = service.fake.named("A");
    assert_eq!(kept.len(), 1, "there are no two of one name");
    assert_eq!(
        (kept[0].value.as_str(), kept[0].note.as_str(), kept[0].project.as_str()),
        ("2", "by keyferry", fake::PROJECT)
    );
    assert_eq!(session.push(&push("A", "3", None), &cx).await.unwrap_err().kind, ErrorKind::Denied);
    let block = json!({
        "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata", "spec": {"note": "by keyferry"},
    });
    assert_eq!(session.push(&push("A", "2", Some(block)), &cx).await.unwrap(), Pushed::Unchanged);

    session.delete(&push("A", "", None).place, &cx).await.unwrap();
    assert_eq!(service.fake.named("A").len(), 1, "it is not ours by its note");
    service.fake.lock(&kept[0].id);
    let error = session.delete(&push("A", "", note()).place, &cx).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(!error.detail.contains(CANARY), "{error}");
}

#[tokio::test]
async fn a_token_that_is_not_taken_and_a_server_that_is_not_trusted() {
    let pki = Pki::new();
    let service = Running::start_tls(&pki, Service::default()).await;
    let id = service.fake.put(fake::PROJECT, "A", "a", "");
    let cluster = Cluster::new().labelled_secret("login", &json!({}), &Store.login());
    let mut block = Store.block(service.url());
    let open = async |block: &Json| {
        let config: Bitwarden = serde_json::from_value(block.clone()).unwrap();
        config.validate(StoreKind::SecretStore).unwrap();
        config.connect(&cluster.cx(&outbound()).connect).await.unwrap()
    };
    assert_eq!(get(open(&block).await.as_ref(), &id).await.unwrap_err().kind, ErrorKind::Misconfigured);
    block["caBundle"] = json!(String::from_utf8(pki.ca()).unwrap());
    assert_eq!(get(open(&block).await.as_ref(), &id).await.unwrap(), "a");
    block["apiURL"] = json!("https://api.bitwarden.example/");
    assert_eq!(get(open(&block).await.as_ref(), &id).await.unwrap(), "a");
    assert_eq!(service.server.received().last().unwrap().header("warden-api-url"), "https://api.bitwarden.example");
    block["auth"]["secretRef"]["credentials"]["key"] = json!("wrong");
    let error = get(open(&block).await.as_ref(), &id).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.detail.contains("access token") && !error.detail.contains(CANARY), "{error}");

    block["bitwardenServerSDKURL"] = json!("");
    let config: Bitwarden = serde_json::from_value(block).unwrap();
    assert_eq!(config.validate(StoreKind::SecretStore).unwrap_err().detail, "bitwardenServerSDKURL not configured");
}

async fn kinds(session: &dyn Session, keys: &[&str]) -> Vec<Result<(), ErrorKind>> {
    let wants: Vec<Want> = keys.iter().map(|key| Want { key: (*key).to_owned(), ..Want::default() }).collect();
    let results = session.get(&wants, &CallCx::default()).await;
    results.into_iter().map(|result| result.map(drop).map_err(|error| error.kind)).collect()
}

#[tokio::test]
async fn one_that_is_gone_takes_no_others_with_it() {
    let service = running().await;
    service.fake.put(fake::PROJECT, "A", "a", "");
    let lost = service.fake.put(fake::PROJECT, "B", "b", "");
    service.fake.lose(&lost);
    let session = connect(&Store, service.url()).await;
    assert_eq!(kinds(session.as_ref(), &["A", "B"]).await, [Ok(()), Err(ErrorKind::NotFound)]);
    assert_eq!(kinds(session.as_ref(), &[&lost, "A"]).await, [Err(ErrorKind::NotFound), Ok(())]);
    let query = FindQuery { name: "^[AB]$".into(), ..FindQuery::default() };
    assert_eq!(session.find(&query, &CallCx::default()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_organization_or_project_out_of_reach_is_no_missing_secret() {
    let service = running().await;
    let id = service.fake.put(fake::OTHER_PROJECT, "A", "a", "");
    let cluster = Cluster::new().labelled_secret("login", &json!({}), &Store.login());
    let open = async |field: &str, value: &str| {
        let mut block = Store.block(service.url());
        block[field] = json!(value);
        let config: Bitwarden = serde_json::from_value(block).unwrap();
        config.connect(&cluster.cx(&outbound()).connect).await.unwrap()
    };
    let session = open("organizationID", "00000000-0000-4000-8000-0000000000ff").await;
    let misconfigured: Result<(), ErrorKind> = Err(ErrorKind::Misconfigured);
    let missing: Result<(), ErrorKind> = Err(ErrorKind::NotFound);
    assert_eq!(kinds(session.as_ref(), &["A"]).await, [misconfigured]);
    assert_eq!(kinds(session.as_ref(), &["A", &id]).await, [misconfigured, misconfigured]);
    assert_eq!(session.validate(&CallCx::default()).await.unwrap_err().kind, ErrorKind::Misconfigured);

    // Secrets of another project are seen, and none of the store's.
    let session = connect(&Store, service.url()).await;
    assert_eq!(kinds(session.as_ref(), &["B", &id]).await, [misconfigured, Ok(())]);
    let error = get(session.as_ref(), "A").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(error.detail.contains("projectID") && error.detail.contains(fake::PROJECT), "{error}");
    let query = FindQuery { name: "^A".into(), ..FindQuery::default() };
    assert_eq!(session.find(&query, &CallCx::default()).await.unwrap_err().kind, ErrorKind::Misconfigured);
    service.fake.put(fake::PROJECT, "C", "c", "");
    assert_eq!(kinds(session.as_ref(), &["B", "A"]).await, [missing, missing]);
}

#[tokio::test]
async fn the_case_of_an_id_means_nothing() {
    let service = running().await;
    let ids: Vec<String> = (0..10).map(|n| service.fake.put(fake::PROJECT, &format!("S{n}"), "v", "")).collect();
    let upper = ids[9].to_uppercase();
    assert_ne!(upper, ids[9]);
    let session = connect(&Store, service.url()).await;
    assert_eq!(kinds(session.as_ref(), &[&upper]).await, [Ok(())]);
    assert_eq!(kinds(session.as_ref(), &[&upper, "S0"]).await, [Ok(()), Ok(())]);
}

#[tokio::test]
async fn no_push_reaches_another_project_by_an_id() {
    let service = running().await;
    let id = service.fake.put(fake::OTHER_PROJECT, "A", "theirs", "");
    let session = connect(&Store, service.url()).await;
    let cx = CallCx::default();
    let error = session.push(&push(&id, "ours", None), &cx).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(error.detail.contains("another project"), "{error}");
    assert_eq!(session.exists(&push(&id, "", None).place, &cx).await.unwrap_err().kind, ErrorKind::Misconfigured);
    session.delete(&push(&id, "", None).place, &cx).await.unwrap();
    assert_eq!(service.fake.named("A")[0].value, "theirs");
}

#[tokio::test]
async fn what_bitwarden_did_not_say_is_no_refusal_of_it() {
    let login = "failed to login to bitwarden using access token: bitwarden login: API error: ";
    let sending = format!("error sending request for url (https://identity.example/{CANARY})");
    for (said, kind) in [
        (format!("{login}{sending}"), ErrorKind::Unavailable),
        (format!("failed to get secret: API error: {sending}"), ErrorKind::Unavailable),
        (format!("{login}Access token is not in a valid format: {CANARY}"), ErrorKind::Denied),
        (format!("{login}Cryptography error, {CANARY}"), ErrorKind::Denied),
        (format!("failed to get secret: API error: The decryption operation failed {CANARY}"), ErrorKind::Unavailable),
        (format!("{login}Received error message from server: [400 Bad Request] {CANARY}"), ErrorKind::Denied),
        (format!("{login}Received error message from server: [503 Service Unavailable] {CANARY}"), ErrorKind::Unavailable),
    ] {
        let answer = said.clone();
        let server = FakeServer::start(move |_| Reply::text(400, &answer)).await;
        let session = connect(&Store, &server.url).await;
        for error in [get(session.as_ref(), "A").await.unwrap_err(), session.validate(&CallCx::default()).await.unwrap_err()]
        {
            assert_eq!(error.kind, kind, "{said}: {error}");
            assert!(!error.detail.contains(CANARY), "{error}");
        }
    }
}

#[tokio::test]
async fn an_access_token_that_the_sdk_cannot_use() {
    let service = running().await;
    let id = service.fake.put(fake::PROJECT, "A", "a", "");
    let (account, key) = fake::ACCESS_TOKEN.split_once(':').unwrap();
    let tokens = [
        account.to_owned(),
        format!("machine.account:{key}"),
        format!("1{}:{key}", account.strip_prefix('0').unwrap()),
        format!("0.machine.account:{key}"),
        format!("{account}:!!"),
        format!("{account}:AAAA"),
        format!("{account}:{}", key.replace('F', "G")),
        format!("{account}s:{key}"),
    ];
    for token in &tokens {
        let cluster = Cluster::new().labelled_secret("login", &json!({}), &[("token", token.as_str())]);
        let config: Bitwarden = serde_json::from_value(Store.block(service.url())).unwrap();
        let session = config.connect(&cluster.cx(&outbound()).connect).await.unwrap();
        for error in [get(session.as_ref(), &id).await.unwrap_err(), session.validate(&CallCx::default()).await.unwrap_err()]
        {
            assert_eq!(error.kind, ErrorKind::Denied, "{token}: {error}");
            assert!(!error.detail.contains(CANARY) && !error.detail.contains(key), "{error}");
        }
    }
}

#[tokio::test]
async fn what_the_sdk_refuses_is_no_outage() {
    let service = running().await;
    let session = connect(&Store, service.url()).await;
    let cx = CallCx::default();
    let note = |note: &str| Some(json!({"note": note}));
    let (long_name, long_value) = ("k".repeat(501), "v".repeat(25_001));
    for (push, words) in [
        (push("A", "", None), "a value 1 to 25000"),
        (push("A", &long_value, None), "a value 1 to 25000"),
        (push(&long_name, "1", None), "a name must have 1 to 500"),
        (push("A", "1", note("\n")), "neither name nor note may be blank"),
        (push(" A", "1", None), "the space around a name"),
    ] {
        let error = session.push(&push, &cx).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
        assert!(error.detail.contains(words), "{error}");
    }
    assert!(service.fake.named("A").is_empty());
    for expected in [Pushed::Written, Pushed::Unchanged] {
        assert_eq!(session.push(&push("A", "1", note(" by keyferry\n")), &cx).await.unwrap(), expected);
    }
    assert_eq!(service.fake.named("A")[0].note, "by keyferry");

    let cluster = Cluster::new().labelled_secret("login", &json!({}), &Store.login());
    let mut block = Store.block(service.url());
    block["organizationID"] = json!("mine");
    let config: Bitwarden = serde_json::from_value(block).unwrap();
    let session = config.connect(&cluster.cx(&outbound()).connect).await.unwrap();
    let error = session.validate(&cx).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
    assert!(error.detail.contains("organizationID and projectID must be UUIDs"), "{error}");
}
