//! Doppler: the secrets of one config of a project.
//!
//! All keys of a config come with one download, which Doppler answers without a body while nothing has changed.

mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session};
use crate::api::refs::{SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::DopplerSession;

/// The key of the token where the reference names none.
const TOKEN_KEY: &str = "dopplerToken";

/// A Doppler config, and how to log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Doppler {
    /// How to log in: exactly one way.
    pub auth: Auth,
    /// The project. Needed unless the token is a service token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The config. Needed unless the token is a service token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// How `dataFrom.find` writes the names of secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name_transformer: Option<NameTransformer>,
    /// Makes `dataFrom.find` give all secrets as one file under the key `DOPPLER_SECRETS_FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
}

/// A way to log in: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Auth {
    /// A Doppler token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<TokenAuth>,
    /// A token of a ServiceAccount, exchanged for one of Doppler's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oidc_config: Option<OidcAuth>,
}

/// A Doppler token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// The token. Its key is `dopplerToken` where none is named.
    pub doppler_token: SecretKeySelector,
}

/// A login by a ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OidcAuth {
    /// Id of the service account identity at Doppler.
    pub identity: String,
    /// The ServiceAccount.
    pub service_account_ref: ServiceAccountSelector,
    /// How long its token holds, in seconds. Left out: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<i64>,
}

/// A way to write names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NameTransformer {
    /// `ApiKey`
    UpperCamel,
    /// `apiKey`
    Camel,
    /// `api_key`
    LowerSnake,
    /// `TF_VAR_api_key`
    TfVar,
    /// `Smtp__UserName`
    DotnetEnv,
    /// `api-key`
    LowerKebab,
}

impl NameTransformer {
    /// As Doppler names it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::UpperCamel => "upper-camel",
            Self::Camel => "camel",
            Self::LowerSnake => "lower-snake",
            Self::TfVar => "tf-var",
            Self::DotnetEnv => "dotnet-env",
            Self::LowerKebab => "lower-kebab",
        }
    }
}

/// A form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// One JSON object.
    Json,
    /// One JSON object, nested at `__`.
    DotnetJson,
    /// `NAME="value"`
    Env,
    /// One YAML mapping.
    Yaml,
    /// `NAME=value`
    Docker,
}

impl Format {
    /// As Doppler names it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::DotnetJson => "dotnet-json",
            Self::Env => "env",
            Self::Yaml => "yaml",
            Self::Docker => "docker",
        }
    }
}

impl TokenAuth {
    fn selector(&self) -> SecretKeySelector {
        let key = self.doppler_token.key.clone().or_else(|| Some(TOKEN_KEY.to_owned()));
        SecretKeySelector { key, ..self.doppler_token.clone() }
    }
}

#[async_trait]
impl Provider for Doppler {
    /// As ESO says it, which can push all the same.
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadOnly
    }

    fn metric_name(&self) -> &'static str {
        "Doppler"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        let misconfigured = |text: &str| Err(ProviderError::new(ErrorKind::Misconfigured, format!("invalid store: {text}")));
        match (&self.auth.secret_ref, &self.auth.oidc_config) {
            (Some(_), Some(_)) => misconfigured("exactly one of auth.secretRef and auth.oidcConfig must be specified"),
            (None, None) => misconfigured("either auth.secretRef or auth.oidcConfig must be specified"),
            (Some(token), None) if token.doppler_token.name.as_deref().unwrap_or_default().is_empty() => {
                misconfigured("dopplerToken.name cannot be empty")
            }
            (None, Some(oidc)) if oidc.identity.is_empty() => misconfigured("oidcConfig.identity cannot be empty"),
            (None, Some(oidc)) if oidc.service_account_ref.name.is_empty() => {
                misconfigured("oidcConfig.serviceAccountRef.name cannot be empty")
            }
            _ => Ok(()),
        }
    }

    fn references(&self) -> Vec<Reference> {
        let token = self.auth.secret_ref.iter().filter_map(|auth| Reference::secret(&auth.doppler_token));
        let account = self.auth.oidc_config.iter().map(|auth| Reference::service_account(&auth.service_account_ref));
        token.chain(account).collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(DopplerSession::open(self, cx).await?))
    }
}
