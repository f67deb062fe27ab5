//! Writes files as SOPS does, for tests: with keys that are made from words.
#![allow(clippy::unwrap_used, missing_docs)]

use aws_lc_rs::digest::{SHA512, digest};
use serde_json::{Map, Value, json};

use super::age::writing as age;
use super::cipher::DataKey;
use super::cipher::writing::encrypt;
use crate::secret_bytes::SecretBytes;

/// When the files were written.
const AT: &str = "2026-01-01T00:00:00Z";

/// The file of keys of an identity.
pub(crate) fn keys(word: &str) -> String {
    age::identity(word).expose_str().unwrap().to_owned()
}

/// A JSON file, which is YAML as well, with keys and their values on one level, for the identities of some words.
pub(super) fn file(words: &[&str], pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).unwrap();
    let key = DataKey::new(&SecretBytes::new(secret.to_vec())).unwrap();
    let mut document = Map::new();
    let mut code = Vec::new();
    for (name, value) in pairs {
        code.extend_from_slice(value);
        document.insert((*name).to_owned(), encrypt(&key, "str", value, &format!("{name}:")).into());
    }
    let code: String = digest(&SHA512, &code).as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    let recipients: Vec<Value> =
        words.iter().map(|word| json!({"recipient": age::recipient(word), "enc": age::encrypt(&[word], &secret)})).collect();
    let mac = encrypt(&key, "str", code.as_bytes(), AT);
    let metadata = json!({"age": recipients, "lastmodified": AT, "mac": mac, "version": "3.13.3"});
    document.insert("sops".to_owned(), metadata);
    Value::Object(document).to_string().into_bytes()
}
