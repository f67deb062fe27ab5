//! Whatever a template is: no panic, no endless work, no value in an error.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Limits, Sequence, scope};
use crate::render::template::{Engine, funcs};

const CANARY: &str = "canary-7f3a";

/// Values that are text, JSON, YAML, a number with the canary, and bytes.
fn values() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("text", CANARY.as_bytes().to_vec()),
        ("json", format!("{{\"{CANARY}\":[\"{CANARY}\",{{\"k\":\"{CANARY}\"}}]}}").into_bytes()),
        ("yaml", format!("a: {CANARY}\n{CANARY}: b\nc: [{CANARY}").into_bytes()),
        ("version", format!("1.2.3-{CANARY}").into_bytes()),
        ("url", format!("http://{CANARY}:{CANARY}@[{CANARY}/%zz").into_bytes()),
        ("regex", format!("({CANARY}[").into_bytes()),
        ("bytes", [b"\xff\x00", CANARY.as_bytes()].concat()),
    ]
}

fn fails_safely(text: &[u8]) -> Result<(), TestCaseError> {
    let values = values();
    let entries: Vec<(&str, &[u8])> = values.iter().map(|(key, value)| (*key, value.as_slice())).collect();
    let chance = Sequence::default();
    let limits = Limits { steps: 20_000, memory: 1 << 20, value: 1 << 18, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let begun = Instant::now();
    let result = engine.render("key", text, &scope(&entries));
    prop_assert!(begun.elapsed() < Duration::from_secs(20), "it takes too long");
    if let Err(error) = result {
        let shown = format!("{error} {error:?}").to_lowercase();
        for hidden in [CANARY, "y2fuyxj5lt", "63616e617279", "7f3a"] {
            prop_assert!(!shown.contains(hidden), "{shown}");
        }
    }
    Ok(())
}

/// An operand; deeper ones are calls of any function.
fn operand() -> impl Strategy<Value = String> {
    let keys = values().into_iter().map(|(key, _)| format!(".{key}")).collect::<Vec<_>>();
    let leaf = prop_oneof![
        4 => prop::sample::select(keys),
        1 => prop::sample::select(vec![
            "1", "-1", "0", "2.5", "1i", "\"\"", "\"a\"", "\"(\"", "nil", "true", ".", "$", "$.text", ".gone", "'x'", "(list .text .json)",
            "(dict .text .json \"k\" .text)", "(fromJson .json)", "(fromYaml .yaml)", "now", "(semver \"1.2.3\")", "(until 3)", "(splitList \"-\" .text)",
        ]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        // Those that compute keys are tested for themselves, and slow.
        let slow = ["bcrypt", "htpasswd", "derivePassword"];
        let names: Vec<&str> =
            funcs::names().into_iter().filter(|name| !name.starts_with("gen") && !slow.contains(name)).collect();
        (
            prop::sample::select(names),
            prop::collection::vec(inner, 0..4),
            prop::sample::select(vec!["", ".a", ".text", ".Major"]),
        )
            .prop_map(|(name, args, field)| format!("({name} {}){field}", args.join(" ")))
    })
}

fn action() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{{ end }}",
        "{{ else }}",
        "{{ range until 3 }}",
        "{{ if .text }}",
        "{{ with .json }}",
        "{{ break }}",
        "{{ define \"t\" }}",
        "{{ template \"t\" . }}",
        "{{- /* c */ -}}",
        " ",
        "x\n",
        "{{",
        "}}",
        "\"",
        "{{ $x := .text }}",
        "{{ $x }}",
        "{{ fail $x }}",
    ])
    .prop_map(str::to_owned);
    prop_oneof![
        3 => operand().prop_map(|operand| format!("{{{{ {operand} }}}}")),
        1 => (operand(), operand()).prop_map(|(a, b)| format!("{{{{ {a} | print {b} | fail }}}}")),
        1 => operand().prop_map(|operand| format!("{{{{ range $k, $v := {operand} }}}}{{{{ fail $v }}}}{{{{ end }}}}")),
        1 => operand().prop_map(|operand| format!("{{{{ with {operand} }}}}{{{{ .x }}}}{{{{ end }}}}")),
        2 => word,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn templates_of_calls(actions in prop::collection::vec(action(), 1..4)) {
        fails_safely(actions.concat().as_bytes())?;
    }

    #[test]
    fn any_bytes(text in prop::collection::vec(any::<u8>(), 0..60)) {
        fails_safely(&text)?;
        fails_safely(&[b"{{ ", text.as_slice(), b" }}"].concat())?;
    }

    #[test]
    fn any_pieces(text in "(\\{\\{|\\}\\}|-| |\\.[a-z]|\\$x?|:?=|\\||\\(|\\)|\"|`|'|[0-9eEi+_x]|if|end|range|nil|printf|%[#+0*.a-zA-Z\\[\\]0-9]){0,25}") {
        fails_safely(text.as_bytes())?;
    }

    #[test]
    fn any_format(format in "[%#+ 0*.\\[\\]0-9a-zA-Z-]{0,20}", operand in operand()) {
        fails_safely(format!("{{{{ printf {format:?} {operand} 1 \"x\" 2.5 }}}}").as_bytes())?;
    }
}
