//! Aws.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session};
use crate::api::secret_store::{Capabilities, StoreKind};

/// `spec.provider.aws`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Aws {}

#[async_trait]
impl Provider for Aws {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }
    fn metric_name(&self) -> &'static str {
        "Aws"
    }
    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        Ok(())
    }
    fn references(&self) -> Vec<Reference> {
        Vec::new()
    }
    async fn connect(&self, _: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Err(ProviderError::new(ErrorKind::Unsupported, "being built"))
    }
}
