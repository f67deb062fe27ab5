//! The block `openBao` against the real Vault, whose protocol OpenBao speaks: no OpenBao runs here. It does all that Vault's block does,
//! but for what it says in words of its own.

use anyhow::{Result, ensure};
use serde_json::json;

use super::auth::{Setting, take_one_login};
use super::{OPEN_BAO, app_role, for_both, kv, local_operator, store_of};
use crate::lab::{EXTERNAL_SECRET, SECRET_STORE, apply, eventually, external_secret, objects, one, with_lab};

#[test]
fn both_versions_are_read() -> Result<()> {
    for_both("bao-read", async |ns, version| kv::read(ns, OPEN_BAO, version).await)
}

#[test]
fn versions_and_deleted_versions() -> Result<()> {
    with_lab("bao-versions", async |ns| kv::read_versions(ns, OPEN_BAO).await)
}

#[test]
fn secrets_are_found_by_name_and_by_tags() -> Result<()> {
    for_both("bao-find", async |ns, version| kv::find(ns, OPEN_BAO, version).await)
}

#[test]
fn both_versions_are_pushed_to() -> Result<()> {
    for_both("bao-push", async |ns, version| kv::push(ns, OPEN_BAO, version).await)
}

#[test]
fn every_way_to_log_in_takes_one_login() -> Result<()> {
    with_lab("bao-logins", async |ns| {
        let setting = Setting::new(ns, OPEN_BAO).await?;
        let ways =
            [setting.token().await?, setting.app_role().await?, setting.user_pass().await?, setting.kubernetes().await?];
        take_one_login(&setting, &ways).await
    })
}

/// A block that names neither mount nor version is read as version 2 at `kv`.
#[test]
fn what_is_left_out_is_version_2_at_kv() -> Result<()> {
    with_lab("bao-plain", async |ns| {
        // it has `kv` for itself
        let vault = ns.env.another_vault().await?;
        vault.mount("kv", "kv", json!({"version": "2"})).await?;
        eventually("the engine has versions", async || {
            Ok(vault.write("kv/data/app", json!({"data": {"password": "p"}})).await.is_ok())
        })
        .await?;
        let auth = app_role(ns, &vault, &[("kv/data/*", &["read"])], "1h").await?;
        let _operator = local_operator(ns).await?;
        store_of(ns, OPEN_BAO, "store", json!({"server": vault.url(), "auth": auth})).await?;
        apply(ns, external_secret("es", json!({"data": one("all", "app")}))).await?;
        ns.wait_synced("es").await?;
        ensure!(ns.secret("es").await?["all"] == r#"{"password":"p"}"#);
        Ok(())
    })
}

/// A version that an engine has none of, which Vault's block passes over, and an engine of another version than the store says.
#[test]
fn it_has_its_own_words() -> Result<()> {
    with_lab("bao-words", async |ns| {
        let (vault, _operator) = (ns.env.vault().await?, local_operator(ns).await?);
        kv::arrange(ns, vault, OPEN_BAO, "1").await?;
        kv::put(ns, vault, "1", "app", json!({"k": "v"})).await?;
        let versioned = kv::data(&[("k", json!({"key": "app", "property": "k", "version": "1"}))]);
        apply(ns, external_secret("versioned", json!({"data": versioned}))).await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "versioned", "False", "SecretSyncedError").await?;
        ensure!(message.contains("OpenBao KVv1 secrets do not support versioning (use KVv2)"), "{message}");

        let stores = objects(ns, SECRET_STORE).await?;
        let mut wrong = stores[0]["spec"]["provider"][OPEN_BAO].clone();
        wrong["version"] = json!("v2");
        store_of(ns, OPEN_BAO, "wrong", wrong).await?;
        let message = ns.wait_ready(SECRET_STORE, "wrong", "False", "InvalidProviderConfig").await?;
        ensure!(message.contains("expected kv engine version 2 found version 1"), "{message}");
        Ok(())
    })
}
