//! Google Cloud: logs in, in all the ways that ESO has, and gives the access token that comes of it.

mod assertion;
mod federation;
#[cfg(test)]
mod tests;

use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::oauth::{self, AccessToken, TOKEN_EXCHANGE, accepted};
use super::{ConnectCx, ErrorKind, ProviderError};
use crate::api::generators::{GcrAuth, GcrWorkloadIdentity};
use crate::jwt::RsaKey;
use crate::outbound::{Call, TlsOptions, query, secret, segment};
use crate::render::json::object_of_text;
use crate::secret_bytes::SecretBytes;

/// What the tokens are for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where a service account's key is exchanged, if the key does not say.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
const ASSERTION: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
/// Annotation of a ServiceAccount that names the service account it stands for.
const ACCOUNT_ANNOTATION: &str = "iam.gke.io/gcp-service-account";
/// Seconds that tokens of a ServiceAccount are asked for.
const TOKEN_LIFE: i64 = 900;
/// Seconds that a login with a key is asked for.
const KEY_LIFE: i64 = 3600;

/// Where Google's own services are. They are constants; tests put servers of their own in their place.
#[derive(Clone)]
pub struct Endpoints {
    /// Exchanges tokens of other identity providers.
    pub sts: String,
    /// Exchanges tokens of GKE's clusters.
    pub identity_binding: String,
    /// Gives tokens of service accounts.
    pub credentials: String,
    /// The machine's metadata service.
    pub metadata: String,
}

impl Endpoints {
    /// Google's.
    #[must_use]
    pub fn of(cx: &ConnectCx) -> Self {
        let host = cx.env.get("GCE_METADATA_HOST").filter(|host| !host.is_empty()).map_or("169.254.169.254", String::as_str);
        Self {
            sts: "https://sts.googleapis.com/v1/token".into(),
            identity_binding: "https://securetoken.googleapis.com/v1/identitybindingtoken".into(),
            credentials: "https://iamcredentials.googleapis.com".into(),
            metadata: format!("http://{host}"),
        }
    }
}

/// A login.
pub struct Login<'a> {
    /// How, as the object says.
    pub auth: &'a GcrAuth,
    /// Project of the object, for a cluster that names none of its own.
    pub project: &'a str,
    /// Where the block stands in the object.
    pub path: &'a str,
    /// What it may reach.
    pub cx: &'a ConnectCx,
    /// What time it is.
    pub now: Timestamp,
    /// Where Google is.
    pub endpoints: Endpoints,
}

/// A service account's key, as Google makes its file.
#[derive(Deserialize)]
struct Key {
    r#type: String,
    client_email: String,
    #[serde(deserialize_with = "secret")]
    private_key: SecretBytes,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    token_uri: Option<String>,
}

/// A token that another was impersonated for.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    #[serde(deserialize_with = "secret")]
    access_token: SecretBytes,
    expire_time: Timestamp,
}

impl Key {
    fn of(file: &SecretBytes, what: &str) -> Result<Self, ProviderError> {
        let bad = |text: &str| misconfigured(format!("{what}: {text}"));
        let key: Self =
            serde_json::from_slice(file.expose()).map_err(|_| bad("the value is no service account's key, as JSON"))?;
        if key.r#type != "service_account" {
            return Err(bad("the key's \"type\" is not \"service_account\""));
        }
        Ok(key)
    }
}

impl Login<'_> {
    /// Logs in: the first way that is given, as in ESO; without any, as the operator itself.
    ///
    /// # Errors
    /// `Misconfigured` where a reference is missing or wrong; `Denied` where Google does not take the login.
    pub async fn access_token(&self) -> Result<AccessToken, ProviderError> {
        if let Some(selector) = self.auth.secret_ref.as_ref().and_then(|r| r.secret_access_key_secret_ref.as_ref()) {
            let what = format!("{}.secretRef.secretAccessKeySecretRef", self.path);
            return self.with_key(&self.cx.secret(selector, &what).await?, &what).await;
        }
        if let Some(identity) = &self.auth.workload_identity {
            return self.with_cluster(identity).await;
        }
        if let Some(federation) = &self.auth.workload_identity_federation {
            return self.with_federation(federation).await;
        }
        self.as_operator().await
    }

    async fn with_key(&self, file: &SecretBytes, what: &str) -> Result<AccessToken, ProviderError> {
        let bad = |text: &str| misconfigured(format!("{what}: {text}"));
        let key = Key::of(file, what)?;
        let audience = key.token_uri.as_deref().filter(|uri| !uri.is_empty()).unwrap_or(TOKEN_URI);
        let issued = self.now.as_second();
        let claims =
            json!({"iss": key.client_email, "scope": SCOPE, "aud": audience, "iat": issued, "exp": issued + KEY_LIFE});
        let sign = || RsaKey::from_pem(key.private_key.expose())?.sign(&claims, key.private_key_id.as_deref());
        let assertion = sign().ok_or_else(|| bad("\"private_key\" is no private RSA key in PEM"))?;
        let fields = [("grant_type", ASSERTION), ("assertion", text(&assertion, what)?)];
        let call = Call::new(Method::POST, audience, &format!("{what}: \"token_uri\""))?.form(&fields);
        self.exchange(call, "login to Google Cloud with a service account's key").await
    }

    /// As GKE does for its Pods: the cluster's pool trusts its ServiceAccounts.
    async fn with_cluster(&self, identity: &GcrWorkloadIdentity) -> Result<AccessToken, ProviderError> {
        let what = format!("{}.workloadIdentity.serviceAccountRef", self.path);
        let account = &identity.service_account_ref;
        let annotations = self.cx.service_account_annotations(account, &what).await?;
        let project = match identity.cluster_project_id.as_deref().filter(|project| !project.is_empty()) {
            Some(project) => project.to_owned(),
            None => self.own_project().await.unwrap_or_else(|| self.project.to_owned()),
        };
        let pool = format!("{project}.svc.id.goog");
        let (location, cluster) = (&identity.cluster_location, &identity.cluster_name);
        let cluster =
            format!("https://container.googleapis.com/v1/projects/{project}/locations/{location}/clusters/{cluster}");
        let audiences = std::iter::once(pool.clone()).chain(account.audiences.iter().cloned()).collect();
        let token = self.cx.token(account, audiences, Some(TOKEN_LIFE), &what).await?;
        let audience = format!("identitynamespace:{pool}:{cluster}");
        let fields = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token_type", JWT),
            ("requested_token_type", ACCESS_TOKEN),
            ("subject_token", text(&token, &what)?),
            ("audience", &audience),
            ("scope", SCOPE),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), SecretBytes::from(value)));
        let call = Call::new(Method::POST, &self.endpoints.identity_binding, &what)?.json(object_of_text(&fields.into()));
        let token = self.exchange(call, "login to Google Cloud with a ServiceAccount's token").await?;
        match annotations.get(ACCOUNT_ANNOTATION).filter(|email| !email.is_empty()) {
            Some(email) => self.impersonate(&token, email, None).await,
            None => Ok(token),
        }
    }

    /// The token of a service account, for somebody who may act as it.
    async fn impersonate(&self, by: &AccessToken, email: &str, life: Option<u32>) -> Result<AccessToken, ProviderError> {
        let what = format!("token of the service account {email}");
        let url =
            format!("{}/v1/projects/-/serviceAccounts/{}:generateAccessToken", self.endpoints.credentials, segment(email));
        let mut wishes = json!({"scope": [SCOPE]});
        if let Some(seconds) = life {
            wishes["lifetime"] = json!(format!("{seconds}s"));
        }
        let call = Call::new(Method::POST, &url, &what)?.bearer(&by.value, &what)?;
        let call = call.json(SecretBytes::from(wishes.to_string()));
        let answer = self.cx.outbound.client(&TlsOptions::default(), &what)?.send(call, &what).await?;
        let Impersonated { access_token, expire_time } = accepted(answer, &what)?.json(&what)?;
        Ok(AccessToken { value: access_token, expires_at: expire_time })
    }

    /// As the operator: with the key file that its environment names, or as the machine.
    async fn as_operator(&self) -> Result<AccessToken, ProviderError> {
        let what = "login to Google Cloud as the operator";
        if let Some(path) = self.cx.env.get("GOOGLE_APPLICATION_CREDENTIALS").filter(|path| !path.is_empty()) {
            let file = tokio::fs::read(path).await.map(SecretBytes::new);
            let file = file
                .map_err(|_| misconfigured(format!("{what}: the file of GOOGLE_APPLICATION_CREDENTIALS cannot be read")))?;
            return self.with_key(&file, what).await;
        }
        let call = self.metadata("instance/service-accounts/default/token", what)?;
        oauth::token(self.cx.outbound.ambient()?.send(call, what).await?, self.now, what)
    }

    /// The project of the machine that the operator runs on.
    async fn own_project(&self) -> Option<String> {
        let what = "metadata service";
        let call = self.metadata("project/project-id", what).ok()?.within(std::time::Duration::from_secs(2));
        let answer = self.cx.outbound.ambient().ok()?.send(call, what).await.ok()?.success(what).ok()?;
        let project = answer.body.expose_str()?.trim();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
        (!project.is_empty() && project.chars().all(allowed)).then(|| project.to_owned())
    }

    fn metadata(&self, path: &str, what: &str) -> Result<Call, ProviderError> {
        let url = format!("{}/computeMetadata/v1/{path}", self.endpoints.metadata);
        Call::new(Method::GET, &url, what)?.header("metadata-flavor", b"Google", what)
    }

    async fn exchange(&self, call: Call, what: &str) -> Result<AccessToken, ProviderError> {
        let answer = self.cx.outbound.client(&TlsOptions::default(), what)?.send(call, what).await?;
        oauth::token(answer, self.now, what)
    }
}

/// A token that says which machine the operator runs on, for somebody who trusts Google: signed by Google, and for one audience.
///
/// # Errors
/// `Unavailable` where there is no metadata service.
pub async fn machine_identity(audience: &str, cx: &ConnectCx) -> Result<SecretBytes, ProviderError> {
    let what = "identity token of the machine";
    let wishes = query(&[("audience", audience), ("format", "full")]);
    let base = Endpoints::of(cx).metadata;
    let url = format!("{base}/computeMetadata/v1/instance/service-accounts/default/identity?{wishes}");
    let call = Call::new(Method::GET, &url, what)?.header("metadata-flavor", b"Google", what)?;
    let answer = cx.outbound.ambient()?.send(call, what).await?.success(what)?;
    Ok(SecretBytes::from(answer.body.expose_str().unwrap_or_default().trim()))
}

fn text<'a>(secret: &'a SecretBytes, what: &str) -> Result<&'a str, ProviderError> {
    secret.expose_str().ok_or_else(|| misconfigured(format!("{what}: the token is not UTF-8 text")))
}

fn misconfigured(text: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

/// A text in a JSON object that must be there.
fn field<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.is_empty())
}
