//! What no status, label or annotation gives a right to, whoever wrote it. docs/advisories.md says where it went wrong elsewhere.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::json;

use super::world::{World, policies, spec, values};
use crate::api::{FINALIZER_ESO, LABEL_CREATED_BY, LABEL_MANAGED, LABEL_MANAGED_VALUE};
use crate::plan::object_hash;

/// A Secret of somebody else, which carries all that ours carry but the owner reference.
fn disguised(secret: &mut Secret) {
    let labels = secret.metadata.labels.get_or_insert_default();
    labels.insert(LABEL_MANAGED.into(), LABEL_MANAGED_VALUE.into());
    labels.insert(LABEL_CREATED_BY.into(), object_hash::created_by_label("ns", "es"));
    secret.data = Some([("theirs".to_owned(), ByteString(b"x".to_vec()))].into());
    secret.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "apps/v1".into(),
        kind: "Deployment".into(),
        name: "them".into(),
        uid: "another".into(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
}

/// CVE-2020-8568's lesson: whoever may write a status names Secrets in it, and nothing happens to those.
#[test]
fn the_status_gives_no_right() {
    let status = |target: &str| {
        let target = json!({ "resourceVersion": target, "digest": "d", "applied": "a" });
        json!({ "conditions": [], "refreshTime": "2026-06-01T11:59:00Z", "binding": { "name": "theirs" }, "target": target })
    };
    for deletion in ["Retain", "Merge", "Delete"] {
        let mut world = World::new(&policies("Owner", deletion));
        world.meddle("theirs", disguised);
        world.meddle("t", disguised);
        let before = world.secrets.clone();
        let version = before["t"].metadata.resource_version.clone().unwrap();
        world.es.status = Some(serde_json::from_value(status(&version)).unwrap());
        world.look(values(&[("k", "v")]));
        world.look(values(&[]));
        world.es.metadata.finalizers = Some(vec![FINALIZER_ESO.into()]);
        world.es.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
        let gone = world.look(values(&[]));
        assert_eq!(gone.did.last(), Some(&"finalize"), "{deletion}: {:?}", gone.did);
        assert_eq!(world.secrets, before, "{deletion}");
    }
}

/// CVE-2026-22728's lesson: labels and annotations are anybody's words. Only the owner reference makes a Secret ours.
#[test]
fn labels_give_no_right() {
    let mut world = World::new(&policies("Owner", "Delete"));
    world.meddle("t", disguised);
    world.meddle("old", disguised);
    let before = world.secrets.clone();
    for remote in [&[("k", "v")][..], &[]] {
        let step = world.look(values(remote));
        assert_eq!(step.told().0, "False", "{remote:?}");
        assert_eq!(world.secrets, before, "{remote:?}");
    }
}

/// As CVE-2026-42876, without naming a type: a Secret that is there and mints tokens is not turned to another ServiceAccount.
#[test]
fn a_secret_that_mints_tokens_is_not_turned_to_another_account() {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let minting = |secret: &mut Secret| {
        secret.type_ = Some("kubernetes.io/service-account-token".into());
        secret.metadata.annotations = Some([(ACCOUNT.to_owned(), "weak".to_owned())].into());
    };
    let by_template = json!({ "template": { "metadata": { "annotations": { ACCOUNT: "strong" } } } });
    let by_source =
        json!({ "template": { "templateFrom": [{ "target": "Annotations", "literal": format!("{ACCOUNT}: strong") }] } });
    for (template, annotated) in [(by_template, false), (by_source, false), (json!({}), true)] {
        for policy in ["Merge", "Orphan", "Owner"] {
            let mut target = template.clone();
            target["name"] = "t".into();
            target["creationPolicy"] = policy.into();
            let mut world = World::new(&spec(&json!({ "target": target })));
            if annotated {
                world.es.metadata.annotations = Some([(ACCOUNT.to_owned(), "strong".to_owned())].into());
            }
            world.meddle("t", minting);
            let before = world.secrets.clone();
            let step = world.look(values(&[("k", "v")]));
            assert!(step.told().2.contains("is not allowed"), "{policy} {target}: {:?}", step.told());
            assert_eq!(world.secrets, before, "{policy} {target}");
        }
    }
    // a value beside its token is no harm
    let mut world = World::new(&policies("Merge", "Retain"));
    world.meddle("t", minting);
    assert_eq!(world.look(values(&[("k", "v")])).told().0, "True");
}
