//! Targets of other kinds than Secret (`target.manifest`): what the object should look like, and whether the one that is there
//! must be written. Who owns it is decided as for Secrets; ESO does not ask, and replaces what is there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Map, Value, json};

use super::digest::Digester;
use super::external_secret::{Facts, Failure, Gathered, NOT_ALLOWED};
use super::target::{self, FIELD_MANAGER, merges};
use super::{Rules, template};
use crate::api::ExternalSecret;
use crate::api::external_secret::{CreationPolicy, ManifestRef};
use crate::index::controller_of;
use crate::render::Outside;
use crate::render::manifest::{self, Manifest, SecretJson};
use crate::render::target::Sources;
use crate::validate;

/// What an object of another kind should look like.
#[derive(Clone, Debug)]
pub struct Desired {
    /// All of it that we own, as it is applied.
    pub body: SecretJson,
    /// Keyed digest of that, or of what it was rendered from.
    pub applied: String,
}

/// What to do with the object that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is as it should be.
    None,
    /// It is to be made.
    Create,
    /// It is to be written, as long as it has this resourceVersion.
    Update(String),
}

/// Whether an ExternalSecret may have such a target at all.
///
/// # Errors
/// Why not, under ESO's text.
pub fn check_allowed(es: &ExternalSecret, rules: &Rules) -> Result<(), Failure> {
    let refuse = |cause: String| Err(Failure::spec(NOT_ALLOWED, cause));
    let target = es.target();
    let Some(kind) = &target.manifest else { return Ok(()) };
    if !rules.generic_targets {
        return refuse("generic targets are disabled. Enable with --unsafe-allow-generic-targets flag".into());
    }
    match (kind.api_version.as_str(), kind.kind.as_str()) {
        ("", _) => refuse("target.manifest.apiVersion is required".into()),
        (_, "") => refuse("target.manifest.kind is required".into()),
        _ => Ok(()),
    }
}

/// Renders the object that an ExternalSecret wants.
///
/// # Errors
/// A template that cannot be rendered, or that would make Kubernetes mint a credential.
pub fn render(
    facts: &Facts,
    rules: &Rules,
    gathered: &Gathered,
    sources: &Sources,
    outside: Outside<'_>,
    digester: &Digester,
) -> Result<Desired, Failure> {
    let es = &facts.es;
    let (target, values) = (es.target(), &gathered.data);
    let Some(kind) = &target.manifest else { return Err(failure("target.manifest is gone".into())) };
    let (made, stable) = match &target.template {
        Some(template) => template::with_engine(values, rules, outside, |engine| {
            manifest::manifest(kind, template, sources, engine)
        }),
        None => {
            let (labels, annotations) = target::copied_metadata(es);
            (Ok(Manifest { fields: manifest::plain(kind, values), labels, annotations }), true)
        }
    };
    let mut made = made.map_err(|e| failure(e.to_string()))?;
    if is_secret(kind) {
        let type_ = made.fields.expose().get("type").and_then(Value::as_str);
        validate::validate_secret_type(type_, &made.annotations).map_err(|e| failure(e.message))?;
    }
    let owner = target::claim(es, &mut made.labels);
    let body = body(es, kind, &made, owner.as_ref());
    let applied = match stable {
        true => template::inputs(facts, rules, values, &template::versions(sources), digester),
        false => digester.json(fields(&body)),
    };
    Ok(Desired { body: SecretJson::new(body), applied })
}

fn is_secret(kind: &ManifestRef) -> bool {
    kind.api_version == "v1" && kind.kind == "Secret"
}

fn failure(cause: String) -> Failure {
    Failure { bound: false, ..Failure::retry("could not apply template to manifest", cause) }
}

fn body(es: &ExternalSecret, kind: &ManifestRef, made: &Manifest, owner: Option<&OwnerReference>) -> Value {
    let mut body = made.fields.expose().clone();
    body["apiVersion"] = json!(kind.api_version);
    body["kind"] = json!(kind.kind);
    body["metadata"] = json!({ "name": es.target_name(), "namespace": es.metadata.namespace, "labels": made.labels });
    if !made.annotations.is_empty() {
        body["metadata"]["annotations"] = json!(made.annotations);
    }
    if let Some(owner) = owner {
        body["metadata"]["ownerReferences"] = json!([owner]);
    }
    body
}

/// The fields of an object that hold what it is for.
fn fields(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = object.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value));
    all.filter(|(name, _)| !matches!(*name, "apiVersion" | "kind" | "metadata" | "status"))
}

/// Digest of what a live object holds, by which drift is known.
#[must_use]
pub fn digest(live: &Value, digester: &Digester) -> String {
    digester.json(fields(live))
}

/// Says what to do with the object, now that it was read.
///
/// # Errors
/// Somebody else owns it.
pub fn change(es: &ExternalSecret, rules: &Rules, desired: &Desired, live: Option<(&ObjectMeta, &Value)>) -> Result<Change, Failure> {
    let Some((meta, live)) = live else {
        if es.target().creation_policy == Some(CreationPolicy::Merge) {
            return Err(Failure::retry("could not get target resource", "it is gone, and creationPolicy Merge makes none".into()));
        }
        return Ok(Change::Create);
    };
    target::check_owner(es, meta, rules.adopt)?;
    check_controller(es, meta)?;
    let body = desired.body.expose();
    if es.target().manifest.as_ref().is_some_and(is_secret) {
        let annotations = serde_json::from_value(body["metadata"]["annotations"].clone()).unwrap_or_default();
        validate::validate_secret_type(live["type"].as_str(), &annotations).map_err(|e| failure(e.message))?;
    }
    let gone = ours(meta).any(|fields| names_more(fields, body));
    if holds(live, body) && !gone {
        return Ok(Change::None);
    }
    Ok(Change::Update(meta.resource_version.clone().unwrap_or_default()))
}

/// An object that another controller made is never taken from it, also where a Secret could be: nobody knows what its kind does.
fn check_controller(es: &ExternalSecret, meta: &ObjectMeta) -> Result<(), Failure> {
    match controller_of(meta) {
        Some(owner) if Some(&owner.uid) != es.metadata.uid.as_ref() && owner.kind != "ExternalSecret" => {
            if merges(es.target().creation_policy.unwrap_or_default()) {
                return Ok(());
            }
            let cause = format!(
                "it is controlled by {} {:?}: choose another target.name, or creationPolicy Merge to add fields to it",
                owner.kind, owner.name
            );
            Err(Failure::target("failed to take ownership of target secret", cause))
        }
        _ => Ok(()),
    }
}

/// Whether a live value holds all of what is wanted; what others and the API server added does not matter.
fn holds(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| match live.get(name) {
                Some(live) if name == "ownerReferences" => owners_hold(live, wanted),
                Some(live) => holds(live, wanted),
                None => empty(wanted),
            })
        }
        (Value::Array(live), Value::Array(wanted)) => {
            live.len() == wanted.len() && live.iter().zip(wanted).all(|(live, wanted)| holds(live, wanted))
        }
        (live, wanted) => live == wanted,
    }
}

fn owners_hold(live: &Value, wanted: &Value) -> bool {
    let same = |wanted: &Value| live.as_array().is_some_and(|live| live.iter().any(|live| holds(live, wanted)));
    wanted.as_array().is_some_and(|wanted| wanted.iter().all(same))
}

/// What the API server leaves out.
fn empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The fields that we own, by managedFields.
fn ours(meta: &ObjectMeta) -> impl Iterator<Item = &Value> {
    let entries = meta.managed_fields.iter().flatten();
    let ours = entries.filter(|e| e.manager.as_deref() == Some(FIELD_MANAGER) && e.operation.as_deref() == Some("Apply"));
    ours.filter_map(|e| e.fields_v1.as_ref().map(|fields| &fields.0))
}

/// Whether we own a field that is wanted no more. Items of lists are not told apart: they are compared as values.
fn names_more(fields: &Value, wanted: &Value) -> bool {
    let none = Map::new();
    let fields = fields.as_object().unwrap_or(&none).iter();
    let mut named = fields.filter_map(|(name, below)| Some((name.strip_prefix("f:")?, below)));
    named.any(|(name, below)| wanted.get(name).is_none_or(|wanted| names_more(below, wanted)))
}
