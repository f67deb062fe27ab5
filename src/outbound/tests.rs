//! The client against servers on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::Instant;

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::testing::{FakeServer, Pki, Reply, outbound, outbound_trusting, outbound_with};
use super::*;

const CANARY: &str = "canary-4711";

/// What the operator does by default.
fn guarded() -> Outbound {
    Outbound::new(Arc::default(), false)
}

async fn get(outbound: &Outbound, url: &str) -> Result<Answer, ProviderError> {
    get_with(outbound, &TlsOptions::default(), url).await
}

async fn get_with(outbound: &Outbound, options: &TlsOptions, url: &str) -> Result<Answer, ProviderError> {
    let call = Call::new(Method::GET, url, "test")?.bearer(&SecretBytes::from(CANARY), "test")?;
    outbound.client(options, "test")?.send(call.within(Duration::from_secs(5)), "test").await
}

async fn refused(outbound: &Outbound, url: &str) -> ProviderError {
    let error = get(outbound, url).await.err().unwrap();
    assert!(!error.detail.contains(CANARY), "{error}");
    error
}

#[tokio::test]
async fn an_answer_is_read_whole() {
    let server = FakeServer::start(|_| Reply::text(201, "{\"a\": 1}").with("x-other", "o")).await;
    let answer = get(&outbound(), &format!("{}/x?y=z", server.url)).await.ok().unwrap();
    assert_eq!((answer.status.as_u16(), answer.headers["x-other"].to_str().unwrap()), (201, "o"));
    assert_eq!(answer.body.expose(), b"{\"a\": 1}");
    let received = &server.received()[0];
    assert_eq!(received.line, "GET /x?y=z");
    assert_eq!(received.header("authorization"), format!("Bearer {CANARY}"));
    assert!(received.header("user-agent").starts_with("keyferry/"));
}

/// GHSA-like: a tenant's URL must not make the operator call itself, its node, or the metadata service that holds the node's
/// credentials; by number, by name, and in other spellings.
#[tokio::test]
async fn the_operators_surroundings_are_not_called() {
    let server = FakeServer::start(|_| Reply::text(200, CANARY)).await;
    let port = server.address.port();
    for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0", "[::ffff:127.0.0.1]"] {
        let error = refused(&guarded(), &format!("http://{host}:{port}/")).await;
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{host}: {error}");
        assert!(error.detail.contains("--allow-local-endpoints"), "{host}: {error}");
    }
    for host in ["169.254.169.254", "[fd00:ec2::254]", "[fe80::1]", "168.63.129.16"] {
        let start = Instant::now();
        let error = refused(&guarded(), &format!("http://{host}/latest/meta-data")).await;
        assert!(error.detail.contains("--allow-local-endpoints"), "{host}: {error}");
        assert!(start.elapsed().as_secs() < 2, "{host}: it was not even tried");
    }
    assert_eq!(server.received().len(), 0);
    assert!(get(&outbound(), &server.url).await.is_ok(), "the flag allows it");
}

#[tokio::test]
async fn the_machines_own_address_is_not_called_either() {
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if probe.connect("192.0.2.1:9").is_err() || probe.local_addr().unwrap().ip().is_loopback() {
        return; // a machine without any network
    }
    let listener = TcpListener::bind((probe.local_addr().unwrap().ip(), 0)).await.unwrap();
    let error = refused(&guarded(), &format!("http://{}/", listener.local_addr().unwrap())).await;
    assert!(error.detail.contains("--allow-local-endpoints"), "{error}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = FakeServer::start(|_| Reply::text(200, "")).await;
    let to = target.url.clone();
    let server = FakeServer::start(move |_| Reply::text(302, "").with("location", &to)).await;
    let error = get(&outbound(), &server.url).await.ok().unwrap().success("test").err().unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(error.detail.contains("redirects"), "{error}");
    assert_eq!(target.received().len(), 0);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let server = FakeServer::start(|_| Reply::never()).await;
    let call = Call::new(Method::GET, &server.url, "test").unwrap().within(Duration::from_millis(200));
    let client = outbound().client(&TlsOptions::default(), "test").ok().unwrap();
    let error = client.send(call, "test").await.err().unwrap();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Unavailable, "test: the server gave no answer in 0.2 s"));
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let server = FakeServer::start(|_| Reply::text(200, &"x".repeat(100_000))).await;
    let call = Call::new(Method::GET, &server.url, "test").unwrap().at_most(99_999);
    let client = outbound().client(&TlsOptions::default(), "test").ok().unwrap();
    assert_eq!(client.send(call, "test").await.err().unwrap().kind, ErrorKind::Malformed);
    let call = Call::new(Method::GET, &server.url, "test").unwrap().at_most(100_000);
    assert!(client.send(call, "test").await.is_ok());
}

#[tokio::test]
async fn what_is_no_server_is_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(refused(&outbound(), &format!("http://{closed}/")).await.kind, ErrorKind::Unavailable);
    assert_eq!(refused(&outbound(), "http://no-such-name.invalid/").await.kind, ErrorKind::Unavailable);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let garbage = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        stream.write_all(CANARY.as_bytes()).await.unwrap();
    });
    assert_eq!(refused(&outbound(), &format!("http://{garbage}/")).await.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn certificates_are_checked() {
    let pki = Pki::new();
    let server = FakeServer::start_tls(&pki, false, |_| Reply::text(200, "")).await;
    let error = refused(&outbound(), &server.url).await;
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(error.detail.contains("not trusted"), "{error}");

    let trusted = TlsOptions { ca: Some(pki.ca()), identity: None };
    assert!(get_with(&outbound(), &trusted, &server.url).await.is_ok());
    assert!(get(&outbound_trusting(&pki, &[]), &server.url).await.is_ok());

    let other_name = format!("https://localhost:{}/", server.address.port());
    let error = get_with(&outbound(), &trusted, &other_name).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "the certificate is for 127.0.0.1: {error}");
}

#[tokio::test]
async fn client_certificates_are_shown() {
    let pki = Pki::new();
    let server = FakeServer::start_tls(&pki, true, |_| Reply::text(200, "")).await;
    let without = TlsOptions { ca: Some(pki.ca()), identity: None };
    assert_eq!(get_with(&outbound(), &without, &server.url).await.err().unwrap().kind, ErrorKind::Unavailable);

    let (certificate, key) = pki.issue("client.example.test");
    let identity = Identity { certificate: certificate.as_str().into(), key: key.as_str().into() };
    let with = TlsOptions { ca: Some(pki.ca()), identity: Some(identity) };
    assert!(get_with(&outbound(), &with, &server.url).await.is_ok());

    let (_, other_key) = pki.issue("other.example.test");
    for (certificate, key) in [("", key.as_str()), (certificate.as_str(), other_key.as_str()), (&certificate, CANARY)] {
        let identity = Identity { certificate: certificate.into(), key: key.into() };
        let bad = TlsOptions { ca: None, identity: Some(identity) };
        let error = get_with(&outbound(), &bad, &server.url).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(!error.detail.contains(CANARY), "{error}");
    }
}

/// A proxy that takes any `CONNECT` and leads to one place.
async fn proxy(to: std::net::SocketAddr) -> (String, Arc<std::sync::Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = client.read(&mut head).await.unwrap();
            log.lock().unwrap().push(String::from_utf8_lossy(&head[..read]).into_owned());
            let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
        }
    });
    (format!("http://user:pass@{address}"), asked)
}

#[tokio::test]
async fn https_goes_through_the_proxy_of_the_environment() {
    let pki = Pki::new();
    let server = FakeServer::start_tls(&pki, false, |_| Reply::text(200, "")).await;
    let (url, asked) = proxy(server.address).await;
    let env = [("HTTPS_PROXY", url.as_str()), ("NO_PROXY", "inside.example.test,10.0.0.0/8")];
    let options = TlsOptions { ca: Some(pki.ca()), identity: None };

    // The name is the proxy's to look up. The certificate is for another one, so the call reached the server and ended there.
    let error = get_with(&outbound_with(&env), &options, "https://far.example.test/").await.err().unwrap();
    assert!(error.detail.contains("another name"), "{error}");
    let head = asked.lock().unwrap()[0].clone();
    assert!(head.starts_with("CONNECT far.example.test:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic dxnlcjpwyxnz"), "{head}");

    // Neither this machine, nor what NO_PROXY names, nor plain HTTP.
    assert!(get_with(&outbound_with(&env), &options, &server.url).await.is_ok());
    assert!(get_with(&outbound_with(&env), &options, "https://inside.example.test/").await.is_err());
    assert!(get(&outbound_with(&env), "http://far.example.test/").await.is_err());
    assert_eq!(asked.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_proxy_is_no_way_around_the_check() {
    let (url, asked) = proxy("127.0.0.1:9".parse().unwrap()).await;
    let env = [("HTTPS_PROXY".to_owned(), url)].into();
    let error = refused(&Outbound::new(Arc::new(env), false), "https://169.254.169.254/").await;
    assert!(error.detail.contains("--allow-local-endpoints"), "{error}");
    assert_eq!(asked.lock().unwrap().len(), 0);
}
