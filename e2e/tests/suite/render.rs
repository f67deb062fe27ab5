//! `keyferry render` prints what the operator writes, and asks the cluster for what the manifests do not hold.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use keyferry_e2e::cluster::{documents, text};
use keyferry_e2e::env::{Sandbox, yaml_files};
use keyferry_e2e::{operator::binary, progress};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::lab::{self, PUSH_SECRET, apply, fake_store, objects, push_secret, with_lab};

const SECRET: (&str, &str) = ("v1", "Secret");

/// What `keyferry render` prints of manifests.
async fn render(ns: &Sandbox<'_>, args: &[&str], manifests: &str) -> Result<Vec<Value>> {
    let mut child = tokio::process::Command::new(binary()?)
        .args(["render", "-", "--show-values", "-o", "json", "--namespace", &ns.name])
        .args(args)
        .env("KUBECONFIG", ns.cluster().kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("a pipe")?.write_all(manifests.as_bytes()).await?;
    let output = child.wait_with_output().await?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "keyferry render: {log}");
    let list: Value = serde_json::from_slice(&output.stdout)?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// What the operator decides about a Secret.
fn decided(secret: &Value) -> Value {
    let type_ = secret["type"].as_str().unwrap_or("Opaque");
    json!({
        "data": secret["data"], "type": type_, "immutable": secret["immutable"], "labels": secret["metadata"]["labels"],
        "annotations": secret["metadata"]["annotations"],
    })
}

/// Whether a live Secret is as it was printed. One that others write, too, may hold more.
fn is_as(live: &Value, printed: &Value) -> bool {
    let shared = printed["metadata"]["labels"]["reconcile.external-secrets.io/created-by"].is_null();
    if shared { holds(&decided(live), &decided(printed)) } else { decided(live) == decided(printed) }
}

fn holds(live: &Value, printed: &Value) -> bool {
    match printed {
        Value::Null => true,
        Value::Object(fields) => fields.iter().all(|(name, field)| holds(&live[name], field)),
        other => live == other,
    }
}

/// Whether all stores of an example hold their values themselves, and all its objects are of the sandbox's namespace.
fn needs_nothing(objects: &[Value]) -> bool {
    let is_fake = |o: &Value| o["kind"] != "SecretStore" || o["spec"]["provider"]["fake"].is_object();
    let is_plain = |o: &Value| {
        ["SecretStore", "ExternalSecret", "ConfigMap", "Secret"].contains(&o["kind"].as_str().unwrap_or_default())
    };
    let is_ours = |o: &Value| {
        o["metadata"]["namespace"].is_null()
            && o["spec"]["controller"].is_null()
            && o["spec"]["target"]["manifest"].is_null()
    };
    objects.iter().any(|o| o["kind"] == "SecretStore") && objects.iter().all(|o| is_fake(o) && is_plain(o) && is_ours(o))
}

#[test]
fn render_prints_what_the_operator_writes() -> Result<()> {
    with_lab("render", async |ns| {
        let _operator = lab::operator(ns, &["--log-format=text"]).await?;
        let (mut files, mut compared) = (0, 0);
        for file in yaml_files("examples")? {
            let name = Path::new(&file).display().to_string();
            let yaml = std::fs::read_to_string(&file)?;
            if !needs_nothing(&documents(&yaml)?) {
                continue;
            }
            files += 1;
            ns.apply(&yaml).await?;
            let printed = render(ns, &[], &yaml).await.context(name.clone())?;
            // the cluster's copies of stores and sources do as well
            let only: Vec<String> =
                documents(&yaml)?.into_iter().filter(|o| o["kind"] == "ExternalSecret").map(|o| o.to_string()).collect();
            let live = render(ns, &["--live"], &only.join("\n")).await.context(name.clone())?;
            ensure!(printed == live, "{name}: with --live it is {live:?}, without {printed:?}");
            for secret in printed {
                let target = text(&secret["metadata"], "name");
                let written = ns.wait(SECRET, &target, |live| live.is_some_and(|live| is_as(live, &secret))).await;
                written.with_context(|| format!("{name}: printed was {}", decided(&secret)))?;
                compared += 1;
            }
        }
        progress::note(format!("{compared} Secrets of {files} examples are as they were printed"));
        ensure!(files >= 8 && compared >= 10, "{compared} Secrets of {files} examples");
        Ok(())
    })
}

#[test]
fn render_tells_what_the_operator_pushes() -> Result<()> {
    with_lab("render-push", async |ns| {
        let _operator = lab::operator(ns, &["--log-format=text"]).await?;
        let mut store = fake_store("target", &[("there", "old")]);
        let labels = json!({"role": "archive"});
        store["metadata"]["labels"] = labels.clone();
        apply(ns, store).await?;
        let source = json!({"user": "ann", "pw": "secret"});
        apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "src"}, "stringData": source})).await?;
        let archive = json!({"labelSelector": {"matchLabels": labels}});
        let place = |key: &str, place: Value| json!({"match": {"secretKey": key, "remoteRef": place}});
        let push = push_secret(
            "ps",
            "by-label",
            json!({"secret": {"name": "src"}}),
            json!({
                "secretStoreRefs": [archive], "updatePolicy": "IfNotExists",
                "data": [place("user", json!({"remoteKey": "one", "property": "name"})), place("user", json!({"remoteKey": "there"}))],
                "dataTo": [{"storeRef": archive, "rewrite": [{"regexp": {"source": "^", "target": "app/"}}]}],
            }),
        );
        // Store and Secret come from the cluster, and so does what is there already.
        let printed = render(ns, &["--live"], &push.to_string()).await?;
        let value = |value: &Value| {
            serde_json::from_value::<ByteString>(value.clone()).map(|b| String::from_utf8_lossy(&b.0).into_owned())
        };
        let mut told = BTreeMap::new();
        for push in printed[0]["pushes"].as_array().context("no pushes")? {
            ensure!(push["store"] == json!({"kind": "SecretStore", "name": "target"}), "{push}");
            let property = push["property"].as_str().map(|property| format!("/{property}")).unwrap_or_default();
            told.insert(text(push, "remoteKey") + &property, value(&push["value"])?);
        }
        let wanted = [("app/pw", "secret"), ("one/name", "ann")].map(|(place, value)| (place.to_owned(), value.to_owned()));
        ensure!(told == BTreeMap::from(wanted), "{told:?}");

        apply(ns, push).await?;
        ns.wait_ready(PUSH_SECRET, "ps", "True", "Synced").await?;
        let pushed = objects(ns, PUSH_SECRET).await?;
        let synced = pushed[0]["status"]["syncedPushSecrets"]["SecretStore/target"].as_object().cloned().unwrap_or_default();
        let kept = |place: &String| place != "there";
        ensure!(synced.keys().filter(|place| kept(place)).eq(told.keys()), "{:?} were pushed", synced.keys());
        Ok(())
    })
}
