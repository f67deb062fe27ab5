//! The order of the watches in a list of namespaces: where one may not be read, the others are served, and once it may be read,
//! its ExternalSecrets and PushSecrets come after all that is decided by. Else a PushSecret's source would seem to be gone
//! for as long as its list is on the way.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

/// The kinds that decisions rest on.
const SOURCES: [&str; 4] = ["ConfigMap", "Secret", "SecretStore", "ServiceAccount"];

/// What one namespace has not listed yet of the kinds that decisions rest on. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Unlisted(Arc<watch::Sender<BTreeSet<&'static str>>>);

impl Default for Unlisted {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(SOURCES.into())))
    }
}

impl Unlisted {
    /// With one kind more.
    pub(super) fn and(kind: &'static str) -> Self {
        let unlisted = Self::default();
        unlisted.0.send_if_modified(|kinds| kinds.insert(kind));
        unlisted
    }

    /// A kind is listed.
    pub(super) fn listed(&self, kind: &str) {
        self.0.send_if_modified(|kinds| kinds.remove(kind));
    }

    /// Waits until the watch of a kind may begin.
    pub(super) async fn turn_of(&self, kind: &str) {
        if !SOURCES.contains(&kind) {
            // the sender lives in `self`, so the wait cannot fail
            let _ = self.0.subscribe().wait_for(BTreeSet::is_empty).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn who_decides_comes_after_what_is_decided_by() {
        let unlisted = Unlisted::default();
        for kind in SOURCES {
            assert!(unlisted.turn_of(kind).now_or_never().is_some(), "{kind} waits for nobody");
            assert!(unlisted.turn_of("PushSecret").now_or_never().is_none(), "{kind} is not known yet");
            unlisted.listed(kind);
            unlisted.listed(kind);
        }
        assert!(unlisted.turn_of("PushSecret").now_or_never().is_some());
        let unlisted = Unlisted::and("Namespace");
        SOURCES.iter().for_each(|kind| unlisted.listed(kind));
        assert!(unlisted.turn_of("ExternalSecret").now_or_never().is_none());
        unlisted.listed("Namespace");
        assert!(unlisted.turn_of("ExternalSecret").now_or_never().is_some());
    }
}
