//! Reads keys of the decrypted document.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::age::Identities;
use super::decrypt;
use super::document::Node;
use super::format::Format;
use super::source::{File, Source};
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{
    CallCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Validation, Want,
};

const READ_ONLY: &str = "a SOPS file cannot be pushed to: it is changed with sops where it is kept, in Git";

/// One file, and the keys that open it.
pub(super) struct SopsSession {
    source: Source,
    format: Option<Format>,
    keys: Identities,
    /// The document of the version that was last read. Who reads meanwhile waits for it.
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    version: Option<String>,
    document: Arc<Node>,
}

impl SopsSession {
    /// A session; a file that is in the cluster is opened right now.
    ///
    /// # Errors
    /// As [`decrypt::open`].
    pub(super) fn open(source: Source, format: Option<Format>, keys: Identities) -> Result<Self, ProviderError> {
        let mut session = Self { source, format, keys, kept: Mutex::default() };
        if let Source::Object(file) = &session.source {
            let kept = session.decrypt(file)?;
            session.kept = Mutex::new(Some(kept));
        }
        Ok(session)
    }

    fn decrypt(&self, file: &File) -> Result<Kept, ProviderError> {
        let format = self.format.unwrap_or_else(|| Format::of(&file.name));
        let document = decrypt::open(&file.bytes, format, &self.keys, self.source.what())?;
        Ok(Kept { version: file.version.clone(), document: Arc::new(document) })
    }

    /// The document. A file on a server is asked for anew, and decrypted anew where it is another one.
    async fn document(&self, cx: &CallCx) -> Result<Arc<Node>, ProviderError> {
        let mut kept = self.kept.lock().await;
        let version = kept.as_ref().and_then(|kept| kept.version.as_deref());
        if let Some(file) = self.source.read(version, cx).await? {
            *kept = Some(self.decrypt(&file)?);
        }
        match kept.as_ref() {
            Some(kept) => Ok(kept.document.clone()),
            None => Err(ProviderError::new(ErrorKind::Malformed, format!("{}: the server sent none", self.source.what()))),
        }
    }
}

fn unsupported<T>(text: &str) -> Result<T, ProviderError> {
    Err(ProviderError::new(ErrorKind::Unsupported, text))
}

fn read(document: &Node, want: &Want) -> Result<Fetched, ProviderError> {
    if !want.version.is_empty() {
        return unsupported("a SOPS file has no versions: leave remoteRef.version out; what it held before is in Git");
    }
    if want.metadata == MetadataPolicy::Fetch {
        return unsupported("a SOPS file has no metadata of single keys: leave metadataPolicy out");
    }
    match document.find(&want.key) {
        Some(node) => Ok(Fetched { bytes: node.to_secret(), ..Fetched::default() }),
        None => Err(ProviderError::not_found(&want.key)),
    }
}

#[async_trait]
impl Session for SopsSession {
    fn batch_size(&self) -> usize {
        usize::MAX
    }

    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        match self.document(cx).await {
            Ok(document) => wants.iter().map(|want| read(&document, want)).collect(),
            Err(error) => wants.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The keys of the map at the path, of which the name fits.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        if !query.tags.is_empty() {
            return unsupported("keys of a SOPS file have no tags: use find.name, or find.path");
        }
        let regex = query.matcher()?;
        let document = self.document(cx).await?;
        let at = if query.path.is_empty() { Some(&*document) } else { document.find(query.path.trim_matches('/')) };
        let Some(Node::Map(pairs)) = at else { return Ok(Vec::new()) };
        let found = pairs.iter().filter(|(name, _)| regex.is_match(name));
        Ok(found.map(|(name, node)| Found { name: name.clone(), bytes: node.to_secret() }).collect())
    }

    async fn push(&self, _: &Push, _: &CallCx) -> Result<Pushed, ProviderError> {
        unsupported(READ_ONLY)
    }

    async fn delete(&self, _: &Place, _: &CallCx) -> Result<(), ProviderError> {
        unsupported(READ_ONLY)
    }

    async fn exists(&self, _: &Place, _: &CallCx) -> Result<bool, ProviderError> {
        unsupported(READ_ONLY)
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        self.document(cx).await.map(|_| Validation::Ready)
    }
}
