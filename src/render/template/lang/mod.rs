//! The language: from text to nodes.

pub(crate) mod lex;
pub(crate) mod node;
pub(crate) mod number;
pub(crate) mod parse;
