//! What a Secret should look like, who may write it, and what has to change in the one that is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference};

use super::external_secret::Failure;
use super::names::Names;
use super::object_hash;
use crate::api::external_secret::CreationPolicy;
use crate::api::{ANNOTATION_ALLOW_EMPTY, ExternalSecret, LABEL_CREATED_BY, LABEL_MANAGED, LABEL_MANAGED_VALUE};
use crate::index::{controller_of, is_external_secret};
use crate::secret_bytes::SecretBytes;
use crate::validate;

/// What the condition says where an immutable Secret cannot hold what is wanted: ESO's text.
pub const IMMUTABLE: &str = "could not update secret, target is immutable";

/// keyferry's field manager; for Secrets that several ExternalSecrets may write, see [`manager`].
pub const FIELD_MANAGER: &str = "keyferry";
/// What ESO's field managers begin with.
pub const ESO_FIELD_MANAGER: &str = "externalsecrets.external-secrets.io/";
/// Annotations that say something about the ExternalSecret itself and are not copied onto its Secret.
pub(super) const NOT_COPIED: [&str; 1] = ["kubectl.kubernetes.io/last-applied-configuration"];
/// Annotations of keyferry's own: they steer it and say nothing about a Secret.
const OWN_PREFIX: &str = "keyferry.io/";

/// What a Secret should look like.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Type; `None` leaves it as it is, or `Opaque`.
    pub type_: Option<String>,
    /// Labels that we own.
    pub labels: BTreeMap<String, String>,
    /// Annotations that we own.
    pub annotations: BTreeMap<String, String>,
    /// Finalizers that we add.
    pub finalizers: Vec<String>,
    /// Values that we own.
    pub data: BTreeMap<String, SecretBytes>,
    /// Whether the Secret is made immutable.
    pub immutable: bool,
    /// Owner, for policy `Owner`.
    pub owner: Option<OwnerReference>,
    /// Whether values of others go: all policies but those that merge.
    pub replace: bool,
    /// Field manager that it is applied as.
    pub manager: String,
    /// Whether an empty value may not take the place of one that is not.
    pub guarded: bool,
    /// Whether it comes of no values, where the provider does not say that they do not exist: then no value of ours goes.
    pub found_nothing: bool,
    /// Which keys may be told, where a template may have made some of values.
    pub names: Option<Arc<Names>>,
    /// Keyed digest of all this, or of what all this was rendered from.
    pub applied: String,
}

impl Desired {
    /// Whether a key may be told: it is none that a template made of a value.
    #[must_use]
    pub fn tells(&self, key: &str) -> bool {
        self.names.as_ref().is_none_or(|names| names.shows(key))
    }
}

/// What goes into a Secret, whoever owns it.
#[derive(Clone, Debug, Default)]
pub struct Content {
    /// Type, if one is asked for.
    pub type_: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Finalizers.
    pub finalizers: Vec<String>,
    /// Keys and values.
    pub data: BTreeMap<String, SecretBytes>,
    /// See [`Desired::guarded`].
    pub guarded: bool,
    /// See [`Desired::found_nothing`].
    pub found_nothing: bool,
    /// See [`Desired::names`].
    pub names: Option<Arc<Names>>,
}

impl Content {
    /// Values as they are, with the labels and annotations of the ExternalSecret: what ESO does without a template.
    #[must_use]
    pub fn plain(es: &ExternalSecret, data: BTreeMap<String, SecretBytes>) -> Self {
        let (labels, annotations) = copied_metadata(es);
        Self { labels, annotations, data, guarded: true, ..Self::default() }
    }
}

/// Labels and annotations that go from an ExternalSecret to its target where no template gives others.
#[must_use]
pub fn copied_metadata(es: &ExternalSecret) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let mut annotations = es.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()) && !key.starts_with(OWN_PREFIX));
    (es.metadata.labels.clone().unwrap_or_default(), annotations)
}

/// Adds the labels that say who manages a target, and gives its owner, for policy `Owner`.
pub fn claim(es: &ExternalSecret, labels: &mut BTreeMap<String, String>) -> Option<OwnerReference> {
    labels.insert(LABEL_MANAGED.into(), LABEL_MANAGED_VALUE.into());
    labels.remove(LABEL_CREATED_BY);
    (es.target().creation_policy.unwrap_or_default() == CreationPolicy::Owner).then(|| {
        let namespace = es.metadata.namespace.as_deref().unwrap_or_default();
        let name = es.metadata.name.as_deref().unwrap_or_default();
        labels.insert(LABEL_CREATED_BY.into(), object_hash::created_by_label(namespace, name));
        owner_reference(es)
    })
}

/// Puts together what an ExternalSecret wants of its Secret. The digest is the caller's to add.
#[must_use]
pub fn desired(es: &ExternalSecret, content: Content) -> Desired {
    let target = es.target();
    let Content { type_, mut labels, annotations, finalizers, data, guarded, found_nothing, names } = content;
    let owner = claim(es, &mut labels);
    Desired {
        name: es.target_name().to_owned(),
        namespace: es.metadata.namespace.clone().unwrap_or_default(),
        type_,
        labels,
        annotations,
        finalizers,
        data,
        immutable: target.immutable.unwrap_or_default(),
        owner,
        replace: !merges(target.creation_policy.unwrap_or_default()),
        manager: manager(es),
        guarded,
        found_nothing,
        names,
        applied: String::new(),
    }
}

/// The field manager of an ExternalSecret's target. Those that merge into one Secret have one each: apply takes from a manager what
/// it names no more, and so they would take each other's keys.
#[must_use]
pub fn manager(es: &ExternalSecret) -> String {
    match merges(es.target().creation_policy.unwrap_or_default()) {
        true => object_hash::own_manager(es.metadata.name.as_deref().unwrap_or_default()),
        false => FIELD_MANAGER.to_owned(),
    }
}

/// The values in a Secret that an ExternalSecret wrote, as its managed fields have it.
pub fn own_data<'s>(es: &ExternalSecret, live: &'s Secret) -> impl Iterator<Item = (&'s str, &'s [u8])> {
    let owned = Owned::of(&live.metadata, &Ours::of(es, &live.metadata)).data;
    let data = live.data.iter().flatten().filter(move |(key, _)| owned.contains(*key));
    data.map(|(key, value)| (key.as_str(), value.0.as_slice()))
}

/// Whether other ExternalSecrets, under us or under ESO, wrote a Secret's data last, so that a key which differs may be theirs by now.
/// Whoever else wrote in that same second may have changed ours.
#[must_use]
pub fn is_taken(es: &ExternalSecret, live: &Secret) -> bool {
    let ours = Ours::of(es, &live.metadata);
    let holds_data = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| names(&fields.0["f:data"]).next().is_some())
    };
    let writers: Vec<&ManagedFieldsEntry> = live.metadata.managed_fields.iter().flatten().filter(holds_data).collect();
    let newest = writers.iter().copied().map(time_of).max().flatten();
    let last: Vec<&ManagedFieldsEntry> = writers.into_iter().filter(|entry| time_of(entry) == newest).collect();
    last.iter().all(|entry| is_our_entry(entry)) && last.iter().any(|entry| !ours.has(entry))
}

fn time_of(entry: &ManagedFieldsEntry) -> Option<Timestamp> {
    entry.time.as_ref().map(|time| time.0)
}

/// Whether a creation policy leaves the values of others in place.
#[must_use]
pub fn merges(policy: CreationPolicy) -> bool {
    matches!(policy, CreationPolicy::Merge | CreationPolicy::CreateOrMerge)
}

fn owner_reference(es: &ExternalSecret) -> OwnerReference {
    OwnerReference {
        api_version: "external-secrets.io/v1".into(),
        kind: "ExternalSecret".into(),
        name: es.metadata.name.clone().unwrap_or_default(),
        uid: es.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// What to do with the Secret that is there.
#[derive(Clone, Debug)]
pub enum Change {
    /// It is as it should be.
    None,
    /// It is to be written.
    Update(Box<Update>),
}

/// How the Secret that is there is written.
#[derive(Clone, Debug)]
pub struct Update {
    /// Its resourceVersion: the write fails if it is another by then.
    pub resource_version: String,
    /// What is applied.
    pub desired: Desired,
    /// `metadata.managedFields` to set before, where ESO's entries are to become ours.
    pub managed_fields: Option<Vec<ManagedFieldsEntry>>,
    /// Keys of others to take out after.
    pub remove: Vec<String>,
    /// Only labels and owner may be written, as the data is immutable; then this failure is told.
    pub then: Option<Failure>,
    /// Nothing but the managed label is missing: no event tells of that, as under ESO.
    pub quiet: bool,
}

/// Checks who owns the Secret that is there. An owner of this object's name with another uid is this object as it was before
/// it was deleted and made again: its Secret is taken over, without a gap, before the garbage collector comes to it.
///
/// # Errors
/// Says who does.
pub fn check_owner(es: &ExternalSecret, live: &ObjectMeta, adopt: bool) -> Result<(), Failure> {
    let name = es.target_name();
    let policy = es.target().creation_policy.unwrap_or_default();
    let uid = es.metadata.uid.as_deref().unwrap_or_default();
    match controller_of(live) {
        Some(owner) if owner.uid == uid => Ok(()),
        Some(owner) if is_external_secret(owner) && Some(&owner.name) == es.metadata.name.as_ref() => Ok(()),
        Some(owner) if is_external_secret(owner) => {
            let cause = format!("unable to mutate secret {name}: secret is owned by another ExternalSecret: {}", owner.name);
            Err(Failure::target("target is owned by another ExternalSecret", cause))
        }
        Some(owner) if policy == CreationPolicy::Owner => {
            let cause = format!(
                "unable to mutate secret {name}: it is controlled by {} {:?}: choose another target.name, or creationPolicy \
                 Merge to add keys to it",
                owner.kind, owner.name
            );
            Err(Failure::target("failed to take ownership of target secret", cause))
        }
        Some(_) | None if adopt || is_ours(live) || merges(policy) => Ok(()),
        Some(_) | None => {
            let cause = format!(
                "Secret {name:?} exists and was not made by an ExternalSecret, and --adopt-secrets=false: delete it, or choose \
                 another target.name"
            );
            Err(Failure::target("failed to take ownership of target secret", cause))
        }
    }
}

/// Whether an ExternalSecret wrote the Secret before, under us or under ESO.
fn is_ours(live: &ObjectMeta) -> bool {
    live.labels.as_ref().is_some_and(|l| l.get(LABEL_MANAGED).is_some_and(|v| v == LABEL_MANAGED_VALUE))
}

fn is_controlled(es: &ExternalSecret, live: &ObjectMeta) -> bool {
    controller_of(live).is_some_and(|owner| Some(&owner.uid) == es.metadata.uid.as_ref())
}

/// Compares what is wanted with the Secret that is there.
///
/// # Errors
/// Where the write would lose something that must stay.
pub fn compare(es: &ExternalSecret, desired: &Desired, live: &Secret) -> Result<Change, Failure> {
    let empty = BTreeMap::new();
    let data = live.data.as_ref().unwrap_or(&empty);
    let owned = Owned::of(&live.metadata, &Ours::of(es, &live.metadata));
    let frozen = live.immutable == Some(true);
    mints_nothing(desired, live)?;
    if !frozen {
        guard_empty(es, desired, live)?;
    }
    let keep = |(key, value): (&String, &ByteString)| (key.clone(), SecretBytes::new(value.0.clone()));
    let mut desired = desired.clone();
    if desired.immutable {
        // ESO: what an immutable target holds is written once and never touched again, and that counts as success
        desired.data = data.iter().map(keep).collect();
        (desired.type_, desired.finalizers) = (None, Vec::new());
        desired.labels = kept(live.metadata.labels.as_ref(), &owned.labels);
        desired.annotations = kept(live.metadata.annotations.as_ref(), &owned.annotations);
        claim(es, &mut desired.labels);
    }
    let there = live.metadata.finalizers.as_deref().unwrap_or_default();
    if live.metadata.deletion_timestamp.is_some() {
        // the API server takes no new ones then, and refuses the whole write
        desired.finalizers.retain(|f| there.contains(f));
    }
    // ESO adds finalizers and never takes one off; apply would, if they were not named again
    let finalizers = there.iter().filter(|f| owned.finalizers.contains(*f));
    let kept: Vec<String> = finalizers.filter(|f| !desired.finalizers.contains(*f)).cloned().collect();
    desired.finalizers.extend(kept);
    let ours_gone = owned.data.iter().any(|key| !desired.data.contains_key(key) && data.contains_key(key));
    let remove: Vec<String> = match desired.replace {
        true => data.keys().filter(|k| !desired.data.contains_key(*k) && !owned.data.contains(*k)).cloned().collect(),
        false => Vec::new(),
    };
    let values_differ = desired.data.iter().any(|(key, value)| data.get(key).is_none_or(|v| v.0 != value.expose()));
    let data_differs = values_differ || ours_gone || !remove.is_empty();
    let type_differs = desired.type_.as_ref().is_some_and(|t| live.type_.as_ref() != Some(t));
    let metadata_differs = differs(&desired, &live.metadata, &owned);
    let freeze = desired.immutable && !frozen;
    let quiet = !(data_differs || type_differs || freeze) && only_unmanaged(&desired, &live.metadata, &owned);
    if !(data_differs || type_differs || metadata_differs || freeze) {
        return Ok(Change::None);
    }
    let then = (frozen && (data_differs || type_differs)).then(|| {
        let cause = format!(
            "unable to update secret {}: secret is immutable: delete it to have it made anew from the provider's values",
            desired.name
        );
        Failure::target(IMMUTABLE, cause)
    });
    if let Some(failure) = &then
        && !metadata_differs
    {
        return Err(failure.clone());
    }
    if frozen {
        // the API server refuses any other data or type; what others own stays theirs
        desired.type_ = None;
        desired.immutable |= owned.immutable;
        desired.data = data.iter().filter(|(key, _)| owned.data.contains(*key)).map(keep).collect();
    }
    if owned.type_ && desired.type_.is_none() {
        // apply would take it away, and the API server refuses another
        desired.type_.clone_from(&live.type_);
    }
    let managed_fields = retired(es, &live.metadata);
    Ok(Change::Update(Box::new(Update {
        resource_version: live.metadata.resource_version.clone().unwrap_or_default(),
        remove: if frozen { Vec::new() } else { remove },
        desired,
        managed_fields,
        then,
        quiet,
    })))
}

/// Labels or annotations of a live object, of those names.
fn kept(live: Option<&BTreeMap<String, String>>, names: &BTreeSet<String>) -> BTreeMap<String, String> {
    live.into_iter().flatten().filter(|(name, _)| names.contains(*name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Refuses to write into a Secret that is there and whose type mints credentials, where that would choose whose.
fn mints_nothing(desired: &Desired, live: &Secret) -> Result<(), Failure> {
    validate::validate_secret_type(live.type_.as_deref(), &desired.annotations)
        .map_err(|e| Failure::target("could not update secret", format!("secret {}: {}", desired.name, e.message)))
}

/// A value that the provider suddenly gives as empty does not replace one that is not, and nothing at all does not replace all.
fn guard_empty(es: &ExternalSecret, desired: &Desired, live: &Secret) -> Result<(), Failure> {
    // the label alone may be missing: whoever takes it off must not have the values taken, too
    let is_known = is_ours(&live.metadata) || is_controlled(es, &live.metadata) || own_data(es, live).next().is_some();
    if !is_known || desired.immutable || allows_empty(es) {
        return Ok(());
    }
    let refused = |cause| Err(Failure::retry("could not update secret", cause));
    // constants of a template may stand there without any value
    let stays = |(key, old): (&str, &[u8])| desired.data.get(key).is_some_and(|new| old.is_empty() || !new.is_empty());
    if desired.found_nothing
        && !own_data(es, live).all(stays)
        && let Some(cause) = vanished(es)
    {
        return refused(cause);
    }
    if !desired.guarded {
        return Ok(());
    }
    let emptied = desired
        .data
        .iter()
        .filter(|(_, value)| value.is_empty())
        .find(|(key, _)| live.data.as_ref().and_then(|d| d.get(*key)).is_some_and(|old| !old.0.is_empty()));
    let word =
        |key: &str| if desired.tells(key) { format!("key {key:?}") } else { "a key that a template makes".to_owned() };
    match emptied {
        Some((key, _)) => refused(format!(
            "the provider's value for {} is empty and the Secret holds one that is not: the old one stays; annotate \
             the ExternalSecret with {ANNOTATION_ALLOW_EMPTY}=true if empty is meant",
            word(key)
        )),
        None => Ok(()),
    }
}

/// What is wrong where nothing was found that was there under the same spec, and nothing is said not to exist: a search that comes
/// back empty may be an outage. `None` where it is meant, or where the spec asks for something else now.
#[must_use]
pub fn vanished(es: &ExternalSecret) -> Option<String> {
    let synced = es.status.as_ref()?.synced_resource_version.as_deref()?;
    let of_this_spec = synced.split('-').next() == es.metadata.generation.map(|g| g.to_string()).as_deref();
    (of_this_spec && !allows_empty(es)).then(|| {
        format!(
            "nothing was found where there was something, and the provider does not say that it is gone: what is there stays; \
             annotate the ExternalSecret with {ANNOTATION_ALLOW_EMPTY}=true if nothing is meant"
        )
    })
}

fn allows_empty(es: &ExternalSecret) -> bool {
    es.metadata.annotations.as_ref().is_some_and(|a| a.get(ANNOTATION_ALLOW_EMPTY).is_some_and(|v| v == "true"))
}

/// Whether the metadata would be right if the managed label were there.
fn only_unmanaged(desired: &Desired, live: &ObjectMeta, owned: &Owned) -> bool {
    let mut labelled = live.clone();
    labelled.labels.get_or_insert_default().insert(LABEL_MANAGED.into(), LABEL_MANAGED_VALUE.into());
    !differs(desired, &labelled, owned)
}

fn differs(desired: &Desired, live: &ObjectMeta, owned: &Owned) -> bool {
    let lacks = |want: &BTreeMap<String, String>, have: Option<&BTreeMap<String, String>>, ours: &BTreeSet<String>| {
        let have = |key: &String| have.and_then(|h| h.get(key));
        want.iter().any(|(key, value)| have(key) != Some(value))
            || ours.iter().any(|key| !want.contains_key(key) && have(key).is_some())
    };
    let owners = live.owner_references.as_deref().unwrap_or_default();
    let owner_differs = match &desired.owner {
        Some(owner) => {
            !owners.contains(owner) && !owners.iter().any(|o| o.uid == owner.uid && o.controller == owner.controller)
        }
        None => owners.iter().any(|o| owned.owners.contains(&o.uid)),
    };
    let finalizers = live.finalizers.as_deref().unwrap_or_default();
    lacks(&desired.labels, live.labels.as_ref(), &owned.labels)
        || lacks(&desired.annotations, live.annotations.as_ref(), &owned.annotations)
        || owner_differs
        || desired.finalizers.iter().any(|f| !finalizers.contains(f))
}

/// Which fields of a Secret are ours, by its managedFields: our own entries and those that ESO left.
#[derive(Debug, Default)]
struct Owned {
    data: BTreeSet<String>,
    labels: BTreeSet<String>,
    annotations: BTreeSet<String>,
    finalizers: BTreeSet<String>,
    owners: BTreeSet<String>,
    immutable: bool,
    type_: bool,
}

/// Which entries of `managedFields` are an ExternalSecret's own: those it wrote under us, whatever its policy was then, or under ESO.
pub(super) struct Ours {
    name: String,
    /// Whether nobody else writes the object, so that what other managers of ours wrote is its own, too.
    pub(super) alone: bool,
}

impl Ours {
    pub(super) fn of(es: &ExternalSecret, live: &ObjectMeta) -> Self {
        let uid = es.metadata.uid.as_deref().unwrap_or_default();
        let owner = live.owner_references.iter().flatten().any(|owner| owner.uid == uid);
        Self {
            name: es.metadata.name.clone().unwrap_or_default(),
            // what it owns, or owned till now, nobody else writes
            alone: owner || !merges(es.target().creation_policy.unwrap_or_default()),
        }
    }

    pub(super) fn has(&self, entry: &ManagedFieldsEntry) -> bool {
        let manager = entry.manager.as_deref().unwrap_or_default();
        let own = [object_hash::own_manager(&self.name), object_hash::field_manager(&self.name)];
        entry.subresource.as_deref().unwrap_or_default().is_empty()
            && (own.iter().any(|own| own == manager) || (self.alone && is_our_entry(entry)))
    }
}

impl Owned {
    fn of(meta: &ObjectMeta, ours: &Ours) -> Self {
        let mut owned = Self::default();
        for entry in meta.managed_fields.iter().flatten().filter(|e| ours.has(e)) {
            let Some(fields) = &entry.fields_v1 else { continue };
            let fields = &fields.0;
            let metadata = &fields["f:metadata"];
            owned.data.extend(names(&fields["f:data"]));
            owned.labels.extend(names(&metadata["f:labels"]));
            // ESO's unkeyed hash goes together with its entries, when the Secret is next written for another reason
            owned
                .annotations
                .extend(names(&metadata["f:annotations"]).filter(|name| name != crate::api::ANNOTATION_DATA_HASH));
            let values = metadata["f:finalizers"].as_object().into_iter().flatten();
            owned
                .finalizers
                .extend(values.filter_map(|(key, _)| serde_json::from_str::<String>(key.strip_prefix("v:")?).ok()));
            owned.immutable |= fields.get("f:immutable").is_some();
            owned.type_ |= fields.get("f:type").is_some();
            owned.owners.extend(metadata["f:ownerReferences"].as_object().into_iter().flatten().filter_map(|(key, _)| {
                let key: serde_json::Value = serde_json::from_str(key.strip_prefix("k:")?).ok()?;
                Some(key["uid"].as_str()?.to_owned())
            }));
        }
        owned
    }
}

fn names(fields: &serde_json::Value) -> impl Iterator<Item = String> + '_ {
    fields.as_object().into_iter().flatten().filter_map(|(key, _)| Some(key.strip_prefix("f:")?.to_owned()))
}

/// Whether a field manager is keyferry's, for whatever ExternalSecret.
pub(super) fn is_own_manager(manager: &str) -> bool {
    manager.strip_prefix(FIELD_MANAGER).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether an entry is of a field manager of keyferry's or of ESO's, for whatever ExternalSecret.
pub(super) fn is_our_entry(entry: &ManagedFieldsEntry) -> bool {
    let manager = entry.manager.as_deref().unwrap_or_default();
    entry.subresource.as_deref().unwrap_or_default().is_empty()
        && (is_own_manager(manager) || manager.starts_with(ESO_FIELD_MANAGER))
}

fn is_apply_entry(entry: &ManagedFieldsEntry, manager: &str) -> bool {
    entry.manager.as_deref() == Some(manager) && entry.operation.as_deref() == Some("Apply")
}

/// `managedFields` in which all entries that are ours or ESO's are one of ours, so that apply takes away what they own and we no
/// longer want. `None`: they are so already.
#[must_use]
pub fn retired(es: &ExternalSecret, meta: &ObjectMeta) -> Option<Vec<ManagedFieldsEntry>> {
    let ours = Ours::of(es, meta);
    retired_of(meta, |entry| ours.has(entry), &manager(es))
}

/// The same, where `ours` says which entries are ours or ESO's, and `manager` who is to have them.
pub(super) fn retired_of(
    meta: &ObjectMeta,
    ours: impl Fn(&ManagedFieldsEntry) -> bool,
    manager: &str,
) -> Option<Vec<ManagedFieldsEntry>> {
    let entries = meta.managed_fields.as_deref().unwrap_or_default();
    let foreign = entries.iter().any(|e| ours(e) && !is_apply_entry(e, manager));
    foreign.then(|| joined(entries, ours, manager, "Apply"))
}

/// `managedFields` in which all entries of which `ours` is true are one of that manager and operation.
pub(super) fn joined(
    entries: &[ManagedFieldsEntry],
    ours: impl Fn(&ManagedFieldsEntry) -> bool,
    manager: &str,
    operation: &str,
) -> Vec<ManagedFieldsEntry> {
    let (ours, mut rest): (Vec<_>, Vec<_>) = entries.iter().cloned().partition(|entry| ours(entry));
    let mut fields = serde_json::Value::Object(serde_json::Map::new());
    for entry in &ours {
        if let Some(more) = &entry.fields_v1 {
            merge_fields(&mut fields, &more.0);
        }
    }
    if let Some(mut one) = ours.into_iter().next() {
        one.manager = Some(manager.into());
        one.operation = Some(operation.into());
        one.fields_v1 = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::FieldsV1(fields));
        rest.push(one);
    }
    rest
}

fn merge_fields(into: &mut serde_json::Value, from: &serde_json::Value) {
    if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
        for (key, value) in from {
            merge_fields(
                into.entry(key.clone()).or_insert_with(|| serde_json::Value::Object(serde_json::Map::new())),
                value,
            );
        }
    }
}
