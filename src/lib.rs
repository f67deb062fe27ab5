//! keyferry: brings secrets from the managers that keep them into namespaced Kubernetes Secrets.

pub mod api;
pub mod providers;
pub mod render;
pub mod secret_bytes;
pub mod validate;
