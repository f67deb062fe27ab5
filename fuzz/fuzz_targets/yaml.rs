//! Any bytes as YAML, and as a map of keys and values.
#![no_main]

use keyferry::render::yaml;
use keyferry::secret_bytes::SecretBytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let text = SecretBytes::new(data.to_vec());
    let _ = yaml::keys_and_values(&text);
    if yaml::to_json(&text).is_ok() {
        assert!(yaml::parse(data).is_ok());
    }
});
