//! Which handle a caller gets: the one of the store's present revision, or, with old facts, one of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use lru::LruCache;
use tokio::time::Instant;

use super::budget::Budget;
use super::handle::Handle;
use crate::api::AnyStore;
use crate::index::StoreId;

/// Longest time that somebody still acts on what a store was before: its calls end, with all tries, long before.
const STALE: Duration = Duration::from_secs(600);
/// Most deleted stores that are remembered.
const MOST_DELETED: usize = 4096;

/// Tells whether a store was deleted meanwhile.
pub(super) type IsDeleted = Box<dyn Fn() -> bool + Send + Sync>;

/// What a handle has from those of all stores.
pub(super) struct Common {
    pub(super) is_deleted: IsDeleted,
    pub(super) budget: Arc<Budget>,
}

/// What makes a session and its values out of date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revision {
    uid: String,
    created: Option<Timestamp>,
    generation: i64,
    credentials: u64,
}

impl Revision {
    pub(super) fn of(store: &AnyStore, credentials: u64) -> Self {
        Self {
            uid: store.metadata.uid.clone().unwrap_or_default(),
            created: store.metadata.creation_timestamp.as_ref().map(|at| at.0),
            generation: store.metadata.generation.unwrap_or_default(),
            credentials,
        }
    }

    /// Whether this is what the store was, or the store of that name that was there, before.
    fn is_before(&self, other: &Self) -> bool {
        if self.uid == other.uid {
            (self.generation, self.credentials) < (other.generation, other.credentials)
        } else {
            self.created < other.created
        }
    }
}

/// The handles of a store's present revision, by the consumer's namespace where the store logs in as its consumer.
struct Listed {
    revision: Revision,
    since: Instant,
    handles: HashMap<Option<Arc<str>>, Arc<Handle>>,
}

/// The handles of all stores.
pub(super) struct Handles {
    stores: Mutex<HashMap<StoreId, Listed>>,
    deleted: Arc<Deleted>,
    budget: Arc<Budget>,
}

/// Stores that were deleted a moment ago, by uid.
struct Deleted(Mutex<LruCache<String, Instant>>);

impl Default for Deleted {
    fn default() -> Self {
        Self(Mutex::new(LruCache::unbounded()))
    }
}

impl Deleted {
    fn add(&self, uid: &str) {
        let mut deleted = lock(&self.0);
        deleted.put(uid.to_owned(), Instant::now());
        if deleted.len() > MOST_DELETED {
            deleted.pop_lru();
        }
    }

    fn has(&self, uid: &str) -> bool {
        lock(&self.0).peek(uid).is_some_and(|at| at.elapsed() < STALE)
    }
}

impl Handles {
    /// None yet, and what their caches may keep together.
    pub(super) fn new(budget: Budget) -> Self {
        Self { stores: Mutex::default(), deleted: Arc::default(), budget: Arc::new(budget) }
    }

    /// The handle of a revision for a consumer. Whoever comes with an older one than others did, or with a store that was deleted,
    /// gets one that nobody shares: it must not take the place of the present one, and it ends with its use.
    pub(super) fn get(
        &self,
        id: &StoreId,
        consumer: Option<Arc<str>>,
        revision: &Revision,
        make: impl FnOnce(Common) -> Handle,
    ) -> Arc<Handle> {
        let make = || {
            let (deleted, uid) = (self.deleted.clone(), revision.uid.clone());
            let is_deleted: IsDeleted = Box::new(move || deleted.has(&uid));
            Arc::new(make(Common { is_deleted, budget: self.budget.clone() }))
        };
        if self.deleted.has(&revision.uid) {
            return make();
        }
        let now = Instant::now();
        let new = || Listed { revision: revision.clone(), since: now, handles: HashMap::new() };
        let mut stores = self.lock();
        let listed = stores.entry(id.clone()).or_insert_with(new);
        if listed.revision != *revision {
            if revision.is_before(&listed.revision) && now.saturating_duration_since(listed.since) < STALE {
                return make();
            }
            *listed = new();
        }
        listed.handles.entry(consumer).or_insert_with(make).clone()
    }

    /// Those of a store.
    pub(super) fn of(&self, id: &StoreId) -> Vec<Arc<Handle>> {
        self.lock().get(id).map(|listed| listed.handles.values().cloned().collect()).unwrap_or_default()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(StoreId, Arc<Handle>)> {
        let stores = self.lock();
        let of = |(id, listed): (&StoreId, &Listed)| -> Vec<_> {
            listed.handles.values().map(|handle| (id.clone(), handle.clone())).collect()
        };
        stores.iter().flat_map(of).collect()
    }

    /// A store with that uid is deleted.
    pub(super) fn delete(&self, id: &StoreId, uid: &str) {
        self.deleted.add(uid);
        self.forget(id);
    }

    /// Forgets those of a store.
    pub(super) fn forget(&self, id: &StoreId) {
        self.lock().remove(id);
    }

    /// Forgets the one of a consumer.
    pub(super) fn forget_one(&self, id: &StoreId, namespace: &str) {
        let consumer: Option<Arc<str>> = Some(namespace.into());
        if let Some(listed) = self.lock().get_mut(id) {
            listed.handles.remove(&consumer);
        }
    }

    /// Forgets those of a consumer.
    pub(super) fn forget_consumer(&self, namespace: &str) {
        let consumer: Option<Arc<str>> = Some(namespace.into());
        for listed in self.lock().values_mut() {
            listed.handles.remove(&consumer);
        }
    }

    /// Takes out all of them.
    pub(super) fn drain(&self) -> Vec<Arc<Handle>> {
        self.lock().drain().flat_map(|(_, listed)| listed.handles.into_values()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StoreId, Listed>> {
        lock(&self.stores)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
