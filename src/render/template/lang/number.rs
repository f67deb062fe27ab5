//! Constants that are numbers.

use crate::render::template::go::{float, int};

/// A number constant and all that it can be taken for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Number {
    pub(crate) text: String,
    pub(crate) int: Option<i64>,
    pub(crate) unsigned: Option<u64>,
    pub(crate) float: Option<f64>,
    pub(crate) complex: Option<(f64, f64)>,
}

impl Number {
    /// From a character constant.
    pub(crate) fn rune(text: String, code: i64) -> Self {
        #[allow(clippy::cast_precision_loss)]
        let float = Some(code as f64);
        Self { text, int: Some(code), unsigned: u64::try_from(code).ok(), float, complex: None }
    }

    /// From a number that is written out. What is wrong with it otherwise.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut number = Self { text: text.to_owned(), ..Self::default() };
        if let Some(body) = text.strip_suffix('i') {
            number.complex = complex(body);
            return if number.complex.is_some() { Ok(number) } else { Err(illegal(text)) };
        }
        number.unsigned = int::parse_unsigned(text.as_bytes());
        number.int = int::parse(text.as_bytes(), 0).ok();
        if number.int == Some(0) {
            number.unsigned = Some(0);
        }
        number.float = number.int.map(|n| n as f64).or(number.unsigned.map(|n| n as f64));
        if number.float.is_none() {
            let float = float::parse(text.as_bytes()).ok_or_else(|| illegal(text))?;
            if !text.contains(['.', 'e', 'E', 'p', 'P']) {
                return Err(format!("integer overflow: {text:?}"));
            }
            number.float = Some(float);
            let whole = float as i64;
            if whole as f64 == float && whole != i64::MAX {
                number.int = Some(whole);
            }
        }
        Ok(number)
    }

    /// Whether it is a decimal number where nothing else says what it should be.
    pub(crate) fn is_decimal(&self) -> bool {
        let text = self.text.as_bytes();
        let hex = matches!(text, [b'0', b'x' | b'X', _, ..]) && !self.text.contains(['p', 'P']);
        !hex && !self.text.starts_with('\'') && self.text.contains(['.', 'e', 'E', 'p', 'P'])
    }
}

fn illegal(text: &str) -> String {
    format!("illegal number syntax: {text:?}")
}

/// `1+2i` or `2i`, without the `i`.
fn complex(body: &str) -> Option<(f64, f64)> {
    let split = body.char_indices().skip(1).filter(|(at, c)| {
        let before = body[..*at].chars().next_back().unwrap_or_default();
        let in_exponent = matches!(before, 'e' | 'E') && !body.starts_with("0x");
        matches!(c, '+' | '-') && !in_exponent
    });
    match split.map(|(at, _)| at).next() {
        Some(at) => Some((float::parse(&body.as_bytes()[..at])?, float::parse(&body.as_bytes()[at..])?)),
        None => Some((0.0, float::parse(body.as_bytes())?)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let of = |text: &str| Number::parse(text).unwrap();
        assert_eq!((of("0x1F").int, of("1_000").int, of("-0").unsigned), (Some(31), Some(1000), Some(0)));
        assert_eq!((of("1.0").int, of("1.5").int, of("1e3").float), (Some(1), None, Some(1000.0)));
        assert!(of("1.0").is_decimal() && !of("0x1e").is_decimal() && !of("7").is_decimal());
        assert_eq!(
            (of("1i").complex, of("1+2i").complex, of("1e+2i").complex),
            (Some((0.0, 1.0)), Some((1.0, 2.0)), Some((0.0, 100.0)))
        );
        assert_eq!((of("18446744073709551615").int, of("18446744073709551615").unsigned), (None, Some(u64::MAX)));
        assert!(Number::parse("99999999999999999999").is_err() && Number::parse("08").is_err());
    }
}
