//! JSON Web Tokens: signed with RS256 to log in as an application, and looked into for when they expire.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};

use crate::secret_bytes::SecretBytes;

/// A private RSA key. No `Debug`.
pub struct RsaKey(RsaKeyPair);

impl RsaKey {
    /// Reads a key in PEM, PKCS#1 (`RSA PRIVATE KEY`) or PKCS#8 (`PRIVATE KEY`). None: it is no RSA key of 2048 bits or more.
    #[must_use]
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let pair = match PrivateKeyDer::from_pem_slice(pem).ok()? {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return None,
        };
        pair.ok().map(Self)
    }

    /// A token with these claims. `id` is the key's id, where the reader keeps several keys. None: the key cannot sign.
    #[must_use]
    pub fn sign(&self, claims: &Value, id: Option<&str>) -> Option<SecretBytes> {
        self.sign_with(id.map(|id| ("kid".to_owned(), json!(id))).into_iter().collect(), claims)
    }

    /// A token with these claims, and in its header what tells the key. None: the key cannot sign.
    #[must_use]
    pub fn sign_with(&self, key: Map<String, Value>, claims: &Value) -> Option<SecretBytes> {
        let mut header = Map::from_iter([("alg".to_owned(), json!("RS256")), ("typ".to_owned(), json!("JWT"))]);
        header.extend(key);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&Value::Object(header)), part(claims));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
        Some(SecretBytes::from(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

/// The `exp` claim of a token, in seconds since 1970. The signature is not checked: whoever takes the token will.
#[must_use]
pub fn expiry(token: &SecretBytes) -> Option<f64> {
    let [_, payload, _] = token.expose_str()?.split('.').collect::<Vec<_>>().try_into().ok()?;
    let claims = SecretBytes::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    serde_json::from_slice::<Value>(claims.expose()).ok()?.get("exp")?.as_f64()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    /// A key of 2048 bits in PEM, and its public half.
    pub(crate) fn key() -> (String, Vec<u8>) {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        (pem("PRIVATE KEY", der.as_ref()), pair.public_key().as_ref().to_vec())
    }

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    /// The header and the claims of a token whose signature is right.
    pub(crate) fn verified(token: &str, public: &[u8]) -> (Value, Value) {
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(signed.as_bytes(), &signature).unwrap();
        let part = |text: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
        let (header, claims) = signed.split_once('.').unwrap();
        (part(header), part(claims))
    }

    /// The PKCS#1 key inside of a PKCS#8 one: it is the content of the last OCTET STRING.
    fn pkcs1_of(pkcs8: &str) -> String {
        let der = PrivateKeyDer::from_pem_slice(pkcs8.as_bytes()).unwrap();
        let bytes = der.secret_der();
        let start = bytes.windows(4).skip(4).position(|w| w[..2] == [0x30, 0x82] && w[2] == 0x04).unwrap() + 4;
        pem("RSA PRIVATE KEY", &bytes[start..])
    }

    #[test]
    fn both_forms_of_a_key_sign() {
        let (pkcs8, public) = key();
        let claims = json!({"iss": "12", "iat": 1, "exp": 311});
        for form in [pkcs8.clone(), pkcs1_of(&pkcs8)] {
            let token = RsaKey::from_pem(form.as_bytes()).unwrap().sign(&claims, Some("k1")).unwrap();
            let (header, read) = verified(token.expose_str().unwrap(), &public);
            assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
            assert_eq!(read, claims);
            assert_eq!(expiry(&token), Some(311.0));
        }
    }

    #[test]
    fn what_is_no_rsa_key_is_none() {
        for bad in ["", "text", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
            assert!(RsaKey::from_pem(bad.as_bytes()).is_none(), "{bad}");
        }
        let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
        assert!(RsaKey::from_pem(ec.as_bytes()).is_none());
    }

    #[test]
    fn what_has_no_expiry_has_none() {
        let token = |claims: &str| SecretBytes::from(format!("e30.{}.s", URL_SAFE_NO_PAD.encode(claims)));
        assert_eq!(expiry(&token(r#"{"exp":1700000000}"#)), Some(1_700_000_000.0));
        for bad in ["{}", r#"{"exp":"1"}"#, "no json"] {
            assert_eq!(expiry(&token(bad)), None, "{bad}");
        }
        for bad in ["", "a.b", "a.b.c.d", "e30.%%.s"] {
            assert_eq!(expiry(&SecretBytes::from(bad)), None, "{bad}");
        }
    }
}
