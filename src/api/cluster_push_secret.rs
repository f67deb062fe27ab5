//! ClusterPushSecret: the same PushSecret in many namespaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PushSecretSpec;
use super::fan_out::{ChildMetadata, Provided};
use super::refs::NAME;

/// Has the same PushSecret in many namespaces.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPushSecret {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: ClusterPushSecretSpec,
    /// What was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ClusterPushSecretStatus>,
}
super::resource!(ClusterPushSecret, "ClusterPushSecret", "clusterpushsecrets", kube::core::ClusterResourceScope, "v1alpha1");

/// What a ClusterPushSecret wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["pushSecretSpec"]))]
pub struct ClusterPushSecretSpec {
    /// The `spec` of every PushSecret.
    #[serde(default)]
    pub push_secret_spec: PushSecretSpec,
    /// Name of every PushSecret. Left out: that of the ClusterPushSecret. An edit makes them anew under the new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub push_secret_name: Option<String>,
    /// Labels and annotations of every PushSecret. They have no others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_secret_metadata: Option<ChildMetadata>,
    /// Namespaces by label: those that one of these matches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,
    /// How often everything is looked at while nothing changes, as a Go duration; changes are followed at once. `0`: never. Left
    /// out: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_time: Option<String>,
}

/// What was last seen of a ClusterPushSecret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterPushSecretStatus {
    /// Name of the PushSecrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push_secret_name: Option<String>,
    /// The namespaces.
    #[serde(flatten)]
    pub seen: Provided,
}
