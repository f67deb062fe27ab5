//! Watches that feed the index. One bad object never stops the others; a broken watch comes back by itself.

use std::collections::HashSet;
use std::fmt::Debug;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::Resource;
use kube::core::DeserializeGuard;
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

/// Watches objects until the process stops, and hands each change to `handle`. `name` is what health and logs call the watch.
pub async fn watch<K>(
    api: Api<DeserializeGuard<K>>,
    name: String,
    health: Health,
    stop: CancellationToken,
    mut handle: impl FnMut(Change<K>),
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
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
                health.watch_synced(&name);
            }
            Some(Ok(Event::Apply(object))) => {
                known.insert(upsert(object, &mut handle));
                health.watch_synced(&name);
            }
            Some(Ok(Event::Delete(object))) => {
                let key = key_of(&object);
                known.remove(&key);
                handle(Change::Gone(key));
            }
            Some(Err(error)) => {
                health.watch_broken(&name);
                tracing::warn!(watch = %name, error = %explain(&error), "a watch broke off; it is begun again");
            }
            None => return,
        }
    }
}

fn upsert<K: Resource<DynamicType = ()>>(object: DeserializeGuard<K>, handle: &mut impl FnMut(Change<K>)) -> Key {
    let key = key_of(&object);
    match object.0 {
        Ok(mut object) => {
            object.meta_mut().managed_fields = None;
            handle(Change::Upsert(object));
        }
        Err(invalid) => handle(Change::Invalid(Box::new(invalid.metadata), invalid.error.to_string())),
    }
    key
}

fn key_of<K: Resource<DynamicType = ()>>(object: &DeserializeGuard<K>) -> Key {
    Key::of(object.meta())
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
