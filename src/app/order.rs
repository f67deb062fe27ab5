//! In what order the process comes into step, is elected, works and ends: who writes holds the lease.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::lease;

/// How long what is under way may take at the end.
const GRACE: Duration = Duration::from_secs(20);
/// Shortest and longest pause between two looks at whether all watches are in step.
const LOOKS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// Works until `stopped`, then cancels `stop` and waits for what is under way, and only when nobody writes any more cancels `lead`, so that
/// the lease may go to another process.
pub(super) async fn in_order(
    election: impl Future<Output = Result<(), lease::Lost>>,
    work: impl Future<Output = ()>,
    stopped: impl Future<Output = ()>,
    stop: &CancellationToken,
    lead: &CancellationToken,
) -> Result<(), lease::Lost> {
    let (mut election, mut work) = (std::pin::pin!(election), std::pin::pin!(work));
    tokio::select! {
        lost = &mut election => {
            stop.cancel();
            return lost;
        }
        () = stopped => tracing::info!("stopping: what is under way is brought to its end"),
        () = &mut work => {}
    }
    stop.cancel();
    // the lease is held for as long as something is written
    let ended = tokio::select! {
        lost = &mut election => return lost,
        ended = tokio::time::timeout(GRACE, work) => ended.is_ok(),
    };
    if !ended {
        // and what is still under way may write until the process is no more
        tracing::warn!(
            seconds = GRACE.as_secs(),
            "what was under way did not end in time: the process ends, and a lease that it holds runs out by itself"
        );
        return Ok(());
    }
    lead.cancel();
    election.await?;
    tracing::info!("stopped");
    Ok(())
}

/// Stands for election once all watches are in step: a process that never comes so far, say of a bad rollout, takes no lease from one that
/// works. Ends without if it is to end before.
pub(super) async fn once_in_step(
    in_step: &CancellationToken,
    lead: &CancellationToken,
    election: impl Future<Output = Result<(), lease::Lost>>,
) -> Result<(), lease::Lost> {
    tokio::select! {
        () = in_step.cancelled() => {}
        () = lead.cancelled() => return Ok(()),
    }
    election.await
}

/// How soon to look again whether all watches are in step, after that time. A look costs as much as there are watches.
pub(super) fn look_again(waited: Duration) -> Duration {
    let (shortest, longest) = LOOKS;
    (waited / 16).clamp(shortest, longest)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt as _;
    use tokio::time::Instant;

    use super::*;

    /// Else another process would be elected, and write, while this one still does.
    #[tokio::test(start_paused = true)]
    async fn the_lease_is_renewed_until_what_is_under_way_has_ended() {
        let (stop, lead, renewals) = (CancellationToken::new(), CancellationToken::new(), Cell::new(0));
        let election = async {
            while tokio::time::timeout(Duration::from_secs(1), lead.cancelled()).await.is_err() {
                renewals.set(renewals.get() + 1);
            }
            Ok(())
        };
        let work = async {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_millis(10_500)).await;
            assert!(!lead.is_cancelled(), "it still writes");
        };
        in_order(election, work, tokio::time::sleep(Duration::from_millis(100)), &stop, &lead).await.unwrap();
        assert_eq!((renewals.get(), lead.is_cancelled()), (10, true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_is_not_given_back_while_something_may_still_write() {
        let (stop, lead, begun) = (CancellationToken::new(), CancellationToken::new(), Instant::now());
        let election = async {
            lead.cancelled().await;
            Ok(())
        };
        let ended = in_order(election, std::future::pending(), std::future::ready(()), &stop, &lead).await;
        assert_eq!((ended, stop.is_cancelled(), lead.is_cancelled()), (Ok(()), true, false));
        assert_eq!(begun.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_lost_the_lease_waits_for_nothing() {
        let (stop, lead) = (CancellationToken::new(), CancellationToken::new());
        let lost = lease::Lost::Taken { lease: "l".into(), by: "other".into() };
        let election = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            Err(lost.clone())
        };
        let ended = in_order(election, std::future::pending(), std::future::pending(), &stop, &lead).await;
        assert_eq!((ended, stop.is_cancelled()), (Err(lost.clone()), true));
    }

    #[test]
    fn who_is_not_in_step_does_not_stand_for_election() {
        let (in_step, lead, stands) = (CancellationToken::new(), CancellationToken::new(), Cell::new(false));
        let election = async {
            stands.set(true);
            Ok(())
        };
        let mut election = Box::pin(once_in_step(&in_step, &lead, election));
        assert!(election.as_mut().now_or_never().is_none());
        assert!(!stands.get());
        in_step.cancel();
        assert_eq!(election.now_or_never(), Some(Ok(())));
        assert!(stands.get());
        // one that is told to end before has nothing to give back
        let (in_step, never) = (CancellationToken::new(), std::future::pending());
        lead.cancel();
        assert_eq!(once_in_step(&in_step, &lead, never).now_or_never(), Some(Ok(())));
    }

    #[test]
    fn a_long_start_is_looked_at_less_often() {
        let pause = |waited| look_again(Duration::from_millis(waited)).as_millis();
        assert_eq!([0, 160, 320, 800, 60_000].map(pause), [10, 10, 20, 50, 50]);
    }
}
