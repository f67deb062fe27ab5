//! Any text as a template, over values of all sorts. One in chance must not change what a template without chance makes.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use keyferry::render::Entries;
use keyferry::render::template::{Chance, Engine};
use keyferry::secret_bytes::SecretBytes;
use libfuzzer_sys::fuzz_target;

/// Bytes that are the same each time: a finding must be found again.
struct Fixed;

impl Chance for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        for (byte, value) in bytes.iter_mut().zip((0..=u8::MAX).cycle()) {
            *byte = value.wrapping_mul(151).wrapping_add(43);
        }
    }
}

static VALUES: LazyLock<Entries> = LazyLock::new(|| {
    let texts: [(&str, &[u8]); 8] = [
        ("user", b"app"),
        ("password", b"p\"a's<s>&\n"),
        ("json", br#"{"a":{"b":[1,2.5,"x",null,true]},"c":"d"}"#),
        ("yaml", b"a: 010\nb: [x, y]\n"),
        ("base64", b"aGVsbG8="),
        ("number", b"42"),
        ("binary", b"\x00\xff\xc3\x28"),
        ("empty", b""),
    ];
    texts.into_iter().map(|(key, text)| (key.to_owned(), SecretBytes::new(text.to_vec()))).collect::<BTreeMap<_, _>>()
});

fuzz_target!(|text: &[u8]| {
    let engine = Engine::new(jiff::Timestamp::UNIX_EPOCH, &Fixed);
    if let Err(error) = engine.render("fuzz", text, &VALUES) {
        assert!(error.to_string().len() < 100_000, "an error as long as a template");
    }
});
