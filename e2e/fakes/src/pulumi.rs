//! Pulumi ESC: the REST API as Pulumi's reference and the generated SDKs have it: definitions as YAML, whose secrets are given out
//! encrypted or decrypted; environments that are opened and then read; versions; the exchange of a ServiceAccount's token. Of
//! definitions, `fn::secret` is evaluated. Pulumi's official Python client reads and writes it (`e2e/oracles/clients/pulumi.py`).

use std::sync::{Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply, digest};

/// The access token that it takes.
pub const TOKEN: &str = "pul-access-token-1";
/// What it gives for the token of a ServiceAccount.
const OIDC_TOKEN: &str = "pul-oidc-token-1";
/// Its only environment.
pub const ORGANIZATION: &str = "acme";
/// See [`ORGANIZATION`].
pub const PROJECT: &str = "shop";
/// See [`ORGANIZATION`].
pub const ENVIRONMENT: &str = "prod";

#[derive(Default)]
struct State {
    /// Definitions, the newest last, each with the tags of its version.
    revisions: Vec<(Value, Vec<String>)>,
    opened: Vec<Value>,
    /// What ServiceAccounts' tokens were for, as it was asked.
    exchanged: Vec<Value>,
}

/// The service.
pub struct Pulumi {
    state: Mutex<State>,
}

impl Pulumi {
    /// One whose environment has these values.
    pub fn new(values: Value) -> Self {
        let state = State { revisions: vec![(json!({"values": values}), Vec::new())], ..State::default() };
        Self { state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts an older version of the environment under a tag.
    pub fn tag_older(&self, tag: &str, values: Value) {
        self.state().revisions.insert(0, (json!({"values": values}), vec![tag.to_owned()]));
    }

    /// Replaces the definition.
    pub fn define(&self, definition: Value) {
        self.state().revisions.push((definition, Vec::new()));
    }

    /// The definition as it is now, with its secrets.
    pub fn definition(&self) -> Value {
        self.state().revisions.last().unwrap().0.clone()
    }

    /// How often an environment was opened.
    pub fn opened(&self) -> usize {
        self.state().opened.len()
    }

    /// What the exchanges of tokens were asked with.
    pub fn exchanged(&self) -> Vec<Value> {
        self.state().exchanged.clone()
    }

    fn revision(&self, version: Option<&str>) -> Option<Value> {
        let state = self.state();
        let found = match version {
            None | Some("latest") => state.revisions.last(),
            Some(version) => match version.parse::<usize>() {
                Ok(number) => state.revisions.get(number.checked_sub(1)?),
                Err(_) => state.revisions.iter().find(|(_, tags)| tags.iter().any(|tag| tag == version)),
            },
        };
        Some(found?.0.clone())
    }

    fn open(&self, version: Option<&str>) -> Reply {
        let Some(definition) = self.revision(version) else { return not_found() };
        let mut properties = Map::new();
        for (key, value) in definition["values"].as_object().into_iter().flatten() {
            match evaluated(value) {
                Some(value) => properties.insert(key.clone(), value),
                None => {
                    let diagnostic = json!({"summary": format!("unknown function {CANARY}")});
                    return Reply::json(400, &json!({"code": 400, "message": CANARY, "diagnostics": [diagnostic]}));
                }
            };
        }
        let mut state = self.state();
        state.opened.push(json!({"properties": properties, "exprs": {}, "schema": {}}));
        Reply::json(200, &json!({"id": format!("session-{}", state.opened.len())}))
    }

    fn read(&self, session: &str, asked: &Received) -> Reply {
        let state = self.state();
        let number = session.strip_prefix("session-").and_then(|number| number.parse::<usize>().ok()).unwrap_or_default();
        let Some(opened) = number.checked_sub(1).and_then(|at| state.opened.get(at)) else { return not_found() };
        let Some(property) = asked.query("property") else { return Reply::json(200, opened) };
        let mut steps = property.split('.');
        let first = steps.next().and_then(|step| opened["properties"].get(step));
        match steps.try_fold(first, |value, step| value.map(|value| value["value"].get(step))).flatten() {
            Some(value) => Reply::json(200, value),
            None => not_found(),
        }
    }

    fn update(&self, asked: &Received) -> Reply {
        let mut state = self.state();
        let (current, _) = state.revisions.last().unwrap();
        if !asked.header("etag").is_empty() && asked.header("etag") != tag(current) {
            return Reply::json(409, &json!({"code": 409, "message": "Conflict: the environment changed"}));
        }
        match serde_saphyr::from_str::<Value>(&asked.body) {
            Ok(Value::Object(definition)) => {
                state.revisions.push((with_secrets(&Value::Object(definition), &from_cipher), Vec::new()));
                Reply::json(200, &json!({"diagnostics": []}))
            }
            _ => Reply::json(400, &json!({"code": 400, "message": CANARY})),
        }
    }

    fn define_reply(&self, definition: Option<Value>, secrets: &dyn Fn(&Value) -> Value) -> Reply {
        let Some(definition) = definition else { return not_found() };
        let text = with_secrets(&definition, secrets).to_string();
        Reply::text(200, &text).with("content-type", "application/x-yaml").with("etag", &tag(&definition))
    }

    fn exchange(&self, asked: &Received) -> Reply {
        let body = asked.json();
        self.state().exchanged.push(body.clone());
        if body["organization"] != ORGANIZATION || body["token"].as_str().is_none_or(str::is_empty) {
            return Reply::json(400, &json!({"error": "invalid_grant", "error_description": CANARY}));
        }
        Reply::json(200, &json!({"access_token": OIDC_TOKEN, "token_type": "token", "expires_in": 7200}))
    }
}

fn tag(definition: &Value) -> String {
    format!("\"{}\"", digest(definition.to_string().as_bytes()))
}

/// The value of an expression, as an open environment has it; None: it cannot be evaluated.
fn evaluated(expression: &Value) -> Option<Value> {
    let trace = json!({"def": {"environment": ENVIRONMENT, "begin": {"line": 2, "column": 3, "byte": 9}, "end": {"line": 2, "column": 4, "byte": 10}}});
    Some(match expression {
        Value::Object(map) if map.contains_key("fn::secret") => {
            let mut inner = evaluated(&map["fn::secret"])?;
            inner["secret"] = true.into();
            inner
        }
        Value::Object(map) if map.keys().any(|key| key.starts_with("fn::")) => return None,
        Value::Object(map) => {
            let members = map.iter().map(|(key, value)| Some((key.clone(), evaluated(value)?)));
            json!({"value": members.collect::<Option<Map<_, _>>>()?, "trace": trace})
        }
        Value::Array(items) => {
            json!({"value": items.iter().map(evaluated).collect::<Option<Vec<_>>>()?, "trace": trace})
        }
        leaf => json!({"value": leaf, "trace": trace}),
    })
}

/// A definition with each of its secrets replaced.
fn with_secrets(value: &Value, replace: &dyn Fn(&Value) -> Value) -> Value {
    match value {
        Value::Object(map) => {
            let member = |(key, value): (&String, &Value)| {
                let value = if key == "fn::secret" { replace(value) } else { with_secrets(value, replace) };
                (key.clone(), value)
            };
            Value::Object(map.iter().map(member).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| with_secrets(item, replace)).collect()),
        leaf => leaf.clone(),
    }
}

fn to_cipher(plain: &Value) -> Value {
    json!({"ciphertext": STANDARD.encode(plain.to_string())})
}

fn from_cipher(value: &Value) -> Value {
    let plain = value["ciphertext"].as_str().and_then(|text| STANDARD.decode(text).ok());
    plain.and_then(|plain| serde_json::from_slice(&plain).ok()).unwrap_or_else(|| value.clone())
}

fn not_found() -> Reply {
    Reply::json(404, &json!({"code": 404, "message": format!("Not Found: {CANARY}")}))
}

impl Fake for Pulumi {
    fn answer(&self, asked: &Received) -> Reply {
        let steps = asked.steps();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        if steps == ["api", "oauth", "oidc", "token"] {
            return self.exchange(asked);
        }
        let login = asked.header("authorization").strip_prefix("token ").unwrap_or_default();
        if ![TOKEN, OIDC_TOKEN].contains(&login) {
            return Reply::json(401, &json!({"code": 401, "message": format!("Unauthorized: {CANARY}")}));
        }
        let Some(below) = steps.strip_prefix(&["api", "esc", "environments", ORGANIZATION]) else {
            return self.refuse(Refusal::Denied);
        };
        if below.is_empty() && asked.method() == "GET" {
            let one = json!({"organization": ORGANIZATION, "project": PROJECT, "name": ENVIRONMENT, "created": "", "modified": ""});
            return Reply::json(200, &json!({"environments": [one]}));
        }
        let Some(below) = below.strip_prefix(&[PROJECT, ENVIRONMENT]) else { return not_found() };
        match (asked.method(), below) {
            ("HEAD", []) => Reply::text(200, ""),
            ("GET", []) => self.define_reply(self.revision(None), &to_cipher),
            ("GET", ["decrypt"]) => self.define_reply(self.revision(None), &Value::clone),
            ("GET", ["versions", version]) => self.define_reply(self.revision(Some(version)), &to_cipher),
            ("PATCH", []) => self.update(asked),
            ("POST", ["open"]) => self.open(None),
            ("POST", ["versions", version, "open"]) => self.open(Some(version)),
            // The client of one property sends an empty step.
            ("GET", ["open", session] | ["open", "", session]) => self.read(session, asked),
            _ => self.refuse(Refusal::Denied),
        }
    }
}
