//! Reading from another store while one is unavailable.

use std::time::Duration;

use serde_json::json;

use super::world::*;
use crate::api::{ANNOTATION_FAILOVER, ClusterSecretStore, SecretStore};
use crate::index::StoreId;
use crate::plan::external_secret::{Gathered, Next, before_fetch};
use crate::providers::ErrorKind;

const HOUR: Duration = Duration::from_secs(3600);

/// A world whose store names others, of which `dr` and `far` are there.
fn world(names: &str) -> World {
    let mut world = World::new(&spec(&json!({})));
    let store_of: SecretStore = serde_json::from_value(json!({
        "metadata": {
            "name": "store", "namespace": "ns", "uid": "store", "generation": 1, "annotations": {ANNOTATION_FAILOVER: names},
        },
        "spec": { "provider": { "fake": { "data": [] } } },
    }))
    .unwrap();
    world.stores = [facts_of(store_of.into()), store("dr"), store("far")].into();
    world
}

fn id(name: &str) -> StoreId {
    store(name).0
}

/// The stand-ins that a plan names for the store; `None` where nothing is read.
fn stand_ins(world: &World) -> Option<Vec<StoreId>> {
    match before_fetch(&world.facts(), &world.rules) {
        Next::Fetch(plan) => {
            assert_eq!(plan.requests.keys().collect::<Vec<_>>(), [&id("store")]);
            plan.stand_ins.get(&id("store")).cloned()
        }
        _ => None,
    }
}

fn fails(world: &mut World, name: &str, unavailable: bool) {
    let health = world.stores.get_mut(&id(name)).unwrap().health.as_mut().unwrap();
    (health.ready, health.unavailable, health.cause) = (false, unavailable, "why".into());
}

#[test]
fn stand_ins_are_those_that_could_be_named_themselves() {
    assert_eq!(stand_ins(&world("far, dr")), Some(vec![id("far"), id("dr")]));
    assert_eq!(stand_ins(&world("nobody,dr")), Some(vec![id("dr")]), "one that is not there");
    assert_eq!(stand_ins(&world("ClusterSecretStore/dr,dr")), Some(vec![id("dr")]));
    let mut one_is_down = world("far,dr");
    fails(&mut one_is_down, "far", true);
    assert_eq!(stand_ins(&one_is_down), Some(vec![id("dr")]));
}

#[test]
fn a_store_that_failed_its_check_is_passed_over_only_where_it_is_unavailable() {
    let mut down = world("dr");
    fails(&mut down, "store", true);
    assert_eq!(stand_ins(&down), Some(vec![id("dr")]));
    let mut denied = world("dr");
    fails(&mut denied, "store", false);
    assert_eq!(stand_ins(&denied), None);
    assert_eq!(denied.look(values(&[])).told().1, "SecretSyncedError");
    let mut alone = world("");
    fails(&mut alone, "store", true);
    assert_eq!(stand_ins(&alone), None);
}

/// A search that a stand-in of another provider would be refused takes it away from all that is read from the store, wherever it stands.
#[test]
fn what_stands_in_for_a_store_could_be_named_by_each_of_its_entries() {
    let (search, value) = (json!({ "find": { "path": "team" } }), json!({ "extract": { "key": "remote" } }));
    for (entries, expected) in [
        (vec![&value, &value], vec![id("dr")]),
        (vec![&search], vec![]),
        (vec![&search, &value], vec![]),
        (vec![&value, &search], vec![]),
    ] {
        let mut world = World::new(&spec(&json!({ "data": [], "dataFrom": entries })));
        let vault: SecretStore = serde_json::from_value(json!({
            "metadata": {
                "name": "store", "namespace": "ns", "uid": "store", "generation": 1, "annotations": {ANNOTATION_FAILOVER: "dr"},
            },
            "spec": { "provider": { "vault": { "server": "https://v.test" } } },
        }))
        .unwrap();
        world.stores = [facts_of(vault.into()), store("dr")].into();
        assert_eq!(stand_ins(&world), Some(expected.clone()), "{entries:?}");
        fails(&mut world, "store", true);
        let read = Some(expected).filter(|stand_ins| !stand_ins.is_empty());
        assert_eq!(stand_ins(&world), read, "{entries:?}: the store failed its check");
    }
}

#[test]
fn a_store_that_may_not_be_used_has_no_stand_in() {
    let mut world = World::new(&spec(&json!({"secretStoreRef": {"name": "shared", "kind": "ClusterSecretStore"}})));
    let cluster_store = |name: &str, conditions: serde_json::Value, annotations: serde_json::Value| {
        let store: ClusterSecretStore = serde_json::from_value(json!({
            "metadata": {"name": name, "uid": name, "generation": 1, "annotations": annotations},
            "spec": {"provider": {"fake": {"data": []}}, "conditions": conditions},
        }))
        .unwrap();
        facts_of(store.into())
    };
    let names = json!({ANNOTATION_FAILOVER: "backup"});
    let backup = cluster_store("backup", json!([]), json!({}));
    for (conditions, read) in [(json!([{"namespaces": ["other"]}]), false), (json!([{"namespaces": ["ns"]}]), true)] {
        let (id, facts) = cluster_store("shared", conditions, names.clone());
        world.stores = [(id.clone(), facts), backup.clone()].into();
        let health = world.stores.get_mut(&id).unwrap().health.as_mut().unwrap();
        (health.ready, health.unavailable) = (false, true);
        let fetches = matches!(before_fetch(&world.facts(), &world.rules), Next::Fetch(_));
        assert_eq!(fetches, read, "an outage gives no rights");
    }
}

#[test]
fn a_stand_in_of_another_class_does_not_give_the_object_away() {
    let mut world = world("dr");
    let mut other = (**world.stores[&id("dr")].store.as_ref().unwrap()).clone();
    other.spec.controller = Some("other".into());
    world.stores.get_mut(&id("dr")).unwrap().store = Some(other.into());
    assert_eq!(world.look(values(&[("k", "v")])).told().0, "True");
}

#[test]
fn the_condition_and_one_event_tell_of_it() {
    let mut world = world("dr");
    let by_stand_in = || {
        let stood_in = [(id("store"), id("dr"))].into();
        Ok(Gathered { stood_in, ..values(&[("k", "v")]).unwrap() })
    };
    let text = "secret synced; SecretStore \"store\" is unavailable: read from SecretStore \"dr\"";
    let step = world.look(by_stand_in());
    assert_eq!(step.told(), ("True", "SecretSynced", text));
    assert_eq!(step.events(), ["Created", "FailedOver!"]);
    world.pass(HOUR);
    let step = world.look(by_stand_in());
    assert_eq!((step.told().2, step.events()), (text, vec![]));
    world.pass(HOUR);
    let step = world.look(values(&[("k", "v")]));
    assert_eq!((step.told().2, step.events()), ("secret synced", vec![]));
    assert_eq!(world.look(provider_failure(ErrorKind::Unavailable)).did.len(), 0, "not due");
}
