//! `rsaDecrypt`.

use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA512_MGF1SHA512, OaepPrivateDecryptingKey, PrivateDecryptingKey,
};

use super::keys::PrivateKey;
use super::{FuncError, pem};

/// What `scheme` says: `None` leaves the input as it is, `RSA-OAEP` decrypts it. A hash that is not known is SHA-256, as in ESO.
///
/// # Errors
/// The scheme is another, the key is none of RSA or of a size that is not safe, or the input was not made for it.
pub fn decrypt(scheme: &[u8], hash: &[u8], input: &[u8], key: &[u8]) -> Result<Vec<u8>, FuncError> {
    match scheme {
        b"None" => Ok(input.to_vec()),
        b"RSA-OAEP" => decrypt_oaep(hash, input, key),
        _ => Err(FuncError::new("decryption scheme is not supported: it must be None or RSA-OAEP")),
    }
}

fn decrypt_oaep(hash: &[u8], input: &[u8], key: &[u8]) -> Result<Vec<u8>, FuncError> {
    let (block, _) = pem::decode(key).ok_or(FuncError::new("failed to decode PEM block"))?;
    let key = PrivateKey::parse(&zeroize::Zeroizing::new(block.bytes))
        .ok_or(FuncError::new("could not parse private key: unable to parse private key type"))?;
    let der = key.is_rsa().then(|| key.pkcs8()).flatten().ok_or(FuncError::new("could not parse RSA private key"))?;
    let key = PrivateDecryptingKey::from_pkcs8(&der)
        .ok()
        .and_then(|key| OaepPrivateDecryptingKey::new(key).ok())
        .ok_or(FuncError::new("the RSA private key must have 2048 to 8192 bits"))?;
    let algorithm = match hash {
        b"SHA1" => &OAEP_SHA1_MGF1SHA1,
        b"SHA512" => &OAEP_SHA512_MGF1SHA512,
        _ => &OAEP_SHA256_MGF1SHA256,
    };
    let mut output = vec![0; key.min_output_size()];
    let length = key
        .decrypt(algorithm, input, &mut output, None)
        .map_err(|_| FuncError::new("error decrypting data with RSA: crypto/rsa: decryption error"))?
        .len();
    output.truncate(length);
    Ok(output)
}
