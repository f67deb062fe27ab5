//! What the sessions of all services share: whose credentials a call is made with, its error, and a second try with new ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::auth::Login;
use super::client::Mark;
use super::errors::{Call, secret_parts};
use crate::providers::{
    CallCx, Fetched, FindQuery, Found, Place, Plain, ProviderError, Push, Pushed, Session, Taker, Validation, Want,
};
use crate::render::Entries;
use crate::secret_bytes::SecretBytes;

/// A service that holds values. The methods are those of [`Session`], as somebody.
#[async_trait]
pub(super) trait Service: Send + Sync {
    fn batch_size(&self) -> usize {
        1
    }

    fn taker(&self) -> &'static dyn Taker {
        &Plain
    }

    async fn get(&self, wants: &[Want], caller: &Caller<'_>) -> Vec<Result<Fetched, ProviderError>>;

    async fn find(&self, query: &FindQuery, caller: &Caller<'_>) -> Result<Vec<Found>, ProviderError>;

    async fn push(&self, push: &Push, caller: &Caller<'_>) -> Result<Pushed, ProviderError>;

    async fn delete(&self, place: &Place, caller: &Caller<'_>) -> Result<(), ProviderError>;

    async fn exists(&self, place: &Place, caller: &Caller<'_>) -> Result<bool, ProviderError>;
}

/// One call's surroundings: who causes it, and the credentials that its error must not quote.
pub(super) struct Caller<'a> {
    cx: &'a CallCx,
    login: &'a Login,
    credentials: Credentials,
    /// AWS says that the credentials have expired, and there may be others.
    expired: AtomicBool,
}

impl Caller<'_> {
    /// What every request carries.
    pub(super) fn mark(&self) -> Mark {
        Mark::new(self.cx)
    }

    fn has_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }

    /// The error of one item of an answer that is not an error as a whole.
    pub(super) fn item_error(&self, action: &str, target: &str, code: &str, message: &str) -> ProviderError {
        Call { action, target, credentials: &secret_parts(&self.credentials) }.item_error(code, message)
    }

    /// The answer of a call, or its error. Expired credentials are dropped on the way.
    pub(super) async fn answer<T, E: ProvideErrorMetadata>(
        &self,
        action: &str,
        target: &str,
        outcome: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T, ProviderError> {
        match outcome {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.failed(action, target, &error).await),
        }
    }

    /// The same, for a call whose request holds a value: what AWS says of it could quote the value.
    pub(super) async fn written<T, E: ProvideErrorMetadata>(
        &self,
        action: &str,
        target: &str,
        outcome: Result<T, SdkError<E, HttpResponse>>,
    ) -> Result<T, ProviderError> {
        let error = match outcome {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        self.note_expired(&error).await;
        let call = Call { action, target, credentials: &secret_parts(&self.credentials) };
        Err(call.error_of_write(&error))
    }

    /// The error of a call. Expired credentials are dropped on the way.
    pub(super) async fn failed<E: ProvideErrorMetadata>(
        &self,
        action: &str,
        target: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> ProviderError {
        self.note_expired(error).await;
        self.told(action, target, error)
    }

    /// The text and class of an error.
    pub(super) fn told<E: ProvideErrorMetadata>(
        &self,
        action: &str,
        target: &str,
        error: &SdkError<E, HttpResponse>,
    ) -> ProviderError {
        let credentials = &secret_parts(&self.credentials);
        let told = Call { action, target, credentials }.error(error);
        // of an outage all say the same, whatever they asked for
        if told.kind.is_store_wide() { Call { action, target: "", credentials }.error(error) } else { told }
    }

    async fn note_expired<E: ProvideErrorMetadata>(&self, error: &SdkError<E, HttpResponse>) {
        if self.login.forget(error.code(), &self.credentials).await {
            self.expired.store(true, Ordering::Relaxed);
        }
    }
}

/// A service, logged in to. What fails because the credentials have expired is done once more with new ones.
pub(super) struct LoggedIn<S> {
    service: S,
    login: Arc<Login>,
}

impl<S: Service> LoggedIn<S> {
    pub(super) fn new(service: S, login: Arc<Login>) -> Self {
        Self { service, login }
    }

    async fn caller<'a>(&'a self, cx: &'a CallCx) -> Result<Caller<'a>, ProviderError> {
        let credentials = self.login.credentials().await?;
        Ok(Caller { cx, login: &self.login, credentials, expired: AtomicBool::new(false) })
    }
}

#[async_trait]
impl<S: Service> Session for LoggedIn<S> {
    fn batch_size(&self) -> usize {
        self.service.batch_size()
    }

    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let all = |error: ProviderError| wants.iter().map(|_| Err(error.clone())).collect();
        let caller = match self.caller(cx).await {
            Ok(caller) => caller,
            Err(error) => return all(error),
        };
        let outcomes = self.service.get(wants, &caller).await;
        if !caller.has_expired() {
            return outcomes;
        }
        match self.caller(cx).await {
            Ok(caller) => self.service.get(wants, &caller).await,
            Err(error) => all(error),
        }
    }

    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let caller = self.caller(cx).await?;
        let found = self.service.find(query, &caller).await;
        if caller.has_expired() { self.service.find(query, &self.caller(cx).await?).await } else { found }
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let caller = self.caller(cx).await?;
        let pushed = self.service.push(push, &caller).await;
        if caller.has_expired() { self.service.push(push, &self.caller(cx).await?).await } else { pushed }
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let caller = self.caller(cx).await?;
        let deleted = self.service.delete(place, &caller).await;
        if caller.has_expired() { self.service.delete(place, &self.caller(cx).await?).await } else { deleted }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let caller = self.caller(cx).await?;
        let found = self.service.exists(place, &caller).await;
        if caller.has_expired() { self.service.exists(place, &self.caller(cx).await?).await } else { found }
    }

    /// As ESO: the login is enough; which values the role may read shows when one is read.
    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        self.login.credentials().await.map(|_| Validation::Ready)
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        self.service.taker().whole(want, value)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        self.service.taker().property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        self.service.taker().extract(want, value, property)
    }
}
