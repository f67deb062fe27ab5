//! `make demo`: the main job before your eyes, step by step, each with the time it took.

use std::fs;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::aws::{Aws, allow_reading};
use crate::cache::Cache;
use crate::cluster::{Cluster, documents, ready_condition, text};
use crate::controlplane::{ControlPlane, Options};
use crate::env::{crd_files, service_account_with_role};
use crate::ministack::Ministack;
use crate::operator::{self, Operator, rights};
use crate::process::{Lifetime, Ticket};
use crate::rundir::RunDir;
use crate::tools::Tools;
use crate::{install_crypto, progress, project_root};

/// The namespace of the demo's objects.
const NAMESPACE: &str = "keyferry-demo";
const MANIFEST: &str = "examples/quickstart.yaml";
const EXTERNAL_SECRET: &str = "app-secrets";
const ACCOUNT: &str = "external-secrets-sa";
const CHANGED: &str = "prod/stripe-api-key";
/// Set it to `1` to use the cluster of `KUBECONFIG` instead of a throw-away control plane.
const USE_CLUSTER: &str = "DEMO_USE_CLUSTER";

/// Runs the demo and ends everything it started.
///
/// # Errors
/// When a step fails, or somebody presses Ctrl-C.
pub async fn run() -> Result<()> {
    let mut stage = Stage::prepare(Lifetime::Ours).await?;
    let shown = tokio::select! {
        shown = show(&mut stage) => shown,
        interrupted = interrupted() => Err(interrupted),
    };
    let whole = stage.started.elapsed();
    stage.end().await?;
    shown?;
    line(format!("\nAll that the demo started is ended. It took {:.1} s.", whole.as_secs_f64()));
    line("To play with it yourself: make demo-up");
    Ok(())
}

/// Runs the demo and leaves everything running.
///
/// # Errors
/// When one is running already, or a step fails.
pub async fn up() -> Result<()> {
    let file = state_file()?;
    if let Some(state) = State::read(&file)?.filter(State::alive) {
        bail!("a demo is running already: export KUBECONFIG={}\nTo end it: make demo-down", state.kubeconfig.display());
    }
    if uses_own_cluster() {
        bail!("make demo-up always starts a control plane of its own: unset {USE_CLUSTER}");
    }
    let mut stage = Stage::prepare(Lifetime::Detached).await?;
    let shown = tokio::select! {
        shown = show(&mut stage) => shown,
        interrupted = interrupted() => Err(interrupted),
    };
    shown?;
    let state = stage.state().await;
    fs::write(&file, serde_json::to_vec(&state)?)?;
    // From here on demo-down ends the servers.
    let stage = ManuallyDrop::new(stage);
    let endpoint = stage.aws()?.endpoint();
    line(format!(
        "
It stays up. In another shell:

  export KUBECONFIG={kubeconfig} PATH={tools}:$PATH
  kubectl get es,ss -n {NAMESPACE}
  kubectl edit externalsecret {EXTERNAL_SECRET} -n {NAMESPACE}
  kubectl delete secret {EXTERNAL_SECRET} -n {NAMESPACE}     # it comes back at once
  kubectl apply -n {NAMESPACE} -f examples/                  # some need their own secrets in AWS

  AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test aws --region eu-west-1 --endpoint-url {endpoint} \\
      secretsmanager put-secret-value --secret-id {CHANGED} --secret-string yours
  kubectl annotate externalsecret {EXTERNAL_SECRET} -n {NAMESPACE} --overwrite force-sync=$(date +%s)

  tail -f {log}

To end it: make demo-down",
        kubeconfig = state.kubeconfig.display(),
        tools = stage.tools.control_plane.display(),
        log = state.dir.join("log/operator.log").display(),
    ));
    Ok(())
}

/// Ends what [`up`] left running.
///
/// # Errors
/// When its state cannot be read.
pub fn down() -> Result<()> {
    let file = state_file()?;
    let Some(state) = State::read(&file)? else {
        line("No demo is running.");
        return Ok(());
    };
    state.end();
    fs::remove_file(&file)?;
    line("The demo is ended.");
    Ok(())
}

/// What the demo runs on. Fields end in this order.
struct Stage {
    started: Instant,
    tools: Tools,
    operator: Option<Operator>,
    aws: Option<Ministack>,
    kubernetes: Kubernetes,
    dir: Arc<RunDir>,
}

/// The cluster: one of the demo's own, or the user's with the names of what the demo has added to it.
enum Kubernetes {
    None,
    Own(Box<ControlPlane>),
    Users { cluster: Box<Cluster>, added: Vec<String> },
}

impl Stage {
    async fn prepare(lifetime: Lifetime) -> Result<Self> {
        install_crypto();
        let started = Instant::now();
        line("keyferry: a manifest written for External Secrets Operator, unchanged, becomes a Secret and follows AWS.\n");
        let (tools, _) = tokio::task::spawn_blocking(|| anyhow::Ok((Tools::find_or_make()?, operator::binary()?))).await??;
        done("tools and keyferry", started, "built, or in the cache from an earlier run");
        let dir = Arc::new(RunDir::new(lifetime)?);
        Ok(Self { started, tools, operator: None, aws: None, kubernetes: Kubernetes::None, dir })
    }

    fn cluster(&self) -> Result<&Cluster> {
        match &self.kubernetes {
            Kubernetes::None => Err(anyhow!("no cluster yet")),
            Kubernetes::Own(plane) => Ok(plane.cluster()),
            Kubernetes::Users { cluster, .. } => Ok(cluster),
        }
    }

    fn aws(&self) -> Result<&Ministack> {
        self.aws.as_ref().ok_or_else(|| anyhow!("no AWS emulator yet"))
    }

    /// Remembers what to delete from the user's cluster in the end. What is there already is not ours to change or delete.
    async fn claim(&mut self, object: String) -> Result<()> {
        if let Kubernetes::Users { cluster, added } = &mut self.kubernetes {
            if !cluster.kubectl(&["get", "--ignore-not-found", &object]).await?.is_empty() {
                bail!("your cluster has {object} already, and the demo would change it: delete it, or use another cluster");
            }
            added.push(object);
        }
        Ok(())
    }

    async fn state(&self) -> State {
        let operator = self.operator.iter().filter_map(|operator| operator.ticket().ok());
        let aws = self.aws.iter().filter_map(|aws| aws.ticket().ok());
        let mut servers: Vec<Ticket> = operator.chain(aws).collect();
        let mut kubeconfig = PathBuf::new();
        if let Kubernetes::Own(plane) = &self.kubernetes {
            servers.extend(plane.services().await);
            kubeconfig = plane.cluster().kubeconfig().to_path_buf();
        }
        State { dir: self.dir.path().to_path_buf(), kubeconfig, servers }
    }

    /// Ends the servers, and takes out of the user's cluster what the demo put there, the last first.
    async fn end(mut self) -> Result<()> {
        self.operator.take();
        if let Kubernetes::Users { cluster, added } = &self.kubernetes {
            for object in added.iter().rev() {
                cluster.kubectl(&["delete", "--ignore-not-found", object]).await?;
            }
        }
        Ok(())
    }
}

async fn show(stage: &mut Stage) -> Result<()> {
    start_kubernetes(stage).await?;
    start_aws(stage).await?;
    install(stage).await?;
    apply_manifest(stage).await?;
    follow_change(stage).await
}

async fn start_kubernetes(stage: &mut Stage) -> Result<()> {
    let begun = Instant::now();
    if uses_own_cluster() {
        let kubeconfig = std::env::var_os("KUBECONFIG")
            .map(PathBuf::from)
            .ok_or_else(|| anyhow!("{USE_CLUSTER}=1 needs KUBECONFIG: the path of one kubeconfig file"))?;
        let cluster = Cluster::new(&kubeconfig, stage.tools.kubectl(), stage.dir.path()).await?;
        let version = cluster.client.apiserver_version().await.context("the cluster of KUBECONFIG does not answer")?;
        stage.kubernetes = Kubernetes::Users { cluster: Box::new(cluster), added: Vec::new() };
        done("your cluster", begun, format!("Kubernetes {}", version.git_version));
    } else {
        let plane = ControlPlane::start(stage.dir.clone(), &stage.tools, Options::default()).await?;
        let version = plane.cluster().client.apiserver_version().await?.git_version;
        stage.kubernetes = Kubernetes::Own(Box::new(plane));
        done("a Kubernetes control plane", begun, format!("{version}: etcd, kube-apiserver; RBAC on"));
    }

    let begun = Instant::now();
    let missing = missing_crds(stage.cluster()?).await?;
    for file in missing {
        let name = stage.cluster()?.kubectl(&["create", "--dry-run=client", "-o", "name", "-f", &file]).await?;
        stage.claim(name.trim().to_owned()).await?;
        stage.cluster()?.kubectl(&["create", "-f", &file]).await?;
    }
    if let Kubernetes::Own(plane) = &stage.kubernetes {
        plane.start_controllers().await?;
    }
    done("CRDs of external-secrets.io", begun, "v1 and v1beta1");
    Ok(())
}

/// The files of the CRDs that the cluster lacks. Those that it has are the user's own, neither changed nor, in the end, deleted:
/// they must serve what ours do.
async fn missing_crds(cluster: &Cluster) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    for path in crd_files()? {
        for ours in documents(&fs::read_to_string(&path)?)? {
            let name = ours["metadata"]["name"].as_str().unwrap_or_default();
            let found = cluster.kubectl(&["get", "crd", name, "--ignore-not-found", "-o", "json"]).await?;
            if found.is_empty() {
                missing.push(path.display().to_string());
                continue;
            }
            let theirs: Value = serde_json::from_str(&found).context("kubectl gave no JSON")?;
            let lacks = not_served(&ours, &theirs).join(", ");
            if !lacks.is_empty() {
                bail!("your cluster has the CRD {name} already, and it does not serve {lacks}: use another cluster");
            }
        }
    }
    Ok(missing)
}

/// The versions that one CRD serves and another does not.
fn not_served<'a>(ours: &'a Value, theirs: &'a Value) -> Vec<&'a str> {
    let served = |crd: &'a Value| {
        let versions =
            crd["spec"]["versions"].as_array().into_iter().flatten().filter(|v| v["served"].as_bool() == Some(true));
        versions.filter_map(|v| v["name"].as_str()).collect::<Vec<_>>()
    };
    let theirs = served(theirs);
    served(ours).into_iter().filter(|name| !theirs.contains(name)).collect()
}

async fn start_aws(stage: &mut Stage) -> Result<()> {
    let begun = Instant::now();
    let aws = Ministack::start(stage.dir.clone(), &stage.tools).await?;
    done("an AWS emulator", begun, "ministack: Secrets Manager, STS and IAM, which decides");

    let begun = Instant::now();
    let root = aws.root();
    root.put_secret("prod/database-url", "postgres://app:pw@db.internal/app").await?;
    root.put_secret(CHANGED, "sk_test_first").await?;
    stage.claim(format!("namespace/{NAMESPACE}")).await?;
    stage.cluster()?.ensure_namespace(NAMESPACE).await?;
    service_account_with_role(stage.cluster()?, &root, NAMESPACE, ACCOUNT, allow_reading("prod/*")).await?;
    let what = format!("two in prod/; a role may read them, and only ServiceAccount {NAMESPACE}/{ACCOUNT} may take it");
    done("secrets in AWS", begun, what);
    stage.aws = Some(aws);
    Ok(())
}

/// In the user's cluster the operator serves the demo's namespace and has no right beyond it: stores, Secrets and another operator
/// that are there stay as they are.
fn demo_alone() -> operator::Options {
    operator::Options {
        args: vec![format!("--namespaces={NAMESPACE}")],
        chart_values: vec![format!("scopedNamespaces={{{NAMESPACE}}}")],
        ..operator::Options::default()
    }
}

async fn install(stage: &mut Stage) -> Result<()> {
    let begun = Instant::now();
    let options = match &stage.kubernetes {
        Kubernetes::Users { .. } => demo_alone(),
        Kubernetes::None | Kubernetes::Own(_) => operator::Options::default(),
    };
    for object in rights(&stage.tools, operator::NAMESPACE, &options.chart_values)? {
        let part = |path| object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_lowercase();
        if part("/kind").starts_with("cluster") {
            stage.claim(format!("{}/{}", part("/kind"), part("/metadata/name"))).await?;
        }
    }
    stage.claim(format!("namespace/{}", operator::NAMESPACE)).await?;
    let tools = stage.tools.clone();
    let operator = Operator::start(stage.dir.clone(), &tools, stage.cluster()?, stage.aws()?.endpoint(), &options).await?;
    stage.operator = Some(operator);
    done("keyferry", begun, format!("runs with the rights of its Helm chart (namespace {})", operator::NAMESPACE));
    Ok(())
}

async fn apply_manifest(stage: &Stage) -> Result<()> {
    let cluster = stage.cluster()?;
    let manifest = project_root().join(MANIFEST).display().to_string();
    line(format!("\n$ kubectl apply -n {NAMESPACE} -f {MANIFEST}"));
    let begun = Instant::now();
    print(cluster.kubectl(&["apply", "-n", NAMESPACE, "-f", &manifest]).await?);
    let synced = |object: Option<&Value>| ready_condition(object).is_some_and(|ready| text(ready, "status") == "True");
    cluster.wait(NAMESPACE, ("external-secrets.io/v1", "ExternalSecret"), EXTERNAL_SECRET, synced).await?;
    done("the Secret is there", begun, "from before `kubectl apply` until the ExternalSecret said Ready");
    show_objects(cluster).await
}

async fn follow_change(stage: &Stage) -> Result<()> {
    let cluster = stage.cluster()?;
    let aws: Aws = stage.aws()?.root();
    line(format!("\nNow somebody changes {CHANGED} in AWS, and does not want to wait 15 minutes:"));
    line(format!("$ aws secretsmanager put-secret-value --secret-id {CHANGED} --secret-string sk_test_second"));
    aws.put_secret(CHANGED, "sk_test_second").await?;
    line(format!("$ kubectl annotate externalsecret {EXTERNAL_SECRET} -n {NAMESPACE} force-sync=1"));
    let begun = Instant::now();
    print(
        cluster
            .kubectl(&["annotate", "externalsecret", EXTERNAL_SECRET, "-n", NAMESPACE, "--overwrite", "force-sync=1"])
            .await?,
    );
    let second = json!(ByteString(b"sk_test_second".to_vec()));
    let followed = |object: Option<&Value>| object.and_then(|secret| secret.pointer("/data/stripe-key")) == Some(&second);
    cluster.wait(NAMESPACE, ("v1", "Secret"), EXTERNAL_SECRET, followed).await?;
    done("the Secret has followed", begun, "from before `kubectl annotate`");
    show_objects(cluster).await
}

async fn show_objects(cluster: &Cluster) -> Result<()> {
    let name = EXTERNAL_SECRET;
    line(format!("\n$ kubectl get externalsecret {name} -n {NAMESPACE}"));
    print(cluster.kubectl(&["get", "externalsecret", name, "-n", NAMESPACE]).await?);
    line(format!("\nSecret {name} (decoded: these are made-up values):"));
    let decode = "{{range $key, $value := .data}}  {{$key}}: {{$value | base64decode}}\n{{end}}";
    print(cluster.kubectl(&["get", "secret", name, "-n", NAMESPACE, "-o", &format!("go-template={decode}")]).await?);
    line(format!("\n$ kubectl events -n {NAMESPACE}"));
    print(cluster.kubectl(&["events", "-n", NAMESPACE]).await?);
    Ok(())
}

/// What a demo that stays up leaves in the cache folder.
#[derive(Serialize, Deserialize)]
struct State {
    dir: PathBuf,
    kubeconfig: PathBuf,
    /// In the order in which they are to end.
    servers: Vec<Ticket>,
}

impl State {
    fn read(file: &PathBuf) -> Result<Option<Self>> {
        match fs::read(file) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).context("the demo's state file is damaged: delete it")?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
        }
    }

    fn alive(&self) -> bool {
        self.servers.iter().any(Ticket::alive)
    }

    fn end(&self) {
        for server in &self.servers {
            server.end(Duration::from_secs(5));
        }
        // Gone already when somebody cleaned up the temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn state_file() -> Result<PathBuf> {
    Ok(Cache::open()?.root().join("demo.json"))
}

fn uses_own_cluster() -> bool {
    std::env::var(USE_CLUSTER).is_ok_and(|value| value == "1")
}

/// Ends when somebody presses Ctrl-C or asks the process to end.
async fn interrupted() -> anyhow::Error {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    anyhow!("interrupted; ending everything")
}

fn done(what: &str, since: Instant, note: impl std::fmt::Display) {
    line(format!("✓ {what:<28} {:>6.2} s   {note}", since.elapsed().as_secs_f64()));
}

fn line(text: impl std::fmt::Display) {
    print(format!("{text}\n"));
}

fn print(text: impl std::fmt::Display) {
    // A closed terminal is no reason to leave servers running.
    let mut out = std::io::stdout().lock();
    if write!(out, "{text}").and_then(|()| out.flush()).is_err() {
        progress::note("cannot write to standard output");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn crds_that_do_not_serve_what_the_demo_shows_are_found_out() {
        let crd = |served: [(&str, bool); 2]| {
            let versions = served.map(|(name, served)| json!({"name": name, "served": served}));
            json!({"spec": {"versions": versions}})
        };
        let ours = crd([("v1", true), ("v1beta1", true)]);
        let eso_2_9 = crd([("v1", true), ("v1beta1", false)]);
        assert_eq!(not_served(&ours, &eso_2_9), ["v1beta1"]);
        assert!(not_served(&ours, &ours).is_empty());
        assert!(not_served(&eso_2_9, &ours).is_empty());
        assert_eq!(not_served(&ours, &json!({})), ["v1", "v1beta1"]);
    }

    #[test]
    fn in_the_users_cluster_the_operator_serves_the_demo_alone() {
        let options = demo_alone();
        assert_eq!(options.args, ["--namespaces=keyferry-demo"]);
        assert_eq!(options.chart_values, ["scopedNamespaces={keyferry-demo}"]);
        // All that it shows must be in that namespace, or it would not be served.
        for object in documents(&fs::read_to_string(project_root().join(MANIFEST)).unwrap()).unwrap() {
            assert!(["SecretStore", "ExternalSecret"].contains(&object["kind"].as_str().unwrap()), "{object}");
            assert!(object.pointer("/metadata/namespace").is_none(), "{object}");
        }
    }
}
