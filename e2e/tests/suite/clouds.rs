//! Google Cloud's Secret Manager and Azure's Key Vault from a manifest to a Secret and back, through stand-ins that the vendors'
//! official clients have proven.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use keyferry_e2e::certs::Authority;
use keyferry_e2e::clouds::{ACCOUNT, Cloud, PROJECT};
use keyferry_e2e::env::{Sandbox, block_on};
use keyferry_e2e::install_crypto;
use keyferry_e2e::operator::Operator;
use keyferry_e2e::process::Lifetime;
use keyferry_e2e::rundir::RunDir;
use serde_json::{Value, json};

use crate::canary::{unseen, value};
use crate::lab::{
    EXTERNAL_SECRET, PUSH_SECRET, SECRET_STORE, apply, eventually, external_secret, objects, operator_with, patch,
    push_secret, ready, store, with_lab,
};

/// What lets the operator call the stand-ins.
const LOCAL: &str = "--allow-local-endpoints";

fn dir() -> Result<Arc<RunDir>> {
    Ok(Arc::new(RunDir::new(Lifetime::Ours)?))
}

async fn operator_of(ns: &Sandbox<'_>, cloud: &Cloud) -> Result<Operator> {
    let variables = cloud.variables();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    operator_with(ns, &[LOCAL, "--loglevel=trace"], &variables).await
}

async fn secret(ns: &Sandbox<'_>, name: &str, data: Value) -> Result<()> {
    apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})).await
}

/// Waits until a Secret holds exactly this.
async fn holds(ns: &Sandbox<'_>, name: &str, expected: &[(&str, &str)]) -> Result<()> {
    let expected: BTreeMap<String, String> = expected.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let waited = ns.wait_secret(name, |data| *data == expected).await;
    ensure!(waited.is_ok(), "{name} holds {:?} in place of {:?}", ns.secret(name).await?.keys(), expected.keys());
    Ok(())
}

async fn sync_now(ns: &Sandbox<'_>, kind: (&str, &str), name: &str) -> Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos().to_string();
    patch(ns, kind, name, json!({"metadata": {"annotations": {"force-sync": now}}})).await
}

/// Waits until an ExternalSecret failed with a message that holds `part`.
async fn fails(ns: &Sandbox<'_>, name: &str, part: &str) -> Result<()> {
    let mut last = String::new();
    let done = async || {
        let all = objects(ns, EXTERNAL_SECRET).await?;
        let found = all.iter().find(|object| object["metadata"]["name"] == name).map(ready).unwrap_or_default();
        last = format!("{found:?}");
        anyhow::Ok(found.0 == "False" && found.2.contains(part))
    };
    let waited = eventually(&format!("{name} fails with {part:?}"), done).await;
    ensure!(waited.is_ok(), "{name} in place of {part:?}: {last}");
    Ok(())
}

/// Denied, throttled and broken: the Secret stays as it is, the condition says why, and all is well again afterwards.
async fn bears_faults(ns: &Sandbox<'_>, cloud: &Cloud, name: &str) -> Result<()> {
    let before = ns.secret(name).await?;
    for (fault, part) in [("denied", "allow"), ("throttled", "asks to wait"), ("broken", "the server failed")] {
        cloud.fault(fault, 1).await?;
        sync_now(ns, EXTERNAL_SECRET, name).await?;
        fails(ns, name, part).await?;
        ensure!(ns.secret(name).await? == before, "{fault}: the Secret is another one");
        cloud.fault("", 0).await?;
        ns.wait_synced(name).await?;
    }
    Ok(())
}

/// An entry of a PushSecret: the key `password` to a place, with the `spec` of a metadata block.
fn place(remote: &str, spec: Option<Value>) -> Value {
    let mut entry = json!({"match": {"secretKey": "password", "remoteRef": {"remoteKey": remote}}});
    if let Some(spec) = spec {
        let kind = "PushSecretMetadata";
        entry["metadata"] = json!({"apiVersion": "kubernetes.external-secrets.io/v1alpha1", "kind": kind, "spec": spec});
    }
    entry
}

#[test]
fn the_official_client_takes_the_stand_in_for_google() -> Result<()> {
    install_crypto();
    block_on(async { Cloud::google(dir()?).await?.prove().await })
}

/// A store that logs in with a service account's key.
async fn gcp_store(ns: &Sandbox<'_>, google: &Cloud) -> Result<()> {
    secret(ns, "gcp-login", json!({"key": google.login().await?.to_string()})).await?;
    let auth = json!({"secretRef": {"secretAccessKeySecretRef": {"name": "gcp-login", "key": "key"}}});
    let retry = json!({"maxRetries": 0});
    let mut object = store("store", json!({"gcpsm": {"projectID": PROJECT, "auth": auth}}));
    object["spec"]["retrySettings"] = retry;
    apply(ns, object).await
}

#[test]
fn google_is_read_searched_and_never_quoted() -> Result<()> {
    with_lab("gcp-read", async |ns| {
        let google = Cloud::google(dir()?).await?;
        let [user, password, old, new, fifth] = ["user", "password", "old", "new", "fifth"].map(value);
        google.put("app-db", &json!({"user": user, "in": {"side": password}}).to_string(), &json!({"team": "a"})).await?;
        google.put("app-key", &old, &json!({"team": "b"})).await?;
        google.put("app-key", &new, &json!({})).await?;
        for name in ["app-3", "app-4", "app-5", "other"] {
            google.put(name, &fifth, &json!({"team": "c"})).await?;
        }
        let operator = operator_of(ns, &google).await?;
        gcp_store(ns, &google).await?;
        let data = json!([
            {"secretKey": "user", "remoteRef": {"key": "app-db", "property": "user"}},
            {"secretKey": "password", "remoteRef": {"key": "app-db", "property": "in.side"}},
            {"secretKey": "old", "remoteRef": {"key": "app-key", "version": "1"}},
            {"secretKey": "new", "remoteRef": {"key": "app-key"}},
            {"secretKey": "team", "remoteRef": {"key": "app-db", "metadataPolicy": "Fetch", "property": "labels.team"}},
        ]);
        apply(ns, external_secret("data", json!({"data": data}))).await?;
        let by_name = json!([{"find": {"name": {"regexp": "^app-[0-9]$"}, "path": "app"}}]);
        apply(ns, external_secret("found", json!({"dataFrom": by_name}))).await?;
        apply(ns, external_secret("tagged", json!({"dataFrom": [{"find": {"tags": {"team": "b"}}}]}))).await?;
        apply(ns, external_secret("whole", json!({"dataFrom": [{"extract": {"key": "app-db"}}]}))).await?;
        apply(ns, external_secret("missing", json!({"data": [{"secretKey": "x", "remoteRef": {"key": "nope"}}]}))).await?;

        holds(ns, "data", &[("user", &user), ("password", &password), ("old", &old), ("new", &new), ("team", "a")]).await?;
        holds(ns, "found", &[("app-3", &fifth), ("app-4", &fifth), ("app-5", &fifth)]).await?;
        holds(ns, "tagged", &[("app-key", &new)]).await?;
        let side = json!({"side": password}).to_string();
        holds(ns, "whole", &[("user", &user), ("in", &side)]).await?;
        fails(ns, "missing", "Secret does not exist").await?;
        ensure!(google.count("POST /token").await? == 1, "more than one login: {:?}", google.seen().await?);
        let cause = format!("ExternalSecret/{}/", ns.name);
        ensure!(google.seen().await?.iter().any(|seen| seen.user_agent.contains(&cause)), "no request names its cause");

        google.disable("app-key").await?;
        sync_now(ns, EXTERNAL_SECRET, "data").await?;
        fails(ns, "data", "disabled or destroyed").await?;
        patch(
            ns,
            SECRET_STORE,
            "store",
            json!({"spec": {"provider": {"gcpsm": {"secretVersionSelectionPolicy": "LatestOrFetch"}}}}),
        )
        .await?;
        holds(ns, "data", &[("user", &user), ("password", &password), ("old", &old), ("new", &old), ("team", "a")]).await?;

        bears_faults(ns, &google, "found").await?;
        let key = google.login().await?["private_key"].as_str().unwrap().lines().nth(3).unwrap().to_owned();
        unseen(ns, &operator, &[user, password, old, new, fifth, key]).await.map(drop)
    })
}

#[test]
fn google_is_pushed_to_and_cleaned_up() -> Result<()> {
    with_lab("gcp-push", async |ns| {
        let google = Cloud::google(dir()?).await?;
        let [first, second] = ["first", "second"].map(value);
        google.put("theirs", "untouched", &json!({"managed-by": "terraform"})).await?;
        let operator = operator_of(ns, &google).await?;
        gcp_store(ns, &google).await?;
        secret(ns, "source", json!({"password": first})).await?;
        let spec = json!({"labels": {"team": "a"}, "annotations": {"who": "me"}, "replicationLocations": ["europe-west3"]});
        let mut part = place("parts", None);
        part["match"]["remoteRef"]["property"] = json!("password");
        let data = json!([place("pushed", Some(spec)), part]);
        let selector = json!({"secret": {"name": "source"}});
        apply(ns, push_secret("push", "store", selector.clone(), json!({"data": data, "deletionPolicy": "Delete"}))).await?;
        apply(ns, push_secret("foreign", "store", selector, json!({"data": [place("theirs", None)]}))).await?;
        ns.wait_ready(PUSH_SECRET, "push", "True", "Synced").await?;
        let found = google.look("pushed").await?;
        ensure!(found["value"] == first.as_str() && found["versions"] == 1, "{}", found["versions"]);
        ensure!(found["tags"] == json!({"managed-by": "external-secrets", "team": "a"}), "{}", found["tags"]);
        ensure!(found["detail"]["annotations"] == json!({"who": "me"}), "{}", found["detail"]);
        ensure!(found["detail"]["replication"].as_str().is_some_and(|r| r.contains("europe-west3")), "{}", found["detail"]);
        ensure!(google.look("parts").await?["value"].as_str() == Some(&json!({"password": first}).to_string()), "the part");
        let message = ns.wait_ready(PUSH_SECRET, "foreign", "False", "Errored").await?;
        ensure!(message.contains("secret theirs is not managed by external secrets"), "{message}");
        ensure!(google.look("theirs").await?["value"] == "untouched", "it was written");

        let writes = async || {
            let seen = google.seen().await?;
            anyhow::Ok(seen.iter().filter(|s| !s.line.starts_with("GET ") && !s.line.starts_with("POST /token")).count())
        };
        let (before, reads) = (writes().await?, google.count("GET ").await?);
        sync_now(ns, PUSH_SECRET, "push").await?;
        eventually("the push looks again", async || Ok(google.count("GET ").await? >= reads + 4)).await?;
        ensure!(writes().await? == before, "an unchanged push wrote");

        secret(ns, "source", json!({"password": second})).await?;
        eventually("the new value is there", async || Ok(google.look("pushed").await?["value"] == second.as_str())).await?;
        ensure!(google.look("pushed").await?["versions"] == 2, "more than one version was made");
        ns.kubectl(&["delete", "pushsecret", "push", "foreign"]).await?;
        eventually("what was pushed is gone", async || {
            Ok(google.look("pushed").await?.is_null() && google.look("parts").await?.is_null())
        })
        .await?;
        ensure!(google.look("theirs").await?["value"] == "untouched", "it was deleted");
        unseen(ns, &operator, &[first, second]).await.map(drop)
    })
}

#[test]
fn google_takes_a_service_accounts_token_by_federation() -> Result<()> {
    with_lab("gcp-federation", async |ns| {
        let google = Cloud::google(dir()?).await?;
        let password = value("password");
        google.put("app", &password, &json!({})).await?;
        let operator = operator_of(ns, &google).await?;
        let pool = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/cluster";
        let federated = |name: &str, audience: &str| {
            let account = json!({"name": "app", "audiences": [audience]});
            let federation = json!({"serviceAccountRef": account, "audience": pool, "gcpServiceAccountEmail": ACCOUNT});
            store(name, json!({"gcpsm": {"projectID": PROJECT, "auth": {"workloadIdentityFederation": federation}}}))
        };
        apply(ns, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}})).await?;
        apply(ns, federated("store", &format!("https:{pool}"))).await?;
        apply(ns, external_secret("app", json!({"data": [{"secretKey": "p", "remoteRef": {"key": "app"}}]}))).await?;
        holds(ns, "app", &[("p", &password)]).await?;
        ensure!(google.count("POST /v1/token").await? == 1 && google.count("POST /v1/projects/-/").await? == 1, "one login");

        apply(ns, federated("other", "https://elsewhere.example.com")).await?;
        let message = ns.wait_ready(SECRET_STORE, "other", "False", "InvalidProviderConfig").await?;
        ensure!(message.contains("does not accept the credentials"), "{message}");
        unseen(ns, &operator, &[password]).await.map(drop)
    })
}

#[test]
fn the_official_clients_take_the_stand_in_for_azure() -> Result<()> {
    install_crypto();
    block_on(async { Cloud::azure(dir()?, "").await?.prove().await })
}

/// What a store of the stand-in's vault has whatever the login.
fn vault(azure: &Cloud, more: Value) -> Value {
    let mut block = json!({
        "vaultUrl": azure.url(), "environmentType": "AzureStackCloud", "useAzureSDK": true,
        "customCloudConfig": {"activeDirectoryEndpoint": azure.url()},
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        block[field] = value.clone();
    }
    json!({"azurekv": block})
}

/// A store that logs in with an application's secret.
async fn azure_store(ns: &Sandbox<'_>, azure: &Cloud) -> Result<Value> {
    let login = azure.login().await?;
    secret(ns, "azure-login", json!({"id": login["client"], "secret": login["secret"]})).await?;
    let key = |key: &str| json!({"name": "azure-login", "key": key});
    let keys = json!({"clientId": key("id"), "clientSecret": key("secret")});
    let mut object = store("store", vault(azure, json!({"tenantId": login["tenant"], "authSecretRef": keys})));
    object["spec"]["retrySettings"] = json!({"maxRetries": 0});
    Ok(object)
}

const ENTRA: &str = "POST /e2e-tenant/oauth2/v2.0/token";

#[test]
fn azure_is_read_searched_and_never_quoted() -> Result<()> {
    with_lab("azure-read", async |ns| {
        let azure = Cloud::azure(dir()?, "").await?;
        let [user, password, old, new, fifth] = ["user", "password", "old", "new", "fifth"].map(value);
        azure.put("app-db", &json!({"user": user, "in": {"side": password}}).to_string(), &json!({"team": "a"})).await?;
        azure.put("app-key", &old, &json!({})).await?;
        let version = azure.look("app-key").await?["detail"]["version"].clone();
        azure.put("app-key", &new, &json!({"team": "b"})).await?;
        for name in ["app-3", "app-4", "app-5", "app-6", "other"] {
            azure.put(name, &fifth, &json!({"team": "c"})).await?;
        }
        azure.disable("app-6").await?;
        let operator = operator_of(ns, &azure).await?;
        apply(ns, azure_store(ns, &azure).await?).await?;
        let data = json!([
            {"secretKey": "user", "remoteRef": {"key": "app-db", "property": "user"}},
            {"secretKey": "password", "remoteRef": {"key": "secret/app-db", "property": "in.side"}},
            {"secretKey": "old", "remoteRef": {"key": "app-key", "version": version}},
            {"secretKey": "new", "remoteRef": {"key": "app-key"}},
            {"secretKey": "team", "remoteRef": {"key": "app-db", "metadataPolicy": "Fetch", "property": "team"}},
        ]);
        apply(ns, external_secret("data", json!({"data": data}))).await?;
        let by_name = json!([{"find": {"name": {"regexp": "^app-[0-9]$"}}}]);
        apply(ns, external_secret("found", json!({"dataFrom": by_name}))).await?;
        apply(ns, external_secret("whole", json!({"dataFrom": [{"extract": {"key": "app-db"}}]}))).await?;
        for (name, key) in [("missing", "nope"), ("disabled", "app-6"), ("odd", "../keys/app")] {
            apply(ns, external_secret(name, json!({"data": [{"secretKey": "x", "remoteRef": {"key": key}}]}))).await?;
        }
        holds(ns, "data", &[("user", &user), ("password", &password), ("old", &old), ("new", &new), ("team", "a")]).await?;
        holds(ns, "found", &[("app-3", &fifth), ("app-4", &fifth), ("app-5", &fifth)]).await?;
        // one after the other: Microsoft's stub mixes up the pages of lists that are read at the same time
        apply(ns, external_secret("tagged", json!({"dataFrom": [{"find": {"tags": {"team": "b"}}}]}))).await?;
        holds(ns, "tagged", &[("app-key", &new)]).await?;
        let side = json!({"side": password}).to_string();
        holds(ns, "whole", &[("user", &user), ("in", &side)]).await?;
        fails(ns, "missing", "Secret does not exist").await?;
        fails(ns, "disabled", "it is disabled").await?;
        fails(ns, "odd", "unknown Azure Keyvault object Type").await?;
        ensure!(azure.count(ENTRA).await? == 1, "more than one login: {:?}", azure.seen().await?);
        let cause = format!("ExternalSecret/{}/", ns.name);
        ensure!(azure.seen().await?.iter().any(|seen| seen.user_agent.contains(&cause)), "no request names its cause");
        bears_faults(ns, &azure, "data").await?;
        let login = azure.login().await?["secret"].as_str().unwrap().to_owned();
        unseen(ns, &operator, &[user, password, old, new, fifth, login]).await.map(drop)
    })
}

#[test]
fn azure_is_pushed_to_cleaned_up_and_recovered() -> Result<()> {
    with_lab("azure-push", async |ns| {
        let azure = Cloud::azure(dir()?, "").await?;
        let [first, second] = ["first", "second"].map(value);
        azure.put("theirs", "untouched", &json!({})).await?;
        let operator = operator_of(ns, &azure).await?;
        apply(ns, azure_store(ns, &azure).await?).await?;
        let pair = Authority::new()?.server("app.test", &["app.test"])?;
        let bundle = format!("{}{}", pair.cert, pair.key);
        secret(ns, "source", json!({"password": first, "key": pair.key, "bundle": bundle})).await?;
        let spec = json!({"tags": {"team": "a"}, "contentType": "text/x", "expirationDate": "2030-01-02T03:04:05Z"});
        let of = |key: &str, remote: &str| json!({"match": {"secretKey": key, "remoteRef": {"remoteKey": remote}}});
        let data = json!([place("pushed", Some(spec)), of("key", "key/pushed"), of("bundle", "cert/pushed")]);
        let selector = json!({"secret": {"name": "source"}});
        let push = push_secret("push", "store", selector.clone(), json!({"data": data, "deletionPolicy": "Delete"}));
        apply(ns, push.clone()).await?;
        apply(ns, push_secret("foreign", "store", selector, json!({"data": [place("theirs", None)]}))).await?;
        ns.wait_ready(PUSH_SECRET, "push", "True", "Synced").await?;
        let found = azure.look("pushed").await?;
        ensure!(found["value"] == first.as_str() && found["versions"] == 1, "{}", found["versions"]);
        ensure!(found["tags"] == json!({"managed-by": "external-secrets", "team": "a"}), "{}", found["tags"]);
        let detail = &found["detail"];
        ensure!(
            detail["contentType"] == "text/x" && detail["expires"].as_str().is_some_and(|e| e.starts_with("2030-01-0")),
            "{detail}"
        );
        ensure!(azure.look("key/pushed").await?["detail"]["kty"] == "EC", "{}", azure.look("key/pushed").await?);
        ensure!(azure.look("cert/pushed").await?["versions"] == 1, "{}", azure.look("cert/pushed").await?);
        let message = ns.wait_ready(PUSH_SECRET, "foreign", "False", "Errored").await?;
        ensure!(message.contains("theirs not managed by external-secrets"), "{message}");

        let writes = async || {
            let seen = azure.seen().await?;
            anyhow::Ok(seen.iter().filter(|s| !s.line.starts_with("GET ") && !s.line.starts_with(ENTRA)).count())
        };
        let (before, reads) = (writes().await?, azure.count("GET ").await?);
        sync_now(ns, PUSH_SECRET, "push").await?;
        eventually("the push looks again", async || Ok(azure.count("GET ").await? >= reads + 3)).await?;
        ensure!(writes().await? == before, "an unchanged push wrote");

        secret(ns, "source", json!({"password": second, "key": pair.key, "bundle": bundle})).await?;
        eventually("the new value is there", async || Ok(azure.look("pushed").await?["value"] == second.as_str())).await?;
        ensure!(azure.look("pushed").await?["versions"] == 2, "more than one version was made");
        ns.kubectl(&["delete", "pushsecret", "push", "foreign"]).await?;
        eventually("what was pushed is gone", async || {
            let mut left = Vec::new();
            for name in ["pushed", "key/pushed", "cert/pushed"] {
                left.push(!azure.look(name).await?.is_null());
            }
            Ok(!left.contains(&true))
        })
        .await?;
        ensure!(azure.look("theirs").await?["value"] == "untouched", "it was deleted");

        // What was deleted is in the vault for a while: the next push of that name recovers it.
        let again =
            push_secret("again", "store", json!({"secret": {"name": "source"}}), json!({"data": [place("pushed", None)]}));
        secret(ns, "source", json!({"password": first, "key": pair.key, "bundle": bundle})).await?;
        apply(ns, again).await?;
        ns.wait_ready(PUSH_SECRET, "again", "True", "Synced").await?;
        let found = azure.look("pushed").await?;
        ensure!(found["value"] == first.as_str() && found["versions"] == 3, "{}", found["versions"]);
        unseen(ns, &operator, &[first, second]).await.map(drop)
    })
}

#[test]
fn azure_takes_a_service_accounts_token() -> Result<()> {
    with_lab("azure-identity", async |ns| {
        let azure = Cloud::azure(dir()?, "").await?;
        let password = value("password");
        azure.put("app", &password, &json!({})).await?;
        let operator = operator_of(ns, &azure).await?;
        let login = azure.login().await?;
        let annotations = json!({"azure.workload.identity/client-id": login["client"], "azure.workload.identity/tenant-id": login["tenant"]});
        let metadata = json!({"name": "app", "annotations": annotations});
        apply(ns, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).await?;
        let identity = json!({"authType": "WorkloadIdentity", "serviceAccountRef": {"name": "app"}});
        apply(ns, store("store", vault(&azure, identity))).await?;
        apply(ns, external_secret("app", json!({"data": [{"secretKey": "p", "remoteRef": {"key": "app"}}]}))).await?;
        holds(ns, "app", &[("p", &password)]).await?;
        ensure!(azure.count(ENTRA).await? == 1, "more than one login");
        unseen(ns, &operator, &[password]).await.map(drop)
    })
}

/// A tenant writes the vault's address: no login of anybody goes to a server that asks for tokens of another domain.
#[test]
fn azure_gives_no_token_of_another_domain() -> Result<()> {
    with_lab("azure-domain", async |ns| {
        let azure = Cloud::azure(dir()?, "https://vault.azure.net").await?;
        let _operator = operator_of(ns, &azure).await?;
        apply(ns, azure_store(ns, &azure).await?).await?;
        let message = ns.wait_ready(SECRET_STORE, "store", "False", "InvalidProviderConfig").await?;
        ensure!(message.contains("a token of another domain than its own"), "{message}");
        let lines: Vec<String> = azure.seen().await?.into_iter().map(|seen| seen.line).collect();
        ensure!(lines.iter().all(|line| line.starts_with("GET /secrets?")), "{lines:?}");

        // The operator's own identity is not even tried.
        let own = json!({"vaultUrl": azure.url(), "authType": "ManagedIdentity"});
        apply(ns, store("own", json!({"azurekv": own}))).await?;
        let message = ns.wait_ready(SECRET_STORE, "own", "False", "InvalidProviderConfig").await?;
        ensure!(message.contains("with the operator's own identity it must end with .vault.azure.net"), "{message}");
        ensure!(azure.seen().await?.iter().all(|seen| seen.line.starts_with("GET /secrets?")), "it was tried");
        Ok(())
    })
}
