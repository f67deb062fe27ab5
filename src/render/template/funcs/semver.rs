//! Semantic versions and constraints, as Masterminds/semver v3 takes them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::OnceLock;

use regex::{Captures, Regex};

use super::Type::Str;
use super::{Function, fixed, text};
use crate::render::template::context::Fault;
use crate::render::template::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("semver", &[Str], |_, args| Ok(Value::Version(std::rc::Rc::new(Version::parse(text(args, 0))?)))),
    fixed("semverCompare", &[Str, Str], |_, args| {
        let constraint = utf8(text(args, 0))?;
        if constraint.len() > MAX_CONSTRAINT {
            return Err(format!("a constraint is longer than {MAX_CONSTRAINT} bytes"));
        }
        let all = with_ranges(constraint);
        if all.split("||").count() > MAX_GROUPS {
            return Err(format!("a constraint has more than {MAX_GROUPS} alternatives"));
        }
        let groups: Result<Vec<Vec<Constraint>>, Fault> = all.split("||").map(constraints).collect();
        let (groups, version) = (groups?, Version::parse(text(args, 1))?);
        Ok(Value::Bool(groups.iter().any(|group| {
            // Pre-releases only where the alternative names one.
            let pre = group.iter().any(|constraint| !constraint.version.pre.is_empty());
            (pre || version.pre.is_empty()) && group.iter().all(|constraint| constraint.holds(&version))
        })))
    }),
];

/// Longest constraint, most alternatives of one, and longest version: as in Go.
const MAX_CONSTRAINT: usize = 512;
const MAX_GROUPS: usize = 32;
const MAX_VERSION: usize = 256;

/// A version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) major: u64,
    pub(crate) minor: u64,
    pub(crate) patch: u64,
    pub(crate) pre: String,
    pub(crate) metadata: String,
    pub(crate) original: String,
}

/// Pre-release and metadata, as both grammars have them.
const SUFFIX: &str = r"(-([0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*))?(\+([0-9A-Za-z\-]+(?:\.[0-9A-Za-z\-]+)*))?";

const OPERATORS: &str = r"=||!=|>|<|>=|=>|<=|=<|~|~>|\^";

/// An expression that is known to be valid.
fn regex(cell: &'static OnceLock<Option<Regex>>, source: &str) -> Option<&'static Regex> {
    cell.get_or_init(|| Regex::new(source).ok()).as_ref()
}

fn constraint_version() -> String {
    format!(r"v?([0-9|xX*]+)(\.[0-9|xX*]+)?(\.[0-9|xX*]+)?{SUFFIX}")
}

fn utf8(text: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(text).map_err(|_| "not a version".to_owned())
}

fn part<'t>(captures: &Captures<'t>, index: usize) -> &'t str {
    captures.get(index).map_or("", |found| found.as_str())
}

impl Version {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Fault> {
        static VERSION: OnceLock<Option<Regex>> = OnceLock::new();
        let text = utf8(text).map(|text| if text.len() > MAX_VERSION { "" } else { text })?;
        let regex = regex(&VERSION, &format!(r"^v?([0-9]+)(\.[0-9]+)?(\.[0-9]+)?{SUFFIX}$"));
        let found = regex.and_then(|regex| regex.captures(text)).ok_or("Invalid Semantic Version")?;
        let number = |index| match part(&found, index).trim_start_matches('.') {
            "" => Ok(0),
            digits => digits.parse().map_err(|_| "a part of the version is too large".to_owned()),
        };
        let pre = part(&found, 5);
        let zero_first = |part: &str| part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit());
        if pre.split('.').any(zero_first) {
            return Err("Version segment starts with 0".into());
        }
        Ok(Self {
            major: number(1)?,
            minor: number(2)?,
            patch: number(3)?,
            pre: pre.to_owned(),
            metadata: part(&found, 7).to_owned(),
            original: text.to_owned(),
        })
    }

    /// Precedence: metadata does not count.
    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let numbers = |v: &Self| (v.major, v.minor, v.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => compare_pre(&self.pre, &other.pre),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if self.metadata.is_empty() { Ok(()) } else { write!(f, "+{}", self.metadata) }
    }
}

fn compare_pre(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.split('.').collect(), b.split('.').collect());
    let at = |parts: &[&str], i: usize| parts.get(i).copied().unwrap_or("").to_owned();
    let pairs = (0..a.len().max(b.len())).map(|i| compare_part(&at(&a, i), &at(&b, i)));
    pairs.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// Numbers come before words, nothing before both.
fn compare_part(a: &str, b: &str) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    let number = |part: &str| part.parse::<u64>().ok().filter(|_| !part.starts_with('+'));
    match (a.is_empty(), b.is_empty(), number(a), number(b)) {
        (true, ..) => Ordering::Less,
        (_, true, ..) => Ordering::Greater,
        (_, _, None, None) => a.cmp(b),
        (_, _, Some(_), None) => Ordering::Less,
        (_, _, None, Some(_)) => Ordering::Greater,
        (_, _, Some(a), Some(b)) => {
            if a > b {
                Ordering::Greater
            } else {
                Ordering::Less
            }
        }
    }
}

/// `1.2 - 3.4` becomes two constraints.
fn with_ranges(text: &str) -> String {
    static RANGE: OnceLock<Option<Regex>> = OnceLock::new();
    let version = constraint_version();
    let Some(regex) = regex(&RANGE, &format!(r"\s*({version})\s+-\s+({version})\s*")) else { return text.to_owned() };
    let mut out = text.to_owned();
    for found in regex.captures_iter(text) {
        out = out.replacen(part(&found, 0), &format!(">= {}, <= {} ", part(&found, 1), part(&found, 9)), 1);
    }
    out
}

/// Constraints that must all hold.
fn constraints(text: &str) -> Result<Vec<Constraint>, Fault> {
    static VALID: OnceLock<Option<Regex>> = OnceLock::new();
    static EACH: OnceLock<Option<Regex>> = OnceLock::new();
    let version = constraint_version();
    let valid = format!(r"^(\s*({OPERATORS})\s*({version})\s*)((?:\s+|,\s*)({OPERATORS})\s*({version})\s*)*$");
    if !regex(&VALID, &valid).is_some_and(|regex| regex.is_match(text)) {
        return Err("improper constraint".into());
    }
    let each = regex(&EACH, &format!(r"({OPERATORS})\s*({version})"));
    let found = each.into_iter().flat_map(|regex| regex.captures_iter(text)).map(|found| Constraint::new(&found));
    found.collect()
}

/// One constraint.
struct Constraint {
    operator: String,
    version: Version,
    /// Something was left out, or is `x`.
    dirty: bool,
    minor_dirty: bool,
    patch_dirty: bool,
}

impl Constraint {
    fn new(found: &Captures<'_>) -> Result<Self, Fault> {
        let wild = |text: &str| matches!(text.trim_start_matches('.'), "" | "x" | "X" | "*");
        let (major, minor, patch, pre) = (part(found, 3), part(found, 4), part(found, 5), part(found, 6));
        let (text, dirty, minor_dirty, patch_dirty) = if wild(major) {
            (format!("0.0.0{pre}"), true, false, false)
        } else if wild(minor) {
            (format!("{major}.0.0{pre}"), true, true, false)
        } else if wild(patch) {
            (format!("{major}{minor}.0{pre}"), true, false, true)
        } else {
            (part(found, 2).to_owned(), false, false, false)
        };
        let version = Version::parse(text.as_bytes()).map_err(|_| "constraint parser error")?;
        Ok(Self { operator: part(found, 1).to_owned(), version, dirty, minor_dirty, patch_dirty })
    }

    fn holds(&self, v: &Version) -> bool {
        let c = &self.version;
        let order = v.compare(c);
        if self.operator == "!=" {
            return self.differs(v, order);
        }
        match self.operator.as_str() {
            ">" if !self.dirty || v.major != c.major => order.is_gt() && (v.major >= c.major),
            ">" if self.minor_dirty => false,
            ">" if self.patch_dirty => v.minor > c.minor,
            ">" => order.is_gt(),
            "<" => order.is_lt(),
            ">=" | "=>" => order.is_ge(),
            "<=" | "=<" if !self.dirty => order.is_le(),
            "<=" | "=<" => v.major < c.major || (v.major == c.major && (v.minor <= c.minor || self.minor_dirty)),
            "~" | "~>" => self.tilde(v, order),
            "^" => self.caret(v, order),
            _ if self.dirty => self.tilde(v, order),
            _ => order.is_eq(),
        }
    }

    fn differs(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if !self.dirty {
            return order.is_ne();
        }
        if v.major != c.major || (v.minor != c.minor && !self.minor_dirty) {
            return true;
        }
        if self.minor_dirty {
            return false;
        }
        if v.patch != c.patch && !self.patch_dirty {
            return true;
        }
        if self.patch_dirty {
            return (!v.pre.is_empty() || !c.pre.is_empty()) && compare_pre(&v.pre, &c.pre).is_ne();
        }
        order.is_ne()
    }

    fn tilde(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if order.is_lt() {
            return false;
        }
        if (c.major, c.minor, c.patch) == (0, 0, 0) && !self.minor_dirty && !self.patch_dirty {
            return true;
        }
        v.major == c.major && (v.minor == c.minor || self.minor_dirty)
    }

    fn caret(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if order.is_lt() {
            return false;
        }
        if c.major > 0 || self.minor_dirty {
            return v.major == c.major;
        }
        if v.major > 0 {
            return false;
        }
        if c.minor > 0 || self.patch_dirty {
            return v.minor == c.minor;
        }
        v.minor == 0 && v.patch == c.patch
    }
}
