//! Targets of other kinds than Secret (`target.manifest`): what the object should look like, and whether the one that is there
//! must be written. Who owns it is decided as for Secrets; ESO does not ask, and replaces what is there.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use super::digest::Digester;
use super::external_secret::{Facts, Failure, Gathered, NOT_ALLOWED};
use super::target::{self, merges};
use super::{Rules, template};
use crate::api::external_secret::{CreationPolicy, ManifestRef};
use crate::api::{ANNOTATION_DATA_HASH, ExternalSecret};
use crate::index::controller_of;
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
    Ok(Desired { body: SecretJson::new(body), manager: target::manager(es), applied })
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

fn named(fields: &Value) -> impl Iterator<Item = (&str, &Value)> {
    fields.as_object().into_iter().flatten().filter_map(|(name, below)| Some((name.strip_prefix("f:")?, below)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1;

    use super::*;
    use crate::plan::external_secret::Memory;
    use crate::plan::target::FIELD_MANAGER;
    use crate::render::rewrite::testing::outside;

    fn facts(target: &Value) -> Facts {
        let es: ExternalSecret = serde_json::from_value(json!({
            "metadata": { "name": "es", "namespace": "ns", "uid": "own", "labels": { "team": "a" } }, "spec": { "target": target },
        }))
        .unwrap();
        Facts {
            es: std::sync::Arc::new(es),
            stores: Default::default(),
            generators: Default::default(),
            namespace_labels: None,
            target: None,
            owned: Vec::new(),
            replace_at: None,
            sources: Default::default(),
            memory: Memory::default(),
            now: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    fn config_map(more: &Value) -> Value {
        let mut target = json!({ "manifest": { "apiVersion": "v1", "kind": "ConfigMap" } });
        target.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        target
    }

    fn desired(facts: &Facts) -> Result<Desired, Failure> {
        let data = [("a".to_owned(), "1".into()), ("b".to_owned(), "2".into())].into();
        let gathered = Gathered { data, ..Gathered::default() };
        render(facts, &Rules::default(), &gathered, &Sources::new(), outside(), &Digester::new(b"test key"))
    }

    /// The object as the API server keeps it after our apply.
    fn applied(desired: &Desired) -> (ObjectMeta, Value) {
        let mut live = desired.body.expose().clone();
        live["metadata"]["uid"] = json!("made");
        live["metadata"]["resourceVersion"] = json!("7");
        let mut meta: ObjectMeta = serde_json::from_value(live["metadata"].clone()).unwrap();
        let entry = ManagedFieldsEntry {
            manager: Some(FIELD_MANAGER.into()),
            operation: Some("Apply".into()),
            fields_v1: Some(FieldsV1(
                json!({ "f:data": { "f:a": {}, "f:b": {} }, "f:metadata": { "f:labels": { "f:team": {} } } }),
            )),
            ..ManagedFieldsEntry::default()
        };
        meta.managed_fields = Some(vec![entry]);
        (meta, live)
    }

    fn decide(facts: &Facts, desired: &Desired, live: &(ObjectMeta, Value)) -> Result<Change, Failure> {
        change(&facts.es, &Rules::default(), desired, Some((&live.0, &live.1)))
    }

    #[test]
    fn what_is_applied_is_what_we_own() {
        let body = desired(&facts(&config_map(&json!({ "name": "cm" })))).unwrap().body.expose().clone();
        assert_eq!((&body["apiVersion"], &body["kind"]), (&json!("v1"), &json!("ConfigMap")));
        assert_eq!(body["data"], json!({ "a": "1", "b": "2" }));
        assert_eq!((&body["metadata"]["name"], &body["metadata"]["namespace"]), (&json!("cm"), &json!("ns")));
        assert_eq!(body["metadata"]["labels"]["team"], "a");
        assert_eq!(body["metadata"]["labels"]["reconcile.external-secrets.io/managed"], "true");
        assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "own");
        let orphan = desired(&facts(&config_map(&json!({ "creationPolicy": "Orphan" })))).unwrap();
        assert_eq!(orphan.body.expose()["metadata"].get("ownerReferences"), None);
    }

    #[test]
    fn an_object_is_written_only_where_it_differs() {
        let facts = facts(&config_map(&json!({})));
        let desired = desired(&facts).unwrap();
        assert_eq!(change(&facts.es, &Rules::default(), &desired, None), Ok(Change::Create));
        let good = applied(&desired);
        assert_eq!(decide(&facts, &desired, &good), Ok(Change::None));
        let update = Ok(Change::Update(Update { resource_version: "7".into(), managed_fields: None }));
        let with = |change: &dyn Fn(&mut Value)| {
            let mut live = good.clone();
            change(&mut live.1);
            decide(&facts, &desired, &live)
        };
        assert_eq!(with(&|live| live["data"]["others"] = json!("x")), Ok(Change::None), "what others add is theirs");
        assert_eq!(with(&|live| live["data"]["a"] = json!("x")), update);
        assert_eq!(with(&|live| live["metadata"]["labels"]["team"] = json!("x")), update);
        assert_eq!(with(&|live| live["metadata"]["ownerReferences"] = json!([])), update);
        // a key that we own and no longer want
        let mut less = good.clone();
        less.0.managed_fields.as_mut().unwrap()[0].fields_v1 = Some(FieldsV1(json!({ "f:data": { "f:old": {} } })));
        assert_eq!(decide(&facts, &desired, &less), update);
    }

    /// ESO names no field manager for these objects, so it is the name of its program.
    #[test]
    fn what_eso_wrote_is_taken_over_and_its_entries_retired() {
        let facts = facts(&config_map(&json!({})));
        let desired = desired(&facts).unwrap();
        let entry = |manager: &str, operation: &str, fields: Value| ManagedFieldsEntry {
            manager: Some(manager.into()),
            operation: Some(operation.into()),
            fields_v1: Some(FieldsV1(fields)),
            ..ManagedFieldsEntry::default()
        };
        let metadata = json!({
            "f:annotations": { ".": {}, "f:reconcile.external-secrets.io/data-hash": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {} },
            "f:labels": { ".": {}, "f:team": {}, "f:reconcile.external-secrets.io/managed": {} },
            "f:ownerReferences": { ".": {}, "k:{\"uid\":\"own\"}": {} },
        });
        let esos = |data: Value| entry(ESO_PROGRAM, "Update", json!({ "f:data": data, "f:metadata": metadata }));
        let others = entry("kubectl-edit", "Update", json!({ "f:data": { "f:theirs": {} } }));
        let decide = |data: Value| {
            let (mut meta, live) = applied(&desired);
            meta.managed_fields = Some(vec![others.clone(), esos(data)]);
            decide(&facts, &desired, &(meta, live))
        };
        assert_eq!(decide(json!({ ".": {}, "f:a": {}, "f:b": {} })), Ok(Change::None), "nothing differs");
        let Ok(Change::Update(update)) = decide(json!({ ".": {}, "f:a": {}, "f:b": {}, "f:old": {} })) else {
            panic!("a key that ESO wrote stays")
        };
        let entries = update.managed_fields.unwrap();
        let managers: Vec<_> = entries.iter().map(|e| (e.manager.clone().unwrap(), e.operation.clone().unwrap())).collect();
        let named = |manager: &str, operation: &str| (manager.to_owned(), operation.to_owned());
        assert_eq!(managers, [named("kubectl-edit", "Update"), named(FIELD_MANAGER, "Apply")]);
        assert!(entries[1].fields_v1.as_ref().unwrap().0["f:data"].get("f:old").is_some(), "apply takes it away");
        // what a controller of that name writes to the status is no business of ours
        let mut status = esos(json!({ "f:old": {} }));
        status.subresource = Some("status".into());
        assert!(!Ours::of(&facts.es, &ObjectMeta::default()).has(&status));
    }

    /// Apply takes from a manager what it names no more: as one manager, two that merge took each other's fields in a loop.
    #[test]
    fn those_that_merge_are_managers_of_their_own() {
        let facts = facts(&config_map(&json!({ "creationPolicy": "Merge" })));
        let desired = desired(&facts).unwrap();
        assert_eq!(desired.manager, "keyferry/es");
        let applied_by = |manager: &str, data: Value| {
            let (mut meta, live) = applied(&desired);
            let entry = &mut meta.managed_fields.as_mut().unwrap()[0];
            entry.manager = Some(manager.into());
            entry.fields_v1 = Some(FieldsV1(json!({ "f:data": data })));
            (meta, live)
        };
        for theirs in ["keyferry/other", FIELD_MANAGER, ESO_PROGRAM] {
            let live = applied_by(theirs, json!({ "f:theirs": {} }));
            assert_eq!(decide(&facts, &desired, &live), Ok(Change::None), "{theirs}");
        }
        let own = applied_by("keyferry/es", json!({ "f:a": {}, "f:old": {} }));
        let update = Update { resource_version: "7".into(), managed_fields: None };
        assert_eq!(decide(&facts, &desired, &own), Ok(Change::Update(update)));
    }

    /// ESO replaces whatever is there.
    #[test]
    fn what_others_own_is_not_taken() {
        let owned_by = |kind: &str, uid: &str| json!([{ "apiVersion": "external-secrets.io/v1", "kind": kind, "name": "other", "uid": uid, "controller": true }]);
        for (policy, kind, wrong) in [
            ("Owner", "ExternalSecret", Some("target is owned by another ExternalSecret")),
            ("Orphan", "ExternalSecret", Some("target is owned by another ExternalSecret")),
            ("Merge", "ExternalSecret", Some("target is owned by another ExternalSecret")),
            ("Owner", "Deployment", Some("failed to take ownership of target secret")),
            ("Orphan", "Deployment", Some("failed to take ownership of target secret")),
            ("CreateOrMerge", "Deployment", None),
        ] {
            let facts = facts(&config_map(&json!({ "creationPolicy": policy })));
            let desired = desired(&facts).unwrap();
            let mut live = applied(&desired);
            live.0.owner_references = serde_json::from_value(owned_by(kind, "another")).unwrap();
            let found = decide(&facts, &desired, &live).map_err(|f| f.message);
            assert_eq!(found.err(), wrong, "{policy} {kind}");
        }
        let facts = facts(&config_map(&json!({})));
        let desired = desired(&facts).unwrap();
        let mut foreign = applied(&desired);
        (foreign.0.labels, foreign.0.owner_references) = (None, None);
        foreign.1["metadata"] = json!({ "name": "es", "namespace": "ns" });
        assert!(matches!(decide(&facts, &desired, &foreign), Ok(Change::Update(_))), "adopted, as a Secret would be");
        let rules = Rules { adopt: false, ..Rules::default() };
        assert!(change(&facts.es, &rules, &desired, Some((&foreign.0, &foreign.1))).is_err());
    }

    #[test]
    fn a_merge_makes_nothing() {
        let facts = facts(&config_map(&json!({ "creationPolicy": "Merge" })));
        assert!(change(&facts.es, &Rules::default(), &desired(&facts).unwrap(), None).is_err());
    }

    /// CVE-2026-42876, by way of a manifest.
    #[test]
    fn a_secret_as_a_manifest_mints_no_credential() {
        let kind = json!({ "apiVersion": "v1", "kind": "Secret" });
        let with = |template: Value| desired(&facts(&json!({ "manifest": kind, "template": template })));
        let annotation = json!({ "kubernetes.io/service-account.name": "default" });
        let from = json!([{ "target": "type", "literal": "kubernetes.io/service-account-token" }]);
        let error = with(json!({ "metadata": { "annotations": annotation }, "templateFrom": from })).unwrap_err();
        assert_eq!(error.message, "could not apply template to manifest");
        assert!(error.cause.contains("is not allowed"), "{}", error.cause);
        let bootstrap = json!([{ "target": "type", "literal": "bootstrap.kubernetes.io/token" }]);
        assert!(with(json!({ "templateFrom": bootstrap })).is_err());
        assert!(with(json!({ "data": { "k": "dg==" } })).is_ok());
    }

    #[test]
    fn the_digest_knows_what_an_object_holds_whatever_the_order() {
        let digester = Digester::new(b"test key");
        let of = |live: Value| digest(&live, &digester);
        let plain = of(json!({ "metadata": { "uid": "1" }, "spec": { "a": 1, "b": ["x"] }, "status": { "x": 1 } }));
        assert_eq!(plain, of(json!({ "spec": { "b": ["x"], "a": 1 }, "status": {}, "metadata": {} })));
        assert_ne!(plain, of(json!({ "spec": { "a": "1", "b": ["x"] } })));
        assert_ne!(plain, of(json!({ "spec": { "a": 1, "b": ["x", null] } })));
    }
}
