//! Reads and writes of a store.

use async_trait::async_trait;
use jiff::Timestamp;

use super::Webhook;
use super::request::{About, Requests, WHAT, malformed, success};
use crate::outbound::Answer;
use crate::providers::rest::{Ask, retried};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, Place, ProviderError, Push, Pushed, Retries, Session, Validation, Want,
};
use crate::render::Entries;
use crate::render::json::{self, Json, byte_value};
use crate::secret_bytes::SecretBytes;

const PATH: &str = "spec.provider.webhook";
/// Where templates find the namespace that asks.
const NAMESPACE: &str = "namespace";

/// A service, for one store.
pub(super) struct WebhookSession {
    requests: Requests,
    retries: Retries,
    namespace: String,
}

impl WebhookSession {
    pub(super) async fn open(webhook: &Webhook, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let requests = Requests::open(webhook.clone(), PATH, cx).await?;
        Ok(Self { requests, retries: Retries::if_asked(cx.retry.as_ref())?, namespace: cx.namespace.clone() })
    }

    /// What a read is about.
    fn read_ref(&self, want: &Want, property: &str) -> Entries {
        let pairs =
            [("key", want.key.as_str()), ("version", &want.version), ("property", property), (NAMESPACE, &self.namespace)];
        pairs.map(|(name, value)| (name.to_owned(), SecretBytes::from(value))).into()
    }

    async fn send(&self, about: &About<'_>, name: &'static str, cx: &CallCx) -> Result<Answer, ProviderError> {
        let ask = Ask { name, what: WHAT, cx };
        retried(self.retries, &ask, || async { self.requests.send(self.requests.call(about, Timestamp::now())?).await })
            .await
    }

    async fn fetch(&self, want: &Want, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let remote_ref = self.read_ref(want, &want.property);
        let about = About { remote_ref: Some(&remote_ref), as_it_is: &[NAMESPACE], ..About::default() };
        let body = success(self.send(&about, "Get", cx).await?, Some(&want.key))?;
        let path = self.requests.result_path(remote_ref, Timestamp::now())?;
        if !path.is_empty() && !json::is_valid(body.expose()) {
            return Err(malformed("the answer is not JSON"));
        }
        Ok(body)
    }

    /// The value of an answer: all of it, or what the path leads to.
    fn value(&self, want: &Want, body: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        let path = self.requests.result_path(self.read_ref(want, property), Timestamp::now())?;
        if path.is_empty() {
            return Ok(body.clone());
        }
        let missing = (!property.is_empty()).then(|| ProviderError::missing_property(&want.key, property));
        let part = self.requests.part(body, &path, missing)?;
        let mut found = json::parse(part.expose()).ok_or_else(|| malformed("the answer is not JSON"))?;
        // as in ESO, the first of several
        while let Json::Array(items) = found {
            let first = items.into_iter().next();
            found = first.ok_or_else(|| malformed("what result.jsonPath leads to is an empty list"))?;
        }
        Ok(byte_value(&found))
    }
}

/// What a write is about. As in ESO, the value stands under its own name too.
fn write_ref(place: &Place, push: Option<(&Push, &SecretBytes)>) -> Entries {
    let mut all = Entries::from([
        ("remoteKey".to_owned(), SecretBytes::from(place.key.as_str())),
        ("property".to_owned(), SecretBytes::from(place.property().unwrap_or_default())),
    ]);
    if let Some((push, value)) = push {
        all.extend(push.secret_key.iter().map(|key| ("secretKey".to_owned(), SecretBytes::from(key.as_str()))));
        all.insert(place.key.clone(), value.clone());
    }
    all
}

#[async_trait]
impl Session for WebhookSession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let mut results = Vec::with_capacity(wants.len());
        for want in wants {
            results.push(self.fetch(want, cx).await.map(|bytes| Fetched { bytes, ..Fetched::default() }));
        }
        results
    }

    /// Writes each time: only the service knows what it holds, and how that would be asked.
    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        if push.place.key.is_empty() {
            return Err(ProviderError::new(ErrorKind::Misconfigured, "remote key must be defined"));
        }
        let value = push.value()?;
        let remote_ref = write_ref(&push.place, Some((push, &value)));
        let about =
            About { remote_ref: Some(&remote_ref), default_method: Some("POST"), body: Some(&value), ..About::default() };
        self.send(&about, "Push", cx).await?.success(WHAT)?;
        Ok(Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let remote_ref = write_ref(place, None);
        let nothing = SecretBytes::default();
        let about =
            About { remote_ref: Some(&remote_ref), method: Some("DELETE"), body: Some(&nothing), ..About::default() };
        match self.send(&about, "Delete", cx).await? {
            answer if answer.status == http::StatusCode::NOT_FOUND => Ok(()),
            answer => answer.success(WHAT).map(drop),
        }
    }

    /// Asks as a read of that key does.
    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let property = place.property().unwrap_or_default().to_owned();
        match self.fetch(&Want { key: place.key.clone(), property, ..Want::default() }, cx).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A request could change something, so there is only a connection.
    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        if let Some(place) = self.requests.place() {
            self.requests.client().reach(place, WHAT).await?;
        }
        Ok(Validation::Ready)
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        self.value(want, value, "")
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        self.value(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        let property = property.unwrap_or_default();
        let path = self.requests.result_path(self.read_ref(want, property), Timestamp::now())?;
        let missing = (!property.is_empty()).then(|| ProviderError::missing_property(&want.key, property));
        self.requests.members(value, &path, missing)
    }
}
