//! Generators that need nobody else: Password, UUID, Fake, SSHKey, MFA.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::refs::SecretKeySelector;

/// What a Password generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordSpec {
    /// Characters of the password. Left out: 24.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<i64>,
    /// How many of them are digits. Left out: a quarter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digits: Option<i64>,
    /// How many of them are symbols. Left out: a quarter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbols: Option<i64>,
    /// The symbols to take from. Left out: those of a US keyboard, without space, quote and `'`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol_characters: Option<String>,
    /// No upper-case letters. Left out: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_upper: Option<bool>,
    /// Whether a character may come twice. Left out: false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_repeat: Option<bool>,
    /// How the password is written. Left out: `raw`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<PasswordEncoding>,
    /// Keys that get a password each. Left out: `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub secret_keys: Option<Vec<String>>,
}

/// How a password is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PasswordEncoding {
    /// In base64.
    Base64,
    /// In base64url.
    Base64Url,
    /// In base32.
    Base32,
    /// In hexadecimal digits.
    Hex,
    /// As it is.
    #[default]
    Raw,
}

/// What a UUID generator makes: there is nothing to say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UuidSpec {}

/// What a Fake generator gives.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FakeSpec {
    /// Class of the controller that serves this generator. Left out: every one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<String>,
    /// The values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, String>,
}

/// Without the values: they become those of a Secret.
impl std::fmt::Debug for FakeSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> = self.data.keys().collect();
        f.debug_struct("FakeSpec").field("controller", &self.controller).field("keys", &keys).finish()
    }
}

/// What an SSHKey generator makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SshKeySpec {
    /// Algorithm of the key. Left out: `rsa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<SshKeyType>,
    /// Bits of the key. Left out: 2048 for `rsa`, 256 for `ecdsa` (which also has 384 and 521); `ed25519` has no choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 256, max = 8192))]
    pub key_size: Option<i64>,
    /// Comment of the public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Algorithm of an SSH key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SshKeyType {
    /// RSA.
    #[default]
    Rsa,
    /// ECDSA on a NIST curve.
    Ecdsa,
    /// Ed25519.
    Ed25519,
}

/// What an MFA generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MfaSpec {
    /// Where the shared secret is, in base32.
    pub secret: SecretKeySelector,
    /// Digits of the token. Left out: 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<i64>,
    /// Seconds that a token holds. Left out: 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_period: Option<i64>,
    /// Hash of the token: `sha1`, `sha256` or `sha512`. Left out: `sha1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<String>,
    /// The moment that the token is for. Left out: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Time>,
}
