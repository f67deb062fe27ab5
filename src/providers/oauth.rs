//! What logins by OAuth 2.0 share.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::vault::Retries;
use super::{CallCx, ErrorKind, ProviderError};
use crate::outbound::{Answer, Call, HttpClient, secret};
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

/// Time that one try of a call may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long before its end a token is got anew; a fifth of its life where that is less.
const EARLY: Duration = Duration::from_secs(300);
/// When that is tried again, while the old token still holds.
const AGAIN: Duration = Duration::from_secs(30);

/// The token of a session: got once, shared by all its calls, and got anew before it ends. Who asks meanwhile waits for the
/// one login.
#[derive(Default)]
pub struct KeptToken(tokio::sync::Mutex<Option<Kept>>);

struct Kept {
    token: AccessToken,
    renew_at: Timestamp,
}

impl KeptToken {
    /// The token, by `login` where there is none that holds for a while.
    ///
    /// # Errors
    /// What `login` says, unless the old token still holds.
    pub async fn get<F>(&self, login: impl FnOnce() -> F) -> Result<SecretBytes, ProviderError>
    where
        F: Future<Output = Result<AccessToken, ProviderError>>,
    {
        let mut kept = self.0.lock().await;
        let now = Timestamp::now();
        if let Some(kept) = kept.as_ref().filter(|kept| now < kept.renew_at) {
            return Ok(kept.token.value.clone());
        }
        let token = match login().await {
            Ok(token) => token,
            Err(error) => {
                let old = kept.as_mut().filter(|kept| now < kept.token.expires_at).ok_or(error)?;
                old.renew_at = now.saturating_add(AGAIN).unwrap_or(now);
                return Ok(old.token.value.clone());
            }
        };
        let life = Duration::try_from(token.expires_at.duration_since(now)).unwrap_or_default();
        let renew_at = token.expires_at.saturating_sub(EARLY.min(life / 5)).unwrap_or(now);
        let value = token.value.clone();
        *kept = Some(Kept { token, renew_at });
        Ok(value)
    }

    /// Drops a token that a server did not take.
    pub async fn forget(&self, refused: &SecretBytes) {
        let mut kept = self.0.lock().await;
        if kept.as_ref().is_some_and(|kept| kept.token.value == *refused) {
            *kept = None;
        }
    }
}

/// Sends calls with an access token: one login serves them all, and what the server failed is tried again.
pub struct BearerClient {
    http: HttpClient,
    token: KeptToken,
    retries: Retries,
}

/// A call as errors and metrics name it.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// What it is about, for errors.
    pub what: &'a str,
    /// Its name in metrics.
    pub name: &'static str,
}

impl BearerClient {
    /// A client that is not logged in.
    #[must_use]
    pub fn new(http: HttpClient, retries: Retries) -> Self {
        Self { http, token: KeptToken::default(), retries }
    }

    /// The token, by `login` where there is none.
    ///
    /// # Errors
    /// What `login` says.
    pub async fn log_in<F>(&self, login: impl FnOnce() -> F) -> Result<SecretBytes, ProviderError>
    where
        F: Future<Output = Result<AccessToken, ProviderError>>,
    {
        self.token.get(login).await
    }

    /// Sends a call; the answer may be a refusal.
    ///
    /// # Errors
    /// `Unavailable` where the server fails, after the tries that the store allows; those of `call` and `login`.
    pub async fn send<F>(
        &self,
        asked: Asked<'_>,
        call: impl Fn() -> Result<Call, ProviderError>,
        login: impl Fn() -> F,
        cx: &CallCx,
    ) -> Result<Answer, ProviderError>
    where
        F: Future<Output = Result<AccessToken, ProviderError>>,
    {
        self.retries
            .run(|| async {
                let token = self.log_in(&login).await?;
                let mut answer = self.once(asked, call()?, &token, cx).await?;
                if answer.status == 401 {
                    // It may have been revoked before its end.
                    self.token.forget(&token).await;
                    let token = self.log_in(&login).await?;
                    answer = self.once(asked, call()?, &token, cx).await?;
                }
                if answer.status.is_server_error() { Err(answer.refusal(asked.what)) } else { Ok(answer) }
            })
            .await
    }

    async fn once(
        &self,
        Asked { what, name }: Asked<'_>,
        call: Call,
        token: &SecretBytes,
        cx: &CallCx,
    ) -> Result<Answer, ProviderError> {
        let call = call.bearer(token, what)?.caused_by(cx).within(DEADLINE);
        let answer = self.http.send(call, what).await;
        cx.requests.note(name, !answer.as_ref().is_ok_and(|answer| answer.status.is_success()));
        answer
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn lasting(value: &str, seconds: i64) -> AccessToken {
        let expires_at = Timestamp::now().checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
        AccessToken { value: SecretBytes::from(value), expires_at }
    }

    #[tokio::test]
    async fn many_calls_are_one_login() {
        let (kept, logins) = (KeptToken::default(), AtomicUsize::new(0));
        let calls = (0..20).map(|_| {
            kept.get(|| async {
                logins.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok(lasting("t", 3600))
            })
        });
        for token in futures::future::join_all(calls).await {
            assert_eq!(token.unwrap().expose(), b"t");
        }
        assert_eq!(logins.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_token_is_renewed_before_it_ends_and_kept_while_that_fails() {
        let kept = KeptToken::default();
        let denied = || ProviderError::new(ErrorKind::Denied, "no");
        kept.get(|| async { Ok(lasting("first", 3600)) }).await.unwrap();
        let unused = kept.get(|| async { Err(denied()) }).await.unwrap();
        assert_eq!(unused.expose(), b"first");
        kept.0.lock().await.as_mut().unwrap().renew_at = Timestamp::now();
        assert_eq!(kept.get(|| async { Err(denied()) }).await.unwrap().expose(), b"first");
        kept.0.lock().await.as_mut().unwrap().renew_at = Timestamp::now();
        assert_eq!(kept.get(|| async { Ok(lasting("second", 3600)) }).await.unwrap().expose(), b"second");

        kept.forget(&SecretBytes::from("first")).await;
        assert_eq!(kept.get(|| async { Err(denied()) }).await.unwrap().expose(), b"second");
        kept.forget(&SecretBytes::from("second")).await;
        assert_eq!(kept.get(|| async { Err(denied()) }).await.unwrap_err(), denied());
    }

    #[tokio::test]
    async fn what_has_ended_is_not_used() {
        let kept = KeptToken::default();
        kept.get(|| async { Ok(lasting("ended", -1)) }).await.unwrap();
        let error = kept.get(|| async { Err(ProviderError::new(ErrorKind::Denied, "no")) }).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Denied);
    }
}
