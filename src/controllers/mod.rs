//! The shell around the plans: watches feed the index, queues hand out objects, each is gathered, planned, carried out, told.

pub mod external_secret;
pub mod fan_out;
pub mod gather;
pub mod generate;
pub mod generator_state;
pub mod generators;
pub mod manifest;
pub mod push_secret;
pub mod retries;
pub mod store;
pub mod template;
pub mod watch;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::manifest::Manifests;
use crate::api::StoreKind;
use crate::api::fan_out::ParentKind;
use crate::apply::Writer;
use crate::fetch::Fetcher;
use crate::generators::maker::Maker;
use crate::index::{Index, Key, ParentId, StoreId};
use crate::plan::digest::Digester;
use crate::plan::external_secret::Memory;
use crate::plan::{Note, Rules, Wake};
use crate::queue::{Job, Priority, Queue};
use crate::report::events::Events;
use crate::report::metrics::{Metrics, ObjectKind, StoreLabels, Turn};

/// Everything that a reconcile needs.
pub struct Ctx {
    /// What is known of the cluster.
    pub index: RwLock<Index>,
    /// What this process remembers of each ExternalSecret.
    pub memory: Mutex<HashMap<Key, Memory>>,
    /// When a refresh was last asked for by annotation.
    pub forced: Forced,
    /// ExternalSecrets to look at.
    pub external_secrets: Arc<Queue<Key>>,
    /// PushSecrets to look at.
    pub push_secrets: Arc<Queue<Key>>,
    /// ClusterExternalSecrets and ClusterPushSecrets to look at.
    pub parents: Arc<Queue<ParentId>>,
    /// Stores to check.
    pub stores: Arc<Queue<StoreId>>,
    /// The way to the providers.
    pub fetcher: Fetcher,
    /// The way to the generators.
    pub maker: Maker,
    /// Asks for watches of generators.
    pub wanted_generators: generators::Wanted,
    /// What generators made and must take back.
    pub states: generator_state::States,
    /// How long after a value went out of use its state is cleaned up.
    pub state_grace: Duration,
    /// The way to Kubernetes.
    pub writer: Writer,
    /// What could not be written there.
    pub retries: retries::Retries,
    /// Makes keyed hashes.
    pub digester: Digester,
    /// Events.
    pub events: Events,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// Settings that decide something.
    pub rules: Rules,
    /// The kinds that targets other than Secrets have.
    pub manifests: Manifests,
    /// One lock for some of the Secrets: two ExternalSecrets with one target are not carried out at once.
    pub targets: Vec<tokio::sync::Mutex<()>>,
    /// As many objects' templates are rendered at once.
    pub renders: Semaphore,
}

impl Ctx {
    /// The index, to read.
    pub fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index, to write.
    pub fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is remembered of the ExternalSecrets.
    pub fn memory(&self) -> MutexGuard<'_, HashMap<Key, Memory>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What generating needs.
    pub fn generating(&self) -> generate::Tools<'_> {
        generate::Tools { maker: &self.maker, writer: &self.writer, states: &self.states, grace: self.state_grace }
    }

    /// Renders templates, which may take their time, and keeps nothing else that is under way waiting.
    pub async fn rendering<T>(&self, render: impl FnOnce() -> T) -> T {
        let _place = self.renders.acquire().await;
        tokio::task::block_in_place(render)
    }

    /// The lock of a Secret.
    pub async fn lock_target(&self, key: &Key) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        use std::hash::{Hash as _, Hasher as _};
        let mut hasher = std::hash::DefaultHasher::new();
        key.hash(&mut hasher);
        let locks = u64::try_from(self.targets.len()).unwrap_or(u64::MAX).max(1);
        let slot = usize::try_from(hasher.finish() % locks).unwrap_or_default();
        match self.targets.get(slot) {
            Some(lock) => Some(lock.lock().await),
            None => None,
        }
    }
}

/// When a refresh was last asked for by annotation, for the ExternalSecrets where that is not done yet.
#[derive(Default)]
pub struct Forced(Mutex<HashMap<Key, Instant>>);

impl Forced {
    /// Notes that a refresh is asked for now: only what is read from here on will do.
    pub fn ask(&self, key: &Key) {
        self.lock().insert(key.clone(), Instant::now());
    }

    /// Takes an ExternalSecret into the index. A refresh that is asked for is noted before anybody can see the object: who takes it up for
    /// another reason would else make do with a kept value, and nobody would read a new one.
    pub fn take_in(
        &self,
        mut index: RwLockWriteGuard<'_, Index>,
        key: &Key,
        take: impl FnOnce(&mut Index) -> Option<Priority>,
    ) -> Option<Priority> {
        let wake = take(&mut index);
        if wake == Some(Priority::Forced) {
            self.ask(key);
        }
        wake
    }

    /// Since when a refresh is asked for.
    #[must_use]
    pub fn since(&self, key: &Key) -> Option<Instant> {
        self.lock().get(key).copied()
    }

    /// A refresh that began at that moment is done; one that was asked for later is not.
    pub fn done(&self, key: &Key, begun: Instant) {
        let mut asked = self.lock();
        if asked.get(key).is_some_and(|at| *at <= begun) {
            asked.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long after a panic an object is tried again.
const AFTER_PANIC: Duration = Duration::from_secs(300);

/// How often a loop without work tells that it turns.
const TURN: Duration = Duration::from_secs(5);

/// Hands out objects of a queue, as many at a time as `most`, until the process stops; waits for those under way. `turned` is
/// called each time the loop turns, and every few seconds while there is no work or no place: a loop that is stuck falls silent.
pub async fn dispatch<K, F>(
    queue: Arc<Queue<K>>,
    worst: Priority,
    most: usize,
    stop: CancellationToken,
    turned: impl Fn(),
    reconcile: impl Fn(Job<K>) -> F,
) where
    K: Clone + Eq + std::hash::Hash + Send + Sync + std::fmt::Display + 'static,
    F: Future<Output = Wake> + Send + 'static,
{
    let places = Arc::new(tokio::sync::Semaphore::new(most));
    let tasks = TaskTracker::new();
    loop {
        turned();
        let next = async {
            let place = places.clone().acquire_owned().await.ok()?;
            Some((place, queue.next(worst).await))
        };
        let (place, job) = tokio::select! {
            Some(next) = next => next,
            () = tokio::time::sleep(TURN) => continue,
            () = stop.cancelled() => break,
        };
        let (queue, key, work) = (queue.clone(), job.key.clone(), reconcile(job));
        tasks.spawn(async move {
            let wake = match tokio::spawn(work).await {
                Ok(wake) => wake,
                Err(_) => {
                    // the panic hook has told where; the object must not stop the others, nor itself for ever
                    tracing::error!(object = %key, "the reconcile of this object ended in a bug of keyferry; it is tried again later");
                    Wake::After(AFTER_PANIC, Priority::Periodic)
                }
            };
            let next = match wake {
                Wake::OnChange => None,
                Wake::After(time, priority) => Some((Instant::now() + time, priority)),
            };
            queue.done(&key, next);
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// The work on an object, counted: how long it waited, and that it is being worked on. `kind` is that of a key.
pub fn counted<K, F>(
    metrics: Arc<Metrics>,
    kind: impl Fn(&K) -> ObjectKind,
    reconcile: impl Fn(Job<K>) -> F,
) -> impl Fn(Job<K>) -> Pin<Box<dyn Future<Output = Wake> + Send>>
where
    F: Future<Output = Wake> + Send + 'static,
{
    move |job| {
        let busy = metrics.queue_left(kind(&job.key), job.priority.as_str(), job.waited);
        let work = reconcile(job);
        Box::pin(async move {
            let _busy = busy;
            work.await
        })
    }
}

/// How many objects of each kind are in line.
#[must_use]
pub fn queue_lengths(ctx: &Ctx) -> Vec<(ObjectKind, usize)> {
    let stores = |kind| (ObjectKind::of_store(kind), ctx.stores.ready(|id| id.kind == kind));
    let parents = |kind| (ObjectKind::of_parent(kind), ctx.parents.ready(|id| id.kind == kind));
    vec![
        (ObjectKind::ExternalSecret, ctx.external_secrets.depth().0),
        (ObjectKind::PushSecret, ctx.push_secrets.depth().0),
        stores(StoreKind::SecretStore),
        stores(StoreKind::ClusterSecretStore),
        parents(ParentKind::ClusterExternalSecret),
        parents(ParentKind::ClusterPushSecret),
    ]
}

/// How a reconcile ended, for the metrics.
#[must_use]
pub fn turn(failed: bool, wake: Wake) -> Turn {
    match wake {
        _ if failed => Turn::Error,
        Wake::OnChange => Turn::Success,
        Wake::After(..) => Turn::RequeueAfter,
    }
}

/// A reference to an object, for events.
#[must_use]
pub fn object_reference(kind: &str, meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some("external-secrets.io/v1".into()),
        kind: Some(kind.into()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// Tells of an object that cannot be understood, and what comes of that: its own author, and nobody else is disturbed.
pub fn tell_invalid(ctx: &Ctx, kind: &str, meta: &ObjectMeta, why: &str, effect: &str) {
    tracing::warn!(object = %Key::of(meta), kind, why, "the object cannot be understood and {effect}");
    let message = format!("the object cannot be understood and {effect}: {why}");
    ctx.events.record(object_reference(kind, meta), Note::warning("UpdateFailed", message));
}

/// Age of the oldest value that is kept for each store.
#[must_use]
pub fn value_ages(ctx: &Ctx) -> Vec<(StoreLabels, Duration)> {
    ctx.fetcher.oldest().into_iter().map(|(id, age)| (StoreLabels::of(&id), age)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Else a provider that answers nobody would end in a restart of the process.
    #[tokio::test(start_paused = true)]
    async fn a_loop_turns_while_all_places_are_taken() {
        let (queue, stop) = (Arc::new(Queue::default()), CancellationToken::new());
        queue.wake(Key::new("ns", "a"), Priority::New);
        queue.wake(Key::new("ns", "b"), Priority::New);
        let (turns, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let turned = || {
            turns.fetch_add(1, Ordering::Relaxed);
        };
        let reconcile = |_: Job<Key>| {
            begun.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::time::sleep(Duration::from_secs(62)).await;
                Wake::OnChange
            }
        };
        let minute = async {
            tokio::time::sleep(Duration::from_secs(61)).await;
            stop.cancel();
        };
        tokio::join!(dispatch(queue.clone(), Priority::Periodic, 1, stop.clone(), turned, reconcile), minute);
        assert_eq!(begun.load(Ordering::Relaxed), 1, "there is one place");
        // once for the object, then every five seconds
        assert_eq!(turns.load(Ordering::Relaxed), 2 + 12);
    }

    #[test]
    fn a_refresh_that_is_asked_for_is_noted_before_the_object_can_be_seen() {
        let (forced, index, key) = (Forced::default(), RwLock::new(Index::default()), Key::new("ns", "a"));
        let (taken, is_taken) = std::sync::mpsc::channel();
        std::thread::scope(|threads| {
            let before = forced.lock();
            threads.spawn(|| {
                let write = || index.write().unwrap_or_else(PoisonError::into_inner);
                forced.take_in(write(), &key, |_| Some(Priority::Changed));
                forced.take_in(write(), &key, |_| taken.send(()).ok().map(|()| Priority::Forced))
            });
            assert_eq!(is_taken.recv(), Ok(()));
            std::thread::sleep(Duration::from_millis(50));
            assert!(index.try_read().is_err(), "it is not noted yet");
            assert!(before.is_empty(), "a change asks for nothing");
        });
        assert!(forced.since(&key).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_forced_refresh_is_done_by_one_that_began_after_it_was_asked_for() {
        let second = Duration::from_secs(1);
        let (forced, key, other) = (Forced::default(), Key::new("ns", "a"), Key::new("ns", "b"));
        let before = Instant::now();
        tokio::time::advance(second).await;
        forced.ask(&key);
        let asked = Instant::now();
        assert_eq!((forced.since(&key), forced.since(&other)), (Some(asked), None));
        forced.done(&key, before);
        assert_eq!(forced.since(&key), Some(asked), "that one was under way already");
        forced.done(&other, asked);
        assert_eq!(forced.since(&key), Some(asked), "that was another object's");
        tokio::time::advance(second).await;
        forced.ask(&key);
        let again = Instant::now();
        forced.done(&key, asked);
        assert_eq!(forced.since(&key), Some(again), "it was asked for once more meanwhile");
        forced.done(&key, again);
        assert_eq!(forced.since(&key), None);
    }
}
