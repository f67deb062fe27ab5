//! The first line as a gjson path, the rest as the JSON that it leads into.
#![no_main]

use keyferry::render::path;
use keyferry::secret_bytes::SecretBytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (query, json) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(query) = std::str::from_utf8(query) else { return };
    let value = path::get(json, query).map(path::Value::into_secret);
    let json = SecretBytes::new(json.to_vec());
    let _ = path::exact_then_path(&json, query);
    let _ = path::escaped_then_path(&json, query);
    let _ = path::object_entries(&json);
    if let Some(value) = value {
        let _ = path::get(value.expose(), query);
    }
});
