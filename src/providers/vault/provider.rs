//! Vault in a store: what its block may say, what it logs in with, and how its values are taken apart.

use std::sync::Arc;

use async_trait::async_trait;

use super::client::VaultClient;
use super::config::{Auth, Vault, Version};
use super::mount::Mount;
use super::session::VaultSession;
use super::transport::misconfigured;
use crate::api::secret_store::{Capabilities, StoreKind};
use crate::providers::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Retries, Session, Taker, Want};
use crate::render::json::{self, exact};
use crate::render::{Entries, path};
use crate::secret_bytes::SecretBytes;

/// Which block of a store a session is of: the servers speak one protocol, and ESO's words differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// `vault`
    Vault,
    /// `openBao`
    OpenBao,
}

impl Block {
    const fn path(self) -> &'static str {
        match self {
            Self::Vault => "spec.provider.vault",
            Self::OpenBao => "spec.provider.openBao",
        }
    }

    /// Logs in to a server.
    ///
    /// # Errors
    /// As [`Provider::connect`].
    pub async fn connect(self, vault: &Vault, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        let retries = Retries::of(cx.retry.as_ref(), "spec.retrySettings")?;
        let client = VaultClient::login(vault, self.path(), retries, cx).await?;
        Ok(Arc::new(VaultSession::new(client, Mount::of(vault, self), self)))
    }
}

impl Vault {
    /// What is wrong with the block, in ESO's words where it has some.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self, kind: StoreKind) -> Result<(), ProviderError> {
        let wrong = |text: &str| Err(misconfigured(text.to_owned()));
        if self.ca.provider.as_ref().is_some_and(|ca| kind == StoreKind::ClusterSecretStore && ca.namespace.is_none()) {
            return wrong("missing namespace on caProvider secret");
        }
        if let Some(tls) = &self.tls
            && tls.cert_secret_ref.is_some() != tls.key_secret_ref.is_some()
        {
            return wrong("when provided, both ClientTLS.ClientCert and ClientTLS.SecretRef should be provided");
        }
        if self.version == Some(Version::V1) && self.check_and_set.as_ref().is_some_and(|cas| cas.required == Some(true)) {
            return wrong("checkAndSet is not supported with Vault KV version v1");
        }
        self.auth.as_ref().map_or(Ok(()), |auth| auth.check(kind))
    }

    /// The objects that the block names.
    #[must_use]
    pub fn references(&self) -> Vec<Reference> {
        let auth = self.auth.clone().unwrap_or_default();
        let tls = self.tls.iter().flat_map(|tls| [&tls.cert_secret_ref, &tls.key_secret_ref]).flatten();
        let mut found: Vec<Reference> = tls.filter_map(Reference::secret).collect();
        found.extend(self.ca.provider.as_ref().map(Reference::ca));
        found.extend(auth.references());
        found
    }
}

impl Auth {
    fn check(&self, kind: StoreKind) -> Result<(), ProviderError> {
        let wrong = |text: &str| Err(misconfigured(text.to_owned()));
        let namespaced = kind == StoreKind::SecretStore;
        let own = "the operator's own identity goes to no server that a SecretStore names: set";
        if let Some(role) = &self.app_role
            && role.role_id.as_deref().is_none_or(|id| id.trim().is_empty())
            && role.role_ref.is_none()
        {
            return wrong("invalid Auth.AppRole: neither `roleId` nor `roleRef` was supplied");
        }
        if self.jwt.as_ref().is_some_and(|jwt| jwt.secret_ref.is_none() && jwt.kubernetes_service_account_token.is_none()) {
            return wrong(
                "neither `secretRef` nor `kubernetesServiceAccountToken` was supplied as token source for jwt authentication",
            );
        }
        let is_own = |way: &super::KubernetesAuth| way.service_account_ref.is_none() && way.secret_ref.is_none();
        if namespaced && self.kubernetes.as_ref().is_some_and(is_own) {
            return wrong(&format!("auth.kubernetes: {own} serviceAccountRef or secretRef"));
        }
        if namespaced && self.iam.as_ref().is_some_and(|iam| iam.jwt.is_none() && iam.secret_ref.is_none()) {
            return wrong(&format!("auth.iam: {own} jwt or secretRef"));
        }
        if namespaced && self.gcp.as_ref().is_some_and(|gcp| gcp.secret_ref.is_none() && gcp.workload_identity.is_none()) {
            return wrong(&format!("auth.gcp: {own} secretRef or workloadIdentity"));
        }
        Ok(())
    }

    fn references(&self) -> Vec<Reference> {
        let Self { token_secret_ref, app_role, kubernetes, ldap, jwt, cert, iam, user_pass, gcp, namespace: _ } = self;
        let mut secrets: Vec<_> = token_secret_ref.iter().collect();
        let mut accounts: Vec<_> = kubernetes.iter().filter_map(|way| way.service_account_ref.as_ref()).collect();
        if let Some(role) = app_role {
            secrets.push(&role.secret_ref);
            secrets.extend(role.role_ref.iter().filter(|_| role.role_id.as_deref().unwrap_or_default().trim().is_empty()));
        }
        let without_account = kubernetes.iter().filter(|way| way.service_account_ref.is_none());
        secrets.extend(without_account.filter_map(|way| way.secret_ref.as_ref()));
        secrets.extend([ldap, user_pass].into_iter().flatten().map(|way| &way.secret_ref));
        if let Some(jwt) = jwt {
            secrets.extend(jwt.secret_ref.iter());
            let token = jwt.kubernetes_service_account_token.iter().filter(|_| jwt.secret_ref.is_none());
            accounts.extend(token.map(|token| &token.service_account_ref));
        }
        secrets.extend(cert.iter().flat_map(|cert| [&cert.client_cert, &cert.secret_ref]));
        if let Some(iam) = iam {
            secrets.extend(iam.secret_ref.iter().flat_map(|keys| keys.selectors().map(|(selector, _)| selector)));
            accounts.extend(iam.jwt.iter().filter_map(|jwt| jwt.service_account_ref.as_ref()));
        }
        if let Some(gcp) = gcp {
            secrets.extend(gcp.secret_ref.iter().filter_map(|key| key.secret_access_key_secret_ref.as_ref()));
            accounts.extend(gcp.workload_identity.iter().map(|identity| &identity.service_account_ref));
        }
        let secrets = secrets.into_iter().filter_map(Reference::secret);
        secrets.chain(accounts.into_iter().map(Reference::service_account)).collect()
    }
}

#[async_trait]
impl Provider for Vault {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "HashiCorp/Vault"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        self.check(kind)
    }

    fn references(&self) -> Vec<Reference> {
        Self::references(self)
    }

    fn taker(&self) -> &'static dyn Taker {
        &SecretTaker
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Block::Vault.connect(self, cx).await
    }
}

/// Takes secrets apart: each is a JSON object with sorted keys.
pub struct SecretTaker;

impl Taker for SecretTaker {
    fn stored(&self, want: &Want, written: SecretBytes) -> Result<SecretBytes, ProviderError> {
        exact::sorted(written.expose()).filter(path::is_json_object).ok_or_else(|| {
            misconfigured(format!(
                "the value of {:?} stands for a secret of Vault: write a map of its keys and values",
                want.key
            ))
        })
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        let _ = want;
        path::exact_then_path(value, property).ok_or_else(|| {
            ProviderError::new(ErrorKind::MissingProperty, format!("cannot find secret data for key: {property:?}"))
        })
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        let part;
        let value = match property {
            Some(property) => {
                part = self.property(want, value, property)?;
                &part
            }
            None => value,
        };
        let entries = json::members(value.expose()).and_then(|members| {
            members.into_iter().map(|(name, raw)| Some((name, exact::byte_value(raw)?))).collect::<Option<Entries>>()
        });
        entries.ok_or_else(|| {
            ProviderError::new(ErrorKind::Malformed, format!("the value of {:?} is not a JSON object", want.key))
        })
    }
}
