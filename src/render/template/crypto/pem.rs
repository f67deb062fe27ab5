//! PEM as Go's `encoding/pem` reads and writes it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::FuncError;
use crate::render::decode::base64_of_go;

const BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"\n-----END ";
const DASHES: &[u8] = b"-----";
const WIDTH: usize = 64;

pub const CERTIFICATE: &str = "CERTIFICATE";
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
pub const PUBLIC_KEY: &str = "PUBLIC KEY";

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// What stands after `BEGIN`.
    pub kind: Vec<u8>,
    headers: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What it holds.
    pub bytes: Vec<u8>,
}

impl Block {
    /// The block as text, its headers in order.
    fn text(&self) -> Vec<u8> {
        let mut text = [BEGIN, &self.kind, DASHES, b"\n"].concat();
        let (first, others): (Vec<_>, Vec<_>) = self.headers.iter().partition(|(key, _)| *key == b"Proc-Type");
        for (key, value) in first.into_iter().chain(others) {
            text.extend([key, &b": "[..], value, b"\n"].concat());
        }
        if !self.headers.is_empty() {
            text.push(b'\n');
        }
        for line in STANDARD.encode(&self.bytes).as_bytes().chunks(WIDTH) {
            text.extend_from_slice(line);
            text.push(b'\n');
        }
        text.extend([&END[1..], &self.kind, DASHES, b"\n"].concat());
        text
    }
}

/// Bytes as a block without headers.
pub fn encode(kind: &str, bytes: &[u8]) -> String {
    let block = Block { kind: kind.into(), headers: BTreeMap::new(), bytes: bytes.to_vec() };
    String::from_utf8_lossy(&block.text()).into_owned()
}

/// What a try at the first END line comes to.
enum Try<'a> {
    Found(Block, &'a [u8]),
    Skip,
    GiveUp,
}

/// The next block and what follows it. Text around blocks is passed over, and so are blocks that are broken.
pub fn decode(text: &[u8]) -> Option<(Block, &[u8])> {
    let mut rest = text;
    loop {
        let end = find(rest, END)?;
        match block_before(rest, end) {
            Try::Found(block, rest) => return Some((block, rest)),
            Try::Skip => rest = &rest[end + END.len()..],
            Try::GiveUp => return None,
        }
    }
}

/// All blocks, and what follows the last.
pub fn decode_all(text: &[u8]) -> (Vec<Block>, &[u8]) {
    let (mut blocks, mut rest) = (Vec::new(), text);
    while let Some((block, after)) = decode(rest) {
        blocks.push(block);
        rest = after;
    }
    (blocks, rest)
}

/// The block that ends with the line break at `end`: from the last BEGIN before it.
fn block_before(text: &[u8], end: usize) -> Try<'_> {
    let Some(begin) = text[..end].windows(BEGIN.len()).rposition(|w| w == BEGIN) else { return Try::Skip };
    if begin > 0 && text[begin - 1] != b'\n' {
        return Try::Skip;
    }
    let (first, mut at) = line(text, begin + BEGIN.len());
    let Some(kind) = first.strip_suffix(DASHES) else { return Try::Skip };
    let mut headers = BTreeMap::new();
    loop {
        if at >= text.len() {
            return Try::GiveUp;
        }
        let (header, next) = line(text, at);
        let Some(colon) = header.iter().position(|b| *b == b':') else { break };
        headers.insert(header[..colon].trim_ascii().to_vec(), header[colon + 1..].trim_ascii().to_vec());
        at = next;
    }
    let trailer = end + END.len();
    if !headers.is_empty() && end < at {
        return if trailer < at { Try::GiveUp } else { Try::Skip };
    }
    let Some(after) = text[trailer..].strip_prefix(kind).and_then(|rest| rest.strip_prefix(DASHES)) else {
        return Try::Skip;
    };
    if !line(after, 0).0.is_empty() {
        return Try::Skip;
    }
    let body: Vec<u8> =
        text.get(at..end).unwrap_or_default().iter().copied().filter(|b| !matches!(b, b' ' | b'\t')).collect();
    let Some(bytes) = base64_of_go(&body) else { return Try::Skip };
    let (_, rest) = line(text, trailer);
    Try::Found(Block { kind: kind.to_vec(), headers, bytes }, &text[rest..])
}

/// The line from there on, without blanks at its end, and where the next one begins.
fn line(text: &[u8], from: usize) -> (&[u8], usize) {
    let rest = &text[from..];
    let (line, next) = match rest.iter().position(|b| *b == b'\n') {
        Some(end) => (rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]), from + end + 1),
        None => (rest, text.len()),
    };
    let kept = line.iter().rposition(|b| !matches!(b, b' ' | b'\t')).map_or(0, |last| last + 1);
    (&line[..kept], next)
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|w| w == word)
}

/// From the first BEGIN on, if there is one: text before it may be anything.
pub fn without_preface(text: &[u8]) -> &[u8] {
    find(text, &BEGIN[..BEGIN.len() - 1]).map_or(text, |begin| &text[begin..])
}

/// `filterPEM`: the blocks of one kind, in order.
///
/// # Errors
/// There is none, and the text does not end with a block.
pub fn filter(kind: &[u8], text: &[u8]) -> Result<Vec<u8>, FuncError> {
    let (blocks, rest) = decode_all(without_preface(text));
    let wanted: Vec<u8> = blocks.iter().filter(|b| same_kind(&b.kind, kind)).flat_map(Block::text).collect();
    if wanted.is_empty() && !rest.is_empty() {
        return Err(FuncError::new("error filtering pem: found junk"));
    }
    Ok(wanted)
}

/// Go's `EqualFold`, for what a kind is made of.
fn same_kind(a: &[u8], b: &[u8]) -> bool {
    match (std::str::from_utf8(a), std::str::from_utf8(b)) {
        (Ok(a), Ok(b)) => a.to_lowercase() == b.to_lowercase(),
        _ => a.eq_ignore_ascii_case(b),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let text = encode("SOME THING", &[7; 100]);
        let (block, rest) = decode(text.as_bytes()).unwrap();
        assert_eq!((block.kind.as_slice(), block.bytes.as_slice(), rest), (&b"SOME THING"[..], &[7; 100][..], &b""[..]));
    }

    proptest! {
        #[test]
        fn anything_can_be_read(text in "(-----(BEGIN|END) (A|B)-----|[ \r\n:=A-Za-z-]{0,9}|\n){0,12}") {
            let (_, rest) = decode_all(text.as_bytes());
            prop_assert!(text.as_bytes().ends_with(rest));
            let _ = filter(b"A", text.as_bytes());
        }

        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            decode_all(&bytes);
        }

        #[test]
        fn any_bytes_can_be_written(bytes: Vec<u8>) {
            let text = encode("X", &bytes);
            prop_assert_eq!(decode(text.as_bytes()).unwrap().0.bytes, bytes);
        }
    }
}
