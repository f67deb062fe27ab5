//! Requests to Keeper: each is encrypted with a key of its own, which is encrypted for the server, and signed by the client.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::Deserialize;

use super::crypto::{self, Signer};
use super::misconfigured;
use crate::outbound::{Answer, Call, TlsOptions, secret};
use crate::providers::rest::{Ask, Body, Rest};
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// What Keeper knows this kind of client as: its clients in Rust.
const CLIENT_VERSION: &str = "mr17.3.0";
/// Most bytes of an answer: all records of an application can be in one.
const MOST: usize = 16 << 20;
/// Most bytes of a file that is attached to a record.
const MOST_OF_FILE: usize = 8 << 20;
/// How long to wait where Keeper throttles and does not say: its window is ten seconds.
const WINDOW: Duration = Duration::from_secs(11);

/// Keeper's own public keys, by id: the vendor publishes them with its clients. They encrypt only.
const SERVER_KEYS: [(&str, &str); 12] = [
    ("7", "BK9w6TZFxE6nFNbMfIpULCup2a8xc6w2tUTABjxny7yFmxW0dAEojwC6j6zb5nTlmb1dAx8nwo3qF7RPYGmloRM"),
    ("8", "BKnhy0obglZJK-igwthNLdknoSXRrGB-mvFRzyb_L-DKKefWjYdFD2888qN1ROczz4n3keYSfKz9Koj90Z6w_tQ"),
    ("9", "BAsPQdCpLIGXdWNLdAwx-3J5lNqUtKbaOMV56hUj8VzxE2USLHuHHuKDeno0ymJt-acxWV1xPlBfNUShhRTR77g"),
    ("10", "BNYIh_Sv03nRZUUJveE8d2mxKLIDXv654UbshaItHrCJhd6cT7pdZ_XwbdyxAOCWMkBb9AZ4t1XRCsM8-wkEBRg"),
    ("11", "BA6uNfeYSvqagwu4TOY6wFK4JyU5C200vJna0lH4PJ-SzGVXej8l9dElyQ58_ljfPs5Rq6zVVXpdDe8A7Y3WRhk"),
    ("12", "BMjTIlXfohI8TDymsHxo0DqYysCy7yZGJ80WhgOBR4QUd6LBDA6-_318a-jCGW96zxXKMm8clDTKpE8w75KG-FY"),
    ("13", "BJBDU1P1H21IwIdT2brKkPqbQR0Zl0TIHf7Bz_OO9jaNgIwydMkxt4GpBmkYoprZ_DHUGOrno2faB7pmTR7HhuI"),
    ("14", "BJFF8j-dH7pDEw_U347w2CBM6xYM8Dk5fPPAktjib-opOqzvvbsER-WDHM4ONCSBf9O_obAHzCyygxmtpktDuiE"),
    ("15", "BDKyWBvLbyZ-jMueORl3JwJnnEpCiZdN7yUvT0vOyjwpPBCDf6zfL4RWzvSkhAAFnwOni_1tQSl8dfXHbXqXsQ8"),
    ("16", "BDXyZZnrl0tc2jdC5I61JjwkjK2kr7uet9tZjt8StTiJTAQQmnVOYBgbtP08PWDbecxnHghx3kJ8QXq1XE68y8c"),
    ("17", "BFX68cb97m9_sweGdOVavFM3j5ot6gveg6xT4BtGahfGhKib-zdZyO9pwvv1cBda9ahkSzo1BQ4NVXp9qRyqVGU"),
    ("18", "BNhngQqTT1bPKxGuB6FhbPTAeNVFl8PKGGSGo5W06xWIReutm6ix6JPivqnbvkydY-1uDQTr-5e6t70G01Bb5JA"),
];
/// The one that is used where the configuration names none.
const DEFAULT_KEY: &str = "10";
/// Keeper's regions, by the words that configurations have for them.
const REGIONS: [(&str, &str); 7] = [
    ("US", "keepersecurity.com"),
    ("EU", "keepersecurity.eu"),
    ("AU", "keepersecurity.com.au"),
    ("GOV", "govcloud.keepersecurity.us"),
    ("JP", "keepersecurity.jp"),
    ("CA", "keepersecurity.ca"),
    ("IL5", "il5.keepersecurity.us"),
];

/// The configuration of an application's client, as Keeper's tools write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    hostname: String,
    client_id: String,
    #[serde(deserialize_with = "secret")]
    private_key: SecretBytes,
    #[serde(default, deserialize_with = "secret")]
    app_key: SecretBytes,
    #[serde(default)]
    app_owner_public_key: String,
    #[serde(default)]
    server_public_key_id: Option<String>,
    #[serde(default)]
    server_public_key: Option<String>,
}

/// Why Keeper says no.
#[derive(Deserialize)]
struct Refused {
    #[serde(default)]
    result_code: Option<String>,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    key_id: Option<serde_json::Value>,
    #[serde(default)]
    retry_after: Option<f64>,
}

/// A client of one application.
pub(super) struct Wire {
    rest: Rest,
    base: String,
    client_id: String,
    signer: Signer,
    /// The server's public key: its id, and itself where it is none of Keeper's own.
    key_id: Mutex<String>,
    own_key: Option<SecretBytes>,
    /// The key that folders and records are encrypted with.
    pub(super) app_key: SecretBytes,
    /// The public key of the application's owner, for whom new records are encrypted, too.
    pub(super) owner_key: Option<SecretBytes>,
}

impl Wire {
    /// A client by its configuration. `path` is where that stands in the store.
    ///
    /// # Errors
    /// `Misconfigured` where the configuration is none, or of a client that was never bound to its application.
    pub(super) fn open(text: &SecretBytes, path: &str, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let bad = |text: &str| misconfigured(format!("{path}: {text}"));
        let is_json = text.expose().trim_ascii_start().first() == Some(&b'{');
        let json = if is_json { Some(text.clone()) } else { text.expose_str().and_then(crypto::decode) };
        let config = json.and_then(|json| serde_json::from_slice::<Config>(json.expose()).ok());
        let config =
            config.ok_or_else(|| bad("the value is no configuration of Keeper's, which is JSON or base64 of it"))?;
        if config.app_key.is_empty() {
            return Err(bad(
                "it holds no appKey: a one-time token must be turned into a configuration first, as \"ksm init default\" does",
            ));
        }
        let key = |text: &SecretBytes| text.expose_str().and_then(crypto::decode);
        let app_key = key(&config.app_key).filter(|key| key.expose().len() == crypto::KEY);
        let signer = key(&config.private_key).and_then(|der| Signer::of(&der));
        let (Some(app_key), Some(signer)) = (app_key, signer) else { return Err(bad("its keys are none of Keeper's")) };
        let own_key = match config.server_public_key.filter(|key| !key.is_empty()) {
            Some(key) => Some(crypto::decode(&key).ok_or_else(|| bad("its serverPublicKey is not in base64"))?),
            None => None,
        };
        let key_id = config.server_public_key_id.filter(|id| own_key.is_some() || server_key(id).is_some());
        let host = config.hostname.trim().trim_end_matches('/');
        let host = REGIONS.iter().find(|(region, _)| *region == host).map_or(host, |(_, host)| *host);
        let host = if host.is_empty() { REGIONS[0].1 } else { host };
        let server = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
        Ok(Self {
            rest: Rest::open(&TlsOptions::default(), path, cx)?,
            base: format!("{server}/api/rest/sm/v1"),
            client_id: config.client_id,
            signer,
            key_id: Mutex::new(key_id.unwrap_or_else(|| DEFAULT_KEY.to_owned())),
            own_key,
            app_key,
            owner_key: crypto::decode(&config.app_owner_public_key).filter(|key| !key.is_empty()),
        })
    }

    /// Whose a payload is: what every one begins with.
    pub(super) fn payload(&self) -> Body {
        Body::default().text("clientVersion", CLIENT_VERSION).text("clientId", &self.client_id)
    }

    /// Sends a payload, and decrypts the answer. Where Keeper asks for another of its keys, it is sent once more with that.
    ///
    /// # Errors
    /// What Keeper said, in our own words.
    pub(super) async fn post(&self, path: &'static str, payload: Body, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let payload = payload.build();
        let what = "Keeper";
        for _ in 0..2 {
            let key_id = self.key_id.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let key = crypto::random(crypto::KEY).ok_or_else(no_chance)?;
            let server_key = self.own_key.clone().or_else(|| server_key(&key_id)).ok_or_else(no_chance)?;
            let sealed_key = crypto::encrypt_for(&server_key, &key).ok_or_else(|| {
                misconfigured(format!("{what}: the serverPublicKey of the configuration is no public key on P-256"))
            })?;
            let sealed = crypto::encrypt(&key, payload.expose()).ok_or_else(no_chance)?;
            let signature = self.signer.sign(&[sealed_key.as_slice(), &sealed].concat()).ok_or_else(no_chance)?;
            let url = format!("{}/{path}", self.base);
            let sealed = SecretBytes::new(sealed);
            let make = || {
                let call = Call::new(Method::POST, &url, "hostname of Keeper's configuration")?.at_most(MOST);
                call.header("content-type", b"application/octet-stream", what)?
                    .header("publickeyid", key_id.as_bytes(), what)?
                    .header("transmissionkey", STANDARD.encode(&sealed_key).as_bytes(), what)?
                    .header("authorization", format!("Signature {}", STANDARD.encode(&signature)).as_bytes(), what)
                    .map(|call| call.body(sealed.clone()))
            };
            let answer = self.rest.send(&Ask { name: path, what, cx }, &make).await?;
            if answer.status.is_success() {
                if answer.body.is_empty() {
                    return Ok(answer.body);
                }
                return crypto::decrypt(&key, answer.body.expose()).ok_or_else(|| {
                    ProviderError::new(
                        ErrorKind::Malformed,
                        format!("{what}: the answer is not encrypted as Keeper does it"),
                    )
                });
            }
            match self.refusal(&answer, what) {
                None => continue,
                Some(error) => return Err(error),
            }
        }
        Err(ProviderError::new(ErrorKind::Unavailable, format!("{what}: the server asks for one key after the other")))
    }

    /// What a refusal comes to; none where it asks for another key, which is used from then on.
    fn refusal(&self, answer: &Answer, what: &str) -> Option<ProviderError> {
        let error = answer.refusal(what);
        let Ok(refused) = answer.json::<Refused>(what) else { return Some(error) };
        let code = refused.result_code.or(refused.error).unwrap_or_default();
        let status = answer.status.as_u16();
        match code.as_str() {
            "key" => {
                let asked = match refused.key_id {
                    Some(serde_json::Value::String(id)) => id,
                    Some(other) => other.to_string(),
                    // It asks for no key that could be used in place of this one.
                    None => return Some(error),
                };
                if self.own_key.is_none() && server_key(&asked).is_none() {
                    let text = format!("{what}: the server asks for a key that this version of keyferry does not know");
                    return Some(ProviderError::new(ErrorKind::Unsupported, text));
                }
                *self.key_id.lock().unwrap_or_else(PoisonError::into_inner) = asked;
                None
            }
            "throttled" => {
                let asked =
                    refused.retry_after.filter(|wait| *wait > 0.0).map(|wait| Duration::from_secs_f64(wait.min(3600.0)));
                let text = format!("{what}: the server asks to wait ({status})");
                Some(ProviderError::new(ErrorKind::Throttled, text).after(asked.unwrap_or(WINDOW)))
            }
            "access_denied" | "signature_is_invalid" | "invalid_client" if error.kind != ErrorKind::Throttled => {
                let text = format!(
                    "{what}: the server does not accept the client of the configuration, or not for this ({status})"
                );
                Some(ProviderError::new(ErrorKind::Denied, text))
            }
            _ => Some(error),
        }
    }

    /// A file that is attached to a record, still encrypted. Its address comes from Keeper.
    ///
    /// # Errors
    /// What the server said.
    pub(super) async fn file(&self, url: &str, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let what = "file of Keeper";
        let make = || Call::new(Method::GET, url, what)?.at_most(MOST_OF_FILE).header("accept", b"*/*", what);
        let answer = self.rest.send(&Ask { name: "get_file", what, cx }, &make).await?;
        Ok(answer.success(what)?.body)
    }
}

/// A public key of Keeper's.
fn server_key(id: &str) -> Option<SecretBytes> {
    SERVER_KEYS.iter().find(|(known, _)| *known == id).and_then(|(_, key)| crypto::decode(key))
}

/// Cannot happen, unless the system has no random numbers.
pub(super) fn no_chance() -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, "Keeper: nothing could be encrypted")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keepers_keys_can_be_encrypted_for() {
        for (id, _) in SERVER_KEYS {
            let key = server_key(id).unwrap();
            assert_eq!(key.expose().len(), 65, "{id}");
            assert!(crypto::encrypt_for(&key, &SecretBytes::from("x")).is_some(), "{id}");
        }
        assert!(server_key("6").is_none());
    }
}
