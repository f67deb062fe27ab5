//! Leases: values that end at a known time unless they are renewed, as credentials that Vault makes for a while.
//!
//! A lease is acted on well before it ends: it is renewed while it can be, and its value is replaced where it cannot. What goes out of
//! use then still holds for a while, so that whoever uses it has time to move.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::{Deserialize, Serialize};

use super::duration;
use crate::api::ANNOTATION_GRACE;

/// Least share of its life that is left of a lease when it is acted on: room for failures.
const SHARE: u32 = 3;
/// A renewal that grants at least this share of the life is a full one; anything less has come to the end of what is allowed.
const FULL: f64 = 0.9;

/// What a server granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// How long it holds from the moment at which it was asked for.
    pub life: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

/// A lease as it is noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// When it ends, unless it is renewed.
    pub ends: Time,
    /// Seconds that were granted at first.
    pub seconds: u64,
    /// How many seconds before its end it is acted on.
    pub lead: u64,
    /// Whether it can be renewed further.
    pub renewable: bool,
}

impl Lease {
    /// A lease that was granted now. `grace`: how long a value that goes out of use is to hold.
    #[must_use]
    pub fn new(granted: Granted, grace: Duration, now: Timestamp) -> Self {
        let life = granted.life;
        let lead = (life / SHARE).max(grace.min(life / 2));
        Self { ends: Time(after(now, life)), seconds: life.as_secs(), lead: lead.as_secs(), renewable: granted.renewable }
    }

    /// The lease after a renewal. Where less was granted than at first, the server's bound is near: it is not renewed again.
    #[must_use]
    pub fn renewed(&self, granted: Granted, now: Timestamp) -> Self {
        let life = Duration::from_secs(self.seconds);
        let renewable = granted.renewable && granted.life >= life.mul_f64(FULL);
        Self { ends: Time(after(now, granted.life)), renewable, ..self.clone() }
    }

    /// The lease of a value that the server no longer knows.
    #[must_use]
    pub fn lost(&self, now: Timestamp) -> Self {
        Self { ends: Time(now.min(self.ends.0)), lead: 0, renewable: false, ..self.clone() }
    }

    /// When it is renewed, or its value replaced.
    #[must_use]
    pub fn act_at(&self) -> Timestamp {
        before(self.ends.0, self.lead)
    }

    /// When its value is replaced: later where it can be renewed, so that renewals have time to fail and be tried again.
    #[must_use]
    pub fn replace_at(&self) -> Timestamp {
        if self.renewable { before(self.ends.0, self.lead / 2) } else { self.act_at() }
    }
}

/// How long a value that goes out of use is to hold: what the annotation of its user says, else `default`.
///
/// # Errors
/// Says what is wrong with the annotation.
pub fn grace(meta: &ObjectMeta, default: Duration) -> Result<Duration, String> {
    let Some(text) = meta.annotations.as_ref().and_then(|all| all.get(ANNOTATION_GRACE)) else { return Ok(default) };
    let grace = duration::parse(text).map_err(|error| format!("annotation {ANNOTATION_GRACE}: {error}"))?;
    Duration::try_from(grace).map_err(|_| format!("annotation {ANNOTATION_GRACE}: {text:?} is less than nothing"))
}

fn after(now: Timestamp, life: Duration) -> Timestamp {
    now.checked_add(SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX)).unwrap_or(Timestamp::MAX)
}

fn before(at: Timestamp, seconds: u64) -> Timestamp {
    let seconds = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    at.checked_sub(seconds).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const GRACE: Duration = Duration::from_secs(120);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn granted(seconds: u64, renewable: bool) -> Granted {
        Granted { life: Duration::from_secs(seconds), renewable }
    }

    #[test]
    fn it_is_acted_on_while_enough_is_left_for_who_uses_it() {
        for (life, lead) in [(60, 30), (300, 120), (3600, 1200), (1, 0), (0, 0)] {
            let lease = Lease::new(granted(life, false), GRACE, at(0));
            assert_eq!((lease.lead, lease.act_at()), (lead, at((life - lead).try_into().unwrap())), "{life}");
            assert_eq!(lease.replace_at(), lease.act_at());
        }
        let short = Lease::new(granted(60, true), Duration::ZERO, at(0));
        assert_eq!((short.act_at(), short.replace_at()), (at(40), at(50)), "renewals have time to be tried again");
    }

    #[test]
    fn it_is_renewed_until_less_is_granted() {
        let lease = Lease::new(granted(60, true), GRACE, at(0));
        let second = lease.renewed(granted(60, true), at(30));
        assert_eq!((second.ends.0, second.act_at(), second.renewable), (at(90), at(60), true));
        let last = second.renewed(granted(40, true), at(60));
        assert_eq!((last.ends.0, last.replace_at(), last.renewable), (at(100), at(70), false));
        assert!(!lease.renewed(granted(60, false), at(30)).renewable, "the server says so");
    }

    #[test]
    fn one_that_is_lost_is_replaced_at_once() {
        let lost = Lease::new(granted(3600, true), GRACE, at(0)).lost(at(10));
        assert_eq!(
            (lost.replace_at(), lost.ends.0),
            (at(10), at(10)),
            "not before: what was refreshed since would count as replaced"
        );
    }

    #[test]
    fn the_annotation_says_how_long() {
        let meta = |text: &str| ObjectMeta {
            annotations: Some([(ANNOTATION_GRACE.to_owned(), text.to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert_eq!(grace(&ObjectMeta::default(), GRACE), Ok(GRACE));
        assert_eq!(grace(&meta("10m"), GRACE), Ok(Duration::from_secs(600)));
        assert!(grace(&meta("ten"), GRACE).unwrap_err().contains("is not a duration"));
        assert!(grace(&meta("-1s"), GRACE).is_err());
    }

    #[test]
    fn it_is_noted_as_json() {
        let lease = Lease::new(granted(60, true), GRACE, at(0));
        let noted = json!({"ends": "1970-01-01T00:01:00Z", "seconds": 60, "lead": 30, "renewable": true});
        assert_eq!(json!(lease), noted);
        assert_eq!(serde_json::from_value::<Lease>(noted).unwrap(), lease);
    }

    proptest! {
        /// Whatever is granted: a value is replaced before its lease ends, and its predecessor still holds for the lead then.
        #[test]
        fn a_value_is_replaced_before_it_ends(life in 3u64..100_000, grants in proptest::collection::vec(0u64..100_000, 0..8), grace in 0u64..5000) {
            let grace = Duration::from_secs(grace);
            let mut lease = Lease::new(granted(life, true), grace, at(0));
            for grant in grants {
                let (now, grant) = (lease.act_at(), grant.min(life));
                lease = lease.renewed(granted(grant, true), now);
                prop_assert!(lease.replace_at() < lease.ends.0);
                if !lease.renewable {
                    let left = lease.ends.0.duration_since(now.max(lease.replace_at())).as_secs();
                    prop_assert!(left >= i64::try_from(lease.lead.min(grant)).unwrap());
                    break;
                }
            }
        }
    }
}
