//! GitLab's API (v4) for CI/CD variables of projects and groups, as <https://docs.gitlab.com/api/project_level_variables> has it: lists
//! in pages, variables of one key for several environments, hidden ones whose value is not told.
//!
//! Unlike the real one, it takes keys of any letters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::{CANARY, Fake, Received, Reply};

/// A token that may do all.
pub const TOKEN: &str = "glpat-c4n4ry-6b1d";
/// The project's path; its number is 7.
pub const PROJECT: &str = "group/sub/app";
/// The groups that the project is in: number and path, in no order.
pub const GROUPS: [(u64, &str); 2] = [(12, "group/sub"), (11, "group")];

/// GitLab.
#[derive(Default)]
pub struct Gitlab {
    /// Variables of `projects/7`, `groups/11` and `groups/12`.
    variables: Mutex<BTreeMap<String, Vec<Value>>>,
    gone: Mutex<BTreeSet<u64>>,
}

impl Gitlab {
    /// With variables of the project, for all environments.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let fake = Self::default();
        for (key, value) in variables {
            fake.put("projects/7", &key, "*", json!(value));
        }
        fake
    }

    /// Writes a variable of an owner for an environment; one without a value is hidden.
    pub fn put(&self, owner: &str, key: &str, scope: &str, value: Value) {
        let variable = json!({
            "variable_type": "env_var", "key": key, "value": value, "hidden": value.is_null(), "protected": false, "masked": false,
            "raw": false, "environment_scope": scope, "description": null,
        });
        self.lock().entry(owner.to_owned()).or_default().push(variable);
    }

    /// Somebody deletes a group, after the project was moved out of it.
    pub fn remove_group(&self, number: u64) {
        self.gone.lock().unwrap().insert(number);
    }

    /// The groups that there are: number and path.
    fn groups(&self) -> Vec<(u64, &'static str)> {
        let gone = self.gone.lock().unwrap();
        GROUPS.into_iter().filter(|(number, _)| !gone.contains(number)).collect()
    }

    /// A variable of the project, as it is.
    pub fn get(&self, key: &str, scope: &str) -> Option<Value> {
        self.lock().get("projects/7")?.iter().find(|v| v["key"] == key && v["environment_scope"] == scope).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Value>>> {
        self.variables.lock().unwrap()
    }
}

impl Fake for Gitlab {
    fn answer(&self, asked: &Received) -> Reply {
        let bearer = asked.header("authorization").strip_prefix("Bearer ");
        if asked.header("private-token") != TOKEN && bearer != Some(TOKEN) {
            return says(401, "401 Unauthorized");
        }
        let steps = asked.steps();
        let ["api", "v4", kind, id, rest @ ..] = &steps.iter().map(String::as_str).collect::<Vec<_>>()[..] else {
            return says(404, "404 Not Found");
        };
        let number = match *kind {
            "projects" if [PROJECT, "7"].contains(id) => "7".to_owned(),
            "projects" => return says(404, "404 Project Not Found"),
            "groups" => match self.groups().iter().find(|(number, path)| number.to_string() == *id || path == id) {
                Some((number, _)) => number.to_string(),
                None => return says(404, "404 Group Not Found"),
            },
            _ => return says(404, "404 Not Found"),
        };
        let mut all = self.lock();
        let variables = all.entry(format!("{kind}/{number}")).or_default();
        match (asked.method(), rest) {
            ("GET", ["groups"]) if *kind == "projects" => {
                let shown = |(id, path): (u64, &str)| json!({"id": id, "name": path, "full_name": path, "full_path": path});
                let groups: Vec<Value> = self.groups().into_iter().map(shown).collect();
                page(asked, &groups)
            }
            ("GET", ["variables"]) => page(asked, variables),
            ("POST", ["variables"]) => create(variables, &asked.json()),
            (method, ["variables", key]) => {
                let scope = asked.query("filter[environment_scope]");
                let scope = scope.or_else(|| asked.json()["filter"]["environment_scope"].as_str().map(str::to_owned));
                one(variables, method, key, scope.as_deref(), &asked.json())
            }
            _ => says(404, "404 Not Found"),
        }
    }
}

fn says(status: u16, text: &str) -> Reply {
    Reply::json(status, &json!({"message": text, "detail": CANARY}))
}

fn page(asked: &Received, all: &[Value]) -> Reply {
    let number = |name: &str, default: usize| asked.query(name).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (page, size) = (number("page", 1), number("per_page", 20).min(100));
    let pages = all.len().div_ceil(size).max(1);
    let shown: Vec<&Value> = all.iter().skip((page - 1) * size).take(size).collect();
    let next = if page < pages { (page + 1).to_string() } else { String::new() };
    let link = format!("<http://{}{}?page={next}&per_page={size}>; rel=\"next\"", asked.header("host"), asked.path());
    Reply::json(200, &json!(shown))
        .with("link", if next.is_empty() { "" } else { &link })
        .with("x-page", &page.to_string())
        .with("x-per-page", &size.to_string())
        .with("x-next-page", &next)
        .with("x-total", &all.len().to_string())
        .with("x-total-pages", &pages.to_string())
}

fn create(variables: &mut Vec<Value>, wanted: &Value) -> Reply {
    let mut made = json!({
        "variable_type": "env_var", "key": "", "value": "", "hidden": false, "protected": false, "masked": false, "raw": false,
        "environment_scope": "*", "description": null,
    });
    change(&mut made, wanted);
    if made["key"] == "" || wanted["value"].is_null() {
        return says(400, "400 Bad request - key or value is missing");
    }
    let same = |other: &Value| ["key", "environment_scope"].iter().all(|field| other[field] == made[field]);
    if variables.iter().any(same) {
        return says(400, "{\"key\":[\"has already been taken\"]}");
    }
    variables.push(made.clone());
    Reply::json(201, &made)
}

fn change(variable: &mut Value, wanted: &Value) {
    for (field, value) in wanted.as_object().into_iter().flatten() {
        if variable.get(field).is_some() {
            variable[field] = value.clone();
        }
    }
}

fn one(variables: &mut Vec<Value>, method: &str, key: &str, scope: Option<&str>, wanted: &Value) -> Reply {
    let fits = |v: &Value| v["key"] == key && scope.is_none_or(|scope| v["environment_scope"] == scope);
    let at: Vec<usize> = variables.iter().enumerate().filter(|(_, v)| fits(v)).map(|(i, _)| i).collect();
    let [at] = at[..] else {
        return match at.is_empty() {
            true => says(404, "404 Variable Not Found"),
            false => {
                says(409, "There are multiple variables with provided parameters. Please use 'filter[environment_scope]'")
            }
        };
    };
    match method {
        "GET" => Reply::json(200, &variables[at]),
        "PUT" => {
            change(&mut variables[at], wanted);
            Reply::json(200, &variables[at])
        }
        "DELETE" => {
            variables.remove(at);
            Reply::text(204, "")
        }
        _ => says(405, "405 Method Not Allowed"),
    }
}
