//! ECRAuthorizationToken and STSSessionToken: what AWS gives out for a while.

use async_trait::async_trait;

use super::{GenerateCx, Generated, Generator};
use crate::api::generators::{EcrAuthorizationTokenSpec, StsSessionTokenSpec};
use crate::providers::ProviderError;
use crate::providers::aws::tokens;
use crate::secret_bytes::SecretBytes;

#[async_trait]
impl Generator for EcrAuthorizationTokenSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let login = tokens::registry_login(self, &cx.connect, &cx.call).await?;
        let expires_at = SecretBytes::from(login.expires_at.to_string());
        let endpoint = login.endpoint.map(|endpoint| ("proxy_endpoint", SecretBytes::from(endpoint)));
        let values = [("username", login.username), ("password", login.password), ("expires_at", expires_at)];
        Ok(Generated::values(values.into_iter().chain(endpoint)))
    }
}

#[async_trait]
impl Generator for StsSessionTokenSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let token = tokens::session_token(self, &cx.connect, &cx.call).await?;
        Ok(Generated::values([
            ("access_key_id", token.access_key_id),
            ("secret_access_key", token.secret_access_key),
            ("session_token", token.session_token),
            ("expiration", SecretBytes::from(token.expiration.to_string())),
        ]))
    }
}
