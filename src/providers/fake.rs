//! Fake: values written into the store itself. For tests and for trying things out.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CallCx, ConnectCx, Fetched, Provider, ProviderError, Reference, Session, Validation, Want};
use crate::api::secret_store::{Capabilities, StoreKind};

/// `spec.provider.fake`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Fake {
    /// The values.
    pub data: Vec<FakeData>,
    /// What a check of the store comes to: 0 ready, 1 unknown, 2 error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation_result: Option<i32>,
}

/// A value.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FakeData {
    /// Its key.
    pub key: String,
    /// The value itself.
    pub value: String,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
}

#[async_trait]
impl Provider for Fake {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }
    fn metric_name(&self) -> &'static str {
        "Fake"
    }
    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        Ok(())
    }
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }
    async fn connect(&self, _: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(FakeSession { config: self.clone() }))
    }
}

struct FakeSession {
    config: Fake,
}

#[async_trait]
impl Session for FakeSession {
    async fn get(&self, wants: &[Want], _: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        wants
            .iter()
            .map(|want| {
                let found = self.config.data.iter().find(|d| d.key == want.key);
                found
                    .map(|d| Fetched { bytes: d.value.as_str().into(), ..Fetched::default() })
                    .ok_or_else(|| ProviderError::not_found(&want.key))
            })
            .collect()
    }

    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        Ok(Validation::Ready)
    }
}
