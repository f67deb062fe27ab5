//! Pure: what ESO makes of a Secret. One text for `data`, a map for `dataFrom.extract`, a part for a property.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use crate::api::external_secret::MetadataPolicy;
use crate::render::json::{self, Json};
use crate::render::path;
use crate::secret_bytes::SecretBytes;

/// A Secret's data, or its labels and annotations each as a JSON text: the parts that a read is about, by name.
pub(super) type Parts = BTreeMap<String, SecretBytes>;

/// Takes out of a Secret what the policy asks for.
pub(super) fn parts(secret: Secret, policy: MetadataPolicy) -> Parts {
    match policy {
        MetadataPolicy::None => {
            let data = secret.data.unwrap_or_default();
            data.into_iter().map(|(key, ByteString(bytes))| (key, SecretBytes::new(bytes))).collect()
        }
        MetadataPolicy::Fetch => {
            let metadata = secret.metadata;
            let as_json = |map: Option<BTreeMap<String, String>>| match map {
                Some(map) => json::object_of_text(&map.into_iter().map(|(key, text)| (key, text.into())).collect()),
                // Go's nil map.
                None => SecretBytes::from("null"),
            };
            Parts::from([
                ("annotations".to_owned(), as_json(metadata.annotations)),
                ("labels".to_owned(), as_json(metadata.labels)),
            ])
        }
    }
}

/// Packs parts into the one value that the cache holds, with binary ones kept: a JSON object of base64 texts.
pub(super) fn pack(parts: &Parts) -> SecretBytes {
    let texts = parts.iter().map(|(key, value)| (key.clone(), STANDARD.encode(value.expose()).into()));
    json::object_of_text(&texts.collect())
}

/// The reverse of [`pack`].
pub(super) fn unpack(packed: &SecretBytes) -> Option<Parts> {
    let texts: BTreeMap<String, &str> = serde_json::from_slice(packed.expose()).ok()?;
    texts.into_iter().map(|(key, text)| Some((key, SecretBytes::new(STANDARD.decode(text).ok()?)))).collect()
}

/// The parts of a Secret that a person wrote down as a JSON object: texts as they are, all else as JSON.
pub(super) fn written(json: &SecretBytes) -> Option<Parts> {
    match json::parse(json.expose())? {
        Json::Object(map) => Some(map.iter().map(|(key, value)| (key.clone(), json::byte_value(value))).collect()),
        _ => None,
    }
}

/// All parts as one JSON text: data as an object of texts, labels and annotations as they are.
pub(super) fn whole(parts: &Parts, policy: MetadataPolicy) -> SecretBytes {
    match policy {
        MetadataPolicy::None => json::object_of_text(parts),
        MetadataPolicy::Fetch => {
            let members = parts.iter().map(|(name, json)| [b"\"", name.as_bytes(), b"\":", json.expose()].concat());
            SecretBytes::new([b"{", members.collect::<Vec<_>>().join(&b',').as_slice(), b"}"].concat())
        }
    }
}

/// A property of the data: a key; else the key before the first dot, and in its value the path after it.
pub(super) fn property_of_data(parts: &Parts, property: &str) -> Option<SecretBytes> {
    if let Some(value) = parts.get(property) {
        return Some(value.clone());
    }
    let (key, rest) = property.split_once('.')?;
    if key.is_empty() || rest.is_empty() {
        return None;
    }
    gjson(parts.get(key)?, rest)
}

/// A property of the metadata: `labels` or `annotations`, then a key of it, then a path into its value. ESO splits at each dot, so
/// keys with dots are out of reach, and joins a path's parts without a dot, so that only a path of one part leads anywhere.
pub(super) fn property_of_metadata(parts: &Parts, property: &str) -> Option<SecretBytes> {
    let mut steps = property.split('.');
    let map = parts.get(steps.next()?)?;
    let Some(key) = steps.next() else { return Some(map.clone()) };
    let mut map: BTreeMap<String, String> = serde_json::from_slice::<Option<_>>(map.expose()).ok()??;
    let value = SecretBytes::from(map.remove(key)?);
    let rest: Vec<&str> = steps.collect();
    if rest.is_empty() { Some(value) } else { gjson(&value, &rest.concat()) }
}

/// A part that is a JSON object, taken apart: each value stays JSON, so texts keep their quotes. `None` where the part is missing.
pub(super) fn extract_property(parts: &Parts, property: &str) -> Option<Result<Parts, NotAnObject>> {
    let part = parts.get(property).cloned().or_else(|| {
        // As in ESO, the path leads through the object of base64 texts.
        let text = gjson(&pack(parts), property)?;
        STANDARD.decode(text.expose()).ok().map(SecretBytes::new)
    })?;
    let compact = |value: &Json| SecretBytes::new(json::compact(value, false));
    Some(match json::parse(part.expose()) {
        Some(Json::Object(map)) => Ok(map.iter().map(|(key, value)| (key.clone(), compact(value))).collect()),
        Some(Json::Null) => Ok(Parts::new()),
        _ => Err(NotAnObject),
    })
}

/// A part that should be a JSON object and is not.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAnObject;

fn gjson(value: &SecretBytes, property: &str) -> Option<SecretBytes> {
    path::get(value.expose(), property).map(path::Value::into_secret)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(yaml: &str) -> Secret {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn text(value: &SecretBytes) -> &str {
        value.expose_str().unwrap()
    }

    fn data(pairs: &[(&str, &[u8])]) -> Parts {
        pairs.iter().map(|(key, bytes)| ((*key).to_owned(), SecretBytes::new(bytes.to_vec()))).collect()
    }

    #[test]
    fn the_whole_data_is_sorted_compact_json_without_html_escapes() {
        for (parts, json) in [
            (data(&[]), "{}"),
            (data(&[("b", b"2"), ("a", b"<&>")]), r#"{"a":"<&>","b":"2"}"#),
            (
                data(&[("k", "é \u{2028}\u{1}\u{8}\n\"\\/\u{7f}".as_bytes())]),
                "{\"k\":\"é \\u2028\\u0001\\b\\n\\\"\\\\/\u{7f}\"}",
            ),
            (data(&[("bin", b"a\xff\xfe\xe2\x82b")]), r#"{"bin":"a\ufffd\ufffd\ufffd\ufffdb"}"#),
        ] {
            assert_eq!(text(&whole(&parts, MetadataPolicy::None)), json);
        }
    }

    #[test]
    fn metadata_is_two_json_objects() {
        let both = secret(
            "metadata: {labels: {app: web, dotted.io/x: y}, annotations: {note: '{\"in\":{\"side\":1}}', plain: p}}\ndata: {k: dg==}",
        );
        let parts = parts(both, MetadataPolicy::Fetch);
        assert_eq!(
            text(&whole(&parts, MetadataPolicy::Fetch)),
            r#"{"annotations":{"note":"{\"in\":{\"side\":1}}","plain":"p"},"labels":{"app":"web","dotted.io/x":"y"}}"#
        );
        for (property, value) in [
            ("labels", Some(r#"{"app":"web","dotted.io/x":"y"}"#)),
            ("labels.app", Some("web")),
            ("annotations.plain", Some("p")),
            ("annotations.note", Some(r#"{"in":{"side":1}}"#)),
            ("annotations.note.in", Some(r#"{"side":1}"#)),
            ("annotations.note.in.side", None),
            ("labels.dotted.io/x", None),
            ("labels.", None),
            ("other", None),
            ("", None),
        ] {
            assert_eq!(property_of_metadata(&parts, property).as_ref().map(text), value, "{property}");
        }
    }

    #[test]
    fn a_secret_without_labels_has_null_ones() {
        let parts = parts(secret("metadata: {annotations: {}}"), MetadataPolicy::Fetch);
        assert_eq!(text(&whole(&parts, MetadataPolicy::Fetch)), r#"{"annotations":{},"labels":null}"#);
        assert_eq!(property_of_metadata(&parts, "labels.app"), None);
        assert_eq!(extract_property(&parts, "labels"), Some(Ok(Parts::new())));
    }

    #[test]
    fn a_property_is_a_key_before_it_is_a_path() {
        let parts =
            data(&[("file.png", b"\x89PNG\xff"), ("file", b"{\"png\":1,\"deep\":{\"er\":2},\"deep.er\":3}"), ("k", b"v")]);
        assert_eq!(property_of_data(&parts, "file.png").unwrap().expose(), b"\x89PNG\xff");
        assert_eq!(property_of_data(&parts, "k").as_ref().map(text), Some("v"));
        assert_eq!(property_of_data(&parts, "file.deep.er").as_ref().map(text), Some("2"));
        for missing in ["gone", ".k", "k.", "gone.x", "", "."] {
            assert_eq!(property_of_data(&parts, missing), None, "{missing}");
        }
    }

    #[test]
    fn an_extracted_property_stays_json() {
        let json = br#"{"s":"a<\u00e9","n":1.50,"e":1e3,"big":12345678901234567890,"huge":1e21,"tiny":1e-7,"o":{"b":1,"a":[true,null]},"z":-0.0,"nil":null}"#;
        let parts = data(&[("my.json", json), ("list", b"[1]"), ("text", b"x"), ("binary", b"\xff"), ("none", b"null")]);
        let found = extract_property(&parts, "my.json").unwrap().unwrap();
        let found: BTreeMap<&str, &str> = found.iter().map(|(key, value)| (key.as_str(), text(value))).collect();
        assert_eq!(
            found,
            BTreeMap::from([
                ("s", "\"a<é\""),
                ("n", "1.5"),
                ("e", "1000"),
                ("big", "12345678901234567000"),
                ("huge", "1e+21"),
                ("tiny", "1e-7"),
                ("o", r#"{"a":[true,null],"b":1}"#),
                ("z", "-0"),
                ("nil", "null"),
            ])
        );
        assert_eq!(extract_property(&parts, "no*"), extract_property(&parts, "none"));
        assert_eq!(extract_property(&parts, "none"), Some(Ok(Parts::new())));
        for other in ["list", "text", "binary"] {
            assert_eq!(extract_property(&parts, other), Some(Err(NotAnObject)), "{other}");
        }
        assert_eq!(extract_property(&parts, "gone"), None);
    }

    #[test]
    fn what_is_not_packed_does_not_unpack() {
        for bad in ["", "[]", "{\"a\":1}", "{\"a\":\"!\"}"] {
            assert!(unpack(&SecretBytes::from(bad)).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn packing_keeps_every_byte(pairs in proptest::collection::btree_map(".*", proptest::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let parts: Parts = pairs.into_iter().map(|(key, bytes)| (key, SecretBytes::new(bytes))).collect();
            prop_assert_eq!(unpack(&pack(&parts)).unwrap(), parts);
        }
    }
}
