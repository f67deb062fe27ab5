//! Pulumi ESC.

use keyferry_fakes::pulumi::{ENVIRONMENT, ORGANIZATION, PROJECT, Pulumi, TOKEN};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

fn store(url: &str) -> Value {
    json!({"pulumi": {
        "apiUrl": format!("{url}/api/esc"), "organization": ORGANIZATION, "project": PROJECT, "environment": ENVIRONMENT,
        "auth": {"accessToken": {"secretRef": {"name": "login", "key": "token"}}},
    }})
}

#[test]
fn an_environment_is_read() -> Result<()> {
    let (user, password, token) = (value("user"), value("password"), value("token"));
    let service = Pulumi::new(json!({
        "db": {"user": user, "password": {"fn::secret": password}}, "mail-token": {"fn::secret": token},
    }));
    with_service("pulumi", service, async |bench| {
        bench.store(store(bench.service.url()), &[("token", TOKEN)]).await?;
        bench.brings("get", json!({"data": one("v", "db.password")}), &[("v", &password)]).await?;
        let part = json!({"data": [{"secretKey": "v", "remoteRef": {"key": "db", "property": "user"}}]});
        bench.brings("property", part, &[("v", &user)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "db"}}]});
        bench.brings("extract", extract, &[("user", &user), ("password", &password)]).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "^mail-"}}}]});
        bench.brings("find", find, &[("mail-token", &token)]).await?;
        let message = bench.fails("missing", json!({"data": one("v", "db.none")})).await?;
        ensure!(message.contains("Secret does not exist: \"db.none\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("v", "mail-token")}), &[("v", &token)]).await?;
        ensure!(message.contains("Pulumi") && message.contains("403"), "{message}");
        Ok(())
    })
}

#[test]
fn a_service_account_is_known_by_its_token() -> Result<()> {
    let token = value("token");
    with_service("pulumi-oidc", Pulumi::new(json!({"token": {"fn::secret": token}})), async |bench| {
        let mut provider = store(bench.service.url());
        let account = json!({"name": "default", "audiences": ["urn:pulumi:org:acme"]});
        provider["pulumi"]["auth"] = json!({"oidcConfig": {"organization": ORGANIZATION, "serviceAccountRef": account}});
        bench.store(provider, &[]).await?;
        bench.brings("get", json!({"data": one("v", "token")}), &[("v", &token)]).await?;
        let exchanged = bench.service.fake.exchanged();
        ensure!(exchanged.len() == 1, "{} logins", exchanged.len());
        Ok(())
    })
}

#[test]
fn an_environment_is_written() -> Result<()> {
    let theirs = json!({"values": {"db": {"user": "ann", "old": {"fn::secret": "theirs"}}}});
    let service = Pulumi::new(json!({}));
    service.define(theirs.clone());
    with_service("pulumi-push", service, async |bench| {
        bench.store(store(bench.service.url()), &[("token", TOKEN)]).await?;
        let pushed = value("pushed");
        let writes = bench.writes();
        let spec = json!({"data": to_place("v", "db.password"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let mut expected = theirs.clone();
        expected["values"]["db"]["password"] = json!({"fn::secret": pushed});
        ensure!(bench.service.fake.definition() == expected, "another definition");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        ensure!(bench.writes() == writes + 1, "written {} times", bench.writes() - writes);
        bench.takes_back("push").await?;
        ensure!(bench.service.fake.definition() == theirs, "something is left");
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let service = Pulumi::new(json!({"db": {"user": "ann", "password": {"fn::secret": "pw"}, "ports": [1, 2]}}));
    service.tag_older("stable", json!({"old": true}));
    with_client(service, async |client| {
        let said = client.run("pulumi", &[TOKEN, ORGANIZATION, PROJECT, ENVIRONMENT]).await?;
        let values = json!({"db": {"user": "ann", "password": "pw", "ports": [1, 2]}});
        let mut after = values.clone();
        after["new"] = "made".into();
        let expected = json!({
            "denied": 401, "missing": 404, "values": values, "property": "pw", "is encrypted": ["ciphertext"], "decrypted": "pw",
            "after": after, "older": {"old": true},
        });
        ensure!(said == expected, "{said}");
        let definition = client.fake().definition();
        ensure!(definition["values"]["new"] == json!({"fn::secret": "made"}), "it did not write");
        ensure!(definition["values"]["db"]["password"] == json!({"fn::secret": "pw"}), "what was there is another now");
        Ok(())
    })
}
