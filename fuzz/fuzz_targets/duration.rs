//! Any text as a Go duration and as a cron schedule; what is understood is written and read back, and comes round.
#![no_main]

use keyferry::plan::cron::Schedule;
use keyferry::plan::duration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(read) = duration::parse(text) {
        assert_eq!(duration::parse(&duration::format(read)), Ok(read), "{text:?}");
    }
    if let Some(schedule) = Schedule::parse(text) {
        for second in [0, 1_709_164_770, 1_780_344_000] {
            let Ok(after) = jiff::Timestamp::from_second(second) else { continue };
            assert!(schedule.next(after).is_none_or(|next| next > after), "{text:?} after {after}");
        }
    }
});
