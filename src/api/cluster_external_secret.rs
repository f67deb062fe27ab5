//! ClusterExternalSecret: the same ExternalSecret in many namespaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ExternalSecretSpec;
use super::fan_out::{ChildMetadata, Provided};
use super::refs::{NAME, NAMESPACE};

/// Has the same ExternalSecret in many namespaces.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterExternalSecret {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: ClusterExternalSecretSpec,
    /// What was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ClusterExternalSecretStatus>,
}
super::resource!(ClusterExternalSecret, "ClusterExternalSecret", "clusterexternalsecrets", kube::core::ClusterResourceScope);

/// What a ClusterExternalSecret wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["externalSecretSpec"]))]
pub struct ClusterExternalSecretSpec {
    /// The `spec` of every ExternalSecret.
    #[serde(default)]
    pub external_secret_spec: ExternalSecretSpec,
    /// Name of every ExternalSecret. Left out: that of the ClusterExternalSecret. An edit makes them anew under the new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub external_secret_name: Option<String>,
    /// Labels and annotations of every ExternalSecret. They have no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_secret_metadata: Option<ChildMetadata>,
    /// Namespaces by label. Write it as one of `namespaceSelectors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Namespaces by label: those that one of these matches, besides those of `namespaces`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,
    /// Namespaces by name, besides those that a selector matches. A selector on `kubernetes.io/metadata.name` does the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(inner(length(min = 1, max = 63), regex(pattern = NAMESPACE)))]
    pub namespaces: Vec<String>,
    /// How often everything is looked at while nothing changes, as a Go duration; changes are followed at once. `0`: never. Left
    /// out: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_time: Option<String>,
}

/// What was last seen of a ClusterExternalSecret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterExternalSecretStatus {
    /// Name of the ExternalSecrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_secret_name: Option<String>,
    /// The namespaces.
    #[serde(flatten)]
    pub seen: Provided,
}
