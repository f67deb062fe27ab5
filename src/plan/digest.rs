//! Keyed hashes of what a Secret holds, so that an unchanged one is known without reading it.
//!
//! Keyed, because anyone who may read an object's status could otherwise try out likely values (ESO's `data-hash`
//! annotation has that weakness). The key is kept in a Secret in the operator's namespace.

use std::collections::BTreeMap;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::target::Desired;
use crate::render::Entries;
use crate::secret_bytes::SecretBytes;

/// Length of the key, in bytes.
pub const KEY_BYTES: usize = 32;
/// Bytes that tell a key from others.
const ID_BYTES: usize = 6;

/// Makes keyed hashes. Each begins with a few characters that tell its key from others, so that one that was made with a key which
/// is lost is not taken for one of other data.
#[derive(Clone)]
pub struct Digester {
    key: hmac::Key,
    id: String,
}

impl Digester {
    /// A digester for a key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let id = URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"id of the key").as_ref().get(..ID_BYTES).unwrap_or_default());
        Self { key, id }
    }

    /// Digest of a Secret's data: all of it, as it is in the cluster.
    #[must_use]
    pub fn data<'a>(&self, data: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        update_data(&mut context, data);
        self.encode(context)
    }

    /// Digest of values that are to become a Secret's data, as [`Digester::data`] gives it of them.
    #[must_use]
    pub fn values(&self, values: &BTreeMap<String, SecretBytes>) -> String {
        self.data(values.iter().map(|(key, value)| (key.as_str(), value.expose())))
    }

    /// Digest of what something is rendered from: texts that tell it apart, and the values.
    #[must_use]
    pub fn rendered_from<'a>(&self, texts: impl Iterator<Item = &'a str>, values: &Entries) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        for text in texts {
            field(&mut context, text.as_bytes());
        }
        // no field is that long: the values cannot be mistaken for texts
        context.update(&u64::MAX.to_be_bytes());
        update_data(&mut context, values.iter().map(|(k, v)| (k.as_str(), v.expose())));
        self.encode(context)
    }

    /// Digest of JSON, whatever the order of its fields.
    #[must_use]
    pub fn json<'a>(&self, fields: impl Iterator<Item = (&'a str, &'a Value)>) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        for (name, value) in fields.collect::<BTreeMap<_, _>>() {
            field(&mut context, name.as_bytes());
            update_json(&mut context, value);
        }
        self.encode(context)
    }

    /// Digest of what is wanted of a Secret: data, type, labels, annotations, finalizers, owner.
    #[must_use]
    pub fn desired(&self, desired: &Desired) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        field(&mut context, desired.type_.as_deref().unwrap_or_default().as_bytes());
        field(&mut context, &[u8::from(desired.immutable), u8::from(desired.replace)]);
        for map in [&desired.labels, &desired.annotations] {
            update_map(&mut context, map);
        }
        for text in &desired.finalizers {
            field(&mut context, text.as_bytes());
        }
        field(&mut context, desired.owner.as_ref().map(|o| o.uid.as_bytes()).unwrap_or_default());
        update_data(&mut context, desired.data.iter().map(|(k, v)| (k.as_str(), v.expose())));
        self.encode(context)
    }

    fn encode(&self, context: hmac::Context) -> String {
        format!("{}.{}", self.id, URL_SAFE_NO_PAD.encode(context.sign().as_ref()))
    }
}

fn update_json(context: &mut hmac::Context, json: &Value) {
    match json {
        Value::Object(fields) => {
            field(context, b"{");
            for (name, value) in fields.iter().collect::<BTreeMap<_, _>>() {
                field(context, name.as_bytes());
                update_json(context, value);
            }
            field(context, b"}");
        }
        Value::Array(items) => {
            field(context, b"[");
            items.iter().for_each(|item| update_json(context, item));
            field(context, b"]");
        }
        // quoted, so that no text is taken for a sign
        scalar => field(context, scalar.to_string().as_bytes()),
    }
}

/// Whether two digests were made with one key, so that they tell whether the data are the same.
#[must_use]
pub fn comparable(one: &str, other: &str) -> bool {
    let id = |digest: &str| digest.split_once('.').map(|(id, _)| id.to_owned());
    id(one).is_some() && id(one) == id(other)
}

fn update_map(context: &mut hmac::Context, map: &BTreeMap<String, String>) {
    context.update(&(map.len() as u64).to_be_bytes());
    for (key, value) in map {
        field(context, key.as_bytes());
        field(context, value.as_bytes());
    }
}

fn update_data<'a>(context: &mut hmac::Context, data: impl Iterator<Item = (&'a str, &'a [u8])>) {
    for (key, value) in data {
        field(context, key.as_bytes());
        field(context, value);
    }
}

/// Adds one field with its length before it, so that no two lists of fields look the same.
fn field(context: &mut hmac::Context, bytes: &[u8]) {
    context.update(&(bytes.len() as u64).to_be_bytes());
    context.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(key: &[u8], data: &[(&str, &str)]) -> String {
        Digester::new(key).data(data.iter().map(|(k, v)| (*k, v.as_bytes())))
    }

    #[test]
    fn depends_on_the_key_and_on_where_fields_begin() {
        let plain = digest(b"k", &[("a", "bc")]);
        assert_eq!(plain, digest(b"k", &[("a", "bc")]));
        assert_ne!(plain, digest(b"other", &[("a", "bc")]));
        assert_ne!(plain, digest(b"k", &[("ab", "c")]));
        assert_ne!(plain, digest(b"k", &[("a", "b"), ("c", "")]));
    }

    #[test]
    fn digests_of_one_key_can_be_compared() {
        let one = digest(b"k", &[("a", "bc")]);
        assert!(comparable(&one, &digest(b"k", &[("x", "y")])));
        assert!(!comparable(&one, &digest(b"other", &[("a", "bc")])));
        assert!(!comparable("", "") && !comparable(&one, "digest of an older version"));
    }
}
