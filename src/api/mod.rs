//! The Kubernetes objects that keyferry serves: External Secrets Operator's API, one file per kind.
//!
//! The types are written out, not derived with `kube::CustomResource`, because `spec` is optional in ESO's schema (an object
//! without one is stored and then told what it lacks) and because one schema is served under two versions.

pub mod cluster_external_secret;
pub mod cluster_push_secret;
pub mod crds;
pub mod external_secret;
pub mod fan_out;
pub mod generators;
pub mod push_secret;
pub mod refs;
pub mod rules;
pub mod secret_store;
pub mod structural;

pub use cluster_external_secret::{ClusterExternalSecret, ClusterExternalSecretSpec, ClusterExternalSecretStatus};
pub use cluster_push_secret::{ClusterPushSecret, ClusterPushSecretSpec, ClusterPushSecretStatus};
pub use external_secret::{ExternalSecret, ExternalSecretSpec, ExternalSecretStatus};
pub use push_secret::{PushSecret, PushSecretSpec, PushSecretStatus};
pub use secret_store::{AnyStore, ClusterSecretStore, SecretStore, StoreKind, StoreSpec, StoreStatus};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group of everything that External Secrets Operator's manifests name.
pub const GROUP: &str = "external-secrets.io";

/// Label on every Secret that an ExternalSecret writes.
pub const LABEL_MANAGED: &str = "reconcile.external-secrets.io/managed";
/// The value of [`LABEL_MANAGED`].
pub const LABEL_MANAGED_VALUE: &str = "true";
/// Label on a Secret of creation policy `Owner`: the hash of the owning ExternalSecret's namespace and name.
pub const LABEL_CREATED_BY: &str = "reconcile.external-secrets.io/created-by";
/// Annotation that ESO puts on its Secrets: an unkeyed hash of the data. keyferry reads none and writes none.
pub const ANNOTATION_DATA_HASH: &str = "reconcile.external-secrets.io/data-hash";
/// Annotation that asks for a refresh from the provider, now.
pub const ANNOTATION_FORCE_SYNC: &str = "external-secrets.io/force-sync";
/// The short form of [`ANNOTATION_FORCE_SYNC`] that ESO's documentation uses on ExternalSecrets.
pub const ANNOTATION_FORCE_SYNC_SHORT: &str = "force-sync";
/// Annotation that lets an empty value replace one that is not empty.
pub const ANNOTATION_ALLOW_EMPTY: &str = "keyferry.io/allow-empty";
/// Annotation that has an ExternalSecret synced as soon as a ConfigMap or Secret of its `templateFrom` changes.
pub const ANNOTATION_FOLLOW_TEMPLATES: &str = "keyferry.io/follow-templates";
/// Annotation of an ExternalSecret or PushSecret: how long what a generator made stays valid after it was replaced, a Go duration.
pub const ANNOTATION_GRACE: &str = "keyferry.io/generator-grace";
/// On a store: which others are read from, in this order, while it is unavailable: `name` or `ClusterSecretStore/name`, between commas.
pub const ANNOTATION_FAILOVER: &str = "keyferry.io/failover";
/// Finalizer that ESO puts on every ExternalSecret. keyferry needs none: owned Secrets go by their owner reference.
pub const FINALIZER_ESO: &str = "externalsecrets.external-secrets.io/externalsecret-cleanup";
/// Finalizer that ESO puts on every ClusterExternalSecret. keyferry needs none: its ExternalSecrets go by their owner reference.
pub const FINALIZER_ESO_CLUSTER: &str = "externalsecrets.external-secrets.io/clusterexternalsecret-cleanup";
/// What the finalizers begin with that ESO puts on every namespace with an ExternalSecret of a ClusterExternalSecret; its name
/// follows. keyferry needs none: what is in a namespace goes with it.
pub const FINALIZER_ESO_NAMESPACE: &str = "externalsecrets.external-secrets.io/ces-";
/// Finalizer on a PushSecret of deletion policy `Delete`: what it pushed goes before it does.
pub const FINALIZER_PUSH: &str = "pushsecret.externalsecrets.io/finalizer";
/// Finalizer on a store to which such a PushSecret pushes: without the store, nothing could be deleted there.
pub const FINALIZER_STORE: &str = "secretstore.externalsecrets.io/finalizer";

/// Wires a hand-written object type into kube: group, version, kind and plural are compile-time facts.
macro_rules! resource {
    ($type:ty, $kind:literal, $plural:literal, $scope:ty) => {
        $crate::api::resource!($type, $kind, $plural, $scope, "v1");
    };
    ($type:ty, $kind:literal, $plural:literal, $scope:ty, $version:literal) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;
            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> std::borrow::Cow<'_, str> {
                $crate::api::GROUP.into()
            }
            fn version((): &()) -> std::borrow::Cow<'_, str> {
                $version.into()
            }
            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use resource;

/// A condition of an ExternalSecret or a store, in ESO's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of the condition: `Ready`.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one CamelCase word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happened, which object is at fault and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

impl Condition {
    /// The type of the one condition that every kind has.
    pub const READY: &'static str = "Ready";

    /// Whether the condition is `Ready` with status `True`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.type_ == Self::READY && self.status == "True"
    }
}
