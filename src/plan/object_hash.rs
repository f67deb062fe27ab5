//! ESO's object hash: SHA3-224, in hexadecimal, of how Go prints a value with `%+v`. Labels and statuses that ESO wrote carry it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::ByteString;
use sha3::{Digest, Sha3_224};

use super::target::{ESO_FIELD_MANAGER, FIELD_MANAGER};

/// Value of the label `reconcile.external-secrets.io/created-by` on what an ExternalSecret owns.
#[must_use]
pub fn created_by_label(namespace: &str, name: &str) -> String {
    hash(&format!("{namespace}/{name}"))
}

/// Value of the label `generators.external-secrets.io/owner-key` on a state of a generator.
#[must_use]
pub fn owner_key_label(kind: &str, namespace: &str, name: &str, entry: &str) -> String {
    hash(&format!("{kind}-{namespace}-{name}-{entry}"))
}

/// `status.syncedResourceVersion`: the generation of an object and the hash of its labels and annotations.
#[must_use]
pub fn synced_resource_version(
    generation: i64,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> String {
    let metadata = format!("{{annotations:{} labels:{}}}", go_map(annotations), go_map(labels));
    format!("{generation}-{}", hash(&metadata))
}

/// The hash of lines of text. Not for secrets: it has no key.
#[must_use]
pub fn of_lines(lines: &[String]) -> String {
    hash(&lines.join("\n"))
}

/// ESO's annotation `reconcile.external-secrets.io/data-hash`. It is no keyed hash, so whoever reads it may guess at the data:
/// keyferry writes it only where Secrets are handed back to ESO, which takes one without it for changed.
#[must_use]
pub fn data_hash(data: &BTreeMap<String, ByteString>) -> String {
    let bytes = |value: &ByteString| value.0.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
    let entries: Vec<String> = data.iter().map(|(key, value)| format!("{key}:[{}]", bytes(value))).collect();
    hash(&format!("map[{}]", entries.join(" ")))
}

/// keyferry's field manager for what an ExternalSecret of that name puts into a Secret that others write, too.
#[must_use]
pub fn own_manager(name: &str) -> String {
    let plain = format!("{FIELD_MANAGER}/{name}");
    // the API server takes up to 128 bytes
    if plain.len() <= 128 { plain } else { format!("{FIELD_MANAGER}/sha3/{}", hash(name)) }
}

/// The field manager with which ESO writes the Secret of an ExternalSecret of that name.
#[must_use]
pub fn field_manager(name: &str) -> String {
    let plain = format!("{ESO_FIELD_MANAGER}{name}");
    if plain.len() <= 63 { plain } else { format!("{ESO_FIELD_MANAGER}sha3/{}", hash(name)) }
}

fn go_map(map: &BTreeMap<String, String>) -> String {
    let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", entries.join(" "))
}

fn hash(text: &str) -> String {
    let mut out = String::with_capacity(56);
    for byte in Sha3_224::digest(text.as_bytes()) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_hashes_are_those_of_eso() {
        for (data, expected) in [
            (vec![("foo", "value1"), ("bar", "value2")], "1bed8bcbcb4547ffe19a19cd47d9078e84aa6598266d86b99f992d64"),
            (vec![("foo", "bar")], "f2a604b87eb0cf673761e8cfea850f901fe73a3d1b2f338802107f36"),
            (vec![], "74a974446e359fb3e6baff9bd0058950e6edd0f040888d9989b0a11b"),
        ] {
            let data = data.into_iter().map(|(k, v)| (k.to_owned(), ByteString(v.into()))).collect();
            assert_eq!(data_hash(&data), expected);
        }
    }

    #[test]
    fn long_names_have_a_hashed_field_manager() {
        let (short, long) = ("a".repeat(27), "a".repeat(28));
        assert_eq!(field_manager(&short), format!("externalsecrets.external-secrets.io/{short}"));
        assert_eq!(field_manager(&long), format!("externalsecrets.external-secrets.io/sha3/{}", hash(&long)));
    }

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn hashes_are_those_of_eso() {
        assert_eq!(created_by_label("ns", "name"), "bb23d4143f48a70026bb6cffbf0e5df5557eb3bc56885091e92a5690");
        assert_eq!(hash("map[]"), "74a974446e359fb3e6baff9bd0058950e6edd0f040888d9989b0a11b");
        assert_eq!(
            synced_resource_version(1, &map(&[]), &map(&[])),
            "1-f47fe3c0b255b6dd8047cdffa772587bb829efe7a1cb70febeda2eb2"
        );
    }

    #[test]
    fn labels_and_annotations_are_told_apart() {
        let (ab, xy) = (map(&[("a", "b")]), map(&[("x", "y")]));
        let both = [synced_resource_version(7, &ab, &xy), synced_resource_version(7, &xy, &ab)];
        assert!(both.contains(&"7-6fda81beba3676cd00090793bbbb9fe2bbab4bd7d8c5c2cb1013a872".to_owned()), "{both:?}");
        assert_ne!(both[0], both[1]);
    }

    #[test]
    fn maps_are_printed_sorted() {
        assert_eq!(go_map(&map(&[("b", "2"), ("a", "1")])), "map[a:1 b:2]");
    }
}
