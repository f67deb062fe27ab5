//! The only place that writes to Kubernetes.
//!
//! Every write asks first whether this process may write at all: under leader election, two never do.

pub mod digest_key;
pub mod error;
mod fan_out;
mod generator_state;
pub mod manifest;
mod push_secret;
mod server_side;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::NamespaceResourceScope;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::api::secret_store::StoreStatus;
use crate::api::{
    AnyStore, ClusterSecretStore, ExternalSecret, ExternalSecretStatus, FINALIZER_ESO, SecretStore, StoreKind,
};
use crate::index::Key;
use crate::lease::Leadership;
use crate::plan::digest::Digester;
use crate::plan::external_secret::{Written, data_digest};
use crate::plan::target::{Desired, FIELD_MANAGER, Update};
use crate::queue::Priority;
use error::WriteError;

/// How long a request that did not reach the API server keeps its place.
const UNREACHABLE: Duration = Duration::from_secs(2);

/// Writes to Kubernetes.
pub struct Writer {
    client: kube::Client,
    leadership: Leadership,
    digester: Digester,
    /// Longest time that one request may take: under leader election, less than it takes another process to be elected.
    limit: Duration,
    /// Requests under way for urgent work and for periodic work: the latter cannot take the former's places.
    urgent: Arc<Semaphore>,
    periodic: Arc<Semaphore>,
}

impl Writer {
    /// A writer with at most `concurrent` requests under way of each kind of work.
    #[must_use]
    pub fn new(
        client: kube::Client,
        leadership: Leadership,
        digester: Digester,
        concurrent: usize,
        limit: Duration,
    ) -> Self {
        let places = || Arc::new(Semaphore::new(concurrent.max(1)));
        Self { client, leadership, digester, limit, urgent: places(), periodic: places() }
    }

    /// Says, whenever it is asked, whether urgent requests have to wait for a place.
    pub fn busy(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let urgent = self.urgent.clone();
        move || urgent.available_permits() == 0
    }

    /// Reads a Secret, whole.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn read(&self, key: &Key, priority: Priority) -> Result<Option<Secret>, WriteError> {
        let _place = self.place(priority).await?;
        let secrets = self.secrets(&key.namespace);
        self.within(secrets.get_opt(&key.name), "read", "Secret", key).await
    }

    /// Reads a ConfigMap.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn read_config_map(&self, key: &Key, priority: Priority) -> Result<Option<ConfigMap>, WriteError> {
        let _place = self.place(priority).await?;
        let maps: Api<ConfigMap> = namespaced(&self.client, &key.namespace);
        self.within(maps.get_opt(&key.name), "read", "ConfigMap", key).await
    }

    /// Makes a Secret that is not there, as far as the watch knows: without force, so that one that appeared meanwhile is not
    /// taken from its owner.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where it is there after all; [`WriteError::Unsure`] where it may have been made.
    pub async fn create(&self, desired: &Desired, priority: Priority) -> Result<Written, WriteError> {
        let key = Key::new(&desired.namespace, &desired.name);
        let _place = self.writing(priority).await?;
        let live = self.apply(&key, &body(desired, None), &desired.manager, false).await;
        let live = live.map_err(|error| error.naming(desired).of_values())?;
        if live.metadata.managed_fields.iter().flatten().any(|e| e.manager.as_deref() != Some(&desired.manager)) {
            // somebody made it in the same instant: look at it, and decide again
            return Err(WriteError::Conflict.halfway());
        }
        Ok(self.applied(desired, &live, true, true))
    }

    /// Changes a Secret.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where it was changed since it was read; [`WriteError::Unsure`] where it may hold the values.
    pub async fn update(&self, update: &Update, priority: Priority) -> Result<Written, WriteError> {
        let desired = &update.desired;
        let key = Key::new(&desired.namespace, &desired.name);
        let _place = self.writing(priority).await?;
        let mut version = update.resource_version.clone();
        if let Some(entries) = &update.managed_fields {
            let patch = json!({ "metadata": { "resourceVersion": version, "managedFields": entries } });
            version = version_of(&self.merge(&key, &patch).await?);
            self.leads()?;
        }
        let applied = self.apply(&key, &body(desired, Some(&version)), &desired.manager, true).await;
        let mut live = applied.map_err(|error| error.naming(desired).of_values())?;
        if !update.remove.is_empty() {
            let gone: serde_json::Map<String, Value> = update.remove.iter().map(|k| (k.clone(), Value::Null)).collect();
            let patch = json!({ "metadata": { "resourceVersion": version_of(&live) }, "data": gone });
            self.leads().map_err(WriteError::halfway)?;
            live = self.merge(&key, &patch).await.map_err(WriteError::halfway)?;
        }
        let changed = version_of(&live) != update.resource_version && !update.quiet;
        Ok(self.applied(desired, &live, false, changed))
    }

    /// Deletes the Secret of that uid, and no other of its name.
    ///
    /// # Errors
    /// What the API server said; that it is gone already is fine.
    pub async fn delete(&self, key: &Key, uid: &str, priority: Priority) -> Result<(), WriteError> {
        let _place = self.writing(priority).await?;
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::default().preconditions(preconditions);
        let secrets = self.secrets(&key.namespace);
        match self.within(secrets.delete(&key.name, &params), "delete", "Secret", key).await {
            Ok(_) | Err(WriteError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Writes an ExternalSecret's status, all of it, and gives the object as it is then.
    ///
    /// # Errors
    /// What the API server said. [`WriteError::Refused`] where another object has the name now.
    pub async fn external_secret_status(
        &self,
        es: &ExternalSecret,
        status: &ExternalSecretStatus,
        priority: Priority,
    ) -> Result<ExternalSecret, WriteError> {
        let api = namespaced(&self.client, es.metadata.namespace.as_deref().unwrap_or_default());
        let written = self.whole_status(&api, &es.metadata, status, priority, "ExternalSecret").await;
        WriteError::or_as_it_was(written, || ExternalSecret { status: Some(status.clone()), ..es.clone() })
    }

    /// Writes a status, all of it, of the object of that uid and no other of its name; gives the object as it is then.
    ///
    /// # Errors
    /// What the API server said. [`WriteError::Refused`] where another object has the name now.
    async fn whole_status<K>(
        &self,
        api: &Api<K>,
        meta: &ObjectMeta,
        status: &impl Serialize,
        priority: Priority,
        kind: &str,
    ) -> Result<K, WriteError>
    where
        K: kube::Resource + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let key = Key::of(meta);
        let operations = json!([
            { "op": "test", "path": "/metadata/uid", "value": meta.uid },
            { "op": "add", "path": "/status", "value": status },
        ]);
        let no_json = |_| WriteError::Refused(format!("unable to write {kind} {key}: its status is no JSON"));
        let patch: Patch<()> = Patch::Json(serde_json::from_value(operations).map_err(no_json)?);
        self.status(api, &key, &patch, priority, kind).await
    }

    /// Writes a store's status, and gives the store as it is then.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn store_status(&self, store: &AnyStore, status: &StoreStatus) -> Result<AnyStore, WriteError> {
        let key = Key::of(&store.metadata);
        let fields = json!({ "capabilities": status.capabilities, "conditions": status.conditions });
        let patch = Patch::Merge(json!({ "status": fields }));
        let written = match store.kind {
            StoreKind::SecretStore => {
                let api: Api<SecretStore> = Api::namespaced(self.client.clone(), &key.namespace);
                self.status(&api, &key, &patch, Priority::Changed, "SecretStore").await.map(AnyStore::from)
            }
            StoreKind::ClusterSecretStore => {
                let api: Api<ClusterSecretStore> = Api::all(self.client.clone());
                self.status(&api, &key, &patch, Priority::Changed, "ClusterSecretStore").await.map(AnyStore::from)
            }
        };
        WriteError::or_as_it_was(written, || AnyStore { status: Some(status.clone()), ..store.clone() })
    }

    /// Takes ESO's finalizer off an ExternalSecret.
    ///
    /// # Errors
    /// What the API server said; that the object is gone already is fine.
    pub async fn remove_finalizer(&self, es: &ExternalSecret) -> Result<(), WriteError> {
        let key = Key::of(&es.metadata);
        let _place = self.writing(Priority::Changed).await?;
        let left: Vec<&String> = es.metadata.finalizers.iter().flatten().filter(|f| *f != FINALIZER_ESO).collect();
        let patch = json!({ "metadata": { "resourceVersion": es.metadata.resource_version, "finalizers": left } });
        let api: Api<ExternalSecret> = Api::namespaced(self.client.clone(), &key.namespace);
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        match self.within(api.patch(&key.name, &params, &patch), "update", "ExternalSecret", &key).await {
            Ok(_) | Err(WriteError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn status<K>(
        &self,
        api: &Api<K>,
        key: &Key,
        patch: &Patch<impl Serialize + std::fmt::Debug>,
        priority: Priority,
        kind: &str,
    ) -> Result<K, WriteError>
    where
        K: kube::Resource + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let _place = self.writing(priority).await?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let mut object = self.within(api.patch_status(&key.name, &params, patch), "update the status of", kind, key).await?;
        object.meta_mut().managed_fields = None;
        Ok(object)
    }

    async fn apply(&self, key: &Key, body: &Secret, manager: &str, force: bool) -> Result<Secret, WriteError> {
        let mut params = PatchParams::apply(manager);
        params.force = force;
        let request = server_side::apply(self.secrets(&key.namespace), &key.name, &params, body);
        self.within(request, "write", "Secret", key).await
    }

    async fn merge(&self, key: &Key, patch: &Value) -> Result<Secret, WriteError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let (secrets, patch) = (self.secrets(&key.namespace), Patch::Merge(patch));
        self.within(secrets.patch(&key.name, &params, &patch), "write", "Secret", key).await
    }

    fn applied(&self, desired: &Desired, live: &Secret, created: bool, changed: bool) -> Written {
        let data = data_digest(desired, live, &self.digester);
        Written::Applied { created, changed, resource_version: version_of(live), data }
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        namespaced(&self.client, namespace)
    }

    /// The answer to a request, in time. While the API server cannot be reached, each request keeps its place for a while, so that no
    /// more than a place's worth of them go out in that time, however many objects there are.
    fn within<'w, T: 'w>(
        &'w self,
        request: impl Future<Output = Result<T, kube::Error>> + 'w,
        verb: &'w str,
        kind: &'w str,
        key: &'w Key,
    ) -> impl Future<Output = Result<T, WriteError>> + 'w {
        self.within_as(request, verb, kind, key, move |error| WriteError::of(error, verb, kind, key))
    }

    /// The same, with an error in these words.
    fn within_as<'w, T: 'w>(
        &'w self,
        request: impl Future<Output = Result<T, kube::Error>> + 'w,
        verb: &'w str,
        kind: &'w str,
        key: &'w Key,
        words: impl FnOnce(kube::Error) -> WriteError + 'w,
    ) -> impl Future<Output = Result<T, WriteError>> + 'w {
        // kilobytes, which every object that waits for its place would hold else
        let request = Box::pin(request);
        async move {
            let answer = match tokio::time::timeout(self.limit, request).await {
                Ok(answer) => answer,
                Err(_) => return Err(WriteError::late(verb, kind, key)),
            };
            if let Err(error) = &answer
                && !matches!(error, kube::Error::Api(_) | kube::Error::SerdeError(_))
            {
                tokio::time::sleep(UNREACHABLE).await;
            }
            answer.map_err(words)
        }
    }

    /// A place among the requests that may be under way.
    async fn place(&self, priority: Priority) -> Result<SemaphorePermit<'_>, WriteError> {
        let places = if priority == Priority::Periodic { &self.periodic } else { &self.urgent };
        places.acquire().await.map_err(|_| WriteError::NotLeader)
    }

    /// A place for a write, given only while this process leads.
    async fn writing(&self, priority: Priority) -> Result<SemaphorePermit<'_>, WriteError> {
        let place = self.place(priority).await?;
        self.leads().map(|()| place)
    }

    /// Whether this process may write, asked anew before each request of a row.
    fn leads(&self) -> Result<(), WriteError> {
        if self.leadership.may_write() { Ok(()) } else { Err(WriteError::NotLeader) }
    }
}

/// An `Api` of one namespace, always: a list or a read across namespaces is a leak waiting to happen (GHSA-fcxq-v2r3-cc8h).
fn namespaced<K>(client: &kube::Client, namespace: &str) -> Api<K>
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), namespace)
}

fn version_of(secret: &Secret) -> String {
    secret.metadata.resource_version.clone().unwrap_or_default()
}

/// What is applied: only what we own.
#[must_use]
pub fn body(desired: &Desired, version: Option<&str>) -> Secret {
    let some = |map: &std::collections::BTreeMap<String, String>| (!map.is_empty()).then(|| map.clone());
    let mut secret = Secret {
        type_: desired.type_.clone(),
        immutable: desired.immutable.then_some(true),
        data: Some(desired.data.iter().map(|(k, v)| (k.clone(), ByteString(v.expose().to_vec()))).collect()),
        ..Secret::default()
    };
    secret.metadata.name = Some(desired.name.clone());
    secret.metadata.namespace = Some(desired.namespace.clone());
    secret.metadata.labels = some(&desired.labels);
    secret.metadata.annotations = some(&desired.annotations);
    secret.metadata.finalizers = (!desired.finalizers.is_empty()).then(|| desired.finalizers.clone());
    secret.metadata.owner_references = desired.owner.clone().map(|owner| vec![owner]);
    secret.metadata.resource_version = version.map(str::to_owned);
    secret
}
