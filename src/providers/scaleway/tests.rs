#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use keyferry_fakes::Service;
use keyferry_fakes::scaleway::{self as fake, Scaleway as Fake};
use serde_json::{Value as Json, json};

use super::session::Name;
use super::*;
use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, FindQuery, Place, Push, Pushed, Source};

struct ByName;

impl Served for ByName {
    type Fake = Fake;

    const PROVIDER: &'static str = "scaleway";

    fn fake(&self, secrets: &[Stored]) -> Fake {
        let service = Fake::default();
        for secret in secrets {
            let data = match &secret.value {
                Value::Plain(bytes) => bytes.clone(),
                Value::Properties(pairs) => serde_json::to_vec(pairs).unwrap(),
            };
            let tags: Vec<String> = secret.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
            service.put("/", &secret.key, &data, &tags, secret.version);
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        json!({
            "apiUrl": url, "region": fake::REGION, "projectId": fake::PROJECT,
            "accessKey": {"value": fake::ACCESS_KEY},
            "secretKey": {"secretRef": {"name": "login", "key": "key"}},
        })
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("key", fake::SECRET_KEY)]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![(Check::PushForeign, "ESO puts no mark on what it writes there, so nothing tells ours from others'")]
    }
}

impl Tested for Scaleway {
    const TITLE: &'static str = "Scaleway Secret Manager";
    const AUTH: &'static [&'static str] = &["secretKey"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(ByName))]
    }
}

#[test]
fn keys_are_ids_names_or_paths() {
    for (key, expected) in [
        ("id:x", Name::Id("x")),
        ("name:db", Name::Plain("db")),
        ("name:a:b", Name::Plain("a:b")),
        ("db", Name::Plain("db")),
        ("path:/db", Name::Path("/", "db")),
        ("path:/team/prod/db", Name::Path("/team/prod", "db")),
    ] {
        assert_eq!(Name::parse(key).unwrap(), expected, "{key}");
    }
    for (key, text) in [("path:db", "ref is not a path"), ("odd:db", "invalid secret reference: \"odd:db\"")] {
        assert_eq!(Name::parse(key).unwrap_err().detail, text);
    }
}

async fn read(session: &dyn Session, key: &str, version: &str) -> Result<String, ProviderError> {
    let want = Want { key: key.to_owned(), version: version.to_owned(), ..Want::default() };
    let fetched = session.get(&[want], &CallCx::default()).await.remove(0)?;
    Ok(fetched.bytes.expose_str().unwrap().to_owned())
}

#[tokio::test]
async fn versions_are_numbers_or_the_latest() {
    let fake = Fake::default();
    let id = fake.put("/team", "db", b"one", &[], None);
    fake.put("/team", "db", b"two", &[], None);
    fake.put("/team", "db", b"three", &[], None);
    fake.disable("/team", "db");
    let service = Service::start(fake).await;
    let session = connect(&ByName, service.url()).await;
    let by_id = format!("id:{id}");
    for (key, version, expected) in [
        ("name:db", "", "two"),
        ("path:/team/db", "", "two"),
        (by_id.as_str(), "", "two"),
        (&by_id, "1", "one"),
        ("path:/team/db", "latest_enabled", "two"),
        ("path:/team/db", "1", "one"),
    ] {
        assert_eq!(read(session.as_ref(), key, version).await.unwrap(), expected, "{key} {version}");
    }
    for (key, version, kind) in [
        ("name:db", "9", ErrorKind::NotFound),
        ("path:/other/db", "", ErrorKind::NotFound),
        ("id:00000000-0000-4000-8000-000000000099", "", ErrorKind::NotFound),
        ("name:db", "latest", ErrorKind::Conflict),
    ] {
        let error = read(session.as_ref(), key, version).await.unwrap_err();
        assert_eq!(error.kind, kind, "{key} {version}: {error}");
        assert!(!error.detail.contains(CANARY));
    }
    let before = service.server.received().len();
    read(session.as_ref(), "path:/team/db", "").await.unwrap();
    assert_eq!(service.server.received().len(), before + 1, "a path is read by one call");
}

#[tokio::test]
async fn secrets_are_found_in_folders_and_by_the_key_of_a_tag() {
    let fake = Fake::default();
    let tags = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    fake.put("/team", "one", b"1", &tags(&["app", "env=prod"]), None);
    fake.put("/team", "two", b"2", &tags(&["env:prod"]), None);
    fake.put("/", "three", b"3", &tags(&["app"]), None);
    fake.put("/team", "off", b"4", &tags(&["app"]), None);
    fake.disable("/team", "off");
    let service = Service::start(fake).await;
    let session = connect(&ByName, service.url()).await;
    for (path, key, value, names) in [
        ("/team", "", "", vec!["one", "two"]),
        ("", "app", "whatever", vec!["one", "three"]),
        ("", "env", "prod", vec!["one", "two"]),
        ("", "env", "dev", vec![]),
    ] {
        let tags = BTreeMap::from([(key.to_owned(), value.to_owned())]);
        let tags = if key.is_empty() { BTreeMap::new() } else { tags };
        let query = FindQuery { path: path.to_owned(), tags, ..FindQuery::default() };
        let found = session.find(&query, &CallCx::default()).await.unwrap();
        assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), names, "{query:?}");
    }
}

#[tokio::test]
async fn a_push_goes_to_a_folder_and_disables_what_was_before() {
    let service = Service::start(Fake::default()).await;
    let session = connect(&ByName, service.url()).await;
    let push = |key: &str, value: &str| Push {
        source: Arc::new(Source { data: [("k".to_owned(), SecretBytes::from(value))].into(), ..Source::default() }),
        secret_key: Some("k".into()),
        place: Place { key: key.into(), ..Place::default() },
    };
    let cx = CallCx::default();
    for (value, came_to) in [("one", Pushed::Written), ("two", Pushed::Written), ("two", Pushed::Unchanged)] {
        assert_eq!(session.push(&push("path:/team/db", value), &cx).await.unwrap(), came_to);
    }
    assert_eq!(service.fake.versions("/team", "db"), [(b"one".to_vec(), false), (b"two".to_vec(), true)]);
    let error = session.push(&push("id:x", "v"), &cx).await.unwrap_err();
    assert_eq!(error.detail, "secrets can only be pushed by name or path");
    session.delete(&push("path:/other/db", "").place, &cx).await.unwrap();
    assert_eq!(service.fake.versions("/team", "db").len(), 2);
}

#[tokio::test]
async fn deleting_a_property_leaves_a_secret_without_an_enabled_version() {
    let fake = Fake::default();
    fake.put("/", "db", br#"{"ours": "1", "theirs": "2"}"#, &[], None);
    fake.disable("/", "db");
    let service = Service::start(fake).await;
    let session = connect(&ByName, service.url()).await;
    let place =
        |property: Option<&str>| Place { key: "name:db".into(), property: property.map(str::to_owned), ..Place::default() };
    let cx = CallCx::default();
    session.delete(&place(Some("ours")), &cx).await.unwrap();
    assert_eq!(service.fake.versions("/", "db").len(), 1);
    session.delete(&place(None), &cx).await.unwrap();
    assert!(service.fake.versions("/", "db").is_empty());
}

#[test]
fn what_is_wrong_with_a_store_is_told_in_esos_words() {
    let good = json!({
        "region": "fr-par", "projectId": fake::PROJECT, "accessKey": {"value": "a"}, "secretKey": {"value": "s"},
    });
    let with = |field: &str, value: Json| {
        let mut block = good.clone();
        block[field] = value;
        serde_json::from_value::<Scaleway>(block).unwrap().validate(StoreKind::SecretStore)
    };
    assert_eq!(with("region", "fr-par".into()), Ok(()));
    for (field, value, text) in [
        ("region", json!("Paris"), "invalid region: \"Paris\""),
        ("projectId", json!("x"), "invalid project id: \"x\""),
        ("accessKey", json!({}), "accessKey: must specify either secret reference or direct value"),
        (
            "secretKey",
            json!({"value": "s", "secretRef": {"name": "n"}}),
            "secretKey: cannot specify both secret reference and value",
        ),
    ] {
        assert_eq!(with(field, value).unwrap_err().detail, text);
    }
}
