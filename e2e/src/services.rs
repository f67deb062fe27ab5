//! Services that generators ask. They speak what is documented of the real ones, as far as generators use it, on a free port of
//! loopback, and end when they are dropped:
//!
//! - [`Webhook`]: any service that answers with JSON to who shows a bearer token. There is no protocol but HTTP.
//! - [`Grafana`]: the part of Grafana's "Service account HTTP API" that finds and creates service accounts, and creates and deletes
//!   their tokens. Names are unique, a search finds parts of names, and a token is told once, when it is made.
//! - [`Gitlab`]: GitLab's "Deploy tokens API" of one project: creates tokens with the scopes that there are, lists them without
//!   their value, deletes them.
//!
//! All quote a token that they refuse, as careless services do: nothing of that may be passed on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};

use crate::http::Server;

/// A request that arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// `POST`
    pub method: String,
    /// The path, as it came.
    pub path: String,
    /// What came after the `?`.
    pub query: String,
    /// The body; null where it is not JSON.
    pub body: Value,
    authorization: String,
    private_token: String,
}

impl Asked {
    async fn read(request: Request<Incoming>) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let header = |name: HeaderName| {
            parts.headers.get(name).and_then(|header| header.to_str().ok()).unwrap_or_default().to_owned()
        };
        Ok(Self {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            authorization: header(AUTHORIZATION),
            private_token: header(HeaderName::from_static("private-token")),
        })
    }

    /// The answer to who does not show `token`.
    fn refused(&self, token: &str) -> Option<Reply> {
        let shown = &self.authorization;
        (*shown != format!("Bearer {token}")).then(|| message(StatusCode::UNAUTHORIZED, &format!("{shown:?} is not valid")))
    }

    fn text(&self, field: &str) -> &str {
        self.body.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

type Reply = (StatusCode, Value);

fn message(status: StatusCode, text: &str) -> Reply {
    (status, json!({"message": text}))
}

async fn serve(answer: impl Fn(Asked) -> Reply + Send + Sync + 'static) -> Result<Server> {
    let answer = Arc::new(answer);
    Server::start(None, move |request| {
        let answer = answer.clone();
        async move {
            let (status, body) = answer(Asked::read(request).await?);
            let body = if status == StatusCode::NO_CONTENT { Bytes::new() } else { Bytes::from(body.to_string()) };
            let mut response = Response::new(Full::new(body));
            *response.status_mut() = status;
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            Ok(response)
        }
    })
    .await
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A service that always answers the same.
pub struct Webhook {
    server: Server,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Webhook {
    /// Starts one that gives `answer` to who shows `token`, and 401 to the others.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(token: &str, answer: Value) -> Result<Self> {
        let (token, asked) = (token.to_owned(), Arc::<Mutex<Vec<Asked>>>::default());
        let kept = asked.clone();
        let server = serve(move |asked| {
            let reply = asked.refused(&token).unwrap_or_else(|| (StatusCode::OK, answer.clone()));
            lock(&kept).push(asked);
            reply
        })
        .await?;
        Ok(Self { server, asked })
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.asked).clone()
    }
}

/// A Grafana without service accounts yet.
pub struct Grafana {
    server: Server,
    state: Arc<Mutex<Accounts>>,
}

#[derive(Default)]
struct Accounts {
    list: Vec<Account>,
    tokens_made: u64,
    deletes_nothing: bool,
}

struct Account {
    id: u64,
    name: String,
    role: String,
    /// Their keys by id.
    tokens: BTreeMap<u64, String>,
}

impl Grafana {
    /// Starts one that may be administered with `token`. The tokens that it makes hold `mark`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(token: &str, mark: &str) -> Result<Self> {
        let (token, mark, state) = (token.to_owned(), mark.to_owned(), Arc::<Mutex<Accounts>>::default());
        let kept = state.clone();
        let server = serve(move |asked| asked.refused(&token).unwrap_or_else(|| lock(&kept).answer(&asked, &mark))).await?;
        Ok(Self { server, state })
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// The names of the service accounts.
    #[must_use]
    pub fn accounts(&self) -> Vec<String> {
        lock(&self.state).list.iter().map(|account| account.name.clone()).collect()
    }

    /// The tokens that may be used now, by id.
    #[must_use]
    pub fn tokens(&self) -> BTreeMap<u64, String> {
        lock(&self.state).list.iter().flat_map(|account| account.tokens.clone()).collect()
    }

    /// How many tokens it has made, also those that are deleted.
    #[must_use]
    pub fn made(&self) -> u64 {
        lock(&self.state).tokens_made
    }

    /// Whether it answers 500 to each deletion from now on.
    pub fn delete_nothing(&self, so: bool) {
        lock(&self.state).deletes_nothing = so;
    }
}

impl Accounts {
    fn answer(&mut self, asked: &Asked, mark: &str) -> Reply {
        let Some(path) = asked.path.strip_prefix("/api/serviceaccounts") else {
            return message(StatusCode::NOT_FOUND, "Not found");
        };
        let path: Vec<&str> = path.split('/').skip(1).collect();
        match (asked.method.as_str(), path.as_slice()) {
            ("GET", ["search"]) => self.search(&asked.query),
            ("POST", []) => self.create(asked.text("name"), asked.text("role")),
            ("POST", [id, "tokens"]) => self.create_token(id, asked.text("name"), mark),
            ("DELETE", [_, "tokens", _]) if self.deletes_nothing => {
                message(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
            }
            ("DELETE", [id, "tokens", token]) => self.delete_token(id, token),
            _ => message(StatusCode::NOT_FOUND, "Not found"),
        }
    }

    fn search(&self, query: &str) -> Reply {
        let part = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "query").map(|(_, value)| value);
        let named = |account: &&Account| part.as_ref().is_none_or(|part| account.name.contains(part.as_ref()));
        let found: Vec<Value> = self.list.iter().filter(named).map(Account::shown).collect();
        (StatusCode::OK, json!({"totalCount": found.len(), "serviceAccounts": found, "page": 1, "perPage": 1000}))
    }

    fn create(&mut self, name: &str, role: &str) -> Reply {
        if name.is_empty() || self.list.iter().any(|account| account.name == name) {
            return message(StatusCode::BAD_REQUEST, "service account already exists");
        }
        let id = self.list.len() as u64 + 1;
        let account = Account { id, name: name.to_owned(), role: role.to_owned(), tokens: BTreeMap::new() };
        let shown = account.shown();
        self.list.push(account);
        (StatusCode::CREATED, shown)
    }

    fn create_token(&mut self, account: &str, name: &str, mark: &str) -> Reply {
        let id = self.tokens_made + 1;
        let Some(account) = self.account(account) else {
            return message(StatusCode::NOT_FOUND, "service account not found");
        };
        if name.is_empty() {
            return message(StatusCode::BAD_REQUEST, "a token needs a name");
        }
        let key = format!("glsa_{mark}_{id}");
        account.tokens.insert(id, key.clone());
        self.tokens_made = id;
        (StatusCode::OK, json!({"id": id, "name": name, "key": key}))
    }

    fn delete_token(&mut self, account: &str, token: &str) -> Reply {
        let tokens = self.account(account).map(|account| &mut account.tokens);
        let deleted = token.parse().ok().and_then(|id: u64| tokens?.remove(&id));
        match deleted {
            Some(_) => message(StatusCode::OK, "Service account token deleted"),
            None => message(StatusCode::NOT_FOUND, "service account token not found"),
        }
    }

    fn account(&mut self, id: &str) -> Option<&mut Account> {
        self.list.iter_mut().find(|account| account.id.to_string() == id)
    }
}

impl Account {
    /// As Grafana shows it: never with its tokens.
    fn shown(&self) -> Value {
        let Self { id, name, role, tokens } = self;
        json!({"id": id, "name": name, "login": self.login(), "orgId": 1, "isDisabled": false, "role": role, "tokens": tokens.len()})
    }

    fn login(&self) -> String {
        format!("sa-1-{}", self.name)
    }
}

/// A GitLab with one project, `group/app`, that has no deploy tokens yet.
pub struct Gitlab {
    server: Server,
    state: Arc<Mutex<DeployTokens>>,
}

#[derive(Default)]
struct DeployTokens {
    /// What is told of each, and its value.
    by_id: BTreeMap<u64, (Value, String)>,
    made: u64,
    deletes_nothing: bool,
}

/// The scopes that a deploy token may have, in a GitLab from before it had virtual registries.
const SCOPES: [&str; 5] =
    ["read_repository", "read_registry", "write_registry", "read_package_registry", "write_package_registry"];

impl Gitlab {
    /// Starts one that may be administered with `token`. The tokens that it makes hold `mark`.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start(token: &str, mark: &str) -> Result<Self> {
        let (token, mark, state) = (token.to_owned(), mark.to_owned(), Arc::<Mutex<DeployTokens>>::default());
        let kept = state.clone();
        let server = serve(move |asked| match asked.private_token == token {
            true => lock(&kept).answer(&asked, &mark),
            false => message(StatusCode::UNAUTHORIZED, &format!("401 Unauthorized: {:?}", asked.private_token)),
        })
        .await?;
        Ok(Self { server, state })
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// The deploy tokens that may be used now: what is told of each, and its value.
    #[must_use]
    pub fn tokens(&self) -> BTreeMap<u64, (Value, String)> {
        lock(&self.state).by_id.clone()
    }

    /// Whether it answers 500 to each deletion from now on.
    pub fn delete_nothing(&self, so: bool) {
        lock(&self.state).deletes_nothing = so;
    }
}

impl DeployTokens {
    fn answer(&mut self, asked: &Asked, mark: &str) -> Reply {
        let Some(path) = asked.path.strip_prefix("/api/v4/projects/group%2Fapp/deploy_tokens") else {
            return message(StatusCode::NOT_FOUND, "404 Project Not Found");
        };
        match (asked.method.as_str(), path.strip_prefix('/')) {
            ("GET", None) => (StatusCode::OK, self.by_id.values().map(|(told, _)| told.clone()).collect()),
            ("POST", None) => self.create(asked, mark),
            ("DELETE", Some(_)) if self.deletes_nothing => {
                message(StatusCode::INTERNAL_SERVER_ERROR, "500 Internal Server Error")
            }
            ("DELETE", Some(id)) => match id.parse().ok().and_then(|id: u64| self.by_id.remove(&id)) {
                Some(_) => (StatusCode::NO_CONTENT, Value::Null),
                None => message(StatusCode::NOT_FOUND, "404 Not found"),
            },
            _ => message(StatusCode::NOT_FOUND, "404 Not Found"),
        }
    }

    fn create(&mut self, asked: &Asked, mark: &str) -> Reply {
        let wrong = |text: &str| (StatusCode::BAD_REQUEST, json!({"error": text}));
        let scopes = asked.body["scopes"].as_array().cloned().unwrap_or_default();
        if asked.text("name").is_empty() {
            return wrong("name is missing");
        }
        if scopes.is_empty() || !scopes.iter().all(|scope| scope.as_str().is_some_and(|scope| SCOPES.contains(&scope))) {
            return wrong("scopes does not have a valid value");
        }
        self.made += 1;
        let (id, token) = (self.made, format!("gldt-{mark}-{}", self.made));
        let username = match asked.text("username") {
            "" => format!("gitlab+deploy-token-{id}"),
            own => own.to_owned(),
        };
        let told = json!({
            "id": id, "name": asked.text("name"), "username": username, "expires_at": asked.body["expires_at"],
            "revoked": false, "expired": false, "scopes": scopes,
        });
        self.by_id.insert(id, (told.clone(), token.clone()));
        let mut answer = told;
        answer["token"] = json!(token);
        (StatusCode::CREATED, answer)
    }
}
