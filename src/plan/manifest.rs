//! Targets of other kinds than Secret (`target.manifest`): what the object should look like, and whether the one that is there
//! must be written. Who owns it is decided as for Secrets; ESO does not ask, and replaces what is there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::digest::Digester;
use super::external_secret::{Facts, Failure, Gathered, NOT_ALLOWED, Seen};
use super::names::Names;
use super::target::{self, merges};
use super::{Rules, object_hash, template};
use crate::api::external_secret::{CreationPolicy, ManifestRef};
use crate::api::{ANNOTATION_DATA_HASH, Condition, ExternalSecret};
use crate::index::{TargetView, controller_of};
use crate::render::Outside;
use crate::render::manifest::{self, Manifest, SecretJson};
use crate::render::target::Sources;
use crate::validate;

/// ESO's program, which is the field manager of what it writes without naming one.
const ESO_PROGRAM: &str = "external-secrets";

/// What an object of another kind should look like.
#[derive(Clone, Debug)]
pub struct Desired {
    /// All of it that we own, as it is applied.
    pub body: SecretJson,
    /// Field manager that it is applied as.
    pub manager: String,
    /// Whether no field of ours may become empty. What a template makes of a value may be.
    pub guarded: bool,
    /// Whether it comes of no values, where the provider does not say that they do not exist: then no field of ours goes, either.
    pub found_nothing: bool,
    /// Which names of fields may be told: a template may have made keys of maps of values.
    pub names: Names,
    /// Keyed digest of that, or of what it was rendered from.
    pub applied: String,
}

/// What to do with the object that is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is as it should be.
    None,
    /// It is to be made.
    Create,
    /// It is to be written.
    Update(Update),
}

/// A write of an object that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// As long as it has this resourceVersion.
    pub resource_version: String,
    /// `metadata.managedFields` to set before, where ESO's entries are to become ours.
    pub managed_fields: Option<Vec<ManagedFieldsEntry>>,
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
        Some(template) => {
            template::with_engine(values, rules, outside, |engine| manifest::manifest(kind, template, sources, engine))
        }
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
    let found_nothing = gathered.found_nothing();
    let guarded = found_nothing || target.template.is_none();
    let mut names = Names::of(target.template.as_ref(), sources, &rules.delimiters, true);
    names.know(values.keys());
    Ok(Desired { body: SecretJson::new(body), manager: target::manager(es), guarded, found_nothing, names, applied })
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

/// What is seen of a live object. What another ExternalSecret wrote is no drift until the next refresh, as under ESO: two that want
/// one field otherwise would write it in turn, without end.
#[must_use]
pub fn seen(es: &ExternalSecret, meta: &ObjectMeta, live: &Value, digester: &Digester) -> Seen {
    let recorded = es.status.as_ref().and_then(|status| status.target.as_ref()?.digest.clone());
    let settled = recorded.filter(|_| es.ready().is_some_and(Condition::is_ready) && another_wrote_last(es, meta));
    Seen { view: TargetView::of(meta), digest: settled.unwrap_or_else(|| digest(live, digester)), own: None, taken: false }
}

/// Whether the last to write an object is another ExternalSecret that merges into it. Times of writes are whole seconds.
fn another_wrote_last(es: &ExternalSecret, meta: &ObjectMeta) -> bool {
    let entries = meta.managed_fields.as_deref().unwrap_or_default();
    let whole = || entries.iter().filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty());
    let time = |entry: &ManagedFieldsEntry| entry.time.as_ref().map(|time| time.0);
    let last = whole().filter_map(time).max();
    let newest = whole().filter(|entry| time(entry) == last).filter_map(|entry| entry.manager.as_deref());
    let newest: Vec<&str> = newest.collect();
    let own = object_hash::own_manager(es.metadata.name.as_deref().unwrap_or_default());
    newest.iter().all(|manager| target::is_own_manager(manager))
        && newest.iter().any(|manager| manager.contains('/') && **manager != own)
}

/// Says what to do with the object, now that it was read.
///
/// # Errors
/// Somebody else owns it, or it would lose something that must stay.
pub fn change(
    es: &ExternalSecret,
    rules: &Rules,
    desired: &Desired,
    live: Option<(&ObjectMeta, &Value)>,
) -> Result<Change, Failure> {
    let Some((meta, live)) = live else {
        if es.target().creation_policy == Some(CreationPolicy::Merge) {
            return Err(Failure::retry(
                "could not get target resource",
                "it is gone, and creationPolicy Merge makes none".into(),
            ));
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
    let ours = Ours::of(es, meta);
    let gone = ours.fields(meta).any(|fields| names_more(fields, body));
    if holds(live, body) && !gone {
        return Ok(Change::None);
    }
    let lost = |(name, below): (&str, &Value)| {
        name != "metadata" && loses(below, live.get(name), body.get(name), desired.found_nothing)
    };
    if desired.guarded
        && ours.fields(meta).flat_map(named).any(lost)
        && let Some(cause) = target::vanished(es)
    {
        return Err(Failure { bound: false, ..Failure::retry("could not update secret", cause) });
    }
    Ok(Change::Update(Update {
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        managed_fields: target::retired_of(meta, |entry| ours.has(entry), &desired.manager),
    }))
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
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| match live.get(name) {
            Some(live) if name == "ownerReferences" => owners_hold(live, wanted),
            Some(live) => holds(live, wanted),
            None => empty(wanted),
        }),
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

/// Which entries of managedFields are an ExternalSecret's: as for Secrets, and what ESO left, which writes objects of other kinds
/// without a field manager for each of its objects: that is whose object it is, and nobody's where several write into it.
struct Ours(target::Ours);

impl Ours {
    fn of(es: &ExternalSecret, live: &ObjectMeta) -> Self {
        Self(target::Ours::of(es, live))
    }

    fn has(&self, entry: &ManagedFieldsEntry) -> bool {
        let is_esos = entry.manager.as_deref() == Some(ESO_PROGRAM) && entry.operation.as_deref() == Some("Update");
        let whole = entry.subresource.as_deref().unwrap_or_default().is_empty();
        self.0.has(entry) || (self.0.alone && is_esos && whole)
    }

    fn fields<'m>(&self, meta: &'m ObjectMeta) -> impl Iterator<Item = &'m Value> {
        let ours = meta.managed_fields.iter().flatten().filter(|entry| self.has(entry));
        ours.filter_map(|entry| entry.fields_v1.as_ref().map(|fields| &fields.0))
    }
}

/// Whether we own a field that is wanted no more. Items of lists are not told apart: they are compared as values.
fn names_more(fields: &Value, wanted: &Value) -> bool {
    named(fields).any(|(name, below)| match wanted.get(name) {
        Some(wanted) => names_more(below, wanted),
        None if named(below).next().is_some() => names_more(below, &Value::Null),
        // ESO's goes with its entries, when the object is next written for another reason
        None => name != ANNOTATION_DATA_HASH && !target::NOT_COPIED.contains(&name),
    })
}

/// Whether a field that we own and that holds something would be empty, or would go where that counts, too. What others have in
/// an object of ours stays by itself.
fn loses(fields: &Value, live: Option<&Value>, wanted: Option<&Value>, or_goes: bool) -> bool {
    let Some(live) = live else { return false };
    if named(fields).next().is_none() {
        return !blank(live) && wanted.map_or(or_goes, blank);
    }
    named(fields).any(|(name, below)| loses(below, live.get(name), wanted.and_then(|wanted| wanted.get(name)), or_goes))
}

fn blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn named(fields: &Value) -> impl Iterator<Item = (&str, &Value)> {
    fields.as_object().into_iter().flatten().filter_map(|(name, below)| Some((name.strip_prefix("f:")?, below)))
}

#[cfg(test)]
mod tests;
