//! The objects of the benchmark: ExternalSecrets of two properties of one JSON secret each, in [`NAMESPACES`] namespaces, [`SHARE`]
//! of them on each remote key.

use std::ops::Range;

use anyhow::Result;
use serde_json::{Value, json};

use super::bare::{Bare, Body, each};
use super::stand_in::StandIn;
use crate::aws::REGION;
use crate::cluster::Cluster;

/// Namespaces that the objects are spread over.
pub const NAMESPACES: usize = 20;
/// ExternalSecrets that read the same remote key.
pub const SHARE: usize = 20;
/// How often each is refreshed.
pub const REFRESH_SECONDS: u64 = 60;
/// The ClusterSecretStore.
pub const STORE: &str = "bench";
/// Where its access key is.
const STORE_NAMESPACE: &str = "bench-store";

/// One ExternalSecret and its Secret, which has the same name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The remote key that it reads.
    pub key: String,
}

impl Item {
    /// The item of a number: neighbours are in different namespaces and on the same key.
    #[must_use]
    pub fn new(set: &str, number: usize) -> Self {
        Self {
            namespace: format!("{set}-{:02}", number % NAMESPACES),
            name: format!("app-{number:05}"),
            key: format!("bench/{:04}", number / SHARE),
        }
    }

    /// `namespace/name`.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Path of the collection that its ExternalSecret is in.
    #[must_use]
    pub fn external_secrets(&self) -> String {
        external_secrets(&self.namespace)
    }

    /// Path of the collection that its Secret is in.
    #[must_use]
    pub fn secrets(&self) -> String {
        secrets(&self.namespace)
    }

    /// The ExternalSecret.
    #[must_use]
    pub fn external_secret(&self) -> Value {
        let entry = |property: &str| json!({"secretKey": property, "remoteRef": {"key": self.key, "property": property}});
        json!({
            "apiVersion": "external-secrets.io/v1",
            "kind": "ExternalSecret",
            "metadata": {"namespace": self.namespace, "name": self.name},
            "spec": {
                "refreshInterval": format!("{REFRESH_SECONDS}s"),
                "secretStoreRef": {"kind": "ClusterSecretStore", "name": STORE},
                "target": {"name": self.name},
                "data": [entry("username"), entry("password")],
            },
        })
    }

    /// Creates the ExternalSecret.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(&self, bare: &Bare) -> Result<()> {
        bare.write(&self.external_secrets(), Body::Object, self.external_secret().to_string().into_bytes()).await
    }
}

/// Path of a namespace's ExternalSecrets.
#[must_use]
pub fn external_secrets(namespace: &str) -> String {
    format!("/apis/external-secrets.io/v1/namespaces/{namespace}/externalsecrets")
}

/// Path of a namespace's Secrets.
#[must_use]
pub fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/secrets")
}

/// The value of a remote key.
#[must_use]
pub fn value(key: &str, password: &str) -> Value {
    json!({"username": format!("user-of-{key}"), "password": password, "host": "db.internal", "port": 5432})
}

/// Makes the namespaces of a set of items.
///
/// # Errors
/// When the API server refuses one.
pub async fn namespaces(set: &str, bare: &Bare) -> Result<()> {
    each(0..NAMESPACES, async |number| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": format!("{set}-{number:02}")}});
        bare.write("/api/v1/namespaces", Body::Object, object.to_string().into_bytes()).await
    })
    .await
}

/// Deletes the ExternalSecrets and Secrets in the namespaces of a set.
///
/// # Errors
/// When the API server refuses it.
pub async fn clear(set: &str, bare: &Bare) -> Result<()> {
    each(0..NAMESPACES, async |number| {
        let namespace = format!("{set}-{number:02}");
        bare.delete_all(&external_secrets(&namespace)).await?;
        bare.delete_all(&secrets(&namespace)).await
    })
    .await
}

/// Makes the ClusterSecretStore, with its access key.
///
/// # Errors
/// When the API server refuses an object.
pub async fn store(cluster: &Cluster) -> Result<()> {
    cluster.ensure_namespace(STORE_NAMESPACE).await?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "aws-key"},
        "stringData": {"id": "AKIABENCH", "secret": "bench"},
    });
    cluster.apply_object(secret, STORE_NAMESPACE).await?;
    let reference = |key: &str| json!({"name": "aws-key", "namespace": STORE_NAMESPACE, "key": key});
    let auth = json!({"secretRef": {
        "accessKeyIDSecretRef": reference("id"), "secretAccessKeySecretRef": reference("secret"),
    }});
    let store = json!({
        "apiVersion": "external-secrets.io/v1",
        "kind": "ClusterSecretStore",
        "metadata": {"name": STORE},
        "spec": {"provider": {"aws": {"service": "SecretsManager", "region": REGION, "auth": auth}}},
    });
    cluster.apply_object(store, "").await
}

/// Makes the items of a range of numbers, and their values in the provider.
///
/// # Errors
/// When the API server refuses one.
pub async fn items(set: &str, numbers: Range<usize>, bare: &Bare, provider: &StandIn) -> Result<Vec<Item>> {
    let items: Vec<Item> = numbers.map(|number| Item::new(set, number)).collect();
    for item in &items {
        provider.put(&item.key, &value(&item.key, "first"));
    }
    each(&items, async |item: &Item| item.create(bare).await).await?;
    Ok(items)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_thousand_items_are_spread_as_the_table_says() {
        let items: Vec<Item> = (0..1000).map(|number| Item::new("bench", number)).collect();
        let count = |part: fn(&Item) -> &String| items.iter().map(part).collect::<BTreeSet<_>>().len();
        assert_eq!((count(|i| &i.namespace), count(|i| &i.key), count(|i| &i.name)), (20, 50, 1000));
        let of_first: BTreeSet<_> = items.iter().filter(|i| i.key == items[0].key).map(|i| &i.namespace).collect();
        assert_eq!(of_first.len(), 20, "each key is read from every namespace");
    }
}
