//! Series that exist once for each object, kept in one small record an object instead of one metric a series.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::api::fan_out::ParentKind;
use crate::api::{Condition, StoreKind};

/// A kind of object that has metrics of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// An ExternalSecret.
    ExternalSecret,
    /// A SecretStore.
    SecretStore,
    /// A ClusterSecretStore.
    ClusterSecretStore,
    /// A ClusterExternalSecret.
    ClusterExternalSecret,
    /// A ClusterPushSecret.
    ClusterPushSecret,
    /// A PushSecret.
    PushSecret,
}

impl ObjectKind {
    /// The kind of a store.
    #[must_use]
    pub const fn of_store(kind: StoreKind) -> Self {
        match kind {
            StoreKind::SecretStore => Self::SecretStore,
            StoreKind::ClusterSecretStore => Self::ClusterSecretStore,
        }
    }

    /// The kind of a cluster-wide parent.
    #[must_use]
    pub const fn of_parent(kind: ParentKind) -> Self {
        match kind {
            ParentKind::ClusterExternalSecret => Self::ClusterExternalSecret,
            ParentKind::ClusterPushSecret => Self::ClusterPushSecret,
        }
    }

    pub(super) const ALL: [Self; 6] = [
        Self::ExternalSecret,
        Self::SecretStore,
        Self::ClusterSecretStore,
        Self::ClusterExternalSecret,
        Self::ClusterPushSecret,
        Self::PushSecret,
    ];

    /// The kind's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ExternalSecret => "ExternalSecret",
            Self::SecretStore => "SecretStore",
            Self::ClusterSecretStore => "ClusterSecretStore",
            Self::ClusterExternalSecret => "ClusterExternalSecret",
            Self::ClusterPushSecret => "ClusterPushSecret",
            Self::PushSecret => "PushSecret",
        }
    }

    /// The name of ESO's controller of the kind.
    pub(super) const fn controller(self) -> &'static str {
        match self {
            Self::ExternalSecret => "externalsecret",
            Self::SecretStore => "secretstore",
            Self::ClusterSecretStore => "clustersecretstore",
            Self::ClusterExternalSecret => "clusterexternalsecret",
            Self::ClusterPushSecret => "clusterpushsecret",
            Self::PushSecret => "pushsecret",
        }
    }

    const fn condition_metric(self) -> &'static str {
        match self {
            Self::ExternalSecret => "externalsecret_status_condition",
            Self::SecretStore => "secretstore_status_condition",
            Self::ClusterSecretStore => "clustersecretstore_status_condition",
            Self::ClusterExternalSecret => "clusterexternalsecret_status_condition",
            Self::ClusterPushSecret => "clusterpushsecret_status_condition",
            Self::PushSecret => "pushsecret_status_condition",
        }
    }

    pub(super) const fn store(self) -> Option<StoreKind> {
        match self {
            Self::ExternalSecret | Self::PushSecret | Self::ClusterExternalSecret | Self::ClusterPushSecret => None,
            Self::SecretStore => Some(StoreKind::SecretStore),
            Self::ClusterSecretStore => Some(StoreKind::ClusterSecretStore),
        }
    }
}

/// Status of the Ready condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// `True`.
    True,
    /// `False`.
    False,
    /// `Unknown`.
    Unknown,
}

impl Ready {
    /// What a list of conditions says.
    #[must_use]
    pub fn of(conditions: &[Condition]) -> Self {
        match conditions.iter().find(|c| c.type_ == Condition::READY).map(|c| c.status.as_str()) {
            Some("True") => Self::True,
            Some("False") => Self::False,
            _ => Self::Unknown,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    namespace: Box<str>,
    name: Box<str>,
}

impl Key {
    fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

#[derive(Debug, Default)]
struct Series {
    synced: AtomicU64,
    failed: AtomicU64,
    ready: Option<Ready>,
}

impl Series {
    fn count(&self, failed: bool) {
        self.synced.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(failed.into(), Ordering::Relaxed);
    }
}

/// The objects of one kind. A scrape and the counting both only read the map, so neither waits for the other.
#[derive(Debug)]
pub(super) struct Objects {
    kind: ObjectKind,
    series: RwLock<HashMap<Key, Series>>,
}

impl Objects {
    pub(super) fn new(kind: ObjectKind) -> Self {
        Self { kind, series: RwLock::default() }
    }

    pub(super) fn synced(&self, namespace: &str, name: &str, failed: bool) {
        let key = Key::new(namespace, name);
        if let Some(series) = self.read().get(&key) {
            return series.count(failed);
        }
        self.write().entry(key).or_default().count(failed);
    }

    pub(super) fn condition(&self, namespace: &str, name: &str, ready: Ready) {
        let key = Key::new(namespace, name);
        let known = self.read().get(&key).and_then(|series| series.ready);
        if known != Some(ready) {
            self.write().entry(key).or_default().ready = Some(ready);
        }
    }

    pub(super) fn remove(&self, namespace: &str, name: &str) {
        self.write().remove(&Key::new(namespace, name));
    }

    /// Bytes in use: the table, at its one byte of control an entry, and the text of the keys.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        let series = self.read();
        let texts: usize = series.keys().map(|key| key.namespace.len() + key.name.len()).sum();
        series.capacity() * (size_of::<(Key, Series)>() + 1) * 8 / 7 + texts
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<Key, Series>> {
        self.series.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<Key, Series>> {
        self.series.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let series = self.read();
        if self.kind == ObjectKind::ExternalSecret {
            let mut out = encoder.encode_descriptor(
                "externalsecret_sync_calls",
                "Syncs of an ExternalSecret",
                None,
                MetricType::Counter,
            )?;
            for (key, s) in series.iter() {
                ConstCounter::new(s.synced.load(Ordering::Relaxed)).encode(out.encode_family(&labels(key))?)?;
            }
            let mut out = encoder.encode_descriptor(
                "externalsecret_sync_calls_error",
                "Syncs of an ExternalSecret that failed",
                None,
                MetricType::Unknown,
            )?;
            for (key, s) in series.iter() {
                out.encode_family(&labels(key))?.encode_gauge(&s.failed.load(Ordering::Relaxed))?;
            }
        }
        let help = "1 for the status that a condition of the object has";
        let mut out = encoder.encode_descriptor(self.kind.condition_metric(), help, None, MetricType::Gauge)?;
        for (key, s) in series.iter() {
            let Some(ready) = s.ready else { continue };
            for status in [Ready::True, Ready::False, Ready::Unknown] {
                // As ESO: the status that holds is 1, its opposite 0; Unknown shows only while it holds.
                if status != Ready::Unknown || ready == Ready::Unknown {
                    let [namespace, name] = labels(key);
                    let labels = [name, namespace, ("condition", "Ready"), ("status", status.as_str())];
                    ConstGauge::new(i64::from(ready == status)).encode(out.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn labels(key: &Key) -> [(&'static str, &str); 2] {
    [("namespace", &key.namespace), ("name", &key.name)]
}

/// All kinds, as a collector.
#[derive(Debug)]
pub(super) struct Collect(pub(super) Arc<[Objects; ObjectKind::ALL.len()]>);

impl Collector for Collect {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|objects| objects.encode(&mut encoder))
    }
}
