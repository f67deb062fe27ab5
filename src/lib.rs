//! keyferry: brings secrets from the managers that keep them into namespaced Kubernetes Secrets.

pub mod api;
pub mod app;
pub mod cli;
pub mod lease;
pub mod providers;
pub mod render;
pub mod report;
pub mod secret_bytes;
pub mod server;
pub mod telemetry;
