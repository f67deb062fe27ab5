//! What to do about a store: its check, its condition, and when to check it again.

#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;

use super::{Note, Rules, Wake, backoff, duration, failover, phase, status};
use crate::api::secret_store::{IntOrString, StoreStatus};
use crate::api::{AnyStore, Condition, StoreKind};
use crate::fetch::Invalid;
use crate::index::StoreHealth;
use crate::providers::{ErrorKind, ProviderError, ProviderSpec, Validation};
use crate::queue::Priority;
use crate::validate;

/// What to do first.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Another controller's.
    Ignore,
    /// Log in and check the login.
    Check,
    /// There is no need to log in: this is what the check comes to.
    Known(Outcome),
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The store can be used.
    Valid,
    /// It could not be told, and the store may be used (ESO's rule).
    Unknown(String),
    /// The store cannot be used.
    Invalid {
        /// Reason of the condition.
        reason: &'static str,
        /// ESO's text for the condition.
        message: &'static str,
        /// What is wrong, and what to do.
        cause: String,
        /// Class, for the next try.
        kind: ErrorKind,
        /// How long the provider asks us to wait.
        retry_after: Option<Duration>,
    },
}

impl Outcome {
    fn invalid(message: &'static str, error: &ProviderError) -> Self {
        Self::Invalid {
            reason: "InvalidProviderConfig",
            message,
            cause: error.detail.clone(),
            kind: error.kind,
            retry_after: error.retry_after,
        }
    }
}

impl From<Result<Validation, Invalid>> for Outcome {
    fn from(result: Result<Validation, Invalid>) -> Self {
        match result {
            Ok(Validation::Ready) => Self::Valid,
            Ok(Validation::Unknown(why)) => Self::Unknown(why),
            Err(Invalid::Connect(error)) => Self::invalid("unable to create client", &error),
            Err(Invalid::Validate(error)) => Self::invalid("unable to validate store", &error),
        }
    }
}

/// What to report of a store.
#[derive(Debug)]
pub struct Report {
    /// The status to write; `None` leaves it.
    pub status: Option<StoreStatus>,
    /// Events.
    pub notes: Vec<Note>,
    /// When to check again.
    pub wake: Wake,
    /// What its users are told.
    pub health: StoreHealth,
}

/// Says whether the store is ours, and whether it must be logged in to.
#[must_use]
pub fn before_check(store: &AnyStore, referent: bool, rules: &Rules) -> Next {
    if store.spec.controller.as_deref().is_some_and(|c| !c.is_empty() && c != rules.class) {
        return Next::Ignore;
    }
    match &store.spec.provider {
        ProviderSpec::None => {
            let cause = format!(
                "store error for {}: secret stores must only have exactly one backend specified, found 0",
                store.name()
            );
            Next::Known(Outcome::invalid("unable to create client", &ProviderError::new(ErrorKind::Misconfigured, cause)))
        }
        ProviderSpec::NotServed(name) => Next::Known(Outcome::Invalid {
            reason: "UnsupportedProvider",
            message: "unable to create client",
            cause: format!(
                "spec.provider.{name} is not served by this version of keyferry; served are: {}",
                ProviderSpec::SERVED.join(", ")
            ),
            kind: ErrorKind::Unsupported,
            retry_after: None,
        }),
        _ => match checked(store) {
            Err((message, text)) => {
                Next::Known(Outcome::invalid(message, &ProviderError::new(ErrorKind::Misconfigured, text)))
            }
            // it logs in as each of its consumers: there is nothing to check by itself
            Ok(()) if referent => Next::Known(Outcome::Valid),
            Ok(()) => Next::Check,
        },
    }
}

/// Checks what the spec says. What a provider finds wrong, ESO's controller finds when it makes the client.
fn checked(store: &AnyStore) -> Result<(), (&'static str, String)> {
    validate::validate_store(&store.spec, store.kind).map_err(|error| {
        let of_provider = error.field.starts_with("spec.provider.");
        (if of_provider { "unable to create client" } else { "unable to validate store" }, error.to_string())
    })?;
    failover::stand_ins(store).map(drop).map_err(|text| ("unable to validate store", text))
}

/// Says what to report of a check. `failures` counts the failures in a row before this one.
#[must_use]
pub fn settle(
    store: &AnyStore,
    credentials: u64,
    outcome: &Outcome,
    failures: u32,
    rules: &Rules,
    now: Timestamp,
) -> Report {
    let old = store.ready();
    let uid = store.metadata.uid.clone().unwrap_or_default();
    let (condition, capabilities, note, wake) = match outcome {
        Outcome::Valid => {
            let capabilities = store.spec.provider.served().map(|p| p.capabilities());
            let note = Note::normal("Valid", "store validated");
            (status::ready(true, "Valid", "store validated", old, now), capabilities, note, interval(store, rules))
        }
        Outcome::Unknown(why) => {
            let message = "could not determine validation status";
            let condition = status::ready(true, "ValidationUnknown", &told(message, why), old, now);
            let kept = store.status.as_ref().and_then(|s| s.capabilities);
            (condition, kept, Note::warning("ValidationUnknown", cause(message, why)), interval(store, rules))
        }
        Outcome::Invalid { reason, message, cause: why, kind, retry_after } => {
            let condition = status::ready(false, reason, &told(message, why), old, now);
            let kept = store.status.as_ref().and_then(|s| s.capabilities);
            let pause = backoff::pause(Some(*kind), failures + 1, *retry_after, interval(store, rules), &uid);
            (condition, kept, Note::warning(reason, cause(message, why)), pause)
        }
    };
    let health = StoreHealth {
        uid,
        generation: store.metadata.generation.unwrap_or_default(),
        credentials,
        ready: condition.is_ready(),
        unavailable: matches!(outcome, Outcome::Invalid { kind: ErrorKind::Unavailable, .. }),
        cause: match outcome {
            Outcome::Invalid { cause, .. } => cause.clone(),
            _ => String::new(),
        },
    };
    let news = old.is_none_or(|old| !same(old, &condition));
    let new = StoreStatus { capabilities, conditions: vec![condition] };
    Report {
        status: (store.status.as_ref() != Some(&new)).then_some(new),
        notes: if news { vec![note] } else { Vec::new() },
        wake: Wake::After(wake, Priority::Periodic),
        health,
    }
}

fn same(a: &Condition, b: &Condition) -> bool {
    (&a.status, &a.reason, &a.message) == (&b.status, &b.reason, &b.message)
}

/// A message with its cause after it.
fn told(message: &str, cause: &str) -> String {
    if cause.is_empty() { message.to_owned() } else { format!("{message}: {cause}") }
}

fn cause(message: &str, cause: &str) -> String {
    if cause.is_empty() { message.to_owned() } else { cause.to_owned() }
}

/// How often the store is checked: its own word, else the controller's.
fn interval(store: &AnyStore, rules: &Rules) -> Duration {
    let own = match &store.spec.refresh_interval {
        Some(IntOrString::Int(seconds)) => u64::try_from(*seconds).ok().map(Duration::from_secs),
        Some(IntOrString::String(text)) => duration::parse(text).ok().and_then(|d| Duration::try_from(d).ok()),
        None => None,
    };
    let interval = own.filter(|d| !d.is_zero()).unwrap_or(rules.store_interval);
    let uid = store.metadata.uid.as_deref().unwrap_or_default();
    interval.mul_f64(1.0 - 0.1 * phase(uid))
}

/// Whether stores of a kind are checked under these rules.
#[must_use]
pub fn serves(kind: StoreKind, rules: &Rules) -> bool {
    match kind {
        StoreKind::SecretStore => rules.secret_stores,
        StoreKind::ClusterSecretStore => rules.cluster_stores,
    }
}

/// What the status of a store says that somebody else checks.
#[must_use]
pub fn health_by_status(store: &AnyStore) -> StoreHealth {
    let ready = store.ready();
    StoreHealth {
        uid: store.metadata.uid.clone().unwrap_or_default(),
        generation: store.metadata.generation.unwrap_or_default(),
        credentials: 0,
        ready: ready.is_some_and(Condition::is_ready),
        unavailable: false,
        cause: ready.and_then(|c| c.message.clone()).unwrap_or_else(|| "nobody has checked it yet".into()),
    }
}
