//! A logged-in client of Pulumi ESC's API: environments are opened, which evaluates them, and then read whole.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::login::Identity;
use super::values::{self, Definition};
use super::{PATH, Pulumi, misconfigured};
use crate::api::external_secret::MetadataPolicy;
use crate::outbound::{Answer, Call, TlsOptions, segment};
use crate::providers::push::{self, Place, Push, Pushed};
use crate::providers::rest::{Ask, Rest};
use crate::providers::{CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, ProviderError, Session, Validation, Want};
use crate::render::json::{self, Json};
use crate::render::yaml;
use crate::secret_bytes::SecretBytes;

/// A client of one environment.
pub(super) struct PulumiSession {
    rest: Rest,
    identity: Identity,
    /// Address of the environment, without a version.
    base: String,
    /// The version that the store names.
    version: Option<String>,
    what: String,
}

#[derive(Deserialize)]
struct Opened {
    id: String,
}

/// The `metadata` of a push.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PushMetadata {
    /// Whether the value is a secret one.
    secret: Option<bool>,
}

/// A definition, and what tells its version.
struct Read {
    definition: Definition,
    tag: Option<SecretBytes>,
}

impl PulumiSession {
    pub(super) async fn open(config: &Pulumi, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let rest = Rest::open(&TlsOptions::default(), PATH, cx)?;
        let identity = Identity { config: config.clone(), cx: cx.clone(), http: rest.http() };
        rest.log_in(&identity).await?;
        let (environment, version) = match config.environment.split_once('@') {
            Some((environment, version)) => (environment, Some(version.to_owned())),
            None => (config.environment.as_str(), None),
        };
        let place = [&config.organization, &config.project, environment].map(segment).join("/");
        Ok(Self {
            rest,
            identity,
            base: format!("{}/environments/{place}", config.api()),
            version,
            what: format!("environment {:?} of Pulumi", config.environment),
        })
    }

    /// One request. The headers are those besides the login.
    async fn request(
        &self,
        (name, method): (&'static str, Method),
        path: &str,
        write: Option<(&SecretBytes, Option<&SecretBytes>)>,
        cx: &CallCx,
    ) -> Result<Answer, ProviderError> {
        let url = format!("{}{path}", self.base);
        let what = self.what.as_str();
        let make = |token: &SecretBytes| {
            let login = SecretBytes::new([b"token ", token.expose()].concat());
            let mut call = Call::new(method.clone(), &url, &format!("{PATH}.apiUrl"))?;
            call = call.header("authorization", login.expose(), what)?;
            call = call.header("accept", b"application/json, application/x-yaml", what)?;
            let Some((body, tag)) = write else { return Ok(call) };
            if let Some(tag) = tag {
                call = call.header("etag", tag.expose(), what)?;
            }
            call.body(body.clone()).header("content-type", b"application/x-yaml", what)
        };
        self.rest.ask(&Ask { name, what, cx }, &self.identity, &make).await
    }

    /// The values of a version of the environment. None: there is no such version.
    async fn values(&self, version: Option<&str>, cx: &CallCx) -> Result<Option<Json>, ProviderError> {
        let path = match version {
            Some(version) => format!("/versions/{}/open", segment(version)),
            None => "/open".to_owned(),
        };
        let answer = self.request(("OpenEnvironment", Method::POST), &path, None, cx).await?;
        match answer.status {
            StatusCode::NOT_FOUND if version.is_some() => return Ok(None),
            StatusCode::BAD_REQUEST => {
                let text = "Pulumi cannot evaluate it: what is wrong with it is told by \"pulumi env open\"";
                return Err(misconfigured(format!("{}: {text} (400)", self.what)));
            }
            _ => {}
        }
        let Opened { id } = answer.success(&self.what)?.json(&self.what)?;
        let path = format!("/open/{}", segment(&id));
        let answer = self.request(("ReadOpenEnvironment", Method::GET), &path, None, cx).await?.success(&self.what)?;
        match values::resolved(&answer.body) {
            Some(values) => Ok(Some(values)),
            None => {
                let text = format!("{}: the answer is not that of an open environment whose values are known", self.what);
                Err(ProviderError::new(ErrorKind::Malformed, text))
            }
        }
    }

    /// Asks whether the environment is there, whatever its versions.
    async fn check(&self, cx: &CallCx) -> Result<(), ProviderError> {
        let answer = self.request(("CheckEnvironmentExists", Method::HEAD), "", None, cx).await?;
        answer.success(&self.what).map(drop)
    }

    /// The version that the store names is not there: no key of it counts as a missing secret.
    fn no_version(&self) -> ProviderError {
        misconfigured(format!("{}: there is no such environment, or no such version of it", self.what))
    }

    /// The definition as it is kept, or with its secrets decrypted.
    async fn definition(&self, decrypted: bool, cx: &CallCx) -> Result<Read, ProviderError> {
        let (name, path) = if decrypted { ("DecryptEnvironment", "/decrypt") } else { ("GetEnvironment", "") };
        let answer = self.request((name, Method::GET), path, None, cx).await?.success(&self.what)?;
        let tag = answer.headers.get("etag").map(|tag| SecretBytes::new(tag.as_bytes().to_vec()));
        match yaml::to_json(&answer.body) {
            Ok(definition) if definition.is_object() || definition.is_null() => {
                Ok(Read { definition: Definition(definition), tag })
            }
            _ => {
                let text = format!("{}: the answer is not the YAML of an environment", self.what);
                Err(ProviderError::new(ErrorKind::Malformed, text))
            }
        }
    }

    async fn put(&self, read: &Read, cx: &CallCx) -> Result<(), ProviderError> {
        let text = yaml::of_json(&read.definition.0);
        let write = Some((&text, read.tag.as_ref()));
        let answer = self.request(("UpdateEnvironment", Method::PATCH), "", write, cx).await?;
        if answer.status == StatusCode::BAD_REQUEST {
            return Err(misconfigured(format!("{}: Pulumi does not take the changed definition (400)", self.what)));
        }
        answer.success(&self.what).map(drop)
    }

    fn check_writable(&self) -> Result<(), ProviderError> {
        match &self.version {
            Some(_) => Err(misconfigured(format!("{}: a version of an environment cannot be written to", self.what))),
            None => Ok(()),
        }
    }
}

fn read(values: Option<&Json>, want: &Want) -> Result<Fetched, ProviderError> {
    if want.metadata == MetadataPolicy::Fetch {
        let text = "values of Pulumi have no metadata: leave metadataPolicy out";
        return Err(ProviderError::new(ErrorKind::Unsupported, text));
    }
    match values.and_then(|values| values::at(values, &want.key)) {
        Some(value) => Ok(Fetched { bytes: json::byte_value(value), ..Fetched::default() }),
        None => Err(ProviderError::not_found(&want.key)),
    }
}

#[async_trait]
impl Session for PulumiSession {
    fn batch_size(&self) -> usize {
        usize::MAX
    }

    /// Each version that is asked for is opened once.
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let version = |want: &Want| Some(want.version.clone()).filter(|v| !v.is_empty()).or_else(|| self.version.clone());
        let mut opened: BTreeMap<Option<String>, Result<Option<Json>, ProviderError>> = BTreeMap::new();
        for version in wants.iter().map(version) {
            if let Entry::Vacant(entry) = opened.entry(version) {
                let values = match self.values(entry.key().as_deref(), cx).await {
                    Ok(None) if *entry.key() == self.version => Err(self.no_version()),
                    // That one is missing only where the environment is there.
                    Ok(None) => self.check(cx).await.map(|()| None),
                    values => values,
                };
                entry.insert(values);
            }
        }
        let result = |want| match opened.get(&version(want)) {
            Some(Ok(values)) => read(values.as_ref(), want),
            Some(Err(error)) => Err(error.clone()),
            None => Err(ProviderError::not_found(&want.key)),
        };
        wants.iter().map(result).collect()
    }

    /// The values at the top, or of the map at the path, whose names fit.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        if !query.tags.is_empty() {
            let text = "values of Pulumi have no tags: use find.name, or find.path";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let regex = query.matcher()?;
        let Some(values) = self.values(self.version.as_deref(), cx).await? else {
            return Err(self.no_version());
        };
        let place = if query.path.is_empty() { Some(&values) } else { values::at(&values, &query.path) };
        let Some(Json::Object(map)) = place else { return Ok(Vec::new()) };
        let found = map.iter().filter(|(name, _)| regex.is_match(name));
        Ok(found.map(|(name, value)| Found { name: name.clone(), bytes: json::byte_value(value) }).collect())
    }

    /// Sets the value in the environment's own definition, whose imports and other values stay as they are.
    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        self.check_writable()?;
        let metadata: PushMetadata = push::metadata(push.place.metadata.as_ref())?.unwrap_or_default();
        let is_secret = metadata.secret.unwrap_or(true);
        let value = push.value()?;
        let text = value.expose_str().ok_or_else(|| {
            misconfigured(format!("{}: the value of {:?} is no text, and Pulumi keeps text only", self.what, push.place.key))
        })?;
        let path = values::written_to(&push.place.key, push.place.property());
        let current = self.definition(true, cx).await?;
        if current.definition.text(&path) == Some((text, is_secret)) {
            return Ok(Pushed::Unchanged);
        }
        // Not the decrypted one: secrets of others go back as they are kept.
        let mut kept = self.definition(false, cx).await?;
        kept.definition.set(&path, text, is_secret);
        self.put(&kept, cx).await.map(|()| Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        self.check_writable()?;
        let mut kept = self.definition(false, cx).await?;
        if !kept.definition.remove(&values::written_to(&place.key, place.property()), 0) {
            return Ok(());
        }
        self.put(&kept, cx).await
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let kept = self.definition(false, cx).await?;
        Ok(kept.definition.has(&values::written_to(&place.key, place.property())))
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        self.check(cx).await.map(|()| Validation::Ready)
    }
}
