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
/// The SDK's words where it cannot use an access token, or its key does not fit: no status of Bitwarden is quoted then. The first two are
/// of version 1, the others of version 2.
const BAD_TOKEN: [&str; 9] = [
    "Access token is not in a valid format",
    "Cryptography error",
    "Doesn't contain a decryption key",
    "Has the wrong number of parts",
    "Is the wrong version",
    "Has an invalid identifier",
    "Error decoding base64",
    "Invalid base64 length",
    "The decryption operation failed",
];
/// The SDK's words where it does not ask Bitwarden at all.
const BAD_REQUEST: [&str; 4] =
    ["Invalid command value", "must not be empty", "must not exceed", "must not contain only whitespaces"];

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

/// The secrets that were asked for, and the ids of the others that are listed.
struct Read {
    entries: Vec<Entry>,
    others: Vec<String>,
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

    /// Whether a secret has this note. The SDK takes off the space around it.
    fn is_of(&self, entry: &Entry) -> bool {
        entry.note.trim() == self.note.trim()
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
        parsed(&self.send(ask, method, endpoint, body).await?, ask.what)
    }

    async fn send(&self, ask: &Ask<'_>, method: Method, endpoint: &str, body: SecretBytes) -> Result<Answer, ProviderError> {
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
        self.rest.send(ask, &make).await
    }

    /// Id and name of every secret of the organization that the machine account may read.
    async fn list(&self, what: &str, cx: &CallCx) -> Result<Vec<Identifier>, ProviderError> {
        let ask = Ask { name: "listSecrets", what, cx };
        let body = Body::default().text("organizationID", &self.config.organization_id).build();
        Ok(self.request::<Identifiers>(&ask, Method::GET, "secrets", body).await?.data)
    }

    /// Secrets by their ids, without those that are gone: one of them fails the whole batch, so they are read singly then.
    async fn by_ids(&self, ids: &[String], what: &str, cx: &CallCx) -> Result<Vec<Entry>, ProviderError> {
        let mut entries = Vec::new();
        for chunk in ids.chunks(BATCH) {
            let ask = Ask { name: "getSecretsByIds", what, cx };
            let list = serde_json::Value::from(chunk.to_vec()).to_string();
            let body = Body::default().raw("ids", list.as_bytes()).build();
            let answer = self.send(&ask, Method::GET, "secrets-by-ids", body).await?;
            if !is_missing(&answer) {
                entries.extend(parsed::<Many>(&answer, what)?.data);
                continue;
            }
            for id in chunk {
                entries.extend(self.by_id(id, what, cx).await?);
            }
        }
        Ok(entries)
    }

    async fn by_id(&self, id: &str, what: &str, cx: &CallCx) -> Result<Option<Entry>, ProviderError> {
        let ask = Ask { name: "getSecret", what, cx };
        let body = Body::default().text("id", id).build();
        let answer = self.send(&ask, Method::GET, "secret", body).await?;
        if is_missing(&answer) { Ok(None) } else { parsed(&answer, what).map(Some) }
    }

    /// The secrets of the store's project that have one of these names, or one of these ids, whatever their project.
    async fn read(&self, keys: &HashSet<&str>, what: &str, cx: &CallCx) -> Result<Read, ProviderError> {
        let wanted = |found: &Identifier| {
            keys.contains(found.key.as_str()) || keys.iter().any(|key| key.eq_ignore_ascii_case(&found.id))
        };
        let (ids, others): (Vec<Identifier>, Vec<Identifier>) = self.list(what, cx).await?.into_iter().partition(wanted);
        let entries = self.by_ids(&only_ids(ids), what, cx).await?;
        Ok(Read { entries, others: only_ids(others) })
    }

    fn is_here(&self, entry: &Entry) -> bool {
        entry.project_id.as_ref().is_some_and(|project| project.eq_ignore_ascii_case(&self.config.project_id))
    }

    /// A name counts as missing only in a project of which something can be seen: one that is gone, or that the machine account may
    /// no longer read, lists nothing, and no request tells it.
    async fn check_project(&self, read: &Read, what: &str, cx: &CallCx) -> Result<(), ProviderError> {
        let mut seen = read.entries.iter().any(|entry| self.is_here(entry));
        for chunk in read.others.chunks(BATCH) {
            seen = seen || self.by_ids(chunk, what, cx).await?.iter().any(|entry| self.is_here(entry));
        }
        if seen {
            return Ok(());
        }
        let text = format!(
            "{what}: the machine account sees no secret of project {}: see projectID, and whether the account may read it",
            self.config.project_id
        );
        Err(misconfigured(text))
    }

    /// What other projects hold is neither written nor told of, though its id names it.
    fn own(&self, entry: &Entry) -> Result<(), ProviderError> {
        if self.is_here(entry) {
            return Ok(());
        }
        let text = format!("secret {:?} of Bitwarden belongs to another project than the store's projectID", entry.id);
        Err(misconfigured(text))
    }

    /// The secret of a place: by its id, or by its name in the store's project.
    async fn at(&self, key: &str, cx: &CallCx) -> Result<Option<Entry>, ProviderError> {
        let what = format!("secret {key:?} of Bitwarden");
        if is_id(key) {
            return self.by_id(key, &what, cx).await;
        }
        let read = self.read(&HashSet::from([key]), &what, cx).await?;
        self.one(key, &read.entries)
    }

    fn one(&self, key: &str, entries: &[Entry]) -> Result<Option<Entry>, ProviderError> {
        let project = &self.config.project_id;
        let here = |entry: &&Entry| match is_id(key) {
            true => entry.id.eq_ignore_ascii_case(key),
            false => entry.key == key && self.is_here(entry),
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

fn only_ids(found: Vec<Identifier>) -> Vec<String> {
    found.into_iter().map(|found| found.id).collect()
}

fn parsed<T: DeserializeOwned>(answer: &Answer, what: &str) -> Result<T, ProviderError> {
    if answer.status.is_success() { answer.json(what) } else { Err(refusal(answer, what)) }
}

/// What the server says of a request that failed: whether Bitwarden refused the login, and the status that Bitwarden gave.
struct Said {
    login: bool,
    status: Option<u16>,
    bad_token: bool,
    bad_request: bool,
}

impl Said {
    /// The server answers 400 to whatever fails, and quotes what it was told.
    fn of(answer: &Answer) -> Option<Self> {
        if answer.status != StatusCode::BAD_REQUEST {
            return None;
        }
        let text = String::from_utf8_lossy(answer.body.expose());
        let login = text.starts_with("failed to login");
        let status = text.split_once("server: [").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let says = |words: &[&str]| words.iter().any(|part| text.contains(part));
        Some(Self { login, status, bad_token: login && says(&BAD_TOKEN), bad_request: !login && says(&BAD_REQUEST) })
    }
}

/// Whether Bitwarden knows no such secret, or none that may be read. Of a list it means something else.
fn is_missing(answer: &Answer) -> bool {
    Said::of(answer).is_some_and(|said| !said.login && said.status == Some(404))
}

fn refusal(answer: &Answer, what: &str) -> ProviderError {
    let error = answer.refusal(what);
    let Some(said) = Said::of(answer) else { return error };
    match said.status {
        Some(400 | 401 | 403 | 404) if said.login => denied(what),
        None if said.bad_token => denied(what),
        None if said.bad_request => misconfigured(format!(
            "{what}: Bitwarden's SDK refuses the request: organizationID and projectID must be UUIDs, a name must have 1 to 500 \
             characters, a value 1 to 25000 and a note at most 7000, and neither name nor note may be blank"
        )),
        None => {
            let text = format!("{what}: the server between has no answer of Bitwarden's: Bitwarden may be out of reach");
            ProviderError::new(ErrorKind::Unavailable, text)
        }
        Some(404) => misconfigured(format!(
            "{what}: Bitwarden knows none for this machine account (404): see organizationID and projectID"
        )),
        Some(400) => error,
        Some(status) => match StatusCode::from_u16(status) {
            Ok(status) => Answer { status, headers: answer.headers.clone(), body: SecretBytes::default() }.refusal(what),
            Err(_) => error,
        },
    }
}

fn denied(what: &str) -> ProviderError {
    let text = format!("{what}: Bitwarden does not accept the access token: see auth.secretRef.credentials");
    ProviderError::new(ErrorKind::Denied, text)
}

#[async_trait]
impl Session for BitwardenSession {
    fn batch_size(&self) -> usize {
        BATCH
    }

    /// One list and one read for all names; ids are read alone, or with them where there are several.
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let what = match wants {
            [want] => format!("secret {:?} of Bitwarden", want.key),
            _ => "secrets of Bitwarden".to_owned(),
        };
        if let [want] = wants
            && is_id(&want.key)
        {
            let found = self.by_id(&want.key, &what, cx).await;
            return vec![
                checked(want).and_then(|()| found?.map(fetched).ok_or_else(|| ProviderError::not_found(&want.key))),
            ];
        }
        let keys = wants.iter().map(|want| want.key.as_str()).collect();
        let read = match self.read(&keys, &what, cx).await {
            Ok(read) => read,
            Err(error) => return wants.iter().map(|want| checked(want).and_then(|()| Err(error.clone()))).collect(),
        };
        let is_missing_name = |want: &Want| !is_id(&want.key) && matches!(self.one(&want.key, &read.entries), Ok(None));
        let project = match wants.iter().any(is_missing_name) {
            true => self.check_project(&read, &what, cx).await,
            false => Ok(()),
        };
        let result = |want: &Want| {
            checked(want)?;
            if let Some(entry) = self.one(&want.key, &read.entries)? {
                return Ok(fetched(entry));
            }
            if !is_id(&want.key) {
                project.clone()?;
            }
            Err(ProviderError::not_found(&want.key))
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
        let matches = |found: &Identifier| regex.is_match(&found.key);
        let (ids, others): (Vec<Identifier>, Vec<Identifier>) = self.list(what, cx).await?.into_iter().partition(matches);
        let entries = self.by_ids(&only_ids(ids), what, cx).await?;
        if query.name.is_empty() {
            return Ok(entries.into_iter().map(|entry| Found { name: entry.id, bytes: entry.value }).collect());
        }
        let mut found = BTreeMap::new();
        for entry in entries.iter().filter(|entry| self.is_here(entry)) {
            let one = self.one(&entry.key, &entries)?;
            found.extend(one.map(|entry| (entry.key, entry.value)));
        }
        if found.is_empty() {
            self.check_project(&Read { entries, others: only_ids(others) }, what, cx).await?;
        }
        Ok(found.into_iter().map(|(name, bytes)| Found { name, bytes }).collect())
    }

    /// A secret of that name that has another note is somebody else's.
    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let metadata = PushMetadata::of(&push.place)?;
        let there = self.at(&push.place.key, cx).await?;
        if there.is_none() && is_id(&push.place.key) {
            return Err(misconfigured(format!(
                "remoteRef.remoteKey {:?} is an id, and a new secret needs a name",
                push.place.key
            )));
        }
        if there.is_none() && push.place.key.trim() != push.place.key {
            let text = format!(
                "remoteRef.remoteKey {:?}: Bitwarden's SDK takes off the space around a name, so that it would not be found again \
                 under this one",
                push.place.key
            );
            return Err(misconfigured(text));
        }
        if let Some(entry) = &there {
            self.own(entry)?;
        }
        if there.as_ref().is_some_and(|entry| !metadata.is_of(entry)) {
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
        self.write(&push.place, there.as_ref(), &metadata.note, &value, cx).await?;
        Ok(Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let metadata = PushMetadata::of(place).unwrap_or_default();
        let ours = |entry: &Entry| metadata.is_of(entry) && self.is_here(entry);
        let Some(entry) = self.at(&place.key, cx).await?.filter(ours) else { return Ok(()) };
        match place.left_of(&entry.value) {
            Left::All => return Ok(()),
            Left::Some(left) => return self.write(place, Some(&entry), &metadata.note, &left, cx).await,
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
        let Some(entry) = self.at(&place.key, cx).await? else { return Ok(false) };
        self.own(&entry)?;
        Ok(place.is_in(&entry.value))
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
