//! Generating within a sync: each entry once, states noted before the value is used, and taken back where the sync fails.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::generator_state::States;
use crate::api::generators::{AnySpec, GeneratorState};
use crate::apply::Writer;
use crate::apply::error::WriteError;
use crate::generators::maker::{Consumer, Made, Maker, Order};
use crate::index::Key;
use crate::plan::external_secret::Generate;
use crate::plan::generator_state::{self as plan, Fate, Owner};
use crate::plan::lease::{self, Lease};
use crate::providers::{ErrorKind, ProviderError};

/// What generating needs.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// The way to the generators.
    pub maker: &'a Maker,
    /// The way to Kubernetes.
    pub writer: &'a Writer,
    /// The states that are known.
    pub states: &'a States,
    /// How long after a value went out of use its state is cleaned up, where its user says nothing about it.
    pub grace: Duration,
}

impl Tools<'_> {
    fn grace(&self, user: &ObjectMeta) -> Duration {
        lease::grace(user, self.grace).unwrap_or(self.grace)
    }
}

/// For whom values are generated.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// API version of the object.
    pub api_version: &'a str,
    /// Kind of the object.
    pub kind: &'a str,
    /// The object's metadata.
    pub meta: &'a ObjectMeta,
    /// What its `status.syncedResourceVersion` would be now: other values are wanted when it changes.
    pub revision: &'a str,
}

impl Asker<'_> {
    /// `ExternalSecret/namespace/name`
    #[must_use]
    pub fn cause(&self) -> String {
        format!("{}/{}", self.kind, Key::of(self.meta))
    }
}

/// What was generated for one sync.
#[derive(Default)]
pub struct Generated {
    /// By index of the entry: the values, or why there are none.
    pub made: BTreeMap<usize, Result<Made, ProviderError>>,
    /// When the first of them must be replaced, as its lease ends.
    pub replace_at: Option<Timestamp>,
    /// The states that were noted.
    states: Vec<Noted>,
}

struct Noted {
    entry: String,
    spec: AnySpec,
    state: GeneratorState,
}

/// Generates for each order, all at once. `entry` names an order's place in the labels of its states. `not_before`: since when a
/// refresh is asked for by annotation.
pub async fn generate(
    tools: Tools<'_>,
    asker: &Asker<'_>,
    orders: &[Generate],
    entry: impl Fn(&Generate) -> String,
    not_before: Option<tokio::time::Instant>,
) -> Generated {
    let cause = asker.cause();
    let namespace = asker.meta.namespace.as_deref().unwrap_or_default();
    let one = |order: &Generate| {
        let generator = order.generator.clone();
        let (index, spec, cause, entry) = (order.index, order.spec.clone(), cause.as_str(), entry(order));
        async move {
            let revision = format!("{}/{}/{}", generator.uid, generator.generation, asker.revision);
            let consumer = Consumer { cause, namespace, generator: &generator.id.key.name };
            let order = Order { entry: index, spec: &spec, revision: &revision, not_before };
            let made = tools.maker.make(consumer, order).await;
            let owner = Owner { api_version: asker.api_version, kind: asker.kind, meta: asker.meta, entry: &entry };
            (index, note(tools, &owner, consumer, &spec, made).await)
        }
    };
    let mut all = Generated::default();
    for (index, noted) in futures::future::join_all(orders.iter().map(one)).await {
        let made = noted.map(|(made, noted)| {
            all.replace_at = all.replace_at.into_iter().chain(noted.as_ref().and_then(|n| plan::replace_at(&n.state))).min();
            all.states.extend(noted);
            made
        });
        all.made.insert(index, made);
    }
    all
}

/// Notes the state of what was made, before anybody uses it: what is not noted could not be taken back after a crash.
async fn note(
    tools: Tools<'_>,
    owner: &Owner<'_>,
    consumer: Consumer<'_>,
    spec: &AnySpec,
    made: Result<Made, ProviderError>,
) -> Result<(Made, Option<Noted>), ProviderError> {
    let made = made?;
    let Some(state) = &made.state else { return Ok((made, None)) };
    let lease = made.granted.map(|granted| Lease::new(granted, tools.grace(owner.meta), made.at));
    let state = &plan::with_lease(state, lease.as_ref());
    let object = plan::note(owner, consumer.generator, spec, state);
    let _noting = tools.states.noting(owner.meta.uid.as_deref().unwrap_or_default());
    match tools.writer.create_state(&object).await {
        Ok(state) => {
            tools.states.renew(state.clone());
            Ok((made, Some(Noted { entry: owner.entry.to_owned(), spec: spec.clone(), state })))
        }
        Err(error) => {
            if let Err(left) = tools.maker.clean_up(consumer, spec, state).await {
                tracing::error!(object = consumer.cause, generator = consumer.generator, error = %left,
                    "what was generated could neither be noted nor taken back: take it back by hand");
            }
            let detail = format!("what was generated could not be noted and was taken back: {error}");
            Err(ProviderError::new(ErrorKind::Unavailable, detail))
        }
    }
}

impl Generated {
    /// Does with the states what becomes of the values.
    pub async fn end(self, fate: Fate, tools: Tools<'_>, asker: &Asker<'_>) {
        match fate {
            Fate::Commit => self.commit(tools, asker, &BTreeSet::new()).await,
            Fate::RollBack => self.roll_back(tools, asker).await,
            Fate::Leave => {}
        }
    }

    /// The names of the states that were noted.
    #[must_use]
    pub fn names(&self) -> BTreeSet<String> {
        self.states.iter().filter_map(|noted| noted.state.metadata.name.clone()).collect()
    }

    /// The values are in use: those before go out of use after the grace period, but for the states `besides`. So do those of entries
    /// that are gone, or that were moved.
    pub async fn commit(&self, tools: Tools<'_>, asker: &Asker<'_>, besides: &BTreeSet<String>) {
        let mut used = self.names();
        used.extend(besides.iter().cloned());
        let mut labels = BTreeSet::new();
        for Noted { entry, .. } in &self.states {
            let owner = Owner { api_version: asker.api_version, kind: asker.kind, meta: asker.meta, entry };
            if let Err(error) = retire(tools, &owner, &used).await {
                // those that are known go with the strays; the next sync of the entry finds the others again
                tracing::warn!(object = asker.cause(), %error, "old states of a generator are not cleaned up yet");
                continue;
            }
            labels.insert(owner.label());
        }
        let all = tools.states.of(asker.meta.uid.as_deref().unwrap_or_default());
        let stray = |state: &&GeneratorState| plan::label(state).is_some_and(|label| !labels.contains(label));
        let strays: Vec<GeneratorState> = all.iter().map(AsRef::as_ref).filter(stray).cloned().collect();
        expire_all(tools, asker.meta, plan::out_of_use(&strays, &used)).await;
    }

    /// The values are not used: takes them back.
    async fn roll_back(self, tools: Tools<'_>, asker: &Asker<'_>) {
        let cause = asker.cause();
        let namespace = asker.meta.namespace.as_deref().unwrap_or_default();
        for Noted { spec, state, .. } in self.states {
            let name = plan::generator(&state).map(|(name, _)| name).unwrap_or_default();
            let consumer = Consumer { cause: &cause, namespace, generator: &name };
            let held = serde_json::Value::Object(state.spec.state.0.clone());
            let key = Key::of(&state.metadata);
            let done = match tools.maker.clean_up(consumer, &spec, &held).await {
                Ok(()) => match tools.writer.release_state(&state).await {
                    Ok(()) => {
                        let uid = state.metadata.uid.as_deref().unwrap_or_default();
                        tools.writer.delete_state(&key, uid).await.inspect(|()| tools.states.forget(&key))
                    }
                    Err(error) => Err(error),
                },
                Err(error) => {
                    tracing::warn!(object = cause, %error, "what was generated could not be taken back yet; it is tried again");
                    expire(tools, &key, Timestamp::now()).await
                }
            };
            if let Err(error) = done {
                tracing::warn!(state = %key, %error, "the state of a generator could not be written");
            }
        }
    }
}

/// What the object holds was found to be what was announced last, and so generated last: the states before go out of use, where a sync that did not come to
/// its end had left them.
pub async fn retire_superseded(tools: Tools<'_>, meta: &ObjectMeta) {
    let all = tools.states.of(meta.uid.as_deref().unwrap_or_default());
    let all: Vec<&GeneratorState> = all.iter().map(AsRef::as_ref).collect();
    expire_all(tools, meta, plan::superseded(&all)).await;
}

async fn retire(tools: Tools<'_>, owner: &Owner<'_>, used: &BTreeSet<String>) -> Result<(), WriteError> {
    let namespace = owner.meta.namespace.as_deref().unwrap_or_default();
    let states = tools.writer.states_of(namespace, &owner.label()).await?;
    expire_all(tools, owner.meta, plan::out_of_use(&states, used)).await;
    Ok(())
}

/// States go out of use after the grace period of the object they were made for.
async fn expire_all(tools: Tools<'_>, meta: &ObjectMeta, states: Vec<&GeneratorState>) {
    let deadline = plan::deadline(Timestamp::now(), tools.grace(meta));
    for state in states {
        let key = Key::of(&state.metadata);
        tools.states.set_replaced(&key);
        if let Err(error) = expire(tools, &key, deadline).await {
            // the next sync finds it again
            tracing::warn!(state = %key, %error, "the old state of a generator is not cleaned up yet");
        }
    }
}

async fn expire(tools: Tools<'_>, key: &Key, deadline: Timestamp) -> Result<(), WriteError> {
    match tools.writer.expire_state(key, deadline).await? {
        Some(state) => tools.states.retire(state),
        None => tools.states.forget(key),
    }
    Ok(())
}
