//! Pure: what to do about an object. No client, no clock (`now` is passed in), no randomness, no `async`.
//!
//! A plan leaves its executor no choice: it holds what to write, the status, the events and the next wake-up.

pub mod access;
pub mod adopt;
pub mod backoff;
pub mod cron;
pub mod digest;
pub mod duration;
pub mod entries;
pub mod external_secret;
pub mod failover;
pub mod fan_out;
pub mod generator_state;
pub mod generators;
pub mod lease;
pub mod manifest;
pub mod names;
pub mod object_hash;
pub mod push_secret;
pub mod refresh;
pub mod status;
pub mod store;
pub mod target;
pub mod template;
pub mod windows;

use std::time::Duration;

use self::template::Delimiters;
use crate::queue::Priority;

/// What the operator's settings say that decides something.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Class of this controller: stores of another one are left alone.
    pub class: String,
    /// Whether a Secret that nobody owns is taken over.
    pub adopt: bool,
    /// Whether ClusterSecretStores are served.
    pub cluster_stores: bool,
    /// Whether ClusterExternalSecrets are served by this process.
    pub cluster_external_secrets: bool,
    /// Whether ClusterGenerators are served.
    pub cluster_generators: bool,
    /// Whether SecretStores are checked by this process; else the word of their status counts.
    pub secret_stores: bool,
    /// Whether PushSecrets are served by this process.
    pub push_secrets: bool,
    /// Whether a store must have passed its check before it is used.
    pub flood_gate: bool,
    /// How often a store is checked that says nothing about it.
    pub store_interval: Duration,
    /// How often `refreshTime` is rewritten while nothing else changes.
    pub heartbeat: Duration,
    /// What begins and ends an action in templates.
    pub delimiters: Delimiters,
    /// Whether objects other than Secrets may be written.
    pub generic_targets: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            class: "default".into(),
            adopt: true,
            cluster_stores: true,
            cluster_external_secrets: true,
            cluster_generators: true,
            secret_stores: true,
            push_secrets: true,
            flood_gate: true,
            store_interval: Duration::from_secs(300),
            heartbeat: Duration::from_secs(300),
            delimiters: Delimiters::default(),
            generic_targets: false,
        }
    }
}

/// When an object is to be looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// When something that it depends on changes, and not before.
    OnChange,
    /// After that time.
    After(Duration, Priority),
}

/// An event to record on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether it is a `Warning`, else `Normal`.
    pub warning: bool,
    /// Reason: one of ESO's.
    pub reason: &'static str,
    /// What happened.
    pub message: String,
}

impl Note {
    /// A `Normal` event.
    #[must_use]
    pub fn normal(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: false, reason, message: message.into() }
    }

    /// A `Warning` event.
    #[must_use]
    pub fn warning(reason: &'static str, message: impl Into<String>) -> Self {
        Self { warning: true, reason, message: message.into() }
    }
}

/// A share of one that is the same for an object at all times and spreads evenly over objects.
#[must_use]
pub fn phase(uid: &str) -> f64 {
    // FNV-1a: stable across versions of this program, unlike the standard library's hasher
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
    // the low bits of FNV mix best; 53 of them fit a double exactly
    #[allow(clippy::cast_precision_loss)]
    let share = (hash & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64;
    share
}
