//! What everything is rendered with, and one ExternalSecret to the object that it would make: the controller's own plan and rendering, up to the write.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::generators;
use super::live::Live;
use super::manifests::{Manifests, NAMESPACE_NAME, NO_CLUSTER};
use super::needs::Needs;
use super::offline::{self, Blanks, PLACEHOLDER};
use super::values::Values;
use crate::api::external_secret::CreationPolicy;
use crate::api::{AnyStore, ExternalSecret, StoreKind};
use crate::apply;
use crate::chance::SystemChance;
use crate::controllers::external_secret::facts_of;
use crate::controllers::gather::{self, Reads};
use crate::controllers::generate::Generated;
use crate::controllers::template;
use crate::fetch::{Freshness, is_referent};
use crate::index::{Index, Key, StoreHealth, StoreId, TargetView, target_key};
use crate::plan::digest::Digester;
use crate::plan::external_secret::{self as plan, Decision, Facts, Failure, FetchPlan, Gathered, Memory, Next, Report};
use crate::plan::names::Names;
use crate::plan::store::{self, Outcome};
use crate::plan::target;
use crate::plan::{Rules, access, manifest};
use crate::providers::ProviderSpec;
use crate::render::Outside;
use crate::render::manifest::SecretJson;
use crate::render::target::{Sources, sources};

/// Where values come from.
pub enum Origin {
    /// A file, and where it says nothing an error or a placeholder.
    File {
        /// What it says.
        values: Arc<Values>,
        /// Whether a placeholder stands for what it does not say.
        placeholders: bool,
    },
    /// The providers; what generators would ask a server for may be placeholders.
    Providers {
        /// The way to them.
        live: Box<Live>,
        /// Whether they are.
        placeholders: bool,
    },
}

/// What an object makes.
pub enum Made {
    /// A Secret, of an ExternalSecret.
    Secret(Box<Secret>, Arc<ExternalSecret>, Names),
    /// An object of another kind, of an ExternalSecret.
    Object(SecretJson, Arc<ExternalSecret>, Names),
    /// What a PushSecret pushes where.
    Pushes(SecretJson, Names),
}

/// What came of an object.
pub enum Outcomes {
    /// This object.
    Made(Made),
    /// Nothing, and that is right: why.
    Nothing(String),
    /// It is wrong: why.
    Failed(String),
}

/// Everything that the objects are rendered with.
pub struct Maker {
    pub(super) index: Index,
    pub(super) manifests: Manifests,
    pub(super) rules: Rules,
    pub(super) from: Origin,
    pub(super) generators: crate::generators::maker::Maker,
    digester: Digester,
    pub(super) now: Timestamp,
    /// Secrets that were made, to see who else would write them, and who pushes them.
    pub(super) made: BTreeMap<Key, Secret>,
    /// Those of which nobody else's keys are left in place.
    whole: BTreeSet<Key>,
}

impl Maker {
    /// Checks the stores, and puts all that the manifests say together.
    pub async fn new(manifests: Manifests, rules: Rules, from: Origin) -> Self {
        let now = Timestamp::now();
        let mut index = Index::default();
        for located in manifests.external_secrets.values() {
            index.upsert_external_secret(located.object.clone());
        }
        for (id, store) in &manifests.stores {
            index.upsert_store(store.clone());
            if let Some(health) = check(store, &rules, &from, now).await {
                index.set_health(id, health);
            }
        }
        for id in &manifests.broken {
            index.upsert_store(Arc::new(stand_in(id)));
            index.set_health(id, StoreHealth { cause: "its manifest is wrong".into(), ..health_of_stand_in() });
        }
        if matches!(from, Origin::File { placeholders: true, .. }) {
            assume_stores(&mut index, &manifests);
        }
        for located in manifests.push_secrets.values() {
            index.upsert_push_secret(located.object.clone());
        }
        let needs = manifests.needs();
        for Needs { namespace, .. } in &needs {
            let mut labels = manifests.namespaces.get(namespace).cloned().unwrap_or_default();
            labels.insert(NAMESPACE_NAME.into(), namespace.clone());
            index.upsert_namespace(namespace, labels);
        }
        for generator in &manifests.generators {
            index.upsert_generator(generator.clone());
        }
        // all that there are
        for id in needs.iter().flat_map(|needs| &needs.generators) {
            index.generator_watch(id.kind, "", Ok(()));
        }
        let generators = match &from {
            Origin::File { .. } => generators::offline(&manifests.secrets),
            Origin::Providers { live, .. } => live.maker(),
        };
        // nobody keeps what this key hashes
        let digester = Digester::new(NO_CLUSTER.as_bytes());
        Self { index, manifests, rules, from, generators, digester, now, made: BTreeMap::new(), whole: BTreeSet::new() }
    }

    /// Whether placeholders stand for what is not known.
    pub(super) fn placeholders(&self) -> bool {
        let (Origin::File { placeholders, .. } | Origin::Providers { placeholders, .. }) = &self.from;
        *placeholders
    }

    /// Renders one ExternalSecret.
    pub async fn make(&mut self, key: &Key) -> Outcomes {
        let Some(mut facts) = facts_of(&self.index, &self.rules, key, Memory::default(), self.now) else {
            return Outcomes::Nothing("it is gone".into());
        };
        let policy = facts.es.target().creation_policy.unwrap_or_default();
        if policy == CreationPolicy::Merge {
            // what is added to a Secret does not depend on what else is in it
            facts.target = Some(TargetView::default());
        }
        match plan::before_fetch(&facts, &self.rules) {
            Next::Fetch(fetch) => match self.rendered(&facts, &fetch).await {
                Ok(made) => self.check_target(key, &facts, made),
                Err(Outcomes::Nothing(_)) if policy == CreationPolicy::None => {
                    Outcomes::Nothing("creationPolicy None: nothing is written".into())
                }
                Err(outcome) => outcome,
            },
            Next::Settle(report) | Next::Written(report) => outcome(&report),
            Next::Ignore => Outcomes::Nothing("a store or generator of it belongs to another controller class".into()),
            Next::Idle(_) | Next::Inspect | Next::CleanUp(_) => Outcomes::Nothing("nothing is due".into()),
        }
    }

    async fn rendered(&self, facts: &Facts, fetch: &FetchPlan) -> Result<Made, Outcomes> {
        let sources = self.sources(facts);
        let mut gathered = self.gather(facts, fetch, &sources).await;
        let decision = plan::after_fetch(facts, &self.rules, gathered.as_ref(), &self.digester);
        let gathered = gathered.as_mut().map_err(|failure| Outcomes::Failed(text(failure)))?;
        let names = self.names(facts, gathered, &sources);
        let decision = match decision {
            Decision::Render if facts.es.target().manifest.is_some() => {
                let taken = Cell::new(0);
                let outside = Outside { now: facts.now, chance: &SystemChance, taken: &taken };
                let desired = manifest::render(facts, &self.rules, gathered, &sources, outside, &self.digester);
                let object = |d: manifest::Desired| Made::Object(without_owner(d.body), facts.es.clone(), names);
                return desired.map(object).map_err(|f| Outcomes::Failed(text(&f)));
            }
            Decision::Render => {
                let desired = template::render_from(facts, &self.rules, gathered, &sources, &self.digester);
                plan::rendered(facts, desired)
            }
            other => other,
        };
        match decision {
            Decision::Create(desired) | Decision::ReadTarget(desired) => {
                Ok(Made::Secret(Box::new(apply::body(&desired, None)), facts.es.clone(), names))
            }
            Decision::Settle(report) => Err(outcome(&report)),
            Decision::Render | Decision::Update(_) | Decision::Keep(_) | Decision::Delete { .. } => {
                Err(Outcomes::Nothing("nothing is written".into()))
            }
        }
    }

    async fn gather(&self, facts: &Facts, fetch: &FetchPlan, sources: &Sources) -> Result<Gathered, Failure> {
        match &self.from {
            Origin::Providers { live, placeholders } => {
                let (max_age, priority) = (fetch.max_age, fetch.priority);
                let freshness = Freshness { max_age, not_before: None, again: None, priority };
                let reads = gather::read(live.fetcher(), |_| 0, facts, fetch, freshness).await;
                let blanks = placeholders.then(|| Blanks::of(facts));
                self.finish(facts, fetch, &reads, blanks.as_ref(), sources).await
            }
            Origin::File { values, placeholders } => {
                let blanks = placeholders.then(|| Arc::new(Blanks::of(facts)));
                let reads = offline::read(facts, fetch, values, blanks.as_ref()).await;
                self.finish(facts, fetch, &reads, blanks.as_deref(), sources).await
            }
        }
    }

    /// Generates what is to be generated where no read failed, and puts all together.
    async fn finish(
        &self,
        facts: &Facts,
        fetch: &FetchPlan,
        reads: &Reads,
        blanks: Option<&Blanks>,
        sources: &Sources,
    ) -> Result<Gathered, Failure> {
        let mut gathered = gather::values(facts, reads, &Generated::default(), &SystemChance)?;
        if !fetch.generate.is_empty() {
            let key = Key::of(&facts.es.metadata);
            let asker = (&*format!("ExternalSecret/{key}"), &*key.namespace);
            let blank = |index| blanks.map(|blanks| blanks.generated(&facts.es, index));
            let generated = generators::generate(&self.generators, asker, &fetch.generate, blank).await;
            gathered = gather::values(facts, reads, &generated, &SystemChance)?;
        }
        if let Some(blanks) = blanks {
            blanks.fill(facts, &mut gathered, sources);
        }
        Ok(gathered)
    }

    /// The names that may be printed of what is made.
    fn names(&self, facts: &Facts, gathered: &Gathered, sources: &Sources) -> Names {
        let target = facts.es.target();
        let mut names = Names::of(target.template.as_ref(), sources, &self.rules.delimiters, target.manifest.is_some());
        names.know(gathered.data.keys());
        names.know(facts.es.metadata.labels.iter().chain(&facts.es.metadata.annotations).flat_map(BTreeMap::keys));
        names
    }

    fn sources(&self, facts: &Facts) -> Sources {
        let target = facts.es.target();
        let namespace = facts.es.metadata.namespace.as_deref().unwrap_or_default();
        let named = target.template.as_ref().map(sources).unwrap_or_default().into_iter();
        named.map(|source| (source.clone(), self.manifests.source(namespace, &source))).collect()
    }

    /// Whether the cluster would take the Secret: from this ExternalSecret, and of this shape.
    fn check_target(&mut self, key: &Key, facts: &Facts, made: Made) -> Outcomes {
        let Made::Secret(mut secret, es, names) = made else { return Outcomes::Made(made) };
        let target = target_key(key, &facts.es);
        if let Some(first) = self.made.get(&target)
            && let Err(failure) = target::check_owner(&facts.es, &first.metadata, self.rules.adopt)
        {
            return Outcomes::Failed(text(&failure));
        }
        let merges = target::merges(facts.es.target().creation_policy.unwrap_or_default());
        if self.made.contains_key(&target) && (!merges || self.whole.contains(&target)) {
            return Outcomes::Failed(format!(
                "could not update secret: another ExternalSecret writes Secret {target}, and each would take the other's keys \
                 away: choose another target.name, or creationPolicy Merge or CreateOrMerge for both"
            ));
        }
        if let Some(why) = super::admission::refusal(&secret, merges, &names) {
            return Outcomes::Failed(format!(
                "could not update secret: the API server would not take Secret {target}: {why}"
            ));
        }
        if !merges {
            self.whole.insert(target.clone());
        }
        self.made.entry(target).and_modify(|first| join(first, &secret)).or_insert_with(|| secret.as_ref().clone());
        if let Some(owners) = &mut secret.metadata.owner_references {
            owners.retain(|owner| !owner.uid.starts_with(NO_CLUSTER));
        }
        secret.metadata.owner_references = secret.metadata.owner_references.filter(|owners| !owners.is_empty());
        Outcomes::Made(Made::Secret(secret, es, names))
    }
}

/// Adds to a Secret what a further ExternalSecret makes of it.
fn join(first: &mut Secret, more: &Secret) {
    first.data.get_or_insert_default().extend(more.data.clone().unwrap_or_default());
    let (into, meta) = (&mut first.metadata, &more.metadata);
    into.labels.get_or_insert_default().extend(meta.labels.clone().unwrap_or_default());
    into.annotations.get_or_insert_default().extend(meta.annotations.clone().unwrap_or_default());
    if into.owner_references.is_none() {
        into.owner_references.clone_from(&meta.owner_references);
    }
}

/// An object without the owner that is in no cluster.
fn without_owner(body: SecretJson) -> SecretJson {
    let mut json = body.expose().clone();
    let owner = json["metadata"]["ownerReferences"][0]["uid"].as_str().unwrap_or_default();
    if owner.starts_with(NO_CLUSTER)
        && let Some(metadata) = json["metadata"].as_object_mut()
    {
        metadata.remove("ownerReferences");
    }
    if let Some(metadata) = json["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    SecretJson::new(json)
}

/// What the check of a store comes to; without providers, that of what is written in it. `None`: it is another controller's.
async fn check(store: &AnyStore, rules: &Rules, from: &Origin, now: Timestamp) -> Option<StoreHealth> {
    let outcome = match (store::before_check(store, is_referent(store), rules), from) {
        (store::Next::Ignore, _) => return None,
        // without a provider any provider will do
        (store::Next::Known(_), Origin::File { .. }) if matches!(store.spec.provider, ProviderSpec::NotServed(_)) => {
            Outcome::Valid
        }
        (store::Next::Known(outcome), _) => outcome,
        (store::Next::Check, Origin::Providers { live, .. }) => Outcome::from(live.fetcher().validate(store, 0).await),
        (store::Next::Check, Origin::File { .. }) => Outcome::Valid,
    };
    Some(store::settle(store, 0, &outcome, 0, rules, now).health)
}

/// Takes stores that are not among the manifests for ones that have every value, and the labels by which they are looked for.
fn assume_stores(index: &mut Index, manifests: &Manifests) {
    let mut assumed: BTreeMap<StoreId, BTreeMap<String, String>> = BTreeMap::new();
    for Needs { namespace, stores, stores_by_label, .. } in manifests.needs() {
        let unknown = stores.into_iter().filter(|id| !manifests.stores.contains_key(id) && !manifests.broken.contains(id));
        assumed.extend(unknown.map(|id| (id, BTreeMap::new())));
        for (kind, selector) in stores_by_label {
            let namespace = if kind == StoreKind::ClusterSecretStore { "" } else { &namespace };
            let near = |id: &StoreId| id.kind == kind && &*id.key.namespace == namespace;
            let labels = |store: &AnyStore| store.metadata.labels.clone().unwrap_or_default();
            if !manifests.stores.iter().any(|(id, store)| near(id) && access::selects(&selector, &labels(store))) {
                let id = StoreId { kind, key: Key::new(namespace, PLACEHOLDER) };
                assumed.entry(id).or_default().extend(selector.match_labels.unwrap_or_default());
            }
        }
    }
    for (id, labels) in assumed {
        let mut store = stand_in(&id);
        store.metadata.labels = Some(labels);
        index.upsert_store(Arc::new(store));
        index.set_health(&id, StoreHealth { ready: true, ..health_of_stand_in() });
    }
}

/// Stores and generators whose kind this version does not serve, each with what the operator would say. Those of another class are
/// left alone.
#[must_use]
pub fn not_served(manifests: &Manifests, rules: &Rules) -> Vec<String> {
    let stores = manifests.stores.iter().filter(|(_, store)| matches!(store.spec.provider, ProviderSpec::NotServed(_)));
    let stores = stores.filter_map(|(id, store)| match store::before_check(store, false, rules) {
        store::Next::Known(Outcome::Invalid { cause, .. }) => {
            Some(format!("{}: {cause}", manifests.label(id.kind.as_str(), &id.key)))
        }
        _ => None,
    });
    let ours = manifests.generators.iter().filter(|g| g.class.as_ref().is_none_or(|class| *class == rules.class));
    let generators = ours.filter_map(|generator| {
        let error = crate::generators::served(generator.spec.as_ref().ok()?).err()?;
        Some(format!("{}: {}", manifests.label(generator.id.kind.as_str(), &generator.id.key), error.detail))
    });
    stores.chain(generators).collect()
}

fn stand_in(id: &StoreId) -> AnyStore {
    let mut store = AnyStore { kind: id.kind, ..AnyStore::default() };
    store.metadata.name = Some(id.key.name.to_string());
    store.metadata.namespace = (!id.key.namespace.is_empty()).then(|| id.key.namespace.to_string());
    store.metadata.uid = Some(NO_CLUSTER.into());
    store.metadata.generation = Some(1);
    store
}

fn health_of_stand_in() -> StoreHealth {
    StoreHealth { uid: NO_CLUSTER.into(), generation: 1, ..StoreHealth::default() }
}

/// What a report says, in the words of the object's condition.
fn outcome(report: &Report) -> Outcomes {
    let condition = report.status.as_ref().and_then(|status| status.conditions.first());
    let message = condition.and_then(|c| c.message.clone()).unwrap_or_default();
    match report.failure {
        Some(_) => Outcomes::Failed(message),
        None => Outcomes::Nothing(message),
    }
}

fn text(failure: &Failure) -> String {
    format!("{}: {}", failure.message, failure.cause)
}
