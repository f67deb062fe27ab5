//! What providers share whose services speak JSON over HTTP and ask for a token.

use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::retries::is_worth_another;
use super::{CallCx, ConnectCx, ErrorKind, ProviderError, Retries};
use crate::api::refs::CaProvider;
use crate::api::secret_store::StoreKind;
use crate::outbound::{Answer, Call, HttpClient, TlsOptions};
use crate::render::json;
use crate::secret_bytes::SecretBytes;

/// A token is replaced so long before its end, or a fifth of its life before it where that is less.
const EARLY: Duration = Duration::from_secs(60);

/// A token that a service gave.
pub struct Granted {
    /// The token.
    pub token: SecretBytes,
    /// How long it holds; `None`: nobody said, or for good.
    pub life: Option<Duration>,
}

/// How a provider gets its token.
#[async_trait]
pub trait Login: Send + Sync {
    /// Logs in.
    ///
    /// # Errors
    /// `Misconfigured` where an object or key is missing, else what the service said.
    async fn login(&self) -> Result<Granted, ProviderError>;

    /// How long before its end a token of that life is replaced.
    fn early(&self, life: Duration) -> Duration {
        (life / 5).min(EARLY)
    }

    /// Whether an answer says that the token holds no longer, so that a new one may help.
    fn is_stale(&self, answer: &Answer) -> bool {
        answer.status == StatusCode::UNAUTHORIZED
    }
}

struct Held {
    token: SecretBytes,
    renew_at: Option<Instant>,
    ends_at: Option<Instant>,
}

impl Held {
    fn new(granted: Granted, login: &dyn Login, now: Instant) -> Self {
        let at = |early: Duration| granted.life.and_then(|life| now.checked_add(life.saturating_sub(early)));
        let early = granted.life.map_or(EARLY, |life| login.early(life));
        Self { renew_at: at(early), ends_at: at(Duration::ZERO), token: granted.token }
    }
}

/// A login that was refused is not tried again for so long, and so long the refusal of a token that was just made stands: else each
/// read is a login where the service takes none.
const REFUSED: Duration = Duration::from_secs(5);

/// How long a login may take while the token before it holds: those who wait for it have deadlines of their own.
const WHILE_HELD: Duration = Duration::from_secs(5);

fn hangs() -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, "the login did not end in time")
}

/// The token of a session: one for all its calls, replaced before it ends.
#[derive(Default)]
pub struct Tokens(Mutex<State>);

#[derive(Default)]
struct State {
    held: Option<Held>,
    /// When a token that was refused was last given up.
    replaced: Option<Instant>,
    /// Why the last login was refused, and until when that is the answer.
    refused: Option<(ProviderError, Instant)>,
}

impl Tokens {
    /// The token; logs in where there is none, or one that will soon end.
    ///
    /// # Errors
    /// Those of the login. A token that still holds outlives a service that cannot give another one.
    pub async fn get(&self, login: &dyn Login) -> Result<SecretBytes, ProviderError> {
        let mut state = self.0.lock().await;
        let now = Instant::now();
        let before = |at: Option<Instant>| at.is_none_or(|at| now < at);
        if let Some(held) = state.held.as_ref().filter(|held| before(held.renew_at)) {
            return Ok(held.token.clone());
        }
        if let Some((error, _)) = state.refused.as_ref().filter(|(_, until)| now < *until) {
            return Err(error.clone());
        }
        let may_wait = state.held.as_ref().is_none_or(|held| !before(held.ends_at));
        let granted = match may_wait {
            true => login.login().await,
            false => tokio::time::timeout(WHILE_HELD, login.login()).await.unwrap_or_else(|_| Err(hangs())),
        };
        match granted {
            Ok(granted) => Ok(state.held.insert(Held::new(granted, login, now)).token.clone()),
            Err(error) => match state.held.as_mut().filter(|held| error.kind.is_store_wide() && before(held.ends_at)) {
                Some(held) => {
                    held.renew_at = Some(Instant::now() + REFUSED);
                    Ok(held.token.clone())
                }
                None => {
                    state.refused = (error.kind == ErrorKind::Denied).then(|| (error.clone(), Instant::now() + REFUSED));
                    Err(error)
                }
            },
        }
    }

    /// Drops a token that the service takes no longer, unless another call did, or another one came meanwhile. Whether another one may
    /// help: not where the one before it was dropped a moment ago.
    pub async fn forget(&self, token: &SecretBytes) -> bool {
        let mut state = self.0.lock().await;
        if state.held.as_ref().is_none_or(|held| held.token != *token) {
            return true;
        }
        let now = Instant::now();
        if state.replaced.is_some_and(|at| now.duration_since(at) < REFUSED) {
            return false;
        }
        (state.held, state.replaced) = (None, Some(now));
        true
    }
}

/// One request: its name in the metrics, what errors say that it is about, and who caused it.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// In the service's words: `getSecret`.
    pub name: &'static str,
    /// Begins every error.
    pub what: &'a str,
    /// Who caused it.
    pub cx: &'a CallCx,
}

/// A client of such a service.
pub struct Rest {
    http: HttpClient,
    retries: Retries,
    tokens: Tokens,
}

impl Rest {
    /// A client. `path` is where the block stands in the object.
    ///
    /// # Errors
    /// `Misconfigured` where the certificates or the store's `retrySettings` cannot be used.
    pub fn open(options: &TlsOptions, path: &str, cx: &ConnectCx) -> Result<Self, ProviderError> {
        Self::over(cx.outbound.client(options, path)?, cx)
    }

    /// A client over one that is there.
    ///
    /// # Errors
    /// `Misconfigured` where the store's `retrySettings` cannot be used.
    pub fn over(http: HttpClient, cx: &ConnectCx) -> Result<Self, ProviderError> {
        Ok(Self { http, retries: Retries::if_asked(cx.retry.as_ref())?, tokens: Tokens::default() })
    }

    /// The client itself, for logins.
    #[must_use]
    pub fn http(&self) -> HttpClient {
        self.http.clone()
    }

    /// The answer to a call, whatever it says. What the service failed is tried again, as the store's `retrySettings` say.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn send(
        &self,
        ask: &Ask<'_>,
        make: &(dyn Fn() -> Result<Call, ProviderError> + Sync),
    ) -> Result<Answer, ProviderError> {
        retried(self.retries, ask, || async { self.http.send(marked(make()?, ask)?, ask.what).await }).await
    }

    /// Like [`Rest::send`], with the session's token; once more with a new one where the service takes it no longer.
    ///
    /// # Errors
    /// As there, and those of the login.
    pub async fn ask(
        &self,
        ask: &Ask<'_>,
        login: &dyn Login,
        make: &(dyn Fn(&SecretBytes) -> Result<Call, ProviderError> + Sync),
    ) -> Result<Answer, ProviderError> {
        let token = self.tokens.get(login).await?;
        let answer = self.send(ask, &|| make(&token)).await?;
        if !login.is_stale(&answer) || !self.tokens.forget(&token).await {
            return Ok(answer);
        }
        let token = self.tokens.get(login).await?;
        self.send(ask, &|| make(&token)).await
    }

    /// Logs in, unless there is a token.
    ///
    /// # Errors
    /// Those of the login.
    pub async fn log_in(&self, login: &dyn Login) -> Result<(), ProviderError> {
        self.tokens.get(login).await.map(drop)
    }
}

/// Sends, and again what the service failed; each request is noted.
///
/// # Errors
/// Where there is no answer.
pub async fn retried<F>(retries: Retries, ask: &Ask<'_>, send: impl Fn() -> F) -> Result<Answer, ProviderError>
where
    F: Future<Output = Result<Answer, ProviderError>>,
{
    let mut tries = retries.tries();
    loop {
        let result = send().await;
        ask.cx.requests.note(ask.name, !result.as_ref().is_ok_and(went_well));
        if !may_go_well(&result, ask.what) || !tries.next().await {
            return result;
        }
    }
}

/// With its cause in the user agent, so that the service's own audit lines can be matched.
fn marked(call: Call, ask: &Ask<'_>) -> Result<Call, ProviderError> {
    let agent = format!("keyferry/{}{}", env!("CARGO_PKG_VERSION"), ask.cx.marks());
    call.header("user-agent", agent.as_bytes(), ask.what)
}

/// "Nothing has changed" is what a conditional read hopes for.
fn went_well(answer: &Answer) -> bool {
    answer.status.is_success() || answer.status == StatusCode::NOT_MODIFIED
}

/// Whether the same call may go well a moment later.
fn may_go_well(result: &Result<Answer, ProviderError>, what: &str) -> bool {
    match result {
        Ok(answer) if went_well(answer) => false,
        Ok(answer) => is_worth_another(&answer.refusal(what)),
        Err(error) => is_worth_another(error),
    }
}

/// A JSON object that is sent, put together without a copy of its secrets that outlives it.
pub struct Body(Vec<u8>);

impl Default for Body {
    fn default() -> Self {
        Self(vec![b'{'])
    }
}

impl Body {
    /// With a text.
    #[must_use]
    pub fn text(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.raw(name, json::string(value.as_ref()).expose())
    }

    /// With a value that is JSON already.
    #[must_use]
    pub fn raw(self, name: &str, value: &[u8]) -> Self {
        // A vector that grows would leave copies behind.
        let before = SecretBytes::new(self.0);
        let mut after = Vec::with_capacity(before.expose().len() + value.len() + 6 * name.len() + 4);
        after.extend_from_slice(before.expose());
        if after.len() > 1 {
            after.push(b',');
        }
        json::append_string(&mut after, name.as_bytes(), false);
        after.push(b':');
        after.extend_from_slice(value);
        Self(after)
    }

    /// The object.
    #[must_use]
    pub fn build(self) -> SecretBytes {
        let mut bytes = self.0;
        bytes.push(b'}');
        SecretBytes::new(bytes)
    }
}

/// Checks a `caProvider` as ESO does.
///
/// # Errors
/// `Misconfigured` where a ClusterSecretStore names no namespace, or a SecretStore names one.
pub fn check_ca(provider: Option<&CaProvider>, kind: StoreKind) -> Result<(), ProviderError> {
    let text = match (kind, provider.map(|ca| ca.namespace.is_some())) {
        (StoreKind::ClusterSecretStore, Some(false)) => "caProvider.namespace is required for ClusterSecretStore",
        (StoreKind::SecretStore, Some(true)) => "caProvider.namespace must be empty with SecretStore",
        _ => return Ok(()),
    };
    Err(ProviderError::new(ErrorKind::Misconfigured, text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn bodies() {
        let body = Body::default().text("a\"", b"x\"<\n").raw("b", b"true").build();
        assert_eq!(body.expose_str(), Some(r#"{"a\"":"x\"<\n","b":true}"#));
        assert_eq!(Body::default().build().expose_str(), Some("{}"));
    }

    struct Counting {
        logins: AtomicUsize,
        life: Option<u64>,
        fails: AtomicUsize,
    }

    #[async_trait]
    impl Login for Counting {
        async fn login(&self) -> Result<Granted, ProviderError> {
            if self.fails.load(Ordering::Relaxed) == 1 {
                return Err(ProviderError::new(ErrorKind::Unavailable, "down"));
            }
            let count = self.logins.fetch_add(1, Ordering::Relaxed);
            Ok(Granted { token: SecretBytes::from(format!("t{count}")), life: self.life.map(Duration::from_secs) })
        }
    }

    async fn token(tokens: &Tokens, login: &Counting) -> String {
        tokens.get(login).await.unwrap().expose_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_kept_and_replaced_before_it_ends() {
        let login = Counting { logins: AtomicUsize::new(0), life: Some(100), fails: AtomicUsize::new(0) };
        let tokens = Tokens::default();
        assert_eq!(token(&tokens, &login).await, "t0");
        tokio::time::advance(Duration::from_secs(79)).await;
        assert_eq!(token(&tokens, &login).await, "t0");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(token(&tokens, &login).await, "t1");
        // The old one counts while no other can be had, and not beyond its end.
        login.fails.store(1, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(90)).await;
        assert_eq!(token(&tokens, &login).await, "t1");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(tokens.get(&login).await.unwrap_err().kind, ErrorKind::Unavailable);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_without_end_is_kept_until_it_is_refused() {
        let login = Counting { logins: AtomicUsize::new(0), life: None, fails: AtomicUsize::new(0) };
        let tokens = Tokens::default();
        assert_eq!(token(&tokens, &login).await, "t0");
        tokio::time::advance(Duration::from_secs(1 << 30)).await;
        assert_eq!(token(&tokens, &login).await, "t0");
        tokens.forget(&SecretBytes::from("another")).await;
        assert_eq!(token(&tokens, &login).await, "t0");
        tokens.forget(&SecretBytes::from("t0")).await;
        assert_eq!(token(&tokens, &login).await, "t1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_takes_no_token_is_not_logged_in_to_for_each_read() {
        let login = Counting { logins: AtomicUsize::new(0), life: None, fails: AtomicUsize::new(0) };
        let tokens = Tokens::default();
        for _ in 0..20 {
            let refused = tokens.get(&login).await.unwrap();
            tokens.forget(&refused).await;
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(login.logins.load(Ordering::Relaxed), 2);
        tokio::time::advance(REFUSED).await;
        let refused = tokens.get(&login).await.unwrap();
        assert!(tokens.forget(&refused).await, "later it may have been revoked");
    }

    #[tokio::test(start_paused = true)]
    async fn all_calls_whose_token_was_refused_are_done_once_more_with_one_new_token() {
        let login = Counting { logins: AtomicUsize::new(0), life: None, fails: AtomicUsize::new(0) };
        let tokens = Tokens::default();
        let refused = tokens.get(&login).await.unwrap();
        assert!(tokens.forget(&refused).await);
        assert!(tokens.forget(&refused).await, "the other call comes before there is a new one");
        login.fails.store(1, Ordering::Relaxed);
        assert_eq!(tokens.get(&login).await.unwrap_err().kind, ErrorKind::Unavailable);
        assert!(tokens.forget(&refused).await, "or where none could be had");
        login.fails.store(0, Ordering::Relaxed);
        assert_eq!(token(&tokens, &login).await, "t1");
        assert!(tokens.forget(&refused).await, "or after it");
        assert_eq!(token(&tokens, &login).await, "t1");
        assert!(!tokens.forget(&SecretBytes::from("t1")).await, "the new one fares no better");
        assert_eq!(token(&tokens, &login).await, "t1");
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_that_is_refused_is_not_tried_at_once_again() {
        struct Refused(AtomicUsize);
        #[async_trait]
        impl Login for Refused {
            async fn login(&self) -> Result<Granted, ProviderError> {
                self.0.fetch_add(1, Ordering::Relaxed);
                Err(ProviderError::new(ErrorKind::Denied, "no"))
            }
        }
        let (login, tokens) = (Refused(AtomicUsize::new(0)), Tokens::default());
        for _ in 0..20 {
            assert_eq!(tokens.get(&login).await.unwrap_err().kind, ErrorKind::Denied);
        }
        assert_eq!(login.0.load(Ordering::Relaxed), 1);
        tokio::time::advance(REFUSED).await;
        assert!(tokens.get(&login).await.is_err());
        assert_eq!(login.0.load(Ordering::Relaxed), 2);
    }
}
