//! What Go itself does with text, numbers and values: its notion of strings as bytes, `fmt`, `strconv`, `unicode`.

pub(crate) mod float;
pub(crate) mod int;
pub(crate) mod print;
pub(crate) mod printf;
pub(crate) mod quote;
pub(crate) mod runes;
