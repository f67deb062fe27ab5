//! Scaleway Secret Manager: the secrets of one project in one region.

mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session, Taker, Want};
use crate::api::refs::ValueOrSecret;
use crate::api::secret_store::{Capabilities, StoreKind};
use crate::render::path;
use crate::secret_bytes::SecretBytes;
use session::ScalewaySession;

/// Where the block stands in a store.
const PATH: &str = "spec.provider.scaleway";
/// Scaleway's own service.
const API: &str = "https://api.scaleway.com";

/// `spec.provider.scaleway`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scaleway {
    /// Address of the API. Left out: `https://api.scaleway.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Region of the secrets: `fr-par`.
    pub region: String,
    /// Id of the project.
    pub project_id: String,
    /// Access key of the API key.
    pub access_key: ValueOrSecret,
    /// Secret key of the API key.
    pub secret_key: ValueOrSecret,
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

/// `fr-par`
fn is_region(text: &str) -> bool {
    let letters = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_lowercase());
    text.split_once('-').is_some_and(|(country, city)| letters(country, 2) && letters(city, 3))
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[async_trait]
impl Provider for Scaleway {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Scaleway/SecretManager"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        if !is_region(&self.region) {
            return Err(misconfigured(format!("invalid region: {:?}", self.region)));
        }
        if !is_uuid(&self.project_id) {
            return Err(misconfigured(format!("invalid project id: {:?}", self.project_id)));
        }
        self.access_key.check("accessKey")?;
        self.secret_key.check("secretKey")
    }

    fn references(&self) -> Vec<Reference> {
        let parts = [&self.access_key, &self.secret_key].into_iter();
        parts.filter_map(|part| part.secret_ref.as_ref()).filter_map(Reference::secret).collect()
    }

    fn taker(&self) -> &'static dyn Taker {
        &ScalewayTaker
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(ScalewaySession::open(self, cx).await?))
    }
}

/// Takes values apart: a property is a path before it is a key with dots.
struct ScalewayTaker;

impl Taker for ScalewayTaker {
    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        let found = path::get(value.expose(), property).map(path::Value::into_secret);
        found
            .or_else(|| path::escaped_then_path(value, property))
            .ok_or_else(|| ProviderError::missing_property(&want.key, property))
    }
}
