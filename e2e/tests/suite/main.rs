//! The end-to-end tests: a real control plane, an AWS emulator with IAM on, and the operator under its chart's rights. One
//! binary, so that it links once and its tests share their servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod adopt;
mod aws;
mod aws_emulator;
mod canary;
mod conformance;
mod control_plane;
mod crash;
mod failover;
mod fan_out;
mod generators;
mod generators_http;
mod lab;
mod leader;
mod main_job;
mod manifests;
mod neighbours;
mod object_hash;
mod outage;
mod render;
mod saas;
mod scope;
mod shapes;
mod takeover;
mod templates;
mod vault;
