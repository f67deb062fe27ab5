//! Rewrites: changes of the keys of a `dataFrom` set, applied one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::json::{self, Json};
use super::re2::{self, Expression, InvalidPattern, NotReplaced};
use super::template::{Engine, Expressions, Missing, Stage, TemplateError};
use super::{Entries, Outside, TooMuch};
use crate::api::external_secret::{
    ConflictPolicy, MergeStrategy, PriorityPolicy, Rewrite, RewriteMerge, RewriteRegexp, RewriteTransform,
};
use crate::secret_bytes::SecretBytes;

/// A rewrite that failed. The texts begin with ESO's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed rewrite operation[{index}]: {cause}")]
pub struct RewriteError {
    /// Which one of the list.
    pub index: usize,
    /// Why.
    pub cause: RewriteCause,
}

/// Why a rewrite failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteCause {
    /// The expression cannot be used.
    #[error("regexp failed with failed to compile: {0}")]
    Regexp(#[from] InvalidPattern),
    /// Values have members of the same name.
    #[error("merge failed with conflicts: {0}")]
    Conflicts(String),
    /// A key of the priority list is not there.
    #[error("merge failed with key {0:?} not found in input map")]
    PriorityNotFound(String),
    /// The strategy `JSON` has nowhere to put the object.
    #[error("merge failed with missing 'into' field")]
    MissingInto,
    /// A value is no JSON object.
    #[error("merge failed with failed to unmarshal JSON: the value of {0:?} is not a JSON object")]
    NotAnObject(String),
    /// The set becomes larger than any Secret could be.
    #[error("merge failed with keys and values of more than {MOST_MERGED} bytes together")]
    TooLarge,
    /// The template is none.
    #[error("transform failed with failed to parse template: {}", in_go(.0))]
    NoTemplate(#[from] TemplateError),
    /// The template cannot be rendered.
    #[error("transform failed with failed to execute template for key {key:?}: {}", in_go(.why))]
    Transform {
        /// For which key.
        key: String,
        /// Why.
        why: Box<TemplateError>,
    },
    /// Keys become longer than any Secret could hold.
    #[error("the keys become longer than {MOST} bytes together, or one of them longer than 64 KiB")]
    TooLong,
    /// They take too much work.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
}

impl From<NotReplaced> for RewriteCause {
    fn from(why: NotReplaced) -> Self {
        match why {
            NotReplaced::TooLong => Self::TooLong,
            NotReplaced::TooMuch(much) => Self::TooMuch(much),
        }
    }
}

/// Most bytes of all keys of a set after a rewrite.
const MOST: usize = 1 << 20;

/// Most bytes of all keys and values of a set after a merge, which may leave in it what it merged.
const MOST_MERGED: usize = 4 << 20;

/// Applies rewrites, one after the other.
///
/// # Errors
/// The first that fails.
pub fn apply(operations: &[Rewrite], entries: Entries, outside: Outside<'_>) -> Result<Entries, RewriteError> {
    operations.iter().enumerate().try_fold(entries, |entries, (index, operation)| {
        apply_one(operation, entries, outside).map_err(|cause| RewriteError { index, cause })
    })
}

fn apply_one(operation: &Rewrite, entries: Entries, outside: Outside<'_>) -> Result<Entries, RewriteCause> {
    match operation {
        Rewrite { merge: Some(operation), .. } => merge(operation, entries, outside),
        Rewrite { regexp: Some(operation), .. } => regexp(operation, entries, outside),
        Rewrite { transform: Some(operation), .. } => transform(operation, entries, outside),
        _ => Ok(entries),
    }
}

/// Where two keys become one, the key that sorts last keeps its value; ESO leaves that to chance.
fn regexp(operation: &RewriteRegexp, entries: Entries, outside: Outside<'_>) -> Result<Entries, RewriteCause> {
    let expression = Expression::new(&operation.source)?;
    outside.step(expression.price.of_compiling())?;
    renamed(entries, |key| Ok(expression.replace_all(key, &operation.target, outside)?))
}

/// The same values under other keys.
fn renamed(entries: Entries, name: impl Fn(&str) -> Result<String, RewriteCause>) -> Result<Entries, RewriteCause> {
    let (mut renamed, mut bytes) = (Entries::new(), 0_usize);
    for (key, value) in entries {
        let key = name(&key)?;
        bytes = bytes.saturating_add(key.len());
        if bytes > MOST || key.len() > re2::MAX_REPLACED {
            return Err(RewriteCause::TooLong);
        }
        renamed.insert(key, value);
    }
    Ok(renamed)
}

/// Each key is what the template makes of it, with Go's delimiters whatever those of other templates are. Of two keys that become
/// one, see [`regexp`].
fn transform(operation: &RewriteTransform, entries: Entries, outside: Outside<'_>) -> Result<Entries, RewriteCause> {
    let expressions = Expressions::default();
    let (engine, name) = (engine(outside, &expressions), "transform");
    engine.check(name, &operation.template)?;
    renamed(entries, |key| {
        let failed = |why| RewriteCause::Transform { key: key.to_owned(), why: Box::new(why) };
        transformed(operation, name, key, &engine).map_err(failed)
    })
}

/// What renders the template of a rewrite, whose regular expressions are kept from one key to the next.
#[must_use]
pub fn engine<'a>(outside: Outside<'a>, expressions: &'a Expressions) -> Engine<'a> {
    let (taken, expressions) = (Some(outside.taken), Some(expressions));
    Engine { missing: Missing::NoValue, taken, expressions, ..Engine::new(outside.now, outside.chance) }
}

/// What the template of a rewrite makes of one key. The name is the template's, for its errors.
///
/// # Errors
/// The template cannot be rendered.
pub fn transformed(
    operation: &RewriteTransform,
    name: &str,
    key: &str,
    engine: &Engine<'_>,
) -> Result<String, TemplateError> {
    let scope = [("value".to_owned(), SecretBytes::from(key))].into();
    let key = engine.render(name, &operation.template, &scope)?;
    Ok(String::from_utf8_lossy(key.expose()).into_owned())
}

/// Where a template failed and why, as Go says it, which tells no column of one that cannot be parsed.
#[must_use]
pub fn in_go(error: &TemplateError) -> String {
    let TemplateError { stage, key, line, column, reason } = error;
    match stage {
        Stage::Parse => format!("template: {key}:{line}: {reason}"),
        Stage::Execute => format!("template: {key}:{line}:{column}: {reason}"),
    }
}

fn merge(operation: &RewriteMerge, mut entries: Entries, outside: Outside<'_>) -> Result<Entries, RewriteCause> {
    let (merged, conflicts) = merged(operation, &entries, outside)?;
    if operation.conflict_policy.unwrap_or_default() == ConflictPolicy::Error && !conflicts.is_empty() {
        return Err(RewriteCause::Conflicts(conflicts.into_iter().collect::<Vec<_>>().join(", ")));
    }
    let entries: Entries = match operation.strategy.unwrap_or_default() {
        MergeStrategy::Extract => merged.iter().map(|(key, value)| (key.clone(), json::byte_value(value))).collect(),
        MergeStrategy::Json => {
            let into = operation.into.as_deref().filter(|into| !into.is_empty()).ok_or(RewriteCause::MissingInto)?;
            entries.insert(into.to_owned(), SecretBytes::new(json::compact(&Json::Object(merged), false)));
            entries
        }
    };
    let bytes = entries.iter().map(|(key, value)| key.len() + value.len()).fold(0, usize::saturating_add);
    if bytes > MOST_MERGED { Err(RewriteCause::TooLarge) } else { Ok(entries) }
}

/// The members of all values, later ones winning, and the names that come twice.
fn merged(
    operation: &RewriteMerge,
    entries: &Entries,
    outside: Outside<'_>,
) -> Result<(BTreeMap<String, Json>, BTreeSet<String>), RewriteCause> {
    let mut merged = BTreeMap::new();
    let mut conflicts = BTreeSet::new();
    let priority: BTreeSet<&String> = operation.priority.iter().collect();
    let others = entries.keys().filter(|key| !priority.contains(key));
    for key in others.chain(&operation.priority) {
        // those of the priority list may come again and again
        outside.step(1 + entries.get(key).map_or(0, SecretBytes::len) as u64 / 64)?;
        let Some(value) = entries.get(key) else {
            match operation.priority_policy.unwrap_or_default() {
                PriorityPolicy::Strict => return Err(RewriteCause::PriorityNotFound(key.clone())),
                PriorityPolicy::IgnoreNotFound => continue,
            }
        };
        let members = match json::parse(value.expose()) {
            Some(Json::Object(members)) => members,
            Some(Json::Null) => BTreeMap::new(),
            _ => return Err(RewriteCause::NotAnObject(key.clone())),
        };
        conflicts.extend(members.keys().filter(|name| merged.contains_key(*name)).cloned());
        merged.extend(members);
    }
    Ok((merged, conflicts))
}

/// What tests give templates from outside.
#[cfg(test)]
pub(crate) mod testing {
    use super::Outside;
    use crate::render::template::Chance;

    /// Chance that always falls the same way.
    pub(crate) struct Sevens;

    impl Chance for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    /// The beginning of the epoch, and sevens.
    pub(crate) fn outside() -> Outside<'static> {
        Outside { now: jiff::Timestamp::UNIX_EPOCH, chance: &Sevens, taken: Box::leak(Box::default()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::testing::outside;
    use super::*;

    fn apply(operations: &[Rewrite], entries: Entries) -> Result<Entries, RewriteError> {
        super::apply(operations, entries, outside())
    }

    fn by_transform(template: &str) -> Rewrite {
        Rewrite { transform: Some(RewriteTransform { template: template.into() }), ..Rewrite::default() }
    }

    fn set(entries: &[(&str, &str)]) -> Entries {
        entries.iter().map(|(k, v)| ((*k).to_owned(), SecretBytes::from(*v))).collect()
    }

    fn view(entries: &Entries) -> Vec<(&str, &str)> {
        entries.iter().map(|(k, v)| (k.as_str(), v.expose_str().unwrap())).collect()
    }

    fn by_regexp(source: &str, target: &str) -> Rewrite {
        Rewrite { regexp: Some(RewriteRegexp { source: source.into(), target: target.into() }), ..Rewrite::default() }
    }

    fn by_merge(merge: RewriteMerge) -> Rewrite {
        Rewrite { merge: Some(merge), ..Rewrite::default() }
    }

    /// Golden cases rewrite-02 and rewrite-03.
    #[test]
    fn regexps_in_a_row() {
        let keys = set(&[("db.primary.host", "1"), ("db.replica.host", "2"), ("cacheHost", "3"), ("x__y", "4")]);
        let swapped = apply(&[by_regexp(r"^db\.(\w+)\.(\w+)$", "${2}_$1")], keys.clone()).unwrap();
        assert_eq!(view(&swapped), [("cacheHost", "3"), ("host_primary", "1"), ("host_replica", "2"), ("x__y", "4")]);
        let named = apply(&[by_regexp(r"(?P<low>[a-z]+)(?P<cap>[A-Z]\w*)", "${cap}-${low}")], keys).unwrap();
        assert!(named.contains_key("Host-cache"));
        let chain = [by_regexp("^apps_", ""), by_regexp("_", "."), by_regexp("token", "tok")];
        let chained = apply(&chain, set(&[("apps_web_token", "t1"), ("apps_api_token", "t2")])).unwrap();
        assert_eq!(view(&chained), [("api.tok", "t2"), ("web.tok", "t1")]);
    }

    #[test]
    fn the_last_of_colliding_keys_wins() {
        let merged = apply(&[by_regexp("^.*$", "k")], set(&[("b", "2"), ("c", "3"), ("a", "1")])).unwrap();
        assert_eq!(view(&merged), [("k", "3")]);
    }

    /// Golden case rewrite-09.
    #[test]
    fn merge_with_priorities() {
        let keys = set(&[
            ("m-a", r#"{"x":"a","y":"a","z":"a"}"#),
            ("m-b", r#"{"x":"b","y":"b"}"#),
            ("m-c", r#"{"x":"c"}"#),
            ("m-d", r#"{"x":"d","y":"d","z":"d"}"#),
        ]);
        let with = |priority: &[&str], conflict_policy| {
            let priority = priority.iter().map(|k| (*k).to_owned()).collect();
            [by_merge(RewriteMerge { priority, conflict_policy, ..RewriteMerge::default() })]
        };
        let ignore = Some(ConflictPolicy::Ignore);
        assert_eq!(view(&apply(&with(&["m-a"], ignore), keys.clone()).unwrap()), [("x", "a"), ("y", "a"), ("z", "a")]);
        assert_eq!(
            view(&apply(&with(&["m-d", "m-b"], ignore), keys.clone()).unwrap()),
            [("x", "b"), ("y", "b"), ("z", "d")]
        );
        let error = apply(&with(&["m-b"], None), keys.clone()).unwrap_err().to_string();
        assert_eq!(error, "failed rewrite operation[0]: merge failed with conflicts: x, y, z");
        let error = apply(&with(&["gone"], ignore), keys.clone()).unwrap_err().to_string();
        assert_eq!(error, "failed rewrite operation[0]: merge failed with key \"gone\" not found in input map");
        let lenient = RewriteMerge {
            priority: vec!["gone".into()],
            priority_policy: Some(PriorityPolicy::IgnoreNotFound),
            conflict_policy: ignore,
            ..RewriteMerge::default()
        };
        assert!(apply(&[by_merge(lenient)], keys).is_ok());
    }

    /// Golden case rewrite-11.
    #[test]
    fn merge_strategies() {
        let keys =
            set(&[("m-a", r#"{"x":1,"s":"<tag>"}"#), ("m-b", r#"{"y":[1,{"q":null}],"f":1.50,"u":"é","o":{"h":"<"}}"#)]);
        let extracted = apply(&[by_merge(RewriteMerge::default())], keys.clone()).unwrap();
        let want =
            [("f", "1.5"), ("o", r#"{"h":"\u003c"}"#), ("s", "<tag>"), ("u", "é"), ("x", "1"), ("y", r#"[1,{"q":null}]"#)];
        assert_eq!(view(&extracted), want);
        let json = |into: Option<&str>| {
            let into = into.map(str::to_owned);
            [by_merge(RewriteMerge { into, strategy: Some(MergeStrategy::Json), ..RewriteMerge::default() })]
        };
        let all = r#"{"f":1.5,"o":{"h":"<"},"s":"<tag>","u":"é","x":1,"y":[1,{"q":null}]}"#;
        let into_new = apply(&json(Some("all.json")), keys.clone()).unwrap();
        assert_eq!((into_new.len(), into_new["all.json"].expose_str()), (3, Some(all)));
        assert_eq!(apply(&json(Some("m-a")), keys.clone()).unwrap()["m-a"].expose_str(), Some(all));
        let error = apply(&json(None), keys).unwrap_err().to_string();
        assert_eq!(error, "failed rewrite operation[0]: merge failed with missing 'into' field");
    }

    /// Golden case rewrite-13; ESO's text quotes a byte of the value here.
    #[test]
    fn only_objects_can_be_merged() {
        for bad in ["words", "[1]", r#"{"x":"#] {
            let error = apply(&[by_merge(RewriteMerge::default())], set(&[("a", bad), ("b", r#"{"x":1}"#)])).unwrap_err();
            let text = "merge failed with failed to unmarshal JSON: the value of \"a\" is not a JSON object";
            assert_eq!(error.cause.to_string(), text);
        }
        let merged = apply(&[by_merge(RewriteMerge::default())], set(&[("a", "null"), ("b", r#"{"x":1}"#)])).unwrap();
        assert_eq!(view(&merged), [("x", "1")]);
    }

    /// Golden case rewrite-04, and that a key that is not there is no error here.
    #[test]
    fn transforms_by_template() {
        let keys = || set(&[("first_key", "1"), ("second_key", "2")]);
        let table = [
            ("{{ .value | upper }}", ["FIRST_KEY", "SECOND_KEY"]),
            (r#"{{ printf "%s.%d" .value (len .value) }}"#, ["first_key.9", "second_key.10"]),
            (r#"{{ if hasPrefix "first" .value }}one{{ else }}{{ .value | trunc 3 }}{{ end }}"#, ["one", "sec"]),
            ("{{ .value }}{{ .gone }}", ["first_key<no value>", "second_key<no value>"]),
            ("[[ .value ]]", ["[[ .value ]]", "[[ .value ]]"]),
        ];
        for (template, wanted) in table {
            let got = apply(&[by_transform(template)], keys()).unwrap();
            assert_eq!(got.into_keys().collect::<BTreeSet<_>>(), wanted.map(String::from).into(), "{template}");
        }
        for (template, text) in [
            (
                "{{ fail .value }}",
                r#"execute template for key "first_key": template: transform:1:3: executing "transform" at <fail .value>: "#,
            ),
            ("{{ .value | nosuch }}", r#"parse template: template: transform:1: function "nosuch" not defined"#),
        ] {
            let error = apply(&[by_transform(template)], keys()).unwrap_err().to_string();
            let text = format!("failed rewrite operation[0]: transform failed with failed to {text}");
            assert!(error.starts_with(&text), "{error}");
        }
    }

    /// Hundreds of keys are plain use: an expression is paid for once, and not with each key.
    #[test]
    fn expressions_of_transforms_are_compiled_once() {
        let keys: Entries = (0..1000).map(|i| (format!("team/key {i}"), SecretBytes::from("v"))).collect();
        let outside = outside();
        let transform = [by_transform(r#"{{ regexReplaceAll "[^A-Za-z0-9]+" .value "_" | upper }}"#)];
        let made = super::apply(&transform, keys, outside).unwrap();
        assert_eq!(made.len(), 1000);
        assert!(made.contains_key("TEAM_KEY_999"));
        assert!(outside.taken.get() < 200_000, "{}", outside.taken.get());
    }

    #[test]
    fn what_cannot_be_done_says_so() {
        let error = apply(&[by_regexp("(", "b")], set(&[])).unwrap_err().to_string();
        let text = "regexp failed with failed to compile: error parsing regexp: missing closing ): `(`";
        assert_eq!(error, format!("failed rewrite operation[0]: {text}"));
    }

    #[test]
    fn work_has_a_bound_together() {
        let key = "A".repeat(60_000);
        let entries = || set(&[(key.as_str(), "v")]);
        // each match looks at all the rest, in search of what is not there
        let quadratic = || by_regexp(".*[^A-Z]|[A-Z]", "b");
        assert_eq!(apply(&[quadratic()], entries()).unwrap_err().cause, RewriteCause::TooMuch(TooMuch));
        assert!(apply(&[by_regexp("[A-Z]+", "b")], entries()).is_ok());
        // nothing is put in, over and over
        let empty = by_regexp("(?s)", &"$0".repeat(10_000));
        assert_eq!(apply(&[empty], entries()).unwrap_err().cause, RewriteCause::TooMuch(TooMuch));
        let costly = || by_regexp(r"x|\pL{10}", "b");
        assert!(apply(&[costly()], set(&[("k", "v")])).is_ok());
        let many: Vec<_> = (0..1000).map(|_| costly()).collect();
        assert_eq!(apply(&many, set(&[("k", "v")])).unwrap_err().cause, RewriteCause::TooMuch(TooMuch));
        let long = by_transform(r#"{{ repeat 70000 "x" }}"#);
        assert_eq!(apply(&[long], set(&[("k", "v")])).unwrap_err().cause, RewriteCause::TooLong);
    }

    #[test]
    fn merges_have_a_bound_together() {
        let keys =
            || set(&[("a", r#"{"x":1}"#), ("b", r#"{"y":"a value of some length, so that it costs more than a step"}"#)]);
        let merge = |priority: Vec<String>| {
            by_merge(RewriteMerge { priority, conflict_policy: Some(ConflictPolicy::Ignore), ..RewriteMerge::default() })
        };
        let outside = outside();
        assert!(super::apply(&[merge(vec!["b".into(); 10])], keys(), outside).is_ok());
        assert_eq!(outside.taken.get(), 1 + 10 * 2, "each time that it is read");
        outside.taken.set(crate::render::MOST_STEPS - 10);
        let error = super::apply(&[merge(vec!["b".into(); 10])], keys(), outside).unwrap_err();
        assert_eq!(error.cause, RewriteCause::TooMuch(TooMuch));
    }

    /// Each merge into a key of its own leaves another copy of all that is there.
    #[test]
    fn merges_do_not_grow_without_bound() {
        let value = format!(r#"{{"x":"{}"}}"#, "v".repeat(1 << 20));
        let into = |i: usize| {
            let into = Some(format!("k{i}"));
            let conflict_policy = Some(ConflictPolicy::Ignore);
            by_merge(RewriteMerge { into, conflict_policy, strategy: Some(MergeStrategy::Json), ..RewriteMerge::default() })
        };
        let merges = |count: usize| apply(&(0..count).map(into).collect::<Vec<_>>(), set(&[("a", value.as_str())]));
        assert_eq!(merges(2).unwrap().len(), 3);
        assert_eq!(merges(4).unwrap_err(), RewriteError { index: 2, cause: RewriteCause::TooLarge });
    }

    #[test]
    fn keys_do_not_grow_without_bound() {
        let tenfold = || by_regexp("(?s).+", &"$0".repeat(10));
        let rewrites = |count: usize| (0..count).map(|_| tenfold()).collect::<Vec<_>>();
        assert!(apply(&rewrites(4), set(&[("ab", "v")])).is_ok());
        let error = apply(&rewrites(10), set(&[("ab", "v")])).unwrap_err();
        assert_eq!(error.cause, RewriteCause::TooLong);
        let keys: Vec<String> = (0..100).map(|i| format!("{i:03}")).collect();
        let many: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "v")).collect();
        let error = apply(&rewrites(4), set(&many)).unwrap_err();
        assert_eq!(error.cause, RewriteCause::TooLong, "all together");
    }
}
