//! A request that is put together, and the answer to it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, StatusCode, Uri};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use url::Url;
use url::form_urlencoded::Serializer;

use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Most bytes of an answer.
const MAX_ANSWER: usize = 4 << 20;
/// Longest wait that is taken from a server.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// What a path segment or a value in a query holds as it is: RFC 3986's unreserved characters.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Text as one segment of a path, whatever it holds; but `.` and `..` no request is made with ([`Call::new`]).
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

/// Pairs as a query or a form.
#[must_use]
pub fn query(pairs: &[(&str, &str)]) -> String {
    Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Whether a path holds a step that the parser of URLs would take away, with the one before it.
fn climbs(url: &str) -> bool {
    // the parser passes over these, and takes the other slash for one
    let url = url.replace(['\t', '\n', '\r'], "");
    let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let mut steps = path.split(['/', '\\']).skip(1).map(|step| step.replace("%2e", ".").replace("%2E", "."));
    steps.any(|step| step == "." || step == "..")
}

/// A request. No `Debug`: it holds credentials.
pub struct Call {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: SecretBytes,
    pub(super) deadline: Duration,
    pub(super) max_answer: usize,
}

impl Call {
    /// Time that a call may take where nothing else is said, from the connection to the last byte of the answer.
    pub const DEADLINE: Duration = Duration::from_secs(30);

    /// A request of a URL. A user and password in it go into the `Authorization` header, as in Go.
    ///
    /// # Errors
    /// `Misconfigured` where the URL is none of `http` or `https`, or has a step `.` or `..` in its path: that would lead to another
    /// object than the one that is named. The URL is not repeated: it may hold a credential.
    pub fn new(method: Method, url: &str, what: &str) -> Result<Self, ProviderError> {
        let bad = || misconfigured(what, "the URL is not an http or https address");
        if climbs(url) {
            return Err(misconfigured(
                what,
                "a step of the URL's path is \".\" or \"..\": no key, version or namespace can be that",
            ));
        }
        let mut url = Url::parse(url.trim()).map_err(|_| bad())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
            return Err(bad());
        }
        let login = (!url.username().is_empty() || url.password().is_some()).then(|| {
            let decode = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
            (decode(url.username()), decode(url.password().unwrap_or_default()))
        });
        url.set_fragment(None);
        if login.is_some() {
            url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| bad())?;
        }
        let uri = url.as_str().parse().map_err(|_| bad())?;
        let agent = HeaderValue::from_static(concat!("keyferry/", env!("CARGO_PKG_VERSION")));
        let headers = HeaderMap::from_iter([(USER_AGENT, agent), (ACCEPT, HeaderValue::from_static("application/json"))]);
        let body = SecretBytes::default();
        let call = Self { method, uri, headers, body, deadline: Self::DEADLINE, max_answer: MAX_ANSWER };
        match login {
            Some((user, password)) => call.basic(&user, &SecretBytes::new(password), what),
            None => Ok(call),
        }
    }

    /// With a header in place of any other of that name.
    ///
    /// # Errors
    /// `Misconfigured` where the name or the value cannot stand in a request. The value is not repeated.
    pub fn header(mut self, name: &str, value: &[u8], what: &str) -> Result<Self, ProviderError> {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| misconfigured(what, &format!("{name:?} cannot be the name of a header")))?;
        let mut value = HeaderValue::from_bytes(value).map_err(|_| {
            misconfigured(what, &format!("the value of header {name} holds a line break or other control character"))
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// With a bearer token.
    ///
    /// # Errors
    /// `Misconfigured` where the token cannot stand in a header.
    pub fn bearer(self, token: &SecretBytes, what: &str) -> Result<Self, ProviderError> {
        let value = SecretBytes::new([b"Bearer ", token.expose()].concat());
        self.header(AUTHORIZATION.as_str(), value.expose(), what)
    }

    /// With a user and a password.
    ///
    /// # Errors
    /// None in practice: base64 always fits.
    pub fn basic(self, user: &[u8], password: &SecretBytes, what: &str) -> Result<Self, ProviderError> {
        let plain = SecretBytes::new([user, b":", password.expose()].concat());
        let value = SecretBytes::from(format!("Basic {}", STANDARD.encode(plain.expose())));
        self.header(AUTHORIZATION.as_str(), value.expose(), what)
    }

    /// With a JSON text as its body.
    #[must_use]
    pub fn json(self, text: SecretBytes) -> Self {
        self.content("application/json", text)
    }

    /// With a JSON text as its body, where there is one.
    #[must_use]
    pub fn maybe_json(self, text: Option<&SecretBytes>) -> Self {
        match text {
            Some(text) => self.json(text.clone()),
            None => self,
        }
    }

    /// With a form as its body.
    #[must_use]
    pub fn form(self, fields: &[(&str, &str)]) -> Self {
        self.content("application/x-www-form-urlencoded", SecretBytes::from(query(fields)))
    }

    /// With a body of no type that we know.
    #[must_use]
    pub fn body(mut self, body: SecretBytes) -> Self {
        self.body = body;
        self
    }

    /// With another deadline.
    #[must_use]
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// With another bound of the answer, in bytes.
    #[must_use]
    pub fn at_most(mut self, bytes: usize) -> Self {
        self.max_answer = bytes;
        self
    }

    /// The same once more.
    pub(super) fn again(&self) -> Self {
        Self {
            method: self.method.clone(),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            ..*self
        }
    }

    fn content(mut self, kind: &'static str, body: SecretBytes) -> Self {
        self.headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        self.body(body)
    }
}

/// An answer, read whole. No `Debug`: it may hold a secret.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body. It must not be passed on in an error.
    pub body: SecretBytes,
}

impl Answer {
    /// The answer, if it says that all went well.
    ///
    /// # Errors
    /// The class that the status stands for, in our own words.
    pub fn success(self, what: &str) -> Result<Self, ProviderError> {
        if self.status.is_success() { Ok(self) } else { Err(self.refusal(what)) }
    }

    /// What a status that is no success stands for.
    #[must_use]
    pub fn refusal(&self, what: &str) -> ProviderError {
        let wait = retry_after(&self.headers, Timestamp::now());
        let (kind, text) = match self.status.as_u16() {
            403 if wait.is_some() => (ErrorKind::Throttled, "the server asks to wait"),
            401 => (ErrorKind::Denied, "the server does not accept the credentials"),
            403 => (ErrorKind::Denied, "the server forbids it: check the rights of the credentials"),
            404 | 410 => {
                (ErrorKind::Misconfigured, "the server knows no such address or object: check the URL and the names in it")
            }
            407 => (ErrorKind::Misconfigured, "the proxy asks for credentials"),
            409 | 412 => (ErrorKind::Conflict, "the server reports a conflict"),
            429 => (ErrorKind::Throttled, "the server asks to wait"),
            408 | 425 | 500 | 502..=504 | 506..=599 => (ErrorKind::Unavailable, "the server failed"),
            501 | 505 => (ErrorKind::Unsupported, "the server cannot do that"),
            300..=399 => (ErrorKind::Misconfigured, "the server redirects, which is not followed: give the final URL"),
            _ => (ErrorKind::Misconfigured, "the server refused the request: check the fields of the object"),
        };
        let error = ProviderError::new(kind, format!("{what}: {text} ({})", self.status.as_u16()));
        match wait {
            Some(wait) => error.after(wait),
            None => error,
        }
    }

    /// The body as JSON of a known form.
    ///
    /// # Errors
    /// `Malformed` where it is something else. Neither the body nor the parser's words are repeated.
    pub fn json<T: DeserializeOwned>(&self, what: &str) -> Result<T, ProviderError> {
        serde_json::from_slice(self.body.expose()).map_err(|_| {
            ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer is not the JSON that such a server sends"))
        })
    }
}

/// A text in an answer's JSON that is a secret, for `#[serde(deserialize_with)]`.
///
/// # Errors
/// Where it is no text.
pub fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
    String::deserialize(deserializer).map(SecretBytes::from)
}

/// `Retry-After` as seconds or as a date; bounded, as a server must not be able to stop us for good.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            at.duration_since(now).try_into().unwrap_or_default()
        }
    };
    Some(wait.min(MAX_WAIT))
}

fn misconfigured(what: &str, text: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, format!("{what}: {text}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(HeaderName, &str)]) -> Answer {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: SecretBytes::from("canary"),
        }
    }

    #[test]
    fn no_step_of_a_path_leads_to_another_object() {
        let made = |url: &str| Call::new(Method::GET, url, "spec.url").map(|call| call.uri.to_string());
        for url in [
            "https://x/a/../b",
            "https://x/a/%2e%2E/b",
            "https://x/a/.%2e",
            "https://x/./a",
            "https://x/a\\..\\b",
            "https://x/..?q",
            "https://x/a/.\t./b",
            "https://x/..#f",
        ] {
            let error = made(url).err().unwrap();
            assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("a step"), "{url}: {error}");
        }
        for url in ["https://x/a..b/...", "https://x/a?q=/../b", "https://x/%2fa/.well-known/", "https://x"] {
            assert!(made(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn statuses_have_classes() {
        for (status, kind) in [
            (301, ErrorKind::Misconfigured),
            (307, ErrorKind::Misconfigured),
            (400, ErrorKind::Misconfigured),
            (401, ErrorKind::Denied),
            (403, ErrorKind::Denied),
            (404, ErrorKind::Misconfigured),
            (408, ErrorKind::Unavailable),
            (409, ErrorKind::Conflict),
            (422, ErrorKind::Misconfigured),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unavailable),
            (501, ErrorKind::Unsupported),
            (503, ErrorKind::Unavailable),
        ] {
            let error = answer(status, &[]).success("x").err().unwrap();
            assert_eq!((error.kind, error.retry_after), (kind, None), "{status}");
            assert!(error.detail.starts_with("x: ") && error.detail.ends_with(&format!("({status})")), "{error}");
            assert!(!error.detail.contains("canary"));
        }
        assert!(answer(204, &[]).success("x").is_ok());
    }

    #[test]
    fn a_wait_makes_a_refusal_a_throttle() {
        let error = answer(403, &[(RETRY_AFTER, "60")]).refusal("x");
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(60))));
        let error = answer(503, &[(RETRY_AFTER, "7")]).refusal("x");
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Unavailable, Some(Duration::from_secs(7))));
    }

    #[test]
    fn the_wait_is_seconds_or_a_date_and_bounded() {
        let now: Timestamp = "2026-10-21T07:28:00Z".parse().unwrap();
        let wait = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]), now);
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Wed, 21 Oct 2026 07:28:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("Wed, 21 Oct 2026 07:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(wait("99999999"), Some(MAX_WAIT));
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn urls_are_http_and_errors_do_not_repeat_them() {
        for (given, uri) in [
            ("https://example.test", "https://example.test/"),
            ("http://example.test:8080/a%2Fb/c?d=e#f", "http://example.test:8080/a%2Fb/c?d=e"),
            (" https://[2001:db8::1]/x ", "https://[2001:db8::1]/x"),
        ] {
            assert_eq!(Call::new(Method::GET, given, "x").ok().unwrap().uri.to_string(), uri, "{given}");
        }
        for bad in ["", "example.test", "ftp://canary", "file:///canary", "https://", "https://canary:port/"] {
            let error = Call::new(Method::GET, bad, "spec.url").err().unwrap();
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{bad}");
            assert_eq!(error.detail, "spec.url: the URL is not an http or https address");
        }
    }

    #[test]
    fn a_login_in_the_url_becomes_a_header() {
        let call = Call::new(Method::GET, "https://us%40er:pa%3Ass@example.test/x", "x").ok().unwrap();
        assert_eq!(call.uri.to_string(), "https://example.test/x");
        let want = format!("Basic {}", STANDARD.encode("us@er:pa:ss"));
        assert_eq!(call.headers[AUTHORIZATION], want);
        assert!(call.headers[AUTHORIZATION].is_sensitive());
    }

    #[test]
    fn headers_hold_no_control_characters() {
        let call = || Call::new(Method::GET, "https://example.test", "x").ok().unwrap();
        let token = SecretBytes::from("canary\r\nX-Other: 1");
        let error = call().bearer(&token, "x").err().unwrap();
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(!error.detail.contains("canary"), "{error}");
        assert!(call().header("bad name", b"v", "x").is_err());
    }

    #[test]
    fn segments_and_forms_are_escaped() {
        assert_eq!(segment("group/sub group+ü"), "group%2Fsub%20group%2B%C3%BC");
        let call = Call::new(Method::POST, "https://example.test", "x").ok().unwrap();
        let call = call.form(&[("scope", "repository:a:pull push"), ("token", "a+b&c")]);
        assert_eq!(call.body.expose_str(), Some("scope=repository%3Aa%3Apull+push&token=a%2Bb%26c"));
        assert_eq!(call.headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    }
}
