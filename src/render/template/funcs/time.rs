//! Points in time and durations, as Go has them.

use std::fmt;

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
    pub(crate) at: Timestamp,
    pub(crate) zone: Zone,
}

/// What a clock shows.
pub(crate) struct Clock {
    pub(crate) civil: jiff::civil::DateTime,
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

impl Time {
    pub(crate) fn utc(at: Timestamp) -> Self {
        Self { at, zone: Zone::Utc }
    }

    /// Go's zero: the first moment of the year one.
    pub(crate) fn zero() -> Self {
        Self::utc(Timestamp::from_second(-62_135_596_800).unwrap_or(Timestamp::UNIX_EPOCH))
    }

    pub(crate) fn clock(&self) -> Clock {
        match &self.zone {
            Zone::Utc => Clock { civil: TimeZone::UTC.to_datetime(self.at), offset: 0, abbreviation: "UTC".to_owned() },
            Zone::Named(zone) => {
                let info = zone.to_offset_info(self.at);
                Clock {
                    civil: info.offset().to_datetime(self.at),
                    offset: info.offset().seconds(),
                    abbreviation: info.abbreviation().to_owned(),
                }
            }
            Zone::Fixed(seconds, abbreviation) => {
                let offset = jiff::tz::Offset::from_seconds(*seconds).unwrap_or(jiff::tz::Offset::UTC);
                Clock { civil: offset.to_datetime(self.at), offset: *seconds, abbreviation: abbreviation.clone() }
            }
        }
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
