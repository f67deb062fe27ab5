//! What the targets share: inputs that grow, and chance that always falls the same way.

use keyferry::render::template::Chance;

/// Longest input that a short one grows to.
pub const LONGEST: usize = 256 << 10;

/// The input with its repetitions written out: `\x01`, a byte whose low four bits are an exponent of two, the part, and `\x02`. Most of
/// what takes too long does so only where it is long, and the inputs of a fuzzer are short. `None`: it would become too long.
#[must_use]
pub fn grown(data: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::new(), data);
    while let Some(at) = rest.iter().position(|byte| *byte == 1) {
        out.extend_from_slice(&rest[..at]);
        let Some((exponent, group)) = rest[at + 1..].split_first() else { return Some(out) };
        let end = group.iter().position(|byte| *byte == 2).unwrap_or(group.len());
        let times: usize = 1 << (exponent & 15);
        if end.saturating_mul(times).saturating_add(out.len()) > LONGEST {
            return None;
        }
        out.extend(group[..end].repeat(times));
        rest = group.get(end + 1..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    (out.len() <= LONGEST).then_some(out)
}

/// The same of a text. `None` also where it is none.
#[must_use]
pub fn grown_text(data: &[u8]) -> Option<String> {
    String::from_utf8(grown(data)?).ok()
}

/// Bytes that are the same each time: a finding must be found again.
pub struct Fixed;

impl Chance for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        for (byte, value) in bytes.iter_mut().zip((0..=u8::MAX).cycle()) {
            *byte = value.wrapping_mul(151).wrapping_add(43);
        }
    }
}
