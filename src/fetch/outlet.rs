//! A store that is written to.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use tokio::sync::Mutex;

use super::Fetcher;
use super::handle::{Handle, Turn};
use crate::index::StoreId;
use crate::providers::{CallCx, ErrorKind, Place, ProviderError, Push, Pushed, Session};

/// How many keys of a store can be written to at a time.
const KEYS: usize = 16;

/// One lock for some of a store's keys: a write that sets a part of a value reads it first, and nobody else may write between. No lock is
/// shared by stores: one whose server hangs would hold up the others.
#[derive(Default)]
pub(super) struct Writes([Mutex<()>; KEYS]);

impl Writes {
    /// The lock of a key.
    pub(super) fn of(&self, key: &str) -> Option<&Mutex<()>> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        self.0.get(usize::try_from(hasher.finish() % KEYS as u64).unwrap_or_default())
    }
}

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

    /// Waits for the turn of a place: until its end, nobody else writes there.
    ///
    /// # Errors
    /// Why no call can go out.
    pub async fn writing(&self, place: &Place) -> Result<Writing<'_>, ProviderError> {
        let (turn, cx) = self.handle.turn(&place.key, &self.cause).await?;
        Ok(Writing { outlet: self, cx, _turn: turn })
    }
}

/// The turn of a place that is written to.
pub struct Writing<'a> {
    outlet: &'a Outlet<'a>,
    cx: CallCx,
    _turn: Turn<'a>,
}

impl Writing<'_> {
    /// Writes a value to the place, unless it is there.
    ///
    /// # Errors
    /// What the provider said.
    pub async fn push(&self, push: &Push) -> Result<Pushed, NotPushed> {
        let Outlet { fetcher, id, handle, session, .. } = self.outlet;
        let pushed = handle.one("Push", &self.cx, session.push(push, &self.cx)).await;
        if !matches!(pushed, Ok(Pushed::Unchanged)) {
            fetcher.forget_key(id, &push.place.key);
        }
        pushed.map_err(NotPushed::of_write)
    }

    /// Deletes what was pushed to the place.
    ///
    /// # Errors
    /// What the provider said.
    pub async fn delete(&self, place: &Place) -> Result<(), ProviderError> {
        let Outlet { fetcher, id, handle, session, .. } = self.outlet;
        let deleted = handle.one("Delete", &self.cx, session.delete(place, &self.cx)).await;
        fetcher.forget_key(id, &place.key);
        deleted
    }

    /// Whether there is a value at the place.
    ///
    /// # Errors
    /// What the provider said.
    pub async fn exists(&self, place: &Place) -> Result<bool, ProviderError> {
        let Outlet { handle, session, .. } = self.outlet;
        handle.one("Exists", &self.cx, session.exists(place, &self.cx)).await
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
