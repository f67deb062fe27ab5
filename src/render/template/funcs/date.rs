//! Dates.

use jiff::SignedDuration;

use super::Type::{Any, Str, Time as Moment};
use super::layout::{self, Unread};
use super::time::{self, Time, Zone};
use super::{Function, any, fixed, text};
use crate::plan::duration;
use crate::render::template::context::{Answer, Context, Fault};
use crate::render::template::go::int::{self, NotInt};
use crate::render::template::value::{Value, Whole};

pub(crate) const FUNCTIONS: &[Function] = &[
    fixed("now", &[], |cx, _| Ok(moment(Time::of(cx.now)))),
    fixed("ago", &[Any], |cx, args| {
        let since = since(cx, &time_of(cx, any(args, 0))?);
        Ok(Value::text(&time::duration(rounded_to_seconds(since))))
    }),
    fixed("date", &[Str, Any], |cx, args| shown(cx, text(args, 0), any(args, 1), b"Local")),
    fixed("dateInZone", &[Str, Any, Str], |cx, args| shown(cx, text(args, 0), any(args, 1), text(args, 2))),
    fixed("date_in_zone", &[Str, Any, Str], |cx, args| shown(cx, text(args, 0), any(args, 1), text(args, 2))),
    fixed("htmlDate", &[Any], |cx, args| shown(cx, b"2006-01-02", any(args, 0), b"Local")),
    fixed("htmlDateInZone", &[Any, Str], |cx, args| shown(cx, b"2006-01-02", any(args, 0), text(args, 1))),
    fixed("dateModify", &[Str, Moment], modify),
    fixed("date_modify", &[Str, Moment], modify),
    fixed("mustDateModify", &[Str, Moment], must_modify),
    fixed("must_date_modify", &[Str, Moment], must_modify),
    fixed("toDate", &[Str, Str], |_, args| match layout::parse(text(args, 0), text(args, 1)) {
        Err(Unread::Text) => Ok(moment(Time::zero())),
        read => Ok(moment(read?)),
    }),
    fixed("mustToDate", &[Str, Str], |_, args| Ok(moment(layout::parse(text(args, 0), text(args, 1))?))),
    fixed("unixEpoch", &[Moment], |_, args| match any(args, 0) {
        Value::Time(time) => Ok(Value::text(&time.nanoseconds().div_euclid(1_000_000_000).to_string())),
        other => Err(format!("a time is needed, not {}", other.type_name())),
    }),
    fixed("duration", &[Any], |_, args| {
        let seconds = match any(args, 0) {
            Value::Str(text) => match int::parse(text.bytes(), 10) {
                Ok(number) | Err(NotInt::Range(number)) => number,
                Err(NotInt::Syntax) => 0,
            },
            Value::Whole(Whole::Int64, number) => *number,
            _ => 0,
        };
        Ok(Value::text(&time::duration(seconds.wrapping_mul(1_000_000_000))))
    }),
    fixed("durationRound", &[Any], |cx, args| {
        let nanoseconds = match any(args, 0) {
            Value::Str(text) => parse(text.bytes()).unwrap_or(0),
            Value::Whole(Whole::Int64, number) => *number,
            Value::Time(time) => since(cx, time),
            _ => 0,
        };
        Ok(Value::text(&rough(nanoseconds.unsigned_abs())))
    }),
];

pub(crate) fn moment(time: Time) -> Value {
    Value::Time(std::rc::Rc::new(time))
}

/// A duration in nanoseconds.
pub(crate) fn parse(text: &[u8]) -> Option<i64> {
    let parsed = duration::parse(std::str::from_utf8(text).ok()?).ok()?;
    i64::try_from(parsed.as_nanos()).ok()
}

/// The time since, in nanoseconds, as far as they reach.
fn since(cx: &Context<'_>, time: &Time) -> i64 {
    between(time, &Time::of(cx.now))
}

pub(crate) fn between(from: &Time, to: &Time) -> i64 {
    let nanoseconds = to.nanoseconds() - from.nanoseconds();
    i64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { i64::MIN } else { i64::MAX })
}

fn rounded_to_seconds(nanoseconds: i64) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    let rest = nanoseconds % SECOND;
    let whole = nanoseconds - rest;
    if rest.abs() * 2 < SECOND { whole } else { whole.saturating_add(SECOND * rest.signum()) }
}

/// The largest unit alone.
fn rough(nanoseconds: u64) -> String {
    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = 86_400 * SECOND;
    let units = [(DAY * 365, "y"), (DAY * 30, "mo"), (DAY, "d"), (3600 * SECOND, "h"), (60 * SECOND, "m"), (SECOND, "s")];
    let found = units.into_iter().find(|(unit, _)| nanoseconds > *unit);
    found.map_or_else(|| "0s".to_owned(), |(unit, name)| format!("{}{name}", nanoseconds / unit))
}

/// A time, or seconds since 1970; now where it is something else.
fn time_of(cx: &Context<'_>, value: &Value) -> Result<Time, Fault> {
    match value {
        Value::Time(time) => Ok(Time::clone(time)),
        Value::Whole(Whole::Int | Whole::Int64, seconds) => at(*seconds),
        _ => Ok(Time::of(cx.now)),
    }
}

fn at(seconds: i64) -> Result<Time, Fault> {
    Time::from_seconds(seconds).ok_or_else(|| Unread::Range.into())
}

fn shown(cx: &Context<'_>, layout: &[u8], date: &Value, zone: &[u8]) -> Answer {
    let time = time_of(cx, date)?.in_zone(time::zone(zone).unwrap_or(Zone::Utc));
    cx.reserve(layout.len().saturating_mul(4))?;
    Ok(Value::bytes(layout::format(&time, layout)))
}

fn moved(args: &[Value], by: i64) -> Answer {
    match any(args, 1) {
        Value::Time(time) => time.plus(SignedDuration::from_nanos(by)).map(moment).ok_or_else(|| Unread::Range.into()),
        other => Err(format!("a time is needed, not {}", other.type_name())),
    }
}

fn modify(_: &Context<'_>, args: &[Value]) -> Answer {
    parse(text(args, 0)).map_or_else(|| Ok(any(args, 1).clone()), |by| moved(args, by))
}

fn must_modify(_: &Context<'_>, args: &[Value]) -> Answer {
    moved(args, parse(text(args, 0)).ok_or("the text is no duration")?)
}
