//! Calls to servers over HTTP: the one client of all providers and generators that speak it.
//!
//! Every call has a deadline and a bound for its answer, follows no redirect, and keeps to addresses that a manifest may name.
//! No error holds a URL, a header or a part of a body.

mod address;
mod call;
mod dial;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;
pub use call::{Answer, Call, query, secret, segment};
pub use dial::Reach;
use dial::{Dial, Refused};
pub use tls::{Identity, TlsOptions};

/// How long a connection without calls is kept.
const IDLE: Duration = Duration::from_secs(30);
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
    connections: Client<HttpsConnector<Dial>, Full<Bytes>>,
}

impl HttpClient {
    fn new(dial: Dial, options: &TlsOptions, what: &str) -> Result<Self, ProviderError> {
        Ok(Self::over(dial, tls::config(options, what)?))
    }

    fn over(dial: Dial, config: rustls::ClientConfig) -> Self {
        let connector = HttpsConnector::from((dial, config));
        let connections = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { connections }
    }

    /// Sends a call and reads the answer, whatever its status. `what` says in errors what was asked for.
    ///
    /// # Errors
    /// `Unavailable` where there is no whole answer in time; `Misconfigured` where the address may not be called or the server's
    /// certificate is not trusted; `Malformed` where the answer is too large.
    pub async fn send(&self, call: Call, what: &str) -> Result<Answer, ProviderError> {
        let deadline = call.deadline;
        tokio::time::timeout(deadline, self.exchange(call, what)).await.unwrap_or_else(|_| {
            let text = format!("{what}: the server gave no answer in {} s", deadline.as_secs_f32());
            Err(ProviderError::new(ErrorKind::Unavailable, text))
        })
    }

    async fn exchange(&self, call: Call, what: &str) -> Result<Answer, ProviderError> {
        let max_answer = call.max_answer;
        let mut request = Request::new(Full::new(Bytes::from_owner(Owned(call.body))));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.uri;
        *request.headers_mut() = call.headers;
        let answer = self.connections.request(request).await.map_err(|error| failure(&error, what))?;
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
    let (kind, text) = if find::<Refused>(error).is_some() {
        let text = "the URL leads to the operator's own Pod or node, or to a cloud's metadata service, which is not allowed: give \
                    another one, or have the operator started with --allow-local-endpoints";
        (ErrorKind::Misconfigured, text)
    } else if let Some(rustls::Error::InvalidCertificate(_)) = find(error) {
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
