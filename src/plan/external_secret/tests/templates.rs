//! Templates: what they make, when they are rendered again, and what is told of those that cannot be.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Step, World, gone, provider_failure, spec, values};
use crate::plan::external_secret::Memory;
use crate::providers::{ErrorKind, ReferenceKind};

const HOUR: Duration = Duration::from_secs(3600);

fn template(template: &Value) -> Value {
    spec(&json!({ "target": { "template": template } }))
}

fn from_config_map() -> Value {
    template(&json!({ "templateFrom": [{ "configMap": { "name": "shape", "items": [{ "key": "line" }] } }] }))
}

/// One hour later, with this value of `k`.
fn refresh(world: &mut World, value: &str) -> Step {
    world.pass(HOUR);
    world.look(values(&[("k", value)]))
}

fn data(world: &World) -> Vec<(String, String)> {
    world.data()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn an_unchanged_secret_is_neither_rendered_nor_read_also_after_a_restart() {
    let mut world = World::new(&from_config_map());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "is {{ .k }}")]);
    let step = world.look(values(&[("k", "v")]));
    assert_eq!((step.did.as_slice(), step.told().0), (["fetch", "render", "create"].as_slice(), "True"));
    assert_eq!(data(&world), pairs(&[("line", "is v")]));
    assert_eq!(refresh(&mut world, "v").did, ["fetch", "keep"]);
    world.memory = Memory::default();
    assert_eq!(refresh(&mut world, "v").did, ["fetch", "keep"]);
    assert_eq!(refresh(&mut world, "w").did, ["fetch", "render", "read", "update"]);
    assert_eq!(data(&world), pairs(&[("line", "is w")]));
}

/// A value that comes back empty is told by its key, unless that is a value itself.
#[test]
fn an_empty_value_names_no_key_that_a_value_became() {
    for (literal, told) in [
        ("{{ .user }}: '{{ .k }}'", "the provider's value for a key that a template makes is empty"),
        ("fixed: '{{ .k }}'", "the provider's value for key \"fixed\" is empty"),
    ] {
        let mut world = World::new(&template(&json!({ "templateFrom": [{ "literal": literal }] })));
        world.look(values(&[("user", "canary"), ("k", "v")]));
        world.pass(HOUR);
        let step = world.look(values(&[("user", "canary"), ("k", "")]));
        assert_eq!(step.told().0, "False", "{literal}");
        assert!(step.told().2.contains(told) && !step.told().2.contains("canary"), "{}", step.told().2);
    }
}

/// Golden case tfrom-10: a source is taken at the next sync, and no earlier.
#[test]
fn a_changed_source_is_taken_at_the_next_refresh() {
    let mut world = World::new(&from_config_map());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "old")]);
    world.look(values(&[("k", "v")]));
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "new")]);
    assert!(world.look(values(&[("k", "v")])).did.is_empty());
    assert_eq!(refresh(&mut world, "v").did, ["fetch", "render", "read", "update"]);
    assert_eq!(data(&world), pairs(&[("line", "new")]));
    // an edit that changes nothing here costs one read of the Secret, and no write
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "new"), ("other", "x")]);
    assert_eq!(refresh(&mut world, "v").did, ["fetch", "render", "read", "keep"]);
    assert_eq!(refresh(&mut world, "v").did, ["fetch", "keep"]);
}

#[test]
fn an_object_may_ask_to_follow_its_sources() {
    let mut world = World::new(&from_config_map());
    world.es.metadata.annotations = Some([("keyferry.io/follow-templates".to_owned(), "true".to_owned())].into());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "old")]);
    world.look(values(&[("k", "v")]));
    assert!(world.look(values(&[("k", "v")])).did.is_empty());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "new")]);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "render", "read", "update"]);
    assert_eq!(data(&world), pairs(&[("line", "new")]));
    assert!(world.look(values(&[("k", "v")])).did.is_empty());
    world.es.spec.refresh_interval = Some("0".into());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "third")]);
    assert_eq!(world.look(provider_failure(ErrorKind::Unavailable)).did, ["fetch"]);
    let step = world.look(values(&[("k", "v")]));
    assert_eq!(step.did, ["fetch", "render", "read", "update"], "a failure on the way puts it off, and no more");
    world.es.spec.refresh_policy = Some(crate::api::external_secret::RefreshPolicy::CreatedOnce);
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "newer")]);
    assert!(world.look(values(&[("k", "v")])).did.is_empty(), "once is once");
}

#[test]
fn a_follower_takes_what_changed_while_the_operator_was_away() {
    let mut world = World::new(&from_config_map());
    world.es.metadata.annotations = Some([("keyferry.io/follow-templates".to_owned(), "true".to_owned())].into());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "old")]);
    world.look(values(&[("k", "v")]));
    world.memory = Memory::default();
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "keep"]);
    assert!(world.look(values(&[("k", "v")])).did.is_empty());
    world.memory = Memory::default();
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "new")]);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "render", "read", "update"]);
    assert_eq!(data(&world), pairs(&[("line", "new")]));
}

/// Its sync was for the new source, whose status could not be written.
#[test]
fn a_source_that_was_taken_and_not_told_of_is_taken_again() {
    let mut world = World::new(&from_config_map());
    world.es.metadata.annotations = Some([("keyferry.io/follow-templates".to_owned(), "true".to_owned())].into());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "old")]);
    world.look(values(&[("k", "v")]));
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "new")]);
    let before = world.facts();
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "render", "read", "update"]);
    world.lose_status(&before);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "render", "read", "keep"]);
    assert!(world.look(values(&[("k", "v")])).did.is_empty());
}

#[test]
fn a_missing_source_is_told_and_mended_by_its_appearance() {
    let mut world = World::new(&from_config_map());
    let step = world.look(values(&[("k", "v")]));
    let message = "could not update secret: could not apply template: error fetching templateFrom data: configmap shape not found \
                   in the ExternalSecret's namespace";
    assert_eq!(step.told(), ("False", "SecretSyncedError", message));
    assert_eq!(step.events(), ["UpdateFailed!"]);
    assert!(world.es.status.as_ref().unwrap().binding.is_none());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("other", "x")]);
    let step = world.look(values(&[("k", "v")]));
    assert!(step.told().2.ends_with("error in configmap shape: missing key line"), "{:?}", step.told());
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "{{ .k }}")]);
    assert_eq!(world.look(values(&[("k", "v")])).told().0, "True");
    world.sources.clear();
    let step = refresh(&mut world, "v");
    assert_eq!(step.told().0, "False");
    assert_eq!(data(&world), pairs(&[("line", "v")]), "the last good Secret stays");
}

#[test]
fn what_chance_or_time_went_into_is_rendered_anew_at_each_refresh() {
    for (text, kept) in [("{{ uuidv4 }}", "keep"), ("{{ now | unixEpoch }}", "update")] {
        let mut world = World::new(&template(&json!({ "data": { "x": text } })));
        world.look(values(&[("k", "v")]));
        let step = refresh(&mut world, "v");
        assert_eq!(step.did[..2], ["fetch", "render"], "{text}");
        // chance falls the same way in this world
        assert_eq!(*step.did.last().unwrap(), kept, "{text}");
        // but between two refreshes nothing changes
        assert!(world.look(values(&[("k", "v")])).did.is_empty(), "{text}");
    }
}

#[test]
fn a_template_that_fails_changes_and_deletes_nothing() {
    let mut world = World::new(&template(&json!({ "data": { "x": "{{ .k }}" } })));
    world.look(values(&[("k", "v")]));
    let mut renamed = template(&json!({ "data": { "x": "{{ .gone }}" } }));
    renamed["target"]["name"] = json!("other");
    world.edit(&renamed);
    let step = world.look(values(&[("k", "v")]));
    assert_eq!(step.did, ["fetch", "render"]);
    let message = "could not update secret: could not apply template: could not execute template: could not execute template: unable \
                   to execute template at key x: unable to execute template at key x: template: x:1:3: executing \"x\" at <.gone>: \
                   map has no entry for key \"gone\"";
    assert!(step.told().2.starts_with(message), "{:?}", step.told());
    assert!(world.secrets.contains_key("es"), "the Secret under its old name stays until there is a new one");
    renamed["target"]["template"]["data"]["x"] = json!("mended");
    world.edit(&renamed);
    assert_eq!(world.look(values(&[("k", "v")])).did, ["fetch", "render", "create", "orphan"]);
    assert_eq!(data(&world), pairs(&[("x", "mended")]));
}

/// Golden case type-05.
#[test]
fn metadata_is_the_templates_and_follows_it() {
    let with = |labels: Value, annotations: Value| {
        let metadata = json!({ "labels": labels, "annotations": annotations, "finalizers": ["example.org/hold"] });
        template(&json!({ "type": "example.org/type", "metadata": metadata }))
    };
    let mut world = World::new(&with(json!({ "of": "{{ .k | upper }}", "fixed": "yes" }), json!({ "sum": "{{ .k }}!" })));
    world.es.metadata.labels = Some([("not".to_owned(), "copied".to_owned())].into());
    world.look(values(&[("k", "v")]));
    let target = world.target();
    let labels: Vec<_> = target.metadata.labels.as_ref().unwrap().keys().map(String::as_str).collect();
    let reconcile = ["reconcile.external-secrets.io/created-by", "reconcile.external-secrets.io/managed"];
    assert_eq!(labels, ["fixed", "of", reconcile[0], reconcile[1]]);
    assert_eq!(target.metadata.labels.as_ref().unwrap()["of"], "V");
    assert_eq!(target.metadata.annotations.as_ref().unwrap()["sum"], "v!");
    assert_eq!(data(&world), pairs(&[("k", "v")]), "without data of its own, the values go in");

    world.edit(&with(json!({ "of": "{{ .k }}" }), json!({})));
    assert_eq!(world.look(values(&[("k", "v")])).events(), ["Updated"]);
    let metadata = &world.target().metadata;
    assert_eq!(metadata.finalizers.as_deref().unwrap(), ["example.org/hold"]);
    assert_eq!(metadata.labels.as_ref().unwrap().len(), 3);
    assert!(metadata.annotations.as_ref().unwrap().is_empty());

    world.edit(&template(&json!({ "metadata": {} })));
    assert_eq!(world.look(values(&[("k", "v")])).events(), ["Updated"]);
    let metadata = &world.target().metadata;
    assert_eq!(metadata.labels.as_ref().unwrap().len(), 2);
    assert_eq!(metadata.finalizers.as_deref().unwrap(), ["example.org/hold"], "added, and never removed");
}

/// CVE-2026-42876: whoever may write an ExternalSecret must not get tokens of ServiceAccounts by it.
#[test]
fn no_rendering_mints_a_credential() {
    let token = "kubernetes.io/service-account-token";
    let name = json!({ "kubernetes.io/service-account.name": "default" });
    for made in [
        json!({ "type": token, "metadata": { "annotations": name } }),
        json!({ "type": token, "templateFrom": [{ "target": "annotations", "literal": "kubernetes.io/service-account.name: x" }] }),
        json!({ "type": "bootstrap.kubernetes.io/token" }),
    ] {
        let mut world = World::new(&template(&made));
        let step = world.look(values(&[("k", "v")]));
        assert_eq!(step.told().0, "False", "{made}");
        assert!(step.told().2.contains("is not allowed"), "{made}: {:?}", step.told());
        assert!(world.secrets.is_empty(), "{made}");
    }
}

/// CVE-2026-22822, CVE-2026-34984: a template sees the values, and nothing else.
#[test]
fn no_template_reaches_out() {
    for reach in [
        "{{ getSecretKey \"kube-system\" \"x\" \"y\" }}",
        "{{ lookup \"v1\" \"Secret\" \"kube-system\" \"x\" }}",
        "{{ getHostByName \"example.org\" }}",
        "{{ env \"HOME\" }}",
        "{{ expandenv \"$HOME\" }}",
    ] {
        let mut world = World::new(&template(&json!({ "data": { "x": reach } })));
        let step = world.look(values(&[("k", "v")]));
        assert!(step.told().2.contains("not defined"), "{reach}: {:?}", step.told());
        assert!(world.secrets.is_empty(), "{reach}");
    }
}

/// A failure is public: no value may be in it.
#[test]
fn a_failure_shows_no_value() {
    for text in
        ["{{ .k.x }}", "{{ range .k }}{{ end }}", "{{ index .k \"a\" }}", "{{ .k | fromYaml | toString | atoi | div 0 }}"]
    {
        let literal = json!([{ "literal": format!("a: {text}\nb: {{{{ .k }}}}: x: y") }]);
        for made in [json!({ "data": { "x": text } }), json!({ "templateFrom": literal })] {
            let mut world = World::new(&template(&made));
            let step = world.look(values(&[("k", "canary")]));
            assert!(!format!("{step:?}").contains("canary"), "{made}: {step:?}");
        }
    }
}

#[test]
fn empty_values_of_a_provider_do_not_come_in_by_a_template() {
    let mut world = World::new(&template(&json!({ "data": { "x": "{{ .k }}", "y": "y" } })));
    world.look(values(&[("k", "v")]));
    let step = refresh(&mut world, "");
    assert_eq!(step.told().0, "False");
    assert_eq!(data(&world), pairs(&[("x", "v"), ("y", "y")]));
    // but a template that says so may empty a key
    world.edit(&template(&json!({ "data": { "x": "", "y": "y" } })));
    assert_eq!(world.look(values(&[("k", "v")])).told().0, "True");
    assert_eq!(data(&world), pairs(&[("x", ""), ("y", "y")]));
}

fn under_merge(template: &Value) -> Value {
    spec(&json!({ "target": { "deletionPolicy": "Merge", "template": template } }))
}

/// A search that comes back empty is no "it does not exist".
#[test]
fn nothing_found_takes_no_rendered_value() {
    let constant = json!({ "data": { "const": "c" }, "mergePolicy": "Merge" });
    for (made, whole, left) in [
        (json!({ "metadata": {} }), pairs(&[("k", "v")]), vec![]),
        (constant, pairs(&[("const", "c"), ("k", "v")]), pairs(&[("const", "c")])),
    ] {
        let mut world = World::new(&under_merge(&made));
        world.look(values(&[("k", "v")]));
        assert_eq!(data(&world), whole);
        world.pass(HOUR);
        let step = world.look(values(&[]));
        assert_eq!((step.told().0, step.events()), ("False", vec!["UpdateFailed!".to_owned()]), "{made}");
        assert!(step.told().2.contains("nothing was found where there was something"), "{made}: {:?}", step.told());
        assert_eq!(data(&world), whole, "{made}");
        world.pass(HOUR);
        assert_eq!(world.look(gone()).told().0, "True", "{made}: it does not exist");
        assert_eq!(data(&world), left, "{made}");
    }
}

#[test]
fn a_template_that_needs_no_values_goes_on_without_any() {
    let from = json!([{ "configMap": { "name": "shape", "items": [{ "key": "line" }] } }]);
    let mut world = World::new(&under_merge(&json!({ "templateFrom": from })));
    for line in ["old", "new"] {
        world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", line)]);
        assert_eq!(world.look(values(&[])).told().0, "True", "{line}");
        assert_eq!(data(&world), pairs(&[("line", line)]));
        world.pass(HOUR);
    }
}

#[test]
fn drift_is_repaired_by_rendering() {
    let mut world = World::new(&from_config_map());
    world.write_source(ReferenceKind::Secret, "other", &[("line", "no")]);
    world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", "is {{ .k }}")]);
    world.look(values(&[("k", "v")]));
    world.meddle("es", |secret| {
        secret.data.as_mut().unwrap().clear();
    });
    assert_eq!(world.look(values(&[("k", "v")])).did, ["inspect", "fetch", "render", "read", "update"]);
    assert_eq!(data(&world), pairs(&[("line", "is v")]));
}

#[test]
fn other_kinds_are_written_only_where_the_operator_may() {
    let generic = spec(&json!({ "target": { "manifest": { "apiVersion": "v1", "kind": "ConfigMap" } } }));
    let mut world = World::new(&generic);
    let step = world.look(values(&[("k", "v")]));
    let message = "invalid generic target: generic targets are disabled. Enable with --unsafe-allow-generic-targets flag";
    assert_eq!(step.told(), ("False", "SecretSyncedError", message));
    world.rules.generic_targets = true;
    let step = world.look(Err(crate::plan::external_secret::Failure::retry("could not get target resource", "why".into())));
    assert_eq!(step.told(), ("False", "ResourceSyncedError", "could not get target resource: why"));
    assert!(world.es.status.as_ref().unwrap().binding.is_none());
}

/// What the operator renders templates with knows how to make keys, and tells that chance went in.
#[test]
fn certificates_are_made_by_chance() {
    let rules = crate::plan::Rules::default();
    let outside = crate::render::Outside {
        now: jiff::Timestamp::now(),
        chance: &crate::chance::SystemChance,
        taken: &Default::default(),
    };
    for text in [r#"{{ (genCA "ca" 1).Cert }}"#, r#"{{ genPrivateKey "rsa" }}"#, r#"{{ genPrivateKey "ecdsa" }}"#] {
        let (made, same) = crate::plan::template::with_engine(&crate::render::Entries::new(), &rules, outside, |render| {
            render("key", text.as_bytes())
        });
        assert!(made.is_ok_and(|made| made.expose().starts_with(b"-----BEGIN")), "{text}");
        assert!(!same, "{text}");
    }
}
