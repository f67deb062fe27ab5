//! 1Password Connect against a service on loopback.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use keyferry_fakes::onepassword::{self, TOKEN, VAULTS};
use keyferry_fakes::{FakeServer, Received, Reply, Service};
use serde_json::{Value as Json, json};

use super::OnePassword;
use crate::api::StoreKind;
use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, ErrorKind, FindQuery, Place, Provider, ProviderError, Push, Pushed, Session, Source, Want};
use crate::secret_bytes::SecretBytes;

struct Store(Json);

impl Store {
    fn both() -> Self {
        Self(json!({"shared": 2, "prod": 1}))
    }
}

impl Served for Store {
    type Fake = onepassword::OnePassword;
    const PROVIDER: &'static str = "onepassword";

    fn fake(&self, secrets: &[Stored]) -> onepassword::OnePassword {
        let fake = onepassword::OnePassword::default();
        for stored in secrets {
            let fields = match &stored.value {
                Value::Plain(_) => vec![("password".to_owned(), stored.text())],
                Value::Properties(pairs) => pairs.clone().into_iter().collect(),
            };
            let fields: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            fake.put("prod", &stored.key, &[], &fields);
        }
        fake
    }

    fn block(&self, url: &str) -> Json {
        let token = json!({"name": "login", "key": "token"});
        json!({"connectHost": format!("{url}/"), "vaults": self.0, "auth": {"secretRef": {"connectTokenSecretRef": token}}})
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("token", TOKEN)]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        let find = "a search gives fields and files by their own names, and not items (tests of its own)";
        vec![
            (Check::Version, "Connect shows the current item only"),
            (Check::Binary, "a field is text; files are bytes (tests of its own)"),
            (Check::NotAnObject, "an item is always a set of fields"),
            (Check::FindByName, find),
            (Check::FindByTags, find),
            (
                Check::PushForeign,
                "items are shared with people, and a field of one is pushed into it: there is no mark of whose it is",
            ),
        ]
    }
}

impl Tested for OnePassword {
    const TITLE: &'static str = "1Password Connect";
    const AUTH: &'static [&'static str] = &["connectTokenSecretRef"];
    const SERVER: &'static str = "a fake, proven by 1Password's SDK for Connect";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Store::both()))]
    }
}

fn cx() -> CallCx {
    CallCx::default()
}

async fn fetch(session: &dyn Session, want: &Want) -> Result<SecretBytes, ProviderError> {
    session.get(std::slice::from_ref(want), &cx()).await.remove(0).map(|fetched| fetched.bytes)
}

async fn read(session: &dyn Session, key: &str, property: Option<&str>) -> Result<String, ProviderError> {
    let asked = property.filter(|property| property.starts_with("file/")).unwrap_or_default().to_owned();
    let want = Want { key: key.to_owned(), property: asked, ..Want::default() };
    let bytes = fetch(session, &want).await?;
    let value = match property {
        Some(property) => session.property(&want, &bytes, property)?,
        None => session.whole(&want, &bytes)?,
    };
    Ok(String::from_utf8_lossy(value.expose()).into_owned())
}

async fn service() -> (Service<onepassword::OnePassword>, String) {
    let fake = onepassword::OnePassword::default();
    let db = fake.put(
        "shared",
        "db",
        &["team", "prod"],
        &[("user", "u"), ("password", "p"), ("with.dot", "d"), ("file/x", "odd")],
    );
    fake.put("prod", "only \"prod\"", &["team"], &[("password", "first"), ("extra", "e")]);
    fake.put("shared", "only \"prod\"", &[], &[("password", "second")]);
    fake.put("prod", "twice", &[], &[("a", "1"), ("a", "2"), ("b", "3")]);
    for _ in 0..2 {
        fake.put("prod", "two items", &[], &[("password", "p")]);
    }
    let document = fake.put("prod", "document", &[], &[("notes", "n")]);
    fake.attach(&document, "key.pem", &[0, 0xff, b'k'], true);
    fake.attach(&document, "cert.pem", b"c", true);
    fake.attach(&db, "ca.crt", b"ca", false);
    (Service::start(fake).await, db)
}

#[tokio::test]
async fn items_are_looked_for_in_the_order_of_the_vaults() {
    let (service, db) = service().await;
    let session = connect(&Store::both(), service.url()).await;
    let session = session.as_ref();
    assert_eq!(read(session, "only \"prod\"", None).await.unwrap(), "first");
    assert_eq!(read(session, "db", None).await.unwrap(), "p");
    // By its id, in whichever vault it is.
    assert_eq!(read(session, &db, Some("user")).await.unwrap(), "u");
    let other = connect(&Store(json!({"shared": 1, VAULTS[0].0: 2})), service.url()).await;
    assert_eq!(read(other.as_ref(), "only \"prod\"", None).await.unwrap(), "second");
    assert_eq!(read(other.as_ref(), "document", Some("cert.pem")).await.unwrap(), "c");
    for gone in ["gone", "item0000000000000000000999"] {
        assert_eq!(read(session, gone, None).await.unwrap_err().kind, ErrorKind::NotFound);
    }
    let error = read(session, "two items", None).await.unwrap_err();
    assert_eq!(error.detail, "expected one 1Password Item matching: 'two items', got 2");
    let vaults = service.server.lines().iter().filter(|line| *line == "GET /v1/vaults").count();
    assert_eq!(vaults, 2, "the vaults are asked for once in a session");
}

#[tokio::test]
async fn fields_and_files() {
    let (service, _) = service().await;
    let session = connect(&Store::both(), service.url()).await;
    let session = session.as_ref();
    for (key, property, value) in [
        ("db", Some("with.dot"), "d"),
        ("db", Some("field/file/x"), "odd"),
        ("db", Some("file/ca.crt"), "ca"),
        ("document", Some("field/notes"), "n"),
        ("document", Some("file/cert.pem"), "c"),
        ("twice", Some("b"), "3"),
    ] {
        assert_eq!(read(session, key, property).await.unwrap(), value, "{key} {property:?}");
    }
    let want = Want { key: "document".into(), ..Want::default() };
    let document = fetch(session, &want).await.unwrap();
    assert_eq!(session.whole(&want, &document).unwrap().expose(), [0, 0xff, b'k'], "the first file");
    let files = session.extract(&want, &document, None).unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["cert.pem", "key.pem"]);
    let before = service.server.lines().len();
    let want = Want { key: "db".into(), ..Want::default() };
    let item = fetch(session, &want).await.unwrap();
    assert_eq!(session.extract(&want, &item, None).unwrap().len(), 4);
    assert_eq!(session.extract(&want, &item, Some("user")).unwrap().len(), 1);
    assert!(service.server.lines()[before..].iter().all(|line| !line.contains("/files/")), "no file was asked for");
    for (key, property, kind) in [
        ("db", Some("gone"), ErrorKind::MissingProperty),
        ("db", Some("file/gone"), ErrorKind::MissingProperty),
        ("document", Some("gone"), ErrorKind::MissingProperty),
        ("twice", Some("a"), ErrorKind::Misconfigured),
        ("twice", None, ErrorKind::MissingProperty),
    ] {
        assert_eq!(read(session, key, property).await.unwrap_err().kind, kind, "{key} {property:?}");
    }
    let error = read(session, "twice", Some("a")).await.unwrap_err();
    assert_eq!(error.detail, "expected one 1Password ItemField matching: 'a' in 'twice', got 2");
    let old = Want { key: "db".into(), version: "1".into(), ..Want::default() };
    assert_eq!(fetch(session, &old).await.unwrap_err().kind, ErrorKind::Unsupported);
}

async fn found(session: &dyn Session, path: &str, name: &str, tags: &[&str]) -> Vec<(String, String)> {
    let tags = tags.iter().map(|tag| ((*tag).to_owned(), String::new())).collect();
    let query = FindQuery { path: path.to_owned(), name: name.to_owned(), tags };
    let found = session.find(&query, &cx()).await.unwrap();
    found.into_iter().map(|f| (f.name, String::from_utf8_lossy(f.bytes.expose()).into_owned())).collect()
}

#[tokio::test]
async fn a_search_gives_fields_and_files() {
    let (service, _) = service().await;
    let session = connect(&Store::both(), service.url()).await;
    let session = session.as_ref();
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    assert_eq!(found(session, "db", "^(user|ca)", &[]).await, pairs(&[("ca.crt", "ca"), ("user", "u")]));
    // Of two vaults the first one wins, and tags are looked for in both.
    assert_eq!(found(session, "only \"prod\"", "", &[]).await, pairs(&[("extra", "e"), ("password", "first")]));
    assert_eq!(found(session, "", "^password$", &["team"]).await, pairs(&[("password", "first")]));
    assert_eq!(found(session, "", "^user$", &["team", "prod"]).await, pairs(&[("user", "u")]));
    assert_eq!(found(session, "gone", "", &[]).await, pairs(&[]));
    assert_eq!(found(session, "document", "cert", &[]).await, pairs(&[("cert.pem", "c")]));
}

#[tokio::test]
async fn a_search_reads_eight_items_at_a_time() {
    let server = FakeServer::start(|asked: &Received| match asked.steps().len() {
        2 => Reply::json(200, &json!(VAULTS.map(|(id, name)| json!({"id": id, "name": name})))),
        4 => {
            let item = |n| json!({"id": format!("item{n:022}"), "title": "t", "category": "LOGIN", "tags": []});
            Reply::json(200, &json!((0..20).map(item).collect::<Vec<_>>()))
        }
        _ => Reply::never(),
    })
    .await;
    let session = connect(&Store::both(), &server.url).await;
    let reads = || server.lines().iter().filter(|line| line.contains("/items/")).count();
    let eight = async {
        while reads() < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (query, cx) = (FindQuery::default(), cx());
    let is_over = async {
        tokio::select! { _ = session.find(&query, &cx) => true, () = eight => false }
    };
    assert!(!tokio::time::timeout(Duration::from_secs(20), is_over).await.unwrap());
    assert_eq!(reads(), 8);
}

#[tokio::test]
async fn a_search_finds_no_more_than_an_object_may_have() {
    let fake = onepassword::OnePassword::default();
    let document = fake.put("prod", "large", &[], &[("notes", "n")]);
    for name in ["a", "b", "c"] {
        fake.attach(&document, name, &vec![b'x'; 3 << 20], true);
    }
    let service = Service::start(fake).await;
    let session = connect(&Store::both(), service.url()).await;
    assert_eq!(found(session.as_ref(), "large", "^(a|b)$", &[]).await.len(), 2);
    let query = FindQuery { path: "large".into(), ..FindQuery::default() };
    assert_eq!(session.find(&query, &cx()).await.unwrap_err().kind, ErrorKind::Malformed);
}

fn push(key: &str, property: Option<&str>, value: &str, spec: Json) -> Push {
    let data = [("v".to_owned(), SecretBytes::from(value))].into();
    let api = "kubernetes.external-secrets.io/v1alpha1";
    let metadata = json!({"apiVersion": api, "kind": "PushSecretMetadata", "spec": spec});
    let place =
        Place { key: key.to_owned(), property: property.map(Into::into), metadata: Some(metadata), ..Place::default() };
    Push { source: Arc::new(Source { data, ..Source::default() }), secret_key: Some("v".to_owned()), place }
}

#[tokio::test]
async fn a_push_changes_its_field_alone() {
    let (service, db) = service().await;
    let session = connect(&Store::both(), service.url()).await;
    let send = async |push: Push| session.push(&push, &cx()).await.unwrap();
    assert_eq!(send(push("db", Some("user"), "new", json!({}))).await, Pushed::Written);
    assert_eq!(send(push("db", Some("user"), "new", json!({}))).await, Pushed::Unchanged);
    assert_eq!(send(push("db", None, "p", json!({"tags": ["team", "prod"]}))).await, Pushed::Unchanged);
    assert_eq!(send(push("db", None, "p", json!({"tags": ["other"]}))).await, Pushed::Written);
    let item = service.fake.get("db").unwrap();
    assert_eq!((&item["id"], &item["tags"], item["version"].as_u64()), (&json!(db), &json!(["other"]), Some(3)));
    assert_eq!(item["fields"][0], json!({"id": "f0", "label": "user", "value": "new", "type": "CONCEALED"}));
    assert_eq!(item["fields"].as_array().unwrap().len(), 4);

    assert_eq!(send(push("made", Some("token"), "t", json!({"vault": "shared", "tags": ["x"]}))).await, Pushed::Written);
    let item = service.fake.get("made").unwrap();
    assert_eq!(
        (&item["vault"]["id"], &item["category"], &item["tags"]),
        (&json!(VAULTS[1].0), &json!("SERVER"), &json!(["x"]))
    );
    let error = session.push(&push("made2", None, "t", json!({"vault": "other"})), &cx()).await.unwrap_err();
    assert_eq!(error.detail, "metadata vault 'other' not in provider vaults");
    assert_eq!(
        session.push(&push("twice", Some("a"), "t", json!({})), &cx()).await.unwrap_err().kind,
        ErrorKind::Misconfigured
    );

    // A document keeps its files, and so stays when its last field goes.
    session.delete(&push("document", Some("notes"), "", json!({})).place, &cx()).await.unwrap();
    let item = service.fake.get("document").unwrap();
    assert_eq!((item["fields"].as_array().unwrap().len(), item["files"].as_array().unwrap().len()), (0, 2));
    session.delete(&push("made", Some("token"), "", json!({})).place, &cx()).await.unwrap();
    assert!(service.fake.get("made").is_none());
}

#[tokio::test]
async fn a_vault_that_is_not_there_is_told() {
    let (service, _) = service().await;
    let session = connect(&Store(json!({"prod": 1, "gone": 2})), service.url()).await;
    for error in [session.validate(&cx()).await.unwrap_err(), read(session.as_ref(), "db", None).await.unwrap_err()] {
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert_eq!(error.detail, "spec.provider.onepassword.vaults: \"gone\": the token has access to no such vault");
    }
}

#[tokio::test]
async fn a_vault_that_was_made_anew_is_looked_up_again() {
    let (service, _) = service().await;
    let session = connect(&Store::both(), service.url()).await;
    assert_eq!(read(session.as_ref(), "db", None).await.unwrap(), "p");
    service.fake.make_anew("shared", "vaultcccccccccccccccccccccc");
    assert_eq!(read(session.as_ref(), "db", None).await.unwrap_err().kind, ErrorKind::Misconfigured);
    assert_eq!(read(session.as_ref(), "db", None).await.unwrap(), "p");
    // A check of the store is enough, too.
    service.fake.make_anew("prod", "vaultdddddddddddddddddddddd");
    session.validate(&cx()).await.unwrap();
    assert_eq!(read(session.as_ref(), "only \"prod\"", None).await.unwrap(), "first");
}

#[test]
fn a_store_says_what_it_lacks() {
    let token = json!({"name": "n", "key": "k"});
    for (token, vaults, text) in [
        (
            json!({"key": "k"}),
            json!({"a": 1}),
            "missing: spec.provider.onepassword.auth.secretRef.connectTokenSecretRef.name",
        ),
        (
            json!({"name": "n"}),
            json!({"a": 1}),
            "missing: spec.provider.onepassword.auth.secretRef.connectTokenSecretRef.key",
        ),
        (token.clone(), json!({}), "must be at least one vault: spec.provider.onepassword.vaults"),
        (token, json!({"a": 1, "b": 1}), "vault order numbers must be unique"),
    ] {
        let block =
            json!({"connectHost": "https://x", "vaults": vaults, "auth": {"secretRef": {"connectTokenSecretRef": token}}});
        let store: OnePassword = serde_json::from_value(block).unwrap();
        let error = store.validate(StoreKind::SecretStore).unwrap_err();
        assert_eq!(error.detail, format!("received invalid 1Password SecretStore resource: {text}"));
    }
}
