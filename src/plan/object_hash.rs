//! ESO's object hash: SHA3-224, in hexadecimal, of how Go prints a value with `%+v`. Labels and statuses that ESO wrote carry it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha3::{Digest, Sha3_224};

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
