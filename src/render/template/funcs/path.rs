//! Paths with slashes.

use super::Type::Str;
use super::{Function, fixed, text};
use crate::render::template::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("base", &[Str], |_, args| Ok(base(text(args, 0)).into())),
    fixed("dir", &[Str], |_, args| Ok(Value::bytes(dir(text(args, 0))))),
    fixed("clean", &[Str], |_, args| Ok(Value::bytes(clean(text(args, 0))))),
    fixed("ext", &[Str], |_, args| Ok(ext(text(args, 0)).into())),
    fixed("isAbs", &[Str], |_, args| Ok(Value::Bool(text(args, 0).starts_with(b"/")))),
    fixed("osBase", &[Str], |_, args| Ok(base(text(args, 0)).into())),
    fixed("osDir", &[Str], |_, args| Ok(Value::bytes(dir(text(args, 0))))),
    fixed("osClean", &[Str], |_, args| Ok(Value::bytes(clean(text(args, 0))))),
    fixed("osExt", &[Str], |_, args| Ok(ext(text(args, 0)).into())),
    fixed("osIsAbs", &[Str], |_, args| Ok(Value::Bool(text(args, 0).starts_with(b"/")))),
];

fn after_last_slash(path: &[u8]) -> usize {
    path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1)
}

fn base(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
    match (&path[after_last_slash(&path[..end])..end], path.is_empty()) {
        (b"", true) => b".",
        (b"", false) => b"/",
        (name, _) => name,
    }
}

fn dir(path: &[u8]) -> Vec<u8> {
    clean(&path[..after_last_slash(path)])
}

fn ext(path: &[u8]) -> &[u8] {
    let name = &path[after_last_slash(path)..];
    name.iter().rposition(|b| *b == b'.').map_or(b"", |dot| &name[dot..])
}

/// The shortest path that means the same.
fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.starts_with(b"/");
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." if parts.last().is_some_and(|last| *last != b"..") => drop(parts.pop()),
            b".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", joined.as_slice()].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}
