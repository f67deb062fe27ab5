//! What a cluster-wide parent does: in which namespaces its child is made, brought into line or deleted, and what is told.
//!
//! No finalizer is set, on the parent or on a namespace, as ESO does: children go with their parent by their owner reference,
//! and with their namespace. Those that ESO left are taken off as soon as they are seen, also where ESO would forget them.

mod same;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde_json::{Map, Value, json};

use super::{Note, Rules, Wake, access, duration, phase};
use crate::api::fan_out::{Child, NamespaceFailure, Parent, ParentKind, ParentStatus, Provided};
use crate::api::{Condition, FINALIZER_ESO_CLUSTER, FINALIZER_ESO_NAMESPACE, FINALIZER_PUSH};
use crate::index::{Key, NamespaceView, ParentId, controller_of};
use crate::queue::Priority;

/// `refreshTime` of a parent that names none: ESO's default.
const DEFAULT_REFRESH: Duration = Duration::from_secs(3600);
/// When a write is tried again that somebody else's write came before.
const SOON: Duration = Duration::from_secs(2);
/// When a write is tried again that the API server refused, if nothing is due before.
const LATER: Duration = Duration::from_secs(300);
/// ESO's name for a failure that is of no namespace.
const UNKNOWN: &str = "unknown";
/// ESO's text where something failed.
const FAILED: &str = "one or more namespaces failed";
/// ESO's reason and text for a ClusterPushSecret that does not know its namespaces.
const ERRORED: &str = "Errored";
const NO_NAMESPACES: &str = "failed to get target Namespaces";

/// What is known of a parent at one moment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Which parent.
    pub id: ParentId,
    /// The parent, unless it is gone.
    pub parent: Option<Arc<Parent>>,
    /// All namespaces.
    pub namespaces: BTreeMap<Arc<str>, Arc<NamespaceView>>,
    /// The parent's children, and what is in their places.
    pub children: BTreeMap<Key, Child>,
}

/// What is to be done, in this order: finalizers, deletions, writes, then the parent's own finalizer.
#[derive(Debug, Default)]
pub struct Plan {
    /// Namespaces from which ESO's finalizer goes.
    pub release: Vec<Release>,
    /// Children that are not wanted: their uids.
    pub delete: Vec<(Key, String)>,
    /// Children to make or to bring into line.
    pub write: Vec<Write>,
    /// Finalizers that stay on the parent, where ESO's goes.
    pub let_go: Option<Vec<String>>,
    /// Namespaces in which all is as it should be, or will be with nothing more to do.
    pub provisioned: BTreeSet<String>,
    /// Namespaces in which nothing can be done, and why.
    pub failed: BTreeMap<String, String>,
    /// Nothing is told: the parent is gone or going.
    pub silent: bool,
    /// Why it cannot be said which namespaces are meant.
    pub lost: Option<String>,
}

/// A namespace from which ESO's finalizer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The namespace.
    pub namespace: Arc<str>,
    /// Its resourceVersion: the write fails if it is another by then.
    pub resource_version: String,
    /// The finalizers that stay.
    pub finalizers: Vec<String>,
}

/// A child to write.
#[derive(Clone, Debug)]
pub struct Write {
    /// Where.
    pub key: Key,
    /// What is there; `None`: nothing, and the write fails if something is.
    pub live: Option<Child>,
}

/// What became of a write or a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It has no meaning any more: the namespace is going.
    Moot,
    /// Somebody else was faster: look again.
    Again,
    /// The API server had no time for it: told, and tried again after a pause that grows.
    Unavailable(String),
    /// The API server refuses it: told, and tried again later.
    Refused(String),
}

/// What to tell of a parent, and when to look again.
#[derive(Debug)]
pub struct Report {
    /// The status to write; `None` leaves it.
    pub status: Option<ParentStatus>,
    /// Whether all is well.
    pub ready: bool,
    /// Events.
    pub notes: Vec<Note>,
    /// When to look again.
    pub wake: Wake,
}

/// Whether a parent means a namespace, by its name or its labels.
#[must_use]
pub fn is_meant(parent: &Parent, name: &str, labels: &BTreeMap<String, String>) -> bool {
    parent.namespaces().iter().any(|n| n == name) || parent.selectors().any(|s| access::selects(s, labels))
}

/// Decides what is to be done.
#[must_use]
pub fn plan(facts: &Facts, rules: &Rules) -> Plan {
    let mut plan = Plan { release: releases(facts, rules), ..Plan::default() };
    let Some(parent) = &facts.parent else {
        plan.silent = true;
        return plan;
    };
    if parent.metadata().deletion_timestamp.is_some() {
        let finalizers = parent.metadata().finalizers.as_deref().unwrap_or_default();
        if finalizers.iter().any(|f| f == FINALIZER_ESO_CLUSTER) {
            plan.let_go = Some(without(finalizers, FINALIZER_ESO_CLUSTER));
        }
        plan.silent = true;
        return plan;
    }
    if let Some(why) = parent.selectors().find_map(invalid) {
        // ESO: nothing is known of the namespaces, so nothing is deleted either
        let seen = parent.status().map(|s| s.seen).unwrap_or_default();
        plan.provisioned = seen.provisioned.into_iter().collect();
        plan.failed = match facts.id.kind {
            ParentKind::ClusterExternalSecret => BTreeMap::from([(UNKNOWN.into(), why.clone())]),
            // what was said of single namespaces stays
            ParentKind::ClusterPushSecret => {
                seen.failed.into_iter().map(|f| (f.namespace, f.reason.unwrap_or_default())).collect()
            }
        };
        plan.lost = Some(why);
        return plan;
    }
    let meant = |name: &str, view: &NamespaceView| !view.terminating && is_meant(parent, name, &view.labels);
    let wanted: BTreeSet<Key> = facts
        .namespaces
        .iter()
        .filter(|(name, view)| meant(name, view))
        .map(|(name, _)| Key::new(name, parent.child_name()))
        .collect();
    for (key, child) in &facts.children {
        let (meta, terminating) = (child.metadata(), facts.namespaces.get(&key.namespace).is_none_or(|n| n.terminating));
        if !wanted.contains(key) && is_ours(&facts.id, meta) && meta.deletion_timestamp.is_none() && !terminating {
            plan.delete.push((key.clone(), meta.uid.clone().unwrap_or_default()));
        }
    }
    for key in wanted {
        let namespace = key.namespace.to_string();
        match facts.children.get(&key) {
            None => match former(facts, &key) {
                None => plan.write.push(Write { key, live: None }),
                // made as soon as the former one is gone, which wakes us
                Some(former) if former.metadata().deletion_timestamp.is_none() => {}
                Some(former) => drop(plan.failed.insert(namespace, waits_for(former))),
            },
            Some(live) if !is_ours(&facts.id, live.metadata()) => {
                plan.failed.insert(namespace, facts.id.kind.exists().into());
            }
            // made anew as soon as it is gone, which wakes us
            Some(live) if live.metadata().deletion_timestamp.is_some() => {}
            Some(live) if in_line(parent, live) => {
                plan.provisioned.insert(namespace);
            }
            Some(live) => plan.write.push(Write { key, live: Some(live.clone()) }),
        }
    }
    plan
}

/// A child of another name that will delete what it pushed. One beside it would find the same values at the provider, and lose them.
fn former<'a>(facts: &'a Facts, key: &Key) -> Option<&'a Child> {
    let deletes = |meta: &ObjectMeta| meta.finalizers.iter().flatten().any(|f| f == FINALIZER_PUSH);
    let near = facts.children.iter().filter(|(other, _)| other.namespace == key.namespace && *other != key);
    let own = near.filter(|(_, child)| matches!(child, Child::PushSecret(_)) && is_ours(&facts.id, child.metadata()));
    own.map(|(_, child)| child).find(|child| deletes(child.metadata()))
}

fn waits_for(former: &Child) -> String {
    let name = former.metadata().name.as_deref().unwrap_or_default();
    format!("the former PushSecret {name:?} is still deleting what it pushed")
}

/// The namespaces that carry ESO's finalizer for this parent: it has no purpose here, whether the parent means them or not. Where such
/// parents are not served, ESO may run beside us and hold the namespaces.
fn releases(facts: &Facts, rules: &Rules) -> Vec<Release> {
    if facts.id.kind != ParentKind::ClusterExternalSecret || !rules.cluster_external_secrets {
        return Vec::new();
    }
    let finalizer = format!("{FINALIZER_ESO_NAMESPACE}{}", facts.id.name);
    let held = facts.namespaces.iter().filter(|(_, view)| view.finalizers.contains(&finalizer));
    held.map(|(name, view)| Release {
        namespace: name.clone(),
        resource_version: view.resource_version.clone(),
        finalizers: without(&view.finalizers, &finalizer),
    })
    .collect()
}

fn without(finalizers: &[String], gone: &str) -> Vec<String> {
    finalizers.iter().filter(|f| *f != gone).cloned().collect()
}

/// Whether an object is the parent's child. By name, as in ESO: a parent that was deleted and made again takes its children
/// over, without a gap, before the garbage collector comes to them.
fn is_ours(id: &ParentId, meta: &ObjectMeta) -> bool {
    ParentId::of_child(meta).as_ref() == Some(id)
}

/// Whether a child is all that the parent wants, and nothing else. What the child's own controller writes is not looked at.
fn in_line(parent: &Parent, live: &Child) -> bool {
    let meta = live.metadata();
    meta.labels.clone().unwrap_or_default() == parent.child_labels()
        && meta.annotations.clone().unwrap_or_default() == parent.child_annotations()
        && controller_of(meta).is_some_and(|owner| Some(&owner.uid) == parent.metadata().uid.as_ref())
        && same::is_wanted(parent, live)
}

/// Why a selector cannot be understood, in ESO's words. Such a one matches nothing, and must not be taken for one that does so
/// on purpose.
fn invalid(selector: &LabelSelector) -> Option<String> {
    let why = access::fault(selector)?;
    Some(format!("failed to convert label selector {}: {why}", access::as_go_prints(selector)))
}

/// A child as it is made.
///
/// # Errors
/// Where the spec is no JSON, which none that came from the API server is.
pub fn body(parent: &Parent, key: &Key) -> Result<Value, serde_json::Error> {
    Ok(json!({
        "apiVersion": parent.kind().api_version(),
        "kind": parent.kind().child(),
        "metadata": {
            "name": &*key.name,
            "namespace": &*key.namespace,
            "labels": parent.child_labels(),
            "annotations": parent.child_annotations(),
            "ownerReferences": [owner_reference(parent)],
        },
        "spec": parent.child_spec()?,
    }))
}

/// What has to change in a child that is there, as a merge patch: exactly the difference, so that nothing of another hand stays
/// in what the parent decides, whichever field manager it has. It fails if the child is another by then.
///
/// # Errors
/// As [`body`].
pub fn patch(parent: &Parent, live: &Child) -> Result<Value, serde_json::Error> {
    let meta = live.metadata();
    let map = |map: BTreeMap<String, String>| json!(map);
    let changes = |live: Option<BTreeMap<String, String>>, wanted| difference(&map(live.unwrap_or_default()), &map(wanted));
    let own = ParentId::of(parent);
    let is_own = |o: &&OwnerReference| ParentKind::of_owner(o) == Some(own.kind) && o.name == *own.name;
    let others = meta.owner_references.iter().flatten().filter(|o| !is_own(o)).cloned();
    let owners: Vec<OwnerReference> = others.chain([owner_reference(parent)]).collect();
    // the same in other words is no difference: a new generation would make new values
    let spec = match same::is_wanted(parent, live) {
        true => json!({}),
        false => difference(&live.spec()?, &parent.child_spec()?),
    };
    Ok(json!({
        "metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "labels": changes(meta.labels.clone(), parent.child_labels()),
            "annotations": changes(meta.annotations.clone(), parent.child_annotations()),
            "ownerReferences": owners,
        },
        "spec": spec,
    }))
}

/// The merge patch (RFC 7386) that makes one value of another.
fn difference(live: &Value, wanted: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (live, wanted) else { return wanted.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let changed = changed.map(|(key, value)| (key.clone(), difference(old.get(key).unwrap_or(&Value::Null), value)));
    Value::Object(gone.chain(changed).collect::<Map<String, Value>>())
}

fn owner_reference(parent: &Parent) -> OwnerReference {
    OwnerReference {
        api_version: parent.kind().api_version().into(),
        kind: parent.kind().as_str().into(),
        name: parent.name().into(),
        uid: parent.metadata().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Says what to tell of a plan that was carried out: `outcomes` are those of its deletions and writes, by namespace; `held`
/// says when to try again to take off a finalizer that was left; `pause` how long an API server is let be that had no time for some of them, else zero.
#[must_use]
pub fn settle(
    parent: &Parent,
    plan: Plan,
    outcomes: Vec<(String, Outcome)>,
    held: Option<Duration>,
    pause: Duration,
) -> Report {
    let old = parent.status().unwrap_or_default();
    let (mut provisioned, mut failed) = (plan.provisioned, plan.failed);
    let written: BTreeSet<&str> = plan.write.iter().map(|w| &*w.key.namespace).collect();
    let interval = interval(parent);
    let refresh = refresh(parent, interval.as_ref().copied().unwrap_or(DEFAULT_REFRESH));
    let mut again = held;
    let mut hurry = |pause| again = Some(again.map_or(pause, |a: Duration| a.min(pause)));
    for (namespace, outcome) in outcomes {
        let was = old.seen.provisioned.contains(&namespace);
        match outcome {
            Outcome::Done if written.contains(namespace.as_str()) => drop(provisioned.insert(namespace)),
            Outcome::Done | Outcome::Moot => {}
            Outcome::Again => {
                hurry(SOON);
                if was {
                    provisioned.insert(namespace);
                }
            }
            Outcome::Unavailable(why) => {
                hurry(pause);
                failed.insert(namespace, why);
            }
            Outcome::Refused(why) => {
                hurry(refresh.map_or(LATER, |time| time.min(LATER)));
                failed.insert(namespace, why);
            }
        }
    }
    provisioned.retain(|namespace| !failed.contains_key(namespace));
    let condition = condition(parent.kind(), plan.lost, !failed.is_empty(), interval.as_ref().err());
    let ready = condition.is_ready();
    let failed = failed.into_iter().map(|(namespace, reason)| NamespaceFailure { namespace, reason: Some(reason) });
    let new = ParentStatus {
        child_name: Some(parent.child_name().to_owned()),
        seen: Provided {
            failed: failed.collect(),
            provisioned: provisioned.into_iter().collect(),
            conditions: vec![condition],
        },
    };
    let wake = match (again, refresh) {
        // each look tries all of them
        (Some(soon), _) => Wake::After(soon.max(pause), Priority::Changed),
        (None, Some(time)) => Wake::After(time, Priority::Periodic),
        (None, None) => Wake::OnChange,
    };
    let status = (parent.status().as_ref() != Some(&new)).then_some(new);
    let errored = status.iter().flat_map(|s| &s.seen.conditions).find(|c| c.reason.as_deref() == Some(ERRORED));
    let note = errored.map(|c| Note::warning(ERRORED, c.message.clone().unwrap_or_default()));
    Report { status, ready, notes: note.into_iter().collect(), wake }
}

/// ESO gives these conditions no time, and a reason only to a ClusterPushSecret that does not know its namespaces.
fn condition(kind: ParentKind, lost: Option<String>, failed: bool, no_time: Option<&String>) -> Condition {
    let lost = lost.filter(|_| kind == ParentKind::ClusterPushSecret);
    let reason = lost.is_some().then(|| ERRORED.into());
    let message = match lost {
        Some(why) => Some(format!("{NO_NAMESPACES}: {why}")),
        None if failed => Some(FAILED.into()),
        None => no_time.cloned(),
    };
    Condition {
        type_: Condition::READY.into(),
        status: if message.is_none() { "True" } else { "False" }.into(),
        reason,
        message,
        last_transition_time: None,
    }
}

/// `refreshTime`, or what is wrong with it: the children are kept as they must be all the same.
fn interval(parent: &Parent) -> Result<Duration, String> {
    let Some(text) = parent.refresh().filter(|text| !text.is_empty()) else { return Ok(DEFAULT_REFRESH) };
    let time = duration::parse(text).map_err(|e| format!("spec.refreshTime: {e}"))?;
    Ok(Duration::try_from(time).unwrap_or_default())
}

/// How often a parent is looked at while nothing changes; `None`: never.
fn refresh(parent: &Parent, interval: Duration) -> Option<Duration> {
    let uid = parent.metadata().uid.as_deref().unwrap_or_default();
    (!interval.is_zero()).then(|| interval.mul_f64(1.0 - 0.1 * phase(uid)))
}
