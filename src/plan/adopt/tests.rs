#![allow(clippy::unwrap_used)]

use serde_json::json;

use super::*;

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn finalizers(step: &Step) -> Option<Value> {
    step.change.as_ref().map(|c| c.patch["metadata"]["finalizers"].clone())
}

const DELETED: &str = "2026-01-01T00:00:00Z";

#[test]
fn only_finalizers_of_eso_go_and_none_of_what_is_being_deleted() {
    for (finalizers_, deleted, left) in [
        (json!([FINALIZER_ESO]), None, Some(json!([]))),
        (json!(["a/b", FINALIZER_ESO, "c/d"]), None, Some(json!(["a/b", "c/d"]))),
        (json!(["a/b"]), None, None),
        (json!([]), None, None),
        (json!([FINALIZER_ESO]), Some(DELETED), None),
    ] {
        let meta = json!({"name": "n", "namespace": "ns", "resourceVersion": "7", "finalizers": finalizers_, "deletionTimestamp": deleted});
        let es: ExternalSecret = of(
            json!({"metadata": meta, "spec": {"target": {"creationPolicy": "None"}, "data": [{"secretKey": "k", "remoteRef": {"key": "k"}}]}}),
        );
        let step = external_secret(&es, None, &Stores::default());
        assert_eq!(finalizers(&step), left, "{finalizers_}");
        assert_eq!(step.warns.len(), usize::from(deleted.is_some()), "{:?}", step.warns);
        assert!(step.change.is_none_or(|c| c.patch["metadata"]["resourceVersion"] == "7" && !c.status));
    }
}

#[test]
fn a_namespace_is_set_free_also_in_deletion() {
    for deleted in [None, Some(DELETED)] {
        let meta: ObjectMeta = of(json!({"name": "n", "deletionTimestamp": deleted,
            "finalizers": ["externalsecrets.external-secrets.io/ces-a", "x/y", "externalsecrets.external-secrets.io/ces-b"]}));
        assert_eq!(finalizers(&namespace(&meta)), Some(json!(["x/y"])));
    }
    let ces: ClusterExternalSecret = of(json!({"metadata": {"name": "c", "finalizers": [FINALIZER_ESO_CLUSTER]}}));
    assert_eq!(finalizers(&cluster_external_secret(&ces)), Some(json!([])));
}

#[test]
fn finalizers_of_pushes_stay_where_something_is_to_be_deleted() {
    let push = |policy: &str, store: Value| -> PushSecret {
        of(json!({"metadata": {"name": "p", "namespace": "ns", "finalizers": [FINALIZER_PUSH]},
            "spec": {"deletionPolicy": policy, "secretStoreRefs": [store]}}))
    };
    let by_name = json!({"name": "s"});
    assert_eq!(finalizers(&push_secret(&push("None", by_name.clone()))), Some(json!([])));
    assert_eq!(finalizers(&push_secret(&push("Delete", by_name.clone()))), None);
    for (kind, namespace, push, stays) in [
        (StoreKind::SecretStore, "ns", push("Delete", by_name.clone()), true),
        (StoreKind::SecretStore, "ns", push("None", by_name.clone()), false),
        (StoreKind::SecretStore, "other", push("Delete", by_name.clone()), false),
        (StoreKind::ClusterSecretStore, "", push("Delete", by_name), false),
        (StoreKind::ClusterSecretStore, "", push("Delete", json!({"name": "s", "kind": "ClusterSecretStore"})), true),
        (StoreKind::SecretStore, "ns", push("Delete", json!({"labelSelector": {"matchLabels": {"l": "1"}}})), true),
        (StoreKind::SecretStore, "ns", push("Delete", json!({"labelSelector": {"matchLabels": {"l": "2"}}})), false),
    ] {
        let metadata =
            of(json!({"name": "s", "namespace": namespace, "labels": {"l": "1"}, "finalizers": [FINALIZER_STORE]}));
        let metadata = ObjectMeta { namespace: Some(namespace.to_owned()).filter(|n| !n.is_empty()), ..metadata };
        let any = AnyStore { kind, metadata, ..AnyStore::default() };
        assert_eq!(finalizers(&store(&any, &[push])).is_none(), stays, "{kind} in {namespace:?}");
    }
}

#[test]
fn what_is_worth_knowing_is_told() {
    let store = |name: &str, provider: Value| {
        let store = crate::api::SecretStore { spec: of(json!({ "provider": provider })), ..Default::default() };
        let mut any = AnyStore::from(store);
        any.metadata = of(json!({"name": name, "namespace": "ns"}));
        any
    };
    let known = [store("good", json!({"fake": {"data": []}})), store("odd", json!({"chef": {}}))];
    let stores = Stores { known: known.into_iter().map(|s| (StoreId::of(&s), s)).collect(), no_cluster_stores: true };
    let secret: ObjectMeta = of(json!({"name": "n", "namespace": "ns"}));
    let foreign: ObjectMeta = of(json!({"name": "n", "namespace": "ns", "ownerReferences": [
        {"apiVersion": "v1", "kind": "Thing", "name": "t", "uid": "u", "controller": true}]}));
    for (spec, secret, part) in [
        (json!({"secretStoreRef": {"name": "good"}}), Some(&secret), None),
        (json!({"secretStoreRef": {"name": "gone"}}), Some(&secret), Some("SecretStore ns/gone is not there")),
        (json!({"secretStoreRef": {"name": "odd"}}), Some(&secret), Some("the provider chef, which is not served")),
        (json!({"secretStoreRef": {"name": "gone", "kind": "ClusterSecretStore"}}), Some(&secret), None),
        (json!({"secretStoreRef": {"name": "good"}}), None, Some("Secret \"n\" is not there")),
        (
            json!({"secretStoreRef": {"name": "good"}, "target": {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}}),
            None,
            None,
        ),
        (json!({"secretStoreRef": {"name": "good"}}), Some(&foreign), Some("it is controlled by Thing \"t\"")),
        (
            json!({"secretStoreRef": {"name": "good"}, "target": {"creationPolicy": "Merge", "deletionPolicy": "Delete"}}),
            Some(&secret),
            Some("deletionPolicy=Delete"),
        ),
    ] {
        let mut spec = spec;
        spec["data"] = json!([{"secretKey": "k", "remoteRef": {"key": "k"}}]);
        let es: ExternalSecret = of(json!({"metadata": {"name": "n", "namespace": "ns"}, "spec": spec}));
        let warns = external_secret(&es, secret, &stores).warns;
        match part {
            None => assert_eq!(warns, [] as [String; 0]),
            Some(part) => assert!(warns.iter().any(|w| w.contains(part)), "{part}: {warns:?}"),
        }
    }
}

/// A Secret as ESO leaves it, or as keyferry does.
fn written_by(manager: &str, operation: &str, annotations: Value) -> Secret {
    of(json!({
        "metadata": {"name": "n", "namespace": "ns", "resourceVersion": "7", "annotations": annotations, "managedFields": [
            {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:foo": {}}}},
            {"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:x": {}}}},
        ]},
        "data": {"foo": "YmFy"},
    }))
}

const HASH: &str = "f2a604b87eb0cf673761e8cfea850f901fe73a3d1b2f338802107f36";

#[test]
fn fields_of_a_secret_change_hands_and_nothing_else() {
    let eso = "externalsecrets.external-secrets.io/n";
    let es: ExternalSecret = of(json!({"metadata": {"name": "n", "namespace": "ns"}, "spec": {}}));
    let there = secret(&[&es], &written_by(eso, "Update", json!({})).metadata).change.unwrap();
    let managers = |change: &Change| -> Vec<(String, String)> {
        let entries = change.patch["metadata"]["managedFields"].as_array().unwrap().clone();
        entries.iter().map(|e| (e["manager"].as_str().unwrap().into(), e["operation"].as_str().unwrap().into())).collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(managers(&there), [pair("kubectl", "Update"), pair("keyferry", "Apply")]);
    let keys: Vec<&String> = there.patch["metadata"].as_object().unwrap().keys().collect();
    assert_eq!((keys.len(), there.patch.as_object().unwrap().len()), (2, 1), "{keys:?}");
    assert!(secret(&[&es], &written_by("keyferry", "Apply", json!({})).metadata).change.is_none());

    let back = hand_back_secret(&[&es], &written_by("keyferry", "Apply", json!({}))).change.unwrap();
    assert_eq!(managers(&back), [pair("kubectl", "Update"), pair(eso, "Update")]);
    assert_eq!(back.patch["metadata"]["annotations"], json!({ ANNOTATION_DATA_HASH: HASH }));
    assert_eq!((back.manager.as_str(), back.patch.get("data")), (eso, None));
    let untouched = written_by(eso, "Update", json!({ ANNOTATION_DATA_HASH: HASH }));
    assert!(hand_back_secret(&[&es], &untouched).change.is_none(), "ESO finds it as it left it");
    let stale = written_by(eso, "Update", json!({ ANNOTATION_DATA_HASH: "old" }));
    assert!(hand_back_secret(&[&es], &stale).change.is_some());
}

/// Managers, operations and keys of the entries in a change.
fn entries(change: &Change) -> Vec<(String, String, Vec<String>)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let keys = |entry: &Value| entry["fieldsV1"]["f:data"].as_object().unwrap().keys().cloned().collect();
    let all = change.patch["metadata"]["managedFields"].as_array().unwrap().iter();
    all.map(|e| (text(&e["manager"]), text(&e["operation"]), keys(e))).collect()
}

#[test]
fn those_who_merge_into_one_secret_keep_their_keys_apart() {
    let es = |name: &str, policy: &str| -> ExternalSecret {
        of(
            json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {"target": {"name": "n", "creationPolicy": policy}}}),
        )
    };
    let written = |entries: &[(&str, &str, &str)]| -> Secret {
        let entry = |(manager, operation, key): &(&str, &str, &str)| {
            json!({"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {(format!("f:{key}")): {}}}})
        };
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        of(json!({"metadata": {"name": "n", "namespace": "ns", "resourceVersion": "7", "managedFields": entries}}))
    };
    let owned = |all: &[(&str, &str, &str)]| -> Vec<(String, String, Vec<String>)> {
        all.iter().map(|(m, o, k)| ((*m).to_owned(), (*o).to_owned(), vec![format!("f:{k}")])).collect()
    };
    let long = "l".repeat(120);
    let hashed = object_hash::own_manager(&long);
    let long_eso = object_hash::field_manager(&long);
    assert!(hashed.starts_with("keyferry/sha3/"));
    let (a, b) = (es("a", "Merge"), es("b", "CreateOrMerge"));
    let (eso_a, eso_b) = ("externalsecrets.external-secrets.io/a", "externalsecrets.external-secrets.io/b");
    let eso = [(eso_a, "Update", "a"), ("kubectl", "Update", "x"), (eso_b, "Update", "b")];
    let ours = [("kubectl", "Update", "x"), ("keyferry/a", "Apply", "a"), ("keyferry/b", "Apply", "b")];
    let back = [("kubectl", "Update", "x"), (eso_a, "Update", "a"), (eso_b, "Update", "b")];

    let there = secret(&[&a, &b], &written(&eso).metadata).change.unwrap();
    assert_eq!(entries(&there), owned(&ours));
    assert!(secret(&[&a, &b], &written(&ours).metadata).change.is_none(), "one run is enough");
    let handed = hand_back_secret(&[&a, &b], &written(&ours)).change.unwrap();
    assert_eq!(entries(&handed), owned(&back));

    // what one left who is gone, or what nobody knows whose it is, is not given to another
    let gone = [
        ("keyferry/gone", "Apply", "g"),
        ("keyferry", "Apply", "k"),
        (&*hashed, "Apply", "l"),
        ("keyferry/a", "Apply", "a"),
    ];
    let handed = hand_back_secret(&[&a, &b], &written(&gone)).change.unwrap();
    let mut found = entries(&handed);
    found.sort();
    let mut wanted = owned(&[
        ("externalsecrets.external-secrets.io/gone", "Update", "g"),
        ("keyferry", "Apply", "k"),
        (&*long_eso, "Update", "l"),
        (eso_a, "Update", "a"),
    ]);
    wanted.sort();
    assert_eq!(found, wanted);

    // one that writes alone has all
    let owner = es("o", "Owner");
    let handed = hand_back_secret(&[&owner], &written(&ours[1..])).change.unwrap();
    let all = vec!["f:a".to_owned(), "f:b".to_owned()];
    assert_eq!(entries(&handed), [("externalsecrets.external-secrets.io/o".to_owned(), "Update".to_owned(), all)]);
}

#[test]
fn who_writes_no_secret_is_no_writer_of_one() {
    let es = |name: &str, target: Value| -> ExternalSecret {
        of(json!({"metadata": {"name": name, "namespace": "ns"}, "spec": {"target": target}}))
    };
    let all = [
        es("n", json!({})),
        es("merges", json!({"name": "n", "creationPolicy": "Merge"})),
        es("other-kind", json!({"name": "n", "manifest": {"apiVersion": "v1", "kind": "ConfigMap"}})),
        es("nothing", json!({"name": "n", "creationPolicy": "None"})),
    ];
    let found: Vec<_> = writers(&all)
        .into_iter()
        .map(|(key, all)| (key.to_string(), all.iter().map(|es| es.metadata.name.clone().unwrap()).collect::<Vec<_>>()))
        .collect();
    assert_eq!(found, [("ns/n".to_owned(), vec!["n".to_owned(), "merges".to_owned()])]);
}

#[test]
fn keyferrys_notes_go_out_of_the_status() {
    let with: ExternalSecret =
        of(json!({"metadata": {"name": "n"}, "spec": {}, "status": {"target": {"digest": "d"}, "refreshTime": null}}));
    let change = hand_back(&with).change.unwrap();
    assert!(change.status && change.patch["status"] == json!({ "target": null }));
    let without: ExternalSecret = of(json!({"metadata": {"name": "n"}, "spec": {}, "status": {}}));
    assert!(hand_back(&without).change.is_none());
}

#[test]
fn a_definition_that_ours_cannot_follow_is_told_of() {
    let ours = crate::api::crds::all().unwrap().into_iter().find(|d| d.spec.names.kind == "ExternalSecret").unwrap();
    let theirs = |served: &[&str], conversion: &str, stored: &[&str]| -> CustomResourceDefinition {
        let versions: Vec<Value> = ["v1beta1", "v1"]
            .iter()
            .map(|name| json!({"name": name, "served": served.contains(name), "storage": false}))
            .collect();
        of(json!({"metadata": {"name": "externalsecrets.external-secrets.io"}, "status": {"storedVersions": stored},
            "spec": {"group": "external-secrets.io", "names": {"kind": "ExternalSecret", "plural": "externalsecrets"},
                "scope": "Namespaced", "versions": versions, "conversion": {"strategy": conversion}}}))
    };
    let none: [&str; 0] = [];
    // ESO of today, and our own
    assert_eq!(definition(&ours, &theirs(&["v1"], "None", &["v1beta1", "v1"])), none);
    assert_eq!(definition(&ours, &ours), none);
    let webhook = "it has a conversion webhook, beside which keyferry's is refused: take that off first";
    assert_eq!(definition(&ours, &theirs(&["v1"], "Webhook", &["v1"])), [webhook]);
    assert_eq!(
        definition(&ours, &theirs(&["v1beta1"], "Webhook", &["v1alpha1", "v1beta1"])),
        [
            "v1 is not served, so that its objects are not seen: upgrade ESO first",
            webhook,
            "status.storedVersions has v1alpha1, without which keyferry's is refused: take that out first",
        ]
    );
}

#[test]
fn the_operator_is_known_by_its_image() {
    let args = |list: &[&str]| list.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>();
    for (image, list, expected) in [
        ("mirror.test/external-secrets/external-secrets:v2.9.0", vec!["--concurrent=1"], true),
        ("external-secrets", vec![], true),
        ("mirror.test:5000/external-secrets@sha256:00", vec![], true),
        ("mirror.test/external-secrets:v2", vec!["webhook", "--port=1"], false),
        ("mirror.test/external-secrets:v2", vec!["certcontroller"], false),
        ("mirror.test/external-secrets/keyferry:v1", vec![], false),
        ("mirror.test/external-secrets-inject:v1", vec![], false),
    ] {
        let args = args(&list);
        assert_eq!(runs([(image, args.as_slice())].into_iter(), "external-secrets"), expected, "{image} {list:?}");
    }
}
