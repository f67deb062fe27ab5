//! Watches that feed the index. One bad object never stops the others; a broken watch comes back by itself.

use std::collections::HashSet;
use std::fmt::Debug;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::Resource;
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::index::Key;
use crate::server::Health;

/// A change of a watched object.
pub enum Change<K> {
    /// It appeared or changed.
    Upsert(K),
    /// It appeared or changed, and cannot be understood.
    Invalid(Box<ObjectMeta>, String),
    /// It is gone.
    Gone(Key),
}

/// An object as a watch brings it.
pub trait Watched: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static {
    /// What is handed on.
    type Object;

    /// The object, or its metadata and why the rest cannot be understood.
    ///
    /// # Errors
    /// See above.
    fn open(self) -> Result<Self::Object, (Box<ObjectMeta>, String)>;
}

impl<K> Watched for DeserializeGuard<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    type Object = K;

    fn open(self) -> Result<K, (Box<ObjectMeta>, String)> {
        let mut object = self.0.map_err(|invalid| (Box::new(invalid.metadata), invalid.error.to_string()))?;
        object.meta_mut().managed_fields = None;
        Ok(object)
    }
}

/// Without a guard: kube asks the API server for metadata only for this very type, and a guard around it would bring the
/// Secrets' data into the process.
impl<K> Watched for PartialObjectMeta<K>
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
    PartialObjectMeta<K>: Resource,
{
    type Object = ObjectMeta;

    fn open(self) -> Result<ObjectMeta, (Box<ObjectMeta>, String)> {
        Ok(self.metadata)
    }
}

/// Which objects are watched.
#[derive(Clone, Debug)]
pub enum Scope {
    /// Those of the whole cluster.
    Cluster,
    /// Those of these namespaces.
    Namespaces(Vec<String>),
}

impl Scope {
    /// An `Api` for each watch that the scope needs.
    #[must_use]
    pub fn apis<K>(&self, client: &kube::Client) -> Vec<Api<K>>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        match self {
            Self::Cluster => vec![Api::all(client.clone())],
            Self::Namespaces(names) => names.iter().map(|n| Api::namespaced(client.clone(), n)).collect(),
        }
    }
}

/// How a watch fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fares {
    /// It has listed all objects.
    Synced,
    /// It brought a change.
    Works,
    /// It broke off, and is begun again.
    Failed,
}

impl Fares {
    /// Tells the health of the process.
    pub fn tell(self, health: &Health, name: &str) {
        match self {
            Self::Synced => health.watch_synced(name),
            Self::Works => health.watch_recovered(name),
            Self::Failed => health.watch_failed(name),
        }
    }
}

/// Watches objects until it is stopped, and hands each change to `handle`. `name` is what logs call the watch; `fares` is told how
/// it goes.
pub async fn watch<W: Watched>(
    api: Api<W>,
    name: String,
    fares: impl Fn(Fares),
    stop: CancellationToken,
    handle: impl FnMut(Change<W::Object>),
) {
    watch_and_tell(api, name, fares, stop, handle, |_| ()).await;
}

/// Like [`watch`]; `tell` hears whenever the watch has listed its objects, and why whenever it breaks.
pub async fn watch_and_tell<W: Watched>(
    api: Api<W>,
    name: String,
    fares: impl Fn(Fares),
    stop: CancellationToken,
    mut handle: impl FnMut(Change<W::Object>),
    mut tell: impl FnMut(Result<(), String>),
) {
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default().any_semantic()).default_backoff());
    let mut known: HashSet<Key> = HashSet::new();
    let mut listed: HashSet<Key> = HashSet::new();
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = stop.cancelled() => return,
        };
        match event {
            Some(Ok(Event::Init)) => listed.clear(),
            Some(Ok(Event::InitApply(object))) => {
                listed.insert(upsert(object, &mut handle));
            }
            Some(Ok(Event::InitDone)) => {
                for gone in known.difference(&listed) {
                    handle(Change::Gone(gone.clone()));
                }
                known = std::mem::take(&mut listed);
                fares(Fares::Synced);
                tell(Ok(()));
            }
            Some(Ok(Event::Apply(object))) => {
                known.insert(upsert(object, &mut handle));
                fares(Fares::Works);
            }
            Some(Ok(Event::Delete(object))) => {
                let key = Key::of(object.meta());
                known.remove(&key);
                handle(Change::Gone(key));
            }
            Some(Err(error)) => {
                fares(Fares::Failed);
                let error = explain(&error);
                tracing::warn!(watch = %name, error, "a watch broke off; it is begun again");
                tell(Err(error));
            }
            None => return,
        }
    }
}

fn upsert<W: Watched>(object: W, handle: &mut impl FnMut(Change<W::Object>)) -> Key {
    let key = Key::of(object.meta());
    match object.open() {
        Ok(object) => handle(Change::Upsert(object)),
        Err((meta, why)) => handle(Change::Invalid(meta, why)),
    }
    key
}

/// What broke a watch: the class and the API server's code, never a body.
fn explain(error: &watcher::Error) -> String {
    let of = |what: &str, e: &kube::Error| match e {
        kube::Error::Api(status) => format!("{what}: the API server answered {} ({})", status.code, status.reason),
        _ => format!("{what}: the API server did not answer"),
    };
    match error {
        watcher::Error::InitialListFailed(e) => of("the list failed", e),
        watcher::Error::WatchStartFailed(e) => of("the watch could not begin", e),
        watcher::Error::WatchFailed(e) => of("the watch was cut", e),
        watcher::Error::WatchError(status) => format!("the API server ended the watch: {} ({})", status.code, status.reason),
        watcher::Error::NoResourceVersion => "the list had no resourceVersion".into(),
    }
}
