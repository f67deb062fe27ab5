//! JSON Web Tokens that Google signs for somebody else: who takes one learns which service account asked for it.

use http::Method;
use serde::Deserialize;
use serde_json::json;

use super::{ACCOUNT_ANNOTATION, Key, Login, accepted, misconfigured};
use crate::jwt::RsaKey;
use crate::outbound::{Call, TlsOptions, query, secret, segment};
use crate::providers::ProviderError;
use crate::secret_bytes::SecretBytes;

/// Seconds that a token holds. It is used at once.
const LIFE: i64 = 600;

/// What was signed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    #[serde(deserialize_with = "secret")]
    signed_jwt: SecretBytes,
}

impl Login<'_> {
    /// A token for an audience, signed by the service account's own key, or by Google for the service account that the
    /// ServiceAccount stands for.
    ///
    /// # Errors
    /// As [`Login::access_token`].
    pub async fn signed_jwt(&self, audience: &str) -> Result<SecretBytes, ProviderError> {
        if let Some(selector) = self.auth.secret_ref.as_ref().and_then(|r| r.secret_access_key_secret_ref.as_ref()) {
            let what = format!("{}.secretRef.secretAccessKeySecretRef", self.path);
            let file = self.cx.secret(selector, &what).await?;
            let key = Key::of(&file, &what)?;
            let claims = self.claims(&key.client_email, audience);
            let sign = || RsaKey::from_pem(key.private_key.expose())?.sign(&claims, key.private_key_id.as_deref());
            return sign().ok_or_else(|| misconfigured(format!("{what}: \"private_key\" is no private RSA key in PEM")));
        }
        let Some(identity) = &self.auth.workload_identity else {
            return Err(misconfigured(format!("{}.secretRef.secretAccessKeySecretRef is missing", self.path)));
        };
        let what = format!("{}.workloadIdentity.serviceAccountRef", self.path);
        let annotations = self.cx.service_account_annotations(&identity.service_account_ref, &what).await?;
        let email = annotations.get(ACCOUNT_ANNOTATION).filter(|email| !email.is_empty()).ok_or_else(|| {
            misconfigured(format!(
                "{what}: the ServiceAccount has no annotation {ACCOUNT_ANNOTATION}, by which Google signs"
            ))
        })?;
        let token = self.access_token().await?;
        let what = format!("signature of the service account {email}");
        let url = format!("{}/v1/projects/-/serviceAccounts/{}:signJwt", self.endpoints.credentials, segment(email));
        let wish = json!({"payload": self.claims(email, audience).to_string()});
        let call = Call::new(Method::POST, &url, &what)?.bearer(&token.value, &what)?;
        let call = call.json(SecretBytes::from(wish.to_string()));
        let answer = self.cx.outbound.client(&TlsOptions::default(), &what)?.send(call, &what).await?;
        Ok(accepted(answer, &what)?.json::<Signed>(&what)?.signed_jwt)
    }

    fn claims(&self, email: &str, audience: &str) -> serde_json::Value {
        json!({"sub": email, "aud": audience, "exp": self.now.as_second() + LIFE})
    }

    /// A token for an audience about the machine that the operator runs on.
    ///
    /// # Errors
    /// `Unavailable` where there is no metadata service.
    pub async fn own_jwt(&self, audience: &str) -> Result<SecretBytes, ProviderError> {
        let what = "login to Google Cloud as the operator";
        let query = query(&[("audience", audience), ("format", "full")]);
        let call = self.metadata(&format!("instance/service-accounts/default/identity?{query}"), what)?;
        let answer = self.cx.outbound.ambient()?.send(call, what).await?.success(what)?;
        Ok(SecretBytes::from(answer.body.expose_str().unwrap_or_default().trim()))
    }
}
