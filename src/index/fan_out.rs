//! What is known of cluster-wide parents, their children, and the namespaces that they may be in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Index, Key, controller_of, differs, forced, is_older, remove_user};
use crate::api::FINALIZER_ESO_NAMESPACE;
use crate::api::fan_out::{Child, Parent, ParentKind};
use crate::plan::fan_out::{Facts, is_meant};
use crate::queue::Priority;

/// A parent: its kind and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParentId {
    /// Its kind.
    pub kind: ParentKind,
    /// Its name.
    pub name: Arc<str>,
}

impl ParentId {
    /// The parent of a kind and a name.
    #[must_use]
    pub fn new(kind: ParentKind, name: &str) -> Self {
        Self { kind, name: name.into() }
    }

    /// The id of a parent.
    #[must_use]
    pub fn of(parent: &Parent) -> Self {
        Self::new(parent.kind(), parent.name())
    }

    /// The parent that is an object's controller.
    #[must_use]
    pub fn of_child(meta: &ObjectMeta) -> Option<Self> {
        let owner = controller_of(meta)?;
        Some(Self::new(ParentKind::of_owner(owner)?, &owner.name))
    }
}

impl std::fmt::Display for ParentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What decides something about a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceView {
    /// Its uid: one that was deleted and made again is empty.
    pub uid: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// All its finalizers, where ESO left one for a ClusterExternalSecret.
    pub finalizers: Vec<String>,
    /// Its resourceVersion then.
    pub resource_version: String,
}

impl NamespaceView {
    /// Takes what decides something out of a namespace's metadata.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        let mut finalizers = meta.finalizers.clone().unwrap_or_default();
        if !finalizers.iter().any(|f| f.starts_with(FINALIZER_ESO_NAMESPACE)) {
            finalizers.clear();
        }
        let held = !finalizers.is_empty();
        Self {
            uid: meta.uid.clone().unwrap_or_default(),
            labels: meta.labels.clone().unwrap_or_default(),
            terminating: meta.deletion_timestamp.is_some(),
            resource_version: meta.resource_version.clone().filter(|_| held).unwrap_or_default(),
            finalizers,
        }
    }

    /// The ClusterExternalSecrets for which ESO left a finalizer.
    pub fn holders(&self) -> impl Iterator<Item = ParentId> {
        let names = self.finalizers.iter().filter_map(|f| f.strip_prefix(FINALIZER_ESO_NAMESPACE));
        names.map(|name| ParentId::new(ParentKind::ClusterExternalSecret, name))
    }
}

/// Parents, and who belongs to them.
#[derive(Default)]
pub(super) struct FanOut {
    parents: HashMap<ParentId, Arc<Parent>>,
    /// By the name of their children.
    by_child_name: HashMap<(ParentKind, String), BTreeSet<ParentId>>,
    children: HashMap<ParentId, BTreeSet<Key>>,
    namespaces: BTreeMap<Arc<str>, Arc<NamespaceView>>,
}

impl FanOut {
    /// An object that may be a child appeared.
    pub(super) fn link(&mut self, key: &Key, meta: &ObjectMeta) {
        if let Some(parent) = ParentId::of_child(meta) {
            self.children.entry(parent).or_default().insert(key.clone());
        }
    }

    /// An object that may be a child is gone, or is about to be another.
    pub(super) fn unlink(&mut self, key: &Key, meta: &ObjectMeta) {
        if let Some(parent) = ParentId::of_child(meta) {
            remove_user(&mut self.children, &parent, key);
        }
    }
}

impl Index {
    /// As [`Index::upsert_parent`], for a parent as our own write left it: one that went meanwhile does not come back. The
    /// answer may bring an edit before the watch does.
    pub fn renew_parent(&mut self, new: Arc<Parent>) -> Option<Priority> {
        let old = self.fan_out.parents.get(&ParentId::of(&new));
        let held = old.is_some_and(|old| old.metadata().uid == new.metadata().uid);
        if held { self.upsert_parent(new) } else { None }
    }

    /// A parent appeared or changed. `None` where nothing that decides something did.
    pub fn upsert_parent(&mut self, new: Arc<Parent>) -> Option<Priority> {
        let id = ParentId::of(&new);
        let old = self.fan_out.parents.get(&id).cloned();
        if let Some(old) = &old {
            if is_older(new.metadata(), old.metadata()) {
                return None;
            }
            remove_user(&mut self.fan_out.by_child_name, &(id.kind, old.child_name().to_owned()), &id);
        }
        self.fan_out.by_child_name.entry((id.kind, new.child_name().to_owned())).or_default().insert(id.clone());
        self.fan_out.parents.insert(id, new.clone());
        match old {
            None if new.status().is_some() => Some(Priority::Periodic),
            None => Some(Priority::New),
            Some(old) if forced(old.metadata(), new.metadata()) => Some(Priority::Forced),
            Some(old) => differs(old.metadata(), new.metadata()).then_some(Priority::Changed),
        }
    }

    /// A parent is gone.
    pub fn remove_parent(&mut self, id: &ParentId) {
        if let Some(old) = self.fan_out.parents.remove(id) {
            remove_user(&mut self.fan_out.by_child_name, &(id.kind, old.child_name().to_owned()), id);
        }
    }

    /// Whose children an object concerns: those of its controller, and those whose place it takes.
    #[must_use]
    pub fn parents_of(&self, kind: ParentKind, meta: &ObjectMeta) -> BTreeSet<ParentId> {
        let name = meta.name.clone().unwrap_or_default();
        let rivals = self.fan_out.by_child_name.get(&(kind, name)).into_iter().flatten().cloned();
        rivals.chain(ParentId::of_child(meta)).collect()
    }

    /// A namespace appeared or changed: whose children belong there now, or did before, and for whom ESO left a finalizer.
    pub fn see_namespace(&mut self, meta: &ObjectMeta) -> BTreeSet<ParentId> {
        let name: Arc<str> = meta.name.as_deref().unwrap_or_default().into();
        let new = Arc::new(NamespaceView::of(meta));
        let old = self.fan_out.namespaces.insert(name.clone(), new.clone());
        if old.as_ref() == Some(&new) {
            return BTreeSet::new();
        }
        let mut woken: BTreeSet<ParentId> = new.holders().collect();
        woken.extend(self.meant(&name, [Some(&*new), old.as_deref()].into_iter().flatten()));
        woken
    }

    /// A namespace is gone: whose children were there.
    pub fn lose_namespace(&mut self, name: &str) -> BTreeSet<ParentId> {
        let old = self.fan_out.namespaces.remove(name);
        self.meant(name, old.as_deref().into_iter())
    }

    /// The parents that mean a namespace as it is or was.
    fn meant<'a>(&self, name: &str, views: impl Iterator<Item = &'a NamespaceView> + Clone) -> BTreeSet<ParentId> {
        let parents = self.fan_out.parents.iter();
        let meant = parents.filter(|(_, parent)| views.clone().any(|view| is_meant(parent, name, &view.labels)));
        meant.map(|(id, _)| id.clone()).collect()
    }

    /// The children of parents of a kind, in a namespace or in all.
    #[must_use]
    pub fn children_of(&self, kind: ParentKind, namespace: Option<&str>) -> Vec<Key> {
        let of_kind = self.fan_out.children.iter().filter(|(parent, _)| parent.kind == kind);
        let keys = of_kind.flat_map(|(_, keys)| keys);
        keys.filter(|key| namespace.is_none_or(|name| *name == *key.namespace)).cloned().collect()
    }

    /// Everything that the plan for a parent needs.
    #[must_use]
    pub fn fan_out_facts(&self, id: &ParentId) -> Facts {
        let parent = self.fan_out.parents.get(id).cloned();
        let namespaces = self.fan_out.namespaces.clone();
        let own = self.fan_out.children.get(id).into_iter().flatten().cloned();
        let places = parent.iter().flat_map(|parent| namespaces.keys().map(|ns| Key::new(ns, parent.child_name())));
        let children = own.chain(places).filter_map(|key| Some((key.clone(), self.child(id.kind, &key)?))).collect();
        Facts { id: id.clone(), parent, namespaces, children }
    }

    fn child(&self, kind: ParentKind, key: &Key) -> Option<Child> {
        match kind {
            ParentKind::ClusterExternalSecret => self.external_secret(key).map(Child::ExternalSecret),
            ParentKind::ClusterPushSecret => self.push_secret(key).map(Child::PushSecret),
        }
    }
}
