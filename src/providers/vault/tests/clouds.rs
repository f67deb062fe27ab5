//! Logins by an identity of AWS and of Google Cloud.

use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keyferry_fakes::vault::Vault as Server;

use super::*;
use crate::jwt::tests::{key as rsa_key, verified};
use crate::outbound::testing::outbound_with;

const ACCESS_KEY: &str = "not-a-real-key";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn sha256(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

/// Checks a login as Vault and AWS do: the parts are in base64, and the signature (version 4) is that of the key.
fn check_signature(login: &Value, url: &str, region: &str, server_id: Option<&str>) -> BTreeMap<String, String> {
    let part = |name: &str| String::from_utf8(STANDARD.decode(login[name].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(login["iam_http_request_method"], "POST");
    assert_eq!(part("iam_request_url"), url);
    let body = part("iam_request_body");
    assert_eq!(body, "Action=GetCallerIdentity&Version=2011-06-15");
    let headers: BTreeMap<String, Vec<String>> = serde_json::from_str(&part("iam_request_headers")).unwrap();
    let mut headers: BTreeMap<String, String> =
        headers.into_iter().map(|(name, values)| (name.to_lowercase(), values.join(","))).collect();
    assert_eq!(headers.get("x-vault-aws-iam-server-id").map(String::as_str), server_id);
    let authorization = headers.remove("authorization").unwrap();
    headers.insert("host".into(), url.split('/').nth(2).unwrap().into());
    let field = |name: &str| {
        let field = authorization.split([' ', ',']).find_map(|part| part.strip_prefix(name)).unwrap();
        field.to_owned()
    };
    let signed = field("SignedHeaders=");
    for name in headers.keys() {
        assert!(signed.split(';').any(|signed| signed == name), "{name} is not signed: {signed}");
    }
    let time = &headers["x-amz-date"];
    let scope = format!("{}/{region}/sts/aws4_request", &time[..8]);
    assert!(field("Credential=").ends_with(&format!("/{scope}")), "{authorization}");
    let listed: String = signed.split(';').map(|name| format!("{name}:{}\n", headers[name])).collect();
    let request = format!("POST\n/\n\n{listed}\n{signed}\n{}", sha256(&body));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", sha256(&request));
    let secret = if headers.contains_key("x-amz-security-token") { "given-key" } else { ACCESS_KEY };
    let key = [&time[..8], region, "sts", "aws4_request"];
    let key = key.iter().fold(format!("AWS4{secret}").into_bytes(), |key, part| mac(&key, part));
    assert_eq!(field("Signature="), hex(&mac(&key, &text)));
    headers
}

/// STS: gives credentials for roles and tokens, and answers nobody who they are: Vault asks that.
async fn sts() -> FakeServer {
    FakeServer::start(|asked| {
        let action = asked.form("Action").unwrap();
        let body = format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><Credentials>\
             <AccessKeyId>ASIAGIVEN</AccessKeyId><SecretAccessKey>given-key</SecretAccessKey>\
             <SessionToken>given-token</SessionToken><Expiration>2036-01-01T00:00:00Z</Expiration></Credentials>\
             </{action}Result><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></{action}Response>"
        );
        match action.as_str() {
            "AssumeRole" | "AssumeRoleWithWebIdentity" => Reply::text(200, &body),
            other => panic!("{other} is not ours to ask"),
        }
    })
    .await
}

fn with_keys() -> Cluster {
    let role = json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/app"});
    Cluster::new()
        .labelled_secret("aws", &json!({}), &[("id", "AKIDEXAMPLE"), ("key", ACCESS_KEY)])
        .service_account("app", &role)
        .service_account("bare", &json!({}))
}

fn by_key(more: Value) -> Value {
    let key = |key: &str| json!({"name": "aws", "key": key});
    let mut iam = json!({
        "vaultRole": "dev", "secretRef": {"accessKeyIDSecretRef": key("id"), "secretAccessKeySecretRef": key("key")},
    });
    iam.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"auth": {"iam": iam}})
}

#[tokio::test]
async fn an_access_key_signs_for_vault_alone() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let env = [("AWS_STS_ENDPOINT", "https://sts.example.test")];
    let cx = with_keys().cx(&outbound_with(&env)).connect;
    let more = json!({"path": "aws-eu", "region": "eu-west-1", "vaultAwsIamServerID": "vault.example"});
    store(server.url(), by_key(more)).connect(&cx).await.unwrap();
    let asked = server.server.received().remove(0);
    assert_eq!((asked.line.as_str(), &asked.json()["role"]), ("PUT /v1/auth/aws-eu/login", &json!("dev")));
    let headers = check_signature(&asked.json(), "https://sts.example.test/", "eu-west-1", Some("vault.example"));
    assert!(!headers.contains_key("x-amz-security-token"));
    for hidden in [ACCESS_KEY.to_owned(), STANDARD.encode(ACCESS_KEY)] {
        assert!(!asked.body.contains(&hidden), "the key itself goes nowhere");
    }

    // Without an endpoint of the operator's environment it is the region's own.
    let cx = with_keys().cx(&outbound()).connect;
    store(server.url(), by_key(json!({}))).connect(&cx).await.unwrap();
    let asked = server.server.received().into_iter().rfind(|asked| asked.line.contains("login")).unwrap();
    assert_eq!(asked.line, "PUT /v1/auth/aws/login");
    check_signature(&asked.json(), "https://sts.us-east-1.amazonaws.com/", "us-east-1", None);
}

#[tokio::test]
async fn a_role_and_a_service_account_sign_with_what_sts_gives() {
    let (server, sts) = (Service::start(Server::new(2, MOUNT)).await, sts().await);
    let env = [("AWS_STS_ENDPOINT", sts.url.as_str())];
    let role = by_key(json!({"role": "arn:aws:iam::123456789012:role/vault", "externalID": "x-1"}));
    let account =
        json!({"auth": {"iam": {"vaultRole": "dev", "jwt": {"serviceAccountRef": {"name": "app", "audiences": ["aud"]}}}}});
    for block in [role, account] {
        let cluster = with_keys();
        store(server.url(), block).connect(&cluster.cx(&outbound_with(&env)).connect).await.unwrap();
        let asked = server.server.received().into_iter().rfind(|asked| asked.line.contains("login")).unwrap();
        let headers = check_signature(&asked.json(), &format!("{}/", sts.url), "us-east-1", None);
        assert_eq!(headers["x-amz-security-token"], "given-token");
    }
    let asked = sts.received();
    let form = |index: usize, name: &str| asked[index].form(name);
    assert_eq!((form(0, "Action").as_deref(), form(0, "ExternalId").as_deref()), (Some("AssumeRole"), Some("x-1")));
    assert_eq!(form(1, "Action").as_deref(), Some("AssumeRoleWithWebIdentity"));
    assert_eq!(form(1, "RoleArn").as_deref(), Some("arn:aws:iam::123456789012:role/app"));

    let bare = json!({"auth": {"iam": {"vaultRole": "dev", "jwt": {"serviceAccountRef": {"name": "bare"}}}}});
    let cx = with_keys().cx(&outbound_with(&env)).connect;
    let error = store(server.url(), bare).connect(&cx).await.err().unwrap();
    assert!(error.detail.starts_with("spec.provider.vault.auth.iam.jwt.serviceAccountRef: an IAM role"), "{error}");
}

/// What the operator is to AWS could be shown to another Vault by whoever runs this one.
#[tokio::test]
async fn the_operators_own_identity_is_for_cluster_stores() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let env = [("AWS_ACCESS_KEY_ID", "AKIDOPERATOR"), ("AWS_SECRET_ACCESS_KEY", ACCESS_KEY)];
    let mut cx = with_keys().cx(&outbound_with(&env)).connect;
    let block = json!({"auth": {"iam": {"vaultRole": "dev", "region": "eu-west-1"}}});
    let error = store(server.url(), block.clone()).connect(&cx).await.err().unwrap();
    assert!(error.detail.contains("the operator's own identity goes to no server"), "{error}");
    assert!(server.server.received().is_empty());
    cx.store_kind = StoreKind::ClusterSecretStore;
    store(server.url(), block).connect(&cx).await.unwrap();
    let asked = server.server.received().remove(0);
    check_signature(&asked.json(), "https://sts.eu-west-1.amazonaws.com/", "eu-west-1", None);
}

#[tokio::test]
async fn a_service_accounts_key_signs_for_a_role() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let (pem, public) = rsa_key();
    let file = json!({
        "type": "service_account", "client_email": "sa@p.iam.gserviceaccount.com", "private_key": pem, "private_key_id": "k1",
    });
    let cx = Cluster::new().secret("gcp", "json", &file.to_string()).cx(&outbound()).connect;
    let auth = json!({"gcp": {"role": "dev", "secretRef": {"secretAccessKeySecretRef": {"name": "gcp", "key": "json"}}}});
    store(server.url(), json!({"auth": auth})).connect(&cx).await.unwrap();
    let asked = server.server.received().remove(0);
    assert_eq!((asked.line.as_str(), &asked.json()["role"]), ("PUT /v1/auth/gcp/login", &json!("dev")));
    let (header, claims) = verified(asked.json()["jwt"].as_str().unwrap(), &public);
    assert_eq!((&header["kid"], &claims["sub"]), (&json!("k1"), &json!("sa@p.iam.gserviceaccount.com")));
    assert_eq!(claims["aud"], "vault/dev");
    let left = claims["exp"].as_i64().unwrap() - jiff::Timestamp::now().as_second();
    assert!((500..=600).contains(&left), "Vault takes 15 minutes at most: {left}");
}

/// ESO's usual form on GKE. What Google's own services say to the token is tested beside them.
#[tokio::test]
async fn a_cluster_that_is_not_named_is_that_of_the_machine() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let metadata = FakeServer::start(|asked| match asked.line.as_str() {
        "GET /computeMetadata/v1/project/project-id" => Reply::text(200, "p"),
        "GET /computeMetadata/v1/instance/attributes/cluster-location" => Reply::text(200, "europe-west3"),
        _ => Reply::text(404, ""),
    })
    .await;
    let host = metadata.url.trim_start_matches("http://").to_owned();
    let account = json!({"iam.gke.io/gcp-service-account": "sa@p.iam.gserviceaccount.com"});
    let cx = Cluster::new().service_account("app", &account).cx(&outbound_with(&[("GCE_METADATA_HOST", &host)])).connect;
    let block = json!({"auth": {"gcp": {"role": "dev", "workloadIdentity": {"serviceAccountRef": {"name": "app"}}}}});
    let error = store(server.url(), block).connect(&cx).await.err().unwrap();
    let wanted = "spec.provider.vault.auth.gcp.workloadIdentity.clusterName is not set, and no metadata service tells it";
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Misconfigured, wanted));
    let asked = "GET /computeMetadata/v1/instance/attributes/cluster-name";
    assert_eq!(metadata.lines().last().map(String::as_str), Some(asked));
}

#[tokio::test]
async fn the_operators_machine_is_for_cluster_stores() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let metadata = FakeServer::start(|asked| match asked.header("metadata-flavor") {
        "Google" => Reply::text(200, "signed-by-google\n"),
        _ => Reply::text(403, ""),
    })
    .await;
    let host = metadata.url.trim_start_matches("http://").to_owned();
    let mut cx = Cluster::new().cx(&outbound_with(&[("GCE_METADATA_HOST", &host)])).connect;
    let block = json!({"auth": {"gcp": {"path": "gcp-eu", "role": "dev"}}});
    assert!(store(server.url(), block.clone()).connect(&cx).await.is_err() && metadata.received().is_empty());
    cx.store_kind = StoreKind::ClusterSecretStore;
    store(server.url(), block).connect(&cx).await.unwrap();
    let asked = server.server.received().remove(0);
    assert_eq!(
        (asked.line.as_str(), asked.json()),
        ("PUT /v1/auth/gcp-eu/login", json!({"role": "dev", "jwt": "signed-by-google"}),)
    );
    let wanted = metadata.received().remove(0);
    assert!(
        wanted.line.starts_with("GET /computeMetadata/v1/instance/service-accounts/default/identity?"),
        "{}",
        wanted.line
    );
    assert_eq!(wanted.query("audience"), Some(format!("{}/vault/dev", server.url())));
}
