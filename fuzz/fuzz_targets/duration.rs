//! One line as a Go duration and as a cron schedule: what is understood is written and read back, and comes round. More lines as sync
//! windows: `allow` or `deny` and a time in seconds, then `schedule|duration` each.
#![no_main]

use jiff::{SignedDuration, Timestamp};
use keyferry::api::external_secret::{SyncWindow, SyncWindowKind, SyncWindows};
use keyferry::plan::cron::Schedule;
use keyferry::plan::{duration, windows};
use keyferry_fuzz::grown_text;
use libfuzzer_sys::fuzz_target;

/// The longest duration that there is.
const LONGEST: &str = "-2562047h47m16.854775808s";

/// Seconds in which the next time is looked for.
const YEARS: i64 = 6 * 366 * 86_400;

fuzz_target!(|data: &[u8]| {
    let Some(text) = grown_text(data) else { return };
    match text.split_once('\n') {
        Some((head, lines)) => sync_windows(head, lines),
        None => {
            one_duration(&text);
            one_schedule(&text);
        }
    }
});

fn one_duration(text: &str) {
    let Ok(read) = duration::parse(text) else { return };
    let printed = duration::format(read);
    assert!(printed.len() <= LONGEST.len(), "{text:?} is printed as {printed}");
    assert_eq!(duration::parse(&printed), Ok(read), "{text:?}");
}

fn one_schedule(text: &str) {
    let Some(schedule) = Schedule::parse(text) else { return };
    let is_calendar = matches!(schedule, Schedule::Calendar(_));
    let starts = [0, 1_709_164_770, 1_780_344_000].map(|second| Timestamp::from_second(second).unwrap_or_default());
    for start in starts.into_iter().chain([Timestamp::MIN, Timestamp::MAX]) {
        let mut after = start;
        for _ in 0..8 {
            let Some(next) = schedule.next(after) else { break };
            assert!(next > after, "{text:?} after {after}");
            let gap = next.as_second() - after.as_second();
            assert!(!is_calendar || gap <= YEARS, "{text:?} after {after}: {gap} seconds");
            after = next;
        }
    }
}

fn sync_windows(head: &str, lines: &str) {
    let (kind, now) = head.split_once(' ').unwrap_or((head, ""));
    let kind = if kind == "deny" { SyncWindowKind::Deny } else { SyncWindowKind::Allow };
    let now = now.parse::<i64>().unwrap_or(1_709_164_770).clamp(1_000_000_000, 3_000_000_000);
    let Ok(now) = Timestamp::from_second(now) else { return };
    let window = |line: &str| {
        let (schedule, duration) = line.split_once('|').unwrap_or((line, "1h"));
        SyncWindow { schedule: schedule.to_owned(), duration: duration.to_owned() }
    };
    let set = SyncWindows { kind, windows: lines.split('\n').map(window).collect() };
    let open = windows::is_open(&set, now);
    let Some(change) = windows::next_change(&set, now) else { return };
    assert!(change > now, "{lines:?} at {now}");
    let Ok(before) = change.checked_sub(SignedDuration::from_nanos(1)) else { return };
    if set.windows.iter().all(is_exact) {
        assert_eq!(windows::is_open(&set, before), open, "{lines:?} between {now} and {change}");
    }
}

/// Not those that count from the time that is asked about, nor those so long that firings lie further apart than one looks: of the
/// 29th of February, around a year without.
fn is_exact(window: &SyncWindow) -> bool {
    let is_short = |duration: SignedDuration| duration <= SignedDuration::from_hours(8_784);
    !window.schedule.starts_with("@every") && duration::parse(&window.duration).ok().is_none_or(is_short)
}
