//! Doppler's API, as <https://docs.doppler.com/reference/api> and Doppler's own clients (CLI, SDK) have it: secrets of one config of one
//! project, read by name or as a download with an entity tag, written by `secrets` or `change_requests`; and the login by OIDC.
//!
//! Unlike the real one, it takes names of any letters.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Map, Value, json};

use crate::{Fake, Received, Refusal, Reply};

/// The project and the config that there are.
pub const PROJECT: &str = "backend";
/// See [`PROJECT`].
pub const CONFIG: &str = "prd";
/// A token of that config alone, which needs to name neither.
pub const SERVICE_TOKEN: &str = "dp.st.prd.c4n4ry-6b1d-service";
/// A token of a person, who must say what is meant.
pub const PERSONAL_TOKEN: &str = "dp.pt.c4n4ry-6b1d-personal";
/// The service account identity that may log in by OIDC.
pub const IDENTITY: &str = "0c5ab7b0-1c3e-4c9e-9d3c-7d1f6f0f3c11";
/// When tokens end that OIDC brings, as Doppler says it.
const ENDS: &str = "2036-01-01T00:00:00.000Z";

/// Doppler.
#[derive(Default)]
pub struct Doppler {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    secrets: BTreeMap<String, String>,
    logins: Vec<String>,
    revoked: bool,
}

impl Doppler {
    /// With these secrets.
    pub fn new<N: Into<String>, V: Into<String>>(secrets: impl IntoIterator<Item = (N, V)>) -> Self {
        let secrets = secrets.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { state: Mutex::new(State { secrets, ..State::default() }) }
    }

    /// The value of a secret, as it was written.
    pub fn get(&self, name: &str) -> Option<String> {
        self.lock().secrets.get(name).cloned()
    }

    /// Writes a secret.
    pub fn set(&self, name: &str, value: &str) {
        self.lock().secrets.insert(name.to_owned(), value.to_owned());
    }

    /// The tokens that OIDC logins showed, in order.
    pub fn logins(&self) -> Vec<String> {
        self.lock().logins.clone()
    }

    /// Ends the tokens that OIDC logins brought so far.
    pub fn end_sessions(&self) {
        self.lock().revoked = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Fake for Doppler {
    fn answer(&self, asked: &Received) -> Reply {
        let mut state = self.lock();
        if (asked.method(), asked.path()) == ("POST", "/v3/auth/oidc") {
            return state.log_in(&asked.json());
        }
        let Some(token) = token(asked).filter(|token| state.takes(token)) else {
            return says(401, "Invalid Auth token");
        };
        let body = asked.json();
        let named = |name: &str| asked.query(name).or_else(|| body[name].as_str().map(str::to_owned));
        let bound = token == SERVICE_TOKEN;
        let is = |name: &str, value: &str| named(name).map_or(bound, |given| given == value);
        if asked.path().starts_with("/v3/configs/config") && !(is("project", PROJECT) && is("config", CONFIG)) {
            return says(404, &format!("Could not find requested config {:?}", named("config")));
        }
        match (asked.method(), asked.path()) {
            ("GET", "/v3/projects") => {
                Reply::json(200, &json!({"projects": [{"slug": PROJECT}], "page": 1, "success": true}))
            }
            ("GET", "/v3/configs/config/secrets/download") => state.download(asked),
            ("GET", "/v3/configs/config/secrets/names") => {
                Reply::json(200, &json!({"names": state.all().keys().collect::<Vec<_>>(), "success": true}))
            }
            ("GET", "/v3/configs/config/secrets") => state.list(asked),
            ("GET", "/v3/configs/config/secret") => state.retrieve(&named("name").unwrap_or_default()),
            ("DELETE", "/v3/configs/config/secret") => {
                state.secrets.remove(&named("name").unwrap_or_default());
                Reply::text(204, "")
            }
            ("POST", "/v3/configs/config/secrets") => state.update(&body),
            _ => says(404, "Could not find requested resource"),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let reply = says(refusal.status(), "This token does not have access to it");
        match refusal {
            Refusal::Throttled(seconds) => reply.with("retry-after", &seconds.to_string()),
            Refusal::Denied | Refusal::Broken => reply,
        }
    }
}

impl State {
    fn takes(&self, token: &str) -> bool {
        let of_session = || token.strip_prefix("dp.said.c4n4ry-6b1d-")?.parse::<usize>().ok();
        [SERVICE_TOKEN, PERSONAL_TOKEN].contains(&token)
            || of_session().is_some_and(|n| n == self.logins.len() && !self.revoked)
    }

    fn log_in(&mut self, body: &Value) -> Reply {
        match (body["identity"].as_str(), body["token"].as_str()) {
            (Some(IDENTITY), Some(token)) if !token.is_empty() => {
                self.logins.push(token.to_owned());
                self.revoked = false;
                let token = format!("dp.said.c4n4ry-6b1d-{}", self.logins.len());
                Reply::json(200, &json!({"success": true, "token": token, "expires_at": ENDS}))
            }
            _ => says(401, "Unable to authenticate the identity"),
        }
    }

    /// The secrets, with those that Doppler adds.
    fn all(&self) -> BTreeMap<String, String> {
        let own = [("DOPPLER_PROJECT", PROJECT), ("DOPPLER_CONFIG", CONFIG), ("DOPPLER_ENVIRONMENT", CONFIG)];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.secrets.clone().into_iter().chain(own).collect()
    }

    /// A value with its references to other secrets resolved.
    fn computed(&self, value: &str) -> String {
        self.secrets.iter().fold(value.to_owned(), |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
    }

    fn download(&self, asked: &Received) -> Reply {
        let only = asked.query("secrets");
        let only: Option<Vec<&str>> = only.as_ref().map(|names| names.split(',').collect());
        let transform = asked.query("name_transformer");
        let chosen: BTreeMap<String, String> = self
            .all()
            .into_iter()
            .filter(|(name, _)| only.as_ref().is_none_or(|only| only.contains(&name.as_str())))
            .map(|(name, value)| (transformed(&name, transform.as_deref()), self.computed(&value)))
            .collect();
        let (kind, body) = match asked.query("format").as_deref() {
            None | Some("json") => ("application/json", json!(chosen).to_string()),
            Some("dotnet-json") => ("text/plain", nested(&chosen).to_string()),
            Some("env") => ("text/plain", lines(&chosen, |name, value| format!("{name}={}", json!(value)))),
            Some("yaml") => ("text/plain", lines(&chosen, |name, value| format!("{name}: {}", json!(value)))),
            Some("docker") => ("text/plain", lines(&chosen, |name, value| format!("{name}={value}"))),
            Some(_) => return says(400, "Invalid format"),
        };
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        let tag = format!("W/\"{:016x}\"", hasher.finish());
        let reply = if asked.header("if-none-match") == tag { Reply::text(304, "") } else { Reply::text(200, &body) };
        reply.with("content-type", kind).with("etag", &tag)
    }

    fn shown(&self, value: &str) -> Value {
        json!({"raw": value, "computed": self.computed(value), "note": "", "rawVisibility": "masked", "computedVisibility": "masked"})
    }

    fn list(&self, asked: &Received) -> Reply {
        let only = asked.query("secrets");
        let only: Option<Vec<&str>> = only.as_ref().map(|names| names.split(',').collect());
        let all = self.all().into_iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only.contains(&name.as_str())));
        let all: Map<String, Value> = all.map(|(name, value)| (name, self.shown(&value))).collect();
        Reply::json(200, &json!({"secrets": all, "success": true}))
    }

    fn retrieve(&self, name: &str) -> Reply {
        match self.all().get(name) {
            Some(value) => Reply::json(200, &json!({"name": name, "value": self.shown(value), "success": true})),
            None => says(404, &format!("Could not find requested secret: {name}")),
        }
    }

    fn update(&mut self, body: &Value) -> Reply {
        match (body["secrets"].as_object(), body["change_requests"].as_array()) {
            (Some(secrets), None) => {
                for (name, value) in secrets {
                    match value.as_str() {
                        Some(value) => self.secrets.insert(name.clone(), value.to_owned()),
                        None => self.secrets.remove(name),
                    };
                }
            }
            (None, Some(changes)) => {
                for change in changes {
                    if !self.change(change) {
                        return says(400, "A change request does not fit");
                    }
                }
            }
            _ => return says(400, "Exactly one of secrets and change_requests must be given"),
        }
        let all: Map<String, Value> = self.secrets.iter().map(|(name, value)| (name.clone(), self.shown(value))).collect();
        Reply::json(200, &json!({"secrets": all, "success": true}))
    }

    fn change(&mut self, change: &Value) -> bool {
        let Some(name) = change["name"].as_str() else { return false };
        let expected = change["originalValue"].as_str();
        if expected.is_some_and(|expected| self.secrets.get(name).is_none_or(|value| value != expected)) {
            return false;
        }
        match (change["shouldDelete"].as_bool(), change["value"].as_str()) {
            (Some(true), _) => return self.secrets.remove(name).is_some(),
            (_, Some(value)) => drop(self.secrets.insert(name.to_owned(), value.to_owned())),
            (_, None) => {}
        }
        true
    }
}

fn says(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"messages": [format!("{text} {}", crate::CANARY)], "success": false}))
}

/// A bearer token, or the user of a basic login, as older clients do.
fn token(asked: &Received) -> Option<String> {
    let header = asked.header("authorization");
    match header.strip_prefix("Bearer ") {
        Some(token) => Some(token.to_owned()),
        None => asked.basic().map(|(user, _)| user),
    }
}

fn lines(secrets: &BTreeMap<String, String>, line: impl Fn(&str, &str) -> String) -> String {
    secrets.iter().map(|(name, value)| line(name, value) + "\n").collect()
}

/// Names with `__` are paths.
fn nested(secrets: &BTreeMap<String, String>) -> Value {
    let mut root = json!({});
    for (name, value) in secrets {
        let steps = name.split("__").map(|step| words(step).concat());
        let place = steps.fold(&mut root, |place, step| &mut place[step]);
        *place = json!(value);
    }
    root
}

fn words(name: &str) -> Vec<String> {
    let capital = |word: &str| {
        word.get(..1).map(str::to_owned).unwrap_or_default() + &word.get(1..).unwrap_or_default().to_lowercase()
    };
    name.split('_').map(capital).collect()
}

fn transformed(name: &str, by: Option<&str>) -> String {
    let lower = || name.to_lowercase();
    match by {
        Some("upper-camel") => words(name).concat(),
        Some("camel") => {
            let words = words(name);
            words[0].to_lowercase() + &words[1..].concat()
        }
        Some("lower-snake") => lower(),
        Some("tf-var") => format!("TF_VAR_{}", lower()),
        Some("dotnet-env") => name.split("__").map(|step| words(step).concat()).collect::<Vec<_>>().join("__"),
        Some("lower-kebab") => lower().replace('_', "-"),
        _ => name.to_owned(),
    }
}
