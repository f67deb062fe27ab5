//! Keeper Secrets Manager.

use keyferry_fakes::keeper::{FOLDER, Keeper};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

fn store() -> Value {
    let config = json!({"name": "login", "key": "config"});
    json!({"keepersecurity": {"authRef": config, "folderID": FOLDER, "getByTitleFallback": true}})
}

fn record(title: &str, user: &str, password: &str) -> Value {
    let field = |kind: &str, text: &str| json!({"type": kind, "value": [text]});
    json!({"title": title, "type": "login", "fields": [field("login", user), field("password", password)], "custom": []})
}

#[test]
fn an_application_is_read() -> Result<()> {
    let (user, password, file) = (value("user"), value("password"), value("file"));
    let service = Keeper::default();
    service.put_with("db-uid", record("db", &user, &password), &[("note", file.as_bytes())], false);
    service.put("mail-uid", record("mail", &user, &password));
    with_service("keeper", service, async |bench| {
        let config = bench.service.fake.config(bench.service.url());
        bench.store(store(), &[("config", &config)]).await?;
        let part = |key: &str, property: &str| json!({"data": [{"secretKey": "v", "remoteRef": {"key": key, "property": property}}]});
        bench.brings("get", part("db-uid", "password"), &[("v", &password)]).await?;
        bench.brings("title", part("db", "login"), &[("v", &user)]).await?;
        bench.brings("file", part("db", "note"), &[("v", &file)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "db"}}]});
        bench.brings("extract", extract, &[("login", &user), ("password", &password), ("note", &file)]).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "^mai"}}}]});
        apply(bench.ns, external_secret("find", find)).await?;
        bench.ns.wait_synced("find").await?;
        let found: Value = serde_json::from_str(&bench.ns.secret("find").await?["mail"])?;
        ensure!(found["fields"][1]["value"][0] == password.as_str(), "another record: {:?}", found["title"]);
        let message = bench.fails("missing", json!({"data": one("v", "none")})).await?;
        ensure!(message.contains("Secret does not exist: \"none\""), "{message}");
        let message = bench.recovers("denied", part("mail-uid", "password"), &[("v", &password)]).await?;
        ensure!(message.contains("Keeper") && message.contains("403"), "{message}");
        Ok(())
    })
}

#[test]
fn an_application_is_written() -> Result<()> {
    with_service("keeper-push", Keeper::default(), async |bench| {
        let config = bench.service.fake.config(bench.service.url());
        bench.store(store(), &[("config", &config)]).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "new/token"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let there = || bench.service.fake.titled("new");
        ensure!(there().len() == 1 && there()[0].0["custom"][0]["value"][0] == pushed.as_str(), "another record");
        let written = || bench.service.server.lines().iter().filter(|line| line.contains("e_secret")).count();
        let (looks, writes) = (bench.service.server.received().len(), written());
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        ensure!(written() == writes && writes == 1, "written {writes} times, and {} later", written());
        bench.takes_back("push").await?;
        ensure!(there().is_empty(), "it is still there");
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let service = Keeper::default();
    let mut json = record("one", "ann", "pw");
    json["custom"] = json!([{"type": "secret", "label": "token", "value": ["t"]}]);
    service.put_with("one-uid", json, &[("note", b"written down")], false);
    service.put_with("old-uid", record("old", "x", "y"), &[], true);
    with_client(service, async |client| {
        let config = client.fake().config(client.url());
        let said = client.run("keeper", &[&config, FOLDER]).await?;
        let expected = json!({
            "title": "one", "password": "pw", "custom": "t", "file": "written down", "revisions": [1, 2], "changed": "bob",
            "under an old revision": "Error: bad_request", "titles": ["new", "one"], "folders": [FOLDER],
        });
        ensure!(said == expected, "{said}");
        let made = client.fake().titled("new");
        ensure!(made.len() == 1 && made[0].0["fields"][0]["value"][0] == "bob", "it did not write");
        Ok(())
    })
}
