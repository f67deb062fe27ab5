//! What the operator serves, and what not: namespaces, classes, adoption, windows, names, heartbeats.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::progress;
use serde_json::json;

use crate::lab::{
    EXTERNAL_SECRET, SECRET_STORE, all_synced, apply, eventually, external_secret, external_secrets, fake_store,
    installed_in, is_write, one, operator, options, patch, ready, requests, secrets, with_lab, within,
};

#[test]
fn a_list_of_namespaces_and_no_right_beyond() -> Result<()> {
    with_lab("scope-a", async |a| {
        let (b, c) = (a.env.namespace("scope-b").await?, a.env.namespace("scope-c").await?);
        let mark = a.env.control_plane.audit_mark()?;
        let operator = a.env.another_operator(&options(a, &[&a.name, &b.name], &["--log-format=text"], &[])).await?;
        let cluster_store = json!({
            "apiVersion": SECRET_STORE.0, "kind": "ClusterSecretStore", "metadata": {"name": a.name},
            "spec": {"provider": {"fake": {"data": [{"key": "remote", "value": "value"}]}}},
        });
        apply(a, cluster_store).await?;
        for ns in [a, &b, &c] {
            apply(ns, fake_store("store", &[("remote", "value")])).await?;
            apply(ns, external_secret("app", json!({"data": one("key", "remote")}))).await?;
        }
        let of_cluster =
            json!({"secretStoreRef": {"name": a.name, "kind": "ClusterSecretStore"}, "data": one("key", "remote")});
        apply(a, external_secret("cluster", of_cluster)).await?;
        for ns in [a, &b] {
            ns.wait_synced("app").await?;
            ensure!(ns.secret("app").await?["key"] == "value");
        }
        eventually("what is left to another installation is logged", async || {
            let told = |line: &str| line.contains("left to another installation") && line.contains("/cluster");
            Ok(operator.log()?.lines().any(told))
        })
        .await?;
        let left = a.wait(EXTERNAL_SECRET, "cluster", |object| object.is_some()).await?;
        ensure!(left.is_some_and(|object| object["status"].is_null()), "another installation's object was touched");
        tokio::time::sleep(Duration::from_secs(1)).await;
        ensure!(
            external_secrets(&c).await?.iter().all(|es| es["status"].is_null()),
            "an object of another namespace was served"
        );
        ensure!(secrets(&c).await?.is_empty());

        let account = format!("system:serviceaccount:{}:keyferry", installed_in(a));
        let mut refused = 0;
        for (verb, resource) in [
            ("get", "secrets"),
            ("list", "secrets"),
            ("watch", "secrets"),
            ("create", "secrets"),
            ("patch", "secrets"),
            ("delete", "secrets"),
            ("list", "externalsecrets.external-secrets.io"),
            ("list", "secretstores.external-secrets.io"),
            ("list", "clustersecretstores.external-secrets.io"),
            ("list", "namespaces"),
            ("list", "configmaps"),
            ("list", "serviceaccounts"),
            ("create", "serviceaccounts/token"),
            ("create", "events.events.k8s.io"),
        ] {
            for scope in [["--all-namespaces"].as_slice(), &["-n", &c.name]] {
                let args = [&["auth", "can-i", verb, resource, "--as", &account, "-q"], scope].concat();
                ensure!(a.cluster().kubectl(&args).await.is_err(), "it may {verb} {resource} with {scope:?}");
                refused += 1;
            }
        }
        let may = ["auth", "can-i", "create", "secrets", "--as", &account, "-q", "-n", &a.name];
        a.cluster().kubectl(&may).await?;
        let denied = requests(a, mark)?.into_iter().filter(|audited| audited.code == 403).count();
        ensure!(denied == 0, "it asked {denied} times for what it may not do");
        ensure!(operator.probe("/readyz").await?.0, "not ready");
        progress::note(format!(
            "namespaces: 2 served, 1 ignored, {refused} questions beyond them refused by RBAC, none asked by the operator"
        ));
        Ok(())
    })
}

/// A namespace of the list that is deleted takes its RoleBinding along.
#[test]
fn a_namespace_that_may_not_be_read_does_not_stop_the_others() -> Result<()> {
    with_lab("scope-right", async |a| {
        let b = a.env.namespace("scope-no-right").await?;
        let both = format!("--namespaces={},{}", a.name, b.name);
        let args = ["--log-format=text", "--unsafe-allow-generic-targets", &both];
        let mut options = options(a, &[&a.name], &args, &[]);
        options.chart_values.push("genericTargets.enabled=true".into());
        let operator = a.env.another_operator(&options).await?;
        let manifest = json!({"manifest": {"apiVersion": "v1", "kind": "ConfigMap"}});
        for ns in [a, &b] {
            apply(ns, fake_store("store", &[("remote", "value")])).await?;
            apply(ns, external_secret("app", json!({"data": one("key", "remote")}))).await?;
            apply(ns, external_secret("generic", json!({"data": one("key", "remote"), "target": manifest}))).await?;
        }
        a.wait_synced("app").await?;
        a.wait_ready(EXTERNAL_SECRET, "generic", "True", "ResourceSynced").await?;
        for path in ["/readyz", "/healthz"] {
            let (ok, text) = operator.probe(path).await?;
            let told = format!("[ ] watch of Secret in {}: may not be listed", b.name);
            ensure!(ok && text.contains(&told), "{path}: {text}");
        }
        ensure!(external_secrets(&b).await?.iter().all(|es| es["status"].is_null()));
        // With the right it is served too.
        let account = format!("--serviceaccount={}:keyferry", installed_in(a));
        b.kubectl(&["create", "rolebinding", "late", "--clusterrole=cluster-admin", &account]).await?;
        // the pauses between two tries grow up to half a minute
        let served = async || Ok(secrets(&b).await?.contains_key("app"));
        within(Duration::from_secs(90), "it is served with the right", served).await?;
        let all = async || Ok(external_secrets(&b).await?.iter().all(|es| ready(es).0 == "True"));
        within(Duration::from_secs(60), "targets of other kinds as well, as soon as they are listed", all).await?;
        let all_is_listed = async || Ok(!operator.probe("/readyz").await?.1.contains("may not be listed"));
        eventually("nothing is refused any more", all_is_listed).await.map(drop)
    })
}

#[test]
fn what_a_status_says_is_in_the_metrics_after_a_restart() -> Result<()> {
    with_lab("restart-metrics", async |ns| {
        let mut operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        apply(ns, external_secret("app", json!({"data": one("key", "remote")}))).await?;
        all_synced(ns).await?;
        operator.terminate(Duration::from_secs(30)).await?;
        operator.start_again().await?;
        for (kind, name) in [("secretstore", "store"), ("externalsecret", "app")] {
            let of = format!(r#"name="{name}",namespace="{}",condition="Ready",status="True""#, ns.name);
            let line = format!("\n{kind}_status_condition{{{of}}} 1\n");
            eventually(&line, async || Ok(operator.metrics().await?.contains(&line))).await?;
        }
        Ok(())
    })
}

#[test]
fn stores_of_another_class_are_left_alone() -> Result<()> {
    with_lab("class", async |ns| {
        let _operator = operator(ns, &["--log-format=text", "--controller-class=mine"]).await?;
        let of_class = |name: &str, class: &str| {
            let mut store = fake_store(name, &[("remote", "value")]);
            store["spec"]["controller"] = json!(class);
            store
        };
        for (name, class) in [("ours", "mine"), ("theirs", "default")] {
            apply(ns, of_class(name, class)).await?;
            let on = json!({"secretStoreRef": {"name": name, "kind": "SecretStore"}, "data": one("key", "remote")});
            apply(ns, external_secret(name, on)).await?;
        }
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        apply(ns, external_secret("nobodys", json!({"data": one("key", "remote")}))).await?;
        ns.wait_synced("ours").await?;
        ns.wait_synced("nobodys").await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        for kind in [EXTERNAL_SECRET, SECRET_STORE] {
            let untouched = ns.wait(kind, "theirs", |object| object.is_some()).await?;
            ensure!(untouched.is_some_and(|object| object["status"].is_null()), "{kind:?} of another class was touched");
        }
        // Handed over, it is served.
        patch(ns, SECRET_STORE, "theirs", json!({"spec": {"controller": "mine"}})).await?;
        ns.wait_synced("theirs").await
    })
}

#[test]
fn without_adoption_a_secret_of_others_is_refused() -> Result<()> {
    with_lab("adopt", async |ns| {
        let _operator = operator(ns, &["--log-format=text", "--adopt-secrets=false"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        let by_hand =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "app"}, "stringData": {"by": "hand"}});
        apply(ns, by_hand).await?;
        let before = secrets(ns).await?;
        apply(ns, external_secret("app", json!({"data": one("key", "remote")}))).await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "app", "False", "SecretSyncedError").await?;
        ensure!(message.contains("--adopt-secrets=false"), "{message:?}");
        ensure!(secrets(ns).await? == before, "it was written");
        ns.kubectl(&["delete", "secret", "app"]).await?;
        ns.wait_synced("app").await?;
        // Its own it knows again.
        patch(ns, EXTERNAL_SECRET, "app", json!({"spec": {"data": one("other", "remote")}})).await?;
        ns.wait_secret("app", |data| data.keys().eq(["other"])).await.map(drop)
    })
}

#[test]
fn closed_windows_hold_refreshes_back_and_nothing_else() -> Result<()> {
    with_lab("windows", async |ns| {
        let _operator = operator(ns, &["--log-format=text", "--status-heartbeat=0s"]).await?;
        apply(ns, fake_store("store", &[("remote", "first")])).await?;
        // Open for a minute a year, and denied for ever: both closed now.
        let closed = json!({"kind": "deny", "windows": [{"schedule": "* * * * *", "duration": "2m"}]});
        let spec = json!({"refreshInterval": "1s", "data": one("key", "remote"), "syncWindows": closed});
        apply(ns, external_secret("app", spec)).await?;
        // The first sync does not wait for a window.
        ns.wait_secret("app", |data| data["key"] == "first").await?;
        apply(ns, fake_store("store", &[("remote", "second")])).await?;
        tokio::time::sleep(Duration::from_secs(4)).await;
        ensure!(ns.secret("app").await?["key"] == "first", "refreshed in a closed window");
        patch(ns, EXTERNAL_SECRET, "app", json!({"spec": {"syncWindows": null}})).await?;
        let took = ns.wait_secret("app", |data| data["key"] == "second").await?;
        progress::note(format!("windows: held back while closed; followed {took:.2?} after they were opened"));
        Ok(())
    })
}

#[test]
fn a_renamed_target_leaves_no_secret_behind() -> Result<()> {
    with_lab("rename", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        let named = |name: &str| json!({"data": one("key", "remote"), "target": {"name": name}});
        apply(ns, external_secret("app", named("old"))).await?;
        ns.wait_synced("app").await?;
        apply(ns, external_secret("app", named("new"))).await?;
        let only_new = async || {
            let names: Vec<String> = secrets(ns).await?.into_keys().collect();
            Ok(names == ["new"])
        };
        let took = eventually("only the new Secret is there", only_new).await?;
        ns.wait_synced("app").await?;
        progress::note(format!("rename: {took:.2?}"));
        Ok(())
    })
}

#[test]
fn the_heartbeat_bounds_status_writes() -> Result<()> {
    with_lab("heartbeat", async |ns| {
        let _operator = operator(ns, &["--log-format=text", "--status-heartbeat=3s"]).await?;
        apply(ns, fake_store("store", &[("remote", "value")])).await?;
        apply(ns, external_secret("app", json!({"refreshInterval": "500ms", "data": one("key", "remote")}))).await?;
        all_synced(ns).await?;
        let first = external_secrets(ns).await?[0]["status"]["refreshTime"].clone();
        let mark = ns.env.control_plane.audit_mark()?;
        tokio::time::sleep(Duration::from_secs(13)).await;
        let writes = requests(ns, mark)?.into_iter().filter(is_write).count();
        let last = external_secrets(ns).await?[0]["status"]["refreshTime"].clone();
        progress::note(format!("heartbeat of 3 s: {writes} writes in 13 s of a refresh twice a second"));
        // One for each 3 to 6 seconds, by the object's uid.
        ensure!((1..=5).contains(&writes), "{writes} writes");
        ensure!(first != last, "refreshTime stands still");
        Ok(())
    })
}

#[test]
fn an_emptied_value_is_taken_only_if_it_is_meant() -> Result<()> {
    with_lab("empty", async |ns| {
        let _operator = operator(ns, &["--log-format=text"]).await?;
        // The fake provider takes no empty value: the Kubernetes one does.
        let source = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "source"}, "stringData": {"key": value}});
        ns.apply(&format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: reader}}}}
---
{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: reader}}, rules: [{{apiGroups: [''], resources: [secrets], verbs: [get, list, watch]}},
  {{apiGroups: [authorization.k8s.io], resources: [selfsubjectrulesreviews, selfsubjectaccessreviews], verbs: [create]}}]}}
---
{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: reader}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}},
  subjects: [{{kind: ServiceAccount, name: reader, namespace: {}}}]}}",
            ns.name
        ))
        .await?;
        apply(ns, source("value")).await?;
        let server = json!({"remoteNamespace": ns.name, "server": {"caProvider": {"type": "ConfigMap", "name": "kube-root-ca.crt", "key": "ca.crt"}, "url": server_url(ns).await?},
            "auth": {"serviceAccount": {"name": "reader"}}});
        apply(ns, crate::lab::store("store", json!({"kubernetes": server}))).await?;
        let spec = json!({"refreshInterval": "1s", "data": [{"secretKey": "key", "remoteRef": {"key": "source", "property": "key"}}]});
        apply(ns, external_secret("app", spec)).await?;
        ns.wait_secret("app", |data| data["key"] == "value").await?;
        apply(ns, source("")).await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "app", "False", "SecretSyncedError").await?;
        ensure!(message.contains("keyferry.io/allow-empty"), "{message:?}");
        ensure!(ns.secret("app").await?["key"] == "value", "it was emptied");
        patch(ns, EXTERNAL_SECRET, "app", json!({"metadata": {"annotations": {"keyferry.io/allow-empty": "true"}}})).await?;
        ns.wait_secret("app", |data| data["key"].is_empty()).await?;
        ns.wait_synced("app").await?;
        ensure!(external_secrets(ns).await?.iter().all(|es| ready(es).0 == "True"));
        Ok(())
    })
}

async fn server_url(ns: &keyferry_e2e::env::Sandbox<'_>) -> Result<String> {
    ns.kubectl(&["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]).await
}
