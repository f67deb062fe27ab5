//! BeyondtrustWorkloadCredentialsDynamicSecret: accepted, and told to be not served.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::refs::{Ca, SecretKeySelector};
use crate::api::secret_store::RetrySettings;

/// What a BeyondtrustWorkloadCredentialsDynamicSecret generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BeyondtrustWorkloadCredentialsSpec {
    /// Class of the controller that serves this generator. Left out: every one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The server, and how to log in to it.
    pub provider: BeyondtrustProvider,
    /// How often, and after how long, a failed call is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_settings: Option<RetrySettings>,
}

/// The server, and how to log in to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BeyondtrustProvider {
    /// How to log in.
    pub auth: BeyondtrustAuth,
    /// The server.
    pub server: BeyondtrustServer,
    /// Folder of the dynamic secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder_path: Option<String>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

/// How to log in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BeyondtrustAuth {
    /// With an API key.
    pub apikey: BeyondtrustApiKey,
}

/// An API key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BeyondtrustApiKey {
    /// Where the key is.
    pub token: SecretKeySelector,
}

/// The server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BeyondtrustServer {
    /// URL of the server's API.
    pub api_url: String,
    /// Id of the site.
    pub site_id: String,
}
