//! Files that sops 3.13.3 wrote (`vectors`), and files on servers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use keyferry_fakes::files::Files;
use keyferry_fakes::registry::Registry;
use keyferry_fakes::{Fault, Refusal, Service};
use serde_json::{Value as Json, json};

use super::age::Identities;
use super::decrypt;
use super::document::Node;
use super::format::Format;
use super::testing::{file, keys};
use crate::api::StoreKind;
use crate::api::external_secret::MetadataPolicy;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::outbound;
use crate::providers::conformance::served::{OverHttp, Served};
use crate::providers::conformance::{CANARY, Check, Fixture, Stored, Tested, Value};
use crate::providers::{CallCx, ErrorKind, FindQuery, ProviderError, ProviderSpec, Session, Validation, Want};
use crate::secret_bytes::SecretBytes;

macro_rules! vector {
    ($name:literal) => {
        SecretBytes::new(include_bytes!(concat!("vectors/", $name)).to_vec())
    };
}

fn open_with(word: &str, file: &SecretBytes, format: Format) -> Result<Node, ProviderError> {
    let keys = Identities::parse(&SecretBytes::from(keys(word))).unwrap();
    decrypt::open(file, format, &keys, "the file")
}

fn open(file: &SecretBytes, format: Format) -> Result<Json, ProviderError> {
    let node = open_with("vector", file, format)?;
    Ok(serde_json::from_slice(node.to_secret().expose()).unwrap())
}

#[test]
fn what_sops_wrote_is_read_in_every_format() {
    let yaml = json!({
        "db": {
            "user": "app", "password": "p&w <1>", "port": 5432, "ratio": 1.5, "on": true, "when": "2001-01-02T00:00:00Z",
            "none": null, "list": ["a", 1, true, {"x": "y"}], "block": "line 1\nline 2\n",
        },
        "plain_unencrypted": "visible 010", "n_unencrypted": 8, "d_unencrypted": "2001-01-02T03:04:05.5+02:00",
        "f_unencrypted": 1000, "empty": "", "emptymap": {}, "with.dot": "d",
    });
    assert_eq!(open(&vector!("all.enc.yaml"), Format::Yaml).unwrap(), yaml);
    let json = json!({
        "db": {"user": "app", "n": 1.5, "big": 12_345_678_901_234_567_000_u64, "t": true, "nil": null, "l": [1, "a"]}, "e": "",
    });
    assert_eq!(open(&vector!("all.enc.json"), Format::Json).unwrap(), json);
    let dotenv = json!({"USER": "app", "PASSWORD": "p&w\nline2", "EMPTY": "", "X_unencrypted": "a # b"});
    assert_eq!(open(&vector!("all.enc.env"), Format::Dotenv).unwrap(), dotenv);
    let ini = json!({
        "DEFAULT": {"top": "1"},
        "db": {"user": "app", "password": "p w ", "hash": "a#b", "multi": "l1\nl2", "x_unencrypted": "a"},
        "other": {"k": "v"},
    });
    assert_eq!(open(&vector!("all.enc.ini"), Format::Ini).unwrap(), ini);
    let binary = open_with("vector", &vector!("all.enc.bin"), Format::Binary).unwrap();
    let every_byte: Vec<u8> = (0..=255).collect();
    assert_eq!(binary.find("data").unwrap().to_secret().expose(), every_byte);
}

#[test]
fn every_rule_of_what_is_encrypted_is_honoured() {
    let all = json!({"a": "secret", "b_enc": "sealed", "list": ["x", "y"], "num": 3});
    for file in [
        vector!("encrypted_regex.yaml"),
        vector!("unencrypted_regex.yaml"),
        vector!("mac_only_encrypted.yaml"),
        vector!("two_recipients.yaml"),
    ] {
        assert_eq!(open(&file, Format::Yaml).unwrap(), all);
    }
    assert_eq!(open(&vector!("encrypted_comment_regex.yaml"), Format::Yaml).unwrap(), json!({"a": "secret", "b": "open"}));
}

#[test]
fn what_cannot_be_opened_is_told_apart() {
    for (file, kind, text) in [
        (vector!("other_recipient.yaml"), ErrorKind::Denied, "other age recipients"),
        (vector!("several_groups.yaml"), ErrorKind::Unsupported, "several key groups"),
        (vector!("several_documents.yaml"), ErrorKind::Malformed, "several YAML documents"),
        (SecretBytes::from("a: b\n"), ErrorKind::Malformed, "no sops metadata"),
        (SecretBytes::from("a: b\nsops: {pgp: [{enc: x}]}\n"), ErrorKind::Misconfigured, "no age recipient"),
        (SecretBytes::new(vec![b'a'; (1 << 20) + 1]), ErrorKind::Malformed, "larger than"),
    ] {
        let error = open(&file, Format::Yaml).unwrap_err();
        assert!(error.kind == kind && error.detail.contains(text), "{error:?}");
    }
}

/// A tree that is as deep as its keys say would be walked on the stack, where it ends the process.
#[test]
fn keys_that_lead_deep_are_refused() {
    for (deep, is_fine) in [(60, true), (100_000, false)] {
        let key = format!("a{}", "__map_b".repeat(deep));
        for (text, format) in
            [(format!("sops_{key}=1\nA=b\n"), Format::Dotenv), (format!("[x]\na = b\n[sops]\n{key} = 1\n"), Format::Ini)]
        {
            let read = format.read(&SecretBytes::from(text));
            assert_eq!(
                read.err().map(|error| error.0.contains("nested too deep")),
                (!is_fine).then_some(true),
                "{format:?}"
            );
        }
    }
}

#[test]
fn a_file_for_more_recipients_than_are_looked_through_is_refused() {
    let words: Vec<String> = (0..256).map(|number| format!("word-{number}")).collect();
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    let of = |words: &[&str]| SecretBytes::new(file(words, &[("a", b"v")]));
    assert!(open_with("word-255", &of(&words), Format::Json).is_ok());
    words.push("one more");
    let error = open_with("word-255", &of(&words), Format::Json).unwrap_err();
    assert!(error.kind == ErrorKind::Unsupported && error.detail.contains("more than 256 age recipients"), "{error}");
}

#[test]
fn the_last_value_of_a_key_counts_in_each_section_of_an_ini() {
    let text = "a = 1\nb = 2\na = 3\n[x]\na = 4\na = 5\n[sops]\nage__list_0__map_enc = x\n";
    let (document, _) = Format::Ini.read(&SecretBytes::from(text)).unwrap();
    let found: Json = serde_json::from_slice(document.to_secret().expose()).unwrap();
    assert_eq!(found, json!({"DEFAULT": {"a": "3", "b": "2"}, "x": {"a": "5"}}));
}

/// Every way to change a value, a plain one, the order, the number or the names of keys.
#[test]
fn a_changed_file_is_not_opened() {
    let whole = String::from_utf8(include_bytes!("vectors/all.enc.yaml").to_vec()).unwrap();
    let lines: Vec<&str> = whole.split('\n').collect();
    let end = lines.iter().position(|line| *line == "sops:").unwrap();
    let mut changed = vec![
        whole.replace("visible", "changed"),
        whole.replace("n_unencrypted: 8", "n_unencrypted: 9"),
        whole.replace("unencrypted_suffix: _unencrypted", "unencrypted_suffix: db"),
        whole.replace("unencrypted_suffix: _unencrypted", "mac_only_encrypted: true"),
        whole.replace("lastmodified: \"2026", "lastmodified: \"2027"),
        whole.replacen("ENC[AES256_GCM", "ENC[AES255_GCM", 3),
        whole.replace("with.dot:", "with-dot:"),
    ];
    for at in 0..end {
        if lines[at].contains("ENC[") && !lines[at].starts_with('#') {
            let without: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, line)| *line).collect();
            changed.push(without.join("\n"));
            let (key, _) = lines[at].split_once("ENC[").unwrap();
            changed.push(whole.replace(lines[at], &format!("{key}plain")));
        }
    }
    assert!(changed.len() > 25, "{}", changed.len());
    for text in changed {
        assert_ne!(text, whole);
        let error = open(&SecretBytes::from(text.as_str()), Format::Yaml).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed, "{text}");
        assert!(error.detail.contains("changed after it was encrypted"), "{error}");
    }
}

#[test]
fn keys_are_names_or_paths() {
    let text = json!({"a": {"b": {"c": 1}, "b.c": 2}, "a/b": 3, "a.b": 4, "list": ["x"]});
    let node = |value: &Json| match value {
        Json::Number(number) => Node::Int(number.as_i64().unwrap()),
        _ => Node::Null,
    };
    fn tree(value: &Json, leaf: &dyn Fn(&Json) -> Node) -> Node {
        match value {
            Json::Object(pairs) => Node::Map(pairs.iter().map(|(key, value)| (key.clone(), tree(value, leaf))).collect()),
            other => leaf(other),
        }
    }
    let tree = tree(&text, &node);
    let text = |key: &str| tree.find(key).map(|node| node.to_secret().expose_str().unwrap().to_owned());
    for (key, expected) in [
        ("a", Some(r#"{"b":{"c":1},"b.c":2}"#)),
        ("a/b", Some("3")),
        ("a.b", Some("4")),
        ("a/b/c", Some("1")),
        ("a/b.c", Some("2")),
        ("a.b.c", Some("1")),
        ("a/x", None),
        ("", None),
        ("a/", None),
        ("list/0", None),
    ] {
        assert_eq!(text(key).as_deref(), expected, "{key}");
    }
}

/// A store over a cluster with these objects, as a session.
async fn session(cluster: &Cluster, block: Json) -> Result<Arc<dyn Session>, ProviderError> {
    let spec: ProviderSpec = serde_json::from_value(json!({"sops": block})).unwrap();
    let provider = spec.served().unwrap();
    provider.validate(StoreKind::SecretStore)?;
    provider.connect(&cluster.cx(&outbound()).connect).await
}

async fn read(session: &dyn Session, key: &str) -> Result<String, ProviderError> {
    let want = Want { key: key.to_owned(), ..Want::default() };
    let mut read = session.get(&[want], &CallCx::default()).await;
    read.remove(0).map(|fetched| fetched.bytes.expose_str().unwrap().to_owned())
}

fn cluster() -> Cluster {
    Cluster::new().secret("age", "keys.txt", &format!("# test\n{}\n{}\n", keys("other"), keys("vector")))
}

const AGE: &str = "age";

fn block(source: Json) -> Json {
    json!({"source": source, "ageKeySecretRef": {"name": AGE, "key": "keys.txt"}})
}

#[tokio::test]
async fn a_file_in_the_cluster_is_read() {
    let text = include_str!("vectors/all.enc.yaml");
    let cluster = cluster().config_map("files", "app.yaml", text).secret("files", "app.txt", text);
    let in_map = session(&cluster, block(json!({"configMap": {"name": "files", "key": "app.yaml"}}))).await.unwrap();
    assert_eq!(read(in_map.as_ref(), "db/user").await.unwrap(), "app");
    assert_eq!(in_map.validate(&CallCx::default()).await.unwrap(), Validation::Ready);
    let mut of_secret = block(json!({"secret": {"name": "files", "key": "app.txt"}}));
    let error = session(&cluster, of_secret.clone()).await.err().unwrap();
    assert_eq!(error.detail, "SOPS file: the file cannot be read as Binary: it is not JSON");
    of_secret["format"] = "yaml".into();
    let in_secret = session(&cluster, of_secret).await.unwrap();
    assert_eq!(read(in_secret.as_ref(), "with.dot").await.unwrap(), "d");
    assert_eq!(read(in_secret.as_ref(), "nope").await.unwrap_err().kind, ErrorKind::NotFound);

    let find = |path: &str, name: &str| FindQuery { path: path.into(), name: name.into(), ..FindQuery::default() };
    for (query, names) in [
        (find("", "^(with|empty)"), vec!["empty", "emptymap", "with.dot"]),
        (find("db", "o"), vec!["password", "port", "ratio", "on", "none", "block"]),
        (find("/db/", "^user$"), vec!["user"]),
        (find("nowhere", ""), vec![]),
        (find("db/user", ""), vec![]),
    ] {
        let found = in_map.find(&query, &CallCx::default()).await.unwrap();
        assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), names, "{query:?}");
    }
    for want in
        [Want { version: "1".into(), ..Want::default() }, Want { metadata: MetadataPolicy::Fetch, ..Want::default() }]
    {
        let error = in_map.get(&[want], &CallCx::default()).await.remove(0).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported);
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_store_is_told() {
    let text = include_str!("vectors/all.enc.yaml");
    let cluster = cluster().config_map("files", "app.yaml", text).secret("bad", "keys.txt", CANARY);
    let in_map = json!({"configMap": {"name": "files", "key": "app.yaml"}});
    let with = |name: &str, key: &str| json!({"source": in_map, "ageKeySecretRef": {"name": name, "key": key}});
    for (block, kind, part) in [
        (with("age", "nope"), ErrorKind::Misconfigured, "spec.provider.sops.ageKeySecretRef: Secret team-a/age has no key"),
        (with("gone", "k"), ErrorKind::Misconfigured, "Secret team-a/gone does not exist"),
        (with("bad", "keys.txt"), ErrorKind::Misconfigured, "is no age identity"),
        (with("", ""), ErrorKind::Misconfigured, "ageKeySecretRef needs a name and a key"),
        (block(json!({})), ErrorKind::Misconfigured, "exactly one of"),
        (block(json!({"http": {"url": "x"}, "oci": {"reference": "a/b"}})), ErrorKind::Misconfigured, "exactly one of"),
        (block(json!({"oci": {"reference": "b"}})), ErrorKind::Misconfigured, "reference is not like"),
        (block(json!({"configMap": {"name": "files", "key": "x"}})), ErrorKind::Misconfigured, "has no key \"x\""),
    ] {
        let error = session(&cluster, block).await.err().unwrap();
        assert!(error.kind == kind && error.detail.contains(part), "{error:?}");
        assert!(!error.detail.contains(CANARY));
    }
}

#[tokio::test]
async fn a_file_on_a_server_is_decrypted_once_for_each_version() {
    let service = Service::start(Files::new(&[("/x/app.json", &file(&["vector"], &[("a", b"1")]))])).await;
    let url = format!("{}/x/app.json?ref=main", service.url());
    let session = session(&cluster(), block(json!({"http": {"url": url}}))).await.unwrap();
    for _ in 0..2 {
        assert_eq!(read(session.as_ref(), "a").await.unwrap(), "1");
    }
    let asked = service.server.received();
    assert!(asked[0].header("if-none-match").is_empty() && asked[1].header("if-none-match").starts_with('"'));
    service.fake.put("/x/app.json", &file(&["vector"], &[("a", b"2")]));
    assert_eq!(read(session.as_ref(), "a").await.unwrap(), "2");
    service.fake.put("/x/app.json", &file(&["other", "vector"], &[("a", b"3")]));
    assert_eq!(read(session.as_ref(), "a").await.unwrap(), "3");
    // A new version that cannot be opened is no reason to hand out the old one.
    service.fake.put("/x/app.json", &file(&["stranger"], &[("a", b"4")]));
    assert_eq!(read(session.as_ref(), "a").await.unwrap_err().kind, ErrorKind::Denied);
}

#[tokio::test]
async fn headers_come_from_secrets() {
    let files = Files::new(&[("/app.env", include_bytes!("vectors/all.enc.env"))]).for_header("x-token", CANARY);
    let service = Service::start(files).await;
    let cluster = cluster().secret("http", "token", CANARY);
    let mut source = json!({"http": {"url": format!("{}/app.env", service.url())}});
    let without = session(&cluster, block(source.clone())).await.unwrap();
    assert_eq!(read(without.as_ref(), "USER").await.unwrap_err().kind, ErrorKind::Denied);
    source["http"]["headers"] = json!([{"name": "X-Token", "secretRef": {"name": "http", "key": "token"}}]);
    let with = session(&cluster, block(source)).await.unwrap();
    assert_eq!(read(with.as_ref(), "USER").await.unwrap(), "app");
}

#[tokio::test]
async fn an_artifact_of_a_registry_is_read() {
    let service = Service::start(Registry::closed()).await;
    let host = service.url().trim_start_matches("http://").to_owned();
    let one = file(&["vector"], &[("a", b"1")]);
    service.fake.put("team/one", "main", &[("app.json", &one)]);
    service.fake.put("team/two", "main", &[("readme.md", b"text"), ("app.json", &one)]);
    let archive = service.fake.layer("application/vnd.oci.image.layer.v1.tar+gzip", "all", b"zipped");
    service.fake.put_manifest("team/archive", "main", &[archive]);
    let cluster = cluster().secret("pull", ".dockerconfigjson", &Registry::login(&host));
    let source = |artifact: &str, file: Option<&str>| {
        let reference = format!("{host}/team/{artifact}");
        json!({"oci": {"reference": reference, "file": file, "pullSecretRef": {"name": "pull"}, "plainHttp": true}})
    };
    let open = async |artifact: &str, file| session(&cluster, block(source(artifact, file))).await.unwrap();

    let session = open("one:main", None).await;
    assert_eq!(read(session.as_ref(), "a").await.unwrap(), "1");
    let before = service.server.received().len();
    assert_eq!(read(session.as_ref(), "a").await.unwrap(), "1");
    assert_eq!(service.server.received().len(), before + 1, "the manifest tells that the file is the same; one login");
    let received = service.server.received();
    let elsewhere: Vec<_> = received.iter().filter(|asked| asked.path().starts_with("/elsewhere/")).collect();
    assert!(!elsewhere.is_empty() && elsewhere.iter().all(|asked| asked.header("authorization").is_empty()));
    service.fake.put("team/one", "main", &[("app.json", &file(&["vector"], &[("a", b"2")]))]);
    assert_eq!(read(session.as_ref(), "a").await.unwrap(), "2");

    assert_eq!(read(open("two:main", Some("app.json")).await.as_ref(), "a").await.unwrap(), "1");
    for (artifact, file, kind) in [
        ("two:main", None, ErrorKind::Misconfigured),
        ("two:main", Some("gone"), ErrorKind::Misconfigured),
        ("archive:main", None, ErrorKind::Unsupported),
        ("one:gone", None, ErrorKind::Misconfigured),
    ] {
        let error = read(open(artifact, file).await.as_ref(), "a").await.unwrap_err();
        assert_eq!(error.kind, kind, "{artifact}: {error}");
    }
    let layer = service.fake.layer("application/json", "app.json", &one);
    let digest = service.fake.put_manifest("team/pinned", "main", &[layer]);
    assert_eq!(read(open(&format!("pinned@{digest}"), None).await.as_ref(), "a").await.unwrap(), "1");
    service.fake.corrupt();
    let error = read(open(&format!("pinned@{digest}"), None).await.as_ref(), "a").await.unwrap_err();
    assert_eq!((error.kind, error.detail.contains("something else")), (ErrorKind::Malformed, true), "{error}");
    service.set_fault(Some(Fault::Refuses(Refusal::Throttled(9))));
    let error = read(open("one:main", None).await.as_ref(), "a").await.unwrap_err();
    assert_eq!((error.kind, error.retry_after.map(|wait| wait.as_secs())), (ErrorKind::Throttled, Some(9)));
}

#[tokio::test]
async fn a_registry_that_asks_for_a_login_gets_none_but_its_own() {
    let service = Service::start(Registry::closed()).await;
    let host = service.url().trim_start_matches("http://").to_owned();
    service.fake.put("team/one", "main", &[("app.json", &file(&["vector"], &[("a", b"1")]))]);
    let cluster = cluster().secret("pull", "config", &Registry::login("elsewhere.test"));
    let mut source = json!({"oci": {"reference": format!("{host}/team/one:main"), "plainHttp": true}});
    let nobody = session(&cluster, block(source.clone())).await.unwrap();
    assert_eq!(read(nobody.as_ref(), "a").await.unwrap_err().kind, ErrorKind::Denied);
    source["oci"]["pullSecretRef"] = json!({"name": "pull", "key": "config"});
    let error = session(&cluster, block(source)).await.err().unwrap();
    assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("has no credentials for"), "{error}");
}

/// Over HTTP, as that can fail in all the ways there are.
struct OnServer;

const FILE: &str = "/team/app.json";

impl Served for OnServer {
    type Fake = Files;

    const PROVIDER: &'static str = "sops";

    fn fake(&self, secrets: &[Stored]) -> Files {
        let pairs: Vec<(String, Vec<u8>)> = secrets
            .iter()
            .map(|stored| {
                let value = match &stored.value {
                    Value::Plain(bytes) => bytes.clone(),
                    Value::Properties(pairs) => serde_json::to_vec(pairs).unwrap(),
                };
                (stored.key.clone(), value)
            })
            .collect();
        let pairs: Vec<(&str, &[u8])> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        Files::new(&[(FILE, &file(&["vector"], &pairs))])
    }

    fn block(&self, url: &str) -> Json {
        let mut block = block(json!({"http": {"url": format!("{url}{FILE}")}}));
        block["ageKeySecretRef"] = json!({"name": "login", "key": "age"});
        block
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("age", Box::leak(keys("vector").into_boxed_str()))]
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        let mut list: Vec<_> =
            Check::PUSHES.into_iter().map(|check| (check, "a file is written where it is kept: in Git")).collect();
        list.push((Check::Version, "a file has no versions beside that of Git"));
        list.push((Check::FindByTags, "keys have no tags"));
        list
    }
}

impl Tested for super::Sops {
    const TITLE: &'static str = "SOPS";
    const AUTH: &'static [&'static str] = &["ageKeySecretRef"];
    const SERVER: &'static str = "files that sops 3.13.3 encrypted for keys of age 1.1.1";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(OnServer))]
    }
}

#[tokio::test]
async fn a_file_cannot_be_pushed_to() {
    use crate::providers::{Place, Push};
    let cluster = cluster().config_map("files", "a.json", std::str::from_utf8(&file(&["vector"], &[("a", b"1")])).unwrap());
    let session = session(&cluster, block(json!({"configMap": {"name": "files", "key": "a.json"}}))).await.unwrap();
    let (push, place, cx) = (Push::default(), Place::default(), CallCx::default());
    for error in [
        session.push(&push, &cx).await.err(),
        session.delete(&place, &cx).await.err(),
        session.exists(&place, &cx).await.err(),
    ] {
        let error = error.unwrap();
        assert!(error.kind == ErrorKind::Unsupported && error.detail.contains("Git"), "{error}");
    }
}
