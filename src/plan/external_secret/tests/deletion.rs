//! A target in deletion that a finalizer holds: it is kept as it should be, and made anew once it is gone.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{World, gone, policies, spec, values};
use crate::plan::Wake;
use crate::queue::Priority;

const HOUR: Duration = Duration::from_secs(3600);

fn pairs(key: &str, value: &str) -> Vec<(String, String)> {
    vec![(key.to_owned(), value.to_owned())]
}

#[test]
fn a_secret_in_deletion_is_refreshed_as_any_other() {
    for policy in ["Owner", "Orphan", "CreateOrMerge"] {
        let mut world = World::synced(&policies(policy, "Retain"));
        world.delete_held();
        if policy != "Orphan" {
            let step = world.look(values(&[]));
            assert_eq!(step.did, ["inspect"], "{policy}: it is another version, and nothing is due");
            assert!(
                matches!(step.wake, Wake::After(left, Priority::Periodic) if left > HOUR / 2),
                "{policy}: {:?}",
                step.wake
            );
        }
        assert!(world.look(values(&[])).did.is_empty(), "{policy}");
        world.pass(HOUR);
        let step = world.look(values(&[("k", "w")]));
        assert_eq!((step.did.as_slice(), step.told().0), (["fetch", "read", "update"].as_slice(), "True"), "{policy}");
        assert_eq!(world.data(), pairs("k", "w"), "{policy}");
        assert_eq!(world.target().metadata.finalizers.as_deref().unwrap(), ["example.org/hold"], "{policy}");

        world.secrets.clear();
        let did = world.look(values(&[("k", "w")])).did;
        // an orphan is left to itself
        let anew: &[&str] = if policy == "Orphan" { &[] } else { &["fetch", "create"] };
        assert_eq!(did, anew, "{policy}: at once");
    }
}

#[test]
fn what_is_edited_in_a_secret_in_deletion_is_mended() {
    let mut world = World::synced(&policies("Owner", "Retain"));
    world.delete_held();
    world.meddle("t", |secret| secret.data = None);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["inspect", "fetch", "read", "update"]);
    assert_eq!(world.data(), pairs("k", "v"));
}

/// The API server would refuse the whole write.
#[test]
fn a_secret_in_deletion_gets_no_new_finalizers() {
    let with = |finalizers: Value| {
        spec(&json!({ "target": { "name": "t", "template": { "metadata": { "finalizers": finalizers } } } }))
    };
    let finalizers = |world: &World| world.target().metadata.finalizers.clone().unwrap();
    let mut world = World::synced(&with(json!(["example.org/a"])));
    world.delete_held();
    world.edit(&with(json!(["example.org/a", "example.org/b"])));
    assert_eq!(world.look(values(&[("k", "w")])).did, ["fetch", "render", "read", "update"]);
    assert_eq!(world.data(), pairs("k", "w"));
    assert_eq!(finalizers(&world), ["example.org/hold", "example.org/a"], "what it has stays");

    world.meddle("t", |secret| secret.metadata.finalizers = Some(vec!["example.org/hold".into()]));
    world.pass(HOUR);
    assert_eq!(world.look(values(&[("k", "x")])).told().0, "True");
    assert_eq!((world.data(), finalizers(&world)), (pairs("k", "x"), vec!["example.org/hold".to_owned()]));

    world.secrets.clear();
    assert_eq!(world.look(values(&[("k", "x")])).did, ["fetch", "render", "create"]);
    assert_eq!(finalizers(&world), ["example.org/a", "example.org/b"]);
}

#[test]
fn an_immutable_target_in_deletion_stays_until_it_is_gone() {
    let mut world = World::synced(&spec(&json!({ "target": { "name": "t", "immutable": true } })));
    world.delete_held();
    world.pass(HOUR);
    assert_eq!(world.look(values(&[("k", "w")])).told(), ("True", "SecretSynced", "secret synced"));
    assert_eq!(world.data(), pairs("k", "v"));
    world.secrets.clear();
    world.look(values(&[("k", "w")]));
    assert_eq!(world.data(), pairs("k", "w"));
}

#[test]
fn what_is_in_deletion_is_not_deleted_again() {
    let mut world = World::synced(&policies("Owner", "Delete"));
    world.delete_held();
    world.pass(HOUR);
    let step = world.look(gone());
    assert_eq!(step.did, ["fetch"]);
    assert_eq!(step.told().1, "SecretDeleted");
    assert_eq!(step.events(), ["MissingProviderSecret"], "nothing was done");

    world.pass(HOUR);
    assert_eq!(world.look(values(&[("k", "w")])).did, ["fetch", "read", "update"], "the values are back before it is gone");
    world.pass(HOUR);
    world.look(gone());
    world.secrets.clear();
    assert!(world.look(gone()).did.is_empty(), "that it is gone is as it should be");
}
