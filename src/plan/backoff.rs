//! How long to wait after a failure.

use std::time::Duration;

use super::phase;
use crate::providers::ErrorKind;

/// First pause.
const FIRST: Duration = Duration::from_secs(1);
/// Longest pause while the cause may go away by itself.
const LONGEST: Duration = Duration::from_secs(300);
/// Longest pause of an object that asks to be refreshed often: at least this, and as many of its intervals.
const LONGEST_OFTEN: Duration = Duration::from_secs(20);
const INTERVALS: u32 = 4;

/// Pause before the next try after `failures` failures in a row (1 for the first) of an object that is refreshed every
/// `interval`, spread by its uid. Where the whole store fails, the store says when its next call goes out (`retry_after`), and
/// nobody waits longer: the calls are held back there. Else a provider's own wish is the least.
#[must_use]
pub fn pause(
    kind: Option<ErrorKind>,
    failures: u32,
    retry_after: Option<Duration>,
    interval: Duration,
    uid: &str,
) -> Duration {
    let spread = |pause: Duration| pause + pause.mul_f64(0.2 * phase(uid));
    if let (Some(kind), Some(after)) = (kind, retry_after)
        && kind.is_store_wide()
    {
        return spread(after.max(FIRST));
    }
    let (first, longest) = match kind {
        // wrong until somebody changes something that is watched, or something at the provider that is not
        Some(ErrorKind::Unsupported) => (LONGEST, LONGEST),
        Some(ErrorKind::Denied | ErrorKind::Misconfigured | ErrorKind::Malformed) => (FIRST * 4, often(interval)),
        _ => (FIRST, often(interval)),
    };
    let pause = first.saturating_mul(1 << failures.saturating_sub(1).min(9)).min(longest);
    spread(pause.max(retry_after.unwrap_or_default()))
}

/// Longest pause of an object that is refreshed every `interval`; zero is an object that is not.
fn often(interval: Duration) -> Duration {
    if interval.is_zero() { LONGEST } else { interval.saturating_mul(INTERVALS).clamp(LONGEST_OFTEN, LONGEST) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn seconds(kind: ErrorKind, failures: u32, retry_after: Option<Duration>, interval: Duration) -> u64 {
        // this uid's share of the spread is known to be small
        pause(Some(kind), failures, retry_after, interval, "").div_f64(1.0 + 0.2 * phase("")).as_secs_f64().round() as u64
    }

    #[test]
    fn pauses_double_to_five_minutes() {
        let pauses = (1..=10).map(|n| seconds(ErrorKind::Unavailable, n, None, HOUR));
        assert_eq!(pauses.collect::<Vec<_>>(), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    #[test]
    fn an_object_that_is_refreshed_often_is_tried_often() {
        let at = |kind, interval| seconds(kind, 10, None, Duration::from_secs(interval));
        assert_eq!(at(ErrorKind::Denied, 5), 20);
        assert_eq!(at(ErrorKind::Denied, 60), 240);
        assert_eq!(at(ErrorKind::Denied, 900), 300);
        assert_eq!(at(ErrorKind::Denied, 0), 300);
        assert_eq!(at(ErrorKind::Unsupported, 5), 300);
    }

    #[test]
    fn a_store_that_fails_as_a_whole_says_when() {
        let after = |kind, seconds_| seconds(kind, 8, Some(Duration::from_secs(seconds_)), HOUR);
        assert_eq!(after(ErrorKind::Throttled, 77), 77);
        assert_eq!(after(ErrorKind::Unavailable, 3), 3);
        assert_eq!(after(ErrorKind::Unavailable, 0), 1);
        assert_eq!(after(ErrorKind::Denied, 3), 300);
    }
}
