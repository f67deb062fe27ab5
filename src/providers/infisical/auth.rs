//! The ways to log in to Infisical: each is one request that is answered with an access token.

use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method as Verb, StatusCode};
use serde::Deserialize;

use super::{Auth, Infisical, misconfigured};
use crate::api::refs::SecretKeySelector;
use crate::outbound::{Answer, Call, HttpClient, secret};
use crate::providers::aws::caller::{Caller, caller_identity};
use crate::providers::rest::{Body, Granted, Login};
use crate::providers::{ConnectCx, ErrorKind, ProviderError, azure, gcp};
use crate::render::{json, path};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "login to Infisical";
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
    Aws,
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
            way(Kind::Aws, "awsAuthCredentials", by_identity(&auth.identity_id))
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
        if matches!(way.kind, Kind::Kubernetes | Kind::Azure | Kind::GoogleMachine | Kind::Aws) {
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
                let jwt = self
                    .cx
                    .own_token(file.and_then(SecretBytes::expose_str), &format!("{path}.serviceAccountTokenPath"))
                    .await?;
                self.exchange_own("kubernetes-auth", &read, jwt).await
            }
            Kind::Azure => {
                let mut endpoints = self.azure.clone();
                if let Some((_, resource)) = read.iter().find(|(field, _)| *field == "resource") {
                    resource.expose_str().unwrap_or_default().clone_into(&mut endpoints.resource);
                }
                let jwt = azure::with_machine("", &endpoints, &self.cx).await?.value;
                self.exchange_own("azure-auth", &read, jwt).await
            }
            Kind::GoogleMachine => {
                let audience = read.first().and_then(|(_, id)| id.expose_str()).unwrap_or_default();
                let jwt = gcp::machine_identity(audience, &self.cx).await?;
                self.exchange_own("gcp-auth", &read, jwt).await
            }
            Kind::Aws => {
                read.extend(self.signed_question(&path).await?);
                self.exchange("aws-auth", &read).await
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

    /// A question to AWS who we are, signed: Infisical asks it.
    async fn signed_question(&self, path: &str) -> Result<[(&'static str, SecretBytes); 3], ProviderError> {
        let region = ["AWS_REGION", "AWS_DEFAULT_REGION"].iter().find_map(|name| self.cx.env.get(*name));
        let region = region.filter(|region| !region.is_empty()).cloned().unwrap_or_else(|| "us-east-1".to_owned());
        let caller = Caller { region, auth: None, role: None, external_id: None, header: None, path };
        let signed = caller_identity(caller, &self.cx).await?;
        let headers =
            STANDARD.decode(signed.headers.expose()).ok().map(SecretBytes::new).and_then(|lists| plain_headers(&lists));
        let headers = headers.ok_or_else(|| misconfigured(format!("{path}: the request could not be signed")))?;
        Ok([
            ("iamHttpRequestMethod", SecretBytes::from("POST")),
            ("iamRequestBody", signed.body),
            ("iamRequestHeaders", SecretBytes::from(STANDARD.encode(headers.expose()))),
        ])
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

/// Headers that are lists, as one text each; `Authorization` is written so, as Infisical looks the region up in it.
fn plain_headers(lists: &SecretBytes) -> Option<SecretBytes> {
    let mut headers = Body::default();
    for (name, list) in json::members(lists.expose())? {
        let value = path::get(list, "0")?.into_secret();
        let name = if name == "authorization" { "Authorization" } else { &name };
        headers = headers.text(name, value.expose());
    }
    Some(headers.build())
}
