//! The provider against an API server of our own on loopback, which speaks the documented protocol and can fail on demand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod logins;
mod search;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value as Json, json};

use super::*;
use crate::api::external_secret::MetadataPolicy;
use crate::providers::conformance::{self, CANARY, Check, Fault, Fixture, Stored, Tested, Value, World};
use crate::providers::{CallCx, FindQuery, OwnCluster, Validation, Want};

/// The namespace that the store reads, and the one that the store and what it logs in with are in.
const REMOTE: &str = "team-b";
const HOME: &str = "team-a";

/// An API server: Secrets by namespace and name, and the tokens it gives.
#[derive(Default)]
struct ApiServer {
    secrets: Mutex<BTreeMap<(String, String), Json>>,
    fault: Option<Fault>,
    /// Answer of the two reviews: rules, then the single question. `None`: they are refused.
    rights: Option<(bool, bool)>,
    tokens: AtomicUsize,
    token_life: u64,
    /// It gives no token.
    gives_none: AtomicBool,
    /// Each list goes on with its first page.
    endless: bool,
    /// Token that is accepted; `None`: any.
    accepts: Mutex<Option<String>>,
    /// Calls that could have changed something.
    writes: Arc<AtomicUsize>,
    /// Method and path, token and user agent of each call that was made.
    calls: Mutex<Vec<(String, String, String)>>,
}

impl ApiServer {
    fn new() -> Self {
        Self { rights: Some((true, true)), token_life: 3600, ..Self::default() }
    }

    fn with(self, namespace: &str, name: &str, mut object: Json) -> Self {
        object["metadata"]["name"] = name.into();
        object["metadata"]["namespace"] = namespace.into();
        object["metadata"]["resourceVersion"] = "7".into();
        self.secrets.lock().unwrap().insert((namespace.to_owned(), name.to_owned()), object);
        self
    }

    async fn start(self) -> (kube::Config, Arc<Self>) {
        let server = Arc::new(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        (kube::Config::new(url.parse().unwrap()), server)
    }

    fn calls_to(&self, part: &str) -> Vec<(String, String, String)> {
        self.calls.lock().unwrap().iter().filter(|(call, ..)| call.contains(part)).cloned().collect()
    }
}

fn reply(status: StatusCode, body: &Json) -> Response {
    Response::builder().status(status).header("content-type", "application/json").body(Body::from(body.to_string())).unwrap()
}

fn refuse(code: u16, reason: &str, kind: &str) -> Response {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code, "reason": reason,
        "message": format!("refused, with {CANARY}"), "details": {"kind": kind, "name": CANARY},
    });
    reply(StatusCode::from_u16(code).unwrap(), &body)
}

async fn answer(
    State(server): State<Arc<ApiServer>>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let reading = format!("/api/v1/namespaces/{REMOTE}/secrets");
    match &server.fault {
        Some(fault) if request.uri().path().starts_with(&reading) => fail(fault).await,
        _ => {
            let (parts, body) = request.into_parts();
            let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            respond(&server, &query, &parts, &body)
        }
    }
}

fn respond(server: &ApiServer, query: &HashMap<String, String>, request: &Parts, body: &[u8]) -> Response {
    let header = |name| request.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
    let token = header(AUTHORIZATION).replace("Bearer ", "");
    let path = request.uri.path();
    server.calls.lock().unwrap().push((format!("{} {path}", request.method), token.clone(), header(USER_AGENT)));
    let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (&request.method, steps.as_slice()) {
        (
            method @ (&Method::POST | &Method::PUT | &Method::DELETE),
            ["api", "v1", "namespaces", namespace, "secrets", rest @ ..],
        ) => {
            server.writes.fetch_add(1, Ordering::SeqCst);
            write(server, method, namespace, rest, body)
        }
        (&Method::GET, ["api", "v1", "namespaces", namespace, "secrets", rest @ ..]) => {
            if *namespace == REMOTE && server.accepts.lock().unwrap().as_ref().is_some_and(|accepted| *accepted != token) {
                return refuse(401, "Unauthorized", "secrets");
            }
            match rest {
                [] => list(server, namespace, query),
                [name] => match server.secrets.lock().unwrap().get(&((*namespace).to_owned(), (*name).to_owned())) {
                    Some(secret) => reply(StatusCode::OK, secret),
                    None => refuse(404, "NotFound", "secrets"),
                },
                _ => refuse(404, "NotFound", "pods"),
            }
        }
        (&Method::POST, ["api", "v1", "namespaces", HOME, "serviceaccounts", "reader", "token"]) => {
            if server.gives_none.load(Ordering::SeqCst) {
                return refuse(500, "InternalError", "serviceaccounts");
            }
            let number = server.tokens.fetch_add(1, Ordering::SeqCst) + 1;
            let expires = jiff::Timestamp::now() + Duration::from_secs(server.token_life);
            let status = json!({"token": format!("token-{number}"), "expirationTimestamp": expires.to_string()});
            reply(StatusCode::CREATED, &json!({"metadata": {}, "spec": {"audiences": []}, "status": status}))
        }
        (&Method::POST, ["apis", "authorization.k8s.io", "v1", review]) => match (server.rights, *review) {
            (None, _) => refuse(403, "Forbidden", "reviews"),
            (Some((rules, _)), "selfsubjectrulesreviews") => {
                let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"]});
                let rules = if rules { vec![rule] } else { vec![] };
                let status = json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false});
                reply(StatusCode::CREATED, &json!({"metadata": {}, "spec": {}, "status": status}))
            }
            (Some((_, allowed)), _) => {
                reply(StatusCode::CREATED, &json!({"metadata": {}, "spec": {}, "status": {"allowed": allowed}}))
            }
        },
        _ => refuse(404, "NotFound", "unknown"),
    }
}

/// Creates, replaces and deletes as an API server does, under the resourceVersion where one is given.
fn write(server: &ApiServer, method: &Method, namespace: &str, rest: &[&str], body: &[u8]) -> Response {
    let mut object: Json = serde_json::from_slice(body).unwrap();
    let name = rest.first().copied().or(object["metadata"]["name"].as_str()).unwrap().to_owned();
    let key = (namespace.to_owned(), name.clone());
    let mut secrets = server.secrets.lock().unwrap();
    let there = secrets.get(&key).map(|s| s["metadata"]["resourceVersion"].clone());
    let asked = match *method {
        Method::DELETE => object["preconditions"]["resourceVersion"].clone(),
        _ => object["metadata"]["resourceVersion"].clone(),
    };
    match (method, there) {
        (&Method::POST, Some(_)) => return refuse(409, "AlreadyExists", "secrets"),
        (&Method::PUT | &Method::DELETE, None) => return refuse(404, "NotFound", "secrets"),
        (&Method::PUT | &Method::DELETE, Some(version)) if asked.is_string() && asked != version => {
            return refuse(409, "Conflict", "secrets");
        }
        _ => {}
    }
    if method == Method::DELETE {
        return reply(StatusCode::OK, &secrets.remove(&key).unwrap());
    }
    object["metadata"]["namespace"] = namespace.into();
    object["metadata"]["resourceVersion"] = format!("w{}", server.writes.load(Ordering::SeqCst)).into();
    secrets.insert(key, object.clone());
    reply(StatusCode::OK, &object)
}

/// Pages by position, and labels that all must be equal.
fn list(server: &ApiServer, namespace: &str, query: &HashMap<String, String>) -> Response {
    let selector: Vec<(&str, &str)> = query
        .get("labelSelector")
        .map(|text| text.split(',').filter_map(|term| term.split_once('=')).collect())
        .unwrap_or_default();
    let secrets = server.secrets.lock().unwrap();
    let matching: Vec<&Json> = secrets
        .iter()
        .filter(|((in_namespace, _), _)| in_namespace == namespace)
        .map(|(_, secret)| secret)
        .filter(|secret| selector.iter().all(|(key, value)| secret["metadata"]["labels"][*key] == *value))
        .collect();
    let from: usize = query.get("continue").map_or(0, |token| token.parse().unwrap());
    let limit: usize = query.get("limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
    let page: Vec<&Json> = matching.iter().skip(from).take(limit).copied().collect();
    let next = if server.endless { 0 } else { from + page.len() };
    let token = if next < matching.len() { next.to_string() } else { String::new() };
    let body = json!({"kind": "SecretList", "apiVersion": "v1", "metadata": {"continue": token}, "items": page});
    reply(StatusCode::OK, &body)
}

async fn fail(fault: &Fault) -> Response {
    match fault {
        Fault::Denied => refuse(403, "Forbidden", "secrets"),
        Fault::Throttled => {
            let mut answer = refuse(429, "TooManyRequests", "secrets");
            answer.headers_mut().insert(RETRY_AFTER, conformance::RETRY_AFTER.as_secs().into());
            answer
        }
        Fault::Broken => refuse(503, "ServiceUnavailable", "secrets"),
        Fault::Garbled => reply(StatusCode::OK, &json!({"data": {"k": [CANARY]}, "items": CANARY})),
        Fault::Hang(reached) => {
            reached.notify_one();
            std::future::pending().await
        }
    }
}

fn connect_cx(config: &kube::Config, store_kind: StoreKind) -> ConnectCx {
    ConnectCx {
        client: kube::Client::try_from(config.clone()).unwrap(),
        cluster: OwnCluster::of(config),
        store_kind,
        store_name: "store".into(),
        namespace: HOME.into(),
        retry: None,
        env: Arc::default(),
        outbound: crate::outbound::testing::outbound(),
        used: Default::default(),
    }
}

fn store(spec: Json) -> Kubernetes {
    let mut store: Kubernetes = serde_json::from_value(spec).unwrap();
    store.remote_namespace = Some(REMOTE.into());
    store
}

async fn session(store: &Kubernetes, config: &kube::Config) -> Arc<dyn Session> {
    store.connect(&connect_cx(config, StoreKind::SecretStore)).await.unwrap()
}

fn want(key: &str) -> Want {
    Want { key: key.into(), ..Want::default() }
}

async fn get(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    let fetched = session.get(&[want(key)], &CallCx::default()).await.remove(0)?;
    Ok(session.whole(&want(key), &fetched.bytes)?.expose_str().unwrap().to_owned())
}

#[derive(Default)]
struct KubernetesFixture {
    writes: Arc<AtomicUsize>,
}

#[async_trait]
impl Fixture for KubernetesFixture {
    fn provider(&self) -> &'static str {
        "kubernetes"
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![
            (Check::Version, "a Secret has one version, and ESO ignores the field"),
            (Check::PushForeign, "ESO marks no Secret as its own: the store's role says which may be written"),
        ]
    }

    fn plain_property(&self) -> Option<&'static str> {
        Some("value")
    }

    fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    async fn connect(&self, world: World) -> Arc<dyn Session> {
        let mut server = ApiServer { fault: world.fault, writes: self.writes.clone(), ..ApiServer::new() };
        for Stored { key, value, tags, .. } in world.secrets {
            let data: BTreeMap<String, String> = match value {
                Value::Plain(bytes) => BTreeMap::from([("value".to_owned(), STANDARD.encode(bytes))]),
                Value::Properties(pairs) => pairs.into_iter().map(|(name, value)| (name, STANDARD.encode(value))).collect(),
            };
            server = server.with(REMOTE, &key, json!({"data": data, "metadata": {"labels": tags}}));
        }
        let (config, _) = server.start().await;
        session(&store(json!({"auth": {"serviceAccount": {"name": "reader"}}})), &config).await
    }
}

impl Tested for Kubernetes {
    const TITLE: &'static str = "Kubernetes";
    const AUTH: &'static [&'static str] = &["cert", "token", "serviceAccount", "authRef"];
    const SERVER: &'static str = "a kube-apiserver";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(KubernetesFixture::default())]
    }
}

#[tokio::test]
async fn reads_whole_secrets_and_metadata() {
    let secret = json!({"data": {"b": "Mg==", "a": "PCY+"}, "metadata": {"labels": {"app": "web"}}});
    let (config, server) = ApiServer::new().with(REMOTE, "s", secret).start().await;
    let session = session(&store(json!({})), &config).await;
    assert_eq!(get(session.as_ref(), "s").await.unwrap(), r#"{"a":"<&>","b":"2"}"#);
    let metadata = Want { metadata: MetadataPolicy::Fetch, ..want("s") };
    let cx = CallCx { cause: "ExternalSecret/team-a/web".into(), correlation: "c-1".into(), ..CallCx::default() };
    let fetched = session.get(std::slice::from_ref(&metadata), &cx).await.remove(0).unwrap();
    let whole = session.whole(&metadata, &fetched.bytes).unwrap();
    assert_eq!(whole.expose_str(), Some(r#"{"annotations":null,"labels":{"app":"web"}}"#));
    assert_eq!(fetched.version.as_deref(), Some("7"));
    let (_, token, agent) = server.calls_to("secrets").pop().unwrap();
    assert_eq!(token, "", "a store without auth is nobody, not the operator");
    assert!(agent.starts_with("keyferry/") && agent.ends_with(" (ExternalSecret/team-a/web; c-1)"), "{agent}");
}

#[tokio::test]
async fn every_list_names_the_namespace() {
    let (config, server) = ApiServer::new().with(HOME, "theirs", json!({})).with(REMOTE, "ours", json!({})).start().await;
    let session = session(&store(json!({})), &config).await;
    let found = session.find(&FindQuery::default(), &CallCx::default()).await.unwrap();
    assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["ours"]);
    assert!(server.calls_to("GET").iter().all(|(call, ..)| call.starts_with("GET /api/v1/namespaces/team-b/")));
}

/// CVE-2026-42875, CVE-2026-39961 and their like: the operator may read what the store's author may not.
#[tokio::test]
async fn a_secret_store_reads_nothing_of_another_namespace() {
    let (config, server) =
        ApiServer::new().with(REMOTE, "theirs", json!({"data": {"k": STANDARD.encode(CANARY)}})).start().await;
    let theirs = json!({"name": "theirs", "namespace": REMOTE, "key": "k"});
    let ca = |kind: &str| {
        json!({"server": {"url": "https://127.0.0.1:1", "caProvider": {"type": kind, "name": "theirs", "namespace": REMOTE, "key": "k"}},
            "auth": {"serviceAccount": {"name": "own"}}})
    };
    for spec in [
        ca("ConfigMap"),
        ca("Secret"),
        json!({"auth": {"token": {"bearerToken": theirs}}}),
        json!({"auth": {"cert": {"clientCert": theirs, "clientKey": theirs}}}),
        json!({"auth": {"serviceAccount": {"name": "theirs", "namespace": REMOTE}}}),
        json!({"authRef": theirs}),
    ] {
        let error = store(spec.clone()).connect(&connect_cx(&config, StoreKind::SecretStore)).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{spec}: {error}");
        assert!(error.detail.contains("reads its own namespace only"), "{spec}: {error}");
    }
    let asked = server.calls_to(REMOTE);
    assert!(asked.is_empty(), "{asked:?}");
}

/// Its own cluster's API server may be anywhere: the administrator chose it.
#[tokio::test]
async fn what_is_around_the_operator_is_not_called_for_a_store() {
    let (own, own_server) = ApiServer::new().with(REMOTE, "s", json!({})).start().await;
    let (other, other_server) = ApiServer::new().with(REMOTE, "s", json!({})).start().await;
    let cx = ConnectCx {
        outbound: Arc::new(crate::outbound::Outbound::new(Arc::default(), false)),
        ..connect_cx(&own, StoreKind::SecretStore)
    };
    let (url, own_url) = (other.cluster_url.to_string(), own.cluster_url.to_string());
    for (url, is_own) in [(url.as_str(), false), ("http://169.254.169.254", false), (own_url.as_str(), true)] {
        let spec = store(json!({"server": {"url": url}, "auth": {"serviceAccount": {"name": "reader"}}}));
        let got = get(spec.connect(&cx).await.unwrap().as_ref(), "s").await;
        assert_eq!(got.is_ok(), is_own, "{url}");
        if let Err(error) = got {
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{url}: {error}");
            assert!(error.detail.contains("leads to the operator's own Pod or node"), "{url}: {error}");
        }
    }
    assert!(other_server.calls_to("").is_empty());
    assert_eq!(own_server.calls_to("secrets/s").len(), 1);
    // and where it is allowed, a server of that kind is one like any other
    let spec = store(json!({"server": {"url": url}, "auth": {"serviceAccount": {"name": "reader"}}}));
    get(session(&spec, &own).await.as_ref(), "s").await.unwrap();
    assert!(other_server.calls_to("secrets/s").iter().all(|(_, token, _)| token.starts_with("token-")));
    assert_eq!(other_server.calls_to("secrets/s").len(), 1);
}

#[tokio::test]
async fn a_key_cannot_leave_the_namespace() {
    let (config, server) = ApiServer::new().start().await;
    let session = session(&store(json!({})), &config).await;
    for key in ["../../team-a/secrets/x", "x/../y", "x?limit=1", "", "a b"] {
        assert_eq!(get(session.as_ref(), key).await.unwrap_err().kind, ErrorKind::Misconfigured, "{key:?}");
    }
    assert!(server.calls_to("GET").is_empty());
}

#[tokio::test]
async fn path_alone_finds_nothing_to_go_by() {
    let (config, _) = ApiServer::new().start().await;
    let session = session(&store(json!({})), &config).await;
    let query = FindQuery { path: "a".into(), ..FindQuery::default() };
    assert_eq!(session.find(&query, &CallCx::default()).await.unwrap_err().kind, ErrorKind::Unsupported);
}

#[tokio::test]
async fn logs_in_with_a_token_and_with_a_kubeconfig() {
    let (config, server) = ApiServer::new().start().await;
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: '{}'}}}}]\nusers: [{{name: u, user: {{token: from-file}}}}]\n\
         contexts: [{{name: k, context: {{cluster: c, user: u}}}}]\ncurrent-context: k\n",
        config.cluster_url
    );
    let login = json!({"data": {"token": STANDARD.encode("given\n"), "config": STANDARD.encode(kubeconfig), "bad": STANDARD.encode(CANARY)}});
    for (namespace, name, object) in [(HOME, "login", login), (REMOTE, "s", json!({}))] {
        let mut object = object;
        object["metadata"] = json!({"name": name, "namespace": namespace});
        server.secrets.lock().unwrap().insert((namespace.to_owned(), name.to_owned()), object);
    }
    let url = config.cluster_url.to_string();
    for (spec, token) in [
        (json!({"auth": {"token": {"bearerToken": {"name": "login", "key": "token"}}}}), "given"),
        (
            json!({"server": {"url": "kubernetes.default"}, "auth": {"token": {"bearerToken": {"name": "login", "key": "token"}}}}),
            "given",
        ),
        (json!({"server": {"url": url}, "auth": {"token": {"bearerToken": {"name": "login", "key": "token"}}}}), "given"),
        (json!({"authRef": {"name": "login", "key": "config"}, "server": {"url": "https://127.0.0.1:1"}}), "from-file"),
    ] {
        let session = session(&store(spec.clone()), &config).await;
        get(session.as_ref(), "s").await.unwrap();
        assert_eq!(server.calls_to("team-b/secrets").pop().unwrap().1, token, "{spec}");
    }
    let refused = store(json!({"authRef": {"name": "login", "key": "bad"}}));
    let error = refused.connect(&connect_cx(&config, StoreKind::SecretStore)).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    assert!(!error.detail.contains(CANARY), "{error}");
}

/// In a process of its own, as the environment is the process's: the same once more, where it names a proxy.
#[test]
fn a_kubeconfig_does_not_lead_through_the_proxy_of_the_environment() {
    let mut same = std::process::Command::new(std::env::current_exe().unwrap());
    same.args(["--exact", "providers::kubernetes::tests::logs_in_with_a_token_and_with_a_kubeconfig"]);
    let ran = same.env("HTTPS_PROXY", "http://127.0.0.1:1").output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains(" 1 passed"), "{said}");
}

#[tokio::test]
async fn the_check_asks_for_the_rules_and_then_for_the_right() {
    for (rights, expected) in [
        (Some((true, false)), Ok(Validation::Ready)),
        (Some((false, true)), Ok(Validation::Ready)),
        (Some((false, false)), Err("client is not allowed to get secrets")),
    ] {
        let (config, _) = ApiServer { rights, ..ApiServer::new() }.start().await;
        let session = session(&store(json!({})), &config).await;
        let found = session.validate(&CallCx::default()).await;
        assert_eq!(found.as_ref().map_err(|error| error.detail.as_str()), expected.as_ref().map_err(|text| *text));
    }
    let (config, _) = ApiServer { rights: None, ..ApiServer::new() }.start().await;
    let session = session(&store(json!({})), &config).await;
    let Ok(Validation::Unknown(text)) = session.validate(&CallCx::default()).await else { panic!("not unknown") };
    assert!(text.starts_with("could not verify if client is valid: ") && !text.contains(CANARY), "{text}");
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let session =
        session(&store(json!({"server": {"url": url}})), &kube::Config::new("http://127.0.0.1:1".parse().unwrap())).await;
    assert_eq!(get(session.as_ref(), "s").await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_certificate_that_is_none_is_misconfigured() {
    let (config, _) = ApiServer::new().start().await;
    for bundle in ["not PEM", "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n"] {
        let bad = store(json!({"server": {"url": "https://127.0.0.1:1", "caBundle": STANDARD.encode(bundle)}}));
        let error = bad.connect(&connect_cx(&config, StoreKind::SecretStore)).await.err().unwrap();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
    }
}

#[test]
fn validation_says_what_eso_says() {
    let token = |selector: Json| json!({"auth": {"token": {"bearerToken": selector}}});
    let ca = |namespace: Json| json!({"server": {"caProvider": {"type": "ConfigMap", "name": "n", "key": "k", "namespace": namespace}}});
    for (kind, spec, text) in [
        (StoreKind::SecretStore, json!({}), ""),
        (StoreKind::SecretStore, token(json!({"name": "n", "key": "k"})), ""),
        (StoreKind::SecretStore, token(json!({"key": "k"})), "BearerToken.Name cannot be empty"),
        (StoreKind::SecretStore, token(json!({"name": "n"})), "BearerToken.Key cannot be empty"),
        (StoreKind::SecretStore, json!({"auth": {"cert": {}}}), "ClientCert.Name cannot be empty"),
        (StoreKind::SecretStore, json!({"auth": {"cert": {"clientCert": {"name": "n"}}}}), "ClientCert.Key cannot be empty"),
        (
            StoreKind::SecretStore,
            json!({"auth": {"cert": {"clientCert": {"name": "n", "key": "k"}}}}),
            "ClientKey.Name cannot be empty",
        ),
        (StoreKind::SecretStore, json!({"auth": {}}), "auth must have exactly one of cert, token and serviceAccount"),
        (
            StoreKind::SecretStore,
            json!({"auth": {"serviceAccount": {"name": "s"}, "token": {"bearerToken": {"name": "n", "key": "k"}}}}),
            "auth must have exactly one of cert, token and serviceAccount",
        ),
        (StoreKind::SecretStore, json!({"authRef": {"name": "n"}}), "AuthRef.Key cannot be empty"),
        (StoreKind::SecretStore, ca(json!("x")), "CAProvider.namespace must be empty with SecretStore"),
        (StoreKind::SecretStore, ca(json!(null)), ""),
        (StoreKind::ClusterSecretStore, ca(json!(null)), "CAProvider.namespace must not be empty with ClusterSecretStore"),
        (StoreKind::ClusterSecretStore, ca(json!("x")), ""),
    ] {
        let found = store(spec.clone()).validate(kind).err().map(|error| error.detail).unwrap_or_default();
        assert_eq!(found, text, "{kind} {spec}");
    }
}

#[test]
fn everything_it_logs_in_with_is_a_reference() {
    let all = store(json!({
        "server": {"caProvider": {"type": "ConfigMap", "name": "ca", "key": "k", "namespace": "c"}},
        "auth": {"cert": {"clientCert": {"name": "cert", "key": "k"}, "clientKey": {"name": "key", "key": "k", "namespace": "x"}}},
    }));
    let reference = |kind, namespace: Option<&str>, name: &str| Reference {
        kind,
        namespace: namespace.map(Into::into),
        name: name.into(),
    };
    assert_eq!(
        all.references(),
        [
            reference(ReferenceKind::Secret, None, "cert"),
            reference(ReferenceKind::Secret, Some("x"), "key"),
            reference(ReferenceKind::ConfigMap, Some("c"), "ca"),
        ]
    );
    let account = store(json!({"auth": {"serviceAccount": {"name": "reader"}}}));
    assert_eq!(account.references(), [reference(ReferenceKind::ServiceAccount, None, "reader")]);
    let kubeconfig = store(json!({"authRef": {"name": "file", "key": "k"}, "auth": {"serviceAccount": {"name": "reader"}}}));
    assert_eq!(kubeconfig.references(), [reference(ReferenceKind::Secret, None, "file")]);
}

#[test]
fn a_missing_secret_counts_for_extract_only() {
    assert_eq!(Kubernetes::default().missing(), Missing::ExtractOnly);
}
