//! `spec.provider.azurekv`: its fields, as ESO has them.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::client::Client;
use super::objects::Objects;
use super::session::AzureSession;
use super::{CLIENT_ID, Cloud, Endpoints, METADATA, TENANT_ID, misconfigured};
use crate::api::generators::AzureEnvironment;
use crate::api::refs::{SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use crate::providers::oauth::AccessToken;
use crate::providers::{ConnectCx, Provider, ProviderError, Reference, Session, Taker};

/// Where the block stands in a store.
pub(super) const PATH: &str = "spec.provider.azurekv";

/// Azure Key Vault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyVault {
    /// How to log in. Left out: `ServicePrincipal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_type: Option<AuthType>,
    /// Address of the vault: `https://my-vault.vault.azure.net`.
    pub vault_url: String,
    /// Tenant of the login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Cloud of the vault. Left out: `PublicCloud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_type: Option<AzureEnvironment>,
    /// Where the application's id and secret or certificate are: for `ServicePrincipal`, and for `WorkloadIdentity` where no
    /// annotation of the ServiceAccount tells the ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_secret_ref: Option<SecretRef>,
    /// The ServiceAccount of `WorkloadIdentity`. Left out: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
    /// Client id of the machine's identity for `ManagedIdentity`, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_id: Option<String>,
    /// Which of ESO's two clients is used. keyferry has one; `customCloudConfig` asks for `true` all the same.
    #[serde(rename = "useAzureSDK", default, skip_serializing_if = "Option::is_none")]
    pub use_azure_sdk: Option<bool>,
    /// Addresses of an Azure Stack or another cloud of one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_cloud_config: Option<CustomCloud>,
}

/// A way to log in to Entra ID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AuthType {
    /// As an application with a secret or a certificate.
    #[default]
    ServicePrincipal,
    /// With an identity of the machine that the operator runs on.
    ManagedIdentity,
    /// With a ServiceAccount's token.
    WorkloadIdentity,
}

/// An application, and what it proves itself with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Where the application's id is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<SecretKeySelector>,
    /// Where the tenant's id is, for `WorkloadIdentity`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<SecretKeySelector>,
    /// Where the application's secret is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<SecretKeySelector>,
    /// Where the application's certificate and its private RSA key are, in one PEM text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<SecretKeySelector>,
}

/// Addresses of a cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CustomCloud {
    /// Where to log in: `https://login.microsoftonline.com/`.
    pub active_directory_endpoint: String,
    /// What tokens for a vault are for, where that is not the vault's own domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_vault_endpoint: Option<String>,
    /// Domain that `vaultUrl` must be in.
    #[serde(rename = "keyVaultDNSSuffix", default, skip_serializing_if = "Option::is_none")]
    pub key_vault_dns_suffix: Option<String>,
    /// Address of the cloud's resource manager. No secret is asked for there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_manager_endpoint: Option<String>,
}

fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

impl KeyVault {
    fn environment(&self) -> AzureEnvironment {
        self.environment_type.unwrap_or_default()
    }

    fn auth(&self) -> AuthType {
        self.auth_type.unwrap_or_default()
    }

    /// Whether the login is an identity of the operator's own, which is good for more than this store.
    fn is_own(&self) -> bool {
        match self.auth() {
            AuthType::ServicePrincipal => false,
            AuthType::ManagedIdentity => true,
            AuthType::WorkloadIdentity => self.service_account_ref.is_none(),
        }
    }

    /// The vault's address.
    ///
    /// # Errors
    /// `Misconfigured` where it is not just `https` and a host.
    pub(super) fn vault(&self) -> Result<Url, ProviderError> {
        let bad = || misconfigured(format!("{PATH}.vaultUrl is no address such as https://my-vault.vault.azure.net"));
        let url = Url::parse(self.vault_url.trim()).map_err(|_| bad())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.path() == "/";
        if url.scheme() == "https" && url.host_str().is_some() && plain { Ok(url) } else { Err(bad()) }
    }

    /// Whether tokens for a resource may be sent to the vault: one of its own domain, or the one that the block names.
    ///
    /// # Errors
    /// `Denied` where not.
    pub(super) fn check_resource(&self, host: &str, resource: &str) -> Result<(), ProviderError> {
        let named = self.custom_cloud_config.as_ref().and_then(|cloud| given(&cloud.key_vault_endpoint));
        if named.is_some_and(|named| named.trim_end_matches('/') == resource.trim_end_matches('/')) {
            return Ok(());
        }
        let url = Url::parse(resource).ok().filter(|url| url.scheme() == "https");
        let domain = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        if !domain.is_empty() && (host == domain || is_in(host, domain)) {
            return Ok(());
        }
        let text = format!(
            "{PATH}.vaultUrl: the vault asks for a token of another domain than its own, and gets none: check the address, or name \
             what its tokens are for in customCloudConfig.keyVaultEndpoint"
        );
        Err(ProviderError::new(crate::providers::ErrorKind::Denied, text))
    }

    /// Where to log in for a resource.
    pub(super) fn endpoints(&self, resource: &str) -> Endpoints {
        let known = Cloud::of(self.environment()).map_or("", |cloud| cloud.authority);
        let authority = self.custom_cloud_config.as_ref().map_or(known, |cloud| &cloud.active_directory_endpoint);
        Endpoints {
            authority: authority.trim().trim_end_matches('/').to_owned(),
            metadata: METADATA.to_owned(),
            resource: resource.trim_end_matches('/').to_owned(),
        }
    }

    /// Logs in for a resource.
    ///
    /// # Errors
    /// `Misconfigured` where something is missing; `Denied` where Entra ID does not take the login.
    pub(super) async fn log_in(&self, resource: &str, cx: &ConnectCx) -> Result<AccessToken, ProviderError> {
        let endpoints = self.endpoints(resource);
        match (self.auth(), &self.service_account_ref) {
            (AuthType::ServicePrincipal, _) => self.as_application(&endpoints, cx).await,
            (AuthType::ManagedIdentity, _) => {
                super::with_machine(given(&self.identity_id).unwrap_or_default(), &endpoints, cx).await
            }
            (AuthType::WorkloadIdentity, None) => super::with_own_token(&endpoints, cx).await,
            (AuthType::WorkloadIdentity, Some(account)) => self.as_service_account(account, &endpoints, cx).await,
        }
    }

    async fn as_application(&self, endpoints: &Endpoints, cx: &ConnectCx) -> Result<AccessToken, ProviderError> {
        let path = format!("{PATH}.authSecretRef");
        let tenant = given(&self.tenant_id).unwrap_or_default();
        let keys = self.auth_secret_ref.clone().unwrap_or_default();
        let client = cx.secret_text(&keys.client_id.unwrap_or_default(), &format!("{path}.clientId")).await?;
        if let Some(certificate) = &keys.client_certificate {
            let bundle = cx.secret(certificate, &format!("{path}.clientCertificate")).await?;
            return super::with_certificate((tenant, &client, &bundle), endpoints, cx).await;
        }
        let secret = cx.secret_text(&keys.client_secret.unwrap_or_default(), &format!("{path}.clientSecret")).await?;
        super::with_secret((tenant, &client, &secret), endpoints, cx).await
    }

    async fn as_service_account(
        &self,
        account: &ServiceAccountSelector,
        endpoints: &Endpoints,
        cx: &ConnectCx,
    ) -> Result<AccessToken, ProviderError> {
        let what = format!("{PATH}.serviceAccountRef");
        let annotations = cx.service_account_annotations(account, &what).await?;
        let keys = self.auth_secret_ref.clone().unwrap_or_default();
        let referenced = async |selector: Option<SecretKeySelector>, field: &str| match selector {
            Some(selector) => {
                let text = cx.secret_text(&selector, &format!("{PATH}.authSecretRef.{field}")).await?;
                Ok::<_, ProviderError>(Some(text.expose_str().unwrap_or_default().to_owned()))
            }
            None => Ok(None),
        };
        let annotated = |name: &str| annotations.get(name).cloned();
        let client = one_of([referenced(keys.client_id, "clientId").await?, annotated(CLIENT_ID)], "clientID")?;
        let missing =
            format!("missing clientID: either serviceAccountRef or service account annotation '{CLIENT_ID}' is missing");
        let client = client.ok_or_else(|| misconfigured(missing))?;
        let tenants = [referenced(keys.tenant_id, "tenantId").await?, self.tenant_id.clone(), annotated(TENANT_ID)];
        let tenant = one_of(tenants, "tenantID")?.or_else(|| cx.env.get("AZURE_TENANT_ID").cloned());
        let missing = || misconfigured(format!("missing tenantID in store config: set {PATH}.tenantId"));
        let tenant = tenant.filter(|tenant| !tenant.is_empty()).ok_or_else(missing)?;
        let token = super::account_token(account, &what, cx).await?;
        super::with_token((&tenant, &client), &token, endpoints, cx).await
    }

    fn check_cloud(&self) -> Result<(), ProviderError> {
        let vault = self.vault()?;
        let host = vault.host_str().unwrap_or_default();
        let Some(custom) = &self.custom_cloud_config else {
            let Some(cloud) = Cloud::of(self.environment()) else {
                return Err(misconfigured(
                    "CustomCloudConfig is required when EnvironmentType is AzureStackCloud".to_owned(),
                ));
            };
            if self.is_own() && !is_in(host, cloud.vaults) {
                return Err(misconfigured(format!(
                    "{PATH}.vaultUrl: with the operator's own identity it must end with .{}, as the login is sent there: use \
                     ServicePrincipal, or WorkloadIdentity with a ServiceAccount, for others",
                    cloud.vaults
                )));
            }
            return Ok(());
        };
        if self.use_azure_sdk != Some(true) {
            let text =
                "CustomCloudConfig requires UseAzureSDK to be set to true - the legacy SDK does not support custom clouds";
            return Err(misconfigured(text.to_owned()));
        }
        if custom.active_directory_endpoint.is_empty() {
            return Err(misconfigured("activeDirectoryEndpoint is required in CustomCloudConfig".to_owned()));
        }
        if !custom.active_directory_endpoint.trim().to_ascii_lowercase().starts_with("https://") {
            return Err(misconfigured(format!("{PATH}.customCloudConfig.activeDirectoryEndpoint must be an https address")));
        }
        // Whoever writes the store would have the operator's login sent to a server of theirs.
        if self.is_own() {
            return Err(misconfigured(format!(
                "{PATH}.customCloudConfig: the operator's own identity is for Azure's own clouds only: use ServicePrincipal, or \
                 WorkloadIdentity with a ServiceAccount"
            )));
        }
        match given(&custom.key_vault_dns_suffix).map(|suffix| suffix.trim_start_matches('.').to_ascii_lowercase()) {
            Some(suffix) if !is_in(host, &suffix) => {
                Err(misconfigured(format!("{PATH}.vaultUrl is not in the domain of customCloudConfig.keyVaultDNSSuffix")))
            }
            _ => Ok(()),
        }
    }

    fn check_application(&self) -> Result<(), ProviderError> {
        if self.auth() != AuthType::ServicePrincipal {
            return Ok(());
        }
        let bad = |text: &str, field: &str| Err(misconfigured(format!("{text}: see {PATH}.{field}")));
        if given(&self.tenant_id).is_none() {
            return bad("missing tenantID in store config", "tenantId");
        }
        let Some(keys) = &self.auth_secret_ref else { return bad("missing secretRef in provider config", "authSecretRef") };
        match (&keys.client_id, &keys.client_secret, &keys.client_certificate) {
            (_, Some(_), Some(_)) => bad("both clientSecret and clientCredentials set", "authSecretRef"),
            (None, ..) | (_, None, None) => bad("missing accessKeyID/secretAccessKey in store config", "authSecretRef"),
            _ => Ok(()),
        }
    }

    fn selectors(&self) -> impl Iterator<Item = &SecretKeySelector> {
        let keys = self.auth_secret_ref.as_ref();
        keys.into_iter()
            .flat_map(|k| [&k.client_id, &k.tenant_id, &k.client_secret, &k.client_certificate])
            .filter_map(Option::as_ref)
    }
}

/// Whether a host is under a domain.
fn is_in(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|start| start.len() > 1 && start.ends_with('.'))
}

/// The one text that is given; the same one may be given several times.
fn one_of<const N: usize>(texts: [Option<String>; N], name: &str) -> Result<Option<String>, ProviderError> {
    let mut given: Vec<String> = texts.into_iter().flatten().filter(|text| !text.is_empty()).collect();
    given.dedup();
    match given.as_slice() {
        [] => Ok(None),
        [_] => Ok(given.pop()),
        _ => Err(misconfigured(format!("multiple {name} found. Check secretRef, '{PATH}', and serviceAccountRef"))),
    }
}

#[async_trait]
impl Provider for KeyVault {
    fn taker(&self) -> &'static dyn Taker {
        &Objects
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Azure/KeyVault"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        self.check_cloud()?;
        self.check_application()
    }

    fn references(&self) -> Vec<Reference> {
        let account = self.service_account_ref.iter().filter(|_| self.auth() == AuthType::WorkloadIdentity);
        let secrets = self.selectors().filter(|_| !self.is_own()).filter_map(Reference::secret);
        secrets.chain(account.map(Reference::service_account)).collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        self.validate(cx.store_kind)?;
        Ok(Arc::new(AzureSession { client: Client::open(self, cx).await? }))
    }
}
