//! When a parent looks again, and what it waits for.

#![allow(clippy::panic)]

use super::*;

#[test]
fn a_refused_child_is_tried_again_no_later_than_the_refresh_time() {
    let wake = |refresh: &str, held: Option<Duration>| {
        let (world, id) = world(CES, ces(json!({"refreshTime": refresh})));
        let facts = world.index.fan_out_facts(&id);
        let outcomes = vec![("a1".into(), Outcome::Refused("why".into()))];
        match settle(&facts.parent.clone().unwrap(), plan(&facts), outcomes, held, Duration::ZERO).wake {
            Wake::After(pause, Priority::Changed) => pause.as_secs(),
            other => panic!("{other:?}"),
        }
    };
    assert!((54..=60).contains(&wake("1m", None)), "as ESO does");
    assert_eq!([wake("1h", None), wake("0", None)], [LATER.as_secs(), LATER.as_secs()]);
    assert_eq!(wake("1h", Some(Duration::from_secs(20))), 20, "a finalizer was left");
}

/// Under its former name it deletes what it pushed, also what the new one would find and leave as it is.
#[test]
fn a_new_name_is_made_where_the_former_one_has_cleaned_up() {
    let mut parent = cps();
    parent["spec"]["pushSecretSpec"]["deletionPolicy"] = json!("Delete");
    let (mut world, id) = world(CPS, parent);
    world.turn(&id);
    let old = Key::new("a1", "p");
    let mut holding = world.children[&old].clone();
    holding["metadata"]["finalizers"] = json!([FINALIZER_PUSH]);
    world.store_child(CPS, &old, holding.clone());
    let mut parent = world.parent.clone().unwrap();
    parent["spec"]["pushSecretName"] = json!("new");
    world.parent(CPS, parent);
    let plan_of = |world: &World| {
        let plan = plan(&world.index.fan_out_facts(&id));
        let keys = |keys: Vec<&Key>| keys.into_iter().map(ToString::to_string).collect::<Vec<_>>();
        (
            keys(plan.delete.iter().map(|(key, _)| key).collect()),
            keys(plan.write.iter().map(|w| &w.key).collect()),
            plan.failed,
        )
    };
    let words = |all: &[&str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(plan_of(&world), (words(&["a1/p", "a2/p"]), words(&["a2/new"]), BTreeMap::new()));
    holding["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    world.store_child(CPS, &old, holding);
    let why = "the former PushSecret \"p\" is still deleting what it pushed";
    let told = BTreeMap::from([("a1".to_owned(), why.to_owned())]);
    assert_eq!(plan_of(&world), (words(&["a2/p"]), words(&["a2/new"]), told), "it is told, should it last");
    world.drop_child(CPS, &old);
    assert_eq!(plan_of(&world), (words(&["a2/p"]), words(&["a1/new", "a2/new"]), BTreeMap::new()));
}
