//! When something is due: refreshes, drift, deletion of the object.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{World, policies, provider_failure, spec, store, values};
use crate::api::{FINALIZER_ESO, LABEL_MANAGED};
use crate::plan::Wake;
use crate::plan::external_secret::{Next, before_fetch};
use crate::providers::ErrorKind;
use crate::queue::Priority;

const HOUR: Duration = Duration::from_secs(3600);

fn label(world: &mut World) {
    world.es.metadata.labels.get_or_insert_default().insert("any".into(), "label".into());
}

#[test]
fn a_new_object_is_read_and_then_left_alone_until_its_interval_has_passed() {
    let mut world = World::new(&spec(&json!({})));
    let Next::Fetch(fetch) = before_fetch(&world.facts(), &world.rules) else { panic!() };
    assert_eq!((fetch.priority, fetch.insist, fetch.max_age), (Priority::New, true, Duration::from_secs(10)));
    assert_eq!(fetch.again, Some(HOUR));
    let step = world.look(values(&[("k", "v")]));
    assert_eq!(step.did, ["fetch", "create"]);
    let Wake::After(time, Priority::Periodic) = step.wake else { panic!("{:?}", step.wake) };
    assert!(time <= HOUR && time >= HOUR.mul_f64(0.9), "{time:?}");
    world.pass(time - Duration::from_millis(1));
    assert!(world.look(values(&[])).did.is_empty());
    world.pass(Duration::from_millis(1));
    let Next::Fetch(fetch) = before_fetch(&world.facts(), &world.rules) else { panic!() };
    assert_eq!((fetch.priority, fetch.insist, fetch.max_age), (Priority::Periodic, false, HOUR / 2));
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "keep"]);
}

/// The values are read after the plan was begun; that must not look like a time in the future.
#[test]
fn the_next_wake_up_counts_from_when_the_values_were_read() {
    let mut world = World::new(&spec(&json!({})));
    let mut gathered = values(&[("k", "v")]).unwrap();
    gathered.read_at = Some(world.now + Duration::from_millis(40));
    let Wake::After(time, _) = world.look(Ok(gathered)).wake else { panic!() };
    assert!(time >= HOUR.mul_f64(0.9), "{time:?}");
}

#[test]
fn policies_and_intervals() {
    type Change = fn(&mut World);
    let none: Change = |_| {};
    let generation: Change = |world| world.es.metadata.generation = Some(7);
    let label: Change = label;
    let future: Change = |world| {
        world.pass(Duration::from_secs(60));
        let status = world.es.status.as_mut().unwrap();
        status.refresh_time.as_mut().unwrap().0 = world.now + HOUR * 3;
        world.memory.refresh_time = None;
    };
    for (text, refresh, hours, change, expected) in [
        ("periodic, not yet", json!({}), 0, none, None),
        ("periodic", json!({}), 1, none, Some(Priority::Periodic)),
        ("periodic, edited", json!({}), 0, generation, Some(Priority::Changed)),
        ("periodic, labelled", json!({}), 0, label, Some(Priority::Changed)),
        ("refreshTime in the future", json!({}), 0, future, Some(Priority::New)),
        ("default interval", json!({ "refreshInterval": "" }), 1, none, Some(Priority::Periodic)),
        ("interval 0", json!({ "refreshInterval": "0" }), 1000, none, None),
        ("interval 0s, edited", json!({ "refreshInterval": "0s" }), 1, generation, None),
        ("interval 0s, labelled", json!({ "refreshInterval": "0s" }), 1, label, None),
        ("negative interval", json!({ "refreshInterval": "-1h" }), 1000, generation, None),
        ("CreatedOnce", json!({ "refreshPolicy": "CreatedOnce" }), 1000, none, None),
        ("CreatedOnce, edited", json!({ "refreshPolicy": "CreatedOnce" }), 1, generation, None),
        ("OnChange", json!({ "refreshPolicy": "OnChange" }), 1000, none, None),
        ("OnChange, edited", json!({ "refreshPolicy": "OnChange" }), 0, generation, Some(Priority::Changed)),
        ("OnChange, labelled", json!({ "refreshPolicy": "OnChange" }), 0, label, Some(Priority::Changed)),
    ] {
        let mut world = World::synced(&spec(&refresh));
        world.pass(HOUR * hours);
        change(&mut world);
        match (before_fetch(&world.facts(), &world.rules), expected) {
            (Next::Fetch(fetch), Some(priority)) => assert_eq!(fetch.priority, priority, "{text}"),
            (Next::Idle(Wake::After(..)), None) if hours == 0 => {}
            (Next::Idle(Wake::OnChange), None) => {}
            (next, _) => panic!("{text}: {next:?}"),
        }
    }
}

#[test]
fn who_is_not_read_again_says_so_to_the_cache() {
    for (text, refresh, expected) in [
        ("periodic", json!({}), Some(HOUR)),
        ("once", json!({ "refreshInterval": "0" }), None),
        ("CreatedOnce", json!({ "refreshPolicy": "CreatedOnce" }), None),
        ("OnChange", json!({ "refreshPolicy": "OnChange" }), None),
    ] {
        let world = World::new(&spec(&refresh));
        let Next::Fetch(fetch) = before_fetch(&world.facts(), &world.rules) else { panic!("{text}") };
        assert_eq!(fetch.again, expected, "{text}");
    }
}

fn windowed(kind: &str) -> Value {
    spec(&json!({ "syncWindows": { "kind": kind, "windows": [{ "schedule": "0 22 * * *", "duration": "2h" }] } }))
}

#[test]
fn a_sync_window_holds_back_refreshes_and_nothing_else() {
    let mut world = World::synced(&windowed("allow"));
    world.pass(HOUR);
    let step = world.look(values(&[]));
    assert!(step.did.is_empty());
    assert_eq!(step.wake, Wake::After(HOUR * 9, Priority::Periodic), "when the window opens");
    world.meddle("es", |secret| drop(secret.data.take()));
    assert_eq!(world.look(values(&[("k", "v")])).did, ["inspect", "fetch", "read", "update"], "drift");
    label(&mut world);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "update"], "an edit");
    world.pass(HOUR * 9);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "keep"], "inside");

    let mut world = World::synced(&windowed("deny"));
    world.pass(HOUR);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "keep"]);
}

/// Else a rotation that failed before the window closed would happen in the hours that the window protects.
#[test]
fn a_refresh_that_failed_waits_for_its_window() {
    let mut world = World::synced(&windowed("allow"));
    world.pass(HOUR * 11 + HOUR / 2); // 23:30
    assert_eq!(world.look(provider_failure(ErrorKind::Unavailable)).did, ["fetch"]);
    world.pass(Duration::from_secs(60));
    assert_eq!(world.look(provider_failure(ErrorKind::Unavailable)).did, ["fetch"], "inside it is tried again");
    world.pass(HOUR);
    let step = world.look(values(&[("k", "new")]));
    assert!(step.did.is_empty(), "{:?}", step.did);
    world.meddle("es", |s| drop(s.metadata.annotations.get_or_insert_default().insert("a".into(), "b".into())));
    let step = world.look(values(&[("k", "new")]));
    assert_eq!((step.did.as_slice(), step.told().0), (["inspect"].as_slice(), "False"), "and is not made good by a look");
    world.pass(HOUR * 22);
    assert_eq!(world.look(values(&[("k", "new")])).did, ["fetch", "read", "update"]);
}

/// The specs whose values are not read of themselves, at noon.
fn kept() -> [Value; 4] {
    let once = spec(&json!({ "refreshPolicy": "CreatedOnce" }));
    [once, spec(&json!({ "refreshPolicy": "OnChange" })), spec(&json!({ "refreshInterval": "0" })), windowed("allow")]
}

/// As ESO leaves an object: nothing is recorded of its Secret.
fn left_by_eso(spec: &Value) -> World {
    let mut world = World::synced(spec);
    world.pass(HOUR);
    world.es.status.as_mut().unwrap().target = None;
    world.memory = Default::default();
    world
}

#[test]
fn what_eso_would_not_read_again_is_taken_over_as_it_stands() {
    for spec in kept() {
        for provider in [values(&[("k", "rotated")]), provider_failure(ErrorKind::NotFound)] {
            let mut world = left_by_eso(&spec);
            let step = world.look(provider);
            assert_eq!(step.did, ["inspect"], "{spec}");
            assert_eq!(step.told(), ("True", "SecretSynced", "secret synced"), "{spec}");
            assert_eq!(world.data(), [("k".to_owned(), "v".to_owned())], "{spec}");
            assert!(world.look(values(&[("k", "rotated")])).did.is_empty(), "{spec}: and it is known from now on");
            world.meddle("es", |s| drop(s.data.take()));
            let step = world.look(values(&[("k", "rotated")]));
            assert_eq!(step.did, ["inspect", "fetch", "read", "update"], "{spec}: drift is mended as ever");
        }
    }
    let mut world = left_by_eso(&spec(&json!({ "refreshInterval": "2h" })));
    assert_eq!(world.look(values(&[("k", "new")])).did, ["fetch", "read", "update"], "what is read in intervals is read");
}

#[test]
fn what_is_kept_is_not_read_because_somebody_took_the_managed_label_off() {
    for spec in kept() {
        let mut world = World::synced(&spec);
        world.meddle("es", |s| s.metadata.labels = None);
        let step = world.look(values(&[("k", "rotated")]));
        assert_eq!((step.did.as_slice(), step.told().0), (["inspect"].as_slice(), "True"), "{spec}");
        assert!(world.look(values(&[("k", "rotated")])).did.is_empty(), "{spec}");
        assert_eq!(world.data(), [("k".to_owned(), "v".to_owned())], "{spec}");
        world.meddle("es", |s| drop(s.data.take()));
        assert_eq!(world.look(values(&[("k", "rotated")])).did, ["inspect", "fetch", "read", "update"], "{spec}: drift");
        assert_eq!(world.target().metadata.labels.as_ref().unwrap()[LABEL_MANAGED], "true", "{spec}");
    }
}

/// The Secret is another's: nothing says that this object wrote it.
#[test]
fn a_merge_that_waited_is_carried_out_whoever_made_its_secret() {
    for more in [json!({ "refreshPolicy": "CreatedOnce" }), json!({ "refreshInterval": "0" })] {
        let mut merge = policies("Merge", "Retain");
        merge.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut world = World::synced(&merge);
        assert_eq!(world.es.ready().unwrap().reason.as_deref(), Some("SecretMissing"), "{more}");
        world.meddle("t", |s| s.metadata.labels = Some([(LABEL_MANAGED.to_owned(), "true".to_owned())].into()));
        assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "update"], "{more}");
    }
}

#[test]
fn a_passing_failure_has_nothing_read_that_is_kept() {
    for more in [json!({ "refreshPolicy": "CreatedOnce" }), json!({ "refreshInterval": "0" })] {
        let kept = spec(&more);
        let mut world = World::synced(&kept);
        let mut wrong = kept.clone();
        wrong["refreshInterval"] = "soon".into();
        world.edit(&wrong);
        assert_eq!(world.look(values(&[("k", "rotated")])).told().0, "False", "{more}");
        world.edit(&kept);
        let step = world.look(values(&[("k", "rotated")]));
        assert_eq!((step.did.as_slice(), step.told().0), (["inspect"].as_slice(), "True"), "{more}");
        assert_eq!(world.data(), [("k".to_owned(), "v".to_owned())], "{more}");
    }
}

#[test]
fn what_was_refused_is_not_made_good_by_a_look() {
    let kept = |creation: &str, deletion: &str, more: (&str, &str)| {
        let mut spec = policies(creation, deletion);
        spec[more.0] = more.1.into();
        spec
    };
    let mut world = World::synced(&kept("Orphan", "Delete", ("refreshInterval", "1h")));
    world.pass(HOUR);
    assert_eq!(world.look(values(&[])).told().0, "False", "it is not ours to delete");
    world.edit(&kept("Orphan", "Delete", ("refreshInterval", "0")));
    for _ in 0..2 {
        assert_eq!(world.look(values(&[])).did, ["fetch"]);
        assert_eq!(world.es.ready().unwrap().status, "False");
    }

    let mut world = World::synced(&kept("Owner", "Delete", ("refreshInterval", "1h")));
    world.pass(HOUR);
    assert_eq!(world.look(values(&[])).told().0, "False", "nothing was found");
    world.edit(&kept("Owner", "Retain", ("refreshPolicy", "CreatedOnce")));
    for _ in 0..2 {
        world.look(values(&[("k", "")]));
        assert_eq!(world.es.ready().unwrap().status, "False", "the value is empty");
    }
}

#[test]
fn what_is_recorded_of_one_secret_says_nothing_of_another() {
    let named = |name: &str| {
        let mut spec = policies("Owner", "Retain");
        spec["target"]["name"] = name.into();
        spec["refreshPolicy"] = "CreatedOnce".into();
        spec
    };
    let mut world = World::synced(&named("a"));
    let older = world.secrets["a"].clone();
    world.edit(&named("b"));
    world.secrets.insert("b".into(), older);
    world.meddle("b", |_| {});
    let step = world.look(provider_failure(ErrorKind::Unavailable));
    assert_eq!((step.did.as_slice(), step.told().0), (["inspect", "fetch"].as_slice(), "False"));
    assert!(world.secrets.contains_key("a"), "not swept before there is another");
}

#[test]
fn a_secret_that_is_not_there_is_made_unless_it_is_told_why() {
    let with = |creation: &str, more: &Value| {
        let mut spec = policies(creation, "Retain");
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let edits = [("None", "Owner"), ("None", "CreateOrMerge"), ("Merge", "Owner"), ("Merge", "CreateOrMerge")];
    for more in [json!({ "refreshPolicy": "CreatedOnce" }), json!({ "refreshInterval": "0" })] {
        for (before, after) in edits {
            let mut world = World::synced(&with(before, &more));
            assert!(world.look(values(&[("k", "v")])).did.is_empty(), "{before}: {more}");
            world.edit(&with(after, &more));
            assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"], "{before} to {after}: {more}");
        }
        let mut world = World::synced(&with("None", &more));
        label(&mut world);
        let step = world.look(provider_failure(ErrorKind::NotFound));
        assert_eq!((step.did.as_slice(), step.told().0), (["fetch"].as_slice(), "False"), "None, edited: {more}");
    }
    for spec in kept().iter().chain([&spec(&json!({ "refreshInterval": "2h" }))]) {
        let mut world = left_by_eso(spec);
        world.secrets.clear();
        assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"], "gone under ESO: {spec}");
    }
}

/// The provider had nothing when the object was new: ESO asks again in intervals, whatever the refresh policy.
#[test]
fn what_was_not_there_is_asked_for_in_intervals() {
    for refresh in ["CreatedOnce", "OnChange"] {
        for (creation, deletion) in [("Owner", "Retain"), ("Owner", "Delete"), ("CreateOrMerge", "Retain")] {
            let what = format!("{refresh}: {creation} × {deletion}");
            let mut spec = policies(creation, deletion);
            spec["refreshPolicy"] = refresh.into();
            let mut world = World::new(&spec);
            let Wake::After(left, Priority::Periodic) = world.look(values(&[])).wake else { panic!("{what}") };
            assert!(left <= HOUR && left >= HOUR.mul_f64(0.9), "{what}: {left:?}");
            world.pass(left / 2);
            let step = world.look(values(&[("k", "v")]));
            assert_eq!((step.did.len(), step.wake), (0, Wake::After(left - left / 2, Priority::Periodic)), "{what}");
            world.pass(left - left / 2);
            assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"], "{what}");
            world.pass(HOUR);
            let step = world.look(values(&[("k", "new")]));
            assert_eq!((step.did.len(), step.wake), (0, Wake::OnChange), "{what}: then it is kept");
        }
    }
    let mut merge = policies("Merge", "Retain");
    merge["refreshPolicy"] = "CreatedOnce".into();
    assert_eq!(World::new(&merge).look(values(&[("k", "v")])).wake, Wake::OnChange, "a merge waits for its Secret");
}

#[test]
fn drift() {
    type Meddle = fn(&mut World);
    let nothing: Meddle = |_| {};
    let data: Meddle = |w| w.meddle("t", |s| drop(s.data.take()));
    let more: Meddle = |w| w.meddle("t", |s| drop(s.data.get_or_insert_default().insert("x".into(), Default::default())));
    let unlabelled: Meddle = |w| {
        w.meddle("t", |s| drop(s.metadata.labels.get_or_insert_default().remove(LABEL_MANAGED)));
    };
    let noted: Meddle = |w| {
        w.meddle("t", |s| drop(s.metadata.annotations.get_or_insert_default().insert("a".into(), "b".into())));
    };
    let deleted: Meddle = |w| drop(w.secrets.remove("t"));
    let (fixed, event) = (["inspect", "fetch", "read", "update"].as_slice(), ["Updated"].as_slice());
    for (text, policy, meddle, did, events) in [
        ("nothing happened", "Owner", nothing, [].as_slice(), [].as_slice()),
        ("data changed", "Owner", data, fixed, event),
        ("a key was added", "Owner", more, fixed, event),
        ("a key was added beside those of a merge", "CreateOrMerge", more, &["inspect"], &[]),
        ("data of a merge changed", "CreateOrMerge", data, fixed, event),
        ("the label was removed: no event, as under ESO", "Owner", unlabelled, fixed, &[]),
        ("metadata of others", "Owner", noted, &["inspect"], &[]),
        ("deleted", "Owner", deleted, &["fetch", "create"], &["Created"]),
        ("data changed", "Orphan", data, &[], &[]),
        ("deleted", "Orphan", deleted, &[], &[]),
    ] {
        let mut world = World::synced(&policies(policy, "Retain"));
        world.memory = Default::default(); // as after a restart
        meddle(&mut world);
        let step = world.look(values(&[("k", "v")]));
        assert_eq!(
            (step.did.as_slice(), step.events().as_slice()),
            (did, events.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>().as_slice()),
            "{policy}: {text}"
        );
        if policy == "Owner" {
            assert_eq!(world.data(), [("k".to_owned(), "v".to_owned())], "{text}");
        }
        let again = world.look(values(&[("k", "v")]));
        assert!(again.did.is_empty() && matches!(again.wake, Wake::After(..)), "{policy}: {text}: {:?}", again.did);
    }
}

#[test]
fn an_orphan_is_repaired_by_the_next_refresh() {
    let mut world = World::synced(&policies("Orphan", "Retain"));
    world.meddle("t", |s| drop(s.data.take()));
    world.pass(HOUR);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "update"]);
}

#[test]
fn a_watch_that_lags_behind_our_own_write_is_no_drift() {
    let mut world = World::synced(&spec(&json!({})));
    world.memory.written = Some(("es".into(), "1000".into()));
    world.es.status.as_mut().unwrap().target.as_mut().unwrap().resource_version = Some("1000".into());
    assert!(world.look(values(&[])).did.is_empty());
}

#[test]
fn labels_of_ours_that_somebody_changed_are_mended_by_the_next_refresh() {
    let mut world = World::new(&spec(&json!({})));
    label(&mut world);
    world.look(values(&[("k", "v")]));
    world.meddle("es", |s| drop(s.metadata.labels.as_mut().unwrap().insert("any".into(), "other".into())));
    assert_eq!(world.look(values(&[("k", "v")])).did, ["inspect"]);
    world.pass(HOUR);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "update"]);
    assert_eq!(world.target().metadata.labels.as_ref().unwrap()["any"], "label");
}

#[test]
fn a_merge_waits_for_its_secret() {
    let mut world = World::new(&policies("Merge", "Retain"));
    let step = world.look(values(&[("k", "v")]));
    let told = ("True", "SecretMissing", "secret will not be created due to CreationPolicy=Merge");
    assert_eq!((step.did.as_slice(), step.told()), (["fetch"].as_slice(), told));
    assert!(world.look(values(&[])).did.is_empty());
    world.meddle("t", |_| {});
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "update"]);
}

#[test]
fn an_object_in_deletion_is_let_go() {
    for (text, deletion, finalizer, owned, did) in [
        ("not ESO's", "Delete", false, true, "ignore"),
        ("the Secret goes by its owner", "Retain", true, true, "finalize"),
        ("deletion policy", "Delete", true, true, "delete finalize"),
        ("not our Secret", "Delete", true, false, "finalize"),
    ] {
        let mut world = World::synced(&policies("Owner", deletion));
        if !owned {
            world.meddle("t", |s| s.metadata.owner_references = None);
        }
        world.es.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
        world.es.metadata.finalizers = finalizer.then(|| vec![FINALIZER_ESO.to_owned()]);
        assert_eq!(world.look(values(&[])).did.join(" "), did, "{text}");
    }
}

#[test]
fn another_controllers_object_is_left_alone() {
    let mut world = World::new(&spec(&json!({
        "data": [{ "secretKey": "k", "remoteRef": { "key": "r" }, "sourceRef": { "storeRef": { "name": "second" } } }],
    })));
    let (id, mut facts) = store("second");
    let mut foreign = (*facts.store.unwrap()).clone();
    foreign.spec.controller = Some("other".into());
    facts.store = Some(foreign.into());
    world.stores.insert(id, facts);
    assert_eq!(world.look(values(&[])).did, ["ignore"]);
    world.rules.class = "other".into();
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"]);
}

/// Values that are in objects of the cluster are followed, where the object is read in intervals at all.
#[test]
fn a_change_of_values_in_the_cluster_is_followed() {
    let count = |world: &mut World, changes: u64| world.stores.values_mut().for_each(|store| store.values = Some(changes));
    let closed = json!({"kind": "allow", "windows": [{"schedule": "0 3 * * *", "duration": "1h"}]});
    for (more, follows) in [
        (json!({}), true),
        (json!({ "refreshInterval": "0" }), false),
        (json!({ "refreshPolicy": "CreatedOnce" }), false),
        (json!({ "refreshPolicy": "OnChange" }), false),
        (json!({ "syncWindows": closed }), false),
    ] {
        let mut world = World::new(&spec(&more));
        count(&mut world, 1);
        assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "create"], "{more}");
        assert!(world.look(values(&[])).did.is_empty(), "{more}");
        count(&mut world, 2);
        let expected: &[&str] = if follows { &["fetch", "read", "update"] } else { &[] };
        assert_eq!(world.look(values(&[("k", "new")])).did, expected, "{more}");
        assert!(world.look(values(&[])).did.is_empty(), "{more}");
        // After a restart nobody knows whether they changed meanwhile.
        world.memory = crate::plan::external_secret::Memory::default();
        let expected: &[&str] = if follows { &["fetch", "keep"] } else { &[] };
        assert_eq!(world.look(values(&[("k", if follows { "new" } else { "v" })])).did, expected, "{more}");
    }
}
