//! PushSecret: which values of a Secret are written to which stores, and whether they go when they are no longer wanted.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::external_secret::{GeneratorRef, RewriteRegexp, RewriteTransform, Template};
use super::refs::NAME;
use super::secret_store::StoreKind;
use super::{Condition, rules};

/// Writes values of a Secret of its own namespace to stores.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PushSecret {
    /// Standard object metadata.
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: PushSecretSpec,
    /// What was last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<PushSecretStatus>,
}
super::resource!(PushSecret, "PushSecret", "pushsecrets", kube::core::NamespaceResourceScope, "v1alpha1");

/// What a PushSecret wants.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["secretStoreRefs", "selector"]))]
pub struct PushSecretSpec {
    /// How often the stores are looked at again, as a Go duration. A change of the source Secret is pushed at once, whatever
    /// this says. `0` pushes changes only. Left out: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_interval: Option<String>,
    /// The stores to write to.
    #[serde(default)]
    pub secret_store_refs: Vec<PushStoreRef>,
    /// What a value that the store already has does. Left out: `Replace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_policy: Option<PushUpdatePolicy>,
    /// What happens to pushed values that are no longer wanted. Left out: `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<PushDeletionPolicy>,
    /// Where the values come from.
    #[serde(default)]
    pub selector: PushSelector,
    /// Single values, or the whole Secret, each to one place in every store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<PushData>,
    /// Sets of values, to the stores that they name. `data` wins where both name a key of the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_to: Vec<PushDataTo>,
    /// How what is pushed is made from the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
}

/// Stores by name, or by label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PushStoreRef {
    /// Name of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: Option<String>,
    /// Labels of the stores. Wins over `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
    /// Kind of the store. Left out: `SecretStore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<StoreKind>,
}

/// What a value that the store already has does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PushUpdatePolicy {
    /// It is replaced.
    #[default]
    Replace,
    /// It stays.
    IfNotExists,
}

/// What happens to pushed values that are no longer wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PushDeletionPolicy {
    /// They are deleted from the store, also when the PushSecret or its source Secret is deleted.
    Delete,
    /// They stay.
    #[default]
    None,
}

/// Where the values come from: one Secret, several, or a generator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::push_selector()))]
pub struct PushSelector {
    /// Secrets of the PushSecret's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<PushSource>,
    /// A generator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generator_ref: Option<GeneratorRef>,
}

/// A Secret by name, or Secrets by label.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PushSource {
    /// Name of the Secret. Wins over `selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: Option<String>,
    /// Labels of the Secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// One value, and its place in the stores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PushData {
    /// The value and its place.
    #[serde(rename = "match")]
    pub match_: PushMatch,
    /// What the provider is to know beside the value; its documentation says what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub metadata: Option<Value>,
    /// How keys of the Secret are changed before they are compared with `secretKey`. Left out: `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion_strategy: Option<PushConversion>,
}

/// A value, and its place in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PushMatch {
    /// Key of the Secret. Left out: the whole Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key: Option<String>,
    /// Place in the store.
    pub remote_ref: PushRemoteRef,
}

/// A place in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PushRemoteRef {
    /// Key at the provider: its name, path or id.
    pub remote_key: String,
    /// A part of the value there. Left out: all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub property: Option<String>,
}

/// How keys of the Secret are changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PushConversion {
    /// Not at all.
    #[default]
    None,
    /// Each `_Uxxxx_` becomes the character that it stands for.
    ReverseUnicode,
}

/// A set of values, and its places in a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rules::data_to()))]
pub struct PushDataTo {
    /// The stores: some of `secretStoreRefs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_ref: Option<PushStoreRef>,
    /// One place for all values, as a JSON object. Left out: a place for each, named after its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_key: Option<String>,
    /// Which keys of the Secret. Left out: all.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub match_: Option<PushDataToMatch>,
    /// Changes of the keys on their way to the store, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rewrite: Vec<PushRewrite>,
    /// What the provider is to know beside the values; its documentation says what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "anything")]
    pub metadata: Option<Value>,
    /// How keys of the Secret are changed before they are matched. Left out: `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversion_strategy: Option<PushConversion>,
}

/// Which keys of the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PushDataToMatch {
    /// RE2 expression, not anchored. Left out: all keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regexp: Option<String>,
}

/// One change of the keys on their way to the store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = rules::push_rewrite()))]
pub struct PushRewrite {
    /// Replaces by expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regexp: Option<RewriteRegexp>,
    /// Replaces by template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<RewriteTransform>,
}

/// What was pushed where: by store (`kind/name`), then by place (`remoteKey` or `remoteKey/property`).
pub type SyncedPushSecrets = BTreeMap<String, BTreeMap<String, PushData>>;

/// What was last seen of a PushSecret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PushSecretStatus {
    /// When the stores were last brought into line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("nullable" = true))]
    pub refresh_time: Option<Time>,
    /// Generation, and hash of labels and annotations, that was last synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced_resource_version: Option<String>,
    /// What was pushed where, so that it can be deleted when it is no longer wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synced_push_secrets: Option<SyncedPushSecrets>,
    /// `Ready`, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Hash of names, uids and resourceVersions of the Secrets that were last pushed; with it, a change is known after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
}

impl PushSecret {
    /// The deletion policy, or the default one.
    #[must_use]
    pub fn deletes(&self) -> bool {
        self.spec.deletion_policy == Some(PushDeletionPolicy::Delete)
    }

    /// The `Ready` condition, if one was written.
    #[must_use]
    pub fn ready(&self) -> Option<&Condition> {
        self.status.as_ref()?.conditions.iter().find(|c| c.type_ == Condition::READY)
    }
}

/// Any JSON: what it holds is the provider's business.
fn anything(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "x-kubernetes-preserve-unknown-fields": true })
}
