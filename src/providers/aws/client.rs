//! What the clients of all AWS services share: connections, region, endpoints, retries, deadlines and the user agent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sts::config::retry::RetryPartition;
use aws_sdk_sts::config::{IdentityCache, Intercept, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, ConnectorBuilder, tls};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextMut, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_types::config_bag::ConfigBag;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::sync::OnceCell;

use super::{Aws, misconfigured};
use crate::api::secret_store::RetrySettings;
use crate::plan::duration;
use crate::providers::{CallCx, ConnectCx, ProviderError, RequestLog, retries};

/// Longest time for a connection, a try and a call with all its tries: together they make every hang end.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries of a call where the store's `retrySettings` do not say.
const ATTEMPTS: u32 = 3;

/// Connections and trust anchors are shared by all stores; the environment that they depend on does not change.
static HTTP: OnceCell<SharedHttpClient> = OnceCell::const_new();

/// Settings of one store's clients.
pub(super) struct Sdk {
    /// Everything but credentials and endpoint.
    config: SdkConfig,
    /// Its own budget of retries: one that fails cannot use up another's.
    partition: RetryPartition,
    env: Arc<BTreeMap<String, String>>,
}

impl Sdk {
    /// Settings for a store.
    ///
    /// # Errors
    /// `Misconfigured` where the retry interval or the file of `AWS_CA_BUNDLE` is bad.
    pub(super) async fn new(aws: &Aws, cx: &ConnectCx) -> Result<Self, ProviderError> {
        let http = HTTP.get_or_try_init(|| http_client(&cx.env)).await?.clone();
        let retry = retry_config(cx.retry.as_ref())?;
        let pauses = retries::pauses(cx.retry.as_ref());
        let mut config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(aws.region.clone()))
            .http_client(http)
            .identity_cache(IdentityCache::no_cache())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(OPERATION_TIMEOUT + pauses)
                    .build(),
            )
            .retry_config(retry)
            .use_fips(flag(&cx.env, "AWS_USE_FIPS_ENDPOINT"))
            .use_dual_stack(flag(&cx.env, "AWS_USE_DUALSTACK_ENDPOINT"));
        config.set_app_name(AppName::new("keyferry").ok());
        Ok(Self {
            config: config.build(),
            partition: RetryPartition::new(format!("{}/{}/{}", cx.store_kind, cx.namespace, cx.store_name)),
            env: cx.env.clone(),
        })
    }

    /// The region, for text and for the default chain.
    pub(super) fn region(&self) -> Option<&Region> {
        self.config.region()
    }

    /// The connections, for the default chain.
    pub(super) fn http(&self) -> Option<SharedHttpClient> {
        self.config.http_client()
    }

    /// A variable of the operator's environment; an empty one counts as not set.
    pub(super) fn var(&self, name: &str) -> Option<&str> {
        var(&self.env, name)
    }

    /// A client of STS. Without credentials it can only exchange a token for some.
    ///
    /// # Errors
    /// `Misconfigured` where the endpoint is not a URL.
    pub(super) fn sts(&self, credentials: Option<SharedCredentialsProvider>) -> Result<aws_sdk_sts::Client, ProviderError> {
        let mut config = aws_sdk_sts::config::Builder::from(&self.config).retry_partition(self.partition.clone());
        config.set_endpoint_url(self.endpoint("AWS_STS_ENDPOINT", "AWS_ENDPOINT_URL_STS")?);
        config.set_credentials_provider(credentials);
        Ok(aws_sdk_sts::Client::from_conf(config.build()))
    }

    /// Address of a service that no client of the SDK is there for: an endpoint by one of these variables, else AWS's own.
    ///
    /// # Errors
    /// `Misconfigured` where the endpoint is not a URL.
    pub(super) fn service_url(&self, variables: &[&str; 2], host: &str, region: &str) -> Result<String, ProviderError> {
        let [eso, sdk] = *variables;
        if let Some(url) = self.endpoint(eso, sdk)? {
            return Ok(url);
        }
        let domain = match region.split('-').next() {
            Some("cn") => "amazonaws.com.cn",
            Some("eusc") => "amazonaws.eu",
            _ => "amazonaws.com",
        };
        Ok(format!("https://{host}.{region}.{domain}"))
    }

    /// An endpoint other than AWS's own: by ESO's variable, the SDK's for the service, or the SDK's for all.
    fn endpoint(&self, eso: &str, sdk: &str) -> Result<Option<String>, ProviderError> {
        let Some((name, url)) = [eso, sdk, "AWS_ENDPOINT_URL"].into_iter().find_map(|n| Some((n, self.var(n)?))) else {
            return Ok(None);
        };
        let is_url = url.parse::<http::Uri>().is_ok_and(|u| matches!(u.scheme_str(), Some("http" | "https")));
        if is_url {
            return Ok(Some(url.to_owned()));
        }
        Err(misconfigured(format!("{name} in the operator's environment is not an http or https URL")))
    }
}

/// Clients of services that are called with credentials: the settings of all, and an endpoint of their own.
macro_rules! clients {
    ($($(#[doc = $doc:literal])+ $name:ident: $sdk:ident, $eso:literal, $variable:literal;)+) => {
        impl Sdk {
            $(
                $(#[doc = $doc])+
                ///
                /// # Errors
                /// `Misconfigured` where the endpoint is not a URL.
                pub(super) fn $name(&self, credentials: SharedCredentialsProvider) -> Result<$sdk::Client, ProviderError> {
                    let mut config = $sdk::config::Builder::from(&self.config)
                        .retry_partition(self.partition.clone())
                        .credentials_provider(credentials);
                    config.set_endpoint_url(self.endpoint($eso, $variable)?);
                    Ok($sdk::Client::from_conf(config.build()))
                }
            )+
        }
    };
}

clients! {
    /// A client of Secrets Manager.
    secrets_manager: aws_sdk_secretsmanager, "AWS_SECRETSMANAGER_ENDPOINT", "AWS_ENDPOINT_URL_SECRETS_MANAGER";
    /// A client of Parameter Store.
    parameter_store: aws_sdk_ssm, "AWS_SSM_ENDPOINT", "AWS_ENDPOINT_URL_SSM";
    /// A client of Certificate Manager.
    certificate_manager: aws_sdk_acm, "AWS_ACM_ENDPOINT", "AWS_ENDPOINT_URL_ACM";
    /// A client of the service that finds resources by their tags.
    tagging: aws_sdk_resourcegroupstagging, "AWS_RESOURCE_GROUPS_TAGGING_API_ENDPOINT",
        "AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API";
}

fn var<'a>(env: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    env.get(name).map(String::as_str).filter(|v| !v.is_empty())
}

fn flag(env: &BTreeMap<String, String>, name: &str) -> bool {
    var(env, name).is_some_and(|v| v.eq_ignore_ascii_case("true"))
}

/// `maxRetries` is the number of tries, as in ESO; the time between them is fixed where the store gives one.
fn retry_config(settings: Option<&RetrySettings>) -> Result<RetryConfig, ProviderError> {
    let attempts = settings.and_then(|s| s.max_retries).map_or(ATTEMPTS, |n| u32::try_from(n).unwrap_or(1).max(1));
    let config = RetryConfig::standard().with_max_attempts(attempts);
    let Some(text) = settings.and_then(|s| s.retry_interval.as_deref()).filter(|t| !t.is_empty()) else { return Ok(config) };
    let interval = duration::parse(text).ok().and_then(|d| Duration::try_from(d).ok()).ok_or_else(|| {
        misconfigured(format!("spec.retrySettings.retryInterval: {text:?} is not a duration such as \"10s\", of 0 or more"))
    })?;
    // as many as there is time for, so that the last one's failure is told and not that the time is over
    let most = retries::MOST_PAUSES.as_millis().checked_div(interval.as_millis());
    let attempts = most.map_or(attempts, |most| attempts.min(u32::try_from(most).unwrap_or(u32::MAX).saturating_add(1)));
    let config = config.with_max_attempts(attempts);
    Ok(config.with_initial_backoff(interval).with_max_backoff(interval).with_use_static_exponential_base(true))
}

/// Connections with the system's trust anchors or, as other AWS tools have it, those of `AWS_CA_BUNDLE` alone; through the
/// proxy of the environment.
async fn http_client(env: &BTreeMap<String, String>) -> Result<SharedHttpClient, ProviderError> {
    let context = match var(env, "AWS_CA_BUNDLE") {
        None => tls::TlsContext::default(),
        Some(path) => {
            let pem =
                tokio::fs::read(path).await.map_err(|_| misconfigured(format!("AWS_CA_BUNDLE: cannot read {path:?}")))?;
            check_pem(&pem)
                .ok_or_else(|| misconfigured(format!("AWS_CA_BUNDLE: {path:?} holds no valid PEM certificates")))?;
            let store = tls::TrustStore::empty().with_pem_certificate(pem);
            let context = tls::TlsContext::builder().with_trust_store(store).build();
            context.map_err(|_| misconfigured(format!("AWS_CA_BUNDLE: {path:?} cannot be used")))?
        }
    };
    Ok(Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = ConnectorBuilder::default()
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
            .tls_context(context.clone());
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.build()
    }))
}

/// Whether these are certificates: the SDK would panic on others.
fn check_pem(pem: &[u8]) -> Option<()> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.ok()?).ok()?;
    }
    (!roots.is_empty()).then_some(())
}

/// Adds the cause of a call to its user agent, which CloudTrail records: its line can then be matched to the object that
/// caused it and to our own record.
#[derive(Debug)]
pub(super) struct Mark {
    text: String,
    requests: RequestLog,
}

impl Mark {
    pub(super) fn new(cx: &CallCx) -> Self {
        Self { text: cx.marks(), requests: cx.requests.clone() }
    }
}

impl Intercept for Mark {
    fn name(&self) -> &'static str {
        "keyferry-mark"
    }

    /// After the SDK set its own; the user agent is not part of the signature.
    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        let agent = format!("{}{}", headers.get("user-agent").unwrap_or_default(), self.text);
        headers.try_insert("user-agent", agent)?;
        Ok(())
    }

    /// Each attempt is a request that AWS counts.
    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let name = config.load::<Metadata>().map_or("", Metadata::name).to_owned();
        let failed = context.output_or_error().is_none_or(|outcome| outcome.is_err());
        let id = context.response().and_then(|answer| answer.headers().get("x-amzn-requestid"));
        self.requests.note_as(name, failed, id.map(str::to_owned));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn settings(max: Option<i32>, interval: Option<&str>) -> RetrySettings {
        RetrySettings { max_retries: max, retry_interval: interval.map(Into::into) }
    }

    #[test]
    fn retry_settings() {
        let default = retry_config(None).unwrap();
        assert_eq!(default.max_attempts(), 3);
        let cases = [(None, 3), (Some(5), 5), (Some(1), 1), (Some(0), 1), (Some(-4), 1)];
        for (max, want) in cases {
            assert_eq!(retry_config(Some(&settings(max, None))).unwrap().max_attempts(), want, "{max:?}");
        }
        let fixed = retry_config(Some(&settings(None, Some("1m30s")))).unwrap();
        assert_eq!((fixed.initial_backoff(), fixed.max_backoff()), (Duration::from_secs(90), Duration::from_secs(90)));
        let bounded = |max, interval| retry_config(Some(&settings(Some(max), Some(interval)))).unwrap().max_attempts();
        assert_eq!([bounded(5, "10s"), bounded(50, "10s"), bounded(50, "5m"), bounded(50, "0s")], [5, 13, 1, 50]);
        for bad in ["soon", "-1s"] {
            let error = retry_config(Some(&settings(None, Some(bad)))).unwrap_err();
            assert!(error.detail.starts_with("spec.retrySettings.retryInterval"), "{bad:?}: {error}");
        }
    }

    #[test]
    fn mark_holds_only_what_a_user_agent_may() {
        let cx = CallCx {
            cause: "ExternalSecret/team-a/app.db".into(),
            correlation: "a b\r\nx: 1(é)".into(),
            ..CallCx::default()
        };
        assert_eq!(Mark::new(&cx).text, " keyferry-cause/ExternalSecret/team-a/app.db keyferry-call/a_b__x__1___");
        assert_eq!(Mark::new(&CallCx::default()).text, "");
    }

    #[tokio::test]
    async fn a_bad_ca_bundle_is_an_error() {
        let missing = BTreeMap::from([("AWS_CA_BUNDLE".to_owned(), "/nonexistent/ca.pem".to_owned())]);
        assert!(http_client(&missing).await.unwrap_err().detail.contains("cannot read"));
        for bad in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert_eq!(check_pem(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
