//! The throw-away control plane does what the operator relies on.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use keyferry_e2e::controlplane::{ISSUER, Options};
use keyferry_e2e::env::{Env, Sandbox, block_on, with_namespace};
use keyferry_e2e::tools::kubernetes_version;
use kube::Api;

const CONFIG_MAP: (&str, &str) = ("v1", "ConfigMap");

#[test]
fn it_is_the_version_that_go_mod_names() -> Result<()> {
    with_namespace("version", async |ns| {
        let said = ns.kubectl(&["version"]).await?;
        let version = kubernetes_version()?;
        for side in ["Client", "Server"] {
            assert!(said.contains(&format!("{side} Version: v{version}")), "{said}");
        }
        Ok(())
    })
}

#[test]
fn service_accounts_get_tokens_for_an_audience() -> Result<()> {
    with_namespace("token", async |ns| {
        ns.apply("{apiVersion: v1, kind: ServiceAccount, metadata: {name: app}}").await?;
        let token = ns.cluster().token(&ns.name, "app", Some("sts.amazonaws.com")).await?;
        assert_eq!(ns.cluster().token_issuer().await?, ISSUER);
        let review = format!(
            "{{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {{token: {token}, audiences: [sts.amazonaws.com]}}}}"
        );
        let args = ["create", "-f", "-", "-o", "jsonpath={.status.authenticated} {.status.user.username}"];
        let seen = ns.cluster().kubectl_with_input(&args, &review).await?;
        assert_eq!(seen, format!("true system:serviceaccount:{}:app", ns.name));
        Ok(())
    })
}

#[test]
fn owned_objects_are_collected_with_their_owner() -> Result<()> {
    with_namespace("gc", async |ns| {
        ns.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: owner}}").await?;
        let api: Api<ConfigMap> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        let uid = api.get("owner").await?.metadata.uid.unwrap();
        ns.apply(&format!(
            "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: owned, ownerReferences: [
                {{apiVersion: v1, kind: ConfigMap, name: owner, uid: {uid}}}]}}}}"
        ))
        .await?;
        ns.kubectl(&["delete", "configmap", "owner"]).await?;
        ns.wait(CONFIG_MAP, "owned", |object| object.is_none()).await?;
        Ok(())
    })
}

#[test]
fn rbac_is_on() -> Result<()> {
    async fn can(ns: &Sandbox<'_>, verb: &str) -> Result<String> {
        let user = format!("system:serviceaccount:{}:default", ns.name);
        let answer = ns.kubectl(&["auth", "can-i", verb, "secrets", "--as", &user]).await;
        // kubectl fails when the answer is no.
        Ok(answer.map_or_else(|_| "no".to_owned(), |text| text.trim().to_owned()))
    }
    with_namespace("rbac", async |ns| {
        assert_eq!(can(ns, "get").await?, "no");
        ns.kubectl(&["create", "role", "reader", "--verb=get", "--resource=secrets"]).await?;
        let account = format!("--serviceaccount={}:default", ns.name);
        ns.kubectl(&["create", "rolebinding", "reader", "--role=reader", &account]).await?;
        assert_eq!(can(ns, "get").await?, "yes");
        assert_eq!(can(ns, "delete").await?, "no");
        Ok(())
    })
}

/// On servers of its own: it breaks them, and it counts requests.
#[test]
fn it_survives_a_restart_and_counts_requests() -> Result<()> {
    block_on(async {
        let env = Env::start(Options { audit: true }).await?;
        let ns = env.namespace("restart").await?;
        ns.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: kept}, data: {a: b}}").await?;
        env.control_plane.restart_apiserver().await?;
        let api: Api<ConfigMap> = Api::namespaced(env.cluster().client.clone(), &ns.name);
        let mark = env.control_plane.audit_mark()?;
        for _ in 0..3 {
            assert_eq!(api.get("kept").await?.data, Some(BTreeMap::from([("a".to_owned(), "b".to_owned())])));
        }
        let counts = env.control_plane.requests_since(mark)?;
        let mine: Vec<_> = counts.iter().filter(|(request, _)| request.user == "admin").collect();
        let [(request, 3)] = mine.as_slice() else { panic!("expected three gets, saw {mine:?}") };
        assert_eq!((request.verb.as_str(), request.resource.as_str()), ("get", "configmaps"));
        Ok(())
    })
}
