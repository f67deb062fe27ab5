//! Clients of API servers, as kube makes them by itself but for the connections: kube leaves Nagle's algorithm on, and the first
//! request over a TLS session that was resumed then waits for the server's delayed acknowledgement of the handshake, 40 ms.

use std::error::Error;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use tower::retry::RetryLayer;
use tower::{BoxError, Service, ServiceBuilder};

/// What sends a request and gives its answer.
pub trait Exchange:
    Service<Request<Body>, Response = Response<Incoming>, Error = BoxError, Future: Send> + Clone + Send
{
}

impl<S> Exchange for S where
    S: Service<Request<Body>, Response = Response<Incoming>, Error = BoxError, Future: Send> + Clone + Send
{
}

/// A client of a server that the operator's administrator named.
///
/// # Errors
/// Where a proxy is asked for, or a certificate or login cannot be used.
pub fn client(config: kube::Config) -> kube::Result<ClientBuilder<impl Exchange + 'static>> {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    client_over(config, connector)
}

/// The same, over connections that `connector` makes.
///
/// # Errors
/// As [`client`].
pub fn client_over<C>(config: kube::Config, connector: C) -> kube::Result<ClientBuilder<impl Exchange + 'static>>
where
    C: Service<Uri, Response: Connection + Read + Write + Send + Unpin + 'static, Future: Send + 'static>,
    C: Clone + Send + Sync + 'static,
    C::Error: Error + Send + Sync + 'static,
{
    if let Some(proxy_url) = config.proxy_url {
        return Err(kube::Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy_url) });
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(connector)?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.default_retry.then(|| RetryLayer::new(RetryPolicy::server_retry())))
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(Client::builder(TokioExecutor::new()).build(connector));
    Ok(ClientBuilder::new(service, config.default_namespace))
}
