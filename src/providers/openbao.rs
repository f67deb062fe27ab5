//! OpenBao: speaks the protocol of Vault, from which it came. Here is its block; all else is Vault's, but for keys that begin with the
//! mount's name (`vault/mount.rs`).

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::vault::{self, AppRole, Block, PasswordAuth, SecretTaker, Vault, Version};
use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session, Taker};
use crate::api::refs::{Ca, SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};

/// `spec.provider.openBao`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.caBundle) || !has(self.caProvider)",
    "message": "at most one of the fields in [caBundle caProvider] may be set",
}]))]
pub struct OpenBao {
    /// Address of the server: `https://openbao.example.com:8200`.
    pub server: String,
    /// How to log in. Left out: as nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Where the key-value engine is mounted. Left out: `kv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Version of the key-value engine. Left out: `v2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Namespace of the secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

/// How to log in: exactly one way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.appRole), has(self.tokenSecretRef), has(self.userPass), has(self.kubernetes)].exists_one(set, set)",
    "message": "exactly one of the fields in [appRole tokenSecretRef userPass kubernetes] must be set",
}]))]
pub struct Auth {
    /// Namespace to log in to, where it is another than that of the secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// With a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_secret_ref: Option<SecretKeySelector>,
    /// With an AppRole: exactly one of `roleId` and `roleRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRole>,
    /// With a user of OpenBao.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_pass: Option<PasswordAuth>,
    /// With a ServiceAccount's token that OpenBao reviews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesAuth>,
}

/// A ServiceAccount's token that OpenBao reviews: exactly one of `serviceAccountRef` and `secretRef`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesAuth {
    /// Where the method is mounted. Left out: `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The ServiceAccount whose token is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
    /// Where a token is. Its key left out: `token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
    /// Role in OpenBao.
    #[schemars(length(min = 1))]
    pub role: String,
}

impl OpenBao {
    /// The same, as a block of Vault.
    fn as_vault(&self) -> Vault {
        Vault {
            server: self.server.clone(),
            auth: self.auth.as_ref().map(Auth::as_vaults),
            path: Some(self.path.clone().unwrap_or_else(|| "kv".to_owned())),
            version: self.version,
            namespace: self.namespace.clone(),
            ca: self.ca.clone(),
            ..Vault::default()
        }
    }
}

impl Auth {
    fn as_vaults(&self) -> vault::Auth {
        vault::Auth {
            namespace: self.namespace.clone(),
            token_secret_ref: self.token_secret_ref.clone(),
            app_role: self.app_role.clone(),
            user_pass: self.user_pass.clone(),
            kubernetes: self.kubernetes.as_ref().map(|way| vault::KubernetesAuth {
                mount_path: way.path.clone(),
                service_account_ref: way.service_account_ref.clone(),
                secret_ref: way.secret_ref.clone(),
                role: way.role.clone(),
            }),
            ..vault::Auth::default()
        }
    }

    /// What the schema says too.
    fn check(&self) -> Result<(), &'static str> {
        let ways =
            [self.token_secret_ref.is_some(), self.app_role.is_some(), self.user_pass.is_some(), self.kubernetes.is_some()];
        if ways.into_iter().filter(|way| *way).count() != 1 {
            return Err("auth: exactly one of the fields in [appRole tokenSecretRef userPass kubernetes] must be set");
        }
        if self.app_role.as_ref().is_some_and(|role| role.role_id.is_some() == role.role_ref.is_some()) {
            return Err("auth.appRole: exactly one of the fields in [roleId roleRef] must be set");
        }
        if self.kubernetes.as_ref().is_some_and(|way| way.service_account_ref.is_some() == way.secret_ref.is_some()) {
            return Err("auth.kubernetes: exactly one of the fields in [serviceAccountRef secretRef] must be set");
        }
        Ok(())
    }
}

#[async_trait]
impl Provider for OpenBao {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "OpenBao"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        let wrong = |text: &str| ProviderError::new(ErrorKind::Misconfigured, text);
        if self.ca.bundle.is_some() && self.ca.provider.is_some() {
            return Err(wrong("at most one of the fields in [caBundle caProvider] may be set"));
        }
        self.auth.as_ref().map_or(Ok(()), Auth::check).map_err(wrong)?;
        self.as_vault().check(kind)
    }

    fn references(&self) -> Vec<Reference> {
        self.as_vault().references()
    }

    fn taker(&self) -> &'static dyn Taker {
        &SecretTaker
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Block::OpenBao.connect(&self.as_vault(), cx).await
    }
}
