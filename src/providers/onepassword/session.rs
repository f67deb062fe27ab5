//! Calls of Connect's API (v1).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use http::{Method, StatusCode};
use regex::Regex;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::OnePassword;
use super::item::{Change, DOCUMENT, FILE, Item, ItemTaker, Meant, PASSWORD, Part, Told, meant, new_item};
use crate::api::external_secret::MetadataPolicy;
use crate::outbound::{Answer, Call, TlsOptions, query, segment};
use crate::providers::rest::{Ask, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Room, Session, Taker as _,
    Validation, Want, push,
};
use crate::render::Entries;
use crate::secret_bytes::SecretBytes;

const PATH: &str = "spec.provider.onepassword";
/// Length of ids.
const ID: usize = 26;
/// Connect refuses now and then what it grants a moment later: ESO tries again after such pauses, and so do we.
const AGAIN: [Duration; 3] = [Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(250)];
/// Items that a search reads at a time.
const AT_A_TIME: usize = 8;
/// What is written is seen a while later: how often, and after which pauses, it is looked for. Without it the next write would start
/// from what was there before.
const LOOKS: usize = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// A login to the vaults of one store.
pub(super) struct OnePasswordSession {
    rest: Rest,
    token: SecretBytes,
    base: String,
    store: OnePassword,
    /// Once they are known; dropped when one of them is gone.
    vaults: Mutex<Option<Arc<[Vault]>>>,
}

/// A vault of the store.
#[derive(Clone)]
struct Vault {
    /// As the store names it.
    named: String,
    id: String,
}

#[derive(Deserialize)]
struct ToldVault {
    id: String,
    #[serde(default)]
    name: String,
}

/// An item, and what it was read from.
struct Read {
    told: Told,
    body: SecretBytes,
    vault: String,
}

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PushMetadata {
    tags: Option<Vec<String>>,
    vault: String,
}

impl OnePasswordSession {
    pub(super) async fn open(store: &OnePassword, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let token = cx.secret_text(store.token(), &format!("{PATH}.auth.secretRef.connectTokenSecretRef")).await?;
        let rest = Rest::open(&TlsOptions::default(), PATH, cx)?;
        let base = format!("{}/v1/vaults", store.connect_host.trim().trim_end_matches('/'));
        Ok(Self { rest, token, base, store: store.clone(), vaults: Mutex::default() })
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        method: Method,
        path: &str,
        body: Option<&SecretBytes>,
    ) -> Result<Answer, ProviderError> {
        let url = format!("{}{path}", self.base);
        let make = || {
            let call = Call::new(method.clone(), &url, &format!("{PATH}.connectHost"))?.bearer(&self.token, PATH)?;
            Ok(call.maybe_json(body))
        };
        for pause in AGAIN {
            let answer = self.rest.send(ask, &make).await?;
            if answer.status != StatusCode::FORBIDDEN || answer.headers.contains_key("retry-after") {
                return Ok(answer);
            }
            tokio::time::sleep(pause).await;
        }
        self.rest.send(ask, &make).await
    }

    /// The ids of the store's vaults, in their order.
    async fn vaults(&self, cx: &CallCx) -> Result<Arc<[Vault]>, ProviderError> {
        let mut known = self.vaults.lock().await;
        if let Some(vaults) = known.as_ref() {
            return Ok(vaults.clone());
        }
        Ok(known.insert(self.look_for_vaults(cx).await?).clone())
    }

    /// The answer about what is in a vault. One that was deleted, and maybe made anew under another id, is looked up again next time.
    async fn in_vault(&self, answer: Answer, what: &str) -> Result<Answer, ProviderError> {
        if answer.status == StatusCode::NOT_FOUND {
            *self.vaults.lock().await = None;
        }
        answer.success(what)
    }

    async fn look_for_vaults(&self, cx: &CallCx) -> Result<Arc<[Vault]>, ProviderError> {
        let what = "1Password: vaults";
        let answer = self.send(&Ask { name: "GetVaults", what, cx }, Method::GET, "", None).await?;
        let all: Vec<ToldVault> = answer.success(what)?.json(what)?;
        let one = |named: &str| {
            let mut found = all.iter().filter(|vault| vault.id == named || vault.name == named);
            let text = match (found.next(), found.next()) {
                (Some(vault), None) => return Ok(Vault { named: named.to_owned(), id: vault.id.clone() }),
                (None, _) => "the token has access to no such vault",
                (Some(_), Some(_)) => "several vaults have that name: give the id",
            };
            Err(ProviderError::new(ErrorKind::Misconfigured, format!("{PATH}.vaults: {named:?}: {text}")))
        };
        self.store.in_order().into_iter().map(one).collect()
    }

    /// An item of a vault by its id; `None` where there is none.
    async fn item(&self, vault: &str, id: &str, cx: &CallCx) -> Result<Option<Read>, ProviderError> {
        let what = "1Password: item";
        let path = format!("/{}/items/{}", segment(vault), segment(id));
        let answer = self.send(&Ask { name: "GetItem", what, cx }, Method::GET, &path, None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let answer = answer.success(what)?;
        Ok(Some(Read { told: answer.json(what)?, body: answer.body, vault: vault.to_owned() }))
    }

    /// The items of a vault, without their fields: all, or those of a title.
    async fn items(&self, vault: &str, title: Option<&str>, cx: &CallCx) -> Result<Vec<Told>, ProviderError> {
        let what = "1Password: items of a vault";
        let quoted = |title: &str| format!("title eq \"{}\"", title.replace('\\', "\\\\").replace('"', "\\\""));
        let filter = title.map_or_else(String::new, |title| format!("?{}", query(&[("filter", &quoted(title))])));
        let path = format!("/{}/items{filter}", segment(vault));
        let answer = self.send(&Ask { name: "GetItems", what, cx }, Method::GET, &path, None).await?;
        self.in_vault(answer, what).await?.json(what)
    }

    /// The item that a key names: by its title, or by its id, in the first vault that has it.
    async fn look_for(&self, key: &str, cx: &CallCx) -> Result<Option<Read>, ProviderError> {
        let is_id = key.len() == ID && key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        for vault in self.vaults(cx).await?.iter() {
            if is_id && let Some(read) = self.item(&vault.id, key, cx).await? {
                return Ok(Some(read));
            }
            let items = self.items(&vault.id, Some(key), cx).await?;
            match &items[..] {
                [] => {}
                [one] => return self.item(&vault.id, &one.id, cx).await,
                several => {
                    let text = format!("expected one 1Password Item matching: '{key}', got {}", several.len());
                    return Err(ProviderError::new(ErrorKind::Misconfigured, text));
                }
            }
        }
        Ok(None)
    }

    async fn content(&self, read: &Read, file: &str, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let what = "1Password: content of a file";
        let path = format!("/{}/items/{}/files/{}/content", segment(&read.vault), segment(&read.told.id), segment(file));
        let answer = self.send(&Ask { name: "GetFileContent", what, cx }, Method::GET, &path, None).await?;
        Ok(answer.success(what)?.body)
    }

    /// An item, with the files that `wanted` lets pass, as long as there is room for them.
    async fn with_files(
        &self,
        read: &Read,
        wanted: impl Fn(&str) -> bool,
        room: &Room,
        cx: &CallCx,
    ) -> Result<Item, ProviderError> {
        let field = |field: &super::item::ToldField| Part { name: field.label.clone(), value: field.value.clone() };
        let mut files = Vec::new();
        for file in read.told.files.iter().filter(|file| wanted(&file.name)) {
            let content = self.content(read, &file.id, cx).await?;
            room.take(file.name.len() + content.len())?;
            files.push(Part::file(&file.name, &content));
        }
        Ok(Item {
            document: read.told.category == DOCUMENT,
            title: read.told.title.clone(),
            fields: read.told.fields.iter().map(field).collect(),
            files,
        })
    }

    async fn fetch(&self, want: &Want, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let unsupported = |text: &str| Err(ProviderError::new(ErrorKind::Unsupported, text));
        if !want.version.is_empty() {
            return unsupported("'remoteRef.version' is not implemented in the 1Password provider");
        }
        if want.metadata != MetadataPolicy::None {
            return unsupported("'remoteRef.metadataPolicy' is not implemented in the 1Password provider");
        }
        let read = self.look_for(&want.key, cx).await?.ok_or_else(|| ProviderError::not_found(&want.key))?;
        // A document is its files; of another item a file is read only where one is asked for.
        let document = read.told.category == DOCUMENT;
        let name = match meant(document, &want.property) {
            Meant::File(name) => Some(name),
            Meant::Field(_) => None,
        };
        let wanted = |file: &str| name.is_some_and(|name| name.is_empty() || name == file);
        Ok(self.with_files(&read, wanted, &Room::default(), cx).await?.bytes())
    }

    /// The files and fields of an item whose names an expression lets pass; none where it is gone by now.
    async fn matching(
        &self,
        (vault, id): (&str, String),
        name: &Regex,
        room: &Room,
        cx: &CallCx,
    ) -> Result<Vec<(String, SecretBytes)>, ProviderError> {
        let Some(read) = self.item(vault, &id, cx).await? else { return Ok(Vec::new()) };
        let whole = self.with_files(&read, |file| name.is_match(file), room, cx).await?.bytes();
        let want = Want { key: read.told.title.clone(), ..Want::default() };
        let mut parts: Vec<_> = ItemTaker.extract(&want, &whole, Some(FILE)).or_else(nothing)?.into_iter().collect();
        let fields = ItemTaker.extract(&want, &whole, Some("field/")).or_else(nothing)?;
        for (label, value) in fields.into_iter().filter(|(label, _)| name.is_match(label)) {
            room.take(label.len() + value.len())?;
            parts.push((label, value));
        }
        Ok(parts)
    }

    async fn write(&self, read: &Read, change: &Change<'_>, cx: &CallCx) -> Result<(), ProviderError> {
        let what = "1Password: update of an item";
        let path = format!("/{}/items/{}", segment(&read.vault), segment(&read.told.id));
        let body = change.apply(&read.body)?;
        self.send(&Ask { name: "UpdateItem", what, cx }, Method::PUT, &path, Some(&body)).await?.success(what).map(drop)
    }

    async fn create(&self, place: &Place, vault: &str, change: &Change<'_>, cx: &CallCx) -> Result<(), ProviderError> {
        let what = "1Password: new item";
        let body = new_item(&place.key, vault, change);
        let path = format!("/{}/items", segment(vault));
        let answer = self.send(&Ask { name: "CreateItem", what, cx }, Method::POST, &path, Some(&body)).await?;
        self.in_vault(answer, what).await.map(drop)
    }

    /// The vault that a new item goes into.
    async fn target(&self, metadata: &PushMetadata, cx: &CallCx) -> Result<String, ProviderError> {
        let vaults = self.vaults(cx).await?;
        let wanted = metadata.vault.as_str();
        let found = vaults.iter().find(|vault| wanted.is_empty() || vault.named == wanted || vault.id == wanted);
        found.map(|vault| vault.id.clone()).ok_or_else(|| {
            let text = format!("metadata vault '{wanted}' not in provider vaults");
            ProviderError::new(ErrorKind::Misconfigured, text)
        })
    }

    /// Waits until a field is seen to have its value.
    async fn settled(&self, key: &str, change: &Change<'_>, cx: &CallCx) -> Result<(), ProviderError> {
        for _ in 0..LOOKS {
            if let Some(read) = self.look_for(key, cx).await?
                && read.told.field(change.label)? == change.value
            {
                return Ok(());
            }
            tokio::time::sleep(PAUSE).await;
        }
        let text = format!("1Password: item {key:?} was written, and Connect does not show it yet");
        Err(ProviderError::new(ErrorKind::Unavailable, text))
    }
}

/// The field that a place means.
fn label(place: &Place) -> &str {
    let property = place.property().unwrap_or(PASSWORD);
    property.strip_prefix("field/").unwrap_or(property)
}

#[async_trait]
impl Session for OnePasswordSession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let mut results = Vec::with_capacity(wants.len());
        for want in wants {
            results.push(self.fetch(want, cx).await.map(|bytes| Fetched { bytes, ..Fetched::default() }));
        }
        results
    }

    /// The fields and files of all items whose title is the path and that have all tags, by their own names; of several the first.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let (name, room) = (query.matcher()?, Room::default());
        let title = Some(query.path.as_str()).filter(|title| !title.is_empty());
        let mut found = BTreeMap::new();
        for vault in self.vaults(cx).await?.iter() {
            let mut items = self.items(&vault.id, title, cx).await?;
            items.retain(|item| query.tags.keys().all(|tag| item.tags.contains(tag)));
            let reads = stream::iter(items).map(|item| self.matching((vault.id.as_str(), item.id), &name, &room, cx));
            let parts: Vec<_> = reads.buffered(AT_A_TIME).try_collect().await?;
            for (label, value) in parts.into_iter().flatten() {
                found.entry(label).or_insert(value);
            }
        }
        Ok(found.into_iter().map(|(name, bytes)| Found { name, bytes }).collect())
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let value = push.value()?;
        if value.expose_str().is_none() {
            let text = "1Password keeps text in fields, and the value is none: encode it in the template";
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        let metadata: PushMetadata = push::metadata(push.place.metadata.as_ref())?.unwrap_or_default();
        let change = Change { label: label(&push.place), value: Some(&value), tags: metadata.tags.as_deref() };
        match self.look_for(&push.place.key, cx).await? {
            Some(read) => {
                let same_tags = metadata.tags.as_ref().is_none_or(|tags| *tags == read.told.tags);
                if same_tags && read.told.field(change.label)? == Some(&value) {
                    return Ok(Pushed::Unchanged);
                }
                self.write(&read, &change, cx).await?;
            }
            None => {
                let vault = self.target(&metadata, cx).await?;
                self.create(&push.place, &vault, &change, cx).await?;
            }
        }
        let settled = self.settled(&push.place.key, &change, cx).await;
        settled.map(|()| Pushed::Written).map_err(|error| error.after_writing(true))
    }

    /// Removes the field, and the item with its last one.
    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let Some(read) = self.look_for(&place.key, cx).await? else { return Ok(()) };
        let change = Change { label: label(place), value: None, tags: None };
        if read.told.field(change.label)?.is_none() {
            return Ok(());
        }
        if !read.told.is_bare() {
            return self.write(&read, &change, cx).await;
        }
        let what = "1Password: deletion of an item";
        let path = format!("/{}/items/{}", segment(&read.vault), segment(&read.told.id));
        let answer = self.send(&Ask { name: "DeleteItem", what, cx }, Method::DELETE, &path, None).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(()) } else { answer.success(what).map(drop) }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let Some(read) = self.look_for(&place.key, cx).await? else { return Ok(false) };
        Ok(read.told.field(label(place))?.is_some())
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        let found = self.look_for_vaults(cx).await;
        let mut known = self.vaults.lock().await;
        match found {
            Ok(vaults) => *known = Some(vaults),
            Err(error) if error.kind.is_store_wide() => return Err(error),
            Err(error) => {
                *known = None;
                return Err(error);
            }
        }
        Ok(Validation::Ready)
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        ItemTaker.whole(want, value)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        ItemTaker.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        ItemTaker.extract(want, value, property)
    }
}

/// An item without fields, or without files, has none.
fn nothing(error: ProviderError) -> Result<Entries, ProviderError> {
    if error.kind == ErrorKind::MissingProperty { Ok(Entries::new()) } else { Err(error) }
}
