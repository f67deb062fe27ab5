//! Tables over one PushSecret and its world, and walks through more than one look.
#![allow(clippy::unwrap_used, clippy::panic)]

mod entries;
mod generate;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::entries::{Entry, check_selectors, entries as entries_of};
use super::*;
use crate::api::push_secret::SyncedPushSecrets;
use crate::api::{ClusterSecretStore, FINALIZER_STORE, SecretStore};
use crate::plan::names::Names;
use crate::providers::Source as Values;
use crate::secret_bytes::SecretBytes;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Chance that is none.
struct Fixed;

impl crate::render::template::Chance for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

fn outside() -> Outside<'static> {
    Outside { now: at(0), chance: &Fixed, taken: Box::leak(Box::default()) }
}

fn push_secret(spec: &Value) -> PushSecret {
    let metadata = json!({ "name": "ps", "namespace": "team-a", "uid": "u", "generation": 1 });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()
}

fn spec(more: Value) -> Value {
    let mut spec = json!({
        "secretStoreRefs": [{ "name": "s" }],
        "selector": { "secret": { "name": "src" } },
        "data": [{ "match": { "secretKey": "a", "remoteRef": { "remoteKey": "r" } } }],
    });
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn store(namespace: &str, name: &str, more: Value) -> AnyStore {
    let mut store = json!({
        "metadata": { "name": name, "namespace": namespace, "labels": { "push": "here" } },
        "spec": { "provider": { "fake": { "data": [] } } },
    });
    for (field, value) in more.as_object().unwrap() {
        store[field].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    }
    match namespace {
        "" => {
            store["metadata"].as_object_mut().unwrap().remove("namespace");
            serde_json::from_value::<ClusterSecretStore>(store).unwrap().into()
        }
        _ => serde_json::from_value::<SecretStore>(store).unwrap().into(),
    }
}

fn source_at(version: &str) -> SourceVersion {
    SourceVersion { name: "src".into(), uid: "su".into(), resource_version: version.into() }
}

/// What the shell would bring: the stores that the object uses, and a source.
fn facts(ps: PushSecret, stores: Vec<AnyStore>) -> Facts {
    let used = stores.into_iter().filter(|s| stores::uses(&ps, s));
    Facts {
        stores: used.map(|s| (StoreId::of(&s), Arc::new(s))).collect(),
        namespace_labels: None,
        sources: vec![source_at("1")],
        unlisted: None,
        generator: None,
        replace_at: None,
        ps: Arc::new(ps),
        memory: Memory::default(),
        woken: Priority::Changed,
        now: at(0),
    }
}

fn one_store() -> Vec<AnyStore> {
    vec![store("team-a", "s", json!({}))]
}

fn synced(entries: &[(&str, &str)]) -> SyncedPushSecrets {
    let mut all = SyncedPushSecrets::new();
    for (store, key) in entries {
        let data: PushData = serde_json::from_value(json!({ "match": { "remoteRef": { "remoteKey": key } } })).unwrap();
        all.entry((*store).to_owned()).or_default().insert((*key).to_owned(), data);
    }
    all
}

/// The object after a push that went well.
fn pushed(facts: &Facts, what: &[(&str, &str)]) -> Facts {
    let outcome = Outcome::Synced { synced: synced(what), written: true, sources: facts.sources.clone() };
    after(facts, settle(facts, outcome))
}

fn after(facts: &Facts, report: Report) -> Facts {
    let mut ps = (*facts.ps).clone();
    ps.status = report.status.or(ps.status);
    Facts { ps: Arc::new(ps), memory: report.memory, ..facts.clone() }
}

fn condition(facts: &Facts) -> (String, String, String) {
    let c = facts.ps.ready().unwrap().clone();
    (c.status, c.reason.unwrap(), c.message.unwrap())
}

fn name_of(next: &Next) -> &'static str {
    match next {
        Next::Ignore => "ignore",
        Next::Idle(Wake::OnChange) => "idle",
        Next::Idle(Wake::After(..)) => "later",
        Next::Finalizer(true) => "hold",
        Next::Finalizer(false) => "let go",
        Next::CleanUp(_) => "clean up",
        Next::Leave(_) => "leave",
        Next::Settle(_) => "settle",
        Next::Push(_) => "push",
    }
}

fn next(facts: &Facts) -> &'static str {
    name_of(&before_push(facts, &Rules::default()))
}

#[test]
fn a_push_is_due_as_in_eso_and_when_the_source_changed() {
    let hourly = || pushed(&facts(push_secret(&spec(json!({}))), one_store()), &[("SecretStore/s", "r")]);
    let never =
        || pushed(&facts(push_secret(&spec(json!({ "refreshInterval": "0" }))), one_store()), &[("SecretStore/s", "r")]);
    assert_eq!(next(&facts(push_secret(&spec(json!({}))), one_store())), "push");
    assert_eq!(next(&hourly()), "later");
    assert_eq!(next(&never()), "idle");
    for make in [hourly, never] {
        let edited = |edit: fn(&mut PushSecret)| {
            let mut facts = make();
            edit(Arc::make_mut(&mut facts.ps));
            facts
        };
        assert_eq!(next(&edited(|ps| ps.metadata.generation = Some(2))), "push");
        assert_eq!(next(&edited(|ps| ps.metadata.labels = Some(BTreeMap::from([("a".into(), "b".into())])))), "push");
        assert_eq!(next(&Facts { sources: vec![source_at("2")], ..make() }), "push", "the source changed");
        assert_eq!(next(&Facts { sources: Vec::new(), ..make() }), "push", "the source is gone");
    }
    assert_eq!(next(&Facts { now: at(3601), ..hourly() }), "push");
    assert_eq!(next(&Facts { now: at(3601), ..never() }), "idle");
    assert_eq!(next(&Facts { now: at(-600), ..hourly() }), "push", "a refresh in the future is none");
    // another process, without memory, knows as much by the status
    assert_eq!(next(&Facts { memory: Memory::default(), now: at(600), ..hourly() }), "later");
}

/// Else it is pushed at every look until that time has come.
#[test]
fn a_refresh_time_in_the_future_is_written_anew() {
    let mut good = pushed(&facts(push_secret(&spec(json!({}))), one_store()), &[("SecretStore/s", "r")]);
    good = Facts { now: at(-600), memory: Memory::default(), ..good };
    let outcome =
        Outcome::Synced { synced: synced(&[("SecretStore/s", "r")]), written: false, sources: good.sources.clone() };
    let status = settle(&good, outcome).status.unwrap();
    assert!(must_write(&good, &status, Duration::from_secs(300)));
    Arc::make_mut(&mut good.ps).status = Some(status);
    assert_eq!(next(&good), "later");
}

#[test]
fn a_success_says_so_once() {
    let first = facts(push_secret(&spec(json!({}))), one_store());
    let report = settle(&first, Outcome::Synced { synced: synced(&[]), written: true, sources: vec![source_at("1")] });
    assert_eq!(report.notes, [Note::normal("Synced", "PushSecret synced successfully")]);
    let second = after(&first, report);
    assert_eq!(second.ps.status.as_ref().unwrap().synced_push_secrets, None, "an empty book is none");
    let again = settle(&second, Outcome::Synced { synced: synced(&[]), written: false, sources: vec![source_at("1")] });
    assert!(again.notes.is_empty());
    assert!(!must_write(&second, &again.status.unwrap(), Duration::from_secs(300)));
    let kept = facts(push_secret(&spec(json!({ "updatePolicy": "IfNotExists" }))), one_store());
    assert_eq!(
        condition(&pushed(&kept, &[])),
        ("True".into(), "Synced".into(), "PushSecret synced successfully. Existing secrets in providers unchanged.".into())
    );
}

#[test]
fn a_failure_keeps_the_book_and_is_tried_again() {
    let good = pushed(&facts(push_secret(&spec(json!({}))), one_store()), &[("SecretStore/s", "r")]);
    let fail =
        |facts: &Facts, synced| settle(facts, Outcome::Failed { failure: Failure::spec("set secret failed: x"), synced });
    let report = fail(&good, None);
    assert_eq!(report.notes, [Note::warning("Errored", "set secret failed: x")]);
    let bad = after(&good, report);
    assert_eq!(bad.ps.status.as_ref().unwrap().synced_push_secrets, Some(synced(&[("SecretStore/s", "r")])));
    assert_eq!(condition(&bad), ("False".into(), "Errored".into(), "set secret failed: x".into()));
    assert_eq!(next(&bad), "push");
    let again = fail(&bad, None);
    assert!(again.notes.is_empty(), "the same failure is told once");
    let waits = |report: &Report| match report.wake {
        Wake::After(pause, _) => pause,
        Wake::OnChange => panic!("a failure waits for nothing"),
    };
    assert!(waits(&again) > waits(&fail(&good, None)));
    // what was begun is in the book, an empty store too: ESO has it so
    let begun = SyncedPushSecrets::from([("SecretStore/s".to_owned(), BTreeMap::new())]);
    let new = facts(push_secret(&spec(json!({}))), one_store());
    assert_eq!(after(&new, fail(&new, Some(begun.clone()))).ps.status.as_ref().unwrap().synced_push_secrets, Some(begun));
    assert_eq!(after(&new, fail(&new, None)).ps.status.as_ref().unwrap().synced_push_secrets, None);
}

#[test]
fn the_finalizer_follows_the_policy() {
    let with = |policy: &str, held: bool, leaving: bool| {
        let mut ps = push_secret(&spec(json!({ "deletionPolicy": policy })));
        ps.metadata.finalizers = held.then(|| vec![FINALIZER_PUSH.to_owned()]);
        ps.metadata.deletion_timestamp = leaving.then(|| Time(at(0)));
        facts(ps, one_store())
    };
    for (policy, held, leaving, expected) in [
        ("Delete", false, false, "hold"),
        ("Delete", true, false, "push"),
        ("Delete", true, true, "clean up"),
        ("Delete", false, true, "ignore"),
        ("None", false, false, "push"),
        ("None", true, false, "let go"),
        ("None", true, true, "let go"),
        ("None", false, true, "ignore"),
    ] {
        assert_eq!(next(&with(policy, held, leaving)), expected, "{policy} {held} {leaving}");
    }
}

#[test]
fn what_makes_no_sense_is_told_before_anything_is_read() {
    let message = |more: Value| match before_push(&facts(push_secret(&spec(more)), one_store()), &Rules::default()) {
        Next::Settle(report) => report.status.unwrap().conditions.remove(0).message.unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(message(json!({ "refreshInterval": "soon" })).starts_with("spec.refreshInterval: "));
    let mut graceless = push_secret(&spec(json!({})));
    graceless.metadata.annotations = Some([(crate::api::ANNOTATION_GRACE.to_owned(), "soon".to_owned())].into());
    let Next::Settle(report) = before_push(&facts(graceless, one_store()), &Rules::default()) else { panic!() };
    let text = report.status.unwrap().conditions.remove(0).message.unwrap();
    assert!(text.starts_with("annotation keyferry.io/generator-grace: \"soon\" is not a duration"), "{text}");
    for (entry, text) in [
        (json!({}), "dataTo[0]: storeRef is required"),
        (json!({ "storeRef": {} }), "dataTo[0]: storeRef must have name or labelSelector"),
        (json!({ "storeRef": { "name": "x" } }), "dataTo[0]: storeRef \"x\" not found in secretStoreRefs"),
        (
            json!({ "storeRef": { "name": "s", "kind": "ClusterSecretStore" } }),
            "dataTo[0]: storeRef \"s\" not found in secretStoreRefs",
        ),
    ] {
        assert_eq!(message(json!({ "dataTo": [entry] })), text);
    }
}

fn targets(refs: Value, stores: Vec<AnyStore>) -> Result<Vec<String>, String> {
    let facts = facts(push_secret(&spec(json!({ "secretStoreRefs": refs }))), stores);
    let found = stores::targets(&facts, &Rules::default()).map_err(|f| f.message)?;
    Ok(found.iter().map(ToString::to_string).collect())
}

#[test]
fn stores_are_found_by_name_and_by_label() {
    let all = || {
        vec![
            store("team-a", "s", json!({})),
            store("team-a", "t", json!({})),
            store("team-b", "u", json!({})),
            store("", "c", json!({})),
        ]
    };
    let by_label = |kind: &str| json!([{ "labelSelector": { "matchLabels": { "push": "here" } }, "kind": kind }]);
    assert_eq!(
        targets(json!([{ "name": "t" }, { "name": "s" }, { "name": "t" }]), all()).unwrap(),
        ["SecretStore team-a/t", "SecretStore team-a/s"]
    );
    assert_eq!(targets(json!([{ "name": "c", "kind": "ClusterSecretStore" }]), all()).unwrap(), ["ClusterSecretStore c"]);
    // GHSA-fcxq-v2r3-cc8h: labels of another namespace's stores select nothing
    assert_eq!(targets(by_label("SecretStore"), all()).unwrap(), ["SecretStore team-a/s", "SecretStore team-a/t"]);
    assert_eq!(targets(by_label("ClusterSecretStore"), all()).unwrap(), ["ClusterSecretStore c"]);
    assert_eq!(
        targets(json!([{ "name": "u" }]), all()).unwrap_err(),
        "could not get SecretStore \"u\", SecretStore.external-secrets.io \"u\" not found"
    );
    assert_eq!(
        targets(json!([{ "name": "s", "kind": "ClusterSecretStore" }]), all()).unwrap_err(),
        "could not get ClusterSecretStore \"s\", ClusterSecretStore.external-secrets.io \"s\" not found"
    );
    assert_eq!(targets(json!([{}]), all()).unwrap_err(), "refStore Name must be provided");
    let wrong = json!({ "matchExpressions": [{ "key": "push", "operator": "in", "values": ["here"] }] });
    assert_eq!(
        targets(json!([{ "name": "s" }, { "labelSelector": wrong }]), all()).unwrap_err(),
        "could not convert labels: \"in\" is not a valid label selector operator",
        "what its stores hold is not taken away"
    );
    let none = targets(json!([{ "labelSelector": { "matchLabels": { "push": "nowhere" } } }]), all());
    assert_eq!(none.unwrap_err(), "no store matches spec.secretStoreRefs: check names, labels and kinds");
}

#[test]
fn stores_of_another_controller_and_those_in_deletion_are_left_out() {
    let foreign = || store("team-a", "f", json!({ "spec": { "controller": "other" } }));
    let leaving = || store("team-a", "l", json!({ "metadata": { "deletionTimestamp": at(0).to_string() } }));
    let refs = |names: &[&str]| Value::from(names.iter().map(|n| json!({ "name": n })).collect::<Vec<_>>());
    let all = || vec![store("team-a", "s", json!({})), foreign(), leaving()];
    assert_eq!(targets(refs(&["f", "l", "s"]), all()).unwrap(), ["SecretStore team-a/s"]);
    assert_eq!(targets(refs(&["f"]), all()).unwrap(), Vec::<String>::new());
    assert_eq!(targets(refs(&["l"]), all()).unwrap_err(), "SecretStore \"l\" is being deleted");
    let only_foreign =
        facts(push_secret(&spec(json!({ "secretStoreRefs": [{ "name": "f" }], "deletionPolicy": "Delete" }))), all());
    assert_eq!(next(&only_foreign), "ignore", "another controller's PushSecret is not touched");
}

fn values(keys: &[&str]) -> Arc<Values> {
    let data = keys.iter().map(|k| ((*k).to_owned(), SecretBytes::from(format!("v-{k}")))).collect();
    Arc::new(Values { data, ..Values::default() })
}

/// An object of deletion policy `Delete` that pushed these, in a world of these stores.
fn deleting(entries: &[(&str, &str)], leaving: bool, stores: Vec<AnyStore>) -> Facts {
    let mut ps = push_secret(&spec(json!({ "deletionPolicy": "Delete" })));
    ps.metadata.finalizers = Some(vec![FINALIZER_PUSH.to_owned()]);
    ps.metadata.deletion_timestamp = leaving.then(|| Time(at(0)));
    ps.status = Some(PushSecretStatus { synced_push_secrets: Some(synced(entries)), ..PushSecretStatus::default() });
    facts(ps, stores)
}

fn gone(removals: &Removals) -> Vec<String> {
    removals.delete.iter().map(|r| format!("{} {}", r.store, r.entry)).collect()
}

#[test]
fn what_is_no_longer_wanted_goes() {
    let stores = || vec![store("team-a", "s", json!({})), store("", "c", json!({}))];
    let facts =
        deleting(&[("SecretStore/s", "r"), ("SecretStore/s", "old"), ("ClusterSecretStore/c", "x")], false, stores());
    let removals = stores::removals(&facts, &Rules::default(), &synced(&[("SecretStore/s", "r")]));
    assert_eq!(gone(&removals), ["ClusterSecretStore c x", "SecretStore team-a/s old"]);
    assert!(removals.notes.is_empty() && removals.kept.is_empty());
}

#[test]
fn a_store_that_is_gone_holds_nothing_up() {
    let facts = deleting(&[("SecretStore/s", "r"), ("SecretStore/lost", "x"), ("nonsense", "y")], true, one_store());
    let removals = stores::removals(&facts, &Rules::default(), &SyncedPushSecrets::new());
    assert_eq!(gone(&removals), ["SecretStore team-a/s r"]);
    let text = "SecretStore/lost is gone: what was pushed there stays there: x";
    assert_eq!(removals.notes, [Note::warning("Errored", text)]);
}

#[test]
fn entries_of_another_controller_stay_in_the_book() {
    let foreign = store("team-a", "f", json!({ "spec": { "controller": "other" } }));
    let facts = deleting(&[("SecretStore/f", "r"), ("ClusterSecretStore/c", "x")], true, vec![foreign]);
    let rules = Rules { cluster_stores: false, ..Rules::default() };
    let removals = stores::removals(&facts, &rules, &SyncedPushSecrets::new());
    assert!(removals.delete.is_empty());
    assert_eq!(removals.kept, synced(&[("SecretStore/f", "r"), ("ClusterSecretStore/c", "x")]));
}

/// As after a push that failed before it began.
#[test]
fn a_store_of_another_controller_that_holds_nothing_holds_nothing_up() {
    let foreign = store("team-a", "f", json!({ "spec": { "controller": "other" } }));
    let mut facts = deleting(&[], true, Vec::new());
    facts.stores = BTreeMap::from([(StoreId::of(&foreign), Arc::new(foreign))]);
    let nothing = SyncedPushSecrets::from([("SecretStore/f".to_owned(), BTreeMap::new())]);
    Arc::make_mut(&mut facts.ps).status.as_mut().unwrap().synced_push_secrets = Some(nothing);
    assert_eq!(stores::removals(&facts, &Rules::default(), &SyncedPushSecrets::new()), Removals::default());
}

/// CVE-2020-8568's lesson: a status that somebody wrote gives no right that the object's namespace does not have.
#[test]
fn the_status_gives_no_right() {
    let closed = || store("", "c", json!({ "spec": { "conditions": [{ "namespaces": ["team-b"] }] } }));
    let theirs = || store("team-b", "s", json!({}));
    let facts = deleting(&[("ClusterSecretStore/c", "r"), ("SecretStore/s", "x")], false, vec![closed(), theirs()]);
    assert_eq!(
        stores::allowed(&facts, &closed()).unwrap_err().message,
        "using cluster store \"c\" is not allowed from namespace \"team-a\": denied by spec.condition"
    );
    let removals = stores::removals(&facts, &Rules::default(), &SyncedPushSecrets::new());
    assert!(removals.delete.iter().all(|r| r.store.kind == crate::api::StoreKind::ClusterSecretStore), "{removals:?}");
    // and an object in deletion is not held up by it either
    let leaving = deleting(&[("ClusterSecretStore/c", "r")], true, vec![closed()]);
    let removals = stores::removals(&leaving, &Rules::default(), &SyncedPushSecrets::new());
    assert!(removals.delete.is_empty() && removals.notes.len() == 1, "{removals:?}");
}

#[test]
fn a_source_that_is_gone_takes_with_it_what_it_pushed() {
    let kept = pushed(&facts(push_secret(&spec(json!({}))), one_store()), &[("SecretStore/s", "r")]);
    assert_eq!(source_gone(&kept, &Rules::default()), None, "policy None");
    let nothing = deleting(&[], false, one_store());
    assert_eq!(source_gone(&nothing, &Rules::default()), None, "nothing was pushed");
    let before = Facts { sources: Vec::new(), ..deleting(&[("SecretStore/s", "r")], false, one_store()) };
    assert_eq!(gone(&source_gone(&before, &Rules::default()).unwrap()), ["SecretStore team-a/s r"]);
    let report = settle(&before, Outcome::SourceDeleted { synced: SyncedPushSecrets::new() });
    assert_eq!(report.wake, Wake::OnChange);
    assert_eq!(report.notes, [Note::normal("SourceDeleted", "source secret deleted; provider secrets cleaned up")]);
    let cleaned = after(&before, report);
    let text = "source secret deleted; provider secrets cleaned up";
    assert_eq!(condition(&cleaned), ("False".into(), "SourceDeleted".into(), text.into()));
    assert_eq!(cleaned.ps.status.as_ref().unwrap().synced_push_secrets, None);
    assert_eq!(next(&cleaned), "idle", "and nothing is done until the source is back");
    let shape = SourceVersion { name: "shape".into(), ..source_at("1") };
    assert_eq!(next(&Facts { sources: vec![shape], ..cleaned.clone() }), "idle", "one with a template is no source");
    assert_eq!(next(&Facts { sources: vec![source_at("9")], ..cleaned }), "push");
}

#[test]
fn stores_wait_for_what_was_pushed_to_them() {
    let ps = |policy: &str, pushed: bool| {
        let mut ps = push_secret(&spec(json!({ "deletionPolicy": policy })));
        ps.status = pushed.then(|| PushSecretStatus {
            synced_push_secrets: Some(synced(&[("SecretStore/s", "r")])),
            ..PushSecretStatus::default()
        });
        ps
    };
    let with = |held: bool, leaving: bool| {
        let mut store = store("team-a", "s", json!({}));
        store.metadata.finalizers = held.then(|| vec![FINALIZER_STORE.to_owned()]);
        store.metadata.deletion_timestamp = leaving.then(|| Time(at(0)));
        store
    };
    for (users, held, leaving, expected) in [
        (vec![ps("Delete", false)], false, false, Some(true)),
        (vec![ps("Delete", true)], true, false, None),
        (vec![ps("None", true)], false, false, None),
        (vec![ps("None", true)], true, false, Some(false)),
        (vec![], true, false, Some(false)),
        (vec![], true, true, Some(false)),
        (vec![ps("Delete", true)], true, true, None),
        (vec![ps("Delete", false)], true, true, Some(false)),
        (vec![ps("Delete", true)], false, true, None),
    ] {
        assert_eq!(stores::finalizer(&with(held, leaving), &users), expected, "{} users {held} {leaving}", users.len());
    }
    let elsewhere = store("team-b", "s", json!({}));
    assert_eq!(
        stores::finalizer(&elsewhere, &[ps("Delete", true)]),
        None,
        "a store of another namespace is none of its business"
    );
}

#[test]
fn a_store_in_deletion_is_left_at_once() {
    let good = {
        let facts = deleting(&[("SecretStore/s", "r")], false, one_store());
        pushed(&facts, &[("SecretStore/s", "r")])
    };
    assert_eq!(next(&good), "later");
    let leaving = store("team-a", "s", json!({ "metadata": { "deletionTimestamp": at(0).to_string() } }));
    let stores = BTreeMap::from([(StoreId::of(&leaving), Arc::new(leaving))]);
    assert_eq!(next(&Facts { stores, ..good }), "push");
}

#[test]
fn the_book_names_places_as_eso_does() {
    let data = |place: Value| serde_json::from_value::<PushData>(json!({ "match": { "remoteRef": place } })).unwrap();
    assert_eq!(entry_key(&data(json!({ "remoteKey": "k" }))), "k");
    assert_eq!(entry_key(&data(json!({ "remoteKey": "k", "property": "a.b" }))), "k/a.b");
    let ps = push_secret(&spec(json!({})));
    let entry =
        entries_of(&ps.spec, "team-a", &one_store()[0], &values(&["a"]), &Names::default(), outside()).unwrap().remove(0);
    assert_eq!(
        serde_json::to_value(&entry.data).unwrap(),
        json!({ "match": { "secretKey": "a", "remoteRef": { "remoteKey": "r" } }, "conversionStrategy": "None" })
    );
}

#[test]
fn intervals_spread_and_never_are_late() {
    let good = pushed(&facts(push_secret(&spec(json!({ "refreshInterval": "10m" }))), one_store()), &[]);
    let report = settle(&good, Outcome::Synced { synced: synced(&[]), written: false, sources: vec![] });
    let Wake::After(wake, Priority::Periodic) = report.wake else { panic!("{:?}", report.wake) };
    let most = SignedDuration::from_mins(10).unsigned_abs();
    assert!(wake <= most && wake >= most.mul_f64(0.9));
}

/// The object, and one that pushed these, with another spec.
fn respecified(entries: &[(&str, &str)], more: Value, stores: Vec<AnyStore>) -> Facts {
    let mut ps = (*deleting(entries, false, Vec::new()).ps).clone();
    ps.spec = push_secret(&spec(more)).spec;
    facts(ps, stores)
}

#[test]
fn a_selector_that_names_nothing_deletes_nothing() {
    let nowhere = json!({ "deletionPolicy": "Delete", "selector": { "secret": {} } });
    let nowhere = respecified(&[("SecretStore/s", "r")], nowhere, one_store());
    assert_eq!(source(&nowhere.ps), Source::Nowhere);
    assert_eq!(source_gone(&nowhere, &Rules::default()), None);
    assert_eq!(no_source(&nowhere.ps).message, "could not get source secret: spec.selector names no Secret");
}

#[test]
fn a_store_in_deletion_is_emptied_whatever_else_is_wrong() {
    let deleted = || json!({ "deletionTimestamp": at(0).to_string() });
    let stores = || {
        let foreign = store("team-a", "f", json!({ "spec": { "controller": "other" } }));
        vec![store("team-a", "s", json!({ "metadata": deleted() })), store("team-a", "t", json!({})), foreign]
    };
    let pushed = [("SecretStore/s", "r"), ("SecretStore/t", "x")];
    let left = |more: Value| {
        let mut policy = json!({ "deletionPolicy": "Delete" });
        policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        respecified(&pushed, policy, stores())
    };
    for wrong in [json!({ "refreshInterval": "soon" }), json!({ "dataTo": [{}] })] {
        assert!(matches!(before_push(&left(wrong.clone()), &Rules::default()), Next::Leave(Some(_))), "{wrong}");
    }
    let unlisted = Facts { unlisted: Some(Failure::retry("x")), ..left(json!({})) };
    assert!(matches!(before_push(&unlisted, &Rules::default()), Next::Leave(Some(failure)) if failure.message == "x"));
    let moved = left(json!({ "secretStoreRefs": [{ "name": "f" }] }));
    assert!(matches!(before_push(&moved, &Rules::default()), Next::Leave(None)), "it is another controller's now");

    let (removals, elsewhere) = stores::left(&moved, &Rules::default(), synced(&[("SecretStore/u", "new")]));
    assert_eq!(gone(&removals), ["SecretStore team-a/s r"]);
    assert_eq!(elsewhere, synced(&[("SecretStore/t", "x"), ("SecretStore/u", "new")]));
    let kept = respecified(&pushed, json!({}), stores());
    let (removals, elsewhere) = stores::left(&kept, &Rules::default(), SyncedPushSecrets::new());
    assert_eq!((gone(&removals), elsewhere), (Vec::new(), synced(&pushed)), "policy None");

    let report = settle(&moved, Outcome::Left { synced: synced(&[("SecretStore/t", "x")]) });
    assert_eq!((report.wake, report.notes.len(), report.failure), (Wake::OnChange, 0, None));
    let after = after(&moved, report);
    assert_eq!(after.ps.status.as_ref().unwrap().synced_push_secrets, Some(synced(&[("SecretStore/t", "x")])));
    assert_eq!(next(&after), "ignore");
    let theirs = store("team-a", "s", json!({ "metadata": deleted(), "spec": { "controller": "other" } }));
    let theirs = respecified(&[("SecretStore/s", "r")], json!({ "deletionPolicy": "Delete" }), vec![theirs]);
    assert_eq!(next(&theirs), "ignore", "nor is one that another controller serves");
}

#[test]
fn what_cannot_be_listed_is_told() {
    let unlisted = Some(Failure::retry("could not get source secret: forbidden"));
    let unlisted = Facts { unlisted, ..facts(push_secret(&spec(json!({}))), one_store()) };
    let Next::Settle(report) = before_push(&unlisted, &Rules::default()) else { panic!("it is a failure") };
    let text = "could not get source secret: forbidden";
    assert_eq!(report.notes, [Note::warning("Errored", text)]);
    assert_eq!(report.memory.failures, 1, "and the pauses grow");
}

#[test]
fn a_failure_is_told_with_what_came_of_it() {
    let failure = || Failure::spec("a");
    assert_eq!(failure().and(None), failure());
    assert_eq!(failure().and(Some(Failure::retry("b"))), Failure::spec("a; b"));
}

#[test]
fn one_secret_is_one_source() {
    let (one, other) = (source_at("1"), SourceVersion { name: "shape".into(), ..source_at("1") });
    let twice = [one.clone(), other.clone(), one.clone()];
    assert_eq!(source_version(&twice), source_version(&[one, other]), "selected, and named by templateFrom");
}
