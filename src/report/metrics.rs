//! Prometheus metrics.
//!
//! Names and labels are ESO's where the thing is the same, so that its dashboards and alerts go on working; what is new starts with
//! `keyferry_`. Durations are histograms in seconds. Labels are bounded: names of objects that exist, and words fixed in the code
//! (`&'static str`). The series of an object go when the object goes.
//!
//! The exposition is made as OpenMetrics text, in which a counter's name must end in `_total`. Two of ESO's do not: they are exposed
//! under ESO's exact name with type `unknown`, which `rate()` and every dashboard take all the same. Who does not ask for OpenMetrics gets
//! the older text format, as from ESO: see `format.rs`.

mod controllers;
mod format;
mod objects;
mod process;
mod stores;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

pub use controllers::{Busy, Turn};
pub use format::Format;
pub use objects::{ObjectKind, Ready};
pub use stores::StoreLabels;

use crate::providers::{ErrorKind, ProviderRequest};
use controllers::Controllers;
use objects::Objects;
use process::Process;
use stores::{StoreCalls, ValueAges};

/// Upper bounds in seconds: from a look-up in memory to a call at its deadline.
const SECONDS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of the process. Share it in an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    objects: Arc<[Objects; ObjectKind::ALL.len()]>,
    store_calls: Arc<StoreCalls>,
    value_ages: Arc<ValueAges>,
    api_calls: Family<ApiCallLabels, PlainCounter>,
    reconciles: Histograms<KindLabels>,
    controllers: Controllers,
    cache_requests: Family<CacheLabels, Counter>,
    queue_wait: Histograms<PriorityLabels>,
    queue_depth: Family<QueueLabels, Gauge>,
    api_requests: Family<ApiRequestLabels, Counter>,
    events_dropped: Counter,
    leader: Gauge,
}

/// One call to a provider that has ended.
#[derive(Clone, Copy, Debug)]
pub struct ProviderCall<'a> {
    /// The store that the call was made for; `None` where it is deleted, and so are its series.
    pub store: Option<&'a StoreLabels>,
    /// The provider in ESO's words: `AWS/SecretsManager`.
    pub provider: &'static str,
    /// The call in keyferry's words: `BatchGet`.
    pub call: &'static str,
    /// The requests that it turned into, in the provider's words.
    pub requests: &'a [ProviderRequest],
    /// Why it failed; `None`: it did not.
    pub error: Option<ErrorKind>,
    /// How long it took.
    pub took: Duration,
}

/// What a read found in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheResult {
    /// A value that is fresh enough.
    Hit,
    /// Nothing, or a value that is too old: a call is made.
    Miss,
    /// A call that is under way already, and is waited for.
    Coalesced,
}

impl CacheResult {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Coalesced => "coalesced",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiCallLabels {
    provider: &'static str,
    call: Cow<'static, str>,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CacheLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PriorityLabels {
    priority: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiRequestLabels {
    verb: &'static str,
    resource: &'static str,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let metrics = Self {
            registry: Registry::default(),
            objects: Arc::new(ObjectKind::ALL.map(Objects::new)),
            store_calls: Arc::default(),
            value_ages: Arc::default(),
            api_calls: Family::default(),
            reconciles: Family::new_with_constructor(histogram),
            controllers: Controllers::default(),
            cache_requests: Family::default(),
            queue_wait: Family::new_with_constructor(histogram),
            queue_depth: Family::default(),
            api_requests: Family::default(),
            events_dropped: Counter::default(),
            leader: Gauge::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register_collector(Box::new(objects::Collect(self.objects.clone())));
        r.register("externalsecret_provider_api_calls_count", "Calls to providers", self.api_calls.clone());
        r.register_collector(Box::new(self.store_calls.clone()));
        r.register_collector(Box::new(self.value_ages.clone()));
        self.controllers.register(r);
        r.register("keyferry_reconcile_duration_seconds", "Time that one reconcile took", self.reconciles.clone());
        r.register(
            "keyferry_cache_requests",
            "Reads of provider values, by how the cache answered",
            self.cache_requests.clone(),
        );
        r.register(
            "keyferry_queue_wait_seconds",
            "Time between an object's due time and its reconcile",
            self.queue_wait.clone(),
        );
        r.register(
            "keyferry_queue_depth",
            "Objects in the queue: ready ones are due, delayed ones wait for their time",
            self.queue_depth.clone(),
        );
        r.register("keyferry_api_requests", "Requests to the Kubernetes API server", self.api_requests.clone());
        r.register(
            "keyferry_events_dropped",
            "Events that were not written because too many waited or the API server did not answer",
            self.events_dropped.clone(),
        );
        r.register("keyferry_leader", "1 while this process may write to the API server", self.leader.clone());
        r.register("keyferry_build", "The version that runs", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        r.register_collector(Box::new(Process::start()));
        self
    }

    /// The exposition, as OpenMetrics text.
    ///
    /// # Errors
    /// When a metric cannot be written as text, which none of ours does.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// A reconcile that had something to do has ended.
    pub fn reconciled(&self, kind: ObjectKind, took: Duration, turn: Turn) {
        self.controllers.reconciled(kind, took, turn);
        self.reconciles.get_or_create(&KindLabels { kind: kind.as_str() }).observe(took.as_secs_f64());
    }

    /// An ExternalSecret was synced, or failed to: ESO's `externalsecret_sync_calls_total` and `_error`.
    pub fn synced(&self, namespace: &str, name: &str, failed: bool) {
        self.of(ObjectKind::ExternalSecret).synced(namespace, name, failed);
    }

    /// The Ready condition of an object. Cluster-scoped kinds have an empty namespace, as in ESO.
    pub fn condition(&self, kind: ObjectKind, namespace: &str, name: &str, ready: Ready) {
        self.of(kind).condition(namespace, name, ready);
    }

    /// An object is gone: so are its series.
    pub fn deleted(&self, kind: ObjectKind, namespace: &str, name: &str) {
        self.of(kind).remove(namespace, name);
        if let Some(kind) = kind.store() {
            self.store_calls.remove(&StoreLabels { kind, namespace: namespace.into(), name: name.into() });
        }
    }

    /// A call to a provider has ended.
    pub fn provider_call(&self, call: ProviderCall<'_>) {
        let one = [ProviderRequest { name: call.call.into(), failed: call.error.is_some(), id: None }];
        let unnoted: &[ProviderRequest] = match call.call {
            // a login by keys that are at hand asks nobody, nor does a check of one
            "Connect" | "Validate" => &[],
            _ => one.as_slice(),
        };
        for request in if call.requests.is_empty() { unnoted } else { call.requests } {
            let status = if request.failed { "error" } else { "success" };
            let labels = ApiCallLabels { provider: call.provider, call: request.name.clone(), status };
            self.api_calls.get_or_create(&labels).increment();
        }
        if let Some(store) = call.store {
            let outcome = call.error.map_or("success", ErrorKind::as_str);
            self.store_calls.observe(store, call.provider, outcome, call.took);
        }
    }

    /// A value was asked for.
    pub fn cache_request(&self, result: CacheResult) {
        self.cache_requests.get_or_create(&CacheLabels { result: result.as_str() }).inc();
    }

    /// Sets, once, who tells the age of the oldest value in use of each store; asked at each scrape.
    pub fn value_ages(&self, ages: impl Fn() -> Vec<(StoreLabels, Duration)> + Send + Sync + 'static) {
        self.value_ages.set(Box::new(ages));
    }

    /// How many objects of a queue are due, and how many wait for their time.
    pub fn queue_depth(&self, queue: &'static str, (ready, delayed): (usize, usize)) {
        for (state, count) in [("ready", ready), ("delayed", delayed)] {
            self.queue_depth.get_or_create(&QueueLabels { queue, state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// An object left the queue after it had waited; it is being worked on as long as what is returned lives.
    #[must_use]
    pub fn queue_left(&self, kind: ObjectKind, priority: &'static str, waited: Duration) -> Busy {
        self.queue_wait.get_or_create(&PriorityLabels { priority }).observe(waited.as_secs_f64());
        self.controllers.taken(kind, waited)
    }

    /// How many objects of a kind may be worked on at the same time.
    pub fn most_at_once(&self, kind: ObjectKind, most: usize) {
        self.controllers.most(kind, most);
    }

    /// Sets, once, who tells how many objects of each kind are in line; asked at each scrape.
    pub fn queue_lengths(&self, lengths: impl Fn() -> Vec<(ObjectKind, usize)> + Send + Sync + 'static) {
        self.controllers.lengths(Box::new(lengths));
    }

    /// A generator that asks a server was called.
    pub fn generator_call(&self, generator: &'static str, call: &'static str, failed: bool) {
        let status = if failed { "error" } else { "success" };
        let labels = ApiCallLabels { provider: generator, call: call.into(), status };
        self.api_calls.get_or_create(&labels).increment();
    }

    /// A request to the API server was answered.
    pub fn api_request(&self, verb: &'static str, resource: &'static str, outcome: &'static str) {
        self.api_requests.get_or_create(&ApiRequestLabels { verb, resource, outcome }).inc();
    }

    /// An event found no place among those that wait to be written, or got no answer.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// Whether this process may write.
    pub fn leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    fn of(&self, kind: ObjectKind) -> &Objects {
        &self.objects[kind as usize]
    }
}

/// A counter whose name has no `_total`: see the head of this file.
#[derive(Clone, Debug, Default)]
struct PlainCounter(Arc<AtomicU64>);

impl PlainCounter {
    fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl TypedMetric for PlainCounter {
    const TYPE: MetricType = MetricType::Unknown;
}

impl EncodeMetric for PlainCounter {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        // A gauge is what is written under its plain name.
        encoder.encode_gauge(&self.0.load(Ordering::Relaxed))
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests;
