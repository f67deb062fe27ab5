//! What is remembered of a PushSecret, and a status that could not be written.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::Facts;
use crate::api::{PushSecret, PushSecretStatus};

/// What this process remembers of a PushSecret.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Failures in a row.
    pub failures: u32,
    /// When it was last in line; the status may say so later.
    pub refreshed: Option<Timestamp>,
    /// Since when it pauses after a failure, and for how long.
    pub paused: Option<(Timestamp, Duration)>,
    /// What could not be told.
    pub untold: Option<Box<Untold>>,
}

/// A status that could not be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Untold {
    uid: Option<String>,
    /// What it was to take the place of.
    before: Option<PushSecretStatus>,
    status: PushSecretStatus,
}

impl Memory {
    /// The same, where the status that tells of it could not be written.
    #[must_use]
    pub fn untold(self, facts: &Facts, status: PushSecretStatus) -> Self {
        let before = match &facts.memory.untold {
            Some(untold) => untold.before.clone(),
            None => facts.ps.status.clone(),
        };
        let untold = Untold { uid: facts.ps.metadata.uid.clone(), before, status };
        Self { untold: Some(Box::new(untold)), ..self }
    }

    /// The object with the status that could not be written: what was done is not done again because nobody knows of it. One that
    /// somebody else wrote since takes its place.
    #[must_use]
    pub fn told(self, ps: Arc<PushSecret>) -> (Self, Arc<PushSecret>) {
        let holds = self.untold.as_ref().filter(|untold| untold.uid == ps.metadata.uid && untold.before == ps.status);
        match holds.map(|untold| PushSecret { status: Some(untold.status.clone()), ..(*ps).clone() }) {
            Some(told) => (self, Arc::new(told)),
            None => (Self { untold: None, ..self }, ps),
        }
    }
}
