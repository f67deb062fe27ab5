//! Bitwarden Secrets Manager, through the server that ESO has for it (`bitwarden-sdk-server`): values are encrypted with a key that only
//! Bitwarden's SDK can use, which that server holds.

mod session;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rest::check_ca;
use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session, Taker};
use crate::api::refs::{CaProvider, SecretKeySelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::BitwardenSession;

/// `spec.provider.bitwardensecretsmanager`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bitwarden {
    /// How to log in.
    pub auth: Auth,
    /// Id of the organization.
    #[serde(rename = "organizationID")]
    pub organization_id: String,
    /// Id of the project that secrets are read from by their name, and written to.
    #[serde(rename = "projectID")]
    pub project_id: String,
    /// Address of Bitwarden's API, where it is not Bitwarden's own.
    #[serde(rename = "apiURL", default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Address of Bitwarden's identity service, where it is not Bitwarden's own.
    #[serde(rename = "identityURL", default, skip_serializing_if = "Option::is_none")]
    pub identity_url: Option<String>,
    /// Address of the `bitwarden-sdk-server`: `https://bitwarden-sdk-server.default.svc:9998`.
    #[serde(rename = "bitwardenServerSDKURL", default, skip_serializing_if = "Option::is_none")]
    pub server_url: Option<String>,
    /// Certificate authority of that server, as PEM or base64 of PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Where the certificate authority of that server is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_provider: Option<CaProvider>,
}

/// How to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// With a machine account.
    pub secret_ref: AuthSecretRef,
}

/// A machine account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuthSecretRef {
    /// Where its access token is.
    pub credentials: SecretKeySelector,
}

#[async_trait]
impl Provider for Bitwarden {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Bitwarden/SecretsManager"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        if self.server_url.as_deref().unwrap_or_default().is_empty() {
            return Err(misconfigured("bitwardenServerSDKURL not configured"));
        }
        check_ca(self.ca_provider.as_ref(), kind)
    }

    fn references(&self) -> Vec<Reference> {
        let login = Reference::secret(&self.auth.secret_ref.credentials);
        login.into_iter().chain(self.ca_provider.as_ref().map(Reference::ca)).collect()
    }

    fn taker(&self) -> &'static dyn Taker {
        &values::Text
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(BitwardenSession::open(self, cx).await?))
    }
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
