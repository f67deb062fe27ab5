//! ExternalSecrets that merge into one Secret: each has its turn at its own refreshes, and none wakes another.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, Time};
use serde_json::json;

use super::world::{World, digester, managed, policies, values};

/// Half of the interval: the two are never due together.
const HALF: Duration = Duration::from_secs(1800);

/// Two objects that merge these into Secret `t`, the second half an interval after the first.
fn two(first: (&str, &str), second: (&str, &str)) -> (World, World) {
    let mut one = World::new(&policies("CreateOrMerge", "Retain"));
    assert_eq!(one.look(values(&[first])).did, ["fetch", "create"]);
    one.pass(HALF);
    let mut two = World::new(&policies("CreateOrMerge", "Retain"));
    (two.es.metadata.name, two.es.metadata.uid) = (Some("two".into()), Some("uid of two".into()));
    two.join(&one);
    assert_eq!(two.look(values(&[second])).did, ["fetch", "read", "update"]);
    one.join(&two);
    (one, two)
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// Nothing but a look at the Secret, and not even that from then on.
fn leaves_it(world: &mut World, value: (&str, &str)) {
    let before = world.data();
    let step = world.look(values(&[value]));
    assert_eq!((step.did.as_slice(), step.events()), (["inspect"].as_slice(), vec![]));
    assert_eq!(step.told(), ("True", "SecretSynced", "secret synced"));
    assert!(world.look(values(&[value])).did.is_empty());
    assert_eq!(world.data(), before);
}

#[test]
fn a_key_that_two_write_changes_hands_at_their_refreshes_only() {
    let (mut one, mut two) = two(("k", "1"), ("k", "2"));
    leaves_it(&mut one, ("k", "1"));
    one.pass(HALF);
    assert_eq!(one.look(values(&[("k", "1")])).did, ["fetch", "read", "update"], "its turn");
    assert_eq!(one.data(), pairs(&[("k", "1")]));
    two.join(&one);
    leaves_it(&mut two, ("k", "2"));
    two.pass(HALF);
    assert_eq!(two.look(values(&[("k", "2")])).did, ["fetch", "read", "update"]);
    assert_eq!(two.data(), pairs(&[("k", "2")]));
}

/// Else each write of one would have the other generate anew, whose write would have the first do so.
#[test]
fn keys_of_others_are_no_drift() {
    let (mut one, mut two) = two(("a", "1"), ("b", "2"));
    leaves_it(&mut one, ("a", "new"));
    one.pass(HALF);
    assert_eq!(one.look(values(&[("a", "3")])).did, ["fetch", "read", "update"]);
    two.join(&one);
    leaves_it(&mut two, ("b", "new"));
    assert_eq!(two.data(), pairs(&[("a", "3"), ("b", "2")]));
    // also those that nobody's ExternalSecret wrote
    two.meddle("t", |s| drop(s.data.get_or_insert_default().insert("x".into(), ByteString(b"x".to_vec()))));
    leaves_it(&mut two, ("b", "new"));
}

#[test]
fn what_somebody_else_wrote_last_is_drift() {
    for (seconds, drifted) in [(-30, false), (0, true), (30, true)] {
        let (mut one, two) = two(("k", "1"), ("k", "2"));
        let at = two.now + SignedDuration::from_secs(seconds);
        one.meddle("t", |s| {
            s.data.get_or_insert_default().insert("k".into(), ByteString(b"edited".to_vec()));
            let entry = managed("kubectl-edit", "Update", &json!({ "f:data": { "f:k": {} } }));
            s.metadata.managed_fields.get_or_insert_default().push(ManagedFieldsEntry { time: Some(Time(at)), ..entry });
        });
        let did = one.look(values(&[("k", "1")])).did;
        let expected: &[&str] = if drifted { &["inspect", "fetch", "read", "update"] } else { &["inspect"] };
        assert_eq!(did, expected, "{seconds} s after the other");
    }
}

/// It recorded the digest of all that the Secret held.
#[test]
fn an_upgrade_from_a_version_that_recorded_the_whole_changes_nothing() {
    let mut world = World::new(&policies("CreateOrMerge", "Retain"));
    world.meddle("t", |s| drop(s.data.get_or_insert_default().insert("x".into(), ByteString(b"x".to_vec()))));
    world.look(values(&[("k", "v")]));
    let recorded = |world: &World| world.es.status.as_ref().unwrap().target.as_ref().unwrap().digest.clone();
    let own = recorded(&world);
    let whole = digester().data([("k", b"v".as_slice()), ("x", b"x".as_slice())].into_iter());
    world.es.status.as_mut().unwrap().target.as_mut().unwrap().digest = Some(whole.clone());
    world.meddle("t", |s| drop(s.metadata.annotations.get_or_insert_default().insert("a".into(), "b".into())));
    leaves_it(&mut world, ("k", "new"));
    assert_eq!((own == Some(whole.clone()), recorded(&world)), (false, Some(whole)));
    world.pass(HALF * 2);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "keep"]);
    assert_eq!(recorded(&world), own);
}
