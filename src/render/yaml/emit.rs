//! From values to text, as go-yaml v2 lays it out.

use super::{Scalar, resolve};

/// Where lines are folded.
const WIDTH: usize = 80;

/// Longest key without a question mark.
const SIMPLE_KEY: usize = 128;

/// Writes YAML piece by piece; callers go through lists and maps.
pub(crate) struct Emitter {
    pub(crate) out: Vec<u8>,
    /// Indentation; none before the first level.
    indent: Option<usize>,
    column: usize,
    /// The last thing written was white space.
    whitespace: bool,
    /// Nothing but indentation and indicators of it are in this line.
    indention: bool,
}

/// What a string lets itself be written as.
struct Analysis {
    multiline: bool,
    plain: bool,
    single: bool,
    block: bool,
}

impl Emitter {
    pub(crate) fn new() -> Self {
        Self { out: Vec::new(), indent: None, column: 0, whitespace: true, indention: true }
    }

    fn put(&mut self, c: char) {
        self.out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.column += 1;
    }

    fn line_break(&mut self, c: char) {
        self.put(c);
        self.column = 0;
    }

    fn write_indent(&mut self) {
        let indent = self.indent.unwrap_or(0);
        if !self.indention || self.column > indent || (self.column == indent && !self.whitespace) {
            self.line_break('\n');
        }
        while self.column < indent {
            self.put(' ');
        }
        self.whitespace = true;
        self.indention = true;
    }

    fn indicator(&mut self, text: &str, needs_space: bool, indents: bool) {
        if needs_space && !self.whitespace {
            self.put(' ');
        }
        text.chars().for_each(|c| self.put(c));
        self.whitespace = false;
        self.indention = self.indention && indents;
    }

    /// Begins a list that is not empty: what to give back to [`Self::end`]. In a map it is not indented.
    pub(crate) fn begin_list(&mut self, in_map: bool) -> Option<usize> {
        let outer = self.indent;
        let indentless = in_map && !self.indention;
        self.indent = Some(match outer {
            None => 0,
            Some(indent) if indentless => indent,
            Some(indent) => indent + 2,
        });
        outer
    }

    /// Begins a map that is not empty.
    pub(crate) fn begin_map(&mut self) -> Option<usize> {
        let outer = self.indent;
        self.indent = Some(outer.map_or(0, |indent| indent + 2));
        outer
    }

    /// Ends a list or a map.
    pub(crate) fn end(&mut self, outer: Option<usize>) {
        self.indent = outer;
    }

    /// Before an item of a list.
    pub(crate) fn item(&mut self) {
        self.write_indent();
        self.indicator("-", true, true);
    }

    /// A key and its colon.
    pub(crate) fn key(&mut self, key: &str) {
        self.write_indent();
        if key.len() <= SIMPLE_KEY && !analyze(key).multiline {
            self.string(key, true);
            self.indicator(":", false, false);
        } else {
            self.indicator("?", true, true);
            self.string(key, false);
            self.write_indent();
            self.indicator(":", true, true);
        }
    }

    /// An empty list or map.
    pub(crate) fn empty(&mut self, brackets: &str) {
        self.indicator(brackets, true, false);
    }

    /// The end of the text.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.write_indent();
        self.out
    }

    /// Most bytes of line ends and indentation that a text gets at this level. One that is indented far has a line for each word.
    pub(crate) fn most_padding(&self, text: &str) -> usize {
        let indent = self.indent.map_or(2, |indent| indent + 2);
        let lines = text.chars().filter(|c| is_break(*c)).count();
        let spaces = text.bytes().filter(|b| *b == b' ').count();
        // an escape takes at most four columns for each byte
        let folds = match WIDTH.saturating_sub(indent) {
            0 => spaces,
            room => spaces.min(4 * text.len() / room),
        };
        (1 + lines + folds).saturating_mul(1 + indent)
    }

    /// A number, a truth or nothing.
    pub(crate) fn plain(&mut self, text: &str) {
        self.unquoted(text, true);
    }

    /// A string.
    pub(crate) fn text(&mut self, text: &str) {
        self.string(text, false);
    }

    /// A string; `simple` where it is a key before a colon.
    fn string(&mut self, text: &str, simple: bool) {
        let outer = self.indent;
        // Inside a scalar, lines that go on are indented.
        self.indent = Some(outer.map_or(2, |indent| indent + 2));
        let analysis = analyze(text);
        let can_be_plain = matches!(resolve(text.as_bytes()), Scalar::Text) && !is_base_60(text);
        if text.contains('\n') && analysis.block && !simple {
            self.literal(text);
        } else if !text.contains('\n') && can_be_plain && analysis.plain && !(text.is_empty() && simple) {
            self.unquoted(text, !simple);
        } else if !text.contains('\n') && can_be_plain && analysis.single {
            self.single_quoted(text, !simple);
        } else {
            self.double_quoted(text, !simple);
        }
        self.indent = outer;
    }

    fn unquoted(&mut self, text: &str, folds: bool) {
        if !self.whitespace {
            self.put(' ');
        }
        self.folded(text, folds, false);
    }

    fn single_quoted(&mut self, text: &str, folds: bool) {
        self.indicator("'", true, false);
        self.folded(text, folds, true);
        self.indicator("'", false, false);
        self.whitespace = false;
        self.indention = false;
    }

    /// Text whose lines are folded at single spaces.
    fn folded(&mut self, text: &str, folds: bool, quoted: bool) {
        let mut spaces = false;
        let mut breaks = false;
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            let next_is_space = chars.peek().is_some_and(|(_, next)| *next == ' ');
            let inside = !quoted || (at > 0 && at + 1 < text.len());
            if c == ' ' {
                if folds && !spaces && self.column > WIDTH && inside && !next_is_space {
                    self.write_indent();
                } else {
                    self.put(c);
                }
                spaces = true;
            } else if is_break(c) {
                if !breaks && c == '\n' {
                    self.line_break('\n');
                }
                self.line_break(c);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                if quoted && c == '\'' {
                    self.put('\'');
                }
                self.put(c);
                self.indention = false;
                spaces = false;
                breaks = false;
            }
        }
        self.whitespace = false;
        self.indention = false;
    }

    fn double_quoted(&mut self, text: &str, folds: bool) {
        self.indicator("\"", true, false);
        let bom = text.starts_with('\u{feff}');
        let mut spaces = false;
        let mut chars = text.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            if !is_printable(c) || bom || is_break(c) || c == '"' || c == '\\' {
                escape(c).chars().for_each(|c| self.put(c));
                spaces = false;
            } else if c == ' ' {
                if folds && !spaces && self.column > WIDTH && at > 0 && at + 1 < text.len() {
                    self.write_indent();
                    if chars.peek().is_some_and(|(_, next)| *next == ' ') {
                        self.put('\\');
                    }
                } else {
                    self.put(c);
                }
                spaces = true;
            } else {
                self.put(c);
                spaces = false;
            }
        }
        self.indicator("\"", false, false);
        self.whitespace = false;
        self.indention = false;
    }

    fn literal(&mut self, text: &str) {
        self.indicator("|", true, false);
        if text.starts_with(|c| c == ' ' || is_break(c)) {
            self.indicator("2", false, false);
        }
        let mut last = text.chars().rev();
        match (last.next().is_some_and(is_break), last.next()) {
            (false, _) => self.indicator("-", false, false),
            (true, None) => self.indicator("+", false, false),
            (true, Some(before)) if is_break(before) => self.indicator("+", false, false),
            _ => {}
        }
        self.line_break('\n');
        self.indention = true;
        self.whitespace = true;
        let mut breaks = true;
        for c in text.chars() {
            if is_break(c) {
                self.line_break(c);
                self.indention = true;
                breaks = true;
            } else {
                if breaks {
                    self.write_indent();
                }
                self.put(c);
                self.indention = false;
                breaks = false;
            }
        }
    }
}

fn is_break(c: char) -> bool {
    matches!(c, '\r' | '\n' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What need not be escaped; characters beyond the basic plane must.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

fn escape(c: char) -> String {
    let short = match c {
        '\0' => '0',
        '\u{7}' => 'a',
        '\u{8}' => 'b',
        '\t' => 't',
        '\n' => 'n',
        '\u{b}' => 'v',
        '\u{c}' => 'f',
        '\r' => 'r',
        '\u{1b}' => 'e',
        '"' | '\\' => c,
        '\u{85}' => 'N',
        '\u{a0}' => '_',
        '\u{2028}' => 'L',
        '\u{2029}' => 'P',
        _ => {
            let code = u32::from(c);
            return match code {
                0..=0xff => format!("\\x{code:02X}"),
                0x100..=0xffff => format!("\\u{code:04X}"),
                _ => format!("\\U{code:08X}"),
            };
        }
    };
    format!("\\{short}")
}

/// `190:20:30`, a number in YAML 1.1 that go-yaml reads as text but quotes.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let first = parts.next().unwrap_or_default();
    let mut rest: Vec<&str> = parts.collect();
    if !first.starts_with(|c: char| c.is_ascii_digit())
        || !first.chars().all(|c| c.is_ascii_digit() || c == '_')
        || rest.is_empty()
    {
        return false;
    }
    if let Some(last) = rest.last_mut() {
        let (whole, decimals) = last.split_once('.').unwrap_or((last, ""));
        if !decimals.chars().all(|c| c.is_ascii_digit() || c == '_') {
            return false;
        }
        *last = whole;
    }
    rest.iter().all(|part| match part.as_bytes() {
        [digit] => digit.is_ascii_digit(),
        [b'0'..=b'5', digit] => digit.is_ascii_digit(),
        _ => false,
    })
}

fn analyze(text: &str) -> Analysis {
    if text.is_empty() {
        return Analysis { multiline: false, plain: true, single: true, block: false };
    }
    let mut indicators = text.starts_with("---") || text.starts_with("...");
    let (mut special, mut line_breaks) = (false, false);
    let (mut break_space, mut space_break) = (false, false);
    let (mut after_space, mut after_break, mut after_white) = (false, false, true);
    let mut chars = text.chars().peekable();
    let mut first = true;
    while let Some(c) = chars.next() {
        let before_white = chars.peek().is_none_or(|next| matches!(next, ' ' | '\t'));
        indicators |= match c {
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' if first => true,
            '?' | '-' if first => before_white,
            ':' => before_white,
            '#' => after_white,
            _ => false,
        };
        special |= !is_printable(c);
        break_space |= c == ' ' && after_break;
        space_break |= is_break(c) && after_space;
        line_breaks |= is_break(c);
        after_space = c == ' ';
        after_break = is_break(c);
        after_white = matches!(c, ' ' | '\t' | '\0') || is_break(c);
        first = false;
    }
    let at_end = |c: char| c == ' ' || is_break(c);
    let (leads, trails) = (text.starts_with(at_end), text.ends_with(at_end));
    let broken = space_break || special;
    Analysis {
        multiline: line_breaks,
        plain: !(leads || trails || break_space || broken || line_breaks || indicators),
        single: !(break_space || broken),
        block: !(text.ends_with(' ') || broken),
    }
}
