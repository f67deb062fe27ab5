//! A logged-in client of Conjur's API.

use std::collections::{BTreeMap, HashMap};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::{StreamExt as _, stream};
use http::header::{AUTHORIZATION, CONTENT_ENCODING};
use http::{Method, StatusCode};
use serde::Deserialize;

use super::auth::Identity;
use super::{Conjur, misconfigured};
use crate::api::external_secret::MetadataPolicy;
use crate::outbound::{Answer, Call, Identity as Certificate, TlsOptions, query, segment};
use crate::providers::rest::{Ask, Rest};
use crate::providers::{CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, ProviderError, Session, Validation, Want};
use crate::render::json;
use crate::secret_bytes::SecretBytes;

/// Most variables in one request: their names go into its address.
const BATCH: usize = 50;
/// Most resources in a page of a list.
const PAGE: usize = 100;
/// Most resources that are listed.
const MOST: usize = 100_000;
/// Most requests at the same time.
const PARALLEL: usize = 4;

/// What Conjur knows of a variable besides its value.
#[derive(Deserialize)]
struct Resource {
    /// `account:variable:name`.
    id: String,
    #[serde(default)]
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Annotation {
    name: String,
    value: String,
}

impl Resource {
    fn name(&self) -> &str {
        self.id.splitn(3, ':').last().unwrap_or_default()
    }

    fn has(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.iter().all(|(name, value)| self.annotations.iter().any(|found| found.name == *name && found.value == *value))
    }
}

pub(super) struct ConjurSession {
    config: Conjur,
    rest: Rest,
    identity: Identity,
}

impl ConjurSession {
    pub(super) async fn open(config: &Conjur, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let path = "spec.provider.conjur";
        let bundle = config.ca_bundle.as_deref().map(str::as_bytes).filter(|bytes| !bytes.is_empty());
        let ca = cx.ca_bundle(bundle, config.ca_provider.as_ref(), path).await?;
        let certificate = match &config.auth.cert {
            Some(auth) => Some(Certificate {
                certificate: cx.secret(&auth.client_cert_ref, &format!("{path}.auth.cert.clientCertRef")).await?,
                key: cx.secret(&auth.client_key_ref, &format!("{path}.auth.cert.clientKeyRef")).await?,
            }),
            None => None,
        };
        let rest = Rest::open(&TlsOptions { ca, identity: certificate }, path, cx)?;
        let identity = Identity { config: config.clone(), cx: cx.clone(), http: rest.http() };
        rest.log_in(&identity).await?;
        Ok(Self { config: config.clone(), rest, identity })
    }

    async fn request(&self, ask: &Ask<'_>, path: &str, base64: bool) -> Result<Answer, ProviderError> {
        let url = format!("{}/{path}", self.config.url());
        let make = |token: &SecretBytes| {
            let shown = SecretBytes::new([b"Token token=\"".as_slice(), token.expose(), b"\""].concat());
            let call = Call::new(Method::GET, &url, "spec.provider.conjur.url")?;
            let call = call.header(AUTHORIZATION.as_str(), shown.expose(), ask.what)?;
            if base64 { call.header("accept-encoding", b"base64", ask.what) } else { Ok(call) }
        };
        self.rest.ask(ask, &self.identity, &make).await
    }

    fn variable(&self, kind: &str, name: &str) -> String {
        format!("{kind}/{}/variable/{}", segment(self.config.account()), segment(name))
    }

    async fn one(&self, want: &Want, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let what = format!("variable {:?} of Conjur", want.key);
        if want.metadata == MetadataPolicy::Fetch {
            return self.annotations(&want.key, &what, cx).await;
        }
        let mut path = self.variable("secrets", &want.key);
        if !want.version.is_empty() {
            let number = want.version.strip_prefix('v').unwrap_or(&want.version);
            if number.parse::<u32>().is_err() {
                let text = format!("{what}: version {:?} is no number, such as \"3\" or \"v3\"", want.version);
                return Err(misconfigured(text));
            }
            path.push('?');
            path.push_str(&query(&[("version", number)]));
        }
        let answer = self.request(&Ask { name: "getSecret", what: &what, cx }, &path, false).await?;
        if is_missing(&answer) {
            return Err(ProviderError::not_found(&want.key));
        }
        let version = Some(want.version.clone()).filter(|version| !version.is_empty());
        let bytes = genuine(answer.success(&what)?, &what)?;
        Ok(Fetched { bytes, version, request_id: None })
    }

    /// A value, unless it was read with others.
    async fn fetch(
        &self,
        want: &Want,
        plain: bool,
        read: &HashMap<String, SecretBytes>,
        cx: &CallCx,
    ) -> Result<Fetched, ProviderError> {
        match read.get(&want.key).filter(|_| plain) {
            Some(bytes) => Ok(Fetched { bytes: bytes.clone(), ..Fetched::default() }),
            None => self.one(want, cx).await,
        }
    }

    async fn annotations(&self, name: &str, what: &str, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let answer = self.request(&Ask { name: "showResource", what, cx }, &self.variable("resources", name), false).await?;
        if is_missing(&answer) {
            return Err(ProviderError::not_found(name));
        }
        let Resource { annotations, .. } = answer.success(what)?.json(what)?;
        let annotations = annotations.into_iter().map(|a| (a.name, SecretBytes::from(a.value))).collect();
        Ok(Fetched { bytes: json::object_of_text(&annotations), ..Fetched::default() })
    }

    /// Several values in one request. `None`: Conjur does not give all of them, or not together.
    async fn together(&self, names: &[&str], cx: &CallCx) -> Option<Result<HashMap<String, SecretBytes>, ProviderError>> {
        let what = "variables of Conjur";
        let account = self.config.account();
        let ids: Vec<String> = names.iter().map(|name| segment(&format!("{account}:variable:{name}"))).collect();
        // Values that are no text go through JSON as base64.
        let path = format!("secrets?variable_ids={}", ids.join(","));
        let answer = match self.request(&Ask { name: "batchSecrets", what, cx }, &path, true).await {
            Ok(answer) => answer,
            Err(error) => return Some(Err(error)),
        };
        if !answer.status.is_success() {
            let error = answer.refusal(what);
            return error.kind.is_store_wide().then_some(Err(error));
        }
        let encoded = answer.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding == "base64");
        let malformed = || {
            ProviderError::new(ErrorKind::Malformed, format!("{what}: the answer is not the JSON that such a server sends"))
        };
        let Some(members) = json::members(answer.body.expose()) else { return Some(Err(malformed())) };
        let mut values = HashMap::new();
        for (id, raw) in members {
            let text = json::unquoted(raw);
            let value = if encoded { STANDARD.decode(text.expose()).ok().map(SecretBytes::new) } else { Some(text) };
            let Some(value) = value else { return Some(Err(malformed())) };
            values.insert(id.splitn(3, ':').last().unwrap_or_default().to_owned(), value);
        }
        Some(Ok(values))
    }
}

/// Whether Conjur itself says that there is no such thing, or no value of it. Any other 404 is of somebody between, or of a wrong
/// address.
fn is_missing(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Said {
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        code: String,
    }
    answer.status == StatusCode::NOT_FOUND && answer.json::<Said>("").is_ok_and(|said| said.error.code == "not_found")
}

/// Conjur gives a value as it is, of no type or of the variable's own. A page in place of it comes from something between.
fn genuine(answer: Answer, what: &str) -> Result<SecretBytes, ProviderError> {
    let head = answer.body.expose().trim_ascii_start().to_ascii_lowercase();
    let page = head.starts_with(b"<!doctype html") || head.starts_with(b"<html");
    let typed = answer.headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if page && (typed.is_empty() || typed.starts_with("text/html")) {
        let text = format!("{what}: the answer is a web page: is the address that of a Conjur?");
        return Err(ProviderError::new(ErrorKind::Malformed, text));
    }
    Ok(answer.body)
}

#[async_trait]
impl Session for ConjurSession {
    fn batch_size(&self) -> usize {
        BATCH
    }

    /// The present values in one request; one by one where Conjur refuses that, as it does when one of them is missing.
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        // A comma parts the names in a batch.
        let plain =
            |want: &&Want| want.version.is_empty() && want.metadata == MetadataPolicy::None && !want.key.contains(',');
        let names: Vec<&str> = wants.iter().filter(plain).map(|want| want.key.as_str()).collect();
        let read = match names.len() {
            0 | 1 => HashMap::new(),
            _ => match self.together(&names, cx).await {
                Some(Ok(read)) => read,
                Some(Err(error)) => return wants.iter().map(|_| Err(error.clone())).collect(),
                None => HashMap::new(),
            },
        };
        let reads: Vec<_> = wants.iter().map(|want| self.fetch(want, plain(&want), &read, cx)).collect();
        stream::iter(reads).buffered(PARALLEL).collect().await
    }

    /// By name, by the policy that the name begins with, and by annotations. Variables without a value are left out.
    async fn find(&self, search: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let regex = search.matcher()?;
        let prefix = match search.path.trim_matches('/') {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let what = "list of the variables of Conjur";
        let ask = Ask { name: "listResources", what, cx };
        let (mut names, mut offset) = (Vec::new(), 0);
        loop {
            let (limit, from) = (PAGE.to_string(), offset.to_string());
            let wishes = query(&[("kind", "variable"), ("limit", &limit), ("offset", &from)]);
            let path = format!("resources/{}?{wishes}", segment(self.config.account()));
            let page: Vec<Resource> = self.request(&ask, &path, false).await?.success(what)?.json(what)?;
            let matches = |r: &&Resource| r.name().starts_with(&prefix) && regex.is_match(r.name()) && r.has(&search.tags);
            names.extend(page.iter().filter(matches).map(|r| r.name().to_owned()));
            offset += PAGE;
            if page.len() < PAGE {
                break;
            }
            if offset >= MOST {
                let text = format!("{what}: it has more than {MOST}, or no end: name the variables one by one");
                return Err(ProviderError::new(ErrorKind::Malformed, text));
            }
        }
        Found::read_all(self, names, BATCH, cx).await
    }

    /// Who we are is asked, which needs no right but the login.
    async fn validate(&self, cx: &CallCx) -> Result<Validation, ProviderError> {
        let what = "check of the login to Conjur";
        let answer = self.request(&Ask { name: "whoAmI", what, cx }, "whoami", false).await?;
        answer.success(what).map(|_| Validation::Ready)
    }
}
