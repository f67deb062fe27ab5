//! Series that exist for each store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;

use super::SECONDS;
use crate::api::StoreKind;
use crate::index::StoreId;

/// A store, as labels name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoreLabels {
    /// `SecretStore` or `ClusterSecretStore`.
    pub kind: StoreKind,
    /// Namespace; empty for a ClusterSecretStore.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl StoreLabels {
    /// The labels of a store.
    #[must_use]
    pub fn of(id: &StoreId) -> Self {
        Self { kind: id.kind, namespace: id.key.namespace.to_string(), name: id.key.name.to_string() }
    }

    fn pairs(&self) -> [(&'static str, &str); 3] {
        [("store_kind", self.kind.as_str()), ("store_namespace", &self.namespace), ("store", &self.name)]
    }
}

/// Provider and outcome of a call.
type CallKey = (&'static str, &'static str);

/// Durations of calls to providers.
#[derive(Debug, Default)]
pub(super) struct StoreCalls(RwLock<BTreeMap<StoreLabels, BTreeMap<CallKey, Histogram>>>);

impl StoreCalls {
    pub(super) fn observe(&self, store: &StoreLabels, provider: &'static str, outcome: &'static str, took: Duration) {
        let key = (provider, outcome);
        if let Some(histogram) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(store).and_then(|s| s.get(&key)) {
            return histogram.observe(took.as_secs_f64());
        }
        let mut stores = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let calls = stores.entry(store.clone()).or_default();
        calls.entry(key).or_insert_with(|| Histogram::new(SECONDS)).observe(took.as_secs_f64());
    }

    pub(super) fn remove(&self, store: &StoreLabels) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(store);
    }
}

impl Collector for StoreCalls {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let name = "keyferry_provider_call_duration_seconds";
        let mut out =
            encoder.encode_descriptor(name, "Time that one call to a provider took", None, MetricType::Histogram)?;
        for (store, calls) in &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            for ((provider, outcome), histogram) in calls {
                let [kind, namespace, name] = store.pairs();
                let labels = [kind, namespace, name, ("provider", provider), ("outcome", outcome)];
                histogram.encode(out.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

type Ages = Box<dyn Fn() -> Vec<(StoreLabels, Duration)> + Send + Sync>;

/// The age of the oldest value in use, asked for at each scrape.
#[derive(Default)]
pub(super) struct ValueAges(OnceLock<Ages>);

impl ValueAges {
    pub(super) fn set(&self, ages: Ages) {
        // Who comes second has nothing to add: there is one cache.
        let _ = self.0.set(ages);
    }
}

impl fmt::Debug for ValueAges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValueAges")
    }
}

impl Collector for ValueAges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(ages) = self.0.get() else { return Ok(()) };
        let help = "Age of the oldest value that a Secret was made of";
        let mut out = encoder.encode_descriptor("keyferry_oldest_value_age_seconds", help, None, MetricType::Gauge)?;
        for (store, age) in ages() {
            ConstGauge::new(age.as_secs_f64()).encode(out.encode_family(&store.pairs())?)?;
        }
        Ok(())
    }
}
