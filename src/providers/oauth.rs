//! What logins by OAuth 2.0 share.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::{ErrorKind, ProviderError, rest};
use crate::outbound::{Answer, secret};
use crate::secret_bytes::SecretBytes;

/// Who may ask for a token by one of somebody else's (RFC 8693).
pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// A token and its end.
pub struct AccessToken {
    /// The token.
    pub value: SecretBytes,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl AccessToken {
    /// With the time that is left of it.
    #[must_use]
    pub fn granted(self) -> rest::Granted {
        let life = Duration::try_from(self.expires_at.duration_since(Timestamp::now())).unwrap_or_default();
        rest::Granted { token: self.value, life: Some(life) }
    }
}

/// What a token endpoint answers.
#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "secret")]
    access_token: SecretBytes,
    expires_in: u64,
}

/// The answer, if the server takes the credentials. Token endpoints say 400 where they do not (RFC 6749, section 5.2).
///
/// # Errors
/// `Denied` for those, else what the status stands for.
pub fn accepted(answer: Answer, what: &str) -> Result<Answer, ProviderError> {
    if answer.status == 400 {
        let text = format!("{what}: the server does not accept the credentials, or not for this (400)");
        return Err(ProviderError::new(ErrorKind::Denied, text));
    }
    answer.success(what)
}

/// The token of an answer.
///
/// # Errors
/// As [`accepted`]; `Malformed` where the answer is none of a token endpoint.
pub fn token(answer: Answer, now: Timestamp, what: &str) -> Result<AccessToken, ProviderError> {
    let Granted { access_token, expires_in } = accepted(answer, what)?.json(what)?;
    let expires_at = now.saturating_add(Duration::from_secs(expires_in)).unwrap_or(Timestamp::MAX);
    Ok(AccessToken { value: access_token, expires_at })
}
