//! `keyferry adopt`: looks at a cluster with the rights of the one who calls it, tells what moving from ESO or back comes to, and
//! does it. What is done to which object is decided in `plan::adopt`.

use std::collections::HashMap;
use std::io::Write;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;

use crate::api::{
    AnyStore, ClusterExternalSecret, ClusterSecretStore, ExternalSecret, GROUP, LABEL_MANAGED, LABEL_MANAGED_VALUE,
    PushSecret, SecretStore, crds,
};
use crate::apply::error::WriteError;
use crate::cli::Adopt;
use crate::guard::{Guard, Metadata};
use crate::index::{Key, StoreId, target_key};
use crate::outbound::api_server;
use crate::plan::adopt::{self as plan, Change, Step};

/// Objects that one answer to a list holds.
const PAGE: u32 = 500;

/// Why a cluster does not change hands.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// No cluster is configured.
    #[error("no cluster to work with: set KUBECONFIG: {0}")]
    Config(String),
    /// Something cannot be looked at.
    #[error("cannot list {kind}: {why}")]
    List {
        /// What.
        kind: String,
        /// Why.
        why: String,
        /// Whether that is a right which is missing.
        forbidden: bool,
    },
    /// The operator that has to be stopped runs.
    #[error(
        "{program} runs ({names}): two operators would write the same objects. Scale it down first, or give --force if it serves other \
         objects"
    )]
    Runs {
        /// Which operator.
        program: &'static str,
        /// Its Deployments.
        names: String,
    },
    /// Some objects could not be changed.
    #[error("{0} objects could not be changed; nothing else is half done: run the command again")]
    Failed(usize),
    /// The report cannot be written.
    #[error("cannot write to the standard output: {0}")]
    Output(#[from] std::io::Error),
    /// The process cannot begin.
    #[error("the process could not be set up: {0}")]
    Setup(std::io::Error),
}

/// Runs the command.
///
/// # Errors
/// Says why the cluster, or some object, did not change hands.
pub fn run(what: &Adopt, out: &mut impl Write) -> Result<(), AdoptError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AdoptError::Setup)?;
    runtime.block_on(async {
        let config = api_server::infer().await.map_err(|e| AdoptError::Config(e.to_string()))?;
        let client = api_server::client(config).map_err(|e| AdoptError::Config(e.to_string()))?;
        Mover { client: client.build(), what }.run(out).await
    })
}

struct Mover<'a> {
    client: Client,
    what: &'a Adopt,
}

impl Mover<'_> {
    async fn run(&self, out: &mut impl Write) -> Result<(), AdoptError> {
        self.check_stopped(out).await?;
        let steps = if self.what.undo { self.back().await? } else { self.here(out).await? };
        let (mut changed, mut warned, mut failed) = (0, 0, 0);
        for step in &steps {
            let object = format!("{} {}", step.kind, step.key);
            for warning in &step.warns {
                warned += 1;
                writeln!(out, "! {object}: {warning}")?;
            }
            let Some(change) = &step.change else { continue };
            let what = step.does.join(", ");
            if self.what.dry_run {
                changed += 1;
                writeln!(out, "  {object}: would do: {what}")?;
                continue;
            }
            match self.carry_out(step, change).await {
                Ok(()) | Err(WriteError::Gone) => {
                    changed += 1;
                    writeln!(out, "  {object}: {what}")?;
                }
                Err(error) => {
                    failed += 1;
                    writeln!(out, "! {object}: not done: {error}")?;
                }
            }
        }
        let (looked, word) = (steps.len(), if self.what.dry_run { "would be changed" } else { "changed" });
        writeln!(
            out,
            "{looked} objects looked at, {changed} {word}, {failed} failed, {warned} warnings; nothing was deleted"
        )?;
        if failed > 0 { Err(AdoptError::Failed(failed)) } else { Ok(()) }
    }

    /// Refuses where the operator runs that has to be stopped first.
    async fn check_stopped(&self, out: &mut impl Write) -> Result<(), AdoptError> {
        let program = if self.what.undo { "keyferry" } else { "external-secrets" };
        let deployments = match self.all(&Api::<Deployment>::all(self.client.clone()), "Deployments").await {
            Ok(deployments) => deployments,
            Err(AdoptError::List { why, .. }) => {
                writeln!(out, "! whether {program} is stopped could not be checked: {why}")?;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let names: Vec<String> =
            deployments.iter().filter(|d| is_up(d, program)).map(|d| Key::of(&d.metadata).to_string()).collect();
        match (names.join(", "), self.what.dry_run || self.what.force) {
            (names, _) if names.is_empty() => Ok(()),
            (names, true) => Ok(writeln!(out, "! {program} runs ({names}): scale it down before anything is changed")?),
            (names, false) => Err(AdoptError::Runs { program, names }),
        }
    }

    /// What moving to keyferry comes to.
    async fn here(&self, out: &mut impl Write) -> Result<Vec<Step>, AdoptError> {
        self.warn_of_definitions(out).await?;
        let mut steps = Vec::new();
        let mut stores: Vec<AnyStore> = Vec::new();
        stores.extend(self.objects::<SecretStore>(&self.near(), &mut steps).await?.into_iter().map(AnyStore::from));
        let pushes = self.objects::<PushSecret>(&self.near(), &mut steps).await?;
        // a ClusterSecretStore is looked at for those who use it, also where only one namespace moves
        let no_cluster_stores = match self.wide::<ClusterSecretStore>(&mut steps).await {
            Ok(found) => {
                stores.extend(found.into_iter().map(AnyStore::from));
                false
            }
            Err(AdoptError::List { kind, why, forbidden: true }) if !self.what.namespace.is_empty() => {
                writeln!(out, "! {kind}s could not be looked at, so that nothing is told of those that are used: {why}")?;
                true
            }
            Err(error) => return Err(error),
        };
        if self.what.namespace.is_empty() {
            self.warn_of_webhooks(out).await?;
            for ces in self.wide::<ClusterExternalSecret>(&mut steps).await? {
                steps.push(plan::cluster_external_secret(&ces));
            }
            let namespaces: Api<Metadata<Namespace>> = Api::all(self.client.clone());
            steps.extend(self.metadata(&namespaces, "Namespaces", "").await?.iter().map(plan::namespace));
        }
        let known = stores.iter().map(|s| (StoreId::of(s), s.clone())).collect();
        let by_name = plan::Stores { known, no_cluster_stores };
        steps.extend(
            stores
                .iter()
                .filter(|s| s.namespace().is_some() || self.what.namespace.is_empty())
                .map(|s| plan::store(s, &pushes)),
        );
        steps.extend(pushes.iter().map(plan::push_secret));
        let secrets: Api<Metadata<Secret>> = self.near();
        let managed = format!("{LABEL_MANAGED}={LABEL_MANAGED_VALUE}");
        let secrets: HashMap<Key, ObjectMeta> =
            self.metadata(&secrets, "Secrets", &managed).await?.into_iter().map(|m| (Key::of(&m), m)).collect();
        let found = self.objects::<ExternalSecret>(&self.near(), &mut steps).await?;
        for es in &found {
            let secret = secrets.get(&target_key(&Key::of(&es.metadata), es));
            steps.push(plan::external_secret(es, secret, &by_name));
        }
        if !self.what.leave_secrets {
            let written = plan::writers(&found).into_iter();
            steps.extend(written.filter_map(|(key, writers)| Some(plan::secret(&writers, secrets.get(&key)?))));
        }
        Ok(steps)
    }

    /// What moving back to ESO comes to.
    async fn back(&self) -> Result<Vec<Step>, AdoptError> {
        let mut steps = Vec::new();
        let found = self.objects::<ExternalSecret>(&self.near(), &mut steps).await?;
        steps.extend(found.iter().map(plan::hand_back));
        let written = plan::writers(&found);
        let params = ListParams::default().labels(&format!("{LABEL_MANAGED}={LABEL_MANAGED_VALUE}"));
        for secret in self.pages(&self.near::<Secret>(), "Secrets", params).await? {
            if let Some(writers) = written.get(&Key::of(&secret.metadata)) {
                steps.push(plan::hand_back_secret(writers, &secret));
            }
        }
        Ok(steps)
    }

    /// Definitions over which ours cannot be installed, or whose objects are not seen here. Told before anything is listed: a
    /// webhook that nobody answers makes lists fail.
    async fn warn_of_definitions(&self, out: &mut impl Write) -> Result<(), AdoptError> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for ours in crds::all().unwrap_or_default() {
            let name = ours.metadata.name.as_deref().unwrap_or_default();
            // who moves one namespace need not have the right to read them
            let Ok(found) = api.get_opt(name).await else { return Ok(()) };
            for warning in found.iter().flat_map(|theirs| plan::definition(&ours, theirs)) {
                writeln!(out, "! CustomResourceDefinition {name}: {warning} (docs/moving-from-eso.md)")?;
            }
        }
        Ok(())
    }

    /// A webhook of ESO's that nobody answers any more refuses every change.
    async fn warn_of_webhooks(&self, out: &mut impl Write) -> Result<(), AdoptError> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let Ok(configurations) = self.all(&api, "ValidatingWebhookConfigurations").await else { return Ok(()) };
        for configuration in configurations {
            let rules = configuration.webhooks.iter().flatten().flat_map(|w| w.rules.iter().flatten());
            if rules.into_iter().any(|r| r.api_groups.iter().flatten().any(|g| g == GROUP)) {
                let name = configuration.metadata.name.unwrap_or_default();
                writeln!(out, "! ValidatingWebhookConfiguration {name}: delete it: without ESO it refuses every change")?;
            }
        }
        Ok(())
    }

    /// The objects that move, of one namespace or of all.
    fn near<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match self.what.namespace.as_str() {
            "" => Api::all(self.client.clone()),
            namespace => Api::namespaced(self.client.clone(), namespace),
        }
    }

    async fn wide<K>(&self, steps: &mut Vec<Step>) -> Result<Vec<K>, AdoptError>
    where
        K: Resource<DynamicType = (), Scope = kube::core::ClusterResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        self.objects(&Api::all(self.client.clone()), steps).await
    }

    /// All objects of one of our kinds; those that cannot be understood are told of. A kind that is not installed has none.
    async fn objects<K>(&self, api: &Api<Guard<K>>, steps: &mut Vec<Step>) -> Result<Vec<K>, AdoptError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut found = Vec::new();
        for object in self.all(api, &K::kind(&())).await? {
            match object.0 {
                Ok(object) => found.push(object),
                Err((meta, why)) => steps.push(Step {
                    kind: "object",
                    key: Key::of(&meta),
                    warns: vec![format!("it is no {} that keyferry understands, and is left alone: {}", K::kind(&()), why)],
                    ..Step::default()
                }),
            }
        }
        Ok(found)
    }

    async fn all<K>(&self, api: &Api<K>, kind: &str) -> Result<Vec<K>, AdoptError>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        self.pages(api, kind, ListParams::default()).await
    }

    async fn pages<K>(&self, api: &Api<K>, kind: &str, params: ListParams) -> Result<Vec<K>, AdoptError>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let (mut found, mut params) = (Vec::new(), params.limit(PAGE));
        loop {
            let page = match api.list(&params).await {
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(found),
                page => page.map_err(|e| cannot_list(kind, &e))?,
            };
            found.extend(page.items);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(found),
            }
        }
    }

    /// Only the metadata: the data of Secrets does not get into this process.
    async fn metadata<K>(&self, api: &Api<Metadata<K>>, kind: &str, labels: &str) -> Result<Vec<ObjectMeta>, AdoptError>
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        let (mut found, mut params) = (Vec::new(), ListParams::default().labels(labels).limit(PAGE));
        loop {
            let page = api.list(&params).await.map_err(|e| cannot_list(kind, &e))?;
            found.extend(page.items.into_iter().map(|o| o.0));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(found),
            }
        }
    }

    async fn carry_out(&self, step: &Step, change: &Change) -> Result<(), WriteError> {
        let resource = match step.kind {
            "Secret" => ApiResource::erase::<Secret>(&()),
            "Namespace" => ApiResource::erase::<Namespace>(&()),
            "PushSecret" => ApiResource::erase::<PushSecret>(&()),
            "SecretStore" => ApiResource::erase::<SecretStore>(&()),
            "ClusterSecretStore" => ApiResource::erase::<ClusterSecretStore>(&()),
            "ClusterExternalSecret" => ApiResource::erase::<ClusterExternalSecret>(&()),
            _ => ApiResource::erase::<ExternalSecret>(&()),
        };
        let api: Api<DynamicObject> = match &*step.key.namespace {
            "" => Api::all_with(self.client.clone(), &resource),
            namespace => Api::namespaced_with(self.client.clone(), namespace, &resource),
        };
        let params = PatchParams { field_manager: Some(change.manager.clone()), ..PatchParams::default() };
        let (name, patch) = (&step.key.name, Patch::Merge(&change.patch));
        let result = match change.status {
            true => api.patch_status(name, &params, &patch).await.map(drop),
            false => api.patch_metadata(name, &params, &patch).await.map(drop),
        };
        result.map_err(|e| WriteError::of(e, "change", step.kind, &step.key))
    }
}

/// Why a list failed, in our words.
fn cannot_list(kind: &str, error: &kube::Error) -> AdoptError {
    let (why, forbidden) = match error {
        kube::Error::Api(status) => {
            (format!("the API server answered {} ({})", status.code, status.reason), status.code == 403)
        }
        _ => ("the API server did not answer as it should".into(), false),
    };
    AdoptError::List { kind: kind.to_owned(), why, forbidden }
}

/// Whether a Deployment runs a program, or is asked to.
fn is_up(deployment: &Deployment, program: &str) -> bool {
    let Some(spec) = &deployment.spec else { return false };
    let wanted = spec.replicas.unwrap_or(1);
    let running = deployment.status.as_ref().and_then(|s| s.replicas).unwrap_or_default();
    let containers = spec.template.spec.iter().flat_map(|s| &s.containers);
    let containers = containers.map(|c| (c.image.as_deref().unwrap_or_default(), c.args.as_deref().unwrap_or_default()));
    (wanted > 0 || running > 0) && plan::runs(containers, program)
}

#[cfg(test)]
mod tests;
