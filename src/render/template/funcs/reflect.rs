//! Types and kinds.

use super::Type::{Any, Str};
use super::{Function, any, fixed, text};
use crate::render::template::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("typeOf", &[Any], |_, args| Ok(Value::text(&any(args, 0).type_name()))),
    fixed("typeIs", &[Str, Any], |_, args| Ok(Value::Bool(text(args, 0) == any(args, 1).type_name().as_bytes()))),
    fixed("typeIsLike", &[Str, Any], |_, args| {
        let name = any(args, 1).type_name().into_bytes();
        Ok(Value::Bool(name == text(args, 0) || name == [b"*", text(args, 0)].concat()))
    }),
    fixed("kindOf", &[Any], |_, args| Ok(Value::text(any(args, 0).kind_name()))),
    fixed("kindIs", &[Str, Any], |_, args| Ok(Value::Bool(text(args, 0) == any(args, 1).kind_name().as_bytes()))),
];
