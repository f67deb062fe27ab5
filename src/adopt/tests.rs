//! What `keyferry adopt` makes of what an API server lets it see.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

/// A client of a server that has one ExternalSecret and one that is spoilt, with an old definition, and forbids some kinds.
fn client(forbidden: &'static [&'static str]) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| async move {
        let path = request.uri().path().to_owned();
        let kind = path.rsplit('/').next().unwrap_or_default();
        let items: Vec<Value> = match kind {
            "externalsecrets" => vec![
                json!({
                    "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
                    "metadata": { "name": "app", "namespace": "team" },
                    "spec": { "secretStoreRef": { "name": "s", "kind": "ClusterSecretStore" },
                        "data": [{ "secretKey": "k", "remoteRef": { "key": "r" } }] },
                }),
                json!({
                    "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret",
                    "metadata": { "name": "spoilt", "namespace": "team" }, "spec": { "data": CANARY },
                }),
            ],
            _ => Vec::new(),
        };
        let (code, body): (u16, Value) = match forbidden.contains(&kind) {
            true => (
                403,
                json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Forbidden", "code": 403 }),
            ),
            false => (200, json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": items })),
        };
        let (code, body) = match path.contains("/customresourcedefinitions/") && code == 200 {
            true if kind == DEFINITION => (200, old_definition()),
            true => (
                404,
                json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404 }),
            ),
            false => (code, body),
        };
        let body = Body::from(body.to_string().into_bytes());
        Ok::<_, Infallible>(Response::builder().status(code).header("content-type", "application/json").body(body).unwrap())
    });
    Client::new(service, "default")
}

const DEFINITION: &str = "externalsecrets.external-secrets.io";

/// As an ESO has it that serves no `v1` yet.
fn old_definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": DEFINITION },
        "spec": { "group": "external-secrets.io", "scope": "Namespaced",
            "names": { "kind": "ExternalSecret", "plural": "externalsecrets" },
            "versions": [{ "name": "v1beta1", "served": true, "storage": true }] },
    })
}

/// A value that somebody put into the wrong place.
const CANARY: &str = "hunter2";

async fn told(namespace: &str, forbidden: &'static [&'static str]) -> (Result<(), AdoptError>, String) {
    let what = Adopt { dry_run: true, undo: false, leave_secrets: false, namespace: namespace.into(), force: false };
    let mut out = Vec::new();
    let done = Mover { client: client(forbidden), what: &what }.run(&mut out).await;
    (done, String::from_utf8(out).unwrap())
}

#[tokio::test]
async fn what_cannot_be_understood_is_told_without_its_value() {
    let (_, said) = told("team", &[]).await;
    let why =
        "! object team/spoilt: it is no ExternalSecret that keyferry understands, and is left alone: invalid type string";
    assert!(said.contains(why) && !said.contains(CANARY), "{said}");
}

#[tokio::test]
async fn one_namespace_moves_without_the_right_to_list_cluster_stores() {
    let gone = "ClusterSecretStore s is not there";
    let (done, said) = told("team", &[]).await;
    assert!(done.is_ok() && said.contains(gone), "{said}");

    let (done, said) = told("team", &["clustersecretstores"]).await;
    assert!(done.is_ok(), "{said}");
    assert!(said.contains("! ClusterSecretStores could not be looked at"), "{said}");
    assert!(said.contains("(Forbidden)") && !said.contains(gone), "{said}");

    // what has to be looked at, and a whole cluster without its stores, are errors as before
    for (namespace, kind) in [("", "clustersecretstores"), ("team", "secretstores")] {
        let forbidden: &[&str] = if kind == "secretstores" { &["secretstores"] } else { &["clustersecretstores"] };
        let (done, said) = told(namespace, forbidden).await;
        assert!(matches!(done, Err(AdoptError::List { forbidden: true, .. })), "{kind}: {said}");
    }
}

#[tokio::test]
async fn definitions_are_looked_at_where_that_is_allowed() {
    let warning = format!("! CustomResourceDefinition {DEFINITION}: v1 is not served");
    for namespace in ["", "team"] {
        let (done, said) = told(namespace, &[]).await;
        assert!(done.is_ok() && said.starts_with(&warning), "{said}");
        // a refusal is no error, as who moves one namespace need not have the right
        let (done, said) = told(namespace, &[DEFINITION]).await;
        assert!(done.is_ok() && !said.contains("CustomResourceDefinition"), "{said}");
    }
}
