//! The ways to log in, each proven by the server itself: the API server reviews tokens, the directory checks passwords, and AWS's
//! (emulated) STS checks signatures.

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyferry_e2e::controlplane::ISSUER;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::ldap::{Ldap, USERS};
use keyferry_e2e::vault::Vault;
use serde_json::{Value, json};

use super::{OPEN_BAO, VAULT, app_role, asked, block, engine, local_operator, secret, store_of, vault_store};
use crate::lab::{SECRET_STORE, all_synced, apply, eventually, external_secret, one, with_lab};

/// How often each way reads after the first time.
const ROUNDS: usize = 3;

/// A way to log in: its name, the mount at which Vault counts its logins, and the block of a store that uses it.
pub(super) struct Way {
    name: &'static str,
    mount: String,
    block: Value,
}

/// URL and certificate authority of the API server.
async fn api_server(ns: &Sandbox<'_>) -> Result<(String, String)> {
    let view = ns.kubectl(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]).await?;
    let view: Value = serde_json::from_str(&view)?;
    let part =
        |name: &str| view.pointer(&format!("/clusters/0/cluster/{name}")).and_then(Value::as_str).context("no cluster");
    let ca = String::from_utf8(STANDARD.decode(part("certificate-authority-data")?)?)?;
    Ok((part("server")?.to_owned(), ca))
}

async fn service_account(ns: &Sandbox<'_>, name: &str) -> Result<()> {
    apply(ns, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})).await
}

async fn bind(ns: &Sandbox<'_>, role: &str, subject: Value) -> Result<()> {
    apply(
        ns,
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("{}-{}", ns.name, role.replace(':', "-"))},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        }),
    )
    .await
}

/// The tests of one namespace: Vault, and what all blocks of stores have in common.
pub(super) struct Setting<'a> {
    ns: &'a Sandbox<'a>,
    vault: &'a Vault,
    /// Whose block it is.
    provider: &'static str,
}

impl<'a> Setting<'a> {
    /// An engine that all ways may read, and two ServiceAccounts, of which Vault knows `app`.
    pub(super) async fn new(ns: &'a Sandbox<'a>, provider: &'static str) -> Result<Self> {
        let vault = ns.env.vault().await?;
        engine(ns, vault, "2").await?;
        vault.policy(&ns.name, &[(&format!("{}/data/*", ns.name), &["read"])]).await?;
        for account in ["app", "stranger"] {
            service_account(ns, account).await?;
        }
        Ok(Self { ns, vault, provider })
    }

    fn mount(&self, name: &str) -> String {
        format!("{name}-{}", self.ns.name)
    }

    fn block(&self, auth: Value) -> Value {
        block(self.vault.url(), &self.ns.name, "v2", auth)
    }

    /// The fields of a role, or of what stands for one, that are the same everywhere.
    fn role(&self, more: Value) -> Value {
        let mut role = json!({"token_policies": [self.ns.name], "token_ttl": "1h"});
        for (field, value) in more.as_object().into_iter().flatten() {
            role[field] = value.clone();
        }
        role
    }

    async fn enable(&self, kind: &str) -> Result<String> {
        let mount = self.mount(kind);
        self.vault.enable_auth(&mount, kind).await?;
        Ok(mount)
    }

    pub(super) async fn token(&self) -> Result<Way> {
        let token = self.vault.token(&[&self.ns.name], "1h").await?;
        secret(self.ns, "token-login", json!({"token": token})).await?;
        let auth = json!({"tokenSecretRef": {"name": "token-login", "key": "token"}});
        Ok(Way { name: "token", mount: self.mount("none"), block: self.block(auth) })
    }

    pub(super) async fn app_role(&self) -> Result<Way> {
        let rules: &[(&str, &[&str])] = &[(&format!("{}/data/*", self.ns.name), &["read"])];
        let auth = app_role(self.ns, self.vault, rules, "1h").await?;
        Ok(Way { name: "approle", mount: self.mount("approle"), block: self.block(auth) })
    }

    /// The API server reviews the token of a ServiceAccount.
    pub(super) async fn kubernetes(&self) -> Result<Way> {
        let (mount, (host, ca)) = (self.enable("kubernetes").await?, api_server(self.ns).await?);
        let reviewer = json!({"kind": "ServiceAccount", "name": "reviewer", "namespace": self.ns.name});
        service_account(self.ns, "reviewer").await?;
        bind(self.ns, "system:auth-delegator", reviewer).await?;
        let token = self.ns.cluster().token(&self.ns.name, "reviewer", None).await?;
        let config = json!({"kubernetes_host": host, "kubernetes_ca_cert": ca, "token_reviewer_jwt": token});
        self.vault.write(&format!("auth/{mount}/config"), config).await?;
        let bound = json!({"bound_service_account_names": ["app"], "bound_service_account_namespaces": [self.ns.name]});
        self.vault.write(&format!("auth/{mount}/role/app"), self.role(bound)).await?;
        Ok(Way { name: "kubernetes", block: self.block(self.as_account("app")), mount })
    }

    /// The login of a ServiceAccount at the mount that [`Setting::kubernetes`] makes.
    fn as_account(&self, account: &str) -> Value {
        let path = if self.provider == OPEN_BAO { "path" } else { "mountPath" };
        json!({"kubernetes": {path: self.mount("kubernetes"), "role": "app", "serviceAccountRef": {"name": account}}})
    }

    /// Vault checks the token's signature by the keys that the API server publishes.
    async fn jwt(&self) -> Result<Way> {
        let (mount, (host, ca)) = (self.enable("jwt").await?, api_server(self.ns).await?);
        let anyone = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:unauthenticated"});
        bind(self.ns, "system:service-account-issuer-discovery", anyone).await?;
        let config = json!({
            "jwks_url": format!("{host}/openid/v1/jwks"), "jwks_ca_pem": ca, "bound_issuer": ISSUER,
            "jwt_supported_algs": ["ES256"],
        });
        // rights take a moment until the API server knows them
        eventually("Vault takes the keys", async || {
            Ok(self.vault.write(&format!("auth/{mount}/config"), config.clone()).await.is_ok())
        })
        .await?;
        let bound = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"],
            "bound_subject": format!("system:serviceaccount:{}:app", self.ns.name),
        });
        self.vault.write(&format!("auth/{mount}/role/app"), self.role(bound)).await?;
        let token = json!({"serviceAccountRef": {"name": "app"}, "audiences": ["vault"]});
        let auth = json!({"jwt": {"path": mount, "role": "app", "kubernetesServiceAccountToken": token}});
        Ok(Way { name: "jwt", block: self.block(auth), mount })
    }

    pub(super) async fn user_pass(&self) -> Result<Way> {
        let mount = self.enable("userpass").await?;
        self.vault.write(&format!("auth/{mount}/users/ada"), self.role(json!({"password": "lovelace"}))).await?;
        secret(self.ns, "userpass-login", json!({"password": "lovelace"})).await?;
        let auth = json!({"userPass": {"path": mount, "username": "ada", "secretRef": {"name": "userpass-login", "key": "password"}}});
        Ok(Way { name: "userpass", block: self.block(auth), mount })
    }

    async fn ldap(&self, ldap: &Ldap) -> Result<Way> {
        let mount = self.enable("ldap").await?;
        let config = json!({"url": ldap.url(), "userdn": USERS, "userattr": "uid"});
        self.vault.write(&format!("auth/{mount}/config"), self.role(config)).await?;
        secret(self.ns, "ldap-login", json!({"password": "analyst"})).await?;
        let auth =
            json!({"ldap": {"path": mount, "username": "grace", "secretRef": {"name": "ldap-login", "key": "password"}}});
        Ok(Way { name: "ldap", block: self.block(auth), mount })
    }

    async fn certificate(&self) -> Result<Way> {
        let mount = self.enable("cert").await?;
        let role = json!({"certificate": self.vault.ca(), "allowed_common_names": [self.ns.name]});
        self.vault.write(&format!("auth/{mount}/certs/app"), self.role(role)).await?;
        let pair = self.vault.client_certificate(&self.ns.name)?;
        secret(self.ns, "certificate-login", json!({"tls.crt": pair.cert, "tls.key": pair.key})).await?;
        let part = |key: &str| json!({"name": "certificate-login", "key": key});
        let auth = json!({"cert": {"path": mount, "vaultRole": "app", "clientCert": part("tls.crt"), "secretRef": part("tls.key")}});
        let mut block = self.block(auth);
        block["server"] = json!(self.vault.tls_url());
        block["caBundle"] = json!(STANDARD.encode(self.vault.ca()));
        Ok(Way { name: "certificate", mount, block })
    }

    /// Vault has AWS check the signature of a request that the operator signed and did not send.
    async fn iam(&self) -> Result<Way> {
        let mount = self.enable("aws").await?;
        let aws = self.ns.env.aws.root();
        let statements = json!([{"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}]);
        let user = format!("vault-{}", self.ns.name);
        let key = aws.create_user(&user, statements).await?;
        let config = json!({
            "sts_endpoint": self.ns.env.aws.endpoint(), "sts_region": keyferry_e2e::aws::REGION, "iam_server_id_header_value": "vault.test",
        });
        self.vault.write(&format!("auth/{mount}/config/client"), config).await?;
        let arn = format!("arn:aws:iam::{}:user/{user}", keyferry_e2e::aws::ACCOUNT);
        let bound = json!({"auth_type": "iam", "bound_iam_principal_arn": [arn], "resolve_aws_unique_ids": false});
        self.vault.write(&format!("auth/{mount}/role/app"), self.role(bound)).await?;
        secret(self.ns, "aws-login", json!({"id": key.id, "key": key.secret})).await?;
        let part = |key: &str| json!({"name": "aws-login", "key": key});
        let auth = json!({"iam": {
            "path": mount, "vaultRole": "app", "region": keyferry_e2e::aws::REGION, "vaultAwsIamServerID": "vault.test",
            "secretRef": {"accessKeyIDSecretRef": part("id"), "secretAccessKeySecretRef": part("key")},
        }});
        Ok(Way { name: "iam", block: self.block(auth), mount })
    }
}

/// Each of these ways reads again and again, with one login for all.
pub(super) async fn take_one_login(setting: &Setting<'_>, ways: &[Way]) -> Result<()> {
    let Setting { ns, vault, provider } = setting;
    let mark = vault.audit_mark()?;
    let put = async |value: &str| {
        vault.write(&format!("{}/data/app", ns.name), json!({"data": {"password": value}})).await.map(drop)
    };
    put("first").await?;
    let _operator = local_operator(ns).await?;
    for way in ways {
        store_of(ns, provider, way.name, way.block.clone()).await?;
        let data = json!([{"secretKey": "password", "remoteRef": {"key": "app", "property": "password"}}]);
        let spec = json!({"data": data, "secretStoreRef": {"name": way.name, "kind": "SecretStore"}});
        apply(ns, external_secret(way.name, spec)).await?;
    }
    all_synced(ns).await?;
    for round in 0..ROUNDS {
        let value = format!("round-{round}");
        put(&value).await?;
        ns.kubectl(&["annotate", "externalsecrets", "--all", "--overwrite", &format!("force-sync={round}")]).await?;
        for way in ways {
            ns.wait_secret(way.name, |data| data["password"] == value).await.context(way.name)?;
        }
    }
    for way in ways {
        let logins = asked(vault, mark, &format!("auth/{}/login", way.mount))?;
        let wanted = usize::from(way.name != "token");
        ensure!(logins.len() == wanted, "{}: {logins:?}", way.name);
    }
    let reads = asked(vault, mark, &format!("{}/data/app", ns.name))?;
    ensure!(reads.iter().filter(|read| read.operation == "read").count() == ways.len() * (ROUNDS + 1), "{}", reads.len());

    // another ServiceAccount than the role is bound to
    store_of(ns, provider, "stranger", setting.block(setting.as_account("stranger"))).await?;
    let message = ns.wait_ready(SECRET_STORE, "stranger", "False", "InvalidProviderConfig").await?;
    ensure!(message.contains("login to Vault"), "{message}");
    ensure!(!message.contains("service account"), "Vault's own words are not passed on: {message}");
    Ok(())
}

#[test]
fn every_way_to_log_in_takes_one_login() -> Result<()> {
    with_lab("logins", async |ns| {
        let ldap = ns.env.ldap(&[("grace", "analyst")]).await?;
        let setting = Setting::new(ns, VAULT).await?;
        let ways = [
            setting.token().await?,
            setting.app_role().await?,
            setting.kubernetes().await?,
            setting.jwt().await?,
            setting.user_pass().await?,
            setting.ldap(&ldap).await?,
            setting.certificate().await?,
            setting.iam().await?,
        ];
        take_one_login(&setting, &ways).await
    })
}

/// A token that ends is renewed before, and one that cannot be renewed any more is replaced: no sync fails for it.
#[test]
fn a_login_outlives_its_token() -> Result<()> {
    with_lab("renewals", async |ns| {
        let vault = ns.env.vault().await?;
        engine(ns, vault, "1").await?;
        vault.write(&format!("{}/app", ns.name), json!({"password": "p"})).await?;
        let auth = app_role(ns, vault, &[(&format!("{}/*", ns.name), &["read"])], "6s").await?;
        let mark = vault.audit_mark()?;
        let _operator = local_operator(ns).await?;
        vault_store(ns, "store", block(vault.url(), &ns.name, "v1", auth)).await?;
        let spec = json!({"data": one("password", "app"), "refreshInterval": "1s"});
        apply(ns, external_secret("es", spec)).await?;
        ns.wait_synced("es").await?;
        let renewals = async || Ok(asked(vault, mark, "auth/token/renew-self")?.len() >= 3);
        eventually("the token was renewed three times", renewals).await?;
        let all = vault.asked_since(mark)?;
        let mine: Vec<_> =
            all.iter().filter(|asked| asked.path.starts_with(&ns.name) || asked.path.contains(&ns.name)).collect();
        ensure!(mine.iter().filter(|asked| asked.is_login()).count() == 1, "{mine:?}");
        ensure!(mine.iter().all(|asked| asked.error.is_empty()), "{mine:?}");
        ns.wait_synced("es").await
    })
}
