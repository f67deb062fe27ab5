//! `spec.provider.gcpsm`: its fields, as ESO has them.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::Client;
use super::misconfigured;
use super::session::{GcpSession, Values};
use crate::api::generators::{GcrAuth, GcrSecretRef, GcrWorkloadIdentity, GcrWorkloadIdentityFederation};
use crate::api::refs::ServiceAccountSelector;
use crate::api::secret_store::{Capabilities, StoreKind};
use crate::providers::{ConnectCx, Provider, ProviderError, Reference, ReferenceKind, Session, Taker};

/// Where the block stands in a store.
pub(super) const PATH: &str = "spec.provider.gcpsm";

/// Google Cloud Secret Manager.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretManager {
    /// How to log in: the first way that is set. Left out: as the operator itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Project of the secrets. Left out: that of the cluster, unless a key logs in.
    #[serde(rename = "projectID", default, skip_serializing_if = "Option::is_none")]
    pub project_id: Option<String>,
    /// Location of regional secrets: `europe-west3`. Left out: global ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// What is read where no version is asked for and the latest is disabled or destroyed. Left out: `LatestOrFail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_version_selection_policy: Option<VersionPolicy>,
}

/// What is read where the latest version is disabled or destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum VersionPolicy {
    /// Nothing: it is an error.
    #[default]
    LatestOrFail,
    /// The latest version that is enabled.
    LatestOrFetch,
}

/// How to log in to Google Cloud.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// With a service account's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<GcrSecretRef>,
    /// With a ServiceAccount's token, as GKE does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentity>,
    /// With a token of another identity provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity_federation: Option<GcrWorkloadIdentityFederation>,
}

/// A ServiceAccount of a GKE cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadIdentity {
    /// The ServiceAccount.
    pub service_account_ref: ServiceAccountSelector,
    /// Location of the cluster. Left out: what the operator's machine says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_location: Option<String>,
    /// Name of the cluster. Left out: what the operator's machine says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Project of the cluster. Left out: what the operator's machine says of itself, else `projectID`.
    #[serde(rename = "clusterProjectID", default, skip_serializing_if = "Option::is_none")]
    pub cluster_project_id: Option<String>,
}

/// What is left out is empty there.
impl From<WorkloadIdentity> for GcrWorkloadIdentity {
    fn from(identity: WorkloadIdentity) -> Self {
        Self {
            service_account_ref: identity.service_account_ref,
            cluster_location: identity.cluster_location.unwrap_or_default(),
            cluster_name: identity.cluster_name.unwrap_or_default(),
            cluster_project_id: identity.cluster_project_id,
        }
    }
}

/// A text that is set and not empty.
fn given(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}

impl SecretManager {
    pub(super) fn location(&self) -> Option<&str> {
        given(&self.location)
    }

    /// The project that the block names: its own, else that of the cluster.
    pub(super) fn project(&self) -> Option<&str> {
        given(&self.project_id).or_else(|| self.identity().and_then(|identity| given(&identity.cluster_project_id)))
    }

    fn identity(&self) -> Option<&WorkloadIdentity> {
        self.auth.as_ref()?.workload_identity.as_ref()
    }

    /// The login, in the form that the container registry's has too.
    pub(super) fn login(&self) -> GcrAuth {
        let auth = self.auth.clone().unwrap_or_default();
        let workload_identity = auth.workload_identity.map(Into::into);
        let federation = auth.workload_identity_federation;
        GcrAuth { secret_ref: auth.secret_ref, workload_identity, workload_identity_federation: federation }
    }

    fn check_key(&self) -> Result<(), ProviderError> {
        let Some(key) = self.auth.as_ref().and_then(|auth| auth.secret_ref.as_ref()) else { return Ok(()) };
        let path = format!("{PATH}.auth.secretRef.secretAccessKeySecretRef");
        let Some(selector) = &key.secret_access_key_secret_ref else { return Ok(()) };
        for (field, value) in [("name", &selector.name), ("key", &selector.key)] {
            if given(value).is_none() {
                return Err(misconfigured(format!("{path}.{field} is missing")));
            }
        }
        if self.project().is_none() {
            return Err(misconfigured(format!("unable to find ProjectID in storeSpec: set {PATH}.projectID")));
        }
        Ok(())
    }
}

#[async_trait]
impl Provider for SecretManager {
    fn taker(&self) -> &'static dyn Taker {
        &Values
    }

    fn converts_found(&self) -> bool {
        true
    }

    fn needs_name_or_tags(&self) -> bool {
        true
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ReadWrite
    }

    fn metric_name(&self) -> &'static str {
        "GCP/SecretManager"
    }

    fn validate(&self, _: StoreKind) -> Result<(), ProviderError> {
        // It becomes part of a host name that a login is sent to.
        let is_label = |text: &str| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
        };
        if self.location().is_some_and(|location| !is_label(location)) {
            return Err(misconfigured(format!("{PATH}.location is no location: give one such as europe-west3")));
        }
        self.check_key()
    }

    fn references(&self) -> Vec<Reference> {
        let Some(auth) = &self.auth else { return Vec::new() };
        if let Some(key) = auth.secret_ref.as_ref().and_then(|r| r.secret_access_key_secret_ref.as_ref()) {
            return Reference::secret(key).into_iter().collect();
        }
        if let Some(identity) = &auth.workload_identity {
            return vec![Reference::service_account(&identity.service_account_ref)];
        }
        let Some(federation) = &auth.workload_identity_federation else { return Vec::new() };
        let named = |kind, namespace: &Option<String>, name: &String| Reference {
            kind,
            namespace: namespace.clone(),
            name: name.clone(),
        };
        let config = federation.cred_config.as_ref().map(|c| named(ReferenceKind::ConfigMap, &c.namespace, &c.name));
        let aws = federation.aws_security_credentials.as_ref().map(|a| &a.aws_credentials_secret_ref);
        let aws = aws.map(|secret| named(ReferenceKind::Secret, &secret.namespace, &secret.name));
        let account = federation.service_account_ref.as_ref().map(Reference::service_account);
        [config, account, aws].into_iter().flatten().collect()
    }

    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        self.validate(cx.store_kind)?;
        let client = Client::open(self, cx).await?;
        let policy = self.secret_version_selection_policy.unwrap_or_default();
        Ok(Arc::new(GcpSession { client, policy }))
    }
}
