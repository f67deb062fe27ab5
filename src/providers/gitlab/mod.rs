//! GitLab: CI/CD variables of a project and of groups.

mod session;
#[cfg(test)]
mod tests;
mod variables;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session};
use crate::api::refs::{Ca, SecretKeySelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::GitlabSession;

/// The CI/CD variables of a GitLab project and of groups.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gitlab {
    /// Address of the server. Left out: `https://gitlab.com/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// How to log in.
    pub auth: Auth,
    /// The project: its number, or its path.
    #[serde(rename = "projectID", default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Whether the groups that the project is in are looked in too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherit_from_groups: Option<bool>,
    /// Groups that are looked in after the project, the last one first.
    #[serde(rename = "groupIDs", default, skip_serializing_if = "Vec::is_empty")]
    pub group_ids: Vec<String>,
    /// The environment: variables of this scope come before those of all environments. Left out: of any scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

/// How to log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Auth {
    /// A token.
    #[serde(rename = "SecretRef")]
    pub secret_ref: SecretRef,
}

/// A token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// An access token with the scope `api`, or `read_api` to read only.
    #[serde(default)]
    pub access_token: SecretKeySelector,
}

impl Gitlab {
    fn token(&self) -> &SecretKeySelector {
        &self.auth.secret_ref.access_token
    }

    fn project(&self) -> Option<&str> {
        self.project_id.as_deref().filter(|id| !id.is_empty())
    }

    fn inherits(&self) -> bool {
        self.inherit_from_groups == Some(true)
    }
}

#[async_trait]
impl Provider for Gitlab {
    /// As ESO says it, which cannot push. This can.
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "GitLab"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        let missing = |field: &Option<String>| field.as_deref().unwrap_or_default().is_empty();
        let wrong = if self.project().is_none() && self.group_ids.is_empty() {
            "projectID and groupIDs must not both be empty"
        } else if self.inherits() && !self.group_ids.is_empty() {
            "defining groupIDs and inheritFromGroups = true is not allowed"
        } else if missing(&self.token().key) {
            "accessToken.key cannot be empty"
        } else if missing(&self.token().name) {
            "accessToken.name cannot be empty"
        } else {
            return super::rest::check_ca(self.ca.provider.as_ref(), kind);
        };
        Err(ProviderError::new(ErrorKind::Misconfigured, wrong))
    }

    fn references(&self) -> Vec<Reference> {
        Reference::secret(self.token()).into_iter().chain(self.ca.provider.as_ref().map(Reference::ca)).collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(GitlabSession::open(self, cx).await?))
    }
}
