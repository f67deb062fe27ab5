//! The labels of the one namespace that is served with `--namespace`: the conditions of ClusterSecretStores ask for them. They are read
//! and not watched, for which a Role in that namespace is enough.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Api;

use crate::controllers::watch::Change;
use crate::index::Key;

/// How often they are read.
const EVERY: Duration = Duration::from_secs(60);
/// The same after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Hands each change to `handle`, and calls `known` after each answer: a refusal is one, too.
pub(super) async fn follow(api: Api<Namespace>, name: &str, known: impl Fn(), mut handle: impl FnMut(Change<ObjectMeta>)) {
    let (mut seen, mut refused) = (None, false);
    loop {
        match api.get_metadata_opt(name).await {
            Ok(Some(found)) => {
                let version = found.metadata.resource_version.clone();
                if seen != version {
                    seen = version;
                    handle(Change::Upsert(found.metadata));
                }
            }
            Ok(None) => {
                if seen.take().is_some() {
                    handle(Change::Gone(Key::new("", name)));
                }
            }
            Err(kube::Error::Api(status)) if status.code == 403 => {
                if !std::mem::replace(&mut refused, true) {
                    tracing::warn!(
                        namespace = name,
                        "the namespace may not be read: where conditions of ClusterSecretStores ask for its labels, it may not use \
                         them; let the operator get this Namespace"
                    );
                }
            }
            Err(_) => {
                tracing::warn!(namespace = name, "the namespace could not be read; trying again");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        }
        known();
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// What is heard when the API server answers so: resourceVersions, none for the end of the namespace, and `known`.
    async fn heard(answers: &[(u16, &str)]) -> Vec<String> {
        let left = Arc::new(Mutex::new(VecDeque::from_iter(answers.iter().map(|&(code, version)| {
            let meta = json!({"name": "team", "resourceVersion": version});
            let body = match code {
                200 => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}),
                404 => {
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": code})
                }
                _ => json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}),
            };
            (code, body.to_string())
        }))));
        let service = tower::service_fn(move |_: Request<Body>| {
            let answer = left.lock().unwrap().pop_front();
            async move {
                let Some((code, body)) = answer else { return std::future::pending().await };
                let answer = Response::builder().status(code).header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Body::from(body.into_bytes())).unwrap())
            }
        });
        let heard = RefCell::new(Vec::new());
        let api = Api::<Namespace>::all(kube::Client::new(service, "ns"));
        let handle = |change: Change<ObjectMeta>| {
            heard.borrow_mut().push(match change {
                Change::Upsert(meta) => meta.resource_version.unwrap(),
                _ => String::new(),
            });
        };
        let follow = follow(api, "team", || heard.borrow_mut().push("known".into()), handle);
        tokio::time::timeout(Duration::from_secs(600), follow).await.unwrap_err();
        heard.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn what_changes_is_told_and_a_refusal_is_an_answer() {
        let answers = [(503, ""), (200, "1"), (200, "1"), (200, "2"), (404, ""), (404, "")];
        assert_eq!(heard(&answers).await, ["1", "known", "known", "2", "known", "", "known", "known"]);
        assert_eq!(heard(&[(403, ""), (403, ""), (200, "7")]).await, ["known", "known", "7", "known"]);
    }
}
