//! The work queue: which object is looked at next. Never synced before edited, before forced, before periodic, so that the
//! periodic crowd cannot hold up a new object.
//!
//! kube-runtime's scheduler has no priorities, which is why this exists. An object is in the queue at most once and is never
//! handed out twice at a time; a wake-up while it is being worked on is remembered.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// What brings an object into the queue; the smaller comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// It was never synced.
    New,
    /// Its spec or metadata changed, or something it depends on was repaired.
    Changed,
    /// A user asks for a refresh.
    Forced,
    /// Its time has come.
    Periodic,
}

impl Priority {
    /// Metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::Forced => "forced",
            Self::Periodic => "periodic",
        }
    }
}

/// An object that is handed out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job<K> {
    /// Which object.
    pub key: K,
    /// Why it is handed out.
    pub priority: Priority,
    /// How long it waited since it was ready.
    pub waited: Duration,
}

/// Where an object stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// To be handed out now.
    Ready { priority: Priority, sequence: u64, since: Instant },
    /// To be handed out later.
    Delayed { at: Instant, sequence: u64, priority: Priority },
    /// Handed out; `again` holds a wake-up that came meanwhile.
    Running { again: Option<Priority> },
}

struct Inner<K> {
    places: HashMap<K, Place>,
    ready: BTreeMap<(Priority, u64), K>,
    delayed: BTreeMap<(Instant, u64), K>,
    sequence: u64,
    /// Whether an object was ever handed out.
    worked: bool,
}

/// A priority queue of objects with delays.
pub struct Queue<K> {
    inner: Mutex<Inner<K>>,
    changed: Notify,
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        let inner =
            Inner { places: HashMap::new(), ready: BTreeMap::new(), delayed: BTreeMap::new(), sequence: 0, worked: false };
        Self { inner: Mutex::new(inner), changed: Notify::new() }
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    /// Puts an object in line now. One that waits already keeps its place, or moves to the better line.
    pub fn wake(&self, key: K, priority: Priority) {
        let mut inner = self.lock();
        inner.wake(key, priority, Instant::now());
        drop(inner);
        self.changed.notify_waiters();
    }

    /// An object is gone. Who works on objects cleans up after it; where nobody has begun yet, as in a process that stands by, it leaves
    /// the line, which would grow without end.
    pub fn gone(&self, key: K, priority: Priority) {
        let mut inner = self.lock();
        if inner.worked {
            inner.wake(key, priority, Instant::now());
        } else {
            inner.leave(&key);
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// Says that the work on an object is over, and when it is to come again.
    pub fn done(&self, key: &K, next: Option<(Instant, Priority)>) {
        let mut inner = self.lock();
        let Some(Place::Running { again }) = inner.places.get(key).copied() else { return };
        inner.places.remove(key);
        match (again, next) {
            (Some(priority), _) => inner.wake(key.clone(), priority, Instant::now()),
            (None, Some((at, priority))) => inner.delay(key.clone(), at, priority),
            (None, None) => {}
        }
        drop(inner);
        self.changed.notify_waiters();
    }

    /// The next object of a priority no worse than `worst`; waits until there is one.
    pub async fn next(&self, worst: Priority) -> Job<K> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // registered before the look, so that nothing that comes in between is missed
            changed.as_mut().enable();
            let due = {
                let mut inner = self.lock();
                let now = Instant::now();
                inner.promote(now);
                if let Some(job) = inner.take(worst, now) {
                    return job;
                }
                inner.delayed.keys().next().map(|(at, _)| *at)
            };
            match due {
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                None => changed.await,
            }
        }
    }

    /// How many objects are ready, and how many wait for their time.
    #[must_use]
    pub fn depth(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.ready.len(), inner.delayed.len())
    }

    /// How many of the ready objects are such.
    #[must_use]
    pub fn ready(&self, such: impl Fn(&K) -> bool) -> usize {
        self.lock().ready.values().filter(|key| such(key)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        // a panic while the lock was held cannot leave the maps half changed in a way that matters: go on
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Inner<K> {
    fn wake(&mut self, key: K, priority: Priority, now: Instant) {
        match self.places.get_mut(&key) {
            Some(Place::Running { again }) => *again = Some(again.map_or(priority, |old| old.min(priority))),
            Some(Place::Ready { priority: old, .. }) if *old <= priority => {}
            Some(Place::Ready { priority: old, sequence, since }) => {
                let (slot, since) = ((*old, *sequence), *since);
                self.ready.remove(&slot);
                self.line_up(key, priority, since);
            }
            Some(Place::Delayed { at, sequence, .. }) => {
                let slot = (*at, *sequence);
                self.delayed.remove(&slot);
                self.line_up(key, priority, now);
            }
            None => self.line_up(key, priority, now),
        }
    }

    /// Takes an object out of line that was never handed out.
    fn leave(&mut self, key: &K) {
        if let Some(Place::Ready { priority, sequence, .. }) = self.places.remove(key) {
            self.ready.remove(&(priority, sequence));
        }
    }

    fn line_up(&mut self, key: K, priority: Priority, since: Instant) {
        let sequence = self.next_sequence();
        self.ready.insert((priority, sequence), key.clone());
        self.places.insert(key, Place::Ready { priority, sequence, since });
    }

    fn delay(&mut self, key: K, at: Instant, priority: Priority) {
        let sequence = self.next_sequence();
        self.delayed.insert((at, sequence), key.clone());
        self.places.insert(key, Place::Delayed { at, sequence, priority });
    }

    /// Moves what has come due into line.
    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            let at = entry.key().0;
            if at > now {
                return;
            }
            let key = entry.remove();
            let priority = match self.places.get(&key) {
                Some(Place::Delayed { priority, .. }) => *priority,
                _ => Priority::Periodic,
            };
            self.line_up(key, priority, at);
        }
    }

    fn take(&mut self, worst: Priority, now: Instant) -> Option<Job<K>> {
        let entry = self.ready.first_entry()?;
        let priority = entry.key().0;
        if priority > worst {
            return None;
        }
        let key = entry.remove();
        self.worked = true;
        let since = match self.places.insert(key.clone(), Place::Running { again: None }) {
            Some(Place::Ready { since, .. }) => since,
            _ => now,
        };
        Some(Job { key, priority, waited: now.saturating_duration_since(since) })
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    async fn next(queue: &Queue<&'static str>) -> (&'static str, Priority) {
        let job = tokio::time::timeout(Duration::from_secs(3600), queue.next(Priority::Periodic)).await.unwrap();
        (job.key, job.priority)
    }

    #[tokio::test(start_paused = true)]
    async fn better_lines_come_first_and_each_line_in_order() {
        let queue = Queue::default();
        queue.wake("p1", Priority::Periodic);
        queue.wake("p2", Priority::Periodic);
        queue.wake("forced", Priority::Forced);
        queue.wake("new", Priority::New);
        queue.wake("p2", Priority::Changed);
        let mut order = Vec::new();
        for _ in 0..4 {
            order.push(next(&queue).await.0);
        }
        assert_eq!(order, ["new", "p2", "forced", "p1"]);
    }

    /// Hands an object out once, so that it is to come again after that time.
    async fn delay(queue: &Queue<&'static str>, key: &'static str, seconds: u64) {
        queue.wake(key, Priority::New);
        assert_eq!(next(queue).await.0, key);
        queue.done(&key, Some((Instant::now() + Duration::from_secs(seconds), Priority::Periodic)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_object_comes_when_its_time_has_come() {
        let queue = Queue::default();
        let start = Instant::now();
        delay(&queue, "later", 60).await;
        assert_eq!(next(&queue).await, ("later", Priority::Periodic));
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_is_never_handed_out_twice_at_a_time() {
        let queue = Queue::default();
        queue.wake("a", Priority::Periodic);
        next(&queue).await;
        queue.wake("a", Priority::Changed);
        queue.wake("a", Priority::Periodic);
        let early = tokio::time::timeout(Duration::from_secs(5), queue.next(Priority::Periodic)).await;
        assert!(early.is_err());
        queue.done(&"a", Some((Instant::now() + Duration::from_secs(60), Priority::Periodic)));
        assert_eq!(next(&queue).await, ("a", Priority::Changed));
        queue.done(&"a", None);
        assert_eq!(queue.depth(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_for_urgent_work_leaves_periodic_work_alone() {
        let queue = Queue::default();
        queue.wake("p", Priority::Periodic);
        assert!(tokio::time::timeout(Duration::from_secs(5), queue.next(Priority::Forced)).await.is_err());
        queue.wake("n", Priority::New);
        let job = tokio::time::timeout(Duration::from_secs(5), queue.next(Priority::Forced)).await.unwrap();
        assert_eq!(job.key, "n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_gone_waits_in_line_only_where_somebody_works() {
        let queue = Queue::default();
        queue.wake("a", Priority::New);
        queue.wake("b", Priority::Changed);
        queue.gone("a", Priority::Periodic);
        queue.gone("never seen", Priority::Periodic);
        assert_eq!(queue.depth(), (1, 0));
        assert_eq!(next(&queue).await, ("b", Priority::Changed));
        queue.gone("c", Priority::Periodic);
        assert_eq!(next(&queue).await, ("c", Priority::Periodic), "there may be something to clean up");
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_time_counts_from_when_it_was_due() {
        let queue = Queue::default();
        delay(&queue, "a", 10).await;
        tokio::time::advance(Duration::from_secs(25)).await;
        assert_eq!(queue.next(Priority::Periodic).await.waited.as_secs(), 15);
    }

    /// What may happen to a queue.
    #[derive(Clone, Debug)]
    enum Act {
        Wake(u8, Priority),
        Take(Priority),
        Done(u8, Option<u64>),
        Pass(u64),
    }

    fn an_act() -> impl Strategy<Value = Act> {
        let key = 0_u8..6;
        let priority = || prop::sample::select(vec![Priority::New, Priority::Changed, Priority::Forced, Priority::Periodic]);
        prop_oneof![
            (key.clone(), priority()).prop_map(|(key, priority)| Act::Wake(key, priority)),
            priority().prop_map(Act::Take),
            (key, prop::option::of(0_u64..100)).prop_map(|(key, after)| Act::Done(key, after)),
            (1_u64..50).prop_map(Act::Pass),
        ]
    }

    /// Where an object should stand.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Should {
        Wait(Priority),
        Sleep(Instant),
        Run(Option<Priority>),
    }

    proptest! {
        /// Against a plain model: nothing is lost, nothing is handed out twice, and the best line always goes first.
        #[test]
        fn nothing_is_lost_or_handed_out_twice(acts in prop::collection::vec(an_act(), 1..120)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async move {
                let queue = Queue::default();
                let mut model: HashMap<u8, Should> = HashMap::new();
                for act in acts {
                    let now = Instant::now();
                    for should in model.values_mut() {
                        if matches!(should, Should::Sleep(at) if *at <= now) {
                            *should = Should::Wait(Priority::Periodic);
                        }
                    }
                    match act {
                        Act::Pass(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
                        Act::Wake(key, priority) => {
                            queue.wake(key, priority);
                            let should = model.entry(key).or_insert(Should::Wait(priority));
                            *should = match *should {
                                Should::Wait(old) => Should::Wait(old.min(priority)),
                                Should::Sleep(_) => Should::Wait(priority),
                                Should::Run(again) => Should::Run(Some(again.map_or(priority, |old| old.min(priority)))),
                            };
                        }
                        Act::Done(key, after) => {
                            let next = after.map(|seconds| (now + Duration::from_secs(seconds), Priority::Periodic));
                            queue.done(&key, next);
                            if let Some(Should::Run(again)) = model.get(&key).copied() {
                                match (again, next) {
                                    (Some(priority), _) => drop(model.insert(key, Should::Wait(priority))),
                                    (None, Some((at, _))) => drop(model.insert(key, Should::Sleep(at))),
                                    (None, None) => drop(model.remove(&key)),
                                }
                            }
                        }
                        Act::Take(worst) => {
                            let waiting = model.values().filter_map(|s| match s {
                                Should::Wait(priority) if *priority <= worst => Some(*priority),
                                _ => None,
                            });
                            let best = waiting.min();
                            let taken = queue.next(worst).now_or_never();
                            prop_assert_eq!(taken.as_ref().map(|job| job.priority), best);
                            if let Some(job) = taken {
                                prop_assert_eq!(model.insert(job.key, Should::Run(None)), best.map(Should::Wait));
                            }
                        }
                    }
                    let count = |is: fn(&Should) -> bool| model.values().filter(|s| is(s)).count();
                    let waiting = count(|s| matches!(s, Should::Wait(_) | Should::Sleep(_)));
                    let (ready, delayed) = queue.depth();
                    prop_assert_eq!(ready + delayed, waiting);
                }
                Ok(())
            })?;
        }
    }
}
