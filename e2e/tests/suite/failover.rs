//! A store that is unavailable is read from another one, as its annotation says; one that refuses or has nothing is not.

use std::time::Duration;

use anyhow::{Context as _, Result};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::faults::{Fault, FaultProxy};
use keyferry_e2e::progress;
use serde_json::{Value, json};

use crate::lab::{
    EXTERNAL_SECRET, SECRET_STORE, apply, aws_store, eventually, external_secret, fake_store, objects, operator_with, patch,
    ready, with_lab,
};

const STAND_IN: &str = "is unavailable: read from SecretStore \"stand-in\"";

async fn told(ns: &Sandbox<'_>, name: &str, what: &str, is: impl Fn(&str, &str) -> bool) -> Result<Duration> {
    eventually(what, async || {
        let object = objects(ns, EXTERNAL_SECRET)
            .await?
            .into_iter()
            .find(|object| object["metadata"]["name"] == name)
            .context("gone")?;
        let (status, _, message) = ready(&object);
        Ok(is(&status, &message))
    })
    .await
}

fn from(key: &str, property: &str) -> Value {
    let data = [json!({"secretKey": "user", "remoteRef": {"key": key, "property": property}})];
    json!({"refreshInterval": "1s", "data": data, "target": {"deletionPolicy": "Delete"}})
}

#[test]
fn a_store_that_is_down_is_stood_in_for() -> Result<()> {
    with_lab("failover", async |ns| {
        let proxy = FaultProxy::start(ns.env.aws.endpoint()).await?;
        let args = ["--provider-timeout=3s", "--log-format=text"];
        let _operator = operator_with(ns, &args, &[("AWS_SECRETSMANAGER_ENDPOINT", proxy.endpoint())]).await?;
        let prefix = &ns.name;
        ns.aws().put_secret(&format!("{prefix}/both"), r#"{"user": "main"}"#).await?;
        ns.aws().put_secret(&format!("{prefix}/one"), r#"{"user": "alone"}"#).await?;
        ns.aws().put_secret(&format!("{prefix}/part"), r#"{"more": "kept"}"#).await?;
        aws_store(ns, &format!("{prefix}/*")).await?;
        let annotations = json!({"keyferry.io/failover": "nobody, stand-in"});
        let change = json!({"metadata": {"annotations": annotations}, "spec": {"provider": {"aws": {"prefix": format!("{prefix}/")}}}});
        patch(ns, SECRET_STORE, "store", change).await?;
        let stand_in = [("both", r#"{"user": "stand-in"}"#), ("part", r#"{"user": "stand-in"}"#)];
        apply(ns, fake_store("stand-in", &stand_in)).await?;
        for (key, property) in [("both", "user"), ("one", "user"), ("part", "more")] {
            apply(ns, external_secret(key, from(key, property))).await?;
            ns.wait_synced(key).await?;
        }
        ns.wait_secret("both", |data| data["user"] == "main").await?;

        proxy.set(Fault::ServerError);
        let took =
            told(ns, "both", "the stand-in is read from", |status, message| status == "True" && message.contains(STAND_IN))
                .await?;
        ns.wait_secret("both", |data| data["user"] == "stand-in").await?;
        ns.wait_event("ExternalSecret", "both", "Warning FailedOver").await?;
        told(ns, "one", "what the stand-in lacks fails as the store does", |status, message| {
            status == "False" && message.contains("InternalServiceError")
        })
        .await?;
        told(ns, "part", "so does a property that it lacks", |status, message| {
            status == "False" && message.contains("InternalServiceError")
        })
        .await?;
        for (name, value) in [("one", "alone"), ("part", "kept")] {
            assert_eq!(ns.secret(name).await?["user"], value, "the stand-in's \"not found\" deletes nothing");
        }

        proxy.set(Fault::None);
        let back =
            told(ns, "both", "the store is back", |status, message| status == "True" && message == "secret synced").await?;
        ns.wait_secret("both", |data| data["user"] == "main").await?;
        told(ns, "one", "the other is back", |status, _| status == "True").await?;
        progress::note(format!("failover: stood in for after {took:.1?}, back after {back:.1?}"));

        proxy.set(Fault::Denied);
        told(ns, "both", "a refusal is told", |status, message| status == "False" && message.contains("AccessDenied"))
            .await?;
        proxy.set(Fault::Throttled(1));
        told(ns, "both", "so is throttling", |status, message| status == "False" && message.contains("Throttling")).await?;
        assert_eq!(ns.secret("both").await?["user"], "main", "neither is a reason to read elsewhere");
        proxy.set(Fault::None);
        told(ns, "both", "it recovers", |status, _| status == "True").await?;

        ns.aws().delete_secret(&format!("{prefix}/both")).await?;
        told(ns, "both", "the store's own \"not found\" counts", |_, message| {
            message.contains("deleted due to DeletionPolicy")
        })
        .await?;
        assert!(ns.secret("both").await.is_err(), "the stand-in has it, but the store says that it is gone");
        Ok(())
    })
}
