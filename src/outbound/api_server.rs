//! Clients of API servers, as kube makes them by itself but for the connections: kube leaves Nagle's algorithm on, and the first
//! request over a TLS session that was resumed then waits for the server's delayed acknowledgement of the handshake, 40 ms.
//! It also waits for an answer for ever, and takes the environment's proxy for one that a kubeconfig names.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioExecutor;
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder, ConfigExt as _};
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use tower::retry::RetryLayer;
use tower::{BoxError, Service, ServiceBuilder};

use super::gated::{GatedConnector, MaySend};

/// How long an answer that is due may bring nothing. A watch that has nothing to tell is ended by the API server earlier, after
/// the 290 s that kube asks for.
pub const SILENCE: Duration = Duration::from_secs(295);
/// How long a connection is idle before its other end is asked whether it lives, how long it has for its answer, and how often it is
/// asked again. It is over a minute after the other end went without a word.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(10);
const KEEPALIVE_TRIES: u32 = 3;

/// How often a request is sent again within itself that the API server has no time for, and the first and the longest pause before that
/// (as long again by chance): a second or two in all. kube's own policy takes minutes, of which those who wait for longer by their own
/// rules, as watches do, would know nothing. `Retry-After` counts where it is sent.
const RETRIES: u32 = 5;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);

/// The cluster to work with: that of `KUBECONFIG`, or of the pod. The way to an API server is a direct one.
///
/// # Errors
/// There is none.
pub async fn infer() -> Result<kube::Config, InferConfigError> {
    let mut config = kube::Config::infer().await?;
    if config.proxy_url.is_some() && !Kubeconfig::read().is_ok_and(|file| names_proxy(&file)) {
        config.proxy_url = None;
    }
    Ok(config)
}

/// The cluster of a kubeconfig's current context.
///
/// # Errors
/// It has none, or something in it cannot be read.
pub async fn of_kubeconfig(file: Kubeconfig) -> Result<kube::Config, KubeconfigError> {
    let has_proxy = names_proxy(&file);
    let mut config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    if !has_proxy {
        config.proxy_url = None;
    }
    Ok(config)
}

/// Whether the cluster itself asks for a proxy. kube falls back to `HTTPS_PROXY`, without a look at `NO_PROXY`.
fn names_proxy(file: &Kubeconfig) -> bool {
    let context = file.contexts.iter().find(|context| Some(&context.name) == file.current_context.as_ref());
    let name = context.and_then(|context| context.context.as_ref()).map(|context| &context.cluster);
    let cluster = file.clusters.iter().find(|cluster| Some(&cluster.name) == name);
    let proxy = cluster.and_then(|cluster| cluster.cluster.as_ref()).and_then(|cluster| cluster.proxy_url.as_deref());
    proxy.is_some_and(|url| !url.is_empty())
}

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
    client_over(config, connector())
}

/// The same, which sends nothing any more once `may_send` says so.
///
/// # Errors
/// As [`client`].
pub fn client_while(config: kube::Config, may_send: MaySend) -> kube::Result<ClientBuilder<impl Exchange + 'static>> {
    client_over(config, GatedConnector::new(connector(), may_send))
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_ANSWER));
    connector.set_keepalive_retries(Some(KEEPALIVE_TRIES));
    connector
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
    connector.set_read_timeout(Some(config.read_timeout.unwrap_or(SILENCE)));
    // else the time for which the connection was idle would count, too
    connector.set_reset_reader_on_write(true);
    connector.set_write_timeout(config.write_timeout);
    let retries = config.default_retry.then(|| RetryPolicy::new(RETRY_FIRST, RETRY_MOST, RETRIES, true).ok()).flatten();
    let retries = retries.map(RetryLayer::new);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(retries)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::sync::oneshot;

    use super::*;

    async fn asked(config: kube::Config) -> Option<String> {
        let client = client(config).unwrap().build();
        why(&client.apiserver_version().await.unwrap_err())
    }

    #[tokio::test]
    async fn says_why_there_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plain = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"no TLS here").await.unwrap();
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let told = asked(kube::Config::new(format!("https://{address}").parse().unwrap())).await.unwrap();
        assert!(told.starts_with("TLS: "), "{told}");
        plain.await.unwrap();
        let refused = asked(kube::Config::new(format!("http://{address}").parse().unwrap())).await;
        assert_eq!(refused.as_deref(), Some("connection refused"));
    }

    /// The clock stands still only while nothing is on the wire.
    async fn pass(seconds: u64) {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_given_up_and_a_quiet_watch_is_not() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = kube::Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        let ((over, ends), (hears, heard)) = (oneshot::channel(), oneshot::channel());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            ends.await.unwrap();
            stream.write_all(b"2\r\n{}\r\n0\r\n\r\n").await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            hears.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        let client = client(config).unwrap().build();
        let watch = client.send(Request::get("/x").body(Body::empty()).unwrap()).await.unwrap();
        pass(290).await;
        over.send(()).unwrap();
        assert_eq!(watch.into_body().collect_bytes().await.unwrap(), "{}");
        // over the same connection: that it was idle does not count
        pass(80).await;
        let mut asks = tokio::spawn(async move { client.send(Request::get("/x").body(Body::empty()).unwrap()).await });
        tokio::time::timeout(Duration::from_secs(9), heard).await.unwrap().unwrap();
        pass(SILENCE.as_secs() - 10).await;
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut asks).await.is_err(), "it was given up too early");
        pass(10).await;
        let error = tokio::time::timeout(Duration::from_secs(9), asks).await.unwrap().unwrap().unwrap_err();
        assert_eq!(why(&error).as_deref(), Some("timed out"));
    }

    /// As the kernel tells it: which of a socket's timers runs, and for how many hundredths of a second.
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_other_end_of_an_idle_connection_is_asked_whether_it_lives() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let uri: Uri = format!("http://{address}").parse().unwrap();
        let _stream = tower::ServiceExt::oneshot(connector(), uri).await.unwrap();
        let (_held, from) = listener.accept().await.unwrap();
        let ends = [from.port(), address.port()].map(|port| format!(":{port:04X}"));
        let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let mut sockets = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let socket = sockets.find(|fields| fields[1].ends_with(&ends[0]) && fields[2].ends_with(&ends[1])).unwrap();
        let (timer, left) = socket[5].split_once(':').unwrap();
        let left = u64::from_str_radix(left, 16).unwrap();
        assert!(timer == "02" && (2000..=3000).contains(&left), "{timer} {left}");
    }

    fn kubeconfig(ours: &str, other: &str) -> Kubeconfig {
        Kubeconfig::from_yaml(&format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: other\n  cluster: {{server: 'https://y', {other}}}\n- name: ours\n  \
             cluster: {{server: 'https://x', {ours}}}\ncontexts:\n- name: other\n  context: {{cluster: other, user: u}}\n- name: k\n  \
             context: {{cluster: ours, user: u}}\ncurrent-context: k\n"
        ))
        .unwrap()
    }

    #[tokio::test]
    async fn a_proxy_is_asked_for_by_the_cluster_of_the_current_context_alone() {
        let proxy = "proxy-url: 'http://127.0.0.1:2'";
        for (ours, other, expected) in
            [("", "", None), ("", proxy, None), ("proxy-url: ''", proxy, None), (proxy, "", Some("http://127.0.0.1:2/"))]
        {
            let file = kubeconfig(ours, other);
            assert_eq!(names_proxy(&file), expected.is_some(), "{ours} {other}");
            let config = of_kubeconfig(file).await.unwrap();
            assert_eq!(config.proxy_url.map(|url| url.to_string()).as_deref(), expected, "{ours} {other}");
        }
    }

    #[test]
    fn a_proxy_is_refused() {
        let mut config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        config.proxy_url = Some("http://127.0.0.1:2".parse().unwrap());
        assert!(matches!(client(config).err(), Some(kube::Error::ProxyProtocolUnsupported { .. })));
    }
}
