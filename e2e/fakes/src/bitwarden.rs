//! The `bitwarden-sdk-server` of External Secrets Operator, which speaks to Bitwarden Secrets Manager: its endpoints, headers and answers
//! as its README has them, and the errors as its code makes them, 400 to whatever fails. Bitwarden's own SDK speaks an encrypted protocol
//! to Bitwarden and not this one: there is no client of a vendor to prove it with, so it is proven by these documents only.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply};

/// Access token of its machine account.
pub const ACCESS_TOKEN: &str = "0.machine-account.token:key==";
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

    fn delete(&self, ids: &[String]) -> Reply {
        let mut state = self.state();
        let mut gone = Vec::new();
        for id in ids {
            let locked = state.locked.contains(id);
            if !locked {
                state.secrets.retain(|kept| kept.id != *id);
            }
            gone.push(json!({"id": id, "error": locked.then(|| format!("access denied {CANARY}"))}));
        }
        Reply::json(200, &json!({"data": gone}))
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
}

impl Kept {
    fn shown(&self) -> Value {
        let when = "2026-01-02T03:04:05.000000000Z";
        json!({
            "id": self.id, "key": self.key, "value": self.value, "note": self.note, "organizationId": ORGANIZATION,
            "projectId": self.project, "creationDate": when, "revisionDate": when,
        })
    }
}

fn failed(what: &str, status: &str) -> Reply {
    Reply::text(
        400,
        &format!("{what}: API error: Received error message from server: [{status}] {{\"message\":\"{CANARY}\"}}\n"),
    )
}

impl Fake for Bitwarden {
    fn answer(&self, asked: &Received) -> Reply {
        match asked.header("warden-access-token") {
            "" => return Reply::text(401, "Missing Warden access token\n"),
            ACCESS_TOKEN => {}
            _ => return failed("failed to login to bitwarden using access token", "400 Bad Request"),
        }
        let body = asked.json();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        let ids: Vec<String> =
            body["ids"].as_array().into_iter().flatten().filter_map(|id| id.as_str().map(str::to_owned)).collect();
        let found = |id: &str| {
            let state = self.state();
            let there = state.secrets.iter().find(|kept| kept.id.eq_ignore_ascii_case(id));
            there.filter(|kept| !state.gone.contains(&kept.id)).cloned()
        };
        match (asked.method(), asked.path()) {
            ("GET", "/rest/api/1/secret") => match found(&text("id")) {
                Some(kept) => Reply::json(200, &kept.shown()),
                None => failed("failed to get secret", "404 Not Found"),
            },
            ("GET", "/rest/api/1/secrets-by-ids") => {
                let all: Option<Vec<Kept>> = ids.iter().map(|id| found(id)).collect();
                match all {
                    Some(all) => Reply::json(200, &json!({"data": all.iter().map(Kept::shown).collect::<Vec<_>>()})),
                    None => failed("failed to get secrets", "404 Not Found"),
                }
            }
            ("GET", "/rest/api/1/secrets") if text("organizationID") == ORGANIZATION => {
                let all = self.state().secrets.clone();
                let shown = all.iter().map(|k| json!({"id": k.id, "key": k.key, "organizationId": ORGANIZATION}));
                Reply::json(200, &json!({"data": shown.collect::<Vec<_>>()}))
            }
            ("GET", "/rest/api/1/secrets") => failed("failed to list secrets", "404 Not Found"),
            ("POST", "/rest/api/1/secret") => {
                let project = body["projectIds"][0].as_str().unwrap_or_default().to_owned();
                Reply::json(200, &self.state().make(&project, &text("key"), &text("value"), &text("note")).shown())
            }
            ("PUT", "/rest/api/1/secret") => {
                let mut state = self.state();
                let Some(kept) = state.secrets.iter_mut().find(|kept| kept.id == text("id")) else {
                    return failed("failed to update secret", "404 Not Found");
                };
                (kept.key, kept.value, kept.note) = (text("key"), text("value"), text("note"));
                Reply::json(200, &kept.shown())
            }
            ("DELETE", "/rest/api/1/secret") => self.delete(&ids),
            _ => Reply::text(404, "404 page not found\n"),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let status = match refusal {
            Refusal::Denied => "401 Unauthorized",
            Refusal::Throttled(_) => "429 Too Many Requests",
            Refusal::Broken => "503 Service Unavailable",
        };
        failed("failed to get secret", status)
    }
}
