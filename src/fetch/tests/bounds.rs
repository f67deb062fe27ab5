//! How much is kept, by whom, and for how long; and how long a call may take.

use super::*;

fn bounded(provider: &Arc<Provider>, entries: usize) -> Fetcher {
    let mut fetcher = fetcher(provider);
    fetcher.handles = Handles::new(Budget::new(entries, 1 << 20));
    fetcher
}

/// How many calls it costs to read one key twice.
async fn calls(provider: &Provider, fetcher: &Fetcher, store: &AnyStore, consumer: &str) -> usize {
    let before = provider.calls().len();
    for _ in 0..2 {
        let reads = fetcher.read(store, 0, consumer, &[get("k")], aged(10), "test").await.reads;
        assert!(reads[0].answer.is_ok(), "what is not kept is read all the same");
    }
    provider.calls().len() - before
}

/// Else a namespace that makes stores enough has the process killed, which serves all.
#[tokio::test(start_paused = true)]
async fn the_stores_of_a_namespace_keep_no_more_than_one_may() {
    let provider = Provider::new(1);
    let fetcher = bounded(&provider, 2);
    let as_consumer = cluster_store(&json!({"kubernetes": {"auth": {"serviceAccount": {"name": "app"}}}}));
    assert_eq!(calls(&provider, &fetcher, &store("a"), "ns").await, 1);
    assert_eq!(calls(&provider, &fetcher, &as_consumer, "ns").await, 1);
    assert_eq!(calls(&provider, &fetcher, &store("b"), "ns").await, 2, "nothing more is kept for it");
    assert_eq!(calls(&provider, &fetcher, &as_consumer, "other").await, 1, "another has its own");
    fetcher.forget_login(&StoreId::of(&as_consumer), "ns");
    assert_eq!(calls(&provider, &fetcher, &store("b"), "ns").await, 1, "what went makes room");
}

#[tokio::test(start_paused = true)]
async fn the_check_of_a_store_lets_go_of_what_nobody_comes_back_for() {
    let provider = Provider::new(1);
    let fetcher = bounded(&provider, 1);
    assert_eq!(calls(&provider, &fetcher, &store("a"), "ns").await, 1);
    sleep(Duration::from_secs(100)).await;
    assert_eq!(calls(&provider, &fetcher, &store("b"), "ns").await, 2);
    assert!(fetcher.validate(&store("a"), 0).await.is_ok());
    assert_eq!(calls(&provider, &fetcher, &store("b"), "ns").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_the_time_that_its_store_asks_for() {
    for (timeout, seconds) in [("2m", 120), ("5s", 30)] {
        let provider = Provider::new(1);
        provider.hangs.store(true, Ordering::Relaxed);
        let store = cluster_store(&json!({"webhook": {"url": "https://x", "result": {}, "timeout": timeout}}));
        let begun = Instant::now();
        assert_eq!(kind(&read(&fetcher(&provider), &store, &["a"], aged(10)).await[0]), ErrorKind::Unavailable);
        assert_eq!(begun.elapsed().as_secs(), seconds, "{timeout}");
    }
}
