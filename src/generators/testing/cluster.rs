//! A cluster in memory for generators: objects to read, and tokens of ServiceAccounts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde_json::{Value, json};

use crate::api::StoreKind;
use crate::generators::{GenerateCx, Generated, Generator};
use crate::outbound::Outbound;
use crate::providers::{CallCx, ConnectCx, ErrorKind, OwnCluster, ProviderError};

/// What must show up in no text: servers put it into every answer that is no success.
pub(crate) const CANARY: &str = "canary-4711";
/// Namespace of the generator and its consumer.
pub(crate) const NAMESPACE: &str = "team-a";

/// The cluster: objects by path, and the TokenRequests that were made.
#[derive(Clone, Default)]
pub(crate) struct Cluster {
    objects: BTreeMap<String, Value>,
    token: String,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self { token: format!("token-of-sa-{CANARY}"), ..Self::default() }
    }

    /// With a Secret of one key.
    pub(crate) fn secret(self, name: &str, key: &str, value: &str) -> Self {
        self.labelled_secret(name, &json!({}), &[(key, value)])
    }

    pub(crate) fn labelled_secret(mut self, name: &str, labels: &Value, data: &[(&str, &str)]) -> Self {
        let data: BTreeMap<&str, String> = data.iter().map(|(key, value)| (*key, STANDARD.encode(value))).collect();
        let object = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "data": data,
        });
        self.objects.insert(format!("/api/v1/namespaces/{NAMESPACE}/secrets/{name}"), object);
        self
    }

    pub(crate) fn config_map(mut self, name: &str, key: &str, value: &str) -> Self {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: value}});
        self.objects.insert(format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{name}"), object);
        self
    }

    pub(crate) fn service_account(mut self, name: &str, annotations: &Value) -> Self {
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "annotations": annotations},
        });
        self.objects.insert(format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}"), object);
        self
    }

    /// With another version of all that is there.
    pub(crate) fn at_version(mut self, version: &str) -> Self {
        for object in self.objects.values_mut() {
            object["metadata"]["resourceVersion"] = json!(version);
        }
        self
    }

    /// ServiceAccount, and the spec of each TokenRequest that was made.
    pub(crate) fn token_requests(&self) -> Vec<(String, Value)> {
        self.requests.lock().unwrap().clone()
    }

    /// What a generator may reach.
    pub(crate) fn cx(&self, outbound: &Arc<Outbound>) -> GenerateCx {
        let cluster = self.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let cluster = cluster.clone();
            async move { Ok::<_, Infallible>(cluster.answer(request).await) }
        });
        let connect = ConnectCx {
            client: kube::Client::new(service, NAMESPACE),
            cluster: OwnCluster::of(&kube::Config::new("http://cluster.invalid".parse().unwrap())),
            store_kind: StoreKind::SecretStore,
            store_name: "generator".into(),
            namespace: NAMESPACE.into(),
            retry: None,
            env: outbound.env(),
            outbound: outbound.clone(),
            used: Default::default(),
        };
        GenerateCx { connect, call: CallCx::default(), now: "2026-11-26T12:00:00Z".parse().unwrap(), vault: Arc::default() }
    }

    async fn answer(&self, request: http::Request<Body>) -> http::Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path();
        let body = body.collect().await.unwrap().to_bytes();
        let (status, object) = match path.strip_suffix("/token") {
            Some(account) => {
                let asked: Value = serde_json::from_slice(&body).unwrap();
                self.requests.lock().unwrap().push((account.rsplit('/').next().unwrap().to_owned(), asked["spec"].clone()));
                let status = json!({"token": self.token, "expirationTimestamp": "2036-01-01T00:00:00Z"});
                let metadata = json!({"name": "x"});
                let kind = json!("TokenRequest");
                (
                    201,
                    json!({"apiVersion": "authentication.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": asked["spec"], "status": status}),
                )
            }
            None => match self.objects.get(path) {
                Some(object) => (200, object.clone()),
                None => {
                    (404, json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": path}))
                }
            },
        };
        http::Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .body(Body::from(object.to_string().into_bytes()))
            .unwrap()
    }
}

/// A generator's spec from JSON.
pub(crate) fn spec<S: serde::de::DeserializeOwned>(spec: Value) -> S {
    serde_json::from_value(spec).unwrap()
}

/// The values as text.
pub(crate) fn values(generated: &Generated) -> BTreeMap<&str, &str> {
    generated.values.iter().map(|(key, value)| (key.as_str(), value.expose_str().unwrap())).collect()
}

/// The error, after a look for what it must not hold.
pub(crate) fn redacted<T>(result: Result<T, ProviderError>) -> ProviderError {
    let error = result.err().expect("an error");
    assert!(!error.to_string().contains("canary"), "{error}");
    assert!(!error.to_string().contains("BEGIN"), "{error}");
    error
}

/// What any server may do to any generator, and what must come of it: `try_with` runs the generator against a server that gives
/// this reply to the call in question.
pub(crate) async fn misbehaving<F>(try_with: impl Fn(crate::outbound::testing::Reply) -> F)
where
    F: Future<Output = Result<Generated, ProviderError>>,
{
    use crate::outbound::testing::Reply;
    let body = format!("{{\"message\": \"{CANARY}\", \"error\": \"{CANARY}\", \"errors\": [\"{CANARY}\"]}}");
    for (status, kind) in [
        (302, ErrorKind::Misconfigured),
        (401, ErrorKind::Denied),
        (403, ErrorKind::Denied),
        (422, ErrorKind::Misconfigured),
        (500, ErrorKind::Unavailable),
        (503, ErrorKind::Unavailable),
    ] {
        let error = redacted(try_with(Reply::text(status, &body)).await);
        assert_eq!(error.kind, kind, "{status}: {error}");
    }
    // Token endpoints say so to credentials that they do not take.
    let error = redacted(try_with(Reply::text(400, &body)).await);
    assert!(matches!(error.kind, ErrorKind::Misconfigured | ErrorKind::Denied), "400: {error}");
    let error = redacted(try_with(Reply::text(429, &body).with("retry-after", "17")).await);
    assert_eq!((error.kind, error.retry_after.map(|w| w.as_secs())), (ErrorKind::Throttled, Some(17)));
    for garbage in [CANARY, "", "[]", "{}", &body, "{\"token\": 17}", "<html>canary</html>"] {
        let error = redacted(try_with(Reply::text(201, garbage)).await);
        assert_eq!(error.kind, ErrorKind::Malformed, "{garbage:?}: {error}");
    }
}

/// Runs a generator.
pub(crate) async fn generate(
    spec: &dyn Generator,
    cluster: &Cluster,
    outbound: &Arc<Outbound>,
) -> Result<Generated, ProviderError> {
    spec.generate(&cluster.cx(outbound)).await
}
