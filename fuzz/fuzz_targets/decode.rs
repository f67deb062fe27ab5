//! Any bytes through every decoding strategy, both conversions of keys, and the reader of JSON.
#![no_main]

use keyferry::api::external_secret::{ConversionStrategy, DecodingStrategy};
use keyferry::render::{decode, json, keys};
use keyferry::secret_bytes::SecretBytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let value = SecretBytes::new(data.to_vec());
    for strategy in [DecodingStrategy::Auto, DecodingStrategy::Base64, DecodingStrategy::Base64Url, DecodingStrategy::None] {
        match decode::decode(strategy, value.clone()) {
            Ok(decoded) => assert!(decoded.expose().len() <= data.len(), "decoding makes nothing longer"),
            Err(_) => assert!(matches!(strategy, DecodingStrategy::Base64 | DecodingStrategy::Base64Url)),
        }
    }
    if let Ok(key) = std::str::from_utf8(data) {
        for strategy in [ConversionStrategy::Default, ConversionStrategy::Unicode] {
            let _ = keys::convert_key(strategy, key);
        }
        let _ = keys::revert_key(key);
    }
    if let Some(read) = json::parse(data) {
        let written = json::compact(&read, true);
        let again = json::parse(&written).map(|read| json::compact(&read, true));
        assert_eq!(again.as_deref(), Some(written.as_slice()), "what was written is read back as it was");
    }
    let _ = json::members(data);
});
