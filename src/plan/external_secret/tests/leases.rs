//! Values that end: they are read again, or generated anew, before that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::world::{World, spec, values};
use crate::plan::Wake;
use crate::plan::external_secret::{Gathered, Next, before_fetch};
use crate::queue::Priority;

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

/// A world whose value was read now, and is to be read again after 5 minutes.
fn leased(more: &Value) -> World {
    let mut world = World::new(&spec(more));
    let at = world.now + minutes(5);
    world.look(Ok(Gathered { read_again: Some(at), ..values(&[("k", "v")]).unwrap() }));
    world
}

fn is_due(world: &World) -> bool {
    matches!(before_fetch(&world.facts(), &world.rules), Next::Fetch(fetch) if fetch.priority == Priority::Periodic)
}

fn wake(world: &World) -> Option<Duration> {
    match before_fetch(&world.facts(), &world.rules) {
        Next::Idle(Wake::After(time, _)) => Some(time),
        _ => None,
    }
}

#[test]
fn a_value_that_ends_is_read_before_its_interval_has_passed() {
    let closed = json!({ "kind": "deny", "windows": [{ "schedule": "* * * * *", "duration": "1h" }] });
    for (text, more, due) in [
        ("hourly", json!({}), true),
        ("read once", json!({ "refreshInterval": "0" }), true),
        ("outside of its windows", json!({ "syncWindows": closed }), true),
        ("made once", json!({ "refreshPolicy": "CreatedOnce" }), false),
        ("on change", json!({ "refreshPolicy": "OnChange" }), false),
    ] {
        let mut world = leased(&more);
        assert_eq!(wake(&world), due.then_some(Duration::from_secs(300)), "{text}");
        world.pass(Duration::from_secs(299));
        assert!(!is_due(&world), "{text}");
        world.pass(Duration::from_secs(1));
        assert_eq!(is_due(&world), due, "{text}");
    }
}

#[test]
fn an_interval_that_is_shorter_counts() {
    let mut world = leased(&json!({ "refreshInterval": "1m" }));
    world.pass(Duration::from_secs(60));
    assert!(is_due(&world));
}

#[test]
fn what_holds_longer_is_remembered_and_a_restart_reads_early() {
    let mut world = leased(&json!({}));
    world.pass(Duration::from_secs(300));
    let later = world.now + minutes(7);
    let step = world.look(Ok(Gathered { read_again: Some(later), ..values(&[("k", "v")]).unwrap() }));
    assert_eq!(step.did, ["fetch", "keep"]);
    assert_eq!(wake(&world), Some(Duration::from_secs(420)));
    world.memory = crate::plan::external_secret::Memory::default();
    let recorded = world.es.status.as_ref().unwrap().target.as_ref().unwrap().read_again.clone().unwrap().0;
    assert!(recorded <= later, "never later than it holds");
}

#[test]
fn what_was_generated_is_replaced_when_its_lease_is_over() {
    let mut world = World::new(&spec(&json!({})));
    let at = |world: &World, after: i64| -> Option<Timestamp> { Some(world.now + minutes(after)) };
    let replace_at = at(&world, 5);
    let step = world.look(Ok(Gathered { replace_at, ..values(&[("k", "v")]).unwrap() }));
    let Wake::After(time, Priority::Periodic) = step.wake else { panic!("{:?}", step.wake) };
    assert_eq!(time, Duration::from_secs(300));
    world.replace_at = at(&world, 8);
    world.pass(Duration::from_secs(300));
    assert_eq!(wake(&world), Some(Duration::from_secs(180)), "its lease was renewed");
    world.pass(Duration::from_secs(180));
    assert!(is_due(&world));
}

/// As where the state of the one before cannot be written: each sync writes the Secret, and that wakes it again.
#[test]
fn what_is_overdue_all_the_same_is_not_generated_at_every_look() {
    let mut world = World::new(&spec(&json!({})));
    world.look(values(&[("k", "v")]));
    world.replace_at = Some(world.now - SignedDuration::from_secs(1));
    assert_eq!(wake(&world), Some(Duration::from_secs(60)));
    world.pass(Duration::from_secs(59));
    assert!(!is_due(&world));
    world.pass(Duration::from_secs(1));
    assert!(is_due(&world));
}

#[test]
fn a_wrong_annotation_is_told() {
    let mut world = World::new(&spec(&json!({})));
    world.es.metadata.annotations = Some([(crate::api::ANNOTATION_GRACE.to_owned(), "soon".to_owned())].into());
    let Next::Settle(report) = before_fetch(&world.facts(), &world.rules) else { panic!() };
    let message = report.status.unwrap().conditions.remove(0).message.unwrap();
    assert!(message.contains("annotation keyferry.io/generator-grace: \"soon\" is not a duration"), "{message}");
}
