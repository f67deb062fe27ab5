//! GitHub's REST API for secrets of Actions, as <https://docs.github.com/en/rest/actions/secrets> has it: an App logs in by a token that it
//! signed, a value comes sealed with the public key (libsodium's sealed box), and nothing tells it again.
//!
//! Unlike the real one, it takes names of any letters.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, MutexGuard};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use crypto_box::SecretKey;
use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Reply};

/// The App, and its one installation.
pub const APP: u64 = 123;
/// See [`APP`].
pub const INSTALLATION: u64 = 456;
/// The organization, with a repository `app` that has an environment `prod`.
pub const ORGANIZATION: &str = "acme";
/// Begins the tokens of the installation.
const TOKEN: &str = "ghs_c4n4ry-6b1d-";
const KEY_ID: &str = "568250167242549743";

/// The App's private key, as PEM, and its public half.
pub static APP_KEY: LazyLock<(String, Vec<u8>)> = LazyLock::new(|| {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    (
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")),
        pair.public_key().as_ref().to_vec(),
    )
});

/// GitHub.
#[derive(Default)]
pub struct Github {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By place (`orgs/acme/actions`) and name.
    secrets: BTreeMap<(String, String), Secret>,
    logins: u64,
    /// Seconds: every change takes one.
    clock: u64,
}

#[derive(Clone)]
struct Secret {
    value: String,
    at: u64,
    visibility: Value,
    repositories: Vec<Value>,
}

fn key() -> SecretKey {
    SecretKey::from([7; 32])
}

impl Github {
    /// The value of a secret: `get("orgs/acme/actions", "NAME")`.
    pub fn get(&self, place: &str, name: &str) -> Option<String> {
        self.lock().secrets.get(&(place.to_owned(), name.to_uppercase())).map(|secret| secret.value.clone())
    }

    /// Visibility and repositories of a secret of the organization.
    pub fn access(&self, name: &str) -> Option<(Value, Vec<Value>)> {
        let place = format!("orgs/{ORGANIZATION}/actions");
        self.lock().secrets.get(&(place, name.to_uppercase())).map(|s| (s.visibility.clone(), s.repositories.clone()))
    }

    /// Writes a secret by another hand; one of the organization is for repositories 1 to 120.
    pub fn put(&self, place: &str, name: &str, value: &str) {
        let mut state = self.lock();
        let (visibility, repositories) = (json!("selected"), (1..=120).map(|id| json!(id)).collect());
        state.write(place, name, Secret { value: value.to_owned(), at: 0, visibility, repositories });
    }

    /// How often the App has logged in.
    pub fn logins(&self) -> u64 {
        self.lock().logins
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Fake for Github {
    fn answer(&self, asked: &Received) -> Reply {
        let mut state = self.lock();
        let shown = asked.header("authorization");
        let shown = shown.strip_prefix("Bearer ").or_else(|| shown.strip_prefix("token ")).unwrap_or_default().to_owned();
        let steps = asked.steps();
        let Some(["api", "v3"]) = steps.get(..2).map(|two| [two[0].as_str(), two[1].as_str()]) else {
            return says(404, "Not Found");
        };
        let steps: Vec<&str> = steps[2..].iter().map(String::as_str).collect();
        if let ("POST", ["app", "installations", id, "access_tokens"]) = (asked.method(), &steps[..]) {
            return if *id == INSTALLATION.to_string() { state.log_in(&shown) } else { says(404, "Not Found") };
        }
        if shown != format!("{TOKEN}{}", state.logins) || state.logins == 0 {
            return says(401, "Bad credentials");
        }
        let url = format!("http://{}/api/v3/{}", asked.header("host"), steps.join("/"));
        match (asked.method(), &steps[..]) {
            ("GET", ["orgs", ORGANIZATION]) => Reply::json(200, &json!({"login": ORGANIZATION, "url": url})),
            ("GET", ["repos", ORGANIZATION, "app"]) => Reply::json(200, &json!({"name": "app", "id": 1, "url": url})),
            ("GET", ["repos", ORGANIZATION, "app", "environments", "prod"]) => {
                Reply::json(200, &json!({"name": "prod", "url": url}))
            }
            (_, ["orgs", ORGANIZATION, "actions", "secrets", rest @ ..]) => {
                state.secrets(&format!("orgs/{ORGANIZATION}/actions"), rest, asked)
            }
            (_, ["repos", ORGANIZATION, "app", "actions", "secrets", rest @ ..]) => {
                state.secrets(&format!("repos/{ORGANIZATION}/app/actions"), rest, asked)
            }
            (_, ["repos", ORGANIZATION, "app", "environments", "prod", "secrets", rest @ ..]) => {
                state.secrets(&format!("repos/{ORGANIZATION}/app/environments/prod"), rest, asked)
            }
            _ => says(404, "Not Found"),
        }
    }
}

impl State {
    /// Takes a token that the App has signed, and that is of now.
    fn log_in(&mut self, token: &str) -> Reply {
        let claims = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &APP_KEY.1);
            key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
            let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
            serde_json::from_slice::<Value>(&claims).ok()
        };
        let Some(claims) = claims() else { return says(401, "A JSON web token could not be decoded") };
        let issuer = claims["iss"].as_str().map_or_else(|| claims["iss"].to_string(), str::to_owned);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let is_now = claims["iat"].as_u64().is_some_and(|at| at <= now) && claims["exp"].as_u64().is_some_and(|at| at > now);
        if issuer != APP.to_string() || !is_now {
            return says(401, "'Issuer' claim or times are not right");
        }
        self.logins += 1;
        let token = format!("{TOKEN}{}", self.logins);
        Reply::json(201, &json!({"token": token, "expires_at": "2036-01-01T00:00:00Z", "permissions": {"secrets": "write"}}))
    }

    fn secrets(&mut self, place: &str, rest: &[&str], asked: &Received) -> Reply {
        match (asked.method(), rest) {
            ("GET", []) => {
                let of_place = self.secrets.iter().filter(|((at, _), _)| at == place);
                let all: Vec<Value> = of_place.map(|((_, name), secret)| shown(name, secret)).collect();
                Reply::json(200, &json!({"total_count": all.len(), "secrets": all}))
            }
            ("GET", ["public-key"]) => {
                let public = STANDARD.encode(key().public_key().as_bytes());
                Reply::json(200, &json!({"key_id": KEY_ID, "key": public}))
            }
            (method, [name]) => self.one(method, place, &name.to_uppercase(), &asked.json()),
            ("GET", [name, "repositories"]) => match self.secrets.get(&(place.to_owned(), name.to_uppercase())) {
                Some(secret) => {
                    let number = |name: &str| asked.query(name).and_then(|text| text.parse::<usize>().ok());
                    let (page, size) = (number("page").unwrap_or(1), number("per_page").unwrap_or(30).min(100));
                    let shown = secret.repositories.iter().skip((page - 1) * size).take(size);
                    let shown: Vec<Value> = shown.map(|id| json!({"id": id})).collect();
                    Reply::json(200, &json!({"total_count": secret.repositories.len(), "repositories": shown}))
                }
                None => says(404, "Not Found"),
            },
            _ => says(404, "Not Found"),
        }
    }

    fn one(&mut self, method: &str, place: &str, name: &str, wanted: &Value) -> Reply {
        let at = (place.to_owned(), name.to_owned());
        match (method, self.secrets.get(&at)) {
            ("GET", Some(secret)) => Reply::json(200, &shown(name, secret)),
            ("DELETE", Some(_)) => {
                self.secrets.remove(&at);
                Reply::text(204, "")
            }
            ("PUT", there) => {
                let status = if there.is_some() { 204 } else { 201 };
                let sealed = STANDARD.decode(wanted["encrypted_value"].as_str().unwrap_or_default()).unwrap_or_default();
                let value = key().unseal(&sealed).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                let visible = !place.starts_with("orgs") || wanted["visibility"].is_string();
                let (Some(value), true, true) = (value, visible, wanted["key_id"] == KEY_ID) else {
                    return says(422, "Bad request - the value, the key or the visibility is not right");
                };
                let repositories = wanted["selected_repository_ids"].as_array().cloned().unwrap_or_default();
                let visibility = wanted["visibility"].clone();
                self.write(place, name, Secret { value, at: 0, visibility, repositories });
                Reply::json(status, &json!({}))
            }
            _ => says(404, "Not Found"),
        }
    }

    fn write(&mut self, place: &str, name: &str, secret: Secret) {
        self.clock += 1;
        self.secrets.insert((place.to_owned(), name.to_uppercase()), Secret { at: self.clock, ..secret });
    }
}

fn shown(name: &str, secret: &Secret) -> Value {
    let at = format!("2026-01-01T{:02}:{:02}:{:02}Z", secret.at / 3600, secret.at / 60 % 60, secret.at % 60);
    json!({"name": name, "created_at": "2026-01-01T00:00:00Z", "updated_at": at, "visibility": secret.visibility})
}

fn says(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"message": text, "documentation_url": CANARY}))
}
