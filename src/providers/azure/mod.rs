//! Azure: logs in to Entra ID and gives the access tokens that come of it. And its Key Vault.

mod client;
mod config;
#[cfg(test)]
mod conformance;
mod objects;
mod push;
#[cfg(test)]
mod push_tests;
mod session;
#[cfg(test)]
mod session_tests;

use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Map, json};

pub use config::{AuthType, CustomCloud, KeyVault, SecretRef};

use super::oauth::{AccessToken, accepted};
use super::{ConnectCx, ErrorKind, ProviderError};
use crate::api::generators::AzureEnvironment;
use crate::api::refs::ServiceAccountSelector;
use crate::jwt::RsaKey;
use crate::outbound::{Answer, Call, TlsOptions, query, secret, segment};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "login to Entra ID";
/// Audience of ServiceAccount tokens that are exchanged.
const EXCHANGE_AUDIENCE: &str = "api://AzureADTokenExchange";
/// Annotations that the workload identity of Azure puts on ServiceAccounts.
const CLIENT_ID: &str = "azure.workload.identity/client-id";
const TENANT_ID: &str = "azure.workload.identity/tenant-id";
/// Seconds that a login signed by us holds.
const ASSERTION_LIFE: i64 = 600;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Where Azure's own services are. Tests put servers of their own in their place.
#[derive(Clone)]
pub struct Endpoints {
    /// Entra ID.
    pub authority: String,
    /// The machine's metadata service.
    pub metadata: String,
    /// What an access token is for: Azure's management API, or a vault's domain.
    pub resource: String,
}

/// Addresses of a cloud.
struct Cloud {
    authority: &'static str,
    management: &'static str,
    /// Domain of the vaults.
    vaults: &'static str,
    /// Domain of the container registries.
    registries: &'static str,
}

impl Cloud {
    /// None: an Azure Stack, whose addresses are its own.
    const fn of(environment: AzureEnvironment) -> Option<Self> {
        let (authority, management, vaults, registries) = match environment {
            AzureEnvironment::PublicCloud => {
                ("https://login.microsoftonline.com", "https://management.azure.com/", "vault.azure.net", "azurecr.io")
            }
            AzureEnvironment::USGovernmentCloud => (
                "https://login.microsoftonline.us",
                "https://management.usgovcloudapi.net/",
                "vault.usgovcloudapi.net",
                "azurecr.us",
            ),
            AzureEnvironment::ChinaCloud => {
                ("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn/", "vault.azure.cn", "azurecr.cn")
            }
            AzureEnvironment::GermanCloud => (
                "https://login.microsoftonline.de",
                "https://management.microsoftazure.de/",
                "vault.microsoftazure.de",
                "azurecr.de",
            ),
            AzureEnvironment::AzureStackCloud => return None,
        };
        Some(Self { authority, management, vaults, registries })
    }
}

/// The metadata service of Azure's machines.
const METADATA: &str = "http://169.254.169.254";

/// A registry's surroundings.
pub struct Registries {
    /// Where to log in.
    pub endpoints: Endpoints,
    /// Domain of the cloud's registries.
    pub domain: String,
}

/// What a file of `AZURE_ENVIRONMENT_FILEPATH` says of an Azure Stack, as far as it is needed here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StackFile {
    active_directory_endpoint: String,
    resource_manager_endpoint: String,
    #[serde(rename = "containerRegistryDNSSuffix")]
    registries: String,
}

impl Endpoints {
    /// Those of a cloud, for Azure's management API.
    ///
    /// # Errors
    /// `Unsupported` for Azure Stack, which has no addresses that are known.
    pub fn of(environment: AzureEnvironment) -> Result<Self, ProviderError> {
        let Cloud { authority, management, .. } = Cloud::of(environment).ok_or_else(|| {
            let text =
                "environmentType AzureStackCloud: an Azure Stack has addresses of its own, which cannot be given here";
            ProviderError::new(ErrorKind::Unsupported, text)
        })?;
        Ok(Self { authority: authority.to_owned(), metadata: METADATA.to_owned(), resource: management.to_owned() })
    }
}

impl Registries {
    /// Those of a cloud. An Azure Stack's addresses are in the file that the operator's environment names, as for Azure's own tools: a
    /// generator has no fields for them.
    ///
    /// # Errors
    /// `Misconfigured` where there is no such file, or it does not say enough.
    pub async fn of(environment: AzureEnvironment, cx: &ConnectCx) -> Result<Self, ProviderError> {
        if let Some(cloud) = Cloud::of(environment) {
            return Ok(Self { endpoints: Endpoints::of(environment)?, domain: cloud.registries.to_owned() });
        }
        let bad = |text: &str| misconfigured(format!("environmentType AzureStackCloud: {text}"));
        let path = cx.env.get("AZURE_ENVIRONMENT_FILEPATH").filter(|path| !path.is_empty());
        let path =
            path.ok_or_else(|| bad("the operator's environment names no AZURE_ENVIRONMENT_FILEPATH with its addresses"))?;
        let file = tokio::fs::read(path).await.map_err(|_| bad("the file of AZURE_ENVIRONMENT_FILEPATH cannot be read"))?;
        let StackFile { active_directory_endpoint, resource_manager_endpoint, registries } = serde_json::from_slice(&file)
            .map_err(|_| {
            bad("the file of AZURE_ENVIRONMENT_FILEPATH lacks activeDirectoryEndpoint, resourceManagerEndpoint or \
                              containerRegistryDNSSuffix")
        })?;
        let authority = active_directory_endpoint.trim_end_matches('/').to_owned();
        let endpoints = Endpoints { authority, metadata: METADATA.to_owned(), resource: resource_manager_endpoint };
        Ok(Self { endpoints, domain: registries.trim_start_matches('.').to_owned() })
    }
}

/// What Entra ID and the metadata service answer; the latter writes numbers as texts.
#[derive(Deserialize)]
struct Token {
    #[serde(deserialize_with = "secret")]
    access_token: SecretBytes,
    expires_in: Option<Seconds>,
}

/// Seconds that a token is taken to hold where nobody says.
const UNSAID: u64 = 300;

#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

impl Token {
    fn of(answer: Answer, what: &str) -> Result<AccessToken, ProviderError> {
        let Self { access_token, expires_in } = accepted(answer, what)?.json(what)?;
        let seconds = match expires_in {
            Some(Seconds::Number(seconds)) => seconds,
            Some(Seconds::Text(text)) => text.parse().unwrap_or(UNSAID),
            None => UNSAID,
        };
        let expires_at = Timestamp::now().saturating_add(Duration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
        Ok(AccessToken { value: access_token, expires_at })
    }
}

/// As an application with a secret.
///
/// # Errors
/// `Denied` where Entra ID does not take the login.
pub async fn with_secret(
    (tenant, client, password): (&str, &SecretBytes, &SecretBytes),
    endpoints: &Endpoints,
    cx: &ConnectCx,
) -> Result<AccessToken, ProviderError> {
    let proof = [("client_secret", text(password)?)];
    entra((tenant, text(client)?), &proof, endpoints, cx).await
}

/// As an application with a certificate and its private RSA key, both in one PEM text.
///
/// # Errors
/// `Misconfigured` where the text does not hold them; `Denied` where Entra ID does not take the login.
pub async fn with_certificate(
    (tenant, client, bundle): (&str, &SecretBytes, &SecretBytes),
    endpoints: &Endpoints,
    cx: &ConnectCx,
) -> Result<AccessToken, ProviderError> {
    let bad =
        || misconfigured(format!("{WHAT}: the client certificate is not one in PEM together with its private RSA key"));
    let certificate = CertificateDer::from_pem_slice(bundle.expose()).map_err(|_| bad())?;
    let thumbprint = |algorithm| URL_SAFE_NO_PAD.encode(digest(algorithm, &certificate));
    let header = Map::from_iter([
        ("x5t".to_owned(), json!(thumbprint(&SHA1_FOR_LEGACY_USE_ONLY))),
        ("x5t#S256".to_owned(), json!(thumbprint(&SHA256))),
    ]);
    let mut id = [0; 16];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| bad())?;
    let (client, now) = (text(client)?, Timestamp::now().as_second());
    let claims = json!({
        "aud": token_url(tenant, endpoints), "iss": client, "sub": client, "jti": URL_SAFE_NO_PAD.encode(id),
        "nbf": now, "iat": now, "exp": now + ASSERTION_LIFE,
    });
    let assertion = RsaKey::from_pem(bundle.expose()).and_then(|key| key.sign_with(header, &claims)).ok_or_else(bad)?;
    with_token((tenant, client), &assertion, endpoints, cx).await
}

/// As an application that trusts tokens of a ServiceAccount, whose annotations name it.
///
/// # Errors
/// `Misconfigured` where an annotation is missing; `Denied` where Entra ID does not take the token.
pub async fn with_service_account(
    account: &ServiceAccountSelector,
    what: &str,
    endpoints: &Endpoints,
    cx: &ConnectCx,
) -> Result<AccessToken, ProviderError> {
    let annotations = cx.service_account_annotations(account, what).await?;
    let annotation = |name: &str| {
        let missing = || misconfigured(format!("{what}: ServiceAccount {} lacks the annotation {name}", account.name));
        annotations.get(name).map(String::as_str).ok_or_else(missing)
    };
    let (client, tenant) = (annotation(CLIENT_ID)?, annotation(TENANT_ID)?);
    with_token((tenant, client), &account_token(account, what, cx).await?, endpoints, cx).await
}

/// A token of a ServiceAccount that Entra ID takes.
async fn account_token(account: &ServiceAccountSelector, what: &str, cx: &ConnectCx) -> Result<SecretBytes, ProviderError> {
    let audiences = std::iter::once(EXCHANGE_AUDIENCE.to_owned()).chain(account.audiences.iter().cloned()).collect();
    cx.token(account, audiences, None, what).await
}

/// As the operator itself, by what Azure's workload identity put into its Pod.
///
/// # Errors
/// `Misconfigured` where the environment does not say how; `Denied` where Entra ID does not take the token.
pub async fn with_own_token(endpoints: &Endpoints, cx: &ConnectCx) -> Result<AccessToken, ProviderError> {
    let var = |name: &str| {
        let missing =
            || misconfigured(format!("{WHAT}: the operator's environment does not hold {name}: name a ServiceAccount"));
        cx.env.get(name).filter(|v| !v.is_empty()).ok_or_else(missing)
    };
    let (client, tenant, path) = (var("AZURE_CLIENT_ID")?, var("AZURE_TENANT_ID")?, var("AZURE_FEDERATED_TOKEN_FILE")?);
    let token = tokio::fs::read(path)
        .await
        .map(SecretBytes::new)
        .map_err(|_| misconfigured(format!("{WHAT}: the file of AZURE_FEDERATED_TOKEN_FILE cannot be read")))?;
    with_token((tenant, client), &token, endpoints, cx).await
}

/// With an identity of the machine that the operator runs on: its client id, its resource id (which holds a slash), or none.
///
/// # Errors
/// `Unavailable` where there is no metadata service; `Misconfigured` where it has no such identity.
pub async fn with_machine(identity: &str, endpoints: &Endpoints, cx: &ConnectCx) -> Result<AccessToken, ProviderError> {
    let what = "managed identity of the machine";
    let common = [("api-version", "2018-02-01"), ("resource", endpoints.resource.as_str())];
    let which: &[(&str, &str)] = match identity {
        "" => &[],
        id if id.contains('/') => &[("msi_res_id", id)],
        id => &[("client_id", id)],
    };
    let url = format!("{}/metadata/identity/oauth2/token?{}", endpoints.metadata, query(&[&common, which].concat()));
    let call = Call::new(Method::GET, &url, what)?.header("metadata", b"true", what)?;
    Token::of(cx.outbound.ambient()?.send(call, what).await?.success(what)?, what)
}

async fn with_token(
    names: (&str, &str),
    token: &SecretBytes,
    endpoints: &Endpoints,
    cx: &ConnectCx,
) -> Result<AccessToken, ProviderError> {
    let proof = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", text(token)?)];
    entra(names, &proof, endpoints, cx).await
}

fn token_url(tenant: &str, endpoints: &Endpoints) -> String {
    format!("{}/{}/oauth2/v2.0/token", endpoints.authority, segment(tenant))
}

async fn entra(
    (tenant, client): (&str, &str),
    proof: &[(&str, &str)],
    endpoints: &Endpoints,
    cx: &ConnectCx,
) -> Result<AccessToken, ProviderError> {
    let scope = format!("{}/.default", endpoints.resource.trim_end_matches('/'));
    let common = [("grant_type", "client_credentials"), ("client_id", client), ("scope", scope.as_str())];
    let call = Call::new(Method::POST, &token_url(tenant, endpoints), WHAT)?.form(&[&common, proof].concat());
    Token::of(cx.outbound.client(&TlsOptions::default(), WHAT)?.send(call, WHAT).await?, WHAT)
}

fn text(secret: &SecretBytes) -> Result<&str, ProviderError> {
    secret.expose_str().map(str::trim).ok_or_else(|| misconfigured(format!("{WHAT}: a credential is not UTF-8 text")))
}

fn misconfigured(text: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
