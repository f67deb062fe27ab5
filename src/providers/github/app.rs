//! A GitHub App's login: a token of one of its installations, for a signed word of the App. The generator of such tokens uses it too.

use std::time::Duration;

use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use crate::jwt::RsaKey;
use crate::outbound::{Answer, Call, secret, segment};
use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Where GitHub's own API is.
pub const API: &str = "https://api.github.com";
/// Begins the errors of such a login.
pub const WHAT: &str = "access token of the GitHub App's installation";
/// How far GitHub's clock may be behind ours, and how long the login is good for: seconds.
const SLACK: i64 = 10;
const LIFE: i64 = 300;

/// An installation of an App.
pub struct Installation {
    /// Address of the API, without a slash at the end.
    pub base: String,
    /// Id of the App.
    pub app: String,
    /// Id of the installation.
    pub id: String,
}

/// What GitHub answers, as far as we need it.
#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "secret")]
    token: SecretBytes,
    #[serde(default)]
    expires_at: Option<Timestamp>,
}

/// The App's private key.
///
/// # Errors
/// `Misconfigured` where it is none. `what` names the object.
pub fn key(pem: &SecretBytes, what: &str) -> Result<RsaKey, ProviderError> {
    RsaKey::from_pem(pem.expose()).ok_or_else(|| no_key(what))
}

fn no_key(what: &str) -> ProviderError {
    let text = format!("{what}: the value is no private RSA key of 2048 bits or more in PEM");
    ProviderError::new(ErrorKind::Misconfigured, text)
}

impl Installation {
    /// The request for a token; its body can narrow it down. `what` names the object that holds the key.
    ///
    /// # Errors
    /// `Misconfigured` where the address is none, or the key cannot sign.
    pub fn call(&self, key: &RsaKey, now: Timestamp, url: &str, what: &str) -> Result<Call, ProviderError> {
        let second = now.as_second();
        let claims = json!({"iss": self.app, "iat": second - SLACK, "exp": second + LIFE});
        let login = key.sign(&claims, None).ok_or_else(|| no_key(what))?;
        let address = format!("{}/app/installations/{}/access_tokens", self.base, segment(&self.id));
        let call = Call::new(Method::POST, &address, url)?.bearer(&login, WHAT)?;
        call.header("accept", b"application/vnd.github.v3+json", WHAT)
    }
}

/// The token of an answer, and how long it holds.
///
/// # Errors
/// What GitHub said, in our words.
pub fn token(answer: Answer, now: Timestamp) -> Result<(SecretBytes, Option<Duration>), ProviderError> {
    let Granted { token, expires_at } = success(answer, now, WHAT)?.json(WHAT)?;
    let life = expires_at.map(|end| Duration::try_from(end.duration_since(now)).unwrap_or_default());
    Ok((token, life))
}

/// The answer, if all went well. GitHub says 403 or 429 when its limit is used up, and when the next one begins in a header of its own.
///
/// # Errors
/// The class that the status stands for.
pub fn success(answer: Answer, now: Timestamp, what: &str) -> Result<Answer, ProviderError> {
    match limit_over(&answer.headers, now) {
        Some(wait) if matches!(answer.status.as_u16(), 403 | 429) => {
            let text = format!("{what}: GitHub's rate limit is used up ({})", answer.status.as_u16());
            Err(ProviderError::new(ErrorKind::Throttled, text).after(wait))
        }
        _ => answer.success(what),
    }
}

fn limit_over(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let number = |name| headers.get(name)?.to_str().ok()?.parse::<i64>().ok();
    let reset = number("x-ratelimit-reset").filter(|_| number("x-ratelimit-remaining") == Some(0))?;
    let wait = reset.saturating_sub(now.as_second()).clamp(1, 3600);
    Some(Duration::from_secs(wait.unsigned_abs()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn a_limit_that_is_used_up_says_when_the_next_one_begins() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let reset = (now.as_second() + 90).to_string();
        for (status, remaining, kind, wait) in [
            (403, "0", ErrorKind::Throttled, Some(90)),
            (429, "0", ErrorKind::Throttled, Some(90)),
            (429, "1", ErrorKind::Throttled, None),
            (403, "1", ErrorKind::Denied, None),
            (503, "0", ErrorKind::Unavailable, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("x-ratelimit-remaining", remaining.parse().unwrap());
            headers.insert("x-ratelimit-reset", reset.parse().unwrap());
            let status = StatusCode::from_u16(status).unwrap();
            let error = success(Answer { status, headers, body: SecretBytes::default() }, now, WHAT).err().unwrap();
            assert_eq!((error.kind, error.retry_after), (kind, wait.map(Duration::from_secs)), "{status} {remaining}");
        }
    }
}
