//! Reads and writes records.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::crypto;
use super::record::{self, KeeperTaker, OURS, Slot};
use super::wire::{Wire, no_chance};
use super::{Keeper, PATH, misconfigured};
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Taker as _,
    Validation, Want,
};
use crate::render::{Entries, json};
use crate::secret_bytes::SecretBytes;

/// Bytes of a record's id.
const ID: usize = 16;
/// Most bytes of all files that are read by one call: they are held together.
const MOST_OF_FILES: usize = 32 << 20;

/// A client of one application.
pub(super) struct KeeperSession {
    wire: Wire,
    folder: String,
    by_title: bool,
}

/// What is shared with the application, still encrypted.
#[derive(Deserialize)]
struct Shared {
    #[serde(default)]
    folders: Option<Vec<Folder>>,
    #[serde(default)]
    records: Option<Vec<Sealed>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Folder {
    folder_uid: String,
    folder_key: String,
    #[serde(default)]
    parent: Option<String>,
    #[serde(default)]
    records: Option<Vec<Sealed>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    record_uid: String,
    #[serde(default)]
    record_key: Option<String>,
    data: String,
    #[serde(default)]
    revision: i64,
    #[serde(default)]
    files: Option<Vec<SealedFile>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SealedFile {
    file_key: String,
    data: String,
    url: String,
}

/// What a deletion answers.
#[derive(Deserialize)]
struct Deleted {
    #[serde(default)]
    records: Vec<DeletedRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeletedRecord {
    #[serde(default)]
    response_code: String,
}

/// A record that was decrypted; its files are not.
struct Record {
    id: String,
    key: SecretBytes,
    revision: i64,
    json: SecretBytes,
    files: Vec<SealedFile>,
}

impl Record {
    /// What tells a record from others without its values.
    fn head(&self) -> Head {
        serde_json::from_slice(self.json.expose()).unwrap_or_default()
    }
}

#[derive(Default, Deserialize)]
struct Head {
    #[serde(default)]
    title: String,
    #[serde(rename = "type", default)]
    type_: String,
}

impl KeeperSession {
    pub(super) async fn open(config: &Keeper, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let path = format!("{PATH}.authRef");
        let text = cx.secret_text(&config.auth_ref, &path).await?;
        Ok(Self {
            wire: Wire::open(&text, &path, cx)?,
            folder: config.folder_id.clone(),
            by_title: config.get_by_title_fallback == Some(true),
        })
    }

    /// The records of these ids, or all that are shared with the application.
    async fn records(&self, ids: &[&str], cx: &CallCx) -> Result<Vec<Record>, ProviderError> {
        let mut payload = self.wire.payload();
        if !ids.is_empty() {
            payload = payload.raw("requestedRecords", &serde_json::to_vec(ids).unwrap_or_default());
        }
        let shared: Shared = answer(&self.wire.post("get_secret", payload, cx).await?)?;
        let mut all = Vec::new();
        for sealed in shared.records.into_iter().flatten() {
            all.push(open(sealed, &self.wire.app_key)?);
        }
        for folder in shared.folders.into_iter().flatten() {
            let key = unwrapped(&folder.folder_key, &self.wire.app_key)?;
            for sealed in folder.records.into_iter().flatten() {
                all.push(open(sealed, &key)?);
            }
        }
        Ok(all)
    }

    /// A record with its files. `left` is how many bytes of files the call may still read.
    async fn packed(&self, found: &Record, left: &mut usize, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        #[derive(Deserialize)]
        struct About {
            #[serde(default)]
            title: String,
        }
        let mut files = Vec::with_capacity(found.files.len());
        for file in &found.files {
            let key = unwrapped(&file.file_key, &found.key)?;
            let about =
                crypto::decode(&file.data).and_then(|data| crypto::decrypt(&key, data.expose())).ok_or_else(damaged)?;
            let About { title } = serde_json::from_slice(about.expose()).map_err(|_| damaged())?;
            let sealed = self.wire.file(&file.url, cx).await?;
            *left = left.checked_sub(sealed.expose().len()).ok_or_else(|| {
                let text =
                    "Keeper: the files of the records that are read together have more than 32 MiB: read fewer of them";
                ProviderError::new(ErrorKind::Unsupported, text)
            })?;
            files.push((title, crypto::decrypt(&key, sealed.expose()).ok_or_else(damaged)?));
        }
        Ok(record::pack(&found.json, &files))
    }

    /// The record that a key means: by its id, else by its title where the store allows it.
    fn chosen<'r>(&self, key: &str, by_id: &'r [Record], all: &'r [Record]) -> Result<&'r Record, ProviderError> {
        if let Some(found) = by_id.iter().find(|record| record.id == key) {
            return Ok(found);
        }
        let mut titled = all.iter().filter(|record| record.head().title == key);
        match (titled.next(), titled.next()) {
            (Some(_), Some(_)) => Err(misconfigured(format!("more than 1 secret {key:?} found: give the record's id"))),
            (Some(found), None) => Ok(found),
            (None, _) => Err(ProviderError::not_found(key)),
        }
    }

    /// The record of a title that was pushed. One of that title that others made is none of ours.
    ///
    /// # Errors
    /// `Misconfigured` where there are several.
    async fn ours(&self, title: &str, cx: &CallCx) -> Result<(Option<Record>, bool), ProviderError> {
        let titled = self.records(&[], cx).await?.into_iter().filter(|record| record.head().title == title);
        let (ours, others): (Vec<_>, Vec<_>) = titled.partition(|record| record.head().type_ == OURS);
        let mut ours = ours.into_iter();
        match (ours.next(), ours.next()) {
            (_, Some(_)) => Err(misconfigured(format!("more than 1 secret {title:?} found"))),
            (found, None) => Ok((found, !others.is_empty())),
        }
    }

    /// The shared folder that the store's folder is, or is in, and its key.
    async fn folder(&self, cx: &CallCx) -> Result<(String, SecretBytes), ProviderError> {
        let shared: Shared = answer(&self.wire.post("get_folders", self.wire.payload(), cx).await?)?;
        let folders: BTreeMap<String, Folder> =
            shared.folders.into_iter().flatten().map(|folder| (folder.folder_uid.clone(), folder)).collect();
        let mut id = self.folder.as_str();
        for _ in 0..=folders.len() {
            let Some(folder) = folders.get(id) else { break };
            match folder.parent.as_deref().filter(|parent| !parent.is_empty()) {
                Some(parent) => id = parent,
                None => return Ok((id.to_owned(), unwrapped(&folder.folder_key, &self.wire.app_key)?)),
            }
        }
        let text = format!("{PATH}.folderID: Keeper shows no folder {:?} to the application", self.folder);
        Err(misconfigured(text))
    }

    async fn create(&self, json: &Value, cx: &CallCx) -> Result<(), ProviderError> {
        let owner = self.wire.owner_key.as_ref().ok_or_else(|| {
            let text = "the configuration holds no appOwnerPublicKey, without which no record can be made: make a new one";
            misconfigured(format!("{PATH}.authRef: {text}"))
        })?;
        let (folder, folder_key) = self.folder(cx).await?;
        let (id, key) = crypto::random(ID).zip(crypto::random(crypto::KEY)).ok_or_else(no_chance)?;
        let plain = SecretBytes::new(serde_json::to_vec(json).unwrap_or_default());
        let for_owner = crypto::encrypt_for(owner, &key)
            .ok_or_else(|| misconfigured(format!("{PATH}.authRef: its appOwnerPublicKey is no public key on P-256")))?;
        let for_folder = crypto::encrypt(&folder_key, key.expose()).ok_or_else(no_chance)?;
        let data = crypto::encrypt(&key, plain.expose()).ok_or_else(no_chance)?;
        let mut payload = self
            .wire
            .payload()
            .text("recordUid", crypto::encode_url(id.expose()))
            .text("recordKey", base64(&for_owner))
            .text("folderUid", &folder)
            .text("folderKey", base64(&for_folder))
            .text("data", base64(&data));
        if folder != self.folder {
            payload = payload.text("subFolderUid", &self.folder);
        }
        self.wire.post("create_secret", payload, cx).await.map(drop)
    }

    async fn update(&self, found: &Record, json: &Value, cx: &CallCx) -> Result<(), ProviderError> {
        let plain = SecretBytes::new(serde_json::to_vec(json).unwrap_or_default());
        let data = crypto::encrypt(&found.key, plain.expose()).ok_or_else(no_chance)?;
        let payload = self
            .wire
            .payload()
            .text("recordUid", &found.id)
            .raw("revision", found.revision.to_string().as_bytes())
            .text("data", base64(&data));
        self.wire.post("update_secret", payload, cx).await.map(drop)
    }

    async fn remove(&self, found: &Record, cx: &CallCx) -> Result<(), ProviderError> {
        let ids = serde_json::to_vec(&[&found.id]).unwrap_or_default();
        let payload = self.wire.payload().raw("recordUids", &ids);
        let deleted: Deleted = answer(&self.wire.post("delete_secret", payload, cx).await?)?;
        match deleted.records.first().map(|record| record.response_code.as_str()) {
            Some("ok") => Ok(()),
            Some("not_found" | "record_not_found") => Ok(()),
            Some("access_denied") => {
                let text = "Keeper: the application may not delete the record: let it edit the folder";
                Err(ProviderError::new(ErrorKind::Denied, text))
            }
            _ => Err(ProviderError::new(ErrorKind::Unavailable, "Keeper: the record was not deleted")),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn damaged() -> ProviderError {
    let text = "Keeper: what is shared with the application cannot be decrypted with the appKey of the configuration";
    ProviderError::new(ErrorKind::Malformed, text)
}

fn answer<'a, T: Deserialize<'a>>(bytes: &'a SecretBytes) -> Result<T, ProviderError> {
    let malformed = || ProviderError::new(ErrorKind::Malformed, "Keeper: the answer is not what such a server sends");
    serde_json::from_slice(bytes.expose()).map_err(|_| malformed())
}

/// A key that is encrypted with another one.
fn unwrapped(text: &str, key: &SecretBytes) -> Result<SecretBytes, ProviderError> {
    crypto::decode(text).and_then(|sealed| crypto::decrypt(key, sealed.expose())).ok_or_else(damaged)
}

fn open(sealed: Sealed, key: &SecretBytes) -> Result<Record, ProviderError> {
    // A record that is shared by itself has the application's key.
    let key = match sealed.record_key.as_deref().filter(|key| !key.is_empty()) {
        Some(own) => unwrapped(own, key)?,
        None => key.clone(),
    };
    let json = unwrapped(&sealed.data, &key)?;
    if !json::is_valid(json.expose()) {
        return Err(damaged());
    }
    let files = sealed.files.unwrap_or_default();
    Ok(Record { id: sealed.record_uid, key, revision: sealed.revision, json, files })
}

/// Title and field of a place: the field is the property, or stands after the title, as in ESO.
fn title_and_field(place: &Place) -> Result<(&str, &str), ProviderError> {
    let steps: Vec<&str> = place.key.split('/').collect();
    match (steps.as_slice(), place.property()) {
        ([title, field], None) => Ok((*title, *field)),
        ([title], Some(field)) => Ok((*title, field)),
        _ => {
            let text = "match.remoteRef.remoteKey. Invalid format. Format should match secretName/key got";
            Err(misconfigured(format!("{text} {}", place.key)))
        }
    }
}

fn document(found: &Record) -> Result<Value, ProviderError> {
    serde_json::from_slice(found.json.expose()).map_err(|_| damaged())
}

fn check(want: &Want) -> Result<(), ProviderError> {
    let text = if !want.version.is_empty() {
        "Keeper gives out the current version only: leave remoteRef.version out"
    } else if want.metadata == MetadataPolicy::Fetch {
        "records of Keeper have no metadata: leave metadataPolicy out"
    } else {
        return Ok(());
    };
    Err(ProviderError::new(ErrorKind::Unsupported, text))
}

#[async_trait]
impl Session for KeeperSession {
    fn batch_size(&self) -> usize {
        usize::MAX
    }

    /// One call for all ids; one more, where keys may be titles and some are.
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let ids: Vec<&str> = wants.iter().map(|want| want.key.as_str()).collect();
        let read = async {
            let by_id = self.records(&ids, cx).await?;
            let is_known = |id: &&str| by_id.iter().any(|record| record.id == **id);
            let all = match self.by_title && !ids.iter().all(is_known) {
                true => self.records(&[], cx).await?,
                false => Vec::new(),
            };
            Ok::<_, ProviderError>((by_id, all))
        };
        let (by_id, all) = match read.await {
            Ok(read) => read,
            Err(error) => return wants.iter().map(|_| Err(error.clone())).collect(),
        };
        let (mut results, mut left) = (Vec::with_capacity(wants.len()), MOST_OF_FILES);
        for want in wants {
            results.push(match check(want).and_then(|()| self.chosen(&want.key, &by_id, &all)) {
                Ok(found) => self.packed(found, &mut left, cx).await.map(|bytes| Fetched {
                    bytes,
                    version: Some(found.revision.to_string()),
                    request_id: None,
                }),
                Err(error) => Err(error),
            });
        }
        results
    }

    /// By title only, as in ESO.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        for (is_set, field) in [(!query.tags.is_empty(), "tags"), (!query.path.is_empty(), "path")] {
            if is_set {
                let text = format!("'find.{field}' is not implemented in the KeeperSecurity provider");
                return Err(ProviderError::new(ErrorKind::Unsupported, text));
            }
        }
        let regex = query.matcher()?;
        let (mut found, mut left) = (BTreeMap::<String, SecretBytes>::new(), MOST_OF_FILES);
        for record in self.records(&[], cx).await? {
            let title = record.head().title;
            if !regex.is_match(&title) {
                continue;
            }
            let bytes = record::found(&self.packed(&record, &mut left, cx).await?, &title)?;
            if found.insert(title.clone(), bytes).is_some() {
                return Err(misconfigured(format!("more than 1 secret {title:?} found: give them titles of their own")));
            }
        }
        Ok(found.into_iter().map(|(name, bytes)| Found { name, bytes }).collect())
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        if push.secret_key.as_deref().is_none_or(str::is_empty) {
            let text = "pushing the whole secret is not yet implemented: name a key";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let (title, field) = title_and_field(&push.place)?;
        let value = push.value()?;
        let text = value.expose_str().ok_or_else(|| {
            misconfigured(format!("the value for record {title:?} is no text, and fields of Keeper are text"))
        })?;
        let slot = Slot::of(field);
        match self.ours(title, cx).await? {
            (Some(found), _) => {
                let mut document = document(&found)?;
                if slot.value(&document) == Some(text) {
                    return Ok(Pushed::Unchanged);
                }
                slot.set(&mut document, text);
                self.update(&found, &document, cx).await?;
            }
            (None, true) => {
                let text = format!("ESO can only push/delete records of type {OURS}. Secret {title} is of another type");
                return Err(ProviderError::new(ErrorKind::Denied, text));
            }
            (None, false) => {
                let mut document = record::new(title);
                slot.set(&mut document, text);
                self.create(&document, cx).await?;
            }
        }
        Ok(Pushed::Written)
    }

    /// Takes the field away, and the record with its last one.
    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let (title, field) = match title_and_field(place) {
            Ok((title, field)) => (title, Some(field)),
            Err(_) if !place.key.contains('/') => (place.key.as_str(), None),
            Err(error) => return Err(error),
        };
        let (Some(found), _) = self.ours(title, cx).await? else { return Ok(()) };
        let mut document = document(&found)?;
        if let Some(slot) = field.map(Slot::of) {
            if slot.value(&document).is_none() {
                return Ok(());
            }
            slot.remove(&mut document);
            if !record::is_empty(&document) {
                return self.update(&found, &document, cx).await;
            }
        }
        self.remove(&found, cx).await
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let (title, field) = title_and_field(place)?;
        let titled = self.records(&[], cx).await?.into_iter().filter(|record| record.head().title == title);
        for record in titled {
            if Slot::of(field).value(&document(&record)?).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        self.wire.post("get_folders", self.wire.payload(), cx).await.map(|_| Validation::Ready)
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        KeeperTaker.whole(want, value)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        KeeperTaker.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        KeeperTaker.extract(want, value, property)
    }
}
