//! What /healthz and /readyz say.
//!
//! *Live* means: the work loop turns, and no watch has been broken for longer than a restart would take to help. *Ready* means:
//! every watch that was announced has listed its objects once, so that decisions rest on the whole picture.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the work loop may be silent before the process counts as stuck.
pub const STALE_AFTER: Duration = Duration::from_secs(60);
/// How long a watch may be broken before the process counts as stuck. An API server that restarts, or a network that is down for a
/// while, is no reason to restart too; a client that cannot find its way back is.
pub const BROKEN_AFTER: Duration = Duration::from_secs(900);
/// How long after its last failure a watch without events counts as working again. One that resumes where it was shows nothing
/// until an object changes; one that does not fails again within this time, which is more than the client's read timeout of
/// 295 seconds and the longest pause between two tries.
pub const QUIET: Duration = Duration::from_secs(360);

/// The state of the process, as those who do the work tell it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    beat: Instant,
    watches: BTreeMap<String, Watch>,
    leader: Option<bool>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    synced: bool,
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

    /// Announces a watch: the process is not ready before it is synced. Call before the watch starts.
    pub fn watch_expected(&self, kind: &str) {
        self.state().watches.entry(kind.to_owned()).or_default();
    }

    /// Tells that a watch has listed its objects once, or works again.
    pub fn watch_synced(&self, kind: &str) {
        self.state().watches.insert(kind.to_owned(), Watch { synced: true, broken: None });
    }

    /// Tells that a watch failed. Telling it again does not restart the time.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_failed_at(kind, Instant::now());
    }

    fn watch_failed_at(&self, kind: &str, now: Instant) {
        let mut state = self.state();
        let watch = state.watches.entry(kind.to_owned()).or_default();
        let since = watch.broken.filter(|broken| broken.is_at(now)).map_or(now, |broken| broken.since);
        watch.broken = Some(Broken { since, last: now });
    }

    /// Tells that a watch which had failed gets events again.
    pub fn watch_recovered(&self, kind: &str) {
        if let Some(watch) = self.state().watches.get_mut(kind) {
            watch.broken = None;
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
        for (kind, watch) in &state.watches {
            let says = if watch.synced { "synced" } else { "waits for its first list" };
            report.line(watch.synced, &format!("watch of {kind}"), says);
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
        health.watch_expected("ExternalSecret");
        health.watch_expected("SecretStore");
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
}
