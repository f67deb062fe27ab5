//! Values of one store identity, and the calls for them that are under way. Pure: the caller says what time it is.

use std::collections::HashMap;
use std::time::Duration;

use lru::LruCache;
use tokio::sync::watch;
use tokio::time::Instant;

use super::budget::Share;
use super::{Freshness, Lookup, Read, Request};
use crate::api::external_secret::MetadataPolicy;
use crate::providers::ErrorKind;

/// Share of a reader's interval after which its value may be read early, if that costs no call of its own.
const SOON: f64 = 0.8;
/// Longest interval that is reckoned with: as good as for ever, and no clock ends before.
const LONGEST: Duration = Duration::from_secs(3600 * 24 * 365);

/// How long a failure of one request is every reader's: less than the first pause of those whose own it was (`plan::backoff`). Many
/// objects that read one key and come back at times of their own would each have it refused again.
const FAILED: Duration = Duration::from_secs(3);

/// How long a value is still kept after the last of its readers should have come back: they stand in line, too.
const LATE: Duration = Duration::from_secs(60);

/// What a reader gets to wait on: the read, once it is there.
pub type Waiter = watch::Receiver<Option<Read>>;
/// The other end of a [`Waiter`].
pub type Sender = watch::Sender<Option<Read>>;

/// What to do for a request.
pub enum Found {
    /// The read is here.
    Here(Read),
    /// A call is under way: wait for it.
    Wait(Waiter),
    /// A call must go out: send its read here.
    Call(Sender, Waiter),
}

/// A read that is kept.
struct Kept {
    read: Read,
    /// After what time from the read the first of those who used it asks again.
    again: Option<Duration>,
    /// When the last of those who asked for it should have come back.
    wanted: Instant,
}

/// A call that is under way.
struct Flying {
    sent: Instant,
    waiter: Waiter,
    /// As in [`Kept`], for those who wait for it.
    again: Option<Duration>,
    wanted: Instant,
}

/// A bounded cache that also knows the calls under way.
pub struct Cache {
    kept: LruCache<Request, Kept>,
    flying: HashMap<Request, Flying>,
    /// Failures of single requests; what is kept of earlier reads stays, for those to whom it is new enough.
    failed: HashMap<Request, Read>,
    /// When those that are over were last taken out of them.
    swept: Option<Instant>,
    /// When it was last looked for values that nobody comes back for.
    aged: Option<Instant>,
    /// Room for what is kept.
    share: Share,
    most_failed: usize,
}

impl Cache {
    /// A cache that keeps what there is room for in its share, and so many failures. It takes memory as it fills, not before: most stores
    /// hold few values.
    pub fn new(share: Share, most_failed: usize) -> Self {
        let (flying, failed) = Default::default();
        Self { kept: LruCache::unbounded(), flying, failed, swept: None, aged: None, share, most_failed }
    }

    /// Looks a request up.
    pub fn look_up(&mut self, request: &Request, freshness: Freshness, now: Instant) -> (Found, Lookup) {
        let wanted = now + freshness.again.unwrap_or(freshness.max_age).min(LONGEST);
        if let Some(kept) = self.kept.get_mut(request) {
            kept.wanted = kept.wanted.max(wanted);
            if freshness.accepts(&kept.read, now) {
                kept.again = sooner(kept.again, freshness.again);
                return (Found::Here(kept.read.clone()), Lookup::Hit);
            }
        }
        if let Some(failed) = self.failed.get(request)
            && now.saturating_duration_since(failed.sent) < FAILED
            && freshness.accepts(failed, now)
        {
            return (Found::Here(failed.clone()), Lookup::Hit);
        }
        if let Some(flying) = self.flying.get_mut(request)
            && flying.is_under_way()
            && freshness.not_before.is_none_or(|limit| flying.sent >= limit)
        {
            flying.again = sooner(flying.again, freshness.again);
            flying.wanted = flying.wanted.max(wanted);
            return (Found::Wait(flying.waiter.clone()), Lookup::Shared);
        }
        let (sender, waiter) = self.fly(request, now, freshness.again, wanted);
        (Found::Call(sender, waiter), Lookup::Miss)
    }

    /// Values that are about to be asked for again, to fill up a batch that goes out anyway: current ones whose first reader
    /// comes within the last fifth of its interval. The oldest first, and at most `room` of them.
    pub fn fillers(&mut self, now: Instant, room: usize) -> Vec<(Request, Sender, Waiter)> {
        if room == 0 {
            return Vec::new();
        }
        let soon = self.kept.iter().filter(|(request, kept)| is_current(request) && kept.is_wanted_soon(now));
        let idle = soon.filter(|(request, _)| !self.flying.get(*request).is_some_and(Flying::is_under_way));
        let mut oldest: Vec<(Instant, &Request)> = idle.map(|(request, kept)| (kept.read.sent, request)).collect();
        oldest.sort_unstable();
        let chosen: Vec<Request> = oldest.into_iter().take(room).map(|(_, request)| request.clone()).collect();
        let mut fillers = Vec::with_capacity(chosen.len());
        for request in chosen {
            // once for each time that it is used: what nobody asks for any more is not read for ever
            if let Some(kept) = self.kept.peek_mut(&request) {
                kept.again = None;
            }
            let (sender, waiter) = self.fly(&request, now, None, now);
            fillers.push((request, sender, waiter));
        }
        fillers
    }

    /// A call came back: keeps what may be kept. "It does not exist" is an answer; a failure that lasts is kept for a moment, any
    /// other not. Nor is what was written to meanwhile, or is
    /// read anew: only those who wait for this call get that.
    pub fn settle(&mut self, request: &Request, read: &Read, waiter: &Waiter) {
        let flew = self.flying.get(request).is_some_and(|flying| flying.waiter.same_channel(waiter));
        let Some(flying) = flew.then(|| self.flying.remove(request)).flatten() else { return };
        if self.swept.is_none_or(|last| read.sent.saturating_duration_since(last) >= FAILED) {
            self.failed.retain(|_, failed| read.sent.saturating_duration_since(failed.sent) < FAILED);
            self.swept = Some(read.sent);
        }
        self.let_go(read.sent);
        if let Err(error) = &read.answer
            && error.kind != ErrorKind::NotFound
        {
            if lasts(error.kind) && self.failed.len() < self.most_failed {
                self.failed.insert(request.clone(), read.clone());
            }
        } else {
            self.failed.remove(request);
            let wanted = self.kept.peek(request).map_or(flying.wanted, |held| held.wanted.max(flying.wanted));
            self.insert(request.clone(), Kept { read: read.clone(), again: flying.again, wanted });
        }
    }

    /// A value was written to: forgets it, and all searches, as they may have found it.
    pub fn forget(&mut self, key: &str) {
        let is_stale = |request: &Request| match request {
            Request::Get(want) => want.key == key,
            Request::Find(_) => true,
        };
        let stale: Vec<Request> = self.kept.iter().map(|(request, _)| request).filter(|r| is_stale(r)).cloned().collect();
        for request in &stale {
            self.remove(request);
        }
        self.flying.retain(|request, _| !is_stale(request));
        self.failed.retain(|request, _| !is_stale(request));
    }

    /// Lets go of values that all who used them should have come back for. Looks for them once a minute.
    pub fn let_go(&mut self, now: Instant) {
        if self.aged.is_some_and(|last| now.saturating_duration_since(last) < LATE) {
            return;
        }
        self.aged = Some(now);
        let is_over = |kept: &Kept| now.saturating_duration_since(kept.wanted) > LATE;
        let over: Vec<Request> =
            self.kept.iter().filter(|(_, kept)| is_over(kept)).map(|(request, _)| request.clone()).collect();
        for request in &over {
            self.remove(request);
        }
    }

    /// When the oldest value was read that somebody still comes back for.
    pub fn oldest(&self, now: Instant) -> Option<Instant> {
        let wanted = self.kept.iter().map(|(_, kept)| kept).filter(|kept| kept.wanted >= now && kept.read.answer.is_ok());
        wanted.map(|kept| kept.read.sent).min()
    }

    fn fly(&mut self, request: &Request, now: Instant, again: Option<Duration>, wanted: Instant) -> (Sender, Waiter) {
        let (sender, waiter) = watch::channel(None);
        self.flying.insert(request.clone(), Flying { sent: now, waiter: waiter.clone(), again, wanted });
        (sender, waiter)
    }

    /// Keeps it, if it fits: those that were used least give way, as far as that helps.
    fn insert(&mut self, request: Request, kept: Kept) {
        self.remove(&request);
        let weight = kept.weight();
        if !self.share.would_fit(weight) {
            return;
        }
        while !self.share.take(weight) {
            let Some((_, old)) = self.kept.pop_lru() else { return };
            self.share.give(old.weight());
        }
        self.kept.put(request, kept);
    }

    fn remove(&mut self, request: &Request) {
        if let Some(old) = self.kept.pop(request) {
            self.share.give(old.weight());
        }
    }
}

impl Kept {
    fn weight(&self) -> usize {
        self.read.answer.as_ref().map_or(0, super::Answer::weight)
    }

    fn is_wanted_soon(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.read.sent);
        self.read.answer.is_ok() && self.again.is_some_and(|again| age >= again.mul_f64(SOON))
    }
}

impl Flying {
    /// Whether somebody still works on it; a bug in a provider may have ended the call without an answer.
    fn is_under_way(&self) -> bool {
        self.waiter.has_changed().is_ok()
    }
}

/// Whether a request is for a current value: what batch calls read. Searches and old versions are calls of their own.
fn is_current(request: &Request) -> bool {
    matches!(request, Request::Get(want) if want.version.is_empty() && want.metadata == MetadataPolicy::None)
}

/// Whether it fails until somebody changes something, and is tried again after seconds only.
fn lasts(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Denied | ErrorKind::Misconfigured | ErrorKind::Malformed | ErrorKind::Unsupported)
}

fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::fetch::Answer;
    use crate::fetch::budget::Budget;
    use crate::providers::{Fetched, ProviderError, Want};
    use crate::queue::Priority;

    fn empty(entries: usize, bytes: usize) -> Cache {
        Cache::new(Budget::new(entries, bytes).share("ns"), entries)
    }

    fn request(key: &str) -> Request {
        Request::Get(Want { key: key.into(), ..Want::default() })
    }

    fn value(bytes: usize, sent: Instant) -> Read {
        let bytes = crate::secret_bytes::SecretBytes::new(vec![b'x'; bytes]);
        let answer = Ok(Answer::Value(Arc::new(Fetched { bytes, ..Fetched::default() })));
        Read { answer, at: Timestamp::UNIX_EPOCH, sent, holds: None }
    }

    fn failure(kind: ErrorKind, sent: Instant) -> Read {
        Read { answer: Err(ProviderError::new(kind, "x")), at: Timestamp::UNIX_EPOCH, sent, holds: None }
    }

    fn any() -> Freshness {
        Freshness { max_age: Duration::from_secs(10), not_before: None, again: None, priority: Priority::Periodic }
    }

    fn store(cache: &mut Cache, key: &str, read: &Read) {
        let Found::Call(_, waiter) = cache
            .look_up(&request(key), Freshness { max_age: Duration::ZERO, not_before: Some(read.sent), ..any() }, read.sent)
            .0
        else {
            panic!("expected a call")
        };
        cache.settle(&request(key), read, &waiter);
    }

    #[test]
    fn readers_of_one_key_share_a_call_and_then_its_value() {
        let (mut cache, now) = (empty(10, 1000), Instant::now());
        let (Found::Call(_sender, waiter), Lookup::Miss) = cache.look_up(&request("a"), any(), now) else { panic!() };
        assert!(matches!(cache.look_up(&request("a"), any(), now), (Found::Wait(_), Lookup::Shared)));
        cache.settle(&request("a"), &value(1, now), &waiter);
        assert!(matches!(cache.look_up(&request("a"), any(), now), (Found::Here(_), Lookup::Hit)));
        let later = now + Duration::from_secs(11);
        assert!(matches!(cache.look_up(&request("a"), any(), later), (Found::Call(..), Lookup::Miss)));
    }

    #[test]
    fn a_value_that_ends_is_used_no_longer_than_it_holds() {
        let (mut cache, now) = (empty(10, 1000), Instant::now());
        let (Found::Call(_sender, waiter), _) = cache.look_up(&request("a"), any(), now) else { panic!() };
        let read = Read { holds: Some(Duration::from_secs(3)), ..value(1, now) };
        cache.settle(&request("a"), &read, &waiter);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(matches!(cache.look_up(&request("a"), any(), at(2)), (Found::Here(_), Lookup::Hit)));
        assert!(matches!(cache.look_up(&request("a"), any(), at(3)), (Found::Call(..), Lookup::Miss)));
    }

    #[test]
    fn a_forced_reader_takes_neither_an_old_value_nor_an_old_call() {
        let (mut cache, now) = (empty(10, 1000), Instant::now());
        let not_before = Some(now + Duration::from_secs(1));
        let forced = Freshness { max_age: Duration::from_secs(3600), not_before, ..any() };
        let (Found::Call(_, old), _) = cache.look_up(&request("a"), any(), now) else { panic!() };
        let later = now + Duration::from_secs(2);
        let (Found::Call(_, new), _) = cache.look_up(&request("a"), forced, later) else { panic!() };
        // the newer call comes back first: the older one must not take its place
        cache.settle(&request("a"), &value(1, later), &new);
        cache.settle(&request("a"), &value(2, now), &old);
        assert!(matches!(cache.look_up(&request("a"), forced, later), (Found::Here(read), _) if read.sent == later));
    }

    #[test]
    fn what_was_written_to_while_it_was_read_is_not_kept() {
        let (mut cache, now) = (empty(10, 1000), Instant::now());
        for (written, kept) in [("b", true), ("a", false)] {
            let (Found::Call(_sender, waiter), _) = cache.look_up(&request("a"), any(), now) else { panic!() };
            cache.forget(written);
            cache.settle(&request("a"), &value(1, now), &waiter);
            assert_eq!(matches!(cache.look_up(&request("a"), any(), now).0, Found::Here(_)), kept, "{written}");
            cache = empty(10, 1000);
        }
    }

    #[test]
    fn absence_is_kept_a_failure_for_a_moment_and_an_outage_not() {
        let (mut cache, now) = (empty(10, 1000), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        for (kind, kept) in [
            (ErrorKind::NotFound, [true, true, true, false]),
            (ErrorKind::Unavailable, [false; 4]),
            (ErrorKind::MissingProperty, [false; 4]),
            (ErrorKind::Denied, [true, true, false, false]),
        ] {
            let key = format!("{kind:?}");
            store(&mut cache, &key, &failure(kind, now));
            let here = |cache: &mut Cache, at| matches!(cache.look_up(&request(&key), any(), at).0, Found::Here(_));
            assert_eq!([0, 2999, 3000, 10_001].map(|millis| here(&mut cache, at(millis))), kept, "{kind:?}");
        }
    }

    #[test]
    fn a_failure_is_no_answer_for_who_asks_anew_and_takes_nothing_away() {
        let (mut cache, now) = (empty(2, 1000), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        store(&mut cache, "a", &value(1, now));
        store(&mut cache, "a", &failure(ErrorKind::Denied, at(8)));
        let read = |cache: &mut Cache, freshness, at| match cache.look_up(&request("a"), freshness, at).0 {
            Found::Here(read) => Some(read.answer.is_ok()),
            _ => None,
        };
        assert_eq!(read(&mut cache, any(), at(9)), Some(true), "the value is new enough");
        let newer = Freshness { max_age: Duration::from_secs(5), ..any() };
        assert_eq!(read(&mut cache, newer, at(9)), Some(false));
        cache.forget("a");
        assert_eq!(read(&mut cache, newer, at(9)), None, "it was written to");

        for (key, seconds) in [("b", 20), ("c", 20), ("d", 20), ("e", 23)] {
            store(&mut cache, key, &failure(ErrorKind::Denied, at(seconds)));
            assert!(cache.failed.len() <= 2, "{key}");
        }
        assert_eq!(cache.failed.len(), 1, "the others are over");
        assert_eq!(read(&mut cache, Freshness { not_before: Some(at(24)), ..any() }, at(24)), None);
        store(&mut cache, "e", &value(1, at(24)));
        assert!(cache.failed.is_empty());
    }

    /// A reader that comes back each `interval`.
    fn every(interval: Duration) -> Freshness {
        Freshness { max_age: interval / 2, again: Some(interval), ..any() }
    }

    fn read_by(cache: &mut Cache, key: &str, reader: Freshness, now: Instant) {
        let (Found::Call(_, waiter), _) = cache.look_up(&request(key), reader, now) else { panic!("expected a call") };
        cache.settle(&request(key), &value(1, now), &waiter);
    }

    fn filled(cache: &mut Cache, now: Instant, room: usize) -> Vec<String> {
        let key = |request| match request {
            Request::Get(want) => want.key,
            Request::Find(_) => panic!("a search is never read early"),
        };
        cache.fillers(now, room).into_iter().map(|(request, ..)| key(request)).collect()
    }

    #[test]
    fn what_is_wanted_soon_fills_a_batch_the_oldest_first() {
        let (mut cache, start) = (empty(10, 1000), Instant::now());
        let minute = Duration::from_secs(60);
        let at = |seconds| start + Duration::from_secs(seconds);
        read_by(&mut cache, "second", every(minute), at(1));
        read_by(&mut cache, "first", every(minute), at(0));
        read_by(&mut cache, "third", every(minute), at(2));
        read_by(&mut cache, "hourly", every(minute * 60), at(0));
        read_by(&mut cache, "once", any(), at(0));
        assert!(filled(&mut cache, at(47), 9).is_empty(), "too early");
        assert!(filled(&mut cache, at(50), 0).is_empty(), "no room");
        assert_eq!(filled(&mut cache, at(50), 2), ["first", "second"]);
        assert_eq!(filled(&mut cache, at(50), 9), ["third"], "the others are under way");
    }

    #[test]
    fn only_current_values_that_are_there_are_read_early() {
        let (mut cache, now) = (empty(10, 1000), Instant::now());
        let reader = every(Duration::from_secs(60));
        let old = Want { key: "a".into(), version: "1".into(), ..Want::default() };
        let tags = Want { key: "a".into(), metadata: MetadataPolicy::Fetch, ..Want::default() };
        let absent = Read { answer: Err(ProviderError::not_found("b")), at: Timestamp::UNIX_EPOCH, sent: now, holds: None };
        for (request, read) in [
            (Request::Get(old), value(1, now)),
            (Request::Get(tags), value(1, now)),
            (Request::Find(crate::providers::FindQuery::default()), value(1, now)),
            (request("b"), absent),
        ] {
            let (Found::Call(_, waiter), _) = cache.look_up(&request, reader, now) else { panic!() };
            cache.settle(&request, &read, &waiter);
        }
        assert!(filled(&mut cache, now + Duration::from_secs(60), 9).is_empty());
    }

    #[test]
    fn a_value_is_read_early_once_for_each_time_that_it_is_used() {
        let (mut cache, start) = (empty(10, 1000), Instant::now());
        let (reader, minute) = (every(Duration::from_secs(60)), Duration::from_secs(60));
        read_by(&mut cache, "a", reader, start);
        let (request, _sender, waiter) = cache.fillers(start + minute, 1).remove(0);
        cache.settle(&request, &value(1, start + minute), &waiter);
        assert!(filled(&mut cache, start + 2 * minute, 1).is_empty(), "nobody has used it since");
        assert!(matches!(cache.look_up(&request, reader, start + minute), (Found::Here(_), Lookup::Hit)));
        assert_eq!(filled(&mut cache, start + 2 * minute, 1), ["a"]);
    }

    #[test]
    fn a_failed_early_read_leaves_the_value_and_one_joined_by_a_reader_counts_as_used() {
        let (mut cache, start) = (empty(10, 1000), Instant::now());
        let (reader, minute) = (every(Duration::from_secs(60)), Duration::from_secs(60));
        read_by(&mut cache, "a", reader, start);
        let (request, sender, waiter) = cache.fillers(start + minute, 1).remove(0);
        let denied = Read {
            answer: Err(ProviderError::new(ErrorKind::Denied, "x")),
            at: Timestamp::UNIX_EPOCH,
            sent: start + minute,
            holds: None,
        };
        cache.settle(&request, &denied, &waiter);
        drop(sender);
        assert!(matches!(cache.look_up(&request, any(), start + Duration::from_secs(9)), (Found::Here(_), _)));
        assert!(filled(&mut cache, start + minute, 1).is_empty(), "it is not tried again and again");

        read_by(&mut cache, "b", reader, start);
        let (request, _sender, waiter) = cache.fillers(start + minute, 1).remove(0);
        assert!(matches!(cache.look_up(&request, reader, start + minute), (Found::Wait(_), Lookup::Shared)));
        cache.settle(&request, &value(1, start + minute), &waiter);
        assert_eq!(filled(&mut cache, start + 2 * minute, 1), ["b"]);
    }

    #[test]
    fn the_oldest_value_is_one_that_somebody_comes_back_for() {
        let (mut cache, start) = (empty(10, 1000), Instant::now());
        let (hourly, hour) = (every(Duration::from_secs(3600)), Duration::from_secs(3600));
        read_by(&mut cache, "once", any(), start);
        read_by(&mut cache, "deleted", hourly, start + Duration::from_secs(1));
        let (Found::Call(_, waiter), _) = cache.look_up(&request("absent"), hourly, start) else { panic!() };
        let absent =
            Read { answer: Err(ProviderError::not_found("absent")), at: Timestamp::UNIX_EPOCH, sent: start, holds: None };
        cache.settle(&request("absent"), &absent, &waiter);
        let (later, older, newer) = (start + hour / 2, Some(start + Duration::from_secs(1)), Some(start + hour / 2));
        assert_eq!(cache.oldest(start + Duration::from_secs(10)), Some(start));
        assert_eq!(cache.oldest(start + Duration::from_secs(11)), older, "nobody reads it again");
        read_by(&mut cache, "used", hourly, later);
        assert_eq!(cache.oldest(start + hour + Duration::from_secs(1)), older);
        assert_eq!(cache.oldest(start + hour + Duration::from_secs(2)), newer, "its reader is gone");
        // while the store is down its readers still ask
        let down = later + hour + Duration::from_secs(1);
        assert_eq!(cache.oldest(down), None);
        assert!(matches!(cache.look_up(&request("used"), hourly, down), (Found::Call(..), Lookup::Miss)));
        assert_eq!(cache.oldest(down), newer);
    }

    #[test]
    fn what_nobody_comes_back_for_is_let_go() {
        let (mut cache, start, minute) = (empty(10, 1000), Instant::now(), Duration::from_secs(60));
        let at = |seconds| start + Duration::from_secs(seconds);
        read_by(&mut cache, "minutely", every(minute), start);
        read_by(&mut cache, "hourly", every(60 * minute), start);
        cache.let_go(at(120));
        assert_eq!(cache.share.kept(), (2, 2), "its reader may be late");
        cache.let_go(at(179));
        assert_eq!(cache.share.kept(), (2, 2), "it was looked a moment ago");
        cache.let_go(at(180));
        assert_eq!(cache.share.kept(), (1, 1));
        assert!(matches!(cache.look_up(&request("hourly"), every(60 * minute), at(1800)), (Found::Here(_), Lookup::Hit)));
        read_by(&mut cache, "other", any(), at(1800 + 3660));
        assert_eq!(cache.share.kept(), (2, 2), "its reader may be late");
        read_by(&mut cache, "third", any(), at(1800 + 3720));
        assert!(!cache.kept.contains(&request("hourly")), "a call that comes back lets go of others");
        assert_eq!(cache.share.kept(), (2, 2));
    }

    #[test]
    fn what_does_not_fit_is_not_kept_and_takes_nothing_away() {
        let (budget, now) = (Budget::new(10, 1000), Instant::now());
        let [mut cache, mut neighbour] = [(); 2].map(|()| Cache::new(budget.share("ns"), 10));
        let kept = |cache: &Cache| cache.kept.iter().map(|(_, kept)| kept.weight()).collect::<Vec<_>>();
        store(&mut neighbour, "a", &value(600, now));
        store(&mut cache, "a", &value(300, now));
        store(&mut cache, "b", &value(401, now));
        assert_eq!(kept(&cache), [300], "the neighbour's does not give way");
        store(&mut cache, "b", &value(400, now));
        assert_eq!(kept(&cache), [400], "what was used least does");
        store(&mut neighbour, "a", &value(50, now + Duration::from_secs(1)));
        store(&mut cache, "a", &value(550, now));
        assert_eq!(kept(&cache), [550, 400]);
        neighbour.forget("a");
        store(&mut neighbour, "b", &value(50, now));
        assert_eq!((neighbour.share.kept(), cache.share.kept()), ((1, 50), (2, 950)));
    }

    #[test]
    fn a_call_that_ended_without_an_answer_is_not_waited_for() {
        let (mut cache, now) = (empty(10, 1000), Instant::now());
        let (Found::Call(sender, _), _) = cache.look_up(&request("a"), any(), now) else { panic!() };
        assert!(matches!(cache.look_up(&request("a"), any(), now), (Found::Wait(_), _)));
        drop(sender);
        assert!(matches!(cache.look_up(&request("a"), any(), now), (Found::Call(..), Lookup::Miss)));
    }

    proptest! {
        #[test]
        fn bounds_hold_whatever_comes(sizes in proptest::collection::vec((0u8..20, 0usize..400), 1..100)) {
            let (mut cache, now) = (empty(5, 1000), Instant::now());
            for (i, (key, size)) in sizes.iter().enumerate() {
                store(&mut cache, &key.to_string(), &value(*size, now + Duration::from_millis(i as u64)));
                let weights: usize = cache.kept.iter().map(|(_, k)| k.weight()).sum();
                prop_assert!(cache.kept.len() <= 5 && weights <= 1000);
                prop_assert_eq!(cache.share.kept(), (cache.kept.len(), weights));
            }
        }
    }
}
