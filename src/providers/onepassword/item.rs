//! An item: what Connect tells of it, and which part of it a reference means. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::outbound::secret;
use crate::providers::rest::Body;
use crate::providers::{ErrorKind, ProviderError, Taker, Want};
use crate::render::{Entries, json, path};
use crate::secret_bytes::SecretBytes;

/// Begins a property that is a file.
pub(super) const FILE: &str = "file/";
/// Begins a property that is a field.
const FIELD: &str = "field/";
/// The field that counts where none is named.
pub(super) const PASSWORD: &str = "password";
/// The kind of items whose content is their files.
pub(super) const DOCUMENT: &str = "DOCUMENT";

/// Fields and files of an item, as they are kept between the read and the cut.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Item {
    pub document: bool,
    pub title: String,
    pub fields: Vec<Part>,
    /// Those that were asked for. Their values are base64.
    pub files: Vec<Part>,
}

/// A name and a value.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Part {
    pub name: String,
    #[serde(deserialize_with = "secret")]
    pub value: SecretBytes,
}

/// Which part of an item is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meant<'a> {
    /// A field by its label; empty: the default one.
    Field(&'a str),
    /// A file by its name; empty: the first one.
    File(&'a str),
}

/// What a property means in an item.
pub(super) fn meant(document: bool, property: &str) -> Meant<'_> {
    match (property.strip_prefix(FIELD), property.strip_prefix(FILE)) {
        (Some(label), _) => Meant::Field(label),
        (None, Some(name)) => Meant::File(name),
        (None, None) if document => Meant::File(property),
        (None, None) => Meant::Field(property),
    }
}

impl Part {
    /// A file.
    pub fn file(name: &str, content: &SecretBytes) -> Self {
        Self { name: name.to_owned(), value: SecretBytes::from(STANDARD.encode(content.expose())) }
    }

    fn content(&self) -> Result<SecretBytes, ProviderError> {
        STANDARD.decode(self.value.expose()).map(SecretBytes::new).map_err(|_| not_ours())
    }
}

impl Item {
    /// The item as bytes.
    pub fn bytes(&self) -> SecretBytes {
        let list = |parts: &[Part]| {
            let one = |part: &Part| Body::default().text("name", &part.name).text("value", part.value.expose()).build();
            array(parts.iter().map(one))
        };
        Body::default()
            .raw("document", if self.document { b"true" } else { b"false" })
            .text("title", &self.title)
            .raw("fields", list(&self.fields).expose())
            .raw("files", list(&self.files).expose())
            .build()
    }

    fn of(bytes: &SecretBytes) -> Result<Self, ProviderError> {
        serde_json::from_slice(bytes.expose()).map_err(|_| not_ours())
    }

    fn part(&self, want: &Want, property: &str) -> Result<SecretBytes, ProviderError> {
        match meant(self.document, property) {
            Meant::Field(label) => {
                let label = if label.is_empty() { PASSWORD } else { label };
                one_of(&self.fields, label, &self.title, &want.key).map(|part| part.value.clone())
            }
            Meant::File(name) => {
                let found = self.files.iter().find(|file| name.is_empty() || file.name == name);
                found.ok_or_else(|| ProviderError::missing_property(&want.key, property))?.content()
            }
        }
    }

    fn parts(&self, want: &Want, property: &str) -> Result<Entries, ProviderError> {
        let named = |part: &Part, name: &str| name.is_empty() || part.name == name;
        let mut found = Entries::new();
        match meant(self.document, property) {
            Meant::Field(label) => {
                for field in self.fields.iter().filter(|field| named(field, label)) {
                    let only = one_of(&self.fields, &field.name, &self.title, &want.key)?;
                    found.insert(field.name.clone(), only.value.clone());
                }
            }
            Meant::File(name) => {
                for file in self.files.iter().filter(|file| named(file, name)) {
                    found.insert(file.name.clone(), file.content()?);
                }
            }
        }
        match found.is_empty() && !property.is_empty() {
            true => Err(ProviderError::missing_property(&want.key, property)),
            false => Ok(found),
        }
    }
}

/// The one field of a label.
fn one_of<'a>(fields: &'a [Part], label: &str, title: &str, key: &str) -> Result<&'a Part, ProviderError> {
    let mut found = fields.iter().filter(|field| field.name == label);
    match (found.next(), found.count()) {
        (Some(field), 0) => Ok(field),
        (None, _) => Err(ProviderError::missing_property(key, label)),
        (Some(_), more) => Err(several(label, title, more + 1)),
    }
}

/// The text is ESO's.
pub(super) fn several(label: &str, title: &str, count: usize) -> ProviderError {
    let text = format!("expected one 1Password ItemField matching: '{label}' in '{title}', got {count}");
    ProviderError::new(ErrorKind::Misconfigured, text)
}

fn not_ours() -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, "the value is no item of 1Password")
}

/// A JSON array of JSON values.
fn array(values: impl IntoIterator<Item = SecretBytes>) -> SecretBytes {
    let all: Vec<SecretBytes> = values.into_iter().collect();
    let parts: Vec<&[u8]> = all.iter().map(SecretBytes::expose).collect();
    let inside = SecretBytes::new(parts.join(&b","[..]));
    SecretBytes::new([b"[", inside.expose(), b"]"].concat())
}

/// Takes items apart.
pub(super) struct ItemTaker;

impl Taker for ItemTaker {
    /// A JSON object is an item of fields, any other text the field `password`.
    fn stored(&self, want: &Want, written: SecretBytes) -> Result<SecretBytes, ProviderError> {
        let fields = path::object_entries(&written).unwrap_or_else(|| [(PASSWORD.to_owned(), written)].into());
        let fields = fields.into_iter().map(|(name, value)| Part { name, value }).collect();
        Ok(Item { title: want.key.clone(), fields, ..Item::default() }.bytes())
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        Item::of(value)?.part(want, "")
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        Item::of(value)?.part(want, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        Item::of(value)?.parts(want, property.unwrap_or_default())
    }
}

/// An item as Connect sends it.
#[derive(Deserialize)]
pub(super) struct Told {
    pub id: String,
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub category: String,
    #[serde(default)]
    pub tags: Vec<String>,
    #[serde(default)]
    pub fields: Vec<ToldField>,
    #[serde(default)]
    pub files: Vec<ToldFile>,
    #[serde(default)]
    pub sections: Vec<Section>,
}

/// A field of it.
#[derive(Deserialize)]
pub(super) struct ToldField {
    #[serde(default)]
    pub label: String,
    #[serde(default, deserialize_with = "text")]
    pub value: SecretBytes,
}

/// A file of it, without its content.
#[derive(Deserialize)]
pub(super) struct ToldFile {
    pub id: String,
    #[serde(default)]
    pub name: String,
}

/// A section of it.
#[derive(Deserialize)]
pub(super) struct Section {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    label: Option<String>,
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
    Ok(SecretBytes::from(Option::<String>::deserialize(deserializer)?.unwrap_or_default()))
}

impl Told {
    /// The value of the one field of a label; `None` where there is none.
    pub fn field(&self, label: &str) -> Result<Option<&SecretBytes>, ProviderError> {
        let mut found = self.fields.iter().filter(|field| field.label == label);
        match (found.next(), found.count()) {
            (None, _) => Ok(None),
            (Some(field), 0) => Ok(Some(&field.value)),
            (Some(_), more) => Err(several(label, &self.title, more + 1)),
        }
    }

    /// Whether nothing is left of it when its last field goes.
    pub fn is_bare(&self) -> bool {
        let nameless = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
        let no_sections = match &self.sections[..] {
            [] => true,
            [one] => nameless(&one.id) && nameless(&one.label),
            _ => false,
        };
        self.fields.len() == 1 && self.files.is_empty() && no_sections
    }
}

/// What a write makes of the JSON of an item; all that it does not mention stays as it is.
pub(super) struct Change<'a> {
    /// Label of the field.
    pub label: &'a str,
    /// Its value; `None`: the field goes.
    pub value: Option<&'a SecretBytes>,
    /// The tags, where they are given.
    pub tags: Option<&'a [String]>,
}

impl Change<'_> {
    /// The item with the change in it.
    ///
    /// # Errors
    /// `Malformed` where the JSON is no item.
    pub fn apply(&self, item: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        let mut members = path::raw_entries(item).ok_or_else(not_ours)?;
        let fields = match members.get("fields") {
            Some(fields) => self.fields(fields)?,
            None => self.fields(&SecretBytes::from("[]"))?,
        };
        members.insert("fields".to_owned(), fields);
        if let Some(tags) = self.tags {
            members.insert("tags".to_owned(), tags_json(tags));
        }
        Ok(members.into_iter().fold(Body::default(), |body, (name, raw)| body.raw(&name, raw.expose())).build())
    }

    fn fields(&self, fields: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        let all: Vec<&RawValue> = serde_json::from_slice(fields.expose()).map_err(|_| not_ours())?;
        let (mut changed, mut found) = (Vec::with_capacity(all.len() + 1), false);
        for field in all {
            let raw = SecretBytes::from(field.get());
            let mut members = path::raw_entries(&raw).ok_or_else(not_ours)?;
            let is_it =
                members.get("label").is_some_and(|label| json::unquoted(label.expose()).expose() == self.label.as_bytes());
            match (is_it, self.value) {
                (false, _) => changed.push(raw),
                (true, None) => {}
                (true, Some(value)) => {
                    found = true;
                    members.insert("value".to_owned(), quoted(value.expose()));
                    let field = members.into_iter().fold(Body::default(), |body, (name, raw)| body.raw(&name, raw.expose()));
                    changed.push(field.build());
                }
            }
        }
        if let (false, Some(value)) = (found, self.value) {
            changed.push(new_field(self.label, value));
        }
        Ok(array(changed))
    }
}

/// A new item.
pub(super) fn new_item(title: &str, vault: &str, change: &Change<'_>) -> SecretBytes {
    let fields = array(change.value.map(|value| new_field(change.label, value)));
    let body = Body::default()
        .text("title", title)
        .text("category", "SERVER")
        .raw("vault", Body::default().text("id", vault).build().expose())
        .raw("fields", fields.expose());
    match change.tags {
        Some(tags) => body.raw("tags", tags_json(tags).expose()).build(),
        None => body.build(),
    }
}

fn new_field(label: &str, value: &SecretBytes) -> SecretBytes {
    Body::default().text("label", label).text("type", "CONCEALED").text("value", value.expose()).build()
}

fn tags_json(tags: &[String]) -> SecretBytes {
    array(tags.iter().map(|tag| quoted(tag.as_bytes())))
}

fn quoted(text: &[u8]) -> SecretBytes {
    let mut json = Vec::with_capacity(text.len() + 2);
    json::append_string(&mut json, text, false);
    SecretBytes::new(json)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_property_means_a_field_or_a_file() {
        for (document, property, expected) in [
            (false, "", Meant::Field("")),
            (false, "user", Meant::Field("user")),
            (false, "field/file/x", Meant::Field("file/x")),
            (false, "file/key.pem", Meant::File("key.pem")),
            (true, "", Meant::File("")),
            (true, "key.pem", Meant::File("key.pem")),
            (true, "field/notes", Meant::Field("notes")),
        ] {
            assert_eq!(meant(document, property), expected, "{property}");
        }
    }

    #[test]
    fn a_change_leaves_the_rest_as_it_is() {
        let item = json!({
            "id": "i", "title": "t", "urls": [{"href": "https://x", "primary": true}], "tags": ["old"],
            "fields": [{"id": "1", "label": "a", "value": "1", "section": {"id": "s"}}, {"id": "2", "label": "b", "value": "2"}],
        });
        let bytes = SecretBytes::from(item.to_string());
        let apply =
            |change: Change<'_>| -> Value { serde_json::from_slice(change.apply(&bytes).unwrap().expose()).unwrap() };
        let value = SecretBytes::from("new \"v\"");
        let mut expected = item.clone();
        expected["fields"][0]["value"] = json!("new \"v\"");
        assert_eq!(apply(Change { label: "a", value: Some(&value), tags: None }), expected);
        let tags = ["x".to_owned()];
        let mut expected = item.clone();
        expected["fields"].as_array_mut().unwrap().push(json!({"label": "c", "type": "CONCEALED", "value": "new \"v\""}));
        expected["tags"] = json!(["x"]);
        assert_eq!(apply(Change { label: "c", value: Some(&value), tags: Some(&tags) }), expected);
        let mut expected = item.clone();
        expected["fields"].as_array_mut().unwrap().remove(0);
        assert_eq!(apply(Change { label: "a", value: None, tags: None }), expected);
        assert!(Change { label: "a", value: None, tags: None }.apply(&SecretBytes::from("[]")).is_err());
    }

    #[test]
    fn what_a_person_wrote_is_an_item() {
        let want = Want { key: "t".into(), ..Want::default() };
        let stored = |text: &str| ItemTaker.stored(&want, SecretBytes::from(text)).unwrap();
        assert_eq!(ItemTaker.whole(&want, &stored("pw")).unwrap().expose_str(), Some("pw"));
        let object = stored(r#"{"user": "u", "password": "p"}"#);
        assert_eq!(ItemTaker.property(&want, &object, "user").unwrap().expose_str(), Some("u"));
        assert_eq!(ItemTaker.extract(&want, &object, None).unwrap().len(), 2);
        assert_eq!(ItemTaker.whole(&want, &SecretBytes::from("x")).unwrap_err().kind, ErrorKind::Malformed);
    }
}
