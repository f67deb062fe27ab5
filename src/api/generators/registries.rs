//! Registries that take a ServiceAccount's token: QuayAccessToken and CloudsmithAccessToken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::refs::ServiceAccountSelector;

/// What a QuayAccessToken generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuayAccessTokenSpec {
    /// Host name of the registry. Left out: quay.io.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of the robot account: `organisation+robot`.
    pub robot_account: String,
    /// The ServiceAccount whose token is exchanged.
    pub service_account_ref: ServiceAccountSelector,
}

/// What a CloudsmithAccessToken generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CloudsmithAccessTokenSpec {
    /// Address of Cloudsmith's API. Left out: Cloudsmith's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Name of the organisation.
    pub org_slug: String,
    /// Name of the service account at Cloudsmith.
    pub service_slug: String,
    /// The ServiceAccount whose token is exchanged.
    pub service_account_ref: ServiceAccountSelector,
}
