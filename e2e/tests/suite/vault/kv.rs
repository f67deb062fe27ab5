//! The key-value engine of the real Vault: both versions of it, read, found, pushed to and deleted from. What is done here is done by
//! the blocks of all providers that Vault serves.

use anyhow::{Result, ensure};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::vault::Vault;
use serde_json::{Value, json};

use super::{VAULT, app_role, asked, block, engine, for_both, local_operator, secret, store_of};
use crate::lab::{
    EXTERNAL_SECRET, PUSH_SECRET, SECRET_STORE, all_synced, apply, eventually, external_secret, push_secret, with_lab,
};

/// All that a policy can allow.
pub(super) const ALL: &[&str] = &["create", "read", "update", "delete", "list"];
/// Texts that pass through JSON, base64 and Go's own way to escape.
const SCRIPTS: &str = "käse, ключ, 鍵, 🔑, <&>, \u{2028}, \u{1}\nand a line";

/// A text of 64 KiB.
fn large() -> String {
    "0123456789abcdef".repeat(4096)
}

/// An engine of that version for the namespace, and the store `store` on it with a block of `provider`.
pub(super) async fn arrange(ns: &Sandbox<'_>, vault: &Vault, provider: &str, version: &str) -> Result<()> {
    engine(ns, vault, version).await?;
    let auth = app_role(ns, vault, &[(&format!("{}/*", ns.name), ALL)], "1h").await?;
    store_of(ns, provider, "store", block(vault.url(), &ns.name, &format!("v{version}"), auth)).await?;
    // an object that comes before its store says first that there is none
    ns.wait_ready(SECRET_STORE, "store", "True", "Valid").await.map(drop)
}

/// Writes a secret as a person would.
pub(super) async fn put(ns: &Sandbox<'_>, vault: &Vault, version: &str, key: &str, value: Value) -> Result<()> {
    match version {
        "1" => vault.write(&format!("{}/{key}", ns.name), value).await,
        _ => vault.write(&format!("{}/data/{key}", ns.name), json!({"data": value})).await,
    }
    .map(drop)
}

/// A secret as a person would read it; null where there is none.
pub(super) async fn get(ns: &Sandbox<'_>, vault: &Vault, version: &str, key: &str) -> Value {
    let (path, at) = if version == "1" { ("", "/data") } else { ("data/", "/data/data") };
    let read = vault.read(&format!("{}/{path}{key}", ns.name)).await.unwrap_or_default();
    read.pointer(at).cloned().unwrap_or_default()
}

/// `data` with these entries: `(secretKey, remoteRef)`.
pub(super) fn data(entries: &[(&str, Value)]) -> Value {
    entries.iter().map(|(key, reference)| json!({"secretKey": key, "remoteRef": reference})).collect()
}

/// An entry of a PushSecret: a key of the Secret to a property of what is at `remote`.
pub(super) fn to_property(key: &str, remote: &str, property: &str) -> Value {
    json!({"match": {"secretKey": key, "remoteRef": {"remoteKey": remote, "property": property}}})
}

/// Values of all kinds, whole, by property and taken apart; what is missing.
pub(super) async fn read(ns: &Sandbox<'_>, provider: &str, version: &str) -> Result<()> {
    let (vault, _operator) = (ns.env.vault().await?, local_operator(ns).await?);
    arrange(ns, vault, provider, version).await?;
    let app = json!({"user": "älice ✓", "port": 5432, "deep": {"a.b": "dotted"}, "scripts": SCRIPTS, "large": large()});
    put(ns, vault, version, "app", app).await?;
    put(ns, vault, version, "team/nested", json!({"k": "v"})).await?;
    put(ns, vault, version, "binary", json!({"b": "AP+AAQ=="})).await?;
    let entries = [
        ("whole", json!({"key": "team/nested"})),
        ("user", json!({"key": "app", "property": "user"})),
        ("port", json!({"key": "app", "property": "port"})),
        ("dotted", json!({"key": "app", "property": "deep.a\\.b"})),
        ("scripts", json!({"key": "app", "property": "scripts"})),
        ("large", json!({"key": "app", "property": "large"})),
        ("binary", json!({"key": "binary", "property": "b", "decodingStrategy": "Base64"})),
    ];
    apply(ns, external_secret("data", json!({"data": data(&entries)}))).await?;
    for (name, extract) in [("extract", json!({"key": "team/nested"})), ("part", json!({"key": "app", "property": "deep"}))]
    {
        apply(ns, external_secret(name, json!({"dataFrom": [{"extract": extract}]}))).await?;
    }
    all_synced(ns).await?;
    let held = ns.secret("data").await?;
    let text: Vec<&str> = ["whole", "user", "port", "dotted", "scripts"].iter().map(|key| held[*key].as_str()).collect();
    ensure!(text == [r#"{"k":"v"}"#, "älice ✓", "5432", "dotted", SCRIPTS], "{text:?}");
    ensure!(
        held["large"] == large()
            && crate::lab::secrets(ns).await?["data"].data.as_ref().unwrap()["binary"].0 == [0, 255, 128, 1]
    );
    ensure!(ns.secret("extract").await?["k"] == "v");
    ensure!(ns.secret("part").await?["a.b"] == "dotted");

    // what is missing is told, and under `Delete` takes the Secret along
    let gone = || data(&[("k", json!({"key": "gone", "property": "k"}))]);
    let spec = json!({"data": gone(), "target": {"deletionPolicy": "Delete"}});
    apply(ns, external_secret("missing", spec)).await?;
    ns.wait_ready(EXTERNAL_SECRET, "missing", "True", "SecretDeleted").await?;
    apply(ns, external_secret("retained", json!({"data": gone()}))).await?;
    let message = ns.wait_ready(EXTERNAL_SECRET, "retained", "False", "SecretSyncedError").await?;
    ensure!(message.contains("Secret does not exist"), "{message}");
    Ok(())
}

#[test]
fn both_versions_are_read() -> Result<()> {
    for_both("kv-read", async |ns, version| read(ns, VAULT, version).await)
}

/// Older versions, one that was deleted, and one that there never was.
pub(super) async fn read_versions(ns: &Sandbox<'_>, provider: &str) -> Result<()> {
    let (vault, _operator) = (ns.env.vault().await?, local_operator(ns).await?);
    arrange(ns, vault, provider, "2").await?;
    for value in ["one", "two", "three"] {
        put(ns, vault, "2", "app", json!({"k": value})).await?;
    }
    vault.write(&format!("{}/delete/app", ns.name), json!({"versions": [2]})).await?;
    let read = |version: &str| json!({"key": "app", "property": "k", "version": version});
    let entries = [("first", read("1")), ("last", json!({"key": "app", "property": "k"}))];
    apply(ns, external_secret("es", json!({"data": data(&entries)}))).await?;
    ns.wait_synced("es").await?;
    let held = ns.secret("es").await?;
    ensure!(held["first"] == "one" && held["last"] == "three", "{held:?}");
    for (name, version) in [("deleted", "2"), ("never", "9")] {
        apply(ns, external_secret(name, json!({"data": data(&[("k", read(version))])}))).await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, name, "False", "SecretSyncedError").await?;
        ensure!(message.contains("Secret does not exist"), "{name}: {message}");
    }
    Ok(())
}

#[test]
fn versions_and_deleted_versions() -> Result<()> {
    with_lab("kv-versions", async |ns| read_versions(ns, VAULT).await)
}

/// By path and by name, and by tags where the engine has some.
pub(super) async fn find(ns: &Sandbox<'_>, provider: &str, version: &str) -> Result<()> {
    let (vault, _operator) = (ns.env.vault().await?, local_operator(ns).await?);
    arrange(ns, vault, provider, version).await?;
    for (key, value) in [("app/db", "1"), ("app/deep/cache", "2"), ("other/db", "3")] {
        put(ns, vault, version, key, json!({"k": value})).await?;
    }
    let mut searches = vec![
        ("by-path", json!({"path": "app", "name": {"regexp": ".*"}}), vec!["app_db", "app_deep_cache"]),
        ("by-name", json!({"name": {"regexp": "db$"}}), vec!["app_db", "other_db"]),
    ];
    let tags = json!({"tags": {"team": "b"}});
    if version == "2" {
        vault.write(&format!("{}/metadata/other/db", ns.name), json!({"custom_metadata": {"team": "b"}})).await?;
        searches.push(("by-tags", tags.clone(), vec!["other_db"]));
    }
    for (name, find, _) in &searches {
        apply(ns, external_secret(name, json!({"dataFrom": [{"find": find}]}))).await?;
    }
    all_synced(ns).await?;
    for (name, _, want) in &searches {
        let keys: Vec<String> = ns.secret(name).await?.into_keys().collect();
        ensure!(keys == *want, "{name}: {keys:?}");
    }
    ensure!(ns.secret("by-name").await?["other_db"] == r#"{"k":"3"}"#);
    if version == "1" {
        apply(ns, external_secret("tags", json!({"dataFrom": [{"find": tags}]}))).await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "tags", "False", "SecretSyncedError").await?;
        ensure!(message.contains("cannot perform find by tag operations with kv version v1"), "{message}");
    }
    Ok(())
}

#[test]
fn secrets_are_found_by_name_and_by_tags() -> Result<()> {
    for_both("kv-find", async |ns, version| find(ns, VAULT, version).await)
}

/// What is pushed arrives, is not written again while it is the same, leaves what others wrote, and goes with its PushSecret.
pub(super) async fn push(ns: &Sandbox<'_>, provider: &str, version: &str) -> Result<()> {
    let (vault, _operator) = (ns.env.vault().await?, local_operator(ns).await?);
    arrange(ns, vault, provider, version).await?;
    let source = |password: &str| json!({"user": "alice", "password": password, "scripts": SCRIPTS, "large": large()});
    secret(ns, "source", source("p1")).await?;
    let from_source = || json!({"secret": {"name": "source"}});
    let pushed = |keys: &[&str]| {
        let entries: Vec<Value> = keys.iter().map(|key| to_property(key, "pushed/app", key)).collect();
        let spec = json!({"data": entries, "deletionPolicy": "Delete", "refreshInterval": "1s"});
        push_secret("push", "store", from_source(), spec)
    };
    apply(ns, pushed(&["user", "password", "scripts", "large"])).await?;
    ns.wait_ready(PUSH_SECRET, "push", "True", "Synced").await?;
    let held = get(ns, vault, version, "pushed/app").await;
    ensure!(held["user"] == "alice" && held["password"] == "p1", "{held}");
    for (key, wanted) in [("scripts", SCRIPTS), ("large", &large())] {
        let length = held[key].as_str().map(str::len);
        ensure!(held[key] == wanted, "{key} did not arrive byte for byte: {length:?} of {} bytes", wanted.len());
    }
    // the first version has no other place for the mark of who manages a secret than the secret
    let marked = if version == "1" { 1 } else { 0 };
    ensure!(held.as_object().is_some_and(|held| held.len() == 4 + marked), "{held}");

    let mark = vault.audit_mark()?;
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let written = asked(vault, mark, &ns.name)?;
    ensure!(!written.is_empty(), "it looks again");
    ensure!(written.iter().all(|asked| ["read", "list"].contains(&asked.operation.as_str())), "{written:?}");

    secret(ns, "source", source("p2")).await?;
    let arrived = async || Ok(get(ns, vault, version, "pushed/app").await["password"] == "p2");
    eventually("the change arrives", arrived).await?;
    let whole = json!({"data": [{"match": {"remoteRef": {"remoteKey": "whole"}}}]});
    apply(ns, push_secret("whole", "store", from_source(), whole)).await?;
    ns.wait_ready(PUSH_SECRET, "whole", "True", "Synced").await?;
    let held = get(ns, vault, version, "whole").await;
    ensure!(held["user"] == "alice" && held["password"] == "p2" && held["scripts"] == SCRIPTS, "{held}");

    apply(ns, pushed(&["user", "password"])).await?;
    let left = async || {
        let held = get(ns, vault, version, "pushed/app").await;
        ensure!(held["user"] == "alice" && held["password"] == "p2", "what is still pushed stays: {held}");
        Ok(held.get("scripts").is_none() && held.get("large").is_none())
    };
    eventually("what is pushed no longer goes, and nothing else", left).await?;
    ns.kubectl(&["delete", "pushsecret", "push"]).await?;
    let gone = async || Ok(get(ns, vault, version, "pushed/app").await == Value::Null);
    eventually("what was pushed goes with the PushSecret", gone).await?;

    put(ns, vault, version, "theirs", json!({"k": "by a person"})).await?;
    let theirs = json!({"data": [to_property("user", "theirs", "k")]});
    apply(ns, push_secret("theirs", "store", from_source(), theirs)).await?;
    ns.wait_ready(PUSH_SECRET, "theirs", "False", "Errored").await?;
    ensure!(get(ns, vault, version, "theirs").await["k"] == "by a person");
    Ok(())
}

#[test]
fn both_versions_are_pushed_to() -> Result<()> {
    for_both("kv-push", async |ns, version| push(ns, VAULT, version).await)
}
