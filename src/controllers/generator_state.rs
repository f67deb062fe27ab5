//! The life of GeneratorStates: the lease of what they stand for is renewed, those whose day has come are deleted, and those in
//! deletion are cleaned up and let go.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use lru::LruCache;

use super::Ctx;
use super::watch::Change;
use crate::api::generators::{GROUP, GeneratorState, InvalidSpec, VERSION};
use crate::apply::error::WriteError;
use crate::generators::maker::Consumer;
use crate::index::Key;
use crate::plan::generator_state::{self as plan, Failed, Next};
use crate::plan::{Note, Wake};
use crate::providers::{ErrorKind, ProviderError};
use crate::queue::{Job, Priority, Queue};

/// The states that are known, and those to look at. There are few: one for each value in use, and some that wait to be cleaned up.
#[derive(Default)]
pub struct States {
    known: Mutex<Known>,
    /// States to look at.
    pub queue: Arc<Queue<Key>>,
}

/// Most states that we deleted and that are remembered until the watch tells that they are gone.
const MOST_DELETED: usize = 4096;

/// States; which belong to the object of a uid, and for how many of its values states are being made.
struct Known {
    states: HashMap<Key, Held>,
    by_owner: HashMap<String, BTreeSet<Key>>,
    noting: HashMap<String, usize>,
    /// Those that we deleted: what the watch, which lags behind, still tells of them is no news.
    deleted: LruCache<Key, ()>,
    /// The namespaces whose watch has listed all that there are, without a name the cluster's.
    listed: BTreeSet<Option<String>>,
}

impl Default for Known {
    fn default() -> Self {
        let (states, by_owner, noting) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { states, by_owner, noting, deleted: LruCache::unbounded(), listed: BTreeSet::new() }
    }
}

impl Known {
    /// Whether a watch tells when a state of a namespace is gone.
    fn is_watched(&self, namespace: &str) -> bool {
        self.listed.contains(&None) || self.listed.contains(&Some(namespace.to_owned()))
    }

    fn remove(&mut self, key: &Key) {
        let gone = self.states.remove(key);
        if let Some(uid) = gone.as_ref().and_then(|held| owner(&held.state)).map(|owner| owner.uid.as_str())
            && let Some(keys) = self.by_owner.get_mut(uid)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(uid);
            }
        }
    }
}

/// A state, and what became of the work on it.
#[derive(Clone)]
struct Held {
    state: Arc<GeneratorState>,
    /// Failures in a row of what is to be done with it.
    failures: u32,
    /// What it stands for is taken back: only the state itself is left.
    cleaned: bool,
    /// Another value took the place of its own, whether or not that could be noted.
    replaced: bool,
}

/// While it lives, a state that appears for the object of a uid is one that its own sync makes.
#[must_use]
pub struct Noting<'a> {
    states: &'a States,
    uid: String,
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        let mut known = self.states.lock();
        if let Some(count) = known.noting.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                known.noting.remove(&self.uid);
            }
        }
    }
}

impl States {
    /// A state is made for the object of that uid now.
    pub fn noting(&self, uid: &str) -> Noting<'_> {
        *self.lock().noting.entry(uid.to_owned()).or_default() += 1;
        Noting { states: self, uid: uid.to_owned() }
    }

    /// A state appeared, changed or is gone. Gives the object that must know, as what was made for it must be replaced earlier than it
    /// knows: not what a sync of its own does, which would follow itself without a pause where it fails.
    pub fn on_change(&self, change: Change<GeneratorState>) -> Option<OwnerReference> {
        match change {
            Change::Upsert(state) => {
                let key = Key::of(&state.metadata);
                let owner = owner(&state).filter(|owner| self.is_news(&key, &state, owner)).cloned();
                self.renew(state);
                self.queue.wake(key, Priority::Changed);
                owner
            }
            Change::Gone(key) => {
                let mut known = self.lock();
                known.deleted.pop(&key);
                known.remove(&key);
                drop(known);
                self.queue.gone(key, Priority::Periodic);
                None
            }
            Change::Invalid(meta, why) => {
                tracing::warn!(state = %Key::of(&meta), why, "a GeneratorState cannot be understood and is left alone");
                None
            }
        }
    }

    /// Whether a state says what its owner does not know.
    fn is_news(&self, key: &Key, state: &GeneratorState, owner: &OwnerReference) -> bool {
        let known = self.lock();
        match known.states.get(key) {
            Some(held) => !is_older(state, &held.state) && plan::comes_sooner(state, Some(&held.state)),
            None if known.deleted.contains(key) => false,
            None => !known.noting.contains_key(&owner.uid) && plan::comes_sooner(state, None),
        }
    }

    /// Takes a state as our own write left it, or as the watch brings it, whichever is later.
    pub fn renew(&self, state: GeneratorState) {
        let key = Key::of(&state.metadata);
        let mut known = self.lock();
        if known.deleted.contains(&key) {
            return;
        }
        let same = |held: &&Held| held.state.metadata.uid == state.metadata.uid;
        let replaced = known.states.get(&key).filter(same).is_some_and(|held| held.replaced);
        let (failures, cleaned) = match known.states.get(&key) {
            Some(held) if is_older(&state, &held.state) => return,
            // what failed before its deletion was something else
            Some(held) if is_same_work(&state, &held.state) => (held.failures, held.cleaned),
            _ => (0, false),
        };
        if let Some(owner) = owner(&state) {
            known.by_owner.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        known.states.insert(key, Held { state: Arc::new(state), failures, cleaned, replaced });
    }

    /// The watch of a namespace, or of the cluster, has listed the states that there are.
    pub fn listed(&self, namespace: Option<&str>) {
        self.lock().listed.insert(namespace.map(str::to_owned));
    }

    /// Takes a state as it is noted when it is cleaned up. Where no watch would tell that it is gone, it is not held any longer: a watch
    /// that comes later brings it.
    pub fn retire(&self, state: GeneratorState) {
        let key = Key::of(&state.metadata);
        let mut known = self.lock();
        if known.is_watched(&key.namespace) {
            drop(known);
            self.renew(state);
        } else {
            known.remove(&key);
        }
    }

    /// The object of that uid is gone, and its states go with it: where no watch would tell of that, they are not held any longer.
    pub fn disown(&self, uid: &str) {
        let mut known = self.lock();
        let keys = known.by_owner.get(uid).cloned().unwrap_or_default();
        for key in &keys {
            if !known.is_watched(&key.namespace) {
                known.remove(key);
            }
        }
    }

    /// When what was generated for the object of that uid must be replaced, as its lease ends. `labels`: those of its entries as they are
    /// now, asked for where it has states at all. One that was replaced calls for nothing, also where nobody could note that: it would
    /// have another value made at every look.
    #[must_use]
    pub fn replace_at(&self, uid: &str, labels: impl FnOnce() -> BTreeSet<String>) -> Option<Timestamp> {
        let states = self.held_of(uid, |held| !held.replaced);
        if states.is_empty() {
            return None;
        }
        let labels = labels();
        let current = states.iter().filter(|state| plan::label(state).is_some_and(|label| labels.contains(label)));
        current.filter_map(|state| plan::replace_at(state)).min()
    }

    /// The states of the object of that uid.
    #[must_use]
    pub fn of(&self, uid: &str) -> Vec<Arc<GeneratorState>> {
        self.held_of(uid, |_| true)
    }

    fn held_of(&self, uid: &str, which: impl Fn(&Held) -> bool) -> Vec<Arc<GeneratorState>> {
        let known = self.lock();
        let keys = known.by_owner.get(uid).into_iter().flatten();
        keys.filter_map(|key| known.states.get(key)).filter(|held| which(held)).map(|held| held.state.clone()).collect()
    }

    /// All that are held, of a namespace or of all: a watch that was broken may have missed that one of them is gone.
    #[must_use]
    pub fn keys(&self, namespace: Option<&str>) -> Vec<Key> {
        let known = self.lock();
        known.states.keys().filter(|key| namespace.is_none_or(|namespace| *key.namespace == *namespace)).cloned().collect()
    }

    /// Another value took the place of a state's own.
    pub fn set_replaced(&self, key: &Key) {
        if let Some(held) = self.lock().states.get_mut(key) {
            held.replaced = true;
        }
    }

    /// We deleted a state. No watch need tell of it.
    pub fn forget(&self, key: &Key) {
        let mut known = self.lock();
        known.remove(key);
        known.deleted.put(key.clone(), ());
        if known.deleted.len() > MOST_DELETED {
            known.deleted.pop_lru();
        }
    }

    fn get(&self, key: &Key) -> Option<Held> {
        self.lock().states.get(key).cloned()
    }

    fn set_failures(&self, key: &Key, failures: u32) {
        if let Some(held) = self.lock().states.get_mut(key) {
            held.failures = failures;
        }
    }

    fn set_cleaned(&self, key: &Key) {
        if let Some(held) = self.lock().states.get_mut(key) {
            held.cleaned = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owner(state: &GeneratorState) -> Option<&OwnerReference> {
    state.metadata.owner_references.iter().flatten().next()
}

/// Whether the same is to be done with two versions of a state: renew, or clean up.
fn is_same_work(state: &GeneratorState, held: &GeneratorState) -> bool {
    let is_deleted = |state: &GeneratorState| state.metadata.deletion_timestamp.is_some();
    state.metadata.uid == held.metadata.uid && is_deleted(state) == is_deleted(held)
}

/// Whether a state is an earlier version of the same object.
fn is_older(state: &GeneratorState, held: &GeneratorState) -> bool {
    let version = |state: &GeneratorState| state.metadata.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
    state.metadata.uid == held.metadata.uid && version(state) < version(held)
}

/// Looks at one state, does what is due, and says when it is next.
pub async fn reconcile(ctx: Arc<Ctx>, job: Job<Key>) -> Wake {
    let object = format!("GeneratorState/{}", job.key);
    let Some(held) = ctx.states.get(&job.key) else {
        ctx.retries.done(&object);
        return Wake::OnChange;
    };
    let state = &held.state;
    let written = match plan::next(state, Timestamp::now()) {
        Next::Renew => return renew(&ctx, &job.key, state, held.failures).await,
        Next::Nothing => return Wake::OnChange,
        Next::Wait(time) => return Wake::After(time, Priority::Periodic),
        Next::Delete => ctx.writer.delete_state(&job.key, state.metadata.uid.as_deref().unwrap_or_default()).await,
        Next::CleanUp => match take_back(&ctx, &job.key, &held).await {
            Some(pause) => return Wake::After(pause, Priority::Periodic),
            None => ctx.writer.release_state(state).await,
        },
    };
    match written {
        Ok(()) | Err(WriteError::Gone | WriteError::NotLeader) => {
            ctx.retries.done(&object);
            Wake::OnChange
        }
        Err(error) => {
            let pause = ctx.retries.failed(&object, &error, "a GeneratorState could not be written");
            Wake::After(pause, Priority::Changed)
        }
    }
}

/// Takes back what a state stands for, once: a state that cannot be let go does not have the provider asked again. Gives how long to
/// wait where that must be tried again.
async fn take_back(ctx: &Ctx, key: &Key, held: &Held) -> Option<Duration> {
    if held.cleaned {
        return None;
    }
    if let Err(error) = clean_up(ctx, key, &held.state).await {
        let failures = held.failures + 1;
        match plan::failed(&held.state, error.kind, error.retry_after, failures, Timestamp::now()) {
            Failed::Retry(time) => {
                ctx.states.set_failures(key, failures);
                tell(ctx, &held.state, held.failures, "CleanupFailed", format!("unable to clean up: {error}"));
                return Some(time);
            }
            Failed::Ended => tracing::info!(state = %key, "the lease of what a generator made has ended by itself"),
            Failed::LetGo => {
                let message = format!("let go without cleaning up; what was made may still be there: {error}");
                tell(ctx, &held.state, 0, "CleanupFailed", message);
            }
        }
    } else {
        tracing::info!(state = %key, "what a generator made was taken back");
    }
    ctx.states.set_cleaned(key);
    None
}

/// Renews the lease of a state's value, and tells the object that uses it where it must be replaced earlier now.
async fn renew(ctx: &Ctx, key: &Key, state: &GeneratorState, failures: u32) -> Wake {
    let asked = Timestamp::now();
    let held = serde_json::Value::Object(state.spec.state.0.clone());
    let renewed = match plan::generator(state).map_err(invalid) {
        Ok((name, spec)) => {
            let cause = format!("GeneratorState/{key}");
            ctx.maker.renew(Consumer { cause: &cause, namespace: &key.namespace, generator: &name }, &spec, &held).await
        }
        Err(error) => Err(error),
    };
    let renewed = match renewed {
        Ok(renewed) => renewed.map(|renewed| (renewed.granted, renewed.state)),
        Err(error) => {
            ctx.states.set_failures(key, failures + 1);
            tell(ctx, state, failures, "RenewalFailed", format!("unable to renew the lease: {error}"));
            let pause = plan::renew_again(state, error.kind, error.retry_after, failures + 1, Timestamp::now());
            return Wake::After(pause, Priority::Periodic);
        }
    };
    let Some(holds) = plan::renewed(state, renewed, asked) else { return Wake::OnChange };
    let object = format!("GeneratorState/{key}");
    match ctx.writer.update_state(state, &holds).await {
        Ok(written) => {
            ctx.retries.done(&object);
            let sooner = written.as_ref().is_some_and(|written| plan::comes_sooner(written, Some(state)));
            let next = noted(&ctx.states, key, written);
            if let Some(owner) = owner(state).filter(|_| sooner) {
                wake(ctx, &key.namespace, owner);
            }
            next
        }
        Err(WriteError::Gone | WriteError::NotLeader) => Wake::OnChange,
        Err(error) => {
            let pause = ctx.retries.failed(&object, &error, "a lease was renewed and that could not be noted");
            Wake::After(pause, Priority::Changed)
        }
    }
}

/// The lease of a state was renewed, and that was written. `None`: the state is gone, and nothing is left to be renewed.
fn noted(states: &States, key: &Key, written: Option<GeneratorState>) -> Wake {
    let Some(written) = written else {
        states.forget(key);
        return Wake::OnChange;
    };
    states.set_failures(key, 0);
    states.renew(written);
    // its own version of it is looked at next
    Wake::After(Duration::ZERO, Priority::Periodic)
}

/// A state appeared, changed or is gone.
pub fn on_change(ctx: &Ctx, change: Change<GeneratorState>) {
    let namespace = match &change {
        Change::Upsert(state) => state.metadata.namespace.clone().unwrap_or_default(),
        _ => String::new(),
    };
    if let Some(owner) = ctx.states.on_change(change) {
        wake(ctx, &namespace, &owner);
    }
}

/// Has the owner of a state looked at: what it may keep of a generated value depends on the lease.
fn wake(ctx: &Ctx, namespace: &str, owner: &OwnerReference) {
    let key = Key::new(namespace, &owner.name);
    match owner.kind.as_str() {
        "ExternalSecret" => ctx.external_secrets.wake(key, Priority::Periodic),
        "PushSecret" => ctx.push_secrets.wake(key, Priority::Periodic),
        _ => {}
    }
}

fn invalid(error: InvalidSpec) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, error.to_string())
}

async fn clean_up(ctx: &Ctx, key: &Key, state: &GeneratorState) -> Result<(), ProviderError> {
    let (name, spec) = plan::generator(state).map_err(invalid)?;
    let cause = format!("GeneratorState/{key}");
    let consumer = Consumer { cause: &cause, namespace: &key.namespace, generator: &name };
    ctx.maker.clean_up(consumer, &spec, &serde_json::Value::Object(state.spec.state.0.clone())).await
}

/// Tells of a failure: the first of a row as an event.
fn tell(ctx: &Ctx, state: &GeneratorState, failures: u32, reason: &'static str, message: String) {
    let meta = &state.metadata;
    tracing::warn!(state = %Key::of(meta), message, "a GeneratorState is not as it should be");
    if failures > 0 {
        return;
    }
    let reference = ObjectReference {
        api_version: Some(format!("{GROUP}/{VERSION}")),
        kind: Some("GeneratorState".into()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..ObjectReference::default()
    };
    ctx.events.record(reference, Note::warning(reason, message));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn failures_count_for_one_task_of_one_state() {
        let states = States::default();
        let key = Key::new("ns", "s");
        let renew = |uid: &str, version: &str, deleted: Value| {
            let metadata = json!({ "name": "s", "namespace": "ns", "uid": uid, "resourceVersion": version,
                                   "deletionTimestamp": deleted });
            let state = json!({ "metadata": metadata, "spec": { "resource": {}, "state": {} } });
            states.renew(serde_json::from_value(state).unwrap());
            let held = states.get(&key).unwrap();
            (held.failures, held.cleaned)
        };
        let deleted = || json!("2026-06-01T12:00:00Z");
        assert_eq!(renew("a", "1", Value::Null), (0, false));
        states.set_failures(&key, 3);
        assert_eq!(renew("a", "2", Value::Null), (3, false));
        assert_eq!(renew("a", "3", deleted()), (0, false), "the first clean-up that fails is told");
        states.set_failures(&key, 1);
        states.set_cleaned(&key);
        assert_eq!(renew("a", "4", deleted()), (1, true), "the provider is not asked again");
        assert_eq!(renew("b", "5", deleted()), (0, false), "another of that name");
    }

    /// Else its lease is renewed without a pause for as long as the watch is broken, or if there is none.
    #[test]
    fn the_lease_of_a_state_that_is_gone_is_not_renewed_again() {
        let (states, key) = (States::default(), Key::new("ns", "s"));
        let state = |version: &str| -> GeneratorState {
            let metadata = json!({ "name": "s", "namespace": "ns", "uid": "a", "resourceVersion": version });
            serde_json::from_value(json!({ "metadata": metadata, "spec": { "resource": {}, "state": {} } })).unwrap()
        };
        states.renew(state("1"));
        assert_eq!(noted(&states, &key, Some(state("2"))), Wake::After(Duration::ZERO, Priority::Periodic));
        assert_eq!((states.keys(Some("ns")), states.keys(Some("other"))), (vec![key.clone()], Vec::new()));
        assert_eq!(noted(&states, &key, None), Wake::OnChange);
        assert!(states.get(&key).is_none() && states.keys(None).is_empty());
        states.renew(state("2"));
        assert!(states.get(&key).is_none(), "the watch lags behind");
        states.on_change(Change::Gone(key.clone()));
        states.renew(state("3"));
        assert!(states.get(&key).is_some(), "another one of its name");
    }
}
