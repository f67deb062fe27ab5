//! SecretStore and ClusterSecretStore: a secret manager, and how to log in to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Condition;
use super::refs::NAMESPACE;
use crate::providers::ProviderSpec;

/// A secret manager for the ExternalSecrets of one namespace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SecretStore {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: StoreSpec,
    /// What was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StoreStatus>,
}
super::resource!(SecretStore, "SecretStore", "secretstores", kube::core::NamespaceResourceScope);

/// A secret manager for the ExternalSecrets of many namespaces.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClusterSecretStore {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: StoreSpec,
    /// What was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StoreStatus>,
}
super::resource!(ClusterSecretStore, "ClusterSecretStore", "clustersecretstores", kube::core::ClusterResourceScope);

/// Kind of a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum StoreKind {
    /// In the namespace of its users.
    #[default]
    SecretStore,
    /// For many namespaces.
    ClusterSecretStore,
}

impl StoreKind {
    /// The kind as it is written in manifests and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecretStore => "SecretStore",
            Self::ClusterSecretStore => "ClusterSecretStore",
        }
    }
}

impl std::fmt::Display for StoreKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a store wants: the same for both kinds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["provider"]))]
pub struct StoreSpec {
    /// Class of the controller that serves this store. Left out: every one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The secret manager: exactly one.
    #[serde(default)]
    pub provider: ProviderSpec,
    /// How often, and after how long, a failed call is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_settings: Option<RetrySettings>,
    /// How often the store is checked: seconds, or a Go duration. Left out or 0: the controller's `--store-requeue-interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<IntOrString>,
    /// Which namespaces may use a ClusterSecretStore: those that match one of these. None: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<StoreCondition>,
}

/// How often, and after how long, a failed call is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetrySettings {
    /// Most tries, the first one counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retries: Option<i32>,
    /// Time between tries, as a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interval: Option<String>,
}

/// A number or a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(i64),
    /// A text.
    String(String),
}

impl JsonSchema for IntOrString {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "IntOrString".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "x-kubernetes-int-or-string": true })
    }
}

/// A set of namespaces: those that match any part of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoreCondition {
    /// Namespaces by label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1, max = 63), regex(pattern = NAMESPACE)))]
    pub namespaces: Vec<String>,
    /// Namespaces by RE2 expression, not anchored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_regexes: Vec<String>,
}

/// What was last seen of a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StoreStatus {
    /// `ReadOnly`, `WriteOnly` or `ReadWrite`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Capabilities>,
    /// `Ready`, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What a provider can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Capabilities {
    /// Values can be read.
    ReadOnly,
    /// Values can be written.
    WriteOnly,
    /// Both.
    ReadWrite,
}

/// A store of either kind, as the rest of the code sees it.
#[derive(Clone, Debug, Default)]
pub struct AnyStore {
    /// Which kind it is.
    pub kind: StoreKind,
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: StoreSpec,
    /// What was last seen.
    pub status: Option<StoreStatus>,
}

impl From<SecretStore> for AnyStore {
    fn from(s: SecretStore) -> Self {
        Self { kind: StoreKind::SecretStore, metadata: s.metadata, spec: s.spec, status: s.status }
    }
}

impl From<ClusterSecretStore> for AnyStore {
    fn from(s: ClusterSecretStore) -> Self {
        Self { kind: StoreKind::ClusterSecretStore, metadata: s.metadata, spec: s.spec, status: s.status }
    }
}

impl AnyStore {
    /// The store's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    /// The store's namespace; `None` for a ClusterSecretStore.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.metadata.namespace.as_deref()
    }

    /// The `Ready` condition, if one was written.
    #[must_use]
    pub fn ready(&self) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|c| c.type_ == Condition::READY)
    }
}
