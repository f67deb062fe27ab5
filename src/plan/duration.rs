//! Durations as Go's `time` package reads and prints them: `1h30m`, `-1.5s`, `100ms`.

use std::fmt::Write as _;

use jiff::SignedDuration;

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: write a number with a unit (ns, us, ms, s, m, h), for example \"1h30m\" or \"90s\"")]
pub struct InvalidDuration {
    text: String,
}

/// Reads a duration as Go's `time.ParseDuration` does: numbers with fractions and units, added up, after an optional sign;
/// `0` needs no unit. At most 2^63-1 nanoseconds, about 292 years.
///
/// # Errors
/// The text is something else.
pub fn parse(text: &str) -> Result<SignedDuration, InvalidDuration> {
    nanos(text).map(SignedDuration::from_nanos).ok_or_else(|| InvalidDuration { text: text.to_owned() })
}

fn nanos(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits == "0" {
        return Some(0);
    }
    let mut rest = Some(digits).filter(|digits| !digits.is_empty())?;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let part;
        (part, rest) = term(rest)?;
        total = total.checked_add(part).filter(|sum| *sum <= 1 << 63)?;
    }
    if negative { 0i64.checked_sub_unsigned(total) } else { i64::try_from(total).ok() }
}

/// One number with its unit, in nanoseconds, and what follows.
fn term(text: &str) -> Option<(u64, &str)> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let unit_end = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(unit_end);
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let in_range = |n: &u64| *n <= 1 << 63;
    let whole = if whole.is_empty() { 0 } else { whole.parse().ok().filter(in_range)? };
    let nanos = whole.checked_mul(unit).and_then(|n| n.checked_add(fraction_of(fraction, unit))).filter(in_range)?;
    Some((nanos, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The fraction of a unit, cut to whole nanoseconds. Digits that no longer fit 63 bits are dropped, and the arithmetic is that of
/// doubles, as in Go.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Go's arithmetic
fn fraction_of(digits: &str, unit: u64) -> u64 {
    let mut value: u64 = 0;
    let mut scale = 1.0;
    for digit in digits.bytes().map(|b| u64::from(b - b'0')) {
        match value.checked_mul(10).and_then(|v| v.checked_add(digit)) {
            Some(next) if value <= (i64::MAX as u64) / 10 && next <= 1 << 63 => value = next,
            _ => break,
        }
        scale *= 10.0;
    }
    (value as f64 * (unit as f64 / scale)) as u64
}

/// Prints a duration as Go's `Duration.String` does: `1h30m0s`, `1.5ms`, `0s`.
#[must_use]
pub fn format(duration: SignedDuration) -> String {
    let nanos = duration.as_nanos().unsigned_abs();
    let mut out = String::new();
    if duration.is_negative() {
        out.push('-');
    }
    let (value, unit, name) = match nanos {
        0 => return "0s".to_owned(),
        1..1_000 => (nanos, 1, "ns"),
        1_000..1_000_000 => (nanos, 1_000, "µs"),
        1_000_000..1_000_000_000 => (nanos, 1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            if minutes >= 60 {
                let _ = write!(out, "{}h", minutes / 60);
            }
            if minutes > 0 {
                let _ = write!(out, "{}m", minutes % 60);
            }
            (nanos % 60_000_000_000, 1_000_000_000, "s")
        }
    };
    let _ = write!(out, "{}", value / unit);
    let fraction = value % unit;
    if fraction > 0 {
        let width = unit.ilog10() as usize;
        let digits = format!("{fraction:0width$}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
    out.push_str(name);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_prints() {
        for (text, nanos, printed) in [
            ("0", 0, "0s"),
            ("15m", 900_000_000_000, "15m0s"),
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("-1.5ms", -1_500_000, "-1.5ms"),
            (".5s", 500_000_000, "500ms"),
            ("1m0.5s", 60_500_000_000, "1m0.5s"),
            // found by fuzzing: the digits of the fraction are one more than 64 bits hold
            ("2.18446744073709551616s", 2_184_467_440, "2.18446744s"),
        ] {
            let duration = parse(text).unwrap();
            assert_eq!((duration.as_nanos(), format(duration).as_str()), (nanos, printed), "{text}");
        }
    }

    #[test]
    fn says_what_a_duration_looks_like() {
        let error = parse("soon").unwrap_err().to_string();
        assert!(error.starts_with("\"soon\" is not a duration") && error.contains("1h30m"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(nanos: i64) {
            let duration = SignedDuration::from_nanos(nanos);
            // Beyond 2^53 the fraction goes through a double, in Go as here.
            let lost = parse(&format(duration)).unwrap().as_nanos().abs_diff(duration.as_nanos());
            prop_assert!(lost <= 1);
        }

        #[test]
        fn never_panics(text in "[-+.0-9hmsnuµ ]{0,40}") {
            let _ = parse(&text);
        }
    }
}
