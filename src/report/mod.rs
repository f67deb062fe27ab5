//! What the operator tells: events, metrics, log lines.

pub mod api_requests;
pub mod events;
pub mod metrics;
pub mod observer;
