//! AWS Secrets Manager: reads in batches where the role may, one by one where not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::RequestId;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretListEntry, SecretValueEntry};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::Blob;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use futures::{StreamExt, stream};
use regex::Regex;

use super::auth::Login;
use super::client::{Mark, Sdk};
use super::errors::{Call, is_access_denied, is_expired, secret_parts};
use super::{Aws, SecretsManagerOptions, misconfigured};
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Validation, Want,
};
use crate::render::re2;
use crate::secret_bytes::SecretBytes;

/// Most secrets in one `BatchGetSecretValue`: AWS's limit.
const BATCH: usize = 20;
/// Most calls at the same time where secrets are read one by one.
const PARALLEL: usize = 8;
/// Most entries in a page of `ListSecrets`: AWS's limit.
const PAGE: i32 = 100;
/// Most filters in `ListSecrets`: AWS's limit.
const FILTERS: usize = 10;
/// IAM's name of the action that a read of a value needs, also in a batch.
const GET: &str = "secretsmanager:GetSecretValue";
/// Stage of the current version.
const CURRENT: &str = "AWSCURRENT";

/// A logged-in client of Secrets Manager.
pub(super) struct SecretsManager {
    pub(super) client: Client,
    login: Arc<Login>,
    prefix: String,
    /// How it deletes.
    pub(super) options: SecretsManagerOptions,
    /// Where the objects that a push names are looked for.
    pub(super) cx: ConnectCx,
    /// The store, for the log.
    store: String,
    /// The role may not call `BatchGetSecretValue`.
    batch_denied: AtomicBool,
}

/// One call's surroundings: who causes it, and the credentials that its error must not quote.
pub(super) struct Caller<'a> {
    cx: &'a CallCx,
    credentials: Credentials,
    /// AWS says that the credentials have expired, and there may be others.
    expired: AtomicBool,
}

impl Caller<'_> {
    pub(super) fn mark(&self) -> Mark {
        Mark::new(self.cx)
    }

    fn has_expired(&self) -> bool {
        self.expired.load(Ordering::Relaxed)
    }
}

/// What became of a batch.
enum Batch {
    /// Outcomes by id. One that is not there was not in the answer.
    Read(BTreeMap<String, Result<Fetched, ProviderError>>),
    /// The batch was refused for a reason that need not hold for each of its secrets.
    ReadSingly,
    /// The batch failed for a reason that holds for all.
    Failed(ProviderError),
}

impl SecretsManager {
    pub(super) fn new(aws: &Aws, cx: &ConnectCx, sdk: &Sdk, login: Arc<Login>) -> Result<Self, ProviderError> {
        let provider = SharedCredentialsProvider::from(login.clone() as Arc<dyn ProvideCredentials>);
        Ok(Self {
            client: sdk.secrets_manager(provider)?,
            login,
            prefix: aws.prefix.clone().unwrap_or_default(),
            options: aws.secrets_manager.clone().unwrap_or_default(),
            cx: cx.clone(),
            store: format!("{} {}/{}", cx.store_kind, cx.namespace, cx.store_name),
            batch_denied: AtomicBool::new(false),
        })
    }

    async fn caller<'a>(&self, cx: &'a CallCx) -> Result<Caller<'a>, ProviderError> {
        Ok(Caller { cx, credentials: self.login.credentials().await?, expired: AtomicBool::new(false) })
    }

    /// The error of a call. Expired credentials are dropped on the way.
    pub(super) async fn failed<E: ProvideErrorMetadata>(
        &self,
        action: &str,
        target: &str,
        caller: &Caller<'_>,
        error: &SdkError<E, HttpResponse>,
    ) -> ProviderError {
        if is_expired(error.code()) && self.login.forget(&caller.credentials).await {
            caller.expired.store(true, Ordering::Relaxed);
        }
        Call { action, target, credentials: &secret_parts(&caller.credentials) }.error(error)
    }

    /// Current values by id, in the ids' order: in batches as far as that goes.
    async fn read_all(&self, ids: &[String], caller: &Caller<'_>) -> Vec<Result<Fetched, ProviderError>> {
        let distinct: Vec<&String> = ids.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut read = BTreeMap::new();
        for chunk in distinct.chunks(BATCH) {
            if chunk.len() == 1 || self.batch_denied.load(Ordering::Relaxed) {
                break;
            }
            match self.read_batch(chunk, caller).await {
                Batch::Read(outcomes) => read.extend(outcomes),
                Batch::ReadSingly => {}
                Batch::Failed(error) => read.extend(chunk.iter().map(|id| ((*id).clone(), Err(error.clone())))),
            }
        }
        // Also what a batch's answer left out: a secret is missing only where AWS says so.
        let left = distinct.into_iter().filter(|id| !read.contains_key(*id)).cloned().collect::<Vec<_>>();
        let singly = stream::iter(left).map(|id| async move {
            let outcome = self.read_one(&id, "", caller).await;
            (id, outcome)
        });
        read.extend(singly.buffer_unordered(PARALLEL).collect::<Vec<_>>().await);
        ids.iter().map(|id| read.get(id).cloned().unwrap_or_else(|| Err(unread()))).collect()
    }

    async fn read_batch(&self, ids: &[&String], caller: &Caller<'_>) -> Batch {
        let mut outcomes = BTreeMap::new();
        let mut page = None;
        loop {
            let mut request = self.client.batch_get_secret_value().set_next_token(page);
            for id in ids {
                request = request.secret_id_list(*id);
            }
            let answer = match request.customize().interceptor(caller.mark()).send().await {
                Ok(answer) => answer,
                Err(error) => return self.refused_batch(caller, &error).await,
            };
            let request_id = answer.request_id().map(String::from);
            for entry in answer.secret_values.unwrap_or_default() {
                let matching = ids.iter().filter(|id| is_named(id, entry.name(), entry.arn())).collect::<Vec<_>>();
                let SecretValueEntry { version_id, secret_string, secret_binary, .. } = entry;
                let value = value(secret_string, secret_binary);
                for id in matching {
                    let outcome = fetched(id, value.clone(), version_id.clone(), request_id.clone());
                    outcomes.insert((*id).clone(), outcome);
                }
            }
            for item in answer.errors.unwrap_or_default() {
                // A secret of another account is not promised to be readable in a batch: left to a single read.
                let own = ids.iter().filter(|id| !id.starts_with("arn:"));
                for id in own.filter(|id| item.secret_id() == Some(id.as_str())) {
                    let call = Call { action: GET, target: id, credentials: &secret_parts(&caller.credentials) };
                    let error = call.item_error(item.error_code().unwrap_or_default(), item.message().unwrap_or_default());
                    outcomes.insert((*id).clone(), Err(error));
                }
            }
            page = answer.next_token.filter(|t| !t.is_empty());
            if page.is_none() {
                return Batch::Read(outcomes);
            }
        }
    }

    /// A batch that was refused as a whole: because of the action, of one of its ids, or for a reason that all share.
    async fn refused_batch<E: ProvideErrorMetadata>(&self, caller: &Caller<'_>, error: &SdkError<E, HttpResponse>) -> Batch {
        const ACTION: &str = "secretsmanager:BatchGetSecretValue";
        if is_access_denied(error.code()) {
            if !self.batch_denied.swap(true, Ordering::Relaxed) {
                tracing::info!(store = self.store, "the role may not call {ACTION}: secrets are read one by one");
            }
            return Batch::ReadSingly;
        }
        let error = self.failed(ACTION, "", caller, error).await;
        match error.kind {
            ErrorKind::NotFound | ErrorKind::Misconfigured => Batch::ReadSingly,
            _ => Batch::Failed(error),
        }
    }

    /// One value. `version`: empty for the current one, `uuid/…` for a version's id, else a stage.
    pub(super) async fn read_one(&self, id: &str, version: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let request = self.client.get_secret_value().secret_id(id);
        let request = match version.strip_prefix("uuid/") {
            Some(version) => request.version_id(version),
            None if version.is_empty() => request.version_stage(CURRENT),
            None => request.version_stage(version),
        };
        match request.customize().interceptor(caller.mark()).send().await {
            Ok(answer) => {
                let request_id = answer.request_id().map(String::from);
                fetched(id, value(answer.secret_string, answer.secret_binary), answer.version_id, request_id)
            }
            Err(error) => Err(self.failed(GET, id, caller, &error).await),
        }
    }

    /// A secret's tags, as a JSON object.
    async fn read_tags(&self, id: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let request = self.client.describe_secret().secret_id(id);
        let answer = match request.customize().interceptor(caller.mark()).send().await {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed("secretsmanager:DescribeSecret", id, caller, &error).await),
        };
        let request_id = answer.request_id().map(String::from);
        let tags = answer.tags.unwrap_or_default();
        let tags: BTreeMap<&str, &str> = tags.iter().filter_map(|t| Some((t.key()?, t.value()?))).collect();
        let json = serde_json::to_vec(&tags)
            .map_err(|_| ProviderError::new(ErrorKind::Malformed, format!("the tags of {id:?} cannot be shown as JSON")))?;
        Ok(Fetched { bytes: SecretBytes::new(json), version: None, request_id })
    }

    /// Names of all secrets that match, sorted.
    async fn list(&self, query: &FindQuery, caller: &Caller<'_>) -> Result<Vec<String>, ProviderError> {
        let name = re2::compile(&query.name).map_err(|e| misconfigured(format!("find.name.regexp: {e}")))?;
        let filters = filters(query);
        let mut found = BTreeSet::new();
        let mut page = None;
        loop {
            let request = self.client.list_secrets().max_results(PAGE).set_next_token(page);
            let request = request.set_filters(Some(filters.clone()).filter(|f| !f.is_empty()));
            let answer = match request.customize().interceptor(caller.mark()).send().await {
                Ok(answer) => answer,
                Err(error) => return Err(self.failed("secretsmanager:ListSecrets", "", caller, &error).await),
            };
            let entries = answer.secret_list.unwrap_or_default();
            found.extend(entries.into_iter().filter(|e| is_match(e, query, &name)).filter_map(|e| e.name));
            page = answer.next_token.filter(|t| !t.is_empty());
            if page.is_none() {
                return Ok(found.into_iter().collect());
            }
        }
    }

    async fn get_as(&self, wants: &[Want], caller: &Caller<'_>) -> Vec<Result<Fetched, ProviderError>> {
        let plain: Vec<String> = wants.iter().filter(|w| is_plain(w)).map(|w| self.id(w)).collect();
        let mut special = Vec::new();
        for want in wants.iter().filter(|w| !is_plain(w)) {
            special.push(self.get_one(want, caller));
        }
        let special = stream::iter(special).buffered(PARALLEL).collect::<Vec<_>>();
        let (plain, special) = futures::join!(self.read_all(&plain, caller), special);
        let (mut plain, mut special) = (plain.into_iter(), special.into_iter());
        let outcomes = wants.iter().map(|w| if is_plain(w) { plain.next() } else { special.next() });
        outcomes.map(|o| o.unwrap_or_else(|| Err(unread()))).collect()
    }

    /// The search is over whole names, whatever the store's prefix: the prefix is for keys that are asked for.
    async fn find_as(&self, query: &FindQuery, caller: &Caller<'_>) -> Result<Vec<Found>, ProviderError> {
        let names = self.list(query, caller).await?;
        let values = self.read_all(&names, caller).await;
        let mut found = Vec::new();
        let mut denied = None;
        for (name, value) in names.into_iter().zip(values) {
            match value {
                Ok(fetched) => found.push(Found { name, bytes: fetched.bytes }),
                // It went away between the list and the read.
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) if error.kind == ErrorKind::Denied && !is_by_name_alone(query) => denied = Some(error),
                Err(error) => return Err(error),
            }
        }
        match denied {
            Some(error) if found.is_empty() => Err(error),
            _ => Ok(found),
        }
    }

    async fn get_one(&self, want: &Want, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let id = self.id(want);
        match want.metadata {
            MetadataPolicy::None => self.read_one(&id, &want.version, caller).await,
            MetadataPolicy::Fetch => self.read_tags(&id, caller).await,
        }
    }

    fn id(&self, want: &Want) -> String {
        self.name(&want.key)
    }

    /// A key with the store's prefix.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

#[async_trait]
impl Session for SecretsManager {
    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        let all = |error: ProviderError| wants.iter().map(|_| Err(error.clone())).collect();
        let caller = match self.caller(cx).await {
            Ok(caller) => caller,
            Err(error) => return all(error),
        };
        let outcomes = self.get_as(wants, &caller).await;
        if !caller.has_expired() {
            return outcomes;
        }
        match self.caller(cx).await {
            Ok(caller) => self.get_as(wants, &caller).await,
            Err(error) => all(error),
        }
    }

    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        if *query == FindQuery::default() {
            return Err(misconfigured("find needs a name, a path or tags: none would be every secret of the account"));
        }
        let caller = self.caller(cx).await?;
        let found = self.find_as(query, &caller).await;
        if caller.has_expired() { self.find_as(query, &self.caller(cx).await?).await } else { found }
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        let caller = self.caller(cx).await?;
        let pushed = self.push_as(push, &caller).await;
        if caller.has_expired() { self.push_as(push, &self.caller(cx).await?).await } else { pushed }
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        let caller = self.caller(cx).await?;
        let deleted = self.delete_as(place, &caller).await;
        if caller.has_expired() { self.delete_as(place, &self.caller(cx).await?).await } else { deleted }
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        let caller = self.caller(cx).await?;
        let found = self.exists_as(place, &caller).await;
        if caller.has_expired() { self.exists_as(place, &self.caller(cx).await?).await } else { found }
    }

    /// As ESO: the login is enough; which secrets the role may read shows when one is read.
    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        self.login.credentials().await.map(|_| Validation::Ready)
    }
}

/// Whether a batch can read it: a value, of the current version.
fn is_plain(want: &Want) -> bool {
    want.version.is_empty() && want.metadata == MetadataPolicy::None
}

/// Never "missing": that is for AWS alone to say.
fn unread() -> ProviderError {
    ProviderError::new(ErrorKind::Unavailable, "the secret was not read")
}

/// Text goes before bytes; `None` where there is neither.
fn value(text: Option<String>, bytes: Option<Blob>) -> Option<SecretBytes> {
    text.map(SecretBytes::from).or_else(|| bytes.map(|b| SecretBytes::new(b.into_inner())))
}

fn fetched(
    id: &str,
    value: Option<SecretBytes>,
    version: Option<String>,
    request_id: Option<String>,
) -> Result<Fetched, ProviderError> {
    let nothing = || ProviderError::new(ErrorKind::Malformed, format!("{id:?} holds neither a text nor bytes"));
    Ok(Fetched { bytes: value.ok_or_else(nothing)?, version, request_id })
}

/// Whether an id means this secret: its name, its ARN, or the ARN without the six characters that AWS puts at its end.
fn is_named(id: &str, name: Option<&str>, arn: Option<&str>) -> bool {
    let is_suffix = |s: &str| s.len() == 7 && s.starts_with('-') && s.bytes().skip(1).all(|b| b.is_ascii_alphanumeric());
    let is_partial = |arn: &str| id.starts_with("arn:") && arn.strip_prefix(id).is_some_and(is_suffix);
    name == Some(id) || arn.is_some_and(|arn| arn == id || is_partial(arn))
}

/// What AWS can narrow down itself: it takes ten filters, matches beginnings only, does not keep a tag's key and value
/// together, and reads a leading `!` as "not". So [`is_match`] has the last word.
fn filters(query: &FindQuery) -> Vec<Filter> {
    let is_plain = |text: &str| {
        !text.is_empty()
            && !text.starts_with('!')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b" :_@/+=.-".contains(&b))
    };
    let tags = query.tags.iter();
    let by_tag = tags.flat_map(|(k, v)| [(FilterNameStringType::TagKey, k), (FilterNameStringType::TagValue, v)]);
    std::iter::once((FilterNameStringType::Name, &query.path))
        .chain(by_tag)
        .filter(|(_, text)| is_plain(text))
        .take(FILTERS)
        .map(|(key, text)| Filter::builder().key(key).values(text).build())
        .collect()
}

fn is_match(entry: &SecretListEntry, query: &FindQuery, name: &Regex) -> bool {
    let has = |key: &str, value: &str| entry.tags().iter().any(|t| t.key() == Some(key) && t.value() == Some(value));
    entry.name().is_some_and(|n| n.starts_with(&query.path) && name.is_match(n)) && query.tags.iter().all(|(k, v)| has(k, v))
}

/// Whether each match must be readable, as in ESO. A search by path or tags takes what the role may read, if that is anything:
/// a role that lost its rights must not look like secrets that are gone.
fn is_by_name_alone(query: &FindQuery) -> bool {
    query.path.is_empty() && query.tags.is_empty()
}
