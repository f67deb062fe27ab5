//! What can go wrong between the operator and Vault, each told apart; and what both write down of a request.

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::vault::Vault;
use serde_json::{Value, json};

use super::{app_role, asked, block, engine, local_operator, secret, vault_store};
use crate::canary::{unseen, value};
use crate::lab::{EXTERNAL_SECRET, SECRET_STORE, apply, external_secret, one, with_lab};

/// An engine without versions, with the secrets `app` and `hidden`, and a login that may read the first one.
async fn arrange(ns: &Sandbox<'_>, vault: &Vault, password: &str) -> Result<Value> {
    engine(ns, vault, "1").await?;
    for key in ["app", "hidden"] {
        vault.write(&format!("{}/{key}", ns.name), json!({"password": password})).await?;
    }
    app_role(ns, vault, &[(&format!("{}/app", ns.name), &["read"])], "1h").await
}

async fn reader(ns: &Sandbox<'_>, name: &str, store: &str, key: &str) -> Result<()> {
    let reference = json!({"name": store, "kind": "SecretStore"});
    let spec = json!({"data": one("password", key), "secretStoreRef": reference, "refreshInterval": "1s"});
    apply(ns, external_secret(name, spec)).await
}

/// Each read in Vault's audit log is found again, by its id, in ours; neither says a value.
#[test]
fn a_read_has_one_id_in_both_logs() -> Result<()> {
    with_lab("audit", async |ns| {
        let (vault, password) = (ns.env.vault().await?, value("password"));
        let auth = arrange(ns, vault, &password).await?;
        let mark = vault.audit_mark()?;
        let operator = local_operator(ns).await?;
        vault_store(ns, "store", block(vault.url(), &ns.name, "v1", auth)).await?;
        reader(ns, "es", "store", "app").await?;
        ns.wait_synced("es").await?;
        let reads = asked(vault, mark, &format!("{}/app", ns.name))?;
        ensure!(!reads.is_empty(), "Vault was not asked");
        let log = operator.log()?;
        for read in &reads {
            ensure!(log.contains(&read.id), "our log has no line of {}", read.id);
        }
        ensure!(!vault.audit_log()?.contains(&password), "Vault's audit log holds the value");
        unseen(ns, &operator, &[password]).await.map(drop)
    })
}

#[test]
fn denied_and_missing_and_revoked_are_told_apart() -> Result<()> {
    with_lab("denied", async |ns| {
        let vault = ns.env.vault().await?;
        let auth = arrange(ns, vault, "p").await?;
        let _operator = local_operator(ns).await?;
        vault_store(ns, "store", block(vault.url(), &ns.name, "v1", auth)).await?;
        reader(ns, "allowed", "store", "app").await?;
        reader(ns, "denied", "store", "hidden").await?;
        ns.wait_synced("allowed").await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "denied", "False", "SecretSyncedError").await?;
        ensure!(message.contains("Vault does not allow it"), "{message}");

        // somebody who has left: the token is revoked, the Secret stays, and the store says why
        let token = vault.token(&[&ns.name], "1h").await?;
        secret(ns, "leaver", json!({"token": token})).await?;
        let auth = json!({"tokenSecretRef": {"name": "leaver", "key": "token"}});
        vault_store(ns, "leaver", block(vault.url(), &ns.name, "v1", auth)).await?;
        reader(ns, "es", "leaver", "app").await?;
        ns.wait_synced("es").await?;
        vault.write("auth/token/revoke", json!({"token": token})).await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "es", "False", "SecretSyncedError").await?;
        ensure!(message.contains("Vault does not allow it") && !message.contains(&token), "{message}");
        ensure!(ns.secret("es").await?["password"].contains('p'), "the last known good stays");
        let again = vault.token(&[&ns.name], "1h").await?;
        secret(ns, "leaver", json!({"token": again})).await?;
        ns.wait_synced("es").await
    })
}

/// A sealed Vault is told, changes nothing, and needs nobody once it is unsealed. A login of a method survives that its token is
/// revoked.
#[test]
fn a_sealed_vault_is_told_and_comes_back() -> Result<()> {
    with_lab("sealed", async |ns| {
        let vault = ns.env.another_vault().await?;
        let auth = arrange(ns, &vault, "p").await?;
        let _operator = local_operator(ns).await?;
        let mut block = block(vault.url(), &ns.name, "v1", auth);
        block["auth"]["appRole"]["path"] = json!(format!("approle-{}", ns.name));
        vault_store(ns, "store", block).await?;
        reader(ns, "es", "store", "app").await?;
        ns.wait_synced("es").await?;
        vault.seal().await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "es", "False", "SecretSyncedError").await?;
        ensure!(message.contains("sealed"), "{message}");
        ensure!(ns.secret("es").await?.contains_key("password"), "the last known good stays");
        vault.unseal().await?;
        ns.wait_synced("es").await?;

        let mark = vault.audit_mark()?;
        vault.write(&format!("sys/leases/revoke-prefix/auth/approle-{}/login", ns.name), json!({})).await?;
        vault.write(&format!("{}/app", ns.name), json!({"password": "after"})).await?;
        ns.wait_secret("es", |data| data["password"].contains("after")).await?;
        let logins = asked(&vault, mark, &format!("auth/approle-{}/login", ns.name))?;
        ensure!(logins.len() == 1, "{logins:?}");
        Ok(())
    })
}

#[test]
fn a_certificate_is_checked_by_bundle_and_by_provider() -> Result<()> {
    with_lab("tls", async |ns| {
        let vault = ns.env.vault().await?;
        let auth = arrange(ns, vault, "p").await?;
        let _operator = local_operator(ns).await?;
        let tls = |more: Value| {
            let mut block = block(vault.tls_url(), &ns.name, "v1", auth.clone());
            for (field, value) in more.as_object().into_iter().flatten() {
                block[field] = value.clone();
            }
            block
        };
        let map =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ca"}, "data": {"ca.crt": vault.ca()}});
        apply(ns, map).await?;
        secret(ns, "ca", json!({"ca.crt": vault.ca()})).await?;
        let provider = |kind: &str| json!({"caProvider": {"type": kind, "name": "ca", "key": "ca.crt"}});
        for (name, more) in [
            ("bundle", json!({"caBundle": STANDARD.encode(vault.ca())})),
            ("config-map", provider("ConfigMap")),
            ("secret", provider("Secret")),
        ] {
            vault_store(ns, name, tls(more)).await?;
            reader(ns, name, name, "app").await?;
            ns.wait_synced(name).await?;
        }
        vault_store(ns, "unknown", tls(json!({}))).await?;
        let message = ns.wait_ready(SECRET_STORE, "unknown", "False", "ValidationFailed").await?;
        ensure!(message.contains("certificate"), "{message}");
        Ok(())
    })
}
