//! GitlabDeployToken: a deploy token of a GitLab project or group.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::refs::SecretKeySelector;
use crate::api::rules;

/// What a GitlabDeployToken generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::one_of_project_and_group()))]
pub struct GitlabDeployTokenSpec {
    /// Address of GitLab. Left out: gitlab.com.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Id or path of the project. Not together with `groupID`.
    #[serde(rename = "projectID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub project_id: Option<String>,
    /// Id or path of the group. Not together with `projectID`.
    #[serde(rename = "groupID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub group_id: Option<String>,
    /// Name of the token.
    #[schemars(length(min = 1))]
    pub name: String,
    /// What the token may do.
    #[schemars(length(min = 1))]
    pub scopes: Vec<GitlabScope>,
    /// User name that goes with the token. Left out: GitLab makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// When the token expires. Left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// How to log in to GitLab.
    pub auth: GitlabAuth,
}

/// What a deploy token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // the names say it
pub enum GitlabScope {
    ReadRepository,
    ReadRegistry,
    WriteRegistry,
    ReadPackageRegistry,
    WritePackageRegistry,
    ReadVirtualRegistry,
    WriteVirtualRegistry,
}

/// How to log in to GitLab.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GitlabAuth {
    /// With an access token.
    pub token: GitlabToken,
}

/// An access token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitlabToken {
    /// Where the token is.
    pub secret_ref: SecretKeySelector,
}
