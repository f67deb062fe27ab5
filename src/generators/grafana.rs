//! Grafana: makes a token of a service account, which is made too where it is missing, and deletes the token once its value is
//! out of use. The service account stays, as others may use it.

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{GenerateCx, Generated, Generator, misconfigured, state_of};
use crate::api::generators::GrafanaSpec;
use crate::outbound::{Answer, Call, TlsOptions, query, secret};
use crate::providers::ProviderError;
use crate::secret_bytes::SecretBytes;

const WHAT: &str = "Grafana service account token";

/// A page of a search.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    service_accounts: Vec<Account>,
}

/// A service account.
#[derive(Deserialize)]
struct Account {
    id: i64,
    name: String,
    login: String,
}

/// A token that was made.
#[derive(Deserialize)]
struct Token {
    id: i64,
    #[serde(deserialize_with = "secret")]
    key: SecretBytes,
}

/// What cleaning up needs. The names are ESO's, so that what ESO made is cleaned up too.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    service_account: StateAccount,
}

#[derive(Serialize, Deserialize)]
struct StateAccount {
    id: i64,
    #[serde(default)]
    login: String,
    #[serde(rename = "tokenID")]
    token_id: i64,
}

#[async_trait]
impl Generator for GrafanaSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let account = match self.find(cx).await? {
            Some(account) => account,
            None => self.create(cx).await?,
        };
        let mut name = [0; 16];
        cx.random(&mut name)?;
        let mut wishes = json!({"name": format!("{:032x}", u128::from_be_bytes(name))});
        if let Some(seconds) = self.service_account.seconds_to_live {
            wishes["secondsToLive"] = json!(seconds);
        }
        let path = format!("serviceaccounts/{}/tokens", account.id);
        let Token { id, key } = self.send(Method::POST, &path, Some(&wishes), cx).await?.success(WHAT)?.json(WHAT)?;
        let state = State { service_account: StateAccount { id: account.id, login: account.login.clone(), token_id: id } };
        let values = [("login", SecretBytes::from(account.login)), ("token", key)];
        Ok(Generated { state: Some(json!(state)), ..Generated::values(values) })
    }

    async fn cleanup(&self, state: &Value, cx: &GenerateCx) -> Result<(), ProviderError> {
        let StateAccount { id, token_id, .. } = state_of::<State>(state)?.service_account;
        let answer = self.send(Method::DELETE, &format!("serviceaccounts/{id}/tokens/{token_id}"), None, cx).await?;
        if is_missing_token(&answer) { Ok(()) } else { answer.success(WHAT).map(drop) }
    }
}

/// Grafana's word that the token is gone. Another 404 is that of a wrong address, or of an account that these credentials do not see.
fn is_missing_token(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let is_word = |said: Said| said.message.contains("service account token not found");
    answer.status == StatusCode::NOT_FOUND && answer.json(WHAT).is_ok_and(is_word)
}

impl GrafanaSpec {
    /// The service account of that name: the search finds parts of names too.
    async fn find(&self, cx: &GenerateCx) -> Result<Option<Account>, ProviderError> {
        let name = &self.service_account.name;
        let query = query(&[("query", name)]);
        let answer = self.send(Method::GET, &format!("serviceaccounts/search?{query}"), None, cx).await?;
        let found: Found = answer.success(WHAT)?.json(WHAT)?;
        Ok(found.service_accounts.into_iter().find(|account| account.name == *name))
    }

    async fn create(&self, cx: &GenerateCx) -> Result<Account, ProviderError> {
        let wishes = json!({"name": self.service_account.name, "role": self.service_account.role});
        self.send(Method::POST, "serviceaccounts", Some(&wishes), cx).await?.success(WHAT)?.json(WHAT)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        cx: &GenerateCx,
    ) -> Result<Answer, ProviderError> {
        let call = Call::new(method, &format!("{}/api/{path}", self.url.trim_end_matches('/')), "spec.url")?;
        let call = self.login(call, cx).await?;
        let call = match body {
            Some(body) => call.json(SecretBytes::from(body.to_string())),
            None => call,
        };
        cx.connect.outbound.client(&TlsOptions::default(), WHAT)?.send(call, WHAT).await
    }

    async fn login(&self, call: Call, cx: &GenerateCx) -> Result<Call, ProviderError> {
        if let Some(token) = &self.auth.token {
            let what = "spec.auth.token";
            return call.bearer(&cx.connect.secret_text(&token.into(), what).await?, what);
        }
        let Some(basic) = &self.auth.basic else {
            return Err(misconfigured("spec.auth: one of token and basic must be set".into()));
        };
        let what = "spec.auth.basic.password";
        let password = cx.connect.secret_text(&(&basic.password).into(), what).await?;
        call.basic(basic.username.as_bytes(), &password, what)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::generators::testing::cluster::{CANARY, Cluster, generate, misbehaving, redacted, spec, values};
    use crate::outbound::testing::{FakeServer, Received, Reply, outbound};
    use crate::providers::ErrorKind;

    /// The part of Grafana's documented API that is used; one service account is there.
    fn grafana(asked: &Received) -> Reply {
        if !["Bearer glsa_x", "Basic YWRtaW46cGFzcw=="].contains(&asked.header("authorization")) {
            return Reply::json(401, &json!({"message": "Invalid API key"}));
        }
        match asked.line.as_str() {
            "GET /grafana/api/serviceaccounts/search?query=ci" | "GET /grafana/api/serviceaccounts/search?query=new+one" => {
                let there = json!([
                    {"id": 1, "name": "ci-old", "login": "sa-ci-old", "role": "Viewer"},
                    {"id": 2, "name": "ci", "login": "sa-ci", "role": "Viewer"},
                ]);
                Reply::json(200, &json!({"totalCount": 2, "serviceAccounts": there, "page": 1, "perPage": 1000}))
            }
            "POST /grafana/api/serviceaccounts" => {
                let body = json!({"id": 3, "name": "new one", "login": "sa-new-one", "role": "Editor", "tokens": 0});
                Reply::json(201, &body)
            }
            line if line.starts_with("POST") => Reply::json(200, &json!({"id": 7, "name": "x", "key": "glsa_made"})),
            "DELETE /grafana/api/serviceaccounts/2/tokens/7" => {
                Reply::json(200, &json!({"message": "Service account token deleted"}))
            }
            line if line.starts_with("DELETE /grafana/api/serviceaccounts/2/tokens/") => {
                Reply::json(404, &json!({"message": "service account token not found", "statusCode": 404}))
            }
            line if line.starts_with("DELETE /grafana/api/serviceaccounts/") => {
                Reply::json(404, &json!({"message": "service account not found", "statusCode": 404}))
            }
            _ => Reply::text(404, "<html>404 page not found</html>"),
        }
    }

    fn wanted(server: &FakeServer, auth: Value, account: Value) -> GrafanaSpec {
        spec(json!({"url": format!("{}/grafana/", server.url), "auth": auth, "serviceAccount": account}))
    }

    fn token() -> Value {
        json!({"token": {"name": "login", "key": "token"}})
    }

    fn cluster() -> Cluster {
        Cluster::new().labelled_secret("login", &json!({}), &[("token", "glsa_x"), ("password", "pass")])
    }

    #[tokio::test]
    async fn a_token_of_an_account_that_is_there() {
        let server = FakeServer::start(grafana).await;
        let wanted = wanted(&server, token(), json!({"name": "ci", "role": "Viewer"}));
        let made = generate(&wanted, &cluster(), &outbound()).await.unwrap();
        assert_eq!(values(&made), [("login", "sa-ci"), ("token", "glsa_made")].into());
        let state = json!({"serviceAccount": {"id": 2, "login": "sa-ci", "tokenID": 7}});
        assert_eq!(made.state, Some(state.clone()));
        let asked = server.received();
        assert_eq!(asked.len(), 2, "the account is not made again");
        assert_eq!(asked[1].line, "POST /grafana/api/serviceaccounts/2/tokens");
        let body = asked[1].json();
        assert_eq!((body["name"].as_str().unwrap().len(), body.get("secondsToLive")), (32, None));

        let cx = cluster().cx(&outbound());
        wanted.cleanup(&state, &cx).await.unwrap();
        assert_eq!(server.lines()[2], "DELETE /grafana/api/serviceaccounts/2/tokens/7");
        let gone = json!({"serviceAccount": {"id": 2, "login": "sa-ci", "tokenID": 8}});
        wanted.cleanup(&gone, &cx).await.unwrap();
        assert_eq!(redacted(wanted.cleanup(&json!({"x": CANARY}), &cx).await).kind, ErrorKind::Malformed);

        // What is not Grafana's word on the token takes nothing back.
        let of_others = json!({"serviceAccount": {"id": 9, "login": "sa-ci", "tokenID": 7}});
        assert_eq!(redacted(wanted.cleanup(&of_others, &cx).await).kind, ErrorKind::Misconfigured);
        let elsewhere = GrafanaSpec { url: server.url.clone(), ..wanted };
        assert_eq!(redacted(elsewhere.cleanup(&gone, &cx).await).kind, ErrorKind::Misconfigured);
    }

    #[tokio::test]
    async fn an_account_that_is_missing_is_made() {
        let server = FakeServer::start(grafana).await;
        let basic = json!({"basic": {"username": "admin", "password": {"name": "login", "key": "password"}}});
        let account = json!({"name": "new one", "role": "Editor", "secondsToLive": 3600});
        let made = generate(&wanted(&server, basic, account), &cluster(), &outbound()).await.unwrap();
        assert_eq!(values(&made), [("login", "sa-new-one"), ("token", "glsa_made")].into());
        let asked = server.received();
        assert_eq!(asked[1].json(), json!({"name": "new one", "role": "Editor"}));
        assert_eq!(asked[2].line, "POST /grafana/api/serviceaccounts/3/tokens");
        assert_eq!(asked[2].json()["secondsToLive"], 3600);
    }

    #[tokio::test]
    async fn a_login_is_needed() {
        let server = FakeServer::start(grafana).await;
        let account = json!({"name": "ci", "role": "Viewer"});
        let error = redacted(generate(&wanted(&server, json!({}), account), &cluster(), &outbound()).await);
        assert_eq!(error.detail, "spec.auth: one of token and basic must be set");
    }

    #[tokio::test]
    async fn whatever_grafana_does_is_told_in_our_words() {
        let cluster = &cluster();
        for call in ["GET", "POST"] {
            misbehaving(|reply| async move {
                let answer =
                    move |asked: &Received| if asked.line.starts_with(call) { reply.clone() } else { grafana(asked) };
                let server = FakeServer::start(answer).await;
                generate(&wanted(&server, token(), json!({"name": "ci", "role": "Viewer"})), cluster, &outbound()).await
            })
            .await;
        }
    }
}
