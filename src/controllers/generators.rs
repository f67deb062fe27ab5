//! Watches of generators: one for each kind that some ExternalSecret or PushSecret names, begun when the first one does. Eighteen watches for
//! all would cost memory for what most clusters never use.

use std::collections::HashSet;
use std::sync::Arc;

use kube::Api;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Ctx;
use super::watch::{self, Change, Scope};
use crate::api::external_secret::GeneratorKind;
use crate::api::generators::GeneratorObject;
use crate::api::{ExternalSecret, PushSecret};
use crate::guard::Guard;
use crate::index::{AnyGenerator, GeneratorId, GeneratorWakes, generator_ids, pushed_generator};

/// Asks for watches of kinds.
pub type Wanted = UnboundedSender<GeneratorKind>;

/// Asks for watches of the kinds that an ExternalSecret names.
pub fn want(ctx: &Ctx, es: &ExternalSecret) {
    generator_ids(es).iter().for_each(|id| ask_for(ctx, id));
}

/// Asks for a watch of the kind that a PushSecret names.
pub fn want_pushed(ctx: &Ctx, ps: &PushSecret) {
    pushed_generator(ps).filter(|_| ctx.rules.push_secrets).iter().for_each(|id| ask_for(ctx, id));
}

fn ask_for(ctx: &Ctx, id: &GeneratorId) {
    // whoever listens has ended only when the process does
    let _ = ctx.wanted_generators.send(id.kind);
}

/// Begins a watch for each kind that is asked for, until the process stops. They are no part of the process's health: a cluster
/// where a kind is not installed, or not allowed, is served all the same, and the users of that kind are told.
pub async fn watch_wanted(
    ctx: Arc<Ctx>,
    client: kube::Client,
    scope: Scope,
    mut wanted: UnboundedReceiver<GeneratorKind>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let mut begun = HashSet::new();
    loop {
        let kind = tokio::select! {
            kind = wanted.recv() => kind,
            () = stop.cancelled() => return,
        };
        let Some(kind) = kind else { return };
        if !begun.insert(kind) || (kind == GeneratorKind::ClusterGenerator && !ctx.rules.cluster_generators) {
            continue;
        }
        for api in apis(&scope, &client, kind) {
            let namespace = api.namespace().unwrap_or_default().to_owned();
            let (changed, told, stop) = (ctx.clone(), ctx.clone(), stop.clone());
            tasks.spawn(async move {
                let name = format!("{kind} {namespace}").trim().to_owned();
                let on_change = move |change| on_change(&changed, kind, change);
                let on_state = |state| {
                    let wakes = told.index_mut().generator_watch(kind, &namespace, state);
                    wake(&told, wakes);
                };
                watch::watch_and_tell(api, name, |_| (), stop, on_change, on_state).await;
            });
        }
    }
}

fn apis(scope: &Scope, client: &kube::Client, kind: GeneratorKind) -> Vec<Api<Guard<GeneratorObject>>> {
    match scope {
        Scope::Namespaces(names) if kind != GeneratorKind::ClusterGenerator => {
            names.iter().map(|name| Api::namespaced_with(client.clone(), name, &kind)).collect()
        }
        _ => vec![Api::all_with(client.clone(), &kind)],
    }
}

fn on_change(ctx: &Ctx, kind: GeneratorKind, change: Change<GeneratorObject>) {
    let generator = match change {
        Change::Upsert(object) => AnyGenerator::read(kind, object),
        Change::Invalid(meta, why) => AnyGenerator::invalid(kind, *meta, why),
        Change::Gone(key) => return ctx.index_mut().remove_generator(&GeneratorId { kind, key }),
    };
    let wakes = ctx.index_mut().upsert_generator(generator);
    wake(ctx, wakes);
}

fn wake(ctx: &Ctx, wakes: GeneratorWakes) {
    for (key, priority) in wakes.external_secrets {
        ctx.external_secrets.wake(key, priority);
    }
    for (key, priority) in wakes.push_secrets {
        ctx.push_secrets.wake(key, priority);
    }
}
