//! Moto, a second AWS emulator: Secrets Manager and Parameter Store as others have read their documents. It knows no IAM here.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;

use crate::aws::{ACCOUNT, Aws};
use crate::controlplane::free_port;
use crate::http;
use crate::process::{Launch, Service};
use crate::rundir::RunDir;
use crate::tools;

/// A running moto.
pub struct Moto {
    endpoint: String,
    _service: Service,
    _dir: Arc<RunDir>,
}

impl Moto {
    /// Starts it on a free port, empty, and waits until it is ready: about a second.
    ///
    /// # Errors
    /// When its Python packages cannot be had, or it does not come up.
    pub async fn start(dir: Arc<RunDir>) -> Result<Self> {
        let program = tokio::task::spawn_blocking(tools::moto).await??;
        let port = free_port()?.to_string();
        let launch = Launch::new(program).args(["-H", "127.0.0.1", "-p", port.as_str()]).env("MOTO_ACCOUNT_ID", ACCOUNT);
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut service = dir.start(&format!("moto-{port}"), &launch)?;
        let health = format!("{endpoint}/moto-api/data.json");
        service.ready(Duration::from_secs(60), async || http::is_ok(&health).await).await?;
        Ok(Self { endpoint, _service: service, _dir: dir })
    }

    /// The URL of all its services.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The services, as anybody: it checks no key.
    #[must_use]
    pub fn root(&self) -> Aws {
        Aws::with_key(&self.endpoint, "test", "test")
    }
}
