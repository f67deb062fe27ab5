//! What objects name: what a rendering must know besides them.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::manifests::Manifests;
use crate::api::external_secret::CreationPolicy;
use crate::api::{ExternalSecret, PushSecret, StoreKind};
use crate::index::{GeneratorId, Key, StoreId, generator_ids, pushed_generator, store_ids};
use crate::plan::push_secret::{Source as Pushed, source, stores};
use crate::plan::target::merges;
use crate::providers::ReferenceKind;
use crate::render::target::{Source, sources};

/// What one object names.
#[derive(Debug, Default)]
pub struct Needs {
    /// Its namespace.
    pub namespace: String,
    /// Stores by name.
    pub stores: BTreeSet<StoreId>,
    /// Stores by label.
    pub stores_by_label: Vec<(StoreKind, LabelSelector)>,
    /// Generators.
    pub generators: BTreeSet<GeneratorId>,
    /// ConfigMaps and Secrets with templates.
    pub sources: BTreeSet<Source>,
    /// A Secret that is pushed, by name.
    pub pushed: Option<Source>,
    /// Secrets that are pushed, by label.
    pub pushed_by_label: Option<LabelSelector>,
}

impl Needs {
    /// What an ExternalSecret names.
    #[must_use]
    pub fn of_external_secret(es: &ExternalSecret) -> Self {
        Self {
            namespace: es.metadata.namespace.clone().unwrap_or_default(),
            stores: store_ids(es),
            generators: generator_ids(es),
            sources: es.target().template.as_ref().map(sources).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// What a PushSecret names.
    #[must_use]
    pub fn of_push_secret(ps: &PushSecret) -> Self {
        let (mut pushed, mut pushed_by_label) = (None, None);
        match source(ps) {
            Pushed::Named(name) => pushed = Some(Source { kind: ReferenceKind::Secret, name: name.to_owned() }),
            Pushed::Selected(selector) => pushed_by_label = Some(selector.clone()),
            Pushed::Generated(_) | Pushed::Nowhere => {}
        }
        let references = ps.spec.secret_store_refs.iter();
        Self {
            namespace: ps.metadata.namespace.clone().unwrap_or_default(),
            stores: stores::named(ps),
            stores_by_label: references
                .filter_map(|r| Some((r.kind.unwrap_or_default(), r.label_selector.clone()?)))
                .collect(),
            generators: pushed_generator(ps).into_iter().collect(),
            sources: ps.spec.template.as_ref().map(sources).unwrap_or_default(),
            pushed,
            pushed_by_label,
        }
    }
}

impl Manifests {
    /// What the objects name that are rendered.
    #[must_use]
    pub fn needs(&self) -> Vec<Needs> {
        let pulled = self.external_secrets.values().map(|es| Needs::of_external_secret(&es.object));
        pulled.chain(self.push_secrets.values().map(|ps| Needs::of_push_secret(&ps.object))).collect()
    }

    /// Whether stores that choose namespaces by label are named from a namespace whose labels are not known.
    #[must_use]
    pub fn guesses_labels(&self, needs: &Needs) -> bool {
        let mut conditions = needs.stores.iter().filter_map(|id| self.stores.get(id)).flat_map(|s| &s.spec.conditions);
        !self.namespaces.contains_key(&needs.namespace) && conditions.any(|c| c.namespace_selector.is_some())
    }

    /// The Secrets that the ExternalSecrets make whole. In one that they merge into may be more.
    #[must_use]
    pub fn targets(&self) -> BTreeSet<Key> {
        let makes = |es: &ExternalSecret| {
            let (target, policy) = (es.target(), es.target().creation_policy.unwrap_or_default());
            target.manifest.is_none() && policy != CreationPolicy::None && !merges(policy)
        };
        let made = self.external_secrets.iter().filter(|(_, es)| makes(&es.object));
        made.map(|(key, es)| crate::index::target_key(key, &es.object)).collect()
    }
}
