//! The `bitwarden-sdk-server` of External Secrets Operator, which speaks to Bitwarden Secrets Manager with Bitwarden's own SDK: it hands
//! the SDK's requests and answers through, and answers 400 with the SDK's words to whatever fails. Nothing of Bitwarden's speaks to it, but
//! what it hands through is proven: answers and errors are those that the SDK gives before a stand-in for Bitwarden itself
//! (`e2e/oracles/clients/bitwarden.py`). Endpoints, headers and the words before the SDK's are as the server's README and code have them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply};

/// Access token of its machine account.
pub const ACCESS_TOKEN: &str = "0.00000000-0000-4000-8000-0000000000aa.machine-account:a2V5ZmVycnktaXMtZmFrZQ==";
/// Id of its organization.
pub const ORGANIZATION: &str = "e8a4a5a0-2d05-4c1f-9d6f-0d2a3f6b7c10";
/// Id of the project.
pub const PROJECT: &str = "11f0e3c2-7b61-4d7c-8f4e-5a6b7c8d9e0f";
/// Id of another project.
pub const OTHER_PROJECT: &str = "22f0e3c2-7b61-4d7c-8f4e-5a6b7c8d9e0f";

/// A secret.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its id.
    pub id: String,
    /// Its name, which others can have, too.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What somebody noted.
    pub note: String,
    /// Id of its project.
    pub project: String,
}

#[derive(Default)]
struct State {
    secrets: Vec<Kept>,
    made: usize,
    locked: BTreeSet<String>,
    gone: BTreeSet<String>,
}

/// The service.
#[derive(Default)]
pub struct Bitwarden {
    state: Mutex<State>,
}

impl Bitwarden {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes a secret, and returns its id.
    pub fn put(&self, project: &str, key: &str, value: &str, note: &str) -> String {
        self.state().make(project, key, value, note).id
    }

    /// Gives a secret another value.
    pub fn set(&self, id: &str, value: &str) {
        let mut state = self.state();
        state.secrets.iter_mut().find(|kept| kept.id == id).unwrap().value = value.to_owned();
    }

    /// The secrets of a name.
    pub fn named(&self, key: &str) -> Vec<Kept> {
        self.state().secrets.iter().filter(|kept| kept.key == key).cloned().collect()
    }

    /// The machine account may not delete a secret.
    pub fn lock(&self, id: &str) {
        self.state().locked.insert(id.to_owned());
    }

    /// A secret goes between a list, which still shows it, and a read.
    pub fn lose(&self, id: &str) {
        self.state().gone.insert(id.to_owned());
    }

    fn get(&self, request: &Request) -> Told {
        let id = request.id("id")?;
        self.state().readable(&[id])?.first().map(Kept::shown).ok_or_else(missing)
    }

    fn get_by_ids(&self, request: &Request) -> Told {
        let all = self.state().readable(&request.ids("ids")?)?;
        Ok(json!({"data": all.iter().map(Kept::shown).collect::<Vec<_>>()}))
    }

    fn list(&self, request: &Request) -> Told {
        if request.id("organizationId")? != ORGANIZATION {
            return Err(missing());
        }
        let shown = |kept: &Kept| json!({"id": kept.id, "key": kept.key, "organizationId": ORGANIZATION, "projectIds": [kept.project]});
        Ok(json!({"data": self.state().secrets.iter().map(shown).collect::<Vec<_>>()}))
    }

    /// In the organization of the access token, whichever is asked for.
    fn create(&self, request: &Request) -> Told {
        let [key, value, note, project] = request.secret()?;
        Ok(self.state().make(&project, &key, &value, &note).shown())
    }

    fn update(&self, request: &Request) -> Told {
        let (id, [key, value, note, project]) = (request.id("id")?, request.secret()?);
        let mut state = self.state();
        let kept = state.secrets.iter_mut().find(|kept| kept.id == id).ok_or_else(missing)?;
        (kept.key, kept.value, kept.note, kept.project) = (key, value, note, project);
        Ok(kept.shown())
    }

    fn delete(&self, request: &Request) -> Told {
        let ids = request.ids("ids")?;
        let mut state = self.state();
        let found = state.all_of(&ids)?;
        let State { secrets, locked, .. } = &mut *state;
        secrets.retain(|kept| locked.contains(&kept.id) || !ids.contains(&kept.id));
        let shown = |kept: &Kept| match locked.contains(&kept.id) {
            true => json!({"id": kept.id, "error": format!("access denied {CANARY}")}),
            false => json!({"id": kept.id}),
        };
        Ok(json!({"data": found.iter().map(shown).collect::<Vec<_>>()}))
    }
}

impl State {
    fn make(&mut self, project: &str, key: &str, value: &str, note: &str) -> Kept {
        self.made += 1;
        let id = format!("00000000-0000-4000-8000-{:012x}", self.made);
        let [key, value, note, project] = [key, value, note, project].map(str::to_owned);
        let kept = Kept { id, key, value, note, project };
        self.secrets.push(kept.clone());
        kept
    }

    /// The secrets of these ids, in an order of its own: all of them or none.
    fn all_of(&self, ids: &[String]) -> Result<Vec<Kept>, String> {
        let found: Vec<Kept> = self.secrets.iter().filter(|kept| ids.contains(&kept.id)).cloned().collect();
        if found.is_empty() || found.len() != ids.len() { Err(missing()) } else { Ok(found) }
    }

    fn readable(&self, ids: &[String]) -> Result<Vec<Kept>, String> {
        if ids.iter().any(|id| self.gone.contains(id)) { Err(missing()) } else { self.all_of(ids) }
    }
}

impl Kept {
    fn shown(&self) -> Value {
        let when = "2026-01-02T03:04:05.123456700Z";
        json!({
            "id": self.id, "key": self.key, "value": self.value, "note": self.note, "organizationId": ORGANIZATION,
            "projectId": self.project, "creationDate": when, "revisionDate": when,
        })
    }
}

/// The SDK's answer, or its words where it has none.
type Told = Result<Value, String>;

/// A request of the SDK, as the server reads it.
struct Request(Value);

impl Request {
    /// A field, in whatever case, as Go reads it.
    fn field(&self, name: &str) -> &Value {
        let mut fields = self.0.as_object().into_iter().flatten();
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map_or(&Value::Null, |(_, value)| value)
    }

    fn text(&self, name: &str) -> &str {
        self.field(name).as_str().unwrap_or_default()
    }

    fn id(&self, name: &str) -> Result<String, String> {
        uuid(self.text(name))
    }

    fn ids(&self, name: &str) -> Result<Vec<String>, String> {
        let ids = self.field(name).as_array().into_iter().flatten();
        ids.map(|id| uuid(id.as_str().unwrap_or_default())).collect()
    }

    /// Name, value, note and project of a secret that is to be written. What the SDK finds wrong does not reach Bitwarden.
    fn secret(&self) -> Result<[String; 4], String> {
        let projects = self.ids("projectIds")?;
        for (field, least, most) in [("key", 1, 500), ("value", 1, 25_000), ("note", 0, 7_000)] {
            let (text, length) = (self.text(field), self.text(field).chars().count());
            if length < least {
                return Err(format!("{field} must not be empty"));
            }
            if length > most {
                return Err(format!("{field} must not exceed {most} characters in length"));
            }
            if field != "value" && length > 0 && text.trim().is_empty() {
                return Err(format!("{field} must not contain only whitespaces"));
            }
        }
        let known = |project: &&String| [PROJECT, OTHER_PROJECT].contains(&project.as_str());
        let project = projects.first().filter(known).ok_or_else(missing)?;
        Ok([self.text("key").trim(), self.text("value"), self.text("note").trim(), project].map(str::to_owned))
    }
}

/// An id as the SDK sends it on.
fn uuid(text: &str) -> Result<String, String> {
    let wrong = match text.char_indices().find(|(_, c)| !c.is_ascii_hexdigit() && *c != '-') {
        Some((at, c)) => format!("invalid character: found `{c}` at {}", at + 1),
        None if text.len() != 36 => format!("invalid length: expected length 32 for simple format, found {}", text.len()),
        None => return Ok(text.to_ascii_lowercase()),
    };
    Err(format!("Invalid command value: UUID parsing failed: {wrong}"))
}

/// What the SDK finds wrong with an access token, and then Bitwarden.
fn login(token: &str) -> Result<(), String> {
    let (account, key) = token.split_once(':').ok_or("Doesn't contain a decryption key")?;
    let parts: Vec<&str> = account.split('.').collect();
    let [version, id, _] = parts.as_slice() else { return Err("Has the wrong number of parts".to_owned()) };
    if *version != "0" {
        return Err("Is the wrong version".to_owned());
    }
    uuid(id).map_err(|_| "Has an invalid identifier")?;
    let bytes = STANDARD.decode(key).map_err(|_| "Error decoding base64: Data isn't base64 encoded")?;
    if bytes.len() != 16 {
        return Err(format!("Invalid base64 length: expected 16, got {}", bytes.len()));
    }
    let (known, right) = ACCESS_TOKEN.split_once(':').unwrap();
    if account != known {
        return Err(quoted("400 Bad Request", &json!({"error": "invalid_client", "error_description": CANARY})));
    }
    if key == right { Ok(()) } else { Err("The decryption operation failed".to_owned()) }
}

/// The SDK's words where Bitwarden refuses.
fn refused(status: &str) -> String {
    let body = json!({
        "message": CANARY, "validationErrors": null, "exceptionMessage": null, "exceptionStackTrace": null,
        "innerExceptionMessage": null, "object": "error",
    });
    quoted(status, &body)
}

fn quoted(status: &str, body: &Value) -> String {
    format!("Received error message from server: [{status}] {body}")
}

fn missing() -> String {
    refused("404 Not Found")
}

fn plain(status: u16, text: &str) -> Reply {
    Reply::text(status, text).with("content-type", "text/plain; charset=utf-8")
}

fn failed(before: &str, said: &str) -> Reply {
    plain(400, &format!("{before}API error: {said}\n"))
}

impl Fake for Bitwarden {
    fn answer(&self, asked: &Received) -> Reply {
        let token = asked.header("warden-access-token");
        if token.is_empty() {
            return plain(401, "Missing Warden access token\n");
        }
        if let Err(said) = login(token) {
            return failed("failed to login to bitwarden using access token: bitwarden login: ", &said);
        }
        let request = Request(asked.json());
        let (before, told) = match (asked.method(), asked.path()) {
            ("GET", "/rest/api/1/secret") => ("failed to get secret: ", self.get(&request)),
            ("GET", "/rest/api/1/secrets-by-ids") => ("failed to get secrets: ", self.get_by_ids(&request)),
            ("GET", "/rest/api/1/secrets") => ("failed to get secret: ", self.list(&request)),
            ("POST", "/rest/api/1/secret") => ("failed to create secret: ", self.create(&request)),
            ("PUT", "/rest/api/1/secret") => ("failed to update secret: ", self.update(&request)),
            ("DELETE", "/rest/api/1/secret") => ("", self.delete(&request)),
            _ => return plain(404, "404 page not found\n"),
        };
        match told {
            Ok(answer) => plain(200, &answer.to_string()),
            Err(said) => failed(before, &said),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let status = match refusal {
            Refusal::Denied => "401 Unauthorized",
            Refusal::Throttled(_) => "429 Too Many Requests",
            Refusal::Broken => "503 Service Unavailable",
        };
        failed("failed to get secret: ", &refused(status))
    }
}
