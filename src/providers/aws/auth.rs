//! The login: where credentials come from, the roles that are assumed with them, and their renewal before they expire.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::types::Tag;
use sha3::{Digest, Sha3_256};
use tokio::sync::Mutex;

use super::client::Sdk;
use super::errors::{Call, is_expired, secret_parts};
use super::{AccessKeyRef, Aws, JwtAuth, SessionTagsPolicy, misconfigured};
use crate::api::refs::ServiceAccountSelector;
use crate::providers::{ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Credentials are renewed this long before they expire, or at half their life where that is shorter.
const RENEW_BEFORE: Duration = Duration::from_secs(300);
/// Credentials are used to this long before they expire, if they cannot be renewed.
const USE_UNTIL: Duration = Duration::from_secs(15);
/// A failed login is not tried again for this long, so that many readers do not become many calls: STS allows few.
const FAILURE_HELD: Duration = Duration::from_secs(5);
/// Longest time for a login, with its objects, tokens and roles' own calls.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(45);

/// Annotations of a ServiceAccount: the role that its token is exchanged for, and the token's audience.
const ROLE_ARN: &str = "eks.amazonaws.com/role-arn";
const AUDIENCE: &str = "eks.amazonaws.com/audience";
const DEFAULT_AUDIENCE: &str = "sts.amazonaws.com";

/// Credentials, kept until shortly before they expire. Those who wait for new ones wait for one login.
pub(super) struct Login {
    source: Source,
    kept: Mutex<Option<Kept>>,
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
    Default(Box<DefaultCredentialsChain>),
}

/// Where a token comes from, and the role that goes with it.
enum TokenSource {
    /// TokenRequest, as the store's author has it.
    ServiceAccount { cx: ConnectCx, account: ServiceAccountSelector },
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
        return token(TokenSource::ServiceAccount { cx: cx.clone(), account });
    }
    if let Some(keys) = auth.and_then(|a| a.secret_ref.as_ref()) {
        return access_key(keys, cx).await.map(Source::Key);
    }
    if let (Some(id), Some(secret)) = (sdk.var("AWS_ACCESS_KEY_ID"), sdk.var("AWS_SECRET_ACCESS_KEY")) {
        return Ok(Source::Key(Credentials::new(
            id,
            secret,
            sdk.var("AWS_SESSION_TOKEN").map(Into::into),
            None,
            "environment",
        )));
    }
    if let (Some(path), Some(role)) = (sdk.var("AWS_WEB_IDENTITY_TOKEN_FILE"), sdk.var("AWS_ROLE_ARN")) {
        return token(TokenSource::File { path: path.into(), role: role.into() });
    }
    let mut config = ProviderConfig::without_region().with_region(sdk.region().cloned());
    if let Some(http) = sdk.http() {
        config = config.with_http_client(http);
    }
    let region = sdk.region().cloned();
    let mut chain = DefaultCredentialsChain::builder().configure(config);
    chain.set_region(region);
    Ok(Source::Default(Box::new(chain.build().await)))
}

/// The access key from the store's Secrets.
async fn access_key(keys: &AccessKeyRef, cx: &ConnectCx) -> Result<Credentials, ProviderError> {
    let missing = |path: &str| misconfigured(format!("{path} is missing"));
    let id = keys.access_key_id.as_ref().ok_or_else(|| missing(AccessKeyRef::ACCESS_KEY_ID))?;
    let secret = keys.secret_access_key.as_ref().ok_or_else(|| missing(AccessKeyRef::SECRET_ACCESS_KEY))?;
    let id = cx.secret_text(id, AccessKeyRef::ACCESS_KEY_ID).await?;
    let secret = cx.secret_text(secret, AccessKeyRef::SECRET_ACCESS_KEY).await?;
    let token = match &keys.session_token {
        Some(selector) => Some(cx.secret_text(selector, AccessKeyRef::SESSION_TOKEN).await?),
        None => None,
    };
    let text = |bytes: &SecretBytes| bytes.expose_str().unwrap_or_default().to_owned();
    Ok(Credentials::new(text(&id), text(&secret), token.as_ref().map(text), None, "store"))
}

impl Login {
    fn new(source: Source) -> Arc<Self> {
        Arc::new(Self { source, kept: Mutex::new(None) })
    }

    /// Credentials that are good for a call now.
    ///
    /// # Errors
    /// Why the login failed.
    pub(super) async fn credentials(&self) -> Result<Credentials, ProviderError> {
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        if let Some(Kept { outcome, renew }) = kept.as_ref()
            && renew.is_none_or(|at| now < at)
        {
            return outcome.clone();
        }
        // A role's own login is of the same kind, so the call to itself needs a box.
        let loaded = match tokio::time::timeout(LOGIN_TIMEOUT, Box::pin(self.source.load())).await {
            Ok(loaded) => loaded,
            Err(_) => Err(ProviderError::new(ErrorKind::Unavailable, "the login to AWS did not end in time")),
        };
        let next = match (loaded, kept.take().and_then(|k| k.outcome.ok())) {
            (Ok(new), _) => Kept { renew: renewal(&new, now), outcome: Ok(new) },
            (Err(_), Some(old)) if old.expiry().is_some_and(|at| now + USE_UNTIL < at) => {
                Kept { outcome: Ok(old), renew: Some(now + FAILURE_HELD) }
            }
            (Err(error), _) => Kept { outcome: Err(error), renew: Some(now + FAILURE_HELD) },
        };
        kept.insert(next).outcome.clone()
    }

    /// Drops the credentials: AWS says that they have expired.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }
}

/// When to renew; `None`: never.
fn renewal(credentials: &Credentials, now: SystemTime) -> Option<SystemTime> {
    let expiry = credentials.expiry()?;
    let life = expiry.duration_since(now).unwrap_or_default();
    Some(now + (life / 2).max(life.saturating_sub(RENEW_BEFORE)))
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
    async fn load(&self) -> Result<Credentials, ProviderError> {
        match self {
            Self::Key(credentials) => Ok(credentials.clone()),
            Self::Token { sts, token, session } => {
                let (token, role) = token.load().await?;
                exchange(sts, &token, &role, session).await
            }
            Self::Role { sts, from, role } => assume(sts, from, role).await,
            Self::Default(chain) => chain.provide_credentials().await.map_err(|error| {
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
                let mut audiences = vec![annotations.remove(AUDIENCE).unwrap_or_else(|| DEFAULT_AUDIENCE.into())];
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
            if is_expired(aws_smithy_types::error::metadata::ProvideErrorMetadata::code(&error)) {
                from.forget().await;
            }
            Err(call.error(&error))
        }
    }
}

/// The credentials of an answer of STS.
fn given(call: &Call<'_>, credentials: Option<aws_sdk_sts::types::Credentials>) -> Result<Credentials, ProviderError> {
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

/// Name of a role's session, which CloudTrail shows: `keyferry-<namespace>-<store>`, with a hash of the whole in place of
/// what goes beyond AWS's 64 characters.
fn session_name(namespace: &str, store: &str) -> String {
    const LIMIT: usize = 64;
    let parts = ["keyferry", namespace, store];
    let full = parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join("-");
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
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::super::testing::{Answer, KEY_ID, Request, Server, VALUE, call_cx, object, store, want};
    use super::super::{Auth, SessionTag};
    use super::*;
    use crate::api::refs::SecretKeySelector;
    use crate::api::secret_store::StoreKind;
    use crate::providers::{Provider, Session};

    const ROLE: &str = "arn:aws:iam::111122223333:role/reader";
    const HOUR: Duration = Duration::from_secs(3600);

    /// The Kubernetes API, STS and Secrets Manager in one. Each role gives keys that are named after it.
    fn world(request: &Request) -> Answer {
        let role = |r: &Request| r.form("RoleArn").unwrap().rsplit('/').next().unwrap().to_owned();
        let annotations = BTreeMap::from([(ROLE_ARN, ROLE), (AUDIENCE, "audience-x")]);
        match request.action().as_str() {
            "/api/v1/namespaces/team-a/serviceaccounts/app" => object("ServiceAccount", &annotations, &json!({})),
            "/api/v1/namespaces/team-a/serviceaccounts/app/token" => object(
                "TokenRequest",
                &BTreeMap::new(),
                &json!({"status": {"token": "jwt.of.app", "expirationTimestamp": "2030-01-01T00:00:00Z"}, "spec": {"audiences": []}}),
            ),
            "/api/v1/namespaces/team-a/serviceaccounts/bare" => object("ServiceAccount", &BTreeMap::new(), &json!({})),
            "/api/v1/namespaces/team-a/secrets/key" => object(
                "Secret",
                &BTreeMap::new(),
                &json!({"data": {"id": "QUtJQVNUT1JFCg==", "secret": "c2VjcmV0", "token": "dG9rZW4="}}),
            ),
            "AssumeRoleWithWebIdentity" => Answer::credentials("AssumeRoleWithWebIdentity", &role(request), HOUR),
            "AssumeRole" => Answer::credentials("AssumeRole", &role(request), HOUR),
            "GetSecretValue" => Answer::json(&json!({"SecretString": VALUE})),
            _ => {
                Answer::raw(404, r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#)
            }
        }
    }

    fn jwt(account: &str) -> Option<Auth> {
        let service_account_ref =
            Some(ServiceAccountSelector { name: account.into(), namespace: None, audiences: vec!["more".into()] });
        Some(Auth { jwt: Some(JwtAuth { service_account_ref }), secret_ref: None })
    }

    fn keys(name: &str, with_token: bool) -> Option<Auth> {
        let selector =
            |key: &str| Some(SecretKeySelector { name: Some(name.into()), namespace: None, key: Some(key.into()) });
        let session_token = if with_token { selector("token") } else { None };
        let secret_ref =
            AccessKeyRef { access_key_id: selector("id"), secret_access_key: selector("secret"), session_token };
        Some(Auth { secret_ref: Some(secret_ref), jwt: None })
    }

    async fn read(session: &dyn Session) -> Result<(), ProviderError> {
        session.get(&[want("db")], &call_cx()).await.remove(0).map(|f| assert_eq!(f.bytes.expose_str(), Some(VALUE)))
    }

    /// The access key id that a request was signed with.
    fn signer(request: &Request) -> String {
        let header = request.header("authorization");
        header.split_once("Credential=").map_or("", |(_, rest)| rest.split('/').next().unwrap()).to_owned()
    }

    #[tokio::test]
    async fn a_service_accounts_token_becomes_a_role() {
        let server = Server::start(world).await;
        let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
        read(&*session).await.unwrap();
        read(&*session).await.unwrap();
        let account = "/api/v1/namespaces/team-a/serviceaccounts/app";
        let token = format!("{account}/token");
        let once = [account, &token, "AssumeRoleWithWebIdentity", "GetSecretValue", "GetSecretValue"];
        assert_eq!(server.actions(), once);
        let seen = server.seen();
        assert_eq!(seen[1].json()["spec"]["audiences"], json!(["audience-x", "more"]));
        assert!(seen[1].json()["spec"]["expirationSeconds"].is_null());
        let sent = |name| seen[2].form(name).unwrap();
        assert_eq!((sent("RoleArn").as_str(), sent("WebIdentityToken").as_str()), (ROLE, "jwt.of.app"));
        assert_eq!(sent("RoleSessionName"), "keyferry-team-a-aws");
        assert_eq!(signer(&seen[2]), "", "the exchange needs no credentials");
        assert_eq!((signer(&seen[3]).as_str(), seen[3].header("x-amz-security-token")), ("reader", "reader-token"));
    }

    #[tokio::test]
    async fn roles_are_assumed_one_after_the_other() {
        let server = Server::start(world).await;
        let aws = Aws {
            additional_roles: vec!["arn:aws:iam::111122223333:role/one".into(), "arn:aws:iam::111122223333:role/two".into()],
            role: Some("arn:aws:iam::111122223333:role/last".into()),
            external_id: Some("ext-1".into()),
            session_tags: vec![SessionTag { key: "team".into(), value: "a".into() }],
            transitive_tag_keys: vec!["team".into()],
            ..store()
        };
        read(&*server.connect(aws).await.unwrap()).await.unwrap();
        let seen = server.seen();
        assert_eq!(server.actions(), ["AssumeRole", "AssumeRole", "AssumeRole", "GetSecretValue"]);
        assert_eq!(seen.iter().map(signer).collect::<Vec<_>>(), [KEY_ID, "one", "two", "last"]);
        for plain in &seen[..2] {
            assert_eq!((plain.form("ExternalId"), plain.form("Tags.member.1.Key")), (None, None));
        }
        let sent = |name| seen[2].form(name).unwrap();
        assert_eq!(sent("ExternalId"), "ext-1");
        assert_eq!((sent("Tags.member.1.Key").as_str(), sent("Tags.member.1.Value").as_str()), ("team", "a"));
        assert_eq!(sent("TransitiveTagKeys.member.1"), "team");
    }

    #[tokio::test]
    async fn session_tags_by_policy() {
        let server = Server::start(world).await;
        let own = vec![SessionTag { key: "team".into(), value: "a".into() }];
        let custom = BTreeMap::from([("cost".to_owned(), "7".to_owned())]);
        let eso = [("esoNamespace", "team-a"), ("esoStoreName", "aws"), ("esoStoreKind", "SecretStore")];
        let cases = [
            (None, vec![("team", "a")]),
            (Some(SessionTagsPolicy::None), vec![("team", "a")]),
            (Some(SessionTagsPolicy::Simple), eso.to_vec()),
            (Some(SessionTagsPolicy::Custom), eso.into_iter().chain([("cost", "7")]).collect()),
        ];
        for (policy, expected) in cases {
            let aws = Aws {
                role: Some(ROLE.into()),
                session_tags: own.clone(),
                session_tags_policy: policy,
                custom_session_tags: custom.clone(),
                ..store()
            };
            let tags = session_tags(&aws, &server.cx()).unwrap();
            assert_eq!(tags.iter().map(|t| (t.key(), t.value())).collect::<Vec<_>>(), expected, "{policy:?}");
        }
        let stolen = Aws {
            session_tags_policy: Some(SessionTagsPolicy::Custom),
            custom_session_tags: BTreeMap::from([("esoNamespace".to_owned(), "team-b".to_owned())]),
            ..store()
        };
        assert!(session_tags(&stolen, &server.cx()).unwrap_err().detail.contains("must not contain esoNamespace"));
    }

    #[tokio::test]
    async fn an_access_key_of_a_secret() {
        let server = Server::start(world).await;
        for (with_token, token) in [(true, "token"), (false, "")] {
            let session = server.connect(Aws { auth: keys("key", with_token), ..store() }).await.unwrap();
            read(&*session).await.unwrap();
            let last = server.seen().pop().unwrap();
            assert_eq!(
                (signer(&last).as_str(), last.header("x-amz-security-token")),
                ("AKIASTORE", token),
                "white space goes"
            );
        }
    }

    #[tokio::test]
    async fn logins_that_cannot_work_say_why() {
        let server = Server::start(world).await;
        let mut elsewhere = jwt("app");
        elsewhere.as_mut().unwrap().jwt.as_mut().unwrap().service_account_ref.as_mut().unwrap().namespace =
            Some("team-b".into());
        let cases = [
            (jwt("bare"), "an IAM role must be associated with service account \"bare\""),
            (jwt("nobody"), "ServiceAccount team-a/nobody does not exist"),
            (elsewhere, "a SecretStore reads its own namespace only"),
            (keys("nothing", false), "Secret team-a/nothing does not exist"),
        ];
        for (auth, text) in cases {
            let error = match server.connect(Aws { auth, ..store() }).await {
                Ok(session) => session.validate(&call_cx()).await.unwrap_err(),
                Err(error) => error,
            };
            assert_eq!(error.kind, ErrorKind::Misconfigured);
            assert!(error.detail.contains(text) && error.detail.starts_with("spec.provider.aws.auth."), "{error}");
        }
    }

    #[tokio::test]
    async fn a_refused_login_is_one_call_for_all_and_names_the_role() {
        let server = Server::start(|request: &Request| match request.action().as_str() {
            "AssumeRoleWithWebIdentity" => {
                Answer::sts_error(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity jwt.of.app")
            }
            _ => world(request),
        })
        .await;
        let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
        let errors = futures::future::join_all((0..20).map(|_| read(&*session))).await;
        for error in errors.into_iter().map(Result::unwrap_err) {
            assert_eq!(error.kind, ErrorKind::Denied);
            assert_eq!(
                error.detail,
                format!(
                    "sts:AssumeRoleWithWebIdentity on {ROLE:?}: AccessDenied: Not authorized to perform \
                     sts:AssumeRoleWithWebIdentity <redacted>"
                )
            );
        }
        assert_eq!(server.actions().iter().filter(|a| *a == "AssumeRoleWithWebIdentity").count(), 1);
        assert!(!server.actions().contains(&"GetSecretValue".to_owned()));
    }

    #[tokio::test]
    async fn classes_of_sts_errors() {
        let cases = [
            (403, "AccessDenied", ErrorKind::Denied),
            (400, "InvalidIdentityToken", ErrorKind::Denied),
            (400, "ExpiredTokenException", ErrorKind::Denied),
            (400, "Throttling", ErrorKind::Throttled),
            (400, "IDPCommunicationError", ErrorKind::Unavailable),
            (500, "InternalFailure", ErrorKind::Unavailable),
            (400, "PackedPolicyTooLarge", ErrorKind::Misconfigured),
            (403, "RegionDisabledException", ErrorKind::Denied),
        ];
        for (status, code, kind) in cases {
            let answer = Answer::sts_error(status, code, "jwt.of.app");
            let server = Server::start(move |request: &Request| match request.action().as_str() {
                "AssumeRoleWithWebIdentity" => answer.clone(),
                _ => world(request),
            })
            .await;
            let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
            let error = session.validate(&call_cx()).await.unwrap_err();
            assert_eq!(error.kind, kind, "{code}: {error}");
            assert!(error.detail.contains(code) && !error.detail.contains("jwt.of.app"), "{error}");
        }
    }

    #[tokio::test]
    async fn credentials_are_renewed_before_they_expire_and_dropped_when_aws_says_so() {
        let server = Server::start(|request: &Request| match request.action().as_str() {
            "AssumeRoleWithWebIdentity" => Answer::credentials("AssumeRoleWithWebIdentity", "short", Duration::from_secs(2)),
            _ => world(request),
        })
        .await;
        let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
        read(&*session).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        read(&*session).await.unwrap();
        let logins = |server: &Server| server.actions().iter().filter(|a| *a == "AssumeRoleWithWebIdentity").count();
        assert_eq!(logins(&server), 2);

        let server = Server::start(|request: &Request| match request.action().as_str() {
            "GetSecretValue" => Answer::error(400, "ExpiredTokenException"),
            _ => world(request),
        })
        .await;
        let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
        for _ in 0..2 {
            assert_eq!(read(&*session).await.unwrap_err().kind, ErrorKind::Denied);
        }
        assert_eq!(logins(&server), 2);
    }

    #[tokio::test]
    async fn the_token_file_of_the_operators_own_pod() {
        let server = Server::start(world).await;
        let file = std::env::temp_dir().join(format!("keyferry-token-{}", std::process::id()));
        std::fs::write(&file, "jwt.of.operator\n").unwrap();
        let mut cx = server.cx();
        let mut env = (*cx.env).clone();
        env.retain(|name, _| name.ends_with("_ENDPOINT"));
        env.insert("AWS_WEB_IDENTITY_TOKEN_FILE".into(), file.to_str().unwrap().into());
        env.insert("AWS_ROLE_ARN".into(), ROLE.into());
        cx.env = Arc::new(env);
        read(&*store().connect(&cx).await.unwrap()).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(server.actions(), ["AssumeRoleWithWebIdentity", "GetSecretValue"]);
        assert_eq!(server.seen()[0].form("WebIdentityToken").unwrap(), "jwt.of.operator");
        let error = store().connect(&cx).await.unwrap().validate(&call_cx()).await.unwrap_err();
        assert!(error.detail.contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{error}");
    }

    #[test]
    fn when_to_renew() {
        let now = SystemTime::now();
        let due = |life: u64| {
            let credentials = Credentials::new("a", "b", None, Some(now + Duration::from_secs(life)), "test");
            renewal(&credentials, now).unwrap().duration_since(now).unwrap().as_secs()
        };
        assert_eq!([due(3600), due(900), due(400), due(0)], [3300, 600, 200, 0]);
        assert_eq!(renewal(&Credentials::new("a", "b", None, None, "test"), now), None);
    }

    #[test]
    fn session_names_fit_aws() {
        assert_eq!(session_name("team-a", "aws"), "keyferry-team-a-aws");
        assert_eq!(session_name("", "shared"), "keyferry-shared");
        let long = session_name(&"n".repeat(60), &"s".repeat(200));
        assert_eq!(long, session_name(&"n".repeat(60), &"s".repeat(200)));
        assert_ne!(long, session_name(&"n".repeat(60), &"s".repeat(201)));
        assert_eq!((long.len(), long.starts_with("keyferry-nnn")), (64, true));
    }

    #[test]
    fn who_needs_a_login_of_its_own() {
        let tagged = |policy| Aws { role: Some(ROLE.into()), session_tags_policy: Some(policy), ..store() };
        let cases = [
            (store(), false),
            (Aws { auth: jwt("app"), ..store() }, true),
            (tagged(SessionTagsPolicy::None), false),
            (tagged(SessionTagsPolicy::Simple), true),
            (Aws { role: None, ..tagged(SessionTagsPolicy::Simple) }, false),
        ];
        for (aws, expected) in cases {
            assert_eq!(aws.is_referent(), expected, "{aws:?}");
            assert!(aws.validate(StoreKind::ClusterSecretStore).is_ok());
        }
    }
}
