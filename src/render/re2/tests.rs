//! What the translation to the regex crate must keep of Go.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;

use super::*;
use crate::render::rewrite::testing::outside;

#[test]
fn an_expression_of_many_states_costs_more() {
    let states = |pattern: &str| Price::of(pattern).states;
    assert_eq!(states("abc"), 3);
    assert_eq!(states("[a-f][a-z0-9]{1000}[^a-z0-9]"), 1 + 3 * 1000 + 5);
    assert_eq!(states("(.*){1000}_"), 8 * 1000 + 1);
    assert!(states(r"\pL{100}") > 10_000);
    assert_eq!(states("(a+|b)*c"), 7);
    let (small, large) = (Price::of("a+b|a"), Price::of("[a-f][a-z0-9]{1000}x"));
    assert_eq!((small.of_finding(4096), small.of_groups(1000)), (5, 5));
    assert!(large.of_finding(4096) > 7_000 && large.of_groups(1000) > 2_000);
}

#[test]
fn a_search_is_charged_for_what_it_may_look_at() {
    let reach = |pattern: &str| Price::of(pattern).reach;
    for (pattern, wanted) in [
        ("abc", Some(3 + 4)),
        ("[[:space:]]+", Some(1 + 4)),
        ("(?:ab)+", Some(2 + 4)),
        ("([a-z]*)", Some(1 + 4)),
        ("[a-z]{3,}", Some(3 + 4)),
        ("a.{2}#[0-9]*", Some(1 + 2 * 4 + 1 + 1 + 4)),
        ("[0-9]+|abcdefg", Some(7 + 4)),
        // each of these may go on for long in search of its end
        ("a+b|a", None),
        ("a+$", None),
        (r"\s*,\s*", None),
        ("(a*b)+", None),
        (".*", Some(4 + 4)),
    ] {
        assert_eq!(reach(pattern), wanted, "{pattern}");
    }
    let (words, far) = (Price::of("[a-z]+"), Price::of("a+b|a"));
    assert_eq!((words.looked_at(10, &(20..30), 1000), words.looked_at(990, &(990..1000), 1000)), (20 + 5, 10));
    assert_eq!(far.looked_at(10, &(20..30), 1000), 980);
}

#[test]
fn dollars_expand_as_in_go() {
    let all = Expression::new("(.*)").unwrap();
    for (template, want) in
        [("my_$1", "my_key"), ("$1_x", ""), ("${1}_x", "key_x"), ("a$$b", "a$b"), ("$01", ""), ("$", "$")]
    {
        assert_eq!(all.replace_all("key", template, outside()).as_deref(), Ok(want), "{template}");
    }
}

#[test]
fn what_bytes_expand_to_has_a_bound() {
    let all = compile_bytes("a+").unwrap();
    let captures = all.captures(b"aaa").unwrap();
    for (template, most, want) in [("$0-$0", 7, Some("aaa-aaa")), ("$0-$0", 6, None), ("xyz", 2, None), ("$", 1, Some("$"))]
    {
        assert_eq!(expand_bytes(&captures, template.as_bytes(), most).as_deref(), want.map(str::as_bytes), "{template}");
    }
}

fn error(pattern: &str) -> String {
    compile(pattern).unwrap_err().to_string()
}

/// What Go itself says of many more is in `tests/vectors/regexp.jsonl`.
#[test]
fn errors_are_those_of_go() {
    assert_eq!(error("x(a"), "error parsing regexp: missing closing ): `x(a`");
    assert_eq!(error("é[a(b"), "error parsing regexp: missing closing ]: `[a(b`");
    assert_eq!(error(r"é\x{zz}"), r"error parsing regexp: invalid escape sequence: `\x{z`");
    assert_eq!(error("aé**?b"), "error parsing regexp: invalid nested repetition operator: `**?`");
    assert_eq!(error("((a{10}b){10}|c){11}"), "error parsing regexp: invalid repeat count: `{11}`");
    assert!(compile("(((a{0}b){10}){10}|c{10}){10}").is_ok());
    assert!(compile("((a{10}b){0}c){1000}").is_ok(), "what is repeated no times does not count");
}

#[test]
fn what_only_we_refuse_has_a_reason_of_ours() {
    let long = "a".repeat(20_000);
    let want = format!("error parsing regexp: expression too large: `{}`: it is longer than 10,000 bytes", &long[..1000]);
    assert_eq!(error(&long), want);
    assert_eq!(
        error(r"\pL{1000}"),
        r"error parsing regexp: expression too large: `\pL{1000}`: it takes more than 2 MiB when compiled"
    );
    let deep = format!("{}{}", "(".repeat(300), ")".repeat(300));
    let want = format!("error parsing regexp: expression nests too deeply: `{deep}`: it has more than 250 levels");
    assert_eq!(error(&deep), want);
    assert_eq!(error("(?P<n>a)(?P<n>b)"), "error parsing regexp: duplicate capture group name: `(?P<n>a)(?P<n>b)`");
}

#[test]
fn an_expression_of_a_template_is_not_shown() {
    let error = |pattern: &str| compile_bytes(pattern).unwrap_err();
    assert_eq!(error("s3cr3t("), "error parsing regexp: missing closing )");
    assert_eq!(error(r"s3cr3t\8"), "error parsing regexp: invalid escape sequence");
    assert_eq!(error("(?<s3cr3t>)(?<s3cr3t>)"), "error parsing regexp: duplicate capture group name");
    assert_eq!(error(&"s3cr3t".repeat(2000)), "error parsing regexp: expression too large: it is longer than 10,000 bytes");
}

/// Names are Go's: categories and scripts alone.
#[test]
fn sets_of_unicode() {
    for (pattern, text, found) in [
        (r"^\p{Greek}$", "α", true),
        (r"^\p{^Greek}$", "α", false),
        (r"^\P{^Greek}$", "α", true),
        (r"^[\P{Lu}]$", "a", true),
        (r"^\p{LC}$", "a", true),
        (r"^\p{Any}$", "a", true),
    ] {
        assert_eq!(compile(pattern).map(|regex| regex.is_match(text)), Ok(found), "{pattern}");
    }
    for pattern in [r"\p{Alphabetic}", r"\p{sc=Greek}", r"\p{Script:Greek}", r"\p{Gréek}", r"\pX", r"\p{}", r"\p"] {
        assert_eq!(error(pattern), format!("error parsing regexp: invalid character class range: `{pattern}`"));
    }
}

proptest! {
    #[test]
    fn never_panics(pattern in r"[a\\\[\](){}?*+^$|:.,<>P0-9wdsbQE&~\-]{0,20}", text in ".{0,10}", template in r"[$\{\}a1_]{0,8}") {
        if let Ok(expression) = Expression::new(&pattern) {
            let _ = expression.replace_all(&text, &template, outside());
        }
    }
}
