//! GitLab against a service on loopback.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use keyferry_fakes::Service;
use keyferry_fakes::gitlab::{self, PROJECT, TOKEN};
use serde_json::{Value, json};

use super::Gitlab;
use crate::api::StoreKind;
use crate::providers::conformance::served::{OverHttp, Served, connect};
use crate::providers::conformance::{Check, Fixture, Stored, Tested};
use crate::providers::{CallCx, ErrorKind, FindQuery, Place, Provider, ProviderError, Push, Pushed, Session, Source, Want};
use crate::secret_bytes::SecretBytes;

struct Store(Value);

impl Store {
    fn new(fields: Value) -> Self {
        Self(fields)
    }

    fn project() -> Self {
        Self::new(json!({"projectID": PROJECT}))
    }
}

impl Served for Store {
    type Fake = gitlab::Gitlab;
    const PROVIDER: &'static str = "gitlab";

    /// GitLab's names have no hyphens: what is asked for by one with a hyphen is there under an underscore. Searches see all names.
    fn fake(&self, secrets: &[Stored]) -> gitlab::Gitlab {
        gitlab::Gitlab::new(secrets.iter().flat_map(|stored| {
            let names = [stored.key.clone(), stored.key.replace('-', "_")];
            let twice = names[0] != names[1];
            names.into_iter().take(1 + usize::from(twice)).map(|name| (name, stored.text()))
        }))
    }

    fn block(&self, url: &str) -> Value {
        let mut block = self.0.clone();
        block["url"] = json!(url);
        block["auth"] = json!({"SecretRef": {"accessToken": {"name": "login", "key": "token"}}});
        block
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("token", TOKEN)]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![
            (Check::Version, "GitLab keeps the current value only"),
            (Check::Binary, "GitLab keeps text"),
            (Check::FindByTags, "the one tag of a variable is its environment (tests of its own)"),
        ]
    }
}

impl Tested for Gitlab {
    const TITLE: &'static str = "GitLab";
    const AUTH: &'static [&'static str] = &["accessToken"];
    const SERVER: &'static str = "a fake, proven by GitLab's client python-gitlab";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Store::project()))]
    }
}

fn cx() -> CallCx {
    CallCx::default()
}

async fn read(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    let want = Want { key: key.to_owned(), ..Want::default() };
    let fetched = session.get(std::slice::from_ref(&want), &cx()).await.remove(0)?;
    session.whole(&want, &fetched.bytes).map(|value| value.expose_str().unwrap().to_owned())
}

/// A project and two groups that it is in.
async fn service() -> Service<gitlab::Gitlab> {
    let fake = gitlab::Gitlab::default();
    for (owner, key, scope, value) in [
        ("projects/7", "A", "*", "project"),
        ("projects/7", "A", "prod", "project-prod"),
        ("groups/12", "A", "prod", "inner-prod"),
        ("groups/12", "B", "*", "inner"),
        ("groups/11", "B", "prod", "outer-prod"),
        ("groups/11", "C", "prod", "outer-prod"),
        ("groups/11", "C", "dev", "outer-dev"),
        ("groups/11", "D_E", "*", "outer"),
        ("projects/7", "EMPTY", "*", ""),
    ] {
        fake.put(owner, key, scope, json!(value));
    }
    fake.put("projects/7", "HIDDEN", "*", Value::Null);
    Service::start(fake).await
}

#[tokio::test]
async fn the_project_comes_before_its_groups_and_the_environment_before_all() {
    let service = service().await;
    for (environment, groups, expected) in [
        ("prod", json!({"inheritFromGroups": true}), ["project-prod", "inner", "outer-prod", "outer"]),
        ("dev", json!({"inheritFromGroups": true}), ["project", "inner", "outer-dev", "outer"]),
        // Of the groups that are named, the last one is asked first.
        ("prod", json!({"groupIDs": ["12", "11"]}), ["project-prod", "outer-prod", "outer-prod", "outer"]),
        ("prod", json!({"groupIDs": ["group", "group/sub"]}), ["project-prod", "inner", "outer-prod", "outer"]),
    ] {
        let mut block = json!({"projectID": "7", "environment": environment});
        block.as_object_mut().unwrap().extend(groups.as_object().unwrap().clone());
        let session = connect(&Store::new(block.clone()), service.url()).await;
        for (key, value) in ["A", "B", "C", "D-E"].into_iter().zip(expected) {
            assert_eq!(read(session.as_ref(), key).await.unwrap(), value, "{block} {key}");
        }
        assert_eq!(read(session.as_ref(), "NONE").await.unwrap_err().kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn one_list_serves_all_keys_and_groups_are_asked_only_for_the_rest() {
    let service = service().await;
    let session = connect(&Store::new(json!({"projectID": "7", "inheritFromGroups": true})), service.url()).await;
    let wants = ["A", "B", "EMPTY"].map(|key| Want { key: key.to_owned(), ..Want::default() });
    assert!(session.get(&wants[..1], &cx()).await[0].is_ok());
    let list = |owner: &str| format!("GET /api/v4/{owner}/variables?per_page=100&page=1");
    assert_eq!(service.server.lines(), [list("projects/7")]);
    assert!(session.get(&wants, &cx()).await.iter().all(Result::is_ok));
    let groups = "GET /api/v4/projects/7/groups?per_page=100&page=1".to_owned();
    assert_eq!(service.server.lines()[1..], [list("projects/7"), groups, list("groups/12")]);
    assert!(session.get(&wants, &cx()).await.iter().all(Result::is_ok));
    assert_eq!(service.server.lines()[4..], [list("projects/7"), list("groups/12")], "the groups are known");
}

#[tokio::test]
async fn a_group_that_goes_is_not_asked_for_good() {
    let service = service().await;
    let store = json!({"projectID": "7", "inheritFromGroups": true, "environment": "prod"});
    let session = connect(&Store::new(store), service.url()).await;
    assert_eq!(read(session.as_ref(), "B").await.unwrap(), "inner");
    service.fake.remove_group(12);
    assert_eq!(read(session.as_ref(), "B").await.unwrap_err().kind, ErrorKind::Misconfigured);
    assert_eq!(read(session.as_ref(), "B").await.unwrap(), "outer-prod");
    // A check of the store is enough, too.
    service.fake.remove_group(11);
    session.validate(&cx()).await.unwrap();
    assert_eq!(read(session.as_ref(), "A").await.unwrap(), "project-prod");
}

#[tokio::test]
async fn what_cannot_be_read_is_told() {
    let service = service().await;
    let session = connect(&Store::project(), service.url()).await;
    let error = read(session.as_ref(), "HIDDEN").await.unwrap_err();
    assert_eq!(
        (error.kind, error.detail.as_str()),
        (ErrorKind::Denied, "GitLab shows the value of \"HIDDEN\" to nobody: the variable is hidden")
    );
    let error = read(session.as_ref(), "EMPTY").await.unwrap_err();
    assert_eq!(error.detail, "invalid secret received. no secret string for key: EMPTY");
    let session = connect(&Store::new(json!({"groupIDs": ["11"]})), service.url()).await;
    assert_eq!(read(session.as_ref(), "C").await.unwrap_err().kind, ErrorKind::Misconfigured, "two environments");
    // A project that is not there is no secret that is not there: nothing is deleted for it.
    for store in [
        json!({"projectID": "8"}),
        json!({"groupIDs": ["99"]}),
        json!({"projectID": "other/app", "inheritFromGroups": true}),
    ] {
        let session = connect(&Store::new(store), service.url()).await;
        for error in [read(session.as_ref(), "A").await.unwrap_err(), session.validate(&cx()).await.unwrap_err()] {
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
            assert!(!error.detail.contains("c4n4ry"), "{error}");
        }
        let place = Place { key: "A".to_owned(), ..Place::default() };
        assert_eq!(session.exists(&place, &cx()).await.unwrap_err().kind, ErrorKind::Misconfigured);
    }
}

async fn found(session: &dyn Session, name: &str, tags: &[(&str, &str)]) -> Result<Vec<(String, String)>, ProviderError> {
    let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let found = session.find(&FindQuery { name: name.to_owned(), tags, ..FindQuery::default() }, &cx()).await?;
    Ok(found.into_iter().map(|f| (f.name, f.bytes.expose_str().unwrap().to_owned())).collect())
}

#[tokio::test]
async fn a_search_sees_what_a_read_would() {
    let service = service().await;
    let store = json!({"projectID": "7", "inheritFromGroups": true});
    let session = connect(&Store::new(store), service.url()).await;
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let prod = pairs(&[("A", "project-prod"), ("B", "inner"), ("C", "outer-prod")]);
    assert_eq!(found(session.as_ref(), "^.$", &[("environment_scope", "prod")]).await.unwrap(), prod);
    assert_eq!(found(session.as_ref(), "^D", &[]).await.unwrap(), pairs(&[("D_E", "outer")]));
    for (name, tags, kind) in [
        ("", &[][..], ErrorKind::Misconfigured),
        ("x", &[("team", "a")][..], ErrorKind::Unsupported),
        ("[", &[][..], ErrorKind::Misconfigured),
        ("HIDDEN", &[][..], ErrorKind::Denied),
    ] {
        assert_eq!(found(session.as_ref(), name, tags).await.unwrap_err().kind, kind, "{name}");
    }
    let session = connect(&Store::new(json!({"projectID": "7", "environment": "prod"})), service.url()).await;
    let error = found(session.as_ref(), "A", &[("environment_scope", "dev")]).await.unwrap_err();
    assert_eq!(error.detail, "'find.tags' is constrained by 'environment_scope' of the store");
    let path = FindQuery { name: "x".into(), path: "y".into(), ..FindQuery::default() };
    assert_eq!(session.find(&path, &cx()).await.unwrap_err().kind, ErrorKind::Unsupported);
}

/// A project may have more than an object may, and a group's author more than the process has memory.
#[tokio::test]
async fn only_what_is_asked_for_is_kept_and_that_has_a_bound() {
    let fake = gitlab::Gitlab::default();
    for n in 0..1000 {
        fake.put("projects/7", &format!("LARGE_{n}"), "*", json!("x".repeat(10_000)));
    }
    fake.put("projects/7", "SMALL", "*", json!("s"));
    let service = Service::start(fake).await;
    let session = connect(&Store::project(), service.url()).await;
    assert_eq!(read(session.as_ref(), "SMALL").await.unwrap(), "s");
    assert_eq!(found(session.as_ref(), "^SMALL$", &[]).await.unwrap().len(), 1);
    let before = service.server.lines().len();
    assert_eq!(found(session.as_ref(), "^LARGE", &[]).await.unwrap_err().kind, ErrorKind::Malformed);
    assert_eq!(service.server.lines().len() - before, 9, "of eleven pages");
}

fn push(key: &str, value: &str, spec: &Value) -> Push {
    let data = [("v".to_owned(), SecretBytes::from(value))].into();
    let api = "kubernetes.external-secrets.io/v1alpha1";
    let metadata = json!({"apiVersion": api, "kind": "PushSecretMetadata", "spec": spec});
    let place = Place { key: key.to_owned(), metadata: Some(metadata), ..Place::default() };
    Push { source: Arc::new(Source { data, ..Source::default() }), secret_key: Some("v".to_owned()), place }
}

#[tokio::test]
async fn a_push_goes_to_the_environment_and_keeps_the_options() {
    let service = service().await;
    let session = connect(&Store::new(json!({"projectID": "7", "environment": "prod"})), service.url()).await;
    let masked = json!({"masked": true});
    for (value, spec, came_to) in [
        ("one", &masked, Pushed::Written),
        ("one", &masked, Pushed::Unchanged),
        ("one", &json!({}), Pushed::Unchanged),
        ("two", &json!({"protected": true}), Pushed::Written),
        ("two", &json!({"variableType": "file"}), Pushed::Written),
    ] {
        assert_eq!(session.push(&push("new-key", value, spec), &cx()).await.unwrap(), came_to, "{value} {spec}");
    }
    let expected = json!({
        "key": "new_key", "value": "two", "environment_scope": "prod", "masked": true, "protected": true, "raw": true, "hidden": false,
        "variable_type": "file", "description": "managed-by:external-secrets",
    });
    assert_eq!(service.fake.get("new_key", "prod").unwrap(), expected);
    let error = session.push(&push("A", "mine", &json!({})), &cx()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "somebody else's");
    assert_eq!(service.fake.get("A", "prod").unwrap()["value"], "project-prod");
    for bad in [json!({"nosuch": 1}), json!({"variableType": "x"})] {
        assert_eq!(session.push(&push("x", "v", &bad), &cx()).await.unwrap_err().kind, ErrorKind::Misconfigured);
    }
    session.delete(&push("new-key", "", &json!({})).place, &cx()).await.unwrap();
    assert!(service.fake.get("new_key", "prod").is_none());
    let session = connect(&Store::new(json!({"groupIDs": ["11", "12"]})), service.url()).await;
    session.push(&push("g", "v", &json!({})), &cx()).await.unwrap();
    assert!(service.server.lines().last().unwrap().starts_with("POST /api/v4/groups/11/variables"));
}

#[test]
fn a_store_says_what_it_lacks() {
    let token = json!({"SecretRef": {"accessToken": {"name": "n", "key": "k"}}});
    for (fields, text) in [
        (json!({"auth": token}), "projectID and groupIDs must not both be empty"),
        (
            json!({"auth": token, "projectID": "7", "groupIDs": ["1"], "inheritFromGroups": true}),
            "defining groupIDs and inheritFromGroups = true is not allowed",
        ),
        (
            json!({"auth": {"SecretRef": {"accessToken": {"name": "n"}}}, "projectID": "7"}),
            "accessToken.key cannot be empty",
        ),
        (
            json!({"auth": {"SecretRef": {"accessToken": {"key": "k"}}}, "projectID": "7"}),
            "accessToken.name cannot be empty",
        ),
    ] {
        let gitlab: Gitlab = serde_json::from_value(fields).unwrap();
        assert_eq!(gitlab.validate(StoreKind::SecretStore).unwrap_err().detail, text);
    }
}
