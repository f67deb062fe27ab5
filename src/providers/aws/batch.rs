//! Reads of many values: in batches where the role may, one by one where not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::errors::is_access_denied;
use super::session::Caller;
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{ConnectCx, ErrorKind, Fetched, FindQuery, Found, ProviderError, Room, Want};

/// Most calls at the same time where values are read one by one.
const PARALLEL: usize = 8;
/// Values of a search that are read before what they take is looked at; whole batches.
const AT_ONCE: usize = 200;
/// Most values that are kept out of batches. They are as many as the stores' users name and may not read.
const APART: usize = 1000;
/// A role that may not call the action is tried on it once in this long: it may have been given the right.
pub(super) const DENIED_HELD: Duration = Duration::from_secs(600);

/// Outcomes by id.
pub(super) type Outcomes = BTreeMap<String, Result<Fetched, ProviderError>>;

/// What became of a batch.
pub(super) enum Batch {
    /// Those that AWS said something of. What is left out is asked for again.
    Read(Outcomes),
    /// The batch was refused for a reason that need not hold for each of its values.
    ReadSingly,
    /// IAM refused it.
    Denied,
    /// Somebody refused it without a word of IAM's: a proxy, or who stands in for AWS.
    Forbidden,
}

/// What a refused batch stands for.
pub(super) enum Refusal {
    /// The role may not call the action.
    OfAction,
    /// The role may not call the action, or not for one of the values.
    OfSome,
}

/// What a session has learnt about the role's batches.
pub(super) struct Memory {
    /// The store, for the log.
    store: String,
    /// The role may not call the action: when that was found, or it was last tried on it.
    denied: Mutex<Option<Instant>>,
    /// Values that the role may not read: each would spoil the batch that it is in.
    apart: Mutex<BTreeSet<String>>,
}

impl Memory {
    pub(super) fn new(cx: &ConnectCx) -> Self {
        let store = format!("{} {}/{}", cx.store_kind, cx.namespace, cx.store_name);
        Self { store, denied: Mutex::default(), apart: Mutex::default() }
    }

    fn denied(&self) -> MutexGuard<'_, Option<Instant>> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deny(&self, action: &str, now: Instant) {
        if self.denied().replace(now).is_none() {
            tracing::info!(store = self.store, "the role may not call {action}: values are read one by one");
        }
    }

    fn allow(&self, action: &str) {
        if self.denied().take().is_some() {
            tracing::info!(store = self.store, "the role may call {action} again: values are read in batches");
        }
    }

    /// Whether a batch may go out. Of a role that was refused one may after a while; the others wait for what comes of it.
    fn may_batch(&self, now: Instant) -> bool {
        let mut denied = self.denied();
        let over = denied.is_none_or(|since| now.saturating_duration_since(since) >= DENIED_HELD);
        if over && denied.is_some() {
            *denied = Some(now);
        }
        over
    }

    fn apart(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.apart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Learns from the single reads that came after a refused batch: if none was denied, it is the action that the role may not
    /// call; if some were, the others can be read in batches later on.
    fn learn(&self, action: &str, suspects: &[&str], read: &Outcomes) {
        let is_denied = |id: &str| matches!(read.get(id), Some(Err(error)) if error.kind == ErrorKind::Denied);
        let is_allowed = |id: &str| match read.get(id) {
            Some(Ok(_)) => true,
            Some(Err(error)) => error.kind == ErrorKind::NotFound,
            None => false,
        };
        let mut apart = self.apart();
        apart.retain(|id| !is_allowed(id));
        if !suspects.is_empty() && suspects.iter().all(|id| is_allowed(id)) {
            self.deny(action, Instant::now());
        } else if suspects.iter().any(|id| is_denied(id)) {
            // the next batch is without those, and tells
            *self.denied() = None;
        }
        for id in suspects.iter().filter(|id| is_denied(id)) {
            if apart.len() < APART {
                apart.insert((*id).to_owned());
            }
        }
    }
}

/// A service that reads in batches.
#[async_trait]
pub(super) trait ReadMany: Send + Sync {
    /// IAM's name of the action that reads a batch.
    const ACTION: &'static str;
    /// IAM's name of the action that reads one value: a batch that fails is told as that, too. With what other values one was asked for
    /// changes from time to time, and is nothing that its reader can mend.
    const SINGLE: &'static str;
    /// Most values in a batch: AWS's limit.
    const SIZE: usize;
    /// What it means that IAM refuses a batch.
    const REFUSAL: Refusal;
    /// Whether a search by path or by tags alone leaves out what the role cannot read, as ESO does with this service.
    const LENIENT: bool;

    fn memory(&self) -> &Memory;

    async fn read_batch(&self, ids: &[&str], caller: &Caller<'_>) -> Batch;

    /// Reads the current value.
    async fn read_one(&self, id: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError>;

    /// What a call for a batch that failed as a whole comes to. Where that holds for all of it, each is told as if read alone.
    async fn refused<E: ProvideErrorMetadata + Sync>(
        &self,
        ids: &[&str],
        caller: &Caller<'_>,
        error: &SdkError<E, HttpResponse>,
    ) -> Batch {
        if is_access_denied(error.code()) {
            return Batch::Denied;
        }
        let forbidden = error.raw_response().is_some_and(|raw| raw.status().as_u16() == 403);
        if forbidden && error.code().is_none_or(str::is_empty) {
            return Batch::Forbidden;
        }
        match caller.failed(Self::SINGLE, "", error).await.kind {
            ErrorKind::NotFound | ErrorKind::Misconfigured => Batch::ReadSingly,
            _ => Batch::Read(ids.iter().map(|id| ((*id).to_owned(), Err(caller.told(Self::SINGLE, id, error)))).collect()),
        }
    }

    /// Current values by id, in the ids' order: in batches as far as that goes.
    async fn read_all(&self, ids: &[String], caller: &Caller<'_>) -> Vec<Result<Fetched, ProviderError>> {
        let memory = self.memory();
        let distinct: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        let together: Vec<&str> = {
            let apart = memory.apart();
            distinct.iter().copied().filter(|id| !apart.contains(*id)).collect()
        };
        let (mut read, mut suspects) = (Outcomes::new(), Vec::new());
        for chunk in together.chunks(Self::SIZE) {
            if chunk.len() == 1 || !memory.may_batch(Instant::now()) {
                break;
            }
            match self.read_batch(chunk, caller).await {
                Batch::Read(outcomes) => {
                    if outcomes.values().any(Result::is_ok) {
                        memory.allow(Self::ACTION);
                    }
                    read.extend(outcomes);
                }
                Batch::ReadSingly => {}
                Batch::Denied => match Self::REFUSAL {
                    Refusal::OfAction => memory.deny(Self::ACTION, Instant::now()),
                    Refusal::OfSome => suspects.extend_from_slice(chunk),
                },
                Batch::Forbidden => suspects.extend_from_slice(chunk),
            }
        }
        // Also what a batch's answer left out: a value is missing only where AWS says so.
        let left: Vec<String> = distinct.into_iter().filter(|id| !read.contains_key(*id)).map(str::to_owned).collect();
        let singly = stream::iter(left).map(|id| async move {
            let outcome = self.read_one(&id, caller).await;
            (id, outcome)
        });
        read.extend(singly.buffer_unordered(PARALLEL).collect::<Vec<_>>().await);
        memory.learn(Self::ACTION, &suspects, &read);
        ids.iter().map(|id| read.get(id).cloned().unwrap_or_else(|| Err(unread()))).collect()
    }

    /// The id of a want.
    fn id(&self, want: &Want) -> String;

    /// Reads what no batch can: a version, or tags.
    async fn read_special(&self, want: &Want, caller: &Caller<'_>) -> Result<Fetched, ProviderError>;

    /// All wants, in their order.
    async fn read_wants(&self, wants: &[Want], caller: &Caller<'_>) -> Vec<Result<Fetched, ProviderError>> {
        let plain: Vec<String> = wants.iter().filter(|w| is_plain(w)).map(|w| self.id(w)).collect();
        let mut special = Vec::new();
        for want in wants.iter().filter(|w| !is_plain(w)) {
            special.push(self.read_special(want, caller));
        }
        let special = stream::iter(special).buffered(PARALLEL).collect::<Vec<_>>();
        let (plain, special) = futures::join!(self.read_all(&plain, caller), special);
        let (mut plain, mut special) = (plain.into_iter(), special.into_iter());
        let outcomes = wants.iter().map(|w| if is_plain(w) { plain.next() } else { special.next() });
        outcomes.map(|o| o.unwrap_or_else(|| Err(unread()))).collect()
    }

    /// The values of a search's names.
    async fn read_found(
        &self,
        names: Vec<String>,
        query: &FindQuery,
        caller: &Caller<'_>,
    ) -> Result<Vec<Found>, ProviderError> {
        let (mut found, mut refused, room) = (Vec::new(), None, Room::default());
        for some in names.chunks(AT_ONCE) {
            for (name, value) in some.iter().zip(self.read_all(some, caller).await) {
                match value {
                    Ok(fetched) => {
                        room.take(name.len() + fetched.bytes.len())?;
                        found.push(Found { name: name.clone(), bytes: fetched.bytes });
                    }
                    // It went away between the list and the read.
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) if Self::LENIENT && is_of_one(error.kind) && !is_by_name(query) => refused = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        match refused {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }
}

/// Whether a batch can read it: a value, of the current version.
fn is_plain(want: &Want) -> bool {
    want.version.is_empty() && want.metadata == MetadataPolicy::None
}

/// Never "missing": that is for AWS alone to say.
fn unread() -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, "the secret was not read")
}

/// Whether each match must be readable, also of a lenient service. A search by path or by tags alone takes what can be read, if that
/// is anything: a role that lost its rights must not look like secrets that are gone.
fn is_by_name(query: &FindQuery) -> bool {
    query.path.is_empty() && (query.tags.is_empty() || !query.name.is_empty())
}

/// Whether a failure is one secret's own: the role may not read it, or its KMS key is disabled.
fn is_of_one(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::Misconfigured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_role_is_tried_again_once_in_a_while() {
        let memory = Memory { store: String::new(), denied: Mutex::default(), apart: Mutex::default() };
        let begun = Instant::now();
        let may = |seconds| memory.may_batch(begun + Duration::from_secs(seconds));
        assert_eq!([0, 1].map(may), [true; 2]);
        memory.deny("action", begun);
        assert_eq!([1, 599, 600, 600, 1199, 1200].map(may), [false, false, true, false, false, true]);
        memory.allow("action");
        assert_eq!([1201, 1202].map(may), [true; 2]);
    }
}
