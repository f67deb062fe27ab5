//! Logins to Conjur: each gives an access token that holds for eight minutes.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;

use super::Conjur;
use crate::api::refs::SecretKeySelector;
use crate::outbound::{Answer, Call, HttpClient, query, segment};
use crate::providers::rest::{Granted, Login};
use crate::providers::{ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "login to Conjur";
/// Seconds that a ServiceAccount's token is asked for.
const TOKEN_LIFE: i64 = 600;
/// How long an access token holds.
const LIFE: Duration = Duration::from_secs(8 * 60);

/// Logs in, as often as a token is asked for; what it logs in with is read anew each time, but for a client certificate, which the
/// connection is made with.
pub(super) struct Identity {
    pub(super) config: Conjur,
    pub(super) cx: ConnectCx,
    pub(super) http: HttpClient,
}

impl Identity {
    async fn call(&self) -> Result<Call, ProviderError> {
        let path = "spec.provider.conjur.auth";
        let (authenticator, account, host) = if let Some(auth) = &self.config.auth.apikey {
            let user = self.cx.secret_text(&auth.user_ref, &format!("{path}.apikey.userRef")).await?;
            ("authn".to_owned(), &auth.account, Some(user.expose_str().unwrap_or_default().to_owned()))
        } else if let Some(auth) = &self.config.auth.jwt {
            (format!("authn-jwt/{}", segment(&auth.service_id)), &auth.account, auth.host_id.clone())
        } else if let Some(auth) = &self.config.auth.cert {
            (format!("authn-cert/{}", segment(&auth.service_id)), &auth.account, auth.host_id.clone())
        } else {
            return Err(super::misconfigured(format!("{path}: no way to log in is set")));
        };
        let host = host.filter(|host| !host.is_empty()).map(|host| format!("/{}", segment(&host))).unwrap_or_default();
        let url = format!("{}/{authenticator}/{}{host}/authenticate", self.config.url(), segment(account));
        let call = Call::new(Method::POST, &url, "spec.provider.conjur.url")?;
        if let Some(auth) = &self.config.auth.apikey {
            let key = self.cx.secret_text(&auth.api_key_ref, &format!("{path}.apikey.apiKeyRef")).await?;
            return call.body(key).header("content-type", b"text/plain", WHAT);
        }
        let Some(auth) = &self.config.auth.jwt else { return Ok(call) };
        let token = match (&auth.service_account_ref, &auth.secret_ref) {
            (Some(account), _) => {
                // A token for nobody in particular would be good for the API server.
                let audiences = match account.audiences.is_empty() {
                    true => vec![self.config.url().to_owned()],
                    false => account.audiences.clone(),
                };
                self.cx.token(account, audiences, Some(TOKEN_LIFE), &format!("{path}.jwt.serviceAccountRef")).await?
            }
            (None, selector) => {
                let selector = selector.clone().unwrap_or_default();
                let given = selector.key.clone().filter(|key| !key.is_empty());
                let selector = SecretKeySelector { key: given.or_else(|| Some("token".to_owned())), ..selector };
                self.cx.secret_text(&selector, &format!("{path}.jwt.secretRef")).await?
            }
        };
        let form = SecretBytes::from(query(&[("jwt", token.expose_str().unwrap_or_default())]));
        call.body(form).header("content-type", b"application/x-www-form-urlencoded", WHAT)
    }
}

#[async_trait]
impl Login for Identity {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let answer = self.http.send(self.call().await?, WHAT).await?;
        if matches!(answer.status.as_u16(), 400 | 401 | 404) {
            let text = format!("{WHAT}: Conjur does not accept the login ({})", answer.status.as_u16());
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        let Answer { body, .. } = answer.success(WHAT)?;
        // It is JSON, and is shown as base64 of it.
        if body.expose().trim_ascii().first() != Some(&b'{') {
            let text = format!("{WHAT}: the answer is no token: is the address that of a Conjur?");
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        }
        let shown = SecretBytes::from(STANDARD.encode(body.expose()));
        Ok(Granted { token: shown, life: Some(LIFE) })
    }
}
