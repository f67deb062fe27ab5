//! Pulumi ESC: the values of one environment.

mod login;
mod session;
#[cfg(test)]
mod tests;
mod values;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session};
use crate::api::refs::{SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::PulumiSession;

/// Where the block stands in a store.
const PATH: &str = "spec.provider.pulumi";
/// Pulumi's own service.
const API: &str = "https://api.pulumi.com/api/esc";

/// `spec.provider.pulumi`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pulumi {
    /// Address of the API. Left out: `https://api.pulumi.com/api/esc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// How to log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Deprecated: use `auth.accessToken`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<AccessTokenRef>,
    /// Name of the organization.
    pub organization: String,
    /// Name of the project.
    pub project: String,
    /// Name of the environment, or of one of its versions: `prod`, `prod@stable`.
    pub environment: String,
}

/// A way to log in: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// With an access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_token: Option<AccessTokenRef>,
    /// As a ServiceAccount, whose tokens Pulumi trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc_config: Option<OidcConfig>,
}

/// An access token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessTokenRef {
    /// Where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
}

/// A ServiceAccount whose tokens Pulumi trusts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcConfig {
    /// Organization that the token is for.
    pub organization: String,
    /// The ServiceAccount.
    pub service_account_ref: ServiceAccountSelector,
    /// How long its token holds, in seconds. Left out: 600, which is also the least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 600))]
    pub expiration_seconds: Option<i64>,
}

impl Pulumi {
    fn access_token(&self) -> Option<&AccessTokenRef> {
        self.auth.as_ref().and_then(|auth| auth.access_token.as_ref()).or(self.access_token.as_ref())
    }

    fn oidc(&self) -> Option<&OidcConfig> {
        self.auth.as_ref()?.oidc_config.as_ref()
    }

    fn api(&self) -> &str {
        let url = self.api_url.as_deref().map(|url| url.trim().trim_end_matches('/'));
        url.filter(|url| !url.is_empty()).unwrap_or(API)
    }
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

#[async_trait]
impl Provider for Pulumi {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Pulumi/ESC"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        for (field, value) in
            [("organization", &self.organization), ("environment", &self.environment), ("project", &self.project)]
        {
            if value.is_empty() {
                return Err(misconfigured(format!("{field} is required")));
            }
        }
        let new_token = self.auth.as_ref().is_some_and(|auth| auth.access_token.is_some());
        match [new_token, self.oidc().is_some(), self.access_token.is_some()].iter().filter(|is| **is).count() {
            0 => {
                let text = "no authentication method configured: either auth.accessToken, auth.oidcConfig, or accessToken must \
                            be specified";
                return Err(misconfigured(text));
            }
            1 => {}
            _ => {
                let text = "only one authentication method may be configured: use either auth.accessToken, auth.oidcConfig, or \
                            the deprecated accessToken field";
                return Err(misconfigured(text));
            }
        }
        if let Some(oidc) = self.oidc() {
            if oidc.organization.is_empty() {
                return Err(misconfigured("oidcConfig.organization is required"));
            }
            if oidc.service_account_ref.name.is_empty() {
                return Err(misconfigured("oidcConfig.serviceAccountRef.name is required"));
            }
            if kind == StoreKind::ClusterSecretStore && oidc.service_account_ref.namespace.is_none() {
                let text = "oidcConfig.serviceAccountRef.namespace is required for ClusterSecretStore";
                return Err(misconfigured(text));
            }
        }
        if let Some(token) = self.access_token() {
            let selector = token.secret_ref.clone().unwrap_or_default();
            for (field, value) in [("name", &selector.name), ("key", &selector.key)] {
                if value.as_deref().is_none_or(str::is_empty) {
                    return Err(misconfigured(format!("secretRef.{field} is required")));
                }
            }
        }
        Ok(())
    }

    fn references(&self) -> Vec<Reference> {
        let token = self.access_token().and_then(|token| token.secret_ref.as_ref()).and_then(Reference::secret);
        let account = self.oidc().map(|oidc| Reference::service_account(&oidc.service_account_ref));
        token.into_iter().chain(account).collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(PulumiSession::open(self, cx).await?))
    }
}
