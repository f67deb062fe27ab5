//! Generators as the source: when one is asked, what is told where it cannot be, and what becomes of the states.

use super::super::generate::{
    Holdings, Plan, Reached, STATE_ENTRY, fate, fate_of_former, is_pushed_again, plan, state_labels,
};
use super::*;
use crate::api::external_secret::GeneratorKind;
use crate::api::generators::GeneratorObject;
use crate::index::{AnyGenerator, GeneratorFacts};
use crate::plan::generator_state::Fate;

fn found(kind: GeneratorKind, spec: Value) -> GeneratorFacts {
    let object = json!({ "metadata": { "name": "g", "namespace": "team-a", "uid": "g" }, "spec": spec });
    let object: GeneratorObject = serde_json::from_value(object).unwrap();
    GeneratorFacts::Found(Arc::new(AnyGenerator::read(kind, object)))
}

fn password() -> Option<GeneratorFacts> {
    Some(found(GeneratorKind::Password, json!({})))
}

fn on(reference: Value, generator: Option<GeneratorFacts>) -> Facts {
    let ps = push_secret(&spec(json!({ "selector": { "generatorRef": reference } })));
    Facts { sources: Vec::new(), generator, ..facts(ps, one_store()) }
}

fn fresh() -> Facts {
    on(json!({ "kind": "Password", "name": "g" }), password())
}

fn once_pushed() -> Facts {
    pushed(&fresh(), &[("SecretStore/s", "r")])
}

#[test]
fn it_is_generated_only_when_the_push_is_due() {
    type Case = (&'static str, fn(&mut Facts), &'static str);
    let cases: [Case; 8] = [
        ("nothing happened", |_| (), "later"),
        ("a restart, which forgets", |f| f.memory = Memory::default(), "later"),
        ("the generator changed", |f| f.generator = Some(found(GeneratorKind::Password, json!({ "length": 40 }))), "later"),
        ("the generator is gone", |f| f.generator = Some(GeneratorFacts::Missing), "later"),
        ("its kind is not listed yet", |f| f.generator = Some(GeneratorFacts::Unknown), "later"),
        ("the interval is over", |f| f.now = at(3601), "push"),
        ("it is over, but what the generator is is not known yet", |f| (f.now, f.generator) = (at(3601), None), "idle"),
        ("the spec changed", |f| Arc::make_mut(&mut f.ps).metadata.generation = Some(9), "push"),
    ];
    for (what, event, then) in cases {
        let mut facts = once_pushed();
        event(&mut facts);
        assert_eq!(next(&facts), then, "{what}");
    }
    let mut forced = once_pushed();
    let annotations = BTreeMap::from([("force-sync".to_owned(), "1".to_owned())]);
    Arc::make_mut(&mut forced.ps).metadata.annotations = Some(annotations);
    assert_eq!(next(&forced), "push", "forced");
    assert_ne!(synced_resource_version(&forced.ps), synced_resource_version(&once_pushed().ps), "no kept value will do");
}

/// ESO notes no `sourceVersion`. Else whoever takes over from it would push other values than those that are in use.
#[test]
fn what_eso_pushed_through_a_template_is_not_generated_anew() {
    let from = json!({ "templateFrom": [{ "secret": { "name": "src", "items": [{ "key": "k" }] } }] });
    let selector = json!({ "generatorRef": { "kind": "Password", "name": "g" } });
    let ps = push_secret(&spec(json!({ "selector": selector, "template": from })));
    let ours = pushed(&Facts { generator: password(), ..facts(ps, one_store()) }, &[("SecretStore/s", "r")]);
    let mut esos = ours.clone();
    esos.memory = Memory::default();
    Arc::make_mut(&mut esos.ps).status.as_mut().unwrap().source_version = None;
    assert_eq!((next(&ours), next(&esos)), ("later", "later"));
    let changed = |facts: Facts| Facts { sources: vec![source_at("2")], ..facts };
    assert_eq!(next(&changed(ours)), "push", "it is known in which version the template was taken");
    assert_eq!(next(&changed(esos)), "later", "it is not");
}

/// Also of one that the watch does not know yet.
#[test]
fn the_versions_of_templates_are_those_that_were_read() {
    let of = |kind, name: &str| crate::render::target::Source { kind, name: name.into() };
    let text = |version: &str| {
        let (uid, version) = ("u".to_owned(), version.to_owned());
        Some(crate::render::target::SourceText { uid, version, ..Default::default() })
    };
    let read = Sources::from([
        (of(ReferenceKind::Secret, "src"), text("2")),
        (of(ReferenceKind::Secret, "gone"), None),
        (of(ReferenceKind::ConfigMap, "map"), text("3")),
    ]);
    let versions: Vec<_> = template_versions(&read).collect();
    assert_eq!(versions, [SourceVersion { name: "src".into(), uid: "u".into(), resource_version: "2".into() }]);
}

#[test]
fn a_generator_that_cannot_be_asked_is_told() {
    let missing = || Some(GeneratorFacts::Missing);
    let to = |kind: &str| json!({ "kind": kind, "name": "g" });
    let cases = [
        (to("Fake"), missing(), r#"unable to get generator: Fake.generators.external-secrets.io "g" not found"#),
        (
            json!({ "apiVersion": "elsewhere.test/v1", "kind": "Fake", "name": "g" }),
            missing(),
            "unable to get generator: terminal error: generatorRef may only reference the generators group, but got elsewhere.test",
        ),
        (
            to("Password"),
            Some(found(GeneratorKind::Password, json!({ "length": "x" }))),
            "unable to get generator: terminal error: invalid Password: ",
        ),
    ];
    for (reference, generator, text) in cases {
        let facts = on(reference, generator);
        assert_eq!(next(&facts), "push", "what fails is told by the push, which also empties stores in deletion");
        let failure = plan(&facts, &Rules::default()).unwrap_err();
        let failed = after(&facts, settle(&facts, Outcome::Failed { failure, synced: None }));
        let (status, reason, message) = condition(&failed);
        assert_eq!((status.as_str(), reason.as_str()), ("False", "Errored"));
        assert!(message.starts_with(&format!("could not get source secret: {text}")), "{message}");
        let mended = Facts { generator: password(), ..failed };
        assert_eq!(next(&mended), "push", "it goes on when the generator comes");
    }
    let rules = Rules { cluster_generators: false, ..Rules::default() };
    let error = plan(&on(to("ClusterGenerator"), None), &rules).unwrap_err().message;
    assert!(error.contains("--namespaces"), "{error}");
}

#[test]
fn what_is_not_known_yet_is_waited_for() {
    for unknown in [None, Some(GeneratorFacts::Unknown)] {
        let facts = Facts { generator: unknown, ..fresh() };
        assert!(matches!(plan(&facts, &Rules::default()), Ok(Plan::Wait)));
        assert_eq!(next(&facts), "idle");
    }
    assert!(matches!(plan(&fresh(), &Rules::default()), Ok(Plan::Make(order)) if &*order.generator.id.key.name == "g"));
    let named = facts(push_secret(&spec(json!({}))), one_store());
    assert!(matches!(plan(&named, &Rules::default()), Ok(Plan::NoGenerator)));
}

/// Stores say whose a PushSecret is, and generators do not, as in ESO; of an ExternalSecret both do.
#[test]
fn the_class_of_a_generator_does_not_matter() {
    let mut facts = fresh();
    facts.generator = Some(found(GeneratorKind::Password, json!({ "controller": "someone-else" })));
    assert_eq!(next(&facts), "push");
}

/// The status is what a restart knows: it must say when values were generated, however often that is.
#[test]
fn each_generation_is_told_at_once() {
    let heartbeat = Duration::from_secs(300);
    let again = |facts: &Facts| {
        let later = Facts { now: at(10), ..facts.clone() };
        let outcome = Outcome::Synced { synced: synced(&[("SecretStore/s", "r")]), written: true, sources: Vec::new() };
        settle(&later, outcome).status.unwrap()
    };
    let (made, read) =
        (once_pushed(), pushed(&facts(push_secret(&spec(json!({}))), one_store()), &[("SecretStore/s", "r")]));
    assert!(must_write(&made, &again(&made), heartbeat));
    let unchanged = PushSecretStatus { source_version: read.ps.status.clone().unwrap().source_version, ..again(&read) };
    assert!(!must_write(&read, &unchanged, heartbeat), "what is read is not");
    let failed = settle(&made, Outcome::Failed { failure: Failure::retry("x"), synced: None }).status.unwrap();
    assert!(must_write(&made, &failed, heartbeat), "a failure is news once");
    let failing = Facts { ps: Arc::new(PushSecret { status: Some(failed), ..(*made.ps).clone() }), now: at(60), ..made };
    let same = settle(&failing, Outcome::Failed { failure: Failure::retry("x"), synced: None }).status.unwrap();
    assert!(!must_write(&failing, &same, heartbeat));
}

fn states(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A store of which some places took the values, and not all.
fn some(places: &[&str]) -> Reached {
    Reached { places: states(places), ..Reached::default() }
}

/// A store that did not answer when these places were written to.
fn mute(places: &[&str]) -> Reached {
    Reached { perhaps: states(places), ..Reached::default() }
}

fn synced_now() -> Outcome {
    Outcome::Synced { synced: SyncedPushSecrets::new(), written: true, sources: Vec::new() }
}

fn failed() -> Outcome {
    Outcome::Failed { failure: Failure::spec("x"), synced: None }
}

#[test]
fn what_may_be_in_a_store_is_not_taken_back() {
    let [one, other] = ["one", "other"].map(|name| StoreId::of(&store("team-a", name, json!({}))));
    for (fails, at_one, at_other, known, again, wanted) in [
        (false, some(&["a"]), some(&["a"]), true, false, Fate::Commit),
        (true, some(&["a"]), some(&[]), true, false, Fate::Commit),
        (true, some(&["a"]), mute(&["a"]), true, false, Fate::Leave),
        (true, some(&["a"]), some(&[]), false, false, Fate::Leave),
        (true, mute(&["a"]), some(&[]), true, false, Fate::Leave),
        (true, mute(&["a"]), some(&[]), false, false, Fate::Leave),
        (true, some(&[]), some(&[]), true, false, Fate::RollBack),
        (true, some(&[]), some(&[]), false, false, Fate::RollBack),
        // the second try of what got no answer at the first
        (false, some(&["a"]), some(&["a"]), true, true, Fate::Commit),
        (true, some(&["a"]), some(&[]), true, true, Fate::Leave),
        (true, some(&[]), some(&[]), true, true, Fate::Leave),
        // `IfNotExists`, and it had arrived
        (false, some(&[]), some(&[]), true, true, Fate::Leave),
    ] {
        let reached = BTreeMap::from([(one.clone(), at_one), (other.clone(), at_other)]);
        let outcome = if fails { failed() } else { synced_now() };
        assert_eq!(fate(&outcome, &reached, known, again), wanted, "{outcome:?} {reached:?} {known} {again}");
    }
}

/// Else each try, for as long as one store fails, changes what the others have.
#[test]
fn what_some_store_has_is_pushed_again_while_another_one_fails() {
    for (outcome, fate, again) in [
        (failed(), Fate::Commit, true),
        (failed(), Fate::Leave, true),
        (failed(), Fate::RollBack, false),
        (synced_now(), Fate::Commit, false),
        (synced_now(), Fate::Leave, false),
    ] {
        assert_eq!(is_pushed_again(&outcome, fate), again, "{outcome:?} {fate:?}");
    }
}

/// The source is a Secret now: until its values are everywhere, the stores hold what was generated before.
#[test]
fn a_former_generator_is_in_use_until_something_else_is_pushed() {
    let [one, other] = ["one", "other"].map(|name| StoreId::of(&store("team-a", name, json!({}))));
    let whole = |places: &[&str]| Reached { whole: true, ..some(places) };
    for (outcome, at_one, at_other, wanted) in [
        (synced_now(), whole(&["a"]), whole(&["a"]), Fate::Commit),
        (synced_now(), whole(&["a"]), whole(&[]), Fate::Commit),
        (synced_now(), whole(&[]), whole(&[]), Fate::Leave),
        (synced_now(), whole(&["a"]), some(&["a"]), Fate::Leave),
        (failed(), whole(&[]), whole(&[]), Fate::Leave),
        (failed(), whole(&["a"]), whole(&["a"]), Fate::Leave),
    ] {
        let reached = BTreeMap::from([(one.clone(), at_one), (other.clone(), at_other)]);
        assert_eq!(fate_of_former(&outcome, &reached), wanted, "{outcome:?} {reached:?}");
    }
}

#[test]
fn a_place_that_did_not_answer_may_hold_the_one_or_the_other() {
    let [good, bad] = ["good", "bad"].map(|name| StoreId::of(&store("team-a", name, json!({}))));
    let all = || Reached { whole: true, ..some(&["a"]) };
    let round = |at_bad| BTreeMap::from([(good.clone(), all()), (bad.clone(), at_bad)]);
    let mut holdings = Holdings::default();
    holdings.note(Some(&states(&["old"])), &states(&["one"]), &round(mute(&["a"])));
    assert_eq!(holdings.held(), states(&["old", "one"]));
    holdings.note(Some(&states(&["old", "one"])), &states(&["two"]), &round(some(&[])));
    assert_eq!(holdings.held(), states(&["old", "one", "two"]), "one may be in the store that failed");
    holdings.note(Some(&holdings.held()), &states(&["three"]), &round(all()));
    assert_eq!(holdings.held(), states(&["three"]));
    holdings.note(None, &states(&["four"]), &round(some(&[])));
    assert_eq!(holdings.held(), states(&[]), "nothing is known");
    holdings.note(Some(&states(&["three", "four"])), &states(&["five"]), &round(some(&[])));
    assert_eq!(holdings.held(), states(&["three", "four", "five"]), "so it may be all that was in use");
}

/// One store takes everything, the other nothing for good: what is alive is what each of them has, however often that is tried.
#[test]
fn what_no_store_has_goes_while_one_of_them_fails() {
    let [good, bad] = ["good", "bad"].map(|name| StoreId::of(&store("team-a", name, json!({}))));
    let all = || Reached { whole: true, ..some(&["a", "b"]) };
    let round = |at_good, at_bad| BTreeMap::from([(good.clone(), at_good), (bad.clone(), at_bad)]);
    let mut holdings = Holdings::default();
    let mut before = states(&["old"]);
    for newest in ["one", "two", "three"] {
        holdings.note(Some(&before), &states(&[newest]), &round(all(), some(&[])));
        assert_eq!(holdings.held(), states(&["old", newest]));
        before = holdings.held();
    }
    for newest in ["four", "five"] {
        holdings.note(Some(&before), &states(&[newest]), &round(some(&[]), some(&["a"])));
        assert_eq!(holdings.held(), states(&["old", "three", newest]), "one place has it, the other what it had");
        before = holdings.held();
    }
    holdings.note(Some(&before), &states(&["six"]), &round(all(), all()));
    assert_eq!(holdings.held(), states(&["six"]));
    holdings.note(Some(&states(&["x"])), &states(&["seven"]), &BTreeMap::from([(good.clone(), some(&[]))]));
    assert_eq!(holdings.held(), states(&["six"]), "a store that is no target any more holds none back");
}

#[test]
fn only_a_source_that_is_a_generator_has_states() {
    let generated = fresh();
    let label = crate::plan::object_hash::owner_key_label("PushSecret", "team-a", "ps", STATE_ENTRY);
    assert_eq!(state_labels(&generated.ps), BTreeSet::from([label]));
    assert!(state_labels(&facts(push_secret(&spec(json!({}))), one_store()).ps).is_empty());
}

/// A lease that cannot be renewed would have it generate at every look, for a store that keeps what it has.
#[test]
fn what_stays_in_its_store_is_not_replaced_as_its_lease_ends() {
    let mut leased = Facts { replace_at: Some(at(-1)), ..once_pushed() };
    assert_eq!(next(&leased), "push");
    Arc::make_mut(&mut leased.ps).spec.update_policy = Some(PushUpdatePolicy::IfNotExists);
    assert_eq!(next(&leased), "later");
}

#[test]
fn the_next_look_comes_before_the_lease_ends() {
    let wake = |replace_at: Option<Timestamp>| settle(&Facts { replace_at, ..fresh() }, synced_now()).wake;
    let after = |seconds: u64| Wake::After(Duration::from_secs(seconds), Priority::Periodic);
    assert_eq!(wake(Some(at(10))), after(10));
    assert_eq!(wake(Some(at(-5))), after(60), "the one before could not be noted as out of use");
    assert_eq!(wake(Some(at(99_999))), wake(None), "the interval is shorter");
}

/// Else each try to tell of a value makes another, and pushes that.
#[test]
fn what_could_not_be_told_is_told_and_not_done_again() {
    let before = fresh();
    let report =
        settle(&before, Outcome::Synced { synced: synced(&[("SecretStore/s", "r")]), written: true, sources: vec![] });
    let status = report.status.clone().unwrap();
    let look = |facts: &Facts, memory: &Memory, ps: PushSecret| {
        let (memory, ps) = memory.clone().told(Arc::new(ps));
        Facts { memory, ps, ..facts.clone() }
    };
    let mut memory = report.memory.clone().untold(&before, status.clone());
    for _ in 0..3 {
        let facts = look(&before, &memory, (*before.ps).clone());
        let Next::Settle(report) = before_push(&facts, &Rules::default()) else { panic!("nothing else is due") };
        assert_eq!((report.status.as_ref(), report.notes.len(), report.failure), (Some(&status), 0, None));
        assert!(must_write(&facts, report.status.as_ref().unwrap(), Duration::from_secs(300)));
        memory = Memory { untold: None, ..report.memory }.untold(&facts, status.clone());
    }
    let mut edited = (*before.ps).clone();
    edited.metadata.generation = Some(9);
    let edited = look(&before, &memory, edited);
    assert_eq!(next(&edited), "push");
    assert_eq!(edited.ps.status, Some(status.clone()), "and it knows what is pushed where");
    let written = PushSecret { status: Some(status), ..(*before.ps).clone() };
    let written = look(&before, &memory, written);
    assert_eq!((next(&written), written.memory.untold), ("later", None), "the write had come through");
    let mut other = (*before.ps).clone();
    other.metadata.uid = Some("another".into());
    assert_eq!(next(&look(&before, &memory, other)), "push");
}

/// A failure is told with the next try, at its pace.
#[test]
fn a_failure_that_could_not_be_told_does_not_end_its_pause() {
    let pushed = once_pushed();
    let report = settle(&pushed, failed());
    let memory = report.memory.clone().untold(&pushed, report.status.unwrap());
    let (memory, ps) = memory.told(pushed.ps.clone());
    let facts = Facts { memory, ps, woken: Priority::Periodic, ..pushed };
    let Next::Settle(again) = before_push(&facts, &Rules::default()) else { panic!("it pauses") };
    assert_eq!(again.wake, Wake::After(again.memory.paused.unwrap().1, Priority::Periodic));
    assert_eq!((again.memory.failures, again.failure), (1, Some("internal")), "what was made is kept");
}

/// Its own states, and those of others, wake it at any time.
#[test]
fn a_push_that_fails_generates_at_the_pace_of_its_pauses() {
    let mut failing = Facts { woken: Priority::Periodic, replace_at: Some(at(-1)), ..once_pushed() };
    let mut generations = 0;
    for second in 0..240 {
        failing.now = at(second);
        if next(&failing) == "push" {
            generations += 1;
            let report = settle(&failing, Outcome::Failed { failure: Failure::retry("x"), synced: None });
            failing = after(&failing, report);
        }
    }
    // after 1, 2, 4 … 64 s, each spread by up to a fifth
    assert_eq!(generations, 8);
    assert_eq!(next(&failing), "later");
    assert_eq!(next(&Facts { woken: Priority::Changed, ..failing.clone() }), "push", "something was mended");
    assert_eq!(next(&Facts { now: at(-9), ..failing.clone() }), "push", "the clock went back");
    let named = facts(push_secret(&spec(json!({}))), one_store());
    let read = Facts { memory: failing.memory.clone(), woken: Priority::Periodic, now: failing.now, ..named };
    assert_eq!(next(&read), "push", "reading takes nothing");
}
