//! What the API server asks of a Secret that it stores.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::print::MASK;
use crate::plan::access::{problems_of_key, problems_of_value};
use crate::plan::names::Names;
use crate::render::keys;

/// Most bytes that the values of a Secret may have together.
const MOST_BYTES: usize = 1 << 20;
/// Keys that a Secret of some type must have; of more than one list, one of it.
const REQUIRED: [(&str, &[&[&str]]); 5] = [
    ("kubernetes.io/tls", &[&["tls.crt"], &["tls.key"]]),
    ("kubernetes.io/dockerconfigjson", &[&[".dockerconfigjson"]]),
    ("kubernetes.io/dockercfg", &[&[".dockercfg"]]),
    ("kubernetes.io/ssh-auth", &[&["ssh-privatekey"]]),
    ("kubernetes.io/basic-auth", &[&["username", "password"]]),
];

/// Why the API server would not take a Secret. `partial`: only some of its keys are given. Never shows a value, nor a key that one
/// became.
#[must_use]
pub fn refusal(secret: &Secret, partial: bool, names: &Names) -> Option<String> {
    let none = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&none);
    if let Some(key) = data.keys().find(|key| !keys::is_of_secret(key)) {
        return Some(format!("data: {} is no key: letters, digits, '-', '_' and '.' are allowed", word(names, key)));
    }
    if data.values().map(|value| value.0.len()).sum::<usize>() > MOST_BYTES {
        return Some("data: it is larger than 1 MiB".into());
    }
    let labels = secret.metadata.labels.iter().flatten();
    let mut labels = labels.map(|(key, value)| (key, [problems_of_key(key), problems_of_value(value)].concat()));
    if let Some((key, problems)) = labels.find(|(_, problems)| !problems.is_empty()) {
        return Some(format!("metadata.labels[{}]: {}", word(names, key), problems.join("; ")));
    }
    // in any case
    let annotations = secret.metadata.annotations.iter().flatten();
    let mut annotations = annotations.map(|(key, _)| (key, problems_of_key(&key.to_lowercase())));
    if let Some((key, problems)) = annotations.find(|(_, problems)| !problems.is_empty()) {
        return Some(format!("metadata.annotations[{}]: {}", word(names, key), problems.join("; ")));
    }
    let type_ = secret.type_.as_deref().unwrap_or_default();
    if partial { None } else { lacking(type_, data) }
}

fn lacking(type_: &str, data: &BTreeMap<String, ByteString>) -> Option<String> {
    let (_, lists) = REQUIRED.iter().find(|(known, _)| *known == type_)?;
    if let Some(list) = lists.iter().find(|list| !list.iter().any(|key| data.contains_key(*key))) {
        return Some(format!("data: a Secret of type {type_} must have {}", list.join(" or ")));
    }
    let json = data.get(".dockerconfigjson").filter(|_| type_.ends_with("json")).or(data.get(".dockercfg"));
    let invalid = json.is_some_and(|value| serde_json::from_slice::<serde::de::IgnoredAny>(&value.0).is_err());
    invalid.then(|| format!("data: the value of a Secret of type {type_} must be JSON"))
}

/// A name as it stands in an error.
fn word(names: &Names, name: &str) -> String {
    if names.shows(name) { format!("{name:?}") } else { MASK.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_would_not_take() {
        let tls = "kubernetes.io/tls";
        let config = "kubernetes.io/dockerconfigjson";
        let table = [
            (json!({ "data": { "a-B_1.x": "" } }), ""),
            (json!({ "data": { "a b": "Y2FuYXJ5" } }), "data: \"a b\" is no key"),
            (json!({ "data": { "..": "" } }), "data: \"..\" is no key"),
            (json!({ "metadata": { "labels": { "l": "canary value" } } }), "metadata.labels[\"l\"]: a valid label"),
            (
                json!({ "metadata": { "labels": { "l": "c".repeat(64) } } }),
                "metadata.labels[\"l\"]: must be no more than 63",
            ),
            (json!({ "metadata": { "labels": { "l": "", "x.org/A_b.c": "" } } }), ""),
            (json!({ "metadata": { "labels": { "a b!": "" } } }), "metadata.labels[\"a b!\"]: name part must consist of"),
            (json!({ "metadata": { "labels": { "X.org/a": "" } } }), "metadata.labels[\"X.org/a\"]: prefix part "),
            (json!({ "metadata": { "labels": { "a/b/c": "" } } }), "metadata.labels[\"a/b/c\"]: a valid label key"),
            (json!({ "metadata": { "annotations": { "an no": "canary" } } }), "metadata.annotations[\"an no\"]: name part"),
            (json!({ "metadata": { "annotations": { "X.org/A": "canary value" } } }), ""),
            (json!({ "type": tls, "data": { "tls.crt": "" } }), "must have tls.key"),
            (json!({ "type": tls, "data": { "tls.crt": "", "tls.key": "" } }), ""),
            (json!({ "type": "kubernetes.io/basic-auth" }), "must have username or password"),
            (json!({ "type": config, "data": { ".dockerconfigjson": "Y2FuYXJ5" } }), "must be JSON"),
            (json!({ "type": config, "data": { ".dockerconfigjson": "e30=" } }), ""),
        ];
        for (secret, wanted) in table {
            let found =
                refusal(&serde_json::from_value(secret.clone()).unwrap(), false, &Names::default()).unwrap_or_default();
            assert!(if wanted.is_empty() { found.is_empty() } else { found.contains(wanted) }, "{secret}: {found}");
            assert!(!found.contains("canary"));
        }
        assert_eq!(refusal(&serde_json::from_value(json!({ "type": tls })).unwrap(), true, &Names::default()), None);
        let large =
            Secret { data: Some([("k".to_owned(), ByteString(vec![0; MOST_BYTES + 1]))].into()), ..Secret::default() };
        assert!(refusal(&large, false, &Names::default()).unwrap().contains("1 MiB"));
    }
}
