//! The way to a server of Vault: one request, its tries, and what the answer stands for.

use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{LOCATION, USER_AGENT};
use http::{HeaderValue, StatusCode};
use url::Url;

use super::Retries;
use super::answer::Said;
use super::client::Request;
use super::config::{ClientTls, Vault};
use crate::api::refs::SecretKeySelector;
use crate::outbound::{Answer, Call, HttpClient, Identity, TlsOptions, query, segment};
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Header by which Vault's audit log names a request in the words of whoever sent it.
const CORRELATION: &str = "x-correlation-id";

/// A request that failed, and what only the login must know of that.
pub(super) struct Failed {
    /// What it came to.
    pub error: ProviderError,
    /// The status that it was answered with; 0 where it was not.
    pub status: u16,
    /// Vault does not know the token.
    pub token_is_dead: bool,
}

impl From<ProviderError> for Failed {
    fn from(error: ProviderError) -> Self {
        Self { error, status: 0, token_is_dead: false }
    }
}

impl From<Failed> for ProviderError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

/// A server, and how it is called.
pub(super) struct Transport {
    http: HttpClient,
    server: String,
    headers: Vec<(String, SecretBytes)>,
    retries: Retries,
    /// The last state of the cluster that was told, where reads must see writes.
    index: Option<Mutex<Option<HeaderValue>>>,
    namespace: Option<String>,
}

impl Transport {
    /// The way to a store's server. `path` is where the block stands in the object.
    ///
    /// # Errors
    /// `Misconfigured` where a reference is missing or a certificate cannot be used.
    pub async fn open(vault: &Vault, path: &str, retries: Retries, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let ca = cx.ca(&vault.ca, path).await?;
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
        })
    }

    /// The namespace of the secrets.
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    /// The server's address, without a slash at its end.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Runs a request, and tries again what the server failed. `None`: Vault has nothing to say, or nothing at that path.
    pub async fn run(
        &self,
        namespace: Option<&str>,
        token: Option<&SecretBytes>,
        request: &Request,
        what: &str,
        cx: &CallCx,
    ) -> Result<Option<SecretBytes>, Failed> {
        let answer = self.retries.run(|| self.once(namespace, token, request, what, cx)).await?;
        body_of(answer, request, what)
    }

    /// One try. What may be tried again is an error, all else an answer.
    async fn once(
        &self,
        namespace: Option<&str>,
        token: Option<&SecretBytes>,
        request: &Request,
        what: &str,
        cx: &CallCx,
    ) -> Result<Answer, ProviderError> {
        let call = |url: &str| self.call(url, namespace, token, request, what, cx);
        let url = self.url(request, what)?;
        let mut sent = self.http.send(call(&url)?, what).await;
        if let Some(active) = sent.as_ref().ok().and_then(|answer| self.active(answer)) {
            sent = self.http.send(call(&active)?, what).await;
        }
        let failed = !sent.as_ref().is_ok_and(|answer| answer.status.is_success() || answer.status == 404);
        let id = sent.as_ref().ok().and_then(|answer| Said::of(&answer.body).request_id);
        cx.requests.note_as(request.name, failed, id);
        let answer = sent?;
        if let Some(index) = &self.index
            && let Some(state) = answer.headers.get("x-vault-index")
        {
            let mut known = index.lock().unwrap_or_else(PoisonError::into_inner);
            // answers may come in another order than they were made in
            if known.as_ref().is_none_or(|known| !is_older(state, known)) {
                *known = Some(state.clone());
            }
        }
        if answer.status.is_success() {
            return Ok(answer);
        }
        match refusal(&answer, what).error {
            later if later.kind == ErrorKind::Unavailable => Err(later),
            _ => Ok(answer),
        }
    }

    /// Where a server that stands by says that the active one is. As Vault's own client, we believe it once for each request.
    /// What the request holds goes without TLS only where it did so already, and then to the same host.
    fn active(&self, answer: &Answer) -> Option<String> {
        if !matches!(answer.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) {
            return None;
        }
        let location = Url::parse(answer.headers.get(LOCATION)?.to_str().ok()?).ok()?;
        let is_there = |server: Url| server.scheme() == location.scheme() && server.host() == location.host();
        let may_go = location.scheme() == "https" || Url::parse(&self.server).is_ok_and(is_there);
        may_go.then(|| location.into())
    }

    fn url(&self, request: &Request, what: &str) -> Result<String, ProviderError> {
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
        Ok(url)
    }

    fn call(
        &self,
        url: &str,
        namespace: Option<&str>,
        token: Option<&SecretBytes>,
        request: &Request,
        what: &str,
        cx: &CallCx,
    ) -> Result<Call, ProviderError> {
        let mut call = Call::new(request.method.clone(), url, &format!("{what}: server"))?;
        if !cx.cause.is_empty() {
            let agent = format!(concat!("keyferry/", env!("CARGO_PKG_VERSION"), " ({}; {})"), cx.cause, cx.correlation);
            call = call.header(USER_AGENT.as_str(), agent.as_bytes(), what)?;
            call = call.header(CORRELATION, cx.correlation.as_bytes(), what)?;
        }
        for (name, value) in &self.headers {
            call = call.header(name, value.expose(), what)?;
        }
        call = call.header("x-vault-request", b"true", what)?;
        if let Some(namespace) = namespace {
            call = call.header("x-vault-namespace", namespace.as_bytes(), what)?;
        }
        if let Some(token) = token {
            call = call.header("x-vault-token", token.expose(), what)?;
        }
        if let Some(index) = &self.index
            && let Some(state) = index.lock().unwrap_or_else(PoisonError::into_inner).as_ref()
        {
            call = call.header("x-vault-index", state.as_bytes(), what)?;
        }
        Ok(call.maybe_json(request.body.as_ref()))
    }
}

/// Whether a state of a cluster is one that another, already known, holds. It is base64 of `v1:CLUSTER:LOCAL:REPLICATED:HMAC`, as Vault's own
/// client reads it; one that cannot be read, or is of another cluster, is none that is known.
fn is_older(state: &HeaderValue, known: &HeaderValue) -> bool {
    let read = |state: &HeaderValue| {
        let text = String::from_utf8(STANDARD.decode(state).ok()?).ok()?;
        let mut parts = text.split(':').map(str::to_owned);
        parts.next().filter(|version| version == "v1")?;
        Some((parts.next()?, parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<u64>().ok()?))
    };
    let (Some(state), Some(known)) = (read(state), read(known)) else { return false };
    state.0 == known.0 && state.1 <= known.1 && state.2 <= known.2
}

/// What an answer holds.
fn body_of(answer: Answer, request: &Request, what: &str) -> Result<Option<SecretBytes>, Failed> {
    match answer.status {
        StatusCode::NO_CONTENT => Ok(None),
        // Reads, lists and deletions of what is not there are answered so; the body can still hold a deleted version's metadata.
        StatusCode::NOT_FOUND if request.body.is_none() => {
            let said = Said::of(&answer.body);
            if !said.is_vaults() || said.is_of_no_engine() {
                return Err(refusal(&answer, what));
            }
            Ok(said.holds_data().then_some(answer.body))
        }
        status if status.is_success() => Ok(Some(answer.body).filter(|body| !body.is_empty())),
        _ => Err(refusal(&answer, what)),
    }
}

/// What a status that is no success stands for: Vault's own, where they mean something else than everywhere. What it says is
/// looked at and never passed on.
fn refusal(answer: &Answer, what: &str) -> Failed {
    let (error, said, status) = (answer.refusal(what), Said::of(&answer.body), answer.status.as_u16());
    let token_is_dead = status == 403 && said.error("invalid token");
    let (kind, text) = match status {
        307 | 308 => {
            (ErrorKind::Unavailable, "this server of Vault stands by, and the way to the active one cannot be used")
        }
        400 if said.error("check-and-set parameter did not match") => {
            (ErrorKind::Conflict, "somebody else changed the secret meanwhile")
        }
        400 if said.error("missing client token") => (ErrorKind::Denied, "Vault asks for a login: set auth"),
        400 if said.error("Upgrading from non-versioned") => {
            (ErrorKind::Unavailable, "Vault is making the engine one with versions")
        }
        400 => (ErrorKind::Misconfigured, "Vault does not take the request: check the path, the parameters and the login"),
        403 if token_is_dead => (ErrorKind::Denied, "Vault does not know the token: it was revoked, or it has ended"),
        403 => (ErrorKind::Denied, "Vault does not allow it: check the token and its policies"),
        404 if !said.is_vaults() => {
            (ErrorKind::Misconfigured, "a \"not found\" that is not Vault's: is the address, or a path in it, right?")
        }
        404 => (ErrorKind::Misconfigured, "no engine of Vault serves that path: check where it is mounted, and its version"),
        405 => (ErrorKind::Misconfigured, "that path of Vault cannot be used with this method"),
        412 => (ErrorKind::Unavailable, "this server of Vault has not caught up yet"),
        429 => (ErrorKind::Throttled, "a quota of Vault is used up"),
        472 | 473 => (ErrorKind::Unavailable, "this server of Vault stands by"),
        500 if said.error("local node not active") => {
            (ErrorKind::Unavailable, "this server of Vault stands by, and finds no active one")
        }
        503 if said.error("sealed") => (ErrorKind::Unavailable, "Vault is sealed: somebody must unseal it"),
        503 => (ErrorKind::Unavailable, "Vault has no active server, or is under maintenance"),
        _ => return Failed { error, status, token_is_dead },
    };
    Failed { error: ProviderError { kind, detail: format!("{what}: {text} ({status})"), ..error }, status, token_is_dead }
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

pub(super) fn misconfigured(text: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_state_that_reads_must_see_never_goes_back() {
        let state = |text: &str| HeaderValue::from_str(&STANDARD.encode(text)).unwrap();
        let known = state("v1:cluster:7:3:c2lnbmVk");
        for (text, older) in [
            ("v1:cluster:6:3:x", true),
            ("v1:cluster:7:3:x", true),
            ("v1:cluster:8:3:x", false),
            ("v1:cluster:7:4:x", false),
            ("v1:another:6:3:x", false),
            ("v2:cluster:6:3:x", false),
            ("v1:cluster:six:3:x", false),
        ] {
            assert_eq!(is_older(&state(text), &known), older, "{text}");
        }
        assert!(!is_older(&HeaderValue::from_static("%"), &known));
    }
}
