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

/// Length of the key, in bytes.
pub const KEY_BYTES: usize = 32;

/// Makes keyed hashes.
#[derive(Clone)]
pub struct Digester(hmac::Key);

impl Digester {
    /// A digester for a key.
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// Digest of a Secret's data: all of it, as it is in the cluster.
    #[must_use]
    pub fn data<'a>(&self, data: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        update_data(&mut context, data);
        encode(context)
    }

    /// Digest of what something is rendered from: texts that tell it apart, and the values.
    #[must_use]
    pub fn rendered_from<'a>(&self, texts: impl Iterator<Item = &'a str>, values: &Entries) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for text in texts {
            field(&mut context, text.as_bytes());
        }
        // no field is that long: the values cannot be mistaken for texts
        context.update(&u64::MAX.to_be_bytes());
        update_data(&mut context, values.iter().map(|(k, v)| (k.as_str(), v.expose())));
        encode(context)
    }

    /// Digest of JSON, whatever the order of its fields.
    #[must_use]
    pub fn json<'a>(&self, fields: impl Iterator<Item = (&'a str, &'a Value)>) -> String {
        let mut context = hmac::Context::with_key(&self.0);
        for (name, value) in fields.collect::<BTreeMap<_, _>>() {
            field(&mut context, name.as_bytes());
            update_json(&mut context, value);
        }
        encode(context)
    }

    /// Digest of what is wanted of a Secret: data, type, labels, annotations, finalizers, owner.
    #[must_use]
    pub fn desired(&self, desired: &Desired) -> String {
        let mut context = hmac::Context::with_key(&self.0);
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
        encode(context)
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

fn encode(context: hmac::Context) -> String {
    URL_SAFE_NO_PAD.encode(context.sign().as_ref())
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
}
