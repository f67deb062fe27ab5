//! VaultDynamicSecret: credentials by a path of Vault.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AnyObject;
use crate::api::secret_store::RetrySettings;
use crate::providers::vault::Vault;

/// What a VaultDynamicSecret generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultDynamicSecretSpec {
    /// Class of the controller that serves this generator. Left out: every one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// How Vault is asked: `GET` or nothing reads, `LIST` lists, `DELETE` deletes, all else writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// What is written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<AnyObject>")]
    pub parameters: Option<Value>,
    /// Query of a read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub get_parameters: BTreeMap<String, Vec<String>>,
    /// Which part of the answer becomes the keys. Left out: `Data`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_type: Option<VaultResultType>,
    /// How often, and after how long, a failed call is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_settings: Option<RetrySettings>,
    /// The server, and how to log in to it: as `spec.provider.vault` of a store.
    pub provider: Vault,
    /// Path in Vault.
    pub path: String,
    /// Whether an answer without data is fine. Left out: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_empty_response: Option<bool>,
}

/// Which part of Vault's answer becomes the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VaultResultType {
    /// Its data.
    #[default]
    Data,
    /// Its login.
    Auth,
    /// All of it.
    Raw,
}
