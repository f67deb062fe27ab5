//! Holds a failing store's calls back. Pure: the caller says what time it is.

use std::time::Duration;

use tokio::time::Instant;

use crate::providers::{ProviderError, retries};

/// First pause after a failure of the whole store.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause, unless the provider asks for a longer one: an outage ends for its users when the next call goes out. Those whose
/// own call failed wait a quarter longer.
const LONGEST: Duration = Duration::from_secs(12);
/// Longest pause that a provider's Retry-After is believed for.
const LONGEST_ASKED: Duration = Duration::from_secs(900);

/// Whether a store's calls may go out.
#[derive(Debug, Default)]
pub struct Gate {
    failures: u32,
    /// Until when, and why: without names, as others than those who asked for the object read it.
    closed: Option<(Instant, ProviderError)>,
    /// Since when somebody finds out whether the store is back.
    probed: Option<Instant>,
    /// When the last call that went well was sent.
    good: Option<Instant>,
}

impl Gate {
    /// Why a call may not go out now: the failure that closed the gate, with the time that is left.
    pub fn check(&self, now: Instant) -> Result<(), ProviderError> {
        match &self.closed {
            Some((until, error)) if *until > now => Err(error.clone().after(*until - now)),
            _ => Ok(()),
        }
    }

    /// Lets somebody in, or says why not. After the pause one goes ahead and the others fail until it is known what became of
    /// it: a store that hangs would hold them all up, again and again. Whether this is the one, who must [`leave`](Self::leave).
    pub fn enter(&mut self, now: Instant) -> Result<bool, ProviderError> {
        self.check(now)?;
        let Some((_, error)) = &self.closed else { return Ok(false) };
        if let Some(since) = self.probed {
            // a store that is back answers soon; the longer it takes, the less often it is asked about
            let wait = now.saturating_duration_since(since).clamp(FIRST, LONGEST);
            return Err(error.clone().after(wait));
        }
        self.probed = Some(now);
        Ok(true)
    }

    /// The one that went ahead is back, or gave up.
    pub fn leave(&mut self) {
        self.probed = None;
    }

    /// A call came back, sent at `sent`. Only a failure of the whole store closes the gate, and of those that were under way
    /// together only the first one counts.
    pub fn record(&mut self, error: Option<&ProviderError>, sent: Instant, now: Instant) {
        let error = error.filter(|e| e.kind.is_store_wide());
        let asked = error.and_then(|e| e.retry_after).unwrap_or_default().min(LONGEST_ASKED);
        if let Some((until, _)) = self.closed.as_mut().filter(|(until, _)| sent < *until) {
            // It was under way when the gate closed: that it went well is no news, and the longest wait that was asked for holds.
            if !asked.is_zero() {
                *until = (*until).max(now + asked);
            }
            return;
        }
        let Some(error) = error else {
            self.failures = 0;
            self.closed = None;
            self.good = self.good.max(Some(sent));
            return;
        };
        // A search that passes its deadline, say: what was sent after it was answered, so the store is there.
        if retries::is_worth_another(error) && self.good.is_some_and(|good| sent < good) {
            return;
        }
        let pause = FIRST.saturating_mul(1 << self.failures.min(4)).min(LONGEST).max(asked);
        self.failures = self.failures.saturating_add(1);
        self.closed = Some((now + pause, error.unnamed()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::providers::ErrorKind;

    fn outage() -> ProviderError {
        ProviderError::new(ErrorKind::Unavailable, "down")
    }

    #[test]
    fn pauses_double_up_to_twelve_seconds_and_end_with_a_success() {
        let mut gate = Gate::default();
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..8 {
            gate.record(Some(&outage()), now, now);
            let left = gate.check(now).unwrap_err().retry_after.unwrap();
            pauses.push(left.as_secs());
            now += left;
            assert!(gate.check(now).is_ok());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 12, 12, 12, 12]);
        gate.record(None, now, now);
        gate.record(Some(&outage()), now, now);
        assert_eq!(gate.check(now).unwrap_err().retry_after.unwrap().as_secs(), 1);
    }

    #[test]
    fn calls_that_failed_together_count_once() {
        let mut gate = Gate::default();
        let start = Instant::now();
        for _ in 0..5 {
            gate.record(Some(&outage()), start, start + Duration::from_millis(10));
        }
        assert!(gate.check(start).unwrap_err().retry_after.unwrap() <= Duration::from_millis(1010));
    }

    #[test]
    fn retry_after_is_honoured_and_bounded() {
        let mut gate = Gate::default();
        let now = Instant::now();
        let error = ProviderError::new(ErrorKind::Throttled, "slow down");
        gate.record(Some(&error.clone().after(Duration::from_secs(120))), now, now);
        assert_eq!(gate.check(now).unwrap_err().retry_after.unwrap().as_secs(), 120);
        let mut gate = Gate::default();
        gate.record(Some(&error.after(Duration::from_secs(1 << 30))), now, now);
        assert_eq!(gate.check(now).unwrap_err().retry_after.unwrap(), LONGEST_ASKED);
    }

    #[test]
    fn after_the_pause_one_goes_ahead_and_the_others_follow_when_it_is_back() {
        let mut gate = Gate::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let wait = |gate: &mut Gate, now| gate.enter(now).unwrap_err().retry_after.unwrap().as_secs();
        assert_eq!(gate.enter(start), Ok(false), "an open gate holds nobody");
        gate.record(Some(&outage()), start, start);
        assert_eq!(wait(&mut gate, start), 1);
        assert_eq!(gate.enter(at(1)), Ok(true));
        let waits: Vec<u64> = [1, 2, 4, 8, 16, 30].map(|seconds| wait(&mut gate, at(seconds))).into();
        assert_eq!(waits, [1, 1, 3, 7, 12, 12]);
        // its calls are not held back
        assert_eq!(gate.check(at(30)), Ok(()));

        gate.record(Some(&outage()), at(1), at(31));
        gate.leave();
        assert_eq!(wait(&mut gate, at(32)), 1);
        assert_eq!(gate.enter(at(33)), Ok(true));
        gate.leave();
        assert_eq!(gate.enter(at(33)), Ok(true), "the one before gave up");
        gate.record(None, at(33), at(33));
        assert_eq!([gate.enter(at(33)), gate.enter(at(33))], [Ok(false), Ok(false)]);
    }

    #[test]
    fn only_what_was_sent_after_the_pause_opens_the_gate() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        gate.record(Some(&ProviderError::new(ErrorKind::Throttled, "x").after(Duration::from_secs(120))), at(0), at(1));
        gate.record(None, at(0), at(1));
        gate.record(Some(&ProviderError::not_found("x")), at(1), at(2));
        assert_eq!(gate.check(at(3)).unwrap_err().retry_after, Some(Duration::from_secs(118)));
        assert_eq!(gate.enter(at(121)), Ok(true));
        gate.record(None, at(121), at(122));
        gate.leave();
        assert_eq!(gate.enter(at(122)), Ok(false));
    }

    #[test]
    fn the_longest_wait_that_was_asked_for_holds() {
        let (mut gate, start) = (Gate::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let wait = |gate: &Gate, now| gate.check(now).unwrap_err().retry_after.unwrap().as_secs();
        gate.record(Some(&outage()), at(0), at(0));
        gate.record(Some(&outage().after(Duration::from_secs(60))), at(0), at(0));
        gate.record(Some(&outage().after(Duration::from_secs(30))), at(0), at(0));
        gate.record(Some(&outage()), at(0), at(0));
        assert_eq!(wait(&gate, at(0)), 60);
        gate.record(Some(&outage()), at(60), at(60));
        assert_eq!(wait(&gate, at(60)), 2, "they count as one failure");
    }

    #[test]
    fn a_call_that_alone_gets_no_answer_does_not_close_the_gate() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let after = |error: &ProviderError, answered| {
            let mut gate = Gate::default();
            gate.record(None, answered, answered);
            gate.record(Some(error), at(1), at(31));
            gate.check(at(31)).is_ok()
        };
        assert_eq!([after(&outage(), at(2)), after(&outage(), at(1)), after(&outage(), at(0))], [true, false, false]);
        let throttled = ProviderError::new(ErrorKind::Throttled, "x");
        assert!(!after(&throttled, at(2)) && !after(&outage().after(Duration::from_secs(5)), at(2)), "the store says so");
    }

    #[test]
    fn those_who_are_held_back_read_nobodys_name() {
        let (mut gate, now) = (Gate::default(), Instant::now());
        let error = ProviderError::new(ErrorKind::Unavailable, "path \"team-a/db\": the server failed (500)");
        gate.record(Some(&error), now, now);
        let told = ProviderError::new(ErrorKind::Unavailable, "path \"...\": the server failed (500)");
        assert_eq!(gate.enter(now), Err(told.clone().after(FIRST)));
        assert_eq!(gate.enter(now + FIRST), Ok(true));
        assert_eq!(gate.enter(now + FIRST), Err(told.after(FIRST)));
    }

    #[test]
    fn a_missing_or_denied_key_does_not_close_the_gate() {
        for kind in [ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Malformed] {
            let mut gate = Gate::default();
            gate.record(Some(&ProviderError::new(kind, "x")), Instant::now(), Instant::now());
            assert!(gate.check(Instant::now()).is_ok());
        }
    }
}
