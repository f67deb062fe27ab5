//! No store reads what is in another namespace than its own, and none is a way to what is around the operator.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use keyferry_fakes::keeper::Keeper;
use serde_json::{Value, json};

use super::{CallCx, ErrorKind, ProviderError, ProviderSpec};
use crate::api::StoreKind;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::Outbound;
use crate::outbound::testing::outbound;

/// Logs in to a store of namespace `team-a`, and checks the login.
async fn check(block: &Value, cluster: &Cluster, outbound: &Arc<Outbound>) -> Result<(), ProviderError> {
    let spec: ProviderSpec = serde_json::from_value(block.clone()).unwrap();
    let provider = spec.served().unwrap();
    provider.validate(StoreKind::SecretStore)?;
    let session = provider.connect(&cluster.cx(outbound).connect).await?;
    session.validate(&CallCx::default()).await.map(drop)
}

fn selector(namespace: Option<&str>) -> Value {
    json!({"name": "mine", "key": "k", "namespace": namespace})
}

/// SOPS files in a place, with the key in a namespace.
fn sops(source: Value, age: Option<&str>) -> Value {
    json!({"sops": {"source": source, "ageKeySecretRef": selector(age)}})
}

/// A block for each way in which a store can name an object of another namespace.
fn reaching() -> Vec<Value> {
    let theirs = || selector(Some("team-b"));
    let map = json!({"configMap": {"name": "mine", "key": "k", "namespace": "team-b"}});
    let ca = json!({"type": "ConfigMap", "name": "theirs", "namespace": "team-b", "key": "k"});
    let header = json!([{"name": "Authorization", "secretRef": theirs()}]);
    let account = json!({"name": "theirs", "namespace": "team-b"});
    let pulumi = |auth: Value| json!({"pulumi": {"organization": "o", "project": "p", "environment": "e", "auth": auth}});
    let scaleway = |access: Value, secret: Value| {
        let project = "00000000-0000-4000-8000-000000000000";
        json!({"scaleway": {"region": "fr-par", "projectId": project, "accessKey": access, "secretKey": secret}})
    };
    vec![
        sops(map, None),
        sops(json!({"secret": theirs()}), None),
        sops(json!({"http": {"url": "https://example.test", "headers": header}}), None),
        sops(json!({"http": {"url": "https://example.test", "caProvider": ca}}), None),
        sops(json!({"oci": {"reference": "example.test/a:b", "pullSecretRef": theirs()}}), None),
        sops(json!({"oci": {"reference": "example.test/a:b", "caProvider": ca}}), None),
        sops(json!({"secret": selector(None)}), Some("team-b")),
        json!({"ibm": {"serviceUrl": "https://example.test", "auth": {"secretRef": {"secretApiKeySecretRef": theirs()}}}}),
        json!({"keepersecurity": {"authRef": theirs(), "folderID": "f"}}),
        pulumi(json!({"accessToken": {"secretRef": theirs()}})),
        pulumi(json!({"oidcConfig": {"organization": "o", "serviceAccountRef": account}})),
        scaleway(json!({"secretRef": theirs()}), json!({"value": "x"})),
        scaleway(json!({"value": "x"}), json!({"secretRef": theirs()})),
    ]
}

/// CVE-2026-42875, CVE-2026-39961 and their like.
#[tokio::test]
async fn no_store_reads_another_namespace() {
    let age = crate::providers::sops::testing::keys("reach");
    let cluster = Cluster::new().secret("mine", "k", &age);
    for block in reaching() {
        let error = check(&block, &cluster, &outbound()).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{block}: {error}");
        let refused = ["names namespace \"team-b\"", "caProvider.namespace must be empty"];
        assert!(refused.iter().any(|text| error.detail.contains(text)), "{block}: {error}");
    }
    assert!(cluster.token_requests().is_empty());
}

/// A block for each address that a store can name.
fn calling(url: &str) -> Vec<Value> {
    let host = url.split_once("://").unwrap().1;
    let key = json!({"secretRef": {"secretApiKeySecretRef": selector(None), "iamEndpoint": url}});
    let token = json!({"accessToken": {"secretRef": selector(None)}});
    let project = "00000000-0000-4000-8000-000000000000";
    let value = json!({"value": "x"});
    vec![
        sops(json!({"http": {"url": format!("{url}/a.yaml")}}), None),
        sops(json!({"oci": {"reference": format!("{host}/a:b"), "plainHttp": true}}), None),
        json!({"ibm": {"serviceUrl": "https://example.test", "auth": key}}),
        json!({"keepersecurity": {"authRef": {"name": "keeper", "key": "k"}, "folderID": "f"}}),
        json!({"pulumi": {"apiUrl": url, "organization": "o", "project": "p", "environment": "e", "auth": token}}),
        json!({"scaleway": {"apiUrl": url, "region": "fr-par", "projectId": project, "accessKey": value, "secretKey": value}}),
    ]
}

#[tokio::test]
async fn no_store_calls_what_is_around_the_operator() {
    let age = crate::providers::sops::testing::keys("reach");
    for url in ["http://127.0.0.1:9", "http://169.254.169.254", "http://[::1]:9"] {
        let cluster = Cluster::new().secret("mine", "k", &age).secret("keeper", "k", &Keeper::default().config(url));
        let outbound = Arc::new(Outbound::new(Arc::default(), false));
        for block in calling(url) {
            let error = check(&block, &cluster, &outbound).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{block}: {error}");
            assert!(error.detail.contains("leads to the operator's own Pod or node"), "{block}: {error}");
        }
    }
}
