//! From text to tokens, as Go's `text/template/parse` makes them.

use crate::render::template::go::runes;

/// Kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

/// A token: a part of the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'t> {
    pub(crate) kind: Kind,
    pub(crate) pos: usize,
    pub(crate) text: &'t [u8],
}

/// Makes tokens one by one.
pub(crate) struct Lexer<'t> {
    input: &'t [u8],
    left: &'t [u8],
    right: &'t [u8],
    pos: usize,
    start: usize,
    parens: usize,
    inside: bool,
    /// What is wrong, after a token of kind `Error`.
    pub(crate) problem: String,
}

impl<'t> Lexer<'t> {
    pub(crate) fn new(input: &'t [u8], left: &'t [u8], right: &'t [u8]) -> Self {
        Self { input, left, right, pos: 0, start: 0, parens: 0, inside: false, problem: String::new() }
    }

    /// The next token. After an error there are no more.
    pub(crate) fn next(&mut self) -> Token<'t> {
        if self.inside { self.action() } else { self.text() }
    }

    fn rest(&self) -> &'t [u8] {
        &self.input[self.pos..]
    }

    fn peek(&self) -> Option<char> {
        match runes::decode(self.rest()) {
            (_, 0) => None,
            (c, _) => Some(c),
        }
    }

    fn bump(&mut self) -> Option<char> {
        let (c, width) = runes::decode(self.rest());
        self.pos += width;
        (width > 0).then_some(c)
    }

    fn emit(&mut self, kind: Kind) -> Token<'t> {
        let token = Token { kind, pos: self.start, text: &self.input[self.start..self.pos] };
        self.start = self.pos;
        token
    }

    fn error(&mut self, problem: impl Into<String>) -> Token<'t> {
        self.problem = problem.into();
        let token = Token { kind: Kind::Error, pos: self.start.min(self.input.len()), text: b"" };
        self.pos = self.input.len();
        self.start = self.pos;
        self.inside = false;
        token
    }

    fn bad_character(&mut self) -> Token<'t> {
        let problem = match self.peek() {
            Some(c) => format!("bad character {}", unicode(c)),
            None => "bad character U+FFFFFFFFFFFFFFFF".to_owned(),
        };
        self.start = self.pos;
        self.error(problem)
    }

    /// Text up to the next action; then that action's beginning.
    fn text(&mut self) -> Token<'t> {
        loop {
            let Some(ahead) = runes::find(self.rest(), self.left) else {
                self.pos = self.input.len();
                return self.emit(if self.pos > self.start { Kind::Text } else { Kind::Eof });
            };
            if ahead > 0 {
                let text = &self.rest()[..ahead];
                let after = &self.rest()[ahead + self.left.len()..];
                let kept = if trims_left(after) { trim_end(text).len() } else { ahead };
                self.pos += kept;
                let token = self.emit(Kind::Text);
                self.pos += ahead - kept;
                self.start = self.pos;
                if kept > 0 {
                    return token;
                }
            }
            let marker = if trims_left(&self.rest()[self.left.len()..]) { 2 } else { 0 };
            let after = self.pos + self.left.len() + marker;
            if !self.input[after..].starts_with(b"/*") {
                self.pos += self.left.len();
                let token = self.emit(Kind::LeftDelim);
                self.inside = true;
                self.parens = 0;
                self.pos = after;
                self.start = after;
                return token;
            }
            self.pos = after;
            self.start = after;
            if let Err(problem) = self.comment() {
                return self.error(problem);
            }
        }
    }

    fn comment(&mut self) -> Result<(), &'static str> {
        self.pos += 2;
        let end = runes::find(self.rest(), b"*/").ok_or("unclosed comment")?;
        self.pos += end + 2;
        if self.at_right_delim().is_none() {
            return Err("comment ends before closing delimiter");
        }
        self.right_delim();
        Ok(())
    }

    /// Whether the action ends here, and whether it eats white space.
    fn at_right_delim(&self) -> Option<bool> {
        let rest = self.rest();
        if trims_right(rest) && rest[2..].starts_with(self.right) {
            return Some(true);
        }
        rest.starts_with(self.right).then_some(false)
    }

    fn right_delim(&mut self) -> Token<'t> {
        let trims = self.at_right_delim() == Some(true);
        if trims {
            self.pos += 2;
            self.start = self.pos;
        }
        self.pos += self.right.len();
        let token = self.emit(Kind::RightDelim);
        if trims {
            self.pos += self.rest().iter().take_while(|b| is_space(char::from(**b))).count();
            self.start = self.pos;
        }
        self.inside = false;
        token
    }

    fn action(&mut self) -> Token<'t> {
        if self.at_right_delim().is_some() {
            return if self.parens == 0 { self.right_delim() } else { self.error("unclosed left paren") };
        }
        let Some(c) = self.peek() else { return self.error("unclosed action") };
        if is_space(c) {
            return self.space();
        }
        if is_name(c) && !c.is_ascii_digit() {
            return self.identifier();
        }
        self.bump();
        match c {
            '=' => self.emit(Kind::Assign),
            ':' if self.bump() == Some('=') => self.emit(Kind::Declare),
            ':' => self.error("expected :="),
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted('"', Kind::String, "unterminated quoted string"),
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
            '`' => self.raw(),
            '$' => self.name(Kind::Variable, Kind::Variable),
            '.' if !self.peek().is_some_and(|next| next.is_ascii_digit()) => self.name(Kind::Field, Kind::Dot),
            '.' | '+' | '-' | '0'..='9' => {
                self.pos = self.start;
                self.number()
            }
            '(' => {
                self.parens += 1;
                self.emit(Kind::LeftParen)
            }
            ')' if self.parens == 0 => self.error("unexpected right paren"),
            ')' => {
                self.parens -= 1;
                self.emit(Kind::RightParen)
            }
            ' '..='~' => self.emit(Kind::Char),
            other => {
                let problem = format!("unrecognized character in action: {}", unicode(other));
                self.error(problem)
            }
        }
    }

    /// White space, but for the one in front of a trim marker.
    fn space(&mut self) -> Token<'t> {
        let mut last = self.pos;
        while self.peek().is_some_and(is_space) {
            last = self.pos;
            self.pos += 1;
        }
        if trims_right(&self.input[last..]) && self.input[last + 2..].starts_with(self.right) {
            self.pos = last;
            if self.pos == self.start {
                return self.right_delim();
            }
        }
        self.emit(Kind::Space)
    }

    fn identifier(&mut self) -> Token<'t> {
        while self.peek().is_some_and(is_name) {
            self.bump();
        }
        if !self.at_terminator() {
            return self.bad_character();
        }
        let kind = match &self.input[self.start..self.pos] {
            b"block" => Kind::Block,
            b"break" => Kind::Break,
            b"continue" => Kind::Continue,
            b"define" => Kind::Define,
            b"else" => Kind::Else,
            b"end" => Kind::End,
            b"if" => Kind::If,
            b"range" => Kind::Range,
            b"nil" => Kind::Nil,
            b"template" => Kind::Template,
            b"with" => Kind::With,
            b"true" | b"false" => Kind::Bool,
            _ => Kind::Identifier,
        };
        self.emit(kind)
    }

    /// A field or variable; alone it is the dot or `$`.
    fn name(&mut self, kind: Kind, alone: Kind) -> Token<'t> {
        if self.at_terminator() {
            return self.emit(alone);
        }
        while self.peek().is_some_and(is_name) {
            self.bump();
        }
        if self.at_terminator() { self.emit(kind) } else { self.bad_character() }
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_space(c) || self.rest().starts_with(self.right),
        }
    }

    fn quoted(&mut self, quote: char, kind: Kind, problem: &str) -> Token<'t> {
        loop {
            match self.bump() {
                Some('\\') if self.bump().is_some_and(|c| c != '\n') => {}
                None | Some('\n' | '\\') => return self.error(problem),
                Some(c) if c == quote => return self.emit(kind),
                Some(_) => {}
            }
        }
    }

    fn raw(&mut self) -> Token<'t> {
        match self.rest().iter().position(|b| *b == b'`') {
            Some(end) => {
                self.pos += end + 1;
                self.emit(Kind::RawString)
            }
            None => self.error("unterminated raw quoted string"),
        }
    }

    fn number(&mut self) -> Token<'t> {
        let complex = self.scan_number() && matches!(self.peek(), Some('+' | '-'));
        let ok =
            if complex { self.scan_number() && self.input[self.pos - 1] == b'i' } else { !self.peek().is_some_and(is_name) };
        if !ok {
            self.bump();
            let text = String::from_utf8_lossy(&self.input[self.start..self.pos]).into_owned();
            return self.error(format!("bad number syntax: {text:?}"));
        }
        self.emit(if complex { Kind::Complex } else { Kind::Number })
    }

    fn accept(&mut self, valid: &[u8]) -> bool {
        let found = self.rest().first().is_some_and(|b| valid.contains(b));
        self.pos += usize::from(found);
        found
    }

    fn accept_run(&mut self, valid: &[u8]) {
        while self.accept(valid) {}
    }

    fn scan_number(&mut self) -> bool {
        self.accept(b"+-");
        let mut digits: &[u8] = b"0123456789_";
        if self.accept(b"0") {
            if self.accept(b"xX") {
                digits = b"0123456789abcdefABCDEF_";
            } else if self.accept(b"oO") {
                digits = b"01234567_";
            } else if self.accept(b"bB") {
                digits = b"01_";
            }
        }
        self.accept_run(digits);
        if self.accept(b".") {
            self.accept_run(digits);
        }
        let exponent: &[u8] = match digits.len() {
            11 => b"eE",
            23 => b"pP",
            _ => b"",
        };
        if self.accept(exponent) {
            self.accept(b"+-");
            self.accept_run(b"0123456789_");
        }
        self.accept(b"i");
        !self.peek().is_some_and(is_name)
    }
}

/// `U+002D '-'`, as `%#U` prints.
pub(crate) fn unicode(c: char) -> String {
    let code = u32::from(c);
    if runes::is_print(c) { format!("U+{code:04X} '{c}'") } else { format!("U+{code:04X}") }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(c: char) -> bool {
    c == '_' || runes::is_letter(c) || runes::is_digit(c)
}

fn trims_left(text: &[u8]) -> bool {
    matches!(text, [b'-', b' ' | b'\t' | b'\r' | b'\n', ..])
}

fn trims_right(text: &[u8]) -> bool {
    matches!(text, [b' ' | b'\t' | b'\r' | b'\n', b'-', ..])
}

fn trim_end(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| !is_space(char::from(*b))).map_or(0, |last| last + 1);
    &text[..end]
}
