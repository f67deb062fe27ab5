//! Scaleway Secret Manager: version v1beta1 of its REST API, as Scaleway's API reference and the generated SDKs have it: secrets in
//! folders, revisions that can be disabled, tags, pages. Scaleway's official Python client reads and writes it
//! (`e2e/oracles/clients/scaleway_.py`).

use std::sync::{Mutex, MutexGuard};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply};

/// The access key and the secret key that it takes, which have the form of Scaleway's.
pub const ACCESS_KEY: &str = "SCWXXXXXXXXXXXXXXXXX";
/// See [`ACCESS_KEY`].
pub const SECRET_KEY: &str = "00000000-0000-4000-8000-00000000aaaa";
/// Its only project.
pub const PROJECT: &str = "00000000-0000-4000-8000-00000000bbbb";
/// Its only region.
pub const REGION: &str = "fr-par";
/// When all of it was made.
const AT: &str = "2026-01-01T00:00:00Z";

struct Version {
    name: Option<String>,
    data: Vec<u8>,
    enabled: bool,
}

struct Kept {
    id: String,
    folder: String,
    name: String,
    tags: Vec<String>,
    versions: Vec<Version>,
}

/// The service.
#[derive(Default)]
pub struct Scaleway {
    secrets: Mutex<Vec<Kept>>,
}

impl Scaleway {
    fn secrets(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.secrets.lock().unwrap()
    }

    /// Puts a secret in a folder, or a new version of it; returns its id. A version can have a name besides its number.
    pub fn put(&self, folder: &str, name: &str, data: &[u8], tags: &[String], version: Option<&str>) -> String {
        let mut secrets = self.secrets();
        let version = Version { name: version.map(str::to_owned), data: data.to_vec(), enabled: true };
        if let Some(kept) = secrets.iter_mut().find(|kept| kept.folder == folder && kept.name == name) {
            kept.versions.push(version);
            return kept.id.clone();
        }
        let id = format!("00000000-0000-4000-8000-{:012x}", secrets.len() + 1);
        let (folder, name, tags) = (folder.to_owned(), name.to_owned(), tags.to_vec());
        secrets.push(Kept { id: id.clone(), folder, name, tags, versions: vec![version] });
        id
    }

    /// Disables the last version of a secret.
    pub fn disable(&self, folder: &str, name: &str) {
        let mut secrets = self.secrets();
        let kept = secrets.iter_mut().find(|kept| kept.folder == folder && kept.name == name).unwrap();
        kept.versions.last_mut().unwrap().enabled = false;
    }

    /// The versions of a secret, and whether each is enabled.
    pub fn versions(&self, folder: &str, name: &str) -> Vec<(Vec<u8>, bool)> {
        let secrets = self.secrets();
        let kept = secrets.iter().find(|kept| kept.folder == folder && kept.name == name);
        kept.map(|kept| kept.versions.iter().map(|v| (v.data.clone(), v.enabled)).collect()).unwrap_or_default()
    }

    fn list(&self, asked: &Received) -> Reply {
        let number = |name: &str, default: usize| asked.query(name).and_then(|text| text.parse().ok()).unwrap_or(default);
        let (page, size) = (number("page", 1), number("page_size", 20).min(100));
        let is = |wanted: Option<String>, found: &str| wanted.is_none_or(|wanted| wanted == found);
        let secrets = self.secrets();
        let fits: Vec<&Kept> = secrets
            .iter()
            .filter(|kept| is(asked.query("name"), &kept.name) && is(asked.query("path"), &kept.folder))
            .filter(|kept| asked.query("tags").is_none_or(|tag| kept.tags.contains(&tag)))
            .collect();
        let shown: Vec<Value> = fits.iter().skip((page - 1) * size).take(size).map(|kept| kept.told()).collect();
        Reply::json(200, &json!({"secrets": shown, "total_count": fits.len()}))
    }

    fn create(&self, asked: &Received) -> Reply {
        let body = asked.json();
        let text = |name: &str, default: &str| body[name].as_str().unwrap_or(default).to_owned();
        let (name, folder) = (text("name", ""), text("path", "/"));
        if text("project_id", "") != PROJECT || name.is_empty() || name.contains('/') {
            return Reply::json(400, &json!({"type": "invalid_arguments", "message": format!("invalid {CANARY}")}));
        }
        let mut secrets = self.secrets();
        if secrets.iter().any(|kept| kept.name == name && kept.folder == folder) {
            return Reply::json(409, &json!({"type": "conflict", "message": "already exists"}));
        }
        let id = format!("00000000-0000-4000-8000-{:012x}", secrets.len() + 1);
        let tags = body["tags"].as_array().into_iter().flatten().filter_map(|tag| Some(tag.as_str()?.to_owned())).collect();
        let kept = Kept { id, folder, name, tags, versions: Vec::new() };
        let told = kept.told();
        secrets.push(kept);
        Reply::json(200, &told)
    }

    fn add_version(&self, id: &str, asked: &Received) -> Reply {
        let body = asked.json();
        let mut secrets = self.secrets();
        let Some(kept) = secrets.iter_mut().find(|kept| kept.id == id) else { return missing("secret") };
        let Ok(data) = STANDARD.decode(body["data"].as_str().unwrap_or("!")) else {
            return Reply::json(400, &json!({"type": "invalid_arguments", "message": format!("data {CANARY}")}));
        };
        if body["disable_previous"] == true
            && let Some(last) = kept.versions.last_mut()
        {
            last.enabled = false;
        }
        kept.versions.push(Version { name: None, data, enabled: true });
        Reply::json(200, &kept.told_of(kept.versions.len() - 1))
    }

    fn access(&self, is: impl Fn(&Kept) -> bool, revision: &str, with_data: bool) -> Reply {
        let secrets = self.secrets();
        let Some(kept) = secrets.iter().find(|kept| is(kept)) else { return missing("secret") };
        let Some(at) = kept.version(revision) else { return missing("secret_version") };
        if !with_data {
            return Reply::json(200, &kept.told_of(at));
        }
        if !kept.versions[at].enabled {
            let body = json!({"type": "precondition_failed", "precondition": "resource_not_usable", "message": "disabled"});
            return Reply::json(412, &body);
        }
        let data = STANDARD.encode(&kept.versions[at].data);
        Reply::json(200, &json!({"secret_id": kept.id, "revision": at + 1, "data": data, "type": "opaque"}))
    }

    fn delete(&self, id: &str) -> Reply {
        let mut secrets = self.secrets();
        let before = secrets.len();
        secrets.retain(|kept| kept.id != id);
        if secrets.len() == before { missing("secret") } else { Reply::text(204, "") }
    }
}

impl Kept {
    fn version(&self, revision: &str) -> Option<usize> {
        match revision {
            "latest" => self.versions.len().checked_sub(1),
            "latest_enabled" => self.versions.iter().rposition(|version| version.enabled),
            other => {
                let by_name = self.versions.iter().position(|version| version.name.as_deref() == Some(other));
                let by_number = || other.parse::<usize>().ok()?.checked_sub(1).filter(|at| *at < self.versions.len());
                by_name.or_else(by_number)
            }
        }
    }

    fn told(&self) -> Value {
        json!({
            "id": self.id, "project_id": PROJECT, "name": self.name, "path": self.folder, "tags": self.tags, "status": "ready",
            "version_count": self.versions.len(), "managed": false, "protected": false, "type": "opaque", "used_by": [],
            "region": REGION, "created_at": AT, "updated_at": AT,
        })
    }

    fn told_of(&self, at: usize) -> Value {
        json!({
            "revision": at + 1, "secret_id": self.id, "status": if self.versions[at].enabled { "enabled" } else { "disabled" },
            "latest": at + 1 == self.versions.len(), "region": REGION, "created_at": AT, "updated_at": AT,
        })
    }
}

fn missing(resource: &str) -> Reply {
    let body = json!({"type": "not_found", "resource": resource, "resource_id": CANARY, "message": "resource is not found"});
    Reply::json(404, &body)
}

impl Fake for Scaleway {
    fn answer(&self, asked: &Received) -> Reply {
        if asked.header("x-auth-token") != SECRET_KEY {
            let body =
                json!({"type": "denied_authentication", "method": "api_key", "reason": "not_found", "message": CANARY});
            return Reply::json(401, &body);
        }
        let steps = asked.steps();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let Some(["secret-manager", "v1beta1", "regions", REGION]) = steps.get(..4).map(|s| [s[0], s[1], s[2], s[3]]) else {
            return self.refuse(Refusal::Denied);
        };
        match (asked.method(), &steps[4..]) {
            ("GET", ["secrets"]) => self.list(asked),
            ("POST", ["secrets"]) => self.create(asked),
            ("DELETE", ["secrets", id]) => self.delete(id),
            ("POST", ["secrets", id, "versions"]) => self.add_version(id, asked),
            ("GET", ["secrets", id, "versions", revision]) => self.access(|kept| kept.id == *id, revision, false),
            ("GET", ["secrets", id, "versions", revision, "access"]) => self.access(|kept| kept.id == *id, revision, true),
            ("GET", ["secrets-by-path", "versions", revision, "access"]) => {
                let text = |name: &str| asked.query(name).unwrap_or_default();
                let (folder, name) = (text("secret_path"), text("secret_name"));
                self.access(|kept| kept.folder == folder && kept.name == name, revision, true)
            }
            _ => self.refuse(Refusal::Denied),
        }
    }
}
