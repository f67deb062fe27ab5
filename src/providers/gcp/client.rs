//! A client of Secret Manager's REST API: one project, one login.

use std::time::Duration;

use async_trait::async_trait;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::config::{PATH, SecretManager};
use super::{Endpoints, misconfigured};
use crate::api::generators::GcrAuth;
use crate::outbound::{Answer, Call, TlsOptions, query, segment};
use crate::providers::rest::{Ask, Granted, Login, Rest};
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Where the login stands in a store.
const AUTH: &str = "spec.provider.gcpsm.auth";
/// Time that one try may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// Most bytes of a page of secrets, whose annotations may be 16 KiB each.
const MAX_ANSWER: usize = 16 << 20;

/// What is asked of Secret Manager: its name as in Google's clients and ESO's metrics, and the right that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    name: &'static str,
    right: &'static str,
}

impl Action {
    pub(super) const ACCESS: Self = Self { name: "AccessSecretVersion", right: "secretmanager.versions.access" };
    pub(super) const VERSIONS: Self = Self { name: "ListSecretVersions", right: "secretmanager.versions.list" };
    pub(super) const ADD: Self = Self { name: "AddSecretVersion", right: "secretmanager.versions.add" };
    pub(super) const GET: Self = Self { name: "GetSecret", right: "secretmanager.secrets.get" };
    pub(super) const LIST: Self = Self { name: "ListSecrets", right: "secretmanager.secrets.list" };
    pub(super) const CREATE: Self = Self { name: "CreateSecret", right: "secretmanager.secrets.create" };
    pub(super) const UPDATE: Self = Self { name: "UpdateSecret", right: "secretmanager.secrets.update" };
    pub(super) const DELETE: Self = Self { name: "DeleteSecret", right: "secretmanager.secrets.delete" };
}

/// A request.
pub(super) struct Request<'a> {
    pub action: Action,
    pub method: Method,
    /// Path without `/v1/`.
    pub path: String,
    pub query: Vec<(&'static str, String)>,
    pub body: Option<SecretBytes>,
    /// Key that it is about; empty for all.
    pub key: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn get(action: Action, path: String, key: &'a str) -> Self {
        Self { action, method: Method::GET, path, query: Vec::new(), body: None, key }
    }

    pub(super) fn write(action: Action, method: Method, path: String, body: Option<SecretBytes>, key: &'a str) -> Self {
        Self { method, body, ..Self::get(action, path, key) }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    fn what(&self) -> String {
        match self.key {
            "" => self.action.name.to_owned(),
            key => format!("{} of {key:?}", self.action.name),
        }
    }
}

/// A client that is logged in.
pub(super) struct Client {
    rest: Rest,
    endpoint: String,
    /// `projects/p` or `projects/p/locations/l`, as it stands in paths.
    parent: String,
    project: String,
    pub(super) location: Option<String>,
    auth: GcrAuth,
    cx: ConnectCx,
}

impl Client {
    /// Logs in.
    ///
    /// # Errors
    /// `Misconfigured` where no project is known or a reference is missing; `Denied` where Google does not take the login.
    pub(super) async fn open(store: &SecretManager, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let location = store.location().map(str::to_owned);
        let usual = match &location {
            Some(location) => format!("https://secretmanager.{location}.rep.googleapis.com"),
            None => "https://secretmanager.googleapis.com".to_owned(),
        };
        let given = cx.env.get("GCP_SECRETMANAGER_ENDPOINT").filter(|url| !url.is_empty());
        let mut client = Self {
            rest: Rest::open(&TlsOptions::default(), PATH, cx)?,
            endpoint: given.map_or(usual, |url| url.trim_end_matches('/').to_owned()),
            parent: String::new(),
            project: store.project().unwrap_or_default().to_owned(),
            location,
            auth: store.login(),
            cx: cx.clone(),
        };
        if client.project.is_empty() {
            let missing = || misconfigured(format!("unable to find ProjectID in storeSpec: set {PATH}.projectID"));
            client.project = client.credentials().own_project().await.ok_or_else(missing)?;
        }
        client.parent = match &client.location {
            Some(location) => format!("projects/{}/locations/{location}", segment(&client.project)),
            None => format!("projects/{}", segment(&client.project)),
        };
        client.log_in().await?;
        Ok(client)
    }

    fn credentials(&self) -> super::Login<'_> {
        super::Login {
            auth: &self.auth,
            project: &self.project,
            path: AUTH,
            cx: &self.cx,
            now: Timestamp::now(),
            endpoints: Endpoints::of(&self.cx),
        }
    }

    /// Logs in where there is no token that holds.
    pub(super) async fn log_in(&self) -> Result<(), ProviderError> {
        self.rest.log_in(self).await
    }

    /// Path of all secrets.
    pub(super) fn secrets(&self) -> String {
        format!("{}/secrets", self.parent)
    }

    /// Path of a secret.
    pub(super) fn secret(&self, key: &str) -> String {
        format!("{}/secrets/{}", self.parent, segment(key))
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// What the answer stands for.
    pub(super) async fn call<T: DeserializeOwned>(&self, request: &Request<'_>, cx: &CallCx) -> Result<T, ProviderError> {
        let answer = self.exchange(request, cx).await?;
        if answer.status.is_success() { answer.json(&request.what()) } else { Err(refusal(&answer, request)) }
    }

    /// Asks; the answer may be a refusal.
    ///
    /// # Errors
    /// `Unavailable` where there is no answer; those of a login.
    pub(super) async fn exchange(&self, request: &Request<'_>, cx: &CallCx) -> Result<Answer, ProviderError> {
        let what = request.what();
        let ask = Ask { name: request.action.name, what: &what, cx };
        self.rest.ask(&ask, self, &|token| self.request(request, &what)?.bearer(token, &what)).await
    }

    fn request(&self, request: &Request<'_>, what: &str) -> Result<Call, ProviderError> {
        let mut url = format!("{}/v1/{}", self.endpoint, request.path);
        if !request.query.is_empty() {
            let pairs: Vec<_> = request.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
            url.push('?');
            url.push_str(&query(&pairs));
        }
        let call = Call::new(request.method.clone(), &url, what)?.at_most(MAX_ANSWER).within(DEADLINE);
        Ok(call.maybe_json(request.body.as_ref()))
    }
}

#[async_trait]
impl Login for Client {
    async fn login(&self) -> Result<Granted, ProviderError> {
        self.credentials().access_token().await.map(crate::providers::oauth::AccessToken::granted)
    }
}

/// Google's own name of what went wrong, one of a documented list; empty where the answer is not Google's.
pub(super) fn status(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Refused {
        error: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        status: String,
    }
    serde_json::from_slice::<Refused>(answer.body.expose()).map(|refused| refused.error.status).unwrap_or_default()
}

/// What a refusal stands for. "Not found" counts only where Google says so: a proxy's 404 says nothing of a secret.
pub(super) fn refusal(answer: &Answer, request: &Request<'_>) -> ProviderError {
    let error = answer.refusal(&request.what());
    let (what, code) = (request.what(), answer.status.as_u16());
    let (kind, text) = match status(answer).as_str() {
        "NOT_FOUND" if request.key.is_empty() => {
            (ErrorKind::Misconfigured, "Google Cloud knows no such project or location".to_owned())
        }
        "NOT_FOUND" => return ProviderError::not_found(request.key),
        "PERMISSION_DENIED" if error.kind == ErrorKind::Denied => {
            (ErrorKind::Denied, format!("Google Cloud does not allow it: grant {}", request.action.right))
        }
        "FAILED_PRECONDITION" if request.action == Action::ACCESS => (
            ErrorKind::Denied,
            "the version is disabled or destroyed: enable it, name another one, or set secretVersionSelectionPolicy: LatestOrFetch"
                .to_owned(),
        ),
        "FAILED_PRECONDITION" => (ErrorKind::Conflict, "the secret is not as it was when it was read".to_owned()),
        "INVALID_ARGUMENT" => {
            (ErrorKind::Misconfigured, "Google Cloud does not take the request: check the key and the metadata".to_owned())
        }
        _ => return error,
    };
    ProviderError { kind, detail: format!("{what}: {text} ({code})"), ..error }
}
