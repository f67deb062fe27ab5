//! IBM Cloud Secrets Manager: version 2 of its REST API, and the token endpoint of IBM Cloud's identity service beside it, as IBM's
//! API reference and the generated SDKs have them: secrets of all types with payload, by id and by group, type and name; versions,
//! groups, pages. IBM's official Python client reads and writes it (`e2e/oracles/clients/ibm.py`).

use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply};

/// The API key that it takes.
pub const API_KEY: &str = "ibm-api-key-1";
/// The token of a Pod that it takes, and the trusted profile that goes with it.
pub const POD_TOKEN: &str = "pod.token.1";
/// See [`POD_TOKEN`].
pub const PROFILE: &str = "reader";
/// Most secrets in one page, whatever is asked for.
const PAGE: usize = 50;

/// A secret, with its older versions first.
struct Kept {
    id: String,
    group: String,
    versions: Vec<(String, Map<String, Value>)>,
}

#[derive(Default)]
struct State {
    secrets: Vec<Kept>,
    groups: Vec<String>,
    made: usize,
    ended: usize,
}

/// The service.
#[derive(Default)]
pub struct Ibm {
    state: Mutex<State>,
}

impl Ibm {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a secret in a group, or a new version of it; returns its id.
    pub fn put(&self, group: &str, kind: &str, name: &str, fields: Value) -> String {
        self.put_version(group, kind, name, fields, None)
    }

    /// As [`Ibm::put`], with an id of the version.
    pub fn put_version(&self, group: &str, kind: &str, name: &str, fields: Value, version: Option<&str>) -> String {
        let mut state = self.state();
        state.made += 1;
        let made = state.made;
        let version = version.map_or_else(|| uuid(1, made), str::to_owned);
        let mut whole = fields.as_object().unwrap().clone();
        whole.insert("name".to_owned(), name.into());
        whole.insert("secret_type".to_owned(), kind.into());
        if !state.groups.iter().any(|known| known == group) {
            state.groups.push(group.to_owned());
        }
        let same = |kept: &&mut Kept| kept.group == group && kept.is(kind, name);
        if let Some(kept) = state.secrets.iter_mut().find(same) {
            kept.versions.push((version, whole));
            return kept.id.clone();
        }
        let id = uuid(2, made);
        state.secrets.push(Kept { id: id.clone(), group: group.to_owned(), versions: vec![(version, whole)] });
        id
    }

    /// Ends all tokens.
    pub fn end_tokens(&self) {
        self.state().ended += 1;
    }

    /// The last payload of an arbitrary secret.
    pub fn payload(&self, group: &str, name: &str) -> Option<String> {
        let state = self.state();
        let kept = state.secrets.iter().find(|kept| kept.group == group && kept.is("arbitrary", name))?;
        Some(kept.last()["payload"].as_str()?.to_owned())
    }

    /// A token in the form that IBM's clients look into.
    fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({"iat": now, "exp": now + 3600, "nonce": self.state().ended});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.{}", part(&json!({"alg": "RS256", "typ": "JWT"})), part(&claims), URL_SAFE_NO_PAD.encode("signature"))
    }

    fn holds(&self, token: &str) -> bool {
        let claims = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Value = claims.and_then(|claims| serde_json::from_slice(&claims).ok()).unwrap_or_default();
        claims["nonce"] == self.state().ended
    }

    fn log_in(&self, asked: &Received) -> Reply {
        let field = |name: &str| asked.form(name).unwrap_or_default();
        let ok = match field("grant_type").as_str() {
            "urn:ibm:params:oauth:grant-type:apikey" => field("apikey") == API_KEY,
            "urn:ibm:params:oauth:grant-type:cr-token" => field("cr_token") == POD_TOKEN && field("profile_name") == PROFILE,
            _ => false,
        };
        if !ok {
            let body =
                json!({"errorCode": "BXNIM0415E", "errorMessage": format!("Provided API key {CANARY} could not be found.")});
            return Reply::json(400, &body);
        }
        let token = self.token();
        let body = json!({
            "access_token": token, "refresh_token": "not_supported", "token_type": "Bearer", "expires_in": 3600,
            "expiration": SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3600, "scope": "ibm openid",
        });
        Reply::json(200, &body)
    }

    fn list(&self, asked: &Received) -> Reply {
        let number = |name: &str, default: usize| asked.query(name).and_then(|text| text.parse().ok()).unwrap_or(default);
        let (offset, limit) = (number("offset", 0), number("limit", 200).min(PAGE));
        let state = self.state();
        let all: Vec<&Kept> = state.secrets.iter().collect();
        let page: Vec<Value> = all.iter().skip(offset).take(limit).map(|kept| kept.metadata(&state.groups)).collect();
        let place = |offset: usize| json!({"href": format!("/api/v2/secrets?offset={offset}&limit={limit}")});
        let mut body = json!({
            "total_count": all.len(), "limit": limit, "offset": offset, "first": place(0), "last": place(all.len()), "secrets": page,
        });
        if offset + limit < all.len() {
            body["next"] = place(offset + limit);
        }
        Reply::json(200, &body)
    }

    fn create(&self, asked: &Received) -> Reply {
        let mut fields = asked.json();
        let text = |name: &str| fields[name].as_str().unwrap_or("default").to_owned();
        let (name, kind, group) = (text("name"), text("secret_type"), text("secret_group_id"));
        let group =
            self.state().groups.iter().enumerate().find(|(i, _)| uuid(3, *i) == group).map_or(group, |(_, g)| g.clone());
        fields.as_object_mut().unwrap().remove("secret_group_id");
        let id = self.put(&group, &kind, &name, fields);
        self.one(|kept| kept.id == id, 201)
    }

    fn one(&self, is: impl Fn(&Kept) -> bool, status: u16) -> Reply {
        let state = self.state();
        match state.secrets.iter().find(|kept| is(kept)) {
            Some(kept) => Reply::json(status, &kept.whole(&state.groups)),
            None => not_found(),
        }
    }

    fn version(&self, id: &str, version: &str) -> Reply {
        let state = self.state();
        let Some(kept) = state.secrets.iter().find(|kept| kept.id == id) else { return not_found() };
        let found = match version {
            "current" => kept.versions.last(),
            "previous" => kept.versions.iter().rev().nth(1),
            version => kept.versions.iter().find(|(known, _)| known == version),
        };
        let Some((version, fields)) = found else { return not_found() };
        let mut whole = fields.clone();
        whole.remove("name");
        whole.insert("secret_name".to_owned(), fields["name"].clone());
        whole.insert("secret_id".to_owned(), id.into());
        whole.insert("id".to_owned(), version.as_str().into());
        Reply::json(200, &Value::Object(whole))
    }
}

impl Kept {
    fn last(&self) -> &Map<String, Value> {
        &self.versions.last().unwrap().1
    }

    fn is(&self, kind: &str, name: &str) -> bool {
        self.last()["secret_type"] == kind && self.last()["name"] == name
    }

    fn whole(&self, groups: &[String]) -> Value {
        let mut whole = self.last().clone();
        let group = groups.iter().position(|group| *group == self.group).unwrap_or_default();
        whole.insert("id".to_owned(), self.id.as_str().into());
        whole.insert("secret_group_id".to_owned(), uuid(3, group).into());
        whole.entry("labels").or_insert_with(|| json!([]));
        whole.insert("versions_total".to_owned(), self.versions.len().into());
        whole.insert("state_description".to_owned(), "active".into());
        Value::Object(whole)
    }

    /// What is told of it without its value.
    fn metadata(&self, groups: &[String]) -> Value {
        let mut told = self.whole(groups);
        let known =
            ["id", "name", "secret_type", "secret_group_id", "labels", "versions_total", "state_description", "description"];
        told.as_object_mut().unwrap().retain(|field, _| known.contains(&field.as_str()));
        told
    }
}

fn uuid(of: usize, number: usize) -> String {
    format!("0000000{of}-0000-4000-8000-{number:012x}")
}

fn not_found() -> Reply {
    let error = json!({"code": "not_found", "message": format!("The secret {CANARY} does not exist.")});
    Reply::json(404, &json!({"errors": [error], "status_code": 404, "trace": "1"}))
}

impl Fake for Ibm {
    fn answer(&self, asked: &Received) -> Reply {
        let steps = asked.steps();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        if steps == ["identity", "token"] {
            return self.log_in(asked);
        }
        if !asked.header("authorization").strip_prefix("Bearer ").is_some_and(|token| self.holds(token)) {
            return Reply::json(401, &json!({"errors": [{"code": "unauthorized", "message": CANARY}]}));
        }
        match (asked.method(), steps.as_slice()) {
            ("GET", ["api", "v2", "secrets"]) => self.list(asked),
            ("POST", ["api", "v2", "secrets"]) => self.create(asked),
            ("GET", ["api", "v2", "secrets", id]) => self.one(|kept| kept.id == *id, 200),
            ("GET", ["api", "v2", "secrets", id, "versions", version]) => self.version(id, version),
            ("GET", ["api", "v2", "secret_groups"]) => {
                let state = self.state();
                let groups = state.groups.iter().enumerate().map(|(i, name)| json!({"id": uuid(3, i), "name": name}));
                Reply::json(200, &json!({"secret_groups": groups.collect::<Vec<_>>(), "total_count": state.groups.len()}))
            }
            ("GET", ["api", "v2", "secret_groups", group, "secret_types", kind, "secrets", name]) => {
                self.one(|kept| kept.group == *group && kept.is(kind, name), 200)
            }
            _ => self.refuse(Refusal::Denied),
        }
    }
}
