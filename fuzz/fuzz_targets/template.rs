//! Any text as a template, over values of all sorts, short and long.
#![no_main]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use keyferry::render::Entries;
use keyferry::render::template::{Engine, Limits};
use keyferry::secret_bytes::SecretBytes;
use keyferry_fuzz::{Fixed, LONGEST, grown};
use libfuzzer_sys::fuzz_target;

/// A part of what templates may use. A step is a microsecond at most where nothing is counted for the fuzzer, so that a finding takes
/// many times what it may. `genPrivateKey`, which costs more steps than that, has tests of its own.
const LIMITS: Limits =
    Limits { source: LONGEST, output: 512 << 10, value: 1 << 20, memory: 8 << 20, steps: 200_000, depth: 150 };

/// Steps of an expression that is compiled. Where they are too many, `regexMatch` says no, and what comes next fails, if anything does.
const EXPRESSION: u64 = 20_000;

/// Steps of parsing, at most.
const PARSING: u64 = LONGEST as u64 / 32;

/// Bytes of an error besides what it quotes of the template.
const MOST_WORDS: usize = 100_000;

/// Letters and digits without any order: what a regular expression cannot learn by heart.
fn noise() -> Vec<u8> {
    let next = |seed: &u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    let numbers = std::iter::successors(Some(1_u64), next);
    numbers.map(|number| b"abcdefghijklmnopqrstuvwxyz012345"[(number >> 59) as usize]).take(32 << 10).collect()
}

static VALUES: LazyLock<Entries> = LazyLock::new(|| {
    let (long, noise) = ("key: some words, and more of them\n".repeat(500), noise());
    let texts: [(&str, &[u8]); 11] = [
        ("user", b"app"),
        ("password", b"p\"a's<s>&\n"),
        ("json", br#"{"a":{"b":[1,2.5,"x",null,true]},"c":"d"}"#),
        ("yaml", b"a: 010\nb: [x, y]\n"),
        ("anchors", b"a: &a {b: [1, 2], c: x}\nd: {<<: *a, e: *a}\n"),
        ("base64", b"aGVsbG8="),
        ("number", b"42"),
        ("binary", b"\x00\xff\xc3\x28"),
        ("empty", b""),
        ("long", long.as_bytes()),
        ("noise", &noise),
    ];
    texts.into_iter().map(|(key, text)| (key.to_owned(), SecretBytes::new(text.to_vec()))).collect::<BTreeMap<_, _>>()
});

fuzz_target!(|data: &[u8]| {
    let Some(text) = grown(data) else { return };
    let taken = Cell::new(0);
    let engine = Engine { limits: LIMITS, taken: Some(&taken), ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &Fixed) };
    match engine.render("fuzz", &text, &VALUES) {
        Ok(made) => {
            assert!(made.len() <= LIMITS.output, "a result of {} bytes", made.len());
            assert!(taken.get() <= LIMITS.steps + EXPRESSION + PARSING, "{} steps", taken.get());
        }
        // characters may be quoted, each as `\u{10ffff}`
        Err(error) => assert!(error.to_string().len() <= 10 * text.len() + MOST_WORDS, "an error as long as a template"),
    }
});
