//! What is known of a write that failed, by a row of answers of an API server.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;

use super::*;
use crate::api::secret_store::Capabilities;
use crate::api::{PushSecret, PushSecretStatus};
use crate::plan::target::{Content, desired};

/// How the API server takes a request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Done.
    Done,
    /// Done, and somebody else has a part in the object.
    Shared,
    /// Done, and a field of the object cannot be understood.
    Spoilt,
    /// With that code.
    Code(u16),
    /// It gives none.
    Never,
}

const LIMIT: Duration = Duration::from_millis(50);

/// A writer whose requests are answered so, one after the other, and what it sent.
fn writer(answers: &[Answer]) -> (Writer, Arc<Mutex<Vec<Value>>>) {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
    let sent = Arc::new(Mutex::new(Vec::new()));
    let seen = sent.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (answers, seen) = (answers.clone(), seen.clone());
        async move {
            let body = request.into_body().collect_bytes().await.unwrap();
            seen.lock().unwrap().push(serde_json::from_slice(&body).unwrap_or_default());
            let answer = answers.lock().unwrap().pop_front().unwrap();
            let (code, body) = match answer {
                Answer::Never => std::future::pending().await,
                Answer::Done => (200, secret("keyferry")),
                Answer::Shared => (200, secret("somebody")),
                Answer::Spoilt => (200, json!({ "metadata": 7 })),
                Answer::Code(code) => {
                    (code, json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code }))
                }
            };
            let body = Body::from(body.to_string().into_bytes());
            Ok::<_, Infallible>(
                Response::builder().status(code).header("content-type", "application/json").body(body).unwrap(),
            )
        }
    });
    let client = kube::Client::new(service, "ns");
    (Writer::new(client, Leadership::alone(), Digester::new(b"key"), 4, LIMIT), sent)
}

fn secret(manager: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "es", "namespace": "ns", "resourceVersion": "2",
        "managedFields": [{ "manager": manager, "operation": "Apply" }] } })
}

fn es() -> ExternalSecret {
    let metadata = json!({ "name": "es", "namespace": "ns", "uid": "mine" });
    serde_json::from_value(json!({ "metadata": metadata, "spec": {} })).unwrap()
}

fn wanted() -> Desired {
    desired(&es(), Content::default())
}

/// A write in three requests: ESO's entries are retired, the values are written, and a key of others is taken out.
fn update() -> Update {
    Update {
        resource_version: "1".into(),
        desired: wanted(),
        managed_fields: Some(Vec::new()),
        remove: vec!["gone".into()],
        then: None,
        quiet: false,
    }
}

#[tokio::test]
async fn a_write_without_an_answer_may_have_been_done() {
    use Answer::{Code, Done, Never, Shared, Spoilt};
    let table: [(&[Answer], Option<bool>); 8] = [
        (&[Done], None),
        (&[Never], Some(true)),
        (&[Spoilt], Some(true)),
        (&[Code(500)], Some(true)),
        (&[Shared], Some(true)),
        (&[Code(403)], Some(false)),
        (&[Code(409)], Some(false)),
        (&[Code(429)], Some(false)),
    ];
    for (answers, unsure) in table {
        let (writer, _) = writer(answers);
        let result = writer.create(&wanted(), Priority::New).await;
        assert_eq!(result.err().map(|error| error.certainty().1), unsure, "create: {answers:?}");
    }
    let table: [(&[Answer], Option<bool>); 11] = [
        (&[Done, Done, Done], None),
        (&[Done, Spoilt], Some(true)),
        (&[Never], Some(false)),
        (&[Code(409)], Some(false)),
        (&[Done, Never], Some(true)),
        (&[Done, Code(503)], Some(true)),
        (&[Done, Code(422)], Some(false)),
        (&[Done, Code(429)], Some(false)),
        (&[Done, Done, Never], Some(true)),
        (&[Done, Done, Code(409)], Some(true)),
        (&[Done, Done, Code(403)], Some(true)),
    ];
    for (answers, unsure) in table {
        let (writer, sent) = writer(answers);
        let result = writer.update(&update(), Priority::New).await;
        assert_eq!(result.err().map(|error| error.certainty().1), unsure, "update: {answers:?}");
        assert_eq!(sent.lock().unwrap().len(), answers.len(), "update: {answers:?}");
    }
}

#[tokio::test]
async fn a_status_is_written_to_the_object_it_tells_of() {
    let (writer, sent) = writer(&[Answer::Code(422)]);
    let refused = writer.external_secret_status(&es(), &ExternalSecretStatus::default(), Priority::New).await;
    assert!(matches!(refused, Err(WriteError::Refused(_))), "{refused:?}");
    assert_eq!(sent.lock().unwrap()[0][0], json!({ "op": "test", "path": "/metadata/uid", "value": "mine" }));
}

/// Else it would be written again and again, each time after another check or push: what is held of such an object is as it was.
#[tokio::test(start_paused = true)]
async fn a_status_is_written_though_what_comes_back_cannot_be_understood() {
    let begun = tokio::time::Instant::now();
    let meta = json!({ "name": "a", "namespace": "ns", "uid": "mine", "resourceVersion": "7" });
    let held = |meta: ObjectMeta, is_told: bool| (meta.resource_version, is_told);
    let (writer, sent) = writer(&[Answer::Spoilt; 4]);
    let known = (Some("7".to_owned()), true);

    let store: SecretStore = serde_json::from_value(json!({ "metadata": meta, "spec": {} })).unwrap();
    let status = StoreStatus { capabilities: Some(Capabilities::ReadWrite), conditions: Vec::new() };
    let store = writer.store_status(&AnyStore::from(store), &status).await.unwrap();
    assert_eq!(held(store.metadata, store.status == Some(status)), known);

    let ps: PushSecret = serde_json::from_value(json!({ "metadata": meta })).unwrap();
    let status = PushSecretStatus { synced_resource_version: Some("1-x".into()), ..PushSecretStatus::default() };
    let ps = writer.push_secret_status(&ps, &status, Priority::New).await.unwrap();
    assert_eq!(held(ps.metadata, ps.status == Some(status)), known);

    let es: ExternalSecret = serde_json::from_value(json!({ "metadata": meta })).unwrap();
    let status = ExternalSecretStatus { synced_resource_version: Some("1-x".into()), ..ExternalSecretStatus::default() };
    let es = writer.external_secret_status(&es, &status, Priority::New).await.unwrap();
    assert_eq!(held(es.metadata, es.status == Some(status)), known);

    let unread = writer.read(&Key::new("ns", "a"), Priority::New).await.unwrap_err();
    assert_eq!(unread.to_string(), "unable to read Secret ns/a: the API server's answer cannot be understood");
    assert!(begun.elapsed() < UNREACHABLE, "the API server is there: no place is held");
    assert_eq!(sent.lock().unwrap().len(), 4);
}

/// However many objects want to write, they do not storm an API server that is away, nor one that comes back.
#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_not_stormed() {
    let tries = Arc::new(Mutex::new(0_usize));
    let count = tries.clone();
    let service = tower::service_fn(move |_: Request<Body>| {
        *count.lock().unwrap() += 1;
        async { Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)) }
    });
    let writer = Writer::new(kube::Client::new(service, "ns"), Leadership::alone(), Digester::new(b"key"), 4, LIMIT);
    let (es, status) = (es(), ExternalSecretStatus::default());
    let storm = futures::future::join_all((0..1000).map(|_| async {
        loop {
            let error = writer.external_secret_status(&es, &status, Priority::New).await.unwrap_err();
            assert!(matches!(error, WriteError::Unavailable(_)), "{error}");
        }
    }));
    tokio::time::timeout(UNREACHABLE * 10, storm).await.unwrap_err();
    let tries = *tries.lock().unwrap();
    assert!((36..=44).contains(&tries), "{tries} requests in 10 times that pause, through 4 places");
}
