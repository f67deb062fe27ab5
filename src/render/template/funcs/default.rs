//! Defaults and truth.

use super::Type::{Any, Bool};
use super::{Function, any, fixed, open, slice};
use crate::render::template::context::{Answer, Context};
use crate::render::template::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("hello", &[], |_, _| Ok(Value::text("Hello!"))),
    open("default", &[Any], Any, |_, args| {
        Ok(if args.len() < 2 || empty(any(args, 1)) { any(args, 0) } else { any(args, 1) }.clone())
    }),
    fixed("empty", &[Any], |_, args| Ok(Value::Bool(empty(any(args, 0))))),
    open("coalesce", &[], Any, |_, args| Ok(args.iter().find(|value| !empty(value)).cloned().unwrap_or(Value::Nil))),
    open("all", &[], Any, |_, args| Ok(Value::Bool(!args.iter().any(empty)))),
    open("any", &[], Any, |_, args| Ok(Value::Bool(!args.iter().all(empty)))),
    fixed("compact", &[Any], compact),
    fixed("mustCompact", &[Any], compact),
    fixed("ternary", &[Any, Any, Bool], |_, args| Ok(any(args, usize::from(!any(args, 2).is_true())).clone())),
    fixed("fail", &[super::Type::Str], |_, args| Err(String::from_utf8_lossy(super::text(args, 0)).into_owned())),
];

/// Whether a value counts as not given: the same as false, as structs are never empty.
fn empty(value: &Value) -> bool {
    !value.is_true()
}

fn compact(cx: &Context<'_>, args: &[Value]) -> Answer {
    let items = slice(any(args, 0), "compact")?;
    cx.step(items.len())?;
    super::list::made(cx, items.iter().filter(|item| item.is_true()).cloned().collect())
}
