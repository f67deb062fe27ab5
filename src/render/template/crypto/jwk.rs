//! JSON web keys as PEM.

use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};
use num_bigint::BigUint;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::FuncError;
use super::keys::{Curve, Ec, MOST_RSA_BITS, PrivateKey, PublicKey, Rsa, Secret};

/// A key of either half.
enum Key {
    Private(PrivateKey),
    Public(PublicKey),
}

/// `jwkPublicKeyPem`: the `SubjectPublicKeyInfo` of a public key.
///
/// # Errors
/// It is no JWK, one of another kind, or a private key.
pub fn public_pem(text: &[u8]) -> Result<String, FuncError> {
    match parse(text)? {
        Key::Public(key) => Ok(key.spki_pem()),
        Key::Private(_) => Err(FuncError::new("the JWK is a private key, not a public one")),
    }
}

/// `jwkPrivateKeyPem`: the PKCS#8 form of a private key.
///
/// # Errors
/// It is no JWK, one of another kind, or a public key.
pub fn private_pem(text: &[u8]) -> Result<String, FuncError> {
    match parse(text)? {
        Key::Private(key) => key.pkcs8_pem().ok_or(FuncError::new("the JWK is not a key that PKCS#8 can hold")),
        Key::Public(_) => Err(FuncError::new("the JWK is a public key, not a private one")),
    }
}

fn parse(text: &[u8]) -> Result<Key, FuncError> {
    let json: Value = serde_json::from_slice(text).map_err(|_| FuncError::new("the JWK is not JSON"))?;
    let fields = Fields(json.as_object().ok_or(FuncError::new("the JWK is not a JSON object"))?);
    match fields.text("kty")? {
        "RSA" => rsa(&fields),
        "EC" => ec(&fields),
        "OKP" => okp(&fields),
        "oct" => Err(FuncError::new("a JWK of kty oct is neither a public nor a private key")),
        _ => Err(FuncError::new("the JWK's kty is not RSA, EC or OKP")),
    }
}

struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn text(&self, name: &'static str) -> Result<&str, FuncError> {
        let value = self.0.get(name).ok_or_else(|| FuncError::new(format!("required field {name} is missing")))?;
        value.as_str().ok_or_else(|| FuncError::new(format!("the JWK's field {name} is not a string")))
    }

    /// Base64 in either alphabet, padded or not: the library that ESO uses takes all of them.
    fn bytes(&self, name: &'static str) -> Result<Secret, FuncError> {
        let config = GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let url: String = self
            .text(name)?
            .chars()
            .map(|c| {
                if c == '+' {
                    '-'
                } else if c == '/' {
                    '_'
                } else {
                    c
                }
            })
            .collect();
        let decoded = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config).decode(&*Zeroizing::new(url));
        decoded.map(Zeroizing::new).map_err(|_| FuncError::new(format!("the JWK's field {name} is not base64url")))
    }

    fn number(&self, name: &'static str) -> Result<BigUint, FuncError> {
        Ok(BigUint::from_bytes_be(&self.bytes(name)?))
    }
}

fn rsa(fields: &Fields) -> Result<Key, FuncError> {
    let (e, n) = (fields.number("e")?, fields.number("n")?);
    if n.bits() > MOST_RSA_BITS || e.bits() > 31 {
        return Err(FuncError::new("the JWK's RSA key is too big"));
    }
    if !fields.has("d") {
        return Ok(Key::Public(PublicKey::Rsa { n, e }));
    }
    let key = Rsa::new(n, e, fields.number("d")?, fields.number("p")?, fields.number("q")?);
    let key = key.ok_or(FuncError::new("the numbers of the JWK's RSA key do not fit each other"))?;
    Ok(Key::Private(PrivateKey::Rsa(Box::new(key))))
}

fn ec(fields: &Fields) -> Result<Key, FuncError> {
    let curve = Curve::named(fields.text("crv")?).ok_or(FuncError::new("the JWK's crv is not P-256, P-384 or P-521"))?;
    let point = curve.point(&fields.bytes("x")?, &fields.bytes("y")?);
    let point = point.ok_or(FuncError::new("the JWK's point is not on its curve"))?;
    if !fields.has("d") {
        return Ok(Key::Public(PublicKey::Ec { curve, point }));
    }
    let key = Ec::new(curve, &fields.bytes("d")?).filter(|key| key.is_of(&point));
    key.map(|key| Key::Private(PrivateKey::Ec(key))).ok_or(FuncError::new("the JWK's d does not fit its x and y"))
}

fn okp(fields: &Fields) -> Result<Key, FuncError> {
    if fields.text("crv")? != "Ed25519" {
        return Err(FuncError::new("the JWK's crv is not Ed25519"));
    }
    let x = fields.bytes("x")?;
    if !fields.has("d") {
        return Ok(Key::Public(PublicKey::Ed25519(x.to_vec())));
    }
    let key = PrivateKey::Ed25519(fields.bytes("d")?);
    match key.signer() {
        Some((_, PublicKey::Ed25519(public))) if public == **x => Ok(Key::Private(key)),
        _ => Err(FuncError::new("the JWK's d does not fit its x")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_error_says_which_field_and_not_what_is_in_it() {
        for (jwk, want) in [
            ("nope", "the JWK is not JSON"),
            ("[1]", "the JWK is not a JSON object"),
            (r#"{"kty":"RSA"}"#, "required field e is missing"),
            (r#"{"kty":"RSA","e":"AQAB","n":"CANARY!"}"#, "the JWK's field n is not base64url"),
            (r#"{"kty":"CANARY"}"#, "the JWK's kty is not RSA, EC or OKP"),
            (r#"{"kty":"EC","crv":"CANARY"}"#, "the JWK's crv is not P-256, P-384 or P-521"),
            (r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#, "the JWK's point is not on its curve"),
        ] {
            assert_eq!(private_pem(jwk.as_bytes()).unwrap_err().to_string(), want);
        }
    }

    proptest! {
        #[test]
        fn any_key_can_be_read(
            kty in "RSA|EC|OKP|oct|X", crv in "P-256|P-384|P-521|Ed25519|X25519|",
            x in "[A-Za-z0-9_-]{0,90}", d in "[A-Za-z0-9_-]{0,90}", private: bool,
        ) {
            let mut jwk = serde_json::json!({"kty": kty, "crv": crv, "x": x, "y": d, "n": x, "e": "AQAB"});
            if private {
                jwk["d"] = d.clone().into();
                jwk["p"] = d.clone().into();
                jwk["q"] = d.into();
            }
            let _ = public_pem(jwk.to_string().as_bytes());
            let _ = private_pem(jwk.to_string().as_bytes());
        }

        #[test]
        fn any_bytes_can_be_read(bytes: Vec<u8>) {
            prop_assert!(private_pem(&bytes).is_err());
        }
    }
}
