//! Generated values stay as they are through restarts, crashes and upgrades: what cannot be read again must be known again.
//!
//! Before generated values are written, their digest goes into the status. A process that ends between the two writes of a sync
//! leaves it there, and the next one finds in the Secret what the status announces.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::inspect::digest_of;
use super::words::{self, Facts, Gathered, Report, Seen};
use super::{absent, has_failed, interval, synced, synced_resource_version};
use crate::api::external_secret::{CreationPolicy, PendingStatus, TargetStatus};
use crate::api::{ANNOTATION_ALLOW_EMPTY, ExternalSecret, ExternalSecretStatus};
use crate::plan::digest::Digester;
use crate::plan::entries::generates;
use crate::plan::refresh;
use crate::plan::target::{Desired, IMMUTABLE};

/// The status that announces generated values which are about to be written. `held` is the digest of those that this object wrote into
/// the Secret before ([`Seen::own`]); `None` where they are the same, as with a generator that makes no others: to find them there would
/// not say that the rest was written, too.
#[must_use]
pub fn pending(
    facts: &Facts,
    desired: &Desired,
    held: Option<&str>,
    at: Timestamp,
    digester: &Digester,
) -> Option<ExternalSecretStatus> {
    let digest = digester.values(&desired.data);
    if held == Some(digest.as_str()) {
        return None;
    }
    let mut status = facts.es.status.clone().unwrap_or_default();
    status.target.get_or_insert_default().pending =
        Some(PendingStatus { synced_resource_version: synced_resource_version(&facts.es), refresh_time: Time(at), digest });
    Some(status)
}

/// The report of a write that was announced and did not take place: its status takes the announcement back, also where it has no other
/// news.
#[must_use]
pub fn refused(facts: &Facts, report: Report) -> Report {
    let status = report.status.or_else(|| facts.es.status.clone());
    Report { status, ..report }
}

/// The report of a write of which nobody knows whether it was done: the status goes on announcing its values, so that the next look
/// finds out.
#[must_use]
pub fn in_doubt(facts: &Facts, report: Report, said: PendingStatus) -> Report {
    let mut status = report.status.or_else(|| facts.es.status.clone()).unwrap_or_default();
    status.target.get_or_insert_default().pending = Some(said);
    Report { status: Some(status), ..report }
}

/// Whether the Secret may hold values that the status announces, for the object as it is now.
pub(super) fn may_be_written(facts: &Facts) -> bool {
    let announced = announced(facts).is_some_and(|p| p.synced_resource_version == synced_resource_version(&facts.es));
    // the watch may lag behind our own write
    let ours = facts.memory.written_to(facts.es.target_name()).is_some();
    announced && facts.target.as_ref().map_or(ours, |view| view.managed)
}

/// What the status announces.
fn announced(facts: &Facts) -> Option<&PendingStatus> {
    facts.es.status.as_ref()?.target.as_ref()?.pending.as_ref()
}

/// The report of a sync whose last write did not happen; `None` where the Secret holds other values.
pub(super) fn written(facts: &Facts, live: &Seen) -> Option<Report> {
    let pending = announced(facts)?;
    if live.own.as_ref() != Some(&pending.digest) {
        return None;
    }
    let target = TargetStatus {
        resource_version: Some(live.view.resource_version.clone()),
        digest: Some(digest_of(&facts.es, live).to_owned()),
        ..TargetStatus::default()
    };
    let read_again = facts.es.status.as_ref().and_then(|s| s.target.as_ref()?.read_again.as_ref()).map(|at| at.0);
    let gathered =
        Gathered { read_at: Some(pending.refresh_time.0), read_again, replace_at: facts.replace_at, ..Gathered::default() };
    Some(synced(facts, &gathered, "Synced", "secret synced", Some(target), Vec::new()))
}

/// Whether a look at the Secret can take the place of generating or reading anew: the values are not due, and a Secret is there that
/// this object wrote. One whose digest is missing, or was made with a key that is lost, is taken as it stands.
pub(super) fn can_be_known(facts: &Facts) -> bool {
    let there = facts.target.as_ref().is_some_and(|view| view.managed);
    there && (generates(&facts.es) || stays(facts))
}

/// Whether the values that are read are not read again of themselves now, and the last sync wrote the Secret. What the provider has
/// by now is then not asked for without need, as in ESO, whose objects these may be.
pub(super) fn stays(facts: &Facts) -> bool {
    let (es, target) = (&facts.es, facts.es.target());
    let Some(status) = &es.status else { return false };
    let recorded = status.target.as_ref().is_some_and(|target| target.digest.is_some());
    let bound = target.manifest.is_some() || status.binding.is_some() && !is_of_another(es);
    let wrote = recorded || (bound && !has_failed(es) && !absent::is_told(status));
    let writes = target.creation_policy.unwrap_or_default() != CreationPolicy::None;
    writes && wrote && !is_refused(es) && interval(es).is_ok_and(|interval| !refresh::follows(es, interval, facts.now))
}

/// Whether what the status records is of a Secret of another name, which the spec named before.
pub(super) fn is_of_another(es: &ExternalSecret) -> bool {
    let binding = es.status.as_ref().and_then(|status| status.binding.as_ref());
    es.target().manifest.is_none() && binding.is_some_and(|binding| binding.name != es.target_name())
}

/// Whether the Secret that the spec names since it was edited could not be written so far. (A status of ESO's records nothing of any.)
pub(super) fn was_never_written(es: &ExternalSecret) -> bool {
    let Some(status) = es.status.as_ref().filter(|_| has_failed(es)) else { return false };
    let edited = status.synced_resource_version.as_ref() != Some(&synced_resource_version(es));
    edited && status.target.as_ref().is_some_and(|target| target.digest.is_none())
}

/// Whether the last failure was that the Secret may not be changed or deleted: that what it holds is known does not make it good.
fn is_refused(es: &ExternalSecret) -> bool {
    let message = es.ready().and_then(|c| c.message.as_deref()).unwrap_or_default();
    let not_done = [IMMUTABLE, words::not_deleted(es)].iter().any(|text| message.starts_with(text));
    has_failed(es) && (not_done || message.contains(ANNOTATION_ALLOW_EMPTY))
}
