//! docs/advisories.md says which test holds which known mistake off. Here it is checked that these tests exist, that none of the
//! advisories was forgotten, and what the first of them comes to: rights that nobody needs.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The advisories that concern operators of this sort.
const ADVISORIES: &[&str] = &[
    "CVE-2020-8567",
    "CVE-2020-8568",
    "CVE-2023-2878",
    "CVE-2024-8365",
    "CVE-2024-45041",
    "CVE-2025-4166",
    "CVE-2025-7445",
    "CVE-2026-19283",
    "CVE-2026-22728",
    "CVE-2026-22822",
    "CVE-2026-34984",
    "CVE-2026-39961",
    "CVE-2026-42875",
    "CVE-2026-42876",
    "GHSA-fcxq-v2r3-cc8h",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/advisories.md")).unwrap()
}

/// The tests that a row of the table names: what stands in back quotes in its last column.
fn tests_of(row: &str) -> Vec<&str> {
    let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or_default();
    last.split('`').skip(1).step_by(2).collect()
}

/// The rows of the table, without its head.
fn rows(page: &str) -> Vec<&str> {
    page.lines().filter(|line| line.starts_with('|')).skip(2).collect()
}

/// Whether `path::name` is a test: a function of that name, marked as one.
fn exists(test: &str) -> bool {
    let Some((path, name)) = test.split_once("::") else { return false };
    let text = fs::read_to_string(root().join(path)).unwrap_or_default();
    if path.ends_with(".py") {
        return text.contains(&format!("def {name}("));
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let marks = ["#[test]", "#[tokio::test"];
    let marked = |i: usize| lines[i.saturating_sub(3)..i].iter().any(|line| marks.iter().any(|mark| line.starts_with(mark)));
    let head = format!("fn {name}(");
    lines
        .iter()
        .enumerate()
        .any(|(i, line)| (line.starts_with(&head) || line.starts_with(&format!("async {head}"))) && marked(i))
}

#[test]
fn every_test_that_is_named_exists() {
    let page = page();
    for row in rows(&page) {
        let tests = tests_of(row);
        assert!(!tests.is_empty(), "names no test: {row}");
        for test in tests {
            assert!(exists(test), "{test} is no test, but docs/advisories.md names it");
        }
    }
}

#[test]
fn no_advisory_is_forgotten() {
    let page = page();
    for id in ADVISORIES {
        assert!(rows(&page).iter().any(|row| row.contains(id)), "docs/advisories.md does not say what holds {id} off");
    }
}

/// The tests above must not pass because they find everything.
#[test]
fn what_is_no_test_is_not_found() {
    assert!(exists("tests/advisories.rs::no_advisory_is_forgotten"));
    for other in
        ["tests/advisories.rs::rows", "tests/advisories.rs::gone", "tests/gone.rs::rows", "no_advisory_is_forgotten"]
    {
        assert!(!exists(other), "{other}");
    }
    assert_eq!(tests_of("| `a` | b | `x.rs::y`, `z.rs::w` |"), ["x.rs::y", "z.rs::w"]);
}

/// Every rule of every role in a file of manifests: API groups, resources, verbs.
fn rules(file: &Path) -> Vec<[BTreeSet<String>; 3]> {
    let all: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(file).unwrap()).unwrap();
    let roles = all.iter().filter(|o| o["kind"] == "ClusterRole" || o["kind"] == "Role");
    // roles for people, which are added to `view` and `edit`
    let own = roles.filter(|o| !o["metadata"]["labels"].to_string().contains("aggregate-to"));
    let texts = |list: &Value| list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect();
    let rules = own.flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default());
    rules.map(|rule| ["apiGroups", "resources", "verbs"].map(|field| texts(&rule[field]))).collect()
}

/// CVE-2024-45041: an operator that may change webhooks, definitions or roles is worth more to a thief than the secrets it reads.
#[test]
fn no_role_reaches_beyond_the_work() {
    let golden = fs::read_dir(root().join("charts/keyferry/tests/golden")).unwrap().map(|f| f.unwrap().path());
    let mut seen = 0;
    for file in golden.chain([root().join("deploy/keyferry.yaml")]) {
        for [groups, resources, verbs] in rules(&file) {
            seen += 1;
            let place = format!("{}: {groups:?} {resources:?} {verbs:?}", file.display());
            for group in ["admissionregistration.k8s.io", "apiextensions.k8s.io", "rbac.authorization.k8s.io", "*"] {
                assert!(!groups.contains(group), "{place}");
            }
            for verb in ["*", "escalate", "bind", "impersonate"] {
                assert!(!verbs.contains(verb), "{place}");
            }
            for resource in ["*", "pods", "pods/exec", "nodes", "nodes/proxy"] {
                assert!(!resources.contains(resource), "{place}");
            }
            if groups.contains("") && resources.contains("secrets") {
                let most = ["get", "list", "watch", "create", "patch", "update", "delete"].map(str::to_owned);
                assert!(verbs.iter().all(|verb| most.contains(verb)), "{place}");
            }
        }
    }
    assert!(seen > 40, "only {seen} rules were found");
}
