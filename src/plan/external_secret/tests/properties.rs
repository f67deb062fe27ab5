//! What holds for every object, whatever happens to it.

use std::time::Duration;

use k8s_openapi::ByteString;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::world::{World, provider_failure, spec, values};
use crate::plan::Wake;
use crate::providers::ErrorKind;

const RETAINED: &str = "secret retained due to DeletionPolicy=Retain";

/// Something that happens in the life of an ExternalSecret.
#[derive(Clone, Debug)]
enum Act {
    Edit(Value),
    Pass(u64),
    Forget,
    DeleteSecret,
    Meddle(&'static str, &'static str),
    Unlabel,
    Freeze,
    Fail(ErrorKind),
}

fn a_spec() -> impl Strategy<Value = Value> {
    let creation = prop::sample::select(vec!["Owner", "Orphan", "Merge", "None", "CreateOrMerge"]);
    let deletion = prop::sample::select(vec!["Retain", "Merge", "Delete"]);
    let refresh = prop::sample::select(vec!["Periodic", "OnChange", "CreatedOnce"]);
    let interval = prop::sample::select(vec!["1h", "30s", "0"]);
    let name = prop::sample::select(vec!["a", "b"]);
    (creation, deletion, refresh, interval, name, any::<bool>()).prop_map(|(c, d, r, i, name, immutable)| {
        let target = json!({ "name": name, "creationPolicy": c, "deletionPolicy": d, "immutable": immutable });
        spec(&json!({ "refreshPolicy": r, "refreshInterval": i, "target": target }))
    })
}

fn an_act() -> impl Strategy<Value = Act> {
    let kinds = vec![ErrorKind::Unavailable, ErrorKind::Denied, ErrorKind::NotFound];
    prop_oneof![
        3 => a_spec().prop_map(Act::Edit),
        3 => (1u64..7200).prop_map(Act::Pass),
        1 => Just(Act::Forget),
        1 => Just(Act::DeleteSecret),
        2 => (prop::sample::select(vec!["a", "b"]), prop::sample::select(vec!["k1", "k2", "x"])).prop_map(|(s, k)| Act::Meddle(s, k)),
        1 => Just(Act::Unlabel),
        1 => Just(Act::Freeze),
        1 => prop::sample::select(kinds).prop_map(Act::Fail),
    ]
}

fn remote() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
    let value = prop::sample::select(vec!["v", "w", ""]);
    prop::collection::vec((prop::sample::select(vec!["k1", "k2"]), value), 0..3)
}

fn happen(world: &mut World, act: &Act) {
    let name = world.es.target_name().to_owned();
    match act {
        Act::Edit(spec) => world.edit(spec),
        Act::Pass(seconds) => world.pass(Duration::from_secs(*seconds)),
        Act::Forget => world.memory = Default::default(),
        Act::DeleteSecret => drop(world.secrets.remove(&name)),
        Act::Meddle(secret, key) => world.meddle(secret, |s| {
            if s.immutable != Some(true) {
                s.data.get_or_insert_default().insert((*key).to_owned(), ByteString(b"theirs".to_vec()));
            }
        }),
        Act::Unlabel if world.secrets.contains_key(&name) => world.meddle(&name, |s| s.metadata.labels = None),
        Act::Freeze if world.secrets.contains_key(&name) => world.meddle(&name, |s| s.immutable = Some(true)),
        Act::Unlabel | Act::Freeze => {}
        Act::Fail(kind) => {
            let before = world.secrets.clone();
            world.look(provider_failure(*kind));
            assert_eq!(world.secrets, before, "a failure changes no Secret");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Carried out once, a plan leaves nothing to do: no write, no new status but a failure's, no event.
    #[test]
    fn a_plan_is_carried_out_once(spec in a_spec(), acts in prop::collection::vec((an_act(), remote()), 1..12)) {
        let mut world = World::new(&spec);
        for (act, remote) in &acts {
            happen(&mut world, act);
            world.look(values(remote));
            if world.es.ready().is_some_and(|c| c.message.as_deref() == Some(RETAINED)) {
                world.look(values(remote)); // what is left as it is may have changed meanwhile, which the next look notes
            }
            let (secrets, status) = (world.secrets.clone(), world.es.status.clone());
            let again = world.look(values(remote));
            let failed = status.as_ref().is_some_and(|s| s.conditions[0].status == "False");
            prop_assert_eq!(&world.secrets, &secrets, "{:?}: {:?}", act, again.did);
            prop_assert_eq!(&world.es.status, &status, "{:?}: {:?}", act, again.did);
            prop_assert!(again.events().is_empty(), "{:?}: {:?}", act, again.events());
            // one of which nothing is recorded, or that was left as it is, is looked into whenever it changes
            let left = status.as_ref().is_some_and(|s| s.target.is_none() || s.conditions[0].message.as_deref() == Some(RETAINED));
            prop_assert!(failed || left || again.did.is_empty(), "{:?}: {:?}", act, again.did);
            let waits_for_ever = again.wake == Wake::OnChange;
            prop_assert!(!(failed && waits_for_ever), "a failure is always tried again: {:?}", act);
        }
    }

    /// After a refresh, the Secret holds what the provider gave, unless the status says why not.
    #[test]
    fn ready_means_that_the_values_are_there(spec in a_spec(), acts in prop::collection::vec((an_act(), remote()), 1..12)) {
        let mut world = World::new(&spec);
        for (act, remote) in &acts {
            happen(&mut world, act);
            let step = world.look(values(remote));
            let target = world.es.target().into_owned();
            let wrote = step.did.iter().any(|d| ["create", "update", "keep"].contains(d));
            if !wrote || world.es.ready().is_none_or(|c| c.status != "True") || target.immutable == Some(true) {
                continue;
            }
            let data: std::collections::BTreeMap<_, _> = world.data().into_iter().collect();
            for (key, value) in remote.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect::<std::collections::BTreeMap<_, _>>() {
                prop_assert_eq!(data.get(&key).map(String::as_str), Some(value), "{:?}: {:?}", act, step.did);
            }
        }
    }
}
