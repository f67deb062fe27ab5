//! Plain HTTP on loopback: a client, and a server for what tests stand in for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::certs::Pair;

/// Longer than any server here takes, short enough to see that one hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends `request` and reads the whole answer.
///
/// # Errors
/// When there is no answer within 30 seconds.
pub async fn send(request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    let response = exchange(request).await?;
    Ok((response.status(), response.into_body()))
}

/// As [`send`], with the answer's headers.
///
/// # Errors
/// When there is no answer within 30 seconds.
pub async fn exchange(request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
    static CLIENT: OnceLock<Client<HttpConnector, Full<Bytes>>> = OnceLock::new();
    // No connections are kept: they would belong to the runtime of the test that opened them.
    let client = CLIENT.get_or_init(|| Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http());
    let url = request.uri().clone();
    let exchange = async {
        let (parts, body) = client.request(request).await?.into_parts();
        anyhow::Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    };
    tokio::time::timeout(LIMIT, exchange)
        .await
        .with_context(|| format!("no answer from {url} within {LIMIT:?}"))?
        .context(url)
}

/// GET `url`.
///
/// # Errors
/// When there is no answer.
pub async fn get(url: &str) -> Result<(StatusCode, Bytes)> {
    send(Request::get(url).body(Full::default())?).await
}

/// Whether GET `url` answers 200.
pub async fn is_ok(url: &str) -> bool {
    matches!(get(url).await, Ok((StatusCode::OK, _)))
}

/// A server on a free port; it and its connections end when it is dropped.
pub struct Server {
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Starts it, with TLS if there is a certificate; `answer` answers each request. Where that fails, the connection is cut.
    ///
    /// # Errors
    /// When no port can be had, or the certificate cannot be used.
    pub async fn start<F, B>(
        certificate: Option<&Pair>,
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Response<B>>> + Send + 'static,
        B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
    {
        let tls = certificate.map(acceptor).transpose()?;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no free port")?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}", listener.local_addr()?);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                connections.spawn(serve(stream, tls.clone(), answer.clone()));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { url, task })
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// Serves one connection. A caller that breaks it off is its own affair.
async fn serve<F, B>(stream: TcpStream, tls: Option<TlsAcceptor>, answer: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Result<Response<B>>>,
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + 'static,
{
    let service = service_fn(answer);
    match tls {
        None => drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await),
        Some(tls) => {
            let Ok(stream) = tls.accept(stream).await else { return };
            drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        }
    }
}

fn acceptor(pair: &Pair) -> Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_slice(pair.cert.as_bytes())?;
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
