//! A provider's outage changes and deletes no Secret, tells its cause, costs few calls, and ends by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::faults::{Fault, FaultProxy};
use keyferry_e2e::progress;
use serde_json::{Value, json};

use crate::lab::{
    EXTERNAL_SECRET, SECRET_STORE, all_synced, apply, aws_store, eventually, external_secret, external_secrets,
    fingerprints, operator_with, patch, ready, with_lab,
};

/// How long all faults last together, in seconds; they take turns. `make soak` sets it to the ten minutes of the promise.
const SOAK: &str = "KEYFERRY_SOAK_SECONDS";
/// The policies that go together.
const POLICIES: [(&str, &str); 10] = [
    ("Owner", "Retain"),
    ("Owner", "Delete"),
    ("Owner", "Merge"),
    ("Orphan", "Retain"),
    ("Orphan", "Merge"),
    ("Merge", "Retain"),
    ("Merge", "Merge"),
    ("CreateOrMerge", "Retain"),
    ("CreateOrMerge", "Merge"),
    ("None", "Retain"),
];
/// Each fault, and what the conditions must say of it.
const FAULTS: [(Fault, &str); 8] = [
    (Fault::ServerError, "InternalServiceError"),
    (Fault::Throttled(2), "ThrottlingException"),
    (Fault::Hang, "did not answer"),
    (Fault::Denied, "AccessDeniedException"),
    (Fault::EmptyValue, ""),
    (Fault::EmptyList, "neither"),
    (Fault::Malformed, "secretsmanager:"),
    (Fault::Cut, "secretsmanager:"),
];

/// One ExternalSecret for each pair of policies by `data` and by `extract`, and one of a plain text: its object, and whether it
/// merges into a Secret that is there.
fn consumers() -> Vec<(String, Value, bool)> {
    let mut all = Vec::new();
    for (index, (creation, deletion)) in POLICIES.into_iter().enumerate() {
        let target = json!({"creationPolicy": creation, "deletionPolicy": deletion});
        let remote = format!("key-{}", index % 5);
        for (form, source) in [
            (
                "data",
                json!({"data": [{"secretKey": "user", "remoteRef": {"key": remote, "property": "user"}}, {"secretKey": "text", "remoteRef": {"key": "text"}}]}),
            ),
            ("extract", json!({"dataFrom": [{"extract": {"key": remote}}]})),
        ] {
            let name = format!("{creation}-{deletion}-{form}").to_lowercase();
            let mut spec = source;
            spec["refreshInterval"] = json!("5s");
            spec["target"] = target.clone();
            all.push((name.clone(), external_secret(&name, spec), creation == "Merge"));
        }
    }
    let text = json!({"refreshInterval": "5s", "data": [{"secretKey": "text", "remoteRef": {"key": "text"}}]});
    all.push(("text".to_owned(), external_secret("text", text), false));
    all
}

async fn prepare(ns: &Sandbox<'_>) -> Result<()> {
    let prefix = &ns.name;
    for index in 0..5 {
        let value = json!({"user": format!("user-{index}"), "password": "first"}).to_string();
        ns.aws().put_secret(&format!("{prefix}/key-{index}"), &value).await?;
    }
    ns.aws().put_secret(&format!("{prefix}/text"), "plain").await?;
    aws_store(ns, &format!("{prefix}/*")).await?;
    patch(ns, SECRET_STORE, "store", json!({"spec": {"provider": {"aws": {"prefix": format!("{prefix}/")}}}})).await?;
    for (name, object, merges) in consumers() {
        if merges {
            let own =
                json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"own": "stays"}});
            apply(ns, own).await?;
        }
        apply(ns, object).await?;
    }
    Ok(())
}

#[test]
fn an_outage_changes_nothing_and_ends_by_itself() -> Result<()> {
    with_lab("outage", async |ns| {
        let seconds = std::env::var(SOAK).ok().map_or(Ok(56), |text| text.parse::<u32>()).context(SOAK)?;
        let length = Duration::from_secs(seconds.into()) / u32::try_from(FAULTS.len())?;
        let proxy = FaultProxy::start(ns.env.aws.endpoint()).await?;
        let args = ["--provider-timeout=5s", "--log-format=text"];
        let _operator = operator_with(ns, &args, &[("AWS_SECRETSMANAGER_ENDPOINT", proxy.endpoint())]).await?;
        prepare(ns).await?;
        let took = all_synced(ns).await?;
        let before = fingerprints(ns).await?;
        progress::note(format!("outage: {} Secrets synced after {took:.1?}", before.len()));

        for (fault, cause) in FAULTS {
            let start = Instant::now();
            proxy.set(fault);
            let told = eventually(&format!("{fault:?}: every condition names the cause"), async || {
                let all = external_secrets(ns).await?;
                Ok(all.iter().all(|es| {
                    let (status, _, message) = ready(es);
                    // A value that is only text can be seen to have been emptied; the others miss their property.
                    let cause =
                        if fault == Fault::EmptyValue && es["metadata"]["name"] == "text" { "is empty" } else { cause };
                    status == "False" && message.contains(cause)
                }))
            })
            .await;
            if told.is_err() {
                for es in external_secrets(ns).await? {
                    progress::note(format!("{} {:?}", es["metadata"]["name"], ready(&es)));
                }
            }
            let told = told?;
            tokio::time::sleep(length.saturating_sub(start.elapsed())).await;
            ensure!(fingerprints(ns).await? == before, "{fault:?}: a Secret changed");
            let (lasted, calls) = (start.elapsed(), proxy.calls_since(start).len());
            let peak = proxy.most_calls_within(Duration::from_secs(5), start);
            proxy.set(Fault::None);
            let recovered = all_synced(ns).await?;
            progress::note(format!(
                "outage: {fault:?} for {lasted:.0?}: told after {told:.1?}, {calls} calls (at most {peak} in 5 s), recovered after {recovered:.1?}"
            ));
            ensure!(fingerprints(ns).await? == before, "{fault:?}: a Secret changed in the recovery");
            // In health, 21 ExternalSecrets on 6 keys cost about one call a key every 5 seconds.
            ensure!(peak <= 60, "{fault:?}: {peak} calls in 5 s");
            ensure!(recovered < Duration::from_secs(30), "{fault:?}: recovered only after {recovered:?}");
        }
        Ok(())
    })
}

/// Lists that come back empty, whatever is done to what is gone. (`Retain` needs no such guard.)
#[test]
fn an_empty_list_is_no_deletion() -> Result<()> {
    with_lab("outage-list", async |ns| {
        let proxy = FaultProxy::start(ns.env.aws.endpoint()).await?;
        let args = ["--log-format=text"];
        let _operator = operator_with(ns, &args, &[("AWS_SECRETSMANAGER_ENDPOINT", proxy.endpoint())]).await?;
        for name in ["one", "two"] {
            ns.aws().put_secret(&format!("{}/{name}", ns.name), "value").await?;
        }
        aws_store(ns, &format!("{}/*", ns.name)).await?;
        for (creation, deletion) in POLICIES.into_iter().filter(|(_, deletion)| *deletion != "Retain") {
            let name = format!("{creation}-{deletion}").to_lowercase();
            if creation == "Merge" {
                let own = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"own": "stays"}});
                apply(ns, own).await?;
            }
            let spec = json!({
                "refreshInterval": "2s",
                "target": {"creationPolicy": creation, "deletionPolicy": deletion},
                "dataFrom": [{"find": {"name": {"regexp": format!("^{}/", ns.name)}}}],
            });
            apply(ns, external_secret(&name, spec)).await?;
        }
        all_synced(ns).await?;
        let before = fingerprints(ns).await?;
        proxy.set(Fault::EmptyList);
        eventually("every condition says that nothing was found", async || {
            let told = |es: &Value| ready(es).0 == "False" && ready(es).2.contains("nothing was found");
            Ok(external_secrets(ns).await?.iter().all(told))
        })
        .await?;
        ensure!(fingerprints(ns).await? == before, "a Secret changed");
        proxy.set(Fault::None);
        all_synced(ns).await?;
        ensure!(fingerprints(ns).await? == before, "a Secret changed in the recovery");

        // what is really gone and meant to be goes, once that is said
        for name in ["one", "two"] {
            ns.aws().delete_secret(&format!("{}/{name}", ns.name)).await?;
        }
        let meant = json!({"metadata": {"annotations": {"keyferry.io/allow-empty": "true"}}});
        patch(ns, EXTERNAL_SECRET, "owner-delete", meant).await?;
        ns.wait(("v1", "Secret"), "owner-delete", |secret| secret.is_none()).await.map(drop)
    })
}
