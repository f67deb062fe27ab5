//! Webhook: asks an HTTP service, by a request out of templates, and takes the members of its answer.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, StatusCode};

use super::{GenerateCx, Generated, Generator, misconfigured};
use crate::api::generators::WebhookSpec;
use crate::chance::SystemChance;
use crate::outbound::{Answer, Call, TlsOptions};
use crate::plan::duration;
use crate::providers::{ErrorKind, ProviderError};
use crate::render::Entries;
use crate::render::json::{self, Json, byte_value};
use crate::render::jsonpath::{self, JsonPathError};
use crate::render::template::{Engine, Missing};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "webhook";
/// What a Secret says that may be used in a request.
const LABEL: (&str, &str) = ("external-secrets.io/type", "webhook");
/// Longest time for an answer, whatever the spec says.
const LONGEST: Duration = Duration::from_secs(300);

#[async_trait]
impl Generator for WebhookSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        if self.auth.as_ref().is_some_and(|auth| auth.ntlm.is_some()) {
            let text = "spec.auth.ntlm is not served by this version of keyferry: log in by a header";
            return Err(ProviderError::new(ErrorKind::Unsupported, text));
        }
        let bundle = self.ca_bundle.as_ref().map(|bytes| bytes.0.as_slice()).filter(|bytes| !bytes.is_empty());
        let ca = cx.connect.ca_bundle(bundle, self.ca_provider.as_ref(), "spec").await?;
        let client = cx.connect.outbound.client(&TlsOptions { ca, identity: None }, "spec")?;
        let call = self.call(&self.scope(cx).await?, cx)?;
        let answer = client.send(call, WHAT).await?;
        Ok(Generated { values: self.values(success(answer)?)?, ..Generated::default() })
    }
}

impl WebhookSpec {
    /// What the templates may use: the Secrets that are named, and that say so themselves.
    async fn scope(&self, cx: &GenerateCx) -> Result<BTreeMap<String, Entries>, ProviderError> {
        let mut scope = BTreeMap::new();
        for (i, secret) in self.secrets.iter().enumerate() {
            let what = format!("spec.secrets[{i}].secretRef");
            let entries = cx.connect.labelled_secret(&(&secret.secret_ref).into(), LABEL, &what).await?;
            scope.entry(secret.name.clone()).or_insert_with(Entries::new).extend(entries);
        }
        Ok(scope)
    }

    /// The request.
    fn call(&self, scope: &BTreeMap<String, Entries>, cx: &GenerateCx) -> Result<Call, ProviderError> {
        let mut engine = Engine::new(cx.now, &SystemChance);
        engine.missing = Missing::NoValue;
        let render = |field: &str, template: &str| {
            engine.render_groups(field, template, scope).map_err(|error| misconfigured(error.to_string()))
        };
        let url = render("spec.url", &self.url)?;
        let url = url.expose_str().ok_or_else(|| misconfigured("spec.url: the URL is not UTF-8 text".into()))?;
        let method = self.method.as_deref().filter(|method| !method.is_empty()).unwrap_or("GET");
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| misconfigured(format!("spec.method: {method:?} is not an HTTP method")))?;
        let mut call = Call::new(method, url, "spec.url")?.within(self.timeout()?);
        for (name, template) in &self.headers {
            let field = format!("spec.headers.{name}");
            call = call.header(name, render(&field, template)?.expose(), &field)?;
        }
        Ok(call.body(render("spec.body", self.body.as_deref().unwrap_or_default())?))
    }

    fn timeout(&self) -> Result<Duration, ProviderError> {
        let Some(text) = self.timeout.as_deref().filter(|text| !text.is_empty()) else { return Ok(Call::DEADLINE) };
        let given = duration::parse(text).ok().and_then(|given| Duration::try_from(given).ok());
        match given.ok_or_else(|| {
            misconfigured(format!("spec.timeout: {text:?} is not a duration such as \"10s\", of 0 or more"))
        })? {
            // For ever in Go.
            Duration::ZERO => Ok(Call::DEADLINE),
            given => Ok(given.min(LONGEST)),
        }
    }

    /// The members of the answer, or of the part of it that the path leads to; also where that is JSON inside of a text.
    fn values(&self, body: SecretBytes) -> Result<Entries, ProviderError> {
        let part = match self.result.json_path.as_deref().filter(|path| !path.is_empty()) {
            None => body,
            Some(path) => jsonpath::first(&body, path).map_err(|error| match error {
                JsonPathError::Path => misconfigured(format!("spec.result.jsonPath: {error}")),
                JsonPathError::Json | JsonPathError::Nothing => malformed(&error.to_string()),
            })?,
        };
        let not_json = || malformed("the answer is not JSON");
        let found = match json::parse(part.expose()).ok_or_else(not_json)? {
            Json::String(text) => json::parse(text.as_bytes()).ok_or_else(not_json)?,
            other => other,
        };
        match found {
            Json::Object(members) => Ok(members.into_iter().map(|(key, value)| (key, byte_value(&value))).collect()),
            _ => Err(malformed("what the answer holds is not a JSON object: name the object with spec.result.jsonPath")),
        }
    }
}

/// As in ESO, the service says with 404 that there is no such secret.
fn success(answer: Answer) -> Result<SecretBytes, ProviderError> {
    match answer.status {
        StatusCode::NOT_FOUND => {
            Err(ProviderError::new(ErrorKind::NotFound, format!("{WHAT}: Secret does not exist (404)")))
        }
        StatusCode::NOT_MODIFIED => Err(malformed("the server says that nothing has changed (304), but nothing was kept")),
        _ => Ok(answer.success(WHAT)?.body),
    }
}

fn malformed(text: &str) -> ProviderError {
    ProviderError::new(ErrorKind::Malformed, format!("{WHAT}: {text}"))
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
            (json!({"auth": {"ntlm": {"usernameSecret": key, "passwordSecret": key}}}), "spec.auth.ntlm"),
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
