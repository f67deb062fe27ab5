//! GCRAccessToken: an access token for Google's container registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::refs::{KEY, NAME, NAMESPACE, SecretKeySelector, ServiceAccountSelector};

/// What a GCRAccessToken generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GcrAccessTokenSpec {
    /// How to log in to Google Cloud.
    pub auth: GcrAuth,
    /// The project.
    #[serde(rename = "projectID")]
    pub project_id: String,
}

/// How to log in to Google Cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcrAuth {
    /// With a service account's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GcrSecretRef>,
    /// With a ServiceAccount's token, as GKE does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<GcrWorkloadIdentity>,
    /// With a token of another identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity_federation: Option<GcrWorkloadIdentityFederation>,
}

/// A service account's key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcrSecretRef {
    /// Where the key is, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key_secret_ref: Option<SecretKeySelector>,
}

/// A ServiceAccount of a GKE cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcrWorkloadIdentity {
    /// The ServiceAccount.
    pub service_account_ref: ServiceAccountSelector,
    /// Location of the cluster.
    pub cluster_location: String,
    /// Name of the cluster.
    pub cluster_name: String,
    /// Project of the cluster. Left out: what the operator's machine says of itself, else `projectID`.
    #[serde(rename = "clusterProjectID", default, skip_serializing_if = "Option::is_none")]
    pub cluster_project_id: Option<String>,
}

/// A token of another identity provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcrWorkloadIdentityFederation {
    /// Where the credential configuration is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cred_config: Option<GcrConfigMapRef>,
    /// The ServiceAccount whose token is exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
    /// AWS credentials that are exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_security_credentials: Option<GcrAwsCredentials>,
    /// Audience of the token: the pool's provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// Where an external account's token is fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_token_endpoint: Option<String>,
    /// Service account that is impersonated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^.*@.*\.iam\.gserviceaccount\.com$"))]
    pub gcp_service_account_email: Option<String>,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcrConfigMapRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// Key in the ConfigMap's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: String,
    /// Namespace of the ConfigMap. A generator reads the namespace of its consumer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
}

/// AWS credentials that are exchanged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcrAwsCredentials {
    /// The Secret that holds them.
    pub aws_credentials_secret_ref: GcrNamespacedRef,
    /// Region of AWS.
    #[schemars(length(min = 1, max = 50), regex(pattern = "^[a-z0-9-]+$"))]
    pub region: String,
}

/// An object by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcrNamespacedRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// Its namespace. A generator reads the namespace of its consumer only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE))]
    pub namespace: Option<String>,
}
