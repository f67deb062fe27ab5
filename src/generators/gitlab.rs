//! GitlabDeployToken: makes a deploy token of a project or group, and deletes it once its value is out of use.

use async_trait::async_trait;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{GenerateCx, Generated, Generator, misconfigured, state_of};
use crate::api::generators::GitlabDeployTokenSpec;
use crate::outbound::{Answer, Call, TlsOptions, secret, segment};
use crate::providers::ProviderError;
use crate::secret_bytes::SecretBytes;

const GITLAB: &str = "https://gitlab.com";
const WHAT: &str = "GitLab deploy token";

/// What GitLab answers, as far as we need it.
#[derive(Deserialize)]
struct Created {
    id: u64,
    username: String,
    #[serde(deserialize_with = "secret")]
    token: SecretBytes,
}

/// What cleaning up needs. The names are ESO's, so that what ESO made is cleaned up too.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    #[serde(default)]
    url: String,
    #[serde(rename = "projectID", default, skip_serializing_if = "Option::is_none")]
    project_id: Option<String>,
    #[serde(rename = "groupID", default, skip_serializing_if = "Option::is_none")]
    group_id: Option<String>,
    #[serde(rename = "tokenID", default)]
    token_id: u64,
}

#[async_trait]
impl Generator for GitlabDeployTokenSpec {
    async fn generate(&self, cx: &GenerateCx) -> Result<Generated, ProviderError> {
        let state = State {
            url: self.url.clone().unwrap_or_default(),
            project_id: self.project_id.clone(),
            group_id: self.group_id.clone(),
            token_id: 0,
        };
        let call =
            Call::new(Method::POST, &tokens_of(&state)?, "spec.url")?.json(SecretBytes::from(self.wishes().to_string()));
        let answer = self.send(call, cx).await?.success(WHAT)?;
        let Created { id, username, token } = answer.json(WHAT)?;
        let state = State { token_id: id, ..state };
        let values = [("username", SecretBytes::from(username)), ("token", token)];
        Ok(Generated { state: Some(json!(state)), ..Generated::values(values) })
    }

    async fn cleanup(&self, state: &Value, cx: &GenerateCx) -> Result<(), ProviderError> {
        let state: State = state_of(state)?;
        if state.token_id == 0 {
            return Ok(());
        }
        let call = Call::new(Method::DELETE, &format!("{}/{}", tokens_of(&state)?, state.token_id), "spec.url")?;
        let answer = self.send(call, cx).await?;
        if is_missing_token(&answer) { Ok(()) } else { answer.success(WHAT).map(drop) }
    }
}

/// GitLab's word that the token is gone: "404 Not found", as of any record below a project or group that is there. A project or group
/// that is gone, or that this login does not see, is named ("404 Project Not Found"); of an address it says so under another name.
fn is_missing_token(answer: &Answer) -> bool {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let is_word = |said: Said| said.message == "404 Not found" || said.message.contains("Deploy Token");
    answer.status == StatusCode::NOT_FOUND && answer.json(WHAT).is_ok_and(is_word)
}

impl GitlabDeployTokenSpec {
    fn wishes(&self) -> Value {
        let mut wishes = Map::from_iter([("name".into(), json!(self.name)), ("scopes".into(), json!(self.scopes))]);
        if let Some(username) = self.username.as_ref().filter(|name| !name.is_empty()) {
            wishes.insert("username".into(), json!(username));
        }
        if let Some(at) = &self.expires_at {
            wishes.insert("expires_at".into(), json!(at.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()));
        }
        Value::Object(wishes)
    }

    async fn send(&self, call: Call, cx: &GenerateCx) -> Result<Answer, ProviderError> {
        let what = "spec.auth.token.secretRef";
        let token = cx.connect.secret_text(&self.auth.token.secret_ref, what).await?;
        let call = call.header("private-token", token.expose(), what)?;
        cx.connect.outbound.client(&TlsOptions::default(), WHAT)?.send(call, WHAT).await
    }
}

/// Where the deploy tokens of the project or group are.
fn tokens_of(state: &State) -> Result<String, ProviderError> {
    let base = if state.url.is_empty() { GITLAB } else { state.url.trim_end_matches('/') };
    let named = |id: &Option<String>| id.clone().filter(|id| !id.is_empty());
    let (kind, id) = match (named(&state.project_id), named(&state.group_id)) {
        (Some(id), None) => ("projects", id),
        (None, Some(id)) => ("groups", id),
        _ => return Err(misconfigured("spec: exactly one of projectID and groupID must be set".into())),
    };
    Ok(format!("{base}/api/v4/{kind}/{}/deploy_tokens", segment(&id)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::generators::testing::cluster::{CANARY, Cluster, generate, misbehaving, redacted, spec, values};
    use crate::outbound::testing::{FakeServer, Received, Reply, outbound};
    use crate::providers::ErrorKind;

    /// The part of GitLab's documented API that is used: makes tokens and deletes those that are there.
    fn gitlab(asked: &Received) -> Reply {
        if asked.header("private-token") != "glpat-x" {
            return Reply::json(401, &json!({"message": "401 Unauthorized"}));
        }
        match asked.line.split_once(' ').unwrap() {
            ("POST", _) => {
                let body = json!({"id": 17, "name": "n", "username": "gitlab+deploy-token-17", "token": "gldt-made", "revoked": false});
                Reply::json(201, &body)
            }
            ("DELETE", path) if path.ends_with("/17") => Reply::text(204, ""),
            (_, path) if path.starts_with("/api/v4/projects/secret/") => {
                Reply::json(404, &json!({"message": "404 Project Not Found"}))
            }
            (_, path) if path.starts_with("/api/v4/") => Reply::json(404, &json!({"message": "404 Not found"})),
            _ => Reply::json(404, &json!({"error": "404 Not Found"})),
        }
    }

    fn wanted(server: &FakeServer, more: Value) -> GitlabDeployTokenSpec {
        let mut all = json!({
            "url": format!("{}/", server.url), "name": "pull", "scopes": ["read_registry", "read_repository"],
            "auth": {"token": {"secretRef": {"name": "gitlab", "key": "token"}}},
        });
        all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec(all)
    }

    fn cluster() -> Cluster {
        Cluster::new().secret("gitlab", "token", "glpat-x\n")
    }

    #[tokio::test]
    async fn a_token_is_made_and_taken_back() {
        let server = FakeServer::start(gitlab).await;
        let more = json!({"projectID": "group/app", "username": "bot", "expiresAt": "2027-01-01T01:00:00+01:00"});
        let wanted = wanted(&server, more);
        let made = generate(&wanted, &cluster(), &outbound()).await.unwrap();
        assert_eq!(values(&made), [("username", "gitlab+deploy-token-17"), ("token", "gldt-made")].into());
        let state = json!({"url": format!("{}/", server.url), "projectID": "group/app", "tokenID": 17});
        assert_eq!(made.state, Some(state.clone()));
        let asked = &server.received()[0];
        assert_eq!(asked.line, "POST /api/v4/projects/group%2Fapp/deploy_tokens");
        let body = json!({
            "name": "pull", "scopes": ["read_registry", "read_repository"], "username": "bot", "expires_at": "2027-01-01T00:00:00Z",
        });
        assert_eq!(asked.json(), body);

        let cx = cluster().cx(&outbound());
        wanted.cleanup(&state, &cx).await.unwrap();
        assert_eq!(server.lines()[1], "DELETE /api/v4/projects/group%2Fapp/deploy_tokens/17");
        // What is gone is gone.
        let gone = json!({"url": server.url, "groupID": "9", "tokenID": 18});
        wanted.cleanup(&gone, &cx).await.unwrap();
        assert_eq!(server.lines()[2], "DELETE /api/v4/groups/9/deploy_tokens/18");
        wanted.cleanup(&json!({"url": server.url, "groupID": "9"}), &cx).await.unwrap();
        assert_eq!(server.lines().len(), 3, "nothing was made, so nothing is deleted");
    }

    #[tokio::test]
    async fn only_gitlabs_word_on_the_token_says_that_it_is_gone() {
        let server = FakeServer::start(gitlab).await;
        let wanted = wanted(&server, json!({"groupID": "9"}));
        let cx = cluster().cx(&outbound());
        for (url, project) in [(server.url.clone(), "secret"), (format!("{}/other", server.url), "app")] {
            let state = json!({"url": url, "projectID": project, "tokenID": 18});
            assert_eq!(redacted(wanted.cleanup(&state, &cx).await).kind, ErrorKind::Misconfigured, "{state}");
        }
        let proxy = FakeServer::start(|_| Reply::text(404, CANARY)).await;
        let state = json!({"url": proxy.url, "projectID": "app", "tokenID": 18});
        assert_eq!(redacted(wanted.cleanup(&state, &cx).await).kind, ErrorKind::Misconfigured);
    }

    #[tokio::test]
    async fn clean_up_that_fails_is_told() {
        let server = FakeServer::start(|_| Reply::text(500, CANARY)).await;
        let state = json!({"url": server.url, "groupID": "9", "tokenID": 18});
        let cx = cluster().cx(&outbound());
        let error = redacted(wanted(&server, json!({"groupID": "9"})).cleanup(&state, &cx).await);
        assert_eq!(error.kind, ErrorKind::Unavailable);
        let error = redacted(wanted(&server, json!({})).cleanup(&json!({"tokenID": CANARY}), &cx).await);
        assert_eq!(error.kind, ErrorKind::Malformed);
    }

    #[tokio::test]
    async fn a_project_or_a_group() {
        let server = FakeServer::start(gitlab).await;
        for bad in [json!({}), json!({"projectID": "1", "groupID": "2"})] {
            let error = redacted(generate(&wanted(&server, bad), &cluster(), &outbound()).await);
            assert_eq!(error.detail, "spec: exactly one of projectID and groupID must be set");
        }
    }

    #[tokio::test]
    async fn whatever_gitlab_does_is_told_in_our_words() {
        let cluster = &cluster();
        misbehaving(|reply| async move {
            let server = FakeServer::start(move |_| reply.clone()).await;
            generate(&wanted(&server, json!({"projectID": "1"})), cluster, &outbound()).await
        })
        .await;
    }
}
