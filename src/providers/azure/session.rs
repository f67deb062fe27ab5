//! Key Vault's objects: read and searched.

use async_trait::async_trait;
use futures::future::join_all;
use serde::Deserialize;

use super::client::{Client, Request};
use super::objects::{Bundle, Kind, Name, Objects};
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{
    CallCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Taker, Validation, Want,
};
use crate::render::Entries;
use crate::secret_bytes::SecretBytes;

/// Most reads at the same time of a search.
const PARALLEL: usize = 8;

/// A logged-in client of Key Vault.
pub(super) struct AzureSession {
    pub(super) client: Client,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    value: Option<Vec<Bundle>>,
    next_link: Option<String>,
}

impl AzureSession {
    /// An object, or a version of it.
    pub(super) async fn bundle(&self, key: &str, name: &Name, version: &str, cx: &CallCx) -> Result<Bundle, ProviderError> {
        let action = match name.kind {
            Kind::Secret => "GetSecret",
            Kind::Key => "GetKey",
            Kind::Certificate => "GetCertificate",
        };
        self.client.call(&Request::get(action, name.path(version)?, key), cx).await
    }

    async fn read(&self, want: &Want, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let name = Name::of(&want.key)?;
        let bundle = self.bundle(&want.key, &name, &want.version, cx).await?;
        let version = bundle.version();
        let bytes = match want.metadata {
            MetadataPolicy::None => bundle.into_value(&want.key, name.kind)?,
            MetadataPolicy::Fetch => bundle.metadata(),
        };
        Ok(Fetched { bytes, version, request_id: None })
    }

    /// Names of all enabled secrets that match.
    async fn list(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<String>, ProviderError> {
        let name = query.matcher()?;
        let (mut found, mut path) = (Vec::new(), "secrets".to_owned());
        loop {
            let page: Page = self.client.call(&Request::get("GetSecrets", path, ""), cx).await?;
            for secret in page.value.unwrap_or_default() {
                let tags = query.tags.iter().all(|(key, value)| secret.tags().get(key) == Some(value));
                let short = secret.id.as_deref().and_then(|id| id.rsplit('/').next()).unwrap_or_default();
                if tags && secret.attributes.enabled == Some(true) && name.is_match(short) {
                    found.push(short.to_owned());
                }
            }
            let Some(link) = page.next_link.filter(|link| !link.is_empty()) else { return Ok(found) };
            path = self.client.page(&link).ok_or_else(|| {
                ProviderError::new(ErrorKind::Malformed, "GetSecrets: the next page is not one of the vault's own")
            })?;
        }
    }
}

#[async_trait]
impl Session for AzureSession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        join_all(wants.iter().map(|want| self.read(want, cx))).await
    }

    /// A path means nothing to a vault, and is not heeded, as in ESO.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        if query.name.is_empty() && query.tags.is_empty() && !query.path.is_empty() {
            let text = "find.path means nothing to Key Vault: use find.name or find.tags";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let names = self.list(query, cx).await?;
        Found::read_all(self, names, PARALLEL, cx).await
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        self.push_as(push, cx).await
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        self.delete_as(place, cx).await
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        self.exists_as(place, cx).await
    }

    /// As ESO: the login is enough; which secrets it may read shows when one is read.
    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        self.client.log_in().await.map(|()| Validation::Ready)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        Objects.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        Objects.extract(want, value, property)
    }
}
