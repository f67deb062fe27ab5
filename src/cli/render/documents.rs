//! Files and streams, taken apart into documents as kubectl does it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::render::yaml::{self, YamlError};
use crate::secret_bytes::SecretBytes;

/// Endings of files that are read of a folder.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// Files of a folder that may hold manifests, in order.
pub(super) fn files(folder: &Path, recursive: bool) -> std::io::Result<Vec<PathBuf>> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            // as kubectl: a link may lead back to where it is, and out of what was given
            if recursive && !path.is_symlink() {
                found.extend(files(&path, recursive)?);
            }
        } else if path.extension().and_then(|e| e.to_str()).is_some_and(|e| ENDINGS.contains(&e)) {
            found.push(path);
        }
    }
    Ok(found)
}

/// The documents of a text: YAML, or JSON values one after the other.
pub(super) fn documents(text: &str) -> Vec<Result<Value, String>> {
    if text.trim_start().starts_with('{') {
        let read: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(text).into_iter().collect();
        if let Ok(values) = read {
            return values.into_iter().map(Ok).collect();
        }
    }
    chunks(text).into_iter().map(|(line, chunk)| read(line, &chunk)).collect()
}

fn read(line: usize, chunk: &str) -> Result<Value, String> {
    yaml::to_json(&SecretBytes::from(chunk)).map_err(|error| match error {
        YamlError::NotYaml(error) => format!("line {}: {}", line + error.line, error.reason),
        YamlError::Type { found, wanted } => format!("{found} where {wanted} is wanted"),
    })
}

/// Takes a text apart at its lines of `---`; gives each part with the number of lines before it.
fn chunks(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(0, String::new())];
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let after = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']));
        match (after, parts.last_mut()) {
            // what follows on the line belongs to the document
            (Some(rest), _) => parts.push((number, format!("   {rest}"))),
            (None, Some((_, part))) => part.push_str(line),
            (None, None) => {}
        }
    }
    let is_empty = |part: &str| part.lines().all(|line| matches!(line.trim_start().chars().next(), None | Some('#' | '%')));
    parts.retain(|(_, part)| !is_empty(part));
    parts
}
