//! What is pushed, and what of others is not touched.

use keyferry_fakes::vault::Vault as Server;

use super::*;
use crate::providers::{Place, Push, Pushed, Source};

fn push(value: &str, property: Option<&str>, metadata: Option<Value>) -> Push {
    let source = Source { data: [("k".to_owned(), SecretBytes::from(value))].into(), ..Source::default() };
    let place = Place { key: "new".into(), property: property.map(Into::into), metadata, namespace: "team-a".into() };
    Push { source: Arc::new(source), secret_key: Some("k".into()), place }
}

fn block(spec: Value) -> Option<Value> {
    let version = "kubernetes.external-secrets.io/v1alpha1";
    Some(json!({"apiVersion": version, "kind": "PushSecretMetadata", "spec": spec}))
}

#[tokio::test]
async fn custom_metadata_is_merged_or_replaced() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let session = connect(server.url(), json!({})).await;
    let custom = || server.fake.with(|state| Value::Object(state.secrets["new"].custom.clone()));
    let put = async |metadata: Option<Value>| session.push(&push("v", Some("p"), metadata), &cx()).await;
    let a = block(json!({"customMetadata": {"a": "1", "managed-by": "me"}}));
    assert_eq!(put(a.clone()).await.unwrap(), Pushed::Written);
    assert_eq!(custom(), json!({"a": "1", "managed-by": "external-secrets"}));
    assert_eq!(put(a).await.unwrap(), Pushed::Unchanged);
    assert_eq!(put(block(json!({"customMetadata": {"b": "2"}}))).await.unwrap(), Pushed::Written);
    assert_eq!(custom(), json!({"a": "1", "b": "2", "managed-by": "external-secrets"}));
    let replace = block(json!({"customMetadata": {"c": "3"}, "mergePolicy": "Replace"}));
    assert_eq!(put(replace.clone()).await.unwrap(), Pushed::Written);
    assert_eq!(custom(), json!({"c": "3", "managed-by": "external-secrets"}));
    assert_eq!(put(replace).await.unwrap(), Pushed::Unchanged);
    assert_eq!(server.fake.with(|state| state.secrets["new"].versions.len()), 1, "the value never changed");
    let error = put(block(json!({"mergePolicy": "Mix"}))).await.unwrap_err();
    assert_eq!(error.detail, "unsupported merge policy \"Mix\", must be one of: Merge, Replace");
    let error = put(block(json!({"nosuch": 1}))).await.unwrap_err();
    assert!(error.detail.starts_with("failed to parse push secret metadata: "), "{error}");
}

/// As in ESO, which reads the block as YAML into texts.
#[tokio::test]
async fn custom_metadata_may_be_numbers_and_booleans() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let session = connect(server.url(), json!({})).await;
    let spec = json!({"customMetadata": {"costcenter": 4711, "prod": true}, "mergePolicy": null});
    assert_eq!(session.push(&push("v", Some("p"), block(spec)), &cx()).await.unwrap(), Pushed::Written);
    assert_eq!(
        server.fake.with(|state| Value::Object(state.secrets["new"].custom.clone())),
        json!({"costcenter": "4711", "prod": "true", "managed-by": "external-secrets"})
    );
}

#[tokio::test]
async fn a_push_states_the_version_that_it_replaces() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let session = connect(server.url(), json!({"checkAndSet": {"required": true}})).await;
    let stated = || {
        let writes = server.server.received().into_iter().filter(|asked| asked.line.contains("PUT /v1/team/kv/data"));
        writes.map(|asked| asked.json()["options"]["cas"].clone()).collect::<Vec<_>>()
    };
    for value in ["1", "2", "3"] {
        session.push(&push(value, Some("p"), None), &cx()).await.unwrap();
    }
    session.push(&push("4", Some("q"), None), &cx()).await.unwrap();
    session.delete(&push("", Some("p"), None).place, &cx()).await.unwrap();
    assert_eq!(stated(), [json!(0), json!(1), json!(2), json!(3), json!(4)]);
    // A deleted version counts too.
    server.fake.with(|state| *state.secrets.get_mut("new").unwrap().versions.last_mut().unwrap() = None);
    session.push(&push("5", Some("p"), None), &cx()).await.unwrap();
    assert_eq!(stated().last(), Some(&json!(5)));
    assert_eq!(text(&get(session.as_ref(), &want("new")).await.unwrap().bytes), r#"{"p":"5"}"#);
}

/// Between our read and our write, somebody else writes: nothing of that is lost.
#[tokio::test]
async fn somebody_elses_change_is_not_lost() {
    let fake = Arc::new(Server::new(2, MOUNT));
    fake.put("new", json!({"p": "1"}), &BTreeMap::from([("managed-by".to_owned(), "external-secrets".to_owned())]));
    let (inner, raced) = (fake.clone(), std::sync::atomic::AtomicBool::new(false));
    let server = FakeServer::start(move |asked| {
        if asked.line.starts_with("PUT") && !raced.swap(true, std::sync::atomic::Ordering::SeqCst) {
            inner.put("new", json!({"p": "1", "theirs": "x"}), &BTreeMap::new());
        }
        keyferry_fakes::Fake::answer(inner.as_ref(), asked)
    })
    .await;
    let session = connect(&server.url, json!({})).await;
    assert_eq!(session.push(&push("2", Some("p"), None), &cx()).await.unwrap(), Pushed::Written);
    assert_eq!(text(&get(session.as_ref(), &want("new")).await.unwrap().bytes), r#"{"p":"2","theirs":"x"}"#);
}

/// Between our look and our write, somebody else makes the secret: it is theirs, and is not marked as ours.
#[tokio::test]
async fn what_somebody_else_makes_meanwhile_is_theirs() {
    let fake = Arc::new(Server::new(2, MOUNT));
    let (inner, raced) = (fake.clone(), std::sync::atomic::AtomicBool::new(false));
    let server = FakeServer::start(move |asked| {
        if asked.line.starts_with("PUT") && !raced.swap(true, std::sync::atomic::Ordering::SeqCst) {
            inner.put("new", json!({"theirs": "x"}), &BTreeMap::new());
        }
        keyferry_fakes::Fake::answer(inner.as_ref(), asked)
    })
    .await;
    let session = connect(&server.url, json!({})).await;
    for _ in 0..2 {
        let error = session.push(&push("2", Some("p"), None), &cx()).await.unwrap_err();
        assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Denied, "secret not managed by external-secrets"));
    }
    session.delete(&push("", None, None).place, &cx()).await.unwrap();
    assert_eq!(text(&get(session.as_ref(), &want("new")).await.unwrap().bytes), r#"{"theirs":"x"}"#);
    assert!(fake.with(|state| state.secrets["new"].custom.is_empty()));
}

#[tokio::test]
async fn a_push_that_broke_off_before_the_mark_goes_on_from_there() {
    let fake = Arc::new(Server::new(2, MOUNT));
    let (inner, broken) = (fake.clone(), std::sync::atomic::AtomicBool::new(false));
    let server = FakeServer::start(move |asked| {
        let is_mark = asked.line.starts_with("PUT /v1/team/kv/metadata");
        if is_mark && !broken.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Reply::text(503, "");
        }
        keyferry_fakes::Fake::answer(inner.as_ref(), asked)
    })
    .await;
    let mut with_no_retries = keys().cx(&outbound()).connect;
    with_no_retries.retry = Some(RetrySettings::default());
    let session = store(&server.url, json!({})).connect(&with_no_retries).await.unwrap();
    let push = push("v", Some("p"), None);
    let error = session.push(&push, &cx()).await.unwrap_err();
    assert_eq!((error.kind, error.written), (ErrorKind::Unavailable, true), "the value is there");
    assert_eq!(session.push(&push, &cx()).await.unwrap(), Pushed::Written);
    assert_eq!(session.push(&push, &cx()).await.unwrap(), Pushed::Unchanged);
    let marked = fake.with(|state| (state.secrets["new"].versions.len(), state.secrets["new"].custom.len()));
    assert_eq!(marked, (1, 1));
}

/// Vault took the first version, and its answer was lost: what is there is known by what it holds.
#[tokio::test]
async fn a_first_push_whose_answer_was_lost_goes_on_from_there() {
    for tries in [None, Some(3)] {
        let fake = Arc::new(Server::new(2, MOUNT));
        let (inner, lost) = (fake.clone(), std::sync::atomic::AtomicBool::new(false));
        let server = FakeServer::start(move |asked| {
            let answer = keyferry_fakes::Fake::answer(inner.as_ref(), asked);
            let is_first = asked.line.starts_with("PUT /v1/team/kv/data");
            if is_first && !lost.swap(true, std::sync::atomic::Ordering::SeqCst) { Reply::text(502, "") } else { answer }
        })
        .await;
        let mut connect = keys().cx(&outbound()).connect;
        connect.retry = Some(RetrySettings { max_retries: tries, retry_interval: tries.map(|_| "1ms".to_owned()) });
        let session = store(&server.url, json!({})).connect(&connect).await.unwrap();
        let push = push("v", Some("p"), None);
        if tries.is_none() {
            assert_eq!(session.push(&push, &cx()).await.unwrap_err().kind, ErrorKind::Unavailable);
        }
        assert_eq!(session.push(&push, &cx()).await.unwrap(), Pushed::Written, "the mark");
        assert_eq!(session.push(&push, &cx()).await.unwrap(), Pushed::Unchanged);
        let marked = fake.with(|state| (state.secrets["new"].versions.len(), state.secrets["new"].custom.len()));
        assert_eq!(marked, (1, 1), "{tries:?}");
    }
}

/// What Vault refused was not taken: whoever makes the secret then has made it, also of the same value.
#[tokio::test]
async fn a_first_push_that_was_refused_claims_nothing() {
    let fake = Arc::new(Server::new(2, MOUNT));
    let (inner, refused) = (fake.clone(), std::sync::atomic::AtomicBool::new(false));
    let server = FakeServer::start(move |asked| {
        let is_first = asked.line.starts_with("PUT /v1/team/kv/data");
        if is_first && !refused.swap(true, std::sync::atomic::Ordering::SeqCst) {
            return Reply::text(403, r#"{"errors":["1 error occurred: permission denied"]}"#);
        }
        keyferry_fakes::Fake::answer(inner.as_ref(), asked)
    })
    .await;
    let session = connect(&server.url, json!({})).await;
    let push = push("v", Some("p"), None);
    assert_eq!(session.push(&push, &cx()).await.unwrap_err().kind, ErrorKind::Denied);
    fake.put("new", json!({"p": "v"}), &BTreeMap::new());
    let error = session.push(&push, &cx()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Denied, "secret not managed by external-secrets"));
    assert!(fake.with(|state| state.secrets["new"].custom.is_empty()));
}

#[tokio::test]
async fn what_others_wrote_stays_also_where_it_is_deleted() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    server.fake.put("new", json!({"p": "theirs"}), &BTreeMap::from([("owner".to_owned(), "me".to_owned())]));
    server.fake.with(|state| state.secrets.get_mut("new").unwrap().versions[0] = None);
    let session = connect(server.url(), json!({})).await;
    let error = session.push(&push("v", Some("p"), None), &cx()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Denied, "secret not managed by external-secrets"));
    session.delete(&push("", None, None).place, &cx()).await.unwrap();
    assert_eq!(server.fake.with(|state| state.secrets["new"].custom.len()), 1);
    // Settings that somebody made for a secret to come are kept, and are in nobody's way.
    server.fake.with(|state| state.secrets.get_mut("new").unwrap().versions.clear());
    assert_eq!(session.push(&push("v", Some("p"), None), &cx()).await.unwrap(), Pushed::Written);
    assert_eq!(
        server.fake.with(|state| Value::Object(state.secrets["new"].custom.clone())),
        json!({"owner": "me", "managed-by": "external-secrets"})
    );
}

/// ESO 2.9 takes the mount out of the path of the values, and not out of that of the mark.
#[tokio::test]
async fn what_older_versions_of_eso_marked_is_ours() {
    let ours = BTreeMap::from([("managed-by".to_owned(), "external-secrets".to_owned())]);
    let moved = || {
        let fake = Server::new(2, MOUNT);
        fake.put("app", json!({"p": "1"}), &BTreeMap::new());
        fake.put("team/kv/app", json!({}), &ours);
        fake.with(|state| state.secrets.get_mut("team/kv/app").unwrap().versions.clear());
        fake
    };
    let push = |value: &str, property| {
        let mut push = push(value, property, None);
        push.place.key = "team/kv/app".into();
        push
    };
    let server = Service::start(moved()).await;
    let session = connect(server.url(), json!({})).await;
    assert_eq!(session.push(&push("2", Some("p")), &cx()).await.unwrap(), Pushed::Written);
    assert_eq!(session.push(&push("2", Some("p")), &cx()).await.unwrap(), Pushed::Unchanged);
    let app = server.fake.with(|state| state.secrets["app"].clone());
    assert_eq!((app.versions.len(), Value::Object(app.custom)), (2, json!({"managed-by": "external-secrets"})));
    session.delete(&push("", None).place, &cx()).await.unwrap();
    assert!(server.fake.with(|state| state.secrets.is_empty()), "the older mark goes too");

    let server = Service::start(moved()).await;
    let session = connect(server.url(), json!({})).await;
    session.delete(&push("", None).place, &cx()).await.unwrap();
    assert!(server.fake.with(|state| state.secrets.is_empty()));

    // A secret that is there has its mark for itself, and who is named at the secret is asked nowhere else.
    let server = Service::start(moved()).await;
    let session = connect(server.url(), json!({})).await;
    server.fake.put("team/kv/app", json!({"k": "v"}), &BTreeMap::new());
    let error = session.push(&push("2", Some("p")), &cx()).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Denied, "secret not managed by external-secrets"));
    let server = Service::start(moved()).await;
    let session = connect(server.url(), json!({})).await;
    let theirs = json!("terraform");
    server.fake.with(|state| state.secrets.get_mut("app").unwrap().custom.insert("managed-by".to_owned(), theirs));
    assert_eq!(session.push(&push("2", Some("p")), &cx()).await.unwrap_err().kind, ErrorKind::Denied);
    session.delete(&push("", None).place, &cx()).await.unwrap();
    assert_eq!(server.fake.with(|state| state.secrets.len()), 2, "nothing is deleted");
}

#[tokio::test]
async fn an_engine_without_versions_keeps_the_mark_in_the_secret() {
    let server = Service::start(Server::new(1, MOUNT)).await;
    let session = connect(server.url(), json!({"version": "v1"})).await;
    let there = || server.fake.with(|state| state.secrets.get("new").map(|secret| secret.versions[0].clone().unwrap()));
    let mark = json!({"managed-by": "external-secrets"});
    assert_eq!(session.push(&push(r#"{"a":1}"#, None, None), &cx()).await.unwrap(), Pushed::Written);
    assert_eq!(there(), Some(json!({"a": 1, "custom_metadata": mark})));
    assert_eq!(session.push(&push(r#"{"a":1}"#, None, None), &cx()).await.unwrap(), Pushed::Unchanged);
    assert_eq!(session.push(&push("v", Some("p"), None), &cx()).await.unwrap(), Pushed::Written);
    session.delete(&push("", Some("a"), None).place, &cx()).await.unwrap();
    assert_eq!(there(), Some(json!({"p": "v", "custom_metadata": mark})));
    session.delete(&push("", Some("p"), None).place, &cx()).await.unwrap();
    assert_eq!(there(), None, "nothing but the mark was left");
    server.fake.put("new", json!({"p": "theirs"}), &BTreeMap::new());
    let error = session.push(&push("v", Some("p"), None), &cx()).await.unwrap_err();
    assert_eq!(error.detail, "secret not managed by external-secrets (no custom_metadata found)");
    let error = session.push(&push("no object", None, None), &cx()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn what_vault_cannot_keep_is_not_pushed() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let session = connect(server.url(), json!({})).await;
    let error = session.push(&push(CANARY, None, None), &cx()).await.unwrap_err();
    assert!(error.detail.starts_with("error unmarshalling vault secret: invalid JSON format"), "{error}");
    let source = Source { data: [("k".to_owned(), SecretBytes::new(vec![0xff, 0xfe]))].into(), ..Source::default() };
    let binary = Push { source: Arc::new(source), ..push("", Some("p"), None) };
    let error = session.push(&binary, &cx()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(!error.detail.contains(CANARY) && server.fake.with(|state| state.secrets.is_empty()));
}
