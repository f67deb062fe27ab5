//! CyberArk Conjur: the part of its REST API that logs in, reads variables and lists resources, as its API document has it, with API keys,
//! tokens and client certificates. Its official Python client reads and writes it (`e2e/oracles/clients/conjur.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply};

/// Its account.
pub const ACCOUNT: &str = "shop";
/// The host that logs in, and its API key.
pub const HOST: &str = "host/apps/reader";
/// See [`HOST`].
pub const API_KEY: &str = "api-key-1";
/// Id of its authenticators for tokens and certificates.
pub const SERVICE: &str = "k8s/prod";

/// Most versions that are kept.
const VERSIONS: usize = 20;

#[derive(Clone, Default)]
struct Variable {
    versions: Vec<Vec<u8>>,
    annotations: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    variables: BTreeMap<String, Variable>,
    tokens: BTreeSet<String>,
    made: usize,
    denied: BTreeSet<String>,
    jwts: Vec<String>,
}

/// The service.
#[derive(Default)]
pub struct Conjur {
    state: Mutex<State>,
}

impl Conjur {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes a variable without a value.
    pub fn declare(&self, name: &str, annotations: &BTreeMap<String, String>) {
        self.state().variables.entry(name.to_owned()).or_default().annotations.extend(annotations.clone());
    }

    /// Gives a variable a value, or another one.
    pub fn put(&self, name: &str, value: impl AsRef<[u8]>) {
        let mut state = self.state();
        let versions = &mut state.variables.entry(name.to_owned()).or_default().versions;
        versions.push(value.as_ref().to_vec());
    }

    /// The present value of a variable.
    pub fn value(&self, name: &str) -> Option<String> {
        let state = self.state();
        let last = state.variables.get(name)?.versions.last()?;
        Some(String::from_utf8_lossy(last).into_owned())
    }

    /// The role may see a variable, and not read it.
    pub fn deny(&self, name: &str) {
        self.state().denied.insert(name.to_owned());
    }

    /// All tokens end.
    pub fn end_tokens(&self) {
        self.state().tokens.clear();
    }

    /// The JWTs that somebody logged in with.
    pub fn jwts(&self) -> Vec<String> {
        self.state().jwts.clone()
    }

    fn token(&self) -> Reply {
        let mut state = self.state();
        state.made += 1;
        let claims = STANDARD.encode(json!({"sub": HOST, "iat": state.made}).to_string());
        let token = json!({"protected": "e30=", "payload": claims, "signature": "c2lnbmVk"}).to_string();
        state.tokens.insert(token.clone());
        Reply::text(200, &token).with("content-type", "application/json")
    }

    fn login(&self, asked: &Received, host: &str, authenticator: &str) -> Reply {
        let good = match authenticator {
            "authn" => host == HOST && asked.body == API_KEY,
            "authn-jwt" => {
                let jwt = asked.form("jwt").unwrap_or_default();
                self.state().jwts.push(jwt.clone());
                (host.is_empty() || host == HOST) && jwt.split('.').count() == 3 || jwt.starts_with("token-of-sa")
            }
            // The connection was made with a certificate, or there would be none.
            _ => host.is_empty() || host == HOST,
        };
        if good { self.token() } else { failed(401, "unauthorized") }
    }

    fn value_of(&self, name: &str, version: Option<&str>) -> Result<Vec<u8>, Reply> {
        let state = self.state();
        let missing = || failed(404, &format!("Variable '{ACCOUNT}:variable:{name}' not found {CANARY}"));
        let Some(variable) = state.variables.get(name) else { return Err(missing()) };
        if state.denied.contains(name) {
            return Err(failed(403, &format!("Forbidden {CANARY}")));
        }
        let count = variable.versions.len();
        let number = match version {
            None => count,
            Some(version) => version.parse().map_err(|_| failed(422, "invalid type for parameter 'version'"))?,
        };
        let kept = number > count.saturating_sub(VERSIONS) && number <= count;
        let index = number.checked_sub(1).filter(|_| kept);
        index.map(|index| variable.versions[index].clone()).ok_or_else(missing)
    }

    fn batch(&self, asked: &Received) -> Reply {
        let ids = asked.query("variable_ids").unwrap_or_default();
        if ids.is_empty() {
            return failed(422, "variable_ids");
        }
        let base64 = asked.header("accept-encoding").eq_ignore_ascii_case("base64");
        let mut values = serde_json::Map::new();
        for id in ids.split(',') {
            let name = id.strip_prefix(&format!("{ACCOUNT}:variable:")).unwrap_or_default();
            let value = match self.value_of(name, None) {
                Ok(value) => value,
                Err(reply) => return reply,
            };
            let shown = match (base64, String::from_utf8(value.clone())) {
                (true, _) => STANDARD.encode(&value),
                (false, Ok(text)) => text,
                (false, Err(_)) => {
                    return failed(406, "Issue encoding secret into JSON format, try using 'Accept-Encoding: base64'");
                }
            };
            values.insert(id.to_owned(), Value::String(shown));
        }
        let reply = Reply::json(200, &Value::Object(values));
        if base64 { reply.with("content-encoding", "base64") } else { reply }
    }

    fn list(&self, asked: &Received) -> Reply {
        let number = |name: &str, default: usize| asked.query(name).and_then(|n| n.parse().ok()).unwrap_or(default);
        let search = asked.query("search").unwrap_or_default();
        let state = self.state();
        let found = state.variables.iter().filter(|(name, _)| name.contains(&search));
        let page = found.skip(number("offset", 0)).take(number("limit", usize::MAX));
        let page: Vec<Value> = page.map(|(name, variable)| shown(name, variable)).collect();
        Reply::json(200, &Value::Array(page))
    }
}

fn shown(name: &str, variable: &Variable) -> Value {
    let policy = format!("{ACCOUNT}:policy:root");
    let annotations: Vec<Value> =
        variable.annotations.iter().map(|(name, value)| json!({"name": name, "value": value, "policy": policy})).collect();
    json!({
        "created_at": "2026-01-02T03:04:05.000+00:00", "id": format!("{ACCOUNT}:variable:{name}"),
        "owner": format!("{ACCOUNT}:user:admin"), "policy": policy, "permissions": [], "annotations": annotations, "secrets": [],
    })
}

fn failed(status: u16, message: &str) -> Reply {
    let code = if status == 404 { "not_found" } else { "error" };
    Reply::json(status, &json!({"error": {"code": code, "message": message}}))
}

impl Fake for Conjur {
    fn answer(&self, asked: &Received) -> Reply {
        let steps = asked.steps();
        let step: Vec<&str> = steps.iter().map(String::as_str).collect();
        if asked.method() == "POST" {
            match step[..] {
                ["authn", ACCOUNT, host, "authenticate"] => return self.login(asked, host, "authn"),
                [authenticator @ ("authn-jwt" | "authn-cert"), SERVICE, ACCOUNT, "authenticate"] => {
                    return self.login(asked, "", authenticator);
                }
                [authenticator @ ("authn-jwt" | "authn-cert"), SERVICE, ACCOUNT, host, "authenticate"] => {
                    return self.login(asked, host, authenticator);
                }
                _ => {}
            }
        }
        let token = asked.header("authorization").strip_prefix("Token token=\"").and_then(|rest| rest.strip_suffix('"'));
        let token = token.and_then(|token| STANDARD.decode(token).ok()).and_then(|token| String::from_utf8(token).ok());
        if !token.is_some_and(|token| self.state().tokens.contains(&token)) {
            return failed(401, &format!("Authorization missing {CANARY}"));
        }
        match (asked.method(), &step[..]) {
            ("GET", ["whoami"]) => Reply::json(200, &json!({"account": ACCOUNT, "username": HOST})),
            ("GET", ["secrets"]) => self.batch(asked),
            ("GET", ["secrets", ACCOUNT, "variable", name]) => {
                match self.value_of(name, asked.query("version").as_deref()) {
                    Ok(value) => Reply::bytes(200, value),
                    Err(reply) => reply,
                }
            }
            ("POST", ["secrets", ACCOUNT, "variable", name]) if self.state().variables.contains_key(*name) => {
                self.put(name, &asked.bytes);
                Reply::text(201, "")
            }
            ("GET", ["resources", ACCOUNT]) if asked.query("kind").is_none_or(|kind| kind == "variable") => self.list(asked),
            ("GET", ["resources", ACCOUNT, "variable", name]) => match self.state().variables.get(*name) {
                Some(variable) => Reply::json(200, &shown(name, variable)),
                None => failed(404, "not found"),
            },
            _ => Reply::text(404, ""),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let reply = failed(refusal.status(), &format!("refused {CANARY}"));
        match refusal {
            Refusal::Throttled(seconds) => reply.with("retry-after", &seconds.to_string()),
            Refusal::Denied | Refusal::Broken => reply,
        }
    }
}
