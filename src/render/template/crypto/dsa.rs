//! Keys of DSA, for `genPrivateKey "dsa"`: 2048 bits with a subgroup of 256. Nothing in here signs.

use num_bigint::BigUint;
use yasna::construct_der;
use zeroize::Zeroizing;

use super::keys::PrivateKey;
use crate::render::template::chance::Chance;

const BITS: u64 = 2048;
const SUBGROUP_BITS: u64 = 256;
/// Rounds of Miller and Rabin's test: what is not prime passes with less than one in 2^64.
const ROUNDS: usize = 32;

/// A key with new parameters, as PEM of sprig's form: version, p, q, g, y, x.
pub fn generate(chance: &dyn Chance) -> Option<PrivateKey> {
    let one = BigUint::from(1u8);
    let small = small_primes();
    let (p, q) = parameters(chance, &small)?;
    let exponent = (&p - &one) / &q;
    let g = (2u32..).map(|h| BigUint::from(h).modpow(&exponent, &p)).find(|g| *g > one)?;
    // 64 bits more than needed, so that no number is likelier than another.
    let x = below(chance, SUBGROUP_BITS + 64, &(&q - &one)) + &one;
    let y = g.modpow(&x, &p);
    let der = construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            for number in [&p, &q, &g, &y, &x] {
                writer.next().write_biguint(number);
            }
        });
    });
    Some(PrivateKey::Dsa(Zeroizing::new(der)))
}

/// A prime q, and a prime p that is one more than a multiple of it.
fn parameters(chance: &dyn Chance, small: &[u32]) -> Option<(BigUint, BigUint)> {
    let one = BigUint::from(1u8);
    // One number in 180 is a prime of 256 bits, and one in 1400 of 2048; of odd ones twice as many.
    let q = (0..20_000).map(|_| odd(chance, SUBGROUP_BITS)).find(|q| is_prime(chance, q, small))?;
    let double = &q * 2u8;
    let near = |_| {
        let number = odd(chance, BITS);
        let rest = &number % &double;
        number - rest + &one
    };
    let p = (0..200_000).map(near).find(|p| p.bits() == BITS && is_prime(chance, p, small))?;
    Some((p, q))
}

/// An odd number of just so many bits.
fn odd(chance: &dyn Chance, bits: u64) -> BigUint {
    let mut number = draw(chance, bits);
    number.set_bit(0, true);
    number.set_bit(bits - 1, true);
    number
}

fn draw(chance: &dyn Chance, bits: u64) -> BigUint {
    let mut bytes = Zeroizing::new(vec![0; usize::try_from(bits / 8).unwrap_or_default()]);
    chance.fill(&mut bytes);
    BigUint::from_bytes_be(&bytes)
}

fn below(chance: &dyn Chance, bits: u64, bound: &BigUint) -> BigUint {
    draw(chance, bits) % bound
}

fn small_primes() -> Vec<u32> {
    let mut primes: Vec<u32> = Vec::new();
    for candidate in (3..2000).step_by(2) {
        if primes.iter().all(|prime| candidate % prime != 0) {
            primes.push(candidate);
        }
    }
    primes
}

/// Miller and Rabin's test of an odd number with bases that nobody can foresee.
fn is_prime(chance: &dyn Chance, number: &BigUint, small: &[u32]) -> bool {
    if small.iter().any(|prime| number % *prime == BigUint::ZERO) {
        return false;
    }
    let one = BigUint::from(1u8);
    let last = number - &one;
    let twos = last.trailing_zeros().unwrap_or_default();
    let odd = &last >> twos;
    let passes = |_| {
        let base = below(chance, number.bits() + 64, &(number - 3u8)) + 2u8;
        let mut power = base.modpow(&odd, number);
        if power == one || power == last {
            return true;
        }
        (1..twos).any(|_| {
            power = &power * &power % number;
            power == last
        })
    };
    (0..ROUNDS).all(passes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::render::template::crypto::tests::Counting;

    #[test]
    fn primes_are_told_from_others() {
        let small = small_primes();
        let number = |text: &str| BigUint::parse_bytes(text.as_bytes(), 16).unwrap();
        let prime = number("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");
        assert!(is_prime(&Counting::default(), &prime, &small));
        assert!(!is_prime(&Counting::default(), &(&prime + 2u8), &small));
        // A product of two primes with no small factor.
        assert!(!is_prime(&Counting::default(), &(&prime * &prime), &small));
    }
}
