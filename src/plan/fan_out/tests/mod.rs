#![allow(clippy::unwrap_used)]

mod properties;
mod takeover;
mod waits;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::api::{ClusterExternalSecret, ClusterPushSecret, ExternalSecret, PushSecret};
use crate::index::Index;

/// A cluster as far as a fan-out sees it: what an API server, its garbage collector and the watches would do.
#[derive(Default)]
struct World {
    index: Index,
    namespaces: BTreeMap<String, ObjectMeta>,
    children: BTreeMap<Key, Value>,
    parent: Option<Value>,
    version: u64,
    writes: usize,
}

const CES: ParentKind = ParentKind::ClusterExternalSecret;
const CPS: ParentKind = ParentKind::ClusterPushSecret;

fn plan(facts: &Facts) -> Plan {
    super::plan(facts, &Rules::default())
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn of_json(kind: ParentKind, value: &Value) -> Parent {
    match kind {
        CES => serde_json::from_value::<ClusterExternalSecret>(value.clone()).unwrap().into(),
        CPS => serde_json::from_value::<ClusterPushSecret>(value.clone()).unwrap().into(),
    }
}

fn child_of_json(kind: ParentKind, value: &Value) -> Child {
    match kind {
        CES => serde_json::from_value::<ExternalSecret>(value.clone()).unwrap().into(),
        CPS => serde_json::from_value::<PushSecret>(value.clone()).unwrap().into(),
    }
}

/// What the API server makes of a merge patch.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            value => merge(&mut into[key], value),
        }
    }
}

impl World {
    fn tick(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn namespace(&mut self, name: &str, labels: BTreeMap<String, String>, finalizers: &[&str]) {
        let meta = ObjectMeta {
            name: Some(name.into()),
            labels: Some(labels),
            finalizers: Some(finalizers.iter().map(|f| (*f).to_owned()).collect()),
            resource_version: Some(self.tick()),
            ..ObjectMeta::default()
        };
        self.index.see_namespace(&meta);
        self.namespaces.insert(name.into(), meta);
    }

    fn terminate(&mut self, name: &str) {
        let meta = self.namespaces.get_mut(name).unwrap();
        meta.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(jiff::Timestamp::UNIX_EPOCH));
        self.index.see_namespace(meta);
    }

    fn parent(&mut self, kind: ParentKind, mut value: Value) {
        value["metadata"]["resourceVersion"] = json!(self.tick());
        if value["metadata"]["uid"].is_null() {
            value["metadata"]["uid"] = json!("u1");
        }
        self.index.upsert_parent(Arc::new(of_json(kind, &value)));
        self.parent = Some(value);
    }

    fn store_child(&mut self, kind: ParentKind, key: &Key, mut value: Value) {
        value["metadata"]["name"] = json!(&*key.name);
        value["metadata"]["namespace"] = json!(&*key.namespace);
        value["metadata"]["resourceVersion"] = json!(self.tick());
        if value["metadata"]["uid"].is_null() {
            value["metadata"]["uid"] = json!(format!("child-{}", self.version));
        }
        match child_of_json(kind, &value) {
            Child::ExternalSecret(es) => drop(self.index.upsert_external_secret(es)),
            Child::PushSecret(ps) => drop(self.index.upsert_push_secret(ps)),
        }
        self.children.insert(key.clone(), value);
    }

    fn drop_child(&mut self, kind: ParentKind, key: &Key) {
        self.children.remove(key);
        match kind {
            CES => drop(self.index.remove_external_secret(key)),
            CPS => drop(self.index.remove_push_secret(key)),
        }
    }

    /// One reconcile; gives the report.
    fn turn(&mut self, id: &ParentId) -> Option<Report> {
        let facts = self.index.fan_out_facts(id);
        let plan = plan(&facts);
        for release in &plan.release {
            self.writes += 1;
            let version = self.tick();
            let meta = self.namespaces.get_mut(&*release.namespace).unwrap();
            meta.finalizers = Some(release.finalizers.clone());
            meta.resource_version = Some(version);
            self.index.see_namespace(meta);
        }
        let parent = facts.parent.clone().filter(|_| !plan.silent)?;
        let mut outcomes = Vec::new();
        for (key, uid) in &plan.delete {
            self.writes += 1;
            assert_eq!(self.children[key]["metadata"]["uid"], json!(uid));
            self.drop_child(id.kind, key);
            outcomes.push((key.namespace.to_string(), Outcome::Done));
        }
        for write in &plan.write {
            self.writes += 1;
            let value = match &write.live {
                None => {
                    assert!(!self.children.contains_key(&write.key), "made where something is");
                    body(&parent, &write.key).unwrap()
                }
                Some(live) => {
                    let mut value = self.children[&write.key].clone();
                    merge(&mut value, &patch(&parent, live).unwrap());
                    value
                }
            };
            self.store_child(id.kind, &write.key, value);
            outcomes.push((write.key.namespace.to_string(), Outcome::Done));
        }
        let report = settle(&parent, plan, outcomes, None, Duration::ZERO);
        if let Some(status) = &report.status {
            self.writes += 1;
            let mut value = self.parent.clone().unwrap();
            let name = if id.kind == CES { "externalSecretName" } else { "pushSecretName" };
            value["status"] = json!({"provisionedNamespaces": status.seen.provisioned, "failedNamespaces": status.seen.failed,
                "conditions": status.seen.conditions, name: status.child_name});
            self.parent(id.kind, value);
        }
        Some(report)
    }

    fn status(&self, kind: ParentKind) -> ParentStatus {
        of_json(kind, self.parent.as_ref().unwrap()).status().unwrap()
    }

    fn child(&self, namespace: &str, name: &str) -> &Value {
        &self.children[&Key::new(namespace, name)]
    }
}

fn ces(spec: Value) -> Value {
    let mut value = json!({"metadata": {"name": "p"}, "spec": {
        "namespaceSelectors": [{"matchLabels": {"team": "a"}}],
        "externalSecretSpec": {"refreshInterval": "1h", "secretStoreRef": {"name": "s", "kind": "ClusterSecretStore"},
            "data": [{"secretKey": "k", "remoteRef": {"key": "k"}}]},
    }});
    merge(&mut value["spec"], &spec);
    value
}

fn cps() -> Value {
    json!({"metadata": {"name": "p"}, "spec": {
        "namespaceSelectors": [{"matchLabels": {"team": "a"}}],
        "pushSecretSpec": {"secretStoreRefs": [{"name": "s"}], "selector": {"secret": {"name": "src"}},
            "data": [{"match": {"secretKey": "k", "remoteRef": {"remoteKey": "r"}}, "metadata": {"any": [1, null]}}]},
    }})
}

/// Namespaces `a1`, `a2` of team a, `b1` of team b.
fn world(kind: ParentKind, parent: Value) -> (World, ParentId) {
    let mut world = World::default();
    for (name, team) in [("a1", "a"), ("a2", "a"), ("b1", "b")] {
        world.namespace(name, labels(&[("team", team)]), &[]);
    }
    world.parent(kind, parent);
    (world, ParentId::new(kind, "p"))
}

fn failed(status: &ParentStatus) -> Vec<(&str, &str)> {
    status.seen.failed.iter().map(|f| (f.namespace.as_str(), f.reason.as_deref().unwrap_or_default())).collect()
}

#[test]
fn children_are_made_with_all_that_the_parent_wants_and_then_nothing_is_written() {
    let parent = ces(json!({"namespaces": ["b1", "nowhere"], "externalSecretName": "child",
        "externalSecretMetadata": {"labels": {"l": "1"}, "annotations": {"a": "1", "external-secrets.io/force-sync": "own"}}}));
    let (mut world, id) = world(CES, parent);
    let report = world.turn(&id).unwrap();
    assert!(report.ready && matches!(report.wake, Wake::After(time, Priority::Periodic) if time <= DEFAULT_REFRESH));
    let status = world.status(CES);
    assert_eq!((status.child_name.as_deref(), status.seen.failed.len()), (Some("child"), 0));
    assert_eq!(status.seen.provisioned, ["a1", "a2", "b1"]);
    assert_eq!(
        json!(status.seen.conditions),
        json!([{"type": "Ready", "status": "True"}]),
        "ESO gives no reason, message or time"
    );
    let child = world.child("b1", "child");
    assert_eq!(child["metadata"]["labels"], json!({"l": "1"}));
    assert_eq!(child["metadata"]["annotations"], json!({"a": "1"}), "only the parent's own wish for a refresh is handed on");
    assert_eq!(
        child["metadata"]["ownerReferences"],
        json!([{"apiVersion": "external-secrets.io/v1", "kind": "ClusterExternalSecret", "name": "p", "uid": "u1",
            "controller": true, "blockOwnerDeletion": true}])
    );
    assert_eq!(child["spec"], world.parent.as_ref().unwrap()["spec"]["externalSecretSpec"]);
    let writes = world.writes;
    assert!(world.turn(&id).unwrap().status.is_none());
    assert_eq!(world.writes, writes, "nothing changed and something was written");
}

#[test]
fn every_edit_by_another_hand_is_undone() {
    let (mut world, id) = world(CES, ces(json!({})));
    world.turn(&id);
    let key = Key::new("a1", "p");
    let made = world.children[&key].clone();
    for edit in [
        json!({"metadata": {"labels": {"by": "hand"}}}),
        json!({"metadata": {"annotations": {"by": "hand"}}}),
        json!({"spec": {"refreshInterval": "5m"}}),
        json!({"spec": {"secretStoreRef": null}}),
        json!({"spec": {"target": {"name": "other", "creationPolicy": "Merge"}}}),
        json!({"spec": {"data": []}}),
    ] {
        let mut edited = world.children[&key].clone();
        merge(&mut edited, &edit);
        world.store_child(CES, &key, edited);
        world.turn(&id);
        for part in ["spec", "metadata"] {
            let tidy = |value: &Value| {
                let mut value = value[part].clone();
                for field in ["resourceVersion", "labels", "annotations"] {
                    if let Some(map) =
                        value.as_object_mut().filter(|m| m.get(field).is_none_or(|v| v == &json!({}) || v.is_string()))
                    {
                        map.remove(field);
                    }
                }
                value
            };
            assert_eq!(tidy(&world.children[&key]), tidy(&made), "{edit}");
        }
    }
}

#[test]
fn the_wish_for_a_refresh_comes_and_goes() {
    let (mut world, id) = world(CES, ces(json!({})));
    world.turn(&id);
    let mut parent = world.parent.clone().unwrap();
    parent["metadata"]["annotations"] = json!({"external-secrets.io/force-sync": "1", "other": "stays here"});
    world.parent(CES, parent.clone());
    world.turn(&id);
    assert_eq!(world.child("a1", "p")["metadata"]["annotations"], json!({"external-secrets.io/force-sync": "1"}));
    parent["metadata"]["annotations"] = json!({});
    world.parent(CES, parent);
    world.turn(&id);
    assert_eq!(world.child("a1", "p")["metadata"]["annotations"], json!({}));
}

#[test]
fn a_foreign_object_is_left_alone_and_told_of() {
    for (kind, parent, text) in [
        (CES, ces(json!({})), "external secret already exists in namespace"),
        (CPS, cps(), "push secret already exists in namespace"),
    ] {
        let (mut world, id) = world(kind, parent);
        let foreign = json!({"metadata": {"uid": "theirs"}, "spec": {}});
        world.store_child(kind, &Key::new("a1", "p"), foreign);
        let before = world.child("a1", "p").clone();
        assert!(!world.turn(&id).unwrap().ready);
        let status = world.status(kind);
        assert_eq!(failed(&status), [("a1", text)]);
        assert_eq!(status.seen.provisioned, ["a2"]);
        assert_eq!(
            json!(status.seen.conditions),
            json!([{"type": "Ready", "status": "False", "message": "one or more namespaces failed"}])
        );
        assert_eq!(world.child("a1", "p"), &before);
        world.drop_child(kind, &Key::new("a1", "p"));
        assert!(world.turn(&id).unwrap().ready);
        assert_eq!(world.status(kind).seen.provisioned, ["a1", "a2"]);
    }
}

/// CVE-2020-8568's lesson: whoever may write a status names namespaces in it, and nothing happens in those.
#[test]
fn the_status_gives_no_right() {
    for (kind, mut parent) in [(CES, ces(json!({}))), (CPS, cps())] {
        let name = if kind == CES { "externalSecretName" } else { "pushSecretName" };
        parent["status"] = json!({ "provisionedNamespaces": ["b1", "gone"], name: "other" });
        let (mut world, id) = world(kind, parent);
        let theirs = json!({"metadata": {"uid": "theirs"}, "spec": {}});
        for child in ["p", "other"] {
            world.store_child(kind, &Key::new("b1", child), theirs.clone());
        }
        let before = [world.child("b1", "p").clone(), world.child("b1", "other").clone()];
        assert!(world.turn(&id).unwrap().ready);
        assert_eq!([world.child("b1", "p").clone(), world.child("b1", "other").clone()], before);
        let made: Vec<&str> = world.children.keys().filter(|key| *key.name == *"p").map(|key| &*key.namespace).collect();
        assert_eq!(made, ["a1", "a2", "b1"]);
        assert_eq!(world.status(kind).seen.provisioned, ["a1", "a2"]);
    }
}

#[test]
fn an_object_of_another_parent_of_the_same_name_is_foreign() {
    for owner in [
        json!({"apiVersion": "external-secrets.io/v1", "kind": "ClusterExternalSecret", "name": "q", "uid": "u1", "controller": true}),
        json!({"apiVersion": "external-secrets.io/v1", "kind": "ClusterPushSecret", "name": "p", "uid": "u1", "controller": true}),
        json!({"apiVersion": "example.com/v1", "kind": "ClusterExternalSecret", "name": "p", "uid": "u1", "controller": true}),
        json!({"apiVersion": "external-secrets.io/v1", "kind": "ClusterExternalSecret", "name": "p", "uid": "u1", "controller": false}),
    ] {
        let (mut world, id) = world(CES, ces(json!({})));
        world.store_child(CES, &Key::new("a1", "p"), json!({"metadata": {"ownerReferences": [owner]}, "spec": {}}));
        world.turn(&id);
        assert_eq!(world.status(CES).seen.failed.len(), 1, "{owner}");
    }
}

#[test]
fn a_parent_made_again_takes_its_children_over() {
    let (mut world, id) = world(CES, ces(json!({})));
    world.turn(&id);
    let mut again = ces(json!({}));
    again["metadata"]["uid"] = json!("u2");
    world.parent(CES, again);
    let uid = world.child("a1", "p")["metadata"]["uid"].clone();
    assert!(world.turn(&id).unwrap().ready);
    let child = world.child("a1", "p");
    assert_eq!(child["metadata"]["uid"], uid, "it was deleted");
    assert_eq!(child["metadata"]["ownerReferences"][0]["uid"], "u2");
    assert_eq!(child["metadata"]["ownerReferences"].as_array().unwrap().len(), 1);
}

#[test]
fn a_new_name_and_a_namespace_that_leaves_delete_what_is_no_longer_wanted() {
    let (mut world, id) = world(CES, ces(json!({})));
    world.turn(&id);
    let mut parent = world.parent.clone().unwrap();
    parent["spec"]["externalSecretName"] = json!("second");
    world.parent(CES, parent);
    world.namespace("a2", labels(&[("team", "b")]), &[]);
    world.turn(&id);
    assert_eq!(world.children.keys().map(ToString::to_string).collect::<Vec<_>>(), ["a1/second"]);
    let status = world.status(CES);
    assert_eq!((status.child_name.as_deref(), status.seen.provisioned), (Some("second"), vec!["a1".to_owned()]));
}

#[test]
fn namespaces_in_deletion_are_passed_over() {
    let (mut world, id) = world(CES, ces(json!({})));
    world.turn(&id);
    world.terminate("a2");
    let before = world.writes;
    assert!(world.turn(&id).unwrap().ready);
    assert_eq!(world.writes, before + 1, "only the status is written");
    assert_eq!(world.status(CES).seen.provisioned, ["a1"]);
}

#[test]
fn finalizers_that_eso_left_go_at_once_and_no_others() {
    let (mut world, id) = world(CES, ces(json!({})));
    let ours = "externalsecrets.external-secrets.io/ces-p";
    let theirs = ["kubernetes.example/x", "externalsecrets.external-secrets.io/ces-p2"];
    // one that the parent means, one that it does not (ESO's leak), one in deletion
    for (name, team) in [("a1", "a"), ("b1", "b"), ("z", "z")] {
        world.namespace(name, labels(&[("team", team)]), &[theirs[0], ours, theirs[1]]);
    }
    world.terminate("z");
    world.turn(&id);
    for name in ["a1", "b1", "z"] {
        assert_eq!(world.namespaces[name].finalizers.as_deref().unwrap(), theirs, "{name}");
    }
    // and of one that is gone
    world.namespace("b1", labels(&[]), &["externalsecrets.external-secrets.io/ces-gone"]);
    assert!(world.turn(&ParentId::new(CES, "gone")).is_none());
    assert_eq!(world.namespaces["b1"].finalizers.as_deref().unwrap(), [] as [&str; 0]);
}

#[test]
fn children_are_told_by_kind_and_namespace() {
    let (mut world, id) = world(CES, ces(json!({})));
    world.turn(&id);
    let of = |kind, namespace: Option<&'static str>| -> BTreeSet<String> {
        world.index.children_of(kind, namespace).iter().map(Key::to_string).collect()
    };
    assert_eq!(of(CES, None), BTreeSet::from(["a1/p".to_owned(), "a2/p".to_owned()]));
    assert_eq!(of(CES, Some("a2")), BTreeSet::from(["a2/p".to_owned()]));
    assert!(of(CPS, None).is_empty());
}

#[test]
fn who_is_woken_by_a_namespace() {
    let (mut world, id) = world(CES, ces(json!({})));
    let mut see_as = |uid: &str, labels: &[(&str, &str)], finalizers: &[&str]| {
        let meta = ObjectMeta {
            name: Some("n".into()),
            uid: Some(uid.into()),
            labels: Some(self::labels(labels)),
            finalizers: Some(finalizers.iter().map(|f| (*f).to_owned()).collect()),
            ..ObjectMeta::default()
        };
        world.index.see_namespace(&meta)
    };
    let own = BTreeSet::from([id.clone()]);
    let mut see = |labels: &[(&str, &str)], finalizers: &[&str]| see_as("u", labels, finalizers);
    assert_eq!(see(&[("team", "z")], &[]), BTreeSet::new());
    assert_eq!(see(&[("team", "a")], &[]), own, "it matches now");
    assert_eq!(see(&[("team", "a")], &[]), BTreeSet::new(), "nothing changed");
    assert_eq!(see(&[("team", "z")], &[]), own, "it matched before");
    let gone = ParentId::new(CES, "gone");
    assert_eq!(see(&[], &["externalsecrets.external-secrets.io/ces-gone"]), BTreeSet::from([gone]));
    assert_eq!(see(&[("team", "a")], &[]), own);
    // it went and came back while the watch was broken
    assert_eq!(see_as("u2", &[("team", "a")], &[]), own, "made again, it is empty");
    assert_eq!(see_as("u2", &[("team", "a")], &[]), BTreeSet::new());
}

#[test]
fn a_parent_in_deletion_makes_nothing_and_is_let_go() {
    let mut parent = ces(json!({}));
    parent["metadata"]["finalizers"] = json!(["foregroundDeletion", FINALIZER_ESO_CLUSTER]);
    parent["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let (world, id) = world(CES, parent);
    let plan = plan(&world.index.fan_out_facts(&id));
    assert_eq!(plan.let_go.as_deref(), Some(["foregroundDeletion".to_owned()].as_slice()));
    assert!(plan.silent && plan.write.is_empty() && plan.delete.is_empty());
}

#[test]
fn a_selector_that_makes_no_sense_changes_nothing() {
    let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "team", "operator": operator, "values": values}]});
    let good = json!({"matchLabels": {"team": "b"}});
    for (kind, parent) in [(CES, ces(json!({}))), (CPS, cps())] {
        let (mut world, id) = world(kind, parent);
        world.store_child(kind, &Key::new("a2", "p"), json!({"metadata": {"uid": "theirs"}, "spec": {}}));
        world.turn(&id);
        let before = world.status(kind);
        assert_eq!((failed(&before).len(), before.seen.provisioned.as_slice()), (1, ["a1".to_owned()].as_slice()));
        let mut parent = world.parent.clone().unwrap();
        for selectors in [
            json!([expression("Like", json!(["a"]))]),
            json!([expression("In", json!([]))]),
            json!([expression("NotIn", json!([]))]),
            json!([expression("Exists", json!(["a"]))]),
            json!([{"matchLabels": {"team": "a b"}}]),
            json!([{"matchLabels": {"my team": "a"}}]),
            // what the others mean is not brought about either
            json!([good, {"matchLabels": {"team": "a b"}}]),
        ] {
            parent["spec"]["namespaceSelectors"] = selectors.clone();
            world.parent(kind, parent.clone());
            let children = world.children.clone();
            assert!(!world.turn(&id).unwrap().ready, "{selectors}");
            assert_eq!(world.children, children, "{selectors}");
            let status = world.status(kind);
            assert_eq!(status.seen.provisioned, ["a1"], "{selectors}");
            match kind {
                CES => assert_eq!((failed(&status)[0].0, failed(&status).len()), ("unknown", 1), "{selectors}"),
                CPS => assert_eq!(status.seen.failed, before.seen.failed, "{selectors}"),
            }
            let writes = world.writes;
            assert!(world.turn(&id).unwrap().status.is_none());
            assert_eq!(world.writes, writes, "{selectors}");
        }
    }
}

#[test]
fn a_selector_that_makes_no_sense_is_told_in_esos_words() {
    let selectors = json!([{"matchExpressions": [{"key": "team", "operator": "Like", "values": ["a"]}]}]);
    let why = "failed to convert label selector &LabelSelector{MatchLabels:map[string]string{},\
               MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:team,Operator:Like,Values:[a],},},}: \
               \"Like\" is not a valid label selector operator";
    let (mut world, id) = world(CES, ces(json!({"namespaceSelectors": selectors})));
    assert!(world.turn(&id).unwrap().notes.is_empty());
    let status = world.status(CES);
    assert_eq!(failed(&status), [("unknown", why)]);
    assert_eq!(
        json!(status.seen.conditions),
        json!([{"type": "Ready", "status": "False", "message": "one or more namespaces failed"}])
    );

    let mut parent = cps();
    parent["spec"]["namespaceSelectors"] = selectors;
    let (mut world, id) = self::world(CPS, parent);
    let message = format!("failed to get target Namespaces: {why}");
    assert_eq!(world.turn(&id).unwrap().notes, [Note::warning("Errored", message.clone())]);
    let status = world.status(CPS);
    assert_eq!(failed(&status), [] as [(&str, &str); 0]);
    assert_eq!(
        json!(status.seen.conditions),
        json!([{"type": "Ready", "status": "False", "reason": "Errored", "message": message}])
    );
}

#[test]
fn what_becomes_of_writes_that_fail() {
    let (world, id) = world(CES, ces(json!({})));
    let report = |outcome: Outcome, other: Outcome, pause: u64| {
        let facts = world.index.fan_out_facts(&id);
        let outcomes = vec![("a1".into(), outcome), ("a2".into(), other)];
        settle(&facts.parent.clone().unwrap(), plan(&facts), outcomes, None, Duration::from_secs(pause))
    };
    let unavailable = || Outcome::Unavailable("why".into());
    // one that somebody else was faster with does not bring on those that the API server has no time for
    for other in [Outcome::Again, Outcome::Refused("why".into())] {
        let wake = report(unavailable(), other, 32).wake;
        assert_eq!(wake, Wake::After(Duration::from_secs(32), Priority::Changed));
    }
    for (outcome, pause, reason, soon) in [
        (Outcome::Again, 0, None, Some(SOON)),
        (Outcome::Moot, 0, None, None),
        (unavailable(), 1, Some("why"), Some(Duration::from_secs(1))),
        (unavailable(), 32, Some("why"), Some(Duration::from_secs(32))),
        (Outcome::Refused("why".into()), 0, Some("why"), Some(LATER)),
    ] {
        let report = report(outcome.clone(), Outcome::Done, pause);
        let status = report.status.unwrap();
        assert_eq!(status.seen.provisioned, ["a2"], "{outcome:?}");
        assert_eq!(status.seen.failed.first().and_then(|f| f.reason.as_deref()), reason, "{outcome:?}");
        assert_eq!(report.ready, reason.is_none());
        let pause = match report.wake {
            Wake::After(pause, Priority::Changed) => Some(pause),
            _ => None,
        };
        assert_eq!(pause, soon, "{outcome:?}");
    }
}

#[test]
fn refresh_times() {
    let time = |text: Option<&str>| {
        let parent = of_json(CES, &ces(json!({"refreshTime": text})));
        interval(&parent).map(|interval| refresh(&parent, interval))
    };
    for (text, least, most) in [(None, 3240, 3600), (Some(""), 3240, 3600), (Some("1m"), 54, 60)] {
        let time = time(text).unwrap().unwrap().as_secs();
        assert!((least..=most).contains(&time), "{text:?}: {time}");
    }
    assert_eq!(time(Some("0")), Ok(None));
    assert_eq!(time(Some("-1h")), Ok(None));
}

#[test]
fn a_refresh_time_that_is_none_is_told_and_stops_nothing() {
    let message = "spec.refreshTime: \"soon\" is not a duration: write a number with a unit (ns, us, ms, s, m, h), \
                   for example \"1h30m\" or \"90s\"";
    let mut push = cps();
    push["spec"]["refreshTime"] = json!("soon");
    for (kind, parent) in [(CES, ces(json!({"refreshTime": "soon"}))), (CPS, push)] {
        let (mut world, id) = world(kind, parent);
        let report = world.turn(&id).unwrap();
        assert!(!report.ready);
        assert!(matches!(report.wake, Wake::After(time, Priority::Periodic) if time >= Duration::from_secs(3240)));
        let status = world.status(kind);
        assert_eq!(
            (failed(&status).len(), status.seen.provisioned.as_slice()),
            (0, ["a1", "a2"].map(String::from).as_slice())
        );
        assert_eq!(json!(status.seen.conditions), json!([{"type": "Ready", "status": "False", "message": message}]));
        assert!(world.turn(&id).unwrap().status.is_none());
    }
}
