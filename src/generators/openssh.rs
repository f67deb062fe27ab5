//! The forms in which OpenSSH keeps keys: `openssh-key-v1` in PEM (its PROTOCOL.key), and a line of `authorized_keys`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::secret_bytes::SecretBytes;

/// Base64 characters in a line of the PEM.
const LINE: usize = 70;
/// What an unencrypted key is padded to.
const BLOCK: usize = 8;

/// A key pair in the words of the SSH protocol.
pub(super) struct Pair {
    name: String,
    /// The public key's fields, after the name.
    public: Vec<u8>,
    /// The private key's fields, after the name.
    private: Zeroizing<Vec<u8>>,
}

/// An Ed25519 pair.
pub(super) fn ed25519(public: &[u8], seed: &[u8]) -> Pair {
    let mut private = Zeroizing::new(Vec::with_capacity(128));
    string(&mut private, public);
    string(&mut private, &Zeroizing::new([seed, public].concat()));
    let mut fields = Vec::new();
    string(&mut fields, public);
    Pair { name: "ssh-ed25519".into(), public: fields, private }
}

/// An ECDSA pair: the point, uncompressed, and the scalar.
pub(super) fn ecdsa(curve: &str, point: &[u8], scalar: &[u8]) -> Pair {
    let mut fields = Vec::new();
    string(&mut fields, curve.as_bytes());
    string(&mut fields, point);
    let mut private = Zeroizing::new(Vec::with_capacity(512));
    private.extend_from_slice(&fields);
    mpint(&mut private, scalar);
    Pair { name: format!("ecdsa-sha2-{curve}"), public: fields, private }
}

/// An RSA pair from its PKCS#8; `None` where that is not what it should be.
pub(super) fn rsa(pkcs8: &[u8]) -> Option<Pair> {
    let [_version, _algorithm, key] = elements::<3>(sequence(pkcs8)?)?;
    // RSAPrivateKey: version, n, e, d, p, q, d mod p-1, d mod q-1, q^-1 mod p
    let [_version, n, e, d, p, q, _, _, inverse] = elements::<9>(sequence(key)?)?;
    let mut public = Vec::new();
    mpint(&mut public, e);
    mpint(&mut public, n);
    // no growth: it would leave copies behind
    let mut private = Zeroizing::new(Vec::with_capacity(pkcs8.len() + 64));
    for number in [n, e, d, inverse, p, q] {
        mpint(&mut private, number);
    }
    Some(Pair { name: "ssh-rsa".into(), public, private })
}

/// The public key as a line of `authorized_keys`.
pub(super) fn public_key(pair: &Pair, comment: &str) -> SecretBytes {
    let blob = STANDARD.encode(public_blob(pair));
    let space = if comment.is_empty() { "" } else { " " };
    SecretBytes::from(format!("{} {blob}{space}{comment}\n", pair.name))
}

/// The private key as PEM, not encrypted. `check` is any number: a reader compares its two copies.
pub(super) fn private_key(pair: &Pair, check: [u8; 4], comment: &str) -> SecretBytes {
    let mut section = Zeroizing::new(Vec::with_capacity(pair.private.len() + comment.len() + 128));
    section.extend_from_slice(&check);
    section.extend_from_slice(&check);
    string(&mut section, pair.name.as_bytes());
    section.extend_from_slice(&pair.private);
    string(&mut section, comment.as_bytes());
    for pad in (1..).take((BLOCK - section.len() % BLOCK) % BLOCK) {
        section.push(pad);
    }
    let public = public_blob(pair);
    let mut whole = Zeroizing::new(Vec::with_capacity(section.len() + public.len() + 128));
    whole.extend_from_slice(b"openssh-key-v1\0");
    for none in [&b"none"[..], b"none", b""] {
        string(&mut whole, none);
    }
    whole.extend_from_slice(&1_u32.to_be_bytes());
    string(&mut whole, &public);
    string(&mut whole, &section);
    let text = Zeroizing::new(STANDARD.encode(&*whole));
    let mut pem = Vec::with_capacity(text.len() + text.len() / LINE + 128);
    pem.extend_from_slice(b"-----BEGIN OPENSSH PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(LINE) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END OPENSSH PRIVATE KEY-----\n");
    SecretBytes::new(pem)
}

fn public_blob(pair: &Pair) -> Vec<u8> {
    let mut blob = Vec::new();
    string(&mut blob, pair.name.as_bytes());
    blob.extend_from_slice(&pair.public);
    blob
}

/// `string` of RFC 4251: its length, then its bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// `mpint` of RFC 4251: a positive number without zeros before it, but for one that keeps it positive.
fn mpint(out: &mut Vec<u8>, number: &[u8]) {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    let bytes = number.get(zeros..).unwrap_or_default();
    let sign = usize::from(bytes.first().is_some_and(|byte| byte & 0x80 != 0));
    out.extend_from_slice(&u32::try_from(bytes.len() + sign).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(std::iter::repeat_n(0, sign));
    out.extend_from_slice(bytes);
}

/// What is inside of a DER sequence.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (tag, content, _) = element(der)?;
    (tag == 0x30).then_some(content)
}

/// The contents of the first elements of a DER sequence.
fn elements<const N: usize>(mut der: &[u8]) -> Option<[&[u8]; N]> {
    let mut found = [&[][..]; N];
    for slot in &mut found {
        let (_, content, rest) = element(der)?;
        (*slot, der) = (content, rest);
    }
    Some(found)
}

/// Tag and content of a DER element, and what comes after it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_stay_positive() {
        let written = |bytes: &[u8]| {
            let mut out = Vec::new();
            mpint(&mut out, bytes);
            out
        };
        assert_eq!(written(&[]), [0, 0, 0, 0]);
        assert_eq!(written(&[0, 0]), [0, 0, 0, 0]);
        assert_eq!(written(&[0, 0x7f]), [0, 0, 0, 1, 0x7f]);
        assert_eq!(written(&[0x80]), [0, 0, 0, 2, 0, 0x80]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = rsa(&bytes);
        }
    }
}
