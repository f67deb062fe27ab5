//! Asks generators: once for each entry and sync, within a deadline. What was made and could not be written is kept for the next
//! try, so that a retry writes the same values.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::vault::Logins;
use super::{GenerateCx, Generator, Renewed, served};
use crate::api::StoreKind;
use crate::api::external_secret::GeneratorKind;
use crate::api::generators::AnySpec;
use crate::outbound::Outbound;
use crate::plan::lease::Granted;
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::providers::{OwnCluster, UsedReferences};
use crate::render::Entries;

/// How long values that could not be written are kept: credentials among them may not hold for long.
pub const KEPT_FOR: Duration = Duration::from_secs(600);

/// The way to the generators.
pub struct Maker {
    client: kube::Client,
    cluster: OwnCluster,
    outbound: Arc<Outbound>,
    timeout: Duration,
    serve: Serve,
    count: Option<Count>,
    kept: Mutex<HashMap<Slot, Kept>>,
    vault: Arc<Logins>,
}

/// Finds the generator of a spec.
type Serve = fn(&AnySpec) -> Result<&dyn Generator, ProviderError>;

/// Counts calls of generators that ask a server: the kind, what it was to do, and whether it failed.
type Count = Box<dyn Fn(GeneratorKind, &'static str, bool) + Send + Sync>;

/// Generators that ask no server.
pub const LOCAL: [GeneratorKind; 5] =
    [GeneratorKind::Fake, GeneratorKind::MFA, GeneratorKind::Password, GeneratorKind::SSHKey, GeneratorKind::UUID];

/// An entry of an object: `ExternalSecret/namespace/name`, and which of its entries.
type Slot = (String, usize);

struct Kept {
    revision: String,
    since: Instant,
    made: Made,
}

/// What was made for one entry.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Keys and values.
    pub values: Entries,
    /// What cleaning up needs; `None` where there is nothing to clean up.
    pub state: Option<Value>,
    /// How long it holds; `None`: as long as nobody takes it back.
    pub granted: Option<Granted>,
    /// When it was asked for.
    pub at: Timestamp,
}

/// For whom something is made or cleaned up.
#[derive(Clone, Copy, Debug)]
pub struct Consumer<'a> {
    /// `ExternalSecret/namespace/name`
    pub cause: &'a str,
    /// Namespace in which references are resolved.
    pub namespace: &'a str,
    /// Name of the generator.
    pub generator: &'a str,
}

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Order<'a> {
    /// Which entry of the consumer it is for.
    pub entry: usize,
    /// What it is made by.
    pub spec: &'a AnySpec,
    /// Changes when other values are wanted: the generator's and the consumer's revision.
    pub revision: &'a str,
    /// Values must have been made after this moment.
    pub not_before: Option<Instant>,
}

impl Maker {
    /// A maker that ends each call after `timeout`, or the time that its spec asks for where that is longer.
    #[must_use]
    pub fn new(client: kube::Client, cluster: OwnCluster, outbound: Arc<Outbound>, timeout: Duration) -> Self {
        Self {
            client,
            cluster,
            outbound,
            timeout,
            serve: served,
            count: None,
            kept: Mutex::default(),
            vault: Arc::default(),
        }
    }

    /// The same, which tells `count` of each call.
    #[must_use]
    pub fn counted(self, count: impl Fn(GeneratorKind, &'static str, bool) + Send + Sync + 'static) -> Self {
        Self { count: Some(Box::new(count)), ..self }
    }

    /// The same, with other generators than those that are served.
    #[cfg(test)]
    #[must_use]
    pub fn serving(self, serve: Serve) -> Self {
        Self { serve, ..self }
    }

    /// Makes values, or takes those that were made before and not written.
    ///
    /// # Errors
    /// Why the generator gives none.
    pub async fn make(&self, consumer: Consumer<'_>, order: Order<'_>) -> Result<Made, ProviderError> {
        let slot = (consumer.cause.to_owned(), order.entry);
        if let Some(made) = self.kept(&slot, &order) {
            return Ok(made);
        }
        let (generator, cx) = ((self.serve)(order.spec)?, self.cx(consumer));
        let made = self.call(order.spec, "Generate", generator.generate(&cx)).await?;
        let made = Made { values: made.values, state: made.state, granted: made.lease, at: cx.now };
        // what has a state is taken back by it when the sync fails
        if made.state.is_none() {
            let kept = Kept { revision: order.revision.to_owned(), since: Instant::now(), made: made.clone() };
            self.lock().insert(slot, kept);
        }
        Ok(made)
    }

    /// Takes back what was made.
    ///
    /// # Errors
    /// Why it could not be.
    pub async fn clean_up(&self, consumer: Consumer<'_>, spec: &AnySpec, state: &Value) -> Result<(), ProviderError> {
        let (generator, cx) = ((self.serve)(spec)?, self.cx(consumer));
        self.call(spec, "Cleanup", generator.cleanup(state, &cx)).await
    }

    /// One call, within the deadline, and counted.
    async fn call<T>(
        &self,
        spec: &AnySpec,
        name: &'static str,
        call: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let asked = (self.serve)(spec).ok().and_then(|generator| generator.timeout()).unwrap_or_default();
        let answer = tokio::time::timeout(self.timeout.max(asked), call).await.unwrap_or_else(|_| Err(late()));
        if let Some(count) = self.count.as_ref().filter(|_| !LOCAL.contains(&spec.kind())) {
            count(spec.kind(), name, answer.is_err());
        }
        answer
    }

    /// Renews the lease of what was made. `None`: there is nothing left to renew.
    ///
    /// # Errors
    /// Why it could not be.
    pub async fn renew(
        &self,
        consumer: Consumer<'_>,
        spec: &AnySpec,
        state: &Value,
    ) -> Result<Option<Renewed>, ProviderError> {
        let (generator, cx) = ((self.serve)(spec)?, self.cx(consumer));
        self.call(spec, "Renew", generator.renew(state, &cx)).await
    }

    /// What was made for an object was written, or the object is gone: nothing is kept for it.
    pub fn forget(&self, cause: &str) {
        let now = Instant::now();
        self.lock().retain(|(owner, _), kept| owner != cause && now.duration_since(kept.since) < KEPT_FOR);
    }

    fn kept(&self, slot: &Slot, order: &Order<'_>) -> Option<Made> {
        let kept = self.lock();
        let found = kept.get(slot)?;
        let fresh = found.since.elapsed() < KEPT_FOR && order.not_before.is_none_or(|limit| found.since >= limit);
        (fresh && found.revision == order.revision).then(|| found.made.clone())
    }

    fn cx(&self, consumer: Consumer<'_>) -> GenerateCx {
        GenerateCx {
            connect: ConnectCx {
                client: self.client.clone(),
                cluster: self.cluster.clone(),
                store_kind: StoreKind::SecretStore,
                store_name: consumer.generator.to_owned(),
                namespace: consumer.namespace.to_owned(),
                retry: None,
                env: self.outbound.env(),
                outbound: self.outbound.clone(),
                used: UsedReferences::default(),
            },
            call: CallCx { cause: consumer.cause.to_owned(), ..CallCx::default() },
            now: Timestamp::now(),
            vault: self.vault.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Slot, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn late() -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, "the generator did not answer in time")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::generators::testing::cx;

    fn maker() -> Maker {
        let cx = cx();
        Maker::new(cx.connect.client, cx.connect.cluster, cx.connect.outbound, Duration::from_secs(1))
    }

    const CONSUMER: Consumer<'static> = Consumer { cause: "ExternalSecret/ns/es", namespace: "ns", generator: "generator" };

    async fn make(maker: &Maker, entry: usize, revision: &str, not_before: Option<Instant>) -> String {
        let spec = AnySpec::read(GeneratorKind::UUID, json!({}), "spec").unwrap();
        let made = maker.make(CONSUMER, Order { entry, spec: &spec, revision, not_before }).await.unwrap();
        made.values["uuid"].expose_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_written_is_kept_for_the_retry() {
        let maker = maker();
        let first = make(&maker, 0, "r1", None).await;
        assert_eq!(make(&maker, 0, "r1", None).await, first, "the retry writes the same");
        assert_ne!(make(&maker, 1, "r1", None).await, first, "another entry has its own");
        let second = make(&maker, 0, "r2", None).await;
        assert_ne!(second, first, "the spec changed");
        tokio::time::advance(Duration::from_secs(1)).await;
        let third = make(&maker, 0, "r2", Some(Instant::now())).await;
        assert_ne!(third, second, "a forced sync wants a new one");
        maker.forget("ExternalSecret/ns/es");
        let fourth = make(&maker, 0, "r2", None).await;
        assert_ne!(fourth, third, "it was written: the next one is due");
        tokio::time::advance(KEPT_FOR).await;
        assert_ne!(make(&maker, 0, "r2", None).await, fourth, "too old to be written");
    }

    /// Takes its time, as its spec says.
    struct Slow;

    #[async_trait::async_trait]
    impl Generator for Slow {
        async fn generate(&self, _: &GenerateCx) -> Result<crate::generators::Generated, ProviderError> {
            tokio::time::sleep(Duration::from_secs(90)).await;
            Ok(crate::generators::Generated::default())
        }

        fn timeout(&self) -> Option<Duration> {
            Some(Duration::from_secs(100))
        }
    }

    fn slow(_: &AnySpec) -> Result<&dyn Generator, ProviderError> {
        Ok(&Slow)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_has_the_time_that_its_spec_asks_for() {
        let spec = AnySpec::read(GeneratorKind::UUID, json!({}), "spec").unwrap();
        let order = Order { entry: 0, spec: &spec, revision: "", not_before: None };
        let made = maker().serving(slow).make(CONSUMER, order).await.unwrap();
        assert!(made.values.is_empty());
    }

    #[tokio::test]
    async fn a_kind_that_is_not_served_is_named() {
        let spec =
            json!({ "provider": { "auth": { "apikey": { "token": {} } }, "server": { "apiUrl": "u", "siteId": "s" } } });
        let spec = AnySpec::read(GeneratorKind::BeyondtrustWorkloadCredentialsDynamicSecret, spec, "spec").unwrap();
        let order = Order { entry: 0, spec: &spec, revision: "", not_before: None };
        let error = maker().make(CONSUMER, order).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
        let begin = "generators of kind BeyondtrustWorkloadCredentialsDynamicSecret are not served by this version of keyferry; served are: ";
        assert!(error.detail.starts_with(begin), "{error}");
    }
}
