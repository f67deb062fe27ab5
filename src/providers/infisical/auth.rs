//! The ways to log in to Infisical: each is one request that is answered with an access token.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method as Verb, StatusCode};
use serde::Deserialize;

use super::{Auth, Infisical, misconfigured};
use crate::api::refs::SecretKeySelector;
use crate::outbound::{Answer, Call, HttpClient, secret};
use crate::providers::rest::{Body, Granted, Login};
use crate::providers::{ConnectCx, ErrorKind, ProviderError, azure, gcp};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "login to Infisical";
/// Token that every Pod has.
const OWN_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Where tokens are mounted into Pods: no other file of the operator's is sent anywhere.
const TOKENS: &str = "/var/run/secrets";

/// What a login answers.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedIn {
    #[serde(deserialize_with = "secret")]
    access_token: SecretBytes,
    #[serde(default)]
    expires_in: u64,
}

/// What Infisical says in place of an answer; only the class is looked at.
#[derive(Deserialize)]
pub(super) struct Refused {
    /// Class of the error.
    #[serde(default)]
    pub error: String,
}

/// A way to log in: its name in the block, that of its endpoint, and where its credentials are.
pub(super) struct Way<'a> {
    kind: Kind,
    block: &'static str,
    selectors: Vec<(&'static str, &'a SecretKeySelector)>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// What the Secrets hold is what is sent, under the names in the list.
    Sent(&'static str),
    /// The token itself is kept.
    Token,
    Kubernetes,
    Azure,
    GoogleMachine,
    NotServed(&'static str),
}

impl<'a> Way<'a> {
    /// The Secrets' keys that it reads, each with its field.
    pub(super) fn selectors(self) -> Vec<(&'static str, &'a SecretKeySelector)> {
        self.selectors
    }
}

impl Auth {
    /// The way that counts: the first one that is set, in ESO's order.
    pub(super) fn method(&self) -> Result<Way<'_>, ProviderError> {
        let way = |kind, block, selectors| Ok(Way { kind, block, selectors });
        let by_identity = |id| vec![("identityId", id)];
        if let Some(auth) = &self.universal_auth_credentials {
            let selectors = vec![("clientId", &auth.client_id), ("clientSecret", &auth.client_secret)];
            way(Kind::Sent("universal-auth"), "universalAuthCredentials", selectors)
        } else if let Some(auth) = &self.azure_auth_credentials {
            let mut selectors = by_identity(&auth.identity_id);
            selectors.extend(auth.resource.as_ref().filter(|r| r.name.is_some()).map(|resource| ("resource", resource)));
            way(Kind::Azure, "azureAuthCredentials", selectors)
        } else if let Some(auth) = &self.gcp_id_token_auth_credentials {
            way(Kind::GoogleMachine, "gcpIdTokenAuthCredentials", by_identity(&auth.identity_id))
        } else if let Some(auth) = &self.gcp_iam_auth_credentials {
            let text = "it reads a key out of the operator's own files: use jwtAuthCredentials or universalAuthCredentials";
            way(Kind::NotServed(text), "gcpIamAuthCredentials", by_identity(&auth.identity_id))
        } else if let Some(auth) = &self.jwt_auth_credentials {
            let selectors = vec![("identityId", &auth.identity_id), ("jwt", &auth.jwt)];
            way(Kind::Sent("jwt-auth"), "jwtAuthCredentials", selectors)
        } else if let Some(auth) = &self.ldap_auth_credentials {
            let user = [("ldapUsername", &auth.ldap_username), ("ldapPassword", &auth.ldap_password)];
            let selectors = by_identity(&auth.identity_id).into_iter().chain(user).collect();
            way(Kind::Sent("ldap-auth"), "ldapAuthCredentials", selectors)
        } else if let Some(auth) = &self.oci_auth_credentials {
            way(Kind::NotServed("use another way"), "ociAuthCredentials", by_identity(&auth.identity_id))
        } else if let Some(auth) = &self.kubernetes_auth_credentials {
            let mut selectors = by_identity(&auth.identity_id);
            let path = auth.service_account_token_path.as_ref().filter(|path| path.name.is_some());
            selectors.extend(path.map(|path| ("serviceAccountTokenPath", path)));
            way(Kind::Kubernetes, "kubernetesAuthCredentials", selectors)
        } else if let Some(auth) = &self.aws_auth_credentials {
            way(Kind::NotServed("use another way"), "awsAuthCredentials", by_identity(&auth.identity_id))
        } else if let Some(auth) = &self.token_auth_credentials {
            way(Kind::Token, "tokenAuthCredentials", vec![("accessToken", &auth.access_token)])
        } else {
            Err(misconfigured("auth: authentication method not found: set one, such as universalAuthCredentials"))
        }
    }
}

/// Logs in, as often as a token is asked for; what it logs in with is read anew each time.
pub(super) struct Identity {
    pub(super) config: Infisical,
    pub(super) cx: ConnectCx,
    pub(super) http: HttpClient,
    /// Where Azure is.
    pub(super) azure: azure::Endpoints,
}

#[async_trait]
impl Login for Identity {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let way = self.config.auth.method()?;
        let path = format!("spec.provider.infisical.auth.{}", way.block);
        if let Kind::NotServed(instead) = way.kind {
            let text = format!("{path} is not served by this version of keyferry: {instead}");
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        if matches!(way.kind, Kind::Kubernetes | Kind::Azure | Kind::GoogleMachine) {
            self.cx.allow_own_identity(&path)?;
        }
        let mut read = Vec::new();
        for (field, selector) in &way.selectors {
            read.push((*field, self.cx.secret_text(selector, &format!("{path}.{field}")).await?));
        }
        match way.kind {
            Kind::Token => {
                let token = read.into_iter().map(|(_, token)| token).next().unwrap_or_default();
                Ok(Granted { token, life: None })
            }
            Kind::Sent(endpoint) => self.exchange(endpoint, &read).await,
            Kind::Kubernetes => {
                let file = read.iter().find(|(field, _)| *field == "serviceAccountTokenPath").map(|(_, file)| file);
                let jwt = mounted_token(file, &path).await?;
                self.exchange_own("kubernetes-auth", &read, jwt).await
            }
            Kind::Azure => {
                let mut endpoints = self.azure.clone();
                if let Some((_, resource)) = read.iter().find(|(field, _)| *field == "resource") {
                    resource.expose_str().unwrap_or_default().clone_into(&mut endpoints.resource);
                }
                let jwt = azure::with_machine("", &endpoints, &self.cx).await?;
                self.exchange_own("azure-auth", &read, jwt).await
            }
            Kind::GoogleMachine => {
                let audience = read.first().and_then(|(_, id)| id.expose_str()).unwrap_or_default();
                let jwt = gcp::machine_identity(audience, &self.cx).await?;
                self.exchange_own("gcp-auth", &read, jwt).await
            }
            Kind::NotServed(_) => Err(misconfigured(path)),
        }
    }

    /// A token that has ended is no credential to Infisical, but a request that is forbidden.
    fn is_stale(&self, answer: &Answer) -> bool {
        let is_token_error = || answer.json::<Refused>(WHAT).is_ok_and(|refused| refused.error == "TokenError");
        match answer.status {
            StatusCode::UNAUTHORIZED => true,
            StatusCode::FORBIDDEN => is_token_error(),
            _ => false,
        }
    }
}

impl Identity {
    /// With a token of the operator's own in the name of the machine identity.
    async fn exchange_own(
        &self,
        endpoint: &str,
        read: &[(&'static str, SecretBytes)],
        jwt: SecretBytes,
    ) -> Result<Granted, ProviderError> {
        let identity = read.iter().find(|(field, _)| *field == "identityId").cloned();
        let fields: Vec<_> = identity.into_iter().chain([("jwt", jwt)]).collect();
        self.exchange(endpoint, &fields).await
    }

    async fn exchange(&self, endpoint: &str, fields: &[(&'static str, SecretBytes)]) -> Result<Granted, ProviderError> {
        let mut body = Body::default();
        for (field, value) in fields {
            let name = match *field {
                "ldapUsername" => "username",
                "ldapPassword" => "password",
                other => other,
            };
            body = body.text(name, value.expose());
        }
        if let Some(organization) = self.config.secrets_scope.organization_slug.as_deref().filter(|slug| !slug.is_empty()) {
            body = body.text("organizationSlug", organization);
        }
        let url = format!("{}/v1/auth/{endpoint}/login", self.config.base());
        let call = Call::new(Verb::POST, &url, "spec.provider.infisical.hostAPI")?.json(body.build());
        let answer = self.http.send(call, WHAT).await?;
        if matches!(answer.status.as_u16(), 400 | 401 | 403 | 404 | 422) {
            let text = format!("{WHAT}: Infisical does not accept the credentials ({})", answer.status.as_u16());
            let error = answer.refusal(WHAT);
            // A 403 that says when to come back is no refusal.
            return Err(if error.kind == ErrorKind::Throttled {
                error
            } else {
                ProviderError::new(ErrorKind::Denied, text)
            });
        }
        let LoggedIn { access_token, expires_in } = answer.success(WHAT)?.json(WHAT)?;
        // 0 stands for a token without end.
        Ok(Granted { token: access_token, life: (expires_in > 0).then(|| Duration::from_secs(expires_in)) })
    }
}

/// A token that is mounted into the operator's Pod.
async fn mounted_token(file: Option<&SecretBytes>, path: &str) -> Result<SecretBytes, ProviderError> {
    let file = Path::new(file.and_then(SecretBytes::expose_str).filter(|file| !file.is_empty()).unwrap_or(OWN_TOKEN));
    let goes_up = file.components().any(|step| step == std::path::Component::ParentDir);
    if !file.starts_with(TOKENS) || goes_up {
        return Err(misconfigured(format!("{path}.serviceAccountTokenPath: only a file below {TOKENS} can be a token")));
    }
    let read = tokio::fs::read(file).await.map(SecretBytes::new);
    let token = read.map_err(|_| misconfigured(format!("{path}.serviceAccountTokenPath: the file cannot be read")))?;
    Ok(SecretBytes::from(token.expose_str().unwrap_or_default().trim()))
}
