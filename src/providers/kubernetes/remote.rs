//! Calls to the API server of a store: credentials kept fresh, a deadline, and every failure in words of our own.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use http::header::{HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use kube::client::{Body, Client};
use regex::Regex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::login::{Login, from_token};
use super::{ConnectCx, ErrorKind, ProviderError, asked};
use crate::api::refs::ServiceAccountSelector;
use crate::outbound::{self, Outbound, api_server};
use crate::providers::CallCx;
use crate::providers::rest::{self, Granted, Tokens};
use crate::secret_bytes::SecretBytes;

/// Time that a call may take, from the token it needs to the last byte of the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Life of a ServiceAccount's token, in seconds: what ESO asks for.
const TOKEN_LIFE: i64 = 3600;
/// Most bytes of an answer: a Secret as large as an API server can hold fits, and a page of them into that of a list.
const MOST_OF_ONE: usize = 4 << 20;
const MOST_OF_LIST: usize = 16 << 20;
/// The login that needs a token.
const ACCOUNT: &str = "spec.provider.kubernetes.auth.serviceAccount";
/// Longest wait that is taken from a server.
const MAX_WAIT: u64 = 3600;

/// The API server of a store.
pub(super) struct Remote {
    config: kube::Config,
    /// What checks the address; `None` for that of the operator's own cluster, which the administrator chose.
    guard: Option<Arc<Outbound>>,
    source: Option<TokenSource>,
    tokens: Tokens,
    current: Mutex<Option<Current>>,
}

struct TokenSource {
    cx: ConnectCx,
    account: ServiceAccountSelector,
}

#[async_trait]
impl rest::Login for TokenSource {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let Self { cx, account } = self;
        let token = cx.bound_token(account, account.audiences.clone(), Some(TOKEN_LIFE), ACCOUNT).await?;
        Ok(Granted { token: token.value, life: Some(token.life) })
    }

    /// As a kubelet does, so that an API server that gives no token may be away for a while.
    fn early(&self, life: Duration) -> Duration {
        life / 5
    }
}

/// A client, and the token that it was made with, where it needs one.
struct Current {
    client: Client,
    token: Option<SecretBytes>,
}

impl Remote {
    /// Logs in.
    pub async fn open(login: Login, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let mut config = login.config;
        // Waiting and trying again is decided per store, with all its readers in view.
        config.default_retry = false;
        let source = login.account.map(|account| TokenSource { cx: cx.clone(), account });
        let is_own = is_same_server(&config.cluster_url, &cx.cluster.config().cluster_url);
        let guard = (!is_own).then(|| cx.outbound.clone());
        let remote = Self { config, guard, source, tokens: Tokens::default(), current: Mutex::new(None) };
        in_time("the login", remote.client()).await?;
        Ok(remote)
    }

    /// Sends a request and reads the answer. `what` says in errors what was asked for.
    pub async fn call<T: DeserializeOwned>(
        &self,
        mut request: Request<Vec<u8>>,
        what: &str,
        cx: &CallCx,
    ) -> Result<T, ProviderError> {
        request.headers_mut().insert(USER_AGENT, user_agent(cx));
        let asked = asked::name(&request);
        let most = if asked == asked::LIST { MOST_OF_LIST } else { MOST_OF_ONE };
        let result = in_time(what, self.exchange(request, most, what)).await;
        cx.requests.note(asked, result.is_err());
        result
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        request: Request<Vec<u8>>,
        most: usize,
        what: &str,
    ) -> Result<T, ProviderError> {
        let (client, token) = self.client().await?;
        // The client's own errors can quote what was sent or received, so nothing of them is passed on.
        let answer = client.send(request.map(Body::from)).await.map_err(|error| {
            outbound::refused(&error, what).unwrap_or_else(|| {
                let text = format!("{what}: the API server could not be reached: check server.url, the network and the CA");
                ProviderError::new(ErrorKind::Unavailable, text)
            })
        })?;
        let status = answer.status();
        let retry_after = retry_after(&answer);
        let body = Limited::new(answer.into_body(), most).collect().await.map_err(|error| {
            let (kind, text) = match error.is::<LengthLimitError>() {
                true => (ErrorKind::Malformed, "the answer is larger than any that an API server should send"),
                false => (ErrorKind::Unavailable, "the API server's answer broke off"),
            };
            ProviderError::new(kind, format!("{what}: {text}"))
        })?;
        let body = body.to_bytes();
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|_| {
                ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer is not what an API server sends"))
            });
        }
        if let (StatusCode::UNAUTHORIZED, Some(token)) = (status, &token) {
            self.tokens.forget(token).await;
        }
        let error = refusal(status, &body, what);
        Err(match retry_after {
            Some(wait) => error.after(wait),
            None => error,
        })
    }

    /// The client, and the token that it was made with, where it needs one.
    async fn client(&self) -> Result<(Client, Option<SecretBytes>), ProviderError> {
        let token = match &self.source {
            Some(source) => Some(self.tokens.get(source).await?),
            None => None,
        };
        let mut current = self.current.lock().await;
        if let Some(Current { client, token: known }) = current.as_ref()
            && *known == token
        {
            return Ok((client.clone(), token));
        }
        let client = self.made(token.as_ref())?;
        *current = Some(Current { client: client.clone(), token: token.clone() });
        Ok((client, token))
    }

    fn made(&self, token: Option<&SecretBytes>) -> Result<Client, ProviderError> {
        let mut config = self.config.clone();
        if let Some(token) = token {
            config.auth_info = from_token(token, ACCOUNT)?;
        }
        let made = match &self.guard {
            None => api_server::client(config).map(|client| client.build()),
            // what an address out of a manifest stands for is checked when it is connected to
            Some(outbound) => api_server::client_over(config, outbound.dial()).map(|client| client.build()),
        };
        made.map_err(|_| {
            let text = "spec.provider.kubernetes: no connection can be set up: check the certificate authority, the client \
                        certificate with its key, and that a kubeconfig names no proxy";
            ProviderError::new(ErrorKind::Misconfigured, text)
        })
    }
}

fn is_same_server(one: &http::Uri, other: &http::Uri) -> bool {
    let port = |uri: &http::Uri| uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
    one.host() == other.host() && port(one) == port(other)
}

/// Gives up after [`DEADLINE`].
pub(super) async fn in_time<T>(
    what: &str,
    call: impl Future<Output = Result<T, ProviderError>>,
) -> Result<T, ProviderError> {
    tokio::time::timeout(DEADLINE, call).await.unwrap_or_else(|_| {
        let text = format!("{what}: the API server gave no answer in {} s", DEADLINE.as_secs());
        Err(ProviderError::new(ErrorKind::Unavailable, text))
    })
}

/// Names the cause, so that the API server's audit lines can be matched to it.
fn user_agent(cx: &CallCx) -> HeaderValue {
    let text = format!("keyferry/{} ({}; {})", env!("CARGO_PKG_VERSION"), cx.cause, cx.correlation);
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("keyferry"))
}

fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(MAX_WAIT)))
}

/// The part of an API server's refusal that is used.
#[derive(Deserialize)]
struct Refusal {
    reason: String,
    details: RefusalDetails,
}

#[derive(Deserialize)]
struct RefusalDetails {
    kind: String,
}

/// The part of a refusal that says why.
#[derive(Deserialize)]
struct Said {
    message: String,
}

/// The API server's word on which right is missing, if it is nothing but that: account, verb and namespace.
fn missing_right(body: &[u8]) -> Option<String> {
    static RIGHT: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let who = r#"^secrets(?: "[a-z0-9.-]{1,253}")? is forbidden: User "[A-Za-z0-9:._@/-]{1,300}" cannot [a-z]{1,20} "#;
        let what = r#"resource "secrets" in API group "" in the namespace "[a-z0-9-]{1,63}""#;
        Regex::new(&format!("{who}{what}")).ok()
    });
    let Said { message } = serde_json::from_slice(body).ok()?;
    Some(RIGHT.as_ref()?.find(&message)?.as_str().to_owned())
}

/// The API server's word on what is wrong with a Secret, if it is one of those that hold nothing but names.
fn invalid(body: &[u8]) -> Option<String> {
    static WORD: LazyLock<Option<Regex>> = LazyLock::new(|| {
        let secret = r#"^Secret "[a-z0-9.-]{1,253}" is invalid: "#;
        let name = r"[-._a-zA-Z0-9]{1,253}";
        let frozen = r"data: Forbidden: field is immutable when `immutable` is set";
        let missing = format!(r"data\[{name}\]: Required value");
        let type_ = r#"type: Invalid value: "[-._/a-zA-Z0-9]{1,253}": field is immutable"#;
        Regex::new(&format!("{secret}(?:{frozen}|{missing}|{type_})$")).ok()
    });
    let Said { message } = serde_json::from_slice(body).ok()?;
    WORD.as_ref()?.is_match(&message).then_some(message)
}

fn refusal(status: StatusCode, body: &[u8], what: &str) -> ProviderError {
    if status == StatusCode::FORBIDDEN
        && let Some(right) = missing_right(body)
    {
        return ProviderError::new(ErrorKind::Denied, format!("{right}: give the store's account that right"));
    }
    if status == StatusCode::UNPROCESSABLE_ENTITY
        && let Some(why) = invalid(body)
    {
        return ProviderError::new(ErrorKind::Misconfigured, format!("{why}: change what is pushed to {what}"));
    }
    let (kind, text) = match status.as_u16() {
        401 => (ErrorKind::Denied, "the API server does not accept the store's credentials (401)".to_owned()),
        403 => {
            (ErrorKind::Denied, "the API server forbids it (403): give the store's account the right to do it".to_owned())
        }
        // Only an API server's own "this Secret is not found" may lead to a deletion: not the 404 of a wrong address.
        404 if is_missing_secret(body) => (ErrorKind::NotFound, "it does not exist".to_owned()),
        409 => (ErrorKind::Conflict, "somebody else changed it at the same time (409)".to_owned()),
        422 => {
            let text =
                "the API server finds it invalid (422): check keys, labels and annotations, and whether it is immutable";
            (ErrorKind::Misconfigured, text.to_owned())
        }
        410 => (ErrorKind::Unavailable, "the list expired while it was read (410)".to_owned()),
        429 => (ErrorKind::Throttled, "the API server asks to wait (429)".to_owned()),
        500..=599 => (ErrorKind::Unavailable, format!("the API server failed ({})", status.as_u16())),
        code => (ErrorKind::Misconfigured, format!("the server refused ({code}): check that server.url is an API server's")),
    };
    ProviderError::new(kind, format!("{what}: {text}"))
}

fn is_missing_secret(body: &[u8]) -> bool {
    serde_json::from_slice::<Refusal>(body).is_ok_and(|r| r.reason == "NotFound" && r.details.kind == "secrets")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_an_api_servers_own_word_counts_as_missing() {
        let own = br#"{"kind":"Status","status":"Failure","reason":"NotFound","details":{"name":"x","kind":"secrets"},"code":404}"#;
        assert_eq!(refusal(StatusCode::NOT_FOUND, own, "x").kind, ErrorKind::NotFound);
        for other in [
            &b"404 page not found"[..],
            b"{}",
            br#"{"reason":"NotFound","details":{"kind":"namespaces"}}"#,
            br#"{"reason":"NotFound"}"#,
        ] {
            assert_eq!(refusal(StatusCode::NOT_FOUND, other, "x").kind, ErrorKind::Misconfigured);
        }
    }

    #[test]
    fn a_missing_right_is_named_and_nothing_else_of_the_answer_is() {
        let said = |message: &str| {
            let body = serde_json::json!({ "kind": "Status", "reason": "Forbidden", "message": message }).to_string();
            refusal(StatusCode::FORBIDDEN, body.as_bytes(), "x")
        };
        let right = "secrets is forbidden: User \"system:serviceaccount:a:writer\" cannot create resource \"secrets\" in API \
                     group \"\" in the namespace \"b\"";
        let error = said(&format!("{right}: c4n4ry"));
        assert_eq!((error.kind, error.detail), (ErrorKind::Denied, format!("{right}: give the store's account that right")));
        for other in ["c4n4ry", "exceeded quota: c4n4ry", "secrets \"x\" is forbidden: c4n4ry"] {
            let error = said(other);
            assert!(error.kind == ErrorKind::Denied && !error.detail.contains("c4n4ry"), "{error}");
        }
    }

    #[test]
    fn what_is_invalid_is_said_in_the_api_servers_words_where_they_hold_names_only() {
        let said = |message: &str| {
            let body = serde_json::json!({ "kind": "Status", "reason": "Invalid", "message": message }).to_string();
            refusal(StatusCode::UNPROCESSABLE_ENTITY, body.as_bytes(), "x")
        };
        for word in [
            "Secret \"r\" is invalid: data: Forbidden: field is immutable when `immutable` is set",
            "Secret \"r\" is invalid: data[tls.crt]: Required value",
            "Secret \"r\" is invalid: type: Invalid value: \"Opaque\": field is immutable",
        ] {
            let error = said(word);
            assert_eq!(
                (error.kind, error.detail),
                (ErrorKind::Misconfigured, format!("{word}: change what is pushed to x"))
            );
        }
        for other in ["Secret \"r\" is invalid: data[k]: Invalid value: \"c4n4ry\": x", "c4n4ry"] {
            let error = said(other);
            assert!(error.kind == ErrorKind::Misconfigured && !error.detail.contains("c4n4ry"), "{error}");
        }
    }

    #[test]
    fn status_codes_have_classes() {
        for (code, kind) in [
            (302, ErrorKind::Misconfigured),
            (400, ErrorKind::Misconfigured),
            (401, ErrorKind::Denied),
            (403, ErrorKind::Denied),
            (410, ErrorKind::Unavailable),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
            (504, ErrorKind::Unavailable),
        ] {
            assert_eq!(refusal(StatusCode::from_u16(code).unwrap(), b"", "x").kind, kind, "{code}");
        }
    }

    #[test]
    fn the_wait_is_read_in_seconds_and_bounded() {
        let with = |value: &str| retry_after(&Response::builder().header(RETRY_AFTER, value).body(()).unwrap());
        assert_eq!(with("7"), Some(Duration::from_secs(7)));
        assert_eq!(with("99999999"), Some(Duration::from_secs(MAX_WAIT)));
        assert_eq!(with("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(retry_after(&Response::new(())), None);
    }

    #[test]
    fn a_cause_that_no_header_can_hold_is_left_out() {
        let agent = |cause: &str| user_agent(&CallCx { cause: cause.into(), correlation: "c1".into(), ..CallCx::default() });
        assert!(agent("ExternalSecret/a/b").to_str().unwrap().ends_with("(ExternalSecret/a/b; c1)"));
        assert_eq!(agent("a\nb"), "keyferry");
    }
}
