//! ClusterExternalSecrets and ClusterPushSecrets become the children that they would have in the namespaces that are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use super::manifests::{At, Located, Manifests, NAMESPACE_NAME, NO_CLUSTER};
use crate::api::fan_out::{Child, Parent, ParentKind};
use crate::api::{ExternalSecret, PushSecret};
use crate::index::{Key, NamespaceView};
use crate::plan::Rules;
use crate::plan::fan_out::{self as plan, Facts};

/// Adds the children of all cluster-wide parents. `named`: the namespaces that a parent names are there, known or not.
pub fn expand(manifests: &mut Manifests, named: bool) {
    let known: BTreeMap<Arc<str>, Arc<NamespaceView>> =
        manifests.namespaces.iter().map(|(name, labels)| namespace(name, labels.clone())).collect();
    for (id, Located { object: parent, at }) in std::mem::take(&mut manifests.parents) {
        let children = namesakes(manifests, &parent);
        let mut namespaces = known.clone();
        for name in parent.namespaces().iter().filter(|_| named) {
            namespaces.entry(name.as_str().into()).or_insert_with(|| namespace(name, BTreeMap::new()).1);
        }
        let facts = Facts { id: id.clone(), parent: Some(parent.clone()), namespaces, children };
        let planned = plan::plan(&facts, &Rules::default());
        let label = format!("{id} ({at})");
        let failed = planned.failed.iter().map(|(namespace, why)| format!("{label}: namespace {namespace}: {why}"));
        match &planned.lost {
            Some(why) => manifests.problems.push(format!("{label}: {why}")),
            None => manifests.problems.extend(failed),
        }
        let none = planned.write.is_empty() && planned.provisioned.is_empty() && planned.failed.is_empty();
        if none && planned.lost.is_none() {
            manifests.notes.push(format!("{label}: it means no Namespace that is among the manifests"));
        }
        for write in planned.write {
            match parent.kind() {
                ParentKind::ClusterExternalSecret => {
                    manifests
                        .external_secrets
                        .extend(child(&parent, &at, write.key, |es: &mut ExternalSecret| &mut es.metadata));
                }
                ParentKind::ClusterPushSecret => {
                    manifests.push_secrets.extend(child(&parent, &at, write.key, |ps: &mut PushSecret| &mut ps.metadata));
                }
            }
        }
    }
}

fn namespace(name: &str, mut labels: BTreeMap<String, String>) -> (Arc<str>, Arc<NamespaceView>) {
    labels.insert(NAMESPACE_NAME.into(), name.to_owned());
    (name.into(), Arc::new(NamespaceView { labels, ..NamespaceView::default() }))
}

/// The objects that have the name of a parent's children.
fn namesakes(manifests: &Manifests, parent: &Parent) -> BTreeMap<Key, Child> {
    let own = |key: &Key| *key.name == *parent.child_name();
    match parent.kind() {
        ParentKind::ClusterExternalSecret => {
            let there = manifests.external_secrets.iter().filter(|(key, _)| own(key));
            there.map(|(key, es)| (key.clone(), Child::ExternalSecret(es.object.clone()))).collect()
        }
        ParentKind::ClusterPushSecret => {
            let there = manifests.push_secrets.iter().filter(|(key, _)| own(key));
            there.map(|(key, ps)| (key.clone(), Child::PushSecret(ps.object.clone()))).collect()
        }
    }
}

/// A child as it would be in the cluster.
fn child<T: DeserializeOwned>(
    parent: &Parent,
    at: &At,
    key: Key,
    metadata: impl Fn(&mut T) -> &mut ObjectMeta,
) -> Option<(Key, Located<Arc<T>>)> {
    let mut child: T = serde_json::from_value(plan::body(parent, &key).ok()?).ok()?;
    let meta = metadata(&mut child);
    meta.uid = Some(format!("{NO_CLUSTER}{key}"));
    meta.generation = Some(1);
    Some((key, Located { object: Arc::new(child), at: at.clone() }))
}
