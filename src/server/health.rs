//! What /healthz and /readyz say.
//!
//! *Live* means: the work loop turns, and no watch has been broken for longer than a restart would take to help. *Ready* means:
//! every watch that was announced has listed its objects once, so that decisions rest on the whole picture. A namespace of a list of
//! namespaces that may not be read is not served, and stops neither the others nor the process: only when there is no other is
//! the process not ready.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the work loop may be silent before the process counts as stuck.
pub const STALE_AFTER: Duration = Duration::from_secs(60);
/// How long a watch may be broken before the process counts as stuck. An API server that restarts, or a network that is down for a
/// while, is no reason to restart too; a client that cannot find its way back is.
pub const BROKEN_AFTER: Duration = Duration::from_secs(900);
/// How long after its last failure a watch without events counts as working again. One that resumes where it was shows nothing
/// until an object changes; one that does not fails again within this time, which is more than a connection and an answer may
/// take (30 s, and [`SILENCE`](crate::outbound::api_server::SILENCE)) with the pause before them, of at most 60 s.
pub const QUIET: Duration = Duration::from_secs(420);
/// What is said of a watch that the API server refuses.
const REFUSED: &str = "may not be listed or watched (403), so that its namespace is not served; asked again";

/// The state of the process, as those who do the work tell it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    beat: Instant,
    watches: BTreeMap<String, Watch>,
    leader: Option<bool>,
}

#[derive(Clone, Debug, Default)]
struct Watch {
    /// That of a watch of one namespace.
    namespace: Option<String>,
    synced: bool,
    /// When the API server last said that the operator has no right to it, which a restart does not change.
    refused: Option<Instant>,
    broken: Option<Broken>,
}

#[derive(Clone, Copy, Debug)]
struct Broken {
    since: Instant,
    last: Instant,
}

/// An answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Whether the probe passes.
    pub ok: bool,
    /// One line for each thing that was looked at: `[+]` passes, `[-]` does not, `[ ]` is for information.
    pub text: String,
}

impl Watch {
    /// Whether the operator may not watch it, as far as can be told: see [`QUIET`].
    fn is_refused(&self, now: Instant) -> bool {
        self.refused.is_some_and(|last| now.saturating_duration_since(last) < QUIET)
    }
}

impl State {
    /// The namespaces in which something may not be watched.
    fn unserved(&self, now: Instant) -> BTreeSet<&str> {
        self.watches.values().filter(|watch| watch.is_refused(now)).filter_map(|watch| watch.namespace.as_deref()).collect()
    }
}

impl Broken {
    /// Whether the watch does not work, as far as can be told.
    fn is_at(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < QUIET
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::starting_at(Instant::now())
    }
}

impl Health {
    fn starting_at(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(State { beat: now, watches: BTreeMap::new(), leader: None })))
    }

    /// Announces a watch, of one namespace or of all: the process is not ready before it is synced. Call before the watch starts.
    pub fn watch_expected(&self, kind: &str, namespace: Option<&str>) {
        self.state().watches.entry(kind.to_owned()).or_default().namespace = namespace.map(str::to_owned);
    }

    /// Tells that a watch has listed its objects once, or works again.
    pub fn watch_synced(&self, kind: &str) {
        let mut state = self.state();
        let watch = state.watches.entry(kind.to_owned()).or_default();
        (watch.synced, watch.refused, watch.broken) = (true, None, None);
    }

    /// Tells that the operator may not watch this in its namespace.
    pub fn watch_refused(&self, kind: &str) {
        self.watch_refused_at(kind, Instant::now());
    }

    fn watch_refused_at(&self, kind: &str, now: Instant) {
        let mut state = self.state();
        let watch = state.watches.entry(kind.to_owned()).or_default();
        (watch.refused, watch.broken) = (Some(now), None);
    }

    /// Tells that a watch failed. Telling it again does not restart the time.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_failed_at(kind, Instant::now());
    }

    fn watch_failed_at(&self, kind: &str, now: Instant) {
        let mut state = self.state();
        let watch = state.watches.entry(kind.to_owned()).or_default();
        watch.refused = None;
        let since = watch.broken.filter(|broken| broken.is_at(now)).map_or(now, |broken| broken.since);
        watch.broken = Some(Broken { since, last: now });
    }

    /// Tells that a watch which had failed gets events again.
    pub fn watch_recovered(&self, kind: &str) {
        if let Some(watch) = self.state().watches.get_mut(kind) {
            (watch.refused, watch.broken) = (None, None);
        }
    }

    /// Tells that the work loop turns. Call it more often than once in [`STALE_AFTER`], also when there is no work.
    pub fn beat(&self) {
        self.state().beat = Instant::now();
    }

    /// Tells whether this process leads. For information: a replica that stands by is as ready as the leader.
    pub fn leader(&self, leads: bool) {
        self.state().leader = Some(leads);
    }

    /// What /healthz answers.
    #[must_use]
    pub fn live(&self) -> Report {
        self.live_at(Instant::now())
    }

    fn live_at(&self, now: Instant) -> Report {
        let state = self.state();
        let silent = now.saturating_duration_since(state.beat);
        let mut report = Report::default();
        report.line(silent < STALE_AFTER, "work loop", &format!("last turned {} s ago", silent.as_secs()));
        for (kind, watch) in &state.watches {
            let broken = watch.broken.filter(|broken| broken.is_at(now)).map(|b| now.saturating_duration_since(b.since));
            match broken {
                _ if watch.is_refused(now) => report.note(&format!("watch of {kind}"), REFUSED),
                None => report.line(true, &format!("watch of {kind}"), "works"),
                Some(t) => {
                    report.line(t < BROKEN_AFTER, &format!("watch of {kind}"), &format!("broken for {} s", t.as_secs()));
                }
            }
        }
        report
    }

    /// What /readyz answers.
    #[must_use]
    pub fn ready(&self) -> Report {
        let state = self.state();
        let mut report = Report::default();
        if state.watches.is_empty() {
            report.line(false, "watches", "not started yet");
        }
        let now = Instant::now();
        let unserved = state.unserved(now);
        for (kind, watch) in &state.watches {
            let what = format!("watch of {kind}");
            match &watch.namespace {
                _ if watch.is_refused(now) => report.note(&what, REFUSED),
                _ if watch.synced => report.line(true, &what, "synced"),
                Some(namespace) if unserved.contains(namespace.as_str()) => {
                    report.note(&what, "its namespace is not served")
                }
                _ => report.line(false, &what, "waits for its first list"),
            }
        }
        let mut namespaces = state.watches.values().filter_map(|watch| watch.namespace.as_deref()).peekable();
        if namespaces.peek().is_some() && namespaces.all(|namespace| unserved.contains(namespace)) {
            report.line(false, "namespaces", "none is served");
        }
        if let Some(leader) = state.leader {
            report.note("leader election", if leader { "leads" } else { "stands by" });
        }
        report
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Report {
    fn default() -> Self {
        Self { ok: true, text: String::new() }
    }
}

impl Report {
    fn line(&mut self, ok: bool, what: &str, says: &str) {
        self.ok &= ok;
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "[{}] {what}: {says}", if ok { '+' } else { '-' });
    }

    fn note(&mut self, what: &str, says: &str) {
        let _ = writeln!(self.text, "[ ] {what}: {says}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_while_the_loop_turns() {
        let start = Instant::now();
        let health = Health::starting_at(start);
        assert!(health.live_at(start + Duration::from_secs(59)).ok, "slow to start is not stuck");
        let stuck = health.live_at(start + Duration::from_secs(60));
        assert!(!stuck.ok);
        assert_eq!(stuck.text, "[-] work loop: last turned 60 s ago\n");
        health.beat();
        assert!(health.live().ok);
    }

    #[test]
    fn not_live_when_a_watch_stays_broken() {
        let start = Instant::now();
        let late = start + BROKEN_AFTER;
        let health = Health::starting_at(late);
        health.watch_synced("SecretStore");
        for failure in 0..=9 {
            health.watch_failed_at("SecretStore", start + BROKEN_AFTER / 9 * failure);
        }
        assert!(health.live_at(start + BROKEN_AFTER - Duration::from_secs(1)).ok);
        let broken = health.live_at(late);
        assert!(!broken.ok && broken.text.contains("[-] watch of SecretStore: broken for 900 s"), "{}", broken.text);
        health.watch_recovered("SecretStore");
        assert!(health.live_at(late).ok);
    }

    #[test]
    fn a_watch_that_resumes_in_silence_works() {
        let start = Instant::now();
        let health = Health::starting_at(start + BROKEN_AFTER);
        health.watch_synced("SecretStore");
        health.watch_failed_at("SecretStore", start);
        assert!(health.live_at(start + Duration::from_secs(1)).text.contains("broken for 1 s"));
        let later = health.live_at(start + BROKEN_AFTER);
        assert!(later.ok && later.text.contains("watch of SecretStore: works"), "{}", later.text);
        health.watch_failed_at("SecretStore", start + BROKEN_AFTER);
        let again = health.live_at(start + BROKEN_AFTER);
        assert!(again.ok && again.text.contains("broken for 0 s"), "{}", again.text);
    }

    #[test]
    fn ready_when_all_watches_have_synced() {
        let health = Health::default();
        assert!(!health.ready().ok, "nothing is known yet");
        health.watch_expected("ExternalSecret", None);
        health.watch_expected("SecretStore", None);
        health.watch_synced("SecretStore");
        let waiting = health.ready();
        assert!(!waiting.ok);
        assert!(waiting.text.contains("[-] watch of ExternalSecret: waits for its first list"), "{}", waiting.text);
        health.watch_synced("ExternalSecret");
        health.leader(false);
        let ready = health.ready();
        assert!(ready.ok && ready.text.contains("[ ] leader election: stands by"), "{}", ready.text);
        health.watch_failed("ExternalSecret");
        assert!(health.ready().ok, "what was listed stays known");
    }

    #[test]
    fn a_namespace_that_may_not_be_read_stops_no_other() {
        let start = Instant::now();
        let health = Health::starting_at(start + BROKEN_AFTER);
        for namespace in ["a", "c"] {
            for kind in ["ExternalSecret", "Secret"] {
                health.watch_expected(&format!("{kind} in {namespace}"), Some(namespace));
            }
        }
        health.watch_refused("Secret in c");
        let waiting = health.ready();
        assert!(!waiting.ok && waiting.text.contains("[-] watch of Secret in a: waits"), "{}", waiting.text);
        health.watch_synced("Secret in a");
        health.watch_synced("ExternalSecret in a");
        let ready = health.ready();
        assert!(ready.ok, "{}", ready.text);
        assert!(ready.text.contains("[ ] watch of Secret in c: may not be listed"), "{}", ready.text);
        assert!(ready.text.contains("[ ] watch of ExternalSecret in c: its namespace is not served"), "{}", ready.text);
        // the rights come back
        health.watch_synced("Secret in c");
        assert!(!health.ready().ok, "its ExternalSecrets are not known yet");
        health.watch_synced("ExternalSecret in c");
        assert_eq!(health.ready().text.matches("[+]").count(), 4);
    }

    #[test]
    fn a_restart_is_no_help_against_a_refusal() {
        let start = Instant::now();
        let late = start + BROKEN_AFTER;
        let health = Health::starting_at(late);
        health.watch_expected("Secret in c", Some("c"));
        health.watch_synced("Secret in c");
        for failure in 0..=9 {
            health.watch_failed_at("Secret in c", start + BROKEN_AFTER / 9 * failure);
        }
        assert!(!health.live_at(late).ok);
        health.watch_refused_at("Secret in c", late);
        let live = health.live_at(late);
        assert!(live.ok && live.text.contains("[ ] watch of Secret in c: may not be listed"), "{}", live.text);
        let ready = health.ready();
        assert!(!ready.ok && ready.text.contains("[-] namespaces: none is served"), "{}", ready.text);
        health.watch_failed_at("Secret in c", late);
        assert!(health.live_at(late).text.contains("broken for 0 s"), "it breaks for another reason from now on");
        health.watch_refused_at("Secret in c", late);
        assert!(health.live_at(late + QUIET).text.contains("watch of Secret in c: works"), "it resumed in silence");
    }
}
