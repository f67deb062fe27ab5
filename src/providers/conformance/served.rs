//! Fixtures of providers whose service is one of `keyferry_fakes`.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keyferry_fakes::{Fake, Received, Refusal, Service};
use serde_json::{Value, json};

use super::{Check, Fault, Fixture, RETRY_AFTER, Stored, World};
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::outbound_with;
use crate::providers::{ProviderSpec, Session};

/// What the suite must know of a provider, and of the fake that it is tested against.
pub trait Served: Send + Sync {
    /// The service.
    type Fake: Fake;

    /// Name of the provider's block: `doppler`.
    const PROVIDER: &'static str;

    /// The service, with secrets.
    fn fake(&self, secrets: &[Stored]) -> Self::Fake;

    /// The provider's block in a store, for a service at a URL. It logs in with keys of the Secret `login`, or as the ServiceAccount
    /// `app`.
    fn block(&self, url: &str) -> Value;

    /// The data of the Secret `login`.
    fn login(&self) -> Vec<(&'static str, &'static str)>;

    /// The operator's environment, for a service at a URL.
    fn env(&self, url: &str) -> Vec<(&'static str, String)> {
        let _ = url;
        Vec::new()
    }

    /// Whether a request could have changed something.
    fn writes(&self, asked: &Received) -> bool {
        !["GET", "HEAD"].contains(&asked.method())
    }

    /// What of the provider it is, where a block serves several things: `KV v1`.
    fn service(&self) -> &'static str {
        Self::PROVIDER
    }

    /// See [`Fixture::does_not_apply`].
    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        Vec::new()
    }

    /// See [`Fixture::plain_property`].
    fn plain_property(&self) -> Option<&'static str> {
        None
    }

    /// See [`Fixture::versions`].
    fn versions(&self) -> (&'static str, &'static str) {
        ("v1", "v9")
    }

    /// See [`Fixture::escapes_html`].
    fn escapes_html(&self) -> bool {
        false
    }
}

/// The fixture of such a provider.
pub struct OverHttp<S: Served> {
    served: S,
    service: Mutex<Option<Service<S::Fake>>>,
}

impl<S: Served> OverHttp<S> {
    /// A fixture.
    pub fn new(served: S) -> Self {
        Self { served, service: Mutex::default() }
    }
}

/// A provider's session with a service at a URL, logged in.
pub async fn connect<S: Served>(served: &S, url: &str) -> Arc<dyn Session> {
    let cluster = Cluster::new().labelled_secret("login", &json!({}), &served.login()).service_account("app", &json!({}));
    let env = served.env(url);
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let spec: ProviderSpec = serde_json::from_value(json!({S::PROVIDER: served.block(url)})).unwrap();
    let provider = spec.served().unwrap();
    provider.connect(&cluster.cx(&outbound_with(&env)).connect).await.unwrap()
}

#[async_trait]
impl<S: Served> Fixture for OverHttp<S> {
    fn provider(&self) -> &'static str {
        self.served.service()
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        self.served.does_not_apply()
    }

    fn plain_property(&self) -> Option<&'static str> {
        self.served.plain_property()
    }

    fn versions(&self) -> (&'static str, &'static str) {
        self.served.versions()
    }

    fn escapes_html(&self) -> bool {
        self.served.escapes_html()
    }

    fn writes(&self) -> usize {
        let service = self.service.lock().unwrap();
        let received = service.as_ref().map(|service| service.server.received()).unwrap_or_default();
        received.iter().filter(|asked| self.served.writes(asked)).count()
    }

    async fn connect(&self, world: World) -> Arc<dyn Session> {
        let service = Service::start(self.served.fake(&world.secrets)).await;
        let session = connect(&self.served, service.url()).await;
        service.set_fault(world.fault.map(|fault| match fault {
            Fault::Denied => keyferry_fakes::Fault::Refuses(Refusal::Denied),
            Fault::Throttled => keyferry_fakes::Fault::Refuses(Refusal::Throttled(RETRY_AFTER.as_secs())),
            Fault::Broken => keyferry_fakes::Fault::Refuses(Refusal::Broken),
            Fault::Hang(reached) => keyferry_fakes::Fault::Hangs(reached),
            Fault::Garbled => keyferry_fakes::Fault::Garbles,
        }));
        *self.service.lock().unwrap() = Some(service);
        session
    }
}
