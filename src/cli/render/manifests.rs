//! Manifests on disk or in a stream, as the objects that a rendering needs.
//!
//! Documents are told apart and read as kubectl does it. One that is wrong is told with its place and field; the others are read
//! all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::documents::{documents, files};
use super::kinds::{Kind, check_schema, kind_of};
use crate::api::fan_out::Parent;
use crate::api::generators::{self, GeneratorObject};
use crate::api::{AnyStore, ClusterSecretStore, ExternalSecret, GROUP, PushSecret, SecretStore, StoreKind, refs};
use crate::index::{AnyGenerator, Key, ParentId, StoreId};
use crate::providers::{ReferenceKind, Source as Values};
use crate::render::target::{Source, SourceText};
use crate::secret_bytes::SecretBytes;
use crate::validate;

/// Begins the uid of an object that is in no cluster.
pub const NO_CLUSTER: &str = "in-no-cluster/";

/// Label that the API server puts on every namespace.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// What `metadata` may hold.
const METADATA: [&str; 15] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "generateName",
    "selfLink",
];

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    file: Arc<str>,
    document: usize,
    item: Option<usize>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, document {}", self.file, self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, ", item {item}"))
    }
}

/// An object, and where it stands.
#[derive(Clone, Debug)]
pub struct Located<T> {
    /// The object.
    pub object: T,
    /// Its place.
    pub at: At,
}

/// A file or folder that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {cause}")]
pub struct Unreadable {
    path: String,
    cause: String,
}

/// The objects of all manifests, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Manifests {
    /// ExternalSecrets.
    pub external_secrets: BTreeMap<Key, Located<Arc<ExternalSecret>>>,
    /// PushSecrets.
    pub push_secrets: BTreeMap<Key, Located<Arc<PushSecret>>>,
    /// ClusterExternalSecrets and ClusterPushSecrets.
    pub parents: BTreeMap<ParentId, Located<Arc<Parent>>>,
    /// Stores.
    pub stores: BTreeMap<StoreId, Arc<AnyStore>>,
    /// Stores whose manifest is wrong.
    pub broken: BTreeSet<StoreId>,
    /// Generators.
    pub generators: Vec<AnyGenerator>,
    /// ConfigMaps.
    pub config_maps: BTreeMap<Key, SourceText>,
    /// Secrets.
    pub secrets: BTreeMap<Key, Values>,
    /// Namespaces and their labels.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What is wrong, one line each.
    pub problems: Vec<String>,
    /// What was left out, one line each.
    pub notes: Vec<String>,
    objects: usize,
    seen: BTreeMap<(String, Key), At>,
    namespace: String,
}

impl Manifests {
    /// Reads everything that the paths name; `-` is the stream. Objects without a namespace are in `namespace`.
    ///
    /// # Errors
    /// A path that cannot be read.
    pub fn read(paths: &[PathBuf], recursive: bool, stream: &mut dyn Read, namespace: &str) -> Result<Self, Unreadable> {
        let mut all = Self { namespace: namespace.to_owned(), ..Self::default() };
        for path in paths {
            let unreadable = |e: std::io::Error| Unreadable { path: path.display().to_string(), cause: e.to_string() };
            if path.as_os_str() == "-" {
                let mut text = String::new();
                stream.read_to_string(&mut text).map_err(unreadable)?;
                all.text("standard input", &text, false);
            } else if path.is_dir() {
                for file in files(path, recursive).map_err(unreadable)? {
                    all.file(&file, true)?;
                }
            } else {
                all.file(path, false)?;
            }
        }
        Ok(all)
    }

    /// Whether there was no object at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects == 0
    }

    fn file(&mut self, path: &Path, of_folder: bool) -> Result<(), Unreadable> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|e| Unreadable { path: name.clone(), cause: e.to_string() })?;
        self.text(&name, &text, of_folder);
        Ok(())
    }

    /// Takes the objects of a text. In a folder there may be other files: what is no object is left out there.
    pub fn text(&mut self, file: &str, text: &str, of_folder: bool) {
        for (index, document) in documents(text).into_iter().enumerate() {
            let at = At { file: file.into(), document: index + 1, item: None };
            match document {
                Ok(Value::Null) => {}
                Ok(value) if !is_object(&value) && of_folder => {
                    self.notes.push(format!("{at}: no Kubernetes object: left out"))
                }
                Ok(value) if !is_object(&value) => {
                    self.problems.push(format!("{at}: no Kubernetes object: apiVersion and kind are missing"));
                }
                Ok(value) => self.object_or_list(value, &at),
                Err(why) => self.problems.push(format!("{at}: no YAML: {why}")),
            }
        }
    }

    fn object_or_list(&mut self, mut value: Value, at: &At) {
        let is_list = value["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
        match value.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) if is_list => {
                for (index, item) in items.into_iter().enumerate() {
                    let at = At { item: Some(index + 1), ..at.clone() };
                    match is_object(&item) {
                        true => self.object_or_list(item, &at),
                        false => self.problems.push(format!("{at}: no Kubernetes object: apiVersion and kind are missing")),
                    }
                }
            }
            _ => self.object(&value, at),
        }
    }

    fn object(&mut self, value: &Value, at: &At) {
        self.objects += 1;
        let (version, name) = (text_of(value, "apiVersion"), text_of(value, "kind"));
        let kind = match kind_of(version, name) {
            Ok(Some(kind)) => kind,
            Ok(None) => return self.notes.push(format!("{at}: {name} {}: left out", short_name(value))),
            Err(why) => return self.problems.push(format!("{at}: {name} {}: {why}", short_name(value))),
        };
        let mut problems = Vec::new();
        let meta = self.metadata(value, kind.is_namespaced(name), &mut problems);
        let key = Key::of(&meta);
        let label = format!("{name} {key} ({at})");
        if let Some(first) = self.seen.get(&(name.to_owned(), key.clone())) {
            return self.problems.push(format!("{label}: is there twice, first in {first}"));
        }
        self.seen.insert((name.to_owned(), key.clone()), at.clone());
        match kind {
            Kind::Generator(kind) => {
                let object = check_schema(generators::GROUP, name, value, &mut problems);
                if problems.is_empty() {
                    let object = GeneratorObject { metadata: meta, spec: object["spec"].clone() };
                    let generator = AnyGenerator::read(kind, object);
                    problems.extend(generator.spec.as_ref().err().map(ToString::to_string));
                    self.generators.push(generator);
                }
            }
            Kind::Checked(group) => {
                check_schema(group, name, value, &mut problems);
                self.notes.push(format!("{label}: its schema is checked, it is not rendered"));
            }
            Kind::ExternalSecret => {
                if let Some(es) = typed::<ExternalSecret>(name, value, &meta, &mut problems) {
                    self.external_secrets.insert(key, Located { object: Arc::new(es), at: at.clone() });
                }
            }
            Kind::PushSecret => {
                if let Some(ps) = typed::<PushSecret>(name, value, &meta, &mut problems) {
                    self.push_secrets.insert(key, Located { object: Arc::new(ps), at: at.clone() });
                }
            }
            Kind::ClusterExternalSecret => {
                let parent = typed(name, value, &meta, &mut problems).map(|p| Parent::ClusterExternalSecret(Arc::new(p)));
                self.parent(parent, at);
            }
            Kind::ClusterPushSecret => {
                let parent = typed(name, value, &meta, &mut problems).map(|p| Parent::ClusterPushSecret(Arc::new(p)));
                self.parent(parent, at);
            }
            Kind::Store(kind) => self.store(kind, value, &meta, &mut problems),
            Kind::Namespace => {
                let mut labels = meta.labels.unwrap_or_default();
                labels.insert(NAMESPACE_NAME.into(), key.name.to_string());
                self.namespaces.insert(key.name.to_string(), labels);
            }
            Kind::ConfigMap => {
                let texts = texts(value, "data", &mut problems, |text| Some(SecretBytes::from(text)));
                self.config_maps.insert(key, SourceText { texts, ..SourceText::default() });
            }
            Kind::Secret => {
                // line breaks are passed over, as the API server does
                let decode = |text: &str| STANDARD.decode(text.replace(['\r', '\n'], "")).ok().map(SecretBytes::new);
                let mut data = texts(value, "data", &mut problems, decode);
                data.extend(texts(value, "stringData", &mut problems, |text| Some(SecretBytes::from(text))));
                let type_ = value["type"].as_str().map(str::to_owned);
                let (labels, annotations) = (meta.labels.unwrap_or_default(), meta.annotations.unwrap_or_default());
                self.secrets.insert(key, Values { data, type_, labels, annotations });
            }
        }
        self.problems.extend(problems.into_iter().map(|problem| format!("{label}: {problem}")));
    }

    /// An object by its kind, its name, and where it stands if that is a manifest.
    #[must_use]
    pub fn label(&self, kind: &str, key: &Key) -> String {
        match self.seen.get(&(kind.to_owned(), key.clone())) {
            Some(at) => format!("{kind} {key} ({at})"),
            None => format!("{kind} {key}"),
        }
    }

    fn parent(&mut self, parent: Option<Parent>, at: &At) {
        if let Some(parent) = parent {
            self.parents.insert(ParentId::of(&parent), Located { object: Arc::new(parent), at: at.clone() });
        }
    }

    /// A ConfigMap or Secret as templates take it.
    #[must_use]
    pub fn source(&self, namespace: &str, source: &Source) -> Option<SourceText> {
        let key = Key::new(namespace, &source.name);
        match source.kind {
            ReferenceKind::Secret => {
                let data = self.secrets.get(&key)?.data.clone();
                Some(SourceText { texts: data, ..SourceText::default() })
            }
            _ => self.config_maps.get(&key).cloned(),
        }
    }

    fn store(&mut self, kind: StoreKind, value: &Value, meta: &ObjectMeta, problems: &mut Vec<String>) {
        let read: Option<AnyStore> = match kind {
            StoreKind::SecretStore => typed::<SecretStore>(kind.as_str(), value, meta, problems).map(AnyStore::from),
            StoreKind::ClusterSecretStore => {
                typed::<ClusterSecretStore>(kind.as_str(), value, meta, problems).map(AnyStore::from)
            }
        };
        if let Some(store) = &read {
            problems.extend(validate::validate_store(&store.spec, kind).err().map(|e| e.to_string()));
        }
        let id = StoreId { kind, key: Key::of(meta) };
        match read {
            Some(store) if problems.is_empty() => {
                self.stores.insert(id, Arc::new(store));
            }
            _ => {
                self.broken.insert(id);
            }
        }
    }

    /// The metadata that matters; what is wrong with it is added to `problems`.
    fn metadata(&self, value: &Value, namespaced: bool, problems: &mut Vec<String>) -> ObjectMeta {
        let none = Map::new();
        let given = value["metadata"].as_object().unwrap_or(&none);
        for field in given.keys().filter(|field| !METADATA.contains(&field.as_str())) {
            problems.push(format!("metadata.{field}: unknown field"));
        }
        let name = text_of(&value["metadata"], "name");
        if name.is_empty() {
            problems.push("metadata.name: must be set".to_owned());
        } else if !is_name(name) {
            problems.push(
                "metadata.name: must be lower case letters, digits, '-' and '.', and begin and end with a letter or digit"
                    .into(),
            );
        }
        let namespace = match text_of(&value["metadata"], "namespace") {
            _ if !namespaced => None,
            "" => Some(self.namespace.clone()),
            own => Some(own.to_owned()),
        };
        let mut map = |field: &str| -> Option<BTreeMap<String, String>> {
            let map: Option<BTreeMap<String, String>> = match given.get(field)? {
                Value::Null => return None,
                Value::Object(map) => map.iter().map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
                _ => None,
            };
            if map.is_none() {
                problems.push(format!("metadata.{field}: must be a map of texts (put numbers and yes or no in quotes)"));
            }
            map
        };
        let (labels, annotations) = (map("labels"), map("annotations"));
        // by its owner a child is known, where a cluster was printed
        let owner_references = serde_json::from_value(value["metadata"]["ownerReferences"].clone()).unwrap_or_default();
        let uid = text_of(&value["metadata"], "uid");
        let uid = if uid.is_empty() {
            format!("{NO_CLUSTER}{}/{name}", namespace.as_deref().unwrap_or_default())
        } else {
            uid.to_owned()
        };
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace,
            labels,
            annotations,
            uid: Some(uid),
            generation: Some(1),
            owner_references,
            ..ObjectMeta::default()
        }
    }
}

fn is_object(value: &Value) -> bool {
    !text_of(value, "apiVersion").is_empty() && !text_of(value, "kind").is_empty()
}

fn text_of<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Namespace and name as they are written.
fn short_name(value: &Value) -> String {
    let (namespace, name) = (text_of(&value["metadata"], "namespace"), text_of(&value["metadata"], "name"));
    if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") }
}

fn is_name(name: &str) -> bool {
    static NAME: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(refs::NAME).ok());
    name.len() <= 253 && NAME.as_ref().is_none_or(|regex| regex.is_match(name))
}

/// An object of ours, if nothing is wrong with it.
fn typed<T: DeserializeOwned>(kind: &str, value: &Value, meta: &ObjectMeta, problems: &mut Vec<String>) -> Option<T> {
    let mut object = check_schema(GROUP, kind, value, problems);
    if !problems.is_empty() {
        return None;
    }
    object["metadata"] = json!(meta);
    let read = serde_json::from_value(object).ok();
    if read.is_none() {
        problems.push("spec: cannot be understood".to_owned());
    }
    read
}

/// A map of texts, each read by `decode`.
fn texts(
    value: &Value,
    field: &str,
    problems: &mut Vec<String>,
    decode: impl Fn(&str) -> Option<SecretBytes>,
) -> BTreeMap<String, SecretBytes> {
    let given = match &value[field] {
        Value::Null => return BTreeMap::new(),
        Value::Object(map) => map,
        _ => {
            problems.push(format!("{field}: must be a map"));
            return BTreeMap::new();
        }
    };
    let mut read = BTreeMap::new();
    for (key, value) in given {
        match value {
            Value::Null => {}
            Value::String(text) => match decode(text) {
                Some(bytes) => {
                    read.insert(key.clone(), bytes);
                }
                None => problems.push(format!("{field}.{key}: must be base64; plain text goes into stringData")),
            },
            _ => problems.push(format!("{field}.{key}: must be a text (put it in quotes)")),
        }
    }
    read
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Manifests {
        let mut all = Manifests { namespace: "team".into(), ..Manifests::default() };
        all.text("f.yaml", text, false);
        all
    }

    const ES: &str = "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: app}\n\
                      spec: {data: [{secretKey: k, remoteRef: {key: r}}]}\n";

    #[test]
    fn documents_lists_and_streams() {
        let all = read(&format!(
            "# head\n---\n{ES}--- # next\nkind: List\napiVersion: v1\nitems:\n- {{apiVersion: v1, kind: ConfigMap, metadata: {{name: c, namespace: x}}, data: {{a: b}}}}\n- {{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d}}}}\n---\n---\n"
        ));
        assert_eq!(all.problems, Vec::<String>::new());
        assert_eq!(all.external_secrets.keys().map(ToString::to_string).collect::<Vec<_>>(), ["team/app"]);
        assert!(all.config_maps.contains_key(&Key::new("x", "c")));
        assert_eq!(all.notes, ["f.yaml, document 2, item 2: Deployment d: left out"]);
        let two = read(
            r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}} {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"b","labels":{"x":"y"}}}"#,
        );
        assert_eq!(two.namespaces["b"]["x"], "y");
        assert!(two.problems.is_empty() && two.namespaces.contains_key("a"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_without_the_value() {
        let secret = |rest: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{rest}\n");
        let table = [
            (ES.replace("remoteRef: {key: r}", "remote: canary"), "f.yaml, document 1): spec.data[0]: lacks remoteRef"),
            (ES.replace("remoteRef: {key: r}", "remote: canary"), "spec.data[0].remote: unknown field; known are"),
            (ES.replace("{key: r}", "{key: [canary]}"), "spec.data[0].remoteRef.key: must be a text"),
            (ES.replace("/v1\n", "/v1alpha1\n"), "apiVersion: must be external-secrets.io/v1 or external-secrets.io/v1beta1"),
            (ES.replace("ExternalSecret\n", "ExternalSecrets\n"), "f.yaml, document 1: ExternalSecrets app: kind: external-secrets.io has no such kind; known are ClusterExternalSecret, "),
            (ES.replace("external-secrets.io", "generators.external-secrets.io"), "kind: generators.external-secrets.io has no such kind"),
            (ES.replace("name: app", "name: My_App"), "metadata.name: must be lower case"),
            (ES.replace("name: app", "nam: app"), "metadata.nam: unknown field"),
            (ES.replace("name: app", "name: app, labels: {a: 1}"), "metadata.labels: must be a map of texts"),
            (format!("{ES}---\n{ES}"), "f.yaml, document 2): is there twice, first in f.yaml, document 1"),
            ("a: [canary".to_owned(), "f.yaml, document 1: no YAML: line "),
            (format!("{ES}---\na: canary: b"), "f.yaml, document 2: no YAML: line 6: "),
            ("- canary".to_owned(), "no Kubernetes object"),
            (secret("data: {k: '!canary'}"), "data.k: must be base64"),
            (secret("stringData: {k: 5}"), "stringData.k: must be a text"),
            (secret("data: canary"), "data: must be a map"),
            (
                "apiVersion: external-secrets.io/v1\nkind: SecretStore\nmetadata: {name: s}\nspec: {provider: {fake: {data: [{key: '', value: canary}]}}}".into(),
                "spec.provider.fake: key must be set in data 0",
            ),
        ];
        for (text, wanted) in table {
            let problems = read(&text).problems;
            assert!(problems.iter().any(|p| p.contains(wanted)), "{text}\n{problems:?}");
            assert!(!problems.iter().any(|p| p.contains("canary")), "{problems:?}");
        }
    }

    #[test]
    fn base64_may_have_line_breaks() {
        let all = read(
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  k: |\n    aGVs\n    bG8=\n  r: \"aGVs\\r\\nbG8=\"\n",
        );
        assert_eq!(all.problems, Vec::<String>::new());
        let data = &all.secrets[&Key::new("team", "s")].data;
        assert_eq!([&data["k"], &data["r"]].map(SecretBytes::expose_str), [Some("hello"); 2]);
    }

    #[test]
    fn what_is_merged_into_is_not_made_whole() {
        let es = |name: &str, target: &str| {
            ES.replace("app", name).replace("spec: {", &format!("spec: {{target: {{{target}}}, "))
        };
        let all = [
            es("own", ""),
            es("orphan", "name: o, creationPolicy: Orphan"),
            es("merge", "creationPolicy: Merge"),
            es("both", "creationPolicy: CreateOrMerge"),
            es("none", "creationPolicy: None"),
            es("other", "manifest: {apiVersion: v1, kind: ConfigMap}"),
        ];
        let all = read(&all.join("---\n"));
        assert_eq!(all.problems, Vec::<String>::new());
        assert_eq!(all.targets().iter().map(ToString::to_string).collect::<Vec<_>>(), ["team/o", "team/own"]);
    }

    #[test]
    fn of_a_folder_what_is_no_object_is_left_out() {
        let mut all = Manifests::default();
        all.text("values.yaml", "a: b", true);
        assert_eq!((all.problems.len(), all.notes.len()), (0, 1));
    }
}
