//! Writes that failed, and how long to wait before each is tried again. One that the API server refuses, or that an admission webhook
//! cannot judge, must not be tried once a second for each object, nor fill the log.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::apply::error::WriteError;

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
}
