//! Keeper Secrets Manager: the REST API that Keeper's documentation and its open-source clients have, version 1, for one bound client
//! of one application: requests that are encrypted for the server and signed by the client, records in a shared folder and alone,
//! each with keys of its own, files, writes under revisions, and Keeper's own ways to throttle and to ask for another key. Keeper's
//! official Python client reads and writes it (`e2e/oracles/clients/keeper.py`).

use std::sync::{Mutex, MutexGuard};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Refusal, Reply};

/// The shared folder.
pub const FOLDER: &str = "shared-folder-uid-0000";
/// A folder in it.
pub const SUBFOLDER: &str = "sub-folder-uid-0000000";
/// What Keeper knows the client as.
const CLIENT: &str = "client-id";

type Key = [u8; 32];

struct Record {
    uid: String,
    key: Key,
    json: Value,
    revision: u64,
    files: Vec<(String, Key, String, Vec<u8>)>,
    alone: bool,
    /// The folder in the shared one that it was made in.
    below: Option<String>,
}

#[derive(Default)]
struct State {
    records: Vec<Record>,
    key_id: Option<String>,
    subfolder: bool,
}

/// The service.
pub struct Keeper {
    server: PrivateKey,
    owner: PrivateKey,
    client: Vec<u8>,
    client_public: Vec<u8>,
    app_key: Key,
    folder_key: Key,
    state: Mutex<State>,
}

impl Default for Keeper {
    fn default() -> Self {
        let client = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, client.as_ref()).unwrap();
        Self {
            server: PrivateKey::generate(&ECDH_P256).unwrap(),
            owner: PrivateKey::generate(&ECDH_P256).unwrap(),
            client: client.as_ref().to_vec(),
            client_public: pair.public_key().as_ref().to_vec(),
            app_key: random(),
            folder_key: random(),
            state: Mutex::default(),
        }
    }
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The configuration of the bound client, as Keeper's tools write it.
    pub fn config(&self, host: &str) -> String {
        let public = |key: &PrivateKey| URL_SAFE_NO_PAD.encode(key.compute_public_key().unwrap());
        let config = json!({
            "hostname": host, "clientId": CLIENT, "privateKey": STANDARD.encode(&self.client),
            "serverPublicKeyId": "99", "serverPublicKey": public(&self.server),
            "appKey": STANDARD.encode(self.app_key), "appOwnerPublicKey": public(&self.owner),
        });
        STANDARD.encode(config.to_string())
    }

    /// Puts a record into the shared folder, in place of any of that id.
    pub fn put(&self, uid: &str, json: Value) {
        self.put_with(uid, json, &[], false);
    }

    /// Puts a record with files, each with a title; `alone`: it is shared by itself, and not in the folder.
    pub fn put_with(&self, uid: &str, json: Value, files: &[(&str, &[u8])], alone: bool) {
        let file = |(n, (title, content)): (usize, &(&str, &[u8]))| {
            (format!("{uid}-file-{n}"), random(), (*title).to_owned(), content.to_vec())
        };
        let files = files.iter().enumerate().map(file).collect();
        let key = if alone { self.app_key } else { random() };
        let mut state = self.state();
        state.records.retain(|record| record.uid != uid);
        state.records.push(Record { uid: uid.to_owned(), key, json, revision: 1, files, alone, below: None });
    }

    /// The records of a title, and the folder below the shared one that each was made in.
    pub fn titled(&self, title: &str) -> Vec<(Value, Option<String>)> {
        let state = self.state();
        let titled = state.records.iter().filter(|record| record.json["title"] == title);
        titled.map(|record| (record.json.clone(), record.below.clone())).collect()
    }

    /// From now on it asks for the key of this id; where that is empty, for another key without saying which.
    pub fn ask_for_key(&self, id: &str) {
        self.state().key_id = Some(id.to_owned());
    }

    /// Shows a folder in the shared one.
    pub fn show_subfolder(&self) {
        self.state().subfolder = true;
    }

    fn shown(&self, record: &Record, host: &str) -> Value {
        let file = |(uid, key, title, content): &(String, Key, String, Vec<u8>)| {
            let about =
                json!({"title": title, "name": title, "type": "text/plain", "size": content.len(), "lastModified": 1});
            json!({
                "fileUid": uid, "fileKey": sealed(&record.key, key), "data": sealed(key, about.to_string().as_bytes()),
                "url": format!("http://{host}/files/{uid}"),
            })
        };
        let mut shown = json!({
            "recordUid": record.uid, "data": sealed(&record.key, record.json.to_string().as_bytes()),
            "revision": record.revision, "isEditable": true, "files": record.files.iter().map(file).collect::<Vec<_>>(),
        });
        if !record.alone {
            shown["recordKey"] = sealed(&self.folder_key, &record.key).into();
            shown["innerFolderUid"] = json!(record.below);
        }
        shown
    }

    fn get_secret(&self, payload: &Value, host: &str) -> Value {
        let asked = payload["requestedRecords"].as_array().filter(|asked| !asked.is_empty());
        let state = self.state();
        let fits = |record: &&Record| asked.is_none_or(|asked| asked.iter().any(|uid| *uid == record.uid.as_str()));
        let shown = |alone: bool| -> Vec<Value> {
            let records = state.records.iter().filter(fits).filter(|record| record.alone == alone);
            records.map(|record| self.shown(record, host)).collect()
        };
        let folder =
            json!({"folderUid": FOLDER, "folderKey": sealed(&self.app_key, &self.folder_key), "records": shown(false)});
        json!({"folders": [folder], "records": shown(true), "expiresOn": 0, "warnings": null})
    }

    fn get_folders(&self) -> Value {
        let mut folders =
            vec![json!({"folderUid": FOLDER, "folderKey": sealed(&self.app_key, &self.folder_key), "parent": ""})];
        if self.state().subfolder {
            // Its key is encrypted with that of its parent in an older way, which nobody needs to make records.
            folders.push(json!({"folderUid": SUBFOLDER, "folderKey": "", "parent": FOLDER}));
        }
        json!({"folders": folders})
    }

    fn create(&self, payload: &Value) -> Option<()> {
        let bytes = |name: &str| decoded(payload[name].as_str()?);
        let key: Key = opened(&self.folder_key, &bytes("folderKey")?)?.try_into().ok()?;
        let for_owner = opened_by(&self.owner, &bytes("recordKey")?)?;
        let json: Value = serde_json::from_slice(&opened(&key, &bytes("data")?)?).ok()?;
        let below = payload["subFolderUid"].as_str().map(str::to_owned);
        if payload["folderUid"] != FOLDER || for_owner != key || json["title"].as_str().is_none_or(str::is_empty) {
            return None;
        }
        let uid = payload["recordUid"].as_str().filter(|uid| decoded(uid).is_some_and(|uid| uid.len() == 16))?.to_owned();
        self.state().records.push(Record { uid, key, json, revision: 1, files: Vec::new(), alone: false, below });
        Some(())
    }

    fn update(&self, payload: &Value) -> Option<()> {
        let mut state = self.state();
        let record = state.records.iter_mut().find(|record| payload["recordUid"] == record.uid.as_str())?;
        if payload["revision"] != record.revision {
            return None;
        }
        record.json = serde_json::from_slice(&opened(&record.key, &decoded(payload["data"].as_str()?)?)?).ok()?;
        record.revision += 1;
        Some(())
    }

    fn delete(&self, payload: &Value) -> Value {
        let mut state = self.state();
        let mut results = Vec::new();
        for uid in payload["recordUids"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let before = state.records.len();
            state.records.retain(|record| record.uid != uid);
            let code = if state.records.len() < before { "ok" } else { "not_found" };
            results.push(json!({"recordUid": uid, "responseCode": code, "errorMessage": ""}));
        }
        json!({"records": results})
    }

    /// Decrypts a request, and answers it encrypted in the same way.
    fn exchange(&self, asked: &Received, path: &str) -> Result<Reply, Reply> {
        let error = |status: u16, code: &str| Reply::json(status, &json!({"error": code, "message": CANARY}));
        let state = self.state();
        if state.key_id.as_ref().is_some_and(|id| id != asked.header("publickeyid")) {
            let id = state.key_id.as_ref().filter(|id| !id.is_empty());
            return Err(Reply::json(401, &json!({"error": "key", "key_id": id, "message": CANARY})));
        }
        drop(state);
        let sealed_key = STANDARD.decode(asked.header("transmissionkey")).map_err(|_| error(400, "bad_request"))?;
        let key = opened_by(&self.server, &sealed_key).and_then(|key| Key::try_from(key).ok());
        let key = key.ok_or_else(|| error(400, "bad_request"))?;
        let signature = asked.header("authorization").strip_prefix("Signature ").and_then(|text| STANDARD.decode(text).ok());
        let signature = signature.ok_or_else(|| error(401, "signature_is_invalid"))?;
        let signed = [sealed_key.as_slice(), &asked.bytes].concat();
        let public = signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &self.client_public);
        public.verify(&signed, &signature).map_err(|_| error(401, "signature_is_invalid"))?;
        let payload = opened(&key, &asked.bytes).and_then(|plain| serde_json::from_slice::<Value>(&plain).ok());
        let payload = payload.ok_or_else(|| error(400, "bad_request"))?;
        if payload["clientId"] != CLIENT {
            return Err(error(403, "access_denied"));
        }
        if !payload["clientVersion"].as_str().is_some_and(|version| version.starts_with('m')) {
            return Err(error(400, "invalid_client_version"));
        }
        let done = |result: Option<()>| result.map(|()| Reply::text(200, "")).ok_or_else(|| error(400, "bad_request"));
        let told = |body: Value| Reply::bytes(200, sealed_bytes(&key, body.to_string().as_bytes()));
        match path {
            "get_secret" => Ok(told(self.get_secret(&payload, asked.header("host")))),
            "get_folders" => Ok(told(self.get_folders())),
            "create_secret" => done(self.create(&payload)),
            "update_secret" => done(self.update(&payload)),
            "delete_secret" => Ok(told(self.delete(&payload))),
            _ => Err(error(404, "not_found")),
        }
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).unwrap();
    bytes
}

fn aead(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap())
}

fn sealed_bytes(key: &Key, plain: &[u8]) -> Vec<u8> {
    let nonce = random::<12>();
    let mut text = plain.to_vec();
    aead(key).seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text).unwrap();
    [nonce.as_slice(), &text].concat()
}

fn sealed(key: &Key, plain: &[u8]) -> String {
    STANDARD.encode(sealed_bytes(key, plain))
}

fn opened(key: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, text) = sealed.split_first_chunk::<12>()?;
    let mut text = text.to_vec();
    let plain = aead(key).open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut text).ok()?;
    Some(plain.to_vec())
}

/// What is encrypted for the holder of a private key.
fn opened_by(private: &PrivateKey, sealed: &[u8]) -> Option<Vec<u8>> {
    let (public, sealed) = sealed.split_at_checked(65)?;
    let peer = UnparsedPublicKey::new(&ECDH_P256, public);
    let key = agreement::agree(private, peer, (), |shared| Ok(digest(&SHA256, shared).as_ref().to_vec())).ok()?;
    opened(&key, sealed)
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()
}

impl Fake for Keeper {
    fn answer(&self, asked: &Received) -> Reply {
        let steps = asked.steps();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        match (asked.method(), steps.as_slice()) {
            ("POST", ["api", "rest", "sm", "v1", path]) => self.exchange(asked, path).unwrap_or_else(|refused| refused),
            ("GET", ["files", uid]) => {
                let state = self.state();
                let found = state.records.iter().flat_map(|record| &record.files).find(|(known, ..)| known == uid);
                match found {
                    Some((_, key, _, content)) => Reply::bytes(200, sealed_bytes(key, content)),
                    None => Reply::text(404, CANARY),
                }
            }
            _ => self.refuse(Refusal::Denied),
        }
    }

    /// Keeper throttles with a status that others deny with.
    fn refuse(&self, refusal: Refusal) -> Reply {
        match refusal {
            Refusal::Denied => Reply::json(403, &json!({"error": "access_denied", "message": CANARY})),
            Refusal::Throttled(seconds) => {
                Reply::json(403, &json!({"error": "throttled", "message": CANARY, "retry_after": seconds}))
            }
            Refusal::Broken => Reply::json(503, &json!({"message": CANARY})),
        }
    }
}
