//! Sprig's functions of passwords: `bcrypt`, `htpasswd`, `derivePassword`, `encryptAES`, `decryptAES`.

use aws_lc_rs::cipher::AES_256;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};
use zeroize::Zeroizing;

use super::{FuncError, pkcs12};
use crate::render::decode::base64_of_go;
use crate::render::template::chance::Chance;

/// Go's default, and therefore sprig's: about 50 ms.
const BCRYPT_COST: u32 = 10;
/// What bcrypt looks at.
const BCRYPT_BYTES: usize = 72;

/// `bcrypt`: the hash of a password. One that is too long is no error, but text in place of the hash, as in sprig.
pub fn bcrypt(chance: &dyn Chance, password: &[u8]) -> String {
    if password.len() > BCRYPT_BYTES {
        return "failed to encrypt string with bcrypt: bcrypt: password length exceeds 72 bytes".to_owned();
    }
    let mut salt = [0; 16];
    chance.fill(&mut salt);
    let mut ended = Zeroizing::new([password, &[0]].concat());
    ended.truncate(BCRYPT_BYTES);
    let hash = bcrypt::bcrypt(BCRYPT_COST, salt, &ended);
    let alphabet = GeneralPurpose::new(&base64::alphabet::BCRYPT, NO_PAD);
    format!("$2a${BCRYPT_COST}${}{}", alphabet.encode(salt), alphabet.encode(&hash[..23]))
}

/// `htpasswd`: a line of such a file, with SHA-1 if the algorithm is `sha` and bcrypt otherwise. A name that cannot stand in one
/// is no error, but text in place of the line, as in sprig.
pub fn htpasswd(chance: &dyn Chance, name: &[u8], password: &[u8], algorithm: &[u8]) -> Vec<u8> {
    if name.contains(&b':') {
        return [b"invalid username: ", name].concat();
    }
    let hash = match algorithm {
        b"sha" => format!("{{SHA}}{}", STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, password))),
        _ => bcrypt(chance, password),
    };
    [name, b":", hash.as_bytes()].concat()
}

/// The Master Password algorithm's shapes of passwords, by name.
const SHAPES: [(&str, &[&str]); 6] = [
    ("maximum", &["anoxxxxxxxxxxxxxxxxx", "axxxxxxxxxxxxxxxxxno"]),
    (
        "long",
        &[
            "CvcvnoCvcvCvcv",
            "CvcvCvcvnoCvcv",
            "CvcvCvcvCvcvno",
            "CvccnoCvcvCvcv",
            "CvccCvcvnoCvcv",
            "CvccCvcvCvcvno",
            "CvcvnoCvccCvcv",
            "CvcvCvccnoCvcv",
            "CvcvCvccCvcvno",
            "CvcvnoCvcvCvcc",
            "CvcvCvcvnoCvcc",
            "CvcvCvcvCvccno",
            "CvccnoCvccCvcv",
            "CvccCvccnoCvcv",
            "CvccCvccCvcvno",
            "CvcvnoCvccCvcc",
            "CvcvCvccnoCvcc",
            "CvcvCvccCvccno",
            "CvccnoCvcvCvcc",
            "CvccCvcvnoCvcc",
            "CvccCvcvCvccno",
        ],
    ),
    ("medium", &["CvcnoCvc", "CvcCvcno"]),
    ("short", &["Cvcn"]),
    ("basic", &["aaanaaan", "aannaaan", "aaannaaa"]),
    ("pin", &["nnnn"]),
];

/// What a letter of a shape stands for.
fn characters(letter: u8) -> &'static [u8] {
    match letter {
        b'C' => b"BCDFGHJKLMNPQRSTVWXYZ",
        b'v' => b"aeiou",
        b'c' => b"bcdfghjklmnpqrstvwxyz",
        b'a' => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz",
        b'n' => b"0123456789",
        b'o' => b"@&%?,=[]_:-+*$#!'^~;()/.",
        _ => b"AEIOUaeiouBCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz0123456789!@#$%^&*()",
    }
}

/// `derivePassword`: the Master Password algorithm. A shape that is not known is no error, but text in place of the password, as
/// in sprig.
///
/// # Errors
/// None with the parameters used.
pub fn derive(counter: u32, shape: &[u8], password: &[u8], user: &[u8], site: &[u8]) -> Result<Vec<u8>, FuncError> {
    const SEED: &[u8] = b"com.lyndir.masterpassword";
    let Some((_, shapes)) = SHAPES.iter().find(|(name, _)| name.as_bytes() == shape) else {
        return Ok([b"cannot find password template ", shape].concat());
    };
    let length = |text: &[u8]| u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut key = Zeroizing::new([0; 64]);
    // N = 32768, r = 8, p = 2: 32 MiB and about 200 ms.
    scrypt::Params::new(15, 8, 2)
        .ok()
        .and_then(|params| scrypt::scrypt(password, &[SEED, &length(user), user].concat(), &params, &mut *key).ok())
        .ok_or(FuncError::new("failed to derive password"))?;
    let message = [SEED, &length(site), site, &counter.to_be_bytes()].concat();
    let seed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key), &message);
    let pick = |from: &'static [u8], byte: u8| from[usize::from(byte) % from.len()];
    let shape = shapes[usize::from(seed.as_ref()[0]) % shapes.len()];
    Ok(shape.bytes().zip(&seed.as_ref()[1..]).map(|(letter, byte)| pick(characters(letter), *byte)).collect())
}

/// Sprig takes the password itself as the key: cut, or filled up with zeroes.
fn aes_key(password: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    key.iter_mut().zip(password).for_each(|(to, from)| *to = *from);
    key
}

/// `encryptAES`: AES-256 in CBC mode, after its initialisation vector, in base64. Nothing stays nothing.
///
/// # Errors
/// None that can happen.
pub fn encrypt_aes(chance: &dyn Chance, password: &[u8], text: &[u8]) -> Result<String, FuncError> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let mut iv = [0; 16];
    chance.fill(&mut iv);
    let data = pkcs12::aes_cbc_encrypt(&aes_key(password), iv, text)?;
    Ok(STANDARD.encode([&iv[..], &data].concat()))
}

/// `decryptAES`. With a wrong password the result is mostly an error, and sometimes rubbish: nothing in it tells.
///
/// # Errors
/// It is not what [`encrypt_aes`] makes.
pub fn decrypt_aes(password: &[u8], text: &[u8]) -> Result<Vec<u8>, FuncError> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = base64_of_go(text).ok_or(FuncError::new("illegal base64 data"))?;
    let wrong = || FuncError::new("the data was not encrypted by encryptAES, or with another password");
    let (iv, data) = bytes.split_first_chunk::<16>().filter(|(_, data)| data.len() % 16 == 0).ok_or_else(wrong)?;
    let mut data = data.to_vec();
    pkcs12::aes_cbc(&AES_256, &*aes_key(password), *iv, &mut data).ok_or_else(wrong)?;
    // Sprig looks at nothing but the last byte.
    let kept = data.last().and_then(|padding| data.len().checked_sub(usize::from(*padding))).ok_or_else(wrong)?;
    data.truncate(kept);
    Ok(data)
}
