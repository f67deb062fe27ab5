//! Writes of GeneratorStates.

use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, Preconditions};
use serde_json::json;

use super::error::WriteError;
use super::{Writer, namespaced};
use crate::api::generators::{GeneratorState, STATE_FINALIZER, STATE_OWNER_KEY};
use crate::index::Key;
use crate::plan::target::FIELD_MANAGER;
use crate::queue::Priority;

const KIND: &str = "GeneratorState";

impl Writer {
    /// Makes a state.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn create_state(&self, state: &GeneratorState) -> Result<GeneratorState, WriteError> {
        let key = Key::new(
            state.metadata.namespace.as_deref().unwrap_or_default(),
            state.metadata.generate_name.as_deref().unwrap_or_default(),
        );
        self.create_object(&key, json!(state)).await
    }

    /// The states that carry a label, of one namespace.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn states_of(&self, namespace: &str, label: &str) -> Result<Vec<GeneratorState>, WriteError> {
        let key = Key::new(namespace, "");
        let _place = self.place(Priority::Changed).await?;
        let params = ListParams::default().labels(&format!("{STATE_OWNER_KEY}={label}"));
        Ok(self.within(self.states(&key).list(&params), "list", KIND, &key).await?.items)
    }

    /// Sets when a state is cleaned up.
    ///
    /// # Errors
    /// What the API server said; that it is gone already is fine.
    pub async fn expire_state(&self, key: &Key, deadline: jiff::Timestamp) -> Result<Option<GeneratorState>, WriteError> {
        let patch = json!({ "spec": { "garbageCollectionDeadline": k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(deadline) } });
        self.patch_state(key, &patch).await
    }

    /// Writes what a state holds, unless it changed since it was seen.
    ///
    /// # Errors
    /// What the API server said; that it is gone already is fine.
    pub async fn update_state(
        &self,
        seen: &GeneratorState,
        holds: &serde_json::Value,
    ) -> Result<Option<GeneratorState>, WriteError> {
        let patch = json!({ "metadata": { "resourceVersion": seen.metadata.resource_version }, "spec": { "state": holds } });
        self.patch_state(&Key::of(&seen.metadata), &patch).await
    }

    /// Takes our finalizer off a state.
    ///
    /// # Errors
    /// What the API server said; that it is gone already is fine.
    pub async fn release_state(&self, state: &GeneratorState) -> Result<(), WriteError> {
        let left: Vec<&String> = state.metadata.finalizers.iter().flatten().filter(|f| *f != STATE_FINALIZER).collect();
        let patch = json!({ "metadata": { "resourceVersion": state.metadata.resource_version, "finalizers": left } });
        self.patch_state(&Key::of(&state.metadata), &patch).await.map(drop)
    }

    /// Deletes the state of that uid.
    ///
    /// # Errors
    /// What the API server said; that it is gone already is fine.
    pub async fn delete_state(&self, key: &Key, uid: &str) -> Result<(), WriteError> {
        let _place = self.writing(Priority::Changed).await?;
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::default().preconditions(preconditions);
        gone_is_fine(self.within(self.states(key).delete(&key.name, &params), "delete", KIND, key).await).map(drop)
    }

    async fn patch_state(&self, key: &Key, patch: &serde_json::Value) -> Result<Option<GeneratorState>, WriteError> {
        let _place = self.writing(Priority::Changed).await?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        gone_is_fine(self.within(self.states(key).patch(&key.name, &params, &patch), "update", KIND, key).await)
    }

    fn states(&self, key: &Key) -> Api<GeneratorState> {
        namespaced(&self.client, &key.namespace)
    }
}

fn gone_is_fine<T>(result: Result<T, WriteError>) -> Result<Option<T>, WriteError> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(WriteError::Gone) => Ok(None),
        Err(error) => Err(error),
    }
}
