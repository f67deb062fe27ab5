//! A server on loopback that answers as it is told, and says afterwards what it was asked. With or without TLS.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::serve::Listener;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls::Pki;

/// What the server was asked.
#[derive(Clone, Debug)]
pub struct Received {
    /// Method, path and query: `GET /a/b?c=d`.
    pub line: String,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
    /// The body, as it came.
    pub bytes: Vec<u8>,
}

impl Received {
    /// The method.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap()
    }

    /// The path, without the query and with its escapes.
    pub fn path(&self) -> &str {
        self.target().split('?').next().unwrap()
    }

    /// The steps of the path, without their escapes.
    pub fn steps(&self) -> Vec<String> {
        let steps = self.path().trim_start_matches('/').split('/');
        steps.map(|step| percent_encoding::percent_decode_str(step).decode_utf8_lossy().into_owned()).collect()
    }

    /// A parameter of the query.
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target().split_once('?')?;
        url::form_urlencoded::parse(query.as_bytes()).find(|(k, _)| k == name).map(|(_, v)| v.into_owned())
    }

    fn target(&self) -> &str {
        self.line.split_once(' ').unwrap().1
    }

    /// A header; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// User and password of a basic login.
    pub fn basic(&self) -> Option<(String, String)> {
        let text = STANDARD.decode(self.header("authorization").strip_prefix("Basic ")?).ok()?;
        let (user, password) = std::str::from_utf8(&text).ok()?.split_once(':')?;
        Some((user.to_owned(), password.to_owned()))
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
    body: Vec<u8>,
    delay: Duration,
}

impl Reply {
    /// JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, &body.to_string()).with("content-type", "application/json")
    }

    /// Text.
    pub fn text(status: u16, body: &str) -> Self {
        Self::bytes(status, body.as_bytes().to_vec())
    }

    /// Bytes.
    pub fn bytes(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body, delay: Duration::ZERO }
    }

    /// With a header.
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

/// The server. It ends when it is dropped.
pub struct FakeServer {
    /// Where it listens: `http://127.0.0.1:PORT`.
    pub url: String,
    /// The same, as an address.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    task: JoinHandle<()>,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
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
        let (received, task) = serve(listener, answer);
        Self { url: format!("http://{address}"), address, received, task }
    }

    /// A server with TLS, under a certificate of an authority for tests; with `clients`, only for those of that authority.
    pub async fn start_tls(pki: &Pki, clients: bool, answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TlsListener { inner: listener, acceptor: TlsAcceptor::from(Arc::new(pki.server(clients))) };
        let (received, task) = serve(listener, answer);
        Self { url: format!("https://{address}"), address, received, task }
    }

    /// What was asked, in order.
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
) -> (Arc<Mutex<Vec<Received>>>, JoinHandle<()>) {
    let shared = Shared { answer: Arc::new(answer), received: Arc::default() };
    let received = shared.received.clone();
    let app = axum::Router::new().fallback(respond).with_state(shared);
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (received, task)
}

async fn respond(State(shared): State<Shared>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 4 << 20).await.unwrap();
    let line = format!("{} {}", parts.method, parts.uri.path_and_query().unwrap());
    let received =
        Received { line, headers: parts.headers, body: String::from_utf8_lossy(&body).into_owned(), bytes: body.to_vec() };
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
