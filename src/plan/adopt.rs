//! Moving from ESO, and back: what is done to each object when a cluster changes hands. Nothing is deleted, and no value, label or
//! annotation of a Secret is touched on the way here.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::{Value, json};

use super::external_secret::Failure;
use super::target::{self, ESO_FIELD_MANAGER, FIELD_MANAGER, Ours};
use super::{access, object_hash};
use crate::api::external_secret::CreationPolicy;
use crate::api::push_secret::PushStoreRef;
use crate::api::{
    ANNOTATION_DATA_HASH, AnyStore, ClusterExternalSecret, ExternalSecret, FINALIZER_ESO, FINALIZER_ESO_CLUSTER,
    FINALIZER_ESO_NAMESPACE, FINALIZER_PUSH, FINALIZER_STORE, PushSecret, StoreKind,
};
use crate::index::{Key, StoreId, store_ids, target_key};
use crate::providers::ProviderSpec;
use crate::validate;

/// What happens to one object.
#[derive(Debug, Default)]
pub struct Step {
    /// Kind of the object.
    pub kind: &'static str,
    /// The object.
    pub key: Key,
    /// What is done to it now.
    pub does: Vec<String>,
    /// What whoever moves ought to know of it.
    pub warns: Vec<String>,
    /// The change; `None`: none is needed.
    pub change: Option<Change>,
}

/// A change of an object's metadata, or of what keyferry noted in its status.
#[derive(Debug)]
pub struct Change {
    /// The merge patch. It holds the object's resourceVersion.
    pub patch: Value,
    /// The field manager that it is sent as.
    pub manager: String,
    /// Whether it is of the status.
    pub status: bool,
}

impl Step {
    fn of(kind: &'static str, meta: &ObjectMeta) -> Self {
        Self { kind, key: Key::of(meta), ..Self::default() }
    }

    fn change(&mut self, meta: &ObjectMeta, what: impl Into<String>, mut fields: Value, manager: &str) {
        fields["resourceVersion"] = json!(meta.resource_version);
        self.does.push(what.into());
        self.change = Some(Change { patch: json!({ "metadata": fields }), manager: manager.into(), status: false });
    }

    /// Takes finalizers off; an object in deletion keeps them, as it would be gone without.
    fn release(&mut self, meta: &ObjectMeta, ours: impl Fn(&str) -> bool) {
        let (gone, left): (Vec<String>, Vec<String>) =
            meta.finalizers.clone().unwrap_or_default().into_iter().partition(|f| ours(f));
        if gone.is_empty() {
            return;
        }
        if meta.deletion_timestamp.is_some() {
            self.warns.push("it is being deleted: keyferry ends that when it runs, by the policies of the object".into());
            return;
        }
        self.change(
            meta,
            format!("takes the finalizer {} off", gone.join(" and ")),
            json!({ "finalizers": left }),
            FIELD_MANAGER,
        );
    }
}

/// The stores that could be listed.
#[derive(Debug, Default)]
pub struct Stores {
    /// By their id.
    pub known: BTreeMap<StoreId, AnyStore>,
    /// Whether nothing is known of ClusterSecretStores: who moves one namespace need not have the right to list them.
    pub no_cluster_stores: bool,
}

/// The ExternalSecrets that write each Secret. One whose target is of another kind writes none, nor does one of policy `None`.
#[must_use]
pub fn writers(all: &[ExternalSecret]) -> BTreeMap<Key, Vec<&ExternalSecret>> {
    let mut by_secret: BTreeMap<Key, Vec<&ExternalSecret>> = BTreeMap::new();
    for es in all.iter().filter(|es| writes_secret(es)) {
        by_secret.entry(target_key(&Key::of(&es.metadata), es)).or_default().push(es);
    }
    by_secret
}

fn writes_secret(es: &ExternalSecret) -> bool {
    let target = es.target();
    target.manifest.is_none() && target.creation_policy.unwrap_or_default() != CreationPolicy::None
}

/// What happens to an ExternalSecret.
#[must_use]
pub fn external_secret(es: &ExternalSecret, secret: Option<&ObjectMeta>, stores: &Stores) -> Step {
    let mut step = Step::of("ExternalSecret", &es.metadata);
    step.release(&es.metadata, |f| f == FINALIZER_ESO);
    let checks = [validate::validate_external_secret(es), validate::validate_template(&es.target())];
    step.warns.extend(
        checks
            .into_iter()
            .filter_map(Result::err)
            .map(|e| format!("it will be told of, and its Secret stays as it is: {e}")),
    );
    for id in store_ids(es).into_iter().filter(|id| !id.key.name.is_empty()) {
        match stores.known.get(&id).map(|store| &store.spec.provider) {
            None if id.kind == StoreKind::ClusterSecretStore && stores.no_cluster_stores => {}
            None => step.warns.push(format!("{id} is not there: the Secret stays as it is until it is")),
            Some(ProviderSpec::NotServed(name)) => {
                step.warns.push(format!("{id} uses the provider {name}, which is not served: the Secret stays as it is"));
            }
            Some(_) => {}
        }
    }
    match secret {
        _ if es.target().manifest.is_some() => {}
        None if !writes_secret(es) => {}
        None => {
            step.warns.push(format!("Secret {:?} is not there, and will be made if the policies say so", es.target_name()))
        }
        Some(meta) => {
            if let Err(Failure { cause, .. }) = target::check_owner(es, meta, true) {
                step.warns.push(cause);
            }
        }
    }
    step
}

/// What happens to the Secret that ESO wrote for one ExternalSecret, or for several that merge into it: only its `managedFields`
/// change hands, the entries of each to its own manager.
#[must_use]
pub fn secret(writers: &[&ExternalSecret], meta: &ObjectMeta) -> Step {
    let mut step = Step::of("Secret", meta);
    let mut retired = meta.clone();
    let mut changes = false;
    for es in writers {
        if let Some(entries) = target::retired(es, &retired) {
            retired.managed_fields = Some(entries);
            changes = true;
        }
    }
    if changes && meta.deletion_timestamp.is_none() {
        step.change(
            meta,
            "makes ESO's managedFields entries keyferry's",
            json!({ "managedFields": retired.managed_fields }),
            FIELD_MANAGER,
        );
    }
    step
}

/// What happens to a ClusterExternalSecret.
#[must_use]
pub fn cluster_external_secret(ces: &ClusterExternalSecret) -> Step {
    let mut step = Step::of("ClusterExternalSecret", &ces.metadata);
    step.release(&ces.metadata, |f| f == FINALIZER_ESO_CLUSTER);
    step
}

/// What happens to a namespace. One in deletion is set free too: what is in it goes with it.
#[must_use]
pub fn namespace(meta: &ObjectMeta) -> Step {
    let mut step = Step::of("Namespace", meta);
    let terminating = ObjectMeta { deletion_timestamp: None, ..meta.clone() };
    step.release(&terminating, |f| f.starts_with(FINALIZER_ESO_NAMESPACE));
    step
}

/// What happens to a PushSecret. Its finalizer stays where it has a purpose: keyferry's is the same, and means the same.
#[must_use]
pub fn push_secret(push: &PushSecret) -> Step {
    let mut step = Step::of("PushSecret", &push.metadata);
    if !push.deletes() {
        step.release(&push.metadata, |f| f == FINALIZER_PUSH);
    }
    step
}

/// What happens to a store. Its finalizer stays while a PushSecret needs the store to delete what it pushed.
#[must_use]
pub fn store(store: &AnyStore, pushes: &[PushSecret]) -> Step {
    let mut step = Step::of(store.kind.as_str(), &store.metadata);
    if !pushes.iter().any(|push| push.deletes() && pushes_to(push, store)) {
        step.release(&store.metadata, |f| f == FINALIZER_STORE);
    }
    if let ProviderSpec::NotServed(name) = &store.spec.provider {
        step.warns.push(format!(
            "the provider {name} is not served by this version: Secrets that are read from it stay as they are"
        ));
    }
    step
}

fn pushes_to(push: &PushSecret, store: &AnyStore) -> bool {
    let near = store.kind == StoreKind::ClusterSecretStore || store.namespace() == push.metadata.namespace.as_deref();
    let named = |r: &PushStoreRef| match &r.label_selector {
        Some(selector) => access::selects(selector, &store.metadata.labels.clone().unwrap_or_default()),
        None => r.name.as_deref() == Some(store.name()),
    };
    near && push.spec.secret_store_refs.iter().any(|r| r.kind.unwrap_or_default() == store.kind && named(r))
}

/// What happens to an ExternalSecret that goes back to ESO: what keyferry noted in its status goes. ESO sets its own finalizer.
#[must_use]
pub fn hand_back(es: &ExternalSecret) -> Step {
    let mut step = Step::of("ExternalSecret", &es.metadata);
    if es.status.as_ref().is_some_and(|s| s.target.is_some()) {
        step.does.push("takes keyferry's notes out of the status".into());
        let patch = json!({ "metadata": { "resourceVersion": es.metadata.resource_version }, "status": { "target": null } });
        step.change = Some(Change { patch, manager: FIELD_MANAGER.into(), status: true });
    }
    step
}

/// What happens to the Secret of ExternalSecrets that go back to ESO. ESO takes a Secret for changed, and writes it anew, unless
/// it carries the hash of its data; and it takes out a key that leaves the spec only if its own field manager wrote the key.
#[must_use]
pub fn hand_back_secret(writers: &[&ExternalSecret], secret: &Secret) -> Step {
    let meta = &secret.metadata;
    let mut step = Step::of("Secret", meta);
    let handed = handed_back(writers, meta);
    let hash = object_hash::data_hash(&secret.data.clone().unwrap_or_default());
    let hashed = meta.annotations.as_ref().and_then(|a| a.get(ANNOTATION_DATA_HASH)) == Some(&hash);
    let Some(first) = writers.first().filter(|_| meta.deletion_timestamp.is_none()) else { return step };
    if hashed && handed.is_none() {
        return step;
    }
    let mut fields = json!({});
    let mut does = Vec::new();
    if let Some(entries) = handed {
        fields["managedFields"] = json!(entries);
        does.push("makes keyferry's managedFields entries ESO's");
    }
    if !hashed {
        fields["annotations"] = json!({ ANNOTATION_DATA_HASH: hash });
        does.push("writes ESO's data-hash");
    }
    step.change(meta, does.join(", "), fields, &eso_manager(first));
    step
}

/// `managedFields` in which each entry of keyferry's is of the manager that ESO has for the same ExternalSecret: it takes from a
/// Secret what its manager wrote and the spec lacks, so that one must not get what another wrote. `None`: no entry changes.
fn handed_back(writers: &[&ExternalSecret], meta: &ObjectMeta) -> Option<Vec<ManagedFieldsEntry>> {
    let alone = writers.iter().find(|es| Ours::of(es, meta).alone);
    let sole = alone.or(writers.first().filter(|_| writers.len() == 1)).map(|es| eso_manager(es));
    let to = |entry: &ManagedFieldsEntry| -> Option<String> {
        let manager = entry.manager.as_deref().filter(|_| target::is_our_entry(entry))?;
        match manager.strip_prefix(FIELD_MANAGER).map(|rest| rest.strip_prefix('/')) {
            // what nobody else writes
            _ if alone.is_some() => sole.clone(),
            Some(None) => sole.clone(),
            // a name has no '/': this is the hash of one, which both have
            Some(Some(name)) if name.contains('/') => Some(format!("{ESO_FIELD_MANAGER}{name}")),
            Some(Some(name)) => Some(object_hash::field_manager(name)),
            None => Some(manager.to_owned()),
        }
    };
    let mut entries = meta.managed_fields.clone().unwrap_or_default();
    let ours = entries.iter().filter(|e| e.manager.as_deref().is_some_and(target::is_own_manager));
    let managers: BTreeSet<String> = ours.filter_map(to).collect();
    for manager in &managers {
        entries = target::joined(&entries, |entry| to(entry).as_ref() == Some(manager), manager, "Update");
    }
    (!managers.is_empty()).then_some(entries)
}

fn eso_manager(es: &ExternalSecret) -> String {
    object_hash::field_manager(es.metadata.name.as_deref().unwrap_or_default())
}

/// What stands in the way of a definition of ours where one of ESO's is installed.
#[must_use]
pub fn definition(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> Vec<String> {
    let mut warns = Vec::new();
    let stored = ours.spec.versions.iter().filter(|v| v.storage).map(|v| v.name.as_str());
    for version in stored.filter(|name| !theirs.spec.versions.iter().any(|v| v.served && v.name == *name)) {
        warns.push(format!("{version} is not served, so that its objects are not seen: upgrade ESO first"));
    }
    if theirs.spec.conversion.as_ref().is_some_and(|c| c.strategy == "Webhook" || c.webhook.is_some()) {
        warns.push("it has a conversion webhook, beside which keyferry's is refused: take that off first".into());
    }
    let left = theirs.status.iter().flat_map(|s| s.stored_versions.iter().flatten());
    for version in left.filter(|name| !ours.spec.versions.iter().any(|v| v.name == **name)) {
        warns.push(format!("status.storedVersions has {version}, without which keyferry's is refused: take that out first"));
    }
    warns
}

/// Containers of a Deployment that run a program, by the last part of their image's name; sub-commands that only answer webhooks
/// or renew certificates do not count.
#[must_use]
pub fn runs<'a>(mut containers: impl Iterator<Item = (&'a str, &'a [String])>, program: &str) -> bool {
    let name = |image: &str| -> String {
        let path = image.split('@').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        path.split(':').next().unwrap_or_default().to_owned()
    };
    containers.any(|(image, args)| name(image) == program && !args.iter().any(|a| a == "webhook" || a == "certcontroller"))
}
