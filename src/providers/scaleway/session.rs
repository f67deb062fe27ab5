//! A client of the API, version v1beta1.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde::Deserialize;

use super::{API, PATH, Scaleway, ScalewayTaker, misconfigured};
use crate::outbound::{Answer, Call, TlsOptions, query, secret, segment};
use crate::providers::push::Left;
use crate::providers::rest::{Ask, Body, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Room, Session, Taker as _,
    Validation, Want,
};
use crate::secret_bytes::SecretBytes;

/// Version that is read where none is asked for.
const LATEST: &str = "latest_enabled";
/// Secrets in one page of a list: the most that the service gives.
const PAGE: usize = 100;
/// Most secrets that are listed.
const MOST: usize = 20_000;

/// A client of one project in one region.
pub(super) struct ScalewaySession {
    rest: Rest,
    base: String,
    project: String,
    key: SecretBytes,
}

/// What a key names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name<'k> {
    /// A secret by its id.
    Id(&'k str),
    /// A secret by its name, wherever it is. What comes without `name:` counts as one, too.
    Plain(&'k str),
    /// A secret by folder and name.
    Path(&'k str, &'k str),
}

impl<'k> Name<'k> {
    /// Reads `id:…`, `name:…` or `path:/folder/name`.
    ///
    /// # Errors
    /// `Misconfigured`, in ESO's words.
    pub(super) fn parse(key: &'k str) -> Result<Self, ProviderError> {
        match key.split_once(':') {
            None => Ok(Self::Plain(key)),
            Some(("id", id)) => Ok(Self::Id(id)),
            Some(("name", name)) => Ok(Self::Plain(name)),
            Some(("path", path)) if path.starts_with('/') => {
                let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
                Ok(Self::Path(if folder.is_empty() { "/" } else { folder }, name))
            }
            Some(("path", _)) => Err(misconfigured("ref is not a path")),
            Some(_) => Err(misconfigured(format!("invalid secret reference: {key:?}"))),
        }
    }

    /// Folder and name of a secret that is written to.
    fn written_to(self) -> Result<(Option<&'k str>, &'k str), ProviderError> {
        match self {
            Self::Plain(name) => Ok((None, name)),
            Self::Path(folder, name) => Ok((Some(folder), name)),
            Self::Id(_) => Err(misconfigured("secrets can only be pushed by name or path")),
        }
    }
}

#[derive(Deserialize)]
struct Page {
    secrets: Vec<Listed>,
    total_count: usize,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    name: String,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Accessed {
    revision: u64,
    #[serde(deserialize_with = "secret")]
    data: SecretBytes,
}

#[derive(Deserialize)]
struct Made {
    id: String,
}

#[derive(Deserialize)]
struct Refused {
    #[serde(rename = "type", default)]
    type_: String,
}

impl ScalewaySession {
    pub(super) async fn open(config: &Scaleway, cx: &ConnectCx) -> Result<Self, ProviderError> {
        cx.value_or_secret(&config.access_key, &format!("{PATH}.accessKey")).await?;
        let key = cx.value_or_secret(&config.secret_key, &format!("{PATH}.secretKey")).await?;
        let url = config.api_url.as_deref().map(|url| url.trim().trim_end_matches('/')).filter(|url| !url.is_empty());
        Ok(Self {
            rest: Rest::open(&TlsOptions::default(), PATH, cx)?,
            base: format!("{}/secret-manager/v1beta1/regions/{}", url.unwrap_or(API), segment(&config.region)),
            project: config.project_id.clone(),
            key,
        })
    }

    async fn request(&self, ask: &Ask<'_>, method: Method, path: &str, body: Option<Body>) -> Result<Answer, ProviderError> {
        let url = format!("{}/{path}", self.base);
        let body = body.map(Body::build);
        let make = || {
            let call = Call::new(method.clone(), &url, &format!("{PATH}.apiUrl"))?;
            let call = call.header("x-auth-token", self.key.expose(), ask.what)?;
            Ok(call.maybe_json(body.as_ref()))
        };
        self.rest.send(ask, &make).await
    }

    /// Secrets of a name and folder, or all; one page after the other.
    async fn list(&self, folder: Option<&str>, name: Option<&str>, cx: &CallCx) -> Result<Vec<Listed>, ProviderError> {
        let what = "list of Scaleway's Secret Manager";
        let size = PAGE.to_string();
        let mut all: Vec<Listed> = Vec::new();
        for page in 1.. {
            let page = page.to_string();
            let mut pairs = vec![
                ("project_id", self.project.as_str()),
                ("scheduled_for_deletion", "false"),
                ("order_by", "created_at_asc"),
                ("page", &page),
                ("page_size", &size),
            ];
            pairs.extend(folder.map(|folder| ("path", folder)));
            pairs.extend(name.map(|name| ("name", name)));
            let path = format!("secrets?{}", query(&pairs));
            let ask = Ask { name: "ListSecrets", what, cx };
            let found: Page = self.request(&ask, Method::GET, &path, None).await?.success(what)?.json(what)?;
            let is_last = found.secrets.is_empty();
            all.extend(found.secrets);
            if is_last || all.len() >= found.total_count {
                break;
            }
            if all.len() > MOST {
                return Err(misconfigured(format!("{what}: there are more than {MOST} secrets: name them one by one")));
            }
        }
        Ok(all)
    }

    /// A version of a secret.
    async fn access(&self, place: &str, key: &str, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let what = format!("secret {key:?} of Scaleway's Secret Manager");
        let ask = Ask { name: "AccessSecretVersion", what: &what, cx };
        let answer = found(self.request(&ask, Method::GET, place, None).await?, key, &what)?;
        let Accessed { revision, data } = answer.json(&what)?;
        let bytes = STANDARD.decode(data.expose()).map(SecretBytes::new);
        let bytes = bytes.map_err(|_| {
            ProviderError::new(ErrorKind::Malformed, format!("{what}: the value is not in base64, as the service sends it"))
        })?;
        Ok(Fetched { bytes, version: Some(revision.to_string()), request_id: None })
    }

    async fn access_by_id(&self, id: &str, version: &str, key: &str, cx: &CallCx) -> Result<Fetched, ProviderError> {
        self.access(&format!("secrets/{}/versions/{}/access", segment(id), segment(version)), key, cx).await
    }

    async fn read(&self, want: &Want, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let version = if want.version.is_empty() { LATEST } else { &want.version };
        match Name::parse(&want.key)? {
            Name::Id(id) => self.access_by_id(id, version, &want.key, cx).await,
            Name::Path(folder, name) => {
                let pairs = [("secret_path", folder), ("secret_name", name), ("project_id", &self.project)];
                let place = format!("secrets-by-path/versions/{}/access?{}", segment(version), query(&pairs));
                self.access(&place, &want.key, cx).await
            }
            Name::Plain(name) => match self.list(None, Some(name), cx).await?.first() {
                Some(first) => self.access_by_id(&first.id, version, &want.key, cx).await,
                None => Err(ProviderError::not_found(&want.key)),
            },
        }
    }

    /// The secret that is at a place: its id, and the value of its last version, if it has one.
    async fn present(&self, key: &str, cx: &CallCx) -> Result<Option<(String, Option<SecretBytes>)>, ProviderError> {
        let (folder, name) = Name::parse(key)?.written_to()?;
        let Some(first) = self.list(folder, Some(name), cx).await?.into_iter().next() else { return Ok(None) };
        let value = match self.access_by_id(&first.id, LATEST, key, cx).await {
            Ok(fetched) => Some(fetched.bytes),
            Err(error) if error.kind == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Some((first.id, value)))
    }

    async fn create(&self, key: &str, cx: &CallCx) -> Result<String, ProviderError> {
        let (folder, name) = Name::parse(key)?.written_to()?;
        let what = format!("secret {key:?} of Scaleway's Secret Manager");
        let body = Body::default()
            .text("project_id", &self.project)
            .text("name", name)
            .text("path", folder.unwrap_or("/"))
            .raw("protected", b"false");
        let ask = Ask { name: "CreateSecret", what: &what, cx };
        let made: Made = self.request(&ask, Method::POST, "secrets", Some(body)).await?.success(&what)?.json(&what)?;
        Ok(made.id)
    }

    /// Writes a new version, and disables the one before it.
    async fn put(&self, id: &str, key: &str, value: &SecretBytes, cx: &CallCx) -> Result<(), ProviderError> {
        let what = format!("secret {key:?} of Scaleway's Secret Manager");
        let data = SecretBytes::from(STANDARD.encode(value.expose()));
        let body = Body::default().text("data", data.expose()).raw("disable_previous", b"true");
        let ask = Ask { name: "CreateSecretVersion", what: &what, cx };
        let place = format!("secrets/{}/versions", segment(id));
        self.request(&ask, Method::POST, &place, Some(body)).await?.success(&what).map(drop)
    }
}

/// The answer about one secret. That there is none is told by the service itself, in its own form.
fn found(answer: Answer, key: &str, what: &str) -> Result<Answer, ProviderError> {
    let is_missing = || answer.json::<Refused>(what).is_ok_and(|refused| refused.type_ == "not_found");
    if answer.status == StatusCode::NOT_FOUND && is_missing() {
        return Err(ProviderError::not_found(key));
    }
    answer.success(what)
}

/// Whether a secret has a tag: ESO looks for the key alone; its value counts where the secret's tag has one.
fn has_tag(tags: &[String], (key, value): (&String, &String)) -> bool {
    tags.iter().any(|tag| match tag.split_once(['=', ':']) {
        Some((name, text)) if tag != key => name == key && text == value,
        _ => tag == key,
    })
}

#[async_trait]
impl Session for ScalewaySession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let mut results = Vec::with_capacity(wants.len());
        for want in wants {
            results.push(self.read(want, cx).await);
        }
        results
    }

    /// By name, by tags, and in the folder that the path names. A secret without a version that is enabled is left out.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let regex = query.matcher()?;
        let folder = Some(query.path.as_str()).filter(|folder| !folder.is_empty());
        let (mut all, room) = (Vec::new(), Room::default());
        for listed in self.list(folder, None, cx).await? {
            if !regex.is_match(&listed.name) || !query.tags.iter().all(|tag| has_tag(&listed.tags, tag)) {
                continue;
            }
            match self.access_by_id(&listed.id, LATEST, &listed.name, cx).await {
                Ok(fetched) => {
                    room.take(listed.name.len() + fetched.bytes.len())?;
                    all.push(Found { name: listed.name, bytes: fetched.bytes });
                }
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let key = &push.place.key;
        Name::parse(key)?.written_to()?;
        // What is wrong with the source is told before anything is made.
        push.value()?;
        let present = self.present(key, cx).await?;
        let current = present.as_ref().and_then(|(_, value)| value.as_ref());
        let value = push.merged(current)?;
        if current == Some(&value) {
            return Ok(Pushed::Unchanged);
        }
        let id = match present {
            Some((id, _)) => id,
            None => self.create(key, cx).await?,
        };
        self.put(&id, key, &value, cx).await.map(|()| Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let Some((id, value)) = self.present(&place.key, cx).await? else { return Ok(()) };
        match value.as_ref().map(|value| place.left_of(value)) {
            Some(Left::All) => return Ok(()),
            Some(Left::Some(left)) => return self.put(&id, &place.key, &left, cx).await,
            // No version is enabled: nothing tells that the property is all of it.
            None if place.property().is_some() => return Ok(()),
            Some(Left::Nothing) | None => {}
        }
        let what = format!("secret {:?} of Scaleway's Secret Manager", place.key);
        let ask = Ask { name: "DeleteSecret", what: &what, cx };
        let answer = self.request(&ask, Method::DELETE, &format!("secrets/{}", segment(&id)), None).await?;
        match found(answer, &place.key, &what) {
            Err(error) if error.kind != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let present = self.present(&place.key, cx).await?;
        Ok(present.and_then(|(_, value)| value).is_some_and(|value| place.is_in(&value)))
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        let what = "Scaleway's Secret Manager";
        let ask = Ask { name: "ListSecrets", what, cx };
        let path = format!("secrets?{}", query(&[("project_id", &self.project), ("page", "1"), ("page_size", "1")]));
        let _: Page = self.request(&ask, Method::GET, &path, None).await?.success(what)?.json(what)?;
        Ok(Validation::Ready)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        ScalewayTaker.property(want, value, property)
    }
}
