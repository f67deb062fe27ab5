#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod chance;
mod errors;
mod limits;
mod properties;

use super::*;

/// Bytes that differ: a fixed sequence, so that tests give the same each time.
#[derive(Default)]
pub(super) struct Sequence(std::cell::Cell<u64>);

impl Chance for Sequence {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            let next = self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0.set(next);
            *byte = next.to_be_bytes()[0];
        }
    }
}

pub(super) fn scope(entries: &[(&str, &[u8])]) -> Entries {
    entries.iter().map(|(key, value)| ((*key).to_owned(), SecretBytes::new(value.to_vec()))).collect()
}

/// Renders for the key `x`.
pub(super) fn render(text: &str, entries: &[(&str, &[u8])]) -> Result<Vec<u8>, TemplateError> {
    let chance = Sequence::default();
    let now = jiff::Timestamp::from_second(1_700_000_000).unwrap();
    Ok(Engine::new(now, &chance).render("x", text, &scope(entries))?.expose().to_vec())
}

fn ok(text: &str, entries: &[(&str, &[u8])]) -> String {
    String::from_utf8(render(text, entries).unwrap()).unwrap()
}

/// Golden cases decode-08 and tmpl-32.
#[test]
fn values_that_are_not_text_pass_unharmed() {
    let bytes: Vec<u8> = (0..=255).collect();
    let entries: &[(&str, &[u8])] = &[("bin", &bytes)];
    assert_eq!(render("{{ .bin }}", entries).unwrap(), bytes);
    assert_eq!(render("{{ $x := .bin }}{{ with $x }}{{ . | b64enc | b64dec }}{{ end }}", entries).unwrap(), bytes);
    assert_eq!(ok("{{ len .bin }}", entries), "256");
    assert_eq!(ok("{{ .bin | quote }}", &[("bin", b"\x00\x01\x02\xff")]), r#""\x00\x01\x02\xff""#);
    assert_eq!(render("{{ `a b\u{a0}e é` | nospace }}", &[]).unwrap(), "abÂeÃ©".as_bytes());
}

#[test]
fn delimiters_of_the_process() {
    let chance = Sequence::default();
    let engine = Engine { left: "<<", right: ">>", ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let result = engine.render("x", "{{ .a }} << .a >> <<- .a -->>", &scope(&[("a", b"1")]));
    assert_eq!(result.unwrap_err().stage, Stage::Parse);
    let result = engine.render("x", "{{ .a }} << .a >> <<- .a ->>", &scope(&[("a", b"1")])).unwrap();
    assert_eq!(result.expose_str(), Some("{{ .a }} 11"));
}

/// Golden case rewrite-04 has the values; ESO does not make missing keys errors there.
#[test]
fn a_missing_key_of_a_rewrite_is_no_value() {
    let chance = Sequence::default();
    let engine = Engine { missing: Missing::NoValue, ..Engine::new(jiff::Timestamp::UNIX_EPOCH, &chance) };
    let result =
        engine.render("k", "{{ .value | upper }} {{ .gone }} {{ .gone.deeper }}", &scope(&[("value", b"a-b")])).unwrap();
    assert_eq!(result.expose_str(), Some("A-B <no value> <no value>"));
    let result = engine.render("k", r#"{{ printf "%s.%d" .value (len .value) }}"#, &scope(&[("value", b"first")])).unwrap();
    assert_eq!(result.expose_str(), Some("first.5"));
}

#[test]
fn the_time_is_passed_in() {
    assert_eq!(ok(r#"{{ now | date "2006-01-02 15:04" }}"#, &[]), "2023-11-14 22:13");
    assert_eq!(ok("{{ now }}", &[]), "2023-11-14 22:13:20 +0000 UTC");
    assert_eq!(ok("{{ ago 1699999995 }}", &[]), "5s");
}

/// As Go prints them. The moments for which zones are known end a day before the year 9999 does.
#[test]
fn the_last_days_of_the_year_9999() {
    for (text, wanted) in [
        (r#"{{ toDate "2006-01-02" "9999-12-31" | unixEpoch }}"#, "253402214400"),
        (r#"{{ mustToDate "2006-01-02 15:04:05" "9999-12-31 23:59:59" }}"#, "9999-12-31 23:59:59 +0000 UTC"),
        (r#"{{ toDate "2006-01-02 -0700" "9999-12-31 +0100" | unixEpoch }}"#, "253402210800"),
        (r#"{{ date "2006-01-02" 253402300799 }}"#, "9999-12-31"),
        (r#"{{ dateInZone "2006-01-02 15:04 MST" 253402300799 "America/New_York" }}"#, "9999-12-31 18:59 EST"),
        (r#"{{ toDate "2006-01-02" "9999-12-30" | dateModify "24h" | date "2006-01-02" }}"#, "9999-12-31"),
        (r#"{{ (toDate "2006-01-02" "9998-12-31").AddDate 1 0 0 }}"#, "9999-12-31 00:00:00 +0000 UTC"),
        (r#"{{ toYaml (dict "a" "9999-12-31") }}"#, r#"a: "9999-12-31""#),
        (r#"{{ toYaml (dict "a" "9999-12-31T23:30:00-01:00") }}"#, r#"a: "9999-12-31T23:30:00-01:00""#),
    ] {
        assert_eq!(ok(text, &[]), wanted, "{text}");
    }
    for text in [
        r#"{{ toDate "2006-01-02 15 -0700" "9999-12-31 23 -0100" }}"#,
        r#"{{ date "2006-01-02" 253402300800 }}"#,
        r#"{{ (toDate "2006-01-02" "9999-12-31").AddDate 0 0 1 }}"#,
    ] {
        let reason = render(text, &[]).unwrap_err().reason;
        assert!(reason.ends_with("the time is out of range"), "{text}: {reason}");
    }
}

/// Changes of a map are seen by all who hold it, as in Go.
#[test]
fn maps_are_shared() {
    assert_eq!(ok(r#"{{ $a := dict "k" 1 }}{{ $l := list $a }}{{ $_ := set $a "k" 2 }}{{ (index $l 0).k }}"#, &[]), "2");
}

/// The list of what ESO allows, and what it does not: nothing that reads the environment or asks a name server.
#[test]
fn all_functions_of_eso_are_there() {
    let allowed = "hello ago date date_in_zone date_modify dateInZone dateModify duration durationRound htmlDate htmlDateInZone \
        must_date_modify mustDateModify mustToDate now toDate unixEpoch abbrev abbrevboth trunc trim upper lower title untitle \
        substr repeat trimall trimAll trimSuffix trimPrefix nospace initials randAlphaNum randAlpha randAscii randNumeric swapcase \
        shuffle snakecase camelcase kebabcase wrap wrapWith contains hasPrefix hasSuffix quote squote cat indent nindent replace \
        plural sha1sum sha256sum sha512sum adler32sum toString atoi int64 int float64 seq toDecimal split splitList splitn \
        toStrings until untilStep add1 add sub div mod mul randInt add1f addf subf divf mulf biggest max min maxf minf ceil floor \
        round join sortAlpha default empty coalesce all any compact mustCompact fromJson toJson toPrettyJson toRawJson mustFromJson \
        mustToJson mustToPrettyJson mustToRawJson ternary deepCopy mustDeepCopy typeOf typeIs typeIsLike kindOf kindIs deepEqual \
        base dir clean ext isAbs osBase osClean osDir osExt osIsAbs b64enc b64dec b32enc b32dec hexdec tuple list dict get set \
        unset hasKey pluck keys pick omit merge mergeOverwrite mustMerge mustMergeOverwrite values append push mustAppend mustPush \
        prepend mustPrepend first mustFirst rest mustRest last mustLast initial mustInitial reverse mustReverse uniq mustUniq \
        without mustWithout has mustHas slice mustSlice concat dig chunk mustChunk bcrypt htpasswd genPrivateKey derivePassword \
        buildCustomCert genCA genCAWithKey genSelfSignedCert genSelfSignedCertWithKey genSignedCert genSignedCertWithKey encryptAES \
        decryptAES randBytes uuidv4 semver semverCompare fail regexMatch mustRegexMatch regexFindAll mustRegexFindAll regexFind \
        mustRegexFind regexReplaceAll mustRegexReplaceAll regexReplaceAllLiteral mustRegexReplaceAllLiteral regexSplit \
        mustRegexSplit regexQuoteMeta urlParse urlJoin and or not call html index js len print printf println urlquery eq ne lt le \
        gt ge pkcs12key pkcs12keyPass pkcs12cert pkcs12certPass pemToPkcs12 pemToPkcs12Pass fullPemToPkcs12 fullPemToPkcs12Pass \
        pemTruststoreToPKCS12 pemTruststoreToPKCS12Pass filterPEM filterCertChain certSANs jwkPublicKeyPem jwkPrivateKeyPem toYaml \
        fromYaml rsaDecrypt";
    let mut wanted: Vec<&str> = allowed.split_whitespace().collect();
    let mut names = funcs::names();
    wanted.sort_unstable();
    names.sort_unstable();
    assert_eq!(names, wanted);
}
