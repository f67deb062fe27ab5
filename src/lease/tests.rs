#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::*;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn timing() -> Timing {
    Timing::new(secs(15), secs(10), secs(2)).unwrap()
}

fn lease(holder: &str, seconds: Option<i32>, version: u64) -> Lease {
    Lease {
        metadata: ObjectMeta { resource_version: Some(version.to_string()), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        }),
    }
}

#[test]
fn timing_is_checked() {
    assert!(Timing::new(secs(15), secs(10), secs(2)).is_ok());
    for (lease, renew, retry, says) in [
        (secs(0), secs(0), secs(0), "lease-duration must be at least 1s"),
        (secs(10), secs(10), secs(2), "must be shorter than --leader-election-lease-duration"),
        (secs(15), secs(10), secs(9), "1.2 × --leader-election-retry-period"),
        (secs(15), secs(10), secs(0), "retry-period must be longer than 0s"),
    ] {
        let text = Timing::new(lease, renew, retry).unwrap_err().to_string();
        assert!(text.contains(says), "{text}");
    }
    let odd = Timing::new(Duration::from_millis(15_500), secs(15), secs(2)).unwrap();
    assert_eq!(odd.promised_seconds(), 16, "a promise is never rounded below the renew deadline");
}

#[test]
fn decide_table() {
    let start = Instant::now();
    let cases: [(&str, Option<Lease>, u64, Action); 9] = [
        ("no Lease", None, 0, Action::Create),
        ("given back", Some(lease("", Some(1), 1)), 0, Action::Take),
        ("no spec", Some(Lease::default()), 0, Action::Take),
        ("ours", Some(lease("me", Some(15), 1)), 0, Action::Renew),
        ("ours, long ago", Some(lease("me", Some(15), 1)), 100, Action::Renew),
        ("another's, fresh", Some(lease("you", Some(15), 1)), 4, Action::Wait(secs(11))),
        ("another's, run out", Some(lease("you", Some(15), 1)), 15, Action::Take),
        ("another's with a longer promise than ours", Some(lease("you", Some(60), 1)), 20, Action::Wait(secs(40))),
        ("another's without a promise", Some(lease("you", None, 1)), 14, Action::Wait(secs(1))),
    ];
    for (name, lease, later, expected) in cases {
        let seen = lease.map(|lease| Seen { lease, at: start });
        assert_eq!(decide(seen.as_ref(), "me", secs(15), start + secs(later)), expected, "{name}");
    }
}

#[test]
fn only_a_change_that_we_saw_restarts_the_clock() {
    let start = Instant::now();
    let mut candidate = Candidate::new("lease".into(), "me".into(), timing());
    candidate.observe(Some(lease("you", Some(15), 1)), start);
    candidate.observe(Some(lease("you", Some(15), 1)), start + secs(10));
    assert_eq!(candidate.decide(start + secs(10)), Action::Wait(secs(5)));
    candidate.observe(Some(lease("you", Some(15), 2)), start + secs(12));
    assert_eq!(candidate.decide(start + secs(20)), Action::Wait(secs(7)));
}

#[test]
fn that_the_lease_is_deleted_ends_nobodys_promise() {
    let start = Instant::now();
    let mut candidate = Candidate::new("lease".into(), "me".into(), timing());
    candidate.observe(Some(lease("you", Some(15), 1)), start);
    candidate.observe(None, start + secs(4));
    assert_eq!(candidate.decide(start + secs(4)), Action::Wait(secs(11)));
    candidate.observe(None, start + secs(6));
    assert_eq!(candidate.decide(start + secs(6)), Action::Wait(secs(9)), "looked at again, it is not forgotten");
    assert_eq!(candidate.decide(start + secs(15)), Action::Create);
    let made = candidate.claim(Timestamp::UNIX_EPOCH);
    assert_eq!((made.metadata.name.as_deref(), made.metadata.resource_version), (Some("lease"), None));

    candidate.observe(Some(lease("you", Some(15), 2)), start + secs(8));
    assert_eq!(candidate.decide(start + secs(10)), Action::Wait(secs(13)), "its holder made it anew");
    for (holder, version) in [("", 3), ("me", 4)] {
        candidate.observe(Some(lease(holder, Some(15), version)), start + secs(10));
        candidate.observe(None, start + secs(11));
        assert_eq!(candidate.decide(start + secs(11)), Action::Create, "nobody else held it: {holder:?}");
    }
}

#[test]
fn claims_keep_the_version_and_count_changes_of_hands() {
    let now = Timestamp::UNIX_EPOCH;
    let mut candidate = Candidate::new("lease".into(), "me".into(), timing());
    let created = candidate.claim(now);
    assert_eq!((created.metadata.name.as_deref(), created.metadata.resource_version.as_deref()), (Some("lease"), None));

    let mut theirs = lease("you", Some(15), 7);
    theirs.spec.as_mut().unwrap().lease_transitions = Some(3);
    theirs.metadata.annotations = Some(BTreeMap::from([("kept".to_owned(), "yes".to_owned())]));
    candidate.observe(Some(theirs), Instant::now());
    assert_eq!(candidate.release(now), None, "what is not ours is not given back");
    let mut taken = candidate.claim(now);
    assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"));
    assert!(taken.metadata.annotations.is_some());
    assert_eq!(taken.spec.as_ref().unwrap().lease_transitions, Some(4));
    let acquired = taken.spec.as_ref().unwrap().acquire_time.clone();

    taken.metadata.resource_version = Some("8".into());
    candidate.observe(Some(taken), Instant::now());
    let renewed = candidate.claim(Timestamp::from_second(9).unwrap()).spec.unwrap();
    assert_eq!((renewed.lease_transitions, &renewed.acquire_time), (Some(4), &acquired));
    assert_ne!(renewed.renew_time, acquired);
    let released = candidate.release(now).unwrap().spec.unwrap();
    assert_eq!((released.holder_identity.as_deref(), released.lease_duration_seconds), (Some(""), Some(1)));
}

#[test]
fn a_term_ends_by_whichever_clock_went_further() {
    let start = Moment { monotonic: Instant::now(), wall: UNIX_EPOCH + secs(1000) };
    let term = Term { renewed: start, window: secs(10) };
    let later = |mono: u64, wall: u64| Moment { monotonic: start.monotonic + secs(mono), wall: UNIX_EPOCH + secs(wall) };
    assert!(term.holds(&later(9, 1009)));
    assert!(!term.holds(&later(10, 1010)));
    assert!(!term.holds(&later(1, 1060)), "the machine slept");
    assert!(term.holds(&later(9, 0)), "the wall clock was set back");
    assert!(!term.holds(&later(10, 0)), "the wall clock was set back");
}

/// A model of the API server and some candidates, on one true clock in milliseconds; each candidate has clocks of its own.
struct World {
    now: u64,
    lease: Option<Lease>,
    version: u64,
    people: Vec<Person>,
    /// Chances, used up one after the other.
    dice: Box<dyn Iterator<Item = u8>>,
    calm: bool,
    held: usize,
}

struct Person {
    candidate: Candidate,
    term: Option<Term>,
    /// Rate of the monotonic clock, in thousandths, and how far the wall clock is off, in milliseconds.
    rate: u64,
    skew: u64,
    base: Instant,
    wake: u64,
    next: Step,
}

enum Step {
    Read,
    ReadArrives(Option<Box<Lease>>),
    WriteReaches(Box<Lease>, Moment),
    WriteArrives(Box<Lease>, Moment),
}

impl Person {
    fn clocks(&self, now: u64) -> Moment {
        Moment {
            monotonic: self.base + Duration::from_millis(now * self.rate / 1000),
            wall: UNIX_EPOCH + Duration::from_millis(now + self.skew),
        }
    }

    fn writes(&self, now: u64) -> bool {
        self.term.is_some_and(|t| t.holds(&self.clocks(now)))
    }
}

impl World {
    fn roll(&mut self) -> u64 {
        if self.calm { 1 } else { u64::from(self.dice.next().unwrap_or(1)) }
    }

    /// Latency of one way: mostly short, at times longer than the whole lease.
    fn latency(&mut self) -> u64 {
        match self.roll() {
            n @ 0..=239 => n / 4,
            n => (n - 239) * 1_500,
        }
    }

    fn lost(&mut self) -> bool {
        self.roll() > 225
    }

    fn run_until(&mut self, end: u64) {
        while let Some(i) = (0..self.people.len()).min_by_key(|i| self.people[*i].wake) {
            if self.people[i].wake > end {
                return;
            }
            self.now = self.people[i].wake;
            self.step(i);
            let writers = self.people.iter().filter(|p| p.writes(self.now)).count();
            assert!(writers <= 1, "{writers} candidates write at {}", self.now);
            self.held += writers;
        }
    }

    fn go(&mut self, i: usize, after: u64, next: Step) {
        self.people[i].wake = self.now + after.max(1);
        self.people[i].next = next;
    }

    fn step(&mut self, i: usize) {
        let clocks = self.people[i].clocks(self.now);
        if self.people[i].term.is_some_and(|t| !t.holds(&clocks)) {
            return self.restart(i);
        }
        let retry = 2_000;
        match std::mem::replace(&mut self.people[i].next, Step::Read) {
            Step::Read => {
                let (there, back) = (self.latency(), self.latency());
                let read = self.lease.clone().map(Box::new);
                self.go(i, there + back, Step::ReadArrives(read));
            }
            Step::ReadArrives(read) => {
                self.people[i].candidate.observe(read.map(|lease| *lease), clocks.monotonic);
                match self.people[i].candidate.decide(clocks.monotonic) {
                    Action::Wait(left) => {
                        let left = u64::try_from(left.as_millis()).unwrap();
                        self.go(i, left.min(retry), Step::Read);
                    }
                    Action::Create | Action::Take | Action::Renew => {
                        let micros = i64::try_from(self.now * 1000).unwrap();
                        let claim = self.people[i].candidate.claim(Timestamp::from_microsecond(micros).unwrap());
                        let there = self.latency();
                        self.go(i, there, Step::WriteReaches(Box::new(claim), clocks));
                    }
                }
            }
            Step::WriteReaches(mut claim, sent) => {
                let current = self.lease.as_ref().and_then(|l| l.metadata.resource_version.clone());
                if self.lost() || claim.metadata.resource_version != current {
                    return self.go(i, retry, Step::Read);
                }
                self.version += 1;
                claim.metadata.resource_version = Some(self.version.to_string());
                self.lease = Some((*claim).clone());
                if self.lost() {
                    return self.go(i, retry, Step::Read);
                }
                let back = self.latency();
                self.go(i, back, Step::WriteArrives(claim, sent));
            }
            Step::WriteArrives(lease, sent) => {
                let person = &mut self.people[i];
                person.candidate.observe(Some(*lease), clocks.monotonic);
                person.term = Some(person.candidate.term(sent));
                if self.roll() > 245 {
                    return self.stop(i);
                }
                self.go(i, retry, Step::Read);
            }
        }
    }

    /// A clean stop: no more writes, then the Lease is given back.
    fn stop(&mut self, i: usize) {
        self.people[i].term = None;
        if let Some(mut released) = self.people[i].candidate.release(Timestamp::UNIX_EPOCH)
            && self.lease.as_ref().map(|l| &l.metadata.resource_version) == Some(&released.metadata.resource_version)
        {
            self.version += 1;
            released.metadata.resource_version = Some(self.version.to_string());
            self.lease = Some(released);
        }
        self.restart(i);
    }

    fn restart(&mut self, i: usize) {
        let person = &mut self.people[i];
        let me = format!("{}'", person.candidate.identity());
        person.candidate = Candidate::new("lease".into(), me, timing());
        person.term = None;
        let pause = self.roll() * 40;
        self.go(i, pause, Step::Read);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn no_two_candidates_ever_write_at_the_same_time(
        dice in prop::collection::vec(any::<u8>(), 200..600),
        clocks in prop::collection::vec((880u64..1120, 0u64..100_000_000), 2..4),
    ) {
        let base = Instant::now();
        let people = clocks.into_iter().enumerate().map(|(i, (rate, skew))| Person {
            candidate: Candidate::new("lease".into(), format!("candidate-{i}"), timing()),
            term: None, rate, skew, base, wake: 0, next: Step::Read,
        }).collect();
        let mut world =
            World { now: 0, lease: None, version: 0, people, dice: Box::new(dice.into_iter().cycle()), calm: false, held: 0 };
        world.run_until(600_000);

        // Once the network behaves, somebody leads, and goes on leading.
        world.calm = true;
        world.run_until(800_000);
        world.held = 0;
        let version = world.version;
        world.run_until(860_000);
        prop_assert_eq!(world.people.iter().filter(|p| p.writes(world.now)).count(), 1);
        prop_assert!(world.version > version + 20, "the holder renews");
    }
}
