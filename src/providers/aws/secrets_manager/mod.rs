//! AWS Secrets Manager.

mod push;
#[cfg(test)]
mod push_tests;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::operation::RequestId;
use aws_sdk_secretsmanager::types::{Filter, FilterNameStringType, SecretListEntry, SecretValueEntry, Tag};
use aws_smithy_types::Blob;
use regex::Regex;

use super::batch::{Batch, Memory, ReadMany, Refusal};
use super::session::{Caller, Service};
use super::tags::{self, Tags};
use super::{Aws, SecretsManagerOptions};
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Want};
use crate::secret_bytes::SecretBytes;

/// Most secrets in one `BatchGetSecretValue`: AWS's limit.
const BATCH: usize = 20;
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
    client: Client,
    prefix: String,
    /// How it deletes.
    options: SecretsManagerOptions,
    /// Where the objects that a push names are looked for.
    cx: ConnectCx,
    memory: Memory,
}

impl SecretsManager {
    pub(super) fn new(aws: &Aws, cx: &ConnectCx, client: Client) -> Self {
        Self {
            client,
            prefix: aws.prefix.clone().unwrap_or_default(),
            options: aws.secrets_manager.clone().unwrap_or_default(),
            cx: cx.clone(),
            memory: Memory::new(cx),
        }
    }

    /// One value. `version`: empty for the current one, `uuid/…` for a version's id, else a stage.
    async fn read_version(&self, id: &str, version: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let request = self.client.get_secret_value().secret_id(id);
        let request = match version.strip_prefix("uuid/") {
            Some(version) => request.version_id(version),
            None if version.is_empty() => request.version_stage(CURRENT),
            None => request.version_stage(version),
        };
        let answer = caller.answer(GET, id, request.customize().interceptor(caller.mark()).send().await).await?;
        let request_id = answer.request_id().map(String::from);
        fetched(id, value(answer.secret_string, answer.secret_binary), answer.version_id, request_id)
    }

    /// A secret's tags, as a JSON object.
    async fn read_tags(&self, id: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let request = self.client.describe_secret().secret_id(id);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        let answer = caller.answer("secretsmanager:DescribeSecret", id, outcome).await?;
        let request_id = answer.request_id().map(String::from);
        Ok(Fetched { bytes: tags::as_json(&tags_of(answer.tags()), id)?, version: None, request_id })
    }

    /// Names of all secrets that match, sorted.
    async fn list(&self, query: &FindQuery, caller: &Caller<'_>) -> Result<Vec<String>, ProviderError> {
        let name = query.matcher()?;
        let filters = filters(query);
        let mut found = BTreeSet::new();
        let mut page = None;
        loop {
            let request = self.client.list_secrets().max_results(PAGE).set_next_token(page);
            let request = request.set_filters(Some(filters.clone()).filter(|f| !f.is_empty()));
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            let answer = caller.answer("secretsmanager:ListSecrets", "", outcome).await?;
            let entries = answer.secret_list.unwrap_or_default();
            found.extend(entries.into_iter().filter(|e| is_match(e, query, &name)).filter_map(|e| e.name));
            page = answer.next_token.filter(|t| !t.is_empty());
            if page.is_none() {
                return Ok(found.into_iter().collect());
            }
        }
    }

    /// A key with the store's prefix.
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

#[async_trait]
impl ReadMany for SecretsManager {
    const ACTION: &'static str = "secretsmanager:BatchGetSecretValue";
    const SINGLE: &'static str = GET;
    const SIZE: usize = BATCH;
    /// What is denied of its secrets alone stands in the answer.
    const REFUSAL: Refusal = Refusal::OfAction;
    const LENIENT: bool = true;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn read_batch(&self, ids: &[&str], caller: &Caller<'_>) -> Batch {
        let mut outcomes = BTreeMap::new();
        let mut page = None;
        loop {
            let mut request = self.client.batch_get_secret_value().set_next_token(page);
            for id in ids {
                request = request.secret_id_list(*id);
            }
            let answer = match request.customize().interceptor(caller.mark()).send().await {
                Ok(answer) => answer,
                Err(error) => return self.refused(ids, caller, &error).await,
            };
            let request_id = answer.request_id().map(String::from);
            for entry in answer.secret_values.unwrap_or_default() {
                let matching = ids.iter().filter(|id| is_named(id, entry.name(), entry.arn())).collect::<Vec<_>>();
                let SecretValueEntry { version_id, secret_string, secret_binary, .. } = entry;
                let value = value(secret_string, secret_binary);
                for id in matching {
                    let outcome = fetched(id, value.clone(), version_id.clone(), request_id.clone());
                    outcomes.insert((*id).to_owned(), outcome);
                }
            }
            for item in answer.errors.unwrap_or_default() {
                // A secret of another account is not promised to be readable in a batch: left to a single read.
                let own = ids.iter().filter(|id| !id.starts_with("arn:"));
                for id in own.filter(|id| item.secret_id() == Some(**id)) {
                    let (code, message) = (item.error_code().unwrap_or_default(), item.message().unwrap_or_default());
                    outcomes.insert((*id).to_owned(), Err(caller.item_error(GET, id, code, message)));
                }
            }
            page = answer.next_token.filter(|t| !t.is_empty());
            if page.is_none() {
                return Batch::Read(outcomes);
            }
        }
    }

    async fn read_one(&self, id: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        self.read_version(id, "", caller).await
    }

    fn id(&self, want: &Want) -> String {
        self.name(&want.key)
    }

    async fn read_special(&self, want: &Want, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let id = self.id(want);
        match want.metadata {
            MetadataPolicy::None => self.read_version(&id, &want.version, caller).await,
            MetadataPolicy::Fetch => self.read_tags(&id, caller).await,
        }
    }
}

#[async_trait]
impl Service for SecretsManager {
    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn get(&self, wants: &[Want], caller: &Caller<'_>) -> Vec<Result<Fetched, ProviderError>> {
        self.read_wants(wants, caller).await
    }

    /// The search is over whole names, whatever the store's prefix: the prefix is for keys that are asked for.
    async fn find(&self, query: &FindQuery, caller: &Caller<'_>) -> Result<Vec<Found>, ProviderError> {
        let names = self.list(query, caller).await?;
        self.read_found(names, query, caller).await
    }

    async fn push(&self, push: &Push, caller: &Caller<'_>) -> Result<Pushed, ProviderError> {
        self.push_as(push, caller).await
    }

    async fn delete(&self, place: &Place, caller: &Caller<'_>) -> Result<(), ProviderError> {
        self.delete_as(place, caller).await
    }

    async fn exists(&self, place: &Place, caller: &Caller<'_>) -> Result<bool, ProviderError> {
        self.exists_as(place, caller).await
    }
}

fn tags_of(tags: &[Tag]) -> Tags {
    tags::of(tags.iter().map(|tag| (tag.key(), tag.value())))
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
