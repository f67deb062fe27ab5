//! ESO's hashes, made here anew, so that the operator's own are not their own witness.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use sha3::{Digest, Sha3_224};

fn hash(text: &str) -> String {
    Sha3_224::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Label of a Secret that an ExternalSecret owns.
pub fn created_by_label(namespace: &str, name: &str) -> String {
    hash(&format!("{namespace}/{name}"))
}

/// Annotation of every Secret: Go's `%+v` of its data, hashed.
pub fn data_hash(data: &BTreeMap<String, ByteString>) -> String {
    let entries: Vec<String> = data
        .iter()
        .map(|(key, value)| {
            let bytes: Vec<String> = value.0.iter().map(ToString::to_string).collect();
            format!("{key}:[{}]", bytes.join(" "))
        })
        .collect();
    hash(&format!("map[{}]", entries.join(" ")))
}

/// `status.syncedResourceVersion` of an ExternalSecret.
pub fn synced_resource_version(
    generation: i64,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> String {
    let map = |map: &BTreeMap<String, String>| {
        let entries: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{v}")).collect();
        format!("map[{}]", entries.join(" "))
    };
    format!("{generation}-{}", hash(&format!("{{annotations:{} labels:{}}}", map(annotations), map(labels))))
}

/// Field manager of the Secret of an ExternalSecret.
pub fn field_manager(name: &str) -> String {
    let manager = format!("externalsecrets.external-secrets.io/{name}");
    if manager.len() > 63 { format!("externalsecrets.external-secrets.io/sha3/{}", hash(name)) } else { manager }
}
