#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::convert::Infallible;
use std::sync::Mutex;

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use kube::{Client, Resource};

use super::*;

/// An API server that knows one Lease, checks `resourceVersion` as the real one does, and can be told to hang.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Lease>,
    writes: u64,
    requests: u64,
    hangs: bool,
    /// Whether the namespace does not exist.
    is_nowhere: bool,
}

impl Server {
    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(
            tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer(request).await) }
            }),
            "default",
        )
    }

    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        if self.0.lock().unwrap().hangs {
            std::future::pending::<()>().await;
        }
        let method = request.method().clone();
        let body = request.into_body().collect_bytes().await.unwrap();
        let mut state = self.0.lock().unwrap();
        state.requests += 1;
        if state.is_nowhere {
            return refuse(StatusCode::NOT_FOUND, "NotFound");
        }
        if method == Method::GET {
            return match &state.lease {
                Some(lease) => reply(StatusCode::OK, &serde_json::to_value(lease).unwrap()),
                None => refuse(StatusCode::NOT_FOUND, "NotFound"),
            };
        }
        let mut lease: Lease = serde_json::from_slice(&body).unwrap();
        let current = state.lease.as_ref().and_then(|l| l.meta().resource_version.clone());
        if lease.metadata.resource_version != current {
            return refuse(StatusCode::CONFLICT, "Conflict");
        }
        state.writes += 1;
        lease.metadata.resource_version = Some(state.writes.to_string());
        state.lease = Some(lease.clone());
        reply(StatusCode::OK, &serde_json::to_value(lease).unwrap())
    }

    fn election(&self, identity: &str) -> Election {
        let timing =
            Timing::new(Duration::from_millis(1000), Duration::from_millis(600), Duration::from_millis(100)).unwrap();
        Election::new(Api::default_namespaced(self.client()), "lease".into(), identity.into(), timing)
    }

    fn holder(&self) -> String {
        self.0.lock().unwrap().lease.as_ref().and_then(holder).unwrap_or_default().to_owned()
    }
}

fn reply(status: StatusCode, body: &serde_json::Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string().into_bytes())).unwrap()
}

fn refuse(status: StatusCode, reason: &str) -> Response<Body> {
    reply(
        status,
        &serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": reason,
            "code": status.as_u16()}),
    )
}

#[tokio::test]
async fn a_holder_renews_and_gives_back_and_the_next_need_not_wait() {
    let server = Server::default();
    let (first, second) = (server.election("first"), server.election("second"));
    let (one, two) = (first.leadership(), second.leadership());
    let (stop_one, stop_two) = (CancellationToken::new(), CancellationToken::new());
    let running_one = tokio::spawn(first.run(stop_one.clone()));
    one.elected().await;
    let running_two = tokio::spawn(second.run(stop_two.clone()));
    sleep(Duration::from_millis(1500)).await;
    assert!(one.may_write() && !two.may_write(), "renewed beyond the first promise");
    assert_eq!(server.holder(), "first");

    stop_one.cancel();
    assert_eq!(running_one.await.unwrap(), Ok(()));
    assert!(!one.may_write());
    timeout(Duration::from_millis(500), two.elected()).await.expect("taken at once");
    assert!(two.may_write());
    stop_two.cancel();
    assert_eq!(running_two.await.unwrap(), Ok(()));
    assert_eq!(server.holder(), "");
}

#[tokio::test]
async fn a_dead_holder_is_replaced_after_its_promise_only() {
    let server = Server::default();
    let first = server.election("first");
    let one = first.leadership();
    let running = tokio::spawn(first.run(CancellationToken::new()));
    one.elected().await;
    running.abort();
    let died = Instant::now();
    let second = server.election("second");
    let two = second.leadership();
    let _running = tokio::spawn(second.run(CancellationToken::new()));
    timeout(Duration::from_secs(5), two.elected()).await.unwrap();
    assert!(died.elapsed() >= Duration::from_millis(900), "{:?}", died.elapsed());
    assert!(!one.may_write());
}

#[tokio::test]
async fn a_server_that_hangs_ends_the_leadership_in_time() {
    let server = Server::default();
    let election = server.election("first");
    let leadership = election.leadership();
    let running = tokio::spawn(election.run(CancellationToken::new()));
    leadership.elected().await;
    server.0.lock().unwrap().hangs = true;
    let lost = timeout(Duration::from_secs(3), running).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(lost, Lost::Deadline { .. }), "{lost}");
    assert!(lost.to_string().contains("600ms"), "{lost}");
    assert!(!leadership.may_write());
}

#[tokio::test]
async fn a_lease_that_somebody_took_ends_the_leadership() {
    let server = Server::default();
    let election = server.election("first");
    let leadership = election.leadership();
    let running = tokio::spawn(election.run(CancellationToken::new()));
    leadership.elected().await;
    {
        let mut state = server.0.lock().unwrap();
        state.writes += 1;
        let version = state.writes.to_string();
        let lease = state.lease.as_mut().unwrap();
        lease.metadata.resource_version = Some(version);
        lease.spec.as_mut().unwrap().holder_identity = Some("thief".into());
    }
    let lost = timeout(Duration::from_secs(3), running).await.unwrap().unwrap().unwrap_err();
    assert_eq!(lost, Lost::Taken { lease: "lease".into(), by: "thief".into() });
    assert!(!leadership.may_write());
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_does_not_exist_is_asked_for_at_each_retry_period_only() {
    let server = Server::default();
    server.0.lock().unwrap().is_nowhere = true;
    let running = server.election("first").run(CancellationToken::new());
    timeout(Duration::from_millis(950), running).await.unwrap_err();
    // a look and a try, ten times in ten periods
    assert_eq!(server.0.lock().unwrap().requests, 20);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_deleted_is_made_anew_after_its_holders_promise_only() {
    let server = Server::default();
    let first = server.election("first");
    let one = first.leadership();
    let running = tokio::spawn(first.run(CancellationToken::new()));
    one.elected().await;
    running.abort(); // silent from here on, and still the leader
    let second = server.election("second");
    let two = second.leadership();
    let _running = tokio::spawn(second.run(CancellationToken::new()));
    sleep(Duration::from_millis(150)).await;
    server.0.lock().unwrap().lease = None;
    sleep(Duration::from_millis(400)).await;
    assert_eq!((one.may_write(), two.may_write()), (true, false));
    timeout(Duration::from_secs(1), two.elected()).await.unwrap();
    assert_eq!((one.may_write(), server.holder().as_str()), (false, "second"));
}

#[test]
fn alone_may_always_write_and_identities_differ() {
    assert!(Leadership::alone().may_write());
    assert_ne!(identity().unwrap(), identity().unwrap());
}
