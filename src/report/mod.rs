//! Tells of what happened: events, metrics.

pub mod events;
