//! What is asked of Secret Manager, and what is made of its answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::conformance::{connect, refused, token, version};
use super::{SecretManager, VersionPolicy};
use crate::api::external_secret::MetadataPolicy;
use crate::api::secret_store::StoreKind;
use crate::generators::testing::cluster::{CANARY, Cluster};
use crate::outbound::testing::{FakeServer, Received, Reply, outbound_with};
use crate::providers::{
    CallCx, ErrorKind, Fetched, FindQuery, Place, Provider as _, ProviderError, Push, Pushed, Session, Source, Want,
};
use crate::secret_bytes::SecretBytes;

fn store() -> SecretManager {
    SecretManager { project_id: Some("p".into()), ..SecretManager::default() }
}

/// A Secret Manager whose machine gives a token to whoever asks.
async fn server(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |asked| if asked.line.contains("/computeMetadata/") { token() } else { answer(asked) }).await
}

/// What was asked of Secret Manager, without the login.
fn lines(server: &FakeServer) -> Vec<String> {
    server.lines().into_iter().filter(|line| !line.contains("/computeMetadata/")).collect()
}

async fn get(session: &Arc<dyn Session>, want: Want) -> Result<Fetched, ProviderError> {
    session.get(&[want], &CallCx::default()).await.remove(0)
}

fn want(key: &str) -> Want {
    Want { key: key.into(), ..Want::default() }
}

fn text(value: &SecretBytes) -> &str {
    value.expose_str().unwrap()
}

#[tokio::test]
async fn a_disabled_latest_is_an_error_or_the_latest_that_is_enabled() {
    let answer = |asked: &Received| match asked.line.as_str() {
        "GET /v1/projects/p/secrets/db/versions/latest:access" => refused(400, "FAILED_PRECONDITION"),
        "GET /v1/projects/p/secrets/db/versions?filter=state%3AENABLED&pageToken=" => Reply::json(
            200,
            &json!({"versions": [{"name": "projects/1/secrets/db/versions/3", "createTime": "2026-01-03T00:00:00Z"}], "nextPageToken": "n"}),
        ),
        "GET /v1/projects/p/secrets/db/versions?filter=state%3AENABLED&pageToken=n" => Reply::json(
            200,
            &json!({"versions": [{"name": "projects/1/secrets/db/versions/4", "createTime": "2026-01-03T00:00:00.5Z"}]}),
        ),
        "GET /v1/projects/p/secrets/db/versions/4:access" => version("projects/1/secrets/db/versions/4", b"four"),
        "GET /v1/projects/p/secrets/db/versions/9:access" => refused(400, "FAILED_PRECONDITION"),
        other => panic!("{other}"),
    };
    let server = server(answer).await;
    let error = get(&connect(&server, store()).await, want("db")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.detail.contains("\"db\"") && error.detail.contains("LatestOrFetch"), "{error}");

    let fetching =
        connect(&server, SecretManager { secret_version_selection_policy: Some(VersionPolicy::LatestOrFetch), ..store() })
            .await;
    let fetched = get(&fetching, want("db")).await.unwrap();
    assert_eq!((fetched.bytes.expose(), fetched.version.as_deref()), (&b"four"[..], Some("4")));
    let named = get(&fetching, Want { version: "9".into(), ..want("db") }).await;
    assert_eq!(named.unwrap_err().kind, ErrorKind::Denied, "a version that was asked for by name is not replaced");
}

#[tokio::test]
async fn a_value_that_was_damaged_is_not_taken() {
    let server =
        server(|_| Reply::json(200, &json!({"name": "n/versions/1", "payload": {"data": "YWJj", "dataCrc32c": "1"}}))).await;
    let error = get(&connect(&server, store()).await, want("db")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.detail.contains("checksum"), "{error}");
}

/// A proxy or a wrong address must not look like secrets that are gone.
#[tokio::test]
async fn only_google_can_say_that_a_secret_is_missing() {
    let server = server(|_| Reply::text(404, "<html>canary</html>")).await;
    let error = get(&connect(&server, store()).await, want("db")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    let session = connect(&server, store()).await;
    let query = FindQuery { name: "x".into(), ..FindQuery::default() };
    assert_eq!(session.find(&query, &CallCx::default()).await.unwrap_err().kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn metadata_is_two_maps() {
    let server = server(|_| {
        Reply::json(200, &json!({"name": "projects/1/secrets/db", "labels": {"team": "a"}, "annotations": {"a.b/c": "<x>"}}))
    })
    .await;
    let session = connect(&server, store()).await;
    let wanted = Want { metadata: MetadataPolicy::Fetch, ..want("db") };
    let fetched = get(&session, wanted.clone()).await.unwrap().bytes;
    assert_eq!(lines(&server), ["GET /v1/projects/p/secrets/db"]);
    let whole = session.whole(&wanted, &fetched).unwrap();
    assert_eq!(text(&whole), r#"{"annotations":{"a.b/c":"\u003cx\u003e"},"labels":{"team":"a"}}"#);
    let property = |name: &str| session.property(&wanted, &fetched, name);
    assert_eq!(text(&property("annotations.a.b/c").unwrap()), "<x>");
    assert_eq!(text(&property("labels.team").unwrap()), "a");
    assert_eq!(text(&property("labels").unwrap()), r#"{"team":"a"}"#);
    let missing = property("labels.nope").unwrap_err();
    assert_eq!(missing.kind, ErrorKind::MissingProperty);
    assert_eq!(missing.detail, "label with key nope does not exist in secret db");
    assert_eq!(property("nope").unwrap_err().kind, ErrorKind::Misconfigured);
    let labels = session.extract(&wanted, &fetched, Some("labels")).unwrap();
    assert_eq!(labels, BTreeMap::from([("team".to_owned(), SecretBytes::from("a"))]));
    assert_eq!(session.extract(&wanted, &fetched, None).unwrap().len(), 2);

    let bare = FakeServer::start(|asked: &Received| {
        if asked.line.contains("/computeMetadata/") {
            token()
        } else {
            Reply::json(200, &json!({"name": "projects/1/secrets/db"}))
        }
    })
    .await;
    let fetched = get(&connect(&bare, store()).await, wanted.clone()).await.unwrap().bytes;
    assert_eq!(text(&fetched), r#"{"annotations":null,"labels":null}"#);
    assert_eq!(session.property(&wanted, &fetched, "labels.x").unwrap_err().kind, ErrorKind::MissingProperty);
}

#[tokio::test]
async fn values_that_are_no_json_have_no_properties() {
    let server = server(|_| version("n/versions/1", b"user: canary")).await;
    let session = connect(&server, store()).await;
    let fetched = get(&session, want("db")).await.unwrap().bytes;
    let error = session.property(&want("db"), &fetched, "user").unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(!error.detail.contains("canary"), "{error}");
}

#[tokio::test]
async fn regional_secrets_have_paths_and_a_host_of_their_own() {
    let server = server(|asked| match asked.line.as_str() {
        line if line.contains(":access") => version("projects/1/locations/europe-west3/secrets/a/versions/1", b"v"),
        line if line.starts_with("GET") && line.contains("/secrets?") => Reply::json(
            200,
            &json!({"secrets": [{"name": "projects/1/locations/europe-west3/secrets/a", "labels": {"k": "v"}}]}),
        ),
        line if line.starts_with("GET") => refused(404, "NOT_FOUND"),
        _ => Reply::json(200, &json!({"name": "x"})),
    })
    .await;
    let regional = SecretManager { location: Some("europe-west3".into()), ..store() };
    let session = connect(&server, regional.clone()).await;
    get(&session, want("a b/c")).await.unwrap();
    let query = FindQuery { tags: BTreeMap::from([("k".into(), "v".into())]), path: "a".into(), ..FindQuery::default() };
    assert_eq!(session.find(&query, &CallCx::default()).await.unwrap().len(), 1);
    let spec = json!({"cmekKeyName": "k", "replicationLocations": ["x"]});
    session.push(&push(None, Some(spec)), &CallCx::default()).await.unwrap();
    let start = "/v1/projects/p/locations/europe-west3/secrets";
    assert_eq!(
        lines(&server),
        [
            format!("GET {start}/a%20b%2Fc/versions/latest:access"),
            format!("GET {start}?pageSize=500&filter=labels.k%3Dv+name%3Aa&pageToken="),
            format!("GET {start}/a/versions/latest:access"),
            format!("GET {start}/db"),
            format!("POST {start}?secretId=db"),
            format!("POST {start}/db:addVersion"),
        ]
    );
    let made = server.received().into_iter().find(|r| r.line.contains("secretId")).unwrap().json();
    assert_eq!(made["customerManagedEncryption"], json!({"kmsKeyName": "k"}));
    assert!(made.get("replication").is_none(), "{made}");

    for bad in ["evil.test/", "a.b", "x#", "-a", "A", "a@evil"] {
        let error = SecretManager { location: Some(bad.into()), ..store() }.validate(StoreKind::SecretStore).unwrap_err();
        assert!(error.detail.starts_with("spec.provider.gcpsm.location "), "{bad}: {error}");
    }
    assert!(regional.validate(StoreKind::SecretStore).is_ok());
}

#[tokio::test]
async fn one_login_serves_all_calls_and_a_revoked_token_is_replaced_once() {
    let asked_with = Arc::new(AtomicUsize::new(0));
    let count = asked_with.clone();
    let server = FakeServer::start(move |asked: &Received| {
        if asked.line.contains("/computeMetadata/") {
            let token = format!("t{}", count.fetch_add(1, Ordering::SeqCst));
            return Reply::json(200, &json!({"access_token": token, "expires_in": 3599, "token_type": "Bearer"}));
        }
        match asked.header("authorization") {
            "Bearer t1" => version("n/versions/1", b"v"),
            _ => refused(401, "UNAUTHENTICATED"),
        }
    })
    .await;
    let session = connect(&server, store()).await;
    for _ in 0..5 {
        assert_eq!(get(&session, want("db")).await.unwrap().bytes.expose(), b"v");
    }
    assert_eq!(asked_with.load(Ordering::SeqCst), 2, "the first login, and the one after the refusal");
    assert_eq!(lines(&server).len(), 6);
}

#[tokio::test]
async fn calls_do_not_wait_for_each_other() {
    let server = server(|asked| match asked.line.contains("/slow/") {
        true => Reply::never(),
        false => version("n/versions/1", b"v"),
    })
    .await;
    let session = connect(&server, store()).await;
    let slow = session.clone();
    let hanging = tokio::spawn(async move { get(&slow, want("slow")).await.is_ok() });
    while lines(&server).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(get(&session, want("db")).await.is_ok());
    assert!(!hanging.is_finished());
    hanging.abort();
}

#[tokio::test]
async fn failures_are_tried_again_as_the_store_says_and_noted() {
    let server = server(|_| Reply::text(503, CANARY)).await;
    let session = connect(&server, store()).await;
    let cx = CallCx { cause: "ExternalSecret/team-a/db".into(), correlation: "c1".into(), ..CallCx::default() };
    let error = session.get(&[want("db")], &cx).await.remove(0).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(lines(&server).len(), 2, "maxRetries: 1");
    let requests: Vec<_> = cx.requests.take().into_iter().map(|r| (r.name, r.failed)).collect();
    assert_eq!(requests, [("AccessSecretVersion".into(), true), ("AccessSecretVersion".into(), true)]);
    let agent = server.received().last().unwrap().header("user-agent").to_owned();
    assert!(agent.ends_with(" keyferry-cause/ExternalSecret/team-a/db keyferry-call/c1"), "{agent}");
}

#[tokio::test]
async fn a_project_that_is_not_given_is_the_machines() {
    let server = FakeServer::start(|asked: &Received| match asked.line.as_str() {
        "GET /computeMetadata/v1/project/project-id" => Reply::text(200, "own-project"),
        line if line.contains("/computeMetadata/") => token(),
        "GET /v1/projects/own-project/secrets/db/versions/latest:access" => version("n/versions/1", b"v"),
        other => panic!("{other}"),
    })
    .await;
    assert!(get(&connect(&server, SecretManager::default()).await, want("db")).await.is_ok());
    // With a key nothing is guessed.
    let auth = json!({"secretRef": {"secretAccessKeySecretRef": {"name": "gcp", "key": "json"}}});
    let by_key: SecretManager = serde_json::from_value(json!({"auth": auth})).unwrap();
    let error = by_key.validate(StoreKind::SecretStore).unwrap_err();
    assert!(error.detail.starts_with("unable to find ProjectID in storeSpec"), "{error}");
}

#[tokio::test]
async fn a_clusters_names_come_from_the_machine_where_they_are_left_out() {
    let server = FakeServer::start(|asked: &Received| match asked.line.as_str() {
        "GET /computeMetadata/v1/instance/attributes/cluster-location" => Reply::text(200, "europe-west3"),
        _ => Reply::text(404, ""),
    })
    .await;
    let outbound = outbound_with(&[("GCE_METADATA_HOST", &server.address.to_string())]);
    let cx = Cluster::new().service_account("app", &json!({})).cx(&outbound).connect;
    let auth = json!({"workloadIdentity": {"serviceAccountRef": {"name": "app"}}});
    let store: SecretManager = serde_json::from_value(json!({"projectID": "p", "auth": auth})).unwrap();
    let error = store.connect(&cx).await.err().unwrap();
    assert_eq!(
        error.detail,
        "spec.provider.gcpsm.auth.workloadIdentity.clusterName is not set, and no metadata service tells it"
    );
    assert!(store.is_referent());
    assert_eq!(store.references().len(), 1);
}

fn push(property: Option<&str>, spec: Option<Value>) -> Push {
    let data = BTreeMap::from([("pw".to_owned(), SecretBytes::from(CANARY))]);
    let block = |spec| json!({ "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata", "spec": spec });
    let place = Place {
        key: "db".into(),
        property: property.map(Into::into),
        metadata: spec.map(block),
        namespace: "team-a".into(),
    };
    Push { source: Arc::new(Source { data, ..Source::default() }), secret_key: Some("pw".into()), place }
}

/// A secret with the canary as its value.
async fn holding(secret: Value) -> FakeServer {
    server(move |asked| match asked.line.as_str() {
        line if line.starts_with("GET") && line.contains(":access") => version("n/versions/1", CANARY.as_bytes()),
        line if line.starts_with("GET") && secret.is_null() => refused(404, "NOT_FOUND"),
        line if line.starts_with("GET") => Reply::json(200, &secret),
        _ => Reply::json(200, &json!({"name": "projects/1/secrets/db"})),
    })
    .await
}

fn ours() -> Value {
    json!({
        "name": "projects/1/secrets/db", "etag": "\"e1\"", "labels": {"managed-by": "external-secrets", "old": "x"},
        "annotations": {"note": "n"}, "topics": [{"name": "projects/p/topics/t"}],
    })
}

fn sent(server: &FakeServer, start: &str) -> Received {
    let found = server.received().into_iter().find(|r| r.line.starts_with(start));
    found.unwrap_or_else(|| panic!("no {start}: {:?}", server.lines()))
}

#[tokio::test]
async fn a_new_secret_is_made_as_the_block_says() {
    for (spec, replication) in [
        (None, json!({"automatic": {}})),
        (Some(json!({"replicationLocation": "a"})), json!({"userManaged": {"replicas": [{"location": "a"}]}})),
        (
            Some(json!({"replicationLocation": "a", "replicationLocations": ["b", "c"], "cmekKeyName": "k"})),
            json!({"userManaged": {"replicas": [
                {"location": "b", "customerManagedEncryption": {"kmsKeyName": "k"}},
                {"location": "c", "customerManagedEncryption": {"kmsKeyName": "k"}},
            ]}}),
        ),
        (Some(json!({"cmekKeyName": "k"})), json!({"automatic": {"customerManagedEncryption": {"kmsKeyName": "k"}}})),
    ] {
        let server = holding(Value::Null).await;
        let session = connect(&server, store()).await;
        assert_eq!(session.push(&push(None, spec), &CallCx::default()).await, Ok(Pushed::Written));
        let made = sent(&server, "POST /v1/projects/p/secrets?secretId=db").json();
        assert_eq!(made["replication"], replication);
        assert_eq!(made["labels"], json!({"managed-by": "external-secrets"}));
    }
    let server = holding(Value::Null).await;
    let session = connect(&server, store()).await;
    let spec = json!({"labels": {"team": "a"}, "annotations": {"x": "y"}, "topics": ["projects/p/topics/t"]});
    session.push(&push(None, Some(spec)), &CallCx::default()).await.unwrap();
    let made = sent(&server, "POST /v1/projects/p/secrets?").json();
    assert_eq!(made["labels"], json!({"managed-by": "external-secrets", "team": "a"}));
    assert_eq!((&made["annotations"], &made["topics"]), (&json!({"x": "y"}), &json!([{"name": "projects/p/topics/t"}])));
}

#[tokio::test]
async fn labels_annotations_and_topics_follow_the_block() {
    let managed = json!({"managed-by": "external-secrets"});
    for (spec, mask, labels) in [
        (None, "labels,annotations", managed.clone()),
        (Some(json!({"annotations": {"note": "n"}})), "labels", managed.clone()),
        (
            Some(json!({"annotations": {"note": "n"}, "mergePolicy": "Merge", "labels": {"new": "1", "old": "2"}})),
            "labels",
            json!({"managed-by": "external-secrets", "new": "1", "old": "x"}),
        ),
        (
            Some(json!({"annotations": {"note": "n"}, "mergePolicy": "Merge", "topics": ["projects/p/topics/u"]})),
            "topics",
            Value::Null,
        ),
    ] {
        let server = holding(ours()).await;
        let session = connect(&server, store()).await;
        assert_eq!(session.push(&push(None, spec), &CallCx::default()).await, Ok(Pushed::Written));
        let mask = mask.replace(',', "%2C");
        let patch = sent(&server, &format!("PATCH /v1/projects/p/secrets/db?updateMask={mask}")).json();
        assert_eq!((&patch["labels"], &patch["etag"]), (&labels, &json!("\"e1\"")));
        assert!(!server.lines().iter().any(|line| line.ends_with(":addVersion")), "the value is there already");
    }
    let server = holding(ours()).await;
    let session = connect(&server, store()).await;
    let spec = json!({"annotations": {"note": "n"}, "labels": {"old": "x"}});
    assert_eq!(session.push(&push(None, Some(spec)), &CallCx::default()).await, Ok(Pushed::Unchanged));
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let server = holding(json!({"name": "projects/1/secrets/db", "labels": {"managed-by": "terraform"}})).await;
    let session = connect(&server, store()).await;
    for property in [None, Some("p")] {
        let error = session.push(&push(property, None), &CallCx::default()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
        assert_eq!(error.detail, "secret db is not managed by external secrets");
    }
    assert_eq!(session.delete(&push(None, None).place, &CallCx::default()).await, Ok(()));
    assert!(server.lines().iter().all(|line| line.starts_with("GET ")), "{:?}", server.lines());
}

#[tokio::test]
async fn a_deletion_names_what_was_looked_at() {
    let server = holding(ours()).await;
    let session = connect(&server, store()).await;
    session.delete(&push(None, None).place, &CallCx::default()).await.unwrap();
    assert_eq!(lines(&server), ["GET /v1/projects/p/secrets/db", "DELETE /v1/projects/p/secrets/db?etag=%22e1%22"]);
}

#[tokio::test]
async fn a_block_that_makes_no_sense_is_told_of() {
    let server = holding(ours()).await;
    let session = connect(&server, store()).await;
    for (property, spec, text) in [
        (None, json!({"nosuch": 1}), "failed to parse PushSecret metadata: failed to parse kubernetes.external-secrets.io"),
        (None, json!({"mergePolicy": "Sometimes"}), "failed to parse PushSecret metadata: "),
        (Some("p"), json!({"labels": {}}), "cannot specify metadata and property at the same time"),
    ] {
        let error = session.push(&push(property, Some(spec)), &CallCx::default()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.starts_with(text), "{error}");
    }
    assert!(lines(&server).is_empty());
}

/// A name without an expression is any name. That neither a name nor tags will not do is told by the plan.
#[tokio::test]
async fn a_search_for_any_name_finds_all_below_the_path() {
    let names = ["a-one", "b", "a-two"].map(|name| json!({"name": format!("projects/1/secrets/{name}")}));
    let server = server(move |asked| match asked.line.as_str() {
        line if line.starts_with("GET /v1/projects/p/secrets?") => Reply::json(200, &json!({"secrets": names})),
        _ => version("projects/1/secrets/x/versions/1", b"v"),
    })
    .await;
    let query = FindQuery { path: "a".into(), ..FindQuery::default() };
    let found = connect(&server, store()).await.find(&query, &CallCx::default()).await.unwrap();
    assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["a-one", "a-two"]);
}
