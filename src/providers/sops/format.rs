//! The formats of SOPS files: from text to a document and the metadata that SOPS keeps beside it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::document::{MAX_DEPTH, Node};
use super::{ini, yaml};
use crate::secret_bytes::SecretBytes;

/// Top-level key of the metadata.
const METADATA: &str = "sops";
/// What keys of metadata begin with where all keys are on one level.
const PREFIX: &str = "sops_";

/// Format of a SOPS file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A YAML map.
    Yaml,
    /// A JSON object.
    Json,
    /// Lines of `KEY=value`.
    Dotenv,
    /// Sections with keys.
    Ini,
    /// Any other file: its only key is `data`.
    Binary,
}

/// A text that is not of its format. It says why, and never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub &'static str);

impl Format {
    /// The format of a file, by its name, as SOPS tells it.
    pub(super) fn of(name: &str) -> Self {
        match name.rsplit_once('.').map(|(_, end)| end) {
            Some("yaml" | "yml") => Self::Yaml,
            Some("json") => Self::Json,
            Some("env") => Self::Dotenv,
            Some("ini") => Self::Ini,
            _ => Self::Binary,
        }
    }

    /// Takes a file apart: the encrypted document, and its metadata.
    ///
    /// # Errors
    /// The file is not of this format, or SOPS did not write it.
    pub(super) fn read(self, file: &SecretBytes) -> Result<(Node, Node), Unreadable> {
        let text = file.expose_str().ok_or(Unreadable("it is not UTF-8"))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let document = match self {
            Self::Yaml => yaml::parse(text)?,
            Self::Json | Self::Binary => json(text)?,
            Self::Dotenv => dotenv(text)?,
            Self::Ini => ini::parse(text)?,
        };
        let Node::Map(pairs) = document else { return Err(Unreadable("it is no map of keys and values")) };
        let is_metadata = |key: &str| match self {
            Self::Dotenv => key.starts_with(PREFIX),
            _ => key == METADATA,
        };
        let (metadata, pairs): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(key, _)| is_metadata(key));
        let flat = match self {
            Self::Yaml | Self::Json | Self::Binary => None,
            Self::Dotenv => Some(metadata.iter().map(|(key, value)| (&key[PREFIX.len()..], value)).collect::<Vec<_>>()),
            Self::Ini => match metadata.first() {
                Some((_, Node::Map(inside))) => Some(inside.iter().map(|(key, value)| (key.as_str(), value)).collect()),
                _ => Some(Vec::new()),
            },
        };
        let metadata = match flat {
            Some(flat) if flat.is_empty() => None,
            Some(flat) => Some(unflatten(flat)?),
            None => metadata.into_iter().next().map(|(_, value)| value),
        };
        let metadata = metadata.ok_or(Unreadable("it has no sops metadata: it is not encrypted, or of another format"))?;
        Ok((Node::Map(pairs), metadata))
    }
}

fn json(text: &str) -> Result<Node, Unreadable> {
    let value: Value = serde_json::from_str(text).map_err(|_| Unreadable("it is not JSON"))?;
    of_json(value, 0)
}

fn of_json(value: Value, depth: usize) -> Result<Node, Unreadable> {
    if depth > MAX_DEPTH {
        return Err(Unreadable("it is nested too deep"));
    }
    Ok(match value {
        Value::Null => Node::Null,
        Value::Bool(truth) => Node::Bool(truth),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Node::Int(number),
            (None, Some(number)) => Node::Float(number),
            (None, None) => return Err(Unreadable("a number in it is too large")),
        },
        Value::String(text) => Node::Text(SecretBytes::from(text)),
        Value::Array(items) => Node::List(items.into_iter().map(|item| of_json(item, depth + 1)).collect::<Result<_, _>>()?),
        Value::Object(pairs) => {
            let pairs = pairs.into_iter().map(|(key, value)| Ok((key, of_json(value, depth + 1)?)));
            Node::Map(pairs.collect::<Result<_, _>>()?)
        }
    })
}

fn dotenv(text: &str) -> Result<Node, Unreadable> {
    let lines = text.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pair = |line: &str| {
        let (key, value) = line.split_once('=').ok_or(Unreadable("a line of it is not KEY=value"))?;
        Ok((key.to_owned(), Node::Text(SecretBytes::from(value.replace("\\n", "\n")))))
    };
    lines.map(pair).collect::<Result<_, _>>().map(Node::Map)
}

/// A tree of metadata out of keys like `age__list_0__map_enc`. What does not fit together is left out: what is missing then is
/// told where it is needed.
///
/// # Errors
/// A key leads deeper than any other format may: the tree is walked, and dropped, level by level on the stack.
fn unflatten(flat: Vec<(&str, &Node)>) -> Result<Node, Unreadable> {
    let mut root = Branch::default();
    for (key, value) in flat {
        let text = value.to_secret();
        let text = text.expose_str().unwrap_or_default().replace("\\n", "\n");
        let key = key.replace("__list_", "\0").replace("__map_", "\0");
        if key.split('\0').count() > MAX_DEPTH {
            return Err(Unreadable("a key of its sops metadata is nested too deep"));
        }
        let leaf = key.split('\0').fold(&mut root, |branch, step| branch.under.entry(step.to_owned()).or_default());
        leaf.text = Some(text);
    }
    Ok(root.into_node())
}

#[derive(Default)]
struct Branch {
    text: Option<String>,
    under: BTreeMap<String, Branch>,
}

impl Branch {
    fn into_node(self) -> Node {
        match self.text {
            Some(text) => Node::Text(SecretBytes::from(text)),
            None if self.under.keys().all(|key| key.parse::<usize>().is_ok()) => {
                Node::List(self.under.into_values().map(Self::into_node).collect())
            }
            None => Node::Map(self.under.into_iter().map(|(key, branch)| (key, branch.into_node())).collect()),
        }
    }
}
