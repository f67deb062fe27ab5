//! The template of an ExternalSecret: what its Secret is rendered from, and whether rendering it again could change anything.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::Rules;
use super::digest::Digester;
use super::entries::generates;
use super::external_secret::{Facts, Failure, Gathered};
use super::names::Names;
use super::target::{self, Content, Desired};
use crate::api::ANNOTATION_FOLLOW_TEMPLATES;
use crate::api::external_secret::{RefreshPolicy, Template};
use crate::render::target::{MOST_RENDERED, Render, Source, Sources};
use crate::render::template::chance::Signing;
use crate::render::template::{Chance, Engine, Expressions, Scope};
use crate::render::{Entries, Outside};
use crate::validate;

/// Words of templates that make their result depend on the time. One that stands there for another reason costs a comparison.
const OF_TIME: [&str; 5] = ["now", "ago", "date", "Date", "durationRound"];

/// What begins and ends an action in templates; empty: `{{` and `}}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delimiters {
    /// Begins it.
    pub left: String,
    /// Ends it.
    pub right: String,
}

/// resourceVersions of the sources of a template; `None` where there is none of that name.
pub type Versions = BTreeMap<Source, Option<String>>;

/// Chance that notes that it was asked.
struct Noted<'a> {
    chance: &'a dyn Chance,
    asked: Cell<bool>,
}

impl Chance for Noted<'_> {
    fn fill(&self, bytes: &mut [u8]) {
        self.asked.set(true);
        self.chance.fill(bytes);
    }

    fn rsa_key(&self, bits: usize) -> Option<Zeroizing<Vec<u8>>> {
        self.asked.set(true);
        self.chance.rsa_key(bits)
    }

    fn sign(&self, algorithm: Signing, pkcs8: &[u8], message: &[u8]) -> Option<Vec<u8>> {
        self.asked.set(true);
        self.chance.sign(algorithm, pkcs8, message)
    }
}

/// Calls `make` with a way to render templates over these values, and says besides whether the same templates would give the same
/// again: no chance and no time went in.
pub fn with_engine<T>(
    values: &Entries,
    rules: &Rules,
    outside: Outside<'_>,
    make: impl FnOnce(&Render<'_>) -> T,
) -> (T, bool) {
    let chance = Noted { chance: outside.chance, asked: Cell::new(false) };
    let (of_time, bytes) = (Cell::new(false), Cell::new(0_usize));
    let Delimiters { left, right } = &rules.delimiters;
    let (expressions, scope) = (Expressions::default(), OnceCell::new());
    let (taken, expressions) = (Some(outside.taken), Some(&expressions));
    let engine = Engine { left, right, taken, expressions, ..Engine::new(outside.now, &chance) };
    let made = make(&|key: &str, text: &[u8]| {
        of_time
            .set(of_time.get() || OF_TIME.iter().any(|word| text.windows(word.len()).any(|part| part == word.as_bytes())));
        let scope = scope.get_or_init(|| Scope::of(values));
        let rendered = engine.render_in(key, text, scope).map_err(|e| e.to_string())?;
        bytes.set(bytes.get().saturating_add(rendered.len()));
        if bytes.get() > MOST_RENDERED {
            return Err(format!("the templates make more than {MOST_RENDERED} bytes together"));
        }
        Ok(rendered)
    });
    (made, !chance.asked.get() && !of_time.get())
}

/// Keyed digest of all that a target is rendered from: as long as it stays, so does the target.
#[must_use]
pub fn inputs(facts: &Facts, rules: &Rules, values: &Entries, versions: &Versions, digester: &Digester) -> String {
    let es = &facts.es;
    let target = es.target();
    let spec = serde_json::to_string(&*target).unwrap_or_default();
    // without a template, an object of another kind gets the labels and annotations
    let copied = target.template.is_none().then(|| target::copied_metadata(es));
    let copied = serde_json::to_string(&copied).unwrap_or_default();
    let meta = &es.metadata;
    let own = [&meta.namespace, &meta.name, &meta.uid].map(|part| part.as_deref().unwrap_or_default());
    // another version of this program may render otherwise
    let fixed =
        ["rendered by keyferry", env!("CARGO_PKG_VERSION"), &rules.delimiters.left, &rules.delimiters.right, &spec, &copied];
    let sources: Vec<String> = versions.iter().map(|(source, version)| format!("{source} {version:?}")).collect();
    digester.rendered_from(fixed.into_iter().chain(own).chain(sources.iter().map(String::as_str)), values)
}

/// The versions that were read.
#[must_use]
pub fn versions(sources: &Sources) -> Versions {
    let version = |(source, read): (&Source, &Option<crate::render::target::SourceText>)| {
        (source.clone(), read.as_ref().map(|text| text.version.clone()))
    };
    sources.iter().map(version).collect()
}

/// Renders what the ExternalSecret wants of its Secret.
///
/// # Errors
/// A template that cannot be rendered, or that would make Kubernetes mint a credential.
pub fn render(
    facts: &Facts,
    rules: &Rules,
    template: &Template,
    gathered: &Gathered,
    sources: &Sources,
    outside: Outside<'_>,
    digester: &Digester,
) -> Result<Desired, Failure> {
    let values = &gathered.data;
    let (rendered, stable) =
        with_engine(values, rules, outside, |engine| crate::render::target::secret(template, values, sources, engine));
    let failure = |cause: String| {
        let failure = Failure::retry("could not update secret", format!("could not apply template: {cause}"));
        // a value or a source may mend it, so it is tried again
        Failure { bound: facts.target.is_some(), ..failure }
    };
    let rendered = rendered.map_err(|e| failure(e.to_string()))?;
    validate::validate_secret_type(template.type_.as_deref(), &rendered.annotations).map_err(|e| failure(e.message))?;
    let content = Content {
        type_: template.type_.clone().filter(|t| !t.is_empty()),
        labels: rendered.labels,
        annotations: rendered.annotations,
        finalizers: template.metadata.as_ref().map(|m| m.finalizers.clone()).unwrap_or_default(),
        data: rendered.data,
        // what a template makes empty is meant so, unless the emptiness comes from the provider
        guarded: values.values().any(crate::secret_bytes::SecretBytes::is_empty),
        found_nothing: gathered.found_nothing(),
        names: names(rules, template, values, sources),
    };
    let desired = target::desired(&facts.es, content);
    let applied = match stable {
        true => inputs(facts, rules, values, &versions(sources), digester),
        false => digester.desired(&desired),
    };
    Ok(Desired { applied, ..desired })
}

/// Which keys may be told: those of the values, and those that stand in the template. Keys of `template.data` alone are no value's.
fn names(rules: &Rules, template: &Template, values: &Entries, sources: &Sources) -> Option<Arc<Names>> {
    if template.template_from.is_empty() {
        return None;
    }
    let mut names = Names::of(Some(template), sources, &rules.delimiters, false);
    names.know(values.keys());
    Some(Arc::new(names))
}

/// Whether a source of the template changed since it was last rendered, for an object that asks to be synced then: one may have, after a
/// restart. ESO, and so everybody else, takes a changed source at the next refresh. So does an object that generates: its values would
/// change with it.
#[must_use]
pub fn source_changed(facts: &Facts) -> bool {
    let once = facts.es.spec.refresh_policy == Some(RefreshPolicy::CreatedOnce);
    let changed = match &facts.memory.sources {
        Some(known) => *known != facts.sources,
        None => !facts.sources.is_empty(),
    };
    follows_sources(&facts.es) && !once && !generates(&facts.es) && changed
}

/// Whether an object asks to be synced when a source of its template changes.
#[must_use]
pub fn follows_sources(es: &crate::api::ExternalSecret) -> bool {
    es.metadata.annotations.as_ref().is_some_and(|a| a.get(ANNOTATION_FOLLOW_TEMPLATES).is_some_and(|v| v == "true"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::secret_bytes::SecretBytes;

    struct Zeros;

    impl Chance for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    #[test]
    fn all_templates_of_an_object_make_no_more_than_they_may_together() {
        let values = Entries::from([("half".to_owned(), SecretBytes::new(vec![b'x'; MOST_RENDERED / 2]))]);
        let keys = |template: Value| -> Result<usize, String> {
            let template: Template = serde_json::from_value(template).unwrap();
            let outside = Outside { now: jiff::Timestamp::UNIX_EPOCH, chance: &Zeros, taken: &Cell::new(0) };
            let (made, _) = with_engine(&values, &Rules::default(), outside, |engine| {
                crate::render::target::secret(&template, &values, &Sources::new(), engine)
            });
            made.map(|made| made.data.len()).map_err(|e| e.to_string())
        };
        let halves = json!({ "a": "{{ .half }}", "b": "{{ .half }}" });
        assert_eq!(keys(json!({ "data": halves })), Ok(2));
        // what one object made counts for no other
        assert_eq!(keys(json!({ "data": halves })), Ok(2));
        let error = keys(json!({ "data": halves, "metadata": { "labels": { "over": "x" } } })).unwrap_err();
        let told = "unable to execute template at key over: the templates make more than 2097152 bytes together";
        assert!(error.ends_with(told), "{error}");
    }

    /// Each key is a template of its own, and yet the values are copied once.
    #[test]
    fn the_templates_of_an_object_share_their_values() {
        let all = 0..5_000;
        let values: Entries = all.clone().map(|i| (format!("k{i}"), SecretBytes::from("x"))).collect();
        let keys: serde_json::Map<String, Value> =
            all.map(|i| (format!("k{i}"), json!(format!("{{{{ .k{i} }}}}")))).collect();
        let template: Template = serde_json::from_value(json!({ "data": keys })).unwrap();
        let taken = Cell::new(0);
        let outside = Outside { now: jiff::Timestamp::UNIX_EPOCH, chance: &Zeros, taken: &taken };
        let (made, _) = with_engine(&values, &Rules::default(), outside, |engine| {
            crate::render::target::secret(&template, &values, &Sources::new(), engine)
        });
        assert_eq!(made.unwrap().data.len(), 5_000);
        assert!(taken.get() < 30_000, "{}", taken.get());
    }

    /// What one of them makes of the values is its own.
    #[test]
    fn no_template_of_an_object_changes_what_others_see() {
        let values = Entries::from([("host".to_owned(), SecretBytes::from("db1"))]);
        let first =
            r#"{{ $c := mergeOverwrite (dict "v" .) (dict "v" (dict "host" "override")) }}{{ $c.v.host }} {{ .host }}"#;
        let template = json!({ "data": { "a": first, "b": "{{ .host }}" } });
        let template: Template = serde_json::from_value(template).unwrap();
        let outside = Outside { now: jiff::Timestamp::UNIX_EPOCH, chance: &Zeros, taken: &Cell::new(0) };
        let (made, _) = with_engine(&values, &Rules::default(), outside, |engine| {
            crate::render::target::secret(&template, &values, &Sources::new(), engine)
        });
        let made = made.unwrap().data;
        let text = |key: &str| made[key].expose_str().unwrap().to_owned();
        assert_eq!((text("a"), text("b")), ("override db1".to_owned(), "db1".to_owned()));
    }

    /// Each key is a template of its own, and yet an expression that stands in all of them is compiled once.
    #[test]
    fn the_templates_of_an_object_share_their_expressions() {
        let values = Entries::from([("v".to_owned(), SecretBytes::from("a b"))]);
        let text = r#"{{ regexReplaceAll "[^A-Za-z0-9]+" .v "_" | upper }}"#;
        let keys: serde_json::Map<String, Value> = (0..500).map(|i| (format!("k{i}"), json!(text))).collect();
        let template: Template = serde_json::from_value(json!({ "data": keys })).unwrap();
        let taken = Cell::new(0);
        let outside = Outside { now: jiff::Timestamp::UNIX_EPOCH, chance: &Zeros, taken: &taken };
        let (made, _) = with_engine(&values, &Rules::default(), outside, |engine| {
            crate::render::target::secret(&template, &values, &Sources::new(), engine)
        });
        let made = made.unwrap().data;
        assert_eq!((made.len(), made["k499"].expose_str()), (500, Some("A_B")));
        assert!(taken.get() < 100_000, "{}", taken.get());
    }
}
