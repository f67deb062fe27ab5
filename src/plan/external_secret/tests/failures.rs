//! What is told of failures, when it is tried again, and which stores may be used.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{World, facts_of, provider_failure, spec, store, values};
use crate::api::ClusterSecretStore;
use crate::index::StoreHealth;
use crate::plan::Wake;
use crate::plan::external_secret::{Failure, Gathered, Memory, Next, before_fetch, without_kind};
use crate::providers::{ErrorKind, ProviderError};
use crate::queue::Priority;
use crate::render::Place;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_failure_keeps_the_secret_and_the_refresh_time() {
    let mut world = World::synced(&spec(&json!({})));
    let good = world.es.status.clone().unwrap();
    world.pass(HOUR);
    let step = world.look(provider_failure(ErrorKind::Denied));
    let message = "could not get secret data from provider: error processing spec.data[0] (key: remote), err: scripted";
    assert_eq!(step.told(), ("False", "SecretSyncedError", message));
    assert_eq!(step.events(), ["UpdateFailed!"]);
    let report = step.report.as_ref().unwrap();
    assert_eq!(report.notes[0].message, "error processing spec.data[0] (key: remote), err: scripted");
    assert_eq!(report.failure, Some("denied"));
    let status = world.es.status.as_ref().unwrap();
    assert_eq!(status.refresh_time, good.refresh_time);
    assert_eq!(status.synced_resource_version, good.synced_resource_version);
    assert_eq!((&status.binding, &status.target), (&good.binding, &good.target));
    assert_eq!(status.conditions[0].last_transition_time.as_ref().unwrap().0, world.now);
}

#[test]
fn the_transition_time_tells_since_when_it_is_so() {
    let mut world = World::synced(&spec(&json!({})));
    let since = |world: &World| world.es.ready().unwrap().last_transition_time.as_ref().unwrap().0;
    let synced = since(&world);
    world.pass(HOUR);
    world.look(values(&[("k", "v2")]));
    assert_eq!(since(&world), synced);
    world.pass(HOUR);
    world.look(provider_failure(ErrorKind::Unavailable));
    let failed = since(&world);
    assert_eq!(failed, world.now);
    world.pass(HOUR);
    world.look(provider_failure(ErrorKind::Denied));
    assert_eq!(since(&world), failed);
    world.look(values(&[("k", "v")]));
    assert_eq!(since(&world), world.now);
}

#[test]
fn the_same_failure_is_told_once_and_a_new_one_again() {
    let mut world = World::new(&spec(&json!({})));
    assert_eq!(world.look(provider_failure(ErrorKind::Denied)).events(), ["UpdateFailed!"]);
    let again = world.look(provider_failure(ErrorKind::Denied));
    assert!(again.events().is_empty() && again.report.unwrap().status.is_none(), "nothing to write");
    let other = Failure::provider(&Place::Find(0), &ProviderError::new(ErrorKind::Denied, "other"));
    assert_eq!(world.look(Err(other)).events(), ["UpdateFailed!"]);
    world.look(values(&[("k", "v")]));
    world.pass(HOUR);
    assert_eq!(world.look(provider_failure(ErrorKind::Denied)).events(), ["UpdateFailed!"]);
}

/// Who mended the value at the provider does not wait until half the interval has passed.
#[test]
fn a_refresh_that_failed_is_tried_again_with_values_of_at_most_ten_seconds() {
    for (interval, healthy, failed) in [("24h", 12 * 3600, 10), ("15s", 7, 7)] {
        let mut world = World::synced(&spec(&json!({ "refreshInterval": interval })));
        world.pass(24 * HOUR);
        let plan = |world: &World| match before_fetch(&world.facts(), &world.rules) {
            Next::Fetch(plan) => (plan.priority, plan.insist, plan.max_age.as_secs()),
            next => panic!("{interval}: {next:?}"),
        };
        let refresh = |age: u64| (Priority::Periodic, false, age);
        assert_eq!(plan(&world), refresh(healthy), "{interval}");
        for kind in [ErrorKind::MissingProperty, ErrorKind::Malformed] {
            assert_eq!(world.look(provider_failure(kind)).did, ["fetch"], "{interval}");
            world.pass(Duration::from_secs(1));
            assert_eq!(plan(&world), refresh(failed), "{interval}: {kind:?}");
        }
        assert_eq!(world.look(values(&[("k", "v")])).told().0, "True", "{interval}");
        world.pass(24 * HOUR);
        assert_eq!(plan(&world), refresh(healthy), "{interval}: it is over");
    }
}

#[test]
fn pauses_grow_and_start_anew_with_an_edit() {
    let mut world = World::new(&spec(&json!({})));
    let pause = |world: &mut World| match world.look(provider_failure(ErrorKind::Unavailable)).wake {
        Wake::After(time, priority) => (time.as_secs(), priority),
        Wake::OnChange => panic!("it would never be tried again"),
    };
    let pauses: Vec<_> = (0..11).map(|_| pause(&mut world)).collect();
    assert!(pauses.windows(2).all(|w| w[0].0 <= w[1].0), "{pauses:?}");
    assert!(pauses[0].0 == 1 && (300..=360).contains(&pauses[10].0), "{pauses:?}");
    assert_eq!((pauses[0].1, pauses[10].1), (Priority::Changed, Priority::Periodic), "it does not hold up others");
    world.edit(&spec(&json!({ "refreshInterval": "2h" })));
    assert_eq!(pause(&mut world).0, 1);
}

#[test]
fn a_failure_is_tried_again_whatever_the_refresh_policy() {
    for refresh in [json!({ "refreshPolicy": "CreatedOnce" }), json!({ "refreshInterval": "0" }), json!({})] {
        let mut world = World::synced(&spec(&refresh));
        world.secrets.clear();
        let step = world.look(provider_failure(ErrorKind::Unavailable));
        assert_eq!(step.did, ["fetch"], "{refresh}");
        assert!(matches!(step.wake, Wake::After(..)), "{refresh}");
        assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"], "{refresh}");
    }
}

/// Fields whose behaviour is not there yet, and mistakes: the condition names the field, nothing is read.
#[test]
fn specs_that_cannot_be_carried_out() {
    let read = "could not get secret data from provider: ";
    let write = "could not update secret: ";
    let from = |entry: Value| json!({ "data": [], "dataFrom": [entry] });
    for (more, message, field) in [
        (json!({ "refreshInterval": "soon" }), read, "spec.refreshInterval: "),
        (json!({ "data": [] }), read, "spec: either data or dataFrom should be specified"),
        (
            json!({ "target": { "creationPolicy": "Merge", "deletionPolicy": "Delete" } }),
            read,
            "spec.target.deletionPolicy: ",
        ),
        (
            json!({ "target": { "manifest": { "apiVersion": "v1", "kind": "ConfigMap" } } }),
            "invalid generic target: ",
            "generic targets are disabled. Enable with --unsafe-allow-generic-targets flag",
        ),
        (
            json!({ "target": { "template": { "type": "bootstrap.kubernetes.io/token" } } }),
            write,
            "could not apply template: template.type=\"bootstrap.kubernetes.io/token\" is not allowed",
        ),
        (from(json!({ "find": {} })), read, "error processing spec.dataFrom[0].find, err: unexpected find operator"),
    ] {
        let mut world = World::new(&spec(&more));
        let step = world.look(values(&[("k", "v")]));
        assert!(step.did.is_empty(), "{more}: {:?}", step.did);
        let (status, reason, text) = step.told();
        assert_eq!((status, reason), ("False", "SecretSyncedError"), "{more}");
        assert!(text.strip_prefix(message).is_some_and(|rest| rest.starts_with(field)), "{more}: {text}");
        assert_eq!(step.events(), ["UpdateFailed!"], "{more}");
        world.edit(&spec(&json!({})));
        assert_eq!(world.look(values(&[("k", "v")])).told().0, "True", "{more}: an edit mends it");
    }
}

#[test]
fn a_store_that_is_missing_unchecked_or_broken() {
    const PREFIX: &str = "could not get secret data from provider: error processing spec.data[0] (key: remote), err: ";
    let mut world = World::new(&spec(&json!({})));
    let (id, good) = store("store");

    world.stores.get_mut(&id).unwrap().store = None;
    let missing = "could not get SecretStore \"store\", SecretStore.external-secrets.io \"store\" not found";
    assert_eq!(world.look(values(&[])).told().2, format!("{PREFIX}{missing}"));

    world.stores.insert(id.clone(), good.clone());
    world.stores.get_mut(&id).unwrap().health = None;
    let step = world.look(values(&[]));
    assert!(step.did.is_empty() && step.report.is_none(), "its check will wake us");

    let health = StoreHealth { ready: false, cause: "no such role".into(), ..StoreHealth::default() };
    world.stores.get_mut(&id).unwrap().health = Some(health);
    assert_eq!(world.look(values(&[])).told().2, format!("{PREFIX}SecretStore \"store\" is not ready: no such role"));
    world.rules.flood_gate = false;
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"]);
}

fn cluster_world(conditions: &Value) -> World {
    let mut world = World::new(&spec(&json!({ "secretStoreRef": { "name": "shared", "kind": "ClusterSecretStore" } })));
    let store: ClusterSecretStore = serde_json::from_value(json!({
        "metadata": { "name": "shared", "uid": "shared", "generation": 1 },
        "spec": { "provider": { "fake": { "data": [] } }, "conditions": conditions },
    }))
    .unwrap();
    world.stores = [facts_of(store.into())].into();
    world.namespace_labels = [("kubernetes.io/metadata.name".to_owned(), "ns".to_owned())].into();
    world
}

#[test]
fn a_cluster_store_says_who_may_use_it() {
    for (conditions, allowed) in [
        (json!([]), true),
        (json!([{ "namespaces": ["ns"] }]), true),
        (json!([{ "namespaces": ["other"] }]), false),
        (json!([{ "namespaces": ["other"] }, { "namespaceRegexes": ["^n"] }]), true),
        (json!([{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "ns" } } }]), true),
        (json!([{ "namespaceSelector": { "matchLabels": { "team": "a" } } }]), false),
    ] {
        let step = cluster_world(&conditions).look(values(&[("k", "v")]));
        if allowed {
            assert_eq!(step.told().0, "True", "{conditions}");
            continue;
        }
        let denied = "using cluster store \"shared\" is not allowed from namespace \"ns\": denied by spec.condition";
        assert!(step.did.is_empty() && step.told().2.ends_with(denied), "{conditions}: {:?}", step.told());
    }
}

/// Else an installation for one tenant and the one for the whole cluster would write over each other's conditions.
#[test]
fn an_object_of_a_cluster_store_is_left_to_who_serves_those() {
    let mut world = cluster_world(&json!([]));
    assert_eq!(world.look(values(&[("k", "v")])).told().0, "True");
    let theirs = world.es.status.clone();
    world.rules.cluster_stores = false;
    let unknown_kind = Failure::retry("could not update secret", "the kind is not known".into());
    for changed in [false, true] {
        if changed {
            world.pass(2 * HOUR);
            world.es.metadata.generation = Some(2);
        }
        assert_eq!(world.look(provider_failure(ErrorKind::Denied)).did, ["ignore"], "{changed}");
        assert!(without_kind(&world.facts(), &world.rules, &unknown_kind).is_none(), "{changed}");
    }
    assert_eq!(world.es.status, theirs);

    // one that an entry names fails it, as under ESO
    let from = json!({ "storeRef": { "name": "shared", "kind": "ClusterSecretStore" } });
    let entry = json!({ "secretKey": "k", "remoteRef": { "key": "r" }, "sourceRef": from });
    world.edit(&spec(&json!({ "data": [entry] })));
    assert!(world.look(values(&[])).told().2.contains("ClusterSecretStore \"shared\" cannot be used"));
    assert!(without_kind(&world.facts(), &world.rules, &unknown_kind).is_some());
}

#[test]
fn the_store_of_an_entry_takes_the_place_of_the_objects() {
    let entry = json!({ "secretKey": "k", "remoteRef": { "key": "r" }, "sourceRef": { "storeRef": { "name": "own" } } });
    let mut world = World::new(&spec(&json!({ "secretStoreRef": null, "data": [entry] })));
    world.stores = [store("own")].into();
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"]);
}

/// One that is not ready holds up only those who read from it.
#[test]
fn an_unused_store_is_not_asked_about() {
    let entry = json!({ "secretKey": "k", "remoteRef": { "key": "r" }, "sourceRef": { "storeRef": { "name": "own" } } });
    let mut world = World::new(&spec(&json!({ "data": [entry] })));
    let (id, mut broken) = store("store");
    broken.health = Some(StoreHealth::default());
    world.stores = [(id, broken), store("own")].into();
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"]);
}

#[test]
fn what_is_remembered_is_of_no_other_object_of_the_name() {
    let memory = || Memory { failures: 3, uid: "first".into(), ..Memory::default() };
    assert_eq!(memory().of_object("first").failures, 3);
    assert_eq!(memory().of_object("second").failures, 0);
}

/// The Secret is written, and the status that tells of it is not.
#[test]
fn a_status_that_could_not_be_written_is_made_up_for() {
    for (value, did) in [("v", ["fetch", "read", "update"]), ("new", ["fetch", "read", "keep"])] {
        let mut world = World::synced(&spec(&json!({})));
        world.pass(HOUR);
        let before = world.facts();
        assert_eq!(world.look(values(&[("k", "new")])).did, ["fetch", "read", "update"]);
        world.lose_status(&before);
        let step = world.look(values(&[("k", value)]));
        assert_eq!((step.did.as_slice(), step.told().0), (did.as_slice(), "True"), "{value}");
        assert_eq!(world.data(), [("k".to_owned(), value.to_owned())], "{value}");
        let recorded = world.es.status.as_ref().unwrap().target.as_ref().unwrap().resource_version.clone();
        assert_eq!(recorded, world.target().metadata.resource_version, "{value}");
        assert!(world.look(values(&[("k", "x")])).did.is_empty(), "{value}");
    }
}

#[test]
fn a_missing_entry_under_a_policy_that_lets_it_go_is_told_as_in_eso() {
    let mut world = World::new(&spec(&json!({ "target": { "deletionPolicy": "Merge" } })));
    let text = Place::Data { index: 0, key: "remote".into() }.missing();
    let gathered = Gathered { missing: vec![text.clone()], ..Gathered::default() };
    let step = world.look(Ok(gathered));
    let note = &step.report.as_ref().unwrap().notes[1];
    assert_eq!((note.warning, note.reason, &note.message), (false, "MissingProviderSecret", &text));
    assert_eq!(step.events(), ["Created", "MissingProviderSecret"]);
}
