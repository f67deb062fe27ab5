//! How much is kept of what was read: by one store, by those of one namespace together, and by all together. Else whoever makes
//! stores could fill the memory of the process, which serves others, too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// How many times the bound of one store all of them have together.
const ALL: usize = 3;

/// So many entries, of so many bytes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Amount {
    entries: usize,
    bytes: usize,
}

impl Amount {
    fn one(bytes: usize) -> Self {
        Self { entries: 1, bytes }
    }

    fn times(self, factor: usize) -> Self {
        Self { entries: self.entries.saturating_mul(factor), bytes: self.bytes.saturating_mul(factor) }
    }

    fn plus(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_add(other.entries), bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn minus(self, other: Self) -> Self {
        Self { entries: self.entries.saturating_sub(other.entries), bytes: self.bytes.saturating_sub(other.bytes) }
    }

    fn is_within(self, most: Self) -> bool {
        self.entries <= most.entries && self.bytes <= most.bytes
    }
}

/// A bound, and what is kept under it.
struct Pot {
    most: Amount,
    kept: Mutex<Amount>,
}

impl Pot {
    fn new(most: Amount) -> Arc<Self> {
        Arc::new(Self { most, kept: Mutex::default() })
    }

    fn take(&self, more: Amount) -> bool {
        let mut kept = lock(&self.kept);
        let sum = kept.plus(more);
        let fits = sum.is_within(self.most);
        if fits {
            *kept = sum;
        }
        fits
    }

    fn give(&self, back: Amount) {
        let mut kept = lock(&self.kept);
        *kept = kept.minus(back);
    }

    fn would_fit(&self, more: Amount, without: Amount) -> bool {
        lock(&self.kept).minus(without).plus(more).is_within(self.most)
    }
}

/// What all caches may keep.
pub struct Budget {
    of_one: Amount,
    all: Arc<Pot>,
    namespaces: Mutex<HashMap<String, Weak<Pot>>>,
}

impl Budget {
    /// A budget in which one store may keep that much, those of one namespace together no more, and all together three times that.
    pub fn new(entries: usize, bytes: usize) -> Self {
        let of_one = Amount { entries, bytes };
        Self { of_one, all: Pot::new(of_one.times(ALL)), namespaces: Mutex::default() }
    }

    /// The share of one cache, for a login of that namespace's (empty: of nobody's).
    pub fn share(&self, namespace: &str) -> Share {
        let mut pots = vec![Pot::new(self.of_one), self.all.clone()];
        if !namespace.is_empty() {
            pots.push(self.of_namespace(namespace));
        }
        Share { pots, kept: Amount::default() }
    }

    fn of_namespace(&self, namespace: &str) -> Arc<Pot> {
        let mut namespaces = lock(&self.namespaces);
        if let Some(pot) = namespaces.get(namespace).and_then(Weak::upgrade) {
            return pot;
        }
        namespaces.retain(|_, pot| pot.strong_count() > 0);
        let pot = Pot::new(self.of_one);
        namespaces.insert(namespace.to_owned(), Arc::downgrade(&pot));
        pot
    }
}

/// What one cache keeps, counted under each bound that holds for it. It is given back when the cache goes.
pub struct Share {
    pots: Vec<Arc<Pot>>,
    kept: Amount,
}

impl Share {
    /// Takes room for one more entry, if there is any.
    pub fn take(&mut self, bytes: usize) -> bool {
        let one = Amount::one(bytes);
        let taken = self.pots.iter().take_while(|pot| pot.take(one)).count();
        if taken < self.pots.len() {
            self.pots.iter().take(taken).for_each(|pot| pot.give(one));
            return false;
        }
        self.kept = self.kept.plus(one);
        true
    }

    /// Gives the room of an entry back.
    pub fn give(&mut self, bytes: usize) {
        let one = Amount::one(bytes);
        self.pots.iter().for_each(|pot| pot.give(one));
        self.kept = self.kept.minus(one);
    }

    /// Whether there would be room for an entry if all that this cache keeps were given back.
    pub fn would_fit(&self, bytes: usize) -> bool {
        self.pots.iter().all(|pot| pot.would_fit(Amount::one(bytes), self.kept))
    }

    /// Entries and bytes that are kept.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize) {
        (self.kept.entries, self.kept.bytes)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.pots.iter().for_each(|pot| pot.give(self.kept));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many entries of so many bytes fit.
    fn fill(share: &mut Share, bytes: usize) -> usize {
        (0..100).take_while(|_| share.take(bytes)).count()
    }

    #[test]
    fn one_store_one_namespace_and_all_are_bounded() {
        let budget = Budget::new(20, 1000);
        let (mut own, mut second, mut other) = (budget.share("red"), budget.share("red"), budget.share("blue"));
        let (mut shared, mut last) = (budget.share(""), budget.share("green"));
        assert_eq!(fill(&mut own, 200), 5, "by bytes");
        assert_eq!(fill(&mut second, 1), 0, "the namespace has no more");
        assert_eq!(fill(&mut other, 100), 10, "another has all of its own");
        assert_eq!(fill(&mut shared, 100), 10);
        assert_eq!(fill(&mut last, 1), 0, "all have no more");
        shared.give(100);
        assert_eq!(fill(&mut last, 50), 2);
        assert_eq!(fill(&mut second, 1), 0);
        drop(own);
        assert_eq!(fill(&mut second, 100), 10, "what went with a cache is given back");
        assert_eq!(*lock(&budget.all.kept), Amount { entries: 31, bytes: 3000 });
        drop((second, other, shared, last));
        assert_eq!(*lock(&budget.all.kept), Amount::default());
    }

    #[test]
    fn entries_without_bytes_are_bounded_too() {
        let budget = Budget::new(10, 1000);
        let (mut one, mut another) = (budget.share("red"), budget.share("red"));
        assert_eq!(fill(&mut one, 0), 10);
        assert_eq!(fill(&mut another, 0), 0);
        let mut others = ["blue", "green"].map(|namespace| budget.share(namespace));
        assert_eq!(others.each_mut().map(|share| fill(share, 0)), [10, 10]);
        assert_eq!(fill(&mut budget.share(""), 0), 0);
    }

    #[test]
    fn what_this_cache_keeps_makes_room_and_what_others_keep_does_not() {
        let budget = Budget::new(10, 1000);
        let (mut own, mut other) = (budget.share("red"), budget.share("red"));
        assert!(own.take(400) && other.take(500));
        assert!(own.would_fit(500));
        assert!(!own.would_fit(501));
        assert!(!budget.share("blue").would_fit(1001));
    }

    #[test]
    fn namespaces_without_a_store_are_forgotten() {
        let budget = Budget::new(10, 1000);
        for i in 0..100 {
            assert!(budget.share(&format!("ns-{i}")).take(1));
        }
        assert_eq!(lock(&budget.namespaces).len(), 1);
        assert_eq!(*lock(&budget.all.kept), Amount::default());
    }
}
