//! What an object's author can get wrong, beyond what a schema says. The CRDs hold the rules across fields as CEL
//! (`crate::api::rules`); here they are again, as an object may have been stored before them, and with them those that CEL
//! cannot hold. Where ESO's webhook has the rule, the text is ESO's.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use crate::api::ExternalSecret;
use crate::api::external_secret::{CreationPolicy, DataFrom, DeletionPolicy, Rewrite, SourceRef, Target, Template};
use crate::api::rules;
use crate::api::secret_store::{IntOrString, StoreCondition, StoreKind, StoreSpec};
use crate::plan::duration;
use crate::providers::ProviderSpec;
use crate::render::re2;

/// A field that holds something it must not hold. Never carries a secret: specs hold none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct FieldError {
    /// Path of the field: `spec.dataFrom[0].find`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl FieldError {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }

    /// The error, unless the rule holds.
    fn unless(holds: bool, field: impl Into<String>, message: &str) -> Result<(), Self> {
        if holds { Ok(()) } else { Err(Self::new(field, message)) }
    }
}

/// Checks the rules across fields of an ExternalSecret: the same as those of its CRD.
///
/// Two entries of `data` with one `secretKey` pass, though ESO's webhook refuses them: ESO's controller syncs them, and the
/// last one wins. What a template may ask for is [`validate_template`]'s.
///
/// # Errors
/// The first rule that is broken.
pub fn validate_external_secret(object: &ExternalSecret) -> Result<(), FieldError> {
    let spec = &object.spec;
    FieldError::unless(!spec.data.is_empty() || !spec.data_from.is_empty(), "spec", rules::NO_DATA)?;
    validate_policies(&object.target())?;
    for (i, entry) in spec.data.iter().enumerate() {
        validate_source_ref(entry.source_ref.as_ref(), &format!("spec.data[{i}]"))?;
    }
    for (i, entry) in spec.data_from.iter().enumerate() {
        validate_data_from(entry, &format!("spec.dataFrom[{i}]"))?;
    }
    Ok(())
}

fn validate_policies(target: &Target) -> Result<(), FieldError> {
    use CreationPolicy::{CreateOrMerge, Merge, None};
    let (creation, deletion) = (target.creation_policy.unwrap_or_default(), target.deletion_policy.unwrap_or_default());
    let field = "spec.target.deletionPolicy";
    let not_owned = matches!(creation, Merge | None | CreateOrMerge);
    FieldError::unless(!(deletion == DeletionPolicy::Delete && not_owned), field, rules::DELETE_NOT_OWNED)?;
    FieldError::unless(!(deletion == DeletionPolicy::Merge && creation == None), field, rules::MERGE_INTO_NONE)
}

fn validate_data_from(entry: &DataFrom, field: &str) -> Result<(), FieldError> {
    let generator = entry.source_ref.as_ref().is_some_and(|s| s.generator_ref.is_some());
    let sources = [entry.extract.is_some(), entry.find.is_some(), generator].into_iter().filter(|set| *set).count();
    FieldError::unless(sources > 0 || entry.source_ref.is_some(), field, rules::NO_SOURCE)?;
    FieldError::unless(sources <= 1, field, rules::TWO_SOURCES)?;
    validate_source_ref(entry.source_ref.as_ref(), field)?;
    for (i, rewrite) in entry.rewrite.iter().enumerate() {
        let Rewrite { merge, regexp, transform } = rewrite;
        let set = [merge.is_some(), regexp.is_some(), transform.is_some()].into_iter().filter(|set| *set).count();
        FieldError::unless(set == 1, format!("{field}.rewrite[{i}]"), rules::ONE_REWRITE)?;
    }
    Ok(())
}

fn validate_source_ref(source: Option<&SourceRef>, field: &str) -> Result<(), FieldError> {
    let one = source.is_none_or(|s| s.store_ref.is_some() != s.generator_ref.is_some());
    FieldError::unless(one, format!("{field}.sourceRef"), rules::ONE_SOURCE_REF)
}

const SERVICE_ACCOUNT_TOKEN: &str = "kubernetes.io/service-account-token";
const SERVICE_ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const BOOTSTRAP_TOKEN: &str = "bootstrap.kubernetes.io/token";

/// Checks that a template makes no Secret that Kubernetes turns into a credential, and fills only parts that a Secret has.
///
/// Else whoever may write an ExternalSecret could mint tokens of any ServiceAccount of the namespace. The CRD does not hold
/// these rules, as ESO stores such an object and then fails to write its Secret; so the caller, too, says
/// `could not update secret`, with this error after `could not apply template: `.
///
/// # Errors
/// The first rule that is broken.
pub fn validate_template(target: &Target) -> Result<(), FieldError> {
    let Some(template) = &target.template else { return Ok(()) };
    validate_privileged_type(template)?;
    let is_secret = target.manifest.as_ref().is_none_or(|m| m.api_version == "v1" && m.kind == "Secret");
    if is_secret { validate_template_targets(template) } else { Ok(()) }
}

fn validate_privileged_type(template: &Template) -> Result<(), FieldError> {
    let none = BTreeMap::new();
    let type_ = template.type_.as_deref();
    validate_secret_type(type_, template.metadata.as_ref().map_or(&none, |m| &m.annotations))?;
    let annotates = template_targets(template).any(|(_, target)| target.eq_ignore_ascii_case("Annotations"));
    let what = format!("template.type={SERVICE_ACCOUNT_TOKEN:?} with templateFrom target=\"Annotations\" is not allowed");
    FieldError::unless(type_ != Some(SERVICE_ACCOUNT_TOKEN) || !annotates, "spec.target.template", &what)
}

/// Checks that a Secret of this type and with these annotations is no order to Kubernetes to mint a credential: what
/// [`validate_template`] says of a template, for what came of it.
///
/// # Errors
/// The type must not be written.
pub fn validate_secret_type(type_: Option<&str>, annotations: &BTreeMap<String, String>) -> Result<(), FieldError> {
    let what = match type_ {
        Some(SERVICE_ACCOUNT_TOKEN) if annotations.contains_key(SERVICE_ACCOUNT_NAME) => {
            format!("template.type={SERVICE_ACCOUNT_TOKEN:?} with annotation {SERVICE_ACCOUNT_NAME:?} is not allowed")
        }
        Some(BOOTSTRAP_TOKEN) => format!("template.type={BOOTSTRAP_TOKEN:?} is not allowed"),
        _ => return Ok(()),
    };
    Err(FieldError::new("spec.target.template", what))
}

fn validate_template_targets(template: &Template) -> Result<(), FieldError> {
    let known = |target: &str| ["", "Data", "Annotations", "Labels"].iter().any(|t| target.eq_ignore_ascii_case(t));
    match template_targets(template).find(|(_, target)| !known(target)) {
        None => Ok(()),
        Some((i, target)) => Err(FieldError::new(
            format!("spec.target.template.templateFrom[{i}].target"),
            format!(
                "templateFrom target={target:?} is not allowed when targeting a Secret, \
                 must be one of \"Data\", \"Annotations\" or \"Labels\""
            ),
        )),
    }
}

fn template_targets(template: &Template) -> impl Iterator<Item = (usize, &str)> {
    template.template_from.iter().map(|from| from.target.as_deref().unwrap_or_default()).enumerate()
}

/// Checks a store's spec: what its CRD holds as CEL, and what only code can tell.
///
/// # Errors
/// The first field that is wrong, the provider's own check last. A provider that is not served passes: that is no mistake.
pub fn validate_store(spec: &StoreSpec, kind: StoreKind) -> Result<(), FieldError> {
    validate_regexes(&spec.conditions)?;
    validate_interval(spec.refresh_interval.as_ref())?;
    if spec.provider == ProviderSpec::None {
        return Err(FieldError::new("spec.provider", format!("{}, found 0", rules::ONE_PROVIDER)));
    }
    let Some(provider) = spec.provider.served() else { return Ok(()) };
    provider.validate(kind).map_err(|e| FieldError::new(format!("spec.provider.{}", spec.provider.name()), e.detail))
}

/// All expressions that do not compile are told at once, as ESO does; the field is that of the first.
fn validate_regexes(conditions: &[StoreCondition]) -> Result<(), FieldError> {
    let (mut field, mut wrong) = (None, Vec::new());
    for (c, condition) in conditions.iter().enumerate() {
        for (i, expression) in condition.namespace_regexes.iter().enumerate() {
            if let Err(error) = re2::compile(expression) {
                field = field.or_else(|| Some(format!("spec.conditions[{c}].namespaceRegexes[{i}]")));
                wrong.push(format!("failed to compile {i}th namespace regex in {c}th condition: {error}"));
            }
        }
    }
    field.map_or(Ok(()), |field| Err(FieldError::new(field, wrong.join("\n"))))
}

fn validate_interval(interval: Option<&IntOrString>) -> Result<(), FieldError> {
    let interval = match interval {
        None => return Ok(()),
        Some(IntOrString::Int(seconds)) => Some(SignedDuration::from_secs(*seconds)),
        Some(IntOrString::String(text)) => duration::parse(text).ok(),
    };
    let message = match interval {
        Some(interval) if !interval.is_negative() => return Ok(()),
        Some(_) => "must not be negative",
        None => "is not a duration: write seconds as a number, or a Go duration such as 5m or 1h30m",
    };
    Err(FieldError::new("spec.refreshInterval", message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn external_secret(spec: Value) -> Result<(), FieldError> {
        validate_external_secret(&serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": spec })).unwrap())
    }

    fn template(target: Value) -> Result<(), FieldError> {
        validate_template(&serde_json::from_value(target).unwrap())
    }

    fn store(spec: Value) -> Result<(), FieldError> {
        validate_store(&serde_json::from_value(spec).unwrap(), StoreKind::ClusterSecretStore)
    }

    fn broken(found: Result<(), FieldError>, field: &str, message: &str) {
        assert_eq!(found, Err(FieldError::new(field, message)));
    }

    #[test]
    fn a_spec_must_name_data() {
        broken(external_secret(json!({})), "spec", "either data or dataFrom should be specified");
        broken(external_secret(json!({ "data": [], "dataFrom": [] })), "spec", rules::NO_DATA);
        assert_eq!(external_secret(json!({ "dataFrom": [{ "find": {} }] })), Ok(()));
    }

    #[test]
    fn the_last_of_two_equal_secret_keys_wins_as_under_eso() {
        let entry = json!({ "secretKey": "k", "remoteRef": { "key": "r" } });
        assert_eq!(external_secret(json!({ "target": { "deletionPolicy": "Retain" }, "data": [entry, entry] })), Ok(()));
    }

    #[test]
    fn policies_must_go_together() {
        let delete = "deletionPolicy=Delete must not be used when the controller doesn't own the secret. \
                      Please set creationPolicy=Owner";
        let merge = "deletionPolicy=Merge must not be used with creationPolicy=None. There is no Secret to merge with";
        let table = [
            (json!({}), None),
            (json!({ "deletionPolicy": "Delete" }), None),
            (json!({ "deletionPolicy": "Delete", "creationPolicy": "Owner" }), None),
            (json!({ "deletionPolicy": "Delete", "creationPolicy": "Orphan" }), None),
            (json!({ "deletionPolicy": "Delete", "creationPolicy": "Merge" }), Some(delete)),
            (json!({ "deletionPolicy": "Delete", "creationPolicy": "None" }), Some(delete)),
            (json!({ "deletionPolicy": "Delete", "creationPolicy": "CreateOrMerge" }), Some(delete)),
            (json!({ "deletionPolicy": "Merge", "creationPolicy": "None" }), Some(merge)),
            (json!({ "deletionPolicy": "Merge", "creationPolicy": "Merge" }), None),
            (json!({ "deletionPolicy": "Retain", "creationPolicy": "None" }), None),
        ];
        for (target, message) in table {
            let found = external_secret(json!({ "target": target, "dataFrom": [{ "find": {} }] }));
            assert_eq!(found, message.map_or(Ok(()), |m| Err(FieldError::new("spec.target.deletionPolicy", m))), "{target}");
        }
    }

    #[test]
    fn an_entry_of_data_from_reads_from_one_place() {
        let (extract, find) = (json!({ "key": "k" }), json!({}));
        let generator = json!({ "generatorRef": { "kind": "UUID", "name": "u" } });
        let store = json!({ "storeRef": { "name": "s" } });
        let entry = "spec.dataFrom[0]";
        let table = [
            (json!({ "extract": extract }), None),
            (json!({ "extract": extract, "sourceRef": store }), None),
            (json!({ "sourceRef": generator }), None),
            (json!({ "sourceRef": store }), None),
            (json!({}), Some((entry, rules::NO_SOURCE))),
            (json!({ "extract": extract, "find": find }), Some((entry, rules::TWO_SOURCES))),
            (json!({ "find": find, "sourceRef": generator }), Some((entry, rules::TWO_SOURCES))),
            (json!({ "find": find, "sourceRef": {} }), Some(("spec.dataFrom[0].sourceRef", rules::ONE_SOURCE_REF))),
            (json!({ "find": find, "rewrite": [{ "merge": {} }] }), None),
            (
                json!({ "find": find, "rewrite": [{ "merge": {} }, {}] }),
                Some(("spec.dataFrom[0].rewrite[1]", rules::ONE_REWRITE)),
            ),
            (
                json!({ "find": find, "rewrite": [{ "merge": {}, "transform": { "template": "t" } }] }),
                Some(("spec.dataFrom[0].rewrite[0]", rules::ONE_REWRITE)),
            ),
        ];
        for (entry, wrong) in table {
            let found = external_secret(json!({ "dataFrom": [entry] }));
            assert_eq!(found, wrong.map_or(Ok(()), |(f, m)| Err(FieldError::new(f, m))), "{entry}");
        }
    }

    #[test]
    fn the_source_of_one_value_is_one() {
        let data =
            |source: Value| json!({ "data": [{ "secretKey": "k", "remoteRef": { "key": "r" }, "sourceRef": source }] });
        broken(external_secret(data(json!({}))), "spec.data[0].sourceRef", rules::ONE_SOURCE_REF);
        assert_eq!(external_secret(data(json!({ "storeRef": { "name": "s" } }))), Ok(()));
    }

    #[test]
    fn templates_mint_no_credentials() {
        let token = "kubernetes.io/service-account-token";
        let manifest = json!({ "apiVersion": "example.org/v1", "kind": "Thing" });
        let annotations = json!({ "kubernetes.io/service-account.name": "default" });
        let annotated = r#"template.type="kubernetes.io/service-account-token" with annotation "kubernetes.io/service-account.name" is not allowed"#;
        let from =
            r#"template.type="kubernetes.io/service-account-token" with templateFrom target="Annotations" is not allowed"#;
        let bootstrap = r#"template.type="bootstrap.kubernetes.io/token" is not allowed"#;
        let table = [
            (json!({}), None),
            (json!({ "template": { "type": "Opaque", "metadata": { "annotations": annotations } } }), None),
            (json!({ "template": { "type": token } }), None),
            (json!({ "template": { "type": token, "metadata": { "annotations": annotations } } }), Some(annotated)),
            (json!({ "template": { "type": token, "templateFrom": [{ "literal": "l", "target": "Labels" }] } }), None),
            (
                json!({ "template": { "type": token, "templateFrom": [{ "literal": "l", "target": "aNNotations" }] } }),
                Some(from),
            ),
            (json!({ "template": { "type": "bootstrap.kubernetes.io/token" } }), Some(bootstrap)),
            (json!({ "manifest": manifest, "template": { "type": "bootstrap.kubernetes.io/token" } }), Some(bootstrap)),
        ];
        for (target, message) in table {
            let wanted = message.map_or(Ok(()), |m| Err(FieldError::new("spec.target.template", m)));
            assert_eq!(template(target.clone()), wanted, "{target}");
        }
    }

    #[test]
    fn templates_fill_parts_that_a_secret_has() {
        let filling = |part: &str| json!([{ "literal": "l" }, { "literal": "l", "target": part }]);
        for part in ["", "Data", "data", "LABELS", "Annotations"] {
            assert_eq!(template(json!({ "template": { "templateFrom": filling(part) } })), Ok(()), "{part}");
        }
        let field = "spec.target.template.templateFrom[1].target";
        let message = r#"templateFrom target="type" is not allowed when targeting a Secret, must be one of "Data", "Annotations" or "Labels""#;
        broken(template(json!({ "template": { "templateFrom": filling("type") } })), field, message);
        let secret = json!({ "apiVersion": "v1", "kind": "Secret" });
        broken(template(json!({ "manifest": secret, "template": { "templateFrom": filling("type") } })), field, message);
        let thing = json!({ "apiVersion": "example.org/v1", "kind": "Thing" });
        assert_eq!(template(json!({ "manifest": thing, "template": { "templateFrom": filling("spec.a[0].b") } })), Ok(()));
    }

    #[test]
    fn a_store_must_be_whole() {
        let provider = json!({ "device42": {} });
        let none = "secret stores must only have exactly one backend specified, found 0";
        let no_duration = "is not a duration: write seconds as a number, or a Go duration such as 5m or 1h30m";
        let regex =
            r"failed to compile 1th namespace regex in 1th condition: error parsing regexp: invalid escape sequence: `\1`";
        let both = format!(
            "failed to compile 0th namespace regex in 0th condition: error parsing regexp: missing closing ): `(`\n{regex}"
        );
        let with = |more: Value| {
            let mut spec = json!({ "provider": provider });
            spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            spec
        };
        let table = [
            (with(json!({})), None),
            (json!({}), Some(("spec.provider", none))),
            (json!({ "provider": {} }), Some(("spec.provider", none))),
            (with(json!({ "refreshInterval": 0 })), None),
            (with(json!({ "refreshInterval": "5m" })), None),
            (with(json!({ "refreshInterval": -1 })), Some(("spec.refreshInterval", "must not be negative"))),
            (with(json!({ "refreshInterval": "-5m" })), Some(("spec.refreshInterval", "must not be negative"))),
            (with(json!({ "refreshInterval": "soon" })), Some(("spec.refreshInterval", no_duration))),
            (with(json!({ "conditions": [{ "namespaceRegexes": ["^a-.*$", ""] }] })), None),
            (
                with(json!({ "conditions": [{}, { "namespaceRegexes": ["ok", r"\1"] }] })),
                Some(("spec.conditions[1].namespaceRegexes[1]", regex)),
            ),
            (
                with(json!({ "conditions": [{ "namespaceRegexes": ["("] }, { "namespaceRegexes": ["ok", r"\1"] }] })),
                Some(("spec.conditions[0].namespaceRegexes[0]", both.as_str())),
            ),
        ];
        for (spec, wrong) in table {
            let wanted = wrong.map_or(Ok(()), |(field, message)| Err(FieldError::new(field, message)));
            assert_eq!(store(spec.clone()), wanted, "{spec}");
        }
    }

    #[test]
    fn an_error_names_the_field() {
        let error = external_secret(json!({ "dataFrom": [{}] })).unwrap_err();
        assert_eq!(error.to_string(), "spec.dataFrom[0]: either extract, find, or sourceRef must be set to dataFrom");
    }
}
