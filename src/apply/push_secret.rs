//! Writes for PushSecrets: their status, their finalizer, and the finalizer on stores that something was pushed to.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::WriteError;
use super::{Writer, namespaced};
use crate::api::secret_store::AnyStore;
use crate::api::{
    ClusterSecretStore, FINALIZER_PUSH, FINALIZER_STORE, PushSecret, PushSecretStatus, SecretStore, StoreKind,
};
use crate::guard::{Guard, Metadata};
use crate::index::Key;
use crate::plan::target::FIELD_MANAGER;
use crate::queue::Priority;

impl Writer {
    /// Whether this process may write at all, to providers too.
    #[must_use]
    pub fn may_write(&self) -> bool {
        self.leadership.may_write()
    }

    /// Secrets of a namespace by labels, whole.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn list(&self, namespace: &str, labels: &str, priority: Priority) -> Result<Vec<Secret>, WriteError> {
        let _place = self.place(priority).await?;
        let secrets: Api<Guard<Secret>> = namespaced(&self.client, namespace);
        let (params, key) = (ListParams::default().labels(labels), Key::new(namespace, ""));
        let listed = self.within(secrets.list(&params), "list", "Secrets of", &key).await?;
        let readable = |secret: Guard<Secret>| {
            secret.0.map_err(|(meta, why)| {
                WriteError::Refused(format!("unable to read Secret {}: it cannot be understood: {why}", Key::of(&meta)))
            })
        };
        listed.items.into_iter().map(readable).collect()
    }

    /// Like [`Writer::list`], metadata only.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn list_metadata(
        &self,
        namespace: &str,
        labels: &str,
        priority: Priority,
    ) -> Result<Vec<ObjectMeta>, WriteError> {
        let _place = self.place(priority).await?;
        let secrets: Api<Metadata<Secret>> = namespaced(&self.client, namespace);
        let (params, key) = (ListParams::default().labels(labels), Key::new(namespace, ""));
        let listed = self.within(secrets.list(&params), "list", "Secrets of", &key).await?;
        Ok(listed.items.into_iter().map(|secret| secret.0).collect())
    }

    /// Writes a PushSecret's status, all of it, and gives the object as it is then: what is pushed where must not be mixed with
    /// what was, as a merge would.
    ///
    /// # Errors
    /// What the API server said. [`WriteError::Refused`] where another object has the name now.
    pub async fn push_secret_status(
        &self,
        ps: &PushSecret,
        status: &PushSecretStatus,
        priority: Priority,
    ) -> Result<PushSecret, WriteError> {
        let api = namespaced(&self.client, ps.metadata.namespace.as_deref().unwrap_or_default());
        let written = self.whole_status(&api, &ps.metadata, status, priority, "PushSecret").await;
        WriteError::or_as_it_was(written, || PushSecret { status: Some(status.clone()), ..ps.clone() })
    }

    /// Puts our finalizer on a PushSecret, or takes it off; gives the object as it is then, `None` where it is gone.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where it was changed meanwhile.
    pub async fn push_secret_finalizer(&self, ps: &PushSecret, wanted: bool) -> Result<Option<PushSecret>, WriteError> {
        let key = Key::of(&ps.metadata);
        let api = namespaced::<PushSecret>(&self.client, &key.namespace);
        let patch = finalizer(&ps.metadata, FINALIZER_PUSH, wanted);
        self.held(&api, &key, &patch, "PushSecret").await
    }

    /// Puts our finalizer on a store, or takes it off; gives the store as it is then, `None` where it is gone.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where it was changed meanwhile.
    pub async fn store_finalizer(&self, store: &AnyStore, wanted: bool) -> Result<Option<AnyStore>, WriteError> {
        let key = Key::of(&store.metadata);
        let patch = finalizer(&store.metadata, FINALIZER_STORE, wanted);
        match store.kind {
            StoreKind::SecretStore => {
                let api = namespaced::<SecretStore>(&self.client, &key.namespace);
                Ok(self.held(&api, &key, &patch, "SecretStore").await?.map(AnyStore::from))
            }
            StoreKind::ClusterSecretStore => {
                let api: Api<ClusterSecretStore> = Api::all(self.client.clone());
                Ok(self.held(&api, &key, &patch, "ClusterSecretStore").await?.map(AnyStore::from))
            }
        }
    }

    async fn held<K>(&self, api: &Api<K>, key: &Key, patch: &Value, kind: &str) -> Result<Option<K>, WriteError>
    where
        K: kube::Resource + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let _place = self.writing(Priority::Changed).await?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        match self.within(api.patch(&key.name, &params, &patch), "update", kind, key).await {
            Ok(mut object) => {
                object.meta_mut().managed_fields = None;
                Ok(Some(object))
            }
            Err(WriteError::Gone) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The patch that puts a finalizer on, or takes it off, under the resourceVersion of what was seen.
fn finalizer(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta, name: &str, wanted: bool) -> Value {
    let others = meta.finalizers.iter().flatten().filter(|f| *f != name).map(String::as_str);
    let all: Vec<&str> = others.chain(wanted.then_some(name)).collect();
    json!({ "metadata": { "resourceVersion": meta.resource_version, "finalizers": all } })
}
