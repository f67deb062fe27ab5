//! The key-value engine of the real Vault: both versions of it, read, found, pushed to and deleted from.

use anyhow::{Result, ensure};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::vault::Vault;
use serde_json::{Value, json};

use super::{app_role, asked, block, engine, local_operator, secret, vault_store};
use crate::lab::{EXTERNAL_SECRET, PUSH_SECRET, all_synced, apply, eventually, external_secret, push_secret, with_lab};

const ALL: &[&str] = &["create", "read", "update", "delete", "list"];

/// An engine of that version for the namespace, and the store `store` on it.
async fn arrange(ns: &Sandbox<'_>, vault: &Vault, version: &str) -> Result<()> {
    engine(ns, vault, version).await?;
    let auth = app_role(ns, vault, &[(&format!("{}/*", ns.name), ALL)], "1h").await?;
    vault_store(ns, "store", block(vault.url(), &ns.name, &format!("v{version}"), auth)).await
}

/// Writes a secret as a person would.
async fn put(ns: &Sandbox<'_>, vault: &Vault, version: &str, key: &str, value: Value) -> Result<()> {
    match version {
        "1" => vault.write(&format!("{}/{key}", ns.name), value).await,
        _ => vault.write(&format!("{}/data/{key}", ns.name), json!({"data": value})).await,
    }
    .map(drop)
}

/// A secret as a person would read it; null where there is none.
async fn get(ns: &Sandbox<'_>, vault: &Vault, version: &str, key: &str) -> Value {
    let (path, at) = if version == "1" { ("", "/data") } else { ("data/", "/data/data") };
    let read = vault.read(&format!("{}/{path}{key}", ns.name)).await.unwrap_or_default();
    read.pointer(at).cloned().unwrap_or_default()
}

fn data(entries: &[(&str, Value)]) -> Value {
    entries.iter().map(|(key, reference)| json!({"secretKey": key, "remoteRef": reference})).collect()
}

#[test]
fn both_versions_are_read() -> Result<()> {
    for version in ["1", "2"] {
        with_lab(&format!("kv{version}-read"), async |ns| {
            let vault = ns.env.vault().await?;
            arrange(ns, vault, version).await?;
            let large = "x".repeat(64 * 1024);
            put(
                ns,
                vault,
                version,
                "app",
                json!({"user": "älice ✓", "port": 5432, "deep": {"a.b": "dotted"}, "large": large}),
            )
            .await?;
            put(ns, vault, version, "team/nested", json!({"k": "v"})).await?;
            put(ns, vault, version, "binary", json!({"b": "AP+AAQ=="})).await?;
            let _operator = local_operator(ns).await?;
            let entries = [
                ("whole", json!({"key": "team/nested"})),
                ("user", json!({"key": "app", "property": "user"})),
                ("port", json!({"key": "app", "property": "port"})),
                ("dotted", json!({"key": "app", "property": "deep.a\\.b"})),
                ("large", json!({"key": "app", "property": "large"})),
                ("binary", json!({"key": "binary", "property": "b", "decodingStrategy": "Base64"})),
            ];
            apply(ns, external_secret("data", json!({"data": data(&entries)}))).await?;
            apply(ns, external_secret("extract", json!({"dataFrom": [{"extract": {"key": "team/nested"}}]}))).await?;
            all_synced(ns).await?;
            let held = ns.secret("data").await?;
            let text: Vec<&str> = ["whole", "user", "port", "dotted"].iter().map(|key| held[*key].as_str()).collect();
            ensure!(text == [r#"{"k":"v"}"#, "älice ✓", "5432", "dotted"], "{text:?}");
            ensure!(
                held["large"] == large
                    && crate::lab::secrets(ns).await?["data"].data.as_ref().unwrap()["binary"].0 == [0, 255, 128, 1]
            );
            ensure!(ns.secret("extract").await?["k"] == "v");

            // what is missing is told, and under `Delete` takes the Secret along
            let target = json!({"deletionPolicy": "Delete"});
            let spec = json!({"data": data(&[("k", json!({"key": "gone", "property": "k"}))]), "target": target});
            apply(ns, external_secret("missing", spec)).await?;
            ns.wait_ready(EXTERNAL_SECRET, "missing", "True", "SecretDeleted").await?;
            let spec = json!({"data": data(&[("k", json!({"key": "gone", "property": "k"}))])});
            apply(ns, external_secret("retained", spec)).await?;
            let message = ns.wait_ready(EXTERNAL_SECRET, "retained", "False", "SecretSyncedError").await?;
            ensure!(message.contains("Secret does not exist"), "{message}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn versions_and_deleted_versions() -> Result<()> {
    with_lab("kv2-versions", async |ns| {
        let vault = ns.env.vault().await?;
        arrange(ns, vault, "2").await?;
        for value in ["one", "two", "three"] {
            put(ns, vault, "2", "app", json!({"k": value})).await?;
        }
        vault.write(&format!("{}/delete/app", ns.name), json!({"versions": [2]})).await?;
        let _operator = local_operator(ns).await?;
        let read = |version: &str| json!({"key": "app", "property": "k", "version": version});
        apply(
            ns,
            external_secret(
                "es",
                json!({"data": data(&[("first", read("1")), ("last", json!({"key": "app", "property": "k"}))])}),
            ),
        )
        .await?;
        apply(ns, external_secret("deleted", json!({"data": data(&[("k", read("2"))])}))).await?;
        ns.wait_synced("es").await?;
        let held = ns.secret("es").await?;
        ensure!(held["first"] == "one" && held["last"] == "three", "{held:?}");
        let message = ns.wait_ready(EXTERNAL_SECRET, "deleted", "False", "SecretSyncedError").await?;
        ensure!(message.contains("Secret does not exist"), "{message}");
        Ok(())
    })
}

#[test]
fn secrets_are_found_by_name_and_by_tags() -> Result<()> {
    with_lab("kv2-find", async |ns| {
        let vault = ns.env.vault().await?;
        arrange(ns, vault, "2").await?;
        for (key, value) in [("app/db", "1"), ("app/deep/cache", "2"), ("other/db", "3")] {
            put(ns, vault, "2", key, json!({"k": value})).await?;
        }
        vault.write(&format!("{}/metadata/other/db", ns.name), json!({"custom_metadata": {"team": "b"}})).await?;
        let _operator = local_operator(ns).await?;
        for (name, find) in [
            ("by-path", json!({"path": "app", "name": {"regexp": ".*"}})),
            ("by-name", json!({"name": {"regexp": "db$"}})),
            ("by-tags", json!({"tags": {"team": "b"}})),
        ] {
            apply(ns, external_secret(name, json!({"dataFrom": [{"find": find}]}))).await?;
        }
        all_synced(ns).await?;
        for (name, want) in [
            ("by-path", vec!["app_db", "app_deep_cache"]),
            ("by-name", vec!["app_db", "other_db"]),
            ("by-tags", vec!["other_db"]),
        ] {
            let keys: Vec<String> = ns.secret(name).await?.into_keys().collect();
            ensure!(keys == want, "{name}: {keys:?}");
        }
        ensure!(ns.secret("by-tags").await?["other_db"] == r#"{"k":"3"}"#);
        Ok(())
    })
}

/// What is pushed arrives, is not written again while it is the same, leaves what others wrote, and goes with its PushSecret.
#[test]
fn both_versions_are_pushed_to() -> Result<()> {
    for version in ["1", "2"] {
        with_lab(&format!("kv{version}-push"), async |ns| {
            let vault = ns.env.vault().await?;
            arrange(ns, vault, version).await?;
            let _operator = local_operator(ns).await?;
            secret(ns, "source", json!({"user": "alice", "password": "p1"})).await?;
            let to = |key: &str, property: &str| json!({"match": {"secretKey": key, "remoteRef": {"remoteKey": "pushed/app", "property": property}}});
            let spec = json!({"data": [to("user", "user"), to("password", "password")], "deletionPolicy": "Delete", "refreshInterval": "1s"});
            apply(ns, push_secret("push", "store", json!({"secret": {"name": "source"}}), spec)).await?;
            ns.wait_ready(PUSH_SECRET, "push", "True", "Synced").await?;
            let held = get(ns, vault, version, "pushed/app").await;
            ensure!(held == json!({"user": "alice", "password": "p1"}), "{held}");

            let mark = vault.audit_mark()?;
            tokio::time::sleep(std::time::Duration::from_secs(4)).await;
            let written = asked(vault, mark, &ns.name)?;
            ensure!(!written.is_empty(), "it looks again");
            ensure!(written.iter().all(|asked| ["read", "list"].contains(&asked.operation.as_str())), "{written:?}");

            secret(ns, "source", json!({"user": "alice", "password": "p2"})).await?;
            let arrived = async || Ok(get(ns, vault, version, "pushed/app").await["password"] == "p2");
            eventually("the change arrives", arrived).await?;
            ns.kubectl(&["delete", "pushsecret", "push"]).await?;
            let gone = async || Ok(get(ns, vault, version, "pushed/app").await == Value::Null);
            eventually("what was pushed goes with the PushSecret", gone).await?;

            put(ns, vault, version, "theirs", json!({"k": "by a person"})).await?;
            let theirs = json!([{"match": {"secretKey": "user", "remoteRef": {"remoteKey": "theirs", "property": "k"}}}]);
            apply(ns, push_secret("theirs", "store", json!({"secret": {"name": "source"}}), json!({"data": theirs})))
                .await?;
            if version == "2" {
                // only the second version has a place for the mark of who manages a secret
                ns.wait_ready(PUSH_SECRET, "theirs", "False", "Errored").await?;
                ensure!(get(ns, vault, version, "theirs").await["k"] == "by a person");
            }
            Ok(())
        })?;
    }
    Ok(())
}
