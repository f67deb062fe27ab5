//! The cluster of KUBECONFIG and the real providers, to read from. Nothing is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ListParams;
use kube::{Api, Client};

use super::fan_out;
use super::manifests::Manifests;
use super::needs::Needs;
use crate::api::external_secret::GeneratorKind;
use crate::api::generators::GeneratorObject;
use crate::api::{AnyStore, ClusterSecretStore, SecretStore, StoreKind};
use crate::controllers::template::text_of_config_map;
use crate::fetch::{CallReport, Fetcher, Limits, Lookup, Observer};
use crate::generators::maker::Maker;
use crate::index::{AnyGenerator, GeneratorId, Key, StoreId};
use crate::outbound::{Outbound, api_server};
use crate::plan::access;
use crate::plan::push_secret::opened;
use crate::providers::ReferenceKind;
use crate::providers::connect::OwnCluster;
use crate::render::target::Source;

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
        let config = api_server::infer().await.map_err(|e| LiveError::Config(e.to_string()))?;
        let cluster = OwnCluster::of(&config);
        let client = api_server::client(config).map_err(|e| LiveError::Config(e.to_string()))?.build();
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
            fan_out::expand(manifests, false);
        }
        for needs in manifests.needs() {
            self.supply(manifests, &needs).await?;
        }
        Ok(())
    }

    async fn supply(&self, manifests: &mut Manifests, needs: &Needs) -> Result<(), LiveError> {
        let namespace = &needs.namespace;
        for id in &needs.stores {
            if !manifests.stores.contains_key(id)
                && !manifests.broken.contains(id)
                && let Some(store) = self.store(id).await?
            {
                manifests.stores.insert(id.clone(), Arc::new(store));
            }
        }
        for (kind, selector) in &needs.stores_by_label {
            for store in self.stores(*kind, namespace, selector).await? {
                let id = StoreId::of(&store);
                if !manifests.broken.contains(&id) {
                    manifests.stores.entry(id).or_insert_with(|| Arc::new(store));
                }
            }
        }
        for id in &needs.generators {
            if !manifests.generators.iter().any(|known| known.id == *id)
                && let Some(found) = self.generator(id).await?
            {
                manifests.generators.push(found);
            }
        }
        if !manifests.namespaces.contains_key(namespace)
            && let Some(labels) = self.namespace(namespace).await?
        {
            manifests.namespaces.insert(namespace.clone(), labels);
        }
        // a Secret that is made here is pushed as it is made here
        let made = manifests.targets();
        let pushed = needs.pushed.iter().filter(|source| !made.contains(&Key::new(namespace, &source.name)));
        for source in needs.sources.iter().chain(pushed) {
            if manifests.source(namespace, source).is_none() {
                self.source(manifests, source, Key::new(namespace, &source.name)).await?;
            }
        }
        if let Some(selector) = &needs.pushed_by_label {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
            for secret in listed(&api, selector, "Secrets", namespace).await? {
                let key = Key::of(&secret.metadata);
                if !made.contains(&key) {
                    manifests.secrets.entry(key).or_insert_with(|| opened(secret));
                }
            }
        }
        Ok(())
    }

    /// All namespaces, as any could be meant.
    async fn namespaces(&self, manifests: &mut Manifests) -> Result<(), LiveError> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        for namespace in listed(&api, &LabelSelector::default(), "Namespaces", "").await? {
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

    async fn stores(&self, kind: StoreKind, namespace: &str, selector: &LabelSelector) -> Result<Vec<AnyStore>, LiveError> {
        match kind {
            StoreKind::SecretStore => {
                let api: Api<SecretStore> = Api::namespaced(self.client.clone(), namespace);
                let found = listed(&api, selector, "SecretStores", namespace).await?;
                Ok(found.into_iter().map(AnyStore::from).collect())
            }
            StoreKind::ClusterSecretStore => {
                let api: Api<ClusterSecretStore> = Api::all(self.client.clone());
                let found = listed(&api, selector, "ClusterSecretStores", "").await?;
                Ok(found.into_iter().map(AnyStore::from).collect())
            }
        }
    }

    async fn source(&self, manifests: &mut Manifests, source: &Source, key: Key) -> Result<(), LiveError> {
        if source.kind == ReferenceKind::Secret {
            let api: Api<Secret> = Api::namespaced(self.client.clone(), &key.namespace);
            let found = read(api.get_opt(&key.name).await, "Secret", &key)?;
            manifests.secrets.extend(found.map(|secret| (key, opened(secret))));
        } else {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.namespace);
            let found = read(api.get_opt(&key.name).await, "ConfigMap", &key)?;
            manifests.config_maps.extend(found.map(|map| (key, text_of_config_map(map))));
        }
        Ok(())
    }
}

/// Objects by label. A selector that makes no sense selects nothing here: the plan tells of it.
async fn listed<K>(api: &Api<K>, selector: &LabelSelector, kinds: &'static str, namespace: &str) -> Result<Vec<K>, LiveError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let Ok(labels) = access::to_text(selector) else { return Ok(Vec::new()) };
    let found = api.list(&ListParams::default().labels(&labels)).await.map(Some);
    let of = if namespace.is_empty() { Key::new("", "of the cluster") } else { Key::new(namespace, "by label") };
    Ok(read(found, kinds, &of)?.map(|list| list.items).unwrap_or_default())
}

fn read<T>(answer: Result<Option<T>, kube::Error>, kind: &'static str, key: &Key) -> Result<Option<T>, LiveError> {
    let why = |error| match error {
        kube::Error::Api(status) if status.code == 403 => "it is forbidden: this user needs get".to_owned(),
        kube::Error::Api(status) => format!("the API server answered {}", status.code),
        _ => "the API server did not answer, or not in the way that it should".to_owned(),
    };
    answer.map_err(|error| LiveError::Read { kind, key: key.clone(), why: why(error) })
}
