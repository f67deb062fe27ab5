//! ClusterExternalSecrets become the ExternalSecrets that they would have in the namespaces that are known.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::manifests::{Located, Manifests};
use crate::api::ExternalSecret;
use crate::api::fan_out::{Child, Parent};
use crate::index::{Key, NamespaceView, ParentId};
use crate::plan::fan_out::{self as plan, Facts};

/// Adds the ExternalSecrets of all ClusterExternalSecrets.
pub fn expand(manifests: &mut Manifests) {
    let namespaces: BTreeMap<Arc<str>, Arc<NamespaceView>> = manifests
        .namespaces
        .iter()
        .map(|(name, labels)| {
            let view = NamespaceView { labels: labels.clone(), ..NamespaceView::default() };
            (name.as_str().into(), Arc::new(view))
        })
        .collect();
    for (name, located) in std::mem::take(&mut manifests.parents) {
        let parent = Parent::ClusterExternalSecret(located.object.clone());
        let own = parent.child_name().to_owned();
        let there = manifests.external_secrets.iter().filter(|(key, _)| *key.name == *own);
        let children = there.map(|(key, es)| (key.clone(), Child::ExternalSecret(es.object.clone()))).collect();
        let facts =
            Facts { id: ParentId::of(&parent), parent: Some(Arc::new(parent)), namespaces: namespaces.clone(), children };
        let planned = plan::plan(&facts);
        let label = format!("ClusterExternalSecret {name} ({})", located.at);
        manifests
            .problems
            .extend(planned.failed.iter().map(|(namespace, why)| format!("{label}: namespace {namespace}: {why}")));
        if planned.write.is_empty() && planned.failed.is_empty() {
            manifests.notes.push(format!("{label}: it means no Namespace that is among the manifests"));
        }
        for write in planned.write {
            if let Some(child) = facts.parent.as_deref().and_then(|parent| child(parent, &write.key)) {
                manifests.external_secrets.insert(write.key, Located { object: Arc::new(child), at: located.at.clone() });
            }
        }
    }
}

/// A child as it would be in the cluster.
fn child(parent: &Parent, key: &Key) -> Option<ExternalSecret> {
    let mut child: ExternalSecret = serde_json::from_value(plan::body(parent, key).ok()?).ok()?;
    child.metadata.uid = Some(format!("{}{key}", super::manifests::NO_CLUSTER));
    child.metadata.generation = Some(1);
    Some(child)
}
