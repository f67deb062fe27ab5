//! The AWS emulator: Secrets Manager, Parameter Store, STS, IAM, KMS and ECR, with IAM's decisions on.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::aws::{ACCOUNT, Aws, REGION};
use crate::controlplane::free_port;
use crate::http;
use crate::process::{Launch, Service, Ticket};
use crate::rundir::RunDir;
use crate::tools::Tools;

/// A running emulator.
pub struct Ministack {
    endpoint: String,
    service: Service,
    _dir: Arc<RunDir>,
}

impl Ministack {
    /// Starts it on a free port and waits until it is ready: about half a second.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(dir: Arc<RunDir>, tools: &Tools) -> Result<Self> {
        let port = free_port()?;
        let state = dir.path().join("ministack");
        std::fs::create_dir_all(&state)?;
        let state = state.display().to_string();
        let launch = Launch::new(tools.ministack())
            .env("AUTH", "true")
            // By default it listens on all addresses.
            .env("BIND_HOST", "127.0.0.1")
            .env("GATEWAY_PORT", port.to_string())
            .env("SERVICES", "secretsmanager,ssm,sts,iam,kms,ecr")
            .env("MINISTACK_REGION", REGION)
            .env("MINISTACK_ACCOUNT_ID", ACCOUNT)
            .env("STATE_DIR", state.as_str())
            .env("TMPDIR", state.as_str())
            .env("LOG_LEVEL", "WARNING");
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut service = dir.start("ministack", &launch)?;
        let health = format!("{endpoint}/_ministack/health");
        service.ready(Duration::from_secs(60), async || http::is_ok(&health).await).await?;
        Ok(Self { endpoint, service, _dir: dir })
    }

    /// The URL of all its services.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The services, as the account's root.
    #[must_use]
    pub fn root(&self) -> Aws {
        Aws::with_key(&self.endpoint, "test", "test")
    }

    /// The server, for who ends it later.
    ///
    /// # Errors
    /// When it is gone.
    pub fn ticket(&self) -> Result<Ticket> {
        self.service.ticket()
    }
}
