//! The fetcher with a scripted provider and a clock that only the test moves.
#![allow(clippy::unwrap_used, clippy::panic)]

mod absence;
mod bounds;
mod held_back;
mod revisions;
mod writes;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::*;
use crate::api::{ClusterSecretStore, SecretStore};
use crate::plan::refresh;
use crate::providers::{Place, Push, Pushed};
use crate::secret_bytes::SecretBytes;

/// How long the provider takes to answer.
const LATENCY: Duration = Duration::from_millis(15);

/// A call that reached the provider.
#[derive(Clone, Debug)]
struct Call {
    at: Instant,
    keys: Vec<String>,
}

/// A provider that does what the test says, and takes down what it is asked.
struct Provider {
    batch: usize,
    /// What each key comes to, where that is not a value.
    faults: Mutex<HashMap<String, ErrorKind>>,
    login_fault: Mutex<Option<ErrorKind>>,
    login_panics: AtomicBool,
    hangs: AtomicBool,
    panics: AtomicBool,
    calls: Mutex<Vec<Call>>,
    /// The namespace of each login.
    logins: Mutex<Vec<String>>,
    /// How many sessions were closed.
    closed: AtomicUsize,
}

impl Provider {
    fn new(batch: usize) -> Arc<Self> {
        Arc::new(Self {
            batch,
            faults: Mutex::default(),
            login_fault: Mutex::default(),
            login_panics: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            panics: AtomicBool::new(false),
            calls: Mutex::default(),
            logins: Mutex::default(),
            closed: AtomicUsize::new(0),
        })
    }

    fn fault(&self, key: &str, kind: Option<ErrorKind>) {
        let mut faults = self.faults.lock().unwrap();
        match kind {
            Some(kind) => faults.insert(key.to_owned(), kind),
            None => faults.remove(key),
        };
    }

    fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    fn logins(&self) -> Vec<String> {
        self.logins.lock().unwrap().clone()
    }
}

struct ScriptedLogin(Arc<Provider>);

#[async_trait]
impl Login for ScriptedLogin {
    async fn login(&self, _: &ProviderSpec, cx: &ConnectCx) -> Result<Arc<dyn Session>, ProviderError> {
        self.0.logins.lock().unwrap().push(cx.namespace.clone());
        sleep(LATENCY).await;
        assert!(!self.0.login_panics.load(Ordering::Relaxed), "the scripted bug");
        match *self.0.login_fault.lock().unwrap() {
            Some(kind) => Err(ProviderError::new(kind, "no login")),
            None => Ok(Arc::new(ScriptedSession { provider: self.0.clone(), namespace: cx.namespace.clone() })),
        }
    }
}

struct ScriptedSession {
    provider: Arc<Provider>,
    namespace: String,
}

#[async_trait]
impl Session for ScriptedSession {
    fn batch_size(&self) -> usize {
        self.provider.batch
    }

    async fn get(&self, wants: &[Want], _: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let keys: Vec<String> = wants.iter().map(|w| w.key.clone()).collect();
        self.provider.calls.lock().unwrap().push(Call { at: Instant::now(), keys });
        assert!(!self.provider.panics.load(Ordering::Relaxed), "the scripted bug");
        if self.provider.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        sleep(LATENCY).await;
        let faults = self.provider.faults.lock().unwrap().clone();
        let answer = |want: &Want| match faults.get(&want.key) {
            Some(kind) => Err(ProviderError::new(*kind, format!("read of {:?}: scripted", want.key))),
            // whose login read it shows in the value
            None => Ok(Fetched { bytes: format!("{} as {}", want.key, self.namespace).into(), ..Fetched::default() }),
        };
        wants.iter().map(answer).collect()
    }

    async fn find(&self, query: &FindQuery, _: &CallCx) -> Result<Vec<Found>, ProviderError> {
        self.provider.calls.lock().unwrap().push(Call { at: Instant::now(), keys: vec![format!("find {}", query.name)] });
        Ok(vec![Found { name: "found".into(), bytes: SecretBytes::from("x") }])
    }

    async fn push(&self, push: &Push, _: &CallCx) -> Result<Pushed, ProviderError> {
        let fault = self.provider.faults.lock().unwrap().get(&push.place.key).copied();
        fault.map_or(Ok(Pushed::Written), |kind| Err(ProviderError::new(kind, "scripted")))
    }

    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        Ok(Validation::Ready)
    }

    async fn close(&self) {
        self.provider.closed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Deaf;

impl Observer for Deaf {
    fn call(&self, _: &CallReport<'_>) {}
    fn lookup(&self, _: Lookup) {}
}

fn fetcher(provider: &Arc<Provider>) -> Fetcher {
    let nowhere = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Ok::<_, Infallible>(http::Response::new(kube::client::Body::empty()))
    });
    let config = kube::Config::new("http://cluster.invalid".parse().unwrap());
    let mut fetcher = Fetcher::new(
        kube::Client::new(nowhere, "default"),
        OwnCluster::of(&config),
        crate::outbound::testing::outbound(),
        Limits::default(),
        Arc::new(Deaf),
    );
    fetcher.login = Arc::new(ScriptedLogin(provider.clone()));
    fetcher
}

fn store(name: &str) -> AnyStore {
    let store: SecretStore = serde_json::from_value(json!({
        "metadata": { "name": name, "namespace": "ns", "uid": name, "generation": 1 },
        "spec": { "provider": { "fake": { "data": [] } } },
    }))
    .unwrap();
    store.into()
}

fn cluster_store(provider: &Value) -> AnyStore {
    let store: ClusterSecretStore = serde_json::from_value(json!({
        "metadata": { "name": "shared", "uid": "shared", "generation": 1 }, "spec": { "provider": provider },
    }))
    .unwrap();
    store.into()
}

fn get(key: &str) -> Request {
    Request::Get(Want { key: key.into(), ..Want::default() })
}

fn aged(seconds: u64) -> Freshness {
    Freshness { max_age: Duration::from_secs(seconds), not_before: None, again: None, priority: Priority::Periodic }
}

async fn read(fetcher: &Fetcher, store: &AnyStore, keys: &[&str], freshness: Freshness) -> Vec<Read> {
    let requests: Vec<Request> = keys.iter().map(|key| get(key)).collect();
    fetcher.read(store, 0, "ns", &requests, freshness, "test").await.reads
}

async fn write(outlet: &Outlet<'_>, push: &Push) -> Result<Pushed, NotPushed> {
    outlet.writing(&push.place).await.unwrap().push(push).await
}

fn text(read: &Read) -> String {
    match read.answer.as_ref().unwrap() {
        Answer::Value(value) => value.bytes.expose_str().unwrap().to_owned(),
        Answer::Found(_) => panic!("a search was not asked for"),
    }
}

fn kind(read: &Read) -> ErrorKind {
    read.answer.as_ref().unwrap_err().kind
}

#[tokio::test(start_paused = true)]
async fn a_thousand_readers_of_one_key_cost_one_call() {
    let provider = Provider::new(20);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    let reads = join_all((0..1000).map(|_| read(&fetcher, &store, &["a"], aged(10)))).await;
    assert!(reads.iter().all(|reads| text(&reads[0]) == "a as ns"));
    assert_eq!(provider.calls().len(), 1);
    assert_eq!(provider.logins().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn reads_at_one_moment_go_out_in_batches_and_searches_alone() {
    let provider = Provider::new(20);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    let keys: Vec<String> = (0..50).map(|i| format!("k{i}")).collect();
    let find = [Request::Find(FindQuery { name: "x".into(), ..FindQuery::default() })];
    let gets = join_all(keys.iter().map(|key| async { text(&read(&fetcher, &store, &[key], aged(10)).await[0]) }));
    let (values, found) = tokio::join!(gets, fetcher.read(&store, 0, "ns", &find, aged(10), "test"));
    assert!(keys.iter().zip(&values).all(|(key, value)| *value == format!("{key} as ns")), "each gets its own");
    assert!(matches!(&found.reads[0].answer, Ok(Answer::Found(found)) if found.len() == 1));
    let mut sizes: Vec<usize> = provider.calls().iter().map(|call| call.keys.len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 10, 20, 20]);
}

#[tokio::test(start_paused = true)]
async fn calls_under_way_are_bounded_and_the_line_behind_them_becomes_batches() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    let keys: Vec<String> = (0..40).map(|i| format!("k{i}")).collect();
    let (fetcher, store) = (&fetcher, &store);
    join_all(keys.iter().map(|key| async move { read(fetcher, store, &[key], aged(10)).await })).await;
    let calls = provider.calls();
    let most = calls.iter().map(|one| calls.iter().filter(|c| c.at <= one.at && one.at < c.at + LATENCY).count()).max();
    assert_eq!((calls.len(), most), (40, Some(Limits::default().calls_in_flight)));
}

#[tokio::test(start_paused = true)]
async fn a_forced_reader_gets_neither_an_old_value_nor_joins_an_old_call() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    read(&fetcher, &store, &["a"], aged(10)).await;
    let asked = Instant::now();
    let forced = Freshness { not_before: Some(asked), ..aged(3600) };
    assert!(read(&fetcher, &store, &["a"], forced).await[0].sent >= asked, "an old value");

    sleep(Duration::from_secs(60)).await;
    let slow = read(&fetcher, &store, &["a"], aged(10));
    let force = async {
        sleep(Duration::from_millis(10)).await; // the first call is under way
        let asked = Instant::now();
        let read = read(&fetcher, &store, &["a"], Freshness { not_before: Some(asked), ..aged(3600) }).await;
        assert!(read[0].sent >= asked, "an old call");
    };
    tokio::join!(slow, force);
    assert_eq!(provider.calls().len(), 4);
    // what is kept is the newer one
    read(&fetcher, &store, &["a"], Freshness { not_before: Some(asked), ..aged(10) }).await;
    assert_eq!(provider.calls().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_hang_becomes_unavailable_and_closes_the_gate_of_that_store_alone() {
    let provider = Provider::new(1);
    let fetcher = fetcher(&provider);
    let (hanging, other) = (store("hanging"), store("other"));
    read(&fetcher, &hanging, &["warm"], aged(10)).await;
    provider.hangs.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let late = read(&fetcher, &hanging, &["a"], aged(10)).await;
    assert_eq!(kind(&late[0]), ErrorKind::Unavailable);
    assert!(begun.elapsed() < Limits::default().call_timeout + Duration::from_secs(1));

    provider.hangs.store(false, Ordering::Relaxed);
    let before = provider.calls().len();
    let held = read(&fetcher, &hanging, &["b"], aged(10)).await;
    assert_eq!(kind(&held[0]), ErrorKind::Unavailable);
    assert!(held[0].answer.as_ref().unwrap_err().retry_after.is_some_and(|wait| wait <= Duration::from_secs(1)));
    assert_eq!(provider.calls().len(), before, "nothing goes out while the gate is closed");
    assert_eq!(text(&read(&fetcher, &other, &["a"], aged(10)).await[0]), "a as ns", "another store is not held back");

    sleep(Duration::from_secs(1)).await;
    assert_eq!(text(&read(&fetcher, &hanging, &["b"], aged(10)).await[0]), "b as ns");
}

/// Else each try of each of its users would take a place for as long as a call may take, and users of other stores would wait.
#[tokio::test(start_paused = true)]
async fn while_a_store_hangs_one_reader_finds_out_and_the_others_fail_at_once() {
    let provider = Provider::new(1);
    let (fetcher, store, limits) = (fetcher(&provider), store("s"), Limits::default());
    read(&fetcher, &store, &["warm"], aged(10)).await;
    provider.hangs.store(true, Ordering::Relaxed);
    let begun = Instant::now();
    let all = async || {
        let (fetcher, store) = (&fetcher, &store);
        let one = |i: usize| async move {
            let (begun, key) = (Instant::now(), format!("k{}", i % 50));
            let reads = read(fetcher, store, &[&key], aged(10)).await;
            (kind(&reads[0]), begun.elapsed())
        };
        join_all((0..100).map(one)).await
    };
    let first = all().await;
    assert!(first.iter().all(|(kind, _)| *kind == ErrorKind::Unavailable));
    assert!(begun.elapsed() < limits.call_timeout + Duration::from_secs(1), "those in line do not hang in turn");
    assert_eq!(provider.calls().len(), 1 + limits.calls_in_flight);
    sleep(Duration::from_secs(2)).await;
    let waits: Vec<Duration> = all().await.into_iter().map(|(_, wait)| wait).collect();
    assert_eq!(waits.iter().filter(|wait| **wait >= limits.call_timeout).count(), 1);
    assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 99);
    assert_eq!(provider.calls().len(), 2 + limits.calls_in_flight);

    provider.hangs.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(15)).await;
    assert_eq!(text(&read(&fetcher, &store, &["k1"], aged(10)).await[0]), "k1 as ns");
    let back = join_all([&["k2"], &["k3"]].map(|keys| read(&fetcher, &store, keys, aged(10)))).await;
    assert!(back.iter().all(|reads| reads[0].answer.is_ok()), "it is back for all");
}

#[tokio::test(start_paused = true)]
async fn a_new_object_waits_behind_no_periodic_ones() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    read(&fetcher, &store, &["warm"], aged(10)).await;
    let keys: Vec<String> = (0..400).map(|i| format!("k{i:03}")).collect();
    let (fetcher, store, begun) = (&fetcher, &store, Instant::now());
    let crowd = join_all(keys.iter().map(|key| async move { text(&read(fetcher, store, &[key], aged(10)).await[0]) }));
    let urgent = async {
        sleep(LATENCY / 2).await; // the crowd is in line
        let new = Freshness { priority: Priority::New, ..aged(10) };
        let (own, shared) = tokio::join!(read(fetcher, store, &["new"], new), read(fetcher, store, &["k399"], new));
        assert_eq!([text(&own[0]), text(&shared[0])], ["new as ns", "k399 as ns"]);
        begun.elapsed()
    };
    let (values, took) = tokio::join!(crowd, urgent);
    assert!(took < 4 * LATENCY, "{took:?}");
    assert!(begun.elapsed() >= 400 / 8 * LATENCY, "the crowd takes its time");
    assert!(keys.iter().zip(values).all(|(key, value)| value == format!("{key} as ns")));
    assert_eq!(provider.calls().len(), 402);
}

#[tokio::test(start_paused = true)]
async fn a_call_has_time_for_the_tries_that_the_store_asks_for() {
    for (settings, seconds) in [
        (json!({ "maxRetries": 5, "retryInterval": "10s" }), 30 + 50),
        (json!({ "maxRetries": 500, "retryInterval": "10s" }), 30 + 120),
        (json!(null), 30),
    ] {
        let provider = Provider::new(1);
        let (fetcher, mut store) = (fetcher(&provider), store("s"));
        store.spec.retry_settings = serde_json::from_value(settings).unwrap();
        provider.hangs.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        assert_eq!(kind(&read(&fetcher, &store, &["a"], aged(10)).await[0]), ErrorKind::Unavailable);
        assert_eq!(begun.elapsed().as_secs(), seconds);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_denied_or_missing_in_a_batch_fails_alone() {
    let provider = Provider::new(20);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    provider.fault("denied", Some(ErrorKind::Denied));
    provider.fault("missing", Some(ErrorKind::NotFound));
    let reads = read(&fetcher, &store, &["a", "denied", "b", "missing"], aged(10)).await;
    assert_eq!((text(&reads[0]).as_str(), text(&reads[2]).as_str()), ("a as ns", "b as ns"));
    assert_eq!((kind(&reads[1]), kind(&reads[3])), (ErrorKind::Denied, ErrorKind::NotFound));
    assert_eq!(provider.calls().len(), 1);
    assert_eq!(text(&read(&fetcher, &store, &["c"], aged(10)).await[0]), "c as ns", "the gate is open");
}

#[tokio::test(start_paused = true)]
async fn absence_is_kept_and_read_again_by_who_insists() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    provider.fault("a", Some(ErrorKind::NotFound));
    for _ in 0..3 {
        assert_eq!(kind(&read(&fetcher, &store, &["a"], aged(10)).await[0]), ErrorKind::NotFound);
    }
    assert_eq!(provider.calls().len(), 1);
    provider.fault("a", None);
    let insists = Freshness { not_before: Some(Instant::now()), ..aged(10) };
    assert_eq!(text(&read(&fetcher, &store, &["a"], insists).await[0]), "a as ns");
    assert_eq!(text(&read(&fetcher, &store, &["a"], aged(10)).await[0]), "a as ns");
    assert_eq!(provider.calls().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failed_login_is_told_to_all_who_wait_and_tried_again_when_the_gate_opens() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    *provider.login_fault.lock().unwrap() = Some(ErrorKind::Unavailable);
    let reads = join_all((0..100).map(|i| {
        let (fetcher, store) = (&fetcher, &store);
        async move { read(fetcher, store, &[&i.to_string()], aged(10)).await }
    }))
    .await;
    assert!(reads.iter().all(|reads| kind(&reads[0]) == ErrorKind::Unavailable));
    assert_eq!(provider.logins().len(), 1);
    *provider.login_fault.lock().unwrap() = None;
    assert_eq!(kind(&read(&fetcher, &store, &["a"], aged(10)).await[0]), ErrorKind::Unavailable);
    assert_eq!(provider.logins().len(), 1, "not before the gate opens");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(text(&read(&fetcher, &store, &["a"], aged(10)).await[0]), "a as ns");
    assert_eq!((provider.logins().len(), provider.calls().len()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_changed_store_or_credential_logs_in_anew_and_forgets_the_values() {
    let provider = Provider::new(1);
    let (fetcher, mut store) = (fetcher(&provider), store("s"));
    let read = async |store: &AnyStore, credentials| {
        fetcher.read(store, credentials, "ns", &[get("a")], aged(3600), "test").await;
        (provider.logins().len(), provider.calls().len())
    };
    assert_eq!(read(&store, 0).await, (1, 1));
    assert_eq!(read(&store, 0).await, (1, 1));
    assert_eq!(read(&store, 1).await, (2, 2), "new credentials");
    store.metadata.generation = Some(2);
    assert_eq!(read(&store, 1).await, (3, 3), "a new spec");
    store.metadata.uid = Some("another".into());
    assert_eq!(read(&store, 1).await, (4, 4), "another store of that name");
    fetcher.forget(&StoreId::of(&store));
    assert_eq!(read(&store, 1).await, (5, 5), "forgotten");
}

/// Else the values of one tenant could be read by another.
#[tokio::test(start_paused = true)]
async fn a_store_that_logs_in_as_its_consumer_shares_nothing_between_namespaces() {
    let provider = Provider::new(20);
    let fetcher = fetcher(&provider);
    let jwt = |reference: Value| {
        let auth = json!({ "jwt": { "serviceAccountRef": reference } });
        cluster_store(&json!({ "aws": { "service": "SecretsManager", "region": "eu-west-1", "auth": auth } }))
    };
    let read = async |store: &AnyStore, consumer: &str| {
        let reads = fetcher.read(store, 0, consumer, &[get("a")], aged(3600), "test").await.reads;
        text(&reads[0])
    };
    let referent = jwt(json!({ "name": "sa" }));
    let (red, blue) = tokio::join!(read(&referent, "red"), read(&referent, "blue"));
    assert_eq!((red.as_str(), blue.as_str()), ("a as red", "a as blue"));
    assert_eq!(read(&referent, "red").await, "a as red");
    assert_eq!((provider.logins().len(), provider.calls().len()), (2, 2));

    let fixed = jwt(json!({ "name": "sa", "namespace": "infra" }));
    let mut fixed = fixed;
    fixed.metadata.name = Some("fixed".into());
    assert_eq!((read(&fixed, "red").await, read(&fixed, "blue").await), ("a as ".into(), "a as ".into()));
    assert_eq!((provider.logins().len(), provider.calls().len()), (3, 3), "one login, whoever asks");
}

#[tokio::test(start_paused = true)]
async fn a_bug_in_a_provider_fails_its_readers_and_nothing_after_them() {
    let provider = Provider::new(1);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    provider.panics.store(true, Ordering::Relaxed);
    assert_eq!(kind(&read(&fetcher, &store, &["a"], aged(10)).await[0]), ErrorKind::Unavailable);
    provider.panics.store(false, Ordering::Relaxed);
    assert_eq!(text(&read(&fetcher, &store, &["a"], aged(10)).await[0]), "a as ns");
}

/// Reads as an ExternalSecret does: due a little before its interval has passed since the value was read.
#[tokio::test(start_paused = true)]
async fn at_the_end_each_session_is_closed_once() {
    let provider = Provider::new(1);
    let fetcher = fetcher(&provider);
    for name in ["a", "b"] {
        read(&fetcher, &store(name), &["k"], aged(10)).await;
    }
    fetcher.close().await;
    fetcher.close().await;
    assert_eq!(provider.closed.load(Ordering::Relaxed), 2);
}

async fn keep_fresh(fetcher: &Fetcher, store: &AnyStore, key: String, delay: Duration, interval: Duration, end: Instant) {
    let period = refresh::period(jiff::SignedDuration::try_from(interval).unwrap(), &key).unsigned_abs();
    let again = Some(interval);
    let mut freshness = Freshness { again, ..aged(10) };
    sleep(delay).await;
    while Instant::now() < end {
        let read = &read(fetcher, store, &[&key], freshness).await[0];
        assert!(read.sent.elapsed() <= interval, "the promise");
        freshness = Freshness { max_age: interval / 2, again, ..aged(10) };
        tokio::time::sleep_until(read.sent + period).await;
        assert!(read.sent.elapsed() <= interval + LATENCY, "the promise is kept until the next read");
    }
}

/// Provider calls in each interval, for readers of `keys` keys that begin spread over `spread`.
async fn calls_per_interval(keys: u32, spread: Duration, intervals: u32) -> Vec<usize> {
    let interval = Duration::from_secs(60);
    let provider = Provider::new(20);
    let (fetcher, store, start) = (fetcher(&provider), store("s"), Instant::now());
    let readers = (0..keys).map(|i| {
        let delay = spread * i / keys;
        keep_fresh(&fetcher, &store, format!("key-{i}"), delay, interval, start + interval * intervals)
    });
    join_all(readers).await;
    let nth = |call: &Call| usize::try_from((call.at - start).as_secs() / interval.as_secs()).unwrap();
    let mut counts = vec![0; intervals as usize];
    for call in provider.calls() {
        if let Some(count) = counts.get_mut(nth(&call)) {
            *count += 1;
        }
    }
    counts
}

#[tokio::test(start_paused = true)]
async fn keys_that_begin_together_stay_in_batches() {
    let counts = calls_per_interval(50, Duration::ZERO, 10).await;
    // reads come up to a tenth of the interval early, so that now and then two rounds fall into one interval
    assert!(counts.iter().sum::<usize>() <= 4 * counts.len() && counts.iter().all(|n| *n <= 6), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn keys_that_begin_spread_find_together() {
    let counts = calls_per_interval(50, Duration::from_secs(60), 20).await;
    assert!(counts[10..].iter().all(|n| *n <= 8), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn early_reads_that_fail_disturb_nobody() {
    let provider = Provider::new(20);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    let minute = Duration::from_secs(60);
    let reader = Freshness { again: Some(minute), ..aged(30) };
    read(&fetcher, &store, &["a", "b"], reader).await;
    sleep(Duration::from_secs(55)).await;
    provider.fault("b", Some(ErrorKind::Denied));
    assert_eq!(text(&read(&fetcher, &store, &["a"], reader).await[0]), "a as ns");
    assert_eq!(provider.calls().last().unwrap().keys, ["a", "b"]);
    assert_eq!(text(&read(&fetcher, &store, &["b"], aged(60)).await[0]), "b as ns", "the good value stays");
}

#[tokio::test(start_paused = true)]
async fn who_waited_for_a_login_that_failed_makes_no_other_one() {
    for kind in [ErrorKind::Denied, ErrorKind::Unavailable] {
        let provider = Provider::new(20);
        let (fetcher, store) = (fetcher(&provider), store("s"));
        *provider.login_fault.lock().unwrap() = Some(kind);
        let outlets = join_all((0..20).map(|_| fetcher.outlet(&store, 0, "ns", "push"))).await;
        assert!(outlets.iter().all(|outlet| outlet.as_ref().is_err_and(|error| error.kind == kind)), "{kind:?}");
        assert_eq!(provider.logins().len(), 1, "{kind:?}");
        sleep(Duration::from_secs(20)).await;
        *provider.login_fault.lock().unwrap() = None;
        assert!(fetcher.outlet(&store, 0, "ns", "push").await.is_ok(), "{kind:?}: who comes later tries again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_is_gone_is_forgotten() {
    let provider = Provider::new(20);
    let fetcher = fetcher(&provider);
    // a reference without a namespace
    let own = json!({"kubernetes": {"auth": {"serviceAccount": {"name": "app"}}}});
    let store = cluster_store(&own);
    for namespace in ["a", "b", "a"] {
        assert!(fetcher.outlet(&store, 0, namespace, "push").await.is_ok());
    }
    assert_eq!(provider.logins(), ["a", "b"]);
    fetcher.forget_consumer("a");
    for namespace in ["a", "b"] {
        assert!(fetcher.outlet(&store, 0, namespace, "push").await.is_ok());
    }
    assert_eq!(provider.logins(), ["a", "b", "a"]);
}

/// Only the provider's silence leaves it open, or an answer without sense: what did not go out is nowhere, and what was refused neither.
#[tokio::test(start_paused = true)]
async fn a_write_without_an_answer_may_be_in_its_place() {
    let provider = Provider::new(20);
    let (fetcher, store) = (fetcher(&provider), store("s"));
    let outlet = fetcher.outlet(&store, 0, "ns", "push").await.unwrap();
    let push = Push { place: Place { key: "a".into(), ..Place::default() }, ..Push::default() };
    assert_eq!(write(&outlet, &push).await.unwrap(), Pushed::Written);
    for (kind, perhaps) in [(ErrorKind::Denied, false), (ErrorKind::Malformed, true), (ErrorKind::Unavailable, true)] {
        provider.fault("a", Some(kind));
        let failed = write(&outlet, &push).await.unwrap_err();
        assert_eq!((failed.error.kind, failed.perhaps), (kind, perhaps));
    }
    let held_back = outlet.writing(&push.place).await.err().unwrap();
    assert_eq!(held_back.kind, ErrorKind::Unavailable, "nothing went out");
}
