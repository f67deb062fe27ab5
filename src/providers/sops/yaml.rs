//! YAML as SOPS reads it: one document, its keys in their order, with the types of go-yaml v3.

use granit_parser::{Event, Options, Parser, ScalarStyle, StrInput, Tag};

use super::document::{MAX_DEPTH, Node};
use super::format::Unreadable;
use crate::render::template::funcs::layout;
use crate::render::yaml::{Scalar, is_content, resolve, timestamp};
use crate::secret_bytes::SecretBytes;

/// As Go writes a time as text.
const RFC3339: &[u8] = b"2006-01-02T15:04:05.999999999Z07:00";

/// Reads a document.
///
/// # Errors
/// The text is no YAML, or holds what SOPS never writes: several documents, aliases, keys that are no text.
pub(super) fn parse(text: &str) -> Result<Node, Unreadable> {
    let mut options = Options::default();
    options.block_scalar_eof_without_line_feed = true;
    let mut reader = Reader { parser: Parser::new_from_str_with_options(text, options) };
    let mut found = None;
    loop {
        match reader.next()? {
            Event::StreamEnd => return found.ok_or(Unreadable("it is empty")),
            Event::StreamStart | Event::DocumentStart(..) | Event::DocumentEnd => {}
            _ if found.is_some() => {
                return Err(Unreadable("it holds several YAML documents: keep each in a file of its own"));
            }
            event => found = Some(reader.node(event, 0)?),
        }
    }
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
}

impl<'t> Reader<'t> {
    /// The next event that is more than a comment.
    fn next(&mut self) -> Result<Event<'t>, Unreadable> {
        loop {
            match self.parser.next_event() {
                Some(Ok((event, _))) if is_content(&event) => return Ok(event),
                Some(Ok(_)) => {}
                Some(Err(_)) => return Err(Unreadable("it is not written as YAML must be")),
                None => return Ok(Event::StreamEnd),
            }
        }
    }

    fn node(&mut self, event: Event<'t>, depth: usize) -> Result<Node, Unreadable> {
        if depth > MAX_DEPTH {
            return Err(Unreadable("it is nested too deep"));
        }
        match event {
            Event::Scalar(text, style, _, tag) => scalar(&text, style, tag.as_deref()),
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Node::List(items)),
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => self.map(depth),
            Event::Alias(_) => Err(Unreadable("it holds a YAML alias, which SOPS does not write")),
            _ => Err(Unreadable("it ends too early")),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, Unreadable> {
        let mut pairs: Vec<(String, Node)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let event = match self.next()? {
                Event::MappingEnd => return Ok(Node::Map(pairs)),
                event => event,
            };
            let Node::Text(key) = self.node(event, depth + 1)? else {
                return Err(Unreadable("a key of it is no text"));
            };
            let key = key.expose_str().unwrap_or_default().to_owned();
            if !seen.insert(key.clone()) {
                return Err(Unreadable("a key stands in it twice"));
            }
            let event = self.next()?;
            pairs.push((key, self.node(event, depth + 1)?));
        }
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Node, Unreadable> {
    let plain = style == ScalarStyle::Plain && tag.is_none();
    let of_text = || Node::Text(SecretBytes::from(text));
    if tag.is_some_and(|tag| tag.handle() != "tag:yaml.org,2002:" || tag.suffix() != "str") {
        return Err(Unreadable("it holds a YAML tag, which SOPS does not write"));
    }
    if !plain {
        return Ok(of_text());
    }
    Ok(match resolve(text.as_bytes()) {
        Scalar::Null => Node::Null,
        // Words like `yes` are text since YAML 1.2.
        Scalar::Bool(truth) if matches!(text.to_ascii_lowercase().as_str(), "true" | "false") => Node::Bool(truth),
        Scalar::Int(number) => Node::Int(number),
        Scalar::Uint(_) => return Err(Unreadable("a number in it is larger than SOPS allows")),
        Scalar::Float(number) if number.is_finite() => Node::Float(number),
        Scalar::Float(_) => return Err(Unreadable("a number in it is infinite, or none")),
        Scalar::Timestamp => match timestamp(text.as_bytes()) {
            Some(time) => Node::Time(String::from_utf8_lossy(&layout::format(&time, RFC3339)).into_owned()),
            None => of_text(),
        },
        Scalar::Bool(_) | Scalar::Text => of_text(),
    })
}
