//! A stand-in for Secrets Manager that costs the machine next to nothing and always takes the same time: what is measured is the
//! operator. It speaks AWS JSON 1.1, checks no signature, and counts its calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Router, body::Bytes};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How long each call takes.
pub const LATENCY: Duration = Duration::from_millis(15);
/// Most secrets in one `BatchGetSecretValue`: AWS's limit.
const BATCH: usize = 20;

/// A running stand-in; ends when it is dropped.
pub struct StandIn {
    endpoint: String,
    inner: Arc<Inner>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Inner {
    secrets: Mutex<BTreeMap<String, Secret>>,
    calls: Mutex<BTreeMap<String, u64>>,
}

#[derive(Clone)]
struct Secret {
    value: String,
    version: u64,
}

impl StandIn {
    /// Starts it on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let inner = Arc::new(Inner::default());
        let router = Router::new().route("/", post(answer)).with_state(inner.clone());
        let task = tokio::spawn(async move {
            // It ends only with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { endpoint, inner, task })
    }

    /// Its URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Sets the current value of a secret.
    pub fn put(&self, name: &str, value: &Value) {
        let mut secrets = lock(&self.inner.secrets);
        let version = secrets.get(name).map_or(1, |secret| secret.version + 1);
        secrets.insert(name.to_owned(), Secret { value: value.to_string(), version });
    }

    /// How many calls it has answered, by their name.
    #[must_use]
    pub fn calls(&self) -> BTreeMap<String, u64> {
        lock(&self.inner.calls).clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Input {
    secret_id: String,
    secret_id_list: Vec<String>,
}

async fn answer(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let call = target.strip_prefix("secretsmanager.").unwrap_or(target);
    *lock(&inner.calls).entry(call.to_owned()).or_default() += 1;
    tokio::time::sleep(LATENCY).await;
    let input: Input = serde_json::from_slice(&body).unwrap_or_default();
    let (status, output) = match respond(&lock(&inner.secrets), call, &input) {
        Ok(output) => (StatusCode::OK, output),
        Err(code) => (StatusCode::BAD_REQUEST, json!({"__type": code, "message": "refused by the stand-in"})),
    };
    (status, [(header::CONTENT_TYPE, "application/x-amz-json-1.1")], output.to_string()).into_response()
}

fn respond(secrets: &BTreeMap<String, Secret>, call: &str, input: &Input) -> Result<Value, &'static str> {
    match call {
        "GetSecretValue" => secrets.get(&input.secret_id).map(|s| entry(&input.secret_id, s)).ok_or(MISSING),
        "BatchGetSecretValue" if input.secret_id_list.len() > BATCH => Err("ValidationException"),
        "BatchGetSecretValue" => {
            let found = input.secret_id_list.iter().filter_map(|id| Some(entry(id, secrets.get(id)?)));
            let missing = input.secret_id_list.iter().filter(|id| !secrets.contains_key(*id));
            let errors = missing.map(|id| json!({"SecretId": id, "ErrorCode": MISSING, "Message": "no such secret"}));
            Ok(json!({"SecretValues": found.collect::<Vec<_>>(), "Errors": errors.collect::<Vec<_>>()}))
        }
        "ListSecrets" => {
            let list = secrets.keys().map(|name| json!({"Name": name, "ARN": arn(name)}));
            Ok(json!({"SecretList": list.collect::<Vec<_>>()}))
        }
        _ => Err("UnknownOperationException"),
    }
}

const MISSING: &str = "ResourceNotFoundException";

fn entry(name: &str, secret: &Secret) -> Value {
    json!({
        "ARN": arn(name),
        "Name": name,
        "SecretString": secret.value,
        "VersionId": format!("00000000-0000-4000-8000-{:012}", secret.version),
        "VersionStages": ["AWSCURRENT"],
        "CreatedDate": 1_700_000_000,
    })
}

fn arn(name: &str) -> String {
    format!("arn:aws:secretsmanager:{}:{}:secret:{name}-AbCdEf", crate::aws::REGION, crate::aws::ACCOUNT)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::Request;

    async fn call(stand_in: &StandIn, call: &str, input: Value) -> (u16, Value) {
        let request = Request::post(stand_in.endpoint()).header("x-amz-target", format!("secretsmanager.{call}"));
        let request = request.body(Full::from(input.to_string())).unwrap();
        let (status, body) = crate::http::send(request).await.unwrap();
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn answers_as_secrets_manager_does_and_counts() {
        let stand_in = StandIn::start().await.unwrap();
        stand_in.put("a", &json!({"x": 1}));
        stand_in.put("a", &json!({"x": 2}));
        let (status, one) = call(&stand_in, "GetSecretValue", json!({"SecretId": "a"})).await;
        assert_eq!((status, one["SecretString"].as_str().unwrap()), (200, r#"{"x":2}"#));
        assert!(one["VersionId"].as_str().unwrap().ends_with("02"));
        let (status, none) = call(&stand_in, "GetSecretValue", json!({"SecretId": "b"})).await;
        assert_eq!((status, none["__type"].as_str().unwrap()), (400, MISSING));
        let (_, batch) = call(&stand_in, "BatchGetSecretValue", json!({"SecretIdList": ["a", "b"]})).await;
        assert_eq!(batch["SecretValues"][0]["Name"], "a");
        assert_eq!(batch["Errors"][0]["SecretId"], "b");
        let many: Vec<_> = (0..21).map(|n| n.to_string()).collect();
        assert_eq!(call(&stand_in, "BatchGetSecretValue", json!({"SecretIdList": many})).await.0, 400);
        assert_eq!(call(&stand_in, "DeleteSecret", json!({"SecretId": "a"})).await.0, 400);
        assert_eq!(call(&stand_in, "ListSecrets", json!({})).await.1["SecretList"][0]["Name"], "a");
        let expected = [("BatchGetSecretValue", 2), ("DeleteSecret", 1), ("GetSecretValue", 2), ("ListSecrets", 1)];
        assert_eq!(stand_in.calls(), expected.map(|(call, count)| (call.to_owned(), count)).into());
    }

    #[tokio::test]
    async fn a_call_takes_its_time() {
        let stand_in = StandIn::start().await.unwrap();
        let started = std::time::Instant::now();
        call(&stand_in, "ListSecrets", json!({})).await;
        assert!(started.elapsed() >= LATENCY);
    }
}
