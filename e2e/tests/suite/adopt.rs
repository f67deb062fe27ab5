//! `keyferry adopt`: a cluster that ESO served changes hands, and goes back.

use std::collections::BTreeMap;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use keyferry_e2e::cluster::Cluster;
use keyferry_e2e::controlplane;
use keyferry_e2e::env::{Env, Sandbox, block_on};
use keyferry_e2e::{operator as program, progress};
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::lab::{
    EXTERNAL_SECRET, apply, external_secrets, fake_store, fingerprints, is_write, operator, patch, requests, secrets,
    with_lab,
};
use crate::object_hash;
use crate::takeover::{FINALIZER, VALUES, left_by_eso, recorded};

/// As many as issue 4 asks for.
const SECRETS: usize = 200;

/// Runs `keyferry adopt`, as the administrator.
async fn run(cluster: &Cluster, args: &[&str]) -> Result<Output> {
    let binary = tokio::task::spawn_blocking(program::binary).await??;
    let mut command = tokio::process::Command::new(binary);
    // the way to the API server is a direct one
    command.arg("adopt").args(args).env("KUBECONFIG", cluster.kubeconfig()).env("HTTPS_PROXY", "http://127.0.0.1:1");
    command.output().await.context("cannot start keyferry")
}

/// Runs it on the namespace.
async fn adopt(ns: &Sandbox<'_>, args: &[&str]) -> Result<Output> {
    run(ns.cluster(), &[&["--namespace", &ns.name], args].concat()).await
}

/// The same, and what it said; it must succeed.
async fn adopted(ns: &Sandbox<'_>, args: &[&str]) -> Result<String> {
    let output = adopt(ns, args).await?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    Ok(said)
}

fn summary(said: &str) -> &str {
    said.lines().last().unwrap_or_default()
}

/// What of a Secret must never change on the way here: all but managedFields and resourceVersion.
type Content = (Option<BTreeMap<String, ByteString>>, Option<BTreeMap<String, String>>, Option<BTreeMap<String, String>>);

async fn contents(ns: &Sandbox<'_>) -> Result<BTreeMap<String, Content>> {
    let all = secrets(ns).await?;
    Ok(all.into_iter().map(|(name, s)| (name, (s.data, s.metadata.labels, s.metadata.annotations))).collect())
}

async fn versions(ns: &Sandbox<'_>) -> Result<Vec<String>> {
    Ok(external_secrets(ns).await?.iter().map(|es| es["metadata"]["resourceVersion"].to_string()).collect())
}

fn managers(secret: &Secret) -> Vec<String> {
    secret.metadata.managed_fields.iter().flatten().filter_map(|e| e.manager.clone()).collect()
}

/// Requests of the operator about Secrets: how many, and how many of them writes.
fn secret_requests(ns: &Sandbox<'_>, mark: u64) -> Result<(usize, usize)> {
    let all = requests(ns, mark)?;
    let of_secrets = || all.iter().filter(|a| a.request.resource == "secrets" && a.namespace == ns.name);
    Ok((of_secrets().filter(|a| a.request.verb == "get").count(), of_secrets().filter(|a| is_write(a)).count()))
}

/// ESO's own questions to a Secret and its ExternalSecret; where one is answered by no, it writes the Secret anew.
fn eso_would_leave(es: &Value, secret: &Secret) -> Result<()> {
    let name = es["metadata"]["name"].as_str().unwrap_or_default();
    let map = |value: &Value| -> BTreeMap<String, String> { serde_json::from_value(value.clone()).unwrap_or_default() };
    let meta = &secret.metadata;
    let label = meta.labels.as_ref().and_then(|l| l.get("reconcile.external-secrets.io/managed"));
    ensure!(label.is_some_and(|v| v == "true"), "{name}: the label is missing");
    let hash = meta.annotations.as_ref().and_then(|a| a.get("reconcile.external-secrets.io/data-hash"));
    ensure!(
        hash == Some(&object_hash::data_hash(&secret.data.clone().unwrap_or_default())),
        "{name}: the hash is not that of the data"
    );
    let generation = es["metadata"]["generation"].as_i64().unwrap_or_default();
    let (labels, annotations) = (map(&es["metadata"]["labels"]), map(&es["metadata"]["annotations"]));
    let synced = object_hash::synced_resource_version(generation, &labels, &annotations);
    ensure!(es["status"]["syncedResourceVersion"] == json!(synced), "{name}: it is not synced as ESO counts");
    let refreshed: k8s_openapi::jiff::Timestamp = es["status"]["refreshTime"].as_str().unwrap_or_default().parse()?;
    ensure!(k8s_openapi::jiff::Timestamp::now().duration_since(refreshed).as_secs() < 3600, "{name}: it is due");
    let manager = object_hash::field_manager(name);
    ensure!(managers(secret).iter().all(|m| *m == manager), "{name}: its fields belong to {:?}", managers(secret));
    Ok(())
}

#[test]
fn two_hundred_secrets_change_hands_and_go_back() -> Result<()> {
    with_lab("adopt", async |ns| {
        apply(ns, fake_store("store", &VALUES)).await?;
        // a name of 28 letters or more has a hashed field manager
        let names: Vec<String> =
            (0..SECRETS).map(|i| format!("{}-{i:03}", ["app", "application-with-a-long-name"][i % 2])).collect();
        let made = names
            .iter()
            .enumerate()
            .map(|(i, name)| left_by_eso(ns, name, ["Owner", "Orphan"][i / 2 % 2]))
            .collect::<Vec<_>>();
        futures::stream::iter(made).buffer_unordered(16).try_collect::<Vec<()>>().await?;
        let (content, before, es_before) = (contents(ns).await?, fingerprints(ns).await?, versions(ns).await?);
        ensure!(content.len() == SECRETS);

        // while ESO runs, nothing is changed
        let deployments: Api<Deployment> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        let eso = json!({"metadata": {"name": "external-secrets"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "mirror.test/eso/external-secrets:v2"}]}},
        }});
        deployments.create(&PostParams::default(), &serde_json::from_value(eso)?).await?;
        let refused = adopt(ns, &[]).await?;
        let why = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(
            !refused.status.success() && why.contains(&format!("external-secrets runs ({}/external-secrets)", ns.name)),
            "{why}"
        );
        deployments.delete("external-secrets", &DeleteParams::default()).await?;

        // a dry run changes nothing at all, and says what would be
        let said = adopted(ns, &["--dry-run"]).await?;
        ensure!(summary(&said).contains(&format!("{} would be changed, 0 failed", 2 * SECRETS)), "{said}");
        ensure!(
            (fingerprints(ns).await?, versions(ns).await?) == (before.clone(), es_before),
            "the dry run changed something"
        );

        // with Secrets left alone, only finalizers go
        let said = adopted(ns, &["--leave-secrets"]).await?;
        ensure!(summary(&said).contains(&format!("{SECRETS} changed, 0 failed")), "{said}");
        ensure!(fingerprints(ns).await? == before, "a Secret was written");
        ensure!(external_secrets(ns).await?.iter().all(|es| !es["metadata"]["finalizers"].to_string().contains(FINALIZER)));

        // then the field managers: no value, label or annotation of a Secret changes
        let said = adopted(ns, &[]).await?;
        ensure!(summary(&said).contains(&format!("{SECRETS} changed, 0 failed")), "{said}");
        ensure!(contents(ns).await? == content, "more than managedFields changed");
        for (name, secret) in secrets(ns).await? {
            ensure!(managers(&secret) == ["keyferry"], "{name}: {:?}", managers(&secret));
        }
        ensure!(summary(&adopted(ns, &[]).await?).contains(" 0 changed, 0 failed"), "it is not done after one run");

        // the operator takes over without one write of a Secret
        let (before, mark) = (fingerprints(ns).await?, ns.env.control_plane.audit_mark()?);
        let mut keyferry = operator(ns, &["--log-format=text"]).await?;
        recorded(ns).await?;
        let (reads, writes) = secret_requests(ns, mark)?;
        ensure!(writes == 0 && reads <= SECRETS, "{reads} reads, {writes} writes");
        ensure!(fingerprints(ns).await? == before, "a Secret was written");

        // what leaves a spec leaves its Secret, although ESO had written it
        patch(
            ns,
            EXTERNAL_SECRET,
            &names[0],
            json!({"spec": {"data": [{"secretKey": "user", "remoteRef": {"key": "user"}}]}}),
        )
        .await?;
        ns.wait_secret(&names[0], |data| data.keys().eq(["user"])).await?;
        // the status is written after the Secret
        let is_told = |es: Option<&Value>| {
            es.is_some_and(|es| {
                let synced = es["status"]["syncedResourceVersion"].as_str().unwrap_or_default();
                synced.starts_with(&format!("{}-", es["metadata"]["generation"]))
            })
        };
        ns.wait(EXTERNAL_SECRET, &names[0], is_told).await?;
        keyferry.kill().await?;

        // and back: each Secret is as ESO wants to find it
        let content = contents(ns).await?;
        let said = adopted(ns, &["--undo", "--dry-run"]).await?;
        ensure!(
            summary(&said).contains(&format!("{} would be changed", 2 * SECRETS)) && contents(ns).await? == content,
            "{said}"
        );
        let said = adopted(ns, &["--undo"]).await?;
        ensure!(summary(&said).contains(&format!("{} changed, 0 failed", 2 * SECRETS)), "{said}");
        let after = contents(ns).await?;
        for (name, (data, labels, _)) in &content {
            ensure!((data, labels) == (&after[name].0, &after[name].1), "{name}: data or labels changed");
        }
        let live = secrets(ns).await?;
        for es in external_secrets(ns).await? {
            let name = es["metadata"]["name"].as_str().unwrap_or_default();
            eso_would_leave(&es, &live[name])?;
            ensure!(es["status"]["target"].is_null(), "{name}: keyferry's notes stayed");
        }
        ensure!(
            summary(&adopted(ns, &["--undo"]).await?).contains(" 0 changed, 0 failed"),
            "it is not undone after one run"
        );
        progress::note(format!(
            "adopt: {SECRETS} Secrets of ESO's taken over with {writes} writes and {reads} reads by the operator, and handed back"
        ));
        Ok(())
    })
}

#[test]
fn what_eso_left_cluster_wide_goes_too() -> Result<()> {
    const FINALIZERS: [&str; 4] = [
        "externalsecrets.external-secrets.io/clusterexternalsecret-cleanup",
        "pushsecret.externalsecrets.io/finalizer",
        "secretstore.externalsecrets.io/finalizer",
        "externalsecrets.external-secrets.io/ces-any",
    ];
    block_on(async {
        let env = Env::start(controlplane::Options { audit: false }).await?;
        let cluster = env.cluster();
        let (v1, v1alpha1) = ("external-secrets.io/v1", "external-secrets.io/v1alpha1");
        let push = |name: &str, store: &str, policy: &str| {
            json!({"apiVersion": v1alpha1, "kind": "PushSecret", "metadata": {"name": name, "namespace": "left", "finalizers": [FINALIZERS[1]]},
                "spec": {"deletionPolicy": policy, "secretStoreRefs": [{"name": store}], "selector": {"secret": {"name": "s"}}}})
        };
        let store = |name: &str, provider: Value| {
            json!({"apiVersion": v1, "kind": "SecretStore", "metadata": {"name": name, "namespace": "left", "finalizers": [FINALIZERS[2]]},
                "spec": {"provider": provider}})
        };
        let fake = json!({"fake": {"data": []}});
        let mut objects = vec![
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "left", "finalizers": [FINALIZERS[3], "mirror.test/theirs"]}}),
            json!({"apiVersion": v1, "kind": "ClusterExternalSecret", "metadata": {"name": "any", "finalizers": [FINALIZERS[0]]},
                "spec": {"externalSecretSpec": {"data": [{"secretKey": "k", "remoteRef": {"key": "k"}}]}}}),
            push("keeps", "needed", "None"),
            push("deletes", "needed", "Delete"),
            store("needed", fake.clone()),
            store("spare", fake),
            store("odd", json!({"chef": {}})),
            json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "secretstore-validate"}, "webhooks": [{
                "name": "validate.mirror.test", "clientConfig": {"url": "https://127.0.0.1:1/x"}, "failurePolicy": "Ignore",
                "sideEffects": "None", "admissionReviewVersions": ["v1"],
                "rules": [{"apiGroups": ["external-secrets.io"], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["secretstores"]}],
            }]}),
        ];
        for object in objects.drain(..) {
            cluster.apply_object(object, "left").await?;
        }
        let output = run(cluster, &[]).await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        for part in
            ["ValidatingWebhookConfiguration secretstore-validate: delete it", "SecretStore left/odd: the provider chef"]
        {
            ensure!(said.contains(part), "{part:?} is not told:\n{said}");
        }
        ensure!(!said.contains("CustomResourceDefinition"), "our own definitions are told of:\n{said}");
        let left = async |api_version: &str, kind: &str, name: &str| -> Result<Vec<String>> {
            let namespace = if matches!(kind, "Namespace" | "ClusterExternalSecret") { "" } else { "left" };
            let object = cluster.api(api_version, kind, namespace).await?.get(name).await?;
            Ok(object.metadata.finalizers.unwrap_or_default())
        };
        let none: [&str; 0] = [];
        ensure!(left("v1", "Namespace", "left").await? == ["mirror.test/theirs"], "{said}");
        ensure!(left(v1, "ClusterExternalSecret", "any").await? == none, "{said}");
        ensure!(left(v1alpha1, "PushSecret", "keeps").await? == none, "{said}");
        ensure!(
            left(v1alpha1, "PushSecret", "deletes").await? == [FINALIZERS[1]],
            "what it pushed would stay for ever:\n{said}"
        );
        ensure!(
            left(v1, "SecretStore", "needed").await? == [FINALIZERS[2]],
            "a store that is needed could be deleted:\n{said}"
        );
        for name in ["spare", "odd"] {
            ensure!(left(v1, "SecretStore", name).await? == none, "{said}");
        }
        Ok(())
    })
}
