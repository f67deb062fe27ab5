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
    /// Whether the value may be in its place all the same: the write went out, and was not answered, or not so that it can be
    /// understood, or what failed came after it.
    pub perhaps: bool,
}

impl NotPushed {
    /// What a write that went out came to.
    fn of_write(error: ProviderError) -> Self {
        let is_open = matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Malformed);
        Self { perhaps: error.written || is_open, error }
    }
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
        pushed.map_err(NotPushed::of_write)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_after_the_write_takes_nothing_back() {
        use ErrorKind::{Conflict, Denied, Malformed, Misconfigured, Throttled, Unavailable};
        for (kind, perhaps) in [
            (Denied, false),
            (Misconfigured, false),
            (Throttled, false),
            (Conflict, false),
            (Malformed, true),
            (Unavailable, true),
        ] {
            let error = || ProviderError::new(kind, "x");
            assert_eq!(NotPushed::of_write(error()).perhaps, perhaps, "{kind:?}");
            assert!(NotPushed::of_write(error().after_writing(true)).perhaps, "{kind:?}");
            assert_eq!(NotPushed::of_write(error().after_writing(false)).perhaps, perhaps, "{kind:?}");
        }
    }
}
