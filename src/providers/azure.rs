//! Azure: logs in to Entra ID and gives the access tokens that come of it.

use http::Method;
use serde::Deserialize;

use super::oauth::accepted;
use super::{ConnectCx, ErrorKind, ProviderError};
use crate::api::generators::AzureEnvironment;
use crate::api::refs::ServiceAccountSelector;
use crate::outbound::{Call, TlsOptions, query, secret, segment};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "login to Entra ID";
/// Audience of ServiceAccount tokens that are exchanged.
const EXCHANGE_AUDIENCE: &str = "api://AzureADTokenExchange";
/// Annotations that the workload identity of Azure puts on ServiceAccounts.
const CLIENT_ID: &str = "azure.workload.identity/client-id";
const TENANT_ID: &str = "azure.workload.identity/tenant-id";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Where Azure's own services are. They are constants; tests put servers of their own in their place.
#[derive(Clone)]
pub struct Endpoints {
    /// Entra ID.
    pub authority: String,
    /// The machine's metadata service.
    pub metadata: String,
    /// What an access token is for: Azure's management API.
    pub resource: String,
}

impl Endpoints {
    /// Those of a cloud.
    ///
    /// # Errors
    /// `Unsupported` for Azure Stack, which has no addresses that are known.
    pub fn of(cloud: AzureEnvironment) -> Result<Self, ProviderError> {
        let (authority, resource) = match cloud {
            AzureEnvironment::PublicCloud => ("https://login.microsoftonline.com", "https://management.azure.com/"),
            AzureEnvironment::USGovernmentCloud => {
                ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net/")
            }
            AzureEnvironment::ChinaCloud => ("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn/"),
            AzureEnvironment::GermanCloud => ("https://login.microsoftonline.de", "https://management.microsoftazure.de/"),
            AzureEnvironment::AzureStackCloud => {
                let text =
                    "environmentType AzureStackCloud: an Azure Stack has addresses of its own, which cannot be given here";
                return Err(ProviderError::new(ErrorKind::Unsupported, text));
            }
        };
        let metadata = "http://169.254.169.254".to_owned();
        Ok(Self { authority: authority.to_owned(), metadata, resource: resource.to_owned() })
    }
}

/// What Entra ID and the metadata service answer.
#[derive(Deserialize)]
struct Token {
    #[serde(deserialize_with = "secret")]
    access_token: SecretBytes,
}

/// As an application with a secret.
///
/// # Errors
/// `Denied` where Entra ID does not take the login.
pub async fn with_secret(
    (tenant, client, password): (&str, &SecretBytes, &SecretBytes),
    endpoints: &Endpoints,
    cx: &ConnectCx,
) -> Result<SecretBytes, ProviderError> {
    let proof = [("client_secret", text(password)?)];
    entra((tenant, text(client)?), &proof, endpoints, cx).await
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
) -> Result<SecretBytes, ProviderError> {
    let annotations = cx.service_account_annotations(account, what).await?;
    let annotation = |name: &str| {
        let missing = || misconfigured(format!("{what}: ServiceAccount {} lacks the annotation {name}", account.name));
        annotations.get(name).map(String::as_str).ok_or_else(missing)
    };
    let (client, tenant) = (annotation(CLIENT_ID)?, annotation(TENANT_ID)?);
    let audiences = std::iter::once(EXCHANGE_AUDIENCE.to_owned()).chain(account.audiences.iter().cloned()).collect();
    let token = cx.token(account, audiences, None, what).await?;
    with_token((tenant, client), &token, endpoints, cx).await
}

/// As the operator itself, by what Azure's workload identity put into its Pod.
///
/// # Errors
/// `Misconfigured` where the environment does not say how; `Denied` where Entra ID does not take the token.
pub async fn with_own_token(endpoints: &Endpoints, cx: &ConnectCx) -> Result<SecretBytes, ProviderError> {
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
pub async fn with_machine(identity: &str, endpoints: &Endpoints, cx: &ConnectCx) -> Result<SecretBytes, ProviderError> {
    let what = "managed identity of the machine";
    let common = [("api-version", "2018-02-01"), ("resource", endpoints.resource.as_str())];
    let which: &[(&str, &str)] = match identity {
        "" => &[],
        id if id.contains('/') => &[("msi_res_id", id)],
        id => &[("client_id", id)],
    };
    let url = format!("{}/metadata/identity/oauth2/token?{}", endpoints.metadata, query(&[&common, which].concat()));
    let call = Call::new(Method::GET, &url, what)?.header("metadata", b"true", what)?;
    let answer = cx.outbound.ambient()?.send(call, what).await?.success(what)?;
    Ok(answer.json::<Token>(what)?.access_token)
}

async fn with_token(
    names: (&str, &str),
    token: &SecretBytes,
    endpoints: &Endpoints,
    cx: &ConnectCx,
) -> Result<SecretBytes, ProviderError> {
    let proof = [("client_assertion_type", ASSERTION_TYPE), ("client_assertion", text(token)?)];
    entra(names, &proof, endpoints, cx).await
}

async fn entra(
    (tenant, client): (&str, &str),
    proof: &[(&str, &str)],
    endpoints: &Endpoints,
    cx: &ConnectCx,
) -> Result<SecretBytes, ProviderError> {
    let url = format!("{}/{}/oauth2/v2.0/token", endpoints.authority, segment(tenant));
    let scope = format!("{}.default", endpoints.resource);
    let common = [("grant_type", "client_credentials"), ("client_id", client), ("scope", scope.as_str())];
    let call = Call::new(Method::POST, &url, WHAT)?.form(&[&common, proof].concat());
    let answer = cx.outbound.client(&TlsOptions::default(), WHAT)?.send(call, WHAT).await?;
    Ok(accepted(answer, WHAT)?.json::<Token>(WHAT)?.access_token)
}

fn text(secret: &SecretBytes) -> Result<&str, ProviderError> {
    secret.expose_str().map(str::trim).ok_or_else(|| misconfigured(format!("{WHAT}: a credential is not UTF-8 text")))
}

fn misconfigured(text: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
