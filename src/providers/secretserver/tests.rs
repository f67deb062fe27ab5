#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use keyferry_fakes::secretserver::{self as fake, SecretServer as Service};
use serde_json::{Value as Json, json};

use super::*;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::outbound;

use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, Place, Push, Pushed, Source, Want};
use crate::secret_bytes::SecretBytes;

struct Server;

impl Served for Server {
    type Fake = Service;

    const PROVIDER: &'static str = "secretserver";

    fn fake(&self, secrets: &[Stored]) -> Service {
        let service = Service::default();
        let folder = service.folder("/apps");
        for secret in secrets {
            match &secret.value {
                Value::Plain(bytes) => service.put(folder, &secret.key, &[("Password", &String::from_utf8_lossy(bytes))]),
                Value::Properties(pairs) => service.put(folder, &secret.key, &[("Data", &json!(pairs).to_string())]),
            };
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        json!({
            "serverURL": url, "domain": fake::DOMAIN, "username": {"value": fake::USER},
            "password": {"secretRef": {"name": "login", "key": "password"}},
        })
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        LOGIN.to_vec()
    }

    fn plain_property(&self) -> Option<&'static str> {
        Some("password")
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        let search = "as in ESO, secrets are not searched for";
        let push = "a new secret needs a folder and a template in its metadata, which the suite does not give: it has tests of its own";
        let searches = Check::FINDS.map(|check| (check, search));
        let pushes = [
            Check::Push,
            Check::PushWhole,
            Check::PushUnchanged,
            Check::PushProperty,
            Check::Exists,
            Check::Delete,
            Check::DeleteProperty,
        ];
        let pushes = pushes.map(|check| (check, push));
        let others = [
            (Check::PushForeign, "ESO puts no mark on what it writes there, so nothing tells ours from others'"),
            (Check::Binary, "fields are text"),
            (Check::Version, "versions cannot be asked for, as in ESO"),
        ];
        searches.into_iter().chain(pushes).chain(others).collect()
    }
}

const LOGIN: &[(&str, &str)] = &[("password", fake::PASSWORD), ("token", fake::TOKEN), ("wrong", CANARY)];

fn config(block: Json) -> SecretServer {
    serde_json::from_value(block).unwrap()
}

async fn running() -> keyferry_fakes::Service<Service> {
    keyferry_fakes::Service::start(Service::default()).await
}

async fn fetch(session: &dyn Session, key: &str) -> Result<(Want, SecretBytes), ProviderError> {
    let want = Want { key: key.into(), ..Want::default() };
    let fetched = session.get(std::slice::from_ref(&want), &CallCx::default()).await.remove(0)?;
    Ok((want, fetched.bytes))
}

async fn password(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    let (want, bytes) = fetch(session, key).await?;
    Ok(session.property(&want, &bytes, "password")?.expose_str().unwrap().to_owned())
}

impl Tested for SecretServer {
    const TITLE: &'static str = "Delinea Secret Server";
    const AUTH: &'static [&'static str] = &["username", "token"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Server))]
    }
}

#[tokio::test]
async fn a_secret_is_named_in_three_ways() {
    let service = running().await;
    let (apps, other) = (service.fake.folder("/apps/web"), service.fake.folder("/other"));
    let id = service.fake.put(apps, "db", &[("User name", "ann"), ("Password", "p1")]);
    service.fake.put(other, "db", &[("Password", "p2")]);
    service.fake.put(other, "longer-name", &[("Password", "p3")]);
    let denied = service.fake.put(other, "denied", &[("Password", CANARY)]);
    service.fake.deny(denied);
    let session = connect(&Server, service.url()).await;
    let session = session.as_ref();
    for (key, value) in [("/apps/web/db", "p1"), (&id.to_string(), "p1"), ("db", "p1"), ("/other/db", "p2")] {
        assert_eq!(password(session, key).await.unwrap(), value, "{key}");
    }
    for (key, kind) in [
        ("longer", ErrorKind::NotFound),
        ("/apps/db", ErrorKind::NotFound),
        ("4711", ErrorKind::NotFound),
        ("denied", ErrorKind::Denied),
        ("/", ErrorKind::Misconfigured),
    ] {
        let error = password(session, key).await.unwrap_err();
        assert_eq!(error.kind, kind, "{key}: {error}");
        assert!(!error.detail.contains(CANARY), "{error}");
    }
}

#[tokio::test]
async fn what_is_handed_out_is_what_eso_hands_out() {
    let service = running().await;
    let folder = service.fake.folder("/apps");
    let id = service.fake.put(folder, "db", &[("Data", r#"{"user": "<ann>", "port": 5432.0}"#), ("Private Key", "")]);
    service.fake.attach(id, "private-key", b"-----KEY-----\n");
    let session = connect(&Server, service.url()).await;
    let session = session.as_ref();
    let (want, bytes) = fetch(session, "/apps/db").await.unwrap();
    let expected = format!(
        r#"{{"Name":"db","FolderID":{folder},"ID":{id},"SiteID":1,"SecretTemplateID":6,"SecretPolicyID":-1,"LauncherConnectAsSecretID":-1,"CheckOutIntervalMinutes":-1,"Active":true,"CheckedOut":false,"CheckOutEnabled":false,"AutoChangeEnabled":false,"CheckOutChangePasswordEnabled":false,"DelayIndexing":false,"EnableInheritPermissions":false,"EnableInheritSecretPolicy":false,"ProxyEnabled":false,"RequiresComment":false,"SessionRecordingEnabled":false,"WebLauncherRequiresIncognitoMode":false,"Items":[{{"ItemID":101,"FieldID":1,"FileAttachmentID":0,"FieldName":"Data","Slug":"data","FieldDescription":"","Filename":"","ItemValue":"{{\"user\": \"\u003cann\u003e\", \"port\": 5432.0}}","IsFile":false,"IsNotes":false,"IsPassword":false}},{{"ItemID":102,"FieldID":2,"FileAttachmentID":77,"FieldName":"Private Key","Slug":"private-key","FieldDescription":"","Filename":"key.pem","ItemValue":"-----KEY-----\n","IsFile":true,"IsNotes":false,"IsPassword":false}}]}}"#
    );
    assert_eq!(bytes.expose_str().unwrap(), expected);
    let of = |property: &str| session.property(&want, &bytes, property).map(|v| v.expose_str().unwrap().to_owned());
    assert_eq!(of("user").unwrap(), "<ann>", "inside of the first field");
    assert_eq!(of("private-key").unwrap(), "-----KEY-----\n");
    assert_eq!(of("Private Key").unwrap(), "-----KEY-----\n");
    assert_eq!(of("nope").unwrap_err().kind, ErrorKind::NotFound, "as in ESO");
    let found = session.extract(&want, &bytes, None).unwrap();
    let found: BTreeMap<&str, &str> = found.iter().map(|(k, v)| (k.as_str(), v.expose_str().unwrap())).collect();
    assert_eq!(found, BTreeMap::from([("user", "<ann>"), ("port", "5432")]));
}

#[tokio::test]
async fn logins() {
    let service = running().await;
    let folder = service.fake.folder("/apps");
    service.fake.put(folder, "db", &[("Password", "p")]);
    let cluster = Cluster::new().labelled_secret("login", &json!({}), LOGIN);
    let key = |key: &str| json!({"secretRef": {"name": "login", "key": key}});
    let open = async |block: Json| config(block).connect(&cluster.cx(&outbound()).connect).await;
    let session = open(json!({"serverURL": service.url(), "token": key("token")})).await.unwrap();
    assert_eq!(password(session.as_ref(), "db").await.unwrap(), "p");

    let session = open(Server.block(service.url())).await.unwrap();
    let logins = || service.server.lines().iter().filter(|line| line.ends_with("/oauth2/token")).count();
    for _ in 0..2 {
        assert_eq!(password(session.as_ref(), "db").await.unwrap(), "p");
    }
    assert_eq!(logins(), 1);
    service.fake.end_tokens();
    assert_eq!(password(session.as_ref(), "db").await.unwrap(), "p");
    assert_eq!(logins(), 2);

    for (field, value, kind) in [
        ("password", key("wrong"), ErrorKind::Denied),
        ("domain", json!("elsewhere"), ErrorKind::Denied),
        ("password", json!({}), ErrorKind::Misconfigured),
        ("serverURL", json!(""), ErrorKind::Misconfigured),
        ("username", json!(null), ErrorKind::Misconfigured),
    ] {
        let mut block = Server.block(service.url());
        block[field] = value;
        let error = open(block).await.err().expect("an error");
        assert_eq!(error.kind, kind, "{field}: {error}");
        assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    }
}

/// What is no Secret Server answers 404 as well: nothing is missing there, and nothing was deleted.
#[tokio::test]
async fn a_404_that_is_not_the_servers_is_no_missing_secret() {
    let service = running().await;
    let cluster = Cluster::new().labelled_secret("login", &json!({}), LOGIN);
    let token = json!({"secretRef": {"name": "login", "key": "token"}});
    let block = json!({"serverURL": format!("{}/wrong", service.url()), "token": token});
    let session = config(block).connect(&cluster.cx(&outbound()).connect).await.unwrap();
    for key in ["/apps/db", "4711", "db"] {
        assert_eq!(password(session.as_ref(), key).await.unwrap_err().kind, ErrorKind::Misconfigured, "{key}");
        let place = Place { key: key.into(), ..Place::default() };
        let error = session.delete(&place, &CallCx::default()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{key}");
    }
}

#[test]
fn a_secret_has_a_bounded_number_of_fields() {
    let read =
        |items: Json| super::secret::Secret::read(SecretBytes::from(json!({"name": "x", "items": items}).to_string()));
    let fields = |count: usize| json!(vec![json!({"slug": "a", "itemValue": "v"}); count]);
    assert_eq!(read(fields(1000)).unwrap().fields.len(), 1000);
    assert!(read(fields(1001)).is_none() && read(json!("text")).is_none());
    assert!(read(Json::Null).unwrap().fields.is_empty());
}

#[tokio::test]
async fn a_place_in_a_folder_is_found_among_many_namesakes() {
    let service = running().await;
    let (other, ours) = (service.fake.folder("/other"), service.fake.folder("/ours"));
    for _ in 0..40 {
        service.fake.put(other, "db", &[("Password", "theirs")]);
    }
    let id = service.fake.put(ours, "db", &[("Password", "old")]);
    let session = connect(&Server, service.url()).await;
    let cx = CallCx::default();
    let change = push("db", None, "new", Some(ours));
    assert!(session.exists(&change.place, &cx).await.unwrap());
    assert_eq!(session.push(&change, &cx).await.unwrap(), Pushed::Written);
    assert_eq!(password(session.as_ref(), &id.to_string()).await.unwrap(), "new");
    let elsewhere = service.fake.folder("/empty");
    assert!(!session.exists(&push("db", None, "", Some(elsewhere)).place, &cx).await.unwrap());
}

#[tokio::test]
async fn a_deletion_without_a_property_leaves_the_fields_of_others() {
    let service = running().await;
    let folder = service.fake.folder("/apps");
    let id = service.fake.put(folder, "shared", &[("Password", "old"), ("Notes", "theirs"), ("Key", "")]);
    let session = connect(&Server, service.url()).await;
    let cx = CallCx::default();
    let change = push("shared", None, "ours", Some(folder));
    assert_eq!(session.push(&change, &cx).await.unwrap(), Pushed::Written);
    session.delete(&change.place, &cx).await.unwrap();
    let value = |slug: &str| service.fake.value("shared", slug);
    assert_eq!((value("password").as_deref(), value("notes").as_deref()), (Some(""), Some("theirs")));
    assert!(!session.exists(&change.place, &cx).await.unwrap());
    service.fake.attach(id, "key", b"-----KEY-----");
    session.delete(&push("shared", Some("key"), "", Some(folder)).place, &cx).await.unwrap();
    assert_eq!(value("key").as_deref(), Some("*** Not Valid For Display ***"), "a file was never pushed");
}

fn push(key: &str, property: Option<&str>, value: &str, folder: Option<i64>) -> Push {
    let source = Source { data: BTreeMap::from([("v".to_owned(), SecretBytes::from(value))]), ..Source::default() };
    let metadata = folder.map(|folder| {
        json!({
            "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata",
            "spec": {"folderId": folder, "secretTemplateId": fake::TEMPLATE},
        })
    });
    let place = Place { key: key.into(), property: property.map(Into::into), metadata, ..Place::default() };
    Push { source: Arc::new(source), secret_key: Some("v".into()), place }
}

#[tokio::test]
async fn a_field_is_pushed() {
    let service = running().await;
    let folder = service.fake.folder("/apps");
    let session = connect(&Server, service.url()).await;
    let cx = CallCx::default();
    let to =
        async |property: Option<&str>, value: &str| session.push(&push("new", property, value, Some(folder)), &cx).await;
    assert_eq!(session.push(&push("new", None, "1", None), &cx).await.unwrap_err().kind, ErrorKind::Misconfigured);
    assert_eq!(to(None, "1").await.unwrap(), Pushed::Written);
    assert_eq!(to(None, "1").await.unwrap(), Pushed::Unchanged);
    assert_eq!(to(Some("notes"), "n").await.unwrap(), Pushed::Written);
    assert_eq!(to(Some("password"), "2\"<").await.unwrap(), Pushed::Written);
    assert_eq!(to(Some("nope"), "x").await.unwrap_err().kind, ErrorKind::Misconfigured);
    let value = |slug: &str| service.fake.value("new", slug);
    assert_eq!((value("password").as_deref(), value("notes").as_deref()), (Some("2\"<"), Some("n")));

    let place = |property: Option<&str>| push("new", property, "", Some(folder)).place;
    assert!(session.exists(&place(Some("notes")), &cx).await.unwrap());
    session.delete(&place(Some("notes")), &cx).await.unwrap();
    assert_eq!(value("notes").as_deref(), Some(""), "the other field stays");
    assert!(!session.exists(&place(Some("notes")), &cx).await.unwrap());
    session.delete(&place(Some("password")), &cx).await.unwrap();
    assert!(value("password").is_none() && !session.exists(&place(None), &cx).await.unwrap());
    session.delete(&place(None), &cx).await.unwrap();
}
