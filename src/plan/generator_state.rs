//! States of generators: what is noted of a value that must be taken back one day, and when that day is.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::{backoff, object_hash};
use crate::api::generators::{
    AnyObject, AnySpec, GROUP, GeneratorState, GeneratorStateSpec, InvalidSpec, STATE_FINALIZER, STATE_OWNER_KEY, VERSION,
};
use crate::providers::ErrorKind;

/// How long a state in deletion is held while what it needs to clean up is missing, as when its namespace goes.
const PATIENCE: Duration = Duration::from_secs(600);

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

/// The states of an entry that go out of use, now that the value of the state `newest` is in use.
#[must_use]
pub fn out_of_use<'a>(states: &'a [GeneratorState], newest: &str) -> Vec<&'a GeneratorState> {
    let old = |state: &&GeneratorState| state.metadata.name.as_deref() != Some(newest);
    // one that has a deadline keeps it: else short refresh intervals would put it off for ever
    states.iter().filter(old).filter(|state| state.spec.garbage_collection_deadline.is_none()).collect()
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
    match &state.spec.garbage_collection_deadline {
        None => Next::Nothing,
        Some(at) if at.0 <= now => Next::Delete,
        Some(at) => Next::Wait(at.0.duration_since(now).unsigned_abs()),
    }
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
        let old: Vec<_> = out_of_use(&all, "c").iter().map(|s| s.metadata.name.clone().unwrap()).collect();
        assert_eq!(old, ["b"]);
        assert_eq!(deadline(now(), Duration::from_secs(120)), "2026-06-01T12:02:00Z".parse().unwrap());
        assert_eq!(deadline(Timestamp::MAX, Duration::MAX), Timestamp::MAX);
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
