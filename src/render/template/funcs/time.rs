//! Points in time and durations, as Go has them.

use std::fmt;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::layout;

/// Where a clock shows a time.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Zone {
    /// UTC, which is also the local zone of the operator.
    Utc,
    /// Known by name.
    Named(TimeZone),
    /// An offset in seconds, with an abbreviation that may be empty.
    Fixed(i32, String),
}

/// A point in time, as a clock somewhere shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Time {
    /// What a clock in UTC shows, which goes to the end of the year 9999: a [`Timestamp`] ends a day before.
    pub(crate) at: DateTime,
    pub(crate) zone: Zone,
}

/// What a clock shows.
pub(crate) struct Clock {
    pub(crate) civil: DateTime,
    pub(crate) offset: i32,
    pub(crate) abbreviation: String,
}

pub(crate) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

pub(crate) const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl Time {
    pub(crate) fn utc(at: DateTime) -> Self {
        Self { at, zone: Zone::Utc }
    }

    pub(crate) fn of(at: Timestamp) -> Self {
        Self::utc(TimeZone::UTC.to_datetime(at))
    }

    /// So many seconds after 1970 began. None where no calendar reaches.
    pub(crate) fn from_seconds(seconds: i64) -> Option<Self> {
        EPOCH.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self::utc)
    }

    /// Nanoseconds since 1970 began.
    pub(crate) fn nanoseconds(&self) -> i128 {
        self.at.duration_since(EPOCH).as_nanos()
    }

    /// Go's zero: the first moment of the year one.
    pub(crate) fn zero() -> Self {
        Self::utc(DateTime::constant(1, 1, 1, 0, 0, 0, 0))
    }

    /// A clock in the east does not go beyond the year 9999 either.
    pub(crate) fn clock(&self) -> Clock {
        let (offset, abbreviation) = match &self.zone {
            Zone::Utc => (0, "UTC".to_owned()),
            Zone::Named(zone) => {
                let info = zone.to_offset_info(self.timestamp());
                (info.offset().seconds(), info.abbreviation().to_owned())
            }
            Zone::Fixed(seconds, abbreviation) => (*seconds, abbreviation.clone()),
        };
        let civil = self.at.saturating_add(SignedDuration::from_secs(offset.into()));
        Clock { civil, offset, abbreviation }
    }

    /// The moment, or the nearest for which zones are known.
    fn timestamp(&self) -> Timestamp {
        let last = if self.at < EPOCH { Timestamp::MIN } else { Timestamp::MAX };
        TimeZone::UTC.to_timestamp(self.at).unwrap_or(last)
    }

    /// None where no calendar reaches.
    pub(crate) fn plus(&self, by: SignedDuration) -> Option<Self> {
        Some(Self { at: self.at.checked_add(by).ok()?, zone: self.zone.clone() })
    }

    pub(crate) fn in_zone(&self, zone: Zone) -> Self {
        Self { at: self.at, zone }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&layout::format(self, b"2006-01-02 15:04:05.999999999 -0700 MST")))
    }
}

/// A zone by name; `Local` and the empty name are UTC. None if there is none of that name.
pub(crate) fn zone(name: &[u8]) -> Option<Zone> {
    match name {
        b"" | b"UTC" | b"Local" => Some(Zone::Utc),
        _ => {
            let name = std::str::from_utf8(name).ok()?;
            // Go looks names up as files: letters count, and a path must not lead away.
            let zone = TimeZone::get(name).ok()?;
            (zone.iana_name() == Some(name)).then_some(Zone::Named(zone))
        }
    }
}

/// The name of a month, or what Go prints for one that does not exist.
pub(crate) fn month_name(number: i64) -> String {
    let name = usize::try_from(number - 1).ok().and_then(|i| MONTHS.get(i));
    name.map_or_else(|| format!("%!Month({number})"), |name| (*name).to_owned())
}

/// The name of a day of the week.
pub(crate) fn weekday_name(number: i64) -> String {
    let name = usize::try_from(number).ok().and_then(|i| WEEKDAYS.get(i));
    name.map_or_else(|| format!("%!Weekday({number})"), |name| (*name).to_owned())
}

/// A duration of nanoseconds as text.
pub(crate) fn duration(nanoseconds: i64) -> String {
    crate::plan::duration::format(SignedDuration::from_nanos(nanoseconds))
}
