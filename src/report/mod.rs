//! What the operator tells: metrics, events and log lines.

pub mod api_requests;
pub mod metrics;
