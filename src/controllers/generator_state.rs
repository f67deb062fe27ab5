//! The clean-up of GeneratorStates: those whose day has come are deleted, and those in deletion are cleaned up and let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;

use super::Ctx;
use super::watch::Change;
use crate::api::generators::{GROUP, GeneratorState, VERSION};
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
    known: Mutex<HashMap<Key, (Arc<GeneratorState>, u32)>>,
    /// States to look at.
    pub queue: Arc<Queue<Key>>,
}

impl States {
    /// A state appeared, changed or is gone.
    pub fn on_change(&self, change: Change<GeneratorState>) {
        match change {
            Change::Upsert(state) => {
                let key = Key::of(&state.metadata);
                let mut known = self.lock();
                let failures = known.get(&key).map_or(0, |(_, failures)| *failures);
                known.insert(key.clone(), (Arc::new(state), failures));
                drop(known);
                self.queue.wake(key, Priority::Changed);
            }
            Change::Gone(key) => {
                self.lock().remove(&key);
            }
            Change::Invalid(meta, why) => {
                tracing::warn!(state = %Key::of(&meta), why, "a GeneratorState cannot be understood and is left alone");
            }
        }
    }

    fn get(&self, key: &Key) -> Option<(Arc<GeneratorState>, u32)> {
        self.lock().get(key).cloned()
    }

    fn set_failures(&self, key: &Key, failures: u32) {
        if let Some((_, old)) = self.lock().get_mut(key) {
            *old = failures;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, (Arc<GeneratorState>, u32)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at one state, does what is due, and says when it is next.
pub async fn reconcile(ctx: Arc<Ctx>, job: Job<Key>) -> Wake {
    let Some((state, failures)) = ctx.states.get(&job.key) else { return Wake::OnChange };
    let written = match plan::next(&state, Timestamp::now()) {
        Next::Nothing => return Wake::OnChange,
        Next::Wait(time) => return Wake::After(time, Priority::Periodic),
        Next::Delete => ctx.writer.delete_state(&job.key, state.metadata.uid.as_deref().unwrap_or_default()).await,
        Next::CleanUp => match clean_up(&ctx, &job.key, &state).await {
            Ok(()) => {
                tracing::info!(state = %job.key, "what a generator made was taken back");
                ctx.writer.release_state(&state).await
            }
            Err(error) => match plan::failed(&state, error.kind, error.retry_after, failures + 1, Timestamp::now()) {
                Failed::Retry(time) => {
                    ctx.states.set_failures(&job.key, failures + 1);
                    tell(&ctx, &state, failures, format!("unable to clean up: {error}"));
                    return Wake::After(time, Priority::Periodic);
                }
                Failed::LetGo => {
                    let message = format!("let go without cleaning up; what was made may still be there: {error}");
                    tell(&ctx, &state, 0, message);
                    ctx.writer.release_state(&state).await
                }
            },
        },
    };
    match written {
        Ok(()) | Err(WriteError::Gone | WriteError::NotLeader) => Wake::OnChange,
        Err(error) => {
            tracing::debug!(state = %job.key, %error, "a GeneratorState could not be written; trying again");
            Wake::After(std::time::Duration::from_secs(2), Priority::Changed)
        }
    }
}

async fn clean_up(ctx: &Ctx, key: &Key, state: &GeneratorState) -> Result<(), ProviderError> {
    let invalid =
        |error: crate::api::generators::InvalidSpec| ProviderError::new(ErrorKind::Misconfigured, error.to_string());
    let (name, spec) = plan::generator(state).map_err(invalid)?;
    let cause = format!("GeneratorState/{key}");
    let consumer = Consumer { cause: &cause, namespace: &key.namespace, generator: &name };
    ctx.maker.clean_up(consumer, &spec, &serde_json::Value::Object(state.spec.state.0.clone())).await
}

/// Tells of a failure: the first of a row as an event.
fn tell(ctx: &Ctx, state: &GeneratorState, failures: u32, message: String) {
    let meta = &state.metadata;
    tracing::warn!(state = %Key::of(meta), message, "a GeneratorState could not be cleaned up");
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
    ctx.events.record(reference, Note::warning("CleanupFailed", message));
}
