//! Random bytes for templates, from the system by way of the crypto library.

use crate::render::template::Chance;

/// Chance that nobody can foresee.
pub struct SystemChance;

impl Chance for SystemChance {
    fn fill(&self, bytes: &mut [u8]) {
        // it fails only where the system has no randomness at all: then no template may go on with zeros for a password
        while aws_lc_rs::rand::fill(bytes).is_err() {
            std::thread::yield_now();
        }
    }
}
