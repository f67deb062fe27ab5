//! Who we are to AWS, for somebody else to ask: a signed `sts:GetCallerIdentity` that we do not send.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::box_error::BoxError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::identity::signed_headers;
use super::{Auth, Aws, auth, check_login, check_region, client, misconfigured};
use crate::providers::{ConnectCx, ProviderError};
use crate::secret_bytes::SecretBytes;

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// Who is to sign.
pub struct Caller<'a> {
    /// Region whose STS is to be asked.
    pub region: String,
    /// How to log in; `None`: as the operator.
    pub auth: Option<Auth>,
    /// ARN of a role that is assumed first.
    pub role: Option<String>,
    /// External id that the role's trust policy asks for.
    pub external_id: Option<String>,
    /// A header that is signed too.
    pub header: Option<(&'static str, &'a str)>,
    /// Where the block stands in the object.
    pub path: &'a str,
}

/// A signed request, its parts each in base64.
pub struct SignedRequest {
    /// The URL.
    pub url: SecretBytes,
    /// The body.
    pub body: SecretBytes,
    /// The headers, as a JSON object of lists.
    pub headers: SecretBytes,
}

/// Logs in to AWS, and signs.
///
/// # Errors
/// `Misconfigured` where an object or key is missing, else what AWS said.
pub async fn caller_identity(caller: Caller<'_>, cx: &ConnectCx) -> Result<SignedRequest, ProviderError> {
    let path = caller.path;
    signed_by(caller, cx).await.map_err(|mut error| {
        error.detail = error.detail.replace("spec.provider.aws.auth", path).replace("spec.provider.aws", path);
        error
    })
}

async fn signed_by(caller: Caller<'_>, cx: &ConnectCx) -> Result<SignedRequest, ProviderError> {
    let Caller { region, auth, role, external_id, header, .. } = caller;
    let aws = Aws { region, auth, role, external_id, ..Aws::default() };
    check_region(&aws.region)?;
    check_login(&aws)?;
    let sdk = client::Sdk::new(&aws, cx).await?;
    let credentials = auth::login(&aws, cx, &sdk).await?.credentials().await?;
    let url = sdk.service_url(&["AWS_STS_ENDPOINT", "AWS_ENDPOINT_URL_STS"], "sts", &aws.region)?;
    let url = format!("{}/", url.trim_end_matches('/'));
    let headers = signed(&url, &aws.region, header, &credentials)
        .map_err(|_| misconfigured("sts:GetCallerIdentity: the request could not be built or signed"))?;
    let base64 = |text: &str| SecretBytes::from(STANDARD.encode(text));
    Ok(SignedRequest { url: base64(&url), body: base64(BODY), headers: base64(&headers) })
}

fn signed(
    url: &str,
    region: &str,
    header: Option<(&'static str, &str)>,
    credentials: &Credentials,
) -> Result<String, BoxError> {
    let further = header.map(|(name, value)| (name.to_ascii_lowercase(), value));
    let mut headers = vec![("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    headers.extend(further.as_ref().map(|(name, value)| (name.as_str(), *value)));
    let headers = signed_headers(url, region, &headers, BODY, credentials, SystemTime::now())?;
    let headers: BTreeMap<String, [String; 1]> = headers.into_iter().map(|(name, value)| (name, [value])).collect();
    Ok(serde_json::to_string(&headers)?)
}
