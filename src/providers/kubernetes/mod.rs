//! Kubernetes: Secrets of another namespace or cluster.

mod asked;
mod data;
mod login;
mod push;
mod remote;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Secret;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Missing, Provider, ProviderError, Push, Reference, ReferenceKind, Session, Taker};
use crate::api::refs::{Ca, CaProviderType, NAMESPACE, SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use push::PushMetadata;
use remote::Remote;
use session::KubernetesSession;

/// `spec.provider.kubernetes`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Kubernetes {
    /// The API server. Left out: that of the cluster the operator runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Server>,
    /// How to log in: exactly one way. Left out, and no `authRef`: as nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// A kubeconfig in a Secret. It replaces `server` and `auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_ref: Option<SecretKeySelector>,
    /// Namespace whose Secrets are read and written. Left out: `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE))]
    pub remote_namespace: Option<String>,
}

/// An API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Its address; `https` where no scheme is given. Left out, or `kubernetes.default`: the cluster the operator runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

/// A way to log in: exactly one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Auth {
    /// A client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<CertAuth>,
    /// A bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
    /// A ServiceAccount of the cluster the operator runs in; a token of it is asked for and kept fresh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountSelector>,
}

/// A client certificate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertAuth {
    /// The certificate, as PEM.
    #[serde(default)]
    pub client_cert: SecretKeySelector,
    /// Its private key, as PEM.
    #[serde(default)]
    pub client_key: SecretKeySelector,
}

/// A bearer token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// The token.
    #[serde(default)]
    pub bearer_token: SecretKeySelector,
}

/// What ESO's schema puts into `server.url` by default, so that it stands in stored objects.
const DEFAULT_URL: &str = "kubernetes.default";

impl Kubernetes {
    fn remote_namespace(&self) -> &str {
        self.remote_namespace.as_deref().unwrap_or("default")
    }

    fn auth(&self) -> Auth {
        self.auth.clone().unwrap_or_default()
    }

    /// The Secrets that the login needs, with the name that ESO's messages have for each.
    fn secrets(&self) -> Vec<(&'static str, &SecretKeySelector)> {
        if let Some(kubeconfig) = &self.auth_ref {
            return vec![("AuthRef", kubeconfig)];
        }
        let Some(auth) = &self.auth else { return Vec::new() };
        let cert = auth.cert.iter().flat_map(|c| [("ClientCert", &c.client_cert), ("ClientKey", &c.client_key)]);
        cert.chain(auth.token.iter().map(|t| ("BearerToken", &t.bearer_token))).collect()
    }
}

#[async_trait]
impl Provider for Kubernetes {
    fn taker(&self) -> &'static dyn Taker {
        &session::SecretTaker
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Kubernetes"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        let misconfigured = |text: String| Err(ProviderError::new(ErrorKind::Misconfigured, text));
        if let Some(ca) = self.server.as_ref().and_then(|s| s.ca.provider.as_ref()) {
            match (kind, &ca.namespace) {
                (StoreKind::ClusterSecretStore, None) => {
                    return misconfigured("CAProvider.namespace must not be empty with ClusterSecretStore".to_owned());
                }
                (StoreKind::SecretStore, Some(_)) => {
                    return misconfigured("CAProvider.namespace must be empty with SecretStore".to_owned());
                }
                _ => {}
            }
        }
        if let Some(auth) = &self.auth {
            let ways = [auth.cert.is_some(), auth.token.is_some(), auth.service_account.is_some()];
            if ways.into_iter().filter(|way| *way).count() != 1 {
                return misconfigured("auth must have exactly one of cert, token and serviceAccount".to_owned());
            }
        }
        for (field, selector) in self.secrets() {
            if selector.name.as_deref().unwrap_or_default().is_empty() {
                return misconfigured(format!("{field}.Name cannot be empty"));
            }
            if selector.key.as_deref().unwrap_or_default().is_empty() {
                return misconfigured(format!("{field}.Key cannot be empty"));
            }
        }
        Ok(())
    }

    fn references(&self) -> Vec<Reference> {
        let secrets = self.secrets().into_iter().filter_map(|(_, selector)| {
            let name = selector.name.clone()?;
            Some(Reference { kind: ReferenceKind::Secret, namespace: selector.namespace.clone(), name })
        });
        let mut found: Vec<Reference> = secrets.collect();
        if self.auth_ref.is_some() {
            return found;
        }
        found.extend(self.auth().service_account.map(|account| Reference {
            kind: ReferenceKind::ServiceAccount,
            namespace: account.namespace,
            name: account.name,
        }));
        found.extend(self.server.as_ref().and_then(|s| s.ca.provider.as_ref()).map(|ca| Reference {
            kind: match ca.type_ {
                CaProviderType::Secret => ReferenceKind::Secret,
                CaProviderType::ConfigMap => ReferenceKind::ConfigMap,
            },
            namespace: ca.namespace.clone(),
            name: ca.name.clone(),
        }));
        found
    }

    fn converts_found(&self) -> bool {
        true
    }

    fn needs_name_or_tags(&self) -> bool {
        true
    }

    fn missing(&self) -> Missing {
        Missing::ExtractOnly
    }

    fn check_push(&self, push: &Push, kind: StoreKind) -> Result<(), ProviderError> {
        push::check(push)?;
        let metadata = PushMetadata::of(&push.place)?;
        metadata.namespace(kind)?;
        push::pushed(push, &metadata, &Secret::default()).map(drop)
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        let login = remote::in_time("the login", login::prepare(self, cx)).await?;
        let remote = Remote::open(login, cx).await?;
        Ok(Arc::new(KubernetesSession::new(remote, cx.store_kind, self.remote_namespace())))
    }
}
