//! A file in a registry of containers, by the OCI Distribution Specification: an artifact whose layer is the file itself, as
//! `oras push` puts it there.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::decrypt::MAX_FILE;
use super::source::{File, header};
use super::{OciFile, PATH};
use crate::api::refs::SecretKeySelector;
use crate::outbound::{Answer, Call, TlsOptions, query, secret};
use crate::providers::rest::{Ask, Granted, Login, Rest};
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::render::json;
use crate::secret_bytes::SecretBytes;

/// Kinds of manifests that are read.
const MANIFESTS: &[u8] = b"application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";
/// Annotation of a layer with the name of its file.
const TITLE: &str = "org.opencontainers.image.title";
/// Most bytes of a manifest, as registries bound it.
const MAX_MANIFEST: usize = 4 << 20;
/// How long a token holds where the server does not say.
const TOKEN_LIFE: u64 = 60;

/// What a manifest is found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    host: String,
    repository: String,
    /// Tag or digest.
    version: String,
}

impl Reference {
    /// Takes `host/repository:tag` or `host/repository@digest` apart.
    ///
    /// # Errors
    /// `Misconfigured` where it is none.
    pub(super) fn parse(text: &str) -> Result<Self, ProviderError> {
        Self::split(text.trim().trim_start_matches("oci://")).ok_or_else(|| {
            let text = format!("{PATH}.source.oci.reference is not like registry.example/team/secrets:main");
            ProviderError::new(ErrorKind::Misconfigured, text)
        })
    }

    fn split(text: &str) -> Option<Self> {
        let (host, rest) = text.split_once('/')?;
        let (repository, version) = match rest.split_once('@') {
            // A tag beside a digest says nothing.
            Some((name, digest)) => (name.split(':').next()?, digest),
            None => rest.split_once(':').unwrap_or((rest, "latest")),
        };
        let is_name = |text: &str| {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._/".contains(c);
            !text.is_empty() && text.chars().all(allowed) && text.split('/').all(|step| !matches!(step, "" | "." | ".."))
        };
        let is_version =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
        let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-.:[]".contains(c));
        let ok = is_host && is_name(repository) && is_version(version);
        ok.then(|| Self { host: host.to_owned(), repository: repository.to_owned(), version: version.to_owned() })
    }
}

/// A file in a registry.
pub(super) struct Registry {
    rest: Rest,
    base: String,
    reference: Reference,
    file: Option<String>,
    login: RegistryLogin,
}

/// How a registry lets somebody in: it tells that itself, in the answer to a call without a login.
struct RegistryLogin {
    rest: Rest,
    credentials: Option<SecretBytes>,
    repository: String,
    is_secure: bool,
    challenge: Mutex<Option<Challenge>>,
}

/// What a registry asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Challenge {
    /// The user and the password themselves.
    Basic,
    /// A token that another server gives.
    Bearer { realm: String, service: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

impl Layer {
    fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }
}

impl Registry {
    /// Prepares the way to a registry.
    ///
    /// # Errors
    /// `Misconfigured` where the reference makes no sense, or an object or key is missing.
    pub(super) async fn open(file: &OciFile, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let path = format!("{PATH}.source.oci");
        let reference = Reference::parse(&file.reference)?;
        let ca = cx.ca(&file.ca, &path).await?;
        let options = TlsOptions { ca, identity: None };
        let credentials = match &file.pull_secret_ref {
            Some(selector) => Some(credentials(selector, &reference, &format!("{path}.pullSecretRef"), cx).await?),
            None => None,
        };
        let is_secure = file.plain_http != Some(true);
        let scheme = if is_secure { "https" } else { "http" };
        Ok(Self {
            rest: Rest::open(&options, &path, cx)?,
            base: format!("{scheme}://{}/v2/{}", reference.host, reference.repository),
            file: file.file.clone().filter(|title| !title.is_empty()),
            login: RegistryLogin {
                rest: Rest::open(&options, &path, cx)?,
                credentials,
                repository: reference.repository.clone(),
                is_secure,
                challenge: Mutex::default(),
            },
            reference,
        })
    }

    /// Reads the file; `None` where its layer is still the one of this digest.
    pub(super) async fn read(&self, version: Option<&str>, what: &str, cx: &CallCx) -> Result<Option<File>, ProviderError> {
        let manifest = self.manifest(what, cx).await?;
        let layer = self.layer(&manifest, what)?;
        if version == Some(&layer.digest) {
            return Ok(None);
        }
        let bytes = self.blob(&layer.digest, what, cx).await?;
        let name = layer.title().or(self.file.as_deref()).unwrap_or_default().to_owned();
        Ok(Some(File { name, bytes, version: Some(layer.digest.clone()) }))
    }

    async fn manifest(&self, what: &str, cx: &CallCx) -> Result<Manifest, ProviderError> {
        let url = format!("{}/manifests/{}", self.base, self.reference.version);
        let answer = self.get(&Ask { name: "GetManifest", what, cx }, &url, MANIFESTS, MAX_MANIFEST).await?;
        let answer = answer.success(what)?;
        if self.reference.version.contains(':') {
            check_digest(&answer.body, &self.reference.version, what)?;
        }
        answer.json(what)
    }

    /// The layer that the store means.
    fn layer<'m>(&self, manifest: &'m Manifest, what: &str) -> Result<&'m Layer, ProviderError> {
        let layer = match &self.file {
            Some(title) => manifest.layers.iter().find(|layer| layer.title() == Some(title)).ok_or_else(|| {
                let text = format!("{what}: the artifact has no file {title:?}");
                ProviderError::new(ErrorKind::Misconfigured, text)
            })?,
            None => match manifest.layers.as_slice() {
                [layer] => layer,
                [] => return Err(ProviderError::new(ErrorKind::Malformed, format!("{what}: the artifact has no layer"))),
                _ => {
                    let text = format!("{what}: the artifact has several files: name one in {PATH}.source.oci.file");
                    return Err(ProviderError::new(ErrorKind::Misconfigured, text));
                }
            },
        };
        if layer.media_type.contains("tar") || layer.media_type.ends_with("gzip") || layer.media_type.ends_with("zstd") {
            let text = format!("{what}: its layer is an archive: push the encrypted file itself, as oras push does");
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        Ok(layer)
    }

    /// A blob. Registries keep them elsewhere, and send the caller there: without its login, and once.
    async fn blob(&self, digest: &str, what: &str, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let ask = Ask { name: "GetBlob", what, cx };
        if !digest.starts_with("sha256:") || digest.contains(['/', '?', '#', '%']) {
            return Err(ProviderError::new(ErrorKind::Malformed, format!("{what}: the layer's digest is none of SHA-256")));
        }
        let url = format!("{}/blobs/{digest}", self.base);
        let mut answer = self.get(&ask, &url, b"*/*", MAX_FILE).await?;
        if answer.status.is_redirection()
            && let Some(place) = header(&answer, "location")
        {
            let place = url::Url::parse(&url).and_then(|base| base.join(&place));
            let place =
                place.map_err(|_| ProviderError::new(ErrorKind::Malformed, format!("{what}: sent to no address")))?;
            answer = self.rest.send(&ask, &|| get(place.as_str(), b"*/*", MAX_FILE, what)).await?;
        }
        let answer = answer.success(what)?;
        check_digest(&answer.body, digest, what)?;
        Ok(answer.body)
    }

    /// A GET with the login that the registry asks for.
    async fn get(&self, ask: &Ask<'_>, url: &str, accept: &[u8], most: usize) -> Result<Answer, ProviderError> {
        if self.login.challenge.lock().await.is_none() {
            let answer = self.rest.send(ask, &|| get(url, accept, most, ask.what)).await?;
            let Some(challenge) = Challenge::of(&answer) else { return Ok(answer) };
            *self.login.challenge.lock().await = Some(challenge);
        }
        let make = |token: &SecretBytes| get(url, accept, most, ask.what)?.header("authorization", token.expose(), ask.what);
        self.rest.ask(ask, &self.login, &make).await
    }
}

fn get(url: &str, accept: &[u8], most: usize, what: &str) -> Result<Call, ProviderError> {
    Call::new(Method::GET, url, what)?.at_most(most).header("accept", accept, what)
}

/// A registry must send what its digest says.
fn check_digest(bytes: &SecretBytes, expected: &str, what: &str) -> Result<(), ProviderError> {
    let found = digest(&SHA256, bytes.expose());
    let found: String = found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    if expected.strip_prefix("sha256:") == Some(&found) {
        return Ok(());
    }
    Err(ProviderError::new(
        ErrorKind::Malformed,
        format!("{what}: the registry sent something else than what was asked for"),
    ))
}

impl Challenge {
    /// What an answer asks for, if it asks for a login.
    fn of(answer: &Answer) -> Option<Self> {
        if answer.status != StatusCode::UNAUTHORIZED {
            return None;
        }
        Self::parse(&header(answer, "www-authenticate")?)
    }

    /// `Bearer realm="https://…",service="…"`, or `Basic …`.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let value = |name: &str| {
            let (_, after) = rest.split_once(&format!("{name}=\""))?;
            after.split_once('"').map(|(value, _)| value.to_owned())
        };
        Some(Self::Bearer { realm: value("realm")?, service: value("service").unwrap_or_default() })
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default, deserialize_with = "secret")]
    token: SecretBytes,
    #[serde(default, deserialize_with = "secret")]
    access_token: SecretBytes,
    #[serde(default)]
    expires_in: Option<u64>,
}

#[async_trait]
impl Login for RegistryLogin {
    /// The value of an `Authorization` header.
    async fn login(&self) -> Result<Granted, ProviderError> {
        let what = "login to the registry";
        let basic = self.credentials.as_ref().map(|text| SecretBytes::new([b"Basic ", text.expose()].concat()));
        let challenge = self.challenge.lock().await.clone();
        let (realm, service) = match challenge {
            Some(Challenge::Bearer { realm, service }) => (realm, service),
            _ => {
                let token = basic.ok_or_else(|| {
                    let text = format!("{what}: the registry asks for credentials: set {PATH}.source.oci.pullSecretRef");
                    ProviderError::new(ErrorKind::Denied, text)
                })?;
                return Ok(Granted { token, life: None });
            }
        };
        if self.is_secure && !realm.starts_with("https://") {
            let text = format!("{what}: the registry asks to send the credentials without TLS, which is not done");
            return Err(ProviderError::new(ErrorKind::Misconfigured, text));
        }
        let scope = format!("repository:{}:pull", self.repository);
        let separator = if realm.contains('?') { '&' } else { '?' };
        let url = format!("{realm}{separator}{}", query(&[("service", &service), ("scope", &scope)]));
        let make = || {
            let call = Call::new(Method::GET, &url, what)?;
            match &basic {
                Some(basic) => call.header("authorization", basic.expose(), what),
                None => Ok(call),
            }
        };
        let cx = CallCx::default();
        let answer = self.rest.send(&Ask { name: "GetToken", what, cx: &cx }, &make).await?.success(what)?;
        let found: Token = answer.json(what)?;
        let token = if found.token.is_empty() { found.access_token } else { found.token };
        if token.is_empty() {
            return Err(ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer holds no token")));
        }
        let token = SecretBytes::new([b"Bearer ", token.expose()].concat());
        Ok(Granted { token, life: Some(Duration::from_secs(found.expires_in.unwrap_or(TOKEN_LIFE))) })
    }
}

/// User and password of a registry out of a Docker configuration, as the base64 that Basic authentication takes.
async fn credentials(
    selector: &SecretKeySelector,
    reference: &Reference,
    what: &str,
    cx: &ConnectCx,
) -> Result<SecretBytes, ProviderError> {
    let key = selector.key.clone().filter(|key| !key.is_empty()).unwrap_or_else(|| ".dockerconfigjson".to_owned());
    let text = cx.secret(&SecretKeySelector { key: Some(key), ..selector.clone() }, what).await?;
    credentials_of(&text, &reference.host)
        .map_err(|text| ProviderError::new(ErrorKind::Misconfigured, format!("{what}: {text}")))
}

/// The credentials of one registry. Those of others stay where they are.
fn credentials_of(config: &SecretBytes, host: &str) -> Result<SecretBytes, String> {
    let none = || "the value is no Docker configuration with auths".to_owned();
    let config = json::members(config.expose()).ok_or_else(none)?;
    let auths = json::members(member(&config, "auths").unwrap_or(b"null")).ok_or_else(none)?;
    let host_of = |name: &str| {
        let name = name.trim_start_matches("https://").trim_start_matches("http://");
        name.split('/').next() == Some(host)
    };
    let entry = auths.iter().find(|(name, _)| host_of(name)).map(|(_, raw)| *raw);
    let entry = json::members(entry.ok_or_else(|| format!("it has no credentials for {host:?}"))?).ok_or_else(none)?;
    let text = |name: &str| member(&entry, name).filter(|raw| raw.first() == Some(&b'"')).map(json::unquoted);
    match (text("auth").filter(|auth| !auth.is_empty()), text("username"), text("password")) {
        (Some(auth), ..) => Ok(auth),
        (None, Some(user), Some(password)) => {
            let plain = SecretBytes::new([user.expose(), b":", password.expose()].concat());
            Ok(SecretBytes::from(STANDARD.encode(plain.expose())))
        }
        _ => Err(format!("its entry of {host:?} holds neither auth nor username and password")),
    }
}

fn member<'j>(members: &[(String, &'j [u8])], name: &str) -> Option<&'j [u8]> {
    members.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| *raw)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_credentials_of_the_registry_are_read() {
        let config = SecretBytes::from(
            r#"{"auths": {"other.example": {"auth": 5}, "https://hub.example/v1/": {"username": "ann", "password": "p\"w"},
                "auth.example": {"auth": "YTpi"}, "empty.example": {"auth": ""}, "null.example": null}, "credsStore": "x"}"#,
        );
        let of = |host: &str| credentials_of(&config, host);
        assert_eq!(of("hub.example").unwrap().expose_str(), Some(STANDARD.encode("ann:p\"w").as_str()));
        assert_eq!(of("auth.example").unwrap().expose_str(), Some("YTpi"));
        for (host, text) in [("nope.example", "no credentials"), ("empty.example", "neither"), ("null.example", "neither")] {
            assert!(of(host).unwrap_err().contains(text), "{host}");
        }
        for text in ["", "[]", r#"{"auths": []}"#] {
            assert!(credentials_of(&SecretBytes::from(text), "hub.example").is_err(), "{text}");
        }
        assert!(credentials_of(&SecretBytes::from("{}"), "hub.example").unwrap_err().contains("no credentials"));
    }

    #[test]
    fn references() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, host, repository, version) in [
            ("registry.example/team/secrets:main", "registry.example", "team/secrets", "main"),
            ("oci://registry.example:5000/secrets", "registry.example:5000", "secrets", "latest"),
            (&format!("hub.example/team/x:tag@{digest}"), "hub.example", "team/x", digest.as_str()),
        ] {
            let found = Reference::parse(text).unwrap();
            let expected = Reference { host: host.into(), repository: repository.into(), version: version.into() };
            assert_eq!(found, expected, "{text}");
        }
        for bad in ["", "secrets", "host/", "host/../x", "host/A:b", "host/a:b/c", "ho st/a", "host/a?x=y:b", "host/a//b"] {
            assert_eq!(Reference::parse(bad).unwrap_err().kind, ErrorKind::Misconfigured, "{bad}");
        }
    }

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: &str| Challenge::Bearer { realm: realm.into(), service: service.into() };
        for (text, expected) in [
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a:pull""#,
                Some(bearer("https://auth.example/token", "registry.example")),
            ),
            (r#"bearer realm="https://auth.example/token""#, Some(bearer("https://auth.example/token", ""))),
            (r#"Basic realm="x""#, Some(Challenge::Basic)),
            ("Negotiate", None),
            ("Bearer", None),
        ] {
            assert_eq!(Challenge::parse(text), expected, "{text}");
        }
    }
}
