//! States of generators: what is noted of a value that must be taken back one day, and when that day is.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::lease::{Granted, Lease};
use super::{backoff, object_hash};
use crate::api::generators::{
    AnyObject, AnySpec, GROUP, GeneratorState, GeneratorStateSpec, InvalidSpec, STATE_FINALIZER, STATE_OWNER_KEY, VERSION,
};
use crate::providers::ErrorKind;

/// How long a state in deletion is held while what it needs to clean up is missing, as when its namespace goes.
const PATIENCE: Duration = Duration::from_secs(600);
/// How soon to look again where what was replaced just now is still noted as in use.
pub const OVERDUE: Duration = Duration::from_secs(60);
/// Least time between two attempts to renew a lease.
const SOON: Duration = Duration::from_secs(1);

/// To whom a state belongs.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// API version of the owner.
    pub api_version: &'a str,
    /// Kind of the owner.
    pub kind: &'a str,
    /// The owner's metadata.
    pub meta: &'a ObjectMeta,
    /// Which of the owner's entries it is: the index in `dataFrom`.
    pub entry: &'a str,
}

impl Owner<'_> {
    fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.meta.namespace.as_deref().unwrap_or_default()
    }

    /// Value of the label that finds the states of one entry.
    #[must_use]
    pub fn label(&self) -> String {
        object_hash::owner_key_label(self.kind, self.namespace(), self.name(), self.entry)
    }
}

/// Where a state holds the lease of its value.
const LEASE: &str = "lease";

/// What a generator keeps, with the lease of its value.
#[must_use]
pub fn with_lease(state: &Value, lease: Option<&Lease>) -> Value {
    let mut state = state.clone();
    if let (Value::Object(fields), Some(lease)) = (&mut state, lease) {
        fields.insert(LEASE.to_owned(), json!(lease));
    }
    state
}

/// The lease of a state's value.
#[must_use]
pub fn lease(state: &GeneratorState) -> Option<Lease> {
    serde_json::from_value(state.spec.state.0.get(LEASE)?.clone()).ok()
}

/// Whether a state's value is in use, as far as its state says.
#[must_use]
pub fn in_use(state: &GeneratorState) -> bool {
    state.metadata.deletion_timestamp.is_none() && state.spec.garbage_collection_deadline.is_none()
}

/// Which entry of which object a state belongs to.
#[must_use]
pub fn label(state: &GeneratorState) -> Option<&str> {
    state.metadata.labels.as_ref()?.get(STATE_OWNER_KEY).map(String::as_str)
}

/// When a value that is in use must be replaced, as its lease ends.
#[must_use]
pub fn replace_at(state: &GeneratorState) -> Option<Timestamp> {
    lease(state).filter(|_| in_use(state)).map(|lease| lease.replace_at())
}

/// Whether the value of a state must be replaced earlier than was `known`: whoever uses it waits for that moment, and must know.
/// Where it goes out of use, or holds for longer, that moment finds nothing to do.
#[must_use]
pub fn comes_sooner(state: &GeneratorState, known: Option<&GeneratorState>) -> bool {
    let Some(at) = replace_at(state) else { return false };
    known.and_then(replace_at).is_none_or(|known| at < known)
}

/// When a value is replaced that must be at `at`, where its user was refreshed last at `refreshed`. A refresh after that moment has replaced
/// it: where it is noted as in use all the same, no other is made at every look.
#[must_use]
pub fn replace_again(at: Timestamp, refreshed: Option<Timestamp>) -> Timestamp {
    refreshed.filter(|refreshed| at <= *refreshed).map_or(at, |refreshed| deadline(refreshed, OVERDUE))
}

/// The state to note before a value is used. `generator` is the name of the generator, `spec` what it was then.
#[must_use]
pub fn note(owner: &Owner<'_>, generator: &str, spec: &AnySpec, state: &Value) -> GeneratorState {
    let resource = json!({
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "kind": spec.kind(),
        "metadata": { "name": generator, "namespace": owner.namespace() },
        "spec": spec.to_value(),
    });
    let object = |value: Value| match value {
        Value::Object(fields) => AnyObject(fields),
        _ => AnyObject::default(),
    };
    GeneratorState {
        metadata: ObjectMeta {
            generate_name: Some(format!("gen-{}-{}-", owner.kind.to_lowercase(), owner.name())),
            namespace: Some(owner.namespace().to_owned()),
            labels: Some([(STATE_OWNER_KEY.to_owned(), owner.label())].into()),
            finalizers: Some(vec![STATE_FINALIZER.to_owned()]),
            owner_references: Some(vec![OwnerReference {
                api_version: owner.api_version.to_owned(),
                kind: owner.kind.to_owned(),
                name: owner.name().to_owned(),
                uid: owner.meta.uid.clone().unwrap_or_default(),
                controller: None,
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        spec: GeneratorStateSpec {
            garbage_collection_deadline: None,
            resource: object(resource),
            state: object(state.clone()),
        },
    }
}

/// The states of an entry that go out of use, now that the values of the states `used` are in use.
#[must_use]
pub fn out_of_use<'a>(states: &'a [GeneratorState], used: &BTreeSet<String>) -> Vec<&'a GeneratorState> {
    let old = |state: &&GeneratorState| state.metadata.name.as_ref().is_none_or(|name| !used.contains(name));
    // one that has a deadline keeps it: else short refresh intervals would put it off for ever
    states.iter().filter(old).filter(|state| in_use(state)).collect()
}

/// The states whose place another has taken, among those of one object, all of whose newest values are in use. Those made in the same
/// second are not told apart.
#[must_use]
pub fn superseded<'a>(states: &[&'a GeneratorState]) -> Vec<&'a GeneratorState> {
    let made = |state: &GeneratorState| state.metadata.creation_timestamp.as_ref().map(|at| at.0);
    let newer = |one: &GeneratorState, other: &GeneratorState| label(one) == label(other) && made(one) > made(other);
    let in_use: Vec<&GeneratorState> =
        states.iter().copied().filter(|state| in_use(state) && label(state).is_some()).collect();
    in_use.iter().copied().filter(|old| in_use.iter().any(|state| newer(state, old))).collect()
}

/// What becomes of the states of what was generated for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The new values are in use, and those before no longer: they go after the grace period.
    Commit,
    /// The new values are nowhere: they are taken back.
    RollBack,
    /// Nobody knows which are in use: all stay until a write goes well.
    Leave,
}

/// When a state that goes out of use now is cleaned up.
#[must_use]
pub fn deadline(now: Timestamp, grace: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(grace).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

/// What to do about a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: its value is in use, or somebody else holds it.
    Nothing,
    /// Renew the lease of its value.
    Renew,
    /// Its day has come: delete it, which brings it back here with a deletion timestamp.
    Delete,
    /// It is being deleted: clean up, and let it go.
    CleanUp,
    /// Look again after that time.
    Wait(Duration),
}

/// Says what to do about a state.
#[must_use]
pub fn next(state: &GeneratorState, now: Timestamp) -> Next {
    let meta = &state.metadata;
    if meta.deletion_timestamp.is_some() {
        let ours = meta.finalizers.iter().flatten().any(|f| f == STATE_FINALIZER);
        return if ours { Next::CleanUp } else { Next::Nothing };
    }
    let deadline = state.spec.garbage_collection_deadline.as_ref().map(|at| at.0);
    if deadline.is_some_and(|at| at <= now) {
        return Next::Delete;
    }
    // a value that goes out of use is renewed, too, if it would not hold until then
    let renewable = lease(state).filter(|lease| lease.renewable && deadline.is_none_or(|at| lease.ends.0 < at));
    match renewable.map(|lease| lease.act_at()).into_iter().chain(deadline).min() {
        None => Next::Nothing,
        Some(at) if at <= now => Next::Renew,
        Some(at) => Next::Wait(at.duration_since(now).unsigned_abs()),
    }
}

/// What became of the attempt to renew a lease: what the state holds from now on. `renewed`: what was granted, and the generator's own
/// part; `None`: the server no longer knows the lease.
#[must_use]
pub fn renewed(state: &GeneratorState, renewed: Option<(Granted, Value)>, now: Timestamp) -> Option<Value> {
    let lease = lease(state)?;
    Some(match renewed {
        Some((granted, own)) => with_lease(&own, Some(&lease.renewed(granted, now))),
        None => with_lease(&Value::Object(state.spec.state.0.clone()), Some(&lease.lost(now))),
    })
}

/// When to try again to renew a lease, after that has failed.
#[must_use]
pub fn renew_again(
    state: &GeneratorState,
    kind: ErrorKind,
    retry_after: Option<Duration>,
    failures: u32,
    now: Timestamp,
) -> Duration {
    let uid = state.metadata.uid.as_deref().unwrap_or_default();
    let pause = backoff::pause(Some(kind), failures, retry_after, Duration::ZERO, uid);
    // soon enough for another try before its value is replaced
    let left = lease(state).map(|lease| lease.replace_at().duration_since(now).unsigned_abs() / 4).unwrap_or_default();
    pause.min(left.max(SOON))
}

/// The generator as it was when the value was made: its name and spec.
///
/// # Errors
/// [`InvalidSpec`] where the state is not what a generator notes.
pub fn generator(state: &GeneratorState) -> Result<(String, AnySpec), InvalidSpec> {
    let resource = &state.spec.resource.0;
    let kind = resource.get("kind").cloned().unwrap_or_default();
    let kind = serde_json::from_value(kind).map_err(|_| InvalidSpec("spec.resource.kind is no generator".into()))?;
    let name = resource.get("metadata").and_then(|m| m["name"].as_str()).unwrap_or_default().to_owned();
    let spec = resource.get("spec").cloned().unwrap_or_default();
    Ok((name, AnySpec::read(kind, spec, "spec.resource.spec")?))
}

/// What to do after a clean-up failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Try again after that time.
    Retry(Duration),
    /// Let it go: what it needs is gone for good, and it must not hold its namespace for ever.
    LetGo,
    /// Let it go: its lease has ended by itself.
    Ended,
}

/// Says what to do after a clean-up failed, for the `failures`th time.
#[must_use]
pub fn failed(
    state: &GeneratorState,
    kind: ErrorKind,
    retry_after: Option<Duration>,
    failures: u32,
    now: Timestamp,
) -> Failed {
    if lease(state).is_some_and(|lease| lease.ends.0 <= now) {
        return Failed::Ended;
    }
    let waited = state.metadata.deletion_timestamp.as_ref().map(|since| now.duration_since(since.0));
    let for_good = matches!(kind, ErrorKind::Misconfigured | ErrorKind::Unsupported);
    if for_good && waited.is_some_and(|waited| waited > SignedDuration::ZERO && waited.unsigned_abs() >= PATIENCE) {
        return Failed::LetGo;
    }
    let uid = state.metadata.uid.as_deref().unwrap_or_default();
    Failed::Retry(backoff::pause(Some(kind), failures, retry_after, Duration::ZERO, uid))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::api::external_secret::GeneratorKind;

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn meta() -> ObjectMeta {
        serde_json::from_value(json!({ "name": "es", "namespace": "ns", "uid": "u" })).unwrap()
    }

    fn state(value: Value) -> GeneratorState {
        let mut whole = json!({ "metadata": { "name": "s", "uid": "u" }, "spec": { "resource": {}, "state": {} } });
        for (part, more) in value.as_object().unwrap() {
            for (key, value) in more.as_object().unwrap() {
                whole[part][key] = value.clone();
            }
        }
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn a_state_is_noted_as_eso_does() {
        let meta = meta();
        let owner = Owner { api_version: "external-secrets.io/v1", kind: "ExternalSecret", meta: &meta, entry: "2" };
        let spec = json!({ "url": "https://g", "auth": { "token": { "name": "t", "key": "k" } },
                           "serviceAccount": { "name": "sa", "role": "Viewer" } });
        let spec = AnySpec::read(GeneratorKind::Grafana, spec, "spec").unwrap();
        let noted = note(&owner, "g", &spec, &json!({ "id": 7 }));
        let object = serde_json::to_value(&noted).unwrap();
        assert_eq!(object["metadata"]["generateName"], "gen-externalsecret-es-");
        assert_eq!(object["metadata"]["finalizers"], json!(["generatorstate.externalsecrets.io/finalizer"]));
        let reference =
            json!([{ "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "es", "uid": "u" }]);
        assert_eq!(object["metadata"]["ownerReferences"], reference);
        let label = object["metadata"]["labels"]["generators.external-secrets.io/owner-key"].as_str().unwrap();
        assert_eq!(label, owner.label());
        assert_eq!(label.len(), 56);
        assert_eq!(object["spec"]["state"], json!({ "id": 7 }));
        assert_eq!(object["spec"]["resource"]["kind"], "Grafana");
        let (name, read) = generator(&noted).unwrap();
        assert_eq!((name.as_str(), read), ("g", spec));
        let other = Owner { entry: "3", ..owner };
        assert_ne!(other.label(), owner.label());
    }

    #[test]
    fn the_newest_stays_and_deadlines_are_not_put_off() {
        let named = |name: &str, deadline: Value| {
            state(json!({ "metadata": { "name": name }, "spec": { "garbageCollectionDeadline": deadline } }))
        };
        let all = [named("a", json!("2026-06-01T12:01:00Z")), named("b", Value::Null), named("c", Value::Null)];
        let old: Vec<_> =
            out_of_use(&all, &["c".to_owned()].into()).iter().map(|s| s.metadata.name.clone().unwrap()).collect();
        assert_eq!(old, ["b"]);
        assert!(out_of_use(&all, &["b".to_owned(), "c".to_owned()].into()).is_empty(), "two may be in use");
        assert_eq!(deadline(now(), Duration::from_secs(120)), "2026-06-01T12:02:00Z".parse().unwrap());
        assert_eq!(deadline(Timestamp::MAX, Duration::MAX), Timestamp::MAX);
    }

    #[test]
    fn the_newest_of_each_entry_supersedes_the_others() {
        let made = |name: &str, entry: &str, at: &str| {
            state(json!({ "metadata": { "name": name, "labels": { STATE_OWNER_KEY: entry }, "creationTimestamp": at } }))
        };
        let gone = state(
            json!({ "metadata": { "name": "gone", "labels": { STATE_OWNER_KEY: "0" }, "creationTimestamp": "2026-06-01T11:00:00Z" },
                                 "spec": { "garbageCollectionDeadline": "2026-06-01T12:01:00Z" } }),
        );
        let all = [
            made("old", "0", "2026-06-01T11:00:00Z"),
            made("new", "0", "2026-06-01T11:00:01Z"),
            made("twin", "0", "2026-06-01T11:00:01Z"),
            made("other", "1", "2026-06-01T10:00:00Z"),
            gone,
        ];
        let all: Vec<&GeneratorState> = all.iter().collect();
        let names: Vec<_> = superseded(&all).iter().map(|s| s.metadata.name.clone().unwrap()).collect();
        assert_eq!(names, ["old"]);
    }

    #[test]
    fn when_a_state_goes() {
        let deleting = json!("2026-06-01T11:55:00Z");
        let finalizers = json!([STATE_FINALIZER]);
        let at = |deadline: &str| state(json!({ "spec": { "garbageCollectionDeadline": deadline } }));
        let table = [
            (state(json!({})), Next::Nothing),
            (at("2026-06-01T12:00:30Z"), Next::Wait(Duration::from_secs(30))),
            (at("2026-06-01T12:00:00Z"), Next::Delete),
            (at("2026-05-01T12:00:00Z"), Next::Delete),
            (state(json!({ "metadata": { "deletionTimestamp": deleting, "finalizers": finalizers } })), Next::CleanUp),
            (state(json!({ "metadata": { "deletionTimestamp": deleting, "finalizers": ["other"] } })), Next::Nothing),
        ];
        for (state, want) in table {
            assert_eq!(next(&state, now()), want, "{state:?}");
        }
    }

    /// A state whose value was leased for a minute at 11:59:20, and is acted on 30 s before its end.
    fn leased(renewable: bool, more: Value) -> GeneratorState {
        let lease = json!({ "ends": "2026-06-01T12:00:20Z", "seconds": 60, "lead": 30, "renewable": renewable });
        let mut state = state(more);
        state.spec.state.0.insert("lease".into(), lease);
        state
    }

    #[test]
    fn a_lease_is_renewed_while_its_value_is_in_use_or_must_hold() {
        let until = |at: &str| json!({ "spec": { "garbageCollectionDeadline": at } });
        let table = [
            (leased(true, json!({})), Next::Renew),
            (leased(false, json!({})), Next::Nothing),
            (leased(true, until("2026-06-01T12:00:10Z")), Next::Wait(Duration::from_secs(10))),
            (leased(true, until("2026-06-01T12:02:00Z")), Next::Renew),
            (leased(false, until("2026-06-01T12:02:00Z")), Next::Wait(Duration::from_secs(120))),
            (leased(true, until("2026-06-01T12:00:00Z")), Next::Delete),
        ];
        for (state, want) in table {
            assert_eq!(next(&state, now()), want, "{state:?}");
        }
        let early = "2026-06-01T11:59:40Z".parse().unwrap();
        assert_eq!(next(&leased(true, json!({})), early), Next::Wait(Duration::from_secs(10)));
    }

    #[test]
    fn what_is_left_of_a_lease_says_when_its_value_is_replaced() {
        let at = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        assert_eq!(replace_at(&leased(true, json!({}))), at("2026-06-01T12:00:05Z"));
        assert_eq!(replace_at(&leased(false, json!({}))), at("2026-06-01T11:59:50Z"));
        let retired = leased(true, json!({ "spec": { "garbageCollectionDeadline": "2026-06-01T12:02:00Z" } }));
        assert_eq!(replace_at(&retired), None, "somebody else has taken its place");
        assert_eq!(replace_at(&state(json!({}))), None);

        let full = Granted { life: Duration::from_secs(60), renewable: true };
        let noted = |value: Option<Value>| {
            let mut state = leased(true, json!({}));
            state.spec.state.0 = value.unwrap().as_object().unwrap().clone();
            state
        };
        let renewed_state = noted(renewed(&leased(true, json!({})), Some((full, json!({ "id": 7 }))), now()));
        assert_eq!(renewed_state.spec.state.0["id"], 7);
        assert_eq!(replace_at(&renewed_state), at("2026-06-01T12:00:45Z"));
        let lost = noted(renewed(&leased(true, json!({})), None, now()));
        assert!(replace_at(&lost) <= Some(now()) && next(&lost, now()) == Next::Nothing);
        assert_eq!(renewed(&state(json!({})), None, now()), None);

        for (new, known, sooner) in [
            (&leased(false, json!({})), Some(&leased(true, json!({}))), true),
            (&lost, Some(&leased(true, json!({}))), true),
            (&leased(true, json!({})), None, true),
            (&leased(true, json!({})), Some(&retired), true),
            (&leased(true, json!({})), Some(&leased(true, json!({}))), false),
            (&renewed_state, Some(&leased(true, json!({}))), false),
            (&retired, Some(&leased(true, json!({}))), false),
            (&state(json!({})), None, false),
        ] {
            assert_eq!(comes_sooner(new, known), sooner, "{new:?} {known:?}");
        }
    }

    #[test]
    fn what_a_refresh_has_replaced_is_not_replaced_at_once() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (noon, later) = (at("2026-06-01T12:00:00Z"), at("2026-06-01T12:00:01Z"));
        assert_eq!(replace_again(noon, None), noon);
        assert_eq!(replace_again(later, Some(noon)), later, "however short its lease is");
        assert_eq!(replace_again(noon, Some(noon)), at("2026-06-01T12:01:00Z"));
        assert_eq!(replace_again(noon, Some(later)), at("2026-06-01T12:01:01Z"));
    }

    #[test]
    fn a_renewal_that_failed_is_tried_again_in_time() {
        let pause = renew_again(&leased(true, json!({})), ErrorKind::Unavailable, Some(Duration::from_secs(60)), 1, now());
        assert_eq!(pause, Duration::from_millis(1250));
    }

    #[test]
    fn a_lease_that_has_ended_needs_no_cleaning_up() {
        let later = "2026-06-01T12:00:20Z".parse().unwrap();
        assert_eq!(failed(&leased(true, json!({})), ErrorKind::Denied, None, 1, later), Failed::Ended);
        assert!(matches!(failed(&leased(true, json!({})), ErrorKind::Denied, None, 1, now()), Failed::Retry(_)));
    }

    #[test]
    fn a_namespace_is_not_held_for_ever() {
        let since = |at: &str| state(json!({ "metadata": { "deletionTimestamp": at } }));
        let (young, old) = (since("2026-06-01T11:59:00Z"), since("2026-06-01T11:40:00Z"));
        let failed = |state, kind| failed(state, kind, None, 1, now());
        assert!(matches!(failed(&young, ErrorKind::Misconfigured), Failed::Retry(_)));
        assert_eq!(failed(&old, ErrorKind::Misconfigured), Failed::LetGo);
        assert!(matches!(failed(&old, ErrorKind::Unavailable), Failed::Retry(_)), "the other side may come back");
        assert!(matches!(failed(&old, ErrorKind::Denied), Failed::Retry(_)));
    }

    #[test]
    fn what_eso_noted_is_understood() {
        let wrong = generator(&state(json!({}))).unwrap_err();
        assert_eq!(wrong.to_string(), "spec.resource.kind is no generator");
        let resource = json!({ "kind": "UUID", "apiVersion": "generators.external-secrets.io/v1alpha1",
                               "metadata": { "name": "x", "creationTimestamp": null }, "spec": {} });
        let (name, spec) = generator(&state(json!({ "spec": { "resource": resource } }))).unwrap();
        assert_eq!((name.as_str(), spec.kind()), ("x", GeneratorKind::UUID));
    }
}
