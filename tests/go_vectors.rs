//! keyferry against Go itself: `tests/vectors` holds what Go's libraries answer; `e2e/oracles` asks them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry::render::path;
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
    let shown = differences.iter().take(25).cloned().collect::<Vec<_>>().join("\n");
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
