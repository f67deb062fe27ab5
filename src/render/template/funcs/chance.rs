//! What is drawn by lot.

use super::Type::{Int, Str};
use super::{Function, fixed, int, text};
use crate::render::template::context::{Answer, Context, Fault};
use crate::render::template::go::runes;
use crate::render::template::value::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("randAlphaNum", &[Int], |cx, args| characters(cx, args, |c| c.is_ascii_alphanumeric())),
    fixed("randAlpha", &[Int], |cx, args| characters(cx, args, |c| c.is_ascii_alphabetic())),
    fixed("randNumeric", &[Int], |cx, args| characters(cx, args, |c| c.is_ascii_digit())),
    fixed("randAscii", &[Int], |cx, args| characters(cx, args, |c| (b' '..=b'~').contains(&c))),
    fixed("randBytes", &[Int], |cx, args| {
        let count = usize::try_from(int(args, 0)).map_err(|_| "a negative count")?;
        cx.reserve(count.saturating_mul(2))?;
        let mut bytes = Zeroizing::new(vec![0; count]);
        cx.chance.fill(&mut bytes);
        Ok(Value::bytes(STANDARD.encode(&bytes).into_bytes()))
    }),
    fixed("randInt", &[Int, Int], |cx, args| {
        let (low, high) = (int(args, 0), int(args, 1));
        let span =
            high.checked_sub(low).filter(|span| *span > 0).ok_or("the second number must be larger than the first")?;
        let drawn = below(cx, u64::try_from(span).unwrap_or(1))?;
        Ok(Value::int(low.wrapping_add(i64::try_from(drawn).unwrap_or(0))))
    }),
    fixed("shuffle", &[Str], |cx, args| {
        let mut all: Vec<char> = runes::runes(text(args, 0)).map(|(_, c, _)| c).collect();
        for last in (1..all.len()).rev() {
            let other = below(cx, last as u64 + 1)?;
            all.swap(last, usize::try_from(other).unwrap_or(0));
        }
        Ok(Value::bytes(all.into_iter().collect::<String>().into_bytes()))
    }),
    fixed("uuidv4", &[], |cx, _| {
        let mut b = [0; 16];
        cx.chance.fill(&mut b);
        b[6] = (b[6] & 0x0f) | 0x40;
        b[8] = (b[8] & 0x3f) | 0x80;
        let hex: String = b.iter().map(|byte| format!("{byte:02x}")).collect();
        let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
        Ok(Value::bytes(parts.join("-").into_bytes()))
    }),
];

/// A number below another, all with the same chance.
fn below(cx: &Context<'_>, end: u64) -> Result<u64, Fault> {
    let fair = u64::MAX - u64::MAX % end;
    loop {
        cx.step(1)?;
        let mut bytes = [0; 8];
        cx.chance.fill(&mut bytes);
        let drawn = u64::from_le_bytes(bytes);
        if drawn < fair {
            return Ok(drawn % end);
        }
    }
}

/// That many characters of a kind. None for a negative count, as sprig swallows the error.
fn characters(cx: &Context<'_>, args: &[Value], fits: fn(u8) -> bool) -> Answer {
    let count = usize::try_from(int(args, 0)).unwrap_or(0);
    cx.reserve(count)?;
    let mut out = Vec::with_capacity(count);
    let mut pool = Zeroizing::new([0; 64]);
    while out.len() < count {
        cx.step(1)?;
        cx.chance.fill(pool.as_mut());
        // Seven bits of each byte, so that each character has the same chance.
        out.extend(pool.iter().map(|byte| byte & 0x7f).filter(|byte| fits(*byte)).take(count - out.len()));
    }
    Ok(Value::bytes(out))
}
