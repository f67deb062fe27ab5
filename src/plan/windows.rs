//! Sync windows: the times in which a periodic refresh may, or may not, happen.

use jiff::{SignedDuration, Timestamp};

use super::cron::Schedule;
use super::duration;
use crate::api::external_secret::{SyncWindow, SyncWindowKind, SyncWindows};

/// Changes of single windows that are looked at for one change of the whole.
const MOST_CHANGES: usize = 64;

/// Looks at single windows for that; of very many windows, fewer changes are looked at.
const MOST_LOOKS: usize = 64 * MOST_CHANGES;

/// Whether a periodic refresh may happen now. A window is open from each firing of its schedule for its duration, both ends
/// included. One whose schedule or duration cannot be read is never open, as in ESO.
#[must_use]
pub fn is_open(windows: &SyncWindows, now: Timestamp) -> bool {
    windows.windows.is_empty() || allows(windows.kind, &readable(windows), now)
}

/// The next time at which [`is_open`] may change, to wake up then: when a window opens, or just after one closes. None: it never
/// changes, as far as one can see.
#[must_use]
pub fn next_change(windows: &SyncWindows, now: Timestamp) -> Option<Timestamp> {
    let readable = readable(windows);
    let today = is_open(windows, now);
    let mut at = now;
    let most = MOST_LOOKS / readable.len().max(1);
    for _ in 0..most.clamp(1, MOST_CHANGES) {
        at = readable.iter().filter_map(|window| window.next_edge(at)).min()?;
        if allows(windows.kind, &readable, at) != today {
            break;
        }
    }
    Some(at)
}

fn allows(kind: SyncWindowKind, windows: &[Window], now: Timestamp) -> bool {
    let active = windows.iter().any(|window| window.contains(now));
    active == (kind == SyncWindowKind::Allow)
}

fn readable(windows: &SyncWindows) -> Vec<Window> {
    windows.windows.iter().filter_map(Window::read).collect()
}

/// A window that could be read.
struct Window {
    schedule: Schedule,
    duration: SignedDuration,
}

impl Window {
    fn read(window: &SyncWindow) -> Option<Self> {
        Some(Self { schedule: Schedule::parse(&window.schedule)?, duration: duration::parse(&window.duration).ok()? })
    }

    /// The first firing that can keep the window open now. An interval counts from there, so it keeps the window always or never open.
    fn opened(&self, now: Timestamp) -> Option<Timestamp> {
        let just_before = now.checked_sub(self.duration).ok()?.checked_sub(SignedDuration::from_nanos(1)).ok()?;
        self.schedule.next(just_before)
    }

    fn contains(&self, now: Timestamp) -> bool {
        self.opened(now).is_some_and(|opened| opened <= now)
    }

    /// When the window next opens, or closes as far as the firings known now go.
    fn next_edge(&self, now: Timestamp) -> Option<Timestamp> {
        if matches!(self.schedule, Schedule::Every(_)) {
            return None;
        }
        // Open: it closes a nanosecond after its inclusive end, unless a later firing holds it open, which the caller then sees.
        let closes = self.opened(now).filter(|opened| *opened <= now).and_then(|opened| {
            opened.checked_add(self.duration).and_then(|end| end.checked_add(SignedDuration::from_nanos(1))).ok()
        });
        [self.schedule.next(now), closes].into_iter().flatten().min()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn windows(kind: SyncWindowKind, list: &[(&str, &str)]) -> SyncWindows {
        let window =
            |(schedule, duration): &(&str, &str)| SyncWindow { schedule: (*schedule).into(), duration: (*duration).into() };
        SyncWindows { kind, windows: list.iter().map(window).collect() }
    }

    #[test]
    fn a_window_includes_both_its_ends() {
        let nightly = windows(SyncWindowKind::Allow, &[("0 22 * * *", "2h")]);
        let never_then = windows(SyncWindowKind::Deny, &[("0 22 * * *", "2h")]);
        for (time, open) in [
            ("2026-06-01T22:00:00Z", true),
            ("2026-06-01T22:30:00Z", true),
            ("2026-06-02T00:00:00Z", true),
            ("2026-06-02T00:00:01Z", false),
            ("2026-06-01T21:00:00Z", false),
            ("2026-06-02T03:00:00Z", false),
            ("2026-06-02T22:30:00.5Z", true),
        ] {
            assert_eq!(is_open(&nightly, at(time)), open, "{time}");
            assert_eq!(is_open(&never_then, at(time)), !open, "{time}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_never_open() {
        let now = at("2026-06-01T23:00:00Z");
        for (bad, duration) in [("not-a-cron", "2h"), ("0 22 * * *", "soon"), ("0 0 30 2 *", "1m"), ("0 22 * * 7", "2h")] {
            assert!(!is_open(&windows(SyncWindowKind::Allow, &[(bad, duration)]), now), "{bad}");
            assert!(is_open(&windows(SyncWindowKind::Deny, &[(bad, duration)]), now), "{bad}");
            assert!(is_open(&windows(SyncWindowKind::Allow, &[(bad, duration), ("0 22 * * *", "2h")]), now), "{bad}");
        }
        assert!(is_open(&windows(SyncWindowKind::Allow, &[]), now));
    }

    /// Golden case refresh-08, and intervals, which count from the time asked about.
    #[test]
    fn windows_that_are_always_or_never_open() {
        let now = at("2026-06-01T23:00:00Z");
        for (schedule, duration, open) in
            [("* * * * *", "1h", true), ("@every 6h", "1h", false), ("@every 1h", "2h", true), ("@every 1h", "1h", true)]
        {
            let one = windows(SyncWindowKind::Allow, &[(schedule, duration)]);
            assert_eq!(is_open(&one, now), open, "{schedule}");
        }
        assert_eq!(next_change(&windows(SyncWindowKind::Allow, &[("@every 6h", "1h")]), now), None);
        assert_eq!(next_change(&windows(SyncWindowKind::Allow, &[("0 0 30 2 *", "1h")]), now), None);
    }

    #[test]
    fn wakes_up_at_the_next_change() {
        let nightly = windows(SyncWindowKind::Allow, &[("0 22 * * *", "2h")]);
        assert_eq!(next_change(&nightly, at("2026-06-01T12:00:00Z")), Some(at("2026-06-01T22:00:00Z")));
        assert_eq!(next_change(&nightly, at("2026-06-01T22:00:00Z")), Some(at("2026-06-02T00:00:00.000000001Z")));
        let meeting = windows(SyncWindowKind::Deny, &[("0 22 * * *", "2h"), ("0 23 * * *", "3h")]);
        assert_eq!(next_change(&meeting, at("2026-06-01T22:10:00Z")), Some(at("2026-06-02T02:00:00.000000001Z")));
    }

    /// Each of these firings closes just after the next one opens: two changes a minute, at which the whole stays open.
    #[test]
    fn looks_at_so_many_changes_and_no_further() {
        let now = at("2026-06-01T12:00:00Z");
        let minutes = |schedule| windows(SyncWindowKind::Allow, &[(schedule, "1m")]);
        let (within, beyond) = (minutes("0-31 12 * * *"), minutes("0-32 12 * * *"));
        let last = at("2026-06-01T12:32:00.000000001Z");
        assert_eq!(next_change(&within, now), Some(last), "the 63rd, which closes the whole");
        assert!(!is_open(&within, last));
        assert_eq!(next_change(&beyond, now), Some(last), "the 64th: it looks again from there");
        assert!(is_open(&beyond, last));
        assert_eq!(next_change(&beyond, last), Some(at("2026-06-01T12:33:00.000000001Z")));
    }

    #[test]
    fn a_duration_without_end_has_one() {
        let now = at("2026-06-01T12:00:00Z");
        for (duration, open, next) in [
            ("1h", true, Some(at("2026-06-01T12:32:00Z"))),
            // the longest of whole hours, and one more
            ("2562047h", true, Some(at("2026-06-01T12:32:00Z"))),
            ("2562048h", false, None),
        ] {
            let one = windows(SyncWindowKind::Allow, &[("* * * * *", duration)]);
            assert_eq!((is_open(&one, now), next_change(&one, now)), (open, next), "{duration}");
        }
    }

    #[test]
    fn each_of_many_windows_counts() {
        let (before, inside) = (at("2026-06-01T12:00:00Z"), at("2026-06-01T23:00:00Z"));
        for others in [63, 64, 300] {
            let mut list = vec![("0 0 1 1 *", "2h"); others];
            list.push(("0 22 * * *", "2h"));
            for (kind, open) in [(SyncWindowKind::Allow, true), (SyncWindowKind::Deny, false)] {
                let many = windows(kind, &list);
                assert_eq!((is_open(&many, before), is_open(&many, inside)), (!open, open), "{others}");
                assert_eq!(next_change(&many, before), Some(at("2026-06-01T22:00:00Z")), "{others}");
            }
        }
    }

    #[test]
    fn looks_at_fewer_changes_of_very_many_windows() {
        let now = at("2026-06-01T12:00:00Z");
        for (many, next) in
            [(64, "2026-06-01T12:32:00.000000001Z"), (128, "2026-06-01T12:16:00.000000001Z"), (5000, "2026-06-01T12:01:00Z")]
        {
            let windows = windows(SyncWindowKind::Allow, &vec![("0-40 12 * * *", "1m"); many]);
            assert_eq!(next_change(&windows, now), Some(at(next)), "{many}");
        }
    }

    proptest! {
        #[test]
        fn nothing_changes_before_the_next_change(
            allow: bool,
            list in prop::collection::vec((prop::sample::select(vec!["0 22 * * *", "*/30 9-17 * * 1-5", "0 0 1 * *", "15 3 * * 0", "bad"]),
                prop::sample::select(vec!["1m", "45m", "2h", "25h"])), 1..4),
            now in 1_700_000_000i64..1_800_000_000,
            part in 0.0f64..1.0,
        ) {
            let now = Timestamp::from_second(now).unwrap();
            let windows = windows(if allow { SyncWindowKind::Allow } else { SyncWindowKind::Deny }, &list);
            if let Some(change) = next_change(&windows, now) {
                prop_assert!(change > now);
                let gap = (change.as_nanosecond() - now.as_nanosecond()) as f64;
                let between = now.as_nanosecond() + (gap * part) as i128;
                let between = Timestamp::from_nanosecond(between.min(change.as_nanosecond() - 1)).unwrap();
                prop_assert_eq!(is_open(&windows, between), is_open(&windows, now));
            }
        }
    }
}
