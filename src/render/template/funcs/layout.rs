//! Go's layouts: how a time is written by example, and read again.

use jiff::{SignedDuration, civil};

use super::time::{MONTHS, Time, WEEKDAYS, Zone};
use crate::render::template::context::Fault;

/// An element of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    LongMonth,
    ShortMonth,
    Month {
        padded: bool,
    },
    LongWeekday,
    ShortWeekday,
    Day {
        pad: Option<u8>,
    },
    YearDay {
        pad: u8,
    },
    Hour,
    Hour12 {
        padded: bool,
    },
    Minute {
        padded: bool,
    },
    Second {
        padded: bool,
    },
    LongYear,
    ShortYear,
    HalfOfDay {
        capital: bool,
    },
    Abbreviation,
    /// `Z` for UTC; a colon between; how many pairs of digits.
    Offset {
        z: bool,
        colon: bool,
        pairs: usize,
    },
    /// Decimals of a second: all of them, or without zeros at the end.
    Fraction {
        digits: usize,
        all: bool,
        comma: bool,
    },
}

/// Offsets, longest first.
const OFFSETS: &[(&[u8], bool, usize)] =
    &[(b"070000", false, 3), (b"07:00:00", true, 3), (b"0700", false, 2), (b"07:00", true, 2), (b"07", false, 1)];

/// The first element: what stands before it, and after it.
fn next_part(layout: &[u8]) -> Option<(&[u8], Part, &[u8])> {
    (0..layout.len()).find_map(|at| {
        let (part, skip, length) = part_at(&layout[at..])?;
        Some((&layout[..at + skip], part, &layout[at + length..]))
    })
}

/// The element that a text begins with: it, how much of the text is none of it, and its length.
fn part_at(text: &[u8]) -> Option<(Part, usize, usize)> {
    let whole = |part, length| Some((part, 0, length));
    let small_follows = |at: usize| text.get(at).is_some_and(u8::is_ascii_lowercase);
    match text {
        [b'J', b'a', b'n', ..] if text.starts_with(b"January") => whole(Part::LongMonth, 7),
        [b'J', b'a', b'n', ..] if !small_follows(3) => whole(Part::ShortMonth, 3),
        [b'M', b'o', b'n', ..] if text.starts_with(b"Monday") => whole(Part::LongWeekday, 6),
        [b'M', b'o', b'n', ..] if !small_follows(3) => whole(Part::ShortWeekday, 3),
        [b'M', b'S', b'T', ..] => whole(Part::Abbreviation, 3),
        [b'0', b'1', ..] => whole(Part::Month { padded: true }, 2),
        [b'0', b'2', ..] => whole(Part::Day { pad: Some(b'0') }, 2),
        [b'0', b'3', ..] => whole(Part::Hour12 { padded: true }, 2),
        [b'0', b'4', ..] => whole(Part::Minute { padded: true }, 2),
        [b'0', b'5', ..] => whole(Part::Second { padded: true }, 2),
        [b'0', b'6', ..] => whole(Part::ShortYear, 2),
        [b'0', b'0', b'2', ..] => whole(Part::YearDay { pad: b'0' }, 3),
        [b'1', b'5', ..] => whole(Part::Hour, 2),
        [b'1', ..] => whole(Part::Month { padded: false }, 1),
        [b'2', ..] if text.starts_with(b"2006") => whole(Part::LongYear, 4),
        [b'2', ..] => whole(Part::Day { pad: None }, 1),
        [b'_', ..] if text.starts_with(b"_2006") => Some((Part::LongYear, 1, 5)),
        [b'_', b'2', ..] => whole(Part::Day { pad: Some(b' ') }, 2),
        [b'_', b'_', b'2', ..] => whole(Part::YearDay { pad: b' ' }, 3),
        [b'3', ..] => whole(Part::Hour12 { padded: false }, 1),
        [b'4', ..] => whole(Part::Minute { padded: false }, 1),
        [b'5', ..] => whole(Part::Second { padded: false }, 1),
        [b'P', b'M', ..] => whole(Part::HalfOfDay { capital: true }, 2),
        [b'p', b'm', ..] => whole(Part::HalfOfDay { capital: false }, 2),
        [sign @ (b'-' | b'Z'), rest @ ..] => {
            let (text, colon, pairs) = OFFSETS.iter().find(|(text, ..)| rest.starts_with(text))?;
            whole(Part::Offset { z: *sign == b'Z', colon: *colon, pairs: *pairs }, 1 + text.len())
        }
        [point @ (b'.' | b','), digit @ (b'0' | b'9'), ..] => {
            let digits = text[1..].iter().take_while(|b| *b == digit).count();
            let ends = !text.get(1 + digits).is_some_and(u8::is_ascii_digit);
            let part = Part::Fraction { digits, all: *digit == b'0', comma: *point == b',' };
            ends.then_some((part, 0, 1 + digits))
        }
        _ => None,
    }
}

fn number(value: i64, width: usize) -> String {
    if value < 0 { format!("-{:0width$}", value.unsigned_abs()) } else { format!("{value:0width$}") }
}

/// Writes a time.
pub(crate) fn format(time: &Time, layout: &[u8]) -> Vec<u8> {
    let clock = time.clock();
    let civil = clock.civil;
    let padded = |value: i8, padded: bool| number(value.into(), if padded { 2 } else { 1 });
    let month = MONTHS[usize::try_from(civil.month() - 1).unwrap_or(0).min(11)];
    let weekday = WEEKDAYS[usize::try_from(civil.weekday().to_sunday_zero_offset()).unwrap_or(0).min(6)];
    let hour12 = if civil.hour() % 12 == 0 { 12 } else { civil.hour() % 12 };
    let mut out = Vec::new();
    let mut rest = layout;
    while let Some((before, part, after)) = next_part(rest) {
        out.extend_from_slice(before);
        rest = after;
        let text = match part {
            Part::LongMonth => month.to_owned(),
            Part::ShortMonth => month[..3].to_owned(),
            Part::Month { padded: pad } => padded(civil.month(), pad),
            Part::LongWeekday => weekday.to_owned(),
            Part::ShortWeekday => weekday[..3].to_owned(),
            Part::Day { pad } => match pad {
                Some(b' ') => format!("{:2}", civil.day()),
                pad => padded(civil.day(), pad.is_some()),
            },
            Part::YearDay { pad: b'0' } => number(civil.day_of_year().into(), 3),
            Part::YearDay { .. } => format!("{:3}", civil.day_of_year()),
            Part::Hour => padded(civil.hour(), true),
            Part::Hour12 { padded: pad } => padded(hour12, pad),
            Part::Minute { padded: pad } => padded(civil.minute(), pad),
            Part::Second { padded: pad } => padded(civil.second(), pad),
            Part::LongYear => number(civil.year().into(), 4),
            Part::ShortYear => number((civil.year().max(0) % 100).into(), 2),
            Part::HalfOfDay { capital } => match (civil.hour() >= 12, capital) {
                (true, true) => "PM",
                (true, false) => "pm",
                (false, true) => "AM",
                (false, false) => "am",
            }
            .to_owned(),
            Part::Abbreviation if clock.abbreviation.is_empty() => offset(clock.offset, false, 2),
            Part::Abbreviation => clock.abbreviation.clone(),
            Part::Offset { z: true, .. } if clock.offset == 0 => "Z".to_owned(),
            Part::Offset { colon, pairs, .. } => offset(clock.offset, colon, pairs),
            Part::Fraction { digits, all, comma } => fraction(civil.subsec_nanosecond(), digits, all, comma),
        };
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(rest);
    out
}

/// `-0700` and its like.
fn offset(seconds: i32, colon: bool, pairs: usize) -> String {
    let size = seconds.unsigned_abs();
    let all = [size / 3600, size / 60 % 60, size % 60].map(|number| format!("{number:02}"));
    format!("{}{}", if seconds < 0 { '-' } else { '+' }, all[..pairs].join(if colon { ":" } else { "" }))
}

fn fraction(nanoseconds: i32, digits: usize, all: bool, comma: bool) -> String {
    let text = format!("{nanoseconds:09}");
    let shown = &text[..digits.min(9)];
    let shown = if all { shown } else { shown.trim_end_matches('0') };
    if shown.is_empty() { String::new() } else { format!("{}{shown}", if comma { ',' } else { '.' }) }
}

/// What was read so far.
#[derive(Default)]
struct Reading {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanosecond: i64,
    afternoon: Option<bool>,
    offset: Option<i64>,
    utc: bool,
    abbreviation: String,
}

/// Why a text gives no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It does not fit, or names a day that is none.
    Text,
    /// In UTC that is not in the years that are known, which end with 9999.
    Range,
}

impl From<Unread> for Fault {
    fn from(why: Unread) -> Self {
        match why {
            Unread::Text => "the text is no date of that layout".into(),
            Unread::Range => "the time is out of range".into(),
        }
    }
}

/// Reads a time; where it says no zone, it is UTC.
pub(crate) fn parse(layout: &[u8], text: &[u8]) -> Result<Time, Unread> {
    reading(layout, text).ok_or(Unread::Text)?.time()
}

fn reading(layout: &[u8], text: &[u8]) -> Option<Reading> {
    let mut reading = Reading::default();
    let (mut layout, mut text) = (layout, text);
    while let Some((before, part, after)) = next_part(layout) {
        text = skip(text, before)?;
        layout = after;
        text = read(&mut reading, part, text, layout)?;
    }
    skip(text, layout)?.is_empty().then_some(reading)
}

/// Takes literal text off; a space stands for any number of them.
fn skip<'t>(mut text: &'t [u8], mut literal: &[u8]) -> Option<&'t [u8]> {
    while let Some((first, rest)) = literal.split_first() {
        if *first == b' ' {
            if text.first().is_some_and(|b| *b != b' ') {
                return None;
            }
            literal = literal.trim_ascii_start_spaces();
            text = text.trim_ascii_start_spaces();
            continue;
        }
        text = text.strip_prefix(&[*first])?;
        literal = rest;
    }
    Some(text)
}

trait Spaces {
    fn trim_ascii_start_spaces(&self) -> &[u8];
}

impl Spaces for [u8] {
    fn trim_ascii_start_spaces(&self) -> &[u8] {
        &self[self.iter().take_while(|b| **b == b' ').count()..]
    }
}

/// One or two digits, or exactly two.
fn digits(text: &[u8], exact: bool) -> Option<(i64, &[u8])> {
    let count = text.iter().take(2).take_while(|b| b.is_ascii_digit()).count();
    if count == 0 || (exact && count == 1) { None } else { Some((value(&text[..count])?, &text[count..])) }
}

/// The number that digits stand for.
fn value(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok().filter(|_| digits.iter().all(u8::is_ascii_digit))
}

fn within(found: Option<(i64, &[u8])>, low: i64, high: i64) -> Option<(i64, &[u8])> {
    found.filter(|(number, _)| (low..=high).contains(number))
}

/// Which name a text begins with, whatever its letters' case.
fn name<'t>(names: &[&str], length: Option<usize>, text: &'t [u8]) -> Option<(i64, &'t [u8])> {
    names.iter().zip(0..).find_map(|(name, index)| {
        let name = &name.as_bytes()[..length.unwrap_or(name.len())];
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| (index, &text[name.len()..]))
    })
}

fn read<'t>(reading: &mut Reading, part: Part, text: &'t [u8], layout: &[u8]) -> Option<&'t [u8]> {
    let rest;
    match part {
        Part::LongYear => {
            reading.year = value(text.get(..4)?)?;
            rest = &text[4..];
        }
        Part::ShortYear => {
            let year = value(text.get(..2)?)?;
            reading.year = year + if year >= 69 { 1900 } else { 2000 };
            rest = &text[2..];
        }
        Part::LongMonth | Part::ShortMonth => {
            let (index, after) = name(&MONTHS, (part == Part::ShortMonth).then_some(3), text)?;
            (reading.month, rest) = (Some(index + 1), after);
        }
        Part::Month { padded } => {
            let (month, after) = within(digits(text, padded), 1, 12)?;
            (reading.month, rest) = (Some(month), after);
        }
        Part::LongWeekday | Part::ShortWeekday => {
            (_, rest) = name(&WEEKDAYS, (part == Part::ShortWeekday).then_some(3), text)?;
        }
        Part::Day { pad } => {
            let text = if pad == Some(b' ') { text.strip_prefix(b" ").unwrap_or(text) } else { text };
            let (day, after) = digits(text, pad == Some(b'0'))?;
            (reading.day, rest) = (Some(day), after);
        }
        Part::YearDay { pad } => {
            let blank = if pad == b' ' { text.iter().take(2).take_while(|b| **b == b' ').count() } else { 0 };
            let text = &text[blank..];
            let count = text.iter().take(3).take_while(|b| b.is_ascii_digit()).count();
            if count == 0 || (pad == b'0' && count < 3) {
                return None;
            }
            (reading.year_day, rest) = (Some(value(&text[..count])?), &text[count..]);
        }
        Part::Hour => (reading.hour, rest) = within(digits(text, false), 0, 23)?,
        Part::Hour12 { padded } => (reading.hour, rest) = within(digits(text, padded), 0, 12)?,
        Part::Minute { padded } => (reading.minute, rest) = within(digits(text, padded), 0, 59)?,
        Part::Second { padded } => {
            let (second, after) = within(digits(text, padded), 0, 59)?;
            reading.second = second;
            // Decimals may follow even where the layout has none.
            let expected = matches!(next_part(layout), Some((b"", Part::Fraction { .. }, _)));
            rest = if expected { after } else { decimals(reading, after, None) };
        }
        Part::HalfOfDay { capital } => {
            let half = text.get(..2)?;
            reading.afternoon = match (half, capital) {
                (b"PM", true) | (b"pm", false) => Some(true),
                (b"AM", true) | (b"am", false) => Some(false),
                _ => return None,
            };
            rest = &text[2..];
        }
        Part::Offset { z: true, .. } if text.first() == Some(&b'Z') => {
            reading.utc = true;
            rest = &text[1..];
        }
        Part::Offset { colon, pairs, .. } => (reading.offset, rest) = read_offset(text, colon, pairs)?,
        Part::Abbreviation if text.starts_with(b"UTC") => {
            reading.utc = true;
            rest = &text[3..];
        }
        Part::Abbreviation => {
            let length = abbreviation(text)?;
            reading.abbreviation = String::from_utf8_lossy(&text[..length]).into_owned();
            rest = &text[length..];
        }
        Part::Fraction { digits, all: true, .. } => {
            let head = text.get(..=digits).filter(|head| matches!(head[0], b'.' | b','))?;
            value(&head[1..])?;
            rest = decimals(reading, text, Some(digits));
        }
        Part::Fraction { .. } => rest = decimals(reading, text, None),
    }
    Some(rest)
}

/// Reads decimals of a second, if there are any.
fn decimals<'t>(reading: &mut Reading, text: &'t [u8], count: Option<usize>) -> &'t [u8] {
    let [b'.' | b',', rest @ ..] = text else { return text };
    let count = count.unwrap_or_else(|| rest.iter().take_while(|b| b.is_ascii_digit()).count());
    if count == 0 {
        return text;
    }
    let mut nine = rest[..count.min(9)].to_vec();
    nine.resize(9, b'0');
    reading.nanosecond = value(&nine).unwrap_or(0);
    &rest[count..]
}

fn read_offset(text: &[u8], colon: bool, pairs: usize) -> Option<(Option<i64>, &[u8])> {
    let sign = match text.first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let mut rest = &text[1..];
    let mut seconds = 0;
    for (i, unit) in [3600, 60, 1].into_iter().enumerate().take(pairs) {
        if colon && i > 0 {
            rest = rest.strip_prefix(b":")?;
        }
        let number = value(rest.get(..2)?)?;
        if number > if i == 0 { 24 } else { 59 } {
            return None;
        }
        seconds += number * unit;
        rest = &rest[2..];
    }
    Some((Some(sign * seconds), rest))
}

/// Length of what looks like the abbreviation of a zone.
fn abbreviation(text: &[u8]) -> Option<usize> {
    if text.len() < 3 {
        return None;
    }
    if text.starts_with(b"ChST") || text.starts_with(b"MeST") {
        return Some(4);
    }
    if text.starts_with(b"GMT") {
        return Some(3 + signed_offset(&text[3..]).unwrap_or(0));
    }
    if matches!(text[0], b'+' | b'-') {
        return signed_offset(text);
    }
    let capitals = text.iter().take(6).take_while(|b| b.is_ascii_uppercase()).count();
    match capitals {
        3 => Some(3),
        4 if text[3] == b'T' || text.starts_with(b"WITA") => Some(4),
        5 if text[4] == b'T' => Some(5),
        _ => None,
    }
}

fn signed_offset(text: &[u8]) -> Option<usize> {
    if !matches!(text.first()?, b'+' | b'-') {
        return None;
    }
    let count = text[1..].iter().take_while(|b| b.is_ascii_digit()).count();
    // the whole is taken for the zone's name, and printed as often as a layout asks
    if count > 4 {
        return None;
    }
    value(&text[1..=count]).filter(|hours| *hours < 24).map(|_| count + 1)
}

impl Reading {
    /// What the clock shows that was read.
    fn civil(&self) -> Option<civil::DateTime> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let year = i16::try_from(self.year).ok()?;
        let date = match self.year_day {
            Some(day) => {
                let first = civil::Date::new(year, 1, 1).ok()?;
                let last = if first.in_leap_year() { 366 } else { 365 };
                let offset = i32::try_from(day - 1).ok().filter(|_| (1..=last).contains(&day))?;
                let date = first.checked_add(jiff::Span::new().days(offset)).ok()?;
                let fits = |read: Option<i64>, is: i8| read.is_none_or(|read| read == i64::from(is));
                Some(date).filter(|date| fits(self.month, date.month()) && fits(self.day, date.day()))?
            }
            None => {
                let small = |number: Option<i64>| i8::try_from(number.unwrap_or(1)).ok();
                civil::Date::new(year, small(self.month)?, small(self.day)?).ok()?
            }
        };
        let small = |number: i64| i8::try_from(number).ok();
        let clock =
            civil::Time::new(small(hour)?, small(self.minute)?, small(self.second)?, i32::try_from(self.nanosecond).ok()?)
                .ok()?;
        Some(date.to_datetime(clock))
    }

    fn time(self) -> Result<Time, Unread> {
        let at = self.civil().ok_or(Unread::Text)?;
        if self.utc {
            return Ok(Time::utc(at));
        }
        if let Some(offset) = self.offset {
            let at = at.checked_sub(SignedDuration::from_secs(offset)).map_err(|_| Unread::Range)?;
            let named = !matches!(self.abbreviation.as_str(), "" | "UTC");
            let seconds = i32::try_from(offset).map_err(|_| Unread::Range)?;
            let zone = if offset == 0 && !named { Zone::Utc } else { Zone::Fixed(seconds, self.abbreviation) };
            return Ok(Time { at, zone });
        }
        if self.abbreviation.is_empty() {
            return Ok(Time::utc(at));
        }
        let hours: i32 = self.abbreviation.strip_prefix("GMT").and_then(|hours| hours.parse().ok()).unwrap_or(0);
        Ok(Time { at, zone: Zone::Fixed(hours * 3600, self.abbreviation) })
    }
}
