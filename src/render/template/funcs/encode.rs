//! Encodings and digests.

use aws_lc_rs::digest;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, Engine, GeneralPurpose, GeneralPurposeConfig};

use super::Type::Str;
use super::{Function, fixed, text};
use crate::render::template::context::Answer;
use crate::render::template::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("b64enc", &[Str], |_, args| Ok(Value::bytes(STANDARD.encode(text(args, 0)).into_bytes()))),
    fixed("b64dec", &[Str], |_, args| Ok(Value::bytes(base64(text(args, 0))))),
    fixed("b32enc", &[Str], |_, args| Ok(Value::bytes(base32_of(text(args, 0))))),
    fixed("b32dec", &[Str], |_, args| Ok(Value::bytes(base32(text(args, 0))))),
    fixed("hexdec", &[Str], |_, args| Ok(Value::bytes(hexadecimal(text(args, 0))))),
    fixed("sha1sum", &[Str], |_, args| digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text(args, 0))),
    fixed("sha256sum", &[Str], |_, args| digest(&digest::SHA256, text(args, 0))),
    fixed("sha512sum", &[Str], |_, args| digest(&digest::SHA512, text(args, 0))),
    fixed("adler32sum", &[Str], |_, args| {
        let (a, b) = text(args, 0).iter().fold((1u32, 0u32), |(a, b), byte| {
            let a = (a + u32::from(*byte)) % 65521;
            (a, (b + a) % 65521)
        });
        Ok(Value::bytes((b << 16 | a).to_string().into_bytes()))
    }),
];

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

#[allow(clippy::unnecessary_wraps)]
fn digest(how: &'static digest::Algorithm, text: &[u8]) -> Answer {
    Ok(Value::bytes(hex(digest::digest(how, text).as_ref())))
}

/// Text without what lines are broken with.
fn unbroken(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect()
}

/// Decoded; what is none becomes the text of Go's error, as in sprig.
fn base64(text: &[u8]) -> Vec<u8> {
    const CONFIG: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    GeneralPurpose::new(&ALPHABET, CONFIG)
        .decode(unbroken(text))
        .unwrap_or_else(|_| format!("illegal base64 data at input byte {}", base64_fault(text)).into_bytes())
}

/// Where Go finds base64 to be wrong.
fn base64_fault(text: &[u8]) -> usize {
    let mut at = 0;
    let skip = |mut at: usize| {
        while at < text.len() && matches!(text[at], b'\r' | b'\n') {
            at += 1;
        }
        at
    };
    loop {
        for place in 0..4 {
            at = skip(at);
            let Some(&byte) = text.get(at) else {
                // Ends inside a group: at its beginning, or at the end of nothing.
                return if place == 0 { text.len() } else { at - place };
            };
            at += 1;
            if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/') {
                continue;
            }
            if byte != b'=' || place < 2 {
                return at - 1;
            }
            if place == 2 {
                at = skip(at);
                match text.get(at) {
                    None => return text.len(),
                    Some(b'=') => at += 1,
                    Some(_) => return at - 1,
                }
            }
            return skip(at);
        }
    }
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn base32_of(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(5) * 8);
    for group in bytes.chunks(5) {
        let number = (0..5).fold(0u64, |sum, i| sum << 8 | u64::from(group.get(i).copied().unwrap_or(0)));
        let used = (group.len() * 8).div_ceil(5);
        out.extend((0..8).map(|i| match i < used {
            true => BASE32[usize::try_from(number >> (35 - 5 * i) & 31).unwrap_or(0)],
            false => b'=',
        }));
    }
    out
}

/// Decoded; what is none becomes the text of Go's error.
fn base32(text: &[u8]) -> Vec<u8> {
    let plain = unbroken(text);
    match base32_bytes(&plain) {
        Ok(bytes) => bytes,
        Err(at) => format!("illegal base32 data at input byte {at}").into_bytes(),
    }
}

/// The bytes, or where the text is wrong. Padding is only looked for in the last eight bytes.
fn base32_bytes(text: &[u8]) -> Result<Vec<u8>, usize> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let mut number = 0u64;
        let mut used = 0;
        while used < 8 {
            let Some(byte) = text.get(at) else { return Err(text.len() - used) };
            at += 1;
            let rest = &text[at..];
            if *byte == b'=' && used >= 2 && rest.len() < 8 {
                if rest.len() + used < 7 {
                    return Err(text.len());
                }
                if let Some(bad) = rest.iter().take(7 - used).position(|b| *b != b'=') {
                    return Err(at + bad - 1);
                }
                if matches!(used, 3 | 6) {
                    return Err(at - 1);
                }
                at = text.len();
                break;
            }
            let digit = BASE32.iter().position(|digit| digit == byte).ok_or(at - 1)?;
            number |= (digit as u64) << (35 - 5 * used);
            used += 1;
        }
        out.extend_from_slice(&number.to_be_bytes()[3..][..used * 5 / 8]);
    }
    Ok(out)
}

/// Decoded; what is none becomes the text of Go's error.
fn hexadecimal(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut out = Vec::with_capacity(text.len() / 2);
    for pair in text.chunks(2) {
        if let Some(bad) = pair.iter().find(|byte| digit(**byte).is_none()) {
            let shown = crate::render::template::lang::lex::unicode(char::from(*bad));
            return format!("encoding/hex: invalid byte: {shown}").into_bytes();
        }
        match pair {
            [high, low] => out.push(digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0)),
            _ => return b"encoding/hex: odd length hex string".to_vec(),
        }
    }
    out
}
