//! Calls that many objects share, and reads that must not be shared.

use std::time::Duration;

use anyhow::Result;
use keyferry_e2e::env::with_namespace;
use keyferry_e2e::progress;

use super::*;

const OBJECTS: usize = 30;
const KEYS: usize = 3;
const INTERVAL: Duration = Duration::from_secs(4);

/// Thirty objects on three keys cost no more calls than three objects would, and no value gets older than it may.
#[test]
fn objects_on_the_same_keys_share_their_reads() -> Result<()> {
    with_namespace("aws-shared", async |ns| {
        let mut keys = Vec::new();
        for n in 0..KEYS {
            keys.push(put(ns, &format!("key-{n}"), &format!("value {n}")).await?);
        }
        store_of_reader(ns).await?;
        for n in 0..OBJECTS {
            let mut spec = data("key", &keys[n % KEYS]);
            spec["refreshInterval"] = format!("{}s", INTERVAL.as_secs()).into();
            apply_external_secret(ns, &format!("app-{n:02}"), "aws", spec).await?;
        }
        for n in 0..OBJECTS {
            ns.wait_synced(&format!("app-{n:02}")).await?;
        }
        let calls = || ns.env.recorder.calls_for(&ns.name).iter().filter(|call| !call.secrets().is_empty()).count();
        const INTERVALS: usize = 4;
        let before = calls();
        tokio::time::sleep(INTERVAL * u32::try_from(INTERVALS)?).await;
        let made = calls() - before;
        progress::note(format!("{OBJECTS} objects on {KEYS} keys: {made} calls in {INTERVALS} intervals"));
        // Objects come up to a tenth of the interval early, so that a round more may fall into the time.
        assert!(made <= KEYS * (INTERVALS + 1), "{made} calls in {INTERVALS} intervals");
        assert!(made >= INTERVALS, "{made} calls in {INTERVALS} intervals: values are not read again");

        put(ns, "key-0", "changed").await?;
        let changed = Instant::now();
        for n in (0..OBJECTS).step_by(KEYS) {
            wait_data(ns, &format!("app-{n:02}"), &[("key", "changed")]).await?;
        }
        took("all objects followed a change, with no word from anybody, after", changed, INTERVAL + REPAIRED_WITHIN);
        Ok(())
    })
}

/// A forced read never takes a value that was read before it was asked for.
#[test]
fn force_sync_reads_what_is_there_now() -> Result<()> {
    with_namespace("aws-force", async |ns| {
        let name = put(ns, "db", "0").await?;
        store_of_reader(ns).await?;
        apply_external_secret(ns, "app", "aws", data("db", &name)).await?;
        apply_external_secret(ns, "bystander", "aws", data("db", &name)).await?;
        wait_data(ns, "app", &[("db", "0")]).await?;
        wait_data(ns, "bystander", &[("db", "0")]).await?;
        let mut latencies = Vec::new();
        for n in 1..=10 {
            put(ns, "db", &n.to_string()).await?;
            let asked = Instant::now();
            force_sync(ns, "app").await?;
            ns.wait_secret("app", |data| data["db"] == n.to_string()).await?;
            latencies.push(asked.elapsed());
        }
        latencies.sort_unstable();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, slowest) = (milliseconds(latencies[4]), milliseconds(latencies[9]));
        progress::note(format!("from annotation to Secret: median {median:.0} ms, slowest of ten {slowest:.0} ms"));
        assert!(median < 1000.0, "median {median} ms");
        assert_eq!(ns.secret("bystander").await?["db"], "0", "only who is forced reads again");
        Ok(())
    })
}
