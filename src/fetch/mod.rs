//! Reads from providers: shared, batched, bounded, and held back where a store fails.
//!
//! The promise behind it is the design's: a Secret never holds a value that was read longer ago than its refresh interval.
//! Everything that may share a read does so within that promise: values are kept per store identity, readers of one key wait
//! for one call, and what waits at the same moment on one store goes out in the provider's batch call.

mod budget;
mod cache;
mod gate;
mod handle;
mod handles;
mod outlet;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use crate::api::AnyStore;
use crate::index::{Key, StoreId};
use crate::outbound::Outbound;
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, ProviderError, ProviderRequest, ProviderSpec, ReferenceKind,
    Session, Validation, Want,
};
use crate::providers::{OwnCluster, UsedReferences};
use crate::queue::Priority;
use budget::Budget;
use handle::Handle;
use handles::{Handles, Revision};

pub use outlet::{NotPushed, Outlet, Writing};

/// What can be asked of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// One value.
    Get(Want),
    /// All values that match.
    Find(FindQuery),
}

impl Request {
    /// The request without what the provider need not know, so that all who need one value share it.
    fn for_provider(&self, provider: &ProviderSpec) -> Self {
        let mut request = self.clone();
        if let Self::Get(want) = &mut request
            && !provider.served().is_some_and(|served| served.asks_for(&want.property))
        {
            want.property.clear();
        }
        request
    }
}

/// What a store answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Request::Get`].
    Value(Arc<Fetched>),
    /// To [`Request::Find`].
    Found(Arc<Vec<Found>>),
}

impl Answer {
    /// Roughly how much memory the answer takes, in bytes.
    fn weight(&self) -> usize {
        match self {
            Self::Value(value) => value.bytes.weight(),
            Self::Found(found) => found.iter().map(|f| f.name.len() + f.bytes.weight()).sum(),
        }
    }
}

/// An answer, and when the call that brought it was sent.
#[derive(Clone, Debug)]
pub struct Read {
    /// The answer, or why there is none.
    pub answer: Result<Answer, ProviderError>,
    /// Wall-clock time at which the call was sent: the age of the value counts from here.
    pub at: Timestamp,
    /// The same on the monotonic clock.
    pub sent: Instant,
    /// How long after that the value may be used before it must be read again; `None`: the reader decides.
    pub holds: Option<Duration>,
}

impl Read {
    /// When the value must be read again.
    #[must_use]
    pub fn read_again(&self) -> Option<Timestamp> {
        let holds = self.holds.map(|holds| SignedDuration::try_from(holds).unwrap_or(SignedDuration::MAX))?;
        Some(self.at.checked_add(holds).unwrap_or(Timestamp::MAX))
    }
}

/// What came of reads from one store.
pub struct Answers {
    /// One read for each request, in order.
    pub reads: Vec<Read>,
    /// The session that knows how to take the values apart; there is one if there is any value.
    pub session: Option<Arc<dyn Session>>,
}

/// How long the provider's "it does not exist" is every reader's, whatever the age that they take of a value: a policy may delete on it,
/// and what was made since must not go.
const ABSENT: Duration = Duration::from_secs(10);

/// How old an answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Freshness {
    /// Most time since it was read.
    pub max_age: Duration,
    /// It must have been read after this moment.
    pub not_before: Option<Instant>,
    /// After what time from the read the reader asks again by itself; `None`: it does not.
    pub again: Option<Duration>,
    /// In which line the reader stands.
    pub priority: Priority,
}

impl Freshness {
    /// Whether what was read is good enough now.
    fn accepts(&self, read: &Read, now: Instant) -> bool {
        let age = now.saturating_duration_since(read.sent);
        let holds = read.holds.is_none_or(|holds| age < holds);
        let is_absent = read.answer.as_ref().is_err_and(|error| error.kind == ErrorKind::NotFound);
        let max_age = if is_absent { self.max_age.min(ABSENT) } else { self.max_age };
        holds && age <= max_age && self.not_before.is_none_or(|limit| read.sent >= limit)
    }
}

/// Why a store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The login could not be prepared.
    Connect(ProviderError),
    /// The login does not work.
    Validate(ProviderError),
}

/// Bounds and deadlines.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Deadline of one provider call.
    pub call_timeout: Duration,
    /// Most values kept for one store identity, and for all of one namespace's together. All in all it is three times that.
    pub cache_entries: usize,
    /// Most bytes of values, the same.
    pub cache_bytes: usize,
    /// Most provider calls under way for one store identity.
    pub calls_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { call_timeout: Duration::from_secs(30), cache_entries: 10_000, cache_bytes: 32 << 20, calls_in_flight: 8 }
    }
}

/// Is told of every call and every look-up, for metrics and records.
pub trait Observer: Send + Sync {
    /// A provider call ended.
    fn call(&self, call: &CallReport<'_>);
    /// A look-up in the cache ended.
    fn lookup(&self, lookup: Lookup);
}

/// A provider call that ended.
#[derive(Clone, Debug)]
pub struct CallReport<'a> {
    /// The store.
    pub store: &'a StoreId,
    /// Whether the store was deleted meanwhile.
    pub deleted: bool,
    /// The provider, as metrics name it.
    pub provider: &'static str,
    /// `Get`, `BatchGet`, `Find`, `Connect` or `Validate`.
    pub call: &'static str,
    /// How many values were asked for.
    pub keys: usize,
    /// What it came to: the worst class of failure, if any.
    pub outcome: Option<ErrorKind>,
    /// How long it took.
    pub took: Duration,
    /// The requests that it turned into; none where the provider does not tell them apart.
    pub requests: &'a [ProviderRequest],
    /// Which object caused it, and the correlation id.
    pub cx: &'a CallCx,
}

/// What a look-up in the cache came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lookup {
    /// There was a value, fresh enough.
    Hit,
    /// There was none: a call goes out.
    Miss,
    /// There was none, but a call for it is under way.
    Shared,
}

/// Logs in to a store. The tests have their own, which needs no provider.
#[async_trait]
trait Login: Send + Sync {
    /// A session for a store's block, or why there is none.
    async fn login(&self, provider: &ProviderSpec, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError>;
}

/// The login that each provider has.
struct ProviderLogin;

#[async_trait]
impl Login for ProviderLogin {
    async fn login(&self, provider: &ProviderSpec, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        match provider.served() {
            Some(provider) => provider.connect(cx).await,
            None => Err(ProviderError::new(
                ErrorKind::Unsupported,
                format!("provider {:?} is not served; served are: {}", provider.name(), ProviderSpec::SERVED.join(", ")),
            )),
        }
    }
}

/// The way to all stores.
pub struct Fetcher {
    login: Arc<dyn Login>,
    client: kube::Client,
    cluster: OwnCluster,
    outbound: Arc<Outbound>,
    limits: Limits,
    observer: Arc<dyn Observer>,
    handles: Handles,
}

impl Fetcher {
    /// A fetcher without sessions. `outbound` makes the clients of providers that speak HTTP, and holds the operator's environment.
    #[must_use]
    pub fn new(
        client: kube::Client,
        cluster: OwnCluster,
        outbound: Arc<Outbound>,
        limits: Limits,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let handles = Handles::new(Budget::new(limits.cache_entries, limits.cache_bytes));
        let login = Arc::new(ProviderLogin);
        Self { login, client, cluster, outbound, limits, observer, handles }
    }

    /// Reads from a store.
    ///
    /// The caller has checked that the consumer may use the store.
    pub async fn read(
        &self,
        store: &AnyStore,
        credentials: u64,
        consumer: &str,
        requests: &[Request],
        freshness: Freshness,
        cause: &str,
    ) -> Answers {
        let handle = self.handle(store, credentials, consumer);
        let requests: Vec<Request> = requests.iter().map(|request| request.for_provider(&store.spec.provider)).collect();
        let reads = handle.clone().read(&requests, freshness, cause).await;
        Answers { reads, session: handle.session_if_connected() }
    }

    /// Logs in to a store, to write to it.
    ///
    /// The caller has checked that the consumer may use the store, and asks for each write whether this process leads.
    ///
    /// # Errors
    /// What kept the provider from it.
    pub async fn outlet(
        &self,
        store: &AnyStore,
        credentials: u64,
        consumer: &str,
        cause: &str,
    ) -> Result<Outlet<'_>, ProviderError> {
        let handle = self.handle(store, credentials, consumer);
        let session = handle.log_in(cause).await?;
        Ok(Outlet::new(self, StoreId::of(store), handle, session, cause))
    }

    /// A key was written to: what any consumer's cache holds of it is old.
    fn forget_key(&self, store: &StoreId, key: &str) {
        for handle in self.handles.of(store) {
            handle.forget(key);
        }
    }

    /// Logs in to a store and checks that the login works. A new session is made where there is none for this revision.
    ///
    /// # Errors
    /// What kept the provider from it.
    pub async fn validate(&self, store: &AnyStore, credentials: u64) -> Result<Validation, Invalid> {
        // not all is read so often that reads would do it
        for handle in self.handles.of(&StoreId::of(store)) {
            handle.let_go();
        }
        self.handle(store, credentials, "").validate().await
    }

    /// Whether this version of an object is no news to all that a store is logged in as: it was read, or is yet to be.
    #[must_use]
    pub fn has_used(&self, store: &StoreId, kind: ReferenceKind, key: &Key, version: &str) -> bool {
        self.handles.of(store).iter().all(|handle| handle.is_login_of(kind, key, version))
    }

    /// Forgets a store: its sessions and its values.
    pub fn forget(&self, store: &StoreId) {
        self.handles.forget(store);
    }

    /// A store is deleted. Whoever still has its facts may end with it, but leaves nothing behind.
    pub fn deleted(&self, store: &AnyStore) {
        if let Some(uid) = &store.metadata.uid {
            self.handles.delete(&StoreId::of(store), uid);
        }
    }

    /// Forgets what a store was logged in as for a namespace: what that was done with changed.
    pub fn forget_login(&self, store: &StoreId, namespace: &str) {
        self.handles.forget_one(store, namespace);
    }

    /// Forgets what stores were logged in as for a namespace that is gone.
    pub fn forget_consumer(&self, namespace: &str) {
        self.handles.forget_consumer(namespace);
    }

    /// Logs out of all stores: nobody reads or writes any more.
    pub async fn close(&self) {
        let handles = self.handles.drain();
        let sessions = handles.iter().filter_map(|handle| handle.session_if_connected());
        futures::future::join_all(sessions.map(|session| async move { session.close().await })).await;
    }

    /// Age of the oldest value of each store that somebody comes back for, for the metric.
    #[must_use]
    pub fn oldest(&self) -> Vec<(StoreId, Duration)> {
        let now = Instant::now();
        self.handles.all().into_iter().filter_map(|(id, handle)| Some((id, now - handle.oldest(now)?))).collect()
    }

    /// The handle of a store for a consumer.
    fn handle(&self, store: &AnyStore, credentials: u64, consumer: &str) -> Arc<Handle> {
        let id = StoreId::of(store);
        let consumer: Option<Arc<str>> = is_referent(store).then(|| consumer.into());
        let make = |common| {
            let cx = ConnectCx {
                client: self.client.clone(),
                cluster: self.cluster.clone(),
                store_kind: store.kind,
                store_name: store.name().to_owned(),
                namespace: match (store.namespace(), &consumer) {
                    (Some(own), _) => own.to_owned(),
                    (None, Some(consumer)) => consumer.to_string(),
                    (None, None) => String::new(),
                },
                retry: store.spec.retry_settings.clone(),
                env: self.outbound.env(),
                outbound: self.outbound.clone(),
                used: UsedReferences::default(),
            };
            let (provider, login) = (store.spec.provider.clone(), self.login.clone());
            Handle::new(id.clone(), provider, login, cx, self.limits.clone(), self.observer.clone(), common)
        };
        self.handles.get(&id, consumer.clone(), &Revision::of(store, credentials), make)
    }
}

/// Whether a store logs in as its consumer: a ClusterSecretStore with a reference that names no namespace.
#[must_use]
pub fn is_referent(store: &AnyStore) -> bool {
    store.kind == crate::api::StoreKind::ClusterSecretStore && store.spec.provider.served().is_some_and(|p| p.is_referent())
}

/// Runs a provider's future under the deadline.
async fn within<T>(
    limit: Duration,
    what: &str,
    future: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(ProviderError::new(
            ErrorKind::Unavailable,
            format!("the provider did not answer within {} s ({what})", limit.as_secs()),
        )),
    }
}
