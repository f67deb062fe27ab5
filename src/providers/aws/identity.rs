//! Proof of an AWS identity for somebody else: a signed request to STS that whoever gets it can send, and that says nothing but who
//! signed it. Google's token service takes one as a token (`aws4_request`).

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::box_error::BoxError;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::auth::visible;
use super::{check_region, misconfigured};
use crate::providers::ProviderError;
use crate::secret_bytes::SecretBytes;

/// An access key.
pub struct AccessKey<'a> {
    /// Its id.
    pub id: &'a str,
    /// The key.
    pub secret: &'a str,
    /// What goes with a temporary one.
    pub session_token: Option<&'a str>,
}

/// A signed `GetCallerIdentity` in the form that Google's token service takes: JSON of method, URL and headers, percent-encoded.
/// `audience` is signed too, so that the token is of use to nobody else; `now` is when it is signed, and it holds for some minutes.
///
/// # Errors
/// `Misconfigured` where the region is none, or the request cannot be signed.
pub fn subject_token(
    key: &AccessKey<'_>,
    region: &str,
    audience: &str,
    now: SystemTime,
    what: &str,
) -> Result<SecretBytes, ProviderError> {
    check_region(region).map_err(|_| misconfigured(format!("{what}.region: {region:?} is not a region")))?;
    let parts = [Some(key.id), Some(key.secret), key.session_token];
    parts.into_iter().flatten().try_for_each(|part| visible(part, what).map(drop))?;
    let signed = signed(key, region, audience, now);
    signed.map_err(|_| misconfigured(format!("{what}: the request to AWS cannot be signed")))
}

fn signed(key: &AccessKey<'_>, region: &str, audience: &str, now: SystemTime) -> Result<SecretBytes, BoxError> {
    let host = format!("sts.{region}.amazonaws.com");
    let url = format!("https://{host}?Action=GetCallerIdentity&Version=2011-06-15");
    let credentials = Credentials::new(key.id, key.secret, key.session_token.map(Into::into), None, "store");
    let headers = [("host", host.as_str()), ("x-goog-cloud-target-resource", audience)];
    let headers = signed_headers(&url, region, &headers, "", &credentials, now)?;
    let headers: Vec<_> = headers.into_iter().map(|(name, value)| json!({"key": name, "value": value})).collect();
    let token = json!({"url": url, "method": "POST", "headers": headers}).to_string();
    Ok(SecretBytes::from(utf8_percent_encode(&token, NON_ALPHANUMERIC).to_string()))
}

/// Signs a POST to STS; gives its headers with those that the signature adds.
pub(super) fn signed_headers(
    url: &str,
    region: &str,
    headers: &[(&str, &str)],
    body: &str,
    credentials: &Credentials,
    now: SystemTime,
) -> Result<Vec<(String, String)>, BoxError> {
    let identity = credentials.clone().into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now)
        .settings(SigningSettings::default())
        .build()?
        .into();
    let signable = SignableRequest::new("POST", url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes()))?;
    let (instructions, _) = sign(signable, &parameters)?.into_parts();
    let all = headers.iter().copied().chain(instructions.headers());
    Ok(all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
