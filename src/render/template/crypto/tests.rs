//! Chains that are made are chains that webpki takes.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::cell::Cell;

use super::*;
use crate::chance::SystemChance;
use crate::render::template::chance::Signing;

/// Bytes 0, 1, 2 and so on: what the Go program takes for random, too. Keys and signatures are the real ones.
#[derive(Default)]
pub struct Counting(Cell<u8>);

impl Chance for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte = self.0.get();
            self.0.set(self.0.get().wrapping_add(1));
        }
    }

    fn rsa_key(&self, bits: usize) -> Option<Zeroizing<Vec<u8>>> {
        SystemChance.rsa_key(bits)
    }

    fn sign(&self, algorithm: Signing, pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        SystemChance.sign(algorithm, pkcs8, message)
    }
}
