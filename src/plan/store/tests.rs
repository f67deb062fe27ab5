//! The plan of a store, as tables.
#![allow(clippy::unwrap_used, clippy::panic)]

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::api::secret_store::Capabilities;
use crate::api::{ClusterSecretStore, SecretStore};

fn store(spec: &Value) -> AnyStore {
    let store: SecretStore = serde_json::from_value(json!({
        "metadata": { "name": "s", "namespace": "ns", "uid": "uid", "generation": 3 }, "spec": spec,
    }))
    .unwrap();
    store.into()
}

fn fake(more: &Value) -> AnyStore {
    let mut spec = json!({ "provider": { "fake": { "data": [] } } });
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    store(&spec)
}

fn invalid(kind: ErrorKind) -> Outcome {
    Outcome::from(Err(Invalid::Connect(ProviderError::new(kind, "no such role"))))
}

fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

fn report(store: &AnyStore, outcome: &Outcome) -> Report {
    settle(store, 7, outcome, 0, &Rules::default(), now())
}

fn told(report: &Report) -> (String, String, String) {
    let c = &report.status.as_ref().unwrap().conditions[0];
    (c.status.clone(), c.reason.clone().unwrap(), c.message.clone().unwrap())
}

#[test]
fn what_needs_no_login() {
    let rules = Rules::default();
    assert_eq!(before_check(&fake(&json!({})), false, &rules), Next::Check);
    assert_eq!(before_check(&fake(&json!({ "controller": "" })), false, &rules), Next::Check);
    assert_eq!(before_check(&fake(&json!({ "controller": "default" })), false, &rules), Next::Check);
    assert_eq!(before_check(&fake(&json!({ "controller": "other" })), false, &rules), Next::Ignore);
    assert_eq!(before_check(&fake(&json!({})), true, &rules), Next::Known(Outcome::Valid), "referent");
    let cause = |store: &AnyStore| match before_check(store, false, &rules) {
        Next::Known(Outcome::Invalid { reason, message, cause, .. }) => format!("{reason}: {message}: {cause}"),
        next => panic!("{next:?}"),
    };
    assert_eq!(
        cause(&store(&json!({ "provider": { "device42": { "server": "x" } } }))),
        format!(
            "UnsupportedProvider: unable to create client: spec.provider.device42 is not served by this version of keyferry; \
             served are: {}",
            ProviderSpec::SERVED.join(", ")
        )
    );
    assert!(cause(&store(&json!({}))).starts_with("InvalidProviderConfig: unable to create client: store error for s: "));
    let negative = cause(&fake(&json!({ "refreshInterval": -1 })));
    assert!(negative.starts_with("InvalidProviderConfig: unable to validate store: spec.refreshInterval: "), "{negative}");
    assert!(cause(&fake(&json!({ "refreshInterval": "soon" }))).contains("spec.refreshInterval: "));
    assert!(cause(&fake(&json!({ "conditions": [{ "namespaceRegexes": ["("] }] }))).contains("namespaceRegexes[0]"));
}

#[test]
fn conditions_events_and_health() {
    let unknown = Outcome::Unknown("unable to validate".into());
    let denied = Outcome::from(Err(Invalid::Validate(ProviderError::new(ErrorKind::Denied, "no such role"))));
    for (outcome, condition, warning, ready) in [
        (Outcome::Valid, ("True", "Valid", "store validated"), false, true),
        (unknown, ("True", "ValidationUnknown", "could not determine validation status: unable to validate"), true, true),
        (
            invalid(ErrorKind::Denied),
            ("False", "InvalidProviderConfig", "unable to create client: no such role"),
            true,
            false,
        ),
        (denied, ("False", "InvalidProviderConfig", "unable to validate store: no such role"), true, false),
    ] {
        let report = report(&fake(&json!({})), &outcome);
        let (status, reason, message) = told(&report);
        assert_eq!((status.as_str(), reason.as_str(), message.as_str()), condition);
        assert_eq!((report.notes.len(), report.notes[0].reason, report.notes[0].warning), (1, condition.1, warning));
        let health = &report.health;
        assert_eq!((health.uid.as_str(), health.generation, health.credentials), ("uid", 3, 7));
        assert_eq!((health.ready, health.cause.as_str()), (ready, if ready { "" } else { "no such role" }));
        let capabilities = report.status.unwrap().capabilities;
        assert_eq!(capabilities, (condition.1 == "Valid").then_some(Capabilities::ReadWrite), "as ESO: with Valid only");
    }
}

#[test]
fn the_same_again_is_neither_written_nor_told() {
    for outcome in [Outcome::Valid, Outcome::Unknown("x".into()), invalid(ErrorKind::Denied)] {
        let mut store = fake(&json!({}));
        store.status = report(&store, &outcome).status;
        let later = now() + SignedDuration::from_secs(300);
        let again = settle(&store, 7, &outcome, 0, &Rules::default(), later);
        assert!(again.status.is_none() && again.notes.is_empty(), "{outcome:?}");
    }
    let mut store = fake(&json!({}));
    store.status = report(&store, &Outcome::Valid).status;
    let broken = report(&store, &invalid(ErrorKind::Denied));
    assert_eq!(broken.notes.len(), 1);
    assert_eq!(broken.status.unwrap().capabilities, Some(Capabilities::ReadWrite), "what it could do stays known");
}

#[test]
fn how_often_a_store_is_checked() {
    let controllers = Rules::default().store_interval;
    for (interval, expected) in [
        (json!(null), controllers),
        (json!(0), controllers),
        (json!("0"), controllers),
        (json!(""), controllers),
        (json!(60), Duration::from_secs(60)),
        (json!("2m"), Duration::from_secs(120)),
    ] {
        let report = report(&fake(&json!({ "refreshInterval": interval })), &Outcome::Valid);
        let Wake::After(wake, Priority::Periodic) = report.wake else { panic!("{:?}", report.wake) };
        assert!(wake <= expected && wake >= expected.mul_f64(0.9), "{interval}: {wake:?}");
    }
}

#[test]
fn a_failed_check_is_repeated_with_growing_pauses() {
    let wake =
        |failures, outcome: &Outcome| match settle(&fake(&json!({})), 0, outcome, failures, &Rules::default(), now()).wake {
            Wake::After(time, _) => time,
            Wake::OnChange => panic!("it would never be checked again"),
        };
    let outage = invalid(ErrorKind::Unavailable);
    assert!(wake(0, &outage) < Duration::from_secs(2) && wake(3, &outage) >= Duration::from_secs(8));
    assert!(wake(50, &outage) <= Duration::from_secs(360));
    let asked = ProviderError::new(ErrorKind::Throttled, "x").after(Duration::from_secs(77));
    assert!(wake(0, &Outcome::from(Err(Invalid::Validate(asked)))) >= Duration::from_secs(77));
}

#[test]
fn whose_word_counts() {
    let cluster: ClusterSecretStore = serde_json::from_value(json!({ "metadata": { "name": "c" } })).unwrap();
    let cluster = AnyStore::from(cluster);
    let rules = Rules { cluster_stores: false, ..Rules::default() };
    assert!(!serves(cluster.kind, &rules) && serves(StoreKind::SecretStore, &rules));
    assert!(!serves(StoreKind::SecretStore, &Rules { secret_stores: false, ..Rules::default() }));
    let mut store = fake(&json!({}));
    assert!(!health_by_status(&store).ready);
    store.status = report(&store, &Outcome::Valid).status;
    assert!(health_by_status(&store).ready);
    store.status = report(&store, &invalid(ErrorKind::Denied)).status;
    let health = health_by_status(&store);
    assert_eq!((health.ready, health.cause.as_str()), (false, "unable to create client: no such role"));
}
