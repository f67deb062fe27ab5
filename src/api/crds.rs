//! The CustomResourceDefinitions, made from the types. `crds/` holds what [`files`] gives.

mod yaml;

use std::collections::BTreeSet;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Resource;
use kube::core::schema::StructuralSchemaRewriter;
use schemars::generate::SchemaSettings;
use schemars::transform::{RestrictFormats, Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use super::generators::{
    self, ClusterGenerator, ClusterGeneratorSpec, Generator, GeneratorState, GeneratorStateSpec, generator_kinds,
};
use super::{ClusterExternalSecret, ClusterExternalSecretSpec, ClusterExternalSecretStatus};
use super::{ClusterPushSecret, ClusterPushSecretSpec, ClusterPushSecretStatus};
use super::{ClusterSecretStore, ExternalSecret, ExternalSecretSpec, ExternalSecretStatus};
use super::{PushSecret, PushSecretSpec, PushSecretStatus};
use super::{SecretStore, StoreSpec, StoreStatus};

/// Why the definitions could not be made: a mistake in the types, which the tests find.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// The schema is not one that Kubernetes knows.
    #[error("a definition is not a CustomResourceDefinition: {0}")]
    Shape(#[from] serde_json::Error),
}

/// Served versions of ESO's grown-up kinds, the stored one first. All have one schema, so nothing is converted.
const VERSIONS: &[&str] = &["v1", "v1beta1"];

/// Formats that the API server knows; it warns about any other.
const FORMATS: [&str; 5] = ["byte", "date-time", "double", "int32", "int64"];

/// Every definition.
///
/// # Errors
/// [`CrdError::Shape`], by a mistake in the types.
pub fn all() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    let mut all = vec![
        definition::<ExternalSecret>(&Kind {
            versions: VERSIONS,
            short: Some("es"),
            categories: &["external-secrets"],
            scope: "Namespaced",
            description: "Brings values from a store into one Secret of its own namespace.",
            spec: schema::<ExternalSecretSpec>(),
            status: Some(schema::<ExternalSecretStatus>()),
            columns: json!([
                column("StoreType", ".spec.secretStoreRef.kind", "string"),
                column("Store", ".spec.secretStoreRef.name", "string"),
                column("Refresh Interval", ".spec.refreshInterval", "string"),
                column("Status", READY_REASON, "string"),
                column("Ready", READY_STATUS, "string"),
                column("Last Sync", ".status.refreshTime", "date"),
            ]),
            selectable: &[
                ".spec.secretStoreRef.name",
                ".spec.secretStoreRef.kind",
                ".spec.target.name",
                ".spec.refreshInterval",
            ],
        })?,
        definition::<SecretStore>(&store("ss", "Namespaced", "A secret manager for the ExternalSecrets of one namespace."))?,
        definition::<ClusterSecretStore>(&store(
            "css",
            "Cluster",
            "A secret manager for the ExternalSecrets of many namespaces.",
        ))?,
        definition::<ClusterExternalSecret>(&Kind {
            versions: VERSIONS,
            short: Some("ces"),
            categories: &["external-secrets"],
            scope: "Cluster",
            description: "Has the same ExternalSecret in many namespaces.",
            spec: schema::<ClusterExternalSecretSpec>(),
            status: Some(schema::<ClusterExternalSecretStatus>()),
            columns: json!([
                column("Store", ".spec.externalSecretSpec.secretStoreRef.name", "string"),
                column("Refresh Interval", ".spec.refreshTime", "string"),
                column("Ready", READY_STATUS, "string"),
            ]),
            selectable: &[],
        })?,
        definition::<ClusterPushSecret>(&Kind {
            versions: &["v1alpha1"],
            short: None,
            categories: &["external-secrets"],
            scope: "Cluster",
            description: "Has the same PushSecret in many namespaces.",
            spec: schema::<ClusterPushSecretSpec>(),
            status: Some(schema::<ClusterPushSecretStatus>()),
            columns: json!(
                [column("AGE", ".metadata.creationTimestamp", "date"), column("Status", READY_REASON, "string"),]
            ),
            selectable: &[],
        })?,
        definition::<PushSecret>(&Kind {
            versions: &["v1alpha1"],
            short: Some("ps"),
            categories: &["external-secrets"],
            scope: "Namespaced",
            description: "Writes values of a Secret of its own namespace to stores.",
            spec: schema::<PushSecretSpec>(),
            status: Some(schema::<PushSecretStatus>()),
            columns: json!([
                column("AGE", ".metadata.creationTimestamp", "date"),
                column("Status", READY_REASON, "string"),
                column("Last Sync", ".status.refreshTime", "date"),
            ]),
            selectable: &[],
        })?,
    ];
    all.extend(generators()?);
    Ok(all)
}

macro_rules! namespaced_generators {
    ($($kind:ident, $plural:literal, $field:ident = $name:literal: $spec:ident, $about:literal;)+) => {
        /// Definitions of the namespaced generators.
        fn namespaced_generators() -> Result<Vec<CustomResourceDefinition>, CrdError> {
            Ok(vec![$(
                definition::<Generator<generators::$spec>>(&generator("Namespaced", $about, schema::<generators::$spec>()))?,
            )+])
        }
    };
}
generator_kinds!(namespaced_generators);

/// Definitions of the group `generators.external-secrets.io`.
fn generators() -> Result<Vec<CustomResourceDefinition>, CrdError> {
    let mut all = namespaced_generators()?;
    let about = "A generator for the ExternalSecrets of many namespaces.";
    all.push(definition::<ClusterGenerator>(&generator("Cluster", about, schema::<ClusterGeneratorSpec>()))?);
    all.push(definition::<GeneratorState>(&Kind {
        short: Some("gs"),
        status: None,
        columns: json!([
            column("GC Deadline", ".spec.garbageCollectionDeadline", "string"),
            column("Age", ".metadata.creationTimestamp", "date"),
        ]),
        ..generator(
            "Namespaced",
            "What a generator made and must clean up once it is out of use.",
            schema::<GeneratorStateSpec>(),
        )
    })?);
    Ok(all)
}

/// What all kinds of generators have alike.
fn generator(scope: &'static str, description: &'static str, spec: Schema) -> Kind {
    Kind {
        versions: &[generators::VERSION],
        short: None,
        categories: &["external-secrets", "external-secrets-generators"],
        scope,
        description,
        spec,
        status: Some(schema::<NoStatus>()),
        columns: json!([]),
        selectable: &[],
    }
}

/// A status that nobody writes: ESO's definitions have one.
#[derive(JsonSchema)]
struct NoStatus {}

/// Every definition as a file: its name and its YAML.
///
/// # Errors
/// [`CrdError`], by a mistake in the types.
pub fn files() -> Result<Vec<(String, String)>, CrdError> {
    all()?
        .iter()
        .map(|crd| {
            let name = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
            Ok((
                name,
                format!("---\n# Made by `keyferry crds`; do not edit.\n{}", yaml::document(&serde_json::to_value(crd)?)),
            ))
        })
        .collect()
}

/// Every definition in one YAML stream, as `keyferry crds` prints it.
///
/// # Errors
/// [`CrdError`], by a mistake in the types.
pub fn yaml() -> Result<String, CrdError> {
    Ok(files()?.into_iter().map(|(_, text)| text).collect())
}

const READY_REASON: &str = r#".status.conditions[?(@.type=="Ready")].reason"#;
const READY_STATUS: &str = r#".status.conditions[?(@.type=="Ready")].status"#;

/// What one kind's definition has of its own.
struct Kind {
    /// Served versions, the stored one first.
    versions: &'static [&'static str],
    short: Option<&'static str>,
    categories: &'static [&'static str],
    scope: &'static str,
    description: &'static str,
    spec: Schema,
    /// `None`: the kind has no status subresource.
    status: Option<Schema>,
    columns: Value,
    selectable: &'static [&'static str],
}

fn store(short: &'static str, scope: &'static str, description: &'static str) -> Kind {
    Kind {
        versions: VERSIONS,
        short: Some(short),
        categories: &["external-secrets"],
        scope,
        description,
        spec: schema::<StoreSpec>(),
        status: Some(schema::<StoreStatus>()),
        columns: json!([
            column("AGE", ".metadata.creationTimestamp", "date"),
            column("Status", READY_REASON, "string"),
            column("Capabilities", ".status.capabilities", "string"),
            column("Ready", READY_STATUS, "string"),
        ]),
        selectable: &[],
    }
}

fn column(name: &str, path: &str, kind: &str) -> Value {
    json!({ "name": name, "jsonPath": path, "type": kind })
}

fn definition<K: Resource<DynamicType = ()>>(own: &Kind) -> Result<CustomResourceDefinition, CrdError> {
    let (group, kind, plural) = (K::group(&()), K::kind(&()), K::plural(&()));
    let versions: Vec<Value> = own.versions.iter().map(|name| version(name, own)).collect();
    // What the API server would fill in (singular, listKind, conversion) is written out, so that a GitOps tool sees no drift.
    let mut names = json!({
        "kind": kind,
        "listKind": format!("{kind}List"),
        "plural": plural,
        "singular": kind.to_lowercase(),
        "categories": own.categories,
    });
    if let Some(short) = own.short {
        names["shortNames"] = json!([short]);
    }
    Ok(serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": format!("{plural}.{group}"),
            "labels": { "external-secrets.io/component": "controller" },
        },
        "spec": {
            "group": group,
            "names": names,
            "scope": own.scope,
            "conversion": { "strategy": "None" },
            "versions": versions,
        },
    }))?)
}

fn version(name: &str, own: &Kind) -> Value {
    let stored = own.versions.first() == Some(&name);
    let mut properties = json!({
        "apiVersion": { "type": "string", "description": "API version of the object." },
        "kind": { "type": "string", "description": "Kind of the object." },
        "metadata": { "type": "object" },
        "spec": own.spec,
    });
    if let Some(status) = &own.status {
        properties["status"] = json!(status);
    }
    // The stored version says what each field is: once, as there is room for no more (see `ANNOTATIONS_MAX` in the tests). But where
    // fields are selectable, versions with different schemas are refused by the API server ("spec.selectableFields … may only be set
    // when validations.schema is included").
    if !stored && own.selectable.is_empty() {
        undescribe(&mut properties);
    }
    let mut version = json!({
        "name": name,
        "served": true,
        "storage": stored,
        "schema": { "openAPIV3Schema": {
            "type": "object",
            "description": own.description,
            "properties": properties,
        }},
    });
    if own.columns.as_array().is_some_and(|columns| !columns.is_empty()) {
        version["additionalPrinterColumns"] = own.columns.clone();
    }
    if own.status.is_some() {
        version["subresources"] = json!({ "status": {} });
    }
    if !own.selectable.is_empty() {
        version["selectableFields"] = own.selectable.iter().map(|path| json!({ "jsonPath": path })).collect();
    }
    version
}

/// Takes the descriptions out of a schema; a field of that name is an object, and stays.
fn undescribe(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("description").is_some_and(Value::is_string) {
                map.remove("description");
            }
            map.values_mut().for_each(undescribe);
        }
        Value::Array(list) => list.iter_mut().for_each(undescribe),
        _ => {}
    }
}

/// The structural schema of a type.
fn schema<T: JsonSchema>() -> Schema {
    let mut formats = RestrictFormats::default();
    formats.infer_from_meta_schema = false;
    formats.allowed_formats = FORMATS.into_iter().map(Into::into).collect::<BTreeSet<_>>();
    SchemaSettings::openapi3()
        .with(|settings| {
            settings.meta_schema = None;
            settings.inline_subschemas = true;
            settings.transforms.insert(0, Box::new(Optional));
        })
        .with_transform(StructuralSchemaRewriter)
        .with_transform(formats)
        .with_transform(WholeSelectors)
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Makes an optional field one that is not nullable and has no default. A `null` is then dropped by the API server before it
/// is stored, so that no reader meets one, and nothing is filled in that a GitOps tool would see as drift. Titles go too.
#[derive(Clone, Debug)]
struct Optional;

impl Transform for Optional {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        schema.remove("default");
        schema.remove("title");
        for keyword in ["type", "enum"] {
            if let Some(Value::Array(values)) = schema.get_mut(keyword) {
                values.retain(|v| !v.is_null() && v != "null");
            }
        }
        if let Some(Value::Array(types)) = schema.get_mut("type")
            && let [only] = types.as_slice()
        {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
        if let Some(Value::Array(variants)) = schema.get_mut("anyOf") {
            variants.retain(|v| v.get("type").is_none_or(|t| t != "null"));
            if variants.len() == 1
                && let Some(Value::Object(only)) = variants.pop()
            {
                schema.remove("anyOf");
                let object = schema.ensure_object();
                for (keyword, value) in only {
                    object.entry(keyword).or_insert(value); // the field's own words win over its type's
                }
            }
        }
    }
}

/// Has a label selector replaced as a whole by server-side apply, as in ESO: of two that were united, fewer objects would match.
#[derive(Clone, Debug)]
struct WholeSelectors;

impl Transform for WholeSelectors {
    fn transform(&mut self, schema: &mut Schema) {
        const SELECTOR: [&str; 2] = ["matchExpressions", "matchLabels"];
        transform_subschemas(self, schema);
        let fields = schema.get("properties").and_then(Value::as_object);
        if fields.is_some_and(|fields| fields.len() == 2 && fields.keys().all(|name| SELECTOR.contains(&name.as_str()))) {
            schema.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
    }
}
