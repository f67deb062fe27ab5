//! Generators: what is known of them, and who uses which.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Index, Key, Wakes, is_older, is_synced, remove_user, urgency};
use crate::api::external_secret::{GeneratorKind, GeneratorRef};
use crate::api::generators::{self, AnySpec, ClusterGeneratorSpec, GeneratorObject, InvalidSpec};
use crate::api::{ExternalSecret, PushSecret};
use crate::plan::push_secret::{self as plan, Source};

/// A generator: its kind, and its key (without namespace for a ClusterGenerator).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GeneratorId {
    /// Kind of the generator.
    pub kind: GeneratorKind,
    /// Namespace and name.
    pub key: Key,
}

impl GeneratorId {
    /// The generator that a reference means, seen from a namespace.
    #[must_use]
    pub fn resolve(reference: &GeneratorRef, namespace: &str) -> Self {
        let cluster = reference.kind == GeneratorKind::ClusterGenerator;
        Self { kind: reference.kind, key: Key::new(if cluster { "" } else { namespace }, &reference.name) }
    }
}

impl std::fmt::Display for GeneratorId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

/// A generator of any kind, as the rest of the code sees it.
#[derive(Clone, Debug)]
pub struct AnyGenerator {
    /// Which one.
    pub id: GeneratorId,
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.generation`
    pub generation: i64,
    /// Class of the controller that serves it, where it names one.
    pub class: Option<String>,
    /// What it makes; that of a ClusterGenerator is the generator that it stands for.
    pub spec: Result<Arc<AnySpec>, InvalidSpec>,
    resource_version: Option<String>,
}

impl AnyGenerator {
    /// Takes what the API server gave apart.
    #[must_use]
    pub fn read(kind: GeneratorKind, object: GeneratorObject) -> Self {
        let GeneratorObject { metadata, spec } = object;
        let class_of = |spec: &serde_json::Value| spec["controller"].as_str().filter(|c| !c.is_empty()).map(str::to_owned);
        let (class, spec) = match kind {
            GeneratorKind::ClusterGenerator => {
                let class = kind_block(&spec).and_then(class_of);
                let read = serde_json::from_value::<ClusterGeneratorSpec>(spec);
                let missing = || InvalidSpec("spec.kind and spec.generator must be set".into());
                (class, read.map_err(|_| missing()).and_then(|spec| generators::resolve(&spec)))
            }
            _ => (class_of(&spec), AnySpec::read(kind, spec, "spec")),
        };
        Self { class, spec: spec.map(Arc::new), ..Self::invalid(kind, metadata, String::new()) }
    }

    /// One that cannot be understood, and why.
    #[must_use]
    pub fn invalid(kind: GeneratorKind, metadata: ObjectMeta, why: String) -> Self {
        Self {
            id: GeneratorId { kind, key: Key::of(&metadata) },
            uid: metadata.uid.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            class: None,
            spec: Err(InvalidSpec(why)),
            resource_version: metadata.resource_version,
        }
    }
}

/// The one block of a ClusterGenerator.
fn kind_block(spec: &serde_json::Value) -> Option<&serde_json::Value> {
    spec["generator"].as_object()?.values().next()
}

/// What is known of a generator.
#[derive(Clone, Debug, Default)]
pub enum GeneratorFacts {
    /// Nothing yet: the first list of its kind is under way.
    #[default]
    Unknown,
    /// Its kind cannot be read: why.
    Unreadable(String),
    /// It does not exist.
    Missing,
    /// This is it.
    Found(Arc<AnyGenerator>),
}

/// Who is to be looked at because of a generator.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct GeneratorWakes {
    /// ExternalSecrets.
    pub external_secrets: Wakes,
    /// PushSecrets.
    pub push_secrets: Wakes,
}

/// The part of the index that is about generators.
#[derive(Default)]
pub(super) struct Generators {
    objects: HashMap<GeneratorId, Arc<AnyGenerator>>,
    users: HashMap<GeneratorId, BTreeSet<Key>>,
    /// By kind and namespace (empty: all): whether the watch has listed them, or why it cannot.
    watches: HashMap<(GeneratorKind, String), Result<(), String>>,
}

impl Generators {
    pub(super) fn link(&mut self, key: &Key, es: &ExternalSecret) {
        for id in generator_ids(es) {
            self.users.entry(id).or_default().insert(key.clone());
        }
    }

    pub(super) fn unlink(&mut self, key: &Key, es: &ExternalSecret) {
        for id in generator_ids(es) {
            remove_user(&mut self.users, &id, key);
        }
    }
}

impl Index {
    /// A generator appeared or changed: who waits for it. Those that are synced keep the values that they have, as nothing is due for them.
    pub fn upsert_generator(&mut self, new: AnyGenerator) -> GeneratorWakes {
        let id = new.id.clone();
        let old = self.generators.objects.get(&id);
        let meta = |g: &AnyGenerator| k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
            uid: Some(g.uid.clone()),
            resource_version: g.resource_version.clone(),
            ..Default::default()
        };
        if old.is_some_and(|old| is_older(&meta(&new), &meta(old))) {
            return GeneratorWakes::default();
        }
        // whose it is decides whether ExternalSecrets that are synced are refreshed any more
        let handed = match old {
            Some(old) => old.class != new.class,
            // it may have been another's before it was deleted; a first list wakes all its users when it is through
            None => matches!(self.generator(&id), GeneratorFacts::Missing),
        };
        let same = old.is_some_and(|old| (&old.uid, old.generation) == (&new.uid, new.generation));
        self.generators.objects.insert(id.clone(), Arc::new(new));
        if same {
            return GeneratorWakes::default();
        }
        GeneratorWakes {
            external_secrets: self.generator_users(&id, |es| handed || !is_synced(es)),
            push_secrets: self.push_generator_users(|named, ready| *named == id && !ready),
        }
    }

    /// A generator is gone.
    pub fn remove_generator(&mut self, id: &GeneratorId) {
        self.generators.objects.remove(id);
    }

    /// The watch of a kind in a namespace (empty: in all) has listed its objects, or why it cannot: who waited for that. A
    /// watch that breaks later leaves what is known as it is.
    pub fn generator_watch(&mut self, kind: GeneratorKind, namespace: &str, state: Result<(), String>) -> GeneratorWakes {
        let slot = (kind, namespace.to_owned());
        let old = self.generators.watches.get(&slot);
        if old == Some(&Ok(())) || old == Some(&state) {
            return GeneratorWakes::default();
        }
        self.generators.watches.insert(slot, state);
        let ids: Vec<GeneratorId> = self.generators.users.keys().filter(|id| id.kind == kind).cloned().collect();
        GeneratorWakes {
            external_secrets: ids.iter().flat_map(|id| self.generator_users(id, |_| true)).collect(),
            push_secrets: self.push_generator_users(|named, _| named.kind == kind),
        }
    }

    /// What is known of a generator.
    #[must_use]
    pub fn generator(&self, id: &GeneratorId) -> GeneratorFacts {
        if let Some(found) = self.generators.objects.get(id) {
            return GeneratorFacts::Found(found.clone());
        }
        let watch = |namespace: &str| self.generators.watches.get(&(id.kind, namespace.to_owned()));
        match watch(&id.key.namespace).or_else(|| watch("")) {
            None => GeneratorFacts::Unknown,
            Some(Err(why)) => GeneratorFacts::Unreadable(why.clone()),
            Some(Ok(())) => GeneratorFacts::Missing,
        }
    }

    fn generator_users(&self, id: &GeneratorId, wanted: impl Fn(&ExternalSecret) -> bool) -> Wakes {
        let users = self.generators.users.get(id).into_iter().flatten();
        let known = users.filter_map(|key| Some((key, self.external_secrets.get(key)?)));
        known.filter(|(_, es)| wanted(es)).map(|(key, es)| (key.clone(), urgency(es))).collect()
    }
}

/// All generators that an ExternalSecret names.
#[must_use]
pub fn generator_ids(es: &ExternalSecret) -> BTreeSet<GeneratorId> {
    let namespace = es.metadata.namespace.as_deref().unwrap_or_default();
    let references = es.spec.data_from.iter().filter_map(|from| from.source_ref.as_ref()?.generator_ref.as_ref());
    references.map(|reference| GeneratorId::resolve(reference, namespace)).collect()
}

/// The generator that a PushSecret takes its values from.
#[must_use]
pub fn pushed_generator(ps: &PushSecret) -> Option<GeneratorId> {
    let Source::Generated(reference) = plan::source(ps) else { return None };
    Some(GeneratorId::resolve(reference, ps.metadata.namespace.as_deref().unwrap_or_default()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::queue::Priority;

    fn user(name: &str, kind: &str, ready: bool) -> Arc<ExternalSecret> {
        let status = json!({ "syncedResourceVersion": "1-x", "conditions": [{ "type": "Ready", "status": "True" }] });
        let mut es = json!({
            "metadata": { "name": name, "namespace": "ns", "uid": name, "generation": 1, "resourceVersion": "1" },
            "spec": { "dataFrom": [{ "sourceRef": { "generatorRef": { "kind": kind, "name": "g" } } }] },
        });
        if ready {
            es["status"] = status;
        }
        Arc::new(serde_json::from_value(es).unwrap())
    }

    fn generator(kind: GeneratorKind, generation: i64, version: i64, spec: Value) -> AnyGenerator {
        let namespace = if kind == GeneratorKind::ClusterGenerator { Value::Null } else { json!("ns") };
        let metadata = json!({
            "name": "g", "namespace": namespace, "uid": "u", "generation": generation, "resourceVersion": version.to_string(),
        });
        AnyGenerator::read(kind, serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
    }

    fn fake(generation: i64, version: i64) -> AnyGenerator {
        generator(GeneratorKind::Fake, generation, version, json!({ "data": {} }))
    }

    fn nobody() -> GeneratorWakes {
        GeneratorWakes::default()
    }

    fn pusher(name: &str, kind: &str, ready: &str) -> Arc<PushSecret> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": { "name": name, "namespace": "ns", "uid": name, "generation": 1 },
                "spec": { "secretStoreRefs": [{ "name": "s" }], "selector": { "generatorRef": { "kind": kind, "name": "g" } } },
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .unwrap(),
        )
    }

    #[test]
    fn a_push_that_waits_is_woken_too() {
        let mut index = Index::default();
        index.upsert_push_secret(pusher("waits", "Fake", "False"));
        index.upsert_push_secret(pusher("done", "Fake", "True"));
        index.upsert_push_secret(pusher("other", "UUID", "False"));
        index.upsert_push_secret(pusher("cluster", "ClusterGenerator", "False"));
        let woken = |wakes: GeneratorWakes| {
            let mut names: Vec<String> = wakes.push_secrets.iter().map(|(key, _)| key.to_string()).collect();
            names.sort();
            names
        };
        // one that is in line may be due all the same, and waits for the first list
        assert_eq!(woken(index.generator_watch(GeneratorKind::Fake, "", Ok(()))), ["ns/done", "ns/waits"]);
        assert_eq!(woken(index.upsert_generator(fake(1, 1))), ["ns/waits"], "the other keeps its value");
        assert_eq!(woken(index.upsert_generator(fake(1, 2))), Vec::<String>::new(), "only its metadata changed");
        let cluster = json!({ "kind": "UUID", "generator": { "uuidSpec": {} } });
        let cluster = generator(GeneratorKind::ClusterGenerator, 1, 1, cluster);
        assert_eq!(woken(index.upsert_generator(cluster)), ["ns/cluster"]);
        index.remove_push_secret(&Key::new("ns", "waits"));
        assert_eq!(woken(index.upsert_generator(fake(2, 3))), Vec::<String>::new());
    }

    #[test]
    fn who_waits_is_woken_when_the_generator_comes() {
        let mut index = Index::default();
        index.upsert_external_secret(user("new", "Fake", false));
        index.upsert_external_secret(user("done", "Fake", true));
        let id = fake(1, 1).id;
        assert!(matches!(index.generator(&id), GeneratorFacts::Unknown));
        assert_eq!(
            index.generator_watch(GeneratorKind::Fake, "", Ok(())).external_secrets.len(),
            2,
            "both waited for the first list"
        );
        assert!(matches!(index.generator(&id), GeneratorFacts::Missing));
        assert_eq!(
            index.upsert_generator(fake(1, 5)).external_secrets,
            [(Key::new("ns", "done"), Priority::Periodic), (Key::new("ns", "new"), Priority::New)],
            "the other may have been of another controller's"
        );
        assert!(matches!(index.generator(&id), GeneratorFacts::Found(_)));
        assert_eq!(index.upsert_generator(fake(1, 6)), nobody(), "only its metadata changed");
        assert_eq!(index.upsert_generator(fake(2, 4)), nobody(), "older than what is known");
        assert_eq!(index.upsert_generator(fake(2, 7)).external_secrets.len(), 1);
        index.remove_generator(&id);
        assert!(matches!(index.generator(&id), GeneratorFacts::Missing));
        index.remove_external_secret(&Key::new("ns", "new"));
        index.remove_external_secret(&Key::new("ns", "done"));
        assert_eq!(index.upsert_generator(fake(3, 8)), nobody());
    }

    /// Else what another controller's generator was for is refreshed by nobody, once that is deleted and made anew as ours.
    #[test]
    fn a_generator_that_is_made_anew_wakes_those_that_are_synced() {
        let mut index = Index::default();
        index.upsert_external_secret(user("done", "Fake", true));
        assert_eq!(index.upsert_generator(fake(1, 1)), nobody(), "the first list is not through");
        assert_eq!(index.generator_watch(GeneratorKind::Fake, "", Ok(())).external_secrets.len(), 1);
        index.remove_generator(&fake(1, 1).id);
        assert_eq!(index.upsert_generator(fake(1, 2)).external_secrets, [(Key::new("ns", "done"), Priority::Periodic)]);
        assert_eq!(index.upsert_generator(fake(2, 3)), nobody(), "it keeps its value");
    }

    /// Whose a generator is decides whether ExternalSecrets that are in line are refreshed any more. Whose a PushSecret is, its stores say.
    #[test]
    fn external_secrets_are_woken_when_a_generator_is_handed_to_another_controller() {
        let mut index = Index::default();
        index.upsert_external_secret(user("new", "Fake", false));
        index.upsert_external_secret(user("done", "Fake", true));
        index.upsert_external_secret(user("other", "UUID", true));
        index.upsert_push_secret(pusher("pushed", "Fake", "True"));
        index.upsert_push_secret(pusher("pushed-other", "UUID", "True"));
        let mut woken = |generation, class: &str| {
            let spec = json!({ "controller": class, "data": {} });
            let wakes = index.upsert_generator(generator(GeneratorKind::Fake, generation, generation, spec));
            let all = wakes.external_secrets.iter().chain(&wakes.push_secrets);
            let mut names: Vec<String> = all.map(|(key, _)| key.to_string()).collect();
            names.sort();
            names
        };
        assert_eq!(woken(1, ""), ["ns/new"]);
        assert_eq!(woken(2, "theirs"), ["ns/done", "ns/new"]);
        assert_eq!(woken(3, "theirs"), ["ns/new"], "the others keep their values");
        assert_eq!(woken(4, ""), ["ns/done", "ns/new"]);
    }

    #[test]
    fn a_watch_that_cannot_begin_is_told_and_recovers() {
        let mut index = Index::default();
        index.upsert_external_secret(user("new", "Fake", false));
        let id = fake(1, 1).id;
        assert_eq!(index.generator_watch(GeneratorKind::Fake, "ns", Err("forbidden".into())).external_secrets.len(), 1);
        assert_eq!(index.generator_watch(GeneratorKind::Fake, "ns", Err("forbidden".into())), nobody(), "no storm");
        assert!(matches!(index.generator(&id), GeneratorFacts::Unreadable(why) if why == "forbidden"));
        assert_eq!(index.generator_watch(GeneratorKind::Fake, "ns", Ok(())).external_secrets.len(), 1);
        assert_eq!(index.generator_watch(GeneratorKind::Fake, "ns", Err("cut".into())), nobody());
        assert!(matches!(index.generator(&id), GeneratorFacts::Missing), "what was known stays");
        assert_eq!(index.generator_watch(GeneratorKind::UUID, "", Ok(())), nobody(), "nobody uses that kind");
    }

    #[test]
    fn a_cluster_generator_stands_for_another() {
        let cluster = |spec| generator(GeneratorKind::ClusterGenerator, 1, 1, spec);
        let fine = cluster(json!({ "kind": "Fake", "generator": { "fakeSpec": { "controller": "c", "data": {} } } }));
        assert_eq!(fine.spec.unwrap().kind(), GeneratorKind::Fake);
        assert_eq!(fine.class.as_deref(), Some("c"));
        assert_eq!(&*fine.id.key.namespace, "");
        let wrong = |spec| cluster(spec).spec.unwrap_err().to_string();
        let other = wrong(json!({ "kind": "UUID", "generator": { "fakeSpec": {} } }));
        assert_eq!(other, "when kind is UUID, UUIDSpec must be set");
        let bad = wrong(json!({ "kind": "Password", "generator": { "passwordSpec": { "length": "x" } } }));
        assert_eq!(bad, "spec.generator.passwordSpec holds a field of another type than the definition says");
        assert_eq!(wrong(json!({})), "spec.kind and spec.generator must be set");
    }
}
