//! Secret Manager's secrets: read, searched, written and deleted.

use std::collections::BTreeMap;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use jiff::Timestamp;
use serde::Deserialize;

use super::client::{Action, Client, Request, refusal, status};
use super::config::VersionPolicy;
use super::misconfigured;
use crate::api::external_secret::MetadataPolicy;
use crate::outbound::secret;
use crate::providers::{
    CallCx, ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Session, Taker, Validation, Want,
};
use crate::render::{Entries, json, path};
use crate::secret_bytes::SecretBytes;

/// Most secrets in a page.
const PAGE: &str = "500";
/// Most reads at the same time of a search.
const PARALLEL: usize = 8;
const LATEST: &str = "latest";

/// A logged-in client of Secret Manager.
pub(super) struct GcpSession {
    pub(super) client: Client,
    pub(super) policy: VersionPolicy,
}

/// A version that was read.
#[derive(Deserialize)]
struct Access {
    name: String,
    #[serde(default)]
    payload: Payload,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    #[serde(default, deserialize_with = "secret")]
    data: SecretBytes,
    data_crc32c: Option<String>,
}

/// A secret without its values.
#[derive(Deserialize)]
pub(super) struct Secret {
    pub(super) name: String,
    #[serde(default)]
    pub(super) etag: String,
    #[serde(default)]
    pub(super) labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) topics: Vec<Topic>,
}

#[derive(Deserialize)]
pub(super) struct Topic {
    pub(super) name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretsPage {
    #[serde(default)]
    secrets: Vec<Secret>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VersionsPage {
    #[serde(default)]
    versions: Vec<Version>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    name: String,
    create_time: Timestamp,
}

/// The last segment of a resource's name.
fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

impl GcpSession {
    /// One version's value. `version`: empty for the latest, or that of the policy.
    pub(super) async fn read(
        &self,
        key: &str,
        version: &str,
        policy: VersionPolicy,
        cx: &CallCx,
    ) -> Result<Fetched, ProviderError> {
        let request = self.access(key, if version.is_empty() { LATEST } else { version });
        let answer = self.client.exchange(&request, cx).await?;
        if answer.status.is_success() {
            return fetched(answer.json(&format!("value of {key:?}"))?, key);
        }
        let disabled = status(&answer) == "FAILED_PRECONDITION";
        if disabled
            && version.is_empty()
            && policy == VersionPolicy::LatestOrFetch
            && let Some(enabled) = self.latest_enabled(key, cx).await?
        {
            return fetched(self.client.call(&self.access(key, &enabled), cx).await?, key);
        }
        Err(refusal(&answer, &request))
    }

    fn access<'a>(&self, key: &'a str, version: &str) -> Request<'a> {
        let version = crate::outbound::segment(version);
        Request::get(Action::ACCESS, format!("{}/versions/{version}:access", self.client.secret(key)), key)
    }

    async fn latest_enabled(&self, key: &str, cx: &CallCx) -> Result<Option<String>, ProviderError> {
        let mut newest: Option<Version> = None;
        let mut token = String::new();
        loop {
            let request = Request::get(Action::VERSIONS, format!("{}/versions", self.client.secret(key)), key)
                .with("filter", "state:ENABLED")
                .with("pageToken", token);
            let page: VersionsPage = self.client.call(&request, cx).await?;
            newest = page.versions.into_iter().chain(newest).max_by_key(|version| version.create_time);
            if page.next_page_token.is_empty() {
                return Ok(newest.map(|version| last(&version.name).to_owned()));
            }
            token = page.next_page_token;
        }
    }

    /// A secret without its values.
    pub(super) async fn describe(&self, key: &str, cx: &CallCx) -> Result<Secret, ProviderError> {
        self.client.call(&Request::get(Action::GET, self.client.secret(key), key), cx).await
    }

    async fn read_metadata(&self, key: &str, cx: &CallCx) -> Result<Fetched, ProviderError> {
        let secret = self.describe(key, cx).await?;
        let both = serde_json::json!({"annotations": secret.annotations, "labels": secret.labels});
        // As Go writes JSON, with its escapes for HTML.
        let bytes = json::exact::sorted(both.to_string().as_bytes()).unwrap_or_default();
        Ok(Fetched { bytes, version: None, request_id: None })
    }

    /// Names of all secrets that match.
    async fn list(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<String>, ProviderError> {
        let name = query.matcher()?;
        // A search by name does not heed tags, as in ESO.
        let tags = if query.name.is_empty() { query.tags.clone() } else { BTreeMap::new() };
        let filter = filter(&query.path, &tags);
        let matches = |secret: &Secret| {
            let short = last(&secret.name);
            let has = |(key, value): (&String, &String)| secret.labels.as_ref().and_then(|l| l.get(key)) == Some(value);
            short.starts_with(&query.path) && name.is_match(short) && tags.iter().all(has)
        };
        let (mut found, mut token) = (Vec::new(), String::new());
        loop {
            let request = Request::get(Action::LIST, self.client.secrets(), "")
                .with("pageSize", PAGE)
                .with("filter", filter.clone())
                .with("pageToken", token);
            let page: SecretsPage = self.client.call(&request, cx).await?;
            found.extend(page.secrets.iter().filter(|secret| matches(secret)).map(|secret| last(&secret.name).to_owned()));
            if page.next_page_token.is_empty() {
                return Ok(found);
            }
            token = page.next_page_token;
        }
    }
}

/// What Google can narrow down itself; whether a secret matches is told by what it answers.
fn filter(prefix: &str, labels: &BTreeMap<String, String>) -> String {
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let labels = labels.iter().filter(|(key, value)| plain(key) && plain(value));
    let mut terms: Vec<String> = labels.map(|(key, value)| format!("labels.{key}={value}")).collect();
    if plain(prefix) {
        terms.push(format!("name:{prefix}"));
    }
    terms.join(" ")
}

fn fetched(access: Access, key: &str) -> Result<Fetched, ProviderError> {
    let malformed = |text: &str| ProviderError::new(ErrorKind::Malformed, format!("value of {key:?}: {text}"));
    let bytes = STANDARD.decode(access.payload.data.expose()).map(SecretBytes::new);
    let bytes = bytes.map_err(|_| malformed("the answer is no base64"))?;
    if let Some(sum) = access.payload.data_crc32c
        && sum != crc32c(bytes.expose()).to_string()
    {
        return Err(malformed("it was damaged on the way: its checksum is another one"));
    }
    Ok(Fetched { bytes, version: Some(last(&access.name).to_owned()), request_id: None })
}

/// CRC-32C (Castagnoli), as Google sends it along with a value.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[async_trait]
impl Session for GcpSession {
    async fn get(&self, wants: &[Want], cx: &CallCx) -> Vec<Result<Fetched, ProviderError>> {
        join_all(wants.iter().map(|want| async move {
            match want.metadata {
                MetadataPolicy::None => self.read(&want.key, &want.version, self.policy, cx).await,
                MetadataPolicy::Fetch => self.read_metadata(&want.key, cx).await,
            }
        }))
        .await
    }

    async fn find(&self, query: &FindQuery, cx: &CallCx) -> Result<Vec<Found>, ProviderError> {
        let names = self.list(query, cx).await?;
        Found::read_all(self, names, PARALLEL, cx).await
    }

    async fn push(&self, push: &Push, cx: &CallCx) -> Result<Pushed, ProviderError> {
        self.push_as(push, cx).await
    }

    async fn delete(&self, place: &Place, cx: &CallCx) -> Result<(), ProviderError> {
        self.delete_as(place, cx).await
    }

    async fn exists(&self, place: &Place, cx: &CallCx) -> Result<bool, ProviderError> {
        self.exists_as(place, cx).await
    }

    /// As ESO: the login is enough; which secrets it may read shows when one is read.
    async fn validate(&self, _: &CallCx) -> Result<Validation, ProviderError> {
        self.client.log_in().await.map(|()| Validation::Ready)
    }

    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        Values.property(want, value, property)
    }

    fn extract(&self, want: &Want, value: &SecretBytes, property: Option<&str>) -> Result<Entries, ProviderError> {
        Values.extract(want, value, property)
    }
}

/// Takes values apart: JSON by gjson paths, metadata by its two maps.
pub(super) struct Values;

impl Taker for Values {
    fn property(&self, want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
        if want.metadata == MetadataPolicy::Fetch {
            return metadata_property(want, value, property);
        }
        if !json::is_valid(value.expose()) {
            let text = format!("the value of {:?} is not JSON, so it has no properties", want.key);
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        }
        path::escaped_then_path(value, property).ok_or_else(|| ProviderError::missing_property(&want.key, property))
    }
}

/// `labels`, `annotations`, or one of them by its whole name, dots and all.
fn metadata_property(want: &Want, value: &SecretBytes, property: &str) -> Result<SecretBytes, ProviderError> {
    let (map, key) = match property.split_once('.') {
        Some((map, key)) if !key.is_empty() => (map, Some(key)),
        _ => (property, None),
    };
    if !["annotations", "labels"].contains(&map) {
        return Err(misconfigured(format!(
            "invalid property {property}: metadata property should start with either annotations or labels"
        )));
    }
    let whole = path::raw_entries(value).and_then(|mut maps| maps.remove(map)).unwrap_or_default();
    let Some(key) = key else { return Ok(whole) };
    path::object_entries(&whole).and_then(|mut entries| entries.remove(key)).ok_or_else(|| {
        let text = format!("{} with key {key} does not exist in secret {}", map.trim_end_matches('s'), want.key);
        ProviderError::new(ErrorKind::MissingProperty, text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_googles() {
        // RFC 3720, B.4, and the check value of the catalogue of CRCs.
        for (bytes, sum) in [(&[0; 32][..], 0x8a91_36aa), (&[0xff; 32], 0x62a8_ab43), (b"123456789", 0xe306_9283), (b"", 0)]
        {
            assert_eq!(crc32c(bytes), sum);
        }
    }

    #[test]
    fn only_plain_words_become_a_filter() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert_eq!(filter("app-", &labels(&[("team", "a"), ("env", "x y")])), "labels.team=a name:app-");
        assert_eq!(filter("a b", &labels(&[("a OR b", "c")])), "");
    }
}
