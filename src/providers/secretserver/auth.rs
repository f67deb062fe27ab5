//! Logins to Secret Server.

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;

use super::SecretServer;
use crate::outbound::{Call, HttpClient};
use crate::providers::rest::{Granted, Login};
use crate::providers::{ConnectCx, ErrorKind, ProviderError, oauth};

const WHAT: &str = "login to Secret Server";

/// Logs in, as often as a token is asked for; what it logs in with is read anew each time.
pub(super) struct User {
    pub(super) config: SecretServer,
    pub(super) cx: ConnectCx,
    pub(super) http: HttpClient,
}

#[async_trait]
impl Login for User {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let path = "spec.provider.secretserver";
        let mut read = Vec::new();
        for (field, value) in self.config.credentials() {
            read.push(self.cx.value_or_secret(value, &format!("{path}.{field}")).await?);
        }
        let [user, password] = match <[_; 2]>::try_from(read) {
            Ok(pair) => pair,
            Err(mut one) => return Ok(Granted { token: one.pop().unwrap_or_default(), life: None }),
        };
        let text = |secret: &crate::secret_bytes::SecretBytes| secret.expose_str().unwrap_or_default().to_owned();
        let (user, password) = (zeroize::Zeroizing::new(text(&user)), zeroize::Zeroizing::new(text(&password)));
        let mut fields = vec![("grant_type", "password"), ("username", user.as_str()), ("password", password.as_str())];
        fields.extend(self.config.domain.as_deref().filter(|domain| !domain.is_empty()).map(|domain| ("domain", domain)));
        let url = format!("{}/oauth2/token", self.config.url());
        let call = Call::new(Method::POST, &url, &format!("{path}.serverURL"))?.form(&fields);
        let answer = self.http.send(call, WHAT).await?;
        if answer.status == 404 {
            let text = format!(
                "{WHAT}: the server gives no tokens: is serverURL that of a Secret Server, and not of the Delinea Platform?"
            );
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        let now = Timestamp::now();
        let token = oauth::token(answer, now, WHAT)?;
        let life = Duration::try_from(token.expires_at.duration_since(now)).unwrap_or_default();
        Ok(Granted { token: token.value, life: Some(life) })
    }
}
