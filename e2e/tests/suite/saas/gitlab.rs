//! GitLab.

use keyferry_fakes::gitlab::{Gitlab, PROJECT, TOKEN};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

fn provider(url: &str) -> Value {
    let auth = json!({"SecretRef": {"accessToken": {"name": "login", "key": "token"}}});
    json!({"gitlab": {"url": url, "auth": auth, "projectID": PROJECT, "inheritFromGroups": true, "environment": "prod"}})
}

fn holding_canaries() -> Gitlab {
    let gitlab = Gitlab::default();
    let json = json!({"user": value("user"), "password": value("password")}).to_string();
    gitlab.put("projects/7", "API_KEY", "*", json!(value("any")));
    gitlab.put("projects/7", "API_KEY", "prod", json!(value("prod")));
    gitlab.put("groups/11", "DB", "*", json!(json));
    gitlab.put("projects/7", "DB_HOST", "*", json!(value("host")));
    gitlab.put("projects/7", "HIDDEN", "*", Value::Null);
    gitlab
}

#[test]
fn variables_are_read() -> Result<()> {
    with_service("gitlab", holding_canaries(), async |bench| {
        bench.store(provider(bench.service.url()), &[("token", TOKEN)]).await?;
        let (prod, user, password) = (value("prod"), value("user"), value("password"));
        bench.brings("get", json!({"data": one("key", "API-KEY")}), &[("key", &prod)]).await?;
        let part = json!({"data": [{"secretKey": "key", "remoteRef": {"key": "DB", "property": "password"}}]});
        bench.brings("property", part, &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "DB"}}]});
        bench.brings("extract", extract, &[("user", &user), ("password", &password)]).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "^API"}}}]});
        bench.brings("find", find, &[("API_KEY", &prod)]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "NONE")})).await?;
        ensure!(message.contains("Secret does not exist: \"NONE\""), "{message}");
        let message = bench.fails("hidden", json!({"data": one("key", "HIDDEN")})).await?;
        ensure!(message.contains("the variable is hidden"), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "DB_HOST")}), &[("key", &value("host"))]).await?;
        ensure!(message.contains("GitLab") && message.contains("403"), "{message}");
        Ok(())
    })
}

#[test]
fn variables_are_written() -> Result<()> {
    with_service("gitlab-push", holding_canaries(), async |bench| {
        bench.store(provider(bench.service.url()), &[("token", TOKEN)]).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "PUSHED"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let held = || bench.service.fake.get("PUSHED", "prod");
        ensure!(held().is_some_and(|variable| variable["value"] == pushed), "another value");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        ensure!(bench.writes() == 1, "written {} times", bench.writes());
        bench.takes_back("push").await?;
        ensure!(held().is_none(), "it is still there");
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let gitlab = Gitlab::new((0..120).map(|n| (format!("KEY_{n}"), n.to_string())));
    gitlab.put("projects/7", "SCOPED", "prod", json!("p"));
    gitlab.put("projects/7", "SCOPED", "dev", json!("d"));
    gitlab.put("groups/11", "GROUP", "*", json!("g"));
    with_client(gitlab, async |client| {
        let said = client.run("gitlab", &[TOKEN, PROJECT]).await?;
        ensure!(said["listed"] == 122 && said["groups"] == json!(["group", "group/sub"]), "{said}");
        ensure!(said["scoped"] == "d" && said["several"] == 409 && said["group"] == "g", "{said}");
        ensure!(said["missing"] == json!([404, "404 Variable Not Found"]), "{}", said["missing"]);
        ensure!(said["no_project"] == json!([404, "404 Project Not Found"]), "{}", said["no_project"]);
        ensure!(said["denied"] == 401, "{said}");
        let made = client.fake().get("MADE", "prod").context("it did not create")?;
        ensure!(made["value"] == "two" && made["masked"] == true, "{made}");
        ensure!(client.fake().get("SCOPED", "dev").is_none() && client.fake().get("SCOPED", "prod").is_some(), "deletion");
        Ok(())
    })
}
