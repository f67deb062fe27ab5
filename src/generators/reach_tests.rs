//! No generator reads what is in another namespace than that of the object that uses it.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::served;
use super::testing::cluster::Cluster;
use crate::api::external_secret::GeneratorKind;
use crate::api::generators::AnySpec;
use crate::outbound::testing::outbound;
use crate::providers::ErrorKind;

/// A spec for each way in which a generator can name an object of another namespace.
fn reaching() -> Vec<(&'static str, Value)> {
    let key = json!({ "name": "theirs", "namespace": "team-b", "key": "k" });
    let account = json!({ "name": "theirs", "namespace": "team-b" });
    let by_keys = json!({ "secretRef": { "accessKeyIDSecretRef": key, "secretAccessKeySecretRef": key } });
    let by_token = json!({ "jwt": { "serviceAccountRef": account } });
    let ca = json!({ "type": "ConfigMap", "name": "theirs", "namespace": "team-b", "key": "k" });
    let acr = |auth: Value| json!({ "registry": "r.example.test", "tenantId": "t", "auth": auth });
    let gcr = |auth: Value| json!({ "projectID": "p", "auth": auth });
    let identity = json!({ "serviceAccountRef": account, "clusterLocation": "l", "clusterName": "n" });
    let webhook = json!({ "url": "https://example.test", "result": {}, "caProvider": ca });
    vec![
        ("ACRAccessToken", acr(json!({ "servicePrincipal": { "secretRef": { "clientId": key, "clientSecret": key } } }))),
        ("ACRAccessToken", acr(json!({ "workloadIdentity": { "serviceAccountRef": account } }))),
        ("CloudsmithAccessToken", json!({ "orgSlug": "o", "serviceSlug": "s", "serviceAccountRef": account })),
        ("ECRAuthorizationToken", json!({ "region": "eu-west-1", "auth": by_keys })),
        ("ECRAuthorizationToken", json!({ "region": "eu-west-1", "auth": by_token })),
        ("GCRAccessToken", gcr(json!({ "secretRef": { "secretAccessKeySecretRef": key } }))),
        ("GCRAccessToken", gcr(json!({ "workloadIdentity": identity }))),
        ("GithubAccessToken", json!({ "appID": "1", "installID": "2", "auth": { "privateKey": { "secretRef": key } } })),
        (
            "GitlabDeployToken",
            json!({ "projectID": "1", "name": "n", "scopes": ["read_registry"], "auth": { "token": { "secretRef": key } } }),
        ),
        ("MFA", json!({ "secret": key })),
        ("QuayAccessToken", json!({ "robotAccount": "r", "serviceAccountRef": account })),
        ("STSSessionToken", json!({ "region": "eu-west-1", "auth": by_keys })),
        (
            "VaultDynamicSecret",
            json!({ "path": "p", "provider": { "server": "https://example.test", "auth": { "tokenSecretRef": key } } }),
        ),
        ("Webhook", webhook),
    ]
}

/// CVE-2026-42875, CVE-2026-39961 and their like, also by way of a ClusterGenerator: whose spec it is does not matter.
#[tokio::test]
async fn no_generator_reads_another_namespace() {
    let cluster = Cluster::new();
    let cx = cluster.cx(&outbound());
    for (kind, spec) in reaching() {
        let kind: GeneratorKind = serde_json::from_value(json!(kind)).unwrap();
        let read = AnySpec::read(kind, spec.clone(), "spec").unwrap();
        let error = served(&read).unwrap().generate(&cx).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{kind} {spec}: {error}");
        assert!(error.detail.contains("names namespace \"team-b\""), "{kind} {spec}: {error}");
    }
    assert!(cluster.token_requests().is_empty());
}
