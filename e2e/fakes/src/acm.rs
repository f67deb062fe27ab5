//! AWS Certificate Manager, with the search by tags of the "Resource Groups Tagging API" beside it: both speak AWS's JSON protocol at
//! one address. Written after their API references; the emulator that the other AWS tests use exports no certificate and finds none
//! by its tags. AWS' own SDK for Python, boto3, drives each call (`e2e/oracles/clients/acm.py`), and OpenSSL decrypts what is exported.
//! Not in it: who may do what, and `ListCertificates`, which keyferry does not call.

use std::collections::BTreeMap;
use std::sync::Mutex;

use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply};

/// Rounds of the derivation with which a key is encrypted for its export.
const ROUNDS: u32 = 2048;
const PREFIX: &str = "arn:aws:acm:eu-west-1:000000000000:certificate/";

/// A certificate that the service holds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// In PEM.
    pub certificate: String,
    /// In PEM; empty: none.
    pub chain: String,
    /// PKCS#8 in PEM.
    pub key: String,
    /// By key.
    pub tags: BTreeMap<String, String>,
    /// Whether it may be exported: `Options.Export`.
    pub exportable: bool,
    /// `AMAZON_ISSUED`, `PRIVATE` or `IMPORTED`.
    pub kind: &'static str,
    /// Something uses it, so that it cannot be deleted.
    pub in_use: bool,
    /// The search by tags does not know of it yet.
    pub unlisted: bool,
}

/// The service.
#[derive(Default)]
pub struct Acm {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    certificates: BTreeMap<String, Held>,
    imported: usize,
    lags: bool,
}

impl Acm {
    /// Puts a certificate there and returns its ARN.
    pub fn hold(&self, name: &str, held: Held) -> String {
        let arn = format!("{PREFIX}{name}");
        self.state.lock().unwrap().certificates.insert(arn.clone(), held);
        arn
    }

    /// What there is at an ARN.
    pub fn at(&self, arn: &str) -> Option<Held> {
        self.state.lock().unwrap().certificates.get(arn).cloned()
    }

    /// All certificates by ARN.
    pub fn all(&self) -> BTreeMap<String, Held> {
        self.state.lock().unwrap().certificates.clone()
    }

    /// Changes the certificate at an ARN.
    pub fn change(&self, arn: &str, change: impl FnOnce(&mut Held)) {
        change(self.state.lock().unwrap().certificates.get_mut(arn).unwrap());
    }

    /// Takes a certificate away, as somebody else would.
    pub fn remove(&self, arn: &str) {
        self.state.lock().unwrap().certificates.remove(arn);
    }

    /// From now on, the search by tags does not know of what is imported.
    pub fn lag(&self) {
        self.state.lock().unwrap().lags = true;
    }
}

impl Fake for Acm {
    fn answer(&self, asked: &Received) -> Reply {
        let (body, mut state) = (asked.json(), self.state.lock().unwrap());
        let action = action(asked);
        let outcome = match action {
            "GetResources" => Ok(state.resources(&body)),
            "ImportCertificate" => state.import(&body),
            _ => state.on_certificate(action, &body),
        };
        match outcome {
            Ok(answer) => reply(200, &answer),
            Err((code, message)) => reply(400, &json!({"__type": code, "message": message})),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        match refusal {
            Refusal::Denied => reply(400, &json!({"__type": "AccessDeniedException", "Message": "not authorized"})),
            Refusal::Throttled(seconds) => {
                let body = json!({"__type": "ThrottlingException", "message": CANARY});
                reply(400, &body).with("retry-after", &seconds.to_string())
            }
            Refusal::Broken => Reply::text(503, CANARY),
        }
    }
}

/// What was asked for: `GetCertificate`.
pub fn action(asked: &Received) -> &str {
    asked.header("x-amz-target").rsplit('.').next().unwrap()
}

fn reply(status: u16, body: &Value) -> Reply {
    let reply = Reply::text(status, &body.to_string()).with("content-type", "application/x-amz-json-1.1");
    reply.with("x-amzn-requestid", "request-1")
}

type Outcome = Result<Value, (&'static str, String)>;

fn text<'a>(body: &'a Value, field: &str) -> &'a str {
    body[field].as_str().unwrap_or_default()
}

/// A field that the protocol has as bytes.
fn blob(body: &Value, field: &str) -> String {
    String::from_utf8(STANDARD.decode(text(body, field)).unwrap()).unwrap()
}

fn entries<'a>(body: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    body[field].as_array().into_iter().flatten()
}

fn pairs(body: &Value) -> impl Iterator<Item = (String, String)> + '_ {
    entries(body, "Tags").map(|tag| (text(tag, "Key").to_owned(), text(tag, "Value").to_owned()))
}

fn listed(tags: &BTreeMap<String, String>) -> Value {
    tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect()
}

impl State {
    fn import(&mut self, body: &Value) -> Outcome {
        let [certificate, key] = ["Certificate", "PrivateKey"].map(|field| blob(body, field));
        let invalid = |message: String| Err(("ValidationException", message));
        if certificate.matches("-----BEGIN CERTIFICATE-----").count() != 1 {
            return invalid("The certificate field contains more than one certificate, or none.".to_owned());
        }
        if !key.contains("PRIVATE KEY-----") {
            return invalid(format!("The private key {key} is not valid."));
        }
        let given = text(body, "CertificateArn");
        if !given.is_empty() && !body["Tags"].is_null() {
            return invalid("Tags cannot be applied when a certificate is reimported.".to_owned());
        }
        let mut held = match given {
            "" => Held { kind: "IMPORTED", unlisted: self.lags, ..Held::default() },
            arn => self.certificates.get(arn).cloned().ok_or_else(|| missing(arn))?,
        };
        (held.certificate, held.key, held.chain) = (certificate, key, blob(body, "CertificateChain"));
        held.tags.extend(pairs(body));
        let arn = if given.is_empty() {
            self.imported += 1;
            format!("{PREFIX}imported-{:04}", self.imported)
        } else {
            given.to_owned()
        };
        self.certificates.insert(arn.clone(), held);
        Ok(json!({"CertificateArn": arn}))
    }

    fn on_certificate(&mut self, action: &str, body: &Value) -> Outcome {
        let arn = text(body, "CertificateArn");
        let held = self.certificates.get_mut(arn).ok_or_else(|| missing(arn))?;
        match action {
            // A certificate without a chain is its own.
            "GetCertificate" => {
                let chain = if held.chain.is_empty() { &held.certificate } else { &held.chain };
                Ok(json!({"Certificate": held.certificate, "CertificateChain": chain}))
            }
            "DescribeCertificate" => {
                let export = if held.exportable { "ENABLED" } else { "DISABLED" };
                Ok(json!({"Certificate": {"CertificateArn": arn, "Type": held.kind, "Options": {"Export": export}}}))
            }
            "ExportCertificate" => {
                if !held.exportable && held.kind != "PRIVATE" {
                    return Err(("ValidationException", "The certificate is not exportable.".to_owned()));
                }
                let passphrase = STANDARD.decode(text(body, "Passphrase")).unwrap();
                if !(4..=128).contains(&passphrase.len()) || passphrase.iter().any(|byte| b"#$%".contains(byte)) {
                    return Err(("ValidationException", "The passphrase is not valid.".to_owned()));
                }
                let key = encrypted(&held.key, &passphrase);
                Ok(json!({"Certificate": held.certificate, "CertificateChain": held.chain, "PrivateKey": key}))
            }
            "ListTagsForCertificate" => Ok(json!({"Tags": listed(&held.tags)})),
            "AddTagsToCertificate" => {
                held.tags.extend(pairs(body));
                Ok(json!({}))
            }
            // A value that is given must be the tag's.
            "RemoveTagsFromCertificate" => {
                for gone in entries(body, "Tags") {
                    let is_it = |key: &String, value: &String| {
                        gone["Key"] == *key && (gone["Value"].is_null() || gone["Value"] == *value)
                    };
                    held.tags.retain(|key, value| !is_it(key, value));
                }
                Ok(json!({}))
            }
            "DeleteCertificate" if held.in_use => Err(("ResourceInUseException", format!("{arn} is in use."))),
            "DeleteCertificate" => {
                self.certificates.remove(arn);
                Ok(json!({}))
            }
            other => panic!("{other} was not expected"),
        }
    }

    /// In pages of one, so that who asks must turn them.
    fn resources(&self, body: &Value) -> Value {
        assert_eq!(body["ResourceTypeFilters"], json!(["acm:certificate"]));
        let fits = |held: &Held| {
            entries(body, "TagFilters").all(|filter| {
                let any = entries(filter, "Values").next().is_none();
                let found = held.tags.get(text(filter, "Key"));
                found.is_some_and(|found| any || entries(filter, "Values").any(|value| value == found))
            })
        };
        let all: Vec<_> = self.certificates.iter().filter(|(_, held)| !held.unlisted && fits(held)).rev().collect();
        let at = text(body, "PaginationToken").parse::<usize>().unwrap_or_default();
        let found: Vec<_> =
            all.iter().skip(at).take(1).map(|(arn, held)| json!({"ResourceARN": arn, "Tags": listed(&held.tags)})).collect();
        let next = if at + 1 < all.len() { (at + 1).to_string() } else { String::new() };
        json!({"ResourceTagMappingList": found, "PaginationToken": next})
    }
}

fn missing(arn: &str) -> (&'static str, String) {
    ("ResourceNotFoundException", format!("Could not find certificate {arn}."))
}

/// The key as ACM hands it out: PKCS#8, encrypted by PBES2 with PBKDF2, HMAC-SHA-1 and AES-256 (RFC 8018).
fn encrypted(key: &str, passphrase: &[u8]) -> String {
    let base64: String = key.lines().filter(|line| !line.starts_with("-----")).collect();
    let mut data = STANDARD.decode(base64).unwrap();
    let padding = 16 - data.len() % 16;
    data.resize(data.len() + padding, u8::try_from(padding).unwrap());
    let (salt, iv, mut derived) = ([7; 8], [9; 16], [0; 32]);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, ROUNDS.try_into().unwrap(), &salt, passphrase, &mut derived);
    let cipher = EncryptingKey::cbc(UnboundCipherKey::new(&AES_256, &derived).unwrap()).unwrap();
    cipher.less_safe_encrypt(&mut data, EncryptionContext::Iv128(FixedLength::from(iv))).unwrap();
    const PBES2: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
    const PBKDF2: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
    const AES_256_CBC: &[u8] = &[0x06, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];
    let [high, low] = u16::try_from(ROUNDS).unwrap().to_be_bytes();
    let kdf = sequence(&[&der(4, &salt), &der(2, &[high, low])]);
    let scheme = sequence(&[PBES2, &sequence(&[&sequence(&[PBKDF2, &kdf]), &sequence(&[AES_256_CBC, &der(4, &iv)])])]);
    let document = STANDARD.encode(sequence(&[&scheme, &der(4, &data)]));
    let lines: Vec<&str> = document.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{}\n-----END ENCRYPTED PRIVATE KEY-----\n", lines.join("\n"))
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut all = vec![tag];
    match content.len() {
        0..128 => all.push(u8::try_from(content.len()).unwrap()),
        _ => {
            all.push(0x80 + u8::try_from(length.len()).unwrap());
            all.extend(length);
        }
    }
    all.extend_from_slice(content);
    all
}
