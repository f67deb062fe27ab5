//! A registry of containers: the part of the OCI Distribution Specification 1.1 that pulls and pushes an artifact, with the token
//! flow of Docker's registries. Blobs are given out from another path, as registries do that keep them elsewhere.

use std::collections::BTreeMap;
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::{Fake, Received, Refusal, Reply, digest};

/// Who may pull and push.
const USER: &str = "puller";
const PASSWORD: &str = "pull-password";
/// What the token flow gives.
const TOKEN: &str = "registry-token";
/// Kind of the manifests that are put here without a client.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry.
#[derive(Default)]
pub struct Registry {
    held: Mutex<Held>,
    /// Whether who has no token may do nothing.
    pub closed: bool,
}

#[derive(Default)]
struct Held {
    /// By digest.
    blobs: BTreeMap<String, Vec<u8>>,
    /// By repository and tag or digest: kind and bytes.
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
}

impl Registry {
    /// One that asks for a login.
    pub fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }

    /// A Docker configuration with a login to it.
    pub fn login(host: &str) -> String {
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        json!({"auths": {host: {"auth": auth}}}).to_string()
    }

    /// User and password.
    pub fn user() -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// Puts an artifact of files there.
    pub fn put(&self, repository: &str, tag: &str, files: &[(&str, &[u8])]) {
        let layers: Vec<Value> = files.iter().map(|(title, bytes)| self.layer("application/yaml", title, bytes)).collect();
        self.put_manifest(repository, tag, &layers);
    }

    /// Puts a blob there, and describes it as a layer.
    pub fn layer(&self, kind: &str, title: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", digest(bytes));
        self.held.lock().unwrap().blobs.insert(digest.clone(), bytes.to_vec());
        let annotations = json!({"org.opencontainers.image.title": title});
        json!({"mediaType": kind, "digest": digest, "size": bytes.len(), "annotations": annotations})
    }

    /// Puts a manifest of layers there, and returns its digest.
    pub fn put_manifest(&self, repository: &str, tag: &str, layers: &[Value]) -> String {
        let empty = format!("sha256:{}", digest(b"{}"));
        let config = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2});
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers}).to_string();
        self.keep_manifest(repository, tag, MANIFEST, manifest.as_bytes())
    }

    fn keep_manifest(&self, repository: &str, tag: &str, kind: &str, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", digest(bytes));
        let mut held = self.held.lock().unwrap();
        for version in [tag, &digest] {
            let place = (repository.to_owned(), version.to_owned());
            held.manifests.insert(place, (kind.to_owned(), bytes.to_vec()));
        }
        digest
    }

    /// Changes all blobs behind their digests.
    pub fn corrupt(&self) {
        for bytes in self.held.lock().unwrap().blobs.values_mut() {
            bytes.push(b' ');
        }
    }

    fn token(&self, asked: &Received) -> Reply {
        let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
        if self.closed && asked.header("authorization") != expected {
            return Reply::json(401, &json!({"errors": [{"code": "UNAUTHORIZED"}]}));
        }
        Reply::json(200, &json!({"token": TOKEN, "expires_in": 300}))
    }

    fn challenge(asked: &Received) -> Reply {
        let realm = format!("http://{}/token", asked.header("host"));
        let challenge = format!("Bearer realm=\"{realm}\",service=\"registry.test\",scope=\"repository:x:pull,push\"");
        Reply::json(401, &json!({"errors": [{"code": "UNAUTHORIZED"}]})).with("www-authenticate", &challenge)
    }

    fn manifest(&self, asked: &Received, repository: &str, version: &str) -> Reply {
        if asked.method() == "PUT" {
            let digest = self.keep_manifest(repository, version, asked.header("content-type"), &asked.bytes);
            let location = format!("/v2/{repository}/manifests/{digest}");
            return Reply::text(201, "").with("location", &location).with("docker-content-digest", &digest);
        }
        let held = self.held.lock().unwrap();
        match held.manifests.get(&(repository.to_owned(), version.to_owned())) {
            Some((kind, bytes)) => Reply::bytes(200, bytes.clone()).with("content-type", kind),
            None => Reply::json(404, &json!({"errors": [{"code": "MANIFEST_UNKNOWN"}]})),
        }
    }

    fn blob(&self, asked: &Received, repository: &str, step: &str) -> Reply {
        let held = self.held.lock().unwrap();
        match (asked.method(), held.blobs.contains_key(step)) {
            ("HEAD", true) => Reply::text(200, ""),
            ("GET", true) => Reply::text(307, "").with("location", &format!("/elsewhere/{step}?signed=1")),
            ("POST", _) => Reply::text(202, "").with("location", &format!("/v2/{repository}/blobs/uploads/1")),
            _ => Reply::json(404, &json!({"errors": [{"code": "BLOB_UNKNOWN"}]})),
        }
    }

    fn upload(&self, asked: &Received) -> Reply {
        let digest = asked.query("digest").unwrap_or_default();
        self.held.lock().unwrap().blobs.insert(digest.clone(), asked.bytes.clone());
        Reply::text(201, "").with("docker-content-digest", &digest)
    }

    /// Where blobs are kept: what is signed needs no login.
    fn elsewhere(&self, digest: &str) -> Reply {
        match self.held.lock().unwrap().blobs.get(digest) {
            Some(bytes) => Reply::bytes(200, bytes.clone()),
            None => Reply::text(404, ""),
        }
    }
}

impl Fake for Registry {
    fn answer(&self, asked: &Received) -> Reply {
        let steps = asked.steps();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        match steps.as_slice() {
            ["token"] => return self.token(asked),
            ["elsewhere", digest] => return self.elsewhere(digest),
            _ if self.closed && asked.header("authorization") != format!("Bearer {TOKEN}") => return Self::challenge(asked),
            _ => {}
        }
        match steps.as_slice() {
            ["v2", ""] | ["v2"] => Reply::json(200, &json!({})),
            ["v2", repository @ .., "manifests", version] => self.manifest(asked, &repository.join("/"), version),
            ["v2", .., "blobs", "uploads", _] if asked.method() == "PUT" => self.upload(asked),
            ["v2", repository @ .., "blobs", "uploads", _] => self.blob(asked, &repository.join("/"), ""),
            ["v2", repository @ .., "blobs", step] => self.blob(asked, &repository.join("/"), step),
            _ => self.refuse(Refusal::Denied),
        }
    }
}
