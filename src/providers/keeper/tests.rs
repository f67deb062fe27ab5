#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Mutex;

use keyferry_fakes::Service;
use keyferry_fakes::keeper::{self as fake, Keeper as Fake};
use serde_json::{Value as Json, json};

use super::*;
use crate::generators::testing::cluster::Cluster;
use crate::outbound::testing::outbound;
use crate::providers::conformance::{CANARY, Check, Fault, Fixture, RETRY_AFTER, Stored, Tested, Value, World};
use crate::providers::{CallCx, FindQuery, Place, Push, Pushed, Source, Want};
use crate::secret_bytes::SecretBytes;

/// Opens a session with a service by the configuration that it gives.
async fn open(service: &Service<Fake>, config: &str, more: Json) -> Result<Arc<dyn Session>, ProviderError> {
    let cluster = Cluster::new().secret("login", "config", config);
    let mut block =
        json!({"authRef": {"name": "login", "key": "config"}, "folderID": fake::FOLDER, "getByTitleFallback": true});
    for (field, value) in more.as_object().unwrap() {
        block[field] = value.clone();
    }
    let keeper: Keeper = serde_json::from_value(block).unwrap();
    keeper.validate(StoreKind::SecretStore)?;
    let _ = service;
    keeper.connect(&cluster.cx(&outbound()).connect).await
}

async fn session(fake: Fake) -> (Service<Fake>, Arc<dyn Session>) {
    let service = Service::start(fake).await;
    let config = service.fake.config(service.url());
    let session = open(&service, &config, json!({})).await.unwrap();
    (service, session)
}

/// Its service knows only the client that it made itself, so it is no fixture of those over HTTP.
#[derive(Default)]
struct Records(Mutex<Option<Service<Fake>>>);

#[async_trait]
impl Fixture for Records {
    fn provider(&self) -> &'static str {
        "keepersecurity"
    }

    fn plain_property(&self) -> Option<&'static str> {
        Some("password")
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        const WHOLE: &str = "a record is given whole in ESO's own form: tests of its own";
        vec![
            (Check::Version, "Keeper gives out the current version only"),
            (Check::NotAnObject, "a property that is taken apart is one key, as in ESO"),
            (Check::Binary, "fields are text; for files, tests of its own"),
            (Check::FindByName, WHOLE),
            (Check::FindByTags, "records have no tags"),
            (Check::PushWhole, "ESO pushes one value at a time"),
            (Check::PushUnchanged, "every request is a POST: tests of its own"),
        ]
    }

    async fn connect(&self, world: World) -> Arc<dyn Session> {
        let fake = Fake::default();
        for Stored { key, value, .. } in &world.secrets {
            let (fields, custom) = match value {
                Value::Plain(bytes) => (json!([field("password", "", &[&String::from_utf8_lossy(bytes)])]), json!([])),
                Value::Properties(pairs) => {
                    let custom: Vec<Json> = pairs.iter().map(|(label, text)| field("text", label, &[text])).collect();
                    (json!([]), json!(custom))
                }
            };
            fake.put(&format!("id-of-{key}"), json!({"title": key, "type": "login", "fields": fields, "custom": custom}));
        }
        let (service, session) = session(fake).await;
        service.set_fault(world.fault.map(|fault| match fault {
            Fault::Denied => keyferry_fakes::Fault::Refuses(keyferry_fakes::Refusal::Denied),
            Fault::Throttled => keyferry_fakes::Fault::Refuses(keyferry_fakes::Refusal::Throttled(RETRY_AFTER.as_secs())),
            Fault::Broken => keyferry_fakes::Fault::Refuses(keyferry_fakes::Refusal::Broken),
            Fault::Hang(reached) => keyferry_fakes::Fault::Hangs(reached),
            Fault::Garbled => keyferry_fakes::Fault::Garbles,
        }));
        *self.0.lock().unwrap() = Some(service);
        session
    }
}

impl Tested for Keeper {
    const TITLE: &'static str = "Keeper Secrets Manager";
    const AUTH: &'static [&'static str] = &["authRef"];
    const SERVER: &'static str = "a fake of its API, proven by its own SDK";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(Records::default())]
    }
}

fn field(type_: &str, label: &str, values: &[&str]) -> Json {
    let mut field = json!({"type": type_, "value": values});
    if !label.is_empty() {
        field["label"] = label.into();
    }
    field
}

fn record(title: &str) -> Json {
    json!({
        "title": title, "type": "login", "notes": "not given out",
        "fields": [
            field("login", "", &["ann"]), field("password", "", &["p<w"]), field("url", "site", &["https://a.test", "b"]),
            {"type": "host", "value": [{"hostName": "h", "port": "22"}]}, field("oneTimeCode", "", &["otpauth://x"]),
            field("fileRef", "", &["id-file-0"]), field("text", "none", &[]),
        ],
        "custom": [field("secret", "token", &["t"]), field("text", "empty", &[""])],
    })
}

fn want(key: &str) -> Want {
    Want { key: key.to_owned(), ..Want::default() }
}

async fn fetch(session: &dyn Session, key: &str) -> Result<SecretBytes, ProviderError> {
    session.get(&[want(key)], &CallCx::default()).await.remove(0).map(|fetched| fetched.bytes)
}

const BINARY: &[u8] = b"\x00\xff\xfe binary";

fn filled() -> Fake {
    let fake = Fake::default();
    fake.put_with("in-folder", record("db"), &[("cert.pem", BINARY)], false);
    fake.put_with("alone", record("lonely"), &[], true);
    fake
}

#[tokio::test]
async fn fields_custom_fields_and_files_are_properties() {
    let (_service, session) = session(filled()).await;
    for key in ["in-folder", "db"] {
        let bytes = fetch(session.as_ref(), key).await.unwrap();
        for (property, expected) in [
            ("login", b"ann".as_slice()),
            ("password", b"p<w"),
            ("site", br#"["https://a.test","b"]"#),
            ("host", br#"{"hostName":"h","port":"22"}"#),
            ("token", b"t"),
            ("empty", b""),
            ("cert.pem", BINARY),
        ] {
            let found = session.property(&want(key), &bytes, property).unwrap();
            assert_eq!(found.expose(), expected, "{property}");
        }
        for property in ["url", "oneTimeCode", "fileRef", "none", "nope", "notes"] {
            let error = session.property(&want(key), &bytes, property).unwrap_err();
            assert_eq!(error.kind, ErrorKind::MissingProperty, "{property}");
        }
        let entries = session.extract(&want(key), &bytes, None).unwrap();
        let keys: Vec<&str> = entries.keys().map(String::as_str).collect();
        let expected = ["cert.pem", "empty", "fileRef", "host", "login", "oneTimeCode", "password", "site", "token"];
        assert_eq!(keys, expected);
        let one = session.extract(&want(key), &bytes, Some("token")).unwrap();
        assert_eq!(one.into_iter().collect::<Vec<_>>(), [("token".to_owned(), SecretBytes::from("t"))]);
    }
}

#[tokio::test]
async fn a_whole_record_has_esos_form() {
    let fake = Fake::default();
    let custom = json!([field("secret", "token", &["<t>"]), {"type": "text", "value": []}]);
    fake.put_with("r", json!({"title": "one", "type": "login", "custom": custom}), &[("f", b"c")], false);
    let (_service, session) = session(fake).await;
    let bytes = fetch(session.as_ref(), "r").await.unwrap();
    let expected = concat!(
        r#"{"title":"one","type":"login","fields":null,"custom":[{"type":"secret","label":"token","value":["\u003ct\u003e"]},"#,
        r#"{"type":"text","label":"","value":[]}],"files":[{"type":"f","content":"c"}]}"#,
    );
    assert_eq!(session.whole(&want("r"), &bytes).unwrap().expose_str(), Some(expected));
    let found = session.find(&FindQuery { name: "^on".into(), ..FindQuery::default() }, &CallCx::default()).await.unwrap();
    assert_eq!((found.len(), found[0].name.as_str(), found[0].bytes.expose_str()), (1, "one", Some(expected)));
}

#[tokio::test]
async fn records_that_are_not_clear_are_told() {
    let fake = filled();
    fake.put("other", record("db"));
    fake.put(
        "double",
        json!({"title": "double", "type": "login", "custom": [field("text", "a", &["1"]), field("text", "a", &["2"])]}),
    );
    let (service, session) = session(fake).await;
    let error = fetch(session.as_ref(), "db").await.unwrap_err();
    assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains("more than 1 secret"), "{error}");
    assert!(fetch(session.as_ref(), "in-folder").await.is_ok());
    let bytes = fetch(session.as_ref(), "double").await.unwrap();
    let error = session.property(&want("double"), &bytes, "a").unwrap_err();
    assert!(error.detail.contains("Following keys are duplicated a"), "{error}");
    let config = service.fake.config(service.url());
    let strict = open(&service, &config, json!({"getByTitleFallback": false})).await.unwrap();
    assert_eq!(
        fetch(strict.as_ref(), "lonely").await.unwrap_err().kind,
        ErrorKind::NotFound,
        "titles count where the store says so"
    );
    assert!(fetch(strict.as_ref(), "alone").await.is_ok());
}

#[tokio::test]
async fn many_keys_are_one_call() {
    let (service, session) = session(filled()).await;
    let calls = || service.server.lines().iter().filter(|line| line.ends_with("/get_secret")).count();
    let wants: Vec<Want> = ["alone", "in-folder", "alone"].iter().map(|key| want(key)).collect();
    assert!(session.get(&wants, &CallCx::default()).await.iter().all(Result::is_ok));
    assert_eq!(calls(), 1);
    let wants: Vec<Want> = ["lonely", "db", "nope"].iter().map(|key| want(key)).collect();
    assert_eq!(session.get(&wants, &CallCx::default()).await.iter().filter(|read| read.is_ok()).count(), 2);
    assert_eq!(calls(), 3, "and one more for titles");
}

#[tokio::test]
async fn another_key_is_used_when_the_server_asks_for_it() {
    let (service, session) = session(filled()).await;
    service.fake.ask_for_key("98");
    assert!(fetch(session.as_ref(), "alone").await.is_ok());
    let before = service.server.received().len();
    assert!(fetch(session.as_ref(), "alone").await.is_ok());
    assert_eq!(service.server.received().len(), before + 1, "it is remembered");
}

/// Such a refusal was taken for one that names another key, and told as a server that is down.
#[tokio::test]
async fn a_server_that_asks_for_no_key_by_name_is_told_as_it_is() {
    let (service, session) = session(filled()).await;
    service.fake.ask_for_key("");
    let before = service.server.received().len();
    let error = fetch(session.as_ref(), "alone").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Denied, "{error}");
    assert_eq!(service.server.received().len(), before + 1);
}

#[tokio::test]
async fn files_of_one_call_are_bounded_together() {
    let (fake, content) = (Fake::default(), vec![b'x'; 7 << 20]);
    let file = ("file", content.as_slice());
    fake.put_with("one", record("one"), &[file], false);
    fake.put_with("four", record("four"), &[file; 4], false);
    let (_service, session) = session(fake).await;
    let results = session.get(&[want("one"), want("four")], &CallCx::default()).await;
    let kinds: Vec<Option<ErrorKind>> = results.into_iter().map(|result| result.err().map(|error| error.kind)).collect();
    assert_eq!(kinds, [None, Some(ErrorKind::Unsupported)]);
}

fn push(key: &str, value: &str) -> Push {
    Push {
        source: Arc::new(Source { data: [("k".to_owned(), SecretBytes::from(value))].into(), ..Source::default() }),
        secret_key: Some("k".into()),
        place: Place { key: key.into(), ..Place::default() },
    }
}

#[tokio::test]
async fn a_push_makes_a_record_of_esos_type() {
    let (service, session) = session(filled()).await;
    let cx = CallCx::default();
    for (key, value, came_to) in [
        ("new/username", "ann", Pushed::Written),
        ("new/password", "pw", Pushed::Written),
        ("new/BASEURL", "https://a.test", Pushed::Written),
        ("new/token", "t", Pushed::Written),
        ("new/token", "t2", Pushed::Written),
        ("new/token", "t2", Pushed::Unchanged),
    ] {
        assert_eq!(session.push(&push(key, value), &cx).await.unwrap(), came_to, "{key}");
    }
    let expected = json!({
        "title": "new", "type": "externalSecrets",
        "fields": [field("login", "", &["ann"]), field("password", "", &["pw"]), field("url", "", &["https://a.test"])],
        "custom": [{"type": "secret", "label": "token", "value": ["t2"]}],
    });
    assert_eq!(service.fake.titled("new"), [(expected, None)]);
    for (key, kind) in
        [("new", ErrorKind::Misconfigured), ("a/b/c", ErrorKind::Misconfigured), ("db/password", ErrorKind::Denied)]
    {
        let error = session.push(&push(key, CANARY), &cx).await.unwrap_err();
        assert_eq!(error.kind, kind, "{key}: {error}");
        assert!(!error.detail.contains(CANARY));
    }
    session.delete(&push("new/token", "").place, &cx).await.unwrap();
    assert_eq!(service.fake.titled("new")[0].0["custom"], json!([]));
    for key in ["new/login", "new/password", "new/url"] {
        session.delete(&push(key, "").place, &cx).await.unwrap();
    }
    assert!(service.fake.titled("new").is_empty(), "the record goes with its last field");
    session.delete(&push("db/password", "").place, &cx).await.unwrap();
    assert_eq!(service.fake.titled("db").len(), 1, "that of somebody else stays");
}

#[tokio::test]
async fn a_record_is_made_in_the_stores_folder() {
    let service = Service::start(Fake::default()).await;
    let config = service.fake.config(service.url());
    let below = open(&service, &config, json!({"folderID": fake::SUBFOLDER})).await.unwrap();
    let error = below.push(&push("new/token", "t"), &CallCx::default()).await.unwrap_err();
    assert!(error.detail.contains("shows no folder"), "{error}");
    service.fake.show_subfolder();
    below.push(&push("new/token", "t"), &CallCx::default()).await.unwrap();
    assert_eq!(service.fake.titled("new")[0].1.as_deref(), Some(fake::SUBFOLDER));
}

#[tokio::test]
async fn configurations_that_cannot_be_used_are_told() {
    use base64::Engine as _;
    let service = Service::start(Fake::default()).await;
    let good = service.fake.config(service.url());
    let json = base64::engine::general_purpose::STANDARD.decode(&good).unwrap();
    let with = |field: &str, value: Json| {
        let mut config: Json = serde_json::from_slice(&json).unwrap();
        config[field] = value;
        config.to_string()
    };
    assert!(open(&service, std::str::from_utf8(&json).unwrap(), json!({})).await.is_ok(), "JSON is taken as well");
    for (config, text) in [
        (CANARY.to_owned(), "the value is no configuration of Keeper's"),
        (format!("{{\"clientId\": \"{CANARY}\"}}"), "the value is no configuration of Keeper's"),
        (with("appKey", "".into()), "it holds no appKey"),
        (with("appKey", "AAAA".into()), "its keys are none of Keeper's"),
        (with("privateKey", CANARY.into()), "its keys are none of Keeper's"),
    ] {
        let error = open(&service, &config, json!({})).await.err().unwrap();
        assert!(error.kind == ErrorKind::Misconfigured && error.detail.contains(text), "{error}");
        assert!(!error.detail.contains(CANARY));
    }
    for (config, kind) in [
        (with("clientId", "other".into()), ErrorKind::Denied),
        (with("serverPublicKey", "AAAA".into()), ErrorKind::Misconfigured),
    ] {
        let session = open(&service, &config, json!({})).await.unwrap();
        let error = fetch(session.as_ref(), "x").await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
    }
    let other = Fake::default().config(service.url());
    let session = open(&service, &other, json!({})).await.unwrap();
    assert!(fetch(session.as_ref(), "x").await.is_err(), "another client's signature, another server's key");
    let error = open(&service, &good, json!({"folderID": ""})).await.err().unwrap();
    assert_eq!(error.detail, "missing: spec.provider.keepersecurity.folderID");
}
