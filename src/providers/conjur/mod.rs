//! CyberArk Conjur: the variables that a role may read.

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
use crate::api::refs::{CaProvider, SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::ConjurSession;

/// `spec.provider.conjur`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Conjur {
    /// Address of the server.
    pub url: String,
    /// How to log in: exactly one way.
    pub auth: Auth,
    /// Certificate authority of the server, as PEM or base64 of PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Where the certificate authority of the server is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_provider: Option<CaProvider>,
}

/// How to log in: exactly one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Auth {
    /// With an API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apikey: Option<ApiKey>,
    /// With a token whose issuer Conjur trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// With a client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<Cert>,
}

/// An API key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Account of the organization.
    pub account: String,
    /// Where the name of the user or host is: `host/my-app`.
    pub user_ref: SecretKeySelector,
    /// Where the API key is.
    pub api_key_ref: SecretKeySelector,
}

/// A token whose issuer Conjur trusts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Jwt {
    /// Account of the organization.
    pub account: String,
    /// Id of the authenticator.
    #[serde(rename = "serviceID")]
    pub service_id: String,
    /// Host to log in as, where the authenticator does not take it from the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Where a token is. Its key left out: `token`. Not heeded beside `serviceAccountRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeySelector>,
    /// The ServiceAccount whose token is asked for. Without audiences it is for `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountSelector>,
}

/// A client certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cert {
    /// Account of the organization.
    pub account: String,
    /// Id of the authenticator.
    #[serde(rename = "serviceID")]
    pub service_id: String,
    /// Host to log in as. Left out: what the certificate says (SPIFFE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// Where the certificate is, as PEM.
    pub client_cert_ref: SecretKeySelector,
    /// Where its private key is, as PEM.
    pub client_key_ref: SecretKeySelector,
}

impl Conjur {
    fn url(&self) -> &str {
        self.url.trim().trim_end_matches('/')
    }

    fn account(&self) -> &str {
        let Auth { apikey, jwt, cert } = &self.auth;
        let accounts =
            [apikey.as_ref().map(|a| &a.account), jwt.as_ref().map(|a| &a.account), cert.as_ref().map(|a| &a.account)];
        accounts.into_iter().flatten().next().map_or("", String::as_str)
    }

    /// The Secrets' keys that the login needs, each with its field.
    fn selectors(&self) -> Vec<(&'static str, &SecretKeySelector)> {
        let Auth { apikey, jwt, cert } = &self.auth;
        let key =
            apikey.iter().flat_map(|a| [("auth.apikey.userRef", &a.user_ref), ("auth.apikey.apiKeyRef", &a.api_key_ref)]);
        let token = jwt.iter().filter(|a| a.service_account_ref.is_none()).filter_map(|a| a.secret_ref.as_ref());
        let cert = cert
            .iter()
            .flat_map(|a| [("auth.cert.clientCertRef", &a.client_cert_ref), ("auth.cert.clientKeyRef", &a.client_key_ref)]);
        key.chain(token.map(|selector| ("auth.jwt.secretRef", selector))).chain(cert).collect()
    }
}

#[async_trait]
impl Provider for Conjur {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadOnly
    }

    fn metric_name(&self) -> &'static str {
        "CyberArk/Conjur"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        let Auth { apikey, jwt, cert } = &self.auth;
        if self.url().is_empty() {
            return Err(misconfigured("conjur URL cannot be empty"));
        }
        if [apikey.is_some(), jwt.is_some(), cert.is_some()].into_iter().filter(|way| *way).count() != 1 {
            return Err(misconfigured("auth must have exactly one of apikey, jwt and cert"));
        }
        if self.account().is_empty() {
            return Err(misconfigured("auth: account cannot be empty"));
        }
        let services = [jwt.as_ref().map(|a| &a.service_id), cert.as_ref().map(|a| &a.service_id)];
        if services.into_iter().flatten().any(String::is_empty) {
            return Err(misconfigured("auth: serviceID cannot be empty"));
        }
        if jwt.as_ref().is_some_and(|a| a.secret_ref.is_none() && a.service_account_ref.is_none()) {
            return Err(misconfigured("auth.jwt: one of serviceAccountRef and secretRef must be set"));
        }
        for (field, selector) in self.selectors() {
            if selector.name.as_deref().unwrap_or_default().is_empty() {
                return Err(misconfigured(format!("{field}.name cannot be empty")));
            }
        }
        check_ca(self.ca_provider.as_ref(), kind)
    }

    fn references(&self) -> Vec<Reference> {
        let secrets = self.selectors().into_iter().filter_map(|(_, selector)| Reference::secret(selector));
        let account =
            self.auth.jwt.as_ref().and_then(|jwt| jwt.service_account_ref.as_ref()).map(Reference::service_account);
        secrets.chain(account).chain(self.ca_provider.as_ref().map(Reference::ca)).collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        self.validate(cx.store_kind)?;
        Ok(Arc::new(ConjurSession::open(self, cx).await?))
    }
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
