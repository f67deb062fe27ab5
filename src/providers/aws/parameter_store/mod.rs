//! AWS Systems Manager Parameter Store.

#[cfg(test)]
mod conformance;
mod push;
#[cfg(test)]
mod push_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use aws_sdk_ssm::Client;
use aws_sdk_ssm::operation::RequestId;
use aws_sdk_ssm::types::{Parameter, ParameterStringFilter, ResourceTypeForTagging};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use super::batch::{Batch, Memory, ReadMany, Refusal};
use super::errors::is_access_denied;
use super::session::{Caller, Service};
use super::tags::{self, Tags};
use super::{Aws, misconfigured};
use crate::api::external_secret::MetadataPolicy;
use crate::providers::{ConnectCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Want};
use crate::secret_bytes::SecretBytes;

#[cfg(test)]
pub(super) use conformance::ParameterStoreFixture;

/// Most names in one `GetParameters`: AWS's limit.
const BATCH: usize = 10;
/// Most parameters in a page of `GetParametersByPath`: AWS's limit.
const PAGE_OF_VALUES: i32 = 10;
/// Most entries in a page of `DescribeParameters`: AWS's limit.
const PAGE_OF_NAMES: i32 = 50;
/// Where a search without a path begins.
const ROOT: &str = "/";
const GET: &str = "ssm:GetParameter";
const BY_PATH: &str = "ssm:GetParametersByPath";
const LIST_TAGS: &str = "ssm:ListTagsForResource";

/// A logged-in client of Parameter Store.
pub(super) struct ParameterStore {
    client: Client,
    prefix: String,
    memory: Memory,
}

impl ParameterStore {
    pub(super) fn new(aws: &Aws, cx: &ConnectCx, client: Client) -> Self {
        Self { client, prefix: aws.prefix.clone().unwrap_or_default(), memory: Memory::new(cx) }
    }

    /// A key with the store's prefix.
    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// A parameter with its value. A version's number or label stands behind the name: `name:3`.
    async fn read(&self, name: &str, caller: &Caller<'_>) -> Result<(Parameter, Option<String>), ProviderError> {
        let request = self.client.get_parameter().name(name).with_decryption(true);
        let answer = caller.answer(GET, name, request.customize().interceptor(caller.mark()).send().await).await?;
        let request_id = answer.request_id().map(String::from);
        Ok((answer.parameter.ok_or_else(|| no_value(name))?, request_id))
    }

    /// The tags of a parameter: all its versions have the same.
    async fn tags(&self, name: &str, caller: &Caller<'_>) -> Result<(Tags, Option<String>), ProviderError> {
        let request =
            self.client.list_tags_for_resource().resource_type(ResourceTypeForTagging::Parameter).resource_id(name);
        let answer = caller.answer(LIST_TAGS, name, request.customize().interceptor(caller.mark()).send().await).await?;
        let request_id = answer.request_id().map(String::from);
        Ok((tags::of(answer.tag_list().iter().map(|tag| (Some(tag.key()), Some(tag.value())))), request_id))
    }

    async fn read_tags(&self, name: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let (tags, request_id) = self.tags(name, caller).await?;
        Ok(Fetched { bytes: tags::as_json(&tags, name)?, version: None, request_id })
    }

    /// Values below a path, whose names match. `None`: the role may not ask for paths, or not for this one.
    async fn find_by_path(&self, query: &FindQuery, caller: &Caller<'_>) -> Result<Option<Vec<Found>>, ProviderError> {
        let (path, pattern) = (path_of(query), query.matcher()?);
        let mut found = BTreeMap::new();
        let mut page = None;
        loop {
            let request = self.client.get_parameters_by_path().path(path).recursive(true).with_decryption(true);
            let request = request.max_results(PAGE_OF_VALUES).set_next_token(page);
            let answer = match request.customize().interceptor(caller.mark()).send().await {
                Err(error) if is_access_denied(error.code()) => return Ok(None),
                outcome => caller.answer(BY_PATH, path, outcome).await?,
            };
            for parameter in answer.parameters.unwrap_or_default() {
                let Some(name) = parameter.name.filter(|name| pattern.is_match(name)) else { continue };
                let bytes = parameter.value.map(SecretBytes::from).ok_or_else(|| no_value(&name))?;
                found.insert(name, bytes);
            }
            page = answer.next_token.filter(|token| !token.is_empty());
            if page.is_none() {
                return Ok(Some(found.into_iter().map(|(name, bytes)| Found { name, bytes }).collect()));
            }
        }
    }

    /// Names of all parameters that the filters let through and that match, sorted.
    async fn list(
        &self,
        filters: Vec<ParameterStringFilter>,
        query: &FindQuery,
        caller: &Caller<'_>,
    ) -> Result<Vec<String>, ProviderError> {
        let pattern = query.matcher()?;
        let mut found = BTreeSet::new();
        let mut page = None;
        loop {
            let request = self.client.describe_parameters().set_parameter_filters(Some(filters.clone()));
            let request = request.max_results(PAGE_OF_NAMES).set_next_token(page);
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            let answer = caller.answer("ssm:DescribeParameters", "", outcome).await?;
            let names = answer.parameters.unwrap_or_default().into_iter().filter_map(|parameter| parameter.name);
            found.extend(names.filter(|name| pattern.is_match(name)));
            page = answer.next_token.filter(|token| !token.is_empty());
            if page.is_none() {
                return Ok(found.into_iter().collect());
            }
        }
    }
}

#[async_trait]
impl ReadMany for ParameterStore {
    const ACTION: &'static str = "ssm:GetParameters";
    const SINGLE: &'static str = GET;
    const SIZE: usize = BATCH;
    /// One name that the role may not read, or whose key it may not use, and all of them are denied.
    const REFUSAL: Refusal = Refusal::OfSome;
    /// ESO's search ends with the first parameter that cannot be read.
    const LENIENT: bool = false;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    async fn read_batch(&self, ids: &[&str], caller: &Caller<'_>) -> Batch {
        let names = ids.iter().map(|id| (*id).to_owned()).collect();
        let request = self.client.get_parameters().set_names(Some(names)).with_decryption(true);
        let answer = match request.customize().interceptor(caller.mark()).send().await {
            Ok(answer) => answer,
            Err(error) => return self.refused(ids, caller, &error).await,
        };
        let request_id = answer.request_id().map(String::from);
        let mut outcomes = BTreeMap::new();
        // `InvalidParameters` are left out: what has no such version or is no name stands there, too.
        for parameter in answer.parameters.unwrap_or_default() {
            if let Some(id) = ids.iter().find(|id| is_named(id, &parameter)) {
                outcomes.insert((*id).to_owned(), fetched(id, parameter, request_id.clone()));
            }
        }
        Batch::Read(outcomes)
    }

    async fn read_one(&self, id: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let (parameter, request_id) = self.read(id, caller).await?;
        fetched(id, parameter, request_id)
    }

    fn id(&self, want: &Want) -> String {
        self.name(&want.key)
    }

    async fn read_special(&self, want: &Want, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        match want.metadata {
            MetadataPolicy::None => self.read_one(&format!("{}:{}", self.id(want), want.version), caller).await,
            MetadataPolicy::Fetch => self.read_tags(&self.id(want), caller).await,
        }
    }
}

#[async_trait]
impl Service for ParameterStore {
    fn batch_size(&self) -> usize {
        BATCH
    }

    async fn get(&self, wants: &[Want], caller: &Caller<'_>) -> Vec<Result<Fetched, ProviderError>> {
        self.read_wants(wants, caller).await
    }

    /// As in ESO, tags count only where no name is asked for, and names are whole, whatever the store's prefix.
    async fn find(&self, query: &FindQuery, caller: &Caller<'_>) -> Result<Vec<Found>, ProviderError> {
        if query.name.is_empty() && !query.tags.is_empty() {
            let mut filters = query
                .tags
                .iter()
                .map(|(key, value)| filter(&format!("tag:{key}"), "Equals", value))
                .collect::<Result<Vec<_>, _>>()?;
            if !query.path.is_empty() {
                filters.push(filter("Path", "Recursive", &query.path)?);
            }
            let names = self.list(filters, query, caller).await?;
            return self.read_found(names, query, caller).await;
        }
        if let Some(found) = self.find_by_path(query, caller).await? {
            return Ok(found);
        }
        let names = self.list(vec![filter("Path", "Recursive", path_of(query))?], query, caller).await?;
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

/// Whether an id means this parameter: its name or its ARN, with the version or label behind it where one was asked for.
fn is_named(id: &str, parameter: &Parameter) -> bool {
    let selector = parameter.selector().unwrap_or_default();
    [parameter.name(), parameter.arn()].into_iter().flatten().any(|name| id.strip_prefix(name) == Some(selector))
}

fn fetched(id: &str, parameter: Parameter, request_id: Option<String>) -> Result<Fetched, ProviderError> {
    let version = Some(parameter.version.to_string()).filter(|version| version != "0");
    let bytes = parameter.value.map(SecretBytes::from).ok_or_else(|| no_value(id))?;
    Ok(Fetched { bytes, version, request_id })
}

fn no_value(name: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, format!("{GET} on {name:?}: the answer holds no value"))
}

fn path_of(query: &FindQuery) -> &str {
    if query.path.is_empty() { ROOT } else { &query.path }
}

fn filter(key: &str, option: &str, value: &str) -> Result<ParameterStringFilter, ProviderError> {
    let built = ParameterStringFilter::builder().key(key).option(option).values(value).build();
    built.map_err(|_| misconfigured("find: the search is not complete"))
}
