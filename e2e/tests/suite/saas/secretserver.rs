//! Delinea Secret Server.

use keyferry_fakes::secretserver::{DOMAIN, PASSWORD, SecretServer, TEMPLATE, USER};

use super::*;
use crate::canary::value;
use crate::lab::{eventually, one};

fn store(url: &str) -> Value {
    json!({"secretserver": {
        "serverURL": url, "domain": DOMAIN, "username": {"value": USER},
        "password": {"secretRef": {"name": "login", "key": "password"}},
    }})
}

#[test]
fn secrets_are_read() -> Result<()> {
    let fake = SecretServer::default();
    let folder = fake.folder("/apps");
    fake.put(folder, "db", &[("User name", &value("user")), ("Password", &value("password"))]);
    fake.put(folder, "json", &[("Data", &json!({"a": value("a")}).to_string())]);
    with_service("secretserver", fake, async |bench| {
        bench.store(store(bench.service.url()), &[("password", PASSWORD)]).await?;
        let password = value("password");
        let part = |key: &str| json!({"data": [{"secretKey": "key", "remoteRef": {"key": key, "property": "password"}}]});
        bench.brings("get", part("/apps/db"), &[("key", &password)]).await?;
        bench.brings("name", part("db"), &[("key", &password)]).await?;
        bench.brings("extract", json!({"dataFrom": [{"extract": {"key": "json"}}]}), &[("a", &value("a"))]).await?;
        let message = bench.fails("missing", part("/apps/none")).await?;
        ensure!(message.contains("Secret does not exist: \"/apps/none\""), "{message}");
        let message = bench.recovers("denied", part("/apps/db"), &[("key", &password)]).await?;
        ensure!(message.contains("Secret Server") && message.contains("403"), "{message}");
        bench.service.fake.end_tokens();
        bench.read_again("get").await?;
        bench.ns.wait_synced("get").await
    })
}

#[test]
fn fields_are_written() -> Result<()> {
    let fake = SecretServer::default();
    let folder = fake.folder("/apps");
    with_service("secretserver-push", fake, async |bench| {
        bench.store(store(bench.service.url()), &[("password", PASSWORD)]).await?;
        let pushed = value("pushed");
        let metadata = json!({
            "apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": "PushSecretMetadata",
            "spec": {"folderId": folder, "secretTemplateId": TEMPLATE},
        });
        let place = json!({"secretKey": "v", "remoteRef": {"remoteKey": "/apps/new", "property": "password"}});
        let spec = json!({"data": [{"match": place, "metadata": metadata}], "refreshInterval": "1s"});
        let writes = bench.writes();
        bench.pushes("push", &[("v", &pushed)], spec).await?;
        let there = || bench.service.fake.value("new", "password");
        ensure!(there().as_deref() == Some(&pushed), "another value");
        let looks = bench.service.server.received().len();
        eventually("it is looked at again", async || Ok(bench.service.server.received().len() > looks + 2)).await?;
        ensure!(bench.writes() == writes + 1, "written {} times", bench.writes() - writes);
        bench.takes_back("push").await?;
        ensure!(there().is_none(), "it is still there");
        let message = bench.fails("gone", json!({"data": one("key", "/apps/new")})).await?;
        ensure!(message.contains("Secret does not exist"), "{message}");
        Ok(())
    })
}

#[test]
fn the_vendors_client_agrees() -> Result<()> {
    let fake = SecretServer::default();
    let folder = fake.folder("/apps");
    let id = fake.put(folder, "db", &[("User name", "ann"), ("Password", "p")]);
    with_client(fake, async |client| {
        let said = client.run("delinea_server", &[USER, PASSWORD, DOMAIN, &id.to_string(), "/apps/db"]).await?;
        let expected = json!({
            "name": "db", "fields": {"user-name": "ann", "password": "p"}, "by path": id, "found": [id],
            "missing": "SecretServerClientError", "denied": "SecretServerClientError",
        });
        ensure!(said == expected, "{said}");
        Ok(())
    })
}
