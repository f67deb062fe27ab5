#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::cli::{LogFormat, LogSettings};
use crate::report::metrics::CacheResult;
use crate::telemetry::{self, TimeEncoding};

/// One request over a real socket; gives the status, the head and the body.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String, String) {
    ask_with(address, method, path, "", body).await
}

/// As [`ask`], with more lines in the request's head, each ended.
async fn ask_with(address: SocketAddr, method: &str, path: &str, head: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
}

async fn start(router: Router) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<Result<(), ServerError>>) {
    let server = Server::bind("--live-addr", &ListenAddr::Port(0), router).await.unwrap().unwrap();
    let address = server.local_addr().unwrap();
    let stop = CancellationToken::new();
    (address, stop.clone(), tokio::spawn(server.serve(stop)))
}

#[tokio::test]
async fn probes_follow_the_health() {
    let health = Health::default();
    let (level, _subscriber) = level();
    let (address, stop, running) = start(live_router(health.clone(), level)).await;
    assert_eq!(ask(address, "GET", "/healthz", "").await.0, 200);
    health.watch_expected("ExternalSecret", None);
    let (code, _, text) = ask(address, "GET", "/readyz", "").await;
    assert_eq!(code, 503);
    assert!(text.contains("ExternalSecret"), "{text}");
    health.watch_synced("ExternalSecret");
    assert_eq!(ask(address, "GET", "/readyz", "").await.0, 200);
    assert_eq!(ask(address, "GET", "/metrics", "").await.0, 404);
    stop.cancel();
    running.await.unwrap().unwrap();
}

fn level() -> (LevelHandle, impl tracing::Subscriber) {
    let settings = LogSettings { format: LogFormat::Json, level: Level::Info, time: TimeEncoding::Rfc3339 };
    let (subscriber, level) = telemetry::subscriber(settings, std::io::sink);
    (level, subscriber)
}

#[tokio::test]
async fn the_log_level_is_read_and_changed() {
    let (level, _subscriber) = level();
    let (address, ..) = start(live_router(Health::default(), level.clone())).await;
    assert_eq!(ask(address, "GET", "/log-level", "").await.2, "info\n");
    assert_eq!(ask(address, "PUT", "/log-level", "debug\n").await.0, 200);
    assert_eq!(level.get(), Level::Debug);
    let (code, _, text) = ask(address, "PUT", "/log-level", "loud").await;
    assert_eq!(code, 400);
    assert!(text.contains("trace, debug"), "{text}");
    assert_eq!(ask(address, "PUT", "/log-level", &"x".repeat(65)).await.0, 413);
    assert_eq!(level.get(), Level::Debug);
}

#[tokio::test]
async fn the_log_level_is_not_changed_from_outside() {
    let (level, _subscriber) = level();
    for (peer, code) in [("10.1.2.3:5", 403), ("[::ffff:10.1.2.3]:5", 403), ("[::1]:5", 200), ("[::ffff:127.0.0.1]:5", 200)]
    {
        let peer = ConnectInfo(peer.parse::<SocketAddr>().unwrap());
        let (status, _) = put_level(State(level.clone()), peer, Bytes::from_static(b"warn")).await;
        assert_eq!(status.as_u16(), code, "{peer:?}");
    }
}

#[tokio::test]
async fn metrics_are_scraped_in_the_format_that_is_asked_for() {
    let metrics = Arc::new(Metrics::default());
    metrics.cache_request(CacheResult::Hit);
    let (address, ..) = start(metrics_router(metrics)).await;
    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5\r\nAccept: text/plain;version=0.0.4;q=0.4\r\n";
    let (code, head, text) = ask_with(address, "GET", "/metrics", accept, "").await;
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
    assert!(text.contains("# TYPE keyferry_cache_requests counter\n") && text.ends_with("# EOF\n"), "{text}");
    let (code, head, text) = ask(address, "GET", "/metrics", "").await;
    assert_eq!(code, 200);
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(text.contains("# TYPE keyferry_cache_requests_total counter\nkeyferry_cache_requests_total{"), "{text}");
    assert!(text.contains("# TYPE keyferry_build_info gauge\n") && !text.contains("# EOF"), "{text}");
}

#[tokio::test]
async fn an_address_that_is_taken_names_the_flag() {
    let taken = Server::bind("--live-addr", &ListenAddr::Port(0), Router::new()).await.unwrap().unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Server::bind("--metrics-addr", &ListenAddr::Port(port), Router::new()).await.unwrap_err().to_string();
    assert!(error.contains("--metrics-addr") && error.contains(&port.to_string()), "{error}");
    assert!(Server::bind("--metrics-addr", &ListenAddr::Off, Router::new()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_client_that_hangs_does_not_hold_up_the_stop() {
    let (address, stop, running) = start(metrics_router(Arc::new(Metrics::default()))).await;
    let mut hanging = TcpStream::connect(("127.0.0.1", address.port())).await.unwrap();
    hanging.write_all(b"GET /metrics HTTP/1.1\r\nHost").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.cancel();
    tokio::time::timeout(GRACE * 2, running).await.unwrap().unwrap().unwrap();
}
