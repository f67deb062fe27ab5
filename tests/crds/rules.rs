//! The rules across fields: CEL in the CRD and code in the controller say the same of every spec.

use keyferry::validate::validate_external_secret;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Admission, KINDS};

fn broken(kind: &str, object: &Value) -> Vec<String> {
    Admission::of(kind).broken_rules(object)
}

fn spec(spec: &Value) -> Value {
    json!({ "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": { "name": "x" }, "spec": spec })
}

#[test]
fn every_rule_compiles() {
    for kind in KINDS {
        let errors = Admission::of(kind).rules.compilation_errors();
        assert!(errors.is_empty(), "{kind}: {errors:?}");
    }
}

#[test]
fn a_store_has_one_provider() {
    let store = |provider: Value| broken("SecretStore", &json!({ "spec": { "provider": provider } }));
    let wrong = ["spec.provider: secret stores must only have exactly one backend specified"];
    assert_eq!(store(json!({})), wrong);
    assert_eq!(store(json!({ "device42": {}, "fake": {} })), wrong);
    assert_eq!(store(json!({ "unheardOf": {} })), wrong);
    assert!(store(json!({ "device42": {} })).is_empty());
}

#[test]
fn messages_name_the_field() {
    let table = [
        (json!({}), "spec: either data or dataFrom should be specified"),
        (
            json!({ "dataFrom": [{ "find": {} }], "target": { "creationPolicy": "None", "deletionPolicy": "Merge" } }),
            "spec.target.deletionPolicy: deletionPolicy=Merge must not be used with creationPolicy=None. \
             There is no Secret to merge with",
        ),
        (
            json!({ "dataFrom": [{ "find": {} }, {}] }),
            "spec.dataFrom[1]: either extract, find, or sourceRef must be set to dataFrom",
        ),
        (
            json!({ "dataFrom": [{ "find": {}, "rewrite": [{}] }] }),
            "spec.dataFrom[0].rewrite[0]: a rewrite must have exactly one of merge, regexp and transform; \
             use an entry for each",
        ),
    ];
    for (wrong, message) in table {
        assert_eq!(broken("ExternalSecret", &spec(&wrong)), [message]);
    }
}

/// A field with its value, or left out.
fn maybe(name: &'static str, value: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    proptest::option::of(value).prop_map(move |v| v.map_or(json!({}), |v| json!({ name: v }))).boxed()
}

/// An object out of fields.
fn object(fields: Vec<BoxedStrategy<Value>>) -> BoxedStrategy<Value> {
    fields
        .prop_map(|fields| {
            fields.into_iter().flat_map(|f| f.as_object().unwrap().clone()).collect::<serde_json::Map<_, _>>()
        })
        .prop_map(Value::Object)
        .boxed()
}

fn list(item: BoxedStrategy<Value>) -> BoxedStrategy<Value> {
    proptest::collection::vec(item, 0..3).prop_map(Value::from).boxed()
}

fn one_of(values: &'static [&'static str]) -> BoxedStrategy<Value> {
    proptest::sample::select(values).prop_map(Value::from).boxed()
}

fn any_spec() -> BoxedStrategy<Value> {
    let source_ref = || {
        object(vec![
            maybe("storeRef", Just(json!({ "name": "s" }))),
            maybe("generatorRef", Just(json!({ "kind": "UUID", "name": "u" }))),
        ])
    };
    let rewrite = object(vec![
        maybe("merge", Just(json!({}))),
        maybe("regexp", Just(json!({ "source": "a", "target": "b" }))),
        maybe("transform", Just(json!({ "template": "t" }))),
    ]);
    let remote_ref = || Just(json!({ "key": "r" }));
    let data = object(vec![
        Just(json!({ "secretKey": "k", "remoteRef": { "key": "r" } })).boxed(),
        maybe("sourceRef", source_ref()),
    ]);
    let data_from = object(vec![
        maybe("extract", remote_ref()),
        maybe("find", Just(json!({}))),
        maybe("sourceRef", source_ref()),
        maybe("rewrite", list(rewrite)),
    ]);
    let target = object(vec![
        maybe("creationPolicy", one_of(&["Owner", "Orphan", "Merge", "None", "CreateOrMerge"])),
        maybe("deletionPolicy", one_of(&["Delete", "Merge", "Retain"])),
    ]);
    object(vec![maybe("data", list(data)), maybe("dataFrom", list(data_from)), maybe("target", target)])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn cel_and_code_agree(wanted in any_spec()) {
        let object = spec(&wanted);
        let cel = broken("ExternalSecret", &object);
        match validate_external_secret(&serde_json::from_value(object).unwrap()) {
            Ok(()) => prop_assert!(cel.is_empty(), "only CEL refuses: {:?}", cel),
            Err(error) => prop_assert!(cel.contains(&error.to_string()), "{} is not among {:?}", error, cel),
        }
    }
}
