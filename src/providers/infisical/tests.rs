#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;

use keyferry_fakes::infisical::{self as fake, Infisical as Service};
use serde_json::{Value as Json, json};

use super::*;
use crate::api::external_secret::MetadataPolicy;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::{FakeServer, Reply, outbound, outbound_with};
use crate::providers::conformance::served::{OverHttp, Served};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, FindQuery, Place, Push, Pushed, Source, Want, azure};
use crate::secret_bytes::SecretBytes;

struct Universal;

impl Served for Universal {
    type Fake = Service;

    const PROVIDER: &'static str = "infisical";

    fn fake(&self, secrets: &[Stored]) -> Service {
        let service = Service::default();
        for secret in secrets {
            let value = match &secret.value {
                Value::Plain(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Value::Properties(pairs) => json!(pairs).to_string(),
            };
            service.put("prod", "/app", &secret.key, &value);
            service.describe("prod", "/app", &secret.key, secret.tags.clone());
        }
        service
    }

    fn block(&self, url: &str) -> Json {
        block(url, universal())
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        LOGIN.to_vec()
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        vec![
            (Check::Binary, "Infisical keeps text only"),
            (Check::PushForeign, "ESO puts no mark on what it writes there, so nothing tells ours from others'"),
        ]
    }
}

const LOGIN: &[(&str, &str)] = &[
    ("id", fake::CLIENT_ID),
    ("secret", fake::CLIENT_SECRET),
    ("identity", fake::IDENTITY),
    ("jwt", fake::JWT),
    ("user", "bob"),
    ("password", fake::PASSWORD),
    ("token", fake::ACCESS_TOKEN),
    ("file", "/etc/passwd"),
    ("wrong", CANARY),
];

fn key(key: &str) -> Json {
    json!({"name": "login", "key": key})
}

fn universal() -> Json {
    json!({"universalAuthCredentials": {"clientId": key("id"), "clientSecret": key("secret")}})
}

fn block(url: &str, auth: Json) -> Json {
    json!({
        "hostAPI": format!("{url}/api"),
        "auth": auth,
        "secretsScope": {"projectSlug": fake::PROJECT, "environmentSlug": "prod", "secretsPath": "/app"},
    })
}

fn config(block: Json) -> Infisical {
    serde_json::from_value(block).unwrap()
}

type Running = keyferry_fakes::Service<Service>;

async fn running(service: Service) -> Running {
    Running::start(service).await
}

fn cx(kind: StoreKind) -> ConnectCx {
    cx_with(kind, &[])
}

fn cx_with(kind: StoreKind, env: &[(&str, &str)]) -> ConnectCx {
    let outbound = if env.is_empty() { outbound() } else { outbound_with(env) };
    let mut cx = Cluster::new().labelled_secret("login", &json!({}), LOGIN).cx(&outbound).connect;
    cx.store_kind = kind;
    cx
}

async fn open(block: Json) -> Arc<dyn Session> {
    config(block).connect(&cx(StoreKind::SecretStore)).await.unwrap()
}

async fn refused(block: Json, kind: StoreKind) -> ProviderError {
    let error = config(block).connect(&cx(kind)).await.err().expect("an error");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
    error
}

async fn get(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    get_version(session, key, "").await
}

async fn get_version(session: &dyn Session, key: &str, version: &str) -> Result<String, ProviderError> {
    let want = Want { key: key.into(), version: version.into(), ..Want::default() };
    let fetched = session.get(&[want], &CallCx::default()).await.remove(0)?;
    Ok(fetched.bytes.expose_str().unwrap().to_owned())
}

impl Tested for Infisical {
    const TITLE: &'static str = "Infisical";
    const AUTH: &'static [&'static str] = &[
        "universalAuthCredentials",
        "kubernetesAuthCredentials",
        "jwtAuthCredentials",
        "tokenAuthCredentials",
        "ldapAuthCredentials",
        "azureAuthCredentials",
        "gcpIdTokenAuthCredentials",
        "awsAuthCredentials",
    ];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Universal))]
    }
}

#[tokio::test]
async fn each_way_to_log_in() {
    let service = running(Service::default()).await;
    service.fake.put("prod", "/app", "A", "a");
    let identity = || key("identity");
    for auth in [
        universal(),
        json!({"jwtAuthCredentials": {"identityId": identity(), "jwt": key("jwt")}}),
        json!({"ldapAuthCredentials": {"identityId": identity(), "ldapUsername": key("user"), "ldapPassword": key("password")}}),
        json!({"tokenAuthCredentials": {"accessToken": key("token")}}),
    ] {
        let session = open(block(service.url(), auth.clone())).await;
        assert_eq!(get(session.as_ref(), "A").await.unwrap(), "a", "{auth}");
    }
    for (auth, kind) in [
        (json!({"universalAuthCredentials": {"clientId": key("id"), "clientSecret": key("wrong")}}), ErrorKind::Denied),
        (json!({"jwtAuthCredentials": {"identityId": identity(), "jwt": key("wrong")}}), ErrorKind::Denied),
        (json!({"jwtAuthCredentials": {"identityId": identity(), "jwt": key("nope")}}), ErrorKind::Misconfigured),
        (
            json!({"gcpIamAuthCredentials": {"identityId": identity(), "serviceAccountKeyFilePath": key("file")}}),
            ErrorKind::Unsupported,
        ),
        (json!({}), ErrorKind::Misconfigured),
    ] {
        let error = refused(block(service.url(), auth.clone()), StoreKind::SecretStore).await;
        assert_eq!(error.kind, kind, "{auth}: {error}");
    }
}

/// What the machine's metadata service says, for Azure and for Google.
async fn machine() -> FakeServer {
    FakeServer::start(|asked| {
        let google = asked.query("audience").is_some_and(|audience| audience == fake::IDENTITY);
        let azure = asked.query("resource").is_some_and(|resource| resource == "https://management.azure.com/");
        match (asked.header("metadata-flavor") == "Google" && google, asked.header("metadata") == "true" && azure) {
            (true, _) => Reply::text(200, fake::JWT),
            (_, true) => Reply::json(200, &json!({"access_token": fake::JWT})),
            _ => Reply::text(400, CANARY),
        }
    })
    .await
}

#[tokio::test]
async fn the_operators_own_identity_goes_to_no_server_of_a_namespace() {
    for name in ["gcpIdTokenAuthCredentials", "azureAuthCredentials", "kubernetesAuthCredentials"] {
        let service = running(Service::default()).await;
        service.fake.put("prod", "/app", "A", "a");
        let machine = machine().await;
        let block = block(service.url(), json!({name: {"identityId": key("identity")}}));
        let error = refused(block.clone(), StoreKind::SecretStore).await;
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.contains("ClusterSecretStore"), "{error}");
        assert!(machine.received().is_empty() && service.server.received().is_empty(), "{name}: nothing is sent");
        if name == "kubernetesAuthCredentials" {
            continue;
        }
        let cx = cx_with(StoreKind::ClusterSecretStore, &[("GCE_METADATA_HOST", &machine.address.to_string())]);
        let mut azure = azure::Endpoints::of(Default::default()).unwrap();
        azure.metadata = machine.url.clone();
        let session = InfisicalSession::open_with(&config(block), azure, &cx).await.unwrap();
        assert_eq!(get(&session, "A").await.unwrap(), "a", "{name}");
        let logins = service.server.lines().iter().filter(|line| line.ends_with("/login")).count();
        assert_eq!((machine.received().len(), logins), (1, 1), "{name}");
    }
}

#[tokio::test]
async fn an_aws_identity_is_shown_by_a_signed_question() {
    let service = running(Service::default()).await;
    service.fake.put("prod", "/app", "A", "a");
    let block = block(service.url(), json!({"awsAuthCredentials": {"identityId": key("identity")}}));
    let error = refused(block.clone(), StoreKind::SecretStore).await;
    assert!(error.detail.contains("ClusterSecretStore"), "{error}");
    let config = config(block);
    let with_key = async |secret: &str| {
        let env = [("AWS_ACCESS_KEY_ID", fake::AWS_KEY_ID), ("AWS_SECRET_ACCESS_KEY", secret), ("AWS_REGION", "eu-west-1")];
        config.connect(&cx_with(StoreKind::ClusterSecretStore, &env)).await
    };
    let session = with_key(fake::AWS_SECRET_KEY).await.unwrap();
    assert_eq!(get(session.as_ref(), "A").await.unwrap(), "a");
    let asked = service.server.received().remove(0);
    assert!(!asked.body.contains(fake::AWS_SECRET_KEY), "the key itself stays here");
    // Infisical passes a no of AWS on as a failure of its own.
    let error = with_key(CANARY).await.err().expect("an error");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(!format!("{error:?}").contains(CANARY), "{error:?}");
}

#[tokio::test]
async fn no_file_but_a_mounted_token_is_sent() {
    let service = running(Service::default()).await;
    let auth = json!({"kubernetesAuthCredentials": {"identityId": key("identity"), "serviceAccountTokenPath": key("file")}});
    let error = refused(block(service.url(), auth), StoreKind::ClusterSecretStore).await;
    assert!(error.detail.contains("serviceAccountTokenPath"), "{error}");
    assert!(service.server.received().is_empty());
}

#[tokio::test]
async fn keys_are_in_folders() {
    let service = running(Service::default()).await;
    for (folder, value) in [("/app", "scope"), ("/app/sub", "below"), ("/other", "absolute"), ("/", "root")] {
        service.fake.put("prod", folder, "A", value);
    }
    service.fake.put("dev", "/app", "B", "elsewhere");
    let session = open(Universal.block(service.url())).await;
    let session = session.as_ref();
    for (key, value) in [("A", "scope"), ("sub/A", "below"), ("/other/A", "absolute"), ("/A", "root")] {
        assert_eq!(get(session, key).await.unwrap(), value, "{key}");
    }
    assert_eq!(get(session, "B").await.unwrap_err().kind, ErrorKind::NotFound);
    for key in ["", "sub/", "../other/A", "/app/../other/A"] {
        assert_eq!(get(session, key).await.unwrap_err().kind, ErrorKind::Misconfigured, "{key}");
    }
}

#[tokio::test]
async fn references_imports_versions_and_metadata() {
    let service = running(Service::default()).await;
    let fake = &service.fake;
    for (folder, name, value) in [
        ("/app", "USER", "ann"),
        ("/app", "URL", "db://${USER}@${prod.shared.HOST}"),
        ("/shared", "HOST", "db.example"),
        ("/first", "ONLY", "first"),
        ("/first", "BOTH", "first"),
        ("/second", "BOTH", "second"),
        ("/second", "USER", "imported"),
    ] {
        fake.put("prod", folder, name, value);
    }
    fake.put("prod", "/app", "USER", "bea");
    fake.import(["prod", "/app"], ["prod", "/first"]);
    fake.import(["prod", "/app"], ["prod", "/second"]);
    fake.describe("prod", "/app", "USER", BTreeMap::from([("team".to_owned(), "a".to_owned())]));
    let session = open(Universal.block(service.url())).await;
    let session = session.as_ref();
    assert_eq!(get(session, "URL").await.unwrap(), "db://bea@db.example");
    assert_eq!(get(session, "BOTH").await.unwrap(), "second", "the last import counts");
    assert_eq!(get(session, "ONLY").await.unwrap(), "first");
    assert_eq!(get_version(session, "USER", "1").await.unwrap(), "ann");
    assert_eq!(get_version(session, "USER", "latest").await.unwrap_err().kind, ErrorKind::Misconfigured);
    let want = Want { key: "USER".into(), metadata: MetadataPolicy::Fetch, ..Want::default() };
    let metadata = session.get(&[want], &CallCx::default()).await.remove(0).unwrap();
    assert_eq!(metadata.bytes.expose_str(), Some(r#"{"team":"a"}"#));

    let all = session.find(&FindQuery::default(), &CallCx::default()).await.unwrap();
    let all: Vec<(&str, &str)> = all.iter().map(|f| (f.name.as_str(), f.bytes.expose_str().unwrap())).collect();
    assert_eq!(all, [("BOTH", "second"), ("ONLY", "first"), ("URL", "db://bea@db.example"), ("USER", "bea")]);

    let mut as_written = Universal.block(service.url());
    as_written["secretsScope"]["expandSecretReferences"] = json!(false);
    let session = open(as_written).await;
    assert_eq!(get(session.as_ref(), "URL").await.unwrap(), "db://${USER}@${prod.shared.HOST}");
}

#[tokio::test]
async fn find_looks_below_where_it_is_told_to() {
    let service = running(Service::default()).await;
    for (folder, name) in [("/app", "A"), ("/app/one", "B"), ("/app/two", "C"), ("/other", "D")] {
        service.fake.put("prod", folder, name, name);
    }
    let mut block = Universal.block(service.url());
    let names = async |block: &Json, path: &str| -> Vec<String> {
        let query = FindQuery { path: path.into(), ..FindQuery::default() };
        let found = open(block.clone()).await.find(&query, &CallCx::default()).await.unwrap();
        found.into_iter().map(|found| found.name).collect()
    };
    assert_eq!(names(&block, "").await, ["A"]);
    block["secretsScope"]["recursive"] = json!(true);
    assert_eq!(names(&block, "").await, ["A", "B", "C"]);
    assert_eq!(names(&block, "/app/one").await, ["B"]);
}

#[tokio::test]
async fn a_hidden_value_is_denied_and_not_taken_for_a_value() {
    let service = running(Service::default()).await;
    service.fake.put("prod", "/app", "A", "a");
    service.fake.hide("A");
    let session = open(Universal.block(service.url())).await;
    assert_eq!(get(session.as_ref(), "A").await.unwrap_err().kind, ErrorKind::Denied);
    let found = session.find(&FindQuery::default(), &CallCx::default()).await;
    assert_eq!(found.unwrap_err().kind, ErrorKind::Denied);
    let pushed = session.push(&push("A", "b"), &CallCx::default()).await;
    assert_eq!(pushed.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn a_wrong_project_or_environment_is_no_missing_secret() {
    let service = running(Service::default()).await;
    for (field, value) in [("projectSlug", "shopp"), ("environmentSlug", "production")] {
        let mut block = Universal.block(service.url());
        block["secretsScope"][field] = json!(value);
        let session = open(block).await;
        let error = get(session.as_ref(), "A").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
        assert!(error.detail.contains(value), "{error}");
        assert_eq!(session.validate(&CallCx::default()).await.unwrap_err().kind, ErrorKind::Misconfigured);
    }
}

#[tokio::test]
async fn servers_of_before_version_4_are_understood() {
    let service = running(Service::old()).await;
    service.fake.put("prod", "/app", "A", "a");
    let session = open(Universal.block(service.url())).await;
    assert_eq!(get(session.as_ref(), "A").await.unwrap(), "a");
    assert_eq!(session.push(&push("A", "b"), &CallCx::default()).await.unwrap(), Pushed::Written);
    assert_eq!(service.fake.value("prod", "/app", "A").as_deref(), Some("b"));
    assert_eq!(get(session.as_ref(), "GONE").await.unwrap_err().kind, ErrorKind::NotFound);
    assert!(service.server.lines().iter().all(|line| !line.contains("/v4/")), "version 4 is not tried");
}

#[tokio::test]
async fn a_token_that_may_not_look_the_project_up_reads_and_does_not_write() {
    let service = running(Service::default()).await;
    service.fake.put("prod", "/app", "A", "a");
    let session = open(block(service.url(), json!({"tokenAuthCredentials": {"accessToken": key("token")}}))).await;
    assert_eq!(get(session.as_ref(), "A").await.unwrap(), "a");
    assert_eq!(session.push(&push("A", "b"), &CallCx::default()).await.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn one_login_for_all_and_a_new_one_when_the_token_ends() {
    let service = running(Service::with_token_life(7200)).await;
    service.fake.put("prod", "/app", "A", "a");
    let session = open(Universal.block(service.url())).await;
    let logins = || service.server.lines().iter().filter(|line| line.ends_with("/login")).count();
    let lookups = || service.server.lines().iter().filter(|line| line.contains("/slug/")).count();
    for _ in 0..3 {
        assert_eq!(get(session.as_ref(), "A").await.unwrap(), "a");
    }
    assert_eq!((logins(), lookups()), (1, 1));
    service.fake.end_tokens();
    assert_eq!(get(session.as_ref(), "A").await.unwrap(), "a");
    assert_eq!((logins(), lookups()), (2, 1));
}

fn push(key: &str, value: &str) -> Push {
    let source = Source { data: BTreeMap::from([("v".to_owned(), SecretBytes::from(value))]), ..Source::default() };
    let place = Place { key: key.into(), ..Place::default() };
    Push { source: Arc::new(source), secret_key: Some("v".into()), place }
}

#[tokio::test]
async fn what_infisical_trims_or_expands_is_not_pushed_again_and_again() {
    let service = running(Service::default()).await;
    let session = open(Universal.block(service.url())).await;
    for (key, value, kept) in [("PADDED", "  a b \n\n", "a b\n"), ("REF", "x ${PADDED}", "x ${PADDED}")] {
        for expected in [Pushed::Written, Pushed::Unchanged] {
            assert_eq!(session.push(&push(key, value), &CallCx::default()).await.unwrap(), expected, "{key}");
        }
        assert_eq!(service.fake.value("prod", "/app", key).as_deref(), Some(kept));
        assert_eq!(service.fake.versions("prod", "/app", key), 1);
    }
    let bytes = Source { data: BTreeMap::from([("v".to_owned(), SecretBytes::new(vec![0xff]))]), ..Source::default() };
    let bytes = Push { source: Arc::new(bytes), ..push("BYTES", "") };
    assert_eq!(session.push(&bytes, &CallCx::default()).await.unwrap_err().kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_change_that_waits_for_approval_is_not_done() {
    let service = running(Service::default()).await;
    service.fake.ask_for_approval();
    let session = open(Universal.block(service.url())).await;
    let error = session.push(&push("A", CANARY), &CallCx::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.detail.contains("approval") && !error.detail.contains(CANARY), "{error}");
}

#[test]
fn what_a_store_depends_on() {
    let mut block = Universal.block("https://infisical.example");
    block["caProvider"] = json!({"type": "ConfigMap", "name": "ca", "key": "ca.crt"});
    let config = config(block);
    let names: Vec<String> = config.references().into_iter().map(|r| r.name).collect();
    assert_eq!(names, ["login", "login", "ca"]);
    assert!(config.validate(StoreKind::SecretStore).is_ok());
    assert!(config.validate(StoreKind::ClusterSecretStore).is_err(), "the CA's namespace is missing");
    for host in ["https://i.example", "https://i.example/", "https://i.example/api", "https://i.example/api/"] {
        let config = Infisical { host_api: Some(host.into()), ..Infisical::default() };
        assert_eq!(config.base(), "https://i.example/api");
    }
    assert_eq!(Infisical::default().base(), HOST);
}

#[tokio::test]
async fn a_project_or_environment_that_goes_later_is_no_missing_secret() {
    let project: fn(&Service) = |fake| fake.remove_project();
    let environment: fn(&Service) = |fake| fake.remove_environment("prod");
    for (remove, told) in [(project, fake::PROJECT), (environment, "\"prod\"")] {
        let service = running(Service::default()).await;
        service.fake.put("prod", "/app", "A", "a");
        let session = open(Universal.block(service.url())).await;
        assert_eq!(get(session.as_ref(), "A").await.unwrap(), "a");
        remove(&service.fake);
        let errors = [
            get(session.as_ref(), "A").await.unwrap_err(),
            get(session.as_ref(), "A").await.unwrap_err(),
            session.find(&FindQuery::default(), &CallCx::default()).await.unwrap_err(),
            session.exists(&push("A", "").place, &CallCx::default()).await.unwrap_err(),
            session.delete(&push("A", "").place, &CallCx::default()).await.unwrap_err(),
            session.validate(&CallCx::default()).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
            assert!(error.detail.contains(told), "{error}");
        }
    }
    // Its list is empty, and no error.
    let service = running(Service::default()).await;
    service.fake.put("prod", "/app", "A", "a");
    let session = open(Universal.block(service.url())).await;
    assert_eq!(session.find(&FindQuery::default(), &CallCx::default()).await.unwrap().len(), 1);
    service.fake.remove_environment("prod");
    let error = session.find(&FindQuery::default(), &CallCx::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
}

#[tokio::test]
async fn in_a_folder_that_is_gone_there_is_no_secret_for_who_may_ask() {
    let service = running(Service::default()).await;
    service.fake.put("prod", "/app", "A", "a");
    let session = open(Universal.block(service.url())).await;
    assert_eq!(get(session.as_ref(), "A").await.unwrap(), "a");
    let by_hand = open(block(service.url(), json!({"tokenAuthCredentials": {"accessToken": key("token")}}))).await;
    assert_eq!(get(by_hand.as_ref(), "GONE").await.unwrap_err().kind, ErrorKind::NotFound);
    service.fake.remove_folder("prod", "/app");
    assert_eq!(get(session.as_ref(), "A").await.unwrap_err().kind, ErrorKind::NotFound);
    // It cannot be told from an environment that is gone.
    assert_eq!(get(by_hand.as_ref(), "A").await.unwrap_err().kind, ErrorKind::Misconfigured);
}

#[tokio::test]
async fn a_404_that_is_not_infisicals_is_no_missing_secret() {
    let service = running(Service::default()).await;
    let project = format!("/api/v1/projects/slug/{}", fake::PROJECT);
    for body in [
        format!("<html>404 Secret with name 'A' not found {CANARY}</html>"),
        json!({"error": "Not Found", "status": 404, "path": CANARY}).to_string(),
        json!({"message": format!("no Route matched {CANARY}")}).to_string(),
        String::new(),
    ] {
        let (said, project) = (body.clone(), project.clone());
        let server = FakeServer::start(move |asked| match asked.path() {
            "/api/v1/auth/universal-auth/login" => Reply::json(200, &json!({"accessToken": "t", "expiresIn": 0})),
            path if path == project => {
                Reply::json(200, &json!({"id": fake::PROJECT_ID, "environments": [{"slug": "prod"}]}))
            }
            _ => Reply::text(404, &said),
        })
        .await;
        let session = open(Universal.block(&server.url)).await;
        let error = get(session.as_ref(), "A").await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Misconfigured, "{body}");
        assert!(!error.detail.contains(CANARY), "{error}");
        let place = push("A", "").place;
        assert!(session.exists(&place, &CallCx::default()).await.is_err(), "{body}");
        assert!(session.delete(&place, &CallCx::default()).await.is_err(), "{body}");
    }
    let session = open(Universal.block(service.url())).await;
    assert_eq!(get(session.as_ref(), "A").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_list_may_be_larger_than_other_answers_and_has_its_end() {
    let service = running(Service::default()).await;
    service.fake.put("prod", "/app", "A", &"a".repeat(6 << 20));
    let session = open(Universal.block(service.url())).await;
    assert_eq!(get(session.as_ref(), "A").await.unwrap_err().kind, ErrorKind::Malformed);
    assert_eq!(session.find(&FindQuery::default(), &CallCx::default()).await.unwrap().len(), 1);
    for name in ["B", "C"] {
        service.fake.put("prod", "/app", name, &"a".repeat(6 << 20));
    }
    let error = session.find(&FindQuery::default(), &CallCx::default()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
}
