//! Writes that failed, and how long to wait before each is tried again. One that the API server refuses, or that an admission webhook
//! cannot judge, must not be tried once a second for each object, nor fill the log.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::apply::error::WriteError;
use crate::plan::Wake;
use crate::queue::Priority;

/// Longest pause: so long it may take until what somebody mended takes effect.
const LONGEST: Duration = Duration::from_secs(60);

/// Writes that failed, by object, and how often in a row.
#[derive(Default)]
pub struct Retries(Mutex<HashMap<String, u32>>);

impl Retries {
    /// What could not be done for an object, and why: says when to try again, and logs the first time.
    pub fn failed(&self, object: &str, error: &WriteError, what: &str) -> Duration {
        let failures = {
            let mut failed = self.lock();
            let failures = failed.entry(object.to_owned()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        if failures == 1 {
            tracing::warn!(object, %error, "{what}; trying again");
        } else {
            tracing::debug!(object, failures, %error, "{what}; trying again");
        }
        error.pause().saturating_mul(1 << (failures - 1).min(6)).min(LONGEST)
    }

    /// The status of an object that was worked on could not be written: when to look again. `wake` is what the work itself asks for; where
    /// that `failed`, its own pause is waited for as well.
    pub fn untold(&self, object: &str, error: &WriteError, wake: Wake, failed: bool) -> Wake {
        if matches!(error, WriteError::Gone | WriteError::NotLeader | WriteError::Terminating) {
            return Wake::OnChange;
        }
        let pause = self.failed(object, error, "the status could not be written");
        match wake {
            Wake::After(backoff, priority) if failed => Wake::After(backoff.max(pause), priority),
            _ => Wake::After(pause, Priority::Changed),
        }
    }

    /// It was done, or needs to be done no more.
    pub fn done(&self, object: &str) {
        self.lock().remove(object);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew_after_a_success() {
        let retries = Retries::default();
        let pauses = |error: &WriteError| (0..8).map(|_| retries.failed("a", error, "x").as_secs()).collect::<Vec<_>>();
        assert_eq!(pauses(&WriteError::Unavailable(String::new())), [1, 2, 4, 8, 16, 32, 60, 60]);
        retries.done("a");
        assert_eq!(pauses(&WriteError::Refused(String::new())), [10, 20, 40, 60, 60, 60, 60, 60]);
        assert_eq!(retries.failed("b", &WriteError::Conflict, "x").as_secs(), 1, "another object");
    }

    #[test]
    fn what_could_not_be_told_waits_for_both_pauses() {
        let retries = Retries::default();
        let refused = WriteError::Refused("why".into());
        let seconds = Duration::from_secs;
        let untold = |object: &str, error: &WriteError, failed| {
            retries.untold(object, error, Wake::After(seconds(300), Priority::Periodic), failed)
        };
        assert_eq!(untold("a", &refused, true), Wake::After(seconds(300), Priority::Periodic), "it paused anyway");
        assert_eq!(untold("b", &refused, false), Wake::After(seconds(10), Priority::Changed));
        assert_eq!(untold("b", &refused, false), Wake::After(seconds(20), Priority::Changed));
        assert_eq!(untold("c", &WriteError::Gone, false), Wake::OnChange);
    }
}
