//! The plan of an ExternalSecret, as tables over a small simulated cluster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod deletion;
mod due;
mod failover;
mod failures;
mod generate;
mod leases;
mod merging;
mod properties;
mod searches;
mod templates;
mod trust;
mod world;
mod writes;
