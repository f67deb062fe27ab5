//! JSON whose numbers keep every digit that they were written with: how Vault and its client hand values on.

use std::collections::BTreeMap;

use super::{DEPTH, Reader, Token, append_string, number, text, unquote, unquoted};
use crate::secret_bytes::SecretBytes;

/// JSON text made compact, keys sorted, escaped for HTML, numbers as they stand. None: it is not JSON, or nested too deep.
#[must_use]
pub fn sorted(json: &[u8]) -> Option<SecretBytes> {
    rewritten(json, |raw| Some(raw.to_vec()))
}

/// A value as bytes of a Secret, as [`super::byte_value`] has it, but for whole numbers, which keep every digit.
#[must_use]
pub fn byte_value(raw: &[u8]) -> Option<SecretBytes> {
    match raw.first()? {
        b'{' | b'[' => rewritten(raw, |raw| as_double(raw, number::json)),
        b'-' | b'0'..=b'9' => as_double(raw, number::decimal).map(SecretBytes::new),
        _ => Some(unquoted(raw)),
    }
}

/// A number as Go prints the double that it is, unless it is a whole one.
fn as_double(raw: &[u8], print: fn(f64) -> String) -> Option<Vec<u8>> {
    if !raw.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
        return Some(raw.to_vec());
    }
    Some(number::parse(raw)).filter(|number| number.is_finite()).map(|number| print(number).into_bytes())
}

fn rewritten(json: &[u8], number: fn(&[u8]) -> Option<Vec<u8>>) -> Option<SecretBytes> {
    let (mut reader, mut out) = (Reader { json, i: 0 }, Vec::new());
    rewrite(&mut reader, &mut out, number, DEPTH)?;
    reader.at_end().then(|| SecretBytes::new(out))
}

fn rewrite(reader: &mut Reader<'_>, out: &mut Vec<u8>, number: fn(&[u8]) -> Option<Vec<u8>>, depth: usize) -> Option<()> {
    match reader.token()? {
        Token::String(raw) => append_string(out, &unquote(raw), true),
        Token::Number(raw) => out.extend(number(raw)?),
        Token::Word(word) => out.extend_from_slice(word),
        Token::Open(b'[') => {
            let depth = depth.checked_sub(1)?;
            out.push(b'[');
            let mut more = !reader.take(b']');
            while more {
                rewrite(reader, out, number, depth)?;
                more = reader.take(b',');
                if more {
                    out.push(b',');
                } else if !reader.take(b']') {
                    return None;
                }
            }
            out.push(b']');
        }
        Token::Open(_) => {
            let depth = depth.checked_sub(1)?;
            let mut members: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            let mut more = !reader.take(b'}');
            while more {
                let key = text(reader.key()?);
                let mut value = Vec::new();
                rewrite(reader, &mut value, number, depth)?;
                members.insert(key, value);
                more = reader.take(b',');
                if !more && !reader.take(b'}') {
                    return None;
                }
            }
            append_members(out, members.iter().map(|(key, value)| (key.as_str(), value.as_slice())));
        }
    }
    Some(())
}

/// An object of values that are JSON already, in their order.
#[must_use]
pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> SecretBytes {
    let mut out = Vec::new();
    append_members(&mut out, members);
    SecretBytes::new(out)
}

fn append_members<'a>(out: &mut Vec<u8>, members: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    out.push(b'{');
    for (i, (key, value)) in members.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        append_string(out, key.as_bytes(), true);
        out.push(b':');
        out.extend_from_slice(value);
    }
    out.push(b'}');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn text(value: Option<SecretBytes>) -> Option<String> {
        value.map(|value| value.expose_str().unwrap().to_owned())
    }

    #[test]
    fn keys_are_sorted_and_numbers_stay() {
        for (json, want) in [
            (
                r#" { "b" : 12345678901234567890 , "a" : [ 1.50 , 1e3 , -0 ] } "#,
                r#"{"a":[1.50,1e3,-0],"b":12345678901234567890}"#,
            ),
            (r#"{"h":"<&>\u00e9","z":{"y":null,"x":true},"z":{"x":{}}}"#, r#"{"h":"\u003c\u0026\u003eé","z":{"x":{}}}"#),
            (r#"[[],{}," "]"#, r#"[[],{}," "]"#),
            ("\"text\"", "\"text\""),
        ] {
            assert_eq!(text(sorted(json.as_bytes())).as_deref(), Some(want), "{json}");
        }
        for bad in ["", "{", "[1", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{}{}", "[1}", "{\"a\":1]", "nul"] {
            assert_eq!(sorted(bad.as_bytes()), None, "{bad}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert_eq!(sorted(deep.as_bytes()), None);
    }

    #[test]
    fn byte_values_are_esos_but_for_whole_numbers() {
        for (json, want) in [
            ("\"a<\\u00e9\"", "a<é"),
            ("null", ""),
            ("true", "true"),
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1e21", "1000000000000000000000"),
            ("12345678901234567890", "12345678901234567890"),
            ("-7", "-7"),
            (r#"{"b":12345678901234567890,"a":[1.50,1e21,"<"]}"#, r#"{"a":[1.5,1e+21,"\u003c"],"b":12345678901234567890}"#),
        ] {
            assert_eq!(text(byte_value(json.as_bytes())).as_deref(), Some(want), "{json}");
        }
        assert_eq!(byte_value(b"1e999"), None);
        assert_eq!(byte_value(b""), None);
    }

    #[test]
    fn objects_are_put_together() {
        assert_eq!(object([("a\"", &b"1"[..]), ("b", b"{}")]).expose_str(), Some(r#"{"a\"":1,"b":{}}"#));
        assert_eq!(object([]).expose_str(), Some("{}"));
    }
}
