//! Delinea Secret Server: secrets of a template, each with fields.

mod auth;
mod secret;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rest::check_ca;
use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session, Taker};
use crate::api::refs::{Ca, ValueOrSecret};
use crate::api::secret_store::{Capabilities, StoreKind};
use session::SecretServerSession;

/// `spec.provider.secretserver`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretServer {
    /// Address of the server: `https://shop.secretservercloud.com`.
    #[serde(rename = "serverURL")]
    pub server_url: String,
    /// Domain of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<ValueOrSecret>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<ValueOrSecret>,
    /// An access token, in place of a user and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<ValueOrSecret>,
    /// Whom to trust as the server's certificate authority.
    #[serde(flatten)]
    pub ca: Ca,
}

impl SecretServer {
    fn url(&self) -> &str {
        self.server_url.trim().trim_end_matches('/')
    }

    /// What the login needs, each with its field.
    fn credentials(&self) -> Vec<(&'static str, &ValueOrSecret)> {
        match &self.token {
            Some(token) => vec![("token", token)],
            None => [("username", &self.username), ("password", &self.password)]
                .into_iter()
                .filter_map(|(field, value)| Some((field, value.as_ref()?)))
                .collect(),
        }
    }
}

#[async_trait]
impl Provider for SecretServer {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "Delinea/SecretServer"
    }

    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError> {
        if self.url().is_empty() {
            return Err(misconfigured("serverURL must be set"));
        }
        if self.token.is_none() && self.username.is_none() {
            return Err(misconfigured("username must not be empty"));
        }
        if self.token.is_none() && self.password.is_none() {
            return Err(misconfigured("password must be set"));
        }
        for (field, value) in self.credentials() {
            value.check(field)?;
        }
        check_ca(self.ca.provider.as_ref(), kind)
    }

    fn references(&self) -> Vec<Reference> {
        let secrets = self.credentials().into_iter().filter_map(|(_, value)| Reference::secret(value.secret_ref.as_ref()?));
        secrets.chain(self.ca.provider.as_ref().map(Reference::ca)).collect()
    }

    fn taker(&self) -> &'static dyn Taker {
        &secret::Fields
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        self.validate(cx.store_kind)?;
        Ok(Arc::new(SecretServerSession::open(self, cx).await?))
    }
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
