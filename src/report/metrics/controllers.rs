//! What controller-runtime tells of ESO's controllers and their queues, under its names, so that dashboards and alerts that were made
//! for ESO go on working. Labels are its too: a controller is called as its kind, in lower case.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::{Histograms, ObjectKind, SECONDS};

/// Tells how many objects of each kind are in line.
type Lengths = Box<dyn Fn() -> Vec<(ObjectKind, usize)> + Send + Sync>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabels {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    controller: &'static str,
    result: &'static str,
}

/// A queue has the name of its controller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    name: &'static str,
    controller: &'static str,
}

/// How a reconcile ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Nothing is to be done until something changes.
    Success,
    /// It comes again when its time has come.
    RequeueAfter,
    /// It failed.
    Error,
}

impl Turn {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::RequeueAfter => "requeue_after",
            Self::Error => "error",
        }
    }
}

/// An object is being worked on as long as this lives.
#[derive(Debug)]
pub struct Busy(Gauge);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The controllers and their queues.
pub(super) struct Controllers {
    reconciles: Family<ResultLabels, Counter>,
    errors: Family<ControllerLabels, Counter>,
    times: Histograms<ControllerLabels>,
    active: Family<ControllerLabels, Gauge>,
    most: Family<ControllerLabels, Gauge>,
    waits: Histograms<QueueLabels>,
    queues: Arc<Queues>,
}

/// What is counted at a scrape.
#[derive(Default)]
struct Queues {
    lengths: OnceLock<Lengths>,
    taken: [Counter; ObjectKind::ALL.len()],
}

impl fmt::Debug for Controllers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Controllers")
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Queues")
    }
}

impl Default for Controllers {
    fn default() -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            reconciles: Family::default(),
            errors: Family::default(),
            times: Family::new_with_constructor(histogram),
            active: Family::default(),
            most: Family::default(),
            waits: Family::new_with_constructor(histogram),
            queues: Arc::default(),
        }
    }
}

const fn of(kind: ObjectKind) -> ControllerLabels {
    ControllerLabels { controller: kind.controller() }
}

const fn queue_of(kind: ObjectKind) -> QueueLabels {
    QueueLabels { name: kind.controller(), controller: kind.controller() }
}

impl Controllers {
    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "controller_runtime_reconcile",
            "Reconciles that had something to do, by how they ended",
            self.reconciles.clone(),
        );
        r.register("controller_runtime_reconcile_errors", "Reconciles that failed", self.errors.clone());
        r.register("controller_runtime_reconcile_time_seconds", "Time that one reconcile took", self.times.clone());
        r.register("controller_runtime_active_workers", "Objects that are being worked on", self.active.clone());
        r.register(
            "controller_runtime_max_concurrent_reconciles",
            "Objects that may be worked on at the same time",
            self.most.clone(),
        );
        r.register("workqueue_queue_duration_seconds", "Time that an object was in line", self.waits.clone());
        r.register_collector(Box::new(Scrape(self.queues.clone())));
    }

    pub(super) fn reconciled(&self, kind: ObjectKind, took: Duration, turn: Turn) {
        let labels = ResultLabels { controller: kind.controller(), result: turn.as_str() };
        self.reconciles.get_or_create(&labels).inc();
        self.times.get_or_create(&of(kind)).observe(took.as_secs_f64());
        // there from the first reconcile on, so that the first error is an increase
        let errors = self.errors.get_or_create(&of(kind));
        if turn == Turn::Error {
            errors.inc();
        }
    }

    pub(super) fn taken(&self, kind: ObjectKind, waited: Duration) -> Busy {
        self.waits.get_or_create(&queue_of(kind)).observe(waited.as_secs_f64());
        self.queues.taken[kind as usize].inc();
        let active = self.active.get_or_create(&of(kind)).clone();
        active.inc();
        Busy(active)
    }

    pub(super) fn most(&self, kind: ObjectKind, most: usize) {
        self.most.get_or_create(&of(kind)).set(i64::try_from(most).unwrap_or(i64::MAX));
        drop(self.active.get_or_create(&of(kind)));
    }

    pub(super) fn lengths(&self, lengths: Lengths) {
        drop(self.queues.lengths.set(lengths));
    }
}

#[derive(Debug)]
struct Scrape(Arc<Queues>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let lengths = self.0.lengths.get().map(|lengths| lengths()).unwrap_or_default();
        let mut depth = encoder.encode_descriptor("workqueue_depth", "Objects in line", None, MetricType::Gauge)?;
        for (kind, length) in &lengths {
            let length = i64::try_from(*length).unwrap_or(i64::MAX);
            ConstGauge::new(length).encode(depth.encode_family(&queue_of(*kind))?)?;
        }
        let mut adds =
            encoder.encode_descriptor("workqueue_adds", "Objects that came into line", None, MetricType::Counter)?;
        for (kind, length) in lengths {
            // who is in line leaves it only by being taken
            let came = self.0.taken[kind as usize].get() + length as u64;
            ConstCounter::new(came).encode(adds.encode_family(&queue_of(kind))?)?;
        }
        Ok(())
    }
}
