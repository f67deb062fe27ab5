//! What tests of generators share.
#![allow(clippy::unwrap_used)]

pub(crate) mod cluster;

use super::GenerateCx;
use crate::api::StoreKind;
use crate::providers::{CallCx, ConnectCx, OwnCluster};

/// A context that reaches no cluster.
#[must_use]
pub fn cx() -> GenerateCx {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("no cluster"))
    });
    with_client(kube::Client::new(service, "ns"), &config)
}

/// A context with a client of a cluster, or of what stands in for one.
#[must_use]
pub fn with_client(client: kube::Client, config: &kube::Config) -> GenerateCx {
    GenerateCx {
        connect: ConnectCx {
            client,
            cluster: OwnCluster::of(config),
            store_kind: StoreKind::SecretStore,
            store_name: "generator".into(),
            namespace: "ns".into(),
            retry: None,
            env: std::sync::Arc::default(),
            outbound: crate::outbound::testing::outbound(),
            used: Default::default(),
        },
        call: CallCx::default(),
        now: "2026-06-01T12:00:00Z".parse().unwrap(),
        vault: Default::default(),
    }
}
