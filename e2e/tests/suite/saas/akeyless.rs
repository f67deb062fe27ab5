//! Akeyless.

use keyferry_fakes::akeyless::{ACCESS_ID, ACCESS_KEY, Akeyless, K8S_CONFIG};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

const LOGIN: &[(&str, &str)] = &[("id", ACCESS_ID), ("type", "api_key"), ("key", ACCESS_KEY)];

fn store(url: &str) -> Value {
    let key = |key: &str| json!({"name": "login", "key": key});
    let login = json!({"accessID": key("id"), "accessType": key("type"), "accessTypeParam": key("key")});
    json!({"akeyless": {"akeylessGWApiURL": url, "authSecretRef": {"secretRef": login}}})
}

fn holding_canaries() -> Akeyless {
    let service = Akeyless::default();
    let json = json!({"user": value("user"), "login": {"password": value("password")}}).to_string();
    service.put("/app/key", &value("key"), &["prod"]);
    service.put("/app/db", &json, &[]);
    service.put_item("ROTATED_SECRET", "/app/rotated", &json!({"value": {"payload": value("rotated")}}), &[]);
    service
}

#[test]
fn secrets_are_read() -> Result<()> {
    with_service("akeyless", holding_canaries(), async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let (key, user, password) = (value("key"), value("user"), value("password"));
        bench.brings("get", json!({"data": one("key", "/app/key")}), &[("key", &key)]).await?;
        bench.brings("rotated", json!({"data": one("key", "/app/rotated")}), &[("key", &value("rotated"))]).await?;
        let part = json!({"data": [{"secretKey": "key", "remoteRef": {"key": "/app/db", "property": "login.password"}}]});
        bench.brings("property", part, &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "/app/db"}}]});
        let login = json!({"password": password}).to_string();
        bench.brings("extract", extract, &[("user", &user), ("login", &login)]).await?;
        let find = json!({"dataFrom": [{"find": {"path": "app", "name": {"regexp": "key$"}}}]});
        bench.brings("find", find, &[("_app_key", &key)]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "/none")})).await?;
        ensure!(message.contains("Secret does not exist: \"/none\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "/app/key")}), &[("key", &key)]).await?;
        ensure!(message.contains("Akeyless") && message.contains("403"), "{message}");
        bench.service.fake.end_tokens();
        bench.service.fake.put("/app/key", &value("second"), &[]);
        bench.read_again("get").await?;
        bench.ns.wait_secret("get", |data| data["key"] == value("second")).await.map(drop)
    })
}

#[test]
fn secrets_are_written() -> Result<()> {
    with_service("akeyless-push", Akeyless::default(), async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "/app/pushed"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let there = || bench.service.fake.value("/app/pushed");
        ensure!(there().as_deref() == Some(&pushed), "another value");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 3)).await?;
        let lines = bench.service.server.lines();
        let writes =
            lines.iter().filter(|line| line.contains("create-secret") || line.contains("update-secret-val")).count();
        ensure!(writes == 1, "written {writes} times");
        bench.takes_back("push").await?;
        ensure!(there().is_none(), "it is still there");
        Ok(())
    })
}

#[test]
fn a_service_account_logs_in() -> Result<()> {
    with_service("akeyless-k8s", holding_canaries(), async |bench| {
        bench.ns.kubectl(&["create", "serviceaccount", "app"]).await?;
        let account = json!({"name": "app", "audiences": ["https://gateway.example"]});
        let auth = json!({"accessID": ACCESS_ID, "k8sConfName": K8S_CONFIG, "serviceAccountRef": account});
        let url = bench.service.url();
        let store = json!({"akeyless": {"akeylessGWApiURL": url, "authSecretRef": {"kubernetesAuth": auth}}});
        bench.store(store, &[]).await?;
        bench.brings("get", json!({"data": one("key", "/app/key")}), &[("key", &value("key"))]).await?;
        let jwts = bench.service.fake.jwts();
        ensure!(jwts.len() == 1, "{} logins", jwts.len());
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let service = Akeyless::default();
    service.put("/app/a", "1", &[]);
    service.put("/old", "x", &[]);
    service.put_item("DYNAMIC_SECRET", "/dynamic", &json!({"user": "u"}), &[]);
    service.put_item("ROTATED_SECRET", "/rotated", &json!({"value": {"payload": "p"}}), &[]);
    with_client(service, async |client| {
        let said = client.run("akeyless_client", &[ACCESS_ID, ACCESS_KEY]).await?;
        let expected = json!({
            "denied": 401, "missing": 404, "new": ["/new", "STATIC_SECRET", ["t"], 2],
            "get": {"/new": "2", "/app/a": "1"}, "first": {"/new": "1"},
            "dynamic": {"user": "u"}, "rotated": {"value": {"payload": "p"}}, "list": ["/app/a"],
        });
        ensure!(said == expected, "{said}");
        ensure!(client.fake().value("/old").is_none(), "it did not delete");
        Ok(())
    })
}
