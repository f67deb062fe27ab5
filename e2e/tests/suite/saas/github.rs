//! GitHub, which is written to and never read.

use keyferry_fakes::github::{APP, APP_KEY, Github, INSTALLATION, ORGANIZATION};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one, to_place};

fn provider(url: &str, more: Value) -> Value {
    let key = json!({"name": "login", "key": "pem"});
    let mut block = json!({
        "url": url, "appID": APP, "installationID": INSTALLATION, "organization": ORGANIZATION, "auth": {"privateKey": key},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        block[field] = value.clone();
    }
    json!({"github": block})
}

#[test]
fn secrets_of_actions_are_written() -> Result<()> {
    with_service("github", Github::default(), async |bench| {
        let more = json!({"repository": "app", "environment": "prod"});
        bench.store(provider(bench.service.url(), more), &[("pem", &APP_KEY.0)]).await?;
        let pushed = value("pushed");
        let spec = json!({"data": to_place("v", "PUSHED"), "refreshInterval": "1s"});
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let held = || bench.service.fake.get("repos/acme/app/environments/prod", "PUSHED");
        ensure!(held().as_deref() == Some(&pushed), "another value");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        let puts = bench.service.server.received().iter().filter(|asked| asked.method() == "PUT").count();
        ensure!(puts == 1, "written {puts} times");
        // What somebody else writes over it is written again.
        bench.service.fake.put("repos/acme/app/environments/prod", "PUSHED", "drift");
        eventually("it is put right", async || Ok(held().as_deref() == Some(&pushed))).await?;
        bench.takes_back("push").await?;
        ensure!(held().is_none(), "it is still there");
        let message = bench.fails("read", json!({"data": one("key", "PUSHED")})).await?;
        ensure!(message.contains("this provider supports write-only operations"), "{message}");
        ensure!(bench.service.fake.logins() == 1, "{} logins", bench.service.fake.logins());
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    with_client(Github::default(), async |client| {
        let key = APP_KEY.0.as_str();
        let said = client.run("github", &[&APP.to_string(), &INSTALLATION.to_string(), key, ORGANIZATION]).await?;
        ensure!(
            said == json!({"organization": ["ORG"], "repository": ["REPO"], "environment": ["ENV"], "missing": 404}),
            "{said}"
        );
        for (place, name, expected) in [
            ("orgs/acme/actions", "ORG", Some("käse")),
            ("repos/acme/app/actions", "REPO", Some("two")),
            ("repos/acme/app/environments/prod", "ENV", Some("three")),
            ("repos/acme/app/actions", "GONE", None),
        ] {
            ensure!(client.fake().get(place, name).as_deref() == expected, "{place} {name}");
        }
        ensure!(client.fake().access("ORG").is_some_and(|(visibility, _)| visibility == "all"), "another visibility");
        Ok(())
    })
}
