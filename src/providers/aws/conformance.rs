//! What every provider must do, against a Secrets Manager on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};

use super::Aws;
use super::Service;
use super::certificate_manager::CertificateManagerFixture;
use super::parameter_store::ParameterStoreFixture;
use super::testing::{Answer, Request, Server};
use crate::providers::Session;
use crate::providers::conformance::{self, CANARY, Check, Fault, Fixture, Stored, Tested, Value, World};

#[derive(Default)]
struct SecretsManagerFixture {
    writes: Arc<AtomicUsize>,
}

#[async_trait]
impl Fixture for SecretsManagerFixture {
    fn provider(&self) -> &'static str {
        "Secrets Manager"
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        Vec::new()
    }

    fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    async fn connect(&self, world: World) -> Arc<dyn Session> {
        let (world, writes) = (Arc::new(Mutex::new(world)), self.writes.clone());
        let answers = move |request: &Request| answer(&mut world.lock().unwrap(), &writes, request);
        session(Service::SecretsManager, answers).await
    }
}

/// What any service of AWS answers while something is wrong with it.
pub(super) fn faulty(fault: &Fault) -> Answer {
    match fault {
        Fault::Denied => Answer::error(400, "AccessDeniedException"),
        Fault::Throttled => {
            let wait = conformance::RETRY_AFTER.as_secs().to_string();
            Answer::error(400, "ThrottlingException").with("retry-after", &wait)
        }
        Fault::Broken => Answer::raw(503, CANARY),
        Fault::Hang(reached) => {
            reached.notify_one();
            Answer::raw(200, "").after(Duration::from_secs(3600))
        }
        Fault::Garbled => Answer::raw(200, &format!("{{\"SecretString\": {CANARY}")),
    }
}

/// A session of a service, with a server that answers for it.
pub(super) async fn session(
    service: Service,
    answer: impl Fn(&Request) -> Answer + Clone + Send + Sync + 'static,
) -> Arc<dyn Session> {
    let server = Server::start(answer).await;
    let session = server.session_of(service).await;
    // Each check has a runtime of its own no longer than itself: the server ends with it.
    std::mem::forget(server);
    session
}

fn answer(world: &mut World, writes: &AtomicUsize, request: &Request) -> Answer {
    if let Some(fault) = &world.fault {
        return faulty(fault);
    }
    let asked = request.json();
    match request.action().as_str() {
        "ListSecrets" => list(&world.secrets, &asked),
        "BatchGetSecretValue" => batch(&world.secrets, &asked),
        "GetSecretValue" => {
            let stage = asked["VersionStage"].as_str().filter(|s| *s != "AWSCURRENT");
            match find(&world.secrets, asked["SecretId"].as_str().unwrap(), stage) {
                Some(stored) => Answer::json(&entry(stored)),
                None => Answer::error(400, "ResourceNotFoundException"),
            }
        }
        "DescribeSecret" => match find(&world.secrets, asked["SecretId"].as_str().unwrap(), None) {
            Some(stored) => {
                Answer::json(&json!({"Name": stored.key, "Tags": tags(stored), "VersionIdsToStages": {"1": ["AWSCURRENT"]}}))
            }
            None => Answer::error(400, "ResourceNotFoundException"),
        },
        action @ ("CreateSecret" | "PutSecretValue" | "DeleteSecret") => {
            writes.fetch_add(1, Ordering::SeqCst);
            let key = asked["SecretId"].as_str().or(asked["Name"].as_str()).unwrap().to_owned();
            let mut tags: BTreeMap<String, String> =
                find(&world.secrets, &key, None).map(|s| s.tags.clone()).unwrap_or_default();
            world.secrets.retain(|s| s.key != key);
            if action == "DeleteSecret" {
                return Answer::json(&json!({"Name": key}));
            }
            for tag in asked["Tags"].as_array().into_iter().flatten() {
                tags.insert(tag["Key"].as_str().unwrap().to_owned(), tag["Value"].as_str().unwrap().to_owned());
            }
            let bytes = match asked["SecretBinary"].as_str() {
                Some(base64) => STANDARD.decode(base64).unwrap(),
                None => asked["SecretString"].as_str().unwrap().as_bytes().to_vec(),
            };
            world.secrets.push(Stored { key: key.clone(), value: Value::Plain(bytes), version: None, tags });
            Answer::json(&json!({"Name": key}))
        }
        other => panic!("{other} was not expected"),
    }
}

fn tags(stored: &Stored) -> Vec<Json> {
    stored.tags.iter().map(|(k, v)| json!({"Key": k, "Value": v})).collect()
}

fn find<'a>(secrets: &'a [Stored], key: &str, version: Option<&str>) -> Option<&'a Stored> {
    secrets.iter().find(|s| s.key == key && s.version == version)
}

fn entry(stored: &Stored) -> Json {
    let mut entry = json!({"Name": stored.key});
    match &stored.value {
        Value::Plain(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => entry["SecretString"] = text.into(),
            Err(_) => entry["SecretBinary"] = STANDARD.encode(bytes).into(),
        },
        Value::Properties(pairs) => entry["SecretString"] = json!(pairs).to_string().into(),
    }
    entry
}

/// In pages as long as asked for.
fn list(secrets: &[Stored], asked: &Json) -> Answer {
    let start = asked["NextToken"].as_str().map_or(0, |t| t.parse::<usize>().unwrap());
    let length = usize::try_from(asked["MaxResults"].as_u64().unwrap()).unwrap();
    let current: Vec<&Stored> = secrets.iter().filter(|s| s.version.is_none()).collect();
    let page: Vec<Json> = current.iter().skip(start).take(length).map(|s| json!({"Name": s.key, "Tags": tags(s)})).collect();
    let mut body = json!({"SecretList": page});
    if start + length < current.len() {
        body["NextToken"] = (start + length).to_string().into();
    }
    Answer::json(&body)
}

fn batch(secrets: &[Stored], asked: &Json) -> Answer {
    let ids: Vec<&str> = asked["SecretIdList"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert!(ids.len() <= 20, "AWS takes 20");
    let missing = ids.iter().filter(|id| find(secrets, id, None).is_none());
    let missing = missing.map(|id| json!({"SecretId": id, "ErrorCode": "ResourceNotFoundException", "Message": CANARY}));
    Answer::json(&json!({
        "SecretValues": ids.iter().filter_map(|id| find(secrets, id, None)).map(entry).collect::<Vec<_>>(),
        "Errors": missing.collect::<Vec<_>>(),
    }))
}

impl Tested for Aws {
    const TITLE: &'static str = "AWS";
    const AUTH: &'static [&'static str] = &["jwt", "secretRef", "role"];
    const SERVER: &'static str = "ministack, with IAM on; Certificate Manager: a fake, proven by boto3";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![
            Box::new(SecretsManagerFixture::default()),
            Box::new(ParameterStoreFixture::default()),
            Box::new(CertificateManagerFixture),
        ]
    }
}
