//! What a provider may reach while it logs in: the objects that its store refers to, and nothing else.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::de::DeserializeOwned;

use super::used::Used;
use super::{ErrorKind, ProviderError, ReferenceKind, UsedReferences};
use crate::api::refs::{Ca, CaProvider, CaProviderType, SecretKeySelector, ServiceAccountSelector, ValueOrSecret};
use crate::api::secret_store::{RetrySettings, StoreKind};
use crate::outbound::Outbound;
use crate::secret_bytes::SecretBytes;

/// Token that every Pod has.
const OWN_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
/// Where tokens are mounted into Pods: no other file of the operator's is sent anywhere.
const TOKENS: &str = "/var/run/secrets";
/// Longest wait for the version of an object that a login was made with.
const LOOK: Duration = Duration::from_secs(5);

/// Resolves the references of one store, for one consumer. A SecretStore's references stay in its own namespace, whatever
/// they say; a ClusterSecretStore's go where they say, else to the consumer's namespace.
#[derive(Clone)]
pub struct ConnectCx {
    /// Client of the cluster that the operator runs in.
    pub client: kube::Client,
    /// Address of that cluster.
    pub cluster: OwnCluster,
    /// Kind of the store.
    pub store_kind: StoreKind,
    /// Name of the store.
    pub store_name: String,
    /// Namespace of the store, or for a ClusterSecretStore with referent authentication the consumer's. Empty while a
    /// ClusterSecretStore is checked on its own.
    pub namespace: String,
    /// The store's `retrySettings`.
    pub retry: Option<RetrySettings>,
    /// The operator's own environment, taken once at start: endpoint overrides and ambient credentials.
    pub env: Arc<BTreeMap<String, String>>,
    /// Clients for calls over HTTP.
    pub outbound: Arc<Outbound>,
    /// Which objects were read to log in.
    pub used: UsedReferences,
}

/// Address and certificate authority of the cluster that the operator runs in: the configuration of its client without the
/// credentials, which no store may borrow.
#[derive(Clone)]
pub struct OwnCluster(Arc<kube::Config>);

impl OwnCluster {
    /// Takes the address out of the configuration of the operator's own client.
    #[must_use]
    pub fn of(config: &kube::Config) -> Self {
        let mut config = config.clone();
        config.auth_info = kube::config::AuthInfo::default();
        config.headers.clear();
        Self(Arc::new(config))
    }

    /// A client configuration that reaches the cluster and logs in as nobody.
    #[must_use]
    pub fn config(&self) -> kube::Config {
        self.0.as_ref().clone()
    }
}

/// A ServiceAccount's token, and how long it holds.
pub struct BoundToken {
    /// The token.
    pub value: SecretBytes,
    /// Time until it expires, counted from now.
    pub life: Duration,
}

impl ConnectCx {
    /// Namespace that a reference points into.
    ///
    /// # Errors
    /// `Misconfigured` where a SecretStore names another namespace, or where nobody names one.
    pub fn resolve_namespace(&self, named: Option<&str>, what: &str) -> Result<String, ProviderError> {
        match (self.store_kind, named) {
            (StoreKind::SecretStore, Some(other)) if other != self.namespace => Err(misconfigured(format!(
                "{what} names namespace {other:?}, but a SecretStore reads its own namespace only, and a generator that of its \
                 user: leave the namespace out, or use a ClusterSecretStore"
            ))),
            (StoreKind::ClusterSecretStore, Some(other)) => Ok(other.to_owned()),
            _ if self.namespace.is_empty() => {
                Err(misconfigured(format!("{what} names no namespace, and the store is not used from one")))
            }
            _ => Ok(self.namespace.clone()),
        }
    }

    /// The value of a Secret's key.
    ///
    /// # Errors
    /// `Misconfigured` where the reference, the Secret or the key is missing; `Unavailable` where the API server is.
    pub async fn secret(&self, selector: &SecretKeySelector, what: &str) -> Result<SecretBytes, ProviderError> {
        self.secret_after(&mut BTreeMap::new(), selector, what).await
    }

    /// Texts of several keys, each with where its reference stands; a Secret that holds several of them is read once.
    ///
    /// # Errors
    /// As for [`ConnectCx::secret_text`].
    pub async fn secret_texts(&self, wanted: &[(&SecretKeySelector, &str)]) -> Result<Vec<SecretBytes>, ProviderError> {
        let (mut known, mut found) = (BTreeMap::new(), Vec::with_capacity(wanted.len()));
        for (selector, what) in wanted {
            found.push(trimmed(&self.secret_after(&mut known, selector, what).await?, what)?);
        }
        Ok(found)
    }

    /// `known`: the Secrets that were read before it.
    async fn secret_after(
        &self,
        known: &mut BTreeMap<(String, String), BTreeMap<String, SecretBytes>>,
        selector: &SecretKeySelector,
        what: &str,
    ) -> Result<SecretBytes, ProviderError> {
        let name = required(selector.name.as_deref(), what, "name")?;
        let key = required(selector.key.as_deref(), what, "key")?;
        let namespace = self.resolve_namespace(selector.namespace.as_deref(), what)?;
        let object = (namespace, name.to_owned());
        if !known.contains_key(&object) {
            let secret = self.secret_in(&object.0, name, what).await?;
            known.insert(object.clone(), values(secret));
        }
        let value = known.get(&object).and_then(|secret| secret.get(key)).cloned();
        value.ok_or_else(|| misconfigured(format!("{what}: Secret {}/{name} has no key {key:?}", object.0)))
    }

    /// All keys of a Secret that says by a label that it is for such use.
    ///
    /// # Errors
    /// As for [`ConnectCx::secret`]; also `Misconfigured` where the Secret does not carry the label.
    pub async fn labelled_secret(
        &self,
        selector: &SecretKeySelector,
        (label, value): (&str, &str),
        what: &str,
    ) -> Result<BTreeMap<String, SecretBytes>, ProviderError> {
        let name = required(selector.name.as_deref(), what, "name")?;
        let namespace = self.resolve_namespace(selector.namespace.as_deref(), what)?;
        let secret = self.secret_in(&namespace, name, what).await?;
        if secret.metadata.labels.as_ref().and_then(|labels| labels.get(label)).is_none_or(|found| found != value) {
            return Err(misconfigured(format!(
                "{what}: Secret {namespace}/{name} does not carry the label '{label}: {value}', which lets it be used here"
            )));
        }
        Ok(values(secret))
    }

    /// All keys of a Secret, by namespace and name.
    ///
    /// # Errors
    /// As for [`ConnectCx::secret`].
    pub async fn whole_secret(
        &self,
        (namespace, name): (Option<&str>, &str),
        what: &str,
    ) -> Result<BTreeMap<String, SecretBytes>, ProviderError> {
        let namespace = self.resolve_namespace(namespace, what)?;
        Ok(values(self.secret_in(&namespace, name, what).await?))
    }

    async fn secret_in(&self, namespace: &str, name: &str, what: &str) -> Result<Secret, ProviderError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let read = self.used.reading((ReferenceKind::Secret, namespace, name), || api.get(name));
        read.await.map_err(|e| api_error(&e, what, "Secret", namespace, name))
    }

    /// Whether the objects that a login was made with are what they were. Where the API server does not say, they are.
    pub(crate) async fn is_unchanged(&self, used: &UsedReferences) -> bool {
        let looks = used.versions().into_iter().map(|(object, version)| self.is_still(object, version));
        join_all(looks).await.into_iter().all(|same| same)
    }

    async fn is_still(&self, (kind, namespace, name): Used, version: String) -> bool {
        let client = self.client.clone();
        let look = async {
            match kind {
                ReferenceKind::Secret => version_of(Api::<Secret>::namespaced(client, &namespace), &name).await,
                ReferenceKind::ConfigMap => version_of(Api::<ConfigMap>::namespaced(client, &namespace), &name).await,
                ReferenceKind::ServiceAccount => {
                    version_of(Api::<ServiceAccount>::namespaced(client, &namespace), &name).await
                }
            }
        };
        match tokio::time::timeout(LOOK, look).await {
            Ok(Ok(None)) => false,
            // what a ServiceAccount's token was of, nobody knows
            Ok(Ok(Some(now))) => now == version || (kind == ReferenceKind::ServiceAccount && version.is_empty()),
            Ok(Err(_)) | Err(_) => true,
        }
    }

    /// The text of a ConfigMap's key.
    ///
    /// # Errors
    /// As for [`ConnectCx::secret`].
    pub async fn config_map(
        &self,
        (namespace, name, key): (Option<&str>, &str, &str),
        what: &str,
    ) -> Result<String, ProviderError> {
        let namespace = self.resolve_namespace(namespace, what)?;
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
        let read = self.used.reading((ReferenceKind::ConfigMap, &namespace, name), || api.get(name));
        let map = read.await.map_err(|e| api_error(&e, what, "ConfigMap", &namespace, name))?;
        map.data
            .and_then(|mut data| data.remove(key))
            .ok_or_else(|| misconfigured(format!("{what}: ConfigMap {namespace}/{name} has no key {key:?}")))
    }

    /// Like [`ConnectCx::secret`], as text without surrounding white space.
    ///
    /// # Errors
    /// As there; also `Misconfigured` where the bytes are not UTF-8.
    pub async fn secret_text(&self, selector: &SecretKeySelector, what: &str) -> Result<SecretBytes, ProviderError> {
        trimmed(&self.secret(selector, what).await?, what)
    }

    /// Whether the operator's own identity may be shown to a server that the store names: only who may write cluster-wide objects
    /// may have that done.
    ///
    /// # Errors
    /// `Misconfigured` for a SecretStore.
    pub fn allow_own_identity(&self, what: &str) -> Result<(), ProviderError> {
        match self.store_kind {
            StoreKind::ClusterSecretStore => Ok(()),
            StoreKind::SecretStore => Err(misconfigured(format!(
                "{what} logs in as the operator itself, which goes to no server that a namespaced object names: use a \
                 ClusterSecretStore, or another way to log in"
            ))),
        }
    }

    /// A text that stands in the store itself or in a Secret, without surrounding white space.
    ///
    /// # Errors
    /// As for [`ConnectCx::secret_text`]; also `Misconfigured` where both are given, or neither.
    pub async fn value_or_secret(&self, text: &ValueOrSecret, what: &str) -> Result<SecretBytes, ProviderError> {
        text.check(what)?;
        match (&text.secret_ref, &text.value) {
            (Some(selector), _) => self.secret_text(selector, &format!("{what}.secretRef")).await,
            (None, value) => Ok(SecretBytes::from(value.as_deref().unwrap_or_default().trim())),
        }
    }

    /// A token that is mounted into the operator's own Pod: at a path, or the one that every Pod has. Only what is mounted as a token is read.
    ///
    /// # Errors
    /// `Misconfigured` where the operator's identity may not be shown ([`ConnectCx::allow_own_identity`]), or the file is no token.
    pub async fn own_token(&self, path: Option<&str>, what: &str) -> Result<SecretBytes, ProviderError> {
        self.allow_own_identity(what)?;
        let file = Path::new(path.filter(|path| !path.is_empty()).unwrap_or(OWN_TOKEN));
        let goes_up = file.components().any(|step| step == Component::ParentDir);
        if !file.starts_with(TOKENS) || goes_up {
            return Err(misconfigured(format!("{what}: only a file below {TOKENS} can be a token")));
        }
        let read = tokio::fs::read(file).await.map(SecretBytes::new);
        let token = read.map_err(|_| {
            misconfigured(format!("{what}: the operator has no token of its own: {} cannot be read", file.display()))
        })?;
        Ok(SecretBytes::from(token.expose_str().unwrap_or_default().trim()))
    }

    /// Annotations of a ServiceAccount.
    ///
    /// # Errors
    /// `Misconfigured` where it is missing; `Unavailable` where the API server is.
    pub async fn service_account_annotations(
        &self,
        selector: &ServiceAccountSelector,
        what: &str,
    ) -> Result<BTreeMap<String, String>, ProviderError> {
        let namespace = self.resolve_namespace(selector.namespace.as_deref(), what)?;
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &namespace);
        let name = selector.name.as_str();
        let read = self.used.reading((ReferenceKind::ServiceAccount, &namespace, name), || api.get_metadata(name));
        let account = read.await.map_err(|e| api_error(&e, what, "ServiceAccount", &namespace, name))?;
        Ok(account.metadata.annotations.unwrap_or_default())
    }

    /// A token of a ServiceAccount, by TokenRequest. `expiration` is in seconds; `None` takes the API server's default.
    ///
    /// # Errors
    /// `Misconfigured` where the ServiceAccount is missing or the operator may not ask; `Unavailable` where the API server is.
    pub async fn token(
        &self,
        selector: &ServiceAccountSelector,
        audiences: Vec<String>,
        expiration: Option<i64>,
        what: &str,
    ) -> Result<SecretBytes, ProviderError> {
        Ok(self.bound_token(selector, audiences, expiration, what).await?.value)
    }

    /// Like [`ConnectCx::token`], with the time that the API server gives it: it may be shorter than what was asked for.
    ///
    /// # Errors
    /// As there.
    pub async fn bound_token(
        &self,
        selector: &ServiceAccountSelector,
        audiences: Vec<String>,
        expiration: Option<i64>,
        what: &str,
    ) -> Result<BoundToken, ProviderError> {
        let namespace = self.resolve_namespace(selector.namespace.as_deref(), what)?;
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &namespace);
        let request = TokenRequest {
            spec: TokenRequestSpec { audiences, expiration_seconds: expiration, bound_object_ref: None },
            ..TokenRequest::default()
        };
        self.used.note((ReferenceKind::ServiceAccount, &namespace, &selector.name));
        let answer = api
            .create_token_request(&selector.name, &PostParams::default(), &request)
            .await
            .map_err(|e| api_error(&e, what, "ServiceAccount", &namespace, &selector.name))?;
        answer
            .status
            .map(|s| BoundToken {
                value: SecretBytes::from(s.token),
                life: s.expiration_timestamp.0.duration_since(jiff::Timestamp::now()).try_into().unwrap_or_default(),
            })
            .ok_or_else(|| ProviderError::new(ErrorKind::Unavailable, format!("{what}: the API server gave no token")))
    }

    /// PEM certificates of a [`Ca`]: see [`ConnectCx::ca_bundle`].
    ///
    /// # Errors
    /// As there.
    pub async fn ca(&self, ca: &Ca, what: &str) -> Result<Option<Vec<u8>>, ProviderError> {
        self.ca_bundle(ca.bundle(), ca.provider.as_ref(), what).await
    }

    /// PEM certificates from `caBundle` or `caProvider`; `None` where neither is set. As in ESO, a value that is not PEM is
    /// taken for base64 of PEM.
    ///
    /// # Errors
    /// `Misconfigured` where the bundle is not PEM, or an object or key is missing.
    pub async fn ca_bundle(
        &self,
        bundle: Option<&[u8]>,
        provider: Option<&CaProvider>,
        what: &str,
    ) -> Result<Option<Vec<u8>>, ProviderError> {
        if let Some(bytes) = bundle {
            return pem(bytes.to_vec(), what).map(Some);
        }
        let Some(provider) = provider else { return Ok(None) };
        if self.store_kind == StoreKind::ClusterSecretStore && provider.namespace.is_none() {
            return Err(misconfigured(format!("{what}: missing namespace on caProvider secret")));
        }
        let (namespace, name) = (provider.namespace.as_deref(), provider.name.as_str());
        let key = required(provider.key.as_deref(), what, "key")?;
        let found = match provider.type_ {
            CaProviderType::Secret => {
                let selector = SecretKeySelector {
                    name: Some(name.to_owned()),
                    namespace: namespace.map(str::to_owned),
                    key: Some(key.to_owned()),
                };
                self.secret(&selector, what).await?.expose().to_vec()
            }
            CaProviderType::ConfigMap => self.config_map((namespace, name, key), what).await?.into_bytes(),
        };
        pem(found, what).map(Some)
    }
}

/// The version of an object as it is now; `None` where it is gone.
async fn version_of<K>(api: Api<K>, name: &str) -> Result<Option<String>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let found = api.get_metadata_opt(name).await?;
    Ok(found.map(|object| object.metadata.resource_version.unwrap_or_default()))
}

fn trimmed(bytes: &SecretBytes, what: &str) -> Result<SecretBytes, ProviderError> {
    match bytes.expose_str() {
        Some(text) => Ok(SecretBytes::from(text.trim())),
        None => Err(misconfigured(format!("{what}: the value is not UTF-8 text"))),
    }
}

fn values(secret: Secret) -> BTreeMap<String, SecretBytes> {
    secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| (key, SecretBytes::new(bytes.0))).collect()
}

impl ValueOrSecret {
    /// Checks that one of both is given, as ESO does.
    ///
    /// # Errors
    /// `Misconfigured` where not.
    pub fn check(&self, what: &str) -> Result<(), ProviderError> {
        match (self.value.as_deref().is_some_and(|value| !value.is_empty()), &self.secret_ref) {
            (true, Some(_)) => Err(misconfigured(format!("{what}: cannot specify both secret reference and value"))),
            (false, None) => Err(misconfigured(format!("{what}: must specify either secret reference or direct value"))),
            _ => Ok(()),
        }
    }
}

fn pem(bytes: Vec<u8>, what: &str) -> Result<Vec<u8>, ProviderError> {
    let holds_certificate = |bytes: &[u8]| CertificateDer::pem_slice_iter(bytes).next().is_some_and(|first| first.is_ok());
    if holds_certificate(&bytes) {
        return Ok(bytes);
    }
    STANDARD
        .decode(bytes.trim_ascii())
        .ok()
        .filter(|decoded| holds_certificate(decoded))
        .ok_or_else(|| misconfigured(format!("{what}: the certificate authority holds no PEM certificate")))
}

fn misconfigured(detail: String) -> ProviderError {
    ProviderError::new(ErrorKind::Misconfigured, detail)
}

fn required<'a>(value: Option<&'a str>, what: &str, field: &str) -> Result<&'a str, ProviderError> {
    value.filter(|v| !v.is_empty()).ok_or_else(|| misconfigured(format!("{what}.{field} is missing")))
}

/// Puts an API server's answer into our own words: the status code and reason only, as a body may quote the object.
fn api_error(error: &kube::Error, what: &str, kind: &str, namespace: &str, name: &str) -> ProviderError {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            misconfigured(format!("{what}: {kind} {namespace}/{name} does not exist"))
        }
        kube::Error::Api(status) if status.code == 403 => {
            misconfigured(format!("{what}: the operator may not read {kind} {namespace}/{name}: its role lacks the right"))
        }
        kube::Error::Api(status) if status.code < 500 && status.code != 429 => {
            misconfigured(format!("{what}: {kind} {namespace}/{name}: the API server refused ({})", status.reason))
        }
        _ => ProviderError::new(
            ErrorKind::Unavailable,
            format!("{what}: {kind} {namespace}/{name} could not be read: the API server did not answer"),
        ),
    }
}
