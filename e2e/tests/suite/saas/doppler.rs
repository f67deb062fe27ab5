//! Doppler.

use keyferry_fakes::doppler::{CONFIG, Doppler, IDENTITY, PERSONAL_TOKEN, PROJECT, SERVICE_TOKEN};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

fn token(key: &str) -> Value {
    json!({"doppler": {"auth": {"secretRef": {"dopplerToken": {"name": "login", "key": key}}}}})
}

fn holding_canaries() -> Doppler {
    let json = json!({"user": value("user"), "login": {"password": value("password")}}).to_string();
    Doppler::new([("API_KEY", value("key")), ("DB", json), ("DB_HOST", value("host"))])
}

#[test]
fn a_config_is_read() -> Result<()> {
    with_service_at("doppler", holding_canaries(), "DOPPLER_BASE_URL", async |bench| {
        bench.store(token("dopplerToken"), &[("dopplerToken", SERVICE_TOKEN)]).await?;
        let (key, user, password, host) = (value("key"), value("user"), value("password"), value("host"));
        bench.brings("get", json!({"data": one("key", "API_KEY")}), &[("key", &key)]).await?;
        let part = json!({"data": [{"secretKey": "key", "remoteRef": {"key": "DB", "property": "login.password"}}]});
        bench.brings("property", part, &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "DB"}}]});
        let login = json!({"password": password}).to_string();
        bench.brings("extract", extract, &[("user", &user), ("login", &login)]).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "HOST$"}, "path": "DB"}}]});
        bench.brings("find", find, &[("DB_HOST", &host)]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "NONE")})).await?;
        ensure!(message.contains("Secret does not exist: \"NONE\""), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "DB_HOST")}), &[("key", &host)]).await?;
        ensure!(message.contains("Doppler") && message.contains("403"), "{message}");

        // What has not changed comes without a body, and what has is seen.
        bench.service.fake.set("API_KEY", &value("second"));
        bench.read_again("get").await?;
        bench.ns.wait_secret("get", |data| data["key"] == value("second")).await?;
        let reads = bench.service.server.received();
        ensure!(reads.iter().skip(1).any(|asked| !asked.header("if-none-match").is_empty()), "no tag was shown");
        Ok(())
    })
}

#[test]
fn a_config_is_written() -> Result<()> {
    with_service_at("doppler-push", Doppler::default(), "DOPPLER_BASE_URL", async |bench| {
        bench.store(token("dopplerToken"), &[("dopplerToken", SERVICE_TOKEN)]).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "PUSHED"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        ensure!(bench.service.fake.get("PUSHED").as_deref() == Some(&pushed), "another value");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        ensure!(bench.writes() == 1, "written {} times", bench.writes());
        bench.takes_back("push").await?;
        ensure!(bench.service.fake.get("PUSHED").is_none(), "it is still there");
        Ok(())
    })
}

#[test]
fn a_service_account_logs_in() -> Result<()> {
    with_service_at("doppler-oidc", holding_canaries(), "DOPPLER_BASE_URL", async |bench| {
        bench.ns.kubectl(&["create", "serviceaccount", "app"]).await?;
        let auth = json!({"oidcConfig": {"identity": IDENTITY, "serviceAccountRef": {"name": "app"}}});
        let store =
            json!({"doppler": {"auth": auth, "project": PROJECT, "config": CONFIG, "nameTransformer": "lower-kebab"}});
        bench.store(store, &[]).await?;
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "key"}}}]});
        bench.brings("find", find, &[("api-key", &value("key"))]).await?;
        let logins = bench.service.fake.logins();
        ensure!(logins.len() == 1, "{} logins", logins.len());
        // The real API server made the token, for Doppler and for this store.
        let claims = claims(&logins[0])?;
        let audiences = json!([bench.service.url(), format!("secretStore:{}:store", bench.ns.name)]);
        ensure!(claims["aud"] == audiences, "{}", claims["aud"]);
        ensure!(claims["sub"] == format!("system:serviceaccount:{}:app", bench.ns.name), "{}", claims["sub"]);
        Ok(())
    })
}

fn claims(token: &str) -> Result<Value> {
    use base64::Engine as _;
    let part = token.split('.').nth(1).context("no token")?;
    Ok(serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part)?)?)
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    with_client(Doppler::new([("ALGOLIA", "1"), ("DATABASE", "${ALGOLIA}2")]), async |client| {
        let said = client.run("doppler", &[PERSONAL_TOKEN, PROJECT, CONFIG]).await?;
        ensure!(said["download"] == json!(["3", "1", "12"]), "{}", said["download"]);
        ensure!(said["get"] == json!(["${ALGOLIA}2", "12"]), "{}", said["get"]);
        ensure!(said["env"].as_str().is_some_and(|text| text.contains("database=\"12\"\n")), "{}", said["env"]);
        ensure!(said["names"].as_array().is_some_and(|names| names.len() == 6), "{}", said["names"]);
        ensure!(said["missing"] == 404 && said["denied"] == 401, "{said}");
        let left = ["ALGOLIA", "DATABASE", "STRIPE"].map(|name| client.fake().get(name));
        ensure!(left == [None, None, Some("3".to_owned())], "it did not delete or write");
        Ok(())
    })
}
