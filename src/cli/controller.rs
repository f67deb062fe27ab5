//! `keyferry controller`: its flags, and the plain settings that the rest of the process gets.
//!
//! Names and defaults are ESO's (v2.9.0) where the thing is the same. Two defaults differ on purpose: `--concurrent`, because
//! here it bounds requests and not whole reconciles, and `--zap-time-encoding`, because our lines are not zap's.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::Args;

use super::ignored::Ignored;
use super::value::{ByteSize, GoBool, GoDuration, LeaseName, LogFormat, Namespace, Namespaces, Period, SWITCH};
use crate::lease::{Timing, TimingError};
use crate::plan::template::Delimiters;
use crate::server::ListenAddr;
use crate::telemetry::{Level, TimeEncoding};

/// Serves ExternalSecrets, SecretStores and ClusterSecretStores until it is told to stop.
#[derive(Args, Debug)]
pub struct Controller {
    /// Address of the metrics (/metrics): ":8080", "127.0.0.1:8080", or "0" for none
    #[arg(long, env = "KEYFERRY_METRICS_ADDR", value_name = "ADDRESS", default_value = ":8080")]
    metrics_addr: ListenAddr,
    /// Address of /healthz, /readyz and /log-level; "0" for none
    #[arg(long, env = "KEYFERRY_LIVE_ADDR", value_name = "ADDRESS", default_value = ":8082")]
    live_addr: ListenAddr,
    /// Serve the stores whose spec.controller is this, and those that name none
    #[arg(long, env = "KEYFERRY_CONTROLLER_CLASS", value_name = "CLASS", default_value = "default")]
    controller_class: String,
    /// Watch this namespace only; empty: all
    #[arg(long, env = "KEYFERRY_NAMESPACE", value_name = "NAMESPACE", default_value = "")]
    namespace: Namespace,
    /// Watch these namespaces only, by commas, without any cluster-wide right; ClusterSecretStores, ClusterExternalSecrets and
    /// ClusterPushSecrets are off then, and ExternalSecrets whose store is a ClusterSecretStore are left to another installation
    #[arg(long, env = "KEYFERRY_NAMESPACES", value_name = "NAMESPACES", default_value = "")]
    namespaces: Namespaces,
    /// Most requests to the API server that read or write single objects at the same time, of urgent work and of periodic work
    /// each
    #[arg(long, env = "KEYFERRY_CONCURRENT", value_name = "N", default_value = "32")]
    concurrent: NonZeroUsize,
    /// Serve ClusterSecretStores; if not, ExternalSecrets whose store is one are left to another installation
    #[arg(long, env = "KEYFERRY_ENABLE_CLUSTER_STORE_RECONCILER", value_name = SWITCH, default_value = "true")]
    enable_cluster_store_reconciler: GoBool,
    /// Serve SecretStores
    #[arg(long, env = "KEYFERRY_ENABLE_SECRET_STORE_RECONCILER", value_name = SWITCH, default_value = "true")]
    enable_secret_store_reconciler: GoBool,
    /// Serve ClusterExternalSecrets
    #[arg(long, env = "KEYFERRY_ENABLE_CLUSTER_EXTERNAL_SECRET_RECONCILER", value_name = SWITCH, default_value = "true")]
    enable_cluster_external_secret_reconciler: GoBool,
    /// Serve ClusterPushSecrets
    #[arg(long, env = "KEYFERRY_ENABLE_CLUSTER_PUSH_SECRET_RECONCILER", value_name = SWITCH, default_value = "true")]
    enable_cluster_push_secret_reconciler: GoBool,
    /// Serve PushSecrets
    #[arg(long, env = "KEYFERRY_ENABLE_PUSH_SECRET_RECONCILER", value_name = SWITCH, default_value = "true")]
    enable_push_secret_reconciler: GoBool,
    /// Use a store only while it is Ready
    #[arg(long, env = "KEYFERRY_ENABLE_FLOOD_GATE", value_name = SWITCH, default_value = "true")]
    enable_flood_gate: GoBool,
    /// How often a store is checked when it names no interval of its own
    #[arg(long, env = "KEYFERRY_STORE_REQUEUE_INTERVAL", value_name = "DURATION", default_value = "5m")]
    store_requeue_interval: Period,
    /// Write to a Secret that exists already and that nobody owns
    #[arg(long, env = "KEYFERRY_ADOPT_SECRETS", value_name = SWITCH, default_value = "true")]
    adopt_secrets: GoBool,
    /// Write objects of other kinds than Secret where an ExternalSecret asks for one (spec.target.manifest). What may be written is
    /// then up to the RBAC rights of the operator: grant few
    #[arg(long, env = "KEYFERRY_UNSAFE_ALLOW_GENERIC_TARGETS", value_name = SWITCH, default_value = "false")]
    unsafe_allow_generic_targets: GoBool,
    /// Let URLs in stores and generators lead to the operator's own Pod and node, and to a cloud's metadata service
    #[arg(long, env = "KEYFERRY_ALLOW_LOCAL_ENDPOINTS", value_name = SWITCH, default_value = "false")]
    allow_local_endpoints: GoBool,
    /// What begins an action in templates
    #[arg(long, env = "KEYFERRY_TEMPLATE_LEFT_DELIMITER", value_name = "TEXT", default_value = "{{")]
    template_left_delimiter: String,
    /// What ends an action in templates
    #[arg(long, env = "KEYFERRY_TEMPLATE_RIGHT_DELIMITER", value_name = "TEXT", default_value = "}}")]
    template_right_delimiter: String,
    /// How often the refreshTime of an unchanged ExternalSecret is written; 0: at every refresh
    #[arg(long, env = "KEYFERRY_STATUS_HEARTBEAT", value_name = "DURATION", default_value = "5m")]
    status_heartbeat: GoDuration,
    /// Clean up what generators made once it is out of use
    #[arg(long, env = "KEYFERRY_ENABLE_GENERATOR_STATE", value_name = SWITCH, default_value = "true")]
    enable_generator_state: GoBool,
    /// How long after a generated value went out of use that is cleaned up
    #[arg(long, env = "KEYFERRY_GENERATOR_GC_GRACE_PERIOD", value_name = "DURATION", default_value = "2m")]
    generator_gc_grace_period: GoDuration,
    /// How long one call to a provider may take
    #[arg(long, env = "KEYFERRY_PROVIDER_TIMEOUT", value_name = "DURATION", default_value = "30s")]
    provider_timeout: Period,
    /// How many values the cache keeps for one store, and for the stores of one namespace together; for all stores, three times as many
    #[arg(long, env = "KEYFERRY_CACHE_ENTRIES_PER_STORE", value_name = "N", default_value = "16384")]
    cache_entries_per_store: NonZeroUsize,
    /// How many bytes of values the cache keeps for one store, and for the stores of one namespace together; for all stores, three times as
    /// many
    #[arg(long, env = "KEYFERRY_CACHE_BYTES_PER_STORE", value_name = "BYTES", default_value = "16Mi")]
    cache_bytes_per_store: ByteSize,
    /// Elect one leader among the replicas; the others stand by
    #[arg(long, env = "KEYFERRY_ENABLE_LEADER_ELECTION", value_name = SWITCH, default_value = "false")]
    enable_leader_election: GoBool,
    /// Name of the Lease. The default is ESO's, so that a switch of the Deployment hands over cleanly; beside a running ESO
    /// give another name
    #[arg(long, env = "KEYFERRY_LEADER_ELECTION_ID", value_name = "NAME", default_value = "external-secrets-controller")]
    leader_election_id: LeaseName,
    /// Namespace of the Lease; empty: the one that the process runs in
    #[arg(long, env = "KEYFERRY_LEADER_ELECTION_NAMESPACE", value_name = "NAMESPACE", default_value = "")]
    leader_election_namespace: Namespace,
    /// How long the others wait for a leader that is silent
    #[arg(long, env = "KEYFERRY_LEADER_ELECTION_LEASE_DURATION", value_name = "DURATION", default_value = "15s")]
    leader_election_lease_duration: Period,
    /// How long a leader goes on without a renewal that succeeds
    #[arg(long, env = "KEYFERRY_LEADER_ELECTION_RENEW_DEADLINE", value_name = "DURATION", default_value = "10s")]
    leader_election_renew_deadline: Period,
    /// Pause between two attempts to get or renew the Lease
    #[arg(long, env = "KEYFERRY_LEADER_ELECTION_RETRY_PERIOD", value_name = "DURATION", default_value = "2s")]
    leader_election_retry_period: Period,
    /// Log level: trace, debug, info, warn, error, dpanic, panic or fatal (the last four are one)
    #[arg(long, env = "KEYFERRY_LOGLEVEL", value_name = "LEVEL", default_value = "info")]
    loglevel: Level,
    /// Form of the log lines
    #[arg(long, env = "KEYFERRY_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "json")]
    log_format: LogFormat,
    /// Form of the times in the log lines: epoch, millis, nano, iso8601, rfc3339 or rfc3339nano
    #[arg(long, env = "KEYFERRY_ZAP_TIME_ENCODING", value_name = "ENCODING", default_value = "rfc3339nano")]
    zap_time_encoding: TimeEncoding,
    #[command(flatten)]
    ignored: Ignored,
}

/// What the process was told, checked and in plain types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which namespaces are watched.
    pub scope: Scope,
    /// The class of the stores that are served.
    pub controller_class: String,
    /// Whether ClusterSecretStores are served.
    pub cluster_stores: bool,
    /// Whether SecretStores are served.
    pub secret_stores: bool,
    /// Whether ClusterExternalSecrets are served.
    pub cluster_external_secrets: bool,
    /// Whether ClusterPushSecrets are served.
    pub cluster_push_secrets: bool,
    /// Whether PushSecrets are served.
    pub push_secrets: bool,
    /// Whether a store is used only while it is Ready.
    pub flood_gate: bool,
    /// How often a store is checked that names no interval.
    pub store_requeue_interval: Duration,
    /// Whether a Secret that exists and that nobody owns is taken over.
    pub adopt_secrets: bool,
    /// Whether objects other than Secrets are written.
    pub generic_targets: bool,
    /// What begins and ends an action in templates.
    pub delimiters: Delimiters,
    /// Whether URLs in objects may lead to the operator's own surroundings.
    pub allow_local_endpoints: bool,
    /// How often the refresh time of an unchanged ExternalSecret is written.
    pub status_heartbeat: Duration,
    /// Whether what generators made is cleaned up.
    pub generator_state: bool,
    /// How long after a generated value went out of use that is.
    pub generator_gc_grace_period: Duration,
    /// Most requests that read or write single objects at a time, of urgent work and of periodic work each.
    pub concurrent: NonZeroUsize,
    /// Deadline of one provider call.
    pub provider_timeout: Duration,
    /// Bounds of the value cache.
    pub cache: CacheBounds,
    /// Where metrics are served.
    pub metrics_addr: ListenAddr,
    /// Where health is served.
    pub live_addr: ListenAddr,
    /// The election to stand in; `None`: this process is the only one.
    pub election: Option<ElectionSettings>,
    /// Logging.
    pub log: LogSettings,
    /// What to tell the user once at the start.
    pub warnings: Vec<String>,
}

/// What is told once where only some namespaces are served.
const NOT_CLUSTER_WIDE: &str = "ClusterExternalSecrets and ClusterPushSecrets are not served: they are about all namespaces, and \
                                --namespace or --namespaces names some; to have no such line, give \
                                --enable-cluster-external-secret-reconciler=false and --enable-cluster-push-secret-reconciler=false";

impl Settings {
    /// Whether anything that is served depends on the labels of namespaces.
    #[must_use]
    pub fn asks_for_namespaces(&self) -> bool {
        let served = self.cluster_stores || self.cluster_external_secrets || self.cluster_push_secrets;
        self.scope == Scope::Cluster && served
    }

    /// The one namespace that is served, where ClusterSecretStores are too: its labels decide which of them it may use.
    #[must_use]
    pub fn one_namespace(&self) -> Option<&str> {
        match &self.scope {
            // with a list of namespaces they are off
            Scope::Namespaces(names) if self.cluster_stores => names.first().map(String::as_str),
            _ => None,
        }
    }
}

/// Which namespaces are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All, by cluster-wide watches.
    Cluster,
    /// These, each by a watch of its own.
    Namespaces(Vec<String>),
}

/// Bounds of the value cache, for each store and for those of each namespace; for all stores it is three times that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheBounds {
    /// Most values.
    pub entries: NonZeroUsize,
    /// Most bytes.
    pub bytes: usize,
}

/// The election to stand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElectionSettings {
    /// Name of the Lease.
    pub name: String,
    /// Its namespace; `None`: the client's own.
    pub namespace: Option<String>,
    /// Its times.
    pub timing: Timing,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// JSON or text.
    pub format: LogFormat,
    /// The level at the start.
    pub level: Level,
    /// The form of times.
    pub time: TimeEncoding,
}

/// Flags that do not go together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// Two flags say what to watch.
    #[error("--namespace and --namespaces exclude each other: give the one namespace to --namespaces too")]
    TwoScopes,
    /// The election's times are unsafe.
    #[error(transparent)]
    Timing(#[from] TimingError),
}

impl Controller {
    /// The settings that the flags make together.
    ///
    /// # Errors
    /// When flags contradict each other; the text names them.
    pub fn into_settings(self) -> Result<Settings, SettingsError> {
        // All fields by name: a new flag that is not used here does not compile.
        let Self {
            metrics_addr,
            live_addr,
            controller_class,
            namespace: Namespace(namespace),
            namespaces: Namespaces(namespaces),
            concurrent,
            enable_cluster_store_reconciler,
            enable_secret_store_reconciler,
            enable_cluster_external_secret_reconciler,
            enable_cluster_push_secret_reconciler,
            enable_push_secret_reconciler,
            enable_flood_gate,
            store_requeue_interval,
            adopt_secrets,
            unsafe_allow_generic_targets,
            template_left_delimiter,
            template_right_delimiter,
            allow_local_endpoints,
            status_heartbeat,
            enable_generator_state,
            generator_gc_grace_period,
            provider_timeout,
            cache_entries_per_store,
            cache_bytes_per_store,
            enable_leader_election,
            leader_election_id: LeaseName(leader_election_id),
            leader_election_namespace,
            leader_election_lease_duration,
            leader_election_renew_deadline,
            leader_election_retry_period,
            loglevel,
            log_format,
            zap_time_encoding,
            ignored: Ignored(ignored),
        } = self;
        if namespace.is_some() && !namespaces.is_empty() {
            return Err(SettingsError::TwoScopes);
        }
        let cluster_stores = enable_cluster_store_reconciler.0 && namespaces.is_empty();
        let scope = match namespace {
            Some(one) => Scope::Namespaces(vec![one]),
            None if namespaces.is_empty() => Scope::Cluster,
            None => Scope::Namespaces(namespaces),
        };
        let cluster_wide = matches!(scope, Scope::Cluster);
        let cluster_external_secrets = enable_cluster_external_secret_reconciler.0 && cluster_wide;
        let cluster_push_secrets = enable_cluster_push_secret_reconciler.0 && cluster_wide;
        let mut warnings: Vec<String> =
            ignored.iter().map(|flag| format!("--{} has no effect: {}", flag.name, flag.reason)).collect();
        if !cluster_wide && (enable_cluster_external_secret_reconciler.0 || enable_cluster_push_secret_reconciler.0) {
            warnings.push(NOT_CLUSTER_WIDE.into());
        }
        let timing =
            Timing::new(leader_election_lease_duration.0, leader_election_renew_deadline.0, leader_election_retry_period.0)?;
        let election = enable_leader_election.0.then_some(ElectionSettings {
            name: leader_election_id,
            namespace: leader_election_namespace.0,
            timing,
        });
        Ok(Settings {
            scope,
            controller_class,
            cluster_stores,
            secret_stores: enable_secret_store_reconciler.0,
            cluster_external_secrets,
            cluster_push_secrets,
            push_secrets: enable_push_secret_reconciler.0,
            flood_gate: enable_flood_gate.0,
            store_requeue_interval: store_requeue_interval.0,
            adopt_secrets: adopt_secrets.0,
            generic_targets: unsafe_allow_generic_targets.0,
            delimiters: Delimiters { left: template_left_delimiter, right: template_right_delimiter },
            allow_local_endpoints: allow_local_endpoints.0,
            status_heartbeat: status_heartbeat.0,
            generator_state: enable_generator_state.0,
            generator_gc_grace_period: generator_gc_grace_period.0,
            concurrent,
            provider_timeout: provider_timeout.0,
            cache: CacheBounds { entries: cache_entries_per_store, bytes: cache_bytes_per_store.0 },
            metrics_addr,
            live_addr,
            election,
            log: LogSettings { format: log_format, level: loglevel, time: zap_time_encoding },
            warnings,
        })
    }
}
