//! Watches that feed the index. One bad object never stops the others; a broken watch comes back by itself.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;
use kube::Resource;
use kube::runtime::utils::Backoff as _;
use kube::runtime::watcher::{self, DefaultBackoff, Event};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::guard::{Guard, Metadata};
use crate::index::Key;
use crate::outbound::api_server;
use crate::server::Health;

/// A watch that failed, worked for so long, and fails in the same way once more says so again.
const TOLD_AGAIN: Duration = Duration::from_secs(120);

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

    /// Which object it is.
    fn key_of(object: &Self::Object) -> Key;
}

impl<K> Watched for Guard<K>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    type Object = K;

    fn open(self) -> Result<K, (Box<ObjectMeta>, String)> {
        self.0
    }

    fn key_of(object: &K) -> Key {
        Key::of(object.meta())
    }
}

impl<K> Watched for Metadata<K>
where
    K: Resource + Clone + Debug + Send + Sync + 'static,
{
    type Object = ObjectMeta;

    fn open(self) -> Result<ObjectMeta, (Box<ObjectMeta>, String)> {
        Ok(self.0)
    }

    fn key_of(object: &ObjectMeta) -> Key {
        Key::of(object)
    }
}

/// Which object a change is of, unless that cannot be understood.
#[must_use]
pub fn well<W: Watched>(change: &Change<W::Object>) -> Option<Key> {
    match change {
        Change::Upsert(object) => Some(W::key_of(object)),
        Change::Invalid(..) => None,
        Change::Gone(key) => Some(key.clone()),
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
    /// The operator may not watch this in this namespace; it is tried again.
    Refused,
}

impl Fares {
    /// Tells the health of the process.
    pub fn tell(self, health: &Health, name: &str) {
        match self {
            Self::Synced => health.watch_synced(name),
            Self::Works => health.watch_recovered(name),
            Self::Failed => health.watch_failed(name),
            Self::Refused => health.watch_refused(name),
        }
    }
}

/// Watches objects until it is stopped, and hands each change to `handle`. `name` is what logs call the watch; `fares` is told how
/// it goes. `held` are objects that are held as our own writes left them. The watch may have been broken for as long as one of
/// them was there: it is gone where the next list does not have it.
pub async fn watch_what_is_held<W: Watched>(
    api: Api<W>,
    name: String,
    fares: impl Fn(Fares),
    stop: CancellationToken,
    handle: impl FnMut(Change<W::Object>),
    held: impl Fn() -> Vec<Key>,
) {
    follow(api, name, fares, stop, handle, |_| (), held).await;
}

/// Like [`watch_what_is_held`], with none; `tell` hears whenever the watch has listed its objects, and why whenever it breaks.
pub async fn watch_and_tell<W: Watched>(
    api: Api<W>,
    name: String,
    fares: impl Fn(Fares),
    stop: CancellationToken,
    handle: impl FnMut(Change<W::Object>),
    tell: impl FnMut(Result<(), String>),
) {
    follow(api, name, fares, stop, handle, tell, Vec::new).await;
}

async fn follow<W: Watched>(
    api: Api<W>,
    name: String,
    fares: impl Fn(Fares),
    stop: CancellationToken,
    mut handle: impl FnMut(Change<W::Object>),
    mut tell: impl FnMut(Result<(), String>),
    held: impl Fn() -> Vec<Key>,
) {
    let of_namespace = api.namespace().is_some();
    // kube's own way to wait begins anew with each try to list
    let mut stream = std::pin::pin!(watcher::watcher(api, watcher::Config::default().any_semantic()));
    let mut backoff = DefaultBackoff::default();
    let mut failed: Option<(String, Instant)> = None;
    let mut known: HashSet<Key> = HashSet::new();
    let mut listed: HashSet<Key> = HashSet::new();
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = stop.cancelled() => return,
        };
        match event {
            Some(Ok(Event::Init)) => {
                // a list that failed half-way has brought objects: they are known, and may be gone by the next
                known.extend(listed.drain());
                known.extend(held());
            }
            Some(Ok(Event::InitApply(object))) => {
                listed.insert(upsert(object, &mut handle));
            }
            Some(Ok(Event::InitDone)) => {
                for gone in known.difference(&listed) {
                    handle(Change::Gone(gone.clone()));
                }
                known = std::mem::take(&mut listed);
                failed = None;
                backoff.reset();
                fares(Fares::Synced);
                tell(Ok(()));
            }
            Some(Ok(Event::Apply(object))) => {
                known.insert(upsert(object, &mut handle));
                failed = None;
                backoff.reset();
                fares(Fares::Works);
            }
            Some(Ok(Event::Delete(object))) => {
                let key = Key::of(object.meta());
                known.remove(&key);
                handle(Change::Gone(key));
            }
            Some(Err(error)) => {
                let refused = of_namespace && is_refusal(&error);
                fares(if refused { Fares::Refused } else { Fares::Failed });
                let error = explain(&error);
                let is_told = failed.as_ref().is_some_and(|(text, at)| *text == error && at.elapsed() < TOLD_AGAIN);
                match refused {
                    _ if is_told => tracing::debug!(watch = %name, error, "a watch still fails"),
                    true => tracing::warn!(
                        watch = %name,
                        error,
                        "a watch is refused, so that its namespace is not served; it is tried again, the other namespaces go on"
                    ),
                    false => tracing::warn!(watch = %name, error, "a watch broke off; it is begun again"),
                }
                failed = Some((error.clone(), Instant::now()));
                tell(Err(error));
                tokio::select! {
                    () = tokio::time::sleep(backoff.next().unwrap_or_default()) => {}
                    () = stop.cancelled() => return,
                }
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

/// Whether the operator has no right to what it watches.
fn is_refusal(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(e) | watcher::Error::WatchStartFailed(e) | watcher::Error::WatchFailed(e) => {
            matches!(e, kube::Error::Api(status) if status.code == 403)
        }
        watcher::Error::WatchError(status) => status.code == 403,
        watcher::Error::NoResourceVersion => false,
    }
}

/// What broke a watch: the class and the API server's code, never a body.
fn explain(error: &watcher::Error) -> String {
    let of = |what: &str, e: &kube::Error| match e {
        kube::Error::Api(status) => format!("{what}: the API server answered {} ({})", status.code, status.reason),
        kube::Error::SerdeError(_) => format!("{what}: the API server's answer cannot be understood"),
        e => match api_server::why(e) {
            Some(why) => format!("{what}: the API server did not answer ({why})"),
            None => format!("{what}: the API server did not answer"),
        },
    };
    match error {
        watcher::Error::InitialListFailed(e) => of("the list failed", e),
        watcher::Error::WatchStartFailed(e) => of("the watch could not begin", e),
        watcher::Error::WatchFailed(e) => of("the watch was cut", e),
        watcher::Error::WatchError(status) => format!("the API server ended the watch: {} ({})", status.code, status.reason),
        watcher::Error::NoResourceVersion => "the list had no resourceVersion".into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Secret;
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_change_is_well_unless_it_cannot_be_understood() {
        type Watch = Metadata<Secret>;
        let meta = ObjectMeta { namespace: Some("ns".into()), name: Some("a".into()), ..ObjectMeta::default() };
        let key = Key::new("ns", "a");
        assert_eq!(well::<Watch>(&Change::Upsert(meta.clone())), Some(key.clone()));
        assert_eq!(well::<Watch>(&Change::Gone(key.clone())), Some(key));
        assert_eq!(well::<Watch>(&Change::Invalid(Box::new(meta), String::new())), None);
    }

    /// A client of an API server that answers so, one request after the other, and then no more.
    fn client(answers: impl IntoIterator<Item = (u16, Value)>) -> kube::Client {
        let answers = Arc::new(Mutex::new(VecDeque::from_iter(answers)));
        let service = tower::service_fn(move |_: Request<Body>| {
            let answer = answers.lock().unwrap().pop_front();
            async move {
                let Some((code, body)) = answer else { return std::future::pending().await };
                let body = Body::from(body.to_string().into_bytes());
                let answer = Response::builder().status(code).header("content-type", "application/json").body(body);
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        kube::Client::new(service, "ns")
    }

    /// A list of objects, with more to come where there is a token.
    fn list(names: &[&str], more: &str) -> (u16, Value) {
        let item = |name: &&str| {
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"namespace": "ns", "name": name}})
        };
        let items: Vec<_> = names.iter().map(item).collect();
        let meta = json!({"resourceVersion": "1", "continue": more});
        (200, json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items}))
    }

    fn failure(code: u16) -> (u16, Value) {
        (code, json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}))
    }

    /// How a watch fares when the API server answers its lists so, until it has heard of as many.
    async fn fares(api: impl Fn(kube::Client) -> Api<Metadata<Secret>>, codes: &[u16]) -> Vec<Fares> {
        let answers = codes.iter().map(|&code| if code == 200 { list(&[], "") } else { failure(code) });
        let client = client(answers);
        let (stop, heard) = (CancellationToken::new(), Mutex::new(Vec::new()));
        let hear = |how: Fares| {
            let mut heard = heard.lock().unwrap();
            heard.push(how);
            if heard.len() == codes.len() {
                stop.cancel();
            }
        };
        watch_what_is_held(api(client), "Secret".into(), hear, stop.clone(), |_| (), Vec::new).await;
        heard.into_inner().unwrap()
    }

    /// What is told of objects until one list is whole: those that are held otherwise are `ns/own` and `ns/b`.
    async fn heard(answers: impl IntoIterator<Item = (u16, Value)>) -> Vec<String> {
        let (stop, mut heard) = (CancellationToken::new(), Vec::new());
        let fares = |how: Fares| {
            if how == Fares::Synced {
                stop.cancel();
            }
        };
        let handle = |change: Change<ObjectMeta>| {
            heard.push(match change {
                Change::Upsert(meta) => format!("+{}", Key::of(&meta)),
                Change::Invalid(..) => "?".into(),
                Change::Gone(key) => format!("-{key}"),
            });
        };
        let api: Api<Metadata<Secret>> = Api::all(client(answers));
        let held = || vec![Key::new("ns", "own"), Key::new("ns", "b")];
        watch_what_is_held(api, "Secret".into(), fares, stop.clone(), handle, held).await;
        // those that are gone are told in no order
        let ends = heard.iter().position(|change| change.starts_with('-')).unwrap_or(heard.len());
        heard.get_mut(ends..).unwrap().sort();
        heard
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_list_that_failed_half_way_brought_may_be_gone_by_the_next() {
        let answers = [list(&["a", "b"], "more"), failure(503), list(&["d"], "more"), failure(410), list(&["c", "b"], "")];
        assert_eq!(heard(answers).await, ["+ns/a", "+ns/b", "+ns/d", "+ns/c", "+ns/b", "-ns/a", "-ns/d", "-ns/own"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_our_own_write_brought_may_be_gone_before_the_watch_saw_it() {
        assert_eq!(heard([list(&["b"], "")]).await, ["+ns/b", "-ns/own"]);
        assert_eq!(heard([list(&["own", "b"], "")]).await, ["+ns/own", "+ns/b"]);
    }

    /// A list that fails is tried ever later: a kind that is not installed costs little.
    #[tokio::test(start_paused = true)]
    async fn lists_that_fail_are_tried_ever_later() {
        let begun = Instant::now();
        assert_eq!(fares(Api::all, &[404; 9]).await, [Fares::Failed; 9]);
        // 0.8 s, doubled up to 30 s, each up to twice as long
        assert!((Duration::from_secs(109)..Duration::from_secs(220)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        let begun = Instant::now();
        let codes = [503, 503, 503, 503, 200];
        assert_eq!(fares(Api::all, &codes).await.last(), Some(&Fares::Synced));
        assert!(begun.elapsed() >= Duration::from_secs(12), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_one_in_a_namespace_only() {
        let codes = [403, 503, 403, 200];
        let of_namespace = fares(|client| Api::namespaced(client, "c"), &codes).await;
        assert_eq!(of_namespace, [Fares::Refused, Fares::Failed, Fares::Refused, Fares::Synced]);
        assert_eq!(fares(Api::all, &codes[..3]).await, [Fares::Failed; 3]);
    }
}
