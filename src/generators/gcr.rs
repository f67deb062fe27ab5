//! GCRAccessToken: an access token of Google Cloud, as its container registries take it for a password.

use async_trait::async_trait;

use super::{GenerateCx, Generated, Generator};
use crate::api::generators::GcrAccessTokenSpec;
use crate::providers::ProviderError;
use crate::providers::gcp::{Endpoints, Login};
use crate::secret_bytes::SecretBytes;

/// User name that goes with any such token.
const USERNAME: &str = "oauth2accesstoken";

#[async_trait]
impl Generator for GcrAccessTokenSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let endpoints = Endpoints::of(&cx.connect);
        let (auth, project) = (&self.auth, self.project_id.as_str());
        let login = Login { auth, project, path: "spec.auth", cx: &cx.connect, now: cx.now, endpoints };
        let token = login.access_token().await?;
        Ok(Generated::values([
            ("username", SecretBytes::from(USERNAME)),
            ("password", token.value),
            ("expiry", SecretBytes::from(token.expires_at.as_second().to_string())),
        ]))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::generators::testing::cluster::{Cluster, generate, misbehaving, spec, values};
    use crate::jwt::tests::key;
    use crate::outbound::testing::{FakeServer, Reply, outbound};

    fn cluster(server: &FakeServer, pem: &str) -> Cluster {
        let file = json!({
            "type": "service_account", "client_email": "sa@p.iam.gserviceaccount.com", "private_key": pem, "token_uri": server.url,
        });
        Cluster::new().secret("gcp", "json", &file.to_string())
    }

    fn wanted() -> GcrAccessTokenSpec {
        let auth = json!({"secretRef": {"secretAccessKeySecretRef": {"name": "gcp", "key": "json"}}});
        spec(json!({"projectID": "p", "auth": auth}))
    }

    #[tokio::test]
    async fn a_token_is_a_password() {
        let server =
            FakeServer::start(|_| Reply::json(200, &json!({"access_token": "ya29.made", "expires_in": 3599}))).await;
        let made = generate(&wanted(), &cluster(&server, &key().0), &outbound()).await.unwrap();
        let want = [("username", "oauth2accesstoken"), ("password", "ya29.made"), ("expiry", "1795697999")];
        assert_eq!(values(&made), want.into());
    }

    #[tokio::test]
    async fn whatever_google_does_is_told_in_our_words() {
        let pem = &key().0;
        misbehaving(|reply| async move {
            let server = FakeServer::start(move |_| reply.clone()).await;
            generate(&wanted(), &cluster(&server, pem), &outbound()).await
        })
        .await;
    }
}
