//! A throw-away Kubernetes control plane: etcd, kube-apiserver with RBAC, kube-controller-manager; no nodes.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::certs::{Authority, token_keys};
use crate::cluster::{Cluster, User, cluster_entry, kubeconfig};
use crate::http;
use crate::process::{Launch, Service};
use crate::rundir::RunDir;
use crate::tools::Tools;

/// The issuer of ServiceAccount tokens.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// A busy machine needs longer than the 6 to 10 seconds that all takes on a quiet one.
const READY: Duration = Duration::from_secs(120);
const SERVICE_RANGE: &str = "10.96.0.0/16";

/// How a control plane is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Whether every request is written down: see [`ControlPlane::requests_since`].
    pub audit: bool,
}

/// A running control plane.
pub struct ControlPlane {
    cluster: Cluster,
    tools: Tools,
    apiserver_launch: Launch,
    // Servers end in this order, and the folder goes last.
    controller_manager: Mutex<Option<Service>>,
    apiserver: Mutex<Option<Service>>,
    etcd: Service,
    dir: Arc<RunDir>,
}

impl ControlPlane {
    /// Starts etcd and kube-apiserver and waits until they are ready. Install CRDs now: the garbage collector of
    /// [`ControlPlane::start_controllers`] looks for new kinds only every 30 seconds.
    ///
    /// # Errors
    /// When a server does not come up; the error holds the end of its log.
    pub async fn start(dir: Arc<RunDir>, tools: &Tools, options: Options) -> Result<Self> {
        let ports = Ports { etcd: free_port()?, etcd_peers: free_port()?, apiserver: free_port()? };
        let files = Files::write(&dir, ports.apiserver)?;
        let mut etcd = dir.start("etcd", &etcd_launch(tools, &dir, &ports))?;
        let health = format!("http://127.0.0.1:{}/health", ports.etcd);
        etcd.ready(READY, async || http::is_ok(&health).await).await?;

        let mut apiserver_launch = apiserver_launch(tools, &files, &ports);
        if options.audit {
            let policy = dir.write("audit-policy.yaml", AUDIT_POLICY)?;
            apiserver_launch =
                apiserver_launch.args([flag("audit-policy-file", &policy), flag("audit-log-path", &audit_log(&dir))]);
        }
        let cluster = Cluster::new(&files.admin, tools.kubectl(), dir.path()).await?;
        let plane = Self {
            cluster,
            tools: tools.clone(),
            apiserver_launch,
            controller_manager: Mutex::default(),
            apiserver: Mutex::default(),
            etcd,
            dir,
        };
        plane.start_apiserver().await?;
        Ok(plane)
    }

    /// Starts kube-controller-manager, and waits until it has done its first work in the namespace `default`.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_controllers(&self) -> Result<()> {
        let launch = controller_manager_launch(&self.tools, self.dir.path());
        let mut service = self.dir.start("kube-controller-manager", &launch)?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.cluster.client.clone(), "default");
        let maps: Api<ConfigMap> = Api::namespaced(self.cluster.client.clone(), "default");
        let done = async || accounts.get("default").await.is_ok() && maps.get("kube-root-ca.crt").await.is_ok();
        service.ready(READY, done).await?;
        *self.controller_manager.lock().await = Some(service);
        Ok(())
    }

    /// The administrator's way in.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The servers, for those who end them later.
    pub async fn services(&self) -> Vec<crate::process::Ticket> {
        let (controllers, apiserver) = (self.controller_manager.lock().await, self.apiserver.lock().await);
        let all = [controllers.as_ref(), apiserver.as_ref(), Some(&self.etcd)];
        all.into_iter().flatten().filter_map(|service| service.ticket().ok()).collect()
    }

    /// Kills kube-apiserver: connections break as they do in a crash.
    pub async fn kill_apiserver(&self) {
        self.apiserver.lock().await.take();
    }

    /// Starts kube-apiserver, on the same port, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start_apiserver(&self) -> Result<()> {
        let mut service = self.dir.start("kube-apiserver", &self.apiserver_launch)?;
        let client = &self.cluster.client;
        let ready = async || {
            let Ok(request) = hyper::Request::get("/readyz").body(Vec::new()) else { return false };
            client.request_text(request).await.is_ok()
        };
        service.ready(READY, ready).await?;
        *self.apiserver.lock().await = Some(service);
        Ok(())
    }

    /// Kills kube-apiserver and starts it again.
    ///
    /// # Errors
    /// When it does not come up again.
    pub async fn restart_apiserver(&self) -> Result<()> {
        self.kill_apiserver().await;
        self.start_apiserver().await
    }

    /// Where the audit log ends now: the start for [`ControlPlane::requests_since`].
    ///
    /// # Errors
    /// When the control plane was started without [`Options::audit`].
    pub fn audit_mark(&self) -> Result<u64> {
        let path = audit_log(&self.dir);
        let meta = std::fs::metadata(path).context("no audit log: start the control plane with Options { audit: true }")?;
        Ok(meta.len())
    }

    /// How many requests of each sort the API server has answered since `mark`. A watch counts when it is opened.
    ///
    /// # Errors
    /// When the control plane was started without [`Options::audit`].
    pub fn requests_since(&self, mark: u64) -> Result<BTreeMap<Request, u64>> {
        Ok(count(&self.audited_since(mark)?))
    }

    /// The requests that the API server has answered since `mark`, one by one.
    ///
    /// # Errors
    /// When the control plane was started without [`Options::audit`].
    pub fn audited_since(&self, mark: u64) -> Result<Vec<Audited>> {
        let log = std::fs::read(audit_log(&self.dir)).context("no audit log")?;
        let from = usize::try_from(mark)?;
        Ok(audited(log.get(from..).unwrap_or_default()))
    }
}

/// One request to the API server that it has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audited {
    /// What sort of request it was.
    pub request: Request,
    /// Id of the token that it came with. Each operator has a token of its own.
    pub credential: String,
    /// Namespace of the object, if any.
    pub namespace: String,
    /// Name of the object, if the request named one.
    pub name: String,
    /// When it came in.
    pub at: Timestamp,
    /// HTTP status of the answer.
    pub code: u16,
    /// Kind of the answer, where the log has it: for lists of Secrets.
    pub answer: String,
}

/// One sort of request to the API server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// Who asked: the user name.
    pub user: String,
    /// The program that asked, as it calls itself.
    pub user_agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// The plural of the kind, and after a slash the subresource.
    pub resource: String,
}

/// The part of an audit event that we read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditEvent {
    stage: String,
    verb: String,
    #[serde(default)]
    user_agent: String,
    user: AuditUser,
    object_ref: Option<AuditObject>,
    #[serde(default)]
    response_status: AuditStatus,
    #[serde(default)]
    response_object: AuditAnswer,
    request_received_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct AuditUser {
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuditObject {
    resource: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize, Default)]
struct AuditStatus {
    #[serde(default)]
    code: u16,
}

#[derive(Deserialize, Default)]
struct AuditAnswer {
    #[serde(default)]
    kind: String,
}

/// Every request once when it is answered, and watches also when they open. No contents, but for lists of Secrets: their
/// answers show whether metadata was asked for, or all.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: RequestResponse, verbs: [list], resources: [{group: "", resources: [secrets]}]}
- {level: Metadata}
"#;

/// The audit event's name for the id of a token.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

fn audit_log(dir: &RunDir) -> PathBuf {
    dir.path().join("log/audit.json")
}

fn audited(log: &[u8]) -> Vec<Audited> {
    // The last line may be half written.
    let events = log.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice::<AuditEvent>(line).ok());
    events
        .filter_map(|event| {
            let stage = if event.verb == "watch" { "ResponseStarted" } else { "ResponseComplete" };
            let object = event.object_ref.filter(|_| event.stage == stage)?;
            let mut resource = object.resource.unwrap_or_default();
            if let Some(subresource) = object.subresource {
                resource = format!("{resource}/{subresource}");
            }
            let user = event.user.username;
            Some(Audited {
                request: Request { user, user_agent: event.user_agent, verb: event.verb, resource },
                credential: event.user.extra.get(CREDENTIAL).and_then(|ids| ids.first()).cloned().unwrap_or_default(),
                namespace: object.namespace.unwrap_or_default(),
                name: object.name.unwrap_or_default(),
                at: event.request_received_timestamp,
                code: event.response_status.code,
                answer: event.response_object.kind,
            })
        })
        .collect()
}

fn count(requests: &[Audited]) -> BTreeMap<Request, u64> {
    let mut counts = BTreeMap::new();
    for audited in requests {
        *counts.entry(audited.request.clone()).or_default() += 1;
    }
    counts
}

struct Ports {
    etcd: u16,
    etcd_peers: u16,
    apiserver: u16,
}

/// A port that nobody uses now. It lies below the range from which the kernel takes ports for outgoing connections, so
/// that it stays free while a server restarts.
///
/// # Errors
/// When none is found.
pub fn free_port() -> Result<u16> {
    let random = std::hash::RandomState::new();
    (0..1000_u64)
        .map(|attempt| {
            let mut hash = random.build_hasher();
            hash.write_u64(attempt);
            u16::try_from(hash.finish() % 12_000).unwrap_or_default() + 20_000
        })
        .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        .ok_or_else(|| anyhow!("no free port on 127.0.0.1"))
}

/// Certificates and kubeconfigs, by path.
struct Files {
    pki: PathBuf,
    admin: PathBuf,
}

impl Files {
    fn write(dir: &RunDir, port: u16) -> Result<Self> {
        let authority = Authority::new()?;
        let (token_key, token_public) = token_keys()?;
        let names = ["127.0.0.1", "10.96.0.1", "localhost", "kubernetes.default.svc", "kubernetes.default"];
        let server = authority.server("kube-apiserver", &names)?;
        let ca = authority.pair();
        for (name, content) in [
            ("ca.crt", &ca.cert),
            ("ca.key", &ca.key),
            ("apiserver.crt", &server.cert),
            ("apiserver.key", &server.key),
            ("tokens.key", &token_key),
            ("tokens.pub", &token_public),
        ] {
            dir.write(name, content)?;
        }
        let entry = cluster_entry(&format!("https://127.0.0.1:{port}"), &ca.cert);
        let config = |file: &str, user: &str, group: Option<&str>| {
            let pair = authority.client(user, group)?;
            dir.write(file, kubeconfig(&entry, &User::Certificate(&pair), "default"))
        };
        let admin = config("admin.kubeconfig", "admin", Some("system:masters"))?;
        config("controller-manager.kubeconfig", "system:kube-controller-manager", None)?;
        Ok(Self { pki: dir.path().to_path_buf(), admin })
    }
}

fn flag(name: &str, value: &Path) -> String {
    format!("--{name}={}", value.display())
}

fn etcd_launch(tools: &Tools, dir: &RunDir, ports: &Ports) -> Launch {
    let (clients, peers) = (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.etcd_peers));
    Launch::new(tools.control_plane.join("etcd")).args([
        "--name=e2e".to_owned(),
        flag("data-dir", &dir.path().join("etcd")),
        // The data need not outlive the machine.
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=e2e={peers}"),
        "--log-level=warn".to_owned(),
    ])
}

fn apiserver_launch(tools: &Tools, files: &Files, ports: &Ports) -> Launch {
    let file = |name: &str, file: &str| flag(name, &files.pki.join(file));
    Launch::new(tools.control_plane.join("kube-apiserver")).args([
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.apiserver),
        file("tls-cert-file", "apiserver.crt"),
        file("tls-private-key-file", "apiserver.key"),
        file("client-ca-file", "ca.crt"),
        "--authorization-mode=RBAC".to_owned(),
        format!("--service-account-issuer={ISSUER}"),
        file("service-account-key-file", "tokens.pub"),
        file("service-account-signing-key-file", "tokens.key"),
        format!("--service-cluster-ip-range={SERVICE_RANGE}"),
        // There are no other API servers to agree with, and a loopback address would be refused.
        "--endpoint-reconciler-type=none".to_owned(),
        "--profiling=false".to_owned(),
    ])
}

fn controller_manager_launch(tools: &Tools, dir: &Path) -> Launch {
    let file = |name: &str, file: &str| flag(name, &dir.join(file));
    Launch::new(tools.control_plane.join("kube-controller-manager")).args([
        file("kubeconfig", "controller-manager.kubeconfig"),
        // It serves nothing that we need.
        "--secure-port=0".to_owned(),
        "--use-service-account-credentials=true".to_owned(),
        file("service-account-private-key-file", "tokens.key"),
        file("root-ca-file", "ca.crt"),
        "--leader-elect=false".to_owned(),
        "--kube-api-qps=500".to_owned(),
        "--kube-api-burst=1000".to_owned(),
        "--profiling=false".to_owned(),
    ])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn counts_each_request_once() {
        let line = |stage: &str, verb: &str, more: &str| {
            format!(
                r#"{{"stage":"{stage}","verb":"{verb}","userAgent":"k/1","requestReceivedTimestamp":"2026-01-01T00:00:00.250000Z",
                "user":{{"username":"op","extra":{{"{CREDENTIAL}":["JTI=1"]}}}},{more}}}"#
            )
            .replace('\n', "")
        };
        let secrets = r#""objectRef":{"resource":"secrets","namespace":"a","name":"x"},"responseStatus":{"code":200}"#;
        let status = r#""objectRef":{"resource":"externalsecrets","subresource":"status"}"#;
        let log = [
            line("ResponseComplete", "get", secrets),
            line("ResponseComplete", "get", secrets),
            line("ResponseStarted", "watch", secrets),
            line("ResponseComplete", "watch", secrets),
            line("ResponseComplete", "patch", status),
            line("ResponseComplete", "get", r#""objectRef":null"#),
            r#"{"stage":"ResponseComp"#.to_owned(),
        ]
        .join("\n");
        let all = audited(log.as_bytes());
        let counts: Vec<_> = count(&all).into_iter().map(|(request, n)| (request.verb, request.resource, n)).collect();
        let expected = [("get", "secrets", 2), ("patch", "externalsecrets/status", 1), ("watch", "secrets", 1)];
        assert_eq!(counts, expected.map(|(verb, resource, n)| (verb.to_owned(), resource.to_owned(), n)));
        let first = &all[0];
        assert_eq!((first.namespace.as_str(), first.name.as_str(), first.code), ("a", "x", 200));
        assert_eq!((first.credential.as_str(), first.at.subsec_millisecond()), ("JTI=1", 250));
    }

    #[test]
    fn ports_are_below_the_ephemeral_range() {
        for _ in 0..50 {
            assert!((20_000..32_000).contains(&free_port().unwrap()));
        }
    }
}
