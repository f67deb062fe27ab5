//! Private keys: PKCS#1, SEC 1 and PKCS#8, read and written as Go's `crypto/x509` does.

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use num_bigint::BigUint;
use yasna::models::ObjectIdentifier;
use yasna::{ASN1Result, DERWriter, Tag, construct_der};
use zeroize::Zeroizing;

use super::{FuncError, der, pem};
use crate::render::template::chance::Signing;

/// Most bits of an RSA key: what follows from more takes too long.
pub const MOST_RSA_BITS: u64 = 8192;
const LEAST_RSA_BITS: u64 = 512;

/// DER of a private key.
pub type Secret = Zeroizing<Vec<u8>>;

/// A curve that ECDSA keys may be on.
pub struct Curve {
    /// Its name in a JWK.
    pub name: &'static str,
    oid: der::Oid,
    size: usize,
    agreement: &'static agreement::Algorithm,
    signing: Signing,
}

static CURVES: [Curve; 3] = [
    Curve { name: "P-256", oid: &[1, 2, 840, 10045, 3, 1, 7], size: 32, agreement: &ECDH_P256, signing: Signing::P256 },
    Curve { name: "P-384", oid: &[1, 3, 132, 0, 34], size: 48, agreement: &ECDH_P384, signing: Signing::P384 },
    Curve { name: "P-521", oid: &[1, 3, 132, 0, 35], size: 66, agreement: &ECDH_P521, signing: Signing::P521 },
];

impl Curve {
    /// The curve of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CURVES.iter().find(|curve| curve.name == name)
    }

    fn with(oid: &ObjectIdentifier) -> Option<&'static Self> {
        CURVES.iter().find(|curve| der::is(oid, curve.oid))
    }

    /// A number of this curve at its full length; nothing if it is longer.
    pub fn full_length(&self, number: &[u8]) -> Option<Secret> {
        let zeroes = number.iter().take_while(|b| **b == 0).count();
        let mut full = Zeroizing::new(vec![0; self.size]);
        let digits = &number[zeroes..];
        let start = self.size.checked_sub(digits.len())?;
        full[start..].copy_from_slice(digits);
        Some(full)
    }

    /// The point of two coordinates, if it is on the curve.
    pub fn point(&self, x: &[u8], y: &[u8]) -> Option<Vec<u8>> {
        let point = [&[4], &self.full_length(x)?[..], &self.full_length(y)?[..]].concat();
        agreement::ParsedPublicKey::try_from(agreement::UnparsedPublicKey::new(self.agreement, &point)).ok()?;
        Some(point)
    }
}

/// A key of RSA with two primes, whose numbers fit each other.
pub struct Rsa {
    n: BigUint,
    e: BigUint,
    d: BigUint,
    p: BigUint,
    q: BigUint,
    inverse: BigUint,
}

impl Rsa {
    /// A key from its numbers, if they make one.
    pub fn new(n: BigUint, e: BigUint, d: BigUint, p: BigUint, q: BigUint) -> Option<Self> {
        let one = BigUint::from(1u8);
        let bounded = (LEAST_RSA_BITS..=MOST_RSA_BITS).contains(&n.bits()) && e.bits() <= 31 && d.bits() <= n.bits();
        if !bounded || p <= one || q <= one || p.bits() > n.bits() || q.bits() > n.bits() || &p * &q != n {
            return None;
        }
        let undoes = |prime: &BigUint| (&e * &d) % (prime - &one) == one;
        if !undoes(&p) || !undoes(&q) {
            return None;
        }
        let inverse = q.modinv(&p)?;
        Some(Self { n, e, d, p, q, inverse })
    }

    fn pkcs1(&self) -> Secret {
        let exponent = |prime: &BigUint| &self.d % (prime - 1u8);
        let (dp, dq) = (exponent(&self.p), exponent(&self.q));
        let numbers = [&self.n, &self.e, &self.d, &self.p, &self.q, &dp, &dq, &self.inverse];
        Zeroizing::new(construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_u8(0);
                for number in numbers {
                    writer.next().write_biguint(number);
                }
            });
        }))
    }
}

/// A key of ECDSA.
pub struct Ec {
    curve: &'static Curve,
    scalar: Secret,
    point: Vec<u8>,
}

impl Ec {
    /// A key from its number, if that is one of the curve.
    pub fn new(curve: &'static Curve, number: &[u8]) -> Option<Self> {
        let scalar = curve.full_length(number)?;
        let key = agreement::PrivateKey::from_private_key(curve.agreement, &scalar).ok()?;
        let point = key.compute_public_key().ok()?.as_ref().to_vec();
        Some(Self { curve, scalar, point })
    }

    /// Whether this is its public point.
    pub fn is_of(&self, point: &[u8]) -> bool {
        self.point == point
    }

    fn sec1(&self, with_curve: bool) -> Secret {
        Zeroizing::new(construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_u8(1);
                writer.next().write_bytes(&self.scalar);
                if with_curve {
                    writer.next().write_tagged(Tag::context(0), |writer| der::write_oid(writer, self.curve.oid));
                }
                writer.next().write_tagged(Tag::context(1), |writer| write_bits(writer, &self.point));
            });
        }))
    }
}

/// A private key.
pub enum PrivateKey {
    /// RSA.
    Rsa(Box<Rsa>),
    /// ECDSA.
    Ec(Ec),
    /// Ed25519: its seed.
    Ed25519(Secret),
    /// X25519, which can only be carried.
    X25519(Secret),
    /// DSA, in sprig's own form, which can only be carried.
    Dsa(Secret),
}

impl PrivateKey {
    /// Whatever form it is in, as ESO tries them.
    pub fn parse(der: &[u8]) -> Option<Self> {
        Self::parse_pkcs1(der).or_else(|| Self::parse_pkcs8(der)).or_else(|| Self::parse_sec1(der, None))
    }

    /// PKCS#1.
    pub fn parse_pkcs1(der: &[u8]) -> Option<Self> {
        let numbers = read_integers(der, 9)?;
        let [version, n, e, d, p, q, ..] = <[BigUint; 9]>::try_from(numbers).ok()?;
        // Version 1 has more than two primes.
        (version == BigUint::ZERO).then_some(())?;
        Rsa::new(n, e, d, p, q).map(|key| Self::Rsa(Box::new(key)))
    }

    /// SEC 1; a curve named outside of it counts more than one inside.
    pub fn parse_sec1(der: &[u8], curve: Option<&'static Curve>) -> Option<Self> {
        let (scalar, named) = der::read(der, |reader| {
            reader.read_sequence(|reader| {
                let version = reader.next().read_u8()?;
                let scalar = Zeroizing::new(reader.next().read_bytes()?);
                let named = reader.read_optional(|r| r.read_tagged(Tag::context(0), |r| r.read_oid()))?;
                der::skip_rest(reader)?;
                Ok((version == 1).then_some((scalar, named)))
            })
        })??;
        let curve = curve.or_else(|| Curve::with(&named?))?;
        Ec::new(curve, &scalar).map(Self::Ec)
    }

    /// PKCS#8, not encrypted.
    pub fn parse_pkcs8(der: &[u8]) -> Option<Self> {
        let (algorithm, parameters, key) = der::read(der, |reader| {
            reader.read_sequence(|reader| {
                reader.next().read_u8()?;
                let (algorithm, parameters) = der::read_algorithm(reader.next())?;
                let key = Zeroizing::new(reader.next().read_bytes()?);
                der::skip_rest(reader)?;
                Ok((algorithm, parameters, key))
            })
        })?;
        let seed = || {
            let seed = Zeroizing::new(der::read_octets(&key)?);
            (seed.len() == 32 && parameters.is_none()).then_some(seed)
        };
        match () {
            () if der::is(&algorithm, der::RSA) => Self::parse_pkcs1(&key),
            () if der::is(&algorithm, der::EC) => {
                let named = parameters.as_ref().and_then(|p| der::read_oid(p));
                match named {
                    Some(named) => Self::parse_sec1(&key, Some(Curve::with(&named)?)),
                    None => Self::parse_sec1(&key, None),
                }
            }
            () if der::is(&algorithm, der::ED25519) => seed().map(Self::Ed25519),
            () if der::is(&algorithm, der::X25519) => seed().map(Self::X25519),
            () => None,
        }
    }

    /// A key in PEM, in the form that its first line says, as sprig reads it.
    ///
    /// # Errors
    /// Sprig's, without what it quotes.
    pub fn from_pem(text: &[u8]) -> Result<Self, FuncError> {
        let (block, _) = pem::decode(text).ok_or(FuncError::new("no PEM data in input"))?;
        let bytes = Zeroizing::new(block.bytes);
        let (found, otherwise) = match block.kind.as_slice() {
            b"PRIVATE KEY" => (Self::parse_pkcs8(&bytes), "decoding PEM as PKCS#8: it is none that is known"),
            b"RSA PRIVATE KEY" => (Self::parse_pkcs1(&bytes), "parsing RSA private key from PEM: it is none"),
            b"EC PRIVATE KEY" => (Self::parse_sec1(&bytes, None), "parsing EC private key from PEM: it is none"),
            b"DSA PRIVATE KEY" => (Self::parse_dsa(&bytes), "parsing DSA private key from PEM: it is none"),
            kind if kind.ends_with(b" PRIVATE KEY") => (None, "invalid private key type"),
            _ => (None, "no private key data in PEM block"),
        };
        found.ok_or(FuncError::new(otherwise))
    }

    fn parse_dsa(der: &[u8]) -> Option<Self> {
        (read_integers(der, 6)?.len() == 6).then(|| Self::Dsa(Zeroizing::new(der.to_vec())))
    }

    /// PKCS#8, if the kind of key has one.
    pub fn pkcs8(&self) -> Option<Secret> {
        let (parameters, key): (fn(&Self, DERWriter), Secret) = match self {
            Self::Rsa(key) => (|_, writer| der::write_algorithm_null(writer, der::RSA), key.pkcs1()),
            Self::Ec(key) => (Self::write_curve, key.sec1(false)),
            Self::Ed25519(seed) => (|_, writer| der::write_algorithm(writer, der::ED25519), octets(seed)),
            Self::X25519(seed) => (|_, writer| der::write_algorithm(writer, der::X25519), octets(seed)),
            Self::Dsa(_) => return None,
        };
        Some(Zeroizing::new(construct_der(|writer| {
            writer.write_sequence(|writer| {
                writer.next().write_u8(0);
                parameters(self, writer.next());
                writer.next().write_bytes(&key);
            });
        })))
    }

    fn write_curve(&self, writer: DERWriter) {
        if let Self::Ec(key) = self {
            write_ec_algorithm(writer, key.curve);
        }
    }

    /// The key in PEM: PKCS#8.
    pub fn pkcs8_pem(&self) -> Option<String> {
        Some(pem::encode(pem::PRIVATE_KEY, &self.pkcs8()?))
    }

    /// The key in PEM, in the older form of its kind where there is one, as sprig writes it.
    pub fn traditional_pem(&self) -> Option<String> {
        match self {
            Self::Rsa(key) => Some(pem::encode("RSA PRIVATE KEY", &key.pkcs1())),
            Self::Ec(key) => Some(pem::encode("EC PRIVATE KEY", &key.sec1(true))),
            Self::Dsa(key) => Some(pem::encode("DSA PRIVATE KEY", key)),
            Self::Ed25519(_) | Self::X25519(_) => self.pkcs8_pem(),
        }
    }

    /// The members of its JWK, each as its bytes, `kty` and `crv` as text. None: keys of its kind have none here.
    pub fn jwk(&self) -> Option<Vec<(&'static str, Secret)>> {
        let text = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        match self {
            Self::Rsa(key) => {
                let [dp, dq] = [&key.p, &key.q].map(|prime| &key.d % (prime - 1u8));
                let numbers = [&key.n, &key.e, &key.d, &key.p, &key.q, &dp, &dq, &key.inverse];
                let numbers = numbers.map(|number| Zeroizing::new(number.to_bytes_be()));
                let names = ["n", "e", "d", "p", "q", "dp", "dq", "qi"];
                Some(std::iter::once(("kty", text("RSA"))).chain(names.into_iter().zip(numbers)).collect())
            }
            Self::Ec(key) => {
                let (x, y) = key.point.get(1..)?.split_at_checked(key.curve.size)?;
                let [x, y] = [x, y].map(|part| Zeroizing::new(part.to_vec()));
                let name = text(key.curve.name);
                Some(vec![("kty", text("EC")), ("crv", name), ("x", x), ("y", y), ("d", key.scalar.clone())])
            }
            Self::Ed25519(_) | Self::X25519(_) | Self::Dsa(_) => None,
        }
    }

    /// Whether it is a key of RSA.
    pub fn is_rsa(&self) -> bool {
        matches!(self, Self::Rsa(_))
    }

    /// How it signs, if it can, and its public half.
    pub fn signer(&self) -> Option<(Signing, PublicKey)> {
        match self {
            Self::Rsa(key) => Some((Signing::Rsa, PublicKey::Rsa { n: key.n.clone(), e: key.e.clone() })),
            Self::Ec(key) => Some((key.curve.signing, PublicKey::Ec { curve: key.curve, point: key.point.clone() })),
            Self::Ed25519(seed) => {
                let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
                Some((Signing::Ed25519, PublicKey::Ed25519(pair.public_key().as_ref().to_vec())))
            }
            Self::X25519(_) | Self::Dsa(_) => None,
        }
    }
}

/// A public key.
#[derive(Clone)]
pub enum PublicKey {
    /// RSA.
    Rsa {
        /// Modulus.
        n: BigUint,
        /// Exponent.
        e: BigUint,
    },
    /// ECDSA.
    Ec {
        /// Its curve.
        curve: &'static Curve,
        /// Uncompressed.
        point: Vec<u8>,
    },
    /// Ed25519.
    Ed25519(Vec<u8>),
}

impl PublicKey {
    /// What the bit string of [`Self::spki`] holds.
    pub fn bits(&self) -> Vec<u8> {
        match self {
            Self::Rsa { n, e } => construct_der(|writer| {
                writer.write_sequence(|writer| {
                    writer.next().write_biguint(n);
                    writer.next().write_biguint(e);
                });
            }),
            Self::Ec { point, .. } => point.clone(),
            Self::Ed25519(key) => key.clone(),
        }
    }

    /// `SubjectPublicKeyInfo`.
    pub fn spki(&self) -> Vec<u8> {
        construct_der(|writer| {
            writer.write_sequence(|writer| {
                match self {
                    Self::Rsa { .. } => der::write_algorithm_null(writer.next(), der::RSA),
                    Self::Ec { curve, .. } => write_ec_algorithm(writer.next(), curve),
                    Self::Ed25519(_) => der::write_algorithm(writer.next(), der::ED25519),
                }
                write_bits(writer.next(), &self.bits());
            });
        })
    }

    /// The key in PEM.
    pub fn spki_pem(&self) -> String {
        pem::encode(pem::PUBLIC_KEY, &self.spki())
    }
}

fn write_ec_algorithm(writer: DERWriter, curve: &Curve) {
    writer.write_sequence(|writer| {
        der::write_oid(writer.next(), der::EC);
        der::write_oid(writer.next(), curve.oid);
    });
}

fn write_bits(writer: DERWriter, bytes: &[u8]) {
    writer.write_bitvec_bytes(bytes, bytes.len() * 8);
}

fn octets(bytes: &[u8]) -> Secret {
    Zeroizing::new(construct_der(|writer| writer.write_bytes(bytes)))
}

/// A sequence that begins with so many integers, none of them negative.
fn read_integers(der: &[u8], count: usize) -> Option<Vec<BigUint>> {
    der::read(der, |reader| {
        reader.read_sequence(|reader| {
            let numbers = (0..count).map(|_| reader.next().read_biguint()).collect::<ASN1Result<_>>()?;
            der::skip_rest(reader)?;
            Ok(numbers)
        })
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key of two primes of 256 bits: test-only material.
    fn small() -> Vec<u8> {
        let below = |distance: u32| (BigUint::from(1u8) << 256u32) - distance;
        let (p, q) = (below(189), below(357));
        let e = BigUint::from(65537u32);
        let d = e.modinv(&((&p - 1u8) * (&q - 1u8))).unwrap();
        let key = PrivateKey::Rsa(Box::new(Rsa::new(&p * &q, e, d, p, q).unwrap()));
        key.pkcs8().unwrap().to_vec()
    }

    #[test]
    fn numbers_that_do_not_fit_are_no_key() {
        let number = |n: u64| BigUint::from(n);
        assert!(Rsa::new(number(3233), number(17), number(413), number(61), number(53)).is_none(), "too small");
        let big: BigUint = number(1) << 9000u32;
        assert!(Rsa::new(big.clone(), number(3), big.clone(), big.clone(), big).is_none(), "too big");
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            prop_assert!(PrivateKey::parse(&bytes).is_none());
        }

        #[test]
        fn a_key_with_a_wrong_byte_does_not_panic(at in 0usize..300, byte: u8) {
            let mut key = small();
            let at = at % key.len();
            key[at] = byte;
            let _ = PrivateKey::parse(&key);
        }
    }
}
