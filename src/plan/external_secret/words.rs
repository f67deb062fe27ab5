//! The words in which the shell and the plan of an ExternalSecret talk: what is known, what to do, what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::generators::AnySpec;
use crate::api::{AnyStore, ExternalSecret, ExternalSecretStatus};
use crate::fetch::Request;
use crate::index::{AnyGenerator, GeneratorFacts, GeneratorId, Key, StoreHealth, StoreId, TargetView};
use crate::plan::target::{Desired, Update};
use crate::plan::template::Versions;
use crate::plan::{Note, Wake};
use crate::providers::{ErrorKind, Provider, ProviderError};
use crate::queue::Priority;
use crate::render::Place;
use crate::secret_bytes::SecretBytes;

/// Everything that a plan is made from.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The object.
    pub es: Arc<ExternalSecret>,
    /// The stores that it names, and those that stand in for them.
    pub stores: BTreeMap<StoreId, StoreFacts>,
    /// The generators that it names.
    pub generators: BTreeMap<GeneratorId, GeneratorFacts>,
    /// Labels of its namespace, where they are known.
    pub namespace_labels: Option<Arc<BTreeMap<String, String>>>,
    /// Its Secret's metadata.
    pub target: Option<TargetView>,
    /// Secrets that it owns, or that one of its name owned which was deleted.
    pub owned: Vec<(Key, TargetView)>,
    /// The ConfigMaps and Secrets that its template names.
    pub sources: Versions,
    /// When what was generated for it must be replaced, as its lease ends; `None`: it has no lease.
    pub replace_at: Option<Timestamp>,
    /// What this process remembers of it.
    pub memory: Memory,
    /// What time it is.
    pub now: Timestamp,
}

impl Facts {
    /// How often the values of those stores changed that keep them in objects of this cluster.
    #[must_use]
    pub fn values(&self) -> BTreeMap<StoreId, u64> {
        self.stores.iter().filter_map(|(id, store)| Some((id.clone(), store.values?))).collect()
    }

    /// The provider of a store, if that exists and the provider is served.
    #[must_use]
    pub fn provider(&self, id: &StoreId) -> Option<&dyn Provider> {
        self.stores.get(id)?.store.as_ref()?.spec.provider.served()
    }
}

/// What is known of a store.
#[derive(Clone, Debug, Default)]
pub struct StoreFacts {
    /// The store, if it exists.
    pub store: Option<Arc<AnyStore>>,
    /// What the last check of this very revision of it came to.
    pub health: Option<StoreHealth>,
    /// Where the values themselves are in objects of this cluster: counts the changes of those.
    pub values: Option<u64>,
}

/// What this process remembers of an object between two looks at it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// When the values in the Secret were read; the status may be older.
    pub refresh_time: Option<Timestamp>,
    /// Name and resourceVersion of the Secret after our last write; the watch may lag behind.
    pub written: Option<(String, String)>,
    /// When the values that were read are read again at the latest; the status may say earlier.
    pub read_again: Option<Timestamp>,
    /// Versions of the sources of its template when it was last synced.
    pub sources: Option<Versions>,
    /// [`StoreFacts::values`] of its stores when it was last synced.
    pub values: BTreeMap<StoreId, u64>,
    /// Failures in a row, and the `syncedResourceVersion` that they were for.
    pub failures: u32,
    /// See `failures`.
    pub failed_for: String,
    /// Reason and message of the events that were last recorded.
    pub told: Vec<(&'static str, String)>,
    /// Uid of the object that this was remembered of.
    pub uid: String,
}

impl Memory {
    /// resourceVersion of a Secret after our last write, if that was the one that we wrote: after a change of `target.name`
    /// it was another, whose resourceVersion says nothing about this one.
    #[must_use]
    pub fn written_to(&self, secret: &str) -> Option<&String> {
        self.written.as_ref().filter(|(name, _)| name == secret).map(|(_, version)| version)
    }

    /// The same, if it is of the object of that uid: one that was made anew under its name is another.
    #[must_use]
    pub fn of_object(self, uid: &str) -> Self {
        if self.uid == uid { self } else { Self::default() }
    }

    /// The same, where the status that tells of it could not be written: what was due is due again, and what was written stays known as
    /// our own.
    #[must_use]
    pub fn untold(self, before: &Self) -> Self {
        let Self { refresh_time, read_again, sources, values, .. } = before.clone();
        Self { refresh_time, read_again, sources, values, ..self }
    }
}

/// What to do first.
#[derive(Debug)]
pub enum Next {
    /// Not ours to look at.
    Ignore,
    /// Nothing is due.
    Idle(Wake),
    /// The Secret may have been changed by somebody: read it, and ask [`after_inspection`].
    Inspect,
    /// Read values.
    Fetch(FetchPlan),
    /// It is being deleted, and ESO's finalizer holds it: delete that Secret, by name and uid, and take the finalizer off.
    CleanUp(Option<(String, String)>),
    /// Report.
    Settle(Box<Report>),
    /// The Secret holds the values that were announced last: what they took the place of goes out of use. Report.
    Written(Box<Report>),
}

/// What to read.
#[derive(Clone, Debug)]
pub struct FetchPlan {
    /// Requests by store.
    pub requests: BTreeMap<StoreId, Vec<Request>>,
    /// For each store those that stand in for it while it is unavailable, in their order.
    pub stand_ins: BTreeMap<StoreId, Vec<StoreId>>,
    /// What to generate, once, after all reads came to a good end.
    pub generate: Vec<Generate>,
    /// How old a shared value may be.
    pub max_age: Duration,
    /// After what time from the read the values are read again; `None`: not by themselves.
    pub again: Option<Duration>,
    /// Whether a value that turns out to be missing is read again, unshared.
    pub insist: bool,
    /// In which line the object stands from here on.
    pub priority: Priority,
}

/// What to generate for one entry.
#[derive(Clone, Debug)]
pub struct Generate {
    /// Index of the entry in `spec.dataFrom`.
    pub index: usize,
    /// The generator.
    pub generator: Arc<AnyGenerator>,
    /// What it makes.
    pub spec: Arc<AnySpec>,
}

/// What came of the reads: the values, or what is wrong.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// Keys and values of the Secret.
    pub data: BTreeMap<String, SecretBytes>,
    /// When the oldest of the values was read.
    pub read_at: Option<Timestamp>,
    /// Entries whose secret the provider says does not exist, under a policy that allows it.
    pub missing: Vec<String>,
    /// Whether the provider says so of every entry that asks for something.
    pub gone: bool,
    /// When the values that were read are read again at the latest, as one of them does not hold much longer.
    pub read_again: Option<Timestamp>,
    /// When what was generated must be replaced, as its lease ends.
    pub replace_at: Option<Timestamp>,
    /// Stores that are unavailable, each with the one that was read from in its place.
    pub stood_in: BTreeMap<StoreId, StoreId>,
}

impl Gathered {
    /// Whether there are no values, and yet not all that was asked for is said not to exist: a search that comes back empty may be an
    /// outage.
    #[must_use]
    pub fn found_nothing(&self) -> bool {
        self.data.is_empty() && !self.gone
    }
}

/// What to do with the Secret.
#[derive(Debug)]
pub enum Decision {
    /// Read the sources of the template, render it, and ask [`rendered`](super::rendered).
    Render,
    /// Read the Secret first: it is not known whether it differs.
    ReadTarget(Desired),
    /// Make it.
    Create(Desired),
    /// Change it.
    Update(Box<Update>),
    /// Leave it: it is as it should be. Digest of what is wanted.
    Keep(String),
    /// Delete it.
    Delete {
        /// Its uid.
        uid: String,
    },
    /// Report.
    Settle(Box<Report>),
}

/// A target that was read.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its metadata.
    pub view: TargetView,
    /// Keyed digest of what it holds.
    pub digest: String,
    /// Keyed digest of that part of a Secret's data which we wrote.
    pub own: Option<String>,
    /// Whether other ExternalSecrets wrote a Secret's data last.
    pub taken: bool,
}

/// Reason of a condition: ESO's, which differ by what the target is.
pub(super) fn reason(es: &ExternalSecret, what: &str) -> String {
    let target = if es.target().manifest.is_some() { "Resource" } else { "Secret" };
    format!("{target}{what}")
}

/// Reason of the condition of a failure.
pub(super) fn error_reason(es: &ExternalSecret, failure: &Failure) -> String {
    // this one ESO finds before it looks at what the target is
    if failure.message == NOT_ALLOWED { "SecretSyncedError".into() } else { reason(es, "SyncedError") }
}

/// ESO's text where a target of another kind than Secret may not be, or makes no sense.
pub const NOT_ALLOWED: &str = "invalid generic target";

/// The event that tells of a write.
pub(super) fn done(es: &ExternalSecret, what: &'static str) -> Note {
    let text = match (&es.target().manifest, what) {
        (Some(kind), _) => format!("{what} {} {}", kind.kind, es.target_name()),
        (None, "Deleted") => "secret deleted due to DeletionPolicy=Delete".into(),
        (None, _) => format!("secret {}", what.to_lowercase()),
    };
    Note::normal(what, text)
}

/// ESO's text where a merge has nothing to merge into.
pub(super) fn not_created(es: &ExternalSecret) -> &'static str {
    match es.target().manifest {
        Some(_) => "resource will not be created due to CreationPolicy=Merge",
        None => "secret will not be created due to CreationPolicy=Merge",
    }
}

/// ESO's text where a target cannot be deleted.
#[must_use]
pub fn not_deleted(es: &ExternalSecret) -> &'static str {
    if es.target().manifest.is_some() { "could not delete resource" } else { "could not delete secret" }
}

/// ESO's text where Secrets under names that the object had before cannot be deleted.
pub const ORPHANS_LEFT: &str = "could not delete orphaned secrets";

/// How a write of the Secret went.
#[derive(Clone, Debug)]
pub enum Written {
    /// It was not needed. The digest of the data, if the Secret was read.
    Kept {
        /// The resourceVersion that was seen.
        resource_version: String,
        /// Digest of its data, if it was read.
        data: Option<String>,
    },
    /// It was made, or changed (`false` where the API server found nothing to change).
    Applied {
        /// Whether it was new.
        created: bool,
        /// Whether anything changed.
        changed: bool,
        /// Its resourceVersion now.
        resource_version: String,
        /// Digest of its data now.
        data: String,
    },
    /// It was deleted.
    Deleted,
}

/// What to report of an object.
#[derive(Clone, Debug)]
pub struct Report {
    /// The status to write; `None` leaves it.
    pub status: Option<ExternalSecretStatus>,
    /// Events.
    pub notes: Vec<Note>,
    /// When to look again.
    pub wake: Wake,
    /// What to remember.
    pub memory: Memory,
    /// Whether the sync failed, and the class of the failure.
    pub failure: Option<&'static str>,
}

/// Why a sync failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// ESO's text for the condition.
    pub message: &'static str,
    /// What happened, which object is at fault and what to do: follows the text, and is the event.
    pub cause: String,
    /// Class of a provider's failure.
    pub kind: Option<ErrorKind>,
    /// How long the provider asks us to wait.
    pub retry_after: Option<Duration>,
    /// Whether only a change can mend it.
    pub wait_for_change: bool,
    /// Whether the Secret was found, so that the status is bound to it.
    pub bound: bool,
    /// What the provider did not have before that, each as an event.
    pub missing: Vec<String>,
}

impl Failure {
    /// A failure of the provider or of what it gave.
    #[must_use]
    pub fn provider(place: &Place, error: &ProviderError) -> Self {
        Self {
            message: "could not get secret data from provider",
            cause: format!("{place}: {}", error.detail),
            kind: Some(error.kind),
            retry_after: error.retry_after,
            wait_for_change: false,
            bound: false,
            missing: Vec::new(),
        }
    }

    /// A failure that trying again may mend.
    #[must_use]
    pub fn retry(message: &'static str, cause: String) -> Self {
        Self { message, cause, kind: None, retry_after: None, wait_for_change: false, bound: true, missing: Vec::new() }
    }

    /// A failure at the Secret that only a change of it, or of the spec, can mend.
    #[must_use]
    pub fn target(message: &'static str, cause: String) -> Self {
        Self { wait_for_change: true, ..Self::retry(message, cause) }
    }

    /// A failure of the spec.
    #[must_use]
    pub fn spec(message: &'static str, cause: String) -> Self {
        Self { wait_for_change: true, bound: false, ..Self::retry(message, cause) }
    }
}
