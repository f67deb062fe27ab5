//! Objects as our own writes left them: the answer may come after the watch has told that the object is gone.

use std::sync::Arc;

use super::{Index, Key, StoreId};
use crate::api::{AnyStore, ExternalSecret};
use crate::queue::Priority;

impl Index {
    /// As [`Index::upsert_external_secret`], for an object as our own write left it: one that went meanwhile does not come back.
    pub fn renew_external_secret(&mut self, new: Arc<ExternalSecret>) -> Option<Priority> {
        let held =
            self.external_secrets.get(&Key::of(&new.metadata)).is_some_and(|old| old.metadata.uid == new.metadata.uid);
        if held { self.upsert_external_secret(new) } else { None }
    }

    /// As [`Index::upsert_store`], for a store as our own write left it: one that went meanwhile does not come back.
    pub fn renew_store(&mut self, new: Arc<AnyStore>) {
        if self.stores.get(&StoreId::of(&new)).is_some_and(|old| old.metadata.uid == new.metadata.uid) {
            self.upsert_store(new);
        }
    }
}
