//! Flag values in the forms that Go's flag library takes, as ESO's users write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::Arg;

/// Name of the value of a boolean flag.
pub const SWITCH: &str = "BOOL";

/// Makes a bare `--flag` mean `--flag=true` where a flag is a boolean, as in Go.
#[must_use]
pub fn switch(arg: Arg) -> Arg {
    if arg.get_value_names().is_some_and(|names| names == [SWITCH]) {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    }
}

/// A boolean in one of Go's spellings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoBool(pub bool);

impl FromStr for GoBool {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Self(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Self(false)),
            _ => Err("give true or false".into()),
        }
    }
}

/// A length of time as Go writes it: `1h30m`, `15s`, `500ms`. Never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoDuration(pub Duration);

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // kube's parser takes the empty text, and panics on a number that overflows: this length cannot.
        const LONGEST: usize = 15;
        let parsed = if text.is_empty() || text.len() > LONGEST { None } else { kube::core::Duration::from_str(text).ok() };
        match parsed {
            None => Err("give a duration such as 90s, 5m or 1h30m".into()),
            Some(d) if d.is_negative() && !Duration::from(d).is_zero() => Err("a duration cannot be negative".into()),
            Some(d) => Ok(Self(d.into())),
        }
    }
}

/// A length of time above zero: a deadline or a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period(pub Duration);

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<GoDuration>()?.0 {
            d if d.is_zero() => Err("must be longer than 0s".into()),
            d => Ok(Self(d)),
        }
    }
}

/// A number of bytes, as a Kubernetes quantity writes it: `65536`, `512Ki`, `16Mi`, `1G`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub usize);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const UNITS: [(&str, usize); 6] =
            [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];
        let (digits, unit) =
            UNITS.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit))).unwrap_or((text, 1));
        let size = digits.parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).filter(|n| *n > 0);
        size.map(Self).ok_or_else(|| "give a number of bytes above 0 such as 65536, 512Ki or 16Mi".into())
    }
}

/// A list of namespaces, by commas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces(pub Vec<String>);

impl FromStr for Namespaces {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut names: Vec<String> = Vec::new();
        for name in text.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            if !names.iter().any(|n| n == name) {
                names.push(checked_namespace(name)?);
            }
        }
        // what is empty stands for all namespaces: nobody means these by a list that fell apart
        if names.is_empty() && !text.is_empty() {
            return Err(format!("{text:?} names no namespace: give names by commas, or no text at all for all namespaces"));
        }
        Ok(Self(names))
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// One namespace; the empty text is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace(pub Option<String>);

impl FromStr for Namespace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        checked_namespace(text).map(|n| Self(Some(n)))
    }
}

/// The API server's own rule for a namespace's name (RFC 1123 label).
fn checked_namespace(name: &str) -> Result<String, String> {
    if name.len() <= 63 && is_label(name) {
        return Ok(name.to_owned());
    }
    Err(format!("{name:?} is no namespace name: use at most 63 of a-z, 0-9 and '-', with a letter or digit at both ends"))
}

/// Whether a text is made as a label of a DNS name is.
fn is_label(text: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    inner && edge(bytes.first()) && edge(bytes.last())
}

/// Name of the Lease, by the API server's own rule (RFC 1123 subdomain): under another, nobody would ever be elected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseName(pub String);

impl FromStr for LeaseName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() <= 253 && text.split('.').all(is_label) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} cannot be the name of a Lease: use at most 253 of a-z, 0-9, '-' and '.', with a letter or digit at both ends and \
             on both sides of each '.'"
        ))
    }
}

/// The form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn go_spellings_of_a_boolean() {
        for yes in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(yes.parse(), Ok(GoBool(true)), "{yes}");
        }
        for no in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(no.parse(), Ok(GoBool(false)), "{no}");
        }
        for bad in ["", "yes", "tRUE", "2", " true"] {
            assert!(bad.parse::<GoBool>().is_err(), "{bad}");
        }
    }

    #[test]
    fn go_durations() {
        for (text, millis) in
            [("0", 0), ("0s", 0), ("-0s", 0), ("15s", 15_000), ("1h30m", 5_400_000), ("1.5s", 1_500), ("5ms", 5)]
        {
            assert_eq!(text.parse(), Ok(GoDuration(Duration::from_millis(millis))), "{text}");
        }
        for bad in ["", "soon", "5", "1d", "-5s", "s", "9999999999999999999h"] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
        assert!("0s".parse::<Period>().is_err());
        assert_eq!("2m".parse(), Ok(Period(Duration::from_secs(120))));
    }

    #[test]
    fn byte_sizes() {
        for (text, bytes) in [("1", 1), ("64Ki", 65_536), ("16Mi", 16 << 20), ("2k", 2_000), ("1Gi", 1 << 30)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "0", "Ki", "-1", "1.5Mi", "1Ti", "99999999999999999999Gi"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn namespaces() {
        assert_eq!("".parse(), Ok(Namespaces::default()));
        assert_eq!("a, b,,a".parse(), Ok(Namespaces(vec!["a".into(), "b".into()])));
        assert_eq!("team-1".parse(), Ok(Namespace(Some("team-1".into()))));
        assert_eq!("".parse(), Ok(Namespace(None)));
        for bad in ["A", "-a", "a-", "a.b", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<Namespaces>().unwrap_err().contains(bad), "{bad}");
            assert!(bad.parse::<Namespace>().is_err(), "{bad}");
        }
        for none in [",", " ", " , ,"] {
            let error = none.parse::<Namespaces>().unwrap_err();
            assert!(error.contains("names no namespace"), "{none:?} is not all namespaces: {error}");
        }
    }

    #[test]
    fn names_of_leases() {
        for good in ["a", "external-secrets-controller", "a.b-1.c", "7", &"x".repeat(253)] {
            assert_eq!(good.parse(), Ok(LeaseName(good.into())), "{good}");
        }
        for bad in ["", "A_B", "a b", "-a", "a-", "a.", ".a", "a..b", "a.-b", "a/b", &"x".repeat(254)] {
            assert!(bad.parse::<LeaseName>().unwrap_err().contains("cannot be the name of a Lease"), "{bad}");
        }
    }
}
