//! Functions about keys, certificates and passwords: from the engine's values to those of [`crypto`] and back.

use std::rc::Rc;
use std::sync::LazyLock;

use zeroize::Zeroizing;

use super::{Function, Run, Type, int, text};
use crate::render::template::context::{Answer, Context};
use crate::render::template::crypto::{self, Arg, CertificateAndKey, Kind, Made, Outside};
use crate::render::template::value::{Certificate, List, Value};

/// All of them.
pub(crate) fn functions() -> &'static [Function] {
    static ALL: LazyLock<Vec<Function>> = LazyLock::new(|| crypto::FUNCTIONS.iter().map(function).collect());
    &ALL
}

fn function(function: &'static crypto::Function) -> Function {
    let kind = |kind: &Kind| match kind {
        Kind::Text => Type::Str,
        Kind::Int => Type::Int,
        Kind::Uint32 => Type::Uint32,
        Kind::Texts => Type::List,
        Kind::Certificate => Type::Certificate,
    };
    let params = function.takes.iter().map(kind).collect::<Vec<_>>().leak();
    Function { name: function.name, params, rest: None, run: Run::Crypto(function) }
}

/// Calls a function with arguments of the types that it names.
pub(super) fn call(function: &crypto::Function, cx: &Context<'_>, args: &[Value]) -> Answer {
    cx.step(function.cost)?;
    let pair = args.iter().find_map(|arg| match arg {
        Value::Certificate(pair) => {
            Some(CertificateAndKey { cert: pair.cert.bytes().to_vec(), key: Zeroizing::new(pair.key.bytes().to_vec()) })
        }
        _ => None,
    });
    let mut given = Vec::new();
    for (i, kind) in function.takes.iter().enumerate() {
        given.push(match (kind, &pair) {
            (Kind::Text, _) => Arg::Text(text(args, i)),
            (Kind::Int, _) => Arg::Int(int(args, i)),
            (Kind::Uint32, _) => Arg::Uint32(u32::try_from(int(args, i)).map_err(|_| "the number is not one of 32 bits")?),
            (Kind::Texts, _) => Arg::Texts(texts(args.get(i))?),
            (Kind::Certificate, Some(pair)) => Arg::Certificate(pair),
            (Kind::Certificate, None) => return Err("a certificate is missing".to_owned()),
        });
    }
    let outside = Outside::new(cx.now, cx.chance);
    let made = function.call(&outside, &given);
    // a round takes about half a microsecond
    cx.step(usize::try_from(outside.rounds.get() / 2).unwrap_or(usize::MAX))?;
    match made {
        Ok(Made::Text(text)) => Ok(Value::bytes(text.to_vec())),
        Ok(Made::Texts(texts)) => cx.strings(texts.into_iter().map(String::into_bytes)),
        Ok(Made::Certificate(pair)) => {
            let (cert, key) = (cx.piece(pair.cert)?, cx.piece(pair.key.to_vec())?);
            Ok(Value::Certificate(Rc::new(Certificate { cert, key })))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn texts(list: Option<&Value>) -> Result<Vec<&[u8]>, String> {
    match list {
        Some(Value::List(List { items: Some(items), .. })) => items.0.iter().map(element).collect(),
        _ => Ok(Vec::new()),
    }
}

fn element(item: &Value) -> Result<&[u8], String> {
    match item {
        Value::Str(text) => Ok(text.bytes()),
        _ => Err("a list of names has an element that is not a string".to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::cell::Cell;

    use crate::chance::SystemChance;
    use crate::render::Entries;
    use crate::render::template::{Engine, Limits};
    use crate::secret_bytes::SecretBytes;

    fn render(template: &str) -> Result<String, String> {
        const LEAF: &str = include_str!("../../../../e2e/oracles/testdata/leaf.crt.pem");
        let scope = Entries::from([("leaf".to_owned(), SecretBytes::from(LEAF))]);
        let now = "2026-11-26T10:11:12Z".parse().unwrap();
        let made = Engine::new(now, &SystemChance).render("x", template, &scope);
        made.map(|text| text.expose_str().unwrap().to_owned()).map_err(|error| error.to_string())
    }

    /// Golden case tmpl-11.
    #[test]
    fn passwords_are_as_in_the_conformance_case() {
        for (template, want) in [
            (r#"{{ htpasswd "ann" "pw" "sha" }}"#, "ann:{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM="),
            (r#"{{ htpasswd "a:b" "pw" "sha" }}"#, "invalid username: a:b"),
            (r#"{{ derivePassword 1 "long" "correct horse" "ann@mail.test" "shop.test" }}"#, "YenhDujoDiyo2="),
            (r#"{{ derivePassword 2 "pin" "correct horse" "ann@mail.test" "shop.test" }}"#, "7795"),
            (r#"{{ derivePassword 1 "maximum" "m" "u" "s" }}"#, "f2$9QTTG%MOmCSBBQ64s"),
            (r#"{{ derivePassword 1 "nosuch" "m" "u" "s" }}"#, "cannot find password template nosuch"),
            (r#"{{ encryptAES "key" "plain text" | decryptAES "key" }}"#, "plain text"),
            (r#"{{ encryptAES "k" "" | decryptAES "k" | len }}"#, "0"),
            (r#"{{ encryptAES "a" "b" | b64dec | len }}"#, "32"),
            (r#"{{ bcrypt "pw" | len }}"#, "60"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(want), "{template}");
        }
    }

    #[test]
    fn lists_and_certificates_go_in_and_out() {
        let chain =
            r#"{{ $ca := genCA "ca.test" 365 }}{{ $c := genSignedCert "a.test" nil (list "a.test" "b.test") 30 $ca }}"#;
        for (template, want) in [
            ("{{ $c.Cert | certSANs | join \",\" }}", "a.test,b.test"),
            ("{{ $c.Key | filterPEM \"RSA PRIVATE KEY\" | eq $c.Key }}", "true"),
            ("{{ $ca.Cert | filterCertChain \"root\" | eq $ca.Cert }}", "true"),
            ("{{ pemToPkcs12 $c.Cert $c.Key | b64dec | pkcs12cert | eq $c.Cert }}", "true"),
        ] {
            assert_eq!(render(&format!("{chain}{template}")).as_deref(), Ok(want), "{template}");
        }
        assert_eq!(render("{{ range certSANs .leaf }}{{ . }} {{ end }}").unwrap().split(' ').next(), Some("leaf.test"));
    }

    #[test]
    fn errors_say_where_and_never_what() {
        for (template, want) in [
            ("{{ .leaf | jwkPrivateKeyPem }}", "error calling jwkPrivateKeyPem: the JWK is not JSON"),
            ("{{ htpasswd \"a\" \"b\" }}", "wrong number of args for htpasswd: want 3 got 2"),
            ("{{ genSelfSignedCert \"a\" (list 1) (list) 1 }}", "a list of names has an element that is not a string"),
            ("{{ genSignedCert \"a\" nil nil 1 (dict) }}", "sprig.certificate"),
        ] {
            let error = render(template).unwrap_err();
            assert!(error.contains(want), "{template}: {error}");
        }
    }

    /// Files of a hundred lines are plain use. With SHA-1 a line costs the same, and takes no time.
    #[test]
    fn a_hundred_passwords_can_be_hashed() {
        let lines = |count: usize| {
            render(&format!(r#"{{{{ range until {count} }}}}{{{{ htpasswd "ann" "pw" "sha" }}}}{{{{ end }}}}"#))
        };
        assert_eq!(lines(100).map(|text| text.len()), Ok(100 * "ann:{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=".len()));
        assert!(lines(106).unwrap_err().contains("takes more than 2000000 steps"));
    }

    /// A pair takes as much as its texts.
    #[test]
    fn certificates_are_paid_for() {
        const KEY: &str = include_str!("../../../../e2e/oracles/testdata/ed25519.pem");
        const LEAF: &str = include_str!("../../../../e2e/oracles/testdata/leaf.crt.pem");
        let scope = Entries::from([("c".to_owned(), SecretBytes::from(LEAF)), ("k".to_owned(), SecretBytes::from(KEY))]);
        let limits = Limits { memory: 40_000, ..Limits::default() };
        let engine = Engine { limits, ..Engine::new("2026-11-26T10:11:12Z".parse().unwrap(), &SystemChance) };
        let made = |pair: &str, times: usize| {
            let text = format!("{{{{ range until {times} }}}}{{{{ $_ := {pair} }}}}{{{{ end }}}}");
            engine.render("x", text, &scope).map_err(|error| error.to_string())
        };
        for pair in ["genCAWithKey `ca.test` 1 $.k", "certSANs $.c"] {
            assert!(made(pair, 2).is_ok(), "{pair}");
            assert!(made(pair, 400).unwrap_err().contains("take more than 40000 bytes"), "{pair}");
        }
    }

    /// Each part of a file has a key of its own.
    #[test]
    fn a_file_costs_what_its_rounds_take() {
        const KEY: &str = include_str!("../../../../e2e/oracles/testdata/ed25519.pem");
        const LEAF: &str = include_str!("../../../../e2e/oracles/testdata/leaf.crt.pem");
        let values = [("leaf".to_owned(), SecretBytes::from(LEAF)), ("key".to_owned(), SecretBytes::from(KEY))];
        let scope = Entries::from(values);
        let (now, taken) = ("2026-11-26T10:11:12Z".parse().unwrap(), Cell::new(0));
        let engine = Engine { taken: Some(&taken), ..Engine::new(now, &SystemChance) };
        let file = engine.render("x", "{{ pemToPkcs12Pass .leaf .key \"pw\" | b64dec }}", &scope).unwrap();
        let scope = Entries::from([("file".to_owned(), file)]);
        let steps = |password: &str| {
            taken.set(0);
            let made = engine.render("x", format!(r#"{{{{ pkcs12keyPass "{password}" .file | len }}}}"#), &scope);
            (made.is_ok(), taken.get() / 1_000)
        };
        assert_eq!(steps("pw"), (true, 50 + 3), "2048 rounds for the MAC, the certificate and the key each");
        assert_eq!(steps("no"), (false, 50 + 1), "those of the MAC alone");
    }

    #[test]
    fn a_template_cannot_make_keys_without_end() {
        let error = render("{{ range until 1000 }}{{ genPrivateKey \"ed25519\" }}{{ end }}").unwrap_err();
        assert!(error.contains("steps"), "{error}");
    }
}
