//! Webhook: asks an HTTP service, by a request out of templates, and takes the members of its answer.

use std::time::Duration;

use async_trait::async_trait;

use super::{GenerateCx, Generated, Generator};
use crate::api::generators::WebhookSpec;
use crate::providers::ProviderError;
use crate::providers::webhook::request::{About, Requests, asked_timeout, success};

#[async_trait]
impl Generator for WebhookSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let requests = Requests::open(self.into(), "spec", &cx.connect).await?;
        let answer = requests.send(requests.call(&About::default(), cx.now)?).await?;
        let path = self.result.json_path.as_deref().unwrap_or_default();
        Ok(Generated { values: requests.members(&success(answer, None)?, path, None)?, ..Generated::default() })
    }

    fn timeout(&self) -> Option<Duration> {
        asked_timeout(self.timeout.as_deref())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::{Value, json};

    use super::*;
    use crate::generators::testing::cluster::{CANARY, Cluster, generate, redacted, spec, values};
    use crate::outbound::testing::{FakeServer, Pki, Reply, outbound};
    use crate::providers::ErrorKind;

    fn cluster() -> Cluster {
        let webhook = json!({"external-secrets.io/type": "webhook"});
        Cluster::new()
            .labelled_secret("login", &webhook, &[("user", "bob"), ("token", "t0ken")])
            .labelled_secret("other", &json!({}), &[("token", CANARY)])
            .labelled_secret("wrong", &json!({"external-secrets.io/type": "other"}), &[("token", CANARY)])
    }

    fn wanted(server: &FakeServer, more: Value) -> WebhookSpec {
        let mut all = json!({"url": server.url, "result": {}});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(all)
    }

    async fn answering(body: &str, more: Value) -> Result<Generated, ProviderError> {
        let reply = Reply::text(200, body);
        let server = FakeServer::start(move |_| reply.clone()).await;
        generate(&wanted(&server, more), &cluster(), &outbound()).await
    }

    fn login(name: &str) -> Value {
        json!([{"name": "auth", "secretRef": {"name": name}}])
    }

    #[tokio::test]
    async fn the_request_is_made_of_templates() {
        let server = FakeServer::start(|_| Reply::text(200, r#"{"a": "b"}"#)).await;
        let more = json!({
            "url": format!("{}/users/{{{{ .auth.user }}}}?gone={{{{ .auth.gone | quote }}}}", server.url), "method": "PATCH",
            "headers": {"Authorization": "Bearer {{ .auth.token }}", "Content-Type": "application/json"},
            "body": "{\"user\": {{ .auth.user | upper | quote }}}", "secrets": login("login"),
        });
        let made = generate(&wanted(&server, more), &cluster(), &outbound()).await.unwrap();
        assert_eq!(values(&made), [("a", "b")].into());
        let asked = &server.received()[0];
        assert!(asked.line.starts_with("PATCH /users/bob?gone="), "{}", asked.line);
        assert_eq!((asked.header("authorization"), asked.header("content-type")), ("Bearer t0ken", "application/json"));
        assert_eq!(asked.json(), json!({"user": "BOB"}));
    }

    /// How the login goes is tested where it is made.
    #[tokio::test]
    async fn a_login_by_ntlm_is_made_where_it_is_asked_for() {
        let ntlm = |name: &str| {
            let key = |key: &str| json!({"name": name, "key": key});
            json!({"auth": {"ntlm": {"usernameSecret": key("user"), "passwordSecret": key("token")}}})
        };
        let server = FakeServer::start(|asked| match asked.header("authorization") {
            "" => Reply::text(401, "").with("www-authenticate", "NTLM"),
            _ => Reply::text(200, r#"{"a": "b"}"#),
        })
        .await;
        let error = redacted(generate(&wanted(&server, ntlm("login")), &cluster(), &outbound()).await);
        assert_eq!(error.kind, ErrorKind::Malformed, "the server begins no login");
        let begun = server.received()[1].header("authorization").to_owned();
        assert!(begun.starts_with("NTLM TlRMTVNTUAABAAAA"), "{begun}");
        let open = FakeServer::start(|_| Reply::text(200, r#"{"a": "b"}"#)).await;
        let made = generate(&wanted(&open, ntlm("login")), &cluster(), &outbound()).await.unwrap();
        assert_eq!(values(&made), [("a", "b")].into());
        // Any Secret's value could be sent to any server else, if in the form of a proof.
        let error = redacted(generate(&wanted(&open, ntlm("other")), &cluster(), &outbound()).await);
        assert!(error.detail.contains("does not carry the label"), "{error}");
    }

    #[tokio::test]
    async fn without_more_it_is_a_plain_get() {
        let server = FakeServer::start(|_| Reply::text(201, r#"{"a": "b"}"#)).await;
        generate(&wanted(&server, json!({})), &cluster(), &outbound()).await.unwrap();
        assert_eq!((server.lines(), server.received()[0].body.as_str()), (vec!["GET /".to_owned()], ""));
    }

    #[tokio::test]
    async fn the_members_of_an_answer() {
        let body = r#"{"text": "x", "int": 12345678901234567890, "float": 1.50, "list": [1, "a"], "map": {"b": "<", "a": null}, "no": false, "null": null}"#;
        let want = [
            ("text", "x"),
            ("int", "12345678901234567000"),
            ("float", "1.5"),
            ("list", r#"[1,"a"]"#),
            ("map", r#"{"a":null,"b":"\u003c"}"#),
            ("no", "false"),
            ("null", ""),
        ];
        assert_eq!(values(&answering(body, json!({})).await.unwrap()), want.into());
    }

    #[tokio::test]
    async fn a_part_of_an_answer() {
        let path = |path: &str| json!({"result": {"jsonPath": path}});
        let nested = r#"{"data": [{"v": {"k": "1"}}], "text": "{\"k\": \"2\"}"}"#;
        assert_eq!(values(&answering(nested, path("$.data[0].v")).await.unwrap()), [("k", "1")].into());
        assert_eq!(values(&answering(nested, path("$.text")).await.unwrap()), [("k", "2")].into());
        assert_eq!(values(&answering(r#""{\"k\": \"3\"}""#, json!({})).await.unwrap()), [("k", "3")].into());
        for (bad, kind) in [
            ("$.gone", ErrorKind::Malformed),
            ("$.data", ErrorKind::Malformed),
            ("$.data[0].v.k", ErrorKind::Malformed),
            ("$[", ErrorKind::Misconfigured),
        ] {
            assert_eq!(redacted(answering(nested, path(bad)).await).kind, kind, "{bad}");
        }
    }

    /// GHSA-77v3-r3jw-j2v2 and its like: a request holds what the named Secrets hold, and those must say that they are for it.
    #[tokio::test]
    async fn templates_reach_no_other_secret() {
        let server = FakeServer::start(|_| Reply::text(200, r#"{"a": "b"}"#)).await;
        for name in ["other", "wrong"] {
            let more = json!({"headers": {"X": "{{ .auth.token }}"}, "secrets": login(name)});
            let error = redacted(generate(&wanted(&server, more), &cluster(), &outbound()).await);
            assert!(error.detail.contains("does not carry the label 'external-secrets.io/type: webhook'"), "{error}");
        }
        for function in [
            r#"{{ getSecretKey "other" "team-a" "token" }}"#,
            r#"{{ lookup "v1" "Secret" "team-a" "other" }}"#,
            r#"{{ env "HOME" }}"#,
            r#"{{ getHostByName "canary.example.test" }}"#,
        ] {
            let more = json!({"headers": {"X": function}, "secrets": login("login")});
            let error = redacted(generate(&wanted(&server, more), &cluster(), &outbound()).await);
            assert_eq!(error.kind, ErrorKind::Misconfigured, "{function}");
        }
        assert!(server.received().is_empty());
        let more = json!({"headers": {"X": "{{ .other }}"}, "secrets": login("login")});
        generate(&wanted(&server, more), &cluster(), &outbound()).await.unwrap();
        assert_eq!(server.received()[0].header("x"), "<no value>");
    }

    #[tokio::test]
    async fn a_certificate_authority_of_its_own() {
        let pki = Pki::new();
        let server = FakeServer::start_tls(&pki, false, |_| Reply::text(200, r#"{"a": "b"}"#)).await;
        for ca in [STANDARD.encode(pki.ca()), STANDARD.encode(STANDARD.encode(pki.ca()))] {
            generate(&wanted(&server, json!({"caBundle": ca})), &cluster(), &outbound()).await.unwrap();
        }
        let cluster = cluster().config_map("ca", "ca.crt", &String::from_utf8(pki.ca()).unwrap());
        let provider = json!({"type": "ConfigMap", "name": "ca", "key": "ca.crt"});
        generate(&wanted(&server, json!({"caProvider": provider})), &cluster, &outbound()).await.unwrap();
        // GHSA-wv26-88m5-6h59: not from another namespace.
        let provider = json!({"type": "ConfigMap", "name": "ca", "key": "ca.crt", "namespace": "team-b"});
        let error = redacted(generate(&wanted(&server, json!({"caProvider": provider})), &cluster, &outbound()).await);
        assert!(error.detail.contains("names namespace \"team-b\""), "{error}");
        let error = redacted(generate(&wanted(&server, json!({})), &cluster, &outbound()).await);
        assert!(error.detail.contains("not trusted"), "{error}");
    }

    #[tokio::test]
    async fn whatever_the_service_does_is_told_in_our_words() {
        for (status, kind) in [
            (302, ErrorKind::Misconfigured),
            (304, ErrorKind::Malformed),
            (401, ErrorKind::Denied),
            (404, ErrorKind::NotFound),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unavailable),
        ] {
            let server = FakeServer::start(move |_| Reply::text(status, CANARY)).await;
            assert_eq!(
                redacted(generate(&wanted(&server, json!({})), &cluster(), &outbound()).await).kind,
                kind,
                "{status}"
            );
        }
        for garbage in [CANARY, "", "[]", "17", &format!("\"{CANARY}\""), &format!("[{{\"x\": \"{CANARY}\"}}]")] {
            assert_eq!(redacted(answering(garbage, json!({})).await).kind, ErrorKind::Malformed, "{garbage:?}");
        }
        let server = FakeServer::start(|_| Reply::never()).await;
        let error = redacted(generate(&wanted(&server, json!({"timeout": "100ms"})), &cluster(), &outbound()).await);
        assert_eq!(
            (error.kind, error.detail.as_str()),
            (ErrorKind::Unavailable, "webhook: the server gave no answer in 0.1 s")
        );
    }

    #[test]
    fn a_timeout_is_asked_for_where_it_is_one() {
        for (given, asked) in [
            (json!({}), None),
            (json!({"timeout": ""}), None),
            (json!({"timeout": "soon"}), None),
            (json!({"timeout": "2m"}), Some(120)),
            (json!({"timeout": "1h"}), Some(300)),
        ] {
            let mut all = json!({"url": "https://x", "result": {}});
            all.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
            assert_eq!(Generator::timeout(&spec::<WebhookSpec>(all)), asked.map(Duration::from_secs), "{given}");
        }
    }

    #[tokio::test]
    async fn a_spec_that_is_wrong_is_told_without_its_values() {
        let server = FakeServer::start(|_| Reply::text(200, "{}")).await;
        let key = json!({"name": "login", "key": "token"});
        for (more, part) in [
            (json!({"url": "ftp://{{ .auth.token }}"}), "spec.url"),
            (json!({"url": "{{ .auth.token"}), "spec.url"),
            (json!({"method": "NO GOOD"}), "spec.method"),
            (json!({"timeout": "soon"}), "spec.timeout"),
            (json!({"headers": {"X": "a\n{{ .auth.token }}"}}), "spec.headers.X"),
            (json!({"body": "{{ fail .auth.token }}"}), "spec.body"),
            (
                json!({"auth": {"ntlm": {"usernameSecret": {"name": "login", "key": "gone"}, "passwordSecret": key}}}),
                "spec.auth.ntlm.usernameSecret",
            ),
            (
                json!({"auth": {"ntlm": {"usernameSecret": key, "passwordSecret": {"name": "other", "key": "token"}}}}),
                "spec.auth.ntlm.passwordSecret",
            ),
        ] {
            let mut more = more;
            more["secrets"] = login("login");
            let error = redacted(generate(&wanted(&server, more), &cluster(), &outbound()).await);
            assert!(error.detail.contains(part) && !error.detail.contains("t0ken"), "{part}: {error}");
        }
        assert!(server.received().is_empty());
    }

    #[tokio::test]
    async fn throttled_by_the_service() {
        // The other replies are looked at above: 404 means something else here.
        let server = FakeServer::start(|_| Reply::text(503, CANARY).with("retry-after", "9")).await;
        let error = redacted(generate(&wanted(&server, json!({})), &cluster(), &outbound()).await);
        assert_eq!((error.kind, error.retry_after), (ErrorKind::Unavailable, Some(Duration::from_secs(9))));
    }
}
