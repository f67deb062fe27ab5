//! The input as rewrites and the entries that they change: JSON first, else its lines as an expression, a target and keys.
#![no_main]

use std::collections::BTreeMap;

use keyferry::api::external_secret::{Rewrite, RewriteRegexp, RewriteTransform};
use keyferry::render::template::Chance;
use keyferry::render::{Entries, Outside, rewrite};
use keyferry::secret_bytes::SecretBytes;
use libfuzzer_sys::fuzz_target;

struct Fixed;

impl Chance for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

#[derive(serde::Deserialize)]
struct Input {
    rewrites: Vec<Rewrite>,
    entries: BTreeMap<String, String>,
}

/// `source\ntarget\nkey\nkey…`: the pair as an expression, and the second line as a transform too.
fn of_lines(text: &str) -> Option<Input> {
    let mut lines = text.split('\n');
    let (source, target) = (lines.next()?.to_owned(), lines.next()?.to_owned());
    let transform = RewriteTransform { template: target.clone() };
    let rewrites = vec![
        Rewrite { regexp: Some(RewriteRegexp { source, target }), ..Rewrite::default() },
        Rewrite { transform: Some(transform), ..Rewrite::default() },
    ];
    Some(Input { rewrites, entries: lines.map(|key| (key.to_owned(), r#"{"a":1}"#.to_owned())).collect() })
}

fuzz_target!(|text: &str| {
    let Some(input) = serde_json::from_str(text).ok().or_else(|| of_lines(text)) else { return };
    let Input { rewrites, entries } = input;
    let entries: Entries = entries.into_iter().map(|(key, value)| (key, SecretBytes::from(value))).collect();
    let outside = Outside { now: jiff::Timestamp::UNIX_EPOCH, chance: &Fixed };
    // one by one too: a failure of the first must not hide the others
    for one in &rewrites {
        let _ = rewrite::apply(std::slice::from_ref(one), entries.clone(), outside);
    }
    let _ = rewrite::apply(&rewrites, entries, outside);
});
