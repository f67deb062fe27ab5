//! How `fmt` prints one value for one verb.

use super::{float, quote, runes};
use crate::render::template::context::{Context, Fault};
use crate::render::template::funcs::time;
use crate::render::template::value::{Elem, Value, Whole};

/// Most levels of lists and maps that are printed.
pub(crate) const MAX_DEPTH: usize = 100;

/// The flags of a verb.
#[derive(Clone, Copy, Default)]
pub(crate) struct Flags {
    pub(crate) plus: bool,
    pub(crate) minus: bool,
    pub(crate) sharp: bool,
    pub(crate) space: bool,
    pub(crate) zero: bool,
    /// `%#v`: as Go source.
    pub(crate) source: bool,
    /// `%+v`: with names of fields.
    pub(crate) names: bool,
    pub(crate) width: Option<usize>,
    pub(crate) precision: Option<usize>,
}

/// Prints into a buffer.
pub(crate) struct Printer<'c> {
    pub(crate) cx: &'c Context<'c>,
    pub(crate) out: Vec<u8>,
    pub(crate) flags: Flags,
    /// Inside `%!d(…)`, where values print themselves without their methods.
    erroring: bool,
}

type Printed = Result<(), Fault>;

/// As `%v`.
pub(crate) fn value(cx: &Context<'_>, value: &Value) -> Result<Vec<u8>, Fault> {
    if let Value::Str(text) = value {
        cx.reserve(text.bytes().len())?;
        return Ok(text.bytes().to_vec());
    }
    let mut printer = Printer::new(cx);
    printer.arg(value, 'v')?;
    printer.done()
}

/// As `fmt.Sprint`: a space between operands of which neither is a string.
pub(crate) fn all(cx: &Context<'_>, values: &[Value]) -> Result<Vec<u8>, Fault> {
    let mut printer = Printer::new(cx);
    let mut after_text = false;
    for (i, value) in values.iter().enumerate() {
        let is_text = matches!(value, Value::Str(_));
        if i > 0 && !is_text && !after_text {
            printer.out.push(b' ');
        }
        printer.arg(value, 'v')?;
        after_text = is_text;
    }
    printer.done()
}

/// As `fmt.Sprintln`.
pub(crate) fn line(cx: &Context<'_>, values: &[Value]) -> Result<Vec<u8>, Fault> {
    let mut printer = Printer::new(cx);
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            printer.out.push(b' ');
        }
        printer.arg(value, 'v')?;
    }
    printer.out.push(b'\n');
    printer.done()
}

impl<'c> Printer<'c> {
    pub(crate) fn new(cx: &'c Context<'c>) -> Self {
        Self { cx, out: Vec::new(), flags: Flags::default(), erroring: false }
    }

    pub(crate) fn done(self) -> Result<Vec<u8>, Fault> {
        self.cx.reserve(self.out.len())?;
        Ok(self.out)
    }

    fn text(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// One operand.
    pub(crate) fn arg(&mut self, value: &Value, verb: char) -> Printed {
        self.check()?;
        match (value, verb) {
            (Value::Nil, 'v' | 'T') => {
                self.pad(b"<nil>");
                Ok(())
            }
            (Value::Nil, _) => self.bad_verb(value, verb),
            (_, 'T') => {
                self.string(value.type_name().as_bytes());
                Ok(())
            }
            (Value::List(_) | Value::Map(_) | Value::Version(_), 'p') => {
                self.text("0xc000000000");
                Ok(())
            }
            (_, 'p') => self.bad_verb(value, verb),
            _ => self.value(value, verb, 0),
        }
    }

    fn check(&self) -> Printed {
        self.cx.step(1)?;
        if self.out.len() > self.cx.limits.value {
            return Err(format!("a value would be longer than {} bytes as text", self.cx.limits.value));
        }
        Ok(())
    }

    fn value(&mut self, value: &Value, verb: char, depth: usize) -> Printed {
        self.check()?;
        if depth > MAX_DEPTH {
            return Err(format!("a value is nested more than {MAX_DEPTH} deep, or holds itself"));
        }
        if matches!(verb, 'v' | 's' | 'x' | 'X' | 'q')
            && !self.erroring
            && !self.flags.source
            && let Some(text) = own_text(value)
        {
            return self.string_verb(text.as_bytes(), value, verb);
        }
        match value {
            Value::Nil => self.text("<nil>"),
            Value::Bool(truth) if matches!(verb, 't' | 'v') => self.pad(truth.to_string().as_bytes()),
            Value::Whole(whole, number) => return self.whole(*whole, *number, value, verb),
            Value::Float(number) => return self.float(*number, value, verb),
            Value::Complex(re, im) => return self.complex(*re, *im, value, verb),
            Value::Str(text) => return self.string_verb(text.bytes(), value, verb),
            Value::List(list) => {
                let (open, close) = if self.flags.source { ("{", "}") } else { ("[", "]") };
                if self.flags.source {
                    self.text(&value.type_name());
                    if list.items.is_none() {
                        self.text("(nil)");
                        return Ok(());
                    }
                }
                self.text(open);
                for (i, item) in list.items().iter().enumerate() {
                    self.separate(i);
                    self.element(item, list.of, verb, depth)?;
                }
                self.text(close);
            }
            Value::Map(map) => {
                self.text(&if self.flags.source { format!("{}{{", value.type_name()) } else { "map[".to_owned() });
                let _room = self.cx.room(map)?;
                for (i, (key, item)) in map.snapshot().iter().enumerate() {
                    self.separate(i);
                    self.string_verb(key.bytes(), &Value::Str(key.clone()), verb)?;
                    self.text(":");
                    self.element(item, map.of, verb, depth)?;
                }
                self.text(if self.flags.source { "}" } else { "]" });
            }
            Value::Certificate(pair) => {
                self.text(if self.flags.source { "sprig.certificate{" } else { "{" });
                for (i, (name, part)) in [("Cert", &pair.cert), ("Key", &pair.key)].into_iter().enumerate() {
                    self.separate(i);
                    if self.flags.names || self.flags.source {
                        self.text(name);
                        self.text(":");
                    }
                    self.string_verb(part.bytes(), &Value::Str(part.clone()), verb)?;
                }
                self.text("}");
            }
            Value::Bool(_) | Value::Time(_) | Value::Version(_) => return self.bad_verb(value, verb),
        }
        Ok(())
    }

    fn separate(&mut self, index: usize) {
        if index > 0 {
            self.text(if self.flags.source { ", " } else { " " });
        }
    }

    /// An element; nil shows its type in Go source.
    fn element(&mut self, item: &Value, of: Elem, verb: char, depth: usize) -> Printed {
        if matches!(item, Value::Nil) && self.flags.source {
            self.text(of.type_name());
            self.text("(nil)");
            return Ok(());
        }
        self.value(item, verb, depth + 1)
    }

    fn bad_verb(&mut self, value: &Value, verb: char) -> Printed {
        self.erroring = true;
        self.text("%!");
        runes::push(&mut self.out, verb);
        self.text("(");
        match value {
            Value::Nil => self.text("<nil>"),
            Value::Time(_) | Value::Version(_) => {
                self.text(&value.type_name());
                self.text("=");
                self.text(&own_text(value).unwrap_or_default());
            }
            _ => {
                self.text(&value.type_name());
                self.text("=");
                self.value(value, 'v', 0)?;
            }
        }
        self.text(")");
        self.erroring = false;
        Ok(())
    }

    fn padding(&mut self, count: usize) {
        let byte = if self.flags.zero && !self.flags.minus { b'0' } else { b' ' };
        self.out.resize(self.out.len() + count, byte);
    }

    fn pad(&mut self, text: &[u8]) {
        let missing = self.flags.width.unwrap_or(0).saturating_sub(runes::count(text));
        if !self.flags.minus {
            self.padding(missing);
        }
        self.out.extend_from_slice(text);
        if self.flags.minus {
            self.padding(missing);
        }
    }

    fn pad_with_spaces(&mut self, text: &[u8]) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(text);
        self.flags.zero = zero;
    }

    fn string(&mut self, text: &[u8]) {
        let text = self.truncated(text);
        self.pad(text);
    }

    fn truncated<'t>(&self, text: &'t [u8]) -> &'t [u8] {
        let cut = self.flags.precision.and_then(|precision| runes::runes(text).nth(precision));
        cut.map_or(text, |(at, _, _)| &text[..at])
    }

    fn string_verb(&mut self, text: &[u8], value: &Value, verb: char) -> Printed {
        match verb {
            'v' if self.flags.source => self.quoted(text),
            'v' | 's' => self.string(text),
            'q' => self.quoted(text),
            'x' | 'X' => self.hexadecimal(text, verb == 'X'),
            _ => return self.bad_verb(value, verb),
        }
        Ok(())
    }

    fn quoted(&mut self, text: &[u8]) {
        let text = self.truncated(text);
        let raw = self.flags.sharp
            && std::str::from_utf8(text).is_ok_and(|text| {
                text.chars().all(|c| c == '\t' || (c >= ' ' && c != '`' && c != '\u{7f}' && c != '\u{feff}'))
            });
        if raw {
            self.pad(&[b"`", text, b"`"].concat());
        } else {
            self.pad(&quote::quote(text, self.flags.plus));
        }
    }

    fn hexadecimal(&mut self, text: &[u8], capital: bool) {
        let text = &text[..self.flags.precision.unwrap_or(text.len()).min(text.len())];
        let prefix = match (self.flags.sharp, capital) {
            (false, _) => "",
            (true, false) => "0x",
            (true, true) => "0X",
        };
        let mut out = if self.flags.space || text.is_empty() { String::new() } else { prefix.to_owned() };
        for (i, byte) in text.iter().enumerate() {
            if self.flags.space {
                out.push_str(if i > 0 { " " } else { "" });
                out.push_str(prefix);
            }
            out.push_str(&if capital { format!("{byte:02X}") } else { format!("{byte:02x}") });
        }
        self.pad(out.as_bytes());
    }

    fn whole(&mut self, whole: Whole, number: i64, value: &Value, verb: char) -> Printed {
        #[allow(clippy::cast_sign_loss)]
        let (negative, size) =
            if whole.is_unsigned() { (false, number as u64) } else { (number < 0, number.unsigned_abs()) };
        let rune = if negative { None } else { u32::try_from(size).ok().and_then(char::from_u32) };
        match verb {
            'v' if self.flags.source && whole.is_unsigned() => {
                let sharp = std::mem::replace(&mut self.flags.sharp, true);
                self.integer(false, &format!("{size:x}"), 'x');
                self.flags.sharp = sharp;
            }
            'v' | 'd' => self.integer(negative, &size.to_string(), verb),
            'b' => self.integer(negative, &format!("{size:b}"), verb),
            'o' | 'O' => self.integer(negative, &format!("{size:o}"), verb),
            'x' => self.integer(negative, &format!("{size:x}"), verb),
            'X' => self.integer(negative, &format!("{size:X}"), verb),
            'c' => {
                let text = rune.unwrap_or(runes::ERROR).to_string();
                self.pad(text.as_bytes());
            }
            'q' => {
                let text = quote::quote_rune(rune.unwrap_or(runes::ERROR), self.flags.plus);
                self.pad(&text);
            }
            'U' => {
                #[allow(clippy::cast_sign_loss)]
                let code = number as u64;
                let digits = self.flags.precision.unwrap_or(0).max(4);
                let shown = format!("{code:X}");
                let mut text = format!("U+{}{shown}", "0".repeat(digits.saturating_sub(shown.len())));
                if let Some(c) = rune.filter(|c| self.flags.sharp && runes::is_print(*c)) {
                    text.push_str(&format!(" '{c}'"));
                }
                self.pad_with_spaces(text.as_bytes());
            }
            _ => return self.bad_verb(value, verb),
        }
        Ok(())
    }

    /// Digits with sign, prefix and zeros.
    fn integer(&mut self, negative: bool, digits: &str, verb: char) {
        let flags = self.flags;
        let signed = negative || flags.plus || flags.space;
        let least = match flags.precision {
            Some(0) if digits == "0" => return self.pad_with_spaces(b""),
            Some(precision) => precision,
            None if flags.zero && !flags.minus => flags.width.unwrap_or(0).saturating_sub(usize::from(signed)),
            None => 0,
        };
        let zeros = "0".repeat(least.saturating_sub(digits.len()));
        let prefix = match verb {
            'O' => "0o",
            'b' if flags.sharp => "0b",
            'o' if flags.sharp && !(zeros.starts_with('0') || digits.starts_with('0')) => "0",
            'x' if flags.sharp => "0x",
            'X' if flags.sharp => "0X",
            _ => "",
        };
        let sign = match (negative, flags.plus, flags.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        self.pad_with_spaces(format!("{sign}{prefix}{zeros}{digits}").as_bytes());
    }

    fn float(&mut self, number: f64, value: &Value, verb: char) -> Printed {
        let (kind, precision) = match verb {
            'v' => ('g', None),
            'g' | 'G' | 'b' | 'x' | 'X' => (verb, None),
            'e' | 'E' | 'f' => (verb, Some(6)),
            'F' => ('f', Some(6)),
            _ => return self.bad_verb(value, verb),
        };
        let precision = self.flags.precision.or(precision);
        let mut text = float::format(number, kind, precision);
        if !text.starts_with(['-', '+']) {
            text.insert(0, '+');
        }
        if self.flags.space && text.starts_with('+') && !self.flags.plus {
            text.replace_range(..1, " ");
        }
        if !number.is_finite() {
            if number.is_nan() && !self.flags.space && !self.flags.plus {
                text.remove(0);
            }
            self.pad_with_spaces(text.as_bytes());
            return Ok(());
        }
        if self.flags.sharp && kind != 'b' {
            text = with_point(&text, kind, precision);
        }
        if !self.flags.plus && text.starts_with('+') {
            self.pad(&text.as_bytes()[1..]);
        } else if self.flags.zero && !self.flags.minus && self.flags.width.is_some_and(|width| width > text.len()) {
            self.text(&text[..1]);
            self.padding(self.flags.width.unwrap_or(0) - text.len());
            self.text(&text[1..]);
        } else {
            self.pad(text.as_bytes());
        }
        Ok(())
    }

    fn complex(&mut self, re: f64, im: f64, value: &Value, verb: char) -> Printed {
        if !matches!(verb, 'v' | 'b' | 'g' | 'G' | 'x' | 'X' | 'f' | 'F' | 'e' | 'E') {
            return self.bad_verb(value, verb);
        }
        let plus = self.flags.plus;
        self.text("(");
        self.float(re, value, verb)?;
        self.flags.plus = true;
        self.float(im, value, verb)?;
        self.flags.plus = plus;
        self.text("i)");
        Ok(())
    }
}

/// `%#g`: always a decimal point, and the zeros behind it.
fn with_point(text: &str, kind: char, precision: Option<usize>) -> String {
    let split = text.find(['e', 'E', 'p', 'P']).filter(|_| !matches!(kind, 'x' | 'X')).unwrap_or(text.len());
    let (digits, tail) = text.split_at(split);
    let wanted = if matches!(kind, 'g' | 'G') { precision.unwrap_or(6) } else { 0 };
    let significant = digits[1..].bytes().filter(u8::is_ascii_digit).skip_while(|b| *b == b'0').count();
    let point = if digits.contains('.') { "" } else { "." };
    let lone_zero = usize::from(point == "." && &digits[1..] == "0");
    format!("{digits}{point}{}{tail}", "0".repeat(wanted.saturating_sub(significant + lone_zero)))
}

/// What a value's own `String` method says.
pub(crate) fn own_text(value: &Value) -> Option<String> {
    match value {
        Value::Time(time) => Some(time.to_string()),
        Value::Version(version) => Some(version.to_string()),
        Value::Whole(Whole::Month, number) => Some(time::month_name(*number)),
        Value::Whole(Whole::Weekday, number) => Some(time::weekday_name(*number)),
        Value::Whole(Whole::Duration, number) => Some(time::duration(*number)),
        _ => None,
    }
}
