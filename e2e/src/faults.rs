//! A proxy in front of the AWS emulator that fails on command, in the ways in which Secrets Manager (or what lies before it) fails.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::stream;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::http::{self, Server};

/// A way to fail. Only calls of Secrets Manager fail; the rest passes.
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
    /// The connection ends in the middle of the answer.
    Cut,
}

/// A call that reached the proxy.
#[derive(Debug, Clone)]
pub struct Call {
    /// When.
    pub at: Instant,
    /// `GetSecretValue`, `BatchGetSecretValue`, …
    pub action: String,
}

/// The running proxy. It ends when it is dropped.
pub struct FaultProxy {
    state: Arc<State>,
    server: Server,
}

struct State {
    upstream: String,
    fault: watch::Sender<Fault>,
    calls: Mutex<Vec<Call>>,
}

type Body = BoxBody<Bytes, io::Error>;

impl FaultProxy {
    /// Starts it before the emulator at `upstream`, with no fault yet.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(upstream: &str) -> Result<Self> {
        let state = Arc::new(State {
            upstream: upstream.to_owned(),
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

    /// The URL to call in place of the emulator's.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.server.url()
    }

    /// Fails in this way from now on.
    pub fn set(&self, fault: Fault) {
        self.state.fault.send_replace(fault);
    }

    /// The calls of Secrets Manager since `start`.
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
        parts.uri = format!("{}{}", self.upstream, parts.uri.path()).parse()?;
        let forward = Request::from_parts(parts, Full::new(body));
        let Some(action) = action(forward.headers()) else { return self.forward(forward).await };
        self.calls().push(Call { at: Instant::now(), action: action.clone() });
        let fault = *self.fault.borrow();
        match fault {
            Fault::None => self.forward(forward).await,
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
            Fault::Cut => {
                let (status, answer) = http::send(forward).await?;
                Ok(cut(status, &answer))
            }
        }
    }

    async fn forward(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>> {
        let (status, answer) = http::send(request).await?;
        Ok(response(status, "application/x-amz-json-1.1", answer))
    }
}

fn action(headers: &HeaderMap) -> Option<String> {
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    target.strip_prefix("secretsmanager.").map(str::to_owned)
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {}).boxed();
    let mut response = Response::new(body);
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
}
