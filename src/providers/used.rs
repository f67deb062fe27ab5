//! Which objects a login was made with: news of the very same version are no news.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::Resource;

use super::ReferenceKind;

/// Most times that an object is read because it changed while it was read.
const TRIES: usize = 3;

/// The objects that a login was made with, and the resourceVersion of each.
#[derive(Clone, Default)]
pub struct UsedReferences(Arc<Mutex<HashMap<Used, Use>>>);

/// Kind, namespace and name of an object that was used.
pub(super) type Used = (ReferenceKind, String, String);

enum Use {
    /// It is being read; and the last version that was told of meanwhile.
    Reading(Option<String>),
    /// It was read, with this version; empty where the login is of no one version: it was read twice with a change between, or a
    /// token of it was asked for, which does not say.
    Read(String),
    /// It could not be read the last time.
    Missing,
}

impl UsedReferences {
    /// Whether nothing that came of the login so far could be other for this version of an object.
    ///
    /// What has not been read yet, if it ever is, will be read as new as the news: the API server answers with what is there. An
    /// object that is being read at this moment will have the version, or be read again: see [`UsedReferences::reading`].
    #[must_use]
    pub fn is_of(&self, kind: ReferenceKind, namespace: &str, name: &str, version: &str) -> bool {
        match self.lock().get_mut(&(kind, namespace.to_owned(), name.to_owned())) {
            None => true,
            Some(Use::Missing) => false,
            Some(Use::Read(used)) => used == version,
            Some(Use::Reading(told)) => {
                *told = Some(version.to_owned());
                true
            }
        }
    }

    /// The objects that were read, each with its version: empty where the login is of no one version.
    pub(super) fn versions(&self) -> Vec<(Used, String)> {
        let version = |one: &Use| match one {
            Use::Read(version) => Some(version.clone()),
            Use::Reading(_) | Use::Missing => None,
        };
        self.lock().iter().filter_map(|(used, one)| Some((used.clone(), version(one)?))).collect()
    }

    /// A use of an object that does not tell which version it was of.
    pub(super) fn note(&self, (kind, namespace, name): (ReferenceKind, &str, &str)) {
        let key = (kind, namespace.to_owned(), name.to_owned());
        self.lock().entry(key).or_insert(Use::Read(String::new()));
    }

    /// Reads an object, and notes which version it was. What was read is read again where another version was told of meanwhile:
    /// the answer may be older than the news, and who told them was sent away.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) async fn reading<T: Resource, E, F: Future<Output = Result<T, E>>>(
        &self,
        (kind, namespace, name): (ReferenceKind, &str, &str),
        read: impl Fn() -> F,
    ) -> Result<T, E> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let mut left = TRIES;
        loop {
            left -= 1;
            let reading = self.begin(&key);
            let result = read().await;
            let version = result.as_ref().ok().map(|object| object.meta().resource_version.clone().unwrap_or_default());
            if reading.end(version) || left == 0 {
                return result;
            }
        }
    }

    fn begin<'a>(&'a self, key: &'a Used) -> Reading<'a> {
        let mut used = self.lock();
        let one = used.entry(key.clone()).or_insert(Use::Missing);
        if matches!(one, Use::Missing) {
            *one = Use::Reading(None);
        }
        Reading { used: self, key }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Used, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read that is under way. One that is given up leaves nothing behind.
struct Reading<'a> {
    used: &'a UsedReferences,
    key: &'a Used,
}

impl Reading<'_> {
    /// The read came to a version, or to none. Whether that is as new as all that was told of meanwhile.
    fn end(self, version: Option<String>) -> bool {
        let mut used = self.used.lock();
        let Entry::Occupied(mut entry) = used.entry(self.key.clone()) else { return true };
        match (entry.get_mut(), version) {
            (Use::Reading(told), version) => {
                let is_new = told.is_none() || *told == version;
                *entry.get_mut() = version.filter(|_| is_new).map_or(Use::Missing, Use::Read);
                is_new
            }
            (Use::Read(first), Some(version)) => {
                if *first != version {
                    first.clear();
                }
                true
            }
            (Use::Read(_) | Use::Missing, _) => true,
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut used = self.used.lock();
        if matches!(used.get(self.key), Some(Use::Reading(_))) {
            used.remove(self.key);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::Secret;
    use kube::api::ObjectMeta;

    use super::*;

    const KEY: (ReferenceKind, &str, &str) = (ReferenceKind::Secret, "ns", "key");

    fn secret(version: &str) -> Secret {
        let metadata = ObjectMeta { resource_version: Some(version.into()), ..ObjectMeta::default() };
        Secret { metadata, ..Secret::default() }
    }

    fn is_of(used: &UsedReferences, version: &str) -> bool {
        used.is_of(KEY.0, KEY.1, KEY.2, version)
    }

    /// Reads versions, one after the other; while the first is read, a version is told of. How many were read.
    async fn read(used: &UsedReferences, versions: &[Option<&str>], told: Option<&str>) -> usize {
        let reads = AtomicUsize::new(0);
        let one = || async {
            let turn = reads.fetch_add(1, Ordering::Relaxed);
            if let (0, Some(told)) = (turn, told) {
                assert!(is_of(used, told), "whoever tells is sent away");
            }
            let version = versions.get(turn).or(versions.last()).unwrap();
            version.map(secret).ok_or(())
        };
        let _ = used.reading(KEY, one).await;
        reads.into_inner()
    }

    #[tokio::test]
    async fn a_version_that_was_read_is_no_news() {
        let used = UsedReferences::default();
        assert!(is_of(&used, "5"), "it will be read as it is");
        assert_eq!(read(&used, &[Some("5")], None).await, 1);
        assert_eq!((is_of(&used, "5"), is_of(&used, "6")), (true, false));
        assert!(used.is_of(ReferenceKind::ServiceAccount, "ns", "key", "5"), "another object");
        read(&used, &[Some("5")], None).await;
        assert!(is_of(&used, "5"), "read again, and the same");
        let versions = || used.versions().into_iter().map(|(_, version)| version).collect::<Vec<_>>();
        assert_eq!(versions(), ["5"]);
        read(&used, &[Some("6")], None).await;
        assert_eq!((is_of(&used, "5"), is_of(&used, "6")), (false, false), "a login of two versions is of neither");
        assert_eq!(versions(), [""]);
    }

    #[tokio::test]
    async fn what_changes_while_it_is_read_is_read_again() {
        let used = UsedReferences::default();
        assert_eq!(read(&used, &[Some("5")], Some("5")).await, 1, "the news were of what was read");
        assert!(is_of(&used, "5"));

        let used = UsedReferences::default();
        assert_eq!(read(&used, &[Some("5"), Some("6")], Some("6")).await, 2);
        assert!(is_of(&used, "6"));

        let used = UsedReferences::default();
        assert_eq!(read(&used, &[None, Some("6")], Some("6")).await, 2, "it was missing, and came");
        assert!(is_of(&used, "6"));
    }

    #[tokio::test]
    async fn what_was_missing_is_news_until_it_is_read() {
        let used = UsedReferences::default();
        assert_eq!(read(&used, &[None], None).await, 1);
        assert!(!is_of(&used, "5"), "what failed for want of it may go well now");
        read(&used, &[Some("5")], None).await;
        assert_eq!((is_of(&used, "5"), is_of(&used, "6")), (true, false));
    }

    #[tokio::test]
    async fn a_read_that_is_given_up_is_not_a_use() {
        let used = UsedReferences::default();
        let never = used.reading(KEY, std::future::pending::<Result<Secret, ()>>);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(5), never).await.is_err());
        assert!(is_of(&used, "5"));
    }

    #[test]
    fn a_use_of_no_known_version_makes_all_news() {
        let used = UsedReferences::default();
        used.note(KEY);
        assert!(!is_of(&used, "5"));
    }
}
