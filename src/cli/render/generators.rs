//! Generators: those that need nobody else make their values in memory, at each call others. The rest would make credentials at a
//! server, which a rendering must not.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, StatusCode, Uri};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::client::Body;
use serde_json::json;
use tower::Service;

use crate::api::external_secret::GeneratorKind;
use crate::controllers::generate::Generated;
use crate::generators::maker::{Consumer, LOCAL, Made, Maker, Order};
use crate::index::Key;
use crate::outbound::Outbound;
use crate::plan::external_secret::Generate;
use crate::providers::connect::OwnCluster;
use crate::providers::{ErrorKind, ProviderError, Source as Values};
use crate::render::Entries;

/// Longest time that one may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes what is asked for, in one namespace. `blank` gives what stands for what a server would make, if anything does.
pub async fn generate(
    maker: &Maker,
    (cause, namespace): (&str, &str),
    orders: &[Generate],
    blank: impl Fn(usize) -> Option<Entries>,
) -> Generated {
    let mut generated = Generated::default();
    for order in orders {
        let kind = order.spec.kind();
        let made = if LOCAL.contains(&kind) {
            let consumer = Consumer { cause, namespace, generator: &order.generator.id.key.name };
            let order = Order { entry: order.index, spec: &order.spec, revision: "", not_before: None };
            maker.make(consumer, order).await
        } else {
            let text = format!("{kind} asks a server for a credential, and rendering makes none: use --missing=placeholder");
            Err(ProviderError::new(ErrorKind::Unsupported, text))
        };
        let made = match made {
            // MFA reads a Secret, which need not be among the manifests
            Err(error) if !LOCAL.contains(&kind) || kind == GeneratorKind::MFA => {
                let blank =
                    blank(order.index).map(|values| Made { values, state: None, granted: None, at: Timestamp::now() });
                blank.ok_or(error)
            }
            made => made,
        };
        generated.made.insert(order.index, made);
    }
    generated
}

/// A maker whose cluster holds the Secrets of the manifests and nothing else.
#[must_use]
pub fn offline(secrets: &BTreeMap<Key, Values>) -> Maker {
    let client = kube::Client::new(Shelf(Arc::new(secrets.clone())), "default");
    let nowhere = OwnCluster::of(&kube::Config::new(Uri::from_static("http://cluster.invalid")));
    Maker::new(client, nowhere, Arc::new(Outbound::new(Arc::default(), false)), TIMEOUT)
}

/// The Secrets of the manifests, as an API server would give them.
#[derive(Clone)]
struct Shelf(Arc<BTreeMap<Key, Values>>);

impl Shelf {
    fn secret(&self, path: &str) -> Option<Secret> {
        let (namespace, name) = path.strip_prefix("/api/v1/namespaces/")?.split_once("/secrets/")?;
        let values = self.0.get(&Key::new(namespace, name))?;
        let mut secret = Secret {
            data: Some(values.data.iter().map(|(key, value)| (key.clone(), ByteString(value.expose().to_vec()))).collect()),
            ..Secret::default()
        };
        secret.metadata.name = Some(name.to_owned());
        secret.metadata.namespace = Some(namespace.to_owned());
        Some(secret)
    }
}

impl Service<Request<Body>> for Shelf {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (status, body) = match self.secret(request.uri().path()) {
            Some(secret) => (StatusCode::OK, json!(secret)),
            None => (
                StatusCode::NOT_FOUND,
                json!({
                    "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "not found",
                }),
            ),
        };
        let mut response = Response::new(Body::from(body.to_string().into_bytes()));
        *response.status_mut() = status;
        ready(Ok(response))
    }
}
