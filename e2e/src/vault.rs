//! HashiCorp's Vault, the real server: in memory, with an audit log that is the witness of what was asked.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::certs::{Authority, Pair};
use crate::controlplane::free_port;
use crate::http;
use crate::process::{Launch, Service};
use crate::rundir::RunDir;
use crate::tools::vault::find_or_make;

/// A running Vault, seen by its administrator. It listens twice: with TLS, and without.
pub struct Vault {
    url: String,
    tls_url: String,
    authority: Authority,
    root: String,
    key: String,
    audit: PathBuf,
    service: Service,
    _dir: Arc<RunDir>,
}

/// A refusal, as Vault words it.
#[derive(Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// What Vault says.
    pub errors: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault answers {}: {}", self.status, self.errors)
    }
}

impl std::error::Error for Refusal {}

impl Vault {
    /// Starts one, unsealed and empty: a third of a second, once the program is built.
    ///
    /// # Errors
    /// When the program cannot be built or does not come up.
    pub async fn start(dir: Arc<RunDir>) -> Result<Self> {
        let program = tokio::task::spawn_blocking(find_or_make).await??;
        let (port, tls_port) = (free_port()?, free_port()?);
        let name = format!("vault-{port}");
        let authority = Authority::new()?;
        let server = authority.server("vault", &["127.0.0.1", "localhost"])?;
        let certificate = dir.write(&format!("{name}.crt"), &server.cert)?;
        let key = dir.write(&format!("{name}.key"), &server.key)?;
        let config = format!(
            r#"
            storage "inmem" {{}}
            disable_mlock = true
            log_level = "warn"
            api_addr = "http://127.0.0.1:{port}"
            listener "tcp" {{
              address = "127.0.0.1:{port}"
              tls_disable = true
            }}
            listener "tcp" {{
              address = "127.0.0.1:{tls_port}"
              tls_cert_file = "{}"
              tls_key_file = "{}"
            }}
            "#,
            certificate.display(),
            key.display(),
        );
        let config = dir.write(&format!("{name}.hcl"), config)?;
        let launch = Launch::new(program).args(["server", "-config"]).args([&config]);
        let mut service = dir.start(&name, &launch)?;
        let url = format!("http://127.0.0.1:{port}");
        let health = format!("{url}/v1/sys/seal-status");
        service.ready(Duration::from_secs(60), async || http::is_ok(&health).await).await?;
        let audit = dir.path().join("log").join(format!("{name}-audit.json"));
        let tls_url = format!("https://127.0.0.1:{tls_port}");
        let mut vault = Self { url, tls_url, authority, root: String::new(), key: String::new(), audit, service, _dir: dir };
        vault.initialize().await?;
        Ok(vault)
    }

    async fn initialize(&mut self) -> Result<()> {
        let made = self.write("sys/init", json!({"secret_shares": 1, "secret_threshold": 1})).await?;
        let part = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        self.root = part("/root_token").context("Vault gives no root token")?;
        self.key = part("/keys/0").context("Vault gives no key")?;
        self.unseal().await?;
        let options = json!({"file_path": self.audit.display().to_string()});
        self.write("sys/audit/file", json!({"type": "file", "options": options})).await.map(drop)
    }

    /// Its URL, without TLS.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its URL, with TLS.
    #[must_use]
    pub fn tls_url(&self) -> &str {
        &self.tls_url
    }

    /// The certificate of the authority that its own one comes from, PEM.
    #[must_use]
    pub fn ca(&self) -> &str {
        &self.authority.pair().cert
    }

    /// A certificate of the same authority for a client.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn client_certificate(&self, name: &str) -> Result<Pair> {
        self.authority.client(name, None)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.service.pid()
    }

    /// Seals it: it answers nothing until it is unsealed.
    ///
    /// # Errors
    /// When Vault refuses.
    pub async fn seal(&self) -> Result<()> {
        self.write("sys/seal", json!({})).await.map(drop)
    }

    /// Unseals it, and waits until it answers.
    ///
    /// # Errors
    /// When Vault refuses.
    pub async fn unseal(&self) -> Result<()> {
        self.write("sys/unseal", json!({"key": self.key})).await?;
        for _ in 0..200 {
            if http::is_ok(&format!("{}/v1/sys/health", self.url)).await {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("Vault does not answer after it was unsealed")
    }

    /// Writes as the administrator; null where Vault has nothing to say.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn write(&self, path: &str, body: Value) -> Result<Value> {
        self.call(Method::PUT, path, Some(&body), &self.root).await
    }

    /// Reads as the administrator.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn read(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None, &self.root).await
    }

    /// Deletes as the administrator.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.call(Method::DELETE, path, None, &self.root).await.map(drop)
    }

    /// What is under a path, as the administrator; nothing where there is no such path.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn list(&self, path: &str) -> Result<Vec<String>> {
        match self.read(&format!("{path}?list=true")).await {
            Ok(answer) => Ok(serde_json::from_value(answer.pointer("/data/keys").cloned().unwrap_or_default())?),
            Err(error) if error.downcast_ref::<Refusal>().is_some_and(|r| r.status == StatusCode::NOT_FOUND) => {
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Mounts a secrets engine.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn mount(&self, path: &str, kind: &str, options: Value) -> Result<()> {
        self.write(&format!("sys/mounts/{path}"), json!({"type": kind, "options": options})).await.map(drop)
    }

    /// Enables a way to log in.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn enable_auth(&self, path: &str, kind: &str) -> Result<()> {
        self.write(&format!("sys/auth/{path}"), json!({"type": kind})).await.map(drop)
    }

    /// Sets a policy: paths, and what may be done there.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn policy(&self, name: &str, rules: &[(&str, &[&str])]) -> Result<()> {
        let rules: serde_json::Map<String, Value> =
            rules.iter().map(|(path, can)| ((*path).to_owned(), json!({"capabilities": can}))).collect();
        let policy = json!({"path": rules}).to_string();
        self.write(&format!("sys/policies/acl/{name}"), json!({"policy": policy})).await.map(drop)
    }

    /// A token with these policies, that lives as long as `ttl` says and is renewed for no longer than an hour.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn token(&self, policies: &[&str], ttl: &str) -> Result<String> {
        let body = json!({"policies": policies, "ttl": ttl, "explicit_max_ttl": "1h", "no_parent": true});
        let made = self.write("auth/token/create", body).await?;
        Ok(made.pointer("/auth/client_token").and_then(Value::as_str).context("no token")?.to_owned())
    }

    /// A role `app` of an AppRole that is enabled at `mount`, with these policies, whose tokens live as long as `ttl` says; returns
    /// `(role id, secret id)`.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn app_role(&self, mount: &str, policies: &[&str], ttl: &str) -> Result<(String, String)> {
        self.enable_auth(mount, "approle").await?;
        let role = format!("auth/{mount}/role/app");
        self.write(&role, json!({"token_policies": policies, "token_ttl": ttl, "token_max_ttl": "24h"})).await?;
        let id = self.read(&format!("{role}/role-id")).await?;
        let secret = self.write(&format!("{role}/secret-id"), json!({})).await?;
        let part = |value: &Value, field: &str| value.pointer(field).and_then(Value::as_str).map(str::to_owned);
        let id = part(&id, "/data/role_id").context("no role id")?;
        Ok((id, part(&secret, "/data/secret_id").context("no secret id")?))
    }

    /// Asks with a token.
    ///
    /// # Errors
    /// [`Refusal`], or no answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>, token: &str) -> Result<Value> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = Request::builder().method(method).uri(format!("{}/v1/{path}", self.url));
        if !token.is_empty() {
            request = request.header("x-vault-token", token);
        }
        let (status, answer) = http::send(request.body(Full::new(Bytes::from(body)))?).await?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        if !status.is_success() {
            let errors = answer.get("errors").unwrap_or(&answer).to_string();
            return Err(Refusal { status, errors }.into());
        }
        Ok(answer)
    }

    /// Where the audit log ends now: the start for [`Vault::asked_since`].
    ///
    /// # Errors
    /// When there is none.
    pub fn audit_mark(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.audit).context("no audit log of Vault")?.len())
    }

    /// What Vault has answered since `mark`, but for what its administrator asked.
    ///
    /// # Errors
    /// When there is no audit log.
    pub fn asked_since(&self, mark: u64) -> Result<Vec<Asked>> {
        let log = std::fs::read(&self.audit).context("no audit log of Vault")?;
        let from = usize::try_from(mark)?;
        let lines = log.get(from..).unwrap_or_default().split(|&byte| byte == b'\n');
        // The last line may be half written.
        let all = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
        let answered = all.filter(|line| line.kind == "response" && !line.auth.policies.iter().any(|p| p == "root"));
        Ok(answered.map(Asked::of).collect())
    }

    /// The audit log, as it is.
    ///
    /// # Errors
    /// When there is none.
    pub fn audit_log(&self) -> Result<String> {
        let log = std::fs::read_to_string(&self.audit)?;
        ensure!(!log.is_empty(), "the audit log of Vault is empty");
        Ok(log)
    }
}

/// One request that Vault has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Vault's id of it.
    pub id: String,
    /// `read`, `update`, `list`, …
    pub operation: String,
    /// Its path.
    pub path: String,
    /// The login's name.
    pub who: String,
    /// Why it was refused; empty where it was not.
    pub error: String,
}

impl Asked {
    fn of(line: Line) -> Self {
        let Line { auth, request, error, .. } = line;
        Self { id: request.id, operation: request.operation, path: request.path, who: auth.display_name, error }
    }

    /// Whether somebody logged in by it.
    #[must_use]
    pub fn is_login(&self) -> bool {
        self.path.starts_with("auth/") && self.path.split('/').any(|step| step == "login")
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    auth: LineAuth,
    request: LineRequest,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize, Default)]
struct LineAuth {
    #[serde(default)]
    display_name: String,
    #[serde(default)]
    policies: Vec<String>,
}

#[derive(Deserialize)]
struct LineRequest {
    id: String,
    operation: String,
    #[serde(default)]
    path: String,
}
