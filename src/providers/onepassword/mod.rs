//! 1Password, by a Connect server: fields and files of items, looked for in vaults one after the other.

mod item;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session, Taker};
use crate::api::refs::SecretKeySelector;
use crate::api::secret_store::{Capabilities, StoreKind};
use item::{FILE, ItemTaker};
use session::OnePasswordSession;

/// A 1Password Connect server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OnePassword {
    /// How to log in.
    pub auth: Auth,
    /// Address of the Connect server.
    pub connect_host: String,
    /// The vaults, by name or id, and in which order they are searched: each has a number of its own.
    pub vaults: BTreeMap<String, i32>,
}

/// How to log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// With a token.
    pub secret_ref: SecretRef,
}

/// A token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Connect server's token.
    pub connect_token_secret_ref: SecretKeySelector,
}

impl OnePassword {
    fn token(&self) -> &SecretKeySelector {
        &self.auth.secret_ref.connect_token_secret_ref
    }

    /// The vaults in their order.
    fn in_order(&self) -> Vec<&str> {
        let mut all: Vec<_> = self.vaults.iter().map(|(name, number)| (*number, name.as_str())).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, name)| name).collect()
    }
}

#[async_trait]
impl Provider for OnePassword {
    fn taker(&self) -> &'static dyn Taker {
        &ItemTaker
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "OnePassword"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        let token = "spec.provider.onepassword.auth.secretRef.connectTokenSecretRef";
        let missing = |field: &Option<String>| field.as_deref().unwrap_or_default().is_empty();
        let numbers: BTreeSet<i32> = self.vaults.values().copied().collect();
        let wrong = if missing(&self.token().name) {
            format!("missing: {token}.name")
        } else if missing(&self.token().key) {
            format!("missing: {token}.key")
        } else if self.vaults.is_empty() {
            "must be at least one vault: spec.provider.onepassword.vaults".to_owned()
        } else if numbers.len() != self.vaults.len() {
            "vault order numbers must be unique".to_owned()
        } else {
            return Ok(());
        };
        let text = format!("received invalid 1Password SecretStore resource: {wrong}");
        Err(ProviderError::new(ErrorKind::Misconfigured, text))
    }

    fn references(&self) -> Vec<Reference> {
        Reference::secret(self.token()).into_iter().collect()
    }

    /// The content of a file is a call of its own.
    fn asks_for(&self, property: &str) -> bool {
        property.starts_with(FILE)
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(OnePasswordSession::open(self, cx).await?))
    }
}
