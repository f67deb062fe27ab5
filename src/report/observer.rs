//! What the fetch layer tells goes into metrics and, at debug level, into one line for each call.

use std::sync::Arc;

use super::metrics::{CacheResult, Metrics, ProviderCall, StoreLabels};
use crate::fetch::{CallReport, Lookup, Observer};

/// Tells the metrics.
pub struct MetricsObserver(pub Arc<Metrics>);

impl Observer for MetricsObserver {
    fn call(&self, call: &CallReport<'_>) {
        let store = StoreLabels::of(call.store);
        self.0.provider_call(ProviderCall {
            store: &store,
            provider: call.provider,
            call: call.call,
            error: call.outcome,
            took: call.took,
            requests: call.requests,
        });
        // with these, the provider's own records can be matched
        let ids: Vec<&str> = call.requests.iter().filter_map(|request| request.id.as_deref()).collect();
        tracing::debug!(
            store = %call.store,
            provider = call.provider,
            call = call.call,
            keys = call.keys,
            outcome = call.outcome.map_or("success", crate::providers::ErrorKind::as_str),
            milliseconds = call.took.as_secs_f64() * 1e3,
            cause = call.cx.cause,
            correlation = call.cx.correlation,
            request_ids = ids.join(","),
            "provider call"
        );
    }

    fn lookup(&self, lookup: Lookup) {
        self.0.cache_request(match lookup {
            Lookup::Hit => CacheResult::Hit,
            Lookup::Miss => CacheResult::Miss,
            Lookup::Shared => CacheResult::Coalesced,
        });
    }
}
