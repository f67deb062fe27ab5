//! What Vault lent to a session. Read again it is the same, for as long as its lease can be renewed; then Vault is asked for another.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::answer::Lease;
use super::client::{Request, TokenInUse, VaultClient};
use crate::plan::lease::{self, Granted};
use crate::providers::{CallCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// How long credentials that are replaced hold at least, where their lease is long enough: whoever uses them has time to move.
const GRACE: Duration = Duration::from_secs(120);

/// What is lent, by the path that it was read from.
#[derive(Default)]
pub(super) struct Lent(Mutex<State>);

#[derive(Default)]
struct State {
    held: HashMap<String, Held>,
    /// When the last of all that was ever lent ends.
    until: Option<Timestamp>,
}

#[derive(Clone)]
struct Held {
    id: String,
    body: SecretBytes,
    token: String,
    lease: lease::Lease,
}

impl Lent {
    /// What was lent when that path was read, if it holds for long enough: its lease is renewed, or (where that cannot be) looked at.
    ///
    /// # Errors
    /// Vault does not answer.
    pub async fn again(&self, client: &VaultClient, path: &str, cx: &CallCx) -> Result<Option<SecretBytes>, ProviderError> {
        let Some(held) = self.lock().held.get(path).cloned() else { return Ok(None) };
        let lease = match held.renewed(client, cx).await {
            Ok(lease) => lease,
            // that is how Vault says that it does not know a lease
            Err(error) if matches!(error.kind, ErrorKind::Misconfigured | ErrorKind::NotFound) => None,
            // the token may not renew: what is lent holds until its end
            Err(error) if error.kind == ErrorKind::Denied => Some(lease::Lease { renewable: false, ..held.lease.clone() }),
            Err(error) => return Err(error),
        };
        let lease = lease.filter(|lease| Timestamp::now() < lease.act_at());
        let mut state = self.lock();
        match (lease, state.held.get_mut(path).filter(|now| now.id == held.id)) {
            (Some(lease), Some(now)) => {
                now.lease = lease.clone();
                state.until = state.until.max(Some(lease.ends.0));
                Ok(Some(held.body))
            }
            (_, Some(_)) => {
                state.held.remove(path);
                Ok(None)
            }
            // another reader was faster
            (_, None) => Ok(state.held.get(path).map(|now| now.body.clone())),
        }
    }

    /// Something was lent.
    pub fn note(&self, path: &str, lease: &Lease, body: &SecretBytes, token: &TokenInUse) {
        let granted = Granted { life: token.bounds(lease.duration), renewable: lease.renewable };
        let noted = lease::Lease::new(granted, GRACE, Timestamp::now());
        let mut state = self.lock();
        if state.held.get(path).is_some_and(|held| held.id == lease.id) {
            return;
        }
        state.until = state.until.max(Some(noted.ends.0));
        // nobody may ever read again what was lent for a path that is not in use any more
        state.held.retain(|_, held| held.lease.ends.0 > Timestamp::now());
        let held = Held { id: lease.id.clone(), body: body.clone(), token: token.id.clone(), lease: noted };
        state.held.insert(path.to_owned(), held);
    }

    /// Until when what was read from that path may be used before it is read again.
    pub fn holds_until(&self, path: &str) -> Option<Instant> {
        let left = self.lock().held.get(path)?.lease.act_at().duration_since(Timestamp::now());
        Some(Instant::now() + Duration::try_from(left).unwrap_or_default())
    }

    /// Whether something is lent still: it would end with the token.
    pub fn is_in_use(&self) -> bool {
        self.lock().until.is_some_and(|at| at > Timestamp::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// The lease as Vault knows it now; `None`: it does not, or has nothing to say of it.
    async fn renewed(&self, client: &VaultClient, cx: &CallCx) -> Result<Option<lease::Lease>, ProviderError> {
        let reference = SecretBytes::from(json!({ "lease_id": self.id }).to_string());
        if !self.lease.renewable {
            let look = Request::write("sys/leases/lookup", reference).named("LookupLease");
            let found = client.request(&look, "look at a lease of Vault", cx).await?;
            return Ok(found.map(|_| self.lease.clone()));
        }
        let asked = Timestamp::now();
        let renew = Request::write("sys/leases/renew", reference).named("RenewLease");
        let Some(body) = client.request(&renew, "renewal of a lease of Vault", cx).await? else { return Ok(None) };
        let Some(renewed) = Lease::of(&body) else { return Ok(None) };
        let token = client.lends(renewed.duration, cx).await;
        if token.id != self.token {
            // the token that it was made with is not looked after any more
            return Ok(Some(lease::Lease { renewable: false, ..self.lease.clone() }));
        }
        let granted = Granted { life: token.bounds(renewed.duration), renewable: renewed.renewable };
        Ok(Some(self.lease.renewed(granted, asked)))
    }
}
