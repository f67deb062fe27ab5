//! Opens connections: looks a name up, checks each address that it stands for, and connects to the very address it checked,
//! so that a name which changes between check and use ("DNS rebinding") gains nothing.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use super::address::{is_local, is_own};

/// Longest wait for one address; a name can stand for several.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How far a connection may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Not to the operator's own surroundings: for every URL that comes out of a manifest.
    Remote,
    /// Anywhere: for addresses that are our own constants, as a cloud's metadata service, or where the administrator allows it.
    Anywhere,
}

/// Why no connection was tried.
#[derive(Debug, thiserror::Error)]
#[error("the address is the operator's own, or one of its node's surroundings")]
pub(super) struct Refused;

/// Opens connections, straight or through the proxy of the environment.
#[derive(Clone)]
pub struct Dial {
    reach: Reach,
    proxy: Option<Arc<Matcher>>,
}

impl Dial {
    /// Straight connections only.
    pub(super) fn direct(reach: Reach) -> Self {
        Self { reach, proxy: None }
    }

    /// Connections that honour `HTTPS_PROXY` and `NO_PROXY`.
    pub(super) fn of_environment(reach: Reach, env: &BTreeMap<String, String>) -> Self {
        let var = |names: [&str; 2]| names.iter().filter_map(|n| env.get(*n)).find(|v| !v.is_empty()).cloned();
        let proxy = var(["HTTPS_PROXY", "https_proxy"]).map(|https| {
            let no = var(["NO_PROXY", "no_proxy"]).unwrap_or_default();
            Arc::new(Matcher::builder().https(https).no(no).build())
        });
        Self { reach, proxy }
    }

    pub(super) async fn open(&self, uri: &Uri) -> io::Result<TcpStream> {
        let missing = || io::Error::new(io::ErrorKind::InvalidInput, "no host");
        let host = uri.host().ok_or_else(missing)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
        match self.proxy_for(uri, host) {
            None => connect(host, port, self.reach).await,
            // The proxy looks names up by itself, from where it stands. What is spelt out can still be told.
            Some(_) if self.reach == Reach::Remote && host.parse().is_ok_and(is_local) => Err(io::Error::other(Refused)),
            Some(proxy) => through(&proxy, uri).await,
        }
    }

    /// As in Go, this machine is never asked for through a proxy.
    fn proxy_for(&self, uri: &Uri, host: &str) -> Option<Intercept> {
        let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.proxy.as_ref().filter(|_| !is_here)?.intercept(uri)
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.open(&uri).await.map(TokioIo::new) })
    }
}

async fn connect(host: &str, port: u16, reach: Reach) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        if reach == Reach::Remote && is_forbidden(address) {
            failure = io::Error::other(Refused);
            continue;
        }
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => failure = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(failure)
}

fn is_forbidden(address: SocketAddr) -> bool {
    is_local(address.ip()) || is_own(address)
}

/// A tunnel through a proxy, which the administrator chose: it may be anywhere.
async fn through(proxy: &Intercept, uri: &Uri) -> io::Result<TcpStream> {
    if proxy.uri().scheme_str() != Some("http") {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "HTTPS_PROXY must be an http:// address"));
    }
    let mut tunnel = Tunnel::new(proxy.uri().clone(), Dial::direct(Reach::Anywhere));
    if let Some(auth) = proxy.basic_auth() {
        tunnel = tunnel.with_auth(auth.clone());
    }
    tunnel.call(uri.clone()).await.map(TokioIo::into_inner).map_err(io::Error::other)
}
