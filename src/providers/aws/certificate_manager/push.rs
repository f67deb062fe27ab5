//! Importing into Certificate Manager. A certificate is found by its tags: `managed-by`, and the remote key that it was pushed to.

use aws_sdk_acm::types::Tag;
use aws_sdk_resourcegroupstagging::types::TagFilter;
use aws_smithy_types::Blob;
use serde::Deserialize;

use super::{CertificateManager, lock};
use crate::providers::aws::misconfigured;
use crate::providers::aws::session::Caller;
use crate::providers::aws::tags::{self, Change, MANAGED_BY, OWNER, Tags};
use crate::providers::push::{self, Place, Push, Pushed};
use crate::providers::{ErrorKind, ProviderError};
use crate::render::template::crypto;
use crate::secret_bytes::SecretBytes;

/// Tag that names the remote key.
const REMOTE_KEY: &str = "external-secrets-remote-key";
/// What the search by tags looks through.
const RESOURCE: &str = "acm:certificate";
const IMPORT: &str = "acm:ImportCertificate";
const CERTIFICATE: &str = "tls.crt";
const PRIVATE_KEY: &str = "tls.key";

/// The `spec` of an entry's metadata block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PushMetadata {
    tags: Tags,
}

impl PushMetadata {
    fn of(place: &Place) -> Result<Self, ProviderError> {
        let block: Option<Self> = push::metadata(place.metadata.as_ref())
            .map_err(|e| misconfigured(format!("failed to parse push secret metadata: {}", e.detail)))?;
        let mut block = block.unwrap_or_default();
        block.tags.retain(|key, _| !is_reserved(key));
        Ok(block)
    }
}

/// Tags that are not for a metadata block to say.
fn is_reserved(key: &str) -> bool {
    [MANAGED_BY, REMOTE_KEY].contains(&key)
}

/// What is imported.
struct Bundle<'a> {
    leaf: String,
    /// The other certificates; empty: none.
    chain: String,
    key: &'a SecretBytes,
}

impl<'a> Bundle<'a> {
    fn of(push: &'a Push) -> Result<Self, ProviderError> {
        if push.secret_key.as_deref().is_some_and(|key| !key.is_empty()) {
            return Err(misconfigured(
                "secretKey must be empty for the AWS Certificate Manager provider: the whole kubernetes.io/tls secret is required \
                 (tls.crt and tls.key)",
            ));
        }
        let value = |key: &str| {
            let found = push.source.data.get(key).filter(|value| !value.expose().is_empty());
            found.ok_or_else(|| misconfigured(format!("key {key:?} not found or empty in the source Secret")))
        };
        let (certificates, key) = (value(CERTIFICATE)?, value(PRIVATE_KEY)?);
        let mut certificates = crypto::certificates(certificates.expose()).into_iter();
        let unreadable = |what: &str| misconfigured(format!("failed to parse {CERTIFICATE:?}: {what}"));
        let leaf = certificates.next().ok_or_else(|| unreadable("no CERTIFICATE PEM blocks found"))?;
        if !crypto::is_certificate(leaf.as_bytes()) {
            return Err(unreadable("the first certificate cannot be read"));
        }
        Ok(Self { leaf, chain: certificates.collect(), key })
    }

    /// Whether it is what AWS gives. AWS gives the certificate as the chain of one that has none.
    fn is(&self, certificate: &str, chain: &str) -> bool {
        let there = |text: &str| crypto::certificates(text.as_bytes()).concat();
        let (leaf, chain) = (there(certificate), there(chain));
        self.leaf == leaf && (self.chain == chain || (self.chain.is_empty() && chain == leaf))
    }
}

/// A remote key with a property would be one of several values, and a certificate is one.
fn no_property(place: &Place) -> Result<(), ProviderError> {
    match place.property() {
        None => Ok(()),
        Some(property) => {
            let text = format!("remoteRef.property {property:?} cannot be used with Certificate Manager: leave it out");
            Err(ProviderError::new(ErrorKind::Unsupported, text))
        }
    }
}

fn tag((key, value): (String, String)) -> Result<Tag, ProviderError> {
    let built = Tag::builder().key(&key).value(value).build();
    built.map_err(|_| misconfigured(format!("metadata.spec.tags: {key:?} is not complete")))
}

fn all_tags(tags: Tags) -> Result<Vec<Tag>, ProviderError> {
    tags.into_iter().map(tag).collect()
}

impl CertificateManager {
    fn remote_key(&self, place: &Place) -> String {
        format!("{}{}", self.prefix, place.key)
    }

    /// The ARN of what was pushed to a remote key. Of several, which only a race can have made, the first by name.
    async fn find_arn(&self, remote_key: &str, caller: &Caller<'_>) -> Result<Option<String>, ProviderError> {
        if let Some(arn) = lock(&self.known).get(remote_key) {
            return Ok(Some(arn.clone()));
        }
        let filter = |key: &str, value: &str| TagFilter::builder().key(key).values(value).build();
        let filters = vec![filter(MANAGED_BY, OWNER), filter(REMOTE_KEY, remote_key)];
        let (mut first, mut page) = (None::<String>, None);
        loop {
            let request = self.tagging.get_resources().resource_type_filters(RESOURCE);
            let request = request.set_tag_filters(Some(filters.clone())).set_pagination_token(page);
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            let answer = caller.answer("tag:GetResources", remote_key, outcome).await?;
            let found = answer.resource_tag_mapping_list.unwrap_or_default().into_iter().filter_map(|r| r.resource_arn);
            first = first.into_iter().chain(found).min();
            page = answer.pagination_token.filter(|token| !token.is_empty());
            if page.is_none() {
                break;
            }
        }
        if let Some(arn) = &first {
            lock(&self.known).put(remote_key.to_owned(), arn.clone());
        }
        Ok(first)
    }

    /// Answers `None` where Certificate Manager says that there is nothing, and forgets where it was.
    fn gone<T>(&self, remote_key: &str, outcome: Result<T, ProviderError>) -> Result<Option<T>, ProviderError> {
        match outcome {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind == ErrorKind::NotFound => {
                lock(&self.known).pop(remote_key);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The certificate of a remote key, with its tags. What is known from before may be ours no more, and another one be.
    async fn ours(&self, remote_key: &str, caller: &Caller<'_>) -> Result<Option<(String, Tags)>, ProviderError> {
        let is_it =
            |tags: &Tags| tags::are_ours(tags) && tags.get(REMOTE_KEY).is_some_and(|named| named.as_str() == remote_key);
        for _ in 0..2 {
            let Some(arn) = self.find_arn(remote_key, caller).await? else { return Ok(None) };
            let tags = self.gone(remote_key, self.tags(&arn, caller).await)?;
            if let Some(tags) = tags.filter(is_it) {
                return Ok(Some((arn, tags)));
            }
            lock(&self.known).pop(remote_key);
        }
        Ok(None)
    }

    pub(super) async fn push_as(&self, push: &Push, caller: &Caller<'_>) -> Result<Pushed, ProviderError> {
        no_property(&push.place)?;
        let (metadata, bundle) = (PushMetadata::of(&push.place)?, Bundle::of(push)?);
        let remote_key = self.remote_key(&push.place);
        if let Some((arn, tags)) = self.ours(&remote_key, caller).await?
            && let Some(there) = self.gone(&remote_key, self.certificate(&arn, caller).await)?
        {
            let is_new = !bundle.is(there.certificate().unwrap_or_default(), there.certificate_chain().unwrap_or_default());
            if is_new {
                self.import(&bundle, &remote_key, Some(&arn), None, caller).await?;
            }
            // what was to be imported is there by now
            let tagged = self.put_tags((&arn, &tags), &remote_key, &metadata, caller).await;
            let tagged = tagged.map_err(|error| error.after_writing(true))?;
            return Ok(if is_new || tagged { Pushed::Written } else { Pushed::Unchanged });
        }
        let tags = marked(&metadata.tags, &remote_key);
        let arn = self.import(&bundle, &remote_key, None, Some(all_tags(tags)?), caller).await?;
        lock(&self.known).put(remote_key, arn);
        Ok(Pushed::Written)
    }

    /// Imports a new certificate, or another one in the place of `arn`; returns its ARN. Tags can be given to a new one only.
    async fn import(
        &self,
        bundle: &Bundle<'_>,
        remote_key: &str,
        arn: Option<&str>,
        tags: Option<Vec<Tag>>,
        caller: &Caller<'_>,
    ) -> Result<String, ProviderError> {
        let chain = Some(&bundle.chain).filter(|chain| !chain.is_empty());
        let request = self
            .client
            .import_certificate()
            .set_certificate_arn(arn.map(str::to_owned))
            .certificate(Blob::new(bundle.leaf.as_bytes()))
            .private_key(Blob::new(bundle.key.expose()))
            .set_certificate_chain(chain.map(|chain| Blob::new(chain.as_bytes())))
            .set_tags(tags);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        let answer = caller.written(IMPORT, remote_key, outcome).await.map_err(with_reasons)?;
        let unnamed =
            || ProviderError::new(ErrorKind::Malformed, format!("{IMPORT} on {remote_key:?}: the answer names no ARN"));
        answer.certificate_arn.ok_or_else(unnamed)
    }

    /// Makes the tags those of the block, if it names any; whether something changed.
    async fn put_tags(
        &self,
        (arn, there): (&str, &Tags),
        remote_key: &str,
        metadata: &PushMetadata,
        caller: &Caller<'_>,
    ) -> Result<bool, ProviderError> {
        if metadata.tags.is_empty() {
            return Ok(false);
        }
        let change = Change::between(there, &marked(&metadata.tags, remote_key));
        let changed = change.is_any();
        if !change.gone.is_empty() {
            let request = self.client.remove_tags_from_certificate().certificate_arn(arn);
            let request = request.set_tags(Some(all_tags(change.gone)?));
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            caller.answer("acm:RemoveTagsFromCertificate", arn, outcome).await?;
        }
        if !change.new.is_empty() {
            let request = self.client.add_tags_to_certificate().certificate_arn(arn);
            let request = request.set_tags(Some(all_tags(change.new)?));
            let outcome = request.customize().interceptor(caller.mark()).send().await;
            caller.answer("acm:AddTagsToCertificate", arn, outcome).await?;
        }
        Ok(changed)
    }

    pub(super) async fn delete_as(&self, place: &Place, caller: &Caller<'_>) -> Result<(), ProviderError> {
        // nothing was ever pushed to a property
        if place.property().is_some() {
            return Ok(());
        }
        let remote_key = self.remote_key(place);
        let Some((arn, _)) = self.ours(&remote_key, caller).await? else { return Ok(()) };
        let request = self.client.delete_certificate().certificate_arn(&arn);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        self.gone(&remote_key, caller.answer("acm:DeleteCertificate", &arn, outcome).await)?;
        lock(&self.known).pop(&remote_key);
        Ok(())
    }

    pub(super) async fn exists_as(&self, place: &Place, caller: &Caller<'_>) -> Result<bool, ProviderError> {
        no_property(place)?;
        self.ours(&self.remote_key(place), caller).await.map(|found| found.is_some())
    }
}

/// Tags of a block, with those that the certificate is found by.
fn marked(tags: &Tags, remote_key: &str) -> Tags {
    let mut tags = tags::marked(tags);
    tags.insert(REMOTE_KEY.to_owned(), remote_key.to_owned());
    tags
}

/// AWS's own words could quote the key: what they are mostly about is said in ours.
fn with_reasons(mut error: ProviderError) -> ProviderError {
    if error.detail.ends_with("ValidationException") {
        error
            .detail
            .push_str(": the private key is not the certificate's, or one of them is of a kind that ACM does not take");
    }
    error
}
