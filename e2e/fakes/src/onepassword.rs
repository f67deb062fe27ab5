//! 1Password Connect's API, as its published OpenAPI description (1.8) has it: vaults, items by title or id, fields and files of an item.
//! Lists of items have no fields, and ids have 26 letters or digits.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Reply};

/// What a client must show.
pub const TOKEN: &str = "connect-c4n4ry-6b1d";
/// The vaults: id and name.
pub const VAULTS: [(&str, &str); 2] = [("vaultaaaaaaaaaaaaaaaaaaaaa", "prod"), ("vaultbbbbbbbbbbbbbbbbbbbbb", "shared")];

/// A Connect server.
#[derive(Default)]
pub struct OnePassword {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    items: Vec<Value>,
    /// Id and content.
    files: Vec<(String, Vec<u8>)>,
    made: usize,
    /// The ids of vaults that were made anew, by those in [`VAULTS`].
    anew: BTreeMap<String, String>,
}

impl OnePassword {
    /// Somebody makes a vault anew, with all its items: its id is another one now.
    pub fn make_anew(&self, name: &str, id: &str) {
        let mut state = self.lock();
        for item in state.items.iter_mut().filter(|item| item["vault"]["id"] == id_of(name)) {
            item["vault"]["id"] = json!(id);
        }
        state.anew.insert(id_of(name).to_owned(), id.to_owned());
    }

    /// Puts an item with these fields (label, value) into a vault, and returns its id.
    pub fn put(&self, vault: &str, title: &str, tags: &[&str], fields: &[(&str, &str)]) -> String {
        let field = |(n, (label, value)): (usize, &(&str, &str))| json!({"id": format!("f{n}"), "label": label, "value": value, "type": "CONCEALED"});
        let fields: Vec<Value> = fields.iter().enumerate().map(field).collect();
        let mut state = self.lock();
        let item = state.make(id_of(vault), json!({"title": title, "category": "LOGIN", "tags": tags, "fields": fields}));
        item["id"].as_str().unwrap().to_owned()
    }

    /// Adds a file to an item. A document is an item whose content is its files.
    pub fn attach(&self, item: &str, name: &str, content: &[u8], document: bool) {
        let mut state = self.lock();
        state.made += 1;
        let id = format!("file{:022}", state.made);
        state.files.push((id.clone(), content.to_vec()));
        let item = state.items.iter_mut().find(|i| i["id"] == item).unwrap();
        let path = format!("/v1/vaults/{}/items/{}/files/{id}/content", text(&item["vault"], "id"), text(item, "id"));
        if document {
            item["category"] = json!("DOCUMENT");
        }
        let files = item["files"].as_array_mut().unwrap();
        files.push(json!({"id": id, "name": name, "size": content.len(), "content_path": path}));
    }

    /// An item, whole.
    pub fn get(&self, title: &str) -> Option<Value> {
        self.lock().items.iter().find(|item| item["title"] == title).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn id_of(vault: &str) -> &str {
    VAULTS.iter().find(|(id, name)| vault == *id || vault == *name).unwrap().0
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

impl Fake for OnePassword {
    fn answer(&self, asked: &Received) -> Reply {
        if asked.header("authorization") != format!("Bearer {TOKEN}") {
            return says(401, "Invalid token signature");
        }
        let mut state = self.lock();
        let steps = asked.steps();
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let vaults = state.vaults();
        let shown = |(id, name): &(String, &str)| json!({"id": id, "name": name, "items": 1, "type": "USER_CREATED"});
        let ["v1", "vaults", rest @ ..] = &steps[..] else { return says(404, "Not found") };
        let [vault, rest @ ..] = rest else {
            let named = |(_, name): &&(String, &str)| matches(asked, &["name", "title"], name);
            return Reply::json(200, &json!(vaults.iter().filter(named).map(shown).collect::<Vec<_>>()));
        };
        let Some(known) = vaults.iter().find(|(id, _)| id == vault) else { return says(404, "Vault not found") };
        match (asked.method(), rest) {
            ("GET", []) => Reply::json(200, &shown(known)),
            ("GET", ["items"]) => {
                let of_vault = state.items.iter().filter(|item| item["vault"]["id"] == *vault);
                let all: Vec<Value> =
                    of_vault.filter(|i| matches(asked, &["title"], text(i, "title"))).map(summary).collect();
                Reply::json(200, &json!(all))
            }
            ("POST", ["items"]) => {
                let wanted = asked.json();
                if wanted["vault"]["id"] != *vault || text(&wanted, "category").is_empty() {
                    return says(400, "Invalid item");
                }
                Reply::json(200, &state.make(vault, wanted))
            }
            (method, ["items", item, rest @ ..]) => state.item(method, (vault, item), rest, asked),
            _ => says(404, "Not found"),
        }
    }
}

/// Whether a filter like `title eq "x"` lets a name pass.
fn matches(asked: &Received, fields: &[&str], name: &str) -> bool {
    let Some(filter) = asked.query("filter") else { return true };
    fields.iter().any(|field| filter == format!("{field} eq {}", json!(name)))
}

fn summary(item: &Value) -> Value {
    let mut item = item.clone();
    for hidden in ["fields", "files", "sections"] {
        item.as_object_mut().unwrap().remove(hidden);
    }
    item
}

impl State {
    /// The vaults that there are: id and name.
    fn vaults(&self) -> Vec<(String, &'static str)> {
        let id_now = |id: &str| self.anew.get(id).cloned().unwrap_or_else(|| id.to_owned());
        VAULTS.iter().map(|(id, name)| (id_now(id), *name)).collect()
    }

    fn make(&mut self, vault: &str, mut item: Value) -> Value {
        self.made += 1;
        item["id"] = json!(format!("item{:022}", self.made));
        item["vault"] = json!({"id": vault});
        item["version"] = json!(1);
        for list in ["fields", "files", "tags"] {
            if item[list].is_null() {
                item[list] = json!([]);
            }
        }
        self.name_fields(&mut item);
        self.items.push(item.clone());
        item
    }

    /// Each field has an id.
    fn name_fields(&mut self, item: &mut Value) {
        for field in item["fields"].as_array_mut().into_iter().flatten() {
            if text(field, "id").is_empty() {
                self.made += 1;
                field["id"] = json!(format!("field{:021}", self.made));
            }
        }
    }

    fn item(&mut self, method: &str, (vault, id): (&str, &str), rest: &[&str], asked: &Received) -> Reply {
        let Some(at) = self.items.iter().position(|item| item["id"] == id && item["vault"]["id"] == vault) else {
            return says(404, "Item not found");
        };
        match (method, rest) {
            ("GET", []) => Reply::json(200, &self.items[at]),
            ("PUT", []) => {
                let mut wanted = asked.json();
                if wanted["id"] != id || wanted["vault"]["id"] != vault {
                    return says(400, "The item's id or vault is another one");
                }
                wanted["version"] = json!(self.items[at]["version"].as_u64().unwrap_or_default() + 1);
                wanted["files"] = self.items[at]["files"].clone();
                self.name_fields(&mut wanted);
                self.items[at] = wanted.clone();
                Reply::json(200, &wanted)
            }
            ("DELETE", []) => {
                self.items.remove(at);
                Reply::text(204, "")
            }
            ("GET", ["files"]) => Reply::json(200, &self.items[at]["files"]),
            ("GET", ["files", file, "content"]) => match self.files.iter().find(|(id, _)| id == file) {
                Some((_, content)) => Reply::bytes(200, content.clone()),
                None => says(404, "File not found"),
            },
            _ => says(404, "Not found"),
        }
    }
}

fn says(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"status": status, "message": format!("{text} {CANARY}")}))
}
