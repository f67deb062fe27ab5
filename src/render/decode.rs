//! Decoding of values, and the check for null bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::api::external_secret::{DecodingStrategy, NullBytePolicy};
use crate::secret_bytes::SecretBytes;

/// The value is not what its decoding strategy says. Which byte is wrong is left out: it says how long the value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("illegal base64 data")]
pub struct NotBase64;

/// A value has a null byte where the policy forbids it. The text is ESO's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "fetched secret value for key {key:?} contains null bytes; use a text-safe format such as PEM/base64 or leave \
     nullBytePolicy unset for intentional binary data"
)]
pub struct NullBytes {
    /// Key of the value.
    pub key: String,
}

/// Decodes a value. `Auto` takes base64, then base64url, then the value as it is, and never fails.
///
/// # Errors
/// The value is not in the alphabet asked for, or not padded. Line ends in it do not matter.
pub fn decode(strategy: DecodingStrategy, value: SecretBytes) -> Result<SecretBytes, NotBase64> {
    match strategy {
        DecodingStrategy::None => Ok(value),
        DecodingStrategy::Base64 => base64(&STANDARD, &value),
        DecodingStrategy::Base64Url => base64(&URL_SAFE, &value),
        DecodingStrategy::Auto => Ok(base64(&STANDARD, &value).or_else(|_| base64(&URL_SAFE, &value)).unwrap_or(value)),
    }
}

fn base64(alphabet: &Alphabet, value: &SecretBytes) -> Result<SecretBytes, NotBase64> {
    read_base64(alphabet, value.expose()).map(SecretBytes::new).ok_or(NotBase64)
}

/// Go's reading of padded base64, in its standard alphabet.
#[must_use]
pub fn base64_of_go(text: &[u8]) -> Option<Vec<u8>> {
    read_base64(&STANDARD, text)
}

/// Go's reading of padded base64: line ends are skipped wherever they are, and bits left over at the end need not be zero.
fn read_base64(alphabet: &Alphabet, text: &[u8]) -> Option<Vec<u8>> {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    let one_line: Zeroizing<Vec<u8>> =
        text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect::<Vec<_>>().into();
    GeneralPurpose::new(alphabet, config).decode(&*one_line).ok()
}

/// Name of a strategy, as it is written in a manifest.
#[must_use]
pub fn name(strategy: DecodingStrategy) -> &'static str {
    match strategy {
        DecodingStrategy::Auto => "Auto",
        DecodingStrategy::Base64 => "Base64",
        DecodingStrategy::Base64Url => "Base64URL",
        DecodingStrategy::None => "None",
    }
}

/// Applies the policy for null bytes to a set; the first key in order is named.
///
/// # Errors
/// The policy is `Fail` and a value has a null byte.
pub fn check_null_bytes<'a>(
    policy: NullBytePolicy,
    entries: impl IntoIterator<Item = (&'a String, &'a SecretBytes)>,
) -> Result<(), NullBytes> {
    if policy == NullBytePolicy::Ignore {
        return Ok(());
    }
    match entries.into_iter().find(|(_, value)| value.expose().contains(&0)) {
        Some((key, _)) => Err(NullBytes { key: key.clone() }),
        None => Ok(()),
    }
}

/// Decodes all values of a set; the first key in order that fails is named.
///
/// # Errors
/// The key whose value is not what the strategy says.
pub fn decode_all(
    strategy: DecodingStrategy,
    entries: BTreeMap<String, SecretBytes>,
) -> Result<BTreeMap<String, SecretBytes>, (String, NotBase64)> {
    let decode_one = |(key, value)| match decode(strategy, value) {
        Ok(value) => Ok((key, value)),
        Err(error) => Err((key, error)),
    };
    entries.into_iter().map(decode_one).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(strategy: DecodingStrategy, value: &str) -> Option<Vec<u8>> {
        decode(strategy, SecretBytes::from(value)).ok().map(|v| v.expose().to_vec())
    }

    /// Golden cases decode-02 and decode-04.
    #[test]
    fn decodes_as_the_conformance_cases_do() {
        use DecodingStrategy::{Auto, Base64, Base64Url, None};
        let table: [(DecodingStrategy, &str, Option<&[u8]>); 16] = [
            (Base64Url, "aGVsbG8gd29ybGQ=", Some(b"hello world")),
            (Base64Url, "YWJj", Some(b"abc")),
            (Base64Url, "8J-YgD8_Pz8-", Some("😀????>".as_bytes())),
            (Base64Url, "AAEC/w==", Option::None),
            (Base64Url, "aGk", Option::None),
            (Base64Url, "not base64!", Option::None),
            (Base64, "AAEC/w==", Some(&[0, 1, 2, 0xff])),
            (Base64, "aGVs\nbG8=", Some(b"hello")),
            (Base64, "aGVs bG8=", Option::None),
            (Base64, "8J-YgA==", Option::None),
            (Base64, "1234", Some(&[0xd7, 0x6d, 0xf8])),
            (Auto, "true", Some(&[0xb6, 0xbb, 0x9e])),
            (Auto, "8J-YgA==", Some("😀".as_bytes())),
            (Auto, "plain words", Some(b"plain words")),
            (Auto, "{\"k\": \"v\"}", Some(b"{\"k\": \"v\"}")),
            (None, "YQ==", Some(b"YQ==")),
        ];
        for (strategy, value, want) in table {
            assert_eq!(decoded(strategy, value).as_deref(), want, "{} {value}", name(strategy));
        }
    }

    #[test]
    fn the_first_bad_key_is_named() {
        let entries =
            BTreeMap::from([("b".to_owned(), SecretBytes::from("no!")), ("c".to_owned(), SecretBytes::from("no!"))]);
        assert_eq!(decode_all(DecodingStrategy::Base64, entries.clone()).unwrap_err().0, "b");
        assert!(decode_all(DecodingStrategy::Auto, entries).is_ok());
    }

    #[test]
    fn null_bytes() {
        let entries =
            BTreeMap::from([("a".to_owned(), SecretBytes::new(vec![0, 1])), ("b".to_owned(), SecretBytes::from("b"))]);
        assert!(check_null_bytes(NullBytePolicy::Ignore, &entries).is_ok());
        let error = check_null_bytes(NullBytePolicy::Fail, &entries).unwrap_err().to_string();
        assert!(
            error.starts_with("fetched secret value for key \"a\" contains null bytes; use a text-safe format"),
            "{error}"
        );
        assert!(check_null_bytes(NullBytePolicy::Fail, entries.iter().skip(1)).is_ok());
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let text = base64::engine::general_purpose::STANDARD.encode(&bytes);
            prop_assert_eq!(decoded(DecodingStrategy::Base64, &text), Some(bytes));
        }
    }
}
