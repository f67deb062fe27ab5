//! The pure part of the election: what one candidate does next, given what it has seen of the Lease.
//!
//! Two rules keep two candidates from writing at the same time, whatever their wall clocks say:
//!
//! - a holder stops writing [`Timing::renew_deadline`] after it *sent* its last successful renewal;
//! - anybody else takes the Lease only when *it* has seen no change of it for the whole duration that the holder promised,
//!   which is longer. The times written in the Lease are for people: nobody compares them with a clock. A Lease that is
//!   deleted ends no promise that was seen in it: its holder may not know of that yet.
//!
//! Every write carries the `resourceVersion` that the decision was made on, so that of two that decide the same, one wins.

use std::time::{Duration, Instant, SystemTime};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;

/// The three times of an election, checked against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    lease_duration: Duration,
    renew_deadline: Duration,
    retry_period: Duration,
}

/// Times that do not make a safe election.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// The Lease counts whole seconds.
    #[error("--leader-election-lease-duration must be at least 1s, not {0:?}")]
    TooShort(Duration),
    /// The holder must stop before anybody else may start.
    #[error(
        "--leader-election-renew-deadline ({deadline:?}) must be shorter than --leader-election-lease-duration ({lease:?})"
    )]
    DeadlineNotBeforeExpiry {
        /// The renew deadline.
        deadline: Duration,
        /// The lease duration.
        lease: Duration,
    },
    /// A renewal that fails once must be tried again before the deadline. The factor is client-go's.
    #[error(
        "--leader-election-renew-deadline ({deadline:?}) must be longer than 1.2 × --leader-election-retry-period ({retry:?})"
    )]
    NoTimeToRetry {
        /// The renew deadline.
        deadline: Duration,
        /// The retry period.
        retry: Duration,
    },
    /// Without a pause the API server would be asked without end.
    #[error("--leader-election-retry-period must be longer than 0s")]
    NoPause,
}

impl Timing {
    /// Checks the three times by client-go's rules.
    ///
    /// # Errors
    /// Says which flag is wrong and why.
    pub fn new(lease_duration: Duration, renew_deadline: Duration, retry_period: Duration) -> Result<Self, TimingError> {
        if lease_duration < Duration::from_secs(1) {
            return Err(TimingError::TooShort(lease_duration));
        }
        if renew_deadline >= lease_duration {
            return Err(TimingError::DeadlineNotBeforeExpiry { deadline: renew_deadline, lease: lease_duration });
        }
        if retry_period.is_zero() {
            return Err(TimingError::NoPause);
        }
        if renew_deadline <= retry_period.mul_f64(1.2) {
            return Err(TimingError::NoTimeToRetry { deadline: renew_deadline, retry: retry_period });
        }
        Ok(Self { lease_duration, renew_deadline, retry_period })
    }

    /// How long after its last renewal a holder may write.
    #[must_use]
    pub const fn renew_deadline(&self) -> Duration {
        self.renew_deadline
    }

    /// Pause between two attempts.
    #[must_use]
    pub const fn retry_period(&self) -> Duration {
        self.retry_period
    }

    /// The time between the last moment at which a write may start and the first at which somebody else may write: the most
    /// that a write to the API server may take.
    #[must_use]
    pub fn write_margin(&self) -> Duration {
        self.lease_duration.saturating_sub(self.renew_deadline)
    }

    /// The promise as the Lease carries it, in whole seconds: rounded up, as a shorter promise would let others in too early.
    fn promised_seconds(&self) -> i32 {
        let seconds = self.lease_duration.as_secs() + u64::from(self.lease_duration.subsec_nanos() > 0);
        i32::try_from(seconds).unwrap_or(i32::MAX)
    }
}

/// A reading of both clocks. The monotonic one does not tick while a machine sleeps, the other one may be set: of the two
/// elapsed times the longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock.
    pub monotonic: Instant,
    /// The wall clock.
    pub wall: SystemTime,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn now() -> Self {
        Self { monotonic: tokio::time::Instant::now().into_std(), wall: SystemTime::now() }
    }

    /// Time that has passed since an earlier moment; never less than the true time on a machine that slept.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Duration {
        let wall = self.wall.duration_since(earlier.wall).unwrap_or_default();
        self.monotonic.saturating_duration_since(earlier.monotonic).max(wall)
    }
}

/// A time in which this process may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// When the last successful renewal was sent.
    pub renewed: Moment,
    /// How long after that it holds.
    pub window: Duration,
}

impl Term {
    /// Whether the term still holds.
    #[must_use]
    pub fn holds(&self, now: &Moment) -> bool {
        now.since(&self.renewed) < self.window
    }
}

/// What a candidate does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// There is no Lease, and nobody holds on to a promise of one that was deleted: make it.
    Create,
    /// Nobody holds it, or its holder's promise ran out: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Somebody else holds it, at least this much longer.
    Wait(Duration),
}

/// A Lease, and when this process first saw it in this state.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The Lease.
    pub lease: Lease,
    /// When this `resourceVersion` of it was first seen here.
    pub at: Instant,
}

/// What `me` does about the Lease that it has seen; `fallback` is the duration of a Lease that names none.
#[must_use]
pub fn decide(seen: Option<&Seen>, me: &str, fallback: Duration, now: Instant) -> Action {
    let Some(seen) = seen else { return Action::Create };
    match holder(&seen.lease) {
        None => Action::Take,
        Some(holder) if holder == me => Action::Renew,
        Some(_) => {
            let left = promise(&seen.lease).unwrap_or(fallback).saturating_sub(now.saturating_duration_since(seen.at));
            if left.is_zero() { Action::Take } else { Action::Wait(left) }
        }
    }
}

/// Who holds a Lease; `None` for one that was given back.
#[must_use]
pub fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|h| !h.is_empty())
}

/// How long the holder of a Lease promised to keep it.
fn promise(lease: &Lease) -> Option<Duration> {
    let seconds = lease.spec.as_ref()?.lease_duration_seconds?;
    u64::try_from(seconds).ok().filter(|s| *s > 0).map(Duration::from_secs)
}

/// One candidate: its name, its times and what it has seen.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: String,
    me: String,
    timing: Timing,
    seen: Option<Seen>,
    /// The Lease as it was before somebody deleted it.
    deleted: Option<Seen>,
}

impl Candidate {
    /// A candidate `me`, unique to this process, for the Lease called `name`.
    #[must_use]
    pub const fn new(name: String, me: String, timing: Timing) -> Self {
        Self { name, me, timing, seen: None, deleted: None }
    }

    /// The candidate's identity.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.me
    }

    /// The candidate's times.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        self.timing
    }

    /// The Lease as last seen.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.seen.as_ref().map(|s| &s.lease)
    }

    /// Takes in an answer of the API server that arrived `at`; `None`: there is no Lease.
    pub fn observe(&mut self, lease: Option<Lease>, at: Instant) {
        let Some(lease) = lease else {
            self.deleted = self.seen.take().or_else(|| self.deleted.take());
            return;
        };
        self.deleted = None;
        match &mut self.seen {
            Some(seen) if seen.lease.metadata.resource_version == lease.metadata.resource_version => {}
            other => *other = Some(Seen { lease, at }),
        }
    }

    /// What to do next.
    #[must_use]
    pub fn decide(&self, now: Instant) -> Action {
        let about = |seen: Option<&Seen>| decide(seen, &self.me, self.timing.lease_duration, now);
        match (about(self.seen.as_ref()), about(self.deleted.as_ref())) {
            (Action::Create, wait @ Action::Wait(_)) => wait,
            (action, _) => action,
        }
    }

    /// The Lease to write for [`Action::Create`], [`Action::Take`] or [`Action::Renew`]. It keeps the `resourceVersion` seen.
    #[must_use]
    pub fn claim(&self, now: Timestamp) -> Lease {
        let mut lease = self.lease().cloned().unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            spec: None,
        });
        let held = holder(&lease) == Some(self.me.as_str());
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if !held {
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1)));
            spec.acquire_time = Some(MicroTime(now));
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = Some(self.timing.promised_seconds());
        spec.renew_time = Some(MicroTime(now));
        lease
    }

    /// The Lease that gives it back, if it is ours: the next candidate need not wait for it to run out.
    #[must_use]
    pub fn release(&self, now: Timestamp) -> Option<Lease> {
        let mut lease = self.lease()?.clone();
        if holder(&lease) != Some(self.me.as_str()) {
            return None;
        }
        let spec = lease.spec.as_mut()?;
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(now));
        Some(lease)
    }

    /// The term that a renewal sent at `sent` gives, once it has succeeded.
    #[must_use]
    pub const fn term(&self, sent: Moment) -> Term {
        Term { renewed: sent, window: self.timing.renew_deadline }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
