//! `retrySettings` of a store, for providers that speak HTTP.

use std::time::Duration;

use tokio::time::Instant;

use super::{ErrorKind, ProviderError};
use crate::api::secret_store::RetrySettings;
use crate::outbound::Call;
use crate::plan::duration;

/// Tries after the first one, and the time between them, where nothing else is said: those of Vault's own client.
const RETRIES: u32 = 2;
const PAUSE: Duration = Duration::from_secs(1);
/// Most tries: a spec must not keep one call going for ever.
const MOST_RETRIES: u32 = 10;

/// Longest time that the pauses between a call's tries may add to it.
pub const MOST_PAUSES: Duration = Duration::from_secs(120);
/// Tries, and the longest time between them, where `retrySettings` do not say: those of AWS's client, the most of all.
const TRIES: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// How much longer a call may take because of a store's `retrySettings`.
#[must_use]
pub fn pauses(settings: Option<&RetrySettings>) -> Duration {
    let Some(settings) = settings else { return Duration::ZERO };
    let tries = settings.max_retries.map_or(TRIES, |n| u32::try_from(n).unwrap_or(0));
    let interval = settings.retry_interval.as_deref().and_then(|text| duration::parse(text).ok());
    let pause = interval.and_then(|d| Duration::try_from(d).ok()).unwrap_or(LONGEST_PAUSE);
    pause.saturating_mul(tries).min(MOST_PAUSES)
}

/// How often a call that the server failed is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// Tries after the first one.
    pub count: u32,
    /// Time between them.
    pub pause: Duration,
}

impl Retries {
    /// From `retrySettings`: a block that is there but names no number means none, as in ESO.
    ///
    /// # Errors
    /// `Misconfigured` where the interval is no duration.
    pub fn of(settings: Option<&RetrySettings>, path: &str) -> Result<Self, ProviderError> {
        let Some(settings) = settings else { return Ok(Self { count: RETRIES, pause: PAUSE }) };
        let count = u32::try_from(settings.max_retries.unwrap_or(0)).unwrap_or(0).min(MOST_RETRIES);
        let pause = match settings.retry_interval.as_deref().filter(|text| !text.is_empty()) {
            None => PAUSE,
            Some(text) => duration::parse(text).ok().and_then(|d| Duration::try_from(d).ok()).ok_or_else(|| {
                let text = format!("{path}.retryInterval: {text:?} is not a duration such as \"10s\", of 0 or more");
                ProviderError::new(ErrorKind::Misconfigured, text)
            })?,
        };
        Ok(Self { count, pause })
    }

    /// From a store's `retrySettings`; without them nothing is tried again.
    ///
    /// # Errors
    /// As [`Retries::of`].
    pub fn if_asked(settings: Option<&RetrySettings>) -> Result<Self, ProviderError> {
        match settings {
            None => Ok(Self { count: 0, pause: Duration::ZERO }),
            Some(_) => Self::of(settings, "spec.retrySettings"),
        }
    }

    /// Runs a call, and again where the server failed it, unless the time for a call is over by then.
    ///
    /// # Errors
    /// What the last try came to.
    pub async fn run<T, F>(self, call: impl Fn() -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let mut tries = self.tries();
        loop {
            match call().await {
                Err(error) if is_worth_another(&error) && tries.next().await => {}
                result => return result,
            }
        }
    }

    /// The tries of a call that goes out now.
    #[must_use]
    pub fn tries(self) -> Tries {
        Tries { left: self.count, pause: self.pause, until: Instant::now() + Call::DEADLINE }
    }
}

/// Whether the same call may go well a moment later. A server that says how long it wants to be left alone is left alone: the
/// caller knows what else waits.
#[must_use]
pub fn is_worth_another(error: &ProviderError) -> bool {
    error.kind == ErrorKind::Unavailable && error.retry_after.is_none()
}

/// How often a call may still be tried.
pub struct Tries {
    left: u32,
    pause: Duration,
    until: Instant,
}

impl Tries {
    /// Waits for the next try. `false`, and at once, where there is none, or the time for the call would be over.
    pub async fn next(&mut self) -> bool {
        if self.left == 0 || Instant::now().checked_add(self.pause).is_none_or(|at| at >= self.until) {
            return false;
        }
        self.left -= 1;
        tokio::time::sleep(self.pause).await;
        true
    }
}
