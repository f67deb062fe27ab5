//! Any bytes through every decoding strategy, both conversions of keys, and the reader of JSON.
#![no_main]

use keyferry::api::external_secret::{ConversionStrategy, DecodingStrategy};
use keyferry::render::{decode, json, keys};
use keyferry::secret_bytes::SecretBytes;
use keyferry_fuzz::grown;
use libfuzzer_sys::fuzz_target;

/// Bytes that one byte becomes at most: `/` in a key is `_U002f_`, `<` in JSON `\u003c`.
const MOST: usize = 7;

fuzz_target!(|data: &[u8]| {
    let Some(data) = grown(data) else { return };
    let value = SecretBytes::new(data.clone());
    for strategy in [DecodingStrategy::Auto, DecodingStrategy::Base64, DecodingStrategy::Base64Url, DecodingStrategy::None] {
        match decode::decode(strategy, value.clone()) {
            Ok(decoded) => assert!(decoded.len() <= data.len(), "decoding makes nothing longer"),
            Err(_) => assert!(matches!(strategy, DecodingStrategy::Base64 | DecodingStrategy::Base64Url)),
        }
    }
    if let Ok(key) = std::str::from_utf8(&data) {
        for strategy in [ConversionStrategy::Default, ConversionStrategy::Unicode] {
            assert!(
                keys::convert_key(strategy, key).len() <= MOST * key.len(),
                "a key grows by what stands for its characters"
            );
        }
        assert!(keys::revert_key(key).len() <= key.len(), "no character is longer than what stands for it");
    }
    if let Some(read) = json::parse(&data) {
        let written = json::compact(&read, true);
        assert!(written.len() <= MOST * data.len(), "JSON grows by its escapes");
        let again = json::parse(&written).map(|read| json::compact(&read, true));
        assert_eq!(again.as_deref(), Some(written.as_slice()), "what was written is read back as it was");
    }
    let _ = json::members(&data);
});
