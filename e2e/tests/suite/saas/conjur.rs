//! CyberArk Conjur.

use keyferry_fakes::conjur::{ACCOUNT, API_KEY, Conjur, HOST, SERVICE};

use super::*;
use crate::canary::value;
use crate::lab::one;

const LOGIN: &[(&str, &str)] = &[("user", HOST), ("key", API_KEY)];

fn store(url: &str) -> Value {
    let key = |key: &str| json!({"name": "login", "key": key});
    let auth = json!({"apikey": {"account": ACCOUNT, "userRef": key("user"), "apiKeyRef": key("key")}});
    json!({"conjur": {"url": url, "auth": auth}})
}

fn holding_canaries() -> Conjur {
    let service = Conjur::default();
    service.put("apps/key", value("key"));
    service.put("apps/db", json!({"user": value("user"), "login": {"password": value("password")}}).to_string());
    service.declare("apps/key", &BTreeMap::from([("team".to_owned(), "a".to_owned())]));
    service
}

#[test]
fn variables_are_read() -> Result<()> {
    with_service("conjur", holding_canaries(), async |bench| {
        bench.store(store(bench.service.url()), LOGIN).await?;
        let (key, user, password) = (value("key"), value("user"), value("password"));
        bench.brings("get", json!({"data": one("key", "apps/key")}), &[("key", &key)]).await?;
        let part = json!({"data": [{"secretKey": "key", "remoteRef": {"key": "apps/db", "property": "login.password"}}]});
        bench.brings("property", part, &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "apps/db"}}]});
        let login = json!({"password": password}).to_string();
        bench.brings("extract", extract, &[("user", &user), ("login", &login)]).await?;
        let find = json!({"dataFrom": [{"find": {"tags": {"team": "a"}}}]});
        bench.brings("find", find, &[("apps_key", &key)]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "apps/none")})).await?;
        ensure!(message.contains("Secret does not exist: \"apps/none\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "apps/key")}), &[("key", &key)]).await?;
        ensure!(message.contains("Conjur") && message.contains("403"), "{message}");
        bench.service.fake.end_tokens();
        bench.service.fake.put("apps/key", value("second"));
        bench.read_again("get").await?;
        bench.ns.wait_secret("get", |data| data["key"] == value("second")).await.map(drop)
    })
}

#[test]
fn a_service_account_logs_in() -> Result<()> {
    with_service("conjur-jwt", holding_canaries(), async |bench| {
        bench.ns.kubectl(&["create", "serviceaccount", "app"]).await?;
        let jwt = json!({"account": ACCOUNT, "serviceID": SERVICE, "serviceAccountRef": {"name": "app"}});
        bench.store(json!({"conjur": {"url": bench.service.url(), "auth": {"jwt": jwt}}}), &[]).await?;
        bench.brings("get", json!({"data": one("key", "apps/key")}), &[("key", &value("key"))]).await?;
        ensure!(bench.service.fake.jwts().len() == 1, "{} logins", bench.service.fake.jwts().len());
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let service = Conjur::default();
    for (name, held) in [("apps/db", "1"), ("apps/new", "1"), ("apps/secret", "x")] {
        service.put(name, held);
    }
    service.deny("apps/secret");
    with_client(service, async |client| {
        let said = client.run("conjur", &[ACCOUNT, HOST, API_KEY]).await?;
        let expected = json!({
            "denied": 401, "missing": 404, "forbidden": 403, "get": "1", "new": "2", "first": "1",
            "many": {"apps/db": "1", "apps/new": "2"}, "many, one missing": 404,
            "list": ["shop:variable:apps/new", "shop:variable:apps/secret"], "who": HOST,
        });
        ensure!(said == expected, "{said}");
        ensure!(client.fake().value("apps/new").as_deref() == Some("2"), "it did not write");
        Ok(())
    })
}
