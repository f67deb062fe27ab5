//! Expressions in Go's RE2 syntax, run by the regex crate.
//!
//! Both are linear in time and agree on most of the syntax, but not on all: `\w`, `\d`, `\s` and `\b` are ASCII in Go, `[a&&b]` is no
//! intersection, `\Q…\E` quotes, `x{` is literal, and the expansion of `$1x` differs. So expressions are translated. Not taken, as
//! the regex crate has no use for them: two groups of one name, and names of groups that begin with a digit.

use std::iter::Peekable;
use std::str::Chars;

use regex::{Captures, Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::{Outside, TooMuch};

/// Most bytes that a compiled expression may take.
const MAX_SIZE: usize = 2 << 20;

/// Most bytes of an expression.
const MAX_LENGTH: usize = 10_000;

/// Most times that `{n}` may repeat, as in Go.
const MAX_REPEAT: u32 = 1000;

/// An expression that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a regular expression that can be used: {reason}")]
pub struct InvalidPattern {
    pattern: String,
    reason: String,
}

impl InvalidPattern {
    /// Why it cannot be used.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Compiles an expression of Go's syntax.
///
/// # Errors
/// It is not valid in Go, or compiles to more than 2 MiB.
pub fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    let compiled = translate(pattern).and_then(|translated| {
        RegexBuilder::new(&translated).size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build().map_err(reason)
    });
    compiled.map_err(|reason| InvalidPattern { pattern: pattern.chars().take(200).collect(), reason })
}

/// Compiles an expression for bytes that need not be UTF-8. The error says why, and never shows the expression, which may be secret.
///
/// # Errors
/// It is not valid in Go, or compiles to more than 2 MiB.
pub fn compile_bytes(pattern: &str) -> Result<regex::bytes::Regex, String> {
    let compiled = translate(pattern).and_then(|translated| {
        let mut builder = regex::bytes::RegexBuilder::new(&translated);
        builder.size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build().map_err(reason)
    });
    compiled.map_err(|reason| format!("the regular expression cannot be used: {reason}"))
}

fn translate(pattern: &str) -> Result<String, String> {
    if pattern.len() > MAX_LENGTH {
        return Err(format!("it is longer than {MAX_LENGTH} bytes"));
    }
    Translator { rest: pattern.chars().peekable(), out: String::new() }.run().map_err(str::to_owned)
}

fn reason(error: regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        // The last line says what is wrong; those before it draw where, in the translation.
        other => other.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    }
}

/// What it costs to run an expression, in steps of templates, which are some microseconds each.
#[derive(Clone, Copy, Debug)]
pub struct Price {
    /// About how many states it has.
    states: usize,
}

impl Price {
    /// The price of an expression of Go's syntax.
    #[must_use]
    pub fn of(pattern: &str) -> Self {
        let parsed = translate(pattern).ok().and_then(|translated| regex_syntax::parse(&translated).ok());
        Self { states: parsed.map_or(1, |hir| states(&hir)) }
    }

    /// Steps of compiling it.
    #[must_use]
    pub fn of_compiling(self) -> u64 {
        1_000_u64.saturating_add(self.states as u64)
    }

    /// Steps of a search for a match through so many bytes. Many states at once are too many for an automaton, and are then gone through
    /// for each byte.
    #[must_use]
    pub fn of_finding(self, bytes: usize) -> usize {
        1 + bytes / 1024 + bytes.saturating_mul(self.states.saturating_sub(64)) / 1000
    }

    /// The same, where the groups of the match are wanted, which always takes going through the states.
    #[must_use]
    pub fn of_groups(self, bytes: usize) -> usize {
        1 + bytes.saturating_mul(self.states.max(4)) / 1000
    }
}

/// About how many states an expression has.
fn states(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Class(Class::Unicode(class)) => class.ranges().len().max(1),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            states(&repetition.sub).saturating_mul(usize::try_from(times).unwrap_or(usize::MAX))
        }
        HirKind::Capture(group) => states(&group.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(states).fold(0, usize::saturating_add),
    }
}

/// Most bytes that a replacement may make of one text.
pub const MAX_REPLACED: usize = 64 << 10;

/// Why matches cannot be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReplaced {
    /// That makes more than 64 KiB of the text.
    TooLong,
    /// It takes too much work.
    TooMuch(TooMuch),
}

/// An expression of Go's syntax, with its price.
pub struct Expression {
    regex: Regex,
    /// What it costs to run it.
    pub price: Price,
}

impl Expression {
    /// Compiles it.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn new(pattern: &str) -> Result<Self, InvalidPattern> {
        Ok(Self { regex: compile(pattern)?, price: Price::of(pattern) })
    }

    /// Replaces all matches, as Go's `ReplaceAllString` does. `$name`, `${name}` and `$1` stand for groups, `$$` for a dollar. A name is as
    /// long as it can be, so `$1x` is the group `1x`; a group that is not there is empty; other dollars stay.
    ///
    /// # Errors
    /// The text becomes too long, or it takes too much work: each match may have looked at all the rest of the text.
    pub fn replace_all(&self, text: &str, template: &str, outside: Outside<'_>) -> Result<String, NotReplaced> {
        let (mut out, mut copied) = (String::new(), 0);
        let step = |from: usize| {
            let price = self.price.of_groups(text.len() - from);
            outside.step(price as u64).map_err(NotReplaced::TooMuch)
        };
        step(0)?;
        for captures in self.regex.captures_iter(text) {
            let Some(found) = captures.get(0) else { continue };
            step(found.start())?;
            out.push_str(&text[copied..found.start()]);
            expand(&mut out, &captures, template).ok_or(NotReplaced::TooLong)?;
            copied = found.end();
        }
        out.push_str(&text[copied..]);
        if out.len() <= MAX_REPLACED { Ok(out) } else { Err(NotReplaced::TooLong) }
    }
}

/// `None` where it becomes too long.
fn expand(out: &mut String, captures: &Captures<'_>, template: &str) -> Option<()> {
    let mut rest = template;
    while let Some(dollar) = rest.find('$') {
        if out.len() > MAX_REPLACED {
            return None;
        }
        out.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = group_name(rest) {
            out.push_str(group(captures, name));
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    (out.len() <= MAX_REPLACED).then_some(())
}

/// The same for bytes.
#[must_use]
pub fn expand_bytes(captures: &regex::bytes::Captures<'_>, template: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = template;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        out.extend_from_slice(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        let text = match std::str::from_utf8(rest) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default(),
        };
        if let Some(after) = rest.strip_prefix(b"$") {
            out.push(b'$');
            rest = after;
        } else if let Some((name, after)) = group_name(text) {
            let found = if is_number(name) { name.parse().ok().and_then(|i| captures.get(i)) } else { captures.name(name) };
            out.extend_from_slice(found.map_or(b"", |group| group.as_bytes()));
            rest = &rest[text.len() - after.len()..];
        } else {
            out.push(b'$');
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Whether a group's name is its number.
fn is_number(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_digit()) && (name == "0" || !name.starts_with('0'))
}

/// The name after a dollar, with or without braces, and what follows.
fn group_name(text: &str) -> Option<(&str, &str)> {
    let braced = text.strip_prefix('{');
    let text = braced.unwrap_or(text);
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let rest = if braced.is_some() { rest.strip_prefix('}')? } else { rest };
    (!name.is_empty()).then_some((name, rest))
}

fn group<'t>(captures: &Captures<'t>, name: &str) -> &'t str {
    let found = if is_number(name) { name.parse().ok().and_then(|i| captures.get(i)) } else { captures.name(name) };
    found.map_or("", |group| group.as_str())
}

/// Turns Go's syntax into that of the regex crate.
struct Translator<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
}

type Translated<T> = Result<T, &'static str>;

impl Translator<'_> {
    fn run(mut self) -> Translated<String> {
        // Whether the last piece was a repetition, which cannot be repeated again.
        let mut repeated = false;
        while let Some(c) = self.rest.next() {
            let mut repeats = false;
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '*' | '+' | '?' => {
                    self.out.push(c);
                    repeats = true;
                }
                '{' => repeats = self.repeat()?,
                '^' | '$' | '.' | '|' | ')' => self.out.push(c),
                other => self.literal(other),
            }
            if repeats {
                if repeated {
                    return Err("invalid nested repetition operator");
                }
                if self.rest.next_if_eq(&'?').is_some() {
                    self.out.push('?');
                }
            }
            repeated = repeats;
        }
        Ok(self.out)
    }

    /// A character that stands for itself.
    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            self.out.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }

    fn escape(&mut self) -> Translated<()> {
        match self.rest.peek().copied() {
            Some(kind @ ('b' | 'B')) => {
                self.rest.next();
                self.out.push_str(if kind == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" });
            }
            Some(anchor @ ('A' | 'z')) => {
                self.rest.next();
                self.out.extend(['\\', anchor]);
            }
            Some('Q') => {
                self.rest.next();
                self.quoted();
            }
            _ => match self.set()? {
                true => {}
                false => {
                    let c = self.character()?;
                    self.literal(c);
                }
            },
        }
        Ok(())
    }

    /// The text between `\Q` and `\E`.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(c);
        }
    }

    /// After a backslash: a set such as `\d` or `\pL`, if there is one.
    fn set(&mut self) -> Translated<bool> {
        let set = match self.rest.peek() {
            Some('d') => "[0-9]",
            Some('D') => "[^0-9]",
            Some('w') => "[0-9A-Za-z_]",
            Some('W') => "[^0-9A-Za-z_]",
            Some('s') => r"[\t\n\f\r ]",
            Some('S') => r"[^\t\n\f\r ]",
            Some(p @ ('p' | 'P')) => {
                self.out.extend(['\\', *p]);
                self.rest.next();
                self.property()?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.rest.next();
        self.out.push_str(set);
        Ok(true)
    }

    /// The name after `\p`.
    fn property(&mut self) -> Translated<()> {
        let first = self.rest.next().ok_or("invalid character class range")?;
        self.out.push(first);
        if first == '{' {
            for c in self.rest.by_ref() {
                self.out.push(c);
                if c == '}' {
                    return Ok(());
                }
            }
            return Err("invalid character class range");
        }
        Ok(())
    }

    /// After a backslash: the one character that the escape stands for.
    fn character(&mut self) -> Translated<char> {
        const INVALID: &str = "invalid escape sequence";
        let c = self.rest.next().ok_or("trailing backslash at end of expression")?;
        Ok(match c {
            'a' => '\u{7}',
            'f' => '\u{c}',
            't' => '\t',
            'n' => '\n',
            'r' => '\r',
            'v' => '\u{b}',
            'x' => self.hexadecimal().ok_or(INVALID)?,
            '1'..='7' if !self.rest.peek().is_some_and(|next| matches!(next, '0'..='7')) => return Err(INVALID),
            '0'..='7' => {
                let mut code = c.to_digit(8).ok_or(INVALID)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.next_if(|next| next.is_digit(8)) else { break };
                    code = code * 8 + digit.to_digit(8).ok_or(INVALID)?;
                }
                char::from_u32(code).ok_or(INVALID)?
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c,
            _ => return Err(INVALID),
        })
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let digits: String = if self.rest.next_if_eq(&'{').is_some() {
            let mut digits = String::new();
            loop {
                match self.rest.next()? {
                    '}' => break digits,
                    c if c.is_ascii_hexdigit() && digits.len() < 8 => digits.push(c),
                    _ => return None,
                }
            }
        } else {
            let digits = [self.rest.next()?, self.rest.next()?];
            if !digits.iter().all(char::is_ascii_hexdigit) {
                return None;
            }
            digits.iter().collect()
        };
        char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
    }

    /// What follows `(`: in Go a group has at most a name, or the flags `imsU`.
    fn group(&mut self) -> Translated<()> {
        self.out.push('(');
        if self.rest.next_if_eq(&'?').is_none() {
            return Ok(());
        }
        self.out.push('?');
        let named = self.rest.next_if_eq(&'P').is_some();
        if self.rest.next_if_eq(&'<').is_some() {
            if self.rest.peek().is_some_and(|c| matches!(c, '=' | '!')) {
                return Err("look-behind is not supported");
            }
            self.out.push_str("P<");
            for c in self.rest.by_ref() {
                self.out.push(c);
                if c == '>' {
                    return Ok(());
                }
            }
            return Err("invalid named capture");
        }
        if named {
            return Err("invalid named capture");
        }
        for c in self.rest.by_ref() {
            match c {
                'i' | 'm' | 's' | 'U' | '-' => self.out.push(c),
                ':' | ')' => {
                    self.out.push(c);
                    return Ok(());
                }
                _ => break,
            }
        }
        Err("invalid or unsupported Perl syntax after \"(?\"")
    }

    /// What follows `{`: a repetition, or else a brace that stands for itself.
    fn repeat(&mut self) -> Translated<bool> {
        let text: String = self.rest.clone().take_while(|c| *c != '}').take(12).collect();
        let closed = self.rest.clone().nth(text.chars().count()) == Some('}');
        let (low, high) = text.split_once(',').map_or((text.as_str(), None), |(low, high)| (low, Some(high)));
        let digits =
            |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) && (n.len() == 1 || !n.starts_with('0'));
        if !closed || !digits(low) || !high.is_none_or(|high| high.is_empty() || digits(high)) {
            self.literal('{');
            return Ok(false);
        }
        let number = |n: &str| n.parse::<u32>().ok().filter(|n| *n <= MAX_REPEAT);
        let ends = high.filter(|high| !high.is_empty()).map(number);
        match (number(low), ends) {
            (Some(low), Some(Some(high))) if low <= high => {}
            (Some(_), None) => {}
            _ => return Err("invalid repeat count"),
        }
        self.out.push_str(&format!("{{{text}}}"));
        self.rest.nth(text.chars().count());
        Ok(true)
    }

    /// What follows `[`.
    fn class(&mut self) -> Translated<()> {
        const UNCLOSED: &str = "missing closing ]";
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            match self.rest.peek().copied().ok_or(UNCLOSED)? {
                ']' if !first => {
                    self.rest.next();
                    self.out.push(']');
                    return Ok(());
                }
                '[' if self.posix()? => {}
                '\\' if matches!(self.rest.clone().nth(1), Some('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'p' | 'P')) => {
                    self.rest.next();
                    self.set()?;
                }
                _ => self.range()?,
            }
            first = false;
        }
    }

    /// A class such as `[:alpha:]` inside another.
    fn posix(&mut self) -> Translated<bool> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        let ahead: String = self.rest.clone().take(12).collect();
        let Some((name, _)) = ahead.strip_prefix("[:").and_then(|text| text.split_once(":]")) else { return Ok(false) };
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err("invalid character class range");
        }
        self.out.push_str(&format!("[:{name}:]"));
        self.rest.nth(name.len() + 3);
        Ok(true)
    }

    fn range(&mut self) -> Translated<()> {
        let low = self.class_character()?;
        self.literal(low);
        let mut ahead = self.rest.clone();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
            self.rest.next();
            let high = self.class_character()?;
            self.out.push('-');
            self.literal(high);
        }
        Ok(())
    }

    fn class_character(&mut self) -> Translated<char> {
        match self.rest.next().ok_or("missing closing ]")? {
            '\\' => self.character(),
            c => Ok(c),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::rewrite::testing::outside;

    #[test]
    fn an_expression_of_many_states_costs_more() {
        let states = |pattern: &str| Price::of(pattern).states;
        assert_eq!(states("abc"), 3);
        assert_eq!(states("[a-f][a-z0-9]{1000}[^a-z0-9]"), 1 + 2 * 1000 + 3);
        assert!(states(r"\pL{100}") > 10_000);
        assert_eq!(states("(a+|b)*c"), 3);
        let (small, large) = (Price::of("a+b|a"), Price::of("[a-f][a-z0-9]{1000}x"));
        assert_eq!((small.of_finding(4096), small.of_groups(1000)), (5, 5));
        assert!(large.of_finding(4096) > 7_000 && large.of_groups(1000) > 2_000);
    }

    #[test]
    fn dollars_expand_as_in_go() {
        let all = Expression::new("(.*)").unwrap();
        for (template, want) in
            [("my_$1", "my_key"), ("$1_x", ""), ("${1}_x", "key_x"), ("a$$b", "a$b"), ("$01", ""), ("$", "$")]
        {
            assert_eq!(all.replace_all("key", template, outside()).as_deref(), Ok(want), "{template}");
        }
    }

    #[test]
    fn errors_name_the_expression() {
        let error = compile("(a").unwrap_err().to_string();
        assert!(error.starts_with("\"(a\" is not a regular expression that can be used: "), "{error}");
        assert!(compile(&"a".repeat(20_000)).is_err());
        assert!(compile(r"((\pL{100}){100}){100}").unwrap_err().to_string().contains("too large"));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in r"[a\\\[\](){}?*+^$|:.,<>P0-9wdsbQE&~\-]{0,20}", text in ".{0,10}", template in r"[$\{\}a1_]{0,8}") {
            if let Ok(expression) = Expression::new(&pattern) {
                let _ = expression.replace_all(&text, &template, outside());
            }
        }
    }
}
