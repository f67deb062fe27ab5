//! The login and its token: made once, renewed before it ends, replaced where it cannot be renewed, and given back.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::answer::Answer;
use super::auth::{Credentials, credentials};
use super::client::Request;
use super::config::{Auth, Vault};
use super::transport::{Failed, Transport};
use crate::outbound::secret;
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::render::json::object_of_text;
use crate::secret_bytes::SecretBytes;

const LOGIN: &str = "login to Vault";
const RENEWAL: &str = "renewal of the login to Vault";
const LOOK: &str = "check of the token";

/// A failed login is not tried again for this long, so that many readers do not become many calls. A failed renewal the same.
const FAILURE_HELD: Duration = Duration::from_secs(5);
/// Longest that a request about the token may take with all its tries.
const LONGEST: Duration = Duration::from_secs(30);
/// What cannot be renewed is replaced this long before its end, or at two thirds of its life where that is later.
const REPLACE_BEFORE: Duration = Duration::from_secs(60);
/// A refusal that says nothing of the token makes us ask about it this often at most.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A store's own token is looked at no more often than this.
const STORE_TOKEN_AGAIN: Duration = Duration::from_secs(5);

/// What a login or a renewal answers.
#[derive(Deserialize)]
struct LoggedIn {
    auth: Granted,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "secret")]
    client_token: SecretBytes,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

/// What Vault knows of a token.
#[derive(Deserialize)]
struct Looked {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

/// How long a token lives; tokens that never end have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    whole: Duration,
    renewable: bool,
    /// When it is to be renewed or replaced.
    turn: Instant,
    ends: Instant,
}

impl Life {
    /// From what Vault grants, in seconds.
    fn granted(seconds: u64, renewable: bool, now: Instant) -> Option<Self> {
        if seconds == 0 {
            return None;
        }
        let whole = Duration::from_secs(seconds);
        let early = if renewable { whole / 3 } else { REPLACE_BEFORE.min(whole / 3) };
        // so far away that no clock gets there
        let ends = now.checked_add(whole)?;
        Some(Self { whole, renewable, turn: ends - early, ends })
    }

    /// Whether it ends before a lease does, and a renewal would give it enough to be worth a call.
    fn is_short_of(&self, lease: Duration, now: Instant) -> bool {
        let left = self.ends.saturating_duration_since(now);
        self.renewable && left < lease && left + self.whole / 10 < self.whole
    }

    /// From a renewal. A token that gets less than before is near the end that no renewal moves: it will be replaced.
    fn renewed(self, seconds: u64, renewable: bool, now: Instant) -> Option<Self> {
        let whole = seconds + 1 >= self.whole.as_secs();
        Self::granted(seconds, renewable && whole, now)
    }
}

/// A token in use.
#[derive(Clone)]
struct Kept {
    token: SecretBytes,
    /// An id of our own, which no other token has.
    id: String,
    life: Option<Life>,
}

impl Kept {
    fn new(token: SecretBytes, life: Option<Life>) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("process"));
        Self { token, life, id: format!("{:x}-{}", *PROCESS, NUMBER.fetch_add(1, Ordering::Relaxed)) }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.life.is_some_and(|life| life.turn <= now)
    }

    fn has_ended(&self, now: Instant) -> bool {
        self.life.is_some_and(|life| life.ends <= now)
    }

    /// The same, to be looked after again shortly.
    fn later(self, now: Instant) -> Self {
        Self { life: self.life.map(|life| Life { turn: life.ends.min(now + FAILURE_HELD), ..life }), ..self }
    }
}

/// A token that is in use, without the token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenInUse {
    /// An id of our own, which no other token has.
    pub id: String,
    /// How long it lives if nobody renews it; `None`: for ever, or nobody knows.
    pub left: Option<Duration>,
}

impl TokenInUse {
    /// How much of a lease's time it really lasts: it ends with its token.
    #[must_use]
    pub fn bounds(&self, lease: Duration) -> Duration {
        self.left.map_or(lease, |left| left.min(lease))
    }
}

/// How a client gets its token.
enum How {
    /// Not at all.
    Nobody,
    /// It stands in a Secret: it is not ours to replace or to revoke.
    Store,
    /// By a login.
    Method { auth: Box<Auth>, path: String, cx: Box<ConnectCx> },
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// Why the last login failed, and until when that is the answer to all who ask.
    failed: Option<(ProviderError, Instant)>,
    closed: bool,
    /// The token may not ask about itself: a refusal that does not name the token is taken for one of the policies.
    cannot_look: bool,
    looked: Option<Instant>,
    /// When a refused token was replaced.
    replaced: Option<Instant>,
}

/// A login.
pub(super) struct Login {
    how: How,
    namespace: Option<String>,
    state: Mutex<State>,
    /// Whose turn it is to get another token, or to have this one renewed: one at a time. Only in it the token changes.
    turn: tokio::sync::Mutex<()>,
    /// Told when there is another token, or another time to look after it.
    changed: Notify,
}

impl Login {
    /// The login of a store; no request is sent yet. `path` is where the block stands in the object.
    ///
    /// # Errors
    /// `Misconfigured` where the token's reference is missing.
    pub async fn of(vault: &Vault, path: &str, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let mut state = State::default();
        let how = match &vault.auth {
            None => How::Nobody,
            Some(auth) => match &auth.token_secret_ref {
                Some(selector) => {
                    let token = cx.secret_text(selector, &format!("{path}.auth.tokenSecretRef")).await?;
                    state.kept = Some(Kept::new(token, None));
                    How::Store
                }
                None if auth.is_empty() => How::Nobody,
                None => How::Method { auth: Box::new(auth.clone()), path: format!("{path}.auth"), cx: Box::new(cx.clone()) },
            },
        };
        let namespace = vault.auth.as_ref().and_then(|auth| auth.namespace.clone()).or_else(|| vault.namespace.clone());
        Ok(Self {
            how,
            namespace: namespace.filter(|namespace| !namespace.is_empty()),
            state: Mutex::new(state),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        })
    }

    pub fn makes_tokens(&self) -> bool {
        matches!(self.how, How::Method { .. })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> Option<Kept> {
        self.lock().kept.clone()
    }

    /// The token that there is, unless it has ended.
    fn held(&self, now: Instant) -> Result<Option<Kept>, ProviderError> {
        let state = self.lock();
        if state.closed {
            return Err(ProviderError::new(ErrorKind::Unavailable, "the store was logged out of"));
        }
        Ok(state.kept.clone().filter(|kept| !kept.has_ended(now)))
    }

    /// The token for a request now; `None` for nobody. Those who wait for a new one wait for one login; while a token that still
    /// holds is renewed, the others use it.
    ///
    /// # Errors
    /// Why the login failed.
    pub async fn token(&self, transport: &Transport, cx: &CallCx) -> Result<Option<SecretBytes>, ProviderError> {
        let now = Instant::now();
        let held = self.held(now)?;
        if !self.makes_tokens() {
            // the store's own is used to the last: whether it has ended, Vault tells
            return Ok(self.kept().map(|kept| kept.token));
        }
        if let Some(kept) = held.as_ref().filter(|kept| !kept.is_due(now)) {
            return Ok(Some(kept.token.clone()));
        }
        let _turn = match (self.turn.try_lock(), held) {
            (Ok(turn), _) => turn,
            (Err(_), Some(kept)) => return Ok(Some(kept.token)),
            (Err(_), None) => self.turn.lock().await,
        };
        self.in_turn(transport, cx).await.map(Some)
    }

    /// The token, renewed or made anew where that is due. Somebody else may have done so while one waited for the turn.
    async fn in_turn(&self, transport: &Transport, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let now = Instant::now();
        let held = self.held(now)?;
        if let Some(kept) = held.as_ref().filter(|kept| !kept.is_due(now)) {
            return Ok(kept.token.clone());
        }
        let failed = self.lock().failed.clone().filter(|(_, until)| held.is_none() && now < *until);
        if let Some((error, _)) = failed {
            return Err(error);
        }
        let next = self.next(held, transport, cx).await;
        let mut state = self.lock();
        self.changed.notify_waiters();
        match next {
            Ok(kept) => {
                let token = kept.token.clone();
                (state.kept, state.failed) = (Some(kept), None);
                Ok(token)
            }
            Err(error) => {
                (state.kept, state.failed) = (None, Some((error.clone(), Instant::now() + FAILURE_HELD)));
                Err(error)
            }
        }
    }

    /// A request about the token itself. It is given up after a while.
    async fn ask(
        &self,
        token: Option<&SecretBytes>,
        request: &Request,
        what: &str,
        transport: &Transport,
        cx: &CallCx,
    ) -> Result<Option<SecretBytes>, Failed> {
        let run = transport.run(self.namespace.as_deref(), token, request, what, cx);
        tokio::time::timeout(LONGEST, run).await.unwrap_or_else(|_| {
            let text = format!("{what}: Vault did not answer in time");
            Err(ProviderError::new(ErrorKind::Unavailable, text).into())
        })
    }

    /// What comes after a token that is due: the same one, renewed, else another one, else the same one for a while.
    async fn next(&self, held: Option<Kept>, transport: &Transport, cx: &CallCx) -> Result<Kept, ProviderError> {
        if let Some(kept) = &held
            && let Some(life) = kept.life.filter(|life| life.renewable)
        {
            match self.renew(&kept.token, life, transport, cx).await {
                Ok(life) => return Ok(Kept { life, ..kept.clone() }),
                Err(error) if is_later(&error) => return Ok(kept.clone().later(Instant::now())),
                // refused, or nonsense: another login may do better
                Err(_) => {}
            }
        }
        match (self.log_in(transport, cx).await, held) {
            (Ok(kept), _) => Ok(kept),
            (Err(_), Some(kept)) if !kept.has_ended(Instant::now()) => Ok(kept.later(Instant::now())),
            (Err(error), _) => Err(error),
        }
    }

    async fn log_in(&self, transport: &Transport, cx: &CallCx) -> Result<Kept, ProviderError> {
        let How::Method { auth, path, cx: connect } = &self.how else {
            return Err(ProviderError::new(ErrorKind::Misconfigured, format!("{LOGIN}: no way to log in is set")));
        };
        let Credentials { path, fields } = credentials(auth, path, transport.server(), connect).await?;
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let request = Request::write(path, object_of_text(&fields)).named("Login");
        let now = Instant::now();
        let body = self.ask(None, &request, LOGIN, transport, cx).await.map_err(|failed| {
            // Wrong credentials are a bad request to most methods.
            let text = format!("{LOGIN}: Vault does not accept the credentials, or not for this role ({})", failed.status);
            match failed.status {
                400 | 403 if failed.error.kind != ErrorKind::Unavailable => {
                    ProviderError { kind: ErrorKind::Denied, detail: text, ..failed.error }
                }
                _ => failed.error,
            }
        })?;
        let granted = granted(body.as_ref(), LOGIN)?;
        if granted.client_token.is_empty() {
            let text = format!("{LOGIN}: Vault asks for a second factor, which nobody can give here: use another role");
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        Ok(Kept::new(granted.client_token, Life::granted(granted.lease_duration, granted.renewable, now)))
    }

    async fn renew(
        &self,
        token: &SecretBytes,
        life: Life,
        transport: &Transport,
        cx: &CallCx,
    ) -> Result<Option<Life>, ProviderError> {
        let request = Request::write("auth/token/renew-self", SecretBytes::from("{}")).named("RenewSelf");
        let now = Instant::now();
        let body = self.ask(Some(token), &request, RENEWAL, transport, cx).await?;
        let granted = granted(body.as_ref(), RENEWAL)?;
        Ok(life.renewed(granted.lease_duration, granted.renewable, now))
    }

    /// What Vault says of a token.
    async fn look(&self, token: &SecretBytes, transport: &Transport, cx: &CallCx) -> Result<Looked, Failed> {
        let request = Request::read("auth/token/lookup-self").named("LookupSelf");
        let body = self.ask(Some(token), &request, LOOK, transport, cx).await?;
        let answer = Answer::of(body.as_ref(), LOOK)?;
        let looked = serde_json::from_slice(answer.data().unwrap_or_default());
        looked.map_err(|_| super::answer::malformed(LOOK).into())
    }

    /// The token to try again with, after a refusal; `None` where the refusal stands. A token that was revoked is replaced
    /// once; where that does not help either, the next refusals stand for a while.
    ///
    /// # Errors
    /// Why the login failed.
    pub async fn after_refusal(
        &self,
        refused: &SecretBytes,
        failed: &Failed,
        transport: &Transport,
        cx: &CallCx,
    ) -> Result<Option<SecretBytes>, ProviderError> {
        if !self.makes_tokens() {
            return Ok(None);
        }
        // others who were refused wait here for what comes of it
        let turn = self.turn.lock().await;
        if self.kept().is_some_and(|kept| kept.token == *refused) {
            if !self.may_doubt(failed) {
                return Ok(None);
            }
            if !failed.token_is_dead && !self.look(refused, transport, cx).await.is_err_and(|looked| looked.status == 403) {
                return Ok(None);
            }
            let mut state = self.lock();
            (state.kept, state.replaced) = (None, Some(Instant::now()));
        }
        drop(turn);
        self.token(transport, cx).await
    }

    /// Whether a refused token may be looked at now, or replaced.
    fn may_doubt(&self, failed: &Failed) -> bool {
        let (mut state, now) = (self.lock(), Instant::now());
        let since = |then: Option<Instant>| then.map(|then| now.saturating_duration_since(then));
        let just_replaced = since(state.replaced).is_some_and(|age| age < FAILURE_HELD);
        let just_looked = state.cannot_look || since(state.looked).is_some_and(|age| age < LOOK_AGAIN);
        let may = !just_replaced && (failed.token_is_dead || !just_looked);
        if may {
            state.looked = Some(now);
        }
        may
    }

    /// A new token was refused like the old one: it may not ask about itself, and the policies do not allow the request.
    pub fn cannot_look(&self) {
        self.lock().cannot_look = true;
    }

    /// Looks after the token for as long as somebody polls.
    pub async fn tend(&self, transport: &Transport) {
        let cx = CallCx::default();
        loop {
            let changed = self.changed.notified();
            let turn = match self.how {
                How::Nobody => return,
                How::Store => self.tend_stores(transport, &cx).await,
                How::Method { .. } => {
                    let _turn = self.turn.lock().await;
                    if let Err(error) = self.in_turn(transport, &cx).await {
                        tracing::debug!(%error, "the login to Vault could not be renewed");
                    }
                    self.kept().and_then(|kept| Some(kept.life?.turn))
                }
            };
            match turn {
                Some(turn) => tokio::select! { () = tokio::time::sleep_until(turn) => {}, () = changed => {} },
                None => changed.await,
            }
        }
    }

    /// Renews the store's own token where it is due; gives when to come again.
    async fn tend_stores(&self, transport: &Transport, cx: &CallCx) -> Option<Instant> {
        let kept = self.kept()?;
        let due = kept.life.filter(|life| life.renewable && life.turn <= Instant::now());
        if let Some(life) = due
            && let Err(error) = self.renew(&kept.token, life, transport, cx).await
        {
            tracing::debug!(%error, "the store's token could not be renewed");
        }
        let now = Instant::now();
        let life = match self.look(&kept.token, transport, cx).await {
            Ok(looked) => Life::granted(looked.ttl, looked.renewable, now),
            Err(failed) if is_later(&failed.error) => {
                let ends = now + LOOK_AGAIN;
                Some(Life { whole: LOOK_AGAIN, renewable: false, turn: ends, ends })
            }
            Err(_) => None,
        };
        self.lives(&kept, life);
        life.map(|life| life.turn.max(now + STORE_TOKEN_AGAIN))
    }

    /// The token that is in use, for something that it lends for that long: where it would end before, it is renewed first.
    /// Nobody can do so once this process is gone.
    pub async fn lends(&self, lease: Duration, transport: &Transport, cx: &CallCx) -> TokenInUse {
        let is_short = |kept: &Kept| kept.life.is_some_and(|life| life.is_short_of(lease, Instant::now()));
        if self.kept().as_ref().is_some_and(is_short) {
            let _turn = self.turn.lock().await;
            self.renew_for_lease(is_short, transport, cx).await;
        }
        let Some(kept) = self.kept() else { return TokenInUse::default() };
        let left = kept.life.map(|life| life.ends.saturating_duration_since(Instant::now()));
        TokenInUse { id: kept.id.clone(), left }
    }

    /// Renews the token if it is still too short: somebody else may have renewed it while one waited for the turn.
    async fn renew_for_lease(&self, is_short: impl Fn(&Kept) -> bool, transport: &Transport, cx: &CallCx) {
        let Some(kept) = self.kept().filter(is_short) else { return };
        let Some(life) = kept.life else { return };
        match self.renew(&kept.token, life, transport, cx).await {
            Ok(life) => {
                self.lives(&kept, life);
                self.changed.notify_waiters();
            }
            Err(error) => tracing::debug!(%error, "the login to Vault could not be renewed for what it lends"),
        }
    }

    /// Notes how long a token lives, if it is still the one in use.
    fn lives(&self, kept: &Kept, life: Option<Life>) {
        if let Some(now) = self.lock().kept.as_mut().filter(|now| now.id == kept.id) {
            now.life = life;
        }
    }

    /// Gives back a token that a login made; one that is being made is waited for.
    pub async fn log_out(&self, transport: &Transport) {
        self.lock().closed = true;
        let _turn = self.turn.lock().await;
        let kept = self.lock().kept.take();
        let Some(kept) = kept.filter(|_| self.makes_tokens()) else { return };
        let request = Request::write("auth/token/revoke-self", SecretBytes::from("{}")).named("RevokeSelf");
        let what = "end of the login to Vault";
        let gone = self.ask(Some(&kept.token), &request, what, transport, &CallCx::default()).await;
        if let Err(Failed { error, .. }) = gone {
            tracing::debug!(%error, "the login to Vault ends by itself");
        }
    }
}

/// Whether the same may go well a moment later.
fn is_later(error: &ProviderError) -> bool {
    error.kind.is_store_wide()
}

fn granted(body: Option<&SecretBytes>, what: &str) -> Result<Granted, ProviderError> {
    let body = body.map_or(&b""[..], SecretBytes::expose);
    serde_json::from_slice::<LoggedIn>(body).map(|answer| answer.auth).map_err(|_| {
        let text = format!("{what}: the answer holds no token: is the address that of a Vault?");
        ProviderError::new(ErrorKind::Malformed, text)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn life(seconds: u64, renewable: bool, now: Instant) -> (u64, bool) {
        let life = Life::granted(seconds, renewable, now).unwrap();
        assert_eq!(life.ends - now, Duration::from_secs(seconds));
        ((life.turn - now).as_secs(), life.renewable)
    }

    #[test]
    fn a_token_is_looked_after_before_it_ends() {
        let now = Instant::now();
        assert_eq!(Life::granted(0, true, now), None, "a root token");
        assert_eq!(Life::granted(u64::MAX, true, now), None, "beyond all clocks");
        assert_eq!(life(60, true, now), (40, true));
        assert_eq!(life(60, false, now), (40, false));
        assert_eq!(life(3600, true, now), (2400, true));
        assert_eq!(life(3600, false, now), (3540, false), "what cannot be renewed is used to its last minute");
    }

    #[test]
    fn a_token_that_ends_before_what_it_lends_is_renewed_while_that_gains_something() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let life = Life::granted(60, true, now).unwrap();
        assert!(!life.is_short_of(2 * minute, now), "it has all that it can have");
        assert!(!life.is_short_of(minute / 2, now + minute / 3), "it lasts longer than that");
        assert!(life.is_short_of(minute, now + minute / 3));
        assert!(!Life::granted(60, false, now).unwrap().is_short_of(minute, now + minute / 3), "it cannot be renewed");
    }

    #[test]
    fn what_gets_shorter_is_not_renewed_again() {
        let now = Instant::now();
        let first = Life::granted(60, true, now).unwrap();
        let second = first.renewed(59, true, now).unwrap();
        assert!(second.renewable, "a second less is the way of clocks");
        let third = second.renewed(30, true, now).unwrap();
        assert_eq!((third.renewable, third.turn - now), (false, Duration::from_secs(20)));
        assert!(!first.renewed(60, false, now).unwrap().renewable);
        assert_eq!(first.renewed(0, true, now), None);
    }
}
