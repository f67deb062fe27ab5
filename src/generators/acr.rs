//! ACRAccessToken: exchanges a login to Entra ID for a token of an Azure Container Registry.

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;

use super::{GenerateCx, Generated, Generator, misconfigured};
use crate::api::generators::{AcrAccessTokenSpec, AcrServicePrincipal};
use crate::outbound::{Call, TlsOptions, secret};
use crate::providers::azure::{self, Registries};
use crate::providers::oauth::AccessToken;
use crate::providers::{ErrorKind, ProviderError};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "token of the Azure Container Registry";
/// User name that goes with any such token.
const USERNAME: &str = "00000000-0000-0000-0000-000000000000";

/// A token that is used to get others.
#[derive(Deserialize)]
struct Refresh {
    #[serde(deserialize_with = "secret")]
    refresh_token: SecretBytes,
}

/// A token for one purpose.
#[derive(Deserialize)]
struct Access {
    #[serde(deserialize_with = "secret")]
    access_token: SecretBytes,
}

#[async_trait]
impl Generator for AcrAccessTokenSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        self.generate_at(&Registries::of(self.environment_type.unwrap_or_default(), &cx.connect).await?, cx).await
    }
}

impl AcrAccessTokenSpec {
    async fn generate_at(&self, azure: &Registries, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        self.check_registry()?;
        let login = self.login(azure, cx).await?.value;
        let tenant = self.tenant_id.as_deref().unwrap_or_default();
        let fields = [("tenant", tenant), ("access_token", text(&login)?)];
        let Refresh { refresh_token } = self.ask("exchange", "access_token", &fields, cx).await?;
        let password = match self.scope.as_deref().filter(|scope| !scope.is_empty()) {
            None => refresh_token,
            Some(scope) => {
                let fields = [("scope", scope), ("refresh_token", text(&refresh_token)?)];
                self.ask::<Access>("token", "refresh_token", &fields, cx).await?.access_token
            }
        };
        Ok(Generated::values([("username", SecretBytes::from(USERNAME)), ("password", password)]))
    }

    async fn login(&self, azure: &Registries, cx: &GenerateCx) -> Result<AccessToken, ProviderError> {
        let (cx, Registries { endpoints: azure, domain }) = (&cx.connect, azure);
        if let Some(AcrServicePrincipal { secret_ref }) = &self.auth.service_principal {
            let what = "spec.auth.servicePrincipal.secretRef";
            let client =
                cx.secret_text(&secret_ref.client_id.clone().unwrap_or_default(), &format!("{what}.clientId")).await?;
            let secret = secret_ref.client_secret.clone().unwrap_or_default();
            let password = cx.secret_text(&secret, &format!("{what}.clientSecret")).await?;
            let tenant = self.tenant_id.as_deref().unwrap_or_default();
            return azure::with_secret((tenant, &client, &password), azure, cx).await;
        }
        if let Some(machine) = &self.auth.managed_identity {
            self.check_own_identity(domain)?;
            return azure::with_machine(machine.identity_id.as_deref().unwrap_or_default(), azure, cx).await;
        }
        let Some(workload) = &self.auth.workload_identity else {
            let text = "spec.auth: one of servicePrincipal, managedIdentity and workloadIdentity must be set";
            return Err(misconfigured(text.into()));
        };
        match &workload.service_account_ref {
            Some(account) => {
                azure::with_service_account(account, "spec.auth.workloadIdentity.serviceAccountRef", azure, cx).await
            }
            None => {
                self.check_own_identity(domain)?;
                azure::with_own_token(azure, cx).await
            }
        }
    }

    /// The registry stands in a URL: it must be a host, and nothing that leads elsewhere.
    fn check_registry(&self) -> Result<(), ProviderError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-.:".contains(c);
        if self.registry.is_empty() || !self.registry.chars().all(allowed) {
            return Err(misconfigured("spec.registry is not a host name like example.azurecr.io".into()));
        }
        Ok(())
    }

    /// A login as the operator is good for all of Azure that the operator may reach, and the registry gets to see it. So it must
    /// be Azure's, and not a server of whoever wrote the generator.
    fn check_own_identity(&self, domain: &str) -> Result<(), ProviderError> {
        if self.registry.to_ascii_lowercase().ends_with(&format!(".{domain}")) {
            return Ok(());
        }
        Err(misconfigured(format!(
            "spec.registry: with the operator's own identity it must end with .{domain}, as the login is sent there: use \
             servicePrincipal or a ServiceAccount for others"
        )))
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        grant: &str,
        fields: &[(&str, &str)],
        cx: &GenerateCx,
    ) -> Result<T, ProviderError> {
        let common = [("grant_type", grant), ("service", self.registry.as_str())];
        let url = format!("https://{}/oauth2/{path}", self.registry);
        let call = Call::new(Method::POST, &url, "spec.registry")?.form(&[&common, fields].concat());
        let client = cx.connect.outbound.client(&TlsOptions::default(), WHAT)?;
        client.send(call, WHAT).await?.success(WHAT)?.json(WHAT)
    }
}

fn text(token: &SecretBytes) -> Result<&str, ProviderError> {
    token.expose_str().ok_or_else(|| ProviderError::new(ErrorKind::Malformed, format!("{WHAT}: a token is not text")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::api::generators::AzureEnvironment;
    use crate::generators::testing::cluster::{CANARY, Cluster, misbehaving, redacted, spec, values};
    use crate::outbound::Outbound;
    use crate::outbound::testing::{FakeServer, Pki, Received, Reply, outbound_trusting};
    use crate::providers::azure::Endpoints;

    /// Entra ID, the metadata service and a registry in one, as Microsoft documents them.
    fn azure(asked: &Received) -> Reply {
        let form = |name: &str| asked.form(name).unwrap_or_default();
        let path = asked.line.split(['?', ' ']).nth(1).unwrap();
        match path {
            "/metadata/identity/oauth2/token" if asked.header("metadata") == "true" => {
                Reply::json(200, &json!({"access_token": "aad", "expires_in": "86399", "token_type": "Bearer"}))
            }
            "/tenant-1/oauth2/v2.0/token" => {
                let known = form("client_secret") == "s3cret" || form("client_assertion").starts_with("token-of-");
                match known && form("client_id") == "client-1" && form("grant_type") == "client_credentials" {
                    true => Reply::json(200, &json!({"access_token": "aad", "expires_in": 3599, "token_type": "Bearer"})),
                    false => Reply::json(400, &json!({"error": "invalid_client", "error_description": CANARY})),
                }
            }
            "/oauth2/exchange" if form("access_token") == "aad" => Reply::json(200, &json!({"refresh_token": "refresh"})),
            "/oauth2/token" if form("refresh_token") == "refresh" => Reply::json(200, &json!({"access_token": "scoped"})),
            _ => Reply::text(401, CANARY),
        }
    }

    fn wanted(server: &FakeServer, auth: Value) -> AcrAccessTokenSpec {
        spec(json!({"registry": server.address.to_string(), "tenantId": "tenant-1", "auth": auth}))
    }

    fn principal() -> Value {
        let key = |key: &str| json!({"name": "azure", "key": key});
        json!({"servicePrincipal": {"secretRef": {"clientId": key("id"), "clientSecret": key("secret")}}})
    }

    fn cluster() -> Cluster {
        let annotations = json!({CLIENT_ID: "client-1", TENANT_ID: "tenant-1"});
        Cluster::new()
            .labelled_secret("azure", &json!({}), &[("id", "client-1"), ("secret", "s3cret\n")])
            .service_account("app", &annotations)
            .service_account("plain", &json!({}))
    }

    const CLIENT_ID: &str = "azure.workload.identity/client-id";
    const TENANT_ID: &str = "azure.workload.identity/tenant-id";

    async fn run(
        wanted: &AcrAccessTokenSpec,
        server: &FakeServer,
        outbound: &Arc<Outbound>,
    ) -> Result<Generated, ProviderError> {
        let (authority, metadata) = (server.url.clone(), server.url.clone());
        let endpoints = Endpoints { authority, metadata, resource: "https://management.azure.com/".into() };
        wanted.generate_at(&registries(endpoints), &cluster().cx(outbound)).await
    }

    fn registries(endpoints: Endpoints) -> Registries {
        Registries { endpoints, domain: "azurecr.io".into() }
    }

    #[tokio::test]
    async fn a_secret_gives_a_refresh_token() {
        let pki = Pki::new();
        let server = FakeServer::start_tls(&pki, false, azure).await;
        let made = run(&wanted(&server, principal()), &server, &outbound_trusting(&pki, &[])).await.unwrap();
        assert_eq!(values(&made), [("username", USERNAME), ("password", "refresh")].into());
        let asked = server.received();
        assert_eq!(asked[0].form("scope").unwrap(), "https://management.azure.com/.default");
        assert_eq!(asked[1].line, "POST /oauth2/exchange");
        assert_eq!(asked[1].form("grant_type").unwrap(), "access_token");
        assert_eq!(asked[1].form("service").unwrap(), server.address.to_string());
        assert_eq!(asked[1].form("tenant").unwrap(), "tenant-1");
        assert_eq!(asked.len(), 2);
    }

    #[tokio::test]
    async fn a_scope_gives_an_access_token() {
        let pki = Pki::new();
        let server = FakeServer::start_tls(&pki, false, azure).await;
        let mut wanted = wanted(&server, principal());
        wanted.scope = Some("repository:app:pull".into());
        let made = run(&wanted, &server, &outbound_trusting(&pki, &[])).await.unwrap();
        assert_eq!(values(&made), [("username", USERNAME), ("password", "scoped")].into());
        let asked = server.received();
        assert_eq!(asked[2].line, "POST /oauth2/token");
        assert_eq!(asked[2].form("grant_type").unwrap(), "refresh_token");
        assert_eq!(asked[2].form("scope").unwrap(), "repository:app:pull");
    }

    #[tokio::test]
    async fn a_service_account_is_taken_for_the_application_of_its_annotations() {
        let pki = Pki::new();
        let server = FakeServer::start_tls(&pki, false, azure).await;
        let auth = |name: &str| json!({"workloadIdentity": {"serviceAccountRef": {"name": name, "audiences": ["more"]}}});
        let outbound = outbound_trusting(&pki, &[]);
        let endpoints = Endpoints {
            authority: server.url.clone(),
            metadata: String::new(),
            resource: "https://management.azure.com/".into(),
        };
        let cluster = cluster();
        let made = wanted(&server, auth("app")).generate_at(&registries(endpoints), &cluster.cx(&outbound)).await.unwrap();
        assert_eq!(values(&made)["password"], "refresh");
        let audiences = json!({"audiences": ["api://AzureADTokenExchange", "more"]});
        assert_eq!(cluster.token_requests(), [("app".to_owned(), audiences)]);
        assert_eq!(
            server.received()[0].form("client_assertion_type").unwrap(),
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        );

        let error = redacted(run(&wanted(&server, auth("plain")), &server, &outbound).await);
        assert!(error.detail.contains("lacks the annotation azure.workload.identity/client-id"), "{error}");
    }

    #[tokio::test]
    async fn the_machines_identity_is_asked_of_its_metadata_service() {
        let server = FakeServer::start(azure).await;
        let cx = cluster().cx(&crate::outbound::testing::outbound());
        let endpoints = Endpoints { authority: String::new(), metadata: server.url.clone(), resource: "https://r/".into() };
        for (identity, more) in [("", ""), ("c-1", "&client_id=c-1"), ("/a/b", "&msi_res_id=%2Fa%2Fb")] {
            let token = azure::with_machine(identity, &endpoints, &cx.connect).await.unwrap();
            assert_eq!(token.value.expose(), b"aad");
            let path = "GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fr%2F";
            assert_eq!(server.lines().last().unwrap(), &format!("{path}{more}"));
        }
    }

    /// Whoever may write a generator must not get a login of the operator sent to a server of theirs.
    #[tokio::test]
    async fn the_operators_own_identity_goes_to_azures_registries_only() {
        let pki = Pki::new();
        let server = FakeServer::start_tls(&pki, false, azure).await;
        let outbound = outbound_trusting(&pki, &[("AZURE_CLIENT_ID", "client-1")]);
        for auth in [json!({"managedIdentity": {}}), json!({"workloadIdentity": {}})] {
            let error = redacted(run(&wanted(&server, auth.clone()), &server, &outbound).await);
            assert!(error.detail.contains("must end with .azurecr.io"), "{error}");
            for registry in
                ["evil.test/x.azurecr.io", "evil.test#.azurecr.io", "user@evil.test", "evil.test?.azurecr.io", ""]
            {
                let bad = AcrAccessTokenSpec { registry: registry.into(), ..wanted(&server, auth.clone()) };
                let error = redacted(run(&bad, &server, &outbound).await);
                assert!(error.detail.starts_with("spec.registry is not a host name"), "{registry}: {error}");
            }
        }
        assert!(server.received().is_empty());
        let good =
            AcrAccessTokenSpec { registry: "team.azurecr.io".into(), ..wanted(&server, json!({"workloadIdentity": {}})) };
        let error = redacted(run(&good, &server, &outbound).await);
        assert!(error.detail.contains("does not hold AZURE_TENANT_ID"), "{error}");
    }

    #[tokio::test]
    async fn what_entra_id_does_not_take_is_denied() {
        let pki = Pki::new();
        let server = FakeServer::start_tls(&pki, false, azure).await;
        let cluster = Cluster::new().labelled_secret("azure", &json!({}), &[("id", "client-1"), ("secret", CANARY)]);
        let endpoints = Endpoints { authority: server.url.clone(), metadata: String::new(), resource: "https://r/".into() };
        let cx = cluster.cx(&outbound_trusting(&pki, &[]));
        let error = redacted(wanted(&server, principal()).generate_at(&registries(endpoints), &cx).await);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.detail.starts_with("login to Entra ID: "), "{error}");
    }

    #[tokio::test]
    async fn whatever_a_registry_does_is_told_in_our_words() {
        let pki = &Pki::new();
        misbehaving(|reply| async move {
            let answer = move |asked: &Received| if asked.line.ends_with("exchange") { reply.clone() } else { azure(asked) };
            let server = FakeServer::start_tls(pki, false, answer).await;
            run(&wanted(&server, principal()), &server, &outbound_trusting(pki, &[])).await
        })
        .await;
    }

    /// Where an Azure Stack is, the administrator says: who writes a generator must not.
    #[tokio::test]
    async fn an_azure_stack_is_where_the_operators_environment_says() {
        let pki = Pki::new();
        let server = FakeServer::start_tls(&pki, false, azure).await;
        let file = std::env::temp_dir().join(format!("keyferry-azure-stack-{}.json", std::process::id()));
        let stack = json!({
            "name": "AzureStackCloud", "activeDirectoryEndpoint": format!("{}/", server.url),
            "resourceManagerEndpoint": "https://management.local.azurestack.external/",
            "containerRegistryDNSSuffix": "azsacr.local.azurestack.external",
        });
        std::fs::write(&file, stack.to_string()).unwrap();
        let spec =
            AcrAccessTokenSpec { environment_type: Some(AzureEnvironment::AzureStackCloud), ..wanted(&server, principal()) };
        let env = [("AZURE_ENVIRONMENT_FILEPATH", file.to_str().unwrap())];
        let made = spec.generate(&cluster().cx(&outbound_trusting(&pki, &env))).await;
        let own =
            AcrAccessTokenSpec { auth: serde_json::from_value(json!({"managedIdentity": {}})).unwrap(), ..spec.clone() };
        let refused = redacted(own.generate(&cluster().cx(&outbound_trusting(&pki, &env))).await);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(values(&made.unwrap()), [("username", USERNAME), ("password", "refresh")].into());
        assert_eq!(server.received()[0].form("scope").unwrap(), "https://management.local.azurestack.external/.default");
        assert!(refused.detail.contains("must end with .azsacr.local.azurestack.external"), "{refused}");

        let error = redacted(spec.generate(&cluster().cx(&outbound_trusting(&pki, &[]))).await);
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.contains("names no AZURE_ENVIRONMENT_FILEPATH"), "{error}");
    }
}
