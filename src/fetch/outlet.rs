//! A store that is written to.

use std::sync::Arc;

use super::Fetcher;
use super::handle::Handle;
use crate::index::StoreId;
use crate::providers::{ErrorKind, Place, ProviderError, Push, Pushed, Session};

/// A store that is written to, logged in to.
pub struct Outlet<'a> {
    fetcher: &'a Fetcher,
    id: StoreId,
    handle: Arc<Handle>,
    session: Arc<dyn Session>,
    cause: String,
}

/// Why a push failed.
#[derive(Debug)]
pub struct NotPushed {
    /// What the provider said.
    pub error: ProviderError,
    /// Whether the value may be in its place all the same: the write went out, and was not answered.
    pub perhaps: bool,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(
        fetcher: &'a Fetcher,
        id: StoreId,
        handle: Arc<Handle>,
        session: Arc<dyn Session>,
        cause: &str,
    ) -> Self {
        Self { fetcher, id, handle, session, cause: cause.to_owned() }
    }

    /// Writes a value to its place, unless it is there.
    ///
    /// # Errors
    /// What the provider said.
    pub async fn push(&self, push: &Push) -> Result<Pushed, NotPushed> {
        let turn = self.handle.turn(&push.place.key, &self.cause).await;
        let (_turn, cx) = turn.map_err(|error| NotPushed { error, perhaps: false })?;
        let pushed = self.handle.one("Push", &cx, self.session.push(push, &cx)).await;
        if !matches!(pushed, Ok(Pushed::Unchanged)) {
            self.fetcher.forget_key(&self.id, &push.place.key);
        }
        pushed.map_err(|error| NotPushed { perhaps: error.kind == ErrorKind::Unavailable, error })
    }

    /// Deletes what was pushed to a place.
    ///
    /// # Errors
    /// What the provider said.
    pub async fn delete(&self, place: &Place) -> Result<(), ProviderError> {
        let (_turn, cx) = self.handle.turn(&place.key, &self.cause).await?;
        let deleted = self.handle.one("Delete", &cx, self.session.delete(place, &cx)).await;
        self.fetcher.forget_key(&self.id, &place.key);
        deleted
    }

    /// Whether there is a value at a place.
    ///
    /// # Errors
    /// What the provider said.
    pub async fn exists(&self, place: &Place) -> Result<bool, ProviderError> {
        let (_turn, cx) = self.handle.turn(&place.key, &self.cause).await?;
        self.handle.one("Exists", &cx, self.session.exists(place, &cx)).await
    }
}
