//! The first line as the path of a property, the rest as the JSON that it leads into: read as gjson and JSONPath do, and written as
//! sjson does. What is written is read back.
#![no_main]

use keyferry::render::{json, json_edit, jsonpath, path};
use keyferry::secret_bytes::SecretBytes;
use keyferry_fuzz::grown;
use libfuzzer_sys::fuzz_target;

/// Bytes that one look-up may make.
const MOST_READ: usize = 128 << 20;

/// Most bytes of what is found for the path to be followed in that, too.
const SMALL: usize = 4096;

/// Steps of a path that is written, and elements of an array that one of them may make up.
const MOST_STEPS: usize = 100;
const MOST_PADDING: usize = 1000;

/// What is written: a value whose JSON is longer than it is.
const VALUE: &str = "v\"\\\u{1}é\u{2028}";

fuzz_target!(|data: &[u8]| {
    let Some(data) = grown(data) else { return };
    let at = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (query, json) = (&data[..at], data.get(at + 1..).unwrap_or_default());
    let Ok(query) = std::str::from_utf8(query) else { return };
    let json = SecretBytes::new(json.to_vec());
    read(query, &json);
    write(query, &json);
});

fn read(query: &str, json: &SecretBytes) {
    if query.starts_with('$') {
        let _ = jsonpath::first(json, query);
    }
    let _ = path::object_entries(json);
    // one of them, by lot: each may take as long as a look-up may
    let found = match json.len() % 3 {
        0 => path::exact_then_path(json, query),
        1 => path::escaped_then_path(json, query),
        _ => path::get(json.expose(), query).map(path::Value::into_secret),
    };
    let Some(found) = found else { return };
    assert!(found.len() <= MOST_READ, "{query:?} finds more than a look-up may make");
    if found.len() <= SMALL {
        let _ = path::get(found.expose(), query);
    }
}

/// What a push does, and what is done when it is taken back. Providers refuse a value that is no JSON.
fn write(property: &str, current: &SecretBytes) {
    if !current.expose().trim_ascii().is_empty() && !json::is_valid(current.expose()) {
        let _ = json_edit::remove(current, property);
        return;
    }
    let value = SecretBytes::from(VALUE);
    let Some(written) = json_edit::set(current, property, &value) else { return };
    assert!(json::is_valid(written.expose()), "{property:?} makes something else than JSON");
    let dots = property.matches('.').count() - property.matches("\\.").count();
    assert!(dots < MOST_STEPS, "a path of too many steps is written");
    // of a name and of the value each byte becomes six at most, and each step has its brackets or what it made up
    let most = current.len() + 6 * (property.len() + VALUE.len()) + MOST_STEPS * ("null,".len() * (MOST_PADDING + 1) + 16);
    assert!(written.len() <= most, "{property:?} makes {} bytes of {}", written.len(), current.len());
    if property.replace('\\', "").contains("-1") {
        // puts one more behind the others each time
        return;
    }
    assert!(json_edit::exists(&written, property), "{property:?} is not where it was written");
    assert!(
        json_edit::set(&written, property, &value).as_ref() == Some(&written),
        "{property:?} is written elsewhere again"
    );
    if property.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        let read = path::get(written.expose(), property).map(path::Value::into_secret);
        assert!(read.as_ref() == Some(&value), "{property:?} is read from elsewhere");
    }
    let left = json_edit::remove(&written, property);
    assert!(
        left.is_some_and(|left| json::is_valid(left.expose()) && left.len() < written.len()),
        "{property:?} is not taken out"
    );
}
