//! Tables over what goes to one store: `dataTo`, `data`, conversions, rewrites, templates.

use super::*;
use crate::plan::push_secret::entries::{masked, names, shown};

/// Entries as `secretKey > remoteKey/property`, or what failed.
fn taken_apart(more: Value, keys: &[&str]) -> Result<Vec<String>, String> {
    let ps = push_secret(&spec(more));
    let found = entries_of(&ps.spec, "team-a", &one_store()[0], &values(keys), &Names::default(), outside())
        .map_err(|f| f.message)?;
    let line = |Entry { data, push }: Entry| {
        let key = data.match_.secret_key.clone().unwrap_or_default();
        match push {
            Ok(_) => format!("{key} > {}", entry_key(&data)),
            Err(failure) => failure.message,
        }
    };
    Ok(found.into_iter().map(line).collect())
}

fn data_to(entry: Value) -> Value {
    let mut entry = entry;
    entry["storeRef"] = json!({ "name": "s" });
    json!({ "data": [], "dataTo": [entry] })
}

#[test]
fn entries_are_taken_apart() {
    let ab = ["a", "b"];
    assert_eq!(taken_apart(json!({}), &ab).unwrap(), ["a > r"]);
    assert_eq!(taken_apart(json!({}), &["b"]).unwrap(), ["secret key a does not exist"]);
    let whole = json!({ "data": [{ "match": { "remoteRef": { "remoteKey": "r", "property": "p" } } }] });
    assert_eq!(taken_apart(whole, &ab).unwrap(), [" > r/p"]);
    assert_eq!(taken_apart(data_to(json!({})), &ab).unwrap(), ["a > a", "b > b"]);
    assert_eq!(
        taken_apart(data_to(json!({ "match": { "regexp": "b" } })), &["a", "b", "abc"]).unwrap(),
        ["abc > abc", "b > b"]
    );
    let rewrite = json!({ "rewrite": [{ "regexp": { "source": "^", "target": "app/" } }, { "regexp": { "source": "b", "target": "x" } }] });
    assert_eq!(taken_apart(data_to(rewrite), &ab).unwrap(), ["a > app/a", "b > app/x"]);
    let bundle = data_to(json!({ "remoteKey": "all", "match": { "regexp": "a|b" } }));
    assert_eq!(taken_apart(bundle, &["a", "b", "c"]).unwrap(), [" > all"]);
    assert_eq!(taken_apart(data_to(json!({ "match": { "regexp": "z" } })), &ab).unwrap(), Vec::<String>::new());
    let elsewhere = json!({ "data": [], "dataTo": [{ "storeRef": { "name": "other" } }] });
    assert_eq!(taken_apart(elsewhere, &ab).unwrap(), Vec::<String>::new());
    let both = json!({ "dataTo": [{ "storeRef": { "labelSelector": { "matchLabels": { "push": "here" } } } }] });
    assert_eq!(taken_apart(both, &ab).unwrap(), ["b > b", "a > r"], "data wins over dataTo for one key of the Secret");
}

#[test]
fn compiling_an_expression_is_work() {
    let entry = json!({ "match": { "regexp": "a" }, "rewrite": [{ "regexp": { "source": "a", "target": "b" } }] });
    let ps = push_secret(&spec(data_to(entry)));
    let taken = std::cell::Cell::new(0);
    let outside = Outside { taken: &taken, ..outside() };
    entries_of(&ps.spec, "team-a", &one_store()[0], &values(&["a", "aa"]), &Names::default(), outside).unwrap();
    // twice a thousand and its states, and a few steps for each search: the rewrite's is compiled once for both keys
    assert!((2_000..2_020).contains(&taken.get()), "{}", taken.get());
    taken.set(crate::render::MOST_STEPS - 1_500);
    let failure = entries_of(&ps.spec, "team-a", &one_store()[0], &values(&["a"]), &Names::default(), outside).unwrap_err();
    assert!(failure.message.contains("steps together"), "{}", failure.message);
}

#[test]
fn a_bundle_holds_the_keys_that_match() {
    let ps = push_secret(&spec(data_to(json!({ "remoteKey": "all", "match": { "regexp": "a|b" } }))));
    let mut found =
        entries_of(&ps.spec, "team-a", &one_store()[0], &values(&["a", "b", "c"]), &Names::default(), outside()).unwrap();
    let value = found.remove(0).push.unwrap().value().unwrap();
    assert_eq!(value.expose_str(), Some(r#"{"a":"v-a","b":"v-b"}"#));
}

#[test]
fn keys_are_changed_back_before_they_are_compared() {
    let entry = |key: &str| {
        json!({ "data": [{
        "match": { "secretKey": key, "remoteRef": { "remoteKey": "r" } }, "conversionStrategy": "ReverseUnicode",
    }] })
    };
    assert_eq!(taken_apart(entry("a/b"), &["a_U002f_b"]).unwrap(), ["a/b > r"]);
    assert_eq!(taken_apart(entry("a_U002f_b"), &["a_U002f_b"]).unwrap(), ["secret key a_U002f_b does not exist"]);
    assert_eq!(
        taken_apart(entry("a/b"), &["a_U002f_b", "a/b"]).unwrap(),
        ["could not apply conversion strategy to keys: secret name collision during conversion: a/b"]
    );
    let converted = data_to(json!({ "conversionStrategy": "ReverseUnicode", "match": { "regexp": "/" } }));
    assert_eq!(taken_apart(converted, &["a_U002f_b", "c"]).unwrap(), ["a/b > a/b"]);
}

#[test]
fn two_entries_do_not_go_to_one_place() {
    let to_x = json!({ "rewrite": [{ "regexp": { "source": ".*", "target": "x" } }] });
    let error = taken_apart(data_to(to_x), &["a", "b"]).unwrap_err();
    assert_eq!(
        error,
        "failed to expand dataTo: dataTo[0]: duplicate remote key \"x\" from source key \"b\" (conflicts with dataTo[0]:a)"
    );
    let entry = |key: &str, property: &str| json!({ "match": { "secretKey": key, "remoteRef": { "remoteKey": "r", "property": property } } });
    let twice = json!({ "data": [entry("a", "p"), entry("b", "p")] });
    assert_eq!(
        taken_apart(twice, &["a", "b"]).unwrap_err(),
        "failed to merge data entries: duplicate remote key \"r\" with property \"p\": source keys \"a\" and \"b\" both map to \
         the same destination"
    );
    assert!(taken_apart(json!({ "data": [entry("a", "p"), entry("b", "q")] }), &["a", "b"]).is_ok());
    for (wrong, text) in [
        (
            json!({ "match": { "regexp": "(" } }),
            "failed to expand dataTo: dataTo[0]: match failed: failed to compile regexp pattern \"(\": error parsing regexp: \
             missing closing ): `(`",
        ),
        (
            json!({ "rewrite": [{ "regexp": { "source": "(", "target": "" } }] }),
            "failed to expand dataTo: dataTo[0]: rewrite failed: rewrite[0] on key \"a\": invalid regexp: error \
             parsing regexp: missing closing ): `(`",
        ),
        (
            json!({ "rewrite": [{ "regexp": { "source": ".*", "target": "" } }] }),
            "failed to expand dataTo: dataTo[0]: empty remote key produced for source key \"a\"",
        ),
    ] {
        let error = taken_apart(data_to(wrong), &["a"]).unwrap_err();
        assert!(error.starts_with(text), "{error}");
    }
}

#[test]
fn a_key_that_a_template_made_of_a_value_is_not_told() {
    let source = values(&["ann@example.org", "fixed", "user"]);
    let told = |mut more: Value| {
        more["template"] = json!({ "templateFrom": [{ "literal": "{{ .user }}: x\nfixed: y" }] });
        let ps = push_secret(&spec(more));
        let names = names(&ps, &Rules::default(), &Sources::new(), &values(&["user"]));
        let found = entries_of(&ps.spec, "team-a", &one_store()[0], &source, &names, outside());
        found.map(|entries| entries.iter().map(|entry| shown(entry.push.as_ref().unwrap(), &names)).collect::<Vec<_>>())
    };
    let rewrite = |source: &str, target: &str| json!({ "regexp": { "source": source, "target": target } });
    let with = |rewrites: &[Value]| told(data_to(json!({ "rewrite": rewrites }))).map_err(|f| f.message);
    assert_eq!(
        with(&[rewrite(".*", "x")]).unwrap_err(),
        "failed to expand dataTo: dataTo[0]: duplicate remote key \"x\" from source key \"fixed\" (conflicts with dataTo[0]:<masked>)"
    );
    assert_eq!(
        with(&[rewrite(".*", "")]).unwrap_err(),
        "failed to expand dataTo: dataTo[0]: empty remote key produced for source key <masked>"
    );
    let failed = with(&[rewrite("^", "app/"), rewrite("(", "")]).unwrap_err();
    assert!(failed.contains("rewrite failed: rewrite[1] on key <masked>: invalid regexp"), "{failed}");
    assert_eq!(with(&[]), Ok(vec![false, true, true]));
    assert_eq!(told(data_to(json!({ "remoteKey": "all" }))), Ok(vec![false]));
    let data = json!({ "match": { "secretKey": "user", "remoteRef": { "remoteKey": "ann@example.org" } } });
    let both = json!({ "data": [data], "dataTo": data_to(json!({ "match": { "regexp": "ann" } }))["dataTo"] });
    assert_eq!(
        told(both).unwrap_err().message,
        "failed to merge data entries: duplicate remote key <masked>: source keys <masked> and \"user\" both map to the same destination"
    );
    let error = ProviderError::new(ErrorKind::Denied, "\"ann@example.org\" may not be written");
    let failure = Failure::provider("could not write remote ref <masked> to target secretstore s", &error);
    assert_eq!(masked(failure.clone(), true), failure);
    assert_eq!(
        masked(failure, false).message,
        "could not write remote ref <masked> to target secretstore s: <masked>: it may name keys that a template made of values (denied)"
    );
}

#[test]
fn keys_are_changed_by_template() {
    let transform = |template: &str| data_to(json!({ "rewrite": [{ "transform": { "template": template } }] }));
    assert_eq!(taken_apart(transform("app/{{ .value | upper }}"), &["a"]).unwrap(), ["a > app/A"]);
    assert_eq!(taken_apart(transform("{{ .nope }}"), &["a"]).unwrap(), ["a > <no value>"]);
    for (template, text) in [
        ("{{ .value | nosuch }}", "invalid template: template: t:1: function \"nosuch\" not defined"),
        ("{{ .value | fail }}", "template exec: template: t:1:12: executing \"t\" at <fail>: error calling fail: "),
    ] {
        let error = taken_apart(transform(template), &["a"]).unwrap_err();
        let text = format!("failed to expand dataTo: dataTo[0]: rewrite failed: rewrite[0] on key \"a\": {text}");
        assert!(error.starts_with(&text), "{error}");
    }
}

/// What is pushed of a Secret with keys a and b, by a template.
fn by_template(template: Value) -> Result<Values, Failure> {
    let ps = push_secret(&spec(json!({ "template": template })));
    let values = Values {
        data: values(&["a", "b"]).data.clone(),
        type_: Some("corpus.test/own".into()),
        labels: BTreeMap::from([("own".into(), "l".into())]),
        annotations: BTreeMap::new(),
    };
    shaped(&ps, &Rules::default(), values, &Sources::new(), outside())
}

#[test]
fn a_template_goes_over_the_secret() {
    for policy in [json!({}), json!({ "mergePolicy": "Replace" }), json!({ "mergePolicy": "Merge" })] {
        let mut template = json!({ "data": { "b": "{{ .a }}+{{ .b }}", "c": "{{ .a | upper }}" } });
        template.as_object_mut().unwrap().extend(policy.as_object().unwrap().clone());
        let made = by_template(template).unwrap();
        let texts: Vec<_> = made.data.iter().map(|(k, v)| (k.as_str(), v.expose_str().unwrap())).collect();
        assert_eq!(texts, [("a", "v-a"), ("b", "v-a+v-b"), ("c", "V-A")], "{policy}");
        assert_eq!(made.type_, None, "the type is the template's, also where that names none");
    }
    let made = by_template(json!({ "type": "t", "metadata": { "labels": { "who": "{{ .a }}" } } })).unwrap();
    assert_eq!(made.labels, BTreeMap::from([("own".into(), "l".into()), ("who".into(), "v-a".into())]));
    assert_eq!((made.type_.as_deref(), made.data.len()), (Some("t"), 2));
}

#[test]
fn a_template_that_fails_is_told_of() {
    let failure = by_template(json!({ "data": { "x": "{{ .gone }}" } })).unwrap_err();
    assert!(failure.message.starts_with("could not apply template: "), "{}", failure.message);
    assert!(failure.message.contains("gone") && !failure.message.contains("v-a"), "{}", failure.message);
    let good = pushed(&facts(push_secret(&spec(json!({}))), one_store()), &[]);
    let bad = after(&good, settle(&good, Outcome::Failed { failure, synced: None }));
    assert_eq!(condition(&bad).1, "Errored", "ESO gives such an object no condition");
}

#[test]
fn a_selector_of_data_to_must_mean_a_store() {
    let check = |selector: Value| {
        let ps = push_secret(&spec(json!({ "dataTo": [{ "storeRef": { "labelSelector": selector } }] })));
        check_selectors(&ps.spec, &[&one_store()[0]]).map_err(|f| f.message)
    };
    let label = |value: &str| json!({ "matchLabels": { "push": value } });
    assert_eq!(check(label("here")), Ok(()));
    let nowhere = check(label("nowhere")).unwrap_err();
    assert_eq!(nowhere, "dataTo[0]: labelSelector does not match any store in secretStoreRefs");
    let wrong = check(json!({ "matchExpressions": [{ "key": "push", "operator": "exists" }] })).unwrap_err();
    assert_eq!(wrong, "dataTo[0]: invalid labelSelector: \"exists\" is not a valid label selector operator");
}
