//! A client of Key Vault's REST API: one vault, one login.

use std::time::Duration;

use async_trait::async_trait;
use http::header::WWW_AUTHENTICATE;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::{Position, Url};

use super::config::{KeyVault, PATH};
use crate::outbound::{Answer, Call, TlsOptions, query};
use crate::providers::rest::{Ask, Granted, Login, Rest};
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// Version of the API: it has all that is asked for, in every cloud.
const API_VERSION: &str = "7.4";

/// Time that one try may take.
const DEADLINE: Duration = Duration::from_secs(15);

/// A request.
pub(super) struct Request<'a> {
    /// Its name in metrics: ESO's.
    pub name: &'static str,
    pub method: Method,
    /// Path without the first slash. Names in it are checked: see `objects.rs`.
    pub path: String,
    pub body: Option<SecretBytes>,
    /// Key that it is about; empty for all.
    pub key: &'a str,
}

impl<'a> Request<'a> {
    pub(super) fn get(name: &'static str, path: String, key: &'a str) -> Self {
        Self { name, method: Method::GET, path, body: None, key }
    }

    pub(super) fn write(name: &'static str, method: Method, path: String, body: Option<SecretBytes>, key: &'a str) -> Self {
        Self { method, body, ..Self::get(name, path, key) }
    }

    fn what(&self) -> String {
        match self.key {
            "" => self.name.to_owned(),
            key => format!("{} of {key:?}", self.name),
        }
    }
}

/// A client that is logged in.
pub(super) struct Client {
    rest: Rest,
    /// Address of the vault, without a slash at the end.
    vault: String,
    store: KeyVault,
    /// What tokens are for.
    resource: String,
    cx: ConnectCx,
}

impl Client {
    /// Asks the vault what it wants a token for, and logs in.
    ///
    /// # Errors
    /// `Denied` where the vault wants one that it has no right to, or Entra ID does not take the login; `Misconfigured` where a
    /// reference is missing.
    pub(super) async fn open(store: &KeyVault, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let url = store.vault()?;
        let vault = url.as_str().trim_end_matches('/').to_owned();
        let rest = Rest::open(&TlsOptions::default(), PATH, cx)?;
        let what = format!("{PATH}.vaultUrl");
        let first = format!("{vault}/secrets?{}", query(&[("api-version", API_VERSION), ("maxresults", "1")]));
        let ask = Ask { name: "GetSecrets", what: &what, cx: &CallCx::default() };
        let answer = rest.send(&ask, &|| Ok(Call::new(Method::GET, &first, &what)?.within(DEADLINE))).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Err(answer.refusal(&what));
        }
        let resource = answer.headers.get(WWW_AUTHENTICATE).and_then(|value| wanted(value.to_str().ok()?));
        let resource = resource.ok_or_else(|| {
            ProviderError::new(ErrorKind::Malformed, format!("{what}: the server does not ask for a login as a vault does"))
        })?;
        store.check_resource(url.host_str().unwrap_or_default(), &resource)?;
        let client = Self { rest, vault, store: store.clone(), resource, cx: cx.clone() };
        client.log_in().await?;
        Ok(client)
    }

    /// Logs in where there is no token that holds.
    pub(super) async fn log_in(&self) -> Result<(), ProviderError> {
        self.rest.log_in(self).await
    }

    /// Whether the store asks for the newer of ESO's two clients.
    pub(super) fn is_of_new_sdk(&self) -> bool {
        self.store.use_azure_sdk == Some(true)
    }

    /// The path of a page's address, if the page is of this vault: no token goes elsewhere.
    pub(super) fn page(&self, link: &str) -> Option<String> {
        page_of(&self.vault, link)
    }

    /// Asks, and reads the answer.
    ///
    /// # Errors
    /// What the answer stands for.
    pub(super) async fn call<T: DeserializeOwned>(&self, request: &Request<'_>, cx: &CallCx) -> Result<T, ProviderError> {
        let answer = self.exchange(request, cx).await?;
        if answer.status.is_success() { answer.json(&request.what()) } else { Err(refusal(&answer, request)) }
    }

    /// Asks; the answer may be a refusal.
    ///
    /// # Errors
    /// `Unavailable` where there is no answer; those of a login.
    pub(super) async fn exchange(&self, request: &Request<'_>, cx: &CallCx) -> Result<Answer, ProviderError> {
        let what = request.what();
        let ask = Ask { name: request.name, what: &what, cx };
        self.rest.ask(&ask, self, &|token| self.request(request, &what)?.bearer(token, &what)).await
    }

    fn request(&self, request: &Request<'_>, what: &str) -> Result<Call, ProviderError> {
        // The address of a further page has the version in it.
        let version = match request.path.contains("api-version=") {
            true => String::new(),
            false => format!("?{}", query(&[("api-version", API_VERSION)])),
        };
        let url = format!("{}/{}{version}", self.vault, request.path);
        let call = Call::new(request.method.clone(), &url, what)?.within(DEADLINE);
        Ok(call.maybe_json(request.body.as_ref()))
    }
}

#[async_trait]
impl Login for Client {
    async fn login(&self) -> Result<Granted, ProviderError> {
        self.store.log_in(&self.resource, &self.cx).await.map(crate::providers::oauth::AccessToken::granted)
    }
}

/// The path of a page's address, with its query, if the page is of that vault. Key Vault names the port there, also the usual one.
fn page_of(vault: &str, link: &str) -> Option<String> {
    let (vault, link) = (Url::parse(vault).ok()?, Url::parse(link).ok()?);
    let is_there = vault.scheme() == link.scheme()
        && vault.host() == link.host()
        && vault.port_or_known_default() == link.port_or_known_default();
    let path = link[Position::BeforePath..Position::AfterQuery].strip_prefix('/')?;
    is_there.then(|| path.to_owned())
}

/// What a challenge says that tokens are for.
fn wanted(challenge: &str) -> Option<String> {
    let (scheme, rest) = challenge.trim().split_once(' ')?;
    let parameters = rest.split(',').filter_map(|part| part.trim().split_once('='));
    let mut found = None;
    for (name, value) in parameters {
        let value = value.trim_matches('"').trim_end_matches('/');
        match name {
            "resource" => found = Some(value),
            "scope" => found = value.strip_suffix("/.default").or(found),
            _ => {}
        }
    }
    found.filter(|_| scheme.eq_ignore_ascii_case("bearer")).map(str::to_owned)
}

/// Codes of a refusal, outer and inner, out of documented lists; empty where the answer is not Key Vault's.
pub(super) fn codes(answer: &Answer) -> [String; 2] {
    #[derive(Deserialize)]
    struct Refused {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        #[serde(default)]
        code: String,
        innererror: Option<Inner>,
    }
    #[derive(Deserialize)]
    struct Inner {
        #[serde(default)]
        code: String,
    }
    match serde_json::from_slice::<Refused>(answer.body.expose()) {
        Ok(Refused { error }) => [error.code, error.innererror.map(|inner| inner.code).unwrap_or_default()],
        Err(_) => Default::default(),
    }
}

/// What a refusal stands for. "Not found" counts only where Key Vault says so: a proxy's 404 says nothing of a secret.
pub(super) fn refusal(answer: &Answer, request: &Request<'_>) -> ProviderError {
    let error = answer.refusal(&request.what());
    let [outer, inner] = codes(answer);
    let is = |code: &str| outer == code || inner == code;
    let number = answer.status.as_u16();
    let (kind, text) = match number {
        404 if ["SecretNotFound", "KeyNotFound", "CertificateNotFound"].into_iter().any(is) => {
            return ProviderError::not_found(request.key);
        }
        403 if is("SecretDisabled") || is("KeyDisabled") || is("CertificateDisabled") => {
            (ErrorKind::Denied, "it is disabled: enable it, or name another version")
        }
        403 if is("ForbiddenByFirewall") || is("ForbiddenByConnection") => {
            (ErrorKind::Denied, "the vault's firewall does not let us in")
        }
        403 if error.kind == ErrorKind::Denied => (
            ErrorKind::Denied,
            "Key Vault does not allow it: check the access policy or the role of the login, and that it is enabled",
        ),
        400 => (ErrorKind::Misconfigured, "Key Vault does not take the request: check the key, the value and the metadata"),
        _ => return error,
    };
    ProviderError { kind, detail: format!("{}: {text} ({number})", request.what()), ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_one_of_the_vaults_own() {
        let path = "secrets?api-version=7.4&$skiptoken=eyJOZXh0TWFya2VyIjoiMiE0OCE%3D&maxresults=25";
        for (vault, link) in [
            ("https://x.vault.azure.net", "https://x.vault.azure.net:443"),
            ("https://x.vault.azure.net", "https://x.vault.azure.net"),
            ("https://x.vault.azure.net", "https://X.vault.azure.net"),
            ("https://x.vault.azure.net:8443", "https://x.vault.azure.net:8443"),
        ] {
            assert_eq!(page_of(vault, &format!("{link}/{path}")).as_deref(), Some(path), "{link}");
        }
        for link in [
            "https://evil.test",
            "https://x.vault.azure.net.evil.test",
            "https://x.vault.azure.net:8443",
            "http://x.vault.azure.net",
            "http://x.vault.azure.net:443",
            "https://x.vault.azure.net@evil.test",
            "//x.vault.azure.net",
            "",
        ] {
            assert_eq!(page_of("https://x.vault.azure.net", &format!("{link}/{path}")), None, "{link}");
        }
    }

    #[test]
    fn a_challenge_says_what_tokens_are_for() {
        for (challenge, resource) in [
            (
                r#"Bearer authorization="https://login.test/t", resource="https://vault.azure.net""#,
                Some("https://vault.azure.net"),
            ),
            (
                r#"Bearer resource="https://vault.azure.net/", authorization="https://login.test/t""#,
                Some("https://vault.azure.net"),
            ),
            (r#"bearer authorization="https://login.test/t", scope="https://a.b/.default""#, Some("https://a.b")),
            (r#"Basic realm="x""#, None),
            (r#"Basic resource="https://vault.azure.net""#, None),
            ("Bearer", None),
            ("", None),
        ] {
            assert_eq!(wanted(challenge).as_deref(), resource, "{challenge}");
        }
    }
}
