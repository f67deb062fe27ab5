//! Holds a failing store's calls back. Pure: the caller says what time it is.

use std::time::Duration;

use tokio::time::Instant;

use crate::providers::ProviderError;

/// First pause after a failure of the whole store.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause, unless the provider asks for a longer one: an outage ends for its users when the next call goes out.
const LONGEST: Duration = Duration::from_secs(15);
/// Longest pause that a provider's Retry-After is believed for.
const LONGEST_ASKED: Duration = Duration::from_secs(900);

/// Whether a store's calls may go out.
#[derive(Debug, Default)]
pub struct Gate {
    failures: u32,
    closed: Option<(Instant, ProviderError)>,
    /// Since when somebody finds out whether the store is back.
    probed: Option<Instant>,
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
        match error.filter(|e| e.kind.is_store_wide()) {
            None => {
                self.failures = 0;
                self.closed = None;
            }
            Some(_) if self.closed.as_ref().is_some_and(|(until, _)| sent < *until) => {}
            Some(error) => {
                let pause = FIRST.saturating_mul(1 << self.failures.min(4)).min(LONGEST);
                let pause = pause.max(error.retry_after.unwrap_or_default().min(LONGEST_ASKED));
                self.failures = self.failures.saturating_add(1);
                self.closed = Some((now + pause, error.clone()));
            }
        }
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
    fn pauses_double_up_to_a_quarter_of_a_minute_and_end_with_a_success() {
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
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15, 15, 15]);
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
        assert_eq!(waits, [1, 1, 3, 7, 15, 15]);
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
    fn a_missing_or_denied_key_does_not_close_the_gate() {
        for kind in [ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Malformed] {
            let mut gate = Gate::default();
            gate.record(Some(&ProviderError::new(kind, "x")), Instant::now(), Instant::now());
            assert!(gate.check(Instant::now()).is_ok());
        }
    }
}
