//! Delinea DevOps Secrets Vault.

use keyferry_fakes::delinea::{CLIENT_ID, CLIENT_SECRET, Delinea};

use super::*;
use crate::canary::value;
use crate::lab::one;

fn store(url: &str) -> Value {
    json!({"delinea": {
        "tenant": "shop", "urlTemplate": format!("{url}/%s/%s/v1/%s%s"),
        "clientId": {"value": CLIENT_ID}, "clientSecret": {"secretRef": {"name": "login", "key": "secret"}},
    }})
}

#[test]
fn a_vault_is_read() -> Result<()> {
    let fake = Delinea::default();
    fake.put("app/db", &json!({"user": value("user"), "password": value("password")}));
    with_service("delinea", fake, async |bench| {
        bench.store(store(bench.service.url()), &[("secret", CLIENT_SECRET)]).await?;
        let (user, password) = (value("user"), value("password"));
        let whole = json!({"password": password, "user": user}).to_string();
        bench.brings("get", json!({"data": one("key", "app/db")}), &[("key", &whole)]).await?;
        let part = |key: &str| json!({"data": [{"secretKey": "key", "remoteRef": {"key": key, "property": "password"}}]});
        bench.brings("property", part("app/db"), &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "app/db"}}]});
        bench.brings("extract", extract, &[("user", &user), ("password", &password)]).await?;
        let message = bench.fails("missing", part("app/none")).await?;
        ensure!(message.contains("Secret does not exist: \"app/none\""), "{message}");
        let message = bench.recovers("denied", part("app/db"), &[("key", &password)]).await?;
        ensure!(message.contains("DevOps Secrets Vault") && message.contains("403"), "{message}");
        bench.service.fake.end_tokens();
        bench.service.fake.put("app/db", &json!({"password": value("second")}));
        bench.read_again("property").await?;
        bench.ns.wait_secret("property", |data| data["key"] == value("second")).await.map(drop)
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let fake = Delinea::default();
    fake.put("app/db", &json!({"user": "ann", "port": 5432}));
    with_client(fake, async |client| {
        let said = client.run("delinea_vault", &[CLIENT_ID, CLIENT_SECRET]).await?;
        let expected = json!({"data": {"user": "ann", "port": 5432}, "version": "1", "denied": 401, "missing": 404});
        ensure!(said == expected, "{said}");
        Ok(())
    })
}
