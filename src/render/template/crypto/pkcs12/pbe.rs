//! Keys from passwords, and the ciphers that PKCS#12 files are encrypted with.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, AES_192, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{cipher, digest, pbkdf2};
use cbc::cipher::{BlockModeDecrypt as _, InnerIvInit as _, KeyInit as _, block_padding::NoPadding};
use des::TdesEde3;
use rc2::Rc2;
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Result, BERReader, DERWriter, construct_der};
use zeroize::Zeroizing;

use super::super::der::{self, Oid};
use super::super::keys::Secret;
use super::{FuncError, Password};
use crate::render::template::chance::Chance;

/// Most rounds that a file may ask for: a hostile one asks for billions.
const MOST_ROUNDS: u32 = 2_000_000;
/// Rounds of what is written, as in go-pkcs12.
pub const ROUNDS: u32 = 2048;
/// Bytes of a salt that is written, as in go-pkcs12.
pub const SALT: usize = 16;

const PBES2: Oid = &[1, 2, 840, 113549, 1, 5, 13];
const PBKDF2: Oid = &[1, 2, 840, 113549, 1, 5, 12];
const PBE_3DES: Oid = &[1, 2, 840, 113549, 1, 12, 1, 3];
const PBE_RC2_128: Oid = &[1, 2, 840, 113549, 1, 12, 1, 5];
const PBE_RC2_40: Oid = &[1, 2, 840, 113549, 1, 12, 1, 6];
const HMAC_SHA1: Oid = &[1, 2, 840, 113549, 2, 7];
const HMAC_SHA256: Oid = &[1, 2, 840, 113549, 2, 9];
const HMAC_SHA512: Oid = &[1, 2, 840, 113549, 2, 11];
const AES_128_CBC: Oid = &[2, 16, 840, 1, 101, 3, 4, 1, 2];
const AES_192_CBC: Oid = &[2, 16, 840, 1, 101, 3, 4, 1, 22];
const AES_256_CBC: Oid = &[2, 16, 840, 1, 101, 3, 4, 1, 42];

/// What a key is for: PKCS#12's own derivation gives another for each purpose.
#[derive(Clone, Copy)]
pub enum Purpose {
    Encryption = 1,
    Iv = 2,
    Mac = 3,
}

/// Rounds as a file gives them.
///
/// # Errors
/// None, or too many.
pub fn rounds(found: u32) -> Result<NonZeroU32, FuncError> {
    NonZeroU32::new(found).filter(|rounds| rounds.get() <= MOST_ROUNDS).ok_or(ROUNDS_TOO_BIG)
}

pub(super) const ROUNDS_TOO_BIG: FuncError = FuncError::fixed("pkcs12: the number of iterations is zero or too big");

/// PKCS#12's own derivation of keys (RFC 7292, appendix B.2).
pub fn derive(
    hash: &'static digest::Algorithm,
    purpose: Purpose,
    password: &[u8],
    salt: &[u8],
    rounds: NonZeroU32,
    length: usize,
) -> Secret {
    let block = hash.block_len();
    let repeated =
        |text: &[u8]| -> Vec<u8> { text.iter().copied().cycle().take(text.len().div_ceil(block) * block).collect() };
    let mut input = Zeroizing::new([repeated(salt), repeated(password)].concat());
    let mut key = Zeroizing::new(Vec::new());
    loop {
        let first = digest::digest(hash, &Zeroizing::new([&vec![purpose as u8; block], &input[..]].concat()));
        let round = (1..rounds.get()).fold(first, |last, _| digest::digest(hash, last.as_ref()));
        key.extend_from_slice(round.as_ref());
        if key.len() >= length {
            key.truncate(length);
            return key;
        }
        let addend: Vec<u8> = round.as_ref().iter().copied().cycle().take(block).collect();
        for chunk in input.chunks_mut(block) {
            add_one_and(chunk, &addend);
        }
    }
}

/// Adds one and the other number, big-endian, and drops what does not fit.
fn add_one_and(number: &mut [u8], addend: &[u8]) {
    let mut carry = 1;
    for (digit, other) in number.iter_mut().zip(addend).rev() {
        let sum = u16::from(*digit) + u16::from(*other) + carry;
        *digit = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}

/// Parameters of PBKDF2.
struct Pbkdf2 {
    salt: Vec<u8>,
    rounds: u32,
    length: Option<u32>,
    prf: Option<ObjectIdentifier>,
}

impl Pbkdf2 {
    fn read(reader: BERReader) -> ASN1Result<Self> {
        reader.read_sequence(|reader| {
            Ok(Self {
                salt: reader.next().read_bytes()?,
                rounds: reader.next().read_u32()?,
                length: reader.read_optional(|r| r.read_u32())?,
                prf: reader.read_optional(der::read_algorithm)?.map(|(prf, _)| prf),
            })
        })
    }

    fn key(&self, password: &Password, length: usize) -> Result<Secret, FuncError> {
        let algorithm = match &self.prf {
            None => pbkdf2::PBKDF2_HMAC_SHA1,
            Some(prf) if der::is(prf, HMAC_SHA1) => pbkdf2::PBKDF2_HMAC_SHA1,
            Some(prf) if der::is(prf, HMAC_SHA256) => pbkdf2::PBKDF2_HMAC_SHA256,
            Some(prf) if der::is(prf, HMAC_SHA512) => pbkdf2::PBKDF2_HMAC_SHA512,
            Some(_) => return Err(UNKNOWN),
        };
        let mut key = Zeroizing::new(vec![0; length]);
        pbkdf2::derive(algorithm, password.rounds(self.rounds)?, &self.salt, &password.utf8(), &mut key);
        Ok(key)
    }
}

const UNKNOWN: FuncError = FuncError::fixed("pkcs12: an encryption algorithm is not supported");
const PADDING: FuncError = FuncError::fixed("pkcs12: decryption error, incorrect padding");
const STRUCTURE: FuncError = FuncError::fixed("pkcs12: parameters of an encryption algorithm cannot be read");

/// PBMAC1 (RFC 9579): the key of a MAC, and the MAC's own algorithm.
///
/// # Errors
/// The parameters are not supported, or weak.
pub fn pbmac1(parameters: &[u8], password: &Password) -> Result<aws_lc_rs::hmac::Key, FuncError> {
    let (kdf, mac) = read_pair(parameters)?;
    // A short key lets anybody pass for who knows the password (CVE-2026-34181); a long one only takes memory.
    let length = kdf.length.filter(|length| (20..=64).contains(length)).ok_or(STRUCTURE)?;
    let key = kdf.key(password, length as usize)?;
    let algorithm = match () {
        () if der::is(&mac.0, HMAC_SHA1) => aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        () if der::is(&mac.0, HMAC_SHA256) => aws_lc_rs::hmac::HMAC_SHA256,
        () if der::is(&mac.0, HMAC_SHA512) => aws_lc_rs::hmac::HMAC_SHA512,
        () => return Err(UNKNOWN),
    };
    Ok(aws_lc_rs::hmac::Key::new(algorithm, &key))
}

type Algorithm = (ObjectIdentifier, Option<Vec<u8>>);

/// A derivation, which must be PBKDF2, and what its key is for.
fn read_pair(parameters: &[u8]) -> Result<(Pbkdf2, Algorithm), FuncError> {
    let pair = der::read(parameters, |reader| {
        reader.read_sequence(|reader| Ok((der::read_algorithm(reader.next())?, der::read_algorithm(reader.next())?)))
    });
    let ((kdf, parameters), other) = pair.ok_or(STRUCTURE)?;
    if !der::is(&kdf, PBKDF2) {
        return Err(UNKNOWN);
    }
    let kdf = parameters.and_then(|p| der::read(&p, Pbkdf2::read)).ok_or(STRUCTURE)?;
    Ok((kdf, other))
}

/// Decrypts what a file holds.
///
/// # Errors
/// The algorithm is not supported, or the result is not padded as it must be.
pub fn decrypt(algorithm: &Algorithm, password: &Password, data: &[u8]) -> Result<Secret, FuncError> {
    let (oid, parameters) = algorithm;
    let parameters = parameters.as_deref().ok_or(STRUCTURE)?;
    let (block, mut data) = (if der::is(oid, PBES2) { 16 } else { 8 }, Zeroizing::new(data.to_vec()));
    if data.is_empty() || data.len() % block != 0 {
        return Err(FuncError::new("pkcs12: input is empty or not a multiple of the block size"));
    }
    match () {
        () if der::is(oid, PBES2) => decrypt_pbes2(parameters, password, &mut data)?,
        () if der::is(oid, PBE_3DES) => {
            decrypt_old::<TdesEde3>(parameters, password, &mut data, 24, TdesEde3::new_from_slice)?
        }
        () if der::is(oid, PBE_RC2_128) => decrypt_old(parameters, password, &mut data, 16, rc2)?,
        () if der::is(oid, PBE_RC2_40) => decrypt_old(parameters, password, &mut data, 5, rc2)?,
        () => return Err(UNKNOWN),
    }
    let padding = usize::from(*data.last().ok_or(PADDING)?);
    let kept = data.len().checked_sub(padding).filter(|_| (1..=block).contains(&padding)).ok_or(PADDING)?;
    if data[kept..].iter().any(|byte| usize::from(*byte) != padding) {
        return Err(PADDING);
    }
    data.truncate(kept);
    Ok(data)
}

fn decrypt_pbes2(parameters: &[u8], password: &Password, data: &mut [u8]) -> Result<(), FuncError> {
    let (kdf, (scheme, iv)) = read_pair(parameters)?;
    let algorithm = match () {
        () if der::is(&scheme, AES_256_CBC) => &AES_256,
        () if der::is(&scheme, AES_192_CBC) => &AES_192,
        () if der::is(&scheme, AES_128_CBC) => &AES_128,
        () => return Err(UNKNOWN),
    };
    let iv = iv.and_then(|iv| der::read_octets(&iv)).and_then(|iv| iv.try_into().ok()).ok_or(STRUCTURE)?;
    aes_cbc(algorithm, &kdf.key(password, key_length(algorithm))?, iv, data).ok_or(PADDING)
}

fn key_length(algorithm: &cipher::Algorithm) -> usize {
    match algorithm {
        a if *a == AES_256 => 32,
        a if *a == AES_192 => 24,
        _ => 16,
    }
}

/// Decrypts whole blocks in place and leaves their padding.
pub fn aes_cbc(algorithm: &'static cipher::Algorithm, key: &[u8], iv: [u8; 16], data: &mut [u8]) -> Option<()> {
    let key = DecryptingKey::cbc(UnboundCipherKey::new(algorithm, key).ok()?).ok()?;
    key.decrypt(data, DecryptionContext::Iv128(FixedLength::from(iv))).ok().map(|_| ())
}

/// Pads as PKCS#7 says and encrypts with AES-256.
///
/// # Errors
/// None that can happen with a key of 32 bytes.
pub fn aes_cbc_encrypt(key: &[u8; 32], iv: [u8; 16], data: &[u8]) -> Result<Vec<u8>, FuncError> {
    let padding = 16 - data.len() % 16;
    let mut padded = data.to_vec();
    padded.resize(data.len() + padding, u8::try_from(padding).unwrap_or_default());
    let key = UnboundCipherKey::new(&AES_256, key).and_then(EncryptingKey::cbc);
    key.and_then(|key| key.less_safe_encrypt(&mut padded, cipher::EncryptionContext::Iv128(FixedLength::from(iv))))
        .map_err(|_| FuncError::new("cannot encrypt"))?;
    Ok(padded)
}

/// RC2 whose effective length is that of its key.
fn rc2(key: &[u8]) -> Result<Rc2, cbc::cipher::InvalidLength> {
    Ok(Rc2::new_with_eff_key_len(key, key.len() * 8))
}

/// The ciphers of old files, none of which aws-lc-rs has: keys are PKCS#12's own, with SHA-1.
fn decrypt_old<C>(
    parameters: &[u8],
    password: &Password,
    data: &mut [u8],
    length: usize,
    cipher: impl FnOnce(&[u8]) -> Result<C, cbc::cipher::InvalidLength>,
) -> Result<(), FuncError>
where
    C: cbc::cipher::BlockCipherDecrypt,
{
    let parsed = der::read(parameters, |reader| {
        reader.read_sequence(|reader| Ok((reader.next().read_bytes()?, reader.next().read_u32()?)))
    });
    let (salt, found) = parsed.ok_or(STRUCTURE)?;
    let rounds = password.rounds(found)?;
    let key = |purpose, length| derive(&digest::SHA1_FOR_LEGACY_USE_ONLY, purpose, password.bmp(), &salt, rounds, length);
    let cipher = cipher(&key(Purpose::Encryption, length)).map_err(|_| STRUCTURE)?;
    let decryptor = cbc::Decryptor::inner_iv_slice_init(cipher, &key(Purpose::Iv, 8)).map_err(|_| STRUCTURE)?;
    decryptor.decrypt_padded::<NoPadding>(data).map(|_| ()).map_err(|_| PADDING)
}

/// Encrypts as go-pkcs12's `Modern` does: PBES2 with PBKDF2, HMAC-SHA-256 and AES-256. Returns the algorithm as DER and the data.
///
/// # Errors
/// None that can happen.
pub fn encrypt(chance: &dyn Chance, password: &Password, data: &[u8]) -> Result<(Vec<u8>, Vec<u8>), FuncError> {
    let (mut salt, mut iv, mut key) = ([0; SALT], [0; 16], Zeroizing::new([0; 32]));
    chance.fill(&mut salt);
    chance.fill(&mut iv);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds(ROUNDS)?, &salt, &password.utf8(), &mut *key);
    let algorithm = construct_der(|writer| write_pbes2(writer, &salt, &iv));
    Ok((algorithm, aes_cbc_encrypt(&key, iv, data)?))
}

fn write_pbes2(writer: DERWriter, salt: &[u8], iv: &[u8]) {
    writer.write_sequence(|writer| {
        der::write_oid(writer.next(), PBES2);
        writer.next().write_sequence(|writer| {
            writer.next().write_sequence(|writer| {
                der::write_oid(writer.next(), PBKDF2);
                writer.next().write_sequence(|writer| {
                    writer.next().write_bytes(salt);
                    writer.next().write_u32(ROUNDS);
                    der::write_algorithm_null(writer.next(), HMAC_SHA256);
                });
            });
            writer.next().write_sequence(|writer| {
                der::write_oid(writer.next(), AES_256_CBC);
                writer.next().write_bytes(iv);
            });
        });
    });
}
