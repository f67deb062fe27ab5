//! Infisical: the REST API as its OpenAPI document and the open source of its server have it, `/api/v4/secrets` and the older
//! `/api/v3/secrets/raw` beside it, with logins of machine identities, folders, imports, references, versions and metadata.
//! Its official Python client reads and writes it, and logs in in each way that it knows: universal, AWS, LDAP, OIDC and with a token
//! made by hand (`e2e/oracles/clients/infisical.py`). keyferry does not use OIDC, whose request is that of the logins with a JWT. That
//! client has none of those: `jwt-auth`, `kubernetes-auth`, `azure-auth` and `gcp-auth` are here as the server's source has them, but
//! for the JWT, which is compared with the one that is trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply, digest};

/// Slug of its only project.
pub const PROJECT: &str = "shop";
/// Id of the project.
pub const PROJECT_ID: &str = "6f1c1f4e-0d5a-4b9e-9a53-0c7f6c7a1f10";
/// Its environments.
pub const ENVIRONMENTS: &[&str] = &["prod", "dev"];
/// The client id, the client secret and other credentials that it takes.
pub const CLIENT_ID: &str = "client-1";
/// See [`CLIENT_ID`].
pub const CLIENT_SECRET: &str = "client-secret-1";
/// Id of the machine identity.
pub const IDENTITY: &str = "identity-1";
/// The JWT that it trusts.
pub const JWT: &str = "trusted.jwt.1";
/// Password of the user `bob` in LDAP.
pub const PASSWORD: &str = "ldap-password-1";
/// The access key that AWS knows.
pub const AWS_KEY_ID: &str = "AKIDEXAMPLE";
/// Its secret part.
pub const AWS_SECRET_KEY: &str = "aws-secret-key-1";
/// A token that somebody made by hand.
pub const ACCESS_TOKEN: &str = "st.made-by-hand";

#[derive(Clone, Default)]
struct Kept {
    versions: Vec<String>,
    metadata: BTreeMap<String, String>,
}

/// Environment, folder, name.
type Key = (String, String, String);

#[derive(Default)]
struct State {
    secrets: BTreeMap<Key, Kept>,
    imports: Vec<[String; 4]>,
    tokens: BTreeSet<String>,
    made: usize,
    hidden: BTreeSet<String>,
    denied: BTreeSet<String>,
    approvals: bool,
    /// Slugs of what is gone: the project, environments; and folders as `environment:/path`.
    gone: BTreeSet<String>,
}

/// The service.
#[derive(Default)]
pub struct Infisical {
    state: Mutex<State>,
    old: bool,
    token_life: u64,
}

impl Infisical {
    /// One of the time before version 4 of the API.
    pub fn old() -> Self {
        Self { old: true, ..Self::default() }
    }

    /// One whose tokens hold for so many seconds, and not for good.
    pub fn with_token_life(seconds: u64) -> Self {
        Self { token_life: seconds, ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a secret in, or a new version of it.
    pub fn put(&self, environment: &str, folder: &str, name: &str, value: &str) {
        let key = (environment.to_owned(), folder.to_owned(), name.to_owned());
        self.state().secrets.entry(key).or_default().versions.push(value.to_owned());
    }

    /// Gives a secret metadata.
    pub fn describe(&self, environment: &str, folder: &str, name: &str, metadata: BTreeMap<String, String>) {
        let key = (environment.to_owned(), folder.to_owned(), name.to_owned());
        self.state().secrets.entry(key).or_default().metadata = metadata;
    }

    /// The present value of a secret.
    pub fn value(&self, environment: &str, folder: &str, name: &str) -> Option<String> {
        let key = (environment.to_owned(), folder.to_owned(), name.to_owned());
        self.state().secrets.get(&key).and_then(|kept| kept.versions.last().cloned())
    }

    /// How many versions a secret has.
    pub fn versions(&self, environment: &str, folder: &str, name: &str) -> usize {
        let key = (environment.to_owned(), folder.to_owned(), name.to_owned());
        self.state().secrets.get(&key).map_or(0, |kept| kept.versions.len())
    }

    /// Has a folder show the secrets of another one.
    pub fn import(&self, [environment, folder]: [&str; 2], [from, from_folder]: [&str; 2]) {
        self.state().imports.push([environment, folder, from, from_folder].map(str::to_owned));
    }

    /// The identity may know of the secrets of a name, and not their values.
    pub fn hide(&self, name: &str) {
        self.state().hidden.insert(name.to_owned());
    }

    /// The identity may not read the secrets of a name, or may again.
    pub fn deny(&self, name: &str, denied: bool) {
        match denied {
            true => self.state().denied.insert(name.to_owned()),
            false => self.state().denied.remove(name),
        };
    }

    /// Changes wait for somebody's approval.
    pub fn ask_for_approval(&self) {
        self.state().approvals = true;
    }

    /// Somebody deletes the project.
    pub fn remove_project(&self) {
        self.state().gone.insert(PROJECT.to_owned());
    }

    /// Somebody deletes an environment.
    pub fn remove_environment(&self, slug: &str) {
        self.state().gone.insert(slug.to_owned());
    }

    /// Somebody deletes a folder.
    pub fn remove_folder(&self, environment: &str, folder: &str) {
        self.state().gone.insert(format!("{environment}:{folder}"));
    }

    /// All tokens end.
    pub fn end_tokens(&self) {
        self.state().tokens.clear();
    }

    fn login(&self, method: &str, body: &Value) -> Reply {
        let is = |field: &str, value: &str| body[field] == value;
        if method != "universal-auth" && !is("identityId", IDENTITY) {
            return refused(404, "NotFound", &format!("{method} not found for identity {CANARY} {body}"));
        }
        let good = match method {
            "universal-auth" => is("clientId", CLIENT_ID) && is("clientSecret", CLIENT_SECRET),
            "jwt-auth" | "kubernetes-auth" | "azure-auth" | "gcp-auth" | "oidc-auth" => is("jwt", JWT),
            "ldap-auth" => is("username", "bob") && is("password", PASSWORD),
            "aws-auth" => match Question::of(body) {
                None => return refused(400, "BadRequest", "Invalid AWS region"),
                // It has no words for a no of AWS.
                Some(question) if !question.pleases_aws() => {
                    return refused(500, "InternalServerError", "Something went wrong");
                }
                Some(_) => true,
            },
            _ => return no_route(),
        };
        if !good {
            return refused(401, "UnauthorizedError", &format!("Invalid credentials {CANARY} {body}"));
        }
        let mut state = self.state();
        state.made += 1;
        let token = format!("token-{}", state.made);
        state.tokens.insert(token.clone());
        let life = json!(self.token_life);
        Reply::json(200, &json!({"accessToken": token, "expiresIn": life, "accessTokenMaxTTL": life, "tokenType": "Bearer"}))
    }

    fn project(&self, steps: &[String]) -> Reply {
        let home = if self.old { "workspace" } else { "projects" };
        if steps[2] != home {
            return no_route();
        }
        let state = self.state();
        if steps[4] != PROJECT || state.gone.contains(PROJECT) {
            return refused(404, "NotFound", &format!("Project with slug '{}' not found", steps[4]));
        }
        let there = ENVIRONMENTS.iter().filter(|slug| state.has(slug));
        let environments: Vec<Value> =
            there.map(|slug| json!({"id": format!("env-{slug}"), "name": slug, "slug": slug})).collect();
        Reply::json(
            200,
            &json!({"id": PROJECT_ID, "name": "Shop", "slug": PROJECT, "environments": environments, "type": "secret-manager"}),
        )
    }

    fn secrets(&self, asked: &Received, version: &str, name: Option<&str>) -> Reply {
        let body = asked.json();
        let parameter = |name: &str| match asked.method() {
            "GET" => asked.query(name),
            _ => body[name].as_str().map(str::to_owned),
        };
        let named = match version {
            "v4" => parameter("projectId").is_some_and(|id| id == PROJECT_ID),
            _ => {
                let slug = parameter("workspaceSlug").or_else(|| parameter("projectSlug"));
                parameter("workspaceId").is_some_and(|id| id == PROJECT_ID) || slug.is_some_and(|slug| slug == PROJECT)
            }
        };
        if !named || self.state().gone.contains(PROJECT) {
            return refused(404, "NotFound", &format!("Project with ID '{PROJECT_ID}' not found"));
        }
        let environment = parameter("environment").unwrap_or_default();
        let folder = parameter("secretPath").unwrap_or_else(|| "/".to_owned());
        match (asked.method(), name) {
            ("GET", None) => self.list(asked, &environment, &folder),
            ("GET", Some(name)) => self.one(asked, &environment, &folder, name),
            (_, Some(name)) => self.write(asked.method(), &body, (environment, folder, name.to_owned())),
            _ => no_route(),
        }
    }

    fn one(&self, asked: &Received, environment: &str, folder: &str, name: &str) -> Reply {
        let state = self.state();
        if !state.has(environment) || state.gone.contains(&format!("{environment}:{folder}")) {
            let text = format!("Folder with path '{folder}' in environment with slug '{environment}' not found");
            return refused(404, "GetSecretByName", &text);
        }
        let mut places = vec![[environment.to_owned(), folder.to_owned()]];
        if wants(asked, "include_imports") {
            let imports = state.imports.iter().rev().filter(|i| i[0] == environment && i[1] == folder);
            places.extend(imports.map(|[_, _, from, from_folder]| [from.clone(), from_folder.clone()]));
        }
        let found = places.into_iter().find_map(|[environment, folder]| {
            let key = (environment, folder, name.to_owned());
            state.secrets.get(&key).map(|kept| (key, kept))
        });
        let missing = || refused(404, "NotFound", &format!("Secret with name '{name}' not found, {CANARY}"));
        let Some((key, kept)) = found else { return missing() };
        if state.denied.contains(name) {
            return refused(403, "PermissionDenied", &format!("You are not allowed to read {CANARY}"));
        }
        let number = match asked.query("version") {
            None => kept.versions.len(),
            Some(version) => version.parse().unwrap_or(0),
        };
        let Some(value) = number.checked_sub(1).and_then(|index| kept.versions.get(index)) else { return missing() };
        Reply::json(200, &json!({"secret": state.shown(asked, &key, kept, number, value)}))
    }

    fn list(&self, asked: &Received, environment: &str, folder: &str) -> Reply {
        let state = self.state();
        if !state.has(environment) {
            return Reply::json(200, &json!({"secrets": [], "imports": []}));
        }
        let below = wants(asked, "recursive");
        let all = |environment: &str, folder: &str, below: bool| -> Vec<Value> {
            let prefix = format!("{}/", folder.trim_end_matches('/'));
            let here = |key: &Key| key.0 == environment && (key.1 == folder || below && key.1.starts_with(&prefix));
            let found = state.secrets.iter().filter(|(key, _)| here(key) && !state.denied.contains(&key.2));
            let last = |kept: &Kept| kept.versions.last().cloned().unwrap_or_default();
            found.map(|(key, kept)| state.shown(asked, key, kept, kept.versions.len(), &last(kept))).collect()
        };
        let mut imports = Vec::new();
        if wants(asked, "include_imports") {
            for [_, _, from, from_folder] in state.imports.iter().filter(|i| i[0] == environment && i[1] == folder) {
                let secrets = all(from, from_folder, false);
                imports.push(json!({"secretPath": from_folder, "environment": from, "secrets": secrets}));
            }
        }
        Reply::json(200, &json!({"secrets": all(environment, folder, below), "imports": imports}))
    }

    fn write(&self, method: &str, body: &Value, key: Key) -> Reply {
        let mut state = self.state();
        if state.denied.contains(&key.2) {
            return refused(403, "PermissionDenied", &format!("You are not allowed to edit {CANARY}"));
        }
        if state.approvals {
            return Reply::json(200, &json!({"approval": {"id": "approval-1", "status": "open"}}));
        }
        let there = state.secrets.contains_key(&key);
        match (method, there) {
            ("POST", true) => return refused(400, "BadRequest", "Secret already exists"),
            ("PATCH" | "DELETE", false) => return refused(404, "NotFound", "Secret not found"),
            ("DELETE", true) => {
                let kept = state.secrets.remove(&key).unwrap();
                return Reply::json(200, &json!({"secret": entry(&key, kept.versions.len(), CANARY, false, &kept)}));
            }
            _ => {}
        }
        let Some(value) = body["secretValue"].as_str() else { return refused(422, "ValidationFailure", "secretValue") };
        let mut value_kept = value.trim().to_owned();
        if value.ends_with('\n') {
            value_kept.push('\n');
        }
        let kept = state.secrets.entry(key.clone()).or_default();
        kept.versions.push(value_kept.clone());
        let shown = entry(&key, kept.versions.len(), &value_kept, false, kept);
        Reply::json(200, &json!({"secret": shown}))
    }
}

impl State {
    fn has(&self, environment: &str) -> bool {
        ENVIRONMENTS.contains(&environment) && !self.gone.contains(environment)
    }

    fn shown(&self, asked: &Received, key: &Key, kept: &Kept, version: usize, value: &str) -> Value {
        let hidden = self.hidden.contains(&key.2) || asked.query("viewSecretValue").is_some_and(|view| view == "false");
        let value = if wants(asked, "expandSecretReferences") { self.expanded(key, value) } else { value.to_owned() };
        entry(key, version, &value, hidden, kept)
    }

    /// With `${NAME}` of the same folder and `${environment.folder.NAME}` of others put in, one level deep.
    fn expanded(&self, key: &Key, value: &str) -> String {
        let mut out = String::new();
        let mut rest = value;
        while let Some((before, (name, after))) =
            rest.split_once("${").and_then(|(before, tail)| Some((before, tail.split_once('}')?)))
        {
            let steps: Vec<&str> = name.split('.').collect();
            let wanted = match steps.as_slice() {
                [name] => (key.0.clone(), key.1.clone(), (*name).to_owned()),
                [environment, folders @ .., name] => {
                    ((*environment).to_owned(), format!("/{}", folders.join("/")), (*name).to_owned())
                }
                [] => key.clone(),
            };
            out.push_str(before);
            let found = self.secrets.get(&wanted).and_then(|kept| kept.versions.last());
            out.push_str(found.map_or("", String::as_str));
            rest = after;
        }
        out + rest
    }
}

/// A question to AWS who somebody is, which Infisical sends on to the STS of the region that it is signed for.
struct Question {
    method: String,
    /// Their names in small letters.
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    region: String,
}

impl Question {
    /// `None`: Infisical finds no region in it.
    fn of(login: &Value) -> Option<Self> {
        let part = |name: &str| STANDARD.decode(login[name].as_str().unwrap_or_default()).unwrap_or_default();
        let headers: BTreeMap<String, String> = serde_json::from_slice(&part("iamRequestHeaders")).unwrap_or_default();
        let authorization = headers.get("Authorization").or_else(|| headers.get("authorization"))?;
        let credential = authorization.split(' ').find(|field| field.starts_with("Credential="))?;
        let region = credential.split('/').nth(2)?.to_owned();
        let is_known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !(1..=20).contains(&region.len()) || !region.chars().all(is_known) {
            return None;
        }
        let method = login["iamHttpRequestMethod"].as_str().unwrap_or("POST").to_owned();
        let headers = headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
        Some(Self { method, headers, body: part("iamRequestBody"), region })
    }

    /// Whether AWS answers it: it is the one question, and signed with the key that AWS knows.
    fn pleases_aws(&self) -> bool {
        self.method == "POST"
            && self.body == b"Action=GetCallerIdentity&Version=2011-06-15"
            && self.is_signed().unwrap_or_default()
    }

    /// Computes the signature (AWS Signature Version 4) and compares it. `None`: something is missing.
    fn is_signed(&self) -> Option<bool> {
        let fields = self.headers.get("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ")?.split(',');
        let fields: BTreeMap<&str, &str> = fields.filter_map(|field| field.trim().split_once('=')).collect();
        let (names, time) = (*fields.get("SignedHeaders")?, self.headers.get("x-amz-date")?);
        let scope = format!("{}/{}/sts/aws4_request", time.get(..8)?, self.region);
        let mut request = format!("{}\n/\n\n", self.method);
        for name in names.split(';') {
            request += &format!("{name}:{}\n", self.header(name)?.trim());
        }
        request += &format!("\n{names}\n{}", digest(&self.body));
        let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", digest(request.as_bytes()));
        let mac = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
        let secret = format!("AWS4{AWS_SECRET_KEY}").into_bytes();
        let key = scope.split('/').fold(secret, |key, step| mac(&key, step).as_ref().to_vec());
        let signature: String = mac(&key, &text).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let expected = [format!("{AWS_KEY_ID}/{scope}"), signature];
        Some([*fields.get("Credential")?, *fields.get("Signature")?] == expected)
    }

    /// A header as Infisical sends it on: two come out of what else it sends.
    fn header(&self, name: &str) -> Option<String> {
        match name {
            "host" => Some(format!("sts.{}.amazonaws.com", self.region)),
            "content-length" => Some(self.body.len().to_string()),
            _ => self.headers.get(name).cloned(),
        }
    }
}

fn wants(asked: &Received, name: &str) -> bool {
    asked.query(name).is_some_and(|value| value == "true")
}

fn entry(key: &Key, version: usize, value: &str, hidden: bool, kept: &Kept) -> Value {
    let value = if hidden { "<hidden-by-infisical>" } else { value };
    let metadata: Vec<Value> =
        kept.metadata.iter().map(|(key, value)| json!({"key": key, "value": value, "isEncrypted": false})).collect();
    let id = format!("id-{}", key.2);
    json!({
        "id": id, "_id": id, "workspace": PROJECT_ID, "environment": key.0, "version": version, "type": "shared",
        "secretKey": key.2, "secretValue": value, "secretValueHidden": hidden, "secretComment": "", "secretPath": key.1,
        "secretMetadata": metadata, "tags": [], "isRotatedSecret": false,
        "createdAt": "2026-01-02T03:04:05.000Z", "updatedAt": "2026-01-02T03:04:05.000Z",
    })
}

fn refused(status: u16, error: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"reqId": "req-1", "statusCode": status, "message": message, "error": error}))
}

fn no_route() -> Reply {
    refused(404, "Not Found", "Route GET:/ not found")
}

impl Fake for Infisical {
    fn answer(&self, asked: &Received) -> Reply {
        let steps = asked.steps();
        let step: Vec<&str> = steps.iter().map(String::as_str).collect();
        if let ["api", "v1", "auth", method, "login"] = step[..] {
            return self.login(method, &asked.json());
        }
        let token = asked.header("authorization").strip_prefix("Bearer ").unwrap_or_default().to_owned();
        if token.starts_with("token-") && !self.state().tokens.contains(&token) {
            return refused(403, "TokenError", &format!("Your token has expired. Please re-authenticate. {CANARY}"));
        }
        if !token.starts_with("token-") && token != ACCESS_TOKEN {
            return refused(401, "UnauthorizedError", &format!("Token missing {CANARY}"));
        }
        match step[..] {
            // Tokens that were made by hand are good for secrets alone.
            ["api", "v1", "projects" | "workspace", "slug", _] if token == ACCESS_TOKEN => {
                refused(403, "ForbiddenError", "This actor is not allowed")
            }
            ["api", "v1", "projects" | "workspace", "slug", _] => self.project(&steps),
            ["api", "v3", "secrets", "raw"] => self.secrets(asked, "v3", None),
            ["api", "v3", "secrets", "raw", name] => self.secrets(asked, "v3", Some(name)),
            ["api", "v4", "secrets"] if !self.old => self.secrets(asked, "v4", None),
            ["api", "v4", "secrets", name] if !self.old => self.secrets(asked, "v4", Some(name)),
            _ => no_route(),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let error = match refusal {
            Refusal::Denied => "PermissionDenied",
            Refusal::Throttled(_) => "RateLimitExceeded",
            Refusal::Broken => "InternalServerError",
        };
        let reply = refused(refusal.status(), error, &format!("refused {CANARY}"));
        match refusal {
            Refusal::Throttled(seconds) => reply.with("retry-after", &seconds.to_string()),
            Refusal::Denied | Refusal::Broken => reply,
        }
    }
}
