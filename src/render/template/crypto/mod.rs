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

use jiff::Timestamp;
use zeroize::Zeroizing;

use super::chance::Chance;
use issue::Wish;

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

/// What functions are handed from outside, as they have neither a clock nor randomness.
pub struct Outside<'a> {
    /// Now.
    pub now: Timestamp,
    /// What nobody can foresee.
    pub chance: &'a dyn Chance,
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
    /// Whether one call takes longer than a few milliseconds: an engine lets a template make few of these.
    pub heavy: bool,
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

/// Makes the list from lines of `"name"(argument: Kind, ...) => result`.
macro_rules! functions {
    (|$outside:ident| $($weight:ident $name:literal ($($arg:ident: $kind:ident),*) => $call:expr;)*) => {
        &[$(Function {
            name: $name,
            takes: &[$(Kind::$kind),*],
            heavy: functions!($weight),
            #[allow(unused_variables)]
            call: |$outside, args| match args {
                [$(Arg::$kind($arg)),*] => $call.map(Made::from),
                _ => Err(FuncError::fixed(concat!($name, " is called with the wrong arguments"))),
            },
        }),*]
    };
    (light) => { false };
    (heavy) => { true };
}

/// All functions.
pub const FUNCTIONS: &[Function] = functions! { |outside|
    heavy "pkcs12key"(file: Text) => pkcs12::key(b"", file);
    heavy "pkcs12keyPass"(password: Text, file: Text) => pkcs12::key(password, file);
    heavy "pkcs12cert"(file: Text) => pkcs12::certificates(b"", file);
    heavy "pkcs12certPass"(password: Text, file: Text) => pkcs12::certificates(password, file);
    light "pemToPkcs12"(cert: Text, key: Text) => pkcs12::from_leaf(outside.chance, cert, key, b"");
    light "pemToPkcs12Pass"(cert: Text, key: Text, password: Text) => pkcs12::from_leaf(outside.chance, cert, key, password);
    light "fullPemToPkcs12"(certs: Text, key: Text) => pkcs12::from_chain(outside.chance, certs, key, b"");
    light "fullPemToPkcs12Pass"(certs: Text, key: Text, password: Text) =>
        pkcs12::from_chain(outside.chance, certs, key, password);
    light "pemTruststoreToPKCS12"(certs: Text) => pkcs12::trust_store(outside.chance, certs, b"");
    light "pemTruststoreToPKCS12Pass"(certs: Text, password: Text) => pkcs12::trust_store(outside.chance, certs, password);
    light "filterPEM"(kind: Text, text: Text) => pem::filter(kind, text);
    light "filterCertChain"(kind: Text, text: Text) => x509::filter_chain(kind, text);
    light "certSANs"(text: Text) => x509::cert_sans(text);
    light "jwkPublicKeyPem"(jwk: Text) => jwk::public_pem(jwk);
    light "jwkPrivateKeyPem"(jwk: Text) => jwk::private_pem(jwk);
    light "rsaDecrypt"(scheme: Text, hash: Text, input: Text, key: Text) => rsa::decrypt(scheme, hash, input, key);
    heavy "bcrypt"(password: Text) => Ok(passwords::bcrypt(outside.chance, password));
    heavy "htpasswd"(name: Text, password: Text, algorithm: Text) =>
        Ok(passwords::htpasswd(outside.chance, name, password, algorithm));
    heavy "derivePassword"(counter: Uint32, shape: Text, password: Text, user: Text, site: Text) =>
        passwords::derive(*counter, shape, password, user, site);
    light "encryptAES"(password: Text, text: Text) => passwords::encrypt_aes(outside.chance, password, text);
    light "decryptAES"(password: Text, text: Text) => passwords::decrypt_aes(password, text);
    heavy "genPrivateKey"(kind: Text) => issue::private_key(outside, kind);
    light "buildCustomCert"(cert: Text, key: Text) => issue::custom(cert, key);
    heavy "genCA"(name: Text, days: Int) => issue::authority(outside, name, *days);
    light "genCAWithKey"(name: Text, days: Int, key: Text) => issue::authority_with_key(outside, name, *days, key);
    heavy "genSelfSignedCert"(name: Text, ips: Texts, dns: Texts, days: Int) =>
        issue::self_signed(outside, &Wish { name, ips, dns, days: *days });
    light "genSelfSignedCertWithKey"(name: Text, ips: Texts, dns: Texts, days: Int, key: Text) =>
        issue::self_signed_with_key(outside, &Wish { name, ips, dns, days: *days }, key);
    heavy "genSignedCert"(name: Text, ips: Texts, dns: Texts, days: Int, ca: Certificate) =>
        issue::signed(outside, &Wish { name, ips, dns, days: *days }, ca);
    light "genSignedCertWithKey"(name: Text, ips: Texts, dns: Texts, days: Int, ca: Certificate, key: Text) =>
        issue::signed_with_key(outside, &Wish { name, ips, dns, days: *days }, ca, key);
};

/// The function of that name.
#[must_use]
pub fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}
