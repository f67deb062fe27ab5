//! AWS: Secrets Manager, Parameter Store and Certificate Manager. The login, the client and the session are shared; each service
//! is one folder.

mod auth;
mod batch;
pub mod caller;
mod certificate_manager;
mod client;
#[cfg(test)]
mod conformance;
mod errors;
pub mod identity;
mod parameter_store;
mod secrets_manager;
mod session;
mod tags;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tokens;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Plain, Provider, ProviderError, Reference, ReferenceKind, Session, Taker};
use crate::api::refs::{SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::LoggedIn;

/// `spec.provider.aws`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Aws {
    /// Which service of AWS holds the secrets.
    pub service: Service,
    /// Region of the service: `eu-west-1`.
    pub region: String,
    /// How to log in. Left out: with the operator's own credentials, from its environment, EKS or EC2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// ARN of an IAM role that is assumed after the login and after `additionalRoles`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// ARNs of IAM roles that are assumed one after the other, before `role`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub additional_roles: Vec<String>,
    /// External id that `role`'s trust policy asks for.
    #[serde(rename = "externalID", default, skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Session tags for `role`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session_tags: Vec<SessionTag>,
    /// Keys of those session tags that go on to roles assumed later.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitive_tag_keys: Vec<String>,
    /// Whether tags that name the store and the ExternalSecret's namespace take the place of `sessionTags`. Left out: `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_tags_policy: Option<SessionTagsPolicy>,
    /// More session tags for policy `Custom`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "!('esoNamespace' in self) && !('esoStoreName' in self) && !('esoStoreKind' in self)",
        "message": "customSessionTags must not contain esoNamespace, esoStoreName or esoStoreKind: sessionTagsPolicy sets them",
    }]))]
    pub custom_session_tags: BTreeMap<String, String>,
    /// Put in front of every key that is read or written by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// How Secrets Manager deletes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets_manager: Option<SecretsManagerOptions>,
}

/// A service of AWS that holds secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Service {
    /// Secrets Manager.
    #[default]
    SecretsManager,
    /// Systems Manager Parameter Store.
    ParameterStore,
    /// Certificate Manager.
    CertificateManager,
}

/// How to log in to AWS: `jwt` goes before `secretRef`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// With an access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<AccessKeyRef>,
    /// With a ServiceAccount's token, as "IAM roles for service accounts" does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,
}

/// An access key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AccessKeyRef {
    /// Where the access key id is.
    #[serde(rename = "accessKeyIDSecretRef", default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretKeySelector>,
    /// Where the secret access key is.
    #[serde(rename = "secretAccessKeySecretRef", default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretKeySelector>,
    /// Where the session token is, for temporary credentials.
    #[serde(rename = "sessionTokenSecretRef", default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretKeySelector>,
}

/// A ServiceAccount whose annotation `eks.amazonaws.com/role-arn` names the role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuth {
    /// The ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
}

/// A session tag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionTag {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// Which session tags a role is assumed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SessionTagsPolicy {
    /// `sessionTags`.
    #[default]
    None,
    /// `esoNamespace`, `esoStoreName` and `esoStoreKind`.
    Simple,
    /// Those of `Simple`, and `customSessionTags`.
    Custom,
}

/// How Secrets Manager deletes a secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretsManagerOptions {
    /// At once, with no way back. Not together with `recoveryWindowInDays`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_delete_without_recovery: Option<bool>,
    /// For how many days it can be restored: 7 to 30. Left out or 0: AWS's default, 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_window_in_days: Option<i64>,
}

impl Aws {
    /// All selectors of the login, each with its path in the store.
    fn selectors(&self) -> Vec<Selector<'_>> {
        let Some(auth) = &self.auth else { return Vec::new() };
        let mut all = Vec::new();
        if let Some(account) = auth.jwt.as_ref().and_then(|j| j.service_account_ref.as_ref()) {
            all.push(Selector {
                kind: ReferenceKind::ServiceAccount,
                namespace: account.namespace.as_deref(),
                name: &account.name,
                key: None,
                path: JwtAuth::PATH,
            });
        }
        if let Some(keys) = &auth.secret_ref {
            for (selector, path) in keys.selectors() {
                all.push(Selector {
                    kind: ReferenceKind::Secret,
                    namespace: selector.namespace.as_deref(),
                    name: selector.name.as_deref().unwrap_or_default(),
                    key: Some(selector.key.as_deref().unwrap_or_default()),
                    path,
                });
            }
        }
        all
    }

    /// Whether the session tags name the consumer's namespace, so that consumers cannot share a login.
    fn tags_name_consumer(&self) -> bool {
        self.role().is_some() && self.session_tags_policy.unwrap_or_default() != SessionTagsPolicy::None
    }

    fn role(&self) -> Option<&str> {
        self.role.as_deref().filter(|r| !r.is_empty())
    }
}

impl JwtAuth {
    const PATH: &str = "spec.provider.aws.auth.jwt.serviceAccountRef";
}

impl AccessKeyRef {
    const ACCESS_KEY_ID: &str = "spec.provider.aws.auth.secretRef.accessKeyIDSecretRef";
    const SECRET_ACCESS_KEY: &str = "spec.provider.aws.auth.secretRef.secretAccessKeySecretRef";
    const SESSION_TOKEN: &str = "spec.provider.aws.auth.secretRef.sessionTokenSecretRef";

    /// The references that are set, each with its path in a store of AWS.
    pub(in crate::providers) fn selectors(&self) -> impl Iterator<Item = (&SecretKeySelector, &'static str)> {
        [
            (&self.access_key_id, Self::ACCESS_KEY_ID),
            (&self.secret_access_key, Self::SECRET_ACCESS_KEY),
            (&self.session_token, Self::SESSION_TOKEN),
        ]
        .into_iter()
        .filter_map(|(selector, path)| Some((selector.as_ref()?, path)))
    }
}

/// A reference of the login, flattened. `key` is `None` where the kind has none.
struct Selector<'a> {
    kind: ReferenceKind,
    namespace: Option<&'a str>,
    name: &'a str,
    key: Option<&'a str>,
    path: &'static str,
}

#[async_trait]
impl Provider for Aws {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        match self.service {
            Service::SecretsManager => "AWS/SecretsManager",
            Service::ParameterStore => "AWS/ParameterStore",
            Service::CertificateManager => "AWS/CertificateManager",
        }
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        check_region(&self.region)?;
        check_login(self)?;
        self.secrets_manager.as_ref().map_or(Ok(()), check_deletion)
    }

    fn references(&self) -> Vec<Reference> {
        let named = self.selectors().into_iter().filter(|s| !s.name.is_empty());
        named.map(|s| Reference { kind: s.kind, namespace: s.namespace.map(Into::into), name: s.name.into() }).collect()
    }

    fn is_referent(&self) -> bool {
        self.tags_name_consumer() || self.references().iter().any(|r| r.namespace.is_none())
    }

    fn needs_name_or_tags(&self) -> bool {
        true
    }

    fn taker(&self) -> &'static dyn Taker {
        match self.service {
            Service::SecretsManager | Service::ParameterStore => &Plain,
            Service::CertificateManager => &certificate_manager::Bundle,
        }
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        self.validate(cx.store_kind)?;
        let sdk = client::Sdk::new(self, cx).await?;
        let login = auth::login(self, cx, &sdk).await?;
        let provider = SharedCredentialsProvider::from(login.clone() as Arc<dyn ProvideCredentials>);
        Ok(match self.service {
            Service::SecretsManager => Arc::new(LoggedIn::new(
                secrets_manager::SecretsManager::new(self, cx, sdk.secrets_manager(provider)?),
                login,
            )),
            Service::ParameterStore => Arc::new(LoggedIn::new(
                parameter_store::ParameterStore::new(self, cx, sdk.parameter_store(provider)?),
                login,
            )),
            Service::CertificateManager => {
                let (client, tagging) = (sdk.certificate_manager(provider.clone())?, sdk.tagging(provider)?);
                Arc::new(LoggedIn::new(certificate_manager::CertificateManager::new(self, client, tagging), login))
            }
        })
    }
}

fn misconfigured(detail: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, detail)
}

/// A region becomes part of a host name, so it must be one label of it.
fn check_region(region: &str) -> Result<(), ProviderError> {
    let is_label = !region.is_empty()
        && region.len() <= 63
        && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !region.starts_with('-')
        && !region.ends_with('-');
    if is_label {
        return Ok(());
    }
    Err(misconfigured(format!("spec.provider.aws.region: {region:?} is not a region: give one such as eu-west-1")))
}

fn check_login(aws: &Aws) -> Result<(), ProviderError> {
    for selector in aws.selectors() {
        if selector.name.is_empty() {
            return Err(misconfigured(format!("{}.name is missing", selector.path)));
        }
        if selector.key.is_some_and(str::is_empty) {
            return Err(misconfigured(format!("{}.key is missing", selector.path)));
        }
    }
    let Some(auth) = &aws.auth else { return Ok(()) };
    match (&auth.jwt, &auth.secret_ref) {
        (Some(jwt), _) if jwt.service_account_ref.is_none() => Err(misconfigured(format!("{} is missing", JwtAuth::PATH))),
        (None, Some(keys)) if keys.access_key_id.is_none() => {
            Err(misconfigured(format!("{} is missing", AccessKeyRef::ACCESS_KEY_ID)))
        }
        (None, Some(keys)) if keys.secret_access_key.is_none() => {
            Err(misconfigured(format!("{} is missing", AccessKeyRef::SECRET_ACCESS_KEY)))
        }
        _ => Ok(()),
    }
}

fn check_deletion(options: &SecretsManagerOptions) -> Result<(), ProviderError> {
    let window = options.recovery_window_in_days.unwrap_or(0);
    if window == 0 {
        return Ok(());
    }
    if options.force_delete_without_recovery == Some(true) {
        return Err(misconfigured(
            "spec.provider.aws.secretsManager: forceDeleteWithoutRecovery and recoveryWindowInDays exclude each other: \
             leave one out",
        ));
    }
    if !(7..=30).contains(&window) {
        return Err(misconfigured(format!(
            "spec.provider.aws.secretsManager.recoveryWindowInDays: {window} is not between 7 and 30"
        )));
    }
    Ok(())
}
