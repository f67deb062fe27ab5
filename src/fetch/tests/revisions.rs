//! Callers that come with what a store was before, as those do who waited for another store meanwhile.

use super::*;

/// Reads, and says how many logins there were until then.
async fn logins(provider: &Provider, fetcher: &Fetcher, store: &AnyStore, credentials: u64) -> usize {
    let reads = fetcher.read(store, credentials, "ns", &[get("a")], aged(3600), "test").await.reads;
    assert!(reads[0].answer.is_ok());
    provider.logins().len()
}

fn of_generation(generation: i64) -> AnyStore {
    let mut store = store("s");
    store.metadata.generation = Some(generation);
    store
}

#[tokio::test(start_paused = true)]
async fn old_facts_do_not_take_the_place_of_the_new_ones() {
    let provider = Provider::new(1);
    let fetcher = fetcher(&provider);
    let (new, old) = (of_generation(2), of_generation(1));
    assert_eq!(logins(&provider, &fetcher, &new, 5).await, 1);
    assert_eq!(logins(&provider, &fetcher, &old, 6).await, 2, "an older spec");
    assert_eq!(logins(&provider, &fetcher, &new, 4).await, 3, "older credentials");
    assert_eq!(logins(&provider, &fetcher, &new, 5).await, 3, "the new one is still there");
    assert_eq!(logins(&provider, &fetcher, &new, 6).await, 4);
    assert_eq!(logins(&provider, &fetcher, &new, 6).await, 4);
    // nobody's facts are that old: the cluster was put back to what it was
    sleep(Duration::from_secs(601)).await;
    assert_eq!(logins(&provider, &fetcher, &old, 0).await, 5);
    assert_eq!(logins(&provider, &fetcher, &old, 0).await, 5);
}

#[tokio::test(start_paused = true)]
async fn the_store_that_was_there_before_does_not_take_the_place_of_the_present_one() {
    let provider = Provider::new(1);
    let fetcher = fetcher(&provider);
    let made = |uid: &str, time: &str| {
        let mut store = store("s");
        store.metadata.uid = Some(uid.to_owned());
        store.metadata.creation_timestamp = Some(serde_json::from_value(json!(time)).unwrap());
        store
    };
    let (old, new) = (made("z", "2026-01-01T00:00:00Z"), made("a", "2026-01-02T00:00:00Z"));
    for (store, count) in [(&old, 1), (&new, 2), (&old, 3), (&new, 3)] {
        assert_eq!(logins(&provider, &fetcher, store, 0).await, count);
    }
}

/// Takes down of each call whether its store was deleted.
#[derive(Default)]
struct Told(Mutex<Vec<(&'static str, bool)>>);

impl Observer for Told {
    fn call(&self, call: &CallReport<'_>) {
        self.0.lock().unwrap().push((call.call, call.deleted));
    }
    fn lookup(&self, _: Lookup) {}
}

#[tokio::test(start_paused = true)]
async fn a_deleted_store_leaves_nothing_behind() {
    let (provider, told) = (Provider::new(1), Arc::new(Told::default()));
    let mut fetcher = fetcher(&provider);
    fetcher.observer = told.clone();
    let (store, requests) = (store("s"), [get("a")]);
    let hourly = Freshness { again: Some(Duration::from_secs(3600)), ..aged(3600) };
    let under_way = fetcher.read(&store, 0, "ns", &requests, hourly, "test");
    let deleted = async {
        sleep(LATENCY + LATENCY / 2).await; // logged in, and reading
        fetcher.deleted(&store);
    };
    tokio::join!(under_way, deleted);
    assert_eq!(*told.0.lock().unwrap(), [("Connect", false), ("Get", true)]);

    // it reached those late who asked for it
    assert_eq!(logins(&provider, &fetcher, &store, 0).await, 2);
    assert_eq!(logins(&provider, &fetcher, &store, 0).await, 3);
    assert!(told.0.lock().unwrap()[2..].iter().all(|(_, deleted)| *deleted));
    assert!(fetcher.oldest().is_empty());
    fetcher.close().await;
    assert_eq!(provider.closed.load(Ordering::Relaxed), 0, "there is none to log out of");

    // another one of that name
    let mut another = store.clone();
    another.metadata.uid = Some("another".into());
    for _ in 0..2 {
        assert_eq!(logins(&provider, &fetcher, &another, 0).await, 4);
    }
    assert_eq!(told.0.lock().unwrap().last(), Some(&("Get", false)));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_logs_in_in_another_way_leaves_no_login_of_the_old_one() {
    let provider = Provider::new(1);
    let fetcher = fetcher(&provider);
    let of = |generation, reference: Value| {
        let auth = json!({ "jwt": { "serviceAccountRef": reference } });
        let mut store =
            cluster_store(&json!({ "aws": { "service": "SecretsManager", "region": "eu-west-1", "auth": auth } }));
        store.metadata.generation = Some(generation);
        store
    };
    let as_consumer = |generation| of(generation, json!({ "name": "sa" }));
    let as_itself = |generation| of(generation, json!({ "name": "sa", "namespace": "infra" }));
    for (store, handles) in [(as_consumer(1), 2), (as_itself(2), 1), (as_consumer(3), 2)] {
        for consumer in ["red", "blue"] {
            let reads = fetcher.read(&store, 0, consumer, &[get("a")], aged(10), "test").await.reads;
            assert!(reads[0].answer.is_ok());
        }
        assert_eq!(fetcher.handles.all().len(), handles);
    }
}

/// Else one who changes its own login in a loop would have all the others log in anew.
#[tokio::test(start_paused = true)]
async fn a_consumer_whose_login_changed_logs_in_anew_alone() {
    let provider = Provider::new(1);
    let fetcher = fetcher(&provider);
    let auth = json!({ "jwt": { "serviceAccountRef": { "name": "sa" } } });
    let store = cluster_store(&json!({ "aws": { "service": "SecretsManager", "region": "eu-west-1", "auth": auth } }));
    let read = async || {
        for consumer in ["red", "blue"] {
            let reads = fetcher.read(&store, 0, consumer, &[get("a")], aged(10), "test").await.reads;
            assert!(reads[0].answer.is_ok());
        }
    };
    read().await;
    assert_eq!(provider.logins(), ["red", "blue"]);
    fetcher.forget_login(&StoreId::of(&store), "red");
    read().await;
    assert_eq!((provider.logins(), provider.calls().len()), (vec!["red".into(), "blue".into(), "red".into()], 3));
}
