//! Values of one store identity, and the calls for them that are under way. Pure: the caller says what time it is.

use std::collections::HashMap;

use lru::LruCache;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Freshness, Lookup, Read, Request};
use crate::providers::ErrorKind;

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

/// A bounded cache that also knows the calls under way.
pub struct Cache {
    kept: LruCache<Request, Read>,
    flying: HashMap<Request, (Instant, Waiter)>,
    bytes: usize,
    most_bytes: usize,
}

impl Cache {
    /// A cache of at most that many entries and bytes.
    pub fn new(most_entries: usize, most_bytes: usize) -> Self {
        let most_entries = std::num::NonZeroUsize::new(most_entries).unwrap_or(std::num::NonZeroUsize::MIN);
        Self { kept: LruCache::new(most_entries), flying: HashMap::new(), bytes: 0, most_bytes }
    }

    /// Looks a request up.
    pub fn look_up(&mut self, request: &Request, freshness: Freshness, now: Instant) -> (Found, Lookup) {
        if let Some(read) = self.kept.get(request)
            && freshness.accepts(read.sent, now)
        {
            return (Found::Here(read.clone()), Lookup::Hit);
        }
        if let Some((sent, waiter)) = self.flying.get(request)
            && freshness.not_before.is_none_or(|limit| *sent >= limit)
        {
            return (Found::Wait(waiter.clone()), Lookup::Shared);
        }
        let (sender, waiter) = watch::channel(None);
        self.flying.insert(request.clone(), (now, waiter.clone()));
        (Found::Call(sender, waiter), Lookup::Miss)
    }

    /// A call came back: keeps what may be kept. "It does not exist" is an answer; other failures are not kept.
    pub fn settle(&mut self, request: &Request, read: &Read, waiter: &Waiter) {
        if self.flying.get(request).is_some_and(|(_, w)| w.same_channel(waiter)) {
            self.flying.remove(request);
        }
        let keep = match &read.answer {
            Ok(_) => true,
            Err(error) => error.kind == ErrorKind::NotFound,
        };
        if keep && self.kept.peek(request).is_none_or(|held| held.sent <= read.sent) {
            self.insert(request.clone(), read.clone());
        }
    }

    /// When the oldest kept value was read.
    pub fn oldest(&self) -> Option<Instant> {
        self.kept.iter().map(|(_, read)| read.sent).min()
    }

    fn insert(&mut self, request: Request, read: Read) {
        self.bytes += weight(&read);
        if let Some((_, old)) = self.kept.push(request, read) {
            self.bytes -= weight(&old);
        }
        while self.bytes > self.most_bytes
            && let Some((_, old)) = self.kept.pop_lru()
        {
            self.bytes -= weight(&old);
        }
    }
}

fn weight(read: &Read) -> usize {
    read.answer.as_ref().map_or(0, super::Answer::weight)
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
    use crate::providers::{Fetched, ProviderError, Want};

    fn request(key: &str) -> Request {
        Request::Get(Want { key: key.into(), ..Want::default() })
    }

    fn value(bytes: usize, sent: Instant) -> Read {
        let bytes = crate::secret_bytes::SecretBytes::new(vec![b'x'; bytes]);
        let answer = Ok(Answer::Value(Arc::new(Fetched { bytes, ..Fetched::default() })));
        Read { answer, at: Timestamp::UNIX_EPOCH, sent }
    }

    fn any() -> Freshness {
        Freshness { max_age: Duration::from_secs(10), not_before: None }
    }

    fn store(cache: &mut Cache, key: &str, read: &Read) {
        let Found::Call(_, waiter) =
            cache.look_up(&request(key), Freshness { max_age: Duration::ZERO, not_before: Some(read.sent) }, read.sent).0
        else {
            panic!("expected a call")
        };
        cache.settle(&request(key), read, &waiter);
    }

    #[test]
    fn readers_of_one_key_share_a_call_and_then_its_value() {
        let (mut cache, now) = (Cache::new(10, 1000), Instant::now());
        let (Found::Call(_, waiter), Lookup::Miss) = cache.look_up(&request("a"), any(), now) else { panic!() };
        assert!(matches!(cache.look_up(&request("a"), any(), now), (Found::Wait(_), Lookup::Shared)));
        cache.settle(&request("a"), &value(1, now), &waiter);
        assert!(matches!(cache.look_up(&request("a"), any(), now), (Found::Here(_), Lookup::Hit)));
        let later = now + Duration::from_secs(11);
        assert!(matches!(cache.look_up(&request("a"), any(), later), (Found::Call(..), Lookup::Miss)));
    }

    #[test]
    fn a_forced_reader_takes_neither_an_old_value_nor_an_old_call() {
        let (mut cache, now) = (Cache::new(10, 1000), Instant::now());
        let forced = Freshness { max_age: Duration::from_secs(3600), not_before: Some(now + Duration::from_secs(1)) };
        let (Found::Call(_, old), _) = cache.look_up(&request("a"), any(), now) else { panic!() };
        let later = now + Duration::from_secs(2);
        let (Found::Call(_, new), _) = cache.look_up(&request("a"), forced, later) else { panic!() };
        // the newer call comes back first: the older one must not take its place
        cache.settle(&request("a"), &value(1, later), &new);
        cache.settle(&request("a"), &value(2, now), &old);
        assert!(matches!(cache.look_up(&request("a"), forced, later), (Found::Here(read), _) if read.sent == later));
    }

    #[test]
    fn failures_are_not_kept_but_absence_is() {
        let (mut cache, now) = (Cache::new(10, 1000), Instant::now());
        for (kind, kept) in [(ErrorKind::NotFound, true), (ErrorKind::Unavailable, false), (ErrorKind::Denied, false)] {
            let key = format!("{kind:?}");
            let read = Read { answer: Err(ProviderError::new(kind, "x")), at: Timestamp::UNIX_EPOCH, sent: now };
            store(&mut cache, &key, &read);
            assert_eq!(matches!(cache.look_up(&request(&key), any(), now).0, Found::Here(_)), kept, "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn bounds_hold_whatever_comes(sizes in proptest::collection::vec((0u8..20, 0usize..400), 1..100)) {
            let (mut cache, now) = (Cache::new(5, 1000), Instant::now());
            for (i, (key, size)) in sizes.iter().enumerate() {
                store(&mut cache, &key.to_string(), &value(*size, now + Duration::from_millis(i as u64)));
                prop_assert!(cache.kept.len() <= 5);
                prop_assert!(cache.bytes <= 1000);
                prop_assert_eq!(cache.bytes, cache.kept.iter().map(|(_, r)| weight(r)).sum::<usize>());
            }
        }
    }
}
