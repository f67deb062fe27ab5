//! Akeyless: the part of its REST API ("V2") that reads, lists and writes items, as its OpenAPI document has it, with logins by access key
//! and by a ServiceAccount's token. Its official Python client reads and writes it (`e2e/oracles/clients/akeyless_client.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Reply};

/// The access id and the access key that it takes.
pub const ACCESS_ID: &str = "p-access1";
/// See [`ACCESS_ID`].
pub const ACCESS_KEY: &str = "access-key-1";
/// Name of its Kubernetes configuration.
pub const K8S_CONFIG: &str = "k8s-conf";

/// Most items in a page of a list.
const PAGE: usize = 50;

#[derive(Clone, Default)]
struct Item {
    kind: &'static str,
    versions: Vec<Value>,
    tags: Vec<String>,
}

#[derive(Default)]
struct State {
    items: BTreeMap<String, Item>,
    tokens: BTreeSet<String>,
    made: usize,
    denied: BTreeSet<String>,
    jwts: Vec<String>,
    endless: bool,
}

/// The service, or a gateway.
#[derive(Default)]
pub struct Akeyless {
    state: Mutex<State>,
    /// Where the API is: empty, or `/v2` as gateways have it.
    below: &'static str,
}

impl Akeyless {
    /// A gateway, whose API is below `/v2`.
    pub fn gateway() -> Self {
        Self { below: "/v2", ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a static secret in, or a new version of it.
    pub fn put(&self, name: &str, value: &str, tags: &[&str]) {
        self.put_item("STATIC_SECRET", name, &json!(value), tags);
    }

    /// Puts an item of another type in: `DYNAMIC_SECRET`, `ROTATED_SECRET`, `CERTIFICATE`.
    pub fn put_item(&self, kind: &'static str, name: &str, value: &Value, tags: &[&str]) {
        let mut state = self.state();
        let item = state.items.entry(normal(name)).or_default();
        item.kind = kind;
        item.versions.push(value.clone());
        item.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    }

    /// Removes an item.
    pub fn remove(&self, name: &str) {
        self.state().items.remove(&normal(name));
    }

    /// The present value of a static secret.
    pub fn value(&self, name: &str) -> Option<String> {
        let state = self.state();
        let last = state.items.get(&normal(name))?.versions.last()?;
        last.as_str().map(str::to_owned)
    }

    /// Tags of an item.
    pub fn tags(&self, name: &str) -> Vec<String> {
        self.state().items.get(&normal(name)).map(|item| item.tags.clone()).unwrap_or_default()
    }

    /// The identity may not read an item.
    pub fn deny(&self, name: &str) {
        self.state().denied.insert(normal(name));
    }

    /// Lists say that there is one more page, again and again.
    pub fn list_without_end(&self) {
        self.state().endless = true;
    }

    /// All tokens end.
    pub fn end_tokens(&self) {
        self.state().tokens.clear();
    }

    /// The tokens of ServiceAccounts that somebody logged in with.
    pub fn jwts(&self) -> Vec<String> {
        self.state().jwts.clone()
    }

    fn login(&self, body: &Value) -> Reply {
        let is = |field: &str, value: &str| body[field] == value;
        let jwt = body["k8s-service-account-token"].as_str().and_then(|token| STANDARD.decode(token).ok());
        let jwt = jwt.and_then(|token| String::from_utf8(token).ok()).filter(|token| !token.is_empty());
        let good = match body["access-type"].as_str() {
            None | Some("access_key") => is("access-key", ACCESS_KEY),
            Some("k8s") => is("k8s-auth-config-name", K8S_CONFIG) && jwt.is_some(),
            Some(_) => false,
        };
        if !is("access-id", ACCESS_ID) || !good {
            return failed(401, &format!("Authentication failed {CANARY} {body}"));
        }
        let mut state = self.state();
        state.jwts.extend(jwt);
        state.made += 1;
        let claims = json!({"exp": 4_102_444_800_u64, "n": state.made});
        let token = format!("t-x.{}.y", URL_SAFE_NO_PAD.encode(claims.to_string()));
        state.tokens.insert(token.clone());
        Reply::json(200, &json!({"token": token, "expiration": "4102444800"}))
    }

    fn describe(&self, name: &str) -> Reply {
        let state = self.state();
        match state.items.get(name) {
            Some(_) if state.denied.contains(name) => failed(403, &format!("access denied {CANARY}")),
            Some(item) => Reply::json(200, &shown(name, item)),
            None => failed(404, &format!("failed to describe item: item {name} not found {CANARY}")),
        }
    }

    fn value_of(&self, kind: &str, name: &str, version: Option<u64>) -> Result<Value, Reply> {
        let state = self.state();
        let found = state.items.get(name).filter(|item| item.kind == kind);
        let Some(item) = found else { return Err(failed(404, &format!("item {name} not found"))) };
        if state.denied.contains(name) {
            return Err(failed(403, &format!("access denied {CANARY}")));
        }
        let number = version.filter(|number| *number > 0).map_or(item.versions.len(), |number| number as usize);
        item.versions.get(number - 1).cloned().ok_or_else(|| failed(404, &format!("version not found {CANARY}")))
    }

    fn list(&self, body: &Value) -> Reply {
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let (filter, tag, from) = (text("filter"), text("tag"), text("pagination-token").parse().unwrap_or(0));
        let wanted = |kind: &str| {
            let kind = kind.to_lowercase().replace('_', "-");
            body["type"].as_array().is_none_or(|types| types.iter().any(|wanted| *wanted == kind))
        };
        let state = self.state();
        let all: Vec<Value> = state
            .items
            .iter()
            .filter(|(name, item)| {
                name.contains(&filter) && wanted(item.kind) && (tag.is_empty() || item.tags.contains(&tag))
            })
            .map(|(name, item)| shown(name, item))
            .collect();
        let next = (state.endless || all.len() > from + PAGE).then(|| (from + PAGE).to_string());
        let page: Vec<&Value> = all.iter().skip(from).take(PAGE).collect();
        Reply::json(200, &json!({"items": page, "next_page": next}))
    }

    fn write(&self, endpoint: &str, name: &str, body: &Value) -> Reply {
        let mut state = self.state();
        let there = state.items.contains_key(name);
        match (endpoint, there) {
            ("create-secret", true) => return failed(409, "item already exists"),
            ("update-secret-val" | "delete-item", false) => return failed(404, "item not found"),
            _ if state.denied.contains(name) => return failed(403, &format!("access denied {CANARY}")),
            ("delete-item", true) => drop(state.items.remove(name)),
            _ => {
                let item = state.items.entry(name.to_owned()).or_default();
                item.kind = "STATIC_SECRET";
                item.versions.push(body["value"].clone());
                let tags = body["tags"].as_array().into_iter().flatten();
                item.tags.extend(tags.filter_map(|tag| tag.as_str().map(str::to_owned)));
            }
        }
        Reply::json(200, &json!({"name": name}))
    }
}

/// A name as Akeyless keeps it.
fn normal(name: &str) -> String {
    format!("/{}", name.trim_start_matches('/'))
}

fn shown(name: &str, item: &Item) -> Value {
    json!({
        "item_name": name, "item_id": 1, "item_type": item.kind, "item_tags": item.tags, "last_version": item.versions.len(),
        "is_enabled": true,
    })
}

fn failed(status: u16, error: &str) -> Reply {
    Reply::json(status, &json!({"error": error}))
}

impl Fake for Akeyless {
    fn answer(&self, asked: &Received) -> Reply {
        let Some(endpoint) = asked.path().strip_prefix(self.below).and_then(|path| path.strip_prefix('/')) else {
            return failed(404, "unknown command");
        };
        let body = asked.json();
        if endpoint == "auth" {
            return self.login(&body);
        }
        if !body["token"].as_str().is_some_and(|token| self.state().tokens.contains(token)) {
            return failed(401, &format!("Unauthorized, token expired {CANARY}"));
        }
        let asked_name = body["name"].as_str().or_else(|| body["names"].as_str()).unwrap_or_default().to_owned();
        let name = normal(&asked_name);
        let version = body["version"].as_u64();
        let whole = |kind: &str| match self.value_of(kind, &name, version) {
            Ok(value) => Reply::json(200, &value),
            Err(reply) => reply,
        };
        match endpoint {
            "describe-item" => self.describe(&name),
            "list-items" => self.list(&body),
            "get-secret-value" => {
                let mut values = serde_json::Map::new();
                for asked in body["names"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                    match self.value_of("STATIC_SECRET", &normal(asked), version) {
                        Ok(value) => drop(values.insert(asked.to_owned(), value)),
                        Err(reply) => return reply,
                    }
                }
                Reply::json(200, &Value::Object(values))
            }
            "get-dynamic-secret-value" => whole("DYNAMIC_SECRET"),
            "get-rotated-secret-value" => whole("ROTATED_SECRET"),
            "get-certificate-value" => whole("CERTIFICATE"),
            "create-secret" | "update-secret-val" | "delete-item" => self.write(endpoint, &name, &body),
            _ => failed(404, "unknown command"),
        }
    }
}
