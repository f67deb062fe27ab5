//! Logins: access keys, ServiceAccounts, and the operator's own identity.

use std::time::Instant;

use anyhow::Result;
use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use keyferry_e2e::aws::{ACCOUNT, AccessKey, Aws};
use keyferry_e2e::certs::Authority;
use keyferry_e2e::env::{Sandbox, with_namespace};
use keyferry_e2e::http::Server;
use keyferry_e2e::recorder::Recorder;
use serde_json::{Value, json};

use super::*;

#[test]
fn a_wrong_access_key_is_refused_and_a_repaired_one_works_at_once() -> Result<()> {
    with_namespace("aws-key", async |ns| {
        let secret = put(ns, "db", "value").await?;
        ns.env.operator().await?;
        let key = ns.aws().create_user(&ns.name, read_own(ns)).await?;
        apply_key(ns, "key", &AccessKey { secret: "wrong".repeat(8), ..key.clone() }).await?;
        apply_store(ns, STORE, "aws", json!({"auth": key_auth("key")})).await?;
        apply_external_secret(ns, "app", "aws", data("db", &secret)).await?;
        let message = wait_failed(ns, "app").await?;
        assert!(message.contains("InvalidSignatureException") && message.contains("does not belong to"), "{message}");
        assert!(!message.contains(&key.id), "{message}");
        assert!(ns.secret("app").await.is_err(), "no Secret is made");
        ns.wait_event("ExternalSecret", "app", "Warning UpdateFailed: ").await?;
        let metrics = ns.env.operator().await?.lock().await.metrics().await?;
        let calls =
            format!("store_namespace=\"{}\",store=\"aws\",provider=\"AWS/SecretsManager\",outcome=\"denied\"", ns.name);
        assert!(metrics.contains(&calls), "denied calls are counted");

        let repaired = Instant::now();
        apply_key(ns, "key", &key).await?;
        ns.wait_synced("app").await?;
        took("a repaired access key took effect after", repaired, REPAIRED_WITHIN);
        wait_data(ns, "app", &[("db", "value")]).await?;

        apply_key(ns, "key", &AccessKey { id: "AKIAUNKNOWNUNKNOWN00".to_owned(), ..key }).await?;
        // Key and annotation come by two watches: the first forced read may still be with the old key.
        let forcing = async {
            loop {
                force_sync(ns, "app").await?;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let message = tokio::select! {
            message = wait_failed(ns, "app") => message?,
            failed = forcing => return failed,
        };
        assert!(message.contains("UnrecognizedClientException"), "{message}");
        wait_data(ns, "app", &[("db", "value")]).await
    })
}

#[test]
fn a_temporary_key_needs_its_session_token() -> Result<()> {
    with_namespace("aws-session", async |ns| {
        ns.env.operator().await?;
        let secret = put(ns, "db", "value").await?;
        let key = ns.aws().create_user(&ns.name, read_own(ns)).await?;
        let user = Aws::with_key(ns.env.aws.endpoint(), &key.id, &key.secret);
        apply_key(ns, "key", &user.temporary_key().await?).await?;
        let mut with_token = key_auth("key");
        with_token["secretRef"]["sessionTokenSecretRef"] = json!({"name": "key", "key": "session"});
        for (name, auth) in [("with", with_token), ("without", key_auth("key"))] {
            apply_store(ns, STORE, name, json!({"auth": auth})).await?;
            apply_external_secret(ns, name, name, data("db", &secret)).await?;
        }
        wait_data(ns, "with", &[("db", "value")]).await?;
        let message = wait_failed(ns, "without").await?;
        assert!(message.contains("UnrecognizedClientException"), "{message}");
        Ok(())
    })
}

/// The trust policy names a namespace. The same store and ServiceAccount in another one are refused, by AWS.
#[test]
fn a_service_account_is_let_in_from_its_namespace_only() -> Result<()> {
    with_namespace("aws-account", async |ns| {
        ns.env.operator().await?;
        let secret = put(ns, "db", "value").await?;
        let other = ns.env.namespace("aws-account-other").await?;
        let role = ns.service_account_with_role("app", read_own(ns)).await?;
        apply_account(&other, "app", json!({"eks.amazonaws.com/role-arn": role})).await?;
        for ns in [ns, &other] {
            apply_store(ns, STORE, "aws", json!({"auth": account_auth("app")})).await?;
            apply_external_secret(ns, "app", "aws", data("db", &secret)).await?;
        }
        wait_data(ns, "app", &[("db", "value")]).await?;
        ns.wait_ready(STORE, "aws", "True", "Valid").await?;

        let message = wait_failed(&other, "app").await?;
        for part in ["sts:AssumeRoleWithWebIdentity", &role, "AccessDenied"] {
            assert!(message.contains(part), "{part} is not in: {message}");
        }
        assert!(other.secret("app").await.is_err(), "no Secret is made");

        let sessions = |ns: &Sandbox<'_>| {
            let mut calls = ns.env.recorder.calls_for(&ns.name);
            calls.retain(|call| call.action == "AssumeRoleWithWebIdentity");
            calls.into_iter().map(|call| (call.text("RoleSessionName").to_owned(), call.status.is_success())).collect()
        };
        let granted: Vec<(String, bool)> = sessions(ns);
        assert_eq!(granted, [(format!("keyferry-{}@aws", ns.name), true)], "one login, whose session names the store");
        let refused: Vec<(String, bool)> = sessions(&other);
        assert!(refused.iter().all(|one| *one == (format!("keyferry-{}@aws", other.name), false)), "{refused:?}");
        other.delete().await
    })
}

#[test]
fn a_service_account_without_a_role_is_named_and_works_once_it_has_one() -> Result<()> {
    with_namespace("aws-norole", async |ns| {
        ns.env.operator().await?;
        let secret = put(ns, "db", "value").await?;
        apply_store(ns, STORE, "aws", json!({"auth": account_auth("app")})).await?;
        apply_external_secret(ns, "app", "aws", data("db", &secret)).await?;
        let store_says = async |part: &str| {
            let has = |object: Option<&Value>| object.is_some_and(|store| store["status"].to_string().contains(part));
            ns.wait(STORE, "aws", has).await?;
            ns.wait_ready(STORE, "aws", "False", "InvalidProviderConfig").await
        };
        store_says(&format!("ServiceAccount {}/app does not exist", ns.name)).await?;
        apply_account(ns, "app", json!({})).await?;
        store_says("set its annotation eks.amazonaws.com/role-arn").await?;
        assert!(wait_failed(ns, "app").await?.contains("is not ready"));

        let repaired = Instant::now();
        ns.service_account_with_role("app", read_own(ns)).await?;
        ns.wait_synced("app").await?;
        took("a ServiceAccount's new role took effect after", repaired, REPAIRED_WITHIN);
        ns.wait_ready(STORE, "aws", "True", "Valid").await.map(drop)
    })
}

/// The token is for the annotation's audience and for those of the store, and the role's trust policy asks for one of them.
#[test]
fn audiences_of_annotation_and_store_are_in_the_token() -> Result<()> {
    with_namespace("aws-audience", async |ns| {
        ns.env.operator().await?;
        let secret = put(ns, "db", "value").await?;
        let role = ns.service_account_with_role("app", read_own(ns)).await?;
        let annotations = json!({"eks.amazonaws.com/role-arn": role, "eks.amazonaws.com/audience": "of.annotation"});
        apply_account(ns, "app", annotations).await?;
        let account = json!({"name": "app", "audiences": ["sts.amazonaws.com", "of.store"]});
        apply_store(ns, STORE, "aws", json!({"auth": {"jwt": {"serviceAccountRef": account}}})).await?;
        apply_external_secret(ns, "app", "aws", data("db", &secret)).await?;
        wait_data(ns, "app", &[("db", "value")]).await?;

        let calls = ns.env.recorder.calls_for(&ns.name);
        let login = calls.iter().find(|call| call.action == "AssumeRoleWithWebIdentity").unwrap();
        let claims = claims(login.text("WebIdentityToken"));
        assert_eq!(claims["aud"], json!(["of.annotation", "sts.amazonaws.com", "of.store"]));
        assert_eq!(claims["sub"], format!("system:serviceaccount:{}:app", ns.name));
        Ok(())
    })
}

/// A store without `auth` uses what the operator itself has: keys, a token as IRSA mounts it, or EKS Pod Identity.
#[test]
fn without_auth_the_operators_own_identity_is_used() -> Result<()> {
    with_namespace("aws-own", async |ns| {
        let secret = put(ns, "db", "value").await?;
        let user = ns.aws().create_user(&ns.name, read_own(ns)).await?;
        let keys = vec![
            ("AWS_ACCESS_KEY_ID".to_owned(), user.id.clone()),
            ("AWS_SECRET_ACCESS_KEY".to_owned(), user.secret.clone()),
        ];

        let dir = tempfile::tempdir()?;
        let role = ns.service_account_with_role("operator", read_own(ns)).await?;
        let token = dir.path().join("token");
        std::fs::write(&token, ns.cluster().token(&ns.name, "operator", Some("sts.amazonaws.com")).await?)?;
        let irsa =
            vec![("AWS_WEB_IDENTITY_TOKEN_FILE".to_owned(), token.display().to_string()), ("AWS_ROLE_ARN".to_owned(), role)];

        let agent = pod_identity_agent(ns, "pod-token").await?;
        let pod_token = dir.path().join("pod-token");
        std::fs::write(&pod_token, "pod-token")?;
        let pod_identity = vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned(), format!("{}/v1/credentials", agent.url())),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE".to_owned(), pod_token.display().to_string()),
        ];

        let identity = async |name: &str, env: Vec<(String, String)>| {
            let class = format!("{}-{name}", ns.name);
            let _operator = operator_of_class(ns, &class, &[], env).await?;
            let aws = json!({"service": "SecretsManager", "region": REGION});
            apply(ns, STORE, name, json!({"controller": class, "provider": {"aws": aws}})).await?;
            apply_external_secret(ns, name, name, data("db", &secret)).await?;
            wait_data(ns, name, &[("db", "value")]).await
        };
        futures::try_join!(identity("keys", keys), identity("irsa", irsa), identity("pod-identity", pod_identity))?;
        Ok(())
    })
}

/// `AWS_CA_BUNDLE` holds the authorities that AWS's certificates are checked against; without it, it is the system's.
#[test]
fn the_ca_bundle_of_the_environment_is_trusted() -> Result<()> {
    with_namespace("aws-tls", async |ns| {
        let secret = put(ns, "db", "value").await?;
        apply_key(ns, "key", &ns.aws().create_user(&ns.name, read_own(ns)).await?).await?;
        let authority = Authority::new()?;
        let server = authority.server("aws", &["127.0.0.1"])?;
        let recorder = Recorder::start(ns.env.aws.endpoint(), Some(&server)).await?;
        let dir = tempfile::tempdir()?;
        let bundle = dir.path().join("ca.pem");
        std::fs::write(&bundle, &authority.pair().cert)?;

        let endpoint = ("AWS_SECRETSMANAGER_ENDPOINT".to_owned(), recorder.url().to_owned());
        let trusting = vec![endpoint.clone(), ("AWS_CA_BUNDLE".to_owned(), bundle.display().to_string())];
        let operator = async |name: &str, env: Vec<(String, String)>| {
            let class = format!("{}-{name}", ns.name);
            let operator = operator_of_class(ns, &class, &[], env).await?;
            let aws = json!({"service": "SecretsManager", "region": REGION, "auth": key_auth("key")});
            apply(ns, STORE, name, json!({"controller": class, "provider": {"aws": aws}})).await?;
            apply_external_secret(ns, name, name, data("db", &secret)).await?;
            anyhow::Ok(operator)
        };
        let _operators = futures::try_join!(operator("trusting", trusting), operator("doubting", vec![endpoint]))?;
        wait_data(ns, "trusting", &[("db", "value")]).await?;
        let message = wait_failed(ns, "doubting").await?;
        assert!(message.contains("no connection to AWS"), "{message}");
        Ok(())
    })
}

/// What runs on the nodes of EKS: gives credentials to who shows the token of the pod.
async fn pod_identity_agent(ns: &Sandbox<'_>, token: &'static str) -> Result<Server> {
    let trust = json!([{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]);
    let role = ns.aws().create_role(&format!("{}-pod", ns.name), trust, read_own(ns)).await?;
    let key = ns.aws().assume_role(&role).await?;
    let answer = json!({
        "AccessKeyId": key.id, "SecretAccessKey": key.secret, "Token": key.session,
        "Expiration": "2100-01-01T00:00:00Z", "AccountId": ACCOUNT,
    });
    let answer = answer.to_string();
    Server::start(None, move |request| {
        let shown = request.headers().get("authorization").is_some_and(|value| value == token);
        let (status, body) = if shown { (200, answer.clone()) } else { (401, String::new()) };
        async move { Ok(Response::builder().status(status).body(Full::new(Bytes::from(body)))?) }
    })
    .await
}

/// A ServiceAccount with these annotations.
async fn apply_account(ns: &Sandbox<'_>, name: &str, annotations: Value) -> Result<()> {
    let metadata = json!({"name": name, "annotations": annotations});
    ns.cluster().apply_object(json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}), &ns.name).await
}

/// The claims of a JWT.
fn claims(token: &str) -> Value {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}
