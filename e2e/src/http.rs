//! A plain HTTP client for servers on loopback.

use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// Longer than any server here takes, short enough to see that one hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends `request` and reads the whole answer.
///
/// # Errors
/// When there is no answer within 30 seconds.
pub async fn send(request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes)> {
    static CLIENT: OnceLock<Client<HttpConnector, Full<Bytes>>> = OnceLock::new();
    // No connections are kept: they would belong to the runtime of the test that opened them.
    let client = CLIENT.get_or_init(|| Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http());
    let url = request.uri().clone();
    let exchange = async {
        let response = client.request(request).await?;
        let status = response.status();
        anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
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
