//! keyferry itself, run as it runs in a cluster: under the ServiceAccount and with the rights that its Helm chart gives it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde_json::Value;

use crate::cluster::{Cluster, documents};
use crate::controlplane::free_port;
use crate::process::{Launch, Service, Signal, Ticket};
use crate::rundir::RunDir;
use crate::tools::Tools;
use crate::{http, progress, project_root};

/// Where the chart is installed.
pub const NAMESPACE: &str = "keyferry";
/// Set it to test another binary than the one that `cargo build` makes.
const BINARY: &str = "KEYFERRY_BIN";
/// The kinds of the chart that give the operator its identity and its rights.
const RBAC_KINDS: [&str; 5] = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];

/// How the operator is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Further arguments of `keyferry controller`.
    pub args: Vec<String>,
    /// Further variables.
    pub env: Vec<(String, String)>,
    /// Values of the chart (`name=value`), which decide what it may do.
    pub chart_values: Vec<String>,
    /// The program, where it is not what [`binary`] gives.
    pub binary: Option<PathBuf>,
    /// Where the chart is installed; empty: in [`NAMESPACE`]. Operators in one namespace are replicas of each other.
    pub namespace: String,
}

impl Options {
    fn namespace(&self) -> &str {
        if self.namespace.is_empty() { NAMESPACE } else { &self.namespace }
    }
}

/// A running (or stopped) operator.
pub struct Operator {
    name: String,
    launch: Launch,
    metrics: String,
    live: String,
    service: Service,
    started: Instant,
    dir: Arc<RunDir>,
}

impl Operator {
    /// Installs the chart's rights in `cluster`, starts the operator against it and the AWS at the URL `aws`, and waits until
    /// it says that it is ready.
    ///
    /// # Errors
    /// When the chart cannot be rendered, or the operator does not become ready; the error holds the end of its log.
    pub async fn start(dir: Arc<RunDir>, tools: &Tools, cluster: &Cluster, aws: &str, options: &Options) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let namespace = options.namespace();
        let name = format!("operator-{namespace}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let account = install_rights(tools, cluster, namespace, &options.chart_values).await?;
        let kubeconfig = cluster.kubeconfig_for(namespace, &account).await?;
        let kubeconfig = dir.write(&format!("{name}.kubeconfig"), kubeconfig)?;
        let (metrics, live) = (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let binary = match &options.binary {
            Some(path) => path.clone(),
            None => tokio::task::spawn_blocking(binary).await??,
        };
        let mut launch = Launch::new(binary)
            .args(["controller", "--metrics-addr", metrics.as_str(), "--live-addr", live.as_str()])
            .args(&options.args)
            .env("KUBECONFIG", kubeconfig.display().to_string())
            .env("TZ", "UTC")
            .env("RUST_BACKTRACE", "1")
            .env("AWS_SECRETSMANAGER_ENDPOINT", aws)
            .env("AWS_STS_ENDPOINT", aws)
            .env("AWS_ECR_ENDPOINT", aws)
            .env("AWS_SSM_ENDPOINT", aws)
            // No machine that runs this answers there; waiting for it would only take time.
            .env("AWS_EC2_METADATA_DISABLED", "true");
        launch.env.extend(options.env.iter().cloned());
        let started = Instant::now();
        let service = dir.start(&name, &launch)?;
        let mut operator = Self { name, launch, metrics, live, service, started, dir };
        operator.ready().await?;
        Ok(operator)
    }

    /// Waits until `/readyz` answers 200.
    ///
    /// # Errors
    /// When the process ends, or is not ready after a minute.
    pub async fn ready(&mut self) -> Result<()> {
        let url = format!("http://{}/readyz", self.live);
        self.service.ready(Duration::from_secs(60), async || http::is_ok(&url).await).await
    }

    /// What `/metrics` says now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let (status, body) = http::get(&format!("http://{}/metrics", self.metrics)).await?;
        if status != hyper::StatusCode::OK {
            bail!("/metrics answers {status}");
        }
        Ok(String::from_utf8(body.to_vec())?)
    }

    /// The address of `/healthz`, `/readyz` and `/log-level`.
    #[must_use]
    pub fn live_address(&self) -> &str {
        &self.live
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// When it was started, or started again.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// All that the operator has logged so far, over restarts.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(self.service.log())?).into_owned())
    }

    /// The end of the log, for a failure's report.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        progress::tail(self.service.log(), lines)
    }

    /// Ends the operator with SIGKILL, as a node's failure does.
    ///
    /// # Errors
    /// When it is gone already.
    pub async fn kill(&mut self) -> Result<()> {
        self.service.signal(Signal::KILL)?;
        self.service.exited(Duration::from_secs(10)).await.map(drop)
    }

    /// Sends it a signal, such as STOP and CONT.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.service.signal(signal)
    }

    /// What `/readyz` or `/healthz` says, and whether it passes.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn probe(&self, path: &str) -> Result<(bool, String)> {
        let (status, body) = http::get(&format!("http://{}{path}", self.live)).await?;
        Ok((status == hyper::StatusCode::OK, String::from_utf8(body.to_vec())?))
    }

    /// Changes the log level while it runs.
    ///
    /// # Errors
    /// When it does not take it.
    pub async fn set_log_level(&self, level: &str) -> Result<()> {
        let request =
            Request::put(format!("http://{}/log-level", self.live)).body(Full::new(Bytes::from(level.to_owned())))?;
        let (status, _) = http::send(request).await?;
        if status != hyper::StatusCode::OK {
            bail!("/log-level answers {status}");
        }
        Ok(())
    }

    /// Waits for the operator to end by itself.
    ///
    /// # Errors
    /// When it has not ended after `limit`.
    pub async fn exited(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        self.service.exited(limit).await
    }

    /// Ends the operator with SIGTERM, as Kubernetes does, and returns how it ended.
    ///
    /// # Errors
    /// When it has not ended after `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        self.service.signal(Signal::TERM)?;
        self.service.exited(limit).await
    }

    /// Starts the operator again, as it was, and waits until it is ready. End it first.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_again(&mut self) -> Result<()> {
        self.started = Instant::now();
        self.service = self.dir.start(&self.name, &self.launch)?;
        self.ready().await
    }

    /// The process, for who ends it later.
    ///
    /// # Errors
    /// When it is gone.
    pub fn ticket(&self) -> Result<Ticket> {
        self.service.ticket()
    }
}

/// What the chart renders to, with `values` (`name=value`) and the arguments `extra` of `helm template`.
///
/// # Errors
/// When Helm refuses; the error holds what it says.
pub fn render_chart(tools: &Tools, values: &[String], extra: &[&str]) -> Result<String> {
    let mut helm = Command::new(&tools.helm);
    helm.args(["template", "keyferry"]).arg(project_root().join("charts/keyferry")).args(["--namespace", NAMESPACE]);
    helm.args(values.iter().flat_map(|value| ["--set", value.as_str()])).args(extra);
    let output = helm.output().context("cannot start helm")?;
    if !output.status.success() {
        bail!("helm template: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The objects of the chart, installed in `namespace`, that give the operator its rights.
///
/// # Errors
/// When Helm refuses, or the chart names no ServiceAccount.
pub fn rights(tools: &Tools, namespace: &str, values: &[String]) -> Result<Vec<Value>> {
    let kind = |object: &Value| object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut objects = documents(&render_chart(tools, values, &["--namespace", namespace])?)?;
    objects.retain(|object| RBAC_KINDS.contains(&kind(object).as_str()));
    Ok(objects)
}

/// Applies the chart's rights and returns the name of the operator's ServiceAccount.
async fn install_rights(tools: &Tools, cluster: &Cluster, namespace: &str, values: &[String]) -> Result<String> {
    let objects = rights(tools, namespace, values)?;
    let name = objects
        .iter()
        .find(|object| object.get("kind").and_then(Value::as_str) == Some("ServiceAccount"))
        .and_then(|object| object.pointer("/metadata/name")?.as_str())
        .ok_or_else(|| anyhow!("the chart has no ServiceAccount"))?
        .to_owned();
    cluster.ensure_namespace(namespace).await?;
    for object in objects {
        cluster.apply_object(object, namespace).await?;
    }
    Ok(name)
}

/// The keyferry binary, built if it is older than its sources.
///
/// # Errors
/// When it does not compile.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY) {
        return Ok(PathBuf::from(path));
    }
    let target = target_dir()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    // The whole workspace: a single package would be built with other features of its dependencies, all over again.
    build.args(["build", "--workspace", "--bins", "--target-dir"]).arg(&target).current_dir(project_root());
    let log = tempfile::NamedTempFile::new()?;
    progress::run("building keyferry", &mut build, log.path())?;
    Ok(target.join("debug/keyferry"))
}

/// The folder in which cargo built this program: `target`, of `target/debug/e2e` or `target/debug/deps/main-…`.
fn target_dir() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let debug = here.ancestors().find(|dir| dir.file_name().is_some_and(|name| name == "debug"));
    debug.and_then(Path::parent).map(Path::to_path_buf).ok_or_else(|| {
        anyhow!("{} was not built by cargo's dev profile: set {BINARY} to the keyferry binary to run", here.display())
    })
}
