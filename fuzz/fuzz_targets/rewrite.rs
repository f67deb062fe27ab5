//! The input as rewrites and the entries that they change: JSON first, else a line for each, which its first character tells apart.
//! Applied in a row, neither keys nor values grow without bound.
#![no_main]

use std::cell::Cell;
use std::collections::BTreeMap;

use keyferry::api::external_secret::{
    ConflictPolicy, MergeStrategy, PriorityPolicy, Rewrite, RewriteMerge, RewriteRegexp, RewriteTransform,
};
use keyferry::render::{Entries, MOST_STEPS, Outside, rewrite};
use keyferry::secret_bytes::SecretBytes;
use keyferry_fuzz::{Fixed, LONGEST, grown_text};
use libfuzzer_sys::fuzz_target;

/// Most rewrites in a row.
const MOST_REWRITES: usize = 16;
/// Steps that all rewrites together have, fewer than an object's: the instrumented build is ten times slower.
const STEPS: u64 = 400_000;
/// Steps that one has by itself.
const STEPS_ALONE: u64 = 100_000;
/// Most bytes of all keys after a rewrite that changes them.
const MOST_OF_KEYS: usize = 1 << 20;
/// Bytes that a byte of a value becomes at most: `1e308` is written with all its zeros.
const MOST_OF_BYTE: usize = 64;

#[derive(serde::Deserialize)]
struct Input {
    rewrites: Vec<Rewrite>,
    entries: BTreeMap<String, String>,
}

impl Input {
    /// `/source` and in the next line its target, `~template`, `<flags names` ([`merge`]), `*5`: all rewrites so far five times more,
    /// `=value` of the keys that follow. Any other line is a key.
    fn of_lines(text: &str) -> Self {
        let (mut rewrites, mut entries, mut value) = (Vec::new(), BTreeMap::new(), r#"{"a":1}"#);
        // a value is that of many keys
        let mut room = LONGEST;
        let mut lines = text.split('\n');
        while let Some(line) = lines.next() {
            match line.split_at_checked(1) {
                Some(("/", source)) => {
                    let target = lines.next().unwrap_or_default().to_owned();
                    let regexp = Some(RewriteRegexp { source: source.to_owned(), target });
                    rewrites.push(Rewrite { regexp, ..Rewrite::default() });
                }
                Some(("~", template)) => {
                    let transform = Some(RewriteTransform { template: template.to_owned() });
                    rewrites.push(Rewrite { transform, ..Rewrite::default() });
                }
                Some(("<", text)) => rewrites.push(Rewrite { merge: Some(merge(text)), ..Rewrite::default() }),
                Some(("*", more)) => {
                    let times = more.parse::<usize>().unwrap_or(0).min(MOST_REWRITES) + 1;
                    rewrites = rewrites.iter().cycle().take(times * rewrites.len()).take(MOST_REWRITES).cloned().collect();
                }
                Some(("=", text)) => value = text,
                _ => {
                    let Some(left) = room.checked_sub(line.len() + value.len()) else { break };
                    room = left;
                    entries.insert(line.to_owned(), value.to_owned());
                }
            }
        }
        Self { rewrites, entries }
    }
}

/// Flags: `i` takes conflicts, `n` names that are not there, `j` makes an object of it whose key is the first of the names.
fn merge(text: &str) -> RewriteMerge {
    let (flags, names) = text.split_once(' ').unwrap_or((text, ""));
    let mut names = names.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
    let is_object = flags.contains('j');
    RewriteMerge {
        into: if is_object { names.next() } else { None },
        priority: names.collect(),
        priority_policy: flags.contains('n').then_some(PriorityPolicy::IgnoreNotFound),
        conflict_policy: flags.contains('i').then_some(ConflictPolicy::Ignore),
        strategy: is_object.then_some(MergeStrategy::Json),
    }
}

fn check(rewrites: &[Rewrite], entries: &Entries, steps: u64) {
    let taken = Cell::new(MOST_STEPS.saturating_sub(steps));
    let outside = Outside { now: jiff::Timestamp::UNIX_EPOCH, chance: &Fixed, taken: &taken };
    let Ok(made) = rewrite::apply(rewrites, entries.clone(), outside) else { return };
    let keys = made.keys().map(String::len).sum::<usize>();
    // what no rewrite changed, and what merges take out of values, is as long as the input
    assert!(keys <= MOST_OF_KEYS + LONGEST, "{keys} bytes of keys");
    let bytes = |entries: &Entries| entries.values().map(SecretBytes::len).sum::<usize>();
    let most = MOST_OF_BYTE * (1 + rewrites.len()) * (bytes(entries) + MOST_OF_BYTE);
    assert!(bytes(&made) <= most, "{} bytes of values, of {}", bytes(&made), bytes(entries));
}

fuzz_target!(|data: &[u8]| {
    let Some(text) = grown_text(data) else { return };
    let mut input: Input = serde_json::from_str(&text).unwrap_or_else(|_| Input::of_lines(&text));
    input.rewrites.truncate(MOST_REWRITES);
    let Input { rewrites, entries } = input;
    let entries: Entries = entries.into_iter().map(|(key, value)| (key, SecretBytes::from(value))).collect();
    // one by one too: a failure of the first must not hide the others
    let mut others = rewrites.clone();
    others.dedup();
    for one in others.iter().skip(1).take(4) {
        check(std::slice::from_ref(one), &entries, STEPS_ALONE);
    }
    check(&rewrites, &entries, STEPS);
});
