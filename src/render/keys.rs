//! Keys of a Secret: converting what cannot be one, and refusing what is none.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use crate::api::external_secret::ConversionStrategy;
use crate::secret_bytes::SecretBytes;

/// Most bytes of a key, as Kubernetes has it.
const MAX_LENGTH: usize = 253;

/// Why keys cannot be those of a Secret. The texts are ESO's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Two keys become one.
    #[error("secret name collision during conversion: {0}")]
    Collision(String),
    /// A key is too long.
    #[error("key has length {length} but max is 253: (following is truncated): {start}")]
    TooLong {
        /// Length of the key, in bytes.
        length: usize,
        /// The first 253 bytes of the key.
        start: String,
    },
    /// A key has a character that it cannot have.
    #[error("key has invalid character {character}, only alphanumeric, '-', '.' and '_' are allowed: {key}")]
    InvalidCharacter {
        /// The character.
        character: char,
        /// The key.
        key: String,
    },
}

/// Whether a character may be in a key: letters and numbers of all scripts (categories L and N, as in Go), `-`, `.`, `_`.
fn is_allowed(c: char) -> bool {
    // `char::is_alphabetic` will not do: it takes in marks and symbols, too.
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    }
    c.is_numeric() || LETTER.as_ref().is_some_and(|letter| letter.is_match(c.encode_utf8(&mut [0; 4])))
}

/// A key with each character that it cannot have replaced.
#[must_use]
pub fn convert_key(strategy: ConversionStrategy, key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for c in key.chars() {
        match strategy {
            _ if is_allowed(c) => out.push(c),
            ConversionStrategy::Default => out.push('_'),
            ConversionStrategy::Unicode => out.push_str(&format!("_U{:04x}_", u32::from(c))),
        }
    }
    out
}

/// The key that [`convert_key`] made `_Uxxxx_` of, with the characters back in it.
#[must_use]
pub fn revert_key(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    let mut rest = key;
    while let Some(start) = rest.find("_U") {
        let (before, escape) = rest.split_at(start);
        out.push_str(before);
        let digits = escape[2..].bytes().take_while(u8::is_ascii_hexdigit).count();
        let end = 2 + digits;
        let code = if matches!(digits, 4 | 5) && escape[end..].starts_with('_') {
            u32::from_str_radix(&escape[2..end], 16).ok()
        } else {
            None
        };
        rest = match code {
            Some(code) => {
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                &escape[end + 1..]
            }
            None => {
                out.push_str("_U");
                &escape[2..]
            }
        };
    }
    out + rest
}

/// Converts all keys of a set.
///
/// # Errors
/// Two keys become one.
pub fn convert(
    strategy: ConversionStrategy,
    entries: BTreeMap<String, SecretBytes>,
) -> Result<BTreeMap<String, SecretBytes>, KeyError> {
    let mut out = BTreeMap::new();
    for (key, value) in entries {
        let key = convert_key(strategy, &key);
        if out.contains_key(&key) {
            return Err(KeyError::Collision(key));
        }
        out.insert(key, value);
    }
    Ok(out)
}

/// Whether Kubernetes takes a key of a Secret.
#[must_use]
pub fn is_of_secret(key: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !key.is_empty() && key.len() <= MAX_LENGTH && key.chars().all(allowed) && key != "." && !key.starts_with("..")
}

/// Checks the keys of a set; an empty key is dropped, as ESO does. Of several bad keys the first in order is named.
///
/// # Errors
/// A key is too long or has a character that it cannot have.
pub fn validate(mut entries: BTreeMap<String, SecretBytes>) -> Result<BTreeMap<String, SecretBytes>, KeyError> {
    entries.remove("");
    for key in entries.keys() {
        if key.len() > MAX_LENGTH {
            let start = key[..key.floor_char_boundary(MAX_LENGTH)].to_owned();
            return Err(KeyError::TooLong { length: key.len(), start });
        }
        if let Some(character) = key.chars().find(|c| !is_allowed(*c)) {
            return Err(KeyError::InvalidCharacter { character, key: key.clone() });
        }
    }
    Ok(entries)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(keys: &[&str]) -> BTreeMap<String, SecretBytes> {
        keys.iter().map(|key| ((*key).to_owned(), SecretBytes::from(*key))).collect()
    }

    #[test]
    fn converts() {
        for (key, default, unicode) in [
            ("prod/db user", "prod_db_user", "prod_U002f_db_U0020_user"),
            ("äß٣", "äß٣", "äß٣"),
            ("a😀b", "a_b", "a_U1f600_b"),
            ("a-b.c_d", "a-b.c_d", "a-b.c_d"),
            ("", "", ""),
        ] {
            assert_eq!(convert_key(ConversionStrategy::Default, key), default);
            assert_eq!(convert_key(ConversionStrategy::Unicode, key), unicode);
            assert_eq!(revert_key(unicode), key);
        }
    }

    #[test]
    fn letters_and_numbers_are_those_of_go() {
        // Alphabetic for Rust, but a mark, a circled letter (So) and a spacing mark for Go.
        for no in ['\u{345}', 'ⓐ', '\u{903}', '/', ' ', '$', '€', '\u{301}'] {
            assert!(!is_allowed(no), "{no:?}");
        }
        for yes in ['ª', 'Ⅷ', '²', '½', 'ʰ', '中', 'א', 'ǅ', '٣'] {
            assert!(is_allowed(yes), "{yes:?}");
        }
    }

    #[test]
    fn reverts_only_what_looks_like_an_escape() {
        for (key, want) in [
            ("_U002_", "_U002_"),
            ("_U00zz_", "_U00zz_"),
            ("_U002f", "_U002f"),
            ("_U_U0041_", "_UA"),
            ("a_U002f__U003a_", "a/:"),
        ] {
            assert_eq!(revert_key(key), want);
        }
        assert_eq!(revert_key("_Ud800_"), "\u{fffd}");
    }

    /// Golden case from-06.
    #[test]
    fn collisions_are_errors() {
        for keys in [["a/b", "a:b"], ["a/b", "a_b"]] {
            let error = convert(ConversionStrategy::Default, set(&keys)).unwrap_err();
            assert_eq!(error.to_string(), "secret name collision during conversion: a_b");
        }
        let fine = convert(ConversionStrategy::Unicode, set(&["a/b", "a:b"])).unwrap();
        assert_eq!(fine.into_keys().collect::<Vec<_>>(), ["a_U002f_b", "a_U003a_b"]);
    }

    #[test]
    fn kubernetes_takes_fewer_keys_than_eso() {
        let longest = "k".repeat(253);
        for yes in ["a-B_1.x", ".x", "x..", "0", &longest] {
            assert!(is_of_secret(yes), "{yes}");
        }
        let longer = "k".repeat(254);
        for no in ["", ".", "..", "..x", "a b", "ä", "ann@example.org", &longer] {
            assert!(!is_of_secret(no), "{no}");
        }
    }

    /// Golden case rewrite-14.
    #[test]
    fn refuses_what_is_no_key() {
        assert_eq!(validate(set(&["", "ok"])).unwrap().into_keys().collect::<Vec<_>>(), ["ok"]);
        assert_eq!(
            validate(set(&["a/b"])).unwrap_err().to_string(),
            "key has invalid character /, only alphanumeric, '-', '.' and '_' are allowed: a/b"
        );
        assert!(validate(set(&[&"k".repeat(253)])).is_ok());
        let error = validate(set(&[&"k".repeat(254)])).unwrap_err().to_string();
        assert_eq!(error, format!("key has length 254 but max is 253: (following is truncated): {}", "k".repeat(253)));
        assert!(validate(set(&[&"ä".repeat(127)])).is_err(), "cut inside a character");
    }

    proptest! {
        #[test]
        fn converted_keys_are_valid(key in ".{0,20}") {
            prop_assert!(validate(set(&[&convert_key(ConversionStrategy::Default, &key)])).is_ok());
        }

        #[test]
        fn unicode_conversion_can_be_reverted(key in "[^_\\u{100000}-\\u{10ffff}]{0,20}") {
            prop_assert_eq!(revert_key(&convert_key(ConversionStrategy::Unicode, &key)), key);
        }
    }
}
