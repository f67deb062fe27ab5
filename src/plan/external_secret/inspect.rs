//! A look at a target whose resourceVersion is not the one that is known: whether its data drifted.
//!
//! What others put into a Secret that several ExternalSecrets merge into is theirs, and so is a key that another ExternalSecret took: to
//! write it back at once would have the two write for ever. Each has its turn at its own refreshes, as under ESO.

use k8s_openapi::api::core::v1::Secret;

use super::words::{self, Facts, Memory, Next, Report, Seen};
use super::{NEW_AGE, due, fetch, has_failed, idle_wake, interval, recover, what_is_due};
use crate::api::external_secret::TargetStatus;
use crate::api::{ExternalSecret, ExternalSecretStatus};
use crate::index::TargetView;
use crate::plan::digest::{Digester, comparable};
use crate::plan::entries::generates;
use crate::plan::refresh::Due;
use crate::plan::target::{self, Desired, own_data};
use crate::plan::{Rules, status};
use crate::queue::Priority;

/// A Secret as a look at it tells.
#[must_use]
pub fn seen(es: &ExternalSecret, live: &Secret, digester: &Digester) -> Seen {
    Seen {
        view: TargetView::of(&live.metadata),
        digest: digester.data(live.data.iter().flatten().map(|(k, v)| (k.as_str(), v.0.as_slice()))),
        own: Some(digester.data(own_data(es, live))),
        taken: target::is_taken(es, live),
    }
}

/// Digest of a live Secret's data, now that it is as it should be: of one that others may merge into, only of what is wanted there.
#[must_use]
pub fn data_digest(desired: &Desired, live: &Secret, digester: &Digester) -> String {
    // what an immutable one holds stays, whatever is wanted
    let whole = desired.replace || desired.immutable;
    let data = live.data.iter().flatten().filter(|(key, _)| whole || desired.data.contains_key(*key));
    digester.data(data.map(|(key, value)| (key.as_str(), value.0.as_slice())))
}

/// The Secret was read because its resourceVersion is not the one that we know: says whether its data drifted.
#[must_use]
pub fn after_inspection(facts: &Facts, rules: &Rules, live: Option<Seen>) -> Next {
    if recover::may_be_written(facts) {
        if let Some(report) = live.as_ref().and_then(|live| recover::written(facts, live)) {
            return Next::Written(Box::new(report));
        }
        match what_is_due(facts, rules) {
            Next::Inspect => {}
            next => return next,
        }
    }
    match live.and_then(|live| noted(facts, &live).map(|digest| (live.view, digest))) {
        Some((view, digest)) => Next::Settle(Box::new(settled(facts, view, digest))),
        None => fetch::fetch(facts, rules, NEW_AGE, Priority::Changed),
    }
}

/// Digest to record of a target that waits for its next refresh; `None` where it drifted, so that its values are read now.
fn noted(facts: &Facts, live: &Seen) -> Option<String> {
    let es = &facts.es;
    let ours = live.view.managed || generates(es) || recover::stays(facts);
    // generated values that this object wrote are never made anew because another target failed meanwhile
    let held = generates(es) && es.metadata.uid.is_some() && live.view.controller == es.metadata.uid;
    if !ours || (!held && (recover::is_of_another(es) || recover::was_never_written(es))) {
        return None;
    }
    let recorded = es.status.as_ref().and_then(|s| s.target.as_ref()?.digest.as_ref());
    // an older version recorded that of the whole, where others merge
    if let Some(same) = recorded.filter(|digest| **digest == live.digest || own(es, live) == Some(*digest)) {
        return Some(same.clone());
    }
    let lost = recover::can_be_known(facts) && !recorded.is_some_and(|digest| comparable(digest, &live.digest));
    let taken = live.taken && recorded.is_some() && own(es, live).is_some();
    (lost || taken).then(|| digest_of(es, live).to_owned())
}

/// Digest that is recorded of a target: of all that it holds, or of what is ours in one that others may merge into.
pub(super) fn digest_of<'s>(es: &ExternalSecret, live: &'s Seen) -> &'s str {
    own(es, live).unwrap_or(&live.digest)
}

fn own<'s>(es: &ExternalSecret, live: &'s Seen) -> Option<&'s String> {
    live.own.as_ref().filter(|_| target::merges(es.target().creation_policy.unwrap_or_default()))
}

/// Somebody changed what needs no values: it is noted, and the next refresh mends what is ours of it.
fn settled(facts: &Facts, view: TargetView, digest: String) -> Report {
    let status = facts.es.status.clone().unwrap_or_default();
    let target = TargetStatus {
        resource_version: Some(view.resource_version.clone()),
        digest: Some(digest),
        read_again: status.target.as_ref().and_then(|target| target.read_again.clone()),
        ..TargetStatus::default()
    };
    let written = Some((facts.es.target_name().to_owned(), view.resource_version));
    let memory = Memory { written, ..facts.memory.clone() };
    let mut conditions = status.conditions.clone();
    // a refresh that failed and waits for its window is not made good by a look
    let held = interval(&facts.es).is_ok_and(|interval| matches!(due(facts, interval), Due::Held(_)));
    if has_failed(&facts.es) && !held {
        conditions =
            vec![status::ready(true, &words::reason(&facts.es, "Synced"), "secret synced", facts.es.ready(), facts.now)];
    }
    Report {
        status: Some(ExternalSecretStatus { target: Some(target), conditions, ..status }),
        notes: Vec::new(),
        wake: idle_wake(facts),
        memory,
        failure: None,
    }
}
