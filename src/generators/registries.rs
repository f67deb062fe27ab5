//! QuayAccessToken and CloudsmithAccessToken: exchange a ServiceAccount's token for a registry's own.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{GenerateCx, Generated, Generator};
use crate::api::generators::{CloudsmithAccessTokenSpec, QuayAccessTokenSpec};
use crate::jwt;
use crate::outbound::{Call, TlsOptions, secret, segment};
use crate::providers::{ErrorKind, ProviderError};
use crate::render::json::object_of_text;
use crate::render::number;
use crate::secret_bytes::SecretBytes;

const QUAY: &str = "quay.io";
const QUAY_WHAT: &str = "Quay robot account token";
const CLOUDSMITH: &str = "https://api.cloudsmith.io";
const CLOUDSMITH_WHAT: &str = "Cloudsmith access token";

/// What both answer.
#[derive(Deserialize)]
struct Exchanged {
    #[serde(deserialize_with = "secret")]
    token: SecretBytes,
}

#[async_trait]
impl Generator for QuayAccessTokenSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let account = &self.service_account_ref;
        let ours = cx.connect.token(account, account.audiences.clone(), None, "spec.serviceAccountRef").await?;
        let given = self.url.as_deref().filter(|url| !url.is_empty()).unwrap_or(QUAY);
        let registry = given.trim_start_matches("https://");
        let url = format!("https://{}/oauth2/federation/robot/token", registry.trim_end_matches('/'));
        let call = Call::new(Method::GET, &url, "spec.url")?.basic(self.robot_account.as_bytes(), &ours, QUAY_WHAT)?;
        let client = cx.connect.outbound.client(&TlsOptions::default(), QUAY_WHAT)?;
        let answer = client.send(call, QUAY_WHAT).await?.success(QUAY_WHAT)?;
        let Exchanged { token } = answer.json(QUAY_WHAT)?;
        Ok(Generated::values([
            ("registry", SecretBytes::from(registry)),
            ("expiry", expiry(&token, QUAY_WHAT)?),
            ("auth", login(&self.robot_account, &token)),
        ]))
    }
}

#[async_trait]
impl Generator for CloudsmithAccessTokenSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let account = &self.service_account_ref;
        let ours = cx.connect.token(account, account.audiences.clone(), None, "spec.serviceAccountRef").await?;
        let base = self.api_url.as_deref().filter(|url| !url.is_empty()).unwrap_or(CLOUDSMITH).trim_end_matches('/');
        let body =
            [("oidc_token".to_owned(), ours), ("service_slug".to_owned(), SecretBytes::from(self.service_slug.as_str()))];
        let call = Call::new(Method::POST, &format!("{base}/openid/{}/", segment(&self.org_slug)), "spec.apiUrl")?
            .json(object_of_text(&body.into()));
        let client = cx.connect.outbound.client(&TlsOptions::default(), CLOUDSMITH_WHAT)?;
        let answer = client.send(call, CLOUDSMITH_WHAT).await?.success(CLOUDSMITH_WHAT)?;
        if answer.status != StatusCode::CREATED {
            let text = format!("{CLOUDSMITH_WHAT}: the server made no token ({})", answer.status.as_u16());
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        }
        let Exchanged { token } = answer.json(CLOUDSMITH_WHAT)?;
        Ok(Generated::values([("expiry", expiry(&token, CLOUDSMITH_WHAT)?), ("auth", login("token", &token))]))
    }
}

/// A user and a password as a Docker configuration holds them.
fn login(user: &str, token: &SecretBytes) -> SecretBytes {
    let plain = SecretBytes::new([user.as_bytes(), b":", token.expose()].concat());
    SecretBytes::from(STANDARD.encode(plain.expose()))
}

/// When the token expires: seconds since 1970.
fn expiry(token: &SecretBytes, what: &str) -> Result<SecretBytes, ProviderError> {
    jwt::expiry(token).map(|at| SecretBytes::from(number::decimal(at))).ok_or_else(|| {
        ProviderError::new(ErrorKind::Malformed, format!("{what}: the token in the answer does not say when it expires"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;
    use crate::generators::testing::cluster::{CANARY, Cluster, generate, misbehaving, redacted, spec, values};
    use crate::outbound::testing::{FakeServer, Pki, Reply, outbound, outbound_trusting};

    fn token() -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(json!({"exp": 1_800_000_000}).to_string()))
    }

    fn made() -> Reply {
        Reply::json(201, &json!({"token": token()}))
    }

    fn quay(server: &FakeServer) -> QuayAccessTokenSpec {
        spec(json!({
            "url": server.address.to_string(), "robotAccount": "org+robot",
            "serviceAccountRef": {"name": "app", "audiences": ["quay"]},
        }))
    }

    fn cloudsmith(server: &FakeServer) -> CloudsmithAccessTokenSpec {
        spec(json!({
            "apiUrl": format!("{}/", server.url), "orgSlug": "org", "serviceSlug": "svc", "serviceAccountRef": {"name": "app"},
        }))
    }

    #[tokio::test]
    async fn quay_takes_the_token_as_a_password() {
        let pki = Pki::new();
        let server = FakeServer::start_tls(&pki, false, |_| Reply::json(200, &json!({"token": token()}))).await;
        let cluster = Cluster::new();
        let given = generate(&quay(&server), &cluster, &outbound_trusting(&pki, &[])).await.unwrap();
        let (registry, auth) = (server.address.to_string(), STANDARD.encode(format!("org+robot:{}", token())));
        let want = [("registry", registry.as_str()), ("auth", auth.as_str()), ("expiry", "1800000000")];
        assert_eq!(values(&given), want.into());
        let asked = &server.received()[0];
        assert_eq!(asked.line, "GET /oauth2/federation/robot/token");
        let basic = STANDARD.encode(format!("org+robot:token-of-sa-{CANARY}"));
        assert_eq!(asked.header("authorization"), format!("Basic {basic}"));
        assert_eq!(cluster.token_requests(), [("app".to_owned(), json!({"audiences": ["quay"]}))]);
    }

    #[tokio::test]
    async fn cloudsmith_takes_the_token_in_json() {
        let server = FakeServer::start(|_| made()).await;
        let cluster = Cluster::new();
        let given = generate(&cloudsmith(&server), &cluster, &outbound()).await.unwrap();
        let auth = STANDARD.encode(format!("token:{}", token()));
        assert_eq!(values(&given), [("auth", auth.as_str()), ("expiry", "1800000000")].into());
        let asked = &server.received()[0];
        assert_eq!(asked.line, "POST /openid/org/");
        assert_eq!(asked.json(), json!({"oidc_token": format!("token-of-sa-{CANARY}"), "service_slug": "svc"}));
        assert_eq!(cluster.token_requests(), [("app".to_owned(), json!({"audiences": []}))]);
    }

    #[tokio::test]
    async fn only_a_made_token_counts_at_cloudsmith() {
        let server = FakeServer::start(|_| Reply::json(200, &json!({"token": token()}))).await;
        assert_eq!(redacted(generate(&cloudsmith(&server), &Cluster::new(), &outbound()).await).kind, ErrorKind::Malformed);
    }

    #[tokio::test]
    async fn whatever_they_do_is_told_in_our_words() {
        let pki = &Pki::new();
        misbehaving(|reply| async move {
            let server = FakeServer::start_tls(pki, false, move |_| reply.clone()).await;
            generate(&quay(&server), &Cluster::new(), &outbound_trusting(pki, &[])).await
        })
        .await;
        misbehaving(|reply| async move {
            let server = FakeServer::start(move |_| reply.clone()).await;
            generate(&cloudsmith(&server), &Cluster::new(), &outbound()).await
        })
        .await;
        let no_jwt: Value = json!({"token": CANARY});
        let server = FakeServer::start(move |_| Reply::json(201, &no_jwt)).await;
        assert_eq!(redacted(generate(&cloudsmith(&server), &Cluster::new(), &outbound()).await).kind, ErrorKind::Malformed);
    }
}
