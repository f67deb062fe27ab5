//! The wiring: logging, servers, election, and the end of all of them.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use kube::client::ClientBuilder;
use kube::{Api, Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cli::{ElectionSettings, Settings};
use crate::lease::{Election, Lost, identity};
use crate::report::api_requests::CountRequests;
use crate::report::metrics::Metrics;
use crate::server::{Health, Server, ServerError, live_router, metrics_router};
use crate::telemetry::{self, LevelHandle};

/// Why the process ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Logging cannot start.
    #[error(transparent)]
    Telemetry(#[from] telemetry::InitError),
    /// The system refuses threads, signals or random bytes.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// A server cannot start or go on.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The cluster cannot be found.
    #[error("cannot find the cluster; set KUBECONFIG or run in a pod: {0}")]
    Cluster(#[from] kube::Error),
    /// Another process leads.
    #[error("leadership lost: {0}")]
    Leadership(#[from] Lost),
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or a part of it ends that should not.
pub fn run(settings: Settings) -> Result<(), AppError> {
    let level = telemetry::init(settings.log)?;
    info!(version = env!("CARGO_PKG_VERSION"), "keyferry starts");
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(settings, level))
}

async fn serve(settings: Settings, level: LevelHandle) -> Result<(), AppError> {
    let (health, metrics) = (Health::default(), Arc::new(Metrics::default()));
    let live = Server::bind("--live-addr", &settings.live_addr, live_router(health.clone(), level)).await?;
    let scraped = Server::bind("--metrics-addr", &settings.metrics_addr, metrics_router(metrics.clone())).await?;
    let config = Config::infer().await.map_err(kube::Error::InferConfig)?;
    let client = ClientBuilder::try_from(config)?.with_layer(&CountRequests::new(metrics.clone())).build();

    let stop = CancellationToken::new();
    let mut parts: JoinSet<Result<(), AppError>> = JoinSet::new();
    for server in [live, scraped].into_iter().flatten() {
        let stop = stop.clone();
        parts.spawn(async { Ok(server.serve(stop).await?) });
    }
    match settings.election {
        Some(election) => {
            parts.spawn(stand(election, client, health, metrics, stop.clone()));
        }
        None => metrics.leader(true),
    }
    let ended = tokio::select! {
        signal = terminated() => signal.map_err(AppError::from),
        Some(part) = parts.join_next() => part.map_err(std::io::Error::from)?,
    };
    info!("keyferry stops");
    stop.cancel();
    while parts.join_next().await.is_some() {}
    ended
}

/// Stands for election, tells how it goes, and gives the leadership back at the stop.
async fn stand(
    settings: ElectionSettings,
    client: Client,
    health: Health,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), AppError> {
    let namespace = settings.namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let api = Api::<Lease>::namespaced(client, &namespace);
    let election = Election::new(api, settings.name, identity()?, settings.timing);
    let leadership = election.leadership();
    health.leader(false);
    let mut running = std::pin::pin!(election.run(stop));
    tokio::select! {
        ended = &mut running => return Ok(ended?),
        () = leadership.elected() => {}
    }
    health.leader(true);
    metrics.leader(true);
    Ok(running.await?)
}

async fn terminated() -> std::io::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}
