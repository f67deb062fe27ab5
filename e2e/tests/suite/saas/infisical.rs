//! Infisical.

use keyferry_fakes::infisical::{
    ACCESS_TOKEN, AWS_KEY_ID, AWS_SECRET_KEY, CLIENT_ID, CLIENT_SECRET, IDENTITY, Infisical, JWT, PASSWORD, PROJECT,
};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

const LOGIN: &[(&str, &str)] = &[("id", CLIENT_ID), ("secret", CLIENT_SECRET)];

fn store(url: &str) -> Value {
    let key = |key: &str| json!({"name": "login", "key": key});
    json!({"infisical": {
        "hostAPI": url,
        "auth": {"universalAuthCredentials": {"clientId": key("id"), "clientSecret": key("secret")}},
        "secretsScope": {"projectSlug": PROJECT, "environmentSlug": "prod", "secretsPath": "/app"},
    }})
}

fn holding_canaries() -> Infisical {
    let service = Infisical::default();
    let json = json!({"user": value("user"), "login": {"password": value("password")}}).to_string();
    for (folder, name, held) in [
        ("/app", "API_KEY", value("key")),
        ("/app", "DB", json),
        ("/app", "HOST", value("host")),
        ("/other", "A", value("other")),
    ] {
        service.put("prod", folder, name, &held);
    }
    service
}

#[test]
fn an_environment_is_read() -> Result<()> {
    with_service("infisical", holding_canaries(), async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let (key, user, password, host) = (value("key"), value("user"), value("password"), value("host"));
        bench.brings("get", json!({"data": one("key", "API_KEY")}), &[("key", &key)]).await?;
        bench.brings("folder", json!({"data": one("key", "/other/A")}), &[("key", &value("other"))]).await?;
        let part = json!({"data": [{"secretKey": "key", "remoteRef": {"key": "DB", "property": "login.password"}}]});
        bench.brings("property", part, &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "DB"}}]});
        let login = json!({"password": password}).to_string();
        bench.brings("extract", extract, &[("user", &user), ("login", &login)]).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "^(API_KEY|HOST)$"}}}]});
        bench.brings("find", find, &[("API_KEY", &key), ("HOST", &host)]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "NONE")})).await?;
        ensure!(message.contains("Secret does not exist: \"NONE\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "HOST")}), &[("key", &host)]).await?;
        ensure!(message.contains("Infisical") && message.contains("403"), "{message}");

        // One login for all of it, and a new one when the token ends.
        let logins = || bench.service.server.lines().iter().filter(|line| line.ends_with("/login")).count();
        let before = logins();
        bench.service.fake.end_tokens();
        bench.service.fake.put("prod", "/app", "API_KEY", &value("second"));
        bench.read_again("get").await?;
        bench.ns.wait_secret("get", |data| data["key"] == value("second")).await?;
        ensure!(logins() == before + 1, "{} logins after {before}", logins());
        Ok(())
    })
}

#[test]
fn an_environment_is_written() -> Result<()> {
    with_service("infisical-push", Infisical::default(), async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "sub/PUSHED"), "refreshInterval": "1s"});
        let writes = bench.writes();
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let there = || bench.service.fake.value("prod", "/app/sub", "PUSHED");
        ensure!(there().as_deref() == Some(&pushed), "another value");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        ensure!(bench.writes() == writes + 1, "written {} times", bench.writes() - writes);
        bench.takes_back("push").await?;
        ensure!(there().is_none(), "it is still there");
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let service = Infisical::with_token_life(7200);
    for (folder, name, held) in [
        ("/app", "USER", "ann"),
        ("/app", "USER", "bea"),
        ("/app", "URL", "db://${USER}@${prod.shared.HOST}"),
        ("/app", "OLD", "x"),
        ("/app/sub", "DEEP", "d"),
        ("/shared", "HOST", "db.example"),
    ] {
        service.put("prod", folder, name, held);
    }
    service.import(["prod", "/app"], ["prod", "/shared"]);
    with_client(service, async |client| {
        let (universal, aws) = ([CLIENT_ID, CLIENT_SECRET], [AWS_KEY_ID, AWS_SECRET_KEY]);
        let others = [PROJECT, IDENTITY, JWT, PASSWORD, ACCESS_TOKEN];
        let said = client.run("infisical", &[&universal[..], &others[..], &aws[..]].concat()).await?;
        let expected = json!({
            "life": 7200, "denied": 401, "missing": 404,
            "get": "db://bea@db.example", "as written": "db://${USER}@${prod.shared.HOST}", "first version": "ann",
            "list": {"NEW": "2\n", "USER": "bea", "URL": "db://bea@db.example"}, "imports": {"HOST": "db.example"},
            "below": ["/app NEW", "/app URL", "/app USER", "/app/sub DEEP"],
            "logins": {"aws": "bea", "ldap": "bea", "oidc": "bea", "token": "bea"},
            "no logins": {"aws": [500, 500, 404], "ldap": [401], "oidc": [401, 404]},
        });
        ensure!(said == expected, "{said}");
        ensure!(client.fake().value("prod", "/app", "OLD").is_none(), "it did not delete");
        ensure!(client.fake().versions("prod", "/app", "NEW") == 2, "it did not write twice");
        Ok(())
    })
}
