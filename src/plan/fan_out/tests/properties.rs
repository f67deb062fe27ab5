//! Whatever happens to a cluster, a look at a parent puts it right.

use proptest::prelude::*;

use super::*;

/// What may happen to a cluster.
#[derive(Clone, Debug)]
enum Act {
    Label(u8, u8),
    Terminate(u8),
    Remove(u8),
    Select(Vec<u8>),
    Names(Vec<u8>),
    Rename(u8),
    Foreign(u8, u8),
    Edit(u8, u8),
    Spec(u8),
    Turn,
}

fn an_act() -> impl Strategy<Value = Act> {
    let n = || 0_u8..6;
    prop_oneof![
        (n(), 0_u8..3).prop_map(|(n, l)| Act::Label(n, l)),
        n().prop_map(Act::Terminate),
        n().prop_map(Act::Remove),
        prop::collection::vec(0_u8..3, 0..3).prop_map(Act::Select),
        prop::collection::vec(n(), 0..3).prop_map(Act::Names),
        (0_u8..2).prop_map(Act::Rename),
        (n(), 0_u8..2).prop_map(|(n, name)| Act::Foreign(n, name)),
        (n(), 0_u8..2).prop_map(|(n, name)| Act::Edit(n, name)),
        (0_u8..3).prop_map(Act::Spec),
        Just(Act::Turn),
    ]
}

fn child_key(namespace: u8, name: u8) -> Key {
    Key::new(&format!("n{namespace}"), &format!("c{name}"))
}

fn act(world: &mut World, kind: ParentKind, id: &ParentId, act: Act) {
    let name = |n: u8| format!("n{n}");
    let mut parent = world.parent.clone().unwrap();
    match act {
        Act::Label(n, label) => {
            // a namespace in deletion stays so until it is gone
            if world.namespaces.get(&name(n)).is_none_or(|meta| meta.deletion_timestamp.is_none()) {
                world.namespace(&name(n), labels(&[("l", &label.to_string())]), &[]);
            }
        }
        Act::Terminate(n) if world.namespaces.contains_key(&name(n)) => world.terminate(&name(n)),
        Act::Terminate(_) => {}
        Act::Remove(n) => {
            world.namespaces.remove(&name(n));
            world.index.lose_namespace(&name(n));
            let inside: Vec<Key> = world.children.keys().filter(|k| *k.namespace == *name(n)).cloned().collect();
            inside.iter().for_each(|key| world.drop_child(kind, key));
        }
        Act::Select(of) => {
            parent["spec"]["namespaceSelectors"] =
                of.iter().map(|l| json!({"matchLabels": {"l": l.to_string()}})).collect::<Vec<_>>().into();
            world.parent(kind, parent);
        }
        Act::Names(of) if kind == CES => {
            parent["spec"]["namespaces"] = json!(of.into_iter().map(name).collect::<Vec<_>>());
            world.parent(kind, parent);
        }
        Act::Names(_) => {}
        Act::Rename(n) => {
            let field = if kind == CES { "externalSecretName" } else { "pushSecretName" };
            parent["spec"][field] = json!(format!("c{n}"));
            world.parent(kind, parent);
        }
        Act::Foreign(n, child) => {
            let key = child_key(n, child);
            if world.namespaces.contains_key(&name(n)) && !world.children.contains_key(&key) {
                world.store_child(
                    kind,
                    &key,
                    json!({"metadata": {"labels": {"foreign": "yes"}}, "spec": {"refreshInterval": "7m"}}),
                );
            }
        }
        Act::Edit(n, child) => {
            let key = child_key(n, child);
            if let Some(mut value) =
                world.children.get(&key).cloned().filter(|v| v["metadata"]["labels"]["foreign"].is_null())
            {
                value["spec"]["refreshInterval"] = json!("9m");
                value["metadata"]["labels"]["by"] = json!("hand");
                world.store_child(kind, &key, value);
            }
        }
        Act::Spec(n) => {
            let field = if kind == CES { "externalSecretSpec" } else { "pushSecretSpec" };
            parent["spec"][field]["refreshInterval"] = json!(format!("{n}h"));
            world.parent(kind, parent);
        }
        Act::Turn => drop(world.turn(id)),
    }
}

proptest! {
    /// Whatever happens: after one look, each namespace that is meant has exactly the child that is wanted or is told of, no other
    /// has one, no foreign object is touched, and a second look writes nothing.
    #[test]
    fn it_converges_and_touches_nothing_foreign(push: bool, acts in prop::collection::vec(an_act(), 1..40)) {
        let (kind, parent) = if push { (CPS, cps()) } else { (CES, ces(json!({}))) };
        let mut world = World::default();
        world.parent(kind, parent);
        let id = ParentId::new(kind, "p");
        for one in acts {
            act(&mut world, kind, &id, one);
        }
        let foreign = |world: &World| -> BTreeMap<Key, Value> {
            world.children.iter().filter(|(_, v)| v["metadata"]["labels"]["foreign"] == "yes").map(|(k, v)| (k.clone(), v.clone())).collect()
        };
        let before = foreign(&world);
        world.turn(&id);
        prop_assert_eq!(foreign(&world), before.clone());
        let parent = of_json(kind, world.parent.as_ref().unwrap());
        let (mut provisioned, mut told) = (Vec::new(), Vec::new());
        for (name, meta) in &world.namespaces {
            let labels = meta.labels.clone().unwrap_or_default();
            let by_name = parent.namespaces().contains(name);
            let by_label = parent.selectors().any(|s| s.match_labels.iter().flatten().all(|(k, v)| labels.get(k) == Some(v)));
            if meta.deletion_timestamp.is_some() {
                continue;
            }
            let own: Vec<&Key> = world.children.keys().filter(|k| *k.namespace == **name && !before.contains_key(k)).collect();
            let wanted = Key::new(name, parent.child_name());
            if !(by_name || by_label) {
                prop_assert!(own.is_empty(), "{} keeps {:?}", name, own);
            } else if before.contains_key(&wanted) {
                prop_assert!(own.is_empty());
                told.push(name.clone());
            } else {
                prop_assert_eq!(own, vec![&wanted]);
                let child = child_of_json(kind, &world.children[&wanted]);
                prop_assert!(in_line(&parent, &child));
                provisioned.push(name.clone());
            }
        }
        let status = world.status(kind);
        prop_assert_eq!(&status.seen.provisioned, &provisioned);
        prop_assert_eq!(status.seen.failed.iter().map(|f| f.namespace.clone()).collect::<Vec<_>>(), told);
        let writes = world.writes;
        world.turn(&id);
        prop_assert_eq!(world.writes, writes);
    }
}
