//! `spec.provider.vault`: its fields, as ESO has them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::generators::GcrSecretRef;
use crate::api::refs::{Ca, SecretKeySelector, ServiceAccountSelector};
use crate::providers::aws::{self, AccessKeyRef};
use crate::providers::gcp;

/// A Vault server, and how to log in to it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vault {
    /// Address of the server: `https://vault.example.com:8200`.
    pub server: String,
    /// How to log in. Left out: as nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Where the key-value engine is mounted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Version of the key-value engine. Left out: `v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Namespace of Vault Enterprise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
    /// Client certificate, where the server asks for one. It is no login: that is `auth.cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// Headers of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Whether a read sees what was written before it, by the states of the cluster that Vault Enterprise tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_your_writes: Option<bool>,
    /// Whether such a read goes on to the leader instead of failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward_inconsistent: Option<bool>,
    /// For an engine that asks for the version that a push replaces. It is stated anyway. Not with version `v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_and_set: Option<CheckAndSet>,
}

/// Version of the key-value engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// Without versions.
    V1,
    /// With versions.
    #[default]
    V2,
}

/// Whether a push states the version that it replaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CheckAndSet {
    /// Whether it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required: Option<bool>,
}

/// A client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientTls {
    /// The certificate, as PEM. Its key left out: `tls.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_secret_ref: Option<SecretKeySelector>,
    /// Its private key, as PEM. Its key left out: `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_secret_ref: Option<SecretKeySelector>,
}

/// How to log in: the first one that is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// Namespace of Vault Enterprise to log in to, where it is another than that of the secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// With a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeySelector>,
    /// With an AppRole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRole>,
    /// With a ServiceAccount's token that Vault reviews. Without references, the operator's own, which only a ClusterSecretStore
    /// may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesAuth>,
    /// With a user of LDAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ldap: Option<PasswordAuth>,
    /// With a token whose issuer Vault trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,
    /// With a client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<CertAuth>,
    /// With an identity of AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<IamAuth>,
    /// With a user of Vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_pass: Option<PasswordAuth>,
    /// With an identity of Google Cloud.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp: Option<GcpAuth>,
}

impl Auth {
    /// Whether no way to log in is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { namespace: self.namespace.clone(), ..Self::default() }
    }
}

/// An AppRole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppRole {
    /// Where the method is mounted. Left out: `approle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The role's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_id: Option<String>,
    /// Where the role's id is. Not heeded beside `roleId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role_ref: Option<SecretKeySelector>,
    /// Where the role's secret is.
    pub secret_ref: SecretKeySelector,
}

/// A ServiceAccount's token that Vault reviews.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesAuth {
    /// Where the method is mounted. Left out: `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_path: Option<String>,
    /// The ServiceAccount whose token is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
    /// Where a token is. Its key left out: `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
    /// Role in Vault.
    pub role: String,
}

/// A user and a password.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordAuth {
    /// Where the method is mounted. Left out: `ldap` or `userpass`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The user's name.
    pub username: String,
    /// Where the password is.
    #[serde(default, skip_serializing_if = "SecretKeySelector::is_unset")]
    pub secret_ref: SecretKeySelector,
}

/// A token whose issuer Vault trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuth {
    /// Where the method is mounted. Left out: `jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Role in Vault. Left out: the method's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Where a token is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
    /// A ServiceAccount whose token is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_service_account_token: Option<ServiceAccountToken>,
}

/// A ServiceAccount whose token is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountToken {
    /// The ServiceAccount.
    pub service_account_ref: ServiceAccountSelector,
    /// Audiences of the token, besides those of the reference. Left out: `vault`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audiences: Option<Vec<String>>,
    /// Seconds that the token holds. Left out: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_seconds: Option<i64>,
}

/// A client certificate as login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertAuth {
    /// Where the method is mounted. Left out: `cert`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The certificate, as PEM.
    #[serde(default, skip_serializing_if = "SecretKeySelector::is_unset")]
    pub client_cert: SecretKeySelector,
    /// Its private key, as PEM.
    #[serde(default, skip_serializing_if = "SecretKeySelector::is_unset")]
    pub secret_ref: SecretKeySelector,
    /// Name of the role at Vault. Left out: Vault finds one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault_role: Option<String>,
}

/// An identity of AWS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IamAuth {
    /// Where the method is mounted. Left out: `aws`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Region of AWS. Left out: `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// ARN of an IAM role that is assumed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Role in Vault.
    pub vault_role: String,
    /// External id that the role's trust policy asks for.
    #[serde(rename = "externalID", default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Value of the header `X-Vault-AWS-IAM-Server-ID`, where Vault asks for it.
    #[serde(rename = "vaultAwsIamServerID", default, skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
    /// With an access key. Left out, and no `jwt`: as the operator, which only a ClusterSecretStore may ask for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<AccessKeyRef>,
    /// With a ServiceAccount's token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<aws::JwtAuth>,
}

/// An identity of Google Cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpAuth {
    /// Where the method is mounted. Left out: `gcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Role in Vault.
    pub role: String,
    /// The project.
    #[serde(rename = "projectID", default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Region or zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// With a service account's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GcrSecretRef>,
    /// With a ServiceAccount's token, as GKE does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<gcp::WorkloadIdentity>,
    /// As the operator, whatever is named here: ESO reads it so. Only a ClusterSecretStore may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
}
