//! Sessions with a server that keeps secrets, in both versions of the engine, and in both blocks of a store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use keyferry_fakes::vault::Vault as Server;

use super::*;
use crate::providers::conformance::served::{OverHttp, Served};
use crate::providers::conformance::{Check, Fixture, Stored, Tested, Value as Content};
use crate::providers::openbao::OpenBao;

struct Engine<const OPEN_BAO: bool> {
    version: u8,
}

fn content(stored: &Stored) -> Value {
    match &stored.value {
        Content::Plain(bytes) => json!({"value": String::from_utf8(bytes.clone()).unwrap()}),
        Content::Properties(pairs) => json!(pairs),
    }
}

fn filled(version: u8, secrets: &[Stored]) -> Server {
    let server = Server::new(version, MOUNT);
    let (old, current): (Vec<_>, Vec<_>) = secrets.iter().partition(|stored| stored.version.is_some());
    for stored in old.into_iter().chain(current) {
        server.put(&stored.key, content(stored), &stored.tags);
    }
    server
}

fn left_out(version: u8) -> Vec<(Check, &'static str)> {
    let mut left_out = vec![(
        Check::Binary,
        "Vault keeps JSON, whose texts are Unicode: bytes are kept as base64, and decoded by decodingStrategy",
    )];
    if version == 1 {
        left_out.extend([
            (Check::Version, "the engine has no versions, and ESO ignores the field"),
            (Check::FindByTags, "the engine has no tags, and ESO refuses them"),
            (Check::PushWhole, "the mark of who wrote a secret stands in the secret, as ESO has it"),
        ]);
    }
    left_out
}

impl<const OPEN_BAO: bool> Served for Engine<OPEN_BAO> {
    type Fake = Server;

    const PROVIDER: &'static str = if OPEN_BAO { "openBao" } else { "vault" };

    fn fake(&self, secrets: &[Stored]) -> Server {
        filled(self.version, secrets)
    }

    fn block(&self, url: &str) -> Value {
        json!({"server": url, "path": MOUNT, "version": format!("v{}", self.version), "auth": app_role()})
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("secret", "s3cret")]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        left_out(self.version)
    }

    fn service(&self) -> &'static str {
        if self.version == 1 { "KV v1" } else { "KV v2" }
    }

    fn plain_property(&self) -> Option<&'static str> {
        Some("value")
    }

    fn versions(&self) -> (&'static str, &'static str) {
        ("1", "9")
    }

    fn escapes_html(&self) -> bool {
        true
    }
}

impl Tested for Vault {
    const TITLE: &'static str = "HashiCorp Vault";
    const AUTH: &'static [&'static str] =
        &["tokenSecretRef", "appRole", "kubernetes", "ldap", "userPass", "jwt", "cert", "iam", "gcp"];
    const SERVER: &'static str = "Vault 1.21";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![
            Box::new(OverHttp::new(Engine::<false> { version: 2 })),
            Box::new(OverHttp::new(Engine::<false> { version: 1 })),
        ]
    }
}

impl Tested for OpenBao {
    const TITLE: &'static str = "OpenBao";
    const AUTH: &'static [&'static str] = &["tokenSecretRef", "appRole", "userPass", "kubernetes"];
    const SERVER: &'static str = "Vault 1.21, whose protocol it speaks, and a fake of it";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Engine::<true> { version: 2 })), Box::new(OverHttp::new(Engine::<true> { version: 1 }))]
    }
}

/// A server that says this to every read that is not about the token.
async fn saying(status: u16, body: &str) -> FakeServer {
    let reply = Reply::text(status, body);
    FakeServer::start(move |_| reply.clone()).await
}

#[tokio::test]
async fn numbers_keep_every_digit() {
    let body = r#"{"request_id":"r","data":{"data":{"z":12345678901234567890,"f":1.50,"e":1e3,"o":{"b":98765432109876543210,"a":1.50},"t":"<&>","n":null,"dot.ted":"d","l":[{"k":1}]},"metadata":{"version":7}}}"#;
    let server = saying(200, body).await;
    let session = connect(&server.url, json!({})).await;
    let want = want("numbers");
    let fetched = get(session.as_ref(), &want).await.unwrap();
    assert_eq!(fetched.version.as_deref(), Some("7"));
    let whole = session.whole(&want, &fetched.bytes).unwrap();
    assert_eq!(
        text(&whole),
        r#"{"dot.ted":"d","e":1e3,"f":1.50,"l":[{"k":1}],"n":null,"o":{"a":1.50,"b":98765432109876543210},"t":"\u003c\u0026\u003e","z":12345678901234567890}"#
    );
    for (property, value) in [
        ("z", "12345678901234567890"),
        ("f", "1.50"),
        ("t", "<&>"),
        ("n", ""),
        ("dot.ted", "d"),
        ("o.b", "98765432109876543210"),
        ("o.a", "1.5"),
        ("l.0.k", "1"),
        ("l.#(k==1).k", "1"),
        ("o", r#"{"a":1.50,"b":98765432109876543210}"#),
    ] {
        assert_eq!(text(&session.property(&want, &fetched.bytes, property).unwrap()), value, "{property}");
    }
    let all = session.extract(&want, &fetched.bytes, None).unwrap();
    let all: BTreeMap<&str, &str> = all.iter().map(|(key, value)| (key.as_str(), text(value))).collect();
    assert_eq!((all["z"], all["f"], all["e"], all["n"]), ("12345678901234567890", "1.5", "1000", ""));
    assert_eq!(all["o"], r#"{"a":1.5,"b":98765432109876543210}"#);
    let part = session.extract(&want, &fetched.bytes, Some("o")).unwrap();
    assert_eq!(text(&part["b"]), "98765432109876543210");
    let error = session.property(&want, &fetched.bytes, "gone").unwrap_err();
    assert_eq!(
        (error.kind, error.detail.as_str()),
        (ErrorKind::MissingProperty, "cannot find secret data for key: \"gone\"")
    );
}

#[tokio::test]
async fn deleted_versions_are_not_there_and_older_ones_are() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    server.fake.put("a", json!({"v": "1"}), &BTreeMap::new());
    server.fake.put("a", json!({"v": "2"}), &BTreeMap::new());
    server.fake.with(|state| state.secrets.get_mut("a").unwrap().versions[1] = None);
    let session = connect(server.url(), json!({})).await;
    let of = |version: &str| Want { version: version.into(), ..want("a") };
    assert_eq!(get(session.as_ref(), &of("")).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(get(session.as_ref(), &of("2")).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(get(session.as_ref(), &of("9")).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(text(&get(session.as_ref(), &of("1")).await.unwrap().bytes), r#"{"v":"1"}"#);
    let error = get(session.as_ref(), &of("latest")).await.unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("remoteRef.version"), "{error}");
}

#[tokio::test]
async fn metadata_is_read_as_a_value() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    server.fake.put("a", json!({"v": "1"}), &BTreeMap::from([("owner".to_owned(), "<me>".to_owned())]));
    let session = connect(server.url(), json!({})).await;
    let of = |key: &str| Want { metadata: MetadataPolicy::Fetch, ..want(key) };
    let fetched = get(session.as_ref(), &of("a")).await.unwrap();
    assert_eq!(
        text(&fetched.bytes),
        r#"{"created_time":"2026-01-01T00:00:00Z","current_version":"1","delete_version_after":"0s","owner":"\u003cme\u003e"}"#
    );
    assert_eq!(text(&session.property(&of("a"), &fetched.bytes, "owner").unwrap()), "<me>");
    assert_eq!(get(session.as_ref(), &of("gone")).await.unwrap_err().kind, ErrorKind::NotFound);
    let plain = Service::start(Server::new(1, MOUNT)).await;
    let session = connect(plain.url(), json!({"version": "v1"})).await;
    let error = get(session.as_ref(), &of("a")).await.unwrap_err();
    assert_eq!(error.detail, "cannot perform metadata fetch operations with kv version v1");
}

/// A deletion policy follows "it does not exist". A path that nothing serves is no such word.
#[tokio::test]
async fn a_wrong_mount_is_no_missing_secret() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    let session = connect(server.url(), json!({"path": "other"})).await;
    let error = get(session.as_ref(), &want("a")).await.unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("no engine of Vault"), "{error}");
    let session = connect(server.url(), json!({"version": "v1"})).await;
    assert_eq!(get(session.as_ref(), &want("a")).await.unwrap_err().kind, ErrorKind::Misconfigured, "v2 read as v1");
    let plain = Service::start(Server::new(1, MOUNT)).await;
    plain.fake.put("data/a", json!({"v": "1"}), &BTreeMap::new());
    let session = connect(plain.url(), json!({})).await;
    assert_eq!(get(session.as_ref(), &want("a")).await.unwrap_err().kind, ErrorKind::Misconfigured, "v1 read as v2");
}

/// What stands in front of Vault, or in its place, answers so too.
#[tokio::test]
async fn a_not_found_that_is_not_vaults_is_no_missing_secret() {
    let kv1 = json!({"version": "v1"});
    for body in ["default backend - 404", r#"{"message":"no Route matched with those values"}"#, "", "{}"] {
        let server = saying(404, body).await;
        for more in [json!({}), kv1.clone()] {
            let session = connect(&server.url, more).await;
            let error = get(session.as_ref(), &want("a")).await.unwrap_err();
            assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("is not Vault's"), "{body}: {error}");
            let error = find(session.as_ref(), FindQuery::default()).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{body}: {error}");
            let place =
                crate::providers::Place { key: "a".into(), property: None, metadata: None, namespace: "team-a".into() };
            let error = session.delete(&place, &cx()).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Misconfigured, "nothing was deleted: {body}: {error}");
            assert_eq!(session.exists(&place, &cx()).await.unwrap_err().kind, ErrorKind::Misconfigured, "{body}");
        }
    }
    let server = saying(404, r#"{"errors":[]}"#).await;
    for more in [json!({}), kv1] {
        let session = connect(&server.url, more).await;
        assert_eq!(get(session.as_ref(), &want("a")).await.unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(find(session.as_ref(), FindQuery::default()).await.unwrap_err().kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn refusals_are_told_apart() {
    for (status, body, kind, words) in [
        (503, "Vault is sealed", ErrorKind::Unavailable, "sealed: somebody must unseal it"),
        (503, "no idea", ErrorKind::Unavailable, "no active server"),
        (500, "local node not active but active cluster node not found", ErrorKind::Unavailable, "stands by"),
        (472, "", ErrorKind::Unavailable, "stands by"),
        (473, "", ErrorKind::Unavailable, "stands by"),
        (429, "request path: rate limit quota exceeded", ErrorKind::Throttled, "quota"),
        (412, "required index state not present", ErrorKind::Unavailable, "not caught up"),
        (403, "1 error occurred: * permission denied", ErrorKind::Denied, "check the token and its policies"),
        (403, "2 errors occurred: * permission denied * invalid token", ErrorKind::Denied, "does not know the token"),
        (400, "missing client token", ErrorKind::Denied, "asks for a login"),
        (404, "no handler for route", ErrorKind::Misconfigured, "no engine of Vault serves that path"),
        (405, "unsupported operation", ErrorKind::Misconfigured, "method"),
    ] {
        let server = saying(status, &json!({"errors": [format!("{body} {CANARY}")]}).to_string()).await;
        let mut cx = keys().cx(&outbound()).connect;
        cx.retry = Some(crate::api::secret_store::RetrySettings::default());
        let session = store(&server.url, json!({})).connect(&cx).await.unwrap();
        let error = get(session.as_ref(), &want("a")).await.unwrap_err();
        assert_eq!(error.kind, kind, "{status} {error}");
        assert!(error.detail.contains(words) && !error.detail.contains(CANARY), "{error}");
        assert!(error.detail.starts_with("Vault path \"team/kv/data/a\": "), "{error}");
    }
}

#[tokio::test]
async fn a_standby_leads_to_the_active_server() {
    let active = Service::start(Server::new(2, MOUNT)).await;
    active.fake.put("a", json!({"v": "1"}), &BTreeMap::new());
    let url = active.url().to_owned();
    let standby = FakeServer::start(move |asked| {
        let path = asked.line.split_once(' ').unwrap().1;
        Reply::text(307, "").with("location", &format!("{url}{path}"))
    })
    .await;
    let session = connect(&standby.url, json!({})).await;
    assert_eq!(text(&get(session.as_ref(), &want("a")).await.unwrap().bytes), r#"{"v":"1"}"#);
    assert_eq!(active.server.received().last().unwrap().header("x-vault-token"), keyferry_fakes::vault::TOKEN);

    // What was asked without TLS goes so to no other host.
    let other = Service::start(Server::new(2, MOUNT)).await;
    let url = other.url().replace("127.0.0.1", "localhost");
    let elsewhere = FakeServer::start(move |asked| {
        let path = asked.line.split_once(' ').unwrap().1;
        Reply::text(307, "").with("location", &format!("{url}{path}"))
    })
    .await;
    let mut cx = keys().cx(&outbound()).connect;
    cx.retry = Some(crate::api::secret_store::RetrySettings::default());
    for auth in [json!({}), json!({"auth": app_role()})] {
        let connected = store(&elsewhere.url, auth).connect(&cx).await;
        let error = match connected {
            Ok(session) => get(session.as_ref(), &want("a")).await.unwrap_err(),
            Err(error) => error,
        };
        assert!(error.kind == ErrorKind::Unavailable && error.detail.contains("stands by"), "{error}");
    }
    assert!(other.server.received().is_empty(), "neither a token nor a login");

    // It leads nowhere, or in a circle: it stands by, and that is all.
    let lost = FakeServer::start(|asked| {
        let path = asked.line.split_once(' ').unwrap().1;
        Reply::text(307, "").with("location", &format!("http://{}{path}", asked.header("host")))
    })
    .await;
    let mut cx = keys().cx(&outbound()).connect;
    cx.retry = Some(crate::api::secret_store::RetrySettings::default());
    let session = store(&lost.url, json!({})).connect(&cx).await.unwrap();
    let error = get(session.as_ref(), &want("a")).await.unwrap_err();
    assert!(error.kind == ErrorKind::Unavailable && error.detail.contains("stands by"), "{error}");
}

#[tokio::test]
async fn records_of_both_sides_match() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    server.fake.put("a", json!({"v": "1"}), &BTreeMap::new());
    let session = connect(server.url(), json!({"namespace": "ns-1"})).await;
    let cx = cx();
    let fetched = session.get(&[want("a")], &cx).await.remove(0).unwrap();
    let asked = server.server.received().into_iter().rfind(|asked| asked.line.contains("/data/a")).unwrap();
    assert_eq!((asked.header("x-correlation-id"), asked.header("x-vault-namespace")), ("c-1", "ns-1"));
    let agent = asked.header("user-agent");
    assert!(agent.starts_with("keyferry/") && agent.ends_with(" (ExternalSecret/team-a/web; c-1)"), "{agent}");
    let noted = cx.requests.take();
    assert_eq!(noted.len(), 1);
    assert_eq!((noted[0].name.as_ref(), noted[0].failed), ("ReadSecretData", false));
    assert!(noted[0].id.as_deref().is_some_and(|id| id.starts_with("request-")));
    assert_eq!(noted[0].id, fetched.request_id);
}

async fn find(session: &dyn Session, query: FindQuery) -> Result<BTreeMap<String, String>, ProviderError> {
    let found = session.find(&query, &cx()).await?;
    Ok(found.into_iter().map(|Found { name, bytes }| (name, text(&bytes).to_owned())).collect())
}

/// The mount may stand in the path of a search, and only there: a folder that is found below is what it is, whatever its name.
#[tokio::test]
async fn a_folder_that_is_found_may_have_the_mounts_name() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    for key in ["x", "team/kv/y", "data/z"] {
        server.fake.put(key, json!({"k": key}), &BTreeMap::from([("t".to_owned(), "1".to_owned())]));
    }
    let session = connect(server.url(), json!({})).await;
    let expected = ["x", "team/kv/y", "data/z"].map(|key| (key.to_owned(), json!({"k": key}).to_string()));
    let tags = BTreeMap::from([("t".to_owned(), "1".to_owned())]);
    for query in [FindQuery::default(), FindQuery { tags, ..FindQuery::default() }] {
        assert_eq!(find(session.as_ref(), query).await.unwrap(), BTreeMap::from(expected.clone()));
    }
    let without = connect(server.url(), json!({"path": null})).await;
    let query = FindQuery { path: "team/kv/data".into(), ..FindQuery::default() };
    let names: Vec<_> = find(without.as_ref(), query).await.unwrap().into_keys().collect();
    assert_eq!(names, ["team/kv/data/data/z", "team/kv/data/team/kv/y", "team/kv/data/x"]);
}

#[tokio::test]
async fn a_search_ends_where_it_found_more_than_an_object_may_have() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    for n in 0..20 {
        server.fake.put(&format!("large-{n}"), json!({"k": "x".repeat(1 << 20)}), &BTreeMap::new());
    }
    let session = connect(server.url(), json!({})).await;
    let named = |name: &str| FindQuery { name: name.into(), ..FindQuery::default() };
    assert_eq!(find(session.as_ref(), named("large-[1-3]$")).await.unwrap().len(), 3);
    let error = find(session.as_ref(), named("large-")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.detail.starts_with("the store answers with more than 8388608 bytes"), "{error}");
}

#[tokio::test]
async fn folders_are_searched_to_their_ground() {
    let server = Service::start(Server::new(2, MOUNT)).await;
    for key in ["top", "a/one", "a/b/two", "a/b/c/three", "z/a/four"] {
        server.fake.put(key, json!({"k": key}), &BTreeMap::from([("depth".to_owned(), key.len().to_string())]));
    }
    server.fake.put("a/gone", json!({}), &BTreeMap::new());
    server.fake.with(|state| state.secrets.get_mut("a/gone").unwrap().versions[0] = None);
    let session = connect(server.url(), json!({})).await;
    let names = async |path: &str, name: &str| {
        let query = FindQuery { path: path.into(), name: name.into(), ..FindQuery::default() };
        find(session.as_ref(), query).await.map(|found| found.into_keys().collect::<Vec<_>>())
    };
    assert_eq!(names("", "").await.unwrap(), ["a/b/c/three", "a/b/two", "a/one", "top", "z/a/four"]);
    assert_eq!(names("a", "").await.unwrap(), ["a/b/c/three", "a/b/two", "a/one"], "the path stays in the name");
    assert_eq!(names("/a/b/", "t.o$").await.unwrap(), ["/a/b//two"], "as it was written, and a slash, as in ESO");
    assert_eq!(names("a/", "").await.unwrap(), ["a//b/c/three", "a//b/two", "a//one"]);
    assert_eq!(names("team/kv", "top").await.unwrap(), ["team/kv/top"]);
    assert_eq!(names("team/kv/a", "one").await.unwrap(), ["team/kv/a/one"], "ESO lets the mount stand in the path");
    assert_eq!(names("", "^a/").await.unwrap().len(), 3);
    assert_eq!(names("a", "nothing").await.unwrap().len(), 0);
    assert_eq!(names("nowhere", "").await.unwrap_err().kind, ErrorKind::NotFound);

    let tags = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let found = find(session.as_ref(), FindQuery { tags: tags(&[("depth", "5")]), ..FindQuery::default() }).await.unwrap();
    assert_eq!(found, BTreeMap::from([("a/one".to_owned(), r#"{"k":"a/one"}"#.to_owned())]));
    let both = FindQuery { tags: tags(&[("depth", "0")]), name: "top".into(), ..FindQuery::default() };
    assert_eq!(find(session.as_ref(), both).await.unwrap().len(), 1, "a name goes before tags");

    server.fake.with(|state| state.forbidden.push("a/one".into()));
    assert_eq!(names("", "one").await.unwrap_err().kind, ErrorKind::Denied, "what may not be read is no match less");
    assert_eq!(names("", "two").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_store_without_a_mount_finds_by_the_path() {
    let server = Service::start(Server::new(2, "kv")).await;
    server.fake.put("a/one", json!({"k": 1}), &BTreeMap::new());
    let block = json!({"server": server.url(), "auth": {"tokenSecretRef": {"name": "login", "key": "token"}}});
    let vault: Vault = serde_json::from_value(block).unwrap();
    let session = vault.connect(&keys().cx(&outbound()).connect).await.unwrap();
    let found = find(session.as_ref(), FindQuery { path: "kv/a".into(), ..FindQuery::default() }).await.unwrap();
    assert_eq!(found, BTreeMap::from([("kv/a/one".to_owned(), r#"{"k":1}"#.to_owned())]));
    assert_eq!(text(&get(session.as_ref(), &want("kv/a/one")).await.unwrap().bytes), r#"{"k":1}"#);
    for (path, name) in [("kv/data", "kv/data/a/one"), ("/kv/a", "/kv/a/one")] {
        let found = find(session.as_ref(), FindQuery { path: path.into(), ..FindQuery::default() }).await.unwrap();
        assert_eq!(found, BTreeMap::from([(name.to_owned(), r#"{"k":1}"#.to_owned())]), "{path}");
    }
    for path in ["", "/"] {
        let error = find(session.as_ref(), FindQuery { path: path.into(), ..FindQuery::default() }).await.unwrap_err();
        assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("find.path"), "{error}");
    }
}

#[tokio::test]
async fn other_engines_are_read_as_one_without_versions() {
    let body = json!({
        "request_id": "r", "lease_id": "database/creds/app/l", "lease_duration": 60, "renewable": true,
        "data": {"username": "u", "password": "p"},
    });
    let server = saying(200, &body.to_string()).await;
    let vault = store(&server.url, json!({"path": "database", "version": "v1"}));
    let client = VaultClient::login(&vault, "x", NONE, &keys().cx(&outbound()).connect).await.unwrap();
    let session = VaultSession::new(client, mount::Mount::of(&vault, Block::Vault), Block::Vault);
    assert_eq!(text(&get(&session, &want("creds/app")).await.unwrap().bytes), r#"{"password":"p","username":"u"}"#);
    assert!(session.holds_until(&want("creds/app")).is_some(), "what is lent ends");
}
