//! Templates and targets of other kinds, against the real API server: what they cost in peace, and what they leave alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::operator::Operator;
use keyferry_e2e::progress;
use serde_json::{Value, json};

use crate::lab::{
    EXTERNAL_SECRET, apply, eventually, external_secret, fake_store, is_write, objects, operator, options, patch, ready,
    requests, with_lab,
};

const CONFIG_MAP: (&str, &str) = ("v1", "ConfigMap");

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// An ExternalSecret that is refreshed each second.
fn busy(name: &str, target: Value) -> Value {
    let data = json!([{"secretKey": "key", "remoteRef": {"key": "remote"}}]);
    external_secret(name, json!({"refreshInterval": "1s", "target": target, "data": data}))
}

/// The object of that name, if there is one.
async fn object(ns: &Sandbox<'_>, kind: (&str, &str), name: &str) -> Result<Option<Value>> {
    Ok(objects(ns, kind).await?.into_iter().find(|object| object["metadata"]["name"] == name))
}

/// What the operator reads of ConfigMaps and Secrets, and writes, in three refreshes.
async fn cost_of_peace(ns: &Sandbox<'_>) -> Result<Vec<String>> {
    let mark = ns.env.control_plane.audit_mark()?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let costly = requests(ns, mark)?.into_iter().filter(|audited| {
        let read = audited.request.verb == "get" && ["secrets", "configmaps"].contains(&audited.request.resource.as_str());
        (read && audited.namespace == ns.name) || is_write(audited)
    });
    Ok(costly.map(|a| format!("{} {} {}", a.request.verb, a.request.resource, a.name)).collect())
}

#[test]
fn a_templated_secret_costs_nothing_in_peace_and_follows_its_sources() -> Result<()> {
    with_lab("templates", async |ns| {
        let mut operator =
            operator(ns, &["--log-format=text", "--template-left-delimiter=[[", "--template-right-delimiter=]]"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        let item = |key: &str| json!({"name": "shape", "items": [{"key": key}]});
        let target = json!({"template": {
            "templateFrom": [{"configMap": item("a"), "secret": item("b")}], "data": {"c": "[[ .key ]] {{ .key }}"},
        }});
        apply(ns, busy("app", target)).await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "app", "False", "SecretSyncedError").await?;
        ensure!(message.contains("configmap shape not found"), "{message}");

        apply(ns, config_map("shape", json!({"a": "a [[ .key | upper ]]"}))).await?;
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shape"}, "stringData": {"b": "b [[ .key ]]"}});
        apply(ns, secret).await?;
        ns.wait_synced("app").await?;
        let made = ns.secret("app").await?;
        ensure!(made["a"] == "a VALUE" && made["b"] == "b value" && made["c"] == "value {{ .key }}", "{made:?}");

        let peace = cost_of_peace(ns).await?;
        ensure!(peace.is_empty(), "in peace: {peace:?}");
        operator.kill().await?;
        operator.start_again().await?;
        let restart = cost_of_peace(ns).await?;
        ensure!(restart.iter().all(|line| line == "get secrets store"), "after a restart: {restart:?}");

        patch(ns, CONFIG_MAP, "shape", json!({"data": {"a": "new"}})).await?;
        let took = ns.wait_secret("app", |data| data.get("a").is_some_and(|a| a == "new")).await?;
        progress::note(format!("a changed source was taken after {took:?}, at an interval of 1s"));
        Ok(())
    })
}

#[test]
fn an_object_may_follow_its_sources_at_once() -> Result<()> {
    with_lab("follow", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        apply(ns, config_map("shape", json!({"a": "old"}))).await?;
        let target = json!({"template": {"templateFrom": [{"configMap": {"name": "shape", "items": [{"key": "a"}]}}]}});
        for (name, follow) in [("follower", "true"), ("patient", "false")] {
            let mut object = busy(name, target.clone());
            object["spec"]["refreshInterval"] = json!("1h");
            object["metadata"]["annotations"] = json!({"keyferry.io/follow-templates": follow});
            apply(ns, object).await?;
            ns.wait_synced(name).await?;
        }
        patch(ns, CONFIG_MAP, "shape", json!({"data": {"a": "new"}})).await?;
        let took = ns.wait_secret("follower", |data| data["a"] == "new").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(ns.secret("patient").await?["a"] == "old");
        progress::note(format!("a source was followed after {took:?}"));
        Ok(())
    })
}

/// The API server refuses another type than a Secret has, also the `Opaque` that it puts where one is applied no more.
#[test]
fn a_type_stays_where_the_values_stay() -> Result<()> {
    const MANAGED: &str = "reconcile.external-secrets.io/managed";
    with_lab("tls", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        let data = ["tls.crt", "tls.key"].map(|key| json!({"secretKey": key, "remoteRef": {"key": "remote"}}));
        let target = json!({"template": {"type": "kubernetes.io/tls"}});
        apply(ns, external_secret("app", json!({"data": data, "target": target}))).await?;
        ns.wait_synced("app").await?;
        patch(ns, EXTERNAL_SECRET, "app", json!({"spec": {"target": {"immutable": true}}})).await?;
        eventually("it is immutable", async || {
            Ok(object(ns, ("v1", "Secret"), "app").await?.is_some_and(|secret| secret["immutable"] == true))
        })
        .await?;
        patch(ns, ("v1", "Secret"), "app", json!({"metadata": {"labels": {MANAGED: null}}})).await?;
        eventually("its label is back", async || {
            let secret = object(ns, ("v1", "Secret"), "app").await?;
            Ok(secret.is_some_and(|s| s["metadata"]["labels"][MANAGED] == "true" && s["type"] == "kubernetes.io/tls"))
        })
        .await?;
        ns.wait_synced("app").await
    })
}

/// An operator that writes ConfigMaps and Secrets as generic targets.
async fn operator_of_other_kinds(ns: &Sandbox<'_>) -> Result<Operator> {
    let mut options = options(ns, &[&ns.name], &["--log-format=text", "--unsafe-allow-generic-targets"], &[]);
    let values = [
        "genericTargets.enabled=true",
        "genericTargets.resources[0].resources={configmaps,secrets}",
        "genericTargets.resources[1].resources={things}",
        "genericTargets.resources[1].apiGroup=e2e.example.org",
    ];
    options.chart_values.extend(values.map(str::to_owned));
    ns.env.another_operator(&options).await
}

#[test]
fn targets_of_other_kinds() -> Result<()> {
    with_lab("generic", async |ns| {
        let _operator = operator_of_other_kinds(ns).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        let target =
            json!({"manifest": manifest, "template": {"data": {"key": "is {{ .key }}"}}, "deletionPolicy": "Delete"});
        apply(ns, busy("app", target)).await?;
        ns.wait_ready(EXTERNAL_SECRET, "app", "True", "ResourceSynced").await?;
        let data = async |name: &str| -> Result<Option<Value>> {
            Ok(object(ns, CONFIG_MAP, name).await?.map(|object| object["data"].clone()))
        };
        ensure!(data("app").await? == Some(json!({"key": "is value"})));
        ns.wait_event("ExternalSecret", "app", "Normal Created: Created ConfigMap app").await?;
        let peace = cost_of_peace(ns).await?;
        ensure!(peace.is_empty(), "in peace: {peace:?}");

        // drift, and what others add
        patch(ns, EXTERNAL_SECRET, "app", json!({"spec": {"refreshInterval": "1h"}})).await?;
        patch(ns, CONFIG_MAP, "app", json!({"data": {"key": "meddled", "other": "stays"}})).await?;
        let mended = json!({"key": "is value", "other": "stays"});
        eventually("the drift was not repaired", async || Ok(data("app").await?.as_ref() == Some(&mended))).await?;

        // what ESO wrote, which names no field manager
        let eso = ["--from-literal=key=is value", "--from-literal=old=1", "--field-manager=external-secrets"];
        ns.kubectl(&[&["create", "configmap", "taken"][..], &eso].concat()).await?;
        let target = json!({"manifest": manifest, "template": {"data": {"key": "is {{ .key }}"}}});
        apply(ns, busy("taken", target)).await?;
        let only = json!({"key": "is value"});
        eventually("what ESO wrote and nobody wants is gone", async || Ok(data("taken").await?.as_ref() == Some(&only)))
            .await?;
        let taken = object(ns, CONFIG_MAP, "taken").await?.unwrap();
        let entries = taken["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
        ensure!(entries.len() == 1 && entries[0]["manager"] == "keyferry", "{entries:?}");

        // somebody else's
        let mut foreign = config_map("foreign", json!({"theirs": "1"}));
        let owner = object(ns, CONFIG_MAP, "app").await?.unwrap();
        foreign["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "name": "app", "uid": owner["metadata"]["uid"], "controller": true,
        }]);
        apply(ns, foreign).await?;
        for policy in ["Owner", "Orphan"] {
            apply(ns, busy("foreign", json!({"manifest": manifest, "creationPolicy": policy}))).await?;
            let message = ns.wait_ready(EXTERNAL_SECRET, "foreign", "False", "ResourceSyncedError").await?;
            ensure!(message.starts_with("failed to take ownership of target secret: "), "{message}");
            ensure!(data("foreign").await? == Some(json!({"theirs": "1"})));
        }

        // a kind without rights, one that is not there, one of the whole cluster
        for (api_version, kind, says) in [
            ("networking.k8s.io/v1", "Ingress", "cannot be listed and watched"),
            ("example.org/v1", "Nothing", "knows no example.org/v1 Nothing"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole", "cluster-scoped"),
        ] {
            let name = kind.to_lowercase();
            apply(ns, busy(&name, json!({"manifest": {"apiVersion": api_version, "kind": kind}}))).await?;
            let message = ns.wait_ready(EXTERNAL_SECRET, &name, "False", "ResourceSyncedError").await?;
            ensure!(message.starts_with("could not get target resource: ") && message.contains(says), "{message}");
        }

        // an order to Kubernetes to mint a credential, by way of a manifest, a template and a place that is there
        let secret = json!({"apiVersion": "v1", "kind": "Secret"});
        let mints = json!({"metadata": {"annotations": {"kubernetes.io/service-account.name": "default"}},
            "templateFrom": [{"target": "type", "literal": "kubernetes.io/service-account-token"}]});
        let bootstrap = json!({"templateFrom": [{"target": "type", "literal": "bootstrap.kubernetes.io/token"}]});
        for (name, template) in [("mints", mints), ("bootstrap", bootstrap)] {
            apply(ns, busy(name, json!({"manifest": secret, "template": template}))).await?;
            let message = ns.wait_ready(EXTERNAL_SECRET, name, "False", "ResourceSyncedError").await?;
            ensure!(message.contains("is not allowed"), "{message}");
            ensure!(ns.secret(name).await.is_err(), "{name} was made");
        }

        ns.kubectl(&["delete", "externalsecret", "app", "--wait=true"]).await?;
        eventually("the ConfigMap stayed", async || Ok(data("app").await?.is_none())).await?;
        let all = objects(ns, EXTERNAL_SECRET).await?;
        progress::note(format!(
            "{} targets that must not be written were not",
            all.iter().filter(|es| ready(es).0 == "False").count()
        ));
        Ok(())
    })
}

/// The API server reads what is applied as YAML, which takes some signs for others.
#[test]
fn signs_that_yaml_reads_otherwise_arrive_as_they_are() -> Result<()> {
    with_lab("signs", async |ns| {
        let _operator = operator_of_other_kinds(ns).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        let signs = "a\u{2028} b\u{2029}c\u{85}d\u{7f}\u{feff}\u{ffff}\u{1f600}\u{e9}";
        let template = r#"{{ print "a\u2028 b\u2029c\u0085d\u007f\ufeff\uffff\U0001f600é" }}"#;
        let noted = json!({"template": {"data": {"key": template}, "metadata": {"annotations": {"note": template}}}});
        apply(ns, busy("noted", noted)).await?;
        let manifest = json!({"apiVersion": "v1", "kind": "ConfigMap"});
        apply(ns, busy("other", json!({"manifest": manifest, "template": {"data": {"key": template}}}))).await?;
        ns.wait_synced("noted").await?;
        ns.wait_ready(EXTERNAL_SECRET, "other", "True", "ResourceSynced").await?;

        ensure!(ns.secret("noted").await?["key"] == signs);
        let secrets = objects(ns, ("v1", "Secret")).await?;
        let note = secrets
            .iter()
            .find(|secret| secret["metadata"]["name"] == "noted")
            .map(|s| &s["metadata"]["annotations"]["note"]);
        ensure!(note.is_some_and(|note| note == signs), "the annotation is {note:?}");
        let data = object(ns, CONFIG_MAP, "other").await?.map(|object| object["data"]["key"].clone());
        ensure!(data.as_ref().is_some_and(|data| data == signs), "the ConfigMap holds {data:?}");
        let peace = cost_of_peace(ns).await?;
        ensure!(peace.is_empty(), "in peace: {peace:?}");
        Ok(())
    })
}

/// A kind whose CRD is removed and comes back. What is asked for meanwhile waits longer and longer.
#[test]
fn a_kind_may_go_and_come_back() -> Result<()> {
    with_lab("kind", async |ns| {
        const CRD: &str = "things.e2e.example.org";
        let _operator = operator_of_other_kinds(ns).await?;
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let crd = json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": CRD},
            "spec": {"group": "e2e.example.org", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]},
        });
        apply(ns, crd.clone()).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        apply(ns, busy("app", json!({"manifest": {"apiVersion": "e2e.example.org/v1", "kind": "Thing"}}))).await?;
        let has = async |status: &str, says: &str| -> Result<bool> {
            let told = objects(ns, EXTERNAL_SECRET).await?.iter().map(ready).next().unwrap_or_default();
            Ok(told.0 == status && told.2.contains(says))
        };
        eventually("it is synced", async || has("True", "").await).await?;

        ns.kubectl(&["delete", "crd", CRD]).await?;
        let unknown = "could not get target resource: the API server knows no e2e.example.org/v1 Thing";
        eventually("the kind is missed", async || has("False", unknown).await).await?;
        let mark = ns.env.control_plane.audit_mark()?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        let asked = requests(ns, mark)?.len();
        ensure!(asked < 20, "{asked} requests in 5 s for a kind that is not there");

        apply(ns, crd).await?;
        let took = eventually("it is synced again", async || has("True", "").await).await?;
        let synced = objects(ns, ("e2e.example.org/v1", "Thing")).await?;
        ensure!(synced.len() == 1 && synced[0]["spec"]["data"]["key"] == "value");
        progress::note(format!("a kind that went: {asked} requests in 5 s; synced {took:.2?} after it came back"));

        // nobody names it any more: nor does anybody watch it
        let other = json!({"spec": {"target": {"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}}}});
        patch(ns, EXTERNAL_SECRET, "app", other).await?;
        eventually("the other target is there", async || Ok(object(ns, CONFIG_MAP, "app").await?.is_some())).await?;
        let mark = ns.env.control_plane.audit_mark()?;
        ns.kubectl(&["delete", "crd", CRD]).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let asked = requests(ns, mark)?.into_iter().filter(|a| a.request.resource.starts_with("things")).count();
        ensure!(asked == 0, "{asked} requests for a kind that nobody names");
        Ok(())
    })
}
