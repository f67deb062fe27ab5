//! What every provider must do, against a Key Vault on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::KeyVault;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::{FakeServer, Pki, Received, Reply, outbound_trusting};
use crate::providers::conformance::{self, CANARY, Check, Fault, Fixture, Stored, Tested, Value, World};
use crate::providers::{ConnectCx, Provider as _, Session};

#[derive(Default)]
struct KeyVaultFixture {
    writes: Arc<AtomicUsize>,
}

/// The token that [`entra`] gives.
pub(super) const TOKEN: &str = "canary-access-token";

/// A vault whose challenge asks for tokens of its own domain, with Entra ID at the same address. `answer` is asked with a token only.
pub(super) async fn vault(pki: &Pki, answer: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> FakeServer {
    FakeServer::start_tls(pki, false, move |asked| match asked.line.as_str() {
        "POST /tenant-1/oauth2/v2.0/token" => entra(asked),
        _ if asked.header("authorization") != format!("Bearer {TOKEN}") => challenge(asked, "https://127.0.0.1"),
        _ => answer(asked),
    })
    .await
}

pub(super) fn entra(asked: &Received) -> Reply {
    let form = |name: &str| asked.form(name).unwrap_or_default();
    let proven = form("client_secret") == "s3cret" || !form("client_assertion").is_empty();
    match proven && form("client_id") == "client-1" && form("scope") == "https://127.0.0.1/.default" {
        true => Reply::json(200, &json!({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"})),
        false => Reply::json(401, &json!({"error": "invalid_client", "error_description": CANARY})),
    }
}

pub(super) fn challenge(_: &Received, resource: &str) -> Reply {
    let challenge = format!("Bearer authorization=\"https://login.test/tenant-1\", resource=\"{resource}\"");
    refused(401, "Unauthorized", "AKV10000").with("www-authenticate", &challenge)
}

pub(super) fn refused(status: u16, code: &str, inner: &str) -> Reply {
    Reply::json(status, &json!({"error": {"code": code, "message": CANARY, "innererror": {"code": inner}}}))
}

/// A store of a server that logs in with an application's secret.
pub(super) fn store(server: &FakeServer) -> KeyVault {
    let key = |key: &str| json!({"name": "azure", "key": key});
    serde_json::from_value(json!({
        "vaultUrl": server.url, "tenantId": "tenant-1", "useAzureSDK": true,
        "authSecretRef": {"clientId": key("id"), "clientSecret": key("secret")},
        "customCloudConfig": {"activeDirectoryEndpoint": server.url},
    }))
    .unwrap()
}

pub(super) fn cluster() -> Cluster {
    Cluster::new().labelled_secret("azure", &json!({}), &[("id", "client-1"), ("secret", "s3cret\n")])
}

pub(super) fn cx(cluster: &Cluster, pki: &Pki) -> ConnectCx {
    let mut cx = cluster.cx(&outbound_trusting(pki, &[])).connect;
    cx.retry = Some(serde_json::from_value(json!({"maxRetries": 1, "retryInterval": "10ms"})).unwrap());
    cx
}

pub(super) async fn connect(server: &FakeServer, pki: &Pki) -> Arc<dyn Session> {
    store(server).connect(&cx(&cluster(), pki)).await.unwrap()
}

#[async_trait]
impl Fixture for KeyVaultFixture {
    fn provider(&self) -> &'static str {
        "azurekv"
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![(Check::Binary, "a vault's secrets are texts")]
    }

    fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    async fn connect(&self, world: World) -> Arc<dyn Session> {
        let (world, writes, pki) = (Arc::new(Mutex::new(world)), self.writes.clone(), Pki::new());
        let server = vault(&pki, move |asked| answer(&mut world.lock().unwrap(), &writes, asked)).await;
        let session = connect(&server, &pki).await;
        // it ends with the runtime of the check
        std::mem::forget(server);
        session
    }
}

fn answer(world: &mut World, writes: &AtomicUsize, asked: &Received) -> Reply {
    match &world.fault {
        Some(Fault::Denied) => return refused(403, "Forbidden", "ForbiddenByPolicy"),
        Some(Fault::Throttled) => {
            let wait = conformance::RETRY_AFTER.as_secs().to_string();
            return refused(429, "Throttled", "VaultRequestTypeLimitReached").with("retry-after", &wait);
        }
        Some(Fault::Broken) => return Reply::text(503, CANARY),
        Some(Fault::Hang(reached)) => {
            reached.notify_one();
            return Reply::never();
        }
        Some(Fault::Garbled) => return Reply::text(200, &format!("{{\"value\": {CANARY}")),
        None => {}
    }
    let (method, target) = asked.line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap();
    assert!(query.contains("api-version=7.4"), "{query}");
    if method != "GET" {
        writes.fetch_add(1, Ordering::SeqCst);
    }
    let secrets = &mut world.secrets;
    let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    match (method, steps.as_slice()) {
        ("GET", ["secrets"]) => list(secrets, query, asked.header("host")),
        ("GET", ["secrets", key, rest @ ..]) => {
            let version = rest.first().copied();
            match secrets.iter().find(|s| s.key == *key && s.version == version) {
                Some(stored) => Reply::json(200, &shown(stored)),
                None => refused(404, "SecretNotFound", ""),
            }
        }
        ("PUT", ["secrets", key]) => {
            let body = asked.json();
            let tags: BTreeMap<String, String> = serde_json::from_value(body["tags"].clone()).unwrap();
            secrets.retain(|s| s.key != *key);
            let bytes = body["value"].as_str().unwrap().as_bytes().to_vec();
            secrets.push(Stored { key: (*key).to_owned(), value: Value::Plain(bytes), version: None, tags });
            Reply::json(200, &shown(secrets.last().unwrap()))
        }
        ("DELETE", ["secrets", key]) => {
            secrets.retain(|s| s.key != *key);
            Reply::json(200, &json!({"recoveryId": "x"}))
        }
        other => panic!("{other:?} was not expected"),
    }
}

fn shown(stored: &Stored) -> Json {
    let value = match &stored.value {
        Value::Plain(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Value::Properties(pairs) => json!(pairs).to_string(),
    };
    let id = format!("https://v/secrets/{}/0f", stored.key);
    json!({"value": value, "id": id, "tags": stored.tags, "attributes": {"enabled": true}})
}

/// In pages of 25.
fn list(secrets: &[Stored], query: &str, host: &str) -> Reply {
    let mut parameters = url::form_urlencoded::parse(query.as_bytes());
    let start = parameters.find(|(k, _)| k == "skip").map_or(0, |(_, v)| v.parse::<usize>().unwrap());
    let current: Vec<&Stored> = secrets.iter().filter(|s| s.version.is_none()).collect();
    let item =
        |s: &&Stored| json!({"id": format!("https://v/secrets/{}", s.key), "tags": s.tags, "attributes": {"enabled": true}});
    let page: Vec<Json> = current.iter().skip(start).take(25).map(item).collect();
    let more = start + 25 < current.len();
    let next = more.then(|| format!("https://{host}/secrets?api-version=7.4&skip={}", start + 25));
    Reply::json(200, &json!({"value": page, "nextLink": next}))
}

impl Tested for KeyVault {
    const TITLE: &'static str = "Azure Key Vault";
    const AUTH: &'static [&'static str] = &["ServicePrincipal", "ManagedIdentity", "WorkloadIdentity"];
    const SERVER: &'static str = "Microsoft's own server stubs in Go, proven by its clients";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(KeyVaultFixture::default())]
    }
}
