//! From text to values.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, StrInput, Tag};

use super::{MAX_DEPTH, NotYaml, Scalar, Yaml, resolve};
use crate::render::template::go::float;

/// Most values of one text, aliases resolved.
const MAX_VALUES: usize = 500_000;
/// Most bytes of texts in them, aliases resolved.
const MAX_BYTES: usize = 8 << 20;
/// Most maps among them: each takes hundreds of bytes, however few keys it has.
const MAX_MAPS: usize = 50_000;

/// Reads the first document; none is null.
///
/// # Errors
/// The text is no YAML, or holds what JSON cannot.
pub fn parse(text: &[u8]) -> Result<Yaml, NotYaml> {
    read(text, true).0
}

/// As [`parse`], and how much was read, aliases resolved, also where the text is none: that much work it was.
///
/// # Errors
/// As [`parse`].
pub fn parse_counted(text: &[u8]) -> (Result<Yaml, NotYaml>, Size) {
    read(text, true)
}

/// As [`parse`], and takes numbers that are infinite or none.
///
/// # Errors
/// As [`parse`].
pub(super) fn parse_any_number(text: &[u8]) -> Result<Yaml, NotYaml> {
    read(text, false).0
}

fn read(text: &[u8], finite: bool) -> (Result<Yaml, NotYaml>, Size) {
    let text = match readable(text) {
        Ok(text) => text,
        Err(error) => return (Err(error), Size::default()),
    };
    let mut options = Options::default();
    options.block_scalar_eof_without_line_feed = true;
    let parser = Parser::new_from_str_with_options(text, options);
    let mut reader = Reader { parser, anchors: HashMap::new(), deepest: 0, size: Size::default(), line: 1, finite };
    (reader.document(), reader.size)
}

fn readable(text: &[u8]) -> Result<&str, NotYaml> {
    let text = std::str::from_utf8(text).map_err(|_| NotYaml { line: 1, reason: "not UTF-8" })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match text.find(is_forbidden) {
        None => Ok(text),
        Some(at) => {
            let line = text[..at].matches('\n').count() + 1;
            Err(NotYaml { line, reason: "control characters are not allowed" })
        }
    }
}

fn is_forbidden(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// How much was read, aliases resolved.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Values, keys among them.
    pub values: usize,
    /// Bytes of the texts in them.
    pub bytes: usize,
    /// Maps among them.
    pub maps: usize,
}

/// What an anchor stands for.
struct Anchored {
    value: Yaml,
    size: Size,
    /// How many levels it has below itself.
    levels: usize,
}

struct Reader<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// By anchor.
    anchors: HashMap<usize, Anchored>,
    /// The deepest level of the value that is being read, aliases resolved.
    deepest: usize,
    /// Of all so far.
    size: Size,
    line: usize,
    /// Whether numbers must be finite, as in JSON.
    finite: bool,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Event<'t>, NotYaml> {
        loop {
            match self.parser.next_event() {
                Some(Ok((event, span))) => {
                    self.line = span.start.line();
                    if is_content(&event) {
                        return Ok(event);
                    }
                }
                Some(Err(error)) => {
                    let reason = match error.kind() {
                        ErrorKind::MappingValueNotAllowed => "mapping values are not allowed in this context",
                        _ => "it is not written as YAML must be",
                    };
                    return Err(NotYaml { line: error.marker().line(), reason });
                }
                None => return Ok(Event::StreamEnd),
            }
        }
    }

    /// The first document.
    fn document(&mut self) -> Result<Yaml, NotYaml> {
        loop {
            match self.next()? {
                Event::StreamStart | Event::DocumentStart(..) => {}
                Event::StreamEnd | Event::DocumentEnd => return Ok(Yaml::Null),
                event => {
                    let value = self.node(event, 0)?;
                    // What follows must be the document's end, not more of it.
                    return match self.next()? {
                        Event::DocumentEnd | Event::StreamEnd => Ok(value),
                        _ => self.fail("did not find the end of the document"),
                    };
                }
            }
        }
    }

    fn fail<T>(&self, reason: &'static str) -> Result<T, NotYaml> {
        Err(NotYaml { line: self.line, reason })
    }

    fn count(&mut self, more: Size) -> Result<(), NotYaml> {
        self.size.values += more.values;
        self.size.bytes += more.bytes;
        self.size.maps += more.maps;
        if self.size.maps > MAX_MAPS {
            return self.fail("it has more than 50000 maps, aliases resolved");
        }
        let is_large = self.size.values > MAX_VALUES || self.size.bytes > MAX_BYTES;
        if is_large { self.fail("aliases make it too large") } else { Ok(()) }
    }

    fn node(&mut self, event: Event<'t>, depth: usize) -> Result<Yaml, NotYaml> {
        if depth > MAX_DEPTH {
            return self.fail("it is nested too deep");
        }
        let (before, outer) = (self.size, std::mem::replace(&mut self.deepest, depth));
        let bytes = if let Event::Scalar(text, ..) = &event { text.len() } else { 0 };
        let maps = usize::from(matches!(&event, Event::MappingStart(..)));
        self.count(Size { values: 1, bytes, maps })?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => (self.scalar(&text, style, tag.as_deref())?, anchor),
            Event::SequenceStart(_, anchor, _) => {
                let mut items = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => break,
                        event => items.push(self.node(event, depth + 1)?),
                    }
                }
                (Yaml::List(items), anchor)
            }
            Event::MappingStart(_, anchor, _) => (self.map(depth)?, anchor),
            Event::Alias(id) => {
                let Some(Anchored { size, levels, .. }) = self.anchors.get(&id) else { return self.fail("unknown anchor") };
                let (size, deepest) = (*size, depth + levels);
                if deepest > MAX_DEPTH {
                    return self.fail("aliases nest it too deep");
                }
                self.deepest = deepest;
                self.count(size)?;
                (self.anchors.get(&id).map_or(Yaml::Null, |anchored| anchored.value.clone()), 0)
            }
            _ => return self.fail("it ends too early"),
        };
        if anchor > 0 {
            let size = Size {
                values: self.size.values - before.values,
                bytes: self.size.bytes - before.bytes,
                maps: self.size.maps - before.maps,
            };
            // it is kept once more
            self.count(size)?;
            self.anchors.insert(anchor, Anchored { value: value.clone(), size, levels: self.deepest - depth });
        }
        self.deepest = self.deepest.max(outer);
        Ok(value)
    }

    fn map(&mut self, depth: usize) -> Result<Yaml, NotYaml> {
        let mut map = BTreeMap::new();
        loop {
            let event = match self.next()? {
                Event::MappingEnd => break,
                event => event,
            };
            let merges = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node(event, depth + 1)?;
            let next = self.next()?;
            let value = self.node(next, depth + 1)?;
            if merges {
                self.merge(&mut map, value)?;
            } else {
                map.insert(self.key(key)?, value);
            }
        }
        Ok(Yaml::Map(map))
    }

    /// Entries of `<<`, which take the place of those that stand before it, as in go-yaml v2; of a list, an earlier map wins.
    fn merge(&self, map: &mut BTreeMap<Vec<u8>, Yaml>, value: Yaml) -> Result<(), NotYaml> {
        match value {
            Yaml::Map(from) => {
                map.extend(from);
                Ok(())
            }
            Yaml::List(list) if list.iter().all(|item| matches!(item, Yaml::Map(_))) => {
                list.into_iter().rev().try_for_each(|item| self.merge(map, item))
            }
            _ => self.fail("map merge requires map or sequence of maps as the value"),
        }
    }

    #[allow(clippy::cast_possible_truncation)] // as sigs.k8s.io/yaml does
    fn key(&self, key: Yaml) -> Result<Vec<u8>, NotYaml> {
        Ok(match key {
            Yaml::Text(text) => text,
            Yaml::Int(number) => number.to_string().into_bytes(),
            Yaml::Float(number) if number.is_nan() => b".nan".to_vec(),
            Yaml::Float(number) if number.is_infinite() => if number > 0.0 { ".inf" } else { "-.inf" }.into(),
            Yaml::Float(number) => float::shortest32(number as f32).into_bytes(),
            Yaml::Bool(truth) => truth.to_string().into_bytes(),
            Yaml::Null | Yaml::Uint(_) | Yaml::List(_) | Yaml::Map(_) => {
                return self.fail("a key of that type is not supported");
            }
        })
    }

    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Yaml, NotYaml> {
        let literal = || Yaml::Text(text.as_bytes().to_vec());
        let tag = tag.map(|tag| if tag.handle() == "tag:yaml.org,2002:" { tag.suffix() } else { "?" });
        let resolved = match tag {
            Some("binary") => return self.binary(text),
            Some("str" | "?") => return Ok(literal()),
            None if style != ScalarStyle::Plain => return Ok(literal()),
            Some("bool" | "int" | "float" | "null" | "timestamp") | None => resolve(text.as_bytes()),
            Some(_) => return Ok(literal()),
        };
        let value = match (tag, resolved) {
            (None | Some("null"), Scalar::Null) => Yaml::Null,
            (None | Some("bool"), Scalar::Bool(truth)) => Yaml::Bool(truth),
            (None | Some("int"), Scalar::Int(number)) => Yaml::Int(number),
            (None | Some("int"), Scalar::Uint(number)) => Yaml::Uint(number),
            (None | Some("float"), Scalar::Float(number)) if number.is_finite() || !self.finite => Yaml::Float(number),
            (None | Some("float"), Scalar::Float(_)) => {
                return self.fail("a number that is infinite or none is not supported");
            }
            #[allow(clippy::cast_precision_loss)]
            (Some("float"), Scalar::Int(number)) => Yaml::Float(number as f64),
            (None | Some("timestamp"), Scalar::Timestamp) | (None, Scalar::Text) => literal(),
            _ => return self.fail("a value is not of the type that its tag names"),
        };
        Ok(value)
    }

    fn binary(&self, text: &str) -> Result<Yaml, NotYaml> {
        let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
        STANDARD.decode(plain).map(Yaml::Text).or_else(|_| self.fail("!!binary value contains invalid base64 data"))
    }
}

/// Whether an event is more than a comment.
pub(crate) fn is_content(event: &Event<'_>) -> bool {
    matches!(
        event,
        Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Alias(_)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A value of thousands of levels would take the stack of whoever goes through it.
    #[test]
    fn aliases_do_not_make_it_deeper_than_it_may_be() {
        let of = |levels: usize, doublings: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            let more: String = (1..=doublings).map(|i| format!("a{i}: &a{i} {open}*a{}{close}\n", i - 1)).collect();
            parse(format!("a0: &a0 {open}{close}\n{more}").as_bytes())
        };
        assert!(of(20, 3).is_ok());
        for (levels, doublings) in [(20, 6), (60, 1), (30, 100)] {
            assert_eq!(of(levels, doublings).err().unwrap().reason, "aliases nest it too deep", "{levels} {doublings}");
        }
        // several at one level are no deeper than one of them
        let wide: String = (0..50).map(|_| "- *a\n").collect();
        assert!(parse(format!("- &a {}{}\n{wide}", "[".repeat(60), "]".repeat(60)).as_bytes()).is_ok());
    }

    #[test]
    fn maps_have_a_bound_of_their_own() {
        let of = |maps: usize| parse(format!("[{}]", vec!["{a: {}}"; maps / 2].join(",")).as_bytes());
        assert!(of(50_000).is_ok());
        assert_eq!(of(50_002).err().unwrap().reason, "it has more than 50000 maps, aliases resolved");
        let aliased = |aliases: usize| parse(format!("- &a {{a: {{}}}}\n{}", "- *a\n".repeat(aliases)).as_bytes());
        // with the anchor's own copy
        assert!(aliased(24_998).is_ok());
        assert_eq!(aliased(24_999).err().unwrap().reason, "it has more than 50000 maps, aliases resolved");
    }

    #[test]
    fn aliases_do_not_make_a_small_text_large() {
        let of = |length: usize, aliases: usize| {
            let lines: String = (0..aliases).map(|i| format!("k{i}: *a\n")).collect();
            parse(format!("a: &a \"{}\"\n{lines}", "x".repeat(length)).as_bytes())
        };
        assert!(of(1000, 1000).is_ok());
        assert_eq!(of(100_000, 2000).err().unwrap().reason, "aliases make it too large");
        let nested: String = (0..90).map(|i| format!("{}k: &a{i}\n", " ".repeat(i))).collect();
        let text = format!("{nested}{}v: {}\n", " ".repeat(90), "x".repeat(200_000));
        assert_eq!(parse(text.as_bytes()).err().unwrap().reason, "aliases make it too large", "each anchor keeps a copy");
    }
}
