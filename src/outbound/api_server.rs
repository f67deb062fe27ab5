//! Clients of API servers, as kube makes them by itself but for the connections: kube leaves Nagle's algorithm on, and the first
//! request over a TLS session that was resumed then waits for the server's delayed acknowledgement of the handshake, 40 ms.

use std::error::Error;
use std::io;

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

/// Why a server gave no answer, as far as that can be told: what the system says of the connection, or what is wrong with its TLS.
#[must_use]
pub fn why(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(format!("TLS: {tls}"));
        }
        next = match error.downcast_ref::<io::Error>() {
            // its source is that of what it holds
            Some(io) => match io.get_ref() {
                Some(inner) => Some(inner),
                None => return Some(io.kind().to_string()),
            },
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn asked(config: kube::Config) -> Option<String> {
        let client = client(config).unwrap().build();
        why(&client.apiserver_version().await.unwrap_err())
    }

    #[tokio::test]
    async fn says_why_there_is_no_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plain = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, b"no TLS here").await.unwrap();
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let told = asked(kube::Config::new(format!("https://{address}").parse().unwrap())).await.unwrap();
        assert!(told.starts_with("TLS: "), "{told}");
        plain.await.unwrap();
        let refused = asked(kube::Config::new(format!("http://{address}").parse().unwrap())).await;
        assert_eq!(refused.as_deref(), Some("connection refused"));
    }

    #[test]
    fn a_proxy_is_refused() {
        let mut config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        config.proxy_url = Some("http://127.0.0.1:2".parse().unwrap());
        assert!(matches!(client(config).err(), Some(kube::Error::ProxyProtocolUnsupported { .. })));
    }
}
