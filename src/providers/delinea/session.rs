//! A logged-in client of DevOps Secrets Vault.

use std::time::Duration;

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{Delinea, misconfigured};
use crate::outbound::{Answer, Call, HttpClient, TlsOptions, secret, segment};
use crate::providers::rest::{Ask, Body, Granted, Login, Rest};
use crate::providers::{CallCx, ConnectCx, ErrorKind, Fetched, ProviderError, Session, Taker, Validation, Want};
use crate::render::{Entries, json, path};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "login to DevOps Secrets Vault";
/// Most secrets that are read together.
const BATCH: usize = 20;
/// Most requests at the same time.
const PARALLEL: usize = 4;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    #[serde(deserialize_with = "secret")]
    access_token: SecretBytes,
    #[serde(default)]
    expires_in: u64,
}

struct Client {
    config: Delinea,
    cx: ConnectCx,
    http: HttpClient,
}

#[async_trait]
impl Login for Client {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let path = "spec.provider.delinea";
        let id = self.cx.value_or_secret(&self.config.client_id, &format!("{path}.clientId")).await?;
        let password = self.cx.value_or_secret(&self.config.client_secret, &format!("{path}.clientSecret")).await?;
        let body = Body::default()
            .text("grant_type", "client_credentials")
            .text("client_id", id.expose())
            .text("client_secret", password.expose());
        let call = Call::new(Method::POST, &self.config.url("token", "")?, &format!("{path}.urlTemplate"))?;
        let answer = self.http.send(call.json(body.build()), WHAT).await?;
        if matches!(answer.status.as_u16(), 400 | 401 | 403) && answer.refusal(WHAT).kind != ErrorKind::Throttled {
            let text = format!("{WHAT}: the vault does not accept the credentials ({})", answer.status.as_u16());
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        let LoggedIn { access_token, expires_in } = answer.success(WHAT)?.json(WHAT)?;
        Ok(Granted { token: access_token, life: (expires_in > 0).then(|| Duration::from_secs(expires_in)) })
    }
}

pub(super) struct DelineaSession {
    rest: Rest,
    client: Client,
}

impl DelineaSession {
    pub(super) async fn open(config: &Delinea, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let rest = Rest::open(&TlsOptions::default(), "spec.provider.delinea", cx)?;
        let client = Client { config: config.clone(), cx: cx.clone(), http: rest.http() };
        rest.log_in(&client).await?;
        Ok(Self { rest, client })
    }

    async fn fetch(&self, want: &Want, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let what = format!("secret {:?} of DevOps Secrets Vault", want.key);
        if !want.version.is_empty() {
            let text = format!("{what}: specifying a version is not yet supported");
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let steps: Vec<&str> = want.key.split('/').filter(|step| !step.is_empty()).collect();
        if steps.is_empty() || steps.iter().any(|step| matches!(*step, "." | "..")) {
            return Err(misconfigured(format!("{what}: the key is no path, or holds a step like \"..\"")));
        }
        let steps: Vec<String> = steps.into_iter().map(segment).collect();
        let url = self.client.config.url("secrets", &format!("/{}", steps.join("/")))?;
        let ask = Ask { name: "getSecret", what: &what, cx };
        let make =
            |token: &SecretBytes| Call::new(Method::GET, &url, "spec.provider.delinea.urlTemplate")?.bearer(token, &what);
        let answer = self.rest.ask(&ask, &self.client, &make).await?;
        if is_missing(&answer) {
            return Err(ProviderError::not_found(&want.key));
        }
        read(answer.success(&what)?, &what)
    }
}

/// Whether the vault itself says that there is no such secret. Any other 404 is of somebody between, or of a wrong address.
fn is_missing(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Said {
        code: u16,
        #[serde(rename = "message")]
        _message: String,
    }
    answer.status == StatusCode::NOT_FOUND && answer.json::<Said>("").is_ok_and(|said| said.code == 404)
}

/// The secret's map, as JSON with its keys sorted, as ESO hands it out; nothing where there is none.
fn read(answer: Answer, what: &str) -> Result<Fetched, ProviderError> {
    let malformed =
        || ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer is not the JSON that such a server sends"));
    let members = json::members(answer.body.expose()).ok_or_else(malformed)?;
    let raw = |name: &str| members.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| *raw);
    let bytes = match raw("data").ok_or_else(malformed)? {
        b"null" => SecretBytes::default(),
        data => json::exact::sorted(data).ok_or_else(malformed)?,
    };
    let version = raw("version").map(json::unquoted).and_then(|version| version.expose_str().map(str::to_owned));
    Ok(Fetched { bytes, version, request_id: None })
}

/// Secrets that are maps. A property that is not there counts as a secret that is not, as in ESO.
pub(super) struct Map;

impl Taker for Map {
    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        path::escaped_then_path(value, property).ok_or_else(|| {
            ProviderError::new(ErrorKind::NotFound, ProviderError::missing_property(&want.key, property).detail)
        })
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        let part = property.map(|property| self.property(want, value, property)).transpose()?;
        let value = part.as_ref().unwrap_or(value);
        if value.is_empty() {
            return Ok(Entries::new());
        }
        let members = json::members(value.expose()).filter(|_| path::is_json_object(value));
        let entries = members.and_then(|members| {
            members.into_iter().map(|(key, raw)| Some((key, json::exact::byte_value(raw)?))).collect::<Option<Entries>>()
        });
        entries.ok_or_else(|| {
            ProviderError::new(ErrorKind::Malformed, format!("the value of {:?} is not a JSON object", want.key))
        })
    }
}

#[async_trait]
impl Session for DelineaSession {
    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let reads: Vec<_> = wants.iter().map(|want| self.fetch(want, cx)).collect();
        stream::iter(reads).buffered(PARALLEL).collect().await
    }

    /// The login is the check: it was made, or is made now.
    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        self.rest.log_in(&self.client).await.map(|()| Validation::Ready)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        Map.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        Map.extract(want, value, property)
    }
}
