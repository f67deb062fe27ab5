//! What this process remembers of each PushSecret.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::generated::Attempt;
use crate::index::Key;
use crate::plan::push_secret::Memory;
use crate::plan::push_secret::generate::Holdings;

/// What this process remembers of each PushSecret.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<Key, Remembered>>);

/// What it remembers of one.
#[derive(Default)]
pub(super) struct Remembered {
    memory: Memory,
    /// What the stores hold of generated values.
    pub(super) holdings: Holdings,
    /// What was generated, and pushed without an answer, or not everywhere.
    pub(super) unanswered: Option<Attempt>,
}

impl Memories {
    pub(super) fn of(&self, key: &Key) -> Memory {
        self.lock().get(key).map(|remembered| remembered.memory.clone()).unwrap_or_default()
    }

    /// What is to be remembered; `None`: the object is gone.
    pub(super) fn set(&self, key: &Key, memory: Option<Memory>) {
        let Some(memory) = memory else {
            self.lock().remove(key);
            return;
        };
        self.with(key, |remembered| {
            if memory.failures == 0 {
                remembered.unanswered = None;
            }
            remembered.memory = memory;
        });
    }

    pub(super) fn with<T>(&self, key: &Key, use_it: impl FnOnce(&mut Remembered) -> T) -> T {
        use_it(self.lock().entry(key.clone()).or_default())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Remembered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
