//! Every manifest in the project is taken, or refused, as it should be: in both versions, by schema, CEL and the types.
//!
//! `tests/manifests/accepted` and `refused` say by their folder which. Of the conformance corpus, a recorded answer of 422
//! means refused. Examples are always accepted.

use std::fs;
use std::path::Path;

use keyferry::api::{ClusterExternalSecret, ClusterPushSecret, ClusterSecretStore};
use keyferry::api::{ExternalSecret, PushSecret, SecretStore, structural};
use serde_json::Value;

use super::{Admission, KINDS, root};

/// The objects of our grown-up kinds in a file.
fn objects(file: &Path) -> Vec<Value> {
    documents(file).into_iter().filter(is_ours).collect()
}

/// All objects in a file.
pub fn documents(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let options = serde_saphyr::options! { strict_booleans: true }; // `y` is text, as for kubectl and PyYAML
    serde_saphyr::from_multiple_with_options(&text, options).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn is_ours(object: &Value) -> bool {
    object["kind"].as_str().is_some_and(|kind| KINDS.contains(&kind))
        && object["apiVersion"].as_str().is_some_and(|v| v.starts_with("external-secrets.io/"))
}

/// Whether a file of the conformance corpus holds merge patches or names to delete: no whole objects.
fn is_fragment(file: &Path) -> bool {
    file.file_stem().and_then(|s| s.to_str()).is_some_and(|s| s.starts_with("patch") || s.starts_with("delete"))
}

/// Files below a folder that end in `.yaml`; none where the folder is not there.
pub fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|e| e == "yaml") && !is_fragment(&path) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Why the API server would refuse an object. What it takes, our types must take too.
fn refusals(object: &Value) -> Vec<String> {
    let kind = object["kind"].as_str().unwrap();
    let admission = Admission::of(kind);
    let object = structural::without_nulls(&admission.schema, object);
    let mut found = structural::errors(&admission.schema, &object);
    found.extend(admission.broken_rules(&object));
    if found.is_empty() {
        let read = match kind {
            "ExternalSecret" => serde_json::from_value::<ExternalSecret>(object.clone()).map(|_| ()),
            "SecretStore" => serde_json::from_value::<SecretStore>(object.clone()).map(|_| ()),
            "ClusterExternalSecret" => serde_json::from_value::<ClusterExternalSecret>(object.clone()).map(|_| ()),
            "ClusterPushSecret" => serde_json::from_value::<ClusterPushSecret>(object.clone()).map(|_| ()),
            "PushSecret" => serde_json::from_value::<PushSecret>(object.clone()).map(|_| ()),
            _ => serde_json::from_value::<ClusterSecretStore>(object.clone()).map(|_| ()),
        };
        assert!(read.is_ok(), "the schema takes {object}, the type does not: {read:?}");
    }
    found
}

/// Checks one object; gives what is wrong with our answer.
fn answer(file: &Path, object: &Value, refused: bool) -> Option<String> {
    let found = refusals(object);
    let name = &object["metadata"]["name"];
    match (refused, found.is_empty()) {
        (false, false) => Some(format!("{}: {name} is refused: {}", file.display(), found.join("; "))),
        (true, true) => Some(format!("{}: {name} is accepted", file.display())),
        _ => None,
    }
}

/// Checks every file of a folder; gives how many objects there were.
fn check(folder: &Path, refused: impl Fn(&Path, &Value) -> bool) -> usize {
    let all: Vec<_> = files(folder).into_iter().flat_map(|f| objects(&f).into_iter().map(move |o| (f.clone(), o))).collect();
    let wrong: Vec<String> = all.iter().filter_map(|(f, o)| answer(f, o, refused(f, o))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    all.len()
}

#[test]
fn accepted_manifests_are_accepted() {
    assert!(check(&root().join("tests/manifests/accepted"), |_, _| false) > 0);
}

#[test]
fn refused_manifests_are_refused() {
    assert!(check(&root().join("tests/manifests/refused"), |_, _| true) > 0);
}

#[test]
fn examples_are_accepted() {
    check(&root().join("examples"), |_, _| false);
}

#[test]
fn the_conformance_corpus_is_answered_as_recorded() {
    let corpus = root().join("e2e/conformance");
    check(&corpus.join("cases"), |file, object| {
        let case = file.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
        let golden = fs::read_to_string(corpus.join("golden").join(format!("{case}.json"))).unwrap();
        let golden: Value = serde_json::from_str(&golden).unwrap();
        let key = format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        golden["steps"].as_array().unwrap().iter().any(|step| step["status"]["apply"][&key] == 422)
    });
}
