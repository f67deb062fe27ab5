//! Writes secrets that are ours, and only what differs.

use std::collections::{BTreeMap, HashMap};
use std::sync::{MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::json;

use super::client::Request;
use super::config::Version;
use super::data::{self, MANAGED_BY, Metadata, OWNER, Stored, Values};
use super::session::VaultSession;
use super::transport::misconfigured;
use crate::providers::push::{self, Place, Push, Pushed};
use crate::providers::{CallCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// How often a write is begun anew because the secret changed under it.
const MOST_CONFLICTS: usize = 3;

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct PushMetadata {
    custom_metadata: BTreeMap<String, String>,
    merge_policy: String,
}

impl PushMetadata {
    fn of(place: &Place) -> Result<Self, ProviderError> {
        let block: Option<Self> = push::metadata(place.metadata.as_ref())
            .map_err(|error| misconfigured(format!("failed to parse push secret metadata: {}", error.detail)))?;
        let block = block.unwrap_or_default();
        match block.merge_policy.as_str() {
            "" | "Merge" | "Replace" => Ok(block),
            other => Err(misconfigured(format!("unsupported merge policy {other:?}, must be one of: Merge, Replace"))),
        }
    }

    /// What the secret's custom metadata is to be. The mark is nobody's to change.
    fn merged(&self, current: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut merged = if self.merge_policy == "Replace" { BTreeMap::new() } else { current.clone() };
        merged.extend(self.custom_metadata.clone());
        merged.insert(MANAGED_BY.to_owned(), OWNER.to_owned());
        merged
    }
}

/// Whether Vault said that it took nothing. A conflict says less: the first of several tries may have been taken.
fn is_refusal(error: &ProviderError) -> bool {
    use ErrorKind::{Denied, Misconfigured, NotFound, Unsupported};
    matches!(error.kind, Denied | Misconfigured | NotFound | Unsupported)
}

fn foreign(more: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Denied, format!("secret not managed by external-secrets{more}"))
}

impl VaultSession {
    pub(super) async fn put(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let metadata = PushMetadata::of(&push.place)?;
        for _ in 1..MOST_CONFLICTS {
            match self.put_once(push, &metadata, cx).await {
                Err(error) if error.kind == ErrorKind::Conflict => {}
                result => return result,
            }
        }
        self.put_once(push, &metadata, cx).await
    }

    async fn put_once(&self, push: &Push, metadata: &PushMetadata, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let (value, property) = (push.value()?, push.place.property());
        let stored = self.stored(&push.place.key, Vec::new(), cx).await?.map(|(stored, _)| stored);
        let current = stored.as_ref().map(Stored::values);
        match self.mount.version {
            Version::V1 => self.put_plain(&push.place.key, current, &value, property, cx).await,
            Version::V2 => {
                let wanted = data::pushed(current.as_ref(), &value, property)?;
                let version = stored.and_then(|stored| stored.version);
                self.put_version(&push.place, metadata, (current, version), wanted, cx).await
            }
        }
    }

    /// Into an engine without versions, where the mark stands among the values.
    async fn put_plain(
        &self,
        key: &str,
        current: Option<Values>,
        value: &SecretBytes,
        property: Option<&str>,
        cx: &CallCx,
    ) -> Result<Pushed, ProviderError> {
        match &current {
            Some(values) if !values.contains_key(data::CUSTOM_METADATA) => {
                return Err(foreign(" (no custom_metadata found)"));
            }
            Some(values) if !data::is_marked(values) => return Err(foreign("")),
            _ => {}
        }
        let wanted = data::marked(data::pushed(current.as_ref(), value, property)?);
        if data::same(current.as_ref(), &wanted, Version::V1) {
            return Ok(Pushed::Unchanged);
        }
        self.write(self.mount.data(key), data::object(&wanted), cx).await.map(|()| Pushed::Written)
    }

    /// Into an engine with versions. The version that is replaced is always stated: nobody's change between our read and our write
    /// is lost. A new secret gets its first version before the mark: where somebody else made it meanwhile, that is a conflict,
    /// and theirs is not marked as ours.
    async fn put_version(
        &self,
        place: &Place,
        block: &PushMetadata,
        (current, version): (Option<Values>, Option<u64>),
        wanted: Values,
        cx: &CallCx,
    ) -> Result<Pushed, ProviderError> {
        let key = place.key.as_str();
        let known = match self.metadata(key, cx).await {
            // who may only write may still make a new secret
            Err(error) if error.kind == ErrorKind::Denied && current.is_none() => None,
            known => known?.map(|(metadata, _)| metadata),
        };
        let is_new = known.as_ref().is_none_or(|metadata| metadata.current == 0) && current.is_none();
        let known = known.unwrap_or_default();
        let is_same = data::same(current.as_ref(), &wanted, Version::V2);
        // an answer that was lost leaves open who made the first version: that it holds what was sent, and nothing else, tells
        let is_sent = is_same && (place.property().is_none() || current.as_ref().is_some_and(|values| values.len() == 1));
        let is_half_made = known.current == 1 && self.unmarked().get(key).is_some_and(|taken| *taken || is_sent);
        if !is_new && !is_half_made && !self.is_ours(key, &known, cx).await? {
            return Err(foreign(""));
        }
        if is_new {
            self.unmarked().insert(key.to_owned(), false);
            let written = self.write(self.mount.data(key), versioned(&wanted, known.current), cx).await;
            if written.as_ref().is_err_and(is_refusal) {
                self.unmarked().remove(key);
            }
            written?;
            self.unmarked().insert(key.to_owned(), true);
        }
        let is_there = is_new || is_same;
        let custom = block.merged(&known.custom);
        let mut pushed = if is_new { Pushed::Written } else { Pushed::Unchanged };
        if custom != known.custom {
            let body = SecretBytes::from(json!({"custom_metadata": custom}).to_string());
            let marked = self.write(self.mount.metadata(key), body, cx).await;
            marked.map_err(|error| error.after_writing(is_there))?;
            pushed = Pushed::Written;
        }
        self.unmarked().remove(key);
        if !is_there {
            let replaced = version.unwrap_or(known.current);
            self.write(self.mount.data(key), versioned(&wanted, replaced), cx).await?;
            pushed = Pushed::Written;
        }
        Ok(pushed)
    }

    /// Whether a secret is ours: its mark says so, or it has none but the older one.
    async fn is_ours(&self, key: &str, known: &Metadata, cx: &CallCx) -> Result<bool, ProviderError> {
        let has_mark = known.custom.contains_key(MANAGED_BY);
        Ok(known.is_ours() || !has_mark && self.older_mark(key, cx).await?.is_some())
    }

    /// Where the mark is that ESO up to 2.9 put at a place of its own. A secret that is at that place has its mark for itself.
    async fn older_mark(&self, key: &str, cx: &CallCx) -> Result<Option<String>, ProviderError> {
        let Some(path) = self.mount.older_metadata(key) else { return Ok(None) };
        let found = self.metadata_at(&path, cx).await;
        match found {
            // a policy that does not know that place says nothing of the mark
            Err(error) if error.kind == ErrorKind::Denied => Ok(None),
            found => Ok(found?.filter(|(metadata, _)| metadata.is_ours() && metadata.current == 0).map(|_| path)),
        }
    }

    fn unmarked(&self) -> MutexGuard<'_, HashMap<String, bool>> {
        self.unmarked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write(&self, path: String, body: SecretBytes, cx: &CallCx) -> Result<(), ProviderError> {
        let what = format!("write to Vault path {path:?}");
        self.client.request(&Request::write(path, body), &what, cx).await.map(|_| ())
    }

    async fn remove(&self, path: String, cx: &CallCx) -> Result<(), ProviderError> {
        let what = format!("deletion of Vault path {path:?}");
        self.client.request(&Request::delete(path), &what, cx).await.map(|_| ())
    }

    pub(super) async fn take_away(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        for _ in 1..MOST_CONFLICTS {
            match self.take_away_once(place, cx).await {
                Err(error) if error.kind == ErrorKind::Conflict => {}
                result => return result,
            }
        }
        self.take_away_once(place, cx).await
    }

    async fn take_away_once(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let key = place.key.as_str();
        let stored = self.stored(key, Vec::new(), cx).await?.map(|(stored, _)| stored);
        let mut values = stored.as_ref().map(Stored::values);
        let is_ours = match self.mount.version {
            Version::V1 => values.as_ref().is_some_and(data::is_marked),
            Version::V2 => {
                let known = self.metadata(key, cx).await?.map(|(metadata, _)| metadata);
                self.is_ours(key, &known.unwrap_or_default(), cx).await?
            }
        };
        if !is_ours {
            return Ok(());
        }
        if let Some(property) = place.property() {
            let Some(values) = &mut values else { return Ok(()) };
            let was_there = values.remove(property).is_some();
            if values.keys().any(|name| self.mount.version == Version::V2 || name != data::CUSTOM_METADATA) {
                let body = match stored.and_then(|stored| stored.version) {
                    Some(version) => versioned(values, version),
                    None => data::object(values),
                };
                return if was_there { self.write(self.mount.data(key), body, cx).await } else { Ok(()) };
            }
        }
        // with versions, this takes all of them
        self.remove(self.mount.metadata(key), cx).await?;
        // left where it is, it would be the mark of what somebody else puts there next
        let Some(older) = self.older_mark(key, cx).await? else { return Ok(()) };
        match self.remove(older, cx).await {
            Err(error) if error.kind == ErrorKind::Denied => Ok(()),
            result => result,
        }
    }
}

/// A new version, in place of another.
fn versioned(values: &Values, replaced: u64) -> SecretBytes {
    let object = data::object(values);
    SecretBytes::new([b"{\"data\":", object.expose(), format!(",\"options\":{{\"cas\":{replaced}}}}}").as_bytes()].concat())
}
