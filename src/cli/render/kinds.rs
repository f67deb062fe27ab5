//! The kinds that are read, and what the API server would say of their objects: by our own CRDs.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Value, json};

use crate::api::external_secret::GeneratorKind;
use crate::api::{StoreKind, crds, generators, structural};

/// Kinds that are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ExternalSecret,
    PushSecret,
    ClusterExternalSecret,
    ClusterPushSecret,
    Store(StoreKind),
    ConfigMap,
    Secret,
    Namespace,
    Generator(GeneratorKind),
    /// One of ours, of this group, that makes no Secret by itself.
    Checked(&'static str),
}

impl Kind {
    /// Whether an object of this kind, of that name, is in a namespace.
    pub(super) fn is_namespaced(self, name: &str) -> bool {
        self != Self::Namespace && !name.starts_with("Cluster")
    }
}

/// What our CRDs say of a kind.
struct Definition {
    group: String,
    versions: Vec<String>,
    /// All versions have the same.
    schema: Value,
    /// Its rules across fields, compiled when an object of the kind comes.
    rules: OnceLock<CompiledSchema>,
}

impl Definition {
    /// What the API server would say of an object.
    fn errors(&self, object: &Value) -> Vec<String> {
        thread_local! {
            static VALIDATOR: Validator = Validator::new();
        }
        let errors = structural::errors(&self.schema, object);
        if !errors.is_empty() {
            return errors;
        }
        let rules = self.rules.get_or_init(|| compile_schema(&self.schema));
        match VALIDATOR.with(|validator| validator.validate_compiled(rules, object, None)) {
            Ok(()) => Vec::new(),
            Err(broken) => broken.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The kind, where it is one that is read. One that the groups of ours do not have is told: it is no kind of anybody else's.
pub(super) fn kind_of(version: &str, kind: &str) -> Result<Option<Kind>, String> {
    match (version, kind) {
        ("v1", "ConfigMap") => return Ok(Some(Kind::ConfigMap)),
        ("v1", "Secret") => return Ok(Some(Kind::Secret)),
        ("v1", "Namespace") => return Ok(Some(Kind::Namespace)),
        _ => {}
    }
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let Some(definition) = definition(group, kind) else {
        let all = definitions().iter().filter(|(_, definitions)| definitions.iter().any(|d| d.group == group));
        let known: Vec<&str> = all.map(|(kind, _)| kind.as_str()).collect();
        return match known.is_empty() {
            true => Ok(None),
            false => Err(format!("kind: {group} has no such kind; known are {}", known.join(", "))),
        };
    };
    if !definition.versions.iter().any(|known| known == version) {
        let known: Vec<String> = definition.versions.iter().map(|version| format!("{group}/{version}")).collect();
        return Err(format!("apiVersion: must be {}", known.join(" or ")));
    }
    if group == generators::GROUP
        && let Ok(kind) = serde_json::from_value::<GeneratorKind>(json!(kind))
    {
        return Ok(Some(Kind::Generator(kind)));
    }
    Ok(Some(match kind {
        "ExternalSecret" => Kind::ExternalSecret,
        "PushSecret" => Kind::PushSecret,
        "ClusterExternalSecret" => Kind::ClusterExternalSecret,
        "ClusterPushSecret" => Kind::ClusterPushSecret,
        "SecretStore" => Kind::Store(StoreKind::SecretStore),
        "ClusterSecretStore" => Kind::Store(StoreKind::ClusterSecretStore),
        _ => Kind::Checked(&definition.group),
    }))
}

fn definition(group: &str, kind: &str) -> Option<&'static Definition> {
    definitions().get(kind)?.iter().find(|definition| definition.group == group)
}

/// All that we define, by kind.
fn definitions() -> &'static BTreeMap<String, Vec<Definition>> {
    static ALL: LazyLock<BTreeMap<String, Vec<Definition>>> = LazyLock::new(|| {
        let mut all: BTreeMap<String, Vec<Definition>> = BTreeMap::new();
        for crd in crds::all().unwrap_or_default() {
            let versions = crd.spec.versions.iter().map(|version| version.name.clone()).collect();
            let schema = crd.spec.versions.into_iter().next().and_then(|version| version.schema?.open_api_v3_schema);
            let schema = serde_json::to_value(schema).unwrap_or_default();
            let definition = Definition { group: crd.spec.group, versions, schema, rules: OnceLock::new() };
            all.entry(crd.spec.names.kind).or_default().push(definition);
        }
        all
    });
    &ALL
}

/// Checks an object as the API server does it, and gives it as it would be stored. Its status is left out: it says nothing about
/// what is wanted; its metadata is checked elsewhere.
pub(super) fn check_schema(group: &str, kind: &str, value: &Value, problems: &mut Vec<String>) -> Value {
    let mut object = value.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
        fields.insert("metadata".into(), json!({}));
    }
    if let Some(definition) = definition(group, kind) {
        object = structural::without_nulls(&definition.schema, &object);
        problems.extend(definition.errors(&object));
    }
    object
}
