//! Webhooks against a service on loopback.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use keyferry_fakes::webhook::{self, KEY};
use keyferry_fakes::{FakeServer, Pki, Reply};
use serde_json::{Value as Json, json};

use super::Webhook;
use crate::api::StoreKind;
use crate::generators::testing::cluster::{Cluster, redacted};
use crate::outbound::Outbound;
use crate::outbound::testing::outbound;
use crate::providers::conformance::served::{OverHttp, Served};
use crate::providers::conformance::{Check, Fixture, Stored, Tested, Value};
use crate::providers::{
    CallCx, ConnectCx, ErrorKind, Place, Provider, ProviderError, Push, Session, Source, Validation, Want,
};
use crate::secret_bytes::SecretBytes;

const LABEL: &str = "external-secrets.io/type";

struct Store;

impl Served for Store {
    type Fake = webhook::Webhook;
    const PROVIDER: &'static str = "webhook";

    fn fake(&self, secrets: &[Stored]) -> webhook::Webhook {
        webhook::Webhook::new(secrets.iter().map(|stored| {
            let value = match &stored.value {
                Value::Plain(_) => json!(stored.text()),
                Value::Properties(pairs) => json!(pairs),
            };
            (stored.key.clone(), stored.version.unwrap_or_default().to_owned(), value)
        }))
    }

    fn block(&self, url: &str) -> Json {
        json!({
            "url": url.to_owned()
                + "/secrets/{{ if .remoteRef.remoteKey }}{{ .remoteRef.remoteKey }}{{ else }}{{ .remoteRef.key }}{{ end }}"
                + "{{ with .remoteRef.version }}?version={{ . }}{{ end }}",
            "headers": {"X-Api-Key": "{{ .auth.key }}"},
            "result": {"jsonPath": "$.value{{ with .remoteRef.property }}['{{ . }}']{{ end }}"},
            "secrets": [{"name": "auth", "secretRef": {"name": "login"}}],
        })
    }

    fn login(&self) -> Vec<(&'static str, &'static str)> {
        vec![("key", KEY)]
    }

    fn labels(&self) -> Json {
        json!({LABEL: "webhook"})
    }

    fn does_not_apply(&self) -> Vec<(Check, &'static str)> {
        let find = "a service is asked for one secret at a time";
        let write =
            "what a service holds is known to it alone, so each push is a request, and what it changes is its own business";
        vec![
            (
                Check::Binary,
                "the service answers with JSON; one without result.jsonPath may answer with any bytes (tests of its own)",
            ),
            (Check::FindByName, find),
            (Check::FindByTags, find),
            (Check::FindNothing, find),
            (Check::PushUnchanged, write),
            (Check::PushProperty, write),
            (Check::DeleteProperty, write),
            (Check::PushForeign, write),
        ]
    }
}

impl Tested for Webhook {
    const TITLE: &'static str = "Webhook";
    const AUTH: &'static [&'static str] = &["headers", "ntlm"];
    const SERVER: &'static str = "a fake of a service; there is no protocol but HTTP";

    fn fixtures() -> Vec<Box<dyn Fixture>> {
        vec![Box::new(OverHttp::new(Store))]
    }
}

fn cluster() -> Cluster {
    Cluster::new().labelled_secret("login", &json!({LABEL: "webhook"}), &[("key", KEY), ("user", "a b&c")]).labelled_secret(
        "other",
        &json!({}),
        &[("key", "canary")],
    )
}

async fn session_in(cx: &ConnectCx, block: Json) -> Result<Arc<dyn Session>, ProviderError> {
    let webhook: Webhook = serde_json::from_value(block).unwrap();
    webhook.validate(cx.store_kind)?;
    webhook.connect(cx).await
}

async fn session(block: Json) -> Arc<dyn Session> {
    session_in(&cluster().cx(&outbound()).connect, block).await.unwrap()
}

fn want(key: &str) -> Want {
    Want { key: key.to_owned(), ..Want::default() }
}

async fn read(session: &dyn Session, want: &Want, property: Option<&str>) -> Result<SecretBytes, ProviderError> {
    let fetched = session.get(std::slice::from_ref(want), &CallCx::default()).await.remove(0)?;
    match property {
        Some(property) => session.property(want, &fetched.bytes, property),
        None => session.whole(want, &fetched.bytes),
    }
}

#[tokio::test]
async fn a_request_is_made_of_what_is_asked_for() {
    let server = FakeServer::start(|_| Reply::bytes(200, vec![0, 0xff, b'x'])).await;
    let block = json!({
        "url": format!("{}/get?k={{{{ .remoteRef.key }}}}&p={{{{ .remoteRef.property }}}}&n={{{{ .remoteRef.namespace }}}}", server.url),
        "method": "PUT", "headers": {"X-Key": "{{ .remoteRef.version }} {{ .auth.user }}"}, "result": {},
        "body": "{{ .remoteRef.version }}:{{ .remoteRef.key }}",
        "secrets": [{"name": "auth", "secretRef": {"name": "login"}}],
    });
    let session = session(block).await;
    let want = Want { version: "v 1".to_owned(), property: "a/b".to_owned(), ..want("k y&ü") };
    // Without a path, whatever bytes there are.
    assert_eq!(read(session.as_ref(), &want, Some("a/b")).await.unwrap().expose(), [0, 0xff, b'x']);
    let asked = &server.received()[0];
    assert_eq!(asked.line, "PUT /get?k=k+y%26%C3%BC&p=a%2Fb&n=team-a");
    assert_eq!(asked.header("x-key"), "v 1 a b&c");
    assert_eq!(asked.body, "v 1:k y&ü");
}

#[tokio::test]
async fn the_property_chooses_the_path_or_the_request() {
    let body = r#"{"fields": [{"name": "a", "value": "1"}, {"name": "b", "value": 5432}], "n": 1.5, "no": false, "null": null,
                   "list": [["x"]], "none": [], "map": {"k": "<"}}"#;
    let server = FakeServer::start(move |_| Reply::text(200, body)).await;
    let with = |path: &str| json!({"url": server.url.as_str(), "result": {"jsonPath": path}});
    let fields = session(with("$.fields[?@.name == '{{ .remoteRef.property }}'].value")).await;
    for (property, value) in [("a", Some("1")), ("b", Some("5432")), ("c", None)] {
        let found = read(fields.as_ref(), &want("x"), Some(property)).await;
        match value {
            Some(value) => assert_eq!(found.unwrap().expose_str(), Some(value)),
            None => assert_eq!(found.unwrap_err().kind, ErrorKind::MissingProperty),
        }
    }
    let any = session(with("$.{{ .remoteRef.key }}")).await;
    for (key, value) in [("n", "1.5"), ("no", "false"), ("null", ""), ("list", "x"), ("map", r#"{"k":"\u003c"}"#)] {
        assert_eq!(read(any.as_ref(), &want(key), None).await.unwrap().expose_str(), Some(value), "{key}");
    }
    for key in ["none", "gone"] {
        assert_eq!(read(any.as_ref(), &want(key), None).await.unwrap_err().kind, ErrorKind::Malformed, "{key}");
    }
    let webhook = |url: &str, path: &str| -> Webhook {
        serde_json::from_value(json!({"url": url, "result": {"jsonPath": path}})).unwrap()
    };
    assert!(!webhook("https://x/{{ .remoteRef.key }}", "$.{{ .remoteRef.property }}").asks_for("p"));
    for url in [
        "https://x/{{ .remoteRef.property }}",
        "https://x/{{ index .remoteRef \"key\" }}",
        "{{ range $k, $v := . }}{{ end }}",
    ] {
        assert!(webhook(url, "").asks_for("p"), "{url}");
        assert!(!webhook(url, "").asks_for(""), "{url}");
    }
}

/// What a service says to one namespace is not another one's.
#[test]
fn a_store_whose_templates_see_who_asks_shares_nothing() {
    let referent = |url: &str, path: &str| {
        let webhook: Webhook = serde_json::from_value(json!({"url": url, "result": {"jsonPath": path}})).unwrap();
        webhook.is_referent()
    };
    assert!(!referent("https://x/{{ .remoteRef.key }}/{{ .auth.user }}", "$.{{ .remoteRef.property }}"));
    for see in [
        "{{ .remoteRef.namespace }}",
        "{{ range .remoteRef }}{{ . }}{{ end }}",
        "{{ toJson . }}",
        "{{ get $ \"remoteRef\" }}",
    ] {
        assert!(referent(&format!("https://x/{see}"), ""), "{see}");
        assert!(referent("https://x", see), "{see}");
    }
}

/// GHSA-77v3-r3jw-j2v2 and its like: a request holds what the named Secrets hold, and those must say that they are for it.
#[tokio::test]
async fn secrets_of_others_do_not_go_out() {
    let server = FakeServer::start(|_| Reply::text(200, "{}")).await;
    let with =
        |secret: Json| json!({"url": server.url.as_str(), "result": {}, "secrets": [{"name": "auth", "secretRef": secret}]});
    let cx = cluster().cx(&outbound()).connect;
    let error = redacted(session_in(&cx, with(json!({"name": "other"}))).await);
    assert!(error.detail.contains("does not carry the label 'external-secrets.io/type: webhook'"), "{error}");
    let error = redacted(session_in(&cx, with(json!({"name": "login", "namespace": "team-b"}))).await);
    assert!(error.detail.contains("names namespace \"team-b\""), "{error}");
    let everywhere = ConnectCx { store_kind: StoreKind::ClusterSecretStore, ..cx.clone() };
    let error = redacted(session_in(&everywhere, with(json!({"name": "login"}))).await);
    assert_eq!(error.detail, "no namespace on ClusterScoped webhook secret login");
    let foreign = json!({"type": "ConfigMap", "name": "ca", "key": "k", "namespace": "team-b"});
    let block = json!({"url": server.url.as_str(), "result": {}, "caProvider": foreign});
    assert_eq!(redacted(session_in(&cx, block).await).detail, "caProvider.namespace must be empty with SecretStore");
    assert!(server.received().is_empty());
}

/// The operator stands where its tenants do not: in the cluster's network, and beside the metadata service of its node.
#[tokio::test]
async fn a_url_leads_away_from_the_operator() {
    let guarded = Arc::new(Outbound::new(Arc::default(), false));
    let cx = cluster().cx(&guarded).connect;
    for host in [
        "127.0.0.1:1",
        "localhost:1",
        "[::1]:1",
        "0.0.0.0:1",
        "169.254.169.254",
        "[fd00:ec2::254]",
        "169.254.170.2",
        "100.100.100.200",
        "2130706433:1",
        "0x7f.1:1",
        "[::ffff:169.254.169.254]",
    ] {
        let url = format!("http://{host}/{{{{ .remoteRef.key }}}}");
        let session = session_in(&cx, json!({"url": url, "result": {}})).await.unwrap();
        for error in [
            read(session.as_ref(), &want("x"), None).await.unwrap_err(),
            session.validate(&CallCx::default()).await.unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{host}: {error}");
            assert!(error.detail.contains("which is not allowed"), "{host}: {error}");
        }
        // A host that a template makes is checked too.
        let hidden = json!({"url": "http://{{ .remoteRef.key }}/", "result": {}});
        let session = session_in(&cx, hidden).await.unwrap();
        let version = want("127.0.0.1");
        assert_eq!(read(session.as_ref(), &version, None).await.unwrap_err().kind, ErrorKind::Misconfigured);
    }
    let server = FakeServer::start(|asked| match asked.path() {
        "/secret" => Reply::text(200, "canary"),
        _ => Reply::text(302, "canary").with("location", "/secret"),
    })
    .await;
    let session = session(json!({"url": format!("{}/go", server.url), "result": {}})).await;
    let error = redacted(read(session.as_ref(), &want("x"), None).await);
    assert!(error.detail.contains("the server redirects, which is not followed"), "{error}");
    assert_eq!(server.lines(), ["GET /go"]);
}

fn push(key: &str, value: &str) -> Push {
    let data = [("v".to_owned(), SecretBytes::from(value))].into();
    let place = Place { key: key.to_owned(), ..Place::default() };
    Push { source: Arc::new(Source { data, ..Source::default() }), secret_key: Some("v".to_owned()), place }
}

#[tokio::test]
async fn what_is_pushed_is_in_the_templates() {
    let server = FakeServer::start(|_| Reply::text(200, "")).await;
    let block = json!({
        "url": format!("{}/{{{{ .remoteRef.remoteKey }}}}/{{{{ .remoteRef.secretKey }}}}", server.url), "result": {},
        "headers": {"X-Key": "{{ .auth.key }}"}, "body": "{\"v\": {{ .remoteRef.db | quote }}}",
        "secrets": [{"name": "auth", "secretRef": {"name": "login"}}],
    });
    let session = session(block).await;
    let cx = CallCx::default();
    session.push(&push("db", "p\"w"), &cx).await.unwrap();
    session.delete(&push("db/x", "").place, &cx).await.unwrap();
    let received = server.received();
    assert_eq!(server.lines(), ["POST /db/v", "DELETE /db%2Fx/%3Cno%20value%3E"]);
    assert_eq!(received[0].json(), json!({"v": "p\"w"}));
    assert!(received.iter().all(|asked| asked.header("x-key") == KEY));
    let error = session.push(&push("", "x"), &cx).await.unwrap_err();
    assert_eq!(error.detail, "remote key must be defined");
}

#[tokio::test]
async fn a_certificate_authority_and_a_timeout_of_its_own() {
    let pki = Pki::new();
    let server = FakeServer::start_tls(&pki, false, |_| Reply::text(200, "v")).await;
    let cluster = cluster().config_map("ca", "ca.crt", &String::from_utf8(pki.ca()).unwrap());
    let cx = cluster.cx(&outbound()).connect;
    let provider = json!({"type": "ConfigMap", "name": "ca", "key": "ca.crt"});
    let session = session_in(&cx, json!({"url": server.url, "result": {}, "caProvider": provider})).await.unwrap();
    assert_eq!(read(session.as_ref(), &want("x"), None).await.unwrap().expose_str(), Some("v"));
    assert_eq!(session.validate(&CallCx::default()).await, Ok(Validation::Ready));
    let slow = FakeServer::start(|_| Reply::never()).await;
    let session = session_in(&cx, json!({"url": slow.url, "result": {}, "timeout": "100ms"})).await.unwrap();
    let error = read(session.as_ref(), &want("x"), None).await.unwrap_err();
    assert_eq!((error.kind, error.detail.as_str()), (ErrorKind::Unavailable, "webhook: the server gave no answer in 0.1 s"));
    let error = redacted(session_in(&cx, json!({"url": slow.url, "result": {}, "timeout": "soon"})).await);
    assert!(error.detail.starts_with("spec.provider.webhook.timeout: "), "{error}");
    // A host that only a template knows cannot be tried.
    let session = session_in(&cx, json!({"url": "https://{{ .remoteRef.key }}", "result": {}})).await.unwrap();
    assert_eq!(session.validate(&CallCx::default()).await, Ok(Validation::Ready));
    let session = session_in(&cx, json!({"url": "http://127.0.0.1:1", "result": {}})).await.unwrap();
    assert_eq!(session.validate(&CallCx::default()).await.unwrap_err().kind, ErrorKind::Unavailable);
}
