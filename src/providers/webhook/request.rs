//! Requests out of templates, and what their answers hold: of the provider and of the generator of that name.

use std::collections::BTreeMap;
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;

use super::Webhook;
use crate::api::refs::SecretKeySelector;
use crate::chance::SystemChance;
use crate::outbound::{Answer, Call, HttpClient, Login, TlsOptions};
use crate::plan::duration;
use crate::providers::{ConnectCx, ErrorKind, ProviderError};
use crate::render::Entries;
use crate::render::json::{self, Json, byte_value};
use crate::render::jsonpath::{self, JsonPathError};
use crate::render::template::{Engine, Missing};
use crate::secret_bytes::SecretBytes;

/// Begins what is told of calls.
pub const WHAT: &str = "webhook";
/// What a Secret says that may be used in a request.
const LABEL: (&str, &str) = ("external-secrets.io/type", "webhook");
/// Longest time for an answer, whatever the spec says.
const LONGEST: Duration = Duration::from_secs(300);
/// Where templates find what is asked for.
const REMOTE_REF: &str = "remoteRef";

/// A service, with what the templates of its requests may use.
pub struct Requests {
    webhook: Webhook,
    /// Where the spec stands in the object.
    path: &'static str,
    client: HttpClient,
    /// Who logs in by NTLM, where that is asked for.
    login: Option<Login>,
    secrets: BTreeMap<String, Entries>,
}

/// What one request is about.
#[derive(Clone, Copy, Default)]
pub struct About<'a> {
    /// `remoteRef` in the templates; `None` where there is none.
    pub remote_ref: Option<&'a Entries>,
    /// What of it the URL takes as it is.
    pub as_it_is: &'a [&'a str],
    /// The method, whatever the spec says.
    pub method: Option<&'a str>,
    /// The method where the spec names none; `None`: `GET`.
    pub default_method: Option<&'a str>,
    /// The body where the spec has none.
    pub body: Option<&'a SecretBytes>,
}

impl Requests {
    /// Reads what the requests need.
    ///
    /// # Errors
    /// `Misconfigured` where an object is missing, or does not say that it may be used so.
    pub async fn open(webhook: Webhook, path: &'static str, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let login = ntlm(&webhook, path, cx).await?;
        let ca = cx.ca(&webhook.ca, path).await?;
        let client = cx.outbound.client(&TlsOptions { ca, identity: None }, path)?;
        let mut secrets = BTreeMap::new();
        for (i, secret) in webhook.secrets.iter().enumerate() {
            let what = format!("{path}.secrets[{i}].secretRef");
            let entries = cx.labelled_secret(&secret.secret_ref, LABEL, &what).await?;
            secrets.entry(secret.name.clone()).or_insert_with(Entries::new).extend(entries);
        }
        Ok(Self { webhook, path, client, login, secrets })
    }

    /// The request.
    ///
    /// # Errors
    /// `Misconfigured` where a template fails, or makes what cannot be sent.
    pub fn call(&self, about: &About<'_>, now: Timestamp) -> Result<Call, ProviderError> {
        let (webhook, path) = (&self.webhook, self.path);
        let scope = self.scope(about.remote_ref.cloned());
        let escaped = about.remote_ref.map(|all| {
            let one = |(name, value): (&String, &SecretBytes)| {
                let value = if about.as_it_is.contains(&name.as_str()) { value.clone() } else { escaped(value) };
                (name.clone(), value)
            };
            all.iter().map(one).collect()
        });
        let what = format!("{path}.url");
        let url = render(&what, &webhook.url, &self.scope(escaped), now)?;
        let url = url.expose_str().ok_or_else(|| misconfigured(format!("{what}: the URL is not UTF-8 text")))?;
        let named = webhook.method.as_deref().filter(|method| !method.is_empty());
        let method = about.method.or(named).or(about.default_method).unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| misconfigured(format!("{path}.method: {method:?} is not an HTTP method")))?;
        let mut call = Call::new(method, url, &what)?.within(timeout(webhook.timeout.as_deref(), path)?);
        for (name, template) in &webhook.headers {
            let field = format!("{path}.headers.{name}");
            call = call.header(name, render(&field, template, &scope, now)?.expose(), &field)?;
        }
        let body = match (webhook.body.as_deref().filter(|body| !body.is_empty()), about.body) {
            (None, Some(value)) => value.clone(),
            (template, _) => render(&format!("{path}.body"), template.unwrap_or_default(), &scope, now)?,
        };
        Ok(call.body(body))
    }

    fn scope(&self, remote_ref: Option<Entries>) -> BTreeMap<String, Entries> {
        let mut scope = self.secrets.clone();
        if let Some(entries) = remote_ref {
            // as in ESO, a Secret of that name adds to it
            let secret = scope.remove(REMOTE_REF).unwrap_or_default();
            scope.insert(REMOTE_REF.to_owned(), entries.into_iter().chain(secret).collect());
        }
        scope
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn send(&self, call: Call) -> Result<Answer, ProviderError> {
        match &self.login {
            Some(login) => self.client.send_ntlm(call, login, WHAT).await,
            None => self.client.send(call, WHAT).await,
        }
    }

    /// The JSONPath that leads to what is asked for; empty: none does.
    ///
    /// # Errors
    /// `Misconfigured` where the template fails.
    pub fn result_path(&self, remote_ref: Entries, now: Timestamp) -> Result<String, ProviderError> {
        let field = format!("{}.result.jsonPath", self.path);
        let path = render(&field, self.webhook.path(), &self.scope(Some(remote_ref)), now)?;
        path.expose_str().map(str::to_owned).ok_or_else(|| misconfigured(format!("{field}: the path is not UTF-8 text")))
    }

    /// The part of an answer that a path leads to, as JSON; all of it where there is no path.
    ///
    /// # Errors
    /// `Misconfigured` where the path is none; `missing`, or `Malformed`, where nothing is there.
    pub fn part(
        &self,
        body: &SecretBytes,
        path: &str,
        missing: Option<ProviderError>,
    ) -> Result<SecretBytes, ProviderError> {
        if path.is_empty() {
            return Ok(body.clone());
        }
        jsonpath::first(body, path).map_err(|error| match (error, missing) {
            (JsonPathError::Path | JsonPathError::Large, _) => {
                misconfigured(format!("{}.result.jsonPath: {error}", self.path))
            }
            (JsonPathError::Nothing, Some(missing)) => missing,
            (JsonPathError::Json | JsonPathError::Nothing, _) => malformed(&error.to_string()),
        })
    }

    /// The members of an answer, or of the part of it that a path leads to; also where that is JSON inside of a text.
    ///
    /// # Errors
    /// As [`Requests::part`]; `Malformed` where there is no object.
    pub fn members(&self, body: &SecretBytes, path: &str, missing: Option<ProviderError>) -> Result<Entries, ProviderError> {
        let part = self.part(body, path, missing)?;
        let not_json = || malformed("the answer is not JSON");
        let found = match json::parse(part.expose()).ok_or_else(not_json)? {
            Json::String(text) => json::parse(text.as_bytes()).ok_or_else(not_json)?,
            other => other,
        };
        match found {
            Json::Object(members) => Ok(members.into_iter().map(|(key, value)| (key, byte_value(&value))).collect()),
            _ => Err(malformed(&format!(
                "what the answer holds is not a JSON object: name the object with {}.result.jsonPath",
                self.path
            ))),
        }
    }

    /// Where the service is, unless a template says so.
    pub(super) fn place(&self) -> Option<&str> {
        let url = self.webhook.url.as_str();
        let end = url.find("{{").unwrap_or(url.len());
        let host = url.find("://").map_or(0, |at| at + 3);
        let whole = url[..end].len() == url.len() || url.get(host..end).is_some_and(|rest| rest.contains('/'));
        whole.then(|| &url[..end])
    }

    /// The client that the requests go out by.
    pub(super) fn client(&self) -> &HttpClient {
        &self.client
    }
}

/// Who logs in by NTLM, if that is asked for. The Secrets must say themselves that they are for it.
async fn ntlm(webhook: &Webhook, path: &str, cx: &ConnectCx) -> Result<Option<Login>, ProviderError> {
    let Some(ntlm) = webhook.auth.as_ref().and_then(|auth| auth.ntlm.as_ref()) else { return Ok(None) };
    let path = format!("{path}.auth.ntlm");
    let value = async |selector: &SecretKeySelector, field: &str| {
        let what = format!("{path}.{field}");
        let key = selector.key.as_deref().unwrap_or_default();
        let mut entries = cx.labelled_secret(selector, LABEL, &what).await?;
        entries.remove(key).ok_or_else(|| misconfigured(format!("{what}: the Secret has no key {key:?}")))
    };
    let user = value(&ntlm.username_secret, "usernameSecret").await?;
    let password = value(&ntlm.password_secret, "passwordSecret").await?;
    Login::new(&user, password, &path).map(Some)
}

/// The time for an answer.
///
/// # Errors
/// `Misconfigured` where it is no duration.
pub fn timeout(given: Option<&str>, path: &str) -> Result<Duration, ProviderError> {
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(Call::DEADLINE) };
    let given = duration::parse(text).ok().and_then(|given| Duration::try_from(given).ok());
    match given
        .ok_or_else(|| misconfigured(format!("{path}.timeout: {text:?} is not a duration such as \"10s\", of 0 or more")))?
    {
        // For ever in Go.
        Duration::ZERO => Ok(Call::DEADLINE),
        given => Ok(given.min(LONGEST)),
    }
}

/// The time that a spec itself gives an answer; `None`: it says nothing of it, or what is wrong.
#[must_use]
pub fn asked_timeout(given: Option<&str>) -> Option<Duration> {
    given.filter(|text| !text.is_empty()).and_then(|text| timeout(Some(text), "").ok())
}

/// As in ESO, the service says with 404 that there is no such secret.
///
/// # Errors
/// The class that the status stands for. `key` names what was asked for, where there is something.
pub fn success(answer: Answer, key: Option<&str>) -> Result<SecretBytes, ProviderError> {
    match (answer.status, key) {
        (StatusCode::NOT_FOUND, Some(key)) => Err(ProviderError::not_found(key)),
        (StatusCode::NOT_FOUND, None) => {
            Err(ProviderError::new(ErrorKind::NotFound, format!("{WHAT}: Secret does not exist (404)")))
        }
        (StatusCode::NOT_MODIFIED, _) => {
            Err(malformed("the server says that nothing has changed (304), but nothing was kept"))
        }
        _ => Ok(answer.success(WHAT)?.body),
    }
}

fn render(
    field: &str,
    template: &str,
    scope: &BTreeMap<String, Entries>,
    now: Timestamp,
) -> Result<SecretBytes, ProviderError> {
    let mut engine = Engine::new(now, &SystemChance);
    engine.missing = Missing::NoValue;
    engine.render_groups(field, template, scope).map_err(|error| misconfigured(error.to_string()))
}

/// As Go's `url.QueryEscape`, which is what ESO's templates see.
fn escaped(value: &SecretBytes) -> SecretBytes {
    let mut text = Vec::with_capacity(value.expose().len() * 3);
    for byte in value.expose() {
        match byte {
            b' ' => text.push(b'+'),
            b'-' | b'.' | b'_' | b'~' => text.push(*byte),
            _ if byte.is_ascii_alphanumeric() => text.push(*byte),
            _ => text.extend(format!("%{byte:02X}").bytes()),
        }
    }
    SecretBytes::new(text)
}

/// An answer that makes no sense.
pub fn malformed(text: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, format!("{WHAT}: {text}"))
}

fn misconfigured(detail: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, detail)
}
