//! Calls to servers over HTTP: the one client of all providers and generators that speak it.
//!
//! Every call has a deadline and a bound for its answer, follows no redirect, and keeps to addresses that a manifest may name.
//! No error holds a URL, a header or a part of a body.

mod address;
pub mod api_server;
mod call;
mod dial;
pub mod gated;
mod ntlm;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::error::Error;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service as _;

use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;
pub use call::{Answer, Call, query, secret, segment};
use dial::Refused;
pub use dial::{Dial, Reach};
pub use ntlm::Login;
pub use tls::{Identity, TlsOptions};

/// How long a connection without calls is kept.
const IDLE: Duration = Duration::from_secs(30);
/// Longest wait for a connection that is only tried.
const REACH: Duration = Duration::from_secs(15);
/// How many of them, for each server.
const IDLE_PER_HOST: usize = 4;

/// Makes clients. Those that ask for nothing of their own share their connections.
pub struct Outbound {
    env: Arc<BTreeMap<String, String>>,
    reach: Reach,
    shared: OnceLock<HttpClient>,
    ambient: OnceLock<HttpClient>,
}

impl Outbound {
    /// Clients under the operator's environment, of which `HTTPS_PROXY` and `NO_PROXY` are honoured. `allow_local`: URLs of
    /// manifests may lead to the operator's own surroundings.
    #[must_use]
    pub fn new(env: Arc<BTreeMap<String, String>>, allow_local: bool) -> Self {
        let reach = if allow_local { Reach::Anywhere } else { Reach::Remote };
        Self { env, reach, shared: OnceLock::new(), ambient: OnceLock::new() }
    }

    /// A client for URLs that come out of a manifest.
    ///
    /// # Errors
    /// `Misconfigured` where a certificate or key cannot be used. `what` names the object.
    pub fn client(&self, options: &TlsOptions, what: &str) -> Result<HttpClient, ProviderError> {
        let make = || HttpClient::new(Dial::of_environment(self.reach, &self.env), options, what);
        if options.is_plain() { shared(&self.shared, make) } else { make() }
    }

    /// A client that believes whatever certificate a server shows. Only the administrator may ask for one, and no manifest.
    ///
    /// # Errors
    /// `Misconfigured` where there is no TLS at all.
    pub fn unverified(&self, what: &str) -> Result<HttpClient, ProviderError> {
        Ok(HttpClient::over(Dial::of_environment(self.reach, &self.env), tls::unverified(what)?))
    }

    /// A client for the metadata services of the clouds, at addresses that no manifest chooses. It uses no proxy.
    ///
    /// # Errors
    /// `Misconfigured` where there is no TLS at all.
    pub fn ambient(&self) -> Result<HttpClient, ProviderError> {
        let make = || HttpClient::new(Dial::direct(Reach::Anywhere), &TlsOptions::default(), "metadata service");
        shared(&self.ambient, make)
    }

    /// Opens connections to addresses that come out of a manifest, for clients that others made. It uses no proxy.
    #[must_use]
    pub fn dial(&self) -> Dial {
        Dial::direct(self.reach)
    }

    /// The operator's environment, as it was at the start.
    #[must_use]
    pub fn env(&self) -> Arc<BTreeMap<String, String>> {
        self.env.clone()
    }
}

fn shared(
    cell: &OnceLock<HttpClient>,
    make: impl FnOnce() -> Result<HttpClient, ProviderError>,
) -> Result<HttpClient, ProviderError> {
    if let Some(client) = cell.get() {
        return Ok(client.clone());
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made).clone())
}

/// Sends calls.
#[derive(Clone)]
pub struct HttpClient {
    connector: HttpsConnector<Dial>,
    connections: Client<HttpsConnector<Dial>, Full<Bytes>>,
    dial: Dial,
}

impl HttpClient {
    fn new(dial: Dial, options: &TlsOptions, what: &str) -> Result<Self, ProviderError> {
        Ok(Self::over(dial, tls::config(options, what)?))
    }

    fn over(dial: Dial, config: rustls::ClientConfig) -> Self {
        let connector = HttpsConnector::from((dial.clone(), config));
        let connections = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_timer(TokioTimer::new())
            .build(connector.clone());
        Self { connector, connections, dial }
    }

    /// Sends a call and reads the answer, whatever its status. `what` says in errors what was asked for.
    ///
    /// # Errors
    /// `Unavailable` where there is no whole answer in time; `Misconfigured` where the address may not be called or the server's
    /// certificate is not trusted; `Malformed` where the answer is too large.
    pub async fn send(&self, call: Call, what: &str) -> Result<Answer, ProviderError> {
        in_time(call.deadline, what, self.exchange(call, what)).await
    }

    /// Whether the server of a URL takes connections. Nothing is sent.
    ///
    /// # Errors
    /// `Unavailable` where it does not; `Misconfigured` where the URL is none, or the address may not be called.
    pub async fn reach(&self, url: &str, what: &str) -> Result<(), ProviderError> {
        let call = Call::new(http::Method::HEAD, url, what)?;
        match tokio::time::timeout(REACH, self.dial.open(&call.uri)).await {
            Ok(opened) => opened.map(drop).map_err(|error| failure(&error, what)),
            Err(_) => Err(ProviderError::new(ErrorKind::Unavailable, format!("{what}: the server could not be reached"))),
        }
    }

    async fn exchange(&self, call: Call, what: &str) -> Result<Answer, ProviderError> {
        let (request, max_answer) = request(call);
        let answer = self.connections.request(request).await.map_err(|error| failure(&error, what))?;
        read(answer, max_answer, what).await
    }

    /// A connection of its own.
    async fn line(&self, uri: &Uri, what: &str) -> Result<Line, ProviderError> {
        let mut connector = self.connector.clone();
        poll_fn(|cx| connector.poll_ready(cx)).await.map_err(|error| failure(error.as_ref(), what))?;
        let stream = connector.call(uri.clone()).await.map_err(|error| failure(error.as_ref(), what))?;
        let (sender, connection) = http1::handshake(stream).await.map_err(|error| failure(&error, what))?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(Line { sender })
    }
}

/// One connection, for logins that belong to it. It ends when this is dropped.
struct Line {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Line {
    async fn exchange(&mut self, call: Call, what: &str) -> Result<Answer, ProviderError> {
        let (mut request, max_answer) = request(call);
        if let Some(host) = host(request.uri()) {
            request.headers_mut().entry(HOST).or_insert(host);
        }
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map(Uri::from).unwrap_or_default();
        self.sender.ready().await.map_err(|error| failure(&error, what))?;
        let answer = self.sender.send_request(request).await.map_err(|error| failure(&error, what))?;
        read(answer, max_answer, what).await
    }
}

/// A port that the scheme implies is not named, as some servers tell themselves apart by the whole text.
fn host(uri: &Uri) -> Option<HeaderValue> {
    let implied = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    let host = match uri.port_u16().filter(|port| *port != implied) {
        Some(port) => format!("{}:{port}", uri.host()?),
        None => uri.host()?.to_owned(),
    };
    HeaderValue::try_from(host).ok()
}

async fn in_time<T>(
    deadline: Duration,
    what: &str,
    work: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    tokio::time::timeout(deadline, work).await.unwrap_or_else(|_| {
        let text = format!("{what}: the server gave no answer in {} s", deadline.as_secs_f32());
        Err(ProviderError::new(ErrorKind::Unavailable, text))
    })
}

/// A call as a request, and the bound of the answer.
fn request(call: Call) -> (Request<Full<Bytes>>, usize) {
    let mut request = Request::new(Full::new(Bytes::from_owner(Owned(call.body))));
    *request.method_mut() = call.method;
    *request.uri_mut() = call.uri;
    *request.headers_mut() = call.headers;
    (request, call.max_answer)
}

/// Reads an answer, whole.
async fn read(answer: Response<Incoming>, max_answer: usize, what: &str) -> Result<Answer, ProviderError> {
    let (parts, body) = answer.into_parts();
    let body = Limited::new(body, max_answer).collect().await.map_err(|error| {
        let (kind, text) = match find::<LengthLimitError>(error.as_ref()) {
            Some(_) => (ErrorKind::Malformed, "the answer is larger than any that such a server should send"),
            None => (ErrorKind::Unavailable, "the answer broke off"),
        };
        ProviderError::new(kind, format!("{what}: {text}"))
    })?;
    Ok(Answer { status: parts.status, headers: parts.headers, body: SecretBytes::new(body.to_bytes().to_vec()) })
}

/// A body that is zeroed when it was sent.
struct Owned(SecretBytes);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

/// The client's own errors can quote what was sent, so only their class is looked at.
fn failure(error: &(dyn Error + 'static), what: &str) -> ProviderError {
    if let Some(refused) = refused(error, what) {
        return refused;
    }
    let (kind, text) = if let Some(rustls::Error::InvalidCertificate(_)) = find(error) {
        let text =
            "the server's certificate is not trusted, or is for another name: check the URL and the certificate authority";
        (ErrorKind::Misconfigured, text)
    } else if find::<rustls::Error>(error).is_some() {
        (ErrorKind::Unavailable, "the server and we agree on no TLS connection")
    } else {
        (ErrorKind::Unavailable, "the server could not be reached, or broke the connection off")
    };
    ProviderError::new(kind, format!("{what}: {text}"))
}

/// What is said where an address may not be called; `None` where a call failed in another way.
#[must_use]
pub fn refused(error: &(dyn Error + 'static), what: &str) -> Option<ProviderError> {
    find::<Refused>(error)?;
    let text = "the URL leads to the operator's own Pod or node, or to a cloud's metadata service, which is not allowed: give \
                another one, or have the operator started with --allow-local-endpoints";
    Some(ProviderError::new(ErrorKind::Misconfigured, format!("{what}: {text}")))
}

/// The first error of a type among an error and its causes.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An I/O error gives out the cause of what it wraps, not what it wraps.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}
