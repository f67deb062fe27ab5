//! What the operator tells: metrics, events and log lines.

pub mod metrics;
