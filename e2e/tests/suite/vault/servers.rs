//! The servers themselves: what the other tests rely on.

use std::sync::Arc;

use anyhow::{Result, ensure};
use keyferry_e2e::env::block_on;
use keyferry_e2e::ldap::{Ldap, USERS};
use keyferry_e2e::postgres::Postgres;
use keyferry_e2e::process::Lifetime;
use keyferry_e2e::rundir::RunDir;
use keyferry_e2e::vault::{Refusal, Vault};
use serde_json::json;

#[test]
fn a_vault_knows_who_asked_and_can_be_sealed() -> Result<()> {
    block_on(async {
        let vault = Vault::start(Arc::new(RunDir::new(Lifetime::Ours)?)).await?;
        vault.mount("kv", "kv", json!({"version": "1"})).await?;
        vault.write("kv/a", json!({"k": "v"})).await?;
        vault.policy("reader", &[("kv/*", &["read"])]).await?;
        let token = vault.token(&["reader"], "1h").await?;
        let mark = vault.audit_mark()?;
        ensure!(vault.call(hyper::Method::GET, "kv/a", None, &token).await?["data"] == json!({"k": "v"}));
        ensure!(vault.call(hyper::Method::GET, "sys/mounts", None, &token).await.is_err());
        let asked = vault.asked_since(mark)?;
        ensure!(asked.len() == 2 && asked[0].path == "kv/a" && asked[0].error.is_empty(), "{asked:?}");
        ensure!(asked[1].error.contains("permission denied"), "{asked:?}");
        vault.seal().await?;
        let refusal = vault.read("kv/a").await.unwrap_err();
        ensure!(refusal.downcast_ref::<Refusal>().is_some_and(|r| r.status == 503), "{refusal}");
        vault.unseal().await?;
        ensure!(vault.read("kv/a").await?["data"] == json!({"k": "v"}));
        Ok(())
    })
}

/// Vault makes users of PostgreSQL, and lets users of the directory in.
#[test]
fn a_vault_works_with_a_database_and_a_directory() -> Result<()> {
    block_on(async {
        let dir = Arc::new(RunDir::new(Lifetime::Ours)?);
        let (vault, postgres) = tokio::try_join!(Vault::start(dir.clone()), Postgres::start(dir.clone()))?;
        let ldap = Ldap::start(dir, &[("ada", "lovelace")]).await?;
        super::database(&vault, &postgres, "db", "60s", "60s").await?;
        let made = vault.read("db/creds/app").await?;
        let part = |name: &str| made["data"][name].as_str().unwrap_or_default().to_owned();
        ensure!(postgres.sql(&part("username"), &part("password"), "select 1").await?.trim() == "1");
        ensure!(postgres.users().await? == [part("username")]);
        vault.write("sys/leases/revoke", json!({"lease_id": made["lease_id"]})).await?;
        ensure!(postgres.sql(&part("username"), &part("password"), "select 1").await.is_err(), "it was revoked");

        vault.enable_auth("ldap", "ldap").await?;
        vault.write("auth/ldap/config", json!({"url": ldap.url(), "userdn": USERS, "userattr": "uid"})).await?;
        let login = async |password: &str| {
            let body = json!({"password": password});
            vault.call(hyper::Method::PUT, "auth/ldap/login/ada", Some(&body), "").await
        };
        ensure!(login("lovelace").await?["auth"]["client_token"].is_string());
        ensure!(login("wrong").await.is_err());
        Ok(())
    })
}
