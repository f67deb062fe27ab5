//! Learns when objects reach a state, from one watch and without a single read.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::ByteString;
use kube::Client;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The part of an object that says how far it is. Everything else of it is skipped.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct Object {
    metadata: Metadata,
    status: Status,
    data: BTreeMap<String, ByteString>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    namespace: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    type_: String,
    status: String,
}

impl Object {
    /// `namespace/name` of an ExternalSecret that is Ready.
    #[must_use]
    pub fn ready(&self) -> Option<String> {
        let ready = self.status.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
        ready.then(|| self.id())
    }

    /// `namespace/name=password` of a Secret.
    #[must_use]
    pub fn password(&self) -> Option<String> {
        let password = self.data.get("password")?;
        Some(format!("{}={}", self.id(), String::from_utf8_lossy(&password.0)))
    }

    fn id(&self) -> String {
        format!("{}/{}", self.metadata.namespace, self.metadata.name)
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    type_: String,
    #[serde(default)]
    object: Object,
}

/// A watch, and when each state was first seen in it.
pub struct Follow {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Default)]
struct Seen {
    states: HashMap<String, Instant>,
    last: Option<Instant>,
    /// Why the watch is over.
    over: Option<String>,
}

impl Follow {
    /// Watches a collection, from the state that it is in now. `state` names the state of an object; `None` is not noted.
    #[must_use]
    pub fn start(client: Client, collection: &str, state: fn(&Object) -> Option<String>) -> Self {
        let shared = Arc::new(Shared::default());
        let (task, path) = (shared.clone(), format!("{collection}?watch=true&timeoutSeconds=3600"));
        let task = tokio::spawn(async move {
            let ended = watch(client, &path, state, &task).await;
            let why = ended.err().map_or_else(|| "the API server ended it".to_owned(), |error| format!("{error:#}"));
            lock(&task.seen).over = Some(format!("the watch of {path} is over: {why}"));
            task.changed.notify_waiters();
        });
        Self { shared, task }
    }

    /// When that state was first seen; waits for it, at most `limit`.
    ///
    /// # Errors
    /// When it is not reached in time, or the watch is over.
    pub async fn state(&self, state: &str, limit: Duration) -> Result<Instant> {
        self.wait(limit, |seen| seen.states.get(state).copied()).await.with_context(|| format!("waiting for {state}"))
    }

    /// When the last of `count` states was first seen; waits for it, at most `limit`.
    ///
    /// # Errors
    /// When there are fewer by then, or the watch is over.
    pub async fn count(&self, count: usize, limit: Duration) -> Result<Instant> {
        let all = self.wait(limit, |seen| seen.last.filter(|_| seen.states.len() >= count)).await;
        all.with_context(|| format!("{} of {count} objects are ready", lock(&self.shared.seen).states.len()))
    }

    async fn wait(&self, limit: Duration, reached: impl Fn(&Seen) -> Option<Instant>) -> Result<Instant> {
        let wait = async {
            loop {
                let mut changed = std::pin::pin!(self.shared.changed.notified());
                changed.as_mut().enable();
                {
                    let seen = lock(&self.shared.seen);
                    if let Some(at) = reached(&seen) {
                        return Ok(at);
                    }
                    if let Some(why) = &seen.over {
                        bail!("{why}");
                    }
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, wait).await.with_context(|| format!("not within {limit:?}"))?
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(client: Client, path: &str, state: fn(&Object) -> Option<String>, shared: &Shared) -> Result<()> {
    let request = hyper::Request::get(path).body(Vec::new())?;
    let mut lines = client.request_stream(request).await?.lines();
    while let Some(line) = lines.try_next().await? {
        let event: Event = serde_json::from_str(&line)?;
        if event.type_ == "ERROR" {
            bail!("{line}");
        }
        let Some(state) = state(&event.object).filter(|_| event.type_ != "DELETED") else { continue };
        let now = Instant::now();
        let mut seen = lock(&shared.seen);
        if let Entry::Vacant(slot) = seen.states.entry(state) {
            slot.insert(now);
            seen.last = Some(now);
            drop(seen);
            shared.changed.notify_waiters();
        }
    }
    Ok(())
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn object(json: &str) -> Object {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn only_a_ready_object_is_ready() {
        let with = |conditions: &str| {
            object(&format!(
                r#"{{"kind":"X","metadata":{{"namespace":"a","name":"b","uid":"u"}},"spec":{{}},"status":{{{conditions}}}}}"#
            ))
        };
        let condition = |status: &str| format!(r#""conditions":[{{"type":"Ready","status":"{status}","reason":"r"}}]"#);
        assert_eq!(with(&condition("True")).ready().as_deref(), Some("a/b"));
        assert_eq!(with(&condition("False")).ready(), None);
        assert_eq!(with("").ready(), None);
        assert_eq!(object(r#"{"metadata":{"namespace":"a","name":"b"}}"#).ready(), None);
    }

    #[test]
    fn a_secrets_state_is_its_password() {
        let secret = object(r#"{"metadata":{"namespace":"a","name":"b"},"data":{"password":"bmV3"}}"#);
        assert_eq!(secret.password().as_deref(), Some("a/b=new"));
        assert_eq!(object(r#"{"metadata":{}}"#).password(), None);
    }
}
