//! What AWS gives out for a while: logins of its container registries, and session tokens.
//!
//! The registries are asked in their own JSON protocol: of two large services, one call each is all that is needed.

use std::time::SystemTime;

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse, OrchestratorError};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::client::Sdk;
use super::errors::{Call, secret_parts};
use super::{Aws, auth, check_login, check_region, client, misconfigured};
use crate::api::generators::{EcrAuthorizationTokenSpec, EcrScope, StsSessionTokenSpec};
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// A login of a container registry.
#[derive(Clone, Debug)]
pub struct RegistryLogin {
    /// Name of the user.
    pub username: SecretBytes,
    /// The password.
    pub password: SecretBytes,
    /// Address of the registry; a public one has none.
    pub endpoint: Option<String>,
    /// When it expires, in seconds since 1970.
    pub expires_at: i64,
}

/// Temporary credentials.
#[derive(Clone, Debug)]
pub struct SessionToken {
    /// Id of the access key.
    pub access_key_id: SecretBytes,
    /// The access key.
    pub secret_access_key: SecretBytes,
    /// What goes with it.
    pub session_token: SecretBytes,
    /// When they expire, in seconds since 1970.
    pub expiration: i64,
}

/// A call of a registry's service.
struct Service {
    /// IAM's name of the action.
    action: &'static str,
    /// What the signature is for.
    name: &'static str,
    /// `X-Amz-Target`
    target: &'static str,
    region: String,
    url: String,
}

/// A login of the account's registries in a region, or of the public one.
///
/// # Errors
/// What is wrong with the spec, or what AWS said.
pub async fn registry_login(
    spec: &EcrAuthorizationTokenSpec,
    cx: &ConnectCx,
    caller: &CallCx,
) -> Result<RegistryLogin, ProviderError> {
    let scope = spec.scope();
    let login = async {
        let (sdk, credentials) = login(&spec.region, spec.auth.as_ref(), spec.role.as_ref(), cx).await?;
        let service = match scope {
            EcrScope::Private => Service {
                action: "ecr:GetAuthorizationToken",
                name: "ecr",
                target: "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken",
                region: spec.region.clone(),
                url: sdk.service_url(&["AWS_ECR_ENDPOINT", "AWS_ENDPOINT_URL_ECR"], "api.ecr", &spec.region)?,
            },
            EcrScope::Public => Service {
                action: "ecr-public:GetAuthorizationToken",
                name: "ecr-public",
                target: "SpencerFrontendService.GetAuthorizationToken",
                // the one region that logs in to the public registry
                region: PUBLIC_REGION.into(),
                url: sdk.service_url(
                    &["AWS_ECR_PUBLIC_ENDPOINT", "AWS_ENDPOINT_URL_ECR_PUBLIC"],
                    "api.ecr-public",
                    PUBLIC_REGION,
                )?,
            },
        };
        service.ask(&sdk, &credentials, caller).await
    };
    login.await.map_err(in_generator)
}

const PUBLIC_REGION: &str = "us-east-1";

/// Temporary credentials of the user that is logged in.
///
/// # Errors
/// What is wrong with the spec, or what AWS said.
pub async fn session_token(
    spec: &StsSessionTokenSpec,
    cx: &ConnectCx,
    caller: &CallCx,
) -> Result<SessionToken, ProviderError> {
    if spec.auth.as_ref().is_some_and(|auth| auth.jwt.is_some()) {
        return Err(misconfigured(
            "spec.auth.jwt cannot be used: STS gives session tokens to users only, not to roles; use spec.auth.secretRef",
        ));
    }
    let token = async {
        let (sdk, credentials) = login(&spec.region, spec.auth.as_ref(), spec.role.as_ref(), cx).await?;
        let asked = spec.request_parameters.clone().unwrap_or_default();
        let text = |given: Option<String>| given.filter(|text| !text.is_empty());
        let answer = sdk
            .sts(Some(aws_credential_types::provider::SharedCredentialsProvider::new(credentials.clone())))?
            .get_session_token()
            .set_duration_seconds(asked.session_duration.filter(|seconds| *seconds != 0))
            .set_serial_number(text(asked.serial_number))
            .set_token_code(text(asked.token_code))
            .customize()
            .interceptor(client::Mark::new(caller))
            .send()
            .await;
        let parts = secret_parts(&credentials);
        let call = Call { action: "sts:GetSessionToken", target: "", credentials: &parts };
        let given = auth::given(&call, answer.map_err(|error| call.error(&error))?.credentials)?;
        Ok(SessionToken {
            access_key_id: SecretBytes::from(given.access_key_id()),
            secret_access_key: SecretBytes::from(given.secret_access_key()),
            session_token: SecretBytes::from(given.session_token().unwrap_or_default()),
            expiration: seconds(given.expiry()),
        })
    };
    token.await.map_err(in_generator)
}

fn seconds(time: Option<SystemTime>) -> i64 {
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// The login of a generator: as that of a store with the same words.
async fn login(
    region: &str,
    auth: Option<&super::Auth>,
    role: Option<&String>,
    cx: &ConnectCx,
) -> Result<(Sdk, Credentials), ProviderError> {
    let aws = Aws { region: region.to_owned(), auth: auth.cloned(), role: role.cloned(), ..Aws::default() };
    check_region(&aws.region)?;
    check_login(&aws)?;
    let sdk = client::Sdk::new(&aws, cx).await?;
    let credentials = auth::login(&aws, cx, &sdk).await?.credentials().await?;
    Ok((sdk, credentials))
}

/// A generator has the fields of a store's provider one level higher.
fn in_generator(mut error: ProviderError) -> ProviderError {
    error.detail = error.detail.replace("spec.provider.aws.", "spec.");
    error
}

impl Service {
    async fn ask(&self, sdk: &Sdk, credentials: &Credentials, caller: &CallCx) -> Result<RegistryLogin, ProviderError> {
        let parts = secret_parts(credentials);
        let call = Call { action: self.action, target: "", credentials: &parts };
        let request = self.signed(credentials).map_err(|_| {
            ProviderError::new(
                ErrorKind::Misconfigured,
                format!("{}: the request could not be built or signed", self.action),
            )
        })?;
        let operation = Operation::builder()
            .service_name(self.name)
            .operation_name("GetAuthorizationToken")
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(&self.url)
            .no_auth()
            .no_retry()
            .interceptor(client::Mark::new(caller))
            .serializer(move |()| copy(&request))
            .deserializer(read);
        let operation = match sdk.http() {
            Some(http) => operation.http_client(http),
            None => operation,
        };
        let late = || ProviderError::new(ErrorKind::Unavailable, format!("{}: AWS did not answer in time", self.action));
        let answer = tokio::time::timeout(client::OPERATION_TIMEOUT, operation.build().invoke(())).await;
        answer.map_err(|_| late())?.map_err(|error| call.error(&error))
    }

    fn signed(&self, credentials: &Credentials) -> Result<http::Request<&'static str>, BoxError> {
        let url = format!("{}/", self.url.trim_end_matches('/'));
        let mut request = http::Request::post(&url)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", self.target)
            .header("user-agent", concat!("keyferry/", env!("CARGO_PKG_VERSION")))
            .body("{}")?;
        let identity = credentials.clone().into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.name)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        // the user agent is not signed: the cause of the call is put behind it
        let named = request.headers().iter().filter(|(name, _)| *name != http::header::USER_AGENT);
        let headers = named.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new("POST", &url, headers, SignableBody::Bytes(b"{}"))?;
        let (instructions, _) = sign(signable, &parameters)?.into_parts();
        instructions.apply_to_request_http1x(&mut request);
        Ok(request)
    }
}

/// The request as the SDK's client takes it; the endpoint is put in front of its path.
fn copy(request: &http::Request<&'static str>) -> Result<HttpRequest, BoxError> {
    let mut copy = http::Request::post("/").body(SdkBody::from(*request.body()))?;
    *copy.headers_mut() = request.headers().clone();
    Ok(HttpRequest::try_from(copy)?)
}

/// An answer of either registry: a list of logins, or one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    authorization_data: OneOrMany,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Many(Vec<AuthorizationData>),
    One(AuthorizationData),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AuthorizationData {
    authorization_token: String,
    expires_at: f64,
    proxy_endpoint: Option<String>,
}

/// What AWS says of an error in this protocol.
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(rename = "__type", default)]
    code: String,
    #[serde(alias = "Message", default)]
    message: String,
}

fn read(response: &HttpResponse) -> Result<RegistryLogin, OrchestratorError<ErrorMetadata>> {
    let body = response.body().bytes().unwrap_or_default();
    if response.status().is_success() {
        return parse(body).ok_or_else(|| OrchestratorError::operation(ErrorMetadata::builder().build()));
    }
    let refusal: Refusal = serde_json::from_slice(body).unwrap_or_default();
    let code = response.headers().get("x-amzn-errortype").unwrap_or(&refusal.code);
    // `namespace#Code:url`
    let code = code.rsplit('#').next().and_then(|code| code.split(':').next()).unwrap_or_default();
    let mut error = ErrorMetadata::builder().message(&refusal.message);
    if !code.is_empty() {
        error = error.code(code);
    }
    Err(OrchestratorError::operation(error.build()))
}

fn parse(body: &[u8]) -> Option<RegistryLogin> {
    let data = match serde_json::from_slice::<Answer>(body).ok()?.authorization_data {
        OneOrMany::One(data) => data,
        OneOrMany::Many(all) => all.into_iter().next()?,
    };
    let token = Zeroizing::new(data.authorization_token);
    let plain = Zeroizing::new(STANDARD.decode(token.as_bytes()).ok()?);
    let (username, password) = std::str::from_utf8(&plain).ok()?.split_once(':')?;
    #[allow(clippy::cast_possible_truncation)] // a time in seconds
    let expires_at = data.expires_at as i64;
    Some(RegistryLogin { username: username.into(), password: password.into(), endpoint: data.proxy_endpoint, expires_at })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::super::testing::{Answer as Said, KEY_ID, SECRET_KEY, SESSION_TOKEN, Server, call_cx};
    use super::*;

    fn data() -> Value {
        let token = STANDARD.encode("AWS:canary-password");
        json!({ "authorizationToken": token, "expiresAt": 1_900_000_000.75, "proxyEndpoint": "https://1.dkr.ecr" })
    }

    fn cx(server: &Server) -> ConnectCx {
        let mut cx = server.cx();
        let mut env = (*cx.env).clone();
        for name in ["AWS_ECR_ENDPOINT", "AWS_ECR_PUBLIC_ENDPOINT"] {
            env.insert(name.into(), server.url().into());
        }
        cx.env = Arc::new(env);
        cx
    }

    fn ecr(more: Value) -> EcrAuthorizationTokenSpec {
        let mut spec = json!({ "region": "eu-west-1" });
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[tokio::test]
    async fn a_private_registry() {
        let server = Server::start(|_| Said::json(&json!({ "authorizationData": [data()] }))).await;
        let login = registry_login(&ecr(json!({})), &cx(&server), &call_cx()).await.unwrap();
        assert_eq!((login.username.expose(), login.password.expose()), (&b"AWS"[..], &b"canary-password"[..]));
        assert_eq!((login.endpoint.as_deref(), login.expires_at), (Some("https://1.dkr.ecr"), 1_900_000_000));
        assert!(!format!("{login:?}").contains("canary"));
        let seen = server.seen();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].header("x-amz-target"), "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken");
        let scope = format!("Credential={KEY_ID}/");
        let signed = seen[0].header("authorization");
        assert!(signed.contains(&scope) && signed.contains("/eu-west-1/ecr/aws4_request"), "{signed}");
        assert_eq!(seen[0].header("x-amz-security-token"), SESSION_TOKEN);
        assert_eq!(seen[0].body, "{}");
        assert!(seen[0].header("user-agent").contains("keyferry-cause/ExternalSecret/team-a/app"));
    }

    #[tokio::test]
    async fn the_public_registry() {
        let server = Server::start(|_| Said::json(&json!({ "authorizationData": data() }))).await;
        let login = registry_login(&ecr(json!({ "scope": "public" })), &cx(&server), &call_cx()).await.unwrap();
        assert_eq!(login.username.expose(), b"AWS");
        let seen = server.seen();
        assert_eq!(seen[0].header("x-amz-target"), "SpencerFrontendService.GetAuthorizationToken");
        assert!(seen[0].header("authorization").contains("/us-east-1/ecr-public/aws4_request"));
    }

    #[tokio::test]
    async fn errors_are_in_our_words() {
        let table = [
            (Said::error(400, "com.amazon.coral#AccessDeniedException:http"), ErrorKind::Denied),
            (Said::error(400, "ThrottlingException"), ErrorKind::Throttled),
            (Said::raw(503, "<html>canary</html>"), ErrorKind::Unavailable),
            (Said::raw(200, "{\"authorizationData\":[]}"), ErrorKind::Malformed),
            (Said::raw(200, "canary"), ErrorKind::Malformed),
            (
                Said::json(&json!({ "authorizationData": [{ "authorizationToken": "canary", "expiresAt": 1 }] })),
                ErrorKind::Malformed,
            ),
        ];
        for (said, kind) in table {
            let answer = said.clone();
            let server = Server::start(move |_| answer.clone()).await;
            let error = registry_login(&ecr(json!({})), &cx(&server), &call_cx()).await.unwrap_err();
            assert_eq!(error.kind, kind, "{said:?}: {error}");
            assert!(error.detail.starts_with("ecr:GetAuthorizationToken: "), "{error}");
            for canary in ["canary", KEY_ID, SECRET_KEY, SESSION_TOKEN] {
                assert!(!error.detail.contains(canary), "{error}");
            }
        }
    }

    #[tokio::test]
    async fn fields_are_named_as_the_generator_has_them() {
        let server = Server::start(|_| Said::raw(500, "")).await;
        let named = |spec: Value| {
            let (spec, cx) = (ecr(spec), cx(&server));
            async move { registry_login(&spec, &cx, &call_cx()).await.unwrap_err().detail }
        };
        let bad = named(json!({ "region": "not a region" })).await;
        assert_eq!(bad, "spec.region: \"not a region\" is not a region: give one such as eu-west-1");
        assert_eq!(
            named(json!({ "auth": { "secretRef": {} } })).await,
            "spec.auth.secretRef.accessKeyIDSecretRef is missing"
        );
        assert!(server.seen().is_empty());
    }

    #[tokio::test]
    async fn a_session_token_with_what_is_asked_for() {
        let server = Server::start(|request| {
            let life = std::time::Duration::from_secs(900);
            match request.form("Action").as_deref() {
                Some(action) => Said::credentials(action, "ASIAGIVEN", life),
                None => Said::raw(500, ""),
            }
        })
        .await;
        let spec = json!({ "region": "eu-west-1",
            "requestParameters": { "sessionDuration": 900, "serialNumber": "mfa", "tokenCode": "123456" } });
        let spec: StsSessionTokenSpec = serde_json::from_value(spec).unwrap();
        let given = session_token(&spec, &cx(&server), &call_cx()).await.unwrap();
        assert_eq!(given.access_key_id.expose(), b"ASIAGIVEN");
        assert_eq!(given.session_token.expose(), b"ASIAGIVEN-token");
        let now = seconds(Some(SystemTime::now()));
        assert!((890..=901).contains(&(given.expiration - now)), "{} {now}", given.expiration);
        let seen = server.seen();
        assert_eq!(server.actions(), ["GetSessionToken"]);
        let form = |name| seen[0].form(name);
        assert_eq!(form("DurationSeconds").as_deref(), Some("900"));
        assert_eq!((form("SerialNumber").as_deref(), form("TokenCode").as_deref()), (Some("mfa"), Some("123456")));
        let jwt: StsSessionTokenSpec =
            serde_json::from_value(json!({ "region": "eu-west-1", "auth": { "jwt": {} } })).unwrap();
        assert!(
            session_token(&jwt, &cx(&server), &call_cx())
                .await
                .unwrap_err()
                .detail
                .starts_with("spec.auth.jwt cannot be used")
        );
    }
}
