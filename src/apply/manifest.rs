//! Writes of targets of other kinds than Secret.

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::error::WriteError;
use super::{Writer, server_side};
use crate::index::Key;
use crate::plan::manifest::{Desired, Update};
use crate::plan::target::FIELD_MANAGER;
use crate::queue::Priority;
use crate::render::manifest::SecretJson;

impl Writer {
    /// Reads an object, whole.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn read_manifest(
        &self,
        resource: &ApiResource,
        key: &Key,
        priority: Priority,
    ) -> Result<Option<DynamicObject>, WriteError> {
        let _place = self.place(priority).await?;
        self.within(self.manifests(resource, key).get_opt(&key.name), "read", &resource.kind, key).await
    }

    /// Makes an object that is not there, or changes the one that is; gives it as it is then.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where it is there after all, or was changed since it was read; [`WriteError::Unsure`] where it may hold
    /// what is wanted all the same.
    pub async fn write_manifest(
        &self,
        resource: &ApiResource,
        key: &Key,
        desired: &Desired,
        update: Option<&Update>,
        priority: Priority,
    ) -> Result<DynamicObject, WriteError> {
        let _place = self.writing(priority).await?;
        let api = self.manifests(resource, key);
        let mut params = PatchParams::apply(&desired.manager);
        params.force = update.is_some();
        let mut body = desired.body.expose().clone();
        if let Some(Update { resource_version, managed_fields }) = update {
            let mut version = Some(resource_version.clone());
            if let Some(entries) = managed_fields {
                let patch = json!({ "metadata": { "resourceVersion": version, "managedFields": entries } });
                let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
                let patch = Patch::Merge(patch);
                let retired = self.within(api.patch(&key.name, &params, &patch), "write", &resource.kind, key).await?;
                version = retired.metadata.resource_version;
                self.leads()?;
            }
            body["metadata"]["resourceVersion"] = json!(version);
        }
        let body = SecretJson::new(body);
        let request = server_side::apply(api, &key.name, &params, body.expose());
        let (kind, names) = (&*resource.kind, &desired.names);
        let words = move |error: kube::Error| WriteError::of_object(error, "write", kind, key, names);
        let written = self.within_as(request, "write", kind, key, words).await;
        let live = written.map_err(WriteError::of_values)?;
        let others = |manager: Option<&str>| manager != Some(&desired.manager);
        let mut managers = live.metadata.managed_fields.iter().flatten();
        if update.is_none() && managers.any(|e| others(e.manager.as_deref()) && e.subresource.is_none()) {
            // somebody made it in the same instant: look at it, and decide again
            return Err(WriteError::Conflict.halfway());
        }
        Ok(live)
    }

    /// Deletes the object of that uid, and no other of its name.
    ///
    /// # Errors
    /// What the API server said; that it is gone already is fine.
    pub async fn delete_manifest(
        &self,
        resource: &ApiResource,
        key: &Key,
        uid: &str,
        priority: Priority,
    ) -> Result<(), WriteError> {
        let _place = self.writing(priority).await?;
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::default().preconditions(preconditions);
        let api = self.manifests(resource, key);
        match self.within(api.delete(&key.name, &params), "delete", &resource.kind, key).await {
            Ok(_) | Err(WriteError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// An `Api` of one namespace, always.
    fn manifests(&self, resource: &ApiResource, key: &Key) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &key.namespace, resource)
    }
}
