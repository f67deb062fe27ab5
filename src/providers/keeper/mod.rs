//! Keeper Secrets Manager: the records that are shared with one application.
//!
//! Everything that is sent and received is encrypted between the application and Keeper, and records once more with keys that Keeper does
//! not know. The vendor's crate brings an HTTP client of its own, which would go where manifests may not lead, so what it
//! speaks is spoken here.

mod crypto;
mod record;
mod session;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session, Taker};
use crate::api::refs::SecretKeySelector;
use crate::api::secret_store::{Capabilities, StoreKind};
use session::KeeperSession;

/// Where the block stands in a store.
const PATH: &str = "spec.provider.keepersecurity";

/// `spec.provider.keepersecurity`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keeper {
    /// Where the configuration of the application's client is: JSON, or base64 of it.
    pub auth_ref: SecretKeySelector,
    /// The folder that records are pushed to.
    #[serde(rename = "folderID")]
    pub folder_id: String,
    /// Whether a key that is the id of no record counts as a title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub get_by_title_fallback: Option<bool>,
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

#[async_trait]
impl Provider for Keeper {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "KeeperSecurity"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        for (field, value) in [("name", &self.auth_ref.name), ("key", &self.auth_ref.key)] {
            if value.as_deref().is_none_or(str::is_empty) {
                return Err(misconfigured(format!("{PATH}.authRef.{field} is missing")));
            }
        }
        if self.folder_id.is_empty() {
            return Err(misconfigured(format!("missing: {PATH}.folderID")));
        }
        Ok(())
    }

    fn references(&self) -> Vec<Reference> {
        Reference::secret(&self.auth_ref).into_iter().collect()
    }

    fn taker(&self) -> &'static dyn Taker {
        &record::KeeperTaker
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(KeeperSession::open(self, cx).await?))
    }
}
