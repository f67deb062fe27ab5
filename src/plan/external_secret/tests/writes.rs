//! What is written: policies, ownership, immutable Secrets, empty values, Secrets that ESO left.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::world::{UID, World, digester, gone, managed, policies, provider_failure, spec, values};
use crate::api::{ANNOTATION_ALLOW_EMPTY, ANNOTATION_DATA_HASH, LABEL_CREATED_BY, LABEL_MANAGED};
use crate::plan::Wake;
use crate::plan::external_secret::{Decision, Gathered, Written, after_fetch, settle, with_target};
use crate::plan::object_hash;
use crate::plan::target::FIELD_MANAGER;
use crate::providers::ErrorKind;

const HOUR: Duration = Duration::from_secs(3600);

fn put(secret: &mut Secret, pairs: &[(&str, &str)]) {
    let data = secret.data.get_or_insert_default();
    data.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec()))));
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn owner(kind: &str, api_version: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: api_version.into(),
        kind: kind.into(),
        name: "them".into(),
        uid: uid.into(),
        controller: Some(true),
        ..OwnerReference::default()
    }
}

/// ESO's texts.
#[test]
fn what_events_say() {
    let mut world = World::new(&policies("Owner", "Delete"));
    let mut said = |provider| {
        world.pass(HOUR + HOUR / 5);
        let step = world.look(provider);
        step.report.iter().flat_map(|r| &r.notes).map(|note| note.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(said(values(&[("k", "v")])), ["secret created"]);
    assert_eq!(said(values(&[("k", "w")])), ["secret updated"]);
    assert_eq!(said(gone()), ["secret deleted due to DeletionPolicy=Delete", "secret does not exist"]);
}

#[test]
fn what_a_new_secret_carries() {
    for (policy, owned) in [("Owner", true), ("Orphan", false), ("CreateOrMerge", false)] {
        let mut world = World::new(&policies(policy, "Retain"));
        world.es.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
        world.es.metadata.annotations = Some(
            [
                ("note".to_owned(), "b".to_owned()),
                ("keyferry.io/allow-empty".to_owned(), "true".to_owned()),
                ("kubectl.kubernetes.io/last-applied-configuration".to_owned(), "{}".to_owned()),
            ]
            .into(),
        );
        let step = world.look(values(&[("k", "v")]));
        assert_eq!((step.events(), step.told()), (vec!["Created".to_owned()], ("True", "SecretSynced", "secret synced")));
        let meta = &world.target().metadata;
        let labels = meta.labels.as_ref().unwrap();
        assert_eq!((labels["team"].as_str(), labels[LABEL_MANAGED].as_str()), ("a", "true"));
        assert_eq!(
            labels.get(LABEL_CREATED_BY),
            owned.then(|| object_hash::created_by_label("ns", "es")).as_ref(),
            "{policy}"
        );
        assert_eq!(meta.annotations.as_ref().unwrap().keys().collect::<Vec<_>>(), ["note"], "{policy}");
        let owners: Vec<_> =
            meta.owner_references.iter().flatten().map(|o| (o.uid.as_str(), o.controller, o.block_owner_deletion)).collect();
        assert_eq!(owners, if owned { vec![(UID, Some(true), Some(true))] } else { vec![] }, "{policy}");
        assert_eq!(world.es.status.as_ref().unwrap().binding.as_ref().unwrap().name, "t");
    }
}

/// What becomes of a Secret `{k: v, other: x}` when the provider gives `{new: v}` (`other` is somebody else's).
#[test]
fn creation_policies_on_a_secret_that_is_there() {
    for (policy, data) in [
        ("Owner", pairs(&[("new", "v")])),
        ("Orphan", pairs(&[("new", "v")])),
        ("Merge", pairs(&[("new", "v"), ("other", "x")])),
        ("CreateOrMerge", pairs(&[("new", "v"), ("other", "x")])),
        ("None", pairs(&[("other", "x")])),
    ] {
        let mut world = World::new(&policies(policy, "Retain"));
        world.meddle("t", |s| put(s, &[("other", "x")]));
        if policy != "None" {
            world.look(values(&[("k", "v")]));
            world.pass(HOUR);
            world.meddle("t", |s| put(s, &[("other", "x")]));
        }
        let step = world.look(values(&[("new", "v")]));
        assert_eq!(step.told(), ("True", "SecretSynced", "secret synced"), "{policy}");
        assert_eq!(world.data(), data, "{policy}");
    }
}

#[test]
fn no_values_at_all() {
    const RETAINED: (&str, &str, &str) = ("True", "SecretSynced", "secret retained due to DeletionPolicy=Retain");
    const DELETED: (&str, &str, &str) = ("True", "SecretDeleted", "secret deleted due to DeletionPolicy=Delete");
    const SYNCED: (&str, &str, &str) = ("True", "SecretSynced", "secret synced");
    let v = || Some(pairs(&[("k", "v")]));
    for (creation, deletion, told, did, left) in [
        ("Owner", "Retain", RETAINED, "fetch", v()),
        ("Orphan", "Retain", RETAINED, "fetch", v()),
        ("CreateOrMerge", "Retain", RETAINED, "fetch", v()),
        ("Owner", "Delete", DELETED, "fetch delete", None),
        ("Owner", "Merge", SYNCED, "fetch read update", Some(vec![])),
        ("Orphan", "Merge", SYNCED, "fetch read update", Some(vec![])),
        ("CreateOrMerge", "Merge", SYNCED, "fetch read update", Some(vec![])),
    ] {
        let mut world = World::synced(&policies(creation, deletion));
        world.pass(HOUR);
        let nothing = || if deletion == "Retain" { values(&[]) } else { gone() };
        let step = world.look(nothing());
        let what = format!("{creation} × {deletion}");
        assert_eq!((step.told(), step.did.join(" ").as_str()), (told, did), "{what}");
        let events = match step.did.last() {
            Some(&"delete") => vec!["Deleted", "MissingProviderSecret"],
            Some(&"update") => vec!["Updated", "MissingProviderSecret"],
            _ => vec![],
        };
        assert_eq!(step.events(), events, "{what}");
        assert_eq!(world.secrets.contains_key("t").then(|| world.data()), left, "{what}");
        assert!(world.look(nothing()).did.is_empty(), "{what}: settled");
        world.pass(HOUR);
        world.look(values(&[("k", "v")]));
        assert_eq!(Some(world.data()), v(), "{what}: the values are back");
    }
}

/// A search that comes back empty is no "it does not exist": the provider may be in trouble.
#[test]
fn nothing_found_changes_nothing_unless_it_is_meant() {
    type Change = fn(&mut World, &Value);
    let annotate = |world: &mut World, name: &str| {
        world.es.metadata.annotations.get_or_insert_default().insert(name.to_owned(), "true".to_owned());
    };
    for (creation, deletion) in [("Owner", "Delete"), ("Owner", "Merge"), ("Orphan", "Merge"), ("CreateOrMerge", "Merge")] {
        let what = format!("{creation} × {deletion}");
        let policies = policies(creation, deletion);
        let meant: [(&str, Change); 2] = [
            ("said so", |world, _| {
                world.es.metadata.annotations = Some([(ANNOTATION_ALLOW_EMPTY.to_owned(), "true".to_owned())].into());
            }),
            ("another spec", |world, policies| world.edit(policies)),
        ];
        for (how, change) in meant {
            let mut world = World::synced(&policies);
            world.pass(HOUR);
            let step = world.look(values(&[]));
            assert_eq!((step.told().0, step.events()), ("False", vec!["UpdateFailed!".to_owned()]), "{what}");
            assert!(step.told().2.contains(ANNOTATION_ALLOW_EMPTY), "{what}: {}", step.told().2);
            annotate(&mut world, "force-sync");
            let asked = world.look(values(&[])).did;
            assert_eq!(
                (asked.contains(&"fetch"), &*world.es.ready().unwrap().status),
                (true, "False"),
                "{what}: asked again"
            );
            assert_eq!(world.data(), pairs(&[("k", "v")]), "{what}");
            change(&mut world, &policies);
            assert_eq!(world.look(values(&[])).told().0, "True", "{what}, {how}");
            let left = world.secrets.contains_key("t").then(|| world.data());
            assert_eq!(left, (deletion == "Merge").then(Vec::new), "{what}, {how}");
        }
        let mut world = World::synced(&policies);
        world.pass(HOUR);
        world.look(values(&[]));
        world.pass(HOUR);
        assert_eq!(world.look(values(&[("k", "v")])).told().0, "True", "{what}: found again");
    }
    let mut world = World::new(&policies("Owner", "Merge"));
    for _ in 0..2 {
        assert_eq!(world.look(values(&[])).told().0, "True", "nothing from the start is fine");
        world.pass(HOUR);
    }
    world.meddle("t", |s| put(s, &[("theirs", "x")]));
    assert_eq!((world.look(values(&[])).told().0, world.data()), ("True", vec![]), "and what others put in goes");
}

/// One entry that does not exist says nothing of a search beside it.
#[test]
fn nothing_found_beside_what_is_missing_changes_nothing() {
    for deletion in ["Delete", "Merge"] {
        let mut world = World::synced(&policies("Owner", deletion));
        world.pass(HOUR);
        let step = world.look(Ok(Gathered { gone: false, ..gone().unwrap() }));
        assert_eq!(step.told().0, "False", "{deletion}");
        assert_eq!(world.data(), pairs(&[("k", "v")]), "{deletion}");
    }
}

#[test]
fn deletion_needs_ownership() {
    // the schema and the check of the spec refuse all but Orphan
    let mut world = World::synced(&policies("Orphan", "Delete"));
    world.pass(HOUR);
    let step = world.look(gone());
    assert_eq!(step.told().0, "False");
    assert!(step.told().2.starts_with("could not delete secret: "), "{}", step.told().2);
    assert!(world.secrets.contains_key("t"));

    let mut world = World::synced(&policies("Owner", "Delete"));
    world.pass(HOUR);
    world.meddle("t", |s| s.metadata.owner_references = Some(vec![owner("Deployment", "apps/v1", "other")]));
    assert!(world.look(gone()).told().2.starts_with("could not delete secret: "));
    assert!(world.secrets.contains_key("t"));

    let mut world = World::new(&policies("Owner", "Delete"));
    let step = world.look(gone());
    assert_eq!((step.told().1, step.events().len()), ("SecretDeleted", 1), "there was none: no event of a deletion");
}

/// Only "it does not exist" deletes; a failure never does.
#[test]
fn a_failure_deletes_and_changes_nothing() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Denied, ErrorKind::Throttled, ErrorKind::Malformed, ErrorKind::NotFound]
    {
        let mut world = World::synced(&policies("Owner", "Delete"));
        world.pass(HOUR);
        let before = world.target().clone();
        assert_eq!(world.look(provider_failure(kind)).did, ["fetch"], "{kind:?}");
        assert_eq!(*world.target(), before, "{kind:?}");
    }
}

#[test]
fn some_values_missing() {
    let mut world = World::synced(&policies("Owner", "Merge"));
    world.look(values(&[("k", "v")]));
    world.pass(HOUR);
    world.look(values(&[("k", "v"), ("k2", "v")]));
    world.pass(HOUR);
    let part = || Ok(Gathered { missing: vec!["secret does not exist".into()], ..values(&[("k", "v")]).unwrap() });
    assert_eq!(world.look(part()).events(), ["Updated", "MissingProviderSecret"]);
    assert_eq!(world.data(), pairs(&[("k", "v")]));
    world.pass(HOUR);
    assert!(world.look(part()).events().is_empty(), "it is told once");
    world.pass(HOUR);
    world.look(values(&[("k", "v")]));
    world.pass(HOUR);
    assert_eq!(world.look(part()).events(), ["MissingProviderSecret"], "it is news again");
}

#[test]
fn ownership() {
    const OWNED: &str = "target is owned by another ExternalSecret: ";
    const FAILED: &str = "failed to take ownership of target secret: ";
    let eso = || Some(owner("ExternalSecret", "external-secrets.io/v1beta1", "another"));
    let before =
        || Some(OwnerReference { name: "es".into(), ..owner("ExternalSecret", "external-secrets.io/v1", "before") });
    let deployment = || Some(owner("Deployment", "apps/v1", "another"));
    let ours = || Some(owner("ExternalSecret", "external-secrets.io/v1", UID));
    for (text, policy, controller, adopt, refused) in [
        ("nobody's", "Owner", None, true, None),
        ("nobody's", "Orphan", None, true, None),
        ("nobody's, not adopted", "Owner", None, false, Some(FAILED)),
        ("nobody's, not adopted", "Orphan", None, false, Some(FAILED)),
        ("nobody's, merged into", "Merge", None, false, None),
        ("ours", "Owner", ours(), false, None),
        ("its own, before it was deleted and made again", "Owner", before(), false, None),
        ("its own, before it was deleted and made again", "Merge", before(), false, None),
        ("another ExternalSecret's", "Owner", eso(), true, Some(OWNED)),
        ("another ExternalSecret's", "Orphan", eso(), true, Some(OWNED)),
        ("another ExternalSecret's", "Merge", eso(), true, Some(OWNED)),
        ("another kind's", "Owner", deployment(), true, Some(FAILED)),
        ("another kind's", "Orphan", deployment(), true, None),
        ("another kind's", "Merge", deployment(), true, None),
    ] {
        let mut world = World::new(&policies(policy, "Retain"));
        world.rules.adopt = adopt;
        world.meddle("t", |s| {
            put(s, &[("theirs", "x")]);
            s.metadata.owner_references = controller.map(|o| vec![o]);
        });
        let before = world.target().clone();
        let step = world.look(values(&[("k", "v")]));
        match refused {
            None => assert_eq!(step.did.last(), Some(&"update"), "{policy}: {text}"),
            Some(message) => {
                assert!(step.told().2.starts_with(message), "{policy}: {text}: {}", step.told().2);
                assert_eq!((*world.target()).clone(), before, "{policy}: {text}");
                assert_eq!(step.events(), ["UpdateFailed!"]);
            }
        }
    }
}

#[test]
fn an_ownership_failure_recovers_when_its_cause_goes() {
    let mut world = World::new(&policies("Owner", "Retain"));
    world.meddle("t", |s| s.metadata.owner_references = Some(vec![owner("ExternalSecret", "external-secrets.io/v1", "x")]));
    assert_eq!(world.look(values(&[("k", "v")])).told().0, "False");
    world.secrets.clear();
    assert_eq!(world.look(values(&[("k", "v")])).told(), ("True", "SecretSynced", "secret synced"));
}

#[test]
fn leaving_ownership_takes_the_owner_reference_and_label_away() {
    let mut world = World::synced(&policies("Owner", "Retain"));
    world.edit(&policies("Orphan", "Retain"));
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "update"]);
    let meta = &world.target().metadata;
    assert!(meta.owner_references.as_ref().is_none_or(Vec::is_empty));
    assert!(!meta.labels.as_ref().unwrap().contains_key(LABEL_CREATED_BY));
}

#[test]
fn an_immutable_targets_data_is_written_once() {
    let immutable = spec(&json!({ "target": { "name": "t", "immutable": true } }));
    let mut world = World::synced(&immutable);
    assert_eq!(world.target().immutable, Some(true));
    world.pass(HOUR);
    let step = world.look(values(&[("k", "rotated")]));
    assert_eq!((step.did.as_slice(), step.told().0), (["fetch", "read", "keep"].as_slice(), "True"));
    assert_eq!(world.data(), pairs(&[("k", "v")]));
    world.edit(&spec(&json!({ "target": { "name": "t" } })));
    let step = world.look(values(&[("k", "rotated")]));
    assert!(step.told().2.starts_with("could not update secret, target is immutable: "), "{}", step.told().2);
    assert_eq!(world.data(), pairs(&[("k", "v")]));
}

/// Its values were not rendered, as those that were there were to stay: they are no new Secret.
#[test]
fn an_immutable_target_that_went_is_planned_anew() {
    for (template, anew) in [(true, true), (false, false)] {
        let mut target = json!({ "name": "t", "immutable": true });
        if template {
            target["template"] = json!({ "data": { "x": "{{ .k }}" } });
        }
        let mut world = World::synced(&spec(&json!({ "target": target })));
        world.pass(HOUR);
        let (facts, gathered) = (world.facts(), values(&[("k", "rotated")]).unwrap());
        let Decision::ReadTarget(desired) = after_fetch(&facts, &world.rules, Ok(&gathered), &digester()) else {
            panic!("nothing to write")
        };
        match with_target(&facts, &world.rules, desired, None) {
            Decision::Settle(report) if anew => {
                assert_eq!(report.wake, Wake::After(Duration::from_millis(500), crate::queue::Priority::Changed));
                assert!(report.status.is_none() && report.notes.is_empty());
            }
            Decision::Create(_) if !anew => {}
            other => panic!("template {template}: {other:?}"),
        }
    }
}

#[test]
fn a_secret_that_somebody_froze_gets_its_metadata_and_a_failure() {
    for (text, new) in [("rotated", [("k", "rotated")].as_slice()), ("gone", &[("k2", "v")])] {
        let mut world = World::synced(&policies("Owner", "Retain"));
        world.meddle("t", |s| s.immutable = Some(true));
        world.es.metadata.labels = Some([("any".to_owned(), "label".to_owned())].into());
        let step = world.look(values(new));
        assert_eq!(step.did, ["fetch", "read", "update"], "{text}");
        assert!(step.told().2.starts_with("could not update secret, target is immutable: "), "{text}");
        assert_eq!(world.data(), pairs(&[("k", "v")]), "{text}");
        assert_eq!(world.target().metadata.labels.as_ref().unwrap()["any"], "label", "{text}");
        assert_eq!(world.look(values(new)).did, ["fetch", "read"], "{text}: nothing more can be done");
    }
}

/// Apply takes away what is ours and not named, and the API server would put `Opaque` in its place, which it refuses.
#[test]
fn the_type_of_a_secret_stays_whatever_else_is_written() {
    type Change = fn(&mut World);
    let tls = |more: &Value| {
        let mut target = json!({ "name": "t", "template": { "type": "kubernetes.io/tls" } });
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(&json!({ "target": target }))
    };
    let freeze: Change = |w| w.meddle("t", |s| s.immutable = Some(true));
    let label: Change = |w| w.es.metadata.labels = Some([("any".to_owned(), "label".to_owned())].into());
    let unmanaged: Change = |w| w.meddle("t", |s| drop(s.metadata.labels.as_mut().unwrap().remove(LABEL_MANAGED)));
    let nothing: Change = |_| {};
    for (text, changes, after) in [
        ("made immutable", [nothing, nothing], tls(&json!({ "immutable": true }))),
        ("immutable, and its label was taken", [freeze, unmanaged], tls(&json!({ "immutable": true }))),
        ("frozen, and its label was taken", [freeze, unmanaged], tls(&json!({}))),
        ("the template names it no more", [label, nothing], spec(&json!({ "target": { "name": "t" } }))),
    ] {
        let mut world = World::synced(&tls(&json!({})));
        assert_eq!(world.target().type_.as_deref(), Some("kubernetes.io/tls"), "{text}");
        changes.into_iter().for_each(|change| change(&mut world));
        world.edit(&after);
        let step = world.look(values(&[("k", "v")]));
        assert_eq!((step.did.last(), step.told().0), (Some(&"update"), "True"), "{text}");
        assert_eq!(world.target().type_.as_deref(), Some("kubernetes.io/tls"), "{text}");
        assert!(world.look(values(&[("k", "v")])).did.is_empty(), "{text}");
    }
}

#[test]
fn a_sudden_empty_value_changes_nothing_unless_it_is_meant() {
    let mut world = World::synced(&spec(&json!({})));
    world.pass(HOUR);
    let step = world.look(values(&[("k", "")]));
    assert_eq!(step.told().0, "False");
    assert!(step.told().2.contains("\"k\"") && step.told().2.contains(ANNOTATION_ALLOW_EMPTY), "{}", step.told().2);
    assert_eq!(world.data(), pairs(&[("k", "v")]));
    world.es.metadata.annotations = Some([(ANNOTATION_ALLOW_EMPTY.to_owned(), "true".to_owned())].into());
    assert_eq!(world.look(values(&[("k", "")])).told().0, "True");
    assert_eq!(world.data(), pairs(&[("k", "")]));

    let mut world = World::new(&spec(&json!({})));
    world.look(values(&[("k", "")]));
    assert_eq!(world.data(), pairs(&[("k", "")]), "empty from the start is fine");
}

#[test]
fn a_sudden_empty_value_changes_nothing_where_the_managed_label_is_missing() {
    for creation in ["Owner", "Orphan", "CreateOrMerge"] {
        let mut world = World::synced(&policies(creation, "Retain"));
        world.meddle("t", |s| drop(s.metadata.labels.as_mut().unwrap().remove(LABEL_MANAGED)));
        world.pass(HOUR);
        assert_eq!(world.look(values(&[("k", "")])).told().0, "False", "{creation}");
        assert_eq!(world.data(), pairs(&[("k", "v")]), "{creation}");
        assert_eq!(world.look(values(&[("k", "w")])).told().0, "True", "{creation}");
    }
}

#[test]
fn a_secret_that_eso_left_becomes_ours_whole() {
    let mut world = World::new(&policies("Owner", "Retain"));
    let theirs = json!({
        "f:data": { ".": {}, "f:k": {}, "f:dropped": {} },
        "f:metadata": {
            "f:labels": { "f:stale": {}, format!("f:{LABEL_MANAGED}"): {} },
            "f:annotations": { format!("f:{ANNOTATION_DATA_HASH}"): {} },
            "f:ownerReferences": { format!("k:{{\"uid\":\"{UID}\"}}"): {} },
        },
    });
    world.meddle("t", |s| {
        put(s, &[("k", "v"), ("dropped", "x"), ("kubectl", "y")]);
        s.metadata.labels =
            Some([(LABEL_MANAGED.to_owned(), "true".to_owned()), ("stale".to_owned(), "s".to_owned())].into());
        s.metadata.annotations = Some([(ANNOTATION_DATA_HASH.to_owned(), "hash".to_owned())].into());
        s.metadata.owner_references = Some(vec![owner("ExternalSecret", "external-secrets.io/v1", UID)]);
        s.metadata.managed_fields = Some(vec![
            managed("externalsecrets.external-secrets.io/es", "Update", &theirs),
            managed("kubectl", "Update", &json!({ "f:data": { "f:kubectl": {} } })),
        ]);
    });
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "update"]);
    assert_eq!(world.data(), pairs(&[("k", "v")]), "the key of another manager goes too, as the policy replaces");
    let meta = &world.target().metadata;
    assert!(!meta.labels.as_ref().unwrap().contains_key("stale"));
    assert!(meta.annotations.as_ref().unwrap().is_empty(), "ESO's unkeyed hash is gone");
    let managers: Vec<_> = meta.managed_fields.iter().flatten().map(|e| e.manager.clone().unwrap()).collect();
    assert_eq!(managers, ["kubectl", FIELD_MANAGER]);
    assert!(world.look(values(&[])).did.is_empty());
}

#[test]
fn a_secret_of_esos_that_is_right_is_not_written() {
    let mut world = World::synced(&policies("Owner", "Retain"));
    world.meddle("t", |s| {
        for entry in s.metadata.managed_fields.iter_mut().flatten() {
            entry.manager = Some("externalsecrets.external-secrets.io/es".into());
            entry.operation = Some("Update".into());
        }
        s.metadata.annotations.get_or_insert_default().insert(ANNOTATION_DATA_HASH.into(), "hash".into());
    });
    world.es.status.as_mut().unwrap().target = None;
    world.memory = Default::default();
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "read", "keep"]);
    assert!(world.look(values(&[])).did.is_empty());
}

#[test]
fn a_renamed_target_leaves_nothing_behind() {
    for (creation, left, events) in [("Owner", 1, vec!["Deleted", "Created"]), ("Orphan", 2, vec!["Created"])] {
        let mut world = World::synced(&policies(creation, "Retain"));
        let mut renamed = policies(creation, "Retain");
        renamed["target"]["name"] = "new".into();
        world.edit(&renamed);
        let step = world.look(values(&[("k", "v")]));
        assert_eq!(
            (step.events(), world.secrets.len()),
            (events.iter().map(|e| (*e).to_owned()).collect(), left),
            "{creation}"
        );
        assert_eq!(world.es.status.as_ref().unwrap().binding.as_ref().unwrap().name, "new");
    }
}

#[test]
fn an_old_secret_that_cannot_be_deleted_is_told_and_tried_again() {
    let mut world = World::synced(&policies("Owner", "Retain"));
    let mut renamed = policies("Owner", "Retain");
    renamed["target"]["name"] = "new".into();
    world.edit(&renamed);
    world.keeps_orphans = true;
    let step = world.look(values(&[("k", "v")]));
    assert_eq!(step.did, ["fetch", "create", "orphan"], "the new one is there before the old one goes");
    assert_eq!(step.events(), ["Created", "UpdateFailed!"]);
    let (status, reason, message) = step.told();
    assert_eq!((status, reason), ("False", "SecretSyncedError"));
    assert!(message.starts_with("could not delete orphaned secrets: "), "{message}");
    assert!(matches!(step.wake, Wake::After(pause, _) if pause < Duration::from_secs(60)), "{:?}", step.wake);
    assert_eq!(world.data(), pairs(&[("k", "v")]));
    world.keeps_orphans = false;
    world.pass(Duration::from_secs(2));
    let step = world.look(values(&[("k", "v")]));
    assert_eq!((step.did.last(), world.secrets.len(), step.told().0), (Some(&"orphan"), 1, "True"));
}

/// As after an API server's restart in which the ExternalSecret was made anew: the garbage collector may never hear of that.
#[test]
fn secrets_of_a_former_object_of_the_name_go_too() {
    let mut world = World::synced(&policies("Owner", "Retain"));
    let mut renamed = policies("Owner", "Retain");
    renamed["target"]["name"] = "new".into();
    world.edit(&renamed);
    world.es.metadata.uid = Some("made-anew".into());
    world.es.status = None;
    world.meddle("copy", |s| s.metadata.labels = Some([(LABEL_MANAGED.to_owned(), "true".to_owned())].into()));
    assert_eq!(world.look(values(&[("k", "v")])).events(), ["Deleted", "Created"]);
    assert_eq!(world.secrets.keys().collect::<Vec<_>>(), ["copy", "new"]);
}

#[test]
fn a_secret_that_the_watch_has_not_told_of_is_not_created_twice() {
    let world = World::synced(&policies("Owner", "Retain"));
    let (facts, version) = (world.facts(), world.target().metadata.resource_version.clone().unwrap());
    assert_eq!(facts.memory.written_to("t"), Some(&version));
    let told = |resource_version: String| {
        let written = Written::Applied { created: true, changed: true, resource_version, data: String::new() };
        settle(&facts, &Gathered::default(), "", Ok(&written)).notes.len()
    };
    assert_eq!((told(version), told("another".into())), (0, 1));
}

#[test]
fn an_old_secret_stays_while_the_new_one_fails() {
    let mut world = World::synced(&policies("Owner", "Retain"));
    let mut renamed = policies("Owner", "Retain");
    renamed["target"]["name"] = "theirs".into();
    world.meddle("theirs", |s| s.metadata.owner_references = Some(vec![owner("Deployment", "apps/v1", "x")]));
    world.edit(&renamed);
    assert_eq!(world.look(values(&[("k", "v")])).events(), ["UpdateFailed!"]);
    assert!(world.secrets.contains_key("t"));
}

/// The resourceVersion of the last write says nothing about a Secret of another name, though it is the greater one.
#[test]
fn a_target_renamed_to_an_older_secret_is_written() {
    for refresh in ["1h", "0"] {
        let named = |name: &str| {
            let target = json!({ "name": name, "creationPolicy": "CreateOrMerge" });
            spec(&json!({ "refreshInterval": refresh, "target": target }))
        };
        let mut world = World::new(&named("new"));
        world.meddle("older", |s| s.metadata.labels = Some([(LABEL_MANAGED.to_owned(), "true".to_owned())].into()));
        world.look(values(&[("k", "v")]));
        world.edit(&named("older"));
        let step = world.look(values(&[("k", "v")]));
        assert_eq!(step.did.last(), Some(&"update"), "refreshInterval {refresh}: {:?}", step.did);
        assert_eq!(world.data(), pairs(&[("k", "v")]), "refreshInterval {refresh}");
    }
}

#[test]
fn a_failed_read_keeps_the_old_secret_of_a_renamed_target() {
    let mut world = World::synced(&policies("Owner", "Retain"));
    let mut renamed = policies("Owner", "Retain");
    renamed["target"]["name"] = "new".into();
    world.edit(&renamed);
    assert_eq!(world.look(provider_failure(ErrorKind::Unavailable)).did, ["fetch"]);
    assert!(world.secrets.contains_key("t"));
}
