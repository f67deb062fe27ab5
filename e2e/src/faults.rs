//! A proxy that fails on command: in front of the AWS emulator, in the ways in which Secrets Manager (or what lies before it) fails;
//! in front of Vault, in those to which no real one can be brought.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::http::{self, Server};

/// A way to fail. Of AWS only calls of Secrets Manager fail, of Vault only those below a mount; the rest passes. Where words are needed,
/// they are those of AWS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// All is well.
    None,
    /// 500, as AWS words it.
    ServerError,
    /// 429 with a `Retry-After` of so many seconds.
    Throttled(u32),
    /// No answer as long as the fault lasts.
    Hang,
    /// IAM refuses every read.
    Denied,
    /// Every value is the empty text.
    EmptyValue,
    /// Every answer is well-formed and holds nothing.
    EmptyList,
    /// 200 with a page of HTML, as of a proxy on the way.
    Malformed,
    /// The right answer without its last brace: JSON that ends too soon, after what it holds.
    Truncated,
    /// The connection ends in the middle of the answer.
    Cut,
}

/// A call that reached the proxy.
#[derive(Debug, Clone)]
pub struct Call {
    /// When.
    pub at: Instant,
    /// `GetSecretValue`, `BatchGetSecretValue`, …; the path, where Vault was called.
    pub action: String,
}

/// The running proxy. It ends when it is dropped.
pub struct FaultProxy {
    state: Arc<State>,
    server: Server,
}

struct State {
    upstream: String,
    fails: Fails,
    fault: watch::Sender<Fault>,
    calls: Mutex<Vec<Call>>,
}

/// Which calls fail, and are noted.
enum Fails {
    /// Those of Secrets Manager.
    SecretsManager,
    /// Those of paths that begin so.
    Paths(String),
}

impl Fails {
    /// What a call that is meant asks for.
    fn action(&self, request: &Request<Full<Bytes>>) -> Option<String> {
        match self {
            Self::SecretsManager => {
                let target = request.headers().get("x-amz-target")?.to_str().ok()?;
                target.strip_prefix("secretsmanager.").map(str::to_owned)
            }
            Self::Paths(begin) => Some(request.uri().path()).filter(|path| path.starts_with(begin)).map(str::to_owned),
        }
    }
}

type Body = BoxBody<Bytes, io::Error>;

impl FaultProxy {
    /// Starts it before the emulator at `upstream`, with no fault yet.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: &str) -> Result<Self> {
        Self::before(upstream, Fails::SecretsManager).await
    }

    /// Starts it before the Vault at `upstream` (`http://host:port`), with no fault yet. What is asked of the mounts whose names begin
    /// with `mount` fails.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn before_vault(upstream: &str, mount: &str) -> Result<Self> {
        Self::before(upstream, Fails::Paths(format!("/v1/{mount}"))).await
    }

    async fn before(upstream: &str, fails: Fails) -> Result<Self> {
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
            fails,
            fault: watch::Sender::new(Fault::None),
            calls: Mutex::default(),
        });
        let answering = state.clone();
        let answer = move |request| {
            let state = answering.clone();
            async move { state.answer(request).await }
        };
        Ok(Self { state, server: Server::start(None, answer).await? })
    }

    /// The URL to call in place of the server's.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.server.url()
    }

    /// Fails in this way from now on.
    pub fn set(&self, fault: Fault) {
        self.state.fault.send_replace(fault);
    }

    /// The calls that could have failed since `start`.
    #[must_use]
    pub fn calls_since(&self, start: Instant) -> Vec<Call> {
        self.state.calls().iter().filter(|call| call.at >= start).cloned().collect()
    }

    /// Most calls in any stretch of time of that length since `start`.
    #[must_use]
    pub fn most_calls_within(&self, length: Duration, start: Instant) -> usize {
        let calls = self.calls_since(start);
        let within = |first: &Call| calls.iter().filter(|call| call.at >= first.at && call.at - first.at < length).count();
        calls.iter().map(within).max().unwrap_or_default()
    }
}

impl State {
    fn calls(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call and answers it; an error cuts the connection.
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("{}{path}", self.upstream).parse()?;
        let forward = Request::from_parts(parts, Full::new(body));
        let Some(action) = self.fails.action(&forward) else { return pass_on(forward).await };
        self.calls().push(Call { at: Instant::now(), action: action.clone() });
        let fault = *self.fault.borrow();
        match fault {
            Fault::None => pass_on(forward).await,
            Fault::ServerError => {
                Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalServiceError", "An error occurred."))
            }
            Fault::Throttled(seconds) => {
                let mut refused = refusal(StatusCode::TOO_MANY_REQUESTS, "ThrottlingException", "Rate exceeded");
                refused.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                Ok(refused)
            }
            Fault::Hang => {
                self.fault.subscribe().wait_for(|fault| *fault != Fault::Hang).await?;
                Err(io::Error::from(io::ErrorKind::ConnectionReset).into())
            }
            Fault::Denied => {
                let text = format!(
                    "User: arn:aws:iam::000000000000:user/app is not authorized to perform: secretsmanager:{action}"
                );
                Ok(refusal(StatusCode::BAD_REQUEST, "AccessDeniedException", &text))
            }
            Fault::EmptyValue => {
                let (status, answer) = http::send(forward).await?;
                let mut answer: Value = serde_json::from_slice(&answer)?;
                empty_values(&mut answer);
                Ok(response(status, "application/x-amz-json-1.1", answer.to_string()))
            }
            Fault::EmptyList => Ok(response(StatusCode::OK, "application/x-amz-json-1.1", nothing(&action).to_string())),
            Fault::Malformed => Ok(response(StatusCode::OK, "text/html", "<html>Please log in</html>".to_owned())),
            Fault::Truncated => {
                let (parts, answer) = http::exchange(forward).await?.into_parts();
                let end = answer.iter().rposition(|&byte| byte == b'}').unwrap_or_default();
                Ok(response(parts.status, "application/json", answer.slice(..end)))
            }
            Fault::Cut => {
                let (status, answer) = http::send(forward).await?;
                Ok(cut(status, &answer))
            }
        }
    }
}

/// Hands a call on, and its answer back, as they stand.
async fn pass_on(request: Request<Full<Bytes>>) -> Result<Response<Body>> {
    Ok(http::exchange(request).await?.map(whole))
}

fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed()
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    response(status, "application/x-amz-json-1.1", json!({"__type": code, "message": message}).to_string())
}

/// The first half of `answer`, announced as the whole.
fn cut(status: StatusCode, answer: &Bytes) -> Response<Body> {
    let half = answer.slice(..answer.len() / 2);
    let frames = [Ok(Frame::data(half)), Err(io::Error::from(io::ErrorKind::ConnectionReset))];
    let mut response = Response::new(BodyExt::boxed(StreamBody::new(stream::iter(frames))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(answer.len()));
    response
}

fn empty_values(answer: &mut Value) {
    match answer {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "SecretString" { *value = json!("") } else { empty_values(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(empty_values),
        _ => {}
    }
}

/// A well-formed answer that holds nothing.
fn nothing(action: &str) -> Value {
    match action {
        "BatchGetSecretValue" => json!({"SecretValues": [], "Errors": []}),
        "ListSecrets" => json!({"SecretList": []}),
        _ => json!({}),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn empties_values_wherever_they_are() {
        let mut answer = json!({"SecretValues": [{"Name": "a", "SecretString": "x"}], "SecretString": "y"});
        empty_values(&mut answer);
        assert_eq!(answer, json!({"SecretValues": [{"Name": "a", "SecretString": ""}], "SecretString": ""}));
    }

    #[tokio::test]
    async fn fails_on_command_and_counts_calls() {
        let upstream = FaultProxy::start("http://127.0.0.1:1").await.unwrap();
        upstream.set(Fault::EmptyList);
        let proxy = FaultProxy::start(upstream.endpoint()).await.unwrap();
        let start = Instant::now();
        let call = async || {
            let request = Request::post(proxy.endpoint()).header("x-amz-target", "secretsmanager.ListSecrets");
            http::send(request.body(Full::default()).unwrap()).await
        };
        let (status, body) = call().await.unwrap();
        assert_eq!((status, &body[..]), (StatusCode::OK, &br#"{"SecretList":[]}"#[..]));
        proxy.set(Fault::Throttled(7));
        assert_eq!(call().await.unwrap().0, StatusCode::TOO_MANY_REQUESTS);
        proxy.set(Fault::Cut);
        call().await.unwrap_err();
        assert_eq!(proxy.calls_since(start).len(), 3);
        assert_eq!(upstream.most_calls_within(Duration::from_secs(60), start), 2);
    }

    #[tokio::test]
    async fn of_vault_fails_what_is_below_the_mount() {
        let upstream = Server::start(None, |request: Request<Incoming>| async move {
            let body = json!({"asked": request.uri().to_string()}).to_string();
            let mut answer = response(StatusCode::TOO_MANY_REQUESTS, "application/json", body);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(9));
            anyhow::Ok(answer)
        })
        .await
        .unwrap();
        let proxy = FaultProxy::before_vault(upstream.url(), "kv").await.unwrap();
        let start = Instant::now();
        let call = async |path: &str| {
            let request = Request::get(format!("{}{path}", proxy.endpoint())).body(Full::default()).unwrap();
            let (parts, body) = http::exchange(request).await.unwrap().into_parts();
            (parts.status.as_u16(), parts.headers.get(RETRY_AFTER).cloned(), String::from_utf8(body.to_vec()).unwrap())
        };
        let asked = |path: &str| (429_u16, Some(HeaderValue::from(9)), json!({"asked": path}).to_string());
        assert_eq!(call("/v1/kv/a?list=true").await, asked("/v1/kv/a?list=true"), "as Vault answers it");
        proxy.set(Fault::Malformed);
        assert_eq!(call("/v1/sys/health").await, asked("/v1/sys/health"));
        assert_eq!(call("/v1/kv/a").await, (200, None, "<html>Please log in</html>".to_owned()));
        proxy.set(Fault::Truncated);
        assert_eq!(call("/v1/kv/a").await, (429, None, r#"{"asked":"/v1/kv/a""#.to_owned()));
        assert_eq!(proxy.calls_since(start).len(), 3);
    }
}
