//! Pure: a decrypted record, and what ESO makes of it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::misconfigured;
use crate::providers::{ErrorKind, ProviderError, Taker, Want};
use crate::render::Entries;
use crate::render::json::{self, Json};
use crate::secret_bytes::SecretBytes;

/// Type of the records that are pushed: those of others are never written to.
pub(super) const OURS: &str = "externalSecrets";
/// Types of fields that are no values by themselves.
const NO_VALUES: [&str; 2] = ["fileRef", "oneTimeCode"];

/// A field, or a custom field.
struct Field {
    type_: String,
    label: String,
    value: Vec<Json>,
}

impl Field {
    fn of(json: &Json) -> Option<Self> {
        let Json::Object(map) = json else { return None };
        let text = |name: &str| match map.get(name) {
            Some(Json::String(text)) => text.as_str().to_owned(),
            _ => String::new(),
        };
        let value = match map.get("value") {
            Some(Json::Array(items)) => items.clone(),
            _ => Vec::new(),
        };
        Some(Self { type_: text("type"), label: text("label"), value })
    }

    /// What it is called: by its label, and where it has none by its type.
    fn key(&self) -> &str {
        if self.label.is_empty() { &self.type_ } else { &self.label }
    }

    /// One value as it is, several as a list; none where it has none.
    fn bytes(&self) -> Option<SecretBytes> {
        match self.value.as_slice() {
            [] => None,
            [Json::String(text)] => Some(SecretBytes::from(text.as_str())),
            [one] => Some(SecretBytes::new(json::compact(one, true))),
            several => Some(SecretBytes::new(json::compact(&Json::Array(several.to_vec()), true))),
        }
    }
}

/// A record with its files, as it is kept between the fetch and what is made of it.
#[derive(Deserialize)]
struct Packed<'a> {
    #[serde(borrow)]
    record: &'a serde_json::value::RawValue,
    files: Vec<(String, &'a str)>,
}

/// A record.
pub(super) struct Record {
    title: String,
    type_: String,
    fields: Option<Vec<Field>>,
    custom: Option<Vec<Field>>,
    files: Vec<(String, SecretBytes)>,
}

/// Packs a record and its files, by title, into the one value that is kept.
pub(super) fn pack(record: &SecretBytes, files: &[(String, SecretBytes)]) -> SecretBytes {
    let mut out = [b"{\"record\":", record.expose(), b",\"files\":["].concat();
    for (i, (title, content)) in files.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"[" } else { b",[" });
        json::append_string(&mut out, title.as_bytes(), false);
        out.push(b',');
        json::append_string(&mut out, STANDARD.encode(content.expose()).as_bytes(), false);
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
    SecretBytes::new(out)
}

impl Record {
    /// The reverse of [`pack`].
    fn unpack(packed: &SecretBytes) -> Option<Self> {
        let Packed { record, files } = serde_json::from_slice(packed.expose()).ok()?;
        let Json::Object(mut map) = json::parse(record.get().as_bytes())? else { return None };
        let mut fields = |name: &str| match map.remove(name) {
            Some(Json::Array(items)) => Some(items.iter().filter_map(Field::of).collect()),
            _ => None,
        };
        let (fields, custom) = (fields("fields"), fields("custom"));
        let mut text = |name: &str| match map.remove(name) {
            Some(Json::String(text)) => text.as_str().to_owned(),
            _ => String::new(),
        };
        let (title, type_) = (text("title"), text("type"));
        let file = |(title, content): (String, &str)| Some((title, SecretBytes::new(STANDARD.decode(content).ok()?)));
        let files = files.into_iter().map(file).collect::<Option<_>>()?;
        Some(Self { title, type_, fields, custom, files })
    }

    fn fields(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().flatten()
    }

    fn custom(&self) -> impl Iterator<Item = &Field> {
        self.custom.iter().flatten()
    }

    /// Each name stands for one thing only, as in ESO.
    fn check(self) -> Result<Self, ProviderError> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let files = self.files.iter().map(|(title, _)| title.as_str());
        for key in self.fields().map(Field::key).chain(self.custom().map(|field| field.label.as_str())).chain(files) {
            *counts.entry(key).or_default() += 1;
        }
        let twice: Vec<&str> = counts.into_iter().filter(|(_, count)| *count > 1).map(|(key, _)| key).collect();
        if twice.is_empty() {
            return Ok(self);
        }
        Err(misconfigured(format!("invalid Secret. Following keys are duplicated {}", twice.join(", "))))
    }

    /// A field, else a custom field, else a file.
    fn property(&self, name: &str) -> Option<SecretBytes> {
        let field = self.fields().filter(|field| field.key() == name && !NO_VALUES.contains(&field.type_.as_str()));
        let custom = self.custom().filter(|field| field.label == name);
        let file = || self.files.iter().find(|(title, _)| title == name).map(|(_, content)| content.clone());
        field.chain(custom).find_map(Field::bytes).or_else(file)
    }

    fn entries(&self) -> Entries {
        let fields = self.fields().filter_map(|field| Some((field.key().to_owned(), field.bytes()?)));
        let custom = self.custom().filter_map(|field| Some((field.label.clone(), field.bytes()?)));
        fields.chain(custom).chain(self.files.iter().cloned()).collect()
    }

    /// ESO's own form of a record, as Go writes it.
    fn whole(&self) -> SecretBytes {
        let mut out = Vec::new();
        let text = |out: &mut Vec<u8>, name: &str, value: &[u8]| {
            out.extend_from_slice(name.as_bytes());
            json::append_string(out, value, true);
        };
        text(&mut out, "{\"title\":", self.title.as_bytes());
        text(&mut out, ",\"type\":", self.type_.as_bytes());
        for (name, fields, with_empty_label) in [("fields", &self.fields, false), ("custom", &self.custom, true)] {
            out.extend_from_slice(format!(",\"{name}\":").as_bytes());
            let Some(fields) = fields else {
                out.extend_from_slice(b"null");
                continue;
            };
            out.push(b'[');
            for (i, field) in fields.iter().enumerate() {
                text(&mut out, if i == 0 { "{\"type\":" } else { ",{\"type\":" }, field.type_.as_bytes());
                if with_empty_label || !field.label.is_empty() {
                    text(&mut out, ",\"label\":", field.label.as_bytes());
                }
                out.extend_from_slice(b",\"value\":");
                out.extend_from_slice(&json::compact(&Json::Array(field.value.clone()), true));
                out.push(b'}');
            }
            out.push(b']');
        }
        out.extend_from_slice(b",\"files\":");
        if self.files.is_empty() {
            out.extend_from_slice(b"null}");
            return SecretBytes::new(out);
        }
        for (i, (title, content)) in self.files.iter().enumerate() {
            text(&mut out, if i == 0 { "[{\"type\":" } else { ",{\"type\":" }, title.as_bytes());
            text(&mut out, ",\"content\":", content.expose());
            out.push(b'}');
        }
        out.extend_from_slice(b"]}");
        SecretBytes::new(out)
    }
}

/// What a search gives of a record.
pub(super) fn found(packed: &SecretBytes, title: &str) -> Result<SecretBytes, ProviderError> {
    Ok(read(packed, title)?.whole())
}

fn read(packed: &SecretBytes, key: &str) -> Result<Record, ProviderError> {
    let malformed = || ProviderError::new(ErrorKind::Malformed, format!("record {key:?} of Keeper is not what a record is"));
    Record::unpack(packed).ok_or_else(malformed)?.check()
}

/// Takes records apart.
pub(super) struct KeeperTaker;

impl Taker for KeeperTaker {
    fn stored(&self, want: &Want, written: SecretBytes) -> Result<SecretBytes, ProviderError> {
        if !matches!(json::parse(written.expose()), Some(Json::Object(_))) {
            return Err(misconfigured(format!(
                "the value of {:?} must be a record: a JSON object with fields and custom",
                want.key
            )));
        }
        Ok(pack(&written, &[]))
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        found(value, &want.key)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        let missing = || ProviderError::missing_property(&want.key, property);
        read(value, &want.key)?.property(property).ok_or_else(missing)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        if let Some(property) = property {
            return Ok(Entries::from([(property.to_owned(), self.property(want, value, property)?)]));
        }
        let entries = read(value, &want.key)?.entries();
        if entries.is_empty() {
            let text = format!("invalid Secret. Secret {} does not contain any valid field/file", want.key);
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        }
        Ok(entries)
    }
}

/// Where in a record a pushed value goes: by words in its key, as in ESO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'k> {
    /// The field of a type.
    Field(&'static str),
    /// The custom field of a label.
    Custom(&'k str),
}

impl<'k> Slot<'k> {
    pub(super) fn of(key: &'k str) -> Self {
        let lower = key.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if has(&["login", "username"]) {
            Self::Field("login")
        } else if has(&["password"]) {
            Self::Field("password")
        } else if has(&["url"]) {
            Self::Field("url")
        } else {
            Self::Custom(key)
        }
    }

    fn list(self) -> &'static str {
        match self {
            Self::Field(_) => "fields",
            Self::Custom(_) => "custom",
        }
    }

    fn is(self, field: &Value) -> bool {
        match self {
            Self::Field(type_) => field["type"] == type_,
            Self::Custom(label) => field["label"] == label,
        }
    }

    fn made(self, value: &str) -> Value {
        match self {
            Self::Field(type_) => json!({"type": type_, "value": [value]}),
            Self::Custom(label) => json!({"type": "secret", "label": label, "value": [value]}),
        }
    }

    fn fields(self, record: &Value) -> impl Iterator<Item = &Value> {
        record[self.list()].as_array().into_iter().flatten().filter(move |field| self.is(field))
    }

    /// The value that a record has there.
    pub(super) fn value(self, record: &Value) -> Option<&str> {
        self.fields(record).find_map(|field| field["value"].get(0)?.as_str())
    }

    /// Sets the value there; makes the field where there is none.
    pub(super) fn set(self, record: &mut Value, value: &str) {
        let Some(map) = record.as_object_mut() else { return };
        let list = map.entry(self.list()).or_insert_with(|| json!([]));
        if !list.is_array() {
            *list = json!([]);
        }
        let Some(list) = list.as_array_mut() else { return };
        match list.iter_mut().find(|field| self.is(field)).and_then(Value::as_object_mut) {
            Some(field) => {
                field.insert("value".to_owned(), json!([value]));
            }
            None => list.push(self.made(value)),
        }
    }

    /// Takes the field away.
    pub(super) fn remove(self, record: &mut Value) {
        if let Some(list) = record.get_mut(self.list()).and_then(Value::as_array_mut) {
            list.retain(|field| !self.is(field));
        }
    }
}

/// A record without fields, to be pushed to.
pub(super) fn new(title: &str) -> Value {
    json!({"title": title, "type": OURS, "fields": [], "custom": []})
}

/// Whether a record has no field that has a value.
pub(super) fn is_empty(record: &Value) -> bool {
    ["fields", "custom"].iter().all(|list| {
        let fields = record[list].as_array().into_iter().flatten();
        fields.into_iter().all(|field| field["value"].as_array().is_none_or(Vec::is_empty))
    })
}
