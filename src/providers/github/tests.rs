//! GitHub against a service on loopback.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use keyferry_fakes::Service;
use keyferry_fakes::github::{self, APP, APP_KEY, INSTALLATION, ORGANIZATION};
use serde_json::{Value, json};

use super::Github;
use crate::api::StoreKind;
use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{Check, Fixture, Stored, Tested};
use crate::providers::{CallCx, ErrorKind, FindQuery, Place, Provider, Push, Pushed, Session, Source, Want};
use crate::secret_bytes::SecretBytes;

struct Store(Value);

impl Served for Store {
    type Fake = github::Github;
    const PROVIDER: &'static str = "github";

    fn fake(&self, _: &[Stored]) -> github::Github {
        github::Github::default()
    }

    fn block(&self, url: &str) -> Value {
        let mut block = json!({
            "url": url, "appID": APP, "installationID": INSTALLATION, "organization": ORGANIZATION,
            "auth": {"privateKey": {"name": "login", "key": "pem"}},
        });
        block.as_object_mut().unwrap().extend(self.0.as_object().unwrap().clone());
        block
    }

    fn service(&self) -> &'static str {
        if self.0["repository"].is_null() { "organization" } else { "repository" }
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("pem", &APP_KEY.0)]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        use Check::*;
        let unread = "GitHub never tells the value of a secret";
        let reads = [
            Get,
            Order,
            Property,
            Extract,
            Version,
            Missing,
            MissingProperty,
            NotAnObject,
            Binary,
            Large,
            Unicode,
            FindByName,
            FindByTags,
            FindNothing,
            Denied,
            Throttled,
            RetryAfter,
            Broken,
            Hang,
            Garbled,
            PushProperty,
            DeleteProperty,
        ];
        let unseen = "GitHub never tells what was written: tests of its own look into the fake";
        let writes = [Push, PushWhole, Delete].map(|check| (check, unseen));
        let foreign = (PushForeign, "GitHub has no place for a mark of whose a secret is");
        reads.into_iter().map(|check| (check, unread)).chain(writes).chain([foreign]).collect()
    }
}

impl Tested for Github {
    const TITLE: &'static str = "GitHub";
    const AUTH: &'static [&'static str] = &["privateKey"];
    const SERVER: &'static str = "a fake, proven by PyGithub";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Store(json!({})))), Box::new(OverHttp::new(Store(json!({"repository": "app"}))))]
    }
}

fn cx() -> CallCx {
    CallCx::default()
}

fn push(key: &str, value: &str) -> Push {
    let data = [("v", value), ("w", "x")].map(|(k, v)| (k.to_owned(), SecretBytes::from(v))).into();
    let place = Place { key: key.to_owned(), ..Place::default() };
    Push { source: Arc::new(Source { data, ..Source::default() }), secret_key: Some("v".to_owned()), place }
}

async fn pushed(session: &dyn Session, key: &str, value: &str) -> Pushed {
    session.push(&push(key, value), &cx()).await.unwrap()
}

async fn service() -> Service<github::Github> {
    Service::start(github::Github::default()).await
}

#[tokio::test]
async fn each_place_has_its_secrets() {
    let service = service().await;
    for (fields, place) in [
        (json!({}), "orgs/acme/actions"),
        (json!({"repository": "app"}), "repos/acme/app/actions"),
        (json!({"repository": "app", "environment": "prod"}), "repos/acme/app/environments/prod"),
    ] {
        let session = connect(&Store(fields), service.url()).await;
        let large = "ü".repeat(20_000);
        for value in ["the value", "two", &large] {
            assert_eq!(pushed(session.as_ref(), "token", value).await, Pushed::Written);
            assert_eq!(service.fake.get(place, "TOKEN").as_deref(), Some(value));
            assert_eq!(pushed(session.as_ref(), "token", value).await, Pushed::Unchanged);
        }
        let whole = Push { secret_key: None, ..push("whole", "ü") };
        session.push(&whole, &cx()).await.unwrap();
        assert_eq!(service.fake.get(place, "WHOLE").as_deref(), Some(r#"{"v":"w7w=","w":"eA=="}"#));
        for _ in 0..2 {
            session.delete(&push("token", "").place, &cx()).await.unwrap();
            assert!(!session.exists(&push("token", "").place, &cx()).await.unwrap());
        }
        assert!(service.fake.get(place, "TOKEN").is_none());
    }
    assert_eq!(service.fake.logins(), 3, "one for each session");
    assert!(
        service.server.received().iter().all(|asked| !asked.body.contains("the value") && !asked.body.contains('ü')),
        "only sealed values go out"
    );
}

#[tokio::test]
async fn what_others_change_is_written_again_and_what_is_the_same_is_not() {
    let service = service().await;
    let session = connect(&Store(json!({"repository": "app"})), service.url()).await;
    let place = "repos/acme/app/actions";
    assert_eq!(pushed(session.as_ref(), "T", "v").await, Pushed::Written);
    assert_eq!(pushed(session.as_ref(), "T", "v").await, Pushed::Unchanged);
    service.fake.put(place, "T", "drift");
    assert_eq!(pushed(session.as_ref(), "T", "v").await, Pushed::Written);
    assert_eq!(service.fake.get(place, "T").as_deref(), Some("v"));
    session.delete(&push("T", "").place, &cx()).await.unwrap();
    assert_eq!(pushed(session.as_ref(), "T", "v").await, Pushed::Written);
    // A new session knows nothing of what there is.
    let session = connect(&Store(json!({"repository": "app"})), service.url()).await;
    assert_eq!(pushed(session.as_ref(), "T", "v").await, Pushed::Written);
    assert_eq!(pushed(session.as_ref(), "T", "v").await, Pushed::Unchanged);
}

#[tokio::test]
async fn a_secret_of_the_organization_keeps_its_readers() {
    let service = service().await;
    let session = connect(&Store(json!({})), service.url()).await;
    pushed(session.as_ref(), "NEW", "v").await;
    assert_eq!(service.fake.access("NEW").unwrap(), (json!("all"), Vec::new()));
    service.fake.put("orgs/acme/actions", "OLD", "v");
    pushed(session.as_ref(), "OLD", "w").await;
    let (visibility, repositories) = service.fake.access("OLD").unwrap();
    assert_eq!((visibility, repositories.len()), (json!("selected"), 120));
    let private = connect(&Store(json!({"orgSecretVisibility": "private"})), service.url()).await;
    pushed(private.as_ref(), "OLD", "w").await;
    assert_eq!(service.fake.access("OLD").unwrap(), (json!("private"), Vec::new()));
    assert_eq!(pushed(private.as_ref(), "OLD", "w").await, Pushed::Unchanged);
}

#[tokio::test]
async fn what_github_does_not_do_is_told() {
    let service = service().await;
    let session = connect(&Store(json!({})), service.url()).await;
    let read = session.get(&[Want { key: "T".into(), ..Want::default() }], &cx()).await.remove(0).unwrap_err();
    let find = session.find(&FindQuery::default(), &cx()).await.unwrap_err();
    for error in [read, find] {
        assert_eq!(error.kind, ErrorKind::Unsupported);
        assert_eq!(error.detail, "not implemented - this provider supports write-only operations");
    }
    let mut part = push("T", "v");
    part.place.property = Some("p".into());
    assert_eq!(session.push(&part, &cx()).await.unwrap_err().kind, ErrorKind::Unsupported);
    for fields in [
        json!({"organization": "other"}),
        json!({"repository": "gone"}),
        json!({"repository": "app", "environment": "gone"}),
    ] {
        let session = connect(&Store(fields), service.url()).await;
        for error in [
            session.validate(&cx()).await.unwrap_err(),
            session.push(&push("T", "v"), &cx()).await.unwrap_err(),
            session.delete(&push("T", "").place, &cx()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
        }
    }
    let github: Github = serde_json::from_value(Store(json!({"environment": "prod"})).block("")).unwrap();
    let error = github.validate(StoreKind::SecretStore).unwrap_err();
    assert_eq!(error.detail, "environment is that of a repository: set repository too");
}
