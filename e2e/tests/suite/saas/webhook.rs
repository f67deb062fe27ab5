//! Webhook. There is no vendor, so no client of one: the service is plain HTTP.

use keyferry_fakes::webhook::{KEY, Webhook};

use super::*;
use crate::canary::value;
use crate::lab::{one, to_place};

/// A store on a service at a URL, whose key is in the Secret `name`.
fn provider(url: &str, name: &str) -> Value {
    json!({"webhook": {
        "url": format!("{url}/secrets/{{{{ or .remoteRef.remoteKey .remoteRef.key }}}}"),
        "headers": {"X-Api-Key": "{{ .auth.key }}"},
        "result": {"jsonPath": "$.value{{ with .remoteRef.property }}['{{ . }}']{{ end }}"},
        "secrets": [{"name": "auth", "secretRef": {"name": name}}],
    }})
}

fn holding_canaries() -> Webhook {
    Webhook::new([
        ("plain".to_owned(), String::new(), json!(value("plain"))),
        ("other".to_owned(), String::new(), json!(value("other"))),
        ("db".to_owned(), String::new(), json!({"user": value("user"), "password": value("password"), "port": 5432})),
    ])
}

/// The store `store`, with a Secret that says that it may be sent.
async fn store(bench: &Bench<'_, Webhook>) -> Result<()> {
    let labels = json!({"external-secrets.io/type": "webhook"});
    bench.secret("key", labels, &[("key", KEY)]).await?;
    bench.store(provider(bench.service.url(), "key"), &[]).await
}

#[test]
fn a_service_is_read() -> Result<()> {
    with_service("webhook-store", holding_canaries(), async |bench| {
        store(bench).await?;
        let (plain, user, password) = (value("plain"), value("user"), value("password"));
        bench.brings("get", json!({"data": one("key", "plain")}), &[("key", &plain)]).await?;
        let part = json!({"data": [{"secretKey": "key", "remoteRef": {"key": "db", "property": "password"}}]});
        bench.brings("property", part, &[("key", &password)]).await?;
        let extract = json!({"dataFrom": [{"extract": {"key": "db"}}]});
        bench.brings("extract", extract, &[("user", &user), ("password", &password), ("port", "5432")]).await?;
        let message = bench.fails("missing", json!({"data": one("key", "none")})).await?;
        ensure!(message.contains("Secret does not exist: \"none\""), "{message}");
        let find = json!({"dataFrom": [{"find": {"name": {"regexp": "x"}}}]});
        let message = bench.fails("find", find).await?;
        ensure!(message.contains("cannot find secrets"), "{message}");
        let message = bench.recovers("denied", json!({"data": one("key", "other")}), &[("key", &value("other"))]).await?;
        ensure!(message.contains("webhook") && message.contains("403"), "{message}");
        Ok(())
    })
}

#[test]
fn a_service_is_written() -> Result<()> {
    with_service("webhook-push", Webhook::default(), async |bench| {
        store(bench).await?;
        let pushed = value("pushed");
        bench.pushes("push", &[("v", &pushed)], json!({"data": to_place("v", "pushed")})).await?;
        ensure!(bench.service.fake.get("pushed") == Some(json!(pushed)), "another value");
        bench.takes_back("push").await?;
        ensure!(bench.service.fake.get("pushed").is_none(), "it is still there");
        Ok(())
    })
}

/// A tenant gets neither a Secret that is not for it nor an address beside the operator.
#[test]
fn a_tenant_reaches_nothing_of_others() -> Result<()> {
    with_service("webhook-tenant", Webhook::default(), async |bench| {
        bench.secret("unlabelled", json!({}), &[("key", &value("theirs"))]).await?;
        apply(bench.ns, lab::store("store", provider(bench.service.url(), "unlabelled"))).await?;
        let message = bench.ns.wait_ready(SECRET_STORE, "store", "False", "InvalidProviderConfig").await?;
        ensure!(message.contains("does not carry the label"), "{message}");
        let asked: Vec<_> = bench.service.server.lines();
        ensure!(asked.is_empty(), "{asked:?}");
        Ok(())
    })?;
    with_lab("webhook-local-store", async |ns| {
        let service = Service::start(holding_canaries()).await;
        let _operator = operator_with(ns, &[], &[]).await?;
        for url in [service.url(), "http://169.254.169.254/latest", "http://[fd00:ec2::254]/latest", "http://localhost:1"] {
            let spec = json!({"webhook": {"url": url, "result": {}}});
            apply(ns, lab::store("store", spec)).await?;
            let refused = |object: Option<&Value>| {
                let generation = object.map_or(&Value::Null, |object| &object["metadata"]["generation"]);
                let (_, _, message) = object.map(lab::ready).unwrap_or_default();
                !generation.is_null() && message.contains("which is not allowed")
            };
            ns.wait(SECRET_STORE, "store", refused).await.with_context(|| url.to_owned())?;
        }
        ensure!(service.server.lines().is_empty(), "the service was asked");
        Ok(())
    })
}
