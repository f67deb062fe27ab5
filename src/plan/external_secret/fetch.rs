//! What an ExternalSecret reads, and from which stores.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::words::{Facts, Failure, FetchPlan, Gathered, Next};
use super::{LATER, failed, generate, interval};
use crate::api::StoreKind;
use crate::fetch::Request;
use crate::index::StoreId;
use crate::plan::entries::{self, Entry};
use crate::plan::{Rules, Wake, access, failover, refresh};
use crate::providers::{ErrorKind, ProviderError};
use crate::queue::Priority;

/// Plans the reads, if all stores can be used.
pub(super) fn fetch(facts: &Facts, rules: &Rules, max_age: Duration, priority: Priority) -> Next {
    let es = &facts.es;
    let mut requests: BTreeMap<StoreId, BTreeSet<Request>> = BTreeMap::new();
    let mut stand_ins: BTreeMap<StoreId, Vec<StoreId>> = BTreeMap::new();
    let mut generate = Vec::new();
    for entry in entries::entries(es) {
        match generate::plan(facts, rules, &entry) {
            Ok(generate::Plan::Make(one)) => generate.push(one),
            Ok(generate::Plan::NoGenerator) => {}
            // its kind's first list is under way, and will wake us
            Ok(generate::Plan::Wait) => return Next::Idle(Wake::After(LATER, Priority::New)),
            Err(failure) => return Next::Settle(Box::new(failed(facts, &failure))),
        }
        let Some(request) = entry.request() else { continue };
        let id = entry.store(es);
        if let Err(failure) = admitted(facts, rules, &entry, &id) {
            return Next::Settle(Box::new(failed(facts, &failure)));
        }
        let mut substitutes = stand_ins_of(facts, rules, &entry, &id);
        // one of them gives what all entries read from the store: each must be able to name it
        if let Some(known) = stand_ins.get(&id) {
            substitutes.retain(|one| known.contains(one));
        }
        match ready(facts, rules, &entry, &id) {
            Ok(true) => {}
            // the read finds out whether it still is
            Err(_) if is_unavailable(facts, &id) && !substitutes.is_empty() => {}
            // its first check is under way, and will wake us
            Ok(false) => return Next::Idle(Wake::After(LATER, Priority::New)),
            Err(failure) => return Next::Settle(Box::new(failed(facts, &failure))),
        }
        stand_ins.insert(id.clone(), substitutes);
        requests.entry(id).or_default().insert(request);
    }
    let requests = requests.into_iter().map(|(id, set)| (id, set.into_iter().collect())).collect();
    let again = interval(es).ok().and_then(|interval| refresh::again(es, interval));
    Next::Fetch(FetchPlan {
        requests,
        stand_ins,
        generate,
        max_age,
        again,
        insist: priority != Priority::Periodic,
        priority,
    })
}

/// Whether there is a store that an entry may use, and that can be asked so. That it is unavailable changes nothing about it.
fn admitted(facts: &Facts, rules: &Rules, entry: &Entry<'_>, id: &StoreId) -> Result<(), Failure> {
    let refuse = |kind: ErrorKind, detail: String| Err(Failure::provider(&entry.place(), &ProviderError::new(kind, detail)));
    let name = &id.key.name;
    if id.kind == StoreKind::ClusterSecretStore && !rules.cluster_stores {
        let detail = format!(
            "ClusterSecretStore {name:?} cannot be used: this keyferry runs without cluster-wide rights (--namespaces, or \
             --enable-cluster-store-reconciler=false); use a SecretStore"
        );
        return refuse(ErrorKind::Unsupported, detail);
    }
    let Some(store) = facts.stores.get(id).and_then(|s| s.store.as_ref()) else {
        let detail = format!("could not get {} {name:?}, {}.external-secrets.io {name:?} not found", id.kind, id.kind);
        return refuse(ErrorKind::Misconfigured, detail);
    };
    let namespace = facts.es.metadata.namespace.as_deref().unwrap_or_default();
    let labels = facts.namespace_labels.as_deref();
    if let Err(detail) = access::admit(store, namespace, labels) {
        return refuse(ErrorKind::Misconfigured, detail);
    }
    if entry.finds_anything() && facts.provider(id).is_some_and(|provider| provider.needs_name_or_tags()) {
        let detail = "unexpected find operator: set find.name.regexp, find.tags, or both";
        return refuse(ErrorKind::Misconfigured, detail.to_owned());
    }
    Ok(())
}

/// Whether a store was found to be good; `false` while its first check is not over.
fn ready(facts: &Facts, rules: &Rules, entry: &Entry<'_>, id: &StoreId) -> Result<bool, Failure> {
    match facts.stores.get(id).and_then(|s| s.health.as_ref()) {
        None => Ok(false),
        Some(health) if health.ready || !rules.flood_gate => Ok(true),
        Some(health) => {
            let cause = if health.cause.is_empty() { String::new() } else { format!(": {}", health.cause) };
            let detail = format!("{} {:?} is not ready{cause}", id.kind, &*id.key.name);
            Err(Failure::provider(&entry.place(), &ProviderError::new(ErrorKind::Misconfigured, detail)))
        }
    }
}

/// Whether the last check of a store found that it is unavailable: another failure has another cure than reading elsewhere.
fn is_unavailable(facts: &Facts, id: &StoreId) -> bool {
    facts.stores.get(id).and_then(|known| known.health.as_ref()).is_some_and(|health| health.unavailable)
}

/// The stores that an entry may read from while its own is unavailable: those that it could name itself.
fn stand_ins_of(facts: &Facts, rules: &Rules, entry: &Entry<'_>, id: &StoreId) -> Vec<StoreId> {
    let store = facts.stores.get(id).and_then(|known| known.store.as_ref());
    let named = store.and_then(|store| failover::stand_ins(store).ok()).unwrap_or_default();
    let usable = |id: &StoreId| admitted(facts, rules, entry, id).and_then(|()| ready(facts, rules, entry, id));
    named.into_iter().filter(|id| usable(id) == Ok(true)).collect()
}

/// Says which stores were read from in place of others, if any.
pub(super) fn stood_in(gathered: &Gathered) -> Option<String> {
    let one = |(of, by): (&StoreId, &StoreId)| {
        format!("{} {:?} is unavailable: read from {} {:?}", of.kind, &*of.key.name, by.kind, &*by.key.name)
    };
    let all: Vec<_> = gathered.stood_in.iter().map(one).collect();
    (!all.is_empty()).then(|| all.join("; "))
}
