//! The HTTP endpoints: metrics on one address; health, readiness and the log level on another.

mod address;
pub mod health;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, DefaultBodyLimit, State};
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use address::ListenAddr;
pub use health::Health;

use crate::report::metrics::{Format, Metrics};
use crate::telemetry::{Level, LevelHandle};

/// How long requests that are under way at the stop may take.
const GRACE: Duration = Duration::from_secs(2);

/// A server that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Bind {
        /// The flag that gave the address.
        flag: &'static str,
        /// The address.
        address: ListenAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The server ended.
    #[error("the server of {flag} ended: {source}")]
    Serve {
        /// The flag that gave the address.
        flag: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}

/// A server whose address is bound.
#[derive(Debug)]
pub struct Server {
    flag: &'static str,
    listener: TcpListener,
    router: Router,
}

impl Server {
    /// Binds the address of `flag`; `None` when it is off.
    ///
    /// # Errors
    /// When the address cannot be bound; the text names the flag.
    pub async fn bind(flag: &'static str, address: &ListenAddr, router: Router) -> Result<Option<Self>, ServerError> {
        match address.listen().await {
            Ok(None) => Ok(None),
            Ok(Some(listener)) => Ok(Some(Self { flag, listener, router })),
            Err(source) => Err(ServerError::Bind { flag, address: address.clone(), source }),
        }
    }

    /// The address that is bound.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`, and then what is under way, for two seconds at most.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ServerError> {
        let flag = self.flag;
        let service = self.router.into_make_service_with_connect_info::<SocketAddr>();
        let serving = axum::serve(self.listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
        let cut_off = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = serving => ended.map_err(|source| ServerError::Serve { flag, source }),
            () = cut_off => Ok(()),
        }
    }
}

/// `/metrics`.
pub fn metrics_router(metrics: Arc<Metrics>) -> Router {
    Router::new().route("/metrics", get(scrape)).with_state(metrics)
}

/// `/healthz`, `/readyz` and `/log-level`.
pub fn live_router(health: Health, level: LevelHandle) -> Router {
    let probes = Router::new()
        .route("/healthz", get(async |State(health): State<Health>| probe(health.live())))
        .route("/readyz", get(async |State(health): State<Health>| probe(health.ready())))
        .with_state(health);
    let level =
        Router::new().route("/log-level", get(get_level).put(put_level)).layer(DefaultBodyLimit::max(64)).with_state(level);
    probes.merge(level)
}

async fn scrape(State(metrics): State<Arc<Metrics>>, asked: HeaderMap) -> impl IntoResponse {
    let accept: Vec<&str> = asked.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::of(&accept.join(","));
    match metrics.encode() {
        Ok(text) => (StatusCode::OK, [(header::CONTENT_TYPE, format.content_type())], format.of_open_metrics(text)),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, [(header::CONTENT_TYPE, "text/plain")], "cannot encode\n".into()),
    }
}

fn probe(report: health::Report) -> (StatusCode, String) {
    (if report.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report.text)
}

async fn get_level(State(level): State<LevelHandle>) -> String {
    format!("{}\n", level.get())
}

/// Changes the level. The probes' port is open to the cluster, so a change is taken from inside the pod only; `kubectl
/// port-forward` arrives from there too, and needs the right to it.
async fn put_level(
    State(level): State<LevelHandle>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: Bytes,
) -> (StatusCode, String) {
    if !peer.ip().to_canonical().is_loopback() {
        return (
            StatusCode::FORBIDDEN,
            "the level can be changed from the pod itself only: use kubectl port-forward\n".into(),
        );
    }
    let wanted =
        str::from_utf8(&body).map_err(|_| "give a level as text".to_owned()).and_then(|t| t.trim().parse::<Level>());
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(help) => return (StatusCode::BAD_REQUEST, format!("{help}\n")),
    };
    match level.set(wanted) {
        Ok(()) => {
            tracing::info!(log_level = %wanted, "log level changed");
            (StatusCode::OK, format!("{wanted}\n"))
        }
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the process is stopping\n".into()),
    }
}

#[cfg(test)]
mod tests;
