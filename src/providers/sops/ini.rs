//! INI as SOPS reads and writes it: the part of go-ini's syntax that its writer uses.

use std::collections::HashMap;

use super::document::Node;
use super::format::Unreadable;
use crate::secret_bytes::SecretBytes;

/// Section of the keys that stand before any.
const DEFAULT: &str = "DEFAULT";
/// What values and keys with special characters are put in.
const QUOTES: [&str; 2] = ["\"\"\"", "`"];

/// Reads a file: a map of sections, each a map of texts.
///
/// # Errors
/// The text is no INI.
pub(super) fn parse(text: &str) -> Result<Node, Unreadable> {
    let mut sections: Vec<(String, Vec<(String, Node)>)> = vec![(DEFAULT.to_owned(), Vec::new())];
    // Where each key of the last section stands in it.
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line = take_line(&mut rest).trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            let (name, _) = name.rsplit_once(']').ok_or(Unreadable("a section in it is not closed"))?;
            sections.push((name.trim().to_owned(), Vec::new()));
            places.clear();
            continue;
        }
        let (key, value) = key(line).ok_or(Unreadable("a line of it is not key = value"))?;
        let value = self::value(value.trim_start(), &mut rest)?;
        let Some((_, pairs)) = sections.last_mut() else { continue };
        let value = Node::Text(SecretBytes::from(value));
        let place = places.get(&key).copied().unwrap_or(pairs.len());
        match pairs.get_mut(place) {
            Some((_, old)) => *old = value,
            None => {
                places.insert(key.clone(), place);
                pairs.push((key, value));
            }
        }
    }
    let used = sections.into_iter().filter(|(name, pairs)| name != DEFAULT || !pairs.is_empty());
    Ok(Node::Map(used.map(|(name, pairs)| (name, Node::Map(pairs))).collect()))
}

fn take_line<'t>(rest: &mut &'t str) -> &'t str {
    let (line, after) = rest.split_once('\n').unwrap_or((rest, ""));
    *rest = after;
    line
}

/// The key of a line, and what follows the delimiter.
fn key(line: &str) -> Option<(String, &str)> {
    for quote in [QUOTES[0], QUOTES[1], "\""] {
        if let Some(inside) = line.strip_prefix(quote) {
            let (key, after) = inside.split_once(quote)?;
            let (_, value) = after.split_once(['=', ':'])?;
            return Some((key.trim().to_owned(), value));
        }
    }
    let (key, value) = line.split_once(['=', ':'])?;
    let key = key.trim();
    (!key.is_empty()).then(|| (key.to_owned(), value))
}

/// A value: what its line holds, or all up to the closing quotes.
fn value(line: &str, rest: &mut &str) -> Result<String, Unreadable> {
    for quote in QUOTES {
        let Some(first) = line.strip_prefix(quote) else { continue };
        if let Some(end) = first.rfind(quote) {
            return Ok(first.get(..end).unwrap_or_default().to_owned());
        }
        let mut value = format!("{first}\n");
        while !rest.is_empty() {
            let next = take_line(rest);
            match next.rfind(quote) {
                Some(end) => return Ok(value + next.get(..end).unwrap_or_default()),
                None => value = value + next + "\n",
            }
        }
        return Err(Unreadable("a value in it is not closed"));
    }
    let mut line = line.trim();
    if let Some(comment) = line.find(['#', ';']) {
        line = line.get(..comment).unwrap_or_default().trim();
    }
    for quote in ['"', '\''] {
        let inside = line.strip_prefix(quote).and_then(|line| line.strip_suffix(quote));
        if let Some(inside) = inside.filter(|inside| !inside.contains(quote)) {
            return Ok(inside.to_owned());
        }
    }
    Ok(line.to_owned())
}
