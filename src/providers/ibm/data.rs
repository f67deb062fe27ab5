//! Pure: what a key means, and what ESO makes of a secret of each type.

use std::collections::BTreeMap;

use super::misconfigured;
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{ErrorKind, ProviderError, Taker, Want};
use crate::render::json::{self, Json};
use crate::render::template::go::float;
use crate::render::{Entries, path};
use crate::secret_bytes::SecretBytes;

/// Group that every instance has, and secrets of which no other is said.
const DEFAULT_GROUP: &str = "default";
/// Fields of certificates that may be missing: ESO gives them as nothing.
const MAY_BE_MISSING: [&str; 2] = ["intermediate", "private_key"];

/// The types of secrets that are read, and what each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One text, in a field: that field, and the key it becomes when the secret is taken apart.
    Text(&'static str, &'static str),
    /// One JSON object in a field, read whole only.
    Object(&'static str),
    /// One JSON object in a field, whose properties are read.
    Properties(&'static str),
    /// Several texts, which are read one by one.
    Fields(&'static [&'static str]),
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "arbitrary" => Self::Text("payload", "arbitrary"),
            "iam_credentials" => Self::Text("api_key", "apikey"),
            "service_credentials" => Self::Object("credentials"),
            "kv" => Self::Properties("data"),
            "custom_credentials" => Self::Properties("credentials_content"),
            "username_password" => Self::Fields(&["username", "password"]),
            "imported_cert" | "public_cert" => Self::Fields(&["certificate", "intermediate", "private_key"]),
            "private_cert" => Self::Fields(&["certificate", "private_key"]),
            _ => return None,
        })
    }
}

/// What a key names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key<'k> {
    pub(super) group: &'k str,
    pub(super) kind: &'k str,
    pub(super) name: &'k str,
}

impl<'k> Key<'k> {
    /// `NAME`, `TYPE/NAME` or `GROUP/TYPE/NAME`, where an id can stand for the name. ESO has no group of its own for a name.
    ///
    /// # Errors
    /// `Misconfigured` where the type is none that is read.
    pub(super) fn parse(key: &'k str) -> Result<Self, ProviderError> {
        let steps: Vec<&str> = key.split('/').collect();
        let (group, kind, name) = match steps.as_slice() {
            [kind, name] => (DEFAULT_GROUP, *kind, *name),
            [group, kind, name] => (*group, *kind, *name),
            _ => (DEFAULT_GROUP, "arbitrary", key),
        };
        if Kind::of(kind).is_none() {
            return Err(misconfigured(format!("unknown secret type {kind}")));
        }
        Ok(Self { group, kind, name })
    }

    /// Whether the name is an id.
    pub(super) fn is_id(&self) -> bool {
        let parts: Vec<&str> = self.name.split('-').collect();
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

/// A secret as the service gives it.
struct Secret<'w> {
    key: &'w str,
    kind: Kind,
    type_name: &'w str,
    fields: BTreeMap<String, Json>,
}

impl<'w> Secret<'w> {
    /// Reads one, which must be of the type that the key says.
    fn read(want: &'w Want, value: &SecretBytes) -> Result<Self, ProviderError> {
        let key = Key::parse(&want.key)?;
        let Some(Json::Object(fields)) = json::parse(value.expose()) else { return Err(malformed(want)) };
        Self::of(&want.key, key.kind, fields)
    }

    fn of(key: &'w str, type_name: &'w str, fields: BTreeMap<String, Json>) -> Result<Self, ProviderError> {
        let kind = Kind::of(type_name).ok_or_else(|| misconfigured(format!("unknown secret type {type_name}")))?;
        match fields.get("secret_type") {
            // The answer's text is told only where it is one that we know.
            Some(Json::String(found)) if found.as_str() != type_name && Kind::of(found).is_none() => {
                Err(misconfigured(format!("secret {key:?} is of a type that is not read, and not of {type_name}")))
            }
            Some(Json::String(found)) if found.as_str() != type_name => {
                let found = found.as_str();
                Err(misconfigured(format!(
                    "secret {key:?} is of type {found}: write {found} in place of {type_name} in the key"
                )))
            }
            _ => Ok(Self { key, kind, type_name, fields }),
        }
    }

    /// A field as bytes.
    fn field(&self, name: &str) -> Result<SecretBytes, ProviderError> {
        self.fields.get(name).map(json::byte_value).ok_or_else(|| ProviderError::missing_property(self.key, name))
    }

    /// The object of a field, as compact JSON.
    fn object(&self, name: &str) -> Result<SecretBytes, ProviderError> {
        let value = self.fields.get(name).ok_or_else(|| ProviderError::missing_property(self.key, name))?;
        Ok(SecretBytes::new(json::compact(value, true)))
    }

    fn whole(&self) -> Result<SecretBytes, ProviderError> {
        match self.kind {
            Kind::Text(field, _) => self.field(field),
            Kind::Object(field) | Kind::Properties(field) => self.object(field),
            Kind::Fields(_) => Err(misconfigured(format!("remoteRef.property required for secret type {}", self.type_name))),
        }
    }

    fn property(&self, property: &str) -> Result<SecretBytes, ProviderError> {
        let missing = || ProviderError::missing_property(self.key, property);
        match self.kind {
            // There is one value only, and ESO gives it whatever the property says.
            Kind::Text(..) | Kind::Object(_) => self.whole(),
            Kind::Properties(field) => path::escaped_then_path(&self.object(field)?, property).ok_or_else(missing),
            Kind::Fields(_) => match self.field(property) {
                Err(_) if self.type_name == "imported_cert" && MAY_BE_MISSING.contains(&property) => {
                    Ok(SecretBytes::default())
                }
                found => found,
            },
        }
    }

    fn entries(&self, property: Option<&str>) -> Result<Entries, ProviderError> {
        match self.kind {
            Kind::Text(field, name) => Ok(Entries::from([(name.to_owned(), self.field(field)?)])),
            // Go prints the map that it has read.
            Kind::Object(field) => {
                let value = self.fields.get(field).ok_or_else(|| ProviderError::missing_property(self.key, field))?;
                Ok(Entries::from([(field.to_owned(), SecretBytes::from(as_go_prints(value)))]))
            }
            Kind::Properties(field) => {
                let object = match property {
                    Some(property) => self.property(property)?,
                    None => self.object(field)?,
                };
                match json::parse(object.expose()) {
                    Some(Json::Object(map)) => {
                        Ok(map.iter().map(|(key, value)| (key.clone(), json::byte_value(value))).collect())
                    }
                    _ => Err(not_an_object(self.key)),
                }
            }
            Kind::Fields(names) => names.iter().map(|name| Ok(((*name).to_owned(), self.property(name)?))).collect(),
        }
    }

    /// All that the service says of the secret.
    fn metadata(&self) -> Entries {
        self.fields.iter().map(|(key, value)| (key.clone(), SecretBytes::from(as_go_prints(value)))).collect()
    }
}

/// What a search gives of a secret: one text, whatever its type.
pub(super) fn found(name: &str, type_name: &str, value: &SecretBytes) -> Result<Option<SecretBytes>, ProviderError> {
    let Some(Json::Object(fields)) = json::parse(value.expose()) else {
        let text = format!("the answer about secret {name:?} is not the JSON that such a server sends");
        return Err(ProviderError::new(ErrorKind::Malformed, text));
    };
    if Kind::of(type_name).is_none() {
        return Ok(None);
    }
    let secret = Secret::of(name, type_name, fields)?;
    Ok(Some(match secret.kind {
        Kind::Fields(_) => json::object_of_text(&secret.entries(None)?),
        _ => secret.whole()?,
    }))
}

/// A value as Go prints one of type `any`.
fn as_go_prints(value: &Json) -> String {
    match value {
        Json::Null => "<nil>".to_owned(),
        Json::Bool(truth) => truth.to_string(),
        Json::Number(number) => float::shortest(*number),
        Json::String(text) => text.as_str().to_owned(),
        Json::Array(items) => format!("[{}]", items.iter().map(as_go_prints).collect::<Vec<_>>().join(" ")),
        Json::Object(map) => {
            let pairs: Vec<_> = map.iter().map(|(key, value)| format!("{key}:{}", as_go_prints(value))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

fn malformed(want: &Want) -> ProviderError {
    let text = format!("the answer about secret {:?} is not the JSON that such a server sends", want.key);
    ProviderError::new(ErrorKind::Malformed, text)
}

fn not_an_object(key: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, format!("the value of {key:?} is not a JSON object"))
}

/// Takes secrets apart. They are kept as the service gives them.
pub(super) struct IbmTaker;

impl Taker for IbmTaker {
    fn stored(&self, want: &Want, written: SecretBytes) -> Result<SecretBytes, ProviderError> {
        let key = Key::parse(&want.key)?;
        let quoted = |text: &SecretBytes| {
            let mut out = Vec::new();
            json::append_string(&mut out, text.expose(), false);
            SecretBytes::new(out)
        };
        let kind = Kind::of(key.kind).ok_or_else(|| misconfigured(format!("unknown secret type {}", key.kind)))?;
        let json = match kind {
            Kind::Text(field, _) => [b"{\"", field.as_bytes(), b"\":", quoted(&written).expose(), b"}"].concat(),
            Kind::Object(field) | Kind::Properties(field) => {
                [b"{\"", field.as_bytes(), b"\":", written.expose(), b"}"].concat()
            }
            Kind::Fields(_) => written.expose().to_vec(),
        };
        let json = SecretBytes::new(json);
        match json::parse(json.expose()) {
            Some(Json::Object(_)) => Ok(json),
            _ => Err(misconfigured(format!("the value of {:?} must be a JSON object", want.key))),
        }
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        Secret::read(want, value)?.whole()
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        Secret::read(want, value)?.property(property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        let secret = Secret::read(want, value)?;
        let mut entries = match want.metadata {
            MetadataPolicy::Fetch => secret.metadata(),
            MetadataPolicy::None => Entries::new(),
        };
        entries.extend(secret.entries(property)?);
        Ok(entries)
    }
}
