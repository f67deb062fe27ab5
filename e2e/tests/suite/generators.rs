//! Generators: values that stay as they are through restarts and kills, and what AWS gives out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use keyferry_e2e::aws::{ACCOUNT, REGION};
use keyferry_e2e::env::Sandbox;
use keyferry_e2e::progress;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::lab::{
    EXTERNAL_SECRET, PUSH_SECRET, SECRET_STORE, all_synced, apply, aws_store_object, eventually, external_secrets,
    fake_store, fingerprints, operator, patch, push_secret, ready, secrets, to_place, with_lab,
};

/// Group and version of the generators.
pub const API_VERSION: &str = "generators.external-secrets.io/v1alpha1";

/// Applies a generator.
pub async fn generator(ns: &Sandbox<'_>, kind: &str, name: &str, spec: Value) -> Result<()> {
    apply(ns, json!({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})).await
}

/// An ExternalSecret on one generator, refreshed every hour.
pub async fn user(ns: &Sandbox<'_>, name: &str, kind: &str, generator: &str) -> Result<()> {
    let entry = json!({"sourceRef": {"generatorRef": {"kind": kind, "name": generator}}});
    let spec = json!({"refreshInterval": "1h", "dataFrom": [entry]});
    apply(ns, json!({"apiVersion": EXTERNAL_SECRET.0, "kind": EXTERNAL_SECRET.1, "metadata": {"name": name}, "spec": spec}))
        .await
}

#[test]
fn a_restart_changes_no_generated_value() -> Result<()> {
    with_lab("generated", async |ns| {
        let mut operator = operator(ns, &[]).await?;
        for (kind, spec) in [("Password", json!({})), ("UUID", json!({})), ("SSHKey", json!({"keyType": "ed25519"}))] {
            generator(ns, kind, "g", spec).await?;
            user(ns, &kind.to_lowercase(), kind, "g").await?;
        }
        all_synced(ns).await?;
        let made = data(ns).await?;
        ensure!(made.len() == 3, "{made:?}");

        operator.kill().await?;
        let label = json!({"metadata": {"labels": {"while": "down"}}});
        patch(ns, ("v1", "Secret"), "uuid", label).await?;
        generator(ns, "Password", "g", json!({"length": 40})).await?;
        operator.start_again().await?;
        // what is created now is done after all that was there before
        generator(ns, "Fake", "g", json!({"data": {"k": "v"}})).await?;
        user(ns, "fake", "Fake", "g").await?;
        all_synced(ns).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        for (name, data) in made {
            ensure!(crate::generators::data(ns).await?.get(&name) == Some(&data), "{name} was generated anew");
        }

        let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        let before = fingerprints(ns).await?.remove("password");
        api.delete("password", &DeleteParams::default()).await?;
        let again = async || {
            let now = fingerprints(ns).await?.remove("password");
            anyhow::Ok(now.is_some() && now.map(|(_, data)| data) != before.clone().map(|(_, data)| data))
        };
        eventually("a Secret that was deleted is made anew, with another value", again).await?;
        let made = ns.secret("password").await?;
        ensure!(made.get("password").is_some_and(|p| p.chars().count() == 40), "by the generator as it is now");
        Ok(())
    })
}

async fn data(ns: &Sandbox<'_>) -> Result<BTreeMap<String, BTreeMap<String, Vec<u8>>>> {
    let plain = |secret: Secret| secret.data.unwrap_or_default().into_iter().map(|(k, v)| (k, v.0)).collect();
    Ok(secrets(ns).await?.into_iter().map(|(name, secret)| (name, plain(secret))).collect())
}

/// Whoever sees a generated value first may use it: it must be the last one, too, whenever the operator ends.
#[test]
fn kills_at_any_moment_change_no_generated_value() -> Result<()> {
    const OBJECTS: usize = 40;
    const KILLS: u64 = 4;
    with_lab("generated-kills", async |ns| {
        let mut operator = operator(ns, &[]).await?;
        generator(ns, "UUID", "g", json!({})).await?;
        let first: Arc<Mutex<BTreeMap<String, Vec<u8>>>> = Arc::default();
        let stop = Arc::new(AtomicBool::new(false));
        let witness =
            tokio::spawn(witness(Api::namespaced(ns.cluster().client.clone(), &ns.name), first.clone(), stop.clone()));
        let create = async {
            for object in 0..OBJECTS {
                user(ns, &format!("es-{object}"), "UUID", "g").await?;
            }
            anyhow::Ok(())
        };
        let kill = async {
            for round in 0..KILLS {
                tokio::time::sleep(Duration::from_millis(150 + 170 * round)).await;
                operator.kill().await?;
                operator.start_again().await?;
            }
            anyhow::Ok(())
        };
        let (created, killed) = tokio::join!(create, kill);
        created?;
        killed?;
        all_synced(ns).await?;
        stop.store(true, Ordering::Relaxed);
        witness.await??;
        let (last, first) = (data(ns).await?, first.lock().await.clone());
        ensure!(last.len() == OBJECTS, "{} Secrets", last.len());
        let changed: Vec<&String> = first
            .iter()
            .filter(|(name, value)| last.get(*name).and_then(|d| d.get("uuid")) != Some(*value))
            .map(|(n, _)| n)
            .collect();
        progress::note(format!("{} values seen early, {} kills", first.len(), KILLS));
        ensure!(changed.is_empty(), "generated twice: {changed:?}");
        Ok(())
    })
}

/// Looks at the Secrets all the time and keeps the first value of each.
async fn witness(api: Api<Secret>, first: Arc<Mutex<BTreeMap<String, Vec<u8>>>>, stop: Arc<AtomicBool>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        for secret in api.list(&ListParams::default()).await?.items {
            if let (Some(name), Some(value)) = (secret.metadata.name, secret.data.and_then(|mut d| d.remove("uuid"))) {
                first.lock().await.entry(name).or_insert(value.0);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The generator makes the same each time: that its values are there says nothing of the label, which an admission policy refuses.
#[test]
fn a_refused_write_of_the_same_values_is_told_for_as_long_as_it_is_refused() -> Result<()> {
    with_lab("generated-refused", async |ns| {
        let name = format!("labels-of-{}", ns.name);
        let policy = json!({
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": ns.name}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": ["secrets"]}],
            },
            "validations": [{"expression": "!has(object.metadata.labels) || !('team' in object.metadata.labels)"}],
        });
        let binding = json!({"policyName": name, "validationActions": ["Deny"]});
        for (kind, spec) in [("ValidatingAdmissionPolicy", policy), ("ValidatingAdmissionPolicyBinding", binding)] {
            let version = "admissionregistration.k8s.io/v1";
            apply(ns, json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})).await?;
        }
        let _operator = operator(ns, &[]).await?;
        generator(ns, "Fake", "g", json!({"data": {"k": "v"}})).await?;
        user(ns, "es", "Fake", "g").await?;
        all_synced(ns).await?;
        let api: Api<Secret> = Api::namespaced(ns.cluster().client.clone(), &ns.name);
        let label = json!({"metadata": {"labels": {"team": "a"}}});
        let (trial, labelled) = (PatchParams { dry_run: true, ..PatchParams::default() }, Patch::Merge(label.clone()));
        eventually("the policy is in force", async || Ok(api.patch("es", &trial, &labelled).await.is_err())).await?;

        patch(ns, EXTERNAL_SECRET, "es", label).await?;
        ns.wait_ready(EXTERNAL_SECRET, "es", "False", "SecretSyncedError").await?;
        // it is tried again after one, two and four seconds
        let told = Instant::now();
        while told.elapsed() < Duration::from_secs(6) {
            let all = external_secrets(ns).await?;
            ensure!(
                all.iter().all(|es| ready(es).0 == "False"),
                "after {:.1?}: {:?}",
                told.elapsed(),
                all.first().map(ready)
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    })
}

#[test]
fn a_generator_that_comes_later_is_used_at_once() -> Result<()> {
    with_lab("generator-later", async |ns| {
        let _operator = operator(ns, &[]).await?;
        user(ns, "es", "Password", "later").await?;
        let message = ns.wait_ready(EXTERNAL_SECRET, "es", "False", "SecretSyncedError").await?;
        let detail = r#"unable to get generator: Password.generators.external-secrets.io "later" not found"#;
        ensure!(message.ends_with(detail), "{message}");
        // the pauses between tries have grown by now
        tokio::time::sleep(Duration::from_secs(12)).await;
        generator(ns, "Password", "later", json!({})).await?;
        let synced = async || Ok(external_secrets(ns).await?.iter().all(|es| ready(es).0 == "True"));
        let took = eventually("it is synced", synced).await?;
        progress::note(format!("synced {:.3} s after the generator came", took.as_secs_f64()));
        ensure!(took < Duration::from_secs(3), "took {took:?}: it was not woken");
        Ok(())
    })
}

/// The value that a PushSecret put into AWS; empty where there is none.
async fn in_aws(ns: &Sandbox<'_>, key: &str) -> String {
    let answer = ns.aws().secrets_manager("GetSecretValue", json!({"SecretId": key})).await.unwrap_or_default();
    let bytes = STANDARD.decode(answer["SecretBinary"].as_str().unwrap_or_default()).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}

#[test]
fn a_push_generates_when_it_is_due_and_never_else() -> Result<()> {
    with_lab("generated-push", async |ns| {
        let mut operator = operator(ns, &[]).await?;
        let own = format!("arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{}/*", ns.name);
        let writes = json!([{"Effect": "Allow", "Action": "secretsmanager:*", "Resource": own}]);
        let key = ns.aws().create_user(&ns.name, writes).await?;
        let login = json!({"id": key.id, "key": key.secret});
        apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": login})).await?;
        apply(ns, aws_store_object("aws", "login")).await?;
        generator(ns, "Password", "g", json!({"length": 20})).await?;
        let place = format!("{}/password", ns.name);
        let more = json!({
            "deletionPolicy": "Delete", "data": to_place("line", &place),
            "template": {"data": {"line": "made:{{ .password }}"}},
        });
        let from = json!({"generatorRef": {"kind": "Password", "name": "g"}});
        apply(ns, push_secret("push", "aws", from, more)).await?;
        ns.wait_ready(PUSH_SECRET, "push", "True", "Synced").await?;
        let first = in_aws(ns, &place).await;
        ensure!(first.starts_with("made:") && first.chars().count() == 25, "{} characters", first.chars().count());

        operator.kill().await?;
        generator(ns, "Password", "g", json!({"length": 40})).await?;
        operator.start_again().await?;
        // what is created now is done after all that was there before
        apply(ns, fake_store("fake", &[])).await?;
        let from = json!({"generatorRef": {"kind": "Password", "name": "g"}});
        apply(ns, push_secret("after", "fake", from, json!({"data": to_place("password", "after")}))).await?;
        ns.wait_ready(PUSH_SECRET, "after", "True", "Synced").await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        ensure!(in_aws(ns, &place).await == first, "a restart, or a change of the generator, made another value");
        let labels = format!(r#"name="push",namespace="{}",condition="Ready",status="True""#, ns.name);
        let condition = format!("pushsecret_status_condition{{{labels}}} 1");
        ensure!(operator.metrics().await?.contains(&condition), "after a restart the metrics do not show what is in line");

        patch(ns, PUSH_SECRET, "push", json!({"metadata": {"annotations": {"force-sync": "1"}}})).await?;
        eventually("a forced push makes another value", async || Ok(in_aws(ns, &place).await != first)).await?;
        let forced = in_aws(ns, &place).await;
        ensure!(forced.chars().count() == 45, "by the generator as it is now");

        patch(ns, PUSH_SECRET, "push", json!({"spec": {"refreshInterval": "2s"}})).await?;
        let mut seen = std::collections::BTreeSet::from([first, forced]);
        eventually("the interval makes others", async || {
            seen.insert(in_aws(ns, &place).await);
            Ok(seen.len() >= 5)
        })
        .await?;

        ns.kubectl(&["delete", "pushsecret", "push"]).await?;
        eventually("what was pushed goes with the PushSecret", async || Ok(in_aws(ns, &place).await.is_empty())).await?;
        Ok(())
    })
}

#[test]
fn a_push_whose_generator_comes_later_goes_on_at_once() -> Result<()> {
    with_lab("generated-push-later", async |ns| {
        let _operator = operator(ns, &[]).await?;
        apply(ns, fake_store("fake", &[])).await?;
        let from = json!({"generatorRef": {"kind": "UUID", "name": "later"}});
        apply(ns, push_secret("push", "fake", from, json!({"data": to_place("uuid", "pushed")}))).await?;
        let message = ns.wait_ready(PUSH_SECRET, "push", "False", "Errored").await?;
        let text =
            r#"could not get source secret: unable to get generator: UUID.generators.external-secrets.io "later" not found"#;
        ensure!(message == text, "{message}");
        // the pauses between tries have grown by now
        tokio::time::sleep(Duration::from_secs(12)).await;
        let begun = Instant::now();
        generator(ns, "UUID", "later", json!({})).await?;
        ns.wait_ready(PUSH_SECRET, "push", "True", "Synced").await?;
        ensure!(begun.elapsed() < Duration::from_secs(3), "took {:?}: it was not woken", begun.elapsed());
        let back =
            json!({"secretStoreRef": {"name": "fake", "kind": "SecretStore"}, "data": crate::lab::one("uuid", "pushed")});
        apply(ns, crate::lab::external_secret("back", back)).await?;
        all_synced(ns).await?;
        let uuid = ns.secret("back").await?.remove("uuid").unwrap_or_default();
        ensure!(uuid.len() == 36, "the value that was pushed is no UUID");
        Ok(())
    })
}

#[test]
fn a_store_in_deletion_is_emptied_while_the_generator_fails() -> Result<()> {
    with_lab("generated-push-leave", async |ns| {
        let _operator = operator(ns, &[]).await?;
        apply(ns, fake_store("stays", &[])).await?;
        apply(ns, fake_store("goes", &[])).await?;
        generator(ns, "Password", "g", json!({"length": 20})).await?;
        let more = json!({
            "deletionPolicy": "Delete", "refreshInterval": "1s", "data": to_place("password", "pushed"),
            "secretStoreRefs": [{"name": "stays"}, {"name": "goes"}],
        });
        let from = json!({"generatorRef": {"kind": "Password", "name": "g"}});
        apply(ns, push_secret("push", "stays", from, more)).await?;
        ns.wait_ready(PUSH_SECRET, "push", "True", "Synced").await?;
        let held = |store: Option<&Value>| {
            store.is_some_and(|s| {
                s["metadata"]["finalizers"].to_string().contains("secretstore.externalsecrets.io/finalizer")
            })
        };
        ns.wait(SECRET_STORE, "goes", held).await?;
        generator(ns, "Password", "g", json!({"length": 70_000})).await?;
        ns.wait_ready(PUSH_SECRET, "push", "False", "Errored").await?;
        ns.kubectl(&["delete", "secretstore", "goes", "--timeout=20s"]).await.map(drop)
    })
}

#[test]
fn aws_gives_out_registry_logins_and_session_tokens() -> Result<()> {
    with_lab("generator-aws", async |ns| {
        let _operator = operator(ns, &[]).await?;
        let allow = |action: &str| json!([{"Effect": "Allow", "Action": action, "Resource": "*"}]);
        let key = ns.aws().create_user(&ns.name, allow("ecr:GetAuthorizationToken")).await?;
        let login = json!({"id": key.id, "key": key.secret});
        apply(ns, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "stringData": login})).await?;
        let part = |key: &str| json!({"name": "login", "key": key});
        let auth = json!({"secretRef": {"accessKeyIDSecretRef": part("id"), "secretAccessKeySecretRef": part("key")}});
        generator(ns, "ECRAuthorizationToken", "g", json!({"region": REGION, "auth": auth})).await?;
        let asked = json!({"sessionDuration": 900});
        generator(ns, "STSSessionToken", "g", json!({"region": REGION, "auth": auth, "requestParameters": asked})).await?;
        user(ns, "ecr", "ECRAuthorizationToken", "g").await?;
        user(ns, "sts", "STSSessionToken", "g").await?;
        all_synced(ns).await?;
        let ecr = ns.secret("ecr").await?;
        let keys: Vec<&str> = ecr.keys().map(String::as_str).collect();
        ensure!(keys == ["expires_at", "password", "proxy_endpoint", "username"], "{keys:?}");
        ensure!(ecr["username"] == "AWS" && !ecr["password"].is_empty());
        let sts = ns.secret("sts").await?;
        let keys: Vec<&str> = sts.keys().map(String::as_str).collect();
        ensure!(keys == ["access_key_id", "expiration", "secret_access_key", "session_token"], "{keys:?}");
        ensure!(sts["access_key_id"] != key.id && !sts["session_token"].is_empty());
        Ok(())
    })
}
