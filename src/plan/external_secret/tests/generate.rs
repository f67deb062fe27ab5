//! Generators: which one is asked, what is told where it cannot be, and that values stay as they are for as long as they should.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::world::{World, digester, values};
use crate::api::LABEL_MANAGED;
use crate::api::external_secret::{GeneratorKind, PendingStatus};
use crate::api::generators::GeneratorObject;
use crate::index::{AnyGenerator, GeneratorFacts, GeneratorId, Key};
use crate::plan::Wake;
use crate::plan::external_secret::{self as plan, Decision, Next};
use crate::plan::refresh;
use crate::plan::target::Desired;
use crate::providers::ReferenceKind;
use crate::queue::Priority;

fn spec(reference: &Value) -> Value {
    json!({ "refreshInterval": "1h", "dataFrom": [{ "sourceRef": { "generatorRef": reference } }] })
}

fn to(kind: &str) -> Value {
    json!({ "kind": kind, "name": "g" })
}

fn id(kind: GeneratorKind) -> GeneratorId {
    let namespace = if kind == GeneratorKind::ClusterGenerator { "" } else { "ns" };
    GeneratorId { kind, key: Key::new(namespace, "g") }
}

fn found(kind: GeneratorKind, spec: &Value) -> (GeneratorId, GeneratorFacts) {
    let object = json!({ "metadata": { "name": "g", "namespace": &*id(kind).key.namespace, "uid": "g" }, "spec": spec });
    let object: GeneratorObject = serde_json::from_value(object).unwrap();
    (id(kind), GeneratorFacts::Found(Arc::new(AnyGenerator::read(kind, object))))
}

/// A world with a Password generator, and an object that uses it.
fn world() -> World {
    let mut world = World::new(&spec(&to("Password")));
    world.generators.extend([found(GeneratorKind::Password, &json!({}))]);
    world
}

fn first() -> World {
    let mut world = world();
    let step = world.look(values(&[("password", "first")]));
    assert_eq!(step.did, ["fetch", "create"]);
    assert_eq!(step.told(), ("True", "SecretSynced", "secret synced"));
    world
}

/// Looks once; whoever asks the generator gets this value.
fn look(world: &mut World) -> Vec<&'static str> {
    world.look(values(&[("password", "second")])).did
}

fn password(world: &World) -> String {
    world.data().into_iter().find(|(k, _)| k == "password").unwrap().1
}

#[test]
fn the_order_names_the_generator() {
    let world = world();
    let Next::Fetch(fetch) = plan::before_fetch(&world.facts(), &world.rules) else { panic!("not due") };
    let orders: Vec<_> = fetch.generate.iter().map(|o| (o.index, o.spec.kind(), &*o.generator.id.key.name)).collect();
    assert_eq!(orders, [(0, GeneratorKind::Password, "g")]);
    assert!(fetch.requests.is_empty());
}

/// An object whose value is generated once, for a Secret of that name.
fn once(target: &str) -> Value {
    let mut spec = spec(&to("Password"));
    spec["refreshPolicy"] = "CreatedOnce".into();
    spec["target"] = json!({ "name": target });
    spec
}

fn generated_once() -> World {
    let mut world = World::new(&once("a"));
    world.generators.extend([found(GeneratorKind::Password, &json!({}))]);
    assert_eq!(world.look(values(&[("password", "first")])).did, ["fetch", "create"]);
    world
}

/// Renames the target to a Secret of another ExternalSecret's.
fn rename_to_what_is_not_ours(world: &mut World) {
    world.edit(&once("b"));
    world.meddle("b", |s| {
        s.metadata.labels = Some([(LABEL_MANAGED.to_owned(), "true".to_owned())].into());
        let owner = OwnerReference {
            api_version: "external-secrets.io/v1".into(),
            kind: "ExternalSecret".into(),
            name: "other".into(),
            uid: "other".into(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        s.metadata.owner_references = Some(vec![owner]);
    });
    look(world);
}

#[test]
fn what_could_not_be_written_is_not_taken_to_be_there() {
    let mut world = generated_once();
    for _ in 0..3 {
        rename_to_what_is_not_ours(&mut world);
        let ready = world.es.ready().unwrap();
        assert_eq!(ready.status, "False", "{:?}", ready.message);
    }
}

#[test]
fn a_rename_that_fails_and_is_undone_makes_no_other_value() {
    let mut world = generated_once();
    rename_to_what_is_not_ours(&mut world);
    world.edit(&once("a"));
    look(&mut world);
    assert_eq!((password(&world).as_str(), world.es.ready().unwrap().status.as_str()), ("first", "True"));
}

/// ESO records nothing of the Secret, and leaves `syncedResourceVersion` as it was when it wrote it.
#[test]
fn what_eso_generated_outlives_an_edit_and_a_failure() {
    let mut world = generated_once();
    world.es.status.as_mut().unwrap().target = None;
    world.memory = Default::default();
    let mut wrong = once("a");
    wrong["refreshInterval"] = "soon".into();
    world.edit(&wrong);
    look(&mut world);
    assert_eq!(world.es.ready().unwrap().status, "False");
    let mut edited = once("a");
    edited["refreshInterval"] = "2h".into();
    world.edit(&edited);
    look(&mut world);
    assert_eq!((password(&world).as_str(), world.es.ready().unwrap().status.as_str()), ("first", "True"));
}

/// Golden cases gen-04 and gen-05, and more of their kind.
#[test]
fn generators_that_cannot_be_asked() {
    let begin = "could not get secret data from provider: error processing spec.dataFrom[0].sourceRef.generatorRef, err: \
                 unable to get generator: ";
    let elsewhere = json!({ "apiVersion": "elsewhere.test/v1", "kind": "Fake", "name": "g" });
    let core = json!({ "apiVersion": "v1", "kind": "Fake", "name": "g" });
    let later = json!({ "apiVersion": "generators.external-secrets.io/v9", "kind": "Fake", "name": "g" });
    let mismatch = found(GeneratorKind::ClusterGenerator, &json!({ "kind": "UUID", "generator": { "fakeSpec": {} } }));
    let wrong = found(GeneratorKind::Password, &json!({ "length": "x" }));
    let missing = |kind| (id(kind), GeneratorFacts::Missing);
    let unreadable = (id(GeneratorKind::Fake), GeneratorFacts::Unreadable("the API server answered 403 (Forbidden)".into()));
    let table = [
        (to("Fake"), missing(GeneratorKind::Fake), r#"Fake.generators.external-secrets.io "g" not found"#),
        (
            to("ClusterGenerator"),
            missing(GeneratorKind::ClusterGenerator),
            r#"ClusterGenerator.generators.external-secrets.io "g" not found"#,
        ),
        (
            elsewhere,
            missing(GeneratorKind::Fake),
            "terminal error: generatorRef may only reference the generators group, but got elsewhere.test",
        ),
        (
            core,
            missing(GeneratorKind::Fake),
            "terminal error: generatorRef may only reference the generators group, but got ",
        ),
        (
            later,
            missing(GeneratorKind::Fake),
            "terminal error: generatorRef references an unknown GVK generators.external-secrets.io/v9, Kind=Fake",
        ),
        (
            to("ClusterGenerator"),
            mismatch,
            "terminal error: invalid ClusterGenerator: when kind is UUID, UUIDSpec must be set",
        ),
        (
            to("Password"),
            wrong,
            "terminal error: invalid Password: spec holds a field of another type than the definition says",
        ),
        (
            to("Fake"),
            unreadable,
            "the operator cannot read fakes.generators.external-secrets.io: the API server answered 403 (Forbidden)",
        ),
    ];
    for (reference, known, detail) in table {
        let mut world = World::new(&spec(&reference));
        world.generators.extend([known]);
        let step = world.look(values(&[("k", "v")]));
        assert!(step.did.is_empty(), "{detail}: {:?}", step.did);
        assert_eq!(step.told(), ("False", "SecretSyncedError", format!("{begin}{detail}").as_str()));
        assert_eq!(step.events(), ["UpdateFailed!"]);
        assert!(world.look(values(&[])).events().is_empty(), "told once");
        world.generators = [found(GeneratorKind::Fake, &json!({}))].into();
        world.edit(&spec(&to("Fake")));
        assert_eq!(world.look(values(&[("k", "v")])).told().0, "True", "{detail}: it recovers");
    }
}

#[test]
fn a_cluster_generator_needs_cluster_wide_rights() {
    let mut world = World::new(&spec(&to("ClusterGenerator")));
    world.rules.cluster_generators = false;
    let step = world.look(values(&[]));
    assert!(step.told().2.contains("this keyferry runs without cluster-wide rights (--namespaces)"), "{:?}", step.told());
}

#[test]
fn a_kind_that_is_not_listed_yet_is_waited_for() {
    let mut world = World::new(&spec(&to("UUID")));
    for unknown in [None, Some(GeneratorFacts::Unknown)] {
        world.generators = unknown.map(|facts| (id(GeneratorKind::UUID), facts)).into_iter().collect();
        let step = world.look(values(&[]));
        assert!(step.did.is_empty() && step.report.is_none());
        assert!(matches!(step.wake, Wake::After(_, Priority::New)), "{:?}", step.wake);
    }
}

#[test]
fn a_generator_of_another_class_makes_the_object_anothers() {
    let mut world = World::new(&spec(&to("Fake")));
    world.generators.extend([found(GeneratorKind::Fake, &json!({ "controller": "someone-else" }))]);
    assert_eq!(look(&mut world), ["ignore"]);
    world.rules.class = "someone-else".into();
    assert_eq!(look(&mut world), ["fetch", "create"]);
    let cluster = json!({ "kind": "Fake", "generator": { "fakeSpec": { "controller": "third" } } });
    let mut world = World::new(&spec(&to("ClusterGenerator")));
    world.generators.extend([found(GeneratorKind::ClusterGenerator, &cluster)]);
    assert_eq!(look(&mut world), ["ignore"]);
}

/// A restart forgets what is in memory. Nothing is due, and nothing is asked: whatever else happened.
#[test]
fn a_restart_changes_no_generated_value() {
    type Event = (&'static str, fn(&mut World), &'static [&'static str]);
    let events: [Event; 7] = [
        ("nothing else", |_| (), &[]),
        ("the managed label was taken off", |w| w.meddle("es", |s| s.metadata.labels = None), &["inspect"]),
        (
            "somebody added a label",
            |w| {
                w.meddle("es", |s| {
                    s.metadata.labels.get_or_insert_default().insert("x".into(), "y".into());
                })
            },
            &["inspect"],
        ),
        (
            "the digest key is lost",
            |w| {
                w.es.status.as_mut().unwrap().target.as_mut().unwrap().digest = Some("other.digest".into());
                w.meddle("es", |_| ());
            },
            &["inspect"],
        ),
        (
            "an older version wrote the status",
            |w| {
                w.es.status.as_mut().unwrap().target.as_mut().unwrap().digest = Some("digest-without-key-id".into());
                w.meddle("es", |_| ());
            },
            &["inspect"],
        ),
        ("ESO wrote the status", |w| w.es.status.as_mut().unwrap().target = None, &["inspect"]),
        ("the generator changed", |w| w.generators = [found(GeneratorKind::Password, &json!({ "length": 32 }))].into(), &[]),
    ];
    for (what, event, did) in events {
        let mut world = first();
        world.pass(Duration::from_secs(60));
        event(&mut world);
        world.memory = plan::Memory::default();
        assert_eq!(look(&mut world), did, "{what}");
        assert_eq!(password(&world), "first", "{what}");
        assert!(look(&mut world).is_empty(), "{what}: and it is known from now on");
    }
}

/// The next refresh takes what changed beside the generator.
#[test]
fn what_is_followed_changes_no_generated_value() {
    let mut both = spec(&to("Password"));
    both["secretStoreRef"] = json!({ "name": "store" });
    both["data"] = json!([{ "secretKey": "k", "remoteRef": { "key": "remote" } }]);
    let shape = json!([{ "configMap": { "name": "shape", "items": [{ "key": "line" }] } }]);
    both["target"] = json!({ "template": { "mergePolicy": "Merge", "templateFrom": shape } });
    let mut world = World::new(&both);
    world.generators.extend([found(GeneratorKind::Password, &json!({}))]);
    world.es.metadata.annotations = Some([("keyferry.io/follow-templates".to_owned(), "true".to_owned())].into());
    let change = |world: &mut World, count: u64| {
        world.stores.values_mut().for_each(|store| store.values = Some(count));
        world.write_source(ReferenceKind::ConfigMap, "shape", &[("line", count.to_string().as_str())]);
    };
    change(&mut world, 1);
    assert_eq!(world.look(values(&[("password", "first")])).did, ["fetch", "render", "create"]);
    for restart in [false, true] {
        if restart {
            world.memory = plan::Memory::default();
        }
        change(&mut world, 2);
        assert!(look(&mut world).is_empty(), "restart: {restart}");
        assert_eq!(password(&world), "first");
    }
    world.pass(refresh::DEFAULT_INTERVAL);
    assert_eq!(look(&mut world), ["fetch", "render", "read", "update"]);
    assert_eq!(password(&world), "second");
}

/// It comes back with the next refresh.
#[test]
fn taking_the_managed_label_off_makes_no_new_value() {
    let mut world = first();
    world.meddle("es", |s| s.metadata.labels = None);
    assert_eq!(look(&mut world), ["inspect"]);
    assert_eq!(password(&world), "first");
    assert!(look(&mut world).is_empty());
    world.pass(refresh::DEFAULT_INTERVAL);
    assert_eq!(look(&mut world), ["fetch", "read", "update"]);
    assert_eq!(world.target().metadata.labels.as_ref().unwrap()[crate::api::LABEL_MANAGED], "true");
}

/// An object that is due, the value `written` that is made for it now, and the Secret that is wanted of it.
fn due_anew(world: &World) -> (plan::Facts, plan::Gathered, Desired) {
    let facts = world.facts();
    let made = values(&[("password", "written")]).map(|g| plan::Gathered { read_at: Some(world.now), ..g }).unwrap();
    let Decision::ReadTarget(desired) = plan::after_fetch(&facts, &world.rules, Ok(&made), &digester()) else {
        panic!("not due")
    };
    (facts, made, desired)
}

/// The Secret was written, and the status that tells of it was not, nor what announced it taken out.
#[test]
fn a_status_that_could_not_be_written_changes_no_value() {
    let mut world = first();
    world.pass(refresh::DEFAULT_INTERVAL);
    let (facts, made, desired) = due_anew(&world);
    world.look(Ok(made));
    world.lose_status(&facts);
    world.es.status = plan::pending(&facts, &desired, None, world.now, &digester());
    assert_eq!(look(&mut world), ["inspect", "retire"]);
    assert_eq!(password(&world), "written");
    assert!(look(&mut world).is_empty(), "and it is not due");
}

#[test]
fn what_makes_a_new_value() {
    type Event = (&'static str, fn(&mut World), &'static [&'static str]);
    let events: [Event; 6] = [
        ("the interval passed", |w| w.pass(refresh::DEFAULT_INTERVAL), &["fetch", "read", "update"]),
        (
            "force-sync",
            |w| {
                w.es.metadata.annotations.get_or_insert_default().insert("force-sync".into(), "1".into());
            },
            &["fetch", "read", "update"],
        ),
        (
            "the spec changed",
            |w| {
                w.edit(
                    &json!({ "refreshInterval": "2h", "dataFrom": [{ "sourceRef": { "generatorRef": to("Password") } }] }),
                )
            },
            &["fetch", "read", "update"],
        ),
        (
            "the Secret was deleted",
            |w| {
                w.secrets.clear();
            },
            &["fetch", "create"],
        ),
        (
            "the value was changed by hand",
            |w| {
                w.meddle("es", |s| {
                    s.data.get_or_insert_default().insert("password".into(), k8s_openapi::ByteString(b"x".to_vec()));
                })
            },
            &["inspect", "fetch", "read", "update"],
        ),
        (
            "a value was taken out by hand",
            |w| {
                w.meddle("es", |s| {
                    s.data = None;
                })
            },
            &["inspect", "fetch", "read", "update"],
        ),
    ];
    for (what, event, did) in events {
        let mut world = first();
        world.pass(Duration::from_secs(60));
        event(&mut world);
        assert_eq!(look(&mut world), did, "{what}");
        assert_eq!(password(&world), "second", "{what}");
    }
}

#[test]
fn created_once_is_made_once() {
    let mut world = world();
    let mut once = spec(&to("Password"));
    once["refreshPolicy"] = json!("CreatedOnce");
    world.edit(&once);
    world.look(values(&[("password", "first")]));
    world.pass(Duration::from_secs(1_000_000));
    world.memory = plan::Memory::default();
    assert!(look(&mut world).is_empty());
    assert_eq!(password(&world), "first");
}

/// A failure that was none of the value's is over when the Secret is seen to be as it was left.
#[test]
fn a_failure_alone_makes_no_new_value() {
    let mut world = first();
    let refused = plan::Failure::retry("could not update secret", "unable to read Secret ns/es".into());
    let report = plan::failed(&world.facts(), &refused);
    world.es.status = report.status;
    world.memory = report.memory;
    world.pass(Duration::from_secs(10));
    let step = world.look(values(&[("password", "second")]));
    assert_eq!(step.did, ["inspect"]);
    assert_eq!(step.told(), ("True", "SecretSynced", "secret synced"));
    assert_eq!(password(&world), "first");
}

/// The process ends between the write of the Secret and that of the status.
#[test]
fn a_crash_between_the_writes_of_a_sync_changes_no_value() {
    for refresh in [false, true] {
        let mut world = if refresh { first() } else { world() };
        world.pass(refresh::DEFAULT_INTERVAL);
        let facts = world.facts();
        let made = values(&[("password", "written")]).map(|g| plan::Gathered { read_at: Some(world.now), ..g });
        let made = made.unwrap();
        let desired = match plan::after_fetch(&facts, &world.rules, Ok(&made), &digester()) {
            Decision::Create(desired) | Decision::ReadTarget(desired) => desired,
            other => panic!("{other:?}"),
        };
        let announced = plan::pending(&facts, &desired, None, world.now, &digester());
        // the Secret is written, the report of that is lost
        let before = world.es.status.clone();
        world.look(Ok(made));
        world.es.status = announced;
        world.memory = plan::Memory::default();
        world.pass(Duration::from_secs(5));
        let step = world.look(values(&[("password", "second")]));
        assert_eq!(step.did, ["inspect", "retire"], "refresh: {refresh}");
        assert_eq!(step.told(), ("True", "SecretSynced", "secret synced"));
        assert_eq!(password(&world), "written");
        let status = world.es.status.clone().unwrap();
        assert_eq!(status.target.and_then(|t| t.pending), None);
        assert_ne!(status.refresh_time, before.and_then(|s| s.refresh_time));
        assert!(look(&mut world).is_empty(), "and it is not due");
    }
}

/// The status could not be written, and the watch has not brought the Secret yet.
#[test]
fn a_lagging_watch_changes_no_value() {
    let mut world = world();
    let facts = world.facts();
    let made = values(&[("password", "written")]).map(|g| plan::Gathered { read_at: Some(world.now), ..g }).unwrap();
    let Decision::Create(desired) = plan::after_fetch(&facts, &world.rules, Ok(&made), &digester()) else {
        panic!("not new")
    };
    let announced = plan::pending(&facts, &desired, None, world.now, &digester());
    world.look(Ok(made));
    world.es.status = announced;
    let lagging = plan::Facts { target: None, ..world.facts() };
    assert!(matches!(plan::before_fetch(&lagging, &world.rules), Next::Inspect));
    let next =
        plan::after_inspection(&lagging, &world.rules, Some(plan::seen(&world.facts().es, world.target(), &digester())));
    let Next::Written(report) = next else { panic!("{next:?}") };
    assert_eq!(report.status.unwrap().conditions[0].status, "True");
    let gone = plan::after_inspection(&lagging, &world.rules, None);
    assert!(matches!(gone, Next::Fetch(_)), "it was deleted meanwhile");
}

/// The API server gave no answer to the write: the failure keeps the announcement, and the next look finds the value, or makes another.
#[test]
fn a_write_in_doubt_is_found_out_at_the_next_look() {
    for arrived in [true, false] {
        let mut world = first();
        world.pass(refresh::DEFAULT_INTERVAL);
        let (facts, made, desired) = due_anew(&world);
        let said = plan::pending(&facts, &desired, None, world.now, &digester()).unwrap().target.unwrap().pending.unwrap();
        if arrived {
            world.look(Ok(made));
        }
        let late = plan::Failure::retry("could not update secret", "the API server did not answer".into());
        let report = plan::in_doubt(&facts, plan::failed(&facts, &late), said);
        world.es.status = report.status;
        world.memory = report.memory;
        world.pass(Duration::from_secs(2));
        let did: &[&str] = if arrived { &["inspect", "retire"] } else { &["inspect", "fetch", "read", "update"] };
        assert_eq!(look(&mut world), did);
        assert_eq!(password(&world), if arrived { "written" } else { "second" });
        assert!(look(&mut world).is_empty(), "and it is known from now on");
    }
}

/// Else a look that finds the values there would say that the labels, which may have been refused, are there, too.
#[test]
fn what_the_secret_holds_already_is_not_announced() {
    let mut world = first();
    world.es.metadata.labels = Some([("team".to_owned(), "a".to_owned())].into());
    let facts = world.facts();
    let held = plan::seen(&facts.es, world.target(), &digester()).own;
    for (value, is_announced) in [("first", false), ("second", true)] {
        let made = values(&[("password", value)]).unwrap();
        let Decision::ReadTarget(desired) = plan::after_fetch(&facts, &world.rules, Ok(&made), &digester()) else {
            panic!("{value}: not edited")
        };
        let announced = |held| plan::pending(&facts, &desired, held, world.now, &digester()).is_some();
        assert_eq!((announced(held.as_deref()), announced(None)), (is_announced, true), "{value}");
    }
}

/// The second time the failure is no news, and the status is written all the same.
#[test]
fn a_refused_write_takes_its_announcement_back() {
    let mut world = first();
    world.pass(refresh::DEFAULT_INTERVAL);
    let failure = plan::Failure::retry("could not update secret", "refused".into());
    for is_news in [true, false] {
        let facts = world.facts();
        let failed = plan::failed(&facts, &failure);
        assert_eq!(failed.status.is_some(), is_news);
        let report = plan::refused(&facts, failed);
        let status = report.status.unwrap();
        assert_eq!((status.conditions[0].status.as_str(), &status.target.as_ref().unwrap().pending), ("False", &None));
        (world.es.status, world.memory) = (Some(status), report.memory);
    }
}

/// A finalizer holds the Secret, and others may use it until it is gone.
#[test]
fn what_a_secret_in_deletion_holds_is_known_as_ever() {
    let mut world = first();
    world.es.status.as_mut().unwrap().target = None;
    world.delete_held();
    assert_eq!(look(&mut world), ["inspect"], "what is recorded of it is lost, and that alone makes no new value");
    assert_eq!(password(&world), "first");

    let mut world = first();
    world.pass(refresh::DEFAULT_INTERVAL);
    let (facts, made, desired) = due_anew(&world);
    let announced = plan::pending(&facts, &desired, None, world.now, &digester());
    world.look(Ok(made));
    world.es.status = announced;
    world.delete_held();
    assert_eq!(look(&mut world), ["inspect", "retire"], "it was written before the process ended");
    assert_eq!(password(&world), "written");
    world.secrets.clear();
    assert_eq!(look(&mut world), ["fetch", "create"]);
}

/// The process ended before the Secret was written, or the object was changed since: the announcement means nothing.
#[test]
fn an_announcement_that_does_not_fit_means_nothing() {
    let pending = |revision: &str, world: &World| PendingStatus {
        synced_resource_version: revision.to_owned(),
        refresh_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now),
        digest: "none".into(),
    };
    let mut world = first();
    let current = plan::synced_resource_version(&world.es);
    let announce = |world: &mut World, revision: &str| {
        let pending = pending(revision, world);
        world.es.status.as_mut().unwrap().target.as_mut().unwrap().pending = Some(pending);
    };
    announce(&mut world, &current);
    assert_eq!(look(&mut world), ["inspect"], "the value is not the announced one, and not due either");
    assert_eq!(password(&world), "first");
    world.pass(refresh::DEFAULT_INTERVAL);
    announce(&mut world, &current);
    assert_eq!(look(&mut world), ["inspect", "fetch", "read", "update"], "due as ever");
    announce(&mut world, "of another spec");
    assert!(look(&mut world).is_empty());
}
