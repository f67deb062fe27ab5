use proptest::prelude::*;

use super::*;

fn text(json: &str, path: &str) -> Option<String> {
    get(json.as_bytes(), path).map(|v| String::from_utf8_lossy(&v.to_string_bytes()).into_owned())
}

/// Golden cases data-01 to data-05.
#[test]
fn paths_of_the_conformance_cases() {
    let svc = r#"{ "svc": { "mq" : {"user":"carrot", "opts" : {"z":1,  "a":[ 1,2 ]} } } }"#;
    let nodes =
        r#"{"nodes":[{"id":"n1","cpu":4,"tags":["x","y"]},{"id":"n2","cpu":8,"tags":[]}],"grid":[[1,2],[3,4]],"none":[]}"#;
    let team = r#"{"people":[{"nick":"ada","age":36,"pets":["owl"]},{"nick":"bo","age":29,"pets":["cat"]},{"nick":"dee","on":true}]}"#;
    let odd = r#"{"a.b":"dot","a":{"b":"nested","b.c":"inner"},"st*r":"star","@at":"at","back\\slash":"bs","pi|pe":"pipe"}"#;
    let table = [
        (svc, "svc.mq.user", Some("carrot")),
        (svc, "svc.mq.opts", Some(r#"{"z":1,  "a":[ 1,2 ]}"#)),
        (svc, "svc.mq.opts.a.1", Some("2")),
        (nodes, "nodes.#", Some("2")),
        (nodes, "nodes.#.id", Some(r#"["n1","n2"]"#)),
        (nodes, "nodes.#.tags.#", Some("[2,0]")),
        (nodes, "grid.#.0", Some("[1,3]")),
        (nodes, "none", Some("[]")),
        (nodes, "none.#", Some("0")),
        (nodes, "nodes.7", None),
        (team, r#"people.#(pets.#(=="cat")).nick"#, Some("bo")),
        (team, "people.#(age>20)#.pets.0", Some(r#"["owl","cat"]"#)),
        (team, "people.#(age>20)#|#", Some("2")),
        (team, "people.#(on==~false)#.nick", Some(r#"["ada","bo"]"#)),
        (team, r#"people.#(nick!%"*e*")#.nick"#, Some(r#"["ada","bo"]"#)),
        (odd, r"a\.b", Some("dot")),
        (odd, r"a.b\.c", Some("inner")),
        (odd, r"st\*r", Some("star")),
        (odd, r"\@at", Some("at")),
        (odd, r"back\\slash", Some("bs")),
        (odd, r"pi\|pe", Some("pipe")),
        (odd, "*.b", Some("nested")),
    ];
    for (json, path, want) in table {
        assert_eq!(text(json, path).as_deref(), want, "{path}");
    }
}

#[test]
fn a_literal_key_wins_over_a_path() {
    let value = SecretBytes::from(r#"{"a":{"b":"nested"},"a.b":"literal","c":{"d":"nested"}}"#);
    assert_eq!(escaped_then_path(&value, "a.b").unwrap().expose_str(), Some("literal"));
    assert_eq!(escaped_then_path(&value, "c.d").unwrap().expose_str(), Some("nested"));
    assert!(escaped_then_path(&value, "c.e").is_none());
    assert_eq!(exact_then_path(&value, "a.b").unwrap().expose_str(), Some("literal"));
    assert_eq!(exact_then_path(&value, "c.d").unwrap().expose_str(), Some("nested"));
    let star = SecretBytes::from(r#"{"ab":"wild","a*":"exact"}"#);
    assert_eq!(exact_then_path(&star, "a*").unwrap().expose_str(), Some("exact"));
    assert_eq!(escaped_then_path(&star, "a*").unwrap().expose_str(), Some("wild"));
}

/// Golden case from-01.
#[test]
fn entries_of_an_object() {
    let value = SecretBytes::from(
        r#"{"s":"text","f":1.50,"e":1e3,"t":true,"n":null,"o":{"b" : 1,"a":"<>"},"u":"\u00e9","big":12345678901234567890,"s":"last"}"#,
    );
    let entries = object_entries(&value).unwrap();
    let view: Vec<_> = entries.iter().map(|(k, v)| (k.as_str(), v.expose_str().unwrap())).collect();
    let want = [
        ("big", "12345678901234567890"),
        ("e", "1e3"),
        ("f", "1.50"),
        ("n", ""),
        ("o", r#"{"b" : 1,"a":"<>"}"#),
        ("s", "last"),
        ("t", "true"),
        ("u", "é"),
    ];
    assert_eq!(view, want);
    assert_eq!(raw_entries(&value).unwrap()["s"].expose_str(), Some("\"last\""));
    for bad in ["[1]", "\"x\"", "{", "5", "{\"a\":1} x"] {
        assert!(object_entries(&SecretBytes::from(bad)).is_none(), "{bad}");
        assert!(!is_json_object(&SecretBytes::from(bad)), "{bad}");
    }
    assert!(is_json_object(&value));
    assert!(object_entries(&SecretBytes::from("null")).unwrap().is_empty());
}

/// Each of these would take Go minutes, gigabytes or its whole stack.
#[test]
fn hostile_paths_find_nothing_soon() {
    let long = format!("{{\"a\":\"{}\"}}", "a".repeat(200_000));
    let deep = "[".repeat(100_000);
    let doubling = "[@this,@this]|".repeat(60) + "@this";
    let digs = "@dig:".repeat(60) + "a";
    let stars = format!("#(a%\"{}b\")", "*a".repeat(2000));
    let steps = "0.".repeat(100_000);
    let started = std::time::Instant::now();
    for (json, path) in [
        (long.as_str(), doubling.as_str()),
        (&format!("[{long}]"), &stars),
        (&deep, &digs),
        (&deep, &steps),
        (&deep, "@pretty"),
        (&deep, "@flatten:{\"deep\":true}"),
        (&deep, &"@reverse|".repeat(100_000)),
        (&deep, &"[".repeat(100_000)),
    ] {
        let _ = text(json, path);
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(60), "bounded even without optimization");
}

/// A long key or indent comes again with each element, so it is paid for before it is written.
#[test]
fn modifiers_pay_for_what_they_repeat() {
    let indent = " ".repeat(40);
    for (path, json) in [
        ("@group".to_owned(), r#"{"a long name for a column":[1,2,3,4,5]}"#),
        (format!(r#"@pretty:{{"indent":"{indent}"}}"#), r#"{"a":{"b":1}}"#),
        (format!(r#"@pretty:{{"prefix":"{indent}"}}"#), r#"{"a":1,"b":1}"#),
        (r#"@pretty:{"sortKeys":true,"indent":""}"#.to_owned(), r#"{"a":{"b":{"c":{"d":{"e":"a value of some length"}}}}}"#),
    ] {
        let mut limits = limits::Limits::default();
        assert!(modifiers::run(json.as_bytes(), path.as_bytes(), &mut limits).is_ok(), "{path}");
        let mut limits = limits::Limits::default();
        limits.spend((128 << 20) - 100).unwrap();
        assert!(modifiers::run(json.as_bytes(), path.as_bytes(), &mut limits).is_err(), "{path}");
    }
}

/// What is made is small for the work that a look-up may do, and large for the memory of a process.
#[test]
fn what_is_held_at_a_time_is_bounded() {
    let value = format!(r#"{{"a":"{}","n":1,"l":[{}]}}"#, "x".repeat(400_000), ["1"; 200].join(","));
    let times = |path: &str, times: usize| format!("[{}]", vec![path; times].join(","));
    let length = |path: &str| text(&value, path).map(|found| found.len());
    assert_eq!(length(&times("a", 20)), Some(20 * 400_003 + 1));
    assert_eq!(length(&times("a", 21)), None);
    assert_eq!(text(&value, &times("@ugly|n", 30)), Some(times("1", 30)), "what passed is given back");
    let piped = |times: usize| vec!["@ugly"; times].join("|");
    assert_eq!(length(&piped(17)), Some(value.len()));
    assert_eq!(length(&piped(25)), None, "each is made of the one before, and all are held");
    assert_eq!(length("l.#.@tostr"), Some(200 * 4 + 1));
    let columns = |key: usize| format!(r#"{{"{}":[{}]}}"#, "k".repeat(key), ["1"; 400].join(","));
    assert_eq!(text(&columns(1_000), "@group|#").as_deref(), Some("400"));
    let mut limits = limits::Limits::default();
    assert!(modifiers::run(columns(10_000).as_bytes(), b"@group", &mut limits).is_err());
}

/// What grows by doubling takes its time, also of a value of four bytes.
#[test]
fn small_values_are_not_worth_much_work() {
    let quoted = |times: usize| text("true", &vec!["@tostr"; times].join("|")).map(|found| found.len());
    assert_eq!(quoted(16), Some(4 + (1 << 16) - 2));
    assert_eq!(quoted(20), None);
}

proptest! {
    #[test]
    fn never_panics(json in r#"[\[\]{}",:.\\ a-c0-2tfnul\-]{0,40}"#, path in r#"[\[\]{}()",:.\\@!#|*?%=<>~ a-c0-2]{0,24}"#) {
        let _ = text(&json, &path);
    }

    #[test]
    fn never_panics_on_modifiers(
        json in prop::collection::vec(any::<u8>(), 0..60),
        path in r#"(@(pretty|ugly|reverse|this|flatten|join|valid|keys|values|tostr|fromstr|group|dig)(:[a-z{}":]{0,8})?[.|]?){1,4}"#,
    ) {
        let _ = get(&json, &path).map(Value::into_secret);
    }

    #[test]
    fn every_key_can_be_reached(key in "[^\\x00-\\x1f]{1,12}", value in "[a-z]{0,8}") {
        let json = serde_json::json!({ key.clone(): value.clone() }).to_string();
        let escaped: String = key.chars().flat_map(|c| (!c.is_alphanumeric()).then_some('\\').into_iter().chain([c])).collect();
        prop_assert_eq!(text(&json, &escaped), Some(value.clone()));
        let entries = object_entries(&SecretBytes::from(json)).unwrap();
        prop_assert_eq!(entries[&key].expose_str(), Some(value.as_str()));
    }
}

/// Tokio's threads have 2 MiB of stack; what the limits allow must fit into half of that, without optimization.
#[test]
fn the_deepest_look_up_fits_the_stack() {
    let deep = format!("{}1{}", "[".repeat(126), "]".repeat(126));
    let paths =
        ["0.".repeat(126) + "0", "[@this|".repeat(60), "@flatten:{\"deep\":true}".into(), "@dig:0".into(), "@pretty".into()];
    let look_up = move || paths.iter().filter(|path| text(&deep, path).is_some()).count();
    let found = std::thread::Builder::new().stack_size(1 << 20).spawn(look_up).unwrap().join().unwrap();
    assert!(found >= 3, "{found}");
}
