//! Random valid objects of every kind go through the types, the checks and the plans: nothing is unknown, nothing is lost, nothing
//! panics. `e2e/src/shapes` makes the objects; `e2e/tests/suite/shapes.rs` shows them to a real API server.

#[allow(dead_code, reason = "the end-to-end tests use the rest")]
#[path = "../../e2e/src/shapes/mod.rs"]
mod drawn;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;
use keyferry::api::external_secret::GeneratorKind;
use keyferry::api::fan_out::Parent;
use keyferry::api::generators::{AnySpec, ClusterGeneratorSpec, GeneratorState};
use keyferry::api::{AnyStore, ClusterExternalSecret, ClusterPushSecret, ClusterSecretStore};
use keyferry::api::{ExternalSecret, ExternalSecretSpec, PushSecret, SecretStore, crds};
use keyferry::index::{AnyGenerator, Index, Key, ParentId, StoreHealth, StoreId, TargetView, generator_ids, store_ids};
use keyferry::plan::external_secret::{Facts, Memory, Next, StoreFacts};
use keyferry::plan::{Rules, external_secret, fan_out, generator_state, push_secret, store};
use keyferry::providers::ProviderSpec;
use keyferry::queue::Priority;
use keyferry::validate::{validate_external_secret, validate_store, validate_template};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::drawn::Shape;
use keyferry::api::structural;

/// How many plans came to the point of reading values.
static FETCHES: AtomicUsize = AtomicUsize::new(0);

/// How many random objects of each kind and version.
const OBJECTS: u64 = 60;

/// Every served version of every kind.
fn shapes() -> Vec<Shape> {
    let all = crds::all().unwrap();
    all.iter().flat_map(|crd| Shape::all(&serde_json::to_value(crd).unwrap())).collect()
}

/// The full objects of a shape, and the random ones.
fn objects(shape: &Shape) -> Vec<Value> {
    let name = format!("{} {}", shape.api_version(), shape.kind);
    let mut all = shape.complete().unwrap_or_else(|unmet| panic!("{name}: no object was found that has {unmet:#?}"));
    all.extend((0..OBJECTS).map(|seed| shape.random(seed).unwrap_or_else(|| panic!("{name}: no object of seed {seed}"))));
    if shape.namespaced {
        all.iter_mut().for_each(|object| object["metadata"]["namespace"] = json!("ns"));
    }
    all
}

/// What our type makes of an object, and back; on the way, everything looks at it that looks at objects of the kind.
fn there_and_back(object: &Value) -> Value {
    match object["kind"].as_str().unwrap() {
        "ExternalSecret" => passed(object, |es: ExternalSecret| look_at_external_secret(es)),
        "SecretStore" => passed(object, |store: SecretStore| look_at_store(&store.into())),
        "ClusterSecretStore" => passed(object, |store: ClusterSecretStore| look_at_store(&store.into())),
        "ClusterExternalSecret" => {
            passed(object, |ces: ClusterExternalSecret| look_at_parent(Parent::ClusterExternalSecret(ces.into())))
        }
        "ClusterPushSecret" => {
            passed(object, |cps: ClusterPushSecret| look_at_parent(Parent::ClusterPushSecret(cps.into())))
        }
        "PushSecret" => passed(object, look_at_push_secret),
        _ if object.get("spec").is_none() => object.clone(), // a generator without a spec is told what it lacks
        "GeneratorState" => passed(object, |state: GeneratorState| look_at_state(&state)),
        kind => a_generator(serde_json::from_value(json!(kind)).unwrap(), object),
    }
}

fn passed<T: DeserializeOwned + Serialize>(object: &Value, look: impl FnOnce(T)) -> Value {
    let read: T = serde_json::from_value(object.clone()).unwrap_or_else(|e| panic!("{e}: {object:#}"));
    let back = serde_json::to_value(&read).unwrap();
    look(read);
    back
}

/// A generator's spec as its type reads it. That of a ClusterGenerator is read by the kind of its block, which chance does not let
/// be the kind that it names.
fn a_generator(kind: GeneratorKind, object: &Value) -> Value {
    let read = |kind, spec: &Value| {
        AnySpec::read(kind, spec.clone(), "spec").unwrap_or_else(|e| panic!("{e}: {object:#}")).to_value()
    };
    let mut back = object.clone();
    match kind {
        GeneratorKind::ClusterGenerator => {
            let mut spec: ClusterGeneratorSpec = serde_json::from_value(object["spec"].clone()).unwrap();
            for (name, block) in &mut spec.generator {
                let kind = GeneratorKind::ALL.iter().find(|kind| kind.block() == Some(name)).unwrap();
                *block = read(*kind, block);
            }
            back["spec"] = serde_json::to_value(spec).unwrap();
        }
        _ => back["spec"] = read(kind, &object["spec"]),
    }
    let mut index = Index::default();
    index.upsert_generator(AnyGenerator::read(kind, serde_json::from_value(object.clone()).unwrap()));
    back
}

fn look_at_state(state: &GeneratorState) {
    let _ = generator_state::next(state, Timestamp::UNIX_EPOCH);
    let _ = generator_state::generator(state);
}

fn a_store(id: &StoreId) -> Arc<AnyStore> {
    let object = json!({
        "metadata": { "name": &*id.key.name, "namespace": &*id.key.namespace, "uid": "u", "generation": 1 },
        "spec": { "provider": { "fake": { "data": [] } } },
    });
    let store: SecretStore = serde_json::from_value(object).unwrap();
    AnyStore { kind: id.kind, ..store.into() }.into()
}

fn look_at_external_secret(es: ExternalSecret) {
    if es.spec != ExternalSecretSpec::default() {
        assert_eq!(validate_external_secret(&es), Ok(()), "CEL lets it pass"); // CEL is not asked about a spec that is not there
    }
    let _ = validate_template(&es.target());
    let (mut index, es) = (Index::default(), Arc::new(es));
    let key = Key::of(&es.metadata);
    index.upsert_external_secret(es.clone());
    let health = Some(StoreHealth { uid: "u".into(), generation: 1, ready: true, ..StoreHealth::default() });
    let stores = store_ids(&es).into_iter().map(|id| {
        let store = Some(a_store(&id));
        (id, StoreFacts { store, health: health.clone(), values: None })
    });
    let facts = Facts {
        replace_at: None,
        stores: stores.collect(),
        generators: generator_ids(&es).into_iter().map(|id| (id.clone(), index.generator(&id))).collect(),
        namespace_labels: Some(Arc::default()),
        target: None,
        owned: index.owned_by(&key),
        sources: index.sources(&key, &es),
        memory: Memory::default(),
        now: Timestamp::UNIX_EPOCH,
        es,
    };
    let plain = Facts { es: mended(&facts.es), ..facts.clone() };
    let without = Facts { stores: BTreeMap::new(), target: Some(TargetView::default()), ..facts.clone() };
    for rules in [Rules::default(), Rules { generic_targets: true, cluster_stores: false, ..Rules::default() }] {
        let _ = external_secret::before_fetch(&without, &rules);
        for facts in [&facts, &plain] {
            if let Next::Fetch(plan) = external_secret::before_fetch(facts, &rules) {
                assert!(plan.requests.keys().all(|id| facts.stores.contains_key(id)));
                FETCHES.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    let _ = external_secret::orphans(&facts);
}

/// The same without what is valid by schema and mostly makes no sense when drawn by chance, so that the plan comes further.
fn mended(es: &ExternalSecret) -> Arc<ExternalSecret> {
    let mut es = es.clone();
    (es.status, es.spec.sync_windows, es.spec.target) = (None, None, None);
    es.spec.refresh_interval = Some("1h".into());
    Arc::new(es)
}

fn look_at_store(any: &AnyStore) {
    let _ = validate_store(&any.spec, any.kind);
    let _ = store::before_check(any, false, &Rules::default());
    let mut index = Index::default();
    index.upsert_store(any.clone().into());
}

fn look_at_push_secret(ps: PushSecret) {
    let (mut index, ps) = (Index::default(), Arc::new(ps));
    for kind in [keyferry::api::StoreKind::SecretStore, keyferry::api::StoreKind::ClusterSecretStore] {
        for reference in &ps.spec.secret_store_refs {
            let name = reference.name.as_deref().unwrap_or_default();
            let namespace = if kind == keyferry::api::StoreKind::SecretStore { "ns" } else { "" };
            index.upsert_store(a_store(&StoreId { kind, key: Key::new(namespace, name) }));
        }
    }
    index.upsert_push_secret(ps.clone());
    let facts = push_secret::Facts {
        replace_at: None,
        stores: index.push_stores(&ps),
        namespace_labels: Some(Arc::default()),
        sources: index.push_named_sources(&ps),
        unlisted: None,
        generator: None,
        memory: push_secret::Memory::default(),
        woken: Priority::New,
        now: Timestamp::UNIX_EPOCH,
        ps,
    };
    let _ = push_secret::before_push(&facts, &Rules::default());
    let _ = push_secret::source_gone(&facts, &Rules::default());
}

fn look_at_parent(parent: Parent) {
    let mut index = Index::default();
    let id = ParentId::of(&parent);
    index.see_namespace(&serde_json::from_value(json!({ "name": "ns", "labels": { "a": "b" } })).unwrap());
    index.upsert_parent(Arc::new(parent));
    let facts = index.fan_out_facts(&id);
    let plan = fan_out::plan(&facts, &Rules::default());
    for write in &plan.write {
        let key = Key::new("ns", facts.parent.as_ref().unwrap().child_name());
        let body = fan_out::body(facts.parent.as_ref().unwrap(), &key).unwrap();
        assert!(body["spec"].is_object(), "{write:?}");
    }
}

/// An object as it must come back: without `null`, without empty lists and maps (Go leaves those out as well), and without
/// what stands in the block of a provider that is not served, of which only the name is kept.
fn kept(schema: &Value, value: &Value) -> Option<Value> {
    let fields = schema["properties"].as_object();
    match value {
        Value::Null => None,
        Value::Array(items) if !items.is_empty() && schema["items"].is_object() => {
            Some(items.iter().map(|item| kept(&schema["items"], item).unwrap_or_else(|| item.clone())).collect())
        }
        Value::Array(items) if items.is_empty() => None,
        Value::Object(all) if fields.is_some() => {
            let part = |name: &str| schema["properties"].get(name).unwrap_or(&Value::Null);
            let all = all.iter().filter_map(|(name, field)| Some((name.clone(), kept(part(name), field)?)));
            Some(Value::Object(all.collect()))
        }
        Value::Object(all) if all.is_empty() && schema["additionalProperties"].is_object() => None,
        other => Some(other.clone()),
    }
}

fn without_unserved(object: &Value) -> Value {
    let mut object = object.clone();
    if object["status"]["binding"]["name"] == "" {
        object["status"]["binding"] = json!({}); // Go does not write it either
    }
    let store = object["kind"].as_str().is_some_and(|kind| kind.ends_with("SecretStore"));
    for (name, block) in object.pointer_mut("/spec/provider").and_then(Value::as_object_mut).into_iter().flatten() {
        if store && !ProviderSpec::SERVED.contains(&name.as_str()) {
            *block = json!({});
        }
    }
    object
}

#[test]
fn random_objects_of_every_kind_lose_nothing_and_break_nothing() {
    let shapes = shapes();
    let found: BTreeMap<String, String> = std::thread::scope(|scope| {
        let all: Vec<_> = shapes.iter().map(|shape| scope.spawn(|| changes(shape))).collect();
        all.into_iter().flat_map(|one| one.join().unwrap()).collect()
    });
    assert!(found.is_empty(), "not as it was put in: {found:#?}");
    assert!(FETCHES.load(Ordering::Relaxed) > 20, "hardly an ExternalSecret was planned to its end");
}

/// What does not come back as it was put in, of all objects of a shape.
fn changes(shape: &Shape) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for object in &objects(shape) {
        let valid = structural::errors(&shape.schema, &body(object));
        assert!(valid.is_empty(), "{valid:?}: {object:#}");
        let wanted = kept(&shape.schema, &body(&without_unserved(object)));
        let mut back = body(&there_and_back(object));
        if object.get("spec").is_none() {
            back.as_object_mut().unwrap().remove("spec"); // an empty one stands for none
        }
        let back = kept(&shape.schema, &back);
        compare(&format!("{} {} ", shape.api_version(), shape.kind), wanted.as_ref(), back.as_ref(), &mut found);
    }
    found
}

/// Where two values differ, and how; of each place one example.
fn compare(path: &str, put: Option<&Value>, got: Option<&Value>, found: &mut BTreeMap<String, String>) {
    match (put, got) {
        (put, got) if put == got => {}
        (Some(Value::Object(put)), Some(Value::Object(got))) => {
            for name in put.keys().chain(got.keys()) {
                compare(&format!("{path}.{name}"), put.get(name), got.get(name), found);
            }
        }
        (Some(Value::Array(put)), Some(Value::Array(got))) if put.len() == got.len() => {
            put.iter().zip(got).for_each(|(put, got)| compare(&format!("{path}[]"), Some(put), Some(got), found));
        }
        (put, got) => drop(found.insert(path.to_owned(), format!("{put:?} -> {got:?}"))),
    }
}

/// An object without what is the same for all kinds.
fn body(object: &Value) -> Value {
    let mut body = object.clone();
    for field in ["apiVersion", "kind", "metadata"] {
        body.as_object_mut().unwrap().remove(field);
    }
    body
}

/// The test above must not pass because its objects are all alike.
#[test]
fn objects_differ_and_come_again() {
    for shape in shapes() {
        assert_eq!(shape.random(7), shape.random(7));
        let different: std::collections::BTreeSet<_> =
            (0..50).filter_map(|s| Some(body(&shape.random(s)?).to_string())).collect();
        let fields = shape.schema["properties"]["spec"]["properties"].as_object().map_or(0, serde_json::Map::len);
        assert!(fields == 0 || different.len() > 5, "{} has {} objects only", shape.kind, different.len());
    }
}
