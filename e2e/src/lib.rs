//! The servers that keyferry's end-to-end tests, its demo and its benchmark run against: a real Kubernetes control plane,
//! an AWS emulator with IAM on, and the operator itself under the Helm chart's own role.
//!
//! Everything runs on loopback, from binaries in a cache folder, in a temporary folder of its own, and ends with the process
//! that started it, however that one ends.

pub mod aws;
pub mod bench;
pub mod cache;
pub mod certs;
pub mod clouds;
pub mod cluster;
pub mod controlplane;
pub mod demo;
pub mod env;
pub mod faults;
pub mod http;
pub mod ldap;
pub mod ministack;
pub mod moto;
pub mod operator;
pub mod postgres;
pub mod process;
pub mod progress;
pub mod recorder;
pub mod rundir;
pub mod services;
pub mod shapes;
pub mod sops;
pub mod tools;
pub mod vault;

use std::path::{Path, PathBuf};

/// The top folder of the project.
#[must_use]
pub fn project_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Chooses the one TLS implementation that all clients of this process use. Call it first; calling it again does nothing.
pub fn install_crypto() {
    // Fails only when one is installed already, which is what we want.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
