//! Generated values stay as they are through restarts, crashes and upgrades: what cannot be read again must be known again.
//!
//! Before generated values are written, their digest goes into the status. A process that ends between the two writes of a sync
//! leaves it there, and the next one finds in the Secret what the status announces.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::words::{Facts, Gathered, Report, Seen};
use super::{synced, synced_resource_version};
use crate::api::ExternalSecretStatus;
use crate::api::external_secret::{PendingStatus, TargetStatus};
use crate::plan::digest::Digester;
use crate::plan::entries::generates;
use crate::plan::target::Desired;

/// The status that announces generated values which are about to be written.
#[must_use]
pub fn pending(facts: &Facts, desired: &Desired, at: Timestamp, digester: &Digester) -> ExternalSecretStatus {
    let mut status = facts.es.status.clone().unwrap_or_default();
    let digest = digester.values(&desired.data);
    status.target.get_or_insert_default().pending =
        Some(PendingStatus { synced_resource_version: synced_resource_version(&facts.es), refresh_time: Time(at), digest });
    status
}

/// Whether the Secret may hold values that the status announces, for the object as it is now.
pub(super) fn may_be_written(facts: &Facts) -> bool {
    let announced = announced(facts).is_some_and(|p| p.synced_resource_version == synced_resource_version(&facts.es));
    // the watch may lag behind our own write
    let ours = facts.memory.written_to(facts.es.target_name()).is_some();
    announced && facts.target.as_ref().map_or(ours, |view| view.managed && !view.deleting)
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
        digest: Some(live.digest.clone()),
        ..TargetStatus::default()
    };
    let read_again = facts.es.status.as_ref().and_then(|s| s.target.as_ref()?.read_again.as_ref()).map(|at| at.0);
    let gathered =
        Gathered { read_at: Some(pending.refresh_time.0), read_again, replace_at: facts.replace_at, ..Gathered::default() };
    Some(synced(facts, &gathered, "Synced", "secret synced", Some(target), Vec::new()))
}

/// Whether a look at the Secret can take the place of generating anew: the values are not due, and a Secret is there that this
/// object wrote. One whose digest is missing, or was made with a key that is lost, is taken as it stands.
pub(super) fn can_be_known(facts: &Facts) -> bool {
    generates(&facts.es) && facts.target.as_ref().is_some_and(|view| view.managed && !view.deleting)
}
