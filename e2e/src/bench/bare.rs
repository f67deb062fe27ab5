//! The bare client: HTTP/2, one connection, [`IN_FLIGHT`] requests under way, nothing parsed. It makes the objects of the benchmark,
//! and it is the floor: nothing that writes the same objects through the same API server can be much faster.

use std::path::Path;

use anyhow::{Context, Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Config;
use kube::client::ConfigExt;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Requests under way at a time.
pub const IN_FLIGHT: usize = 32;

/// What a body is.
#[derive(Clone, Copy)]
pub enum Body {
    /// An object to create.
    Object,
    /// A JSON merge patch.
    MergePatch,
}

/// The client.
pub struct Bare {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    server: String,
}

impl Bare {
    /// A client that speaks for the user of a kubeconfig, who has a certificate.
    ///
    /// # Errors
    /// When the file cannot be read or used.
    pub async fn new(kubeconfig: &Path) -> Result<Self> {
        let file = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let tls = config.rustls_client_config()?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        // Without it, the kernel holds a small request back until the last one is acknowledged: 40 ms.
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http2().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Ok(Self { client, server: config.cluster_url.to_string().trim_end_matches('/').to_owned() })
    }

    /// Creates an object (POST to a collection) or patches one.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn write(&self, path: &str, kind: Body, body: Vec<u8>) -> Result<()> {
        let (method, content_type) = match kind {
            Body::Object => (Method::POST, "application/json"),
            Body::MergePatch => (Method::PATCH, "application/merge-patch+json"),
        };
        self.send(method, path, content_type, body).await
    }

    /// Deletes all objects of a collection.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn delete_all(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, "application/json", Vec::new()).await
    }

    async fn send(&self, method: Method, path: &str, content_type: &str, body: Vec<u8>) -> Result<()> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.server));
        let request = request.header("content-type", content_type).body(Full::from(body))?;
        let response = self.client.request(request).await.with_context(|| path.to_owned())?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{path}: {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }
}

/// Does something with each item, [`IN_FLIGHT`] at a time; ends at the first failure.
///
/// # Errors
/// The first failure.
pub async fn each<T>(items: impl IntoIterator<Item = T>, act: impl AsyncFn(T) -> Result<()>) -> Result<()> {
    let act = &act;
    stream::iter(items).map(Ok).try_for_each_concurrent(IN_FLIGHT, |item| act(item)).await
}
