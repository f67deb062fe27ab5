//! Logins against a server that is the Kubernetes API, STS and Secrets Manager in one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::*;
use crate::api::refs::SecretKeySelector;
use crate::api::secret_store::StoreKind;
use crate::providers::aws::testing::{Answer, KEY_ID, Request, Server, VALUE, call_cx, object, store, want};
use crate::providers::aws::{Auth, SessionTag};
use crate::providers::{Provider, Session};

const ROLE: &str = "arn:aws:iam::111122223333:role/reader";
const HOUR: Duration = Duration::from_secs(3600);

/// The Kubernetes API, STS and Secrets Manager in one. Each role gives keys that are named after it.
fn world(request: &Request) -> Answer {
    let role = |r: &Request| r.form("RoleArn").unwrap().rsplit('/').next().unwrap().to_owned();
    let annotations = BTreeMap::from([(ROLE_ARN, ROLE), (AUDIENCE, "audience-x")]);
    match request.action().as_str() {
        "/api/v1/namespaces/team-a/serviceaccounts/app" => object("PartialObjectMetadata", &annotations, &json!({})),
        "/api/v1/namespaces/team-a/serviceaccounts/app/token" => object(
            "TokenRequest",
            &BTreeMap::new(),
            &json!({"status": {"token": "jwt.of.app", "expirationTimestamp": "2030-01-01T00:00:00Z"}, "spec": {"audiences": []}}),
        ),
        "/api/v1/namespaces/team-a/serviceaccounts/vague" => {
            let annotations = BTreeMap::from([(ROLE_ARN, ROLE), (AUDIENCE, "")]);
            object("PartialObjectMetadata", &annotations, &json!({}))
        }
        "/api/v1/namespaces/team-a/serviceaccounts/vague/token" => object(
            "TokenRequest",
            &BTreeMap::new(),
            &json!({"status": {"token": "jwt.of.vague", "expirationTimestamp": "2030-01-01T00:00:00Z"}, "spec": {"audiences": []}}),
        ),
        "/api/v1/namespaces/team-a/serviceaccounts/bare" => object("PartialObjectMetadata", &BTreeMap::new(), &json!({})),
        "/api/v1/namespaces/team-a/secrets/key" => object(
            "Secret",
            &BTreeMap::new(),
            &json!({"data": {"id": "QUtJQVNUT1JFCg==", "secret": "c2VjcmV0", "token": "dG9rZW4="}}),
        ),
        // a line break within the id
        "/api/v1/namespaces/team-a/secrets/odd" => {
            object("Secret", &BTreeMap::new(), &json!({"data": {"id": "QUtJQQpY", "secret": "c2VjcmV0"}}))
        }
        "AssumeRoleWithWebIdentity" => Answer::credentials("AssumeRoleWithWebIdentity", &role(request), HOUR),
        "AssumeRole" => Answer::credentials("AssumeRole", &role(request), HOUR),
        "GetSecretValue" => Answer::json(&json!({"SecretString": VALUE})),
        _ => Answer::raw(404, r#"{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}"#),
    }
}

fn jwt(account: &str) -> Option<Auth> {
    let service_account_ref =
        Some(ServiceAccountSelector { name: account.into(), namespace: None, audiences: vec!["more".into()] });
    Some(Auth { jwt: Some(JwtAuth { service_account_ref }), secret_ref: None })
}

fn keys(name: &str, with_token: bool) -> Option<Auth> {
    let selector = |key: &str| Some(SecretKeySelector { name: Some(name.into()), namespace: None, key: Some(key.into()) });
    let session_token = if with_token { selector("token") } else { None };
    let secret_ref = AccessKeyRef { access_key_id: selector("id"), secret_access_key: selector("secret"), session_token };
    Some(Auth { secret_ref: Some(secret_ref), jwt: None })
}

async fn read(session: &dyn Session) -> Result<(), ProviderError> {
    session.get(&[want("db")], &call_cx()).await.remove(0).map(|f| assert_eq!(f.bytes.expose_str(), Some(VALUE)))
}

/// The access key id that a request was signed with.
fn signer(request: &Request) -> String {
    let header = request.header("authorization");
    header.split_once("Credential=").map_or("", |(_, rest)| rest.split('/').next().unwrap()).to_owned()
}

#[tokio::test]
async fn a_service_accounts_token_becomes_a_role() {
    let server = Server::start(world).await;
    let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
    read(&*session).await.unwrap();
    read(&*session).await.unwrap();
    let account = "/api/v1/namespaces/team-a/serviceaccounts/app";
    let token = format!("{account}/token");
    let once = [account, &token, "AssumeRoleWithWebIdentity", "GetSecretValue", "GetSecretValue"];
    assert_eq!(server.actions(), once);
    let seen = server.seen();
    assert_eq!(seen[1].json()["spec"]["audiences"], json!(["audience-x", "more"]));
    assert!(seen[1].json()["spec"]["expirationSeconds"].is_null());
    let sent = |name| seen[2].form(name).unwrap();
    assert_eq!((sent("RoleArn").as_str(), sent("WebIdentityToken").as_str()), (ROLE, "jwt.of.app"));
    assert_eq!(sent("RoleSessionName"), "keyferry-team-a%40aws");
    assert_eq!(signer(&seen[2]), "", "the exchange needs no credentials");
    assert_eq!((signer(&seen[3]).as_str(), seen[3].header("x-amz-security-token")), ("reader", "reader-token"));
}

#[tokio::test]
async fn an_empty_audience_is_none() {
    let server = Server::start(world).await;
    read(&*server.connect(Aws { auth: jwt("vague"), ..store() }).await.unwrap()).await.unwrap();
    assert_eq!(server.seen()[1].json()["spec"]["audiences"], json!(["sts.amazonaws.com", "more"]));
}

#[tokio::test]
async fn roles_are_assumed_one_after_the_other() {
    let server = Server::start(world).await;
    let aws = Aws {
        additional_roles: vec!["arn:aws:iam::111122223333:role/one".into(), "arn:aws:iam::111122223333:role/two".into()],
        role: Some("arn:aws:iam::111122223333:role/last".into()),
        external_id: Some("ext-1".into()),
        session_tags: vec![SessionTag { key: "team".into(), value: "a".into() }],
        transitive_tag_keys: vec!["team".into()],
        ..store()
    };
    read(&*server.connect(aws).await.unwrap()).await.unwrap();
    let seen = server.seen();
    assert_eq!(server.actions(), ["AssumeRole", "AssumeRole", "AssumeRole", "GetSecretValue"]);
    assert_eq!(seen.iter().map(signer).collect::<Vec<_>>(), [KEY_ID, "one", "two", "last"]);
    for plain in &seen[..2] {
        assert_eq!((plain.form("ExternalId"), plain.form("Tags.member.1.Key")), (None, None));
    }
    let sent = |name| seen[2].form(name).unwrap();
    assert_eq!(sent("ExternalId"), "ext-1");
    assert_eq!((sent("Tags.member.1.Key").as_str(), sent("Tags.member.1.Value").as_str()), ("team", "a"));
    assert_eq!(sent("TransitiveTagKeys.member.1"), "team");
}

#[tokio::test]
async fn session_tags_by_policy() {
    let server = Server::start(world).await;
    let own = vec![SessionTag { key: "team".into(), value: "a".into() }];
    let custom = BTreeMap::from([("cost".to_owned(), "7".to_owned())]);
    let eso = [("esoNamespace", "team-a"), ("esoStoreName", "aws"), ("esoStoreKind", "SecretStore")];
    let cases = [
        (None, vec![("team", "a")]),
        (Some(SessionTagsPolicy::None), vec![("team", "a")]),
        (Some(SessionTagsPolicy::Simple), eso.to_vec()),
        (Some(SessionTagsPolicy::Custom), eso.into_iter().chain([("cost", "7")]).collect()),
    ];
    for (policy, expected) in cases {
        let aws = Aws {
            role: Some(ROLE.into()),
            session_tags: own.clone(),
            session_tags_policy: policy,
            custom_session_tags: custom.clone(),
            ..store()
        };
        let tags = session_tags(&aws, &server.cx()).unwrap();
        assert_eq!(tags.iter().map(|t| (t.key(), t.value())).collect::<Vec<_>>(), expected, "{policy:?}");
    }
    let stolen = Aws {
        session_tags_policy: Some(SessionTagsPolicy::Custom),
        custom_session_tags: BTreeMap::from([("esoNamespace".to_owned(), "team-b".to_owned())]),
        ..store()
    };
    assert!(session_tags(&stolen, &server.cx()).unwrap_err().detail.contains("must not contain esoNamespace"));
}

#[tokio::test]
async fn an_access_key_of_a_secret() {
    let server = Server::start(world).await;
    for (with_token, token) in [(true, "token"), (false, "")] {
        let session = server.connect(Aws { auth: keys("key", with_token), ..store() }).await.unwrap();
        read(&*session).await.unwrap();
        let last = server.seen().pop().unwrap();
        assert_eq!((signer(&last).as_str(), last.header("x-amz-security-token")), ("AKIASTORE", token), "white space goes");
    }
}

#[tokio::test]
async fn logins_that_cannot_work_say_why() {
    let server = Server::start(world).await;
    let mut elsewhere = jwt("app");
    elsewhere.as_mut().unwrap().jwt.as_mut().unwrap().service_account_ref.as_mut().unwrap().namespace =
        Some("team-b".into());
    let cases = [
        (jwt("bare"), "an IAM role must be associated with service account \"bare\""),
        (jwt("nobody"), "ServiceAccount team-a/nobody does not exist"),
        (elsewhere, "a SecretStore reads its own namespace only"),
        (keys("nothing", false), "Secret team-a/nothing does not exist"),
        (keys("odd", false), "accessKeyIDSecretRef: the value holds a blank, a line break or another character"),
    ];
    for (auth, text) in cases {
        let error = match server.connect(Aws { auth, ..store() }).await {
            Ok(session) => session.validate(&call_cx()).await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.kind, ErrorKind::Misconfigured);
        assert!(error.detail.contains(text) && error.detail.starts_with("spec.provider.aws.auth."), "{error}");
    }
}

#[tokio::test]
async fn a_refused_login_is_one_call_for_all_and_names_the_role() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "AssumeRoleWithWebIdentity" => {
            Answer::sts_error(403, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity jwt.of.app")
        }
        _ => world(request),
    })
    .await;
    let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
    let errors = futures::future::join_all((0..20).map(|_| read(&*session))).await;
    for error in errors.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.kind, ErrorKind::Denied);
        assert_eq!(
            error.detail,
            format!(
                "sts:AssumeRoleWithWebIdentity on {ROLE:?}: AccessDenied: Not authorized to perform \
                 sts:AssumeRoleWithWebIdentity <redacted>"
            )
        );
    }
    assert_eq!(server.actions().iter().filter(|a| *a == "AssumeRoleWithWebIdentity").count(), 1);
    assert!(!server.actions().contains(&"GetSecretValue".to_owned()));
}

#[tokio::test]
async fn classes_of_sts_errors() {
    let cases = [
        (403, "AccessDenied", ErrorKind::Denied),
        (400, "InvalidIdentityToken", ErrorKind::Denied),
        (400, "ExpiredTokenException", ErrorKind::Denied),
        (400, "Throttling", ErrorKind::Throttled),
        (400, "IDPCommunicationError", ErrorKind::Unavailable),
        (500, "InternalFailure", ErrorKind::Unavailable),
        (400, "PackedPolicyTooLarge", ErrorKind::Misconfigured),
        (403, "RegionDisabledException", ErrorKind::Denied),
    ];
    for (status, code, kind) in cases {
        let answer = Answer::sts_error(status, code, "jwt.of.app");
        let server = Server::start(move |request: &Request| match request.action().as_str() {
            "AssumeRoleWithWebIdentity" => answer.clone(),
            _ => world(request),
        })
        .await;
        let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
        let error = session.validate(&call_cx()).await.unwrap_err();
        assert_eq!(error.kind, kind, "{code}: {error}");
        assert!(error.detail.contains(code) && !error.detail.contains("jwt.of.app"), "{error}");
    }
}

#[tokio::test]
async fn credentials_are_renewed_before_they_expire_and_dropped_when_aws_says_so() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "AssumeRoleWithWebIdentity" => Answer::credentials("AssumeRoleWithWebIdentity", "short", Duration::from_secs(2)),
        _ => world(request),
    })
    .await;
    let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
    read(&*session).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    read(&*session).await.unwrap();
    let count = |server: &Server, action: &str| server.actions().iter().filter(|a| *a == action).count();
    let logins = |server: &Server| count(server, "AssumeRoleWithWebIdentity");
    let reads = |server: &Server| count(server, "GetSecretValue");
    assert_eq!(logins(&server), 2);

    let server = Server::start(|request: &Request| match request.action().as_str() {
        "AssumeRoleWithWebIdentity" => Answer::credentials("AssumeRoleWithWebIdentity", "fresh", HOUR),
        "GetSecretValue" => Answer::error(400, "ExpiredTokenException"),
        _ => world(request),
    })
    .await;
    let session = server.connect(Aws { auth: jwt("app"), ..store() }).await.unwrap();
    assert_eq!(read(&*session).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!((logins(&server), reads(&server)), (2, 2), "once more with a new login, and no more than that");

    let key = server.connect(Aws { auth: keys("key", true), ..store() }).await.unwrap();
    assert_eq!(read(&*key).await.unwrap_err().kind, ErrorKind::Denied);
    assert_eq!(reads(&server), 3, "a key stays what it is");
}

#[tokio::test]
async fn the_token_file_of_the_operators_own_pod() {
    let server = Server::start(world).await;
    let file = std::env::temp_dir().join(format!("keyferry-token-{}", std::process::id()));
    std::fs::write(&file, "jwt.of.operator\n").unwrap();
    let mut cx = server.cx();
    let mut env = (*cx.env).clone();
    env.retain(|name, _| name.ends_with("_ENDPOINT"));
    env.insert("AWS_WEB_IDENTITY_TOKEN_FILE".into(), file.to_str().unwrap().into());
    env.insert("AWS_ROLE_ARN".into(), ROLE.into());
    cx.env = Arc::new(env);
    read(&*store().connect(&cx).await.unwrap()).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(server.actions(), ["AssumeRoleWithWebIdentity", "GetSecretValue"]);
    assert_eq!(server.seen()[0].form("WebIdentityToken").unwrap(), "jwt.of.operator");
    let error = store().connect(&cx).await.unwrap().validate(&call_cx()).await.unwrap_err();
    assert!(error.detail.contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{error}");
}

#[test]
fn when_to_renew() {
    let now = SystemTime::now();
    let surroundings = Source::Default { region: None, http: None };
    let due = |life: u64| {
        let credentials = Credentials::new("a", "b", None, Some(now + Duration::from_secs(life)), "test");
        surroundings.renewal(&credentials, now).unwrap().duration_since(now).unwrap().as_secs()
    };
    assert_eq!([due(3600), due(900), due(400), due(0)], [3300, 600, 200, 0]);
    let endless = Credentials::new("a", "b", None, None, "test");
    assert_eq!(Source::Key(endless.clone()).renewal(&endless, now), None);
    assert_eq!(surroundings.renewal(&endless, now), Some(now + LOOK_AGAIN), "its file may have changed");
}

/// Somebody deleted the old key, and wrote the new one into the file that the operator's pod mounts; or made the role anew.
#[tokio::test]
async fn credentials_that_aws_does_not_know_are_looked_up_again_where_others_may_come() {
    let server = Server::start(world).await;
    let sdk = Sdk::new(&store(), &server.cx()).await.unwrap();
    let key = Credentials::new("a", "b", None, None, "test");
    let surroundings = || Source::Default { region: None, http: None };
    let token = || Source::Token {
        sts: sdk.sts(None).unwrap(),
        token: Box::new(TokenSource::File { path: String::new(), role: String::new() }),
        session: String::new(),
    };
    let outcomes = [
        (surroundings(), "UnrecognizedClientException", true),
        (surroundings(), "InvalidClientTokenId", true),
        (surroundings(), "ExpiredToken", true),
        (surroundings(), "AccessDenied", false),
        (token(), "UnrecognizedClientException", true),
        (token(), "InvalidClientTokenId", true),
        (token(), "InvalidSignatureException", false),
        (Source::Key(key.clone()), "UnrecognizedClientException", false),
        (Source::Key(key.clone()), "ExpiredToken", false),
    ];
    for (source, code, over) in outcomes {
        let login = Login::new(source);
        login.state.lock().await.kept = Some(Kept { outcome: Ok(key.clone()), renew: None });
        assert_eq!(login.forget(Some(code), &key).await, over, "{code}");
        assert_eq!(login.state.lock().await.kept.is_none(), over, "{code}");
    }
}

#[tokio::test]
async fn credentials_that_aws_does_not_know_are_given_up_once_in_a_while() {
    let (old, new) = (Credentials::new("a", "b", None, None, "test"), Credentials::new("c", "d", None, None, "test"));
    let login = Login::new(Source::Default { region: None, http: None });
    let keep = async |key: &Credentials| {
        login.state.lock().await.kept = Some(Kept { outcome: Ok(key.clone()), renew: None });
    };
    let unknown = Some("InvalidClientTokenId");
    keep(&old).await;
    assert!(login.forget(unknown, &old).await);
    assert!(login.forget(unknown, &old).await, "another call did, and there are no new ones yet");
    keep(&new).await;
    assert!(login.forget(unknown, &old).await, "others have taken their place");
    assert!(!login.forget(unknown, &new).await, "the next ones fare no better");
    assert!(login.state.lock().await.kept.is_some());
    assert!(login.forget(Some("ExpiredToken"), &new).await, "what has expired was good until then");
    keep(&new).await;
    login.state.lock().await.unknown = Some(SystemTime::now() - UNKNOWN_HELD);
    assert!(login.forget(unknown, &new).await);
}

/// The login of a role whose kept credentials are due for renewal, and have that much time left.
async fn due_for_renewal(server: &Server, left: Duration) -> (Arc<Login>, Credentials) {
    let from = Login::new(Source::Key(Credentials::new("a", "b", None, None, "test")));
    let sdk = Sdk::new(&store(), &server.cx()).await.unwrap();
    let sts = sdk.sts(Some(SharedCredentialsProvider::from(from.clone() as Arc<dyn ProvideCredentials>))).unwrap();
    let login = Login::new(Source::Role { sts, from, role: Box::new(Role::plain(ROLE, "session")) });
    let now = SystemTime::now();
    let old = Credentials::new("old", "b", None, Some(now + left), "test");
    login.state.lock().await.kept = Some(Kept { outcome: Ok(old.clone()), renew: Some(now) });
    (login, old)
}

/// Else those who wait for the renewal pass their own deadlines, while what they need is there.
#[tokio::test]
async fn credentials_that_hold_are_used_while_sts_hangs() {
    let server = Server::start(|_: &Request| Answer::raw(200, "").after(HOUR)).await;
    let (good, old) = due_for_renewal(&server, Duration::from_secs(240)).await;
    let (ending, _) = due_for_renewal(&server, USE_UNTIL).await;
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    assert_eq!(good.credentials().await, Ok(old.clone()));
    assert_eq!(begun.elapsed().as_secs(), RENEWAL_TIMEOUT.as_secs());
    assert_eq!(good.credentials().await, Ok(old));
    assert_eq!(begun.elapsed().as_secs(), RENEWAL_TIMEOUT.as_secs(), "not tried again at once");

    let begun = tokio::time::Instant::now();
    assert_eq!(ending.credentials().await.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(begun.elapsed() > RENEWAL_TIMEOUT, "a login that is needed has its time");
}

#[tokio::test]
async fn a_failed_renewal_is_held_from_its_end_on() {
    const TOOK: Duration = Duration::from_millis(300);
    let server = Server::start(|_: &Request| Answer::sts_error(403, "AccessDenied", "no").after(TOOK)).await;
    for left in [Duration::from_secs(240), Duration::ZERO] {
        let (login, old) = due_for_renewal(&server, left).await;
        let begun = SystemTime::now();
        assert_eq!(login.credentials().await.ok(), Some(old).filter(|_| !left.is_zero()));
        let renew = login.state.lock().await.kept.as_ref().and_then(|kept| kept.renew).unwrap();
        assert!(renew >= begun + TOOK + FAILURE_HELD, "{left:?}");
    }
}

/// The role was deleted and made again under its name: AWS does not know the sessions of the old one.
#[tokio::test]
async fn a_session_of_a_role_that_was_made_anew_is_replaced() {
    let logins = Arc::new(AtomicUsize::new(0));
    let count = logins.clone();
    let server = Server::start(move |request: &Request| match request.action().as_str() {
        "AssumeRole" => {
            let key = format!("session{}", count.fetch_add(1, Ordering::SeqCst));
            Answer::credentials("AssumeRole", &key, HOUR)
        }
        "GetSecretValue" if signer(request) != "session1" => Answer::error(400, "UnrecognizedClientException"),
        _ => world(request),
    })
    .await;
    let session = server.connect(Aws { role: Some(ROLE.into()), ..store() }).await.unwrap();
    read(&*session).await.unwrap();
    assert_eq!(server.actions(), ["AssumeRole", "GetSecretValue", "AssumeRole", "GetSecretValue"]);

    // Where no session will do, it is one login more and not one for each read.
    logins.store(2, Ordering::SeqCst);
    let session = server.connect(Aws { role: Some(ROLE.into()), ..store() }).await.unwrap();
    for _ in 0..3 {
        assert_eq!(read(&*session).await.unwrap_err().kind, ErrorKind::Denied);
    }
    assert_eq!((logins.load(Ordering::SeqCst), server.actions().len()), (4, 10));
}

/// So are those that a role is assumed with: the next login takes new ones.
#[tokio::test]
async fn a_session_that_a_role_is_assumed_with_is_replaced() {
    let server = Server::start(|request: &Request| match request.action().as_str() {
        "AssumeRole" => Answer::sts_error(403, "InvalidClientTokenId", "The security token is invalid"),
        _ => world(request),
    })
    .await;
    let aws = Aws { auth: jwt("app"), role: Some(ROLE.into()), ..store() };
    let login = login(&aws, &server.cx(), &Sdk::new(&aws, &server.cx()).await.unwrap()).await.unwrap();
    assert_eq!(login.credentials().await.unwrap_err().kind, ErrorKind::Denied);
    let Source::Role { from, .. } = &login.source else { panic!("the last one is a role") };
    assert!(from.state.lock().await.kept.is_none());
}

#[test]
fn session_names_fit_aws() {
    assert_eq!(session_name("team-a", "aws"), "keyferry-team-a@aws");
    assert_eq!(session_name("", "shared"), "keyferry-shared");
    let long = session_name(&"n".repeat(60), &"s".repeat(200));
    assert_eq!(long, session_name(&"n".repeat(60), &"s".repeat(200)));
    assert_ne!(long, session_name(&"n".repeat(60), &"s".repeat(201)));
    assert_eq!((long.len(), long.starts_with("keyferry-nnn")), (64, true));
}

#[test]
fn who_needs_a_login_of_its_own() {
    let tagged = |policy| Aws { role: Some(ROLE.into()), session_tags_policy: Some(policy), ..store() };
    let cases = [
        (store(), false),
        (Aws { auth: jwt("app"), ..store() }, true),
        (tagged(SessionTagsPolicy::None), false),
        (tagged(SessionTagsPolicy::Simple), true),
        (Aws { role: None, ..tagged(SessionTagsPolicy::Simple) }, false),
    ];
    for (aws, expected) in cases {
        assert_eq!(aws.is_referent(), expected, "{aws:?}");
        assert!(aws.validate(StoreKind::ClusterSecretStore).is_ok());
    }
}

/// All that is logged, at any level, by the SDK and its HTTP client too.
#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_line_carries_a_credential_or_a_value() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = Server::start(world).await;
    let role = Some("arn:aws:iam::111122223333:role/last".to_owned());
    for auth in [jwt("app"), keys("key", true)] {
        let session = server.connect(Aws { auth, role: role.clone(), ..store() }).await.unwrap();
        session.get(&[want("a"), want("b")], &call_cx()).await;
        read(&*session).await.unwrap();
    }
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("GetSecretValue"), "the log was not captured");
    let canaries = [VALUE, "jwt.of.app", "reader-secret", "reader-token", "last-secret", "last-token", "c2VjcmV0"];
    for line in text.lines() {
        let found: Vec<_> = canaries.iter().filter(|c| line.contains(**c)).collect();
        assert!(found.is_empty(), "{found:?} in {line}");
    }
}
