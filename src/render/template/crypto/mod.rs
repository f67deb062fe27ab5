//! Functions of templates about keys, certificates, ciphers and passwords: ESO's own and sprig's.
//!
//! [`FUNCTIONS`] has all of them with what they take, so that an engine can register them in one loop. They know nothing of an
//! engine, work on bytes as Go's strings are bytes, and are bounded against hostile input. An error never quotes its input.

mod der;
mod dsa;
mod issue;
mod jwk;
mod keys;
mod passwords;
mod pem;
mod pkcs12;
mod rsa;
mod x509;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::cell::Cell;

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::chance::Chance;
use issue::Wish;

pub use pkcs12::decrypted_key;
pub use x509::{certificates, is_certificate};

/// A function cannot do what it is asked for. The text is Go's, ESO's or sprig's where theirs is fixed, and holds nothing of the
/// input.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FuncError(Cow<'static, str>);

impl FuncError {
    fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Self(text.into())
    }

    const fn fixed(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    fn within(self, place: &str) -> Self {
        Self(format!("{place}: {}", self.0).into())
    }
}

/// Names and values of the members of a JWK.
pub type JwkMembers = Vec<(&'static str, Zeroizing<Vec<u8>>)>;

/// The members of the JWK of a private key in PEM, each as its bytes, `kty` and `crv` as text. None: it is no key of RSA or ECDSA.
#[must_use]
pub fn private_jwk(text: &[u8]) -> Option<JwkMembers> {
    keys::PrivateKey::from_pem(text).ok()?.jwk()
}

/// The first certificate of PEM, of DER, or of PKCS#12 without a password, as DER.
#[must_use]
pub fn leaf_certificate(file: &[u8]) -> Option<Vec<u8>> {
    let (blocks, _) = pem::decode_all(file);
    let of_pem = || blocks.iter().find_map(|block| x509::Certificate::parse(&block.bytes)).map(|found| found.der);
    pkcs12::leaf(file).or_else(|| x509::Certificate::parse(file).map(|found| found.der)).or_else(of_pem)
}

/// What functions are handed from outside, as they have neither a clock nor randomness.
pub struct Outside<'a> {
    /// Now.
    pub now: Timestamp,
    /// What nobody can foresee.
    pub chance: &'a dyn Chance,
    /// Rounds of derivations that files asked for, so far.
    pub rounds: Cell<u64>,
}

impl<'a> Outside<'a> {
    /// That time, and that chance.
    #[must_use]
    pub fn new(now: Timestamp, chance: &'a dyn Chance) -> Self {
        Self { now, chance, rounds: Cell::new(0) }
    }
}

/// Sprig's `certificate`: a template reads its fields as `.Cert` and `.Key`.
#[derive(Clone, PartialEq, Eq)]
pub struct CertificateAndKey {
    /// The certificate in PEM.
    pub cert: Vec<u8>,
    /// Its private key in PEM.
    pub key: Zeroizing<Vec<u8>>,
}

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// An integer (Go's `int`).
    Int,
    /// An integer of 32 bits without a sign.
    Uint32,
    /// A list of strings, or nil for an empty one.
    Texts,
    /// A [`CertificateAndKey`].
    Certificate,
}

/// An argument, of the [`Kind`] asked for.
#[derive(Clone)]
pub enum Arg<'a> {
    /// A string.
    Text(&'a [u8]),
    /// An integer.
    Int(i64),
    /// An integer of 32 bits without a sign.
    Uint32(u32),
    /// A list of strings.
    Texts(Vec<&'a [u8]>),
    /// A certificate and its key.
    Certificate(&'a CertificateAndKey),
}

/// A result.
#[derive(Clone)]
pub enum Made {
    /// A string.
    Text(Zeroizing<Vec<u8>>),
    /// A list of strings.
    Texts(Vec<String>),
    /// A certificate and its key.
    Certificate(CertificateAndKey),
}

impl From<Vec<u8>> for Made {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Text(Zeroizing::new(bytes))
    }
}

impl From<String> for Made {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Vec<String>> for Made {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<CertificateAndKey> for Made {
    fn from(made: CertificateAndKey) -> Self {
        Self::Certificate(made)
    }
}

/// A function of templates.
pub struct Function {
    /// Its name in a template.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static [Kind],
    /// Price of a call, in microseconds but for a few, besides [`Outside::rounds`]: an engine bounds the sum.
    pub cost: usize,
    call: fn(&Outside, &[Arg]) -> Result<Made, FuncError>,
}

impl Function {
    /// Calls it.
    ///
    /// # Errors
    /// The function's, or that the arguments are not what it takes.
    pub fn call(&self, outside: &Outside, args: &[Arg]) -> Result<Made, FuncError> {
        (self.call)(outside, args)
    }
}

/// A call that makes no key and derives none, but for a few thousand rounds.
const LIGHT: usize = 1_000;
/// A call that derives a key from a password in so many rounds that guessing takes long.
const SLOW: usize = 50_000;
/// A call that hashes a password so. It takes as long, but files of a hundred of them are plain use.
const HASH: usize = 19_000;
/// A call that makes a key of RSA.
const KEY: usize = 150_000;
/// The same, of twice the size.
const LONG_KEY: usize = 400_000;

/// Makes the list from lines of `COST "name"(argument: Kind, ...) => result`.
macro_rules! functions {
    (|$outside:ident| $($weight:ident $name:literal ($($arg:ident: $kind:ident),*) => $call:expr;)*) => {
        &[$(Function {
            name: $name,
            takes: &[$(Kind::$kind),*],
            cost: $weight,
            #[allow(unused_variables)]
            call: |$outside, args| match args {
                [$(Arg::$kind($arg)),*] => $call.map(Made::from),
                _ => Err(FuncError::fixed(concat!($name, " is called with the wrong arguments"))),
            },
        }),*]
    };
}

/// All functions.
pub const FUNCTIONS: &[Function] = functions! { |outside|
    SLOW "pkcs12key"(file: Text) => pkcs12::key(outside, b"", file);
    SLOW "pkcs12keyPass"(password: Text, file: Text) => pkcs12::key(outside, password, file);
    SLOW "pkcs12cert"(file: Text) => pkcs12::certificates(outside, b"", file);
    SLOW "pkcs12certPass"(password: Text, file: Text) => pkcs12::certificates(outside, password, file);
    LIGHT "pemToPkcs12"(cert: Text, key: Text) => pkcs12::from_leaf(outside.chance, cert, key, b"");
    LIGHT "pemToPkcs12Pass"(cert: Text, key: Text, password: Text) => pkcs12::from_leaf(outside.chance, cert, key, password);
    LIGHT "fullPemToPkcs12"(certs: Text, key: Text) => pkcs12::from_chain(outside.chance, certs, key, b"");
    LIGHT "fullPemToPkcs12Pass"(certs: Text, key: Text, password: Text) =>
        pkcs12::from_chain(outside.chance, certs, key, password);
    LIGHT "pemTruststoreToPKCS12"(certs: Text) => pkcs12::trust_store(outside.chance, certs, b"");
    LIGHT "pemTruststoreToPKCS12Pass"(certs: Text, password: Text) => pkcs12::trust_store(outside.chance, certs, password);
    LIGHT "filterPEM"(kind: Text, text: Text) => pem::filter(kind, text);
    LIGHT "filterCertChain"(kind: Text, text: Text) => x509::filter_chain(kind, text);
    LIGHT "certSANs"(text: Text) => x509::cert_sans(text);
    LIGHT "jwkPublicKeyPem"(jwk: Text) => jwk::public_pem(jwk);
    LIGHT "jwkPrivateKeyPem"(jwk: Text) => jwk::private_pem(jwk);
    LIGHT "rsaDecrypt"(scheme: Text, hash: Text, input: Text, key: Text) => rsa::decrypt(scheme, hash, input, key);
    HASH "bcrypt"(password: Text) => Ok(passwords::bcrypt(outside.chance, password));
    HASH "htpasswd"(name: Text, password: Text, algorithm: Text) =>
        Ok(passwords::htpasswd(outside.chance, name, password, algorithm));
    SLOW "derivePassword"(counter: Uint32, shape: Text, password: Text, user: Text, site: Text) =>
        passwords::derive(*counter, shape, password, user, site);
    LIGHT "encryptAES"(password: Text, text: Text) => passwords::encrypt_aes(outside.chance, password, text);
    LIGHT "decryptAES"(password: Text, text: Text) => passwords::decrypt_aes(password, text);
    LONG_KEY "genPrivateKey"(kind: Text) => issue::private_key(outside, kind);
    LIGHT "buildCustomCert"(cert: Text, key: Text) => issue::custom(cert, key);
    KEY "genCA"(name: Text, days: Int) => issue::authority(outside, name, *days);
    LIGHT "genCAWithKey"(name: Text, days: Int, key: Text) => issue::authority_with_key(outside, name, *days, key);
    KEY "genSelfSignedCert"(name: Text, ips: Texts, dns: Texts, days: Int) =>
        issue::self_signed(outside, &Wish { name, ips, dns, days: *days });
    LIGHT "genSelfSignedCertWithKey"(name: Text, ips: Texts, dns: Texts, days: Int, key: Text) =>
        issue::self_signed_with_key(outside, &Wish { name, ips, dns, days: *days }, key);
    KEY "genSignedCert"(name: Text, ips: Texts, dns: Texts, days: Int, ca: Certificate) =>
        issue::signed(outside, &Wish { name, ips, dns, days: *days }, ca);
    LIGHT "genSignedCertWithKey"(name: Text, ips: Texts, dns: Texts, days: Int, ca: Certificate, key: Text) =>
        issue::signed_with_key(outside, &Wish { name, ips, dns, days: *days }, ca, key);
};

/// The function of that name.
#[must_use]
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}
