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
            // what ends after its store makes no series of it again
            store: (!call.deleted).then_some(&store),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::StoreKind;
    use crate::index::{Key, StoreId};
    use crate::providers::CallCx;

    #[test]
    fn a_call_that_ends_after_its_store_makes_no_series_of_it() {
        let metrics = Arc::new(Metrics::default());
        let (observer, cx) = (MetricsObserver(metrics.clone()), CallCx::default());
        let store = StoreId { kind: StoreKind::SecretStore, key: Key::new("a", "aws") };
        for (deleted, series, calls) in [(true, false, 1), (false, true, 2)] {
            observer.call(&CallReport {
                store: &store,
                deleted,
                provider: "AWS/SecretsManager",
                call: "Get",
                keys: 1,
                outcome: None,
                took: Duration::from_millis(20),
                requests: &[],
                cx: &cx,
            });
            let told = metrics.encode().unwrap();
            assert_eq!(told.contains("keyferry_provider_call_duration_seconds_count{"), series);
            let counted = told.lines().find(|line| line.starts_with("externalsecret_provider_api_calls_count{")).unwrap();
            assert!(counted.ends_with(&format!(" {calls}")), "{counted}: it went out all the same");
        }
    }
}
