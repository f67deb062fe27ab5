//! Targets of other kinds: what is written, what is left alone, and to whom it belongs.
#![allow(clippy::unwrap_used, clippy::panic)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;

use super::*;
use crate::plan::external_secret::Memory;
use crate::plan::target::FIELD_MANAGER;
use crate::render::rewrite::testing::outside;

fn facts(target: &Value) -> Facts {
    let es: ExternalSecret = serde_json::from_value(json!({
        "metadata": { "name": "es", "namespace": "ns", "uid": "own", "labels": { "team": "a" } }, "spec": { "target": target },
    }))
    .unwrap();
    Facts {
        es: std::sync::Arc::new(es),
        stores: Default::default(),
        generators: Default::default(),
        namespace_labels: None,
        target: None,
        owned: Vec::new(),
        replace_at: None,
        sources: Default::default(),
        memory: Memory::default(),
        now: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[test]
fn a_key_that_a_template_made_of_a_value_is_not_told() {
    let target = |literal: &str| {
        let template = json!({ "templateFrom": [{ "target": "spec", "literal": literal }] });
        facts(&json!({ "manifest": { "apiVersion": "corpus.test/v1", "kind": "Route" }, "template": template }))
    };
    let made = |literal: &str| desired_of(&target(literal), &[("user", "ann@example.org")], false).unwrap();
    let desired = made("hosts:\n  {{ .user }}: bad");
    assert_eq!(desired.body.expose()["spec"], json!({ "hosts": { "ann@example.org": "bad" } }));
    let told: Vec<_> =
        ["spec", "hosts", "user", "ann@example", "org"].into_iter().filter(|name| desired.names.shows(name)).collect();
    assert_eq!(told, ["spec", "hosts", "user"]);
    assert!(made("hosts: {a: bad}").names.shows("anything"), "it makes no key of a value");
}

fn config_map(more: &Value) -> Value {
    let mut target = json!({ "manifest": { "apiVersion": "v1", "kind": "ConfigMap" } });
    target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    target
}

fn desired(facts: &Facts) -> Result<Desired, Failure> {
    desired_of(facts, &[("a", "1"), ("b", "2")], false)
}

fn desired_of(facts: &Facts, data: &[(&str, &str)], gone: bool) -> Result<Desired, Failure> {
    let data = data.iter().map(|&(key, value)| (key.to_owned(), value.into())).collect();
    let gathered = Gathered { data, gone, ..Gathered::default() };
    render(facts, &Rules::default(), &gathered, &Sources::new(), outside(), &Digester::new(b"test key"))
}

/// The object as the API server keeps it after our apply.
fn applied(desired: &Desired) -> (ObjectMeta, Value) {
    let mut live = desired.body.expose().clone();
    live["metadata"]["uid"] = json!("made");
    live["metadata"]["resourceVersion"] = json!("7");
    let mut meta: ObjectMeta = serde_json::from_value(live["metadata"].clone()).unwrap();
    let entry = ManagedFieldsEntry {
        manager: Some(FIELD_MANAGER.into()),
        operation: Some("Apply".into()),
        fields_v1: Some(FieldsV1(
            json!({ "f:data": { "f:a": {}, "f:b": {} }, "f:metadata": { "f:labels": { "f:team": {} } } }),
        )),
        ..ManagedFieldsEntry::default()
    };
    meta.managed_fields = Some(vec![entry]);
    (meta, live)
}

fn decide(facts: &Facts, desired: &Desired, live: &(ObjectMeta, Value)) -> Result<Change, Failure> {
    change(&facts.es, &Rules::default(), desired, Some((&live.0, &live.1)))
}

/// The facts after a sync under this very spec.
fn synced(target: &Value) -> Facts {
    let mut facts = facts(target);
    let es = std::sync::Arc::make_mut(&mut facts.es);
    es.metadata.generation = Some(3);
    es.status = serde_json::from_value(json!({
        "syncedResourceVersion": "3-x", "target": { "digest": "recorded" },
        "conditions": [{ "type": "Ready", "status": "True" }],
    }))
    .unwrap();
    facts
}

#[test]
fn what_is_applied_is_what_we_own() {
    let body = desired(&facts(&config_map(&json!({ "name": "cm" })))).unwrap().body.expose().clone();
    assert_eq!((&body["apiVersion"], &body["kind"]), (&json!("v1"), &json!("ConfigMap")));
    assert_eq!(body["data"], json!({ "a": "1", "b": "2" }));
    assert_eq!((&body["metadata"]["name"], &body["metadata"]["namespace"]), (&json!("cm"), &json!("ns")));
    assert_eq!(body["metadata"]["labels"]["team"], "a");
    assert_eq!(body["metadata"]["labels"]["reconcile.external-secrets.io/managed"], "true");
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "own");
    let orphan = desired(&facts(&config_map(&json!({ "creationPolicy": "Orphan" })))).unwrap();
    assert_eq!(orphan.body.expose()["metadata"].get("ownerReferences"), None);
}

#[test]
fn an_object_is_written_only_where_it_differs() {
    let facts = facts(&config_map(&json!({})));
    let desired = desired(&facts).unwrap();
    assert_eq!(change(&facts.es, &Rules::default(), &desired, None), Ok(Change::Create));
    let good = applied(&desired);
    assert_eq!(decide(&facts, &desired, &good), Ok(Change::None));
    let update = Ok(Change::Update(Update { resource_version: "7".into(), managed_fields: None }));
    let with = |change: &dyn Fn(&mut Value)| {
        let mut live = good.clone();
        change(&mut live.1);
        decide(&facts, &desired, &live)
    };
    assert_eq!(with(&|live| live["data"]["others"] = json!("x")), Ok(Change::None), "what others add is theirs");
    assert_eq!(with(&|live| live["data"]["a"] = json!("x")), update);
    assert_eq!(with(&|live| live["metadata"]["labels"]["team"] = json!("x")), update);
    assert_eq!(with(&|live| live["metadata"]["ownerReferences"] = json!([])), update);
    // a key that we own and no longer want
    let mut less = good.clone();
    less.0.managed_fields.as_mut().unwrap()[0].fields_v1 = Some(FieldsV1(json!({ "f:data": { "f:old": {} } })));
    assert_eq!(decide(&facts, &desired, &less), update);
}

/// ESO names no field manager for these objects, so it is the name of its program.
#[test]
fn what_eso_wrote_is_taken_over_and_its_entries_retired() {
    let facts = facts(&config_map(&json!({})));
    let desired = desired(&facts).unwrap();
    let entry = |manager: &str, operation: &str, fields: Value| ManagedFieldsEntry {
        manager: Some(manager.into()),
        operation: Some(operation.into()),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    };
    let metadata = json!({
        "f:annotations": { ".": {}, "f:reconcile.external-secrets.io/data-hash": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {} },
        "f:labels": { ".": {}, "f:team": {}, "f:reconcile.external-secrets.io/managed": {} },
        "f:ownerReferences": { ".": {}, "k:{\"uid\":\"own\"}": {} },
    });
    let esos = |data: Value| entry(ESO_PROGRAM, "Update", json!({ "f:data": data, "f:metadata": metadata }));
    let others = entry("kubectl-edit", "Update", json!({ "f:data": { "f:theirs": {} } }));
    let decide = |data: Value| {
        let (mut meta, live) = applied(&desired);
        meta.managed_fields = Some(vec![others.clone(), esos(data)]);
        decide(&facts, &desired, &(meta, live))
    };
    assert_eq!(decide(json!({ ".": {}, "f:a": {}, "f:b": {} })), Ok(Change::None), "nothing differs");
    let Ok(Change::Update(update)) = decide(json!({ ".": {}, "f:a": {}, "f:b": {}, "f:old": {} })) else {
        panic!("a key that ESO wrote stays")
    };
    let entries = update.managed_fields.unwrap();
    let managers: Vec<_> = entries.iter().map(|e| (e.manager.clone().unwrap(), e.operation.clone().unwrap())).collect();
    let named = |manager: &str, operation: &str| (manager.to_owned(), operation.to_owned());
    assert_eq!(managers, [named("kubectl-edit", "Update"), named(FIELD_MANAGER, "Apply")]);
    assert!(entries[1].fields_v1.as_ref().unwrap().0["f:data"].get("f:old").is_some(), "apply takes it away");
    // what a controller of that name writes to the status is no business of ours
    let mut status = esos(json!({ "f:old": {} }));
    status.subresource = Some("status".into());
    assert!(!Ours::of(&facts.es, &ObjectMeta::default()).has(&status));
}

/// Apply takes from a manager what it names no more: as one manager, two that merge took each other's fields in a loop.
#[test]
fn those_that_merge_are_managers_of_their_own() {
    let facts = facts(&config_map(&json!({ "creationPolicy": "Merge" })));
    let desired = desired(&facts).unwrap();
    assert_eq!(desired.manager, "keyferry/es");
    let applied_by = |manager: &str, data: Value| {
        let (mut meta, live) = applied(&desired);
        let entry = &mut meta.managed_fields.as_mut().unwrap()[0];
        entry.manager = Some(manager.into());
        entry.fields_v1 = Some(FieldsV1(json!({ "f:data": data })));
        (meta, live)
    };
    for theirs in ["keyferry/other", FIELD_MANAGER, ESO_PROGRAM] {
        let live = applied_by(theirs, json!({ "f:theirs": {} }));
        assert_eq!(decide(&facts, &desired, &live), Ok(Change::None), "{theirs}");
    }
    let own = applied_by("keyferry/es", json!({ "f:a": {}, "f:old": {} }));
    let update = Update { resource_version: "7".into(), managed_fields: None };
    assert_eq!(decide(&facts, &desired, &own), Ok(Change::Update(update)));
}

/// ESO replaces whatever is there.
#[test]
fn what_others_own_is_not_taken() {
    let owned_by = |kind: &str, uid: &str| json!([{ "apiVersion": "external-secrets.io/v1", "kind": kind, "name": "other", "uid": uid, "controller": true }]);
    for (policy, kind, wrong) in [
        ("Owner", "ExternalSecret", Some("target is owned by another ExternalSecret")),
        ("Orphan", "ExternalSecret", Some("target is owned by another ExternalSecret")),
        ("Merge", "ExternalSecret", Some("target is owned by another ExternalSecret")),
        ("Owner", "Deployment", Some("failed to take ownership of target secret")),
        ("Orphan", "Deployment", Some("failed to take ownership of target secret")),
        ("CreateOrMerge", "Deployment", None),
    ] {
        let facts = facts(&config_map(&json!({ "creationPolicy": policy })));
        let desired = desired(&facts).unwrap();
        let mut live = applied(&desired);
        live.0.owner_references = serde_json::from_value(owned_by(kind, "another")).unwrap();
        let found = decide(&facts, &desired, &live).map_err(|f| f.message);
        assert_eq!(found.err(), wrong, "{policy} {kind}");
    }
    let facts = facts(&config_map(&json!({})));
    let desired = desired(&facts).unwrap();
    let mut foreign = applied(&desired);
    (foreign.0.labels, foreign.0.owner_references) = (None, None);
    foreign.1["metadata"] = json!({ "name": "es", "namespace": "ns" });
    assert!(matches!(decide(&facts, &desired, &foreign), Ok(Change::Update(_))), "adopted, as a Secret would be");
    let rules = Rules { adopt: false, ..Rules::default() };
    assert!(change(&facts.es, &rules, &desired, Some((&foreign.0, &foreign.1))).is_err());
}

/// An outage may look like that.
#[test]
fn what_suddenly_holds_nothing_empties_no_object() {
    let template = json!({ "template": { "data": { "a": "{{ range $k, $v := . }}{{ $v }}{{ end }}" } } });
    let (plain, templated) = (synced(&config_map(&json!({}))), synced(&config_map(&template)));
    let live = applied(&desired(&plain).unwrap());
    let refused = |facts: &Facts, data: &[(&str, &str)], gone: bool| match decide(
        facts,
        &desired_of(facts, data, gone).unwrap(),
        &live,
    ) {
        Ok(change) => (!matches!(change, Change::Update(_))).then(|| "it is not written".to_owned()),
        Err(failure) => Some(failure.message.to_owned()),
    };
    let no = Some("could not update secret".to_owned());
    assert_eq!(refused(&plain, &[], false), no);
    assert_eq!(refused(&templated, &[], false), no);
    assert_eq!(refused(&plain, &[("a", ""), ("b", "2")], false), no, "one value");
    assert_eq!(refused(&plain, &[], true), None, "it is said not to exist");
    assert_eq!(refused(&plain, &[("b", "2")], false), None, "a search finds less");
    assert_eq!(refused(&templated, &[("x", "")], false), None, "what a template makes of a value is its own");
    let meant = |change: &dyn Fn(&mut ObjectMeta)| {
        let mut facts = plain.clone();
        change(&mut std::sync::Arc::make_mut(&mut facts.es).metadata);
        refused(&facts, &[], false)
    };
    assert_eq!(meant(&|meta| meta.generation = Some(4)), None, "another spec");
    let allowed = [(crate::api::ANNOTATION_ALLOW_EMPTY.to_owned(), "true".to_owned())];
    assert_eq!(meant(&|meta| meta.annotations = Some(allowed.clone().into())), None);
}

/// Else two that want one field otherwise wrote it in turn, without a pause.
#[test]
fn what_another_merges_is_no_drift_until_the_next_refresh() {
    let facts = synced(&config_map(&json!({ "creationPolicy": "Merge" })));
    let (meta, live) = applied(&desired(&facts).unwrap());
    let settled = |writes: &[(&str, &str, u8)]| {
        let entry = |&(manager, subresource, second): &(&str, &str, u8)| {
            let time = format!("2026-01-01T00:00:0{second}Z");
            json!({ "manager": manager, "operation": "Apply", "subresource": subresource, "time": time })
        };
        let entries: Vec<Value> = writes.iter().map(entry).collect();
        let meta = ObjectMeta { managed_fields: serde_json::from_value(json!(entries)).unwrap(), ..meta.clone() };
        seen(&facts.es, &meta, &live, &Digester::new(b"test key")).digest == "recorded"
    };
    let other = ("keyferry/other", "", 2);
    assert!(settled(&[("keyferry/es", "", 1), other]));
    assert!(settled(&[("keyferry/es", "", 2), other]), "in the same second");
    assert!(settled(&[other, ("controller", "status", 3)]));
    assert!(!settled(&[("keyferry/es", "", 3), other]));
    assert!(!settled(&[other, ("kubectl-edit", "", 2)]), "somebody else as well");
    assert!(!settled(&[other, ("kubectl-edit", "", 3)]));
}

#[test]
fn a_merge_makes_nothing() {
    let facts = facts(&config_map(&json!({ "creationPolicy": "Merge" })));
    assert!(change(&facts.es, &Rules::default(), &desired(&facts).unwrap(), None).is_err());
}

/// CVE-2026-42876, by way of a manifest.
#[test]
fn a_secret_as_a_manifest_mints_no_credential() {
    let kind = json!({ "apiVersion": "v1", "kind": "Secret" });
    let with = |template: Value| desired(&facts(&json!({ "manifest": kind, "template": template })));
    let annotation = json!({ "kubernetes.io/service-account.name": "default" });
    let from = json!([{ "target": "type", "literal": "kubernetes.io/service-account-token" }]);
    let error = with(json!({ "metadata": { "annotations": annotation }, "templateFrom": from })).unwrap_err();
    assert_eq!(error.message, "could not apply template to manifest");
    assert!(error.cause.contains("is not allowed"), "{}", error.cause);
    let bootstrap = json!([{ "target": "type", "literal": "bootstrap.kubernetes.io/token" }]);
    assert!(with(json!({ "templateFrom": bootstrap })).is_err());
    assert!(with(json!({ "data": { "k": "dg==" } })).is_ok());
}

#[test]
fn the_digest_knows_what_an_object_holds_whatever_the_order() {
    let digester = Digester::new(b"test key");
    let of = |live: Value| digest(&live, &digester);
    let plain = of(json!({ "metadata": { "uid": "1" }, "spec": { "a": 1, "b": ["x"] }, "status": { "x": 1 } }));
    assert_eq!(plain, of(json!({ "spec": { "b": ["x"], "a": 1 }, "status": {}, "metadata": {} })));
    assert_ne!(plain, of(json!({ "spec": { "a": "1", "b": ["x"] } })));
    assert_ne!(plain, of(json!({ "spec": { "a": 1, "b": ["x", null] } })));
}
