//! Writing to Secret Manager: only secrets with the label `managed-by: external-secrets`, and only what differs.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::client::{Action, Request};
use super::config::VersionPolicy;
use super::misconfigured;
use super::session::{GcpSession, Secret, crc32c};
use crate::providers::push::{self, Left, Place, Push, Pushed};
use crate::providers::rest::Body;
use crate::providers::{CallCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Label of the secrets that ESO and keyferry wrote: others are never touched.
const MANAGED_BY: &str = "managed-by";
const OWNER: &str = "external-secrets";

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PushMetadata {
    annotations: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    topics: Vec<String>,
    merge_policy: MergePolicy,
    cmek_key_name: String,
    replication_location: String,
    replication_locations: Vec<String>,
}

/// What becomes of labels that the block does not name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
enum MergePolicy {
    #[default]
    #[serde(alias = "")]
    Replace,
    Merge,
}

impl PushMetadata {
    fn of(place: &Place) -> Result<Self, ProviderError> {
        let block = push::metadata(place.metadata.as_ref())
            .map_err(|e| misconfigured(format!("failed to parse PushSecret metadata: {}", e.detail)))?;
        if place.property().is_some() && place.metadata.as_ref().is_some_and(|block| !block.is_null()) {
            return Err(misconfigured("cannot specify metadata and property at the same time".to_owned()));
        }
        Ok(block.unwrap_or_default())
    }

    /// The labels that the secret is to have.
    fn labels(&self, current: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        if self.merge_policy == MergePolicy::Merge {
            labels.extend(current.clone());
        }
        labels.insert(MANAGED_BY.to_owned(), OWNER.to_owned());
        labels
    }

    fn topics(&self) -> Value {
        self.topics.iter().map(|name| json!({"name": name})).collect()
    }

    fn key(&self) -> Option<Value> {
        (!self.cmek_key_name.is_empty()).then(|| json!({"kmsKeyName": self.cmek_key_name}))
    }

    /// Where the values of a new secret that is not regional are kept: everywhere, or in the named locations.
    fn replication(&self) -> Value {
        let one = Some(&self.replication_location).filter(|location| !location.is_empty());
        let locations: Vec<&String> = match self.replication_locations.as_slice() {
            [] => one.into_iter().collect(),
            several => several.iter().collect(),
        };
        let encrypted = |mut place: Map<String, Value>| {
            place.extend(self.key().map(|key| ("customerManagedEncryption".to_owned(), key)));
            place
        };
        if locations.is_empty() {
            return json!({"automatic": encrypted(Map::new())});
        }
        let replica = |location: &String| encrypted(Map::from_iter([("location".to_owned(), json!(location))]));
        json!({"userManaged": {"replicas": locations.into_iter().map(replica).collect::<Vec<_>>()}})
    }
}

fn is_ours(secret: &Secret) -> bool {
    secret.labels.as_ref().and_then(|labels| labels.get(MANAGED_BY)).is_some_and(|owner| owner == OWNER)
}

impl GcpSession {
    /// A secret without its values; `None` where there is none.
    async fn find_secret(&self, key: &str, cx: &CallCx) -> Result<Option<Secret>, ProviderError> {
        match self.describe(key, cx).await {
            Ok(secret) => Ok(Some(secret)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The latest value; `None` where the secret has none yet.
    async fn current(&self, key: &str, policy: VersionPolicy, cx: &CallCx) -> Result<Option<SecretBytes>, ProviderError> {
        match self.read(key, "", policy, cx).await {
            Ok(fetched) => Ok(Some(fetched.bytes)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn push_as(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let metadata = PushMetadata::of(&push.place)?;
        let key = push.place.key.as_str();
        let Some(secret) = self.find_secret(key, cx).await? else {
            let value = push.merged(None)?;
            self.create(key, &metadata, cx).await?;
            self.add(key, &value, cx).await?;
            return Ok(Pushed::Written);
        };
        if !is_ours(&secret) {
            let text = format!("secret {key} is not managed by external secrets");
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        let current = self.current(key, VersionPolicy::LatestOrFail, cx).await?;
        let value = push.merged(current.as_ref())?;
        let mut pushed = Pushed::Unchanged;
        if push.place.property().is_none() && self.update(key, &secret, &metadata, cx).await? {
            pushed = Pushed::Written;
        }
        if current.as_ref() != Some(&value) {
            self.add(key, &value, cx).await?;
            pushed = Pushed::Written;
        }
        Ok(pushed)
    }

    async fn create(&self, key: &str, metadata: &PushMetadata, cx: &CallCx) -> Result<(), ProviderError> {
        let mut secret = json!({"labels": metadata.labels(&BTreeMap::new()), "annotations": metadata.annotations});
        if !metadata.topics.is_empty() {
            secret["topics"] = metadata.topics();
        }
        // A regional secret is in one place by its nature.
        if self.client.location.is_none() {
            secret["replication"] = metadata.replication();
        } else if let Some(key) = metadata.key() {
            secret["customerManagedEncryption"] = key;
        }
        let body = Some(SecretBytes::from(secret.to_string()));
        let request = Request::write(Action::CREATE, Method::POST, self.client.secrets(), body, key).with("secretId", key);
        self.client.call::<Secret>(&request, cx).await.map(drop)
    }

    /// Makes labels, annotations and topics those of the block; whether something changed.
    async fn update(&self, key: &str, secret: &Secret, metadata: &PushMetadata, cx: &CallCx) -> Result<bool, ProviderError> {
        let none = BTreeMap::new();
        let (labels, annotations) = (secret.labels.as_ref().unwrap_or(&none), secret.annotations.as_ref().unwrap_or(&none));
        let wanted = metadata.labels(labels);
        let mut changes = Map::new();
        if *labels != wanted {
            changes.insert("labels".to_owned(), json!(wanted));
        }
        if *annotations != metadata.annotations {
            changes.insert("annotations".to_owned(), json!(metadata.annotations));
        }
        if !metadata.topics.is_empty() && !secret.topics.iter().map(|topic| &topic.name).eq(&metadata.topics) {
            changes.insert("topics".to_owned(), metadata.topics());
        }
        if changes.is_empty() {
            return Ok(false);
        }
        let mask = changes.keys().map(String::as_str).collect::<Vec<_>>().join(",");
        if !secret.etag.is_empty() {
            changes.insert("etag".to_owned(), json!(secret.etag));
        }
        let body = Some(SecretBytes::from(Value::Object(changes).to_string()));
        let request = Request::write(Action::UPDATE, Method::PATCH, self.client.secret(key), body, key);
        self.client.call::<Secret>(&request.with("updateMask", mask), cx).await.map(|_| true)
    }

    /// Makes a new version.
    async fn add(&self, key: &str, value: &SecretBytes, cx: &CallCx) -> Result<(), ProviderError> {
        let data = SecretBytes::from(STANDARD.encode(value.expose()));
        let sum = crc32c(value.expose()).to_string();
        let payload = Body::default().text("data", data.expose()).text("dataCrc32c", sum).build();
        let body = Some(Body::default().raw("payload", payload.expose()).build());
        let path = format!("{}:addVersion", self.client.secret(key));
        let request = Request::write(Action::ADD, Method::POST, path, body, key);
        self.client.call::<serde::de::IgnoredAny>(&request, cx).await.map(drop)
    }

    /// Takes a property out of the secret; the secret itself where it has no other, or where all of it was pushed.
    pub(super) async fn delete_as(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let key = place.key.as_str();
        let Some(secret) = self.find_secret(key, cx).await?.filter(is_ours) else { return Ok(()) };
        if place.property().is_some() {
            let current = self.current(key, VersionPolicy::LatestOrFetch, cx).await?;
            match current.map_or(Left::All, |current| place.left_of(&current)) {
                Left::All => return Ok(()),
                Left::Some(left) => return self.add(key, &left, cx).await,
                Left::Nothing => {}
            }
        }
        let request = Request::write(Action::DELETE, Method::DELETE, self.client.secret(key), None, key);
        let request = if secret.etag.is_empty() { request } else { request.with("etag", secret.etag) };
        match self.client.call::<serde::de::IgnoredAny>(&request, cx).await {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(super) async fn exists_as(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let current = self.current(&place.key, VersionPolicy::LatestOrFetch, cx).await?;
        Ok(current.is_some_and(|value| place.is_in(&value)))
    }
}
