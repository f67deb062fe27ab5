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

    /// Runs a call, and again where the server failed it, unless the time for a call is over by then.
    ///
    /// # Errors
    /// What the last try came to.
    pub async fn run<T, F>(self, call: impl Fn() -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<T, ProviderError>>,
    {
        let (mut left, begun) = (self.count, Instant::now());
        loop {
            match call().await {
                // A server that says how long it wants to be left alone is left alone: the caller knows what else waits.
                Err(error)
                    if error.kind == ErrorKind::Unavailable
                        && error.retry_after.is_none()
                        && left > 0
                        && begun.elapsed() < Call::DEADLINE =>
                {
                    left -= 1;
                    tokio::time::sleep(self.pause).await;
                }
                result => return result,
            }
        }
    }
}
