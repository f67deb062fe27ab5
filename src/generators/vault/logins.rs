//! Logins to Vault that generators share: one is made for many values, and what was lent with it ends with its token. So it is kept,
//! and looked after, for as long as values are made or renewed with it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::generators::GenerateCx;
use crate::providers::vault::{Retries, Vault, VaultClient};
use crate::providers::{ConnectCx, ProviderError, UsedReferences};

/// A login that nobody used for so long is forgotten. What was lent with it and is still in use was to be renewed before.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// Logins, by what they are made from.
#[derive(Default)]
pub struct Logins(Mutex<HashMap<String, Slot>>);

struct Slot {
    login: Arc<OnceCell<Arc<Login>>>,
    used: Instant,
}

/// A login that is looked after.
pub(super) struct Login {
    pub client: Arc<VaultClient>,
    /// What it was made with.
    used: UsedReferences,
    tending: AbortHandle,
}

impl Drop for Login {
    fn drop(&mut self) {
        self.tending.abort();
    }
}

impl Logins {
    /// The login of a namespace to a server, and whether it was made just now. One that was made with what is other by now, or
    /// gone, is left to end by itself: what was lent with it is still in use.
    pub(super) async fn log_in(
        &self,
        vault: &Vault,
        retries: Retries,
        cx: &GenerateCx,
    ) -> Result<(Arc<Login>, bool), ProviderError> {
        let (login, fresh) = self.held(vault, retries, cx).await?;
        if fresh || cx.connect.is_unchanged(&login.used).await {
            return Ok((login, fresh));
        }
        self.forget(&login);
        self.held(vault, retries, cx).await
    }

    async fn held(&self, vault: &Vault, retries: Retries, cx: &GenerateCx) -> Result<(Arc<Login>, bool), ProviderError> {
        let cell = self.cell(&key(vault, retries, cx));
        let mut fresh = false;
        let login = cell
            .get_or_try_init(async || {
                fresh = true;
                let connect = ConnectCx { used: UsedReferences::default(), ..cx.connect.clone() };
                let client = Arc::new(VaultClient::login(vault, "spec.provider", retries, &connect).await?);
                let tended = client.clone();
                let tending = tokio::spawn(async move { tended.tend().await }).abort_handle();
                Ok::<_, ProviderError>(Arc::new(Login { client, used: connect.used, tending }))
            })
            .await?;
        Ok((login.clone(), fresh))
    }

    /// The login is of no use any more.
    pub(super) fn forget(&self, login: &Arc<Login>) {
        self.lock().retain(|_, slot| !slot.login.get().is_some_and(|held| Arc::ptr_eq(held, login)));
    }

    fn cell(&self, key: &str) -> Arc<OnceCell<Arc<Login>>> {
        let (mut slots, now) = (self.lock(), Instant::now());
        slots.retain(|_, slot| now.duration_since(slot.used) < IDLE);
        let slot = slots.entry(key.to_owned()).or_insert_with(|| Slot { login: Arc::default(), used: now });
        slot.used = now;
        slot.login.clone()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(vault: &Vault, retries: Retries, cx: &GenerateCx) -> String {
    let vault = serde_json::to_string(vault).unwrap_or_default();
    format!("{}/{}/{:?}/{vault}", cx.connect.namespace, retries.count, retries.pause)
}
