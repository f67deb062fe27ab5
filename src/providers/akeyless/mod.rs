//! Akeyless: static, dynamic and rotated secrets and certificates, from its service or a gateway of one's own.

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
use crate::api::refs::{Ca, SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::AkeylessSession;

/// Akeyless' own service.
const SERVICE: &str = "https://api.akeyless.io";

/// `spec.provider.akeyless`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Akeyless {
    /// Address of the API: of Akeyless' service, or of a gateway.
    #[serde(rename = "akeylessGWApiURL")]
    pub url: String,
    /// How to log in.
    #[serde(rename = "authSecretRef")]
    pub auth: Auth,
    /// Whether a gateway asks Akeyless, and does not answer from its cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_cache: Option<bool>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

/// How to log in: with `kubernetesAuth` where it is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// With what a Secret says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<AuthSecretRef>,
    /// With a ServiceAccount's token, which the gateway reviews.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_auth: Option<KubernetesAuth>,
    /// A ServiceAccount that stands for an identity of Azure. Not served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
}

/// What a Secret says of a login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthSecretRef {
    /// Where the access id is.
    #[serde(rename = "accessID", default, skip_serializing_if = "Option::is_none")]
    pub access_id: Option<SecretKeySelector>,
    /// Where the kind of login is: `api_key`, `access_key` or `k8s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_type: Option<SecretKeySelector>,
    /// Where the access key is, or the name of the Kubernetes configuration at the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_type_param: Option<SecretKeySelector>,
}

/// A ServiceAccount's token, which the gateway reviews.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesAuth {
    /// Access id of the auth method.
    #[serde(rename = "accessID")]
    pub access_id: String,
    /// Name of the Kubernetes configuration at the gateway.
    pub k8s_conf_name: String,
    /// The ServiceAccount whose token is asked for. Its `audiences` must be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
    /// Where a token is. Its key left out: `token`. Neither of both: the operator's own token, in a ClusterSecretStore only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
}

impl Akeyless {
    fn url(&self) -> &str {
        let url = self.url.trim().trim_end_matches('/');
        if url.is_empty() { SERVICE } else { url }
    }

    /// The Secrets' keys that the login needs, each with its field.
    fn selectors(&self) -> Vec<(&'static str, &SecretKeySelector)> {
        if let Some(kubernetes) = &self.auth.kubernetes_auth {
            let token = kubernetes.secret_ref.iter().filter(|_| kubernetes.service_account_ref.is_none());
            return token.map(|token| ("kubernetesAuth.secretRef", token)).collect();
        }
        let Some(secret) = &self.auth.secret_ref else { return Vec::new() };
        let fields = [
            ("secretRef.accessID", &secret.access_id),
            ("secretRef.accessType", &secret.access_type),
            ("secretRef.accessTypeParam", &secret.access_type_param),
        ];
        let named = |selector: &&SecretKeySelector| selector.name.as_deref().is_some_and(|name| !name.is_empty());
        fields.into_iter().filter_map(|(field, selector)| Some((field, selector.as_ref().filter(named)?))).collect()
    }
}

#[async_trait]
impl Provider for Akeyless {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn needs_name_or_tags(&self) -> bool {
        true
    }

    fn metric_name(&self) -> &'static str {
        "AKEYLESSLESS/SecretsManager"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        check_ca(self.ca.provider.as_ref(), kind)?;
        let found = |field: &str| self.selectors().iter().any(|(name, _)| *name == field);
        match &self.auth.kubernetes_auth {
            Some(auth) if auth.access_id.is_empty() => Err(misconfigured("missing kubernetes auth-method access-id")),
            Some(auth) if auth.k8s_conf_name.is_empty() => Err(misconfigured("missing kubernetes config name")),
            Some(auth) if auth.service_account_ref.as_ref().is_some_and(|account| account.audiences.is_empty()) => {
                Err(misconfigured(
                    "authSecretRef.kubernetesAuth.serviceAccountRef.audiences must be set: a token without one is good for the \
                     API server, and whoever gets it could act as the ServiceAccount; name the audience that the gateway reviews",
                ))
            }
            Some(_) => Ok(()),
            None if self.auth.service_account_ref.is_some() => {
                let text = "authSecretRef.serviceAccountRef is not served by this version of keyferry: use secretRef or kubernetesAuth";
                Err(ProviderError::new(ErrorKind::Unsupported, text))
            }
            None if !found("secretRef.accessID") => Err(misconfigured("missing akeyless accessID name")),
            None if !found("secretRef.accessType") => Err(misconfigured("missing akeyless accessType name")),
            None => Ok(()),
        }
    }

    fn references(&self) -> Vec<Reference> {
        let secrets = self.selectors().into_iter().filter_map(|(_, selector)| Reference::secret(selector));
        let account = self.auth.kubernetes_auth.as_ref().and_then(|auth| auth.service_account_ref.as_ref());
        let account = account.map(Reference::service_account);
        secrets.chain(account).chain(self.ca.provider.as_ref().map(Reference::ca)).collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        self.validate(cx.store_kind)?;
        Ok(Arc::new(AkeylessSession::open(self, cx).await?))
    }
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
