//! The ways to log in to Vault.

use serde::Deserialize;

use super::client::{Request, Retries, VaultClient, misconfigured, or_key};
use super::config::{AppRole, Auth, CertAuth, JwtAuth, KubernetesAuth, PasswordAuth, Vault};
use crate::api::StoreKind;
use crate::outbound::{secret, segment};
use crate::providers::{ConnectCx, ErrorKind, ProviderError};
use crate::render::json::object_of_text;
use crate::secret_bytes::SecretBytes;

/// Token of the operator's own ServiceAccount.
const OWN_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Seconds that a ServiceAccount's token is asked for, where nothing else is said.
const TOKEN_LIFE: i64 = 600;

/// What a login answers.
#[derive(Deserialize)]
struct LoggedIn {
    auth: Granted,
}

#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "secret")]
    client_token: SecretBytes,
}

/// Where to log in, and with what.
struct Credentials {
    path: String,
    fields: Vec<(&'static str, SecretBytes)>,
}

impl VaultClient {
    /// Logs in. `path` is where the block stands in the object.
    ///
    /// # Errors
    /// `Misconfigured` where a reference is missing; `Denied` where Vault does not take the login.
    pub async fn login(vault: &Vault, path: &str, retries: Retries, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let mut client = Self::open(vault, path, retries, cx).await?;
        let Some(auth) = &vault.auth else { return Ok(client) };
        let token = match &auth.token_secret_ref {
            Some(selector) => cx.secret_text(selector, &format!("{path}.auth.tokenSecretRef")).await?,
            None => match credentials(auth, &format!("{path}.auth"), cx).await? {
                Some(credentials) => {
                    client.exchange(credentials, auth.namespace.as_deref().or(vault.namespace.as_deref())).await?
                }
                None => return Ok(client),
            },
        };
        client.set_token(token);
        Ok(client)
    }

    async fn exchange(&self, credentials: Credentials, namespace: Option<&str>) -> Result<SecretBytes, ProviderError> {
        let what = "login to Vault";
        let fields = credentials.fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let request = Request::write(credentials.path, object_of_text(&fields));
        let body =
            self.request_in(namespace.filter(|n| !n.is_empty()), &request, what).await.map_err(|error| match error {
                // Wrong credentials are a bad request to most methods.
                ProviderError { kind: ErrorKind::Misconfigured, .. } if error.detail.ends_with("(400)") => ProviderError {
                    kind: ErrorKind::Denied,
                    detail: format!("{what}: Vault does not accept the credentials, or not for this role (400)"),
                    ..error
                },
                other => other,
            })?;
        let body = body.unwrap_or_default();
        serde_json::from_slice::<LoggedIn>(body.expose()).map(|answer| answer.auth.client_token).map_err(|_| {
            ProviderError::new(
                ErrorKind::Malformed,
                format!("{what}: the answer holds no token: is the address that of a Vault?"),
            )
        })
    }
}

/// The first way that is set, as in ESO; `None` where there is none.
async fn credentials(auth: &Auth, path: &str, cx: &ConnectCx) -> Result<Option<Credentials>, ProviderError> {
    let found = if let Some(role) = &auth.app_role {
        of_app_role(role, &format!("{path}.appRole"), cx).await?
    } else if let Some(kubernetes) = &auth.kubernetes {
        of_kubernetes(kubernetes, &format!("{path}.kubernetes"), cx).await?
    } else if let Some(ldap) = &auth.ldap {
        of_password(ldap, "ldap", &format!("{path}.ldap"), cx).await?
    } else if let Some(user) = &auth.user_pass {
        of_password(user, "userpass", &format!("{path}.userPass"), cx).await?
    } else if let Some(jwt) = &auth.jwt {
        of_jwt(jwt, &format!("{path}.jwt"), cx).await?
    } else if let Some(cert) = &auth.cert {
        of_certificate(cert)
    } else if auth.iam.is_some() || auth.gcp.is_some() {
        let name = if auth.iam.is_some() { "iam" } else { "gcp" };
        let text = format!("{path}.{name} is not served by this version of keyferry: use another way to log in");
        return Err(ProviderError::new(ErrorKind::Unsupported, text));
    } else {
        return Ok(None);
    };
    Ok(Some(found))
}

/// The path of a method's login.
fn login_at(mount: Option<&str>, default: &str) -> String {
    let mount = mount.map(|mount| mount.trim_matches('/')).filter(|mount| !mount.is_empty()).unwrap_or(default);
    format!("auth/{mount}/login")
}

async fn of_app_role(role: &AppRole, what: &str, cx: &ConnectCx) -> Result<Credentials, ProviderError> {
    let id = match (role.role_id.as_deref().map(str::trim).filter(|id| !id.is_empty()), &role.role_ref) {
        (Some(id), _) => SecretBytes::from(id),
        (None, Some(selector)) => cx.secret_text(selector, &format!("{what}.roleRef")).await?,
        (None, None) => return Err(misconfigured(format!("{what}: one of roleId and roleRef must be set"))),
    };
    let secret = cx.secret_text(&role.secret_ref, &format!("{what}.secretRef")).await?;
    let path = login_at(role.path.as_deref(), "approle");
    Ok(Credentials { path, fields: vec![("role_id", id), ("secret_id", secret)] })
}

async fn of_kubernetes(auth: &KubernetesAuth, what: &str, cx: &ConnectCx) -> Result<Credentials, ProviderError> {
    let jwt = if let Some(account) = &auth.service_account_ref {
        let what = format!("{what}.serviceAccountRef");
        cx.token(account, account.audiences.clone(), Some(TOKEN_LIFE), &what).await?
    } else if let Some(selector) = &auth.secret_ref {
        cx.secret_text(&or_key(selector, "token"), &format!("{what}.secretRef")).await?
    } else {
        own_token(what, cx).await?
    };
    let fields = vec![("jwt", jwt), ("role", SecretBytes::from(auth.role.as_str()))];
    Ok(Credentials { path: login_at(auth.mount_path.as_deref(), "kubernetes"), fields })
}

/// The operator's own token is good for all that the operator may do in the cluster. Only who may write cluster-wide objects may
/// have it sent to a server of their choice.
async fn own_token(what: &str, cx: &ConnectCx) -> Result<SecretBytes, ProviderError> {
    if cx.store_kind != StoreKind::ClusterSecretStore {
        let text = "one of serviceAccountRef and secretRef must be set: the operator's own token goes nowhere that a namespaced object names";
        return Err(misconfigured(format!("{what}: {text}")));
    }
    let read = tokio::fs::read(OWN_TOKEN).await.map(SecretBytes::new);
    read.map_err(|_| {
        misconfigured(format!("{what}: the operator has no token of its own: set serviceAccountRef or secretRef"))
    })
}

async fn of_password(auth: &PasswordAuth, default: &str, what: &str, cx: &ConnectCx) -> Result<Credentials, ProviderError> {
    let password = cx.secret_text(&auth.secret_ref, &format!("{what}.secretRef")).await?;
    let path = format!("{}/{}", login_at(auth.path.as_deref(), default), auth.username.trim());
    // The name is one step of the path.
    if segment(auth.username.trim()).contains("%2F") || auth.username.trim().is_empty() {
        return Err(misconfigured(format!("{what}.username is empty or holds a slash")));
    }
    Ok(Credentials { path, fields: vec![("password", password)] })
}

async fn of_jwt(auth: &JwtAuth, what: &str, cx: &ConnectCx) -> Result<Credentials, ProviderError> {
    let jwt = if let Some(selector) = &auth.secret_ref {
        cx.secret_text(selector, &format!("{what}.secretRef")).await?
    } else if let Some(token) = &auth.kubernetes_service_account_token {
        let what = format!("{what}.kubernetesServiceAccountToken.serviceAccountRef");
        let account = &token.service_account_ref;
        let more = token.audiences.clone().unwrap_or_else(|| vec!["vault".to_owned()]);
        let audiences = account.audiences.iter().cloned().chain(more).collect();
        cx.token(account, audiences, Some(token.expiration_seconds.unwrap_or(TOKEN_LIFE)), &what).await?
    } else {
        return Err(misconfigured(format!("{what}: one of secretRef and kubernetesServiceAccountToken must be set")));
    };
    let role = auth.role.as_deref().unwrap_or_default().trim();
    Ok(Credentials {
        path: login_at(auth.path.as_deref(), "jwt"),
        fields: vec![("role", SecretBytes::from(role)), ("jwt", jwt)],
    })
}

/// The certificate itself is shown when the connection is made.
fn of_certificate(auth: &CertAuth) -> Credentials {
    let name = auth.vault_role.as_deref().filter(|role| !role.is_empty());
    let fields = name.map(|name| ("name", SecretBytes::from(name))).into_iter().collect();
    Credentials { path: login_at(auth.path.as_deref(), "cert"), fields }
}
