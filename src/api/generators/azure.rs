//! ACRAccessToken: a login for an Azure Container Registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::refs::{SecretKeySelector, ServiceAccountSelector};

/// What an ACRAccessToken generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcrAccessTokenSpec {
    /// How to log in to Entra ID.
    pub auth: AcrAuth,
    /// Tenant of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Host name of the registry.
    pub registry: String,
    /// What the token is for: `repository:app:pull`. Left out: a refresh token for all that the login may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Cloud of the registry. Left out: `PublicCloud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_type: Option<AzureEnvironment>,
}

/// A cloud of Azure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[allow(missing_docs)] // the names say it
pub enum AzureEnvironment {
    #[default]
    PublicCloud,
    USGovernmentCloud,
    ChinaCloud,
    GermanCloud,
    AzureStackCloud,
}

/// How to log in to Entra ID.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcrAuth {
    /// As an application with a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_principal: Option<AcrServicePrincipal>,
    /// With an identity of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<AcrManagedIdentity>,
    /// With a ServiceAccount's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<AcrWorkloadIdentity>,
}

/// An application with a secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcrServicePrincipal {
    /// Where its id and secret are.
    pub secret_ref: AcrServicePrincipalRef,
}

/// Where an application's id and secret are.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcrServicePrincipalRef {
    /// Where the id is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<SecretKeySelector>,
    /// Where the secret is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretKeySelector>,
}

/// An identity of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcrManagedIdentity {
    /// Client id of the identity, where the machine has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
}

/// A ServiceAccount that Entra ID trusts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcrWorkloadIdentity {
    /// The ServiceAccount. Left out: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
}
