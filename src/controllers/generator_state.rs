//! The life of GeneratorStates: the lease of what they stand for is renewed, those whose day has come are deleted, and those in
//! deletion are cleaned up and let go.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::Ctx;
use super::watch::Change;
use crate::api::generators::{GROUP, GeneratorState, InvalidSpec, VERSION};
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
    known: Mutex<Known>,
    /// States to look at.
    pub queue: Arc<Queue<Key>>,
}

/// States, with the failures in a row of each; and which belong to the object of a uid.
#[derive(Default)]
struct Known {
    states: HashMap<Key, (Arc<GeneratorState>, u32)>,
    by_owner: HashMap<String, BTreeSet<Key>>,
}

impl States {
    /// A state appeared, changed or is gone. Gives the object that must know, as the lease of what was made for it changed.
    pub fn on_change(&self, change: Change<GeneratorState>) -> Option<OwnerReference> {
        match change {
            Change::Upsert(state) => {
                let key = Key::of(&state.metadata);
                let owner = owner(&state).filter(|_| plan::lease(&state).is_some()).cloned();
                self.renew(state);
                self.queue.wake(key, Priority::Changed);
                owner
            }
            Change::Gone(key) => {
                let mut known = self.lock();
                let gone = known.states.remove(&key);
                if let Some(uid) = gone.as_ref().and_then(|(state, _)| owner(state)).map(|owner| owner.uid.as_str())
                    && let Some(keys) = known.by_owner.get_mut(uid)
                {
                    keys.remove(&key);
                    if keys.is_empty() {
                        known.by_owner.remove(uid);
                    }
                }
                None
            }
            Change::Invalid(meta, why) => {
                tracing::warn!(state = %Key::of(&meta), why, "a GeneratorState cannot be understood and is left alone");
                None
            }
        }
    }

    /// Takes a state as our own write left it, or as the watch brings it, whichever is later.
    pub fn renew(&self, state: GeneratorState) {
        let key = Key::of(&state.metadata);
        let mut known = self.lock();
        let failures = match known.states.get(&key) {
            Some((held, _)) if is_older(&state, held) => return,
            Some((_, failures)) => *failures,
            None => 0,
        };
        if let Some(owner) = owner(&state) {
            known.by_owner.entry(owner.uid.clone()).or_default().insert(key.clone());
        }
        known.states.insert(key, (Arc::new(state), failures));
    }

    /// When what was generated for the object of that uid must be replaced, as its lease ends. `labels`: those of its entries as they are
    /// now, asked for where it has states at all.
    #[must_use]
    pub fn replace_at(&self, uid: &str, labels: impl FnOnce() -> BTreeSet<String>) -> Option<Timestamp> {
        let states = self.of(uid);
        if states.is_empty() {
            return None;
        }
        let labels = labels();
        let current = states.iter().filter(|state| plan::label(state).is_some_and(|label| labels.contains(label)));
        current.filter_map(|state| plan::replace_at(state)).min()
    }

    /// The states of the object of that uid.
    #[must_use]
    pub fn of(&self, uid: &str) -> Vec<Arc<GeneratorState>> {
        let known = self.lock();
        let keys = known.by_owner.get(uid).into_iter().flatten();
        keys.filter_map(|key| known.states.get(key)).map(|(state, _)| state.clone()).collect()
    }

    fn get(&self, key: &Key) -> Option<(Arc<GeneratorState>, u32)> {
        self.lock().states.get(key).cloned()
    }

    fn set_failures(&self, key: &Key, failures: u32) {
        if let Some((_, old)) = self.lock().states.get_mut(key) {
            *old = failures;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owner(state: &GeneratorState) -> Option<&OwnerReference> {
    state.metadata.owner_references.iter().flatten().next()
}

/// Whether a state is an earlier version of the same object.
fn is_older(state: &GeneratorState, held: &GeneratorState) -> bool {
    let version = |state: &GeneratorState| state.metadata.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
    state.metadata.uid == held.metadata.uid && version(state) < version(held)
}

/// Looks at one state, does what is due, and says when it is next.
pub async fn reconcile(ctx: Arc<Ctx>, job: Job<Key>) -> Wake {
    let Some((state, failures)) = ctx.states.get(&job.key) else { return Wake::OnChange };
    let written = match plan::next(&state, Timestamp::now()) {
        Next::Renew => return renew(&ctx, &job.key, &state, failures).await,
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
                    tell(&ctx, &state, failures, "CleanupFailed", format!("unable to clean up: {error}"));
                    return Wake::After(time, Priority::Periodic);
                }
                Failed::Ended => {
                    tracing::info!(state = %job.key, "the lease of what a generator made has ended by itself");
                    ctx.writer.release_state(&state).await
                }
                Failed::LetGo => {
                    let message = format!("let go without cleaning up; what was made may still be there: {error}");
                    tell(&ctx, &state, 0, "CleanupFailed", message);
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

/// Renews the lease of a state's value, and tells the object that uses it.
async fn renew(ctx: &Ctx, key: &Key, state: &GeneratorState, failures: u32) -> Wake {
    let asked = Timestamp::now();
    let held = serde_json::Value::Object(state.spec.state.0.clone());
    let renewed = match plan::generator(state).map_err(invalid) {
        Ok((name, spec)) => {
            let cause = format!("GeneratorState/{key}");
            ctx.maker.renew(Consumer { cause: &cause, namespace: &key.namespace, generator: &name }, &spec, &held).await
        }
        Err(error) => Err(error),
    };
    let renewed = match renewed {
        Ok(renewed) => renewed.map(|renewed| (renewed.granted, renewed.state)),
        Err(error) => {
            ctx.states.set_failures(key, failures + 1);
            tell(ctx, state, failures, "RenewalFailed", format!("unable to renew the lease: {error}"));
            let pause = plan::renew_again(state, error.kind, error.retry_after, failures + 1, Timestamp::now());
            return Wake::After(pause, Priority::Periodic);
        }
    };
    let Some(holds) = plan::renewed(state, renewed, asked) else { return Wake::OnChange };
    match ctx.writer.update_state(state, &holds).await {
        Ok(written) => {
            ctx.states.set_failures(key, 0);
            written.into_iter().for_each(|state| ctx.states.renew(state));
            if let Some(owner) = owner(state) {
                wake(ctx, &key.namespace, owner);
            }
            // its own version of it is looked at next
            Wake::After(std::time::Duration::ZERO, Priority::Periodic)
        }
        Err(WriteError::Gone | WriteError::NotLeader) => Wake::OnChange,
        Err(error) => {
            tracing::debug!(state = %key, %error, "a lease was renewed and that could not be noted; trying again");
            Wake::After(std::time::Duration::from_secs(1), Priority::Changed)
        }
    }
}

/// A state appeared, changed or is gone.
pub fn on_change(ctx: &Ctx, change: Change<GeneratorState>) {
    let namespace = match &change {
        Change::Upsert(state) => state.metadata.namespace.clone().unwrap_or_default(),
        _ => String::new(),
    };
    if let Some(owner) = ctx.states.on_change(change) {
        wake(ctx, &namespace, &owner);
    }
}

/// Has the owner of a state looked at: what it may keep of a generated value depends on the lease.
fn wake(ctx: &Ctx, namespace: &str, owner: &OwnerReference) {
    let key = Key::new(namespace, &owner.name);
    match owner.kind.as_str() {
        "ExternalSecret" => ctx.external_secrets.wake(key, Priority::Periodic),
        "PushSecret" => ctx.push_secrets.wake(key, Priority::Periodic),
        _ => {}
    }
}

fn invalid(error: InvalidSpec) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, error.to_string())
}

async fn clean_up(ctx: &Ctx, key: &Key, state: &GeneratorState) -> Result<(), ProviderError> {
    let (name, spec) = plan::generator(state).map_err(invalid)?;
    let cause = format!("GeneratorState/{key}");
    let consumer = Consumer { cause: &cause, namespace: &key.namespace, generator: &name };
    ctx.maker.clean_up(consumer, &spec, &serde_json::Value::Object(state.spec.state.0.clone())).await
}

/// Tells of a failure: the first of a row as an event.
fn tell(ctx: &Ctx, state: &GeneratorState, failures: u32, reason: &'static str, message: String) {
    let meta = &state.metadata;
    tracing::warn!(state = %Key::of(meta), message, "a GeneratorState is not as it should be");
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
    ctx.events.record(reference, Note::warning(reason, message));
}
