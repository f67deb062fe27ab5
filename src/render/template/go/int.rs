//! `strconv.ParseInt`.

/// Why a text is no number, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotInt {
    /// It is none.
    Syntax,
    /// It is too large; holds the nearest that is not.
    Range(i64),
}

/// A whole number. Base zero takes Go's prefixes `0x`, `0o`, `0b`, `0`, and `_` between digits.
pub(crate) fn parse(text: &[u8], base: u32) -> Result<i64, NotInt> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let size = match magnitude(digits, base) {
        Ok(size) => size,
        Err(NotInt::Range(_)) => u64::MAX,
        Err(NotInt::Syntax) => return Err(NotInt::Syntax),
    };
    match (negative, i64::try_from(size)) {
        (false, Ok(number)) => Ok(number),
        (false, Err(_)) => Err(NotInt::Range(i64::MAX)),
        (true, Ok(number)) => Ok(-number),
        (true, Err(_)) if size == 1 << 63 => Ok(i64::MIN),
        (true, Err(_)) => Err(NotInt::Range(i64::MIN)),
    }
}

/// A whole number without sign.
pub(crate) fn parse_unsigned(text: &[u8]) -> Option<u64> {
    magnitude(text, 0).ok()
}

fn magnitude(text: &[u8], base: u32) -> Result<u64, NotInt> {
    let (radix, digits, prefixed) = match text {
        _ if base != 0 => (base, text, false),
        [b'0', b'x' | b'X', rest @ ..] => (16, rest, true),
        [b'0', b'o' | b'O', rest @ ..] => (8, rest, true),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest, true),
        [b'0', rest @ ..] if !rest.is_empty() => (8, rest, true),
        rest => (10, rest, false),
    };
    let mut number = Some(0u64);
    let mut before = prefixed;
    if digits.is_empty() {
        return Err(NotInt::Syntax);
    }
    for (i, byte) in digits.iter().enumerate() {
        if *byte == b'_' && base == 0 {
            // Between two digits, or a prefix and a digit.
            if !before || digits.get(i + 1).is_none_or(|next| *next == b'_') {
                return Err(NotInt::Syntax);
            }
            before = false;
            continue;
        }
        let digit = char::from(*byte).to_digit(radix).ok_or(NotInt::Syntax)?;
        number = number.and_then(|n| n.checked_mul(radix.into())).and_then(|n| n.checked_add(digit.into()));
        before = true;
    }
    number.ok_or(NotInt::Range(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_reads_them() {
        for (text, want) in [
            ("42", 42),
            ("-7", -7),
            ("+7", 7),
            ("0x1F", 31),
            ("010", 8),
            ("0o17", 15),
            ("0b101", 5),
            ("1_000", 1000),
            ("0", 0),
            ("0_7", 7),
        ] {
            assert_eq!(parse(text.as_bytes(), 0), Ok(want), "{text}");
        }
        for text in ["", "-", "08", "0x", "1__0", "_1", "1_", "1e3", " 5", "4x", "0x_"] {
            assert_eq!(parse(text.as_bytes(), 0), Err(NotInt::Syntax), "{text}");
        }
        assert_eq!(parse(b"9223372036854775808", 0), Err(NotInt::Range(i64::MAX)));
        assert_eq!(parse(b"-9223372036854775808", 10), Ok(i64::MIN));
        assert_eq!(parse(b"99999999999999999999", 10), Err(NotInt::Range(i64::MAX)));
        assert_eq!(parse(b"010", 10), Ok(10));
        assert_eq!(parse(b"1_0", 10), Err(NotInt::Syntax));
    }
}
