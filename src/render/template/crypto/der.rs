//! The little of ASN.1 that the other files share. DER only, as in Go.

use yasna::models::ObjectIdentifier;
use yasna::{ASN1Result, BERReader, BERReaderSeq, DERWriter, Tag, TagClass, construct_der};

/// An object identifier.
pub type Oid = &'static [u64];

pub const RSA: Oid = &[1, 2, 840, 113549, 1, 1, 1];
pub const SHA256_WITH_RSA: Oid = &[1, 2, 840, 113549, 1, 1, 11];
pub const EC: Oid = &[1, 2, 840, 10045, 2, 1];
pub const ED25519: Oid = &[1, 3, 101, 112];
pub const X25519: Oid = &[1, 3, 101, 110];

/// Reads a whole document. What is wrong is not told: it may quote what is secret.
pub fn read<T>(der: &[u8], callback: impl for<'a, 'b> FnOnce(BERReader<'a, 'b>) -> ASN1Result<T>) -> Option<T> {
    yasna::parse_der(der, callback).ok()
}

/// The bytes of an `OCTET STRING`.
pub fn read_octets(der: &[u8]) -> Option<Vec<u8>> {
    read(der, |reader| reader.read_bytes())
}

/// An `OBJECT IDENTIFIER`.
pub fn read_oid(der: &[u8]) -> Option<ObjectIdentifier> {
    read(der, |reader| reader.read_oid())
}

/// Writes an object identifier.
pub fn write_oid(writer: DERWriter, oid: &[u64]) {
    writer.write_oid(&ObjectIdentifier::from_slice(oid));
}

/// Bytes under a universal tag, for strings and times: the library's own writers panic at what they do not like.
pub fn tagged(number: u64, bytes: &[u8]) -> Vec<u8> {
    let tag = Tag { tag_class: TagClass::Universal, tag_number: number };
    construct_der(|writer| writer.write_tagged_implicit(tag, |writer| writer.write_bytes(bytes)))
}

/// Whether they are the same.
pub fn is(found: &ObjectIdentifier, oid: Oid) -> bool {
    found.components().as_slice() == oid
}

/// `AlgorithmIdentifier` with its parameters, as DER.
pub fn read_algorithm(reader: BERReader) -> ASN1Result<(ObjectIdentifier, Option<Vec<u8>>)> {
    reader.read_sequence(|reader| Ok((reader.next().read_oid()?, reader.read_optional(|r| r.read_der())?)))
}

/// `AlgorithmIdentifier` without parameters.
pub fn write_algorithm(writer: DERWriter, oid: &[u64]) {
    writer.write_sequence(|writer| write_oid(writer.next(), oid));
}

/// `AlgorithmIdentifier` whose parameters are NULL.
pub fn write_algorithm_null(writer: DERWriter, oid: &[u64]) {
    writer.write_sequence(|writer| {
        write_oid(writer.next(), oid);
        writer.next().write_null();
    });
}

/// Passes over what newer versions of a structure have added at its end, as Go does.
pub fn skip_rest(reader: &mut BERReaderSeq) -> ASN1Result<()> {
    while reader.read_optional(|r| r.read_der())?.is_some() {}
    Ok(())
}
