//! Sprig's functions that make keys and certificates, which look as those of Go's `crypto/x509` do.

use std::net::IpAddr;

use aws_lc_rs::digest;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use yasna::{DERWriter, DERWriterSeq, Tag, construct_der};
use zeroize::Zeroizing;

use super::der::{self, Oid};
use super::keys::{Curve, Ec, PrivateKey};
use super::x509::{self, Certificate};
use super::{CertificateAndKey, FuncError, Outside, pem};
use crate::render::decode::base64_of_go;
use crate::render::template::chance::Signing;

/// Bits of a certificate's own key.
const RSA_BITS: usize = 2048;
/// Bits of `genPrivateKey "rsa"`.
const LONE_RSA_BITS: usize = 4096;
/// Most names of one certificate.
const MOST_NAMES: usize = 1000;

const COMMON_NAME: Oid = &[2, 5, 4, 3];
const SUBJECT_KEY: Oid = &[2, 5, 29, 14];
const KEY_USAGE: Oid = &[2, 5, 29, 15];
const ALTERNATIVE_NAMES: Oid = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: Oid = &[2, 5, 29, 19];
const AUTHORITY_KEY: Oid = &[2, 5, 29, 35];
const EXTENDED_KEY_USAGE: Oid = &[2, 5, 29, 37];
const SERVER_AUTH: Oid = &[1, 3, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: Oid = &[1, 3, 6, 1, 5, 5, 7, 3, 2];
const ECDSA_SHA256: Oid = &[1, 2, 840, 10045, 4, 3, 2];
const ECDSA_SHA384: Oid = &[1, 2, 840, 10045, 4, 3, 3];
const ECDSA_SHA512: Oid = &[1, 2, 840, 10045, 4, 3, 4];

/// `genPrivateKey`: a new key. A kind that is not known is no error, but text in place of the key, as in sprig.
///
/// # Errors
/// No key can be made.
pub fn private_key(outside: &Outside, kind: &[u8]) -> Result<Vec<u8>, FuncError> {
    let key = match kind {
        b"" | b"rsa" => new_rsa(outside, LONE_RSA_BITS)?,
        b"ecdsa" => new_ecdsa(outside)?,
        b"ed25519" => {
            let mut seed = Zeroizing::new(vec![0; 32]);
            outside.chance.fill(&mut seed);
            PrivateKey::Ed25519(seed)
        }
        b"dsa" => super::dsa::generate(outside.chance).ok_or(NO_KEY)?,
        _ => return Ok([b"Unknown type ", kind].concat()),
    };
    key.traditional_pem().map(String::into_bytes).ok_or(NO_KEY)
}

const NO_KEY: FuncError = FuncError::fixed("failed to generate private key");

fn new_rsa(outside: &Outside, bits: usize) -> Result<PrivateKey, FuncError> {
    outside.chance.rsa_key(bits).and_then(|der| PrivateKey::parse_pkcs8(&der)).ok_or(NO_KEY)
}

/// Numbers are drawn until one is of the curve, which nearly all are.
fn new_ecdsa(outside: &Outside) -> Result<PrivateKey, FuncError> {
    let draw = || {
        let mut number = Zeroizing::new([0; 32]);
        outside.chance.fill(&mut *number);
        Ec::new(Curve::named("P-256")?, &*number)
    };
    (0..16).find_map(|_| draw()).map(PrivateKey::Ec).ok_or(NO_KEY)
}

/// What a certificate is to say.
pub struct Wish<'a> {
    /// Common name.
    pub name: &'a [u8],
    /// Addresses.
    pub ips: &'a [&'a [u8]],
    /// DNS names.
    pub dns: &'a [&'a [u8]],
    /// Days from now on. Negative ones make a certificate that is no longer valid.
    pub days: i64,
}

/// `buildCustomCert`: a certificate and a key that exist already, both as base64 of PEM.
///
/// # Errors
/// One of them is not what it should be. The texts are sprig's.
pub fn custom(certificate: &[u8], key: &[u8]) -> Result<CertificateAndKey, FuncError> {
    let certificate = base64_of_go(certificate).ok_or(FuncError::new("unable to decode base64 certificate"))?;
    let key = base64_of_go(key).map(Zeroizing::new).ok_or(FuncError::new("unable to decode base64 private key"))?;
    read_certificate(&certificate)?;
    PrivateKey::from_pem(&key).map_err(|e| e.within("error parsing private key"))?;
    Ok(CertificateAndKey { cert: certificate, key })
}

/// `genCA`: a certificate of an authority with a new key.
///
/// # Errors
/// The wish cannot be met.
pub fn authority(outside: &Outside, name: &[u8], days: i64) -> Result<CertificateAndKey, FuncError> {
    authority_of(outside, name, days, new_rsa(outside, RSA_BITS)?)
}

/// `genCAWithKey`.
///
/// # Errors
/// The wish cannot be met, or the key cannot be read.
pub fn authority_with_key(outside: &Outside, name: &[u8], days: i64, key: &[u8]) -> Result<CertificateAndKey, FuncError> {
    authority_of(outside, name, days, given(key)?)
}

fn authority_of(outside: &Outside, name: &[u8], days: i64, key: PrivateKey) -> Result<CertificateAndKey, FuncError> {
    issue(outside, &Wish { name, ips: &[], dns: &[], days }, &key, Issuer::Itself { authority: true })
}

/// `genSelfSignedCert`.
///
/// # Errors
/// The wish cannot be met.
pub fn self_signed(outside: &Outside, wish: &Wish) -> Result<CertificateAndKey, FuncError> {
    issue(outside, wish, &new_rsa(outside, RSA_BITS)?, Issuer::Itself { authority: false })
}

/// `genSelfSignedCertWithKey`.
///
/// # Errors
/// The wish cannot be met, or the key cannot be read.
pub fn self_signed_with_key(outside: &Outside, wish: &Wish, key: &[u8]) -> Result<CertificateAndKey, FuncError> {
    issue(outside, wish, &given(key)?, Issuer::Itself { authority: false })
}

/// `genSignedCert`: one that the authority signs.
///
/// # Errors
/// The wish cannot be met, or the authority is none.
pub fn signed(outside: &Outside, wish: &Wish, authority: &CertificateAndKey) -> Result<CertificateAndKey, FuncError> {
    let authority = Authority::read(authority)?;
    issue(outside, wish, &new_rsa(outside, RSA_BITS)?, Issuer::Authority(&authority))
}

/// `genSignedCertWithKey`.
///
/// # Errors
/// The wish cannot be met, the authority is none, or the key cannot be read.
pub fn signed_with_key(
    outside: &Outside,
    wish: &Wish,
    authority: &CertificateAndKey,
    key: &[u8],
) -> Result<CertificateAndKey, FuncError> {
    issue(outside, wish, &given(key)?, Issuer::Authority(&Authority::read(authority)?))
}

fn given(key: &[u8]) -> Result<PrivateKey, FuncError> {
    PrivateKey::from_pem(key).map_err(|e| e.within("parsing private key"))
}

fn read_certificate(text: &[u8]) -> Result<Certificate, FuncError> {
    let (block, _) = pem::decode(text).ok_or(FuncError::new("unable to decode certificate"))?;
    Certificate::parse(&block.bytes).ok_or(FuncError::new("error parsing certificate: it is none"))
}

struct Authority {
    certificate: Certificate,
    key: PrivateKey,
}

impl Authority {
    fn read(given: &CertificateAndKey) -> Result<Self, FuncError> {
        let certificate = read_certificate(&given.cert)?;
        let key = PrivateKey::from_pem(&given.key).map_err(|e| e.within("error parsing private key"))?;
        Ok(Self { certificate, key })
    }
}

enum Issuer<'a> {
    Itself { authority: bool },
    Authority(&'a Authority),
}

const NO_SIGNER: FuncError =
    FuncError::fixed("error creating certificate: x509: certificate private key does not implement crypto.Signer");

fn issue(outside: &Outside, wish: &Wish, key: &PrivateKey, issuer: Issuer) -> Result<CertificateAndKey, FuncError> {
    let names = alternative_names(wish)?;
    let subject = subject(wish.name)?;
    let (_, public) = key.signer().ok_or(NO_SIGNER)?;
    let (signer, issuer_name, authority, issuer_key) = match &issuer {
        Issuer::Itself { authority } => (key, &subject, *authority, None),
        Issuer::Authority(of) => (&of.key, &of.certificate.subject, false, of.certificate.subject_key.as_deref()),
    };
    let (signing, signing_key) = signer.signer().ok_or(NO_SIGNER)?;
    if let Issuer::Authority(of) = &issuer
        && of.certificate.spki != signing_key.spki()
    {
        return Err(FuncError::new(
            "error creating certificate: x509: provided PrivateKey doesn't match parent's PublicKey",
        ));
    }
    let (from, until) = validity(outside.now, wish.days)?;
    let mut serial = [0; 16];
    outside.chance.fill(&mut serial);
    let own_key = digest::digest(&digest::SHA256, &public.bits());
    let extensions = Extensions {
        authority,
        subject_key: authority.then(|| &own_key.as_ref()[..20]),
        issuer_key: issuer_key.filter(|_| *issuer_name != subject),
        names,
        names_critical: wish.name.is_empty(),
    };
    let body = construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_u8(2));
            writer.next().write_bigint_bytes(&serial, true);
            write_signing(writer.next(), signing);
            writer.next().write_der(issuer_name);
            writer.next().write_sequence(|writer| {
                writer.next().write_der(&time(from));
                writer.next().write_der(&time(until));
            });
            writer.next().write_der(&subject);
            writer.next().write_der(&public.spki());
            writer.next().write_tagged(Tag::context(3), |writer| extensions.write(writer));
        });
    });
    let pkcs8 = signer.pkcs8().ok_or(NO_SIGNER)?;
    let signature = outside.chance.sign(signing, &pkcs8, &body);
    let signature = signature
        .ok_or(FuncError::new("error creating certificate: the key cannot sign: an RSA key must have 2048 to 8192 bits"))?;
    let certificate = construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&body);
            write_signing(writer.next(), signing);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    let key = key.traditional_pem().ok_or(NO_SIGNER)?;
    Ok(CertificateAndKey {
        cert: pem::encode(pem::CERTIFICATE, &certificate).into_bytes(),
        key: Zeroizing::new(key.into_bytes()),
    })
}

/// From now on, to the second, for so many days.
fn validity(now: Timestamp, days: i64) -> Result<(Timestamp, Timestamp), FuncError> {
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let until = days.checked_mul(24 * 60 * 60).and_then(|s| now.checked_add(SignedDuration::from_secs(s)).ok());
    let until = until.filter(|until| year(*until) > 0);
    until.map(|until| (now, until)).ok_or(FuncError::new("the number of days leads past what a certificate can say"))
}

fn year(time: Timestamp) -> i16 {
    time.to_zoned(TimeZone::UTC).year()
}

/// DER of a time: with two digits of the year where RFC 5280 says so.
fn time(time: Timestamp) -> Vec<u8> {
    const UTC_TIME: u64 = 23;
    const GENERALIZED_TIME: u64 = 24;
    let (tag, format) = match year(time) {
        1950..2050 => (UTC_TIME, "%y%m%d%H%M%SZ"),
        _ => (GENERALIZED_TIME, "%Y%m%d%H%M%SZ"),
    };
    let text = time.strftime(format).to_string();
    der::tagged(tag, text.as_bytes())
}

/// A name of a common name only, and without that if it is empty.
fn subject(name: &[u8]) -> Result<Vec<u8>, FuncError> {
    let name = std::str::from_utf8(name).map_err(|_| FuncError::new("the common name is not valid UTF-8"))?;
    Ok(construct_der(|writer| {
        writer.write_sequence(|writer| {
            if !name.is_empty() {
                writer.next().write_set_of(|writer| {
                    writer.next().write_sequence(|writer| {
                        der::write_oid(writer.next(), COMMON_NAME);
                        writer.next().write_der(&x509::go_string(name));
                    });
                });
            }
        });
    }))
}

/// Names besides the subject, each with the number that says what it is.
fn alternative_names(wish: &Wish) -> Result<Vec<(u64, Vec<u8>)>, FuncError> {
    const DNS: u64 = 2;
    const IP: u64 = 7;
    if wish.dns.len() + wish.ips.len() > MOST_NAMES {
        return Err(FuncError::new("too many names for a certificate"));
    }
    let dns = wish.dns.iter().map(|name| match name.is_ascii() {
        true => Ok((DNS, name.to_vec())),
        false => Err(FuncError::new("error creating certificate: a DNS name has characters that are not ASCII")),
    });
    let ips = wish.ips.iter().map(|ip| {
        let parsed = std::str::from_utf8(ip).ok().and_then(|ip| ip.parse::<IpAddr>().ok());
        match parsed.map(|ip| ip.to_canonical()) {
            Some(IpAddr::V4(ip)) => Ok((IP, ip.octets().to_vec())),
            Some(IpAddr::V6(ip)) => Ok((IP, ip.octets().to_vec())),
            None => Err(FuncError::new("error parsing ip: it is none")),
        }
    });
    dns.chain(ips).collect()
}

fn write_signing(writer: DERWriter, signing: Signing) {
    match signing {
        Signing::Rsa => der::write_algorithm_null(writer, der::SHA256_WITH_RSA),
        Signing::P256 => der::write_algorithm(writer, ECDSA_SHA256),
        Signing::P384 => der::write_algorithm(writer, ECDSA_SHA384),
        Signing::P521 => der::write_algorithm(writer, ECDSA_SHA512),
        Signing::Ed25519 => der::write_algorithm(writer, der::ED25519),
    }
}

struct Extensions<'a> {
    authority: bool,
    subject_key: Option<&'a [u8]>,
    issuer_key: Option<&'a [u8]>,
    names: Vec<(u64, Vec<u8>)>,
    names_critical: bool,
}

impl Extensions<'_> {
    fn write(&self, writer: DERWriter) {
        writer.write_sequence(|writer| {
            // digitalSignature, keyEncipherment, and of an authority keyCertSign
            let usage: (u8, usize) = if self.authority { (0b1010_0100, 6) } else { (0b1010_0000, 3) };
            write_extension(writer, KEY_USAGE, true, |writer| writer.write_bitvec_bytes(&[usage.0], usage.1));
            write_extension(writer, EXTENDED_KEY_USAGE, false, |writer| {
                writer.write_sequence(|writer| {
                    der::write_oid(writer.next(), SERVER_AUTH);
                    der::write_oid(writer.next(), CLIENT_AUTH);
                });
            });
            write_extension(writer, BASIC_CONSTRAINTS, true, |writer| {
                writer.write_sequence(|writer| {
                    if self.authority {
                        writer.next().write_bool(true);
                    }
                });
            });
            if let Some(id) = self.subject_key {
                write_extension(writer, SUBJECT_KEY, false, |writer| writer.write_bytes(id));
            }
            if let Some(id) = self.issuer_key {
                write_extension(writer, AUTHORITY_KEY, false, |writer| {
                    writer.write_sequence(|writer| write_context(writer.next(), 0, id));
                });
            }
            if !self.names.is_empty() {
                write_extension(writer, ALTERNATIVE_NAMES, self.names_critical, |writer| {
                    writer.write_sequence(|writer| {
                        for (kind, name) in &self.names {
                            write_context(writer.next(), *kind, name);
                        }
                    });
                });
            }
        });
    }
}

fn write_extension(writer: &mut DERWriterSeq, oid: Oid, critical: bool, value: impl FnOnce(DERWriter)) {
    writer.next().write_sequence(|writer| {
        der::write_oid(writer.next(), oid);
        if critical {
            writer.next().write_bool(true);
        }
        writer.next().write_bytes(&construct_der(value));
    });
}

fn write_context(writer: DERWriter, number: u64, bytes: &[u8]) {
    writer.write_tagged_implicit(Tag::context(number), |writer| writer.write_bytes(bytes));
}
