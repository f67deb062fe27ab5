//! How Keeper encrypts and signs: AES-256-GCM with the nonce before the text, ECIES and ECDSA on P-256.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;

/// Bytes of a key.
pub(super) const KEY: usize = 32;

/// Random bytes; none where the system has none.
pub(super) fn random(count: usize) -> Option<SecretBytes> {
    let mut bytes = vec![0; count];
    rand::fill(&mut bytes).ok()?;
    Some(SecretBytes::new(bytes))
}

/// Bytes of base64, which Keeper's clients write in both alphabets, with and without padding.
pub(super) fn decode(text: &str) -> Option<SecretBytes> {
    const LENIENT: GeneralPurposeConfig = NO_PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let of = |alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(text.trim()).ok().map(SecretBytes::new);
    of(&alphabet::STANDARD).or_else(|| of(&alphabet::URL_SAFE))
}

/// Bytes as base64 that fits into a URL.
pub(super) fn encode_url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn aead(key: &SecretBytes) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).ok()?))
}

/// Encrypts with a key.
pub(super) fn encrypt(key: &SecretBytes, plain: &[u8]) -> Option<Vec<u8>> {
    let nonce: [u8; NONCE_LEN] = random(NONCE_LEN)?.expose().try_into().ok()?;
    let mut sealed = plain.to_vec();
    let sealing = aead(key)?;
    sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut sealed).ok()?;
    Some([nonce.as_slice(), &sealed].concat())
}

/// Decrypts with a key. None: it is another key's, or was changed.
pub(super) fn decrypt(key: &SecretBytes, sealed: &[u8]) -> Option<SecretBytes> {
    let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let mut plain = Zeroizing::new(text.to_vec());
    let opened = aead(key)?.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut plain).ok()?;
    Some(SecretBytes::new(opened.to_vec()))
}

/// Encrypts for the holder of a private key.
pub(super) fn encrypt_for(public: &SecretBytes, plain: &SecretBytes) -> Option<Vec<u8>> {
    let ephemeral = PrivateKey::generate(&ECDH_P256).ok()?;
    let own = ephemeral.compute_public_key().ok()?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, public.expose());
    let key =
        agreement::agree(&ephemeral, peer, (), |shared| Ok(SecretBytes::new(digest(&SHA256, shared).as_ref().to_vec())));
    Some([own.as_ref(), &encrypt(&key.ok()?, plain.expose())?].concat())
}

/// The private key of an application's client.
pub(super) struct Signer(EcdsaKeyPair);

impl Signer {
    /// A key in PKCS#8.
    pub(super) fn of(pkcs8: &SecretBytes) -> Option<Self> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.expose()).ok().map(Self)
    }

    /// Signs.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec())
    }
}
