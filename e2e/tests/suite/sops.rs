//! Files that the real sops encrypted for real age keys, in the cluster and on servers.

use anyhow::{Result, ensure};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::sops::{AgeKey, Sops};
use keyferry_fakes::files::Files;
use keyferry_fakes::registry::Registry;
use serde_json::{Value, json};

use crate::canary::{self, value};
use crate::lab::{EXTERNAL_SECRET, SECRET_STORE, apply, external_secret, one, operator, push_secret, store, with_lab};
use crate::saas::{with_client, with_service};

/// A ConfigMap of files.
fn files(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": data})
}

/// The Secret `age` with keys.
async fn age(ns: &Sandbox<'_>, keys: &[&AgeKey]) -> Result<()> {
    let lines: String = keys.iter().map(|key| key.identity.as_str()).collect();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "age"}, "stringData": {"keys.txt": lines}});
    apply(ns, secret).await
}

fn sops_store(name: &str, source: Value) -> Value {
    store(name, json!({"sops": {"source": source, "ageKeySecretRef": {"name": "age", "key": "keys.txt"}}}))
}

fn in_map(key: &str) -> Value {
    json!({"configMap": {"name": "files", "key": key}})
}

/// An ExternalSecret on a store.
fn on(store: &str, name: &str, mut spec: Value) -> Value {
    spec["secretStoreRef"] = json!({"name": store, "kind": "SecretStore"});
    external_secret(name, spec)
}

async fn holds(ns: &Sandbox<'_>, name: &str, expected: &[(&str, &str)]) -> Result<()> {
    ns.wait_synced(name).await?;
    let held = ns.secret(name).await?;
    let fits =
        held.len() == expected.len() && expected.iter().all(|(key, value)| held.get(*key).is_some_and(|v| v == value));
    ensure!(fits, "Secret {name} holds other keys or values: {:?}", held.keys());
    Ok(())
}

#[test]
fn files_of_every_format_become_secrets() -> Result<()> {
    let sops = Sops::find_or_make()?;
    let (ours, others) = (sops.key()?, sops.key()?);
    let (user, password) = (value("user"), value("pass\"word"));
    let yaml =
        format!("db:\n  user: {user}\n  password: {password:?}\n  port: 5432\ntoken: {user}\nnote_unencrypted: plain\n");
    let json = json!({"db": {"user": user, "password": password}}).to_string();
    let dotenv = format!("USER={user}\nPASSWORD={password}\n");
    let ini = format!("[db]\nuser = {user}\npassword = {password}\n");
    let encrypt = |format: &str, plain: &str| sops.encrypt(&[&others, &ours], format, plain.as_bytes(), &[]);
    let map = files(json!({
        "app.yaml": encrypt("yaml", &yaml)?, "app.json": encrypt("json", &json)?, "app.env": encrypt("dotenv", &dotenv)?,
        "app.ini": encrypt("ini", &ini)?, "app.pem": encrypt("binary", &password)?,
        "only-db.yaml": sops.encrypt(&[&ours], "yaml", yaml.as_bytes(), &["--encrypted-regex", "^db$", "--mac-only-encrypted"])?,
    }));
    with_lab("sops-formats", async |ns| {
        let operator = operator(ns, &["--loglevel=trace"]).await?;
        age(ns, &[&ours]).await?;
        apply(ns, map).await?;
        for (name, file) in [
            ("yaml", "app.yaml"),
            ("json", "app.json"),
            ("env", "app.env"),
            ("ini", "app.ini"),
            ("binary", "app.pem"),
            ("only-db", "only-db.yaml"),
        ] {
            apply(ns, sops_store(name, in_map(file))).await?;
        }
        let both = [("user", user.as_str()), ("password", password.as_str())];
        let part = |key: &str, property: &str| json!([{"secretKey": "v", "remoteRef": {"key": key, "property": property}}]);
        for (store, name, spec, expected) in [
            ("yaml", "get", json!({"data": one("v", "token")}), vec![("v", user.as_str())]),
            ("yaml", "path", json!({"data": one("v", "db/password")}), vec![("v", &password)]),
            ("yaml", "property", json!({"data": part("db", "port")}), vec![("v", "5432")]),
            ("json", "extract", json!({"dataFrom": [{"extract": {"key": "db"}}]}), both.to_vec()),
            ("env", "find", json!({"dataFrom": [{"find": {"name": {"regexp": "^USER$"}}}]}), vec![("USER", &user)]),
            ("ini", "find-path", json!({"dataFrom": [{"find": {"path": "db", "name": {"regexp": "."}}}]}), both.to_vec()),
            ("binary", "binary", json!({"data": one("v", "data")}), vec![("v", &password)]),
            ("only-db", "regex", json!({"data": one("v", "db.user")}), vec![("v", &user)]),
        ] {
            apply(ns, on(store, name, spec)).await?;
            holds(ns, name, &expected).await?;
        }
        apply(ns, on("yaml", "missing", json!({"data": one("v", "nope")}))).await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "missing", "False", "SecretSyncedError").await?;
        ensure!(message.contains("Secret does not exist: \"nope\""), "{message}");
        let pushed = json!({"data": [{"match": {"secretKey": "keys.txt", "remoteRef": {"remoteKey": "x"}}}]});
        apply(ns, push_secret("push", "yaml", json!({"secret": {"name": "age"}}), pushed)).await?;
        let message = ns.wait_ready(crate::lab::PUSH_SECRET, "push", "False", "Errored").await?;
        ensure!(message.contains("cannot be pushed to"), "{message}");
        canary::unseen(ns, &operator, &[canary::BEGINS.to_owned(), "AGE-SECRET-KEY-".to_owned()]).await.map(drop)
    })
}

#[test]
fn a_new_file_is_taken_at_once_and_a_changed_one_not_at_all() -> Result<()> {
    let sops = Sops::find_or_make()?;
    let (ours, others) = (sops.key()?, sops.key()?);
    let encrypt = |key: &AgeKey, token: &str| {
        let plain = format!("token: {token}\nplain_unencrypted: before\n");
        sops.encrypt(&[key], "yaml", plain.as_bytes(), &[])
    };
    let (first, second, foreign) = (encrypt(&ours, "one")?, encrypt(&ours, "two")?, encrypt(&others, "three")?);
    let file = |text: &str| files(json!({"app.yaml": text}));
    with_lab("sops-follow", async |ns| {
        let _operator = operator(ns, &[]).await?;
        apply(ns, sops_store("store", in_map("app.yaml"))).await?;
        // The store is there before its key and its file are.
        let says = async |text: &str| {
            let is_told = |object: Option<&Value>| object.is_some_and(|object| object["status"].to_string().contains(text));
            ns.wait(SECRET_STORE, "store", is_told).await.map(drop)
        };
        says("Secret sops-follow").await?;
        age(ns, &[&ours]).await?;
        says("ConfigMap sops-follow").await?;
        apply(ns, file(&first)).await?;
        apply(ns, external_secret("es", json!({"data": one("v", "token")}))).await?;
        holds(ns, "es", &[("v", "one")]).await?;

        apply(ns, file(&second)).await?;
        let took = ns.wait_secret("es", |data| data["v"] == "two").await?;
        ensure!(took.as_secs() < 60, "followed after {took:?}, and the interval is an hour");

        for (text, told) in [
            (second.replace("before", "after"), "changed after it was encrypted"),
            (foreign, "other age recipients"),
            ("token: plain\n".to_owned(), "no sops metadata"),
        ] {
            apply(ns, file(&text)).await?;
            says(told).await?;
            let not_ready =
                |object: Option<&Value>| object.is_some_and(|object| object["status"].to_string().contains("False"));
            ns.wait(EXTERNAL_SECRET, "es", not_ready).await?;
            ensure!(ns.secret("es").await?["v"] == "two", "the last good value is gone: {told}");
        }
        // The other key is added to the Secret, which keeps its first one.
        let last = encrypt(&others, "four")?;
        apply(ns, file(&last)).await?;
        says("other age recipients").await?;
        age(ns, &[&ours, &others]).await?;
        ns.wait_secret("es", |data| data["v"] == "four").await?;
        ns.wait_synced("es").await
    })
}

#[test]
fn a_file_on_a_server_is_read() -> Result<()> {
    let sops = Sops::find_or_make()?;
    let key = sops.key()?;
    let (token, other) = (value("token"), value("other"));
    let encrypt =
        |token: &str| sops.encrypt(&[&key], "json", json!({"token": token, "other": other}).to_string().as_bytes(), &[]);
    let server = Files::new(&[("/app.json", encrypt(&token)?.as_bytes())]).for_header("x-token", "letmein");
    with_service("sops-http", server, async |bench| {
        age(bench.ns, &[&key]).await?;
        let header = json!([{"name": "X-Token", "secretRef": {"name": "login", "key": "token"}}]);
        let source = json!({"http": {"url": format!("{}/app.json", bench.service.url()), "headers": header}});
        let provider = json!({"sops": {"source": source, "ageKeySecretRef": {"name": "age", "key": "keys.txt"}}});
        bench.store(provider, &[("token", "letmein")]).await?;
        bench.brings("get", json!({"data": one("v", "token")}), &[("v", &token)]).await?;
        let message = bench.recovers("denied", json!({"data": one("v", "other")}), &[("v", &other)]).await?;
        ensure!(message.contains("SOPS file") && message.contains("403"), "{message}");
        let second = value("second");
        bench.service.fake.put("/app.json", encrypt(&second)?.as_bytes());
        bench.read_again("get").await?;
        bench.ns.wait_secret("get", |data| data["v"] == second).await.map(drop)
    })
}

#[test]
fn an_artifact_of_a_registry_is_read() -> Result<()> {
    let sops = Sops::find_or_make()?;
    let key = sops.key()?;
    let (token, other) = (value("token"), value("other"));
    let file = sops.encrypt(&[&key], "dotenv", format!("TOKEN={token}\nOTHER={other}\n").as_bytes(), &[])?;
    let registry = Registry::closed();
    registry.put("team/secrets", "main", &[("README.md", b"text"), ("app.env", file.as_bytes())]);
    with_service("sops-oci", registry, async |bench| {
        age(bench.ns, &[&key]).await?;
        let host = bench.service.url().trim_start_matches("http://").to_owned();
        let source = json!({"oci": {
            "reference": format!("{host}/team/secrets:main"), "file": "app.env", "plainHttp": true, "pullSecretRef": {"name": "login"},
        }});
        let provider = json!({"sops": {"source": source, "ageKeySecretRef": {"name": "age", "key": "keys.txt"}}});
        bench.store(provider, &[(".dockerconfigjson", &Registry::login(&host))]).await?;
        bench.brings("get", json!({"data": one("v", "TOKEN")}), &[("v", &token)]).await?;
        let message = bench.recovers("denied", json!({"data": one("v", "OTHER")}), &[("v", &other)]).await?;
        ensure!(message.contains("SOPS file") && message.contains("403"), "{message}");
        Ok(())
    })
}

/// ORAS' own client pushes a file to the registry that the tests read from, and pulls it.
#[test]
fn the_client_of_oras_agrees() -> Result<()> {
    with_client(Registry::closed(), async |client| {
        let (user, password) = Registry::user();
        let said = client.run("oras", &[user, password]).await?;
        ensure!(said == json!({"pulled": "file: pushed\n", "title": "secrets.yaml"}), "{said}");
        Ok(())
    })
}
