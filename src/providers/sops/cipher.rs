//! Values as SOPS encrypts them: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:…]`.

use aes_gcm::aead::consts::U32;
use aes_gcm::aead::{AeadInOut as _, KeyInit as _, Nonce, Tag};
use aes_gcm::{AesGcm, aes::Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::document::Node;
use crate::secret_bytes::SecretBytes;

/// SOPS takes nonces of 32 bytes, where others take 12.
type Cipher = AesGcm<Aes256, U32>;

/// The key that the values of one file are encrypted with.
pub(super) struct DataKey(Cipher);

/// A value that is not what it should be, or was changed. It never shows the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotDecrypted;

/// A value, encrypted.
struct Sealed<'t> {
    data: Vec<u8>,
    nonce: Vec<u8>,
    tag: Vec<u8>,
    kind: &'t str,
}

impl DataKey {
    /// The key; `None` where it has not the right length.
    pub(super) fn new(bytes: &SecretBytes) -> Option<Self> {
        Cipher::new_from_slice(bytes.expose()).ok().map(Self)
    }

    /// Decrypts a value that stands at a path; the path is authenticated with it. An empty text is not encrypted.
    ///
    /// # Errors
    /// See [`NotDecrypted`].
    pub(super) fn decrypt(&self, text: &str, path: &str) -> Result<Node, NotDecrypted> {
        if text.is_empty() {
            return Ok(Node::Text(SecretBytes::default()));
        }
        let sealed = Sealed::parse(text).ok_or(NotDecrypted)?;
        let plain = self.open(&sealed, path).ok_or(NotDecrypted)?;
        typed(sealed.kind, plain).ok_or(NotDecrypted)
    }

    fn open(&self, sealed: &Sealed<'_>, path: &str) -> Option<SecretBytes> {
        let nonce = Nonce::<Cipher>::try_from(sealed.nonce.as_slice()).ok()?;
        let tag = Tag::<Cipher>::try_from(sealed.tag.as_slice()).ok()?;
        let mut plain = Zeroizing::new(sealed.data.clone());
        self.0.decrypt_inout_detached(&nonce, path.as_bytes(), plain.as_mut_slice().into(), &tag).ok()?;
        Some(SecretBytes::new(std::mem::take(&mut *plain)))
    }
}

/// Whether a text is an encrypted value.
pub(super) fn is_sealed(text: &str) -> bool {
    Sealed::parse(text).is_some()
}

impl<'t> Sealed<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let inner = text.strip_prefix("ENC[AES256_GCM,data:")?.strip_suffix(']')?;
        let (data, rest) = inner.split_once(",iv:")?;
        let (nonce, rest) = rest.split_once(",tag:")?;
        let (tag, kind) = rest.split_once(",type:")?;
        let decode = |text: &str| STANDARD.decode(text).ok();
        Some(Self { data: decode(data)?, nonce: decode(nonce)?, tag: decode(tag)?, kind })
    }
}

/// A value of the type that was noted when it was encrypted.
fn typed(kind: &str, plain: SecretBytes) -> Option<Node> {
    let text = || plain.expose_str();
    Some(match kind {
        "str" | "bytes" => Node::Text(plain),
        "int" => Node::Int(text()?.parse().ok()?),
        "float" => Node::Float(text()?.parse().ok()?),
        "bool" => Node::Bool(match text()? {
            "True" | "true" | "TRUE" | "1" | "t" | "T" => true,
            "False" | "false" | "FALSE" | "0" | "f" | "F" => false,
            _ => return None,
        }),
        "time" => Node::Time(text()?.to_owned()),
        "comment" => Node::Comment,
        _ => return None,
    })
}

/// The other direction, for tests.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod writing {
    use super::*;

    /// Encrypts a value.
    pub(crate) fn encrypt(key: &DataKey, kind: &str, plain: &[u8], path: &str) -> String {
        if plain.is_empty() {
            return String::new();
        }
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce).unwrap();
        let mut data = plain.to_vec();
        let nonce_of = Nonce::<Cipher>::try_from(nonce.as_slice()).unwrap();
        let tag = key.0.encrypt_inout_detached(&nonce_of, path.as_bytes(), data.as_mut_slice().into()).unwrap();
        let [data, nonce, tag] = [&data[..], &nonce, &tag].map(|bytes| STANDARD.encode(bytes));
        format!("ENC[AES256_GCM,data:{data},iv:{nonce},tag:{tag},type:{kind}]")
    }
}
