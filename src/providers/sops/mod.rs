//! SOPS: files that were encrypted with age keys, in a ConfigMap, a Secret, or on a server. For teams that keep their secrets in Git,
//! and no manager beside it.
//!
//! ESO has no such provider. What an ExternalSecret names in it are keys of the document, so that it stays as it is when the
//! store becomes one of a secret manager.

mod age;
mod cipher;
mod decrypt;
mod document;
mod format;
mod ini;
mod oci;
mod session;
mod source;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
mod yaml;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rest::check_ca;
use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, ReferenceKind, Session};
use crate::api::refs::{Ca, CaProvider, KEY, NAME, NAMESPACE, SecretKeySelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use age::Identities;
pub use format::Format;
use session::SopsSession;
use source::Source;

/// Where the block stands in a store.
const PATH: &str = "spec.provider.sops";

/// `spec.provider.sops`, which only keyferry has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sops {
    /// Where the encrypted file is: exactly one place.
    pub source: SopsSource,
    /// Format of the file. Left out: told by its name, as sops does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<Format>,
    /// The age identities that may open the file: `AGE-SECRET-KEY-1…`, one on each line.
    #[serde(default)]
    pub age_key_secret_ref: SecretKeySelector,
}

/// Where a file is: exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct SopsSource {
    /// A key of a ConfigMap. A change of it is taken at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// A key of a Secret. A change of it is taken at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretKeySelector>,
    /// A URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpFile>,
    /// An artifact in a registry of containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciFile>,
}

/// The key of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigMapKey {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// Key in its data.
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: String,
    /// Namespace of the ConfigMap. Only a ClusterSecretStore may set it; left out there, the ExternalSecret's namespace counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
}

/// A file that a server gives out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpFile {
    /// Its address.
    pub url: String,
    /// Headers of the request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

/// A header, whose value is kept in a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// Its name, such as `Authorization`.
    pub name: String,
    /// Its value.
    pub secret_ref: SecretKeySelector,
}

/// A file in an artifact of an OCI registry, as `oras push` puts it there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciFile {
    /// The artifact: `registry.example/team/secrets:main`, or with `@sha256:…` in place of the tag.
    pub reference: String,
    /// Title of the file's layer. Left out: the artifact has one layer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Credentials of the registry, as a Docker configuration. The key left out: `.dockerconfigjson`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<SecretKeySelector>,
    /// Whether the registry speaks HTTP without TLS. Default: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plain_http: Option<bool>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

impl Sops {
    fn ca_provider(&self) -> Option<&CaProvider> {
        let of_http = self.source.http.as_ref().and_then(|http| http.ca.provider.as_ref());
        of_http.or_else(|| self.source.oci.as_ref().and_then(|oci| oci.ca.provider.as_ref()))
    }

    /// All Secrets that the store names.
    fn secrets(&self) -> impl Iterator<Item = &SecretKeySelector> {
        let SopsSource { secret, http, oci, .. } = &self.source;
        let headers = http.iter().flat_map(|http| http.headers.iter().map(|header| &header.secret_ref));
        let pull = oci.iter().filter_map(|oci| oci.pull_secret_ref.as_ref());
        std::iter::once(&self.age_key_secret_ref).chain(secret).chain(headers).chain(pull)
    }
}

#[async_trait]
impl Provider for Sops {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadOnly
    }

    fn metric_name(&self) -> &'static str {
        "SOPS"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        let misconfigured = |text: String| Err(ProviderError::new(ErrorKind::Misconfigured, text));
        let SopsSource { config_map, secret, http, oci } = &self.source;
        if [config_map.is_some(), secret.is_some(), http.is_some(), oci.is_some()].iter().filter(|is| **is).count() != 1 {
            return misconfigured(format!("{PATH}.source must have exactly one of configMap, secret, http and oci"));
        }
        let empty = |text: Option<&String>| text.is_none_or(String::is_empty);
        for (field, selector) in [("ageKeySecretRef", Some(&self.age_key_secret_ref)), ("source.secret", secret.as_ref())] {
            let Some(selector) = selector else { continue };
            if empty(selector.name.as_ref()) || empty(selector.key.as_ref()) {
                return misconfigured(format!("{PATH}.{field} needs a name and a key"));
            }
        }
        if let Some(oci) = oci {
            oci::Reference::parse(&oci.reference)?;
        }
        check_ca(self.ca_provider(), kind)
    }

    fn references(&self) -> Vec<Reference> {
        let config_map = self.source.config_map.iter().map(|map| Reference {
            kind: ReferenceKind::ConfigMap,
            namespace: map.namespace.clone(),
            name: map.name.clone(),
        });
        let ca = self.ca_provider().map(Reference::ca);
        self.secrets().filter_map(Reference::secret).chain(config_map).chain(ca).collect()
    }

    fn holds_values(&self) -> bool {
        self.source.config_map.is_some() || self.source.secret.is_some()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        let what = format!("{PATH}.ageKeySecretRef");
        let text = cx.secret(&self.age_key_secret_ref, &what).await?;
        let keys = Identities::parse(&text)
            .map_err(|reason| ProviderError::new(ErrorKind::Misconfigured, format!("{what}: {reason}")))?;
        let source = Source::open(&self.source, cx).await?;
        Ok(Arc::new(SopsSession::open(source, self.format, keys)?))
    }
}
