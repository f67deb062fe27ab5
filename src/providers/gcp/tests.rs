//! The logins against a server that stands in for Google's, as its documentation has them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::generators::testing::cluster::{CANARY, Cluster, redacted, spec};
use crate::jwt::tests::{key, verified};
use crate::outbound::Outbound;
use crate::outbound::testing::{FakeServer, Received, Reply, outbound, outbound_with};

fn granted(token: &str) -> Reply {
    Reply::json(200, &json!({"access_token": token, "expires_in": 3600, "token_type": "Bearer"}))
}

/// Token endpoint, both exchanges, impersonation, metadata service, and somebody else's token endpoint.
fn google(asked: &Received) -> Reply {
    let bearer = asked.header("authorization").to_owned();
    match asked.line.split_once(' ').unwrap().1 {
        "/token" => granted("by-key"),
        "/v1/identitybindingtoken" => granted("by-cluster"),
        "/v1/token" if asked.form("subject_token").is_some_and(|t| !t.is_empty()) => granted("by-federation"),
        path if path.ends_with(":generateAccessToken") && bearer.starts_with("Bearer by-") => {
            Reply::json(200, &json!({"accessToken": "impersonated", "expireTime": "2026-11-26T12:34:56Z"}))
        }
        path if path.ends_with("/sa%40p.iam.gserviceaccount.com:signJwt") && bearer == "Bearer impersonated" => Reply::json(
            200,
            &json!({"keyId": "k", "signedJwt": format!("signed {}", asked.json()["payload"].as_str().unwrap())}),
        ),
        "/computeMetadata/v1/project/project-id" => Reply::text(200, "own-project\n"),
        "/computeMetadata/v1/instance/service-accounts/default/token" if asked.header("metadata-flavor") == "Google" => {
            granted("by-machine")
        }
        "/idp" => Reply::json(200, &json!({"id_token": format!("idp-{CANARY}"), "x": asked.header("x-key")})),
        _ => Reply::json(400, &json!({"error": "invalid_grant", "error_description": CANARY})),
    }
}

fn endpoints(server: &FakeServer) -> Endpoints {
    Endpoints {
        sts: format!("{}/v1/token", server.url),
        identity_binding: format!("{}/v1/identitybindingtoken", server.url),
        credentials: server.url.clone(),
        metadata: server.url.clone(),
    }
}

async fn login(
    auth: Value,
    cluster: &Cluster,
    server: &FakeServer,
    outbound: &Arc<Outbound>,
) -> Result<AccessToken, ProviderError> {
    let (auth, cx) = (spec(auth), cluster.cx(outbound));
    let login = Login {
        auth: &auth,
        project: "registry-project",
        path: "spec.auth",
        cx: &cx.connect,
        now: cx.now,
        endpoints: endpoints(server),
    };
    login.access_token().await
}

fn key_file(server: &FakeServer, pem: &str) -> String {
    json!({
        "type": "service_account", "client_email": "sa@p.iam.gserviceaccount.com", "private_key": pem, "private_key_id": "k1",
        "token_uri": format!("{}/token", server.url),
    })
    .to_string()
}

fn by_key() -> Value {
    json!({"secretRef": {"secretAccessKeySecretRef": {"name": "gcp", "key": "json"}}})
}

#[tokio::test]
async fn a_key_signs_a_login() {
    let server = FakeServer::start(google).await;
    let (pem, public) = key();
    let cluster = Cluster::new().secret("gcp", "json", &key_file(&server, &pem));
    let token = login(by_key(), &cluster, &server, &outbound()).await.unwrap();
    assert_eq!((token.value.expose(), token.expires_at.to_string().as_str()), (&b"by-key"[..], "2026-11-26T13:00:00Z"));
    let asked = &server.received()[0];
    assert_eq!(asked.form("grant_type").unwrap(), "urn:ietf:params:oauth:grant-type:jwt-bearer");
    let (header, claims) = verified(&asked.form("assertion").unwrap(), &public);
    assert_eq!(header["kid"], "k1");
    let now = "2026-11-26T12:00:00Z".parse::<Timestamp>().unwrap().as_second();
    let want = json!({
        "iss": "sa@p.iam.gserviceaccount.com", "scope": SCOPE, "aud": format!("{}/token", server.url), "iat": now, "exp": now + 3600,
    });
    assert_eq!(claims, want);
}

#[tokio::test]
async fn a_key_that_is_none_is_told() {
    let server = FakeServer::start(google).await;
    for bad in [
        CANARY.to_owned(),
        key_file(&server, CANARY),
        json!({"type": "authorized_user", "client_email": "", "private_key": CANARY}).to_string(),
    ] {
        let error = redacted(login(by_key(), &Cluster::new().secret("gcp", "json", &bad), &server, &outbound()).await);
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.starts_with("spec.auth.secretRef.secretAccessKeySecretRef: "), "{error}");
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn a_cluster_is_taken_for_its_pool() {
    let server = FakeServer::start(google).await;
    let cluster = Cluster::new().service_account("app", &json!({}));
    let auth = |more: Value| {
        let mut identity =
            json!({"serviceAccountRef": {"name": "app", "audiences": ["x"]}, "clusterLocation": "l", "clusterName": "c"});
        identity.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"workloadIdentity": identity})
    };
    let token = login(auth(json!({"clusterProjectID": "p"})), &cluster, &server, &outbound()).await.unwrap();
    assert_eq!(token.value.expose(), b"by-cluster");
    let asked = server.received()[0].json();
    let provider = "https://container.googleapis.com/v1/projects/p/locations/l/clusters/c";
    assert_eq!(asked["audience"], format!("identitynamespace:p.svc.id.goog:{provider}"));
    assert_eq!(asked["subject_token"], format!("token-of-sa-{CANARY}"));
    let request = json!({"audiences": ["p.svc.id.goog", "x"], "expirationSeconds": 900});
    assert_eq!(cluster.token_requests(), [("app".to_owned(), request)]);

    login(auth(json!({})), &cluster, &server, &outbound()).await.unwrap();
    assert_eq!(
        server.received().last().unwrap().json()["audience"].as_str().unwrap().split(':').nth(1),
        Some("own-project.svc.id.goog")
    );
}

/// The secrets may be in another project than the cluster.
#[tokio::test]
async fn the_project_of_a_stores_secrets_is_not_taken_for_that_of_the_cluster() {
    let server = FakeServer::start(google).await;
    let cluster = Cluster::new().service_account("app", &json!({}));
    for (given, project) in [(json!({}), "own-project"), (json!({"clusterProjectID": "clusters"}), "clusters")] {
        let mut identity = json!({"serviceAccountRef": {"name": "app"}, "clusterLocation": "l", "clusterName": "c"});
        identity.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
        let block = json!({"projectID": "secrets", "auth": {"workloadIdentity": identity}});
        let store: SecretManager = serde_json::from_value(block).unwrap();
        login(json!(store.login()), &cluster, &server, &outbound()).await.unwrap();
        let (_, asked) = cluster.token_requests().pop().unwrap();
        assert_eq!(asked["audiences"], json!([format!("{project}.svc.id.goog")]));
    }
}

#[tokio::test]
async fn an_annotation_names_whom_to_impersonate() {
    let server = FakeServer::start(google).await;
    let cluster = Cluster::new().service_account("app", &json!({ACCOUNT_ANNOTATION: "sa@p.iam.gserviceaccount.com"}));
    let identity =
        json!({"serviceAccountRef": {"name": "app"}, "clusterLocation": "l", "clusterName": "c", "clusterProjectID": "p"});
    let token = login(json!({"workloadIdentity": identity}), &cluster, &server, &outbound()).await.unwrap();
    assert_eq!(
        (token.value.expose(), token.expires_at.to_string().as_str()),
        (&b"impersonated"[..], "2026-11-26T12:34:56Z")
    );
    let asked = server.received();
    assert_eq!(asked[1].line, "POST /v1/projects/-/serviceAccounts/sa%40p.iam.gserviceaccount.com:generateAccessToken");
    assert_eq!((asked[1].header("authorization"), asked[1].json()), ("Bearer by-cluster", json!({"scope": [SCOPE]})));
}

#[tokio::test]
async fn a_service_account_is_federated() {
    let server = FakeServer::start(google).await;
    let cluster = Cluster::new().service_account("app", &json!({}));
    let auth = json!({"workloadIdentityFederation": {
        "serviceAccountRef": {"name": "app", "audiences": ["aud"]}, "audience": "//iam.googleapis.com/pool",
        "gcpServiceAccountEmail": "other@p.iam.gserviceaccount.com",
    }});
    let token = login(auth, &cluster, &server, &outbound()).await.unwrap();
    assert_eq!(token.value.expose(), b"impersonated");
    let asked = &server.received()[0];
    for (name, value) in [
        ("grant_type", TOKEN_EXCHANGE),
        ("audience", "//iam.googleapis.com/pool"),
        ("subject_token_type", JWT),
        ("requested_token_type", ACCESS_TOKEN),
        ("scope", SCOPE),
    ] {
        assert_eq!(asked.form(name).unwrap(), value);
    }
    assert_eq!(cluster.token_requests()[0].1, json!({"audiences": ["aud"], "expirationSeconds": 900}));
}

/// AWS's signature (Signature Version 4), computed anew from what the token holds and the secret key.
fn signature(headers: &BTreeMap<String, String>, query: &str, region: &str, secret: &str) -> String {
    use aws_lc_rs::{digest, hmac};
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let hash = |text: &str| hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    let sign =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let named: Vec<_> = headers.iter().filter(|(name, _)| *name != "authorization").collect();
    let lines: String = named.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let names = named.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let request = format!("POST\n/\n{query}\n{lines}\n{names}\n{}", hash(""));
    let (date, time) = (&headers["x-amz-date"][..8], &headers["x-amz-date"]);
    let scope = format!("{date}/{region}/sts/aws4_request");
    let start = format!("AWS4{secret}");
    let key = [date, region, "sts", "aws4_request"].iter().fold(start.into_bytes(), |key, part| sign(&key, part));
    hex(&sign(&key, &format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(&request))))
}

#[tokio::test]
async fn an_identity_of_aws_is_federated() {
    let server = FakeServer::start(google).await;
    let auth = json!({"workloadIdentityFederation": {
        "awsSecurityCredentials": {"region": "eu-west-1", "awsCredentialsSecretRef": {"name": "aws"}},
        "audience": "//iam.googleapis.com/pool", "gcpServiceAccountEmail": "other@p.iam.gserviceaccount.com",
    }});
    let keys = [("aws_access_key_id", "AKIAEXAMPLE"), ("aws_secret_access_key", CANARY), ("aws_session_token", "session\n")];
    for (held, token) in [(&keys[..], true), (&keys[..2], false)] {
        let cluster = Cluster::new().labelled_secret("aws", &json!({}), held);
        assert_eq!(login(auth.clone(), &cluster, &server, &outbound()).await.unwrap().value.expose(), b"impersonated");
        let received = server.received();
        let asked = received.iter().rfind(|asked| asked.line.ends_with("/v1/token")).unwrap();
        for (name, value) in [
            ("subject_token_type", "urn:ietf:params:aws:token-type:aws4_request"),
            ("audience", "//iam.googleapis.com/pool"),
            ("requested_token_type", ACCESS_TOKEN),
        ] {
            assert_eq!(asked.form(name).unwrap(), value);
        }
        let subject = asked.form("subject_token").unwrap();
        assert!(!subject.contains(CANARY), "the key itself is not sent");
        let subject = percent_encoding::percent_decode_str(&subject).decode_utf8().unwrap();
        let subject: Value = serde_json::from_str(&subject).unwrap();
        let query = "Action=GetCallerIdentity&Version=2011-06-15";
        assert_eq!(subject["method"], "POST");
        assert_eq!(subject["url"], format!("https://sts.eu-west-1.amazonaws.com?{query}"));
        let headers = subject["headers"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let headers: BTreeMap<String, String> =
            headers.map(|h| (text(&h["key"]).to_lowercase(), text(&h["value"]))).collect();
        assert_eq!(headers["x-amz-date"], "20261126T120000Z");
        assert_eq!(headers["x-goog-cloud-target-resource"], "//iam.googleapis.com/pool");
        assert_eq!(headers["host"], "sts.eu-west-1.amazonaws.com");
        assert_eq!(headers.get("x-amz-security-token").map(String::as_str), token.then_some("session"));
        let authorization = &headers["authorization"];
        assert!(authorization.contains("Credential=AKIAEXAMPLE/20261126/eu-west-1/sts/aws4_request"), "{authorization}");
        let expected = signature(&headers, query, "eu-west-1", CANARY);
        assert!(authorization.ends_with(&format!("Signature={expected}")), "{authorization}");
    }
}

#[tokio::test]
async fn an_identity_of_aws_needs_a_key_and_an_audience() {
    let server = FakeServer::start(google).await;
    let auth = |audience: &str| {
        json!({"workloadIdentityFederation": {
            "awsSecurityCredentials": {"region": "eu-west-1", "awsCredentialsSecretRef": {"name": "aws"}}, "audience": audience,
        }})
    };
    for (audience, keys, part) in [
        (
            "",
            vec![("aws_access_key_id", "a"), ("aws_secret_access_key", CANARY)],
            "audience must be provided with awsSecurityC",
        ),
        ("a", vec![("aws_access_key_id", "a")], "has no text at key \"aws_secret_access_key\""),
        ("a", vec![("aws_secret_access_key", CANARY)], "has no text at key \"aws_access_key_id\""),
        ("a", vec![("aws_access_key_id", "a\u{1}"), ("aws_secret_access_key", CANARY)], "that no access key has"),
    ] {
        let cluster = Cluster::new().labelled_secret("aws", &json!({}), &keys);
        let error = redacted(login(auth(audience), &cluster, &server, &outbound()).await);
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.contains(part), "{error}");
    }
    let error = redacted(login(auth("a"), &Cluster::new(), &server, &outbound()).await);
    assert!(error.detail.contains("awsCredentialsSecretRef: Secret team-a/aws does not exist"), "{error}");
    let mut foreign = auth("a");
    foreign["workloadIdentityFederation"]["awsSecurityCredentials"]["awsCredentialsSecretRef"]["namespace"] =
        json!("team-b");
    let error = redacted(login(foreign, &Cluster::new(), &server, &outbound()).await);
    assert!(error.detail.contains("awsCredentialsSecretRef names namespace \"team-b\""), "{error}");
    assert!(server.received().is_empty());
}

fn config(server: &FakeServer, change: Value) -> (Value, Cluster) {
    let mut config = json!({
        "type": "external_account", "audience": "//iam.googleapis.com/pool", "token_url": format!("{}/v1/token", server.url),
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "service_account_impersonation_url":
            "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/sa@p.iam.gserviceaccount.com:generateAccessToken",
        "service_account_impersonation": {"token_lifetime_seconds": 600},
        "credential_source": {
            "url": format!("{}/idp", server.url), "headers": {"X-Key": "k"},
            "format": {"type": "json", "subject_token_field_name": "id_token"},
        },
    });
    config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    let auth = json!({"workloadIdentityFederation": {
        "credConfig": {"name": "wif", "key": "config"}, "externalTokenEndpoint": format!("{}/idp", server.url),
    }});
    (auth, Cluster::new().config_map("wif", "config", &config.to_string()))
}

#[tokio::test]
async fn a_configuration_is_followed() {
    let server = FakeServer::start(google).await;
    let (auth, cluster) = config(&server, json!({}));
    let token = login(auth, &cluster, &server, &outbound()).await.unwrap();
    assert_eq!(token.value.expose(), b"impersonated");
    let asked = server.received();
    assert_eq!((asked[0].line.as_str(), asked[0].header("x-key")), ("GET /idp", "k"));
    assert_eq!(asked[1].form("subject_token").unwrap(), format!("idp-{CANARY}"));
    assert_eq!(asked[1].form("subject_token_type").unwrap(), "urn:ietf:params:oauth:token-type:id_token");
    assert_eq!(asked[2].json(), json!({"scope": [SCOPE], "lifetime": "600s"}));
}

/// A ConfigMap must not make the operator run a program, read a file, use its node's identity, or send tokens elsewhere.
#[tokio::test]
async fn a_configuration_may_not_reach_for_what_is_the_operators() {
    let server = FakeServer::start(google).await;
    let url = format!("{}/idp", server.url);
    for (change, part) in [
        (json!({"credential_source": {"executable": {"command": "/bin/sh"}, "url": url}}), "executable"),
        (json!({"credential_source": {"file": "/var/run/secrets/kubernetes.io/serviceaccount/token"}}), "file"),
        (json!({"credential_source": {"environment_id": "aws1", "url": url}}), "environment_id"),
        (json!({"credential_source": {"url": format!("{}/other", server.url)}}), "externalTokenEndpoint"),
        (json!({"credential_source": {}}), "credential_source.url"),
        (json!({"token_url": format!("{}/evil", server.url)}), "token_url"),
        (json!({"service_account_impersonation_url": format!("{}/evil", server.url)}), "service_account_impersonation_url"),
        (
            json!({"service_account_impersonation_url":
                "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/../x?y=:generateAccessToken"}),
            "service_account_impersonation_url",
        ),
        (json!({"type": "service_account"}), "type"),
        (json!({"audience": ""}), "audience"),
    ] {
        let (auth, cluster) = config(&server, change);
        let error = redacted(login(auth, &cluster, &server, &outbound()).await);
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.contains(part), "{part}: {error}");
    }
    assert!(server.received().is_empty());
}

#[tokio::test]
async fn one_way_of_federation_at_a_time() {
    let server = FakeServer::start(google).await;
    for bad in [json!({}), json!({"serviceAccountRef": {"name": "a"}, "credConfig": {"name": "a", "key": "b"}})] {
        let auth = json!({"workloadIdentityFederation": bad});
        let error = redacted(login(auth, &Cluster::new(), &server, &outbound()).await);
        assert!(error.detail.contains("exactly one of"), "{error}");
    }
    let auth = json!({"workloadIdentityFederation": {"serviceAccountRef": {"name": "a"}}});
    let error = redacted(login(auth, &Cluster::new(), &server, &outbound()).await);
    assert!(error.detail.contains("audience must be provided"), "{error}");
}

#[tokio::test]
async fn without_a_login_it_is_the_operators() {
    let server = FakeServer::start(google).await;
    let token = login(json!({}), &Cluster::new(), &server, &outbound()).await.unwrap();
    assert_eq!(token.value.expose(), b"by-machine");

    let file = std::env::temp_dir().join(format!("keyferry-gcp-{}.json", std::process::id()));
    std::fs::write(&file, key_file(&server, &key().0)).unwrap();
    let env = [("GOOGLE_APPLICATION_CREDENTIALS", file.to_str().unwrap())];
    let token = login(json!({}), &Cluster::new(), &server, &outbound_with(&env)).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!(token.unwrap().value.expose(), b"by-key");
    let env = [("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/canary.json")];
    redacted(login(json!({}), &Cluster::new(), &server, &outbound_with(&env)).await);
}

#[tokio::test]
async fn what_google_refuses_is_denied() {
    let server =
        FakeServer::start(|_| Reply::json(400, &json!({"error": "invalid_grant", "error_description": CANARY}))).await;
    let cluster = Cluster::new().secret("gcp", "json", &key_file(&server, &key().0));
    assert_eq!(redacted(login(by_key(), &cluster, &server, &outbound()).await).kind, ErrorKind::Denied);
}

#[tokio::test]
async fn google_signs_for_the_service_account_behind_a_service_account() {
    let server = FakeServer::start(google).await;
    let signed = async |annotations: Value| {
        let cluster = Cluster::new().service_account("app", &annotations);
        let account = json!({"serviceAccountRef": {"name": "app"}, "clusterLocation": "l", "clusterName": "c"});
        let (auth, cx) = (spec(json!({"workloadIdentity": account})), cluster.cx(&outbound()));
        let endpoints = endpoints(&server);
        let login = Login { auth: &auth, project: "p", path: "spec.auth", cx: &cx.connect, now: cx.now, endpoints };
        login.signed_jwt("vault/dev").await
    };
    let token = signed(json!({ACCOUNT_ANNOTATION: "sa@p.iam.gserviceaccount.com"})).await.unwrap();
    let claims: Value = serde_json::from_str(token.expose_str().unwrap().strip_prefix("signed ").unwrap()).unwrap();
    let now = "2026-11-26T12:00:00Z".parse::<Timestamp>().unwrap().as_second();
    assert_eq!(claims, json!({"sub": "sa@p.iam.gserviceaccount.com", "aud": "vault/dev", "exp": now + 600}));
    let error = redacted(signed(json!({})).await);
    assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains(ACCOUNT_ANNOTATION), "{error}");
}
