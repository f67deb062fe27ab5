//! What templates must not be able to foresee. `render/` is pure, so it is handed in.

use zeroize::Zeroizing;

/// A source of random bytes, and of what libraries only make from their own.
pub trait Chance {
    /// Fills all of the bytes.
    fn fill(&self, bytes: &mut [u8]);

    /// A new RSA key, as PKCS#8; nothing if there is none of that size.
    fn rsa_key(&self, _bits: usize) -> Option<Zeroizing<Vec<u8>>> {
        None
    }

    /// Signs a message with a PKCS#8 key: ECDSA takes a number that nobody may guess for each signature. Nothing if the key is
    /// not one for this algorithm or of a size it does not take.
    fn sign(&self, _algorithm: Signing, _pkcs8: &[u8], _message: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// How a certificate is signed: what Go takes for each kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// RSA, PKCS#1 v1.5 with SHA-256.
    Rsa,
    /// ECDSA on P-256 with SHA-256.
    P256,
    /// ECDSA on P-384 with SHA-384.
    P384,
    /// ECDSA on P-521 with SHA-512.
    P521,
    /// Ed25519.
    Ed25519,
}
