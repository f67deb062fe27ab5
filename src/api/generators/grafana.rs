//! Grafana: a token of a Grafana service account.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LocalSecretKey;

/// What a Grafana generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrafanaSpec {
    /// Address of Grafana.
    pub url: String,
    /// How to log in to Grafana.
    pub auth: GrafanaAuth,
    /// The service account that the token is of.
    pub service_account: GrafanaServiceAccount,
}

/// How to log in to Grafana.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GrafanaAuth {
    /// With a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<LocalSecretKey>,
    /// With a user's name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<GrafanaBasicAuth>,
}

/// A user's name and password.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GrafanaBasicAuth {
    /// The user's name.
    pub username: String,
    /// Where the password is.
    pub password: LocalSecretKey,
}

/// A service account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GrafanaServiceAccount {
    /// Its name; it is made where it is not there.
    pub name: String,
    /// Its role: `Viewer`, `Editor`, `Admin`.
    pub role: String,
    /// Seconds that the token holds. Left out: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub seconds_to_live: Option<i64>,
}
