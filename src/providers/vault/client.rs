//! A client of Vault's HTTP API: one server, one namespace, one login.

use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::config::{ClientTls, Vault};
use crate::api::refs::SecretKeySelector;
use crate::api::secret_store::RetrySettings;
use crate::outbound::{Answer, Call, HttpClient, Identity, TlsOptions, query, segment};
use crate::plan::duration;
use crate::providers::{ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Tries after the first one, and the time between them, where nothing else is said: those of Vault's own client.
const RETRIES: u32 = 2;
const PAUSE: Duration = Duration::from_secs(1);
/// Most tries: a spec must not keep one call going for ever.
const MOST_RETRIES: u32 = 10;

/// How often a call that the server failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first one.
    pub count: u32,
    /// Time between them.
    pub pause: Duration,
}

impl Retries {
    /// From `retrySettings`: a block that is there but names no number means none, as in ESO.
    ///
    /// # Errors
    /// `Misconfigured` where the interval is no duration.
    pub fn of(settings: Option<&RetrySettings>, path: &str) -> Result<Self, ProviderError> {
        let Some(settings) = settings else { return Ok(Self { count: RETRIES, pause: PAUSE }) };
        let count = u32::try_from(settings.max_retries.unwrap_or(0)).unwrap_or(0).min(MOST_RETRIES);
        let pause = match settings.retry_interval.as_deref().filter(|text| !text.is_empty()) {
            None => PAUSE,
            Some(text) => duration::parse(text).ok().and_then(|d| Duration::try_from(d).ok()).ok_or_else(|| {
                misconfigured(format!("{path}.retryInterval: {text:?} is not a duration such as \"10s\", of 0 or more"))
            })?,
        };
        Ok(Self { count, pause })
    }

    /// From a store's `retrySettings`; without them nothing is tried again.
    ///
    /// # Errors
    /// As [`Retries::of`].
    pub fn if_asked(settings: Option<&RetrySettings>) -> Result<Self, ProviderError> {
        match settings {
            None => Ok(Self { count: 0, pause: Duration::ZERO }),
            Some(_) => Self::of(settings, "spec.retrySettings"),
        }
    }
}

/// A request.
pub struct Request {
    /// How: `GET`, `LIST`, `PUT`, `DELETE`.
    pub method: Method,
    /// Path in Vault, without `v1`.
    pub path: String,
    /// Query.
    pub query: Vec<(String, String)>,
    /// JSON that is written.
    pub body: Option<SecretBytes>,
}

impl Request {
    /// A read.
    #[must_use]
    pub fn read(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), body: None }
    }

    /// A list.
    #[must_use]
    pub fn list(path: impl Into<String>) -> Self {
        Self { query: vec![("list".to_owned(), "true".to_owned())], ..Self::read(path) }
    }

    /// A write of a JSON object.
    #[must_use]
    pub fn write(path: impl Into<String>, body: SecretBytes) -> Self {
        Self { method: Method::PUT, body: Some(body), ..Self::read(path) }
    }

    /// A deletion.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::read(path) }
    }
}

/// A client that is logged in, or will be.
pub struct VaultClient {
    http: HttpClient,
    server: String,
    headers: Vec<(String, SecretBytes)>,
    retries: Retries,
    /// The last state of the cluster that was told, where reads must see writes.
    index: Option<Mutex<Option<HeaderValue>>>,
    namespace: Option<String>,
    token: Option<SecretBytes>,
}

impl VaultClient {
    /// A client that is not logged in. `path` is where the block stands in the object.
    ///
    /// # Errors
    /// `Misconfigured` where a reference is missing or a certificate cannot be used.
    pub(super) async fn open(vault: &Vault, path: &str, retries: Retries, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let bundle = vault.ca_bundle.as_ref().map(|bytes| bytes.0.as_slice()).filter(|bytes| !bytes.is_empty());
        let ca = cx.ca_bundle(bundle, vault.ca_provider.as_ref(), path).await?;
        let options = TlsOptions { ca, identity: identity(vault, path, cx).await? };
        let server = vault.server.trim().trim_end_matches('/').to_owned();
        let reads_writes = vault.read_your_writes == Some(true);
        let mut headers: Vec<_> =
            vault.headers.iter().map(|(name, value)| (name.clone(), SecretBytes::from(value.as_str()))).collect();
        if reads_writes && vault.forward_inconsistent == Some(true) {
            headers.push(("x-vault-inconsistent".to_owned(), SecretBytes::from("forward-active-node")));
        }
        Ok(Self {
            http: cx.outbound.client(&options, path)?,
            server,
            headers,
            retries,
            index: reads_writes.then(Mutex::default),
            namespace: vault.namespace.clone().filter(|namespace| !namespace.is_empty()),
            token: None,
        })
    }

    pub(super) fn set_token(&mut self, token: SecretBytes) {
        self.token = Some(token);
    }

    /// Runs a request, and tries again what the server failed. `None`: Vault has nothing to say, or nothing at that path.
    ///
    /// # Errors
    /// `Denied` where the login or its policies do not allow it, else what the status stands for.
    pub async fn request(&self, request: &Request, what: &str) -> Result<Option<SecretBytes>, ProviderError> {
        self.request_in(self.namespace.as_deref(), request, what).await
    }

    pub(super) async fn request_in(
        &self,
        namespace: Option<&str>,
        request: &Request,
        what: &str,
    ) -> Result<Option<SecretBytes>, ProviderError> {
        let mut left = self.retries.count;
        loop {
            match self.once(namespace, request, what).await {
                // A server that says how long it wants to be left alone is left alone: the caller knows what else waits.
                Err(error) if error.kind == ErrorKind::Unavailable && error.retry_after.is_none() && left > 0 => {
                    left -= 1;
                    tokio::time::sleep(self.retries.pause).await;
                }
                result => return result,
            }
        }
    }

    async fn once(
        &self,
        namespace: Option<&str>,
        request: &Request,
        what: &str,
    ) -> Result<Option<SecretBytes>, ProviderError> {
        let answer = self.http.send(self.call(namespace, request, what)?, what).await?;
        if let Some(index) = &self.index
            && let Some(state) = answer.headers.get("x-vault-index")
        {
            *index.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(state.clone());
        }
        match answer.status {
            StatusCode::NO_CONTENT => Ok(None),
            // Reads, lists and deletions of what is not there are answered so; the body can still hold a deleted version's metadata.
            StatusCode::NOT_FOUND if request.body.is_none() => Ok(Some(answer.body).filter(holds_data)),
            status if status.is_success() => Ok(Some(answer.body).filter(|body| !body.is_empty())),
            _ => Err(refusal(&answer, what)),
        }
    }

    fn call(&self, namespace: Option<&str>, request: &Request, what: &str) -> Result<Call, ProviderError> {
        let steps: Vec<&str> = request.path.split('/').filter(|step| !step.is_empty()).collect();
        if steps.is_empty() || steps.iter().any(|step| matches!(*step, "." | "..")) {
            return Err(misconfigured(format!("{what}: the path in Vault is empty, or holds a step like \"..\"")));
        }
        let steps: Vec<String> = steps.into_iter().map(segment).collect();
        let mut url = format!("{}/v1/{}", self.server, steps.join("/"));
        if !request.query.is_empty() {
            url.push('?');
            let pairs: Vec<_> = request.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            url.push_str(&query(&pairs));
        }
        let mut call = Call::new(request.method.clone(), &url, &format!("{what}: server"))?;
        for (name, value) in &self.headers {
            call = call.header(name, value.expose(), what)?;
        }
        call = call.header("x-vault-request", b"true", what)?;
        if let Some(namespace) = namespace {
            call = call.header("x-vault-namespace", namespace.as_bytes(), what)?;
        }
        if let Some(token) = &self.token {
            call = call.header("x-vault-token", token.expose(), what)?;
        }
        if let Some(index) = &self.index
            && let Some(state) = index.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref()
        {
            call = call.header("x-vault-index", state.as_bytes(), what)?;
        }
        Ok(match &request.body {
            Some(body) => call.json(body.clone()),
            None => call,
        })
    }
}

/// The client's certificate: that of the login, else that which the server asks for.
async fn identity(vault: &Vault, path: &str, cx: &ConnectCx) -> Result<Option<Identity>, ProviderError> {
    if let Some(cert) = vault.auth.as_ref().and_then(|auth| auth.cert.as_ref()) {
        let what = format!("{path}.auth.cert");
        let certificate = cx.secret(&cert.client_cert, &format!("{what}.clientCert")).await?;
        let key = cx.secret(&cert.secret_ref, &format!("{what}.secretRef")).await?;
        return Ok(Some(Identity { certificate, key }));
    }
    match &vault.tls {
        None | Some(ClientTls { cert_secret_ref: None, key_secret_ref: None }) => Ok(None),
        Some(ClientTls { cert_secret_ref: Some(cert), key_secret_ref: Some(key) }) => {
            let certificate = cx.secret(&or_key(cert, "tls.crt"), &format!("{path}.tls.certSecretRef")).await?;
            let key = cx.secret(&or_key(key, "tls.key"), &format!("{path}.tls.keySecretRef")).await?;
            Ok(Some(Identity { certificate, key }))
        }
        Some(_) => Err(misconfigured(format!("{path}.tls: certSecretRef and keySecretRef must be set together"))),
    }
}

/// A reference, with the key that counts where it names none.
pub(super) fn or_key(selector: &SecretKeySelector, key: &str) -> SecretKeySelector {
    let given = selector.key.clone().filter(|key| !key.is_empty());
    SecretKeySelector { key: given.or_else(|| Some(key.to_owned())), ..selector.clone() }
}

/// Whether a "not found" says something all the same.
fn holds_data(body: &SecretBytes) -> bool {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(borrow, default)]
        data: Option<&'a RawValue>,
    }
    serde_json::from_slice::<Said<'_>>(body.expose()).is_ok_and(|said| said.data.is_some())
}

/// Vault's own statuses, where they mean something else than everywhere.
fn refusal(answer: &Answer, what: &str) -> ProviderError {
    let error = answer.refusal(what);
    let (kind, text) = match answer.status.as_u16() {
        400 => (ErrorKind::Misconfigured, "Vault does not take the request: check the path, the parameters and the login"),
        403 => (ErrorKind::Denied, "Vault does not allow it: check the token and its policies"),
        404 => (ErrorKind::Misconfigured, "Vault has nothing mounted at that path"),
        405 => (ErrorKind::Misconfigured, "that path of Vault cannot be used with this method"),
        412 => (ErrorKind::Unavailable, "this server of Vault has not caught up yet"),
        472 | 473 => (ErrorKind::Unavailable, "this server of Vault stands by"),
        503 => (ErrorKind::Unavailable, "Vault is sealed or under maintenance"),
        _ => return error,
    };
    ProviderError { kind, detail: format!("{what}: {text} ({})", answer.status.as_u16()), ..error }
}

pub(super) fn misconfigured(text: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}
