//! Logins and requests against a server that speaks Vault's documented API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod checks;
mod lent;
mod lifetime;
mod push;
mod session;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use keyferry_fakes::Service;

use serde_json::{Value, json};

use super::testing::{TOKEN, answer, errors, vault};
use super::*;
use crate::api::StoreKind;
use crate::api::external_secret::MetadataPolicy;
use crate::api::secret_store::RetrySettings;
use crate::generators::testing::cluster::{CANARY, Cluster, redacted, spec};
use crate::outbound::testing::{FakeServer, Pki, Received, Reply, outbound};
use crate::providers::{CallCx, ErrorKind, Fetched, FindQuery, Found, Provider as _, ProviderError, Session, Want};
use crate::secret_bytes::SecretBytes;

/// Where the key-value engine of the tests is mounted.
const MOUNT: &str = "team/kv";

const NONE: Retries = Retries { count: 0, pause: Duration::ZERO };

fn cluster() -> Cluster {
    Cluster::new()
        .labelled_secret("vault", &json!({}), &[("token", TOKEN), ("id", "role-1\n"), ("secret", "s3cret"), ("jwt", "kept")])
        .secret("bad", "secret", CANARY)
        .service_account("app", &json!({}))
}

async fn login_with(server: &FakeServer, more: Value) -> Result<VaultClient, ProviderError> {
    login_in(&cluster(), server, more).await
}

async fn login_in(cluster: &Cluster, server: &FakeServer, more: Value) -> Result<VaultClient, ProviderError> {
    let mut all = json!({"server": format!("{}/", server.url)});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    VaultClient::login(&spec(all), "spec.provider", NONE, &cluster.cx(&outbound()).connect).await
}

fn key(key: &str) -> Value {
    json!({"name": "vault", "key": key})
}

async fn reads(client: &VaultClient) -> bool {
    client.request(&Request::read("/database/creds/app"), "read", &CallCx::default()).await.is_ok_and(|body| body.is_some())
}

#[tokio::test]
async fn every_way_to_log_in() {
    let sa = json!({"name": "app", "audiences": ["aud"]});
    for (auth, path, request) in [
        (json!({"tokenSecretRef": key("token")}), None, None),
        (json!({"appRole": {"roleId": "role-1", "secretRef": key("secret")}}), Some("approle/login"), None),
        (
            json!({"appRole": {"path": "team/approle", "roleRef": key("id"), "secretRef": key("secret")}}),
            Some("team/approle/login"),
            None,
        ),
        (
            json!({"kubernetes": {"role": "app", "serviceAccountRef": sa}}),
            Some("kubernetes/login"),
            Some(json!({"audiences": ["aud"], "expirationSeconds": 600})),
        ),
        (json!({"userPass": {"username": "bob", "secretRef": key("secret")}}), Some("userpass/login/bob"), None),
        (json!({"ldap": {"username": "bob", "secretRef": key("secret")}}), Some("ldap/login/bob"), None),
        (json!({"jwt": {"role": "app", "secretRef": key("jwt")}}), Some("jwt/login"), None),
        (
            json!({"jwt": {"role": "app", "kubernetesServiceAccountToken": {"serviceAccountRef": sa}}}),
            Some("jwt/login"),
            Some(json!({"audiences": ["aud", "vault"], "expirationSeconds": 600})),
        ),
    ] {
        let server = vault().await;
        let cluster = cluster();
        let client = login_in(&cluster, &server, json!({"auth": auth})).await.unwrap();
        assert!(reads(&client).await, "{auth}");
        let lines = server.lines();
        let logins: Vec<String> = path.iter().map(|path| format!("PUT /v1/auth/{path}")).collect();
        assert_eq!(lines[..lines.len() - 1], logins, "{auth}");
        assert_eq!(cluster.token_requests().into_iter().map(|(_, r)| r).collect::<Vec<_>>(), Vec::from_iter(request));
    }
}

#[tokio::test]
async fn a_certificate_logs_in() {
    let pki = Pki::new();
    let server = FakeServer::start_tls(&pki, true, answer).await;
    let (certificate, private) = pki.issue("client.example.test");
    let cluster = Cluster::new()
        .labelled_secret("tls", &json!({}), &[("tls.crt", &certificate), ("tls.key", &private)])
        .config_map("ca", "ca.crt", &String::from_utf8(pki.ca()).unwrap())
        .labelled_secret("vault", &json!({}), &[("token", TOKEN)]);
    let ca = json!({"type": "ConfigMap", "name": "ca", "key": "ca.crt"});
    let (cert, private) = (json!({"name": "tls", "key": "tls.crt"}), json!({"name": "tls", "key": "tls.key"}));
    let auth = json!({"cert": {"clientCert": cert, "secretRef": private, "vaultRole": "app"}});
    let client = login_in(&cluster, &server, json!({"caProvider": ca, "auth": auth})).await.unwrap();
    assert!(reads(&client).await);
    assert_eq!(
        (server.lines()[0].as_str(), server.received()[0].json()),
        ("PUT /v1/auth/cert/login", json!({"name": "app"}))
    );

    // A server may ask for a certificate whatever the login is. The keys have defaults.
    let tls = json!({"certSecretRef": {"name": "tls"}, "keySecretRef": {"name": "tls"}});
    let auth = json!({"tokenSecretRef": key("token")});
    let client = login_in(&cluster, &server, json!({"caProvider": ca, "tls": tls, "auth": auth})).await.unwrap();
    assert!(reads(&client).await);
    let half = json!({"caProvider": ca, "tls": {"certSecretRef": {"name": "tls"}}, "auth": auth});
    assert!(redacted(login_in(&cluster, &server, half).await).detail.contains("must be set together"));
}

#[tokio::test]
async fn without_a_login_nobody_is_logged_in() {
    let server = vault().await;
    let client = login_with(&server, json!({})).await.unwrap();
    let error = redacted(client.request(&Request::read("database/creds/app"), "read", &CallCx::default()).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert_eq!(server.received()[0].header("x-vault-token"), "");
}

#[tokio::test]
async fn a_login_that_is_wrong_is_denied() {
    let server = vault().await;
    let bad = json!({"name": "bad", "key": "secret"});
    for auth in [
        json!({"appRole": {"roleId": "role-1", "secretRef": bad}}),
        json!({"userPass": {"username": "bob", "secretRef": bad}}),
        json!({"jwt": {"role": "app", "secretRef": bad}}),
    ] {
        assert_eq!(redacted(login_with(&server, json!({"auth": auth})).await).kind, ErrorKind::Denied, "{auth}");
    }
    let server = FakeServer::start(|_| Reply::json(200, &json!({"auth": {"client_token": 7, "x": CANARY}}))).await;
    let auth = json!({"userPass": {"username": "bob", "secretRef": key("secret")}});
    assert_eq!(redacted(login_with(&server, json!({"auth": auth})).await).kind, ErrorKind::Malformed);
}

#[tokio::test]
async fn a_login_that_is_incomplete_is_told() {
    let server = vault().await;
    for (auth, part) in [
        (json!({"appRole": {"secretRef": key("secret")}}), "roleId and roleRef"),
        (json!({"jwt": {"role": "app"}}), "secretRef and kubernetesServiceAccountToken"),
        (json!({"userPass": {"username": "a/../../x", "secretRef": key("secret")}}), "username"),
        (json!({"tokenSecretRef": key("gone")}), "has no key"),
        (json!({"iam": {"vaultRole": "x"}}), "one of jwt and secretRef must be set"),
        (json!({"iam": {"vaultRole": "x", "secretRef": {}}}), "iam.secretRef.accessKeyIDSecretRef is missing"),
        (json!({"iam": {"vaultRole": "x", "jwt": {}}}), "iam.jwt.serviceAccountRef is missing"),
        (json!({"iam": {"vaultRole": "x", "region": "a b", "jwt": {}}}), "iam.region: \"a b\" is not a region"),
        (json!({"gcp": {"role": "x"}}), "one of secretRef and workloadIdentity must be set"),
        (json!({"gcp": {"role": "x", "serviceAccountRef": {"name": "app"}}}), "one of secretRef and workloadIdentity"),
        (json!({"gcp": {"role": "x", "secretRef": {}}}), "secretRef.secretAccessKeySecretRef is missing"),
    ] {
        let error = redacted(login_with(&server, json!({"auth": auth})).await);
        assert!(error.detail.starts_with("spec.provider.auth.") && error.detail.contains(part), "{error}");
    }
    assert!(server.received().is_empty());
}

/// Who may write an object in a namespace names the server. The operator's own token must not go there.
#[tokio::test]
async fn the_operators_own_token_stays_here() {
    let server = vault().await;
    let config = json!({"server": server.url, "auth": {"kubernetes": {"role": "app"}}});
    let mut cx = cluster().cx(&outbound()).connect;
    let error = redacted(VaultClient::login(&spec(config.clone()), "spec.provider", NONE, &cx).await);
    assert!(
        error.detail.contains("the operator's own identity goes to no server that a namespaced object names"),
        "{error}"
    );
    cx.store_kind = StoreKind::ClusterSecretStore;
    let error = redacted(VaultClient::login(&spec(config), "spec.provider", NONE, &cx).await);
    assert!(error.detail.contains("the operator has no token of its own"), "outside of a cluster: {error}");
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn namespaces_and_headers() {
    let server = vault().await;
    let auth = json!({"namespace": "login-ns", "userPass": {"username": "bob", "secretRef": key("secret")}});
    let more = json!({"auth": auth, "namespace": "ns-1", "headers": {"X-Team": "a"}});
    assert!(reads(&login_with(&server, more).await.unwrap()).await);
    let asked = server.received();
    assert_eq!((asked[0].header("x-vault-namespace"), asked[1].header("x-vault-namespace")), ("login-ns", "ns-1"));
    assert_eq!((asked[1].header("x-team"), asked[1].header("x-vault-request")), ("a", "true"));
}

#[tokio::test]
async fn reads_see_writes_where_that_is_asked_for() {
    let server = FakeServer::start(|asked| answer(asked).with("x-vault-index", "state-1")).await;
    let auth = json!({"userPass": {"username": "bob", "secretRef": key("secret")}});
    let more = json!({"auth": auth, "readYourWrites": true, "forwardInconsistent": true});
    assert!(reads(&login_with(&server, more).await.unwrap()).await);
    let asked = server.received();
    assert_eq!((asked[0].header("x-vault-index"), asked[1].header("x-vault-index")), ("", "state-1"));
    assert_eq!(asked[1].header("x-vault-inconsistent"), "forward-active-node");
}

#[tokio::test]
async fn what_is_not_there_is_nothing() {
    let server = vault().await;
    let client = login_with(&server, json!({"auth": {"tokenSecretRef": key("token")}})).await.unwrap();
    let run = async |request: Request| client.request(&request, "x", &CallCx::default()).await;
    assert!(run(Request::read("gone")).await.unwrap().is_none());
    assert!(run(Request::list("gone")).await.unwrap().is_none());
    assert!(run(Request::delete("gone")).await.unwrap().is_none());
    assert!(run(Request::delete("kv/a")).await.unwrap().is_none());
    assert!(run(Request::read("deleted")).await.unwrap().is_some(), "a deleted version's metadata");
    let error = redacted(run(Request::write("gone", "{}".into())).await);
    assert_eq!(error.kind, ErrorKind::Misconfigured);
    for bad in ["", "/", "a/../b", "./a"] {
        assert_eq!(redacted(run(Request::read(bad)).await).kind, ErrorKind::Misconfigured, "{bad:?}");
    }
}

#[tokio::test]
async fn failures_are_tried_again_and_refusals_are_not() {
    for (statuses, retries, calls, good) in [
        (vec![503, 500], 2, 3, true),
        (vec![412, 412], 2, 3, true),
        (vec![503, 503], 1, 2, false),
        (vec![503], 0, 1, false),
        (vec![403], 2, 1, false),
        (vec![400], 2, 1, false),
    ] {
        let count = AtomicU32::new(0);
        let scripted = statuses.clone();
        let server = FakeServer::start(move |asked: &Received| {
            let call = count.fetch_add(1, Ordering::SeqCst) as usize;
            scripted.get(call).map_or_else(|| answer(asked), |status| errors(*status))
        })
        .await;
        let config = json!({"server": server.url, "auth": {"tokenSecretRef": key("token")}});
        let retries = Retries { count: retries, pause: Duration::from_millis(1) };
        let client =
            VaultClient::login(&spec(config), "spec.provider", retries, &cluster().cx(&outbound()).connect).await.unwrap();
        let result = client.request(&Request::read("database/creds/app"), "x", &CallCx::default()).await;
        assert_eq!((server.received().len(), result.is_ok()), (calls, good), "{statuses:?}");
        if let Err(error) = result {
            redacted::<()>(Err(error));
        }
    }
}

#[test]
fn retry_settings_are_esos() {
    let of = |max: Option<i32>, interval: Option<&str>| {
        let settings = RetrySettings { max_retries: max, retry_interval: interval.map(Into::into) };
        Retries::of(Some(&settings), "spec.retrySettings")
    };
    assert_eq!(Retries::of(None, "x").unwrap(), Retries { count: 2, pause: Duration::from_secs(1) });
    assert_eq!(of(None, None).unwrap().count, 0);
    assert_eq!(of(Some(5), Some("1m")).unwrap(), Retries { count: 5, pause: Duration::from_secs(60) });
    assert_eq!(of(Some(-1), None).unwrap().count, 0);
    assert_eq!(of(Some(i32::MAX), None).unwrap().count, 10);
    assert!(of(None, Some("soon")).is_err());
    assert!(of(None, Some("-1s")).is_err());
}

fn app_role() -> Value {
    json!({"appRole": {"path": "approle", "roleId": "role-1", "secretRef": {"name": "login", "key": "secret"}}})
}

/// A store of a server, as it stands in a manifest; what is left out is a token.
fn store(url: &str, more: Value) -> Vault {
    let mut block = json!({"server": url, "path": MOUNT, "auth": {"tokenSecretRef": {"name": "login", "key": "token"}}});
    block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(block).unwrap()
}

fn keys() -> Cluster {
    Cluster::new()
        .labelled_secret("login", &json!({}), &[("token", keyferry_fakes::vault::TOKEN), ("secret", "s3cret")])
        .service_account("app", &json!({}))
}

async fn connect(url: &str, more: Value) -> Arc<dyn Session> {
    store(url, more).connect(&keys().cx(&outbound()).connect).await.unwrap()
}

fn cx() -> CallCx {
    CallCx { cause: "ExternalSecret/team-a/web".into(), correlation: "c-1".into(), ..CallCx::default() }
}

fn want(key: &str) -> Want {
    Want { key: key.into(), ..Want::default() }
}

async fn get(session: &dyn Session, want: &Want) -> Result<Fetched, ProviderError> {
    session.get(std::slice::from_ref(want), &cx()).await.remove(0)
}

fn text(bytes: &SecretBytes) -> &str {
    bytes.expose_str().unwrap()
}
