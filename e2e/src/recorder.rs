//! A proxy before the AWS emulator that keeps what callers ask, as CloudTrail does: tests read there who called for what.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use serde_json::Value;

use crate::certs::Pair;
use crate::http::{self, Server};

/// One call of an AWS service.
#[derive(Debug, Clone)]
pub struct Call {
    /// What was asked: `GetSecretValue`, `AssumeRole`.
    pub action: String,
    /// What the caller says it is.
    pub user_agent: String,
    /// The access key that signed it; empty where nothing was signed.
    pub access_key: String,
    /// The parameters, whether they came as JSON or as a form.
    pub input: Value,
    /// The status of the answer.
    pub status: StatusCode,
}

impl Call {
    /// A parameter, as text; empty where it is not there.
    #[must_use]
    pub fn text(&self, parameter: &str) -> &str {
        self.input.get(parameter).and_then(Value::as_str).unwrap_or_default()
    }

    /// The secrets that are asked for by a read, single or batch.
    #[must_use]
    pub fn secrets(&self) -> Vec<&str> {
        let field = |names: [&str; 2]| names.into_iter().find_map(|name| self.input.get(name));
        let list = field(["SecretIdList", "Names"]).and_then(Value::as_array);
        let one = field(["SecretId", "Name"]).and_then(Value::as_str);
        list.into_iter().flatten().filter_map(Value::as_str).chain(one).collect()
    }

    /// Whether an object of the namespace caused it: by the mark in the user agent, or by the name of a role's session.
    #[must_use]
    pub fn is_for(&self, namespace: &str) -> bool {
        self.user_agent.contains(&format!("/{namespace}/"))
            || self.text("RoleSessionName").starts_with(&format!("keyferry-{namespace}@"))
    }

    fn read(headers: &HeaderMap, body: &[u8], status: StatusCode) -> Self {
        let header = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let json_action =
            header(HeaderName::from_static("x-amz-target")).rsplit_once('.').map(|(_, action)| action.to_owned());
        let input = match json_action {
            Some(_) => serde_json::from_slice(body).unwrap_or_default(),
            None => form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), Value::from(value))).collect(),
        };
        let credential = header(AUTHORIZATION).split_once("Credential=").map_or("", |(_, rest)| rest);
        let mut call = Self {
            action: json_action.unwrap_or_default(),
            user_agent: header(USER_AGENT).to_owned(),
            access_key: credential.split('/').next().unwrap_or_default().to_owned(),
            input,
            status,
        };
        if call.action.is_empty() {
            call.action = call.text("Action").to_owned();
        }
        call
    }
}

/// The running proxy; it ends when it is dropped.
pub struct Recorder {
    server: Server,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Recorder {
    /// Starts it on a free port before the server at `upstream` (`http://host:port`), with TLS if there is a certificate.
    ///
    /// # Errors
    /// When no port can be had, or the certificate cannot be used.
    pub async fn start(upstream: &str, certificate: Option<&Pair>) -> Result<Self> {
        let (upstream, calls) = (upstream.to_owned(), Arc::<Mutex<Vec<Call>>>::default());
        let kept = calls.clone();
        let server = Server::start(certificate, move |request| pass_on(request, upstream.clone(), kept.clone())).await?;
        Ok(Self { server, calls })
    }

    /// The URL to call in place of the server's.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// What was asked for objects of a namespace, in the order of the answers.
    #[must_use]
    pub fn calls_for(&self, namespace: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|call| call.is_for(namespace)).cloned().collect()
    }
}

/// Hands a request on as it stands: its headers, the host among them, are signed.
async fn pass_on(
    request: Request<Incoming>,
    upstream: String,
    calls: Arc<Mutex<Vec<Call>>>,
) -> Result<Response<Full<Bytes>>> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = format!("{upstream}{path}").parse::<Uri>()?;
    let headers = parts.headers.clone();
    let response = http::exchange(Request::from_parts(parts, Full::new(body.clone()))).await?;
    let call = Call::read(&headers, &body, response.status());
    calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    Ok(response.map(Full::new))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn reads_both_protocols() {
        let signed = "AWS4-HMAC-SHA256 Credential=AKIA1/20261123/eu-west-1/secretsmanager/aws4_request, SignedHeaders=host";
        let json_headers = headers(&[
            ("x-amz-target", "secretsmanager.BatchGetSecretValue"),
            ("authorization", signed),
            ("user-agent", "x keyferry-cause/ExternalSecret/ns-1/app"),
        ]);
        let call = Call::read(&json_headers, json!({"SecretIdList": ["a", "b"]}).to_string().as_bytes(), StatusCode::OK);
        assert_eq!((call.action.as_str(), call.access_key.as_str()), ("BatchGetSecretValue", "AKIA1"));
        assert_eq!(call.secrets(), ["a", "b"]);
        assert!(call.is_for("ns-1") && !call.is_for("ns"));

        let form = b"Action=AssumeRole&RoleArn=arn%3Aaws&RoleSessionName=keyferry-ns-1%40store";
        let call = Call::read(&headers(&[]), form, StatusCode::FORBIDDEN);
        assert_eq!((call.action.as_str(), call.text("RoleArn")), ("AssumeRole", "arn:aws"));
        assert!(call.is_for("ns-1") && !call.is_for("ns-2"));
    }
}
