//! From a store's block to a client configuration: address, certificate authority, credentials.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, Kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{CertAuth, ConnectCx, DEFAULT_URL, ErrorKind, Kubernetes, ProviderError, Server};
use crate::api::refs::{SecretKeySelector, ServiceAccountSelector};
use crate::outbound::api_server;
use crate::secret_bytes::SecretBytes;

/// A login that is ready to be used.
pub(super) struct Login {
    /// Address, certificate authority, and the credentials unless they are a ServiceAccount's.
    pub config: kube::Config,
    /// The ServiceAccount whose tokens go into `config`, one after the other.
    pub account: Option<ServiceAccountSelector>,
}

/// Reads what the login needs from the cluster that the operator runs in.
pub(super) async fn prepare(store: &Kubernetes, cx: &ConnectCx) -> Result<Login, ProviderError> {
    if let Some(selector) = &store.auth_ref {
        return Ok(Login { config: from_kubeconfig(selector, cx).await?, account: None });
    }
    let mut config = address(store.server.as_ref(), cx).await?;
    let auth = store.auth();
    if let Some(cert) = &auth.cert {
        config.auth_info = from_certificate(cert, cx).await?;
    } else if let Some(token) = &auth.token {
        let what = "spec.provider.kubernetes.auth.token.bearerToken";
        config.auth_info = from_token(&cx.secret_text(&token.bearer_token, what).await?, what)?;
    }
    Ok(Login { config, account: auth.service_account })
}

/// A bearer token as credentials.
pub(super) fn from_token(token: &SecretBytes, what: &str) -> Result<AuthInfo, ProviderError> {
    let text = token.expose_str().ok_or_else(|| misconfigured(format!("{what}: the token is not text")))?;
    Ok(AuthInfo { token: Some(text.into()), ..AuthInfo::default() })
}

async fn address(server: Option<&Server>, cx: &ConnectCx) -> Result<kube::Config, ProviderError> {
    let what = "spec.provider.kubernetes.server";
    let url = server.and_then(|s| s.url.as_deref()).filter(|url| !url.is_empty() && *url != DEFAULT_URL);
    let mut config = match url {
        Some(url) => kube::Config::new(parse_url(url)?),
        None => cx.cluster.config(),
    };
    let Some(server) = server else { return Ok(config) };
    if let Some(pem) = cx.ca(&server.ca, what).await? {
        config.root_cert = Some(certificates(&pem, what)?);
        config.root_cert_file = None;
    }
    Ok(config)
}

/// client-go takes an address without a scheme for `http` where there is no certificate authority. Here it is `https`: a token
/// must not go out in clear text because somebody forgot eight characters.
fn parse_url(url: &str) -> Result<http::Uri, ProviderError> {
    let full = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    full.parse::<http::Uri>()
        .ok()
        .filter(|uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some())
        .ok_or_else(|| {
            misconfigured(format!(
                "spec.provider.kubernetes.server.url {url:?} is no address: give one like https://host:6443"
            ))
        })
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<Vec<u8>>, ProviderError> {
    CertificateDer::pem_slice_iter(pem)
        .map(|found| found.map(|der| der.to_vec()))
        .collect::<Result<_, _>>()
        .map_err(|_| misconfigured(format!("{what}: the certificate authority is not whole PEM")))
}

async fn from_certificate(cert: &CertAuth, cx: &ConnectCx) -> Result<AuthInfo, ProviderError> {
    let what = "spec.provider.kubernetes.auth.cert";
    let certificate = cx.secret(&cert.client_cert, &format!("{what}.clientCert")).await?;
    let key = cx.secret(&cert.client_key, &format!("{what}.clientKey")).await?;
    Ok(AuthInfo {
        client_certificate_data: Some(STANDARD.encode(certificate.expose())),
        client_key_data: Some(STANDARD.encode(key.expose()).into()),
        ..AuthInfo::default()
    })
}

async fn from_kubeconfig(selector: &SecretKeySelector, cx: &ConnectCx) -> Result<kube::Config, ProviderError> {
    let what = "spec.provider.kubernetes.authRef";
    let text = cx.secret(selector, what).await?;
    let unreadable = || misconfigured(format!("{what}: the value is not a kubeconfig with a context, a cluster and a user"));
    let parsed = text.expose_str().and_then(|text| Kubeconfig::from_yaml(text).ok()).ok_or_else(unreadable)?;
    refuse_the_operators_own(&parsed, what)?;
    api_server::of_kubeconfig(parsed).await.map_err(|_| unreadable())
}

/// A kubeconfig can name programs and files. In the operator's Pod these would be the operator's: its author could run code there,
/// or have the operator's own token sent to a server of theirs. So all it needs must stand in it.
fn refuse_the_operators_own(config: &Kubeconfig, what: &str) -> Result<(), ProviderError> {
    let in_users = config.auth_infos.iter().filter_map(|named| named.auth_info.as_ref()).find_map(|user| {
        let fields = [
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
            ("tokenFile", user.token_file.is_some()),
            ("client-certificate", user.client_certificate.is_some()),
            ("client-key", user.client_key.is_some()),
        ];
        fields.into_iter().find_map(|(field, is_set)| is_set.then_some(field))
    });
    let in_clusters = || {
        let mut clusters = config.clusters.iter().filter_map(|named| named.cluster.as_ref());
        clusters.any(|cluster| cluster.certificate_authority.is_some()).then_some("certificate-authority")
    };
    match in_users.or_else(in_clusters) {
        None => Ok(()),
        Some(field) => Err(misconfigured(format!(
            "{what}: the kubeconfig uses {field}, which would run a program or read a file of the operator's: put the token or \
             the certificates into it (token, client-certificate-data, client-key-data, certificate-authority-data)"
        ))),
    }
}

fn misconfigured(text: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_https() {
        for (given, full) in [
            ("https://10.0.0.1:6443", "https://10.0.0.1:6443/"),
            ("http://127.0.0.1:8001", "http://127.0.0.1:8001/"),
            ("api.example.test", "https://api.example.test/"),
            ("api.example.test:6443/k8s/clusters/c-1", "https://api.example.test:6443/k8s/clusters/c-1"),
        ] {
            assert_eq!(parse_url(given).unwrap().to_string(), full, "{given}");
        }
        for bad in ["ftp://x", "https://", "a b", "://x"] {
            assert_eq!(parse_url(bad).unwrap_err().kind, ErrorKind::Misconfigured, "{bad}");
        }
    }

    fn kubeconfig(user: &str, cluster: &str) -> Kubeconfig {
        Kubeconfig::from_yaml(&format!(
            "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster: {{server: 'https://x', {cluster}}}\nusers:\n\
             - name: u\n  user: {{{user}}}\ncontexts:\n- name: k\n  context: {{cluster: c, user: u}}\ncurrent-context: k\n"
        ))
        .unwrap()
    }

    #[test]
    fn a_kubeconfig_may_not_reach_for_programs_and_files() {
        refuse_the_operators_own(&kubeconfig("token: t", "certificate-authority-data: eA=="), "x").unwrap();
        for (user, cluster, field) in [
            ("exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh}", "", "exec"),
            ("auth-provider: {name: oidc, config: {}}", "", "auth-provider"),
            ("tokenFile: /var/run/secrets/kubernetes.io/serviceaccount/token", "", "tokenFile"),
            ("client-certificate: /etc/c", "", "client-certificate"),
            ("client-key: /etc/k", "", "client-key"),
            ("token: t", "certificate-authority: /etc/ca", "certificate-authority"),
        ] {
            let error = refuse_the_operators_own(&kubeconfig(user, cluster), "x").unwrap_err();
            assert!(error.detail.contains(&format!("uses {field},")), "{}", error.detail);
        }
    }
}
