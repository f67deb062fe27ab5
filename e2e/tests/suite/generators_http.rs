//! Generators that call a server: what is asked and stored, what is taken back, and what is refused for the safety of tenants.

use std::time::Duration;

use anyhow::{Result, ensure};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::services::{Gitlab, Grafana, Webhook};
use serde_json::{Value, json};

use crate::canary::{unseen, value};
use crate::generators::{API_VERSION, generator, user};
use crate::lab::{EXTERNAL_SECRET, all_synced, apply, eventually, external_secret, objects, operator, patch, with_lab};

/// What lets the operator call the servers of these tests.
const LOCAL: &str = "--allow-local-endpoints";
const STATE: (&str, &str) = (API_VERSION, "GeneratorState");

/// A Secret that requests may hold, if `labelled`.
async fn login(ns: &Sandbox<'_>, name: &str, labelled: bool, token: &str) -> Result<()> {
    let labels = if labelled { json!({"external-secrets.io/type": "webhook"}) } else { json!({}) };
    let data = json!({"user": "bob", "token": token});
    apply(
        ns,
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "stringData": data}),
    )
    .await
}

/// A Webhook whose request is made of what the Secret `login` holds.
fn webhook(url: &str, login: &str) -> Value {
    json!({
        "url": format!("{url}/{{{{ .login.user }}}}/issue?for={{{{ .login.user | upper }}}}"),
        "method": "POST",
        "headers": {"Authorization": "Bearer {{ .login.token }}", "Content-Type": "application/json"},
        "body": r#"{"user": {{ .login.user | quote }}}"#,
        "result": {"jsonPath": "$.data.credentials"},
        "secrets": [{"name": "login", "secretRef": {"name": login}}],
    })
}

/// What the service of [`webhook`] answers.
fn answer(password: &str) -> Value {
    json!({"data": {"credentials": {"username": "bob", "password": password, "port": 5432}, "other": "not asked for"}})
}

/// An ExternalSecret on a Webhook of the same name that logs in by the Secret `login`.
async fn on_webhook(ns: &Sandbox<'_>, name: &str, url: &str, login: &str) -> Result<()> {
    generator(ns, "Webhook", name, webhook(url, login)).await?;
    user(ns, name, "Webhook", name).await
}

/// Waits until an ExternalSecret failed, and returns why.
async fn failed(ns: &Sandbox<'_>, name: &str) -> Result<String> {
    let message = ns.wait_ready(EXTERNAL_SECRET, name, "False", "SecretSyncedError").await?;
    ensure!(ns.secret(name).await.is_err(), "{name} has a Secret");
    Ok(message)
}

#[test]
fn a_webhook_is_asked_by_templates_and_tells_no_value() -> Result<()> {
    with_lab("webhook", async |ns| {
        let [token, wrong, password] = ["token", "wrong", "password"].map(value);
        let service = Webhook::start(&token, answer(&password)).await?;
        let operator = operator(ns, &[LOCAL, "--loglevel=trace"]).await?;
        login(ns, "login", true, &token).await?;
        on_webhook(ns, "good", service.url(), "login").await?;
        ns.wait_synced("good").await?;
        let secret = ns.secret("good").await?;
        let held: Vec<(&str, &str)> = secret.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        ensure!(held == [("password", password.as_str()), ("port", "5432"), ("username", "bob")], "{:?}", secret.keys());
        let asked = service.asked();
        ensure!(asked.len() == 1, "asked {} times", asked.len());
        let request = (asked[0].method.as_str(), asked[0].path.as_str(), asked[0].query.as_str());
        ensure!(request == ("POST", "/bob/issue", "for=BOB"), "{request:?}");
        ensure!(asked[0].body == json!({"user": "bob"}), "{}", asked[0].body);

        // Any Secret could be sent to any server else.
        login(ns, "unlabelled", false, &token).await?;
        on_webhook(ns, "no-label", service.url(), "unlabelled").await?;
        let message = failed(ns, "no-label").await?;
        let detail = format!(
            "spec.secrets[0].secretRef: Secret {}/unlabelled does not carry the label 'external-secrets.io/type: webhook'",
            ns.name
        );
        ensure!(message.contains(&detail), "{message}");
        ensure!(service.asked().len() == 1, "the service was asked");

        // The service quotes the token that it refuses.
        login(ns, "wrong", true, &wrong).await?;
        on_webhook(ns, "refused", service.url(), "wrong").await?;
        let message = failed(ns, "refused").await?;
        ensure!(message.contains("401"), "{message}");
        unseen(ns, &operator, &[token, wrong, password]).await.map(drop)
    })
}

#[test]
fn a_webhook_at_loopback_is_refused_unless_allowed() -> Result<()> {
    with_lab("webhook-local", async |ns| {
        let (token, password) = (value("token"), value("password"));
        let service = Webhook::start(&token, answer(&password)).await?;
        let mut guarded = operator(ns, &[]).await?;
        login(ns, "login", true, &token).await?;
        on_webhook(ns, "es", service.url(), "login").await?;
        let message = failed(ns, "es").await?;
        let detail =
            "the URL leads to the operator's own Pod or node, or to a cloud's metadata service, which is not allowed";
        ensure!(message.contains(detail) && message.contains(LOCAL), "{message}");
        ensure!(service.asked().is_empty(), "the service was asked");
        guarded.terminate(Duration::from_secs(30)).await?;

        let _operator = operator(ns, &[LOCAL]).await?;
        ns.wait_synced("es").await?;
        ensure!(ns.secret("es").await?["password"] == password, "the Secret does not hold what the service answers");
        Ok(())
    })
}

/// A Grafana generator `g` that logs in with `admin`, for tokens of the service account `ci`.
async fn grafana_generator(ns: &Sandbox<'_>, url: &str, admin: &str) -> Result<()> {
    login(ns, "login", false, admin).await?;
    let auth = json!({"token": {"name": "login", "key": "token"}});
    let account = json!({"name": "ci", "role": "Viewer"});
    generator(ns, "Grafana", "g", json!({"url": url, "auth": auth, "serviceAccount": account})).await
}

/// The id of the token that a state is about.
fn token_id(state: &Value) -> Option<u64> {
    state.pointer("/spec/state/serviceAccount/tokenID")?.as_u64()
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn what_grafana_made_is_taken_back() -> Result<()> {
    with_lab("grafana", async |ns| {
        let admin = value("admin");
        let grafana = Grafana::start(&admin, &value("made")).await?;
        let operator = operator(ns, &[LOCAL, "--loglevel=trace", "--generator-gc-grace-period=1s"]).await?;
        grafana_generator(ns, grafana.url(), &admin).await?;
        user(ns, "es", "Grafana", "g").await?;
        all_synced(ns).await?;
        let (first, made) = (ns.secret("es").await?, grafana.tokens());
        ensure!(
            first.len() == 2 && first["login"] == "sa-1-ci" && made.len() == 1,
            "{:?}, {} tokens",
            first.keys(),
            made.len()
        );
        ensure!(made.values().eq([&first["token"]]), "the Secret holds another token");

        let states = objects(ns, STATE).await?;
        ensure!(states.len() == 1, "{states:?}");
        let (state, name) = (&states[0], text(&states[0], "/metadata/name").to_owned());
        let owner = &state["metadata"]["ownerReferences"][0];
        let uid = ns.kubectl(&["get", "externalsecret", "es", "-o", "jsonpath={.metadata.uid}"]).await?;
        ensure!(owner["kind"] == "ExternalSecret" && owner["name"] == "es" && owner["uid"] == uid, "{owner}");
        let label = &state["metadata"]["labels"]["generators.external-secrets.io/owner-key"];
        ensure!(label.as_str().is_some_and(|label| label.len() == 56), "{label}");
        ensure!(token_id(state).as_ref() == made.keys().next(), "{state}");

        // A refresh makes a new token. The old one stays as long as it cannot be deleted, and its state with it.
        grafana.delete_nothing(true);
        patch(ns, EXTERNAL_SECRET, "es", json!({"metadata": {"annotations": {"force-sync": "now"}}})).await?;
        ns.wait_secret("es", |data| data.get("token").is_some_and(|token| *token != first["token"])).await?;
        let second = ns.secret("es").await?["token"].clone();
        ns.wait_event("GeneratorState", &name, "Warning CleanupFailed: unable to clean up: ").await?;
        let states = objects(ns, STATE).await?;
        let leaving: Vec<&str> = states
            .iter()
            .filter(|state| state["metadata"]["deletionTimestamp"].is_string())
            .map(|state| text(state, "/metadata/name"))
            .collect();
        ensure!(states.len() == 2 && leaving == [name.as_str()], "{states:?}");
        ensure!(states.iter().all(|other| other["metadata"]["labels"] == state["metadata"]["labels"]), "{states:?}");
        ensure!(grafana.tokens().values().eq([&first["token"], &second]), "{:?}", grafana.tokens().keys());

        grafana.delete_nothing(false);
        eventually("the old token and its state are gone", async || {
            Ok(grafana.tokens().values().eq([&second]) && objects(ns, STATE).await?.len() == 1)
        })
        .await?;
        ensure!(ns.secret("es").await?["token"] == second, "the Secret holds a token that is deleted");
        unseen(ns, &operator, &[admin, first["token"].clone(), second]).await?;

        ns.kubectl(&["delete", "externalsecret", "es"]).await?;
        eventually("no token and no state is left", async || {
            Ok(grafana.tokens().is_empty() && objects(ns, STATE).await?.is_empty())
        })
        .await?;
        ensure!(grafana.accounts() == ["ci"], "the service account stays, and there is one: {:?}", grafana.accounts());
        Ok(())
    })
}

/// Long before the grace period of two minutes is over.
#[test]
fn what_grafana_made_for_a_failed_sync_is_taken_back_at_once() -> Result<()> {
    with_lab("grafana-failed", async |ns| {
        let admin = value("admin");
        let grafana = Grafana::start(&admin, &value("made")).await?;
        let operator = operator(ns, &[LOCAL, "--loglevel=trace"]).await?;
        grafana_generator(ns, grafana.url(), &admin).await?;
        let entry = json!({"sourceRef": {"generatorRef": {"kind": "Grafana", "name": "g"}}});
        // The message of `fail` would be the token.
        let template = json!({"data": {"key": "{{ fail .token }}"}});
        apply(ns, external_secret("es", json!({"dataFrom": [entry], "target": {"template": template}}))).await?;
        let message = failed(ns, "es").await?;
        ensure!(message.contains("template"), "{message}");
        eventually("what was made is gone", async || {
            Ok(grafana.made() > 0 && grafana.tokens().is_empty() && objects(ns, STATE).await?.is_empty())
        })
        .await?;
        unseen(ns, &operator, &[admin, value("made")]).await.map(drop)
    })
}

#[test]
fn what_gitlab_made_is_taken_back() -> Result<()> {
    with_lab("gitlab", async |ns| {
        let admin = value("admin");
        let gitlab = Gitlab::start(&admin, &value("made")).await?;
        let operator = operator(ns, &[LOCAL, "--loglevel=trace", "--generator-gc-grace-period=1s"]).await?;
        login(ns, "login", false, &admin).await?;
        let scopes = json!(["read_registry", "read_repository"]);
        let mut spec = json!({
            "url": gitlab.url(), "projectID": "group/app", "name": "pull", "scopes": scopes, "expiresAt": "2099-01-01T00:00:00Z",
            "auth": {"token": {"secretRef": {"name": "login", "key": "token"}}},
        });
        generator(ns, "GitlabDeployToken", "g", spec.clone()).await?;
        user(ns, "es", "GitlabDeployToken", "g").await?;
        all_synced(ns).await?;
        let (first, made) = (ns.secret("es").await?, gitlab.tokens());
        let (told, token) = made.get(&1).cloned().unwrap_or_default();
        ensure!(made.len() == 1 && first["token"] == token && first["username"] == "gitlab+deploy-token-1", "{told}");
        ensure!(
            told["name"] == "pull" && told["scopes"] == scopes && told["expires_at"] == "2099-01-01T00:00:00Z",
            "{told}"
        );

        // A refresh makes another; the old one stays while it cannot be deleted, and is not forgotten.
        gitlab.delete_nothing(true);
        patch(ns, EXTERNAL_SECRET, "es", json!({"metadata": {"annotations": {"force-sync": "now"}}})).await?;
        ns.wait_secret("es", |data| data.get("token").is_some_and(|token| *token != first["token"])).await?;
        let second = ns.secret("es").await?["token"].clone();
        ensure!(gitlab.tokens().len() == 2, "{:?}", gitlab.tokens().keys());
        gitlab.delete_nothing(false);
        eventually("the old token and its state are gone", async || {
            Ok(gitlab.tokens().keys().eq([&2]) && objects(ns, STATE).await?.len() == 1)
        })
        .await?;
        unseen(ns, &operator, &[admin.clone(), first["token"].clone(), second]).await?;
        ns.kubectl(&["delete", "externalsecret", "es"]).await?;
        eventually("no token and no state is left", async || {
            Ok(gitlab.tokens().is_empty() && objects(ns, STATE).await?.is_empty())
        })
        .await?;

        // What GitLab refuses, and who it refuses and quotes.
        spec["scopes"] = json!(["admin"]);
        generator(ns, "GitlabDeployToken", "wrong", spec.clone()).await?;
        user(ns, "wrong", "GitlabDeployToken", "wrong").await?;
        ensure!(failed(ns, "wrong").await?.contains("400"), "scopes that there are not");
        let stranger = value("stranger");
        login(ns, "stranger", false, &stranger).await?;
        spec["auth"]["token"]["secretRef"]["name"] = json!("stranger");
        generator(ns, "GitlabDeployToken", "stranger", spec).await?;
        user(ns, "stranger", "GitlabDeployToken", "stranger").await?;
        ensure!(failed(ns, "stranger").await?.contains("401"), "a stranger");
        ensure!(gitlab.tokens().is_empty(), "something was made for who was refused");
        unseen(ns, &operator, &[admin, stranger]).await.map(drop)
    })
}
