//! Clients that may call the servers of tests.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::sync::Arc;

pub use keyferry_fakes::{FakeServer, Pki, Received, Reply};

use super::{Outbound, TlsOptions};

/// Clients that may call loopback.
pub fn outbound() -> Arc<Outbound> {
    outbound_with(&[])
}

/// Clients that may call loopback, under an environment.
pub fn outbound_with(env: &[(&str, &str)]) -> Arc<Outbound> {
    let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Arc::new(Outbound::new(Arc::new(env), true))
}

/// Clients that may call loopback and trust an authority where nothing else is said, as if it were the system's.
pub fn outbound_trusting(pki: &Pki, env: &[(&str, &str)]) -> Arc<Outbound> {
    let outbound = outbound_with(env);
    let options = TlsOptions { ca: Some(pki.ca()), identity: None };
    assert!(outbound.shared.set(outbound.client(&options, "test").ok().unwrap()).is_ok());
    outbound
}
