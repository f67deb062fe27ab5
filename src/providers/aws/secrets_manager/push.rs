//! Writing to AWS Secrets Manager: only secrets that carry the tag `managed-by: external-secrets`, and only what differs.

use std::collections::BTreeSet;

use aws_sdk_secretsmanager::operation::describe_secret::DescribeSecretOutput;
use aws_sdk_secretsmanager::types::{ReplicaRegionType, Tag};
use aws_smithy_types::Blob;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use serde::Deserialize;

use super::{SecretsManager, tags_of};
use crate::api::refs::SecretKeySelector;
use crate::providers::aws::session::Caller;
use crate::providers::aws::tags::{self, Change, DESCRIPTION, Tags};
use crate::providers::aws::{SecretsManagerOptions, misconfigured};
use crate::providers::push::{self, Left, Place, Push, Pushed};
use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Key that new secrets are encrypted with where none is given.
const KEY: &str = "alias/aws/secretsmanager";
/// Version id of a secret's first value: creating twice is creating once.
const FIRST_VERSION: &str = "00000000-0000-0000-0000-000000000001";

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub(super) struct PushMetadata {
    tags: Tags,
    description: String,
    secret_push_format: String,
    #[serde(alias = "kmsKeyID")]
    kms_key_id: String,
    resource_policy: Option<ResourcePolicy>,
    replication_locations: Option<Vec<String>>,
}

/// Who else may use the secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ResourcePolicy {
    block_public_policy: Option<bool>,
    policy_source_ref: Option<PolicySource>,
}

/// The object that holds the policy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicySource {
    kind: String,
    name: String,
    key: String,
}

/// A resource policy that is to be set.
struct Policy {
    text: String,
    json: serde_json::Value,
    block_public: Option<bool>,
}

impl PushMetadata {
    pub(super) fn of(place: &Place) -> Result<Self, ProviderError> {
        let wrong = |what: String| misconfigured(format!("failed to parse push secret metadata: {what}"));
        let block: Option<Self> =
            push::metadata(place.metadata.as_ref()).map_err(|e| wrong(format!("failed to parse metadata: {}", e.detail)))?;
        let block = block.unwrap_or_default();
        if !["", "binary", "string"].contains(&block.secret_push_format.as_str()) {
            return Err(wrong(format!("invalid secret push format: {}", block.secret_push_format)));
        }
        tags::check(&block.tags).map_err(wrong)?;
        Ok(block)
    }

    /// The value in the form that the block asks for: text, or bytes.
    fn value(&self, value: &SecretBytes) -> Result<(Option<String>, Option<Blob>), ProviderError> {
        if self.secret_push_format != "string" {
            return Ok((None, Some(Blob::new(value.expose()))));
        }
        let text = value.expose_str().ok_or_else(|| {
            misconfigured("secretPushFormat is \"string\", and the value is no UTF-8 text: leave secretPushFormat out")
        })?;
        Ok((Some(text.to_owned()), None))
    }

    fn regions(&self) -> impl Iterator<Item = &String> {
        self.replication_locations.iter().flatten()
    }
}

fn tag((key, value): (String, String)) -> Tag {
    Tag::builder().key(key).value(value).build()
}

fn is_ours(secret: &DescribeSecretOutput) -> bool {
    tags::are_ours(&tags_of(secret.tags()))
}

fn replicas(secret: &DescribeSecretOutput) -> BTreeSet<String> {
    secret.replication_status().iter().filter_map(|r| r.region().map(str::to_owned)).collect()
}

impl SecretsManager {
    /// What AWS knows of a secret besides its value; `None` where there is none.
    async fn describe(&self, id: &str, caller: &Caller<'_>) -> Result<Option<DescribeSecretOutput>, ProviderError> {
        let request = self.client.describe_secret().secret_id(id);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        match caller.answer("secretsmanager:DescribeSecret", id, outcome).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn push_as(&self, push: &Push, caller: &Caller<'_>) -> Result<Pushed, ProviderError> {
        let metadata = PushMetadata::of(&push.place)?;
        let id = self.name(&push.place.key);
        let Some(secret) = self.describe(&id, caller).await? else {
            let value = push.merged(None)?;
            // before anything is made: what is wrong with it must not leave half a push
            let policy = self.policy_of(&metadata, &push.place).await?;
            self.create(&id, &value, &metadata, caller).await?;
            let put = self.put_policy(&id, policy, false, caller).await;
            return put.map(|_| Pushed::Written).map_err(|error| error.after_writing(true));
        };
        if !is_ours(&secret) {
            return Err(tags::not_ours());
        }
        if secret.deleted_date().is_some() {
            let text = format!("{id:?} is deleted and in its recovery window: restore it, or wait until it is gone");
            return Err(misconfigured(text));
        }
        let current = match self.read_version(&id, "", caller).await {
            Ok(fetched) => Some(fetched.bytes),
            // it has no value yet, as a secret that was only described
            Err(error) if error.kind == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let value = push.merged(current.as_ref())?;
        let is_there = current.as_ref() == Some(&value);
        let around = self.put_around(&id, &secret, &push.place, &metadata, caller).await;
        let changed = around.map_err(|error| error.after_writing(is_there))?;
        if !is_there {
            self.put(&id, &value, &metadata, current.is_none(), caller).await?;
        }
        Ok(if changed || !is_there { Pushed::Written } else { Pushed::Unchanged })
    }

    /// Brings in line what stands beside the value; whether something changed.
    async fn put_around(
        &self,
        id: &str,
        secret: &DescribeSecretOutput,
        place: &Place,
        metadata: &PushMetadata,
        caller: &Caller<'_>,
    ) -> Result<bool, ProviderError> {
        let policy = self.policy_of(metadata, place).await?;
        let mut changed = self.put_tags(id, secret, metadata, caller).await?;
        changed |= self.put_policy(id, policy, true, caller).await?;
        changed |= self.put_replicas(id, secret, metadata, caller).await?;
        Ok(changed)
    }

    async fn create(
        &self,
        id: &str,
        value: &SecretBytes,
        metadata: &PushMetadata,
        caller: &Caller<'_>,
    ) -> Result<(), ProviderError> {
        let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
        let (text, bytes) = metadata.value(value)?;
        let key = or(&metadata.kms_key_id, KEY);
        let replicas: Vec<_> = metadata.regions().map(|region| replica(region, &key)).collect();
        let request = self
            .client
            .create_secret()
            .name(id)
            .client_request_token(FIRST_VERSION)
            .description(or(&metadata.description, DESCRIPTION))
            .kms_key_id(&key)
            .set_secret_string(text)
            .set_secret_binary(bytes)
            .set_tags(Some(tags::marked(&metadata.tags).into_iter().map(tag).collect()))
            .set_add_replica_regions((!replicas.is_empty()).then_some(replicas));
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        caller.written("secretsmanager:CreateSecret", id, outcome).await.map(drop)
    }

    /// Makes a new version.
    async fn put(
        &self,
        id: &str,
        value: &SecretBytes,
        metadata: &PushMetadata,
        first: bool,
        caller: &Caller<'_>,
    ) -> Result<(), ProviderError> {
        let (text, bytes) = metadata.value(value)?;
        let request = self.client.put_secret_value().secret_id(id).set_secret_string(text).set_secret_binary(bytes);
        let request = if first { request.client_request_token(FIRST_VERSION) } else { request };
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        caller.written("secretsmanager:PutSecretValue", id, outcome).await.map(drop)
    }

    /// Makes the tags those of the block, if it names any; whether something changed.
    async fn put_tags(
        &self,
        id: &str,
        secret: &DescribeSecretOutput,
        metadata: &PushMetadata,
        caller: &Caller<'_>,
    ) -> Result<bool, ProviderError> {
        if metadata.tags.is_empty() {
            return Ok(false);
        }
        let change = Change::between(&tags_of(secret.tags()), &tags::marked(&metadata.tags));
        let changed = change.is_any();
        if !change.gone.is_empty() {
            let request = self.client.untag_resource().secret_id(id).set_tag_keys(Some(change.gone.into_keys().collect()));
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            caller.answer("secretsmanager:UntagResource", id, outcome).await?;
        }
        if !change.new.is_empty() {
            let request = self.client.tag_resource().secret_id(id);
            let request = request.set_tags(Some(change.new.into_iter().map(tag).collect()));
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            caller.answer("secretsmanager:TagResource", id, outcome).await?;
        }
        Ok(changed)
    }

    /// The resource policy that the block names, read and understood.
    async fn policy_of(&self, metadata: &PushMetadata, place: &Place) -> Result<Option<Policy>, ProviderError> {
        let Some(block) = &metadata.resource_policy else { return Ok(None) };
        let Some(source) = &block.policy_source_ref else { return Ok(None) };
        let text = self.policy(source, &place.namespace).await?;
        let json = serde_json::from_str(&text)
            .map_err(|_| misconfigured(format!("the resource policy in {} {} is not JSON", source.kind, source.name)))?;
        Ok(Some(Policy { text, json, block_public: block.block_public_policy }))
    }

    /// Makes the resource policy that of the block, if it names one; whether something changed. A policy that the block says
    /// nothing of is left alone, unlike in ESO, which deletes it. `is_old`: the secret is not new.
    async fn put_policy(
        &self,
        id: &str,
        policy: Option<Policy>,
        is_old: bool,
        caller: &Caller<'_>,
    ) -> Result<bool, ProviderError> {
        let Some(policy) = policy else { return Ok(false) };
        if is_old {
            let request = self.client.get_resource_policy().secret_id(id);
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            let answer = caller.answer("secretsmanager:GetResourcePolicy", id, outcome).await?;
            let current = answer.resource_policy().and_then(|p| serde_json::from_str::<serde_json::Value>(p).ok());
            if current.as_ref() == Some(&policy.json) {
                return Ok(false);
            }
        }
        let request = self
            .client
            .put_resource_policy()
            .secret_id(id)
            .resource_policy(policy.text)
            .set_block_public_policy(policy.block_public);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        caller.answer("secretsmanager:PutResourcePolicy", id, outcome).await.map(|_| true)
    }

    /// The text of a policy, out of an object in the PushSecret's namespace.
    async fn policy(&self, source: &PolicySource, namespace: &str) -> Result<String, ProviderError> {
        let what = "failed to resolve resource policy: metadata.spec.resourcePolicy.policySourceRef";
        match source.kind.as_str() {
            "Secret" => {
                let selector = SecretKeySelector {
                    name: Some(source.name.clone()),
                    namespace: Some(namespace.to_owned()),
                    key: Some(source.key.clone()),
                };
                let text = self.cx.secret_text(&selector, what).await?;
                Ok(text.expose_str().unwrap_or_default().to_owned())
            }
            "ConfigMap" => {
                let api: Api<ConfigMap> = Api::namespaced(self.cx.client.clone(), namespace);
                let map = api.get_opt(&source.name).await.map_err(|_| {
                    let text = format!("{what}: ConfigMap {namespace}/{} could not be read", source.name);
                    ProviderError::new(ErrorKind::Unavailable, text)
                })?;
                map.and_then(|m| m.data?.remove(&source.key)).ok_or_else(|| {
                    misconfigured(format!(
                        "{what}: ConfigMap {namespace}/{} with key {:?} does not exist",
                        source.name, source.key
                    ))
                })
            }
            other => Err(misconfigured(format!("{what}: kind {other:?} is neither ConfigMap nor Secret"))),
        }
    }

    /// Makes the replicas those of the block, if it names any; whether something changed.
    async fn put_replicas(
        &self,
        id: &str,
        secret: &DescribeSecretOutput,
        metadata: &PushMetadata,
        caller: &Caller<'_>,
    ) -> Result<bool, ProviderError> {
        if metadata.replication_locations.is_none() {
            return Ok(false);
        }
        let (there, wanted) = (replicas(secret), metadata.regions().cloned().collect::<BTreeSet<_>>());
        let gone: Vec<String> = there.difference(&wanted).cloned().collect();
        let key = secret.kms_key_id().unwrap_or(KEY);
        let new: Vec<_> = wanted.difference(&there).map(|region| replica(region, key)).collect();
        let changed = !gone.is_empty() || !new.is_empty();
        if !gone.is_empty() {
            self.drop_replicas(id, gone, caller).await?;
        }
        if !new.is_empty() {
            let request = self.client.replicate_secret_to_regions().secret_id(id).set_add_replica_regions(Some(new));
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            caller.answer("secretsmanager:ReplicateSecretToRegions", id, outcome).await?;
        }
        Ok(changed)
    }

    async fn drop_replicas(&self, id: &str, regions: Vec<String>, caller: &Caller<'_>) -> Result<(), ProviderError> {
        let request = self.client.remove_regions_from_replication().secret_id(id).set_remove_replica_regions(Some(regions));
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        caller.answer("secretsmanager:RemoveRegionsFromReplication", id, outcome).await.map(drop)
    }

    /// Takes a property out of the secret; the secret itself where it has no other, or where all of it was pushed.
    pub(super) async fn delete_as(&self, place: &Place, caller: &Caller<'_>) -> Result<(), ProviderError> {
        let id = self.name(&place.key);
        let Some(secret) = self.describe(&id, caller).await? else { return Ok(()) };
        if !is_ours(&secret) || secret.deleted_date().is_some() {
            return Ok(());
        }
        if place.property().is_some() {
            let current = match self.read_version(&id, "", caller).await {
                Ok(fetched) => fetched.bytes,
                Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            match place.left_of(&current) {
                Left::All => return Ok(()),
                Left::Some(left) => {
                    let metadata = PushMetadata::of(place).unwrap_or_default();
                    return self.put(&id, &left, &metadata, false, caller).await;
                }
                Left::Nothing => {}
            }
        }
        let regions: Vec<String> = replicas(&secret).into_iter().collect();
        if !regions.is_empty() {
            self.drop_replicas(&id, regions, caller).await?;
        }
        let SecretsManagerOptions { force_delete_without_recovery, recovery_window_in_days } = self.options.clone();
        let request = self
            .client
            .delete_secret()
            .secret_id(&id)
            .set_force_delete_without_recovery(force_delete_without_recovery.filter(|force| *force))
            .set_recovery_window_in_days(recovery_window_in_days.filter(|days| *days > 0));
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        match caller.answer("secretsmanager:DeleteSecret", &id, outcome).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) async fn exists_as(&self, place: &Place, caller: &Caller<'_>) -> Result<bool, ProviderError> {
        match self.read_version(&self.name(&place.key), "", caller).await {
            Ok(fetched) => Ok(place.is_in(&fetched.bytes)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn replica(region: &str, key: &str) -> ReplicaRegionType {
    ReplicaRegionType::builder().region(region).kms_key_id(key).build()
}
