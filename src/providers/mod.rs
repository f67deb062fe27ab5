//! Secret managers: one file each, one line in [`providers!`] to register it.
//!
//! A provider is a config type (its block in a store's `spec.provider`), a pure `validate`, and a [`Session`]: the logged-in
//! client, which reads in batches. The CRD schema, metric labels and docs table come from the same list.

pub mod akeyless;
pub mod aws;
pub mod azure;
pub mod bitwarden;
#[cfg(test)]
pub mod conformance;
pub mod conjur;
pub mod connect;
pub mod delinea;
pub mod doppler;
pub mod fake;
mod found;
pub mod gcp;
pub mod github;
pub mod gitlab;
pub mod ibm;
pub mod infisical;
pub mod keeper;
pub mod kubernetes;
pub mod oauth;
pub mod onepassword;
pub mod openbao;
pub mod pulumi;
pub mod push;
#[cfg(test)]
mod reach_tests;
pub mod rest;
pub mod retries;
pub mod scaleway;
pub mod secretserver;
pub mod sops;
mod spec;
mod unnamed;
pub mod used;
pub mod vault;
pub mod webhook;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::api::external_secret::MetadataPolicy;
use crate::api::refs::{CaProvider, CaProviderType, SecretKeySelector, ServiceAccountSelector};
use crate::api::secret_store::{Capabilities, StoreKind};
use crate::render::{Entries, path, re2};
use crate::secret_bytes::SecretBytes;

pub use connect::{ConnectCx, OwnCluster};
pub use found::{Found, MOST_GATHERED, Room};
pub use push::{Place, Push, Pushed, Source};
pub use retries::Retries;
pub use spec::ProviderSpec;
pub use used::UsedReferences;

/// Registers the providers: adding one is a file in this folder and a line here.
macro_rules! providers {
    ($macro:ident) => {
        $macro! {
            aws: Aws = aws::Aws,
            azurekv: AzureKv = azure::KeyVault,
            kubernetes: Kubernetes = kubernetes::Kubernetes,
            doppler: Doppler = doppler::Doppler,
            fake: Fake = fake::Fake,
            gcpsm: GcpSm = gcp::SecretManager,
            infisical: Infisical = infisical::Infisical,
            vault: Vault = vault::Vault,
            openBao: OpenBao = openbao::OpenBao,
            ibm: Ibm = ibm::Ibm,
            keepersecurity: Keeper = keeper::Keeper,
            pulumi: Pulumi = pulumi::Pulumi,
            scaleway: Scaleway = scaleway::Scaleway,
            sops: Sops = sops::Sops,
            akeyless: Akeyless = akeyless::Akeyless,
            bitwardensecretsmanager: Bitwarden = bitwarden::Bitwarden,
            conjur: Conjur = conjur::Conjur,
            delinea: Delinea = delinea::Delinea,
            secretserver: SecretServer = secretserver::SecretServer,
            github: Github = github::Github,
            gitlab: Gitlab = gitlab::Gitlab,
            onepassword: OnePassword = onepassword::OnePassword,
            webhook: Webhook = webhook::Webhook,
        }
    };
}
pub(crate) use providers;

/// The static side of a provider: what its block in a store says, before anything is sent.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What the provider can do.
    fn capabilities(&self) -> Capabilities;

    /// Name in metrics, as ESO has it: `AWS/SecretsManager`.
    fn metric_name(&self) -> &'static str;

    /// Checks what the schema cannot. Pure: the store controller and, later, the command line share it.
    ///
    /// # Errors
    /// Says which field is wrong and what to do.
    fn validate(&self, kind: StoreKind) -> Result<(), ProviderError>;

    /// The objects that the provider logs in with. The store is checked again when one of them changes; one without a
    /// namespace in a ClusterSecretStore makes the store log in as each of its consumers ("referent authentication").
    fn references(&self) -> Vec<Reference>;

    /// Whether the values themselves are in the objects of [`Provider::references`]: a change of one is news for all who read them.
    fn holds_values(&self) -> bool {
        false
    }

    /// Whether a ClusterSecretStore logs in as each of its consumers, so that they share neither session nor values.
    fn is_referent(&self) -> bool {
        self.references().iter().any(|r| r.namespace.is_none())
    }

    /// A session that reaches nothing, where the values are in the store itself.
    fn local(&self) -> Option<Arc<dyn Session>> {
        None
    }

    /// How long the store itself lets an answer take, where it says so: its calls have at least that time.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// How the provider's values are taken apart. A [`Session`] does the same; this needs no login.
    fn taker(&self) -> &'static dyn Taker {
        &Plain
    }

    /// For which reads the provider's "it does not exist" counts as missing; for the others it is an error.
    fn missing(&self) -> Missing {
        Missing::Everywhere
    }

    /// Whether names that a search finds are converted before they are rewritten, as with those providers of ESO's whose
    /// `GetAllSecrets` ends in `ConvertKeys`. Rewrites of the others see names as the provider has them.
    fn converts_found(&self) -> bool {
        false
    }

    /// Whether a search for neither a name nor tags is refused, as by those providers of ESO's that call it an "unexpected find
    /// operator". The others find all that there is, below `find.path` where that means something to them.
    fn needs_name_or_tags(&self) -> bool {
        false
    }

    /// Whether a read depends on the property that is cut out of it afterwards, so that reads for several properties of one key are
    /// not the same.
    fn asks_for(&self, property: &str) -> bool {
        let _ = property;
        false
    }

    /// Checks a push as far as that needs no login, for who only wants to know what would become of it.
    ///
    /// # Errors
    /// What every such push would end with.
    fn check_push(&self, push: &Push, kind: StoreKind) -> Result<(), ProviderError> {
        let _ = (push, kind);
        Ok(())
    }

    /// Logs in.
    ///
    /// # Errors
    /// `Misconfigured` where an object or key is missing, else what the provider said.
    async fn connect(&self, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError>;
}

/// A logged-in client of a provider.
#[async_trait]
pub trait Session: Send + Sync {
    /// Most wants in one call of [`Session::get`].
    fn batch_size(&self) -> usize {
        1
    }

    /// Reads values: one result for each want, in order. A want that is denied or missing fails alone.
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>>;

    /// Until when the value that was last read for this want may be used before it must be read again, as it has a lease that
    /// ends; `None`: the reader decides. Reading it again renews the lease or gives another value.
    fn holds_until(&self, want: &Want) -> Option<tokio::time::Instant> {
        let _ = want;
        None
    }

    /// Reads all values that match, by name.
    ///
    /// # Errors
    /// `Unsupported` where the provider cannot search, else what the provider said.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let _ = (query, cx);
        Err(ProviderError::new(ErrorKind::Unsupported, "this provider cannot find secrets by name, path or tags"))
    }

    /// Writes a value to its place. What is there already is not written again.
    ///
    /// # Errors
    /// `Unsupported` where the provider cannot be written to, `Denied` where the place is not ours, else what the provider said.
    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let _ = (push, cx);
        Err(unpushable())
    }

    /// Deletes what was pushed to a place. What is gone, or never was ours, is fine.
    ///
    /// # Errors
    /// As for [`Session::push`].
    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let _ = (place, cx);
        Err(unpushable())
    }

    /// Whether there is a value at a place, whoever put it there.
    ///
    /// # Errors
    /// As for [`Session::push`].
    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let _ = (place, cx);
        Err(unpushable())
    }

    /// Checks that the login works, as cheaply as the provider allows.
    ///
    /// # Errors
    /// What the provider said.
    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError>;

    /// Logs out. Nobody uses the session any more.
    async fn close(&self) {}

    /// The value as `data` without a property has it, from the bytes that [`Session::get`] read. They are the same unless the
    /// provider keeps values as something else than one text.
    ///
    /// # Errors
    /// `Malformed` where the bytes are not the provider's own.
    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        Plain.whole(want, value)
    }

    /// Cuts a property out of a value. Most providers: the property as a literal key first, then as a gjson path.
    ///
    /// # Errors
    /// `NotFound` or `MissingProperty`, as the provider's documentation has it. Never names the value.
    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        Plain.property(want, value, property)
    }

    /// Takes a value apart into its properties, for `dataFrom.extract`.
    ///
    /// # Errors
    /// `Malformed` where the value is not a JSON object.
    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        extract_by(|property| self.property(want, value, property), want, value, property)
    }
}

/// Takes values of a provider apart, without a login. The methods are those of [`Session`].
pub trait Taker: Send + Sync {
    /// The bytes that [`Session::get`] reads of a value that a person wrote down: text as it is, a map as JSON.
    ///
    /// # Errors
    /// `Misconfigured` where the provider has no such values.
    fn stored(&self, want: &Want, written: SecretBytes) -> Result<SecretBytes, ProviderError> {
        let _ = want;
        Ok(written)
    }

    /// See [`Session::whole`].
    ///
    /// # Errors
    /// As there.
    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        let _ = want;
        Ok(value.clone())
    }

    /// See [`Session::property`].
    ///
    /// # Errors
    /// As there.
    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        path::escaped_then_path(value, property).ok_or_else(|| ProviderError::missing_property(&want.key, property))
    }

    /// See [`Session::extract`].
    ///
    /// # Errors
    /// As there.
    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        extract_by(|property| self.property(want, value, property), want, value, property)
    }
}

/// The way of most providers: a value is one text.
pub struct Plain;

impl Taker for Plain {}

fn extract_by(
    cut: impl Fn(&str) -> Result<SecretBytes, ProviderError>,
    want: &Want,
    value: &SecretBytes,
    property: Option<&str>,
) -> Result<Entries, ProviderError> {
    let part;
    let value = match property {
        Some(p) => {
            part = cut(p)?;
            &part
        }
        None => value,
    };
    path::object_entries(value)
        .ok_or_else(|| ProviderError::new(ErrorKind::Malformed, format!("the value of {:?} is not a JSON object", want.key)))
}

fn unpushable() -> ProviderError {
    ProviderError::new(ErrorKind::Unsupported, "this provider cannot be pushed to")
}

/// For which reads a value that does not exist counts as missing, so that the deletion policy decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// All of them.
    Everywhere,
    /// `dataFrom.extract` only. In `data` it is an error, whatever the policy.
    ExtractOnly,
}

/// One value to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Want {
    /// Key at the provider, without the store's prefix.
    pub key: String,
    /// Version in the provider's words; empty: the current one.
    pub version: String,
    /// Whether the value or its tags are read.
    pub metadata: MetadataPolicy,
    /// The property that is cut out afterwards, where the provider must know it to read: see [`Provider::asks_for`]. Else empty.
    pub property: String,
}

/// A value that was read.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// The value, whole.
    pub bytes: SecretBytes,
    /// Version id, as the provider has it.
    pub version: Option<String>,
    /// The provider's request id, for the audit record.
    pub request_id: Option<String>,
}

/// A search.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FindQuery {
    /// Where to look; empty: everywhere.
    pub path: String,
    /// RE2 expression over the name, not anchored; empty: any. Checked before it gets here.
    pub name: String,
    /// Tags that the secret has; empty: any.
    pub tags: BTreeMap<String, String>,
}

impl FindQuery {
    /// The expression over the name.
    ///
    /// # Errors
    /// `Misconfigured` where it is none, in ESO's words.
    pub fn matcher(&self) -> Result<regex::Regex, ProviderError> {
        re2::compile(&self.name).map_err(|error| {
            let text = format!("could not compile find.name.regexp [{}]: {error}", re2::shown(&self.name));
            ProviderError::new(ErrorKind::Misconfigured, text)
        })
    }
}

/// What a check of a login came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    /// It works.
    Ready,
    /// It could not be told; ESO counts the store as ready all the same.
    Unknown(String),
}

/// Which object caused a call: goes into the user agent, so that the provider's own audit lines can be matched.
#[derive(Clone, Debug, Default)]
pub struct CallCx {
    /// `ExternalSecret/namespace/name` or `SecretStore/namespace/name`; the first of those that share the call.
    pub cause: String,
    /// Correlation id that our own record of the call carries too.
    pub correlation: String,
    /// The requests that the call turned into.
    pub requests: RequestLog,
}

impl CallCx {
    /// What goes to the end of a user agent. It holds only what a token of one may hold, and the slash.
    #[must_use]
    pub fn marks(&self) -> String {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._/".contains(c);
        let token = |text: &str| -> String { text.chars().take(400).map(|c| if allowed(c) { c } else { '_' }).collect() };
        let marks = [("keyferry-cause", &self.cause), ("keyferry-call", &self.correlation)];
        let marks = marks.into_iter().filter(|(_, value)| !value.is_empty());
        marks.map(|(name, value)| format!(" {name}/{}", token(value))).collect()
    }
}

/// Requests that a session sent to its provider, as the metrics count them. A session that notes none is counted as having
/// sent one, unless it logged in or was checked.
#[derive(Clone, Debug, Default)]
pub struct RequestLog(Arc<Mutex<Vec<ProviderRequest>>>);

/// A request to a provider that ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRequest {
    /// The request in the provider's words: `GetSecretValue`.
    pub name: Cow<'static, str>,
    /// Whether it failed.
    pub failed: bool,
    /// How the provider's own records name it, where it says so.
    pub id: Option<String>,
}

impl RequestLog {
    /// Notes a request that ended.
    pub fn note(&self, name: impl Into<Cow<'static, str>>, failed: bool) {
        self.note_as(name, failed, None);
    }

    /// The same, with the name that the provider's own records have for it.
    pub fn note_as(&self, name: impl Into<Cow<'static, str>>, failed: bool, id: Option<String>) {
        self.lock().push(ProviderRequest { name: name.into(), failed, id });
    }

    /// Takes out what was noted.
    #[must_use]
    pub fn take(&self) -> Vec<ProviderRequest> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<ProviderRequest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An object that a provider logs in with.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// Kind of the object.
    pub kind: ReferenceKind,
    /// Its namespace, where the reference names one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// A Secret, where the selector names one.
    #[must_use]
    pub fn secret(selector: &SecretKeySelector) -> Option<Self> {
        let name = selector.name.clone().filter(|name| !name.is_empty())?;
        Some(Self { kind: ReferenceKind::Secret, namespace: selector.namespace.clone(), name })
    }

    /// A ServiceAccount.
    #[must_use]
    pub fn service_account(account: &ServiceAccountSelector) -> Self {
        Self { kind: ReferenceKind::ServiceAccount, namespace: account.namespace.clone(), name: account.name.clone() }
    }

    /// Where a certificate authority is kept.
    #[must_use]
    pub fn ca(provider: &CaProvider) -> Self {
        let kind = match provider.type_ {
            CaProviderType::Secret => ReferenceKind::Secret,
            CaProviderType::ConfigMap => ReferenceKind::ConfigMap,
        };
        Self { kind, namespace: provider.namespace.clone(), name: provider.name.clone() }
    }
}

/// Kind of an object that a provider logs in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ReferenceKind {
    /// A Secret.
    Secret,
    /// A ServiceAccount.
    ServiceAccount,
    /// A ConfigMap.
    ConfigMap,
}

/// Why a call to a provider failed. The text is ours: it never carries an upstream body, which could hold a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ProviderError {
    /// Class: decides the retry, the reason and the metric label.
    pub kind: ErrorKind,
    /// What happened, in stable and redacted text. Names of objects at the provider stand in it as `{:?}`, see [`Self::unnamed`].
    pub detail: String,
    /// How long the provider asks us to wait.
    pub retry_after: Option<Duration>,
    /// Whether a value that was to be written is in its place all the same.
    pub written: bool,
}

/// Class of a provider's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The provider says that the secret does not exist. Only this drives the deletion policy.
    NotFound,
    /// The secret is there, a property of it is not.
    MissingProperty,
    /// The provider refuses the login or the read.
    Denied,
    /// The store or a reference of it is wrong.
    Misconfigured,
    /// Too many calls.
    Throttled,
    /// No answer, or one that says "later".
    Unavailable,
    /// Somebody else changed it.
    Conflict,
    /// The provider, or keyferry, cannot do that.
    Unsupported,
    /// An answer or a value that is not what it should be.
    Malformed,
}

impl ErrorKind {
    /// Metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::MissingProperty => "missing_property",
            Self::Denied => "denied",
            Self::Misconfigured => "misconfigured",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Conflict => "conflict",
            Self::Unsupported => "unsupported",
            Self::Malformed => "malformed",
        }
    }

    /// Whether the whole store is affected, so that all its reads should wait together.
    #[must_use]
    pub const fn is_store_wide(self) -> bool {
        matches!(self, Self::Throttled | Self::Unavailable)
    }
}

impl ProviderError {
    /// An error of a class, with our own text.
    #[must_use]
    pub fn new(kind: ErrorKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, written: false }
    }

    /// The provider's "it does not exist". The text is ESO's.
    #[must_use]
    pub fn not_found(key: &str) -> Self {
        Self::new(ErrorKind::NotFound, format!("Secret does not exist: {key:?}"))
    }

    /// A property that the value does not have.
    #[must_use]
    pub fn missing_property(key: &str, property: &str) -> Self {
        Self::new(ErrorKind::MissingProperty, format!("key {property} does not exist in secret {key}"))
    }

    /// With the time that the provider asks us to wait.
    #[must_use]
    pub fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What failed came after the value was written, if it `was`.
    #[must_use]
    pub fn after_writing(mut self, was: bool) -> Self {
        self.written |= was;
        self
    }
}
