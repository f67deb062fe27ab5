//! A cluster of one namespace, which carries plans out as the controller and the API server do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, Time};
use serde_json::{Value, json};

use crate::api::{AnyStore, Condition, ExternalSecret, SecretStore};
use crate::index::{GeneratorFacts, GeneratorId, Key, StoreHealth, StoreId, TargetView};
use crate::plan::digest::Digester;
use crate::plan::external_secret::{
    self as plan, Decision, Facts, Failure, Gathered, Memory, Next, Report, StoreFacts, Written, seen,
};
use crate::plan::target::{Desired, Update};
use crate::plan::{Rules, Wake, template};
use crate::providers::{ErrorKind, ProviderError, ReferenceKind};
use crate::render::rewrite::testing::Sevens;
use crate::render::target::{Source, SourceText, Sources};
use crate::render::{Outside, Place};
use crate::secret_bytes::SecretBytes;

pub const UID: &str = "es-uid";

pub struct World {
    pub es: ExternalSecret,
    pub secrets: BTreeMap<String, Secret>,
    pub stores: BTreeMap<StoreId, StoreFacts>,
    pub generators: BTreeMap<GeneratorId, GeneratorFacts>,
    pub namespace_labels: BTreeMap<String, String>,
    pub memory: Memory,
    pub now: Timestamp,
    pub rules: Rules,
    /// What templates come from, as the shell would read it.
    pub sources: Sources,
    pub replace_at: Option<Timestamp>,
    /// Whether Secrets of former names cannot be deleted.
    pub keeps_orphans: bool,
    version: u64,
}

/// What one look at the object came to.
#[derive(Debug)]
pub struct Step {
    /// What was done, in order.
    pub did: Vec<&'static str>,
    /// What was reported.
    pub report: Option<Report>,
    /// When to look again.
    pub wake: Wake,
}

impl Step {
    pub fn condition(&self) -> &Condition {
        &self.report.as_ref().and_then(|r| r.status.as_ref()).expect("a status").conditions[0]
    }

    /// Status, reason and message of the condition.
    pub fn told(&self) -> (&str, &str, &str) {
        let c = self.condition();
        (&c.status, c.reason.as_deref().unwrap_or_default(), c.message.as_deref().unwrap_or_default())
    }

    /// Reasons of the events; those of warnings with a `!`.
    pub fn events(&self) -> Vec<String> {
        let notes = self.report.iter().flat_map(|r| &r.notes);
        notes.map(|n| format!("{}{}", n.reason, if n.warning { "!" } else { "" })).collect()
    }
}

/// A SecretStore of namespace `ns` that passed its check.
pub fn store(name: &str) -> (StoreId, StoreFacts) {
    let store: SecretStore = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "generation": 1 },
        "spec": { "provider": { "fake": { "data": [] } } },
    }))
    .unwrap();
    facts_of(store.into())
}

pub fn facts_of(store: AnyStore) -> (StoreId, StoreFacts) {
    let health = StoreHealth { ready: true, ..StoreHealth::default() };
    (StoreId::of(&store), StoreFacts { store: Some(Arc::new(store)), health: Some(health), values: None })
}

/// A spec with one entry, and more fields.
pub fn spec(more: &Value) -> Value {
    let mut spec = json!({
        "secretStoreRef": { "name": "store" },
        "refreshInterval": "1h",
        "data": [{ "secretKey": "k", "remoteRef": { "key": "remote" } }],
    });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    spec
}

/// A spec with these policies.
pub fn policies(creation: &str, deletion: &str) -> Value {
    spec(&json!({ "target": { "name": "t", "creationPolicy": creation, "deletionPolicy": deletion } }))
}

pub fn values(pairs: &[(&str, &str)]) -> Result<Gathered, Failure> {
    let data = pairs.iter().map(|(k, v)| ((*k).to_owned(), SecretBytes::from(*v))).collect();
    Ok(Gathered { data, ..Gathered::default() })
}

/// No values, as the provider says that what they are read from does not exist.
pub fn gone() -> Result<Gathered, Failure> {
    Ok(Gathered { missing: vec!["secret does not exist".into()], gone: true, ..Gathered::default() })
}

pub fn provider_failure(kind: ErrorKind) -> Result<Gathered, Failure> {
    Err(Failure::provider(&Place::Data { index: 0, key: "remote".into() }, &ProviderError::new(kind, "scripted")))
}

pub fn digester() -> Digester {
    Digester::new(b"test key")
}

impl World {
    pub fn new(spec: &Value) -> Self {
        let es = serde_json::from_value(json!({
            "metadata": { "name": "es", "namespace": "ns", "uid": UID, "generation": 1 }, "spec": spec,
        }))
        .unwrap();
        Self {
            es,
            secrets: BTreeMap::new(),
            stores: [store("store")].into(),
            generators: BTreeMap::new(),
            namespace_labels: BTreeMap::new(),
            memory: Memory::default(),
            now: "2026-06-01T12:00:00Z".parse().unwrap(),
            rules: Rules::default(),
            sources: Sources::new(),
            replace_at: None,
            keeps_orphans: false,
            version: 0,
        }
    }

    /// A world in which the first sync is done.
    pub fn synced(spec: &Value) -> Self {
        let mut world = Self::new(spec);
        world.look(values(&[("k", "v")]));
        world
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += SignedDuration::try_from(time).unwrap();
    }

    /// Changes the spec, as `kubectl apply` would.
    pub fn edit(&mut self, spec: &Value) {
        self.es.spec = serde_json::from_value(spec.clone()).unwrap();
        *self.es.metadata.generation.get_or_insert(0) += 1;
    }

    pub fn target(&self) -> &Secret {
        &self.secrets[self.es.target_name()]
    }

    /// Sees the cluster and the time as those of another object.
    pub fn join(&mut self, other: &Self) {
        (self.secrets, self.version, self.now) = (other.secrets.clone(), other.version, other.now);
    }

    /// The status of the last look could not be written: it is as it was `before`.
    pub fn lose_status(&mut self, before: &Facts) {
        self.es.status.clone_from(&before.es.status);
        self.memory = self.memory.clone().untold(&before.memory);
    }

    /// Keys and values of the target.
    pub fn data(&self) -> Vec<(String, String)> {
        let text = |v: &ByteString| String::from_utf8(v.0.clone()).unwrap();
        self.target().data.iter().flatten().map(|(k, v)| (k.clone(), text(v))).collect()
    }

    /// Puts a Secret there, or changes it, as somebody else would.
    pub fn meddle(&mut self, name: &str, change: impl FnOnce(&mut Secret)) {
        let version = self.next_version();
        let secret = self.secrets.entry(name.to_owned()).or_insert_with(|| fresh(name));
        change(secret);
        secret.metadata.resource_version = Some(version);
    }

    /// Somebody deletes the target, and a finalizer holds it.
    pub fn delete_held(&mut self) {
        let (name, now) = (self.es.target_name().to_owned(), self.now);
        self.meddle(&name, |secret| {
            secret.metadata.deletion_timestamp = Some(Time(now));
            secret.metadata.finalizers.get_or_insert_default().push("example.org/hold".into());
        });
    }

    pub fn facts(&self) -> Facts {
        let view = |secret: &Secret| TargetView::of(&secret.metadata);
        let owned = self.secrets.iter().map(|(name, secret)| (Key::new("ns", name), view(secret)));
        Facts {
            es: Arc::new(self.es.clone()),
            stores: self.stores.clone(),
            generators: self.generators.clone(),
            namespace_labels: Some(Arc::new(self.namespace_labels.clone())),
            target: self.secrets.get(self.es.target_name()).map(view),
            owned: owned.filter(|(_, v)| v.owner.is_some() && v.owner == self.es.metadata.name).collect(),
            sources: template::versions(&self.sources),
            replace_at: self.replace_at,
            memory: self.memory.clone(),
            now: self.now,
        }
    }

    /// Makes or changes a source of templates.
    pub fn write_source(&mut self, kind: ReferenceKind, name: &str, texts: &[(&str, &str)]) {
        let version = self.next_version();
        let texts = texts.iter().map(|(k, v)| ((*k).to_owned(), SecretBytes::from(*v))).collect();
        self.sources
            .insert(Source { kind, name: name.into() }, Some(SourceText { version, texts, ..SourceText::default() }));
    }

    /// Looks at the object once and carries the plan out; `provider` is what its values come to.
    pub fn look(&mut self, provider: Result<Gathered, Failure>) -> Step {
        let (facts, digester) = (self.facts(), digester());
        let mut did = Vec::new();
        let mut next = plan::before_fetch(&facts, &self.rules);
        if matches!(next, Next::Inspect) {
            did.push("inspect");
            let live = self.secrets.get(self.es.target_name());
            next = plan::after_inspection(&facts, &self.rules, live.map(|live| seen(&facts.es, live, &digester)));
        }
        let report = match next {
            Next::Ignore => return Step { did: vec!["ignore"], report: None, wake: Wake::OnChange },
            Next::Inspect => panic!("inspected twice"),
            Next::Idle(wake) => return Step { did, report: None, wake },
            Next::CleanUp(delete) => {
                if let Some((name, uid)) = delete {
                    assert_eq!(self.secrets.remove(&name).and_then(|s| s.metadata.uid), Some(uid));
                    did.push("delete");
                }
                did.push("finalize");
                return Step { did, report: None, wake: Wake::OnChange };
            }
            Next::Written(report) => {
                did.push("retire");
                self.sweep(&facts, *report, &mut did)
            }
            Next::Settle(report) if report.failure.is_none() && plan::may_have_left_orphans(&facts) => {
                self.sweep(&facts, *report, &mut did)
            }
            Next::Settle(report) => *report,
            Next::Fetch(_) => {
                did.push("fetch");
                let provider = provider.map(|g| Gathered { read_at: g.read_at.or(Some(self.now)), ..g });
                self.sync(&facts, provider, &mut did)
            }
        };
        if let Some(status) = &report.status {
            self.es.status = Some(status.clone());
        }
        self.memory = report.memory.clone();
        Step { did, wake: report.wake, report: Some(report) }
    }

    fn sync(&mut self, facts: &Facts, provider: Result<Gathered, Failure>, did: &mut Vec<&'static str>) -> Report {
        let mut decision = plan::after_fetch(facts, &self.rules, provider.as_ref(), &digester());
        if let (Decision::Render, Ok(gathered)) = (&decision, &provider) {
            did.push("render");
            let template = self.es.target().template.clone().unwrap();
            let outside = Outside { now: self.now, chance: &Sevens, taken: &Default::default() };
            let desired = template::render(facts, &self.rules, &template, gathered, &self.sources, outside, &digester());
            decision = plan::rendered(facts, desired);
        }
        let gathered = provider.unwrap_or_default();
        let report = self.write(facts, &gathered, decision, did);
        match report.failure {
            None if !gathered.data.is_empty() => self.sweep(facts, report, did),
            _ => report,
        }
    }

    fn sweep(&mut self, facts: &Facts, report: Report, did: &mut Vec<&'static str>) -> Report {
        let orphans = plan::orphans(facts);
        for (key, _) in &orphans {
            did.push("orphan");
            if self.keeps_orphans {
                let failure = Failure::retry(plan::ORPHANS_LEFT, "the API server did not answer".into());
                return plan::swept(facts, report, Err(failure));
            }
            self.secrets.remove(&*key.name);
        }
        plan::swept(facts, report, Ok(orphans.len()))
    }

    fn write(&mut self, facts: &Facts, gathered: &Gathered, decision: Decision, did: &mut Vec<&'static str>) -> Report {
        let name = self.es.target_name().to_owned();
        let mut read = None;
        let decision = match decision {
            Decision::ReadTarget(desired) => {
                did.push("read");
                let live = self.secrets.get(&name);
                read = live.map(|l| plan::data_digest(&desired, l, &digester()));
                plan::with_target(facts, &self.rules, desired, live)
            }
            decision => decision,
        };
        let (applied, written) = match decision {
            Decision::Settle(report) => return *report,
            Decision::ReadTarget(_) | Decision::Render => panic!("asked twice"),
            Decision::Keep(applied) => {
                did.push("keep");
                let resource_version = facts.target.as_ref().unwrap().resource_version.clone();
                (applied, Ok(Written::Kept { resource_version, data: read }))
            }
            Decision::Create(desired) => {
                did.push("create");
                assert!(!self.secrets.contains_key(&name));
                let written = self.apply(&desired, true);
                (desired.applied, Ok(written))
            }
            Decision::Update(update) => {
                did.push("update");
                let written = self.update(&update);
                let result = update.then.map_or(Ok(written), Err);
                (update.desired.applied, result)
            }
            Decision::Delete { uid } => {
                did.push("delete");
                assert_eq!(self.secrets.remove(&name).and_then(|s| s.metadata.uid), Some(uid));
                (String::new(), Ok(Written::Deleted))
            }
        };
        plan::settle(facts, gathered, &applied, written.as_ref())
    }

    fn update(&mut self, update: &Update) -> Written {
        let name = update.desired.name.clone();
        let secret = self.secrets.get_mut(&name).unwrap();
        assert_eq!(secret.metadata.resource_version.as_ref(), Some(&update.resource_version));
        if let Some(entries) = &update.managed_fields {
            secret.metadata.managed_fields = Some(entries.clone());
        }
        let written = self.apply(&update.desired, false);
        let secret = self.secrets.get_mut(&name).unwrap();
        for key in &update.remove {
            secret.data.get_or_insert_default().remove(key);
        }
        match written {
            Written::Applied { created, resource_version, .. } => Written::Applied {
                created,
                changed: !update.quiet,
                resource_version,
                data: plan::data_digest(&update.desired, secret, &digester()),
            },
            other => other,
        }
    }

    /// Server-side apply by our field manager: sets what is named, takes away what we named before and name no more.
    fn apply(&mut self, desired: &Desired, created: bool) -> Written {
        let (now, version) = (self.now, self.next_version());
        let secret = self.secrets.entry(desired.name.clone()).or_insert_with(|| fresh(&desired.name));
        let frozen = (secret.immutable == Some(true)).then(|| secret.data.clone());
        let ours = |e: &ManagedFieldsEntry| e.manager.as_deref() == Some(&desired.manager);
        let before = secret.metadata.managed_fields.iter().flatten().find(|e| ours(e)).and_then(|e| e.fields_v1.clone());
        let before = before.map(|f| f.0).unwrap_or_default();
        let owned = |fields: &Value| -> Vec<String> {
            let names = fields.as_object().into_iter().flatten();
            names.filter_map(|(k, _)| Some(k.strip_prefix("f:")?.to_owned())).collect()
        };
        let meta = &mut secret.metadata;
        let data = secret.data.get_or_insert_default();
        let differs = |(key, value): (&String, &SecretBytes)| data.get(key).is_some_and(|old| old.0 != value.expose());
        let forced: Vec<String> =
            desired.data.iter().filter(|one| differs(*one)).map(|(key, _)| format!("f:{key}")).collect();
        for key in owned(&before["f:data"]) {
            data.remove(&key);
        }
        for (map, field) in [(&mut meta.labels, "f:labels"), (&mut meta.annotations, "f:annotations")] {
            let map = map.get_or_insert_default();
            for key in owned(&before["f:metadata"][field]) {
                map.remove(&key);
            }
            map.extend(if field == "f:labels" { desired.labels.clone() } else { desired.annotations.clone() });
        }
        data.extend(desired.data.iter().map(|(k, v)| (k.clone(), ByteString(v.expose().to_vec()))));
        let finalizers = meta.finalizers.get_or_insert_default();
        let adds = desired.finalizers.iter().any(|f| !finalizers.contains(f));
        assert!(!adds || meta.deletion_timestamp.is_none(), "the API server takes no new finalizers in deletion");
        finalizers.retain(|f| before["f:metadata"]["f:finalizers"].get(format!("v:{}", json!(f))).is_none());
        finalizers.extend(desired.finalizers.clone());
        let owners = meta.owner_references.get_or_insert_default();
        owners.retain(|o| before["f:metadata"]["f:ownerReferences"].get(format!("k:{{\"uid\":\"{}\"}}", o.uid)).is_none());
        owners.extend(desired.owner.clone());
        owners.dedup();
        if desired.immutable {
            secret.immutable = Some(true);
        }
        let left = before.get("f:type").map(|_| "Opaque".to_owned());
        if let Some(wanted) = desired.type_.clone().or(left) {
            assert!(created || secret.type_.as_ref() == Some(&wanted), "the API server refuses to change a type");
            secret.type_ = Some(wanted);
        }
        if let Some(frozen) = frozen {
            assert_eq!(secret.data, frozen, "the API server refuses to change an immutable Secret");
        }
        meta.resource_version = Some(version.clone());
        let entries = meta.managed_fields.get_or_insert_default();
        entries.retain(|e| !ours(e));
        for fields in entries.iter_mut().filter_map(|e| e.fields_v1.as_mut()?.0.get_mut("f:data")?.as_object_mut()) {
            fields.retain(|key, _| !forced.contains(key));
        }
        let entry = managed(&desired.manager, "Apply", &fields_of(desired));
        entries.push(ManagedFieldsEntry { time: Some(Time(now)), ..entry });
        let digest = plan::data_digest(desired, secret, &digester());
        Written::Applied { created, changed: true, resource_version: version, data: digest }
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }
}

fn fresh(name: &str) -> Secret {
    let mut secret = Secret::default();
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.namespace = Some("ns".into());
    secret.metadata.uid = Some(format!("uid of {name}"));
    secret
}

/// An entry of `managedFields`.
pub fn managed(manager: &str, operation: &str, fields: &Value) -> ManagedFieldsEntry {
    ManagedFieldsEntry {
        manager: Some(manager.into()),
        operation: Some(operation.into()),
        fields_v1: Some(FieldsV1(fields.clone())),
        ..ManagedFieldsEntry::default()
    }
}

fn fields_of(desired: &Desired) -> Value {
    let set = |keys: Vec<&String>| -> Value { keys.iter().map(|k| (format!("f:{k}"), json!({}))).collect() };
    let owners: Value = desired.owner.iter().map(|o| (format!("k:{{\"uid\":\"{}\"}}", o.uid), json!({}))).collect();
    let finalizers: Value = desired.finalizers.iter().map(|f| (format!("v:{}", json!(f)), json!({}))).collect();
    let mut fields = json!({
        "f:data": set(desired.data.keys().collect()),
        "f:metadata": {
            "f:labels": set(desired.labels.keys().collect()),
            "f:annotations": set(desired.annotations.keys().collect()),
            "f:ownerReferences": owners,
            "f:finalizers": finalizers,
        },
    });
    if desired.immutable {
        fields["f:immutable"] = json!({});
    }
    if desired.type_.is_some() {
        fields["f:type"] = json!({});
    }
    fields
}
