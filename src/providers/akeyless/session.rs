//! A logged-in client of Akeyless' API. What kind of secret a name stands for is asked for once, as each kind has a request of its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::auth::Identity;
use super::{Akeyless, misconfigured};
use crate::outbound::{Answer, Call, TlsOptions};
use crate::providers::push::Left;
use crate::providers::rest::{Ask, Body, Rest};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Validation, Want,
};
use crate::render::json;
use crate::secret_bytes::SecretBytes;

/// Most static secrets in one request.
const BATCH: usize = 20;
/// Most pages of a list, and most items in all.
const PAGES: usize = 1000;
const ITEMS: usize = 100_000;
/// Most requests at the same time.
const PARALLEL: usize = 4;
/// Tag of the secrets that ESO and keyferry made: others are neither written nor deleted.
const OURS: &str = "k8s-external-secrets";

/// What kind of secret a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Static,
    Dynamic,
    Rotated,
    Certificate,
}

/// What Akeyless knows of a secret besides its value.
#[derive(Deserialize)]
struct Item {
    item_name: Option<String>,
    #[serde(default)]
    item_type: String,
    #[serde(default)]
    item_tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Items {
    #[serde(default)]
    items: Option<Vec<Item>>,
    #[serde(default)]
    next_page: Option<String>,
}

impl Item {
    fn kind(&self, what: &str) -> Result<Kind, ProviderError> {
        match self.item_type.as_str() {
            "STATIC_SECRET" => Ok(Kind::Static),
            "DYNAMIC_SECRET" => Ok(Kind::Dynamic),
            "ROTATED_SECRET" => Ok(Kind::Rotated),
            "CERTIFICATE" => Ok(Kind::Certificate),
            _ => {
                let text = format!("{what}: it is neither a static, dynamic or rotated secret nor a certificate");
                Err(ProviderError::new(ErrorKind::Unsupported, text))
            }
        }
    }
}

pub(super) struct AkeylessSession {
    rest: Rest,
    identity: Identity,
    kinds: Mutex<HashMap<String, Kind>>,
}

impl AkeylessSession {
    pub(super) async fn open(config: &Akeyless, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let path = "spec.provider.akeyless";
        let ca = cx.ca(&config.ca, path).await?;
        let rest = Rest::open(&TlsOptions { ca, identity: None }, path, cx)?;
        let identity = Identity::new(config, cx, rest.http());
        rest.log_in(&identity).await?;
        Ok(Self { rest, identity, kinds: Mutex::default() })
    }

    /// Every request is a `POST` whose body holds the token.
    async fn request(
        &self,
        ask: &Ask<'_>,
        endpoint: &str,
        body: impl Fn(Body) -> Body + Sync,
    ) -> Result<Answer, ProviderError> {
        let make = |token: &SecretBytes| {
            let url = format!("{}/{endpoint}", self.identity.base());
            // A token of a universal identity has a field of its own.
            let field = if token.expose().starts_with(b"u-") { "uid-token" } else { "token" };
            let body = body(Body::default().text(field, token.expose()));
            Ok(Call::new(Method::POST, &url, "spec.provider.akeyless.akeylessGWApiURL")?.json(body.build()))
        };
        self.rest.ask(ask, &self.identity, &make).await
    }

    /// What Akeyless knows of a secret; `None` where it knows none.
    async fn describe(&self, name: &str, cx: &CallCx) -> Result<Option<Item>, ProviderError> {
        let what = format!("secret {name:?} of Akeyless");
        let ask = Ask { name: "describeItem", what: &what, cx };
        let answer = self.request(&ask, "describe-item", |body| body.text("name", name)).await?;
        if is_missing(&answer) {
            return Ok(None);
        }
        let item: Item = success(answer, &what)?.json(&what)?;
        if item.item_name.is_some() { Ok(Some(item)) } else { Err(malformed(&what)) }
    }

    fn known(&self, name: &str) -> Option<Kind> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied()
    }

    async fn kind(&self, name: &str, cx: &CallCx) -> Result<Kind, ProviderError> {
        if let Some(kind) = self.known(name) {
            return Ok(kind);
        }
        let item = self.describe(name, cx).await?.ok_or_else(|| ProviderError::not_found(name))?;
        let kind = item.kind(&format!("secret {name:?} of Akeyless"))?;
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), kind);
        Ok(kind)
    }

    /// A value. What Akeyless refuses of a secret whose kind was known from before can be gone, or be of another kind now.
    async fn value(&self, name: &str, version: &str, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let remembered = self.known(name).is_some();
        let kind = self.kind(name, cx).await?;
        match self.value_of(kind, name, version, cx).await {
            Err(error) if remembered && matches!(error.kind, ErrorKind::Misconfigured | ErrorKind::NotFound) => {
                self.kinds.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
                let kind = self.kind(name, cx).await?;
                self.value_of(kind, name, version, cx).await
            }
            result => result,
        }
    }

    async fn value_of(&self, kind: Kind, name: &str, version: &str, cx: &CallCx) -> Result<SecretBytes, ProviderError> {
        let what = format!("secret {name:?} of Akeyless");
        let number =
            match version {
                "" => None,
                _ => Some(version.strip_prefix('v').unwrap_or(version).parse::<u32>().map_err(|_| {
                    misconfigured(format!("{what}: version {version:?} is no number, such as \"3\" or \"v3\""))
                })?),
            };
        let (request, endpoint) = match kind {
            Kind::Static => ("getSecretValue", "get-secret-value"),
            Kind::Dynamic => ("getDynamicSecretValue", "get-dynamic-secret-value"),
            Kind::Rotated => ("getRotatedSecretValue", "get-rotated-secret-value"),
            Kind::Certificate => ("getCertificateValue", "get-certificate-value"),
        };
        let ask = Ask { name: request, what: &what, cx };
        let answer = self
            .request(&ask, endpoint, |body| {
                let body = match kind {
                    Kind::Static => body.raw("names", list(&[name]).as_bytes()),
                    Kind::Rotated => body.text("names", name),
                    Kind::Dynamic | Kind::Certificate => body.text("name", name),
                };
                let body = match number.filter(|_| kind != Kind::Dynamic) {
                    Some(number) => body.raw("version", number.to_string().as_bytes()),
                    None => body,
                };
                self.uncached(body, kind)
            })
            .await?;
        if is_missing(&answer) {
            return Err(ProviderError::not_found(name));
        }
        let body = success(answer, &what)?.body;
        let value = match kind {
            Kind::Static => named(&body, name),
            Kind::Dynamic | Kind::Certificate => json::exact::sorted(body.expose()),
            Kind::Rotated => rotated(&body),
        };
        value.ok_or_else(|| malformed(&what))
    }

    /// A value, unless it was read with others.
    async fn fetch(
        &self,
        want: &Want,
        kind: Result<Kind, ProviderError>,
        read: &HashMap<String, SecretBytes>,
        cx: &CallCx,
    ) -> Result<Fetched, ProviderError> {
        kind?;
        let bytes = match read.get(&want.key).filter(|_| want.version.is_empty()) {
            Some(bytes) => bytes.clone(),
            None => self.value(&want.key, &want.version, cx).await?,
        };
        Ok(Fetched { bytes, ..Fetched::default() })
    }

    fn uncached(&self, body: Body, kind: Kind) -> Body {
        match self.identity.config.ignore_cache == Some(true) && kind != Kind::Dynamic {
            true => body.text("ignore-cache", "true"),
            false => body,
        }
    }

    /// Several static secrets in one request. Those that Akeyless does not answer for, or all where it refuses one of them, are left
    /// out: they are read singly.
    ///
    /// # Errors
    /// What would fail single reads, too.
    async fn statics(&self, names: &[&str], cx: &CallCx) -> Result<HashMap<String, SecretBytes>, ProviderError> {
        let ask = Ask { name: "getSecretValue", what: "secrets of Akeyless", cx };
        let make = |body: Body| self.uncached(body.raw("names", list(names).as_bytes()), Kind::Static);
        match self.request(&ask, "get-secret-value", make).await?.success(ask.what) {
            Ok(answer) => {
                Ok(names.iter().filter_map(|name| Some(((*name).to_owned(), named(&answer.body, name)?))).collect())
            }
            Err(error) if matches!(error.kind, ErrorKind::Misconfigured | ErrorKind::Denied) => Ok(HashMap::new()),
            Err(error) => Err(error),
        }
    }

    /// Names of the secrets below a path that have a tag.
    async fn list(&self, path: &str, tag: &str, cx: &CallCx) -> Result<Vec<Item>, ProviderError> {
        let what = "list of the secrets of Akeyless";
        let ask = Ask { name: "listItems", what, cx };
        let (mut found, mut page) = (Vec::new(), String::new());
        for _ in 0..PAGES {
            let answer = self
                .request(&ask, "list-items", |body| {
                    let body = body.raw("type", br#"["static-secret","dynamic-secret","rotated-secret"]"#);
                    let texts = [("filter", path), ("tag", tag), ("pagination-token", page.as_str())];
                    texts
                        .into_iter()
                        .filter(|(_, text)| !text.is_empty())
                        .fold(body, |body, (name, text)| body.text(name, text))
                })
                .await?;
            let Items { items, next_page } = success(answer, what)?.json(what)?;
            found.extend(items.into_iter().flatten());
            match next_page.filter(|next| !next.is_empty() && *next != page) {
                Some(_) if found.len() > ITEMS => break,
                Some(next) => page = next,
                None => return Ok(found),
            }
        }
        Err(ProviderError::new(ErrorKind::Malformed, format!("{what}: the list does not end: narrow it with find.path")))
    }

    /// What a place holds, and whether it is ours; `None` where there is nothing.
    async fn there(&self, place: &Place, cx: &CallCx) -> Result<Option<(Item, SecretBytes)>, ProviderError> {
        let Some(item) = self.describe(&place.key, cx).await? else { return Ok(None) };
        let what = format!("secret {:?} of Akeyless", place.key);
        let kind = item.kind(&what)?;
        if kind != Kind::Static {
            let text = format!("{what}: only static secrets can be written to");
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let value = self.value_of(kind, &place.key, "", cx).await?;
        Ok(Some((item, value)))
    }

    async fn write(&self, place: &Place, value: &SecretBytes, new: bool, cx: &CallCx) -> Result<(), ProviderError> {
        let what = format!("secret {:?} of Akeyless", place.key);
        if value.expose_str().is_none() {
            return Err(misconfigured(format!("{what}: the value is no UTF-8 text, which is all that Akeyless keeps")));
        }
        let (request, endpoint) =
            if new { ("createSecret", "create-secret") } else { ("updateSecretVal", "update-secret-val") };
        let ask = Ask { name: request, what: &what, cx };
        let make = |body: Body| {
            let body = body.text("name", &place.key).text("value", value.expose());
            if new { body.raw("tags", list(&[OURS]).as_bytes()) } else { body }
        };
        success(self.request(&ask, endpoint, make).await?, &what).map(drop)
    }
}

/// Whether Akeyless says that there is no such item, or no such version of it. A proxy's 404, or one of an address that is not the
/// API's, says nothing of it.
fn is_missing(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Said {
        error: String,
    }
    let of_item = |said: Said| {
        // "itemNotFound", "Item not found", "the secret does not exist": the words are not fixed
        let text: String = said.error.to_lowercase().split_whitespace().collect();
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        has(&["item", "secret", "certificate", "version"]) && has(&["notfound", "notexist", "n'texist", "nosuch"])
    };
    answer.status == StatusCode::NOT_FOUND && answer.json::<Said>("").is_ok_and(of_item)
}

fn success(answer: Answer, what: &str) -> Result<Answer, ProviderError> {
    match answer.status {
        StatusCode::NOT_FOUND => Err(misconfigured(format!(
            "{what}: an answer 404 that is not Akeyless' \"no such item\": is akeylessGWApiURL the address of its API?"
        ))),
        _ => answer.success(what),
    }
}

fn list(names: &[&str]) -> String {
    serde_json::Value::from(names.to_vec()).to_string()
}

fn malformed(what: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer is not the JSON that such a server sends"))
}

fn without_slash(name: &str) -> &str {
    name.trim_start_matches('/')
}

/// A secret's value in an answer for several, where names can have lost or got the slash at their beginning.
fn named(body: &SecretBytes, name: &str) -> Option<SecretBytes> {
    let members = json::members(body.expose())?;
    let found = members.iter().find(|(key, _)| without_slash(key) == without_slash(name))?;
    Some(json::unquoted(found.1))
}

/// A rotated secret: the payload where there is one, else the target's values, else all of it.
fn rotated(body: &SecretBytes) -> Option<SecretBytes> {
    let member = |json: &[u8], name: &str| -> Option<SecretBytes> {
        let members = json::members(json)?;
        members.into_iter().rev().find(|(key, _)| key == name).map(|(_, raw)| SecretBytes::new(raw.to_vec()))
    };
    let value = member(body.expose(), "value").unwrap_or_else(|| body.clone());
    if let Some(payload) = member(value.expose(), "payload") {
        return Some(json::unquoted(payload.expose()));
    }
    let value = member(value.expose(), "target_value").unwrap_or(value);
    json::exact::sorted(value.expose())
}

#[async_trait]
impl Session for AkeylessSession {
    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let asked: Vec<_> = wants.iter().map(|want| self.kind(&want.key, cx)).collect();
        let kinds: Vec<_> = stream::iter(asked).buffered(PARALLEL).collect().await;
        let together: Vec<&str> = wants
            .iter()
            .zip(&kinds)
            .filter(|(want, kind)| matches!(kind, Ok(Kind::Static)) && want.version.is_empty())
            .map(|(want, _)| want.key.as_str())
            .collect();
        let read = match together.len() {
            0 | 1 => HashMap::new(),
            _ => match self.statics(&together, cx).await {
                Ok(read) => read,
                Err(error) => {
                    return kinds.into_iter().map(|kind| Err(kind.err().unwrap_or_else(|| error.clone()))).collect();
                }
            },
        };
        let reads: Vec<_> = wants.iter().zip(kinds).map(|(want, kind)| self.fetch(want, kind, &read, cx)).collect();
        stream::iter(reads).buffered(PARALLEL).collect().await
    }

    /// By name, folder and tags; a tag of Akeyless has no key, so the values are looked for, and all of them must be there.
    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let regex = query.matcher()?;
        let path = match query.path.trim_matches('/') {
            "" => String::new(),
            path => format!("/{path}/"),
        };
        let tag = query.tags.values().next().map_or("", String::as_str);
        let mut names = BTreeMap::new();
        for item in self.list(&path, tag, cx).await? {
            let Some(name) = &item.item_name else { continue };
            let tags = item.item_tags.as_deref().unwrap_or_default();
            let tagged = query.tags.values().skip(1).all(|tag| tags.contains(tag));
            if name.starts_with(&path) && regex.is_match(name) && tagged {
                names.insert(name.clone(), item);
            }
        }
        for (name, item) in &names {
            if let Ok(kind) = item.kind(name) {
                self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), kind);
            }
        }
        Found::read_all(self, names.into_keys(), BATCH, cx).await
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let there = self.there(&push.place, cx).await?;
        if there.as_ref().is_some_and(|(item, _)| !is_ours(item)) {
            let text = format!(
                "secret {:?} of Akeyless is not managed by external-secrets: give it the tag {OURS:?} to have it written",
                push.place.key
            );
            return Err(ProviderError::new(ErrorKind::Denied, text));
        }
        let current = there.as_ref().map(|(_, value)| value);
        let value = push.merged(current)?;
        if current == Some(&value) {
            return Ok(Pushed::Unchanged);
        }
        self.write(&push.place, &value, current.is_none(), cx).await?;
        Ok(Pushed::Written)
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let Some((_, current)) = self.there(place, cx).await?.filter(|(item, _)| is_ours(item)) else { return Ok(()) };
        match place.left_of(&current) {
            Left::All => return Ok(()),
            Left::Some(left) => return self.write(place, &left, false, cx).await,
            Left::Nothing => {}
        }
        let what = format!("secret {:?} of Akeyless", place.key);
        let ask = Ask { name: "deleteItem", what: &what, cx };
        let answer = self.request(&ask, "delete-item", |body| body.text("name", &place.key)).await?;
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).remove(&place.key);
        if is_missing(&answer) { Ok(()) } else { success(answer, &what).map(drop) }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        Ok(self.there(place, cx).await?.is_some_and(|(_, current)| place.is_in(&current)))
    }

    /// The login is the check: it was made, or is made now.
    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        self.rest.log_in(&self.identity).await.map(|()| Validation::Ready)
    }
}

fn is_ours(item: &Item) -> bool {
    item.item_tags.iter().flatten().any(|tag| tag == OURS)
}
