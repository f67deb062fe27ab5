//! Password: random characters of four kinds, one password for each key.

use std::collections::BTreeSet;

use async_trait::async_trait;
use data_encoding::{BASE32, BASE64, BASE64URL, HEXLOWER};
use zeroize::Zeroizing;

use super::{GenerateCx, Generated, Generator, misconfigured};
use crate::api::generators::{PasswordEncoding, PasswordSpec};
use crate::providers::ProviderError;
use crate::secret_bytes::SecretBytes;

const LENGTH: i64 = 24;
/// Longest password: more is a mistake, and would cost the operator its memory.
const MOST: i64 = 1 << 16;
/// Most characters of all passwords together: a Secret holds no more.
const MOST_IN_ALL: i64 = 1 << 20;
const LOWER: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const DIGITS: &str = "0123456789";
/// ESO's.
const SYMBOLS: &str = "~!@#$%^&*()_+`-={}|[]\\:\"<>?,./";
const KEY: &str = "password";

#[async_trait]
impl Generator for PasswordSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let recipe = Recipe::of(self)?;
        let mut values = Vec::new();
        let keys = keys(self)?;
        if i64::try_from(keys.len()).unwrap_or(i64::MAX).saturating_mul(length(self)) > MOST_IN_ALL {
            let text = format!("spec: passwords for {} keys are more than {MOST_IN_ALL} characters together", keys.len());
            return Err(misconfigured(text));
        }
        for key in keys {
            let password = recipe.make(&mut |below| cx.random_below(below))?;
            values.push((key, encode(self.encoding.unwrap_or_default(), password)));
        }
        Ok(Generated::values(values))
    }
}

/// How many characters a password has.
fn length(spec: &PasswordSpec) -> i64 {
    spec.length.filter(|length| *length > 0).unwrap_or(LENGTH)
}

/// The keys that get a password each.
fn keys(spec: &PasswordSpec) -> Result<Vec<String>, ProviderError> {
    let Some(keys) = &spec.secret_keys else { return Ok(vec![KEY.to_owned()]) };
    let mut seen = BTreeSet::new();
    for (i, key) in keys.iter().enumerate() {
        if key.is_empty() {
            return Err(misconfigured(format!("spec.secretKeys[{i}] is empty: name a key")));
        }
        if !seen.insert(key) {
            return Err(misconfigured(format!("spec.secretKeys[{i}]: {key:?} is there twice: name each key once")));
        }
    }
    match keys.is_empty() {
        true => Err(misconfigured("spec.secretKeys is empty: leave it out, or name a key".into())),
        false => Ok(keys.clone()),
    }
}

fn encode(encoding: PasswordEncoding, password: SecretBytes) -> SecretBytes {
    let encoding = match encoding {
        PasswordEncoding::Raw => return password,
        PasswordEncoding::Base64 => &BASE64,
        PasswordEncoding::Base64Url => &BASE64URL,
        PasswordEncoding::Base32 => &BASE32,
        PasswordEncoding::Hex => &HEXLOWER,
    };
    SecretBytes::from(encoding.encode(password.expose()))
}

/// How many characters of which kind.
struct Recipe {
    parts: [(usize, Vec<char>); 3],
    repeat: bool,
}

impl Recipe {
    /// What a spec asks for.
    fn of(spec: &PasswordSpec) -> Result<Self, ProviderError> {
        let length = length(spec);
        if length > MOST {
            return Err(misconfigured(format!("spec.length: {length} is more than {MOST} characters")));
        }
        let count = |given: Option<i64>, field: &str| match given.unwrap_or(length / 4) {
            count if count < 0 => Err(misconfigured(format!("spec.{field}: {count} is less than 0"))),
            count => Ok(count),
        };
        let (digits, symbols) = (count(spec.digits, "digits")?, count(spec.symbols, "symbols")?);
        let letters = length
            .checked_sub(digits)
            .and_then(|left| left.checked_sub(symbols))
            .filter(|left| *left >= 0)
            .ok_or_else(|| misconfigured("number of digits and symbols must be less than total length".into()))?;
        let given = spec.symbol_characters.as_deref().filter(|s| !s.is_empty()).unwrap_or(SYMBOLS);
        let upper = if spec.no_upper.unwrap_or_default() { "" } else { UPPER };
        let repeat = spec.allow_repeat.unwrap_or_default();
        let part = |name: &str, count: i64, from: &str, taken: &str| {
            let mut characters: Vec<char> = Vec::new();
            for c in from.chars() {
                // what may come once only must not come as another kind either
                if repeat || !(characters.contains(&c) || taken.contains(c)) {
                    characters.push(c);
                }
            }
            let count = usize::try_from(count).unwrap_or_default();
            if !repeat && count > characters.len() {
                return Err(misconfigured(format!(
                    "number of {name} exceeds available {name} and repeats are not allowed: {count} of {}; set spec.allowRepeat",
                    characters.len()
                )));
            }
            Ok((count, characters))
        };
        let alphabet = format!("{LOWER}{upper}");
        let parts = [
            part("letters", letters, &alphabet, "")?,
            part("digits", digits, DIGITS, "")?,
            part("symbols", symbols, given, &format!("{alphabet}{DIGITS}"))?,
        ];
        Ok(Self { parts, repeat })
    }

    /// Makes a password. `below` gives a random number that is smaller than its argument, each as likely.
    fn make(&self, below: &mut dyn FnMut(usize) -> Result<usize, ProviderError>) -> Result<SecretBytes, ProviderError> {
        let mut password: Zeroizing<Vec<char>> = Zeroizing::new(Vec::new());
        for (count, characters) in &self.parts {
            let mut left = characters.clone();
            for _ in 0..*count {
                let at = below(left.len())?;
                password.extend(left.get(at));
                if !self.repeat {
                    left.swap_remove(at);
                }
            }
        }
        // Fisher and Yates: each order is as likely
        for last in (1..password.len()).rev() {
            let other = below(last + 1)?;
            password.swap(last, other);
        }
        Ok(SecretBytes::from(password.iter().collect::<String>()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::generators::testing::cx;

    fn spec(value: Value) -> PasswordSpec {
        serde_json::from_value(value).unwrap()
    }

    async fn make(value: Value) -> Result<Vec<(String, String)>, String> {
        let made = spec(value).generate(&cx()).await.map_err(|e| e.detail)?;
        Ok(made.values.iter().map(|(k, v)| (k.clone(), v.expose_str().unwrap().to_owned())).collect())
    }

    fn counts(password: &str) -> (usize, usize, usize) {
        let count = |f: fn(char) -> bool| password.chars().filter(|c| f(*c)).count();
        let symbols = |c: char| !c.is_alphanumeric();
        (count(char::is_alphabetic), count(|c| c.is_ascii_digit()), count(symbols))
    }

    #[tokio::test]
    async fn defaults_are_those_of_eso() {
        let made = make(json!({})).await.unwrap();
        let [(key, password)] = made.as_slice() else { unreachable!() };
        assert_eq!((key.as_str(), password.chars().count()), ("password", 24));
        assert_eq!(counts(password), (12, 6, 6));
        assert_eq!(password.chars().collect::<BTreeSet<_>>().len(), 24, "no character comes twice");
        let other = make(json!({ "length": 10 })).await.unwrap();
        assert_eq!(counts(&other[0].1), (6, 2, 2));
        assert_ne!(made, make(json!({})).await.unwrap());
    }

    #[tokio::test]
    async fn each_key_gets_a_password_of_its_own() {
        let made = make(json!({ "secretKeys": ["a", "b"] })).await.unwrap();
        assert_eq!(made.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_ne!(made[0].1, made[1].1);
        for (keys, wrong) in [
            (json!(["a", "a"]), "spec.secretKeys[1]: \"a\" is there twice: name each key once"),
            (json!([""]), "spec.secretKeys[0] is empty: name a key"),
            (json!([]), "spec.secretKeys is empty: leave it out, or name a key"),
        ] {
            assert_eq!(make(json!({ "secretKeys": keys })).await.unwrap_err(), wrong);
        }
    }

    #[tokio::test]
    async fn encodings() {
        let fixed = json!({ "length": 3, "digits": 0, "symbols": 3, "symbolCharacters": "~", "allowRepeat": true });
        for (encoding, want) in
            [("raw", "~~~"), ("base64", "fn5+"), ("base64url", "fn5-"), ("base32", "PZ7H4==="), ("hex", "7e7e7e")]
        {
            let mut spec = fixed.clone();
            spec["encoding"] = json!(encoding);
            assert_eq!(make(spec).await.unwrap()[0].1, want, "{encoding}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_made() {
        for (spec, wrong) in [
            (
                json!({ "length": 4, "digits": 3, "symbols": 2 }),
                "number of digits and symbols must be less than total length",
            ),
            (json!({ "digits": -1 }), "spec.digits: -1 is less than 0"),
            (json!({ "length": 70_000 }), "spec.length: 70000 is more than 65536 characters"),
            (
                json!({ "length": 30, "noUpper": true, "digits": 0, "symbols": 0 }),
                "number of letters exceeds available letters and repeats are not allowed: 30 of 26; set spec.allowRepeat",
            ),
            (
                json!({ "length": 20, "digits": 11, "symbols": 0 }),
                "number of digits exceeds available digits and repeats are not allowed: 11 of 10; set spec.allowRepeat",
            ),
            (
                json!({ "length": 20, "symbols": 3, "symbolCharacters": "!!a" }),
                "number of symbols exceeds available symbols and repeats are not allowed: 3 of 1; set spec.allowRepeat",
            ),
        ] {
            assert_eq!(make(spec.clone()).await.unwrap_err(), wrong, "{spec}");
        }
        assert_eq!(counts(&make(json!({ "length": 4, "digits": 2, "symbols": 2 })).await.unwrap()[0].1), (0, 2, 2));
    }

    proptest! {
        /// Whatever is asked for is what comes, or an error; never a panic.
        #[test]
        fn counts_are_kept(
            length in -2i64..80, digits in prop::option::of(-1i64..40), symbols in prop::option::of(-1i64..40),
            no_upper: bool, repeat: bool, seed: u64,
        ) {
            let spec = PasswordSpec {
                length: Some(length), digits, symbols, no_upper: Some(no_upper), allow_repeat: Some(repeat), ..PasswordSpec::default()
            };
            let mut state = seed;
            let mut below = |n: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                Ok(usize::try_from(state >> 33).unwrap() % n.max(1))
            };
            if let Ok(recipe) = Recipe::of(&spec) {
                let password = recipe.make(&mut below).unwrap();
                let password = password.expose_str().unwrap();
                let total = usize::try_from(if length > 0 { length } else { LENGTH }).unwrap();
                let quarter = i64::try_from(total / 4).unwrap();
                let want = |n: Option<i64>| usize::try_from(n.unwrap_or(quarter)).unwrap();
                let (letters, d, s) = counts(password);
                prop_assert_eq!((d, s), (want(digits), want(symbols)));
                prop_assert_eq!(letters + d + s, total);
                prop_assert!(!no_upper || !password.contains(char::is_uppercase));
                prop_assert!(repeat || password.chars().collect::<BTreeSet<_>>().len() == total);
            }
        }
    }

    #[tokio::test]
    async fn all_passwords_together_are_bounded() {
        let keys = |count: usize| (0..count).map(|i| format!("k{i}")).collect::<Vec<_>>();
        let error = make(json!({"length": 65536, "allowRepeat": true, "secretKeys": keys(17)})).await.unwrap_err();
        assert!(error.contains("17 keys are more than 1048576 characters together"), "{error}");
        assert_eq!(make(json!({"length": 100, "allowRepeat": true, "secretKeys": keys(17)})).await.unwrap().len(), 17);
    }
}
