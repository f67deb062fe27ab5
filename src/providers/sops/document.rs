//! A document as SOPS sees it, in the order of the file, and what a key of it is.

use super::cipher::{DataKey, NotDecrypted};
use crate::render::{json, number};
use crate::secret_bytes::SecretBytes;

/// Most levels of lists and maps.
pub(super) const MAX_DEPTH: usize = 64;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Nothing.
    Null,
    /// Truth.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Another number.
    Float(f64),
    /// A time, as RFC 3339 has it.
    Time(String),
    /// Text or bytes.
    Text(SecretBytes),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(String, Node)>),
    /// A comment that stands in a list.
    Comment,
}

impl Node {
    /// The value of a map's key.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        match self {
            Self::Map(pairs) => pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// What a key of a store means: a top-level key, else a path of keys with `/` or `.` between them.
    pub(super) fn find(&self, key: &str) -> Option<&Node> {
        let by = |separator: char| key.split(separator).try_fold(self, |node, step| node.get(step));
        self.get(key).or_else(|| by('/')).or_else(|| by('.'))
    }

    /// The value as one text: lists and maps as JSON.
    pub(super) fn to_secret(&self) -> SecretBytes {
        match self {
            Self::Text(text) => text.clone(),
            Self::Time(text) => SecretBytes::from(text.as_str()),
            Self::Null | Self::Comment => SecretBytes::default(),
            Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::List(_) | Self::Map(_) => {
                let mut out = Vec::new();
                self.append_json(&mut out);
                SecretBytes::new(out)
            }
        }
    }

    fn append_json(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null | Self::Comment => out.extend_from_slice(b"null"),
            Self::Bool(truth) => out.extend_from_slice(truth.to_string().as_bytes()),
            Self::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Self::Float(value) => out.extend_from_slice(number::json(*value).as_bytes()),
            Self::Time(text) => json::append_string(out, text.as_bytes(), false),
            Self::Text(text) => json::append_string(out, text.expose(), false),
            Self::List(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    out.extend_from_slice(if i == 0 { b"" } else { b"," });
                    item.append_json(out);
                }
                out.push(b']');
            }
            Self::Map(pairs) => {
                out.push(b'{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    out.extend_from_slice(if i == 0 { b"" } else { b"," });
                    json::append_string(out, key.as_bytes(), false);
                    out.push(b':');
                    value.append_json(out);
                }
                out.push(b'}');
            }
        }
    }

    /// The bytes that SOPS takes of a leaf for its code over the whole document.
    pub(super) fn authenticated(&self) -> Option<SecretBytes> {
        Some(match self {
            Self::Bool(true) => SecretBytes::from("True"),
            Self::Bool(false) => SecretBytes::from("False"),
            Self::Int(value) => SecretBytes::from(value.to_string()),
            Self::Float(value) => SecretBytes::from(number::decimal(*value)),
            Self::Time(text) => SecretBytes::from(text.as_str()),
            Self::Text(text) => text.clone(),
            Self::Null | Self::Comment | Self::List(_) | Self::Map(_) => return None,
        })
    }

    /// Decrypts all leaves, in the order of the file. `is_sealed` says of a leaf whether it is encrypted, by the keys that lead to
    /// it; `note` is told of each leaf what it was decrypted to.
    ///
    /// # Errors
    /// See [`NotDecrypted`].
    pub(super) fn decrypt(
        self,
        key: &DataKey,
        path: &mut Vec<String>,
        is_sealed: &dyn Fn(&[String], &Node) -> bool,
        note: &mut dyn FnMut(&Node, bool),
    ) -> Result<Node, NotDecrypted> {
        match self {
            Self::Map(pairs) => {
                let mut opened = Vec::with_capacity(pairs.len());
                for (name, value) in pairs {
                    path.push(name.clone());
                    opened.push((name, value.decrypt(key, path, is_sealed, note)?));
                    path.pop();
                }
                Ok(Self::Map(opened))
            }
            Self::List(items) => {
                let opened = items.into_iter().map(|item| item.decrypt(key, path, is_sealed, note));
                let opened = opened.filter(|item| !matches!(item, Ok(Self::Comment)));
                opened.collect::<Result<_, _>>().map(Self::List)
            }
            Self::Null => Ok(Self::Null),
            leaf => {
                let sealed = is_sealed(path, &leaf);
                let opened = match (&leaf, sealed) {
                    (_, false) => leaf,
                    (Self::Text(text), true) => {
                        let path: String = path.iter().flat_map(|step| [step.as_str(), ":"]).collect();
                        key.decrypt(text.expose_str().ok_or(NotDecrypted)?, &path)?
                    }
                    _ => return Err(NotDecrypted),
                };
                note(&opened, sealed);
                Ok(opened)
            }
        }
    }
}
