//! What is drawn by lot: its shape.

use super::ok;

fn all(text: &str, fits: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(fits)
}

#[test]
fn characters_are_of_their_kind_and_number() {
    for (function, fits) in [
        ("randAlphaNum", char::is_ascii_alphanumeric as fn(&char) -> bool),
        ("randAlpha", char::is_ascii_alphabetic),
        ("randNumeric", char::is_ascii_digit),
        ("randAscii", |c| (' '..='~').contains(c)),
    ] {
        let text = ok(&format!("{{{{ {function} 400 }}}}"), &[]);
        assert_eq!(text.len(), 400, "{function}");
        assert!(all(&text, |c| fits(&c)), "{function}: {text}");
        let different: std::collections::BTreeSet<char> = text.chars().collect();
        assert!(different.len() >= 10, "{function} uses its alphabet: {text}");
        assert_eq!(ok(&format!("{{{{ {function} 0 }}}}{{{{ {function} -3 }}}}"), &[]), "");
    }
}

#[test]
fn two_draws_differ() {
    let text = ok("{{ randAlphaNum 32 }} {{ randAlphaNum 32 }}", &[]);
    let (a, b) = text.split_once(' ').unwrap();
    assert_ne!(a, b);
}

#[test]
fn uuid_of_version_four() {
    let uuid = ok("{{ uuidv4 }}", &[]);
    let parts: Vec<&str> = uuid.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
    assert!(all(&uuid, |c| c == '-' || matches!(c, '0'..='9' | 'a'..='f')), "{uuid}");
}

#[test]
fn numbers_bytes_and_order() {
    for _ in 0..20 {
        let number: i64 = ok("{{ randInt -3 4 }}", &[]).parse().unwrap();
        assert!((-3..4).contains(&number));
    }
    assert_eq!(ok("{{ randBytes 12 | b64dec | len }}", &[]), "12");
    let shuffled = ok(r#"{{ shuffle "äbcdefghij" }}"#, &[]);
    let mut letters: Vec<char> = shuffled.chars().collect();
    letters.sort_unstable();
    assert_eq!(letters.into_iter().collect::<String>(), "bcdefghijä");
    assert_ne!(shuffled, "äbcdefghij");
}
