//! What is refused before a server is asked, and what the check of a store says.

use keyferry_fakes::vault::Vault as Server;

use super::*;
use crate::providers::{ProviderSpec, Validation};

#[tokio::test]
async fn the_check_tells_what_is_wrong() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let check = async |more: Value| connect(server.url(), more).await.validate(&cx()).await.map_err(|error| error.detail);
    assert_eq!(check(json!({})).await, Ok(Validation::Ready));
    assert_eq!(check(json!({"auth": app_role()})).await, Ok(Validation::Ready));
    assert_eq!(check(json!({"path": "elsewhere"})).await, Ok(Validation::Ready), "ESO believes what it cannot see");
    assert_eq!(
        check(json!({"version": "v1"})).await.unwrap_err(),
        "vault mount path \"team/kv\" uses kv version v2 but store is configured for kv version v1"
    );
    let none = check(json!({"auth": null})).await.unwrap_err();
    assert!(none.starts_with("invalid vault credentials: "), "{none}");
    server.fake.with(|state| state.refuses_lookup = true);
    assert_eq!(check(json!({"auth": app_role()})).await, Ok(Validation::Ready), "the login itself went well");
    assert!(check(json!({})).await.unwrap_err().starts_with("invalid vault credentials: "));
    server.fake.with(|state| state.sealed = true);
    let sealed = check(json!({})).await.unwrap_err();
    assert!(sealed.contains("sealed"), "{sealed}");

    let server = Service::start(Server::new(1, "kv")).await;
    let bao: ProviderSpec =
        serde_json::from_value(json!({"openBao": {"server": server.url(), "auth": app_role()}})).unwrap();
    let session = bao.served().unwrap().connect(&keys().cx(&outbound()).connect).await.unwrap();
    let error = session.validate(&cx()).await.unwrap_err();
    assert_eq!(error.detail, "expected kv engine version 2 found version 1");
}

#[tokio::test]
async fn a_server_that_names_its_engine_oddly_is_not_quoted() {
    for (kind, version, version_of_store, words) in [
        ("database", "1", "v2", "is not a kv secret engine, got \"database\""),
        ("C4n4ry of a server", "1", "v2", "is not a kv secret engine, got another engine"),
        ("", "1", "v2", "got another engine"),
        ("kv", "2 C4n4ry", "v1", "uses kv version v? but store is configured for kv version v1"),
    ] {
        let body = json!({"data": {"type": kind, "options": {"version": version}}});
        let server = FakeServer::start(move |_| Reply::json(200, &body)).await;
        let session = connect(&server.url, json!({"version": version_of_store})).await;
        let error = session.validate(&cx()).await.unwrap_err();
        assert!(error.detail.contains(words) && !error.detail.contains("C4n4ry"), "{error}");
    }
}

/// CVE-2026-42875, CVE-2026-39961 and their like: the operator may read what the store's author may not.
#[tokio::test]
async fn a_secret_store_reads_nothing_of_another_namespace() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let theirs = json!({"name": "login", "namespace": "team-b", "key": "token"});
    let account = json!({"name": "app", "namespace": "team-b"});
    let ca = |kind: &str| json!({"type": kind, "name": "login", "namespace": "team-b", "key": "token"});
    for more in [
        json!({"auth": {"tokenSecretRef": theirs}}),
        json!({"auth": {"appRole": {"roleId": "role-1", "secretRef": theirs}}}),
        json!({"auth": {"appRole": {"roleRef": theirs, "secretRef": {"name": "login", "key": "secret"}}}}),
        json!({"auth": {"kubernetes": {"role": "app", "serviceAccountRef": account}}}),
        json!({"auth": {"kubernetes": {"role": "app", "secretRef": theirs}}}),
        json!({"auth": {"jwt": {"secretRef": theirs}}}),
        json!({"auth": {"jwt": {"kubernetesServiceAccountToken": {"serviceAccountRef": account}}}}),
        json!({"auth": {"ldap": {"username": "bob", "secretRef": theirs}}}),
        json!({"auth": {"userPass": {"username": "bob", "secretRef": theirs}}}),
        json!({"auth": {"cert": {"clientCert": theirs, "secretRef": theirs}}}),
        json!({"auth": {"iam": {"vaultRole": "r", "secretRef": {"accessKeyIDSecretRef": theirs, "secretAccessKeySecretRef": theirs}}}}),
        json!({"auth": {"iam": {"vaultRole": "r", "jwt": {"serviceAccountRef": account}}}}),
        json!({"auth": {"gcp": {"role": "r", "secretRef": {"secretAccessKeySecretRef": theirs}}}}),
        json!({"auth": {"gcp": {"role": "r", "workloadIdentity": {"serviceAccountRef": account, "clusterLocation": "l", "clusterName": "c"}}}}),
        json!({"tls": {"certSecretRef": theirs, "keySecretRef": theirs}}),
        json!({"caProvider": ca("Secret")}),
        json!({"caProvider": ca("ConfigMap")}),
    ] {
        let cluster = keys();
        let error =
            store(server.url(), more.clone()).connect(&cluster.cx(&outbound()).connect).await.err().expect("refused");
        assert!(
            error.kind == ErrorKind::Misconfigured && error.detail.contains("names namespace \"team-b\""),
            "{more}: {error}"
        );
        assert!(server.server.received().is_empty() && cluster.token_requests().is_empty(), "{more}");
    }
}

/// Who may write a store names the server.
#[tokio::test]
async fn a_server_in_the_operators_own_surroundings_is_not_called() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let port = server.url().rsplit(':').next().unwrap();
    let careful = Arc::new(crate::outbound::Outbound::new(Arc::default(), false));
    let mut cx = keys().cx(&careful).connect;
    cx.retry = Some(crate::api::secret_store::RetrySettings::default());
    for url in [server.url().to_owned(), format!("http://localhost:{port}"), "http://169.254.169.254".into()] {
        let error = store(&url, json!({"auth": app_role()})).connect(&cx).await.err().expect("refused");
        assert!(
            error.kind == ErrorKind::Misconfigured && error.detail.contains("--allow-local-endpoints"),
            "{url}: {error}"
        );
        let session = store(&url, json!({})).connect(&cx).await.unwrap();
        let error = get(session.as_ref(), &want("a")).await.unwrap_err();
        assert!(error.detail.contains("--allow-local-endpoints"), "{url}: {error}");
    }
    assert!(server.server.received().is_empty());
}

#[test]
fn blocks_are_checked_without_a_server() {
    let secret = json!({"name": "s", "key": "k"});
    for (block, words) in [
        (
            json!({"auth": {"appRole": {"secretRef": secret}}}),
            "invalid Auth.AppRole: neither `roleId` nor `roleRef` was supplied",
        ),
        (json!({"auth": {"jwt": {}}}), "neither `secretRef` nor `kubernetesServiceAccountToken` was supplied"),
        (json!({"tls": {"certSecretRef": secret}}), "both ClientTLS.ClientCert and ClientTLS.SecretRef"),
        (
            json!({"version": "v1", "checkAndSet": {"required": true}}),
            "checkAndSet is not supported with Vault KV version v1",
        ),
        (json!({"auth": {"kubernetes": {"role": "r"}}}), "set serviceAccountRef or secretRef"),
        (json!({"auth": {"iam": {"vaultRole": "r"}}}), "set jwt or secretRef"),
        (json!({"auth": {"gcp": {"role": "r", "serviceAccountRef": {"name": "a"}}}}), "set secretRef or workloadIdentity"),
    ] {
        let error = store("https://vault.example", block.clone()).check(StoreKind::SecretStore).unwrap_err();
        assert!(error.detail.contains(words), "{block}: {error}");
    }
    for (block, is_referent) in [
        (json!({"auth": {"kubernetes": {"role": "r"}}}), false),
        (json!({"auth": {"iam": {"vaultRole": "r"}}}), false),
        (json!({"auth": {"kubernetes": {"role": "r", "serviceAccountRef": {"name": "a"}}}}), true),
        (json!({"auth": {"tokenSecretRef": {"name": "a", "namespace": "ns", "key": "k"}}}), false),
        (json!({"auth": {"tokenSecretRef": secret}}), true),
    ] {
        let vault = store("https://vault.example", block.clone());
        assert_eq!(vault.check(StoreKind::ClusterSecretStore), Ok(()), "{block}");
        assert_eq!(vault.is_referent(), is_referent, "{block}");
    }
    let bao = |more: Value| {
        let mut block = json!({"server": "https://bao.example"});
        block.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let spec: ProviderSpec = serde_json::from_value(json!({"openBao": block})).unwrap();
        spec.served().unwrap().validate(StoreKind::SecretStore).map_err(|error| error.detail)
    };
    assert_eq!(bao(json!({"auth": app_role()})), Ok(()));
    assert_eq!(bao(json!({})), Ok(()));
    assert!(bao(json!({"auth": {}})).unwrap_err().contains("exactly one of the fields in [appRole"));
    assert!(bao(json!({"auth": {"appRole": {"secretRef": secret}}})).unwrap_err().contains("[roleId roleRef]"));
    assert!(bao(json!({"auth": {"kubernetes": {"role": "r"}}})).unwrap_err().contains("[serviceAccountRef secretRef]"));
    let ca = json!({"caBundle": "eA==", "caProvider": {"type": "Secret", "name": "a"}});
    assert!(bao(ca).unwrap_err().contains("[caBundle caProvider]"));
}

#[test]
fn a_person_writes_a_secret_down_as_a_map() {
    let taker = Vault::default();
    let taker = taker.taker();
    let stored = taker.stored(&want("a"), SecretBytes::from(r#"{"b": "<", "a": 1.50}"#)).unwrap();
    assert_eq!(text(&taker.whole(&want("a"), &stored).unwrap()), r#"{"a":1.50,"b":"\u003c"}"#);
    let error = taker.stored(&want("a"), SecretBytes::from(CANARY)).unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && !error.detail.contains(CANARY), "{error}");
}
