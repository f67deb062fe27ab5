//! Expressions in Go's RE2 syntax, run by the regex crate.
//!
//! Both are linear in time and agree on most of the syntax, but not on all: `\w`, `\d`, `\s` and `\b` are ASCII in Go, `[a&&b]` is no
//! intersection, `\Q…\E` quotes, `x{` is literal, and the expansion of `$1x` differs. So expressions are translated, and what Go
//! refuses is refused in its words. Not taken, as the regex crate has no use for them: two groups of one name, names of groups that
//! begin with a digit, operators behind flags (`a(?i)*`) and flags that say nothing or one thing twice (`(?)`, `(?ii)`).

mod translate;

#[cfg(test)]
mod tests;

use std::ops::Range;

use regex::{Captures, Regex, RegexBuilder};
use regex_syntax::hir::{Class, Hir, HirKind};

use super::{Outside, TooMuch};

/// Most bytes that a compiled expression may take.
const MAX_SIZE: usize = 2 << 20;

/// Most bytes of an expression.
const MAX_LENGTH: usize = 10_000;

/// Most characters of an expression that an error shows.
const MAX_SHOWN: usize = 1000;

/// An expression that cannot be used. The text is that of Go's `regexp.Compile`; where Go would take the expression, the reason is ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {code}: `{fragment}`{limit}")]
pub struct InvalidPattern {
    code: String,
    /// The part of the expression that is wrong.
    fragment: String,
    /// The limit of ours that it goes beyond, if that is why.
    limit: &'static str,
}

impl InvalidPattern {
    fn new(code: &str, fragment: &str, limit: &'static str) -> Self {
        Self { code: code.to_owned(), fragment: shown(fragment).to_owned(), limit }
    }

    /// What the regex crate says of the translation of an expression.
    fn refused(pattern: &str, error: &regex::Error) -> Self {
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            return Self::new("expression too large", pattern, ": it takes more than 2 MiB when compiled");
        }
        // The last line says what is wrong; those before it draw where, in the translation.
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        if reason.starts_with("exceed the maximum number of nested") {
            return Self::new("expression nests too deeply", pattern, ": it has more than 250 levels");
        }
        Self::new(reason, pattern, "")
    }
}

/// As much of an expression as an error may show.
#[must_use]
pub fn shown(pattern: &str) -> &str {
    pattern.char_indices().nth(MAX_SHOWN).map_or(pattern, |(end, _)| &pattern[..end])
}

/// Compiles an expression of Go's syntax.
///
/// # Errors
/// It is not valid in Go, or compiles to more than 2 MiB.
pub fn compile(pattern: &str) -> Result<Regex, InvalidPattern> {
    let mut builder = RegexBuilder::new(&translate(pattern)?);
    builder.size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build().map_err(|e| InvalidPattern::refused(pattern, &e))
}

/// Compiles an expression for bytes that need not be UTF-8. The error says why, and never shows the expression, which may be secret.
///
/// # Errors
/// It is not valid in Go, or compiles to more than 2 MiB.
pub fn compile_bytes(pattern: &str) -> Result<regex::bytes::Regex, String> {
    let compiled = translate(pattern).and_then(|translated| {
        let mut builder = regex::bytes::RegexBuilder::new(&translated);
        builder.size_limit(MAX_SIZE).dfa_size_limit(MAX_SIZE).build().map_err(|e| InvalidPattern::refused(pattern, &e))
    });
    compiled.map_err(|InvalidPattern { code, limit, .. }| format!("error parsing regexp: {code}{limit}"))
}

fn translate(pattern: &str) -> Result<String, InvalidPattern> {
    if pattern.len() > MAX_LENGTH {
        return Err(InvalidPattern::new("expression too large", pattern, ": it is longer than 10,000 bytes"));
    }
    translate::translate(pattern).map_err(|fault| InvalidPattern::new(fault.code, fault.fragment, ""))
}

/// What it costs to run an expression, in steps of templates, which are some microseconds each.
#[derive(Clone, Copy, Debug)]
pub struct Price {
    /// About how many states it has.
    states: usize,
    /// How far a search looks beyond the match that it finds; `None`: that may be as far as the text goes.
    reach: Option<usize>,
}

impl Price {
    /// The price of an expression of Go's syntax.
    #[must_use]
    pub fn of(pattern: &str) -> Self {
        let parsed = translate(pattern).ok().and_then(|translated| regex_syntax::parse(&translated).ok());
        Self { states: parsed.as_ref().map_or(1, states), reach: parsed.as_ref().and_then(reach) }
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
        1 + bytes / 1024 + bytes.saturating_mul(self.states.saturating_sub(64)) / 100
    }

    /// The same, where the groups of the match are wanted, which always takes going through the states.
    #[must_use]
    pub fn of_groups(self, bytes: usize) -> usize {
        1 + bytes / 250 + bytes.saturating_mul(self.states.saturating_sub(16)) / 100
    }

    /// Bytes that a search may have looked at which began there and found that match.
    #[must_use]
    pub fn looked_at(self, began: usize, found: &Range<usize>, length: usize) -> usize {
        match self.reach {
            Some(reach) => (found.end - began).saturating_add(reach).min(length - began),
            None => length - found.start,
        }
    }
}

/// Steps of putting the groups of a match into a replacement of so many bytes: each `$0` is a group, which may be empty.
#[must_use]
pub fn of_expanding(bytes: usize) -> usize {
    bytes / 16
}

/// About how many states an expression has: those that read a byte, those between them where ways part, and those that note a group's
/// ends.
fn states(hir: &Hir) -> usize {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) | HirKind::Class(Class::Bytes(_)) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Unicode(class)) => {
            class.ranges().iter().map(|range| if range.end().is_ascii() { 1 } else { 3 }).sum::<usize>().max(1)
        }
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min).max(1);
            (1 + states(&repetition.sub)).saturating_mul(usize::try_from(times).unwrap_or(usize::MAX))
        }
        HirKind::Capture(group) => 2 + states(&group.sub),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => parts.iter().map(states).fold(0, usize::saturating_add),
    }
}

/// Bytes that a way through an expression may go on for since it last matched, or began. A search ends once no way goes on that comes
/// before the match found.
fn reach(hir: &Hir) -> Option<usize> {
    if let Some(most) = hir.properties().maximum_len() {
        // and what stands on both sides of a border
        return Some(most.saturating_add(BORDER));
    }
    let bounded = |hir: &Hir| hir.properties().maximum_len();
    match hir.kind() {
        HirKind::Capture(group) => reach(&group.sub),
        // it matches after each turn
        HirKind::Repetition(repetition) => {
            let turns = usize::try_from(repetition.min.max(1)).ok()?;
            Some(bounded(&repetition.sub)?.saturating_mul(turns).saturating_add(BORDER))
        }
        HirKind::Alternation(parts) => parts.iter().map(reach).try_fold(0, |most, one| Some(most.max(one?))),
        HirKind::Concat(parts) => {
            let (last, first) = parts.split_last()?;
            first.iter().try_fold(reach(last)?, |sum, part| Some(sum.saturating_add(bounded(part)?)))
        }
        _ => None,
    }
}

/// Most bytes of a character.
const BORDER: usize = 4;

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

    /// Whether it matches somewhere in a text.
    ///
    /// # Errors
    /// It takes too much work.
    pub fn is_match(&self, text: &str, outside: Outside<'_>) -> Result<bool, TooMuch> {
        outside.step(self.price.of_finding(text.len()) as u64)?;
        Ok(self.regex.is_match(text))
    }

    /// Replaces all matches, as Go's `ReplaceAllString` does. `$name`, `${name}` and `$1` stand for groups, `$$` for a dollar. A name is as
    /// long as it can be, so `$1x` is the group `1x`; a group that is not there is empty; other dollars stay.
    ///
    /// # Errors
    /// The text becomes too long, or it takes too much work.
    pub fn replace_all(&self, text: &str, template: &str, outside: Outside<'_>) -> Result<String, NotReplaced> {
        let (mut out, mut copied) = (String::new(), 0);
        let step = |bytes: usize| {
            let price = self.price.of_groups(bytes) + of_expanding(template.len());
            outside.step(price as u64).map_err(NotReplaced::TooMuch)
        };
        step(text.len())?;
        for captures in self.regex.captures_iter(text) {
            let Some(found) = captures.get(0) else { continue };
            step(self.price.looked_at(copied, &found.range(), text.len()))?;
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

/// The same for bytes; `None` where it becomes longer than `most`.
#[must_use]
pub fn expand_bytes(captures: &regex::bytes::Captures<'_>, template: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = template;
    while let Some(dollar) = rest.iter().position(|byte| *byte == b'$') {
        if out.len() > most {
            return None;
        }
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
    (out.len() <= most).then_some(out)
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
