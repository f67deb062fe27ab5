//! Access tokens of Pulumi Cloud.

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;

use super::{PATH, Pulumi};
use crate::outbound::{Call, HttpClient};
use crate::providers::rest::{Body, Granted, Login};
use crate::providers::{ConnectCx, ErrorKind, ProviderError, oauth};

const WHAT: &str = "login to Pulumi";
/// How long a ServiceAccount's token holds, in seconds, where nothing else is said.
const EXPIRATION: i64 = 600;

/// Logs in, as often as a token is asked for; what it logs in with is read anew each time.
pub(super) struct Identity {
    pub(super) config: Pulumi,
    pub(super) cx: ConnectCx,
    pub(super) http: HttpClient,
}

#[async_trait]
impl Login for Identity {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let Some(oidc) = self.config.oidc() else {
            let selector = self.config.access_token().and_then(|token| token.secret_ref.clone()).unwrap_or_default();
            let token = self.cx.secret_text(&selector, &format!("{PATH}.auth.accessToken.secretRef")).await?;
            return Ok(Granted { token, life: None });
        };
        // As in ESO: the address without the API's path.
        let api = self.config.api();
        let server = api.strip_suffix("/api/esc").unwrap_or(api);
        let account = &oidc.service_account_ref;
        let audiences = if account.audiences.is_empty() { vec![server.to_owned()] } else { account.audiences.clone() };
        let expiration = oidc.expiration_seconds.unwrap_or(EXPIRATION).max(EXPIRATION);
        let path = format!("{PATH}.auth.oidcConfig.serviceAccountRef");
        let jwt = self.cx.token(account, audiences, Some(expiration), &path).await?;
        let body = Body::default().text("organization", &oidc.organization).text("token", jwt.expose());
        let call = Call::new(Method::POST, &format!("{server}/api/oauth/oidc/token"), &format!("{PATH}.apiUrl"))?;
        let now = Timestamp::now();
        let token = oauth::token(self.http.send(call.json(body.build()), WHAT).await?, now, WHAT)?;
        let life = Duration::try_from(token.expires_at.duration_since(now)).unwrap_or_default();
        if token.value.is_empty() || life.is_zero() {
            let text = format!("{WHAT}: the answer holds no token, or one that has ended");
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        }
        Ok(Granted { token: token.value, life: Some(life) })
    }
}
