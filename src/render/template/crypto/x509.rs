//! Certificates, as far as templates look into them. Nothing here says whether one may be trusted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::{FuncError, der, pem};

/// Most certificates in one input: ordering a chain compares each with each.
const MOST: usize = 2000;

/// The certificates of a text, one by one, as PEM without what is around them. Only that they are PEM is looked at.
#[must_use]
pub fn certificates(text: &[u8]) -> Vec<String> {
    let (blocks, _) = pem::decode_all(text);
    let found = blocks.iter().filter(|block| block.kind == pem::CERTIFICATE.as_bytes());
    found.map(|block| pem::encode(pem::CERTIFICATE, &block.bytes)).collect()
}

/// Whether the first block of a text is a certificate that can be read.
#[must_use]
pub fn is_certificate(text: &[u8]) -> bool {
    pem::decode(text).is_some_and(|(block, _)| Certificate::parse(&block.bytes).is_some())
}

/// A certificate.
#[derive(Clone)]
pub struct Certificate {
    /// All of it.
    pub der: Vec<u8>,
    /// Its subject, as DER.
    pub subject: Vec<u8>,
    /// Its subject, as Go writes it.
    pub subject_text: String,
    /// Its `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
    /// Its `SubjectKeyIdentifier`.
    pub subject_key: Option<Vec<u8>>,
    /// Key identifier of its `AuthorityKeyIdentifier`.
    pub authority_key: Option<Vec<u8>>,
    sans: Vec<String>,
}

impl Certificate {
    /// A certificate from DER, if it is one.
    pub fn parse(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        rest.is_empty().then_some(())?;
        let mut found = Self {
            der: der.to_vec(),
            subject: certificate.subject().as_raw().to_vec(),
            subject_text: text(certificate.subject()),
            spki: certificate.public_key().raw.to_vec(),
            subject_key: None,
            authority_key: None,
            sans: Vec::new(),
        };
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => found.subject_key = Some(id.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    found.authority_key = id.key_identifier.as_ref().map(|id| id.0.to_vec());
                }
                ParsedExtension::SubjectAlternativeName(names) => found.sans = sans(&names.general_names)?,
                ParsedExtension::ParseError { .. } => return None,
                _ => {}
            }
        }
        Some(found)
    }

    /// All certificates of PEM blocks, whatever the blocks are called, and what follows the last block.
    ///
    /// # Errors
    /// A block does not hold a certificate, or there are too many.
    pub fn parse_all(text: &[u8]) -> Result<(Vec<Self>, &[u8]), FuncError> {
        let (blocks, rest) = pem::decode_all(text);
        if blocks.len() > MOST {
            return Err(FuncError::new("too many certificates"));
        }
        let parse = |block: &pem::Block| Self::parse(&block.bytes).ok_or(NOT_ONE);
        Ok((blocks.iter().map(parse).collect::<Result<_, _>>()?, rest))
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der)
    }

    fn is_root(&self) -> bool {
        self.authority_key.is_none() || self.names_itself()
    }

    fn is_leaf(&self) -> bool {
        self.authority_key.is_some() && !self.names_itself()
    }

    fn names_itself(&self) -> bool {
        self.is_below(self)
    }

    /// Whether the other's key is the one that it says it is signed with. No key is the same as none: ESO compares so.
    fn is_below(&self, other: &Self) -> bool {
        self.authority_key.as_deref().unwrap_or_default() == other.subject_key.as_deref().unwrap_or_default()
    }
}

/// The bytes are not a certificate.
pub const NOT_ONE: FuncError = FuncError::fixed("a PEM block does not hold a certificate");

/// Names in the order that ESO gives them: DNS, IP, mail, URI.
fn sans(names: &[GeneralName]) -> Option<Vec<String>> {
    let mut sorted: [Vec<String>; 4] = Default::default();
    for name in names {
        match name {
            GeneralName::DNSName(name) => sorted[0].push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => sorted[1].push(address(bytes)?),
            GeneralName::RFC822Name(name) => sorted[2].push((*name).to_owned()),
            GeneralName::URI(uri) => sorted[3].push((*uri).to_owned()),
            GeneralName::Invalid(..) => return None,
            _ => {}
        }
    }
    Some(sorted.concat())
}

/// An address as Go writes it: IPv4 also where it is inside of IPv6.
fn address(bytes: &[u8]) -> Option<String> {
    let address = match bytes.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
        16 => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        _ => return None,
    };
    Some(address.to_canonical().to_string())
}

/// `certSANs`: the names of the first certificate.
///
/// # Errors
/// There is no PEM block, or it does not hold a certificate.
pub fn cert_sans(text: &[u8]) -> Result<Vec<String>, FuncError> {
    let (block, _) = pem::decode(pem::without_preface(text)).ok_or(FuncError::new("failed to decode PEM block"))?;
    Certificate::parse(&block.bytes).map(|found| found.sans).ok_or(FuncError::new("failed to parse certificate"))
}

/// Puts certificates in order: leaf, intermediates, root. Only key identifiers are looked at, no signatures.
///
/// # Errors
/// They are not one chain. The texts are ESO's.
pub fn order(certificates: &[Certificate]) -> Result<Vec<&Certificate>, FuncError> {
    let parents: Vec<Option<usize>> = (0..certificates.len())
        .map(|i| (0..certificates.len()).find(|&j| i != j && certificates[i].is_below(&certificates[j])))
        .collect();
    let mut leaves = (0..certificates.len()).filter(|i| !parents.contains(&Some(*i)));
    let mut next = leaves.next();
    if leaves.next().is_some() {
        return Err(FuncError::new("found multiple leaf or disjunct certificates"));
    }
    if next.is_none() {
        return Err(FuncError::new("no leaf certificate found"));
    }
    let mut chain = Vec::new();
    while let Some(i) = next {
        if chain.len() == certificates.len() {
            return Err(FuncError::new("constructing chain resulted in cycle"));
        }
        chain.push(&certificates[i]);
        next = parents[i];
    }
    Ok(chain)
}

/// `filterCertChain`: the `leaf`, `intermediate` or `root` of a chain; nothing if it has none.
///
/// # Errors
/// The input is not a chain.
pub fn filter_chain(kind: &[u8], text: &[u8]) -> Result<String, FuncError> {
    let (certificates, _) = Certificate::parse_all(text)?;
    let chain = order(&certificates)?;
    Ok(match (kind, chain.first(), chain.last()) {
        (b"leaf", Some(leaf), _) if leaf.is_leaf() => leaf.pem(),
        (b"intermediate", ..) => chain[1..].iter().take_while(|c| !c.is_root()).map(|c| c.pem()).collect(),
        (b"root", _, Some(root)) if root.is_root() => root.pem(),
        _ => String::new(),
    })
}

/// Attributes that Go knows the names of, in the order in which it writes them into a name.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("2.5.4.6", "C"),
    ("2.5.4.8", "ST"),
    ("2.5.4.7", "L"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.17", "POSTALCODE"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
];

/// A name as Go's `pkix.Name` writes it: the attributes it knows in its own order, all others after them, the last first.
fn text(name: &X509Name) -> String {
    let mut known: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut parts = Vec::new();
    for attribute in name.iter_attributes() {
        let oid = attribute.attr_type().to_id_string();
        match ATTRIBUTES.iter().position(|(known, _)| *known == oid) {
            Some(at) => known.entry(at).or_default().extend(string(attribute)),
            None => parts.extend(string(attribute).map(|value| format!("{oid}=#{}", hex(&go_string(&value))))),
        }
    }
    for (at, mut values) in known {
        let label = ATTRIBUTES[at].1;
        // A name has one of these: the last counts.
        if matches!(label, "CN" | "SERIALNUMBER") {
            values.drain(..values.len().saturating_sub(1));
            values.retain(|value| !value.is_empty());
        }
        let values: Vec<String> = values.iter().map(|value| format!("{label}={}", escape(value))).collect();
        if !values.is_empty() {
            parts.push(values.join("+"));
        }
    }
    parts.reverse();
    parts.join(",")
}

fn string(attribute: &AttributeTypeAndValue) -> Option<String> {
    attribute.as_str().ok().map(str::to_owned)
}

fn escape(value: &str) -> String {
    let last = value.len().saturating_sub(1);
    let mut escaped = String::new();
    for (at, c) in value.char_indices() {
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';')
            || (c == ' ' && (at == 0 || at == last))
            || (c == '#' && at == 0)
        {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// DER of a string as Go writes one: `PrintableString` where its characters allow that.
pub fn go_string(value: &str) -> Vec<u8> {
    const UTF8: u64 = 12;
    const PRINTABLE: u64 = 19;
    let printable = value.chars().all(|c| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c));
    der::tagged(if printable { PRINTABLE } else { UTF8 }, value.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn certificate(key: &str, authority: &str) -> Certificate {
        let id = |text: &str| (!text.is_empty()).then(|| text.as_bytes().to_vec());
        Certificate {
            der: Vec::new(),
            subject: Vec::new(),
            subject_text: String::new(),
            spki: Vec::new(),
            subject_key: id(key),
            authority_key: id(authority),
            sans: Vec::new(),
        }
    }

    #[test]
    fn a_chain_is_put_in_order_by_its_key_identifiers() {
        type Row = (&'static [(&'static str, &'static str)], Result<&'static str, &'static str>);
        let table: [Row; 7] = [
            (&[("a", "")], Ok("a")),
            (&[("root", ""), ("mid", "root"), ("leaf", "mid")], Ok("leaf mid root")),
            (&[("mid", "root"), ("leaf", "mid")], Ok("leaf mid")),
            (&[("x", "root"), ("y", "root"), ("root", "")], Err("found multiple leaf or disjunct certificates")),
            (&[("a", "b"), ("b", "a")], Err("no leaf certificate found")),
            (&[("a", "b"), ("b", "c"), ("c", "b")], Err("constructing chain resulted in cycle")),
            (&[], Err("no leaf certificate found")),
        ];
        for (keys, want) in table {
            let certificates: Vec<Certificate> = keys.iter().map(|(key, above)| certificate(key, above)).collect();
            let name = |c: &&Certificate| String::from_utf8(c.subject_key.clone().unwrap()).unwrap();
            let got = order(&certificates).map(|chain| chain.iter().map(name).collect::<Vec<_>>().join(" "));
            assert_eq!(got.map_err(|e| e.to_string()), want.map(str::to_owned).map_err(str::to_owned), "{keys:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            prop_assert!(Certificate::parse(&bytes).is_none());
            let _ = filter_chain(b"leaf", &bytes);
        }
    }
}
