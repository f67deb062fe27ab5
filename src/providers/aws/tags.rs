//! Tags: who wrote something, and what is to change.

use std::collections::BTreeMap;

use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Tag of what ESO and keyferry wrote: the rest is never touched.
pub(super) const MANAGED_BY: &str = "managed-by";
pub(super) const OWNER: &str = "external-secrets";
/// Description of a new secret that is given none: ESO's.
pub(super) const DESCRIPTION: &str = "secret 'managed-by:external-secrets'";

/// Tags by key.
pub(super) type Tags = BTreeMap<String, String>;

/// Tags out of the pairs of an answer.
pub(super) fn of<'a>(pairs: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> Tags {
    pairs.filter_map(|(key, value)| Some((key?.to_owned(), value.unwrap_or_default().to_owned()))).collect()
}

pub(super) fn are_ours(tags: &Tags) -> bool {
    tags.get(MANAGED_BY).is_some_and(|owner| owner == OWNER)
}

pub(super) fn not_ours() -> ProviderError {
    ProviderError::new(ErrorKind::Denied, "secret not managed by external-secrets")
}

/// The tags of a metadata block, with the mark.
pub(super) fn marked(tags: &Tags) -> Tags {
    let mut tags = tags.clone();
    tags.insert(MANAGED_BY.to_owned(), OWNER.to_owned());
    tags
}

/// What is wrong with the tags of a metadata block, in ESO's words.
pub(super) fn check(tags: &Tags) -> Result<(), String> {
    if tags.contains_key(MANAGED_BY) {
        return Err(format!("error parsing tags in metadata: Cannot specify a '{MANAGED_BY}' tag"));
    }
    Ok(())
}

/// The tags of `what` as a JSON object.
pub(super) fn as_json(tags: &Tags, what: &str) -> Result<SecretBytes, ProviderError> {
    let json = serde_json::to_vec(tags)
        .map_err(|_| ProviderError::new(ErrorKind::Malformed, format!("the tags of {what:?} cannot be shown as JSON")))?;
    Ok(SecretBytes::new(json))
}

/// What makes some tags others.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) gone: Tags,
    pub(super) new: Tags,
}

impl Change {
    pub(super) fn between(there: &Tags, wanted: &Tags) -> Self {
        let gone = there.iter().filter(|(key, _)| !wanted.contains_key(*key));
        let new = wanted.iter().filter(|(key, value)| there.get(*key) != Some(value));
        let owned = |(key, value): (&String, &String)| (key.clone(), value.clone());
        Self { gone: gone.map(owned).collect(), new: new.map(owned).collect() }
    }

    pub(super) fn is_any(&self) -> bool {
        !self.gone.is_empty() || !self.new.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Tags {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_change_names_what_goes_and_what_comes() {
        let there = tags(&[("gone", "1"), ("same", "2"), ("other", "3")]);
        let wanted = tags(&[("same", "2"), ("other", "4"), ("new", "5")]);
        let change = Change::between(&there, &wanted);
        assert_eq!(change, Change { gone: tags(&[("gone", "1")]), new: tags(&[("other", "4"), ("new", "5")]) });
        assert!(change.is_any() && !Change::between(&there, &there).is_any());
    }

    #[test]
    fn the_mark_is_the_owners() {
        assert!(are_ours(&marked(&tags(&[("managed-by", "me")]))));
        assert!(!are_ours(&tags(&[("managed-by", "terraform")])) && !are_ours(&Tags::new()));
        assert!(check(&tags(&[("managed-by", "x")])).is_err() && check(&tags(&[("team", "x")])).is_ok());
    }
}
