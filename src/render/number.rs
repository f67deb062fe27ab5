//! Numbers as Go reads and prints them.

/// A number as Go's `strconv.ParseFloat` reads it, errors aside: zero where it is none, infinite where it is too large.
/// That includes `inf`, `nan`, hexadecimal and `1_000`.
#[must_use]
pub fn parse(text: &[u8]) -> f64 {
    let (sign, digits) = match text {
        [b'-', rest @ ..] => (-1.0, rest),
        [b'+', rest @ ..] => (1.0, rest),
        rest => (1.0, rest),
    };
    let lower = digits.to_ascii_lowercase();
    let magnitude = match lower.as_slice() {
        b"inf" | b"infinity" => Some(f64::INFINITY),
        b"nan" if text.len() == 3 => return f64::NAN,
        [b'0', b'x', rest @ ..] => without_underscores(rest, true).and_then(|digits| hexadecimal(&digits)),
        rest => without_underscores(rest, false).and_then(|digits| decimal_value(&digits)),
    };
    magnitude.map_or(0.0, |magnitude| sign * magnitude)
}

/// Prints a number without exponent, with the fewest digits that read back as the same number.
#[must_use]
pub fn decimal(number: f64) -> String {
    if number == f64::INFINITY {
        "+Inf".to_owned()
    } else if number == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        number.to_string()
    }
}

/// Prints a number as Go's JSON encoder does: with exponent where it is below 1e-6, or 1e21 and above. Finite numbers only.
#[must_use]
pub fn json(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return decimal(number);
    }
    let text = format!("{number:e}");
    if size < 1.0 { text } else { text.replace('e', "e+") }
}

/// The digits without underscores, which may stand between digits, and after the prefix of a hexadecimal number.
fn without_underscores(digits: &[u8], after_prefix: bool) -> Option<Vec<u8>> {
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (after_prefix && byte.is_ascii_hexdigit());
    let misplaced = |(i, byte): (usize, &u8)| {
        let before = if i == 0 { after_prefix } else { is_digit(&digits[i - 1]) };
        *byte == b'_' && !(before && digits.get(i + 1).is_some_and(is_digit))
    };
    let ok = !digits.iter().enumerate().any(misplaced);
    ok.then(|| digits.iter().copied().filter(|byte| *byte != b'_').collect())
}

/// A decimal number without sign. Rust reads the same numbers as Go, and a few words, too.
fn decimal_value(digits: &[u8]) -> Option<f64> {
    let numeric = digits.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.');
    std::str::from_utf8(digits).ok().filter(|_| numeric)?.parse().ok()
}

/// The part of a hexadecimal number after `0x`: `1.8p-3`. Go wants the exponent.
fn hexadecimal(digits: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(digits).ok()?;
    let (mantissa, exponent) = text.split_once('p')?;
    let exponent: i32 = exponent.parse::<i64>().ok()?.clamp(-100_000, 100_000).try_into().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let mut value: u64 = 0;
    let mut scale = exponent;
    let mut sticky = false;
    for (i, digit) in whole.chars().chain(fraction.chars()).enumerate() {
        let digit = u64::from(digit.to_digit(16)?);
        if value >> 56 == 0 {
            value = value << 4 | digit;
            scale -= if i >= whole.len() { 4 } else { 0 };
        } else {
            // Beyond 60 bits a digit counts for the rounding alone.
            sticky |= digit != 0;
            scale += if i < whole.len() { 4 } else { 0 };
        }
    }
    Some(scaled(value | u64::from(sticky), scale))
}

/// `value * 2^scale`, in steps that neither overflow nor round more than once for normal numbers.
#[allow(clippy::cast_precision_loss)] // that is the rounding asked for
fn scaled(value: u64, scale: i32) -> f64 {
    let mut number = value as f64;
    let mut left = scale.clamp(-5000, 5000);
    while left != 0 {
        let step = left.clamp(-1000, 1000);
        number *= 2f64.powi(step);
        left -= step;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_go_reads() {
        let table: [(&str, f64); 22] = [
            ("1.50", 1.5),
            ("1e3", 1000.0),
            ("-0.5", -0.5),
            ("+7", 7.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e999", f64::INFINITY),
            ("-1e999", f64::NEG_INFINITY),
            ("1e-999", 0.0),
            ("Infinity", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("1_000.5", 1000.5),
            ("1__0", 0.0),
            ("_1", 0.0),
            ("0x10p0", 16.0),
            ("0x1.8p1", 3.0),
            ("0x_1p-2", 0.25),
            ("0x10", 0.0),
            ("12abc", 0.0),
            ("", 0.0),
            ("e5", 0.0),
            ("--1", 0.0),
        ];
        for (text, want) in table {
            assert_eq!(parse(text.as_bytes()).to_bits(), want.to_bits(), "{text}");
        }
        assert!(parse(b"nan").is_nan());
    }

    #[test]
    fn prints_what_go_prints() {
        let table = [
            (1.5, "1.5", "1.5"),
            (1000.0, "1000", "1000"),
            (1e21, "1000000000000000000000", "1e+21"),
            (1.5e-7, "0.00000015", "1.5e-7"),
            (12_345_678_901_234_567_890.0, "12345678901234567000", "12345678901234567000"),
            (-0.0, "-0", "-0"),
        ];
        for (number, plain, encoded) in table {
            assert_eq!(decimal(number), plain);
            assert_eq!(json(number), encoded);
        }
    }
}
