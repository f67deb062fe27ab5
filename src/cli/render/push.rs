//! One PushSecret to what it would push where: the controller's own plan, up to the write.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::make::{Made, Maker, Origin, Outcomes};
use super::offline::{PLACEHOLDER, named};
use super::print::MASK;
use super::{generators, print};
use crate::api::push_secret::PushUpdatePolicy;
use crate::api::secret_store::Capabilities;
use crate::api::{AnyStore, FINALIZER_PUSH, PushSecret};
use crate::chance::SystemChance;
use crate::controllers::push_secret::{is_kept, words_of_outlet};
use crate::fetch::Outlet;
use crate::index::{Key, StoreId, pushed_generator};
use crate::plan::access;
use crate::plan::names::Names;
use crate::plan::push_secret::entries::{self, Entry, masked};
use crate::plan::push_secret::generate::{Plan, plan as generator_plan};
use crate::plan::push_secret::{self as plan, Facts, Failure, Memory, NO_SOURCE, Next, Source, stores};
use crate::providers::{ErrorKind, ProviderError, Push, Source as Values};
use crate::queue::Priority;
use crate::render::manifest::SecretJson;
use crate::render::target::Sources;
use crate::render::{Entries, Outside, target};
use crate::secret_bytes::SecretBytes;

impl Maker {
    /// Says what one PushSecret would push. Secrets that ExternalSecrets made before are there.
    pub async fn push(&self, key: &Key) -> Outcomes {
        let Some(mut facts) = self.push_facts(key) else { return Outcomes::Nothing("it is gone".into()) };
        loop {
            return match plan::before_push(&facts, &self.rules) {
                Next::Finalizer(true) => {
                    hold(&mut facts);
                    continue;
                }
                Next::Push(_) => self.pushed(&facts).await,
                Next::Settle(report) => {
                    let condition = report.status.and_then(|status| status.conditions.into_iter().next());
                    Outcomes::Failed(condition.and_then(|c| c.message).unwrap_or_default())
                }
                Next::Leave(Some(failure)) => Outcomes::Failed(failure.message),
                Next::Ignore | Next::Leave(None) => {
                    Outcomes::Nothing("its stores, or its generator, belong to another controller class".into())
                }
                Next::Idle(_) | Next::Finalizer(false) | Next::CleanUp(_) => Outcomes::Nothing("nothing is due".into()),
            };
        }
    }

    fn push_facts(&self, key: &Key) -> Option<Facts> {
        let index = &self.index;
        let ps = index.push_secret(key)?;
        Some(Facts {
            stores: index.push_stores(&ps),
            namespace_labels: index.namespace_labels(&key.namespace),
            sources: Vec::new(),
            unlisted: None,
            generator: pushed_generator(&ps).map(|id| index.generator(&id)),
            ps,
            memory: Memory::default(),
            replace_at: None,
            woken: Priority::New,
            now: self.now,
        })
    }

    async fn pushed(&self, facts: &Facts) -> Outcomes {
        let mut names = Names::default();
        match self.places(facts, &mut names).await {
            Ok((places, kept)) if places.is_empty() && kept.is_empty() => {
                Outcomes::Nothing("nothing is pushed: no key matches".into())
            }
            Ok((places, kept)) if places.is_empty() => {
                Outcomes::Nothing(format!("updatePolicy IfNotExists: there is something already: {}", kept.join(", ")))
            }
            Ok((places, _)) => Outcomes::Made(Made::Pushes(document(&facts.ps, places), names)),
            Err(failure) => Outcomes::Failed(failure.message),
        }
    }

    /// What goes where, and the places that keep what they have. The order of the questions is the controller's.
    async fn places(&self, facts: &Facts, names: &mut Names) -> Result<(Vec<Value>, Vec<String>), Failure> {
        let templates = self.templates(facts);
        let order = generator_plan(facts, &self.rules)?;
        let secrets = self.secrets(facts, &templates)?;
        let targets = stores::targets(facts, &self.rules)?;
        let known: Vec<&AnyStore> = targets.iter().filter_map(|id| facts.stores.get(id)).map(AsRef::as_ref).collect();
        entries::check_selectors(&facts.ps.spec, &known)?;
        let all = match order {
            Plan::NoGenerator => secrets,
            Plan::Make(order) => {
                let key = Key::of(&facts.ps.metadata);
                let blank = |_| self.placeholders().then(|| blank(&facts.ps, &templates));
                let asker = (&*format!("PushSecret/{key}"), &*key.namespace);
                let generated = generators::generate(&self.generators, asker, &[order], blank).await;
                let made = generated.made.into_values();
                let unable = |e: ProviderError| Failure::provider(format!("{NO_SOURCE}: unable to generate"), &e);
                made.map(|made| made.map(|made| plan::generated(made.values)).map_err(unable)).collect::<Result<_, _>>()?
            }
            Plan::Wait => return Err(Failure::spec(format!("{NO_SOURCE}: the generator is not known"))),
        };
        *names = Names::of(facts.ps.spec.template.as_ref(), &templates, &self.rules.delimiters, false);
        names.know(facts.ps.spec.data.iter().filter_map(|data| data.match_.secret_key.as_ref()));
        let (mut places, mut kept, mut failures) = (Vec::new(), Vec::new(), BTreeMap::new());
        for values in all {
            names.know(values.data.keys());
            let source = Arc::new(plan::shaped(&facts.ps, &self.rules, values, &templates, outside(facts, &Cell::new(0)))?);
            for id in &targets {
                if let Err(failure) = self.push_to(facts, id, &source, names, &mut places, &mut kept).await {
                    failures.insert(id.clone(), failure);
                }
            }
        }
        plan::together(failures).map_or(Ok((places, kept)), Err)
    }

    async fn push_to(
        &self,
        facts: &Facts,
        id: &StoreId,
        source: &Arc<Values>,
        names: &Names,
        places: &mut Vec<Value>,
        kept: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let Some(store) = facts.stores.get(id) else { return Ok(()) };
        let outlet = self.outlet(facts, id, store).await?;
        let namespace = facts.ps.metadata.namespace.as_deref().unwrap_or_default();
        let all = entries::entries(&facts.ps.spec, namespace, store, source, names, outside(facts, &Cell::new(0)));
        for Entry { data, push } in all? {
            let push = push?;
            let shown = entries::shown(&push, names);
            if let Some(outlet) = &outlet
                && is_kept(facts, outlet, &push.place).await.map_err(|failure| masked(failure, shown))?
            {
                kept.push(if shown { plan::entry_key(&data) } else { MASK.to_owned() });
                continue;
            }
            if let Some(provider) = store.spec.provider.served() {
                let key = if shown { push.secret_key.as_deref().unwrap_or_default() } else { MASK };
                let words = format!("could not write remote ref {key} to target secretstore {}", id.key.name);
                let failed = |e: ProviderError| masked(Failure::provider(words, &e), shown);
                provider.check_push(&push, store.kind).map_err(failed)?;
            }
            places.push(place(id, &push).map_err(|e| masked(Failure::provider("could not write", &e), shown))?);
        }
        Ok(())
    }

    /// A store that may be pushed to; with the providers, logged in to.
    async fn outlet(&self, facts: &Facts, id: &StoreId, store: &AnyStore) -> Result<Option<Outlet<'_>>, Failure> {
        let words = words_of_outlet(&id.key.name);
        stores::allowed(facts, store).map_err(|failure| failure.within(&words))?;
        if let Some(health) = self.index.health(id).filter(|health| !health.ready) {
            return Err(Failure::spec(format!("{words}: {}", health.cause)));
        }
        if store.spec.provider.served().is_some_and(|p| p.capabilities() == Capabilities::ReadOnly) {
            let error = ProviderError::new(ErrorKind::Unsupported, "this provider cannot be pushed to");
            return Err(Failure::provider(words, &error));
        }
        let Origin::Providers { live, .. } = &self.from else { return Ok(None) };
        let key = Key::of(&facts.ps.metadata);
        let outlet = live.fetcher().outlet(store, 0, &key.namespace, &format!("PushSecret/{key}")).await;
        outlet.map(Some).map_err(|error| Failure::provider(words, &error))
    }

    fn templates(&self, facts: &Facts) -> Sources {
        let namespace = facts.ps.metadata.namespace.as_deref().unwrap_or_default();
        let named = facts.ps.spec.template.as_ref().map(target::sources).unwrap_or_default().into_iter();
        named.map(|source| (source.clone(), self.manifests.source(namespace, &source))).collect()
    }

    /// The Secrets that are pushed.
    fn secrets(&self, facts: &Facts, templates: &Sources) -> Result<Vec<Values>, Failure> {
        let ps = &facts.ps;
        let namespace = ps.metadata.namespace.as_deref().unwrap_or_default();
        let mut found: Vec<Values> = match plan::source(ps) {
            Source::Generated(_) => return Ok(Vec::new()),
            Source::Nowhere => return Err(plan::no_source(ps)),
            Source::Named(name) => self.secret(&Key::new(namespace, name)).into_iter().collect(),
            Source::Selected(selector) => {
                access::to_text(selector)
                    .map_err(|e| Failure::spec(format!("{NO_SOURCE}: spec.selector.secret.selector: {e}")))?;
                let all: BTreeSet<&Key> = self.manifests.secrets.keys().chain(self.made.keys()).collect();
                let near = all.into_iter().filter(|key| &*key.namespace == namespace).filter_map(|key| self.secret(key));
                near.filter(|secret| access::selects(selector, &secret.labels)).collect()
            }
        };
        if found.is_empty() && self.placeholders() {
            found.push(Values { data: blank(ps, templates), ..Values::default() });
        }
        match (found.is_empty(), plan::source(ps), &self.from) {
            (true, Source::Named(_), Origin::File { .. }) => {
                let hint = "among the manifests, and none of their ExternalSecrets makes it";
                let failure = plan::no_source(ps);
                Err(Failure {
                    message: format!("{} {hint}: use --missing=placeholder or --live", failure.message),
                    ..failure
                })
            }
            (true, Source::Named(_), Origin::Providers { .. }) => Err(plan::no_source(ps)),
            _ => Ok(found),
        }
    }

    /// A Secret of the manifests, and what ExternalSecrets make of it.
    fn secret(&self, key: &Key) -> Option<Values> {
        let (given, made) = (self.manifests.secrets.get(key).cloned(), self.made.get(key).cloned().map(plan::opened));
        match (given, made) {
            (Some(mut given), Some(made)) => {
                given.data.extend(made.data);
                given.labels.extend(made.labels);
                given.annotations.extend(made.annotations);
                Some(given)
            }
            (given, made) => made.or(given),
        }
    }
}

fn outside<'a>(facts: &Facts, taken: &'a Cell<u64>) -> Outside<'a> {
    Outside { now: facts.now, chance: &SystemChance, taken }
}

/// With our finalizer, as the controller leaves it before it pushes.
fn hold(facts: &mut Facts) {
    let mut ps = (*facts.ps).clone();
    ps.metadata.finalizers.get_or_insert_default().push(FINALIZER_PUSH.into());
    facts.ps = Arc::new(ps);
}

/// Stands for a Secret that nobody knows: it has the keys that the PushSecret names.
fn blank(ps: &PushSecret, templates: &Sources) -> Entries {
    let own = ps.spec.data.iter().filter_map(|data| data.match_.secret_key.clone()).filter(|key| !key.is_empty());
    let mut keys: BTreeSet<String> = own.collect();
    keys.extend(ps.spec.template.iter().flat_map(|template| named(template, templates)));
    if keys.is_empty() || !ps.spec.data_to.is_empty() {
        keys.insert(PLACEHOLDER.into());
    }
    keys.into_iter().map(|key| (key, SecretBytes::from(PLACEHOLDER))).collect()
}

/// One value and its place, as it is printed.
fn place(id: &StoreId, push: &Push) -> Result<Value, ProviderError> {
    let all = [
        ("store", Some(json!({ "kind": id.kind, "name": &*id.key.name }))),
        (print::REMOTE_KEY, Some(json!(push.place.key))),
        (print::PROPERTY, push.place.property().map(Value::from)),
        (print::SECRET_KEY, push.secret_key.as_deref().map(Value::from)),
        ("metadata", push.place.metadata.clone()),
        (print::VALUE, Some(json!(STANDARD.encode(push.value()?.expose())))),
    ];
    Ok(all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

fn document(ps: &PushSecret, places: Vec<Value>) -> SecretJson {
    let mut all = json!({
        "apiVersion": print::PUSHES_VERSION,
        "kind": print::PUSHES,
        "metadata": { "name": ps.metadata.name, "namespace": ps.metadata.namespace },
        "pushes": places,
    });
    if ps.spec.update_policy == Some(PushUpdatePolicy::IfNotExists) {
        all["updatePolicy"] = json!(PushUpdatePolicy::IfNotExists);
    }
    SecretJson::new(all)
}
