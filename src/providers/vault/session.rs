//! Reads and finds secrets of the key-value engine, and checks that the store can.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::future::join_all;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use tokio::task::AbortHandle;

use super::answer::Answer;
use super::client::{Request, VaultClient};
use super::config::Version;
use super::data::{Metadata, Stored};
use super::lent::Lent;
use super::mount::Mount;
use super::provider::{Block, SecretTaker};
use super::transport::misconfigured;
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{
    CallCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Room, Session, Taker, Validation, Want,
};
use crate::render::Entries;
use crate::secret_bytes::SecretBytes;

/// Requests of one search that are under way at a time.
const AT_A_TIME: usize = 8;
/// Searches a folder deeper than this: none that a person made.
const DEPTH: usize = 64;

/// A store that is logged in to.
pub struct VaultSession {
    pub(super) client: Arc<VaultClient>,
    pub(super) mount: Mount,
    block: Block,
    /// What was lent: it lasts no longer than the token.
    lent: Lent,
    /// Keys of the secrets that a push makes, until they are marked as ours; `true`: Vault said that it took the first version.
    pub(super) unmarked: Mutex<HashMap<String, bool>>,
    tending: AbortHandle,
}

impl VaultSession {
    /// A session over a client, which it keeps logged in.
    pub(super) fn new(client: VaultClient, mount: Mount, block: Block) -> Self {
        let client = Arc::new(client);
        let tended = client.clone();
        let tending = tokio::spawn(async move { tended.tend().await }).abort_handle();
        Self { client, mount, block, lent: Lent::default(), unmarked: Mutex::default(), tending }
    }

    async fn read(&self, want: &Want, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let found = match want.metadata {
            MetadataPolicy::None => self.read_value(want, cx).await?,
            MetadataPolicy::Fetch => self.read_metadata(want, cx).await?,
        };
        found.ok_or_else(|| ProviderError::not_found(&want.key))
    }

    async fn read_value(&self, want: &Want, cx: &CallCx) -> Result<Option<Fetched>, ProviderError> {
        let version = self.version(want)?;
        let query = version.map(|version| ("version".to_owned(), version.to_owned())).into_iter().collect();
        let found = self.stored(&want.key, query, cx).await?;
        Ok(found.map(|(stored, request_id)| Fetched {
            bytes: stored.object,
            version: stored.version.map(|version| version.to_string()),
            request_id,
        }))
    }

    /// The version that is asked for. An engine without versions is not told of one, as ESO's users may have it.
    fn version<'a>(&self, want: &'a Want) -> Result<Option<&'a str>, ProviderError> {
        match want.version.as_str() {
            "" => Ok(None),
            _ if self.mount.version == Version::V1 => match self.block {
                Block::Vault => Ok(None),
                Block::OpenBao => Err(misconfigured("OpenBao KVv1 secrets do not support versioning (use KVv2)".to_owned())),
            },
            number if number.bytes().all(|byte| byte.is_ascii_digit()) => Ok(Some(number)),
            other => Err(misconfigured(format!("remoteRef.version {other:?} is not the number of a version"))),
        }
    }

    /// The secret of a key, if there is one, and how Vault's audit log names the read.
    pub(super) async fn stored(
        &self,
        key: &str,
        query: Vec<(String, String)>,
        cx: &CallCx,
    ) -> Result<Option<(Stored, Option<String>)>, ProviderError> {
        self.stored_at(&self.mount.data(key), query, cx).await
    }

    async fn stored_at(
        &self,
        path: &str,
        query: Vec<(String, String)>,
        cx: &CallCx,
    ) -> Result<Option<(Stored, Option<String>)>, ProviderError> {
        let what = format!("Vault path {path:?}");
        let body = match self.lent.again(&self.client, path, cx).await? {
            Some(lent) => Some(lent),
            None => self.client.request(&Request { query, ..Request::read(path) }, &what, cx).await?,
        };
        let answer = Answer::of(body.as_ref(), &what)?;
        if let (Some(lease), Some(body)) = (answer.lease(), &body) {
            self.lent.note(path, &lease, body, &self.client.lends(lease.duration, cx).await);
        }
        let stored = Stored::of(&answer, self.mount.version, &what)?;
        Ok(stored.map(|stored| (stored, answer.request_id)))
    }

    /// What is known of a key besides its values, if it is known.
    pub(super) async fn metadata(
        &self,
        key: &str,
        cx: &CallCx,
    ) -> Result<Option<(Metadata, Option<String>)>, ProviderError> {
        self.metadata_at(&self.mount.metadata(key), cx).await
    }

    pub(super) async fn metadata_at(
        &self,
        path: &str,
        cx: &CallCx,
    ) -> Result<Option<(Metadata, Option<String>)>, ProviderError> {
        let what = format!("Vault path {path:?}");
        let body = self.client.request(&Request::read(path), &what, cx).await?;
        let answer = Answer::of(body.as_ref(), &what)?;
        let metadata = Metadata::of(&answer, &what)?;
        Ok(metadata.map(|metadata| (metadata, answer.request_id)))
    }

    async fn read_metadata(&self, want: &Want, cx: &CallCx) -> Result<Option<Fetched>, ProviderError> {
        if self.mount.version == Version::V1 {
            let text = "cannot perform metadata fetch operations with kv version v1";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let found = self.metadata(&want.key, cx).await?;
        Ok(found.map(|(metadata, request_id)| Fetched { bytes: metadata.object(), version: None, request_id }))
    }

    /// What is in a folder and below it, each by its path from there; `None`: there is no such folder. A folder's path has a slash at
    /// its end: without it, `secret/data` would be a folder `data`. What is below is added to the path as it is: a folder there may
    /// have the mount's name.
    async fn below(&self, folder: &str, cx: &CallCx) -> Result<Option<Vec<String>>, ProviderError> {
        if folder.trim_matches('/').is_empty() && self.mount.path().is_none() {
            let text = "find needs to know where to look: set spec.provider.vault.path, or find.path";
            return Err(misconfigured(text.to_owned()));
        }
        let root = &self.mount.metadata(folder);
        let Some(first) = self.list(root, "", cx).await? else { return Ok(None) };
        let room = Room::default();
        first.iter().try_for_each(|name| room.take(name.len()))?;
        let (mut names, mut folders) = split(first);
        for _ in 0..DEPTH {
            if folders.is_empty() {
                break;
            }
            let lists = stream::iter(folders).map(|folder| async move { self.list(root, &folder, cx).await });
            let lists: Vec<_> = lists.buffered(AT_A_TIME).try_collect().await?;
            let listed: Vec<String> = lists.into_iter().flatten().flatten().collect();
            listed.iter().try_for_each(|name| room.take(name.len()))?;
            let (more, next) = split(listed);
            names.extend(more);
            folders = next;
        }
        Ok(Some(names))
    }

    /// What is in a folder below another: keys, and folders. `None`: there is no such folder.
    async fn list(&self, root: &str, folder: &str, cx: &CallCx) -> Result<Option<Vec<String>>, ProviderError> {
        #[derive(Deserialize)]
        struct Listed {
            keys: Vec<String>,
        }
        let path = format!("{root}{folder}");
        let what = format!("list of Vault path {path:?}");
        let Some(body) = self.client.request(&Request::list(&path), &what, cx).await? else { return Ok(None) };
        let answer = Answer::of(Some(&body), &what)?;
        let Some(data) = answer.data() else { return Ok(None) };
        let listed: Listed = serde_json::from_slice(data).map_err(|_| super::answer::malformed(&what))?;
        Ok(Some(listed.keys.into_iter().map(|key| format!("{folder}{key}")).collect()))
    }

    /// The secret of that path below a folder, if it has the tags. What was deleted since the list was made is not there. As in ESO, its
    /// name begins with the folder as it was written: the keys of a Secret are made of it.
    async fn found(
        &self,
        folder: &str,
        below: String,
        tags: &BTreeMap<String, String>,
        room: &Room,
        cx: &CallCx,
    ) -> Result<Option<Found>, ProviderError> {
        if !tags.is_empty() {
            let known = self.metadata_at(&format!("{}{below}", self.mount.metadata(folder)), cx).await?;
            if !known.is_some_and(|(metadata, _)| metadata.has(tags)) {
                return Ok(None);
            }
        }
        let stored = self.stored_at(&format!("{}{below}", self.mount.data(folder)), Vec::new(), cx).await?;
        let name = format!("{folder}{below}");
        let Some((stored, _)) = stored else { return Ok(None) };
        room.take(name.len() + stored.object.len())?;
        Ok(Some(Found { name, bytes: stored.object }))
    }

    /// Whether the engine is what the store takes it for. That the token may not ask is no reason to doubt it.
    async fn check_mount(&self, cx: &CallCx) -> Result<(), ProviderError> {
        #[derive(Deserialize)]
        struct Engine {
            r#type: String,
            #[serde(default)]
            options: Option<BTreeMap<String, String>>,
        }
        let Some(mount) = self.mount.path() else { return Ok(()) };
        let request = Request::read(format!("sys/internal/ui/mounts/{mount}")).named("ReadMount");
        let Ok(body) = self.client.request(&request, "check of the engine", cx).await else { return Ok(()) };
        let Ok(answer) = Answer::of(body.as_ref(), "check of the engine") else { return Ok(()) };
        let Ok(engine) = serde_json::from_slice::<Engine>(answer.data().unwrap_or_default()) else { return Ok(()) };
        let found = engine.options.and_then(|options| options.get("version").cloned()).unwrap_or_else(|| "1".to_owned());
        let wanted = if self.mount.version == Version::V2 { "2" } else { "1" };
        let kind = word(&engine.r#type).map_or_else(|| "another engine".to_owned(), |word| format!("{word:?}"));
        let told = word(&found).unwrap_or("?");
        let wrong = match self.block {
            _ if engine.r#type == "kv" && found == wanted => return Ok(()),
            // other engines are read as one without versions: database/creds/app
            Block::Vault if engine.r#type != "kv" && wanted == "1" => return Ok(()),
            Block::Vault if engine.r#type != "kv" => {
                format!("vault mount path {mount:?} is not a kv secret engine, got {kind}")
            }
            Block::Vault => {
                format!(
                    "vault mount path {mount:?} uses kv version v{told} but store is configured for kv version v{wanted}"
                )
            }
            Block::OpenBao if engine.r#type != "kv" => format!("expected mount type \"kv\" found {kind}"),
            Block::OpenBao => format!("expected kv engine version {wanted} found version {told}"),
        };
        Err(misconfigured(wrong))
    }
}

/// What the server says, if it is one short word: nothing else of its is repeated.
fn word(text: &str) -> Option<&str> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    Some(text).filter(|text| (1..=32).contains(&text.len()) && text.bytes().all(is_plain))
}

/// Keys, and folders.
fn split(listed: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (folders, names) = listed.into_iter().partition(|name| name.ends_with('/'));
    (names, folders)
}

#[async_trait]
impl Session for VaultSession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        join_all(wants.iter().map(|want| self.read(want, cx))).await
    }

    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        if self.mount.version == Version::V1 && !query.tags.is_empty() {
            let text = "cannot perform find by tag operations with kv version v1";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let name = query.matcher()?;
        let none = BTreeMap::new();
        // a name goes before tags, as in ESO
        let tags = if query.name.is_empty() { &query.tags } else { &none };
        let folder = if query.path.is_empty() { String::new() } else { format!("{}/", query.path) };
        let Some(below) = self.below(&folder, cx).await? else { return Err(ProviderError::not_found(&query.path)) };
        let matching = below.into_iter().filter(|below| name.is_match(&format!("{folder}{below}")));
        let room = Room::default();
        let found = stream::iter(matching).map(|below| self.found(&folder, below, tags, &room, cx)).buffered(AT_A_TIME);
        found.try_filter_map(async |found| Ok(found)).try_collect().await
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        self.put(push, cx).await
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        self.take_away(place, cx).await
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let Some((stored, _)) = self.stored(&place.key, Vec::new(), cx).await? else { return Ok(false) };
        let has = |property| self.property(&Want::default(), &stored.object, property).is_ok();
        Ok(place.property().is_none_or(has))
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        match self.client.look(cx).await {
            // a login that went well is one, whether its token may ask about itself or not
            Err(error) if error.kind == ErrorKind::Denied && self.client.made_token() => {}
            Err(error) => {
                return Err(ProviderError { detail: format!("invalid vault credentials: {}", error.detail), ..error });
            }
            Ok(()) => {}
        }
        self.check_mount(cx).await?;
        Ok(Validation::Ready)
    }

    async fn close(&self) {
        self.tending.abort();
        // what is lent stands in Secrets, which outlive this process
        if !self.lent.is_in_use() {
            self.client.log_out().await;
        }
    }

    fn holds_until(&self, want: &Want) -> Option<tokio::time::Instant> {
        self.lent.holds_until(&self.mount.data(&want.key))
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        SecretTaker.whole(want, value)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        SecretTaker.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        SecretTaker.extract(want, value, property)
    }
}

/// A token that nobody will use again is given back, unless something was lent with it, which would end too.
impl Drop for VaultSession {
    fn drop(&mut self) {
        self.tending.abort();
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && !self.lent.is_in_use()
        {
            let client = self.client.clone();
            runtime.spawn(async move { client.log_out().await });
        }
    }
}
