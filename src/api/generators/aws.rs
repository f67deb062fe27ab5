//! Generators of AWS: ECRAuthorizationToken and STSSessionToken.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::providers::aws::Auth;

/// What an ECRAuthorizationToken generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EcrAuthorizationTokenSpec {
    /// Region of the registry: `eu-west-1`.
    pub region: String,
    /// How to log in. Left out: with the operator's own credentials, from its environment, EKS or EC2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// ARN of an IAM role that is assumed after the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// `private` for registries of the account, `public` for Amazon's public one. Left out: `private`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// Which registry a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcrScope {
    /// Those of the account.
    Private,
    /// Amazon's public one.
    Public,
}

impl EcrAuthorizationTokenSpec {
    /// Which registry the token is for. As in ESO, whatever is not `public` is private.
    #[must_use]
    pub fn scope(&self) -> EcrScope {
        if self.scope.as_deref() == Some("public") { EcrScope::Public } else { EcrScope::Private }
    }
}

/// What an STSSessionToken generator makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StsSessionTokenSpec {
    /// Region of STS: `eu-west-1`.
    pub region: String,
    /// How to log in. STS gives no session token to a ServiceAccount's role, so `jwt` is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// ARN of an IAM role that is assumed after the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// What is asked of STS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_parameters: Option<StsRequestParameters>,
}

/// What is asked of STS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StsRequestParameters {
    /// Seconds that the credentials hold. Left out: STS's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_duration: Option<i32>,
    /// Serial number or ARN of the user's MFA device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
    /// The device's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_code: Option<String>,
}
