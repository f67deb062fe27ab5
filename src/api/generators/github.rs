//! GithubAccessToken: an access token of a GitHub App's installation.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::refs::SecretKeySelector;

/// What a GithubAccessToken generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GithubAccessTokenSpec {
    /// Address of GitHub's API. Left out: GitHub's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Id of the App.
    #[serde(rename = "appID")]
    pub app_id: String,
    /// Id of the installation.
    #[serde(rename = "installID")]
    pub install_id: String,
    /// Repositories that the token is for. Left out: all of the installation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// What the token may do. Left out: all that the App may.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub permissions: BTreeMap<String, String>,
    /// How to log in as the App.
    pub auth: GithubAuth,
}

/// How to log in as the App.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GithubAuth {
    /// With its private key.
    pub private_key: GithubPrivateKey,
}

/// The App's private key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GithubPrivateKey {
    /// Where the key is, as PEM.
    pub secret_ref: SecretKeySelector,
}
