//! Randomness of the operating system, for templates and generators.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, RSA_PKCS1_SHA256,
};
use zeroize::Zeroizing;

use crate::render::template::chance::{Chance, Signing};

/// The real [`Chance`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemChance;

impl Chance for SystemChance {
    fn fill(&self, bytes: &mut [u8]) {
        if SystemRandom::new().fill(bytes).is_err() {
            // Keys of zeroes would be worse than no operator; AWS-LC itself ends the process before it says this.
            std::process::abort();
        }
    }

    fn rsa_key(&self, bits: usize) -> Option<Zeroizing<Vec<u8>>> {
        let size = match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            8192 => KeySize::Rsa8192,
            _ => return None,
        };
        let der: Pkcs8V1Der = RsaKeyPair::generate(size).ok()?.as_der().ok()?;
        Some(Zeroizing::new(der.as_ref().to_vec()))
    }

    fn sign(&self, algorithm: Signing, pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        match algorithm {
            Signing::Rsa => sign_rsa(pkcs8, message),
            Signing::P256 => sign_ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8, message),
            Signing::P384 => sign_ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING, pkcs8, message),
            Signing::P521 => sign_ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING, pkcs8, message),
            Signing::Ed25519 => {
                let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8).ok()?;
                Some(key.sign(message).as_ref().to_vec())
            }
        }
    }
}

fn sign_rsa(pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let key = RsaKeyPair::from_pkcs8(pkcs8).ok()?;
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).ok()?;
    Some(signature)
}

fn sign_ecdsa(algorithm: &'static EcdsaSigningAlgorithm, pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
    let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).ok()?;
    Some(key.sign(&SystemRandom::new(), message).ok()?.as_ref().to_vec())
}
