//! Workload identity federation: a token of another identity provider is exchanged for Google's.
//!
//! A credential configuration comes out of a ConfigMap of whoever may write it. So it must name Google's own token service, the
//! endpoint that the object itself allows, and neither a program nor a file: those would be the operator's.

use http::Method;
use serde_json::Value;

use super::{ACCESS_TOKEN, ACCOUNT_ANNOTATION, JWT, Login, SCOPE, TOKEN_LIFE, field, misconfigured, text};
use crate::api::generators::{GcrAwsCredentials, GcrConfigMapRef, GcrWorkloadIdentityFederation};
use crate::api::refs::ServiceAccountSelector;
use crate::outbound::{Call, TlsOptions};
use crate::providers::aws::identity::{AccessKey, subject_token};
use crate::providers::oauth::{AccessToken, TOKEN_EXCHANGE};
use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Type of a signed request to AWS.
const AWS_REQUEST: &str = "urn:ietf:params:aws:token-type:aws4_request";

/// What is exchanged, and for whom.
struct Subject {
    token: SecretBytes,
    kind: String,
    audience: String,
    /// The service account that is impersonated then, and for how many seconds.
    account: Option<String>,
    life: Option<u32>,
}

impl Login<'_> {
    pub(super) async fn with_federation(&self, spec: &GcrWorkloadIdentityFederation) -> Result<AccessToken, ProviderError> {
        let path = format!("{}.workloadIdentityFederation", self.path);
        let subject = match (&spec.cred_config, &spec.service_account_ref, &spec.aws_security_credentials) {
            (Some(config), None, None) => self.of_config(config, spec, &path).await?,
            (None, Some(account), None) => self.of_account(account, spec, &path).await?,
            (None, None, Some(aws)) => self.of_aws(aws, spec, &path).await?,
            _ => {
                return Err(misconfigured(format!(
                    "{path}: exactly one of credConfig, awsSecurityCredentials or serviceAccountRef must be provided"
                )));
            }
        };
        let fields = [
            ("grant_type", TOKEN_EXCHANGE),
            ("audience", &subject.audience),
            ("scope", SCOPE),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token", text(&subject.token, &path)?),
            ("subject_token_type", &subject.kind),
        ];
        let call = Call::new(Method::POST, &self.endpoints.sts, &path)?.form(&fields);
        let token = self.exchange(call, "login to Google Cloud with a federated token").await?;
        match &subject.account {
            Some(email) => self.impersonate(&token, email, subject.life).await,
            None => Ok(token),
        }
    }

    async fn of_account(
        &self,
        account: &ServiceAccountSelector,
        spec: &GcrWorkloadIdentityFederation,
        path: &str,
    ) -> Result<Subject, ProviderError> {
        let what = format!("{path}.serviceAccountRef");
        let missing = || misconfigured(format!("{path}.audience must be provided with serviceAccountRef"));
        let audience = named(spec.audience.as_deref()).ok_or_else(missing)?;
        let annotations = self.cx.service_account_annotations(account, &what).await?;
        let token = self.cx.token(account, account.audiences.clone(), Some(TOKEN_LIFE), &what).await?;
        let email = named(spec.gcp_service_account_email.as_deref());
        let account = email.or_else(|| named(annotations.get(ACCOUNT_ANNOTATION).map(String::as_str)));
        Ok(Subject { token, kind: JWT.to_owned(), audience, account, life: None })
    }

    /// As somebody that AWS knows.
    async fn of_aws(
        &self,
        aws: &GcrAwsCredentials,
        spec: &GcrWorkloadIdentityFederation,
        path: &str,
    ) -> Result<Subject, ProviderError> {
        let what = format!("{path}.awsSecurityCredentials");
        let missing = || misconfigured(format!("{path}.audience must be provided with awsSecurityCredentials"));
        let audience = named(spec.audience.as_deref()).ok_or_else(missing)?;
        let (reference, of_secret) = (&aws.aws_credentials_secret_ref, format!("{what}.awsCredentialsSecretRef"));
        let secret = self.cx.whole_secret((reference.namespace.as_deref(), &reference.name), &of_secret).await?;
        let value = |key: &str| secret.get(key).and_then(SecretBytes::expose_str).map(str::trim).filter(|v| !v.is_empty());
        let required = |key: &str| {
            value(key)
                .ok_or_else(|| misconfigured(format!("{of_secret}: Secret {:?} has no text at key {key:?}", reference.name)))
        };
        let key = AccessKey {
            id: required("aws_access_key_id")?,
            secret: required("aws_secret_access_key")?,
            session_token: value("aws_session_token"),
        };
        let token = subject_token(&key, &aws.region, &audience, self.now.into(), &what)?;
        let account = named(spec.gcp_service_account_email.as_deref());
        Ok(Subject { token, kind: AWS_REQUEST.to_owned(), audience, account, life: None })
    }

    async fn of_config(
        &self,
        config: &GcrConfigMapRef,
        spec: &GcrWorkloadIdentityFederation,
        path: &str,
    ) -> Result<Subject, ProviderError> {
        let what = format!("{path}.credConfig");
        let bad = |text: &str| misconfigured(format!("{what}: {text}"));
        let json = self.cx.config_map((config.namespace.as_deref(), &config.name, &config.key), &what).await?;
        let config: Value = serde_json::from_str(&json).map_err(|_| bad("the value is not JSON"))?;
        if field(&config, "type") != Some("external_account") {
            return Err(bad("\"type\" is not \"external_account\""));
        }
        if field(&config, "token_url").is_some_and(|url| url != self.endpoints.sts) {
            return Err(bad(&format!("\"token_url\" must be {}", self.endpoints.sts)));
        }
        let given = named(spec.audience.as_deref()).or_else(|| named(field(&config, "audience")));
        let audience = given.ok_or_else(|| bad("\"audience\" is missing"))?;
        let account = match named(spec.gcp_service_account_email.as_deref()) {
            Some(email) => Some(email),
            None => match field(&config, "service_account_impersonation_url") {
                Some(url) => Some(account_of(url).ok_or_else(|| {
                    bad("\"service_account_impersonation_url\" is not that of a service account at iamcredentials.googleapis.com")
                })?),
                None => None,
            },
        };
        let life = config.pointer("/service_account_impersonation/token_lifetime_seconds").and_then(Value::as_u64);
        let token = self.fetch(config.get("credential_source").unwrap_or(&Value::Null), spec, &what).await?;
        let kind = field(&config, "subject_token_type").unwrap_or(JWT).to_owned();
        Ok(Subject { token, kind, audience, account, life: life.and_then(|seconds| u32::try_from(seconds).ok()) })
    }

    /// The other provider's token, from where the configuration says and the object allows.
    async fn fetch(
        &self,
        source: &Value,
        spec: &GcrWorkloadIdentityFederation,
        what: &str,
    ) -> Result<SecretBytes, ProviderError> {
        let bad = |text: &str| misconfigured(format!("{what}: {text}"));
        for (name, why) in [
            ("executable", "would run a program in the operator's Pod"),
            ("file", "would read a file of the operator's"),
            ("environment_id", "would use the identity of the operator's node"),
        ] {
            if source.get(name).is_some_and(|value| !value.is_null()) {
                return Err(bad(&format!("\"credential_source.{name}\" is not allowed: it {why}")));
            }
        }
        let url = field(source, "url").ok_or_else(|| bad("\"credential_source.url\" is missing"))?;
        if spec.external_token_endpoint.as_deref() != Some(url) {
            return Err(bad("\"credential_source.url\" does not match externalTokenEndpoint"));
        }
        let mut call = Call::new(Method::GET, url, what)?;
        for (name, value) in source.get("headers").and_then(Value::as_object).into_iter().flatten() {
            call = call.header(name, value.as_str().unwrap_or_default().as_bytes(), what)?;
        }
        let asked = "token of the external token endpoint";
        let answer = self.cx.outbound.client(&TlsOptions::default(), asked)?.send(call, asked).await?.success(asked)?;
        let format = source.get("format").unwrap_or(&Value::Null);
        if field(format, "type") != Some("json") {
            return Ok(answer.body);
        }
        let name =
            field(format, "subject_token_field_name").ok_or_else(|| bad("\"subject_token_field_name\" is missing"))?;
        let object: Value = answer.json(asked)?;
        field(&object, name).map(SecretBytes::from).ok_or_else(|| {
            ProviderError::new(ErrorKind::Malformed, format!("{asked}: the answer does not hold the field {name:?}"))
        })
    }
}

fn named(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The service account of a URL that gives tokens of it.
fn account_of(url: &str) -> Option<String> {
    let start = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/";
    let email = url.strip_prefix(start)?.strip_suffix(":generateAccessToken")?;
    named(Some(email).filter(|email| !email.contains(|c: char| c.is_whitespace() || "/?#:".contains(c))))
}
