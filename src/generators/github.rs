//! GithubAccessToken: logs in as a GitHub App and asks for a token of one of its installations.

use async_trait::async_trait;
use serde_json::{Map, json};

use super::{GenerateCx, Generated, Generator};
use crate::api::generators::GithubAccessTokenSpec;
use crate::outbound::TlsOptions;
use crate::providers::ProviderError;
use crate::providers::github::app::{self, API, Installation};
use crate::secret_bytes::SecretBytes;

#[async_trait]
impl Generator for GithubAccessTokenSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let what = "spec.auth.privateKey.secretRef";
        let key = app::key(&cx.connect.secret(&self.auth.private_key.secret_ref, what).await?, what)?;
        let base = self.url.as_deref().filter(|url| !url.is_empty()).unwrap_or(API).trim_end_matches('/').to_owned();
        let installation = Installation { base, app: self.app_id.clone(), id: self.install_id.clone() };
        let call = installation.call(&key, cx.now, "spec.url", what)?;
        let call = match self.wishes() {
            Some(wishes) => call.json(wishes),
            None => call,
        };
        let client = cx.connect.outbound.client(&TlsOptions::default(), app::WHAT)?;
        let (token, _) = app::token(client.send(call, app::WHAT).await?, cx.now)?;
        Ok(Generated::values([("token", token)]))
    }
}

impl GithubAccessTokenSpec {
    /// What the token is narrowed to; nothing where it is not.
    fn wishes(&self) -> Option<SecretBytes> {
        let mut wishes = Map::new();
        if !self.permissions.is_empty() {
            wishes.insert("permissions".into(), json!(self.permissions));
        }
        if !self.repositories.is_empty() {
            wishes.insert("repositories".into(), json!(self.repositories));
        }
        (!wishes.is_empty()).then(|| SecretBytes::from(serde_json::Value::Object(wishes).to_string()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::Value;

    use super::*;
    use crate::generators::testing::cluster::{CANARY, Cluster, generate, misbehaving, redacted, spec, values};
    use crate::jwt::tests::{key, verified};
    use crate::outbound::testing::{FakeServer, Reply, outbound};
    use crate::providers::ErrorKind;

    /// What GitHub's documentation shows for "Create an installation access token for an app".
    fn created() -> Value {
        json!({"token": "ghs_made", "expires_at": "2026-11-26T13:00:00Z", "permissions": {}, "repository_selection": "all"})
    }

    fn app(server: &FakeServer, more: Value) -> GithubAccessTokenSpec {
        let mut all = json!({
            "appID": "123", "installID": "456", "url": server.url,
            "auth": {"privateKey": {"secretRef": {"name": "app", "key": "pem"}}},
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(all)
    }

    fn cluster() -> Cluster {
        Cluster::new().secret("app", "pem", &key().0)
    }

    #[tokio::test]
    async fn a_token_is_made_with_a_signed_login() {
        let (pem, public) = key();
        let server = FakeServer::start(|_| Reply::json(201, &created())).await;
        let made =
            generate(&app(&server, json!({})), &Cluster::new().secret("app", "pem", &pem), &outbound()).await.unwrap();
        assert_eq!(values(&made), [("token", "ghs_made")].into());
        assert!(made.state.is_none());

        let asked = &server.received()[0];
        assert_eq!(asked.line, "POST /app/installations/456/access_tokens");
        assert_eq!((asked.header("accept"), asked.body.as_str()), ("application/vnd.github.v3+json", ""));
        let (header, claims) = verified(asked.header("authorization").strip_prefix("Bearer ").unwrap(), &public);
        assert_eq!(header["alg"], "RS256");
        let now = "2026-11-26T12:00:00Z".parse::<Timestamp>().unwrap().as_second();
        assert_eq!(claims, json!({"iss": "123", "iat": now - 10, "exp": now + 300}));
    }

    #[tokio::test]
    async fn a_token_is_narrowed() {
        let server = FakeServer::start(|_| Reply::json(201, &created())).await;
        let wishes = json!({"repositories": ["a", "b"], "permissions": {"contents": "read"}});
        generate(&app(&server, wishes.clone()), &cluster(), &outbound()).await.unwrap();
        let asked = &server.received()[0];
        assert_eq!((asked.json(), asked.header("content-type")), (wishes, "application/json"));
    }

    #[tokio::test]
    async fn whatever_github_does_is_told_in_our_words() {
        let cluster = &cluster();
        misbehaving(|reply| async move {
            let server = FakeServer::start(move |_| reply.clone()).await;
            generate(&app(&server, json!({})), cluster, &outbound()).await
        })
        .await;
    }

    #[tokio::test]
    async fn a_used_up_limit_is_no_lack_of_rights() {
        let now = "2026-11-26T12:00:00Z".parse::<Timestamp>().unwrap().as_second();
        let server = FakeServer::start(move |_| {
            Reply::text(403, CANARY).with("x-ratelimit-remaining", "0").with("x-ratelimit-reset", &(now + 90).to_string())
        })
        .await;
        let error = redacted(generate(&app(&server, json!({})), &cluster(), &outbound()).await);
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Throttled, Some(Duration::from_secs(90))));
    }

    #[tokio::test]
    async fn a_key_that_is_none_is_told() {
        let server = FakeServer::start(|_| Reply::json(201, &created())).await;
        let cluster = Cluster::new().secret("app", "pem", &format!("-----BEGIN PRIVATE KEY----- {CANARY}"));
        let error = redacted(generate(&app(&server, json!({})), &cluster, &outbound()).await);
        assert!(error.detail.starts_with("spec.auth.privateKey.secretRef: "), "{error}");
        assert!(server.received().is_empty());
    }
}
