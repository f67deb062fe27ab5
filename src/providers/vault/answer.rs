//! Pure: what Vault answers.

use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::providers::{ErrorKind, ProviderError};
use crate::render::json;
use crate::secret_bytes::SecretBytes;

/// The answer to a request that went well.
#[derive(Deserialize)]
pub(super) struct Answer<'a> {
    /// The request, as Vault's audit log names it.
    #[serde(default)]
    pub request_id: Option<String>,
    #[serde(default)]
    lease_id: String,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    /// Reads a body; one that is not there is an answer without data.
    ///
    /// # Errors
    /// `Malformed` where it is none of Vault's. It is not repeated.
    pub fn of(body: Option<&'a SecretBytes>, what: &str) -> Result<Self, ProviderError> {
        let body = body.map_or(&b"{}"[..], SecretBytes::expose);
        serde_json::from_slice(body).map_err(|_| malformed(what))
    }

    /// The data, where it is not null.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.data.map(|data| data.get().as_bytes())
    }

    /// A member of the data, as JSON.
    pub fn member(&self, name: &str) -> Option<&'a [u8]> {
        let members = json::members(self.data()?)?;
        members.into_iter().rev().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

pub(super) fn malformed(what: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer is not the JSON that Vault sends"))
}

/// What Vault lends: it takes it back at the lease's end, unless the lease is renewed, and at once when the lease is revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// By what it is renewed and revoked.
    pub id: String,
    /// How long it lasts, from the answer on.
    pub duration: Duration,
    /// Whether it can be renewed.
    pub renewable: bool,
}

impl Lease {
    /// The lease in a body that Vault answered; `None` where it lends nothing.
    #[must_use]
    pub fn of(body: &SecretBytes) -> Option<Self> {
        Answer::of(Some(body), "").ok()?.lease()
    }
}

impl Answer<'_> {
    /// The lease, if something is lent.
    pub fn lease(&self) -> Option<Lease> {
        let duration = Duration::from_secs(self.lease_duration);
        (!self.lease_id.is_empty()).then(|| Lease { id: self.lease_id.clone(), duration, renewable: self.renewable })
    }
}

/// What Vault says beside a status: for a look, never to be passed on.
#[derive(Deserialize, Default)]
pub(super) struct Said<'a> {
    #[serde(default)]
    errors: Option<Vec<String>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
    /// Whether there is data all the same: a deleted version's metadata.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    /// The request, as Vault's audit log names it.
    #[serde(default)]
    pub request_id: Option<String>,
}

impl<'a> Said<'a> {
    pub fn of(body: &'a SecretBytes) -> Self {
        serde_json::from_slice(body.expose()).unwrap_or_default()
    }

    pub fn holds_data(&self) -> bool {
        self.data.is_some()
    }

    /// Whether a "not found" is in the form that Vault documents. Others come of what stands in front of it, or in its place, and
    /// say nothing of a secret.
    pub fn is_vaults(&self) -> bool {
        self.errors.is_some() || self.warnings.is_some() || self.holds_data()
    }

    /// Whether it has an error to tell that holds these words.
    pub fn error(&self, words: &str) -> bool {
        self.errors.iter().flatten().any(|text| text.contains(words))
    }

    /// Whether a "not found" is about the path and not about what could stand there: then no engine is mounted there, or one
    /// that serves other paths. That a secret is not there, Vault says without a word.
    pub fn is_of_no_engine(&self) -> bool {
        let mut warnings = self.warnings.iter().flatten();
        self.errors.iter().flatten().next().is_some() || warnings.any(|text| text.starts_with("Invalid path"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_what_has_an_id() {
        let lease = |text: &str| Lease::of(&SecretBytes::from(text));
        let lent =
            lease(r#"{"lease_id":"database/creds/app/x","lease_duration":60,"renewable":true,"data":{"a":1}}"#).unwrap();
        assert_eq!((lent.id.as_str(), lent.duration.as_secs(), lent.renewable), ("database/creds/app/x", 60, true));
        for none in ["", "[]", "{}", r#"{"lease_id":"","lease_duration":2764800,"data":{}}"#, r#"{"lease_id":7}"#] {
            assert_eq!(lease(none), None, "{none}");
        }
    }

    #[test]
    fn not_found_is_vaults_word_only_in_its_own_form() {
        let is_vaults = |body: &str| Said::of(&SecretBytes::from(body)).is_vaults();
        for body in [
            r#"{"errors":[]}"#,
            r#"{"errors":["no handler for route"]}"#,
            r#"{"request_id":"r","data":{"data":null,"metadata":{"version":1}},"warnings":null}"#,
            r#"{"data":null,"errors":null,"warnings":["Invalid path for a versioned K/V secrets engine."]}"#,
        ] {
            assert!(is_vaults(body), "{body}");
        }
        for body in [
            "",
            "default backend - 404",
            "<html>404</html>",
            "null",
            "[]",
            "{}",
            r#"{"message":"no Route matched with those values"}"#,
            r#"{"errors":null}"#,
            r#"{"errors":"none"}"#,
            r#"{"errors":[{"code":"NOT_FOUND"}]}"#,
            r#"{"data":null}"#,
        ] {
            assert!(!is_vaults(body), "{body}");
        }
    }

    #[test]
    fn members_of_the_data() {
        let body = SecretBytes::from(r#"{"request_id":"r","data":{"data":null,"metadata":{"version":3}}}"#);
        let answer = Answer::of(Some(&body), "x").unwrap();
        assert_eq!((answer.member("data"), answer.member("gone")), (Some(&b"null"[..]), None));
        assert_eq!(answer.member("metadata"), Some(&br#"{"version":3}"#[..]));
        let null = SecretBytes::from(r#"{"data":null}"#);
        assert_eq!(Answer::of(Some(&null), "x").unwrap().data(), None);
        assert_eq!(Answer::of(None, "x").unwrap().data(), None);
    }
}
