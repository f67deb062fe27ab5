//! Sets and removes one part of a JSON text, as Go's sjson 1.2.5 does: all that is not touched stays byte for byte.

use super::{json, path};
use crate::secret_bytes::SecretBytes;

/// How many array elements may be made up to reach an index, so that a path cannot ask for a gigabyte of `null`.
const MOST_PADDING: usize = 1000;

/// Most steps of a path: each is a level of the stack.
const MOST_STEPS: usize = 100;

/// One step of a path.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    /// The member's name, or the element's index.
    name: String,
    /// It is a member's name, though it looks like an index (`:1`).
    member: bool,
}

impl Step {
    fn index(&self) -> Option<usize> {
        let digits = !self.name.is_empty() && self.name.bytes().all(|b| b.is_ascii_digit());
        if self.member || !digits { None } else { self.name.parse().ok() }
    }

    fn appends(&self) -> bool {
        !self.member && self.name == "-1"
    }
}

/// The JSON text with a text at a path. What is on the way and is no object or array is replaced by one. `None`: the path
/// cannot be set (it has wildcards, queries or modifiers), or names a member of an array.
#[must_use]
pub fn set(current: &SecretBytes, path: &str, value: &SecretBytes) -> Option<SecretBytes> {
    let steps = steps(path)?;
    let mut text = Vec::new();
    json::append_string(&mut text, value.expose(), false);
    put(current.expose(), &steps, &text).map(SecretBytes::new)
}

/// The JSON text without what is at a path; as it is where there is nothing. `None`: the path cannot be set.
#[must_use]
pub fn remove(current: &SecretBytes, path: &str) -> Option<SecretBytes> {
    let steps = steps(path)?;
    cut(current.expose(), &steps).map(SecretBytes::new)
}

/// Whether there is something at a path that [`set`] would replace.
#[must_use]
pub fn exists(current: &SecretBytes, path: &str) -> bool {
    let Some(steps) = steps(path) else { return false };
    let mut json = current.expose();
    steps.iter().all(|step| match find(json, step) {
        Some((start, end)) => {
            json = &json[start..end];
            true
        }
        None => false,
    })
}

/// Takes a path apart: steps between dots, `\` takes the next character as it is, `:` before a name makes it a member's.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path.chars().peekable();
    loop {
        let member = rest.next_if_eq(&':').is_some();
        let mut name = String::new();
        let more = loop {
            match rest.next() {
                None => break false,
                Some('.') => break true,
                Some('\\') => name.push(rest.next()?),
                Some('|' | '#' | '@' | '*' | '?') => return None,
                Some(c) => name.push(c),
            }
        };
        if name.is_empty() && !member {
            return None;
        }
        if steps.len() == MOST_STEPS {
            return None;
        }
        steps.push(Step { name, member });
        if !more {
            return Some(steps);
        }
    }
}

fn put(json: &[u8], steps: &[Step], value: &[u8]) -> Option<Vec<u8>> {
    let Some((step, rest)) = steps.split_first() else { return Some(value.to_vec()) };
    if let Some((start, end)) = find(json, step) {
        let inner = put(&json[start..end], rest, value)?;
        return Some([&json[..start], &inner, &json[end..]].concat());
    }
    let inner = put(b"", rest, value)?;
    let trimmed = json.trim_ascii();
    match (trimmed.first(), step.index()) {
        (Some(b'{'), _) => with_member(trimmed, &step.name, &inner),
        (Some(b'['), None) if step.appends() => append(trimmed, &inner),
        (Some(b'['), None) => None,
        (Some(b'['), Some(index)) => {
            pad(trimmed.to_vec(), index.checked_sub(elements(trimmed)?)?).and_then(|padded| append(&padded, &inner))
        }
        (_, Some(index)) => pad(b"[]".to_vec(), index).and_then(|padded| append(&padded, &inner)),
        (_, None) if step.appends() => append(b"[]", &inner),
        (_, None) => with_member(b"{}", &step.name, &inner),
    }
}

fn with_member(object: &[u8], name: &str, value: &[u8]) -> Option<Vec<u8>> {
    let mut member = Vec::new();
    json::append_string(&mut member, name.as_bytes(), false);
    member.push(b':');
    member.extend_from_slice(value);
    append(object, &member)
}

fn pad(mut array: Vec<u8>, count: usize) -> Option<Vec<u8>> {
    if count > MOST_PADDING {
        return None;
    }
    for _ in 0..count {
        array = append(&array, b"null")?;
    }
    Some(array)
}

/// Puts a member or element before the last bracket.
fn append(block: &[u8], item: &[u8]) -> Option<Vec<u8>> {
    let (close, open) = block.split_last()?;
    let comma: &[u8] = if open.trim_ascii_end().len() > 1 { b"," } else { b"" };
    Some([open, comma, item, &[*close]].concat())
}

fn cut(json: &[u8], steps: &[Step]) -> Option<Vec<u8>> {
    let (step, rest) = steps.split_first()?;
    let Some((start, end)) = find(json, step) else { return Some(json.to_vec()) };
    if !rest.is_empty() {
        let inner = cut(&json[start..end], rest)?;
        return Some([&json[..start], &inner, &json[end..]].concat());
    }
    let before = json[..start].trim_ascii_end();
    let before = match before.strip_suffix(b":") {
        Some(key) => without_last_string(key.trim_ascii_end())?.trim_ascii_end(),
        None => before,
    };
    let after = json[end..].trim_ascii_start();
    // one comma goes with it: the one before it, else the one after it
    match (before.strip_suffix(b","), after.strip_prefix(b",")) {
        (Some(before), _) => Some([before, after].concat()),
        (None, Some(after)) => Some([before, after].concat()),
        (None, None) => Some([before, after].concat()),
    }
}

/// Takes the string at the end off.
fn without_last_string(text: &[u8]) -> Option<&[u8]> {
    let mut end = text.strip_suffix(b"\"")?.len();
    loop {
        let quote = text[..end].iter().rposition(|b| *b == b'"')?;
        let backslashes = text[..quote].iter().rev().take_while(|b| **b == b'\\').count();
        if backslashes % 2 == 0 {
            return Some(&text[..quote]);
        }
        end = quote;
    }
}

/// Where in an object or array the value of a step is.
fn find(json: &[u8], step: &Step) -> Option<(usize, usize)> {
    match json.trim_ascii_start().first()? {
        b'{' => {
            let members = json::members(json)?;
            let (_, raw) = members.into_iter().find(|(name, _)| *name == step.name)?;
            Some(place(json, raw))
        }
        b'[' => {
            let index = step.index()?;
            let found = path::get(json, &index.to_string())?;
            let raw = found.raw_in(json)?;
            Some(place(json, raw))
        }
        _ => None,
    }
}

/// How many elements an array has, whatever they are: [`json::parse`] refuses some numbers and depths.
fn elements(array: &[u8]) -> Option<usize> {
    let count = path::get(array, "#")?;
    std::str::from_utf8(count.raw()).ok()?.parse().ok()
}

/// Where a part of a text is in it.
fn place(text: &[u8], part: &[u8]) -> (usize, usize) {
    let start = part.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    (start, start + part.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set_text(current: &str, path: &str, value: &str) -> Option<String> {
        let found = set(&SecretBytes::from(current), path, &SecretBytes::from(value))?;
        Some(found.expose_str().unwrap().to_owned())
    }

    fn removed(current: &str, path: &str) -> Option<String> {
        let found = remove(&SecretBytes::from(current), path)?;
        Some(found.expose_str().unwrap().to_owned())
    }

    #[test]
    fn sets_as_sjson_does() {
        for (current, path, expected) in [
            ("", "a", r#"{"a":"v"}"#),
            ("{}", "a", r#"{"a":"v"}"#),
            ("{ }", "a", r#"{ "a":"v"}"#),
            (r#"{"a":"v"}"#, "a", r#"{"a":"v"}"#),
            (r#"{ "a" : 1, "b": [1, 2] }"#, "a", r#"{ "a" : "v", "b": [1, 2] }"#),
            (r#"{"b":1.50}"#, "a", r#"{"b":1.50,"a":"v"}"#),
            ("", "a.b.c", r#"{"a":{"b":{"c":"v"}}}"#),
            (r#"{"a":{"x":1}}"#, "a.b", r#"{"a":{"x":1,"b":"v"}}"#),
            (r#"{"a":"text"}"#, "a.b", r#"{"a":{"b":"v"}}"#),
            ("", r"a\.b", r#"{"a.b":"v"}"#),
            (r#"{"a.b":1}"#, r"a\.b", r#"{"a.b":"v"}"#),
            ("", "a.1", r#"{"a":[null,"v"]}"#),
            ("", "a.:1", r#"{"a":{"1":"v"}}"#),
            (r#"{"a":["x","y"]}"#, "a.1", r#"{"a":["x","v"]}"#),
            (r#"{"a":["x"]}"#, "a.2", r#"{"a":["x",null,"v"]}"#),
            (r#"{"a":["x"]}"#, "a.-1", r#"{"a":["x","v"]}"#),
            (r#"{"1":"x"}"#, "1", r#"{"1":"v"}"#),
            ("null", "a", r#"{"a":"v"}"#),
        ] {
            assert_eq!(set_text(current, path, "v").as_deref(), Some(expected), "{current} {path}");
        }
        for path in ["", "a.", "a..b", "a.#", "a|b", "@this", "a*", "a?", "a\\"] {
            assert_eq!(set_text("{}", path, "v"), None, "{path}");
        }
        assert_eq!(set_text(r#"{"a":[]}"#, "a.b", "v"), None, "an array has no member");
        assert_eq!(set_text("", "a.9999999", "v"), None, "padding is bounded");
        assert_eq!(set_text("", "a", "\"<é\n\u{1}").as_deref(), Some("{\"a\":\"\\\"<é\\n\\u0001\"}"));
    }

    /// What is in an array need not be what a parser of ours takes.
    #[test]
    fn an_element_goes_behind_those_that_are_there() {
        let deep = format!("{}{}", "[".repeat(130), "]".repeat(130));
        for there in ["1e999", deep.as_str(), "1, 2"] {
            let count = if there.contains(',') { 2 } else { 1 };
            let array = format!("[{there}]");
            assert_eq!(set_text(&array, &count.to_string(), "v").unwrap(), format!(r#"[{there},"v"]"#));
        }
    }

    #[test]
    fn removes_with_its_comma() {
        for (current, path, expected) in [
            (r#"{"a":1}"#, "a", "{}"),
            (r#"{"a":1,"b":2}"#, "a", r#"{"b":2}"#),
            (r#"{"a":1,"b":2}"#, "b", r#"{"a":1}"#),
            (r#"{"a":1, "b" : 2 ,"c":3}"#, "b", r#"{"a":1,"c":3}"#),
            (r#"{"x\"\\":1,"q\"":2}"#, "q\"", r#"{"x\"\\":1}"#),
            (r#"{"a":{"b":1,"c":2}}"#, "a.b", r#"{"a":{"c":2}}"#),
            (r#"{"a":[1,2,3]}"#, "a.1", r#"{"a":[1,3]}"#),
            (r#"{"a":1}"#, "z", r#"{"a":1}"#),
            ("text", "z", "text"),
        ] {
            assert_eq!(removed(current, path).as_deref(), Some(expected), "{current} {path}");
        }
    }

    #[test]
    fn says_whether_something_is_there() {
        let json = SecretBytes::from(r#"{"a":{"b":null},"c":[1]}"#);
        for (path, expected) in [("a", true), ("a.b", true), ("a.x", false), ("c.0", true), ("c.1", false), ("a.b.c", false)]
        {
            assert_eq!(exists(&json, path), expected, "{path}");
        }
    }

    fn a_name() -> impl Strategy<Value = String> {
        "[a-zA-Z_:\\-/ é\"]{1,6}".prop_filter("not a member mark", |name| !name.starts_with(':'))
    }

    proptest! {
        /// What is set is there, is JSON, and goes again without a trace; what was there stays.
        #[test]
        fn set_then_remove_leaves_the_rest(names in prop::collection::btree_map(a_name(), ".{0,8}", 0..5), new in a_name(), value in ".{0,12}") {
            let mut all: std::collections::BTreeMap<String, SecretBytes> =
                names.iter().map(|(k, v)| (k.clone(), SecretBytes::from(v.as_str()))).collect();
            let json = json::object_of_text(&all);
            let with = set(&json, &new, &SecretBytes::from(value.as_str())).unwrap();
            prop_assert!(json::is_valid(with.expose()) && exists(&with, &new));
            all.insert(new.clone(), SecretBytes::from(value.as_str()));
            prop_assert!(path::object_entries(&with).unwrap() == all);
            let without = remove(&with, &new).unwrap();
            all.remove(&new);
            prop_assert!(path::object_entries(&without).unwrap() == all);
        }

        #[test]
        fn nothing_breaks_it(json in ".{0,40}", path in ".{0,20}") {
            let json = SecretBytes::from(json.as_str());
            let _ = (set(&json, &path, &SecretBytes::from("v")), remove(&json, &path), exists(&json, &path));
        }
    }

    #[test]
    fn a_long_path_is_neither_slow_nor_deep() {
        let path = |steps: usize| vec!["a"; steps].join(".");
        let text = set(&SecretBytes::default(), &path(100), &SecretBytes::from("v")).unwrap();
        assert_eq!(text.expose().len(), 100 * 6 + 3);
        assert!(set(&SecretBytes::default(), &path(101), &SecretBytes::from("v")).is_none());
        assert!(!exists(&text, &path(20_000)) && remove(&text, &path(20_000)).is_none());
    }
}
