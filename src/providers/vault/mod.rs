//! Vault: the provider of its key-value engine, the ways to log in, and a client of its HTTP API that stays logged in.

mod answer;
mod auth;
mod client;
mod config;
mod data;
mod lent;
mod login;
mod mount;
mod provider;
mod push;
mod session;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod transport;

pub use super::Retries;
pub use answer::Lease;
pub use client::{Request, TokenInUse, VaultClient};
pub use config::{
    AppRole, Auth, CertAuth, CheckAndSet, ClientTls, GcpAuth, IamAuth, JwtAuth, KubernetesAuth, PasswordAuth,
    ServiceAccountToken, Vault, Version,
};
pub(super) use provider::{Block, SecretTaker};
pub use session::VaultSession;
