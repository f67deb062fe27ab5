//! Rules about the shape of the code that no compiler checks. ARCHITECTURE.md says why they hold.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// What decides, and is therefore told everything: no client, no clock, no randomness, nothing to wait for.
const PURE: &[&str] = &[
    "plan/",
    "plan.rs",
    "render/",
    "render.rs",
    "api/",
    "index.rs",
    "index/",
    "validate.rs",
    "fetch/budget.rs",
    "fetch/cache.rs",
    "fetch/gate.rs",
];

/// What no pure code may name.
const IMPURE: &[&str] = &[
    "::now()",
    "async ",
    ".await",
    "tokio::",
    "kube::Client",
    "kube::Api",
    "kube::api",
    "reqwest",
    "hyper",
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "elapsed()",
    "rand::",
    "random",
    "RandomState",
    "Uuid::new",
];

/// What pure code may name all the same, as it neither waits nor looks at a clock by itself.
const HARMLESS: &[&str] = &["tokio::time::Instant", "tokio::sync::watch", "std::net::IpAddr", "std::net::Ipv6Addr"];

/// Words without which nothing in the cluster can be changed: calls of kube, and what they take.
const WRITES: &[&str] = &[
    ".patch(",
    ".patch_status(",
    ".replace_status(",
    ".delete_collection(",
    ".create_token_request(",
    "PostParams",
    "PatchParams",
    "DeleteParams",
];

/// Who may, and why.
const WRITERS: &[(&str, &str)] = &[
    ("apply/", "this is its job"),
    ("adopt.rs", "a command of a person's, which refuses to run beside an operator"),
    ("lease.rs", "the lease, which decides whether the others may"),
    ("report/events.rs", "events, which change nothing that anybody reads back"),
    ("providers/connect.rs", "TokenRequests, which store nothing"),
    (
        "providers/kubernetes/session.rs",
        "reviews of its own rights, which store nothing; pushes, to the store's own cluster",
    ),
];

/// Words by which something is asked of all namespaces at once.
const CLUSTER_WIDE: &[&str] = &["Api::all(", "Api::all_with("];

/// Who may, and why. Elsewhere an `Api` is one of a namespace, so that no list can forget it (GHSA-fcxq-v2r3-cc8h).
const LOOKERS: &[(&str, &str)] = &[
    ("controllers/watch.rs", "watches, whose objects the index keeps by namespace"),
    ("controllers/manifest.rs", "watches of other kinds, the same"),
    ("controllers/generators.rs", "watches of generators, the same"),
    ("apply/push_secret.rs", "ClusterSecretStores, which have no namespace"),
    ("apply/mod.rs", "ClusterSecretStores, the same"),
    ("apply/fan_out.rs", "cluster-wide parents, and namespaces themselves"),
    ("adopt.rs", "a command with the rights of whoever calls it, who may mean all namespaces"),
    ("cli/render/live.rs", "reads cluster-scoped objects, by name but for Namespaces"),
];

/// Who takes the bytes of a secret out, and what for.
const EXPOSERS: &[(&str, &str)] = &[
    ("secret_bytes.rs", "defines it"),
    ("apply/", "puts them into the target"),
    ("plan/digest.rs", "makes keyed hashes"),
    ("plan/target.rs", "compares them with the Secret's"),
    ("plan/manifest.rs", "compares them with those of a target of another kind"),
    ("plan/names.rs", "looks for a key in the texts of templates, which may be a Secret's"),
    ("providers/", "log in with them, and take their own values apart"),
    ("generators/", "make them, and log in with them"),
    ("jwt.rs", "signs with keys, and looks into tokens"),
    ("outbound/", "sends them to where they belong"),
    ("render/", "makes values out of values"),
    ("cli/render/", "renders, and prints them where that is asked for"),
];

/// Most lines of a file.
const MOST_LINES: usize = 600;

/// A file of `src`, without its tests.
struct Source {
    name: String,
    lines: usize,
    text: String,
}

impl Source {
    fn is_in(&self, list: &[(&str, &str)]) -> bool {
        list.iter().any(|(name, _)| self.name.starts_with(name))
    }

    /// Lines of code, with their numbers: no comments, no tests.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.text.lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap()));
        code.take_while(|(_, line)| !line.starts_with("mod tests {"))
    }

    /// Where one of these words stands.
    fn naming<'a>(&'a self, words: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        let named = self.code().filter_map(move |(number, line)| {
            let bare = HARMLESS.iter().fold(line.to_owned(), |line, harmless| line.replace(harmless, ""));
            let word = words.iter().find(|word| bare.contains(**word))?;
            Some((number, *word))
        });
        named.map(|(number, word)| format!("src/{}:{number} names {word:?}", self.name))
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Whether a file holds tests only, or what only tests use.
fn is_test(name: &str) -> bool {
    name.split(['/', '.'])
        .any(|part| part == "tests" || part.ends_with("_tests") || part == "testing" || part == "conformance")
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    files(&root, &mut paths);
    let source = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        Source { name, lines: text.lines().count(), text }
    };
    let sources: Vec<Source> = paths.into_iter().map(source).collect();
    assert!(sources.len() > 50, "src was not found");
    sources
}

fn code() -> Vec<Source> {
    sources().into_iter().filter(|s| !is_test(&s.name)).collect()
}

fn none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n{}", broken.join("\n"));
}

#[test]
fn what_decides_is_pure() {
    let code = code();
    let pure: Vec<_> = code.iter().filter(|s| PURE.iter().any(|p| s.name.starts_with(p))).collect();
    assert!(pure.len() > 30);
    let broken: Vec<String> = pure.iter().flat_map(|s| s.naming(IMPURE)).collect();
    none(&broken, "pure code is told what it needs, the time too: move this to the shell");
}

#[test]
fn only_the_writers_write() {
    let broken: Vec<String> =
        code().iter().filter(|s| !s.is_in(WRITERS)).flat_map(|s| s.naming(WRITES).collect::<Vec<_>>()).collect();
    none(&broken, "src/apply writes to Kubernetes, as it asks for leadership first");
}

#[test]
fn few_take_the_bytes_of_a_secret_out() {
    let words = ["expose()", "expose_str()"];
    let broken: Vec<String> =
        code().iter().filter(|s| !s.is_in(EXPOSERS)).flat_map(|s| s.naming(&words).collect::<Vec<_>>()).collect();
    none(&broken, "the bytes of a secret stay in SecretBytes; list the file with its reason if it must have them");
}

#[test]
fn few_look_across_namespaces() {
    let broken: Vec<String> =
        code().iter().filter(|s| !s.is_in(LOOKERS)).flat_map(|s| s.naming(CLUSTER_WIDE).collect::<Vec<_>>()).collect();
    none(&broken, "name the namespace; list the file with its reason if it must see all");
}

#[test]
fn each_exception_is_one() {
    let code = code();
    for (list, words) in [(WRITERS, WRITES), (EXPOSERS, &["expose()", "expose_str()"]), (LOOKERS, CLUSTER_WIDE)] {
        for (name, why) in list {
            let used = code.iter().filter(|s| s.name.starts_with(name)).any(|s| s.naming(words).next().is_some());
            assert!(used || *name == "secret_bytes.rs", "src/{name} ({why}) needs no exception any more");
        }
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let all = sources();
    let long = all.iter().filter(|s| s.lines > MOST_LINES);
    let long: Vec<String> = long.map(|s| format!("src/{} has {} lines", s.name, s.lines)).collect();
    none(&long, "a file does one thing: split it");
    let mute = all.iter().filter(|s| !is_test(&s.name) && !s.text.starts_with("//! "));
    let mute: Vec<String> = mute.map(|s| format!("src/{}", s.name)).collect();
    none(&mute, "each file says in its first line what it is");
}

/// The rules above must not pass because they look at nothing.
#[test]
fn the_rules_see_what_they_forbid() {
    let text = "//! x\nuse tokio::time::Instant;\nlet now = Timestamp::now();\n// api.patch(\nmod tests {\napi.create(\n";
    let source = Source { name: "plan/x.rs".into(), lines: 6, text: text.into() };
    assert_eq!(source.naming(IMPURE).collect::<Vec<_>>(), ["src/plan/x.rs:3 names \"::now()\""]);
    assert_eq!(source.naming(WRITES).count(), 0, "comments and tests do not count");
}
