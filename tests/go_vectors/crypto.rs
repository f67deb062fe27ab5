//! Functions of templates about keys, certificates and passwords.

use std::cell::Cell;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use keyferry::chance::SystemChance;
use keyferry::render::template::chance::{Chance, Signing};
use keyferry::render::template::crypto::{Arg, CertificateAndKey, FuncError, Kind, Made, Outside, function};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{bytes, report, vectors};

/// Bytes 0, 1, 2 and so on, as in the Go program.
#[derive(Default)]
struct Counting(Cell<u8>);

impl Chance for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.replace(self.0.get().wrapping_add(1));
        }
    }

    fn rsa_key(&self, bits: usize) -> Option<Zeroizing<Vec<u8>>> {
        SystemChance.rsa_key(bits)
    }

    fn sign(&self, algorithm: Signing, pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        SystemChance.sign(algorithm, pkcs8, message)
    }
}

/// Functions that ESO fails in and keyferry does not, or the other way round: beginning of the call, and why.
const OTHERWISE: &[(&str, &str)] = &[
    (r#"rsaDecrypt["RSA-OAEP","SHA256",{"ref":"oaep-SHA256-4-rsa1024.pem"}"#, RSA_1024),
    (r#"rsaDecrypt["RSA-OAEP","SHA256",{"ref":"oaep-SHA256-9-rsa2048.pem"},{"ref":"rsa1024.pem"}"#, RSA_1024),
    (r#"pemToPkcs12[{"ref":"leaf.crt.pem"},{"ref":"secp224r1.pem"}]"#, P224),
    (r#"buildCustomCert[{"ref":"made-129"},{"ref":"made-140"}]"#, P224),
];
const RSA_1024: &str = "1024 bits are not safe, and AWS-LC takes none: the error says so";
const P224: &str = "AWS-LC makes no keys of P-224, which nobody issues certificates for";

/// Beginnings of errors that are word for word Go's, ESO's or sprig's.
const WORD_FOR_WORD: &[&str] = &[
    "constructing chain resulted in cycle",
    "could not parse",
    "error creating certificate: x509: certificate private key",
    "error creating certificate: x509: provided",
    "error decrypting data with RSA",
    "error filtering pem: found junk",
    "failed to decode PEM block",
    "found multiple leaf or disjunct certificates",
    "no leaf certificate found",
    "pkcs12: string contains",
    "unable to decode base64",
    "unable to decode certificate",
    "unable to decode pkcs12 certificate with password: pkcs12: decryption",
    "unable to decode pkcs12 with password: pkcs12: decryption",
    "unable to decode pkcs12 with password: pkcs12: private key missing",
    "unable to parse private key type",
];

/// What the lines before have named.
#[derive(Default)]
struct Material(HashMap<String, Vec<u8>>);

impl Material {
    /// A text, or what a reference refers to: names with a plus between them are joined.
    fn text(&self, value: &Value) -> Vec<u8> {
        match value["ref"].as_str() {
            Some(names) => names.split('+').flat_map(|name| self.0[name].clone()).collect(),
            None => bytes(value.as_str().unwrap()),
        }
    }

    fn pair(&self, value: &Value) -> CertificateAndKey {
        let text = |field: &str| self.text(&serde_json::json!({ "ref": value[field] }));
        CertificateAndKey { cert: text("cert"), key: text("key").into() }
    }
}

fn der(pem: &[u8]) -> Vec<u8> {
    let text: String = String::from_utf8_lossy(pem).lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(text).unwrap()
}

/// The signed part of a certificate in PEM.
fn body(pem: &[u8]) -> Vec<u8> {
    let der = der(pem);
    yasna::parse_der(&der, |r| {
        r.read_sequence(|r| {
            let body = r.next().read_der()?;
            r.next().read_der()?;
            r.next().read_der()?;
            Ok(body)
        })
    })
    .unwrap()
}

fn call(material: &Material, line: &Value) -> Result<Made, FuncError> {
    let function = function(line["fn"].as_str().unwrap()).unwrap();
    let args = line["args"].as_array().unwrap();
    assert_eq!(args.len(), function.takes.len(), "{line}");
    let texts: Vec<Vec<u8>> =
        args.iter().map(|arg| if arg.is_string() || arg["ref"].is_string() { material.text(arg) } else { vec![] }).collect();
    let pairs: Vec<CertificateAndKey> =
        args.iter().filter(|arg| arg["cert"].is_string()).map(|arg| material.pair(arg)).collect();
    let lists: Vec<Vec<Vec<u8>>> =
        args.iter().map(|arg| arg.as_array().into_iter().flatten().map(|text| material.text(text)).collect()).collect();
    let args: Vec<Arg> = function
        .takes
        .iter()
        .enumerate()
        .map(|(i, kind)| match kind {
            Kind::Text => Arg::Text(&texts[i]),
            Kind::Int => Arg::Int(args[i].as_i64().unwrap()),
            Kind::Uint32 => Arg::Uint32(args[i].as_u64().unwrap().try_into().unwrap()),
            Kind::Texts => Arg::Texts(lists[i].iter().map(Vec::as_slice).collect()),
            Kind::Certificate => Arg::Certificate(&pairs[0]),
        })
        .collect();
    let now = Timestamp::from_second(line["now"].as_i64().unwrap_or_default()).unwrap();
    function.call(&Outside::new(now, &Counting::default()), &args)
}

/// What differs from Go, in words.
fn difference(material: &Material, line: &Value, made: Result<Made, FuncError>) -> Option<String> {
    let show = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match (made, line["error"].as_str()) {
        (Err(error), Some(want)) => {
            let fixed = WORD_FOR_WORD.iter().any(|text| want.starts_with(text));
            (fixed && error.to_string() != want).then(|| format!("fails with {error:?}, Go with {want:?}"))
        }
        (Err(error), None) => Some(format!("fails with {error:?}, Go does not")),
        (Ok(_), Some(want)) => Some(format!("does not fail, Go does with {want:?}")),
        (Ok(Made::Text(text)), None) => {
            let want = material.text(&line["text"]);
            (*text != want).then(|| format!("\n  we {}\n  Go {}", show(&text), show(&want)))
        }
        (Ok(Made::Texts(texts)), None) => {
            (serde_json::json!(texts) != line["texts"]).then(|| format!("{texts:?}, Go {}", line["texts"]))
        }
        (Ok(Made::Certificate(pair)), None) => {
            let (cert, key) = (material.text(&line["cert"]), material.text(&line["key"]));
            if *pair.key != key {
                return Some(format!("\n  we {}\n  Go {}", show(&pair.key), show(&key)));
            }
            // A signature of ECDSA is another one each time.
            let same = if is_ecdsa(&cert) { body(&pair.cert) == body(&cert) } else { pair.cert == cert };
            (!same).then(|| format!("\n  we {}\n  Go {}", show(&pair.cert), show(&cert)))
        }
    }
}

fn is_ecdsa(pem: &[u8]) -> bool {
    const ECDSA: [u8; 7] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03];
    der(pem).windows(ECDSA.len()).any(|w| w == ECDSA)
}

#[test]
fn crypto() {
    let mut material = Material::default();
    let (mut total, mut differences) = (0, Vec::new());
    for line in vectors::<Value>("crypto") {
        if let Some(name) = line["name"].as_str() {
            let kept = match line["base64"].as_str() {
                Some(base64) => STANDARD.decode(base64).unwrap(),
                None => line["text"].as_str().unwrap().into(),
            };
            material.0.insert(name.to_owned(), kept);
            continue;
        }
        total += 1;
        let label = format!("{}{}", line["fn"].as_str().unwrap(), line["args"]);
        let difference = difference(&material, &line, call(&material, &line));
        match OTHERWISE.iter().find(|(call, _)| label.starts_with(call)) {
            Some((call, why)) if difference.is_none() => differences.push(format!("{call} is as in Go: {why}")),
            Some(_) => {}
            None => differences.extend(difference.map(|difference| format!("{label}: {difference}"))),
        }
    }
    assert!(total > 400, "the vectors are there");
    report(total, &differences);
}
