//! IBM Cloud Secrets Manager.

mod data;
mod login;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session, Taker};
use crate::api::refs::SecretKeySelector;
use crate::api::secret_store::{Capabilities, StoreKind};
use session::IbmSession;

/// Where the block stands in a store.
const PATH: &str = "spec.provider.ibm";
/// IBM's own identity service.
const IAM: &str = "https://iam.cloud.ibm.com";

/// `spec.provider.ibm`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Ibm {
    /// How to log in: exactly one way.
    pub auth: Auth,
    /// Address of the Secrets Manager instance: `https://INSTANCE.REGION.secrets-manager.appdomain.cloud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_url: Option<String>,
}

/// A way to log in: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Auth {
    /// With an API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// With a token of the operator's own, for a trusted profile. ClusterSecretStores only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_auth: Option<ContainerAuth>,
}

/// An API key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Where the key is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_api_key_secret_ref: Option<SecretKeySelector>,
    /// Address of the identity service. Left out: `https://iam.cloud.ibm.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_endpoint: Option<String>,
}

/// A token of the operator's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerAuth {
    /// Name of the trusted profile.
    pub profile: String,
    /// File of the token in the operator's Pod. Left out: `/var/run/secrets/tokens/vault-token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_location: Option<String>,
    /// Address of the identity service. Left out: `https://iam.cloud.ibm.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_endpoint: Option<String>,
}

impl Ibm {
    fn api_key(&self) -> Option<&SecretKeySelector> {
        self.auth.secret_ref.as_ref()?.secret_api_key_secret_ref.as_ref()
    }

    /// Address of the identity service.
    fn iam(&self) -> &str {
        let of_key = self.auth.secret_ref.as_ref().and_then(|way| way.iam_endpoint.as_deref());
        let of_container = self.auth.container_auth.as_ref().and_then(|way| way.iam_endpoint.as_deref());
        of_key.or(of_container).map(|url| url.trim().trim_end_matches('/')).filter(|url| !url.is_empty()).unwrap_or(IAM)
    }
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

#[async_trait]
impl Provider for Ibm {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadOnly
    }

    fn metric_name(&self) -> &'static str {
        "IBM/SecretsManager"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        if self.service_url.as_deref().is_none_or(|url| url.trim().is_empty()) {
            return Err(misconfigured("serviceURL is required"));
        }
        match (&self.auth.secret_ref, &self.auth.container_auth) {
            (None, None) => Err(misconfigured("missing auth method")),
            (Some(_), Some(_)) => Err(misconfigured("too many auth methods defined")),
            (None, Some(container)) if container.profile.is_empty() => {
                Err(misconfigured("container auth profile cannot be empty"))
            }
            (None, Some(_)) => Ok(()),
            (Some(_), None) => {
                let key = self.api_key().cloned().unwrap_or_default();
                for (field, value) in [("name", &key.name), ("key", &key.key)] {
                    if value.as_deref().is_none_or(str::is_empty) {
                        return Err(misconfigured(format!("secretAPIKey.{field} cannot be empty")));
                    }
                }
                Ok(())
            }
        }
    }

    fn references(&self) -> Vec<Reference> {
        self.api_key().and_then(Reference::secret).into_iter().collect()
    }

    fn taker(&self) -> &'static dyn Taker {
        &data::IbmTaker
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(IbmSession::open(self, cx).await?))
    }
}
