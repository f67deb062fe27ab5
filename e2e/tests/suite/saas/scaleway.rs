//! Scaleway Secret Manager.

use keyferry_fakes::scaleway::{ACCESS_KEY, PROJECT, REGION, SECRET_KEY, Scaleway};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

const LOGIN: &[(&str, &str)] = &[("access", ACCESS_KEY), ("secret", SECRET_KEY)];

fn store(url: &str) -> Value {
    let key = |key: &str| json!({"secretRef": {"name": "login", "key": key}});
    json!({"scaleway": {
        "apiUrl": url, "region": REGION, "projectId": PROJECT, "accessKey": key("access"), "secretKey": key("secret"),
    }})
}

#[test]
fn a_project_is_read() -> Result<()> {
    let (token, user, password) = (value("token"), value("user"), value("password"));
    let service = Scaleway::default();
    service.put("/team", "token", value("old").as_bytes(), &[], None);
    service.put("/team", "token", token.as_bytes(), &[], None);
    service.put("/", "other", user.as_bytes(), &[], None);
    let db = json!({"user": user, "login": {"password": password}}).to_string();
    service.put("/team", "db", db.as_bytes(), &["env=prod".to_owned()], None);
    with_service("scaleway", service, async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        bench.brings("get", json!({"data": one("v", "path:/team/token")}), &[("v", &token)]).await?;
        bench.brings("name", json!({"data": one("v", "name:token")}), &[("v", &token)]).await?;
        let of = |remote: Value| json!({"data": [{"secretKey": "v", "remoteRef": remote}]});
        let first = of(json!({"key": "name:token", "version": "1"}));
        bench.brings("version", first, &[("v", &value("old"))]).await?;
        let part = of(json!({"key": "path:/team/db", "property": "login.password"}));
        bench.brings("property", part, &[("v", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "name:db"}}]});
        let login = json!({"password": password}).to_string();
        bench.brings("extract", extract, &[("user", &user), ("login", &login)]).await?;
        let find = json!({"dataFrom": [{"find": {"path": "/team", "name": {"regexp": "^tok"}}}]});
        bench.brings("find", find, &[("token", &token)]).await?;
        let find = json!({"dataFrom": [{"find": {"tags": {"env": "prod"}}}]});
        bench.brings("find-tags", find, &[("db", &db)]).await?;
        let message = bench.fails("missing", json!({"data": one("v", "name:none")})).await?;
        ensure!(message.contains("Secret does not exist: \"name:none\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("v", "name:other")}), &[("v", &user)]).await?;
        ensure!(message.contains("Scaleway") && message.contains("403"), "{message}");
        Ok(())
    })
}

#[test]
fn a_project_is_written() -> Result<()> {
    with_service("scaleway-push", Scaleway::default(), async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let pushed = value("pushed");
        let writes = bench.writes();
        let spec = json!({"data": to_place("v", "path:/team/new"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let there = || bench.service.fake.versions("/team", "new");
        ensure!(there() == [(pushed.clone().into_bytes(), true)], "another value");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 4)).await?;
        ensure!(
            bench.writes() == writes + 2,
            "written {} times, and not as a secret and its version",
            bench.writes() - writes
        );
        bench.takes_back("push").await?;
        ensure!(there().is_empty(), "it is still there");
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let service = Scaleway::default();
    service.put("/", "old", b"x", &[], None);
    for number in 0..60 {
        service.put("/many", &format!("n{number}"), b"x", &[], None);
    }
    with_client(service, async |client| {
        let said = client.run("scaleway_", &[ACCESS_KEY, SECRET_KEY, PROJECT, REGION]).await?;
        let expected = json!({
            "denied": 401, "missing": 404, "by id": "two", "by path": "two", "disabled": 412, "statuses": ["disabled", "enabled"],
            "in the folder": ["new"], "all": 61,
        });
        ensure!(said == expected, "{said}");
        let versions = client.fake().versions("/team", "new");
        ensure!(versions == [(b"one".to_vec(), false), (b"two".to_vec(), true)], "it did not write");
        Ok(())
    })
}
