//! What is made is taken by others: chains by webpki, files and keys by what reads them.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::Cell;
use std::time::Duration;

use proptest::prelude::*;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::*;
use crate::chance::SystemChance;
use crate::render::template::chance::Signing;

/// Bytes 0, 1, 2 and so on: what the Go program takes for random, too. Keys and signatures are the real ones.
#[derive(Default)]
pub struct Counting(Cell<u8>);

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

fn now() -> Timestamp {
    "2026-11-26T10:11:12.5Z".parse().unwrap()
}

fn call(name: &str, args: &[Arg]) -> Result<Made, FuncError> {
    function(name).unwrap().call(&Outside::new(now(), &SystemChance), args)
}

fn text(made: Made) -> Vec<u8> {
    match made {
        Made::Text(text) => text.to_vec(),
        _ => panic!("not a text"),
    }
}

fn pair(name: &str, args: &[Arg]) -> CertificateAndKey {
    match call(name, args) {
        Ok(Made::Certificate(pair)) => pair,
        Ok(_) => panic!("{name} makes no certificate"),
        Err(error) => panic!("{name}: {error}"),
    }
}

fn new_key(kind: &str) -> Vec<u8> {
    text(call("genPrivateKey", &[Arg::Text(kind.as_bytes())]).unwrap())
}

fn der(pem: &[u8]) -> CertificateDer<'static> {
    pem::decode(pem).unwrap().0.bytes.into()
}

/// Whether webpki takes the leaf as a server's that the authority vouches for.
fn verify(leaf: &[u8], authority: &[u8], name: &str, days_later: u64) -> Result<(), webpki::Error> {
    let (leaf, authority) = (der(leaf), der(authority));
    let anchor = anchor_from_trusted_cert(&authority)?;
    let leaf = EndEntityCert::try_from(&leaf)?;
    let time = Duration::from_secs(now().as_second().unsigned_abs() + days_later * 86_400);
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        &[],
        UnixTime::since_unix_epoch(time),
        KeyUsage::server_auth(),
        None,
        None,
    )?;
    leaf.verify_is_valid_for_subject_name(&ServerName::try_from(name).unwrap())
}

const IPS: &[&[u8]] = &[b"10.0.0.1", b"2001:db8::1"];
const DNS: &[&[u8]] = &[b"shop.test", b"*.api.test"];

#[test]
fn a_signed_certificate_is_one_of_its_authority() {
    let days = Arg::Int(30);
    let ca = pair("genCA", &[Arg::Text(b"an authority"), Arg::Int(3650)]);
    let other = pair("genCA", &[Arg::Text(b"an authority"), Arg::Int(3650)]);
    let wish = [Arg::Text(b"shop.test"), Arg::Texts(IPS.to_vec()), Arg::Texts(DNS.to_vec()), days, Arg::Certificate(&ca)];
    let leaf = pair("genSignedCert", &wish).cert;
    for name in ["shop.test", "x.api.test", "10.0.0.1", "2001:db8::1"] {
        assert_eq!(verify(&leaf, &ca.cert, name, 29), Ok(()), "{name}");
    }
    assert!(verify(&leaf, &ca.cert, "other.test", 0).is_err());
    assert!(verify(&leaf, &ca.cert, "shop.test", 31).is_err(), "no longer valid");
    assert!(verify(&leaf, &other.cert, "shop.test", 0).is_err(), "another with the same name");
}

#[test]
fn every_kind_of_key_signs_for_every_other() {
    let keys: Vec<Vec<u8>> = ["ecdsa", "ed25519"].map(new_key).into_iter().chain(given_keys()).collect();
    for signer in &keys {
        let ca = pair("genCAWithKey", &[Arg::Text(b"ca"), Arg::Int(1), Arg::Text(signer)]);
        for key in &keys {
            let (ips, dns) = (Arg::Texts(vec![]), Arg::Texts(vec![b"a.test"]));
            let wish = [Arg::Text(b"a.test"), ips, dns, Arg::Int(1), Arg::Certificate(&ca), Arg::Text(key)];
            let leaf = pair("genSignedCertWithKey", &wish);
            assert_eq!(verify(&leaf.cert, &ca.cert, "a.test", 0), Ok(()));
        }
    }
}

/// Keys of the curves that no function makes, and one of RSA.
fn given_keys() -> Vec<Vec<u8>> {
    let ec = |curve: &str, size| {
        let mut number = vec![0; size];
        SystemChance.fill(&mut number[1..]);
        keys::Ec::new(keys::Curve::named(curve).unwrap(), &number).map(keys::PrivateKey::Ec).unwrap()
    };
    let rsa = keys::PrivateKey::parse_pkcs8(&SystemChance.rsa_key(2048).unwrap()).unwrap();
    [ec("P-384", 48), ec("P-521", 66), rsa].iter().map(|key| key.traditional_pem().unwrap().into_bytes()).collect()
}

#[test]
fn an_authority_must_have_its_own_key() {
    let (key, other) = (new_key("ed25519"), new_key("ed25519"));
    let mut ca = pair("genCAWithKey", &[Arg::Text(b"ca"), Arg::Int(1), Arg::Text(&key)]);
    ca.key = other.into();
    let wish =
        [Arg::Text(b"a"), Arg::Texts(vec![]), Arg::Texts(vec![]), Arg::Int(1), Arg::Certificate(&ca), Arg::Text(&key)];
    let error = call("genSignedCertWithKey", &wish).err().unwrap();
    assert_eq!(error.to_string(), "error creating certificate: x509: provided PrivateKey doesn't match parent's PublicKey");
}

#[test]
fn private_keys_are_of_the_kind_asked_for() {
    for (kind, want) in
        [("ecdsa", "EC PRIVATE KEY"), ("ed25519", "PRIVATE KEY"), ("dsa", "DSA PRIVATE KEY"), ("rsa", "RSA PRIVATE KEY")]
    {
        let key = new_key(kind);
        assert_eq!(pem::decode(&key).unwrap().0.kind, want.as_bytes());
        assert_eq!(keys::PrivateKey::from_pem(&key).unwrap().traditional_pem().unwrap().as_bytes(), key);
    }
    assert_eq!(new_key("x"), b"Unknown type x");
    assert_ne!(new_key("ecdsa"), new_key("ecdsa"));
}

#[test]
fn a_file_is_read_back_with_its_password_only() {
    let key = new_key("ed25519");
    let ca = pair("genCAWithKey", &[Arg::Text(b"ca"), Arg::Int(1), Arg::Text(&key)]);
    let wish =
        [Arg::Text(b"a"), Arg::Texts(vec![]), Arg::Texts(vec![]), Arg::Int(1), Arg::Certificate(&ca), Arg::Text(&key)];
    let leaf = pair("genSignedCertWithKey", &wish).cert;
    let chain = [leaf, ca.cert].concat();
    for password in ["", "se cret", "Käse"] {
        let args = [Arg::Text(&chain), Arg::Text(&key), Arg::Text(password.as_bytes())];
        let file = text(call("fullPemToPkcs12Pass", &args).unwrap());
        let file = crate::render::decode::base64_of_go(&file).unwrap();
        let open = |name, password: &str| call(name, &[Arg::Text(password.as_bytes()), Arg::Text(&file)]);
        assert_eq!(text(open("pkcs12keyPass", password).unwrap()), key);
        assert_eq!(text(open("pkcs12certPass", password).unwrap()), chain);
        assert_eq!(
            open("pkcs12certPass", "wrong").err().unwrap().to_string(),
            "unable to decode pkcs12 certificate with password: pkcs12: decryption password incorrect"
        );
    }
}

/// CVE-2025-7445 and the like: an error that quotes what it was given tells a secret.
#[test]
fn no_error_quotes_its_arguments() {
    const CANARY: &[u8] = b"CANARY";
    let block = |kind: &str| pem::encode(kind, CANARY).into_bytes();
    let inputs = [CANARY.to_vec(), block("CERTIFICATE"), block("PRIVATE KEY"), block("CANARY PRIVATE KEY"), block("CANARY")];
    let pair = CertificateAndKey { cert: CANARY.to_vec(), key: CANARY.to_vec().into() };
    for function in FUNCTIONS {
        for input in &inputs {
            let arg = |kind: &Kind| match kind {
                Kind::Text => Arg::Text(input),
                Kind::Int => Arg::Int(1),
                Kind::Uint32 => Arg::Uint32(1),
                Kind::Texts => Arg::Texts(vec![input]),
                Kind::Certificate => Arg::Certificate(&pair),
            };
            let args: Vec<Arg> = function.takes.iter().map(arg).collect();
            if let Err(error) = function.call(&Outside::new(now(), &Counting::default()), &args) {
                let text = error.to_string();
                assert!(!text.contains("CANARY") && !text.contains("Q0FOQVJZ"), "{}: {text}", function.name);
            }
        }
    }
}

#[test]
fn functions_are_listed_once_and_check_what_they_are_given() {
    for function in FUNCTIONS {
        assert_eq!(FUNCTIONS.iter().filter(|other| other.name == function.name).count(), 1);
        let outside = Outside::new(now(), &SystemChance);
        let error = function.call(&outside, &[]).err().unwrap();
        assert_eq!(error.to_string(), format!("{} is called with the wrong arguments", function.name));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A file with a wrong byte, or cut short, is an error and never a panic or a long wait.
    #[test]
    fn a_broken_file_is_an_error(at in 0usize..2000, byte: u8, cut: bool) {
        let certificates = der(EXAMPLE);
        let file = text(call("pemToPkcs12", &[Arg::Text(EXAMPLE), Arg::Text(EXAMPLE_KEY)]).unwrap());
        let mut file = crate::render::decode::base64_of_go(&file).unwrap();
        let at = at % file.len();
        if cut {
            file.truncate(at);
        } else {
            file[at] = byte;
        }
        if let Ok(found) = call("pkcs12cert", &[Arg::Text(&file)]) {
            prop_assert_eq!(der(&text(found)), certificates);
        }
    }

    #[test]
    fn a_certificate_with_a_wrong_byte_does_not_panic(at in 0usize..1000, byte: u8) {
        let mut bytes = der(EXAMPLE).to_vec();
        let at = at % bytes.len();
        bytes[at] = byte;
        let text = pem::encode("CERTIFICATE", &bytes);
        let _ = call("certSANs", &[Arg::Text(text.as_bytes())]);
        let _ = call("filterCertChain", &[Arg::Text(b"root"), Arg::Text(text.as_bytes())]);
        let _ = call("pemTruststoreToPKCS12", &[Arg::Text(text.as_bytes())]);
    }

    #[test]
    fn any_bytes_can_be_given_to_what_reads(bytes: Vec<u8>) {
        for name in ["pkcs12key", "pkcs12cert"] {
            prop_assert!(call(name, &[Arg::Text(&bytes)]).is_err());
        }
        let _ = call("decryptAES", &[Arg::Text(&bytes), Arg::Text(&bytes)]);
    }
}

/// Test-only material, as in `tests/vectors`.
const EXAMPLE: &[u8] = include_bytes!("../../../../e2e/oracles/testdata/leaf.crt.pem");
const EXAMPLE_KEY: &[u8] = include_bytes!("../../../../e2e/oracles/testdata/ed25519.pem");

/// A hostile file asks for rounds without end.
#[test]
fn rounds_are_bounded() {
    let file = text(call("pemToPkcs12", &[Arg::Text(EXAMPLE), Arg::Text(EXAMPLE_KEY)]).unwrap());
    let mut file = crate::render::decode::base64_of_go(&file).unwrap();
    // The last integer is the MAC's rounds: 2048, then made 2^31 - 1, with room taken from the lengths around it.
    assert!(file.ends_with(&[2, 2, 8, 0]));
    let at = file.len() - 4;
    file.splice(at.., [2, 4, 0x7f, 0xff, 0xff, 0xff]);
    lengthen(&mut file, 2);
    let error = call("pkcs12key", &[Arg::Text(&file)]).err().unwrap().to_string();
    assert_eq!(error, "unable to decode pkcs12 with password: pkcs12: the number of iterations is zero or too big");
}

/// Makes the outermost sequence and the last one in it longer.
fn lengthen(file: &mut [u8], by: u8) {
    assert_eq!(&file[..2], &[0x30, 0x82], "a length of two bytes");
    file[3] += by;
    let mac = file.windows(4).rposition(|w| w == [0x30, 0x2f, 0x30, 0x0b]).unwrap() - 2;
    assert_eq!(file[mac], 0x30);
    file[mac + 1] += by;
}

#[test]
fn encrypted_keys_are_opened_with_their_password() {
    let file =
        |name: &str| std::fs::read(format!("{}/e2e/oracles/testdata/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap();
    for kind in ["prime256v1", "rsa2048"] {
        let (encrypted, plain) = (file(&format!("{kind}-encrypted")), file(&format!("{kind}-pkcs8")));
        let opened =
            |text: &[u8], password: &str| decrypted_key(text, password.as_bytes()).map(|key| key.as_bytes().to_vec());
        assert_eq!(opened(&encrypted, "se cret").as_ref(), Ok(&plain));
        assert_eq!(opened(&plain, "").as_ref(), Ok(&plain), "one that is not encrypted stays");
        assert!(opened(&encrypted, "se crets").is_err());
        let short = String::from_utf8(encrypted).unwrap().replacen('M', "A", 3);
        assert!(opened(short.as_bytes(), "se cret").is_err());
    }
    assert!(decrypted_key(&file("root.crt"), b"").is_err());
    assert!(decrypted_key(b"", b"").is_err());
}

#[test]
fn certificates_are_taken_out_of_a_text() {
    let file = |name: &str| {
        std::fs::read_to_string(format!("{}/e2e/oracles/testdata/{name}.pem", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let (leaf, mid, key) = (file("leaf.crt"), file("mid.crt"), file("rsa2048"));
    let text = format!("a comment\r\n{}\n{key}\n{mid}rest", leaf.replace('\n', "\r\n"));
    assert_eq!(certificates(text.as_bytes()), [leaf.clone(), mid]);
    assert!(is_certificate(leaf.as_bytes()) && !is_certificate(key.as_bytes()) && !is_certificate(b""));
    assert!(certificates(key.as_bytes()).is_empty());
}
