//! Logins to Akeyless.

use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Akeyless, KubernetesAuth, misconfigured};
use crate::api::refs::SecretKeySelector;
use crate::jwt;
use crate::outbound::{Call, HttpClient, secret};
use crate::providers::rest::{Body, Granted, Login};
use crate::providers::{ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "login to Akeyless";
/// Seconds that a ServiceAccount's token is asked for.
const TOKEN_LIFE: i64 = 600;
/// How long a token is taken to hold that does not say it: below the five minutes that Akeyless gives by default.
const LIFE: Duration = Duration::from_secs(240);

#[derive(Deserialize)]
struct LoggedIn {
    #[serde(deserialize_with = "secret")]
    token: SecretBytes,
}

/// Logs in, as often as a token is asked for; what it logs in with is read anew each time.
pub(super) struct Identity {
    pub(super) config: Akeyless,
    pub(super) cx: ConnectCx,
    pub(super) http: HttpClient,
    /// Where the API turned out to be.
    base: OnceLock<String>,
}

impl Identity {
    pub(super) fn new(config: &Akeyless, cx: &ConnectCx, http: HttpClient) -> Self {
        Self { config: config.clone(), cx: cx.clone(), http, base: OnceLock::new() }
    }

    /// Address of the API: as it is given, or `/v2` below, where gateways have it.
    pub(super) fn base(&self) -> &str {
        self.base.get().map_or_else(|| self.config.url(), String::as_str)
    }

    async fn body(&self) -> Result<Body, ProviderError> {
        let path = "spec.provider.akeyless.authSecretRef";
        if let Some(auth) = &self.config.auth.kubernetes_auth {
            let token = self.kubernetes_token(auth, &format!("{path}.kubernetesAuth")).await?;
            return Ok(kubernetes(auth.access_id.as_bytes(), auth.k8s_conf_name.as_bytes(), &token));
        }
        let (mut id, mut kind, mut parameter) = Default::default();
        for (field, selector) in self.config.selectors() {
            let value = self.cx.secret_text(selector, &format!("{path}.{field}")).await?;
            match field {
                "secretRef.accessID" => id = value,
                "secretRef.accessType" => kind = value,
                _ => parameter = value,
            }
        }
        let (id, kind, parameter): (SecretBytes, SecretBytes, SecretBytes) = (id, kind, parameter);
        match kind.expose_str().unwrap_or_default() {
            "api_key" | "access_key" => {
                Ok(Body::default().text("access-id", id.expose()).text("access-key", parameter.expose()))
            }
            "k8s" => {
                let token = self.cx.own_token(None, &format!("{path}.secretRef.accessType k8s")).await?;
                Ok(kubernetes(id.expose(), parameter.expose(), &token))
            }
            "aws_iam" | "azure_ad" | "gcp" => {
                let text = format!(
                    "{path}.secretRef.accessType: logins as a cloud's identity are not served by this version of keyferry: use \
                     api_key or kubernetesAuth"
                );
                Err(ProviderError::new(ErrorKind::Unsupported, text))
            }
            _ => {
                Err(misconfigured(format!("{path}.secretRef.accessType: the value is none of api_key, access_key and k8s")))
            }
        }
    }

    async fn kubernetes_token(&self, auth: &KubernetesAuth, path: &str) -> Result<SecretBytes, ProviderError> {
        if let Some(account) = &auth.service_account_ref {
            let what = format!("{path}.serviceAccountRef");
            return self.cx.token(account, account.audiences.clone(), Some(TOKEN_LIFE), &what).await;
        }
        match &auth.secret_ref {
            Some(selector) => {
                let given = selector.key.clone().filter(|key| !key.is_empty());
                let selector = SecretKeySelector { key: given.or_else(|| Some("token".to_owned())), ..selector.clone() };
                self.cx.secret_text(&selector, &format!("{path}.secretRef")).await
            }
            None => self.cx.own_token(None, path).await,
        }
    }
}

fn kubernetes(id: &[u8], configuration: &[u8], token: &SecretBytes) -> Body {
    let token = SecretBytes::from(STANDARD.encode(token.expose()));
    Body::default()
        .text("access-id", id)
        .text("access-type", "k8s")
        .text("k8s-auth-config-name", configuration)
        .text("k8s-service-account-token", token.expose())
}

#[async_trait]
impl Login for Identity {
    async fn login(&self) -> Result<Granted, ProviderError> {
        let body = self.body().await?.build();
        let ask = async |base: &str| {
            let call = Call::new(Method::POST, &format!("{base}/auth"), "spec.provider.akeyless.akeylessGWApiURL")?;
            self.http.send(call.json(body.clone()), WHAT).await
        };
        let mut answer = ask(self.base()).await?;
        if answer.status == StatusCode::NOT_FOUND && self.base.get().is_none() && !self.base().ends_with("/v2") {
            let below = format!("{}/v2", self.base());
            answer = ask(&below).await?;
            if answer.status.is_success() {
                let _ = self.base.set(below);
            }
        }
        if matches!(answer.status.as_u16(), 400 | 401) {
            let text = format!("{WHAT}: Akeyless does not accept the credentials ({})", answer.status.as_u16());
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        let LoggedIn { token } = answer.success(WHAT)?.json(WHAT)?;
        let left = jwt::expiry(&token).map(|end| end - Timestamp::now().as_second() as f64);
        let life = left.and_then(|left| Duration::try_from_secs_f64(left).ok()).unwrap_or(LIFE);
        Ok(Granted { token, life: Some(life) })
    }
}
