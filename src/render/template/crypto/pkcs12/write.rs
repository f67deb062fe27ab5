//! Files as go-pkcs12's `Modern` encoder writes them, byte for byte.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use yasna::{DERWriter, Tag, construct_der};

use super::super::der::{self, Oid};
use super::super::keys::PrivateKey;
use super::super::x509::Certificate;
use super::read::{CERTIFICATE_BAG, DATA, ENCRYPTED_DATA, SHA256, SHROUDED_KEY_BAG, X509};
use super::{FuncError, Password, bmp_string, pbe};
use crate::render::template::chance::Chance;

const FRIENDLY_NAME: Oid = &[1, 2, 840, 113549, 1, 9, 20];
const LOCAL_KEY_ID: Oid = &[1, 2, 840, 113549, 1, 9, 21];
/// Java takes a certificate with this for one to trust; its value says what for.
const JAVA_TRUST_STORE: Oid = &[2, 16, 840, 1, 113894, 746875, 1, 1];
const ANY_EXTENDED_KEY_USAGE: Oid = &[2, 5, 29, 37, 0];
/// Tag of a `BMPString`.
const BMP_STRING: u64 = 30;

/// Type and value of an attribute, the value as DER.
type Attribute = (Oid, Vec<u8>);

/// A key and its certificates; the first, which is the key's own, is marked with the same id as the key.
pub fn chain(
    chance: &dyn Chance,
    key: &PrivateKey,
    certificates: &[Certificate],
    password: &Password,
) -> Result<String, FuncError> {
    let pkcs8 = key.pkcs8().ok_or(FuncError::new("the private key is not one that PKCS#8 can hold"))?;
    let print = |leaf: &Certificate| {
        let print = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &leaf.der);
        (LOCAL_KEY_ID, construct_der(|writer| writer.write_bytes(print.as_ref())))
    };
    let id: Vec<Attribute> = certificates.first().map(print).into_iter().collect();
    let (algorithm, data) = pbe::encrypt(chance, password, &pkcs8)?;
    let shrouded = construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&algorithm);
            writer.next().write_bytes(&data);
        });
    });
    let keys = sequence(&[bag(SHROUDED_KEY_BAG, &shrouded, &id)]);
    let bags: Vec<Vec<u8>> =
        certificates.iter().enumerate().map(|(i, c)| certificate_bag(c, if i == 0 { &id } else { &[] })).collect();
    let encrypted = encrypted(chance, password, &sequence(&bags))?;
    Ok(file(chance, password, &sequence(&[encrypted, typed(DATA, &octets(&keys))])))
}

/// Certificates to trust, each by the name of its subject.
pub fn trust_store(chance: &dyn Chance, certificates: &[Certificate], password: &Password) -> Result<String, FuncError> {
    let bag = |certificate: &Certificate| {
        let name = bmp_string(&certificate.subject_text)?;
        let attributes = [
            (JAVA_TRUST_STORE, construct_der(|writer| der::write_oid(writer, ANY_EXTENDED_KEY_USAGE))),
            (FRIENDLY_NAME, der::tagged(BMP_STRING, &name)),
        ];
        Ok(certificate_bag(certificate, &attributes))
    };
    let bags: Vec<Vec<u8>> = certificates.iter().map(bag).collect::<Result<_, FuncError>>()?;
    let encrypted = encrypted(chance, password, &sequence(&bags))?;
    Ok(file(chance, password, &sequence(&[encrypted])))
}

/// The file around an authenticated safe, in base64.
fn file(chance: &dyn Chance, password: &Password, safe: &[u8]) -> String {
    let mut salt = [0; pbe::SALT];
    chance.fill(&mut salt);
    let hash = &digest::SHA256;
    let rounds = std::num::NonZeroU32::MIN.saturating_add(pbe::ROUNDS - 1);
    let key = pbe::derive(hash, pbe::Purpose::Mac, password.bmp(), &salt, rounds, hash.output_len());
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), safe);
    STANDARD.encode(construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(3);
            writer.next().write_der(&typed(DATA, &octets(safe)));
            writer.next().write_sequence(|writer| {
                writer.next().write_sequence(|writer| {
                    der::write_algorithm(writer.next(), SHA256);
                    writer.next().write_bytes(mac.as_ref());
                });
                writer.next().write_bytes(&salt);
                writer.next().write_u32(pbe::ROUNDS);
            });
        });
    }))
}

/// `ContentInfo` of encrypted bags.
fn encrypted(chance: &dyn Chance, password: &Password, bags: &[u8]) -> Result<Vec<u8>, FuncError> {
    let (algorithm, data) = pbe::encrypt(chance, password, bags)?;
    let content = construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_u8(0);
            writer.next().write_sequence(|writer| {
                der::write_oid(writer.next(), DATA);
                writer.next().write_der(&algorithm);
                writer.next().write_tagged_implicit(Tag::context(0), |writer| writer.write_bytes(&data));
            });
        });
    });
    Ok(typed(ENCRYPTED_DATA, &content))
}

fn certificate_bag(certificate: &Certificate, attributes: &[Attribute]) -> Vec<u8> {
    bag(CERTIFICATE_BAG, &typed(X509, &octets(&certificate.der)), attributes)
}

fn bag(kind: Oid, value: &[u8], attributes: &[Attribute]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            der::write_oid(writer.next(), kind);
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_der(value));
            writer.next().write_set_of(|writer| {
                for (kind, value) in attributes {
                    write_attribute(writer.next(), kind, value);
                }
            });
        });
    })
}

fn write_attribute(writer: DERWriter, kind: Oid, value: &[u8]) {
    writer.write_sequence(|writer| {
        der::write_oid(writer.next(), kind);
        writer.next().write_set_of(|writer| writer.next().write_der(value));
    });
}

/// A type and what is given with it.
fn typed(kind: Oid, value: &[u8]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            der::write_oid(writer.next(), kind);
            writer.next().write_tagged(Tag::context(0), |writer| writer.write_der(value));
        });
    })
}

fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    construct_der(|writer| {
        writer.write_sequence(|writer| {
            for item in items {
                writer.next().write_der(item);
            }
        });
    })
}

fn octets(bytes: &[u8]) -> Vec<u8> {
    construct_der(|writer| writer.write_bytes(bytes))
}
