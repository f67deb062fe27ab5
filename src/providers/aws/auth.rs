//! The login: where credentials come from, the roles that are assumed with them, and their renewal before they expire.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::config::SharedHttpClient;
use aws_sdk_sts::types::Tag;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use sha3::{Digest, Sha3_256};
use tokio::sync::Mutex;

use super::client::Sdk;
use super::errors::{Call, is_expired, is_unknown, secret_parts};
use super::{AccessKeyRef, Aws, JwtAuth, SessionTagsPolicy, misconfigured};
use crate::api::refs::ServiceAccountSelector;
use crate::providers::{ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Credentials are renewed this long before they expire, or at half their life where that is shorter.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Credentials are used to this long before they expire, if they cannot be renewed.
const USE_UNTIL: Duration = Duration::from_secs(15);
/// Credentials of the operator's surroundings that say nothing of an end are looked up again after this long: their file may
/// have been written anew.
const LOOK_AGAIN: Duration = Duration::from_secs(300);
/// A failed login is not tried again for this long, so that many readers do not become many calls: STS allows few.
const FAILURE_HELD: Duration = Duration::from_secs(5);
/// A session that AWS does not know, as its role was made anew, is given up once in this long: where the next one fares no better, not
/// every read is to be a login and two calls.
const UNKNOWN_HELD: Duration = Duration::from_secs(60);
/// Longest time for a login, with its objects, tokens and roles' own calls.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(45);
/// The same while the credentials that are kept can still be used: those who wait for it have deadlines of their own.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(10);

/// Annotations of a ServiceAccount: the role that its token is exchanged for, and the token's audience.
const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";
const AUDIENCE: &str = "eks.amazonaws.com/audience";
const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";

/// Credentials, kept until shortly before they expire. Those who wait for new ones wait for one login.
pub(super) struct Login {
    source: Source,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    /// When credentials that AWS does not know were last given up.
    unknown: Option<SystemTime>,
}

/// Where credentials come from.
enum Source {
    /// An access key: good until it is deleted.
    Key(Credentials),
    /// A token, exchanged for a role.
    Token { sts: aws_sdk_sts::Client, token: Box<TokenSource>, session: String },
    /// A role, assumed with other credentials.
    Role { sts: aws_sdk_sts::Client, from: Arc<Login>, role: Box<Role> },
    /// The SDK's own search: profile, container, EC2.
    Default { region: Option<Region>, http: Option<SharedHttpClient> },
}

/// Where a token comes from, and the role that goes with it.
enum TokenSource {
    /// TokenRequest, as the store's author has it.
    ServiceAccount { cx: Box<ConnectCx>, account: ServiceAccountSelector },
    /// The file that EKS mounts into the operator's own pod.
    File { path: String, role: String },
}

/// A role to assume, and with what.
struct Role {
    arn: String,
    session: String,
    external_id: Option<String>,
    tags: Vec<Tag>,
    transitive: Vec<String>,
}

/// The outcome of a login. `renew`: when another one is due.
struct Kept {
    outcome: Result<Credentials, ProviderError>,
    renew: Option<SystemTime>,
}

/// The login that a store describes.
///
/// # Errors
/// `Misconfigured` where an object or key is missing, `Unavailable` where the API server is.
pub(super) async fn login(aws: &Aws, cx: &ConnectCx, sdk: &Sdk) -> Result<Arc<Login>, ProviderError> {
    let session = session_name(&cx.namespace, &cx.store_name);
    let mut login = Login::new(first_source(aws, cx, sdk, &session).await?);
    let mut roles: Vec<Role> = aws.additional_roles.iter().map(|arn| Role::plain(arn, &session)).collect();
    if let Some(arn) = aws.role() {
        let mut role = Role::plain(arn, &session);
        role.external_id = aws.external_id.clone().filter(|id| !id.is_empty());
        role.tags = session_tags(aws, cx)?;
        role.transitive.clone_from(&aws.transitive_tag_keys);
        roles.push(role);
    }
    for role in roles {
        let sts = sdk.sts(Some(SharedCredentialsProvider::from(login.clone() as Arc<dyn ProvideCredentials>)))?;
        login = Login::new(Source::Role { sts, from: login, role: Box::new(role) });
    }
    Ok(login)
}

async fn first_source(aws: &Aws, cx: &ConnectCx, sdk: &Sdk, session: &str) -> Result<Source, ProviderError> {
    let auth = aws.auth.as_ref();
    let token = |token| -> Result<Source, ProviderError> {
        Ok(Source::Token { sts: sdk.sts(None)?, token: Box::new(token), session: session.to_owned() })
    };
    if let Some(account) = auth.and_then(|a| a.jwt.as_ref()?.service_account_ref.clone()) {
        return token(TokenSource::ServiceAccount { cx: Box::new(cx.clone()), account });
    }
    if let Some(keys) = auth.and_then(|a| a.secret_ref.as_ref()) {
        return access_key(keys, cx).await.map(Source::Key);
    }
    if let (Some(id), Some(secret)) = (sdk.var("AWS_ACCESS_KEY_ID"), sdk.var("AWS_SECRET_ACCESS_KEY")) {
        let (id, secret) = (visible(id, "AWS_ACCESS_KEY_ID")?, visible(secret, "AWS_SECRET_ACCESS_KEY")?);
        let token = sdk.var("AWS_SESSION_TOKEN").map(|token| visible(token, "AWS_SESSION_TOKEN")).transpose()?;
        return Ok(Source::Key(Credentials::new(id, secret, token.map(Into::into), None, "environment")));
    }
    if let (Some(path), Some(role)) = (sdk.var("AWS_WEB_IDENTITY_TOKEN_FILE"), sdk.var("AWS_ROLE_ARN")) {
        return token(TokenSource::File { path: path.into(), role: role.into() });
    }
    Ok(Source::Default { region: sdk.region().cloned(), http: sdk.http() })
}

/// The access key from the store's Secrets.
async fn access_key(keys: &AccessKeyRef, cx: &ConnectCx) -> Result<Credentials, ProviderError> {
    let missing = |path: &str| misconfigured(format!("{path} is missing"));
    let id = keys.access_key_id.as_ref().ok_or_else(|| missing(AccessKeyRef::ACCESS_KEY_ID))?;
    let secret = keys.secret_access_key.as_ref().ok_or_else(|| missing(AccessKeyRef::SECRET_ACCESS_KEY))?;
    let token = keys.session_token.as_ref().map(|selector| (selector, AccessKeyRef::SESSION_TOKEN));
    let parts = [(id, AccessKeyRef::ACCESS_KEY_ID), (secret, AccessKeyRef::SECRET_ACCESS_KEY)];
    let parts: Vec<_> = parts.into_iter().chain(token).collect();
    let texts = cx.secret_texts(&parts).await?;
    let texts = texts
        .iter()
        .zip(&parts)
        .map(|(bytes, (_, path))| visible(bytes.expose_str().unwrap_or_default(), path).map(str::to_owned));
    let mut texts = texts.collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut next = || texts.next().unwrap_or_default();
    let (id, secret) = (next(), next());
    Ok(Credentials::new(id, secret, texts.next(), None, "store"))
}

/// A part of an access key, which stands in headers: the SDK panics at what cannot.
pub(super) fn visible<'a>(text: &'a str, path: &str) -> Result<&'a str, ProviderError> {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text);
    }
    Err(misconfigured(format!("{path}: the value holds a blank, a line break or another character that no access key has")))
}

impl Login {
    fn new(source: Source) -> Arc<Self> {
        Arc::new(Self { source, state: Mutex::default() })
    }

    /// Credentials that are good for a call now.
    ///
    /// # Errors
    /// Why the login failed.
    pub(super) async fn credentials(&self) -> Result<Credentials, ProviderError> {
        let mut state = self.state.lock().await;
        let kept = &mut state.kept;
        let begun = SystemTime::now();
        if let Some(Kept { outcome, renew }) = kept.as_ref()
            && renew.is_none_or(|at| begun < at)
        {
            return outcome.clone();
        }
        let old = kept.as_ref().and_then(|kept| kept.outcome.as_ref().ok());
        let limit = if old.is_some_and(|old| is_usable(old, begun)) { RENEWAL_TIMEOUT } else { LOGIN_TIMEOUT };
        // A role's own login is of the same kind, so the call to itself needs a box.
        let loaded = match tokio::time::timeout(limit, Box::pin(self.source.load())).await {
            Ok(loaded) => loaded,
            Err(_) => Err(ProviderError::new(ErrorKind::Unavailable, "the login to AWS did not end in time")),
        };
        // a login that hangs takes longer than its failure is held
        let now = SystemTime::now();
        let next = match (loaded, kept.take().and_then(|k| k.outcome.ok())) {
            (Ok(new), _) => Kept { renew: self.source.renewal(&new, now), outcome: Ok(new) },
            (Err(_), Some(old)) if is_usable(&old, now) => Kept { outcome: Ok(old), renew: Some(now + FAILURE_HELD) },
            (Err(error), _) => Kept { outcome: Err(error), renew: Some(now + FAILURE_HELD) },
        };
        kept.insert(next).outcome.clone()
    }

    /// Drops credentials that an error says are good no longer, unless others have taken their place. Whether another try
    /// may go well.
    pub(super) async fn forget(&self, code: Option<&str>, used: &Credentials) -> bool {
        let is_unknown = is_unknown(code);
        if matches!(self.source, Source::Key(_)) || !(is_unknown || is_expired(code)) {
            return false;
        }
        let mut state = self.state.lock().await;
        if state.kept.as_ref().is_none_or(|kept| kept.outcome.as_ref() != Ok(used)) {
            return true;
        }
        if is_unknown {
            let now = SystemTime::now();
            let is_recent = |at| now.duration_since(at).is_ok_and(|passed| passed < UNKNOWN_HELD);
            if state.unknown.is_some_and(is_recent) {
                return false;
            }
            state.unknown = Some(now);
        }
        state.kept = None;
        true
    }
}

/// Whether credentials may be used for a call now.
fn is_usable(credentials: &Credentials, now: SystemTime) -> bool {
    credentials.expiry().is_none_or(|at| now + USE_UNTIL < at)
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login")
    }
}

impl ProvideCredentials for Login {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.credentials().await.map_err(CredentialsError::provider_error) })
    }
}

impl Source {
    /// When to renew; `None`: never.
    fn renewal(&self, credentials: &Credentials, now: SystemTime) -> Option<SystemTime> {
        let Some(expiry) = credentials.expiry() else {
            return matches!(self, Self::Default { .. }).then(|| now + LOOK_AGAIN);
        };
        let life = expiry.duration_since(now).unwrap_or_default();
        Some(now + (life / 2).max(life.saturating_sub(RENEW_BEFORE)))
    }

    async fn load(&self) -> Result<Credentials, ProviderError> {
        match self {
            Self::Key(credentials) => Ok(credentials.clone()),
            Self::Token { sts, token, session } => {
                let (token, role) = token.load().await?;
                exchange(sts, &token, &role, session).await
            }
            Self::Role { sts, from, role } => assume(sts, from, role).await,
            Self::Default { region, http } => surroundings(region.as_ref(), http.as_ref()).await.map_err(|error| {
                let kind = match error {
                    CredentialsError::ProviderTimedOut(_) | CredentialsError::ProviderError(_) => ErrorKind::Unavailable,
                    _ => ErrorKind::Misconfigured,
                };
                ProviderError::new(
                    kind,
                    "the operator's own environment gives no AWS credentials: set spec.provider.aws.auth, or give the \
                     operator a role (IRSA, EKS Pod Identity, an instance profile)",
                )
            }),
        }
    }
}

/// The SDK's own search, made anew each time: one chain reads a profile's files only once.
async fn surroundings(region: Option<&Region>, http: Option<&SharedHttpClient>) -> Result<Credentials, CredentialsError> {
    let mut config = ProviderConfig::without_region().with_region(region.cloned());
    if let Some(http) = http {
        config = config.with_http_client(http.clone());
    }
    let mut chain = DefaultCredentialsChain::builder().configure(config);
    chain.set_region(region.cloned());
    chain.build().await.provide_credentials().await
}

impl TokenSource {
    /// A new token and the ARN of the role to exchange it for.
    async fn load(&self) -> Result<(SecretBytes, String), ProviderError> {
        match self {
            Self::ServiceAccount { cx, account } => {
                let mut annotations = cx.service_account_annotations(account, JwtAuth::PATH).await?;
                let role = annotations.remove(ROLE_ARN).filter(|r| !r.is_empty()).ok_or_else(|| {
                    misconfigured(format!(
                        "{}: an IAM role must be associated with service account {:?}: set its annotation {ROLE_ARN}",
                        JwtAuth::PATH,
                        account.name
                    ))
                })?;
                let audience = annotations.remove(AUDIENCE).filter(|audience| !audience.is_empty());
                let mut audiences = vec![audience.unwrap_or_else(|| DEFAULT_AUDIENCE.into())];
                audiences.extend(account.audiences.iter().cloned());
                Ok((cx.token(account, audiences, None, JwtAuth::PATH).await?, role))
            }
            Self::File { path, role } => {
                let token = tokio::fs::read(path).await.map_err(|_| {
                    misconfigured("AWS_WEB_IDENTITY_TOKEN_FILE of the operator cannot be read: its token is not mounted")
                })?;
                Ok((SecretBytes::new(token), role.clone()))
            }
        }
    }
}

/// Exchanges a token for a role's credentials.
async fn exchange(
    sts: &aws_sdk_sts::Client,
    token: &SecretBytes,
    role: &str,
    session: &str,
) -> Result<Credentials, ProviderError> {
    let token = token.expose_str().unwrap_or_default().trim();
    let answer =
        sts.assume_role_with_web_identity().role_arn(role).role_session_name(session).web_identity_token(token).send().await;
    let call = Call { action: "sts:AssumeRoleWithWebIdentity", target: role, credentials: &[token] };
    given(&call, answer.map_err(|e| call.error(&e))?.credentials)
}

/// Assumes a role with the credentials of another login.
async fn assume(sts: &aws_sdk_sts::Client, from: &Login, role: &Role) -> Result<Credentials, ProviderError> {
    let own = from.credentials().await?;
    let answer = sts
        .assume_role()
        .role_arn(&role.arn)
        .role_session_name(&role.session)
        .set_external_id(role.external_id.clone())
        .set_tags(Some(role.tags.clone()).filter(|t| !t.is_empty()))
        .set_transitive_tag_keys(Some(role.transitive.clone()).filter(|k| !k.is_empty()))
        .send()
        .await;
    let call = Call { action: "sts:AssumeRole", target: &role.arn, credentials: &secret_parts(&own) };
    match answer {
        Ok(answer) => given(&call, answer.credentials),
        Err(error) => {
            from.forget(error.code(), &own).await;
            Err(call.error(&error))
        }
    }
}

/// The credentials of an answer of STS.
pub(super) fn given(
    call: &Call<'_>,
    credentials: Option<aws_sdk_sts::types::Credentials>,
) -> Result<Credentials, ProviderError> {
    let malformed = |what| ProviderError::new(ErrorKind::Malformed, format!("{} on {:?}: {what}", call.action, call.target));
    let found = credentials.ok_or_else(|| malformed("the answer holds no credentials"))?;
    let expiry = SystemTime::try_from(found.expiration).map_err(|_| malformed("the expiry is not a time"))?;
    Ok(Credentials::new(found.access_key_id, found.secret_access_key, Some(found.session_token), Some(expiry), "sts"))
}

impl Role {
    fn plain(arn: &str, session: &str) -> Self {
        Self { arn: arn.into(), session: session.into(), external_id: None, tags: Vec::new(), transitive: Vec::new() }
    }
}

/// The tags that `role` is assumed with.
fn session_tags(aws: &Aws, cx: &ConnectCx) -> Result<Vec<Tag>, ProviderError> {
    let policy = aws.session_tags_policy.unwrap_or_default();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    if policy == SessionTagsPolicy::None {
        pairs.extend(aws.session_tags.iter().map(|t| (t.key.as_str(), t.value.as_str())));
    } else {
        pairs.extend([
            ("esoNamespace", cx.namespace.as_str()),
            ("esoStoreName", cx.store_name.as_str()),
            ("esoStoreKind", cx.store_kind.as_str()),
        ]);
    }
    if policy == SessionTagsPolicy::Custom {
        let reserved = pairs.iter().find(|(k, _)| aws.custom_session_tags.contains_key(*k));
        if let Some((key, _)) = reserved {
            return Err(misconfigured(format!("spec.provider.aws.customSessionTags must not contain {key}")));
        }
        pairs.extend(aws.custom_session_tags.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    }
    let tag = |(key, value): (&str, &str)| {
        let built = Tag::builder().key(key).value(value).build();
        built.map_err(|_| misconfigured(format!("spec.provider.aws: the session tag {key:?} is not complete")))
    };
    pairs.into_iter().map(tag).collect()
}

/// Name of a role's session, which CloudTrail shows: `keyferry-<namespace>@<store>`, as no name holds the sign, with a hash of the
/// whole in place of what goes beyond AWS's 64 characters.
fn session_name(namespace: &str, store: &str) -> String {
    const LIMIT: usize = 64;
    let full = if namespace.is_empty() { format!("keyferry-{store}") } else { format!("keyferry-{namespace}@{store}") };
    let clean: String =
        full.chars().map(|c| if c.is_ascii_alphanumeric() || "_+=,.@-".contains(c) { c } else { '_' }).collect();
    if clean.len() <= LIMIT {
        return clean;
    }
    let digest = Sha3_256::digest(format!("{namespace}/{store}"));
    let suffix: String = digest.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{}-{suffix}", &clean[..LIMIT - 1 - suffix.len()])
}

#[cfg(test)]
mod tests;
