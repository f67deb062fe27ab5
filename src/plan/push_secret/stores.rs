//! Which stores a PushSecret pushes to, what is no longer wanted there, and which stores must wait for it to be deleted.

use std::collections::BTreeSet;

use super::{Facts, Failure, Removal, Removals, entries, entry_key, store_key};
use crate::api::push_secret::{PushData, PushStoreRef, SyncedPushSecrets};
use crate::api::{AnyStore, FINALIZER_STORE, PushSecret, StoreKind};
use crate::index::{Key, StoreId};
use crate::plan::{Note, Rules, access};

/// The stores of the spec, in its order, each once. Those of another controller and those in deletion are left out.
///
/// # Errors
/// A store that is named is not there, or none is left that is ours.
pub fn targets(facts: &Facts, rules: &Rules) -> Result<Vec<StoreId>, Failure> {
    let namespace = namespace(&facts.ps);
    let (mut found, mut seen, mut foreign, mut leaving) = (Vec::new(), BTreeSet::new(), false, None);
    for reference in &facts.ps.spec.secret_store_refs {
        for id in resolved(reference, namespace, facts)? {
            let Some(store) = facts.stores.get(&id) else { continue };
            if !is_ours(store, rules) {
                foreign = true;
            } else if store.metadata.deletion_timestamp.is_some() {
                leaving = Some(id);
            } else if seen.insert(id.clone()) {
                found.push(id);
            }
        }
    }
    match (found.is_empty(), leaving, foreign) {
        (false, ..) | (true, None, true) => Ok(found),
        (true, Some(id), _) => Err(Failure::spec(format!("{} {:?} is being deleted", id.kind, id.key.name))),
        (true, None, false) => Err(Failure::spec("no store matches spec.secretStoreRefs: check names, labels and kinds")),
    }
}

/// The stores that one reference means.
fn resolved(reference: &PushStoreRef, namespace: &str, facts: &Facts) -> Result<Vec<StoreId>, Failure> {
    if let Some(selector) = &reference.label_selector {
        if let Some(fault) = access::fault(selector) {
            return Err(Failure::spec(format!("could not convert labels: {fault}")));
        }
        let matching = facts.stores.values().filter(|store| means(reference, namespace, store));
        return Ok(matching.map(|store| StoreId::of(store)).collect());
    }
    let Some(name) = reference.name.as_deref().filter(|n| !n.is_empty()) else {
        return Err(Failure::spec("refStore Name must be provided"));
    };
    let id = id(reference.kind.unwrap_or_default(), namespace, name);
    if facts.stores.contains_key(&id) {
        return Ok(vec![id]);
    }
    let kind = id.kind;
    Err(Failure::spec(format!("could not get {kind} {name:?}, {kind}.external-secrets.io {name:?} not found")))
}

/// The stores that a PushSecret's spec means by name.
#[must_use]
pub fn named(ps: &PushSecret) -> BTreeSet<StoreId> {
    let references = ps.spec.secret_store_refs.iter().filter(|r| r.label_selector.is_none());
    let names = references.filter_map(|r| Some((r.kind.unwrap_or_default(), r.name.as_deref().filter(|n| !n.is_empty())?)));
    names.map(|(kind, name)| id(kind, namespace(ps), name)).collect()
}

fn id(kind: StoreKind, namespace: &str, name: &str) -> StoreId {
    let namespace = if kind == StoreKind::ClusterSecretStore { "" } else { namespace };
    StoreId { kind, key: Key::new(namespace, name) }
}

fn namespace(ps: &PushSecret) -> &str {
    ps.metadata.namespace.as_deref().unwrap_or_default()
}

/// Whether a reference means a store, seen from a namespace: a SecretStore of another namespace never (GHSA-fcxq-v2r3-cc8h).
fn means(reference: &PushStoreRef, namespace: &str, store: &AnyStore) -> bool {
    if reference.kind.unwrap_or_default() != store.kind
        || (store.kind == StoreKind::SecretStore && store.namespace() != Some(namespace))
    {
        return false;
    }
    match &reference.label_selector {
        Some(selector) => access::selects(selector, &store.metadata.labels.clone().unwrap_or_default()),
        None => reference.name.as_deref() == Some(store.name()),
    }
}

/// Whether a PushSecret's spec means a store, or its status says that something was pushed there.
#[must_use]
pub fn uses(ps: &PushSecret, store: &AnyStore) -> bool {
    refers(ps, store) || has_pushed(ps, store)
}

fn refers(ps: &PushSecret, store: &AnyStore) -> bool {
    ps.spec.secret_store_refs.iter().any(|r| means(r, namespace(ps), store))
}

fn has_pushed(ps: &PushSecret, store: &AnyStore) -> bool {
    let id = StoreId::of(store);
    let visible = store.kind == StoreKind::ClusterSecretStore || store.namespace() == Some(namespace(ps));
    let synced = ps.status.as_ref().and_then(|s| s.synced_push_secrets.as_ref());
    visible && synced.is_some_and(|s| s.get(&store_key(&id)).is_some_and(|entries| !entries.is_empty()))
}

fn is_ours(store: &AnyStore, rules: &Rules) -> bool {
    store.spec.controller.as_deref().is_none_or(|c| c.is_empty() || c == rules.class)
}

/// Whether the PushSecret's namespace may use the store.
///
/// # Errors
/// ESO's text.
pub fn allowed(facts: &Facts, store: &AnyStore) -> Result<(), Failure> {
    access::admit(store, namespace(&facts.ps), facts.namespace_labels.as_deref()).map_err(Failure::spec)
}

/// What was pushed and is not among what is wanted. The status is no authority: a store that it names is one of the
/// PushSecret's own namespace or the cluster's, and the right to use it is checked for each deletion.
#[must_use]
pub fn removals(facts: &Facts, rules: &Rules, wanted: &SyncedPushSecrets) -> Removals {
    let mut removals = Removals::default();
    let synced = facts.ps.status.as_ref().and_then(|s| s.synced_push_secrets.clone()).unwrap_or_default();
    let leaving = facts.ps.metadata.deletion_timestamp.is_some();
    for (key, pushed) in synced {
        let Some(id) = parsed(&key, namespace(&facts.ps)) else { continue };
        let store = facts.stores.get(&id);
        let unserved = id.kind == StoreKind::ClusterSecretStore && !rules.cluster_stores;
        if unserved || store.is_some_and(|store| !is_ours(store, rules)) {
            // of nothing, nothing is left
            if !pushed.is_empty() {
                removals.kept.insert(key, pushed);
            }
            continue;
        }
        let there = wanted.get(&key);
        let gone = pushed.into_iter().filter(|(entry, data)| {
            !there.is_some_and(|t| t.contains_key(entry) || t.values().any(|wanted| overlap(wanted, data)))
        });
        let delete: Vec<Removal> = gone
            .map(|(entry, data)| {
                let place = entries::place(&data, namespace(&facts.ps));
                Removal { store: id.clone(), store_key: key.clone(), entry, place }
            })
            .collect();
        let stays = match store {
            None => Some(format!("{key} is gone")),
            // its namespace lost the right to use the store: that must not keep it from being deleted
            Some(store) if leaving => allowed(facts, store).err().map(|failure| failure.message),
            Some(_) => None,
        };
        match stays {
            Some(why) if !delete.is_empty() => {
                let places = delete.iter().map(|r| r.entry.as_str()).collect::<Vec<_>>().join(", ");
                let text = format!("{why}: what was pushed there stays there: {places}");
                removals.notes.push(Note::warning(super::ERRORED, text));
            }
            Some(_) => {}
            None => removals.delete.extend(delete),
        }
    }
    removals
}

/// Whether one of two places is part of the other: taking one away would take what is pushed to the other.
fn overlap(wanted: &PushData, gone: &PushData) -> bool {
    let [wanted, gone] = [wanted, gone].map(|data| entries::place(data, ""));
    let parts = [wanted.property(), gone.property()];
    wanted.key == gone.key && (parts.contains(&None) || parts[0] == parts[1])
}

/// A store out of its name in the status.
#[must_use]
pub fn parsed(key: &str, namespace: &str) -> Option<StoreId> {
    let (kind, name) = key.split_once('/')?;
    let kind = [StoreKind::SecretStore, StoreKind::ClusterSecretStore].into_iter().find(|k| k.as_str() == kind)?;
    Some(id(kind, namespace, name))
}

/// Whether a store in deletion still holds something of it: it is to go, so that the store can.
pub(super) fn is_left(facts: &Facts, rules: &Rules) -> bool {
    let leaves = |store: &AnyStore| is_leaving(store) && is_ours(store, rules) && has_pushed(&facts.ps, store);
    facts.ps.deletes() && facts.stores.values().any(|store| leaves(store))
}

fn is_leaving(store: &AnyStore) -> bool {
    store.metadata.deletion_timestamp.is_some()
}

/// What is left in stores in deletion, and is to go, and what is pushed elsewhere: what the status says of it, and `pushed`.
#[must_use]
pub fn left(facts: &Facts, rules: &Rules, pushed: SyncedPushSecrets) -> (Removals, SyncedPushSecrets) {
    let leaving = |id: &StoreId| facts.ps.deletes() && facts.stores.get(id).is_some_and(|store| is_leaving(store));
    let mut left = removals(facts, rules, &SyncedPushSecrets::new());
    left.delete.retain(|removal| leaving(&removal.store));
    let mut elsewhere = facts.ps.status.as_ref().and_then(|s| s.synced_push_secrets.clone()).unwrap_or_default();
    elsewhere.retain(|key, _| !parsed(key, namespace(&facts.ps)).is_some_and(|id| leaving(&id)));
    (left, super::merged(elsewhere, pushed))
}

/// Whether our finalizer is to be put on a store, or taken off; `None` leaves it. It is there while a PushSecret of deletion
/// policy `Delete` means the store; once the store is being deleted, only while something is left in it.
#[must_use]
pub fn finalizer<'a>(store: &AnyStore, users: impl IntoIterator<Item = &'a PushSecret>) -> Option<bool> {
    let held = is_held(store);
    let leaving = store.metadata.deletion_timestamp.is_some();
    let needs = |ps: &PushSecret| {
        ps.deletes()
            && (has_pushed(ps, store) || (!leaving && ps.metadata.deletion_timestamp.is_none() && refers(ps, store)))
    };
    let needed = users.into_iter().any(needs);
    match (held, needed) {
        (false, true) if !leaving => Some(true),
        (true, false) => Some(false),
        _ => None,
    }
}

/// Whether our finalizer is on a store.
#[must_use]
pub fn is_held(store: &AnyStore) -> bool {
    store.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER_STORE)
}

/// Notes an entry as pushed.
pub fn note(synced: &mut SyncedPushSecrets, store: &StoreId, data: crate::api::push_secret::PushData) {
    synced.entry(store_key(store)).or_default().insert(entry_key(&data), data);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_part_of_another_is_not_taken_away_from_it() {
        let data = |key: &str, property: Option<&str>| -> PushData {
            let place = json!({"remoteKey": key, "property": property});
            serde_json::from_value(json!({"match": {"secretKey": "k", "remoteRef": place}})).unwrap()
        };
        for (wanted, gone, overlaps) in [
            (data("app", None), data("app", Some("user")), true),
            (data("app", Some("user")), data("app", None), true),
            (data("app", Some("user")), data("app", Some("user")), true),
            (data("app", Some("user")), data("app", Some("password")), false),
            (data("app", None), data("other", None), false),
        ] {
            assert_eq!(overlap(&wanted, &gone), overlaps, "{wanted:?} {gone:?}");
        }
    }
}
