//! A logged-in client of the service's API, version 2.

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::data::{self, IbmTaker, Key};
use super::login::Identity;
use super::{Ibm, PATH, misconfigured};
use crate::outbound::{Answer, Call, TlsOptions, query, segment};
use crate::providers::rest::{Ask, Rest};
use crate::providers::{
    CallCx, ConnectCx, Fetched, FindQuery, Found, ProviderError, Room, Session, Taker as _, Validation, Want,
};
use crate::render::Entries;
use crate::secret_bytes::SecretBytes;

/// Secrets in one page of a list: the service's own default.
const PAGE: usize = 200;
/// Most secrets that are listed.
const MOST: usize = 20_000;

/// A client of one instance.
pub(super) struct IbmSession {
    base: String,
    rest: Rest,
    identity: Identity,
}

/// What is told of a secret without its value.
#[derive(Deserialize)]
struct Listed {
    id: String,
    name: String,
    secret_type: String,
    #[serde(default)]
    secret_group_id: String,
    #[serde(default)]
    labels: Vec<String>,
}

#[derive(Deserialize)]
struct Page {
    secrets: Vec<Listed>,
    #[serde(default)]
    total_count: usize,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

#[derive(Deserialize)]
struct Groups {
    secret_groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    id: String,
    name: String,
}

impl IbmSession {
    pub(super) async fn open(config: &Ibm, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let rest = Rest::open(&TlsOptions::default(), PATH, cx)?;
        let identity = Identity { config: config.clone(), cx: cx.clone(), http: rest.http() };
        rest.log_in(&identity).await?;
        let base = config.service_url.as_deref().unwrap_or_default().trim().trim_end_matches('/');
        Ok(Self { base: format!("{base}/api/v2"), rest, identity })
    }

    async fn request(&self, ask: &Ask<'_>, path: &str) -> Result<Answer, ProviderError> {
        let url = format!("{}/{path}", self.base);
        let make =
            |token: &SecretBytes| Call::new(Method::GET, &url, &format!("{PATH}.serviceUrl"))?.bearer(token, ask.what);
        self.rest.ask(ask, &self.identity, &make).await
    }

    /// The secret that a key names, whole and with all that is said of it.
    async fn secret(&self, want: &Want, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let key = Key::parse(&want.key)?;
        let what = format!("secret {:?} of IBM Secrets Manager", want.key);
        let id = |name| format!("secrets/{}", segment(name));
        let by_name =
            format!("secret_groups/{}/secret_types/{}/secrets/{}", segment(key.group), key.kind, segment(key.name));
        let (name, path) = if key.is_id() { ("GetSecret", id(key.name)) } else { ("GetSecretByNameType", by_name) };
        let current = found(self.request(&Ask { name, what: &what, cx }, &path).await?, &want.key, &what)?;
        let Id { id } = current.json(&what)?;
        if want.version.is_empty() {
            return Ok(current.body);
        }
        let path = format!("secrets/{}/versions/{}", segment(&id), segment(&want.version));
        let ask = Ask { name: "GetSecretVersion", what: &what, cx };
        let version = found(self.request(&ask, &path).await?, &want.key, &what)?;
        version.json::<Id>(&what).map(|_| version.body)
    }

    /// The id of a group of secrets.
    async fn group(&self, name: &str, cx: &CallCx) -> Result<String, ProviderError> {
        let what = format!("group {name:?} of IBM Secrets Manager");
        let ask = Ask { name: "ListSecretGroups", what: &what, cx };
        let groups: Groups = self.request(&ask, "secret_groups").await?.success(&what)?.json(&what)?;
        let group = groups.secret_groups.into_iter().find(|group| group.name == name || group.id == name);
        group.map(|group| group.id).ok_or_else(|| misconfigured(format!("{what}: there is none: see find.path")))
    }

    /// All secrets, without their values, from one place of the list to its end.
    async fn list(&self, cx: &CallCx) -> Result<Vec<Listed>, ProviderError> {
        let what = "list of IBM Secrets Manager";
        let mut all: Vec<Listed> = Vec::new();
        loop {
            let (offset, limit) = (all.len().to_string(), PAGE.to_string());
            let path = format!("secrets?{}", query(&[("offset", &offset), ("limit", &limit), ("sort", "id")]));
            let ask = Ask { name: "ListSecrets", what, cx };
            let page: Page = self.request(&ask, &path).await?.success(what)?.json(what)?;
            let is_last = page.secrets.is_empty();
            all.extend(page.secrets);
            if is_last || all.len() >= page.total_count {
                return Ok(all);
            }
            if all.len() > MOST {
                return Err(misconfigured(format!("{what}: there are more than {MOST} secrets: name them one by one")));
            }
        }
    }
}

/// The answer about one secret. That there is none is told by the service itself, in its own form: another server's 404 says
/// nothing of secrets.
fn found(answer: Answer, key: &str, what: &str) -> Result<Answer, ProviderError> {
    #[derive(Deserialize)]
    struct Refused {
        #[serde(rename = "errors")]
        _errors: Vec<IgnoredAny>,
    }
    if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::GONE) && answer.json::<Refused>(what).is_ok() {
        return Err(ProviderError::not_found(key));
    }
    answer.success(what)
}

/// Whether a label says what a tag does: `key:value`, or `key` where the value is empty.
fn has_label(labels: &[String], (key, value): (&String, &String)) -> bool {
    labels.iter().any(|label| match label.split_once(':') {
        Some((name, text)) => name == key && text == value,
        None => label == key && value.is_empty(),
    })
}

#[async_trait]
impl Session for IbmSession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let mut results = Vec::with_capacity(wants.len());
        for want in wants {
            results.push(self.secret(want, cx).await.map(|bytes| Fetched { bytes, ..Fetched::default() }));
        }
        results
    }

    /// By name, by labels, and in the group that the path names.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let regex = query.matcher()?;
        let group = match query.path.trim_matches('/') {
            "" => None,
            name => Some(self.group(name, cx).await?),
        };
        let listed = self.list(cx).await?;
        let fits = |secret: &&Listed| {
            regex.is_match(&secret.name)
                && group.as_ref().is_none_or(|id| *id == secret.secret_group_id)
                && query.tags.iter().all(|tag| has_label(&secret.labels, tag))
        };
        let (mut all, room) = (Vec::<Found>::new(), Room::default());
        for secret in listed.iter().filter(fits) {
            let what = format!("secret {:?} of IBM Secrets Manager", secret.name);
            let path = format!("secrets/{}", segment(&secret.id));
            let answer = self.request(&Ask { name: "GetSecret", what: &what, cx }, &path).await?.success(&what)?;
            let Some(bytes) = data::found(&secret.name, &secret.secret_type, &answer.body)? else { continue };
            if all.iter().any(|found| found.name == secret.name) {
                let text = format!(
                    "{what}: there are several of that name, in groups or of types of their own: \
                                    give the group in find.path, or a narrower expression"
                );
                return Err(misconfigured(text));
            }
            room.take(secret.name.len() + bytes.len())?;
            all.push(Found { name: secret.name.clone(), bytes });
        }
        Ok(all)
    }

    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        let what = "IBM Secrets Manager";
        let ask = Ask { name: "ListSecrets", what, cx };
        let _: Page = self.request(&ask, "secrets?limit=1").await?.success(what)?.json(what)?;
        Ok(Validation::Ready)
    }

    fn whole(&self, want: &Want, value: &SecretBytes) -> Result<SecretBytes, ProviderError> {
        IbmTaker.whole(want, value)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        IbmTaker.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        IbmTaker.extract(want, value, property)
    }
}
