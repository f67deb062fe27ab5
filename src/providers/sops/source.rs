//! Where a file comes from.

use http::{Method, StatusCode};

use super::decrypt::MAX_FILE;
use super::oci::Registry;
use super::{HttpFile, PATH, SopsSource};
use crate::outbound::{Answer, Call, TlsOptions};
use crate::providers::rest::{Ask, Rest};
use crate::providers::{CallCx, ConnectCx, ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

/// A file as it was read.
pub(super) struct File {
    /// Its name, which tells its format.
    pub name: String,
    /// Its bytes.
    pub bytes: SecretBytes,
    /// What tells this version of it from others, where there is such a thing.
    pub version: Option<String>,
}

/// A place that files come from.
pub(super) enum Source {
    /// An object of the cluster, which was read at the login: a change of it is a new login.
    Object(File),
    /// A server.
    Http(Box<HttpSource>),
    /// A registry of containers.
    Oci(Box<Registry>),
}

impl Source {
    /// Prepares a source.
    ///
    /// # Errors
    /// `Misconfigured` where an object or key is missing.
    pub(super) async fn open(source: &SopsSource, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let object = |name: &str, bytes| Self::Object(File { name: name.to_owned(), bytes, version: None });
        if let Some(map) = &source.config_map {
            let place = (map.namespace.as_deref(), map.name.as_str(), map.key.as_str());
            let text = cx.config_map(place, &format!("{PATH}.source.configMap")).await?;
            return Ok(object(&map.key, SecretBytes::from(text)));
        }
        if let Some(selector) = &source.secret {
            let bytes = cx.secret(selector, &format!("{PATH}.source.secret")).await?;
            return Ok(object(selector.key.as_deref().unwrap_or_default(), bytes));
        }
        if let Some(http) = &source.http {
            return HttpSource::open(http, cx).await.map(Box::new).map(Self::Http);
        }
        match &source.oci {
            Some(oci) => Ok(Self::Oci(Box::new(Registry::open(oci, cx).await?))),
            None => Err(ProviderError::new(ErrorKind::Misconfigured, format!("{PATH}.source names no place"))),
        }
    }

    /// What errors say that a read is about.
    pub(super) fn what(&self) -> &'static str {
        match self {
            Self::Object(_) => "SOPS file",
            Self::Http(_) => "SOPS file of spec.provider.sops.source.http",
            Self::Oci(_) => "SOPS file of spec.provider.sops.source.oci",
        }
    }

    /// Reads the file; `None` where it is still of the version that the caller has.
    ///
    /// # Errors
    /// What the server said.
    pub(super) async fn read(&self, version: Option<&str>, cx: &CallCx) -> Result<Option<File>, ProviderError> {
        match self {
            Self::Object(_) => Ok(None),
            Self::Http(source) => source.read(version, self.what(), cx).await,
            Self::Oci(registry) => registry.read(version, self.what(), cx).await,
        }
    }
}

/// A file on a server.
pub(super) struct HttpSource {
    rest: Rest,
    url: String,
    name: String,
    headers: Vec<(String, SecretBytes)>,
}

impl HttpSource {
    async fn open(file: &HttpFile, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let path = format!("{PATH}.source.http");
        let ca = cx.ca(&file.ca, &path).await?;
        let mut headers = Vec::new();
        for header in &file.headers {
            let value = cx.secret_text(&header.secret_ref, &format!("{path}.headers")).await?;
            headers.push((header.name.clone(), value));
        }
        let rest = Rest::open(&TlsOptions { ca, identity: None }, &path, cx)?;
        let name = file.url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        Ok(Self { rest, url: file.url.clone(), name: name.to_owned(), headers })
    }

    async fn read(&self, version: Option<&str>, what: &str, cx: &CallCx) -> Result<Option<File>, ProviderError> {
        let make = || {
            let mut call = Call::new(Method::GET, &self.url, what)?.at_most(MAX_FILE).header("accept", b"*/*", what)?;
            for (name, value) in &self.headers {
                call = call.header(name, value.expose(), what)?;
            }
            match version {
                Some(tag) => call.header("if-none-match", tag.as_bytes(), what),
                None => Ok(call),
            }
        };
        let answer = self.rest.send(&Ask { name: "GetFile", what, cx }, &make).await?;
        if answer.status == StatusCode::NOT_MODIFIED && version.is_some() {
            return Ok(None);
        }
        let version = header(&answer, "etag");
        let answer = answer.success(what)?;
        Ok(Some(File { name: self.name.clone(), bytes: answer.body, version }))
    }
}

/// A header of an answer, as text.
pub(super) fn header(answer: &Answer, name: &str) -> Option<String> {
    Some(answer.headers.get(name)?.to_str().ok()?.to_owned())
}
