//! One store as one consumer uses it: its session, its values, and the line of reads that wait for a call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::cache::{Cache, Found, Sender, Waiter};
use super::gate::Gate;
use super::handles::{Common, IsDeleted};
use super::outlet::Writes;
use super::{Answer, CallReport, Freshness, Invalid, Limits, Login, Observer, Read, Request, within};
use crate::index::{Key, StoreId};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, ProviderError, ProviderSpec, ReferenceKind, RequestLog, Session, Validation, Want, retries,
};
use crate::queue::Priority;

/// How long a read waits for others that could share its batch. Far below what a call takes.
const LINGER: Duration = Duration::from_millis(2);

/// A read that waits for a call.
struct Waiting {
    request: Request,
    sender: Sender,
    waiter: Waiter,
    cause: Arc<str>,
}

/// Reads that wait, the most urgent first, and else those that came first.
#[derive(Default)]
struct Line {
    waiting: BTreeMap<(Priority, u64), Waiting>,
    came: u64,
    /// Whether somebody is on the way to take the line.
    collected: bool,
}

impl Line {
    fn add(&mut self, priority: Priority, one: Waiting) {
        self.came += 1;
        self.waiting.insert((priority, self.came), one);
    }

    /// Somebody else waits for a read, too, and may be more urgent.
    fn hurry(&mut self, waiter: &Waiter, priority: Priority) {
        let mut behind = self.waiting.range((priority, u64::MAX)..);
        let place = behind.find(|(_, one)| one.waiter.same_channel(waiter)).map(|(place, _)| *place);
        if let Some(one) = place.and_then(|place| self.waiting.remove(&place)) {
            self.add(priority, one);
        }
    }

    /// Who is first; where nobody is, the next one finds a new collector.
    fn first(&mut self) -> Option<String> {
        let first = self.waiting.first_key_value().map(|(_, one)| one.cause.to_string());
        self.collected = first.is_some();
        first
    }

    /// The reads of the next call: values together, a search by itself.
    fn take(&mut self, batch_size: usize) -> Vec<Waiting> {
        let Some((_, first)) = self.waiting.pop_first() else { return Vec::new() };
        if !first.is_value() {
            return vec![first];
        }
        let values = self.waiting.iter().filter(|(_, one)| one.is_value()).map(|(place, _)| *place);
        let places: Vec<_> = values.take(batch_size.saturating_sub(1)).collect();
        let others = places.iter().filter_map(|place| self.waiting.remove(place));
        std::iter::once(first).chain(others).collect()
    }
}

impl Waiting {
    fn is_value(&self) -> bool {
        matches!(self.request, Request::Get(_))
    }
}

/// Should a bug in a provider's login end the collector, the next read finds a new one, and those in line do not wait for ever.
struct Collecting<'a>(&'a Mutex<Line>);

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut line = lock(self.0);
            line.collected = false;
            line.waiting.clear();
        }
    }
}

/// Let in by the gate. Who finds out whether a store is back makes room for the next one when it ends, however it does.
struct Pass<'a>(Option<&'a Mutex<Gate>>);

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.0 {
            lock(gate).leave();
        }
    }
}

/// The turn of a key that is written to, and a call to do it by.
pub(super) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    _key: tokio::sync::MutexGuard<'a, ()>,
    _pass: Pass<'a>,
}

/// A store as one consumer uses it.
pub struct Handle {
    id: StoreId,
    provider: ProviderSpec,
    login: Arc<dyn Login>,
    cx: ConnectCx,
    limits: Limits,
    observer: Arc<dyn Observer>,
    is_deleted: IsDeleted,
    session: OnceCell<Arc<dyn Session>>,
    /// How the last login failed, and when.
    login_failed: Mutex<Option<(Instant, ProviderError)>>,
    cache: Mutex<Cache>,
    gate: Mutex<Gate>,
    line: Mutex<Line>,
    calls: Arc<Semaphore>,
    writes: Writes,
}

impl Handle {
    /// Whether the login is, or will be, one with this version of an object.
    pub(super) fn is_login_of(&self, kind: ReferenceKind, key: &Key, version: &str) -> bool {
        self.cx.used.is_of(kind, &key.namespace, &key.name, version)
    }

    pub(super) fn new(
        id: StoreId,
        provider: ProviderSpec,
        login: Arc<dyn Login>,
        cx: ConnectCx,
        mut limits: Limits,
        observer: Arc<dyn Observer>,
        common: Common,
    ) -> Self {
        let share = common.budget.share(&cx.namespace);
        // else it would end a call before the time or the tries that the store asks for, and hide what they came to
        let asked = provider.served().and_then(|provider| provider.timeout()).unwrap_or_default();
        limits.call_timeout = limits.call_timeout.max(asked) + retries::pauses(cx.retry.as_ref());
        Self {
            id,
            provider,
            login,
            cx,
            session: OnceCell::new(),
            login_failed: Mutex::default(),
            cache: Mutex::new(Cache::new(share, limits.cache_entries)),
            gate: Mutex::new(Gate::default()),
            line: Mutex::new(Line::default()),
            calls: Arc::new(Semaphore::new(limits.calls_in_flight)),
            limits,
            observer,
            is_deleted: common.is_deleted,
            writes: Writes::default(),
        }
    }

    /// Logs in.
    pub(super) async fn log_in(&self, cause: &str) -> Result<Arc<dyn Session>, ProviderError> {
        if let Some(session) = self.session_if_connected() {
            return Ok(session);
        }
        let _pass = self.enter()?;
        self.session(&call(cause.to_owned())).await
    }

    /// Waits for the turn of a key, and gives what a call needs.
    pub(super) async fn turn(&self, key: &str, cause: &str) -> Result<(Turn<'_>, CallCx), ProviderError> {
        let pass = self.enter()?;
        let Some(writers) = self.writes.of(key) else {
            return Err(ProviderError::new(ErrorKind::Unavailable, "no turn for a write"));
        };
        // before a call: who waits for a key holds up no reads, and who has a call waits for no key
        let key = writers.lock().await;
        let Ok(permit) = self.calls.acquire().await else { return Err(closed()) };
        // the gate may have closed meanwhile
        lock(&self.gate).check(Instant::now())?;
        Ok((Turn { _permit: permit, _key: key, _pass: pass }, call(cause.to_owned())))
    }

    /// Asks the gate, before a place is taken in any line.
    fn enter(&self) -> Result<Pass<'_>, ProviderError> {
        let probes = lock(&self.gate).enter(Instant::now())?;
        Ok(Pass(probes.then_some(&self.gate)))
    }

    /// One call that is not a read, in its [`Turn`]: in time, told, and heeded by the gate.
    pub(super) async fn one<T>(
        &self,
        call: &'static str,
        cx: &CallCx,
        future: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let sent = Instant::now();
        let result = self.reported(call, 1, cx, within(self.limits.call_timeout, "write", future)).await;
        lock(&self.gate).record(result.as_ref().err().filter(|e| e.kind.is_store_wide()), sent, Instant::now());
        result
    }

    /// A key was written to: what is kept of it is old.
    pub(super) fn forget(&self, key: &str) {
        lock(&self.cache).forget(key);
    }

    /// Reads, from the cache or by a call: one read for each request, in order.
    pub(super) async fn read(self: Arc<Self>, requests: &[Request], freshness: Freshness, cause: &str) -> Vec<Read> {
        let cause: Arc<str> = cause.into();
        let found: Vec<_> = {
            let mut cache = lock(&self.cache);
            let now = Instant::now();
            requests.iter().map(|request| cache.look_up(request, freshness, now)).collect()
        };
        let mut reads = Vec::with_capacity(requests.len());
        let (mut calls, mut shared) = (Vec::new(), Vec::new());
        let mut waits = Vec::with_capacity(requests.len());
        for (request, (found, lookup)) in requests.iter().zip(found) {
            self.observer.lookup(lookup);
            waits.push(match found {
                Found::Here(read) => Ok(read),
                Found::Wait(waiter) => {
                    shared.push(waiter.clone());
                    Err(waiter)
                }
                Found::Call(sender, waiter) => {
                    let (request, waiter2, cause) = (request.clone(), waiter.clone(), cause.clone());
                    calls.push(Waiting { request, sender, waiter: waiter2, cause });
                    Err(waiter)
                }
            });
        }
        let pass = if waits.iter().all(Result::is_ok) { Ok(Pass(None)) } else { self.enter() };
        match &pass {
            Ok(_) => self.line_up(calls, &shared, freshness.priority),
            Err(error) => self.refuse(calls, error),
        }
        for wait in waits {
            reads.push(match (wait, &pass) {
                (Ok(read), _) => read,
                (Err(_), Err(error)) => failed(error.clone()),
                (Err(mut waiter), Ok(_)) => match waiter.wait_for(Option::is_some).await {
                    Ok(read) => read.clone().unwrap_or_else(lost),
                    Err(_) => lost(),
                },
            });
        }
        reads
    }

    /// Logs in, and checks the login.
    pub(super) async fn validate(&self) -> Result<Validation, Invalid> {
        let cx = call(self.id.to_string());
        let session = self.session(&cx).await.map_err(Invalid::Connect)?;
        let check = within(self.limits.call_timeout, "check of the login", session.validate(&cx));
        self.reported("Validate", 0, &cx, check).await.map_err(Invalid::Validate)
    }

    /// The session, if there is one.
    pub(super) fn session_if_connected(&self) -> Option<Arc<dyn Session>> {
        self.session.get().cloned()
    }

    /// When the oldest value that somebody comes back for was read.
    pub(super) fn oldest(&self, now: Instant) -> Option<Instant> {
        let mut cache = lock(&self.cache);
        cache.let_go(now);
        cache.oldest(now)
    }

    /// Lets go of values that nobody comes back for.
    pub(super) fn let_go(&self) {
        lock(&self.cache).let_go(Instant::now());
    }

    /// Puts reads in line; the first one sees to it that the line is taken shortly. Those that others asked for already are as
    /// urgent as the most urgent of their readers.
    fn line_up(self: &Arc<Self>, calls: Vec<Waiting>, shared: &[Waiter], priority: Priority) {
        let collect = {
            let mut line = lock(&self.line);
            for waiter in shared {
                line.hurry(waiter, priority);
            }
            if calls.is_empty() {
                return;
            }
            for one in calls {
                line.add(priority, one);
            }
            !std::mem::replace(&mut line.collected, true)
        };
        if collect {
            let this = self.clone();
            tokio::spawn(async move { this.collect().await });
        }
    }

    /// Takes the line, batch by batch, as calls become free.
    async fn collect(self: Arc<Self>) {
        let _collecting = Collecting(&self.line);
        tokio::time::sleep(LINGER).await;
        loop {
            // while all calls are under way the line grows, and the batches with it
            let Ok(permit) = self.calls.clone().acquire_owned().await else { return };
            let Some(cause) = lock(&self.line).first() else { return };
            let cx = call(cause);
            match self.session(&cx).await {
                Ok(session) => {
                    let batch = lock(&self.line).take(session.batch_size());
                    let this = self.clone();
                    tokio::spawn(async move {
                        this.call(session.as_ref(), batch).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    let waiting = std::mem::take(&mut lock(&self.line).waiting);
                    self.refuse(waiting.into_values(), &error);
                }
            }
        }
    }

    /// Nothing goes out for these reads.
    fn refuse(&self, waiting: impl IntoIterator<Item = Waiting>, error: &ProviderError) {
        let now = Instant::now();
        for one in waiting {
            self.settle(one, Err(error.clone()), now);
        }
    }

    /// One call, and what comes of it to everybody who waits for it. A batch with room left is filled up.
    async fn call(&self, session: &dyn Session, mut batch: Vec<Waiting>) {
        let sent = Instant::now();
        let open = lock(&self.gate).check(sent);
        if let Err(closed) = open {
            self.refuse(batch, &closed);
            return;
        }
        let cx = call(batch.first().map(|w| w.cause.to_string()).unwrap_or_default());
        let mut answers = match batch.first().map(|w| &w.request) {
            Some(Request::Find(query)) => {
                let find = within(self.limits.call_timeout, "search", session.find(query, &cx));
                let found = self.reported("Find", 1, &cx, find).await;
                vec![found.map(|found| Answer::Found(Arc::new(found)))]
            }
            _ => {
                batch.extend(self.fillers(session.batch_size().saturating_sub(batch.len()), sent));
                self.get(session, &batch, &cx).await
            }
        };
        let worst = answers.iter().filter_map(|a| a.as_ref().err()).find(|e| e.kind.is_store_wide());
        let closed = {
            let (mut gate, now) = (lock(&self.gate), Instant::now());
            gate.record(worst, sent, now);
            gate.check(now).err()
        };
        // Who failed with the store comes again when the store does: after all who were held back, who come up to a fifth later than
        // the gate opens (`plan::backoff`). One of them finds out next, so that what alone fails again and again starves nobody.
        // All say the same meanwhile, whoever finds out: what changes with each try would be news with each try.
        for error in answers.iter_mut().filter_map(|a| a.as_mut().err()).filter(|e| e.kind.is_store_wide()) {
            if let Some(closed) = &closed {
                let retry_after = closed.retry_after.map(|held| held + held / 4).or(error.retry_after);
                *error = ProviderError { kind: error.kind, retry_after, ..closed.clone() };
            }
        }
        let mut answers = answers.into_iter();
        for one in batch {
            let answer = answers.next().unwrap_or_else(|| {
                Err(ProviderError::new(ErrorKind::Malformed, "the provider answered for fewer secrets than were asked for"))
            });
            self.settle(one, answer, sent);
        }
    }

    /// Reads that can go out early at no cost, with a batch that has room left. Nobody waits for them yet.
    fn fillers(&self, room: usize, now: Instant) -> impl Iterator<Item = Waiting> {
        let fillers = lock(&self.cache).fillers(now, room).into_iter();
        fillers.map(|(request, sender, waiter)| Waiting { request, sender, waiter, cause: "".into() })
    }

    async fn get(&self, session: &dyn Session, batch: &[Waiting], cx: &CallCx) -> Vec<Result<Answer, ProviderError>> {
        let wants: Vec<Want> = batch
            .iter()
            .filter_map(|w| match &w.request {
                Request::Get(want) => Some(want.clone()),
                Request::Find(_) => None,
            })
            .collect();
        let call = if wants.len() > 1 { "BatchGet" } else { "Get" };
        let begun = Instant::now();
        let got = within(self.limits.call_timeout, "read", async { Ok(session.get(&wants, cx).await) }).await;
        let answers: Vec<_> = match got {
            Ok(answers) => answers.into_iter().map(|a| a.map(|f| Answer::Value(Arc::new(f)))).collect(),
            Err(late) => wants.iter().map(|_| Err(late.clone())).collect(),
        };
        let outcome = answers.iter().filter_map(|a| a.as_ref().err()).map(|e| e.kind).max();
        self.report(call, wants.len(), outcome, begun, cx);
        answers
    }

    /// Hands a read to everybody who waits for it, and to the cache.
    fn settle(&self, one: Waiting, answer: Result<Answer, ProviderError>, sent: Instant) {
        let at = Timestamp::now() - jiff::SignedDuration::try_from(sent.elapsed()).unwrap_or_default();
        let holds = match (&one.request, &answer) {
            (Request::Get(want), Ok(_)) => self.session_if_connected().and_then(|session| session.holds_until(want)),
            _ => None,
        };
        let read = Read { answer, at, sent, holds: holds.map(|until| until.saturating_duration_since(sent)) };
        lock(&self.cache).settle(&one.request, &read, &one.waiter);
        one.sender.send_replace(Some(read));
    }

    /// The session; logs in where there is none. Who waited for a login that failed is told so, and makes no other one.
    async fn session(&self, cx: &CallCx) -> Result<Arc<dyn Session>, ProviderError> {
        let asked = Instant::now();
        let connect = || async {
            let since = lock(&self.login_failed).clone().filter(|(at, _)| *at > asked);
            match since {
                Some((_, error)) => Err(error),
                None => self.connect(cx).await,
            }
        };
        self.session.get_or_try_init(connect).await.cloned()
    }

    async fn connect(&self, cx: &CallCx) -> Result<Arc<dyn Session>, ProviderError> {
        let sent = Instant::now();
        lock(&self.gate).check(sent)?;
        let login = within(self.limits.call_timeout, "login", self.login.login(&self.provider, &self.cx));
        let session = self.reported("Connect", 0, cx, login).await;
        let now = Instant::now();
        lock(&self.gate).record(session.as_ref().err(), sent, now);
        if let Err(error) = &session {
            *lock(&self.login_failed) = Some((now, error.clone()));
        }
        session
    }

    async fn reported<T>(
        &self,
        call: &'static str,
        keys: usize,
        cx: &CallCx,
        future: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, ProviderError> {
        let begun = Instant::now();
        let result = future.await;
        self.report(call, keys, result.as_ref().err().map(|e| e.kind), begun, cx);
        result
    }

    fn report(&self, call: &'static str, keys: usize, outcome: Option<ErrorKind>, begun: Instant, cx: &CallCx) {
        let provider = self.provider.served().map_or("", |p| p.metric_name());
        let (took, requests) = (begun.elapsed(), cx.requests.take());
        let (store, deleted) = (&self.id, (self.is_deleted)());
        self.observer.call(&CallReport { store, deleted, provider, call, keys, outcome, took, requests: &requests, cx });
    }
}

fn closed() -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, "the store was logged out of")
}

/// The call went away without an answer, as it does while the process ends, or by a bug in a provider.
fn lost() -> Read {
    failed(ProviderError::new(ErrorKind::Unavailable, "the read was given up before there was an answer"))
}

/// No call went out.
fn failed(error: ProviderError) -> Read {
    Read { answer: Err(error), at: Timestamp::now(), sent: Instant::now(), holds: None }
}

/// A call for that object.
fn call(cause: String) -> CallCx {
    CallCx { cause, correlation: correlation(), requests: RequestLog::default() }
}

/// An id that the provider's audit line and our own record of a call share.
fn correlation() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    static START: std::sync::LazyLock<u128> = std::sync::LazyLock::new(|| {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_micros())
    });
    format!("{:x}-{:x}", *START, NEXT.fetch_add(1, Ordering::Relaxed))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
