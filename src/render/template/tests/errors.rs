//! Errors say where and why, and never a value.

use super::render;

fn error(text: &str) -> String {
    let entries: &[(&str, &[u8])] = &[("here", b"s3cr3t"), ("json", br#"{"inner":"s3cr3t"}"#), ("num", b"s3cr3t")];
    let error = render(text, entries).unwrap_err().to_string();
    assert!(!error.contains("s3cr3t"), "{error}");
    error
}

#[test]
fn a_missing_key_says_what_is_there() {
    assert_eq!(
        error("a\n  {{ .gone }}"),
        "unable to execute template at key x: template: x:2:5: executing \"x\" at <.gone>: map has no entry for key \"gone\" (there \
         are: here, json, num)"
    );
    assert_eq!(
        render("{{ .gone }}", &[]).unwrap_err().reason,
        "executing \"x\" at <.gone>: map has no entry for key \"gone\" (there are none)"
    );
    // Keys of other maps come from inside a value.
    let nested = error("{{ (fromJson .json).gone }}");
    assert!(nested.ends_with("map has no entry for key \"gone\"") && !nested.contains("inner"), "{nested}");
    let many: Vec<(String, Vec<u8>)> = (0..30).map(|i| (format!("k{i:02}"), Vec::new())).collect();
    let entries: Vec<(&str, &[u8])> = many.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
    assert!(render("{{ .gone }}", &entries).unwrap_err().reason.ends_with("k18, k19, and 10 more)"));
}

#[test]
fn a_text_that_is_no_template() {
    for (text, want) in [
        ("{{ .dash-key }}", "x:1:8: bad character U+002D '-'"),
        ("a\nb {{ end }}", "x:2:5: unexpected {{end}}"),
        ("{{ nope }}", "x:1:3: function \"nope\" not defined"),
        ("{{ if .here }}", "x:1:14: unexpected EOF: an {{end}} is missing"),
        ("{{ .here \"s3cr3t\" := }}", "x:1:18: unexpected \":=\" in operand"),
        ("{{ $x }}", "x:1:3: undefined variable \"$x\""),
        ("{{ \"s3cr3t", "x:1:3: unterminated quoted string"),
    ] {
        let error = error(text);
        assert!(error.starts_with("unable to parse template at key x: template: x:"), "{error}");
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn strings_of_the_template_are_not_shown_either() {
    let error = error(r#"{{ printf "s3cr3t" | index .here "s3cr3t" }}"#);
    assert!(error.contains("executing \"x\" at <index .here \"…\">"), "{error}");
}

#[test]
fn functions_fail_without_their_arguments() {
    for text in [
        "{{ until .here }}",
        "{{ .here | mustFromJson }}",
        "{{ semver .here }}",
        "{{ mustToDate \"2006\" .here }}",
        "{{ urlParse (print \"http://[\" .here) }}",
        "{{ mustRegexMatch (print \"(\" .here) .here }}",
        "{{ range .here }}{{ end }}",
        "{{ .here.deeper }}",
        "{{ index .here .here }}",
        "{{ dig .here .here .here }}",
        "{{ eq .here 5 }}",
        "{{ template \"x\" .here }}{{ div 1 .num }}",
        "{{ mustDateModify .here now }}",
    ] {
        error(text);
    }
}

/// `fail` shows its argument only where nothing but the template's author can have written it.
#[test]
fn fail_shows_what_the_author_wrote() {
    assert!(error(r#"{{ fail "set a host" }}"#).ends_with("error calling fail: set a host"));
    assert!(error(r#"{{ fail (printf "%s %d" "set" 5) }}"#).ends_with("error calling fail: set 5"));
    let hidden = "the template failed on purpose (its message is made from values, so it is not shown)";
    for text in [
        "{{ fail .here }}",
        "{{ .here | fail }}",
        "{{ fail (print \"x\" .here) }}",
        "{{ $x := .here }}{{ fail $x }}",
        "{{ with .here }}{{ fail . }}{{ end }}",
        "{{ range splitList \"\" .here }}{{ fail (print .) }}{{ end }}",
        "{{ fail (index . \"here\") }}",
        "{{ fail ((dict \"a\" .here).a) }}",
    ] {
        assert!(error(text).ends_with(hidden), "{text}");
    }
}

#[test]
fn the_place_is_that_of_the_call() {
    let error = error("{{ if true }}\n{{ upper (add 1 (div 5 0) | toString) }}\n{{ end }}");
    assert!(error.contains("x:2:17: executing \"x\" at <div 5 0>: error calling div: integer divide by zero"), "{error}");
    let inner = render("{{ define \"t\" }}\n{{ .x }}{{ end }}{{ template \"t\" . }}", &[]).unwrap_err();
    assert_eq!((inner.line, inner.column), (2, 3));
    assert!(inner.reason.starts_with("executing \"t\" at <.x>"), "{inner}");
}
