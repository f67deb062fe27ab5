//! Delinea Secret Server: the part of its REST API that logs users in, reads, searches and writes secrets, as Delinea's clients for Go and
//! Python have it. Its official Python client reads it (`e2e/oracles/clients/delinea_server.py`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Reply};

/// The user that it takes, in the domain [`DOMAIN`], and the password.
pub const USER: &str = "app";
/// See [`USER`].
pub const PASSWORD: &str = "user-password-1";
/// See [`USER`].
pub const DOMAIN: &str = "corp";
/// A token that somebody made by hand.
pub const TOKEN: &str = "made-by-hand";
/// Number of its only template, whose fields are `Password` and `Notes`.
pub const TEMPLATE: i64 = 6;

#[derive(Default)]
struct State {
    secrets: BTreeMap<i64, Value>,
    files: BTreeMap<(i64, String), Vec<u8>>,
    folders: BTreeMap<i64, String>,
    tokens: BTreeSet<String>,
    made: i64,
    denied: BTreeSet<i64>,
}

/// The service.
#[derive(Default)]
pub struct SecretServer {
    state: Mutex<State>,
}

impl SecretServer {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Makes a folder, and returns its number.
    pub fn folder(&self, path: &str) -> i64 {
        let mut state = self.state();
        state.made += 1;
        let number = state.made;
        state.folders.insert(number, path.to_owned());
        number
    }

    /// Makes a secret with fields, and returns its number.
    pub fn put(&self, folder: i64, name: &str, fields: &[(&str, &str)]) -> i64 {
        let items = fields.iter().enumerate().map(|(index, (name, value))| {
            let slug = name.to_lowercase().replace(' ', "-");
            item(index as i64 + 1, name, &slug, value)
        });
        self.state().make(folder, name, items.collect())
    }

    /// Makes a field of a secret a file.
    pub fn attach(&self, id: i64, slug: &str, content: &[u8]) {
        let mut state = self.state();
        state.files.insert((id, slug.to_owned()), content.to_vec());
        let items = state.secrets.get_mut(&id).unwrap()["items"].as_array_mut().unwrap();
        let field = items.iter_mut().find(|item| item["slug"] == slug).unwrap();
        field["isFile"] = json!(true);
        field["fileAttachmentId"] = json!(77);
        field["filename"] = json!("key.pem");
        field["itemValue"] = json!("*** Not Valid For Display ***");
    }

    /// The value of a field of the secret of that name.
    pub fn value(&self, name: &str, slug: &str) -> Option<String> {
        let state = self.state();
        let secret = state.secrets.values().find(|secret| secret["name"] == name)?;
        let items = secret["items"].as_array()?;
        items.iter().find(|item| item["slug"] == slug)?["itemValue"].as_str().map(str::to_owned)
    }

    /// The user may not see a secret.
    pub fn deny(&self, id: i64) {
        self.state().denied.insert(id);
    }

    /// All tokens end.
    pub fn end_tokens(&self) {
        self.state().tokens.clear();
    }

    fn login(&self, asked: &Received) -> Reply {
        let is = |field: &str, value: &str| asked.form(field).as_deref() == Some(value);
        let domain = asked.form("domain").is_none_or(|domain| domain == DOMAIN);
        if !is("grant_type", "password") || !is("username", USER) || !is("password", PASSWORD) || !domain {
            return Reply::json(400, &json!({"error": format!("Login failed. {CANARY}")}));
        }
        let mut state = self.state();
        state.made += 1;
        let token = format!("oauth-{}", state.made);
        state.tokens.insert(token.clone());
        Reply::json(200, &json!({"access_token": token, "token_type": "bearer", "expires_in": 1199, "refresh_token": "r"}))
    }

    fn read(&self, id: i64, asked: &Received) -> Reply {
        let state = self.state();
        let id = match asked.query("secretPath") {
            Some(path) => {
                let at = |(id, secret): (&i64, &Value)| {
                    let folder = state.folders.get(&secret["folderId"].as_i64()?)?;
                    let whole = format!("{}/{}", folder, secret["name"].as_str()?).replace('/', "\\");
                    (whole == path).then_some(*id)
                };
                state.secrets.iter().find_map(at).unwrap_or(0)
            }
            None => id,
        };
        match state.secrets.get(&id) {
            Some(_) if state.denied.contains(&id) => failed(400, "API_AccessDenied", "Access Denied"),
            Some(secret) => Reply::json(200, secret),
            None => failed(404, "API_SecretNotFound", "Secret not found"),
        }
    }

    fn search(&self, asked: &Received) -> Reply {
        let text = asked.query("paging.filter.searchText").unwrap_or_default();
        let number = |name: &str| asked.query(name).and_then(|number| number.parse::<i64>().ok());
        let (folder, most) = (number("paging.filter.folderId"), number("paging.take"));
        let state = self.state();
        // A search finds what only begins so, too, as full-text search does.
        let fits = |secret: &Value| {
            let in_folder = folder.is_none_or(|folder| secret["folderId"] == folder);
            in_folder && secret["name"].as_str().is_some_and(|name| name.starts_with(&text))
        };
        let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
        let found = state.secrets.iter().filter(|(_, secret)| fits(secret)).take(most);
        let records: Vec<Value> =
            found.map(|(id, secret)| json!({"id": id, "name": secret["name"], "folderId": secret["folderId"]})).collect();
        Reply::json(200, &json!({"records": records, "total": 0}))
    }

    fn create(&self, body: &Value) -> Reply {
        let mut state = self.state();
        let name = body["name"].as_str().unwrap_or_default();
        let folder = body["folderId"].as_i64().unwrap_or_default();
        if body["secretTemplateId"] != TEMPLATE || !state.folders.contains_key(&folder) {
            return failed(400, "API_Invalid", "invalid");
        }
        let value = |number: i64| {
            let items = body["items"].as_array().into_iter().flatten();
            let found = items.filter(|item| item["fieldId"] == number).find_map(|item| item["itemValue"].as_str());
            found.unwrap_or_default().to_owned()
        };
        let items = vec![item(1, "Password", "password", &value(1)), item(2, "Notes", "notes", &value(2))];
        let id = state.make(folder, name, items);
        Reply::json(200, &state.secrets[&id])
    }
}

impl State {
    fn make(&mut self, folder: i64, name: &str, items: Vec<Value>) -> i64 {
        self.made += 1;
        let id = self.made;
        let secret = json!({
            "id": id, "name": name, "folderId": folder, "secretTemplateId": TEMPLATE, "siteId": 1, "secretPolicyId": -1,
            "active": true, "checkedOut": false, "requiresComment": false, "items": items, "proxyEnabled": null,
            "launcherConnectAsSecretId": -1, "checkOutIntervalMinutes": -1, "lastHeartBeatStatus": "Success",
        });
        self.secrets.insert(id, secret);
        id
    }
}

fn item(number: i64, name: &str, slug: &str, value: &str) -> Value {
    json!({
        "itemId": 100 + number, "fieldId": number, "fileAttachmentId": null, "fieldName": name, "slug": slug, "fieldDescription": "",
        "filename": null, "itemValue": value, "isFile": false, "isNotes": false, "isPassword": slug == "password", "isList": false,
    })
}

fn failed(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"errorCode": code, "message": format!("{message} {CANARY}")}))
}

impl Fake for SecretServer {
    fn answer(&self, asked: &Received) -> Reply {
        let steps = asked.steps();
        let step: Vec<&str> = steps.iter().map(String::as_str).collect();
        match (asked.method(), &step[..]) {
            ("POST", ["oauth2", "token"]) => return self.login(asked),
            ("GET", ["api", "v1", "healthcheck"]) => return Reply::json(200, &json!({"Healthy": true})),
            _ => {}
        }
        let token = asked.header("authorization").strip_prefix("Bearer ").unwrap_or_default();
        if token != TOKEN && !self.state().tokens.contains(token) {
            return failed(401, "API_Unauthorized", "Authentication failed");
        }
        let number = |text: &str| text.parse::<i64>().unwrap_or(-1);
        match (asked.method(), &step[..]) {
            ("GET", ["api", "v1", "secrets"]) => self.search(asked),
            ("POST", ["api", "v1", "secrets"]) => self.create(&asked.json()),
            ("GET", ["api", "v1", "secrets", id]) => self.read(number(id), asked),
            ("GET", ["api", "v1", "secrets", id, "fields", slug]) => {
                let file = self.state().files.get(&(number(id), (*slug).to_owned())).cloned();
                file.map_or_else(|| failed(404, "API_NotFound", "no file"), |file| Reply::bytes(200, file))
            }
            ("PUT", ["api", "v1", "secrets", id]) => {
                self.state().secrets.insert(number(id), asked.json());
                Reply::json(200, &asked.json())
            }
            ("DELETE", ["api", "v1", "secrets", id]) => match self.state().secrets.remove(&number(id)) {
                Some(_) => Reply::json(200, &json!({"id": number(id), "objectType": "Secret"})),
                None => failed(404, "API_SecretNotFound", "Secret not found"),
            },
            ("GET", ["api", "v1", "secret-templates", id]) if number(id) == TEMPLATE => {
                let field = |number: i64, name: &str, slug: &str| json!({"secretTemplateFieldId": number, "name": name, "fieldSlugName": slug, "displayName": name});
                let fields = [field(1, "Password", "password"), field(2, "Notes", "notes")];
                Reply::json(200, &json!({"id": TEMPLATE, "name": "Password", "fields": fields}))
            }
            _ => failed(404, "API_NotFound", "no such page"),
        }
    }
}
