//! References from one object to another, and the names they may carry.

use k8s_openapi::ByteString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The key of a Secret.
///
/// `namespace` is heeded in a ClusterSecretStore only; a SecretStore reads its own namespace, always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeySelector {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: Option<String>,
    /// Namespace of the Secret. Only a ClusterSecretStore may set it; left out there, the ExternalSecret's namespace counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
    /// Key in the Secret's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: Option<String>,
}

impl SecretKeySelector {
    /// Whether it names nothing.
    #[must_use]
    pub fn is_unset(&self) -> bool {
        *self == Self::default()
    }
}

/// A text that stands in the object itself or in a Secret: one of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValueOrSecret {
    /// The text itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Where the text is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
}

/// A ServiceAccount whose token authenticates to the provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceAccountSelector {
    /// Name of the ServiceAccount.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// Namespace of the ServiceAccount. Only a ClusterSecretStore may set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
    /// Audiences of the token, besides those that the provider needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
}

/// Where the certificate authority of a server is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CaProvider {
    /// Kind of the object that holds the certificate.
    #[serde(rename = "type")]
    pub type_: CaProviderType,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// Key in the object's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: Option<String>,
    /// Namespace of the object. Required in a ClusterSecretStore, not allowed in a SecretStore.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
}

/// Whom to trust as the certificate authority of a server. Left out: the system's own roots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Ca {
    /// Certificate authority of the server, as base64 of PEM. Left out, and no `caProvider`: the roots of the system.
    #[serde(rename = "caBundle", default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "byte"))]
    pub bundle: Option<ByteString>,
    /// Where the certificate authority of the server is kept.
    #[serde(rename = "caProvider", default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<CaProvider>,
}

impl Ca {
    /// What `caBundle` holds; `None` where that is nothing.
    #[must_use]
    pub fn bundle(&self) -> Option<&[u8]> {
        self.bundle.as_ref().map(|bytes| bytes.0.as_slice()).filter(|bytes| !bytes.is_empty())
    }
}

/// Kind of the object that holds a certificate authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CaProviderType {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
}

/// Pattern of an object name: RFC 1123 subdomain.
pub const NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Pattern of a namespace name: RFC 1123 label.
pub const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Pattern of a key in a Secret or ConfigMap.
pub const KEY: &str = "^[-._a-zA-Z0-9]+$";
