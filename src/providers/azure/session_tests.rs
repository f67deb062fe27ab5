//! Where Key Vault's tokens go, what is asked of it, and what is made of its answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::conformance::{TOKEN, challenge, cluster, connect, cx, entra, refused, store, vault};
use super::{AuthType, KeyVault};
use crate::api::external_secret::MetadataPolicy;
use crate::api::secret_store::StoreKind;
use crate::generators::testing::cluster::{CANARY, redacted};
use crate::jwt::tests::{key, verified};
use crate::outbound::testing::{FakeServer, Pki, Received, Reply};
use crate::providers::{CallCx, ErrorKind, Fetched, FindQuery, Provider as _, ProviderError, Session, Want};

async fn get(session: &Arc<dyn Session>, want: Want) -> Result<Fetched, ProviderError> {
    session.get(&[want], &CallCx::default()).await.remove(0)
}

fn want(key: &str) -> Want {
    Want { key: key.into(), ..Want::default() }
}

pub(super) fn secret(value: &str) -> Reply {
    Reply::json(200, &json!({"value": value, "id": "https://v/secrets/db/0f", "attributes": {"enabled": true}}))
}

/// What was asked of the vault with a token.
pub(super) fn lines(server: &FakeServer) -> Vec<String> {
    let received = server.received().into_iter().filter(|r| !r.header("authorization").is_empty());
    received.map(|r| r.line).collect()
}

#[tokio::test]
async fn one_login_serves_all_calls_and_a_revoked_token_is_replaced_once() {
    let pki = Pki::new();
    let (logins, refusals) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)));
    let count = logins.clone();
    let server = FakeServer::start_tls(&pki, false, move |asked| {
        if asked.line.starts_with("POST /tenant-1/") {
            count.fetch_add(1, Ordering::SeqCst);
            return entra(asked);
        }
        match asked.header("authorization") == format!("Bearer {TOKEN}") {
            true if refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err() => secret("v"),
            _ => challenge(asked, "https://127.0.0.1"),
        }
    })
    .await;
    let session = connect(&server, &pki).await;
    for _ in 0..5 {
        assert_eq!(get(&session, want("db")).await.unwrap().bytes.expose(), b"v");
    }
    assert_eq!(logins.load(Ordering::SeqCst), 2, "the first, and the one after the refusal");
    assert_eq!(lines(&server).len(), 6);
    let asked = server.received();
    assert_eq!(asked[0].line, "GET /secrets?api-version=7.4&maxresults=1");
    assert_eq!(asked[1].form("scope").unwrap(), "https://127.0.0.1/.default");
    assert_eq!(asked[2].line, "GET /secrets/db?api-version=7.4");
}

/// Whoever writes a store chooses the vault's address; a server there must not get tokens that are good elsewhere.
#[tokio::test]
async fn a_vault_gets_tokens_of_its_own_domain_only() {
    let pki = Pki::new();
    for resource in [
        "https://vault.azure.net",
        "https://management.azure.com",
        "http://127.0.0.1",
        "https://7.0.0.1",
        "127.0.0.1",
        "https://",
    ] {
        let server = FakeServer::start_tls(&pki, false, move |asked| match asked.line.starts_with("POST ") {
            true => entra(asked),
            false => challenge(asked, resource),
        })
        .await;
        let error = redacted(store(&server).connect(&cx(&cluster(), &pki)).await);
        assert_eq!(error.kind, ErrorKind::Denied, "{resource}: {error}");
        assert_eq!(server.lines(), ["GET /secrets?api-version=7.4&maxresults=1"], "{resource}: no login was tried");
    }
    let parts = |host: &str, resource: &str| KeyVault::default().check_resource(host, resource).is_ok();
    assert!(parts("a.vault.azure.net", "https://vault.azure.net"));
    assert!(!parts("avault.azure.net", "https://vault.azure.net"));
    assert!(!parts("vault.azure.net.evil.test", "https://vault.azure.net"));
    let custom = json!({"activeDirectoryEndpoint": "https://login.test", "keyVaultEndpoint": "https://vault.stack.test/x"});
    let stack = KeyVault { custom_cloud_config: serde_json::from_value(custom).unwrap(), ..KeyVault::default() };
    assert!(stack.check_resource("a.other.test", "https://vault.stack.test/x").is_ok(), "the block names it");
}

/// An identity of the operator's own is good for more than this store.
#[test]
fn the_operators_own_identity_goes_to_azures_vaults_only() {
    let of = |value: Value| serde_json::from_value::<KeyVault>(value).unwrap().validate(StoreKind::SecretStore);
    for auth in ["ManagedIdentity", "WorkloadIdentity"] {
        for (cloud, good) in [
            ("PublicCloud", "https://a.vault.azure.net"),
            ("USGovernmentCloud", "https://a.vault.usgovcloudapi.net/"),
            ("ChinaCloud", "https://a.vault.azure.cn"),
        ] {
            assert!(of(json!({"authType": auth, "environmentType": cloud, "vaultUrl": good})).is_ok());
            for bad in [
                "https://evil.test",
                "https://a.vault.azure.net.evil.test",
                "https://avault.azure.net",
                "https://vault.azure.net",
            ] {
                let error = of(json!({"authType": auth, "environmentType": cloud, "vaultUrl": bad})).unwrap_err();
                assert!(error.detail.contains("with the operator's own identity it must end with"), "{bad}: {error}");
            }
        }
        let custom = json!({"activeDirectoryEndpoint": "https://evil.test"});
        let error = of(json!({
            "authType": auth, "vaultUrl": "https://a.vault.azure.net", "useAzureSDK": true, "customCloudConfig": custom,
        }));
        assert!(error.unwrap_err().detail.contains("the operator's own identity is for Azure's own clouds only"));
    }
    let account = json!({"name": "app"});
    assert!(
        of(json!({"authType": "WorkloadIdentity", "vaultUrl": "https://evil.test", "serviceAccountRef": account})).is_ok()
    );
}

#[test]
fn a_block_that_makes_no_sense_is_told_of() {
    let keys = json!({"clientId": {"name": "a", "key": "b"}, "clientSecret": {"name": "a", "key": "b"}});
    let good = json!({"vaultUrl": "https://a.vault.azure.net", "tenantId": "t", "authSecretRef": keys});
    let of = |change: Value| {
        let mut block = good.clone();
        block.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value::<KeyVault>(block).unwrap().validate(StoreKind::SecretStore)
    };
    assert!(of(json!({})).is_ok());
    let custom = json!({"activeDirectoryEndpoint": "https://login.test"});
    let mut both = keys.clone();
    both["clientCertificate"] = json!({"name": "a", "key": "c"});
    for (change, part) in [
        (json!({"vaultUrl": "http://a.vault.azure.net"}), "vaultUrl is no address"),
        (json!({"vaultUrl": "https://u:p@a.vault.azure.net"}), "vaultUrl is no address"),
        (json!({"vaultUrl": "https://a.vault.azure.net/x"}), "vaultUrl is no address"),
        (json!({"vaultUrl": ""}), "vaultUrl is no address"),
        (json!({"tenantId": null}), "missing tenantID in store config"),
        (json!({"authSecretRef": null}), "missing secretRef in provider config"),
        (json!({"authSecretRef": {}}), "missing accessKeyID/secretAccessKey in store config"),
        (json!({"authSecretRef": both}), "both clientSecret and clientCredentials set"),
        (
            json!({"environmentType": "AzureStackCloud"}),
            "CustomCloudConfig is required when EnvironmentType is AzureStackCloud",
        ),
        (json!({"customCloudConfig": custom}), "CustomCloudConfig requires UseAzureSDK"),
        (
            json!({"customCloudConfig": {"activeDirectoryEndpoint": ""}, "useAzureSDK": true}),
            "activeDirectoryEndpoint is required in CustomCloudConfig",
        ),
        (
            json!({"customCloudConfig": {"activeDirectoryEndpoint": "http://x"}, "useAzureSDK": true}),
            "must be an https address",
        ),
        (
            json!({"customCloudConfig": {"activeDirectoryEndpoint": "https://x", "keyVaultDNSSuffix": ".vault.x"}, "useAzureSDK": true}),
            "not in the domain",
        ),
    ] {
        let error = of(change.clone()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.contains(part), "{change}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_signs_the_login() {
    let pki = Pki::new();
    let server = vault(&pki, |_| secret("v")).await;
    let (pem, public) = key();
    let (certificate, _) = pki.issue("app");
    let bundle = format!("{certificate}{pem}");
    let cluster = cluster().secret("certificate", "pem", &bundle);
    let keys =
        json!({"clientId": {"name": "azure", "key": "id"}, "clientCertificate": {"name": "certificate", "key": "pem"}});
    let store = KeyVault { auth_secret_ref: serde_json::from_value(keys).unwrap(), ..store(&server) };
    let session = store.connect(&cx(&cluster, &pki)).await.unwrap();
    assert!(get(&session, want("db")).await.is_ok());
    let login = &server.received()[1];
    assert_eq!(login.form("client_assertion_type").unwrap(), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let (header, claims) = verified(&login.form("client_assertion").unwrap(), &public);
    assert_eq!((&header["alg"], header["x5t"].as_str().unwrap().len()), (&json!("RS256"), 27));
    assert_eq!(header["x5t#S256"].as_str().unwrap().len(), 43);
    assert_eq!(claims["aud"], format!("{}/tenant-1/oauth2/v2.0/token", server.url));
    assert_eq!((&claims["iss"], &claims["sub"]), (&json!("client-1"), &json!("client-1")));

    let broken = self::cluster().secret("certificate", "pem", &certificate);
    let error = redacted(store.connect(&cx(&broken, &pki)).await);
    assert!(error.detail.contains("is not one in PEM together with its private RSA key"), "{error}");
}

#[tokio::test]
async fn a_service_account_is_taken_for_the_application_of_its_annotations() {
    let pki = Pki::new();
    let server = vault(&pki, |_| secret("v")).await;
    let annotations =
        json!({"azure.workload.identity/client-id": "client-1", "azure.workload.identity/tenant-id": "tenant-1"});
    let cluster = cluster()
        .service_account("app", &annotations)
        .service_account("plain", &json!({}))
        .service_account("other", &json!({"azure.workload.identity/client-id": "client-2"}));
    let of = |account: &str, tenant: Option<&str>, keys: Value| KeyVault {
        auth_type: Some(AuthType::WorkloadIdentity),
        tenant_id: tenant.map(Into::into),
        service_account_ref: serde_json::from_value(json!({"name": account, "audiences": ["more"]})).unwrap(),
        auth_secret_ref: serde_json::from_value(keys).unwrap(),
        ..store(&server)
    };
    let by_id = json!({"clientId": {"name": "azure", "key": "id"}});
    for good in [
        of("app", None, Value::Null),
        of("app", Some("tenant-1"), by_id.clone()),
        of("plain", Some("tenant-1"), by_id.clone()),
    ] {
        let session = good.connect(&cx(&cluster, &pki)).await.unwrap();
        assert!(get(&session, want("db")).await.is_ok());
    }
    let audiences = json!({"audiences": ["api://AzureADTokenExchange", "more"]});
    assert_eq!(cluster.token_requests()[0], ("app".to_owned(), audiences));
    for (bad, part) in [
        (of("plain", Some("tenant-1"), Value::Null), "missing clientID"),
        (of("plain", None, by_id.clone()), "missing tenantID"),
        (of("app", Some("tenant-2"), Value::Null), "multiple tenantID found"),
        (of("other", Some("tenant-1"), by_id), "multiple clientID found"),
    ] {
        let error = redacted(bad.connect(&cx(&cluster, &pki)).await);
        assert!(error.detail.starts_with(part), "{part}: {error}");
    }
    assert_eq!(of("app", None, Value::Null).references().len(), 1);
}

#[tokio::test]
async fn what_entra_id_does_not_take_is_denied() {
    let pki = Pki::new();
    let server = vault(&pki, |_| secret("v")).await;
    let wrong = crate::generators::testing::cluster::Cluster::new().labelled_secret(
        "azure",
        &json!({}),
        &[("id", "client-1"), ("secret", CANARY)],
    );
    let error = redacted(store(&server).connect(&cx(&wrong, &pki)).await);
    assert_eq!(error.kind, ErrorKind::Denied);
}

#[tokio::test]
async fn keys_certificates_and_metadata_are_read() {
    let pki = Pki::new();
    let server = vault(&pki, |asked| match asked.line.as_str() {
        "GET /keys/a?api-version=7.4" => {
            Reply::json(200, &json!({"key": {"kid": "https://v/keys/a/7", "kty": "RSA", "n": "AQ", "e": "AQAB"}, "tags": {"t": "1"}}))
        }
        "GET /certificates/a/0f?api-version=7.4" => Reply::json(200, &json!({"cer": "AQL/", "id": "https://v/certificates/a/0f"})),
        "GET /secrets/a?api-version=7.4" => Reply::json(
            200,
            &json!({"value": CANARY, "id": "https://v/secrets/a/1", "tags": {"t": "1"}, "attributes": {"enabled": true, "created": 0}}),
        ),
        other => panic!("{other}"),
    })
    .await;
    let session = connect(&server, &pki).await;
    let key = get(&session, want("key/a")).await.unwrap();
    assert_eq!(key.version.as_deref(), Some("7"));
    let n = session.property(&want("key/a"), &key.bytes, "n").unwrap();
    assert_eq!(n.expose_str(), Some("AQ"));
    let certificate = get(&session, Want { version: "0f".into(), ..want("cert/a") }).await.unwrap();
    assert_eq!((certificate.bytes.expose(), certificate.version.as_deref()), (&[1, 2, 255][..], Some("0f")));
    let tags = get(&session, Want { metadata: MetadataPolicy::Fetch, ..want("secret/a") }).await.unwrap();
    assert_eq!(tags.bytes.expose_str(), Some(r#"{"attribute.created":"1970-01-01T00:00:00Z","t":"1"}"#));
}

/// A name becomes part of an address: it must not lead to another object, nor out of the vault.
#[tokio::test]
async fn keys_that_are_no_names_are_not_asked_for() {
    let pki = Pki::new();
    let server = vault(&pki, |_| panic!("asked")).await;
    let session = connect(&server, &pki).await;
    for bad in ["../keys/a", "secret/..", "a/../../keys/b", "a?x=y", "a#b", "a%2f..", ""] {
        assert_eq!(get(&session, want(bad)).await.unwrap_err().kind, ErrorKind::Misconfigured, "{bad}");
    }
    let version = get(&session, Want { version: "../../keys/b".into(), ..want("a") }).await;
    assert_eq!(version.unwrap_err().kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn refusals_have_classes() {
    let pki = Pki::new();
    for (reply, kind, part) in [
        (refused(404, "SecretNotFound", ""), ErrorKind::NotFound, "Secret does not exist: \"db\""),
        (Reply::text(404, "<html>canary</html>"), ErrorKind::Misconfigured, "no such address"),
        (refused(403, "Forbidden", "SecretDisabled"), ErrorKind::Denied, "it is disabled"),
        (refused(403, "Forbidden", "ForbiddenByFirewall"), ErrorKind::Denied, "firewall"),
        (refused(403, "Forbidden", "ForbiddenByRbac"), ErrorKind::Denied, "Key Vault does not allow it"),
        (refused(400, "BadParameter", ""), ErrorKind::Misconfigured, "does not take the request"),
        (refused(409, "Conflict", ""), ErrorKind::Conflict, "conflict"),
    ] {
        let server = vault(&pki, move |_| reply.clone()).await;
        let error = redacted(get(&connect(&server, &pki).await, want("db")).await);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.detail.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn failures_are_tried_again_as_the_store_says_and_noted() {
    let pki = Pki::new();
    let server = vault(&pki, |_| Reply::text(503, CANARY)).await;
    let session = connect(&server, &pki).await;
    let cx = CallCx { cause: "ExternalSecret/team-a/db".into(), correlation: "c1".into(), ..CallCx::default() };
    let error = redacted(session.get(&[want("db")], &cx).await.remove(0));
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert_eq!(lines(&server).len(), 2, "maxRetries: 1");
    assert_eq!(
        cx.requests.take().into_iter().map(|r| (r.name, r.failed)).collect::<Vec<_>>(),
        [("GetSecret".into(), true), ("GetSecret".into(), true)]
    );
    let agent = server.received().last().unwrap().header("user-agent").to_owned();
    assert!(agent.ends_with(" keyferry-cause/ExternalSecret/team-a/db keyferry-call/c1"), "{agent}");
}

#[tokio::test]
async fn only_enabled_secrets_of_the_vault_itself_are_found() {
    let pki = Pki::new();
    let item =
        |name: &str, enabled: bool| json!({"id": format!("https://v/secrets/{name}"), "attributes": {"enabled": enabled}});
    let page = json!({"value": [item("on", true), item("off", false)]});
    let server = vault(&pki, move |asked| match asked.line.as_str() {
        "GET /secrets?api-version=7.4" => Reply::json(200, &page),
        "GET /secrets/on?api-version=7.4" => secret("v"),
        other => panic!("{other}"),
    })
    .await;
    let found = connect(&server, &pki).await.find(&FindQuery::default(), &CallCx::default()).await.unwrap();
    assert_eq!(found.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(), ["on"]);

    let elsewhere = json!({"value": [], "nextLink": "https://evil.test/secrets?api-version=7.4"});
    let server = vault(&pki, move |_| Reply::json(200, &elsewhere)).await;
    let error = connect(&server, &pki).await.find(&FindQuery::default(), &CallCx::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
}

/// Only what is asked for reaches the vault: a challenge that comes without a login is no answer.
#[tokio::test]
async fn a_server_that_is_no_vault_is_told() {
    let pki = Pki::new();
    for (reply, kind) in [
        (Reply::text(401, CANARY), ErrorKind::Malformed),
        (Reply::text(401, CANARY).with("www-authenticate", "Basic realm=\"canary\""), ErrorKind::Malformed),
        (Reply::text(200, CANARY), ErrorKind::Misconfigured),
        (Reply::text(403, CANARY), ErrorKind::Denied),
        (Reply::text(503, CANARY), ErrorKind::Unavailable),
    ] {
        let server = FakeServer::start_tls(&pki, false, move |_: &Received| reply.clone()).await;
        let error = redacted(store(&server).connect(&cx(&cluster(), &pki)).await);
        assert_eq!(error.kind, kind, "{error}");
    }
}
