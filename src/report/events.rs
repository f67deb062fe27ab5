//! Kubernetes events, written in the background so that no sync waits for one.
//!
//! kube's `Recorder` walks its whole cache at each event, which costs more than the event at ten thousand objects; repeats
//! are kept back by the plan already, so events are simply created.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::sync::mpsc;

use crate::lease::Leadership;
use crate::plan::Note;
use crate::plan::status::truncate;

/// Most events that wait to be written; more are dropped and counted.
const MOST_WAITING: usize = 4096;
/// Requests under way at a time: few, so that statuses go first.
const WRITERS: usize = 2;
/// Longest note that the API takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// Who reports: `reportingController` of the events.
pub const COMPONENT: &str = "keyferry";

/// Takes events and writes them in the background.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<(ObjectReference, Note)>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// Events, and the future that writes them until all senders are gone.
    pub fn new(client: kube::Client, leadership: Leadership, instance: String) -> (Self, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(MOST_WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        (Self { sender, dropped }, write_all(client, leadership, instance, receiver))
    }

    /// Records an event on an object.
    pub fn record(&self, object: ObjectReference, note: Note) {
        if self.sender.try_send((object, note)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many events were dropped because too many waited.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn write_all(
    client: kube::Client,
    leadership: Leadership,
    instance: String,
    receiver: mpsc::Receiver<(ObjectReference, Note)>,
) {
    let events = futures::stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        Some((event, receiver))
    });
    futures::StreamExt::for_each_concurrent(events, WRITERS, |(object, note)| {
        let (client, instance) = (client.clone(), instance.clone());
        let leads = leadership.may_write();
        async move {
            if leads {
                write(client, &instance, object, note).await;
            }
        }
    })
    .await;
}

async fn write(client: kube::Client, instance: &str, object: ObjectReference, note: Note) {
    let now = Timestamp::now();
    let name = object.name.clone().unwrap_or_default();
    // events of cluster-scoped objects live in the namespace default
    let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
    let event = Event {
        metadata: ObjectMeta {
            name: Some(format!("{}.{:x}", truncate(&name, 200).trim_end_matches('.'), now.as_nanosecond())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.into()),
        note: Some(truncate(&note.message, LONGEST_NOTE)),
        action: Some("Reconcile".into()),
        event_time: Some(MicroTime(now)),
        reporting_controller: Some(COMPONENT.into()),
        reporting_instance: Some(instance.to_owned()),
        regarding: Some(object),
        ..Event::default()
    };
    let api: Api<Event> = Api::namespaced(client, &namespace);
    if let Err(error) = api.create(&PostParams::default(), &event).await {
        let code = match &error {
            kube::Error::Api(status) => status.code,
            _ => 0,
        };
        // a namespace in deletion takes no events, and an event is never worth a failure
        tracing::debug!(object = %name, reason = note.reason, code, "the event could not be written");
    }
}
