//! The ways to log in to Vault: what each one shows.

use http::Method;
use jiff::Timestamp;

use super::config::{AppRole, Auth, CertAuth, GcpAuth, IamAuth, JwtAuth, KubernetesAuth, PasswordAuth};
use super::transport::{misconfigured, or_key};
use crate::api::generators::GcrAuth;
use crate::outbound::segment;
use crate::providers::aws::caller::{Caller, caller_identity};
use crate::providers::gcp::{Endpoints, Login as Google};
use crate::providers::{ConnectCx, ProviderError, aws};
use crate::secret_bytes::SecretBytes;

/// Seconds that a ServiceAccount's token is asked for, where nothing else is said.
const TOKEN_LIFE: i64 = 600;
/// Region of AWS where nothing else is said.
const REGION: &str = "us-east-1";
/// Header by which Vault knows that a request of AWS was signed for it and for nobody else.
const SERVER_ID: &str = "X-Vault-AWS-IAM-Server-ID";

/// Where to log in, and with what.
pub(super) struct Credentials {
    pub path: String,
    pub fields: Vec<(&'static str, SecretBytes)>,
}

/// The first way that is set, as in ESO. `path` is where the block stands in the object, `server` the address of Vault.
///
/// # Errors
/// `Misconfigured` where something is missing, else what those said who were asked for a token.
pub(super) async fn credentials(
    auth: &Auth,
    path: &str,
    server: &str,
    cx: &ConnectCx,
) -> Result<Credentials, ProviderError> {
    if let Some(role) = &auth.app_role {
        of_app_role(role, &format!("{path}.appRole"), cx).await
    } else if let Some(kubernetes) = &auth.kubernetes {
        of_kubernetes(kubernetes, &format!("{path}.kubernetes"), cx).await
    } else if let Some(ldap) = &auth.ldap {
        of_password(ldap, "ldap", &format!("{path}.ldap"), cx).await
    } else if let Some(user) = &auth.user_pass {
        of_password(user, "userpass", &format!("{path}.userPass"), cx).await
    } else if let Some(jwt) = &auth.jwt {
        of_jwt(jwt, &format!("{path}.jwt"), cx).await
    } else if let Some(cert) = &auth.cert {
        Ok(of_certificate(cert))
    } else if let Some(iam) = &auth.iam {
        of_iam(iam, &format!("{path}.iam"), cx).await
    } else if let Some(gcp) = &auth.gcp {
        of_gcp(gcp, &format!("{path}.gcp"), server, cx).await
    } else {
        Err(misconfigured(format!("{path}: no way to log in is set")))
    }
}

/// An identity of the operator's own is good for more than one store, and a server can use what it is shown. Only who may write
/// cluster-wide objects may have it sent to a server of their choice.
fn own_identity(what: &str, instead: &str, cx: &ConnectCx) -> Result<(), ProviderError> {
    cx.allow_own_identity(what).map_err(|_| {
        let text = "the operator's own identity goes to no server that a namespaced object names";
        misconfigured(format!("{what}: {instead} must be set: {text}"))
    })
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
        own_identity(what, "one of serviceAccountRef and secretRef", cx)?;
        cx.own_token(None, what).await?
    };
    let fields = vec![("jwt", jwt), ("role", SecretBytes::from(auth.role.as_str()))];
    Ok(Credentials { path: login_at(auth.mount_path.as_deref(), "kubernetes"), fields })
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

/// Vault has AWS say who signed a request: it sends on what we only sign.
async fn of_iam(auth: &IamAuth, what: &str, cx: &ConnectCx) -> Result<Credentials, ProviderError> {
    if auth.jwt.is_none() && auth.secret_ref.is_none() {
        own_identity(what, "one of jwt and secretRef", cx)?;
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let login = (auth.jwt.is_some() || auth.secret_ref.is_some())
        .then(|| aws::Auth { secret_ref: auth.secret_ref.clone(), jwt: auth.jwt.clone() });
    let server_id = given(&auth.server_id);
    let caller = Caller {
        region: given(&auth.region).unwrap_or_else(|| REGION.to_owned()),
        auth: login,
        role: given(&auth.role),
        external_id: given(&auth.external_id),
        header: server_id.as_deref().map(|id| (SERVER_ID, id)),
        path: what,
    };
    let signed = caller_identity(caller, cx).await?;
    let fields = vec![
        ("role", SecretBytes::from(auth.vault_role.trim())),
        ("iam_http_request_method", SecretBytes::from(Method::POST.as_str())),
        ("iam_request_url", signed.url),
        ("iam_request_body", signed.body),
        ("iam_request_headers", signed.headers),
    ];
    Ok(Credentials { path: login_at(auth.path.as_deref(), "aws"), fields })
}

/// A token that Google signed for this role of Vault's, as a service account.
async fn of_gcp(auth: &GcpAuth, what: &str, server: &str, cx: &ConnectCx) -> Result<Credentials, ProviderError> {
    let role = auth.role.trim();
    let google = GcrAuth {
        secret_ref: auth.secret_ref.clone(),
        workload_identity: auth.workload_identity.clone().map(Into::into),
        workload_identity_federation: None,
    };
    let google = Google {
        auth: &google,
        project: auth.project_id.as_deref().unwrap_or_default(),
        path: what,
        cx,
        now: Timestamp::now(),
        endpoints: Endpoints::of(cx),
    };
    let jwt = if auth.secret_ref.is_some() || auth.workload_identity.is_some() {
        google.signed_jwt(&format!("vault/{role}")).await?
    } else {
        // also with serviceAccountRef, which ESO reads no more than this
        own_identity(what, "one of secretRef and workloadIdentity", cx)?;
        google.own_jwt(&format!("{server}/vault/{role}")).await?
    };
    let fields = vec![("role", SecretBytes::from(role)), ("jwt", jwt)];
    Ok(Credentials { path: login_at(auth.path.as_deref(), "gcp"), fields })
}
