//! What a search found.

use super::{CallCx, ErrorKind, ProviderError, Session, Want};
use crate::secret_bytes::SecretBytes;

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
    /// The first other one.
    pub async fn read_all(
        session: &impl Session,
        names: impl IntoIterator<Item = String>,
        at_once: usize,
        cx: &CallCx,
    ) -> Result<Vec<Self>, ProviderError> {
        let wants: Vec<Want> = names.into_iter().map(|key| Want { key, ..Want::default() }).collect();
        let mut found = Vec::with_capacity(wants.len());
        for batch in wants.chunks(at_once.max(1)) {
            for (want, read) in batch.iter().zip(session.get(batch, cx).await) {
                match read {
                    Ok(fetched) => found.push(Self { name: want.key.clone(), bytes: fetched.bytes }),
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }
}
