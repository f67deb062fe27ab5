//! What every provider must do, against a Secret Manager on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::SecretManager;
use super::session::crc32c;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::{FakeServer, Received, Reply, outbound_with};
use crate::providers::conformance::{self, CANARY, Fault, Fixture, Stored, Tested, Value, World};
use crate::providers::{Provider as _, Session};

#[derive(Default)]
struct SecretManagerFixture {
    writes: Arc<AtomicUsize>,
}

/// A store that logs in as the operator, whose environment leads to a server.
pub(super) async fn connect(server: &FakeServer, store: SecretManager) -> Arc<dyn Session> {
    let outbound =
        outbound_with(&[("GCE_METADATA_HOST", &server.address.to_string()), ("GCP_SECRETMANAGER_ENDPOINT", &server.url)]);
    let mut cx = Cluster::new().cx(&outbound).connect;
    cx.retry = Some(serde_json::from_value(json!({"maxRetries": 1, "retryInterval": "10ms"})).unwrap());
    store.connect(&cx).await.unwrap()
}

#[async_trait]
impl Fixture for SecretManagerFixture {
    fn provider(&self) -> &'static str {
        "gcpsm"
    }

    fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    async fn connect(&self, world: World) -> Arc<dyn Session> {
        let (world, writes) = (Arc::new(Mutex::new(world)), self.writes.clone());
        let server = FakeServer::start(move |asked| answer(&mut world.lock().unwrap(), &writes, asked)).await;
        let session = connect(&server, SecretManager { project_id: Some("p".into()), ..SecretManager::default() }).await;
        // it ends with the runtime of the check
        std::mem::forget(server);
        session
    }
}

pub(super) fn refused(code: u16, status: &str) -> Reply {
    Reply::json(code, &json!({"error": {"code": code, "message": CANARY, "status": status}}))
}

pub(super) fn token() -> Reply {
    Reply::json(200, &json!({"access_token": "machine", "expires_in": 3599, "token_type": "Bearer"}))
}

/// A version as it is read.
pub(super) fn version(name: &str, bytes: &[u8]) -> Reply {
    let payload = json!({"data": STANDARD.encode(bytes), "dataCrc32c": crc32c(bytes).to_string()});
    Reply::json(200, &json!({"name": name, "payload": payload}))
}

fn answer(world: &mut World, writes: &AtomicUsize, asked: &Received) -> Reply {
    let (method, target) = asked.line.split_once(' ').unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path.starts_with("/computeMetadata/") {
        return token();
    }
    assert_eq!(asked.header("authorization"), "Bearer machine");
    match &world.fault {
        Some(Fault::Denied) => return refused(403, "PERMISSION_DENIED"),
        Some(Fault::Throttled) => {
            let wait = conformance::RETRY_AFTER.as_secs().to_string();
            return refused(429, "RESOURCE_EXHAUSTED").with("retry-after", &wait);
        }
        Some(Fault::Broken) => return Reply::text(503, CANARY),
        Some(Fault::Hang(reached)) => {
            reached.notify_one();
            return Reply::never();
        }
        Some(Fault::Garbled) => return Reply::text(200, &format!("{{\"payload\": {CANARY}")),
        None => {}
    }
    if method != "GET" {
        writes.fetch_add(1, Ordering::SeqCst);
    }
    let parameter = |name: &str| {
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        pairs.find(|(k, _)| k == name).map(|(_, v)| v.into_owned()).unwrap_or_default()
    };
    let rest = path.strip_prefix("/v1/projects/p/secrets").unwrap();
    let secrets = &mut world.secrets;
    match (method, rest.strip_prefix('/')) {
        ("GET", None) => list(secrets, &parameter("pageToken")),
        ("POST", None) => create(secrets, &parameter("secretId"), &asked.json()),
        ("POST", Some(key)) => add(secrets, key.strip_suffix(":addVersion").unwrap(), &asked.json()),
        ("DELETE", Some(key)) => {
            secrets.retain(|s| s.key != key);
            Reply::json(200, &json!({}))
        }
        ("GET", Some(rest)) => match rest.split_once("/versions/") {
            Some((key, wanted)) => access(secrets, key, wanted.strip_suffix(":access").unwrap()),
            None => match secrets.iter().find(|s| s.key == rest) {
                Some(stored) => Reply::json(200, &described(stored)),
                None => refused(404, "NOT_FOUND"),
            },
        },
        other => panic!("{other:?} was not expected"),
    }
}

fn described(stored: &Stored) -> Json {
    json!({"name": format!("projects/123/secrets/{}", stored.key), "labels": stored.tags, "etag": "\"e\""})
}

/// In pages of 50.
fn list(secrets: &[Stored], token: &str) -> Reply {
    let start = token.parse::<usize>().unwrap_or(0);
    let current: Vec<&Stored> = secrets.iter().filter(|s| s.version.is_none()).collect();
    let page: Vec<Json> = current.iter().skip(start).take(50).map(|s| described(s)).collect();
    let mut body = json!({"secrets": page, "totalSize": current.len()});
    if start + 50 < current.len() {
        body["nextPageToken"] = (start + 50).to_string().into();
    }
    Reply::json(200, &body)
}

/// A secret without a version has no value yet: it is kept apart by an empty set of properties.
fn create(secrets: &mut Vec<Stored>, key: &str, asked: &Json) -> Reply {
    let tags: BTreeMap<String, String> = serde_json::from_value(asked["labels"].clone()).unwrap();
    secrets.push(Stored { key: key.to_owned(), value: Value::Properties(BTreeMap::new()), version: None, tags });
    Reply::json(200, &described(secrets.last().unwrap()))
}

fn add(secrets: &mut [Stored], key: &str, asked: &Json) -> Reply {
    let bytes = STANDARD.decode(asked["payload"]["data"].as_str().unwrap()).unwrap();
    assert_eq!(asked["payload"]["dataCrc32c"], crc32c(&bytes).to_string());
    let stored = secrets.iter_mut().find(|s| s.key == key).unwrap();
    stored.value = Value::Plain(bytes);
    Reply::json(200, &json!({"name": format!("projects/123/secrets/{key}/versions/2"), "state": "ENABLED"}))
}

fn access(secrets: &[Stored], key: &str, wanted: &str) -> Reply {
    let stored = secrets.iter().find(|s| s.key == key && s.version.unwrap_or("latest") == wanted);
    let Some(stored) = stored else { return refused(404, "NOT_FOUND") };
    let name = format!("projects/123/secrets/{key}/versions/7");
    match &stored.value {
        Value::Plain(bytes) => version(&name, bytes),
        Value::Properties(pairs) if pairs.is_empty() => refused(404, "NOT_FOUND"),
        Value::Properties(pairs) => version(&name, json!(pairs).to_string().as_bytes()),
    }
}

impl Tested for SecretManager {
    const TITLE: &'static str = "Google Cloud Secret Manager";
    const AUTH: &'static [&'static str] = &["secretRef", "workloadIdentity", "workloadIdentityFederation"];
    const SERVER: &'static str = "Google's own messages and service interface in Go behind REST, proven by its client";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(SecretManagerFixture::default())]
    }
}
