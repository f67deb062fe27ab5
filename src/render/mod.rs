//! Pure: from fetched values to the keys and values of a Secret.
//!
//! Each entry of an ExternalSecret goes through its own steps, which differ: a single value is decoded; a set of `extract` is
//! rewritten or else its keys converted; so is one of `find`, but that some providers have its keys converted first, whatever
//! follows.

pub mod decode;
pub mod json;
pub mod json_edit;
pub mod jsonpath;
pub mod keys;
pub mod manifest;
pub mod number;
pub mod path;
pub mod re2;
pub mod rewrite;
pub mod target;
pub mod template;
pub mod yaml;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use crate::api::external_secret::{ConversionStrategy, Data, DecodingStrategy, Find, NullBytePolicy, RemoteRef, Rewrite};
use crate::secret_bytes::SecretBytes;

/// What templates and rewrites may take from outside: nothing but the time and chance, and so much work for one object.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// What time it is.
    pub now: jiff::Timestamp,
    /// Random bytes.
    pub chance: &'a dyn template::Chance,
    /// The steps taken so far: at most [`MOST_STEPS`].
    pub taken: &'a Cell<u64>,
}

/// Most steps that all templates of an object may take together, or all rewrites.
pub const MOST_STEPS: u64 = 4_000_000;

/// An object asks for too much work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all templates, or all rewrites, of the object take more than {MOST_STEPS} steps together; make them do less")]
pub struct TooMuch;

impl Outside<'_> {
    /// Counts work.
    ///
    /// # Errors
    /// [`TooMuch`], from the one step too many on.
    pub fn step(&self, count: u64) -> Result<(), TooMuch> {
        self.taken.set(self.taken.get().saturating_add(count));
        if self.taken.get() > MOST_STEPS { Err(TooMuch) } else { Ok(()) }
    }
}

/// Keys and values.
pub type Entries = BTreeMap<String, SecretBytes>;

/// An entry of an ExternalSecret's spec. As text: ESO's beginning of an error about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// `spec.data[index]`, with the key at the provider.
    Data {
        /// Index in the list.
        index: usize,
        /// Key at the provider.
        key: String,
    },
    /// `spec.dataFrom[index].extract`.
    Extract(usize),
    /// `spec.dataFrom[index].find`.
    Find(usize),
    /// `spec.dataFrom[index].sourceRef.generatorRef`.
    Generator(usize),
}

impl Place {
    /// Text of the event about an entry that the provider does not have, where the policy lets that pass. ESO's, which says
    /// `dataFrom` for entries of `data`, too.
    #[must_use]
    pub fn missing(&self) -> String {
        match self {
            Self::Data { index, key } => {
                format!("secret does not exist at provider using spec.dataFrom[{index}] (key={key})")
            }
            Self::Extract(index) | Self::Find(index) | Self::Generator(index) => {
                format!("secret does not exist at provider using spec.dataFrom[{index}]")
            }
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error processing spec.")?;
        match self {
            Self::Data { index, key } => write!(f, "data[{index}] (key: {key})")?,
            Self::Extract(index) => write!(f, "dataFrom[{index}].extract")?,
            Self::Find(index) => write!(f, "dataFrom[{index}].find")?,
            Self::Generator(index) => write!(f, "dataFrom[{index}].sourceRef.generatorRef")?,
        }
        f.write_str(", err")
    }
}

/// Values that cannot be made into those of a Secret. Never shows one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct RenderError {
    /// The entry.
    pub place: Place,
    /// Why.
    pub cause: RenderCause,
}

/// Why values cannot be made into those of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderCause {
    /// Two keys become one.
    #[error("error applying conversion strategy {strategy:?} to keys: {error}")]
    Convert {
        /// How they were converted.
        strategy: ConversionStrategy,
        /// The key.
        error: keys::KeyError,
    },
    /// A rewrite failed.
    #[error("error applying rewrite to keys: {0}")]
    Rewrite(#[from] rewrite::RewriteError),
    /// A key cannot be one of a Secret.
    #[error("invalid secret keys (TIP: use rewrite or conversionStrategy to change keys): {0}")]
    InvalidKeys(#[from] keys::KeyError),
    /// A single value cannot be decoded.
    #[error("error applying decoding strategy {} to data: {error}", decode::name(*strategy))]
    Decode {
        /// What it should have been.
        strategy: DecodingStrategy,
        /// Why it is not.
        error: decode::NotBase64,
    },
    /// A value of a set cannot be decoded.
    #[error("error applying decoding strategy {} to data: failure decoding key {key}: {error}", decode::name(*strategy))]
    DecodeKey {
        /// What it should have been.
        strategy: DecodingStrategy,
        /// Key of the value.
        key: String,
        /// Why it is not.
        error: decode::NotBase64,
    },
    /// A value has a null byte where the policy forbids it.
    #[error(transparent)]
    NullBytes(#[from] decode::NullBytes),
}

/// The value of `spec.data[index]`: decoded. Its key is taken as it is written.
///
/// # Errors
/// The value is not what its strategies say.
pub fn data(index: usize, entry: &Data, value: SecretBytes) -> Result<(String, SecretBytes), RenderError> {
    let remote = &entry.remote_ref;
    let strategy = remote.decoding_strategy.unwrap_or_default();
    let decoded = decode::decode(strategy, value).map_err(|error| RenderCause::Decode { strategy, error });
    let checked = decoded.and_then(|value| {
        decode::check_null_bytes(remote.null_byte_policy.unwrap_or_default(), [(&entry.secret_key, &value)])?;
        Ok(value)
    });
    match checked {
        Ok(value) => Ok((entry.secret_key.clone(), value)),
        Err(cause) => Err(RenderError { place: Place::Data { index, key: remote.key.clone() }, cause }),
    }
}

/// The values of `spec.dataFrom[index].extract`: rewritten, or else the keys converted; then checked and decoded.
///
/// # Errors
/// A key or value is not what it must be.
pub fn extract(
    index: usize,
    from: &RemoteRef,
    rewrites: &[Rewrite],
    entries: Entries,
    outside: Outside<'_>,
) -> Result<Entries, RenderError> {
    keyed(from.conversion_strategy, false, rewrites, entries, outside)
        .and_then(|entries| finish(from.decoding_strategy, from.null_byte_policy, entries))
        .map_err(|cause| RenderError { place: Place::Extract(index), cause })
}

/// The values of `spec.dataFrom[index].find`: as those of `extract`, but that the keys are converted before they are rewritten
/// where the provider has it so ([`Provider::converts_found`](crate::providers::Provider::converts_found)).
///
/// # Errors
/// A key or value is not what it must be.
pub fn find(
    index: usize,
    from: &Find,
    converts_first: bool,
    rewrites: &[Rewrite],
    entries: Entries,
    outside: Outside<'_>,
) -> Result<Entries, RenderError> {
    keyed(from.conversion_strategy, converts_first, rewrites, entries, outside)
        .and_then(|entries| finish(from.decoding_strategy, from.null_byte_policy, entries))
        .map_err(|cause| RenderError { place: Place::Find(index), cause })
}

/// The values of `spec.dataFrom[index].sourceRef.generatorRef`: rewritten and checked.
///
/// # Errors
/// A key is not what it must be.
pub fn generated(
    index: usize,
    rewrites: &[Rewrite],
    entries: Entries,
    outside: Outside<'_>,
) -> Result<Entries, RenderError> {
    rewrite::apply(rewrites, entries, outside)
        .map_err(RenderCause::from)
        .and_then(|entries| Ok(keys::validate(entries)?))
        .map_err(|cause| RenderError { place: Place::Generator(index), cause })
}

/// All values of a Secret: those of `dataFrom` in order, then those of `data`; a later one wins.
#[must_use]
pub fn combine(sets: impl IntoIterator<Item = Entries>, single: impl IntoIterator<Item = (String, SecretBytes)>) -> Entries {
    let mut all: Entries = sets.into_iter().flatten().collect();
    all.extend(single);
    all
}

/// The same values under the keys that they will have: rewritten, or else converted, or both.
fn keyed(
    strategy: Option<ConversionStrategy>,
    converts_first: bool,
    rewrites: &[Rewrite],
    entries: Entries,
    outside: Outside<'_>,
) -> Result<Entries, RenderCause> {
    let strategy = strategy.unwrap_or_default();
    let entries = if converts_first || rewrites.is_empty() {
        keys::convert(strategy, entries).map_err(|error| RenderCause::Convert { strategy, error })?
    } else {
        entries
    };
    Ok(rewrite::apply(rewrites, entries, outside)?)
}

fn finish(
    decoding: Option<DecodingStrategy>,
    null_bytes: Option<NullBytePolicy>,
    entries: Entries,
) -> Result<Entries, RenderCause> {
    let strategy = decoding.unwrap_or_default();
    let valid = keys::validate(entries)?;
    let decoded =
        decode::decode_all(strategy, valid).map_err(|(key, error)| RenderCause::DecodeKey { strategy, key, error })?;
    decode::check_null_bytes(null_bytes.unwrap_or_default(), &decoded)?;
    Ok(decoded)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::rewrite::testing::outside;
    use super::*;
    use crate::api::external_secret::RewriteRegexp;

    fn set(entries: &[(&str, &str)]) -> Entries {
        entries.iter().map(|(k, v)| ((*k).to_owned(), SecretBytes::from(*v))).collect()
    }

    fn view(entries: &Entries) -> Vec<(&str, &str)> {
        entries.iter().map(|(k, v)| (k.as_str(), v.expose_str().unwrap())).collect()
    }

    fn by_regexp(source: &str, target: &str) -> [Rewrite; 1] {
        [Rewrite { regexp: Some(RewriteRegexp { source: source.into(), target: target.into() }), ..Rewrite::default() }]
    }

    fn entry(key: &str, decoding: DecodingStrategy) -> Data {
        let remote_ref = RemoteRef { key: key.into(), decoding_strategy: Some(decoding), ..RemoteRef::default() };
        Data { secret_key: "v".into(), remote_ref, source_ref: None }
    }

    /// Golden cases decode-02 and decode-07.
    #[test]
    fn single_values() {
        let (key, value) = data(0, &entry("std", DecodingStrategy::Base64), "aGVsbG8=".into()).unwrap();
        assert_eq!((key.as_str(), value.expose_str()), ("v", Some("hello")));
        let error = data(3, &entry("plain", DecodingStrategy::Base64Url), "not base64!".into()).unwrap_err().to_string();
        let text = "error processing spec.data[3] (key: plain), err: error applying decoding strategy Base64URL to data: illegal base64 data";
        assert_eq!(error, text);
        let mut strict = entry("bin", DecodingStrategy::Base64);
        strict.remote_ref.null_byte_policy = Some(NullBytePolicy::Fail);
        let error = data(0, &strict, "AAE=".into()).unwrap_err().to_string();
        assert!(
            error.starts_with("error processing spec.data[0] (key: bin), err: fetched secret value for key \"v\""),
            "{error}"
        );
    }

    /// Golden case rewrite-14: extract converts only without rewrites, find of some providers always.
    #[test]
    fn what_happens_to_keys() {
        let odd = || set(&[("a/b", "1"), ("plain", "2")]);
        let remote = RemoteRef::default();
        assert_eq!(view(&extract(0, &remote, &[], odd(), outside()).unwrap()), [("a_b", "1"), ("plain", "2")]);
        assert_eq!(
            view(&extract(0, &remote, &by_regexp("/", "_"), odd(), outside()).unwrap()),
            [("a_b", "1"), ("plain", "2")]
        );
        let error = extract(2, &remote, &by_regexp("zzz", "y"), odd(), outside()).unwrap_err().to_string();
        assert_eq!(
            error,
            "error processing spec.dataFrom[2].extract, err: invalid secret keys (TIP: use rewrite or conversionStrategy to change \
             keys): key has invalid character /, only alphanumeric, '-', '.' and '_' are allowed: a/b"
        );
        let found = find(0, &Find::default(), true, &by_regexp("_", "-"), set(&[("deep/key", "3")]), outside()).unwrap();
        assert_eq!(view(&found), [("deep-key", "3")]);
    }

    /// ESO's own example of a rewrite that takes a path away: of most providers, rewrites see the names as they are.
    #[test]
    fn names_that_are_found_are_rewritten_as_they_are() {
        let found = |converts_first: bool, rewrites: &[Rewrite]| {
            let all = set(&[("path/to/my/secrets/password", "2"), ("path/to/my/secrets/username", "1")]);
            find(0, &Find::default(), converts_first, rewrites, all, outside())
        };
        let without_path = by_regexp("path/to/my/secrets/(.*)", "$1");
        assert_eq!(view(&found(false, &without_path).unwrap()), [("password", "2"), ("username", "1")]);
        let converted = [("path_to_my_secrets_password", "2"), ("path_to_my_secrets_username", "1")];
        assert_eq!(view(&found(true, &without_path).unwrap()), converted);
        for converts_first in [true, false] {
            assert_eq!(view(&found(converts_first, &[]).unwrap()), converted);
        }
        assert_eq!(
            found(false, &by_regexp("^path/to/", "")).unwrap_err().to_string(),
            "error processing spec.dataFrom[0].find, err: invalid secret keys (TIP: use rewrite or conversionStrategy to change \
             keys): key has invalid character /, only alphanumeric, '-', '.' and '_' are allowed: my/secrets/password"
        );
    }

    /// Golden case from-06.
    #[test]
    fn collisions_name_the_strategy() {
        let error =
            extract(0, &RemoteRef::default(), &[], set(&[("a/b", "1"), ("a:b", "2")]), outside()).unwrap_err().to_string();
        assert_eq!(
            error,
            "error processing spec.dataFrom[0].extract, err: error applying conversion strategy Default to keys: secret name \
             collision during conversion: a_b"
        );
    }

    /// Golden cases decode-04 and decode-07.
    #[test]
    fn sets_are_decoded_and_checked() {
        let base64 = RemoteRef { decoding_strategy: Some(DecodingStrategy::Base64), ..RemoteRef::default() };
        let rewritten =
            extract(0, &base64, &by_regexp("(.+)", "k-$1"), set(&[("a", "YQ=="), ("b", "Yg==")]), outside()).unwrap();
        assert_eq!(view(&rewritten), [("k-a", "a"), ("k-b", "b")]);
        let error =
            extract(0, &base64, &[], set(&[("a", "YQ=="), ("b", "plain words")]), outside()).unwrap_err().to_string();
        assert_eq!(
            error,
            "error processing spec.dataFrom[0].extract, err: error applying decoding strategy Base64 to data: failure decoding \
             key b: illegal base64 data"
        );
        let strict = Find {
            decoding_strategy: Some(DecodingStrategy::Base64),
            null_byte_policy: Some(NullBytePolicy::Fail),
            ..Find::default()
        };
        let error =
            find(1, &strict, false, &[], set(&[("n/1", "AAE="), ("n/2", "Yg==")]), outside()).unwrap_err().to_string();
        assert!(
            error.starts_with("error processing spec.dataFrom[1].find, err: fetched secret value for key \"n_1\""),
            "{error}"
        );
    }

    /// Golden cases from-09 and data-16.
    #[test]
    fn later_values_win() {
        let sets = [
            set(&[("a", "base"), ("b", "base"), ("c", "base")]),
            set(&[("b", "over"), ("c", "over")]),
            set(&[("c", "found")]),
        ];
        let single = [("d".to_owned(), SecretBytes::from("first")), ("d".to_owned(), SecretBytes::from("last"))];
        assert_eq!(view(&combine(sets, single)), [("a", "base"), ("b", "over"), ("c", "found"), ("d", "last")]);
    }

    #[test]
    fn missing_values_are_told_as_in_eso() {
        assert_eq!(Place::Find(1).missing(), "secret does not exist at provider using spec.dataFrom[1]");
        let single = Place::Data { index: 0, key: "k".into() };
        assert_eq!(single.missing(), "secret does not exist at provider using spec.dataFrom[0] (key=k)");
        assert_eq!(
            format!("{}: x", Place::Generator(2)),
            "error processing spec.dataFrom[2].sourceRef.generatorRef, err: x"
        );
    }
}
