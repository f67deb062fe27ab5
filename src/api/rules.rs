//! Rules across fields, as CEL for the CRDs. The texts are those of ESO's admission webhook;
//! `crate::validate` holds the same rules for the controller, and a test proves that the two agree.

use kube::core::{Rule, cel::Reason};

/// Neither `data` nor `dataFrom`.
pub const NO_DATA: &str = "either data or dataFrom should be specified";
/// Deletion policy `Delete` where the Secret is not ours to delete.
pub const DELETE_NOT_OWNED: &str =
    "deletionPolicy=Delete must not be used when the controller doesn't own the secret. Please set creationPolicy=Owner";
/// Deletion policy `Merge` where nothing is written.
pub const MERGE_INTO_NONE: &str =
    "deletionPolicy=Merge must not be used with creationPolicy=None. There is no Secret to merge with";
/// An entry of `dataFrom` that reads from two places.
pub const TWO_SOURCES: &str = "extract, find, or generatorRef cannot be set at the same time";
/// An entry of `dataFrom` that reads from nowhere.
pub const NO_SOURCE: &str = "either extract, find, or sourceRef must be set to dataFrom";
/// A `sourceRef` that names nothing, or two things.
pub const ONE_SOURCE_REF: &str = "sourceRef must have exactly one of storeRef and generatorRef";
/// A `rewrite` that does nothing, or two things at once.
pub const ONE_REWRITE: &str = "a rewrite must have exactly one of merge, regexp and transform; use an entry for each";
/// A store without a provider, or with more than one.
pub const ONE_PROVIDER: &str = "secret stores must only have exactly one backend specified";
/// A deploy token of both a project and a group, or of none.
pub const ONE_OF_PROJECT_AND_GROUP: &str = "exactly one of projectID and groupID must be set";

/// A PushSecret that takes its values from nowhere, or from two places.
pub const ONE_PUSH_SOURCE: &str = "selector must have exactly one of secret and generatorRef";
/// An entry of `dataTo` that goes nowhere.
pub const NO_STORE_REF: &str = "storeRef must specify either name or labelSelector";
/// An entry of `dataTo` whose values go to one place, and that changes their keys.
pub const BUNDLE_REWRITE: &str =
    "remoteKey and rewrite are mutually exclusive: rewrite is only supported in per-key mode (without remoteKey)";
/// A `rewrite` of `dataTo` that does nothing, or two things at once.
pub const ONE_PUSH_REWRITE: &str = "exactly one of regexp or transform must be set";

/// Rules of `spec`.
pub(super) fn spec() -> Vec<Rule> {
    vec![
        Rule::new("(has(self.data) && size(self.data) > 0) || (has(self.dataFrom) && size(self.dataFrom) > 0)")
            .message(NO_DATA)
            .reason(Reason::FieldValueRequired),
    ]
}

/// Rules of `spec.target`. A policy that is left out is `Owner` and `Retain`, which go with everything.
pub(super) fn target() -> Vec<Rule> {
    vec![
        Rule::new(
            "!has(self.deletionPolicy) || self.deletionPolicy != 'Delete' || !has(self.creationPolicy) \
             || !(self.creationPolicy in ['Merge', 'None', 'CreateOrMerge'])",
        )
        .message(DELETE_NOT_OWNED)
        .field_path(".deletionPolicy"),
        Rule::new(
            "!has(self.deletionPolicy) || self.deletionPolicy != 'Merge' || !has(self.creationPolicy) \
             || self.creationPolicy != 'None'",
        )
        .message(MERGE_INTO_NONE)
        .field_path(".deletionPolicy"),
    ]
}

/// Rules of an entry of `spec.dataFrom`.
pub(super) fn data_from() -> Vec<Rule> {
    vec![
        Rule::new("has(self.extract) || has(self.find) || has(self.sourceRef)")
            .message(NO_SOURCE)
            .reason(Reason::FieldValueRequired),
        Rule::new(
            "!(has(self.extract) && has(self.find)) \
             && !((has(self.extract) || has(self.find)) && has(self.sourceRef) && has(self.sourceRef.generatorRef))",
        )
        .message(TWO_SOURCES),
    ]
}

/// Rules of a `sourceRef`. Written out, as that of `rewrite`: [`exactly_one`] would cost too much in a list without bounds.
pub(super) fn source_ref() -> Vec<Rule> {
    vec![Rule::new("has(self.storeRef) != has(self.generatorRef)").message(ONE_SOURCE_REF)]
}

/// Rules of an entry of `rewrite`.
pub(super) fn rewrite() -> Vec<Rule> {
    let rule = "has(self.merge) ? !has(self.regexp) && !has(self.transform) : has(self.regexp) != has(self.transform)";
    vec![Rule::new(rule).message(ONE_REWRITE)]
}

/// Rules of a PushSecret's `selector`.
pub(super) fn push_selector() -> Vec<Rule> {
    vec![Rule::new("has(self.secret) != has(self.generatorRef)").message(ONE_PUSH_SOURCE)]
}

/// Rules of an entry of a PushSecret's `dataTo`.
pub(super) fn data_to() -> Vec<Rule> {
    vec![
        Rule::new("has(self.storeRef) && (has(self.storeRef.name) || has(self.storeRef.labelSelector))")
            .message(NO_STORE_REF),
        Rule::new("!has(self.remoteKey) || !has(self.rewrite) || size(self.rewrite) == 0").message(BUNDLE_REWRITE),
    ]
}

/// Rules of an entry of `rewrite` in a PushSecret's `dataTo`.
pub(super) fn push_rewrite() -> Vec<Rule> {
    vec![Rule::new("has(self.regexp) != has(self.transform)").message(ONE_PUSH_REWRITE)]
}

/// Of some fields, exactly one must be set. Says what `minProperties` and `maxProperties` would, in words that help.
pub fn exactly_one<'a>(fields: impl IntoIterator<Item = &'a str>, message: &str) -> Vec<Rule> {
    let set: Vec<String> = fields.into_iter().map(|field| format!("has(self.{field})")).collect();
    vec![Rule::new(format!("[{}].exists_one(set, set)", set.join(", "))).message(message)]
}

/// Rules of a GitLab deploy token: it is a project's or a group's.
pub(super) fn one_of_project_and_group() -> Vec<Rule> {
    vec![Rule::new("has(self.projectID) != has(self.groupID)").message(ONE_OF_PROJECT_AND_GROUP)]
}
