//! A team's own service, as the Webhook provider calls it: secrets under `/secrets/KEY`, as JSON, to who shows a key in a header.
//! There is no protocol but HTTP, and so no vendor whose client could prove it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Reply};

/// What `x-api-key` must be.
pub const KEY: &str = "key-c4n4ry-6b1d";

/// The service.
#[derive(Default)]
pub struct Webhook {
    secrets: Mutex<BTreeMap<(String, String), Value>>,
}

impl Webhook {
    /// With these secrets: key, version (empty: the current one), value.
    pub fn new(secrets: impl IntoIterator<Item = (String, String, Value)>) -> Self {
        let secrets = secrets.into_iter().map(|(key, version, value)| ((key, version), value)).collect();
        Self { secrets: Mutex::new(secrets) }
    }

    /// The current value of a secret.
    pub fn get(&self, key: &str) -> Option<Value> {
        self.secrets.lock().unwrap().get(&(key.to_owned(), String::new())).cloned()
    }
}

impl Fake for Webhook {
    fn answer(&self, asked: &Received) -> Reply {
        let no = |status: u16| Reply::json(status, &json!({"error": format!("no {CANARY}")}));
        if asked.header("x-api-key") != KEY {
            return no(401);
        }
        let steps = asked.steps();
        let [folder, key] = &steps[..] else { return no(400) };
        if folder != "secrets" {
            return no(400);
        }
        let place = (key.clone(), asked.query("version").unwrap_or_default());
        let mut secrets = self.secrets.lock().unwrap();
        match asked.method() {
            "GET" => match secrets.get(&place) {
                Some(value) => Reply::json(200, &json!({"key": key, "value": value})),
                None => no(404),
            },
            "POST" => {
                secrets.insert(place, json!(asked.body));
                Reply::text(201, "")
            }
            "DELETE" if secrets.remove(&place).is_some() => Reply::text(204, ""),
            "DELETE" => no(404),
            _ => no(405),
        }
    }
}
