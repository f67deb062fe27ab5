//! AWS Certificate Manager: certificates are exported with their keys, and imported.

mod push;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use aws_sdk_acm::Client;
use aws_sdk_acm::operation::RequestId;
use aws_sdk_acm::operation::get_certificate::GetCertificateOutput;
use aws_sdk_acm::types::{CertificateExport, CertificateType, Tag};
use aws_smithy_types::Blob;
use futures::future::join_all;
use lru::LruCache;
use zeroize::Zeroizing;

use super::session::{Caller, Service};
use super::tags::{self, Tags};
use super::{Aws, misconfigured};
use crate::api::external_secret::MetadataPolicy;
use crate::chance::SystemChance;
use crate::providers::{ErrorKind, Fetched, FindQuery, Found, Place, ProviderError, Push, Pushed, Taker, Want};
use crate::render::Entries;
use crate::render::template::chance::Chance;
use crate::render::template::crypto;
use crate::secret_bytes::SecretBytes;

#[cfg(test)]
pub(super) use tests::CertificateManagerFixture;

/// Exports that are kept, so that a certificate is exported once. ESO keeps as many.
const EXPORTS: NonZeroUsize = const_size(128);
/// Remote keys whose certificates are known. ESO knows as many.
const KNOWN: NonZeroUsize = const_size(512);

const fn const_size(size: usize) -> NonZeroUsize {
    match NonZeroUsize::new(size) {
        Some(size) => size,
        None => NonZeroUsize::MIN,
    }
}

/// A logged-in client of Certificate Manager.
pub(super) struct CertificateManager {
    client: Client,
    tagging: aws_sdk_resourcegroupstagging::Client,
    prefix: String,
    /// By ARN.
    exported: Mutex<LruCache<String, Exported>>,
    /// ARN by remote key: the search by tags lags behind an import, and a second import would make a second certificate.
    known: Mutex<LruCache<String, String>>,
}

/// An export, and the certificates that it was made of: a renewal makes others.
struct Exported {
    certificate: String,
    chain: String,
    bundle: SecretBytes,
}

impl CertificateManager {
    pub(super) fn new(aws: &Aws, client: Client, tagging: aws_sdk_resourcegroupstagging::Client) -> Self {
        Self {
            client,
            tagging,
            prefix: aws.prefix.clone().unwrap_or_default(),
            exported: Mutex::new(LruCache::new(EXPORTS)),
            known: Mutex::new(LruCache::new(KNOWN)),
        }
    }

    async fn read(&self, want: &Want, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        if !want.version.is_empty() {
            let text = "remoteRef.version cannot be used with Certificate Manager: a certificate has one version";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        match want.metadata {
            MetadataPolicy::None => self.read_bundle(&want.key, caller).await,
            MetadataPolicy::Fetch => {
                let bytes = tags::as_json(&self.tags(&want.key, caller).await?, &want.key)?;
                Ok(Fetched { bytes, version: None, request_id: None })
            }
        }
    }

    /// Certificate, chain and private key in PEM. Whether they have changed is asked each time; an export costs.
    async fn read_bundle(&self, arn: &str, caller: &Caller<'_>) -> Result<Fetched, ProviderError> {
        let there = self.certificate(arn, caller).await?;
        let request_id = there.request_id().map(String::from);
        let (certificate, chain) = (there.certificate.unwrap_or_default(), there.certificate_chain.unwrap_or_default());
        let kept = lock(&self.exported)
            .get(arn)
            .filter(|e| e.certificate == certificate && e.chain == chain)
            .map(|e| e.bundle.clone());
        let bundle = match kept {
            Some(bundle) => bundle,
            None => {
                self.check_exportable(arn, caller).await?;
                let bundle = self.export(arn, &SystemChance, caller).await?;
                let exported = Exported { certificate, chain, bundle: bundle.clone() };
                lock(&self.exported).put(arn.to_owned(), exported);
                bundle
            }
        };
        Ok(Fetched { bytes: bundle, version: None, request_id })
    }

    async fn certificate(&self, arn: &str, caller: &Caller<'_>) -> Result<GetCertificateOutput, ProviderError> {
        let request = self.client.get_certificate().certificate_arn(arn);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        caller.answer("acm:GetCertificate", arn, outcome).await
    }

    /// Certificates of a private authority can be exported whatever their options say.
    async fn check_exportable(&self, arn: &str, caller: &Caller<'_>) -> Result<(), ProviderError> {
        let request = self.client.describe_certificate().certificate_arn(arn);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        let answer = caller.answer("acm:DescribeCertificate", arn, outcome).await?;
        let is_exportable = answer.certificate().is_some_and(|detail| {
            detail.r#type() == Some(&CertificateType::Private)
                || detail.options().and_then(|o| o.export()) == Some(&CertificateExport::Enabled)
        });
        if is_exportable {
            return Ok(());
        }
        Err(misconfigured(format!("certificate {arn} is not exportable (Options.Export is not ENABLED)")))
    }

    async fn export(
        &self,
        arn: &str,
        chance: &(dyn Chance + Sync),
        caller: &Caller<'_>,
    ) -> Result<SecretBytes, ProviderError> {
        let passphrase = passphrase(chance);
        let request = self.client.export_certificate().certificate_arn(arn).passphrase(Blob::new(passphrase.as_bytes()));
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        let answer = caller.written("acm:ExportCertificate", arn, outcome).await?;
        let malformed =
            |what: &str| ProviderError::new(ErrorKind::Malformed, format!("acm:ExportCertificate on {arn:?}: {what}"));
        let encrypted =
            answer.private_key.map(Zeroizing::new).ok_or_else(|| malformed("the answer holds no private key"))?;
        let key = crypto::decrypted_key(encrypted.as_bytes(), passphrase.as_bytes())
            .map_err(|_| malformed("the private key cannot be decrypted, or is of a kind that is not known"))?;
        let mut bundle = Zeroizing::new(String::new());
        for part in [answer.certificate.as_deref(), answer.certificate_chain.as_deref(), Some(key.as_str())] {
            let part = part.unwrap_or_default().trim_end_matches(['\r', '\n']);
            if !part.is_empty() {
                bundle.push_str(part);
                bundle.push('\n');
            }
        }
        Ok(SecretBytes::from(bundle.as_str()))
    }

    async fn tags(&self, arn: &str, caller: &Caller<'_>) -> Result<Tags, ProviderError> {
        let request = self.client.list_tags_for_certificate().certificate_arn(arn);
        let outcome = request.customize().interceptor(caller.mark()).send().await;
        let answer = caller.answer("acm:ListTagsForCertificate", arn, outcome).await?;
        Ok(tags::of(answer.tags().iter().map(|tag: &Tag| (Some(tag.key()), tag.value()))))
    }
}

/// What the key is encrypted with on its way here: of AWS's alphabet, and used once.
fn passphrase(chance: &(dyn Chance + Sync)) -> Zeroizing<String> {
    let mut bytes = Zeroizing::new([0; 32]);
    chance.fill(&mut *bytes);
    Zeroizing::new(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn lock<K, V>(cache: &Mutex<LruCache<K, V>>) -> MutexGuard<'_, LruCache<K, V>> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

/// ESO's words for what the service has nothing for.
fn unsupported() -> ProviderError {
    ProviderError::new(ErrorKind::Unsupported, "operation not supported by AWS Certificate Manager provider")
}

#[async_trait]
impl Service for CertificateManager {
    fn taker(&self) -> &'static dyn Taker {
        &Bundle
    }

    async fn get(&self, wants: &[Want], caller: &Caller<'_>) -> Vec<Result<Fetched, ProviderError>> {
        join_all(wants.iter().map(|want| self.read(want, caller))).await
    }

    async fn find(&self, _: &FindQuery, _: &Caller<'_>) -> Result<Vec<Found>, ProviderError> {
        Err(unsupported())
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

/// A certificate is one text, with nothing in it to take out.
pub(super) struct Bundle;

impl Taker for Bundle {
    fn extract(&self, _: &Want, _: &SecretBytes, _: Option<&str>) -> Result<Entries, ProviderError> {
        Err(unsupported())
    }
}
