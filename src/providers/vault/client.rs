//! A client of Vault's HTTP API that is logged in, and stays so.

use std::time::Duration;

use http::Method;

use super::config::Vault;
use super::login::Login;
pub use super::login::TokenInUse;
use super::transport::{Failed, Transport};
use super::{Retries, answer};
use crate::providers::{CallCx, ConnectCx, ProviderError};
use crate::secret_bytes::SecretBytes;

/// A request.
pub struct Request {
    /// How: `GET`, `PUT`, `DELETE`.
    pub method: Method,
    /// Path in Vault, without `v1`.
    pub path: String,
    /// Query.
    pub query: Vec<(String, String)>,
    /// JSON that is written.
    pub body: Option<SecretBytes>,
    /// What the metrics call it.
    pub name: &'static str,
}

impl Request {
    /// A read.
    #[must_use]
    pub fn read(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), body: None, name: "ReadSecretData" }
    }

    /// A list.
    #[must_use]
    pub fn list(path: impl Into<String>) -> Self {
        Self { query: vec![("list".to_owned(), "true".to_owned())], name: "ListSecrets", ..Self::read(path) }
    }

    /// A write of a JSON object.
    #[must_use]
    pub fn write(path: impl Into<String>, body: SecretBytes) -> Self {
        Self { method: Method::PUT, body: Some(body), name: "WriteSecretData", ..Self::read(path) }
    }

    /// A deletion.
    #[must_use]
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, name: "DeleteSecret", ..Self::read(path) }
    }

    /// The same, with another name.
    #[must_use]
    pub(super) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }
}

/// A client that is logged in. It logs in again, or renews its token, when a request needs that; [`VaultClient::tend`] does so
/// before one does. Leases end with the token that they were made with: whoever holds one keeps the client, and tends it.
pub struct VaultClient {
    transport: Transport,
    login: Login,
}

impl VaultClient {
    /// Logs in. `path` is where the block stands in the object.
    ///
    /// # Errors
    /// `Misconfigured` where a reference is missing; `Denied` where Vault does not take the login.
    pub async fn login(vault: &Vault, path: &str, retries: Retries, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let transport = Transport::open(vault, path, retries, cx).await?;
        let login = Login::of(vault, path, cx).await?;
        login.token(&transport, &CallCx::default()).await?;
        Ok(Self { transport, login })
    }

    /// Runs a request, and tries again what the server failed. `None`: Vault has nothing to say, or nothing at that path. Where
    /// the token was revoked, it logs in once more.
    ///
    /// # Errors
    /// `Denied` where the login or its policies do not allow it, else what the status stands for.
    pub async fn request(&self, request: &Request, what: &str, cx: &CallCx) -> Result<Option<SecretBytes>, ProviderError> {
        let token = self.login.token(&self.transport, cx).await?;
        let failed = match self.run(token.as_ref(), request, what, cx).await {
            Err(failed) if failed.status == 403 => failed,
            result => return result.map_err(ProviderError::from),
        };
        let Some(refused) = token else { return Err(failed.error) };
        let Some(token) = self.login.after_refusal(&refused, &failed, &self.transport, cx).await? else {
            return Err(failed.error);
        };
        let again = self.run(Some(&token), request, what, cx).await;
        if again.as_ref().is_err_and(|again| again.status == 403 && !again.token_is_dead) && !failed.token_is_dead {
            self.login.cannot_look();
        }
        again.map_err(ProviderError::from)
    }

    async fn run(
        &self,
        token: Option<&SecretBytes>,
        request: &Request,
        what: &str,
        cx: &CallCx,
    ) -> Result<Option<SecretBytes>, Failed> {
        self.transport.run(self.transport.namespace(), token, request, what, cx).await
    }

    /// Asks Vault about the token itself, which not every policy allows.
    ///
    /// # Errors
    /// `Denied` where the token is none, or may not ask.
    pub(super) async fn look(&self, cx: &CallCx) -> Result<(), ProviderError> {
        let (request, what) = (Request::read("auth/token/lookup-self").named("LookupSelf"), "check of the token");
        let token = self.login.token(&self.transport, cx).await?;
        let body = match self.run(token.as_ref(), &request, what, cx).await {
            Err(failed) if failed.token_is_dead => self.request(&request, what, cx).await?,
            result => result?,
        };
        answer::Answer::of(body.as_ref(), what).map(|_| ())
    }

    /// Whether the token was made by a login of this client, and not given by the store.
    #[must_use]
    pub fn made_token(&self) -> bool {
        self.login.makes_tokens()
    }

    /// Does what keeps the token alive, whenever it is due. It ends never, or when the client logged out.
    pub async fn tend(&self) {
        self.login.tend(&self.transport).await;
    }

    /// The token that is in use, for a lease of that length: what is lent ends with the token that it was asked for with, so that
    /// is renewed now where it would end first.
    pub async fn lends(&self, lease: Duration, cx: &CallCx) -> TokenInUse {
        self.login.lends(lease, &self.transport, cx).await
    }

    /// Gives back the token that a login of this client made: its leases end with it. There is no way back.
    pub async fn log_out(&self) {
        self.login.log_out(&self.transport).await;
    }
}
