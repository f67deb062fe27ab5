//! `strconv.FormatFloat` and `ParseFloat`.

use crate::render::number;

/// A number as `ParseFloat` reads it; none where it would be an error, and none where it is too large.
pub(crate) fn parse(text: &[u8]) -> Option<f64> {
    let value = number::parse(text);
    let unsigned = text.strip_prefix(b"-").or_else(|| text.strip_prefix(b"+")).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if value.is_nan() || matches!(lower.as_slice(), b"inf" | b"infinity") {
        return Some(value);
    }
    if value.is_infinite() {
        return None;
    }
    if value != 0.0 {
        return Some(value);
    }
    // The reader says zero for what is none.
    zero_is_written(&lower).then_some(value)
}

/// Whether a text that was read as zero is a number at all: a very small one, or zero.
fn zero_is_written(lower: &[u8]) -> bool {
    if lower.starts_with(b"0x") {
        let mantissa = lower[2..].split(|b| *b == b'p').next().unwrap_or_default();
        return lower.contains(&b'p')
            && mantissa.iter().all(|b| matches!(b, b'0' | b'.' | b'_'))
            && mantissa.contains(&b'0');
    }
    // Underscores are only taken together with a prefix.
    std::str::from_utf8(lower)
        .is_ok_and(|text| text.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.parse::<f64>().is_ok())
}

/// As `fmt` prints it for `%v`: the fewest digits that read back, with exponent from 1e6 on, unless the digits need none.
pub(crate) fn shortest(value: f64) -> String {
    format(value, 'g', None)
}

/// The same for a number of 32 bits.
pub(crate) fn shortest32(value: f32) -> String {
    // The shortest digits of the small number are those that read back as it; as a large number they print as they are.
    value.to_string().parse().map_or_else(|_| value.to_string(), shortest)
}

/// More decimals, or digits, than any number of 64 bits has.
const MOST_DECIMALS: usize = 1100;

/// As `FormatFloat` does with formats `e`, `f`, `g` (and capitals); without precision, the fewest digits that read back.
pub(crate) fn format(value: f64, kind: char, precision: Option<usize>) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    // `format!` takes no precision beyond 65,535
    let shown = precision.map(|precision| precision.min(MOST_DECIMALS));
    let more = "0".repeat(precision.unwrap_or(0).saturating_sub(MOST_DECIMALS));
    let text = match kind.to_ascii_lowercase() {
        'x' => hexadecimal(value, precision),
        'b' => binary(value),
        'e' => exponent(value, shown).replacen('e', &format!("{more}e"), 1),
        'f' => match shown {
            Some(precision) => format!("{value:.precision$}{more}"),
            None => value.to_string(),
        },
        _ => general(value, shown),
    };
    if kind.is_ascii_uppercase() { text.to_uppercase() } else { text }
}

/// Sign, mantissa and exponent of two: `mantissa * 2^exponent`.
fn parts(value: f64) -> (&'static str, u64, i32) {
    let bits = value.to_bits();
    let (mantissa, exponent) = (bits & ((1 << 52) - 1), i32::try_from(bits >> 52 & 0x7ff).unwrap_or(0));
    let sign = if value.is_sign_negative() { "-" } else { "" };
    if exponent == 0 { (sign, mantissa, -1074) } else { (sign, mantissa | 1 << 52, exponent - 1075) }
}

/// `4503599627370496p-52`.
fn binary(value: f64) -> String {
    let (sign, mantissa, exponent) = parts(value);
    format!("{sign}{mantissa}p{exponent:+}")
}

/// `0x1.8p+00`.
fn hexadecimal(value: f64, precision: Option<usize>) -> String {
    let (sign, mut mantissa, mut exponent) = parts(value);
    if mantissa == 0 {
        exponent = 0;
    } else {
        // One digit before the point, fifteen behind it.
        let shift = mantissa.leading_zeros() - 3;
        mantissa <<= shift;
        exponent = exponent + 60 - i32::try_from(shift).unwrap_or(0);
    }
    if let Some(digits) = precision.filter(|digits| *digits < 15) {
        let cut = 4 * (15 - u32::try_from(digits).unwrap_or(0));
        let rest = mantissa & ((1 << cut) - 1);
        let half = 1 << (cut - 1);
        mantissa >>= cut;
        if rest > half || (rest == half && mantissa & 1 == 1) {
            mantissa += 1;
        }
        mantissa <<= cut;
        if mantissa & (1 << 61) != 0 {
            mantissa >>= 1;
            exponent += 1;
        }
    }
    let digits = format!("{:015x}", mantissa & ((1 << 60) - 1));
    let shown = match precision {
        None => digits.trim_end_matches('0').to_owned(),
        Some(precision) => digits[..precision.min(15)].to_owned() + &"0".repeat(precision.saturating_sub(15)),
    };
    let point = if shown.is_empty() { "" } else { "." };
    format!("{sign}0x{}{point}{shown}p{}{:02}", mantissa >> 60, if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// Rust writes `1e6`, Go `1e+06`.
fn exponent(value: f64, precision: Option<usize>) -> String {
    let text = match precision {
        Some(precision) => format!("{value:.precision$e}"),
        None => format!("{value:e}"),
    };
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let number: i32 = exponent.parse().unwrap_or_default();
    format!("{digits}e{}{:02}", if number < 0 { '-' } else { '+' }, number.abs())
}

fn general(value: f64, precision: Option<usize>) -> String {
    let significant = precision.map(|p| p.max(1));
    let scientific = exponent(value, significant.map(|p| p - 1));
    let (digits, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i32 = power.parse().unwrap_or_default();
    let shown = digits.bytes().filter(u8::is_ascii_digit).count();
    let limit = match significant {
        None => 6,
        // Digits that a precision asks for in vain do not count.
        Some(precision) => {
            let used = digits.trim_end_matches('0').bytes().filter(u8::is_ascii_digit).count();
            let limit = if precision > used && i32::try_from(used).unwrap_or(i32::MAX) > power { used } else { precision };
            i32::try_from(limit).unwrap_or(i32::MAX)
        }
    };
    if value != 0.0 && (power < -4 || power >= limit) {
        let digits = if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits };
        return format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs());
    }
    match significant {
        None => value.to_string(),
        Some(_) => {
            let decimals = usize::try_from(i32::try_from(shown).unwrap_or(i32::MAX) - 1 - power).unwrap_or(0);
            let text = format!("{value:.decimals$}");
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        }
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp)]
mod tests {
    use super::*;

    #[test]
    fn shortest_is_go_s_v() {
        for (value, want) in [
            (1e6, "1e+06"),
            (1.0, "1"),
            (100_000_000.0, "1e+08"),
            (1e20, "1e+20"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-7, "1e-07"),
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (123_456_789.0, "1.23456789e+08"),
            (-0.0, "-0"),
            (1e21, "1e+21"),
        ] {
            assert_eq!(shortest(value), want);
        }
    }

    #[test]
    fn formats() {
        assert_eq!(format(3.14259, 'f', Some(2)), "3.14");
        assert_eq!(format(12345.678, 'e', Some(6)), "1.234568e+04");
        assert_eq!(format(0.5, 'g', None), "0.5");
        assert_eq!(format(1_234_567.0, 'g', Some(3)), "1.23e+06");
        assert_eq!(format(100.0, 'g', Some(5)), "100");
    }

    #[test]
    fn reads_what_go_reads() {
        for (text, want) in [
            ("1.5", 1.5),
            ("1e3", 1000.0),
            ("0", 0.0),
            ("-0.0", 0.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("0x1p4", 16.0),
            ("1e-999", 0.0),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(want), "{text}");
        }
        for text in ["", "abc", "1e999", " 1", "1 ", "0x", "e5", ".", "0x0"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert!(parse(b"nan").is_some_and(f64::is_nan));
    }

    #[test]
    fn more_decimals_than_rust_prints() {
        assert_eq!(format(1.5, 'f', Some(70_000)), format!("1.5{}", "0".repeat(69_999)));
        assert_eq!(format(1.5, 'e', Some(70_000)), format!("1.5{}e+00", "0".repeat(69_999)));
        assert_eq!(format(1.5, 'g', Some(70_000)), "1.5");
        assert_eq!(format(1.5, 'x', Some(70_000)), format!("0x1.8{}p+00", "0".repeat(69_999)));
    }
}
