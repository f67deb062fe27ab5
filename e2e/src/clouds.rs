//! Stand-ins for Google Cloud's Secret Manager and Azure's Key Vault with their logins, built in Go on the vendors' own server stubs
//! (`e2e/clouds`). Each is proven by its vendor's official client: see [`Cloud::prove`].

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cache::{Cache, fingerprint};
use crate::certs::Authority;
use crate::controlplane::free_port;
use crate::process::{Launch, Service};
use crate::rundir::RunDir;
use crate::tools::go;
use crate::{http, progress, project_root};

/// The sources, by name.
const SOURCES: [(&str, &str); 8] = [
    ("go.mod", include_str!("../clouds/go.mod")),
    ("go.sum", include_str!("../clouds/go.sum")),
    ("main.go", include_str!("../clouds/main.go")),
    ("gcp.go", include_str!("../clouds/gcp.go")),
    ("gcp_rest.go", include_str!("../clouds/gcp_rest.go")),
    ("prove_gcp.go", include_str!("../clouds/prove_gcp.go")),
    ("azure.go", include_str!("../clouds/azure.go")),
    ("prove_azure.go", include_str!("../clouds/prove_azure.go")),
];

/// The project of all secrets that [`Cloud::put`] makes at Google.
pub const PROJECT: &str = "e2e-project";
/// The service account at Google that may be impersonated.
pub const ACCOUNT: &str = "reader@e2e-project.iam.gserviceaccount.com";

/// Which cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vendor {
    Google,
    Azure,
}

/// A running stand-in; it ends when it is dropped.
pub struct Cloud {
    vendor: Vendor,
    url: String,
    control: String,
    ca: PathBuf,
    binary: PathBuf,
    _service: Service,
    _dir: Arc<RunDir>,
}

/// A request that arrived.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Method, path and query.
    pub line: String,
    /// What the caller says it is.
    pub user_agent: String,
    /// The status of the answer.
    pub status: u16,
}

/// The program, built if no earlier run did.
///
/// # Errors
/// When Go is missing or the build fails.
fn binary() -> Result<PathBuf> {
    let parts: Vec<&str> = SOURCES.iter().flat_map(|(name, text)| [*name, *text]).collect();
    let dir = Cache::open()?.entry(&format!("clouds-{}", fingerprint(&parts)), |dir| {
        let mut build: Command = go()?;
        build.current_dir(project_root().join("e2e/clouds")).env("CGO_ENABLED", "0");
        build.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(dir.join("clouds")).arg(".");
        progress::run(
            "building the stand-ins for Google Cloud and Azure (once; about a minute)",
            &mut build,
            &dir.join("build.log"),
        )
    })?;
    Ok(dir.join("clouds"))
}

impl Cloud {
    /// Google Cloud.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn google(dir: Arc<RunDir>) -> Result<Self> {
        Self::start(Vendor::Google, dir, "").await
    }

    /// Azure: a vault, and Entra ID at the same address. `resource`: what the vault's challenge says that tokens are for; empty: itself.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn azure(dir: Arc<RunDir>, resource: &str) -> Result<Self> {
        Self::start(Vendor::Azure, dir, resource).await
    }

    async fn start(vendor: Vendor, dir: Arc<RunDir>, resource: &str) -> Result<Self> {
        let binary = tokio::task::spawn_blocking(binary).await??;
        let (listen, control) = (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let (command, scheme) = match vendor {
            Vendor::Google => ("gcp", "http"),
            Vendor::Azure => ("azure", "https"),
        };
        let name = format!("cloud-{}", listen.replace(':', "-"));
        let authority = Authority::new()?;
        let pair = authority.server("cloud", &["127.0.0.1"])?;
        let ca = dir.write(&format!("{name}-ca.pem"), &authority.pair().cert)?;
        let cert = dir.write(&format!("{name}.pem"), pair.cert)?;
        let key = dir.write(&format!("{name}.key"), pair.key)?;
        let file = |path: &PathBuf| path.display().to_string();
        let launch = Launch::new(&binary)
            .args([command, "-listen", listen.as_str(), "-control", control.as_str(), "-resource", resource])
            .args(["-cert".to_owned(), file(&cert), "-key".to_owned(), file(&key)]);
        let mut service = dir.start(&name, &launch)?;
        let control = format!("http://{control}");
        let ready = format!("{control}/ready");
        service.ready(Duration::from_secs(30), async || http::is_ok(&ready).await).await?;
        Ok(Self { vendor, url: format!("{scheme}://{listen}"), control, ca, binary, _service: service, _dir: dir })
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Variables that lead an operator here.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        match self.vendor {
            Vendor::Google => ["GCP_SECRETMANAGER_ENDPOINT", "GCP_STS_ENDPOINT", "GCP_IAMCREDENTIALS_ENDPOINT"]
                .map(|name| (name, self.url.clone()))
                .into(),
            // The system's trust anchors are one for the test.
            Vendor::Azure => vec![("SSL_CERT_FILE", self.ca.display().to_string())],
        }
    }

    /// Has the vendor's official client do to it what it does to the real one.
    ///
    /// # Errors
    /// When something comes out differently; the error says what.
    pub async fn prove(&self) -> Result<()> {
        let command = match self.vendor {
            Vendor::Google => "prove-gcp",
            Vendor::Azure => "prove-azure",
        };
        let mut run = tokio::process::Command::new(&self.binary);
        run.args([command, "-url", &self.url, "-control", &self.control, "-ca"]).arg(&self.ca).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), run.output()).await.context("the client hangs")??;
        if !output.status.success() {
            bail!("{command}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    async fn ask(&self, request: Request<Full<Bytes>>) -> Result<Option<Bytes>> {
        let what = request.uri().path().to_owned();
        match http::send(request).await? {
            (status, body) if status.is_success() => Ok(Some(body)),
            (status, _) if status == hyper::StatusCode::NOT_FOUND => Ok(None),
            (status, body) => bail!("{what}: {status} {}", String::from_utf8_lossy(&body)),
        }
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let request = Request::get(format!("{}{path}", self.control)).body(Full::default())?;
        Ok(match self.ask(request).await? {
            Some(body) => serde_json::from_slice(&body)?,
            None => Value::Null,
        })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<()> {
        let request = Request::post(format!("{}{path}", self.control)).body(Full::from(body.to_string()))?;
        self.ask(request).await.map(drop)
    }

    /// Makes a secret with tags, or a new version of it.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn put(&self, name: &str, value: &str, tags: &Value) -> Result<()> {
        self.post("/put", &json!({"name": name, "value": value, "tags": tags})).await
    }

    /// `value`, `tags`, `versions` and `detail` of a secret as it is now; null where there is none.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn look(&self, name: &str) -> Result<Value> {
        self.get(&format!("/secret?name={name}")).await
    }

    /// Disables the newest version of a secret.
    ///
    /// # Errors
    /// When there is none.
    pub async fn disable(&self, name: &str) -> Result<()> {
        self.post(&format!("/disable?name={name}"), &Value::Null).await
    }

    /// Has it answer all but logins with `denied`, `throttled` (to wait for some seconds) or `broken`; empty: no more.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn fault(&self, kind: &str, wait: u32) -> Result<()> {
        self.post(&format!("/fault?kind={kind}&wait={wait}"), &Value::Null).await
    }

    /// A login that it takes: a service account's key at Google, `tenant`, `client` and `secret` at Azure.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn login(&self) -> Result<Value> {
        self.get("/login").await
    }

    /// What it was asked so far.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn seen(&self) -> Result<Vec<Seen>> {
        Ok(serde_json::from_value(self.get("/seen").await?)?)
    }

    /// How many requests so far begin with `start`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn count(&self, start: &str) -> Result<usize> {
        Ok(self.seen().await?.iter().filter(|seen| seen.line.starts_with(start)).count())
    }
}
