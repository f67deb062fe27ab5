//! Wires everything together, and is the only place that decides when the process ends.

mod changes;
mod one_namespace;
mod order;
mod unlisted;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use kube::Api;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::changes::{
    on_config_map, on_external_secret, on_namespace, on_parent, on_push_secret, on_push_secrets_listed, on_reference,
    on_secret, on_store,
};
use self::order::{in_order, look_again, once_in_step};
use self::unlisted::Unlisted;
use crate::api::external_secret::GeneratorKind;
use crate::api::fan_out::ParentKind;
use crate::api::generators::GeneratorState;
use crate::api::{ClusterExternalSecret, ClusterPushSecret, PushSecret};
use crate::api::{ClusterSecretStore, ExternalSecret, SecretStore, StoreKind};
use crate::apply::{Writer, digest_key};
use crate::cli::{ElectionSettings, Scope, Settings};
use crate::controllers::manifest::Manifests;
use crate::controllers::watch::{self, Change, Watched};
use crate::controllers::{
    self, Ctx, Forced, counted, external_secret, fan_out, generator_state, generators, push_secret, store,
};
use crate::fetch::{Fetcher, Limits};
use crate::generators::maker::Maker;
use crate::guard::{Guard, Metadata};
use crate::index::{Index, Key, ParentId, StoreId};
use crate::lease::{self, Election, Leadership};
use crate::outbound::{Outbound, api_server};
use crate::plan::Rules;
use crate::plan::digest::Digester;
use crate::providers::ReferenceKind;
use crate::providers::connect::OwnCluster;
use crate::queue::{Priority, Queue};
use crate::report::api_requests::CountRequests;
use crate::report::events::Events;
use crate::report::metrics::{Metrics, ObjectKind};
use crate::report::observer::MetricsObserver;
use crate::server::{self, Health, Server};
use crate::telemetry::{self, LevelHandle};

/// How the operator calls itself to the API server.
const USER_AGENT: &str = concat!("keyferry/", env!("CARGO_PKG_VERSION"));
/// Reconciles of urgent work, and of periodic work, that may be under way at a time. Most of them wait for a provider; what
/// they ask of the API server is bounded by `--concurrent`.
const UNDER_WAY: usize = 1024;
/// Clean-ups of what generators made that may be under way at a time.
const STATES_UNDER_WAY: usize = 8;
/// PushSecrets that may be under way at a time. Each holds its source Secrets, whole, while it is.
const PUSHES: usize = 64;
/// Cluster-wide parents that may be under way at a time; each works on several namespaces at once.
const PARENTS: usize = 8;
/// The same by kind. ExternalSecrets that are urgent have places of their own.
const AT_ONCE: [(ObjectKind, usize); 6] = [
    (ObjectKind::ExternalSecret, 2 * UNDER_WAY),
    (ObjectKind::SecretStore, UNDER_WAY),
    (ObjectKind::ClusterSecretStore, UNDER_WAY),
    (ObjectKind::PushSecret, PUSHES),
    (ObjectKind::ClusterExternalSecret, PARENTS),
    (ObjectKind::ClusterPushSecret, PARENTS),
];
/// Longest time that one request to the API server may take in a process that has no rival.
const WRITE_LIMIT: Duration = Duration::from_secs(30);
/// How often a process that waits for its turn tells that it lives.
const BEAT: Duration = Duration::from_secs(5);
/// How long writing the last events may take at the end.
const LAST_EVENTS: Duration = Duration::from_secs(2);
/// How long logging out of stores may take at the end.
const LOG_OUT: Duration = Duration::from_secs(3);

/// What the watch of namespaces is called.
const NAMESPACE: &str = "Namespace";
/// And that of PushSecrets.
const PUSH_SECRET: &str = "PushSecret";

/// Why the process ends other than by request.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// No cluster is configured.
    #[error("no cluster to work with: set KUBECONFIG, or run in a pod with a ServiceAccount: {0}")]
    Config(String),
    /// An address cannot be used.
    #[error(transparent)]
    Server(#[from] server::ServerError),
    /// Another process leads.
    #[error("leadership was lost, so that this process ends before it could write beside another: {0}")]
    Lost(#[from] lease::Lost),
    /// Logging cannot start.
    #[error(transparent)]
    Telemetry(#[from] telemetry::InitError),
    /// The host has no usable name or signals.
    #[error("the process could not be set up: {0}")]
    Io(#[from] std::io::Error),
}

/// Runs the operator until it is told to stop.
///
/// # Errors
/// Says what ended it.
pub fn run(settings: Settings) -> Result<(), AppError> {
    let level = telemetry::init(settings.log)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "keyferry starts");
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve_until_stopped(settings, level))
}

async fn serve_until_stopped(settings: Settings, level: LevelHandle) -> Result<(), AppError> {
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let mut config = api_server::infer().await.map_err(|e| AppError::Config(e.to_string()))?;
    config.headers.push((http::header::USER_AGENT, http::HeaderValue::from_static(USER_AGENT)));
    let (operator, election) = Operator::new(settings, config)?;
    operator.serve(level).await?;

    let (stop, in_step) = (operator.stop.clone(), operator.in_step.clone());
    let lead = CancellationToken::new();
    let elected = async {
        match election {
            Some(election) => once_in_step(&in_step, &lead, election.run(lead.clone())).await,
            None => {
                lead.cancelled().await;
                Ok(())
            }
        }
    };
    in_order(elected, operator.work(), stopped()?, &stop, &lead).await?;
    Ok(())
}

/// The process: what it is told, what it reaches, and how it is stopped.
struct Operator {
    settings: Settings,
    client: kube::Client,
    cluster: OwnCluster,
    /// The operator's own namespace.
    namespace: String,
    /// This process among its replicas.
    identity: String,
    leadership: Leadership,
    health: Health,
    metrics: Arc<Metrics>,
    /// Cancelled once all watches are in step.
    in_step: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// By namespace, where they are watched one by one.
    unlisted: HashMap<String, Unlisted>,
}

impl Operator {
    /// An operator, and its election where one is asked for.
    fn new(settings: Settings, config: kube::Config) -> Result<(Self, Option<Election>), AppError> {
        let (namespace, cluster) = (config.default_namespace.clone(), OwnCluster::of(&config));
        let metrics = Arc::new(Metrics::default());
        let counted = CountRequests::new(metrics.clone());
        let unusable = |e: kube::Error| AppError::Config(e.to_string());
        let identity = lease::identity()?;
        let elect = |election: &ElectionSettings| {
            // by connections of its own: what is held up on others must not hold up a renewal
            let client = api_server::client(config.clone()).map_err(unusable)?.with_layer(&counted).build();
            let api: Api<Lease> = Api::namespaced(client, election.namespace.as_deref().unwrap_or(&namespace));
            Ok::<_, AppError>(Election::new(api, election.name.clone(), identity.clone(), election.timing))
        };
        let election = settings.election.as_ref().map(elect).transpose()?;
        let leadership = election.as_ref().map_or_else(Leadership::alone, Election::leadership);
        let term = leadership.clone();
        let client = api_server::client_while(config, Arc::new(move || !term.is_over())).map_err(unusable)?;
        let client = client.with_layer(&counted).build();
        let (health, in_step) = (Health::default(), CancellationToken::new());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let unlisted = match &settings.scope {
            Scope::Cluster => HashMap::new(),
            Scope::Namespaces(names) => {
                let of_each = || match settings.one_namespace() {
                    Some(_) => Unlisted::and(NAMESPACE),
                    None => Unlisted::default(),
                };
                names.iter().map(|name| (name.clone(), of_each())).collect()
            }
        };
        let operator = Self {
            settings,
            client,
            cluster,
            namespace,
            identity,
            leadership,
            health,
            metrics,
            in_step,
            stop,
            tasks,
            unlisted,
        };
        Ok((operator, election))
    }

    /// Binds and serves metrics and health.
    async fn serve(&self, level: LevelHandle) -> Result<(), AppError> {
        let servers = [
            ("--metrics-addr", &self.settings.metrics_addr, server::metrics_router(self.metrics.clone())),
            ("--live-addr", &self.settings.live_addr, server::live_router(self.health.clone(), level)),
        ];
        for (flag, address, router) in servers {
            if let Some(server) = Server::bind(flag, address, router).await? {
                let stop = self.stop.clone();
                self.tasks.spawn(async move {
                    if let Err(error) = server.serve(stop).await {
                        tracing::error!(%error, "a server ended");
                    }
                });
            }
        }
        Ok(())
    }

    /// Watches, waits for leadership, and works until the process stops.
    async fn work(self) {
        let digester = tokio::select! {
            digester = self.living(digest_key::digester(&self.client, &self.namespace)) => digester,
            () = self.stop.cancelled() => return,
        };
        let (wanted_generators, wanted) = tokio::sync::mpsc::unbounded_channel();
        let (ctx, events) = self.context(digester, wanted_generators);
        let ctx = Arc::new(ctx);
        self.watch_all(&ctx);
        self.watch_generators(&ctx, wanted);
        tokio::select! { () = self.begin() => {}, () = self.stop.cancelled() => return }
        let ages = Arc::downgrade(&ctx);
        self.metrics.value_ages(move || ages.upgrade().map(|ctx| controllers::value_ages(&ctx)).unwrap_or_default());
        let lengths = Arc::downgrade(&ctx);
        self.metrics.queue_lengths(move || lengths.upgrade().map(|c| controllers::queue_lengths(&c)).unwrap_or_default());
        for (kind, most) in AT_ONCE {
            self.metrics.most_at_once(kind, most);
        }

        let failures = Arc::new(store::Failures::default());
        let of_store = |ctx: Arc<Ctx>| {
            let failures = failures.clone();
            let kind = |id: &StoreId| ObjectKind::of_store(id.kind);
            counted(self.metrics.clone(), kind, move |job| store::reconcile(ctx.clone(), failures.clone(), job))
        };
        let of_state = |ctx: Arc<Ctx>| move |job| generator_state::reconcile(ctx.clone(), job);
        let states = &ctx.states.queue;
        let of_secret = |ctx: Arc<Ctx>| {
            let kind = |_: &Key| ObjectKind::ExternalSecret;
            counted(self.metrics.clone(), kind, move |job| external_secret::reconcile(ctx.clone(), job))
        };
        let memories = Arc::new(push_secret::Memories::default());
        let of_push = |ctx: Arc<Ctx>| {
            let memories = memories.clone();
            let kind = |_: &Key| ObjectKind::PushSecret;
            counted(self.metrics.clone(), kind, move |job| push_secret::reconcile(ctx.clone(), memories.clone(), job))
        };
        let of_parent = |ctx: Arc<Ctx>| {
            let kind = |id: &ParentId| ObjectKind::of_parent(id.kind);
            counted(self.metrics.clone(), kind, move |job| fan_out::reconcile(ctx.clone(), job))
        };
        let (es, stores, stop) = (&ctx.external_secrets, &ctx.stores, &self.stop);
        let (pushes, parents) = (&ctx.push_secrets, &ctx.parents);
        let turned = || {
            self.health.beat();
            self.metrics.queue_depth("externalsecrets", es.depth());
            self.metrics.queue_depth("stores", stores.depth());
            self.metrics.queue_depth("pushsecrets", pushes.depth());
            self.metrics.queue_depth("parents", parents.depth());
        };
        tokio::join!(
            controllers::dispatch(stores.clone(), Priority::Periodic, UNDER_WAY, stop.clone(), || (), of_store(ctx.clone())),
            controllers::dispatch(
                states.clone(),
                Priority::Periodic,
                STATES_UNDER_WAY,
                stop.clone(),
                || (),
                of_state(ctx.clone())
            ),
            controllers::dispatch(pushes.clone(), Priority::Periodic, PUSHES, stop.clone(), || (), of_push(ctx.clone())),
            controllers::dispatch(parents.clone(), Priority::Periodic, PARENTS, stop.clone(), || (), of_parent(ctx.clone())),
            controllers::dispatch(es.clone(), Priority::Forced, UNDER_WAY, stop.clone(), || (), of_secret(ctx.clone())),
            controllers::dispatch(es.clone(), Priority::Periodic, UNDER_WAY, stop.clone(), turned, of_secret(ctx.clone())),
        );
        ctx.events.close();
        let (events, logins) =
            tokio::join!(tokio::time::timeout(LAST_EVENTS, events), tokio::time::timeout(LOG_OUT, ctx.fetcher.close()));
        if events.is_err() {
            tracing::info!("not all events could be written in time");
        }
        if logins.is_err() {
            tracing::info!("not all stores could be logged out of in time: those logins end by themselves");
        }
    }

    /// Waits for something, and tells meanwhile that the process lives.
    async fn living<T>(&self, wait: impl Future<Output = T>) -> T {
        let mut wait = std::pin::pin!(wait);
        loop {
            self.health.beat();
            if let Ok(over) = tokio::time::timeout(BEAT, &mut wait).await {
                return over;
            }
        }
    }

    /// Waits until everything is known and this process leads.
    async fn begin(&self) {
        let begun = tokio::time::Instant::now();
        while !self.health.ready().ok {
            self.health.beat();
            tokio::time::sleep(look_again(begun.elapsed())).await;
        }
        self.in_step.cancel();
        self.living(self.leadership.elected()).await;
        self.health.leader(true);
        self.metrics.leader(true);
        tracing::info!("all watches are in step: working");
    }

    fn maker(&self, outbound: &Arc<Outbound>) -> Maker {
        let timeout = self.settings.provider_timeout;
        let metrics = self.metrics.clone();
        Maker::new(self.client.clone(), self.cluster.clone(), outbound.clone(), timeout)
            .counted(move |kind, call, failed| metrics.generator_call(kind.as_str(), call, failed))
    }

    /// What the reconciles share, and the task that writes their events.
    fn context(&self, digester: Digester, wanted_generators: generators::Wanted) -> (Ctx, JoinHandle<()>) {
        let settings = &self.settings;
        let outbound = Arc::new(Outbound::new(Arc::new(std::env::vars().collect()), settings.allow_local_endpoints));
        let limits = Limits {
            call_timeout: settings.provider_timeout,
            cache_entries: settings.cache.entries.get(),
            cache_bytes: settings.cache.bytes,
            ..Limits::default()
        };
        let observer = Arc::new(MetricsObserver(self.metrics.clone()));
        let limit = settings.election.as_ref().map_or(WRITE_LIMIT, |election| election.timing.write_margin());
        let (client, leadership) = (self.client.clone(), self.leadership.clone());
        let writer = Writer::new(client.clone(), leadership.clone(), digester.clone(), settings.concurrent.get(), limit);
        let (events, write_events) =
            Events::new(client.clone(), leadership, self.identity.clone(), limit, writer.busy(), self.metrics.clone());
        let ctx = Ctx {
            index: RwLock::new(Index::default()),
            memory: Mutex::new(HashMap::new()),
            forced: Forced::default(),
            external_secrets: Arc::new(Queue::default()),
            push_secrets: Arc::new(Queue::default()),
            parents: Arc::new(Queue::default()),
            stores: Arc::new(Queue::default()),
            maker: self.maker(&outbound),
            wanted_generators,
            states: generator_state::States::default(),
            state_grace: settings.generator_gc_grace_period,
            fetcher: Fetcher::new(client, self.cluster.clone(), outbound, limits, observer),
            writer,
            retries: controllers::retries::Retries::default(),
            digester,
            events,
            metrics: self.metrics.clone(),
            rules: Rules {
                class: settings.controller_class.clone(),
                adopt: settings.adopt_secrets,
                cluster_stores: settings.cluster_stores,
                cluster_external_secrets: settings.cluster_external_secrets,
                cluster_generators: matches!(settings.scope, Scope::Cluster),
                secret_stores: settings.secret_stores,
                push_secrets: settings.push_secrets,
                flood_gate: settings.flood_gate,
                store_interval: settings.store_requeue_interval,
                heartbeat: settings.status_heartbeat,
                delimiters: settings.delimiters.clone(),
                generic_targets: settings.generic_targets,
            },
            manifests: Manifests::new(self.client.clone(), self.scope(), self.stop.clone()),
            renders: Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)),
            targets: (0..64).map(|_| tokio::sync::Mutex::new(())).collect(),
        };
        (ctx, self.tasks.spawn(write_events))
    }

    /// Begins the watches of generators as they are asked for, and that of their states. A cluster without their definitions is
    /// served all the same: they are no part of the process's health.
    fn watch_generators(&self, ctx: &Arc<Ctx>, wanted: UnboundedReceiver<GeneratorKind>) {
        let (tasks, stop, client) = (self.tasks.clone(), self.stop.clone(), self.client.clone());
        self.tasks.spawn(generators::watch_wanted(ctx.clone(), client, self.scope(), wanted, tasks, stop));
        if !self.settings.generator_state {
            return;
        }
        for api in self.scope().apis::<Guard<GeneratorState>>(&self.client) {
            let (lister, holder, ctx, stop) = (ctx.clone(), ctx.clone(), ctx.clone(), self.stop.clone());
            let namespace = api.namespace().map(str::to_owned);
            let of = namespace.clone();
            let fares = move |fares: watch::Fares| {
                if fares == watch::Fares::Synced {
                    lister.states.listed(of.as_deref());
                }
            };
            let held = move || holder.states.keys(namespace.as_deref());
            let handle = move |change: watch::Change<GeneratorState>| generator_state::on_change(&ctx, change);
            self.tasks.spawn(watch::watch_what_is_held(api, "GeneratorState".into(), fares, stop, handle, held));
        }
    }

    /// Which objects are watched.
    fn scope(&self) -> watch::Scope {
        match &self.settings.scope {
            Scope::Cluster => watch::Scope::Cluster,
            Scope::Namespaces(names) => watch::Scope::Namespaces(names.clone()),
        }
    }

    /// Begins all watches.
    fn watch_all(&self, ctx: &Arc<Ctx>) {
        let (client, scope) = (&self.client, self.scope());
        self.watch(ctx, scope.apis::<Guard<ExternalSecret>>(client), "ExternalSecret", on_external_secret);
        self.watch(ctx, scope.apis::<Metadata<Secret>>(client), "Secret", on_secret);
        self.watch(ctx, scope.apis::<Metadata<ServiceAccount>>(client), "ServiceAccount", |ctx, change| {
            on_reference(ctx, ReferenceKind::ServiceAccount, change);
        });
        self.watch(ctx, scope.apis::<Metadata<ConfigMap>>(client), "ConfigMap", on_config_map);
        self.watch(ctx, scope.apis::<Guard<SecretStore>>(client), "SecretStore", |ctx, change| {
            on_store(ctx, StoreKind::SecretStore, change);
        });
        if self.settings.push_secrets || self.settings.cluster_push_secrets {
            self.watch(ctx, scope.apis::<Guard<PushSecret>>(client), PUSH_SECRET, on_push_secret);
        }
        if self.settings.asks_for_namespaces() {
            self.watch(ctx, vec![Api::<Metadata<Namespace>>::all(client.clone())], NAMESPACE, on_namespace);
        }
        self.follow_namespace(ctx);
        if self.settings.cluster_external_secrets {
            let api = Api::<Guard<ClusterExternalSecret>>::all(client.clone());
            self.watch(ctx, vec![api], "ClusterExternalSecret", |ctx, change| {
                on_parent(ctx, ParentKind::ClusterExternalSecret, change);
            });
        }
        if self.settings.cluster_push_secrets {
            let api = Api::<Guard<ClusterPushSecret>>::all(client.clone());
            self.watch(ctx, vec![api], "ClusterPushSecret", |ctx, change| {
                on_parent(ctx, ParentKind::ClusterPushSecret, change);
            });
        }
        if self.settings.cluster_stores {
            let api = Api::<Guard<ClusterSecretStore>>::all(client.clone());
            self.watch(ctx, vec![api], "ClusterSecretStore", |ctx, change| {
                on_store(ctx, StoreKind::ClusterSecretStore, change);
            });
        }
    }

    /// Follows the labels of the one namespace that is served where ClusterSecretStores are, too.
    fn follow_namespace(&self, ctx: &Arc<Ctx>) {
        let Some(name) = self.settings.one_namespace().map(str::to_owned) else { return };
        let (ctx, stop, api) = (ctx.clone(), self.stop.clone(), Api::<Namespace>::all(self.client.clone()));
        let order = self.unlisted.get(&name).cloned();
        self.tasks.spawn(async move {
            let known = || order.iter().for_each(|order| order.listed(NAMESPACE));
            let follow = one_namespace::follow(api, &name, known, |change| on_namespace(&ctx, change));
            tokio::select! { () = follow => {}, () = stop.cancelled() => {} }
        });
    }

    fn watch<W>(
        &self,
        ctx: &Arc<Ctx>,
        apis: Vec<Api<W>>,
        kind: &'static str,
        handle: impl Fn(&Ctx, Change<W::Object>) + Copy + Send + 'static,
    ) where
        W: Watched,
        W::Object: Send,
    {
        for api in apis {
            let name = match api.namespace() {
                Some(namespace) => format!("{kind} in {namespace}"),
                None => kind.to_owned(),
            };
            self.health.watch_expected(&name, api.namespace());
            let (ctx, health, stop) = (ctx.clone(), self.health.clone(), self.stop.clone());
            let (health_name, order) = (name.clone(), api.namespace().and_then(|name| self.unlisted.get(name)).cloned());
            let (before, holder, namespace) = (order.clone(), ctx.clone(), api.namespace().map(str::to_owned));
            let fares = move |fares: watch::Fares| {
                if fares == watch::Fares::Synced && kind == PUSH_SECRET {
                    on_push_secrets_listed(&holder, namespace.as_deref());
                }
                fares.tell(&health, &health_name);
                if let (watch::Fares::Synced, Some(order)) = (fares, &order) {
                    order.listed(kind);
                }
            };
            self.tasks.spawn(async move {
                if let Some(before) = before {
                    tokio::select! { () = before.turn_of(kind) => {}, () = stop.cancelled() => return }
                }
                let (holder, namespace) = (ctx.clone(), api.namespace().map(str::to_owned));
                let held = move || fan_out::children_held(&holder, kind, namespace.as_deref());
                let handle = move |change: Change<W::Object>| {
                    ctx.events.withdraw(kind, || watch::well::<W>(&change));
                    handle(&ctx, change);
                };
                watch::watch_what_is_held(api, name, fares, stop, handle, held).await;
            });
        }
    }
}

/// Resolves when the process is told to stop.
fn stopped() -> Result<impl Future<Output = ()>, std::io::Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
