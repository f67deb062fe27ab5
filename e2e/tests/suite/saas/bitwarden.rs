//! Bitwarden Secrets Manager. No client of the vendor speaks to the server between: see `keyferry_fakes::bitwarden`.

use keyferry_fakes::bitwarden::{ACCESS_TOKEN, Bitwarden, ORGANIZATION, PROJECT};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

const LOGIN: &[(&str, &str)] = &[("token", ACCESS_TOKEN)];

fn store(url: &str) -> Value {
    json!({"bitwardensecretsmanager": {
        "organizationID": ORGANIZATION, "projectID": PROJECT, "bitwardenServerSDKURL": url,
        "auth": {"secretRef": {"credentials": {"name": "login", "key": "token"}}},
    }})
}

#[test]
fn a_project_is_read() -> Result<()> {
    let fake = Bitwarden::default();
    let json = json!({"user": value("user"), "login": {"password": value("password")}}).to_string();
    let id = fake.put(PROJECT, "API_KEY", &value("key"), "");
    fake.put(PROJECT, "DB", &json, "");
    fake.put(PROJECT, "YAML", &format!("user: {}\n", value("user")), "");
    with_service("bitwarden", fake, async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let (key, user, password) = (value("key"), value("user"), value("password"));
        bench.brings("get", json!({"data": one("key", "API_KEY")}), &[("key", &key)]).await?;
        bench.brings("id", json!({"data": one("key", &id)}), &[("key", &key)]).await?;
        let part = json!({"data": [{"secretKey": "key", "remoteRef": {"key": "DB", "property": "login.password"}}]});
        bench.brings("property", part, &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "YAML"}}]});
        bench.brings("extract", extract, &[("user", &user)]).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "^API_"}}}]});
        bench.brings("find", find, &[("API_KEY", &key)]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "NONE")})).await?;
        ensure!(message.contains("Secret does not exist: \"NONE\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "API_KEY")}), &[("key", &key)]).await?;
        ensure!(message.contains("Bitwarden") && message.contains("401"), "{message}");
        bench.service.fake.set(&id, &value("second"));
        bench.read_again("get").await?;
        bench.ns.wait_secret("get", |data| data["key"] == value("second")).await.map(drop)
    })
}

#[test]
fn a_project_is_written() -> Result<()> {
    with_service("bitwarden-push", Bitwarden::default(), async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "PUSHED"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let there = || bench.service.fake.named("PUSHED");
        ensure!(there().len() == 1 && there()[0].value == pushed, "{} of that name", there().len());
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        ensure!(bench.writes() == 1, "written {} times", bench.writes());
        bench.takes_back("push").await?;
        ensure!(there().is_empty(), "it is still there");
        Ok(())
    })
}
