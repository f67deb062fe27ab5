//! The suite for every provider of the list, and the page that says what each can do: `docs/providers.md`.
//! `UPDATE=1 cargo test --lib providers::conformance` writes the page anew.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;

use super::{Check, Fixture};
use crate::providers::{ProviderSpec, providers};

/// What the suite and the page must know of a provider. Every config type of the list has it.
pub trait Tested {
    /// The product's name.
    const TITLE: &'static str;
    /// The ways to log in, as they stand in manifests: `appRole`.
    const AUTH: &'static [&'static str];
    /// What end-to-end tests run it against: a real server and its version, or a fake, and what proves that.
    const SERVER: &'static str;

    /// The provider under test; more than one where a block serves several services.
    fn fixtures() -> Vec<Box<dyn Fixture>>;
}

macro_rules! suites {
    ($($field:ident: $variant:ident = $config:ty,)+) => {
        mod suite {
            $(
                #[tokio::test]
                #[allow(non_snake_case)]
                async fn $field() {
                    for fixture in <super::of::$variant as super::Tested>::fixtures() {
                        super::super::run(fixture.as_ref()).await;
                    }
                }
            )+
        }

        /// The config types by the names of their variants.
        mod of {
            use crate::providers::*;
            $(pub type $variant = $config;)+
        }

        fn rows() -> Vec<String> {
            [$(rows_of::<of::$variant>(stringify!($field)),)+].concat()
        }
    };
}
providers!(suites);

/// In the reason of a check that is left out, as the provider does the thing in a way of its own, which it tests.
const OWN_TESTS: &str = "tests of its own";

/// The columns that a check stands for.
const COLUMNS: &[(&str, &[Check])] = &[
    ("Read", &[Check::Get]),
    ("Versions", &[Check::Version]),
    ("Binary", &[Check::Binary]),
    ("Find by name", &[Check::FindByName]),
    ("by tags", &[Check::FindByTags]),
    ("Push", &[Check::Push, Check::PushWhole]),
    ("Delete", &[Check::Delete]),
];

fn rows_of<T: Tested>(block: &str) -> Vec<String> {
    let of = |fixture: &dyn Fixture| {
        let lacks = fixture.does_not_apply();
        let lacks = |check: &Check| lacks.iter().any(|(lacking, why)| lacking == check && !why.contains(OWN_TESTS));
        let can = |checks: &[Check]| checks.iter().any(|check| !lacks(check));
        let name = fixture.provider();
        let service = if name == block { String::new() } else { format!(", {name}") };
        let mut row = format!("| {}{service} | `{block}` |", T::TITLE);
        for (_, checks) in COLUMNS {
            row.push_str(if can(checks) { " yes |" } else { " |" });
        }
        let logins: Vec<_> = T::AUTH.iter().map(|name| format!("`{name}`")).collect();
        writeln!(row, " {} | {} |", logins.join(", "), T::SERVER).unwrap();
        row
    };
    let mut rows: Vec<_> = T::fixtures().iter().map(|fixture| of(fixture.as_ref())).collect();
    // one login or another, and all else the same
    rows.dedup();
    rows
}

fn page() -> String {
    let names = COLUMNS.iter().map(|(name, _)| format!(" {name} |")).collect::<String>();
    let lines = COLUMNS.iter().map(|_| "---|").collect::<String>();
    let intro = "\
# Providers

Made from the list of providers and their conformance suites (`UPDATE=1 cargo test --lib providers::conformance`); a test compares. What stands
here has passed: every provider runs through the same checks (values byte for byte, missing, refused, throttled, hanging and garbled answers,
64 KiB, other scripts, no word of a value or of an answer in any error), and those that cannot apply are left out with a reason.

A secret that does not exist is \"not found\" with every provider, a refusal is told apart from it, and `Retry-After` is heeded. How to add a
provider: [adding-a-provider.md](adding-a-provider.md).
";
    let unserved = ProviderSpec::not_served().iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    format!(
        "{intro}\n| Provider | Block |{names} Log in with | Tested against |\n|---|---|{lines}---|---|\n{}\n\
         Blocks that ESO has and keyferry accepts without serving them (the store says so in its condition): {unserved}.\n",
        rows().concat()
    )
}

#[test]
fn the_page_is_as_the_list_says() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/providers.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, page()).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == page(), "docs/providers.md: run UPDATE=1 cargo test --lib providers::conformance");
}
