//! A value that a path found, and how Go prints it.

use std::borrow::Cow;

use super::scan;
use crate::render::number;
use crate::secret_bytes::SecretBytes;

/// Kind of a JSON value.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Kind {
    /// `null`, or nothing at all.
    #[default]
    Null,
    /// `false`.
    False,
    /// A number; gjson counts `nan` and `inf` among them.
    Number,
    /// A string.
    String,
    /// `true`.
    True,
    /// An object or array.
    Json,
}

/// A part of a JSON text: borrowed where it stands there as it is, owned where a path made it. No `Debug`: it is a secret.
#[derive(Clone, Default)]
pub struct Value<'j> {
    pub(super) kind: Kind,
    pub(super) raw: Cow<'j, [u8]>,
}

/// What a byte of a JSON text begins.
pub(super) enum Start {
    /// A string, number or word.
    Scalar(Kind),
    /// An object or array.
    Block,
    /// Nothing: it lies between values.
    Gap,
}

impl<'j> Value<'j> {
    pub(super) fn new(kind: Kind, raw: impl Into<Cow<'j, [u8]>>) -> Self {
        Self { kind, raw: raw.into() }
    }

    /// The JSON text, as it stands in the value.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The JSON text as a part of the text that it was found in; `None` where it was made up, as by a modifier.
    #[must_use]
    pub fn raw_in<'t>(&self, text: &'t [u8]) -> Option<&'t [u8]> {
        let start = self.raw.as_ptr().addr().checked_sub(text.as_ptr().addr())?;
        text.get(start..start.checked_add(self.raw.len())?)
    }

    /// The value as gjson's `String()` has it: strings unquoted, integers as they stand, other numbers as decimals without
    /// exponent, objects and arrays as they stand, `null` empty.
    #[must_use]
    pub fn to_string_bytes(&self) -> Cow<'_, [u8]> {
        match self.kind {
            Kind::Null => Cow::Borrowed(b""),
            Kind::False => Cow::Borrowed(b"false"),
            Kind::True => Cow::Borrowed(b"true"),
            Kind::Json => Cow::Borrowed(&self.raw),
            Kind::String => self.text(),
            Kind::Number if self.is_integer() => Cow::Borrowed(&self.raw),
            Kind::Number => Cow::Owned(number::decimal(self.number()).into_bytes()),
        }
    }

    /// [`Value::to_string_bytes`] as the bytes of a secret.
    #[must_use]
    pub fn into_secret(self) -> SecretBytes {
        SecretBytes::new(self.to_string_bytes().into_owned())
    }

    /// Whether there is anything, be it `null`.
    pub(super) fn exists(&self) -> bool {
        self.kind != Kind::Null || !self.raw.is_empty()
    }

    pub(super) fn is_object(&self) -> bool {
        self.kind == Kind::Json && self.raw.first() == Some(&b'{')
    }

    pub(super) fn is_array(&self) -> bool {
        self.kind == Kind::Json && self.raw.first() == Some(&b'[')
    }

    pub(super) fn into_owned(self) -> Value<'static> {
        Value { kind: self.kind, raw: Cow::Owned(self.raw.into_owned()) }
    }

    /// The content of a string.
    pub(super) fn text(&self) -> Cow<'_, [u8]> {
        let content = self.raw.get(1..).unwrap_or_default();
        let end = scan::closing_quote(content, 0).unwrap_or(content.len());
        scan::unescape(&content[..end])
    }

    /// The number, as Go reads it: zero where it is none.
    pub(super) fn number(&self) -> f64 {
        number::parse(&self.raw)
    }

    /// Whether an option of a modifier is on.
    pub(super) fn is_on(&self) -> bool {
        match self.kind {
            Kind::True => true,
            Kind::Number => self.number() != 0.0,
            Kind::String => parse_bool(&self.text()) == Some(true),
            _ => false,
        }
    }

    fn is_integer(&self) -> bool {
        self.raw.strip_prefix(b"-").unwrap_or(&self.raw).iter().all(u8::is_ascii_digit)
    }
}

/// A truth value as Go's `strconv.ParseBool` reads it, in any case.
pub(super) fn parse_bool(text: &[u8]) -> Option<bool> {
    match text.to_ascii_lowercase().as_slice() {
        b"1" | b"t" | b"true" => Some(true),
        b"0" | b"f" | b"false" => Some(false),
        _ => None,
    }
}

/// What begins at an index.
pub(super) fn start(json: &[u8], i: usize) -> Start {
    match json.get(i) {
        Some(b'{' | b'[') => Start::Block,
        Some(b'"') => Start::Scalar(Kind::String),
        Some(b't') => Start::Scalar(Kind::True),
        Some(b'f') => Start::Scalar(Kind::False),
        Some(b'n') if json.get(i + 1).is_none_or(|next| *next == b'u') => Start::Scalar(Kind::Null),
        Some(b'n' | b'+' | b'-' | b'0'..=b'9' | b'i' | b'I' | b'N') => Start::Scalar(Kind::Number),
        _ => Start::Gap,
    }
}

/// The scalar at an index and where it ends. None: a string that does not end.
pub(super) fn scalar(json: &[u8], i: usize, kind: Kind) -> Option<(usize, Value<'_>)> {
    let end = match kind {
        Kind::String => scan::closing_quote(json, i + 1)? + 1,
        Kind::Number => scan::number_end(json, i),
        _ => scan::literal_end(json, i),
    };
    Some((end, Value::new(kind, &json[i..end])))
}

/// The object or array at an index and where it ends.
pub(super) fn block(json: &[u8], i: usize) -> (usize, Value<'_>) {
    let end = scan::block_end(json, i);
    (end, Value::new(Kind::Json, &json[i..end.min(json.len())]))
}

/// The next value at or after an index, and where it ends.
pub(super) fn next(json: &[u8], mut i: usize) -> Option<(usize, Value<'_>)> {
    while i < json.len() {
        match start(json, i) {
            Start::Gap => i += 1,
            Start::Block => return Some(block(json, i)),
            Start::Scalar(kind) => return scalar(json, i, kind),
        }
    }
    None
}

/// The value that a whole text is. An object or array is everything from where it opens.
pub(super) fn parse(json: &[u8]) -> Value<'_> {
    let Some(i) = json.iter().position(|b| *b > b' ') else { return Value::default() };
    match start(json, i) {
        Start::Gap => Value::default(),
        Start::Block => Value::new(Kind::Json, &json[i..]),
        Start::Scalar(kind) => scalar(json, i, kind).map_or_else(|| Value::new(kind, &json[i..]), |(_, value)| value),
    }
}

/// The members of an object, or the elements of an array; a scalar is its own only element.
pub(super) fn members<'a>(value: &'a Value<'_>) -> Members<'a> {
    match value.kind {
        Kind::Json => Members { json: &value.raw, i: 1, keyed: value.is_object(), lone: None },
        _ => Members {
            json: b"",
            i: 0,
            keyed: false,
            lone: value.exists().then(|| Value::new(value.kind, value.raw.as_ref())),
        },
    }
}

/// Iterator of [`members`]: the key with its quotes, where there is one, and the value.
pub(super) struct Members<'a> {
    json: &'a [u8],
    i: usize,
    keyed: bool,
    lone: Option<Value<'a>>,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Option<Value<'a>>, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(value) = self.lone.take() {
            return Some((None, value));
        }
        let mut key = None;
        if self.keyed {
            let quote = self.i + self.json.get(self.i..)?.iter().position(|b| *b == b'"')?;
            let (end, text) = scalar(self.json, quote, Kind::String)?;
            self.i = end;
            key = Some(text);
        }
        let between = |byte: &u8| *byte <= b' ' || matches!(byte, b',' | b':');
        self.i += self.json.get(self.i..)?.iter().take_while(|byte| between(byte)).count();
        let Some((end, value)) = next(self.json, self.i) else {
            self.i = self.json.len();
            return None;
        };
        // The byte after a value is taken for a comma, whatever it is.
        self.i = end + 1;
        Some((key, value))
    }
}
