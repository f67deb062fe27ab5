//! Delinea DevOps Secrets Vault: secrets that are maps, by their path.

mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConnectCx, ErrorKind, Provider, ProviderError, Reference, Session, Taker};
use crate::api::refs::ValueOrSecret;
use crate::api::secret_store::{Capabilities, StoreKind};
use session::{DelineaSession, Map};

/// Address of the service: tenant, top-level domain, resource, and path with a slash before it.
const TEMPLATE: &str = "https://%s.secretsvaultcloud.%s/v1/%s%s";

/// `spec.provider.delinea`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Delinea {
    /// The client's id.
    pub client_id: ValueOrSecret,
    /// The client's secret.
    pub client_secret: ValueOrSecret,
    /// Name of the tenant.
    pub tenant: String,
    /// Top-level domain of the service. Left out: `com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tld: Option<String>,
    /// Address of the service, with `%s` for tenant, top-level domain, resource and path. Left out:
    /// `https://%s.secretsvaultcloud.%s/v1/%s%s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_template: Option<String>,
}

impl Delinea {
    /// Address of a resource; `path` begins with a slash, or is empty.
    fn url(&self, resource: &str, path: &str) -> Result<String, ProviderError> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let template = given(&self.url_template).unwrap_or_else(|| TEMPLATE.to_owned());
        let tld = given(&self.tld).unwrap_or_else(|| "com".to_owned());
        filled(&template, [&self.tenant, &tld, resource, path]).ok_or_else(|| {
            misconfigured("urlTemplate must hold %s for tenant, tld, resource and path, in this order, or %[1]s to %[4]s")
        })
    }
}

/// A template of Go's with texts in it: `%s` is the next one, `%[2]s` the second one. As there, all are needed unless they are numbered.
fn filled(template: &str, values: [&str; 4]) -> Option<String> {
    let (mut out, mut next, mut numbered) = (String::new(), 0, false);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let after = match after.strip_prefix('[').and_then(|tail| tail.split_once(']')) {
            Some((number, tail)) => {
                next = number.parse::<usize>().ok()?.checked_sub(1)?;
                numbered = true;
                tail
            }
            None => after,
        };
        rest = after.strip_prefix('s')?;
        out.push_str(values.get(next)?);
        next += 1;
    }
    (numbered || next == values.len()).then(|| out + rest)
}

#[async_trait]
impl Provider for Delinea {
    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadOnly
    }

    fn metric_name(&self) -> &'static str {
        "Delinea/DevOpsSecretsVault"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        if self.tenant.is_empty() {
            return Err(misconfigured("tenant must not be empty"));
        }
        self.client_id.check("clientId")?;
        self.client_secret.check("clientSecret")?;
        self.url("secrets", "").map(drop)
    }

    fn references(&self) -> Vec<Reference> {
        [&self.client_id, &self.client_secret]
            .into_iter()
            .filter_map(|v| Reference::secret(v.secret_ref.as_ref()?))
            .collect()
    }

    fn taker(&self) -> &'static dyn Taker {
        &Map
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        self.validate(cx.store_kind)?;
        Ok(Arc::new(DelineaSession::open(self, cx).await?))
    }
}

fn misconfigured(text: impl Into<String>) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
