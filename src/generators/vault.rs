//! VaultDynamicSecret: what a path of Vault answers, as keys and values.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde_json::json;

use super::{GenerateCx, Generated, Generator};
use crate::api::generators::{VaultDynamicSecretSpec, VaultResultType};
use crate::providers::vault::{Request, Retries, VaultClient};
use crate::providers::{ErrorKind, ProviderError};
use crate::render::Entries;
use crate::render::json::{self, Json, byte_value};
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "dynamic secret of Vault";

/// The members that Vault's client knows, with what they are when the server leaves them out. `None`: then they are left out too.
type Shape = [(&'static str, Option<Json>)];

fn answer_shape() -> [(&'static str, Option<Json>); 9] {
    [
        ("request_id", Some(Json::String(String::new()))),
        ("lease_id", Some(Json::String(String::new()))),
        ("lease_duration", Some(Json::Number(0.0))),
        ("renewable", Some(Json::Bool(false))),
        ("data", Some(Json::Null)),
        ("warnings", Some(Json::Null)),
        ("auth", None),
        ("wrap_info", None),
        ("mount_type", None),
    ]
}

fn auth_shape() -> [(&'static str, Option<Json>); 11] {
    [
        ("client_token", Some(Json::String(String::new()))),
        ("accessor", Some(Json::String(String::new()))),
        ("policies", Some(Json::Null)),
        ("token_policies", Some(Json::Null)),
        ("identity_policies", Some(Json::Null)),
        ("metadata", Some(Json::Null)),
        ("orphan", Some(Json::Bool(false))),
        ("entity_id", Some(Json::String(String::new()))),
        ("lease_duration", Some(Json::Number(0.0))),
        ("renewable", Some(Json::Bool(false))),
        ("mfa_requirement", Some(Json::Null)),
    ]
}

#[async_trait]
impl Generator for VaultDynamicSecretSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let retries = Retries::of(self.retry_settings.as_ref(), "spec.retrySettings")?;
        let client = VaultClient::login(&self.provider, "spec.provider", retries, &cx.connect).await?;
        let Some(body) = client.request(&self.request(), WHAT, &cx.call).await? else {
            if self.allow_empty_response == Some(true) {
                return Ok(Generated::default());
            }
            let text = format!("{WHAT}: empty response from Vault for path {:?}", self.path);
            return Err(ProviderError::new(ErrorKind::Malformed, text));
        };
        let values = self.values(&body).ok_or_else(|| {
            ProviderError::new(ErrorKind::Malformed, format!("{WHAT}: the answer is not the JSON that Vault sends"))
        })?;
        Ok(Generated { values, state: None })
    }
}

impl VaultDynamicSecretSpec {
    fn request(&self) -> Request {
        match self.method.as_deref().unwrap_or_default() {
            "" | "GET" => {
                let pairs = self.get_parameters.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)));
                let query = pairs.map(|(name, value)| (name.clone(), value.clone())).collect();
                Request { query, ..Request::read(&self.path) }
            }
            "LIST" => Request::list(&self.path),
            "DELETE" => Request::delete(&self.path),
            _ => {
                let parameters = self.parameters.clone().unwrap_or_else(|| json!({}));
                Request::write(&self.path, SecretBytes::from(parameters.to_string()))
            }
        }
    }

    /// The keys and values of an answer; `None` where it is none of Vault's.
    fn values(&self, body: &SecretBytes) -> Option<Entries> {
        match self.result_type.unwrap_or_default() {
            VaultResultType::Data => data(body),
            VaultResultType::Auth => match object(body)?.remove("auth") {
                None | Some(Json::Null) => Some(Entries::new()),
                Some(Json::Object(auth)) => Some(shaped(auth, &auth_shape())),
                Some(_) => None,
            },
            VaultResultType::Raw => {
                let mut answer = object(body)?;
                if let Some(Json::Object(auth)) = answer.remove("auth") {
                    let auth = with_shape(auth, &auth_shape());
                    answer.insert("auth".to_owned(), Json::Object(auth));
                }
                answer.retain(|_, value| *value != Json::Null);
                Some(shaped(answer, &answer_shape()))
            }
        }
    }
}

/// The members of `data`. Numbers are as Vault wrote them, as its client keeps them as text.
fn data(body: &SecretBytes) -> Option<Entries> {
    let members = json::members(body.expose())?;
    let is_vaults = members.iter().any(|(name, _)| name == "data" || name == "auth");
    let Some((_, data)) = members.iter().rev().find(|(name, _)| name == "data") else {
        return is_vaults.then(Entries::new);
    };
    let value = |raw: &[u8]| match raw.first() {
        Some(b'{' | b'[') => json::parse(raw).map(|nested| byte_value(&nested)),
        _ => Some(json::unquoted(raw)),
    };
    json::members(data)?.into_iter().map(|(name, raw)| Some((name, value(raw)?))).collect()
}

fn object(body: &SecretBytes) -> Option<BTreeMap<String, Json>> {
    match json::parse(body.expose())? {
        Json::Object(object) if object.contains_key("data") || object.contains_key("auth") => Some(object),
        _ => None,
    }
}

fn with_shape(mut object: BTreeMap<String, Json>, shape: &Shape) -> BTreeMap<String, Json> {
    shape
        .iter()
        .filter_map(|(name, default)| Some(((*name).to_owned(), object.remove(*name).or_else(|| default.clone())?)))
        .collect()
}

fn shaped(object: BTreeMap<String, Json>, shape: &Shape) -> Entries {
    with_shape(object, shape).into_iter().map(|(name, value)| (name, byte_value(&value))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::generators::testing::cluster::{CANARY, Cluster, generate, redacted, spec, values};
    use crate::outbound::testing::{FakeServer, Reply, outbound};
    use crate::providers::vault::testing::{TOKEN, errors, vault};

    fn wanted(server: &FakeServer, more: Value) -> VaultDynamicSecretSpec {
        let token = json!({"tokenSecretRef": {"name": "vault", "key": "token"}});
        let mut all = json!({"path": "/database/creds/app", "provider": {"server": server.url, "auth": token}});
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(all)
    }

    async fn run(server: &FakeServer, more: Value) -> Result<Generated, ProviderError> {
        generate(&wanted(server, more), &Cluster::new().secret("vault", "token", TOKEN), &outbound()).await
    }

    #[tokio::test]
    async fn data_becomes_keys() {
        let server = vault().await;
        let made = run(&server, json!({})).await.unwrap();
        assert_eq!(values(&made), [("username", "u"), ("password", "p")].into());
        assert!(made.state.is_none());
        assert_eq!(server.lines(), ["GET /v1/database/creds/app"]);
    }

    #[tokio::test]
    async fn values_that_are_no_text() {
        let made = run(&vault().await, json!({"path": "odd/values"})).await.unwrap();
        let want = [
            ("int", "12345678901234567890"),
            ("float", "1.50"),
            ("list", r#"["a",1]"#),
            ("map", r#"{"a":null,"b":"\u003c"}"#),
            ("null", ""),
            ("yes", "true"),
        ];
        assert_eq!(values(&made), want.into());
    }

    #[tokio::test]
    async fn methods() {
        let server = vault().await;
        let query = json!({"path": "pki/cert", "method": "GET", "getParameters": {"common_name": ["a.test", "b.test"]}});
        assert_eq!(values(&run(&server, query).await.unwrap()), [("n", "2")].into());
        let list = run(&server, json!({"path": "kv", "method": "LIST"})).await.unwrap();
        assert_eq!(values(&list), [("keys", r#"["a","b"]"#)].into());
        let write = json!({"path": "transit/sign", "method": "POST", "parameters": {"input": "aGk="}});
        assert_eq!(values(&run(&server, write).await.unwrap()), [("signature", "aGk=")].into());
        assert_eq!(server.lines()[2], "PUT /v1/transit/sign");
    }

    #[tokio::test]
    async fn an_empty_answer_is_an_error_unless_it_is_allowed() {
        let server = vault().await;
        for empty in [
            json!({"path": "kv/a", "method": "DELETE"}),
            json!({"path": "gone"}),
            json!({"path": "sys/leases/revoke", "method": "PUT"}),
        ] {
            let error = redacted(run(&server, empty.clone()).await);
            assert!(error.detail.contains("empty response from Vault"), "{error}");
            let mut allowed = empty;
            allowed["allowEmptyResponse"] = json!(true);
            assert!(run(&server, allowed).await.unwrap().values.is_empty());
        }
    }

    #[tokio::test]
    async fn the_login_in_an_answer() {
        let server = vault().await;
        let auth = json!({"path": "auth/token/create", "method": "POST", "resultType": "Auth"});
        let want = [
            ("client_token", "hvs.made"),
            ("accessor", "acc"),
            ("policies", r#"["default"]"#),
            ("token_policies", r#"["default"]"#),
            ("identity_policies", ""),
            ("metadata", ""),
            ("orphan", "false"),
            ("entity_id", ""),
            ("lease_duration", "2764800"),
            ("renewable", "true"),
            ("mfa_requirement", ""),
        ];
        assert_eq!(values(&run(&server, auth).await.unwrap()), want.into());
        assert!(run(&server, json!({"resultType": "Auth"})).await.unwrap().values.is_empty());
    }

    #[tokio::test]
    async fn an_answer_as_it_is() {
        let made = run(&vault().await, json!({"resultType": "Raw"})).await.unwrap();
        let want = [
            ("request_id", "r-1"),
            ("lease_id", "database/creds/app/l1"),
            ("lease_duration", "3600"),
            ("renewable", "true"),
            ("data", r#"{"password":"p","username":"u"}"#),
            ("warnings", ""),
            ("mount_type", "database"),
        ];
        assert_eq!(values(&made), want.into());
    }

    #[tokio::test]
    async fn whatever_vault_does_is_told_in_our_words() {
        let none = json!({"retrySettings": {"maxRetries": 0}});
        for (status, kind) in [
            (400, ErrorKind::Misconfigured),
            (403, ErrorKind::Denied),
            (405, ErrorKind::Misconfigured),
            (429, ErrorKind::Throttled),
            (500, ErrorKind::Unavailable),
            (503, ErrorKind::Unavailable),
        ] {
            let server = FakeServer::start(move |_| errors(status)).await;
            assert_eq!(redacted(run(&server, none.clone()).await).kind, kind, "{status}");
        }
        for garbage in [
            CANARY.to_owned(),
            "[]".into(),
            "{}".into(),
            format!("{{\"data\": {CANARY}}}"),
            format!("{{\"data\": [\"{CANARY}\"]}}"),
        ] {
            let reply = Reply::text(200, &garbage);
            let server = FakeServer::start(move |_| reply.clone()).await;
            for kind in ["Data", "Auth", "Raw"] {
                let result = run(&server, json!({"resultType": kind})).await;
                if let Err(error) = &result {
                    assert_eq!(error.kind, ErrorKind::Malformed, "{garbage}");
                }
                assert!(kind != "Data" || result.is_err(), "{garbage}");
                let _ = result.map_err(|error| redacted::<()>(Err(error)));
            }
        }
    }
}
