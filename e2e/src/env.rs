//! What a test runs in: one control plane, one AWS emulator and one operator for the whole test process, and a namespace of
//! its own for each test.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams};
use kube::runtime::wait::await_condition;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OnceCell};

use crate::aws::Aws;
use crate::cluster::{Cluster, PATIENCE, ready_condition, text};
use crate::controlplane::{ControlPlane, Options};
use crate::ldap::Ldap;
use crate::ministack::Ministack;
use crate::moto::Moto;
use crate::operator::{self, Operator};
use crate::postgres::Postgres;
use crate::process::Lifetime;
use crate::recorder::Recorder;
use crate::rundir::RunDir;
use crate::tools::Tools;
use crate::vault::Vault;
use crate::{install_crypto, progress, project_root};

/// The servers of a test. Tests share one ([`with_namespace`]); a test that breaks servers starts its own.
pub struct Env {
    /// The programs.
    pub tools: Tools,
    /// Kubernetes, with our CRDs.
    pub control_plane: ControlPlane,
    /// AWS, as tests arrange it.
    pub aws: Ministack,
    /// The way by which operators call AWS; it knows what they asked.
    pub recorder: Recorder,
    operator: OnceCell<Mutex<Operator>>,
    vault: OnceCell<Vault>,
    postgres: OnceCell<Postgres>,
    dir: Arc<RunDir>,
}

impl Env {
    /// Starts control plane and emulator, and installs the CRDs.
    ///
    /// # Errors
    /// When a tool is missing or a server does not come up.
    pub async fn start(options: Options) -> Result<Self> {
        install_crypto();
        let tools = tokio::task::spawn_blocking(Tools::find_or_make).await??;
        Self::start_in(Arc::new(RunDir::new(Lifetime::Ours)?), tools, options).await
    }

    async fn start_in(dir: Arc<RunDir>, tools: Tools, options: Options) -> Result<Self> {
        let kubernetes = async {
            let plane = ControlPlane::start(dir.clone(), &tools, options).await?;
            for file in crd_files()? {
                plane.cluster().apply(&std::fs::read_to_string(file)?, "").await?;
            }
            plane.start_controllers().await?;
            anyhow::Ok(plane)
        };
        let (control_plane, aws) = tokio::try_join!(kubernetes, Ministack::start(dir.clone(), &tools))?;
        let recorder = Recorder::start(aws.endpoint(), None).await?;
        let (operator, vault, postgres) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Ok(Self { tools, control_plane, aws, recorder, operator, vault, postgres, dir })
    }

    /// The administrator's way into the cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.control_plane.cluster()
    }

    /// The operator, started by the first call.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn operator(&self) -> Result<&Mutex<Operator>> {
        self.operator_with(&operator::Options::default()).await
    }

    /// As [`Env::operator`]; `options` count in the first call.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn operator_with(&self, options: &operator::Options) -> Result<&Mutex<Operator>> {
        let start = async || anyhow::Ok(Mutex::new(self.another_operator(options).await?));
        self.operator.get_or_try_init(start).await
    }

    /// HashiCorp's Vault, started by the first call. A test has mounts and policies of its own there.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn vault(&self) -> Result<&Vault> {
        self.vault.get_or_try_init(|| self.another_vault()).await
    }

    /// A further Vault, which belongs to the caller.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn another_vault(&self) -> Result<Vault> {
        Vault::start(self.dir.clone()).await
    }

    /// PostgreSQL, started by the first call.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn postgres(&self) -> Result<&Postgres> {
        self.postgres.get_or_try_init(|| Postgres::start(self.dir.clone())).await
    }

    /// A directory with these users: `(uid, password)`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn ldap(&self, users: &[(&str, &str)]) -> Result<Ldap> {
        Ldap::start(self.dir.clone(), users).await
    }

    /// Moto, a second AWS emulator.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn moto(&self) -> Result<Moto> {
        Moto::start(self.dir.clone()).await
    }

    /// A further operator, which belongs to the caller. Beside others it needs namespaces of its own, or they serve the same objects:
    /// a class is not enough, as stores that name none are every operator's.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn another_operator(&self, options: &operator::Options) -> Result<Operator> {
        Operator::start(self.dir.clone(), &self.tools, self.cluster(), self.recorder.url(), options).await
    }

    /// A new namespace whose name starts with `label`.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn namespace(&self, label: &str) -> Result<Sandbox<'_>> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let name = format!("{label}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.cluster().ensure_namespace(&name).await?;
        Ok(Sandbox { env: self, name })
    }

    /// Runs `test` in a namespace of its own on these servers: see the function of the same name.
    ///
    /// # Errors
    /// What `test` returns.
    pub async fn with_namespace(&self, label: &str, test: impl AsyncFnOnce(&Sandbox<'_>) -> Result<()>) -> Result<()> {
        let sandbox = self.namespace(label).await?;
        // The report must also come after a failed assertion.
        match AssertUnwindSafe(test(&sandbox)).catch_unwind().await {
            Ok(Ok(())) => sandbox.delete().await,
            Ok(Err(error)) => {
                sandbox.report().await;
                Err(error)
            }
            Err(panic) => {
                sandbox.report().await;
                std::panic::resume_unwind(panic)
            }
        }
    }

    /// The ends of the logs of operators that were started for a namespace.
    fn logs_of(&self, namespace: &str, lines: usize) -> Result<String> {
        let mut all = String::new();
        for entry in std::fs::read_dir(self.dir.path().join("log"))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains(&format!("-{namespace}-"))) {
                all.push_str(&progress::tail(&path, lines));
            }
        }
        Ok(all)
    }
}

/// The generated CRDs, in order.
///
/// # Errors
/// When the folder cannot be read.
pub fn crd_files() -> Result<Vec<PathBuf>> {
    yaml_files("crds")
}

/// The `.yaml` files of a folder of the project, sorted.
///
/// # Errors
/// When the folder cannot be read or holds none.
pub fn yaml_files(folder: &str) -> Result<Vec<PathBuf>> {
    let dir = project_root().join(folder);
    let entries = std::fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> = paths.into_iter().filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect();
    files.sort();
    if files.is_empty() {
        bail!("{} holds no .yaml file", dir.display());
    }
    Ok(files)
}

/// Runs `test` in a namespace of its own on the shared servers. When it fails, the report holds what happened in the namespace
/// and the end of the operator's log.
///
/// # Errors
/// When the servers do not come up, or what `test` returns.
pub fn with_namespace(label: &str, test: impl AsyncFnOnce(&Sandbox<'_>) -> Result<()>) -> Result<()> {
    static SHARED: OnceCell<Env> = OnceCell::const_new();
    block_on(async { SHARED.get_or_try_init(|| Env::start(Options::default())).await?.with_namespace(label, test).await })
}

/// Runs a future on the one runtime of the test process: shared clients and servers must not end with the test that made them.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    #[allow(clippy::expect_used, reason = "without a runtime no test can run")]
    let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("a tokio runtime"));
    runtime.block_on(future)
}

/// A test's own namespace.
pub struct Sandbox<'a> {
    /// The servers.
    pub env: &'a Env,
    /// Its name.
    pub name: String,
}

impl Sandbox<'_> {
    /// The administrator's way into the cluster.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        self.env.cluster()
    }

    /// AWS, as the account's root.
    #[must_use]
    pub fn aws(&self) -> Aws {
        self.env.aws.root()
    }

    /// Applies a YAML text in this namespace.
    ///
    /// # Errors
    /// When the API server refuses an object.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        self.cluster().apply(yaml, &self.name).await
    }

    /// Runs kubectl in this namespace, as a user would.
    ///
    /// # Errors
    /// When it fails.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let args: Vec<&str> = ["-n", &self.name].into_iter().chain(args.iter().copied()).collect();
        self.cluster().kubectl(&args).await
    }

    /// Waits until the object fulfils `condition` (`None`: it does not exist), and returns it as it then is.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`]; the error holds the object as it is, without its data.
    pub async fn wait(
        &self,
        kind: (&str, &str),
        name: &str,
        condition: impl Fn(Option<&Value>) -> bool,
    ) -> Result<Option<Value>> {
        self.cluster().wait(&self.name, kind, name, condition).await
    }

    /// Waits until the condition `Ready` of an object has this status and reason, and returns its message.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`].
    pub async fn wait_ready(&self, kind: (&str, &str), name: &str, status: &str, reason: &str) -> Result<String> {
        let has = |object: Option<&Value>| {
            ready_condition(object).is_some_and(|c| text(c, "status") == status && text(c, "reason") == reason)
        };
        let object = self.wait(kind, name, has).await?;
        Ok(ready_condition(object.as_ref()).map(|c| text(c, "message")).unwrap_or_default())
    }

    /// Waits until an ExternalSecret says that it is synced.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`].
    pub async fn wait_synced(&self, external_secret: &str) -> Result<()> {
        let kind = ("external-secrets.io/v1", "ExternalSecret");
        self.wait_ready(kind, external_secret, "True", "SecretSynced").await.map(drop)
    }

    /// Waits until a Secret's data, as text, fulfils `condition`; returns how long that took.
    ///
    /// # Errors
    /// When it does not within [`PATIENCE`].
    pub async fn wait_secret(&self, name: &str, condition: impl Fn(&BTreeMap<String, String>) -> bool) -> Result<Duration> {
        let started = Instant::now();
        let fulfilled = |object: Option<&Secret>| object.is_some_and(|secret| condition(&data_of(secret)));
        let api: Api<Secret> = Api::namespaced(self.cluster().client.clone(), &self.name);
        match tokio::time::timeout(PATIENCE, await_condition(api, name, fulfilled)).await {
            Ok(result) => result.map(|_| started.elapsed()).map_err(Into::into),
            Err(_) => bail!("Secret {name} does not hold what it should after {PATIENCE:?}"),
        }
    }

    /// A Secret's data, as text.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn secret(&self, name: &str) -> Result<BTreeMap<String, String>> {
        let api: Api<Secret> = Api::namespaced(self.cluster().client.clone(), &self.name);
        Ok(data_of(&api.get(name).await?))
    }

    /// Waits until there is an event `Type Reason: note` about an object that begins so: the operator writes events in the
    /// background, so that a sync may be told before its event is there.
    ///
    /// # Errors
    /// When there is none within [`PATIENCE`]; the error holds those that there are.
    pub async fn wait_event(&self, kind: &str, name: &str, begins: &str) -> Result<()> {
        let started = Instant::now();
        loop {
            let events = self.events(kind, name).await?;
            if events.iter().any(|event| event.starts_with(begins)) {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                bail!("no event of {kind} {name} begins with {begins:?} after {PATIENCE:?}: {events:?}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The events about an object, as `Type Reason: note`.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub async fn events(&self, kind: &str, name: &str) -> Result<Vec<String>> {
        let api: Api<Event> = Api::namespaced(self.cluster().client.clone(), &self.name);
        let fields = format!("regarding.kind={kind},regarding.name={name}");
        let list = api.list(&ListParams::default().fields(&fields)).await?;
        let line = |event: Event| {
            let part = Option::unwrap_or_default;
            format!("{} {}: {}", part(event.type_), part(event.reason), part(event.note))
        };
        Ok(list.items.into_iter().map(line).collect())
    }

    /// A role that only the ServiceAccount `account` of this namespace may take, and that may do what `statements` say; and
    /// the ServiceAccount itself, which names the role as on EKS. Returns the role's ARN.
    ///
    /// # Errors
    /// When AWS or Kubernetes refuses it.
    pub async fn service_account_with_role(&self, account: &str, statements: Value) -> Result<String> {
        service_account_with_role(self.cluster(), &self.aws(), &self.name, account, statements).await
    }

    /// Deletes it: for a namespace that a test made besides its own.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn delete(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster().client.clone());
        namespaces.delete(&self.name, &DeleteParams::background()).await?;
        Ok(())
    }

    async fn report(&self) {
        let show = |what: &str, text: Result<String>| {
            progress::note(format!("---- {what}\n{}", text.unwrap_or_else(|error| format!("{error:#}"))));
        };
        let kinds = "externalsecrets,secretstores,clustersecretstores";
        show("objects", self.kubectl(&["get", kinds, "-o", "yaml"]).await);
        show("events", self.kubectl(&["get", "events"]).await);
        if let Some(operator) = self.env.operator.get() {
            show("the operator's log", Ok(operator.lock().await.log_tail(60)));
        }
        show("the logs of this namespace's own operators", self.env.logs_of(&self.name, 60));
    }
}

/// See [`Sandbox::service_account_with_role`].
///
/// # Errors
/// When AWS or Kubernetes refuses it.
pub async fn service_account_with_role(
    cluster: &Cluster,
    aws: &Aws,
    namespace: &str,
    account: &str,
    statements: Value,
) -> Result<String> {
    let trust = crate::aws::trust_service_account(&cluster.token_issuer().await?, namespace, account);
    let role = aws.create_role(&format!("{namespace}-{account}"), trust, statements).await?;
    let object = serde_json::json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": account, "annotations": {"eks.amazonaws.com/role-arn": role}},
    });
    cluster.apply_object(object, namespace).await?;
    Ok(role)
}

fn data_of(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())).collect()
}
