//! keyferry: brings secrets from the managers that keep them into namespaced Kubernetes Secrets.
//!
//! ARCHITECTURE.md is the map.

pub mod adopt;
pub mod api;
pub mod app;
pub mod apply;
pub mod chance;
pub mod cli;
pub mod controllers;
pub mod fetch;
pub mod generators;
pub mod guard;
pub mod index;
pub mod jwt;
pub mod lease;
pub mod outbound;
pub mod plan;
pub mod providers;
pub mod queue;
pub mod render;
pub mod report;
pub mod secret_bytes;
pub mod server;
pub mod telemetry;
pub mod validate;
