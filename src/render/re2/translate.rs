//! Go's syntax turned into that of the regex crate. What Go refuses is refused here, where and as its parser does.

/// Most times that `{n}` may repeat, also where repetitions are inside each other, as in Go.
const MAX_REPEAT: u32 = 1000;

// What Go finds wrong, in its words.
const BAD_CLASS: &str = "invalid character class range";
const BAD_COUNT: &str = "invalid repeat count";
const BAD_ESCAPE: &str = "invalid escape sequence";
const BAD_NAME: &str = "invalid named capture";
const BAD_FLAGS: &str = "invalid or unsupported Perl syntax";
const NO_BRACKET: &str = "missing closing ]";
const NO_PAREN: &str = "missing closing )";
const NO_ARGUMENT: &str = "missing argument to repetition operator";
const REPEATED_TWICE: &str = "invalid nested repetition operator";
const STRAY_BACKSLASH: &str = "trailing backslash at end of expression";
const STRAY_PAREN: &str = "unexpected )";

/// What is wrong, and the part of the expression that Go shows of it.
pub(super) struct Fault<'p> {
    pub(super) code: &'static str,
    pub(super) fragment: &'p str,
}

type Translated<'p, T> = Result<T, Fault<'p>>;

/// The same expression for the regex crate.
pub(super) fn translate(pattern: &str) -> Translated<'_, String> {
    Translator { whole: pattern, rest: pattern, out: String::new(), group: Group::default(), outer: Vec::new() }.run()
}

/// What was read of a group; of the expression itself, too.
#[derive(Default)]
struct Group {
    /// How often the last piece is repeated, with all repetitions in it. `None` where there is no piece that could be repeated.
    last: Option<u32>,
    /// The most of the pieces before it.
    most: u32,
}

impl Group {
    fn push(&mut self, piece: Option<u32>) {
        self.most = self.repeats();
        self.last = piece;
    }

    fn repeats(&self) -> u32 {
        self.most.max(self.last.unwrap_or(1))
    }
}

struct Translator<'p> {
    whole: &'p str,
    /// What was not read yet.
    rest: &'p str,
    out: String,
    group: Group,
    /// The groups around it.
    outer: Vec<Group>,
}

impl<'p> Translator<'p> {
    fn run(mut self) -> Translated<'p, String> {
        // Where the last piece has its operator, if it is a repetition, which cannot be repeated again.
        let mut operator = None;
        loop {
            let start = self.rest;
            let Some(c) = self.take() else { break };
            let times = match c {
                '*' | '+' | '?' => {
                    self.out.push(c);
                    Some(1)
                }
                '{' => self.count(start)?,
                _ => None,
            };
            if let Some(times) = times {
                self.repeat(times, start, operator)?;
                operator = Some(start);
            } else {
                self.piece(c, start)?;
                operator = None;
            }
        }
        if self.outer.is_empty() { Ok(self.out) } else { Err(Fault { code: NO_PAREN, fragment: self.whole }) }
    }

    /// What is no repetition.
    fn piece(&mut self, c: char, start: &'p str) -> Translated<'p, ()> {
        match c {
            '\\' => return self.escape(start),
            '[' => self.class(start)?,
            '(' => return self.open(start),
            ')' => return self.close(),
            '|' => {
                self.out.push('|');
                self.group.push(None);
                return Ok(());
            }
            '^' | '$' | '.' => self.out.push(c),
            other => self.literal(other),
        }
        self.group.push(Some(1));
        Ok(())
    }

    /// The next character.
    fn take(&mut self) -> Option<char> {
        let mut rest = self.rest.chars();
        let c = rest.next();
        self.rest = rest.as_str();
        c
    }

    /// Whether this text is next, which is then taken.
    fn eat(&mut self, text: &str) -> bool {
        let after = self.rest.strip_prefix(text);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// What was read from there on.
    fn since(&self, start: &'p str) -> &'p str {
        &start[..start.len() - self.rest.len()]
    }

    fn fault<T>(&self, code: &'static str, start: &'p str) -> Translated<'p, T> {
        Err(Fault { code, fragment: self.since(start) })
    }

    /// A character that stands for itself.
    fn literal(&mut self, c: char) {
        if c.is_ascii_alphanumeric() || !c.is_ascii() {
            self.out.push(c);
        } else {
            self.out.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }

    fn escape(&mut self, start: &'p str) -> Translated<'p, ()> {
        if self.eat("Q") {
            self.quoted();
            return Ok(());
        }
        let places = [("b", r"(?-u:\b)"), ("B", r"(?-u:\B)"), ("A", r"\A"), ("z", r"\z")];
        if let Some((_, place)) = places.into_iter().find(|(name, _)| self.eat(name)) {
            self.out.push_str(place);
        } else if !self.set(start)? {
            let c = self.character(start)?;
            self.literal(c);
        }
        self.group.push(Some(1));
        Ok(())
    }

    /// The text between `\Q` and `\E`.
    fn quoted(&mut self) {
        let (text, after) = self.rest.split_once(r"\E").unwrap_or((self.rest, ""));
        for c in text.chars() {
            self.literal(c);
            self.group.push(Some(1));
        }
        self.rest = after;
    }

    /// After a backslash: a set such as `\d` or `\pL`, if there is one.
    fn set(&mut self, start: &'p str) -> Translated<'p, bool> {
        let sets = [
            ("d", "[0-9]"),
            ("D", "[^0-9]"),
            ("w", "[0-9A-Za-z_]"),
            ("W", "[^0-9A-Za-z_]"),
            ("s", r"[\t\n\f\r ]"),
            ("S", r"[^\t\n\f\r ]"),
        ];
        if let Some((_, set)) = sets.into_iter().find(|(name, _)| self.eat(name)) {
            self.out.push_str(set);
            return Ok(true);
        }
        for (name, negated) in [("p", false), ("P", true)] {
            if self.eat(name) {
                self.property(negated, start)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The name after `\p`: a category or a script of Unicode.
    fn property(&mut self, negated: bool, start: &'p str) -> Translated<'p, ()> {
        let mut name = self.rest;
        if self.eat("{") {
            let Some((inside, after)) = self.rest.split_once('}') else {
                self.rest = "";
                return self.fault(BAD_CLASS, start);
            };
            (name, self.rest) = (inside, after);
        } else {
            self.take();
            name = self.since(name);
        }
        let (negated, name) = name.strip_prefix('^').map_or((negated, name), |name| (!negated, name));
        let letter = if negated { 'P' } else { 'p' };
        let set = ["gc", "sc"]
            .map(|kind| format!("\\{letter}{{{kind}={name}}}"))
            .into_iter()
            .find(|set| name.is_ascii() && regex_syntax::parse(set).is_ok());
        let Some(set) = set else { return self.fault(BAD_CLASS, start) };
        self.out.push_str(&set);
        Ok(())
    }

    /// After a backslash: the one character that the escape stands for.
    fn character(&mut self, start: &'p str) -> Translated<'p, char> {
        let Some(c) = self.take() else { return Err(Fault { code: STRAY_BACKSLASH, fragment: "" }) };
        let found = match c {
            'a' => Some('\u{7}'),
            'f' => Some('\u{c}'),
            't' => Some('\t'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            'v' => Some('\u{b}'),
            'x' => self.hexadecimal(),
            // One digit other than zero would mean a group.
            '0'..='7' if c == '0' || self.rest.starts_with(is_octal) => self.octal(start),
            c => (c.is_ascii() && !c.is_ascii_alphanumeric()).then_some(c),
        };
        found.map_or_else(|| self.fault(BAD_ESCAPE, start), Ok)
    }

    /// Up to three digits, one of which was read.
    fn octal(&mut self, start: &'p str) -> Option<char> {
        for _ in 0..2 {
            if self.rest.starts_with(is_octal) {
                self.take();
            }
        }
        char::from_u32(u32::from_str_radix(self.since(start).strip_prefix('\\')?, 8).ok()?)
    }

    fn hexadecimal(&mut self) -> Option<char> {
        if !self.eat("{") {
            let (high, low) = (self.take()?, self.take()?);
            return char::from_u32(high.to_digit(16)? * 16 + low.to_digit(16)?);
        }
        let mut code: Option<u32> = None;
        loop {
            match self.take()? {
                '}' => return char::from_u32(code?),
                digit => {
                    let next = code.unwrap_or(0) * 16 + digit.to_digit(16)?;
                    if next > u32::from(char::MAX) {
                        return None;
                    }
                    code = Some(next);
                }
            }
        }
    }

    /// What follows `(`: in Go a group has at most a name, or the flags `imsU`.
    fn open(&mut self, start: &'p str) -> Translated<'p, ()> {
        if !self.eat("?") {
            self.out.push('(');
            self.enter();
            return Ok(());
        }
        // Without anything behind it, `<` begins no name for Go.
        if ["P<", "<"].into_iter().any(|mark| self.rest.len() > mark.len() && self.eat(mark)) {
            return self.named(start);
        }
        self.flags(start)
    }

    fn named(&mut self, start: &'p str) -> Translated<'p, ()> {
        let (name, after) = self.rest.split_once('>').unwrap_or_default();
        self.rest = after;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return self.fault(BAD_NAME, start);
        }
        self.out.push_str(&format!("(?P<{name}>"));
        self.enter();
        Ok(())
    }

    fn flags(&mut self, start: &'p str) -> Translated<'p, ()> {
        let (mut off, mut any) = (false, false);
        while let Some(c) = self.take() {
            match c {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !off => (off, any) = (true, false),
                ':' | ')' if any || !off => {
                    self.out.push_str(self.since(start));
                    if c == ':' {
                        self.enter();
                    }
                    return Ok(());
                }
                _ => break,
            }
        }
        self.fault(BAD_FLAGS, start)
    }

    fn enter(&mut self) {
        self.outer.push(std::mem::take(&mut self.group));
    }

    /// What follows is outside of the group again.
    fn close(&mut self) -> Translated<'p, ()> {
        let Some(outer) = self.outer.pop() else { return Err(Fault { code: STRAY_PAREN, fragment: self.whole }) };
        let repeats = self.group.repeats();
        self.group = outer;
        self.group.push(Some(repeats));
        self.out.push(')');
        Ok(())
    }

    /// What follows `{`: the most times that the piece before is repeated (the least, where there is no most), or nothing, where the brace
    /// stands for itself.
    fn count(&mut self, start: &'p str) -> Translated<'p, Option<u32>> {
        let Some((text, after)) = self.rest.split_once('}') else { return Ok(None) };
        let (low, high) = text.split_once(',').map_or((text, text), |(low, high)| (low, high));
        let (Some(low), Some(high)) = (number(low), if high.is_empty() { Some(None) } else { number(high).map(Some) })
        else {
            return Ok(None);
        };
        self.rest = after;
        if low > MAX_REPEAT || high.is_some_and(|high| high > MAX_REPEAT || low > high) {
            return self.fault(BAD_COUNT, start);
        }
        self.out.push_str(self.since(start));
        Ok(Some(high.unwrap_or(low.max(1))))
    }

    /// After an operator: the piece before it is repeated so often, unless it is a repetition itself, from its operator on.
    fn repeat(&mut self, times: u32, start: &'p str, operator: Option<&'p str>) -> Translated<'p, ()> {
        if self.eat("?") {
            self.out.push('?');
        }
        if let Some(operator) = operator {
            return self.fault(REPEATED_TWICE, operator);
        }
        let Some(last) = self.group.last else { return self.fault(NO_ARGUMENT, start) };
        // What is repeated not once counts no longer.
        let repeats = if times == 0 { 1 } else { last.saturating_mul(times) };
        if repeats > MAX_REPEAT {
            return self.fault(BAD_COUNT, start);
        }
        self.group.last = Some(repeats);
        Ok(())
    }

    /// What follows `[`.
    fn class(&mut self, start: &'p str) -> Translated<'p, ()> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
        }
        let mut first = true;
        while first || !self.eat("]") {
            first = false;
            let item = self.rest;
            if self.posix()? || (self.eat("\\") && self.set(item)?) {
                continue;
            }
            self.rest = item;
            self.range(start)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// A class such as `[:alpha:]` inside another.
    fn posix(&mut self) -> Translated<'p, bool> {
        const NAMES: [&str; 14] = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper",
            "word", "xdigit",
        ];
        let start = self.rest;
        let Some((name, after)) = start.strip_prefix("[:").and_then(|text| text.split_once(":]")) else { return Ok(false) };
        self.rest = after;
        if !NAMES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return self.fault(BAD_CLASS, start);
        }
        self.out.push_str(self.since(start));
        Ok(true)
    }

    fn range(&mut self, class: &'p str) -> Translated<'p, ()> {
        let start = self.rest;
        let low = self.class_character(class)?;
        self.literal(low);
        if self.rest.len() > 1 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
            self.take();
            let high = self.class_character(class)?;
            if high < low {
                return self.fault(BAD_CLASS, start);
            }
            self.out.push('-');
            self.literal(high);
        }
        Ok(())
    }

    fn class_character(&mut self, class: &'p str) -> Translated<'p, char> {
        let start = self.rest;
        match self.take() {
            Some('\\') => self.character(start),
            Some(c) => Ok(c),
            None => Err(Fault { code: NO_BRACKET, fragment: class }),
        }
    }
}

fn is_octal(c: char) -> bool {
    c.is_digit(8)
}

/// A number in braces; one that is too large for us is too large in any case.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().unwrap_or(u32::MAX))
}
