//! Methods that values have in Go: times, durations, versions.

use jiff::SignedDuration;

use super::Type::{Duration, Int, Str, Time as Moment, Version as Semver};
use super::date::{between, moment};
use super::semver::Version;
use super::time::{Time, Zone};
use super::{Function, any, fixed, int, layout, text};
use crate::render::template::context::{Answer, Fault};
use crate::render::template::go::print;
use crate::render::template::value::{Value, Whole};

/// The method of that name, if the value has it. The value is its first argument.
pub(crate) fn find(value: &Value, name: &str) -> Option<&'static Function> {
    let table = match value {
        Value::Time(_) => TIME,
        Value::Version(_) => VERSION,
        Value::Whole(Whole::Duration, _) => DURATION,
        Value::Whole(Whole::Month | Whole::Weekday, _) => NAMED,
        _ => return None,
    };
    table.iter().find(|method| method.name == name)
}

const NAMED: &[Function] = &[fixed("String", &[], |_, args| own_text(args))];

fn own_text(args: &[Value]) -> Answer {
    Ok(Value::text(&print::own_text(any(args, 0)).unwrap_or_default()))
}

fn time(args: &[Value], index: usize) -> Result<&Time, Fault> {
    match any(args, index) {
        Value::Time(time) => Ok(time),
        other => Err(format!("a time is needed, not {}", other.type_name())),
    }
}

/// A part of what the clock shows.
fn civil(args: &[Value], part: fn(jiff::civil::DateTime) -> i64) -> Answer {
    Ok(Value::int(part(time(args, 0)?.clock().civil)))
}

fn unix(args: &[Value], unit: i128) -> Answer {
    let number = time(args, 0)?.nanoseconds().div_euclid(unit);
    i64::try_from(number).map(Value::int64).map_err(|_| "the time is out of range".into())
}

const TIME: &[Function] = &[
    fixed("String", &[], |_, args| own_text(args)),
    fixed("Format", &[Str], |cx, args| {
        cx.reserve(text(args, 1).len().saturating_mul(4))?;
        Ok(Value::bytes(layout::format(time(args, 0)?, text(args, 1))))
    }),
    fixed("Year", &[], |_, args| civil(args, |civil| civil.year().into())),
    fixed("Month", &[], |_, args| Ok(Value::Whole(Whole::Month, time(args, 0)?.clock().civil.month().into()))),
    fixed("Day", &[], |_, args| civil(args, |civil| civil.day().into())),
    fixed("Hour", &[], |_, args| civil(args, |civil| civil.hour().into())),
    fixed("Minute", &[], |_, args| civil(args, |civil| civil.minute().into())),
    fixed("Second", &[], |_, args| civil(args, |civil| civil.second().into())),
    fixed("Nanosecond", &[], |_, args| civil(args, |civil| civil.subsec_nanosecond().into())),
    fixed("YearDay", &[], |_, args| civil(args, |civil| civil.day_of_year().into())),
    fixed("Weekday", &[], |_, args| {
        let day = time(args, 0)?.clock().civil.weekday();
        Ok(Value::Whole(Whole::Weekday, day.to_sunday_zero_offset().into()))
    }),
    fixed("Unix", &[], |_, args| unix(args, 1_000_000_000)),
    fixed("UnixMilli", &[], |_, args| unix(args, 1_000_000)),
    fixed("UnixMicro", &[], |_, args| unix(args, 1_000)),
    fixed("UnixNano", &[], |_, args| unix(args, 1)),
    fixed("UTC", &[], |_, args| Ok(moment(time(args, 0)?.in_zone(Zone::Utc)))),
    fixed("Local", &[], |_, args| Ok(moment(time(args, 0)?.in_zone(Zone::Utc)))),
    fixed("IsZero", &[], |_, args| Ok(Value::Bool(time(args, 0)?.at == Time::zero().at))),
    fixed("After", &[Moment], |_, args| Ok(Value::Bool(time(args, 0)?.at > time(args, 1)?.at))),
    fixed("Before", &[Moment], |_, args| Ok(Value::Bool(time(args, 0)?.at < time(args, 1)?.at))),
    fixed("Equal", &[Moment], |_, args| Ok(Value::Bool(time(args, 0)?.at == time(args, 1)?.at))),
    fixed("Compare", &[Moment], |_, args| Ok(Value::int(time(args, 0)?.at.cmp(&time(args, 1)?.at) as i64))),
    fixed("Sub", &[Moment], |_, args| Ok(Value::Whole(Whole::Duration, between(time(args, 1)?, time(args, 0)?)))),
    fixed("Add", &[Duration], |_, args| {
        let sum = time(args, 0)?.plus(SignedDuration::from_nanos(int(args, 1)));
        sum.map(moment).ok_or_else(|| "the time is out of range".into())
    }),
    fixed("AddDate", &[Int, Int, Int], |_, args| add_date(time(args, 0)?, [int(args, 1), int(args, 2), int(args, 3)])),
];

/// Years, months and days later. A day that a month does not have runs over into the next, as in Go.
fn add_date(time: &Time, [years, months, days]: [i64; 3]) -> Answer {
    let out_of_range = || "the time is out of range".to_owned();
    let clock = time.clock();
    let count = i64::from(clock.civil.year())
        .checked_add(years)
        .and_then(|years| years.checked_mul(12))
        .and_then(|all| all.checked_add(i64::from(clock.civil.month()) - 1))
        .and_then(|all| all.checked_add(months))
        .ok_or_else(out_of_range)?;
    let year = i16::try_from(count.div_euclid(12)).map_err(|_| out_of_range())?;
    let month = i8::try_from(count.rem_euclid(12) + 1).map_err(|_| out_of_range())?;
    let first = jiff::civil::Date::new(year, month, 1).map_err(|_| out_of_range())?;
    let days = days.checked_add(i64::from(clock.civil.day()) - 1).and_then(|days| i32::try_from(days).ok());
    let span = jiff::Span::new().try_days(days.ok_or_else(out_of_range)?).map_err(|_| out_of_range())?;
    let civil = first.checked_add(span).map_err(|_| out_of_range())?.to_datetime(clock.civil.time());
    let at = match &time.zone {
        Zone::Utc => Ok(civil),
        Zone::Named(zone) => zone.to_timestamp(civil).map(|at| Time::of(at).at),
        Zone::Fixed(seconds, _) => civil.checked_sub(SignedDuration::from_secs((*seconds).into())),
    };
    Ok(moment(Time { at: at.map_err(|_| out_of_range())?, zone: time.zone.clone() }))
}

/// A duration in some unit, as a decimal number.
#[allow(clippy::cast_precision_loss)]
fn in_units(args: &[Value], unit: i64) -> Answer {
    let nanoseconds = int(args, 0);
    Ok(Value::Float((nanoseconds / unit) as f64 + (nanoseconds % unit) as f64 / unit as f64))
}

const DURATION: &[Function] = &[
    fixed("String", &[], |_, args| own_text(args)),
    fixed("Hours", &[], |_, args| in_units(args, 3_600_000_000_000)),
    fixed("Minutes", &[], |_, args| in_units(args, 60_000_000_000)),
    fixed("Seconds", &[], |_, args| in_units(args, 1_000_000_000)),
    fixed("Milliseconds", &[], |_, args| Ok(Value::int64(int(args, 0) / 1_000_000))),
    fixed("Microseconds", &[], |_, args| Ok(Value::int64(int(args, 0) / 1_000))),
    fixed("Nanoseconds", &[], |_, args| Ok(Value::int64(int(args, 0)))),
    fixed("Abs", &[], |_, args| Ok(Value::Whole(Whole::Duration, int(args, 0).saturating_abs()))),
];

fn version(args: &[Value], index: usize) -> Result<&Version, Fault> {
    match any(args, index) {
        Value::Version(version) => Ok(version),
        _ => Err("invalid memory address or nil pointer dereference".into()),
    }
}

#[allow(clippy::cast_possible_wrap, clippy::unnecessary_wraps)]
fn unsigned(number: u64) -> Answer {
    Ok(Value::Whole(Whole::Uint64, number as i64))
}

fn order(args: &[Value]) -> Result<std::cmp::Ordering, Fault> {
    Ok(version(args, 0)?.compare(version(args, 1)?))
}

/// A version that is changed.
fn changed(args: &[Value], change: impl FnOnce(&mut Version)) -> Answer {
    let mut new = version(args, 0)?.clone();
    let prefix = if new.original.starts_with('v') { "v" } else { "" };
    change(&mut new);
    new.original = format!("{prefix}{new}");
    Ok(Value::Version(std::rc::Rc::new(new)))
}

const VERSION: &[Function] = &[
    fixed("String", &[], |_, args| own_text(args)),
    fixed("Original", &[], |_, args| Ok(Value::text(&version(args, 0)?.original))),
    fixed("Major", &[], |_, args| unsigned(version(args, 0)?.major)),
    fixed("Minor", &[], |_, args| unsigned(version(args, 0)?.minor)),
    fixed("Patch", &[], |_, args| unsigned(version(args, 0)?.patch)),
    fixed("Prerelease", &[], |_, args| Ok(Value::text(&version(args, 0)?.pre))),
    fixed("Metadata", &[], |_, args| Ok(Value::text(&version(args, 0)?.metadata))),
    fixed("Compare", &[Semver], |_, args| Ok(Value::int(order(args)? as i64))),
    fixed("Equal", &[Semver], |_, args| Ok(Value::Bool(order(args)?.is_eq()))),
    fixed("LessThan", &[Semver], |_, args| Ok(Value::Bool(order(args)?.is_lt()))),
    fixed("LessThanEqual", &[Semver], |_, args| Ok(Value::Bool(order(args)?.is_le()))),
    fixed("GreaterThan", &[Semver], |_, args| Ok(Value::Bool(order(args)?.is_gt()))),
    fixed("GreaterThanEqual", &[Semver], |_, args| Ok(Value::Bool(order(args)?.is_ge()))),
    fixed("IncPatch", &[], |_, args| {
        changed(args, |v| {
            // What comes before a release becomes the release.
            if v.pre.is_empty() {
                v.patch = v.patch.wrapping_add(1);
            }
            (v.pre, v.metadata) = Default::default();
        })
    }),
    fixed("IncMinor", &[], |_, args| {
        changed(args, |v| {
            (v.minor, v.patch) = (v.minor.wrapping_add(1), 0);
            (v.pre, v.metadata) = Default::default();
        })
    }),
    fixed("IncMajor", &[], |_, args| {
        changed(args, |v| {
            (v.major, v.minor, v.patch) = (v.major.wrapping_add(1), 0, 0);
            (v.pre, v.metadata) = Default::default();
        })
    }),
];
