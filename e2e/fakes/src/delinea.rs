//! Delinea DevOps Secrets Vault: the part of its REST API that logs clients in and reads secrets, as Delinea's clients for Go and Python have
//! it. Its official Python client reads it (`e2e/oracles/clients/delinea_vault.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Reply};

/// Id of the client that it takes.
pub const CLIENT_ID: &str = "client-id-1";
/// Secret of the client.
pub const CLIENT_SECRET: &str = "client-secret-1";

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, (Value, usize)>,
    tokens: BTreeSet<String>,
    made: usize,
}

/// The service of one tenant.
#[derive(Default)]
pub struct Delinea {
    state: Mutex<State>,
}

impl Delinea {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a secret in, or a new version of it.
    pub fn put(&self, path: &str, data: &Value) {
        let mut state = self.state();
        let entry = state.secrets.entry(path.to_owned()).or_default();
        *entry = (data.clone(), entry.1 + 1);
    }

    /// All tokens end.
    pub fn end_tokens(&self) {
        self.state().tokens.clear();
    }

    fn login(&self, body: &Value) -> Reply {
        let is = |field: &str, value: &str| body[field] == value;
        if !is("grant_type", "client_credentials") || !is("client_id", CLIENT_ID) || !is("client_secret", CLIENT_SECRET) {
            return failed(401, &format!("unauthorized {CANARY} {body}"));
        }
        let mut state = self.state();
        state.made += 1;
        let token = format!("dsv-token-{}", state.made);
        state.tokens.insert(token.clone());
        Reply::json(200, &json!({"accessToken": token, "tokenType": "bearer", "expiresIn": 3600}))
    }
}

/// What the gateway before the service says.
fn no_page() -> Reply {
    Reply::json(404, &json!({"message": "Not Found"}))
}

fn failed(code: u16, message: &str) -> Reply {
    Reply::json(code, &json!({"code": code, "message": message}))
}

impl Fake for Delinea {
    fn answer(&self, asked: &Received) -> Reply {
        let steps = asked.steps();
        let Some(version) = steps.iter().position(|step| step == "v1") else { return no_page() };
        let step: Vec<&str> = steps[version + 1..].iter().map(String::as_str).collect();
        if (asked.method(), step.as_slice()) == ("POST", &["token"]) {
            return self.login(&asked.json());
        }
        let token = asked.header("authorization").strip_prefix("Bearer ").unwrap_or_default().to_owned();
        let state = self.state();
        if !state.tokens.contains(&token) {
            return failed(401, &format!("unauthorized {CANARY}"));
        }
        match (asked.method(), step.as_slice()) {
            ("GET", ["secrets", path @ ..]) => match state.secrets.get(&path.join("/")) {
                Some((data, version)) => Reply::json(
                    200,
                    &json!({
                        "id": "c5239f40-7e29-4ea1-9e1c-1a2b3c4d5e6f", "path": path.join(":"), "attributes": {}, "description": "",
                        "data": data, "created": "2026-01-02T03:04:05Z", "lastModified": "2026-01-02T03:04:05Z",
                        "createdBy": "users:x", "lastModifiedBy": "users:x", "version": version.to_string(),
                    }),
                ),
                None => failed(404, &format!("unable to find item with specified identifier {CANARY}")),
            },
            _ => no_page(),
        }
    }
}
