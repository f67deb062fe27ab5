//! Vault: the server, the ways to log in to it, and a client of its HTTP API.

mod auth;
mod client;
mod config;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

pub use client::{Request, Retries, VaultClient};
pub use config::{
    AppRole, Auth, CertAuth, CheckAndSet, ClientTls, GcpAuth, IamAuth, JwtAuth, KubernetesAuth, PasswordAuth,
    ServiceAccountToken, Vault, Version,
};
