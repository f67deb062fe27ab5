//! `fmt.Sprintf`.

use super::print::{Flags, Printer};
use super::runes;
use crate::render::template::context::{Context, Fault};
use crate::render::template::value::{Value, Whole};

/// Largest width and precision, as in Go.
const MAX_NUMBER: i64 = 1_000_000;

/// Formats; what does not fit shows in the result, as in Go.
pub(crate) fn sprintf(cx: &Context<'_>, format: &[u8], args: &[Value]) -> Result<Vec<u8>, Fault> {
    let mut formatter = Formatter { printer: Printer::new(cx), format, args, at: 0, next: 0, reordered: false, good: true };
    formatter.run()?;
    formatter.printer.done()
}

struct Formatter<'c> {
    printer: Printer<'c>,
    format: &'c [u8],
    args: &'c [Value],
    at: usize,
    /// The operand that is next.
    next: usize,
    reordered: bool,
    /// Whether the operand's number made sense.
    good: bool,
}

impl Formatter<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        while self.at < self.format.len() {
            let rest = &self.format[self.at..];
            let plain = rest.iter().position(|b| *b == b'%').unwrap_or(rest.len());
            self.printer.out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            if self.at < self.format.len() {
                self.at += 1;
                self.printer.cx.step(1)?;
                self.verb()?;
            }
        }
        if !self.reordered && self.next < self.args.len() {
            self.extra()?;
        }
        Ok(())
    }

    fn peek(&self) -> Option<u8> {
        self.format.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn put(&mut self, text: &str) {
        self.printer.out.extend_from_slice(text.as_bytes());
    }

    fn verb(&mut self) -> Result<(), Fault> {
        self.good = true;
        self.printer.flags = Flags::default();
        while let Some(byte) = self.peek() {
            let flags = &mut self.printer.flags;
            match byte {
                b'#' => flags.sharp = true,
                b'0' => flags.zero = true,
                b'+' => flags.plus = true,
                b'-' => flags.minus = true,
                b' ' => flags.space = true,
                _ => break,
            }
            self.at += 1;
        }
        let mut after_index = self.index();
        if self.eat(b'*') {
            let width = self.number_from_operand();
            match width {
                Some(width) => {
                    self.printer.flags.width = usize::try_from(width.unsigned_abs()).ok();
                    if width < 0 {
                        self.printer.flags.minus = true;
                        self.printer.flags.zero = false;
                    }
                }
                None => self.put("%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            self.printer.flags.width = self.digits();
            if after_index && self.printer.flags.width.is_some() {
                self.good = false;
            }
        }
        if self.peek() == Some(b'.') && self.at + 1 < self.format.len() {
            self.at += 1;
            if after_index {
                self.good = false;
            }
            after_index = self.index();
            if self.eat(b'*') {
                let precision = self.number_from_operand().and_then(|number| usize::try_from(number).ok());
                self.printer.flags.precision = precision;
                if precision.is_none() {
                    self.put("%!(BADPREC)");
                }
                after_index = false;
            } else {
                self.printer.flags.precision = Some(self.digits().unwrap_or(0));
            }
        }
        if !after_index {
            self.index();
        }
        if self.at >= self.format.len() {
            self.put("%!(NOVERB)");
            return Ok(());
        }
        let (verb, width) = runes::decode(&self.format[self.at..]);
        self.at += width;
        self.operand(verb)
    }

    fn operand(&mut self, verb: char) -> Result<(), Fault> {
        if verb == '%' {
            self.put("%");
            return Ok(());
        }
        let problem = if !self.good {
            "(BADINDEX)"
        } else if self.next >= self.args.len() {
            "(MISSING)"
        } else {
            if verb == 'v' {
                let flags = &mut self.printer.flags;
                flags.source = std::mem::take(&mut flags.sharp);
                flags.names = std::mem::take(&mut flags.plus);
            }
            self.next += 1;
            return self.printer.arg(&self.args[self.next - 1], verb);
        };
        self.put("%!");
        runes::push(&mut self.printer.out, verb);
        self.put(problem);
        Ok(())
    }

    /// `[n]`: which operand is next.
    fn index(&mut self) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let rest = &self.format[self.at..];
        let close = if rest.len() < 3 { None } else { rest.iter().position(|b| *b == b']') };
        let Some(close) = close else {
            self.at += 1;
            self.good = false;
            return false;
        };
        let number = parse(&rest[1..close]).filter(|_| close > 1);
        self.at += close + 1;
        match number.and_then(|number| number.checked_sub(1)) {
            Some(index) if index < self.args.len() => {
                self.next = index;
                true
            }
            other => {
                self.good = false;
                other.is_some() || number.is_some()
            }
        }
    }

    /// Digits. One more behind a number that is too large takes all that follows, as in Go.
    fn digits(&mut self) -> Option<usize> {
        let rest = &self.format[self.at..];
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let number = parse(&rest[..count]);
        self.at = if number.is_none() && count > 0 { self.format.len() } else { self.at + count };
        number
    }

    fn number_from_operand(&mut self) -> Option<i64> {
        let value = self.args.get(self.next)?;
        self.next += 1;
        match value {
            Value::Whole(Whole::Uint64, number) if *number < 0 => None,
            Value::Whole(_, number) => Some(*number).filter(|number| (-MAX_NUMBER..=MAX_NUMBER).contains(number)),
            _ => None,
        }
    }

    fn extra(&mut self) -> Result<(), Fault> {
        self.printer.flags = Flags::default();
        self.put("%!(EXTRA ");
        for (i, value) in self.args[self.next..].iter().enumerate() {
            if i > 0 {
                self.put(", ");
            }
            if !matches!(value, Value::Nil) {
                self.put(&value.type_name());
                self.put("=");
            }
            self.printer.arg(value, 'v')?;
        }
        self.put(")");
        Ok(())
    }
}

/// A number of digits only, as large as Go takes them: it looks before it reads the next digit.
fn parse(digits: &[u8]) -> Option<usize> {
    let largest = usize::try_from(MAX_NUMBER).unwrap_or(0);
    let add = |number: usize, digit: &u8| Some(number * 10 + usize::from(digit.checked_sub(b'0').filter(|d| *d < 10)?));
    let number = digits.iter().try_fold(0, |number, digit| add(number, digit).filter(|_| number <= largest));
    number.filter(|_| !digits.is_empty())
}
