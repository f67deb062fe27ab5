//! Webhook: any HTTP service, asked by requests out of templates.

pub mod request;
mod session;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session};
use crate::api::generators::{WebhookAuth, WebhookResult, WebhookSpec};
use crate::api::refs::{Ca, SecretKeySelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::WebhookSession;

/// An HTTP service. URL, headers, body and path are templates: `{{ .remoteRef.key }}`, `{{ .name-of-a-secret.key }}`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Method of the request. Left out: `GET` to read, `POST` to push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Address of the service, as a template. What it takes from `remoteRef` is escaped.
    pub url: String,
    /// Headers of the request, as templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How to log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<WebhookAuth>,
    /// Body of the request, as a template. Left out: nothing to read, the value to push.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Longest time for an answer, as a Go duration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Which part of the answer is the value; its path is a template.
    pub result: WebhookResult,
    /// Secrets whose values the templates may use. Each must carry the label `external-secrets.io/type: webhook`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<TemplateSecret>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

/// A Secret whose values the templates may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TemplateSecret {
    /// Name of the Secret in the templates.
    pub name: String,
    /// The Secret. A ClusterSecretStore must name its namespace.
    pub secret_ref: SecretKeySelector,
}

/// A generator asks as a store does.
impl From<&WebhookSpec> for Webhook {
    fn from(spec: &WebhookSpec) -> Self {
        let secret = |secret: &crate::api::generators::WebhookSecret| TemplateSecret {
            name: secret.name.clone(),
            secret_ref: (&secret.secret_ref).into(),
        };
        Self {
            method: spec.method.clone(),
            url: spec.url.clone(),
            headers: spec.headers.clone(),
            auth: spec.auth.clone(),
            body: spec.body.clone(),
            timeout: spec.timeout.clone(),
            result: spec.result.clone(),
            secrets: spec.secrets.iter().map(secret).collect(),
            ca: spec.ca.clone(),
        }
    }
}

/// What templates may take from `remoteRef` without seeing who asks.
const NAMED: [&str; 5] = ["key", "version", "property", "remoteKey", "secretKey"];

impl Webhook {
    /// The Secrets that the request is made with.
    fn selectors(&self) -> impl Iterator<Item = &SecretKeySelector> {
        let ntlm = self.auth.as_ref().and_then(|auth| auth.ntlm.as_ref());
        let login = ntlm.into_iter().flat_map(|ntlm| [&ntlm.username_secret, &ntlm.password_secret]);
        self.secrets.iter().map(|secret| &secret.secret_ref).chain(login)
    }

    /// The templates that make the request.
    fn of_request(&self) -> impl Iterator<Item = &str> {
        [self.url.as_str()].into_iter().chain(self.headers.values().map(String::as_str)).chain(self.body.as_deref())
    }

    fn path(&self) -> &str {
        self.result.json_path.as_deref().unwrap_or_default()
    }

    /// Whether a template sees the namespace that asks.
    fn sees_namespace(&self) -> bool {
        self.of_request().chain([self.path()]).any(|template| sees(template, "namespace"))
    }
}

/// Whether a template could see a part of `remoteRef`: by its name, or by all that `remoteRef` or the scope holds.
fn sees(template: &str, part: &str) -> bool {
    let rest = NAMED.iter().fold(template.to_owned(), |text, name| text.replace(&format!(".remoteRef.{name}"), ""));
    let mut words = rest.split(|c: char| c.is_whitespace() || "(){}|=,".contains(c));
    template.contains(part) || rest.contains("remoteRef") || words.any(|word| word == "." || word == "$")
}

#[async_trait]
impl Provider for Webhook {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Webhook"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        super::rest::check_ca(self.ca.provider.as_ref(), kind)?;
        if kind == StoreKind::ClusterSecretStore
            && let Some(secret) = self.selectors().find(|selector| selector.namespace.is_none())
        {
            let text =
                format!("no namespace on ClusterScoped webhook secret {}", secret.name.as_deref().unwrap_or_default());
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        request::timeout(self.timeout.as_deref(), "spec.provider.webhook").map(drop)
    }

    fn references(&self) -> Vec<Reference> {
        let secrets = self.selectors().filter_map(Reference::secret);
        secrets.chain(self.ca.provider.as_ref().map(Reference::ca)).collect()
    }

    /// Who asks is told to the templates: what a service answers to one namespace is nobody else's.
    fn is_referent(&self) -> bool {
        self.sees_namespace()
    }

    fn asks_for(&self, property: &str) -> bool {
        !property.is_empty() && self.of_request().any(|template| sees(template, "property"))
    }

    fn timeout(&self) -> Option<Duration> {
        request::asked_timeout(self.timeout.as_deref())
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        Ok(Arc::new(WebhookSession::open(self, cx).await?))
    }
}
