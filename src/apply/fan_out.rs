//! Writes of cluster-wide parents: their children, their statuses, and the finalizers that ESO left.
//!
//! A child is made by `create` and changed by a merge patch under its resourceVersion, not by apply: apply could take hold of an
//! object that somebody else made in the same instant, and leaves in place what another field manager wrote into a child, which
//! ESO overwrites.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions, TypeMeta};
use kube::core::NamespaceResourceScope;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::error::WriteError;
use super::{Writer, namespaced};
use crate::api::fan_out::{Child, Parent, ParentKind, ParentStatus};
use crate::api::{ClusterExternalSecret, ClusterPushSecret, ExternalSecret, PushSecret};
use crate::index::Key;
use crate::plan::fan_out::{body, patch};
use crate::plan::target::FIELD_MANAGER;
use crate::queue::Priority;

impl Writer {
    /// Makes a child that is not there.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where something is there after all.
    pub async fn create_child(&self, parent: &Parent, key: &Key) -> Result<Child, WriteError> {
        let body = body(parent, key).map_err(|_| no_json(parent))?;
        match parent.kind() {
            ParentKind::ClusterExternalSecret => self.create_object::<ExternalSecret>(key, body).await.map(Child::from),
            ParentKind::ClusterPushSecret => self.create_object::<PushSecret>(key, body).await.map(Child::from),
        }
    }

    /// Brings a child that is there into line.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where it was changed meanwhile.
    pub async fn update_child(&self, parent: &Parent, live: &Child, key: &Key) -> Result<Child, WriteError> {
        let patch = patch(parent, live).map_err(|_| no_json(parent))?;
        match parent.kind() {
            ParentKind::ClusterExternalSecret => {
                let api = namespaced::<ExternalSecret>(&self.client, &key.namespace);
                self.patch_object(&api, key, &patch, "ExternalSecret").await.map(Child::from)
            }
            ParentKind::ClusterPushSecret => {
                let api = namespaced::<PushSecret>(&self.client, &key.namespace);
                self.patch_object(&api, key, &patch, "PushSecret").await.map(Child::from)
            }
        }
    }

    /// Deletes the child of that uid, and no other of its name.
    ///
    /// # Errors
    /// What the API server said; that it is gone already is fine.
    pub async fn delete_child(&self, kind: ParentKind, key: &Key, uid: &str) -> Result<(), WriteError> {
        match kind {
            ParentKind::ClusterExternalSecret => self.delete_object::<ExternalSecret>(kind.child(), key, uid).await,
            ParentKind::ClusterPushSecret => self.delete_object::<PushSecret>(kind.child(), key, uid).await,
        }
    }

    /// Writes a parent's status, and gives the parent as it is then.
    ///
    /// # Errors
    /// What the API server said.
    pub async fn parent_status(&self, parent: &Parent, status: &ParentStatus) -> Result<Parent, WriteError> {
        let key = Key::of(parent.metadata());
        let mut fields = json!({
            "provisionedNamespaces": status.seen.provisioned,
            "failedNamespaces": status.seen.failed,
            "conditions": status.seen.conditions,
        });
        match parent {
            Parent::ClusterExternalSecret(_) => {
                fields["externalSecretName"] = json!(status.child_name);
                let api: Api<ClusterExternalSecret> = Api::all(self.client.clone());
                let patch = Patch::Merge(json!({ "status": fields }));
                self.status(&api, &key, &patch, Priority::Changed, "ClusterExternalSecret").await.map(Parent::from)
            }
            Parent::ClusterPushSecret(_) => {
                fields["pushSecretName"] = json!(status.child_name);
                let api: Api<ClusterPushSecret> = Api::all(self.client.clone());
                let patch = Patch::Merge(json!({ "status": fields }));
                self.status(&api, &key, &patch, Priority::Changed, "ClusterPushSecret").await.map(Parent::from)
            }
        }
    }

    /// Sets the finalizers of a parent: those that are not ESO's.
    ///
    /// # Errors
    /// What the API server said; that the object is gone already is fine.
    pub async fn parent_finalizers(&self, parent: &Parent, finalizers: &[String]) -> Result<(), WriteError> {
        let key = Key::of(parent.metadata());
        let version = parent.metadata().resource_version.as_deref().unwrap_or_default();
        match parent {
            Parent::ClusterExternalSecret(_) => {
                let api: Api<ClusterExternalSecret> = Api::all(self.client.clone());
                self.finalizers(&api, &key, finalizers, version, "ClusterExternalSecret").await
            }
            // ESO puts none there
            Parent::ClusterPushSecret(_) => Ok(()),
        }
    }

    /// Sets the finalizers of a namespace: those that are not ESO's.
    ///
    /// # Errors
    /// What the API server said; that the namespace is gone already is fine.
    pub async fn namespace_finalizers(&self, key: &Key, finalizers: &[String], version: &str) -> Result<(), WriteError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        self.finalizers(&api, key, finalizers, version, "Namespace").await
    }

    async fn finalizers<K>(
        &self,
        api: &Api<K>,
        key: &Key,
        finalizers: &[String],
        version: &str,
        kind: &str,
    ) -> Result<(), WriteError>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let patch = json!({ "metadata": { "resourceVersion": version, "finalizers": finalizers } });
        match self.patch_object(api, key, &patch, kind).await {
            Ok(_) | Err(WriteError::Gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes an object of the kind `K` out of `body`, which need not say its kind: what is serialized from our types does not.
    ///
    /// # Errors
    /// [`WriteError::Conflict`] where something is there already; what else the API server said.
    pub(super) async fn create_object<K>(&self, key: &Key, body: Value) -> Result<K, WriteError>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let kind = K::kind(&());
        // the API server's answer is read as the type; what is sent is what the plan made
        let api: Api<kube::api::DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &kube::api::ApiResource::erase::<K>(&()));
        let invalid =
            |_| WriteError::Refused(format!("unable to create {kind} {key}: the API server's answer is no {kind}"));
        let mut object: kube::api::DynamicObject = serde_json::from_value(body).map_err(invalid)?;
        object.types = Some(TypeMeta::resource::<K>());
        let _place = self.writing(Priority::Changed).await?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let live = self.within(api.create(&params, &object), "create", &kind, key).await?;
        let mut live: K = serde_json::to_value(live).and_then(serde_json::from_value).map_err(invalid)?;
        live.meta_mut().managed_fields = None;
        Ok(live)
    }

    async fn patch_object<K>(&self, api: &Api<K>, key: &Key, patch: &Value, kind: &str) -> Result<K, WriteError>
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let _place = self.writing(Priority::Changed).await?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(patch);
        let mut live = self.within(api.patch(&key.name, &params, &patch), "update", kind, key).await?;
        live.meta_mut().managed_fields = None;
        Ok(live)
    }

    async fn delete_object<K>(&self, kind: &str, key: &Key, uid: &str) -> Result<(), WriteError>
    where
        K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + Clone + std::fmt::Debug,
    {
        let _place = self.writing(Priority::Changed).await?;
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams::default().preconditions(preconditions);
        let api = namespaced::<K>(&self.client, &key.namespace);
        match self.within(api.delete(&key.name, &params), "delete", kind, key).await {
            Ok(_) | Err(WriteError::Gone | WriteError::Unreadable(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn no_json(parent: &Parent) -> WriteError {
    WriteError::Refused(format!("the spec of {} {:?} cannot be written as JSON", parent.kind(), parent.name()))
}
