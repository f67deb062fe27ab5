//! The cluster of KUBECONFIG and the real providers, to read from. Nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use kube::api::ListParams;
use kube::{Api, Client};

use super::fan_out;
use super::manifests::Manifests;
use crate::api::external_secret::GeneratorKind;
use crate::api::generators::GeneratorObject;
use crate::api::{AnyStore, ClusterSecretStore, SecretStore, StoreKind};
use crate::controllers::template::{text_of_config_map, text_of_secret};
use crate::fetch::{CallReport, Fetcher, Limits, Lookup, Observer};
use crate::generators::maker::Maker;
use crate::index::{AnyGenerator, GeneratorId, Key, StoreId, generator_ids, store_ids};
use crate::outbound::Outbound;
use crate::providers::ReferenceKind;
use crate::providers::connect::OwnCluster;
use crate::render::target::{Source, SourceText, sources};

/// What cannot be read of the cluster, in our own words.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// There is no cluster.
    #[error("--live: no cluster to read from: set KUBECONFIG: {0}")]
    Config(String),
    /// An object cannot be read.
    #[error("--live: cannot read {kind} {key}: {why}")]
    Read {
        /// Its kind.
        kind: &'static str,
        /// Its namespace and name.
        key: Key,
        /// Why not.
        why: String,
    },
}

/// The way to the cluster and the providers.
pub struct Live {
    client: Client,
    cluster: OwnCluster,
    outbound: Arc<Outbound>,
    fetcher: Fetcher,
}

/// Nobody counts the calls of a command.
struct Unobserved;

impl Observer for Unobserved {
    fn call(&self, _: &CallReport<'_>) {}
    fn lookup(&self, _: Lookup) {}
}

impl Live {
    /// Finds the cluster. `allow_local`: URLs in manifests may lead to this machine.
    ///
    /// # Errors
    /// None is configured.
    pub async fn connect(allow_local: bool) -> Result<Self, LiveError> {
        let config = kube::Config::infer().await.map_err(|e| LiveError::Config(e.to_string()))?;
        let cluster = OwnCluster::of(&config);
        let client = Client::try_from(config).map_err(|e| LiveError::Config(e.to_string()))?;
        let outbound = Arc::new(Outbound::new(Arc::new(std::env::vars().collect()), allow_local));
        let limits = Limits::default();
        let fetcher = Fetcher::new(client.clone(), cluster.clone(), outbound.clone(), limits, Arc::new(Unobserved));
        Ok(Self { client, cluster, outbound, fetcher })
    }

    /// The way to the providers.
    #[must_use]
    pub fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// The way to the generators.
    #[must_use]
    pub fn maker(&self) -> Maker {
        Maker::new(self.client.clone(), self.cluster.clone(), self.outbound.clone(), Limits::default().call_timeout)
    }

    /// Reads what the manifests name and do not hold: stores, namespaces, sources of templates.
    ///
    /// # Errors
    /// The first that cannot be read. That there is none is no error here.
    pub async fn complete(&self, manifests: &mut Manifests) -> Result<(), LiveError> {
        if !manifests.parents.is_empty() {
            self.namespaces(manifests).await?;
            fan_out::expand(manifests);
        }
        let all: Vec<_> = manifests.external_secrets.iter().map(|(key, es)| (key.clone(), es.object.clone())).collect();
        for (key, es) in all {
            for id in store_ids(&es) {
                if !manifests.stores.contains_key(&id)
                    && !manifests.broken.contains(&id)
                    && let Some(store) = self.store(&id).await?
                {
                    manifests.stores.insert(id, Arc::new(store));
                }
            }
            for id in generator_ids(&es) {
                if !manifests.generators.iter().any(|known| known.id == id)
                    && let Some(found) = self.generator(&id).await?
                {
                    manifests.generators.push(found);
                }
            }
            let namespace = key.namespace.to_string();
            if !manifests.namespaces.contains_key(&namespace)
                && let Some(labels) = self.namespace(&namespace).await?
            {
                manifests.namespaces.insert(namespace, labels);
            }
            for source in es.target().template.as_ref().map(sources).unwrap_or_default() {
                let slot = (source.kind, Key::new(&key.namespace, &source.name));
                if !manifests.sources.contains_key(&slot)
                    && let Some(text) = self.source(&source, &slot.1).await?
                {
                    manifests.sources.insert(slot, text);
                }
            }
        }
        Ok(())
    }

    /// All namespaces, as any could be meant.
    async fn namespaces(&self, manifests: &mut Manifests) -> Result<(), LiveError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let listed = read(api.list(&ListParams::default()).await.map(Some), "Namespaces", &Key::new("", "of the cluster"))?;
        for namespace in listed.into_iter().flat_map(|list| list.items) {
            let (name, labels) =
                (namespace.metadata.name.unwrap_or_default(), namespace.metadata.labels.unwrap_or_default());
            manifests.namespaces.entry(name).or_insert(labels);
        }
        Ok(())
    }

    async fn store(&self, id: &StoreId) -> Result<Option<AnyStore>, LiveError> {
        let name = &id.key.name;
        match id.kind {
            StoreKind::SecretStore => {
                let api: Api<SecretStore> = Api::namespaced(self.client.clone(), &id.key.namespace);
                Ok(read(api.get_opt(name).await, id.kind.as_str(), &id.key)?.map(AnyStore::from))
            }
            StoreKind::ClusterSecretStore => {
                let api: Api<ClusterSecretStore> = Api::all(self.client.clone());
                Ok(read(api.get_opt(name).await, id.kind.as_str(), &id.key)?.map(AnyStore::from))
            }
        }
    }

    async fn generator(&self, id: &GeneratorId) -> Result<Option<AnyGenerator>, LiveError> {
        let (name, kind) = (&id.key.name, id.kind);
        let api: Api<GeneratorObject> = match id.kind {
            GeneratorKind::ClusterGenerator => Api::all_with(self.client.clone(), &kind),
            _ => Api::namespaced_with(self.client.clone(), &id.key.namespace, &kind),
        };
        Ok(read(api.get_opt(name).await, id.kind.as_str(), &id.key)?.map(|object| AnyGenerator::read(kind, object)))
    }

    async fn namespace(&self, name: &str) -> Result<Option<BTreeMap<String, String>>, LiveError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = read(api.get_opt(name).await, "Namespace", &Key::new("", name))?;
        Ok(found.map(|namespace| namespace.metadata.labels.unwrap_or_default()))
    }

    async fn source(&self, source: &Source, key: &Key) -> Result<Option<SourceText>, LiveError> {
        if source.kind == ReferenceKind::Secret {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
            return Ok(read(api.get_opt(&key.name).await, "Secret", key)?.map(text_of_secret));
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
        Ok(read(api.get_opt(&key.name).await, "ConfigMap", key)?.map(text_of_config_map))
    }
}

fn read<T>(answer: Result<Option<T>, kube::Error>, kind: &'static str, key: &Key) -> Result<Option<T>, LiveError> {
    let why = |error| match error {
        kube::Error::Api(status) if status.code == 403 => "it is forbidden: this user needs get".to_owned(),
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        _ => "the API server did not answer, or not in the way that it should".to_owned(),
    };
    answer.map_err(|error| LiveError::Read { kind, key: key.clone(), why: why(error) })
}
