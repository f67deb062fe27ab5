//! What the API server asks of a Secret that it stores.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::names::Names;

/// Most bytes that the values of a Secret may have together.
const MOST_BYTES: usize = 1 << 20;
/// Longest key.
const LONGEST_KEY: usize = 253;
/// Longest label.
const LONGEST_LABEL: usize = 63;
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
    if let Some(key) = data.keys().find(|key| !is_key(key)) {
        return Some(format!("data: {} is no key: letters, digits, '-', '_' and '.' are allowed", names.word(key)));
    }
    if data.values().map(|value| value.0.len()).sum::<usize>() > MOST_BYTES {
        return Some("data: it is larger than 1 MiB".into());
    }
    if let Some((key, _)) = secret.metadata.labels.iter().flatten().find(|(_, value)| !is_label(value)) {
        return Some(format!(
            "metadata.labels[{}]: must be at most {LONGEST_LABEL} letters, digits, '-', '_' and '.', and begin and end with a \
             letter or digit",
            names.word(key)
        ));
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

fn is_key(key: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !key.is_empty() && key.len() <= LONGEST_KEY && key.chars().all(allowed) && key != "." && !key.starts_with("..")
}

fn is_label(value: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let outer = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    value.len() <= LONGEST_LABEL && value.chars().all(inner) && outer(value.chars().next()) && outer(value.chars().last())
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
            (json!({ "metadata": { "labels": { "l": "canary value" } } }), "metadata.labels[\"l\"]: must be"),
            (json!({ "metadata": { "labels": { "l": "" } } }), ""),
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
