//! A server on loopback that speaks for AWS and for the Kubernetes API, and says afterwards what it was asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde_json::{Value, json};

use super::{Aws, Service};
use crate::api::secret_store::{RetrySettings, StoreKind};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, OwnCluster, Provider, ProviderError, Session, Want,
};

/// Values that must show up in no text.
pub(super) const KEY_ID: &str = "AKIACANARYCANARY0000";
pub(super) const SECRET_KEY: &str = "canary/secret+access/key/0123456789abcde";
pub(super) const SESSION_TOKEN: &str = "canary/session-token/0123456789";
pub(super) const VALUE: &str = "canary-value";

/// What the server was asked.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// `GetSecretValue`, `AssumeRole`; for the Kubernetes API the path.
    pub(super) fn action(&self) -> String {
        if let Some((_, action)) = self.header("x-amz-target").split_once('.') {
            return action.to_owned();
        }
        self.form("Action").unwrap_or_else(|| self.path.clone())
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A field of a form, decoded as far as these tests need.
    pub(super) fn form(&self, name: &str) -> Option<String> {
        let pair = self.body.split('&').find_map(|p| p.strip_prefix(name)?.strip_prefix('='))?;
        Some(pair.replace("%3A", ":").replace("%2F", "/").replace("%2B", "+").replace("%3D", "="))
    }
}

/// What the server says.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    delay: Duration,
}

impl Answer {
    pub(super) fn json(body: &Value) -> Self {
        Self::raw(200, &body.to_string()).with("x-amzn-requestid", "request-1")
    }

    pub(super) fn raw(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), delay: Duration::ZERO }
    }

    /// An error in AWS's JSON protocol, with every canary in its message.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let message = format!("told {code} {KEY_ID} {SECRET_KEY} {SESSION_TOKEN}");
        Self::raw(status, &json!({"__type": code, "Message": message}).to_string())
    }

    /// An error in STS's XML.
    pub(super) fn sts_error(status: u16, code: &str, message: &str) -> Self {
        Self::raw(
            status,
            &format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
            ),
        )
    }

    /// Credentials of a role, in STS's XML. `key`: what their parts start with.
    pub(super) fn credentials(action: &str, key: &str, life: Duration) -> Self {
        let expiry = aws_smithy_types::DateTime::from(std::time::SystemTime::now() + life);
        let expiry = expiry.fmt(aws_smithy_types::date_time::Format::DateTime).unwrap();
        Self::raw(
            200,
            &format!(
                "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
                 <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{key}-secret</SecretAccessKey><SessionToken>{key}-token\
                 </SessionToken><Expiration>{expiry}</Expiration></Credentials></{action}Result></{action}Response>"
            ),
        )
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(super) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// The server.
pub(super) struct Server {
    url: String,
    seen: Arc<Mutex<Vec<Request>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Request) -> Answer + Clone + Send + Sync + 'static) -> Self {
        // Whichever test comes first installs it.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let record = seen.clone();
        let handler = move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let body = String::from_utf8_lossy(&body).into_owned();
            let request = Request { path: uri.path().to_owned(), headers, body };
            let answer = answer(&request);
            record.lock().unwrap().push(request);
            async move {
                tokio::time::sleep(answer.delay).await;
                let mut headers = HeaderMap::new();
                for (name, value) in answer.headers {
                    headers.insert(name, value.parse().unwrap());
                }
                (StatusCode::from_u16(answer.status).unwrap(), headers, answer.body)
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(handler);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, seen, task }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// What was asked, in order.
    pub(super) fn actions(&self) -> Vec<String> {
        self.seen().iter().map(Request::action).collect()
    }

    /// See [`cx_at`].
    pub(super) fn cx(&self) -> ConnectCx {
        cx_at(&self.url)
    }

    pub(super) async fn connect(&self, aws: Aws) -> Result<Arc<dyn Session>, ProviderError> {
        aws.connect(&self.cx()).await
    }

    /// A session with the access key of the environment.
    pub(super) async fn session(&self) -> Arc<dyn Session> {
        self.session_of(Service::SecretsManager).await
    }

    /// The same, of any service.
    pub(super) async fn session_of(&self, service: Service) -> Arc<dyn Session> {
        self.connect(Aws { service, ..store() }).await.unwrap()
    }

    /// What the first request for an action held.
    pub(super) fn sent(&self, action: &str) -> Value {
        let seen = self.seen();
        let found = seen.iter().find(|r| r.action() == action);
        found.unwrap_or_else(|| panic!("no {action}: {:?}", self.actions())).json()
    }
}

/// A store in namespace `team-a`, with the server as AWS and as the Kubernetes API, and an access key in the environment.
pub(super) fn cx_at(url: &str) -> ConnectCx {
    let env = [
        ("AWS_SECRETSMANAGER_ENDPOINT", url),
        ("AWS_SSM_ENDPOINT", url),
        ("AWS_ACM_ENDPOINT", url),
        ("AWS_RESOURCE_GROUPS_TAGGING_API_ENDPOINT", url),
        ("AWS_STS_ENDPOINT", url),
        ("AWS_ACCESS_KEY_ID", KEY_ID),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
        ("AWS_SESSION_TOKEN", SESSION_TOKEN),
    ];
    let cluster = kube::Config::new(url.parse().unwrap());
    ConnectCx {
        client: kube::Client::try_from(cluster.clone()).unwrap(),
        cluster: OwnCluster::of(&cluster),
        store_kind: StoreKind::SecretStore,
        store_name: "aws".into(),
        namespace: "team-a".into(),
        retry: Some(RetrySettings { max_retries: Some(2), retry_interval: Some("1ms".into()) }),
        env: Arc::new(env.map(|(k, v)| (k.to_owned(), v.to_owned())).into()),
        outbound: crate::outbound::testing::outbound(),
        used: Default::default(),
    }
}

/// A store without any login of its own.
pub(super) fn store() -> Aws {
    Aws { service: Service::SecretsManager, region: "eu-west-1".into(), ..Aws::default() }
}

pub(super) fn call_cx() -> CallCx {
    CallCx { cause: "ExternalSecret/team-a/app".into(), correlation: "c0ffee".into(), ..CallCx::default() }
}

/// What a test looks at: the value, or the class of the error, which shows none of the canaries.
pub(super) fn outcome(result: &Result<Fetched, ProviderError>) -> Result<&str, ErrorKind> {
    result.as_ref().map(|f| f.bytes.expose_str().unwrap()).map_err(|e| {
        let text = format!("{e} {e:?}");
        for canary in [KEY_ID, SECRET_KEY, SESSION_TOKEN, VALUE] {
            assert!(!text.contains(canary), "{text}");
        }
        e.kind
    })
}

/// A search.
pub(super) fn query(path: &str, name: &str, tags: &[(&str, &str)]) -> FindQuery {
    let tags = tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    FindQuery { path: path.into(), name: name.into(), tags }
}

pub(super) fn want(key: &str) -> Want {
    Want { key: key.into(), ..Want::default() }
}

/// An object of the Kubernetes API.
pub(super) fn object(kind: &str, annotations: &BTreeMap<&str, &str>, rest: &Value) -> Answer {
    let version = match kind {
        "PartialObjectMetadata" => "meta.k8s.io/v1",
        "TokenRequest" => "authentication.k8s.io/v1",
        _ => "v1",
    };
    let mut object = json!({
        "apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "team-a", "annotations": annotations},
    });
    object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    Answer::raw(200, &object.to_string()).with("content-type", "application/json")
}
