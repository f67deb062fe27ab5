//! Counts the requests to the API server, as a layer of kube's client, so that none can be forgotten:
//! `api_server::client(config)?.with_layer(&CountRequests::new(metrics)).build()`.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode, Uri};
use tower::{Layer, Service};

use super::metrics::Metrics;

/// What we ask for; anything else is counted as [`OTHER`], so that the label stays bounded.
const RESOURCES: [&str; 13] = [
    "externalsecrets",
    "externalsecrets/status",
    "secretstores",
    "secretstores/status",
    "clustersecretstores",
    "clustersecretstores/status",
    "secrets",
    "serviceaccounts",
    "serviceaccounts/token",
    "configmaps",
    "namespaces",
    "leases",
    "events",
];
const OTHER: &str = "other";

/// The layer.
#[derive(Clone, Debug)]
pub struct CountRequests(Arc<Metrics>);

impl CountRequests {
    /// Counts into these metrics.
    #[must_use]
    pub const fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }
}

impl<S> Layer<S> for CountRequests {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Counted { inner, metrics: self.0.clone() }
    }
}

/// A service whose requests are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    inner: S,
    metrics: Arc<Metrics>,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (verb, resource) = classify(request.method(), request.uri());
        let metrics = self.metrics.clone();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            metrics.api_request(verb, resource, answer.as_ref().map_or("no_answer", |a| outcome(a.status())));
            answer
        })
    }
}

/// Verb and resource as the API server's own audit log and RBAC name them.
fn classify(method: &Method, uri: &Uri) -> (&'static str, &'static str) {
    let mut path = uri.path().split('/').filter(|p| !p.is_empty());
    // The group and version: two parts behind /apis, one behind the core group's /api.
    let in_api = match path.next() {
        Some("api") => path.next().is_some(),
        Some("apis") => path.nth(1).is_some(),
        _ => false,
    };
    let rest: Vec<&str> = path.collect();
    let (resource, name, subresource) = match rest.as_slice() {
        ["namespaces", _, resource, rest @ ..] => (*resource, rest.first(), rest.get(1)),
        [resource, rest @ ..] => (*resource, rest.first(), rest.get(1)),
        [] => (OTHER, None, None),
    };
    let wanted = (resource, subresource.copied());
    let known = RESOURCES.into_iter().find(|known| match known.split_once('/') {
        Some((resource, subresource)) => wanted == (resource, Some(subresource)),
        None => wanted == (*known, None),
    });
    (verb(method, uri, name.is_some()), known.filter(|_| in_api).unwrap_or(OTHER))
}

fn verb(method: &Method, uri: &Uri, named: bool) -> &'static str {
    let watches = uri.query().is_some_and(|query| query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1")));
    match (method.as_str(), named) {
        ("GET", _) if watches => "watch",
        ("GET", true) => "get",
        ("GET", false) => "list",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "delete",
        ("DELETE", false) => "deletecollection",
        _ => OTHER,
    }
}

fn outcome(status: StatusCode) -> &'static str {
    match status.as_u16() {
        ..400 => "success",
        401 | 403 => "denied",
        404 => "not_found",
        409 => "conflict",
        429 => "throttled",
        400..500 => "rejected",
        _ => "server_error",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_rbac_names_them() {
        let es = "/apis/external-secrets.io/v1/namespaces/a/externalsecrets";
        for (method, uri, expected) in [
            ("GET", "/apis/external-secrets.io/v1/externalsecrets?limit=500", ("list", "externalsecrets")),
            ("GET", "/apis/external-secrets.io/v1/externalsecrets?watch=true&x=1", ("watch", "externalsecrets")),
            ("PATCH", &format!("{es}/one/status?fieldManager=keyferry"), ("patch", "externalsecrets/status")),
            ("GET", "/api/v1/namespaces/a/secrets/one", ("get", "secrets")),
            ("GET", "/api/v1/namespaces/secrets", ("get", "namespaces")),
            ("GET", "/api/v1/namespaces", ("list", "namespaces")),
            ("POST", "/api/v1/namespaces/a/serviceaccounts/sa/token", ("create", "serviceaccounts/token")),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/l?", ("update", "leases")),
            ("DELETE", "/api/v1/namespaces/a/secrets/one", ("delete", "secrets")),
            ("DELETE", "/api/v1/namespaces/a/secrets", ("deletecollection", "secrets")),
            ("GET", "/api/v1/namespaces/a/pods/one", ("get", "other")),
            ("GET", "/api/v1/namespaces/a/secrets/one/odd", ("get", "other")),
            ("GET", "/version", ("list", "other")),
            ("GET", "/secrets", ("list", "other")),
        ] {
            assert_eq!(classify(&method.parse().unwrap(), &uri.parse().unwrap()), expected, "{method} {uri}");
        }
    }

    #[test]
    fn outcomes() {
        for (code, expected) in [
            (200, "success"),
            (201, "success"),
            (403, "denied"),
            (404, "not_found"),
            (409, "conflict"),
            (422, "rejected"),
            (429, "throttled"),
            (503, "server_error"),
        ] {
            assert_eq!(outcome(StatusCode::from_u16(code).unwrap()), expected, "{code}");
        }
    }

    #[tokio::test]
    async fn the_layer_counts_answers_and_silence() {
        let metrics = Arc::new(Metrics::default());
        let mut service = CountRequests::new(metrics.clone()).layer(tower::service_fn(async |request: Request<()>| {
            match request.uri().path() {
                "/api/v1/namespaces/a/secrets/gone" => Err("no answer"),
                _ => Ok(Response::builder().status(409).body(()).unwrap()),
            }
        }));
        for path in ["/api/v1/namespaces/a/secrets/one", "/api/v1/namespaces/a/secrets/gone"] {
            let _ = service.call(Request::get(path).body(()).unwrap()).await;
        }
        let text = metrics.encode().unwrap();
        for outcome in ["conflict", "no_answer"] {
            let line = format!(r#"keyferry_api_requests_total{{verb="get",resource="secrets",outcome="{outcome}"}} 1"#);
            assert!(text.contains(&line), "{line}\n{text}");
        }
    }
}
