//! Calls of Doppler's API (v3).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Doppler, OidcAuth};
use crate::api::external_secret::MetadataPolicy;
use crate::api::secret_store::StoreKind;
use crate::outbound::{Answer, Call, HttpClient, TlsOptions, query, secret};
use crate::providers::push::Left;
use crate::providers::rest::{Ask, Body, Granted, Login, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Validation, Want,
};
use crate::render::json;
use crate::secret_bytes::SecretBytes;

/// Where Doppler is, unless the operator's environment says otherwise.
const API: &str = "https://api.doppler.com";
const BASE_URL: &str = "DOPPLER_BASE_URL";
const VERIFY_TLS: &str = "DOPPLER_VERIFY_TLS";
/// Where the block stands in the object.
const PATH: &str = "spec.provider.doppler";
/// How long a ServiceAccount's token holds where nothing is said, in seconds.
const EXPIRATION: i64 = 600;
/// The key of all secrets as one file.
const FILE: &str = "DOPPLER_SECRETS_FILE";
/// The format of a download whose keys are taken apart.
const JSON: &str = "json";
/// One download has all keys: as many wants as may come.
const BATCH: usize = 1000;

/// A login to one config.
pub(super) struct DopplerSession {
    rest: Rest,
    login: Auth,
    base: String,
    store: Doppler,
    /// The last download of each kind.
    values: Mutex<Option<Kept>>,
    shaped: Mutex<Option<Kept>>,
}

/// A download, and the tag by which Doppler tells whether it is still the same.
#[derive(Clone)]
struct Kept {
    tag: SecretBytes,
    body: Arc<SecretBytes>,
}

/// How the session gets its token.
enum Auth {
    Token(SecretBytes),
    Oidc(Box<Oidc>),
}

struct Oidc {
    auth: OidcAuth,
    base: String,
    http: HttpClient,
    cx: ConnectCx,
}

impl DopplerSession {
    pub(super) async fn open(store: &Doppler, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let given = cx.env.get(BASE_URL).map(|url| url.trim().trim_end_matches('/')).filter(|url| !url.is_empty());
        let base = match given {
            None => API.to_owned(),
            Some(url) if url.contains("://") => url.to_owned(),
            Some(host) => format!("https://{host}"),
        };
        let http = match cx.env.get(VERIFY_TLS).map(String::as_str) {
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => cx.outbound.unverified(PATH)?,
            _ => cx.outbound.client(&TlsOptions::default(), PATH)?,
        };
        let login = match (&store.auth.secret_ref, &store.auth.oidc_config) {
            (Some(auth), _) => {
                Auth::Token(cx.secret_text(&auth.selector(), &format!("{PATH}.auth.secretRef.dopplerToken")).await?)
            }
            (None, Some(auth)) => {
                Auth::Oidc(Box::new(Oidc { auth: auth.clone(), base: base.clone(), http: http.clone(), cx: cx.clone() }))
            }
            (None, None) => {
                let text = format!("{PATH}.auth: either secretRef or oidcConfig must be specified");
                return Err(ProviderError::new(ErrorKind::Misconfigured, text));
            }
        };
        let session = Self {
            rest: Rest::over(http, cx)?,
            login,
            base,
            store: store.clone(),
            values: Mutex::default(),
            shaped: Mutex::default(),
        };
        session.rest.log_in(&session.login).await?;
        Ok(session)
    }

    /// Project and config, with more.
    fn url(&self, path: &str, more: &[(&str, &str)]) -> String {
        let place = [("project", &self.store.project), ("config", &self.store.config)];
        let named = place.iter().filter_map(|(name, value)| Some((*name, value.as_deref().filter(|v| !v.is_empty())?)));
        let pairs: Vec<(&str, &str)> = named.chain(more.iter().copied()).collect();
        format!("{}/v3/configs/config/{path}?{}", self.base, query(&pairs))
    }

    /// A download: the one that is kept where Doppler says that nothing has changed.
    async fn download(
        &self,
        format: &str,
        more: Option<(&str, &str)>,
        kept: &Mutex<Option<Kept>>,
        cx: &CallCx,
    ) -> Result<Arc<SecretBytes>, ProviderError> {
        let what = "Doppler: download of the config's secrets";
        let pairs: Vec<_> = [("format", format)].into_iter().chain(more).collect();
        let url = self.url("secrets/download", &pairs);
        let accept: &[u8] = if format == JSON { b"application/json" } else { b"text/plain" };
        let last = kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let make = |token: &SecretBytes| {
            let call = Call::new(Method::GET, &url, PATH)?.bearer(token, what)?.header("accept", accept, what)?;
            match &last {
                Some(last) => call.header("if-none-match", last.tag.expose(), what),
                None => Ok(call),
            }
        };
        let answer = self.rest.ask(&Ask { name: "DownloadSecrets", what, cx }, &self.login, &make).await?;
        match last {
            Some(last) if answer.status == StatusCode::NOT_MODIFIED => return Ok(last.body),
            _ => {}
        }
        let answer = success(answer, what)?;
        let tag = answer.headers.get("etag").map(|tag| SecretBytes::from(tag.to_str().unwrap_or_default()));
        let body = Arc::new(answer.body);
        *kept.lock().unwrap_or_else(PoisonError::into_inner) =
            tag.filter(|tag| !tag.is_empty()).map(|tag| Kept { tag, body: body.clone() });
        Ok(body)
    }

    /// All secrets as a JSON object of texts.
    async fn values(&self, cx: &CallCx) -> Result<Arc<SecretBytes>, ProviderError> {
        self.download(JSON, None, &self.values, cx).await
    }

    /// A secret as it was written, with its references to others unresolved. None: there is none. `Some(None)`: there is one
    /// that Doppler shows to nobody.
    async fn written(&self, name: &str, cx: &CallCx) -> Result<Option<Option<SecretBytes>>, ProviderError> {
        let what = format!("Doppler: secret {name:?}");
        let url = self.url("secret", &[("name", name)]);
        let make = |token: &SecretBytes| Call::new(Method::GET, &url, PATH)?.bearer(token, &what);
        let answer = self.rest.ask(&Ask { name: "GetSecret", what: &what, cx }, &self.login, &make).await?;
        if is_missing_secret(&answer) {
            return Ok(None);
        }
        let Shown { value } = success(answer, &what)?.json(&what)?;
        Ok(Some(value.raw))
    }

    /// Changes secrets: `changes` is a part of the request's JSON.
    async fn update(&self, part: &str, changes: &SecretBytes, what: &str, cx: &CallCx) -> Result<(), ProviderError> {
        let place = [("project", &self.store.project), ("config", &self.store.config)];
        let body = place.into_iter().filter_map(|(name, value)| Some((name, value.as_deref().filter(|v| !v.is_empty())?)));
        let body = body.fold(Body::default(), |body, (name, value)| body.text(name, value));
        let body = body.raw(part, changes.expose()).build();
        let url = format!("{}/v3/configs/config/secrets", self.base);
        let make = |token: &SecretBytes| Ok(Call::new(Method::POST, &url, PATH)?.bearer(token, what)?.json(body.clone()));
        let answer = self.rest.ask(&Ask { name: "UpdateSecrets", what, cx }, &self.login, &make).await?;
        success(answer, what).map(drop)
    }

    async fn write(&self, name: &str, value: &SecretBytes, cx: &CallCx) -> Result<(), ProviderError> {
        let what = format!("Doppler: secret {name:?}");
        if value.expose_str().is_none() {
            let text = format!("{what}: Doppler keeps text, and the value is none: encode it in the template");
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        self.update("secrets", &Body::default().text(name, value.expose()).build(), &what, cx).await
    }
}

/// What Doppler says of one secret.
#[derive(Deserialize)]
struct Shown {
    value: ShownValue,
}

#[derive(Deserialize)]
struct ShownValue {
    #[serde(default, deserialize_with = "shown")]
    raw: Option<SecretBytes>,
}

fn shown<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SecretBytes>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretBytes::from))
}

/// "Could not find requested secret": a project or config that is not there is told in other words.
fn is_missing_secret(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Said {
        messages: Vec<String>,
    }
    let of_secret = |said: Said| said.messages.iter().any(|text| text.starts_with("Could not find requested secret"));
    answer.status == StatusCode::NOT_FOUND && answer.json::<Said>("").is_ok_and(of_secret)
}

/// Doppler's own statuses, where they mean something else than everywhere.
fn success(answer: Answer, what: &str) -> Result<Answer, ProviderError> {
    match answer.status {
        StatusCode::NOT_FOUND => {
            let text = format!("{what}: Doppler knows no such project or config, or the token is for another one (404)");
            Err(ProviderError::new(ErrorKind::Misconfigured, text))
        }
        _ => answer.success(what),
    }
}

fn members(body: &SecretBytes) -> Result<Vec<(String, &[u8])>, ProviderError> {
    json::members(body.expose()).ok_or_else(|| {
        ProviderError::new(ErrorKind::Malformed, "Doppler: the download is not the JSON object that Doppler sends")
    })
}

fn refuse_metadata(wants: bool) -> Result<(), ProviderError> {
    let text = "Doppler keeps no tags: leave metadataPolicy and find.tags out";
    if wants { Err(ProviderError::new(ErrorKind::Unsupported, text)) } else { Ok(()) }
}

#[async_trait]
impl Session for DopplerSession {
    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let body = match self.values(cx).await {
            Ok(body) => body,
            Err(error) => return wants.iter().map(|_| Err(error.clone())).collect(),
        };
        let all = match members(&body) {
            Ok(all) => all,
            Err(error) => return wants.iter().map(|_| Err(error.clone())).collect(),
        };
        let one = |want: &Want| {
            refuse_metadata(want.metadata != MetadataPolicy::None)?;
            let found = all.iter().rev().find(|(name, _)| *name == want.key);
            let (_, raw) = found.ok_or_else(|| ProviderError::not_found(&want.key))?;
            Ok(Fetched { bytes: json::unquoted(raw), ..Fetched::default() })
        };
        wants.iter().map(one).collect()
    }

    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        refuse_metadata(!query.tags.is_empty())?;
        let name = query.matcher()?;
        let transform = self.store.name_transformer.map(|by| ("name_transformer", by.as_str()));
        let format = self.store.format.map_or(JSON, |format| format.as_str());
        let body = self.download(format, transform, &self.shaped, cx).await?;
        let all = match self.store.format {
            Some(_) => vec![Found { name: FILE.to_owned(), bytes: body.as_ref().clone() }],
            None => {
                let found = |(name, raw)| Found { name, bytes: json::unquoted(raw) };
                members(&body)?.into_iter().map(found).collect()
            }
        };
        let wanted = |found: &Found| name.is_match(&found.name) && found.name.starts_with(&query.path);
        Ok(all.into_iter().filter(wanted).collect())
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        push.value()?;
        let current = self.written(&push.place.key, cx).await?;
        if matches!(current, Some(None)) && push.place.property().is_some() {
            let text = format!(
                "Doppler shows the value of {:?} to nobody (its visibility is restricted), so no property can be set in it: \
                 leave remoteRef.property out",
                push.place.key
            );
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        let current = current.flatten();
        let value = push.merged(current.as_ref())?;
        if current.is_some_and(|current| current == value) {
            return Ok(Pushed::Unchanged);
        }
        self.write(&push.place.key, &value, cx).await?;
        Ok(Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let Some(current) = self.written(&place.key, cx).await? else { return Ok(()) };
        match place.left_of(&current.unwrap_or_default()) {
            Left::All => Ok(()),
            Left::Some(left) => self.write(&place.key, &left, cx).await,
            Left::Nothing => {
                let change = Body::default()
                    .text("name", &place.key)
                    .text("originalName", &place.key)
                    .raw("value", b"null")
                    .raw("shouldDelete", b"true")
                    .build();
                let changes = SecretBytes::new([b"[", change.expose(), b"]"].concat());
                self.update("change_requests", &changes, &format!("Doppler: secret {:?}", place.key), cx).await
            }
        }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let current = self.written(&place.key, cx).await?;
        Ok(current.is_some_and(|current| place.is_in(&current.unwrap_or_default())))
    }

    /// Downloads as a sync does: Doppler has no body to send where nothing has changed, and a project or config that is not
    /// there is told at once.
    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        self.values(cx).await.map(|_| Validation::Ready)
    }
}

#[async_trait]
impl Login for Auth {
    async fn login(&self) -> Result<Granted, ProviderError> {
        match self {
            Self::Token(token) => Ok(Granted { token: token.clone(), life: None }),
            Self::Oidc(oidc) => oidc.exchange().await,
        }
    }

    fn is_stale(&self, answer: &Answer) -> bool {
        matches!(self, Self::Oidc(_)) && answer.status == StatusCode::UNAUTHORIZED
    }
}

impl Oidc {
    /// The audiences of the ServiceAccount's token: as in ESO, one of them is the store's own, so that no other store can use it.
    fn audiences(&self) -> Vec<String> {
        let own = match self.cx.store_kind {
            StoreKind::SecretStore => format!("secretStore:{}:{}", self.cx.namespace, self.cx.store_name),
            StoreKind::ClusterSecretStore => format!("clusterSecretStore:{}", self.cx.store_name),
        };
        let named = &self.auth.service_account_ref.audiences;
        let first = if named.is_empty() { vec![self.base.clone()] } else { named.clone() };
        first.into_iter().chain([own]).collect()
    }

    async fn exchange(&self) -> Result<Granted, ProviderError> {
        let path = format!("{PATH}.auth.oidcConfig");
        let seconds = self.auth.expiration_seconds.unwrap_or(EXPIRATION);
        let account = &self.auth.service_account_ref;
        let shown = self.cx.token(account, self.audiences(), Some(seconds), &format!("{path}.serviceAccountRef")).await?;
        let what = "Doppler: login by OIDC";
        let body = Body::default().text("identity", &self.auth.identity).text("token", shown.expose()).build();
        let call = Call::new(Method::POST, &format!("{}/v3/auth/oidc", self.base), PATH)?.json(body);
        let answer = self.http.send(call, what).await?;
        let Exchanged { token, expires_at } = answer.success(what)?.json(what)?;
        let life = Duration::try_from(expires_at.duration_since(Timestamp::now())).unwrap_or_default();
        Ok(Granted { token, life: Some(life) })
    }
}

/// What Doppler gives for a ServiceAccount's token.
#[derive(Deserialize)]
struct Exchanged {
    #[serde(deserialize_with = "secret")]
    token: SecretBytes,
    expires_at: Timestamp,
}
