//! Any bytes as YAML, as a map of keys and values, and as JSON: neither aliases nor merges make it larger or deeper than it may be.
#![no_main]

use keyferry::render::yaml::{self, Yaml};
use keyferry::secret_bytes::SecretBytes;
use keyferry_fuzz::grown;
use libfuzzer_sys::fuzz_target;

/// Most values of one text, keys among them, aliases resolved.
const MOST_VALUES: usize = 500_000;
/// Most bytes of texts in them.
const MOST_BYTES: usize = 8 << 20;
/// Most levels of lists and maps.
const MOST_LEVELS: usize = 100;
/// Most values of what is written as YAML: each has its indentation.
const MOST_WRITTEN: usize = 10_000;

fuzz_target!(|data: &[u8]| {
    let Some(data) = grown(data) else { return };
    let text = SecretBytes::new(data);
    if let Ok(entries) = yaml::keys_and_values(&text) {
        assert!(2 * entries.len() <= MOST_VALUES, "{} entries", entries.len());
    }
    let Ok(read) = yaml::parse(text.expose()) else {
        assert!(yaml::to_json(&text).is_err(), "what cannot be read is not made JSON of");
        return;
    };
    let mut size = Size::default();
    size.add(&read, 0);
    assert!(size.values <= MOST_VALUES, "{} values", size.values);
    assert!(size.bytes <= MOST_BYTES, "{} bytes", size.bytes);
    let json = yaml::to_json(&text);
    assert!(json.is_ok(), "what can be read is made JSON of");
    if let Some(json) = json.ok().filter(|_| size.values <= MOST_WRITTEN) {
        let _ = yaml::to_json(&yaml::of_json(&json));
    }
});

#[derive(Default)]
struct Size {
    values: usize,
    bytes: usize,
}

impl Size {
    /// Goes no deeper than it may be, for it would need the stack for that.
    fn add(&mut self, value: &Yaml, level: usize) {
        assert!(level <= MOST_LEVELS, "it is nested deeper than {MOST_LEVELS} levels");
        self.values += 1;
        match value {
            Yaml::Text(text) => self.bytes += text.len(),
            Yaml::List(items) => items.iter().for_each(|item| self.add(item, level + 1)),
            Yaml::Map(pairs) => {
                self.values += pairs.len();
                pairs.values().for_each(|item| self.add(item, level + 1));
            }
            Yaml::Null | Yaml::Bool(_) | Yaml::Int(_) | Yaml::Uint(_) | Yaml::Float(_) => {}
        }
    }
}
