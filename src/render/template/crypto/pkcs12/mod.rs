//! PKCS#12 files: read as go-pkcs12 reads them, the old encryptions too, and written as its `Modern` encoder does.

mod pbe;
mod read;
mod write;

use std::cell::Cell;
use std::num::NonZeroU32;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::keys::{PrivateKey, Secret};
use super::x509::{self, Certificate};
use super::{FuncError, Outside, pem};
use crate::render::template::chance::Chance;

pub(super) use pbe::{aes_cbc, aes_cbc_encrypt};

/// A password in the forms that the parts of a file take it in.
struct Password {
    text: Zeroizing<String>,
    bmp: Secret,
    /// Rounds that keys were derived from it in.
    spent: Rc<Cell<u64>>,
}

impl Password {
    fn new(bytes: &[u8]) -> Result<Self, FuncError> {
        let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
        let bmp = Zeroizing::new([&bmp_string(&text)?[..], &[0, 0]].concat());
        Ok(Self { text, bmp, spent: Rc::default() })
    }

    /// Some programs take no password for one of no bytes, without the zero at its end.
    fn or_none(&self) -> Self {
        Self { text: Zeroizing::default(), bmp: Zeroizing::default(), spent: self.spent.clone() }
    }

    /// Rounds that a part of a file asks for, which count.
    fn rounds(&self, found: u32) -> Result<NonZeroU32, FuncError> {
        let rounds = pbe::rounds(found)?;
        self.spent.set(self.spent.get() + u64::from(found));
        if self.spent.get() > MOST_ROUNDS { Err(pbe::ROUNDS_TOO_BIG) } else { Ok(rounds) }
    }

    fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// For PBES2 and PBMAC1.
    fn utf8(&self) -> Secret {
        Zeroizing::new(self.text.as_bytes().to_vec())
    }

    /// For PKCS#12's own derivation.
    fn bmp(&self) -> &[u8] {
        &self.bmp
    }
}

/// Most rounds that the parts of one file may ask for together.
const MOST_ROUNDS: u64 = 4_000_000;

/// UCS-2.
fn bmp_string(text: &str) -> Result<Secret, FuncError> {
    let unit = |c: char| u16::try_from(u32::from(c)).map(u16::to_be_bytes);
    let units: Vec<[u8; 2]> = text
        .chars()
        .map(unit)
        .collect::<Result<_, _>>()
        .map_err(|_| FuncError::new("pkcs12: string contains characters that cannot be encoded in UCS-2"))?;
    Ok(Zeroizing::new(units.concat()))
}

/// What a file holds; its rounds are noted.
fn chain(outside: &Outside<'_>, password: &[u8], file: &[u8]) -> Result<(PrivateKey, Vec<Certificate>), FuncError> {
    let password = Password::new(password)?;
    let found = read::chain(file, &password);
    outside.rounds.set(outside.rounds.get() + password.spent.get());
    found
}

/// `pkcs12key`, `pkcs12keyPass`: the private key as PKCS#8 in PEM.
///
/// # Errors
/// The file cannot be read, or not with that password.
pub fn key(outside: &Outside<'_>, password: &[u8], file: &[u8]) -> Result<String, FuncError> {
    let (key, _) = chain(outside, password, file).map_err(|e| e.within("unable to decode pkcs12 with password"))?;
    key.pkcs8_pem().ok_or(FuncError::new("the private key is not one that PKCS#8 can hold"))
}

/// The private key of an `ENCRYPTED PRIVATE KEY` in PEM, as PKCS#8 in PEM. One that is not encrypted stays as it is.
///
/// # Errors
/// It is none, or not of that password.
pub fn decrypted_key(text: &[u8], password: &[u8]) -> Result<Zeroizing<String>, FuncError> {
    let (block, _) = pem::decode(text).ok_or(FuncError::new("the private key is not PEM"))?;
    let key = match block.kind.as_slice() {
        b"ENCRYPTED PRIVATE KEY" => read::encrypted_key(&block.bytes, &Password::new(password)?)?,
        pem_kind if pem_kind == pem::PRIVATE_KEY.as_bytes() => PrivateKey::parse_pkcs8(&Zeroizing::new(block.bytes)),
        _ => None,
    };
    let text = key.and_then(|key| key.pkcs8_pem()).map(Zeroizing::new);
    text.ok_or(FuncError::new("the private key is of a kind that is not known"))
}

/// The first certificate of a file without a password, as DER.
pub fn leaf(file: &[u8]) -> Option<Vec<u8>> {
    read::chain(file, &Password::new(b"").ok()?).ok()?.1.into_iter().next().map(|certificate| certificate.der)
}

/// `pkcs12cert`, `pkcs12certPass`: the certificates in PEM, from leaf to root if they are one chain, and as they are if not.
///
/// # Errors
/// The file cannot be read, or not with that password.
pub fn certificates(outside: &Outside<'_>, password: &[u8], file: &[u8]) -> Result<String, FuncError> {
    let (_, found) =
        chain(outside, password, file).map_err(|e| e.within("unable to decode pkcs12 certificate with password"))?;
    let ordered = x509::order(&found).unwrap_or_else(|_| found.iter().collect());
    Ok(ordered.iter().map(|certificate| certificate.pem()).collect())
}

/// `pemToPkcs12`, `pemToPkcs12Pass`: a file of the first certificate and a key, in base64.
///
/// # Errors
/// Something is not what it should be.
pub fn from_leaf(chance: &dyn Chance, certificate: &[u8], key: &[u8], password: &[u8]) -> Result<String, FuncError> {
    let (block, _) = pem::decode(certificate).ok_or(NO_CERTIFICATE)?;
    let leaf = Certificate::parse(&block.bytes).ok_or(x509::NOT_ONE)?;
    write::chain(chance, &private_key(key)?, &[leaf], &Password::new(password)?)
}

/// `fullPemToPkcs12`, `fullPemToPkcs12Pass`: a file of all certificates and a key, in base64.
///
/// # Errors
/// Something is not what it should be.
pub fn from_chain(chance: &dyn Chance, certificates: &[u8], key: &[u8], password: &[u8]) -> Result<String, FuncError> {
    write::chain(chance, &private_key(key)?, &all_certificates(certificates)?, &Password::new(password)?)
}

/// `pemTruststoreToPKCS12`, `pemTruststoreToPKCS12Pass`: a trust store as Java reads it, in base64.
///
/// # Errors
/// Something is not what it should be.
pub fn trust_store(chance: &dyn Chance, certificates: &[u8], password: &[u8]) -> Result<String, FuncError> {
    write::trust_store(chance, &all_certificates(certificates)?, &Password::new(password)?)
}

const NO_CERTIFICATE: FuncError = FuncError::fixed("the certificate is not PEM");

/// Blanks and remarks may follow the last certificate; one that is broken may not.
fn all_certificates(text: &[u8]) -> Result<Vec<Certificate>, FuncError> {
    let (certificates, rest) = Certificate::parse_all(text)?;
    if certificates.is_empty() {
        return Err(NO_CERTIFICATE);
    }
    if pem::without_preface(rest).starts_with(b"-----BEGIN") {
        return Err(FuncError::new("the last certificate is not whole"));
    }
    Ok(certificates)
}

fn private_key(text: &[u8]) -> Result<PrivateKey, FuncError> {
    let (block, _) = pem::decode(text).ok_or(FuncError::new("the private key is not PEM"))?;
    PrivateKey::parse(&Zeroizing::new(block.bytes)).ok_or(FuncError::new("unable to parse private key type"))
}
