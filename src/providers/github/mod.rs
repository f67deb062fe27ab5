//! GitHub: secrets of Actions, of an organization, a repository or one of its environments. They can be written, and never read.

pub mod app;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session};
use crate::api::refs::SecretKeySelector;
use crate::api::secret_store::{Capabilities, StoreKind};
use session::GithubSession;

/// Secrets of GitHub Actions, to push to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Github {
    /// Address of GitHub, or of an enterprise's own. Left out: `https://github.com/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Address for uploads of an enterprise's own GitHub. Nothing is uploaded.
    #[serde(rename = "uploadURL", default, skip_serializing_if = "Option::is_none")]
    pub upload_url: Option<String>,
    /// How to log in as a GitHub App.
    pub auth: Auth,
    /// Id of the App.
    #[serde(rename = "appID")]
    pub app_id: i64,
    /// Id of the App's installation.
    #[serde(rename = "installationID")]
    pub installation_id: i64,
    /// The organization, or the user, that owns the secrets or the repository.
    pub organization: String,
    /// The repository, where the secrets are not those of the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The repository's environment, where the secrets are not those of the whole repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Which repositories may use a secret of the organization. Left out: as it is, and `all` for a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_secret_visibility: Option<Visibility>,
}

/// How to log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// The App's private key, as PEM.
    pub private_key: SecretKeySelector,
}

/// Which repositories may use a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// All of the organization.
    All,
    /// Those that are private or internal.
    Private,
}

impl Visibility {
    /// As GitHub names it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Private => "private",
        }
    }
}

fn named(field: Option<&String>) -> Option<&str> {
    field.map(String::as_str).filter(|text| !text.is_empty())
}

#[async_trait]
impl Provider for Github {
    fn capabilities(&self) -> Capabilities {
        Capabilities::WriteOnly
    }

    fn metric_name(&self) -> &'static str {
        "Github"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        let misconfigured = |text| Err(ProviderError::new(ErrorKind::Misconfigured, text));
        if self.organization.is_empty() {
            return misconfigured("organization must not be empty");
        }
        match (named(self.repository.as_ref()), named(self.environment.as_ref())) {
            (None, Some(_)) => misconfigured("environment is that of a repository: set repository too"),
            _ => Ok(()),
        }
    }

    fn references(&self) -> Vec<Reference> {
        Reference::secret(&self.auth.private_key).into_iter().collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(GithubSession::open(self, cx).await?))
    }
}
