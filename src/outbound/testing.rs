//! A server on loopback that answers as it is told, and says afterwards what it was asked. With or without TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::Listener;
use http::{HeaderMap, StatusCode};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::{Outbound, TlsOptions};

/// What the server was asked.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method, path and query: `GET /a/b?c=d`.
    pub line: String,
    pub headers: HeaderMap,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A field of a form.
    pub fn form(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.body.as_bytes()).find(|(k, _)| k == name).map(|(_, v)| v.into_owned())
    }
}

/// What the server says.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    delay: Duration,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string())
    }

    pub fn text(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), delay: Duration::ZERO }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Nothing, for longer than anybody waits.
    pub fn never() -> Self {
        Self { delay: Duration::from_secs(600), ..Self::text(200, "") }
    }
}

type Answer = dyn Fn(&Received) -> Reply + Send + Sync;

/// The server.
pub struct FakeServer {
    pub url: String,
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

#[derive(Clone)]
struct Shared {
    answer: Arc<Answer>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl FakeServer {
    /// A server without TLS.
    pub async fn start(answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { url: format!("http://{address}"), address, received: serve(listener, answer) }
    }

    /// A server with TLS, under a certificate of an authority for tests; with `clients`, only for those of that authority.
    pub async fn start_tls(pki: &Pki, clients: bool, answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TlsListener { inner: listener, acceptor: TlsAcceptor::from(Arc::new(pki.server(clients))) };
        Self { url: format!("https://{address}"), address, received: serve(listener, answer) }
    }

    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// The lines that were asked for, in order.
    pub fn lines(&self) -> Vec<String> {
        self.received().into_iter().map(|r| r.line).collect()
    }
}

fn serve<L: Listener<Addr: std::fmt::Debug>>(
    listener: L,
    answer: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> Arc<Mutex<Vec<Received>>> {
    let shared = Shared { answer: Arc::new(answer), received: Arc::default() };
    let received = shared.received.clone();
    let app = axum::Router::new().fallback(respond).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, app).await });
    received
}

async fn respond(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let line = format!("{} {}", parts.method, parts.uri.path_and_query().unwrap());
    let received = Received { line, headers: parts.headers, body: String::from_utf8(body.to_vec()).unwrap() };
    let reply = (shared.answer)(&received);
    shared.received.lock().unwrap().push(received);
    tokio::time::sleep(reply.delay).await;
    let response = Response::builder().status(StatusCode::from_u16(reply.status).unwrap());
    let response = reply.headers.iter().fold(response, |response, (name, value)| response.header(*name, value));
    response.body(Body::from(reply.body)).unwrap()
}

struct TlsListener {
    inner: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let (stream, address) = self.inner.accept().await.unwrap();
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.inner.local_addr()
    }
}

/// A certificate authority for tests.
pub struct Pki {
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    certificate: rcgen::Certificate,
}

impl Default for Pki {
    fn default() -> Self {
        Self::new()
    }
}

impl Pki {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: rcgen::Issuer::new(params, key), certificate }
    }

    /// The authority's own certificate, as PEM.
    pub fn ca(&self) -> Vec<u8> {
        self.certificate.pem().into_bytes()
    }

    /// A certificate and its key, as PEM.
    pub fn issue(&self, name: &str) -> (String, String) {
        let (certificate, key) = self.sign(name);
        (certificate.pem(), key.serialize_pem())
    }

    fn sign(&self, name: &str) -> (rcgen::Certificate, rcgen::KeyPair) {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn server(&self, clients: bool) -> ServerConfig {
        let (certificate, key) = self.sign("127.0.0.1");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        let builder = match clients {
            true => builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap(),
            ),
            false => builder.with_no_client_auth(),
        };
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }
}

/// Clients that may call loopback.
pub fn outbound() -> Arc<Outbound> {
    outbound_with(&[])
}

/// Clients that may call loopback, under an environment.
pub fn outbound_with(env: &[(&str, &str)]) -> Arc<Outbound> {
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Arc::new(Outbound::new(Arc::new(env), true))
}

/// Clients that may call loopback and trust an authority where nothing else is said, as if it were the system's.
pub fn outbound_trusting(pki: &Pki, env: &[(&str, &str)]) -> Arc<Outbound> {
    let outbound = outbound_with(env);
    let options = TlsOptions { ca: Some(pki.ca()), identity: None };
    assert!(outbound.shared.set(outbound.client(&options, "test").ok().unwrap()).is_ok());
    outbound
}
