//! Tokens of IBM Cloud's identity service (IAM).

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;

use super::{Ibm, PATH};
use crate::outbound::{Call, HttpClient};
use crate::providers::rest::{Granted, Login};
use crate::providers::{ConnectCx, ErrorKind, ProviderError, oauth};

/// Where a Pod that may use trusted profiles has its token, as ESO has it.
const TOKEN: &str = "/var/run/secrets/tokens/vault-token";
const WHAT: &str = "login to IBM Cloud";

/// Logs in, as often as a token is asked for; what it logs in with is read anew each time.
pub(super) struct Identity {
    pub(super) config: Ibm,
    pub(super) cx: ConnectCx,
    pub(super) http: HttpClient,
}

#[async_trait]
impl Login for Identity {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let key;
        let profile;
        let form = match &self.config.auth.container_auth {
            Some(container) => {
                let path = format!("{PATH}.auth.containerAuth");
                self.cx.allow_own_identity(&path)?;
                let file = container.token_location.as_deref().filter(|file| !file.is_empty()).unwrap_or(TOKEN);
                key = self.cx.mounted_token(file, &format!("{path}.tokenLocation")).await?;
                profile = container.profile.as_str();
                [("grant_type", "urn:ibm:params:oauth:grant-type:cr-token"), ("cr_token", ""), ("profile_name", profile)]
            }
            None => {
                let path = format!("{PATH}.auth.secretRef.secretApiKeySecretRef");
                key = self.cx.secret_text(&self.config.api_key().cloned().unwrap_or_default(), &path).await?;
                [("grant_type", "urn:ibm:params:oauth:grant-type:apikey"), ("apikey", ""), ("response_type", "cloud_iam")]
            }
        };
        let text = key.expose_str().unwrap_or_default();
        let form = form.map(|(name, value)| (name, if value.is_empty() { text } else { value }));
        let url = format!("{}/identity/token", self.config.iam());
        let call = Call::new(Method::POST, &url, &format!("{PATH}.auth: iamEndpoint"))?.form(&form);
        let now = Timestamp::now();
        let token = oauth::token(self.http.send(call, WHAT).await?, now, WHAT)?;
        let life = Duration::try_from(token.expires_at.duration_since(now)).unwrap_or_default();
        if token.value.is_empty() {
            return Err(ProviderError::new(ErrorKind::Malformed, format!("{WHAT}: the answer holds no token")));
        }
        Ok(Granted { token: token.value, life: Some(life) })
    }
}
