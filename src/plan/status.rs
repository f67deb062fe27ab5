//! Statuses and conditions: what is written, and when a rewrite is worth it.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::phase;
use crate::api::{Condition, ExternalSecretStatus};

/// Longest message of a condition, in bytes; longer ones are cut. The API has no limit, but status is read by people.
const LONGEST_MESSAGE: usize = 1024;

/// A `Ready` condition. Its transition time is that of `old` unless the status flips (ESO's rule).
#[must_use]
pub fn ready(ok: bool, reason: &str, message: &str, old: Option<&Condition>, now: Timestamp) -> Condition {
    let status = if ok { "True" } else { "False" };
    let since = old.filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
    Condition {
        type_: Condition::READY.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(truncate(message, LONGEST_MESSAGE)),
        last_transition_time: Some(since.unwrap_or(Time(now))),
    }
}

/// Cuts a text at a character boundary.
#[must_use]
pub fn truncate(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = (0..=most.saturating_sub(3)).rev().find(|i| text.is_char_boundary(*i)).unwrap_or_default();
    format!("{}...", &text[..end])
}

/// Whether a status must be written: anything but the refresh time differs, or that one is old enough, or is in the future: the object
/// would look due for ever. Each object waits a little longer than `heartbeat`, by its uid, so that those made together are not
/// rewritten together.
#[must_use]
pub fn must_write(
    old: Option<&ExternalSecretStatus>,
    new: &ExternalSecretStatus,
    heartbeat: Duration,
    uid: &str,
    now: Timestamp,
) -> bool {
    let Some(old) = old else { return true };
    if old.refresh_time != new.refresh_time && old.refresh_time.as_ref().is_some_and(|time| time.0 > now) {
        return true;
    }
    let timeless = |status: &ExternalSecretStatus| {
        let mut status = ExternalSecretStatus { refresh_time: None, ..status.clone() };
        // one that lies before the true one only has the values read early, once, after a restart
        if let Some(at) = status.target.as_mut().and_then(|target| target.read_again.as_mut()) {
            at.0 = Timestamp::UNIX_EPOCH;
        }
        status
    };
    if timeless(old) != timeless(new) {
        return true;
    }
    is_stale(old.refresh_time.as_ref(), new.refresh_time.as_ref(), heartbeat, uid)
}

/// Whether a refresh time that is all that differs is old enough to be rewritten.
#[must_use]
pub fn is_stale(old: Option<&Time>, new: Option<&Time>, heartbeat: Duration, uid: &str) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            let patience = heartbeat.mul_f64(1.0 + phase(uid));
            new.0.duration_since(old.0).unsigned_abs() >= patience && new.0 > old.0
        }
        (old, new) => old.is_some() != new.is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    #[test]
    fn the_transition_time_moves_only_when_the_status_flips() {
        let first = ready(false, "A", "m", None, at(1));
        let second = ready(false, "B", "n", Some(&first), at(2));
        assert_eq!(second.last_transition_time, Some(Time(at(1))));
        let third = ready(true, "B", "n", Some(&second), at(3));
        assert_eq!(third.last_transition_time, Some(Time(at(3))));
    }

    #[test]
    fn an_unchanged_refresh_is_written_once_a_heartbeat() {
        let status = |second| ExternalSecretStatus { refresh_time: Some(Time(at(second))), ..Default::default() };
        let heartbeat = Duration::from_secs(300);
        let write = |old: Option<&ExternalSecretStatus>, new: &ExternalSecretStatus, now: i64| {
            must_write(old, new, heartbeat, "u", at(now))
        };
        assert!(write(None, &status(0), 0));
        assert!(!write(Some(&status(0)), &status(299), 299));
        assert!(write(Some(&status(0)), &status(600), 600));
        assert!(!write(Some(&status(600)), &status(0), 600));
        assert!(write(Some(&status(600)), &status(590), 599), "the clock was set back");
        assert!(!write(Some(&status(600)), &status(600), 599));
        let other = ExternalSecretStatus { synced_resource_version: Some("2-x".into()), ..status(1) };
        assert!(write(Some(&status(0)), &other, 1));
    }

    #[test]
    fn values_that_hold_longer_are_no_news() {
        let status = |at_second: Option<i64>| {
            let target = crate::api::external_secret::TargetStatus {
                read_again: at_second.map(|s| Time(at(s))),
                ..Default::default()
            };
            ExternalSecretStatus { refresh_time: Some(Time(at(0))), target: Some(target), ..Default::default() }
        };
        let write = |old, new| must_write(Some(&status(old)), &status(new), Duration::from_secs(300), "u", at(0));
        assert!(!write(Some(1), Some(2)));
        assert!(write(None, Some(2)) && write(Some(2), None), "that they do not hold for ever is");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(truncate("short", 10), "short");
        let cut = truncate(&"ä".repeat(100), 20);
        assert!(cut.len() <= 20 && cut.ends_with("...") && cut.starts_with('ä'));
    }
}
