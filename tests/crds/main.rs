//! The CustomResourceDefinitions: what is in them, that `crds/` holds them, and which manifests they take.
//! `UPDATE=1 cargo test --test crds` writes `crds/` anew.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod generators;
mod manifests;
mod rules;
mod shapes;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use keyferry::api::crds;
use kube::core::cel::{CompiledSchema, Validator, compile_schema};
use serde_json::{Value, json};

/// Most bytes that all annotations of an object may have; `kubectl apply` puts the whole object into one.
const ANNOTATIONS_MAX: usize = 262_144;

/// The kinds that we define.
const KINDS: &[&str] =
    &["ExternalSecret", "SecretStore", "ClusterSecretStore", "ClusterExternalSecret", "ClusterPushSecret", "PushSecret"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The schemas of a kind, one for each version, the stored one first.
fn schemas(kind: &str) -> Vec<Value> {
    let all = crds::all().unwrap();
    let crd = all.iter().find(|c| c.spec.names.kind == kind).expect("a kind that we define");
    let of = |version: &CustomResourceDefinitionVersion| {
        serde_json::to_value(version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
    };
    crd.spec.versions.iter().map(of).collect()
}

/// The schema of a kind in its stored version.
fn schema(kind: &str) -> Value {
    schemas(kind).swap_remove(0)
}

/// What the API server checks objects of a kind with.
struct Admission {
    schema: Value,
    rules: CompiledSchema,
}

impl Admission {
    /// That of a kind; all versions have the same.
    fn of(kind: &str) -> &'static Self {
        static ALL: LazyLock<BTreeMap<&str, Admission>> = LazyLock::new(|| {
            let one = |kind| {
                let schema = schema(kind);
                (kind, Admission { rules: compile_schema(&schema), schema })
            };
            KINDS.iter().copied().map(one).collect()
        });
        ALL.get(kind).expect("a kind that we define")
    }

    /// What breaks a rule, as `path: message`.
    fn broken_rules(&self, object: &Value) -> Vec<String> {
        thread_local! {
            static VALIDATOR: Validator = Validator::new();
        }
        VALIDATOR.with(|validator| match validator.validate_compiled(&self.rules, object, None) {
            Ok(()) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        })
    }
}

/// Calls `f` with each schema in a schema, and its path.
fn visit(schema: &Value, path: &str, f: &mut impl FnMut(&str, &Value)) {
    f(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        visit(property, &format!("{path}.{name}"), f);
    }
    for (keyword, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[keyword].is_object() {
            visit(&schema[keyword], &format!("{path}{mark}"), f);
        }
    }
}

fn each_schema(mut f: impl FnMut(&str, &Value)) {
    for kind in KINDS {
        visit(&schema(kind), kind, &mut f);
    }
}

#[test]
fn the_folder_holds_what_the_types_say() {
    let folder = root().join("crds");
    let files = crds::files().unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in &files {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    let mut found: Vec<_> = fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    let mut wanted: Vec<_> = files.iter().map(|(name, _)| name.clone()).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted, "crds/ holds other files: run `make generate`");
    for (name, text) in &files {
        let old = fs::read_to_string(folder.join(name)).unwrap();
        assert!(old == *text, "crds/{name} is not what the types say: run `make generate`");
    }
}

#[test]
fn the_yaml_is_the_definition() {
    let read: Vec<CustomResourceDefinition> = serde_saphyr::from_multiple(&crds::yaml().unwrap()).unwrap();
    assert_eq!(read, crds::all().unwrap());
}

#[test]
fn kubectl_apply_can_keep_a_copy_in_an_annotation() {
    for crd in crds::all().unwrap() {
        let json = serde_json::to_string(&crd).unwrap();
        assert!(json.len() < ANNOTATIONS_MAX - 4096, "{} has {} bytes", crd.metadata.name.unwrap(), json.len());
    }
    for (name, text) in crds::files().unwrap() {
        assert!(text.len() < ANNOTATIONS_MAX, "{name} has {} bytes", text.len());
    }
}

#[test]
fn names_scopes_and_versions_are_those_of_eso() {
    let ours = crds::all().unwrap().into_iter().filter(|crd| crd.spec.group == keyferry::api::GROUP);
    let all = serde_json::to_value(ours.collect::<Vec<_>>()).unwrap();
    let facts: Vec<Value> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|crd| {
            let names = &crd["spec"]["names"];
            json!([crd["metadata"]["name"], names["kind"], names["shortNames"], crd["spec"]["scope"]])
        })
        .collect();
    assert_eq!(
        facts,
        [
            json!(["externalsecrets.external-secrets.io", "ExternalSecret", ["es"], "Namespaced"]),
            json!(["secretstores.external-secrets.io", "SecretStore", ["ss"], "Namespaced"]),
            json!(["clustersecretstores.external-secrets.io", "ClusterSecretStore", ["css"], "Cluster"]),
            json!(["clusterexternalsecrets.external-secrets.io", "ClusterExternalSecret", ["ces"], "Cluster"]),
            json!(["clusterpushsecrets.external-secrets.io", "ClusterPushSecret", null, "Cluster"]),
            json!(["pushsecrets.external-secrets.io", "PushSecret", ["ps"], "Namespaced"]),
        ]
    );
    for crd in all.as_array().unwrap() {
        assert_eq!(crd["metadata"]["labels"], json!({ "external-secrets.io/component": "controller" }));
        assert_eq!(crd["spec"]["names"]["categories"], json!(["external-secrets"]));
        assert_eq!(crd["spec"]["conversion"], json!({ "strategy": "None" }));
        let versions: Vec<Value> = crd["spec"]["versions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| json!([v["name"], v["served"], v["storage"], v["subresources"], v["deprecated"]]))
            .collect();
        let status = json!({ "status": {} });
        let wanted = match crd["spec"]["names"]["kind"].as_str().unwrap() {
            "ExternalSecret" | "SecretStore" | "ClusterSecretStore" | "ClusterExternalSecret" => {
                vec![json!(["v1", true, true, status, null]), json!(["v1beta1", true, false, status, null])]
            }
            _ => vec![json!(["v1alpha1", true, true, status, null])],
        };
        assert_eq!(versions, wanted);
    }
}

#[test]
fn columns_and_selectable_fields_are_those_of_eso() {
    let all = serde_json::to_value(crds::all().unwrap()).unwrap();
    let store: &[(&str, &str)] = &[
        ("AGE", ".metadata.creationTimestamp"),
        ("Status", r#".status.conditions[?(@.type=="Ready")].reason"#),
        ("Capabilities", ".status.capabilities"),
        ("Ready", r#".status.conditions[?(@.type=="Ready")].status"#),
    ];
    let external_secret: &[(&str, &str)] = &[
        ("StoreType", ".spec.secretStoreRef.kind"),
        ("Store", ".spec.secretStoreRef.name"),
        ("Refresh Interval", ".spec.refreshInterval"),
        ("Status", r#".status.conditions[?(@.type=="Ready")].reason"#),
        ("Ready", r#".status.conditions[?(@.type=="Ready")].status"#),
        ("Last Sync", ".status.refreshTime"),
    ];
    let push_secret: &[(&str, &str)] = &[
        ("AGE", ".metadata.creationTimestamp"),
        ("Status", r#".status.conditions[?(@.type=="Ready")].reason"#),
        ("Last Sync", ".status.refreshTime"),
    ];
    let cluster_external_secret: &[(&str, &str)] = &[
        ("Store", ".spec.externalSecretSpec.secretStoreRef.name"),
        ("Refresh Interval", ".spec.refreshTime"),
        ("Ready", r#".status.conditions[?(@.type=="Ready")].status"#),
    ];
    let all_columns = [external_secret, store, store, cluster_external_secret, &push_secret[..2], push_secret];
    for (crd, columns) in all.as_array().unwrap().iter().zip(all_columns) {
        for version in crd["spec"]["versions"].as_array().unwrap() {
            let wanted: Vec<Value> = columns
                .iter()
                .map(|(name, path)| {
                    let kind = if matches!(*name, "AGE" | "Last Sync") { "date" } else { "string" };
                    json!({ "name": name, "jsonPath": path, "type": kind })
                })
                .collect();
            assert_eq!(version["additionalPrinterColumns"], Value::from(wanted));
        }
    }
    let selectable: Vec<&str> = all[0]["spec"]["versions"][0]["selectableFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["jsonPath"].as_str().unwrap())
        .collect();
    assert_eq!(
        selectable,
        [".spec.secretStoreRef.name", ".spec.secretStoreRef.kind", ".spec.target.name", ".spec.refreshInterval"]
    );
}

#[test]
fn schemas_are_structural_and_have_no_default() {
    const KNOWN: &[&str] = &[
        "type",
        "format",
        "description",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "nullable",
        "x-kubernetes-validations",
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-map-type",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ];
    each_schema(|path, schema| {
        for keyword in schema.as_object().unwrap().keys() {
            assert!(KNOWN.contains(&keyword.as_str()), "{path} has the keyword {keyword}");
        }
        assert!(
            schema["type"].is_string() != (schema["x-kubernetes-int-or-string"] == true)
                || schema == &json!({ "description": schema["description"], "x-kubernetes-preserve-unknown-fields": true }),
            "{path} has no type, or one too many"
        );
        if let Some(format) = schema["format"].as_str() {
            assert!(["byte", "date-time", "double", "int32", "int64"].contains(&format), "{path} has the format {format}");
        }
        if schema["nullable"] == true {
            assert!(path.ends_with(".status.refreshTime"), "{path} may be null");
        }
    });
}

/// As in ESO: of two managers' selectors, server-side apply would make one that fewer objects match.
#[test]
fn label_selectors_are_applied_as_a_whole() {
    let mut found = Vec::new();
    each_schema(|path, schema| {
        let is_selector = schema["properties"].get("matchLabels").is_some();
        assert_eq!(schema["x-kubernetes-map-type"] == "atomic", is_selector, "{path}");
        if is_selector {
            found.push(path.to_owned());
        }
    });
    let push = |spec: &str| {
        let places = [".dataTo[].storeRef.labelSelector", ".secretStoreRefs[].labelSelector", ".selector.secret.selector"];
        places.map(|place| format!("{spec}{place}"))
    };
    let mut wanted = vec![
        "SecretStore.spec.conditions[].namespaceSelector".to_owned(),
        "ClusterSecretStore.spec.conditions[].namespaceSelector".to_owned(),
        "ClusterExternalSecret.spec.namespaceSelector".to_owned(),
        "ClusterExternalSecret.spec.namespaceSelectors[]".to_owned(),
        "ClusterPushSecret.spec.namespaceSelectors[]".to_owned(),
    ];
    wanted.extend(push("ClusterPushSecret.spec.pushSecretSpec"));
    wanted.extend(push("PushSecret.spec"));
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}

#[test]
fn every_field_is_described_in_few_words() {
    each_schema(|path, schema| {
        let Some(name) = path.rsplit('.').next() else { return };
        let selector = ["namespaceSelector", "labelSelector", "secret.selector"].iter().any(|s| path.contains(s));
        let foreign = selector || path.contains(".spec.provider.");
        if foreign || path.ends_with("[]") || path.ends_with("{}") || name == "metadata" {
            return;
        }
        let words = schema["description"].as_str().unwrap_or_default();
        assert!(!words.is_empty(), "{path} has no description");
        assert!(words.len() < 300, "{path} is described in {} bytes", words.len());
    });
}

/// But for the descriptions: there is room for them once.
#[test]
fn all_versions_have_one_schema() {
    fn bare(schema: &Value) -> Value {
        match schema {
            Value::Object(map) => {
                let is_text = |(name, value): &(&String, &Value)| *name == "description" && value.is_string();
                map.iter().filter(|entry| !is_text(entry)).map(|(name, value)| (name.clone(), bare(value))).collect()
            }
            Value::Array(list) => list.iter().map(bare).collect(),
            other => other.clone(),
        }
    }
    for kind in KINDS {
        let schemas = schemas(kind);
        assert!(schemas.iter().all(|other| bare(other) == bare(&schemas[0])), "{kind}");
    }
}

/// Served or not: a store of ESO's with any of its providers can be applied. `alibaba` and `device42` are of v1beta1.
#[test]
fn every_provider_of_eso_is_taken() {
    const ESO: &str = "akeyless alibaba aws azurekv barbican beyondtrust beyondtrustworkloadcredentials bitwardensecretsmanager chef \
        cloudrusm conjur crd delinea device42 doppler dvls fake fortanix gcpsm github gitlab ibm infisical \
        keepersecurity kubernetes nebiusmysterybox ngrok onboardbase onepassword onepasswordSDK openBao oracle ovh \
        passbolt passworddepot previder pulumi scaleway secretserver senhasegura vault volcengine webhook \
        yandexcertificatemanager yandexlockbox";
    for kind in ["SecretStore", "ClusterSecretStore"] {
        let schema = schema(kind);
        let blocks = schema["properties"]["spec"]["properties"]["provider"]["properties"].as_object().unwrap();
        let others: Vec<&String> = blocks.keys().filter(|name| !ESO.split(' ').any(|eso| eso == *name)).collect();
        assert_eq!(others, ["sops"], "{kind}");
        assert!(ESO.split(' ').all(|name| blocks.contains_key(name)), "{kind}");
    }
}
