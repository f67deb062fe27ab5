//! IBM Cloud Secrets Manager.

use keyferry_fakes::ibm::{API_KEY, Ibm};

use super::*;
use crate::canary::value;
use crate::lab::one;

fn store(url: &str) -> Value {
    let key = json!({"name": "login", "key": "key"});
    json!({"ibm": {"serviceUrl": url, "auth": {"secretRef": {"secretApiKeySecretRef": key, "iamEndpoint": url}}}})
}

#[test]
fn an_instance_is_read() -> Result<()> {
    let (token, user, password) = (value("token"), value("user"), value("password"));
    let service = Ibm::default();
    service.put("team", "arbitrary", "mail-token", json!({"payload": token}));
    service.put("team", "username_password", "login", json!({"username": user, "password": password}));
    service.put("team", "kv", "map", json!({"data": {"user": user, "in": {"side": password}}}));
    service.put("team", "arbitrary", "other", json!({"payload": user}));
    let id = service.put("default", "arbitrary", "plain", json!({"payload": token}));
    with_service("ibm", service, async |bench| {
        bench.store(store(bench.service.url()), &[("key", API_KEY)]).await?;
        bench.brings("get", json!({"data": one("v", "team/arbitrary/mail-token")}), &[("v", &token)]).await?;
        bench.brings("by-id", json!({"data": one("v", &id)}), &[("v", &token)]).await?;
        bench.brings("default-group", json!({"data": one("v", "plain")}), &[("v", &token)]).await?;
        let part = json!({"data": [{"secretKey": "v", "remoteRef": {"key": "team/kv/map", "property": "in.side"}}]});
        bench.brings("property", part, &[("v", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "team/username_password/login"}}]});
        bench.brings("extract", extract, &[("username", &user), ("password", &password)]).await?;
        let find = json!({"dataFrom": [{"find": {"path": "team", "name": {"regexp": "^mail-"}}}]});
        bench.brings("find", find, &[("mail-token", &token)]).await?;
        let message = bench.fails("missing", json!({"data": one("v", "team/arbitrary/none")})).await?;
        ensure!(message.contains("Secret does not exist: \"team/arbitrary/none\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("v", "team/arbitrary/other")}), &[("v", &user)]).await?;
        ensure!(message.contains("IBM Secrets Manager") && message.contains("403"), "{message}");

        // One login for all of it, and a new one when the token ends.
        let logins = || bench.service.server.lines().iter().filter(|line| line.ends_with("/identity/token")).count();
        let before = logins();
        bench.service.fake.end_tokens();
        let second = value("second");
        bench.service.fake.put("default", "arbitrary", "plain", json!({"payload": second}));
        bench.read_again("default-group").await?;
        bench.ns.wait_secret("default-group", |data| data["v"] == second).await?;
        ensure!(logins() == before + 1, "{} logins after {before}", logins());
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let service = Ibm::default();
    service.put("team", "kv", "map", json!({"data": {"a": 1}}));
    service.put("team", "username_password", "login", json!({"username": "ann", "password": "pw"}));
    service.put("team", "arbitrary", "versioned", json!({"payload": "one"}));
    service.put("team", "arbitrary", "versioned", json!({"payload": "two"}));
    for number in 0..60 {
        service.put("default", "arbitrary", &format!("n{number}"), json!({"payload": "x"}));
    }
    with_client(service, async |client| {
        let said = client.run("ibm", &[API_KEY]).await?;
        let expected = json!({
            "denied": 400, "missing": 404, "by id": "made", "kv": {"a": 1}, "login": "pw", "current": "two", "previous": "one",
            "groups": ["team", "default"], "listed": 64, "distinct": 64, "has values": false,
        });
        ensure!(said == expected, "{said}");
        ensure!(client.fake().payload("default", "NEW").as_deref() == Some("made"), "it did not write");
        Ok(())
    })
}
