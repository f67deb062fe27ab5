//! Which namespaces may use a ClusterSecretStore.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::api::secret_store::StoreCondition;
use crate::render::re2;

/// Whether a namespace meets one of the conditions; none at all lets everybody in. Inside one condition, too, each part is
/// an alternative (ESO's rule). An expression that does not compile matches nothing, and no selector one whose labels are not known.
#[must_use]
pub fn allows(conditions: &[StoreCondition], namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
    conditions.is_empty() || conditions.iter().any(|c| meets(c, namespace, labels))
}

fn meets(condition: &StoreCondition, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
    let selected = |selector| labels.is_some_and(|labels| selects(selector, labels));
    condition.namespace_selector.as_ref().is_some_and(selected)
        || condition.namespaces.iter().any(|n| n == namespace)
        || condition.namespace_regexes.iter().any(|r| re2::compile(r).is_ok_and(|r| r.is_match(namespace)))
}

/// Whether a label selector matches; an empty one matches everything.
#[must_use]
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = |(key, value): (&String, &String)| labels.get(key) == Some(value);
    selector.match_labels.iter().flatten().all(equal)
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
/// Says what cannot be part of one: a list must never ask for more than the selector means.
pub fn to_text(selector: &LabelSelector) -> Result<String, String> {
    let part = |text: &str| -> Result<String, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if text.chars().all(plain) { Ok(text.to_owned()) } else { Err(format!("{text:?} cannot be part of a label")) }
    };
    let mut terms = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        terms.push(format!("{}={}", part(key)?, part(value)?));
    }
    for LabelSelectorRequirement { key, operator, values } in selector.match_expressions.iter().flatten() {
        let (key, values) = (part(key)?, values.iter().flatten().map(|v| part(v)).collect::<Result<Vec<_>, _>>()?);
        let list = values.join(",");
        terms.push(match operator.as_str() {
            "In" if !values.is_empty() => format!("{key} in ({list})"),
            "NotIn" if !values.is_empty() => format!("{key} notin ({list})"),
            "Exists" => key,
            "DoesNotExist" => format!("!{key}"),
            other => return Err(format!("operator {other:?} with {} values is not one of a label selector", values.len())),
        });
    }
    if terms.iter().any(|term| term.starts_with('=') || term.is_empty()) {
        return Err("a label needs a name".to_owned());
    }
    Ok(terms.join(","))
}

#[cfg(test)]
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
        ] {
            assert_eq!(selects(&selector, &red), expected, "{selector:?}");
        }
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
        let broken = StoreCondition { namespace_regexes: vec!["(".into()], ..Default::default() };
        assert!(allows(&[], "any", Some(&none)));
        assert!(allows(std::slice::from_ref(&by_name), "a", Some(&none)) && !allows(&[by_name], "b", Some(&none)));
        assert!(
            allows(std::slice::from_ref(&by_regex), "c-store-02", Some(&none))
                && !allows(&[by_regex], "c-store-x", Some(&none))
        );
        assert!(allows(std::slice::from_ref(&both), "a", Some(&none)) && allows(&[both], "b", Some(&none)));
        assert!(!allows(&[broken], "a", Some(&none)) && !allows(&[StoreCondition::default()], "a", Some(&none)));
    }

    #[test]
    fn expressions_are_those_of_re2_and_no_larger_than_all_others() {
        let lets_in = |expression: &str, namespace: &str| {
            let condition = StoreCondition { namespace_regexes: vec![expression.into()], ..Default::default() };
            allows(&[condition], namespace, None)
        };
        for (expression, namespace) in [(r"^\Qteam-\E[0-9]$", "team-7"), ("^team[a&&b]$", "teama")] {
            assert!(lets_in(expression, namespace), "{expression}");
        }
        // each of these would match in the syntax of the regex crate
        for (expression, namespace) in
            [("team**", "team"), ("(?x) team", "team"), ("^t{1,1001}eam$", "team"), (r"^t\w+$", "té")]
        {
            assert!(!lets_in(expression, namespace), "{expression}");
        }
        let long = format!("team|{}", "a".repeat(10_000));
        assert!(!lets_in(&long, "team"), "longer than all others may be");
        assert!(!lets_in(r"team|\pL{200}", "team"), "larger when compiled");
    }

    #[test]
    fn nobody_is_let_in_by_labels_that_are_not_known() {
        let requirement =
            LabelSelectorRequirement { key: "tier".into(), operator: "NotIn".into(), values: Some(vec!["x".into()]) };
        let selector = LabelSelector { match_expressions: Some(vec![requirement]), ..Default::default() };
        let condition = StoreCondition { namespace_selector: Some(selector), ..Default::default() };
        assert!(allows(std::slice::from_ref(&condition), "a", Some(&BTreeMap::new())));
        assert!(!allows(&[condition], "a", None));
    }
}
