//! Why a write failed, in our own words: an API server's message may quote what was sent.

use std::time::Duration;

use crate::index::Key;
use crate::plan::external_secret::Failure;
use crate::plan::names::Names;
use crate::plan::target::Desired;
use crate::render::keys;

/// Stands for a key in the name of a field: a template may have made it of a value.
const SOME_KEY: &str = "[…]";

/// Keys of which the API server has its own rules.
const KNOWN: [&str; 8] = [
    "tls.crt",
    "tls.key",
    ".dockerconfigjson",
    ".dockercfg",
    "ssh-privatekey",
    "username",
    "password",
    "kubernetes.io/service-account.name",
];

/// Fields that every object has.
const OF_METADATA: [&str; 6] = ["name", "namespace", "labels", "annotations", "finalizers", "ownerReferences"];

/// The API server's reason where a field is missing.
const REQUIRED: &str = "FieldValueRequired";

/// Most keys that are named again.
const MOST_NAMED: usize = 20;

/// Why a write failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The object is another than it was when it was read.
    #[error("the object was changed meanwhile")]
    Conflict,
    /// The object is gone.
    #[error("the object is gone")]
    Gone,
    /// The namespace is being deleted: nothing can be made in it, and nothing needs to be.
    #[error("the namespace is being deleted")]
    Terminating,
    /// This process does not lead, or not for certain.
    #[error("this process does not hold the lease")]
    NotLeader,
    /// The API server refuses for good.
    #[error("{0}")]
    Refused(String),
    /// The API server asks to try later: it did nothing.
    #[error("{0}")]
    Busy(String),
    /// The API server did not answer, or with an error of its own.
    #[error("{0}")]
    Unavailable(String),
    /// It was done, and the object that the API server gave back cannot be understood.
    #[error("{0}")]
    Unreadable(String),
    /// It failed so, and yet the object may hold what was to be written, or a part of it.
    #[error("{0}")]
    Unsure(Box<WriteError>),
}

impl WriteError {
    /// Puts an answer of the API server into our words.
    #[must_use]
    pub fn of(error: kube::Error, verb: &str, kind: &str, key: &Key) -> Self {
        Self::explained(error, verb, kind, key, explain)
    }

    /// The same of an object of another kind than Secret: names of fields are told as far as none is the key of a map that a template
    /// may have made of a value.
    #[must_use]
    pub fn of_object(error: kube::Error, verb: &str, kind: &str, key: &Key, names: &Names) -> Self {
        Self::explained(error, verb, kind, key, |field, reason, message| explain_as_known(field, reason, message, names))
    }

    fn explained(
        error: kube::Error,
        verb: &str,
        kind: &str,
        key: &Key,
        explain: impl Fn(&str, &str, &str) -> String,
    ) -> Self {
        let status = match error {
            kube::Error::Api(status) => status,
            kube::Error::SerdeError(_) => {
                return Self::Unreadable(format!(
                    "unable to {verb} {kind} {key}: the API server's answer cannot be understood"
                ));
            }
            _ => return Self::Unavailable(format!("unable to {verb} {kind} {key}: the API server did not answer")),
        };
        let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
        match status.code {
            403 if causes.iter().any(|c| c.reason == "NamespaceTerminating") => Self::Terminating,
            404 => Self::Gone,
            409 => Self::Conflict,
            403 => Self::Refused(format!(
                "unable to {verb} {kind} {key}: forbidden by RBAC, a quota or an admission webhook; see the API server's answer \
                 with kubectl auth can-i and kubectl describe resourcequota"
            )),
            429 => Self::Busy(format!("unable to {verb} {kind} {key}: the API server answered 429")),
            code if code >= 500 => {
                Self::Unavailable(format!("unable to {verb} {kind} {key}: the API server answered {code}"))
            }
            _ => {
                let why = causes.iter().map(|c| explain(&c.field, &c.reason, &c.message)).collect::<Vec<_>>().join("; ");
                let why = if why.is_empty() { status.reason.clone() } else { why };
                Self::Refused(format!("unable to {verb} {kind} {key}: it is invalid: {why}"))
            }
        }
    }

    /// The API server did not answer within the time that a write may take.
    #[must_use]
    pub fn late(verb: &str, kind: &str, key: &Key) -> Self {
        Self::Unavailable(format!("unable to {verb} {kind} {key}: the API server did not answer in time"))
    }

    /// The same, with the keys named that no Secret can have and that may be told.
    #[must_use]
    pub fn naming(self, desired: &Desired) -> Self {
        match self {
            Self::Refused(text) => {
                let some = format!("data{SOME_KEY}");
                let refused = desired.data.keys().filter(|key| !keys::is_of_secret(key)).take(MOST_NAMED);
                let told = refused.filter(|key| desired.tells(key));
                Self::Refused(told.fold(text, |text, key| text.replacen(&some, &format!("data[{key}]"), 1)))
            }
            other => other,
        }
    }

    /// The same, of the request that brings the values: one that got no answer may have been carried out all the same.
    #[must_use]
    pub fn of_values(self) -> Self {
        match self {
            Self::Unavailable(_) | Self::Unreadable(_) => self.halfway(),
            other => other,
        }
    }

    /// What a write of a status came to: where the object that came back cannot be understood, as one of its fields was spoilt since it was
    /// last read, it is the object as it was with the status that was written.
    pub(super) fn or_as_it_was<K>(written: Result<K, Self>, known: impl FnOnce() -> K) -> Result<K, Self> {
        match written {
            Err(Self::Unreadable(_)) => Ok(known()),
            other => other,
        }
    }

    /// The same, after the values were written.
    #[must_use]
    pub fn halfway(self) -> Self {
        Self::Unsure(Box::new(self))
    }

    /// What failed, and whether the object may hold the values all the same.
    #[must_use]
    pub fn certainty(self) -> (Self, bool) {
        match self {
            Self::Unsure(error) => (*error, true),
            error => (error, false),
        }
    }

    /// How long to wait before the same is tried again: what is refused needs somebody who mends it.
    #[must_use]
    pub fn pause(&self) -> Duration {
        match self {
            Self::Refused(_) => Duration::from_secs(10),
            Self::Unsure(error) => error.pause(),
            _ => Duration::from_secs(1),
        }
    }

    /// The failure that this error means for an ExternalSecret.
    #[must_use]
    pub fn into_failure(self, message: &'static str) -> Failure {
        Failure::retry(message, self.to_string())
    }
}

/// A cause without the value that it quotes: `Invalid value: "…": field is immutable` becomes `field is immutable`.
fn explain(field: &str, reason: &str, message: &str) -> String {
    let quiet = is_quiet(field);
    let text = message.rsplit_once("\": ").map_or(reason, |(_, text)| if quiet { text } else { reason });
    format!("{}: {text}", unkeyed(field, quiet))
}

/// Whether what is said of a field holds nothing of a value.
fn is_quiet(field: &str) -> bool {
    !["data", "stringData", "binaryData"].iter().any(|of_values| field.starts_with(of_values))
}

/// The same of an object of any kind: maps of it are written with dots, so that each step may be a key.
fn explain_as_known(field: &str, reason: &str, message: &str, names: &Names) -> String {
    let quiet = is_quiet(field);
    let (told, rest) = field.split_at(end_of_known(field, quiet, names));
    // a field that is missing is the schema's, and nobody's value
    let is_missing = |step: &str| reason == REQUIRED && !step.contains(['.', '[']);
    match rest.strip_prefix('.') {
        _ if rest.is_empty() => {}
        Some(step) if is_missing(step) => return format!("{field}: {reason}"),
        _ => return format!("{told}{SOME_KEY}: {reason}"),
    }
    // a text that goes on where the field ends names what is in it
    let goes_on = |text: &str| text.contains(&format!("{field}.")) || text.contains(&format!("{field}["));
    match message.rsplit_once("\": ") {
        Some((_, text)) if quiet && !goes_on(text) => format!("{field}: {text}"),
        _ => format!("{field}: {reason}"),
    }
}

/// How far a field goes until the first step that may be a value. The first one is of the kind. `indexed`: numbers in brackets are indexes.
fn end_of_known(field: &str, indexed: bool, names: &Names) -> usize {
    let mut end = field.find(['.', '[']).unwrap_or(field.len());
    while let Some(rest) = field.get(end..).filter(|rest| !rest.is_empty()) {
        let step = match rest.strip_prefix('[') {
            Some(key) => key.split_once(']').map(|(key, _)| (key, key.len() + 2)),
            None => rest.strip_prefix('.').map(|rest| {
                let name = rest.split(['.', '[']).next().unwrap_or_default();
                (name, name.len() + 1)
            }),
        };
        let is_index = |step: &str| indexed && rest.starts_with('[') && step.bytes().all(|byte| byte.is_ascii_digit());
        let is_own = |step: &str| is_index(step) || OF_METADATA.contains(&step) || KNOWN.contains(&step);
        match step {
            Some((step, length)) if is_own(step) || names.shows(step) => end += length,
            _ => return end,
        }
    }
    end
}

/// A field without the keys in its name, but for those that are nobody's secret. `indexed`: numbers in it are indexes.
fn unkeyed(field: &str, indexed: bool) -> String {
    let is_own = |key: &str| KNOWN.contains(&key) || (indexed && key.bytes().all(|byte| byte.is_ascii_digit()));
    let mut keys = field.match_indices('[').map(|(open, _)| field.split_at(open));
    let foreign = keys.find(|(_, key)| !key[1..].split_once(']').is_some_and(|(key, _)| is_own(key)));
    foreign.map_or_else(|| field.to_owned(), |(before, _)| format!("{before}{SOME_KEY}"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::target::{Content, desired};
    use crate::plan::template::Delimiters;
    use crate::secret_bytes::SecretBytes;

    /// A Secret of these keys; a template made those beside `fixed`.
    fn made(keys: &[&str], by_template: bool) -> Desired {
        let es = serde_json::from_value(json!({ "metadata": { "name": "es", "namespace": "ns" }, "spec": {} })).unwrap();
        let template = serde_json::from_value(json!({ "templateFrom": [{ "literal": "{{ .user }}: x\nfixed !: x" }] }));
        let names = Names::of(Some(&template.unwrap()), &Default::default(), &Delimiters::default(), false);
        let data = keys.iter().map(|key| ((*key).to_owned(), SecretBytes::from("x"))).collect();
        desired(&es, Content { data, names: by_template.then(|| names.into()), ..Content::default() })
    }

    fn answer(causes: &[(&str, &str, &str)]) -> kube::Error {
        let causes: Vec<_> = causes
            .iter()
            .map(|(field, reason, message)| json!({ "field": field, "reason": reason, "message": message }))
            .collect();
        let status = json!({ "code": 422, "reason": "Invalid", "details": { "causes": causes } });
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    fn refused(causes: &[(&str, &str, &str)]) -> WriteError {
        WriteError::of(answer(causes), "write", "Secret", &Key::new("ns", "es"))
    }

    #[test]
    fn a_step_that_may_be_a_value_is_not_told() {
        let literal = "hosts:\n  {{ .user }}: bad\nrules: [{ {{ .user }}: x }]\nfixed !: x";
        let template = json!({ "templateFrom": [{ "target": "spec", "literal": literal }] });
        let template = serde_json::from_value(template).unwrap();
        let some = Names::of(Some(&template), &Default::default(), &Delimiters::default(), true);
        let told = |names: &Names, field: &str, text: &str| {
            let message = format!("Invalid value: \"bad\": {text}");
            let error = answer(&[(field, "FieldValueInvalid", &message)]);
            let text = WriteError::of_object(error, "write", "Route", &Key::new("ns", "es"), names).to_string();
            text.strip_prefix("unable to write Route ns/es: it is invalid: ").unwrap().to_owned()
        };
        let canary = "spec.hosts.ann@example.org";
        let matches = |field: &str| format!("{field} in body should match '^/'");
        for (field, text, wanted) in [
            (canary, &*matches(canary), "spec.hosts[…]: FieldValueInvalid"),
            ("spec.hosts", &*matches(canary), "spec.hosts: FieldValueInvalid"),
            ("spec.hosts", &*matches("spec.hosts"), "spec.hosts: spec.hosts in body should match '^/'"),
            ("spec.rules[0].ann", "no", "spec.rules[0][…]: FieldValueInvalid"),
            ("spec.rules[0]", "no", "spec.rules[0]: no"),
            ("spec.hosts.0", "no", "spec.hosts[…]: FieldValueInvalid"),
            ("metadata.labels", "no", "metadata.labels: no"),
            ("data[ann@example.org]", "no", "data[…]: FieldValueInvalid"),
            ("data[1234]", "no", "data[…]: FieldValueInvalid"),
            ("data[fixed !]", "no", "data[fixed !]: FieldValueInvalid"),
        ] {
            assert_eq!(told(&some, field, text), wanted, "{field}");
        }
        let missing = |field: &str| {
            let error = answer(&[(field, "FieldValueRequired", "Required value")]);
            let text = WriteError::of_object(error, "write", "Route", &Key::new("ns", "es"), &some).to_string();
            text.strip_prefix("unable to write Route ns/es: it is invalid: ").unwrap().to_owned()
        };
        assert_eq!(missing("spec.selector"), "spec.selector: FieldValueRequired", "that is the schema's");
        assert_eq!(missing("spec.hosts.ann.port"), "spec.hosts[…]: FieldValueRequired");
        let all = Names::default();
        assert_eq!(told(&all, canary, &matches(canary)), format!("{canary}: {}", matches(canary)));
        assert_eq!(told(&all, "data[a b]", "no"), "data[a b]: FieldValueInvalid");
    }

    #[test]
    fn a_key_that_may_be_a_value_is_not_told() {
        let invalid =
            |key: &str| (format!("data[{key}]"), format!("Invalid value: {key:?}: a valid config key must consist of"));
        let told = |keys: &[&str], by_template: bool| {
            let causes: Vec<_> = keys.iter().map(|key| invalid(key)).collect();
            let causes: Vec<_> =
                causes.iter().map(|(field, message)| (field.as_str(), "FieldValueInvalid", message.as_str())).collect();
            refused(&causes).naming(&made(keys, by_template)).to_string()
        };
        let head = "unable to write Secret ns/es: it is invalid: ";
        assert_eq!(told(&["ann@example.org"], true), format!("{head}data[…]: FieldValueInvalid"));
        assert_eq!(told(&["a] b"], true), format!("{head}data[…]: FieldValueInvalid"));
        assert_eq!(told(&["fixed !"], true), format!("{head}data[fixed !]: FieldValueInvalid"));
        assert_eq!(told(&["a b"], false), format!("{head}data[a b]: FieldValueInvalid"));
        let both = format!("{head}data[fixed !]: FieldValueInvalid; data[…]: FieldValueInvalid");
        assert_eq!(told(&["ann@example.org", "fixed !"], true), both);
    }

    #[test]
    fn what_the_api_server_names_of_itself_stays() {
        for (field, wanted) in [
            ("data[tls.crt]", "data[tls.crt]: FieldValueRequired"),
            ("data[1234]", "data[…]: FieldValueRequired"),
            ("spec.rules[0].host", "spec.rules[0].host: FieldValueRequired"),
            ("spec.hosts[canary].port", "spec.hosts[…]: FieldValueRequired"),
            (
                "metadata.annotations[kubernetes.io/service-account.name]",
                "metadata.annotations[kubernetes.io/service-account.name]: FieldValueRequired",
            ),
        ] {
            let text = refused(&[(field, "FieldValueRequired", "Required value")]).to_string();
            assert_eq!(text, format!("unable to write Secret ns/es: it is invalid: {wanted}"));
        }
    }
}
