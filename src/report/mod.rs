//! Tells of what happened: events, metrics.

pub mod events;
pub mod metrics;
pub mod observer;
