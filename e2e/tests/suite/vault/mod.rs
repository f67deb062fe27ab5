//! The real Vault, and what it makes: read, pushed and logged in to through the operator.

mod auth;
mod dynamic;
mod faults;
mod kv;
mod openbao;
mod servers;
mod trust;

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::ByteString;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::operator::Operator;
use keyferry_e2e::postgres::Postgres;
use keyferry_e2e::vault::{Asked, Vault};
use serde_json::{Value, json};

use crate::lab::{apply, operator, store, with_lab};

/// What lets the operator call a Vault on this machine.
const LOCAL: &str = "--allow-local-endpoints";
/// The blocks of a store that a Vault serves: OpenBao speaks its protocol.
const VAULT: &str = "vault";
const OPEN_BAO: &str = "openBao";

/// Runs `test` for both versions of the key-value engine, each in a namespace of its own.
fn for_both(label: &str, test: impl AsyncFn(&Sandbox<'_>, &str) -> Result<()>) -> Result<()> {
    for version in ["1", "2"] {
        with_lab(&format!("{label}{version}"), async |ns| test(ns, version).await)?;
    }
    Ok(())
}

/// An operator for the namespace that may call the Vault of these tests.
async fn local_operator(ns: &Sandbox<'_>) -> Result<Operator> {
    operator(ns, &[LOCAL, "--loglevel=debug"]).await
}

/// A Secret of these texts, in base64: the API server reads what is applied as YAML, where U+2028 ends a line.
async fn secret(ns: &Sandbox<'_>, name: &str, texts: Value) -> Result<()> {
    let text = |value: &Value| ByteString(value.as_str().unwrap_or_default().into());
    let data: BTreeMap<_, _> = texts.as_object().into_iter().flatten().map(|(key, value)| (key, text(value))).collect();
    apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data})).await
}

/// The block of a store, or of a generator, on `vault`.
fn block(server: &str, path: &str, version: &str, auth: Value) -> Value {
    json!({"server": server, "path": path, "version": version, "auth": auth})
}

/// A SecretStore with such a block, as that of `provider`.
async fn store_of(ns: &Sandbox<'_>, provider: &str, name: &str, block: Value) -> Result<()> {
    apply(ns, store(name, json!({provider: block}))).await
}

/// The same as Vault's.
async fn vault_store(ns: &Sandbox<'_>, name: &str, block: Value) -> Result<()> {
    store_of(ns, VAULT, name, block).await
}

/// An AppRole of the namespace's own with one policy of these rules, whose tokens live as long as `ttl` says; the Secret
/// `vault-login` and the `auth` of a store that log in with it.
async fn app_role(ns: &Sandbox<'_>, vault: &Vault, rules: &[(&str, &[&str])], ttl: &str) -> Result<Value> {
    vault.policy(&ns.name, rules).await?;
    let mount = format!("approle-{}", ns.name);
    let (role, secret_id) = vault.app_role(&mount, &[&ns.name], ttl).await?;
    secret(ns, "vault-login", json!({"secret-id": secret_id})).await?;
    let reference = json!({"name": "vault-login", "key": "secret-id"});
    Ok(json!({"appRole": {"path": mount, "roleId": role, "secretRef": reference}}))
}

/// The key-value engine of the namespace, at the path of its name.
async fn engine(ns: &Sandbox<'_>, vault: &Vault, version: &str) -> Result<()> {
    vault.mount(&ns.name, "kv", json!({"version": version})).await?;
    // a second version of the engine is set up after the answer
    for _ in 0..100 {
        if vault.list(&format!("{}/metadata", ns.name)).await.is_ok() || version == "1" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

/// What Vault was asked below these paths since `mark`.
fn asked(vault: &Vault, mark: u64, below: &str) -> Result<Vec<Asked>> {
    let mut all = vault.asked_since(mark)?;
    all.retain(|asked| asked.path.starts_with(below));
    Ok(all)
}

/// A database engine at `mount`, whose role `app` makes users of `postgres` that live as long as `ttl` says and are renewed for no
/// longer than `max_ttl`.
async fn database(vault: &Vault, postgres: &Postgres, mount: &str, ttl: &str, max_ttl: &str) -> Result<()> {
    let (username, password) = postgres.admin();
    let url =
        format!("postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable", postgres.port());
    vault.mount(mount, "database", json!({})).await?;
    let config = json!({
        "plugin_name": "postgresql-database-plugin", "connection_url": url, "allowed_roles": ["*"],
        "username": username, "password": password,
    });
    vault.write(&format!("{mount}/config/pg"), config).await?;
    let role = json!({
        "db_name": "pg", "default_ttl": ttl, "max_ttl": max_ttl,
        "creation_statements": [r#"CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"#],
    });
    vault.write(&format!("{mount}/roles/app"), role).await.map(drop)
}
