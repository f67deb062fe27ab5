//! keyferry against Go itself: `tests/vectors` holds what Go's libraries answer; `e2e/oracles` asks them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "go_vectors/crypto.rs"]
mod crypto;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use keyferry::api::external_secret::DecodingStrategy;
use keyferry::chance::SystemChance;
use keyferry::plan::cron::Schedule;
use keyferry::plan::duration;
use keyferry::render::re2::Expression;
use keyferry::render::{Outside, decode, path};
use keyferry::secret_bytes::SecretBytes;
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn vectors<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let file = format!("{}/tests/vectors/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One byte for each character.
fn bytes(latin1: &str) -> Vec<u8> {
    latin1.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// Fails with the first differences, so that a systematic one can be seen.
fn report(total: usize, differences: &[String]) {
    let differences: BTreeSet<&String> = differences.iter().collect();
    let shown = differences.iter().take(25).map(|d| d.as_str()).collect::<Vec<_>>().join("\n");
    assert!(differences.is_empty(), "{} of {total} differ from Go:\n{shown}", differences.len());
}

#[derive(Deserialize)]
struct Document {
    json: String,
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    path: String,
    exists: bool,
    #[serde(default)]
    string: String,
    raw: Option<String>,
}

#[test]
fn gjson_paths() {
    let mut total = 0;
    let mut differences = Vec::new();
    for document in vectors::<Document>("gjson") {
        let json = bytes(&document.json);
        for answer in document.answers {
            total += 1;
            let path = String::from_utf8(bytes(&answer.path)).unwrap();
            let raw = answer.raw.as_ref().unwrap_or(&answer.string);
            let want = answer.exists.then(|| (bytes(&answer.string), bytes(raw)));
            let got = path::get(&json, &path).map(|v| (v.to_string_bytes().into_owned(), v.raw().to_vec()));
            if got != want {
                let show = |found: &Option<(Vec<u8>, Vec<u8>)>| {
                    found
                        .as_ref()
                        .map(|(s, r)| (String::from_utf8_lossy(s).into_owned(), String::from_utf8_lossy(r).into_owned()))
                };
                differences.push(format!("{} @ {path}\n  Go  {:?}\n  we  {:?}", document.json, show(&want), show(&got)));
            }
        }
    }
    assert!(total > 1500, "the vectors are there");
    report(total, &differences);
}

#[derive(Deserialize)]
struct Replacement {
    source: String,
    #[serde(default)]
    target: String,
    #[serde(default)]
    results: BTreeMap<String, String>,
    error: Option<String>,
}

/// What Go refuses must be refused in its words.
#[test]
fn regular_expressions() {
    let vectors = vectors::<Replacement>("regexp");
    assert!(vectors.iter().filter(|vector| vector.error.is_some()).count() > 100, "the vectors are there");
    let keys: BTreeSet<&String> = vectors.iter().flat_map(|vector| vector.results.keys()).collect();
    let mut differences = Vec::new();
    for vector in &vectors {
        let Replacement { source, target, results, error } = vector;
        let expression = match (Expression::new(source), error) {
            (Ok(expression), None) => expression,
            (Err(why), Some(error)) if why.to_string() == *error => continue,
            (we, _) => {
                let (we, go) = (we.map_or_else(|why| why.to_string(), |_| "take it".into()), error.as_deref());
                differences.push(format!("{source}:\n  Go  {}\n  we  {we}", go.unwrap_or("takes it")));
                continue;
            }
        };
        for key in &keys {
            let outside = Outside { now: Timestamp::UNIX_EPOCH, chance: &SystemChance, taken: &Cell::new(0) };
            let (want, got) =
                (results.get(*key).unwrap_or(key), expression.replace_all(key, target, outside).unwrap_or_default());
            if got != **want {
                differences.push(format!("{source} -> {target} on {key:?}: Go {want:?}, we {got:?}"));
            }
        }
    }
    report(vectors.len(), &differences);
}

#[derive(Deserialize)]
struct Base64 {
    r#in: String,
    std: Option<String>,
    url: Option<String>,
}

#[test]
fn base64() {
    let mut differences = Vec::new();
    let vectors = vectors::<Base64>("base64");
    for vector in &vectors {
        for (strategy, want) in [(DecodingStrategy::Base64, &vector.std), (DecodingStrategy::Base64Url, &vector.url)] {
            let got = decode::decode(strategy, SecretBytes::new(bytes(&vector.r#in))).ok();
            if got.as_ref().map(SecretBytes::expose) != want.as_deref().map(bytes).as_deref() {
                differences.push(format!(
                    "{strategy:?} {:?}: Go {want:?}, we {:?}",
                    vector.r#in,
                    got.map(|v| v.expose().to_vec())
                ));
            }
        }
    }
    report(vectors.len(), &differences);
}

#[derive(Deserialize)]
struct Duration {
    r#in: String,
    nanos: Option<i64>,
    text: Option<String>,
}

#[test]
fn durations() {
    let mut differences = Vec::new();
    let vectors = vectors::<Duration>("duration");
    for vector in &vectors {
        // A manifest is UTF-8; what is not cannot get here.
        let Ok(text) = String::from_utf8(bytes(&vector.r#in)) else { continue };
        let got = duration::parse(&text).ok();
        let printed = got.map(|d| duration::format(d).into_bytes());
        if got.map(|d| d.as_nanos()) != vector.nanos.map(i128::from)
            || printed != vector.text.as_deref().map(str::as_bytes).map(<[u8]>::to_vec)
        {
            differences.push(format!("{text:?}: Go {:?} {:?}, we {got:?}", vector.nanos, vector.text));
        }
    }
    report(vectors.len(), &differences);
}

#[derive(Deserialize)]
struct Cron {
    schedule: String,
    #[serde(default)]
    error: bool,
    #[serde(default)]
    next: BTreeMap<String, i64>,
}

#[test]
fn cron_schedules() {
    let mut differences = Vec::new();
    let vectors = vectors::<Cron>("cron");
    for Cron { schedule, error, next } in &vectors {
        let parsed = Schedule::parse(schedule);
        if parsed.is_none() != *error {
            differences.push(format!("{schedule:?}: Go refuses it: {error}, we: {}", parsed.is_none()));
        }
        let Some(parsed) = parsed else { continue };
        for (from, want) in next {
            let from = Timestamp::from_second(from.parse().unwrap()).unwrap();
            let got = parsed.next(from).map_or(0, Timestamp::as_second);
            if got != *want {
                differences.push(format!("{schedule:?} after {from}: Go {want}, we {got}"));
            }
        }
    }
    report(vectors.len(), &differences);
}
