//! Infisical: the secrets of one environment of a project.

mod auth;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rest::check_ca;
use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session};
use crate::api::refs::{Ca, SecretKeySelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::InfisicalSession;

/// Infisical's own service.
const HOST: &str = "https://app.infisical.com/api";

/// `spec.provider.infisical`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Infisical {
    /// How to log in: the first one that is set.
    pub auth: Auth,
    /// Which secrets are read.
    pub secrets_scope: SecretsScope,
    /// Address of the API. Left out: `https://app.infisical.com/api`.
    #[serde(rename = "hostAPI", default, skip_serializing_if = "Option::is_none")]
    pub host_api: Option<String>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

/// Which secrets are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretsScope {
    /// Slug of the project.
    pub project_slug: String,
    /// Slug of the environment.
    pub environment_slug: String,
    /// Slug of the organization to log in to, where the identity may use several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_slug: Option<String>,
    /// Folder that keys are in which name none. Left out: `/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_path: Option<String>,
    /// Whether `find` looks into the folders below, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recursive: Option<bool>,
    /// Whether `${NAME}` in a value is replaced by the secret of that name. Left out: yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expand_secret_references: Option<bool>,
}

/// How to log in: the first one that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// With a client id and a client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub universal_auth_credentials: Option<UniversalAuth>,
    /// As the machine of Azure that the operator runs on. ClusterSecretStores only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_auth_credentials: Option<AzureAuth>,
    /// As the machine of Google Cloud that the operator runs on. ClusterSecretStores only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp_id_token_auth_credentials: Option<IdentityAuth>,
    /// With a service account's key in the operator's files. Not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gcp_iam_auth_credentials: Option<GcpIamAuth>,
    /// With a token whose issuer Infisical trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt_auth_credentials: Option<JwtAuth>,
    /// With a user of LDAP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ldap_auth_credentials: Option<LdapAuth>,
    /// With an identity of Oracle Cloud. Not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci_auth_credentials: Option<OciAuth>,
    /// With the token of the operator's ServiceAccount, which Infisical reviews. ClusterSecretStores only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_auth_credentials: Option<KubernetesAuth>,
    /// As the AWS identity of the operator. ClusterSecretStores only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws_auth_credentials: Option<IdentityAuth>,
    /// With an access token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_auth_credentials: Option<TokenAuth>,
}

/// A client id and a client secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UniversalAuth {
    /// Where the client id is.
    pub client_id: SecretKeySelector,
    /// Where the client secret is.
    pub client_secret: SecretKeySelector,
}

/// A machine of Azure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureAuth {
    /// Where the id of the machine identity is.
    pub identity_id: SecretKeySelector,
    /// Where the resource is that the token is for. Left out: Azure's management API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<SecretKeySelector>,
}

/// A machine identity that needs nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityAuth {
    /// Where the id of the machine identity is.
    pub identity_id: SecretKeySelector,
}

/// A service account of Google Cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GcpIamAuth {
    /// Where the id of the machine identity is.
    pub identity_id: SecretKeySelector,
    /// Where the path of the key's file is.
    pub service_account_key_file_path: SecretKeySelector,
}

/// A token whose issuer Infisical trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuth {
    /// Where the id of the machine identity is.
    pub identity_id: SecretKeySelector,
    /// Where the token is.
    pub jwt: SecretKeySelector,
}

/// A user of LDAP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LdapAuth {
    /// Where the id of the machine identity is.
    pub identity_id: SecretKeySelector,
    /// Where the password is.
    pub ldap_password: SecretKeySelector,
    /// Where the user's name is.
    pub ldap_username: SecretKeySelector,
}

/// An identity of Oracle Cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OciAuth {
    /// Where the id of the machine identity is.
    pub identity_id: SecretKeySelector,
    /// Where the private key is.
    pub private_key: SecretKeySelector,
    /// Where the private key's passphrase is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_passphrase: Option<SecretKeySelector>,
    /// Where the key's fingerprint is.
    pub fingerprint: SecretKeySelector,
    /// Where the user's OCID is.
    pub user_id: SecretKeySelector,
    /// Where the tenancy's OCID is.
    pub tenancy_id: SecretKeySelector,
    /// Where the region is.
    pub region: SecretKeySelector,
}

/// A token of the operator's ServiceAccount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesAuth {
    /// Where the id of the machine identity is.
    pub identity_id: SecretKeySelector,
    /// Where the path of the token's file is, below `/var/run/secrets/`. Left out: the token that every Pod has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_token_path: Option<SecretKeySelector>,
}

/// An access token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// Where the token is.
    pub access_token: SecretKeySelector,
}

impl Infisical {
    /// The address of the API, which users give with and without its last step.
    fn base(&self) -> String {
        let host = self.host_api.as_deref().map(str::trim).filter(|host| !host.is_empty()).unwrap_or(HOST);
        let host = host.trim_end_matches('/');
        format!("{}/api", host.strip_suffix("/api").unwrap_or(host))
    }
}

impl SecretsScope {
    /// The folder of a key, and its name in there: a key without a slash is in the scope's folder, one that begins with a slash
    /// says where from the top, any other one where from the scope's folder.
    fn place<'k>(&self, key: &'k str) -> (String, &'k str) {
        let scope = self.secrets_path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        match key.rsplit_once('/') {
            None => (clean(scope), key),
            Some((folder, name)) if key.starts_with('/') => (clean(folder), name),
            Some((folder, name)) => (clean(&format!("{scope}/{folder}")), name),
        }
    }
}

/// A folder's path as Infisical has it: `/a/b`.
fn clean(path: &str) -> String {
    let steps: Vec<&str> = path.split('/').filter(|step| !step.is_empty() && *step != ".").collect();
    format!("/{}", steps.join("/"))
}

#[async_trait]
impl Provider for Infisical {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Infisical"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        let scope = &self.secrets_scope;
        if scope.project_slug.is_empty() || scope.environment_slug.is_empty() {
            return Err(misconfigured("secretsScope.projectSlug and secretsScope.environmentSlug cannot be empty"));
        }
        check_ca(self.ca.provider.as_ref(), kind)?;
        self.auth.method().map(drop)
    }

    fn references(&self) -> Vec<Reference> {
        let secrets = self.auth.method().map(|method| method.selectors()).unwrap_or_default();
        let secrets = secrets.into_iter().filter_map(|(_, selector)| Reference::secret(selector));
        secrets.chain(self.ca.provider.as_ref().map(Reference::ca)).collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(InfisicalSession::open(self, cx).await?))
    }
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
