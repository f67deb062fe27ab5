//! Cron schedules as ESO reads them, with robfig/cron's five fields and descriptors, in UTC.
//!
//! Other dialects read the same text differently (`7` as Sunday, `L`, `5/15`, whether `*/2` counts as a star when both days are
//! given), so this is the dialect itself and not a library of another one.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::duration;

/// When something happens again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// At times of the calendar.
    Calendar(Calendar),
    /// A fixed time after whatever time one asks from: whole seconds, at least one.
    Every(SignedDuration),
}

/// Times of the calendar: a bit for each value that fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    minutes: u64,
    hours: u64,
    days: Days,
    months: u64,
}

/// Days that fit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Days {
    of_month: u64,
    of_week: u64,
    /// Whether both must fit: one of the fields was a star. Else either is enough.
    both: bool,
}

/// A field: its least and greatest value, and its names from the least on.
struct Field {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Field = Field { min: 0, max: 59, names: &[] };
const HOURS: Field = Field { min: 0, max: 23, names: &[] };
const DAYS_OF_MONTH: Field = Field { min: 1, max: 31, names: &[] };
const MONTHS: Field =
    Field { min: 1, max: 12, names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"] };
const DAYS_OF_WEEK: Field = Field { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// Years that are searched for the next time, as in robfig/cron.
const YEARS: i16 = 5;

impl Schedule {
    /// Reads a schedule. None: it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(interval) = text.strip_prefix("@every ") {
            let whole = duration::parse(interval).ok()?.as_secs().max(1);
            return Some(Self::Every(SignedDuration::from_secs(whole)));
        }
        let fields = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => text,
        };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let [minutes, hours, of_month, months, of_week] = fields.as_slice() else { return None };
        let (of_month, any_day_of_month) = DAYS_OF_MONTH.parse(of_month)?;
        let (of_week, any_day_of_week) = DAYS_OF_WEEK.parse(of_week)?;
        Some(Self::Calendar(Calendar {
            minutes: MINUTES.parse(minutes)?.0,
            hours: HOURS.parse(hours)?.0,
            days: Days { of_month, of_week, both: any_day_of_month || any_day_of_week },
            months: MONTHS.parse(months)?.0,
        }))
    }

    /// The first time after another one. None: there is none in the next five years.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(interval) => Timestamp::from_second(after.as_second()).ok()?.checked_add(*interval).ok(),
            Self::Calendar(calendar) => calendar.next(after),
        }
    }
}

impl Calendar {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = after.to_zoned(TimeZone::UTC);
        let today = after.date();
        let minute_of_day = u32::try_from(i32::from(after.hour()) * 60 + i32::from(after.minute())).ok()?;
        let last_year = today.year().checked_add(YEARS)?;
        let (mut day, mut from) = (today, minute_of_day + 1);
        while day.year() <= last_year {
            if !has(self.months, day.month()) {
                day = day.first_of_month().checked_add(1.month()).ok()?;
            } else if !self.days.fit(day) {
                day = day.tomorrow().ok()?;
            } else if let Some(minute) = self.minute(from) {
                let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
                return Some(day.at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).ok()?.timestamp());
            } else {
                day = day.tomorrow().ok()?;
            }
            from = 0;
        }
        None
    }

    /// The first minute of a day that fits, at or after another one.
    fn minute(&self, from: u32) -> Option<u32> {
        (from..24 * 60).find(|minute| self.hours >> (minute / 60) & 1 == 1 && self.minutes >> (minute % 60) & 1 == 1)
    }
}

impl Days {
    fn fit(&self, day: Date) -> bool {
        let of_month = has(self.of_month, day.day());
        let of_week = has(self.of_week, day.weekday().to_sunday_zero_offset());
        if self.both { of_month && of_week } else { of_month || of_week }
    }
}

fn has(bits: u64, value: i8) -> bool {
    bits >> value & 1 == 1
}

impl Field {
    /// A list of ranges: the values that fit, and whether there is a star (or `?`) without a step among them.
    fn parse(&self, text: &str) -> Option<(u64, bool)> {
        let mut ranges = text.split(',').filter(|range| !range.is_empty()).map(|range| self.range(range));
        ranges.try_fold((0, false), |(bits, star), range| range.map(|(more, is_star)| (bits | more, star || is_star)))
    }

    /// `5`, `1-5`, `*`, each with `/step`; `5/15` goes up to the greatest value.
    fn range(&self, text: &str) -> Option<(u64, bool)> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(number(step)?)),
            None => (text, None),
        };
        let (low, high) = range.split_once('-').map_or((range, None), |(low, high)| (low, Some(high)));
        let is_star = matches!(low, "*" | "?");
        // The end of a range that starts with a star is not looked at, as long as there is but one.
        let (start, end) = match (is_star, high) {
            (true, _) => (self.min, self.max),
            (false, Some(high)) => (self.value(low)?, self.value(high)?),
            (false, None) if step.is_some() => (self.value(low)?, self.max),
            (false, None) => (self.value(low)?, self.value(low)?),
        };
        let width = step.unwrap_or(1);
        if start < self.min || end > self.max || start > end || width == 0 {
            return None;
        }
        let bits = (start..=end).step_by(usize::try_from(width).ok()?).fold(0, |bits, value| bits | 1 << value);
        Some((bits, is_star && width == 1))
    }

    fn value(&self, text: &str) -> Option<u32> {
        let named = self.names.iter().position(|name| name.eq_ignore_ascii_case(text));
        named.and_then(|i| u32::try_from(i).ok()).map(|i| self.min + i).or_else(|| number(text))
    }
}

/// A number as Go's `strconv.Atoi` reads it, not negative.
fn number(text: &str) -> Option<u32> {
    let (sign, digits) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let value = if plain { digits.parse::<u64>().ok()? } else { return None };
    if sign == "-" && value > 0 { None } else { Some(u32::try_from(value).unwrap_or(u32::MAX)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The year 2100 has no 29th of February: eight years lie between two of them.
    #[test]
    fn looks_five_years_ahead_and_no_further() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let leap_day = Schedule::parse("30 8 29 2 *").unwrap();
        assert_eq!(leap_day.next(at("2098-12-31T23:59:59Z")), None);
        assert_eq!(leap_day.next(at("2099-01-01T00:00:00Z")), Some(at("2104-02-29T08:30:00Z")));
        // the time of day that one asks from counts on that day alone
        let fridays = Schedule::parse("30 8 * * 5").unwrap();
        assert_eq!(fridays.next(at("2026-06-04T23:00:00Z")), Some(at("2026-06-05T08:30:00Z")));
        assert_eq!(fridays.next(at("2026-06-05T08:30:00Z")), Some(at("2026-06-12T08:30:00Z")));
    }
}
