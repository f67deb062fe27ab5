//! What ESO left of parents, of their children and in namespaces.

use super::*;

/// The specs that their authors wrote into parents, and as ESO 2.9 stores them in children.
fn left() -> [(ParentKind, Value, Value); 2] {
    let external = json!({
        "refreshInterval": "24h",
        "syncWindows": {"kind": "allow", "windows": [{"schedule": "@daily", "duration": "90m"}]},
        "target": {"name": "", "immutable": false, "template": {"data": {"k": "{{ .k }}", "empty": ""}, "templateFrom": [
            {"literal": ""}, {"configMap": {"name": "c", "items": [{"key": "k"}]}},
        ]}},
        "data": [{"secretKey": "k", "remoteRef": {"key": "r", "property": ""}, "sourceRef": {"storeRef": {"name": "s"}}}],
        "dataFrom": [
            {"sourceRef": {"generatorRef": {"kind": "Password", "name": "g"}}, "rewrite": [{"merge": {"priority": []}}]},
            {"find": {"name": {}, "path": ""}, "sourceRef": {"storeRef": {"name": "s"}}},
        ],
    });
    let external_stored = json!({
        "refreshInterval": "24h0m0s",
        "secretStoreRef": {"kind": "SecretStore"},
        "syncWindows": {"kind": "allow", "windows": [{"schedule": "@daily", "duration": "1h30m0s"}]},
        "target": {"creationPolicy": "Owner", "deletionPolicy": "Retain", "template": {
            "engineVersion": "v2", "mergePolicy": "Replace", "metadata": {}, "data": {"k": "{{ .k }}", "empty": ""}, "templateFrom": [
                {"literal": "", "target": "Data"},
                {"configMap": {"name": "c", "items": [{"key": "k", "templateAs": "Values"}]}, "target": "Data"},
            ],
        }},
        // an older version of ESO wrote these defaults, too
        "data": [{"secretKey": "k", "sourceRef": {"storeRef": {"name": "s", "kind": "SecretStore"}}, "remoteRef": {"key": "r",
            "metadataPolicy": "None", "conversionStrategy": "Default", "decodingStrategy": "None", "nullBytePolicy": "Ignore"}}],
        "dataFrom": [
            {
                "sourceRef": {"generatorRef":
                    {"apiVersion": "generators.external-secrets.io/v1alpha1", "kind": "Password", "name": "g"}},
                "rewrite": [{"merge": {"into": "", "priorityPolicy": "Strict", "conflictPolicy": "Error", "strategy": "Extract"}}],
            },
            {"find": {"name": {}, "path": "", "conversionStrategy": "Default", "decodingStrategy": "None"},
                "sourceRef": {"storeRef": {"name": "s"}}},
        ],
    });
    let push = json!({
        "refreshInterval": "0",
        "secretStoreRefs": [
            {"labelSelector": {"matchLabels": {}, "matchExpressions": [{"key": "a", "operator": "Exists", "values": []}]}},
            {"name": "s"},
        ],
        "selector": {"generatorRef": {"kind": "Password", "name": "g"}},
        "data": [{"match": {"secretKey": "", "remoteRef": {"remoteKey": "r", "property": ""}}, "metadata": {"any": [1, null]}}],
        "dataTo": [{"storeRef": {"name": "s"}, "remoteKey": "", "match": {"regexp": ""}}],
        "template": {"data": {"k": "v"}},
    });
    let push_stored = json!({
        "refreshInterval": "0s",
        "secretStoreRefs": [
            {"labelSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}, "kind": "SecretStore"},
            {"name": "s", "kind": "SecretStore"},
        ],
        "updatePolicy": "Replace",
        "deletionPolicy": "None",
        "selector": {"generatorRef":
            {"apiVersion": "generators.external-secrets.io/v1alpha1", "kind": "Password", "name": "g"}},
        "data": [{"match": {"remoteRef": {"remoteKey": "r"}}, "metadata": {"any": [1, null]}, "conversionStrategy": "None"}],
        "dataTo": [{"storeRef": {"name": "s", "kind": "SecretStore"}, "match": {}, "conversionStrategy": "None"}],
        "template": {"engineVersion": "v2", "mergePolicy": "Replace", "metadata": {}, "data": {"k": "v"}},
    });
    [(CES, external, external_stored), (CPS, push, push_stored)]
}

/// What a parent's spec has of its children: their spec, and their metadata.
fn fields(kind: ParentKind) -> [&'static str; 2] {
    match kind {
        CES => ["externalSecretSpec", "externalSecretMetadata"],
        CPS => ["pushSecretSpec", "pushSecretMetadata"],
    }
}

/// A parent with that spec for its children, and its children in `a1` and `a2` as they are stored.
fn left_world(kind: ParentKind, wanted: &Value, stored: &Value) -> (World, ParentId) {
    let mut parent = json!({"metadata": {"name": "p"}, "spec": {"namespaceSelectors": [{"matchLabels": {"team": "a"}}]}});
    parent["spec"][fields(kind)[0]] = wanted.clone();
    let (mut world, id) = world(kind, parent);
    let owner = json!({"apiVersion": kind.api_version(), "kind": kind.as_str(), "name": "p", "uid": "u1",
        "controller": true, "blockOwnerDeletion": true});
    for namespace in ["a1", "a2"] {
        let child = json!({"metadata": {"ownerReferences": [owner]}, "spec": stored});
        world.store_child(kind, &Key::new(namespace, "p"), child);
    }
    (world, id)
}

/// A write would change the generation, and what a child generates with it.
#[test]
fn children_that_eso_left_are_not_written() {
    for (kind, wanted, stored) in left() {
        let (mut world, id) = left_world(kind, &wanted, &stored);
        let children = world.children.clone();
        assert!(world.turn(&id).unwrap().ready);
        assert_eq!(world.children, children);
        assert_eq!((world.status(kind).seen.provisioned, world.writes), (vec!["a1".to_owned(), "a2".to_owned()], 1));
    }
    // an object of an older version of ESO may lack what newer ones fill in
    for (kind, mut spec) in [(CES, json!({})), (CPS, json!({"secretStoreRefs": [], "selector": {}}))] {
        let wanted = spec.clone();
        spec["refreshInterval"] = json!("1h0m0s");
        let (world, id) = left_world(kind, &wanted, &spec);
        assert!(plan(&world.index.fan_out_facts(&id)).write.is_empty(), "{kind}");
    }
}

#[test]
fn what_differs_in_more_than_words_is_brought_into_line() {
    let external = [
        ("/spec", json!({"refreshInterval": "23h"})),
        ("/spec", json!({"refreshInterval": "soon"})),
        ("/spec", json!({"refreshPolicy": "OnChange"})),
        ("/spec/secretStoreRef", json!({"name": "s"})),
        ("/spec/secretStoreRef", json!({"kind": "ClusterSecretStore"})),
        ("/spec/syncWindows", json!({"kind": "deny"})),
        ("/spec/syncWindows/windows/0", json!({"schedule": "@hourly"})),
        ("/spec/syncWindows/windows/0", json!({"duration": "2h"})),
        ("/spec/target", json!({"name": "p"})),
        ("/spec/target", json!({"creationPolicy": "Orphan"})),
        ("/spec/target", json!({"deletionPolicy": "Delete"})),
        ("/spec/target", json!({"immutable": true})),
        ("/spec/target", json!({"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}})),
        ("/spec/target", json!({"template": null})),
        ("/spec/target/template", json!({"type": "t"})),
        ("/spec/target/template", json!({"mergePolicy": "Merge"})),
        ("/spec/target/template", json!({"metadata": {"labels": {"a": "b"}}})),
        ("/spec/target/template", json!({"data": {"empty": null}})),
        ("/spec/target/template/templateFrom/0", json!({"literal": null})),
        ("/spec/target/template/templateFrom/0", json!({"target": "Labels"})),
        ("/spec/target/template/templateFrom/0", json!({"valuesDecodingStrategy": "Auto"})),
        ("/spec/target/template/templateFrom/1/configMap", json!({"name": "d"})),
        ("/spec/target/template/templateFrom/1/configMap/items/0", json!({"templateAs": "KeysAndValues"})),
        ("/spec/data/0", json!({"secretKey": "l"})),
        ("/spec/data/0/remoteRef", json!({"property": "p"})),
        ("/spec/data/0/remoteRef", json!({"version": "1"})),
        ("/spec/data/0/remoteRef", json!({"metadataPolicy": "Fetch"})),
        ("/spec/data/0/remoteRef", json!({"conversionStrategy": "Unicode"})),
        ("/spec/data/0/remoteRef", json!({"decodingStrategy": "Auto"})),
        ("/spec/data/0/remoteRef", json!({"nullBytePolicy": "Fail"})),
        ("/spec/data/0", json!({"sourceRef": null})),
        ("/spec/data/0/sourceRef/storeRef", json!({"kind": "ClusterSecretStore"})),
        ("/spec/dataFrom/0/sourceRef/generatorRef", json!({"apiVersion": "generators.external-secrets.io/v1"})),
        ("/spec/dataFrom/0/sourceRef/generatorRef", json!({"kind": "UUID"})),
        ("/spec/dataFrom/0/rewrite/0/merge", json!({"into": "k"})),
        ("/spec/dataFrom/0/rewrite/0/merge", json!({"priority": ["k"]})),
        ("/spec/dataFrom/0/rewrite/0/merge", json!({"priorityPolicy": "IgnoreNotFound"})),
        ("/spec/dataFrom/0/rewrite/0/merge", json!({"conflictPolicy": "Ignore"})),
        ("/spec/dataFrom/0/rewrite/0/merge", json!({"strategy": "JSON"})),
        ("/spec/dataFrom/1/find", json!({"path": "/p"})),
        ("/spec/dataFrom/1/find", json!({"name": null})),
        ("/spec/dataFrom/1/find", json!({"name": {"regexp": "r"}})),
        ("/spec/dataFrom/1/find", json!({"tags": {"a": "b"}})),
        ("/spec/dataFrom/1/find", json!({"decodingStrategy": "Base64"})),
    ];
    let push = [
        ("/spec", json!({"refreshInterval": "1h"})),
        ("/spec", json!({"refreshInterval": null})),
        ("/spec", json!({"updatePolicy": "IfNotExists"})),
        ("/spec", json!({"deletionPolicy": "Delete"})),
        ("/spec", json!({"template": null})),
        ("/spec/secretStoreRefs/0", json!({"labelSelector": null})),
        ("/spec/secretStoreRefs/0/labelSelector", json!({"matchLabels": {"a": "b"}})),
        ("/spec/secretStoreRefs/0/labelSelector/matchExpressions/0", json!({"values": ["v"]})),
        ("/spec/secretStoreRefs/1", json!({"name": "t"})),
        ("/spec/secretStoreRefs/1", json!({"kind": "ClusterSecretStore"})),
        ("/spec/selector/generatorRef", json!({"name": "h"})),
        ("/spec/selector", json!({"secret": {"name": "s"}})),
        ("/spec/data/0/match", json!({"secretKey": "k"})),
        ("/spec/data/0/match/remoteRef", json!({"property": "p"})),
        ("/spec/data/0", json!({"metadata": {"any": [1]}})),
        ("/spec/data/0", json!({"conversionStrategy": "ReverseUnicode"})),
        ("/spec/dataTo/0/storeRef", json!({"name": "t"})),
        ("/spec/dataTo/0", json!({"remoteKey": "k"})),
        ("/spec/dataTo/0", json!({"match": {"regexp": "r"}})),
        ("/spec/dataTo/0", json!({"rewrite": [{"transform": {"template": "t"}}]})),
        ("/spec/dataTo/0", json!({"metadata": {}})),
        ("/spec/dataTo/0", json!({"conversionStrategy": "ReverseUnicode"})),
    ];
    for ((kind, wanted, stored), edits) in left().into_iter().zip([external.as_slice(), push.as_slice()]) {
        for (place, edit) in edits {
            let (mut world, id) = left_world(kind, &wanted, &stored);
            let mut edited = world.child("a1", "p").clone();
            merge(edited.pointer_mut(place).unwrap(), edit);
            world.store_child(kind, &Key::new("a1", "p"), edited);
            let plan = plan(&world.index.fan_out_facts(&id));
            let keys: Vec<String> = plan.write.iter().map(|write| write.key.to_string()).collect();
            assert_eq!(keys, ["a1/p"], "{place} {edit}");
        }
    }
}

#[test]
fn a_change_of_the_parent_reaches_what_eso_left() {
    for (kind, wanted, stored) in left() {
        let (mut world, id) = left_world(kind, &wanted, &stored);
        let mut parent = world.parent.clone().unwrap();
        parent["spec"][fields(kind)[0]]["refreshInterval"] = json!("12h");
        world.parent(kind, parent.clone());
        assert!(world.turn(&id).unwrap().ready);
        let spec = of_json(kind, &parent).child_spec().unwrap();
        for namespace in ["a1", "a2"] {
            assert_eq!(world.child(namespace, "p")["spec"], spec, "in the parent's own words");
        }
        let writes = world.writes;
        assert!(world.turn(&id).unwrap().status.is_none());
        assert_eq!(world.writes, writes);
    }
}

/// Else labels, or a parent that was made again, would change the generation all the same.
#[test]
fn a_change_of_metadata_leaves_the_spec_as_eso_wrote_it() {
    for (kind, wanted, stored) in left() {
        let (mut world, id) = left_world(kind, &wanted, &stored);
        let mut parent = world.parent.clone().unwrap();
        parent["metadata"]["uid"] = json!("u2");
        parent["spec"][fields(kind)[1]] = json!({"labels": {"l": "1"}});
        let live = child_of_json(kind, world.child("a1", "p"));
        assert_eq!(patch(&of_json(kind, &parent), &live).unwrap()["spec"], json!({}));
        world.parent(kind, parent);
        assert!(world.turn(&id).unwrap().ready);
        let child = world.child("a1", "p");
        assert_eq!((&child["spec"], &child["metadata"]["labels"]), (&stored, &json!({"l": "1"})));
        assert_eq!(child["metadata"]["ownerReferences"][0]["uid"], "u2");
    }
}

/// ESO may serve them beside this process, which may have no right to change namespaces either.
#[test]
fn finalizers_of_parents_that_are_not_served_stay() {
    let mut world = World::default();
    world.namespace("a1", labels(&[]), &["externalsecrets.external-secrets.io/ces-p"]);
    let facts = world.index.fan_out_facts(&ParentId::new(CES, "p"));
    let released = |served: bool| {
        let rules = Rules { cluster_external_secrets: served, ..Rules::default() };
        super::super::plan(&facts, &rules).release.len()
    };
    assert_eq!((released(true), released(false)), (1, 0));
}
