//! When the values of an ExternalSecret are read again: refresh policies, intervals, sync windows, spread.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{phase, windows};
use crate::api::ExternalSecret;
use crate::api::external_secret::RefreshPolicy;

/// `refreshInterval` of an ExternalSecret that names none: ESO's default.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(3600);

/// Share of the interval by which objects come early, so that those made together do not come due together.
const SPREAD: f64 = 0.1;

/// Whether the values are to be read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// They never were.
    New,
    /// The object changed since.
    Changed,
    /// The interval has passed.
    Periodic,
    /// Not now; perhaps after that time.
    NotYet(Option<Duration>),
    /// The interval has passed, but the sync windows hold the refresh back; perhaps until after that time.
    Held(Option<Duration>),
}

/// What is known of the last sync.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastSync<'a> {
    /// When the values were read.
    pub refresh_time: Option<Timestamp>,
    /// `status.syncedResourceVersion`
    pub synced: Option<&'a str>,
    /// When the values are read again at the latest, as they do not hold much longer. Neither the interval nor a sync window puts that
    /// off: what they keep would be of no use to anybody.
    pub again: Option<Timestamp>,
}

/// Decides whether an ExternalSecret's values are to be read. `interval` is the parsed `refreshInterval`; zero or less reads
/// once. `current` is what `syncedResourceVersion` would be now. The order of the questions is ESO's.
#[must_use]
pub fn due(es: &ExternalSecret, interval: SignedDuration, last: LastSync<'_>, current: &str, now: Timestamp) -> Due {
    let (Some(synced), Some(refreshed)) = (last.synced.filter(|s| !s.is_empty()), last.refresh_time) else {
        return Due::New;
    };
    let holds = last.again.map(|at| at.duration_since(now));
    match es.spec.refresh_policy.unwrap_or_default() {
        RefreshPolicy::CreatedOnce => Due::NotYet(None),
        RefreshPolicy::OnChange if synced != current => Due::Changed,
        RefreshPolicy::OnChange => Due::NotYet(None),
        RefreshPolicy::Periodic if holds.is_some_and(|left| left <= SignedDuration::ZERO) => Due::Periodic,
        RefreshPolicy::Periodic if interval <= SignedDuration::ZERO => Due::NotYet(holds.map(SignedDuration::unsigned_abs)),
        RefreshPolicy::Periodic if synced != current => Due::Changed,
        RefreshPolicy::Periodic if refreshed > now => Due::New,
        RefreshPolicy::Periodic => {
            let uid = es.metadata.uid.as_deref().unwrap_or_default();
            let left = period(interval, uid) - now.duration_since(refreshed);
            let bounded = |left: SignedDuration| holds.map_or(left, |holds| holds.min(left)).unsigned_abs();
            if left > SignedDuration::ZERO {
                return Due::NotYet(Some(bounded(left)));
            }
            match &es.spec.sync_windows {
                Some(set) if !windows::is_open(set, now) => {
                    let opens = windows::next_change(set, now).map(|at| at.duration_since(now));
                    Due::Held(opens.map(bounded).or(holds.map(SignedDuration::unsigned_abs)))
                }
                _ => Due::Periodic,
            }
        }
    }
}

/// After what time from a read the values are read again, at the latest; `None`: not by themselves.
#[must_use]
pub fn again(es: &ExternalSecret, interval: SignedDuration) -> Option<Duration> {
    let periodic = es.spec.refresh_policy.unwrap_or_default() == RefreshPolicy::Periodic;
    (periodic && interval > SignedDuration::ZERO).then(|| interval.unsigned_abs())
}

/// Time between two reads: the interval, a little less for each object, never more.
#[must_use]
pub fn period(interval: SignedDuration, uid: &str) -> SignedDuration {
    interval.mul_f64(1.0 - SPREAD * phase(uid))
}

/// How old a shared value may be for a sync that is due because its interval has passed: half of it.
#[must_use]
pub fn shared_age(interval: SignedDuration) -> Duration {
    (interval / 2).unsigned_abs()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Early, never late, and always the same for one object: the promise of `refreshInterval` holds.
        #[test]
        fn an_object_comes_early_never_late(seconds in 1i64..1_000_000, uid in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{12}") {
            let interval = SignedDuration::from_secs(seconds);
            let own = period(interval, &uid);
            prop_assert!(own <= interval && own >= interval.mul_f64(1.0 - SPREAD));
            prop_assert_eq!(own, period(interval, &uid));
            prop_assert!(shared_age(interval) * 2 <= interval.unsigned_abs());
        }
    }

    /// A thousand objects made together come due evenly over the spread.
    #[test]
    fn objects_made_together_come_due_apart() {
        let interval = SignedDuration::from_secs(3600);
        let mut slots = [0_u32; 10];
        for i in 0..1000_u32 {
            let uid = format!("{i:08x}-3a1c-4b5d-9e2f-{:012x}", i.wrapping_mul(2_654_435_761));
            let early = (interval - period(interval, &uid)).as_secs_f64() / (3600.0 * SPREAD);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let slot = (early * 10.0) as usize;
            slots[slot.min(9)] += 1;
        }
        assert!(slots.iter().all(|n| (60..=140).contains(n)), "{slots:?}");
    }
}
