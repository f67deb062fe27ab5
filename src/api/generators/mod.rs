//! Group `generators.external-secrets.io`: objects that make values instead of reading them.
//!
//! A generator is its spec type, in one of the files here, and a line in [`generator_kinds!`]: definition, block in a
//! ClusterGenerator, watch and dispatch come from that list. What is served is said by `crate::generators`.

mod aws;
mod azure;
mod beyondtrust;
mod cluster;
mod github;
mod gitlab;
mod google;
mod grafana;
mod local;
mod registries;
mod state;
mod vault;
mod webhook;

pub use aws::{EcrAuthorizationTokenSpec, EcrScope, StsRequestParameters, StsSessionTokenSpec};
pub use azure::{
    AcrAccessTokenSpec, AcrAuth, AcrManagedIdentity, AcrServicePrincipal, AcrServicePrincipalRef, AcrWorkloadIdentity,
    AzureEnvironment,
};
pub use beyondtrust::{
    BeyondtrustApiKey, BeyondtrustAuth, BeyondtrustProvider, BeyondtrustServer, BeyondtrustWorkloadCredentialsSpec,
};
pub use cluster::{ClusterGenerator, ClusterGeneratorSpec, resolve};
pub use github::{GithubAccessTokenSpec, GithubAuth, GithubPrivateKey};
pub use gitlab::{GitlabAuth, GitlabDeployTokenSpec, GitlabScope, GitlabToken};
pub use google::{
    GcrAccessTokenSpec, GcrAuth, GcrAwsCredentials, GcrConfigMapRef, GcrNamespacedRef, GcrSecretRef, GcrWorkloadIdentity,
    GcrWorkloadIdentityFederation,
};
pub use grafana::{GrafanaAuth, GrafanaBasicAuth, GrafanaServiceAccount, GrafanaSpec};
pub use local::{FakeSpec, MfaSpec, PasswordEncoding, PasswordSpec, SshKeySpec, SshKeyType, UuidSpec};
pub use registries::{CloudsmithAccessTokenSpec, QuayAccessTokenSpec};
pub use state::{FINALIZER as STATE_FINALIZER, GeneratorState, GeneratorStateSpec, OWNER_KEY as STATE_OWNER_KEY};
pub use vault::{VaultDynamicSecretSpec, VaultResultType};
pub use webhook::{WebhookAuth, WebhookNtlm, WebhookResult, WebhookSecret, WebhookSpec};

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ClusterResourceScope, DynamicResourceScope, NamespaceResourceScope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::external_secret::GeneratorKind;
use super::refs::{KEY, NAME};

/// The API group of generators.
pub const GROUP: &str = "generators.external-secrets.io";
/// The one version of that group.
pub const VERSION: &str = "v1alpha1";

/// Calls a macro with all namespaced generators: kind, plural, block in a ClusterGenerator (as field and as it is written), spec
/// type, and what the definition says.
macro_rules! generator_kinds {
    ($macro:ident) => {
        $macro! {
            ACRAccessToken, "acraccesstokens", acr_access_token_spec = "acrAccessTokenSpec": AcrAccessTokenSpec,
                "Makes a login for an Azure Container Registry.";
            BeyondtrustWorkloadCredentialsDynamicSecret, "beyondtrustworkloadcredentialsdynamicsecrets",
                beyondtrust_spec = "beyondtrustWorkloadCredentialsDynamicSecretSpec": BeyondtrustWorkloadCredentialsSpec,
                "Makes AWS credentials by BeyondTrust Workload Credentials.";
            CloudsmithAccessToken, "cloudsmithaccesstokens",
                cloudsmith_access_token_spec = "cloudsmithAccessTokenSpec": CloudsmithAccessTokenSpec,
                "Makes a login for Cloudsmith from a ServiceAccount's token.";
            ECRAuthorizationToken, "ecrauthorizationtokens",
                ecr_authorization_token_spec = "ecrAuthorizationTokenSpec": EcrAuthorizationTokenSpec,
                "Makes a login for Amazon's container registry.";
            Fake, "fakes", fake_spec = "fakeSpec": FakeSpec, "Gives fixed values, for tests.";
            GCRAccessToken, "gcraccesstokens", gcr_access_token_spec = "gcrAccessTokenSpec": GcrAccessTokenSpec,
                "Makes an access token for Google's container registry.";
            GithubAccessToken, "githubaccesstokens",
                github_access_token_spec = "githubAccessTokenSpec": GithubAccessTokenSpec,
                "Makes an access token of a GitHub App's installation.";
            GitlabDeployToken, "gitlabdeploytokens",
                gitlab_deploy_token_spec = "gitlabDeployTokenSpec": GitlabDeployTokenSpec,
                "Makes a deploy token of a GitLab project or group, and deletes it when its time has come.";
            Grafana, "grafanas", grafana_spec = "grafanaSpec": GrafanaSpec,
                "Makes a token of a Grafana service account, and deletes it when its time has come.";
            MFA, "mfas", mfa_spec = "mfaSpec": MfaSpec, "Makes a time-based one-time password (RFC 6238).";
            Password, "passwords", password_spec = "passwordSpec": PasswordSpec, "Makes a password that nobody can guess.";
            QuayAccessToken, "quayaccesstokens", quay_access_token_spec = "quayAccessTokenSpec": QuayAccessTokenSpec,
                "Makes a login for Quay from a ServiceAccount's token.";
            SSHKey, "sshkeys", ssh_key_spec = "sshKeySpec": SshKeySpec, "Makes an SSH key pair.";
            STSSessionToken, "stssessiontokens", sts_session_token_spec = "stsSessionTokenSpec": StsSessionTokenSpec,
                "Makes temporary AWS credentials.";
            UUID, "uuids", uuid_spec = "uuidSpec": UuidSpec, "Makes a UUID of version 4.";
            VaultDynamicSecret, "vaultdynamicsecrets",
                vault_dynamic_secret_spec = "vaultDynamicSecretSpec": VaultDynamicSecretSpec,
                "Makes credentials by a path of Vault.";
            Webhook, "webhooks", webhook_spec = "webhookSpec": WebhookSpec, "Asks an HTTP service for values.";
        }
    };
}
pub(crate) use generator_kinds;

/// Wires a hand-written object type of this group into kube.
macro_rules! resource {
    ($type:ty, $kind:literal, $plural:literal, $scope:ty) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                $kind.into()
            }

            fn group((): &()) -> std::borrow::Cow<'_, str> {
                $crate::api::generators::GROUP.into()
            }

            fn version((): &()) -> std::borrow::Cow<'_, str> {
                $crate::api::generators::VERSION.into()
            }

            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
use resource;

/// The spec type of a namespaced generator.
pub trait GeneratorSpec {
    /// Kind of the generator.
    const KIND: GeneratorKind;
}

/// A namespaced generator, by its spec type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generator<S> {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is to be made.
    pub spec: S,
}

impl<S: GeneratorSpec> kube::Resource for Generator<S> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        S::KIND.as_str().into()
    }

    fn group((): &()) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        S::KIND.plural().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// A generator of any kind as the API server gives it, its spec not looked at yet.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GeneratorObject {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is to be made.
    #[serde(default)]
    pub spec: Value,
}

impl kube::Resource for GeneratorObject {
    type DynamicType = GeneratorKind;
    type Scope = DynamicResourceScope;

    fn kind(kind: &GeneratorKind) -> Cow<'_, str> {
        kind.as_str().into()
    }

    fn group(_: &GeneratorKind) -> Cow<'_, str> {
        GROUP.into()
    }

    fn version(_: &GeneratorKind) -> Cow<'_, str> {
        VERSION.into()
    }

    fn plural(kind: &GeneratorKind) -> Cow<'_, str> {
        kind.plural().into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

macro_rules! any_spec {
    ($($kind:ident, $plural:literal, $field:ident = $name:literal: $spec:ident, $about:literal;)+) => {
        $(
            impl GeneratorSpec for $spec {
                const KIND: GeneratorKind = GeneratorKind::$kind;
            }
        )+

        /// The spec of a namespaced generator, of whichever kind.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(missing_docs)] // the names say it
        pub enum AnySpec {
            $($kind(Box<$spec>),)+
        }

        impl AnySpec {
            /// Kind of the generator.
            #[must_use]
            pub const fn kind(&self) -> GeneratorKind {
                match self {
                    $(Self::$kind(_) => GeneratorKind::$kind,)+
                }
            }

            /// The spec as it is written in a manifest.
            #[must_use]
            pub fn to_value(&self) -> Value {
                match self {
                    $(Self::$kind(spec) => serde_json::to_value(spec).unwrap_or_default(),)+
                }
            }

            /// Reads the spec of a namespaced generator. `path` is where it stands in the object.
            ///
            /// # Errors
            /// [`InvalidSpec`]; also for a ClusterGenerator, which is no spec of its own (see [`resolve`]).
            pub fn read(kind: GeneratorKind, spec: Value, path: &str) -> Result<Self, InvalidSpec> {
                let spec = if spec.is_null() { json!({}) } else { spec };
                match kind {
                    $(GeneratorKind::$kind => read(spec, path).map(|spec| Self::$kind(Box::new(spec))),)+
                    GeneratorKind::ClusterGenerator => Err(InvalidSpec(format!("{path} is that of a ClusterGenerator"))),
                }
            }
        }

        impl GeneratorKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)+ Self::ClusterGenerator];

            /// The kind as it is written in manifests and messages.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($kind),)+
                    Self::ClusterGenerator => "ClusterGenerator",
                }
            }

            /// The resource's name in URLs and roles.
            #[must_use]
            pub const fn plural(self) -> &'static str {
                match self {
                    $(Self::$kind => $plural,)+
                    Self::ClusterGenerator => "clustergenerators",
                }
            }

            /// The block of a ClusterGenerator that holds a generator of this kind; `None` for a ClusterGenerator itself.
            #[must_use]
            pub const fn block(self) -> Option<&'static str> {
                match self {
                    $(Self::$kind => Some($name),)+
                    Self::ClusterGenerator => None,
                }
            }
        }
    };
}
generator_kinds!(any_spec);

impl fmt::Display for GeneratorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A generator's spec that is not what its kind says, or a ClusterGenerator without the block of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSpec(pub String);

/// Reads a spec type. What serde says may quote a value, and a Fake's are secrets: only the path is told.
fn read<S: serde::de::DeserializeOwned>(spec: Value, path: &str) -> Result<S, InvalidSpec> {
    serde_json::from_value(spec).map_err(|error| {
        let text = error.to_string();
        let field = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        InvalidSpec(match field {
            Some(field) => format!("{path}.{field} is missing"),
            None => format!("{path} holds a field of another type than the definition says"),
        })
    })
}

/// A key of a Secret in the namespace of the ExternalSecret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalSecretKey {
    /// Name of the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: Option<String>,
    /// Key in the Secret's data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: Option<String>,
}

impl From<&LocalSecretKey> for super::refs::SecretKeySelector {
    fn from(key: &LocalSecretKey) -> Self {
        Self { name: key.name.clone(), namespace: None, key: key.key.clone() }
    }
}

/// An object of any shape, kept as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AnyObject(pub serde_json::Map<String, Value>);

impl JsonSchema for AnyObject {
    fn schema_name() -> Cow<'static, str> {
        "AnyObject".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_names() {
        for kind in GeneratorKind::ALL {
            let (text, plural) = (kind.as_str(), kind.plural());
            assert_eq!(serde_json::to_value(kind).unwrap(), json!(text));
            assert_eq!(plural, format!("{}s", text.to_lowercase()));
        }
        assert_eq!(GeneratorKind::ALL.len(), 18);
    }

    #[test]
    fn a_spec_that_is_wrong_is_told_without_its_values() {
        let read = |spec| AnySpec::read(GeneratorKind::Fake, spec, "spec").map(|_| ()).unwrap_err().to_string();
        let text = "spec holds a field of another type than the definition says";
        assert_eq!(read(json!({ "data": "canary-value" })), text);
        let error = AnySpec::read(GeneratorKind::Grafana, Value::Null, "spec").unwrap_err();
        assert_eq!(error.to_string(), "spec.url is missing");
        assert!(AnySpec::read(GeneratorKind::UUID, Value::Null, "spec").is_ok());
    }
}
