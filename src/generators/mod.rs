//! Generators: what makes values instead of reading them. One file each, one line in [`generators!`] to register it.
//!
//! A generator is a spec type in `crate::api::generators` with `impl Generator`. It makes values when it is asked, and never asks
//! itself whether it is time: the plan of the ExternalSecret decides that.

mod acr;
mod aws;
mod fake;
mod gcr;
mod github;
mod gitlab;
mod grafana;
pub mod maker;
mod mfa;
mod openssh;
mod password;
#[cfg(test)]
mod reach_tests;
mod registries;
mod ssh_key;
#[cfg(test)]
pub mod testing;
mod uuid;
pub mod vault;
mod webhook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;

use crate::api::external_secret::GeneratorKind;
use crate::api::generators::AnySpec;
use crate::plan::lease::Granted;
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::render::Entries;

/// Registers the generators that are served: adding one is a file in this folder and a line here.
macro_rules! generators {
    ($macro:ident) => {
        $macro! {
            ACRAccessToken,
            CloudsmithAccessToken,
            ECRAuthorizationToken,
            Fake,
            GCRAccessToken,
            GithubAccessToken,
            GitlabDeployToken,
            Grafana,
            MFA,
            Password,
            QuayAccessToken,
            SSHKey,
            STSSessionToken,
            UUID,
            VaultDynamicSecret,
            Webhook,
        }
    };
}

/// What a generator does, on its spec type.
#[async_trait]
pub trait Generator: Send + Sync {
    /// Makes values.
    ///
    /// # Errors
    /// `Misconfigured` where the spec or a reference is wrong, else what the other side said, in our own words.
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError>;

    /// How long the spec lets an answer take, where it says so: its calls have at least that time.
    fn timeout(&self) -> Option<Duration> {
        None
    }

    /// Takes back what was made, by the state that came with it. Doing it again must be fine: what is gone is gone.
    ///
    /// # Errors
    /// As [`Generator::generate`].
    async fn cleanup(&self, state: &Value, cx: &GenerateCx) -> Result<(), ProviderError> {
        let _ = (state, cx);
        Ok(())
    }

    /// Renews the lease of what was made, by the state that came with it. `None`: there is nothing left to renew.
    ///
    /// # Errors
    /// As [`Generator::generate`].
    async fn renew(&self, state: &Value, cx: &GenerateCx) -> Result<Option<Renewed>, ProviderError> {
        let _ = (state, cx);
        Ok(None)
    }
}

/// What a generator made.
#[derive(Clone, Debug, Default)]
pub struct Generated {
    /// Keys and values.
    pub values: Entries,
    /// What [`Generator::cleanup`] needs, a JSON object; `None` where there is nothing to clean up. It is stored in the clear, so
    /// it holds ids and never a secret.
    pub state: Option<Value>,
    /// How long it holds; `None`: as long as nobody takes it back. Only what has a state is renewed.
    pub lease: Option<Granted>,
}

impl Generated {
    /// Values that need no cleaning up.
    #[must_use]
    pub fn values<K: Into<String>>(values: impl IntoIterator<Item = (K, crate::secret_bytes::SecretBytes)>) -> Self {
        let values: BTreeMap<String, _> = values.into_iter().map(|(key, value)| (key.into(), value)).collect();
        Self { values, ..Self::default() }
    }
}

/// A lease that was renewed.
#[derive(Clone, Debug)]
pub struct Renewed {
    /// What was granted.
    pub granted: Granted,
    /// The state as it is from now on.
    pub state: Value,
}

/// What a generator may reach.
#[derive(Clone)]
pub struct GenerateCx {
    /// Resolves references: in the namespace of the ExternalSecret, also for a ClusterGenerator. `store_name` is the generator's.
    pub connect: ConnectCx,
    /// Which object caused the calls.
    pub call: CallCx,
    /// What time it is.
    pub now: Timestamp,
    /// Logins to Vault that are made already.
    pub vault: Arc<vault::Logins>,
}

impl GenerateCx {
    /// Random bytes that nobody can guess.
    ///
    /// # Errors
    /// `Unavailable` where the machine has none.
    pub fn random(&self, bytes: &mut [u8]) -> Result<(), ProviderError> {
        aws_lc_rs::rand::fill(bytes)
            .map_err(|_| ProviderError::new(ErrorKind::Unavailable, "the machine gives no random numbers"))
    }

    /// A random number smaller than `bound` (0 where that is 0), each as likely.
    ///
    /// # Errors
    /// As [`GenerateCx::random`].
    pub fn random_below(&self, bound: usize) -> Result<usize, ProviderError> {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        // numbers from the last, incomplete round would make small ones likelier
        let end = u64::MAX - u64::MAX % bound;
        loop {
            let mut bytes = [0; 8];
            self.random(&mut bytes)?;
            let number = u64::from_be_bytes(bytes);
            if number < end {
                return Ok(usize::try_from(number % bound).unwrap_or_default());
            }
        }
    }
}

/// A mistake in the spec, or in what it refers to.
fn misconfigured(detail: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, detail)
}

/// What was kept of a value that was made, for [`Generator::cleanup`].
fn state_of<S: serde::de::DeserializeOwned>(state: &Value) -> Result<S, ProviderError> {
    S::deserialize(state).map_err(|_| {
        ProviderError::new(
            ErrorKind::Malformed,
            "the state of the generator is not what such a generator keeps: it cannot be cleaned up",
        )
    })
}

macro_rules! dispatch {
    ($($kind:ident,)+) => {
        /// Kinds that are served.
        pub const SERVED: &[GeneratorKind] = &[$(GeneratorKind::$kind,)+];

        /// The generator of a spec.
        ///
        /// # Errors
        /// `Unsupported` where its kind is not served: names the kinds that are.
        pub fn served(spec: &AnySpec) -> Result<&dyn Generator, ProviderError> {
            match spec {
                $(AnySpec::$kind(spec) => Ok(spec.as_ref()),)+
                #[allow(unreachable_patterns)] // where all kinds are served
                other => {
                    let served: Vec<&str> = SERVED.iter().map(|kind| kind.as_str()).collect();
                    Err(ProviderError::new(
                        ErrorKind::Unsupported,
                        format!(
                            "generators of kind {} are not served by this version of keyferry; served are: {}",
                            other.kind(),
                            served.join(", ")
                        ),
                    ))
                }
            }
        }
    };
}
generators!(dispatch);
