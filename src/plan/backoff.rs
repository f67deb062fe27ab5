//! How long to wait after a failure.

use std::time::Duration;

use super::phase;
use crate::providers::ErrorKind;

/// First pause.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause while the cause may go away by itself.
const LONGEST: Duration = Duration::from_secs(300);

/// Pause before the next try after `failures` failures in a row (1 for the first), spread by the object's uid. A provider's
/// own wish is kept.
#[must_use]
pub fn pause(kind: Option<ErrorKind>, failures: u32, retry_after: Option<Duration>, uid: &str) -> Duration {
    let first = match kind {
        // wrong until somebody changes something that is watched, or something at the provider that is not
        Some(ErrorKind::Unsupported) => LONGEST,
        Some(ErrorKind::Denied | ErrorKind::Misconfigured | ErrorKind::Malformed) => FIRST * 4,
        _ => FIRST,
    };
    let pause = first.saturating_mul(1 << failures.saturating_sub(1).min(9)).min(LONGEST);
    let spread = pause.mul_f64(0.2 * phase(uid));
    retry_after.unwrap_or_default().max(pause) + spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_five_minutes() {
        let seconds = |n| pause(Some(ErrorKind::Unavailable), n, None, "").as_secs();
        assert_eq!(
            (1..=10).map(seconds).collect::<Vec<_>>(),
            [1, 2, 4, 8, 16, 32, 64, 128, 256, 300].map(|s| { (f64::from(s) * (1.0 + 0.2 * phase(""))) as u64 })
        );
    }

    #[test]
    fn the_providers_wish_is_kept() {
        assert!(pause(Some(ErrorKind::Throttled), 1, Some(Duration::from_secs(77)), "u") >= Duration::from_secs(77));
    }
}
