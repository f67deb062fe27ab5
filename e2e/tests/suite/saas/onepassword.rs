//! 1Password Connect.

use keyferry_fakes::onepassword::{OnePassword, TOKEN, VAULTS};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

fn provider(url: &str) -> Value {
    let token = json!({"name": "login", "key": "token"});
    let vaults = json!({"prod": 1, "shared": 2});
    json!({"onepassword": {"connectHost": url, "vaults": vaults, "auth": {"secretRef": {"connectTokenSecretRef": token}}}})
}

fn holding_canaries() -> OnePassword {
    let connect = OnePassword::default();
    let db = connect.put("shared", "db", &["team"], &[("user", &value("user")), ("password", &value("password"))]);
    connect.attach(&db, "ca.crt", value("file").as_bytes(), false);
    connect.put("prod", "other", &[], &[("password", &value("other"))]);
    connect
}

#[test]
fn items_are_read() -> Result<()> {
    with_service("onepassword", holding_canaries(), async |bench| {
        bench.store(provider(bench.service.url()), &[("token", TOKEN)]).await?;
        let (user, password, file) = (value("user"), value("password"), value("file"));
        bench.brings("get", json!({"data": one("key", "db")}), &[("key", &password)]).await?;
        let part =
            |property: &str| json!({"data": [{"secretKey": "key", "remoteRef": {"key": "db", "property": property}}]});
        bench.brings("property", part("user"), &[("key", &user)]).await?;
        bench.brings("file", part("file/ca.crt"), &[("key", &file)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "db"}}]});
        bench.brings("extract", extract, &[("user", &user), ("password", &password)]).await?;
        let find = json!({"dataFrom": [{"find": {"tags": {"team": ""}, "name": {"regexp": "^(user|ca)"}}}]});
        bench.brings("find", find, &[("user", &user), ("ca.crt", &file)]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "none")})).await?;
        ensure!(message.contains("Secret does not exist: \"none\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "other")}), &[("key", &value("other"))]).await?;
        ensure!(message.contains("1Password") && message.contains("403"), "{message}");
        Ok(())
    })
}

#[test]
fn items_are_written() -> Result<()> {
    with_service("onepassword-push", holding_canaries(), async |bench| {
        bench.store(provider(bench.service.url()), &[("token", TOKEN)]).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "pushed"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let held = || bench.service.fake.get("pushed");
        ensure!(held().is_some_and(|item| item["fields"][0]["value"] == pushed), "another value");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 4)).await?;
        ensure!(bench.writes() == 1, "written {} times", bench.writes());
        bench.takes_back("push").await?;
        ensure!(held().is_none(), "it is still there");
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let connect = OnePassword::default();
    let db = connect.put("prod", "db", &["team"], &[("user", "u"), ("password", "p")]);
    connect.attach(&db, "ca.crt", b"ca", false);
    with_client(connect, async |client| {
        let said = client.run("onepassword", &[TOKEN]).await?;
        ensure!(said["vaults"] == json!(VAULTS.map(|(id, name)| [id, name])), "{}", said["vaults"]);
        ensure!(said["fields"] == json!({"user": "u", "password": "p"}) && said["tags"] == json!(["team"]), "{said}");
        ensure!(said["file"] == json!(["ca.crt", "ca"]), "{}", said["file"]);
        ensure!(said["summary"] == true && said["missing"] == 404 && said["denied"] == true, "{said}");
        let made = client.fake().get("made").context("it did not create")?;
        ensure!(made["fields"][0]["value"] == "two" && made["version"] == 2, "{made}");
        ensure!(client.fake().get("db").is_none(), "it did not delete");
        Ok(())
    })
}
