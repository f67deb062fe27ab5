//! What goes to one store: `dataTo` taken apart, and `data`, each entry with its place.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Failure;
use crate::api::push_secret::{
    PushConversion, PushData, PushDataTo, PushMatch, PushRemoteRef, PushRewrite, PushSecretSpec, PushStoreRef,
};
use crate::api::{AnyStore, PushSecret};
use crate::plan::names::{MASK, Names};
use crate::plan::{Rules, access};
use crate::providers::{ErrorKind, Place, Push, Source};
use crate::render::re2::{Expression, NotReplaced};
use crate::render::target::Sources;
use crate::render::template::{Expressions, Stage};
use crate::render::{Outside, keys, rewrite};
use crate::secret_bytes::SecretBytes;

/// One entry: what the status says of it, and what is pushed, or why nothing can be.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The entry, as the status has it.
    pub data: PushData,
    /// What is pushed.
    pub push: Result<Push, Failure>,
}

/// Checks what `dataTo` says of stores. The texts are ESO's.
///
/// # Errors
/// The first entry that is wrong.
pub fn check(spec: &PushSecretSpec) -> Result<(), Failure> {
    for (i, entry) in spec.data_to.iter().enumerate() {
        let wrong = |what: &str| Err(Failure::spec(format!("dataTo[{i}]: {what}")));
        let Some(store) = &entry.store_ref else { return wrong("storeRef is required") };
        match (name(store), &store.label_selector) {
            (None, None) => return wrong("storeRef must have name or labelSelector"),
            (Some(name), _) if !spec.secret_store_refs.iter().any(|r| may_mean(r, store, name)) => {
                return wrong(&format!("storeRef {name:?} not found in secretStoreRefs"));
            }
            _ => {}
        }
        let (bundle, rewrites) = (entry.remote_key.as_deref().is_some_and(|k| !k.is_empty()), !entry.rewrite.is_empty());
        if bundle && rewrites {
            return wrong(crate::api::rules::BUNDLE_REWRITE);
        }
    }
    Ok(())
}

/// Checks that each `labelSelector` of `dataTo` means a store that is pushed to.
///
/// # Errors
/// The first that does not.
pub fn check_selectors(spec: &PushSecretSpec, targets: &[&AnyStore]) -> Result<(), Failure> {
    for (i, entry) in spec.data_to.iter().enumerate() {
        let Some(store) = entry.store_ref.as_ref().filter(|s| name(s).is_none()) else { continue };
        if let Some(fault) = store.label_selector.as_ref().and_then(access::fault) {
            return Err(Failure::spec(format!("dataTo[{i}]: invalid labelSelector: {fault}")));
        }
        if !targets.iter().any(|target| means(store, target)) {
            return Err(Failure::spec(format!("dataTo[{i}]: labelSelector does not match any store in secretStoreRefs")));
        }
    }
    Ok(())
}

fn name(store: &PushStoreRef) -> Option<&str> {
    store.name.as_deref().filter(|n| !n.is_empty())
}

/// Whether a reference of `secretStoreRefs` may mean the store that an entry names; one by labels may.
fn may_mean(reference: &PushStoreRef, entry: &PushStoreRef, named: &str) -> bool {
    let kinds = reference.kind.unwrap_or_default() == entry.kind.unwrap_or_default();
    kinds && (name(reference) == Some(named) || reference.label_selector.is_some())
}

/// Whether the `storeRef` of a `dataTo` entry means a store; a name wins over labels.
fn means(reference: &PushStoreRef, store: &AnyStore) -> bool {
    if reference.kind.unwrap_or_default() != store.kind {
        return false;
    }
    match (name(reference), &reference.label_selector) {
        (Some(name), _) => name == store.name(),
        (None, Some(selector)) => access::selects(selector, &store.metadata.labels.clone().unwrap_or_default()),
        (None, None) => false,
    }
}

/// Which keys may be told: those of the source, and those that stand in the PushSecret, its template included.
#[must_use]
pub fn names(ps: &PushSecret, rules: &Rules, templates: &Sources, source: &Source) -> Names {
    let mut names = Names::of(ps.spec.template.as_ref(), templates, &rules.delimiters, false);
    names.know(ps.spec.data.iter().filter_map(|data| data.match_.secret_key.as_ref()));
    names.know(source.data.keys());
    // a `conversionStrategy` takes conversions of names back
    let made = ps.spec.template.iter().flat_map(|template| template.data.keys());
    names.know(&source.data.keys().chain(made).map(|key| keys::revert_key(key)).collect::<Vec<_>>());
    names
}

/// Whether what a provider says of a push may be told: it may name the key, or any where all are pushed.
#[must_use]
pub fn shown(push: &Push, names: &Names) -> bool {
    match &push.secret_key {
        Some(key) => names.shows(key),
        None => push.source.data.keys().all(|key| names.shows(key)),
    }
}

/// A failure without what may name a key that a template made of a value; its class stays. `shown`: there is none such.
#[must_use]
pub fn masked(failure: Failure, shown: bool) -> Failure {
    if shown {
        return failure;
    }
    // what stands first is of our own words
    let head = failure.message.split_once(": ").map_or("it cannot be pushed", |(head, _)| head);
    let class = failure.kind.map_or("internal", ErrorKind::as_str);
    let message = format!("{head}: {MASK}: it may name keys that a template made of values ({class})");
    Failure { message, ..failure }
}

/// A text as it is told that came of a key of the Secret.
fn told<'t>(names: &Names, key: &str, text: &'t str) -> &'t str {
    if key.is_empty() || names.shows(key) { text } else { MASK }
}

/// The same in quotes.
fn quoted(names: &Names, key: &str, text: &str) -> String {
    match told(names, key, text) {
        MASK => MASK.to_owned(),
        text => format!("{text:?}"),
    }
}

/// All entries for one store, in the order in which they are pushed: `dataTo`, then `data`, which wins where both take the
/// same key of the Secret.
///
/// # Errors
/// `dataTo` cannot be taken apart, or two entries go to one place.
pub fn entries(
    spec: &PushSecretSpec,
    namespace: &str,
    store: &AnyStore,
    source: &Arc<Source>,
    names: &Names,
    outside: Outside<'_>,
) -> Result<Vec<Entry>, Failure> {
    let taken: BTreeSet<&str> = spec.data.iter().map(|d| secret_key(d).unwrap_or_default()).collect();
    let mut all = Vec::new();
    let mut places: BTreeMap<String, String> = BTreeMap::new();
    // counted as ESO does, among those for this store
    let meant = spec.data_to.iter().filter(|entry| entry.store_ref.as_ref().is_some_and(|s| means(s, store)));
    for (i, entry) in meant.enumerate() {
        let expanded = expand(entry, namespace, source, names, outside)
            .map_err(|e| e.within(&format!("failed to expand dataTo: dataTo[{i}]")))?;
        for one in &expanded {
            let (key, from) = (&one.data.match_.remote_ref.remote_key, secret_key(&one.data).unwrap_or_default());
            if let Some(other) = places.insert(key.clone(), format!("dataTo[{i}]:{}", told(names, from, from))) {
                let (key, from) = (quoted(names, from, key), quoted(names, from, from));
                let text = format!("duplicate remote key {key} from source key {from} (conflicts with {other})");
                return Err(Failure::spec(format!("failed to expand dataTo: dataTo[{i}]: {text}")));
            }
        }
        all.extend(expanded.into_iter().filter(|e| !taken.contains(secret_key(&e.data).unwrap_or_default())));
    }
    for data in &spec.data {
        let push = converted(data.conversion_strategy, source, names)
            .map_err(|e| Failure::spec(format!("could not apply conversion strategy to keys: {e}")))
            .and_then(|source| push(data, namespace, source));
        all.push(Entry { data: noted(data), push });
    }
    unique(&all, names)?;
    Ok(all)
}

fn secret_key(data: &PushData) -> Option<&str> {
    data.match_.secret_key.as_deref().filter(|k| !k.is_empty())
}

/// The entry as the status has it: with the defaults that ESO's schema fills in.
fn noted(data: &PushData) -> PushData {
    PushData { conversion_strategy: Some(data.conversion_strategy.unwrap_or_default()), ..data.clone() }
}

fn push(data: &PushData, namespace: &str, source: Arc<Source>) -> Result<Push, Failure> {
    let key = secret_key(data);
    if let Some(key) = key.filter(|k| !source.data.contains_key(*k)) {
        return Err(Failure::spec(format!("secret key {key} does not exist")));
    }
    Ok(Push { secret_key: key.map(str::to_owned), place: place(data, namespace), source })
}

/// The place of an entry.
#[must_use]
pub fn place(data: &PushData, namespace: &str) -> Place {
    let PushRemoteRef { remote_key, property } = data.match_.remote_ref.clone();
    Place { key: remote_key, property, metadata: data.metadata.clone(), namespace: namespace.to_owned() }
}

/// The Secret with its keys changed back.
fn converted(strategy: Option<PushConversion>, source: &Arc<Source>, names: &Names) -> Result<Arc<Source>, String> {
    if strategy.unwrap_or_default() == PushConversion::None {
        return Ok(source.clone());
    }
    let mut data = BTreeMap::new();
    for (key, value) in &source.data {
        let key = keys::revert_key(key);
        if data.contains_key(&key) {
            return Err(format!("secret name collision during conversion: {}", told(names, &key, &key)));
        }
        data.insert(key, value.clone());
    }
    Ok(with_data(source, data))
}

fn with_data(source: &Source, data: BTreeMap<String, SecretBytes>) -> Arc<Source> {
    Arc::new(Source { data, ..source.clone() })
}

/// The entries that a `dataTo` entry stands for.
fn expand(
    entry: &PushDataTo,
    namespace: &str,
    source: &Arc<Source>,
    names: &Names,
    outside: Outside<'_>,
) -> Result<Vec<Entry>, Failure> {
    let source =
        converted(entry.conversion_strategy, source, names).map_err(|e| Failure::spec(format!("conversion failed: {e}")))?;
    let keys = matching(entry, &source, outside).map_err(|e| Failure::spec(format!("match failed: {e}")))?;
    let data = |secret_key: Option<String>, remote_key: String| PushData {
        match_: PushMatch { secret_key, remote_ref: PushRemoteRef { remote_key, property: None } },
        metadata: entry.metadata.clone(),
        conversion_strategy: Some(entry.conversion_strategy.unwrap_or_default()),
    };
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    if let Some(bundle) = entry.remote_key.as_deref().filter(|k| !k.is_empty()) {
        let data = data(None, bundle.to_owned());
        let matched = source.data.iter().filter(|(k, _)| keys.contains(k)).map(|(k, v)| (k.clone(), v.clone())).collect();
        let push = push(&data, namespace, with_data(&source, matched));
        return Ok(vec![Entry { data, push }]);
    }
    let rewrites: Vec<_> = entry.rewrite.iter().map(Rewriting::new).collect();
    keys.into_iter()
        .map(|key| {
            let remote = rewritten(&rewrites, key, names, outside).map_err(|e| e.within("rewrite failed"))?;
            if remote.is_empty() {
                let key = quoted(names, key, key);
                return Err(Failure::spec(format!("empty remote key produced for source key {key}")));
            }
            let data = data(Some(key.clone()), remote);
            Ok(Entry { push: push(&data, namespace, source.clone()), data })
        })
        .collect()
}

/// The keys that an entry takes.
fn matching<'s>(entry: &PushDataTo, source: &'s Source, outside: Outside<'_>) -> Result<Vec<&'s String>, String> {
    let pattern = entry.match_.as_ref().and_then(|m| m.regexp.as_deref()).filter(|p| !p.is_empty());
    let Some(pattern) = pattern else { return Ok(source.data.keys().collect()) };
    let expression = compiled(pattern, &format!("failed to compile regexp pattern {pattern:?}"), outside)?;
    let mut keys = Vec::new();
    for key in source.data.keys() {
        if expression.is_match(key, outside).map_err(|much| much.to_string())? {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// Compiles an expression, which is work that counts. `wrong` stands before what is wrong with it.
fn compiled(pattern: &str, wrong: &str, outside: Outside<'_>) -> Result<Expression, String> {
    let expression = Expression::new(pattern).map_err(|e| format!("{wrong}: {e}"))?;
    outside.step(expression.price.of_compiling()).map_err(|much| much.to_string())?;
    Ok(expression)
}

/// A key after all rewrites.
fn rewritten(rewrites: &[Rewriting<'_>], first: &str, names: &Names, outside: Outside<'_>) -> Result<String, Failure> {
    rewrites.iter().enumerate().try_fold(first.to_owned(), |key, (i, rewrite)| {
        let failed = |e: String| Failure::spec(format!("rewrite[{i}] on key {}: {e}", quoted(names, first, &key)));
        rewrite.of(&key, outside).map_err(failed)
    })
}

/// A rewrite, and its expression once a key needs it.
struct Rewriting<'r> {
    rewrite: &'r PushRewrite,
    expression: OnceCell<Result<Expression, String>>,
    /// Those of its template.
    expressions: Expressions,
}

impl<'r> Rewriting<'r> {
    fn new(rewrite: &'r PushRewrite) -> Self {
        Self { rewrite, expression: OnceCell::new(), expressions: Expressions::default() }
    }

    fn of(&self, key: &str, outside: Outside<'_>) -> Result<String, String> {
        match self.rewrite {
            PushRewrite { regexp: Some(r), .. } => {
                let compile = || compiled(&r.source, "invalid regexp", outside);
                let expression = self.expression.get_or_init(compile).as_ref().map_err(Clone::clone)?;
                expression.replace_all(key, &r.target, outside).map_err(|why| match why {
                    NotReplaced::TooLong => "regexp makes a key of more than 64 KiB".to_owned(),
                    NotReplaced::TooMuch(much) => much.to_string(),
                })
            }
            PushRewrite { transform: Some(t), .. } => {
                rewrite::transformed(t, "t", key, &rewrite::engine(outside, &self.expressions)).map_err(|e| {
                    let failed = if e.stage == Stage::Parse { "invalid template" } else { "template exec" };
                    format!("{failed}: {}", rewrite::in_go(&e))
                })
            }
            _ => Ok(key.to_owned()),
        }
    }
}

/// Two entries that go to one place would push over each other for ever.
fn unique(entries: &[Entry], names: &Names) -> Result<(), Failure> {
    let mut seen: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for entry in entries {
        let PushRemoteRef { remote_key, property } = &entry.data.match_.remote_ref;
        let (property, key) = (property.as_deref().unwrap_or_default(), secret_key(&entry.data).unwrap_or_default());
        if let Some(other) = seen.insert((remote_key, property), key) {
            let with = if property.is_empty() { String::new() } else { format!(" with property {property:?}") };
            let shown = [key, other].iter().all(|key| key.is_empty() || names.shows(key));
            let remote_key = if shown { format!("{remote_key:?}") } else { MASK.to_owned() };
            let (one, two) = (quoted(names, other, other), quoted(names, key, key));
            return Err(Failure::spec(format!(
                "failed to merge data entries: duplicate remote key {remote_key}{with}: source keys {one} and {two} both map to \
                 the same destination"
            )));
        }
    }
    Ok(())
}
