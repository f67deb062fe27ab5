//! Kubernetes events, written in the background so that no sync waits for one.
//!
//! kube's `Recorder` walks its whole cache at each event, which costs more than the event at ten thousand objects; repeats
//! are kept back by the plan already, so events are simply created.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::index::Key;
use crate::lease::Leadership;
use crate::plan::Note;
use crate::plan::status::truncate;
use crate::report::metrics::Metrics;

/// Most events that wait to be written; more are dropped and counted. One for each object of a large cluster's first sync, at half a
/// kilobyte each.
const MOST_WAITING: usize = 16_384;
/// Requests under way at a time.
const WRITERS: usize = 2;
/// How long an event lets Secrets and statuses go first, and how often it looks whether they have.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);
/// How long after a request that got no answer it is made once more: else an API server that is away would cost all events that wait.
const AGAIN: Duration = Duration::from_secs(2);
/// Longest note that the API takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Who reports: `reportingController` of the events.
pub const COMPONENT: &str = "keyferry";

/// Takes events and writes them in the background.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Recorded>,
    early: Early,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    last: CancellationToken,
}

/// An event that waits to be written.
struct Recorded {
    object: ObjectReference,
    note: Note,
    at: Timestamp,
}

/// What is told of objects before this process leads, as of those that it cannot understand: the last of each, by kind and key. `None` once
/// it leads.
#[derive(Clone)]
struct Early(Arc<Mutex<Option<Kept>>>);

type Kept = HashMap<(String, Key), Recorded>;

impl Early {
    fn lock(&self) -> MutexGuard<'_, Option<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps an event if there is room.
fn keep(kept: &mut Kept, recorded: Recorded) -> bool {
    let ObjectReference { kind, namespace, name, .. } = &recorded.object;
    let key = Key::new(namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default());
    let of = (kind.clone().unwrap_or_default(), key);
    let has_room = kept.len() < MOST_WAITING || kept.contains_key(&of);
    if has_room {
        kept.insert(of, recorded);
    }
    has_room
}

impl Events {
    /// Events, and the future that writes them, once this process leads, until all senders are gone or [`Events::close`] is called.
    /// A request may take as long as `limit`; `busy` says whether there is more urgent work for the API server.
    pub fn new(
        client: kube::Client,
        leadership: Leadership,
        instance: String,
        limit: Duration,
        busy: impl Fn() -> bool,
        metrics: Arc<Metrics>,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let (last, early) = (CancellationToken::new(), Early(Arc::new(Mutex::new(Some(Kept::new())))));
        let writer = Writer { client, leadership: leadership.clone(), instance, limit, metrics: metrics.clone() };
        let writing = write_all(writer, busy, early.clone(), receiver, last.clone());
        (Self { sender, early, leadership, metrics, last }, writing)
    }

    /// Records an event on an object.
    pub fn record(&self, object: ObjectReference, note: Note) {
        let recorded = Recorded { object, note, at: Timestamp::now() };
        let mut early = self.early.lock();
        let has_place = match early.as_mut().filter(|_| !self.leadership.may_write()) {
            Some(kept) => keep(kept, recorded),
            None => self.sender.try_send(recorded).is_ok(),
        };
        if !has_place {
            self.metrics.event_dropped();
        }
    }

    /// An object of that kind is well, or gone: what was told of it before this process leads holds no more.
    pub fn withdraw(&self, kind: &str, key: impl FnOnce() -> Option<Key>) {
        let mut early = self.early.lock();
        if let Some(kept) = early.as_mut().filter(|kept| !kept.is_empty())
            && let Some(key) = key()
        {
            kept.remove(&(kind.to_owned(), key));
        }
    }

    /// Takes no more events: who writes them ends once those that wait are written.
    pub fn close(&self) {
        self.last.cancel();
    }
}

/// What writing an event needs.
struct Writer {
    client: kube::Client,
    leadership: Leadership,
    instance: String,
    limit: Duration,
    metrics: Arc<Metrics>,
}

async fn write_all(
    writer: Writer,
    busy: impl Fn() -> bool,
    early: Early,
    receiver: mpsc::Receiver<Recorded>,
    last: CancellationToken,
) {
    tokio::select! { () = writer.leadership.elected() => {}, () = last.cancelled() => {} }
    let kept = early.lock().take();
    let kept = futures::stream::iter(kept.into_iter().flatten().map(|(_, event)| event));
    let events = futures::stream::unfold((receiver, last), |(mut receiver, last)| async move {
        let event = tokio::select! {
            biased;
            event = receiver.recv() => event,
            () = last.cancelled() => {
                receiver.close();
                receiver.recv().await
            }
        };
        Some((event?, (receiver, last)))
    });
    let (writer, busy) = (&writer, &busy);
    kept.chain(events)
        .for_each_concurrent(WRITERS, |event| async move {
            give_way(busy).await;
            writer.write(event).await;
        })
        .await;
}

/// Waits while there is more urgent work, but not for ever.
async fn give_way(busy: &impl Fn() -> bool) {
    let patience = tokio::time::sleep(PATIENCE);
    let idle = async {
        while busy() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! { () = idle => {}, () = patience => {} }
}

impl Writer {
    /// Writes an event; where the API server does not answer, once more a little later.
    async fn write(&self, recorded: Recorded) {
        let (event, namespace) = event_of(recorded, &self.instance);
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        for is_last in [false, true] {
            if !self.leadership.may_write() {
                self.metrics.event_dropped();
                return;
            }
            match tokio::time::timeout(self.limit, api.create(&PostParams::default(), &event)).await {
                Ok(Ok(_)) => return,
                // a namespace in deletion takes no events, and an event is never worth a failure
                Ok(Err(kube::Error::Api(status))) => {
                    let object = event.regarding.as_ref().and_then(|o| o.name.as_deref()).unwrap_or_default();
                    let reason = event.reason.as_deref().unwrap_or_default();
                    tracing::debug!(object, reason, code = status.code, "the event could not be written");
                    return;
                }
                _ if is_last => self.metrics.event_dropped(),
                _ => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

/// An event as it is written, and in which namespace.
fn event_of(Recorded { object, note, at }: Recorded, instance: &str) -> (Event, String) {
    let name = object.name.clone().unwrap_or_default();
    // events of cluster-scoped objects live in the namespace default
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", truncate(&name, 200).trim_end_matches('.'), at.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.into()),
        note: Some(truncate(&note.message, LONGEST_NOTE)),
        action: Some("Reconcile".into()),
        event_time: Some(MicroTime(at)),
        reporting_controller: Some(COMPONENT.into()),
        reporting_instance: Some(instance.to_owned()),
        regarding: Some(object),
        ..Event::default()
    };
    (event, namespace)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use http::{Request, Response};
    use kube::client::Body;
    use tokio::time::Instant;

    use super::*;
    use crate::lease::{Election, Timing};

    const LIMIT: Duration = Duration::from_secs(5);

    #[tokio::test(start_paused = true)]
    async fn an_event_lets_urgent_work_go_first_but_not_for_ever() {
        let start = Instant::now();
        give_way(&|| false).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        give_way(&|| true).await;
        assert_eq!(start.elapsed(), PATIENCE);
        let busy = Arc::new(AtomicBool::new(true));
        let (start, ends) = (Instant::now(), busy.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            ends.store(false, Ordering::Relaxed);
        });
        give_way(&|| busy.load(Ordering::Relaxed)).await;
        assert_eq!(start.elapsed(), 3 * LOOK);
    }

    /// A client that counts the events it is asked to create; each takes some time.
    fn client(created: &Arc<AtomicU64>) -> kube::Client {
        let created = created.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let created = created.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                created.fetch_add(1, Ordering::Relaxed);
                Ok::<_, Infallible>(Response::new(Body::from(b"{}".to_vec())))
            }
        });
        kube::Client::new(service, "ns")
    }

    /// When requests were made, of an API server that does not answer this many first ones.
    async fn asked(unanswered: usize, metrics: &Arc<Metrics>) -> Vec<u64> {
        let (asked, start) = (Arc::new(std::sync::Mutex::new(Vec::new())), Instant::now());
        let hears = asked.clone();
        let service = tower::service_fn(move |_: Request<Body>| {
            let mut asked = hears.lock().unwrap();
            asked.push(start.elapsed().as_secs());
            let answer = match asked.len() > unanswered {
                true => Ok(Response::new(Body::from(b"{}".to_vec()))),
                false => Err(std::io::Error::other("connection refused")),
            };
            std::future::ready(answer)
        });
        let client = kube::Client::new(service, "ns");
        let (events, writing) = Events::new(client, Leadership::alone(), "one".into(), LIMIT, || false, metrics.clone());
        events.record(ObjectReference::default(), note());
        events.close();
        writing.await;
        asked.lock().unwrap().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn what_gets_no_answer_is_written_once_more_and_then_counted() {
        let metrics = Arc::new(Metrics::default());
        assert_eq!(asked(1, &metrics).await, [0, 2]);
        assert!(metrics.encode().unwrap().contains("\nkeyferry_events_dropped_total 0\n"));
        assert_eq!(asked(2, &metrics).await, [0, 2]);
        assert!(metrics.encode().unwrap().contains("\nkeyferry_events_dropped_total 1\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_keeps_no_writer_for_ever() {
        let (metrics, start) = (Arc::new(Metrics::default()), Instant::now());
        let hangs = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, Infallible>>());
        let client = kube::Client::new(hangs, "ns");
        let (events, writing) = Events::new(client, Leadership::alone(), "one".into(), LIMIT, || false, metrics.clone());
        events.record(ObjectReference::default(), note());
        events.close();
        writing.await;
        assert_eq!(start.elapsed().as_secs(), 5 + 2 + 5);
        assert!(metrics.encode().unwrap().contains("\nkeyferry_events_dropped_total 1\n"));
    }

    fn note() -> Note {
        Note::warning("Reason", "message")
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_at_the_end_is_written() {
        let created = Arc::new(AtomicU64::new(0));
        let metrics = Arc::new(Metrics::default());
        let (events, writing) =
            Events::new(client(&created), Leadership::alone(), "one".into(), LIMIT, || false, metrics.clone());
        let writing = tokio::spawn(writing);
        for _ in 0..7 {
            events.record(ObjectReference::default(), note());
        }
        events.close();
        tokio::time::timeout(Duration::from_secs(2), writing).await.unwrap().unwrap();
        assert_eq!(created.load(Ordering::Relaxed), 7);
        events.record(ObjectReference::default(), note());
        assert!(metrics.encode().unwrap().contains("\nkeyferry_events_dropped_total 1\n"));
    }

    /// An election, and a client of its API server, which grants the lease at once and notes which objects events are about.
    fn election() -> (Election, kube::Client, Arc<Mutex<Vec<String>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let hears = hears.clone();
            async move {
                let is_lease = request.uri().path().contains("/leases");
                let is_read = request.method() == http::Method::GET;
                let body = request.into_body().collect_bytes().await.unwrap().to_vec();
                if !is_lease {
                    let event: Event = serde_json::from_slice(&body).unwrap();
                    hears.lock().unwrap().push(event.regarding.and_then(|object| object.name).unwrap());
                }
                let missing = br#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#;
                let (code, body) = if is_read { (404, missing.to_vec()) } else { (201, body) };
                Ok::<_, Infallible>(Response::builder().status(code).body(Body::from(body)).unwrap())
            }
        });
        let client = kube::Client::new(service, "ns");
        let timing = Timing::new(Duration::from_secs(15), Duration::from_secs(10), Duration::from_secs(2)).unwrap();
        let api = Api::namespaced(client.clone(), "ns");
        (Election::new(api, "lease".into(), "one".into(), timing), client, told)
    }

    fn of(kind: &str, name: &str) -> ObjectReference {
        ObjectReference {
            kind: Some(kind.into()),
            namespace: Some("ns".into()),
            name: Some(name.into()),
            ..ObjectReference::default()
        }
    }

    /// As of what the first list brings: it may be long until this process leads, and what was wrong then may be mended.
    #[tokio::test]
    async fn what_is_told_before_this_process_leads_is_told_then_if_it_still_holds() {
        let metrics = Arc::new(Metrics::default());
        let (election, client, told) = election();
        let (leadership, lead) = (election.leadership(), CancellationToken::new());
        let (events, writing) = Events::new(client, leadership.clone(), "one".into(), LIMIT, || false, metrics.clone());
        let writing = tokio::spawn(writing);
        for name in ["bad", "mended", "bad"] {
            events.record(of("ExternalSecret", name), note());
        }
        events.withdraw("ExternalSecret", || Some(Key::new("ns", "mended")));
        events.withdraw("SecretStore", || Some(Key::new("ns", "bad")));
        events.withdraw("ExternalSecret", || None);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(told.lock().unwrap().is_empty(), "another process may lead");

        let elected = tokio::spawn(election.run(lead.clone()));
        leadership.elected().await;
        for _ in 0..2 {
            events.record(of("ExternalSecret", "later"), note());
        }
        events.close();
        tokio::time::timeout(Duration::from_secs(9), writing).await.unwrap().unwrap();
        lead.cancel();
        elected.await.unwrap().unwrap();
        let mut told = told.lock().unwrap().clone();
        told.sort();
        assert_eq!(told, ["bad", "later", "later"]);
        assert!(metrics.encode().unwrap().contains("\nkeyferry_events_dropped_total 0\n"));
    }

    #[tokio::test]
    async fn what_waits_for_the_lease_is_bounded() {
        let metrics = Arc::new(Metrics::default());
        let (election, client, _) = election();
        let (events, _writing) = Events::new(client, election.leadership(), "one".into(), LIMIT, || false, metrics.clone());
        for n in 0..MOST_WAITING + 3 {
            events.record(of("ExternalSecret", &n.to_string()), note());
        }
        events.record(of("ExternalSecret", "0"), note());
        assert!(metrics.encode().unwrap().contains("\nkeyferry_events_dropped_total 3\n"));
    }

    #[tokio::test(start_paused = true)]
    async fn events_that_find_no_place_are_counted() {
        let metrics = Arc::new(Metrics::default());
        let created = Arc::new(AtomicU64::new(0));
        let (events, _writing) =
            Events::new(client(&created), Leadership::alone(), "one".into(), LIMIT, || false, metrics.clone());
        for _ in 0..MOST_WAITING + 3 {
            events.record(ObjectReference::default(), note());
        }
        assert!(metrics.encode().unwrap().contains("\nkeyferry_events_dropped_total 3\n"));
    }
}
