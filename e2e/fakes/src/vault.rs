//! HashiCorp Vault, and OpenBao: the key-value engine in both versions, logins, and the tokens that come of them.
//!
//! The real server runs in the end-to-end tests. This one is for what it cannot do on demand: to be slow, to talk nonsense, to
//! refuse a renewal, and to count.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Map, Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply};

/// A token that Vault knows from the start.
pub const TOKEN: &str = "hvs.c4n4ry-6b1d";

/// The server.
pub struct Vault {
    state: Mutex<State>,
}

/// What it holds, and how it behaves.
pub struct State {
    /// Where the key-value engine is mounted.
    pub mount: String,
    /// Version of the engine.
    pub version: u8,
    /// Its secrets.
    pub secrets: BTreeMap<String, Secret>,
    /// The tokens that it knows, and whether each can be renewed.
    pub tokens: BTreeMap<String, bool>,
    /// How many logins there were.
    pub logins: usize,
    /// Seconds that a token is given by a login or a renewal.
    pub ttl: u64,
    /// Whether logins give tokens that can be renewed.
    pub renewable: bool,
    /// Refuses to log anybody in.
    pub refuses_login: bool,
    /// Refuses to renew.
    pub refuses_renewal: bool,
    /// Tokens may not ask about themselves.
    pub refuses_lookup: bool,
    /// Says that a token is unknown only as older servers do.
    pub terse: bool,
    /// Keys that no policy allows to be read.
    pub forbidden: Vec<String>,
    /// Is sealed.
    pub sealed: bool,
    requests: usize,
}

/// A secret.
#[derive(Clone, Debug, Default)]
pub struct Secret {
    /// Its versions; `None`: deleted. An engine without versions has one.
    pub versions: Vec<Option<Value>>,
    /// Its custom metadata.
    pub custom: Map<String, Value>,
}

impl Vault {
    /// A server whose key-value engine is of a version, mounted at a path.
    #[must_use]
    pub fn new(version: u8, mount: &str) -> Self {
        Self {
            state: Mutex::new(State {
                mount: mount.to_owned(),
                version,
                secrets: BTreeMap::new(),
                tokens: BTreeMap::from([(TOKEN.to_owned(), false)]),
                logins: 0,
                ttl: 3600,
                renewable: true,
                refuses_login: false,
                refuses_renewal: false,
                refuses_lookup: false,
                terse: false,
                forbidden: Vec::new(),
                sealed: false,
                requests: 0,
            }),
        }
    }

    /// Puts a version of a secret there, with custom metadata.
    pub fn put(&self, key: &str, value: Value, custom: &BTreeMap<String, String>) {
        let mut state = self.state.lock().unwrap();
        let secret = state.secrets.entry(key.to_owned()).or_default();
        secret.versions.push(Some(value));
        secret.custom.extend(custom.iter().map(|(name, value)| (name.clone(), json!(value))));
    }

    /// A look at what it holds, or a change of it.
    pub fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap())
    }
}

impl Fake for Vault {
    fn answer(&self, asked: &Received) -> Reply {
        self.with(|state| state.answer(asked))
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let reply = errors(refusal.status(), &format!("1 error occurred: * permission denied {CANARY}"));
        match refusal {
            Refusal::Throttled(seconds) => reply.with("retry-after", &seconds.to_string()),
            Refusal::Denied | Refusal::Broken => reply,
        }
    }
}

fn errors(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"errors": [text]}))
}

fn nothing() -> Reply {
    Reply::json(404, &json!({"errors": []}))
}

impl State {
    fn answer(&mut self, asked: &Received) -> Reply {
        self.requests += 1;
        if self.sealed {
            return errors(503, "Vault is sealed");
        }
        let steps = asked.steps();
        let path = steps.iter().skip(1).map(String::as_str).collect::<Vec<_>>().join("/");
        if path.starts_with("auth/") && path.contains("/login") {
            return self.log_in(&path, &asked.json());
        }
        let token = asked.header("x-vault-token");
        if !self.tokens.contains_key(token) {
            let text = "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n";
            return errors(403, if self.terse { "permission denied" } else { text });
        }
        match path.as_str() {
            "auth/token/lookup-self" if self.refuses_lookup => errors(403, "permission denied"),
            "auth/token/lookup-self" => self.tell(
                &json!({"ttl": self.ttl, "renewable": self.tokens[token], "type": "service", "id": CANARY}),
                &json!({}),
            ),
            "auth/token/renew-self" if self.refuses_renewal || !self.tokens[token] => errors(400, "lease is not renewable"),
            "auth/token/renew-self" => self.grant(token),
            "auth/token/revoke-self" => {
                self.tokens.remove(token);
                Reply::text(204, "")
            }
            _ if path == format!("sys/internal/ui/mounts/{}", self.mount) => {
                let options = json!({"version": self.version.to_string()});
                self.tell(&json!({"type": "kv", "options": options, "path": format!("{}/", self.mount)}), &json!({}))
            }
            _ => match path.strip_prefix(&format!("{}/", self.mount)).or((path == self.mount).then_some("")) {
                Some(inner) if self.version == 1 => self.plain(inner, asked),
                Some(inner) => self.versioned(inner, asked),
                None => errors(404, &format!("no handler for route {path:?}. route entry not found. {CANARY}")),
            },
        }
    }

    /// AppRole and Kubernetes are checked; of others, what they show is written down and believed.
    fn log_in(&mut self, path: &str, body: &Value) -> Reply {
        let good = match path {
            "auth/approle/login" => body["role_id"] == "role-1" && body["secret_id"] == "s3cret",
            "auth/kubernetes/login" => body["role"] == "app" && body["jwt"].as_str().is_some_and(|jwt| !jwt.is_empty()),
            _ => body.as_object().is_some_and(|body| !body.is_empty()),
        };
        if self.refuses_login || !good {
            return errors(400, &format!("invalid role or secret ID {CANARY}"));
        }
        self.logins += 1;
        let token = format!("hvs.login-{}-{CANARY}", self.logins);
        self.tokens.insert(token.clone(), self.renewable);
        self.grant(&token)
    }

    fn grant(&self, token: &str) -> Reply {
        let auth = json!({
            "client_token": token, "accessor": "accessor", "policies": ["default"], "token_policies": ["default"],
            "metadata": null, "lease_duration": self.ttl, "renewable": self.tokens[token], "entity_id": "e",
            "token_type": "service", "orphan": true, "mfa_requirement": null, "num_uses": 0,
        });
        self.tell(&Value::Null, &auth)
    }

    /// What goes well has an id that the audit log has too.
    fn tell(&self, data: &Value, auth: &Value) -> Reply {
        self.tell_with(200, data, auth)
    }

    fn tell_with(&self, status: u16, data: &Value, auth: &Value) -> Reply {
        let body = json!({
            "request_id": format!("request-{}", self.requests), "lease_id": "", "renewable": false, "lease_duration": 0,
            "data": data, "wrap_info": null, "warnings": null, "auth": if auth == &json!({}) { &Value::Null } else { auth },
            "mount_type": "kv",
        });
        Reply::json(status, &body)
    }

    fn list(&self, folder: &str) -> Reply {
        let folder = if folder.is_empty() { String::new() } else { format!("{}/", folder.trim_end_matches('/')) };
        let below = self.secrets.keys().filter_map(|key| key.strip_prefix(&folder));
        let mut keys: Vec<String> = below
            .map(|rest| rest.split_once('/').map_or_else(|| rest.to_owned(), |(first, _)| format!("{first}/")))
            .collect();
        keys.dedup();
        if keys.is_empty() { nothing() } else { self.tell(&json!({"keys": keys}), &json!({})) }
    }

    fn plain(&mut self, key: &str, asked: &Received) -> Reply {
        if asked.query("list").is_some() {
            return self.list(key);
        }
        if self.forbidden.iter().any(|forbidden| forbidden == key) {
            return errors(403, &format!("permission denied {CANARY}"));
        }
        match asked.method() {
            "GET" => match self.secrets.get(key).and_then(|secret| secret.versions.last()?.clone()) {
                Some(value) => self.tell(&value, &json!({})),
                None => nothing(),
            },
            "DELETE" => {
                self.secrets.remove(key);
                Reply::text(204, "")
            }
            _ => {
                let secret = Secret { versions: vec![Some(asked.json())], custom: Map::new() };
                self.secrets.insert(key.to_owned(), secret);
                Reply::text(204, "")
            }
        }
    }

    fn versioned(&mut self, inner: &str, asked: &Received) -> Reply {
        let (part, key) = inner.split_once('/').unwrap_or((inner, ""));
        if self.forbidden.iter().any(|forbidden| forbidden == key && part == "data") {
            return errors(403, &format!("permission denied {CANARY}"));
        }
        match (part, asked.method()) {
            ("metadata", "GET") if asked.query("list").is_some() => self.list(key),
            ("metadata", "GET") => match self.secrets.get(key) {
                Some(secret) => self.tell(&metadata(secret), &json!({})),
                None => nothing(),
            },
            ("metadata", "DELETE") => {
                self.secrets.remove(key);
                Reply::text(204, "")
            }
            ("metadata", _) => {
                let secret = self.secrets.entry(key.to_owned()).or_default();
                if let Some(custom) = asked.json()["custom_metadata"].as_object() {
                    secret.custom = custom.clone();
                }
                Reply::text(204, "")
            }
            ("data", "GET") => self.read_version(key, asked.query("version").as_deref().unwrap_or("0")),
            ("data", "DELETE") => {
                if let Some(last) = self.secrets.get_mut(key).and_then(|secret| secret.versions.last_mut()) {
                    *last = None;
                }
                Reply::text(204, "")
            }
            ("data", _) => self.write_version(key, &asked.json()),
            _ => {
                let mut body = json!({"errors": null, "data": null, "request_id": "r"});
                body["warnings"] = json!(["Invalid path for a versioned K/V secrets engine. See the API docs."]);
                Reply::json(404, &body)
            }
        }
    }

    fn read_version(&self, key: &str, asked: &str) -> Reply {
        let Ok(asked) = asked.parse::<usize>() else {
            return errors(400, "error converting input for field \"version\"");
        };
        let Some(secret) = self.secrets.get(key) else { return nothing() };
        let number = if asked == 0 { secret.versions.len() } else { asked };
        let Some(version) = number.checked_sub(1).and_then(|index| secret.versions.get(index)) else { return nothing() };
        let deleted = if version.is_none() { "2026-01-01T00:00:00Z" } else { "" };
        let custom = if secret.custom.is_empty() { Value::Null } else { Value::Object(secret.custom.clone()) };
        let metadata = json!({
            "created_time": "2026-01-01T00:00:00Z", "custom_metadata": custom, "deletion_time": deleted, "destroyed": false,
            "version": number,
        });
        let status = if version.is_none() { 404 } else { 200 };
        self.tell_with(status, &json!({"data": version, "metadata": metadata}), &json!({}))
    }

    fn write_version(&mut self, key: &str, body: &Value) -> Reply {
        let Some(data) = body.get("data").filter(|data| data.is_object()) else { return errors(400, "no data provided") };
        let secret = self.secrets.entry(key.to_owned()).or_default();
        let replaced = body["options"]["cas"].as_u64();
        if replaced.is_some_and(|replaced| replaced != secret.versions.len() as u64) {
            return errors(400, &format!("check-and-set parameter did not match the current version {CANARY}"));
        }
        secret.versions.push(Some(data.clone()));
        let number = secret.versions.len();
        self.tell(&json!({"version": number, "deletion_time": "", "destroyed": false}), &json!({}))
    }
}

fn metadata(secret: &Secret) -> Value {
    let custom = if secret.custom.is_empty() { Value::Null } else { Value::Object(secret.custom.clone()) };
    json!({
        "cas_required": false, "created_time": "2026-01-01T00:00:00Z", "current_version": secret.versions.len(),
        "custom_metadata": custom, "delete_version_after": "0s", "max_versions": 0, "oldest_version": 0,
        "updated_time": "2026-01-01T00:00:00Z", "versions": {},
    })
}
