//! The page about the flags, made from the flags: `docs/flags.md`.

use std::fmt::Write;

use clap::{Arg, Command};

use super::IGNORED;

const HEAD: &str = "\
# Flags of `keyferry controller`

Made by `keyferry flags > docs/flags.md`; a test compares. Each flag can also be given by its environment variable; the
flag wins. Booleans take `--flag`, `--flag=true` and `--flag=false` in all of Go's spellings, durations are Go's (`90s`, `1h30m`).

| Flag | Default | Environment variable | Meaning |
|---|---|---|---|
";

const IGNORED_HEAD: &str = "
## Flags of External Secrets Operator without effect

They are accepted, so that arguments written for ESO start keyferry too; each gives one warning in the log.

| Flag | Why it has no effect |
|---|---|
";

/// The page.
pub fn markdown(cli: &Command) -> String {
    let mut page = HEAD.to_owned();
    let args = cli.find_subcommand("controller").into_iter().flat_map(Command::get_arguments);
    for arg in args.filter(|arg| !arg.is_hide_set()) {
        row(&mut page, arg);
    }
    page.push_str(IGNORED_HEAD);
    for flag in IGNORED {
        // Writing to a String cannot fail.
        let _ = writeln!(page, "| `--{}` | {} |", flag.name, flag.reason);
    }
    page
}

fn row(page: &mut String, arg: &Arg) {
    let default: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
    let default = match default.join(",") {
        empty if empty.is_empty() => String::new(),
        value => format!("`{value}`"),
    };
    let env = arg.get_env().map(|e| e.to_string_lossy()).unwrap_or_default();
    let help = arg.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
    let _ = writeln!(page, "| `--{}` | {default} | `{env}` | {help} |", arg.get_long().unwrap_or_default());
}
