//! What a search found, and how much that may be.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{CallCx, ErrorKind, ProviderError, Session, Want};
use crate::secret_bytes::SecretBytes;

/// Most bytes that are gathered for one object: what a search finds, and all keys and values together. A Secret holds an eighth; a
/// template may make less of them.
pub const MOST_GATHERED: usize = 8 << 20;

/// Room for what a search finds. It is counted while it comes in: a server may have more of it than the process has memory.
pub struct Room {
    taken: AtomicUsize,
    most: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self::of(MOST_GATHERED)
    }
}

impl Room {
    /// For so many bytes.
    #[must_use]
    pub fn of(most: usize) -> Self {
        Self { taken: AtomicUsize::new(0), most }
    }

    /// Takes room for that many bytes.
    ///
    /// # Errors
    /// `Malformed` where there is none left.
    pub fn take(&self, bytes: usize) -> Result<(), ProviderError> {
        if self.taken.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes) <= self.most {
            return Ok(());
        }
        let text = format!(
            "the store answers with more than {} bytes of names and values, and a Secret holds 1048576: narrow what is asked for",
            self.most
        );
        Err(ProviderError::new(ErrorKind::Malformed, text))
    }
}

/// A value that was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Name that becomes the key.
    pub name: String,
    /// The value, whole.
    pub bytes: SecretBytes,
}

impl Found {
    /// Reads what was listed, `at_once` at a time. What went away between the list and the read is left out.
    ///
    /// # Errors
    /// The first other one; `Malformed` where there is more than an object may have.
    pub async fn read_all(
        session: &impl Session,
        names: impl IntoIterator<Item = String>,
        at_once: usize,
        cx: &CallCx,
    ) -> Result<Vec<Self>, ProviderError> {
        let wants: Vec<Want> = names.into_iter().map(|key| Want { key, ..Want::default() }).collect();
        let (mut found, room) = (Vec::with_capacity(wants.len()), Room::default());
        for batch in wants.chunks(at_once.max(1)) {
            for (want, read) in batch.iter().zip(session.get(batch, cx).await) {
                match read {
                    Ok(fetched) => {
                        room.take(want.key.len() + fetched.bytes.len())?;
                        found.push(Self { name: want.key.clone(), bytes: fetched.bytes });
                    }
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::providers::{Fetched, Validation};

    /// A store whose values have a quarter of what may be gathered each.
    #[derive(Default)]
    struct Large(AtomicUsize);

    #[async_trait]
    impl Session for Large {
        async fn get(&self, wants: &[Want], _: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
            self.0.fetch_add(wants.len(), Ordering::Relaxed);
            let bytes = SecretBytes::new(vec![b'x'; MOST_GATHERED / 4]);
            wants.iter().map(|_| Ok(Fetched { bytes: bytes.clone(), ..Fetched::default() })).collect()
        }

        async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
            Ok(Validation::Ready)
        }
    }

    #[tokio::test]
    async fn a_search_ends_where_it_found_more_than_an_object_may_have() {
        let store = Large::default();
        let read = async |count: usize| {
            Found::read_all(&store, (0..count).map(|n| n.to_string()), 2, &CallCx::default()).await.map(|found| found.len())
        };
        assert_eq!(read(3).await.unwrap(), 3);
        let error = read(100).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed);
        assert!(error.detail.starts_with("the store answers with more than 8388608 bytes"), "{error}");
        assert_eq!(store.0.load(Ordering::Relaxed), 3 + 4, "no more is asked for");
    }
}
