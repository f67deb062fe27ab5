//! Calls of GitHub's REST API.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto_box::PublicKey;
use crypto_box::aead::OsRng;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::app::{self, API, Installation};
use super::{Github, named};
use crate::jwt::RsaKey;
use crate::outbound::{Answer, Call, HttpClient, TlsOptions, query, segment};
use crate::providers::rest::{Ask, Body, Granted, Login, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Validation, Want,
};
use crate::render::json as render_json;
use crate::secret_bytes::SecretBytes;

const PATH: &str = "spec.provider.github";
const KEY: &str = "spec.provider.github.auth.privateKey";
const WRITE_ONLY: &str = "not implemented - this provider supports write-only operations";
/// A secret that only some repositories may use.
const SELECTED: &str = "selected";
/// Repositories on a page, and most pages.
const PER_PAGE: usize = 100;
const PAGES: usize = 100;

/// A login to one place of secrets.
pub(super) struct GithubSession {
    rest: Rest,
    login: App,
    /// `https://api.github.com/orgs/acme/actions/secrets`
    secrets: String,
    organization: bool,
    store: Github,
    written: Written,
}

struct App {
    installation: Installation,
    key: RsaKey,
    http: HttpClient,
}

#[async_trait]
impl Login for App {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let now = Timestamp::now();
        let call = self.installation.call(&self.key, now, &format!("{PATH}.url"), KEY)?;
        let (token, life) = app::token(self.http.send(call, app::WHAT).await?, now)?;
        Ok(Granted { token, life })
    }
}

/// What this session wrote, by name: GitHub tells when a secret was last changed, and never to what. So a push that is the same as
/// the last one is left out, as long as nobody else has changed the secret since.
struct Written {
    key: hmac::Key,
    last: Mutex<HashMap<String, (hmac::Tag, String)>>,
}

impl Written {
    fn new() -> Result<Self, ProviderError> {
        let random = || ProviderError::new(ErrorKind::Unavailable, "the machine gives no random numbers");
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &aws_lc_rs::rand::SystemRandom::new()).map_err(|_| random())?;
        Ok(Self { key, last: Mutex::default() })
    }

    fn is_same(&self, value: &SecretBytes, current: &Secret) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.get(&current.name).is_some_and(|(tag, at)| {
            *at == current.updated_at && hmac::verify(&self.key, value.expose(), tag.as_ref()).is_ok()
        })
    }

    fn note(&self, value: &SecretBytes, current: Secret) {
        let tag = hmac::sign(&self.key, value.expose());
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(current.name, (tag, current.updated_at));
    }
}

/// What GitHub tells of a secret.
#[derive(Clone, Deserialize)]
struct Secret {
    name: String,
    updated_at: String,
    #[serde(default)]
    visibility: Option<String>,
}

#[derive(Deserialize)]
struct Key {
    key_id: String,
    key: String,
}

#[derive(Deserialize)]
struct Repositories {
    repositories: Vec<Repository>,
}

#[derive(Deserialize)]
struct Repository {
    id: u64,
}

/// Where the API of a GitHub is: an enterprise's own has it under a path, unless its host says that it is the API.
fn api(url: Option<&str>) -> String {
    let url = url.map(str::trim).unwrap_or_default().trim_end_matches('/');
    let host = url.split_once("://").map_or(url, |(_, rest)| rest).split(['/', ':']).next().unwrap_or_default();
    if url.is_empty() || host.eq_ignore_ascii_case("github.com") {
        return API.to_owned();
    }
    match host.starts_with("api.") || host.contains(".api.") || url.ends_with("/api/v3") {
        true => url.to_owned(),
        false => format!("{url}/api/v3"),
    }
}

impl GithubSession {
    pub(super) async fn open(store: &Github, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let key = app::key(&cx.secret(&store.auth.private_key, KEY).await?, KEY)?;
        let rest = Rest::open(&TlsOptions::default(), PATH, cx)?;
        let base = api(store.url.as_deref());
        let owner = segment(&store.organization);
        let place = match (named(store.repository.as_ref()).map(segment), named(store.environment.as_ref()).map(segment)) {
            (None, _) => format!("orgs/{owner}/actions/secrets"),
            (Some(repository), None) => format!("repos/{owner}/{repository}/actions/secrets"),
            (Some(repository), Some(environment)) => {
                format!("repos/{owner}/{repository}/environments/{environment}/secrets")
            }
        };
        let secrets = format!("{base}/{place}");
        let installation = Installation { base, app: store.app_id.to_string(), id: store.installation_id.to_string() };
        let login = App { installation, key, http: rest.http() };
        rest.log_in(&login).await?;
        let organization = named(store.repository.as_ref()).is_none();
        Ok(Self { rest, login, secrets, organization, store: store.clone(), written: Written::new()? })
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        method: Method,
        url: &str,
        body: Option<&SecretBytes>,
    ) -> Result<Answer, ProviderError> {
        let make = |token: &SecretBytes| {
            let call = Call::new(method.clone(), url, &format!("{PATH}.url"))?.bearer(token, PATH)?;
            let call = call.header("accept", b"application/vnd.github+json", PATH)?;
            Ok(call.maybe_json(body))
        };
        self.rest.ask(ask, &self.login, &make).await
    }

    async fn read<T: DeserializeOwned>(&self, ask: &Ask<'_>, url: &str) -> Result<T, ProviderError> {
        success(self.send(ask, Method::GET, url, None).await?, ask.what)?.json(ask.what)
    }

    /// Lists a secret of the place: GitHub says 404, too, where the place is not there or the right to it is missing.
    async fn look(&self, cx: &CallCx) -> Result<(), ProviderError> {
        let what = "GitHub: list of the secrets";
        let url = format!("{}?per_page=1", self.secrets);
        let ask = Ask { name: "ListSecrets", what, cx };
        success(self.send(&ask, Method::GET, &url, None).await?, what).map(drop)
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{}", self.secrets, segment(name))
    }

    /// What is told of a secret; `None` where there is none.
    async fn current(&self, name: &str, cx: &CallCx) -> Result<Option<Secret>, ProviderError> {
        let what = what(name);
        let ask = Ask { name: "GetSecret", what: &what, cx };
        let answer = self.send(&ask, Method::GET, &self.url(name), None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => success(answer, &what)?.json(&what).map(Some),
        }
    }

    /// The value, so that only GitHub can read it.
    async fn sealed(&self, value: &SecretBytes, cx: &CallCx) -> Result<(String, String), ProviderError> {
        let what = "GitHub: public key for secrets";
        let Key { key_id, key } =
            self.read(&Ask { name: "GetPublicKey", what, cx }, &format!("{}/public-key", self.secrets)).await?;
        let no_key = || ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer holds no key of 32 bytes"));
        let key: [u8; 32] = STANDARD.decode(key).ok().and_then(|bytes| bytes.try_into().ok()).ok_or_else(no_key)?;
        let sealed = PublicKey::from(key).seal(&mut OsRng, value.expose()).map_err(|_| no_key())?;
        Ok((key_id, STANDARD.encode(sealed)))
    }

    /// The visibility that a secret of the organization is to have.
    fn visibility<'a>(&self, current: Option<&'a Secret>) -> Option<&'a str> {
        let wanted = self.store.org_secret_visibility.map(super::Visibility::as_str);
        self.organization.then(|| wanted.or_else(|| current?.visibility.as_deref()).unwrap_or("all"))
    }

    /// The repositories that may use a secret: a write that does not name them again would take it from them.
    async fn selected(&self, name: &str, cx: &CallCx) -> Result<Vec<u64>, ProviderError> {
        let what = format!("GitHub: repositories that may use secret {name:?}");
        let mut all = Vec::new();
        for page in 1..=PAGES {
            let (size, page) = (PER_PAGE.to_string(), page.to_string());
            let url = format!("{}/repositories?{}", self.url(name), query(&[("per_page", &size), ("page", &page)]));
            let Repositories { repositories } =
                self.read(&Ask { name: "ListSelectedRepositories", what: &what, cx }, &url).await?;
            let last = repositories.len() < PER_PAGE;
            all.extend(repositories.into_iter().map(|repository| repository.id));
            if last {
                return Ok(all);
            }
        }
        Err(ProviderError::new(ErrorKind::Malformed, format!("{what}: the list does not end")))
    }

    async fn write(
        &self,
        name: &str,
        value: &SecretBytes,
        current: Option<&Secret>,
        cx: &CallCx,
    ) -> Result<(), ProviderError> {
        let (key_id, sealed) = self.sealed(value, cx).await?;
        let mut body = Body::default().text("encrypted_value", sealed).text("key_id", key_id);
        if let Some(visibility) = self.visibility(current) {
            body = body.text("visibility", visibility);
            if visibility == SELECTED {
                body = body.raw("selected_repository_ids", json!(self.selected(name, cx).await?).to_string().as_bytes());
            }
        }
        let what = what(name);
        let ask = Ask { name: "CreateOrUpdateSecret", what: &what, cx };
        let answer = self.send(&ask, Method::PUT, &self.url(name), Some(&body.build())).await?;
        match answer.status {
            StatusCode::UNPROCESSABLE_ENTITY => {
                let text = format!(
                    "{what}: GitHub does not take it (422): names have letters, digits and \"_\" only, begin with no digit and not with \
                     GITHUB_, and a value has at most 48 KB"
                );
                Err(ProviderError::new(ErrorKind::Misconfigured, text))
            }
            _ => success(answer, &what).map(drop),
        }
    }
}

fn what(name: &str) -> String {
    format!("GitHub: secret {name:?}")
}

fn success(answer: Answer, what: &str) -> Result<Answer, ProviderError> {
    match answer.status {
        StatusCode::NOT_FOUND => {
            let text = format!(
                "{what}: GitHub knows no such organization, repository or environment, or the App's installation has no right to its \
                 secrets (404)"
            );
            Err(ProviderError::new(ErrorKind::Misconfigured, text))
        }
        _ => app::success(answer, Timestamp::now(), what),
    }
}

fn write_only() -> ProviderError {
    ProviderError::new(ErrorKind::Unsupported, WRITE_ONLY)
}

/// The value of a push. As in ESO, the values of a whole Secret are base64.
fn value(push: &Push) -> Result<SecretBytes, ProviderError> {
    if push.place.property().is_some() {
        let text = "GitHub tells no values, so no property can be set in one: leave remoteRef.property out";
        return Err(ProviderError::new(ErrorKind::Unsupported, text));
    }
    if push.secret_key.as_deref().is_some_and(|key| !key.is_empty()) {
        return push.value();
    }
    let encoded = push.source.data.iter().map(|(key, value)| {
        let text = SecretBytes::from(STANDARD.encode(value.expose()));
        (key.clone(), text)
    });
    Ok(render_json::object_of_text(&encoded.collect()))
}

#[async_trait]
impl Session for GithubSession {
    async fn get(&self, wants: &[Want], _: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        wants.iter().map(|_| Err(write_only())).collect()
    }

    async fn find(&self, _: &FindQuery, _: &CallCx) -> Result<Vec<Found>, ProviderError> {
        Err(write_only())
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let value = value(push)?;
        let current = self.current(&push.place.key, cx).await?;
        let name = current.as_ref().map_or(push.place.key.as_str(), |secret| &secret.name);
        if let Some(current) = &current {
            let seen = self.visibility(None).filter(|_| self.store.org_secret_visibility.is_some());
            let fits = seen.is_none_or(|wanted| current.visibility.as_deref() == Some(wanted));
            if fits && self.written.is_same(&value, current) {
                return Ok(Pushed::Unchanged);
            }
        }
        self.write(name, &value, current.as_ref(), cx).await?;
        if let Some(now) = self.current(name, cx).await.map_err(|error| error.after_writing(true))? {
            self.written.note(&value, now);
        }
        Ok(Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let what = what(&place.key);
        let ask = Ask { name: "DeleteSecret", what: &what, cx };
        let answer = self.send(&ask, Method::DELETE, &self.url(&place.key), None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => self.look(cx).await,
            _ => success(answer, &what).map(drop),
        }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        Ok(self.current(&place.key, cx).await?.is_some())
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        self.look(cx).await.map(|()| Validation::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_enterprises_api_has_a_path() {
        for (url, expected) in [
            (None, "https://api.github.com"),
            (Some(""), "https://api.github.com"),
            (Some("https://github.com/"), "https://api.github.com"),
            (Some("https://git.example.test/"), "https://git.example.test/api/v3"),
            (Some("http://127.0.0.1:80"), "http://127.0.0.1:80/api/v3"),
            (Some("https://git.example.test/api/v3/"), "https://git.example.test/api/v3"),
            (Some("https://api.example.ghe.test"), "https://api.example.ghe.test"),
        ] {
            assert_eq!(api(url), expected, "{url:?}");
        }
    }
}
