//! keyferry's templates against Go's `text/template` with sprig: `tests/vectors/template.jsonl`, made by `e2e/oracles`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyferry::render::Entries;
use keyferry::render::template::{Chance, Engine, Stage};
use keyferry::secret_bytes::SecretBytes;
use serde::Deserialize;

/// Where keyferry differs on purpose, and why.
const DELIBERATE: &[(&str, &str)] = &[
    (r#"{{ fromYaml "\ta: b" | toJson }}"#, "the YAML 1.2 parser takes a tab in front of a map"),
    (r#"{{ fromYaml "a: \u0085" | toJson }}"#, "the next-line character breaks lines in YAML 1.1 only"),
];

/// What `fromYaml` gives for a text that is none.
const NOT_YAML: &[u8] = b"{\"Error\":";

#[derive(Deserialize)]
struct Scope {
    scope: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    result: Option<String>,
    fails: Option<String>,
    error: Option<String>,
}

struct Zeros;

impl Chance for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        // Not all the same, or what is drawn until it fits would never fit.
        bytes.iter_mut().zip((0..=255u8).cycle()).for_each(|(byte, number)| *byte = number);
    }
}

/// One byte for each character.
fn bytes(latin1: &str) -> Vec<u8> {
    latin1.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn shown(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}

/// What Go answers for one template, if keyferry's answer differs.
fn difference(engine: &Engine<'_>, scope: &Entries, case: &Case) -> Option<String> {
    let got = engine.render("key", bytes(&case.template), scope);
    let want = case.result.as_deref().map(bytes);
    let agrees = match (&got, &want) {
        // Both tell that a text is no YAML; each in its own words, ours without the text.
        (Ok(got), Some(want)) if want.starts_with(NOT_YAML) => got.expose().starts_with(NOT_YAML),
        (Ok(got), Some(want)) => got.expose() == want,
        (Err(error), None) => {
            case.fails.as_deref()
                == Some(match error.stage {
                    Stage::Parse => "parse",
                    Stage::Execute => "execute",
                })
        }
        _ => false,
    };
    if agrees {
        return None;
    }
    let go = want.map_or_else(|| case.error.clone().unwrap_or_default(), |want| shown(&want));
    let we = got.map_or_else(|error| error.to_string(), |got| shown(got.expose()));
    Some(format!("{}\n  Go  {go}\n  we  {we}", case.template))
}

#[test]
fn templates() {
    let file = format!("{}/tests/vectors/template.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let scope: Scope = serde_json::from_str(lines.next().unwrap()).unwrap();
    let scope: Entries = scope.scope.iter().map(|(key, value)| (key.clone(), SecretBytes::new(bytes(value)))).collect();
    let engine = Engine::new(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(24 * 365 * 50), &Zeros);
    let deliberate: BTreeSet<&str> = DELIBERATE.iter().map(|(template, _)| *template).collect();
    let (mut total, mut differences, mut known) = (0, Vec::new(), BTreeSet::new());
    for line in lines {
        let case: Case = serde_json::from_str(line).unwrap();
        total += 1;
        match difference(&engine, &scope, &case) {
            Some(_) if deliberate.contains(case.template.as_str()) => drop(known.insert(case.template)),
            Some(difference) => differences.push(difference),
            None => {}
        }
    }
    assert!(total > 1500, "the vectors are there");
    let count = differences.len();
    assert!(differences.is_empty(), "{count} of {total} differ from Go:\n{}", differences.join("\n"));
    assert_eq!(known.len(), deliberate.len(), "a deliberate difference is none any more");
}
