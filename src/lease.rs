//! Leader election over a `coordination.k8s.io` Lease, in the form that client-go writes it.
//!
//! The decisions are in [`candidate`] and know no client; here is the loop that carries them out. The default name of the
//! Lease is ESO's, on purpose: when a Deployment is switched from ESO to keyferry, the old leader and the new one exclude each
//! other, and the change of hands is clean. To run beside an ESO that goes on working, give `--leader-election-id` another name.
//!
//! Needs `get`, `create` and `update` on `leases` in the Lease's namespace.

pub mod candidate;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use candidate::{Action, Candidate, Moment, Term, holder};

pub use candidate::{Timing, TimingError};

/// Whether this process may write to the API server. Cheap to clone and to ask.
#[derive(Clone, Debug)]
pub struct Leadership(Arc<watch::Sender<Standing>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// There is no election: this process is the only one.
    Alone,
    /// Not elected, or no longer.
    Follower,
    /// Elected, until the term ends.
    Leader(Term),
}

impl Leadership {
    /// For a process that runs alone: it may always write.
    #[must_use]
    pub fn alone() -> Self {
        Self(Arc::new(watch::Sender::new(Standing::Alone)))
    }

    fn candidate() -> Self {
        Self(Arc::new(watch::Sender::new(Standing::Follower)))
    }

    /// Whether a write may start now. It must end within [`Timing::write_margin`].
    ///
    /// Ask before each write, not once per unit of work: the answer turns to `false` by itself, by the clock, when renewals
    /// fail, before anybody else can be elected.
    #[must_use]
    pub fn may_write(&self) -> bool {
        match *self.0.borrow() {
            Standing::Alone => true,
            Standing::Follower => false,
            Standing::Leader(term) => term.holds(&Moment::now()),
        }
    }

    /// Whether another may lead in this one's place: it led, and its term is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(*self.0.borrow(), Standing::Leader(term) if !term.holds(&Moment::now()))
    }

    /// Waits until this process is elected.
    pub async fn elected(&self) {
        // The sender lives in `self`, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|s| *s != Standing::Follower).await;
    }

    fn term(&self) -> Option<Term> {
        match *self.0.borrow() {
            Standing::Leader(term) => Some(term),
            Standing::Alone | Standing::Follower => None,
        }
    }
}

/// Why an elected process is not the leader any more. It must exit: its caches may be behind what the next leader writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No renewal succeeded in time.
    #[error("the lease {lease:?} could not be renewed within {deadline:?}; check that the API server answers")]
    Deadline {
        /// Name of the Lease.
        lease: String,
        /// The renew deadline.
        deadline: Duration,
    },
    /// The Lease names another holder.
    #[error("the lease {lease:?} was taken by {by:?}")]
    Taken {
        /// Name of the Lease.
        lease: String,
        /// The new holder.
        by: String,
    },
}

/// One process's part in an election.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    candidate: Candidate,
    leadership: Leadership,
    /// Whether what was seen of the Lease is what our own last write made of it.
    current: bool,
}

impl Election {
    /// Stands for the Lease `name` in the namespace of `api`, under an identity that no other process has.
    #[must_use]
    pub fn new(api: Api<Lease>, name: String, identity: String, timing: Timing) -> Self {
        let candidate = Candidate::new(name.clone(), identity, timing);
        Self { api, name, candidate, leadership: Leadership::candidate(), current: false }
    }

    /// The handle that every writer asks.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    /// Stands for election, and holds the Lease once elected, until `stop` or until the leadership is lost.
    ///
    /// Cancel `stop` when all writers have ended: the Lease is then given back and another process may write at once.
    ///
    /// # Errors
    /// When the leadership is lost; the process must then exit.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Lost> {
        let result = tokio::select! {
            () = stop.cancelled() => Ok(()),
            lost = self.stand() => Err(lost),
        };
        let led = self.leadership.0.send_replace(Standing::Follower) != Standing::Follower;
        if led && result.is_ok() {
            self.give_back().await;
        }
        result
    }

    async fn stand(&mut self) -> Lost {
        let timing = self.candidate.timing();
        loop {
            let attempt = timeout(self.patience(timing), self.attempt()).await;
            let pause = match attempt {
                Ok(Ok(pause)) => pause,
                Ok(Err(Failure::Lost(lost))) => return lost,
                Ok(Err(Failure::Api(error))) => {
                    self.current = false;
                    warn!(lease = self.name, error = describe(&error), "lease request failed");
                    timing.retry_period()
                }
                Err(_) => {
                    self.current = false;
                    warn!(lease = self.name, "lease request timed out");
                    Duration::ZERO
                }
            };
            sleep(pause.min(self.remaining().unwrap_or(pause))).await;
            if self.leadership.term().is_some_and(|t| !t.holds(&Moment::now())) {
                return Lost::Deadline { lease: self.name.clone(), deadline: timing.renew_deadline() };
            }
        }
    }

    /// How long one attempt may take: half the deadline, as in client-go, and never past the end of the term.
    fn patience(&self, timing: Timing) -> Duration {
        let half = timing.renew_deadline() / 2;
        half.min(self.remaining().unwrap_or(half))
    }

    /// What is left of the term; `None` when not elected.
    fn remaining(&self) -> Option<Duration> {
        let term = self.leadership.term()?;
        Some(term.window.saturating_sub(Moment::now().since(&term.renewed)))
    }

    /// Looks at the Lease, unless our own last write is the newest we know, and acts; gives the pause before the next attempt.
    async fn attempt(&mut self) -> Result<Duration, Failure> {
        if !self.current {
            let lease = self.api.get_opt(&self.name).await?;
            self.candidate.observe(lease, Instant::now().into_std());
        }
        let retry = self.candidate.timing().retry_period();
        let sent = Moment::now();
        let action = self.candidate.decide(sent.monotonic);
        if let Action::Wait(left) = action {
            let by = self.candidate.lease().and_then(holder).unwrap_or_default().to_owned();
            if self.leadership.term().is_some() {
                return Err(Failure::Lost(Lost::Taken { lease: self.name.clone(), by }));
            }
            return Ok(left.min(retry));
        }
        let claim = self.candidate.claim(Timestamp::now());
        let written = match action {
            Action::Create => self.api.create(&PostParams::default(), &claim).await,
            _ => self.api.replace(&self.name, &PostParams::default(), &claim).await,
        };
        match written {
            Ok(lease) => {
                self.candidate.observe(Some(lease), Instant::now().into_std());
                self.current = true;
                self.renewed(sent);
                Ok(retry)
            }
            // Somebody was faster: look again soon. A Lease that was there and is missing was deleted in between; where one is made, it
            // is the namespace that is missing.
            Err(kube::Error::Api(status)) if status.code == 409 || (status.code == 404 && action != Action::Create) => {
                self.current = false;
                Ok(retry / 10)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn renewed(&self, sent: Moment) {
        let term = self.candidate.term(sent);
        if self.leadership.0.send_replace(Standing::Leader(term)) == Standing::Follower {
            info!(lease = self.name, identity = self.candidate.identity(), "elected leader");
        }
    }

    async fn give_back(&mut self) {
        let released = timeout(self.candidate.timing().retry_period(), async {
            let lease = self.api.get_opt(&self.name).await?;
            self.candidate.observe(lease, Instant::now().into_std());
            if let Some(lease) = self.candidate.release(Timestamp::now()) {
                self.api.replace(&self.name, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        });
        match released.await {
            Ok(Ok(())) => info!(lease = self.name, "lease given back"),
            Ok(Err(error)) => {
                warn!(lease = self.name, error = describe(&error), "lease not given back; it runs out by itself")
            }
            Err(_) => warn!(lease = self.name, "lease not given back in time; it runs out by itself"),
        }
    }
}

enum Failure {
    Lost(Lost),
    Api(kube::Error),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Api(error)
    }
}

/// An error of the API server as text. A Lease holds no secret, but the rule is one for all: no text of a decoder.
fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.reason, status.code),
        kube::Error::SerdeError(_) => "the answer could not be decoded".to_owned(),
        other => other.to_string(),
    }
}

/// An identity for this process: the host's name, which in a cluster is the pod's, and random digits, so that a restarted
/// container is not taken for its predecessor.
///
/// # Errors
/// When the system gives no random bytes.
pub fn identity() -> Result<String, std::io::Error> {
    let mut random = [0u8; 8];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_| std::io::Error::other("no random bytes for the leader election's identity"))?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "keyferry",
        host => host,
    };
    Ok(format!("{host}_{:016x}", u64::from_be_bytes(random)))
}

#[cfg(test)]
#[path = "lease/loop_tests.rs"]
mod tests;
