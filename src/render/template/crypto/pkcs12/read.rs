//! Files as go-pkcs12's `DecodeChain` reads them.

use aws_lc_rs::{constant_time, digest, hmac};
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Result, BERReader, Tag};
use zeroize::Zeroizing;

use super::super::der::{self, Oid};
use super::super::keys::PrivateKey;
use super::super::x509::Certificate;
use super::{FuncError, Password, pbe};

pub(super) const DATA: Oid = &[1, 2, 840, 113549, 1, 7, 1];
pub(super) const ENCRYPTED_DATA: Oid = &[1, 2, 840, 113549, 1, 7, 6];
pub(super) const KEY_BAG: Oid = &[1, 2, 840, 113549, 1, 12, 10, 1, 1];
pub(super) const SHROUDED_KEY_BAG: Oid = &[1, 2, 840, 113549, 1, 12, 10, 1, 2];
pub(super) const CERTIFICATE_BAG: Oid = &[1, 2, 840, 113549, 1, 12, 10, 1, 3];
pub(super) const X509: Oid = &[1, 2, 840, 113549, 1, 9, 22, 1];
pub(super) const SHA1: Oid = &[1, 3, 14, 3, 2, 26];
pub(super) const SHA256: Oid = &[2, 16, 840, 1, 101, 3, 4, 2, 1];
pub(super) const SHA512: Oid = &[2, 16, 840, 1, 101, 3, 4, 2, 3];
pub(super) const PBMAC1: Oid = &[1, 2, 840, 113549, 1, 5, 14];

/// Most bags of one file.
const MOST_BAGS: usize = 2000;

const STRUCTURE: FuncError = FuncError::fixed("pkcs12: error reading P12 data");
const WRONG_PASSWORD: FuncError = FuncError::fixed("pkcs12: decryption password incorrect");

type Algorithm = (ObjectIdentifier, Option<Vec<u8>>);
/// What a type is given with: DER.
type Typed = (ObjectIdentifier, Vec<u8>);

struct Mac {
    algorithm: Algorithm,
    digest: Vec<u8>,
    salt: Vec<u8>,
    rounds: u32,
}

/// The private key and the certificates, in the order of the file.
pub fn chain(file: &[u8], password: &Password) -> Result<(PrivateKey, Vec<Certificate>), FuncError> {
    let (content, mac) = der::read(file, read_pfx).ok_or(STRUCTURE)??;
    let none = verified(&content, mac.as_ref(), password)?;
    let password = none.as_ref().unwrap_or(password);
    let safes = der::read(&content, |reader| reader.collect_sequence_of(read_typed)).ok_or(STRUCTURE)?;
    if !(1..=2).contains(&safes.len()) {
        return Err(FuncError::new("pkcs12: expected between 1 and 2 items in the authenticated safe"));
    }
    let (mut key, mut certificates) = (None, Vec::new());
    for safe in &safes {
        let data = open(safe, password)?;
        let bags = der::read(&data, |reader| reader.collect_sequence_of(read_bag)).ok_or(STRUCTURE)?;
        for (kind, value) in bags {
            if der::is(&kind, CERTIFICATE_BAG) {
                certificates.push(certificate(&value)?);
            } else if der::is(&kind, KEY_BAG) || der::is(&kind, SHROUDED_KEY_BAG) {
                if key.is_some() {
                    return Err(FuncError::new("pkcs12: expected exactly one key bag"));
                }
                key = Some(private_key(&value, der::is(&kind, SHROUDED_KEY_BAG).then_some(password))?);
            }
            if certificates.len() > MOST_BAGS {
                return Err(FuncError::new("pkcs12: too many certificates"));
            }
        }
    }
    if certificates.is_empty() {
        return Err(FuncError::new("pkcs12: certificate missing"));
    }
    Ok((key.ok_or(FuncError::new("pkcs12: private key missing"))?, certificates))
}

/// What a file holds, and the MAC over that.
type Pfx = (Vec<u8>, Option<Mac>);

fn read_pfx(reader: BERReader) -> ASN1Result<Result<Pfx, FuncError>> {
    reader.read_sequence(|reader| {
        let version = reader.next().read_u8()?;
        let (kind, content) = read_typed(reader.next())?;
        let mac = reader.read_optional(read_mac)?;
        if version != 3 {
            return Ok(Err(FuncError::new("pkcs12: can only decode v3 PFX PDU's")));
        }
        if !der::is(&kind, DATA) {
            return Ok(Err(FuncError::new("pkcs12: only password-protected PFX is implemented")));
        }
        Ok(der::read_octets(&content).map(|content| (content, mac)).ok_or(STRUCTURE))
    })
}

fn read_typed(reader: BERReader) -> ASN1Result<Typed> {
    reader.read_sequence(|reader| {
        Ok((reader.next().read_oid()?, reader.next().read_tagged(Tag::context(0), |r| r.read_der())?))
    })
}

fn read_bag(reader: BERReader) -> ASN1Result<Typed> {
    reader.read_sequence(|reader| {
        let bag = (reader.next().read_oid()?, reader.next().read_tagged(Tag::context(0), |r| r.read_der())?);
        der::skip_rest(reader)?;
        Ok(bag)
    })
}

fn read_mac(reader: BERReader) -> ASN1Result<Mac> {
    reader.read_sequence(|reader| {
        let (algorithm, digest) =
            reader.next().read_sequence(|reader| Ok((der::read_algorithm(reader.next())?, reader.next().read_bytes()?)))?;
        let salt = reader.next().read_bytes()?;
        let rounds = reader.read_optional(|r| r.read_u32())?.unwrap_or(1);
        Ok(Mac { algorithm, digest, salt, rounds })
    })
}

/// The other form of a password that the MAC was made with, if it was.
fn verified(content: &[u8], mac: Option<&Mac>, password: &Password) -> Result<Option<Password>, FuncError> {
    let Some(mac) = mac else {
        return if password.is_empty() { Ok(None) } else { Err(FuncError::new("pkcs12: no MAC in data")) };
    };
    if mac.fits(content, password)? {
        return Ok(None);
    }
    let none = password.or_none();
    if password.is_empty() && mac.fits(content, &none)? { Ok(Some(none)) } else { Err(WRONG_PASSWORD) }
}

impl Mac {
    fn fits(&self, content: &[u8], password: &Password) -> Result<bool, FuncError> {
        let made = hmac::sign(&self.key(password)?, content);
        Ok(constant_time::verify_slices_are_equal(made.as_ref(), &self.digest).is_ok())
    }

    fn key(&self, password: &Password) -> Result<hmac::Key, FuncError> {
        let (oid, parameters) = &self.algorithm;
        let (hash, mac) = match () {
            () if der::is(oid, PBMAC1) => return pbe::pbmac1(parameters.as_deref().unwrap_or_default(), password),
            () if der::is(oid, SHA1) => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            () if der::is(oid, SHA256) => (&digest::SHA256, hmac::HMAC_SHA256),
            () if der::is(oid, SHA512) => (&digest::SHA512, hmac::HMAC_SHA512),
            () => return Err(FuncError::new("pkcs12: MAC digest algorithm not supported")),
        };
        let (rounds, length) = (password.rounds(self.rounds)?, hash.output_len());
        Ok(hmac::Key::new(mac, &pbe::derive(hash, pbe::Purpose::Mac, password.bmp(), &self.salt, rounds, length)))
    }
}

/// The bags of one part of the file.
fn open((kind, content): &Typed, password: &Password) -> Result<Zeroizing<Vec<u8>>, FuncError> {
    if der::is(kind, DATA) {
        return der::read_octets(content).map(Zeroizing::new).ok_or(STRUCTURE);
    }
    if !der::is(kind, ENCRYPTED_DATA) {
        return Err(FuncError::new("pkcs12: only data and encryptedData content types are supported in authenticated safe"));
    }
    let (version, algorithm, data) = der::read(content, |reader| {
        reader.read_sequence(|reader| {
            let version = reader.next().read_u8()?;
            let (algorithm, data) = reader.next().read_sequence(|reader| {
                reader.next().read_oid()?;
                let algorithm = der::read_algorithm(reader.next())?;
                Ok((algorithm, reader.next().read_tagged_implicit(Tag::context(0), |r| r.read_bytes())?))
            })?;
            der::skip_rest(reader)?;
            Ok((version, algorithm, data))
        })
    })
    .ok_or(STRUCTURE)?;
    if version != 0 {
        return Err(FuncError::new("pkcs12: only version 0 of EncryptedData is supported"));
    }
    pbe::decrypt(&algorithm, password, &data)
}

fn certificate(bag: &[u8]) -> Result<Certificate, FuncError> {
    let (kind, value) = der::read(bag, read_typed).ok_or(FuncError::new("pkcs12: error decoding cert bag"))?;
    if !der::is(&kind, X509) {
        return Err(FuncError::new("pkcs12: only X509 certificates are supported in cert bags"));
    }
    let der = der::read_octets(&value);
    der.and_then(|der| Certificate::parse(&der)).ok_or(FuncError::new("pkcs12: a cert bag does not hold a certificate"))
}

/// A key, which is encrypted if there is a password for it.
fn private_key(bag: &[u8], password: Option<&Password>) -> Result<PrivateKey, FuncError> {
    const NO_KEY: FuncError = FuncError::fixed("pkcs12: error parsing PKCS#8 private key");
    let Some(password) = password else { return PrivateKey::parse_pkcs8(bag).ok_or(NO_KEY) };
    encrypted_key(bag, password)?.ok_or(NO_KEY)
}

/// A key in an `EncryptedPrivateKeyInfo` (RFC 5958); nothing where it is of a kind that is not known.
///
/// # Errors
/// It is none, or not of that password.
pub fn encrypted_key(document: &[u8], password: &Password) -> Result<Option<PrivateKey>, FuncError> {
    let (algorithm, data) = der::read(document, |reader| {
        reader.read_sequence(|reader| Ok((der::read_algorithm(reader.next())?, reader.next().read_bytes()?)))
    })
    .ok_or(FuncError::new("pkcs12: error decoding PKCS#8 shrouded key bag"))?;
    let key = pbe::decrypt(&algorithm, password, &data)
        .map_err(|e| e.within("pkcs12: error decrypting PKCS#8 shrouded key bag"))?;
    Ok(PrivateKey::parse_pkcs8(&key))
}
