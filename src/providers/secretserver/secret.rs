//! A secret of Secret Server: what of it is handed out, and its fields.

use serde_json::value::RawValue;

use crate::providers::{ErrorKind, ProviderError, Taker, Want};
use crate::render::{Entries, json, path};
use crate::secret_bytes::SecretBytes;

/// Most fields of a secret: templates have a few.
pub(super) const MAX_FIELDS: usize = 1000;

/// What ESO hands out of a secret, under its names and in its order, with what stands for nothing.
const SECRET: &[(&str, &str)] = &[
    ("Name", "\"\""),
    ("FolderID", "0"),
    ("ID", "0"),
    ("SiteID", "0"),
    ("SecretTemplateID", "0"),
    ("SecretPolicyID", ""),
    ("PasswordTypeWebScriptID", ""),
    ("LauncherConnectAsSecretID", "0"),
    ("CheckOutIntervalMinutes", "0"),
    ("Active", "false"),
    ("CheckedOut", "false"),
    ("CheckOutEnabled", "false"),
    ("AutoChangeEnabled", "false"),
    ("CheckOutChangePasswordEnabled", "false"),
    ("DelayIndexing", "false"),
    ("EnableInheritPermissions", "false"),
    ("EnableInheritSecretPolicy", "false"),
    ("ProxyEnabled", "false"),
    ("RequiresComment", "false"),
    ("SessionRecordingEnabled", "false"),
    ("WebLauncherRequiresIncognitoMode", "false"),
];
/// The same of a field.
const FIELD: &[(&str, &str)] = &[
    ("ItemID", "0"),
    ("FieldID", "0"),
    ("FileAttachmentID", "0"),
    ("FieldName", "\"\""),
    ("Slug", "\"\""),
    ("FieldDescription", "\"\""),
    ("Filename", "\"\""),
    ("ItemValue", "\"\""),
    ("IsFile", "false"),
    ("IsNotes", "false"),
    ("IsPassword", "false"),
];

/// A secret, as the server sends it.
pub(super) struct Secret {
    /// Its JSON.
    pub body: SecretBytes,
    /// Its fields.
    pub fields: Vec<Field>,
    /// Its number.
    pub id: i64,
}

/// A field.
pub(super) struct Field {
    /// Its JSON.
    raw: SecretBytes,
    /// Its name.
    pub name: String,
    /// Its name in addresses.
    pub slug: String,
    /// Its value; of a file, what is in it, once it was read.
    pub value: SecretBytes,
    /// Whether the value is a file that must be read.
    pub is_file: bool,
}

/// A member of an object; names are written in any way, as Go reads them.
fn member<'j>(json: &'j [u8], name: &str) -> Option<&'j [u8]> {
    let members = json::members(json)?;
    members
        .into_iter()
        .rev()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, raw)| raw)
        .filter(|raw| *raw != b"null")
}

fn text(json: &[u8], name: &str) -> SecretBytes {
    member(json, name).filter(|raw| raw.first() == Some(&b'"')).map(json::unquoted).unwrap_or_default()
}

fn number(json: &[u8], name: &str) -> i64 {
    member(json, name).and_then(|raw| std::str::from_utf8(raw).ok()?.parse().ok()).unwrap_or(0)
}

impl Secret {
    /// Reads one. `None`: it is no secret, or has more than [`MAX_FIELDS`].
    pub fn read(body: SecretBytes) -> Option<Self> {
        let json = body.expose();
        let items = member(json, "items").unwrap_or(b"[]");
        let items: Vec<&RawValue> = serde_json::from_slice(items).ok().filter(|items: &Vec<_>| items.len() <= MAX_FIELDS)?;
        let mut fields = Vec::with_capacity(items.len());
        for item in items {
            let raw = item.get().as_bytes().to_vec();
            let plain = |name: &str| text(&raw, name).expose_str().unwrap_or_default().to_owned();
            let is_file = member(&raw, "isFile") == Some(b"true") && number(&raw, "fileAttachmentId") != 0;
            let (name, slug, value) = (plain("fieldName"), plain("slug"), text(&raw, "itemValue"));
            let is_file = is_file && !plain("filename").is_empty();
            fields.push(Field { name, slug, value, is_file, raw: SecretBytes::new(raw) });
        }
        member(json, "name")?;
        let id = number(json, "id");
        Some(Self { fields, id, body })
    }

    /// What is handed out.
    pub fn shown(&self) -> SecretBytes {
        let mut out = Vec::new();
        object(&mut out, SECRET, self.body.expose(), None);
        out.pop();
        out.extend_from_slice(b",\"Items\":");
        if self.fields.is_empty() {
            out.extend_from_slice(b"null");
        } else {
            for (index, field) in self.fields.iter().enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                object(&mut out, FIELD, field.raw.expose(), Some(&field.value));
            }
            out.push(b']');
        }
        out.push(b'}');
        SecretBytes::new(out)
    }

    /// Which field a property means, or the first one.
    pub fn position(&self, property: Option<&str>) -> Option<usize> {
        match property {
            None => (!self.fields.is_empty()).then_some(0),
            Some(name) => self.fields.iter().position(|field| field.slug == name || field.name == name),
        }
    }
}

/// An object of Go's, out of one that the server sent.
fn object(out: &mut Vec<u8>, members: &[(&str, &str)], json: &[u8], value: Option<&SecretBytes>) {
    out.push(b'{');
    for (name, nothing) in members {
        let found = member(json, name);
        if nothing.is_empty() && found.is_none_or(|raw| raw == b"0") {
            continue;
        }
        if out.last() != Some(&b'{') {
            out.push(b',');
        }
        out.extend_from_slice(format!("\"{name}\":").as_bytes());
        match (found, value.filter(|_| *name == "ItemValue")) {
            (_, Some(value)) => json::append_string(out, value.expose(), true),
            (Some(raw), None) if raw.first() == Some(&b'"') => json::append_string(out, &json::unquote(raw), true),
            (Some(raw), None) => out.extend_from_slice(raw),
            (None, None) => out.extend_from_slice(nothing.as_bytes()),
        }
    }
    out.push(b'}');
}

/// Secrets with fields: a property is looked for in the first field, where that is JSON, and then among the fields' names.
pub(super) struct Fields;

impl Taker for Fields {
    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        let secret = Secret::read(value.clone());
        let fields = secret.as_ref().map(|secret| secret.fields.as_slice()).unwrap_or_default();
        let first = fields.first().map(|field| &field.value).filter(|first| json::is_valid(first.expose()));
        let inside = first.and_then(|first| path::escaped_then_path(first, property));
        let field = || fields.iter().rev().find(|field| field.name == property || field.slug == property);
        inside.or_else(|| field().map(|field| field.value.clone())).ok_or_else(|| {
            ProviderError::new(ErrorKind::NotFound, ProviderError::missing_property(&want.key, property).detail)
        })
    }

    /// The JSON of the first field, or of the property.
    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        let part = match property {
            Some(property) => self.property(want, value, property)?,
            None => Secret::read(value.clone())
                .and_then(|secret| secret.fields.into_iter().next())
                .map(|field| field.value)
                .unwrap_or_default(),
        };
        let members = json::members(part.expose()).filter(|_| path::is_json_object(&part));
        let entries = members.and_then(|members| {
            members.into_iter().map(|(key, raw)| Some((key, json::exact::byte_value(raw)?))).collect::<Option<Entries>>()
        });
        entries.ok_or_else(|| {
            let text = format!("the first field of {:?} does not hold a JSON object", want.key);
            ProviderError::new(ErrorKind::Malformed, text)
        })
    }
}
