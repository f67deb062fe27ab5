//! What becomes of the others where one of a store's users fails.

use tokio::time::timeout;

use super::*;
use crate::plan::{backoff, phase};

/// Comes again as an ExternalSecret of that uid does, until it has its value: after how long that was.
async fn until_read(fetcher: &Fetcher, store: &AnyStore, key: &str, uid: &str) -> Duration {
    let (begun, hour) = (Instant::now(), Duration::from_secs(3600));
    for failures in 1.. {
        let reads = read(fetcher, store, &[key], aged(10)).await;
        let Err(error) = &reads[0].answer else { break };
        sleep(backoff::pause(Some(error.kind), failures, error.retry_after, hour, uid)).await;
    }
    begun.elapsed()
}

/// The one that fails comes first of all after each pause, the other one last.
#[tokio::test(start_paused = true)]
async fn one_that_always_fails_starves_nobody() {
    for kind in [ErrorKind::Unavailable, ErrorKind::Throttled] {
        let provider = Provider::new(1);
        let (fetcher, store) = (fetcher(&provider), store("s"));
        provider.fault("bad", Some(kind));
        let mut uids: Vec<String> = (0..1000).map(|i| format!("uid-{i}")).collect();
        uids.sort_by(|a, b| phase(a).total_cmp(&phase(b)));
        let bad = timeout(Duration::from_secs(1000), until_read(&fetcher, &store, "bad", &uids[0]));
        let good = async {
            sleep(Duration::from_secs(100)).await;
            timeout(Duration::from_secs(60), until_read(&fetcher, &store, "good", &uids[999])).await
        };
        let (bad, good) = tokio::join!(bad, good);
        assert!(bad.is_err(), "it has no value");
        let took = good.unwrap();
        assert!(took > Duration::from_secs(1) && took < Duration::from_secs(20), "{kind:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whose_own_call_failed_comes_after_those_who_were_held_back() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    provider.fault("bad", Some(ErrorKind::Unavailable));
    let error = async |key: &str| read(&fetcher, &store, &[key], aged(10)).await[0].answer.clone().unwrap_err();
    let failed = error("bad").await;
    let held_back = error("good").await;
    assert_eq!(
        (failed.retry_after, held_back.retry_after),
        (Some(Duration::from_millis(1250)), Some(Duration::from_secs(1)))
    );
    // one of them may be another tenant's, and who finds out changes from one try to the next
    assert_eq!([failed.detail.as_str(), held_back.detail.as_str()], ["read of \"...\": scripted"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_a_login_leaves_nobody_waiting() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    provider.login_panics.store(true, Ordering::Relaxed);
    let reads = timeout(Duration::from_secs(60), read(&fetcher, &store, &["a", "b"], aged(10))).await.unwrap();
    assert_eq!((kind(&reads[0]), kind(&reads[1])), (ErrorKind::Unavailable, ErrorKind::Unavailable));
    provider.login_panics.store(false, Ordering::Relaxed);
    assert_eq!(text(&read(&fetcher, &store, &["a"], aged(10)).await[0]), "a as ns");
}

/// Else a read that was under way brings back what the push replaced, for as long as values are kept.
#[tokio::test(start_paused = true)]
async fn what_is_pushed_while_it_is_read_is_read_anew() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    let outlet = fetcher.outlet(&store, 0, "ns", "push").await.unwrap();
    let push = Push { place: Place { key: "a".into(), ..Place::default() }, ..Push::default() };
    let written = async {
        sleep(LATENCY / 2).await; // the read is under way
        write(&outlet, &push).await.unwrap()
    };
    let (reads, written) = tokio::join!(read(&fetcher, &store, &["a"], aged(10)), written);
    assert_eq!((text(&reads[0]).as_str(), written), ("a as ns", Pushed::Written));
    read(&fetcher, &store, &["a"], aged(10)).await;
    assert_eq!(provider.calls().len(), 2);
    read(&fetcher, &store, &["a"], aged(10)).await;
    assert_eq!(provider.calls().len(), 2, "what was read since is kept");
}
