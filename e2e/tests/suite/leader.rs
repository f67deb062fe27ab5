//! Stops cleanly, hands over at once, and never are there two that write.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::operator::Operator;
use keyferry_e2e::process::Signal;
use keyferry_e2e::progress;
use kube::Api;
use serde_json::json;

use crate::lab::{
    all_synced, apply, eventually, external_secret, fake_store, installed_in, is_write, one, operator, requests, with_lab,
};

const LEASE: &str = "external-secrets-controller";
/// A write ends at the latest when a lease that is not renewed does: four seconds after the leader stops by itself, which a busy
/// machine's API server needs.
const LEASE_SECONDS: u64 = 12;
const RENEW_SECONDS: u64 = 8;

async fn replica(ns: &Sandbox<'_>) -> Result<Operator> {
    let (lease, renew) = (
        format!("--leader-election-lease-duration={LEASE_SECONDS}s"),
        format!("--leader-election-renew-deadline={RENEW_SECONDS}s"),
    );
    let args = [
        "--enable-leader-election",
        &lease,
        &renew,
        "--leader-election-retry-period=500ms",
        // Every refresh is a write: a second writer would show at once.
        "--status-heartbeat=0s",
        "--log-format=text",
    ];
    operator(ns, &args).await
}

async fn holder(ns: &Sandbox<'_>) -> Result<String> {
    let api: Api<Lease> = Api::namespaced(ns.cluster().client.clone(), &installed_in(ns));
    let lease = api.get_opt(LEASE).await?;
    Ok(lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default())
}

/// Creates an ExternalSecret and waits until it is served: who leads works.
async fn is_served(ns: &Sandbox<'_>, name: &str) -> Result<Duration> {
    apply(ns, external_secret(name, json!({"refreshInterval": "1s", "data": one("key", "remote")}))).await?;
    let started = Instant::now();
    all_synced(ns).await?;
    Ok(started.elapsed())
}

/// The tokens that wrote since `mark`, in the order of their writes, neighbours once.
fn writers(ns: &Sandbox<'_>, mark: u64) -> Result<Vec<String>> {
    let mut writes: Vec<_> = requests(ns, mark)?.into_iter().filter(is_write).collect();
    writes.sort_by_key(|audited| audited.at);
    let mut writers: Vec<String> = writes.into_iter().map(|audited| audited.credential).collect();
    writers.dedup();
    Ok(writers)
}

#[test]
fn one_stops_cleanly_and_the_next_takes_over() -> Result<()> {
    with_lab("handover", async |ns| {
        let mut first = replica(ns).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        is_served(ns, "before").await?;
        let led = holder(ns).await?;
        let _second = replica(ns).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(holder(ns).await? == led, "the second took the Lease from a leader that lives");

        let started = Instant::now();
        let status = first.terminate(Duration::from_secs(10)).await?;
        let stopped = started.elapsed();
        ensure!(status.code() == Some(0), "{status}");
        let took = eventually("the second leads", async || {
            let holder = holder(ns).await?;
            Ok(!holder.is_empty() && holder != led)
        })
        .await?;
        let served = is_served(ns, "after").await?;
        progress::note(format!(
            "SIGTERM: ended with 0 after {stopped:.2?}; the next leads {took:.2?} later, serves a new object in {served:.2?}"
        ));
        ensure!(took < Duration::from_secs(LEASE_SECONDS - 1), "the Lease was not released: it took {took:?}");
        Ok(())
    })
}

/// A leader that the kernel stops for longer than its Lease, as on a node that hangs.
#[test]
fn a_leader_that_wakes_up_late_writes_nothing() -> Result<()> {
    with_lab("stalled", async |ns| {
        let mark = ns.env.control_plane.audit_mark()?;
        let mut first = replica(ns).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        for index in 0..10 {
            apply(
                ns,
                external_secret(&format!("app-{index}"), json!({"refreshInterval": "1s", "data": one("key", "remote")})),
            )
            .await?;
        }
        all_synced(ns).await?;
        let led = holder(ns).await?;
        let second = replica(ns).await?;
        let alone = writers(ns, mark)?;
        ensure!(alone.len() == 1, "{alone:?}");

        first.signal(Signal::STOP)?;
        let took = eventually("the second leads", async || Ok(holder(ns).await? != led)).await?;
        // It also writes.
        is_served(ns, "late").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let woken = ns.env.control_plane.audit_mark()?;
        first.signal(Signal::CONT)?;
        let status = first.exited(Duration::from_secs(15)).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (all, late) = (writers(ns, mark)?, writers(ns, woken)?);
        progress::note(format!(
            "stalled leader: replaced after {took:.1?}; woken, it ended with {status}; turns of writers: {}",
            all.len()
        ));
        ensure!(all.len() == 2 && all[0] == alone[0], "writers took turns: {all:?}");
        ensure!(late == all[1..], "after the wake-up wrote {late:?}");
        ensure!(second.probe("/readyz").await?.0, "the second is not ready");
        Ok(())
    })
}
