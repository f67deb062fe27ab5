#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::api::StoreKind;

fn store() -> StoreLabels {
    StoreLabels { kind: StoreKind::SecretStore, namespace: "a".into(), name: "aws".into() }
}

fn call(error: Option<ErrorKind>, store: &StoreLabels) -> ProviderCall<'_> {
    let (call, took) = ("GetSecretValue", Duration::from_millis(20));
    ProviderCall { store: Some(store), provider: "AWS/SecretsManager", call, requests: &[], error, took }
}

/// A scrape's lines that start so.
fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
    let mut lines: Vec<_> = metrics.encode().unwrap().lines().filter(|l| l.starts_with(start)).map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_call_that_fell_apart_is_counted_as_the_requests_it_became() {
    let metrics = Metrics::default();
    let request = |name: &'static str, failed| ProviderRequest { name: name.into(), failed, id: None };
    let requests =
        [request("BatchGetSecretValue", true), request("GetSecretValue", false), request("GetSecretValue", false)];
    metrics.provider_call(ProviderCall { requests: &requests, ..call(None, &store()) });
    assert_eq!(
        lines(&metrics, "externalsecret_provider_api_calls_count"),
        [
            r#"externalsecret_provider_api_calls_count{provider="AWS/SecretsManager",call="BatchGetSecretValue",status="error"} 1"#,
            r#"externalsecret_provider_api_calls_count{provider="AWS/SecretsManager",call="GetSecretValue",status="success"} 2"#,
        ]
    );
}

#[test]
fn a_login_without_a_request_is_no_request() {
    let metrics = Metrics::default();
    let noted = [ProviderRequest { name: "GetCallerIdentity".into(), failed: false, id: None }];
    for name in ["Connect", "Validate"] {
        metrics.provider_call(ProviderCall { call: name, ..call(None, &store()) });
    }
    metrics.provider_call(ProviderCall { call: "Validate", requests: &noted, ..call(None, &store()) });
    assert_eq!(
        lines(&metrics, "externalsecret_provider_api_calls_count"),
        [
            r#"externalsecret_provider_api_calls_count{provider="AWS/SecretsManager",call="GetCallerIdentity",status="success"} 1"#
        ]
    );
    let timed = lines(&metrics, "keyferry_provider_call_duration_seconds_count").concat();
    assert!(timed.ends_with(" 3"), "{timed}: they took their time all the same");
}

#[test]
fn names_and_labels_are_esos() {
    let metrics = Metrics::default();
    metrics.synced("a", "one", false);
    metrics.synced("a", "one", true);
    metrics.condition(ObjectKind::ExternalSecret, "a", "one", Ready::False);
    metrics.condition(ObjectKind::SecretStore, "a", "aws", Ready::True);
    metrics.condition(ObjectKind::ClusterSecretStore, "", "shared", Ready::Unknown);
    metrics.provider_call(call(None, &store()));
    metrics.provider_call(call(Some(ErrorKind::Denied), &store()));
    assert_eq!(
        lines(&metrics, "externalsecret_"),
        [
            r#"externalsecret_provider_api_calls_count{provider="AWS/SecretsManager",call="GetSecretValue",status="error"} 1"#,
            r#"externalsecret_provider_api_calls_count{provider="AWS/SecretsManager",call="GetSecretValue",status="success"} 1"#,
            r#"externalsecret_status_condition{name="one",namespace="a",condition="Ready",status="False"} 1"#,
            r#"externalsecret_status_condition{name="one",namespace="a",condition="Ready",status="True"} 0"#,
            r#"externalsecret_sync_calls_error{namespace="a",name="one"} 1"#,
            r#"externalsecret_sync_calls_total{namespace="a",name="one"} 2"#,
        ]
    );
    assert_eq!(
        lines(&metrics, "secretstore_"),
        [
            r#"secretstore_status_condition{name="aws",namespace="a",condition="Ready",status="False"} 0"#,
            r#"secretstore_status_condition{name="aws",namespace="a",condition="Ready",status="True"} 1"#,
        ]
    );
    assert_eq!(
        lines(&metrics, r#"clustersecretstore_status_condition{name="shared",namespace="""#),
        [
            r#"clustersecretstore_status_condition{name="shared",namespace="",condition="Ready",status="False"} 0"#,
            r#"clustersecretstore_status_condition{name="shared",namespace="",condition="Ready",status="True"} 0"#,
            r#"clustersecretstore_status_condition{name="shared",namespace="",condition="Ready",status="Unknown"} 1"#,
        ]
    );
}

/// What ESO's own dashboard asks for, and what alerts made for controller-runtime do.
#[test]
fn controllers_and_queues_are_told_as_controller_runtime_does() {
    let metrics = Metrics::default();
    metrics.most_at_once(ObjectKind::PushSecret, 8);
    metrics.queue_lengths(|| vec![(ObjectKind::ExternalSecret, 2), (ObjectKind::PushSecret, 0)]);
    let busy = metrics.queue_left(ObjectKind::ExternalSecret, "new", Duration::from_millis(3));
    drop(metrics.queue_left(ObjectKind::ExternalSecret, "new", Duration::ZERO));
    let took = Duration::from_millis(20);
    metrics.reconciled(ObjectKind::ExternalSecret, took, Turn::RequeueAfter);
    metrics.reconciled(ObjectKind::ExternalSecret, took, Turn::Error);
    metrics.reconciled(ObjectKind::ClusterSecretStore, took, Turn::Success);
    let told = |start: &str| lines(&metrics, start);
    assert_eq!(
        told("controller_runtime_reconcile_total"),
        [
            r#"controller_runtime_reconcile_total{controller="clustersecretstore",result="success"} 1"#,
            r#"controller_runtime_reconcile_total{controller="externalsecret",result="error"} 1"#,
            r#"controller_runtime_reconcile_total{controller="externalsecret",result="requeue_after"} 1"#,
        ]
    );
    assert_eq!(
        told("controller_runtime_reconcile_errors_total"),
        [
            r#"controller_runtime_reconcile_errors_total{controller="clustersecretstore"} 0"#,
            r#"controller_runtime_reconcile_errors_total{controller="externalsecret"} 1"#,
        ]
    );
    assert_eq!(
        told(r#"controller_runtime_reconcile_time_seconds_bucket{le="0.025",controller="externalsecret""#),
        [r#"controller_runtime_reconcile_time_seconds_bucket{le="0.025",controller="externalsecret"} 2"#]
    );
    assert_eq!(
        told("controller_runtime_active_workers"),
        [
            r#"controller_runtime_active_workers{controller="externalsecret"} 1"#,
            r#"controller_runtime_active_workers{controller="pushsecret"} 0"#,
        ]
    );
    drop(busy);
    assert_eq!(
        told(r#"controller_runtime_active_workers{controller="externalsecret"#),
        [r#"controller_runtime_active_workers{controller="externalsecret"} 0"#]
    );
    assert_eq!(
        told("controller_runtime_max_concurrent_reconciles"),
        [r#"controller_runtime_max_concurrent_reconciles{controller="pushsecret"} 8"#]
    );
    assert_eq!(
        told("workqueue_adds_total"),
        [
            r#"workqueue_adds_total{name="externalsecret",controller="externalsecret"} 4"#,
            r#"workqueue_adds_total{name="pushsecret",controller="pushsecret"} 0"#,
        ]
    );
    assert_eq!(
        told("workqueue_depth"),
        [
            r#"workqueue_depth{name="externalsecret",controller="externalsecret"} 2"#,
            r#"workqueue_depth{name="pushsecret",controller="pushsecret"} 0"#,
        ]
    );
    assert_eq!(
        told(r#"workqueue_queue_duration_seconds_count"#),
        [r#"workqueue_queue_duration_seconds_count{name="externalsecret",controller="externalsecret"} 2"#]
    );
}

#[test]
fn calls_of_generators_count_as_calls_to_providers() {
    let metrics = Metrics::default();
    metrics.generator_call("GithubAccessToken", "Generate", false);
    metrics.generator_call("Grafana", "Cleanup", true);
    assert_eq!(
        lines(&metrics, "externalsecret_provider_api_calls_count"),
        [
            r#"externalsecret_provider_api_calls_count{provider="GithubAccessToken",call="Generate",status="success"} 1"#,
            r#"externalsecret_provider_api_calls_count{provider="Grafana",call="Cleanup",status="error"} 1"#,
        ]
    );
}

#[test]
fn series_of_deleted_objects_go() {
    let metrics = Metrics::default();
    metrics.synced("a", "one", true);
    metrics.condition(ObjectKind::ExternalSecret, "a", "one", Ready::True);
    metrics.condition(ObjectKind::SecretStore, "a", "aws", Ready::True);
    metrics.provider_call(call(None, &store()));
    let text = metrics.encode().unwrap();
    assert!(text.contains(r#"name="one""#) && text.contains(r#"store="aws""#) && text.contains(r#"name="aws""#));
    metrics.deleted(ObjectKind::ExternalSecret, "a", "one");
    metrics.deleted(ObjectKind::SecretStore, "a", "aws");
    let text = metrics.encode().unwrap();
    assert!(!text.contains(r#"name="one""#) && !text.contains("aws\""), "{text}");
}

#[test]
fn durations_are_histograms_in_seconds() {
    let metrics = Metrics::default();
    metrics.provider_call(call(Some(ErrorKind::Throttled), &store()));
    metrics.reconciled(ObjectKind::SecretStore, Duration::from_millis(3), Turn::Success);
    metrics.queue_depth("externalsecrets", (1, 7));
    drop(metrics.queue_left(ObjectKind::ExternalSecret, "new", Duration::from_secs(40)));
    let labels =
        r#"store_kind="SecretStore",store_namespace="a",store="aws",provider="AWS/SecretsManager",outcome="throttled""#;
    let name = "keyferry_provider_call_duration_seconds";
    assert_eq!(lines(&metrics, &format!("{name}_sum")), [format!("{name}_sum{{{labels}}} 0.02")]);
    let buckets = lines(&metrics, &format!("{name}_bucket"));
    assert!(buckets.contains(&format!(r#"{name}_bucket{{le="0.025",{labels}}} 1"#)), "{buckets:?}");
    assert!(buckets.contains(&format!(r#"{name}_bucket{{le="0.01",{labels}}} 0"#)), "{buckets:?}");
    assert_eq!(
        lines(&metrics, "keyferry_reconcile_duration_seconds_sum"),
        [r#"keyferry_reconcile_duration_seconds_sum{kind="SecretStore"} 0.003"#]
    );
    let depth =
        |state| lines(&metrics, &format!(r#"keyferry_queue_depth{{queue="externalsecrets",state="{state}"}}"#)).concat();
    assert!(depth("ready").ends_with(" 1") && depth("delayed").ends_with(" 7"));
    assert_eq!(
        lines(&metrics, "keyferry_queue_wait_seconds_sum"),
        [r#"keyferry_queue_wait_seconds_sum{priority="new"} 40.0"#]
    );
}

#[test]
fn the_rest_is_there_under_its_name() {
    let metrics = Metrics::default();
    for result in [CacheResult::Hit, CacheResult::Miss, CacheResult::Coalesced, CacheResult::Hit] {
        metrics.cache_request(result);
    }
    metrics.api_request("patch", "externalsecrets/status", "success");
    metrics.leader(true);
    assert_eq!(lines(&metrics, "keyferry_oldest"), Vec::<String>::new());
    metrics.value_ages(|| vec![(store(), Duration::from_millis(1500))]);
    for line in [
        r#"keyferry_cache_requests_total{result="hit"} 2"#,
        r#"keyferry_cache_requests_total{result="miss"} 1"#,
        r#"keyferry_cache_requests_total{result="coalesced"} 1"#,
        r#"keyferry_api_requests_total{verb="patch",resource="externalsecrets/status",outcome="success"} 1"#,
        "keyferry_leader 1",
        r#"keyferry_oldest_value_age_seconds{store_kind="SecretStore",store_namespace="a",store="aws"} 1.5"#,
        concat!(r#"keyferry_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
    ] {
        assert_eq!(lines(&metrics, line), [line]);
    }
    for name in
        ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds"]
    {
        assert_eq!(lines(&metrics, name).len(), 1, "{name}");
    }
}

/// OpenMetrics' rules that a scraper refuses a page over: each family once, each sample under its family, counters in `_total`.
#[test]
fn a_scraper_takes_the_page() {
    let metrics = Metrics::default();
    for i in 0..3 {
        metrics.synced("a", &format!("es-{i}"), i == 1);
        metrics.condition(ObjectKind::ExternalSecret, "a", &format!("es-{i}"), Ready::True);
    }
    metrics.condition(ObjectKind::SecretStore, "a", "odd\"name\\", Ready::True);
    metrics.provider_call(call(None, &store()));
    metrics.value_ages(|| vec![(store(), Duration::from_secs(1))]);
    let text = metrics.encode().unwrap();
    assert!(text.contains(r#"name="odd\"name\\""#), "{text}");

    let mut families = std::collections::BTreeSet::new();
    let mut current = ("", "");
    let (body, end) = text.split_at(text.len() - "# EOF\n".len());
    assert_eq!(end, "# EOF\n");
    for line in body.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            current = head.split_once(' ').unwrap();
            assert!(families.insert(current.0), "{line}: twice");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let name = &line[..line.find(['{', ' ']).unwrap()];
        let suffix = name.strip_prefix(current.0).unwrap_or_else(|| panic!("{line}: not in {current:?}"));
        let allowed: &[&str] = match current.1 {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        assert!(allowed.contains(&suffix), "{line}: {current:?}");
    }
    assert!(families.len() >= 15, "{families:?}");
}

/// The records behind 10,000 objects: what is promised is a kilobyte an object at most. Counts what the map and its keys hold.
#[test]
fn an_object_costs_little() {
    let metrics = Metrics::default();
    for i in 0..10_000 {
        let (namespace, name) = (format!("namespace-{}", i % 100), format!("external-secret-of-usual-length-{i}"));
        metrics.synced(&namespace, &name, false);
        metrics.condition(ObjectKind::ExternalSecret, &namespace, &name, Ready::True);
    }
    let bytes = metrics.of(ObjectKind::ExternalSecret).memory();
    assert!(bytes < 10_000 * 256, "{bytes}");
}
