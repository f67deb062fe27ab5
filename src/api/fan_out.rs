//! What ClusterExternalSecret and ClusterPushSecret have in common: a parent that has the same child in many namespaces.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ANNOTATION_FORCE_SYNC, ClusterExternalSecret, ClusterPushSecret, Condition, ExternalSecret, GROUP, PushSecret};

/// Labels and annotations of every child.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChildMetadata {
    /// Annotations of every child.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Labels of every child.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A namespace without its child, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NamespaceFailure {
    /// The namespace.
    pub namespace: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What was last seen of the children of a parent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provided {
    /// Namespaces without their object, and why.
    #[serde(rename = "failedNamespaces", default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<NamespaceFailure>,
    /// Namespaces with their object.
    #[serde(rename = "provisionedNamespaces", default, skip_serializing_if = "Vec::is_empty")]
    pub provisioned: Vec<String>,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Kind of a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParentKind {
    /// Its children are ExternalSecrets.
    ClusterExternalSecret,
    /// Its children are PushSecrets.
    ClusterPushSecret,
}

impl ParentKind {
    const ALL: [Self; 2] = [Self::ClusterExternalSecret, Self::ClusterPushSecret];

    /// The kind as it is written in manifests and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterExternalSecret => "ClusterExternalSecret",
            Self::ClusterPushSecret => "ClusterPushSecret",
        }
    }

    /// The kind of the children.
    #[must_use]
    pub const fn child(self) -> &'static str {
        match self {
            Self::ClusterExternalSecret => "ExternalSecret",
            Self::ClusterPushSecret => "PushSecret",
        }
    }

    /// `apiVersion` of parent and children.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::ClusterExternalSecret => "external-secrets.io/v1",
            Self::ClusterPushSecret => "external-secrets.io/v1alpha1",
        }
    }

    /// What is said of a namespace that has such a child already, and not of ours (ESO's text).
    #[must_use]
    pub const fn exists(self) -> &'static str {
        match self {
            Self::ClusterExternalSecret => "external secret already exists in namespace",
            Self::ClusterPushSecret => "push secret already exists in namespace",
        }
    }

    /// The kind of parent that an owner reference names, whichever version it was written by.
    #[must_use]
    pub fn of_owner(owner: &OwnerReference) -> Option<Self> {
        let group = owner.api_version.split('/').next();
        Self::ALL.into_iter().find(|kind| group == Some(GROUP) && owner.kind == kind.as_str())
    }
}

impl std::fmt::Display for ParentKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A parent of either kind, as the rest of the code sees it.
#[derive(Clone, Debug)]
pub enum Parent {
    /// Of ExternalSecrets.
    ClusterExternalSecret(Arc<ClusterExternalSecret>),
    /// Of PushSecrets.
    ClusterPushSecret(Arc<ClusterPushSecret>),
}

/// What is last seen of a parent, of either kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ParentStatus {
    /// Name of the children.
    pub child_name: Option<String>,
    /// Namespaces that have their child and those that have not, both sorted.
    pub seen: Provided,
}

impl Parent {
    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ParentKind {
        match self {
            Self::ClusterExternalSecret(_) => ParentKind::ClusterExternalSecret,
            Self::ClusterPushSecret(_) => ParentKind::ClusterPushSecret,
        }
    }

    /// Its metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::ClusterExternalSecret(ces) => &ces.metadata,
            Self::ClusterPushSecret(cps) => &cps.metadata,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Name of every child: left out, that of the parent.
    #[must_use]
    pub fn child_name(&self) -> &str {
        let own = match self {
            Self::ClusterExternalSecret(ces) => ces.spec.external_secret_name.as_deref(),
            Self::ClusterPushSecret(cps) => cps.spec.push_secret_name.as_deref(),
        };
        own.filter(|name| !name.is_empty()).unwrap_or_else(|| self.name())
    }

    /// Labels of every child.
    #[must_use]
    pub fn child_labels(&self) -> BTreeMap<String, String> {
        self.child_metadata().map(|m| m.labels.clone()).unwrap_or_default()
    }

    /// Annotations of every child. A ClusterExternalSecret hands on its own wish for a refresh, and no other.
    #[must_use]
    pub fn child_annotations(&self) -> BTreeMap<String, String> {
        let mut annotations = self.child_metadata().map(|m| m.annotations.clone()).unwrap_or_default();
        if let Self::ClusterExternalSecret(ces) = self {
            let wish = ces.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION_FORCE_SYNC));
            match wish {
                Some(value) => annotations.insert(ANNOTATION_FORCE_SYNC.into(), value.clone()),
                None => annotations.remove(ANNOTATION_FORCE_SYNC),
            };
        }
        annotations
    }

    fn child_metadata(&self) -> Option<&ChildMetadata> {
        match self {
            Self::ClusterExternalSecret(ces) => ces.spec.external_secret_metadata.as_ref(),
            Self::ClusterPushSecret(cps) => cps.spec.push_secret_metadata.as_ref(),
        }
    }

    /// Namespaces by label; a namespace that one of them matches is meant.
    pub fn selectors(&self) -> impl Iterator<Item = &LabelSelector> {
        let (one, more) = match self {
            Self::ClusterExternalSecret(ces) => (ces.spec.namespace_selector.as_ref(), &ces.spec.namespace_selectors),
            Self::ClusterPushSecret(cps) => (None, &cps.spec.namespace_selectors),
        };
        one.into_iter().chain(more)
    }

    /// Namespaces by name.
    #[must_use]
    pub fn namespaces(&self) -> &[String] {
        match self {
            Self::ClusterExternalSecret(ces) => &ces.spec.namespaces,
            Self::ClusterPushSecret(_) => &[],
        }
    }

    /// How often it is looked at while nothing changes, as a Go duration.
    #[must_use]
    pub fn refresh(&self) -> Option<&str> {
        match self {
            Self::ClusterExternalSecret(ces) => ces.spec.refresh_time.as_deref(),
            Self::ClusterPushSecret(cps) => cps.spec.refresh_time.as_deref(),
        }
    }

    /// Its status, if one was written.
    #[must_use]
    pub fn status(&self) -> Option<ParentStatus> {
        let (child_name, seen) = match self {
            Self::ClusterExternalSecret(ces) => ces.status.as_ref().map(|s| (&s.external_secret_name, &s.seen)),
            Self::ClusterPushSecret(cps) => cps.status.as_ref().map(|s| (&s.push_secret_name, &s.seen)),
        }?;
        Some(ParentStatus { child_name: child_name.clone(), seen: seen.clone() })
    }

    /// `spec` of every child.
    ///
    /// # Errors
    /// Where it is no JSON, which no spec that came from the API server is.
    pub fn child_spec(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::ClusterExternalSecret(ces) => serde_json::to_value(&ces.spec.external_secret_spec),
            Self::ClusterPushSecret(cps) => serde_json::to_value(&cps.spec.push_secret_spec),
        }
    }
}

/// A child of either kind, or another object in its place.
#[derive(Clone, Debug)]
pub enum Child {
    /// Of a ClusterExternalSecret.
    ExternalSecret(Arc<ExternalSecret>),
    /// Of a ClusterPushSecret.
    PushSecret(Arc<PushSecret>),
}

impl From<ClusterExternalSecret> for Parent {
    fn from(ces: ClusterExternalSecret) -> Self {
        Self::ClusterExternalSecret(Arc::new(ces))
    }
}

impl From<ClusterPushSecret> for Parent {
    fn from(cps: ClusterPushSecret) -> Self {
        Self::ClusterPushSecret(Arc::new(cps))
    }
}

impl From<ExternalSecret> for Child {
    fn from(es: ExternalSecret) -> Self {
        Self::ExternalSecret(Arc::new(es))
    }
}

impl From<PushSecret> for Child {
    fn from(ps: PushSecret) -> Self {
        Self::PushSecret(Arc::new(ps))
    }
}

impl Child {
    /// Its metadata.
    #[must_use]
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::ExternalSecret(es) => &es.metadata,
            Self::PushSecret(ps) => &ps.metadata,
        }
    }

    /// Its `spec`.
    ///
    /// # Errors
    /// Where it is no JSON, which no spec that came from the API server is.
    pub fn spec(&self) -> Result<Value, serde_json::Error> {
        match self {
            Self::ExternalSecret(es) => serde_json::to_value(&es.spec),
            Self::PushSecret(ps) => serde_json::to_value(&ps.spec),
        }
    }
}
