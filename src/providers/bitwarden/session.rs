//! A client of the `bitwarden-sdk-server`. It logs in to Bitwarden for every request, which Bitwarden limits, so what can be asked for
//! together is.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::values::Text;
use super::{Bitwarden, misconfigured};
use crate::outbound::{Answer, Call, TlsOptions, secret};
use crate::providers::push::{self, Left};
use crate::providers::rest::{Ask, Body, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Taker as _,
    Validation, Want,
};
use crate::render::Entries;
use crate::secret_bytes::SecretBytes;

/// Most secrets in one call of a batch.
const BATCH: usize = 50;

#[derive(Deserialize)]
struct Identifiers {
    data: Vec<Identifier>,
}

#[derive(Clone, Deserialize)]
struct Identifier {
    id: String,
    key: String,
}

#[derive(Deserialize)]
struct Many {
    data: Vec<Entry>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    id: String,
    key: String,
    #[serde(deserialize_with = "secret")]
    value: SecretBytes,
    #[serde(default)]
    note: String,
    #[serde(default)]
    project_id: Option<String>,
    #[serde(default)]
    revision_date: Option<String>,
}

#[derive(Deserialize)]
struct Deleted {
    data: Vec<Gone>,
}

#[derive(Deserialize)]
struct Gone {
    #[serde(default)]
    error: Option<String>,
}

/// The `spec` of an entry's metadata block. ESO also takes the note without a block around it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PushMetadata {
    note: String,
}

impl PushMetadata {
    fn of(place: &Place) -> Result<Self, ProviderError> {
        match place.metadata.as_ref().and_then(|block| block.get("note")) {
            Some(note) => Ok(Self { note: note.as_str().unwrap_or_default().to_owned() }),
            None => Ok(push::metadata(place.metadata.as_ref())?.unwrap_or_default()),
        }
    }
}

pub(super) struct BitwardenSession {
    config: Bitwarden,
    rest: Rest,
    token: SecretBytes,
}

impl BitwardenSession {
    pub(super) async fn open(config: &Bitwarden, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let path = "spec.provider.bitwardensecretsmanager";
        let bundle = config.ca_bundle.as_deref().map(str::as_bytes).filter(|bytes| !bytes.is_empty());
        let ca = cx.ca_bundle(bundle, config.ca_provider.as_ref(), path).await?;
        let rest = Rest::open(&TlsOptions { ca, identity: None }, path, cx)?;
        let what = format!("{path}.auth.secretRef.credentials");
        let token = cx.secret_text(&config.auth.secret_ref.credentials, &what).await?;
        Ok(Self { config: config.clone(), rest, token })
    }

    async fn request<T: DeserializeOwned>(
        &self,
        ask: &Ask<'_>,
        method: Method,
        endpoint: &str,
        body: SecretBytes,
    ) -> Result<T, ProviderError> {
        let server = self.config.server_url.as_deref().unwrap_or_default().trim().trim_end_matches('/');
        let url = format!("{server}/rest/api/1/{endpoint}");
        let make = || {
            let call = Call::new(method.clone(), &url, "spec.provider.bitwardensecretsmanager.bitwardenServerSDKURL")?;
            let mut call = call.header("warden-access-token", self.token.expose(), ask.what)?.json(body.clone());
            for (name, url) in [("warden-api-url", &self.config.api_url), ("warden-identity-url", &self.config.identity_url)]
            {
                if let Some(url) = url.as_deref().filter(|url| !url.is_empty()) {
                    call = call.header(name, url.trim_end_matches('/').as_bytes(), ask.what)?;
                }
            }
            Ok(call)
        };
        let answer = self.rest.send(ask, &make).await?;
        if answer.status.is_success() { answer.json(ask.what) } else { Err(refusal(&answer, ask.what)) }
    }

    /// Id and name of every secret of the organization that the machine account may read.
    async fn list(&self, what: &str, cx: &CallCx) -> Result<Vec<Identifier>, ProviderError> {
        let ask = Ask { name: "listSecrets", what, cx };
        let body = Body::default().text("organizationID", &self.config.organization_id).build();
        Ok(self.request::<Identifiers>(&ask, Method::GET, "secrets", body).await?.data)
    }

    async fn by_ids(&self, ids: &[String], what: &str, cx: &CallCx) -> Result<Vec<Entry>, ProviderError> {
        let mut entries = Vec::new();
        for chunk in ids.chunks(BATCH) {
            let ask = Ask { name: "getSecretsByIds", what, cx };
            let list = serde_json::Value::from(chunk.to_vec()).to_string();
            let body = Body::default().raw("ids", list.as_bytes()).build();
            entries.extend(self.request::<Many>(&ask, Method::GET, "secrets-by-ids", body).await?.data);
        }
        Ok(entries)
    }

    async fn by_id(&self, id: &str, what: &str, cx: &CallCx) -> Result<Option<Entry>, ProviderError> {
        let ask = Ask { name: "getSecret", what, cx };
        let body = Body::default().text("id", id).build();
        match self.request(&ask, Method::GET, "secret", body).await {
            Ok(entry) => Ok(Some(entry)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The secrets of the store's project that have one of these names, or one of these ids, whatever their project.
    async fn read(&self, keys: &HashSet<&str>, what: &str, cx: &CallCx) -> Result<Vec<Entry>, ProviderError> {
        let listed = self.list(what, cx).await?;
        let wanted = |found: &Identifier| keys.contains(found.id.as_str()) || keys.contains(found.key.as_str());
        let ids: Vec<String> = listed.into_iter().filter(wanted).map(|found| found.id).collect();
        self.by_ids(&ids, what, cx).await
    }

    /// The secret of a place: by its id, or by its name in the store's project.
    async fn at(&self, key: &str, cx: &CallCx) -> Result<Option<Entry>, ProviderError> {
        let what = format!("secret {key:?} of Bitwarden");
        if is_id(key) {
            return self.by_id(key, &what, cx).await;
        }
        let entries = self.read(&HashSet::from([key]), &what, cx).await?;
        self.one(key, &entries)
    }

    fn one(&self, key: &str, entries: &[Entry]) -> Result<Option<Entry>, ProviderError> {
        let project = &self.config.project_id;
        let here = |entry: &&Entry| match is_id(key) {
            true => entry.id.eq_ignore_ascii_case(key),
            false => entry.key == key && entry.project_id.as_ref() == Some(project),
        };
        let mut found = entries.iter().filter(here);
        match (found.next(), found.next()) {
            (Some(_), Some(_)) => Err(misconfigured(format!(
                "more than one secret found for project {project} with key {key}: name it by its id, or rename the others"
            ))),
            (found, _) => Ok(found.cloned()),
        }
    }

    async fn write(
        &self,
        place: &Place,
        there: Option<&Entry>,
        note: &str,
        value: &SecretBytes,
        cx: &CallCx,
    ) -> Result<(), ProviderError> {
        let what = format!("secret {:?} of Bitwarden", place.key);
        if value.expose_str().is_none() {
            return Err(misconfigured(format!("{what}: the value is no UTF-8 text, which is all that Bitwarden keeps")));
        }
        let projects = serde_json::Value::from(vec![self.config.project_id.clone()]).to_string();
        let body = Body::default()
            .text("key", there.map_or(&place.key, |entry| &entry.key))
            .text("note", note)
            .text("organizationId", &self.config.organization_id)
            .raw("projectIds", projects.as_bytes())
            .text("value", value.expose());
        let (name, method, body) = match there {
            Some(entry) => ("updateSecret", Method::PUT, body.text("id", &entry.id)),
            None => ("createSecret", Method::POST, body),
        };
        let ask = Ask { name, what: &what, cx };
        self.request::<serde::de::IgnoredAny>(&ask, method, "secret", body.build()).await.map(drop)
    }
}

/// Whether a key is an id rather than a name.
fn is_id(key: &str) -> bool {
    let parts: Vec<&str> = key.split('-').collect();
    let hex = parts.iter().all(|part| part.bytes().all(|b| b.is_ascii_hexdigit()));
    hex && parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
}

/// The server answers 400 to whatever fails, and quotes the status that Bitwarden gave it.
fn refusal(answer: &Answer, what: &str) -> ProviderError {
    let error = answer.refusal(what);
    if answer.status != StatusCode::BAD_REQUEST {
        return error;
    }
    let said = String::from_utf8_lossy(answer.body.expose());
    let quoted = said.split_once("server: [").and_then(|(_, rest)| rest.get(..3)?.parse::<u16>().ok());
    let login = said.starts_with("failed to login");
    let denied = || {
        let text = format!("{what}: Bitwarden does not accept the access token: see auth.secretRef.credentials");
        ProviderError::new(ErrorKind::Denied, text)
    };
    match quoted {
        Some(400 | 401 | 403 | 404) if login => denied(),
        None if login => denied(),
        Some(404) => ProviderError::new(ErrorKind::NotFound, format!("{what}: there is none, or none that may be read")),
        Some(status) if status != 400 => match StatusCode::from_u16(status) {
            Ok(status) => Answer { status, headers: answer.headers.clone(), body: SecretBytes::default() }.refusal(what),
            Err(_) => error,
        },
        _ => error,
    }
}

#[async_trait]
impl Session for BitwardenSession {
    fn batch_size(&self) -> usize {
        BATCH
    }

    /// One list and one read for all names; ids are read alone, or with them where there are several.
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        if let [want] = wants {
            let found = self.at(&want.key, cx).await;
            return vec![
                checked(want).and_then(|()| found?.map(fetched).ok_or_else(|| ProviderError::not_found(&want.key))),
            ];
        }
        let keys = wants.iter().map(|want| want.key.as_str()).collect();
        let entries = self.read(&keys, "secrets of Bitwarden", cx).await;
        let result = |want: &Want| {
            checked(want)?;
            let found = self.one(&want.key, entries.as_ref().map_err(Clone::clone)?)?;
            found.map(fetched).ok_or_else(|| ProviderError::not_found(&want.key))
        };
        wants.iter().map(result).collect()
    }

    /// Without a name: all secrets of the organization, by their ids, as in ESO. With one: those of the store's project whose names
    /// match, by their names.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        if !query.tags.is_empty() || !query.path.is_empty() {
            let text = "Bitwarden has neither folders nor tags: use find.name";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let regex = query.matcher()?;
        let what = "secrets of Bitwarden";
        let listed = self.list(what, cx).await?;
        let ids: Vec<String> = listed.into_iter().filter(|found| regex.is_match(&found.key)).map(|found| found.id).collect();
        let entries = self.by_ids(&ids, what, cx).await?;
        if query.name.is_empty() {
            return Ok(entries.into_iter().map(|entry| Found { name: entry.id, bytes: entry.value }).collect());
        }
        let mut found = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.project_id.as_ref() == Some(&self.config.project_id)) {
            let one = self.one(&entry.key, &entries)?;
            found.extend(one.map(|entry| (entry.key, entry.value)));
        }
        Ok(found.into_iter().map(|(name, bytes)| Found { name, bytes }).collect())
    }

    /// A secret of that name that has another note is somebody else's.
    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let note = PushMetadata::of(&push.place)?.note;
        let there = self.at(&push.place.key, cx).await?;
        if there.is_none() && is_id(&push.place.key) {
            return Err(misconfigured(format!(
                "remoteRef.remoteKey {:?} is an id, and a new secret needs a name",
                push.place.key
            )));
        }
        if there.as_ref().is_some_and(|entry| entry.note != note) {
            let text = format!(
                "secret {:?} of Bitwarden is there with another note, so it is taken for somebody else's: delete it, or give its \
                 note in the metadata of the push",
                push.place.key
            );
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        let current = there.as_ref().map(|entry| &entry.value);
        let value = push.merged(current)?;
        if current == Some(&value) {
            return Ok(Pushed::Unchanged);
        }
        self.write(&push.place, there.as_ref(), &note, &value, cx).await?;
        Ok(Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let note = PushMetadata::of(place).unwrap_or_default().note;
        let Some(entry) = self.at(&place.key, cx).await?.filter(|entry| entry.note == note) else { return Ok(()) };
        match place.left_of(&entry.value) {
            Left::All => return Ok(()),
            Left::Some(left) => return self.write(place, Some(&entry), &note, &left, cx).await,
            Left::Nothing => {}
        }
        let what = format!("secret {:?} of Bitwarden", place.key);
        let ask = Ask { name: "deleteSecret", what: &what, cx };
        let body = Body::default().raw("ids", serde_json::Value::from(vec![entry.id]).to_string().as_bytes()).build();
        let deleted: Deleted = self.request(&ask, Method::DELETE, "secret", body).await?;
        match deleted.data.iter().any(|gone| gone.error.is_some()) {
            true => Err(ProviderError::new(
                ErrorKind::Denied,
                format!("{what}: Bitwarden does not delete it: check the rights of the machine account"),
            )),
            false => Ok(()),
        }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        Ok(self.at(&place.key, cx).await?.is_some_and(|entry| place.is_in(&entry.value)))
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        self.list("check of the organization", cx).await.map(|_| Validation::Ready)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        Text.extract(want, value, property)
    }
}

fn checked(want: &Want) -> Result<(), ProviderError> {
    if want.version.is_empty() {
        return Ok(());
    }
    let text = format!("secret {:?} of Bitwarden: it keeps one version only: leave remoteRef.version out", want.key);
    Err(ProviderError::new(ErrorKind::Unsupported, text))
}

fn fetched(entry: Entry) -> Fetched {
    Fetched { bytes: entry.value, version: entry.revision_date, request_id: None }
}
