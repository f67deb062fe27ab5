//! Nothing takes more than it may.

use std::cell::Cell;

use super::{Limits, Sequence, Stage, render, scope};
use crate::render::template::{Engine, Scope};

fn fails(text: &str, why: &str) {
    let error = render(text, &[("v", b"value")]).unwrap_err().to_string();
    assert!(error.contains(why), "{text}: {error}");
}

#[test]
fn of_size() {
    fails(r#"{{ repeat 100000000 "x" }}"#, "a value would be longer than");
    fails(r#"{{ repeat 9223372036854775807 "xy" }}"#, "a value would be longer than");
    fails(r#"{{ indent 9000000000 "a\nb" }}"#, "a value would be longer than");
    fails(r#"{{ nindent 9223372036854775807 "a" }}"#, "a value would be longer than");
    fails("{{ until 1000000000 }}", "a value would be longer than");
    fails("{{ untilStep 0 9223372036854775807 1 }}", "a value would be longer than");
    fails("{{ seq 1 9223372036854775806 }}", "a value would be longer than");
    fails(r#"{{ replace "" (repeat 100000 "x") (repeat 100000 "y") }}"#, "a value would be longer than");
    fails(r#"{{ regexReplaceAll "" (repeat 100000 "x") (repeat 100000 "y") }}"#, "longer than");
    fails(r#"{{ regexReplaceAll "(?s)^.*$" (repeat 100000 "a") (repeat 100000 "$0") }}"#, "a value would be longer than");
    fails("{{ randAlphaNum 1000000000 }}", "a value would be longer than");
    fails("{{ randBytes 1000000000 }}", "a value would be longer than");
    fails(r#"{{ $x := "ab" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}"#, "a value would be longer than");
    fails(
        r#"{{ $x := repeat 1000000 "x" }}{{ range until 100 }}{{ $y := upper $x }}{{ end }}"#,
        "values of the template take more",
    );
    fails(r#"{{ $x := repeat 1000000 "x" }}{{ range until 4 }}{{ $x }}{{ end }}"#, "the result is longer than");
    fails(r#"{{ $l := list 1 }}{{ range until 60 }}{{ $l = concat $l $l }}{{ end }}"#, "longer than");
    fails(r#"{{ printf (repeat 10 "%1000000[1]v") nil }}"#, "a value would be longer than");
    fails(r#"{{ $x := repeat 1000000 "x" }}{{ join "" (list $x $x $x $x $x $x $x $x) | len }}"#, "longer than");
    fails(r#"{{ $x := repeat 1000000 "x" }}{{ range until 200 }}{{ $y := contains "y" $x }}{{ end }}"#, "takes more than");
    fails(&"{{ $x := 1 }}".repeat(501), "more than 500 variables");
    assert_eq!(render(r#"{{ printf "%1000000d" 1 | len }}"#, &[]).unwrap(), b"1000000");
    fails(r#"{{ printf "%10000001d" 1 }}"#, "a value would be longer than");
    assert_eq!(render(r#"{{ printf "%99999999999d" 1 }}"#, &[]).unwrap(), b"%!(NOVERB)%!(EXTRA int=1)");
}

#[test]
fn of_steps() {
    fails("{{ range 9223372036854775807 }}{{ end }}", "takes more than 2000000 steps");
    fails("{{ range until 9999 }}{{ range until 9999 }}{{ end }}{{ end }}", "takes more than");
    fails("{{ $l := list 1 2 }}{{ range until 40 }}{{ $l = list $l $l }}{{ end }}{{ deepEqual $l $l }}", "takes more than");
    fails("{{ $l := list 1 2 }}{{ range until 40 }}{{ $l = list $l $l }}{{ end }}{{ toJson $l }}", "more than");
    fails("{{ $l := list 1 2 }}{{ range until 40 }}{{ $l = list $l $l }}{{ end }}{{ $l }}", "more than");
    fails("{{ $l := list 1 2 }}{{ range until 40 }}{{ $l = list $l $l }}{{ end }}{{ deepCopy $l }}", "more than");
}

/// Aliases make much of a short text, also where that is too much in the end.
#[test]
fn of_values_of_aliases() {
    let tenfold: String =
        (1..6).map(|i| format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(","))).collect();
    let text = format!("a0: &a0 [{}]\n{tenfold}", ["x"; 10].join(","));
    let render = |template: &str| render(template, &[("v", text.as_bytes())]);
    assert!(render(r#"{{ (fromYaml .v).Error }}"#).unwrap().ends_with(b"aliases make it too large"));
    let error = render(r#"{{ range until 1000 }}{{ $_ := fromYaml $.v }}{{ end }}"#).unwrap_err().to_string();
    assert!(error.contains("takes more than 2000000 steps"), "{error}");
}

/// All of a map is copied for a look at its first entry.
#[test]
fn of_copies_of_maps() {
    let json = |first: &str| -> String {
        let keys: String = (1000..5000).map(|i| format!(r#","k{i}":1"#)).collect();
        format!(r#"{{"{first}":1{keys}}}"#)
    };
    let (one, other) = (json("a"), json("b"));
    let values = scope(&[("v", one.as_bytes()), ("w", other.as_bytes())]);
    let chance = Sequence::default();
    for (each, many) in [
        ("{{ range $d }}{{ break }}{{ end }}", 30),
        ("{{ $_ := values $d }}", 30),
        ("{{ $_ := urlJoin $d }}", 30),
        ("{{ if deepEqual $d $e }}{{ end }}", 15),
    ] {
        let limits = Limits { steps: 16_000, ..Limits::default() };
        let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
        let made = |times: usize| {
            let read = "{{ $d := fromJson .v }}{{ $e := fromJson .w }}";
            engine.render("x", format!("{read}{{{{ range until {times} }}}}{each}{{{{ end }}}}"), &values)
        };
        assert!(made(2).is_ok(), "{each}");
        let reason = made(many).unwrap_err().reason;
        assert!(reason.contains("takes more than 16000 steps"), "{each}: {reason}");
    }
}

/// A text of aliases takes what they stand for, each time that it is read.
#[test]
fn of_bytes_of_aliases() {
    let text = format!("a: &a {}\n{}", "x".repeat(10_000), (0..30).map(|i| format!("k{i}: *a\n")).collect::<String>());
    let (chance, values) = (Sequence::default(), scope(&[("v", text.as_bytes())]));
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let made = |times: usize| {
        let read = "{{ $l := list }}{{ range until TIMES }}{{ $l = append $l (fromYaml $.v) }}{{ end }}{{ len $l }}";
        engine.render("x", read.replace("TIMES", &times.to_string()), &values)
    };
    assert_eq!(made(2).unwrap().expose_str(), Some("2"));
    let reason = made(4).unwrap_err().reason;
    assert!(reason.contains("the values of the template take more than 1048576 bytes"), "{reason}");
}

/// A map that goes gives its bytes back.
#[test]
fn of_maps_at_a_time() {
    let text = format!("[{}]", vec!["{}"; 100].join(","));
    let (chance, values) = (Sequence::default(), scope(&[("v", text.as_bytes())]));
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let made = |each: &str| {
        let text = format!("{{{{ $l := list }}}}{{{{ range until 40 }}}}{{{{ {each} }}}}{{{{ end }}}}");
        engine.render("x", text, &values).map_err(|error| error.reason)
    };
    assert!(made("$_ := fromJson $.v").is_ok());
    let reason = made("$l = append $l (fromJson $.v)").unwrap_err();
    assert!(reason.contains("the values of the template take more than 1048576 bytes"), "{reason}");
}

/// A map is copied to go through it, as often as that goes on at a time.
#[test]
fn of_copies_of_maps_at_a_time() {
    let keys: Vec<String> = (1000..6000).map(|i| format!(r#""k{i}":1"#)).collect();
    let text = format!("{{{}}}", keys.join(","));
    let (chance, values) = (Sequence::default(), scope(&[("v", text.as_bytes())]));
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let made = |then: &str| engine.render("x", format!("{{{{ $d := fromJson .v }}}}{then}"), &values);
    let nested = |levels: usize| "{{ range $d }}".repeat(levels) + &"{{ break }}{{ end }}".repeat(levels);
    assert!(made(&nested(2)).is_ok());
    assert!(made(&format!("{{{{ range until 20 }}}}{}{{{{ end }}}}", nested(1))).is_ok());
    let itself = |each: &str| format!(r#"{{{{ $_ := set $d "a" $d }}}}{{{{ {each} }}}}"#);
    for then in [nested(6), itself("toJson $d"), itself("toYaml $d"), itself("print $d"), itself("deepCopy $d")] {
        let reason = made(&then).unwrap_err().reason;
        assert!(reason.contains("the values of the template take more than 1048576 bytes"), "{then}: {reason}");
    }
}

/// Strings in lists and maps take as much as those that stand alone, and so do elements and entries.
#[test]
fn of_pieces() {
    let text = vec![b'a'; 100_000];
    let (chance, values) = (Sequence::default(), scope(&[("v", &text)]));
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let many = format!("list {}", "$ ".repeat(1_000));
    let short = format!("deepCopy (list {})", "(list 1) ".repeat(200));
    for (piece, few, most) in [
        ("regexFindAll `a+` $.v -1", 5, 15),
        ("regexSplit `!` $.v -1", 5, 15),
        ("splitList `!` $.v", 5, 15),
        ("split `!` $.v", 5, 15),
        ("splitn `!` 2 $.v", 5, 15),
        ("urlParse $.v", 5, 15),
        ("toStrings (list $.v)", 3, 15),
        ("sortAlpha (list $.v)", 3, 15),
        (&*many, 20, 80),
        (&*short, 10, 40),
    ] {
        let made = |times: usize| {
            let append = format!("{{{{ $l = append $l ({piece}) }}}}");
            let text = format!("{{{{ $l := list }}}}{{{{ range until {times} }}}}{append}{{{{ end }}}}{{{{ len $l }}}}");
            engine.render("x", text, &values)
        };
        assert_eq!(made(few).unwrap().expose_str(), Some(&*few.to_string()), "{piece}");
        let reason = made(most).unwrap_err().reason;
        assert!(reason.contains("the values of the template take more than 1048576 bytes"), "{piece}: {reason}");
    }
}

/// A template takes hundreds of bytes for each part of it, however short that is.
#[test]
fn of_parts() {
    assert_eq!(render(&"{{1}}".repeat(24_999), &[]).unwrap(), "1".repeat(24_999).as_bytes());
    for part in ["{{1}}", "{{.v}}x", "{{list 1 2 3}}", "{{if true}}{{end}}", "{{$.v.v}}", "{{ (((1))) }}"] {
        let error = render(&part.repeat(30_000), &[]).unwrap_err();
        assert_eq!(error.stage, Stage::Parse, "{part}");
        assert!(
            error.reason.contains("more than 50000 texts, actions and operands in one template"),
            "{part}: {}",
            error.reason
        );
    }
}

/// Arguments and fields are looked at each time.
#[test]
fn of_long_calls() {
    let chance = Sequence::default();
    let limits = Limits { steps: 100_000, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let and = |times: usize| format!("{{{{ range {times} }}}}{{{{ and {}}}}}{{{{ end }}}}", "1 ".repeat(8_000));
    let fields = |times: usize| {
        let down = format!("{{{{ range {times} }}}}{{{{ if $d{} }}}}{{{{ end }}}}{{{{ end }}}}", ".d".repeat(8_000));
        r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}"#.to_owned() + &down
    };
    for (few, many) in [(and(50), and(200)), (fields(50), fields(200))] {
        assert!(engine.render("x", few, &scope(&[])).is_ok());
        let reason = engine.render("x", many, &scope(&[])).unwrap_err().reason;
        assert!(reason.contains("takes more than 100000 steps"), "{reason}");
    }
}

/// A map of one entry takes hundreds of bytes.
#[test]
fn of_maps() {
    let chance = Sequence::default();
    let limits = Limits { memory: 1 << 20, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    for read in ["fromJson", "fromYaml"] {
        let made = |items: usize| {
            let text = format!(r#"{{"l":[{}]}}"#, vec![r#"{"a":{"a":{}}}"#; items].join(","));
            engine.render("x", format!("{{{{ len ({read} .v).l }}}}"), &scope(&[("v", text.as_bytes())]))
        };
        assert_eq!(made(200).unwrap().expose_str(), Some("200"), "{read}");
        let reason = made(600).unwrap_err().reason;
        assert!(reason.contains("the values of the template take more than 1048576 bytes"), "{read}: {reason}");
    }
}

/// Each line of a text is indented as far as the dictionaries around it go, which is paid for before it is written.
#[test]
fn of_indentation() {
    let chance = Sequence::default();
    let limits = Limits { memory: 400_000, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let deep = r#"{{ $d := .v }}{{ range until 90 }}{{ $d = dict "a" $d }}{{ end }}{{ toYaml $d | len }}"#;
    for text in ["a\n", "a "] {
        let render = |times: usize| {
            let text = format!("{}b", text.repeat(times));
            engine.render("x", deep, &scope(&[("v", text.as_bytes())]))
        };
        assert!(render(500).is_ok());
        let reason = render(2000).unwrap_err().reason;
        assert!(reason.contains("the values of the template take more than 400000 bytes"), "{reason}");
    }
}

/// One object may have many templates, each within its own bound.
#[test]
fn of_steps_of_several_templates() {
    let (chance, taken) = (Sequence::default(), Cell::new(0));
    let engine = Engine { taken: Some(&taken), ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let long = "{{ range 600000 }}{{ end }}";
    let made: Vec<_> = (0..20).map(|_| engine.render("x", long, &scope(&[]))).collect();
    let good = made.iter().take_while(|made| made.is_ok()).count();
    assert!((3..12).contains(&good), "{good}");
    let error = made[good].as_ref().unwrap_err().to_string();
    assert!(error.contains("take more than 4000000 steps together"), "{error}");
    assert!(made[good..].iter().all(Result::is_err));
    assert!(engine.render("x", "", &scope(&[])).is_err(), "not even one that does nothing");
}

/// What is never run must be parsed all the same.
#[test]
fn of_what_is_only_parsed() {
    let (chance, taken) = (Sequence::default(), Cell::new(0));
    let engine = Engine { taken: Some(&taken), ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let idle = format!("{{{{ if false }}}}{}{{{{ end }}}}", "{{ .xxxxxxxxx }}".repeat(20_000));
    assert!(engine.render("x", &idle, &scope(&[])).is_ok());
    assert!(taken.get() > 10_000, "{}", taken.get());
    let rest = (0..1000).take_while(|_| engine.render("x", &idle, &scope(&[])).is_ok()).count();
    assert!((300..500).contains(&rest), "{rest}");
}

/// All values are copied, also for a template that looks at none of them: once for all that share them.
#[test]
fn of_copies_of_the_scope() {
    let (chance, taken) = (Sequence::default(), Cell::new(0));
    let engine = Engine { taken: Some(&taken), ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let large = vec![b'x'; 1 << 20];
    let values = scope(&[("a", &large[..]), ("b", b"1"), ("c", b"2"), ("d", b"3")]);
    for times in 1..=3 {
        assert!(engine.render("x", "", &values).is_ok());
        assert_eq!(taken.get(), times * (256 + 1));
    }
    taken.set(0);
    let shared = Scope::of(&values);
    for _ in 0..3 {
        assert_eq!(engine.render_in("x", "", &shared).map(|made| made.len()), Ok(0));
        assert_eq!(taken.get(), 256 + 1);
    }
}

/// Each match is charged for all that it may have looked at, and for more where it may have to say where its groups are.
#[test]
fn of_what_expressions_look_at() {
    let text = [b'a'; 4096];
    let chance = Sequence::default();
    for (template, steps, wanted) in [
        // in search of a b, each of the 4096 matches looks at all the rest
        (r#"{{ regexFindAll "a+b|a" .v -1 | len }}"#, 7_000, None),
        (r#"{{ regexSplit "a+b|a" .v -1 | len }}"#, 7_000, None),
        (r#"{{ regexReplaceAll "a+b|a" .v "" }}"#, 20_000, None),
        (r#"{{ regexReplaceAllLiteral "a+b|a" .v "" }}"#, 20_000, None),
        (r#"{{ regexFindAll "a+b|a" .v -1 | len }}"#, 20_000, Some("4096")),
        // one match
        (r#"{{ regexFindAll "a+" .v -1 | len }}"#, 7_000, Some("1")),
        (r#"{{ regexReplaceAll "a+" .v "b" }}"#, 7_000, Some("b")),
    ] {
        let limits = Limits { steps, ..Limits::default() };
        let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
        let made = engine.render("x", template, &scope(&[("v", &text)]));
        match wanted {
            Some(wanted) => assert_eq!(made.unwrap().expose_str(), Some(wanted), "{template}"),
            None => {
                let error = made.unwrap_err().reason;
                assert!(error.contains(&format!("takes more than {steps} steps")), "{template}: {error}");
            }
        }
    }
}

/// Plain use of a long text.
#[test]
fn of_words_of_a_text() {
    let text = "words and\n".repeat(15_000);
    let values = [("v", text.as_bytes())];
    let made = |template: &str| String::from_utf8(render(template, &values).unwrap()).unwrap();
    assert_eq!(made(r#"{{ regexReplaceAll "[[:space:]]+" .v " " }}"#), "words and ".repeat(15_000));
    assert_eq!(made(r#"{{ regexSplit "[[:space:]]+" .v -1 | len }}"#), "30001");
    assert_eq!(made(r#"{{ regexFindAll "[a-z]+" .v -1 | len }}"#), "30000");
}

/// A zone may be called by its offset, and is printed as often as a layout asks: four digits are enough. Go takes zeros without
/// end before the hours.
#[test]
fn of_names_of_zones() {
    for (zone, shown) in [("+0005", "00:00:00 +0000 +0005"), ("GMT+0005", "05:00:00 +0500 GMT+0005")] {
        let text = format!(r#"{{{{ mustToDate "2006 MST" "2024 {zone}" }}}}"#);
        assert_eq!(render(&text, &[]).unwrap(), format!("2024-01-01 {shown}").as_bytes());
    }
    for zone in ["+00005", "-00005", "GMT+00005"] {
        fails(&format!(r#"{{{{ mustToDate "2006 MST" "2024 {zone}" }}}}"#), "the text is no date of that layout");
    }
}

#[test]
fn of_depth() {
    fails(r#"{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}"#, "nested more than 150 deep");
    fails(&format!("{{{{ {}1", "(".repeat(5000)), "nested more than 60 deep");
    fails(&"{{ if true }}".repeat(5000), "nested more than 60 deep");
    fails("{{ $l := list }}{{ range until 5000 }}{{ $l = list $l }}{{ end }}{{ $l }}", "nested more than 100 deep");
    fails("{{ $l := list }}{{ range until 5000 }}{{ $l = list $l }}{{ end }}{{ toYaml $l }}", "nested more than 100 deep");
    fails(r#"{{ fromJson (print (repeat 5000 "[") (repeat 5000 "]")) }}"#, "nested more than 100 deep");
    fails(r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ $d }}"#, "or holds itself");
    fails(r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ toPrettyJson $d }}"#, "or holds itself");
    fails(r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ mustDeepCopy $d }}"#, "or holds itself");
    fails(r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ deepEqual $d (deepCopy $d) }}"#, "or holds itself");
    fails(
        r#"{{ $d := dict }}{{ $_ := set $d "d" $d }}{{ $e := dict }}{{ $_ := set $e "d" $e }}{{ merge $d $e }}"#,
        "holds itself",
    );
    let chain = format!("{{{{ if false }}}}{}{{{{ else }}}}last{{{{ end }}}}", "{{ else if false }}".repeat(2000));
    assert_eq!(render(&chain, &[]).unwrap(), b"last", "else-if is no nesting");
    let recursive =
        r#"{{ define "r" }}{{ if gt . 0 }}{{ . }}{{ template "r" (sub . 1) }}{{ end }}{{ end }}{{ template "r" 20 }}"#;
    assert!(render(recursive, &[]).is_ok());
}

#[test]
fn of_the_template() {
    let chance = Sequence::default();
    let limits = Limits { source: 10, ..Limits::default() };
    let engine = Engine { limits, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    assert_eq!(engine.render("x", "0123456789a", &scope(&[])).unwrap_err().stage, Stage::Parse);
    assert!(engine.render("x", "0123456789", &scope(&[])).is_ok());
}
