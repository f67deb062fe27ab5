//! The definitions of the generators' group, and every manifest of one in the project.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use keyferry::api::crds;
use keyferry::api::external_secret::GeneratorKind;
use keyferry::api::generators::{AnySpec, ClusterGeneratorSpec, GROUP, GeneratorState, resolve};
use keyferry::api::structural;
use keyferry::generators::SERVED;
use kube::core::cel::compile_schema;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Admission, manifests, root};

/// The definitions, as JSON, by kind.
fn definitions() -> &'static BTreeMap<String, Value> {
    static ALL: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
        let all = crds::all().unwrap().into_iter().filter(|crd| crd.spec.group == GROUP);
        all.map(|crd| (crd.spec.names.kind.clone(), serde_json::to_value(crd).unwrap())).collect()
    });
    &ALL
}

fn admission(kind: &str) -> &'static Admission {
    static ALL: LazyLock<BTreeMap<String, Admission>> = LazyLock::new(|| {
        let schema = |crd: &Value| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        let one = |(kind, crd): (&String, &Value)| {
            let schema = schema(crd);
            (kind.clone(), Admission { rules: compile_schema(&schema), schema })
        };
        definitions().iter().map(one).collect()
    });
    &ALL[kind]
}

/// Why the API server would refuse an object. What it takes, our types must take too.
fn refusals(object: &Value) -> Vec<String> {
    let kind = object["kind"].as_str().unwrap();
    let admission = admission(kind);
    let object = structural::without_nulls(&admission.schema, object);
    let mut found = structural::errors(&admission.schema, &object);
    found.extend(admission.broken_rules(&object));
    if found.is_empty() {
        let spec = object.get("spec").cloned().unwrap_or_default();
        let read = match kind {
            "GeneratorState" => {
                serde_json::from_value::<GeneratorState>(object.clone()).map(|_| ()).map_err(|e| e.to_string())
            }
            "ClusterGenerator" => {
                serde_json::from_value::<ClusterGeneratorSpec>(spec).map(|_| ()).map_err(|e| e.to_string())
            }
            _ => read(kind, spec).map(|_| ()),
        };
        assert_eq!(read, Ok(()), "the schema takes {object}, the type does not");
    }
    found
}

fn read(kind: &str, spec: Value) -> Result<AnySpec, String> {
    AnySpec::read(serde_json::from_value(json!(kind)).unwrap(), spec, "spec").map_err(|e| e.to_string())
}

#[test]
fn the_group_is_that_of_eso() {
    let mut names: Vec<&str> = GeneratorKind::ALL.iter().map(|kind| kind.as_str()).collect();
    names.push("GeneratorState");
    names.sort_unstable();
    assert_eq!(definitions().keys().collect::<Vec<_>>(), names);
    for (kind, crd) in definitions() {
        let (meta, spec) = (&crd["metadata"], &crd["spec"]);
        let plural = spec["names"]["plural"].as_str().unwrap();
        assert_eq!(meta["name"], format!("{plural}.{GROUP}"));
        assert_eq!(meta["labels"], json!({ "external-secrets.io/component": "controller" }));
        assert_eq!(spec["names"]["categories"], json!(["external-secrets", "external-secrets-generators"]));
        assert_eq!(spec["scope"], if kind == "ClusterGenerator" { "Cluster" } else { "Namespaced" });
        let version = &spec["versions"][0];
        let facts = json!([
            version["name"],
            version["served"],
            version["storage"],
            version["subresources"],
            spec["versions"].as_array().unwrap().len()
        ]);
        let state = kind == "GeneratorState";
        let subresources = if state { Value::Null } else { json!({ "status": {} }) };
        assert_eq!(facts, json!(["v1alpha1", true, true, subresources, 1]), "{kind}");
        assert_eq!(spec["names"]["shortNames"], if state { json!(["gs"]) } else { Value::Null });
        let columns = json!([
            { "name": "GC Deadline", "jsonPath": ".spec.garbageCollectionDeadline", "type": "string" },
            { "name": "Age", "jsonPath": ".metadata.creationTimestamp", "type": "date" },
        ]);
        assert_eq!(version["additionalPrinterColumns"], if state { columns } else { Value::Null });
        let errors = admission(kind).rules.compilation_errors();
        assert!(errors.is_empty(), "{kind}: {errors:?}");
    }
}

#[test]
fn schemas_are_structural_described_and_without_defaults() {
    for (kind, crd) in definitions() {
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        super::visit(schema, kind, &mut |path, schema| {
            assert!(schema.get("default").is_none(), "{path} has a default");
            assert!(schema["type"].is_string(), "{path} has no type");
            let field = path.rsplit('.').next().unwrap();
            let named = !(path.ends_with("[]") || path.ends_with("{}") || ["metadata", "status"].contains(&field));
            let words = schema["description"].as_str().unwrap_or_default();
            assert!(!named || (!words.is_empty() && words.len() < 300), "{path} is described as {words:?}");
        });
    }
}

/// A spec with every field of each kind, as §1.6 of the fact sheet has them.
fn full() -> Vec<(&'static str, Value)> {
    let sks = json!({ "name": "s", "namespace": "ns", "key": "k" });
    let local = json!({ "name": "s", "key": "k" });
    let sas = json!({ "name": "sa", "namespace": "ns", "audiences": ["a"] });
    let aws = json!({
        "secretRef": { "accessKeyIDSecretRef": sks, "secretAccessKeySecretRef": sks, "sessionTokenSecretRef": sks },
        "jwt": { "serviceAccountRef": sas },
    });
    let ca = json!({ "type": "Secret", "name": "ca", "key": "k", "namespace": "ns" });
    let retry = json!({ "maxRetries": 3, "retryInterval": "1s" });
    vec![
        (
            "ACRAccessToken",
            json!({
                "registry": "r", "tenantId": "t", "scope": "s", "environmentType": "ChinaCloud",
                "auth": {
                    "servicePrincipal": { "secretRef": { "clientId": sks, "clientSecret": sks } },
                    "managedIdentity": { "identityId": "i" }, "workloadIdentity": { "serviceAccountRef": sas },
                },
            }),
        ),
        (
            "BeyondtrustWorkloadCredentialsDynamicSecret",
            json!({
                "controller": "c", "retrySettings": retry,
                "provider": {
                    "auth": { "apikey": { "token": sks } }, "server": { "apiUrl": "u", "siteId": "s" },
                    "folderPath": "f", "caBundle": "YQ==", "caProvider": ca,
                },
            }),
        ),
        ("CloudsmithAccessToken", json!({ "apiUrl": "u", "orgSlug": "o", "serviceSlug": "s", "serviceAccountRef": sas })),
        ("ECRAuthorizationToken", json!({ "region": "r", "role": "r", "scope": "public", "auth": aws })),
        ("Fake", json!({ "controller": "c", "data": { "k": "v" } })),
        (
            "GCRAccessToken",
            json!({
                "projectID": "p",
                "auth": {
                    "secretRef": { "secretAccessKeySecretRef": sks },
                    "workloadIdentity": {
                        "serviceAccountRef": sas, "clusterLocation": "l", "clusterName": "n", "clusterProjectID": "p",
                    },
                    "workloadIdentityFederation": {
                        "audience": "a", "credConfig": { "name": "c", "key": "k", "namespace": "ns" }, "serviceAccountRef": sas,
                        "awsSecurityCredentials": { "region": "eu-west-1", "awsCredentialsSecretRef": { "name": "n", "namespace": "ns" } },
                        "externalTokenEndpoint": "e", "gcpServiceAccountEmail": "a@p.iam.gserviceaccount.com",
                    },
                },
            }),
        ),
        (
            "GithubAccessToken",
            json!({
                "appID": "1", "installID": "2", "url": "u", "repositories": ["r"], "permissions": { "contents": "read" },
                "auth": { "privateKey": { "secretRef": sks } },
            }),
        ),
        (
            "GitlabDeployToken",
            json!({
                "projectID": "1", "url": "u", "name": "n", "username": "u", "expiresAt": "2027-01-01T00:00:00Z",
                "scopes": ["read_repository", "read_registry", "write_registry", "read_package_registry",
                           "write_package_registry", "read_virtual_registry", "write_virtual_registry"],
                "auth": { "token": { "secretRef": sks } },
            }),
        ),
        (
            "Grafana",
            json!({
                "url": "u", "serviceAccount": { "name": "n", "role": "Viewer", "secondsToLive": 1 },
                "auth": { "token": local, "basic": { "username": "u", "password": local } },
            }),
        ),
        (
            "MFA",
            json!({ "secret": sks, "length": 8, "timePeriod": 60, "algorithm": "sha256", "when": "2026-01-01T00:00:00Z" }),
        ),
        (
            "Password",
            json!({
                "length": 20, "digits": 1, "symbols": 1, "symbolCharacters": "-", "noUpper": true, "allowRepeat": true,
                "encoding": "base64url", "secretKeys": ["a"],
            }),
        ),
        ("QuayAccessToken", json!({ "url": "u", "robotAccount": "r", "serviceAccountRef": sas })),
        ("SSHKey", json!({ "keyType": "ecdsa", "keySize": 384, "comment": "c" })),
        (
            "STSSessionToken",
            json!({
                "region": "r", "role": "r", "auth": aws,
                "requestParameters": { "sessionDuration": 900, "serialNumber": "s", "tokenCode": "t" },
            }),
        ),
        ("UUID", json!({})),
        (
            "VaultDynamicSecret",
            json!({
                "path": "p", "method": "POST", "parameters": { "any": [1, { "x": true }] }, "getParameters": { "q": ["a", "b"] },
                "resultType": "Raw", "provider": { "server": "s", "auth": { "tokenSecretRef": sks } }, "retrySettings": retry,
                "controller": "c", "allowEmptyResponse": true,
            }),
        ),
        (
            "Webhook",
            json!({
                "url": "u", "method": "POST", "headers": { "h": "v" }, "body": "b", "timeout": "5s", "result": { "jsonPath": "$.a" },
                "auth": { "ntlm": { "usernameSecret": sks, "passwordSecret": sks } },
                "secrets": [{ "name": "n", "secretRef": local }], "caBundle": "YQ==", "caProvider": ca,
            }),
        ),
    ]
}

fn object(kind: &str, spec: &Value) -> Value {
    json!({ "apiVersion": format!("{GROUP}/v1alpha1"), "kind": kind, "metadata": { "name": "x" }, "spec": spec })
}

#[test]
fn every_field_of_every_kind_is_taken_and_kept() {
    let all = full();
    assert_eq!(all.len(), 17);
    for (kind, spec) in all {
        assert_eq!(refusals(&object(kind, &spec)), Vec::<String>::new(), "{kind}");
        let any = read(kind, spec.clone()).unwrap();
        assert_eq!(any.to_value(), spec, "{kind}");
        let block = any.kind().block().unwrap();
        let cluster = json!({ "kind": kind, "generator": { block: spec } });
        assert_eq!(refusals(&object("ClusterGenerator", &cluster)), Vec::<String>::new(), "{kind}");
        assert_eq!(resolve(&serde_json::from_value(cluster).unwrap()).unwrap(), any);
    }
}

/// As in ESO: what is left out, the operator's machine tells. Not so for a GCRAccessToken.
#[test]
fn vault_needs_no_cluster_for_a_workload_identity() {
    let auth = json!({ "workloadIdentity": { "serviceAccountRef": { "name": "app" } } });
    let mut gcp = auth.clone();
    gcp["role"] = json!("r");
    let spec = json!({ "path": "p", "provider": { "server": "s", "auth": { "gcp": gcp } } });
    let cluster = json!({ "kind": "VaultDynamicSecret", "generator": { "vaultDynamicSecretSpec": spec } });
    assert_eq!(refusals(&object("VaultDynamicSecret", &spec)), Vec::<String>::new());
    assert_eq!(refusals(&object("ClusterGenerator", &cluster)), Vec::<String>::new());
    assert_eq!(read("VaultDynamicSecret", spec.clone()).unwrap().to_value(), spec);
    let registry = object("GCRAccessToken", &json!({ "projectID": "p", "auth": auth }));
    let lacks = ["clusterLocation", "clusterName"].map(|field| format!("spec.auth.workloadIdentity: lacks {field}"));
    assert_eq!(refusals(&registry), lacks);
}

#[test]
fn what_is_wrong_is_refused() {
    let gitlab = |more: Value| {
        let mut spec = json!({ "name": "n", "scopes": ["read_registry"], "auth": { "token": { "secretRef": {} } } });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ("GitlabDeployToken", spec)
    };
    let wrong = [
        gitlab(json!({})),
        gitlab(json!({ "projectID": "1", "groupID": "2" })),
        gitlab(json!({ "projectID": "" })),
        gitlab(json!({ "projectID": "1", "scopes": [] })),
        gitlab(json!({ "projectID": "1", "scopes": ["admin"] })),
        ("Password", json!({ "secretKeys": [] })),
        ("Password", json!({ "encoding": "rot13" })),
        ("Password", json!({ "unknown": 1 })),
        ("SSHKey", json!({ "keySize": 128 })),
        ("SSHKey", json!({ "keyType": "dsa" })),
        ("UUID", json!({ "x": 1 })),
        ("MFA", json!({})),
        ("Grafana", json!({ "url": "u", "auth": {}, "serviceAccount": { "name": "n", "role": "r", "secondsToLive": 0 } })),
        ("ClusterGenerator", json!({ "kind": "UUID", "generator": {} })),
        ("ClusterGenerator", json!({ "kind": "UUID", "generator": { "uuidSpec": {}, "fakeSpec": {} } })),
        ("ClusterGenerator", json!({ "kind": "ClusterGenerator", "generator": { "uuidSpec": {} } })),
        ("GeneratorState", json!({ "resource": {} })),
    ];
    for (kind, spec) in wrong {
        assert!(!refusals(&object(kind, &spec)).is_empty(), "{kind} {spec} is accepted");
    }
    let right = gitlab(json!({ "groupID": "2" }));
    assert!(refusals(&object(right.0, &right.1)).is_empty());
}

/// The examples, and the generators of the conformance corpus; each served kind has an example.
#[test]
fn manifests_are_accepted() {
    let mut kinds = Vec::new();
    for folder in ["examples", "e2e/conformance/cases"] {
        for file in manifests::files(&root().join(folder)) {
            for object in manifests::documents(&file) {
                if object["apiVersion"].as_str().is_some_and(|v| v.starts_with(GROUP)) {
                    assert_eq!(refusals(&object), Vec::<String>::new(), "{}", file.display());
                    if folder == "examples" {
                        kinds.push(object["kind"].as_str().unwrap().to_owned());
                    }
                }
            }
        }
    }
    for kind in SERVED {
        assert!(kinds.iter().any(|k| k == kind.as_str()), "no example of {kind}");
    }
    let page = std::fs::read_to_string(root().join("docs/generators.md")).unwrap();
    for kind in SERVED {
        assert!(page.contains(&format!("| {kind} |")), "docs/generators.md does not list {kind}");
    }
}

/// Any part of a full spec: what the schema takes, the types take, and nobody panics.
fn pruned(value: Value) -> BoxedStrategy<Value> {
    match value {
        Value::Object(fields) => {
            let parts: Vec<BoxedStrategy<Option<(String, Value)>>> = fields
                .into_iter()
                .map(|(key, value)| {
                    prop::option::weighted(0.8, pruned(value)).prop_map(move |v| v.map(|v| (key.clone(), v))).boxed()
                })
                .collect();
            parts.prop_map(|parts| Value::Object(parts.into_iter().flatten().collect())).boxed()
        }
        other => Just(other).boxed(),
    }
}

proptest! {
    #[test]
    fn parts_of_a_spec_are_refused_or_understood((kind, spec) in prop::sample::select(full()).prop_flat_map(|(kind, spec)| (Just(kind), pruned(spec)))) {
        let object = object(kind, &spec);
        let unknown: Vec<String> = refusals(&object).into_iter().filter(|why| why.contains("unknown")).collect();
        prop_assert!(unknown.is_empty(), "{unknown:?}");
    }
}
