//! Which namespaces may use a ClusterSecretStore, and what a label selector means.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde_json::json;

use crate::api::secret_store::{AnyStore, StoreCondition, StoreKind};
use crate::render::re2;

/// The most bytes of a label's name, and of its value.
const MAX_LABEL: usize = 63;
/// The most bytes of what stands before a label's name.
const MAX_PREFIX: usize = 253;
/// What apimachinery says of a label's name, prefix and value.
const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const PREFIX_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
    and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
    and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
    validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

/// Checks that a namespace may use a store: one for the whole cluster may say which do.
///
/// # Errors
/// Why not, in ESO's words.
pub fn admit(store: &AnyStore, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Result<(), String> {
    if store.kind != StoreKind::ClusterSecretStore || allows(&store.spec.conditions, namespace, labels)? {
        return Ok(());
    }
    let name = store.name();
    Err(format!("using cluster store {name:?} is not allowed from namespace {namespace:?}: denied by spec.condition"))
}

/// Whether a namespace meets one of the conditions; none at all lets everybody in. Inside one condition, too, each part is
/// an alternative, and what makes no sense is an error unless a part before it lets the namespace in (ESO's rules). No
/// selector matches a namespace whose labels are not known.
fn allows(
    conditions: &[StoreCondition],
    namespace: &str,
    labels: Option<&BTreeMap<String, String>>,
) -> Result<bool, String> {
    for condition in conditions {
        if meets(condition, namespace, labels)? {
            return Ok(true);
        }
    }
    Ok(conditions.is_empty())
}

fn meets(condition: &StoreCondition, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Result<bool, String> {
    if let Some(selector) = &condition.namespace_selector {
        if let Some(why) = fault(selector) {
            return Err(format!("failed to convert label selector into selector {}: {why}", as_go_prints(selector)));
        }
        if labels.is_some_and(|labels| selects(selector, labels)) {
            return Ok(true);
        }
    }
    if condition.namespaces.iter().any(|n| n == namespace) {
        return Ok(true);
    }
    for expression in &condition.namespace_regexes {
        let compiled =
            re2::compile(expression).map_err(|why| format!("failed to compile regex {}: {why}", re2::shown(expression)))?;
        if compiled.is_match(namespace) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a label selector matches; an empty one matches everything, and one that makes no sense nothing.
#[must_use]
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    fault(selector).is_none()
        && selector.match_labels.iter().flatten().all(equal)
        && selector.match_expressions.iter().flatten().all(|r| requirement(r, labels))
}

fn requirement(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let listed = || value.is_some_and(|v| requirement.values.iter().flatten().any(|x| x == v));
    match requirement.operator.as_str() {
        "In" => listed(),
        "NotIn" => !listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}

/// A label selector as the API server takes it in a list.
///
/// # Errors
/// What [`fault`] says: a list must never ask for more than the selector means.
pub fn to_text(selector: &LabelSelector) -> Result<String, String> {
    if let Some(why) = fault(selector) {
        return Err(why);
    }
    let equal = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let others = selector.match_expressions.iter().flatten().map(|LabelSelectorRequirement { key, operator, values }| {
        let list = values.as_deref().unwrap_or_default().join(",");
        match operator.as_str() {
            "In" => format!("{key} in ({list})"),
            "NotIn" => format!("{key} notin ({list})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        }
    });
    Ok(equal.chain(others).collect::<Vec<_>>().join(","))
}

/// What is wrong with a label selector, in the words of apimachinery's `LabelSelectorAsSelector`: of its first part that
/// makes no sense. ESO does nothing with such a one.
#[must_use]
pub fn fault(selector: &LabelSelector) -> Option<String> {
    let of_label = |(key, value): (&String, &String)| faults(key, std::slice::from_ref(value), None);
    let mut labels = selector.match_labels.iter().flatten();
    labels.find_map(of_label).or_else(|| selector.match_expressions.iter().flatten().find_map(fault_of))
}

fn fault_of(requirement: &LabelSelectorRequirement) -> Option<String> {
    let values = requirement.values.as_deref().unwrap_or_default();
    let broken = match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => Some("for 'in', 'notin' operators, values set can't be empty"),
        "Exists" | "DoesNotExist" if !values.is_empty() => Some("values set must be empty for exists and does not exist"),
        "In" | "NotIn" | "Exists" | "DoesNotExist" => None,
        other => return Some(format!("{other:?} is not a valid label selector operator")),
    };
    faults(&requirement.key, values, broken)
}

/// What is wrong with one requirement: its key, how many values it has (`broken`), each of them.
fn faults(key: &str, values: &[String], broken: Option<&str>) -> Option<String> {
    let mut all = Vec::new();
    let problems = problems_of_key(key);
    if !problems.is_empty() {
        all.push(format!("key: Invalid value: {key:?}: {}", problems.join("; ")));
    }
    if let Some(rule) = broken {
        // Go has no empty list here, but none at all
        let list = if values.is_empty() { "null".to_owned() } else { json!(values).to_string() };
        all.push(format!("values: Invalid value: {list}: {rule}"));
    }
    for (i, value) in values.iter().enumerate() {
        let problems = problems_of_value(value);
        if !problems.is_empty() {
            all.push(format!("values[{i}][{key}]: Invalid value: {value:?}: {}", problems.join("; ")));
        }
    }
    let joined = all.join(", ");
    match all.len() {
        0 => None,
        1 => Some(joined),
        _ => Some(format!("[{joined}]")),
    }
}

/// What is wrong with the name of a label, or of an annotation in lower case.
pub(crate) fn problems_of_key(key: &str) -> Vec<String> {
    let (prefix, name) = match key.split_once('/') {
        None => (None, key),
        Some((prefix, name)) if !name.contains('/') => (Some(prefix), name),
        Some(_) => {
            let more = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {NAME_RULE} {more}")];
        }
    };
    let mut problems = Vec::new();
    match prefix {
        Some("") => problems.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => {
            if prefix.len() > MAX_PREFIX {
                problems.push(format!("prefix part must be no more than {MAX_PREFIX} bytes"));
            }
            if !prefix.split('.').all(|part| is_framed(part, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), "-")) {
                problems.push(format!("prefix part {PREFIX_RULE}"));
            }
        }
        None => {}
    }
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_LABEL {
        problems.push(format!("name part must be no more than {MAX_LABEL} bytes"));
    }
    if !is_name(name) {
        problems.push(format!("name part {NAME_RULE}"));
    }
    problems
}

/// What is wrong with the value of a label.
pub(crate) fn problems_of_value(value: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if value.len() > MAX_LABEL {
        problems.push(format!("must be no more than {MAX_LABEL} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        problems.push(VALUE_RULE.to_owned());
    }
    problems
}

/// Whether a text has the signs of a label's name, and of a value that is not empty.
fn is_name(text: &str) -> bool {
    is_framed(text, |c| c.is_ascii_alphanumeric(), "-_.")
}

/// Whether a text begins and ends with signs of one sort, and has only those and some others between.
fn is_framed(text: &str, ends: fn(char) -> bool, others: &str) -> bool {
    text.starts_with(ends) && text.ends_with(ends) && text.chars().all(|c| ends(c) || others.contains(c))
}

/// A label selector as it stands in ESO's messages: as Go prints it.
#[must_use]
pub fn as_go_prints(selector: &LabelSelector) -> String {
    let labels: Vec<_> = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let expressions = selector.match_expressions.iter().flatten();
    let expressions: Vec<_> = expressions
        .map(|LabelSelectorRequirement { key, operator, values }| {
            let values = values.as_deref().unwrap_or_default().join(" ");
            format!("LabelSelectorRequirement{{Key:{key},Operator:{operator},Values:[{values}],}},")
        })
        .collect();
    let (labels, expressions) = (labels.concat(), expressions.concat());
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn expression(key: &str, operator: &str, values: &[&str]) -> LabelSelector {
        let values = (!values.is_empty()).then(|| values.iter().map(|v| (*v).to_owned()).collect());
        let one = LabelSelectorRequirement { key: key.into(), operator: operator.into(), values };
        LabelSelector { match_expressions: Some(vec![one]), match_labels: None }
    }

    #[test]
    fn selectors() {
        let red = labels(&[("team", "red")]);
        for (selector, expected) in [
            (LabelSelector::default(), true),
            (LabelSelector { match_labels: Some(red.clone()), ..Default::default() }, true),
            (LabelSelector { match_labels: Some(labels(&[("team", "blue")])), ..Default::default() }, false),
            (expression("team", "In", &["red", "green"]), true),
            (expression("team", "In", &["green"]), false),
            (expression("other", "NotIn", &["red"]), true),
            (expression("team", "NotIn", &["red"]), false),
            (expression("team", "Exists", &[]), true),
            (expression("other", "DoesNotExist", &[]), true),
            (expression("team", "Bogus", &[]), false),
            // each of these would match, did it make sense
            (expression("team", "NotIn", &[]), false),
            (expression("team", "Exists", &["red"]), false),
            (expression("other", "DoesNotExist", &["red"]), false),
            (expression("other", "NotIn", &["a b"]), false),
            (expression("a b", "DoesNotExist", &[]), false),
        ] {
            assert_eq!(selects(&selector, &red), expected, "{selector:?}");
        }
    }

    fn equal(key: &str, value: &str) -> LabelSelector {
        LabelSelector { match_labels: Some(labels(&[(key, value)])), match_expressions: None }
    }

    #[test]
    fn selectors_that_make_sense() {
        let (name, prefix) = ("n".repeat(63), format!("{}.io", "p".repeat(250)));
        for selector in [
            LabelSelector::default(),
            LabelSelector { match_labels: Some(BTreeMap::new()), match_expressions: Some(Vec::new()) },
            equal("team", ""),
            equal("Team_1.x-y", "A_1.x-y"),
            equal("a-b.example.com/Team", "a"),
            equal(&format!("{prefix}/{name}"), &name),
            expression("team", "In", &["a", ""]),
            expression("team", "NotIn", &["a"]),
            expression("team", "Exists", &[]),
            expression("team", "DoesNotExist", &[]),
        ] {
            assert_eq!(fault(&selector), None, "{selector:?}");
        }
    }

    /// The words are those of `LabelSelectorAsSelector` in apimachinery 0.36.
    #[test]
    fn what_is_wrong_with_a_selector() {
        let long = "n".repeat(64);
        let name = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
                    (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        let prefix = r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        let value = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
                     and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for \
                     validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
        let none = "for 'in', 'notin' operators, values set can't be empty";
        for (selector, text) in [
            (expression("team", "Like", &["a"]), r#""Like" is not a valid label selector operator"#.to_owned()),
            (expression("team", "in", &["a"]), r#""in" is not a valid label selector operator"#.to_owned()),
            (expression("team", "In", &[]), format!("values: Invalid value: null: {none}")),
            (expression("team", "NotIn", &[]), format!("values: Invalid value: null: {none}")),
            (
                expression("team", "Exists", &["a", "b"]),
                r#"values: Invalid value: ["a","b"]: values set must be empty for exists and does not exist"#.to_owned(),
            ),
            (
                expression("team", "DoesNotExist", &["a"]),
                r#"values: Invalid value: ["a"]: values set must be empty for exists and does not exist"#.to_owned(),
            ),
            (equal("team", "a b"), format!(r#"values[0][team]: Invalid value: "a b": {value}"#)),
            (equal("team", "-a"), format!(r#"values[0][team]: Invalid value: "-a": {value}"#)),
            (expression("team", "In", &["a", "b."]), format!(r#"values[1][team]: Invalid value: "b.": {value}"#)),
            (equal("team", &long), format!("values[0][team]: Invalid value: {long:?}: must be no more than 63 bytes")),
            (equal("a b", "c"), format!(r#"key: Invalid value: "a b": name part {name}"#)),
            (equal("", "c"), format!(r#"key: Invalid value: "": name part must be non-empty; name part {name}"#)),
            (equal(&long, "c"), format!("key: Invalid value: {long:?}: name part must be no more than 63 bytes")),
            (equal("/x", "c"), r#"key: Invalid value: "/x": prefix part must be non-empty"#.to_owned()),
            (equal("A.io/x", "c"), format!(r#"key: Invalid value: "A.io/x": prefix part {prefix}"#)),
            (equal("a..io/x", "c"), format!(r#"key: Invalid value: "a..io/x": prefix part {prefix}"#)),
            (
                equal("a/b/c", "c"),
                format!(
                    r#"key: Invalid value: "a/b/c": a valid label key {name} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"#
                ),
            ),
            (
                expression("a b", "In", &[]),
                format!(r#"[key: Invalid value: "a b": name part {name}, values: Invalid value: null: {none}]"#),
            ),
        ] {
            assert_eq!(fault(&selector), Some(text), "{selector:?}");
        }
        let prefix = "p".repeat(254);
        let text = format!("key: Invalid value: \"{prefix}/x\": prefix part must be no more than 253 bytes");
        assert_eq!(fault(&equal(&format!("{prefix}/x"), "c")), Some(text));
    }

    #[test]
    fn a_selector_is_shown_as_go_prints_it() {
        assert_eq!(
            as_go_prints(&LabelSelector::default()),
            "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}"
        );
        let mut both = expression("team", "In", &["red", "green"]);
        both.match_labels = Some(labels(&[("b", "2"), ("a", "1")]));
        both.match_expressions.as_mut().unwrap().extend(expression("x", "Exists", &[]).match_expressions.unwrap());
        assert_eq!(
            as_go_prints(&both),
            "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:[]LabelSelectorRequirement{\
             LabelSelectorRequirement{Key:team,Operator:In,Values:[red green],},\
             LabelSelectorRequirement{Key:x,Operator:Exists,Values:[],},},}"
        );
    }

    #[test]
    fn a_selector_is_written_as_the_api_server_takes_it() {
        let both = LabelSelector {
            match_labels: Some(labels(&[("a.io/b", "c"), ("d", "")])),
            match_expressions: expression("team", "In", &["red", "green"]).match_expressions,
        };
        assert_eq!(to_text(&both), Ok("a.io/b=c,d=,team in (red,green)".to_owned()));
        assert_eq!(to_text(&LabelSelector::default()), Ok(String::new()));
        assert_eq!(to_text(&expression("t", "NotIn", &["x"])), Ok("t notin (x)".to_owned()));
        assert_eq!(to_text(&expression("t", "Exists", &[])), Ok("t".to_owned()));
        assert_eq!(to_text(&expression("t", "DoesNotExist", &[])), Ok("!t".to_owned()));
        for wrong in [
            expression("t", "In", &[]),
            expression("t", "Bogus", &["x"]),
            expression("t", "In", &["x),other in (y"]),
            LabelSelector { match_labels: Some(labels(&[("a", "b,c!=d")])), ..Default::default() },
            LabelSelector { match_labels: Some(labels(&[("", "b")])), ..Default::default() },
        ] {
            assert!(to_text(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn parts_of_a_condition_are_alternatives_and_expressions_are_not_anchored() {
        let none = BTreeMap::new();
        let by_name = StoreCondition { namespaces: vec!["a".into()], ..Default::default() };
        let by_regex = StoreCondition { namespace_regexes: vec!["tore-0[0-9]".into()], ..Default::default() };
        let both = StoreCondition { namespace_regexes: vec!["^b$".into()], ..by_name.clone() };
        let lets_in = |condition: &StoreCondition, namespace: &str| {
            allows(std::slice::from_ref(condition), namespace, Some(&none)).unwrap()
        };
        assert_eq!(allows(&[], "any", Some(&none)), Ok(true));
        assert!(lets_in(&by_name, "a") && !lets_in(&by_name, "b"));
        assert!(lets_in(&by_regex, "c-store-02") && !lets_in(&by_regex, "c-store-x"));
        assert!(lets_in(&both, "a") && lets_in(&both, "b"));
        assert!(!lets_in(&StoreCondition::default(), "a"));
    }

    #[test]
    fn what_makes_no_sense_lets_nobody_in_and_is_told_in_esos_words() {
        let tier = labels(&[("tier", "blue")]);
        let selecting =
            |selector: LabelSelector| StoreCondition { namespace_selector: Some(selector), ..Default::default() };
        let named = StoreCondition { namespaces: vec!["a".into()], ..Default::default() };
        let broken = StoreCondition { namespace_regexes: vec!["(".into()], ..named.clone() };
        let go = |expression: &str| {
            format!(
                "failed to convert label selector into selector &LabelSelector{{MatchLabels:map[string]string{{}},\
                 MatchExpressions:[]LabelSelectorRequirement{{LabelSelectorRequirement{{{expression},}},}},}}: "
            )
        };
        let not_in = go("Key:tier,Operator:NotIn,Values:[]")
            + "values: Invalid value: null: for 'in', 'notin' operators, values set can't be empty";
        let exists = go("Key:tier,Operator:Exists,Values:[blue]")
            + r#"values: Invalid value: ["blue"]: values set must be empty for exists and does not exist"#;
        let regex = "failed to compile regex (: error parsing regexp: missing closing ): `(`";
        let (not_in_of, exists_of) = (expression("tier", "NotIn", &[]), expression("tier", "Exists", &["blue"]));
        for (conditions, namespace, expected) in [
            (vec![selecting(not_in_of.clone())], "a", Err(not_in.clone())),
            (vec![selecting(exists_of.clone())], "a", Err(exists.clone())),
            // in the order of the conditions, and of the parts of one
            (vec![selecting(exists_of.clone()), selecting(not_in_of.clone())], "a", Err(exists)),
            (vec![named.clone(), selecting(not_in_of.clone())], "a", Ok(true)),
            (vec![named.clone(), selecting(not_in_of.clone())], "b", Err(not_in.clone())),
            (vec![selecting(not_in_of.clone()), named], "a", Err(not_in.clone())),
            (vec![StoreCondition { namespace_selector: Some(not_in_of), ..broken.clone() }], "a", Err(not_in)),
            (vec![broken.clone()], "a", Ok(true)),
            (vec![broken], "b", Err(regex.to_owned())),
        ] {
            assert_eq!(allows(&conditions, namespace, Some(&tier)), expected, "{conditions:?} {namespace}");
        }
    }

    #[test]
    fn conditions_are_those_of_cluster_stores() {
        let spec = json!({ "provider": { "device42": {} }, "conditions": [{ "namespaces": ["a"] }] });
        let mut store = AnyStore {
            kind: StoreKind::ClusterSecretStore,
            metadata: serde_json::from_value(json!({ "name": "s" })).unwrap(),
            spec: serde_json::from_value(spec).unwrap(),
            status: None,
        };
        assert_eq!(admit(&store, "a", None), Ok(()));
        let denied = r#"using cluster store "s" is not allowed from namespace "b": denied by spec.condition"#;
        assert_eq!(admit(&store, "b", None), Err(denied.to_owned()));
        store.spec.conditions[0].namespace_selector = Some(expression("tier", "Like", &[]));
        let nonsense = admit(&store, "a", None).unwrap_err();
        assert!(nonsense.ends_with(r#",}: "Like" is not a valid label selector operator"#), "{nonsense}");
        store.kind = StoreKind::SecretStore;
        assert_eq!(admit(&store, "b", None), Ok(()));
    }

    #[test]
    fn expressions_are_those_of_re2_and_no_larger_than_all_others() {
        let lets_in = |expression: &str, namespace: &str| {
            let condition = StoreCondition { namespace_regexes: vec![expression.into()], ..Default::default() };
            allows(&[condition], namespace, None)
        };
        for (expression, namespace) in [(r"^\Qteam-\E[0-9]$", "team-7"), ("^team[a&&b]$", "teama")] {
            assert_eq!(lets_in(expression, namespace), Ok(true), "{expression}");
        }
        // each of these would match in the syntax of the regex crate
        assert_eq!(lets_in(r"^t\w+$", "té"), Ok(false));
        for expression in ["team**", "(?x) team", "^t{1,1001}eam$"] {
            assert!(lets_in(expression, "team").is_err(), "{expression}");
        }
        let long = format!("team|{}", "a".repeat(10_000));
        assert!(lets_in(&long, "team").is_err(), "longer than all others may be");
        assert!(lets_in(r"team|\pL{200}", "team").is_err(), "larger when compiled");
    }

    #[test]
    fn nobody_is_let_in_by_labels_that_are_not_known() {
        let requirement =
            LabelSelectorRequirement { key: "tier".into(), operator: "NotIn".into(), values: Some(vec!["x".into()]) };
        let selector = LabelSelector { match_expressions: Some(vec![requirement]), ..Default::default() };
        let condition = StoreCondition { namespace_selector: Some(selector), ..Default::default() };
        assert_eq!(allows(std::slice::from_ref(&condition), "a", Some(&BTreeMap::new())), Ok(true));
        assert_eq!(allows(&[condition], "a", None), Ok(false));
    }
}
